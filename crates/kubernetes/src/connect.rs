//! The way to one API server: our own dial, TLS and credential, below kube's client.
//!
//! The address is checked after the name was resolved, and it is the checked address that is dialled, so a name that changes
//! its mind leads nowhere else. Nothing follows redirects. The CA is the credential's own; the machine's roots do not count.

use std::fmt;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use http::header::{AUTHORIZATION, HeaderValue, USER_AGENT};
use http::{Request, Response, Uri};
use hyper::body::Incoming;
use hyper_util::client::legacy::Client as Http;
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use kube::client::Body;
use rustls::ClientConfig;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use zeroize::Zeroizing;

use crate::kubeconfig::{Allowed, Kubeconfig, Server, User, check_address};

/// A connection and its handshake may take this long.
const DIAL: Duration = Duration::from_secs(5);
/// A connection without a byte for so long is asked whether it is alive.
const PING_AFTER: Duration = Duration::from_secs(10);
/// And is given up when it does not answer within this time.
const PONG_WITHIN: Duration = Duration::from_secs(5);

/// A way to an API server, with who we are there. Clones share connections and the token.
#[derive(Clone)]
pub struct Access {
    client: kube::Client,
    /// For what changes the protocol on its connection, which HTTP/2 has no word for.
    upgrades: Arc<kube::Client>,
    server: Arc<Server>,
    token: Arc<Token>,
}

impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Access({})", self.server)
    }
}

#[derive(Default)]
struct Token(ArcSwapOption<HeaderValue>);

/// Why there is no way to an API server with this credential.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what}: {why}; put a valid one there")]
pub struct AccessError {
    /// Which part of the credential.
    pub what: &'static str,
    /// What is wrong with it.
    pub why: String,
}

impl Access {
    /// Prepares the way, inside a runtime; nothing is dialled before the first request.
    pub fn new(config: &Kubeconfig, allowed: Allowed) -> Result<Access, AccessError> {
        let name =
            ServerName::try_from(config.server.tls_name.clone()).map_err(|e| AccessError {
                what: "tls-server-name",
                why: e.to_string(),
            })?;
        let token = Arc::new(Token::default());
        if let User::Token(bearer) = &config.user {
            token.0.store(Some(Arc::new(header(bearer)?)));
        }
        let server = Arc::new(config.server.clone());
        let tls = tls(config)?;
        let mut older = tls.clone();
        older.alpn_protocols = vec![b"http/1.1".to_vec()];
        let connector = Connector {
            server: server.clone(),
            proxy: config.proxy.as_deref().map(Arc::from),
            allowed,
            name,
            tls: TlsConnector::from(Arc::new(tls)),
        };
        let upgrades = Door {
            http: Http::builder(TokioExecutor::new()).build(Connector {
                tls: TlsConnector::from(Arc::new(older)),
                ..connector.clone()
            }),
            server: server.clone(),
            token: token.clone(),
        };
        let http = Http::builder(TokioExecutor::new())
            .timer(TokioTimer::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(Duration::from_secs(60))
            // One connection carries all lists and watches, so it needs room for several at once.
            .http2_initial_stream_window_size(1 << 20)
            .http2_initial_connection_window_size(4 << 20)
            .http2_keep_alive_interval(PING_AFTER)
            .http2_keep_alive_timeout(PONG_WITHIN)
            .http2_keep_alive_while_idle(true)
            .build(connector);
        let door = Door {
            http,
            server: server.clone(),
            token: token.clone(),
        };
        Ok(Access {
            client: kube::Client::new(door, "default"),
            upgrades: Arc::new(kube::Client::new(upgrades, "default")),
            server,
            token,
        })
    }

    /// kube's client on this way.
    pub fn client(&self) -> &kube::Client {
        &self.client
    }

    /// A client whose requests may become another protocol.
    pub(crate) fn upgrades(&self) -> &kube::Client {
        &self.upgrades
    }

    /// Where it leads.
    pub fn server(&self) -> &Server {
        &self.server
    }

    /// Shows another token from the next request on; what is open stays open.
    pub fn renew(&self, token: &Zeroizing<String>) -> Result<(), AccessError> {
        self.token.0.store(Some(Arc::new(header(token)?)));
        Ok(())
    }
}

fn header(token: &Zeroizing<String>) -> Result<HeaderValue, AccessError> {
    let bearer = Zeroizing::new(format!("Bearer {}", token.as_str()));
    let mut value = HeaderValue::from_str(&bearer).map_err(|_| AccessError {
        what: "token",
        why: "it has characters no token has".into(),
    })?;
    value.set_sensitive(true);
    Ok(value)
}

fn tls(config: &Kubeconfig) -> Result<ClientConfig, AccessError> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let bad = |what| move |why: String| AccessError { what, why };
    let ca = bad("certificate-authority-data");
    let mut roots = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(config.ca.as_bytes()) {
        let certificate = certificate.map_err(|e| ca(e.to_string()))?;
        roots.add(certificate).map_err(|e| ca(e.to_string()))?;
    }
    if roots.is_empty() {
        return Err(ca("there is no certificate in it".into()));
    }
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| ca(e.to_string()))?
        .with_root_certificates(roots);
    let mut tls = match &config.user {
        User::Token(_) => builder.with_no_client_auth(),
        User::Certificate { chain, key } => {
            let of_chain = bad("client-certificate-data");
            let of_key = bad("client-key-data");
            let chain: Vec<_> = CertificateDer::pem_slice_iter(chain.as_bytes())
                .collect::<Result<_, _>>()
                .map_err(|e| of_chain(e.to_string()))?;
            let key =
                PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(|e| of_key(e.to_string()))?;
            builder
                .with_client_auth_cert(chain, key)
                .map_err(|e| of_key(e.to_string()))?
        }
    };
    tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(tls)
}

