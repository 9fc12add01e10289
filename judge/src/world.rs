//! Resources drawn from a seed: one bootstrap with many HTTP listeners, each a different configuration over the same programs.

use std::net::SocketAddr;

use serde_json::{Map, Value, json};

use crate::lots::Lots;

/// The first listener's port; the others follow.
pub const PORT: u16 = 20_000;

const HCM: &str = "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";
const ROUTER: &str = "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router";
const OPTIONS: &str = "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
const TCP: &str = "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy";

/// Domains that virtual hosts are drawn from; a listener has each once.
pub const DOMAINS: [&str; 9] = [
    "a.test",
    "b.test",
    "a.test:8080",
    "*.wild.test",
    "*.deep.wild.test",
    "*-suffix.test",
    "pre.*",
    "prefix.*",
    "*",
];
/// Paths that routes are drawn from.
pub const PATHS: [&str; 8] = [
    "/",
    "/a",
    "/a/",
    "/a/b",
    "/A",
    "/a%2Fb",
    "/long/er/path",
    "/x",
];
/// Names of headers that are matched.
pub const NAMES: [&str; 3] = ["x-kind", "x-version", "x-number"];
/// Values of headers and parameters.
pub const VALUES: [&str; 6] = ["one", "two", "One", "onetwo", "", "7"];

/// The programs of a world.
#[derive(Debug, Clone)]
pub struct Programs {
    /// Those that speak HTTP/1.1, by name.
    pub http1: Vec<(String, SocketAddr)>,
    /// Those that speak HTTP/2, by name.
    pub http2: Vec<(String, SocketAddr)>,
    /// Those that carry bytes.
    pub bytes: Vec<(String, SocketAddr)>,
    /// Where nobody listens.
    pub nobody: SocketAddr,
}

/// A cluster of these endpoints.
pub fn cluster(name: &str, endpoints: &[SocketAddr], http2: bool) -> Value {
    let endpoints: Vec<Value> = endpoints.iter().map(|at| endpoint(*at)).collect();
    let protocol = match http2 {
        true => json!({"http2_protocol_options": {}}),
        false => json!({"http_protocol_options": {}}),
    };
    json!({
        "name": name,
        "type": "STATIC",
        "connect_timeout": "2s",
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": endpoints}]},
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {"@type": OPTIONS, "explicit_http_config": protocol},
        },
    })
}

fn endpoint(at: SocketAddr) -> Value {
    json!({"endpoint": {"address": {"socket_address": {"address": at.ip().to_string(), "port_value": at.port()}}}})
}

/// All clusters over the programs: one of each, `nobody`, and `dying`, whose first endpoint is not there.
pub fn clusters(programs: &Programs) -> Vec<Value> {
    let mut all: Vec<Value> = Vec::new();
    for (name, at) in programs.http1.iter().chain(&programs.bytes) {
        all.push(cluster(name, &[*at], false));
    }
    for (name, at) in &programs.http2 {
        all.push(cluster(name, &[*at], true));
    }
    all.push(cluster("nobody", &[programs.nobody], false));
    all
}

/// A listener with one HTTP connection manager.
pub fn http_listener(at: usize, manager: Map<String, Value>) -> Value {
    let mut whole = json!({
        "@type": HCM,
        "stat_prefix": "http",
        // so that nobody has to wait for Envoy to close what it refused
        "delayed_close_timeout": "0.05s",
        "server_name": "somebody",
        "http_filters": [{"name": "envoy.filters.http.router", "typed_config": {"@type": ROUTER}}],
    });
    for (key, value) in manager {
        whole[&key] = value;
    }
    listener(
        at,
        json!({"name": "envoy.filters.network.http_connection_manager", "typed_config": whole}),
    )
}

/// A listener that carries bytes to a cluster.
pub fn tcp_listener(at: usize, cluster: &str) -> Value {
    listener(at, tcp(cluster))
}

fn tcp(cluster: &str) -> Value {
    json!({
        "name": "envoy.filters.network.tcp_proxy",
        "typed_config": {"@type": TCP, "stat_prefix": "tcp", "cluster": cluster},
    })
}

/// A listener that looks at the server name and carries bytes by it, as a gateway does.
pub fn sni_listener(at: usize, ways: &[(&[&str], &str)]) -> Value {
    let chains: Vec<Value> = ways
        .iter()
        .map(|(names, cluster)| {
            json!({"filter_chain_match": {"server_names": names}, "filters": [tcp(cluster)]})
        })
        .collect();
    json!({
        "name": format!("l{at}"),
        "address": {"socket_address": {"address": "IP", "port_value": PORT + at as u16}},
        "listener_filters": [{
            "name": "envoy.filters.listener.tls_inspector",
            "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector"},
        }],
        "filter_chains": chains,
    })
}

fn listener(at: usize, filter: Value) -> Value {
    json!({
        "name": format!("l{at}"),
        "address": {"socket_address": {"address": "IP", "port_value": PORT + at as u16}},
        "filter_chains": [{"filters": [filter]}],
    })
}

