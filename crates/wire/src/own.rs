//! Our own messages, package `catamaran.v1`.
//!
//! A tag that was ever released keeps its meaning for good; a field that goes leaves its tag unused.

use bytes::Bytes;
use prost::Message;

/// `catamaran.v1.Issuers`
///
/// Who may speak for the workloads of one cluster. An xDS resource, named like the cluster.
#[derive(Clone, PartialEq, Message)]
pub struct Issuers {
    #[prost(string, tag = "1")]
    pub cluster: String,
    /// SHA-256 of the DER of each intermediate certificate that may; 32 bytes each. None means that nobody may.
    #[prost(bytes = "bytes", repeated, tag = "2")]
    pub fingerprints: Vec<Bytes>,
}
