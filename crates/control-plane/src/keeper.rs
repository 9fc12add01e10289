//! The one owner of the registry: takes changes, publishes snapshots, starts and stops watches, and saves what is known.
//!
//! There is no timer between a change and its snapshot: whatever has come while the last snapshot was made is taken
//! together (group commit).

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use catamaran_model::{ClusterId, Credential, MemberMode, Timestamp};
use catamaran_process::Process;
use catamaran_registry::{
    Applied, Change, Fact, FactKey, Freshness, Observed, Problem, ProblemKind, Registry, Severity,
    Snapshot, WatchGeneration,
};
use prometheus_client::metrics::counter::Counter;
use tokio::sync::{mpsc, oneshot, watch};

use crate::saved;
use crate::watches::{Afar, Lent, Watches, Way};

/// Changes that wait; a watch that says more waits itself.
pub(crate) const CHANGES: usize = 1024;
/// Orders of people that wait.
const ORDERS: usize = 16;
/// Facts of a cluster that wait to be added to its journal; with more, all of them are written anew.
const NEWS: usize = 4096;
/// A journal that is longer than this, and than what it goes on from, gives way to a file with everything.
const JOURNAL: u64 = 64 << 10;
/// How often shards that changed are saved, and held lists and ended watches are looked at.
const ROUND: Duration = Duration::from_secs(1);

/// What people ask of the keeper.
pub(crate) enum Order {
    /// What a held list lacks is gone indeed.
    Confirm(ClusterId, oneshot::Sender<Applied>),
}

/// What only the keeper knows, for people.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Health {
    /// Of manifests, of watches, of the disk.
    pub(crate) problems: Vec<Problem>,
    /// The UIDs of clusters, when their API servers have said them.
    pub(crate) uids: BTreeMap<ClusterId, String>,
    /// How the credentials for other clusters are.
    pub(crate) credentials: BTreeMap<ClusterId, Lent>,
}

/// How others reach the keeper.
#[derive(Clone)]
pub(crate) struct Kept {
    pub(crate) snapshots: watch::Receiver<Arc<Snapshot>>,
    pub(crate) health: watch::Receiver<Health>,
    /// The ways to clusters that are managed beside the own one.
    pub(crate) afar: watch::Receiver<Afar>,
    pub(crate) orders: mpsc::Sender<Order>,
}

/// What the keeper is given.
pub(crate) struct Settings {
    pub(crate) registry: Registry,
    pub(crate) local: ClusterId,
    pub(crate) watches: Watches,
    pub(crate) changes: mpsc::Receiver<Change>,
    pub(crate) state: PathBuf,
}

struct Keeper {
    registry: Registry,
    local: ClusterId,
    watches: Watches,
    state: PathBuf,
    snapshots: watch::Sender<Arc<Snapshot>>,
    health: watch::Sender<Health>,
    afar: watch::Sender<Afar>,
    shards: BTreeMap<ClusterId, Shard>,
    saves: mpsc::Sender<Save>,
    metrics: Metrics,
}

/// How far a cluster's shard is saved.
#[derive(Default)]
struct Shard {
    saved: u64,
    saving: bool,
    failure: Option<Failure>,
    /// The file with everything, and the bytes that were added to its journal.
    base: Option<(saved::Base, u64)>,
    /// A file with everything has to be written: more changed than single facts.
    anew: bool,
    /// What is another one since, `None` for what is gone.
    news: BTreeMap<FactKey, Option<Fact>>,
}

impl Shard {
    /// A fact that is another one, or more than can be said so.
    fn note(&mut self, news: Option<(FactKey, Option<Fact>)>) {
        match news {
            Some((key, fact)) if !self.anew => {
                self.news.insert(key, fact);
                self.anew = self.news.len() > NEWS;
            }
            _ => self.anew = true,
        }
        if self.anew {
            self.news.clear();
        }
    }
}

/// What the disk did not do.
enum Failure {
    Loading(String),
    Saving(String),
}

/// What became of saving a shard.
struct Save {
    cluster: ClusterId,
    edits: u64,
    result: Result<(saved::Base, u64), saved::SavedError>,
}

struct Metrics {
    changes: Counter,
    merged: Counter,
    snapshots: Counter,
    save_failures: Counter,
}

