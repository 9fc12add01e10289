//! The table: all that a proxy was told, made ready for decisions.

mod cluster;
mod listener;
mod read;
mod route;
mod tls;

use std::collections::{BTreeSet, HashMap};
use std::hash::{BuildHasherDefault, Hasher};
use std::net::SocketAddr;
use std::sync::Arc;

use catamaran_model::Fingerprint;

pub(crate) use cluster::{Assignment, Tier};
pub use cluster::{
    Balance, Cluster, Endpoint, EndpointHealth, EndpointSource, Keepalive, Limits, Outliers,
    RetryLimit, Settings,
};
pub use listener::{
    Chain, ClientCertHeader, Codec, Handler, Http, Listener, Routes, ServerHeader, Tcp,
};
pub(crate) use listener::{Direction, StripPort};
pub use read::Http2Options;
pub use route::RouteTable;
pub(crate) use route::{Action, WeightedClusters};
pub use tls::{DownstreamTls, IdentityMatch, MutualTls, Transport, allows};

use self::read::Interner;
use crate::refusal::Fault;
use crate::{Changes, Kind, Refusal};

/// One hash for all, so that nothing here depends on chance. What is looked up by hostile text was put in by the control
/// plane, and looking up inserts nothing. So it need not be a hash that nobody can foretell, and is a cheap one: several
/// names are looked up for every request.
pub type Fixed = BuildHasherDefault<Folded>;

/// Folds what it is given into 64 bits, eight bytes at a time, by the two halves of a long product. Not for keys that a
/// stranger can put into a map.
#[derive(Debug, Clone, Copy, Default)]
pub struct Folded(u64);

impl Folded {
    fn fold(&mut self, word: u64) {
        // the fraction of the golden ratio, and that of the root of two
        let product = u128::from(self.0 ^ word ^ 0x9e37_79b9_7f4a_7c15)
            * u128::from(0x6a09_e667_f3bc_c909_u64 ^ word.rotate_left(32));
        self.0 = (product as u64) ^ ((product >> 64) as u64);
    }
}

impl Hasher for Folded {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        let mut words = bytes.chunks_exact(8);
        for word in &mut words {
            self.fold(u64::from_le_bytes(word.try_into().unwrap_or_default()));
        }
        let rest = words.remainder();
        if !rest.is_empty() {
            let mut word = [0; 8];
            word[..rest.len()].copy_from_slice(rest);
            self.fold(u64::from_le_bytes(word) ^ (rest.len() as u64) << 56);
        }
    }

    fn write_u8(&mut self, number: u8) {
        self.fold(number.into());
    }

    fn write_u16(&mut self, number: u16) {
        self.fold(number.into());
    }

    fn write_u32(&mut self, number: u32) {
        self.fold(number.into());
    }

    fn write_u64(&mut self, number: u64) {
        self.fold(number);
    }

    fn write_usize(&mut self, number: usize) {
        self.fold(number as u64);
    }
}

/// By name.
pub(crate) type Lookup<T> = HashMap<Arc<str>, T, Fixed>;

/// All that a proxy was told, made ready for decisions. Immutable; [`Table::update`] makes the next one and shares with it
/// every part that did not change.
#[derive(Debug, Clone, Default)]
pub struct Table {
    listeners: Arc<Lookup<Arc<Listener>>>,
    by_address: Arc<HashMap<SocketAddr, Arc<Listener>, Fixed>>,
    routes: Arc<Lookup<Arc<RouteTable>>>,
    clusters: Arc<Lookup<Arc<Cluster>>>,
    assignments: Arc<Lookup<Arc<Assignment>>>,
    /// The clusters of an assignment that does not have its cluster's name.
    assigned: Arc<Lookup<BTreeSet<Arc<str>>>>,
    issuers: Arc<Lookup<Arc<[Fingerprint]>>>,
}

/// Who may speak for the workloads of which cluster.
pub(crate) struct Issuing<'a>(&'a Lookup<Arc<[Fingerprint]>>);

