//! The names that extensions go by in Envoy's configuration, beside the type of their settings.

pub const HTTP_CONNECTION_MANAGER: &str = "envoy.filters.network.http_connection_manager";
pub const TCP_PROXY: &str = "envoy.filters.network.tcp_proxy";
pub const SNI_CLUSTER: &str = "envoy.filters.network.sni_cluster";
pub const NETWORK_RBAC: &str = "envoy.filters.network.rbac";

pub const HTTP_ROUTER: &str = "envoy.filters.http.router";
pub const HTTP_RBAC: &str = "envoy.filters.http.rbac";
pub const HTTP_FAULT: &str = "envoy.filters.http.fault";
pub const HTTP_CORS: &str = "envoy.filters.http.cors";
pub const HTTP_GRPC_STATS: &str = "envoy.filters.http.grpc_stats";

pub const TLS_INSPECTOR: &str = "envoy.filters.listener.tls_inspector";
pub const HTTP_INSPECTOR: &str = "envoy.filters.listener.http_inspector";
pub const ORIGINAL_DST: &str = "envoy.filters.listener.original_dst";
pub const PROXY_PROTOCOL: &str = "envoy.filters.listener.proxy_protocol";

pub const TLS: &str = "envoy.transport_sockets.tls";
pub const RAW_BUFFER: &str = "envoy.transport_sockets.raw_buffer";

/// The key of [`UpstreamHttpOptions`](crate::cluster::UpstreamHttpOptions) in a cluster's typed options.
pub const UPSTREAM_HTTP_OPTIONS: &str = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";

pub const PREVIOUS_HOSTS: &str = "envoy.retry_host_predicates.previous_hosts";

pub const FILE_ACCESS_LOG: &str = "envoy.access_loggers.file";
pub const STDOUT_ACCESS_LOG: &str = "envoy.access_loggers.stdout";
pub const STDERR_ACCESS_LOG: &str = "envoy.access_loggers.stderr";

/// The key of `LbEndpoint.metadata` that `transport_socket_matches` are held against.
pub const TRANSPORT_SOCKET_MATCH: &str = "envoy.transport_socket_match";
/// The key of metadata that subsets of endpoints are chosen by.
pub const LB: &str = "envoy.lb";