/// Loads what was saved, starts the watch of the managed cluster, and keeps from then on.
pub(crate) fn start(settings: Settings, process: &Process, now: fn() -> Timestamp) -> Kept {
    let (orders, orders_in) = mpsc::channel(ORDERS);
    let (saves, saves_in) = mpsc::channel(ORDERS);
    let metrics = process.metrics();
    let mut keeper = Keeper {
        registry: settings.registry,
        local: settings.local,
        watches: settings.watches,
        state: settings.state,
        snapshots: watch::Sender::new(Arc::new(Snapshot::empty())),
        health: watch::Sender::default(),
        afar: watch::Sender::default(),
        shards: BTreeMap::new(),
        saves,
        metrics: Metrics {
            changes: metrics.counter("catamaran_changes", "Facts that watches said"),
            merged: metrics.counter(
                "catamaran_services_merged",
                "Services that were merged over all clusters",
            ),
            snapshots: metrics
                .counter("catamaran_snapshots", "Pictures of the mesh that were made"),
            save_failures: metrics
                .counter("catamaran_save_failures", "Shards that could not be saved"),
        },
    };
    let work = keeper.watches.work();
    metrics.add_source(move |text| {
        for (name, count) in [
            ("catamaran_files_named", &work.named),
            ("catamaran_files_scanned", &work.scanned),
            ("catamaran_facts_made", &work.made),
        ] {
            let count = count.load(Ordering::Relaxed);
            text.push_str(&format!("# TYPE {name} counter\n{name}_total {count}\n"));
        }
    });
    let kept = Kept {
        snapshots: keeper.snapshots.subscribe(),
        health: keeper.health.subscribe(),
        afar: keeper.afar.subscribe(),
        orders,
    };
    keeper.load(now());
    let local = keeper.local.clone();
    keeper.watches.ensure(&local, &Way::Own);
    keeper.publish(now());
    let stopping = process.stopping();
    process.run("keeper", async move {
        keeper
            .keep(settings.changes, orders_in, saves_in, now, stopping.wait())
            .await;
        Ok::<(), Infallible>(())
    });
    kept
}

impl Keeper {
    fn load(&mut self, now: Timestamp) {
        let clusters = saved::clusters(&self.state).unwrap_or_else(|error| {
            tracing::warn!(folder = %self.state.display(), "saved shards cannot be listed: {error}");
            Vec::new()
        });
        for cluster in clusters {
            match saved::read(&self.state, &cluster) {
                Ok(shard) => {
                    tracing::info!(%cluster, facts = shard.facts.len(), "loaded what was known");
                    let _ = self.registry.restore(cluster, shard, now);
                }
                Err(error) => {
                    tracing::warn!(%cluster, "{error}");
                    self.shard(&cluster).failure = Some(Failure::Loading(error.to_string()));
                }
            }
        }
    }

    async fn keep(
        &mut self,
        mut changes: mpsc::Receiver<Change>,
        mut orders: mpsc::Receiver<Order>,
        mut saves: mpsc::Receiver<Save>,
        now: fn() -> Timestamp,
        stop: impl Future<Output = ()>,
    ) {
        let mut rounds = tokio::time::interval(ROUND);
        rounds.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut batch = Vec::with_capacity(CHANGES);
        tokio::pin!(stop);
        loop {
            tokio::select! {
                () = &mut stop => break,
                _ = changes.recv_many(&mut batch, CHANGES) => {
                    for change in batch.drain(..) {
                        self.take(change, now());
                    }
                    self.publish(now());
                }
                Some(order) = orders.recv() => {
                    match order {
                        Order::Confirm(cluster, reply) => {
                            self.shard(&cluster).note(None);
                            let watch = WatchGeneration::default();
                            let change = Change { cluster, watch, what: Observed::Confirmed };
                            // The one who asked may be gone.
                            let _ = reply.send(self.registry.apply(change, now()));
                        }
                    }
                    self.publish(now());
                }
                Some(save) = saves.recv() => self.saved(save),
                _ = rounds.tick() => self.round(now()),
            }
        }
        self.save_all();
    }

    fn take(&mut self, change: Change, now: Timestamp) {
        self.metrics.changes.inc();
        let (cluster, generation) = (change.cluster.clone(), change.watch);
        let listed = matches!(change.what, Observed::Listed(_));
        let news = match &change.what {
            Observed::Upsert(fact) => Some((fact.key(), Some(fact.clone()))),
            Observed::Delete(key) => Some((key.clone(), None)),
            _ => None,
        };
        let edits = self.registry.shard_edits(&cluster);
        // While a list is held what is to be saved is more than what was said.
        let news = news.filter(|_| !self.registry.holds(&cluster));
        if let Observed::Lost(reason) = &change.what {
            tracing::warn!(%cluster, "discovery lost: {reason}");
        }
        match self.registry.apply(change, now) {
            Applied::Ignored(why) => tracing::debug!(%cluster, "a change was ignored: {why}"),
            applied if listed => {
                if let Applied::Held { .. } = applied {
                    tracing::warn!(%cluster, "a list lacks so much that what it lacks is held");
                }
                self.watches.took_over(&cluster, generation);
            }
            _ => {}
        }
        if self.registry.shard_edits(&cluster) != edits {
            self.shard(&cluster).note(news);
        }
    }

