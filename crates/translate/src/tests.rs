use std::sync::Arc;

use catamaran_model::*;
use catamaran_registry::Freshness;
use catamaran_wire::cluster::{ClusterDiscoveryType, LbPolicy, UpstreamHttpOptions};
use catamaran_wire::hcm::{HttpConnectionManager, RouteSpecifier};
use catamaran_wire::listener::{FilterChain, FilterConfigType};
use catamaran_wire::names::NameTable;
use catamaran_wire::own::Issuers;
use catamaran_wire::route::{Action, ClusterSpecifier};
use catamaran_wire::tcp;
use catamaran_wire::tls::{DownstreamTlsContext, UpstreamTlsContext, ValidationContextType};
use catamaran_wire::{Message, extension};
use catamaran_xds::TypeUrlKind;

use crate::fixture::*;
use crate::*;

const HELLOWORLD: &str = "outbound|5000||helloworld.default.svc.cluster.local";
const SNI: &str = "outbound_.5000_._.helloworld.default.svc.cluster.local";

// Endpoints.

#[test]
fn the_own_network_is_called_directly_and_the_other_through_its_gateway() {
    let world = five_steps();
    assert_eq!(
        world.call(&sleep("cluster-1", Some("network1")), HELLOWORLD),
        [
            "10.1.1.7:5000 direct in cluster-1 mTLS w=1",
            "198.18.2.10:15443 via gateway of cluster-2 mTLS w=1",
        ]
    );
    assert_eq!(
        world.call(&sleep("cluster-2", Some("network2")), HELLOWORLD),
        [
            "10.2.2.7:5000 direct in cluster-2 mTLS w=1",
            "198.18.1.10:15443 via gateway of cluster-1 mTLS w=1",
        ]
    );
    assert!(
        world
            .problems(&sleep("cluster-1", Some("network1")))
            .is_empty()
    );
}

#[test]
fn without_networks_all_pods_are_called_directly() {
    let world = World::default()
        .cluster("cluster-1", None)
        .cluster("cluster-2", None)
        .service("default/helloworld", &[("http", 5000)])
        .vip("default/helloworld", "cluster-1", "10.96.0.3")
        .vip("default/helloworld", "cluster-2", "10.96.0.9")
        .pod(
            "default/helloworld",
            "cluster-1",
            "helloworld-v1",
            "10.1.1.7",
        )
        .pod(
            "default/helloworld",
            "cluster-2",
            "helloworld-v2",
            "10.1.2.7",
        );
    assert_eq!(
        world.call(&sleep("cluster-1", None), HELLOWORLD),
        [
            "10.1.1.7:5000 direct in cluster-1 mTLS w=1",
            "10.1.2.7:5000 direct in cluster-2 mTLS w=1",
        ]
    );
}

#[test]
fn the_service_port_leads_to_the_pods_own_port() {
    let world = five_steps().edit("default/helloworld", |service| {
        for endpoint in &mut service.endpoints {
            Arc::make_mut(endpoint).ports.insert(5000, 8080);
        }
    });
    let ways = world.call(&sleep("cluster-1", Some("network1")), HELLOWORLD);
    assert_eq!(ways[0], "10.1.1.7:8080 direct in cluster-1 mTLS w=1");
}

#[test]
fn a_gateway_weighs_as_much_as_the_ready_pods_behind_it_whatever_their_zones() {
    let mut world = five_steps();
    for (n, zone) in ["a", "b", "c"].into_iter().enumerate() {
        let (pod, address) = (format!("more-{n}"), format!("10.2.2.{}", 20 + n));
        world = world.pod_with("default/helloworld", "cluster-2", &pod, &address, |pod| {
            pod.endpoint.locality = locality("eu", zone);
        });
    }
    world = world.pod_with(
        "default/helloworld",
        "cluster-2",
        "not-ready",
        "10.2.2.30",
        |pod| {
            pod.endpoint.health = Health::NotReady;
        },
    );
    assert_eq!(
        world.call(&sleep("cluster-1", Some("network1")), HELLOWORLD),
        [
            "10.1.1.7:5000 direct in cluster-1 mTLS w=1",
            "198.18.2.10:15443 via gateway of cluster-2 mTLS w=4",
        ]
    );
}

