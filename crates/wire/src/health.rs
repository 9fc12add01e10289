//! Active health checks and their verdicts.

use bytes::Bytes;
use prost::{Enumeration, Message, Oneof};

use crate::core::{HeaderValueOption, TypedExtensionConfig};
use crate::matcher::{Int64Range, StringMatcher};
use crate::well_known::{Duration, Struct, Unread};

/// `envoy.config.core.v3.HealthStatusSet`
#[derive(Clone, PartialEq, Message)]
pub struct HealthStatusSet {
    #[prost(enumeration = "HealthStatus", repeated, tag = "1")]
    pub statuses: Vec<i32>,
}

/// `envoy.config.core.v3.HealthCheck`
#[derive(Clone, PartialEq, Message)]
pub struct HealthCheck {
    #[prost(message, optional, tag = "1")]
    pub timeout: Option<Duration>,
    #[prost(message, optional, tag = "2")]
    pub interval: Option<Duration>,
    #[prost(message, optional, tag = "20")]
    pub initial_jitter: Option<Duration>,
    #[prost(message, optional, tag = "3")]
    pub interval_jitter: Option<Duration>,
    #[prost(uint32, tag = "18")]
    pub interval_jitter_percent: u32,
    #[prost(message, optional, tag = "4")]
    pub unhealthy_threshold: Option<u32>,
    #[prost(message, optional, tag = "5")]
    pub healthy_threshold: Option<u32>,
    #[prost(message, optional, tag = "6")]
    pub alt_port: Option<u32>,
    #[prost(message, optional, tag = "7")]
    pub reuse_connection: Option<bool>,
    #[prost(oneof = "HealthChecker", tags = "8, 9, 11, 13")]
    pub health_checker: Option<HealthChecker>,
    #[prost(message, optional, tag = "12")]
    pub no_traffic_interval: Option<Duration>,
    #[prost(message, optional, tag = "24")]
    pub no_traffic_healthy_interval: Option<Duration>,
    #[prost(message, optional, tag = "14")]
    pub unhealthy_interval: Option<Duration>,
    #[prost(message, optional, tag = "15")]
    pub unhealthy_edge_interval: Option<Duration>,
    #[prost(message, optional, tag = "16")]
    pub healthy_edge_interval: Option<Duration>,
    #[prost(string, tag = "17")]
    pub event_log_path: String,
    #[prost(message, repeated, tag = "25")]
    pub event_logger: Vec<TypedExtensionConfig>,
    #[prost(bytes = "bytes", optional, tag = "22")]
    pub event_service: Option<Unread>,
    #[prost(bool, tag = "19")]
    pub always_log_health_check_failures: bool,
    #[prost(bool, tag = "26")]
    pub always_log_health_check_success: bool,
    #[prost(message, optional, tag = "21")]
    pub tls_options: Option<TlsOptions>,
    #[prost(message, optional, tag = "23")]
    pub transport_socket_match_criteria: Option<Struct>,
}

/// `envoy.config.core.v3.HealthCheck.health_checker`
#[derive(Clone, PartialEq, Oneof)]
pub enum HealthChecker {
    #[prost(message, tag = "8")]
    HttpHealthCheck(HttpHealthCheck),
    #[prost(message, tag = "9")]
    TcpHealthCheck(TcpHealthCheck),
    #[prost(message, tag = "11")]
    GrpcHealthCheck(GrpcHealthCheck),
    #[prost(bytes = "bytes", tag = "13")]
    CustomHealthCheck(Unread),
}

/// `envoy.config.core.v3.HealthCheck.Payload`
#[derive(Clone, PartialEq, Message)]
pub struct Payload {
    #[prost(oneof = "PayloadKind", tags = "1, 2")]
    pub payload: Option<PayloadKind>,
}

/// `envoy.config.core.v3.HealthCheck.Payload.payload`
#[derive(Clone, PartialEq, Oneof)]
pub enum PayloadKind {
    #[prost(string, tag = "1")]
    Text(String),
    #[prost(bytes = "bytes", tag = "2")]
    Binary(Bytes),
}

/// `envoy.config.core.v3.HealthCheck.HttpHealthCheck`
#[derive(Clone, PartialEq, Message)]
pub struct HttpHealthCheck {
    #[prost(string, tag = "1")]
    pub host: String,
    #[prost(string, tag = "2")]
    pub path: String,
    #[prost(message, optional, tag = "3")]
    pub send: Option<Payload>,
    #[prost(message, repeated, tag = "4")]
    pub receive: Vec<Payload>,
    #[prost(message, optional, tag = "14")]
    pub response_buffer_size: Option<u64>,
    #[prost(message, repeated, tag = "6")]
    pub request_headers_to_add: Vec<HeaderValueOption>,
    #[prost(string, repeated, tag = "8")]
    pub request_headers_to_remove: Vec<String>,
    #[prost(message, repeated, tag = "9")]
    pub expected_statuses: Vec<Int64Range>,
    #[prost(message, repeated, tag = "12")]
    pub retriable_statuses: Vec<Int64Range>,
    #[prost(enumeration = "CodecClientType", tag = "10")]
    pub codec_client_type: i32,
    #[prost(message, optional, tag = "11")]
    pub service_name_matcher: Option<StringMatcher>,
    #[prost(enumeration = "RequestMethod", tag = "13")]
    pub method: i32,
}

/// `envoy.type.v3.CodecClientType`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Enumeration)]
#[repr(i32)]
pub enum CodecClientType {
    Http1 = 0,
    Http2 = 1,
    Http3 = 2,
}

/// `envoy.config.core.v3.RequestMethod`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Enumeration)]
#[repr(i32)]
pub enum RequestMethod {
    MethodUnspecified = 0,
    Get = 1,
    Head = 2,
    Post = 3,
    Put = 4,
    Delete = 5,
    Connect = 6,
    Options = 7,
    Trace = 8,
    Patch = 9,
}

/// `envoy.config.core.v3.HealthCheck.TcpHealthCheck`
#[derive(Clone, PartialEq, Message)]
pub struct TcpHealthCheck {
    #[prost(message, optional, tag = "1")]
    pub send: Option<Payload>,
    #[prost(message, repeated, tag = "2")]
    pub receive: Vec<Payload>,
    #[prost(bytes = "bytes", optional, tag = "3")]
    pub proxy_protocol_config: Option<Unread>,
}

/// `envoy.config.core.v3.HealthCheck.GrpcHealthCheck`
#[derive(Clone, PartialEq, Message)]
pub struct GrpcHealthCheck {
    #[prost(string, tag = "1")]
    pub service_name: String,
    #[prost(string, tag = "2")]
    pub authority: String,
    #[prost(message, repeated, tag = "3")]
    pub initial_metadata: Vec<HeaderValueOption>,
}

/// `envoy.config.core.v3.HealthCheck.TlsOptions`
#[derive(Clone, PartialEq, Message)]
pub struct TlsOptions {
    #[prost(string, repeated, tag = "1")]
    pub alpn_protocols: Vec<String>,
}

/// `envoy.config.core.v3.HealthStatus`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Enumeration)]
#[repr(i32)]
pub enum HealthStatus {
    Unknown = 0,
    Healthy = 1,
    Unhealthy = 2,
    Draining = 3,
    Timeout = 4,
    Degraded = 5,
}
