//! The one file that drives both proxies: Envoy's bootstrap as JSON.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde_json::{Value as Json, json};

use super::certificates::{Certificates, spiffe};

/// What the two sidecars of a pair speak to each other, in mutual TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Speaks {
    /// HTTP/1.1; both route it.
    Http1,
    /// HTTP/2; both route it, the caller and the backend speak HTTP/1.1.
    Http2,
    /// Bytes that neither looks into.
    Tcp,
}

/// Which proxy of the path a bootstrap is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// The caller's sidecar: takes plain text, opens TLS.
    Client,
    /// Between the two: passes TLS through by its server name.
    Gateway,
    /// The backend's sidecar: ends TLS, speaks plain text.
    Server,
}

impl Place {
    /// Its name, for files and records.
    pub fn word(self) -> &'static str {
        match self {
            Place::Client => "client",
            Place::Gateway => "gateway",
            Place::Server => "server",
        }
    }
}

/// What one proxy is told.
#[derive(Debug, Clone)]
pub struct Bootstrap {
    /// Where in the path it stands.
    pub place: Place,
    /// What the sidecars speak.
    pub speaks: Speaks,
    /// Where it listens.
    pub listen: SocketAddr,
    /// Where its admin pages are.
    pub admin: SocketAddr,
    /// The next hop.
    pub upstream: SocketAddr,
    /// Whether TLS sessions may be resumed.
    pub resume: bool,
    /// Clusters beside the one in use: two endpoints, a TLS context and a virtual host with three domains each.
    pub idle_clusters: usize,
}

/// The server name of the one service.
const SNI: &str = "outbound_.80_._.svc.bench.svc.cluster.local";

const V3: &str = "type.googleapis.com/envoy.extensions";

impl Bootstrap {
    /// The file's content.
    pub fn json(&self, certificates: &Certificates) -> Json {
        let workload = match self.place {
            Place::Client => "client",
            Place::Gateway | Place::Server => "server",
        };
        let mut clusters = vec![self.cluster()];
        clusters.extend((0..self.idle_clusters).map(idle_cluster));
        let file = |path: PathBuf| json!({"filename": path});
        json!({
            "node": {"id": self.place.word(), "cluster": "bench"},
            "admin": {"address": address(self.admin)},
            "static_resources": {
                "listeners": [self.listener()],
                "clusters": clusters,
                "secrets": [
                    {"name": "default", "tls_certificate": {
                        "certificate_chain": file(certificates.chain(workload)),
                        "private_key": file(certificates.key(workload)),
                    }},
                    {"name": "ROOTCA", "validation_context": {"trusted_ca": file(certificates.root())}},
                ],
            },
        })
    }

    fn http(&self) -> bool {
        self.speaks != Speaks::Tcp && self.place != Place::Gateway
    }

    fn cluster(&self) -> Json {
        let mut cluster = cluster("svc", &[self.upstream]);
        if self.place == Place::Client {
            let alpn = match self.speaks {
                Speaks::Http1 => "http/1.1",
                Speaks::Http2 => "h2",
                Speaks::Tcp => "istio",
            };
            cluster["transport_socket"] = upstream_tls(SNI, alpn, self.resume);
        }
        if self.http() {
            let http2 = self.place == Place::Client && self.speaks == Speaks::Http2;
            cluster["typed_extension_protocol_options"] = protocol(http2);
        }
        cluster
    }

    fn listener(&self) -> Json {
        let mut chain =
            json!({"filters": [if self.http() { self.http_filter() } else { tcp_filter() }]});
        let mut inspectors = json!([]);
        match self.place {
            Place::Client => {}
            Place::Server => {
                let alpn = match self.speaks {
                    Speaks::Tcp => json!(["istio"]),
                    Speaks::Http1 | Speaks::Http2 => json!(["h2", "http/1.1"]),
                };
                chain["transport_socket"] = downstream_tls(alpn, self.resume);
            }
            Place::Gateway => {
                chain["filter_chain_match"] = json!({"server_names": [SNI]});
                inspectors = json!([{
                    "name": "envoy.filters.listener.tls_inspector",
                    "typed_config": {"@type": format!("{V3}.filters.listener.tls_inspector.v3.TlsInspector")},
                }]);
            }
        }
        json!({
            "name": "in",
            "address": address(self.listen),
            "listener_filters": inspectors,
            "filter_chains": [chain],
        })
    }

    /// With what a mesh switches on: access log, request id, retries, a time limit, and on the server's side who called.
    fn http_filter(&self) -> Json {
        let route = |cluster: &str| {
            json!([{"match": {"prefix": "/"}, "route": {
                "cluster": cluster,
                "timeout": "15s",
                "retry_policy": {"retry_on": "connect-failure,refused-stream,unavailable", "num_retries": 2},
            }}])
        };
        let mut hosts: Vec<Json> = (0..self.idle_clusters)
            .map(|at| {
                let name = cluster_name(at);
                json!({"name": name, "domains": domains(at), "routes": route(&name)})
            })
            .collect();
        hosts.push(json!({"name": "svc", "domains": ["svc.bench.svc.cluster.local"], "routes": route("svc")}));
        let mut manager = json!({
            "@type": format!("{V3}.filters.network.http_connection_manager.v3.HttpConnectionManager"),
            "stat_prefix": "in",
            "codec_type": "AUTO",
            "generate_request_id": true,
            "access_log": [access_log()],
            "route_config": {"name": "r", "virtual_hosts": hosts},
            "http_filters": [{
                "name": "envoy.filters.http.router",
                "typed_config": {"@type": format!("{V3}.filters.http.router.v3.Router")},
            }],
        });
        if self.place == Place::Server {
            manager["forward_client_cert_details"] = json!("APPEND_FORWARD");
            manager["set_current_client_cert_details"] = json!({"subject": true, "uri": true});
        }
        json!({"name": "envoy.filters.network.http_connection_manager", "typed_config": manager})
    }
}

