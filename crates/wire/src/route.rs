//! RDS: which request goes to which cluster, changed how, tried how often.

use std::collections::BTreeMap;

use prost::{Enumeration, Message, Oneof};

use crate::core::{
    ConfigSource, DataSource, FractionalPercent, HeaderValueOption, Metadata, RoutingPriority,
    RuntimeFractionalPercent, SubstitutionFormatString, TypedExtensionConfig,
};
use crate::matcher::{Int64Range, RegexMatchAndSubstitute, RegexMatcher, StringMatcher};
use crate::well_known::{Any, Duration, Unread};

/// `envoy.config.route.v3.RouteConfiguration`
#[derive(Clone, PartialEq, Message)]
pub struct RouteConfiguration {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(message, repeated, tag = "2")]
    pub virtual_hosts: Vec<VirtualHost>,
    #[prost(message, optional, tag = "9")]
    pub vhds: Option<Vhds>,
    #[prost(string, repeated, tag = "3")]
    pub internal_only_headers: Vec<String>,
    #[prost(message, repeated, tag = "4")]
    pub response_headers_to_add: Vec<HeaderValueOption>,
    #[prost(string, repeated, tag = "5")]
    pub response_headers_to_remove: Vec<String>,
    #[prost(message, repeated, tag = "6")]
    pub request_headers_to_add: Vec<HeaderValueOption>,
    #[prost(string, repeated, tag = "8")]
    pub request_headers_to_remove: Vec<String>,
    #[prost(bool, tag = "10")]
    pub most_specific_header_mutations_wins: bool,
    #[prost(message, optional, tag = "7")]
    pub validate_clusters: Option<bool>,
    #[prost(message, optional, tag = "11")]
    pub max_direct_response_body_size_bytes: Option<u32>,
    #[prost(message, repeated, tag = "12")]
    pub cluster_specifier_plugins: Vec<ClusterSpecifierPlugin>,
    #[prost(message, repeated, tag = "13")]
    pub request_mirror_policies: Vec<RequestMirrorPolicy>,
    #[prost(bool, tag = "14")]
    pub ignore_port_in_host_matching: bool,
    #[prost(string, tag = "18")]
    pub vhost_header: String,
    #[prost(bool, tag = "15")]
    pub ignore_path_parameters_in_path_matching: bool,
    #[prost(btree_map = "string, message", tag = "16")]
    pub typed_per_filter_config: BTreeMap<String, Any>,
    #[prost(message, optional, tag = "17")]
    pub metadata: Option<Metadata>,
    #[prost(message, repeated, tag = "19")]
    pub route_specifiers: Vec<TypedExtensionConfig>,
}

/// `envoy.config.route.v3.Vhds`
#[derive(Clone, PartialEq, Message)]
pub struct Vhds {
    #[prost(message, optional, tag = "1")]
    pub config_source: Option<ConfigSource>,
}

/// `envoy.config.route.v3.VirtualHost`
#[derive(Clone, PartialEq, Message)]
pub struct VirtualHost {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(string, repeated, tag = "2")]
    pub domains: Vec<String>,
    #[prost(message, repeated, tag = "3")]
    pub routes: Vec<Route>,
    #[prost(bytes = "bytes", optional, tag = "21")]
    pub matcher: Option<Unread>,
    #[prost(enumeration = "TlsRequirementType", tag = "4")]
    pub require_tls: i32,
    #[prost(bytes = "bytes", repeated, tag = "5")]
    pub virtual_clusters: Vec<Unread>,
    #[prost(bytes = "bytes", repeated, tag = "6")]
    pub rate_limits: Vec<Unread>,
    #[prost(message, repeated, tag = "7")]
    pub request_headers_to_add: Vec<HeaderValueOption>,
    #[prost(string, repeated, tag = "13")]
    pub request_headers_to_remove: Vec<String>,
    #[prost(message, repeated, tag = "10")]
    pub response_headers_to_add: Vec<HeaderValueOption>,
    #[prost(string, repeated, tag = "11")]
    pub response_headers_to_remove: Vec<String>,
    #[prost(message, optional, tag = "8")]
    pub cors: Option<CorsPolicy>,
    #[prost(btree_map = "string, message", tag = "15")]
    pub typed_per_filter_config: BTreeMap<String, Any>,
    #[prost(bool, tag = "14")]
    pub include_request_attempt_count: bool,
    #[prost(bool, tag = "19")]
    pub include_attempt_count_in_response: bool,
    #[prost(message, optional, tag = "16")]
    pub retry_policy: Option<RetryPolicy>,
    #[prost(message, optional, tag = "20")]
    pub retry_policy_typed_config: Option<Any>,
    #[prost(message, optional, tag = "17")]
    pub hedge_policy: Option<HedgePolicy>,
    #[prost(bool, tag = "23")]
    pub include_is_timeout_retry_header: bool,
    #[prost(message, optional, tag = "18")]
    pub per_request_buffer_limit_bytes: Option<u32>,
    #[prost(message, optional, tag = "25")]
    pub request_body_buffer_limit: Option<u64>,
    #[prost(message, repeated, tag = "22")]
    pub request_mirror_policies: Vec<RequestMirrorPolicy>,
    #[prost(message, optional, tag = "24")]
    pub metadata: Option<Metadata>,
    #[prost(message, repeated, tag = "26")]
    pub route_specifiers: Vec<TypedExtensionConfig>,
}

