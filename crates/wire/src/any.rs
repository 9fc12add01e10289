use std::fmt;

use bytes::Bytes;
use prost::{DecodeError, Message};

/// `google.protobuf.Any`
///
/// A message in its packed form. Decoding a message that holds an `Any` does not decode what the `Any` holds, so nesting
/// of any depth costs no stack; when the outer message is decoded from [`Bytes`], the inner bytes are shared, not copied.
#[derive(Clone, PartialEq, Message)]
#[prost(skip_debug)]
pub struct Any {
    #[prost(string, tag = "1")]
    pub type_url: String,
    #[prost(bytes = "bytes", tag = "2")]
    pub value: Bytes,
}

impl Any {
    pub fn pack<M: Message + TypeUrl>(message: &M) -> Self {
        Self {
            type_url: M::TYPE_URL.to_owned(),
            value: message.encode_to_vec().into(),
        }
    }

    /// Only the name after the last `/` must match, as protobuf asks; the host before it means nothing.
    pub fn is<M: TypeUrl>(&self) -> bool {
        message_name(&self.type_url) == message_name(M::TYPE_URL)
    }

    pub fn unpack<M: Message + Default + TypeUrl>(&self) -> Result<M, UnpackError> {
        if !self.is::<M>() {
            return Err(UnpackError::OtherType {
                wanted: M::TYPE_URL,
                found: self.type_url.clone(),
            });
        }
        M::decode(self.value.clone()).map_err(|reason| UnpackError::Malformed {
            wanted: M::TYPE_URL,
            reason,
        })
    }
}

/// Names the type and the size only: what is packed may be a private key.
impl fmt::Debug for Any {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Any")
            .field("type_url", &self.type_url)
            .field("value", &format_args!("{} bytes", self.value.len()))
            .finish()
    }
}

fn message_name(type_url: &str) -> &str {
    type_url.rsplit_once('/').map_or(type_url, |(_, name)| name)
}

/// Why an [`Any`] is not the message asked for. The sender must change it; to unpack it again does not help.
#[derive(Clone, Debug, PartialEq)]
pub enum UnpackError {
    OtherType {
        wanted: &'static str,
        found: String,
    },
    Malformed {
        wanted: &'static str,
        reason: DecodeError,
    },
}

impl fmt::Display for UnpackError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OtherType { wanted, found } => {
                write!(
                    f,
                    "wanted {}, found {:?}",
                    message_name(wanted),
                    message_name(found)
                )
            }
            Self::Malformed { wanted, reason } => {
                write!(f, "malformed {}: {reason}", message_name(wanted))
            }
        }
    }
}

impl std::error::Error for UnpackError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::OtherType { .. } => None,
            Self::Malformed { reason, .. } => Some(reason),
        }
    }
}

/// A message with a name on the wire: an xDS resource, or what travels inside an [`Any`].
pub trait TypeUrl {
    /// With the prefix that everyone writes, `type.googleapis.com/`.
    const TYPE_URL: &'static str;
}

macro_rules! type_urls {
    ($($message:path = $name:literal,)*) => {
        $(impl TypeUrl for $message {
            const TYPE_URL: &'static str = concat!("type.googleapis.com/", $name);
        })*

        /// The last part of each Rust path and the full name it goes by, for the test that holds both together.
        #[cfg(test)]
        const NAMES: &[(&str, &str)] = &[$((stringify!($message), $name),)*];
    };
}

type_urls! {
    // Resources.
    crate::listener::Listener = "envoy.config.listener.v3.Listener",
    crate::route::RouteConfiguration = "envoy.config.route.v3.RouteConfiguration",
    crate::cluster::Cluster = "envoy.config.cluster.v3.Cluster",
    crate::endpoint::ClusterLoadAssignment = "envoy.config.endpoint.v3.ClusterLoadAssignment",
    crate::endpoint::LbEndpoint = "envoy.config.endpoint.v3.LbEndpoint",
    crate::tls::Secret = "envoy.extensions.transport_sockets.tls.v3.Secret",
    crate::core::TypedExtensionConfig = "envoy.config.core.v3.TypedExtensionConfig",
    crate::names::NameTable = "istio.networking.nds.v1.NameTable",
    crate::own::Issuers = "catamaran.v1.Issuers",

    // Network filters, HTTP filters, listener filters.
    crate::hcm::HttpConnectionManager =
        "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
    crate::tcp::TcpProxy = "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
    crate::hcm::Router = "envoy.extensions.filters.http.router.v3.Router",
    crate::listener_filter::TlsInspector = "envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector",
    crate::listener_filter::HttpInspector = "envoy.extensions.filters.listener.http_inspector.v3.HttpInspector",
    crate::listener_filter::OriginalDst = "envoy.extensions.filters.listener.original_dst.v3.OriginalDst",

    // Transport sockets and protocol options.
    crate::tls::DownstreamTlsContext = "envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
    crate::tls::UpstreamTlsContext = "envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
    crate::tls::RawBuffer = "envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer",
    crate::cluster::UpstreamHttpOptions = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions",

    // Access logs and retry predicates.
    crate::access_log::FileAccessLog = "envoy.extensions.access_loggers.file.v3.FileAccessLog",
    crate::access_log::StdoutAccessLog = "envoy.extensions.access_loggers.stream.v3.StdoutAccessLog",
    crate::access_log::StderrAccessLog = "envoy.extensions.access_loggers.stream.v3.StderrAccessLog",
    crate::route::PreviousHostsPredicate = "envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate",

    // Per-route settings of filters, and values of metadata.
    crate::route::FilterConfig = "envoy.config.route.v3.FilterConfig",
    crate::well_known::Struct = "google.protobuf.Struct",
}

#[cfg(test)]
mod tests;