/// Draws the configuration of one HTTP listener.
pub fn draw(lots: &mut Lots, programs: &Programs) -> Map<String, Value> {
    let mut names: Vec<String> = Vec::new();
    for (name, _) in programs.http1.iter().chain(&programs.http2) {
        names.push(name.clone());
    }
    let mut domains: Vec<&str> = DOMAINS.to_vec();
    let mut hosts = Vec::new();
    for at in 0..1 + lots.below(3) {
        let mut own = Vec::new();
        if at == 0 && !lots.once_in(10) {
            own.push("*");
            domains.retain(|domain| *domain != "*");
        }
        for _ in 0..1 + lots.below(2) {
            own.push(domains.swap_remove(lots.below(domains.len())));
        }
        let routes: Vec<Value> = (0..1 + lots.below(4))
            .map(|_| route(lots, &names))
            .collect();
        let mut host = json!({"name": format!("h{at}"), "domains": own, "routes": routes});
        if lots.once_in(4) {
            host["include_request_attempt_count"] = true.into();
        }
        hosts.push(host);
    }
    let mut manager = Map::new();
    let mut config = json!({"name": "r", "virtual_hosts": hosts});
    if lots.once_in(5) {
        config["ignore_port_in_host_matching"] = true.into();
    }
    manager.insert("route_config".into(), config);
    for (key, value) in [
        ("normalize_path", json!(true)),
        ("strip_any_host_port", json!(true)),
        ("strip_trailing_host_dot", json!(true)),
        ("generate_request_id", json!(false)),
        ("server_header_transformation", json!("PASS_THROUGH")),
        ("server_header_transformation", json!("APPEND_IF_ABSENT")),
        ("max_request_headers_kb", json!(8)),
        ("upgrade_configs", json!([{"upgrade_type": "websocket"}])),
    ] {
        if lots.once_in(4) {
            manager.insert(key.into(), value);
        }
    }
    manager
}

fn route(lots: &mut Lots, names: &[String]) -> Value {
    let path = lots.one(&PATHS);
    let mut matcher = match lots.below(4) {
        0 => json!({"path": path}),
        1 if path != "/" && !path.ends_with('/') => json!({"path_separated_prefix": path}),
        _ => json!({"prefix": path}),
    };
    if lots.once_in(5) {
        matcher["case_sensitive"] = false.into();
    }
    if lots.once_in(4) {
        matcher["headers"] = json!([header(lots)]);
    }
    if lots.once_in(5) {
        let value = lots.one(&VALUES);
        matcher["query_parameters"] = match lots.below(2) {
            0 => json!([{"name": "q", "present_match": true}]),
            _ => json!([{"name": "q", "string_match": {"exact": value}}]),
        };
    }
    if lots.once_in(6) {
        let status = lots.one(&[200, 204, 302, 403, 404, 503]);
        let body = lots.one(&["", "told you so\n"]);
        let mut response = json!({"status": status});
        if !body.is_empty() {
            response["body"] = json!({"inline_string": body});
        }
        return json!({"match": matcher, "direct_response": response});
    }
    let mut action = match lots.below(8) {
        0 => {
            let (one, other) = (lots.one(names), lots.one(names));
            json!({"weighted_clusters": {"clusters": [{"name": one, "weight": 100}, {"name": other, "weight": 0}]}})
        }
        1 => json!({"cluster": "nobody"}),
        _ => json!({"cluster": lots.one(names)}),
    };
    action["timeout"] = lots.one(&["0s", "4s"]).into();
    if lots.once_in(4) {
        let on = lots.one(&[
            "5xx",
            "gateway-error",
            "connect-failure",
            "retriable-4xx",
            "retriable-status-codes",
        ]);
        action["retry_policy"] =
            json!({"retry_on": on, "num_retries": 1, "retriable_status_codes": [404]});
    }
    json!({"match": matcher, "route": action})
}

fn header(lots: &mut Lots) -> Value {
    let name = lots.one(&[NAMES[0], NAMES[1], NAMES[2], ":method", ":authority"]);
    let value = match name {
        ":method" => lots.one(&["GET", "POST"]),
        ":authority" => lots.one(&["a.test", "b.test:8080"]),
        _ => lots.one(&VALUES),
    };
    let mut matcher = json!({"name": name});
    match lots.below(6) {
        0 => matcher["present_match"] = lots.once_in(2).into(),
        1 if !value.is_empty() => matcher["string_match"] = json!({"prefix": value}),
        2 if !value.is_empty() => matcher["string_match"] = json!({"suffix": value}),
        3 if !value.is_empty() => {
            matcher["string_match"] = json!({"contains": value, "ignore_case": true})
        }
        4 => matcher["range_match"] = json!({"start": 5, "end": 9}),
        _ => matcher["string_match"] = json!({"exact": value}),
    }
    if lots.once_in(4) {
        matcher["invert_match"] = true.into();
    }
    if lots.once_in(6) {
        matcher["treat_missing_header_as_empty"] = true.into();
    }
    matcher
}