/// `envoy.config.route.v3.VirtualHost.TlsRequirementType`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Enumeration)]
#[repr(i32)]
pub enum TlsRequirementType {
    None = 0,
    ExternalOnly = 1,
    All = 2,
}

/// `envoy.config.route.v3.Route`
#[derive(Clone, PartialEq, Message)]
pub struct Route {
    #[prost(string, tag = "14")]
    pub name: String,
    #[prost(message, optional, tag = "1")]
    pub r#match: Option<RouteMatch>,
    #[prost(oneof = "Action", tags = "2, 3, 7, 17, 18")]
    pub action: Option<Action>,
    #[prost(message, optional, tag = "4")]
    pub metadata: Option<Metadata>,
    #[prost(message, optional, tag = "5")]
    pub decorator: Option<Decorator>,
    #[prost(btree_map = "string, message", tag = "13")]
    pub typed_per_filter_config: BTreeMap<String, Any>,
    #[prost(message, repeated, tag = "9")]
    pub request_headers_to_add: Vec<HeaderValueOption>,
    #[prost(string, repeated, tag = "12")]
    pub request_headers_to_remove: Vec<String>,
    #[prost(message, repeated, tag = "10")]
    pub response_headers_to_add: Vec<HeaderValueOption>,
    #[prost(string, repeated, tag = "11")]
    pub response_headers_to_remove: Vec<String>,
    #[prost(bytes = "bytes", optional, tag = "15")]
    pub tracing: Option<Unread>,
    #[prost(message, optional, tag = "16")]
    pub per_request_buffer_limit_bytes: Option<u32>,
    #[prost(string, tag = "19")]
    pub stat_prefix: String,
    #[prost(message, optional, tag = "20")]
    pub request_body_buffer_limit: Option<u64>,
    #[prost(message, repeated, tag = "21")]
    pub route_specifiers: Vec<TypedExtensionConfig>,
}

/// `envoy.config.route.v3.Route.action`
#[derive(Clone, PartialEq, Oneof)]
pub enum Action {
    #[prost(message, tag = "2")]
    Route(RouteAction),
    #[prost(message, tag = "3")]
    Redirect(RedirectAction),
    #[prost(message, tag = "7")]
    DirectResponse(DirectResponseAction),
    #[prost(message, tag = "17")]
    FilterAction(FilterAction),
    #[prost(message, tag = "18")]
    NonForwardingAction(NonForwardingAction),
}

/// `envoy.config.route.v3.RouteList`
#[derive(Clone, PartialEq, Message)]
pub struct RouteList {
    #[prost(message, repeated, tag = "1")]
    pub routes: Vec<Route>,
}

