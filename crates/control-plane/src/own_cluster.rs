//! What an instance keeps true in its own cluster with an API server: the status of its objects, the roots of trust where
//! sidecars find them, events for people, and the keys that check tokens while the API server is away.
//!
//! Nothing here decides anything, and nothing waits for it: what cannot be written is written later. Only the replica that has
//! the lease writes; the others follow along.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use catamaran_kubernetes::beats::Beat;
use catamaran_kubernetes::connect::Access;
use catamaran_kubernetes::events::{self, About, Said};
use catamaran_kubernetes::failure::Failure;
use catamaran_kubernetes::inject::SYSTEM_NAMESPACES;
use catamaran_kubernetes::review::Reviewer;
use catamaran_kubernetes::write::{ClusterWord, MeshWord, Phase, Standing, Writer};
use catamaran_model::{ClusterId, MeshName, Namespace, SpiffeId, Timestamp, Version};
use catamaran_process::Process;
use catamaran_registry::{Freshness, Snapshot};

use crate::lead::Lead;
use crate::notices::Notices;
use crate::replicas::Replicas;
use crate::status::{ProblemStatus, Reporter, State, Status};
use crate::troubles::{self, troubles};
use crate::watches::{Lent, Renewed};

/// How often the status is looked at.
const ROUND: Duration = Duration::from_secs(2);
/// How often what is written is written again, for somebody may have taken it away.
const AGAIN: Duration = Duration::from_secs(300);
/// How often keys are asked for, and how soon after a failure.
const KEYS: Duration = Duration::from_secs(300);
const KEYS_AGAIN: Duration = Duration::from_secs(10);
/// What another said so shortly before we came to write is said once more, in case that one did not come to it.
const PERHAPS_UNSAID: Duration = Duration::from_secs(60);
const MAX_UNSAID: usize = 64;
/// How soon after another a token of a cluster is written: who puts an old one back again and again is not answered each time.
const TOKENS: Duration = Duration::from_secs(60);

/// Starts what keeps it true.
pub(crate) fn keep(
    access: Access,
    reviewer: Arc<Reviewer>,
    reporter: Reporter,
    lead: Lead,
    replicas: Replicas,
    process: &Process,
) {
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
        let mut changes = lead.changes();
        let now = (reporter.now)();
        let mut keeping = Keeping {
            writer: Writer::new(access.clone(), lead.identity().to_owned()),
            access,
            reporter,
            lead,
            replicas,
            led: false,
            known: Known::default(),
            notices: Notices::new(now),
            followed: VecDeque::new(),
            tokens: BTreeMap::new(),
            complained: None,
        };
        loop {
            tokio::select! {
                () = &mut stop => return Ok::<(), Infallible>(()),
                _ = changes.changed() => {}
                () = tokio::time::sleep(ROUND) => {}
            }
            keeping.round().await;
        }
    });
}

/// What is written already, and when.
struct Written<T> {
    word: T,
    at: Timestamp,
}

/// What we wrote since we write.
#[derive(Default)]
struct Known {
    mesh: Option<Written<MeshWord>>,
    clusters: BTreeMap<ClusterId, Written<ClusterWord>>,
    roots: BTreeMap<Namespace, Written<String>>,
}

struct Keeping {
    access: Access,
    writer: Writer,
    reporter: Reporter,
    lead: Lead,
    replicas: Replicas,
    led: bool,
    known: Known,
    notices: Notices,
    /// What another replica should have said lately.
    followed: VecDeque<(Said, Timestamp)>,
    /// When the token of a cluster was last to be kept, and why it could not be.
    tokens: BTreeMap<ClusterId, (Timestamp, Option<String>)>,
    complained: Option<String>,
}

/// A write that was not done: the API server's word, or our time was over.
type Done = Result<(), Failure>;

