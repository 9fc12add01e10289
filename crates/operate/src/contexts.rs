//! Clusters with API servers in the place of a fleet: what each says of itself when it is asked by a context, so that the same
//! tables and checks can be made of it.
//!
//! Least rights first: the objects of our kinds with their status, pods and services are read; a control plane is asked itself by
//! a port that is forwarded to its loopback, and when the context may not do that, what its objects say is shown instead. No
//! Secret is read. One side that is silent costs only its own rows.

use std::collections::{BTreeMap, BTreeSet};

use catamaran_kubernetes::connect::Access;
use catamaran_kubernetes::enrol;
use catamaran_kubernetes::failure::Failure;
use catamaran_kubernetes::pod;
use catamaran_kubernetes::sight::{self, Pod, SeenCluster, SeenMesh, Sight};
use catamaran_model::{ClusterId, Credential, MemberMode, MeshName, SpiffeId, Timestamp};
use serde::de::DeserializeOwned;
use tokio::task::JoinSet;

use crate::contact::{Contact, ContactError};
use crate::control_plane::{
    ClusterStatus, ControlPlaneStatus, GatewayStatus, ProxyStatus, TrustStatus,
};
use crate::mesh_state::{Seen, judge, mode_word};
use crate::told::{Intermediate, Told};
use crate::{MeshRow, OperateError};

mod proxies;
mod status;
mod trust;
mod verify;

pub(crate) use proxies::list as list_proxies;
pub use proxies::{context_proxies, context_proxy_config};
pub use status::{context_clusters, context_status};
pub use trust::{RenewTrust, context_trust, renew_context_trust};
pub use verify::context_verify;
pub(crate) use verify::{NoCalls, calls};

pub(crate) const SYSTEM: &str = SpiffeId::SYSTEM_NAMESPACE;

/// A cluster with an API server, and what it says.
pub(crate) struct Side {
    pub(crate) contact: Contact,
    pub(crate) access: Access,
    /// `context one`
    pub(crate) who: String,
    pub(crate) found: Result<Found, Failure>,
}

/// What is found in a cluster.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// The UID of its namespace kube-system, when the context may see it.
    pub(crate) uid: Option<String>,
    pub(crate) sight: Sight,
    /// Its instance, as a rule one.
    pub(crate) instances: Vec<Asked>,
}

/// An instance, and its control planes.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) told: Told,
    /// The pods of its control plane that answered.
    pub(crate) answered: Vec<String>,
    /// Why its control plane was not asked itself.
    pub(crate) not_asked: Option<String>,
}

/// Rows, and what could not be asked.
#[derive(Debug, Clone, PartialEq)]
pub struct Heard<T> {
    /// What was found.
    pub rows: Vec<T>,
    /// Who says nothing, or not all, and why: a line each.
    pub silent: Vec<String>,
}

impl Side {
    /// The name of its cluster in the mesh; that of the context where there is no instance.
    pub(crate) fn cluster(&self) -> String {
        match self.told().next() {
            Some(told) => told.home.to_string(),
            None => self.contact.short().to_owned(),
        }
    }

    pub(crate) fn told(&self) -> impl Iterator<Item = &Told> {
        let instances = self.found.iter().flat_map(|found| &found.instances);
        instances.map(|asked| &asked.told)
    }

    /// An error about what was asked of it.
    pub(crate) fn failed(&self, what: &str, failure: Failure) -> OperateError {
        ContactError::failed(&self.who, what)(failure)
    }
}

