//! What an instance writes into its own cluster, and nowhere else.
//!
//! Everything is a server-side apply by one field manager, so that writing again what is there changes nothing, and what people
//! add beside it stays.

use std::time::Duration;

use catamaran_model::{
    ClusterId, MeshExport as Export, MeshName, Namespace, SpiffeId, Timestamp, Version,
};
use catamaran_registry::Freshness;
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::jiff;
use kube::api::{Patch, PatchParams};
use kube::core::NamespaceResourceScope;
use kube::{Api, Resource};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use crate::connect::Access;
pub use crate::crd::Phase;
use crate::crd::{
    Cluster, ClusterStatus, FIELD_MANAGER, FreshnessState, FreshnessStatus, Mesh, MeshExport,
    MeshStatus,
};
use crate::failure::Failure;
use crate::inject::ROOTS;

/// An answer may take this long.
const LIMIT: Duration = Duration::from_secs(10);
/// The label by which the ConfigMaps of roots are found.
pub const ROOTS_LABEL: (&str, &str) = ("catamaran.dev/config", "true");

/// Writes what the instance says of itself to other primaries.
///
/// # Errors
/// Why it is not there.
pub async fn put_export(access: &Access, export: &Export) -> Result<(), Failure> {
    let object = MeshExport::from(export);
    let fields = json!({
        "apiVersion": MeshExport::api_version(&()),
        "kind": MeshExport::kind(&()),
        "metadata": {"name": export.mesh.as_str(), "namespace": SpiffeId::SYSTEM_NAMESPACE},
        "spec": object.spec,
    });
    let system = SpiffeId::SYSTEM_NAMESPACE;
    apply::<MeshExport>(access, system, export.mesh.as_str(), &fields, false).await
}

/// Whether something is as wanted, and since when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// Where it is in its life.
    pub phase: Phase,
    /// Why, in words for people.
    pub because: String,
    /// Since when it is so.
    pub since: Timestamp,
}

/// What became of an instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MeshWord {
    /// How it stands.
    pub standing: Standing,
    /// The versions of its control planes.
    pub versions: Vec<Version>,
    /// How many clusters, services, endpoints and connected proxies there are.
    pub counts: [usize; 4],
}

/// What became of a cluster of an instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterWord {
    /// How it stands.
    pub standing: Standing,
    /// How fresh what we know of it is.
    pub freshness: Freshness,
    /// The last complete list.
    pub revision: u64,
    /// How many services and endpoints it has.
    pub counts: [usize; 2],
    /// When its credential ends.
    pub credential: Option<Timestamp>,
    /// The instance that manages it, and its version.
    pub managed_by: Option<(MeshName, Version)>,
}

/// Writes what became of the instance.
///
/// # Errors
/// Why it is not there.
pub async fn put_mesh_status(
    access: &Access,
    mesh: &MeshName,
    word: &MeshWord,
) -> Result<(), Failure> {
    let [clusters, services, endpoints, proxies] = word.counts.map(count);
    let status = MeshStatus {
        phase: word.standing.phase,
        observed_generation: None,
        versions: word.versions.iter().map(ToString::to_string).collect(),
        clusters,
        services,
        endpoints,
        proxies,
        conditions: conditions(&word.standing),
    };
    put_status::<Mesh>(access, mesh.as_str(), &status).await
}

/// Writes what became of a cluster of the instance.
///
/// # Errors
/// Why it is not there. [`Failure::Absent`] says that there is no such object, as for a cluster of an Istio remote secret.
pub async fn put_cluster_status(
    access: &Access,
    cluster: &ClusterId,
    word: &ClusterWord,
) -> Result<(), Failure> {
    let [services, endpoints] = word.counts.map(count);
    let freshness = match &word.freshness {
        Freshness::Unknown => FreshnessStatus::default(),
        Freshness::Fresh => FreshnessStatus {
            state: FreshnessState::Fresh,
            ..FreshnessStatus::default()
        },
        Freshness::Stale { since, reason } => FreshnessStatus {
            state: FreshnessState::Stale,
            since: Some(rfc3339(*since)),
            reason: Some(reason.clone()),
        },
    };
    let status = ClusterStatus {
        phase: word.standing.phase,
        observed_generation: None,
        freshness,
        uid: None,
        mesh: word.managed_by.as_ref().map(|(mesh, _)| mesh.to_string()),
        version: word
            .managed_by
            .as_ref()
            .map(|(_, version)| version.to_string()),
        revision: Some(word.revision.to_string()),
        services,
        endpoints,
        credential_expires: word.credential.map(rfc3339),
        conditions: conditions(&word.standing),
    };
    put_status::<Cluster>(access, cluster.as_str(), &status).await
}

