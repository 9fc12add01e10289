//! LDS: where connections are accepted, and which chain of filters takes each.

use prost::{Enumeration, Message, Oneof};

use crate::TypeUrl;
use crate::access_log::AccessLog;
use crate::core::{
    Address, CidrRange, ExtensionConfigSource, Metadata, SocketOption, SocketOptionsOverride,
    TcpKeepalive, TrafficDirection, TransportSocket, TypedExtensionConfig,
};
use crate::well_known::{Any, Duration, Unread};

/// `envoy.config.listener.v3.Listener`
#[derive(Clone, PartialEq, Message)]
pub struct Listener {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(message, optional, tag = "2")]
    pub address: Option<Address>,
    #[prost(message, repeated, tag = "33")]
    pub additional_addresses: Vec<AdditionalAddress>,
    #[prost(string, tag = "28")]
    pub stat_prefix: String,
    #[prost(bytes = "bytes", optional, tag = "39")]
    pub stats_matcher: Option<Unread>,
    #[prost(message, repeated, tag = "3")]
    pub filter_chains: Vec<FilterChain>,
    #[prost(bytes = "bytes", optional, tag = "36")]
    pub fcds_config: Option<Unread>,
    #[prost(bytes = "bytes", optional, tag = "32")]
    pub filter_chain_matcher: Option<Unread>,
    #[prost(message, optional, tag = "4")]
    pub use_original_dst: Option<bool>,
    #[prost(message, optional, tag = "25")]
    pub default_filter_chain: Option<FilterChain>,
    #[prost(message, optional, tag = "5")]
    pub per_connection_buffer_limit_bytes: Option<u32>,
    #[prost(message, optional, tag = "38")]
    pub per_connection_buffer_high_watermark_timeout: Option<Duration>,
    #[prost(message, optional, tag = "6")]
    pub metadata: Option<Metadata>,
    #[prost(message, optional, tag = "7")]
    pub deprecated_v1: Option<DeprecatedV1>,
    #[prost(enumeration = "DrainType", tag = "8")]
    pub drain_type: i32,
    #[prost(message, repeated, tag = "9")]
    pub listener_filters: Vec<ListenerFilter>,
    #[prost(message, optional, tag = "15")]
    pub listener_filters_timeout: Option<Duration>,
    #[prost(bool, tag = "17")]
    pub continue_on_listener_filters_timeout: bool,
    #[prost(message, optional, tag = "10")]
    pub transparent: Option<bool>,
    #[prost(message, optional, tag = "11")]
    pub freebind: Option<bool>,
    #[prost(message, repeated, tag = "13")]
    pub socket_options: Vec<SocketOption>,
    #[prost(message, optional, tag = "12")]
    pub tcp_fast_open_queue_length: Option<u32>,
    #[prost(enumeration = "TrafficDirection", tag = "16")]
    pub traffic_direction: i32,
    #[prost(bytes = "bytes", optional, tag = "18")]
    pub udp_listener_config: Option<Unread>,
    #[prost(message, optional, tag = "19")]
    pub api_listener: Option<ApiListener>,
    #[prost(message, optional, tag = "20")]
    pub connection_balance_config: Option<ConnectionBalanceConfig>,
    #[prost(bool, tag = "21")]
    pub reuse_port: bool,
    #[prost(message, optional, tag = "29")]
    pub enable_reuse_port: Option<bool>,
    #[prost(message, repeated, tag = "22")]
    pub access_log: Vec<AccessLog>,
    #[prost(message, optional, tag = "24")]
    pub tcp_backlog_size: Option<u32>,
    #[prost(message, optional, tag = "34")]
    pub max_connections_to_accept_per_socket_event: Option<u32>,
    #[prost(message, optional, tag = "26")]
    pub bind_to_port: Option<bool>,
    #[prost(message, optional, tag = "27")]
    pub internal_listener: Option<InternalListenerConfig>,
    #[prost(bool, tag = "30")]
    pub enable_mptcp: bool,
    #[prost(bool, tag = "31")]
    pub ignore_global_conn_limit: bool,
    #[prost(bool, tag = "35")]
    pub bypass_overload_manager: bool,
    #[prost(message, optional, tag = "37")]
    pub tcp_keepalive: Option<TcpKeepalive>,
}

/// `envoy.config.listener.v3.Listener.DrainType`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Enumeration)]
#[repr(i32)]
pub enum DrainType {
    Default = 0,
    ModifyOnly = 1,
}

/// `envoy.config.listener.v3.Listener.DeprecatedV1`
#[derive(Clone, PartialEq, Message)]
pub struct DeprecatedV1 {
    #[prost(message, optional, tag = "1")]
    pub bind_to_port: Option<bool>,
}

/// `envoy.config.listener.v3.Listener.ConnectionBalanceConfig`
#[derive(Clone, PartialEq, Message)]
pub struct ConnectionBalanceConfig {
    #[prost(oneof = "BalanceType", tags = "1, 2, 3")]
    pub balance_type: Option<BalanceType>,
}

/// `envoy.config.listener.v3.Listener.ConnectionBalanceConfig.balance_type`
#[derive(Clone, PartialEq, Oneof)]
pub enum BalanceType {
    #[prost(message, tag = "1")]
    ExactBalance(ExactBalance),
    #[prost(message, tag = "2")]
    ExtendBalance(TypedExtensionConfig),
    #[prost(message, tag = "3")]
    CpuLocalityBalance(CpuLocalityBalance),
}