/// `envoy.config.route.v3.RouteMatch`
#[derive(Clone, PartialEq, Message)]
pub struct RouteMatch {
    #[prost(oneof = "PathSpecifier", tags = "1, 2, 10, 12, 14, 15")]
    pub path_specifier: Option<PathSpecifier>,
    #[prost(message, optional, tag = "4")]
    pub case_sensitive: Option<bool>,
    #[prost(message, optional, tag = "9")]
    pub runtime_fraction: Option<RuntimeFractionalPercent>,
    #[prost(message, repeated, tag = "6")]
    pub headers: Vec<HeaderMatcher>,
    #[prost(message, repeated, tag = "7")]
    pub query_parameters: Vec<QueryParameterMatcher>,
    #[prost(message, repeated, tag = "17")]
    pub cookies: Vec<CookieMatcher>,
    #[prost(message, optional, tag = "8")]
    pub grpc: Option<GrpcRouteMatchOptions>,
    #[prost(message, optional, tag = "11")]
    pub tls_context: Option<TlsContextMatchOptions>,
    #[prost(bytes = "bytes", repeated, tag = "13")]
    pub dynamic_metadata: Vec<Unread>,
    #[prost(bytes = "bytes", repeated, tag = "16")]
    pub filter_state: Vec<Unread>,
}

/// `envoy.config.route.v3.RouteMatch.path_specifier`
#[derive(Clone, PartialEq, Oneof)]
pub enum PathSpecifier {
    #[prost(string, tag = "1")]
    Prefix(String),
    #[prost(string, tag = "2")]
    Path(String),
    #[prost(message, tag = "10")]
    SafeRegex(RegexMatcher),
    #[prost(message, tag = "12")]
    ConnectMatcher(ConnectMatcher),
    #[prost(string, tag = "14")]
    PathSeparatedPrefix(String),
    #[prost(message, tag = "15")]
    PathMatchPolicy(TypedExtensionConfig),
}

/// `envoy.config.route.v3.RouteMatch.GrpcRouteMatchOptions`
#[derive(Clone, PartialEq, Message)]
pub struct GrpcRouteMatchOptions {}

/// `envoy.config.route.v3.RouteMatch.TlsContextMatchOptions`
#[derive(Clone, PartialEq, Message)]
pub struct TlsContextMatchOptions {
    #[prost(message, optional, tag = "1")]
    pub presented: Option<bool>,
    #[prost(message, optional, tag = "2")]
    pub validated: Option<bool>,
}

/// `envoy.config.route.v3.RouteMatch.ConnectMatcher`
#[derive(Clone, PartialEq, Message)]
pub struct ConnectMatcher {}

/// `envoy.config.route.v3.HeaderMatcher`
#[derive(Clone, PartialEq, Message)]
pub struct HeaderMatcher {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(oneof = "HeaderMatchSpecifier", tags = "4, 11, 6, 7, 9, 10, 12, 13")]
    pub header_match_specifier: Option<HeaderMatchSpecifier>,
    #[prost(bool, tag = "8")]
    pub invert_match: bool,
    #[prost(bool, tag = "14")]
    pub treat_missing_header_as_empty: bool,
}

/// `envoy.config.route.v3.HeaderMatcher.header_match_specifier`
#[derive(Clone, PartialEq, Oneof)]
pub enum HeaderMatchSpecifier {
    #[prost(string, tag = "4")]
    ExactMatch(String),
    #[prost(message, tag = "11")]
    SafeRegexMatch(RegexMatcher),
    #[prost(message, tag = "6")]
    RangeMatch(Int64Range),
    #[prost(bool, tag = "7")]
    PresentMatch(bool),
    #[prost(string, tag = "9")]
    PrefixMatch(String),
    #[prost(string, tag = "10")]
    SuffixMatch(String),
    #[prost(string, tag = "12")]
    ContainsMatch(String),
    #[prost(message, tag = "13")]
    StringMatch(StringMatcher),
}

/// `envoy.config.route.v3.QueryParameterMatcher`
#[derive(Clone, PartialEq, Message)]
pub struct QueryParameterMatcher {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(oneof = "QueryParameterMatchSpecifier", tags = "5, 6")]
    pub query_parameter_match_specifier: Option<QueryParameterMatchSpecifier>,
}

/// `envoy.config.route.v3.QueryParameterMatcher.query_parameter_match_specifier`
#[derive(Clone, PartialEq, Oneof)]
pub enum QueryParameterMatchSpecifier {
    #[prost(message, tag = "5")]
    StringMatch(StringMatcher),
    #[prost(bool, tag = "6")]
    PresentMatch(bool),
}

/// `envoy.config.route.v3.CookieMatcher`
#[derive(Clone, PartialEq, Message)]
pub struct CookieMatcher {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(message, optional, tag = "2")]
    pub string_match: Option<StringMatcher>,
    #[prost(bool, tag = "3")]
    pub invert_match: bool,
}

