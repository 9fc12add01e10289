//! What people decided for the whole instance, as far as it enters resources.

use std::sync::Arc;

use catamaran_model::{ClusterDomain, FailoverMode, MtlsMode, TrustDomain};
use catamaran_policy::Policy;
use catamaran_registry::Snapshot;

/// The part of `Mesh` and policy that resources are made from. Until the managed cluster said anything, defaults hold:
/// strict, `cluster.local`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Settings {
    pub(crate) domain: ClusterDomain,
    pub(crate) trust_domain: TrustDomain,
    pub(crate) mtls: MtlsMode,
    pub(crate) failover: FailoverMode,
    pub(crate) policy: Arc<Policy>,
}

impl Settings {
    pub(crate) fn of(snapshot: &Snapshot) -> Settings {
        let policy = snapshot.policy.clone();
        match &snapshot.mesh {
            Some(mesh) => Settings {
                domain: mesh.domain.clone(),
                trust_domain: mesh.trust_domain.clone(),
                mtls: mesh.mtls,
                failover: mesh.failover,
                policy,
            },
            None => Settings {
                domain: ClusterDomain::default(),
                trust_domain: TrustDomain::default(),
                mtls: MtlsMode::default(),
                failover: FailoverMode::default(),
                policy,
            },
        }
    }
}
