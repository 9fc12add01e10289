//! The one owner of what is known, and how it becomes a snapshot.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use catamaran_model::{
    ClusterId, Credential, Fingerprint, GatewayAddress, Member, MemberMode, MeshExport, MeshName,
    NetworkId, ServiceKey, Timestamp, TlsMode,
};

use crate::facts::{OverLimit, Touched};
use crate::merge::Merge;
use crate::shard::Shard;
use crate::{
    Change, ClusterView, Fact, FactKey, Freshness, MergedService, Observed, Problem, ProblemKind,
    Revision, Services, Severity, Snapshot, WatchGeneration,
};

/// Removed clusters whose late changes are still known to be late.
const MAX_REMOVED: usize = 256;
/// Problems in a snapshot; a last one says that there are more.
const MAX_PROBLEMS: usize = 1_000;

/// What became of a change.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub enum Applied {
    /// The next snapshot differs.
    Changed,
    /// It said nothing new.
    Unchanged,
    /// It is part of a list that counts when it is complete.
    Listing,
    /// A complete list counts, but what it lacks stays until a second list, begun at `until` or later, lacks it too, or a
    /// person confirms.
    Held {
        /// When to begin the second list.
        until: Timestamp,
    },
    /// It had no effect.
    Ignored(Ignored),
}

/// Why a change had no effect.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Ignored {
    /// A newer watch has taken over.
    #[error("watch {} has taken over", owner.0)]
    OlderWatch {
        /// The newer one.
        owner: WatchGeneration,
    },
    /// The owner wanted to list again while its replacement lists.
    #[error("watch {} is about to take over and lists", by.0)]
    BeingReplaced {
        /// The replacement.
        by: WatchGeneration,
    },
    /// The watch has begun no list, or its list was broken off: it has to begin one.
    #[error("the watch has no list; it must begin one")]
    NotListed,
    /// A list older than what the same watch has shown (answered by a replica that lags behind).
    #[error("the list is older than revision {}, which is known", known.0)]
    OlderRevision {
        /// What is known.
        known: Revision,
    },
    /// Settings of another instance: they count only from the managed cluster.
    #[error("Mesh and Cluster objects count only from the managed cluster")]
    ManagedOnly,
    /// The cluster has more of something than one cluster may.
    #[error("the cluster has too many {0}")]
    Limit(&'static str),
    /// Too many lists are held already.
    #[error("too many lists are held; confirm them, or wait")]
    TooManyHeldLists,
    /// Nothing is known of the cluster, or it was removed.
    #[error("the cluster is not known here")]
    UnknownCluster,
}

/// A cluster's facts, as they are saved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SavedShard {
    /// The revision of the last complete list.
    pub revision: Revision,
    /// The objects that count, what held lists keep among them.
    pub facts: Vec<Fact>,
}

/// What we know of every cluster. It has one owner; readers get snapshots.
#[derive(Debug)]
pub struct Registry {
    local: ClusterId,
    mesh: Option<MeshName>,
    shards: BTreeMap<ClusterId, Shard>,
    removed: BTreeMap<ClusterId, WatchGeneration>,
    policy: Arc<catamaran_policy::Policy>,

    touched: Touched,
    latest: Arc<Snapshot>,
    services: Services,
    notes: BTreeMap<ServiceKey, Notes>,
    /// The services whose notes lead to problems, or may.
    noted: BTreeSet<ServiceKey>,
    /// How many services have endpoints of a cluster in a network.
    networks: BTreeMap<(ClusterId, NetworkId), usize>,
    members: BTreeMap<ClusterId, Member>,
    refused: BTreeMap<ClusterId, Problem>,
    merged: u64,
}

/// What a merge found out beside the service.
#[derive(Debug, Default, PartialEq)]
struct Notes {
    problems: Vec<Problem>,
    networks: BTreeSet<(ClusterId, NetworkId)>,
    plain: BTreeSet<(ClusterId, NetworkId)>,
}

impl Registry {
    /// Knows nothing yet; `local` is the cluster whose `Mesh` and `Cluster` objects are the instance's own.
    pub fn new(local: ClusterId) -> Registry {
        Registry {
            local,
            mesh: None,
            shards: BTreeMap::new(),
            removed: BTreeMap::new(),
            policy: Arc::default(),
            touched: Touched::default(),
            latest: Arc::new(Snapshot::empty()),
            services: Services::default(),
            notes: BTreeMap::new(),
            noted: BTreeSet::new(),
            networks: BTreeMap::new(),
            members: BTreeMap::new(),
            refused: BTreeMap::new(),
            merged: 0,
        }
    }

