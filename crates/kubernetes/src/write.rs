//! What an instance writes into its own cluster, and a part of it into those that it manages from there.
//!
//! Everything is a server-side apply by one field manager, so that writing again what is there changes nothing, and what people
//! add beside it stays. Each write names the version of the object that it was made from: what somebody else wrote since, be it
//! another replica that took our place meanwhile, is never written over unseen.

use std::collections::BTreeMap;
use std::time::Duration;

use catamaran_model::{
    ClusterId, MeshExport as Export, MeshName, Namespace, SpiffeId, Timestamp, Version,
};
use catamaran_registry::Freshness;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::jiff;
use kube::api::{Patch, PatchParams};
use kube::core::NamespaceResourceScope;
use kube::{Api, Resource, ResourceExt as _};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use crate::base64;
use crate::connect::Access;
pub use crate::crd::Phase;
use crate::crd::{
    Cluster, ClusterStatus, FIELD_MANAGER, FreshnessState, FreshnessStatus, Mesh, MeshExport,
    MeshExportStatus, MeshStatus, ReplicaStatus,
};
use crate::enrol::{self, INSTANCE_LABEL};
use crate::failure::Failure;
use crate::inject::ROOTS;
use crate::kubeconfig::{Allowed, Kubeconfig, User};

/// An answer may take this long.
const LIMIT: Duration = Duration::from_secs(10);
/// The label by which the ConfigMaps of roots are found.
pub const ROOTS_LABEL: (&str, &str) = ("catamaran.dev/config", "true");

/// What is read only to be held against what is in use already.
const EVERYTHING: Allowed = Allowed {
    loopback: true,
    link_local: true,
    proxy: true,
    files: false,
};

/// Whether something is as wanted, and since when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// Where it is in its life.
    pub phase: Phase,
    /// Why, in one word for programs; it follows from the phase when it is not said.
    pub reason: Option<&'static str>,
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
    /// The versions of its control planes that serve.
    pub versions: Vec<Version>,
    /// How many clusters, services and endpoints there are.
    pub counts: [usize; 3],
    /// The replicas that live, by name: the version of each, and the proxies that are connected to it.
    pub replicas: BTreeMap<String, (Version, usize)>,
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
    /// The UID of its namespace `kube-system`.
    pub uid: Option<String>,
}

/// What an instance says of how it is, beside its [`Export`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExportWord {
    /// How it stands.
    pub standing: Standing,
    /// How many services and endpoints its cluster has.
    pub counts: [usize; 2],
    /// How many replicas of its control plane live.
    pub replicas: usize,
    /// When the intermediate that it signs with ends.
    pub signs_until: Option<Timestamp>,
}

/// An object of which something was written: where events about it belong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// Its UID.
    pub uid: String,
    version: String,
}

#[cfg(test)]
impl Written {
    pub(crate) fn of(uid: &str) -> Written {
        Written {
            uid: uid.into(),
            version: "1".into(),
        }
    }
}