/// `envoy.config.route.v3.RouteAction`
#[derive(Clone, PartialEq, Message)]
pub struct RouteAction {
    #[prost(oneof = "ClusterSpecifier", tags = "1, 2, 3, 37, 39")]
    pub cluster_specifier: Option<ClusterSpecifier>,
    #[prost(enumeration = "ClusterNotFoundResponseCode", tag = "20")]
    pub cluster_not_found_response_code: i32,
    #[prost(message, optional, tag = "4")]
    pub metadata_match: Option<Metadata>,
    #[prost(string, tag = "5")]
    pub prefix_rewrite: String,
    #[prost(message, optional, tag = "32")]
    pub regex_rewrite: Option<RegexMatchAndSubstitute>,
    #[prost(message, optional, tag = "41")]
    pub path_rewrite_policy: Option<TypedExtensionConfig>,
    #[prost(string, tag = "45")]
    pub path_rewrite: String,
    #[prost(oneof = "HostRewriteSpecifier", tags = "6, 7, 29, 35, 44")]
    pub host_rewrite_specifier: Option<HostRewriteSpecifier>,
    #[prost(bool, tag = "38")]
    pub append_x_forwarded_host: bool,
    #[prost(message, optional, tag = "8")]
    pub timeout: Option<Duration>,
    #[prost(message, optional, tag = "24")]
    pub idle_timeout: Option<Duration>,
    #[prost(message, optional, tag = "42")]
    pub flush_timeout: Option<Duration>,
    #[prost(message, optional, tag = "40")]
    pub early_data_policy: Option<TypedExtensionConfig>,
    #[prost(message, optional, tag = "9")]
    pub retry_policy: Option<RetryPolicy>,
    #[prost(message, optional, tag = "33")]
    pub retry_policy_typed_config: Option<Any>,
    #[prost(message, repeated, tag = "30")]
    pub request_mirror_policies: Vec<RequestMirrorPolicy>,
    #[prost(enumeration = "RoutingPriority", tag = "11")]
    pub priority: i32,
    #[prost(bytes = "bytes", repeated, tag = "13")]
    pub rate_limits: Vec<Unread>,
    #[prost(message, optional, tag = "14")]
    pub include_vh_rate_limits: Option<bool>,
    #[prost(message, repeated, tag = "15")]
    pub hash_policy: Vec<HashPolicy>,
    #[prost(message, optional, tag = "17")]
    pub cors: Option<CorsPolicy>,
    #[prost(message, optional, tag = "23")]
    pub max_grpc_timeout: Option<Duration>,
    #[prost(message, optional, tag = "28")]
    pub grpc_timeout_offset: Option<Duration>,
    #[prost(message, repeated, tag = "25")]
    pub upgrade_configs: Vec<UpgradeConfig>,
    #[prost(message, optional, tag = "34")]
    pub internal_redirect_policy: Option<InternalRedirectPolicy>,
    #[prost(enumeration = "InternalRedirectAction", tag = "26")]
    pub internal_redirect_action: i32,
    #[prost(message, optional, tag = "31")]
    pub max_internal_redirects: Option<u32>,
    #[prost(message, optional, tag = "27")]
    pub hedge_policy: Option<HedgePolicy>,
    #[prost(message, optional, tag = "36")]
    pub max_stream_duration: Option<MaxStreamDuration>,
}

/// `envoy.config.route.v3.RouteAction.cluster_specifier`
#[derive(Clone, PartialEq, Oneof)]
pub enum ClusterSpecifier {
    #[prost(string, tag = "1")]
    Cluster(String),
    #[prost(string, tag = "2")]
    ClusterHeader(String),
    #[prost(message, tag = "3")]
    WeightedClusters(WeightedCluster),
    #[prost(string, tag = "37")]
    ClusterSpecifierPlugin(String),
    #[prost(message, tag = "39")]
    InlineClusterSpecifierPlugin(ClusterSpecifierPlugin),
}