fn count(of: usize) -> i64 {
    i64::try_from(of).unwrap_or(i64::MAX)
}

fn time(at: Timestamp) -> Time {
    let millis = i64::try_from(at.0).unwrap_or(i64::MAX);
    Time(jiff::Timestamp::from_millisecond(millis).unwrap_or(jiff::Timestamp::MAX))
}

/// A time for people and for objects, in whole seconds: `2026-11-24T14:28:29Z`.
pub fn rfc3339(at: Timestamp) -> String {
    let seconds = time(Timestamp(at.0 / 1000 * 1000));
    seconds.0.to_string()
}

/// Reads what [`rfc3339`] writes.
pub fn from_rfc3339(text: &str) -> Option<Timestamp> {
    let at: jiff::Timestamp = text.parse().ok()?;
    u64::try_from(at.as_millisecond()).ok().map(Timestamp)
}

/// The condition `Ready`, by which tools wait.
fn conditions(standing: &Standing) -> Vec<Condition> {
    let (status, reason) = match standing.phase {
        Phase::Ready => ("True", "AsWanted"),
        // It serves meanwhile.
        Phase::Updating => ("True", "Updating"),
        Phase::Degraded => ("True", "Degraded"),
        Phase::Pending => ("Unknown", "Pending"),
        Phase::Failed => ("False", "Failed"),
        Phase::Removing => ("False", "Removing"),
    };
    vec![Condition {
        type_: "Ready".into(),
        status: status.into(),
        reason: reason.into(),
        message: standing.because.clone(),
        last_transition_time: time(standing.since),
        observed_generation: None,
    }]
}

/// Writes the roots of trust where the sidecars of a namespace find them.
///
/// # Errors
/// Why they are not there.
pub async fn put_roots(access: &Access, namespace: &Namespace, pem: &str) -> Result<(), Failure> {
    let (name, key) = ROOTS;
    let fields = json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "namespace": namespace.as_str(), "labels": {ROOTS_LABEL.0: ROOTS_LABEL.1}},
        "data": {key: pem},
    });
    apply::<ConfigMap>(access, namespace.as_str(), name, &fields, false).await
}

async fn put_status<K>(access: &Access, name: &str, status: &impl Serialize) -> Result<(), Failure>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
        + Clone
        + DeserializeOwned
        + std::fmt::Debug,
{
    let fields = json!({
        "apiVersion": K::api_version(&()),
        "kind": K::kind(&()),
        "metadata": {"name": name, "namespace": SpiffeId::SYSTEM_NAMESPACE},
        "status": status,
    });
    apply::<K>(access, SpiffeId::SYSTEM_NAMESPACE, name, &fields, true).await
}

async fn apply<K>(
    access: &Access,
    namespace: &str,
    name: &str,
    fields: &serde_json::Value,
    status: bool,
) -> Result<(), Failure>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
        + Clone
        + DeserializeOwned
        + std::fmt::Debug,
{
    let api: Api<K> = Api::namespaced(access.client().clone(), namespace);
    let params = PatchParams::apply(FIELD_MANAGER).force();
    let patch = Patch::Apply(fields);
    let patched = async {
        match status {
            true => api.patch_status(name, &params, &patch).await,
            false => api.patch(name, &params, &patch).await,
        }
    };
    let answer = tokio::time::timeout(LIMIT, patched).await;
    let answer = answer.map_err(|_| Failure::Slow { limit: LIMIT })?;
    match answer {
        Ok(_) => Ok(()),
        Err(error) => Err(crate::api::of_error(access, &error)),
    }
}