    /// Takes the settings of the instance of this name only, when the managed cluster has `Mesh` objects of several.
    pub fn for_mesh(mut self, mesh: MeshName) -> Registry {
        self.mesh = Some(mesh);
        self
    }

    /// Takes up one fact. The work is that of the fact; merging waits for [`Registry::snapshot`].
    pub fn apply(&mut self, change: Change, now: Timestamp) -> Applied {
        let Change {
            cluster,
            watch,
            what,
        } = change;
        if self
            .removed
            .get(&cluster)
            .is_some_and(|last| watch <= *last)
        {
            return Applied::Ignored(Ignored::UnknownCluster);
        }
        match what {
            Observed::Removed => return self.remove(&cluster, watch),
            Observed::Upsert(Fact::Mesh(_) | Fact::Member(_))
            | Observed::Delete(FactKey::Mesh(_) | FactKey::Member(_))
                if cluster != self.local =>
            {
                return Applied::Ignored(Ignored::ManagedOnly);
            }
            _ => {}
        }
        let begins = matches!(what, Observed::Relisting | Observed::Lost(_));
        if begins && !self.shards.contains_key(&cluster) {
            self.removed.remove(&cluster);
            self.shards.insert(cluster.clone(), Shard::unknown());
            self.touched.cluster = true;
        }
        let Some(shard) = self.shards.get_mut(&cluster) else {
            return Applied::Ignored(Ignored::UnknownCluster);
        };
        let mut touched = Touched::default();
        let applied = match what {
            Observed::Upsert(fact) => shard.upsert(watch, fact, &mut touched),
            Observed::Delete(key) => shard.delete(watch, &key, &mut touched),
            Observed::Relisting => shard.relisting(watch, now),
            Observed::Listed(revision) => shard.listed(watch, revision, now, &mut touched),
            Observed::Lost(reason) => shard.lost(watch, printable(&reason), now, &mut touched),
            Observed::Back => shard.back(watch, &mut touched),
            Observed::Confirmed => shard.confirmed(&mut touched),
            Observed::Removed => Applied::Unchanged,
        };
        self.touched.cluster |= touched.cluster;
        self.touched.services.append(&mut touched.services);
        applied
    }

    fn remove(&mut self, cluster: &ClusterId, watch: WatchGeneration) -> Applied {
        let Some(shard) = self.shards.remove(cluster) else {
            return Applied::Ignored(Ignored::UnknownCluster);
        };
        if self.removed.len() >= MAX_REMOVED
            && let Some((oldest, _)) = self.removed.iter().min_by_key(|(_, last)| **last)
        {
            let oldest = oldest.clone();
            self.removed.remove(&oldest);
        }
        let last = shard.newest_watch().unwrap_or_default().max(watch);
        self.removed.insert(cluster.clone(), last);
        self.touched.services.extend(shard.service_keys());
        self.touched.cluster = true;
        Applied::Changed
    }

    /// The clusters whose held list waits for a second one that may now begin.
    pub fn wants_list(&self, now: Timestamp) -> impl Iterator<Item = &ClusterId> {
        self.shards
            .iter()
            .filter(move |(_, shard)| shard.wants_list(now))
            .map(|(cluster, _)| cluster)
    }

    /// The facts of a cluster as they are to be saved; `None` when nothing complete is known of it.
    pub fn shard_facts(&self, cluster: &ClusterId) -> Option<SavedShard> {
        let shard = self.shards.get(cluster)?;
        (shard.freshness != Freshness::Unknown).then(|| SavedShard {
            revision: shard.revision,
            facts: shard.facts(),
        })
    }

    /// Whether a list of the cluster is held: then what counts is more than what its watch said last.
    pub fn holds(&self, cluster: &ClusterId) -> bool {
        let shard = self.shards.get(cluster);
        shard.is_some_and(|shard| shard.held_since().is_some())
    }