/// Envoy's access log says what ours says, as ours does: one JSON object for each request or connection.
fn access_log() -> Json {
    let fields = [
        ("start", "START_TIME"),
        ("method", "REQ(:METHOD)"),
        ("path", "REQ(:PATH)"),
        ("authority", "REQ(:AUTHORITY)"),
        ("status", "RESPONSE_CODE"),
        ("flags", "RESPONSE_FLAGS"),
        ("received", "BYTES_RECEIVED"),
        ("sent", "BYTES_SENT"),
        ("took", "DURATION"),
        ("upstream", "UPSTREAM_HOST"),
        ("cluster", "UPSTREAM_CLUSTER"),
        ("request", "REQ(X-REQUEST-ID)"),
        ("peer", "DOWNSTREAM_PEER_URI_SAN"),
    ];
    let fields: serde_json::Map<String, Json> = fields
        .iter()
        .map(|(name, what)| ((*name).to_owned(), json!(format!("%{what}%"))))
        .collect();
    json!({"name": "envoy.access_loggers.file", "typed_config": {
        "@type": format!("{V3}.access_loggers.file.v3.FileAccessLog"),
        "path": "/dev/null",
        "log_format": {"json_format": fields},
    }})
}

fn tcp_filter() -> Json {
    json!({"name": "envoy.filters.network.tcp_proxy", "typed_config": {
        "@type": format!("{V3}.filters.network.tcp_proxy.v3.TcpProxy"),
        "stat_prefix": "in",
        "cluster": "svc",
        "access_log": [access_log()],
    }})
}

/// TLS 1.3, X25519, and the peer's SPIFFE name is checked. Envoy alone would take X25519MLKEM768.
fn common_tls(alpn: Json, peer: &str) -> Json {
    json!({
        "tls_params": {
            "tls_minimum_protocol_version": "TLSv1_3",
            "tls_maximum_protocol_version": "TLSv1_3",
            "ecdh_curves": ["X25519"],
        },
        "alpn_protocols": alpn,
        "tls_certificate_sds_secret_configs": [{"name": "default"}],
        "combined_validation_context": {
            "default_validation_context": {"match_typed_subject_alt_names": [
                {"san_type": "URI", "matcher": {"exact": spiffe(peer)}},
            ]},
            "validation_context_sds_secret_config": {"name": "ROOTCA"},
        },
    })
}

fn upstream_tls(sni: &str, alpn: &str, resume: bool) -> Json {
    let mut tls = json!({"name": "envoy.transport_sockets.tls", "typed_config": {
        "@type": format!("{V3}.transport_sockets.tls.v3.UpstreamTlsContext"),
        "sni": sni,
        "common_tls_context": common_tls(json!([alpn]), "server"),
    }});
    if !resume {
        tls["typed_config"]["max_session_keys"] = json!(0);
    }
    tls
}

fn downstream_tls(alpn: Json, resume: bool) -> Json {
    json!({"name": "envoy.transport_sockets.tls", "typed_config": {
        "@type": format!("{V3}.transport_sockets.tls.v3.DownstreamTlsContext"),
        "require_client_certificate": true,
        "disable_stateless_session_resumption": !resume,
        "disable_stateful_session_resumption": !resume,
        "common_tls_context": common_tls(alpn, "client"),
    }})
}

fn cluster(name: &str, endpoints: &[SocketAddr]) -> Json {
    let endpoints: Vec<Json> = endpoints
        .iter()
        .map(|endpoint| json!({"endpoint": {"address": address(*endpoint)}}))
        .collect();
    json!({
        "name": name,
        "type": "STATIC",
        "connect_timeout": "5s",
        "lb_policy": "LEAST_REQUEST",
        "circuit_breakers": {"thresholds": [{
            "max_connections": 100_000,
            "max_pending_requests": 100_000,
            "max_requests": 100_000,
            "max_retries": 100_000,
        }]},
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": endpoints}]},
    })
}

fn protocol(http2: bool) -> Json {
    let options = match http2 {
        true => json!({"http2_protocol_options": {}}),
        false => json!({"http_protocol_options": {}}),
    };
    json!({"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
        "@type": format!("{V3}.upstreams.http.v3.HttpProtocolOptions"),
        "explicit_http_config": options,
    }})
}

fn address(address: SocketAddr) -> Json {
    json!({"socket_address": {"address": address.ip(), "port_value": address.port()}})
}

fn cluster_name(at: usize) -> String {
    format!("outbound|8080||svc-{at}.ns-{}.svc.cluster.local", at % 50)
}

fn domains(at: usize) -> [String; 3] {
    let (high, low, ns) = (at >> 8 & 255, at & 255, at % 50);
    [
        format!("svc-{at}.ns-{ns}.svc.cluster.local"),
        format!("svc-{at}.ns-{ns}"),
        format!("10.96.{high}.{low}"),
    ]
}

fn idle_cluster(at: usize) -> Json {
    let (high, low) = ((at >> 8 & 255) as u8, (at & 255) as u8);
    let endpoints = [1, 2].map(|last| SocketAddr::from(([10, high, low, last], 8080)));
    let mut cluster = cluster(&cluster_name(at), &endpoints);
    let sni = format!(
        "outbound_.8080_._.svc-{at}.ns-{}.svc.cluster.local",
        at % 50
    );
    cluster["transport_socket"] = upstream_tls(&sni, "h2", true);
    cluster["typed_extension_protocol_options"] = protocol(true);
    cluster
}