    /// Makes the snapshot of now, starts and stops watches by it, and hands it out when it is new.
    fn publish(&mut self, now: Timestamp) {
        let merged = self.registry.merged();
        let mut snapshot = self.registry.snapshot();
        while self.follow_members(&snapshot, now) {
            snapshot = self.registry.snapshot();
        }
        self.metrics.merged.inc_by(self.registry.merged() - merged);
        let number = snapshot.number;
        let new = self.snapshots.send_if_modified(|known| {
            let new = known.number != number;
            if new {
                *known = snapshot;
            }
            new
        });
        if new {
            self.metrics.snapshots.inc();
            self.tell_health();
        }
    }

    /// Says whether a cluster was removed, so that there is another snapshot to make.
    fn follow_members(&mut self, snapshot: &Snapshot, now: Timestamp) -> bool {
        let members = self.registry.members();
        let wanted: BTreeMap<ClusterId, Way> = members
            .values()
            .filter(|member| member.cluster != self.local)
            .filter_map(|member| Some((member.cluster.clone(), self.watches.way_to(member).ok()?)))
            .collect();
        let known = members.keys().chain([&self.local]);
        let known: Vec<ClusterId> = known.cloned().collect();
        for (cluster, way) in &wanted {
            if self.watches.ensure(cluster, way) {
                tracing::info!(%cluster, "discovery starts");
            }
        }
        // Only a complete list of our own cluster says that a member is not there.
        let sure = snapshot
            .clusters
            .get(&self.local)
            .is_some_and(|view| view.freshness == Freshness::Fresh);
        if !sure {
            return false;
        }
        let watched = self.watches.clusters().chain(self.registry.clusters());
        let gone: Vec<ClusterId> = watched
            .filter(|cluster| !known.contains(cluster))
            .cloned()
            .collect();
        for cluster in &gone {
            tracing::info!(%cluster, "removed from the instance");
            let watch = self.watches.stop(cluster);
            let change = Change {
                cluster: cluster.clone(),
                watch,
                what: Observed::Removed,
            };
            let _ = self.registry.apply(change, now);
            self.shards.remove(cluster);
            saved::remove(&self.state, cluster);
        }
        !gone.is_empty()
    }

    fn round(&mut self, now: Timestamp) {
        let wanting: Vec<ClusterId> = self.registry.wants_list(now).cloned().collect();
        for cluster in wanting {
            self.watches.list_again(&cluster);
        }
        for (cluster, way, watch) in self.watches.ended() {
            let reason = "the watch ended by itself, and starts again".to_owned();
            let change = Change {
                cluster: cluster.clone(),
                watch,
                what: Observed::Lost(reason),
            };
            let _ = self.registry.apply(change, now);
            self.watches.ensure(&cluster, &way);
        }
        self.publish(now);
        self.save();
        self.tell_health();
    }

    fn shard(&mut self, cluster: &ClusterId) -> &mut Shard {
        self.shards.entry(cluster.clone()).or_default()
    }

    fn unsaved(&self) -> Vec<(ClusterId, u64)> {
        let clusters = self.registry.clusters();
        let edits =
            clusters.filter_map(|cluster| Some((cluster, self.registry.shard_edits(cluster)?)));
        edits
            .filter(|(cluster, edits)| {
                let shard = self.shards.get(*cluster);
                shard.map_or(*edits > 0, |shard| shard.saved < *edits && !shard.saving)
            })
            .map(|(cluster, edits)| (cluster.clone(), edits))
            .collect()
    }