/// `envoy.config.route.v3.RouteAction.host_rewrite_specifier`
#[derive(Clone, PartialEq, Oneof)]
pub enum HostRewriteSpecifier {
    #[prost(string, tag = "6")]
    HostRewriteLiteral(String),
    #[prost(message, tag = "7")]
    AutoHostRewrite(bool),
    #[prost(string, tag = "29")]
    HostRewriteHeader(String),
    #[prost(message, tag = "35")]
    HostRewritePathRegex(RegexMatchAndSubstitute),
    #[prost(string, tag = "44")]
    HostRewrite(String),
}

/// `envoy.config.route.v3.RouteAction.ClusterNotFoundResponseCode`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Enumeration)]
#[repr(i32)]
pub enum ClusterNotFoundResponseCode {
    ServiceUnavailable = 0,
    NotFound = 1,
    InternalServerError = 2,
}

/// `envoy.config.route.v3.RouteAction.InternalRedirectAction`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Enumeration)]
#[repr(i32)]
pub enum InternalRedirectAction {
    PassThroughInternalRedirect = 0,
    HandleInternalRedirect = 1,
}

/// `envoy.config.route.v3.RouteAction.RequestMirrorPolicy`
#[derive(Clone, PartialEq, Message)]
pub struct RequestMirrorPolicy {
    #[prost(string, tag = "1")]
    pub cluster: String,
    #[prost(string, tag = "5")]
    pub cluster_header: String,
    #[prost(message, optional, tag = "3")]
    pub runtime_fraction: Option<RuntimeFractionalPercent>,
    #[prost(message, optional, tag = "4")]
    pub trace_sampled: Option<bool>,
    #[prost(bool, tag = "6")]
    pub disable_shadow_host_suffix_append: bool,
    #[prost(bytes = "bytes", repeated, tag = "7")]
    pub request_headers_mutations: Vec<Unread>,
    #[prost(string, tag = "8")]
    pub host_rewrite_literal: String,
}

/// `envoy.config.route.v3.RouteAction.HashPolicy`
#[derive(Clone, PartialEq, Message)]
pub struct HashPolicy {
    #[prost(oneof = "PolicySpecifier", tags = "1, 2, 3, 5, 6")]
    pub policy_specifier: Option<PolicySpecifier>,
    #[prost(bool, tag = "4")]
    pub terminal: bool,
}

/// `envoy.config.route.v3.RouteAction.HashPolicy.policy_specifier`
#[derive(Clone, PartialEq, Oneof)]
pub enum PolicySpecifier {
    #[prost(message, tag = "1")]
    Header(HashHeader),
    #[prost(message, tag = "2")]
    Cookie(HashCookie),
    #[prost(message, tag = "3")]
    ConnectionProperties(HashConnectionProperties),
    #[prost(message, tag = "5")]
    QueryParameter(HashQueryParameter),
    #[prost(message, tag = "6")]
    FilterState(HashFilterState),
}

/// `envoy.config.route.v3.RouteAction.HashPolicy.Header`
#[derive(Clone, PartialEq, Message)]
pub struct HashHeader {
    #[prost(string, tag = "1")]
    pub header_name: String,
    #[prost(message, optional, tag = "2")]
    pub regex_rewrite: Option<RegexMatchAndSubstitute>,
}

/// `envoy.config.route.v3.RouteAction.HashPolicy.Cookie`
#[derive(Clone, PartialEq, Message)]
pub struct HashCookie {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(message, optional, tag = "2")]
    pub ttl: Option<Duration>,
    #[prost(string, tag = "3")]
    pub path: String,
    #[prost(message, repeated, tag = "4")]
    pub attributes: Vec<HashCookieAttribute>,
}

/// `envoy.config.route.v3.RouteAction.HashPolicy.CookieAttribute`
#[derive(Clone, PartialEq, Message)]
pub struct HashCookieAttribute {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(string, tag = "2")]
    pub value: String,
}

/// `envoy.config.route.v3.RouteAction.HashPolicy.ConnectionProperties`
#[derive(Clone, PartialEq, Message)]
pub struct HashConnectionProperties {
    #[prost(bool, tag = "1")]
    pub source_ip: bool,
}

/// `envoy.config.route.v3.RouteAction.HashPolicy.QueryParameter`
#[derive(Clone, PartialEq, Message)]
pub struct HashQueryParameter {
    #[prost(string, tag = "1")]
    pub name: String,
}