#[test]
fn several_gateways_share_the_weight_in_whole_numbers() {
    let world = five_steps()
        .gateway("cluster-2", "network2", "198.18.2.11")
        .cluster("cluster-3", Some("network3"))
        .gateway("cluster-3", "network3", "198.18.3.10")
        .gateway("cluster-3", "network3", "198.18.3.11")
        .gateway("cluster-3", "network3", "198.18.3.12")
        .headless("default/helloworld", "cluster-3")
        .pod(
            "default/helloworld",
            "cluster-3",
            "helloworld-v3",
            "10.3.3.7",
        );
    assert_eq!(
        world.call(&sleep("cluster-1", Some("network1")), HELLOWORLD),
        [
            "10.1.1.7:5000 direct in cluster-1 mTLS w=6",
            "198.18.2.10:15443 via gateway of cluster-2 mTLS w=3",
            "198.18.2.11:15443 via gateway of cluster-2 mTLS w=3",
            "198.18.3.10:15443 via gateway of cluster-3 mTLS w=2",
            "198.18.3.11:15443 via gateway of cluster-3 mTLS w=2",
            "198.18.3.12:15443 via gateway of cluster-3 mTLS w=2",
        ]
    );
}

#[test]
fn one_address_in_front_of_two_clusters_is_used_once_with_both_weights() {
    let world = five_steps()
        .cluster("cluster-3", Some("network2"))
        .gateway("cluster-3", "network2", "198.18.2.10")
        .headless("default/helloworld", "cluster-3")
        .pod(
            "default/helloworld",
            "cluster-3",
            "helloworld-v3",
            "10.2.3.7",
        )
        .pod(
            "default/helloworld",
            "cluster-3",
            "helloworld-v4",
            "10.2.3.8",
        );
    assert_eq!(
        world.call(&sleep("cluster-1", Some("network1")), HELLOWORLD)[1..],
        ["198.18.2.10:15443 via gateway of cluster-2+cluster-3 mTLS w=3"]
    );
}

#[test]
fn without_a_gateway_nothing_is_used_and_a_problem_says_so() {
    let world = five_steps().without_gateways();
    let sleep = sleep("cluster-1", Some("network1"));
    assert_eq!(
        world.call(&sleep, HELLOWORLD),
        ["10.1.1.7:5000 direct in cluster-1 mTLS w=1"]
    );
    assert_eq!(
        world.problems(&sleep),
        [
            "NoGateway Service default/helloworld: endpoints in cluster-2 (network network2) are not used from network \
             network1, since no gateway into them is known: enable the gateway of cluster-2, or give its address with \
             `catamaran network set`"
        ]
    );
}

#[test]
fn a_proxy_whose_network_is_not_known_is_no_exception() {
    let ways = five_steps().call(&sleep("cluster-1", None), HELLOWORLD);
    assert_eq!(
        ways,
        [
            "198.18.1.10:15443 via gateway of cluster-1 mTLS w=1",
            "198.18.2.10:15443 via gateway of cluster-2 mTLS w=1",
        ]
    );
    let nowhere = five_steps()
        .without_gateways()
        .call(&sleep("cluster-1", None), HELLOWORLD);
    assert!(nowhere.is_empty(), "{nowhere:?}");
}

#[test]
fn another_clusters_gateway_in_the_same_network_is_no_way_in() {
    let world = five_steps()
        .cluster("cluster-3", Some("network2"))
        .headless("default/helloworld", "cluster-3")
        .pod(
            "default/helloworld",
            "cluster-3",
            "helloworld-v3",
            "10.2.3.7",
        );
    let sleep = sleep("cluster-1", Some("network1"));
    assert_eq!(
        world.call(&sleep, HELLOWORLD)[1..],
        ["198.18.2.10:15443 via gateway of cluster-2 mTLS w=1"]
    );
    assert!(world.problems(&sleep)[0].contains("enable the gateway of cluster-3"));
}

