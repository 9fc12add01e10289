//! The xDS protocol itself: what is asked, what is answered, in full and in deltas.

use std::collections::BTreeMap;

use prost::Message;

use crate::core::{ControlPlane, Metadata, Node};
use crate::well_known::{Any, Duration, Status, Unread};

/// `envoy.service.discovery.v3.DiscoveryRequest`
#[derive(Clone, PartialEq, Message)]
pub struct DiscoveryRequest {
    #[prost(string, tag = "1")]
    pub version_info: String,
    #[prost(message, optional, tag = "2")]
    pub node: Option<Node>,
    #[prost(string, repeated, tag = "3")]
    pub resource_names: Vec<String>,
    #[prost(message, repeated, tag = "7")]
    pub resource_locators: Vec<ResourceLocator>,
    #[prost(string, tag = "4")]
    pub type_url: String,
    #[prost(string, tag = "5")]
    pub response_nonce: String,
    #[prost(message, optional, tag = "6")]
    pub error_detail: Option<Status>,
}

/// `envoy.service.discovery.v3.DiscoveryResponse`
#[derive(Clone, PartialEq, Message)]
pub struct DiscoveryResponse {
    #[prost(string, tag = "1")]
    pub version_info: String,
    #[prost(message, repeated, tag = "2")]
    pub resources: Vec<Any>,
    #[prost(bool, tag = "3")]
    pub canary: bool,
    #[prost(string, tag = "4")]
    pub type_url: String,
    #[prost(string, tag = "5")]
    pub nonce: String,
    #[prost(message, optional, tag = "6")]
    pub control_plane: Option<ControlPlane>,
    #[prost(message, repeated, tag = "7")]
    pub resource_errors: Vec<ResourceError>,
}

/// `envoy.service.discovery.v3.DeltaDiscoveryRequest`
#[derive(Clone, PartialEq, Message)]
pub struct DeltaDiscoveryRequest {
    #[prost(message, optional, tag = "1")]
    pub node: Option<Node>,
    #[prost(string, tag = "2")]
    pub type_url: String,
    #[prost(string, repeated, tag = "3")]
    pub resource_names_subscribe: Vec<String>,
    #[prost(string, repeated, tag = "4")]
    pub resource_names_unsubscribe: Vec<String>,
    #[prost(message, repeated, tag = "8")]
    pub resource_locators_subscribe: Vec<ResourceLocator>,
    #[prost(message, repeated, tag = "9")]
    pub resource_locators_unsubscribe: Vec<ResourceLocator>,
    #[prost(btree_map = "string, string", tag = "5")]
    pub initial_resource_versions: BTreeMap<String, String>,
    #[prost(string, tag = "6")]
    pub response_nonce: String,
    #[prost(message, optional, tag = "7")]
    pub error_detail: Option<Status>,
}

/// `envoy.service.discovery.v3.DeltaDiscoveryResponse`
#[derive(Clone, PartialEq, Message)]
pub struct DeltaDiscoveryResponse {
    #[prost(string, tag = "1")]
    pub system_version_info: String,
    #[prost(message, repeated, tag = "2")]
    pub resources: Vec<Resource>,
    #[prost(string, tag = "4")]
    pub type_url: String,
    #[prost(string, repeated, tag = "6")]
    pub removed_resources: Vec<String>,
    #[prost(message, repeated, tag = "8")]
    pub removed_resource_names: Vec<ResourceName>,
    #[prost(string, tag = "5")]
    pub nonce: String,
    #[prost(message, optional, tag = "7")]
    pub control_plane: Option<ControlPlane>,
    #[prost(message, repeated, tag = "9")]
    pub resource_errors: Vec<ResourceError>,
}

/// `envoy.service.discovery.v3.Resource`
#[derive(Clone, PartialEq, Message)]
pub struct Resource {
    #[prost(string, tag = "3")]
    pub name: String,
    #[prost(message, optional, tag = "8")]
    pub resource_name: Option<ResourceName>,
    #[prost(string, repeated, tag = "4")]
    pub aliases: Vec<String>,
    #[prost(string, tag = "1")]
    pub version: String,
    #[prost(message, optional, tag = "2")]
    pub resource: Option<Any>,
    #[prost(message, optional, tag = "6")]
    pub ttl: Option<Duration>,
    #[prost(message, optional, tag = "7")]
    pub cache_control: Option<CacheControl>,
    #[prost(message, optional, tag = "9")]
    pub metadata: Option<Metadata>,
}

/// `envoy.service.discovery.v3.Resource.CacheControl`
#[derive(Clone, PartialEq, Message)]
pub struct CacheControl {
    #[prost(bool, tag = "1")]
    pub do_not_cache: bool,
}

/// `envoy.service.discovery.v3.ResourceLocator`
#[derive(Clone, PartialEq, Message)]
pub struct ResourceLocator {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(btree_map = "string, string", tag = "2")]
    pub dynamic_parameters: BTreeMap<String, String>,
}

/// `envoy.service.discovery.v3.ResourceName`
#[derive(Clone, PartialEq, Message)]
pub struct ResourceName {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(bytes = "bytes", optional, tag = "2")]
    pub dynamic_parameter_constraints: Option<Unread>,
}

/// `envoy.service.discovery.v3.ResourceError`
#[derive(Clone, PartialEq, Message)]
pub struct ResourceError {
    #[prost(message, optional, tag = "1")]
    pub resource_name: Option<ResourceName>,
    #[prost(message, optional, tag = "2")]
    pub error_detail: Option<Status>,
}