/// Asks every side at once.
///
/// # Errors
/// When a context cannot be used at all, or two lead to one cluster. A side that is silent is no error.
pub(crate) async fn gather(contacts: &[Contact]) -> Result<Vec<Side>, OperateError> {
    let mut asked = Vec::new();
    for contact in contacts {
        let reached = contact.reach()?;
        let access = reached.access.clone();
        let found = tokio::spawn(async move { look(&access).await });
        asked.push((contact.clone(), reached, found));
    }
    let mut sides: Vec<Side> = Vec::new();
    for (contact, reached, found) in asked {
        let found = found.await.unwrap_or_else(|error| {
            let why = error.to_string();
            Err(Failure::Unreadable { why })
        });
        let uid = |found: &Result<Found, Failure>| found.as_ref().ok()?.uid.clone();
        let mut others = sides.iter();
        let twin =
            uid(&found).and_then(|it| others.find(|side| uid(&side.found).as_ref() == Some(&it)));
        if let Some(twin) = twin {
            return Err(OperateError::BadSetting {
                text: contact.short().to_owned(),
                wanted: "another cluster",
                reason: format!(
                    "it leads to the same cluster as {}: their namespaces kube-system have the same UID; name each cluster once",
                    twin.who
                ),
            });
        }
        sides.push(Side {
            contact,
            access: reached.access,
            who: reached.who,
            found,
        });
    }
    Ok(sides)
}

/// The sides that say nothing, a line each.
pub(crate) fn silent(sides: &[Side]) -> Vec<String> {
    let mut lines = Vec::new();
    for side in sides {
        match &side.found {
            Err(failure) => lines.push(format!("{}: {}", side.who, failure.about("its objects"))),
            Ok(found) => {
                let named = |asked: &Asked| {
                    let why = asked.not_asked.as_ref()?;
                    Some(format!("{} in {}: {why}", asked.told.spec.name, side.who))
                };
                lines.extend(found.instances.iter().filter_map(named));
            }
        }
    }
    lines
}

/// When every side is silent, that is an error and no empty table.
pub(crate) fn some_answer(sides: &mut Vec<Side>) -> Result<(), OperateError> {
    if sides.iter().any(|side| side.found.is_ok()) || sides.is_empty() {
        return Ok(());
    }
    let side = sides.remove(0);
    match side.found {
        Err(failure) => Err(ContactError::failed(&side.who, "its objects")(failure)),
        Ok(_) => Ok(()),
    }
}

async fn look(access: &Access) -> Result<Found, Failure> {
    let (uid, sight) = tokio::join!(enrol::uid(access), sight::sight(access));
    let sight = match sight {
        Ok(sight) => sight,
        // No instance was ever there.
        Err(Failure::Absent) => Sight::default(),
        Err(failure) => return Err(failure),
    };
    let mut instances = Vec::new();
    for mesh in &sight.meshes {
        instances.push(ask(access, mesh, &sight).await);
    }
    Ok(Found {
        uid: uid.ok(),
        sight,
        instances,
    })
}

/// The instance's own cluster, by its object or by what the instance says of itself.
fn home(mesh: &SeenMesh, sight: &Sight) -> Option<ClusterId> {
    let own = sight
        .clusters
        .iter()
        .map(|seen| &seen.member)
        .find(|member| {
            member.mode == MemberMode::Managed && matches!(member.credential, Credential::Folder(_))
        });
    let mut exports = sight.exports.iter();
    let said = exports.find(|export| export.mesh == mesh.spec.name);
    own.map(|member| member.cluster.clone())
        .or_else(|| Some(said?.cluster.clone()))
}

/// A cluster whose name nobody says.
pub(crate) fn nameless() -> ClusterId {
    ClusterId::new("unknown").expect("the word is a name")
}

async fn ask(access: &Access, mesh: &SeenMesh, sight: &Sight) -> Asked {
    let name = &mesh.spec.name;
    let home = home(mesh, sight);
    let (status, answered, not_asked) = status_of(access, mesh, home.as_ref(), sight).await;
    let whole = !answered.is_empty();
    let members: Vec<_> = sight
        .clusters
        .iter()
        .map(|seen| seen.member.clone())
        .collect();
    let export = sight.exports.iter().find(|export| export.mesh == *name);
    let seen = Seen {
        said: status.as_ref().map_err(String::as_str),
        node: true,
        known: export.is_some(),
    };
    // What its objects say has no gateways elsewhere, so it cannot be held against what is wanted.
    let state = match (&status, whole) {
        (Ok(status), false) => by_objects(mesh, status),
        _ => judge(&members, &seen),
    };
    let trust = status
        .as_ref()
        .ok()
        .and_then(|status| status.trust.as_ref());
    let intermediate = trust.and_then(intermediate);
    Asked {
        told: Told {
            spec: mesh.spec.clone(),
            home: home.unwrap_or_else(nameless),
            members,
            whole,
            state,
            roots: export
                .map(|export| export.roots.clone())
                .unwrap_or_default(),
            intermediate: intermediate.map(Ok),
            status,
        },
        answered,
        not_asked,
    }
}

