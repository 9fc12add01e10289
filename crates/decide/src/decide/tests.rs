use catamaran_model::{Fingerprint, Timestamp};
use catamaran_wire::route::{
    Action, ClusterWeight, DirectResponseAction, HeaderMatchSpecifier, HeaderMatcher,
    PathSpecifier, QueryParameterMatchSpecifier, QueryParameterMatcher, Route, RouteAction,
    RouteMatch, VirtualHost, WeightedCluster,
};
use catamaran_wire::{core, matcher, route as wire_route};

use crate::fixture::*;
use crate::{
    Arrival, Attempt, Cause, Changes, Connection, Decision, Detected, Entry, Forward, Headers,
    Kind, Request, Table, Transport, UpstreamProtocol, View, accept, decide, explain,
};

const NOW: Timestamp = Timestamp(1_000_000);
const VIP: Entry = outbound_to([10, 96, 0, 5], 5000);
const ISTIO: &[&[u8]] = &[b"istio-h2", b"istio"];

const fn outbound_to(ip: [u8; 4], port: u16) -> Entry {
    let ip = std::net::Ipv4Addr::new(ip[0], ip[1], ip[2], ip[3]);
    let destination = std::net::SocketAddr::V4(std::net::SocketAddrV4::new(ip, port));
    Entry::Outbound { destination }
}

fn get(authority: &str) -> Request<'_> {
    Request {
        method: "GET",
        authority,
        path: "/hello",
        headers: &(),
    }
}

/// A request of HTTP/1, or bytes when there is none.
fn arrival<'a>(entry: Entry, request: Option<Request<'a>>) -> Arrival<'a> {
    Arrival {
        connection: Connection {
            entry,
            source: None,
            detected: match request {
                Some(_) => Detected::Http1,
                None => Detected::Opaque,
            },
        },
        attempt: Attempt {
            peer: None,
            request,
            tried: &[],
            ticket: 0,
        },
    }
}

fn forwarded(decision: Decision) -> Forward {
    match decision {
        Decision::Forward(forward) => forward,
        other => panic!("not carried: {other}"),
    }
}

fn cause(decision: Decision) -> Cause {
    match decision {
        Decision::Reject(reject) => reject.cause,
        other => panic!("not rejected: {other}"),
    }
}

/// Calls one after the other, each told to the view, as they print.
fn calls(table: &Table, arrival: &Arrival<'_>, n: usize) -> Vec<String> {
    let mut view = View::new(0);
    let call = |_| {
        let decision = decide(table, &view, arrival, NOW);
        let text = decision.to_string();
        if let Decision::Forward(forward) = &decision {
            view.begin(forward);
        }
        text
    };
    (0..n).map(call).collect()
}

#[test]
fn captured_requests_reach_both_versions_in_turn() {
    let calls = calls(
        &table(sidecar()),
        &arrival(VIP, Some(get("helloworld:5000"))),
        4,
    );
    assert_eq!(
        calls,
        [
            "cluster-1/10.1.1.3:5000, mTLS",
            "cluster-2 via gateway 198.18.2.10:15443, mTLS",
            "cluster-1/10.1.1.3:5000, mTLS",
            "cluster-2 via gateway 198.18.2.10:15443, mTLS",
        ]
    );
}

#[test]
fn the_proxy_port_takes_the_port_from_the_authority() {
    let table = table(sidecar());
    let proxied = |authority| {
        let entry = Entry::http_proxy(authority);
        decide(
            &table,
            &View::new(0),
            &arrival(entry, Some(get(authority))),
            NOW,
        )
    };
    let forward = forwarded(proxied("helloworld:5000"));
    assert_eq!(forward.to_string(), "cluster-1/10.1.1.3:5000, mTLS");
    assert_eq!(cause(proxied("helloworld")), Cause::NoProxiedPort(80));
    // Nobody knows where that is: there is no original destination.
    assert_eq!(cause(proxied("example.com:5000")), Cause::NoDestination);
}

