//! The clusters that an instance manages beside the one it runs in: what it keeps true in each of them.
//!
//! Each cluster is one task, which ends with its way. What hangs there hangs that task alone: nothing of another cluster, and no
//! readiness, waits for it. What cannot be written is written later, and said meanwhile. Every replica knows keys and nodes, for all of
//! them sign and answer; only the one that leads writes.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use catamaran_kubernetes::connect::Access;
use catamaran_kubernetes::failure::Failure;
use catamaran_kubernetes::inject::{SYSTEM_NAMESPACES, TOKEN_AUDIENCE};
use catamaran_kubernetes::review::Reviewer;
use catamaran_kubernetes::webhook::configuration::{self, Door};
use catamaran_kubernetes::webhook::nodes;
use catamaran_kubernetes::write::Writer;
use catamaran_model::{ClusterId, MeshExport, MeshName, Namespace, SpiffeId, Timestamp, Version};
use catamaran_process::Process;
use catamaran_registry::{Problem, ProblemKind, Severity, Snapshot, WatchGeneration};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::lead::Lead;
use crate::replicas::Replicas;
use crate::serving::Authority;
use crate::watches::Afar;
use crate::webhook::Hooks;

/// How often what is written there is looked at.
const ROUND: Duration = Duration::from_secs(2);
/// How often it is written again though it did not change, for somebody may have taken it away.
const AGAIN: Duration = Duration::from_secs(300);
const HOOK_AGAIN: Duration = Duration::from_secs(120);
/// How often keys and nodes are asked for, and how soon after a failure.
const ASK: Duration = Duration::from_secs(300);
const ASK_AGAIN: Duration = Duration::from_secs(10);

/// Who checks tokens, by cluster: a token counts in the cluster that is claimed, and in no other.
#[derive(Debug)]
pub(crate) struct Reviewers {
    own: Arc<Reviewer>,
    /// Clusters that are managed from here.
    afar: ArcSwap<BTreeMap<ClusterId, Arc<Reviewer>>>,
}

impl Reviewers {
    pub(crate) fn new(own: Arc<Reviewer>) -> Reviewers {
        Reviewers {
            own,
            afar: ArcSwap::default(),
        }
    }

    /// Of the instance's own cluster.
    pub(crate) fn own(&self) -> Arc<Reviewer> {
        self.own.clone()
    }

    /// Of another cluster, when it is managed from here.
    pub(crate) fn of(&self, cluster: &str) -> Option<Arc<Reviewer>> {
        let cluster = ClusterId::new(cluster).ok()?;
        self.afar.load().get(&cluster).cloned()
    }

    /// The names of the clusters that are managed from here.
    pub(crate) fn clusters(&self) -> Vec<ClusterId> {
        self.afar.load().keys().cloned().collect()
    }

    fn put(&self, cluster: &ClusterId, reviewer: &Arc<Reviewer>) {
        self.afar.rcu(|known| {
            let mut next = (**known).clone();
            next.insert(cluster.clone(), reviewer.clone());
            next
        });
    }

    fn keep(&self, clusters: &Afar) {
        if self
            .afar
            .load()
            .keys()
            .all(|cluster| clusters.contains_key(cluster))
        {
            return;
        }
        self.afar.rcu(|known| {
            let mut next = (**known).clone();
            next.retain(|cluster, _| clusters.contains_key(cluster));
            next
        });
    }
}

/// What is not as it should be there, by cluster.
pub(crate) type Complaints = Arc<Mutex<BTreeMap<ClusterId, String>>>;

/// The complaints, as people read them.
pub(crate) fn problems(complaints: &Complaints) -> Vec<Problem> {
    let complaints = complaints.lock().unwrap_or_else(PoisonError::into_inner);
    let told = complaints.iter().map(|(cluster, complaint)| Problem {
        severity: Severity::Warning,
        kind: ProblemKind::DiscoveryLost,
        cluster: Some(cluster.clone()),
        object: format!("Cluster {cluster}"),
        message: format!(
            "not written there: {complaint}; what stands there stays in use, and it is tried again"
        ),
    });
    told.collect()
}

/// What the tasks share.
#[derive(Clone)]
pub(crate) struct Managing {
    pub(crate) mesh: MeshName,
    pub(crate) version: Version,
    pub(crate) authority: Arc<Authority>,
    pub(crate) snapshots: watch::Receiver<Arc<Snapshot>>,
    pub(crate) afar: watch::Receiver<Afar>,
    pub(crate) reviewers: Arc<Reviewers>,
    pub(crate) lead: Lead,
    pub(crate) replicas: Replicas,
    /// The webhook, when this instance adds sidecars.
    pub(crate) hooks: Option<Hooks>,
    pub(crate) complaints: Complaints,
    pub(crate) now: fn() -> Timestamp,
}

