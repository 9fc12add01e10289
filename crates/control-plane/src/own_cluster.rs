//! What an instance keeps true in its own cluster with an API server: the status of its objects, the roots of trust where
//! sidecars find them, and the keys that check tokens while the API server is away.
//!
//! Nothing here decides anything, and nothing waits for it: what cannot be written is written later.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use catamaran_kubernetes::connect::Access;
use catamaran_kubernetes::failure::Failure;
use catamaran_kubernetes::inject::SYSTEM_NAMESPACES;
use catamaran_kubernetes::review::Reviewer;
use catamaran_kubernetes::upgrade;
use catamaran_kubernetes::write::{self, ClusterWord, MeshWord, Phase, Standing};
use catamaran_model::{ClusterId, MeshName, Namespace, SpiffeId, Timestamp, Version};
use catamaran_process::Process;
use catamaran_registry::{Freshness, Snapshot};

use crate::status::{Reporter, State};

/// How often the status is looked at.
const ROUND: Duration = Duration::from_secs(2);
/// How often what is written is written again, for somebody may have taken it away.
const AGAIN: Duration = Duration::from_secs(300);
/// How often keys are asked for, and how soon after a failure.
const KEYS: Duration = Duration::from_secs(300);
const KEYS_AGAIN: Duration = Duration::from_secs(10);

/// Starts what keeps it true.
pub(crate) fn keep(access: Access, reviewer: Arc<Reviewer>, reporter: Reporter, process: &Process) {
    let stopping = process.stopping();
    process.run("token keys", async move {
        let stop = stopping.wait();
        tokio::pin!(stop);
        loop {
            let wait = match reviewer.refresh().await {
                Ok(()) => KEYS,
                Err(failure) => {
                    tracing::warn!("{}", failure.about("the keys of tokens"));
                    KEYS_AGAIN
                }
            };
            tokio::select! {
                () = &mut stop => return Ok::<(), Infallible>(()),
                () = tokio::time::sleep(wait) => {}
            }
        }
    });
    let stopping = process.stopping();
    process.run("own cluster", async move {
        let stop = stopping.wait();
        tokio::pin!(stop);
        let mut writer = Writer {
            access,
            reporter,
            mesh: None,
            clusters: BTreeMap::new(),
            roots: BTreeMap::new(),
            versions: BTreeSet::new(),
            complained: None,
        };
        loop {
            tokio::select! {
                () = &mut stop => return Ok::<(), Infallible>(()),
                () = tokio::time::sleep(ROUND) => {}
            }
            writer.round().await;
        }
    });
}

/// What is written already, and when.
struct Written<T> {
    word: T,
    at: Timestamp,
}

struct Writer {
    access: Access,
    reporter: Reporter,
    mesh: Option<Written<MeshWord>>,
    clusters: BTreeMap<ClusterId, Written<ClusterWord>>,
    roots: BTreeMap<Namespace, Written<String>>,
    /// What the control planes of this instance run, ours among them; empty before the first look.
    versions: BTreeSet<Version>,
    complained: Option<String>,
}

impl Writer {
    async fn round(&mut self) {
        let snapshot = self.reporter.kept.snapshots.borrow().clone();
        let mut failure = None;
        if let Err(error) = self.roots(&snapshot).await {
            failure = Some(error.about("the ConfigMaps of roots"));
        }
        if let Err(error) = self.statuses(&snapshot).await {
            failure = Some(error.about("the status of Mesh and Cluster"));
        }
        if failure != self.complained {
            if let Some(failure) = &failure {
                tracing::warn!("not written into our own cluster: {failure}; it is tried again");
            }
            self.complained = failure;
        }
    }

    /// The roots, in our own namespace and in each that may have sidecars: a pod may ask for one by itself.
    async fn roots(&mut self, snapshot: &Snapshot) -> Result<(), Failure> {
        let (Some(issuer), Some(view)) = (
            self.reporter.authority.issuer(),
            snapshot.clusters.get(&self.reporter.cluster),
        ) else {
            return Ok(());
        };
        let pem = issuer.bundle().to_pem(issuer.trust_domain());
        let own = Namespace::new(SpiffeId::SYSTEM_NAMESPACE).ok();
        let system = |name: &Namespace| SYSTEM_NAMESPACES.contains(&name.as_str());
        let others = view.namespaces.keys().filter(|name| !system(name)).cloned();
        let all: BTreeSet<Namespace> = own.into_iter().chain(others).collect();
        self.roots.retain(|namespace, _| all.contains(namespace));
        for namespace in all {
            let now = (self.reporter.now)();
            if fresh(self.roots.get(&namespace), &pem, now) {
                continue;
            }
            write::put_roots(&self.access, &namespace, &pem).await?;
            let written = Written {
                word: pem.clone(),
                at: now,
            };
            self.roots.insert(namespace, written);
        }
        Ok(())
    }

    /// Which versions the control planes run, and where that is not yet the one that is wanted, how that stands.
    async fn on_the_way(&mut self, snapshot: &Snapshot) -> Result<Option<String>, Failure> {
        let ours = &self.reporter.version;
        let mesh = snapshot.mesh.as_ref();
        let wanted = mesh.and_then(|mesh| mesh.version.as_ref()).unwrap_or(ours);
        // When all run what is wanted nobody is asked: the API server is left alone.
        if self.versions.len() != 1 || !self.versions.contains(wanted) || wanted != ours {
            self.versions = upgrade::ready_versions(&self.access, &self.reporter.mesh).await?;
            self.versions.insert(ours.clone());
        }
        Ok(on_the_way(wanted, &self.versions))
    }

