use catamaran_model::{MtlsMode, TlsMode};
use catamaran_wire::cluster::LbPolicy;
use catamaran_wire::tls::DownstreamTlsContext;
use catamaran_xds::TypeUrlKind;

use crate::fixture::*;
use crate::{Audience, Capture, translate};

#[test]
fn a_captured_call_finds_its_listener_by_port_or_by_address() {
    let app = sidecar("cluster-1", None, "default", "app");
    let (resources, _) = translate(&protocols().snapshot, &app);
    assert_eq!(
        names_of(&resources, TypeUrlKind::Listener),
        [
            "0.0.0.0_80",
            "0.0.0.0_81",
            "0.0.0.0_84",
            "10.96.0.7_82",
            "10.96.0.7_83",
            "10.96.0.7_84",
            "virtualInbound",
            "virtualOutbound",
        ]
    );
    assert_eq!(
        chains(&resources, "virtualOutbound"),
        [":15001 -> BlackHoleCluster", "else -> PassthroughCluster"]
    );
    assert_eq!(
        chains(&resources, "0.0.0.0_80"),
        [
            "http/1.0 http/1.1 h2c -> routes 80",
            "else -> PassthroughCluster"
        ]
    );
    assert_eq!(
        chains(&resources, "10.96.0.7_82"),
        ["-> outbound|82||app.default.svc.cluster.local"]
    );
    assert_eq!(
        chains(&resources, "10.96.0.7_84"),
        [
            "http/1.0 http/1.1 h2c -> routes 84",
            "else -> outbound|84||app.default.svc.cluster.local",
        ]
    );
    let main = listener(&resources, "virtualOutbound");
    assert_eq!(main.use_original_dst, Some(true));
    assert_eq!(address(main.address.as_ref().unwrap()), "0.0.0.0:15001");
    assert_eq!(
        listener(&resources, "10.96.0.7_82").bind_to_port,
        Some(false)
    );
    assert_eq!(listener(&resources, "0.0.0.0_80").bind_to_port, Some(false));
}

#[test]
fn a_strict_workload_takes_mesh_mtls_only() {
    let app = sidecar("cluster-1", None, "default", "app");
    let (resources, _) = translate(&protocols().snapshot, &app);
    let mesh = "istio istio-peer-exchange istio-http/1.0 istio-http/1.1 istio-h2 (ends mTLS)";
    assert_eq!(
        chains(&resources, "virtualInbound"),
        [
            format!(":80 tls {mesh} -> routes inbound|80|| inline"),
            format!(":81 tls {mesh} -> routes inbound|81|| inline"),
            format!(":82 tls {mesh} -> inbound|82||"),
            format!(":83 tls {mesh} -> inbound|83||"),
            ":84 tls istio-http/1.0 istio-http/1.1 istio-h2 (ends mTLS) -> routes inbound|84|| inline".to_owned(),
            ":84 tls istio istio-peer-exchange (ends mTLS) -> inbound|84||".to_owned(),
        ]
    );
    let chain = &listener(&resources, "virtualInbound").filter_chains[0];
    let socket = chain.transport_socket.as_ref().unwrap();
    let tls: DownstreamTlsContext = socket.typed_config.as_ref().unwrap().unpack().unwrap();
    assert_eq!(tls.require_client_certificate, Some(true));
    assert_eq!(
        subject_names(&tls.common_tls_context),
        ["spiffe://cluster.local/*"]
    );
}

#[test]
fn a_permissive_workload_takes_plain_text_too_and_leaves_foreign_tls_alone() {
    let world = protocols().mesh(|mesh| mesh.mtls = MtlsMode::Permissive);
    let app = sidecar("cluster-1", None, "default", "app");
    let (resources, _) = translate(&world.snapshot, &app);
    let open: Vec<String> = chains(&resources, "virtualInbound")
        .into_iter()
        .filter(|line| !line.contains("ends mTLS"))
        .collect();
    assert_eq!(
        open,
        [
            ":80 raw_buffer -> routes inbound|80|| inline",
            ":80 tls -> inbound|80||",
            ":81 raw_buffer -> routes inbound|81|| inline",
            ":81 tls -> inbound|81||",
            ":82 raw_buffer -> inbound|82||",
            ":82 tls -> inbound|82||",
            ":83 raw_buffer -> inbound|83||",
            ":83 tls -> inbound|83||",
            ":84 raw_buffer http/1.0 http/1.1 h2c -> routes inbound|84|| inline",
            ":84 raw_buffer -> inbound|84||",
            ":84 tls -> inbound|84||",
        ]
    );
}

#[test]
fn a_workload_without_a_service_has_nothing_to_take() {
    let (resources, _) = translate(
        &five_steps().snapshot,
        &sidecar("cluster-1", Some("network1"), "default", "nobody"),
    );
    assert!(
        resources
            .get(TypeUrlKind::Listener, "virtualInbound")
            .is_none()
    );
    assert!(
        resources
            .get(TypeUrlKind::Listener, "virtualOutbound")
            .is_some()
    );
}