#[test]
fn what_no_service_has_goes_where_the_caller_wanted_to_go() {
    let table = table(sidecar());
    let requests = calls(&table, &arrival(VIP, Some(get("example.com"))), 1);
    assert_eq!(requests, ["10.96.0.5:5000, plain text"]);
    let elsewhere = outbound_to([192, 0, 2, 7], 443);
    assert_eq!(
        calls(&table, &arrival(elsewhere, None), 1),
        ["192.0.2.7:443, plain text"]
    );
}

#[test]
fn a_virtual_address_has_its_own_listener() {
    let table = table(sidecar());
    let arrival = arrival(outbound_to([10, 96, 0, 9], 3306), None);
    let forward = forwarded(decide(&table, &View::new(0), &arrival, NOW));
    assert_eq!(forward.protocol, UpstreamProtocol::Opaque);
    assert_eq!(
        forward.why.to_string(),
        format!("listener 10.96.0.9_3306 -> {DATABASE}, endpoint 1 of 1 by round robin")
    );
}

#[test]
fn explain_says_the_whole_way() {
    let table = table(sidecar());
    let mut view = View::new(0);
    let arrival = arrival(VIP, Some(get("helloworld:5000")));
    view.begin(&forwarded(decide(&table, &view, &arrival, NOW)));
    let text = explain(
        &table,
        &view,
        "sleep@cluster-1",
        "helloworld",
        &arrival,
        NOW,
    );
    assert_eq!(
        text,
        "\
sleep@cluster-1 -> helloworld: cluster-2 via gateway 198.18.2.10:15443, mTLS
  route 5000/helloworld.default.svc.cluster.local:5000 / -> outbound|5000||helloworld.default.svc.cluster.local, endpoint 2 of 2 by round robin
  asks for outbound_.5000_._.helloworld.default.svc.cluster.local, takes spiffe://cluster.local/ns/default/sa/helloworld issued by 02:02…02
  cluster-1/10.1.1.3:5000, mTLS, weight 1, 1 in flight
  cluster-2 via gateway 198.18.2.10:15443, mTLS, weight 1  <- this one
"
    );
}

#[test]
fn mesh_traffic_comes_in_and_nothing_else() {
    let table = table(sidecar());
    let inbound = |detected, peer| {
        let arrival = Arrival {
            connection: Connection {
                entry: Entry::Inbound {
                    destination: "10.1.1.4:80".parse().unwrap(),
                },
                source: None,
                detected,
            },
            attempt: Attempt {
                peer,
                request: Some(get("sleep")),
                tried: &[],
                ticket: 0,
            },
        };
        decide(&table, &View::new(0), &arrival, NOW)
    };
    let mesh = Detected::Tls {
        sni: Some("outbound_.80_._.sleep.default.svc.cluster.local"),
        alpn: ISTIO,
    };
    let forward = forwarded(inbound(mesh, Some(HELLO_ID)));
    assert_eq!(forward.to_string(), "127.0.0.1:80, plain text");
    assert_eq!(cause(inbound(mesh, None)), Cause::NoPeer);
    let stranger = "spiffe://other.local/ns/default/sa/helloworld";
    assert_eq!(cause(inbound(mesh, Some(stranger))), Cause::OtherPeer);
    assert_eq!(cause(inbound(Detected::Http1, None)), Cause::NoChain);
    let of_the_application = Detected::Tls {
        sni: Some("sleep"),
        alpn: &[b"h2"],
    };
    assert_eq!(cause(inbound(of_the_application, None)), Cause::NoChain);
}

