use std::sync::Arc;

use catamaran_wire::cluster::{
    Cluster, HttpOutlierDetection, LbConfig, LbPolicy, RingHashLbConfig, UpstreamHttpOptions,
};
use catamaran_wire::core::{HeaderValueOption, TransportSocket};
use catamaran_wire::endpoint::{AssignmentPolicy, ClusterLoadAssignment, DropOverload};
use catamaran_wire::health::HealthCheck;
use catamaran_wire::listener::{FilterChainMatch, Listener, ListenerFilter};
use catamaran_wire::listener_filter::{HttpInspector, TlsInspector};
use catamaran_wire::matcher::RegexMatcher;
use catamaran_wire::own::Issuers;
use catamaran_wire::route::{
    Action, HashPolicy, PathSpecifier, RedirectAction, RetryPolicy, RouteConfiguration, VirtualHost,
};
use catamaran_wire::{Any, Message, TypeUrl, extension};
use proptest::prelude::*;

use super::{Interner, Table};
use crate::fixture::*;
use crate::{
    Arrival, Attempt, Changes, Connection, Detected, EndpointSource, Entry, Kind, Refusal, Request,
    Transport, View, decide,
};

fn update(table: &Table, changes: Changes) -> (Table, Vec<String>) {
    let (table, refusals) = table.update(changes);
    (table, refusals.iter().map(Refusal::to_string).collect())
}

/// What is refused of the sidecar's resources after this change to them.
fn refused(change: impl FnOnce(&mut Changes)) -> Vec<String> {
    let mut changes = sidecar();
    change(&mut changes);
    let all = sizes(&changes);
    let (table, refusals) = Table::build(changes);
    assert_eq!(
        table.listeners.len() + table.routes.len() + table.clusters.len() + refusals.len(),
        all,
        "the others are used"
    );
    refusals.iter().map(Refusal::to_string).collect()
}

fn sizes(changes: &Changes) -> usize {
    changes.listeners.len() + changes.routes.len() + changes.clusters.len()
}

fn hello(change: impl FnOnce(&mut Cluster)) -> Vec<String> {
    refused(|changes| change(&mut changes.clusters[0]))
}

fn host(change: impl FnOnce(&mut VirtualHost)) -> Vec<String> {
    refused(|changes| change(&mut changes.routes[0].virtual_hosts[0]))
}

fn http_listener(change: impl FnOnce(&mut Listener)) -> Vec<String> {
    refused(|changes| change(&mut changes.listeners[1]))
}

