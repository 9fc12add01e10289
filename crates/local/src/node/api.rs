//! What the node answers at `run/node.sock`: HTTP, JSON.
//!
//! `GET /ready`, `GET /v1/pods`, `GET /v1/problems`, `GET /v1/control-plane`, `POST /v1/stop`.

use std::convert::Infallible;
use std::io;
use std::path::Path;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::{Deserialize, Serialize};
use tokio::net::UnixListener;
use tokio::sync::{mpsc, watch};

use super::pod::Pod;
use super::record::Stage;
use crate::address::Addresses;
use crate::manifest::Problem;
use crate::socket;

/// The largest answer that is read.
const MAX_ANSWER: usize = 8 << 20;

/// What the node shows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct View {
    /// Its pods, the gateway among them.
    pub pods: Vec<PodView>,
    /// What is wrong.
    pub problems: Vec<ProblemView>,
    /// The control plane, when there is an instance.
    pub control_plane: Option<ControlPlaneView>,
    /// It was asked to stop.
    pub stopping: bool,
}

/// The control plane.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ControlPlaneView {
    /// The instance it serves.
    pub mesh: String,
    /// Its process.
    pub pid: Option<i32>,
    /// How often it was started again.
    pub restarts: u32,
    /// What it waits for.
    pub waiting: Option<String>,
}

/// A pod.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodView {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its Deployment.
    pub deployment: Option<String>,
    /// Its address.
    pub ip: String,
    /// Whether it is ready.
    pub ready: bool,
    /// `Living`, or how far it is on its way out.
    pub stage: Stage,
    /// What it waits for.
    pub waiting: Option<String>,
    /// Whether it has a sidecar.
    pub sidecar: bool,
    /// How often its containers were started again.
    pub restarts: u32,
    /// Its processes: container and pid.
    pub processes: Vec<(String, i32)>,
    /// Its network namespace.
    pub netns: Option<String>,
}

impl PodView {
    pub(super) fn of(pod: &Pod, addresses: &Addresses) -> PodView {
        let record = &pod.record;
        PodView {
            namespace: record.namespace.clone(),
            name: record.name.clone(),
            deployment: record.deployment.clone(),
            ip: pod.address(addresses).to_string(),
            ready: record.ready,
            stage: record.stage,
            waiting: record.waiting.clone(),
            sidecar: record.sidecar,
            restarts: record.containers.iter().map(|c| c.restarts).sum(),
            processes: (record.containers.iter())
                .filter_map(|c| Some((c.name.clone(), c.process.as_ref()?.pid)))
                .collect(),
            netns: record.netns.clone(),
        }
    }
}

/// Something that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProblemView {
    /// The file, below the cluster's folder.
    pub file: String,
    /// The line in it.
    pub line: Option<u64>,
    /// The object.
    pub object: String,
    /// What is wrong.
    pub reason: String,
    /// Whether something does not work because of it.
    pub error: bool,
}

impl ProblemView {
    pub(super) fn of(problem: &Problem) -> ProblemView {
        ProblemView {
            file: problem.file.display().to_string(),
            line: problem.line,
            object: problem.object.clone(),
            reason: problem.reason.clone(),
            error: problem.severity == catamaran_registry::Severity::Error,
        }
    }
}

/// Answers until the task is ended.
pub(super) async fn serve(
    listener: UnixListener,
    view: watch::Receiver<View>,
    stop: mpsc::Sender<()>,
) {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            continue;
        };
        let (view, stop) = (view.clone(), stop.clone());
        tokio::spawn(async move {
            let service = service_fn(move |request: Request<Incoming>| {
                let response = answer(&request, &view.borrow(), &stop);
                async move { Ok::<_, Infallible>(response) }
            });
            let server = hyper::server::conn::http1::Builder::new();
            let _ = server.serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

fn answer(
    request: &Request<Incoming>,
    view: &View,
    stop: &mpsc::Sender<()>,
) -> Response<Full<Bytes>> {
    let json = |value: Result<Vec<u8>, serde_json::Error>| match value {
        Ok(text) => (StatusCode::OK, text),
        Err(error) => (
            StatusCode::INTERNAL_SERVER_ERROR,
            error.to_string().into_bytes(),
        ),
    };
    let (status, body) = match (request.method(), request.uri().path()) {
        (&Method::GET, "/ready") => (StatusCode::OK, b"ready\n".to_vec()),
        (&Method::GET, "/v1/pods") => json(serde_json::to_vec(&view.pods)),
        (&Method::GET, "/v1/problems") => json(serde_json::to_vec(&view.problems)),
        (&Method::GET, "/v1/control-plane") => json(serde_json::to_vec(&view.control_plane)),
        (&Method::POST, "/v1/stop") => {
            let _ = stop.try_send(());
            (StatusCode::ACCEPTED, b"stopping\n".to_vec())
        }
        _ => (StatusCode::NOT_FOUND, b"there is nothing here\n".to_vec()),
    };
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response
}

/// Asks a socket for a path; the status and the body.
pub(crate) async fn ask(at: &Path, method: &str, path: &str) -> io::Result<(u16, String)> {
    let stream = socket::connect(at).await?;
    let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = handshake.map_err(io::Error::other)?;
    let carried = tokio::spawn(connection);
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(http::header::HOST, "localhost")
        .body(Full::new(Bytes::new()))
        .map_err(io::Error::other)?;
    let response = sender
        .send_request(request)
        .await
        .map_err(io::Error::other)?;
    let status = response.status().as_u16();
    let body = Limited::new(response.into_body(), MAX_ANSWER)
        .collect()
        .await;
    carried.abort();
    let bytes = body.map_err(io::Error::other)?.to_bytes();
    Ok((status, String::from_utf8_lossy(&bytes).into_owned()))
}
