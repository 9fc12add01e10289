//! What people may look at beside an Envoy: the agent's own part, and the Envoy's own pages under the names that our proxy has
//! for them.
//!
//! | page | what it shows |
//! |---|---|
//! | `/ready`, `/healthz/ready` | 200 when the Envoy takes traffic, 503 with what it waits for |
//! | `/config_dump` | the Envoy's; `?kind=cluster` for one kind |
//! | `/clusters` | the Envoy's |
//! | `/certs` | the certificate's chain, the trusted roots, when it is renewed, and the Envoy's stream |
//! | `/stats/prometheus` | the agent's and the Envoy's metrics |
//! | `POST /renew` | asks for a new certificate now, in a second |
//! | `POST /drain` | ends the Envoy, then the agent |

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use catamaran_identity::Credentials;
use catamaran_process::Process;
use catamaran_process::http::{Answer, answer, json as json_answer, text};
use catamaran_xds::TypeUrlKind;
use http::{Method, Request, StatusCode};
use serde_json::json;
use tokio::sync::{Notify, watch};

use super::question::ask;
use super::relay::RelayStatus;
use crate::admin::{self, app_probe::Prober};
use crate::certificate::CertificateStatus;

/// Everything that the pages show.
#[derive(Clone)]
pub(crate) struct Pages {
    pub(crate) process: Process,
    pub(crate) envoy: SocketAddr,
    pub(crate) credentials: Arc<Credentials>,
    pub(crate) certificate: watch::Receiver<CertificateStatus>,
    pub(crate) renew: Arc<Notify>,
    pub(crate) relay: watch::Receiver<RelayStatus>,
    /// Why the Envoy takes no traffic; `None` when it does.
    pub(crate) unready: watch::Receiver<Option<String>>,
}

impl Pages {
    /// Answers a request on the admin socket.
    pub(crate) async fn answer(self, request: Request<Bytes>) -> Answer {
        let query = request.uri().query().unwrap_or_default();
        match (request.method(), request.uri().path()) {
            (&Method::GET, "/ready" | "/healthz/ready") => self.ready(),
            (&Method::GET, "/config_dump") => match resource(query) {
                Ok(path) => self.envoys(path).await,
                Err(why) => text(StatusCode::BAD_REQUEST, why),
            },
            (&Method::GET, "/clusters") => self.envoys("/clusters?format=json").await,
            (&Method::GET, "/certs") => self.certs(),
            (&Method::GET, "/stats/prometheus") => self.metrics().await,
            (&Method::POST, "/drain") => {
                self.process.stop("POST /drain");
                text(StatusCode::OK, "draining\n")
            }
            (&Method::POST, "/renew") => {
                self.renew.notify_one();
                text(StatusCode::ACCEPTED, "renewing; see /certs\n")
            }
            (_, "/drain" | "/renew") => text(StatusCode::METHOD_NOT_ALLOWED, "use POST\n"),
            (&Method::GET, "/") => text(
                StatusCode::OK,
                "/ready\n/config_dump\n/clusters\n/certs\n/stats/prometheus\nPOST /renew\nPOST /drain\n",
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
        let mut why = format!("not ready; waiting for: {gates}\n");
        let envoy = self.unready.borrow().clone();
        let stream = self.relay.borrow().failure.clone();
        let certificate = self.certificate.borrow().failure.clone();
        for failure in envoy.into_iter().chain(stream).chain(certificate) {
            why.push_str(&failure);
            why.push('\n');
        }
        text(StatusCode::SERVICE_UNAVAILABLE, why)
    }

    async fn envoys(&self, path: &str) -> Answer {
        match ask(self.envoy, Method::GET, path).await {
            Ok((status, body)) => answer(status, "application/json", body),
            Err(why) => text(StatusCode::BAD_GATEWAY, format!("{why}\n")),
        }
    }

    fn certs(&self) -> Answer {
        let mut page = admin::certs(&self.credentials, &self.certificate.borrow());
        let relay = self.relay.borrow().clone();
        page["envoy"] = json!({
            "control_plane": relay.connected.map(|address| address.to_string()),
            "failure": relay.failure,
            "streams_opened": relay.streams,
        });
        json_answer(StatusCode::OK, format!("{page:#}\n"))
    }

    async fn metrics(&self) -> Answer {
        let mut all = self.process.metrics().render();
        // What cannot be had is left out; that the Envoy does not answer is what `/ready` is for.
        if let Ok((StatusCode::OK, body)) = ask(self.envoy, Method::GET, "/stats/prometheus").await
        {
            // The end of the agent's own is the end of a text in OpenMetrics.
            let own = all.trim_end().trim_end_matches("# EOF").len();
            all.truncate(own);
            all.push_str(&String::from_utf8_lossy(&body));
        }
        answer(
            StatusCode::OK,
            "text/plain; version=0.0.4; charset=utf-8",
            all,
        )
    }
}

/// The Envoy's page for what our proxy shows under `/config_dump`.
fn resource(query: &str) -> Result<&'static str, String> {
    let asked = query.split('&').find_map(|pair| pair.strip_prefix("kind="));
    let Some(word) = asked else {
        return Ok("/config_dump?include_eds");
    };
    match TypeUrlKind::of_word(word) {
        Some(TypeUrlKind::Listener) => Ok("/config_dump?resource=dynamic_listeners"),
        Some(TypeUrlKind::Route) => Ok("/config_dump?resource=dynamic_route_configs"),
        Some(TypeUrlKind::Cluster) => Ok("/config_dump?resource=dynamic_active_clusters"),
        Some(TypeUrlKind::Endpoints) => {
            Ok("/config_dump?include_eds&resource=dynamic_endpoint_configs")
        }
        _ => Err(format!("an Envoy has no resources of kind {word:?}\n")),
    }
}