    /// Counts up whenever [`Registry::shard_facts`] of the cluster would differ.
    pub fn shard_edits(&self, cluster: &ClusterId) -> Option<u64> {
        self.shards.get(cluster).map(|shard| shard.edits)
    }

    /// The clusters of the instance, as of the last snapshot.
    pub fn members(&self) -> &BTreeMap<ClusterId, Member> {
        &self.members
    }

    /// The clusters of which something is known.
    pub fn clusters(&self) -> impl Iterator<Item = &ClusterId> {
        self.shards.keys()
    }

    /// Loads saved facts, as stale since `now`. What a watch has said already is not touched.
    pub fn restore(&mut self, cluster: ClusterId, saved: SavedShard, now: Timestamp) -> Applied {
        if self
            .shards
            .get(&cluster)
            .is_some_and(|shard| shard.newest_watch().is_some())
        {
            return Applied::Unchanged;
        }
        let of_ours = cluster == self.local;
        let counts = |fact: &Fact| of_ours || !matches!(fact, Fact::Mesh(_) | Fact::Member(_));
        let facts = saved.facts.into_iter().filter(counts).collect();
        let shard = Shard::saved(facts, saved.revision, now);
        self.touched.services.extend(shard.service_keys());
        self.touched.cluster = true;
        self.shards.insert(cluster, shard);
        Applied::Changed
    }

    /// The picture of now. When nothing changed it is the same one as before; else only the services that a change reached
    /// are merged again, and all else is shared with the picture before. What concerns whole clusters is worked out again only
    /// when something of a cluster changed that is no service.
    pub fn snapshot(&mut self) -> Arc<Snapshot> {
        if self.touched.is_empty() {
            return self.latest.clone();
        }
        let mut touched = std::mem::take(&mut self.touched);
        if touched.cluster {
            self.settle_clusters(&mut touched.services);
        }
        let mut noted = touched.cluster;
        for key in touched.services {
            noted |= self.merge_again(key);
        }
        // Their message has a number in it.
        noted |= self
            .shards
            .values()
            .any(|shard| shard.held_since().is_some());
        let before = &self.latest;
        let mut next = match touched.cluster {
            true => Snapshot {
                number: before.number,
                mesh: self.mesh_spec(before),
                services: Services::default(),
                clusters: self.views(),
                gateways: self.gateways(),
                issuers: self.issuers(),
                policy: self.policy.clone(),
                problems: before.problems.clone(),
            },
            false => {
                let mut next = (**before).clone();
                for (cluster, view) in &mut next.clusters {
                    if let Some(shard) = self.shards.get(cluster) {
                        (view.services, view.endpoints) = shard.counts();
                    }
                }
                next
            }
        };
        next.number += 1;
        next.services = self.services.clone();
        if noted {
            next.problems = Arc::new(self.problems(&next.clusters, &next.gateways));
        }
        self.latest = Arc::new(next);
        self.latest.clone()
    }

    /// How many services were merged, ever: a change merges those that it reaches, however many there are.
    pub fn merged(&self) -> u64 {
        self.merged
    }

    /// Works out again what concerns whole clusters, and adds the services of those for which it changed.
    fn settle_clusters(&mut self, services: &mut BTreeSet<ServiceKey>) {
        let members: BTreeMap<ClusterId, Member> = match self.shards.get(&self.local) {
            Some(shard) => {
                let members = shard.members();
                members
                    .into_iter()
                    .map(|(id, member)| (id.clone(), member.clone()))
                    .collect()
            }
            None => BTreeMap::new(),
        };
        // Who is judged how depends on who is managed now.
        let before = std::mem::replace(&mut self.members, members);
        let refused = self.refusals();
        for (cluster, shard) in &self.shards {
            let network = |members: &BTreeMap<ClusterId, Member>| {
                members
                    .get(cluster)
                    .and_then(|member| member.network.clone())
            };
            let moved = network(&before) != network(&self.members);
            let judged = refused.contains_key(cluster) != self.refused.contains_key(cluster);
            if moved || judged {
                services.extend(shard.service_keys());
            }
        }
        self.refused = refused;
    }

    fn network_of(&self, cluster: &ClusterId) -> Option<&NetworkId> {
        self.members.get(cluster)?.network.as_ref()
    }

