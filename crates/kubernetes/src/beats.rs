//! What each replica of a control plane says of itself to the one that writes: its own `Lease`, renewed every few seconds.
//!
//! A replica's lease has the pod's name and belongs to its pod, so that it goes with it. Whether a replica lives is judged by
//! [`Living`]: by what changes under our eyes, and never by times that others wrote.

use std::collections::BTreeMap;
use std::time::Duration;

use catamaran_model::{Fingerprint, MeshName, SpiffeId, Timestamp, Version};
use k8s_openapi::api::coordination::v1::Lease;
use kube::Api;
use kube::api::{ListParams, Patch, PatchParams};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::connect::Access;
use crate::crd::FIELD_MANAGER;
use crate::failure::{Failure, printable};
use crate::lease::Moment;

/// How often a replica says that it lives, also when nothing changed.
pub const BEAT: Duration = Duration::from_secs(10);
/// A replica that said nothing for so long does not count.
pub const LIFE: Duration = Duration::from_secs(30);
/// The label of a replica's lease.
pub const REPLICA_LABEL: &str = "catamaran.dev/replica-of";
/// The annotation with what it says.
const SAYS: &str = "catamaran.dev/says";
/// An answer may take this long.
const LIMIT: Duration = Duration::from_secs(5);
/// More replicas than this are not looked at.
const MAX_REPLICAS: usize = 64;
/// More than this of one replica is not read, and what is longer is cut.
const MAX_BYTES: usize = 16 << 10;
/// Refusals that a replica tells; there may be more.
pub const MAX_REFUSALS: usize = 8;
/// Characters of one.
const MAX_TEXT: usize = 400;

/// One replica of a control plane.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replica {
    /// Its pod's name.
    pub name: String,
    /// Its pod's UID; nothing when it is no pod.
    pub uid: Option<String>,
}

/// What a replica says of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Beat {
    /// The version it runs.
    pub version: String,
    /// Whether it serves.
    pub ready: bool,
    /// Proxies that are connected to it.
    pub proxies: u32,
    /// Those that have not taken everything yet.
    pub pending: u32,
    /// Resources that proxies refused: what, and why. Not all when there are many.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub refusals: Vec<Refusal>,
    /// The intermediates that it signs with, or signed with: SHA-256 in hexadecimal.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub intermediates: Vec<String>,
    /// It is going, and does not count any more.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub leaving: bool,
}

/// A resource that a proxy refused.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
pub struct Refusal {
    /// Which.
    pub object: String,
    /// Why, and what is used in its place.
    pub message: String,
}

impl Beat {
    /// The version, when it is one.
    pub fn version(&self) -> Option<Version> {
        Version::new(&self.version).ok()
    }

    /// The intermediates; what is none is left out.
    pub fn intermediates(&self) -> impl Iterator<Item = Fingerprint> {
        self.intermediates
            .iter()
            .take(16)
            .filter_map(|hex| Fingerprint::parse(hex))
    }

    fn text(&self) -> String {
        let mut told = self.clone();
        told.refusals.truncate(MAX_REFUSALS);
        for refusal in &mut told.refusals {
            for text in [&mut refusal.object, &mut refusal.message] {
                *text = text.chars().take(MAX_TEXT).collect();
            }
        }
        loop {
            let text = serde_json::to_string(&told).expect("it is plain data");
            // a replica that says too much must not go unheard
            if text.len() <= MAX_BYTES || told.refusals.pop().is_none() {
                return text;
            }
        }
    }
}

/// A replica's lease as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// Whose.
    pub replica: String,
    /// The version of the object: another one is a sign of life.
    pub version: String,
    /// What it says.
    pub beat: Beat,
}