#[test]
fn a_pod_without_sidecar_is_called_in_plain_text_in_its_network_and_not_from_others() {
    let plain = |pod: &mut catamaran_registry::MergedEndpoint| pod.endpoint.tls = TlsMode::Plain;
    let world = five_steps()
        .pod_with(
            "default/helloworld",
            "cluster-1",
            "bare-v1",
            "10.1.1.8",
            plain,
        )
        .pod_with(
            "default/helloworld",
            "cluster-2",
            "bare-v2",
            "10.2.2.8",
            plain,
        );
    let sleep = sleep("cluster-1", Some("network1"));
    assert_eq!(
        world.call(&sleep, HELLOWORLD),
        [
            "10.1.1.7:5000 direct in cluster-1 mTLS w=1",
            "10.1.1.8:5000 direct in cluster-1 plain w=1",
            "198.18.2.10:15443 via gateway of cluster-2 mTLS w=1",
        ]
    );
    assert!(
        world.problems(&sleep)[0].starts_with("PlainAcrossNetworks Service default/helloworld")
    );
}

#[test]
fn a_draining_pod_is_named_as_such_and_one_that_is_not_ready_is_left_out() {
    let health =
        |health| move |pod: &mut catamaran_registry::MergedEndpoint| pod.endpoint.health = health;
    let world = five_steps()
        .pod_with(
            "default/helloworld",
            "cluster-1",
            "going",
            "10.1.1.2",
            health(Health::Draining),
        )
        .pod_with(
            "default/helloworld",
            "cluster-1",
            "coming",
            "10.1.1.3",
            health(Health::NotReady),
        )
        .pod_with(
            "default/helloworld",
            "cluster-2",
            "going-2",
            "10.2.2.2",
            health(Health::Draining),
        );
    assert_eq!(
        world.call(&sleep("cluster-1", Some("network1")), HELLOWORLD),
        [
            "10.1.1.7:5000 direct in cluster-1 mTLS w=1",
            "10.1.1.2:5000 direct in cluster-1 mTLS w=1 Draining",
            "198.18.2.10:15443 via gateway of cluster-2 mTLS w=1",
        ]
    );
}

#[test]
fn an_address_that_a_going_pod_still_has_is_the_new_pods() {
    let world = five_steps().pod_with(
        "default/helloworld",
        "cluster-1",
        "a-going",
        "10.1.1.7",
        |pod| {
            pod.endpoint.health = Health::Draining;
        },
    );
    let ways = world.call(&sleep("cluster-1", Some("network1")), HELLOWORLD);
    assert_eq!(ways[0], "10.1.1.7:5000 direct in cluster-1 mTLS w=1");
    assert_eq!(ways.len(), 2);
}

#[test]
fn a_service_that_a_cluster_keeps_to_itself_stays_there() {
    let world = five_steps().keep_local("default/helloworld", "cluster-2");
    assert_eq!(
        world.call(&sleep("cluster-1", Some("network1")), HELLOWORLD),
        ["10.1.1.7:5000 direct in cluster-1 mTLS w=1"]
    );
    assert_eq!(
        world.call(&sleep("cluster-2", Some("network2")), HELLOWORLD),
        ["10.2.2.7:5000 direct in cluster-2 mTLS w=1"]
    );
    let (gateway, _) = translate(&world.snapshot, &gateway("cluster-2", Some("network2")));
    assert_eq!(
        names_of(&gateway, TypeUrlKind::Cluster),
        ["BlackHoleCluster"]
    );
}

#[test]
fn another_clusters_own_service_is_not_there_at_all() {
    let world = five_steps()
        .service("kube-system/dns", &[("tcp", 53)])
        .vip("kube-system/dns", "cluster-2", "10.96.0.10")
        .pod("kube-system/dns", "cluster-2", "dns", "10.2.2.53")
        .keep_local("kube-system/dns", "cluster-2");
    let (resources, _) = translate(&world.snapshot, &sleep("cluster-1", Some("network1")));
    assert!(
        resources
            .iter()
            .all(|resource| !resource.name.contains("dns"))
    );
    assert!(
        !name_table(&resources)
            .table
            .contains_key("dns.kube-system.svc.cluster.local")
    );
    let (resources, _) = translate(&world.snapshot, &sleep("cluster-2", Some("network2")));
    assert!(
        resources
            .get(TypeUrlKind::Listener, "10.96.0.10_53")
            .is_some()
    );
}

