//! One cluster: who may speak for it, what it said, and how sure we are of that.
//!
//! A shard is owned by one generation of one watch. A newer generation, or a new list of the same one, fills a pending set
//! beside the facts that count, and takes their place only when its list is complete.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use catamaran_model::{
    ClusterId, EndpointAddress, EndpointSlice, Health, Member, MeshExport, MeshName, MeshSpec,
    Namespace, NamespaceFacts, NetworkGateway, NetworkId, Service, ServiceKey, Timestamp,
};

use crate::facts::{Facts, OverLimit, Touched, limits, usable};
use crate::merge::Part;
use crate::{
    Applied, Fact, FactKey, Freshness, Ignored, MergedEndpoint, MergedPort, Revision,
    WatchGeneration,
};

/// How long what a suddenly shrunken list lacks is kept, and how much later a second list must begin to be believed.
pub const HOLD: Duration = Duration::from_secs(10);

/// A list that removes fewer endpoints of a cluster than this, and no service's last ones, is believed at once.
pub const SHRINK_AT_LEAST: usize = 10;

/// A list is not taken up while so many earlier ones are still held.
pub const MAX_HELD_LISTS: usize = 8;

/// A list in progress.
#[derive(Debug)]
struct Pending {
    watch: WatchGeneration,
    begun: Timestamp,
    facts: Facts,
    over: Option<OverLimit>,
}

/// What a held list lacked: it goes on to count until a second list or a person says that it is gone.
#[derive(Debug)]
struct Kept {
    since: Timestamp,
    facts: Facts,
}

/// One cluster's facts.
#[derive(Debug)]
pub(crate) struct Shard {
    facts: Facts,
    /// Oldest first; nothing in it is in `facts`.
    kept: Vec<Kept>,
    owner: Option<WatchGeneration>,
    pending: Option<Pending>,
    /// A complete view was there once: a list, or a saved one.
    complete: bool,
    pub(crate) freshness: Freshness,
    pub(crate) revision: Revision,
    /// Why discovery does not work, for people.
    pub(crate) trouble: Option<String>,
    /// What the cluster has too many of.
    pub(crate) over: Option<OverLimit>,
    /// Counts up with each change of what would be saved.
    pub(crate) edits: u64,
}

impl Shard {
    /// A cluster of which nothing is known yet.
    pub(crate) fn unknown() -> Shard {
        Shard {
            facts: Facts::default(),
            kept: Vec::new(),
            owner: None,
            pending: None,
            complete: false,
            freshness: Freshness::Unknown,
            revision: Revision::default(),
            trouble: None,
            over: None,
            edits: 0,
        }
    }

    /// A cluster as it was saved; it counts fully, and is shown as stale.
    pub(crate) fn saved(facts: Vec<Fact>, revision: Revision, now: Timestamp) -> Shard {
        let mut shard = Shard::unknown();
        let mut touched = Touched::default();
        for fact in facts {
            if let Err(over) = shard.facts.upsert(fact, &mut touched) {
                shard.over = Some(over);
            }
        }
        shard.complete = true;
        shard.revision = revision;
        shard.freshness = Freshness::Stale {
            since: now,
            reason: "loaded from disk; its watch has not completed a list yet".into(),
        };
        shard
    }

    /// The highest generation that spoke here.
    pub(crate) fn newest_watch(&self) -> Option<WatchGeneration> {
        self.owner
            .max(self.pending.as_ref().map(|pending| pending.watch))
    }

    fn is_older(&self, watch: WatchGeneration) -> Option<Ignored> {
        let owner = self.owner?;
        (watch < owner).then_some(Ignored::OlderWatch { owner })
    }

    fn is_pending(&self, watch: WatchGeneration) -> bool {
        self.pending
            .as_ref()
            .is_some_and(|pending| pending.watch == watch)
    }

    /// A watch begins a list: it starts from nothing, beside what counts.
    pub(crate) fn relisting(&mut self, watch: WatchGeneration, now: Timestamp) -> Applied {
        if let Some(older) = self.is_older(watch) {
            return Applied::Ignored(older);
        }
        if let Some(newer) = self
            .pending
            .as_ref()
            .map(|pending| pending.watch)
            .filter(|newer| *newer > watch)
        {
            // The owner itself may go on while its replacement lists; two replacements may not.
            if self.owner != Some(watch) {
                return Applied::Ignored(Ignored::OlderWatch { owner: newer });
            }
            return Applied::Ignored(Ignored::BeingReplaced { by: newer });
        }
        self.pending = Some(Pending {
            watch,
            begun: now,
            facts: Facts::default(),
            over: None,
        });
        Applied::Listing
    }

