//! Filters that look at a connection before its filter chain is chosen.

use prost::Message;

/// `envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector`
#[derive(Clone, PartialEq, Message)]
pub struct TlsInspector {
    #[prost(message, optional, tag = "1")]
    pub enable_ja3_fingerprinting: Option<bool>,
    #[prost(message, optional, tag = "3")]
    pub enable_ja4_fingerprinting: Option<bool>,
    #[prost(message, optional, tag = "2")]
    pub initial_read_buffer_size: Option<u32>,
    #[prost(bool, tag = "4")]
    pub close_connection_on_client_hello_parsing_errors: bool,
    #[prost(message, optional, tag = "5")]
    pub max_client_hello_size: Option<u32>,
}

/// `envoy.extensions.filters.listener.original_dst.v3.OriginalDst`
#[derive(Clone, PartialEq, Message)]
pub struct OriginalDst {}

/// `envoy.extensions.filters.listener.http_inspector.v3.HttpInspector`
#[derive(Clone, PartialEq, Message)]
pub struct HttpInspector {}