    /// The `MeshExport` by which a cluster's own primary speaks: its name is ours in managed clusters, and it speaks of the
    /// cluster it stands in before it speaks of another.
    fn export_of<'a>(&'a self, cluster: &ClusterId, shard: &'a Shard) -> Option<&'a MeshExport> {
        let exports = shard.exports();
        if self.mode_of(cluster) == MemberMode::Managed
            && let Some(mesh) = &self.mesh
        {
            return exports.get(mesh).copied();
        }
        let own = exports.values().find(|export| export.cluster == *cluster);
        own.or_else(|| exports.values().next()).copied()
    }

    /// The clusters whose endpoints are not used, and why.
    fn refusals(&self) -> BTreeMap<ClusterId, Problem> {
        let mut refused = BTreeMap::new();
        let exports: BTreeMap<&ClusterId, &MeshExport> = self
            .shards
            .iter()
            .filter_map(|(cluster, shard)| Some((cluster, self.export_of(cluster, shard)?)))
            .collect();
        let ours = exports
            .get(&self.local)
            .map(|export| &export.roots)
            .filter(|roots| !roots.is_empty());
        // The managed cluster keeps its identity before others do, then the name that sorts first.
        let mut by_uid: BTreeMap<&str, &ClusterId> = BTreeMap::new();
        let locals = exports.get_key_value(&self.local);
        let others = exports
            .iter()
            .filter(|(cluster, _)| ***cluster != self.local);
        for (cluster, export) in locals.into_iter().chain(others) {
            let mut refuse = |kind, message| {
                let problem = Problem {
                    severity: Severity::Error,
                    kind,
                    cluster: Some((*cluster).clone()),
                    object: format!("Cluster {cluster}"),
                    message,
                };
                refused.insert((*cluster).clone(), problem);
            };
            if export.cluster != **cluster && self.shards.contains_key(&export.cluster) {
                refuse(
                    ProblemKind::DuplicateCluster,
                    format!(
                        "what was added as {cluster} calls itself {}, which is known here already: its endpoints are \
                         not used twice; remove {cluster} from this instance",
                        export.cluster
                    ),
                );
                continue;
            }
            let first = match export.cluster_uid.as_str() {
                "" => cluster,
                uid => by_uid.entry(uid).or_insert(cluster),
            };
            if first != cluster {
                refuse(
                    ProblemKind::DuplicateCluster,
                    format!(
                        "{cluster} and {first} have one UID, {}: they are one cluster, or one is a copy of the other; \
                         the endpoints of {cluster} are not used; remove it, or give it a UID of its own",
                        printable(&export.cluster_uid)
                    ),
                );
                continue;
            }
            // What we wrote ourselves may be from before: it is no word of another.
            if let Some(ours) = ours
                && self.mode_of(cluster) != MemberMode::Managed
                && !export.roots.is_empty()
                && !export.roots.iter().any(|root| ours.contains(root))
            {
                let list = |roots: &[Fingerprint]| {
                    roots
                        .iter()
                        .map(Fingerprint::short)
                        .collect::<Vec<_>>()
                        .join(", ")
                };
                refuse(
                    ProblemKind::RootMismatch,
                    format!(
                        "{} in {cluster} trusts the root {}, this instance trusts {}: neither would accept the other's \
                         certificates, so the endpoints of {cluster} are not used; create {} with --reuse-root, or \
                         remove {cluster} from this instance",
                        export.mesh,
                        list(&export.roots),
                        list(ours),
                        export.mesh
                    ),
                );
            }
        }
        refused
    }