fn by_objects(mesh: &SeenMesh, status: &ControlPlaneStatus) -> (crate::MeshState, String) {
    use catamaran_kubernetes::write::Phase;
    let because = || match mesh.because.is_empty() {
        true => "its Mesh object has no status yet".to_owned(),
        false => mesh.because.clone(),
    };
    match mesh.phase {
        Phase::Ready if status.ready => (crate::MeshState::Running, String::new()),
        Phase::Pending => (crate::MeshState::Creating, because()),
        // Degraded is running with problems, which are shown as such.
        Phase::Degraded if status.ready => (crate::MeshState::Running, because()),
        _ => (crate::MeshState::Updating, because()),
    }
}

pub(crate) fn intermediate(trust: &TrustStatus) -> Option<Intermediate> {
    let after = catamaran_kubernetes::write::from_rfc3339(&trust.not_after)?;
    let before = catamaran_kubernetes::write::from_rfc3339(&trust.not_before)?;
    Some(Intermediate {
        fingerprint: short(&trust.intermediate),
        not_after: after,
        half_life: Timestamp(before.0 + after.0.saturating_sub(before.0) / 2),
    })
}

/// `07:42…15`, as fingerprints are shown to people.
pub(crate) fn short(hex: &str) -> String {
    let print = catamaran_model::Fingerprint::parse(hex);
    print.map_or_else(|| hex.to_owned(), |print| print.short())
}

/// What the control plane of an instance says; which pods of it answered; why it was not asked itself.
async fn status_of(
    access: &Access,
    mesh: &SeenMesh,
    home: Option<&ClusterId>,
    sight: &Sight,
) -> (
    Result<ControlPlaneStatus, String>,
    Vec<String>,
    Option<String>,
) {
    let by_objects = || objects_say(mesh, home, sight);
    let pods = match sight::control_planes(access, &mesh.spec.name).await {
        Ok(pods) => pods,
        Err(failure) => {
            let why = not_seen(&failure, "pods", &format!("list pods in {SYSTEM}"));
            return (Ok(by_objects()), Vec::new(), Some(why));
        }
    };
    let ready: Vec<&Pod> = pods.iter().filter(|pod| pod.ready && !pod.ending).collect();
    if ready.is_empty() {
        let waits = pods
            .iter()
            .filter(|pod| !pod.ending)
            .map(|pod| match &pod.waiting {
                Some(why) => format!("pod {}: {why}", pod.name),
                None => format!("pod {} is not ready", pod.name),
            });
        let waits: Vec<String> = waits.collect();
        let why = match waits.is_empty() {
            true => "it has no pod".to_owned(),
            false => waits.join("; "),
        };
        return (Err(why), Vec::new(), None);
    }
    let names: Vec<String> = ready.iter().map(|pod| pod.name.clone()).collect();
    let said = ask_all::<ControlPlaneStatus>(access, &names, "/v1/status").await;
    let mut whole: Option<ControlPlaneStatus> = None;
    let (mut answered, mut not_asked) = (Vec::new(), None);
    for (pod, said) in said {
        match said {
            Ok(said) => {
                answered.push(pod);
                match &mut whole {
                    Some(whole) => join(whole, said),
                    None => whole = Some(said),
                }
            }
            Err(failure) => {
                let rights = pod::page_rights(SYSTEM);
                not_asked = Some(not_seen(&failure, "its control plane", &rights));
            }
        }
    }
    match whole {
        Some(whole) => (Ok(whole), answered, not_asked),
        None => (Ok(by_objects()), answered, not_asked),
    }
}

