//! TLS of both sides: whom we demand to meet, and who was met.

use std::sync::Arc;
use std::time::Duration;

use catamaran_decide::{DownstreamTls, IdentityMatch, MutualTls};
use catamaran_identity::{ClientAuth, Credentials, PeerError, PeerRole, PeerRule};
use catamaran_model::{Fingerprint, SpiffeId, Timestamp};
use rustls::ServerConfig;
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, server};

use super::detect::Rewound;

/// How long a caller's handshake may take.
pub const ACCEPT_WAIT: Duration = Duration::from_secs(5);
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

/// What a chain's TLS needs of rustls.
pub(crate) fn server_config(
    credentials: &Credentials,
    tls: &DownstreamTls,
) -> Result<Arc<ServerConfig>, rustls::Error> {
    let alpn: Vec<&[u8]> = tls.alpn.iter().map(|name| name.as_bytes()).collect();
    let auth = if tls.require_client_certificate {
        ClientAuth::Required
    } else {
        ClientAuth::Optional
    };
    credentials.server_config(&alpn, auth)
}

/// Ends a caller's TLS here. Gives the connection, and the caller's identity if it proved one.
pub(crate) async fn accept(
    credentials: &Credentials,
    config: Arc<ServerConfig>,
    stream: Rewound<TcpStream>,
    now: Timestamp,
) -> Result<(Box<server::TlsStream<Rewound<TcpStream>>>, Option<Arc<str>>), AcceptError> {
    let accepting = TlsAcceptor::from(config)
        .accept_with(stream, |connection| connection.set_buffer_limit(Some(TLS_BUFFER)));
    let stream = tokio::time::timeout(ACCEPT_WAIT, accepting)
        .await
        .map_err(|_| AcceptError::Slow)?
        .map_err(AcceptError::Handshake)?;
    let peer = credentials.peer(stream.get_ref().1, PeerRole::Client, now)?;
    let peer = peer.map(|peer| Arc::from(peer.id.to_string()));
    Ok((Box::new(stream), peer))
}

/// Why a cluster's TLS settings cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RuleError {
    /// It names identities by their beginning, or accepts any.
    #[error("the cluster accepts identities by pattern, which is not implemented for upstreams; list them")]
    Pattern,
    /// It names something that is no identity.
    #[error("the cluster accepts {0:?}, which is not an identity of a mesh")]
    NotAnIdentity(Arc<str>),
}

/// Whom we demand to meet. Fails closed: what cannot be checked exactly is not connected to.
pub(crate) fn peer_rule(tls: &MutualTls, issuers: Option<&[Fingerprint]>) -> Result<PeerRule, RuleError> {
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