#[test]
fn what_is_not_implemented_is_refused_by_name_and_field() {
    let hello_is = format!("cluster {HELLO:?} is refused: ");
    assert_eq!(
        hello(|cluster| cluster.lb_policy = LbPolicy::Maglev.into()),
        [format!("{hello_is}lb_policy: Maglev is not implemented")]
    );
    assert_eq!(
        hello(|cluster| cluster.lb_policy = 77),
        [format!("{hello_is}lb_policy: 77 is not known")]
    );
    assert_eq!(
        hello(|cluster| cluster.lb_config =
            Some(LbConfig::RingHashLbConfig(RingHashLbConfig::default()))),
        [format!("{hello_is}lb_config: hashing is not implemented")]
    );
    assert_eq!(
        hello(|cluster| cluster.health_checks = vec![HealthCheck::default()]),
        [format!("{hello_is}health_checks: is not implemented")]
    );
    assert_eq!(
        hello(|cluster| {
            let outliers = cluster.outlier_detection.as_mut().unwrap();
            outliers.enforcing_success_rate = Some(100);
        }),
        [format!(
            "{hello_is}outlier_detection.enforcing_success_rate: comparing endpoints is not implemented"
        )]
    );
    assert_eq!(
        hello(|cluster| {
            let options = UpstreamHttpOptions {
                outlier_detection: Some(HttpOutlierDetection::default()),
                ..UpstreamHttpOptions::default()
            };
            cluster
                .typed_extension_protocol_options
                .insert(extension::UPSTREAM_HTTP_OPTIONS.into(), Any::pack(&options));
        }),
        [format!(
            "{hello_is}typed_extension_protocol_options[{}].outlier_detection: is not implemented",
            extension::UPSTREAM_HTTP_OPTIONS
        )]
    );
    assert_eq!(
        hello(|cluster| {
            let socket = TransportSocket {
                name: "envoy.transport_sockets.alts".into(),
                typed_config: Some(Any {
                    type_url: "type.googleapis.com/x.Alts".into(),
                    value: Default::default(),
                }),
            };
            cluster.transport_socket_matches[0].transport_socket = Some(socket);
        }),
        [format!(
            "{hello_is}transport_socket_matches[0].transport_socket.typed_config: type.googleapis.com/x.Alts is not implemented"
        )]
    );

    let routes_are = "route configuration \"5000\" is refused: virtual_hosts[0].";
    assert_eq!(
        host(|host| {
            host.routes[0].r#match.as_mut().unwrap().path_specifier =
                Some(PathSpecifier::SafeRegex(RegexMatcher::default()));
        }),
        [format!(
            "{routes_are}routes[0].match.safe_regex: regular expressions are not implemented"
        )]
    );
    assert_eq!(
        host(|host| host.request_headers_to_add = vec![HeaderValueOption::default()]),
        [format!(
            "{routes_are}request_headers_to_add: is not implemented"
        )]
    );
    assert_eq!(
        host(|host| host.routes[0].action = Some(Action::Redirect(RedirectAction::default()))),
        [format!(
            "{routes_are}routes[0].redirect: is not implemented"
        )]
    );
    assert_eq!(
        host(|host| {
            host.retry_policy = Some(RetryPolicy {
                retry_on: "5xx,sometimes".into(),
                ..RetryPolicy::default()
            });
        }),
        [format!(
            "{routes_are}retry_policy.retry_on: \"sometimes\" is not known"
        )]
    );
    assert_eq!(
        host(|host| host.domains.push("helloworld".into())),
        [format!(
            "{routes_are}domains[4]: \"helloworld\" is there twice"
        )]
    );

    let listener_is = "listener \"0.0.0.0_5000\" is refused: ";
    assert_eq!(
        http_listener(|listener| {
            listener.filter_chains[0].filters[0] = filter("x", &HttpInspector {});
        }),
        [format!(
            "{listener_is}filter_chains[0].filters[0]: filter \"x\" ({}) is not implemented",
            HttpInspector::TYPE_URL
        )]
    );
    assert_eq!(
        http_listener(|listener| {
            let filters = &mut listener.filter_chains[0].filters;
            filters.insert(0, tcp("x"));
        }),
        [format!(
            "{listener_is}filter_chains[0].filters: exactly one is implemented, HTTP connection manager or TCP proxy, and there are 2"
        )]
    );
    assert_eq!(
        http_listener(|listener| listener.listener_filters.push(ListenerFilter {
            name: "envoy.filters.listener.proxy_protocol".into(),
            ..ListenerFilter::default()
        })),
        [format!(
            "{listener_is}listener_filters[1].typed_config: is missing"
        )]
    );
    assert_eq!(
        http_listener(|listener| {
            let other = listener.filter_chains[0].clone();
            listener.filter_chains.push(other);
        }),
        [format!(
            "{listener_is}filter_chains[1].filter_chain_match: is that of another chain too"
        )]
    );
    assert_eq!(
        http_listener(|listener| {
            let matcher = listener.filter_chains[0]
                .filter_chain_match
                .as_mut()
                .unwrap();
            matcher.source_type = 1;
        }),
        [format!(
            "{listener_is}filter_chains[0].filter_chain_match.source_type: is not implemented"
        )]
    );
    assert_eq!(
        http_listener(|listener| listener.address = Some(socket("10.96.0.9:3306"))),
        [
            "listener \"10.96.0.9_3306\" is refused: address: 10.96.0.9:3306 is that of listener \"0.0.0.0_5000\""
        ]
    );
}

