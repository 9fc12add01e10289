use std::net::SocketAddr;
use std::sync::atomic::Ordering;

use catamaran_model::ServiceName;
use catamaran_wire::cluster::{Cluster, ClusterDiscoveryType, DiscoveryType, LbPolicy};
use catamaran_wire::endpoint::{
    ClusterLoadAssignment, Endpoint, HostIdentifier, LbEndpoint, LocalityLbEndpoints,
};
use catamaran_wire::names::NameInfo;
use catamaran_xds::Resource;
use rustls::time_provider::DefaultTimeProvider;
use tempfile::TempDir;
use tokio::task::JoinHandle;

use super::*;
use crate::certificate::Keeper;
use crate::config::tests::sidecar;
use crate::stand_in::{StandIn, root};

const HELLO: &str = "outbound|5000||helloworld.default.svc.cluster.local";
const SOON: Duration = Duration::from_secs(20);

fn cluster(policy: i32) -> Arc<Resource> {
    let message = Cluster {
        name: HELLO.into(),
        cluster_discovery_type: Some(ClusterDiscoveryType::Type(DiscoveryType::Eds.into())),
        lb_policy: policy,
        ..Cluster::default()
    };
    Arc::new(Resource::new(TypeUrlKind::Cluster, HELLO, &message))
}

fn endpoints(addresses: &[&str]) -> Arc<Resource> {
    let endpoint = |address: &&str| LbEndpoint {
        host_identifier: Some(HostIdentifier::Endpoint(Endpoint {
            address: Some(address.parse::<SocketAddr>().unwrap().into()),
            ..Endpoint::default()
        })),
        ..LbEndpoint::default()
    };
    let message = ClusterLoadAssignment {
        cluster_name: HELLO.into(),
        endpoints: vec![LocalityLbEndpoints {
            lb_endpoints: addresses.iter().map(endpoint).collect(),
            ..LocalityLbEndpoints::default()
        }],
        ..ClusterLoadAssignment::default()
    };
    Arc::new(Resource::new(TypeUrlKind::Endpoints, HELLO, &message))
}

fn name_table(ip: &str) -> Arc<Resource> {
    let host = ServiceName::new("helloworld").unwrap();
    let info = NameInfo {
        ips: vec![ip.into()],
        ..NameInfo::default()
    };
    let table = [(format!("{host}.default.svc.cluster.local"), info)].into();
    Arc::new(Resource::new(
        TypeUrlKind::Names,
        "names",
        &NameTable { table },
    ))
}

fn set(resources: &[Arc<Resource>]) -> Arc<ResourceSet> {
    Arc::new(resources.iter().cloned().collect())
}

/// A proxy without its data path.
struct Proxy {
    followers: Followers,
    tasks: Vec<JoinHandle<()>>,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

impl Proxy {
    async fn start(config: &Config) -> Proxy {
        let mut keeper = Keeper::start(config, Arc::new(DefaultTimeProvider)).unwrap();
        if keeper.credentials().holding().is_none() {
            keeper.renew().await.unwrap();
        }
        let uplink = Uplink::new(keeper.credentials(), config.control_plane_identity());
        let (control, followers, saver) = Control::start(config, uplink);
        Proxy {
            followers,
            tasks: vec![tokio::spawn(saver.save()), tokio::spawn(control.hear())],
        }
    }

    /// Waits until the status is as wanted.
    async fn until(&mut self, wanted: impl Fn(&ControlStatus) -> bool) -> ControlStatus {
        let mut status = self.followers.status.clone();
        let waited = tokio::time::timeout(SOON, status.wait_for(|status| wanted(status)));
        match waited.await {
            Ok(status) => status.unwrap().clone(),
            Err(_) => panic!(
                "it never came: {:?}",
                self.followers.status.borrow().clone()
            ),
        }
    }