#[test]
fn local_first_uses_the_nearest_and_keeps_the_others_for_when_it_is_gone() {
    let at = |region: &'static str, zone: &'static str| {
        move |pod: &mut catamaran_registry::MergedEndpoint| {
            pod.endpoint.locality = locality(region, zone);
        }
    };
    let world = five_steps()
        .mesh(|mesh| mesh.failover = FailoverMode::LocalFirst)
        .cluster("cluster-3", Some("network1"))
        .headless("default/helloworld", "cluster-3")
        .pod_with(
            "default/helloworld",
            "cluster-1",
            "near",
            "10.1.1.20",
            at("eu", "a"),
        )
        .pod_with(
            "default/helloworld",
            "cluster-1",
            "next-zone",
            "10.1.1.21",
            at("eu", "b"),
        )
        .pod_with(
            "default/helloworld",
            "cluster-3",
            "other-cluster",
            "10.1.3.7",
            at("eu", "a"),
        );
    let audience = Audience {
        locality: locality("eu", "a"),
        ..sleep("cluster-1", Some("network1"))
    };
    assert_eq!(
        world.call(&audience, HELLOWORLD),
        [
            "10.1.1.20:5000 direct in cluster-1 mTLS w=1 p0",
            "10.1.1.21:5000 direct in cluster-1 mTLS w=1 p1",
            "10.1.1.7:5000 direct in cluster-1 mTLS w=1 p2",
            "10.1.3.7:5000 direct in cluster-3 mTLS w=1 p3",
            "198.18.2.10:15443 via gateway of cluster-2 mTLS w=1 p4",
        ]
    );
}

#[test]
fn too_many_gateway_addresses_are_cut_and_named() {
    let mut world = five_steps();
    for n in 11..20 {
        world = world.gateway("cluster-2", "network2", &format!("198.18.2.{n}"));
    }
    let sleep = sleep("cluster-1", Some("network1"));
    let ways = world.call(&sleep, HELLOWORLD);
    assert_eq!(ways.len(), 1 + 8);
    assert_eq!(
        ways[1],
        "198.18.2.10:15443 via gateway of cluster-2 mTLS w=1"
    );
    assert!(world.problems(&sleep)[0].starts_with("Limit Service default/helloworld"));
}

// Clusters.

fn upstream_tls(resources: &ResourceSet, name: &str) -> UpstreamTlsContext {
    let cluster = xds_cluster(resources, name);
    let matches = &cluster.transport_socket_matches;
    assert_eq!(matches.len(), 2);
    let plain = matches[1].transport_socket.as_ref().unwrap();
    assert_eq!(plain.name, extension::RAW_BUFFER);
    let tls = matches[0].transport_socket.as_ref().unwrap();
    tls.typed_config.as_ref().unwrap().unpack().unwrap()
}

fn subject_names(context: &Option<catamaran_wire::tls::CommonTlsContext>) -> Vec<String> {
    let context = context.as_ref().unwrap();
    let Some(ValidationContextType::CombinedValidationContext(combined)) =
        &context.validation_context_type
    else {
        panic!("no combined validation context");
    };
    let secret = combined
        .validation_context_sds_secret_config
        .as_ref()
        .unwrap();
    assert_eq!(secret.name, "ROOTCA");
    assert_eq!(
        context.tls_certificate_sds_secret_configs[0].name,
        "default"
    );
    let names = &combined
        .default_validation_context
        .as_ref()
        .unwrap()
        .match_typed_subject_alt_names;
    let text = |name: &catamaran_wire::tls::SubjectAltNameMatcher| {
        assert_eq!(name.san_type(), catamaran_wire::tls::SanType::Uri);
        match name
            .matcher
            .as_ref()
            .unwrap()
            .match_pattern
            .as_ref()
            .unwrap()
        {
            catamaran_wire::matcher::MatchPattern::Exact(id) => id.clone(),
            catamaran_wire::matcher::MatchPattern::Prefix(id) => format!("{id}*"),
            other => panic!("{other:?}"),
        }
    };
    names.iter().map(text).collect()
}

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

fn protocols() -> World {
    World::default()
        .cluster("cluster-1", None)
        .service(
            "default/app",
            &[
                ("http", 80),
                ("grpc", 81),
                ("tcp", 82),
                ("tls", 83),
                ("", 84),
            ],
        )
        .vip("default/app", "cluster-1", "10.96.0.7")
        .pod("default/app", "cluster-1", "app", "10.1.1.9")
}

