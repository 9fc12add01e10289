//! Asks the Envoy beside us at its admin interface.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// How long the Envoy may take.
const WAIT: Duration = Duration::from_secs(5);
/// The largest answer, in bytes: a whole configuration of a large mesh.
const LIMIT: usize = 256 << 20;

/// One question, and the whole answer.
pub(crate) async fn ask(
    admin: SocketAddr,
    method: Method,
    path: &str,
) -> Result<(StatusCode, Bytes), String> {
    let asked = tokio::time::timeout(WAIT, converse(admin, method, path)).await;
    match asked {
        Ok(answer) => {
            answer.map_err(|error| format!("the Envoy at {admin} does not answer: {error}"))
        }
        Err(_) => Err(format!(
            "the Envoy at {admin} did not answer within {} s",
            WAIT.as_secs()
        )),
    }
}

async fn converse(
    admin: SocketAddr,
    method: Method,
    path: &str,
) -> Result<(StatusCode, Bytes), Box<dyn std::error::Error + Send + Sync>> {
    let stream = TcpStream::connect(admin).await?;
    let (mut client, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(header::HOST, "envoy")
        .header(header::CONNECTION, "close")
        .body(Empty::<Bytes>::new())?;
    let asked = async {
        let (head, body) = client.send_request(request).await?.into_parts();
        let body = Limited::new(body, LIMIT).collect().await?.to_bytes();
        Ok((head.status, body))
    };
    // The connection is driven here and ends here, with or without an answer.
    tokio::pin!(asked);
    tokio::pin!(connection);
    tokio::select! {
        answer = &mut asked => answer,
        _ = &mut connection => asked.await,
    }
}