/// `envoy.config.route.v3.RouteAction.HashPolicy.FilterState`
#[derive(Clone, PartialEq, Message)]
pub struct HashFilterState {
    #[prost(string, tag = "1")]
    pub key: String,
}

/// `envoy.config.route.v3.RouteAction.UpgradeConfig`
#[derive(Clone, PartialEq, Message)]
pub struct UpgradeConfig {
    #[prost(string, tag = "1")]
    pub upgrade_type: String,
    #[prost(message, optional, tag = "2")]
    pub enabled: Option<bool>,
    #[prost(message, optional, tag = "3")]
    pub connect_config: Option<ConnectConfig>,
}

/// `envoy.config.route.v3.RouteAction.UpgradeConfig.ConnectConfig`
#[derive(Clone, PartialEq, Message)]
pub struct ConnectConfig {
    #[prost(bytes = "bytes", optional, tag = "1")]
    pub proxy_protocol_config: Option<Unread>,
    #[prost(bool, tag = "2")]
    pub allow_post: bool,
}

/// `envoy.config.route.v3.RouteAction.MaxStreamDuration`
#[derive(Clone, PartialEq, Message)]
pub struct MaxStreamDuration {
    #[prost(message, optional, tag = "1")]
    pub max_stream_duration: Option<Duration>,
    #[prost(message, optional, tag = "2")]
    pub grpc_timeout_header_max: Option<Duration>,
    #[prost(message, optional, tag = "3")]
    pub grpc_timeout_header_offset: Option<Duration>,
}

/// `envoy.config.route.v3.WeightedCluster`
#[derive(Clone, PartialEq, Message)]
pub struct WeightedCluster {
    #[prost(message, repeated, tag = "1")]
    pub clusters: Vec<ClusterWeight>,
    #[prost(message, optional, tag = "3")]
    pub total_weight: Option<u32>,
    #[prost(string, tag = "2")]
    pub runtime_key_prefix: String,
    #[prost(oneof = "RandomValueSpecifier", tags = "4, 5")]
    pub random_value_specifier: Option<RandomValueSpecifier>,
}

/// `envoy.config.route.v3.WeightedCluster.random_value_specifier`
#[derive(Clone, PartialEq, Oneof)]
pub enum RandomValueSpecifier {
    #[prost(string, tag = "4")]
    HeaderName(String),
    #[prost(message, tag = "5")]
    UseHashPolicy(bool),
}

/// `envoy.config.route.v3.WeightedCluster.ClusterWeight`
#[derive(Clone, PartialEq, Message)]
pub struct ClusterWeight {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(string, tag = "12")]
    pub cluster_header: String,
    #[prost(message, optional, tag = "2")]
    pub weight: Option<u32>,
    #[prost(message, optional, tag = "3")]
    pub metadata_match: Option<Metadata>,
    #[prost(message, repeated, tag = "4")]
    pub request_headers_to_add: Vec<HeaderValueOption>,
    #[prost(string, repeated, tag = "9")]
    pub request_headers_to_remove: Vec<String>,
    #[prost(message, repeated, tag = "5")]
    pub response_headers_to_add: Vec<HeaderValueOption>,
    #[prost(string, repeated, tag = "6")]
    pub response_headers_to_remove: Vec<String>,
    #[prost(btree_map = "string, message", tag = "10")]
    pub typed_per_filter_config: BTreeMap<String, Any>,
    #[prost(string, optional, tag = "11")]
    pub host_rewrite_literal: Option<String>,
}

/// `envoy.config.route.v3.RetryPolicy`
#[derive(Clone, PartialEq, Message)]
pub struct RetryPolicy {
    #[prost(string, tag = "1")]
    pub retry_on: String,
    #[prost(message, optional, tag = "2")]
    pub num_retries: Option<u32>,
    #[prost(message, optional, tag = "3")]
    pub per_try_timeout: Option<Duration>,
    #[prost(message, optional, tag = "13")]
    pub per_try_idle_timeout: Option<Duration>,
    #[prost(message, optional, tag = "4")]
    pub retry_priority: Option<RetryPriority>,
    #[prost(message, repeated, tag = "5")]
    pub retry_host_predicate: Vec<RetryHostPredicate>,
    #[prost(message, repeated, tag = "12")]
    pub retry_options_predicates: Vec<TypedExtensionConfig>,
    #[prost(int64, tag = "6")]
    pub host_selection_retry_max_attempts: i64,
    #[prost(uint32, repeated, tag = "7")]
    pub retriable_status_codes: Vec<u32>,
    #[prost(message, optional, tag = "8")]
    pub retry_back_off: Option<RetryBackOff>,
    #[prost(message, optional, tag = "11")]
    pub rate_limited_retry_back_off: Option<RateLimitedRetryBackOff>,
    #[prost(message, repeated, tag = "9")]
    pub retriable_headers: Vec<HeaderMatcher>,
    #[prost(message, repeated, tag = "10")]
    pub retriable_request_headers: Vec<HeaderMatcher>,
    #[prost(bool, tag = "14")]
    pub refresh_cluster_on_retry: bool,
}

