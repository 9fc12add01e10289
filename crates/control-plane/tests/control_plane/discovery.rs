//! What proxies are told.

use catamaran_control_plane::{ProxyStatus, State, Status};
use catamaran_model::TrustDomain;
use catamaran_wire::core::Node;
use catamaran_wire::discovery::{DeltaDiscoveryRequest, DiscoveryRequest};
use catamaran_wire::grpc::AggregatedDiscoveryClient;
use catamaran_xds::TypeUrlKind;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Code;

use crate::client::{HELLOWORLD, Proxy, connect, helloworld, join, sidecar};
use crate::fleet::{Cluster, Fleet, Plane};
use crate::soon;

async fn one_cluster() -> (Fleet, Cluster, Plane) {
    let fleet = Fleet::new();
    let cluster = fleet.cluster("cluster-1", "mesh-1");
    cluster.service("helloworld", &[10]);
    cluster.service("sleep", &[1]);
    let plane = cluster.start().await.ready().await;
    (fleet, cluster, plane)
}

/// Joins with a token and opens a stream as the sidecar of `sleep-1`.
async fn sleep(fleet: &Fleet, cluster: &Cluster, plane: &Plane) -> (crate::client::Channel, Proxy) {
    let bundle = fleet.root.bundle(&TrustDomain::default()).unwrap();
    let token = cluster.token("default/sleep", 600);
    let credentials = join(plane.address, bundle, "default/sleep", &token).await;
    let channel = connect(plane.address, &credentials).await.unwrap();
    let proxy = Proxy::open(&channel, sidecar("default/sleep", "sleep-1")).await;
    (channel, proxy)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn from_a_token_to_the_update_of_only_what_changed() {
    let (fleet, cluster, plane) = one_cluster().await;
    let (_channel, mut proxy) = sleep(&fleet, &cluster, &plane).await;
    proxy.ready().await;
    assert_eq!(proxy.helloworld(), ["10.1.1.10"]);
    assert!(
        proxy
            .session
            .held()
            .get(TypeUrlKind::Listener, "virtualInbound")
            .is_some()
    );

    proxy.received.clear();
    cluster.pods("helloworld", &[10, 11]);
    proxy
        .until("the second pod", |held| helloworld(held).len() == 2)
        .await;
    assert_eq!(proxy.received, [format!("endpoints {HELLOWORLD}")]);
    plane.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_comes_back_with_what_it_has_is_sent_nothing_of_it() {
    let (fleet, cluster, plane) = one_cluster().await;
    let (channel, mut proxy) = sleep(&fleet, &cluster, &plane).await;
    proxy.ready().await;
    let held = proxy.session.held().clone();
    drop(proxy);

    let mut again =
        Proxy::resume(&channel, sidecar("default/sleep", "sleep-1"), held.clone()).await;
    cluster.pods("helloworld", &[12]);
    again
        .until("the other pod", |held| helloworld(held) == ["10.1.1.12"])
        .await;
    assert_eq!(again.received, [format!("endpoints {HELLOWORLD}")]);

    // The same holds for a control plane that was started anew.
    plane.stop().await;
    let held = again.session.held().clone();
    let plane = cluster.start().await.ready().await;
    let (_channel, mut fresh) = sleep(&fleet, &cluster, &plane).await;
    fresh.ready().await;
    assert_eq!(fresh.session.held(), &held);
    plane.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_service_is_told_as_clusters_endpoints_and_listeners_of_its_own() {
    let (fleet, cluster, plane) = one_cluster().await;
    let (_channel, mut proxy) = sleep(&fleet, &cluster, &plane).await;
    proxy.ready().await;
    proxy.received.clear();
    cluster.service("news", &[20]);
    let name = "outbound|5000||news.default.svc.cluster.local";
    proxy
        .until("the new service", |held| {
            let routes = held.get(TypeUrlKind::Route, "5000");
            held.get(TypeUrlKind::Endpoints, name).is_some()
                && routes
                    .is_some_and(|routes| routes.bytes.windows(4).any(|bytes| bytes == b"news"))
        })
        .await;
    assert!(
        !proxy.received.iter().any(|one| one.contains(HELLOWORLD)),
        "{:?}",
        proxy.received
    );
    plane.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_resource_is_named_in_the_status_and_the_rest_goes_on() {
    let (fleet, cluster, plane) = one_cluster().await;
    let (_channel, mut proxy) = sleep(&fleet, &cluster, &plane).await;
    proxy.ready().await;
    proxy.refuses = Some(HELLOWORLD.into());
    proxy.received.clear();
    cluster.pods("helloworld", &[10, 11]);
    while !proxy.received.contains(&format!("endpoints {HELLOWORLD}")) {
        proxy.step().await.unwrap();
    }
    assert_eq!(proxy.helloworld(), ["10.1.1.10"]);

    let status = plane
        .until("a refusal", |status| status.proxies.rejected == 1)
        .await;
    let refused = status
        .problems
        .iter()
        .find(|problem| problem.kind == "refused")
        .expect("a problem says it");
    assert!(
        refused.object.contains(HELLOWORLD) && refused.message.contains("not today"),
        "{refused:?}"
    );
    let (_, body) = plane.ask("GET", "/v1/proxies").await;
    let proxies: Vec<ProxyStatus> = serde_json::from_str(&body).unwrap();
    assert_eq!(
        (proxies[0].name.as_str(), proxies[0].state.as_str()),
        ("sleep-1.default", "rejected")
    );
    assert!(proxies[0].rejected[0].contains("not today"), "{proxies:?}");

    // Other content is another version, and is tried.
    proxy.refuses = None;
    cluster.pods("helloworld", &[12]);
    proxy
        .until("the next version", |held| helloworld(held) == ["10.1.1.12"])
        .await;
    let settled = |status: &Status| status.proxies.current == 1 && status.state == State::Running;
    proxy
        .while_waiting(plane.until("no refusal", settled))
        .await;
    plane.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proxy_that_does_not_read_costs_others_nothing() {
    let (fleet, cluster, plane) = one_cluster().await;
    let (channel, _stuck) = sleep(&fleet, &cluster, &plane).await;
    let mut proxy = Proxy::open(&channel, sidecar("default/sleep", "sleep-1")).await;
    proxy.ready().await;
    for last in 20..40 {
        cluster.pods("helloworld", &[last]);
        let address = format!("10.1.1.{last}");
        proxy
            .until("each version or a later one", |held| {
                helloworld(held) == [address.as_str()]
            })
            .await;
    }
    plane.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_state_of_the_world_is_told_to_who_asks_so() {
    let (fleet, cluster, plane) = one_cluster().await;
    let (channel, _other) = sleep(&fleet, &cluster, &plane).await;
    let (requests, out) = mpsc::channel(8);
    let ask =
        |node: Option<Node>, kind: TypeUrlKind, names: &[&str], version: &str, nonce: &str| {
            DiscoveryRequest {
                node,
                type_url: kind.url().into(),
                resource_names: names.iter().map(|name| (*name).to_owned()).collect(),
                version_info: version.into(),
                response_nonce: nonce.into(),
                ..Default::default()
            }
        };
    let node = Node {
        user_agent_name: "envoy".into(),
        ..sidecar("default/sleep", "sleep-1")
    };
    requests
        .send(ask(Some(node), TypeUrlKind::Cluster, &[], "", ""))
        .await
        .unwrap();
    let mut client = AggregatedDiscoveryClient::new(channel);
    let stream = client
        .stream_aggregated_resources(ReceiverStream::new(out))
        .await
        .unwrap();
    let mut responses = stream.into_inner();
    let clusters = soon("clusters", responses.message())
        .await
        .unwrap()
        .unwrap();
    assert!(
        clusters.resources.len() >= 3,
        "{}",
        clusters.resources.len()
    );
    requests
        .send(ask(
            None,
            TypeUrlKind::Cluster,
            &[],
            &clusters.version_info,
            &clusters.nonce,
        ))
        .await
        .unwrap();
    requests
        .send(ask(None, TypeUrlKind::Endpoints, &[HELLOWORLD], "", ""))
        .await
        .unwrap();
    let endpoints = soon("endpoints", responses.message())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(endpoints.type_url, TypeUrlKind::Endpoints.url());
    assert_eq!(endpoints.resources.len(), 1);
    plane.stop().await;
}

/// The agent asks for the names that its Envoy does not ask for; it is no second proxy.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_beside_an_envoy_hears_names_and_is_not_counted() {
    let (fleet, cluster, plane) = one_cluster().await;
    let (channel, mut proxy) = sleep(&fleet, &cluster, &plane).await;
    proxy.ready().await;
    let (requests, out) = mpsc::channel(8);
    let ask = |node: Option<Node>, nonce: &str| DeltaDiscoveryRequest {
        node,
        type_url: TypeUrlKind::Names.url().into(),
        response_nonce: nonce.into(),
        ..Default::default()
    };
    let node = Node {
        user_agent_name: "catamaran-agent".into(),
        ..sidecar("default/sleep", "sleep-1")
    };
    requests.send(ask(Some(node), "")).await.unwrap();
    let mut client = AggregatedDiscoveryClient::new(channel);
    let stream = client.delta_aggregated_resources(ReceiverStream::new(out));
    let mut responses = stream.await.unwrap().into_inner();
    let names = soon("names", responses.message()).await.unwrap().unwrap();
    assert_eq!(names.type_url, TypeUrlKind::Names.url());
    assert_eq!(names.resources.len(), 1);
    requests.send(ask(None, &names.nonce)).await.unwrap();
    let proxies = plane.status().await.proxies;
    assert_eq!((proxies.connected, proxies.current), (1, 1));
    plane.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proxy_is_told_only_what_its_certificate_proves() {
    let (fleet, cluster, plane) = one_cluster().await;
    let (channel, _proxy) = sleep(&fleet, &cluster, &plane).await;
    let other_cluster = || {
        let mut node = sidecar("default/sleep", "sleep-1");
        let fields = [
            ("CLUSTER_ID", "cluster-2"),
            ("NAMESPACE", "default"),
            ("SERVICE_ACCOUNT", "sleep"),
        ];
        node.metadata = Some(fields.into_iter().collect());
        node
    };
    let cases = [
        (
            sidecar("default/helloworld", "helloworld-10"),
            "the connection's certificate proves spiffe://cluster.local/ns/default/sa/sleep",
        ),
        (
            sidecar("other/sleep", "sleep-1"),
            "the connection's certificate proves",
        ),
        (
            sidecar("default/sleep", "helloworld-10"),
            "the pod default/helloworld-10 runs as helloworld",
        ),
        (
            other_cluster(),
            "the proxy is of cluster cluster-2; this control plane manages cluster-1",
        ),
        (
            Node {
                id: "router~10.1.1.1~sleep-1.default~x".into(),
                ..sidecar("default/sleep", "sleep-1")
            },
            "only eastwest-gateway in catamaran-system may be a gateway",
        ),
        (Node::default(), "the node's CLUSTER_ID is"),
    ];
    for (node, why) in cases {
        let mut refused = Proxy::open(&channel, node).await;
        let status = refused.step().await.unwrap_err();
        assert!(
            matches!(status.code(), Code::PermissionDenied | Code::Unavailable),
            "{status}"
        );
        assert!(
            status.message().contains(why),
            "{} should say {why}",
            status.message()
        );
    }
    plane.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_that_is_assigned_to_a_network_is_told_as_one_of_it() {
    let (fleet, cluster, plane) = one_cluster().await;
    let (_channel, mut proxy) = sleep(&fleet, &cluster, &plane).await;
    proxy.ready().await;
    // helloworld's pod says that it is elsewhere, where no gateway is known: fail closed.
    cluster.member("cluster-1", Some("network1"));
    let pod = |network: Option<&str>| {
        let mut labels =
            serde_json::json!({"app": "helloworld", "security.istio.io/tlsMode": "istio"});
        if let Some(network) = network {
            labels["topology.istio.io/network"] = network.into();
        }
        cluster.put(
            "status/Pod/default/helloworld-10.json",
            &serde_json::json!({
                "apiVersion": "v1", "kind": "Pod",
                "metadata": {"name": "helloworld-10", "namespace": "default", "labels": labels},
                "spec": {"serviceAccountName": "helloworld"}, "status": {"phase": "Running"},
            }),
        );
    };
    pod(Some("network2"));
    proxy
        .until("no way to it", |held| helloworld(held).is_empty())
        .await;
    let status = plane.status().await;
    assert!(
        status
            .problems
            .iter()
            .any(|problem| problem.kind == "no_gateway"),
        "{:?}",
        status.problems
    );
    pod(None);
    proxy
        .until("the way back", |held| helloworld(held) == ["10.1.1.10"])
        .await;
    plane.stop().await;
}