    /// An object is there.
    pub(crate) fn upsert(
        &mut self,
        watch: WatchGeneration,
        fact: Fact,
        touched: &mut Touched,
    ) -> Applied {
        if self.is_pending(watch) {
            let pending = self.pending.as_mut().expect("just seen");
            return match pending.facts.upsert(fact, &mut Touched::default()) {
                Ok(()) => Applied::Listing,
                Err(over) => {
                    pending.over = Some(over);
                    Applied::Ignored(Ignored::Limit(over.0))
                }
            };
        }
        if let Some(ignored) = self.is_not_live(watch) {
            return Applied::Ignored(ignored);
        }
        let key = fact.key();
        let behind = match &fact {
            Fact::Slice(slice) if !self.kept.is_empty() => {
                Some((slice.service.clone(), addresses(slice)))
            }
            _ => None,
        };
        if let Err(over) = self.facts.upsert(fact, touched) {
            touched.cluster |= self.over.replace(over) != Some(over);
            return Applied::Ignored(Ignored::Limit(over.0));
        }
        self.release(&key, behind.as_ref(), touched);
        self.edited(touched)
    }

    /// A live watch saw an object go.
    pub(crate) fn delete(
        &mut self,
        watch: WatchGeneration,
        key: &FactKey,
        touched: &mut Touched,
    ) -> Applied {
        if self.is_pending(watch) {
            let pending = self.pending.as_mut().expect("just seen");
            pending.facts.delete(key, &mut Touched::default());
            return Applied::Listing;
        }
        if let Some(ignored) = self.is_not_live(watch) {
            return Applied::Ignored(ignored);
        }
        self.facts.delete(key, touched);
        self.release(key, None, touched);
        self.edited(touched)
    }

    fn is_not_live(&self, watch: WatchGeneration) -> Option<Ignored> {
        match self.owner {
            Some(owner) if owner == watch => None,
            Some(owner) if watch < owner => Some(Ignored::OlderWatch { owner }),
            _ => Some(Ignored::NotListed),
        }
    }

    /// A statement of a live watch about an object ends what a held list keeps of it.
    fn release(
        &mut self,
        key: &FactKey,
        behind: Option<&(ServiceKey, BTreeSet<EndpointAddress>)>,
        touched: &mut Touched,
    ) {
        for kept in &mut self.kept {
            kept.facts.delete(key, touched);
            if let Some((service, addresses)) = behind {
                kept.facts.forget_endpoints(service, addresses, touched);
            }
        }
        self.drop_empty_holds(touched);
    }

    fn drop_empty_holds(&mut self, touched: &mut Touched) {
        let before = self.kept.len();
        self.kept.retain(|kept| !kept.facts.is_empty());
        touched.cluster |= self.kept.len() != before;
    }

    fn edited(&mut self, touched: &Touched) -> Applied {
        if touched.is_empty() {
            return Applied::Unchanged;
        }
        self.edits += 1;
        Applied::Changed
    }

