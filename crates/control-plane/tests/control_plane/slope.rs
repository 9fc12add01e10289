//! Work does not grow with what is not touched: not with services that stay as they are, nor with proxies that did not ask.
//!
//! What is counted here is what a change makes the control plane do; what it costs in CPU is measured by
//! `bench-control-plane`, and not asserted.

use catamaran_model::TrustDomain;
use catamaran_wire::discovery::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};
use catamaran_wire::grpc::AggregatedDiscoveryClient;
use catamaran_xds::TypeUrlKind;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use crate::client::{Channel, HELLOWORLD, Proxy, connect, helloworld, join, sidecar};
use crate::fleet::{Fleet, Plane};
use crate::soon;

const OTHER: &str = "outbound|5000||other-0.default.svc.cluster.local";

/// What one more endpoint of helloworld led to.
#[derive(Debug, PartialEq)]
struct Work {
    /// Objects that were asked for their facts again.
    made: u64,
    /// Services that were merged again.
    merged: u64,
    /// Resources that were translated and encoded anew, and came out different.
    translated: u64,
    /// What the one proxy that asked for everything was sent.
    told: Vec<String>,
}

/// A proxy that asks for the endpoints of one service, and for nothing else.
struct Bystander {
    requests: mpsc::Sender<DeltaDiscoveryRequest>,
    responses: Streaming<DeltaDiscoveryResponse>,
}

impl Bystander {
    async fn open(channel: &Channel, name: &str) -> Bystander {
        let (requests, out) = mpsc::channel(8);
        let first = DeltaDiscoveryRequest {
            node: Some(sidecar("default/sleep", "sleep-1")),
            type_url: TypeUrlKind::Endpoints.url().into(),
            resource_names_subscribe: vec![name.into()],
            ..Default::default()
        };
        requests.send(first).await.unwrap();
        let mut client = AggregatedDiscoveryClient::new(channel.clone());
        let stream = client
            .delta_aggregated_resources(ReceiverStream::new(out))
            .await
            .unwrap();
        let mut bystander = Bystander {
            requests,
            responses: stream.into_inner(),
        };
        assert_eq!(bystander.next().await, [name]);
        bystander
    }

    /// Takes the next response and accepts it; gives the names in it.
    async fn next(&mut self) -> Vec<String> {
        let response = soon("a response", self.responses.message()).await;
        let response = response.unwrap().expect("the stream goes on");
        let accepted = DeltaDiscoveryRequest {
            type_url: response.type_url.clone(),
            response_nonce: response.nonce.clone(),
            ..Default::default()
        };
        self.requests.send(accepted).await.unwrap();
        let names = response.resources.iter().map(|one| one.name.clone());
        names.collect()
    }
}

/// What the control plane counts: facts, merges, resources, files.
async fn counts(plane: &Plane) -> [u64; 4] {
    let (_, metrics) = plane.ask("GET", "/metrics").await;
    [
        "catamaran_facts_made_total ",
        "catamaran_services_merged_total ",
        "catamaran_resources_changed_total ",
        "catamaran_files_named_total ",
    ]
    .map(|name| {
        let count = metrics.lines().find_map(|line| line.strip_prefix(name));
        count.expect("it is counted").parse().unwrap()
    })
}

/// In which cluster a pod comes.
#[derive(Clone, Copy, PartialEq)]
enum Where {
    Here,
    Peer,
}

async fn work(services: usize, bystanders: usize, concerned: usize, comes: Where) -> Work {
    let fleet = Fleet::new();
    let cluster = fleet.cluster("cluster-1", "mesh-1");
    let peer = fleet.cluster("cluster-2", "mesh-2");
    cluster.member("cluster-2", None);
    peer.service("helloworld", &[20]);
    cluster.service("helloworld", &[10]);
    cluster.service("sleep", &[1]);
    for n in 0..services {
        cluster.service(&format!("other-{n}"), &[30]);
        peer.service(&format!("other-{n}"), &[40]);
    }
    let plane = cluster.start().await.ready().await;
    let bundle = fleet.root.bundle(&TrustDomain::default()).unwrap();
    let token = cluster.token("default/sleep", 600);
    let credentials = join(plane.address, bundle, "default/sleep", &token).await;
    let channel = connect(plane.address, &credentials).await.unwrap();
    let mut others = Vec::new();
    for _ in 0..bystanders {
        others.push(Bystander::open(&channel, OTHER).await);
    }
    let mut alike = Vec::new();
    for _ in 0..concerned {
        alike.push(Bystander::open(&channel, HELLOWORLD).await);
    }
    let mut proxy = Proxy::open(&channel, sidecar("default/sleep", "sleep-1")).await;
    proxy.ready().await;
    proxy
        .until("the pods of both", |held| helloworld(held).len() == 2)
        .await;
    proxy.received.clear();

    let before = counts(&plane).await;
    match comes {
        Where::Here => cluster.pods("helloworld", &[10, 11]),
        Where::Peer => peer.pods("helloworld", &[20, 21]),
    }
    proxy
        .until("another pod", |held| helloworld(held).len() == 3)
        .await;
    let after = counts(&plane).await;
    let [made, merged, translated, files] = [0, 1, 2, 3].map(|n| after[n] - before[n]);
    // Three are written. Each is looked at when it is named, and once more when it has settled, as are those before.
    assert!(
        files <= 12,
        "{files} files were looked at among {services} services"
    );
    for one in &mut alike {
        assert_eq!(one.next().await, [HELLOWORLD]);
    }
    let work = Work {
        made,
        merged,
        translated,
        told: proxy.received.clone(),
    };
    // Responses of a kind come in order: what a bystander hears next is what concerns it, so it heard nothing of the above.
    cluster.pods("other-0", &[31]);
    for other in &mut others {
        assert_eq!(other.next().await, [OTHER]);
    }
    plane.stop().await;
    work
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_leads_to_the_same_work_among_few_and_many() {
    let alone = work(1, 0, 0, Where::Here).await;
    assert_eq!(alone.told, [format!("endpoints {HELLOWORLD}")]);
    assert_eq!((alone.made, alone.merged), (1, 1));
    assert_eq!(
        alone,
        work(60, 0, 0, Where::Here).await,
        "services that stay as they are cost nothing"
    );
    assert_eq!(
        alone,
        work(1, 20, 0, Where::Here).await,
        "proxies that did not ask cost nothing"
    );
    assert_eq!(
        alone,
        work(60, 0, 0, Where::Peer).await,
        "nor does it cost more in a cluster that is only discovered"
    );
    assert_eq!(
        alone,
        work(1, 0, 10, Where::Here).await,
        "for proxies that hear the same, nothing is encoded again"
    );
}
