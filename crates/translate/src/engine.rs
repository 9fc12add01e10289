//! The incremental way: work is proportional to what changed, and to how many classes of proxies hear of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Weak};

use catamaran_model::{ClusterId, NetworkId, ServiceKey, WorkloadKey};
use catamaran_registry::{Problem, Snapshot};
use catamaran_xds::{OfKind, Resource, ResourceKey, ResourceSet, TypeUrlKind, Version};

use crate::class::{Class, Group, Told};
use crate::index::{Edit, Index, LocalEdit, all_http_ports, edits};
use crate::scope::{Gateways, ways_into};
use crate::settings::Settings;
use crate::{Audience, ClustersReader};

/// One open audience: one proxy on one stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AudienceId(u64);

/// One projection that proxies share. It stays the same as long as one audience of it is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClassId(u64);

/// What came of [`Engine::open`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opened {
    /// For [`Engine::close`] and [`Engine::resources`].
    pub audience: AudienceId,
    /// The classes whose changes concern it, for as long as it is open.
    pub classes: Vec<ClassId>,
}

/// One resource of a class is other than before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ResourceChange {
    /// It is new, or has new content.
    Put(Arc<Resource>),
    /// It is no more.
    Gone(ResourceKey),
}

impl ResourceChange {
    /// Which resource.
    pub fn key(&self) -> ResourceKey {
        match self {
            ResourceChange::Put(resource) => resource.key(),
            ResourceChange::Gone(key) => key.clone(),
        }
    }
}

/// Holds the resources of every open audience, class by class, and follows snapshots.
///
/// What it holds always equals what [`translate`](crate::translate) says of the same snapshot and audience, bytes included.
/// Content that is equal is one `Arc`, whichever classes hold it.
#[derive(Debug)]
pub struct Engine {
    snapshot: Arc<Snapshot>,
    index: Index,
    classes: BTreeMap<ClassId, OpenClass>,
    ids: BTreeMap<Class, ClassId>,
    /// The classes that are of one workload each. They are as many as proxies, and few of them have to do with a change.
    of_workload: BTreeMap<(ClusterId, WorkloadKey), BTreeSet<ClassId>>,
    /// All others.
    of_many: BTreeSet<ClassId>,
    audiences: BTreeMap<AudienceId, Vec<ClassId>>,
    pool: Pool,
    next: u64,
}

impl Engine {
    /// With nobody listening yet.
    pub fn new(snapshot: Arc<Snapshot>) -> Engine {
        Engine {
            index: Index::of(&snapshot),
            snapshot,
            classes: BTreeMap::new(),
            ids: BTreeMap::new(),
            of_workload: BTreeMap::new(),
            of_many: BTreeSet::new(),
            audiences: BTreeMap::new(),
            pool: Pool::default(),
            next: 0,
        }
    }

    /// Adds a proxy. Only classes that no open audience belongs to are built.
    pub fn open(&mut self, audience: &Audience) -> Opened {
        let classes: Vec<ClassId> = Class::all_of(audience)
            .into_iter()
            .map(|class| self.enter(class))
            .collect();
        self.next += 1;
        let audience = AudienceId(self.next);
        self.audiences.insert(audience, classes.clone());
        Opened { audience, classes }
    }

    /// Takes a proxy out, and the classes that nobody else belongs to. An id that is not open is ignored.
    pub fn close(&mut self, audience: AudienceId) {
        let closed = self.audiences.remove(&audience);
        for id in closed.into_iter().flatten() {
            let Some(class) = self.classes.get_mut(&id) else {
                continue;
            };
            class.members -= 1;
            if class.members == 0
                && let Some(class) = self.classes.remove(&id)
            {
                self.leave(id, &class.key);
            }
        }
    }