impl Keeping {
    async fn round(&mut self) {
        let snapshot = self.reporter.kept.snapshots.borrow().clone();
        let others = self.replicas.others();
        let status = self.reporter.status().await.with(&others);
        let now = (self.reporter.now)();
        let lent = self.reporter.kept.health.borrow().credentials.clone();
        let mut troubles = troubles(&self.reporter.mesh, &status, &snapshot, &lent, now);
        troubles.extend(self.tokens.iter().filter_map(|(cluster, (_, unkept))| {
            let ends = lent.get(cluster)?.ends?;
            Some(troubles::unkept(cluster, ends, unkept.as_deref()?))
        }));
        let said = self.notices.step(troubles, now);
        if !self.lead.leads() {
            self.led = false;
            self.tokens.clear();
            self.followed
                .extend(said.into_iter().map(|said| (said, now)));
            while self.followed.len() > MAX_UNSAID
                || (self.followed.front()).is_some_and(|(_, at)| now.since(*at) > PERHAPS_UNSAID)
            {
                self.followed.pop_front();
            }
            return;
        }
        if !std::mem::replace(&mut self.led, true) {
            // whatever we knew, another may have written since
            self.known = Known::default();
            self.writer.forget();
        }
        let mut failure = None;
        if let Err(error) = self.statuses(&snapshot, &status, &others).await {
            failure = Some(error.about("the status of Mesh and Cluster"));
        }
        if let Err(error) = self.roots(&snapshot).await {
            failure = Some(error.about("the ConfigMaps of roots"));
        }
        if let Err(error) = self.tokens(&lent).await {
            failure = Some(error.about("a renewed token"));
        }
        let before = std::mem::take(&mut self.followed).into_iter();
        if let Err(error) = self.say(before.map(|(said, _)| said).chain(said)).await {
            failure = Some(error.about("events"));
        }
        if failure != self.complained {
            if let Some(failure) = &failure {
                tracing::warn!("not written into our own cluster: {failure}; it is tried again");
            }
            self.complained = failure;
        }
    }

    /// The roots, in our own namespace and in each that may have sidecars: a pod may ask for one by itself.
    async fn roots(&mut self, snapshot: &Snapshot) -> Done {
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
        self.known
            .roots
            .retain(|namespace, _| all.contains(namespace));
        let mut failed = Ok(());
        for namespace in all {
            let now = (self.reporter.now)();
            if fresh(self.known.roots.get(&namespace), &pem, now) {
                continue;
            }
            let put = self.writer.put_roots(&namespace, &pem);
            match self.lead.write(put).await {
                None => break,
                Some(Ok(())) => {
                    let written = Written {
                        word: pem.clone(),
                        at: now,
                    };
                    self.known.roots.insert(namespace, written);
                }
                // one namespace that goes away keeps no other waiting; an API server that does not answer does
                Some(Err(failure @ (Failure::Forbidden { .. } | Failure::Unexpected { .. }))) => {
                    failed = failed.and(Err(failure));
                }
                Some(Err(failure)) => return Err(failure),
            }
        }
        failed
    }

    /// Renewed tokens, where a control plane that starts later finds them.
    async fn tokens(&mut self, lent: &BTreeMap<ClusterId, Lent>) -> Done {
        self.tokens.retain(|cluster, _| lent.contains_key(cluster));
        let mut failed = Ok(());
        for (cluster, lent) in lent {
            let (Some(place), Some(Renewed { from, to })) = (&lent.place, &lent.renewed) else {
                if let Some((_, unkept)) = self.tokens.get_mut(cluster) {
                    *unkept = None;
                }
                continue;
            };
            let now = (self.reporter.now)();
            let last = self.tokens.get(cluster);
            if last.is_some_and(|(at, _)| now.since(*at) < TOKENS) {
                continue;
            }
            let mesh = self.reporter.mesh.clone();
            let keep = (self.writer).keep_token(&mesh, cluster, place, from, &to.token);
            let Some(kept) = self.lead.write(keep).await else {
                break;
            };
            let unkept = match &kept {
                Ok(true) => {
                    tracing::info!(%cluster, secret = %place, "the renewed token is kept");
                    None
                }
                Ok(false) => None,
                Err(failure) => Some(failure.about(&format!("the Secret {place}"))),
            };
            self.tokens.insert(cluster.clone(), (now, unkept));
            failed = failed.and(kept.map(drop));
        }
        failed
    }