fn protocol_of(resources: &ResourceSet, cluster: &str) -> String {
    use catamaran_wire::cluster::{ProtocolConfig, UpstreamProtocolOptions as Options};
    let cluster = xds_cluster(resources, cluster);
    let Some(options) = cluster
        .typed_extension_protocol_options
        .get(extension::UPSTREAM_HTTP_OPTIONS)
    else {
        return "bytes".to_owned();
    };
    let options: UpstreamHttpOptions = options.unpack().unwrap();
    match options.upstream_protocol_options.unwrap() {
        Options::AutoConfig(_) => "negotiated".to_owned(),
        Options::UseDownstreamProtocolConfig(_) => "as the caller".to_owned(),
        Options::ExplicitHttpConfig(config) => match config.protocol_config.unwrap() {
            ProtocolConfig::HttpProtocolOptions(_) => "HTTP/1.1".to_owned(),
            ProtocolConfig::Http2ProtocolOptions(_) => "HTTP/2".to_owned(),
            ProtocolConfig::Http3ProtocolOptions(_) => "HTTP/3".to_owned(),
        },
    }
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

    let (resources, _) = translate(&five_steps().snapshot, &envoy(sleep));
    assert_eq!(protocol_of(&resources, HELLOWORLD), "as the caller");
    let tls = upstream_tls(&resources, HELLOWORLD)
        .common_tls_context
        .unwrap();
    assert_eq!(tls.alpn_protocols, ["istio"]);
    let retry = retry_on(&resources, "5000");
    assert_eq!(retry, "connect-failure,refused-stream,reset-before-request");
    assert_eq!(resources.of_kind(TypeUrlKind::Names).count(), 0);
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

// Listeners and routes.

fn tcp_cluster(chain: &FilterChain) -> Option<String> {
    let Some(FilterConfigType::TypedConfig(config)) = &chain.filters[0].config_type else {
        panic!("a filter without configuration");
    };
    let proxy: tcp::TcpProxy = config.unpack().ok()?;
    match proxy.cluster_specifier? {
        tcp::ClusterSpecifier::Cluster(cluster) => Some(cluster),
        tcp::ClusterSpecifier::WeightedClusters(_) => None,
    }
}

fn http(chain: &FilterChain) -> Option<HttpConnectionManager> {
    let Some(FilterConfigType::TypedConfig(config)) = &chain.filters[0].config_type else {
        panic!("a filter without configuration");
    };
    config.unpack().ok()
}

/// What is done with a connection: the routes of HTTP, or the cluster of bytes.
fn then(chain: &FilterChain) -> String {
    match http(chain).map(|manager| manager.route_specifier.unwrap()) {
        Some(RouteSpecifier::Rds(rds)) => format!("routes {}", rds.route_config_name),
        Some(RouteSpecifier::RouteConfig(routes)) => format!("routes {} inline", routes.name),
        Some(RouteSpecifier::ScopedRoutes(_)) => panic!("scoped routes"),
        None => tcp_cluster(chain).unwrap(),
    }
}

/// One line for each chain of a listener.
fn chains(resources: &ResourceSet, name: &str) -> Vec<String> {
    let listener = listener(resources, name);
    let line = |chain: &FilterChain| {
        let mut line = String::new();
        let matches = chain.filter_chain_match.clone().unwrap_or_default();
        if let Some(port) = matches.destination_port {
            line += &format!(":{port} ");
        }
        let mut words = vec![matches.transport_protocol];
        words.extend(matches.server_names);
        words.extend(matches.application_protocols);
        line += words.join(" ").trim();
        if chain.transport_socket.is_some() {
            line += " (ends mTLS)";
        }
        format!("{} -> {}", line.trim(), then(chain))
            .trim()
            .to_owned()
    };
    let mut lines: Vec<String> = listener.filter_chains.iter().map(line).collect();
    lines.extend(
        listener
            .default_filter_chain
            .iter()
            .map(|chain| format!("else{}", line(chain).replacen("->", " ->", 1))),
    );
    lines
}

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

fn retry_on(resources: &ResourceSet, name: &str) -> String {
    let routes = routes(resources, name);
    match &routes.virtual_hosts[0].routes[0].action {
        Some(Action::Route(route)) => route.retry_policy.clone().unwrap().retry_on,
        other => panic!("{other:?}"),
    }
}

/// Host, cluster and domains of each virtual host.
fn hosts(resources: &ResourceSet, name: &str) -> Vec<String> {
    let line = |host: &catamaran_wire::route::VirtualHost| {
        let Some(Action::Route(route)) = &host.routes[0].action else {
            panic!("no route");
        };
        let Some(ClusterSpecifier::Cluster(cluster)) = &route.cluster_specifier else {
            panic!("no cluster");
        };
        assert_eq!(route.timeout, Some(std::time::Duration::ZERO.into()));
        format!("{} -> {cluster}: {}", host.name, host.domains.join(" "))
    };
    routes(resources, name)
        .virtual_hosts
        .iter()
        .map(line)
        .collect()
}

#[test]
fn a_service_is_called_by_its_names_and_its_address() {
    let (resources, _) = translate(
        &five_steps().snapshot,
        &sleep("cluster-1", Some("network1")),
    );
    assert_eq!(
        hosts(&resources, "5000"),
        [
            "helloworld.default.svc.cluster.local:5000 -> \
             outbound|5000||helloworld.default.svc.cluster.local: \
             helloworld.default.svc.cluster.local:5000 helloworld.default.svc.cluster.local \
             helloworld:5000 helloworld \
             helloworld.default.svc:5000 helloworld.default.svc \
             helloworld.default:5000 helloworld.default \
             10.96.0.3:5000 10.96.0.3",
            "allow_any -> PassthroughCluster: *",
        ]
    );
    assert_eq!(
        retry_on(&resources, "5000"),
        "connect-failure,refused-stream,reset-before-request,reset"
    );
}

#[test]
fn the_bare_name_is_understood_in_the_services_own_namespace_only() {
    let other = sidecar("cluster-1", Some("network1"), "elsewhere", "client");
    let (resources, _) = translate(&five_steps().snapshot, &other);
    let domains = &routes(&resources, "5000").virtual_hosts[0].domains;
    assert!(!domains.contains(&"helloworld".to_owned()));
    assert!(domains.contains(&"helloworld.default".to_owned()));
}

#[test]
fn services_of_one_port_share_a_listener_and_a_route_configuration() {
    let world = five_steps()
        .service("other/helloworld", &[("http", 5000)])
        .vip("other/helloworld", "cluster-1", "10.96.0.3");
    let (resources, _) = translate(&world.snapshot, &sleep("cluster-1", Some("network1")));
    let hosts = hosts(&resources, "5000");
    assert_eq!(hosts.len(), 3);
    assert!(hosts[0].ends_with("10.96.0.3:5000 10.96.0.3"), "{hosts:?}");
    assert!(
        hosts[1].ends_with("helloworld.other"),
        "a taken address is not taken twice: {hosts:?}"
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
fn every_cluster_and_route_that_is_pointed_at_is_there() {
    let world = protocols().mesh(|mesh| mesh.mtls = MtlsMode::Permissive);
    for capture in [Capture::Redirect, Capture::Explicit] {
        let audience = Audience {
            capture,
            ..sidecar("cluster-1", None, "default", "app")
        };
        let (resources, _) = translate(&world.snapshot, &audience);
        for name in names_of(&resources, TypeUrlKind::Listener) {
            let listener = listener(&resources, name);
            for chain in listener
                .filter_chains
                .iter()
                .chain(&listener.default_filter_chain)
            {
                if let Some(cluster) = tcp_cluster(chain) {
                    assert!(
                        resources.get(TypeUrlKind::Cluster, &cluster).is_some(),
                        "{cluster}"
                    );
                } else if let Some(routes) = then(chain).strip_prefix("routes ")
                    && !routes.ends_with("inline")
                {
                    assert!(!hosts(&resources, routes).is_empty());
                }
            }
        }
        for name in names_of(&resources, TypeUrlKind::Route) {
            for host in hosts(&resources, name) {
                let cluster = host
                    .split(" -> ")
                    .nth(1)
                    .unwrap()
                    .split(": ")
                    .next()
                    .unwrap();
                assert!(
                    resources.get(TypeUrlKind::Cluster, cluster).is_some(),
                    "{cluster}"
                );
            }
        }
        for name in names_of(&resources, TypeUrlKind::Cluster) {
            let eds = ClusterDiscoveryType::Type(3);
            if xds_cluster(&resources, name).cluster_discovery_type == Some(eds) {
                assert!(
                    resources.get(TypeUrlKind::Endpoints, name).is_some(),
                    "{name}"
                );
            }
        }
    }
}

// Gateways.

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

// Names and issuers.

fn name_table(resources: &ResourceSet) -> NameTable {
    let table = resources.get(TypeUrlKind::Names, NAME_TABLE).unwrap();
    NameTable::decode(table.bytes.clone()).unwrap()
}

#[test]
fn a_service_that_is_only_elsewhere_gets_an_address_that_its_listener_and_route_have_too() {
    let world = five_steps()
        .service("default/far", &[("http", 80), ("tcp", 90)])
        .vip("default/far", "cluster-2", "10.96.0.2")
        .pod("default/far", "cluster-2", "far", "10.2.2.44");
    let (resources, _) = translate(&world.snapshot, &sleep("cluster-1", Some("network1")));
    let table = name_table(&resources).table;
    let of = |host: &str| table[host].ips.join(",");
    assert_eq!(of("helloworld.default.svc.cluster.local"), "10.96.0.3");
    assert_eq!(of("sleep.default.svc.cluster.local"), "10.96.0.2");
    let far = of("far.default.svc.cluster.local");
    assert!(
        far.starts_with("240.240."),
        "never the other cluster's 10.96.0.2: {far}"
    );
    assert!(
        resources
            .get(TypeUrlKind::Listener, &format!("{far}_90"))
            .is_some()
    );
    let domains = &routes(&resources, "80").virtual_hosts[0].domains;
    assert!(domains.contains(&format!("{far}:80")), "{domains:?}");
}

#[test]
fn issuers_are_told_for_clusters_that_named_them() {
    let mut world = five_steps();
    let prints = vec![Fingerprint([9; 32]), Fingerprint([4; 32])];
    world.snapshot.issuers.insert(cluster("cluster-2"), prints);
    let (resources, _) = translate(&world.snapshot, &sleep("cluster-1", Some("network1")));
    assert_eq!(names_of(&resources, TypeUrlKind::Issuers), ["cluster-2"]);
    let issuers = resources.get(TypeUrlKind::Issuers, "cluster-2").unwrap();
    let issuers = Issuers::decode(issuers.bytes.clone()).unwrap();
    assert_eq!(issuers.cluster, "cluster-2");
    assert_eq!(issuers.fingerprints, [vec![4; 32], vec![9; 32]]);
}

// Determinism.

#[test]
fn freshness_time_number_and_view_leave_no_trace() {
    let fresh = five_steps().snapshot;
    let mut stale = fresh.clone();
    stale.number = 77;
    stale.problems = vec![catamaran_registry::Problem {
        severity: catamaran_registry::Severity::Warning,
        kind: catamaran_registry::ProblemKind::DiscoveryLost,
        cluster: None,
        object: "Cluster cluster-2".into(),
        message: "lost".into(),
    }];
    for view in stale.clusters.values_mut() {
        view.freshness = Freshness::Stale {
            since: Timestamp(1_234),
            reason: "no answer".into(),
        };
        view.revision = catamaran_registry::Revision(99);
        view.held_since = Some(Timestamp(5));
        view.endpoints = 12;
    }
    for audience in [
        sleep("cluster-1", Some("network1")),
        gateway("cluster-2", Some("network2")),
    ] {
        assert_eq!(translate(&fresh, &audience), translate(&stale, &audience));
    }
}

#[test]
fn the_order_in_which_facts_stand_leaves_no_trace() {
    let world = five_steps()
        .pod("default/helloworld", "cluster-1", "another", "10.1.1.8")
        .gateway("cluster-2", "network2", "198.18.2.11");
    let mut turned = world.clone();
    for ways in turned.snapshot.gateways.values_mut() {
        ways.reverse();
    }
    for service in turned.snapshot.services.values_mut() {
        Arc::make_mut(service).endpoints.reverse();
    }
    for audience in [
        sleep("cluster-1", Some("network1")),
        gateway("cluster-1", Some("network1")),
    ] {
        assert_eq!(
            translate(&world.snapshot, &audience),
            translate(&turned.snapshot, &audience)
        );
    }
}