    /// The list in progress is complete: absence in it is a statement, if it is believed.
    pub(crate) fn listed(
        &mut self,
        watch: WatchGeneration,
        revision: Revision,
        now: Timestamp,
        touched: &mut Touched,
    ) -> Applied {
        if !self.is_pending(watch) {
            return Applied::Ignored(self.is_older(watch).unwrap_or(Ignored::NotListed));
        }
        if self.owner == Some(watch) && revision < self.revision {
            self.pending = None;
            return Applied::Ignored(Ignored::OlderRevision {
                known: self.revision,
            });
        }
        let Some(list) = self.pending.take() else {
            return Applied::Ignored(Ignored::NotListed);
        };
        // A hold that is settled by this list does not count any more, whatever else the list does.
        let settled = |kept: &Kept| list.begun >= kept.since.after(HOLD);
        let still = || {
            self.kept
                .iter()
                .filter(|kept| !settled(kept))
                .map(|kept| &kept.facts)
        };
        // But what it has again was never gone.
        let settled = self.kept.iter().filter(|kept| settled(kept));
        let again: Vec<Facts> = settled
            .map(|kept| kept.facts.present_in(&list.facts))
            .collect();
        let mut rest: Vec<Facts> = still().map(|facts| facts.missing_in(&list.facts)).collect();
        let shrinks = self.complete
            && shrinks(
                &usable(std::iter::once(&self.facts).chain(&again).chain(still())),
                &usable(std::iter::once(&list.facts).chain(&rest)),
            );
        if shrinks && still().count() >= MAX_HELD_LISTS {
            return Applied::Ignored(Ignored::TooManyHeldLists);
        }

        let holds = self.kept.len();
        let mut rest = rest.drain(..);
        for kept in &mut self.kept {
            let facts = match list.begun >= kept.since.after(HOLD) {
                true => Facts::default(),
                false => rest.next().unwrap_or_default(),
            };
            kept.facts.differences(&facts, touched);
            kept.facts = facts;
        }
        self.kept.retain(|kept| !kept.facts.is_empty());
        self.facts.differences(&list.facts, touched);
        if shrinks {
            let facts = self.facts.missing_in(&list.facts);
            self.kept.push(Kept { since: now, facts });
        }
        self.facts = list.facts;

        let before = (
            self.freshness.clone(),
            self.revision,
            self.trouble.take(),
            self.over,
        );
        self.owner = Some(watch);
        self.complete = true;
        self.revision = revision;
        self.over = list.over;
        self.freshness = Freshness::Fresh;
        touched.cluster |= before != (Freshness::Fresh, revision, None, list.over)
            || shrinks
            || holds != self.kept.len();
        let applied = self.edited(touched);
        match self.kept.last().filter(|_| shrinks) {
            Some(held) => Applied::Held {
                until: held.since.after(HOLD),
            },
            None => applied,
        }
    }

    /// Discovery is broken. Nothing is known to be gone.
    pub(crate) fn lost(
        &mut self,
        watch: WatchGeneration,
        reason: String,
        now: Timestamp,
        touched: &mut Touched,
    ) -> Applied {
        if let Some(older) = self.is_older(watch) {
            return Applied::Ignored(older);
        }
        if self.is_pending(watch) {
            self.pending = None;
        }
        // A replacement that cannot list says nothing about the watch that still owns the shard.
        let owns = self.owner.is_none_or(|owner| owner == watch);
        let freshness = match &self.freshness {
            Freshness::Fresh if owns => Freshness::Stale {
                since: now,
                reason: reason.clone(),
            },
            Freshness::Stale { since, .. } if owns => Freshness::Stale {
                since: *since,
                reason: reason.clone(),
            },
            other => other.clone(),
        };
        let changed = freshness != self.freshness || self.trouble.as_ref() != Some(&reason);
        self.freshness = freshness;
        self.trouble = Some(reason);
        touched.cluster |= changed;
        if changed {
            Applied::Changed
        } else {
            Applied::Unchanged
        }
    }

    /// The owner goes on without a gap.
    pub(crate) fn back(&mut self, watch: WatchGeneration, touched: &mut Touched) -> Applied {
        if let Some(ignored) = self.is_not_live(watch) {
            return Applied::Ignored(ignored);
        }
        let changed = self.freshness != Freshness::Fresh || self.trouble.is_some();
        self.freshness = Freshness::Fresh;
        self.trouble = None;
        touched.cluster |= changed;
        if changed {
            Applied::Changed
        } else {
            Applied::Unchanged
        }
    }

    /// A person says that what the held lists lack is gone.
    pub(crate) fn confirmed(&mut self, touched: &mut Touched) -> Applied {
        for kept in std::mem::take(&mut self.kept) {
            kept.facts.differences(&Facts::default(), touched);
            touched.cluster = true;
        }
        self.edited(touched)
    }

    /// Since when a list is held back.
    pub(crate) fn held_since(&self) -> Option<Timestamp> {
        self.kept.first().map(|kept| kept.since)
    }

    /// How many endpoints the held lists keep.
    pub(crate) fn held_endpoints(&self) -> usize {
        self.kept.iter().map(|kept| kept.facts.endpoints()).sum()
    }

    /// Whether a list that begins now would settle a hold, and none has begun that will.
    pub(crate) fn wants_list(&self, now: Timestamp) -> bool {
        self.kept.first().is_some_and(|kept| {
            let due = kept.since.after(HOLD);
            now >= due
                && self
                    .pending
                    .as_ref()
                    .is_none_or(|pending| pending.begun < due)
        })
    }