    fn save(&mut self) {
        for (cluster, edits) in self.unsaved() {
            let shard = self.shards.entry(cluster.clone()).or_default();
            let news = std::mem::take(&mut shard.news);
            let (state, saves) = (self.state.clone(), self.saves.clone());
            let base = shard.base.take().filter(|_| !shard.anew);
            let work: Box<dyn FnOnce(&ClusterId) -> Result<_, _> + Send> = match base {
                Some((base, journal)) if journal <= base.bytes.max(JOURNAL) => {
                    Box::new(move |cluster| {
                        let added = saved::add(&state, cluster, &base, journal == 0, &news)?;
                        Ok((base, journal + added))
                    })
                }
                _ => {
                    let Some(facts) = self.registry.shard_facts(&cluster) else {
                        continue;
                    };
                    Box::new(move |cluster| Ok((saved::write(&state, cluster, &facts)?, 0)))
                }
            };
            shard.anew = false;
            shard.saving = true;
            tokio::task::spawn_blocking(move || {
                let result = work(&cluster);
                // The keeper is gone only when the process stops.
                let _ = saves.blocking_send(Save {
                    cluster,
                    edits,
                    result,
                });
            });
        }
    }

    fn saved(&mut self, save: Save) {
        // A cluster that was removed meanwhile must not come back from the disk.
        if !self
            .registry
            .clusters()
            .any(|cluster| *cluster == save.cluster)
        {
            self.shards.remove(&save.cluster);
            return saved::remove(&self.state, &save.cluster);
        }
        let failed = save.result.is_err();
        let shard = self.shard(&save.cluster);
        shard.saving = false;
        match save.result {
            Ok(base) => {
                shard.saved = save.edits;
                shard.failure = None;
                shard.base = Some(base);
            }
            // Without a base all is written anew the next time.
            Err(error) => {
                if !matches!(shard.failure, Some(Failure::Saving(_))) {
                    tracing::warn!("{error}");
                }
                shard.failure = Some(Failure::Saving(error.to_string()));
            }
        }
        if failed {
            self.metrics.save_failures.inc();
        }
    }

    /// The last act of the process.
    fn save_all(&mut self) {
        for (cluster, _) in self.unsaved() {
            let Some(facts) = self.registry.shard_facts(&cluster) else {
                continue;
            };
            if let Err(error) = saved::write(&self.state, &cluster, &facts) {
                tracing::warn!("{error}");
            }
        }
    }

    fn tell_health(&mut self) {
        let mut problems = self.watches.problems();
        let watched = self.watches.clusters();
        let mut credentials: BTreeMap<ClusterId, Lent> = watched
            .filter_map(|cluster| Some((cluster.clone(), self.watches.lent(cluster)?)))
            .collect();
        for member in self.registry.members().values() {
            if let (Some(lent), Credential::Secret(place)) =
                (credentials.get_mut(&member.cluster), &member.credential)
            {
                lent.place = Some(place.clone());
            }
            if let Err(reason) = self.watches.way_to(member) {
                let lent = credentials.entry(member.cluster.clone()).or_default();
                lent.refused = Some(reason.clone());
                problems.push(Problem {
                    severity: Severity::Error,
                    kind: ProblemKind::BadObject,
                    cluster: Some(member.cluster.clone()),
                    object: format!("Cluster {}", member.cluster),
                    message: format!("its services are not discovered: {reason}"),
                });
            }
            if member.cluster != self.local
                && member.mode == MemberMode::Managed
                && self.watches.in_fleet()
            {
                problems.push(Problem {
                    severity: Severity::Warning,
                    kind: ProblemKind::BadObject,
                    cluster: Some(member.cluster.clone()),
                    object: format!("Cluster {}", member.cluster),
                    message: format!(
                        "in a local fleet an instance manages one cluster, {}: this one is only discovered; say \
                         --discovery-only, or create an instance for it",
                        self.local
                    ),
                });
            }
        }
        for (cluster, shard) in &self.shards {
            let message = match &shard.failure {
                None => continue,
                Some(Failure::Loading(failure)) => {
                    format!("what was saved of {cluster} is not used: {failure}")
                }
                Some(Failure::Saving(failure)) => format!(
                    "what is known of {cluster} cannot be kept on disk: {failure}; serving goes on, but a restart \
                     while {cluster} cannot be reached would not know it; make room, or repair the folder"
                ),
            };
            problems.push(Problem {
                severity: Severity::Warning,
                kind: ProblemKind::Limit,
                cluster: Some(cluster.clone()),
                object: format!("Cluster {cluster}"),
                message,
            });
        }
        problems.sort();
        let watched = self.watches.clusters();
        let uids =
            watched.filter_map(|cluster| Some((cluster.clone(), self.watches.uid(cluster)?)));
        let health = Health {
            uids: uids.collect(),
            credentials,
            problems,
        };
        let afar = self.watches.afar();
        self.afar.send_if_modified(|known| {
            let new = *known != afar;
            *known = afar;
            new
        });
        self.health.send_if_modified(|known| {
            let new = *known != health;
            *known = health;
            new
        });
    }
}
