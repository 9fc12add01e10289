//! Who a workload is.

use std::fmt;

use crate::{NameError, Namespace, ServiceAccount, TrustDomain};

/// `spiffe://TRUST-DOMAIN/ns/NAMESPACE/sa/SERVICE-ACCOUNT`, compared as a whole and byte by byte.
///
/// Source: SPIFFE-ID standard sections 2.1-2.4, with Istio's path layout.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SpiffeId {
    /// The trust domain.
    pub trust_domain: TrustDomain,
    /// The namespace.
    pub namespace: Namespace,
    /// The service account.
    pub service_account: ServiceAccount,
}

/// Why a text is not an identity of this mesh.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// The shape is not `spiffe://TD/ns/NS/sa/SA`.
    #[error("{0:?} is not of the form spiffe://TRUST-DOMAIN/ns/NAMESPACE/sa/SERVICE-ACCOUNT")]
    Shape(String),
    /// One of the names in it is not legal.
    #[error(transparent)]
    Name(#[from] NameError),
}

impl SpiffeId {
    /// The service account under which a control plane shows itself to proxies.
    pub const CONTROL_PLANE_ACCOUNT: &'static str = "control-plane";
    /// The service account of east-west gateways.
    pub const GATEWAY_ACCOUNT: &'static str = "eastwest-gateway";
    /// The namespace of our own workloads and objects.
    pub const SYSTEM_NAMESPACE: &'static str = "catamaran-system";

    /// Puts the three parts together.
    pub fn new(
        trust_domain: TrustDomain,
        namespace: Namespace,
        service_account: ServiceAccount,
    ) -> Self {
        SpiffeId {
            trust_domain,
            namespace,
            service_account,
        }
    }

    /// The identity of a control plane of `trust_domain`.
    pub fn control_plane(trust_domain: TrustDomain) -> Self {
        SpiffeId {
            trust_domain,
            namespace: Namespace::new(Self::SYSTEM_NAMESPACE).expect("a legal name"),
            service_account: ServiceAccount::new(Self::CONTROL_PLANE_ACCOUNT)
                .expect("a legal name"),
        }
    }

    /// Reads a URI. Nothing is normalised: upper case, `%`, a query or a trailing slash are refused.
    pub fn parse(uri: &str) -> Result<Self, IdentityError> {
        let shape = || IdentityError::Shape(uri.chars().take(120).collect());
        let path = uri.strip_prefix("spiffe://").ok_or_else(shape)?;
        let parts: Vec<&str> = path.split('/').collect();
        let [trust_domain, "ns", namespace, "sa", account] = parts[..] else {
            return Err(shape());
        };
        Ok(SpiffeId {
            trust_domain: TrustDomain::new(trust_domain)?,
            namespace: Namespace::new(namespace)?,
            service_account: ServiceAccount::new(account)?,
        })
    }
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "spiffe://{}/ns/{}/sa/{}",
            self.trust_domain, self.namespace, self.service_account
        )
    }
}

#[cfg(test)]
mod tests;