struct Running {
    generation: WatchGeneration,
    task: JoinHandle<()>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Starts what keeps it true, in whatever clusters are managed.
pub(crate) fn keep(managing: Managing, process: &Process) {
    let stopping = process.stopping();
    let mut afar = managing.afar.clone();
    process.run("managed clusters", async move {
        let stop = stopping.wait();
        tokio::pin!(stop);
        let mut running: BTreeMap<ClusterId, Running> = BTreeMap::new();
        loop {
            let wanted = afar.borrow_and_update().clone();
            managing.follow(&wanted, &mut running);
            tokio::select! {
                () = &mut stop => return Ok::<(), Infallible>(()),
                changed = afar.changed() => {
                    // The keeper is gone only when the process stops.
                    if changed.is_err() {
                        stop.await;
                        return Ok(());
                    }
                }
            }
        }
    });
}

impl Managing {
    fn follow(&self, wanted: &Afar, running: &mut BTreeMap<ClusterId, Running>) {
        running.retain(|cluster, _| wanted.contains_key(cluster));
        self.reviewers.keep(wanted);
        let mut complaints = self
            .complaints
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        complaints.retain(|cluster, _| wanted.contains_key(cluster));
        drop(complaints);
        for (cluster, way) in wanted {
            let generation = way.generation;
            if running
                .get(cluster)
                .is_some_and(|task| task.generation == generation)
            {
                continue;
            }
            let hand = Hand {
                managing: self.clone(),
                cluster: cluster.clone(),
                access: way.access.clone(),
                writer: Writer::new(way.access.clone(), self.lead.identity().to_owned()),
                led: false,
                reviewer: Arc::new(Reviewer::new(
                    way.access.clone(),
                    [TOKEN_AUDIENCE.to_owned()],
                )),
                roots: BTreeMap::new(),
                export: None,
                hook: None,
                keys: Due::default(),
                nodes: Due::default(),
                complained: BTreeMap::new(),
            };
            let task = Running {
                generation,
                task: tokio::spawn(hand.keep()),
            };
            running.insert(cluster.clone(), task);
        }
    }
}

/// What is written already, and when.
struct Written<T> {
    word: T,
    at: Timestamp,
}

impl<T: PartialEq> Written<T> {
    fn is(known: Option<&Written<T>>, word: &T, now: Timestamp, again: Duration) -> bool {
        known.is_some_and(|known| known.word == *word && now.since(known.at) < again)
    }
}

/// When something is asked for again.
#[derive(Default)]
struct Due(Option<Timestamp>);

impl Due {
    fn now(&self, now: Timestamp) -> bool {
        self.0.is_none_or(|at| now >= at)
    }

    fn asked(&mut self, worked: bool, now: Timestamp) {
        self.0 = Some(now.after(if worked { ASK } else { ASK_AGAIN }));
    }
}

/// What is done in one cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Chore {
    Keys,
    Roots,
    Export,
    Hook,
    Nodes,
}

/// The hand in one cluster.
struct Hand {
    managing: Managing,
    cluster: ClusterId,
    access: Access,
    writer: Writer,
    led: bool,
    reviewer: Arc<Reviewer>,
    roots: BTreeMap<Namespace, Written<String>>,
    export: Option<Written<MeshExport>>,
    hook: Option<Written<String>>,
    keys: Due,
    nodes: Due,
    complained: BTreeMap<Chore, String>,
}

impl Hand {
    async fn keep(mut self) {
        tracing::info!(cluster = %self.cluster, "managed from here");
        // The first credential counts at once; a later one when it is known to lead somewhere.
        if self.managing.reviewers.of(self.cluster.as_str()).is_none() {
            self.managing.reviewers.put(&self.cluster, &self.reviewer);
        }
        let mut changes = self.managing.lead.changes();
        loop {
            let done = self.keys().await;
            self.note(Chore::Keys, "the keys of tokens", done);
            let done = self.nodes().await;
            self.note(Chore::Nodes, "nodes", done);
            self.write().await;
            // Who comes to lead has something to do.
            let _ = tokio::time::timeout(ROUND, changes.changed()).await;
        }
    }

    /// What only the one that leads does; to the others nothing of it is a matter of complaint.
    async fn write(&mut self) {
        let leads = self.managing.lead.leads();
        if leads && !self.led {
            // Whatever we knew, another may have written since.
            self.writer.forget();
            self.roots.clear();
            (self.export, self.hook) = (None, None);
        }
        self.led = leads;
        if leads {
            let done = self.roots().await;
            self.note(Chore::Roots, "the ConfigMaps of roots", done);
            let done = self.export().await;
            self.note(Chore::Export, "MeshExports", done);
            let done = self.hook().await;
            self.note(Chore::Hook, "MutatingWebhookConfigurations", done);
        } else {
            for chore in [Chore::Roots, Chore::Export, Chore::Hook] {
                self.note(chore, "", Ok(()));
            }
        }
    }