#[test]
fn a_gateway_knows_its_services_by_server_name_and_takes_the_least_connected() {
    let table = table(east_west());
    let connection = |sni, alpn| Connection {
        entry: Entry::Gateway {
            local: "10.2.0.2:15443".parse().unwrap(),
        },
        source: None,
        detected: Detected::Tls { sni, alpn },
    };
    let arrival = |connection| Arrival {
        connection,
        attempt: Attempt {
            peer: None,
            request: None,
            tried: &[],
            ticket: 0,
        },
    };
    let mesh = arrival(connection(Some(HELLO_SNI), ISTIO));
    let mut view = View::new(0);
    let first = forwarded(decide(&table, &view, &mesh, NOW));
    assert_eq!(first.transport, Transport::Plain, "it opens nothing");
    view.begin(&first);
    let second = forwarded(decide(&table, &view, &mesh, NOW));
    view.begin(&second);
    assert_ne!(first.endpoint, second.endpoint);
    view.finish(&first, crate::Outcome::Closed, NOW);
    for _ in 0..3 {
        let next = forwarded(decide(&table, &view, &mesh, NOW));
        assert_eq!(next.endpoint, first.endpoint, "the other one is busy");
    }

    for (sni, alpn) in [
        (
            Some("outbound_.5000_._.other.default.svc.cluster.local"),
            ISTIO,
        ),
        (Some(HELLO_SNI), &[&b"h2"[..]][..]),
        (Some(HELLO_SNI), &[][..]),
        (None, ISTIO),
    ] {
        let refused = accept(&table, &connection(sni, alpn)).unwrap_err();
        assert_eq!(refused.cause, Cause::NoChain, "{sni:?} {alpn:?}");
    }
}

#[test]
fn a_peer_is_held_to_the_issuers_of_the_cluster_behind_its_address() {
    let mut changes = sidecar();
    changes.assignments = vec![assignment(
        HELLO,
        vec![
            direct(V1, &["cluster-1"]),
            gateway(GATEWAY, &["cluster-1", "cluster-2"]),
            gateway("198.18.3.10:15443", &["cluster-2", "cluster-3"]),
            plain("10.1.1.8:5000"),
        ],
    )];
    let table = table(changes);
    let cluster = table.cluster(HELLO).unwrap();
    let issuers: Vec<_> = cluster
        .endpoints()
        .iter()
        .map(|e| cluster.issuers(e))
        .collect();
    let both = [Fingerprint([1; 32]), Fingerprint([2; 32])];
    assert_eq!(issuers[0].unwrap()[..], both[..1]);
    assert_eq!(issuers[1].unwrap()[..], both[..]);
    assert_eq!(issuers[2], None, "nothing is known of cluster-3");
    assert_eq!(issuers[3], None, "nobody said whose this is");

    let mut later = Changes::default();
    later.issuers.push(issuers_of_nobody("cluster-3"));
    let (later, _) = table.update(later);
    let cluster = later.cluster(HELLO).unwrap();
    let third = cluster.issuers(&cluster.endpoints()[2]).unwrap();
    assert_eq!(third[..], both[1..], "cluster-3's may nobody speak for");
}

fn issuers_of_nobody(cluster: &str) -> catamaran_wire::own::Issuers {
    catamaran_wire::own::Issuers {
        cluster: cluster.into(),
        fingerprints: Vec::new(),
    }
}

#[test]
fn nothing_goes_through_a_gateway_in_plain_text() {
    let mut changes = sidecar();
    changes.clusters[0].transport_socket_matches.clear();
    let arrival = arrival(VIP, Some(get("helloworld")));
    let calls = calls(&table(changes), &arrival, 3);
    assert_eq!(calls, vec!["cluster-1/10.1.1.3:5000, plain text"; 3]);
}