impl Issuing<'_> {
    /// Who may speak for somebody of these clusters; `None` when nobody said which clusters, or one of them says nothing.
    pub(crate) fn of(&self, clusters: &[Arc<str>]) -> Option<Arc<[Fingerprint]>> {
        match clusters {
            [] => None,
            [one] => self.0.get(one).cloned(),
            several => {
                let mut all = BTreeSet::new();
                for cluster in several {
                    all.extend(self.0.get(cluster)?.iter().copied());
                }
                Some(all.into_iter().collect())
            }
        }
    }
}

impl Table {
    /// A table of these resources alone, and what of them cannot be used.
    pub fn build(changes: Changes) -> (Table, Vec<Refusal>) {
        Table::default().update(changes)
    }

    /// The table after these changes, and what of them cannot be used. What is refused keeps what was in force under its
    /// name; everything else takes effect. Resources that did not change keep their place in memory, and with it, in a
    /// [`View`](crate::View), their past.
    pub fn update(&self, changes: Changes) -> (Table, Vec<Refusal>) {
        let mut update = Update {
            table: self.clone(),
            refusals: Vec::new(),
            interner: Interner::default(),
        };
        update.apply(changes);
        (update.table, update.refusals)
    }

    /// A cluster by name.
    pub fn cluster(&self, name: &str) -> Option<&Arc<Cluster>> {
        self.clusters.get(name)
    }

    /// A route configuration by name.
    pub fn routes(&self, name: &str) -> Option<&Arc<RouteTable>> {
        self.routes.get(name)
    }

    /// A listener by name.
    pub fn listener(&self, name: &str) -> Option<&Arc<Listener>> {
        self.listeners.get(name)
    }

    /// All listeners, by name.
    pub fn listeners(&self) -> Vec<&Arc<Listener>> {
        let mut all: Vec<_> = self.listeners.values().collect();
        all.sort_by(|a, b| a.name().cmp(b.name()));
        all
    }

    /// All clusters, by name.
    pub fn clusters(&self) -> Vec<&Arc<Cluster>> {
        let mut all: Vec<_> = self.clusters.values().collect();
        all.sort_by(|a, b| a.name().cmp(b.name()));
        all
    }

    /// The listener at an address: that of the very address, else that of any address and the same port.
    pub fn listener_at(&self, address: SocketAddr) -> Option<&Arc<Listener>> {
        let address = SocketAddr::new(address.ip().to_canonical(), address.port());
        self.by_address.get(&address).or_else(|| {
            let mut any = listener::any_of(address).into_iter();
            any.find_map(|any| self.by_address.get(&any))
        })
    }

    /// The listener of captured traffic in one direction: the one of Istio's name, else the first by name that is bound
    /// and says so.
    pub(crate) fn captured(&self, direction: Direction) -> Option<&Arc<Listener>> {
        let name = match direction {
            Direction::Outbound => VIRTUAL_OUTBOUND,
            Direction::Inbound => VIRTUAL_INBOUND,
            Direction::Unspecified => return None,
        };
        self.listener(name).or_else(|| {
            let bound = self.listeners.values();
            bound
                .filter(|listener| listener.is_bound() && listener.direction() == direction)
                .min_by(|a, b| a.name().cmp(b.name()))
        })
    }