    /// A class has no members any more.
    fn leave(&mut self, id: ClassId, key: &Class) {
        self.ids.remove(key);
        match key.workload() {
            None => drop(self.of_many.remove(&id)),
            Some(workload) => {
                if let Some(all) = self.of_workload.get_mut(&workload) {
                    all.remove(&id);
                    if all.is_empty() {
                        self.of_workload.remove(&workload);
                    }
                }
            }
        }
        if let Some(cluster) = key.local()
            && !self.ids.keys().any(|other| other.local() == Some(cluster))
        {
            self.index.locals.remove(cluster);
        }
    }

    /// Everything that a proxy should hold; empty for an id that is not open.
    ///
    /// A kind that comes from one class, as endpoints and routes do, is shared by all its members; of one that comes from
    /// several, all but a small part is. So this costs the same however many services there are.
    pub fn resources(&self, audience: AudienceId) -> ResourceSet {
        let mut set = ResourceSet::default();
        for kind in TypeUrlKind::ALL {
            let all = self.of_kind(&self.sayers(audience, kind), kind);
            set.put_shared(kind, all);
        }
        set
    }

    /// Those of an audience's classes that resources of a kind may come from.
    pub fn sayers(&self, audience: AudienceId, kind: TypeUrlKind) -> Vec<ClassId> {
        let classes = self.audiences.get(&audience).into_iter().flatten();
        let says = |id: &&ClassId| {
            let class = self.classes.get(id);
            class.is_some_and(|class| class.key.kinds().contains(&kind))
        };
        classes.filter(says).copied().collect()
    }

    /// What these classes say of a kind.
    pub fn of_kind(&self, classes: &[ClassId], kind: TypeUrlKind) -> Arc<OfKind> {
        let mut set = ResourceSet::default();
        for class in classes.iter().filter_map(|id| self.classes.get(id)) {
            set.join(&class.set, kind);
        }
        set.shared(kind)
    }

    /// What people should know, as far as open audiences are concerned; in order, each once.
    pub fn problems(&self) -> Vec<Problem> {
        let problems = self.classes.values().flat_map(|class| {
            let groups = class.groups.values();
            groups.flat_map(|group| group.problems.iter().cloned())
        });
        problems.collect::<BTreeSet<_>>().into_iter().collect()
    }

    /// The snapshot that the resources are made from.
    pub fn snapshot(&self) -> &Arc<Snapshot> {
        &self.snapshot
    }

    /// Follows to a snapshot, and says what changed in which class. Snapshots may be skipped.
    ///
    /// A change of a service's endpoints touches that service's assignments, once for each place that proxies are in; a
    /// change of settings touches everything, and content decides what is told.
    pub fn advance(&mut self, snapshot: &Arc<Snapshot>) -> Vec<(ClassId, ResourceChange)> {
        let old = std::mem::replace(&mut self.snapshot, snapshot.clone());
        if Settings::of(snapshot) != self.index.settings {
            return self.start_over();
        }
        let edits = edits(&old, snapshot);
        let locals = self.index.follow(&edits, snapshot);
        let delta = Delta::of(&edits, locals, &old, snapshot);
        let mut memory = BTreeMap::new();
        let mut changes = Vec::new();
        let of_workload = delta.locals.iter().flat_map(|(cluster, local)| {
            let workloads = local.workloads.iter();
            workloads.map(|workload| (cluster.clone(), workload.clone()))
        });
        let of_workload = of_workload.filter_map(|workload| self.of_workload.get(&workload));
        for id in self.of_many.iter().chain(of_workload.flatten()) {
            let Some(class) = self.classes.get_mut(id) else {
                continue;
            };
            for group in delta.groups(&class.key) {
                let told = tell(
                    &class.key,
                    &group,
                    snapshot,
                    &self.index,
                    &mut self.pool,
                    &mut memory,
                );
                class.replace(group, told, |change| changes.push((*id, change)));
            }
        }
        changes
    }

