//! `catamaran.v1.Issuers`: who may speak for a cluster's workloads.

use bytes::Bytes;
use catamaran_model::{ClusterId, Fingerprint};
use catamaran_wire::own::Issuers;
use catamaran_xds::{Resource, TypeUrlKind};

/// The intermediates of one cluster, named like it. A cluster that made no statement has no such resource: its issuers are
/// unknown, and our proxy then checks root and identity only.
pub(crate) fn of(cluster: &ClusterId, intermediates: &[Fingerprint]) -> Resource {
    let mut fingerprints = intermediates.to_vec();
    fingerprints.sort();
    fingerprints.dedup();
    let issuers = Issuers {
        cluster: cluster.to_string(),
        fingerprints: fingerprints
            .iter()
            .map(|print| Bytes::copy_from_slice(&print.0))
            .collect(),
    };
    Resource::new(TypeUrlKind::Issuers, cluster.as_str(), &issuers)
}

#[cfg(test)]
mod tests;
