//! TLS of both sides: whom we demand to meet, and who was met.

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use catamaran_decide::{DownstreamTls, IdentityMatch, MutualTls};
use catamaran_identity::{ClientAuth, Credentials, PeerError, PeerRole, PeerRule, Sessions};
use catamaran_model::{Fingerprint, SpiffeId};
use rustls::{ClientConfig, ServerConfig};
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, server};

use super::ahead::Ahead;
use super::worker::Worker;
use crate::report::Turned;

/// How long a caller's handshake may take.
pub(crate) const ACCEPT_WAIT: Duration = Duration::from_secs(5);
/// Handshakes of callers that a worker works on at once; others wait, so that under a storm of them some get done in time.
pub(crate) const HANDSHAKES: usize = 64;
/// After so long a turn goes to the next caller, and the handshake goes on without one: it waits for its caller, which costs
/// nothing, and callers that say nothing more must not keep others from their turns.
pub(crate) const TURN: Duration = Duration::from_millis(20);
/// Plaintext that a TLS stream keeps at most when the network does not take it.
pub(crate) const TLS_BUFFER: usize = 64 * 1024;

/// Why a caller's TLS did not stand.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AcceptError {
    /// It took too long.
    #[error("the TLS handshake took more than {} s", ACCEPT_WAIT.as_secs())]
    Slow,
    /// It failed; where our own check failed, the reason says so.
    #[error("the TLS handshake failed: {0}")]
    Handshake(std::io::Error),
    /// Our side cannot be set up.
    #[error("our TLS cannot be set up: {0}")]
    Setup(#[from] rustls::Error),
    /// The caller is nobody we trust.
    #[error("the caller's certificate is refused: {0}")]
    Peer(#[from] PeerError),
}

impl AcceptError {
    /// How such a caller is counted.
    pub(crate) fn turned(&self) -> Turned {
        match self {
            AcceptError::Peer(_) => Turned::Certificate,
            AcceptError::Handshake(error) if PeerError::of_io(error).is_some() => {
                Turned::Certificate
            }
            AcceptError::Handshake(_) | AcceptError::Slow | AcceptError::Setup(_) => {
                Turned::Handshake
            }
        }
    }
}

/// Configurations that a worker keeps; beyond it they are made anew, and sessions with them.
const CONFIGS: usize = 1024;
/// Sessions with one endpoint that are kept to be resumed, of about two kilobytes each: a connection takes one and brings one.
const SESSIONS: usize = 16;
/// Endpoints of which a worker keeps sessions.
const MET: usize = 512;

/// Which of a cluster's application protocols are offered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Offer {
    /// All that the cluster names.
    All,
    /// Without HTTP/2: for clusters of HTTP/1, and for requests that change the protocol.
    WithoutHttp2,
    /// Without any HTTP: for connections carried as a whole.
    Opaque,
}

impl Offer {
    fn has(self, name: &[u8]) -> bool {
        match self {
            Offer::All => true,
            Offer::WithoutHttp2 => !is_http2(name),
            Offer::Opaque => !is_http2(name) && !is_http1(name),
        }
    }
}

/// Whether an application protocol is HTTP/2, in its own name or Istio's.
pub(crate) fn is_http2(alpn: &[u8]) -> bool {
    matches!(alpn, b"h2" | b"istio-h2")
}

/// Whether an application protocol is HTTP/1, in its own name or Istio's.
pub(crate) fn is_http1(alpn: &[u8]) -> bool {
    matches!(
        alpn,
        b"http/1.1" | b"http/1.0" | b"istio-http/1.1" | b"istio-http/1.0"
    )
}

type Issuers = Option<Arc<[Fingerprint]>>;

/// What TLS with one cluster needs: whom to meet, and rustls' settings without sessions.
#[derive(Clone)]
struct Client {
    rule: PeerRule,
    config: Arc<ClientConfig>,
}

/// What TLS with one endpoint needs.
#[derive(Clone)]
pub(crate) struct Meeting {
    pub(crate) config: Arc<ClientConfig>,
    pub(crate) rule: PeerRule,
    /// What is left of earlier connections.
    pub(crate) sessions: Arc<Sessions>,
}

/// The settings at whose addresses a configuration is filed are held, so that no others take their place.
type HeldClient = (Arc<MutualTls>, Issuers, Client);
type Server = (Arc<DownstreamTls>, Arc<ServerConfig>);
type ClientKey = (usize, usize, Offer);

/// rustls' configurations in use by a worker, found by the settings that they were made of. They stay good when the
/// certificate changes.
#[derive(Default)]
pub(crate) struct Configs {
    clients: RefCell<HashMap<ClientKey, HeldClient>>,
    /// By endpoint too: a session with one is worth nothing to another. Cleared with `clients`.
    meetings: RefCell<HashMap<(ClientKey, SocketAddr), Meeting>>,
    servers: RefCell<HashMap<usize, Server>>,
}