    async fn statuses(
        &mut self,
        snapshot: &Snapshot,
        status: &Status,
        others: &BTreeMap<String, Beat>,
    ) -> Done {
        let versions = versions(&self.reporter.version, others);
        let mesh = snapshot.mesh.as_ref();
        let wanted = mesh.and_then(|mesh| mesh.version.as_ref());
        let on_the_way = on_the_way(wanted.unwrap_or(&self.reporter.version), &versions);
        let now = (self.reporter.now)();
        let (lead, mesh) = (self.lead.clone(), self.reporter.mesh.clone());
        let worst = status
            .problems
            .iter()
            .find(|problem| problem.severity == "error");
        let (phase, reason, because) = match (status.state, worst, on_the_way) {
            // One that starts among others is no new instance.
            (State::Creating, _, Some(how)) => (Phase::Updating, None, how),
            (State::Creating, _, None) => (Phase::Pending, None, status.because.join("; ")),
            (_, Some(problem), _) => (
                Phase::Degraded,
                reason(problem),
                format!("{}: {}", problem.object, problem.message),
            ),
            (_, None, Some(how)) => (Phase::Updating, None, how),
            (State::Updating, None, None) => (Phase::Ready, None, status.because.join("; ")),
            (State::Running, None, None) => {
                (Phase::Ready, None, "all is told and taken".to_owned())
            }
        };
        let stood = match &self.known.mesh {
            Some(known) => Some(known.word.standing.clone()),
            None => match lead.write(self.writer.mesh_stood(&mesh)).await {
                None => return Ok(()),
                Some(Err(Failure::Absent)) => None,
                Some(stood) => stood?,
            },
        };
        let endpoints = snapshot.clusters.values().map(|view| view.endpoints).sum();
        let own_version = self.reporter.version.clone();
        let own_proxies = status.proxies.connected - proxies(others);
        let of_others = others.iter().map(|(name, beat)| {
            let version = beat.version().unwrap_or_else(|| own_version.clone());
            (name.clone(), (version, beat.proxies as usize))
        });
        let mut replicas: BTreeMap<String, (Version, usize)> = of_others.collect();
        let own = (own_version.clone(), own_proxies);
        replicas.insert(self.replicas.own().to_owned(), own);
        let word = MeshWord {
            standing: standing(stood.as_ref(), phase, reason, because, now),
            versions: versions.into_iter().collect(),
            counts: [snapshot.clusters.len(), snapshot.services.len(), endpoints],
            replicas,
        };
        if !fresh(self.known.mesh.as_ref(), &word, now) {
            let put = self.writer.put_mesh_status(&mesh, &word);
            let Some(put) = lead.write(put).await else {
                return Ok(());
            };
            ignore_absent(put)?;
            self.known.mesh = Some(Written { word, at: now });
        }
        self.clusters(snapshot, status).await
    }

    async fn clusters(&mut self, snapshot: &Snapshot, status: &Status) -> Done {
        let lead = self.lead.clone();
        let health = self.reporter.kept.health.borrow().clone();
        self.known
            .clusters
            .retain(|cluster, _| snapshot.clusters.contains_key(cluster));
        for (cluster, view) in &snapshot.clusters {
            let now = (self.reporter.now)();
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
            let (phase, why, because) = match (&view.freshness, worst) {
                (_, Some(problem)) => (Phase::Degraded, reason(problem), problem.message.clone()),
                (Freshness::Fresh, None) if apart.is_some() => {
                    (Phase::Degraded, None, apart.unwrap_or_default())
                }
                (Freshness::Unknown, None) => (
                    Phase::Pending,
                    None,
                    "its first list is not complete".into(),
                ),
                (Freshness::Fresh, None) => (Phase::Ready, None, "its facts are fresh".into()),
                (Freshness::Stale { reason, .. }, None) => {
                    (Phase::Degraded, Some(troubles::DISCOVERY.0), reason.clone())
                }
            };
            let stood = match self.known.clusters.get(cluster) {
                Some(known) => Some(known.word.standing.clone()),
                None => match lead.write(self.writer.cluster_stood(cluster)).await {
                    None => return Ok(()),
                    Some(Err(Failure::Absent)) => None,
                    Some(stood) => stood?,
                },
            };
            let known = self.known.clusters.get(cluster);
            let word = ClusterWord {
                standing: standing(stood.as_ref(), phase, why, because, now),
                freshness: view.freshness.clone(),
                revision: view.revision.0,
                counts: [view.services, view.endpoints],
                credential: health.credentials.get(cluster).and_then(|lent| lent.ends),
                uid: health.uids.get(cluster).cloned(),
                managed_by,
            };
            // revisions alone are not worth a write each
            let revision = known.map_or(word.revision, |known| known.word.revision);
            let unrevised = ClusterWord {
                revision,
                ..word.clone()
            };
            if !fresh(known, &unrevised, now) {
                let put = self.writer.put_cluster_status(cluster, &word);
                let Some(put) = lead.write(put).await else {
                    return Ok(());
                };
                ignore_absent(put)?;
                self.known
                    .clusters
                    .insert(cluster.clone(), Written { word, at: now });
            }
        }
        Ok(())
    }