/// Why something is not shown, with the right that would show it.
pub(crate) fn not_seen(failure: &Failure, what: &str, rights: &str) -> String {
    match failure {
        Failure::Forbidden { .. } | Failure::Unauthorized { .. } => {
            format!("{what} cannot be asked: the context may not {rights}")
        }
        failure => format!("{what} cannot be asked: {}", failure.about(what)),
    }
}

/// Asks pods of a control plane at once for one page.
pub(crate) async fn ask_all<T: DeserializeOwned + Send + 'static>(
    access: &Access,
    pods: &[String],
    path: &'static str,
) -> Vec<(String, Result<T, Failure>)> {
    let mut asked = JoinSet::new();
    for pod in pods {
        let (access, pod) = (access.clone(), pod.clone());
        asked.spawn(async move {
            let answer = read(&access, &pod, path).await;
            (pod, answer)
        });
    }
    let mut answers = asked.join_all().await;
    answers.sort_by(|a, b| a.0.cmp(&b.0));
    answers
}

async fn read<T: DeserializeOwned>(access: &Access, pod: &str, path: &str) -> Result<T, Failure> {
    let unreadable = |why: String| Failure::Unreadable { why };
    match pod::page(access, SYSTEM, pod, path).await? {
        (200, body) => serde_json::from_str(&body).map_err(|error| unreadable(error.to_string())),
        (code, body) => Err(unreadable(format!("{code}: {}", body.trim()))),
    }
}

/// What the proxies of an instance are, as the pods of its control plane that answered know them.
pub(crate) async fn known_proxies(
    access: &Access,
    asked: &Asked,
) -> Result<Vec<ProxyStatus>, String> {
    if asked.answered.is_empty() {
        let why = asked.not_asked.clone();
        return Err(why.unwrap_or_else(|| "no control plane answers".into()));
    }
    let said = ask_all::<Vec<ProxyStatus>>(access, &asked.answered, "/v1/proxies").await;
    let mut all: BTreeMap<(String, String), ProxyStatus> = BTreeMap::new();
    for (_, said) in said {
        let said = said.map_err(|failure| failure.about("proxies"))?;
        for proxy in said {
            all.insert((proxy.namespace.clone(), proxy.pod.clone()), proxy);
        }
    }
    Ok(all.into_values().collect())
}

/// Each replica of a control plane has proxies of its own; of what both know, the worse counts.
fn join(whole: &mut ControlPlaneStatus, other: ControlPlaneStatus) {
    whole.proxies.connected += other.proxies.connected;
    whole.proxies.current += other.proxies.current;
    whole.proxies.pending += other.proxies.pending;
    whole.proxies.rejected += other.proxies.rejected;
    for problem in other.problems {
        if !whole.problems.contains(&problem) {
            whole.problems.push(problem);
        }
    }
    for cluster in other.clusters {
        match whole
            .clusters
            .iter_mut()
            .find(|known| known.name == cluster.name)
        {
            Some(known) if known.freshness == "fresh" && cluster.freshness != "fresh" => {
                *known = cluster;
            }
            Some(_) => {}
            None => whole.clusters.push(cluster),
        }
    }
    if whole.state == "running" && other.state != "running" {
        whole.state = other.state;
        whole.because = other.because;
    }
}

/// What an instance's objects say, in the words of its control plane.
fn objects_say(mesh: &SeenMesh, home: Option<&ClusterId>, sight: &Sight) -> ControlPlaneStatus {
    use catamaran_kubernetes::write::Phase;
    let export = (sight.exports.iter()).find(|export| export.mesh == mesh.spec.name);
    let version = mesh.versions.first().cloned();
    let gateways = export.iter().flat_map(|export| {
        export.gateways.iter().map(|at| GatewayStatus {
            network: (export.network.as_ref()).map_or_else(String::new, ToString::to_string),
            cluster: export.cluster.to_string(),
            address: at.to_string(),
        })
    });
    let by_hand = sight.clusters.iter().flat_map(|seen| {
        let member = &seen.member;
        member.gateway_addresses.iter().map(|at| GatewayStatus {
            network: (member.network.as_ref()).map_or_else(String::new, ToString::to_string),
            cluster: member.cluster.to_string(),
            address: at.to_string(),
        })
    });
    ControlPlaneStatus {
        mesh: mesh.spec.name.to_string(),
        cluster: home.map_or_else(String::new, ToString::to_string),
        version: version
            .or_else(|| Some(export?.version.to_string()))
            .unwrap_or_default(),
        state: match mesh.phase {
            Phase::Pending => "creating".into(),
            _ => "running".into(),
        },
        ready: export.is_some() && !matches!(mesh.phase, Phase::Failed),
        clusters: sight.clusters.iter().map(cluster_says).collect(),
        gateways: gateways.chain(by_hand).collect(),
        ..ControlPlaneStatus::default()
    }
}

