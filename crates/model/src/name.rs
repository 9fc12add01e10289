//! Names. Each kind of name is its own type, checked once when it is made.

use std::fmt;
use std::sync::Arc;

/// Why a text is not a name of the kind asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a {kind}: {reason}")]
pub struct NameError {
    /// The kind of name that was wanted, in words ("cluster name").
    pub kind: &'static str,
    /// The text that was given, cut to 80 characters.
    pub text: String,
    /// What is wrong with it.
    pub reason: &'static str,
}

impl NameError {
    fn new(kind: &'static str, text: &str, reason: &'static str) -> Self {
        NameError {
            kind,
            text: text.chars().take(80).collect(),
            reason,
        }
    }
}

/// RFC 1123 label: at most 63 of `a-z0-9-`, alphanumeric at both ends.
fn label(text: &str) -> Result<(), &'static str> {
    if text.is_empty() {
        return Err("it is empty");
    }
    if text.len() > 63 {
        return Err("it is longer than 63 characters");
    }
    let fits = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    if !text.bytes().all(fits) {
        return Err("only lower-case letters, digits and '-' are allowed");
    }
    if text.starts_with('-') || text.ends_with('-') {
        return Err("it must start and end with a letter or digit");
    }
    Ok(())
}

/// RFC 1123 subdomain: labels joined by dots, at most 253 characters.
fn subdomain(text: &str) -> Result<(), &'static str> {
    if text.is_empty() {
        return Err("it is empty");
    }
    if text.len() > 253 {
        return Err("it is longer than 253 characters");
    }
    let fits = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'.');
    if !text.bytes().all(fits) {
        return Err("only lower-case letters, digits, '-' and '.' are allowed");
    }
    text.split('.').try_for_each(|part| match label(part) {
        Err(_) if part.is_empty() => Err("a part between dots is empty"),
        Err(_) if part.len() > 63 => Err("a part between dots is longer than 63 characters"),
        Err(_) => Err("each part between dots must start and end with a letter or digit"),
        Ok(()) => Ok(()),
    })
}

/// A Kubernetes label value: at most 63 of `A-Za-z0-9-_.`, alphanumeric at both ends.
fn label_value(text: &str) -> Result<(), &'static str> {
    if text.is_empty() {
        return Err("it is empty");
    }
    if text.len() > 63 {
        return Err("it is longer than 63 characters");
    }
    let fits = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    if !text.bytes().all(fits) {
        return Err("only letters, digits, '-', '_' and '.' are allowed");
    }
    let edge = |b: Option<u8>| b.is_some_and(|b| b.is_ascii_alphanumeric());
    if !edge(text.bytes().next()) || !edge(text.bytes().last()) {
        return Err("it must start and end with a letter or digit");
    }
    Ok(())
}

macro_rules! names {
    ($($(#[$doc:meta])* $name:ident, $kind:literal, $check:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Checks `text` and makes the name.
            pub fn new(text: impl AsRef<str>) -> Result<Self, NameError> {
                let text = text.as_ref();
                match $check(text) {
                    Ok(()) => Ok($name(Arc::from(text))),
                    Err(reason) => Err(NameError::new($kind, text, reason)),
                }
            }

            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl std::str::FromStr for $name {
            type Err = NameError;
            fn from_str(text: &str) -> Result<Self, NameError> {
                Self::new(text)
            }
        }
    )*};
}

names! {
    /// A cluster, as primaries and proxies call it (`ISTIO_META_CLUSTER_ID`).
    ClusterId, "cluster name", subdomain;
    /// A mesh instance: one control plane with its own configuration.
    MeshName, "mesh name", label;
    /// A logical network: endpoints of one network reach each other directly.
    NetworkId, "network name", label_value;
    /// A Kubernetes namespace.
    Namespace, "namespace", label;
    /// A Kubernetes Service's name.
    ServiceName, "service name", label;
    /// A Kubernetes ServiceAccount's name; dots are legal in it.
    ServiceAccount, "service account name", subdomain;
    /// A pod's name.
    PodName, "pod name", subdomain;
    /// An EndpointSlice's name.
    SliceName, "endpoint slice name", subdomain;
    /// A port's name; empty names are said by `Option`.
    PortName, "port name", label;
    /// A region, as in `topology.kubernetes.io/region`.
    Region, "region", label_value;
    /// A zone, as in `topology.kubernetes.io/zone`.
    Zone, "zone", label_value;
    /// The DNS suffix of services, `cluster.local` by default.
    ClusterDomain, "cluster domain", subdomain;
    /// The trust domain of SPIFFE identities, `cluster.local` by default.
    TrustDomain, "trust domain", subdomain;
    /// A version of Catamaran, `0.1.0`.
    Version, "version", label_value;
}

impl Default for ClusterDomain {
    fn default() -> Self {
        ClusterDomain(Arc::from("cluster.local"))
    }
}

impl Default for TrustDomain {
    fn default() -> Self {
        TrustDomain(Arc::from("cluster.local"))
    }
}

#[cfg(test)]
mod tests;
