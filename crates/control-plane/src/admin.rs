//! The door for people's programs: HTTP and JSON on a Unix socket of mode 0600.
//!
//! | request | answer |
//! |---|---|
//! | `GET /v1/status` | [`Status`](crate::Status) |
//! | `GET /v1/proxies` | a list of [`ProxyStatus`](crate::ProxyStatus) |
//! | `POST /v1/confirm?cluster=C` | what a held list of C lacks is gone indeed |
//! | `GET /metrics` | OpenMetrics |
//! | `GET /ready` | 200 when it serves, else 503 and what it waits for |

use bytes::Bytes;
use catamaran_model::ClusterId;
use catamaran_process::Process;
use catamaran_process::http::{Answer, answer, json, text};
use catamaran_registry::Applied;
use http::{Method, Request, StatusCode};
use serde::Serialize;
use tokio::sync::oneshot;

use crate::keeper::Order;
use crate::status::Reporter;

/// Answers one request.
pub(crate) async fn handle(reporter: Reporter, request: Request<Bytes>) -> Answer {
    let path = request.uri().path();
    match (request.method(), path) {
        (&Method::GET, "/v1/status") => as_json(&reporter.status().await),
        (&Method::GET, "/v1/proxies") => as_json(&reporter.proxies()),
        (&Method::POST, "/v1/confirm") => {
            confirm(&reporter, request.uri().query().unwrap_or_default()).await
        }
        (&Method::GET, "/metrics") => metrics(&reporter.process),
        (&Method::GET, "/ready") => ready(&reporter.process),
        (_, "/v1/status" | "/v1/proxies" | "/v1/confirm" | "/metrics" | "/ready") => text(
            StatusCode::METHOD_NOT_ALLOWED,
            format!("{path} is not asked with {}\n", request.method()),
        ),
        _ => text(
            StatusCode::NOT_FOUND,
            "there are GET /v1/status, GET /v1/proxies, POST /v1/confirm?cluster=C, GET /metrics and GET /ready\n",
        ),
    }
}

/// Answers one request on the pod's loopback, where whoever may forward ports to us can ask: only what changes nothing.
pub(crate) async fn look(reporter: Reporter, request: Request<Bytes>) -> Answer {
    if request.method() != Method::GET {
        let why = "only GET is answered here; what changes something is asked at the socket\n";
        return text(StatusCode::METHOD_NOT_ALLOWED, why);
    }
    handle(reporter, request).await
}

/// Answers one request at the port for those who run us: a kubelet, a scraper of metrics.
///
/// | request | answer |
/// |---|---|
/// | `GET /ready` | as at the door |
/// | `GET /live` | 200 |
/// | `GET /metrics` | OpenMetrics |
pub(crate) fn health(process: &Process, request: &Request<Bytes>) -> Answer {
    match (request.method(), request.uri().path()) {
        (&Method::GET, "/ready") => ready(process),
        (&Method::GET, "/live") => text(StatusCode::OK, "live\n"),
        (&Method::GET, "/metrics") => metrics(process),
        _ => text(
            StatusCode::NOT_FOUND,
            "there are GET /ready, GET /live and GET /metrics\n",
        ),
    }
}

fn ready(process: &Process) -> Answer {
    match process.is_ready() {
        true => text(StatusCode::OK, "ready\n"),
        false => text(
            StatusCode::SERVICE_UNAVAILABLE,
            format!("waiting for: {}\n", process.waiting_for().join(", ")),
        ),
    }
}

fn metrics(process: &Process) -> Answer {
    answer(
        StatusCode::OK,
        "application/openmetrics-text; version=1.0.0; charset=utf-8",
        process.metrics().render(),
    )
}

async fn confirm(reporter: &Reporter, query: &str) -> Answer {
    let wrong = |why: String| text(StatusCode::BAD_REQUEST, format!("{why}\n"));
    let cluster = query
        .split('&')
        .find_map(|pair| pair.strip_prefix("cluster="));
    let Some(cluster) = cluster else {
        return wrong("name the cluster: POST /v1/confirm?cluster=C".into());
    };
    let cluster = match ClusterId::new(cluster) {
        Ok(cluster) => cluster,
        Err(error) => return wrong(error.to_string()),
    };
    let stopping = || {
        text(
            StatusCode::SERVICE_UNAVAILABLE,
            "the control plane is stopping\n",
        )
    };
    let (reply, applied) = oneshot::channel();
    if reporter
        .kept
        .orders
        .send(Order::Confirm(cluster.clone(), reply))
        .await
        .is_err()
    {
        return stopping();
    }
    match applied.await {
        Ok(Applied::Ignored(why)) => text(StatusCode::NOT_FOUND, format!("{cluster}: {why}\n")),
        Ok(Applied::Unchanged) => text(
            StatusCode::CONFLICT,
            format!("no list of {cluster} is held\n"),
        ),
        Ok(_) => text(
            StatusCode::OK,
            format!("what the held list of {cluster} lacks is gone\n"),
        ),
        Err(_) => stopping(),
    }
}

fn as_json(value: &impl Serialize) -> Answer {
    match serde_json::to_vec_pretty(value) {
        Ok(body) => json(StatusCode::OK, body),
        Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_port_says_how_the_process_is_and_nothing_else() {
        let process = Process::start(catamaran_process::Config::quiet("test"));
        let view = process.gate("view");
        let ask = |method: Method, path: &str| {
            let request = Request::builder().method(method).uri(path);
            health(&process, &request.body(Bytes::new()).unwrap()).status()
        };
        assert_eq!(ask(Method::GET, "/ready"), 503);
        assert_eq!(ask(Method::GET, "/live"), 200);
        view.open();
        assert_eq!(ask(Method::GET, "/ready"), 200);
        assert_eq!(ask(Method::GET, "/metrics"), 200);
        assert_eq!(ask(Method::POST, "/v1/confirm?cluster=c"), 404);
        assert_eq!(ask(Method::GET, "/v1/status"), 404);
    }
}