    fn start_over(&mut self) -> Vec<(ClassId, ResourceChange)> {
        let clusters: Vec<ClusterId> = self.index.locals.keys().cloned().collect();
        self.index = Index::of(&self.snapshot);
        for cluster in &clusters {
            self.index.add_local(cluster, &self.snapshot);
        }
        let mut memory = BTreeMap::new();
        let mut changes = Vec::new();
        for (id, class) in &mut self.classes {
            let mut groups: BTreeSet<Group> = class.groups.keys().cloned().collect();
            groups.extend(class.key.groups(&self.snapshot, &self.index));
            for group in groups {
                let told = tell(
                    &class.key,
                    &group,
                    &self.snapshot,
                    &self.index,
                    &mut self.pool,
                    &mut memory,
                );
                class.replace(group, told, |change| changes.push((*id, change)));
            }
        }
        changes
    }

    fn enter(&mut self, key: Class) -> ClassId {
        if let Some(id) = self.ids.get(&key) {
            if let Some(class) = self.classes.get_mut(id) {
                class.members += 1;
            }
            return *id;
        }
        if let Some(cluster) = key.local()
            && !self.index.locals.contains_key(cluster)
        {
            let cluster = cluster.clone();
            self.index.add_local(&cluster, &self.snapshot);
        }
        let mut class = OpenClass {
            key: key.clone(),
            members: 1,
            groups: BTreeMap::new(),
            claims: BTreeMap::new(),
            set: ResourceSet::default(),
        };
        let mut memory = BTreeMap::new();
        for group in key.groups(&self.snapshot, &self.index) {
            let told = tell(
                &key,
                &group,
                &self.snapshot,
                &self.index,
                &mut self.pool,
                &mut memory,
            );
            class.replace(group, told, |_| ());
        }
        self.next += 1;
        let id = ClassId(self.next);
        match key.workload() {
            None => drop(self.of_many.insert(id)),
            Some(workload) => drop(self.of_workload.entry(workload).or_default().insert(id)),
        }
        self.ids.insert(key, id);
        self.classes.insert(id, class);
        id
    }
}

/// What was told already in the same step, by narrowed class.
type Memory = BTreeMap<(Class, Group), Told>;

fn tell(
    class: &Class,
    group: &Group,
    snapshot: &Snapshot,
    index: &Index,
    pool: &mut Pool,
    memory: &mut Memory,
) -> Told {
    let narrow = class.narrow(index);
    if narrow == *class {
        let mut told = class.tell(group, snapshot, index);
        pool.share(&mut told.resources);
        return told;
    }
    let key = (narrow, group.clone());
    let mut told = match memory.get(&key) {
        Some(told) => told.clone(),
        None => {
            let mut told = key.0.tell(group, snapshot, index);
            pool.share(&mut told.resources);
            memory.insert(key, told.clone());
            told
        }
    };
    told.problems.extend(class.own_problems(index));
    told
}

/// What differs between two snapshots with the same settings.
struct Delta {
    /// Services with any change.
    services: BTreeSet<ServiceKey>,
    /// Services of which more than the endpoints changed.
    reshaped: BTreeSet<ServiceKey>,
    /// Services that are reached through a gateway which came, went or moved.
    rerouted: BTreeSet<ServiceKey>,
    /// Clusters with other issuers.
    issuers: BTreeSet<ClusterId>,
    /// HTTP ports of reshaped services, before and after.
    ports: BTreeSet<u16>,
    locals: BTreeMap<ClusterId, LocalEdit>,
    /// HTTP ports of services whose virtual address moved, by cluster.
    moved_ports: BTreeMap<ClusterId, BTreeSet<u16>>,
}