#[test]
fn a_pod_of_another_cluster_with_the_same_name_is_another_pod() {
    let twin = sidecar("cluster-2", Some("network2"), "default", "sleep");
    let (resources, _) = translate(&five_steps().snapshot, &twin);
    assert!(
        resources
            .get(TypeUrlKind::Listener, "virtualInbound")
            .is_none()
    );
}

#[test]
fn services_that_disagree_on_a_pods_port_are_named() {
    let world = five_steps()
        .service("default/again", &[("tcp", 5000)])
        .vip("default/again", "cluster-1", "10.96.0.8")
        .pod("default/again", "cluster-1", "helloworld-v1", "10.1.1.7");
    let pod = sidecar("cluster-1", Some("network1"), "default", "helloworld-v1");
    let (resources, _) = translate(&world.snapshot, &pod);
    assert_eq!(protocol_of(&resources, "inbound|5000||"), "bytes");
    let problems = world.problems(&pod);
    assert!(
        problems[0].starts_with(
            "PortConflict Service default/helloworld: it says that http is spoken on port 5000 of its pods"
        ),
        "{problems:?}"
    );
}

#[test]
fn without_capture_unknown_destinations_lead_nowhere() {
    let explicit = Audience {
        capture: Capture::Explicit,
        ..sleep("cluster-1", Some("network1"))
    };
    let (resources, _) = translate(&five_steps().snapshot, &explicit);
    assert!(
        resources
            .get(TypeUrlKind::Cluster, "PassthroughCluster")
            .is_none()
    );
    assert_eq!(
        chains(&resources, "virtualOutbound")[1],
        "else -> BlackHoleCluster"
    );
    assert_eq!(
        chains(&resources, "0.0.0.0_5000")[1],
        "else -> BlackHoleCluster"
    );
    assert_eq!(
        hosts(&resources, "5000")[1],
        "block_all -> BlackHoleCluster: *"
    );
    assert_eq!(
        listener(&resources, "virtualOutbound").use_original_dst,
        None
    );
}

#[test]
fn a_gateway_lets_in_to_its_own_cluster_and_nowhere_else() {
    let world = five_steps()
        .pod("default/helloworld", "cluster-1", "another", "10.1.1.8")
        .pod_with(
            "default/helloworld",
            "cluster-1",
            "bare",
            "10.1.1.9",
            |pod| {
                pod.endpoint.tls = TlsMode::Plain;
            },
        )
        .pod_with(
            "default/helloworld",
            "cluster-1",
            "moved",
            "10.9.1.9",
            |pod| {
                pod.network = Some(network("network9"));
            },
        );
    let (resources, problems) = translate(&world.snapshot, &gateway("cluster-1", Some("network1")));
    assert!(problems.is_empty());
    assert_eq!(
        names_of(&resources, TypeUrlKind::Listener),
        ["0.0.0.0_15443"]
    );
    assert_eq!(
        chains(&resources, "0.0.0.0_15443"),
        [
            format!(
                "{SNI} istio istio-peer-exchange istio-http/1.0 istio-http/1.1 istio-h2 -> {SNI}"
            ),
            {
                let sleep = "outbound_.80_._.sleep.default.svc.cluster.local";
                format!(
                    "{sleep} istio istio-peer-exchange istio-http/1.0 istio-http/1.1 istio-h2 -> {sleep}"
                )
            },
        ]
    );
    assert!(
        listener(&resources, "0.0.0.0_15443")
            .default_filter_chain
            .is_none()
    );
    assert_eq!(
        ways(&resources, SNI),
        [
            "10.1.1.7:5000 direct in cluster-1 mTLS w=1",
            "10.1.1.8:5000 direct in cluster-1 mTLS w=1",
        ]
    );
    assert_eq!(
        xds_cluster(&resources, SNI).lb_policy(),
        LbPolicy::LeastRequest
    );
    assert_eq!(
        names_of(&resources, TypeUrlKind::Cluster),
        [
            "BlackHoleCluster",
            SNI,
            "outbound_.80_._.sleep.default.svc.cluster.local"
        ]
    );
}

#[test]
fn a_gateway_of_a_cluster_without_the_service_does_not_know_its_name() {
    let (resources, _) = translate(
        &five_steps().snapshot,
        &gateway("cluster-2", Some("network2")),
    );
    assert_eq!(
        chains(&resources, "0.0.0.0_15443").len(),
        1,
        "sleep is in cluster-1 only"
    );
    assert_eq!(
        ways(&resources, SNI),
        ["10.2.2.7:5000 direct in cluster-2 mTLS w=1"]
    );
}
