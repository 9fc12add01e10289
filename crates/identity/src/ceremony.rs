//! What people do with roots and intermediates, as values in and values out; who calls moves the files.

use catamaran_model::{ClusterId, Fingerprint, MeshName, Timestamp, TrustDomain};

use crate::bundle::TrustBundle;
use crate::cacerts::{CaCerts, CaCertsError, CaCertsFiles};
use crate::root::{Root, RootError};

/// Why a ceremony was not held. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum CeremonyError {
    /// The root cannot be used.
    #[error("the root of {mesh}: {error}")]
    Root {
        /// Whose root it is by its folder.
        mesh: MeshName,
        /// What is wrong.
        #[source]
        error: RootError,
    },
    /// The authority cannot be used.
    #[error("the authority of {mesh}: {error}")]
    Authority {
        /// The instance.
        mesh: MeshName,
        /// What is wrong.
        #[source]
        error: CaCertsError,
    },
    /// The root in the folder was made for another mesh.
    #[error(
        "the root in the trust folder of {mesh} says that it is the root of {says}; \
         name that mesh instead (--reuse-root {says}), or put the right root back"
    )]
    OtherMesh {
        /// Whose folder it is in.
        mesh: MeshName,
        /// Whose root it says it is.
        says: MeshName,
    },
    /// The root was made for another trust domain.
    #[error(
        "the root of {mesh} is for the trust domain {says}, and {wanted} was asked for; \
         instances that share a root share its trust domain"
    )]
    OtherTrustDomain {
        /// Whose root it is.
        mesh: MeshName,
        /// Which trust domain it is for.
        says: TrustDomain,
        /// Which was asked for.
        wanted: TrustDomain,
    },
    /// The instance is issued by another root than the one at hand.
    #[error(
        "{mesh} does not trust the root {} but {}; use the root that it was created with, \
         or rotate its root before",
        root.short(),
        short(trusted)
    )]
    OtherRoot {
        /// The instance.
        mesh: MeshName,
        /// The root at hand.
        root: Fingerprint,
        /// The roots that the instance trusts.
        trusted: Vec<Fingerprint>,
    },
}

fn short(prints: &[Fingerprint]) -> String {
    prints
        .iter()
        .map(Fingerprint::short)
        .collect::<Vec<_>>()
        .join(", ")
}

/// Makes the root of a new mesh.
pub fn create_root(
    trust_domain: &TrustDomain,
    mesh: &MeshName,
    now: Timestamp,
) -> Result<Root, CeremonyError> {
    Root::create(trust_domain, mesh, now).map_err(|error| CeremonyError::Root {
        mesh: mesh.clone(),
        error,
    })
}

/// Reads the root that lies in the trust folder of `mesh`, and checks that it is that mesh's, for that trust domain.
///
/// A root that was not made by us says neither; then the folder's word stands.
pub fn open_root(
    trust_domain: &TrustDomain,
    mesh: &MeshName,
    cert_pem: &str,
    key_pem: &str,
) -> Result<Root, CeremonyError> {
    let root = Root::from_pem(cert_pem, key_pem).map_err(|error| CeremonyError::Root {
        mesh: mesh.clone(),
        error,
    })?;
    if let Some(says) = root.mesh()
        && says != *mesh
    {
        return Err(CeremonyError::OtherMesh {
            mesh: mesh.clone(),
            says,
        });
    }
    if let Some(says) = root.trust_domain()
        && says != *trust_domain
    {
        return Err(CeremonyError::OtherTrustDomain {
            mesh: mesh.clone(),
            says,
            wanted: trust_domain.clone(),
        });
    }
    Ok(root)
}

/// Issues the intermediate of one instance: of the mesh that made the root, or of one that reuses it.
pub fn issue_intermediate(
    root: &Root,
    trust_domain: &TrustDomain,
    mesh: &MeshName,
    cluster: &ClusterId,
    now: Timestamp,
) -> Result<CaCerts, CeremonyError> {
    if let Some(says) = root.trust_domain()
        && says != *trust_domain
    {
        return Err(CeremonyError::OtherTrustDomain {
            mesh: root.mesh().unwrap_or_else(|| mesh.clone()),
            says,
            wanted: trust_domain.clone(),
        });
    }
    root.issue_intermediate(trust_domain, mesh, cluster, now)
        .map_err(|error| CeremonyError::Root {
            mesh: mesh.clone(),
            error,
        })
}

/// Issues the next intermediate of an instance that has one. It keeps every root the instance trusts, and refuses a
/// root that the instance does not trust: its workloads would be strangers to all others at once.
///
/// `current` need not be valid any more, nor have its key: a lost or ended intermediate is renewed in the same way.
pub fn renew_intermediate(
    root: &Root,
    current_root_cert: &str,
    trust_domain: &TrustDomain,
    mesh: &MeshName,
    cluster: &ClusterId,
    now: Timestamp,
) -> Result<CaCerts, CeremonyError> {
    let authority = |error| CeremonyError::Authority {
        mesh: mesh.clone(),
        error,
    };
    let trusted = TrustBundle::from_pem(trust_domain, current_root_cert)
        .map_err(|error| authority(CaCertsError::Roots(error)))?;
    let print = root.facts().fingerprint;
    if !trusted.fingerprints().contains(&print) {
        return Err(CeremonyError::OtherRoot {
            mesh: mesh.clone(),
            root: print,
            trusted: trusted.fingerprints(),
        });
    }
    let fresh = issue_intermediate(root, trust_domain, mesh, cluster, now)?;
    let files = CaCertsFiles {
        root_cert: trusted.to_pem(trust_domain),
        ..fresh.files()
    };
    CaCerts::read(&files, now).map_err(authority)
}

/// Reads an authority that somebody brings along in Istio's layout.
pub fn import(
    mesh: &MeshName,
    read: impl FnMut(&'static str) -> Option<String>,
    now: Timestamp,
) -> Result<CaCerts, CeremonyError> {
    CaCertsFiles::collect(read)
        .and_then(|files| CaCerts::read(&files, now))
        .map_err(|error| CeremonyError::Authority {
            mesh: mesh.clone(),
            error,
        })
}

#[cfg(test)]
mod tests;