    /// The names of a kind that the table points at: what to subscribe to. Nothing points at listeners.
    pub fn wanted(&self, kind: Kind) -> BTreeSet<Arc<str>> {
        let handlers = || {
            let listeners = self.listeners.values();
            listeners.flat_map(|listener| listener.chains().map(|chain| chain.handler()))
        };
        match kind {
            Kind::Listener => BTreeSet::new(),
            Kind::Route => handlers()
                .filter_map(|handler| match handler {
                    Handler::Http(http) => match &http.routes {
                        Routes::Named(name) => Some(Arc::clone(name)),
                        Routes::Inline(_) => None,
                    },
                    Handler::Tcp(_) => None,
                })
                .collect(),
            Kind::Cluster => {
                let by_routes = self.routes.values().flat_map(|routes| routes.clusters());
                handlers()
                    .flat_map(Handler::clusters)
                    .chain(by_routes)
                    .cloned()
                    .collect()
            }
            Kind::Assignment => self
                .clusters
                .values()
                .filter_map(|cluster| match &cluster.settings.source {
                    EndpointSource::Eds(name) => Some(Arc::clone(name)),
                    EndpointSource::Inline | EndpointSource::OriginalDestination => None,
                })
                .collect(),
            Kind::Issuers => self
                .clusters
                .values()
                .flat_map(|cluster| &cluster.assignment.groups)
                .flat_map(|group| group.behind.iter().cloned())
                .collect(),
        }
    }

    /// What the table points at and does not have. Issuers are not among it: a cluster that is not ours has none.
    pub fn missing(&self) -> BTreeSet<(Kind, Arc<str>)> {
        [Kind::Route, Kind::Cluster, Kind::Assignment]
            .into_iter()
            .flat_map(|kind| self.wanted(kind).into_iter().map(move |name| (kind, name)))
            .filter(|(kind, name)| !self.has(*kind, name))
            .collect()
    }

    /// Whether the table has a resource.
    pub fn has(&self, kind: Kind, name: &str) -> bool {
        match kind {
            Kind::Listener => self.listeners.contains_key(name),
            Kind::Route => self.routes.contains_key(name),
            Kind::Cluster => self.clusters.contains_key(name),
            Kind::Assignment => self.assignments.contains_key(name),
            Kind::Issuers => self.issuers.contains_key(name),
        }
    }
}

/// Istio's name for the listener of captured outbound traffic, 15001.
const VIRTUAL_OUTBOUND: &str = "virtualOutbound";
/// Istio's name for the listener of captured inbound traffic, 15006.
const VIRTUAL_INBOUND: &str = "virtualInbound";

/// A table in the making.
struct Update {
    table: Table,
    refusals: Vec<Refusal>,
    interner: Interner,
}

impl Update {
    fn apply(&mut self, changes: Changes) {
        let sent: BTreeSet<(Kind, String)> = names(&changes).collect();
        let removed: Vec<(Kind, String)> = changes
            .removed
            .iter()
            .filter(|gone| !sent.contains(gone))
            .cloned()
            .collect();
        let gone = |kind: Kind| {
            let of_kind = removed.iter().filter(move |(of, _)| *of == kind);
            of_kind.map(|(_, name)| name.as_str())
        };

        let reissued = self.issuers(&changes, gone(Kind::Issuers));
        let mut stale = self.assignments(&changes, gone(Kind::Assignment));
        self.clusters(&changes, gone(Kind::Cluster), &mut stale);
        if reissued {
            stale.extend(self.table.clusters.keys().cloned());
        }
        self.rejoin(&stale);
        self.routes(&changes, gone(Kind::Route));
        self.listeners(&changes, gone(Kind::Listener));
    }

    /// The reading of a resource, unless it is refused.
    fn read<T>(
        &mut self,
        kind: Kind,
        name: &str,
        read: impl FnOnce(&mut Interner) -> Result<T, Fault>,
    ) -> Option<T> {
        let result = if name.is_empty() {
            Err(Fault::new("name", "is missing"))
        } else {
            read(&mut self.interner)
        };
        match result {
            Ok(value) => Some(value),
            Err(fault) => {
                self.refusals.push(fault.of(kind, name));
                None
            }
        }
    }