impl Delta {
    fn of(
        edits: &[Edit<'_>],
        locals: BTreeMap<ClusterId, LocalEdit>,
        old: &Snapshot,
        new: &Snapshot,
    ) -> Delta {
        let reshaped = edits.iter().filter(|edit| edit.reshaped());
        let ports = reshaped.clone().flat_map(|edit| {
            let versions = edit.old.into_iter().chain(edit.new);
            versions.flat_map(|service| all_http_ports(service))
        });
        let moved_ports = |(cluster, local): (&ClusterId, &LocalEdit)| {
            let moved = local.moved.iter().filter_map(|key| new.services.get(key));
            let ports = moved.flat_map(|service| all_http_ports(service));
            (cluster.clone(), ports.collect())
        };
        Delta {
            services: edits.iter().map(|edit| edit.key.clone()).collect(),
            reshaped: reshaped.clone().map(|edit| edit.key.clone()).collect(),
            rerouted: rerouted(old, new),
            issuers: old
                .issuers
                .keys()
                .chain(new.issuers.keys())
                .filter(|cluster| old.issuers.get(*cluster) != new.issuers.get(*cluster))
                .cloned()
                .collect(),
            ports: ports.collect(),
            moved_ports: locals.iter().map(moved_ports).collect(),
            locals,
        }
    }

    /// The groups of a class that may lead to something else now.
    fn groups(&self, class: &Class) -> BTreeSet<Group> {
        let services = |keys: &BTreeSet<ServiceKey>| -> BTreeSet<Group> {
            keys.iter().cloned().map(Group::Service).collect()
        };
        let whole = |changed: bool| -> BTreeSet<Group> {
            changed.then_some(Group::Whole).into_iter().collect()
        };
        let ports = |cluster: &ClusterId| -> BTreeSet<Group> {
            let moved = self.moved_ports.get(cluster).into_iter().flatten();
            self.ports
                .iter()
                .chain(moved)
                .copied()
                .map(Group::Port)
                .collect()
        };
        let local = |cluster: &ClusterId| self.locals.get(cluster);
        match class {
            Class::Sidecar(_) | Class::Gateway | Class::Inbound(_) => BTreeSet::new(),
            Class::Issuers => self.issuers.iter().cloned().map(Group::Cluster).collect(),
            Class::Clusters(audience) => {
                let mut groups = services(&self.services);
                if let ClustersReader::Envoy { .. } = audience.reader {
                    groups.extend(services(&self.rerouted));
                }
                groups
            }
            Class::Endpoints(_) => {
                let mut groups = services(&self.services);
                groups.extend(services(&self.rerouted));
                groups
            }
            Class::Listeners(audience) => {
                let mut groups = services(&self.reshaped);
                groups.extend(self.ports.iter().copied().map(Group::Port));
                if let Some(local) = local(&audience.cluster) {
                    groups.extend(services(&local.moved));
                }
                groups
            }
            Class::Routes(audience) => ports(&audience.cluster),
            Class::Names(cluster) => {
                let moved = local(cluster).is_some_and(|local| !local.moved.is_empty());
                whole(moved || !self.reshaped.is_empty())
            }
            Class::Workload(audience) => whole(
                local(&audience.cluster)
                    .is_some_and(|local| local.workloads.contains(&audience.workload)),
            ),
            Class::GatewayListener(_) => whole(!self.reshaped.is_empty()),
            Class::GatewayClusters(_) => services(&self.reshaped),
            Class::GatewayEndpoints(_) => services(&self.services),
        }
    }
}

/// The services with an endpoint whose ways in differ between the two. Costs nothing while gateways stay.
fn rerouted(old: &Snapshot, new: &Snapshot) -> BTreeSet<ServiceKey> {
    let changed = changed_ways(&old.gateways, &new.gateways);
    if changed.is_empty() {
        return BTreeSet::new();
    }
    let affected = new.services.iter().filter(|(_, service)| {
        service.endpoints.iter().any(|endpoint| {
            let network = endpoint.network.as_ref();
            network.is_some_and(|network| changed.contains(&(network, &endpoint.cluster)))
        })
    });
    affected.map(|(key, _)| key.clone()).collect()
}

fn changed_ways<'a>(
    old: &'a Gateways,
    new: &'a Gateways,
) -> BTreeSet<(&'a NetworkId, &'a ClusterId)> {
    if old == new {
        return BTreeSet::new();
    }
    let all = old.iter().chain(new).flat_map(|(network, ways)| {
        let clusters = ways.iter().map(|(cluster, _)| cluster);
        clusters.map(move |cluster| (network, cluster))
    });
    all.filter(|(network, cluster)| {
        ways_into(old, Some(network), cluster) != ways_into(new, Some(network), cluster)
    })
    .collect()
}

