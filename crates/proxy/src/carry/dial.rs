//! Makes connections to upstreams: TCP, then TLS with a verified peer before any byte of a request.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use catamaran_decide::{Outcome, Transport};
use catamaran_identity::PeerError;
use catamaran_model::Fingerprint;
use rustls_pki_types::ServerName;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsConnector;

use super::ahead::Ahead;
use super::lanes::Leaf;
use super::stream::Stream;
use super::tls::{Offer, RuleError, TLS_BUFFER, is_http2};
use super::worker::Worker;

/// Connecting and the TLS handshake together may take so long, or the cluster's connect timeout where that is longer.
pub(crate) const CONNECT_AND_TLS: Duration = Duration::from_secs(1);
/// How long sent bytes may stay unacknowledged on a connection that leaves the cluster, unless HTTP/2 pings watch it. The
/// kernel counts the time of a full receiver too, so this must be longer than a slow reader's pause.
pub(crate) const UNACKNOWLEDGED: Duration = Duration::from_secs(15);
pub(crate) const KEEPALIVE_TIME: Duration = Duration::from_secs(10);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);

/// What a connection is to be.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    pub(crate) address: SocketAddr,
    pub(crate) transport: Transport,
    pub(crate) issuers: Option<Arc<[Fingerprint]>>,
    /// The longest time for TCP.
    pub(crate) connect: Duration,
    /// Which of the transport's protocols are offered.
    pub(crate) offer: Offer,
    /// Whether it leaves the cluster.
    pub(crate) remote: bool,
}

/// A connection that stands, and to whom.
#[derive(Debug)]
pub(crate) struct Dialed {
    pub(crate) stream: Stream,
    /// Whether TLS negotiated HTTP/2.
    pub(crate) http2: bool,
    /// Whether TLS negotiated anything.
    pub(crate) negotiated: bool,
    /// The verified identity.
    pub(crate) peer: Option<Arc<str>>,
    /// The hash of the certificate shown.
    pub(crate) leaf: Leaf,
}

/// Why there is no connection.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum DialError {
    /// Refused, unreachable, or reset.
    #[error("connecting to {0} failed: {1}")]
    Connect(SocketAddr, Arc<io::Error>),
    /// No answer in time.
    #[error("connecting to {0} took more than {ms} ms", ms = .1.as_millis())]
    ConnectSlow(SocketAddr, Duration),
    /// The handshake failed.
    #[error("TLS with {0} failed: {1}")]
    Tls(SocketAddr, Arc<io::Error>),
    /// The handshake took too long.
    #[error("TLS with {0} was not ready in time")]
    TlsSlow(SocketAddr),
    /// Somebody else answered.
    #[error("{0} is not who it should be: {1}")]
    Identity(SocketAddr, PeerError),
    /// The cluster's TLS settings cannot be used.
    #[error("no TLS for {0}: {1}")]
    Rule(SocketAddr, RuleError),
    /// The first bytes of HTTP were not taken.
    #[error("HTTP with {0} could not begin: {1}")]
    Http(SocketAddr, Arc<hyper::Error>),
    /// Connections stood and ended before they could be used.
    #[error("connections to {0} end as soon as they are made")]
    Fleeting(SocketAddr),
}

impl DialError {
    /// The evidence it is.
    pub(crate) fn outcome(&self) -> Outcome {
        match self {
            DialError::Connect(..)
            | DialError::ConnectSlow(..)
            | DialError::Http(..)
            | DialError::Fleeting(_) => Outcome::ConnectFailure,
            DialError::Tls(..) | DialError::TlsSlow(_) => Outcome::TlsFailure,
            DialError::Identity(..) | DialError::Rule(..) => Outcome::IdentityMismatch,
        }
    }
}

/// Connects. Dropped in the middle, it leaves nothing behind.
pub(crate) async fn dial(worker: &Worker, target: &Target) -> Result<Dialed, DialError> {
    let credentials = &worker.credentials;
    let address = target.address;
    let begun = Instant::now();
    let stream = match timeout_at(begun + target.connect, TcpStream::connect(address)).await {
        Err(_) => return Err(DialError::ConnectSlow(address, target.connect)),
        Ok(Err(error)) => return Err(DialError::Connect(address, Arc::new(error))),
        Ok(Ok(stream)) => stream,
    };
    tune(&stream);
    let Transport::Mutual(tls) = &target.transport else {
        if target.remote {
            watch_acknowledgements(&stream);
        }
        return Ok(Dialed {
            stream: Stream::Plain(stream),
            http2: false,
            negotiated: false,
            peer: None,
            leaf: None,
        });
    };
    let failed = |error: io::Error| match PeerError::of_io(&error) {
        Some(peer) => DialError::Identity(address, peer.clone()),
        None => DialError::Tls(address, Arc::new(error)),
    };
    let meeting = worker
        .configs
        .client(credentials, tls, &target.issuers, target.offer, address)
        .map_err(|error| DialError::Rule(address, error))?;
    let name = ServerName::try_from(tls.sni.to_string())
        .map_err(|error| failed(io::Error::other(error)))?;
    let connecting = TlsConnector::from(meeting.config).connect_with(
        name,
        Ahead::new(Vec::new(), stream),
        |connection| connection.set_buffer_limit(Some(TLS_BUFFER)),
    );
    let deadline = begun + CONNECT_AND_TLS.max(target.connect);
    let stream = match timeout_at(deadline, connecting).await {
        Err(_) => return Err(DialError::TlsSlow(address)),
        Ok(Err(error)) => return Err(failed(error)),
        Ok(Ok(stream)) => stream,
    };
    let (socket, session) = stream.get_ref();
    let http2 = session.alpn_protocol().is_some_and(is_http2);
    let negotiated = session.alpn_protocol().is_some();
    if target.remote && !http2 {
        watch_acknowledgements(socket.get_ref());
    }
    // a resumed session has shown whom it was once made with: that is worth only what it is worth now
    let peer = credentials
        .server(session, &meeting.rule, worker.now())
        .map_err(|error| {
            meeting.sessions.forget();
            DialError::Identity(address, error)
        })?;
    let peer = Some(Arc::from(peer.id.to_string()));
    let leaf = session
        .peer_certificates()
        .and_then(|chain| chain.first())
        .map(|leaf| {
            let mut hasher = DefaultHasher::new();
            leaf.hash(&mut hasher);
            hasher.finish()
        });
    Ok(Dialed {
        stream: Stream::Client(Box::new(stream)),
        http2,
        negotiated,
        peer,
        leaf,
    })
}

/// Options that every connection of either side has, and every listener for its connections. None of them is worth failing
/// for.
pub(crate) fn tune<'s>(socket: impl Into<SockRef<'s>>) {
    let socket = socket.into();
    let _ = socket.set_tcp_nodelay(true);
    let keepalive = TcpKeepalive::new()
        .with_time(KEEPALIVE_TIME)
        .with_interval(KEEPALIVE_INTERVAL)
        .with_retries(3);
    let _ = socket.set_tcp_keepalive(&keepalive);
}

fn watch_acknowledgements(stream: &TcpStream) {
    let _ = SockRef::from(stream).set_tcp_user_timeout(Some(UNACKNOWLEDGED));
}
