//! The server behind the sample's images `examples-helloworld-vN`.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;

/// The port of the sample.
pub const PORT: u16 = 5000;
/// The variable that says where to listen; the machine's every address when it is not set.
pub const BIND: &str = "CATAMARAN_BIND";
/// How long requests may still run after the stop signal.
const DRAIN: Duration = Duration::from_secs(10);

/// Decided once, at start.
#[derive(Debug, Clone)]
pub struct Config {
    /// `v1`
    pub version: String,
    /// The pod's name.
    pub instance: String,
    /// Where it listens.
    pub bind: IpAddr,
    /// The port.
    pub port: u16,
}

impl Config {
    /// Takes what was given on the command line, and for the rest what the environment says.
    pub fn from_env(version: String, instance: Option<String>, port: u16) -> Config {
        let env = |name: &str| std::env::var(name).ok();
        Config {
            version,
            instance: (instance.or_else(|| env("HOSTNAME"))).unwrap_or_else(|| "unknown".into()),
            bind: (env(BIND).and_then(|ip| ip.parse().ok()))
                .unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
            port,
        }
    }
}

/// Serves until `stop`, then lets requests that are running end.
pub async fn run(config: Config, stop: impl Future<Output = ()>) -> io::Result<()> {
    let listener = TcpListener::bind((config.bind, config.port)).await?;
    serve(listener, config, stop).await
}

/// Serves on a socket that listens already.
pub async fn serve(
    listener: TcpListener,
    config: Config,
    stop: impl Future<Output = ()>,
) -> io::Result<()> {
    let text = Bytes::from(format!(
        "Hello version: {}, instance: {}\n",
        config.version, config.instance
    ));
    let (draining, drain) = watch::channel(());
    let mut connections = JoinSet::new();
    let mut stop = pin!(stop);
    loop {
        let stream = tokio::select! {
            () = &mut stop => break,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(%error, "a connection was not accepted");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
            },
        };
        let text = text.clone();
        let service = service_fn(move |request| {
            let response = answer(&request, &text);
            async move { Ok::<_, Infallible>(response) }
        });
        let mut drain = drain.clone();
        connections.spawn(async move {
            let server = auto::Builder::new(TokioExecutor::new());
            let mut connection = pin!(server.serve_connection(TokioIo::new(stream), service));
            let ended = tokio::select! {
                ended = connection.as_mut() => ended,
                _ = drain.changed() => {
                    connection.as_mut().graceful_shutdown();
                    connection.await
                }
            };
            if let Err(error) = ended {
                tracing::debug!(%error, "a connection ended");
            }
        });
        while connections.try_join_next().is_some() {}
    }
    drop(listener);
    drop(draining);
    let all = async { while connections.join_next().await.is_some() {} };
    let _ = tokio::time::timeout(DRAIN, all).await;
    Ok(())
}

fn answer<B>(request: &Request<B>, text: &Bytes) -> Response<Full<Bytes>> {
    let (status, body) = match (request.method(), request.uri().path()) {
        (&Method::GET | &Method::HEAD, "/hello") => (StatusCode::OK, text.clone()),
        (_, "/hello") => (
            StatusCode::METHOD_NOT_ALLOWED,
            Bytes::from_static(b"use GET\n"),
        ),
        (_, "/health") => (StatusCode::OK, Bytes::from_static(b"ok\n")),
        _ => (StatusCode::NOT_FOUND, Bytes::from_static(b"try /hello\n")),
    };
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    let plain = http::HeaderValue::from_static("text/plain; charset=utf-8");
    response
        .headers_mut()
        .insert(http::header::CONTENT_TYPE, plain);
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    #[tokio::test]
    async fn it_says_its_version_and_instance() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let config = Config {
            version: "v1".into(),
            instance: "helloworld-v1-7b888xxxxx-xxxxx".into(),
            bind: address.ip(),
            port: address.port(),
        };
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let served = tokio::spawn(serve(listener, config, async {
            let _ = stopped.await;
        }));
        let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
        let request = b"GET /hello HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
        stream.write_all(request).await.unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        assert!(text.starts_with("HTTP/1.1 200 OK"), "{text}");
        assert!(
            text.ends_with("\r\n\r\nHello version: v1, instance: helloworld-v1-7b888xxxxx-xxxxx\n"),
            "{text}"
        );
        stop.send(()).unwrap();
        served.await.unwrap().unwrap();
    }
}