    async fn statuses(&mut self, snapshot: &Snapshot) -> Result<(), Failure> {
        let status = self.reporter.status().await;
        let on_the_way = self.on_the_way(snapshot).await?;
        let now = (self.reporter.now)();
        let worst = status
            .problems
            .iter()
            .find(|problem| problem.severity == "error");
        let (phase, because) = match (status.state, worst, on_the_way) {
            // One that starts among others is no new instance.
            (State::Creating, _, Some(how)) => (Phase::Updating, how),
            (State::Creating, _, None) => (Phase::Pending, status.because.join("; ")),
            (_, Some(problem), _) => (
                Phase::Degraded,
                format!("{}: {}", problem.object, problem.message),
            ),
            (_, None, Some(how)) => (Phase::Updating, how),
            (State::Updating, None, None) => (Phase::Ready, status.because.join("; ")),
            (State::Running, None, None) => (Phase::Ready, "all is told and taken".to_owned()),
        };
        let endpoints = snapshot.clusters.values().map(|view| view.endpoints).sum();
        let word = MeshWord {
            standing: standing(
                self.mesh.as_ref().map(|known| &known.word.standing),
                phase,
                because,
                now,
            ),
            versions: self.versions.iter().cloned().collect(),
            counts: [
                snapshot.clusters.len(),
                snapshot.services.len(),
                endpoints,
                status.proxies.connected,
            ],
        };
        if !fresh(self.mesh.as_ref(), &word, now) {
            ignore_absent(write::put_mesh_status(&self.access, &self.reporter.mesh, &word).await)?;
            self.mesh = Some(Written { word, at: now });
        }
        let credentials = self.reporter.kept.health.borrow().credentials.clone();
        self.clusters
            .retain(|cluster, _| snapshot.clusters.contains_key(cluster));
        for (cluster, view) in &snapshot.clusters {
            let mut about = status.problems.iter();
            let name = cluster.as_str();
            let worst = about.find(|problem| {
                problem.severity == "error" && problem.cluster.as_deref() == Some(name)
            });
            let peer = (view.export.as_ref()).filter(|export| export.mesh != self.reporter.mesh);
            let managed_by = peer.map(|export| (export.mesh.clone(), export.version.clone()));
            let apart = managed_by.as_ref().and_then(|(mesh, version)| {
                let ours = &self.reporter.version;
                (!ours.is_neighbour(version)).then(|| too_far_apart(mesh, version, ours))
            });
            let (phase, because) = match (&view.freshness, worst) {
                (_, Some(problem)) => (Phase::Degraded, problem.message.clone()),
                (Freshness::Fresh, None) if apart.is_some() => {
                    (Phase::Degraded, apart.unwrap_or_default())
                }
                (Freshness::Unknown, None) => {
                    (Phase::Pending, "its first list is not complete".into())
                }
                (Freshness::Fresh, None) => (Phase::Ready, "its facts are fresh".into()),
                (Freshness::Stale { reason, .. }, None) => (Phase::Degraded, reason.clone()),
            };
            let known = self.clusters.get(cluster);
            let word = ClusterWord {
                standing: standing(known.map(|known| &known.word.standing), phase, because, now),
                freshness: view.freshness.clone(),
                revision: view.revision.0,
                counts: [view.services, view.endpoints],
                credential: credentials.get(cluster).copied(),
                managed_by,
            };
            // revisions alone are not worth a write each
            let revision = known.map_or(word.revision, |known| known.word.revision);
            let unrevised = ClusterWord {
                revision,
                ..word.clone()
            };
            if !fresh(known, &unrevised, now) {
                ignore_absent(write::put_cluster_status(&self.access, cluster, &word).await)?;
                self.clusters
                    .insert(cluster.clone(), Written { word, at: now });
            }
        }
        Ok(())
    }
}

/// How the control planes stand while they do not all run what is wanted.
fn on_the_way(wanted: &Version, run: &BTreeSet<Version>) -> Option<String> {
    if run.iter().all(|version| version == wanted) {
        return None;
    }
    let run: Vec<&str> = run.iter().map(Version::as_str).collect();
    Some(format!(
        "on the way to {wanted}: its control planes run {}",
        run.join(" and ")
    ))
}

fn too_far_apart(mesh: &MeshName, version: &Version, ours: &Version) -> String {
    format!(
        "{mesh} runs {version} and this instance {ours}: only versions whose minors differ by one at most are made for each \
         other; upgrade the older one"
    )
}

/// Since when something stands as it does.
fn standing(before: Option<&Standing>, phase: Phase, because: String, now: Timestamp) -> Standing {
    let since = before.filter(|before| before.phase == phase);
    Standing {
        phase,
        because,
        since: since.map_or(now, |before| before.since),
    }
}

fn fresh<T: PartialEq>(known: Option<&Written<T>>, word: &T, now: Timestamp) -> bool {
    known.is_some_and(|known| known.word == *word && now.since(known.at) < AGAIN)
}

/// An object that is not there has no status.
fn ignore_absent(result: Result<(), Failure>) -> Result<(), Failure> {
    match result {
        Err(Failure::Absent) => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instance_is_on_its_way_until_every_control_plane_runs_what_is_wanted() {
        let version = |text: &str| Version::new(text).unwrap();
        let said = |run: &[&str]| {
            let run = run.iter().map(|text| version(text)).collect();
            on_the_way(&version("0.2.0"), &run)
        };
        let both = said(&["0.1.0", "0.2.0"]).unwrap();
        assert!(
            both.contains("0.2.0") && both.contains("0.1.0 and 0.2.0"),
            "{both}"
        );
        assert!(said(&["0.1.0"]).is_some());
        assert_eq!(said(&["0.2.0"]), None);
    }
}