/// `envoy.config.route.v3.RetryPolicy.RetryPriority`
#[derive(Clone, PartialEq, Message)]
pub struct RetryPriority {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(message, optional, tag = "3")]
    pub typed_config: Option<Any>,
}

/// `envoy.config.route.v3.RetryPolicy.RetryHostPredicate`
#[derive(Clone, PartialEq, Message)]
pub struct RetryHostPredicate {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(message, optional, tag = "3")]
    pub typed_config: Option<Any>,
}

/// `envoy.config.route.v3.RetryPolicy.RetryBackOff`
#[derive(Clone, PartialEq, Message)]
pub struct RetryBackOff {
    #[prost(message, optional, tag = "1")]
    pub base_interval: Option<Duration>,
    #[prost(message, optional, tag = "2")]
    pub max_interval: Option<Duration>,
}

/// `envoy.config.route.v3.RetryPolicy.ResetHeader`
#[derive(Clone, PartialEq, Message)]
pub struct ResetHeader {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(enumeration = "ResetHeaderFormat", tag = "2")]
    pub format: i32,
}

/// `envoy.config.route.v3.RetryPolicy.ResetHeaderFormat`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Enumeration)]
#[repr(i32)]
pub enum ResetHeaderFormat {
    Seconds = 0,
    UnixTimestamp = 1,
}

/// `envoy.config.route.v3.RetryPolicy.RateLimitedRetryBackOff`
#[derive(Clone, PartialEq, Message)]
pub struct RateLimitedRetryBackOff {
    #[prost(message, repeated, tag = "1")]
    pub reset_headers: Vec<ResetHeader>,
    #[prost(message, optional, tag = "2")]
    pub max_interval: Option<Duration>,
}

/// `envoy.config.route.v3.HedgePolicy`
#[derive(Clone, PartialEq, Message)]
pub struct HedgePolicy {
    #[prost(message, optional, tag = "1")]
    pub initial_requests: Option<u32>,
    #[prost(message, optional, tag = "2")]
    pub additional_request_chance: Option<FractionalPercent>,
    #[prost(bool, tag = "3")]
    pub hedge_on_per_try_timeout: bool,
}

/// `envoy.config.route.v3.InternalRedirectPolicy`
#[derive(Clone, PartialEq, Message)]
pub struct InternalRedirectPolicy {
    #[prost(message, optional, tag = "1")]
    pub max_internal_redirects: Option<u32>,
    #[prost(uint32, repeated, tag = "2")]
    pub redirect_response_codes: Vec<u32>,
    #[prost(message, repeated, tag = "3")]
    pub predicates: Vec<TypedExtensionConfig>,
    #[prost(bool, tag = "4")]
    pub allow_cross_scheme_redirect: bool,
    #[prost(string, repeated, tag = "5")]
    pub response_headers_to_copy: Vec<String>,
}

/// `envoy.config.route.v3.RedirectAction`
#[derive(Clone, PartialEq, Message)]
pub struct RedirectAction {
    #[prost(oneof = "SchemeRewriteSpecifier", tags = "4, 7")]
    pub scheme_rewrite_specifier: Option<SchemeRewriteSpecifier>,
    #[prost(string, tag = "1")]
    pub host_redirect: String,
    #[prost(uint32, tag = "8")]
    pub port_redirect: u32,
    #[prost(oneof = "PathRewriteSpecifier", tags = "2, 5, 9, 10")]
    pub path_rewrite_specifier: Option<PathRewriteSpecifier>,
    #[prost(enumeration = "RedirectResponseCode", tag = "3")]
    pub response_code: i32,
    #[prost(bool, tag = "6")]
    pub strip_query: bool,
}

