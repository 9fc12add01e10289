//! Istio's remote secrets: kubeconfigs of other clusters, each under the name of its cluster, several to a secret.
//!
//! Selection is by label and namespace, as in Istio; the secret's own name says nothing. A cluster in one is discovered only,
//! never managed. What is in a kubeconfig stays in this room; the registry hears the cluster's name and where its credential is.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use catamaran_model::{ClusterId, Namespace, SpiffeId};

use crate::base64;
use crate::failure::printable;
use crate::kubeconfig::{Allowed, Kubeconfig};

/// The label, and its value, of secrets that hold kubeconfigs of other clusters.
pub const REMOTE_SECRET_LABEL: (&str, &str) = ("istio/multiCluster", "true");
/// The most kubeconfigs of one secret.
const MAX_CLUSTERS: usize = 64;

/// A secret with kubeconfigs, by the names of their clusters.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct RemoteSecret {
    pub(crate) namespace: Namespace,
    pub(crate) name: Box<str>,
    pub(crate) clusters: BTreeMap<ClusterId, Arc<str>>,
}

impl fmt::Debug for RemoteSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RemoteSecret({}, contents not shown)", self.place())
    }
}

impl RemoteSecret {
    /// Takes the secret's `data`, base64 as the API gives it.
    pub(crate) fn of(
        namespace: Namespace,
        name: &str,
        data: BTreeMap<String, String>,
        notes: &mut Vec<String>,
    ) -> RemoteSecret {
        let mut clusters = BTreeMap::new();
        for (key, value) in data {
            let cluster = match ClusterId::new(&key) {
                Ok(cluster) => cluster,
                Err(error) => {
                    notes.push(format!("the key {:?} is no {error}", printable(&key)));
                    continue;
                }
            };
            if clusters.len() >= MAX_CLUSTERS {
                notes.push(format!(
                    "more than {MAX_CLUSTERS} clusters are in one secret"
                ));
                break;
            }
            // What is not text is no kubeconfig either; its reader says so.
            let text =
                base64::decode(&value).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
            clusters.insert(cluster, text.unwrap_or_default().into());
        }
        RemoteSecret {
            namespace,
            name: name.into(),
            clusters,
        }
    }

    /// Whether it is in our own namespace.
    pub(crate) fn is_ours(&self) -> bool {
        self.namespace.as_str() == SpiffeId::SYSTEM_NAMESPACE
    }

    /// Where it is: `NAMESPACE/NAME`.
    pub(crate) fn place(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }
}

/// The credentials that the managed cluster's remote secrets hold, by place (`NAMESPACE/NAME`) and cluster.
///
/// A kubeconfig that is refused leaves the one before it in use.
#[derive(Debug, Clone, Default)]
pub struct Credentials {
    held: BTreeMap<(String, ClusterId), Held>,
}

/// One credential, as it is in use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// The last kubeconfig that could be used.
    pub usable: Option<Arc<Kubeconfig>>,
    /// Why the present one cannot be used.
    pub refused: Option<String>,
}

impl Credentials {
    /// Reads all secrets there are; says whether anything is different now.
    pub(crate) fn update<'a>(
        &mut self,
        secrets: impl Iterator<Item = &'a RemoteSecret>,
        allowed: Allowed,
    ) -> bool {
        let mut held = BTreeMap::new();
        for secret in secrets {
            for (cluster, text) in &secret.clusters {
                let key = (secret.place(), cluster.clone());
                let read = Kubeconfig::read(text, allowed);
                let before = self.held.get(&key).and_then(|held| held.usable.clone());
                let one = match read {
                    Ok(config) => Held {
                        usable: match before {
                            Some(same) if *same == config => Some(same),
                            _ => Some(Arc::new(config)),
                        },
                        refused: None,
                    },
                    Err(refused) => Held {
                        usable: before,
                        refused: Some(refused.to_string()),
                    },
                };
                held.insert(key, one);
            }
        }
        let changed = held != self.held;
        self.held = held;
        changed
    }

    /// The credential of a `Cluster` whose `secret` is `place`: `NAMESPACE/NAME`, or the name of a secret in our namespace.
    pub fn of(&self, place: &str, cluster: &ClusterId) -> Option<&Held> {
        let place = match place.contains('/') {
            true => place.to_owned(),
            false => format!("{}/{place}", SpiffeId::SYSTEM_NAMESPACE),
        };
        self.held.get(&(place, cluster.clone()))
    }

    /// All of them, with place and cluster.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &ClusterId, &Held)> {
        (self.held.iter()).map(|((place, cluster), held)| (place.as_str(), cluster, held))
    }
}

/// Clusters that are one and the same, by the UID of `kube-system`: for each of them, the name that counts (the first) and the
/// others that do not.
pub fn same_cluster<'a>(
    uids: impl IntoIterator<Item = (&'a ClusterId, &'a str)>,
) -> Vec<(&'a ClusterId, Vec<&'a ClusterId>)> {
    let mut names: BTreeMap<&str, Vec<&ClusterId>> = BTreeMap::new();
    for (cluster, uid) in uids {
        if !uid.is_empty() {
            names.entry(uid).or_default().push(cluster);
        }
    }
    let several = names.into_values().filter(|names| names.len() > 1);
    let mut found: Vec<_> = several
        .map(|mut names| {
            names.sort();
            (names[0], names[1..].to_vec())
        })
        .collect();
    found.sort();
    found
}