#[test]
fn hostile_assignments_and_issuers_are_refused() {
    let assigned = |assignment: ClusterLoadAssignment| {
        let changes = Changes {
            assignments: vec![assignment],
            ..Changes::default()
        };
        update(&Table::default(), changes).1
    };
    let is = format!("load assignment {HELLO:?} is refused: ");
    assert_eq!(
        assigned(assignment(HELLO, vec![plain("example.com:80")])),
        [format!(
            "{is}endpoints[0].lb_endpoints[0].endpoint.address.socket_address.address: \"example.com\" is not an IP address"
        )]
    );
    assert_eq!(
        assigned(assignment(HELLO, vec![plain("10.0.0.1:70000")])),
        [format!(
            "{is}endpoints[0].lb_endpoints[0].endpoint.address.socket_address.port_value: 70000 is not a port"
        )]
    );
    assert_eq!(
        assigned(assignment(HELLO, vec![weighted(0, plain("10.0.0.1:1"))])),
        [format!(
            "{is}endpoints[0].lb_endpoints[0].load_balancing_weight: must not be 0"
        )]
    );
    let dropping = ClusterLoadAssignment {
        policy: Some(AssignmentPolicy {
            drop_overloads: vec![DropOverload::default()],
            ..AssignmentPolicy::default()
        }),
        ..assignment(HELLO, Vec::new())
    };
    assert_eq!(
        assigned(dropping),
        [format!("{is}policy.drop_overloads: is not implemented")]
    );
    let nameless = assignment("", Vec::new());
    assert_eq!(
        assigned(nameless),
        ["load assignment \"\" is refused: name: is missing"]
    );
    let short = Changes {
        issuers: vec![Issuers {
            cluster: "c".into(),
            fingerprints: vec![vec![0; 20].into()],
        }],
        ..Changes::default()
    };
    assert_eq!(
        update(&Table::default(), short).1,
        ["issuers of cluster \"c\" is refused: fingerprints[0]: 20 bytes are not a SHA-256"]
    );
}

#[test]
fn hash_policies_mean_nothing_without_hashing() {
    let refusals = host(|host| {
        let Some(Action::Route(action)) = &mut host.routes[0].action else {
            unreachable!()
        };
        action.hash_policy = vec![HashPolicy::default()];
    });
    assert_eq!(refusals, Vec::<String>::new());
}

#[test]
fn a_refused_resource_leaves_what_was_there() {
    let before = table(sidecar());
    let mut bad = outbound(HELLO, HELLO_SNI);
    bad.lb_policy = LbPolicy::RingHash.into();
    let mut fine = outbound(DATABASE, "new-sni");
    fine.connect_timeout = None;
    let changes = Changes {
        clusters: vec![bad, fine],
        ..Changes::default()
    };
    let (after, refusals) = before.update(changes);
    assert_eq!(refusals.len(), 1);
    assert_eq!(
        (refusals[0].kind, &*refusals[0].name),
        (Kind::Cluster, HELLO)
    );
    assert!(Arc::ptr_eq(
        before.cluster(HELLO).unwrap(),
        after.cluster(HELLO).unwrap()
    ));
    let database = after.cluster(DATABASE).unwrap();
    let Transport::Mutual(tls) = database.transport(&database.endpoints()[0]) else {
        panic!("the database has mTLS");
    };
    assert_eq!(&*tls.sni, "new-sni");
}

#[test]
fn what_did_not_change_is_shared() {
    let before = table(sidecar());
    let changes = Changes {
        assignments: vec![assignment(HELLO, vec![direct(V1, &["cluster-1"])])],
        ..sidecar()
    };
    let (after, refusals) = before.update(changes);
    assert_eq!(refusals, []);
    for cluster in before.clusters() {
        let same = Arc::ptr_eq(cluster, after.cluster(cluster.name()).unwrap());
        assert_eq!(same, &**cluster.name() != HELLO, "{}", cluster.name());
    }
    assert_eq!(after.cluster(HELLO).unwrap().endpoints().len(), 1);
    let others_issuers = Changes {
        issuers: vec![issuers("cluster-9", 9)],
        ..Changes::default()
    };
    let (reissued, _) = after.update(others_issuers);
    for cluster in after.clusters() {
        assert!(Arc::ptr_eq(
            cluster,
            reissued.cluster(cluster.name()).unwrap()
        ));
    }
    let (same, _) = after.update(Changes::default());
    assert!(Arc::ptr_eq(&same.clusters, &after.clusters));
    assert!(Arc::ptr_eq(&same.listeners, &after.listeners));
}