    /// Says whether there may be other problems now.
    fn merge_again(&mut self, key: ServiceKey) -> bool {
        self.merged += 1;
        let mut merge = Merge::default();
        let mut notes = Notes::default();
        for (cluster, shard) in &self.shards {
            let usable = !self.refused.contains_key(cluster);
            let Some((part, over)) = shard.part(cluster, &key, self.network_of(cluster), usable)
            else {
                continue;
            };
            if let Some(OverLimit(what)) = over {
                notes.problems.push(Problem {
                    severity: Severity::Error,
                    kind: ProblemKind::Limit,
                    cluster: Some(cluster.clone()),
                    object: format!("Service {key}"),
                    message: format!(
                        "the service has more {what} in {cluster} than one service may have; the last ones are not used"
                    ),
                });
            }
            merge = merge.join(Merge::of(cluster.clone(), part));
        }
        let merged = merge.finish(&key).map(|(merged, problems)| {
            notes.problems.extend(problems);
            merged
        });
        for endpoint in merged.iter().flat_map(|merged| &merged.endpoints) {
            let keeps = merged
                .as_ref()
                .is_some_and(|merged| merged.keeps(&endpoint.cluster));
            let Some(network) = endpoint.network.as_ref().filter(|_| !keeps) else {
                continue;
            };
            let place = (endpoint.cluster.clone(), network.clone());
            if endpoint.endpoint.tls == TlsMode::Plain {
                notes.plain.insert(place.clone());
            }
            notes.networks.insert(place);
        }
        if merged.is_none() {
            // Over its limits or not, there is no such service.
            notes = Notes::default();
        }
        let noted = self.note(&key, notes);
        let Some(mut merged) = merged else {
            self.services.remove(&key);
            return noted;
        };
        match self.services.get(&key) {
            Some(same) if **same == merged => {}
            before => {
                if let Some(before) = before {
                    share(&mut merged, before);
                }
                self.services.insert(Arc::new(merged));
            }
        }
        noted
    }

    /// Puts the notes of a service in the place of those before. Says whether there may be other problems now.
    fn note(&mut self, key: &ServiceKey, notes: Notes) -> bool {
        let old = self.notes.remove(key).unwrap_or_default();
        let mut noted = (&old.problems, &old.plain) != (&notes.problems, &notes.plain);
        for place in &notes.networks {
            let count = self.networks.entry(place.clone()).or_default();
            noted |= *count == 0;
            *count += 1;
        }
        for place in old.networks {
            if let Some(count) = self.networks.get_mut(&place) {
                *count -= 1;
                if *count == 0 {
                    noted = true;
                    self.networks.remove(&place);
                }
            }
        }
        match notes.problems.is_empty() && notes.plain.is_empty() {
            true => drop(self.noted.remove(key)),
            false => drop(self.noted.insert(key.clone())),
        }
        if notes != Notes::default() {
            self.notes.insert(key.clone(), notes);
        }
        noted
    }

    fn mesh_spec(&self, before: &Snapshot) -> Option<Arc<catamaran_model::MeshSpec>> {
        let meshes = self.shards.get(&self.local)?.meshes();
        let mesh = match &self.mesh {
            Some(name) => meshes.get(name).copied()?,
            None => meshes.values().next().copied()?,
        };
        match &before.mesh {
            Some(same) if **same == *mesh => Some(same.clone()),
            _ => Some(Arc::new(mesh.clone())),
        }
    }

    /// The gateways into each network. Those given by hand take the place of a cluster's discovered ones, which are those seen
    /// in it and those its primary names. Our own `MeshExport` only repeats what we know, so it is not asked.
    fn gateways(&self) -> BTreeMap<NetworkId, Vec<(ClusterId, GatewayAddress)>> {
        let mut all: BTreeMap<NetworkId, BTreeSet<(ClusterId, GatewayAddress)>> = BTreeMap::new();
        let mut add = |network: Option<&NetworkId>, cluster: &ClusterId, at: GatewayAddress| {
            if let Some(network) = network {
                all.entry(network.clone())
                    .or_default()
                    .insert((cluster.clone(), at));
            }
        };
        for (cluster, member) in &self.members {
            if self.refused.contains_key(cluster) {
                continue;
            }
            for at in &member.gateway_addresses {
                add(member.network.as_ref(), cluster, *at);
            }
        }
        for (cluster, shard) in &self.shards {
            let member = self.members.get(cluster);
            let by_hand = member.is_some_and(|member| !member.gateway_addresses.is_empty());
            if by_hand || self.refused.contains_key(cluster) {
                continue;
            }
            let own = self.network_of(cluster);
            for gateway in shard.gateways().values() {
                add(gateway.network.as_ref().or(own), cluster, gateway.at);
            }
            let managed = self.mode_of(cluster) == MemberMode::Managed;
            if let Some(export) = self.export_of(cluster, shard).filter(|_| !managed) {
                for at in &export.gateways {
                    add(own.or(export.network.as_ref()), cluster, *at);
                }
            }
        }
        all.into_iter()
            .map(|(network, gateways)| (network, gateways.into_iter().collect()))
            .collect()
    }

