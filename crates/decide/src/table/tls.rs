use std::sync::Arc;

/// How an endpoint is spoken to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Transport {
    /// Without TLS.
    Plain,
    /// With TLS, and with a certificate of ours.
    Mutual(Arc<MutualTls>),
}

/// How we show ourselves to an upstream, and whom we take for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MutualTls {
    /// The server name we ask for, `outbound_.5000_._.helloworld.default.svc.cluster.local`.
    pub sni: Arc<str>,
    /// Who may answer. Empty: anybody of the mesh's roots.
    pub allowed: Arc<[IdentityMatch]>,
    /// The protocols we offer, in order.
    pub alpn: Arc<[Arc<str>]>,
    /// The name of the secret with our certificate, usually `default`.
    pub certificate: Arc<str>,
    /// The name of the secret with the roots, usually `ROOTCA`.
    pub roots: Arc<str>,
}

/// What a listener's chain demands of TLS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DownstreamTls {
    /// Whether the caller must show a certificate of the mesh's roots.
    pub require_client_certificate: bool,
    /// Who may call; empty: anybody of the mesh's roots.
    pub allowed: Arc<[IdentityMatch]>,
    /// The protocols we take, in order.
    pub alpn: Arc<[Arc<str>]>,
    /// The name of the secret with our certificate.
    pub certificate: Arc<str>,
    /// The name of the secret with the roots; `None` when no client certificate is asked for.
    pub roots: Option<Arc<str>>,
}

/// A rule for the one URI name of a certificate.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum IdentityMatch {
    /// This identity.
    Exact(Arc<str>),
    /// Identities that start so, such as those of one trust domain: `spiffe://cluster.local/`.
    Prefix(Arc<str>),
}

impl IdentityMatch {
    /// Whether a SPIFFE id is meant.
    pub fn takes(&self, id: &str) -> bool {
        match self {
            IdentityMatch::Exact(exact) => id == &**exact,
            IdentityMatch::Prefix(prefix) => id.starts_with(&**prefix),
        }
    }
}

impl std::fmt::Display for IdentityMatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            IdentityMatch::Exact(exact) => f.write_str(exact),
            IdentityMatch::Prefix(prefix) => write!(f, "{prefix}*"),
        }
    }
}

/// Whether an identity is one of those allowed; an empty list takes everybody that the roots vouch for.
pub fn allows(allowed: &[IdentityMatch], id: &str) -> bool {
    allowed.is_empty() || allowed.iter().any(|rule| rule.takes(id))
}