type Key = (&'static str, String, String);

/// Writes in the name of one replica, for as long as that leads.
#[derive(Debug, Clone)]
pub struct Writer {
    access: Access,
    /// Its name in the lease.
    identity: String,
    seen: BTreeMap<Key, Written>,
}

impl Writer {
    /// A writer that has seen nothing yet.
    pub fn new(access: Access, identity: String) -> Writer {
        Writer {
            access,
            identity,
            seen: BTreeMap::new(),
        }
    }

    /// Forgets what it has seen: it was not the one who writes for a while.
    pub fn forget(&mut self) {
        self.seen.clear();
    }

    /// The `Mesh` of the instance, as it was last seen.
    pub fn mesh(&self, mesh: &MeshName) -> Option<&Written> {
        self.seen.get(&ours::<Mesh>("Mesh", mesh.as_str()))
    }

    /// The `Cluster` of the instance, as it was last seen; there is none for a cluster of an Istio remote secret.
    pub fn cluster(&self, cluster: &ClusterId) -> Option<&Written> {
        self.seen.get(&ours::<Cluster>("Cluster", cluster.as_str()))
    }

    /// How the instance stood when somebody wrote it last.
    ///
    /// # Errors
    /// Why that is not known; it stood in no way when there is no such object.
    pub async fn mesh_stood(&mut self, mesh: &MeshName) -> Result<Option<Standing>, Failure> {
        let found: Mesh = self.look(&ours::<Mesh>("Mesh", mesh.as_str())).await?;
        let status = found.status.unwrap_or_default();
        Ok(stood(status.phase, &status.conditions))
    }

    /// How a cluster stood when somebody wrote it last.
    ///
    /// # Errors
    /// See [`Writer::mesh_stood`].
    pub async fn cluster_stood(
        &mut self,
        cluster: &ClusterId,
    ) -> Result<Option<Standing>, Failure> {
        let key = ours::<Cluster>("Cluster", cluster.as_str());
        let found: Cluster = self.look(&key).await?;
        let status = found.status.unwrap_or_default();
        Ok(stood(status.phase, &status.conditions))
    }

    /// Writes what became of the instance.
    ///
    /// # Errors
    /// Why it is not there.
    pub async fn put_mesh_status(
        &mut self,
        mesh: &MeshName,
        word: &MeshWord,
    ) -> Result<(), Failure> {
        let [clusters, services, endpoints] = word.counts.map(count);
        let of = word.replicas.iter();
        let replicas = of.map(|(name, (version, proxies))| ReplicaStatus {
            name: name.clone(),
            version: version.to_string(),
            proxies: count(*proxies),
        });
        let proxies = word.replicas.values().map(|(_, proxies)| *proxies).sum();
        let status = MeshStatus {
            phase: word.standing.phase,
            observed_generation: None,
            versions: word.versions.iter().map(ToString::to_string).collect(),
            clusters,
            services,
            endpoints,
            proxies: count(proxies),
            replicas: replicas.collect(),
            writer: Some(self.identity.clone()),
            conditions: conditions(&word.standing),
        };
        let key = ours::<Mesh>("Mesh", mesh.as_str());
        self.put_status::<Mesh>(key, &status).await
    }

    /// Writes what became of a cluster of the instance.
    ///
    /// # Errors
    /// Why it is not there. [`Failure::Absent`] says that there is no such object, as for a cluster of an Istio remote secret.
    pub async fn put_cluster_status(
        &mut self,
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
        let managed_by = word.managed_by.as_ref();
        let status = ClusterStatus {
            phase: word.standing.phase,
            observed_generation: None,
            freshness,
            uid: word.uid.clone(),
            mesh: managed_by.map(|(mesh, _)| mesh.to_string()),
            version: managed_by.map(|(_, version)| version.to_string()),
            revision: Some(word.revision.to_string()),
            services,
            endpoints,
            credential_expires: word.credential.map(rfc3339),
            writer: Some(self.identity.clone()),
            conditions: conditions(&word.standing),
        };
        let key = ours::<Cluster>("Cluster", cluster.as_str());
        self.put_status::<Cluster>(key, &status).await
    }

    /// Writes what the instance says of itself to other primaries.
    ///
    /// # Errors
    /// Why it is not there.
    pub async fn put_export(&mut self, export: &Export) -> Result<(), Failure> {
        let object = MeshExport::from(export);
        let key = ours::<MeshExport>("MeshExport", export.mesh.as_str());
        let fields = json!({
            "apiVersion": MeshExport::api_version(&()),
            "kind": MeshExport::kind(&()),
            "metadata": {"name": export.mesh.as_str(), "namespace": SpiffeId::SYSTEM_NAMESPACE},
            "spec": object.spec,
        });
        self.apply::<MeshExport>(key, fields, Part::Whole).await
    }

    /// Writes how the instance is, beside what it says to other primaries.
    ///
    /// # Errors
    /// Why it is not there.
    pub async fn put_export_status(
        &mut self,
        mesh: &MeshName,
        word: &ExportWord,
        now: Timestamp,
    ) -> Result<(), Failure> {
        let [services, endpoints] = word.counts.map(count);
        let status = MeshExportStatus {
            phase: word.standing.phase,
            services,
            endpoints,
            replicas: count(word.replicas),
            signs_until: word.signs_until.map(rfc3339),
            updated: Some(rfc3339(now)),
            writer: Some(self.identity.clone()),
            conditions: conditions(&word.standing),
        };
        let key = ours::<MeshExport>("MeshExport", mesh.as_str());
        self.put_status::<MeshExport>(key, &status).await
    }

    /// Writes the roots of trust where the sidecars of a namespace find them, when they are not there.
    ///
    /// # Errors
    /// Why they are not there.
    pub async fn put_roots(&mut self, namespace: &Namespace, pem: &str) -> Result<(), Failure> {
        let (name, entry) = ROOTS;
        let key = ("ConfigMap", namespace.to_string(), name.to_owned());
        let found: Result<ConfigMap, Failure> = self.look(&key).await;
        match found {
            Ok(map) => {
                let data = map.data.as_ref().and_then(|data| data.get(entry));
                let label = map.labels().get(ROOTS_LABEL.0);
                if data.map(String::as_str) == Some(pem)
                    && label.map(String::as_str) == Some(ROOTS_LABEL.1)
                {
                    return Ok(());
                }
            }
            Err(Failure::Absent) => {}
            Err(failure) => return Err(failure),
        }
        let fields = json!({
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": name, "namespace": namespace.as_str(), "labels": {ROOTS_LABEL.0: ROOTS_LABEL.1}},
            "data": {entry: pem},
        });
        let put = self
            .apply::<ConfigMap>(key.clone(), fields, Part::Whole)
            .await;
        // there is one in each namespace, and each is read before it is written
        self.seen.remove(&key);
        put
    }

    /// Keeps a renewed token in the Secret of a cluster, in place of the one that it was renewed from; says whether it is kept
    /// there. It is not when the Secret is not one that `cluster add` wrote for this instance, or holds something else by now:
    /// that is somebody's, and counts.
    ///
    /// # Errors
    /// Why it is not there. [`Failure::Forbidden`]: nobody granted it, see [`enrol::keeping`].
    pub async fn keep_token(
        &mut self,
        mesh: &MeshName,
        cluster: &ClusterId,
        place: &str,
        before: &Kubeconfig,
        token: &Zeroizing<String>,
    ) -> Result<bool, Failure> {
        let name = place.rsplit_once('/').map_or(place, |(_, name)| name);
        if name != enrol::secret_name(cluster)
            || place
                .rsplit('/')
                .nth(1)
                .is_some_and(|n| n != SpiffeId::SYSTEM_NAMESPACE)
        {
            return Ok(false);
        }
        let key = ours::<Secret>("Secret", name);
        let found: Secret = self.look(&key).await?;
        // It holds what this process should not keep longer than needed, and is read anew each time.
        let seen = self.seen.remove(&key);
        let wrote = found
            .labels()
            .get(INSTANCE_LABEL)
            .is_some_and(|of| of == mesh.as_str());
        let data = found.data.unwrap_or_default();
        let text = data
            .get(cluster.as_str())
            .and_then(|text| std::str::from_utf8(&text.0).ok());
        let held = text.and_then(|text| Kubeconfig::read(text, EVERYTHING).ok());
        let (true, Some(held)) = (wrote, held) else {
            return Ok(false);
        };
        if held.token().as_ref() == Some(token) {
            return Ok(true);
        }
        if held != *before {
            return Ok(false);
        }
        let next = Kubeconfig {
            user: User::Token(token.clone()),
            ..held
        };
        let text = base64::encode(enrol::kubeconfig(cluster, &next).as_bytes());
        let patch = json!({
            "metadata": {"resourceVersion": seen.map(|seen| seen.version)},
            "data": {cluster.as_str(): text},
        });
        let secrets: Api<Secret> =
            Api::namespaced(self.access.client().clone(), SpiffeId::SYSTEM_NAMESPACE);
        let params = PatchParams {
            field_manager: Some(FIELD_MANAGER.into()),
            ..PatchParams::default()
        };
        within(
            &self.access,
            secrets.patch(name, &params, &Patch::Merge(&patch)),
        )
        .await?;
        Ok(true)
    }

    async fn put_status<K: Ours>(
        &mut self,
        key: Key,
        status: &impl Serialize,
    ) -> Result<(), Failure> {
        let fields = json!({
            "apiVersion": K::api_version(&()),
            "kind": K::kind(&()),
            "metadata": {"name": key.2, "namespace": key.1},
            "status": status,
        });
        self.apply::<K>(key, fields, Part::Status).await
    }

    /// Reads an object, and notes its version.
    async fn look<K: Ours>(&mut self, key: &Key) -> Result<K, Failure> {
        self.seen.remove(key);
        let api: Api<K> = Api::namespaced(self.access.client().clone(), &key.1);
        let found = within(&self.access, api.get_opt(&key.2)).await?;
        let found = found.ok_or(Failure::Absent)?;
        self.note(key.clone(), &found);
        Ok(found)
    }

    fn note<K: Ours>(&mut self, key: Key, object: &K) {
        let written = Written {
            uid: object.uid().unwrap_or_default(),
            version: object.resource_version().unwrap_or_default(),
        };
        self.seen.insert(key, written);
    }

    async fn apply<K: Ours>(
        &mut self,
        key: Key,
        mut fields: Value,
        part: Part,
    ) -> Result<(), Failure> {
        let api: Api<K> = Api::namespaced(self.access.client().clone(), &key.1);
        let params = PatchParams::apply(FIELD_MANAGER).force();
        // What people write beside our fields is another version too; then it is made from that one.
        for last in [false, true] {
            if !self.seen.contains_key(&key) {
                match (self.look::<K>(&key).await, part) {
                    (Ok(_), _) => {}
                    (Err(Failure::Absent), Part::Whole) => {}
                    (Err(failure), _) => return Err(failure),
                }
            }
            // without one it is made; `null` says nothing
            let version = self.seen.get(&key).map(|written| written.version.clone());
            fields["metadata"]["resourceVersion"] = version.into();
            let patch = Patch::Apply(&fields);
            let patched = async {
                match part {
                    Part::Whole => api.patch(&key.2, &params, &patch).await,
                    Part::Status => api.patch_status(&key.2, &params, &patch).await,
                }
            };
            match within(&self.access, patched).await {
                Ok(object) => {
                    self.note(key, &object);
                    return Ok(());
                }
                Err(failure) => {
                    self.seen.remove(&key);
                    if last || !is_conflict(&failure) {
                        return Err(failure);
                    }
                }
            }
        }
        unreachable!("the second time is the last")
    }
}

/// Which part of an object is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Whole,
    Status,
}