    fn endpoints(&self) -> Vec<String> {
        let table = self.followers.tables.borrow();
        let cluster = table.cluster(HELLO);
        let endpoints = cluster.iter().flat_map(|cluster| cluster.endpoints());
        endpoints
            .map(|endpoint| endpoint.address.to_string())
            .collect()
    }
}

fn pod(stand_in: &StandIn, roots: &str, control_planes: Vec<SocketAddr>) -> (Config, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let config = sidecar(folder.path(), control_planes);
    std::fs::write(&config.root_cert, roots).unwrap();
    let token = stand_in.token(config.identity());
    std::fs::write(config.join_token.as_ref().unwrap(), token).unwrap();
    (config, folder)
}

async fn until_saved(config: &Config, wanted: &ResourceSet) {
    let saved = || {
        let content = saved::read(&config.saved(FILE), &config.node().id).ok()??;
        saved::decode(content).ok()
    };
    let started = Instant::now();
    while saved().as_ref() != Some(wanted) {
        assert!(started.elapsed() < SOON, "it was never saved");
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn what_a_control_plane_says_becomes_a_table_and_names() {
    let root = root();
    let stand_in = StandIn::new(&root);
    stand_in.set.send_replace(set(&[
        cluster(0),
        endpoints(&["10.0.0.1:5000"]),
        name_table("10.96.0.1"),
    ]));
    let listening = stand_in.listen().await;
    let (config, _folder) = pod(&stand_in, &root.cert_pem(), vec![listening.address]);
    let mut proxy = Proxy::start(&config).await;
    let status = proxy.until(|status| status.ready).await;
    assert_eq!(status.control_plane, "stand-in");
    assert_eq!(status.connected, Some(listening.address.into()));
    assert_eq!(proxy.endpoints(), ["10.0.0.1:5000"]);
    assert_eq!(proxy.followers.names.borrow().len(), 1);

    stand_in
        .set
        .send_replace(set(&[cluster(0), endpoints(&["10.0.0.2:5000"])]));
    proxy
        .until(|status| status.held.get(TypeUrlKind::Names, "names").is_none())
        .await;
    assert_eq!(proxy.endpoints(), ["10.0.0.2:5000"]);
    assert_eq!(proxy.followers.names.borrow().len(), 0);
}

#[tokio::test]
async fn a_restarted_proxy_serves_without_a_control_plane_and_is_sent_nothing_again() {
    let root = root();
    let stand_in = StandIn::new(&root);
    let told = set(&[
        cluster(0),
        endpoints(&["10.0.0.1:5000"]),
        name_table("10.96.0.1"),
    ]);
    stand_in.set.send_replace(told.clone());
    let listening = stand_in.listen().await;
    let address = listening.address;
    let (config, _folder) = pod(&stand_in, &root.cert_pem(), vec![address]);
    let mut proxy = Proxy::start(&config).await;
    proxy.until(|status| status.ready).await;
    until_saved(&config, &told).await;
    drop(proxy);
    drop(listening);

    let mut proxy = Proxy::start(&config).await;
    let status = proxy.until(|status| status.failure.is_some()).await;
    assert!(status.ready, "although nobody is there");
    assert_eq!(proxy.endpoints(), ["10.0.0.1:5000"]);
    assert_eq!(proxy.followers.names.borrow().len(), 1);

    let bodies = stand_in.ledger.bodies.load(Ordering::Relaxed);
    let _listening = stand_in.listen_at(address).await;
    proxy.until(|status| status.connected.is_some()).await;
    stand_in.set.send_replace(set(&[
        cluster(0),
        endpoints(&["10.0.0.9:5000"]),
        name_table("10.96.0.1"),
    ]));
    let next = endpoints(&["10.0.0.9:5000"]);
    proxy
        .until(|status| status.held.get(TypeUrlKind::Endpoints, HELLO) == Some(&next))
        .await;
    assert_eq!(
        stand_in.ledger.bodies.load(Ordering::Relaxed),
        bodies + 1,
        "only what changed"
    );
}

#[tokio::test]
async fn what_cannot_be_used_is_refused_by_name_and_leaves_what_was_there() {
    let root = root();
    let stand_in = StandIn::new(&root);
    stand_in
        .set
        .send_replace(set(&[cluster(0), endpoints(&["10.0.0.1:5000"])]));
    let listening = stand_in.listen().await;
    let (config, _folder) = pod(&stand_in, &root.cert_pem(), vec![listening.address]);
    let mut proxy = Proxy::start(&config).await;
    proxy.until(|status| status.ready).await;

    let bad = cluster(LbPolicy::ClusterProvided.into());
    let misnamed = Arc::new(Resource::from_bytes(
        TypeUrlKind::Cluster,
        "other",
        cluster(0).bytes.clone(),
    ));
    stand_in
        .set
        .send_replace(set(&[bad.clone(), misnamed, endpoints(&["10.0.0.2:5000"])]));
    let status = proxy
        .until(|status| status.refused.len() == 2 && status.published >= 2)
        .await;
    let reasons: Vec<(&str, &str)> = status
        .refused
        .iter()
        .map(|refusal| (&*refusal.name, refusal.reason.as_str()))
        .collect();
    assert_eq!(reasons[0].0, "other");
    assert!(reasons[0].1.contains("calls itself"), "{reasons:?}");
    assert_eq!(reasons[1].0, HELLO);
    assert!(reasons[1].1.contains("lb_policy"), "{reasons:?}");
    let next = endpoints(&["10.0.0.2:5000"]);
    proxy
        .until(|status| status.held.get(TypeUrlKind::Endpoints, HELLO) == Some(&next))
        .await;
    assert_eq!(proxy.endpoints(), ["10.0.0.2:5000"], "the rest goes on");
    let mut refusals = stand_in.ledger.refusals.subscribe();
    let known = tokio::time::timeout(SOON, refusals.wait_for(|all| all.len() == 2));
    let known = known
        .await
        .expect("the control plane hears of both")
        .unwrap();
    assert!(known.iter().any(|refusal| refusal.version == bad.version));
}

#[tokio::test]
async fn a_lost_stream_takes_nothing_away_and_the_next_control_plane_is_heard() {
    let root = root();
    let stand_in = StandIn::new(&root);
    stand_in
        .set
        .send_replace(set(&[cluster(0), endpoints(&["10.0.0.1:5000"])]));
    let (first, second) = (stand_in.listen().await, stand_in.listen().await);
    let both = vec![first.address, second.address];
    let (mut config, _folder) = pod(&stand_in, &root.cert_pem(), both);
    // a name is asked for when it is connected to
    let named = format!("localhost:{}", second.address.port());
    let named: ControlPlaneAddress = named.parse().unwrap();
    config.control_planes[1] = named.clone();
    let mut proxy = Proxy::start(&config).await;
    proxy
        .until(|status| status.ready && status.connected == Some(first.address.into()))
        .await;
    drop(first);
    proxy
        .until(|status| status.connected == Some(named.clone()))
        .await;
    assert_eq!(proxy.endpoints(), ["10.0.0.1:5000"]);
    drop(second);
    let status = proxy.until(|status| status.connected.is_none()).await;
    assert!(status.ready && status.failure.is_some());
    assert_eq!(proxy.endpoints(), ["10.0.0.1:5000"]);
}
