use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::{DownstreamTls, RetryPolicy, RouteTable};

/// A listener.
#[derive(Debug)]
pub struct Listener {
    pub(crate) name: Arc<str>,
    pub(crate) address: SocketAddr,
    pub(crate) bound: bool,
    pub(crate) hands_off: bool,
    pub(crate) inspects_tls: bool,
    pub(crate) inspects_http: bool,
    pub(crate) inspection_timeout: Option<Duration>,
    pub(crate) continue_on_timeout: bool,
}

impl Listener {
    /// Its name, `virtualOutbound` or `0.0.0.0_5000`.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Where it listens, or would if it were bound.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Whether a socket is to be opened for it; one that is not bound gets its connections from another.
    pub fn is_bound(&self) -> bool {
        self.bound
    }

    /// Whether it hands connections to the listener of their original destination.
    pub fn hands_off(&self) -> bool {
        self.hands_off
    }

    /// Whether the first bytes are to be searched for a TLS ClientHello before a chain is chosen.
    pub fn inspects_tls(&self) -> bool {
        self.inspects_tls
    }

    /// Whether the first bytes are to be searched for HTTP before a chain is chosen.
    pub fn inspects_http(&self) -> bool {
        self.inspects_http
    }

    /// How long to wait for the first bytes; `None` is without end. Envoy's default is 15 s.
    pub fn inspection_timeout(&self) -> Option<Duration> {
        self.inspection_timeout
    }

    /// Whether a connection that shows no bytes in time goes on as [`Detected::Opaque`](crate::Detected::Opaque), rather
    /// than being closed.
    pub fn continues_on_timeout(&self) -> bool {
        self.continue_on_timeout
    }
}

/// A filter chain: what is done with a connection.
#[derive(Debug)]
pub struct Chain {
    pub(crate) name: Arc<str>,
    pub(crate) tls: Option<Arc<DownstreamTls>>,
    pub(crate) handler: Handler,
}

impl Chain {
    /// Its name, often empty.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// The TLS that it ends; `None` when bytes are taken as they come.
    pub fn tls(&self) -> Option<&Arc<DownstreamTls>> {
        self.tls.as_ref()
    }

    /// HTTP or bytes.
    pub fn handler(&self) -> &Handler {
        &self.handler
    }
}

/// What a chain does in the end.
#[derive(Debug)]
pub enum Handler {
    /// Requests are routed one by one.
    Http(Http),
    /// The connection is carried as a whole.
    Tcp(Tcp),
}

/// How a chain speaks HTTP.
#[derive(Debug)]
pub struct Http {
    /// HTTP/1, HTTP/2, or whatever the first bytes say.
    pub codec: Codec,
    /// Where its routes are.
    pub routes: Routes,
    /// How long a stream may be silent; `None` is without end.
    pub stream_idle_timeout: Option<Duration>,
    /// How long a whole request may take to come in.
    pub request_timeout: Option<Duration>,
    /// How long the head of a request may take to come in.
    pub headers_timeout: Option<Duration>,
    /// How long a connection may be idle.
    pub idle_timeout: Option<Duration>,
    /// The most that a head may be, in KiB; Envoy's default is 60.
    pub max_head_kib: u32,
    /// Whether `Upgrade: websocket` is carried.
    pub websocket: bool,
    /// Whether a request gets an `x-request-id` if it has none.
    pub request_id: bool,
    /// What is done with `x-forwarded-client-cert`.
    pub client_cert: ClientCertHeader,
    /// The text of the `server` header, empty for none of ours.
    pub server_name: Arc<str>,
    pub(crate) strip_port: StripPort,
}

/// `CodecType`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Codec {
    /// What the first bytes or ALPN say.
    Auto,
    /// HTTP/1.
    Http1,
    /// HTTP/2.
    Http2,
}

/// Where the routes of a chain are.
#[derive(Debug)]
pub enum Routes {
    /// In the route configuration of this name.
    Named(Arc<str>),
    /// In the listener itself.
    Inline(Arc<RouteTable>),
}

/// Whether an authority loses its port before it is looked up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StripPort {
    Never,
    Matching,
    Always,
}

/// `forward_client_cert_details`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientCertHeader {
    /// Removed.
    Sanitize,
    /// Passed on when the connection is mTLS, else removed.
    ForwardOnly,
    /// The caller's is added when the connection is mTLS.
    AppendForward,
    /// Replaced by the caller's when the connection is mTLS.
    SanitizeSet,
    /// Passed on whoever the caller is.
    AlwaysForwardOnly,
}

/// How a chain carries bytes.
#[derive(Debug)]
pub struct Tcp {
    /// Where to, by share.
    pub(crate) clusters: WeightedClusters,
    /// How long both directions may be silent; `None` is without end. Envoy's default is an hour.
    pub idle_timeout: Option<Duration>,
    /// How often another endpoint is tried when one cannot be reached.
    pub(crate) retry: Option<Arc<RetryPolicy>>,
}

/// Clusters with their shares.
#[derive(Debug)]
pub(crate) struct WeightedClusters {
    pub(crate) names: Box<[(Arc<str>, u32)]>,
    pub(crate) total: u64,
}