    /// What counts, the newest first: the facts, then what held lists keep.
    fn layers(&self) -> impl Iterator<Item = &Facts> {
        std::iter::once(&self.facts).chain(self.kept.iter().rev().map(|kept| &kept.facts))
    }

    fn first<'a, K: Ord + 'a, V: 'a>(
        &'a self,
        kind: impl Fn(&'a Facts) -> &'a BTreeMap<K, V>,
    ) -> BTreeMap<&'a K, &'a V> {
        let mut all = BTreeMap::new();
        for facts in self.layers() {
            for (key, value) in kind(facts) {
                all.entry(key).or_insert(value);
            }
        }
        all
    }

    pub(crate) fn members(&self) -> BTreeMap<&ClusterId, &Member> {
        self.first(|facts| &facts.members)
    }

    pub(crate) fn meshes(&self) -> BTreeMap<&MeshName, &MeshSpec> {
        self.first(|facts| &facts.meshes)
    }

    pub(crate) fn exports(&self) -> BTreeMap<&MeshName, &MeshExport> {
        self.first(|facts| &facts.exports)
    }

    pub(crate) fn gateways(&self) -> BTreeMap<&String, &NetworkGateway> {
        self.first(|facts| &facts.gateways)
    }

    pub(crate) fn namespaces(&self) -> BTreeMap<Namespace, NamespaceFacts> {
        let all = self.first(|facts| &facts.namespaces);
        all.into_iter()
            .map(|(name, facts)| (name.clone(), facts.clone()))
            .collect()
    }

    /// How many services and endpoints count.
    pub(crate) fn counts(&self) -> (usize, usize) {
        self.layers().fold((0, 0), |(services, endpoints), facts| {
            (
                services + facts.services.len(),
                endpoints + facts.endpoints(),
            )
        })
    }

    /// The services that are there or have endpoints.
    pub(crate) fn service_keys(&self) -> BTreeSet<ServiceKey> {
        self.layers().flat_map(Facts::service_keys).collect()
    }

    /// This cluster's part of a service; `None` when it has no such service.
    ///
    /// `network` is the cluster's own; `None` for `endpoints` means that they are not to be used.
    pub(crate) fn part(
        &self,
        cluster: &ClusterId,
        key: &ServiceKey,
        network: Option<&NetworkId>,
        usable: bool,
    ) -> Option<(Part, Option<OverLimit>)> {
        let service = self.layers().find_map(|facts| facts.services.get(key))?;
        let mut over = None;
        let mut ports: Vec<MergedPort> = Vec::new();
        for port in &service.ports {
            if ports.iter().all(|known| known.number != port.number) {
                ports.push(MergedPort {
                    number: port.number,
                    name: port.name.clone(),
                    protocol: port.protocol,
                });
            }
        }
        ports.sort();
        if ports.len() > limits::PORTS_PER_SERVICE {
            over = Some(OverLimit("ports"));
            ports.truncate(limits::PORTS_PER_SERVICE);
        }
        let mut endpoints = Vec::new();
        if usable {
            let mut known = BTreeSet::new();
            for facts in self.layers() {
                let fresh = gather(service, facts, cluster, network, &known);
                known.extend(fresh.iter().map(|endpoint| endpoint.endpoint.address));
                endpoints.extend(fresh);
            }
        }
        endpoints.sort_by(|a, b| MergedEndpoint::order(a).cmp(&MergedEndpoint::order(b)));
        if endpoints.len() > limits::ENDPOINTS_PER_SERVICE {
            over = Some(OverLimit("endpoints"));
            endpoints.truncate(limits::ENDPOINTS_PER_SERVICE);
        }
        let part = Part {
            ports,
            vip: service.vip,
            cluster_local: service.cluster_local || stays_at_home(key),
            endpoints: endpoints.into_iter().map(Arc::new).collect(),
        };
        Some((part, over))
    }

    /// What is to be saved: plain facts that make the same view when they are loaded.
    pub(crate) fn facts(&self) -> Vec<Fact> {
        let mut saved = self.facts.clone();
        let mut touched = Touched::default();
        let mut number = 0;
        for fact in self.kept.iter().rev().flat_map(|kept| kept.facts.iter()) {
            let fact = match fact {
                Fact::Slice(slice) => Fact::Slice(renamed(slice, &saved, &mut number)),
                other if has(&saved, &other.key()) => continue,
                other => other,
            };
            // Beyond the limits there is nothing to be saved.
            let _ = saved.upsert(fact, &mut touched);
        }
        saved.iter().collect()
    }
}