    /// Whether anything changed.
    fn issuers<'a>(&mut self, changes: &Changes, gone: impl Iterator<Item = &'a str>) -> bool {
        let mut changed = false;
        for issuers in &changes.issuers {
            let read = self.read(Kind::Issuers, &issuers.cluster, |_| {
                cluster::fingerprints(issuers)
            });
            let Some(list) = read else { continue };
            let known = self.table.issuers.get(issuers.cluster.as_str());
            if known.is_none_or(|known| *known != list) {
                let name = self.interner.text(&issuers.cluster);
                Arc::make_mut(&mut self.table.issuers).insert(name, list);
                changed = true;
            }
        }
        for name in gone {
            if self.table.issuers.contains_key(name) {
                Arc::make_mut(&mut self.table.issuers).remove(name);
                changed = true;
            }
        }
        changed
    }

    /// The names of the clusters whose endpoints changed.
    fn assignments<'a>(
        &mut self,
        changes: &Changes,
        gone: impl Iterator<Item = &'a str>,
    ) -> BTreeSet<Arc<str>> {
        let mut touched: Vec<Arc<str>> = Vec::new();
        for assignment in &changes.assignments {
            let name = assignment.cluster_name.as_str();
            let read = self.read(Kind::Assignment, name, |interner| {
                Assignment::read(assignment, interner)
            });
            let Some(read) = read else { continue };
            let known = self.table.assignments.get(name);
            if known.is_none_or(|known| **known != read) {
                let name = self.interner.text(name);
                touched.push(Arc::clone(&name));
                Arc::make_mut(&mut self.table.assignments).insert(name, Arc::new(read));
            }
        }
        for name in gone {
            if self.table.assignments.contains_key(name) {
                let assignments = Arc::make_mut(&mut self.table.assignments);
                touched.extend(assignments.remove_entry(name).map(|(name, _)| name));
            }
        }
        let mut stale = BTreeSet::new();
        for name in touched {
            stale.extend(
                self.table
                    .assigned
                    .get(&name)
                    .into_iter()
                    .flatten()
                    .cloned(),
            );
            stale.insert(name);
        }
        stale
    }

    fn clusters<'a>(
        &mut self,
        changes: &Changes,
        gone: impl Iterator<Item = &'a str>,
        stale: &mut BTreeSet<Arc<str>>,
    ) {
        for name in gone {
            if self.table.clusters.contains_key(name) {
                let clusters = Arc::make_mut(&mut self.table.clusters);
                if let Some(cluster) = clusters.remove(name) {
                    self.unassign(&cluster);
                }
            }
        }
        for message in &changes.clusters {
            let read = self.read(Kind::Cluster, &message.name, |interner| {
                Settings::read(message, interner)
            });
            let Some(settings) = read else { continue };
            let known = self.table.clusters.get(message.name.as_str()).cloned();
            if known
                .as_ref()
                .is_some_and(|known| *known.settings == settings)
            {
                continue;
            }
            if let Some(known) = known {
                self.unassign(&known);
            }
            if let EndpointSource::Eds(service) = &settings.source
                && **service != *settings.name
            {
                let assigned = Arc::make_mut(&mut self.table.assigned);
                let clusters = assigned.entry(Arc::clone(service)).or_default();
                clusters.insert(Arc::clone(&settings.name));
            }
            let settings = Arc::new(settings);
            let cluster = self.join(Arc::clone(&settings));
            let name = Arc::clone(&settings.name);
            stale.remove(&name);
            Arc::make_mut(&mut self.table.clusters).insert(name, Arc::new(cluster));
        }
    }

    fn unassign(&mut self, cluster: &Cluster) {
        let EndpointSource::Eds(service) = &cluster.settings.source else {
            return;
        };
        if *service == cluster.settings.name {
            return;
        }
        let assigned = Arc::make_mut(&mut self.table.assigned);
        if let Some(clusters) = assigned.get_mut(service) {
            clusters.remove(&cluster.settings.name);
            if clusters.is_empty() {
                assigned.remove(service);
            }
        }
    }

    fn join(&self, settings: Arc<Settings>) -> Cluster {
        let assignment = match &settings.source {
            EndpointSource::Inline => settings.inline.clone(),
            EndpointSource::Eds(service) => self.table.assignments.get(service).cloned(),
            EndpointSource::OriginalDestination => None,
        };
        let assignment = assignment.unwrap_or_else(Assignment::empty);
        Cluster::join(settings, assignment, &Issuing(&self.table.issuers))
    }

    fn rejoin(&mut self, stale: &BTreeSet<Arc<str>>) {
        for name in stale {
            let Some(known) = self.table.clusters.get(name).cloned() else {
                continue;
            };
            let cluster = self.join(Arc::clone(&known.settings));
            if cluster != *known {
                let name = Arc::clone(&known.settings.name);
                Arc::make_mut(&mut self.table.clusters).insert(name, Arc::new(cluster));
            }
        }
    }

    fn routes<'a>(&mut self, changes: &Changes, gone: impl Iterator<Item = &'a str>) {
        for name in gone {
            if self.table.routes.contains_key(name) {
                Arc::make_mut(&mut self.table.routes).remove(name);
            }
        }
        for routes in &changes.routes {
            let read = self.read(Kind::Route, &routes.name, |interner| {
                RouteTable::read(routes, interner)
            });
            if let Some(read) = read {
                let name = Arc::clone(read.name());
                Arc::make_mut(&mut self.table.routes).insert(name, Arc::new(read));
            }
        }
    }

    fn listeners<'a>(&mut self, changes: &Changes, gone: impl Iterator<Item = &'a str>) {
        for name in gone {
            if self.table.listeners.contains_key(name) {
                let listeners = Arc::make_mut(&mut self.table.listeners);
                if let Some(listener) = listeners.remove(name) {
                    Arc::make_mut(&mut self.table.by_address).remove(&listener.address());
                }
            }
        }
        let mut read: Vec<Arc<Listener>> = Vec::new();
        for listener in &changes.listeners {
            let result = self.read(Kind::Listener, &listener.name, |interner| {
                Listener::read(listener, interner)
            });
            read.extend(result.map(Arc::new));
        }
        // Two listeners may trade their addresses, so the old addresses of all go before the new ones come.
        for listener in &read {
            if let Some(known) = self.table.listeners.get(listener.name()) {
                let address = known.address();
                Arc::make_mut(&mut self.table.by_address).remove(&address);
            }
        }
        for listener in read {
            let address = listener.address();
            let owner = self.table.by_address.get(&address);
            if let Some(owner) = owner.filter(|owner| owner.name() != listener.name()) {
                let reason = format!("{address} is that of listener {:?}", owner.name());
                let fault = Fault::new("address", reason);
                self.refusals
                    .push(fault.of(Kind::Listener, listener.name()));
                if let Some(known) = self.table.listeners.get(listener.name()) {
                    let known = Arc::clone(known);
                    Arc::make_mut(&mut self.table.by_address)
                        .entry(known.address())
                        .or_insert(known);
                }
                continue;
            }
            let name = Arc::clone(listener.name());
            Arc::make_mut(&mut self.table.by_address).insert(address, Arc::clone(&listener));
            let before = Arc::make_mut(&mut self.table.listeners).insert(name, listener);
            if let Some(before) = before.filter(|before| before.address() != address) {
                let by_address = Arc::make_mut(&mut self.table.by_address);
                let at = before.address();
                if by_address
                    .get(&at)
                    .is_some_and(|l| l.name() == before.name())
                {
                    by_address.remove(&at);
                }
            }
        }
    }
}

fn names(changes: &Changes) -> impl Iterator<Item = (Kind, String)> {
    let listeners = changes.listeners.iter().map(|r| (Kind::Listener, &r.name));
    let routes = changes.routes.iter().map(|r| (Kind::Route, &r.name));
    let clusters = changes.clusters.iter().map(|r| (Kind::Cluster, &r.name));
    let assignments = changes
        .assignments
        .iter()
        .map(|r| (Kind::Assignment, &r.cluster_name));
    let issuers = changes.issuers.iter().map(|r| (Kind::Issuers, &r.cluster));
    listeners
        .chain(routes)
        .chain(clusters)
        .chain(assignments)
        .chain(issuers)
        .map(|(kind, name)| (kind, name.clone()))
}

#[cfg(test)]
mod tests;