#[test]
fn a_further_attempt_goes_to_another_cluster_if_it_can() {
    let endpoints = vec![
        direct(V1, &["cluster-1"]),
        direct("10.1.1.4:5000", &["cluster-1"]),
        gateway(GATEWAY, &["cluster-2"]),
    ];
    let mut changes = sidecar();
    changes.assignments = vec![assignment(HELLO, endpoints)];
    let table = table(changes);
    let first = arrival(VIP, Some(get("helloworld")));
    let after = |tried: &[std::net::SocketAddr]| {
        let arrival = Arrival {
            attempt: Attempt {
                tried,
                ..first.attempt
            },
            ..first
        };
        let forward = forwarded(decide(&table, &View::new(0), &arrival, NOW));
        (forward.endpoint.address.to_string(), forward.attempt)
    };
    let (v1, v1b, gw) = (
        V1.parse().unwrap(),
        "10.1.1.4:5000".parse().unwrap(),
        GATEWAY.parse().unwrap(),
    );
    assert_eq!(after(&[v1]), (GATEWAY.to_owned(), 2));
    assert_eq!(after(&[v1b, gw]), (V1.to_owned(), 3));
    assert_eq!(after(&[v1b]), (GATEWAY.to_owned(), 2));
    let (fourth, _) = after(&[v1, gw, v1b]);
    assert_ne!(fourth, "10.1.1.4:5000", "not the one just tried");
}

#[test]
fn with_one_endpoint_a_further_attempt_goes_there_again() {
    let mut changes = sidecar();
    changes.assignments = vec![assignment(HELLO, vec![direct(V1, &["cluster-1"])])];
    let table = table(changes);
    let tried = [V1.parse().unwrap()];
    let mut arrival = arrival(VIP, Some(get("helloworld")));
    arrival.attempt.tried = &tried;
    let forward = forwarded(decide(&table, &View::new(0), &arrival, NOW));
    assert_eq!(forward.endpoint.address, tried[0]);
}

#[test]
fn what_has_not_arrived_is_named() {
    let mut changes = sidecar();
    changes.clusters.retain(|cluster| cluster.name != HELLO);
    let without_cluster = table(changes.clone());
    let request = arrival(VIP, Some(get("helloworld")));
    let decision = decide(&without_cluster, &View::new(0), &request, NOW);
    assert_eq!(
        decision.to_string(),
        format!("not carried, 503 NC: cluster {HELLO:?} has not arrived")
    );
    let missing = without_cluster.missing();
    assert!(
        missing.contains(&(Kind::Cluster, HELLO.into())),
        "{missing:?}"
    );

    changes.routes.clear();
    let without_routes = table(changes);
    let decision = decide(&without_routes, &View::new(0), &request, NOW);
    assert_eq!(
        decision.to_string(),
        "not carried, 503 NR: route configuration \"5000\" has not arrived"
    );
    let missing = without_routes.missing();
    assert!(
        missing.contains(&(Kind::Route, "5000".into())),
        "{missing:?}"
    );
}

#[test]
fn more_than_the_limit_is_refused() {
    use catamaran_wire::cluster::{CircuitBreakers, Thresholds};
    let mut changes = sidecar();
    changes.clusters[0].circuit_breakers = Some(CircuitBreakers {
        thresholds: vec![Thresholds {
            max_requests: Some(2),
            ..Thresholds::default()
        }],
        ..CircuitBreakers::default()
    });
    let calls = calls(&table(changes), &arrival(VIP, Some(get("helloworld"))), 3);
    assert_eq!(
        calls[2],
        "not carried, 503 UO: the cluster's limit is reached"
    );
}

/// Who answers: a host of one route each, whose cluster says which route was taken.
fn routed(hosts: Vec<VirtualHost>) -> impl Fn(Request<'_>) -> String {
    let mut changes = sidecar();
    changes.routes = vec![routes("5000", hosts)];
    for name in ["a", "b", "c", "d"] {
        let address = format!("10.9.0.{}:80", name.as_bytes()[0]);
        changes.clusters.push(fixed(name, &[&address]));
    }
    let table = table(changes);
    move |request| match decide(&table, &View::new(0), &arrival(VIP, Some(request)), NOW) {
        Decision::Forward(forward) => forward.cluster.name().to_string(),
        Decision::Respond(respond) => format!("{} {:?}", respond.status, respond.body),
        Decision::Reject(reject) => reject.flag.to_string(),
    }
}