/// Whether a complete list takes so much away that it is not believed at once (DESIGN 3): more than half and at least ten of
/// the cluster's endpoints, or a service's last ones.
fn shrinks(
    before: &BTreeMap<&ServiceKey, BTreeSet<EndpointAddress>>,
    after: &BTreeMap<&ServiceKey, BTreeSet<EndpointAddress>>,
) -> bool {
    let (mut all, mut lost) = (0, 0);
    for (service, before) in before {
        let Some(after) = after.get(service).filter(|after| !after.is_empty()) else {
            if before.is_empty() {
                continue;
            }
            return true;
        };
        all += before.len();
        lost += before.difference(after).count();
    }
    lost >= SHRINK_AT_LEAST && lost * 2 > all
}

/// Services that mean something in their own cluster only (DESIGN 3).
fn stays_at_home(key: &ServiceKey) -> bool {
    matches!(key.namespace.as_str(), "kube-system" | "catamaran-system")
        || (key.namespace.as_str() == "default" && key.name.as_str() == "kubernetes")
}

fn addresses(slice: &EndpointSlice) -> BTreeSet<EndpointAddress> {
    slice
        .endpoints
        .iter()
        .map(|endpoint| endpoint.address)
        .collect()
}

fn has(facts: &Facts, key: &FactKey) -> bool {
    match key {
        FactKey::Namespace(name) => facts.namespaces.contains_key(name),
        FactKey::Service(key) => facts.services.contains_key(key),
        FactKey::Slice(key) => facts.slices.contains_key(key),
        FactKey::Gateway(name) => facts.gateways.contains_key(name),
        FactKey::Export(mesh) => facts.exports.contains_key(mesh),
        FactKey::Mesh(name) => facts.meshes.contains_key(name),
        FactKey::Member(cluster) => facts.members.contains_key(cluster),
    }
}

/// A kept slice under a name that the saved facts do not have yet: its own one belongs to the newer slice.
fn renamed(mut slice: EndpointSlice, saved: &Facts, number: &mut usize) -> EndpointSlice {
    while saved.slices.contains_key(&slice.key) {
        slice.key.name = catamaran_model::SliceName::new(format!("held.{number}"))
            .expect("a short name of letters and digits");
        *number += 1;
    }
    slice
}

/// The endpoints of `service` in `facts` but those at `known` addresses. A slice's port belongs to the service's port of
/// the same name, as in Kubernetes; both may have none. An endpoint in several slices counts once.
fn gather(
    service: &Service,
    facts: &Facts,
    cluster: &ClusterId,
    network: Option<&NetworkId>,
    known: &BTreeSet<EndpointAddress>,
) -> Vec<MergedEndpoint> {
    let mut found: BTreeMap<_, MergedEndpoint> = BTreeMap::new();
    for slice in facts.slices_of(&service.key) {
        let mut ports = BTreeMap::new();
        for port in &service.ports {
            let own = slice
                .ports
                .iter()
                .filter(|own| own.name == port.name)
                .map(|own| own.number);
            if let Some(own) = own.min() {
                ports.entry(port.number).or_insert(own);
            }
        }
        for endpoint in &slice.endpoints {
            if known.contains(&endpoint.address) {
                continue;
            }
            let seen = MergedEndpoint {
                cluster: cluster.clone(),
                network: endpoint.network.clone().or_else(|| network.cloned()),
                ports: ports.clone(),
                endpoint: endpoint.clone(),
            };
            match found.entry((endpoint.address, endpoint.workload.clone())) {
                std::collections::btree_map::Entry::Vacant(place) => {
                    place.insert(seen);
                }
                std::collections::btree_map::Entry::Occupied(mut place) => {
                    let first = place.get_mut();
                    for (number, own) in seen.ports {
                        first.ports.entry(number).or_insert(own);
                    }
                    if seen.endpoint.health == Health::Ready {
                        first.endpoint.health = Health::Ready;
                    }
                }
            }
        }
    }
    found.into_values().collect()
}

/// A virtual address for `Part`, as its cluster says it.
pub(crate) type Vip = Option<IpAddr>;

#[cfg(test)]
mod tests;