/// Puts the server's address and our token on each request.
#[derive(Clone)]
struct Door {
    http: Http<Connector, Body>,
    server: Arc<Server>,
    token: Arc<Token>,
}

impl tower_service::Service<Request<Body>> for Door {
    type Response = Response<Incoming>;
    type Error = hyper_util::client::legacy::Error;
    type Future = hyper_util::client::legacy::ResponseFuture;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let path = request.uri().path_and_query().map_or("/", |p| p.as_str());
        let uri = format!("https://{}{}{path}", self.server, self.server.path);
        // The server's parts were checked when the credential was read, the path comes from a request that has one.
        if let Ok(uri) = uri.parse::<Uri>() {
            *request.uri_mut() = uri;
        }
        let headers = request.headers_mut();
        headers.insert(
            USER_AGENT,
            HeaderValue::from_static(concat!("catamaran/", env!("CARGO_PKG_VERSION"))),
        );
        if let Some(token) = self.token.0.load_full() {
            headers.insert(AUTHORIZATION, HeaderValue::clone(&token));
        }
        self.http.request(request)
    }
}

#[derive(Clone)]
struct Connector {
    server: Arc<Server>,
    proxy: Option<Arc<str>>,
    allowed: Allowed,
    name: ServerName<'static>,
    tls: TlsConnector,
}

/// Why there is no connection.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum DialError {
    #[error("{0}")]
    Unreachable(String),
    #[error("{0}")]
    Address(String),
    #[error("{0}")]
    Tls(String),
}

impl tower_service::Service<Uri> for Connector {
    type Response = TokioIo<Tls>;
    type Error = DialError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, DialError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), DialError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let this = self.clone();
        Box::pin(async move {
            let late = |what| move |_| DialError::Unreachable(format!("no {what} within {DIAL:?}"));
            let dialled = tokio::time::timeout(DIAL, this.dial()).await;
            let tcp = dialled.map_err(late("connection"))??;
            let shaken = tokio::time::timeout(DIAL, this.tls.connect(this.name.clone(), tcp)).await;
            let tls = shaken.map_err(late("TLS handshake"))?;
            let tls = tls.map_err(|error| match tls_error(&error) {
                Some(why) => DialError::Tls(why),
                None => DialError::Unreachable(format!("in the TLS handshake: {error}")),
            })?;
            Ok(TokioIo::new(Tls(tls)))
        })
    }
}

fn tls_error(error: &io::Error) -> Option<String> {
    let inner = error.get_ref()?.downcast_ref::<rustls::Error>()?;
    Some(inner.to_string())
}

impl Connector {
    async fn dial(&self) -> Result<TcpStream, DialError> {
        let Some(proxy) = &self.proxy else {
            return self.dial_address(&self.server.host, self.server.port).await;
        };
        // The proxy resolves the server's name; that a person has allowed.
        let unreachable = |e: io::Error| DialError::Unreachable(format!("proxy {proxy}: {e}"));
        let mut tcp = TcpStream::connect(&**proxy).await.map_err(unreachable)?;
        let ask = format!("CONNECT {0} HTTP/1.1\r\nHost: {0}\r\n\r\n", self.server);
        tcp.write_all(ask.as_bytes()).await.map_err(unreachable)?;
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            match tcp.read_u8().await {
                Ok(byte) if answer.len() < 4096 => answer.push(byte),
                Ok(_) => return Err(unreachable(io::Error::other("its answer is too long"))),
                Err(error) => return Err(unreachable(error)),
            }
        }
        let first = String::from_utf8_lossy(&answer);
        let first = first.lines().next().unwrap_or_default();
        match first.split(' ').nth(1) {
            Some("200") => Ok(tcp),
            _ => Err(DialError::Unreachable(format!(
                "proxy {proxy}: {}",
                crate::failure::printable(first)
            ))),
        }
    }

    async fn dial_address(&self, host: &str, port: u16) -> Result<TcpStream, DialError> {
        let found: Vec<SocketAddr> = tokio::net::lookup_host((host, port))
            .await
            .map_err(|e| DialError::Unreachable(format!("the name {host} is not resolved: {e}")))?
            .collect();
        let mut last = DialError::Unreachable(format!("the name {host} has no address"));
        for address in found {
            if let Err(what) = check_address(address.ip(), self.allowed) {
                last = DialError::Address(format!("{host} leads to {}, {what}", address.ip()));
                continue;
            }
            match TcpStream::connect(address).await {
                Ok(tcp) => {
                    let _ = tcp.set_nodelay(true);
                    return Ok(tcp);
                }
                Err(error) => last = DialError::Unreachable(error.to_string()),
            }
        }
        Err(last)
    }
}

/// A TLS connection that tells hyper which protocol was agreed on.
pub(crate) struct Tls(TlsStream<TcpStream>);

impl Connection for Tls {
    fn connected(&self) -> Connected {
        match self.0.get_ref().1.alpn_protocol() {
            Some(b"h2") => Connected::new().negotiated_h2(),
            _ => Connected::new(),
        }
    }
}

impl AsyncRead for Tls {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Tls {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