#[test]
fn the_order_in_which_things_arrive_does_not_matter() {
    let mut table = Table::default();
    let all = sidecar();
    let parts = [
        Changes {
            listeners: all.listeners.clone(),
            ..Changes::default()
        },
        Changes {
            routes: all.routes.clone(),
            ..Changes::default()
        },
        Changes {
            clusters: all.clusters.clone(),
            ..Changes::default()
        },
        Changes {
            assignments: all.assignments.clone(),
            ..Changes::default()
        },
        Changes {
            issuers: all.issuers.clone(),
            ..Changes::default()
        },
    ];
    for part in parts {
        let (next, refusals) = table.update(part);
        assert_eq!(refusals, []);
        table = next;
    }
    let at_once = super::Table::build(all).0;
    for cluster in at_once.clusters() {
        assert_eq!(table.cluster(cluster.name()), Some(cluster));
    }
    assert!(table.missing().is_empty(), "{:?}", table.missing());
}

#[test]
fn an_assignment_of_another_name_finds_its_cluster() {
    let mut named = outbound(HELLO, HELLO_SNI);
    named.eds_cluster_config = Some(catamaran_wire::cluster::EdsClusterConfig {
        eds_config: None,
        service_name: "shared".into(),
    });
    let mut second = named.clone();
    second.name = "second".into();
    let (table, refusals) = Table::build(Changes {
        clusters: vec![named, second],
        ..Changes::default()
    });
    assert_eq!(refusals, []);
    let wanted: Vec<_> = table.wanted(Kind::Assignment).into_iter().collect();
    assert_eq!(wanted, ["shared".into()]);
    let changes = Changes {
        assignments: vec![assignment("shared", vec![plain("10.0.0.1:80")])],
        ..Changes::default()
    };
    let (mut table, _) = table.update(changes);
    for name in [HELLO, "second"] {
        assert_eq!(table.cluster(name).unwrap().endpoints().len(), 1);
    }
    let mut gone = Changes::default();
    gone.remove(Kind::Assignment, "shared");
    gone.remove(Kind::Cluster, "second");
    table = table.update(gone).0;
    assert_eq!(table.cluster(HELLO).unwrap().endpoints().len(), 0);
    assert!(table.cluster("second").is_none());
    let source = &table.cluster(HELLO).unwrap().settings().source;
    assert_eq!(*source, EndpointSource::Eds("shared".into()));
}

#[test]
fn an_address_that_is_there_twice_has_both_weights() {
    let endpoints = vec![
        weighted(2, gateway(GATEWAY, &["a"])),
        weighted(3, gateway(GATEWAY, &["a"])),
        weighted(7, gateway(GATEWAY, &["other"])),
    ];
    let table = table(only(endpoints));
    let endpoints = table.cluster(HELLO).unwrap().endpoints();
    assert_eq!(endpoints.len(), 1);
    assert_eq!(endpoints[0].weight, 5);
}

#[test]
fn what_is_sent_and_removed_at_once_stays() {
    let mut changes = sidecar();
    changes.remove(Kind::Cluster, HELLO);
    changes.remove(Kind::Listener, "virtualOutbound");
    let table = table(changes);
    assert!(table.has(Kind::Cluster, HELLO) && table.has(Kind::Listener, "virtualOutbound"));
}

#[test]
fn listeners_may_trade_addresses() {
    let before = table(Changes {
        listeners: vec![
            tcp_listener("a", "10.0.0.1:80", "x"),
            tcp_listener("b", "10.0.0.2:80", "x"),
        ],
        ..Changes::default()
    });
    let changes = Changes {
        listeners: vec![
            tcp_listener("a", "10.0.0.2:80", "x"),
            tcp_listener("b", "10.0.0.1:80", "x"),
        ],
        ..Changes::default()
    };
    let (after, refusals) = update(&before, changes);
    assert_eq!(refusals, Vec::<String>::new());
    let at = |address: &str| {
        let listener = after.listener_at(address.parse().unwrap());
        listener.map(|listener| listener.name().to_string())
    };
    assert_eq!(at("10.0.0.2:80"), Some("a".to_owned()));
    assert_eq!(at("10.0.0.1:80"), Some("b".to_owned()));
    assert_eq!(at("10.0.0.3:80"), None);
}