impl Configs {
    /// What a chain's TLS needs of rustls.
    pub(crate) fn server(
        &self,
        credentials: &Credentials,
        tls: &Arc<DownstreamTls>,
    ) -> Result<Arc<ServerConfig>, rustls::Error> {
        let key = Arc::as_ptr(tls) as usize;
        let mut servers = self.servers.borrow_mut();
        if let Some((_, config)) = servers.get(&key) {
            return Ok(config.clone());
        }
        let alpn: Vec<&[u8]> = tls.alpn.iter().map(|name| name.as_bytes()).collect();
        let auth = if tls.require_client_certificate {
            ClientAuth::Required
        } else {
            ClientAuth::Optional
        };
        let config = match tls.resumes {
            true => credentials.resuming_server_config(&alpn, auth)?,
            false => credentials.server_config(&alpn, auth)?,
        };
        if servers.len() >= CONFIGS {
            servers.clear();
        }
        servers.insert(key, (tls.clone(), config.clone()));
        Ok(config)
    }

    /// What TLS with an endpoint of a cluster needs.
    pub(crate) fn client(
        &self,
        credentials: &Credentials,
        tls: &Arc<MutualTls>,
        issuers: &Issuers,
        offer: Offer,
        address: SocketAddr,
    ) -> Result<Meeting, RuleError> {
        let issuers_at = issuers
            .as_ref()
            .map_or(0, |issuers| Arc::as_ptr(issuers).cast::<u8>() as usize);
        let key = (Arc::as_ptr(tls) as usize, issuers_at, offer);
        let mut meetings = self.meetings.borrow_mut();
        if let Some(meeting) = meetings.get(&(key, address)) {
            return Ok(meeting.clone());
        }
        let mut clients = self.clients.borrow_mut();
        let client = match clients.get(&key) {
            Some((_, _, client)) => client.clone(),
            None => {
                let client = new_client(credentials, tls, issuers, offer)?;
                if clients.len() >= CONFIGS {
                    clients.clear();
                    meetings.clear();
                }
                clients.insert(key, (tls.clone(), issuers.clone(), client.clone()));
                client
            }
        };
        let room = if tls.resumes { SESSIONS } else { 0 };
        let (config, sessions) = credentials.resuming(&client.config, room);
        let meeting = Meeting {
            config,
            rule: client.rule,
            sessions,
        };
        if meetings.len() >= MET {
            meetings.clear();
        }
        meetings.insert((key, address), meeting.clone());
        Ok(meeting)
    }
}

fn new_client(
    credentials: &Credentials,
    tls: &Arc<MutualTls>,
    issuers: &Issuers,
    offer: Offer,
) -> Result<Client, RuleError> {
    let rule = peer_rule(tls, issuers.as_deref())?;
    let alpn: Vec<&[u8]> = tls
        .alpn
        .iter()
        .map(|name| name.as_bytes())
        .filter(|name| offer.has(name))
        .collect();
    let config = credentials
        .client_config(&rule, &alpn)
        .map_err(|error| RuleError::Setup(error.to_string()))?;
    Ok(Client { rule, config })
}

/// Ends a caller's TLS here. Gives the connection, and the caller's identity if it proved one.
pub(crate) async fn accept(
    worker: &Worker,
    config: Arc<ServerConfig>,
    stream: Ahead<TcpStream>,
) -> Result<(Box<server::TlsStream<Ahead<TcpStream>>>, Option<Arc<str>>), AcceptError> {
    let accepting = async {
        let turn = worker.handshakes.acquire().await;
        let mut accepting = TlsAcceptor::from(config).accept_with(stream, |connection| {
            connection.set_buffer_limit(Some(TLS_BUFFER))
        });
        match tokio::time::timeout(TURN, &mut accepting).await {
            Ok(done) => done,
            Err(_) => {
                drop(turn);
                accepting.await
            }
        }
    };
    let stream = tokio::time::timeout(ACCEPT_WAIT, accepting)
        .await
        .map_err(|_| AcceptError::Slow)?
        .map_err(AcceptError::Handshake)?;
    let session = stream.get_ref().1;
    let peer = worker
        .credentials
        .peer(session, PeerRole::Client, worker.now())?;
    let peer = peer.map(|peer| Arc::from(peer.id.to_string()));
    Ok((Box::new(stream), peer))
}

/// Why a cluster's TLS settings cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RuleError {
    /// It names identities by their beginning, or accepts any.
    #[error(
        "the cluster accepts identities by pattern, which is not implemented for upstreams; list them"
    )]
    Pattern,
    /// It names something that is no identity.
    #[error("the cluster accepts {0:?}, which is not an identity of a mesh")]
    NotAnIdentity(Arc<str>),
    /// rustls does not take them.
    #[error("our TLS cannot be set up: {0}")]
    Setup(String),
}

/// Whom we demand to meet. Fails closed: what cannot be checked exactly is not connected to.
fn peer_rule(tls: &MutualTls, issuers: Option<&[Fingerprint]>) -> Result<PeerRule, RuleError> {
    if tls.allowed.is_empty() {
        return Err(RuleError::Pattern);
    }
    let mut identities = Vec::with_capacity(tls.allowed.len());
    for allowed in tls.allowed.iter() {
        let IdentityMatch::Exact(text) = allowed else {
            return Err(RuleError::Pattern);
        };
        identities.push(SpiffeId::parse(text).map_err(|_| RuleError::NotAnIdentity(text.clone()))?);
    }
    let rule = PeerRule::any_of(identities);
    Ok(match issuers {
        Some(issuers) => rule.issued_by(issuers.iter().copied()),
        None => rule,
    })
}
