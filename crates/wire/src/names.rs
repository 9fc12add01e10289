//! NDS, Istio's table of names: what the proxy's own DNS answers.

use std::collections::BTreeMap;

use prost::Message;

/// `istio.networking.nds.v1.NameTable`
///
/// Source: `pkg/dns/proto/nds.proto` of istio/istio.
#[derive(Clone, PartialEq, Message)]
pub struct NameTable {
    /// By host name, without the last dot.
    #[prost(btree_map = "string, message", tag = "1")]
    pub table: BTreeMap<String, NameInfo>,
}

/// `istio.networking.nds.v1.NameTable.NameInfo`
#[derive(Clone, PartialEq, Message)]
pub struct NameInfo {
    #[prost(string, repeated, tag = "1")]
    pub ips: Vec<String>,
    /// `Kubernetes` or `External`.
    #[prost(string, tag = "2")]
    pub registry: String,
    #[prost(string, tag = "3")]
    pub shortname: String,
    #[prost(string, tag = "4")]
    pub namespace: String,
    #[prost(string, repeated, tag = "5")]
    pub alt_hosts: Vec<String>,
}