    /// What is done with a cluster. Another than our own is managed only where a credential leads there: in a local fleet, whose
    /// clusters are folders, an instance manages its own.
    fn mode_of(&self, cluster: &ClusterId) -> MemberMode {
        match self.members.get(cluster) {
            _ if *cluster == self.local => MemberMode::Managed,
            Some(member) if matches!(member.credential, Credential::Secret(_)) => member.mode,
            _ => MemberMode::DiscoveryOnly,
        }
    }

    fn issuers(&self) -> BTreeMap<ClusterId, Vec<Fingerprint>> {
        let mut issuers = BTreeMap::new();
        let local = self.shards.get(&self.local);
        let own = local.and_then(|shard| self.export_of(&self.local, shard));
        for (cluster, shard) in &self.shards {
            // We sign for all that we manage; what stands there is for others.
            let export = match self.mode_of(cluster) {
                MemberMode::Managed => own,
                MemberMode::DiscoveryOnly => self.export_of(cluster, shard),
            };
            if let Some(export) = export {
                let mut allowed = export.intermediates.clone();
                allowed.sort();
                allowed.dedup();
                issuers.insert(cluster.clone(), allowed);
            }
        }
        issuers
    }

    fn views(&self) -> BTreeMap<ClusterId, ClusterView> {
        let names: BTreeSet<&ClusterId> = self.shards.keys().chain(self.members.keys()).collect();
        let nothing = Shard::unknown();
        names
            .into_iter()
            .map(|cluster| {
                let shard = self.shards.get(cluster).unwrap_or(&nothing);
                let (services, endpoints) = shard.counts();
                let view = ClusterView {
                    mode: self.mode_of(cluster),
                    network: self.network_of(cluster).cloned(),
                    freshness: shard.freshness.clone(),
                    revision: shard.revision,
                    namespaces: Arc::new(shard.namespaces()),
                    export: self.export_of(cluster, shard).cloned(),
                    services,
                    endpoints,
                    held_since: shard.held_since(),
                };
                (cluster.clone(), view)
            })
            .collect()
    }

    fn problems(
        &self,
        clusters: &BTreeMap<ClusterId, ClusterView>,
        gateways: &BTreeMap<NetworkId, Vec<(ClusterId, GatewayAddress)>>,
    ) -> Vec<Problem> {
        let mut problems: Vec<Problem> = self.refused.values().cloned().collect();
        for (cluster, shard) in &self.shards {
            self.cluster_problems(cluster, shard, &mut problems);
        }
        // The networks of our proxies, for each cluster that we manage.
        let managed = clusters.keys();
        let managed = managed.filter(|cluster| self.mode_of(cluster) == MemberMode::Managed);
        let homes: Vec<BTreeSet<&NetworkId>> = managed
            .map(|home| {
                let own = clusters.get(home).and_then(|view| view.network.as_ref());
                let places = self.networks.keys();
                let places = places.filter(|(cluster, _)| cluster == home);
                own.into_iter()
                    .chain(places.map(|(_, network)| network))
                    .collect()
            })
            .collect();
        let abroad = |network: &NetworkId| {
            let mut homes = homes.iter();
            homes.any(|home| !home.is_empty() && !home.contains(network))
        };
        for (cluster, network) in self.networks.keys() {
            // A gateway leads into its own cluster only.
            let ways = gateways.get(network).into_iter().flatten();
            if abroad(network) && !ways.into_iter().any(|(stands_in, _)| stands_in == cluster) {
                problems.push(Problem {
                    severity: Severity::Error,
                    kind: ProblemKind::NoGateway,
                    cluster: Some(cluster.clone()),
                    object: format!("Network {network}"),
                    message: format!(
                        "{cluster} has endpoints in {network}, and no gateway of {cluster} that leads there is known: \
                         proxies of other networks do not use them; enable the gateway of {cluster} in its instance, or name its address \
                         here with `catamaran network set`"
                    ),
                });
            }
        }
        for key in &self.noted {
            let Some(notes) = self.notes.get(key) else {
                continue;
            };
            problems.extend(notes.problems.iter().cloned());
            for (cluster, network) in notes.plain.iter().filter(|(_, network)| abroad(network)) {
                problems.push(Problem {
                    severity: Severity::Warning,
                    kind: ProblemKind::PlainAcrossNetworks,
                    cluster: Some(cluster.clone()),
                    object: format!("Service {key}"),
                    message: format!(
                        "endpoints of {key} in {cluster} have no sidecar and are in {network}: networks are crossed with \
                         mTLS only, so they are not used from here; switch on injection for the namespace {} in {cluster}",
                        key.namespace
                    ),
                });
            }
        }
        problems.sort();
        problems.dedup();
        if problems.len() > MAX_PROBLEMS {
            let more = problems.len() - MAX_PROBLEMS;
            problems.truncate(MAX_PROBLEMS);
            problems.push(Problem {
                severity: Severity::Warning,
                kind: ProblemKind::Limit,
                cluster: None,
                object: "Problems".into(),
                message: format!(
                    "{more} further problems are not shown; solve some of these first"
                ),
            });
        }
        problems
    }