/// `envoy.config.listener.v3.Listener.ConnectionBalanceConfig.ExactBalance`
#[derive(Clone, PartialEq, Message)]
pub struct ExactBalance {}

/// `envoy.config.listener.v3.Listener.ConnectionBalanceConfig.CpuLocalityBalance`
#[derive(Clone, PartialEq, Message)]
pub struct CpuLocalityBalance {}

/// `envoy.config.listener.v3.Listener.InternalListenerConfig`
#[derive(Clone, PartialEq, Message)]
pub struct InternalListenerConfig {}

/// `envoy.config.listener.v3.AdditionalAddress`
#[derive(Clone, PartialEq, Message)]
pub struct AdditionalAddress {
    #[prost(message, optional, tag = "1")]
    pub address: Option<Address>,
    #[prost(message, optional, tag = "2")]
    pub socket_options: Option<SocketOptionsOverride>,
    #[prost(message, optional, tag = "3")]
    pub tcp_keepalive: Option<TcpKeepalive>,
}

/// `envoy.config.listener.v3.FilterChain`
#[derive(Clone, PartialEq, Message)]
pub struct FilterChain {
    #[prost(message, optional, tag = "1")]
    pub filter_chain_match: Option<FilterChainMatch>,
    #[prost(message, repeated, tag = "3")]
    pub filters: Vec<Filter>,
    #[prost(message, optional, tag = "4")]
    pub use_proxy_proto: Option<bool>,
    #[prost(message, optional, tag = "5")]
    pub metadata: Option<Metadata>,
    #[prost(message, optional, tag = "6")]
    pub transport_socket: Option<TransportSocket>,
    #[prost(message, optional, tag = "9")]
    pub transport_socket_connect_timeout: Option<Duration>,
    #[prost(string, tag = "7")]
    pub name: String,
}

/// `envoy.config.listener.v3.FilterChainMatch`
#[derive(Clone, PartialEq, Message)]
pub struct FilterChainMatch {
    #[prost(message, optional, tag = "8")]
    pub destination_port: Option<u32>,
    #[prost(message, repeated, tag = "3")]
    pub prefix_ranges: Vec<CidrRange>,
    #[prost(string, tag = "4")]
    pub address_suffix: String,
    #[prost(message, optional, tag = "5")]
    pub suffix_len: Option<u32>,
    #[prost(message, repeated, tag = "13")]
    pub direct_source_prefix_ranges: Vec<CidrRange>,
    #[prost(enumeration = "ConnectionSourceType", tag = "12")]
    pub source_type: i32,
    #[prost(message, repeated, tag = "6")]
    pub source_prefix_ranges: Vec<CidrRange>,
    #[prost(uint32, repeated, tag = "7")]
    pub source_ports: Vec<u32>,
    #[prost(string, repeated, tag = "11")]
    pub server_names: Vec<String>,
    #[prost(string, tag = "9")]
    pub transport_protocol: String,
    #[prost(string, repeated, tag = "10")]
    pub application_protocols: Vec<String>,
}

/// `envoy.config.listener.v3.FilterChainMatch.ConnectionSourceType`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Enumeration)]
#[repr(i32)]
pub enum ConnectionSourceType {
    Any = 0,
    SameIpOrLoopback = 1,
    External = 2,
}

/// `envoy.config.listener.v3.Filter`
#[derive(Clone, PartialEq, Message)]
pub struct Filter {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(oneof = "FilterConfigType", tags = "4, 5")]
    pub config_type: Option<FilterConfigType>,
}

impl Filter {
    pub fn new<M: Message + TypeUrl>(name: &str, settings: &M) -> Self {
        Self {
            name: name.to_owned(),
            config_type: Some(FilterConfigType::TypedConfig(Any::pack(settings))),
        }
    }
}

/// `envoy.config.listener.v3.Filter.config_type`
#[derive(Clone, PartialEq, Oneof)]
pub enum FilterConfigType {
    #[prost(message, tag = "4")]
    TypedConfig(Any),
    #[prost(message, tag = "5")]
    ConfigDiscovery(ExtensionConfigSource),
}

/// `envoy.config.listener.v3.ListenerFilter`
#[derive(Clone, PartialEq, Message)]
pub struct ListenerFilter {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(oneof = "ListenerFilterConfigType", tags = "3, 5")]
    pub config_type: Option<ListenerFilterConfigType>,
    #[prost(bytes = "bytes", optional, tag = "4")]
    pub filter_disabled: Option<Unread>,
}

impl ListenerFilter {
    pub fn new<M: Message + TypeUrl>(name: &str, settings: &M) -> Self {
        Self {
            name: name.to_owned(),
            config_type: Some(ListenerFilterConfigType::TypedConfig(Any::pack(settings))),
            ..Self::default()
        }
    }
}

/// `envoy.config.listener.v3.ListenerFilter.config_type`
#[derive(Clone, PartialEq, Oneof)]
pub enum ListenerFilterConfigType {
    #[prost(message, tag = "3")]
    TypedConfig(Any),
    #[prost(message, tag = "5")]
    ConfigDiscovery(ExtensionConfigSource),
}

/// `envoy.config.listener.v3.ApiListener`
#[derive(Clone, PartialEq, Message)]
pub struct ApiListener {
    #[prost(message, optional, tag = "1")]
    pub api_listener: Option<Any>,
}