fn host(domains: &[&str], routes: Vec<Route>) -> VirtualHost {
    VirtualHost {
        name: domains[0].into(),
        domains: domains.iter().map(|domain| (*domain).into()).collect(),
        routes,
        ..VirtualHost::default()
    }
}

#[test]
fn the_most_specific_domain_has_the_request() {
    let answers = routed(vec![
        host(&["*.example.com", "*"], vec![route("a")]),
        host(&["*.api.example.com", "www.*"], vec![route("b")]),
        host(&["www.example.com"], vec![route("c")]),
        host(&["www.example.com:8080", "[::1]:8080"], vec![route("d")]),
    ]);
    for (authority, answer) in [
        ("x.example.com", "a"),
        ("x.api.example.com", "b"),
        (".api.example.com", "a"),
        ("www.other.org", "b"),
        ("www.example.com", "c"),
        ("WWW.Example.COM", "c"),
        ("www.example.com:8080", "d"),
        ("[::1]:8080", "d"),
        ("other.org", "a"),
        ("", "a"),
    ] {
        assert_eq!(answers(get(authority)), answer, "{authority}");
    }
}

fn matched(matcher: RouteMatch, cluster: &str) -> Route {
    Route {
        r#match: Some(matcher),
        ..route(cluster)
    }
}

#[test]
fn the_first_route_that_matches_has_the_request() {
    let exact = PathSpecifier::Path("/exact".into());
    let segments = PathSpecifier::PathSeparatedPrefix("/api".into());
    let path = |specifier| RouteMatch {
        path_specifier: Some(specifier),
        ..RouteMatch::default()
    };
    let any_case = RouteMatch {
        case_sensitive: Some(false),
        ..prefix("/upper")
    };
    let answers = routed(vec![host(
        &["*"],
        vec![
            matched(path(exact), "a"),
            matched(path(segments), "b"),
            matched(any_case, "c"),
            matched(prefix("/d"), "d"),
        ],
    )]);
    for (path, answer) in [
        ("/exact", "a"),
        ("/exact?q=1", "a"),
        ("/exact#f", "a"),
        ("/exact/", "NR"),
        ("/api", "b"),
        ("/api/x", "b"),
        ("/api?x", "b"),
        ("/apis", "NR"),
        ("/UPPER/x", "c"),
        ("/dx", "d"),
        ("/D", "NR"),
        ("", "NR"),
        ("*", "NR"),
    ] {
        let request = Request { path, ..get("x") };
        assert_eq!(answers(request), answer, "{path}");
    }
}

#[test]
fn headers_and_parameters_are_matched() {
    let header = |name: &str, specifier, invert| HeaderMatcher {
        name: name.into(),
        header_match_specifier: Some(specifier),
        invert_match: invert,
        ..HeaderMatcher::default()
    };
    let with = |headers| RouteMatch {
        headers,
        ..prefix("/")
    };
    let contains = HeaderMatchSpecifier::StringMatch(matcher::StringMatcher {
        match_pattern: Some(matcher::MatchPattern::Contains("Canary".into())),
        ignore_case: true,
    });
    let range = HeaderMatchSpecifier::RangeMatch(matcher::Int64Range { start: 5, end: 9 });
    let query = RouteMatch {
        query_parameters: vec![QueryParameterMatcher {
            name: "v".into(),
            query_parameter_match_specifier: Some(QueryParameterMatchSpecifier::StringMatch(
                matcher::StringMatcher {
                    match_pattern: Some(matcher::MatchPattern::Exact("2".into())),
                    ignore_case: false,
                },
            )),
        }],
        ..prefix("/")
    };
    let not_internal = header(
        "X-Origin",
        HeaderMatchSpecifier::ExactMatch("internal".into()),
        true,
    );
    let answers = routed(vec![host(
        &["*"],
        vec![
            matched(with(vec![header("x-track", contains, false)]), "a"),
            matched(with(vec![header("x-level", range, false)]), "b"),
            matched(query, "c"),
            matched(with(vec![not_internal]), "d"),
        ],
    )]);
    let ask = |path, headers: &dyn Headers| {
        answers(Request {
            path,
            headers,
            ..get("x")
        })
    };
    assert_eq!(ask("/", &[("x-track", "the-canary-1")]), "a");
    assert_eq!(ask("/", &[("x-level", "5")]), "b");
    assert_eq!(ask("/", &[("x-level", "9")]), "NR");
    assert_eq!(ask("/", &[("x-level", "many")]), "NR");
    assert_eq!(ask("/?a=1&v=2", &()), "c");
    assert_eq!(ask("/?v=22", &()), "NR");
    assert_eq!(ask("/", &[("x-origin", "outside")]), "d");
    assert_eq!(ask("/", &[("x-origin", "internal")]), "NR");
    assert_eq!(ask("/", &()), "NR", "what is missing is not inverted");
}

