use catamaran_model::*;
use catamaran_wire::cluster::LbPolicy;
use catamaran_xds::TypeUrlKind;

use crate::fixture::*;
use crate::{Audience, Capability, Role, translate};

#[test]
fn the_identities_of_a_service_are_those_of_all_its_clusters() {
    let world = five_steps().pod_with("default/helloworld", "cluster-2", "v3", "10.2.2.9", |pod| {
        pod.endpoint.service_account = ServiceAccount::new("another").unwrap();
        pod.endpoint.health = Health::NotReady;
    });
    let (resources, _) = translate(&world.snapshot, &sleep("cluster-1", Some("network1")));
    let tls = upstream_tls(&resources, HELLOWORLD);
    assert_eq!(tls.sni, SNI);
    assert_eq!(
        subject_names(&tls.common_tls_context),
        [
            "spiffe://cluster.local/ns/default/sa/another",
            "spiffe://cluster.local/ns/default/sa/helloworld",
        ]
    );
}

#[test]
fn where_nobody_may_answer_yet_nobody_is_named() {
    let world = five_steps().service("default/empty", &[("http", 80)]).vip(
        "default/empty",
        "cluster-1",
        "10.96.0.44",
    );
    let (resources, _) = translate(&world.snapshot, &sleep("cluster-1", Some("network1")));
    let tls = upstream_tls(&resources, "outbound|80||empty.default.svc.cluster.local");
    assert_eq!(
        subject_names(&tls.common_tls_context),
        ["spiffe://nobody.invalid/ns/nobody/sa/nobody"]
    );
}

#[test]
fn each_port_speaks_its_protocol() {
    let app = sidecar("cluster-1", None, "default", "app");
    let (resources, _) = translate(&protocols().snapshot, &app);
    let row = |port: u16| {
        let outbound = format!("outbound|{port}||app.default.svc.cluster.local");
        let tls = upstream_tls(&resources, &outbound)
            .common_tls_context
            .unwrap();
        format!(
            "{} {} -> {}",
            protocol_of(&resources, &outbound),
            tls.alpn_protocols.join(","),
            protocol_of(&resources, &format!("inbound|{port}||")),
        )
    };
    let http = "istio-h2,istio-http/1.1,istio,h2,http/1.1";
    assert_eq!(row(80), format!("negotiated {http} -> HTTP/1.1"));
    assert_eq!(row(81), "HTTP/2 istio-h2,istio,h2 -> HTTP/2");
    assert_eq!(row(82), "bytes istio -> bytes");
    assert_eq!(row(83), "bytes istio -> bytes");
    assert_eq!(row(84), format!("as the caller {http} -> as the caller"));
}

#[test]
fn a_stock_envoy_speaks_as_its_caller_and_ejects_no_gateway_for_others_answers() {
    let envoy = |audience: Audience| Audience {
        capability: Capability::Envoy,
        ..audience
    };
    let enforced = |audience: &Audience| {
        let (resources, _) = translate(&five_steps().snapshot, audience);
        let outliers = xds_cluster(&resources, HELLOWORLD)
            .outlier_detection
            .unwrap();
        assert!(outliers.split_external_local_origin_errors);
        assert_eq!(outliers.consecutive_local_origin_failure, Some(3));
        outliers.enforcing_consecutive_5xx
    };
    let sleep = sleep("cluster-1", Some("network1"));
    assert_eq!(enforced(&sleep), Some(100));
    assert_eq!(enforced(&envoy(sleep.clone())), Some(0));

    let (resources, _) = translate(&five_steps().snapshot, &envoy(sleep.clone()));
    assert_eq!(protocol_of(&resources, HELLOWORLD), "as the caller");
    let tls = upstream_tls(&resources, HELLOWORLD)
        .common_tls_context
        .unwrap();
    assert_eq!(tls.alpn_protocols, ["istio"]);
    let (resources, _) = translate(
        &protocols().snapshot,
        &envoy(sidecar("cluster-1", None, "default", "app")),
    );
    let words = |port: u16| {
        let name = format!("outbound|{port}||app.default.svc.cluster.local");
        let tls = upstream_tls(&resources, &name).common_tls_context.unwrap();
        tls.alpn_protocols.join(" ")
    };
    let all: Vec<String> = (80..85).map(words).collect();
    assert_eq!(
        all,
        ["istio", "istio-h2 istio h2", "istio", "istio", "istio"]
    );
    let (resources, _) = translate(&five_steps().snapshot, &envoy(sleep.clone()));
    let retry = retry_on(&resources, "5000");
    assert_eq!(retry, "connect-failure,refused-stream,reset-before-request");
    // For its agent, which answers the workload's questions for names.
    assert_eq!(resources.of_kind(TypeUrlKind::Names).count(), 1);
    assert_eq!(resources.of_kind(TypeUrlKind::Issuers).count(), 0);
}

#[test]
fn limits_and_ejection_are_those_of_the_policy() {
    let (resources, _) = translate(
        &five_steps().snapshot,
        &sleep("cluster-1", Some("network1")),
    );
    let cluster = xds_cluster(&resources, HELLOWORLD);
    assert_eq!(
        cluster.connect_timeout,
        Some(std::time::Duration::from_secs(1).into())
    );
    assert_eq!(cluster.lb_policy(), LbPolicy::RoundRobin);
    let outliers = cluster.outlier_detection.unwrap();
    assert_eq!(outliers.consecutive_5xx, Some(5));
    assert_eq!(
        outliers.base_ejection_time,
        Some(std::time::Duration::from_secs(5).into())
    );
    assert_eq!(outliers.max_ejection_percent, Some(50));
    let thresholds = &cluster.circuit_breakers.unwrap().thresholds[0];
    let budget = thresholds.retry_budget.as_ref().unwrap();
    assert_eq!(budget.budget_percent.as_ref().unwrap().value, 20.0);
}

#[test]
fn inbound_calls_end_at_the_workloads_own_program() {
    let app = "127.5.0.9".parse().unwrap();
    let mut audience = sleep("cluster-1", Some("network1"));
    audience.role = Role::Sidecar {
        workload: WorkloadKey {
            namespace: Namespace::new("default").unwrap(),
            pod: PodName::new("helloworld-v1").unwrap(),
        },
        app,
    };
    let (resources, _) = translate(&five_steps().snapshot, &audience);
    let cluster = xds_cluster(&resources, "inbound|5000||");
    let inline = cluster.load_assignment.unwrap();
    let Some(catamaran_wire::endpoint::HostIdentifier::Endpoint(program)) =
        &inline.endpoints[0].lb_endpoints[0].host_identifier
    else {
        panic!("no endpoint");
    };
    assert_eq!(address(program.address.as_ref().unwrap()), "127.5.0.9:5000");
    assert!(
        resources
            .get(TypeUrlKind::Cluster, "inbound|80||")
            .is_none(),
        "sleep's port"
    );
}