/// Writes what a replica says. Each call is a sign of life, also when it says the same.
///
/// # Errors
/// Why it is not there.
pub async fn put(
    access: &Access,
    mesh: &MeshName,
    replica: &Replica,
    beat: &Beat,
    now: Timestamp,
) -> Result<(), Failure> {
    let mut metadata = json!({
        "name": replica.name,
        "namespace": SpiffeId::SYSTEM_NAMESPACE,
        "labels": crate::lease::labels(mesh),
        "annotations": {SAYS: beat.text()},
    });
    metadata["labels"][REPLICA_LABEL] = mesh.as_str().into();
    if let Some(uid) = &replica.uid {
        metadata["ownerReferences"] =
            json!([{"apiVersion": "v1", "kind": "Pod", "name": replica.name, "uid": uid}]);
    }
    let fields = json!({
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata,
        "spec": {
            "holderIdentity": replica.name,
            "leaseDurationSeconds": LIFE.as_secs(),
            "renewTime": crate::lease::micros(now),
        },
    });
    let api: Api<Lease> = Api::namespaced(access.client().clone(), SpiffeId::SYSTEM_NAMESPACE);
    // the name is our own pod's; what an earlier life of it said does not count
    let params = PatchParams::apply(FIELD_MANAGER).force();
    let patch = Patch::Apply(&fields);
    within(access, api.patch(&replica.name, &params, &patch)).await?;
    Ok(())
}

/// What all replicas of an instance say.
///
/// # Errors
/// Why that is not known.
pub async fn list(access: &Access, mesh: &MeshName) -> Result<Vec<Told>, Failure> {
    let api: Api<Lease> = Api::namespaced(access.client().clone(), SpiffeId::SYSTEM_NAMESPACE);
    let params = ListParams::default()
        .labels(&format!("{REPLICA_LABEL}={mesh}"))
        .limit(MAX_REPLICAS as u32);
    let found = within(access, api.list(&params)).await?;
    Ok(found.items.into_iter().filter_map(told).collect())
}

/// What a lease says; nothing when it makes no sense.
fn told(lease: Lease) -> Option<Told> {
    let text = lease.metadata.annotations?.remove(SAYS)?;
    let beat: Beat = match text.len() <= MAX_BYTES {
        true => serde_json::from_str(&text).ok()?,
        false => return None,
    };
    let clean = |refusal: Refusal| Refusal {
        object: line(&refusal.object),
        message: line(&refusal.message),
    };
    Some(Told {
        replica: lease.metadata.name?,
        version: lease.metadata.resource_version?,
        beat: Beat {
            refusals: beat
                .refusals
                .into_iter()
                .take(MAX_REFUSALS)
                .map(clean)
                .collect(),
            version: printable(&beat.version),
            ..beat
        },
    })
}

fn line(text: &str) -> String {
    let chars = text.chars().take(MAX_TEXT);
    chars
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}

/// Which replicas live.
///
/// A lease that was there before we looked may be of one that is long gone: it counts from when it was renewed under our eyes.
/// Silence counts only while we hear: an API server that is away for a while makes nobody dead.
#[derive(Debug, Clone, Default)]
pub struct Living {
    looked: Option<Moment>,
    known: BTreeMap<String, Known>,
}

#[derive(Debug, Clone)]
struct Known {
    version: String,
    /// For how long it was silent since we saw it renewed; nothing as long as we did not.
    silent: Option<Duration>,
    beat: Beat,
}

impl Living {
    /// All leases as they were read at `now`.
    pub fn look(&mut self, all: Vec<Told>, now: Moment) {
        let passed = self.looked.map(|looked| now.since(looked).min(BEAT));
        let mut before = std::mem::take(&mut self.known);
        for told in all {
            let known = before.remove(&told.replica);
            let silent = match known {
                Some(known) if known.version == told.version => known
                    .silent
                    .map(|silent| silent + passed.unwrap_or_default()),
                Some(_) => Some(Duration::ZERO),
                None => passed.map(|_| Duration::ZERO),
            };
            let one = Known {
                version: told.version,
                silent,
                beat: told.beat,
            };
            self.known.insert(told.replica, one);
        }
        self.looked = Some(now);
    }

    /// Those that live, by name.
    pub fn living(&self) -> impl Iterator<Item = (&str, &Beat)> {
        self.known
            .iter()
            .filter(|(_, known)| {
                known.silent.is_some_and(|silent| silent < LIFE) && !known.beat.leaving
            })
            .map(|(name, known)| (name.as_str(), &known.beat))
    }
}

async fn within<T>(
    access: &Access,
    answer: impl Future<Output = Result<T, kube::Error>>,
) -> Result<T, Failure> {
    let answer = tokio::time::timeout(LIMIT, answer).await;
    let answer = answer.map_err(|_| Failure::Slow { limit: LIMIT })?;
    answer.map_err(|error| crate::api::of_error(access, &error))
}

#[cfg(test)]
mod tests;
