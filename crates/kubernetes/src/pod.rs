//! What is asked of a pod through its API server: a page that it serves on its loopback, or a command in a container.
//!
//! A page needs the right to forward ports to the pod and no more; a command needs the right to run anything in it. So pages
//! are how people look, and commands are for what cannot be seen otherwise.

use std::time::Duration;

use bytes::Bytes;
use http::{Request, header};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::AttachParams;
use tokio::io::{AsyncRead, AsyncReadExt as _};

use crate::connect::Access;
use crate::failure::{Failure, printable};

/// Where our programs show what they are and hold, on their pod's loopback.
pub const ADMIN_PORT: u16 = 15000;
/// A page may take this long.
const PAGE: Duration = Duration::from_secs(10);
/// The most bytes of a page, and of what a command writes.
const MOST: usize = 64 << 20;

/// The rights that [`page`] needs in the pod's namespace. Newer API servers ask for both verbs.
pub fn page_rights(namespace: &str) -> String {
    format!("get and create pods/portforward in {namespace}")
}

/// The rights that [`run`] needs in the pod's namespace. Newer API servers ask for both verbs.
pub fn run_rights(namespace: &str) -> String {
    format!("get and create pods/exec in {namespace}")
}

/// Asks for a page of what listens on the pod's loopback: the status and the body.
///
/// # Errors
/// Why there is no answer. [`Failure::Silent`] when nobody listens there.
pub async fn page(
    access: &Access,
    namespace: &str,
    pod: &str,
    path: &str,
) -> Result<(u16, String), Failure> {
    let asked = tokio::time::timeout(PAGE, ask(access, namespace, pod, path));
    asked.await.unwrap_or(Err(Failure::Slow { limit: PAGE }))
}

async fn ask(
    access: &Access,
    namespace: &str,
    pod: &str,
    path: &str,
) -> Result<(u16, String), Failure> {
    let pods: Api<Pod> = Api::namespaced(access.upgrades().clone(), namespace);
    let opened = pods.portforward(pod, &[ADMIN_PORT]).await;
    let mut opened = opened.map_err(|error| crate::api::of_error(access, &error))?;
    let (Some(stream), Some(refused)) = (
        opened.take_stream(ADMIN_PORT),
        opened.take_error(ADMIN_PORT),
    ) else {
        return Err(unreadable("no stream was opened"));
    };
    let silent = |why: String| Failure::Silent {
        who: format!("port {ADMIN_PORT} of pod {namespace}/{pod}"),
        why,
    };
    let exchange = async {
        let shaken = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
        let (mut sender, connection) = shaken.map_err(|error| silent(error.to_string()))?;
        let carried = tokio::spawn(connection);
        let request = Request::get(path)
            .header(header::HOST, "localhost")
            .header(header::CONNECTION, "close")
            .body(Empty::<Bytes>::new())
            .map_err(|error| unreadable(&error.to_string()))?;
        let answered = async {
            let response = sender.send_request(request).await;
            let response = response.map_err(|error| silent(error.to_string()))?;
            let status = response.status().as_u16();
            let body = Limited::new(response.into_body(), MOST).collect().await;
            let body = body.map_err(|error| Failure::Truncated {
                why: printable(&error.to_string()),
            })?;
            let body = String::from_utf8_lossy(&body.to_bytes()).into_owned();
            Ok((status, body))
        };
        let answered = answered.await;
        carried.abort();
        answered
    };
    tokio::pin!(exchange, refused);
    tokio::select! {
        answer = &mut exchange => match answer {
            Ok(answer) => Ok(answer),
            // The node's own words say more than that a stream ended.
            Err(failure) => {
                let said = tokio::time::timeout(Duration::from_millis(500), &mut refused).await;
                Err(match said {
                    Ok(Some(said)) => silent(printable(&said)),
                    _ => failure,
                })
            }
        },
        Some(said) = &mut refused => Err(silent(printable(&said))),
    }
}

fn unreadable(why: &str) -> Failure {
    Failure::Unreadable {
        why: printable(why),
    }
}

/// What came of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ran {
    /// Its exit code; -1 when nobody says.
    pub code: i32,
    /// What it wrote.
    pub out: String,
    /// What it complained of, or what the node said when it did not start.
    pub err: String,
}

/// Runs a command in a container, without a terminal and without input.
///
/// # Errors
/// Why it was not run, or what it came to is not known.
pub async fn run(
    access: &Access,
    namespace: &str,
    pod: &str,
    container: Option<&str>,
    command: &[String],
    limit: Duration,
) -> Result<Ran, Failure> {
    let pods: Api<Pod> = Api::namespaced(access.upgrades().clone(), namespace);
    let mut params = AttachParams::default()
        .stdin(false)
        .stdout(true)
        .stderr(true);
    if let Some(container) = container {
        params = params.container(container);
    }
    let ran = async {
        let attached = pods.exec(pod, command, &params).await;
        let mut attached = attached.map_err(|error| crate::api::of_error(access, &error))?;
        let status = attached.take_status();
        let (out, err) = (attached.stdout(), attached.stderr());
        let (out, err) = tokio::join!(text(out), text(err));
        let (out, mut err) = (out?, err?);
        let status = match status {
            Some(status) => status.await,
            None => None,
        };
        let code = match status {
            None => -1,
            Some(status) if status.status.as_deref() == Some("Success") => 0,
            Some(status) => {
                let causes = status.details.and_then(|details| details.causes);
                let mut causes = causes.into_iter().flatten();
                let exit = causes.find(|cause| cause.reason.as_deref() == Some("ExitCode"));
                match exit.and_then(|cause| cause.message?.parse().ok()) {
                    Some(code) => code,
                    None => {
                        err.push_str(&printable(status.message.as_deref().unwrap_or_default()));
                        -1
                    }
                }
            }
        };
        Ok(Ran { code, out, err })
    };
    let ran = tokio::time::timeout(limit, ran).await;
    ran.unwrap_or(Err(Failure::Slow { limit }))
}

async fn text(stream: Option<impl AsyncRead + Unpin>) -> Result<String, Failure> {
    let Some(stream) = stream else {
        return Ok(String::new());
    };
    let mut bytes = Vec::new();
    let read = stream.take(MOST as u64).read_to_end(&mut bytes).await;
    read.map_err(|error| Failure::Truncated {
        why: printable(&error.to_string()),
    })?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
