//! Strangers and hostile proxies at a control plane's port, beside a healthy proxy that must hear what changes.

use std::time::Duration;

#[allow(dead_code, reason = "the control plane's own tests use more of it")]
#[path = "../../../crates/control-plane/tests/control_plane/client.rs"]
mod client;
#[allow(dead_code, reason = "the control plane's own tests use more of it")]
#[path = "../../../crates/control-plane/tests/control_plane/fleet.rs"]
mod fleet;

mod proxies;
mod strangers;

/// Nothing takes so long unless it does not happen.
const LONG: Duration = Duration::from_secs(60);

async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(LONG, future).await {
        Ok(value) => value,
        Err(_) => panic!("waited {LONG:?} for {what}"),
    }
}

/// A control plane with one service, and a healthy proxy of it that has all it asked for.
struct World {
    fleet: fleet::Fleet,
    cluster: fleet::Cluster,
    plane: fleet::Plane,
    healthy: client::Proxy,
    pods: u8,
}

impl World {
    async fn new() -> World {
        let fleet = fleet::Fleet::new();
        let cluster = fleet.cluster("cluster-1", "mesh-1");
        cluster.service("helloworld", &[1]);
        let plane = cluster.start().await.ready().await;
        let credentials = World::join(&fleet, &cluster, &plane, "default/sleep").await;
        let channel = client::connect(plane.address, &credentials).await.unwrap();
        let node = client::sidecar("default/sleep", "sleep-1");
        let mut healthy = client::Proxy::open(&channel, node).await;
        healthy.ready().await;
        World {
            fleet,
            cluster,
            plane,
            healthy,
            pods: 1,
        }
    }

    async fn join(
        fleet: &fleet::Fleet,
        cluster: &fleet::Cluster,
        plane: &fleet::Plane,
        of: &str,
    ) -> catamaran_identity::Credentials {
        let bundle = fleet
            .root
            .bundle(&catamaran_model::TrustDomain::default())
            .unwrap();
        client::join(plane.address, bundle, of, &cluster.token(of, 600)).await
    }

    /// Credentials of a proxy that is about to misbehave.
    async fn rogue(&self) -> catamaran_identity::Credentials {
        World::join(&self.fleet, &self.cluster, &self.plane, "default/rogue").await
    }

    /// Somebody without a certificate.
    fn anonymous(&self) -> catamaran_identity::Credentials {
        client::credentials(
            self.fleet
                .root
                .bundle(&catamaran_model::TrustDomain::default())
                .unwrap(),
        )
    }

    /// One pod more, of which the healthy proxy must hear.
    async fn the_healthy_one_hears_a_change(&mut self) {
        self.pods += 1;
        let pods: Vec<u8> = (1..=self.pods).collect();
        self.cluster.pods("helloworld", &pods);
        let wanted = usize::from(self.pods);
        self.healthy
            .until("the new pod", |held| {
                client::helloworld(held).len() == wanted
            })
            .await;
    }

    /// And somebody new can still come in.
    async fn somebody_new_can_join(&mut self, account: &str) {
        let of = format!("default/{account}");
        World::join(&self.fleet, &self.cluster, &self.plane, &of).await;
    }
}

/// The most memory that this process ever had, in MiB. Attackers and the healthy proxy live in it too.
fn peak() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmHWM:"))
        .unwrap();
    line.split_whitespace()
        .nth(1)
        .unwrap()
        .parse::<f64>()
        .unwrap()
        / 1024.0
}