#[test]
fn the_listener_of_the_very_address_comes_before_that_of_the_port() {
    let table = table(Changes {
        listeners: vec![
            tcp_listener("any", "0.0.0.0:80", "x"),
            tcp_listener("one", "10.0.0.1:80", "x"),
        ],
        ..Changes::default()
    });
    let at = |address: &str| {
        let listener = table.listener_at(address.parse().unwrap());
        listener.map(|listener| listener.name().to_string())
    };
    assert_eq!(at("10.0.0.1:80").as_deref(), Some("one"));
    assert_eq!(at("[::ffff:10.0.0.1]:80").as_deref(), Some("one"));
    assert_eq!(at("10.0.0.2:80").as_deref(), Some("any"));
    assert_eq!(at("[fd00::1]:80").as_deref(), Some("any"));
    assert_eq!(at("10.0.0.2:81"), None);
}

/// The chain, named like its own number, that takes a connection.
fn chains(matches: Vec<FilterChainMatch>) -> impl Fn(&str, Option<&str>, Detected<'_>) -> String {
    let filter_chains = (0..)
        .zip(matches)
        .map(|(n, matcher)| catamaran_wire::listener::FilterChain {
            name: n.to_string(),
            ..chain(Some(matcher), tcp("x"))
        })
        .collect();
    let listener = Listener {
        listener_filters: vec![
            inspector(&TlsInspector::default()),
            inspector(&HttpInspector {}),
        ],
        filter_chains,
        ..listener("l", "0.0.0.0:1")
    };
    let listener = super::Listener::read(&listener, &mut Interner::default()).unwrap();
    move |to, from, detected| {
        let connection = Connection {
            entry: Entry::Outbound {
                destination: to.parse().unwrap(),
            },
            source: from.map(|from| from.parse().unwrap()),
            detected,
        };
        let chain = listener.chain(&connection);
        chain.map_or("none".to_owned(), |chain| chain.name().to_string())
    }
}

#[test]
fn each_step_of_a_match_takes_the_most_specific() {
    use catamaran_wire::core::CidrRange;
    let range = |address: &str, length| CidrRange {
        address_prefix: address.into(),
        prefix_len: Some(length),
    };
    let any = FilterChainMatch::default;
    let chain = chains(vec![
        any(),
        FilterChainMatch {
            destination_port: Some(443),
            ..any()
        },
        FilterChainMatch {
            destination_port: Some(443),
            server_names: vec!["a.example.com".into()],
            ..any()
        },
        FilterChainMatch {
            destination_port: Some(443),
            server_names: vec!["*.example.com".into()],
            transport_protocol: "tls".into(),
            ..any()
        },
        FilterChainMatch {
            destination_port: Some(443),
            server_names: vec!["*.example.com".into()],
            transport_protocol: "tls".into(),
            application_protocols: vec!["h2".into()],
            ..any()
        },
        FilterChainMatch {
            prefix_ranges: vec![range("10.0.0.0", 8)],
            ..any()
        },
        FilterChainMatch {
            prefix_ranges: vec![range("10.1.0.0", 16)],
            application_protocols: vec!["http/1.1".into()],
            ..any()
        },
        FilterChainMatch {
            source_prefix_ranges: vec![range("192.0.2.0", 24)],
            ..any()
        },
        FilterChainMatch {
            source_prefix_ranges: vec![range("192.0.2.0", 24)],
            source_ports: vec![99],
            ..any()
        },
    ]);
    let tls = |sni, alpn| Detected::Tls { sni, alpn };
    let none: &[&[u8]] = &[];
    let h2: &[&[u8]] = &[b"http/1.1", b"h2"];
    for (to, from, detected, taken) in [
        ("172.16.0.1:80", None, Detected::Opaque, "0"),
        ("172.16.0.1:443", None, Detected::Opaque, "1"),
        ("172.16.0.1:443", None, tls(None, none), "1"),
        (
            "172.16.0.1:443",
            None,
            tls(Some("a.example.com"), none),
            "2",
        ),
        (
            "172.16.0.1:443",
            None,
            tls(Some("b.example.com"), none),
            "3",
        ),
        (
            "172.16.0.1:443",
            None,
            tls(Some("c.b.example.com"), none),
            "3",
        ),
        ("172.16.0.1:443", None, tls(Some("b.example.com"), h2), "4"),
        ("172.16.0.1:443", None, tls(Some("example.com"), h2), "1"),
        ("10.2.0.1:80", None, Detected::Http1, "5"),
        ("10.1.0.1:80", None, Detected::Http1, "6"),
        // The longer range is not taken back when nothing in it fits.
        ("10.1.0.1:80", None, Detected::Opaque, "none"),
        ("172.16.0.1:80", Some("192.0.2.5:98"), Detected::Opaque, "7"),
        ("172.16.0.1:80", Some("192.0.2.5:99"), Detected::Opaque, "8"),
    ] {
        assert_eq!(
            chain(to, from, detected),
            taken,
            "{to} {from:?} {detected:?}"
        );
    }
}