    fn cluster_problems(&self, cluster: &ClusterId, shard: &Shard, problems: &mut Vec<Problem>) {
        let mut say = |severity, kind, message| {
            problems.push(Problem {
                severity,
                kind,
                cluster: Some(cluster.clone()),
                object: format!("Cluster {cluster}"),
                message,
            });
        };
        if let Some(reason) = &shard.trouble {
            let known = match shard.freshness {
                Freshness::Unknown => "nothing of it is known yet",
                Freshness::Fresh => "the watch before goes on, and its facts count",
                Freshness::Stale { .. } => "what was known of it stays in use with full weight",
            };
            say(
                Severity::Warning,
                ProblemKind::DiscoveryLost,
                format!(
                    "discovery of {cluster} does not work: {reason}; {known}; it is tried again by itself"
                ),
            );
        }
        if shard.held_since().is_some() {
            say(
                Severity::Warning,
                ProblemKind::ShrinkHeld,
                format!(
                    "a complete list of {cluster} lacks {} endpoints that were there before the interruption: they stay \
                     in use until a second list, at least {} s later, lacks them too; if they are gone for sure, say so \
                     with `catamaran confirm {cluster} --mesh MESH`",
                    shard.held_endpoints(),
                    crate::HOLD.as_secs()
                ),
            );
        }
        if let Some(OverLimit(what)) = shard.over {
            say(
                Severity::Error,
                ProblemKind::Limit,
                format!(
                    "{cluster} has more {what} than one cluster may have; the rest is not taken up"
                ),
            );
        }
        let exports = shard.exports();
        let mut others = exports.values().filter(|export| {
            Some(&export.mesh) != self.mesh.as_ref() && export.cluster == *cluster
        });
        if *cluster != self.local
            && self.mode_of(cluster) == MemberMode::Managed
            && let Some(other) = others.next()
        {
            let (other, own) = (&other.mesh, self.mesh.as_ref());
            let own = own.map_or("this instance", MeshName::as_str);
            say(
                Severity::Error,
                ProblemKind::DuplicateCluster,
                format!(
                    "{other} says that it manages {cluster}, and {own} is told to: a cluster has one instance; let one of them go \
                     (catamaran cluster remove {cluster})"
                ),
            );
        }
        if let Some(export) = self.export_of(cluster, shard)
            && export.cluster != *cluster
            && !self.shards.contains_key(&export.cluster)
        {
            say(
                Severity::Warning,
                ProblemKind::DuplicateCluster,
                format!(
                    "what was added as {cluster} calls itself {}: add it under that name, so that every instance means \
                     the same cluster",
                    export.cluster
                ),
            );
        }
    }
}

/// Takes over the endpoints of `before` that did not change.
fn share(merged: &mut MergedService, before: &MergedService) {
    for endpoint in &mut merged.endpoints {
        let order = |other: &Arc<crate::MergedEndpoint>| {
            other.cluster.cmp(&endpoint.cluster).then_with(|| {
                let (other, this) = (&other.endpoint, &endpoint.endpoint);
                (other.address, &other.workload).cmp(&(this.address, &this.workload))
            })
        };
        if let Ok(place) = before.endpoints.binary_search_by(order)
            && before.endpoints[place] == *endpoint
        {
            *endpoint = before.endpoints[place].clone();
        }
    }
}

/// Outside text, safe to print: at most 300 characters, none of them a control character.
fn printable(text: &str) -> String {
    text.chars()
        .take(300)
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}

#[cfg(test)]
mod tests;