#[test]
fn a_route_may_answer_by_itself() {
    let response = DirectResponseAction {
        status: 418,
        body: Some(core::DataSource {
            specifier: Some(core::DataSourceSpecifier::InlineString("short".into())),
            ..core::DataSource::default()
        }),
        ..DirectResponseAction::default()
    };
    let teapot = Route {
        action: Some(Action::DirectResponse(response)),
        ..route("a")
    };
    let answers = routed(vec![host(&["*"], vec![teapot])]);
    assert_eq!(answers(get("x")), "418 b\"short\"");
}

#[test]
fn clusters_get_their_share_of_requests() {
    let weight = |name: &str, weight| ClusterWeight {
        name: name.into(),
        weight: Some(weight),
        ..ClusterWeight::default()
    };
    let action = Action::Route(RouteAction {
        cluster_specifier: Some(wire_route::ClusterSpecifier::WeightedClusters(
            WeightedCluster {
                clusters: vec![weight("a", 90), weight("b", 10), weight("c", 0)],
                ..WeightedCluster::default()
            },
        )),
        ..RouteAction::default()
    });
    let mut changes = sidecar();
    let split = Route {
        action: Some(action),
        ..route("")
    };
    changes.routes = vec![routes("5000", vec![host(&["*"], vec![split])])];
    changes.clusters.push(fixed("a", &["10.9.0.1:80"]));
    changes.clusters.push(fixed("b", &["10.9.0.2:80"]));
    let table = table(changes);
    let mut to_b = 0;
    for ticket in 0..10_000 {
        let mut arrival = arrival(VIP, Some(get("x")));
        arrival.attempt.ticket = ticket;
        let forward = forwarded(decide(&table, &View::new(0), &arrival, NOW));
        match &**forward.cluster.name() {
            "a" => {}
            "b" => to_b += 1,
            other => panic!("{other} has no share"),
        }
    }
    assert!(
        (900..1100).contains(&to_b),
        "{to_b} of 10000 are not a tenth"
    );
}

#[test]
fn paths_are_put_in_one_form_before_they_are_matched() {
    let mut changes = sidecar();
    let manager = catamaran_wire::hcm::HttpConnectionManager {
        normalize_path: Some(true),
        ..manager("5000")
    };
    let name = catamaran_wire::extension::HTTP_CONNECTION_MANAGER;
    changes.listeners[1].filter_chains[0].filters = vec![filter(name, &manager)];
    let admin = matched(prefix("/admin"), "BlackHoleCluster");
    changes.routes[0].virtual_hosts[0].routes.insert(0, admin);
    let table = table(changes);
    let request = Request {
        path: "/hello/%2e%2e/%61dmin",
        ..get("helloworld")
    };
    let decision = decide(&table, &View::new(0), &arrival(VIP, Some(request)), NOW);
    assert_eq!(
        decision.to_string(),
        "not carried, 503 UH: no endpoint may be used"
    );
}