/// Calls of every kind; none may panic.
fn exercise(table: &Table) {
    let view = View::new(7);
    let entries = [
        Entry::Outbound {
            destination: "10.96.0.5:5000".parse().unwrap(),
        },
        Entry::HttpProxy { port: 5000 },
        Entry::Inbound {
            destination: "10.1.1.4:80".parse().unwrap(),
        },
        Entry::Gateway {
            local: "10.2.0.2:15443".parse().unwrap(),
        },
    ];
    let tls = Detected::Tls {
        sni: Some(HELLO_SNI),
        alpn: &[b"istio"],
    };
    let request = Request {
        method: "GET",
        authority: "helloworld:5000",
        path: "/hello?x=1",
        headers: &(),
    };
    for entry in entries {
        for detected in [Detected::Opaque, Detected::Http1, Detected::Http2, tls] {
            for request in [None, Some(request)] {
                let arrival = Arrival {
                    connection: Connection {
                        entry,
                        source: None,
                        detected,
                    },
                    attempt: Attempt {
                        peer: Some(SLEEP_ID),
                        request,
                        tried: &[],
                        ticket: 3,
                    },
                };
                let now = catamaran_model::Timestamp(1);
                crate::explain(table, &view, "a", "b", &arrival, now);
                decide(table, &view, &arrival, now);
            }
        }
    }
    table.missing();
}

/// The bytes with some of them changed, cut or doubled.
fn mutated(bytes: &[u8], edits: &[(u8, usize, u8)]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for (kind, at, value) in edits {
        if bytes.is_empty() {
            break;
        }
        let at = at % bytes.len();
        match kind % 3 {
            0 => bytes[at] = *value,
            1 => bytes.truncate(at),
            _ => {
                let piece = bytes[at..].to_vec();
                bytes.extend(piece.iter().take(64));
            }
        }
    }
    bytes
}

fn again<M: Message + Default>(message: &M, edits: &[(u8, usize, u8)]) -> Option<M> {
    M::decode(&mutated(&message.encode_to_vec(), edits)[..]).ok()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn no_resource_makes_a_panic(
        which in 0usize..40,
        edits in proptest::collection::vec((any::<u8>(), any::<usize>(), any::<u8>()), 1..6),
        gateway in any::<bool>(),
    ) {
        let mut changes = if gateway { east_west() } else { sidecar() };
        let listeners: Vec<Listener> = changes.listeners.iter().filter_map(|m| again(m, &edits)).collect();
        let routes: Vec<RouteConfiguration> = changes.routes.iter().filter_map(|m| again(m, &edits)).collect();
        let clusters: Vec<Cluster> = changes.clusters.iter().filter_map(|m| again(m, &edits)).collect();
        let assignments: Vec<ClusterLoadAssignment> =
            changes.assignments.iter().filter_map(|m| again(m, &edits)).collect();
        match which % 4 {
            0 => changes.listeners.extend(listeners),
            1 => changes.routes.extend(routes),
            2 => changes.clusters.extend(clusters),
            _ => changes.assignments.extend(assignments),
        }
        let (table, _) = Table::build(changes.clone());
        exercise(&table);
        let (again, _) = table.update(changes);
        exercise(&again);
    }
}