    fn note(&mut self, chore: Chore, what: &str, done: Result<(), Failure>) {
        let complaint = done.err().map(|failure| failure.about(what));
        if self.complained.get(&chore) == complaint.as_ref() {
            return;
        }
        match complaint {
            Some(complaint) => {
                tracing::warn!(cluster = %self.cluster, "{complaint}; it is tried again");
                self.complained.insert(chore, complaint);
            }
            None => drop(self.complained.remove(&chore)),
        }
        let all: BTreeSet<&str> = self.complained.values().map(String::as_str).collect();
        let all = all.into_iter().collect::<Vec<_>>().join("; ");
        let told = self.managing.complaints.lock();
        let mut told = told.unwrap_or_else(PoisonError::into_inner);
        match all.is_empty() {
            true => drop(told.remove(&self.cluster)),
            false => drop(told.insert(self.cluster.clone(), all)),
        }
    }

    async fn keys(&mut self) -> Result<(), Failure> {
        let now = (self.managing.now)();
        if !self.keys.now(now) {
            return Ok(());
        }
        let asked = self.reviewer.refresh().await;
        self.keys.asked(asked.is_ok(), now);
        if asked.is_ok() {
            self.managing.reviewers.put(&self.cluster, &self.reviewer);
        }
        asked
    }

    /// The roots, in our own namespace and in each that may have sidecars: a pod may ask for one by itself.
    async fn roots(&mut self) -> Result<(), Failure> {
        let snapshot = self.managing.snapshots.borrow().clone();
        let (Some(issuer), Some(view)) = (
            self.managing.authority.issuer(),
            snapshot.clusters.get(&self.cluster),
        ) else {
            return Ok(());
        };
        let pem = issuer.bundle().to_pem(issuer.trust_domain());
        let own = Namespace::new(SpiffeId::SYSTEM_NAMESPACE).ok();
        let system = |name: &Namespace| SYSTEM_NAMESPACES.contains(&name.as_str());
        let others = view.namespaces.keys().filter(|name| !system(name)).cloned();
        let all: BTreeSet<Namespace> = own.into_iter().chain(others).collect();
        self.roots.retain(|namespace, _| all.contains(namespace));
        let mut failed = Ok(());
        for namespace in all {
            let now = (self.managing.now)();
            if Written::is(self.roots.get(&namespace), &pem, now, AGAIN) {
                continue;
            }
            let put = self.writer.put_roots(&namespace, &pem);
            match self.managing.lead.write_afar(put).await {
                None => break,
                Some(Ok(())) => {
                    let word = pem.clone();
                    self.roots.insert(namespace, Written { word, at: now });
                }
                // A namespace that is going away takes nothing up; the others must not wait for it.
                Some(Err(
                    failure @ (Failure::Forbidden { .. }
                    | Failure::Absent
                    | Failure::Unexpected { .. }),
                )) => {
                    failed = Err(failure);
                }
                Some(Err(failure)) => return Err(failure),
            }
        }
        failed
    }

    /// Our word to other instances that discover this cluster: what stands in a cluster speaks of that cluster.
    async fn export(&mut self) -> Result<(), Failure> {
        let now = (self.managing.now)();
        let snapshot = self.managing.snapshots.borrow().clone();
        let uid = (self.managing.afar.borrow().get(&self.cluster)).and_then(|way| way.uid.clone());
        let Some(uid) = uid else {
            return Ok(());
        };
        let said = crate::status::export(
            &snapshot,
            &self.managing.authority,
            &self.cluster,
            &uid,
            &self.managing.version,
            now,
        );
        // The region is that of the instance; where this cluster stands its nodes say.
        let said = said.map(|said| MeshExport {
            region: None,
            ..crate::status::with_others(said, &self.managing.replicas)
        });
        let Some(said) = said.filter(|said| !Written::is(self.export.as_ref(), said, now, AGAIN))
        else {
            return Ok(());
        };
        let put = self.writer.put_export(&said);
        let Some(put) = self.managing.lead.write_afar(put).await else {
            return Ok(());
        };
        put?;
        self.export = Some(Written {
            word: said,
            at: now,
        });
        Ok(())
    }

    /// What makes the API server there ask us about new pods.
    async fn hook(&mut self) -> Result<(), Failure> {
        let now = (self.managing.now)();
        let bundle = self.managing.hooks.as_ref().and_then(Hooks::bundle);
        let Some(bundle) = bundle else {
            return Ok(());
        };
        if Written::is(self.hook.as_ref(), &bundle, now, HOOK_AGAIN) {
            return Ok(());
        }
        // A pod that is injected mounts the roots of its namespace, and waits for them.
        let mesh = &self.managing.mesh;
        let of = Some(&self.cluster);
        let put = configuration::put(&self.access, mesh, of, &Door::Service, &bundle);
        let Some(put) = self.managing.lead.write_afar(put).await else {
            return Ok(());
        };
        put?;
        self.hook = Some(Written {
            word: bundle,
            at: now,
        });
        Ok(())
    }

    async fn nodes(&mut self) -> Result<(), Failure> {
        let now = (self.managing.now)();
        let Some(hooks) = &self.managing.hooks else {
            return Ok(());
        };
        if !self.nodes.now(now) {
            return Ok(());
        }
        let known = nodes::know_sidecars(&self.access).await;
        self.nodes.asked(known.is_ok(), now);
        hooks.note_native(&self.cluster, known?);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