/// `envoy.config.route.v3.RedirectAction.scheme_rewrite_specifier`
#[derive(Clone, PartialEq, Oneof)]
pub enum SchemeRewriteSpecifier {
    #[prost(bool, tag = "4")]
    HttpsRedirect(bool),
    #[prost(string, tag = "7")]
    SchemeRedirect(String),
}

/// `envoy.config.route.v3.RedirectAction.path_rewrite_specifier`
#[derive(Clone, PartialEq, Oneof)]
pub enum PathRewriteSpecifier {
    #[prost(string, tag = "2")]
    PathRedirect(String),
    #[prost(string, tag = "5")]
    PrefixRewrite(String),
    #[prost(message, tag = "9")]
    RegexRewrite(RegexMatchAndSubstitute),
    #[prost(string, tag = "10")]
    PathRewrite(String),
}

/// `envoy.config.route.v3.RedirectAction.RedirectResponseCode`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Enumeration)]
#[repr(i32)]
pub enum RedirectResponseCode {
    MovedPermanently = 0,
    Found = 1,
    SeeOther = 2,
    TemporaryRedirect = 3,
    PermanentRedirect = 4,
}

/// `envoy.config.route.v3.DirectResponseAction`
#[derive(Clone, PartialEq, Message)]
pub struct DirectResponseAction {
    #[prost(uint32, tag = "1")]
    pub status: u32,
    #[prost(message, optional, tag = "2")]
    pub body: Option<DataSource>,
    #[prost(message, optional, tag = "3")]
    pub body_format: Option<SubstitutionFormatString>,
}

/// `envoy.config.route.v3.NonForwardingAction`
#[derive(Clone, PartialEq, Message)]
pub struct NonForwardingAction {}

/// `envoy.config.route.v3.FilterAction`
#[derive(Clone, PartialEq, Message)]
pub struct FilterAction {
    #[prost(message, optional, tag = "1")]
    pub action: Option<Any>,
}

/// `envoy.config.route.v3.Decorator`
#[derive(Clone, PartialEq, Message)]
pub struct Decorator {
    #[prost(string, tag = "1")]
    pub operation: String,
    #[prost(message, optional, tag = "2")]
    pub propagate: Option<bool>,
}

/// `envoy.config.route.v3.FilterConfig`
#[derive(Clone, PartialEq, Message)]
pub struct FilterConfig {
    #[prost(message, optional, tag = "1")]
    pub config: Option<Any>,
    #[prost(bool, tag = "2")]
    pub is_optional: bool,
    #[prost(bool, tag = "3")]
    pub disabled: bool,
}

/// `envoy.config.route.v3.CorsPolicy`
#[derive(Clone, PartialEq, Message)]
pub struct CorsPolicy {
    #[prost(message, repeated, tag = "11")]
    pub allow_origin_string_match: Vec<StringMatcher>,
    #[prost(string, tag = "2")]
    pub allow_methods: String,
    #[prost(string, tag = "3")]
    pub allow_headers: String,
    #[prost(string, tag = "4")]
    pub expose_headers: String,
    #[prost(string, tag = "5")]
    pub max_age: String,
    #[prost(message, optional, tag = "6")]
    pub allow_credentials: Option<bool>,
    #[prost(message, optional, tag = "9")]
    pub filter_enabled: Option<RuntimeFractionalPercent>,
    #[prost(message, optional, tag = "10")]
    pub shadow_enabled: Option<RuntimeFractionalPercent>,
    #[prost(message, optional, tag = "12")]
    pub allow_private_network_access: Option<bool>,
    #[prost(message, optional, tag = "13")]
    pub forward_not_matching_preflights: Option<bool>,
}

/// `envoy.config.route.v3.ClusterSpecifierPlugin`
#[derive(Clone, PartialEq, Message)]
pub struct ClusterSpecifierPlugin {
    #[prost(message, optional, tag = "1")]
    pub extension: Option<TypedExtensionConfig>,
    #[prost(bool, tag = "2")]
    pub is_optional: bool,
}

/// `envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate`
#[derive(Clone, PartialEq, Message)]
pub struct PreviousHostsPredicate {}