trait Ours:
    Resource<Scope = NamespaceResourceScope, DynamicType = ()>
    + Clone
    + DeserializeOwned
    + std::fmt::Debug
{
}

impl<K> Ours for K where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
        + Clone
        + DeserializeOwned
        + std::fmt::Debug
{
}

fn ours<K: Ours>(kind: &'static str, name: &str) -> Key {
    debug_assert_eq!(K::kind(&()), kind);
    (kind, SpiffeId::SYSTEM_NAMESPACE.into(), name.to_owned())
}

fn is_conflict(failure: &Failure) -> bool {
    matches!(failure, Failure::Unexpected { code: 409, .. })
}

/// How something stood, by what is written in its status.
fn stood(phase: Phase, conditions: &[Condition]) -> Option<Standing> {
    let ready = conditions.iter().find(|one| one.type_ == READY)?;
    let millis = ready.last_transition_time.0.as_millisecond();
    Some(Standing {
        phase,
        reason: None,
        because: ready.message.clone(),
        since: Timestamp(u64::try_from(millis).unwrap_or(0)),
    })
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

/// The condition by which tools wait.
const READY: &str = "Ready";

/// The condition `Ready`.
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
        type_: READY.into(),
        status: status.into(),
        reason: standing.reason.unwrap_or(reason).into(),
        message: standing.because.clone(),
        last_transition_time: time(standing.since),
        observed_generation: None,
    }]
}

async fn within<T>(
    access: &Access,
    answer: impl Future<Output = Result<T, kube::Error>>,
) -> Result<T, Failure> {
    let answer = tokio::time::timeout(LIMIT, answer).await;
    let answer = answer.map_err(|_| Failure::Slow { limit: LIMIT })?;
    answer.map_err(|error| crate::api::of_error(access, &error))
}