fn cluster_says(seen: &SeenCluster) -> ClusterStatus {
    ClusterStatus {
        name: seen.member.cluster.to_string(),
        mode: mode_word(seen.member.mode).into(),
        network: seen.member.network.as_ref().map(ToString::to_string),
        freshness: seen.freshness.into(),
        since: seen.since.clone(),
        reason: seen.reason.clone(),
        services: seen.services,
        endpoints: seen.endpoints,
        ..ClusterStatus::default()
    }
}

/// `mesh list` for contexts.
///
/// # Errors
/// When a context cannot be used, or no side answers.
pub async fn context_meshes(contacts: &[Contact]) -> Result<Heard<MeshRow>, OperateError> {
    let mut sides = gather(contacts).await?;
    some_answer(&mut sides)?;
    let mut rows: Vec<MeshRow> = sides.iter().flat_map(Side::told).map(Told::row).collect();
    rows.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(Heard {
        rows,
        silent: silent(&sides),
    })
}

/// `mesh show` for contexts.
///
/// # Errors
/// When a context cannot be used, no side answers, or there is no such instance.
pub async fn context_mesh(
    contacts: &[Contact],
    name: &MeshName,
) -> Result<(MeshRow, Vec<String>), OperateError> {
    let heard = context_meshes(contacts).await?;
    let known: BTreeSet<(String, String)> = (heard.rows.iter())
        .map(|row| (row.name.clone(), format!("in {}", row.manages)))
        .collect();
    let found = heard.rows.into_iter().find(|row| row.name == name.as_str());
    let row = found.ok_or_else(|| OperateError::UnknownMesh {
        name: name.clone(),
        purpose: "",
        known: known.into_iter().collect(),
    })?;
    Ok((row, heard.silent))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control_plane::{ProblemStatus, ProxyCount};

    fn replica(connected: usize, freshness: &str, problem: &str) -> ControlPlaneStatus {
        ControlPlaneStatus {
            state: "running".into(),
            proxies: ProxyCount {
                connected,
                current: connected,
                ..ProxyCount::default()
            },
            clusters: vec![ClusterStatus {
                name: "cluster-2".into(),
                freshness: freshness.into(),
                ..ClusterStatus::default()
            }],
            problems: vec![ProblemStatus {
                object: problem.into(),
                ..ProblemStatus::default()
            }],
            ..ControlPlaneStatus::default()
        }
    }

    #[test]
    fn each_replica_has_proxies_of_its_own_and_the_worse_of_what_both_know_counts() {
        let mut whole = replica(2, "fresh", "Service a");
        join(&mut whole, replica(3, "stale", "Service a"));
        assert_eq!((whole.proxies.connected, whole.proxies.current), (5, 5));
        assert_eq!(whole.clusters.len(), 1);
        assert_eq!(whole.clusters[0].freshness, "stale");
        assert_eq!(whole.problems.len(), 1);
        let starts = ControlPlaneStatus {
            state: "creating".into(),
            because: vec!["the first list".into()],
            ..replica(0, "unknown", "Service b")
        };
        join(&mut whole, starts);
        assert_eq!((whole.state.as_str(), whole.because.len()), ("creating", 1));
        assert_eq!(
            whole.clusters[0].freshness, "stale",
            "what is known worse stays"
        );
        assert_eq!(whole.problems.len(), 2);
    }
}