/// A class with members, and what it holds.
#[derive(Debug)]
struct OpenClass {
    key: Class,
    members: usize,
    groups: BTreeMap<Group, Held>,
    claims: BTreeMap<ResourceKey, Vec<Claim>>,
    /// What those who have a name put there.
    set: ResourceSet,
}

/// Of those who claim a name, the smallest group has it, and stands first.
type Claim = (Group, Arc<Resource>);

/// What a group of a class led to.
#[derive(Debug)]
struct Held {
    names: Vec<ResourceKey>,
    problems: Vec<Problem>,
}

impl OpenClass {
    /// Puts `told` in the place of what the group led to before.
    fn replace(&mut self, group: Group, told: Told, mut changed: impl FnMut(ResourceChange)) {
        let before = self.groups.remove(&group);
        let mut gone: BTreeSet<ResourceKey> = before
            .map(|held| held.names.into_iter().collect())
            .unwrap_or_default();
        let mut names = Vec::new();
        for resource in told.resources {
            let name = resource.key();
            debug_assert!(self.key.kinds().contains(&name.kind), "{name:?}");
            gone.remove(&name);
            if names.contains(&name) {
                continue;
            }
            self.claim(&group, &name, Some(resource), &mut changed);
            names.push(name);
        }
        for name in gone {
            self.claim(&group, &name, None, &mut changed);
        }
        if !names.is_empty() || !told.problems.is_empty() {
            let problems = told.problems;
            self.groups.insert(group, Held { names, problems });
        }
    }

    fn claim(
        &mut self,
        group: &Group,
        name: &ResourceKey,
        resource: Option<Arc<Resource>>,
        changed: &mut impl FnMut(ResourceChange),
    ) {
        let claims = self.claims.entry(name.clone()).or_default();
        let before = claims.first().map(|(_, resource)| resource.clone());
        match (
            claims.binary_search_by(|(other, _)| other.cmp(group)),
            resource,
        ) {
            (Ok(at), Some(resource)) => claims[at].1 = resource,
            (Ok(at), None) => drop(claims.remove(at)),
            (Err(at), Some(resource)) => claims.insert(at, (group.clone(), resource)),
            (Err(_), None) => (),
        }
        let after = claims.first().map(|(_, resource)| resource.clone());
        if claims.is_empty() {
            self.claims.remove(name);
        }
        let change = match (before, after) {
            (None, None) => return,
            (Some(before), Some(after)) if before.version == after.version => return,
            (_, Some(after)) => {
                self.set.insert(after.clone());
                ResourceChange::Put(after)
            }
            (Some(_), None) => {
                self.set.remove(name.kind, &name.name);
                ResourceChange::Gone(name.clone())
            }
        };
        changed(change);
    }
}

/// Makes equal content one `Arc`, as long as somebody holds it.
#[derive(Debug, Default)]
struct Pool {
    known: BTreeMap<(TypeUrlKind, Arc<str>, Version), Weak<Resource>>,
    /// How many were alive when it was last cleaned.
    alive: usize,
}

/// Below this size the pool is not worth cleaning.
const SMALL_POOL: usize = 1024;

impl Pool {
    fn share(&mut self, resources: &mut [Arc<Resource>]) {
        for resource in resources {
            let key = (resource.kind, resource.name.clone(), resource.version);
            match self.known.get(&key).and_then(Weak::upgrade) {
                Some(same) => *resource = same,
                None => {
                    self.known.insert(key, Arc::downgrade(resource));
                }
            }
        }
        if self.known.len() > 2 * self.alive.max(SMALL_POOL) {
            self.known.retain(|_, held| held.strong_count() > 0);
            self.alive = self.known.len();
        }
    }
}

#[cfg(test)]
mod tests;
