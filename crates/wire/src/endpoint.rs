//! EDS: the addresses behind a cluster, by locality and priority.

use std::collections::BTreeMap;

use prost::{Message, Oneof};

use crate::core::{Address, ConfigSource, FractionalPercent, Locality, Metadata};
use crate::health::HealthStatus;
use crate::well_known::Duration;

/// `envoy.config.endpoint.v3.ClusterLoadAssignment`
#[derive(Clone, PartialEq, Message)]
pub struct ClusterLoadAssignment {
    #[prost(string, tag = "1")]
    pub cluster_name: String,
    #[prost(message, repeated, tag = "2")]
    pub endpoints: Vec<LocalityLbEndpoints>,
    #[prost(btree_map = "string, message", tag = "5")]
    pub named_endpoints: BTreeMap<String, Endpoint>,
    #[prost(message, optional, tag = "4")]
    pub policy: Option<AssignmentPolicy>,
}

/// `envoy.config.endpoint.v3.ClusterLoadAssignment.Policy`
#[derive(Clone, PartialEq, Message)]
pub struct AssignmentPolicy {
    #[prost(message, repeated, tag = "2")]
    pub drop_overloads: Vec<DropOverload>,
    #[prost(message, optional, tag = "3")]
    pub overprovisioning_factor: Option<u32>,
    #[prost(message, optional, tag = "4")]
    pub endpoint_stale_after: Option<Duration>,
    #[prost(bool, tag = "6")]
    pub weighted_priority_health: bool,
}

/// `envoy.config.endpoint.v3.ClusterLoadAssignment.Policy.DropOverload`
#[derive(Clone, PartialEq, Message)]
pub struct DropOverload {
    #[prost(string, tag = "1")]
    pub category: String,
    #[prost(message, optional, tag = "2")]
    pub drop_percentage: Option<FractionalPercent>,
}

/// `envoy.config.endpoint.v3.LocalityLbEndpoints`
#[derive(Clone, PartialEq, Message)]
pub struct LocalityLbEndpoints {
    #[prost(message, optional, tag = "1")]
    pub locality: Option<Locality>,
    #[prost(message, optional, tag = "9")]
    pub metadata: Option<Metadata>,
    #[prost(message, repeated, tag = "2")]
    pub lb_endpoints: Vec<LbEndpoint>,
    #[prost(oneof = "LbConfig", tags = "7, 8")]
    pub lb_config: Option<LbConfig>,
    #[prost(message, optional, tag = "3")]
    pub load_balancing_weight: Option<u32>,
    #[prost(uint32, tag = "5")]
    pub priority: u32,
    #[prost(message, optional, tag = "6")]
    pub proximity: Option<u32>,
}

/// `envoy.config.endpoint.v3.LocalityLbEndpoints.lb_config`
#[derive(Clone, PartialEq, Oneof)]
pub enum LbConfig {
    #[prost(message, tag = "7")]
    LoadBalancerEndpoints(LbEndpointList),
    #[prost(message, tag = "8")]
    LedsClusterLocalityConfig(LedsClusterLocalityConfig),
}

/// `envoy.config.endpoint.v3.LocalityLbEndpoints.LbEndpointList`
#[derive(Clone, PartialEq, Message)]
pub struct LbEndpointList {
    #[prost(message, repeated, tag = "1")]
    pub lb_endpoints: Vec<LbEndpoint>,
}

/// `envoy.config.endpoint.v3.LedsClusterLocalityConfig`
#[derive(Clone, PartialEq, Message)]
pub struct LedsClusterLocalityConfig {
    #[prost(message, optional, tag = "1")]
    pub leds_config: Option<ConfigSource>,
    #[prost(string, tag = "2")]
    pub leds_collection_name: String,
}

/// `envoy.config.endpoint.v3.LbEndpoint`
#[derive(Clone, PartialEq, Message)]
pub struct LbEndpoint {
    #[prost(oneof = "HostIdentifier", tags = "1, 5")]
    pub host_identifier: Option<HostIdentifier>,
    #[prost(enumeration = "HealthStatus", tag = "2")]
    pub health_status: i32,
    #[prost(message, optional, tag = "3")]
    pub metadata: Option<Metadata>,
    #[prost(message, optional, tag = "4")]
    pub load_balancing_weight: Option<u32>,
}

/// `envoy.config.endpoint.v3.LbEndpoint.host_identifier`
#[derive(Clone, PartialEq, Oneof)]
pub enum HostIdentifier {
    #[prost(message, tag = "1")]
    Endpoint(Endpoint),
    #[prost(string, tag = "5")]
    EndpointName(String),
}

/// `envoy.config.endpoint.v3.Endpoint`
#[derive(Clone, PartialEq, Message)]
pub struct Endpoint {
    #[prost(message, optional, tag = "1")]
    pub address: Option<Address>,
    #[prost(message, optional, tag = "2")]
    pub health_check_config: Option<HealthCheckConfig>,
    #[prost(string, tag = "3")]
    pub hostname: String,
    #[prost(message, repeated, tag = "4")]
    pub additional_addresses: Vec<EndpointAddress>,
    #[prost(string, tag = "5")]
    pub observability_name: String,
}

/// `envoy.config.endpoint.v3.Endpoint.HealthCheckConfig`
#[derive(Clone, PartialEq, Message)]
pub struct HealthCheckConfig {
    #[prost(uint32, tag = "1")]
    pub port_value: u32,
    #[prost(string, tag = "2")]
    pub hostname: String,
    #[prost(message, optional, tag = "3")]
    pub address: Option<Address>,
    #[prost(bool, tag = "4")]
    pub disable_active_health_check: bool,
}

/// `envoy.config.endpoint.v3.Endpoint.AdditionalAddress`
#[derive(Clone, PartialEq, Message)]
pub struct EndpointAddress {
    #[prost(message, optional, tag = "1")]
    pub address: Option<Address>,
}
