//! Programs at both ends of a call, and a wire between them that can be cut.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::fleet;

/// How long a test waits for an answer before it says that none comes.
const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) type Body = BoxBody<Bytes, hyper::Error>;

pub(crate) fn text(text: impl Into<Bytes>) -> Body {
    Full::new(text.into())
        .map_err(|never| match never {})
        .boxed()
}

/// A program that serves HTTP of any version, and how many requests it got.
pub(crate) struct Program {
    pub(crate) address: SocketAddr,
    pub(crate) requests: Arc<AtomicUsize>,
}

impl Program {
    pub(crate) fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }
}

/// Answers `/hello` with its name, `/echo` with what it got (trailers too), `/headers` with the request's headers, and takes
/// `Upgrade: websocket` to an echo of bytes.
pub(crate) async fn hello(name: &'static str) -> Program {
    let listener = TcpListener::bind((fleet::address(), 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let requests = Arc::new(AtomicUsize::new(0));
    let count = requests.clone();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let count = count.clone();
            tokio::spawn(async move {
                let service = service_fn(move |request| {
                    count.fetch_add(1, Ordering::SeqCst);
                    async move { Ok::<_, Infallible>(answer(name, request)) }
                });
                let _ = auto::Builder::new(TokioExecutor::new())
                    .serve_connection_with_upgrades(TokioIo::new(stream), service)
                    .await;
            });
        }
    });
    Program { address, requests }
}

fn answer(name: &'static str, mut request: Request<Incoming>) -> Response<Body> {
    if request.headers().contains_key("upgrade") {
        let upgrade = hyper::upgrade::on(&mut request);
        tokio::spawn(async move {
            let mut stream = TokioIo::new(upgrade.await.unwrap());
            let mut bytes = vec![0; 1000];
            loop {
                let count = stream.read(&mut bytes).await.unwrap();
                if count == 0 {
                    break;
                }
                stream.write_all(&bytes[..count]).await.unwrap();
            }
            stream.shutdown().await.unwrap();
        });
        return Response::builder()
            .status(StatusCode::SWITCHING_PROTOCOLS)
            .header("connection", "upgrade")
            .header("upgrade", "websocket")
            .body(text(""))
            .unwrap();
    }
    match request.uri().path() {
        "/echo" => Response::new(request.into_body().boxed()),
        "/headers" => {
            let mut lines: Vec<String> = request
                .headers()
                .iter()
                .map(|(name, value)| format!("{name}: {}\n", value.to_str().unwrap()))
                .collect();
            lines.sort();
            Response::new(text(lines.concat()))
        }
        _ => Response::new(text(format!("{name}\n"))),
    }
}

/// A program that reads a whole request and then closes the connection without an answer.
pub(crate) async fn rude() -> Program {
    let listener = TcpListener::bind((fleet::address(), 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let requests = Arc::new(AtomicUsize::new(0));
    let count = requests.clone();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let count = count.clone();
            tokio::spawn(async move {
                let mut got = Vec::new();
                let mut bytes = [0; 1000];
                loop {
                    let read = stream.read(&mut bytes).await.unwrap_or(0);
                    if read == 0 {
                        return;
                    }
                    got.extend_from_slice(&bytes[..read]);
                    let whole = got.windows(4).any(|four| four == b"\r\n\r\n")
                        && (!got.starts_with(b"POST") || got.ends_with(b"the end"));
                    if whole {
                        count.fetch_add(1, Ordering::SeqCst);
                        return;
                    }
                }
            });
        }
    });
    Program { address, requests }
}

/// A wire to `target` that can be cut so that nothing passes and nobody is told.
pub(crate) struct Wire {
    pub(crate) address: SocketAddr,
    cut: watch::Sender<bool>,
    pub(crate) connections: Arc<AtomicUsize>,
}

impl Wire {
    pub(crate) async fn to(target: SocketAddr) -> Wire {
        Wire::dealt(vec![target]).await
    }

    /// One connection after the other to one target after the other.
    pub(crate) async fn dealt(targets: Vec<SocketAddr>) -> Wire {
        let listener = TcpListener::bind((fleet::address(), 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (cut, is_cut) = watch::channel(false);
        let connections = Arc::new(AtomicUsize::new(0));
        let count = connections.clone();
        tokio::spawn(async move {
            loop {
                let (near, _) = listener.accept().await.unwrap();
                let turn = count.fetch_add(1, Ordering::SeqCst);
                let target = targets[turn % targets.len()];
                let far = TcpStream::connect(target).await.unwrap();
                let (near_read, near_write) = near.into_split();
                let (far_read, far_write) = far.into_split();
                tokio::spawn(pass(near_read, far_write, is_cut.clone()));
                tokio::spawn(pass(far_read, near_write, is_cut.clone()));
            }
        });
        Wire {
            address,
            cut,
            connections,
        }
    }

    pub(crate) fn cut(&self) {
        self.cut.send(true).unwrap();
    }

    /// What was held back passes now.
    pub(crate) fn mend(&self) {
        self.cut.send(false).unwrap();
    }
}

async fn pass(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    mut cut: watch::Receiver<bool>,
) {
    let mut bytes = vec![0; 16 * 1024];
    loop {
        let count = match from.read(&mut bytes).await {
            Ok(count) if count > 0 => count,
            _ => return,
        };
        if cut.wait_for(|cut| !cut).await.is_err() || to.write_all(&bytes[..count]).await.is_err() {
            return;
        }
    }
}

/// A caller that keeps one HTTP/1.1 connection to a proxy.
pub(crate) struct Client(http1::SendRequest<Body>);

impl Client {
    pub(crate) async fn to(proxy: SocketAddr) -> Client {
        let stream = TcpStream::connect(proxy).await.unwrap();
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection.with_upgrades());
        Client(sender)
    }

    pub(crate) async fn send(&mut self, request: Request<Body>) -> Response<Incoming> {
        self.0.ready().await.unwrap();
        let answer = self.0.send_request(request);
        tokio::time::timeout(PATIENCE, answer)
            .await
            .expect("an answer in time")
            .unwrap()
    }

    pub(crate) async fn get(&mut self, path: &str) -> (u16, String) {
        whole(self.send(request("GET", path, text(""))).await).await
    }
}

/// A caller that keeps one HTTP/2 connection to a proxy.
pub(crate) async fn http2_client(proxy: SocketAddr) -> http2::SendRequest<Body> {
    let stream = TcpStream::connect(proxy).await.unwrap();
    let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
        .await
        .unwrap();
    tokio::spawn(connection);
    sender
}

pub(crate) fn request(method: &str, path: &str, body: Body) -> Request<Body> {
    Request::builder()
        .method(method)
        .uri(format!("http://helloworld:5000{path}"))
        .header("host", "helloworld:5000")
        .body(body)
        .unwrap()
}

pub(crate) async fn whole(response: Response<Incoming>) -> (u16, String) {
    let status = response.status().as_u16();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

/// A body of these chunks and trailers.
pub(crate) fn chunks(chunks: Vec<Bytes>, trailers: HeaderMap) -> Body {
    let frames = chunks
        .into_iter()
        .map(http_body::Frame::data)
        .chain([http_body::Frame::trailers(trailers)])
        .map(Ok::<_, hyper::Error>);
    BodyExt::boxed(http_body_util::StreamBody::new(futures_util::stream::iter(
        frames,
    )))
}
