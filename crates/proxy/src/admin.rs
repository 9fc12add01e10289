//! What people and programs may look at: what the proxy was told, what it refused, who it is, and how it goes.
//!
//! | page | what it shows |
//! |---|---|
//! | `/ready`, `/healthz/ready` | 200 when the proxy takes traffic, 503 with what it waits for |
//! | `/config_dump` | every resource as JSON with its version, and what was refused; `?kind=cluster` for one kind |
//! | `/clusters` | endpoints: address, weight, health, who stands behind a gateway, how each worker that called them sees them |
//! | `/certs` | the certificate's chain, the trusted roots, when it is renewed |
//! | `/stats/prometheus` | metrics |
//! | `/app-health/CONTAINER/livez`, `readyz`, `startupz` | on the health port: the workload's own probes, see [`app_probe`] |
//! | `POST /drain` | ends the proxy: no new connections, then those under way end |

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use catamaran_decide::{EndpointHealth, Table, Via};
use catamaran_identity::{CertificateFacts, Credentials};
use catamaran_model::Timestamp;
use catamaran_process::Process;
use catamaran_process::http::{Answer, answer, json as json_answer, text};
use catamaran_xds::TypeUrlKind;
use http::{Method, Request, StatusCode};
use serde_json::{Value as Json, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::sync::watch;

use app_probe::Prober;

use crate::carry::{Sight, Sights, SocketState, Sockets};
use crate::certificate::{CertificateStatus, now};
use crate::control::ControlStatus;

pub(crate) mod app_probe;
pub(crate) mod render;

/// How long the workers are waited for.
const SIGHTS_WAIT: Duration = Duration::from_secs(1);

/// Everything that the pages show.
#[derive(Clone)]
pub(crate) struct Admin {
    pub(crate) process: Process,
    pub(crate) node: String,
    pub(crate) credentials: Arc<Credentials>,
    pub(crate) certificate: watch::Receiver<CertificateStatus>,
    pub(crate) control: watch::Receiver<ControlStatus>,
    pub(crate) tables: watch::Receiver<Arc<Table>>,
    pub(crate) carried: watch::Receiver<Option<Carried>>,
}

/// What the data path can be asked, once there is one.
#[derive(Debug, Clone)]
pub(crate) struct Carried {
    pub(crate) sockets: Sockets,
    pub(crate) sights: Sights,
}

impl Admin {
    /// Answers a request on loopback or the admin socket.
    pub(crate) async fn answer(self, request: Request<Bytes>) -> Answer {
        let query = request.uri().query().unwrap_or_default();
        match (request.method(), request.uri().path()) {
            (&Method::GET, "/ready" | "/healthz/ready") => self.ready(),
            (&Method::GET, "/config_dump") => self.config_dump(query),
            (&Method::GET, "/clusters") => pretty(&self.clusters().await),
            (&Method::GET, "/certs") => {
                pretty(&certs(&self.credentials, &self.certificate.borrow()))
            }
            (&Method::GET, "/stats/prometheus") => answer(
                StatusCode::OK,
                "text/plain; version=0.0.4; charset=utf-8",
                self.process.metrics().render(),
            ),
            (&Method::POST, "/drain") => {
                self.process.stop("POST /drain");
                text(StatusCode::OK, "draining\n")
            }
            (_, "/drain") => text(StatusCode::METHOD_NOT_ALLOWED, "use POST\n"),
            (&Method::GET, "/") => text(
                StatusCode::OK,
                "/ready\n/config_dump\n/clusters\n/certs\n/stats/prometheus\nPOST /drain\n",
            ),
            _ => text(StatusCode::NOT_FOUND, "no such page; / lists them\n"),
        }
    }

    /// Answers a request on the health port, where everybody may ask.
    pub(crate) async fn health(self, request: Request<Bytes>, probes: Prober) -> Answer {
        match request.uri().path() {
            "/healthz/ready" => self.ready(),
            _ => probes.answer(&request).await,
        }
    }

    fn ready(&self) -> Answer {
        if self.process.is_ready() {
            return text(StatusCode::OK, "LIVE\n");
        }
        if self.process.stopping().is_stopping() {
            return text(StatusCode::SERVICE_UNAVAILABLE, "draining\n");
        }
        let gates = self.process.waiting_for().join(", ");
        let control = self.control.borrow();
        let mut why = format!("not ready; waiting for: {gates}\n");
        let certificate = self.certificate.borrow();
        for failure in control.failure.iter().chain(&certificate.failure) {
            why.push_str(failure);
            why.push('\n');
        }
        text(StatusCode::SERVICE_UNAVAILABLE, why)
    }

    fn config_dump(&self, query: &str) -> Answer {
        let asked = query.split('&').find_map(|pair| pair.strip_prefix("kind="));
        let kinds: Vec<TypeUrlKind> = match asked {
            None => TypeUrlKind::ALL.to_vec(),
            Some(word) => match TypeUrlKind::of_word(word) {
                Some(kind) => vec![kind],
                None => {
                    let words = TypeUrlKind::ALL.map(TypeUrlKind::word).join(", ");
                    let why = format!("no kind {word:?}; there are {words}\n");
                    return text(StatusCode::BAD_REQUEST, why);
                }
            },
        };
        let control = self.control.borrow().clone();
        let resources: BTreeMap<&str, Vec<Json>> = kinds
            .iter()
            .map(|kind| {
                let all = control.held.of_kind(*kind).map(|resource| {
                    json!({
                        "name": &*resource.name,
                        "version": resource.version.to_string(),
                        "value": render::render(kind.url(), &resource.bytes),
                    })
                });
                (kind.word(), all.collect())
            })
            .collect();
        let refused: Vec<Json> = control
            .refused
            .iter()
            .filter(|refusal| kinds.contains(&refusal.kind))
            .map(|refusal| {
                json!({
                    "kind": refusal.kind.word(),
                    "name": &*refusal.name,
                    "version": refusal.version.to_string(),
                    "reason": refusal.reason,
                    "in_use": refusal.instead.as_ref().map(|resource| resource.version.to_string()),
                })
            })
            .collect();
        pretty(&json!({
            "node": self.node,
            "ready": self.process.is_ready(),
            "control_plane": {
                "connected": control.connected.map(|address| address.to_string()),
                "identifier": control.control_plane,
                "failure": control.failure,
                "waits_for": control.waits_for,
            },
            "tables_published": control.published,
            "sockets": self.sockets(),
            "resources": resources,
            "refused": refused,
        }))
    }

    fn sockets(&self) -> Json {
        let carried = self.carried.borrow();
        let sockets = carried.as_ref().map(|carried| carried.sockets.states());
        let states = sockets.unwrap_or_default();
        let states = states.into_iter().map(|(address, state)| {
            let state = match state {
                SocketState::Bound => "bound".to_owned(),
                SocketState::Failed(why) => format!("failed: {why}"),
                SocketState::Denied(why) => format!("denied: {why}"),
            };
            (address.to_string(), Json::from(state))
        });
        Json::Object(states.collect())
    }

    async fn clusters(&self) -> Json {
        let sights = self
            .carried
            .borrow()
            .as_ref()
            .map(|carried| carried.sights.clone());
        let mut seen: BTreeMap<(Arc<str>, SocketAddr), Vec<Sight>> = BTreeMap::new();
        if let Some(sights) = sights {
            let all = tokio::time::timeout(SIGHTS_WAIT, sights.all()).await;
            for sight in all.unwrap_or_default() {
                let key = (sight.cluster.clone(), sight.address);
                seen.entry(key).or_default().push(sight);
            }
        }
        let table = self.tables.borrow().clone();
        let clusters = table.clusters().into_iter().map(|cluster| {
            let endpoints = cluster.endpoints().iter().map(|endpoint| {
                let key = (cluster.name().clone(), endpoint.address);
                let workers = seen.get(&key).into_iter().flatten().map(|sight| {
                    json!({
                        "worker": sight.worker,
                        "in_flight": sight.in_flight,
                        "ejected": sight.out.is_some(),
                        "ejected_for_ms": sight.out.map(|left| left.as_millis() as u64),
                        "times_ejected": sight.times,
                    })
                });
                let workers: Vec<Json> = workers.collect();
                let behind: Vec<&str> = cluster
                    .behind(endpoint)
                    .iter()
                    .map(|name| &**name)
                    .collect();
                json!({
                    "address": endpoint.address.to_string(),
                    "weight": endpoint.weight,
                    "priority": endpoint.priority,
                    "health": match endpoint.health {
                        EndpointHealth::Usable => "usable",
                        EndpointHealth::Degraded => "degraded",
                        EndpointHealth::Unusable => "unusable",
                    },
                    "via": match cluster.via(endpoint) {
                        Via::Direct => "direct",
                        Via::Gateway => "gateway",
                    },
                    "clusters": behind,
                    "workers": workers,
                })
            });
            json!({"name": &**cluster.name(), "endpoints": endpoints.collect::<Vec<_>>()})
        });
        json!({"clusters": clusters.collect::<Vec<_>>()})
    }
}

/// The certificate's chain, the trusted roots, when it is renewed.
pub(crate) fn certs(credentials: &Credentials, status: &CertificateStatus) -> Json {
    let holding = credentials.holding();
    let chain = holding.as_ref().map(|holding| holding.chain_facts());
    let chain: Vec<Json> = chain.iter().flatten().map(facts).collect();
    let roots: Vec<Json> = credentials.bundle().facts().iter().map(facts).collect();
    json!({
        "identity": holding.as_ref().map(|holding| holding.identity().to_string()),
        "generation": credentials.generation(),
        "seconds_left": holding.as_ref().map(|holding| holding.left(now()).as_secs()),
        "renew_at": status.renew_at.map(date),
        "failure": status.failure,
        "failures": status.failures,
        "chain": chain,
        "roots": roots,
    })
}

/// Writes the proxy's own numbers about its control side.
pub(crate) fn metrics(
    credentials: &Credentials,
    control: &ControlStatus,
    certificate: &CertificateStatus,
    text: &mut String,
) {
    own_metrics(credentials, control.connected.is_some(), certificate, text);
    for (name, kind, value) in [
        (
            "catamaran_proxy_tables_published_total",
            "counter",
            control.published,
        ),
        (
            "catamaran_proxy_resources",
            "gauge",
            control.held.len() as u64,
        ),
        (
            "catamaran_proxy_resources_refused",
            "gauge",
            control.refused.len() as u64,
        ),
    ] {
        number(name, kind, value, text);
    }
}

/// Those of them that the agent beside an Envoy has too.
pub(crate) fn own_metrics(
    credentials: &Credentials,
    connected: bool,
    certificate: &CertificateStatus,
    text: &mut String,
) {
    let expires = credentials
        .holding()
        .map_or(0, |held| held.not_after().seconds());
    for (name, value) in [
        (
            "catamaran_proxy_control_plane_connected",
            u64::from(connected),
        ),
        ("catamaran_proxy_certificate_expires_seconds", expires),
        (
            "catamaran_proxy_certificate_failures",
            u64::from(certificate.failures),
        ),
    ] {
        number(name, "gauge", value, text);
    }
}

fn number(name: &str, kind: &str, value: u64, text: &mut String) {
    text.push_str(&format!("# TYPE {name} {kind}\n{name} {value}\n"));
}

fn facts(facts: &CertificateFacts) -> Json {
    json!({
        "subject": facts.subject,
        "issuer": facts.issuer,
        "uris": facts.uris,
        "serial": facts.serial,
        "not_before": date(facts.not_before),
        "not_after": date(facts.not_after),
        "fingerprint": facts.fingerprint.to_string(),
        "issuer_fingerprint": facts.issuer_fingerprint.map(|print| print.to_string()),
        "key": facts.key_algorithm.to_string(),
        "is_ca": facts.is_ca,
    })
}

fn date(at: Timestamp) -> String {
    i64::try_from(at.seconds())
        .ok()
        .and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok())
        .and_then(|date| date.format(&Rfc3339).ok())
        .unwrap_or_else(|| at.to_string())
}

fn pretty(value: &Json) -> Answer {
    json_answer(StatusCode::OK, format!("{value:#}\n"))
}

#[cfg(test)]
mod tests;