    async fn say(&mut self, all: impl Iterator<Item = Said>) -> Done {
        let mesh = self.reporter.mesh.clone();
        let mut failed = Ok(());
        for said in all {
            let mut told = said.clone();
            let cluster = match &said.about {
                About::Cluster(cluster) => self.writer.cluster(cluster),
                About::Mesh(_) => None,
            };
            let object = match (&said.about, cluster) {
                (_, Some(cluster)) => Some(cluster),
                // a cluster of an Istio remote secret has no object of its own
                (About::Cluster(cluster), None) => {
                    told.note = format!("{cluster}: {}", said.note);
                    told.about = About::Mesh(mesh.clone());
                    self.writer.mesh(&mesh)
                }
                (About::Mesh(_), None) => self.writer.mesh(&mesh),
            };
            let Some(object) = object else {
                self.notices.unsaid(&said);
                continue;
            };
            let now = (self.reporter.now)();
            let put = events::put(&self.access, object, &told, self.replicas.own(), now);
            match self.lead.write(put).await {
                Some(Ok(())) => {}
                Some(Err(failure)) => {
                    self.notices.unsaid(&said);
                    failed = Err(failure);
                }
                None => self.notices.unsaid(&said),
            }
        }
        failed
    }
}

fn reason(problem: &ProblemStatus) -> Option<&'static str> {
    troubles::reason(&problem.kind).map(|(reason, _)| reason)
}

fn proxies(others: &BTreeMap<String, Beat>) -> usize {
    others.values().map(|beat| beat.proxies as usize).sum()
}

/// What the control planes of this instance run, ours among them: those that serve, for one that never comes up runs nothing.
fn versions(ours: &Version, others: &BTreeMap<String, Beat>) -> BTreeSet<Version> {
    let serve = others.values().filter(|beat| beat.ready);
    let run = serve.filter_map(Beat::version);
    [ours.clone()].into_iter().chain(run).collect()
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
fn standing(
    before: Option<&Standing>,
    phase: Phase,
    reason: Option<&'static str>,
    because: String,
    now: Timestamp,
) -> Standing {
    let since = before.filter(|before| before.phase == phase);
    Standing {
        phase,
        reason,
        because,
        since: since.map_or(now, |before| before.since),
    }
}

fn fresh<T: PartialEq>(known: Option<&Written<T>>, word: &T, now: Timestamp) -> bool {
    known.is_some_and(|known| known.word == *word && now.since(known.at) < AGAIN)
}

/// An object that is not there has no status.
fn ignore_absent(result: Done) -> Done {
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

    #[test]
    fn what_runs_is_what_those_that_serve_say() {
        let beat = |version: &str, ready| Beat {
            version: version.into(),
            ready,
            ..Beat::default()
        };
        let others: BTreeMap<String, Beat> = [
            ("two".to_owned(), beat("0.1.0", true)),
            ("starts".to_owned(), beat("0.9.0", false)),
            ("odd".to_owned(), beat("no version", true)),
        ]
        .into();
        let run = versions(&Version::new("0.2.0").unwrap(), &others);
        assert_eq!(
            run,
            ["0.1.0", "0.2.0"].map(|v| Version::new(v).unwrap()).into()
        );
    }
}
