//! What the watches of one cluster say, joined to the facts that the registry hears. No clock, no sockets.
//!
//! Each kind has a shelf: what is known of it, and beside that a list in progress, which takes its place only when it is
//! complete. The cluster's own list is complete when all shelves are; it goes out in one piece. What fails leaves its shelf as
//! it was.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use catamaran_model::{
    ClusterId, Endpoint, EndpointAddress, EndpointSlice, Locality, Namespace, Region,
    ServiceAccount, SliceKey, TlsMode, WorkloadKey,
};
use catamaran_registry::{Fact, FactKey, Observed, Problem, ProblemKind, Revision, Severity};

use crate::failure::Failure;
use crate::remote::{Held, RemoteSecret};
use crate::rights::Rights;
use crate::seen::{
    GatewayHost, Kept, Key, Kind, PodFacts, SeenEndpoint, SeenNode, SeenService, SeenSlice,
    member_of,
};

/// The most objects of one kind: more than the registry takes of any, so that the limits are told there.
const MAX_OBJECTS: usize = 500_000;
/// The most problems of single objects that are told.
const MAX_PROBLEMS: usize = 200;

/// What the watch of one kind says.
pub(crate) enum Told {
    /// A list begins; what was said of an earlier one that is not complete does not count.
    Begins(Kind),
    /// An object is there, in this form, with what is left out of it.
    Put(Key, Kept, Vec<String>),
    /// An object is there and cannot be used; what was known of it stays.
    Bad(Kind, Option<Key>, String),
    /// An object is there and means nothing to the mesh, or is gone.
    Gone(Kind, Key),
    /// The list is complete.
    Listed(Kind, String),
    /// The watch is open and goes on without a gap.
    Alive(Kind),
    /// The kind does not exist there, or need not be readable: nothing of it is said.
    Without(Kind, String),
    /// The kind cannot be listed or watched.
    Lost(Kind, Failure),
    /// Where the names of gateways lead.
    Resolved(BTreeMap<String, Vec<EndpointAddress>>),
    /// What the credential may do.
    Rights(Rights),
}

/// What the registry should hear.
#[derive(Debug)]
pub(crate) enum Say {
    /// One change.
    One(Observed),
    /// The complete list of the cluster, [`Join::whole`]; it is too large to be made at once.
    Whole,
}

impl From<Observed> for Say {
    fn from(observed: Observed) -> Say {
        Say::One(observed)
    }
}

/// How far one kind is.
#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    /// It was never listed.
    Unlisted,
    /// It is listed and its watch lives.
    Live,
    /// It is not readable, which is no failure.
    Without(String),
    /// It is listed, or not, and cannot be read now.
    Lost(Failure),
}

struct Shelf<V> {
    now: BTreeMap<Key, V>,
    next: Option<BTreeMap<Key, V>>,
    /// Objects of the list in progress that cannot be used; what was known of them stays.
    unusable: BTreeSet<Key>,
}

impl<V> Default for Shelf<V> {
    fn default() -> Self {
        Shelf {
            now: BTreeMap::new(),
            next: None,
            unusable: BTreeSet::new(),
        }
    }
}

impl<V> Shelf<V> {
    fn begin(&mut self) {
        self.next = Some(BTreeMap::new());
        self.unusable.clear();
    }

    fn complete(&mut self) {
        let Some(mut next) = self.next.take() else {
            return;
        };
        for key in std::mem::take(&mut self.unusable) {
            if let Some(known) = self.now.remove(&key) {
                next.entry(key).or_insert(known);
            }
        }
        self.now = next;
    }
}

/// The facts of one cluster.
pub(crate) struct Join {
    cluster: ClusterId,
    states: BTreeMap<Kind, State>,
    /// Kinds of which there was a complete list.
    listed: BTreeSet<Kind>,
    revision: u64,

    meshes: Shelf<catamaran_model::MeshSpec>,
    members: Shelf<catamaran_model::Member>,
    secrets: Shelf<RemoteSecret>,
    istio_secrets: Shelf<RemoteSecret>,
    namespaces: Shelf<crate::seen::SeenNamespace>,
    exports: Shelf<catamaran_model::MeshExport>,
    nodes: Shelf<SeenNode>,
    services: Shelf<SeenService>,
    slices: Shelf<SeenSlice>,
    pods: Shelf<Arc<PodFacts>>,

    /// Equal facts of pods are one.
    common: BTreeSet<Arc<PodFacts>>,
    swept: usize,
    /// Pods that are gone and still in a slice: the slice has the last word.
    departed: BTreeSet<Key>,
    /// Pods that slices speak of and nobody has seen.
    missing: BTreeSet<Key>,
    /// What the names of gateways lead to.
    resolved: BTreeMap<String, Vec<EndpointAddress>>,
    problems: BTreeMap<(Kind, Key), String>,
    /// What the credential may do, once it is known.
    rights: Option<Rights>,
    /// The namespace of the last object.
    neighbour: Option<Namespace>,

    /// A complete list was said.
    said: bool,
    /// A list of some kind is newer than what was said as a whole.
    stale: bool,
    /// What was told, while discovery is lost.
    lost: Option<(Kind, Failure)>,
    secrets_changed: bool,
    /// Something that is told beside the facts may be different.
    beside_changed: bool,
}

macro_rules! shelf {
    ($join:expr, $kind:expr, $shelf:ident => $what:expr) => {
        match $kind {
            Kind::Mesh => {
                let $shelf = &mut $join.meshes;
                $what
            }
            Kind::Cluster => {
                let $shelf = &mut $join.members;
                $what
            }
            Kind::RemoteSecret => {
                let $shelf = &mut $join.secrets;
                $what
            }
            Kind::IstioSecret => {
                let $shelf = &mut $join.istio_secrets;
                $what
            }
            Kind::Namespace => {
                let $shelf = &mut $join.namespaces;
                $what
            }
            Kind::MeshExport => {
                let $shelf = &mut $join.exports;
                $what
            }
            Kind::Node => {
                let $shelf = &mut $join.nodes;
                $what
            }
            Kind::Service => {
                let $shelf = &mut $join.services;
                $what
            }
            Kind::EndpointSlice => {
                let $shelf = &mut $join.slices;
                $what
            }
            Kind::Pod => {
                let $shelf = &mut $join.pods;
                $what
            }
        }
    };
}

impl Join {
    /// Nothing is known yet; all of `kinds` must be listed before the cluster is.
    pub(crate) fn new(cluster: ClusterId, kinds: impl IntoIterator<Item = Kind>) -> Join {
        Join {
            cluster,
            states: (kinds.into_iter())
                .map(|kind| (kind, State::Unlisted))
                .collect(),
            listed: BTreeSet::new(),
            revision: 0,
            meshes: Shelf::default(),
            members: Shelf::default(),
            secrets: Shelf::default(),
            istio_secrets: Shelf::default(),
            namespaces: Shelf::default(),
            exports: Shelf::default(),
            nodes: Shelf::default(),
            services: Shelf::default(),
            slices: Shelf::default(),
            pods: Shelf::default(),
            common: BTreeSet::new(),
            swept: 0,
            departed: BTreeSet::new(),
            missing: BTreeSet::new(),
            resolved: BTreeMap::new(),
            problems: BTreeMap::new(),
            rights: None,
            neighbour: None,
            said: false,
            stale: false,
            lost: None,
            secrets_changed: false,
            beside_changed: true,
        }
    }

    /// Takes up what a watch says, and gives what the registry should hear.
    pub(crate) fn take(&mut self, told: Told) -> Vec<Say> {
        let mut out = Vec::new();
        // Pods and slices, which change most, say nothing beside their facts but problems.
        self.beside_changed |= !matches!(
            &told,
            Told::Put(_, Kept::Pod(_) | Kept::EndpointSlice(_), _)
                | Told::Gone(Kind::Pod | Kind::EndpointSlice, _)
                | Told::Begins(_)
        );
        match told {
            Told::Begins(kind) => shelf!(self, kind, shelf => shelf.begin()),
            Told::Put(key, kept, notes) => self.put(key, kept, notes, &mut out),
            Told::Bad(kind, key, reason) => self.bad(kind, key, reason),
            Told::Gone(kind, key) => self.gone(kind, key, &mut out),
            Told::Listed(kind, revision) => {
                self.listed(kind, &revision);
                self.enter(kind, State::Live, &mut out);
            }
            Told::Alive(kind) => self.enter(kind, State::Live, &mut out),
            Told::Without(kind, why) => {
                // What was readable once and is not any more is a loss.
                match self.listed.contains(&kind) {
                    false => {
                        self.stale |= !matches!(self.states.get(&kind), Some(State::Without(_)));
                        self.enter(kind, State::Without(why), &mut out);
                    }
                    true => self.enter(kind, State::Lost(Failure::Absent), &mut out),
                }
            }
            Told::Lost(Kind::Node, failure) => {
                // Localities of nodes are a help; nothing waits for them.
                let known = self.states.get(&Kind::Node);
                if !self.listed.contains(&Kind::Node) && !matches!(known, Some(State::Without(_))) {
                    let why = failure.about(Kind::Node.plural());
                    self.stale = true;
                    self.enter(Kind::Node, State::Without(why), &mut out);
                }
            }
            Told::Lost(kind, failure) => self.enter(kind, State::Lost(failure), &mut out),
            Told::Resolved(found) => self.resolve(found, &mut out),
            Told::Rights(rights) => self.rights = Some(rights),
        }
        if !self.said {
            // Nothing single is said before the first list.
            out.retain(|say| matches!(say, Say::One(Observed::Lost(_))));
        }
        out
    }

    fn listed(&mut self, kind: Kind, revision: &str) {
        if let Kind::Pod = kind {
            // The slices have the last word on pods that are not in the list.
            let spoken_of = self.pods_in_slices();
            let gone: Vec<Key> = (self.pods.now.keys())
                .filter(|key| {
                    self.pods
                        .next
                        .as_ref()
                        .is_some_and(|next| !next.contains_key(*key))
                })
                .filter(|key| spoken_of.contains(*key))
                .cloned()
                .collect();
            self.departed.clear();
            for key in gone {
                if let (Some(next), Some(facts)) = (&mut self.pods.next, self.pods.now.get(&key)) {
                    next.insert(key.clone(), facts.clone());
                }
                self.departed.insert(key);
            }
        }
        let listed: Option<BTreeSet<Key>> = shelf!(self, kind, shelf => {
            shelf.complete();
            (!self.problems.is_empty()).then(|| shelf.now.keys().cloned().collect())
        });
        if let Some(listed) = listed {
            self.problems
                .retain(|(of, key), _| *of != kind || listed.contains(key));
        }
        match kind {
            Kind::EndpointSlice => {
                self.drop_departed(None);
                self.note_missing();
            }
            Kind::Pod => {
                self.note_missing();
                self.sweep();
            }
            Kind::RemoteSecret | Kind::IstioSecret => self.secrets_changed = true,
            _ => {}
        }
        self.listed.insert(kind);
        self.revision = self.revision.max(revision.parse().unwrap_or(0));
        self.stale = true;
    }

    /// A kind changes its state; what the cluster as a whole has to say follows from all of them.
    fn enter(&mut self, kind: Kind, state: State, out: &mut Vec<Say>) {
        self.states.insert(kind, state);
        let lost = self.states.iter().find_map(|(kind, state)| match state {
            State::Lost(failure) => Some((*kind, failure.clone())),
            _ => None,
        });
        match lost {
            Some((kind, failure)) => {
                let told = self.lost.as_ref().is_some_and(|(of, known)| {
                    failure.is_same_news(kind.plural(), known, of.plural())
                });
                if !told {
                    out.push(Observed::Lost(failure.about(kind.plural())).into());
                    self.lost = Some((kind, failure));
                }
            }
            None if self.states.values().any(|state| *state == State::Unlisted) => {}
            None if self.stale => {
                self.stale = false;
                self.said = true;
                self.lost = None;
                out.push(Say::Whole);
            }
            None => {
                if self.lost.take().is_some() {
                    out.push(Observed::Back.into());
                }
            }
        }
    }

    /// The complete list of the cluster, made as it is asked for.
    pub(crate) fn whole(&self) -> impl Iterator<Item = Observed> {
        let meshes = self.meshes.now.values().cloned().map(Fact::Mesh);
        let members = self.all_members().into_values().map(Fact::Member);
        let namespaces = self.namespaces.now.values();
        let namespaces = namespaces.map(|n| Fact::Namespace(n.facts.clone()));
        let exports = self.exports.now.values().cloned().map(Fact::Export);
        let services = self.services.now.values();
        let gateways = services.clone().flat_map(|service| self.gateways(service));
        let services = services.filter_map(|service| service.service.clone());
        let slices = self.slices.now.values();
        let slices = slices.map(|slice| Fact::Slice(self.slice(slice)));
        let facts = (meshes.chain(members).chain(namespaces).chain(exports))
            .chain(gateways.map(Fact::Gateway))
            .chain(services.map(Fact::Service))
            .chain(slices);
        let listed = Observed::Listed(Revision(self.revision));
        std::iter::once(Observed::Relisting)
            .chain(facts.map(Observed::Upsert))
            .chain(std::iter::once(listed))
    }

    fn put(&mut self, mut key: Key, kept: Kept, notes: Vec<String>, out: &mut Vec<Say>) {
        // Lists come in the order of namespaces, so neighbours share the text of theirs.
        match key.namespace == self.neighbour {
            true => key.namespace.clone_from(&self.neighbour),
            false => self.neighbour.clone_from(&key.namespace),
        }
        let kind = kind_of(&kept);
        match notes.is_empty() {
            true => self.no_problem(kind, &key),
            false => self.problem(kind, key.clone(), notes.join("; ")),
        }
        let full = shelf!(self, kind, shelf => {
            shelf.next.as_ref().unwrap_or(&shelf.now).len() >= MAX_OBJECTS
        });
        if full {
            return;
        }
        macro_rules! next {
            ($shelf:ident, $value:expr) => {
                if let Some(next) = &mut self.$shelf.next {
                    next.insert(key, $value);
                    return;
                }
            };
        }
        match kept {
            Kept::Mesh(mesh) => {
                next!(meshes, mesh);
                let region = self.region().cloned();
                out.push(Observed::Upsert(Fact::Mesh(mesh.clone())).into());
                self.meshes.now.insert(key, mesh);
                self.region_after(region, out);
            }
            Kept::Cluster(member) => {
                next!(members, member);
                out.push(Observed::Upsert(Fact::Member(member.clone())).into());
                self.members.now.insert(key, member);
            }
            Kept::RemoteSecret(secret) => {
                let before = self.all_members();
                let shelf = match kind {
                    Kind::IstioSecret => &mut self.istio_secrets,
                    _ => &mut self.secrets,
                };
                if let Some(next) = &mut shelf.next {
                    next.insert(key, secret);
                    return;
                }
                shelf.now.insert(key, secret);
                self.secrets_changed = true;
                self.members_after(&before, out);
            }
            Kept::Namespace(namespace) => {
                next!(namespaces, namespace);
                let known = self.namespaces.now.get(&key);
                if known.is_none_or(|known| known.facts != namespace.facts) {
                    out.push(Observed::Upsert(Fact::Namespace(namespace.facts.clone())).into());
                }
                self.namespaces.now.insert(key, namespace);
            }
            Kept::MeshExport(export) => {
                next!(exports, export);
                let region = self.region().cloned();
                if self.exports.now.get(&key) != Some(&export) {
                    out.push(Observed::Upsert(Fact::Export(export.clone())).into());
                }
                self.exports.now.insert(key, export);
                self.region_after(region, out);
            }
            Kept::Node(node) => {
                next!(nodes, node);
                let name = key.name.clone();
                if self.nodes.now.get(&key) != Some(&node) {
                    self.nodes.now.insert(key, node);
                    self.say_slices(out, |endpoint| endpoint.node.as_deref() == Some(&*name));
                }
            }
            Kept::Service(service) => {
                next!(services, service);
                let before = self.services.now.remove(&key);
                self.service_after(before.as_ref(), Some(&service), out);
                self.services.now.insert(key, service);
            }
            Kept::EndpointSlice(slice) => {
                next!(slices, slice);
                if self.slices.now.get(&key) == Some(&slice) {
                    return;
                }
                out.push(Observed::Upsert(Fact::Slice(self.slice(&slice))).into());
                let namespace = slice.key.namespace.clone();
                self.miss(&slice);
                self.slices.now.insert(key, slice);
                self.drop_departed(Some(&namespace));
            }
            Kept::Pod(facts) => {
                let facts = self.shared(facts);
                next!(pods, facts);
                self.departed.remove(&key);
                let known = self.pods.now.get(&key);
                let missed = self.missing.remove(&key);
                let speak = match known {
                    Some(known) => *known != facts,
                    None => missed,
                };
                self.pods.now.insert(key.clone(), facts);
                if speak {
                    self.say_slices_of(&key, out);
                }
                self.sweep();
            }
        }
    }

    fn bad(&mut self, kind: Kind, key: Option<Key>, reason: String) {
        let Some(key) = key else {
            let nameless = Key {
                namespace: None,
                name: "?".into(),
            };
            return self.problem(kind, nameless, reason);
        };
        shelf!(self, kind, shelf => {
            if shelf.next.is_some() {
                shelf.unusable.insert(key.clone());
            }
        });
        let known = shelf!(self, kind, shelf => shelf.now.contains_key(&key));
        let reason = match known {
            true => format!("{reason}; what was known of it before stays in use"),
            false => reason,
        };
        self.problem(kind, key, reason);
    }

    fn no_problem(&mut self, kind: Kind, key: &Key) {
        if !self.problems.is_empty() && self.problems.remove(&(kind, key.clone())).is_some() {
            self.beside_changed = true;
        }
    }

    fn problem(&mut self, kind: Kind, key: Key, reason: String) {
        self.beside_changed = true;
        if self.problems.len() < MAX_PROBLEMS || self.problems.contains_key(&(kind, key.clone())) {
            self.problems.insert((kind, key), reason);
        }
    }

    fn gone(&mut self, kind: Kind, key: Key, out: &mut Vec<Say>) {
        self.no_problem(kind, &key);
        let listing = shelf!(self, kind, shelf => match &mut shelf.next {
            Some(next) => {
                next.remove(&key);
                true
            }
            None => false,
        });
        if listing {
            return;
        }
        match kind {
            Kind::Mesh => {
                let region = self.region().cloned();
                if let Some(mesh) = self.meshes.now.remove(&key) {
                    out.push(Observed::Delete(FactKey::Mesh(mesh.name)).into());
                }
                self.region_after(region, out);
            }
            Kind::Cluster => {
                let before = self.all_members();
                self.members.now.remove(&key);
                self.members_after(&before, out);
            }
            Kind::RemoteSecret | Kind::IstioSecret => {
                let before = self.all_members();
                shelf!(self, kind, shelf => drop(shelf.now.remove(&key)));
                self.secrets_changed = true;
                self.members_after(&before, out);
            }
            Kind::Namespace => {
                if let Some(namespace) = self.namespaces.now.remove(&key) {
                    out.push(Observed::Delete(FactKey::Namespace(namespace.facts.name)).into());
                }
            }
            Kind::MeshExport => {
                let region = self.region().cloned();
                if let Some(export) = self.exports.now.remove(&key) {
                    out.push(Observed::Delete(FactKey::Export(export.mesh)).into());
                }
                self.region_after(region, out);
            }
            // Its pods go with it; until they do, they stand where they stood.
            Kind::Node => {}
            Kind::Service => {
                if let Some(before) = self.services.now.remove(&key) {
                    self.service_after(Some(&before), None, out);
                }
            }
            Kind::EndpointSlice => {
                if let Some(slice) = self.slices.now.remove(&key) {
                    out.push(Observed::Delete(FactKey::Slice(slice.key.clone())).into());
                    self.drop_departed(Some(&slice.key.namespace));
                }
            }
            Kind::Pod => {
                if self.speaks_of(&key) {
                    self.departed.insert(key);
                } else {
                    self.pods.now.remove(&key);
                    self.sweep();
                }
            }
        }
    }

    /// Ours first: where both name a cluster, ours counts.
    fn all_secrets(&self) -> impl Iterator<Item = &RemoteSecret> {
        (self.secrets.now.values()).chain(self.istio_secrets.now.values())
    }

    /// The members that objects and secrets make; an object says more, so it wins.
    fn all_members(&self) -> BTreeMap<ClusterId, catamaran_model::Member> {
        let mut all = BTreeMap::new();
        for secret in self.all_secrets() {
            for cluster in secret
                .clusters
                .keys()
                .filter(|cluster| **cluster != self.cluster)
            {
                all.entry(cluster.clone())
                    .or_insert_with(|| member_of(secret, cluster));
            }
        }
        for member in self.members.now.values() {
            all.insert(member.cluster.clone(), member.clone());
        }
        all
    }

    fn members_after(
        &self,
        before: &BTreeMap<ClusterId, catamaran_model::Member>,
        out: &mut Vec<Say>,
    ) {
        let after = self.all_members();
        for (cluster, member) in &after {
            if before.get(cluster) != Some(member) {
                out.push(Observed::Upsert(Fact::Member(member.clone())).into());
            }
        }
        for cluster in before
            .keys()
            .filter(|cluster| !after.contains_key(*cluster))
        {
            out.push(Observed::Delete(FactKey::Member(cluster.clone())).into());
        }
    }

    fn gateways(&self, service: &SeenService) -> Vec<catamaran_model::NetworkGateway> {
        let lookup = |name: &str| self.resolved.get(name).cloned().unwrap_or_default();
        let gateway = service.gateway.iter();
        gateway
            .flat_map(|gateway| gateway.gateways(lookup))
            .collect()
    }

    fn service_after(
        &self,
        before: Option<&SeenService>,
        after: Option<&SeenService>,
        out: &mut Vec<Say>,
    ) {
        let facts = |seen: Option<&SeenService>| -> BTreeMap<FactKey, Fact> {
            let Some(seen) = seen else {
                return BTreeMap::new();
            };
            let gateways = self.gateways(seen).into_iter().map(Fact::Gateway);
            let service = seen.service.clone().map(Fact::Service);
            let facts = gateways.chain(service);
            facts.map(|fact| (fact.key(), fact)).collect()
        };
        differences(&facts(before), facts(after), out);
    }

    fn resolve(&mut self, found: BTreeMap<String, Vec<EndpointAddress>>, out: &mut Vec<Say>) {
        let facts = |join: &Join| -> BTreeMap<FactKey, Fact> {
            let services = join.services.now.values();
            let gateways = services.flat_map(|service| join.gateways(service));
            let facts = gateways.map(Fact::Gateway);
            facts.map(|fact| (fact.key(), fact)).collect()
        };
        let before = facts(self);
        let names = self.names();
        self.resolved.retain(|name, _| names.contains(name));
        self.resolved.extend(found);
        let after = facts(self);
        differences(&before, after, out);
    }

    /// The host names of gateways.
    pub(crate) fn names(&self) -> BTreeSet<String> {
        let services = self.services.now.values();
        let gateways = services.filter_map(|service| service.gateway.as_ref());
        let hosts = gateways.flat_map(|gateway| &gateway.hosts);
        hosts
            .filter_map(|host| match host {
                GatewayHost::Name(name) => Some(name.clone()),
                GatewayHost::Address(_) => None,
            })
            .collect()
    }

    /// The region of the cluster's instance: as its `Mesh` says, or as it tells others.
    fn region(&self) -> Option<&Region> {
        let meshes = self
            .meshes
            .now
            .values()
            .filter_map(|mesh| mesh.region.as_ref());
        let exports = (self.exports.now.values()).filter_map(|export| export.region.as_ref());
        meshes.chain(exports).next()
    }

    fn region_after(&self, before: Option<Region>, out: &mut Vec<Say>) {
        if self.region() != before.as_ref() {
            self.say_slices(out, |_| true);
        }
    }

    fn say_slices(&self, out: &mut Vec<Say>, any: impl Fn(&SeenEndpoint) -> bool) {
        for slice in self.slices.now.values() {
            if slice.endpoints.iter().any(&any) {
                out.push(Observed::Upsert(Fact::Slice(self.slice(slice))).into());
            }
        }
    }

    fn slices_in<'a>(&'a self, namespace: &'a Namespace) -> impl Iterator<Item = &'a SeenSlice> {
        let from = Key {
            namespace: Some(namespace.clone()),
            name: "".into(),
        };
        (self.slices.now.range(from..))
            .take_while(|(key, _)| key.namespace.as_ref() == Some(namespace))
            .map(|(_, slice)| slice)
    }

    fn say_slices_of(&self, pod: &Key, out: &mut Vec<Say>) {
        let Some(namespace) = &pod.namespace else {
            return;
        };
        for slice in self.slices_in(namespace) {
            if slice.endpoints.iter().any(|e| is(e, pod)) {
                out.push(Observed::Upsert(Fact::Slice(self.slice(slice))).into());
            }
        }
    }

    fn speaks_of(&self, pod: &Key) -> bool {
        let slices = pod.namespace.iter().flat_map(|n| self.slices_in(n));
        slices
            .flat_map(|slice| &slice.endpoints)
            .any(|endpoint| is(endpoint, pod))
    }

    fn pods_in_slices(&self) -> BTreeSet<Key> {
        self.slices.now.values().flat_map(pods_of).collect()
    }

    fn drop_departed(&mut self, namespace: Option<&Namespace>) {
        if self.departed.is_empty() {
            return;
        }
        let concerned = |key: &&Key| namespace.is_none() || key.namespace.as_ref() == namespace;
        let gone: Vec<Key> = (self.departed.iter())
            .filter(concerned)
            .filter(|key| !self.speaks_of(key))
            .cloned()
            .collect();
        for key in gone {
            self.departed.remove(&key);
            self.pods.now.remove(&key);
        }
    }

    fn note_missing(&mut self) {
        let spoken_of = self.pods_in_slices();
        self.missing = spoken_of
            .into_iter()
            .filter(|key| !self.pods.now.contains_key(key))
            .collect();
    }

    fn miss(&mut self, slice: &SeenSlice) {
        for key in pods_of(slice) {
            if !self.pods.now.contains_key(&key) {
                self.missing.insert(key);
            }
        }
        if self.missing.len() > MAX_OBJECTS {
            self.note_missing();
        }
    }

    fn shared(&mut self, facts: PodFacts) -> Arc<PodFacts> {
        match self.common.get(&facts) {
            Some(known) => known.clone(),
            None => {
                let facts = Arc::new(facts);
                self.common.insert(facts.clone());
                facts
            }
        }
    }

    fn sweep(&mut self) {
        if self.common.len() > 2 * self.swept + 64 {
            self.common.retain(|facts| Arc::strong_count(facts) > 1);
            self.swept = self.common.len();
        }
    }

    /// A slice with what is known of its pods and nodes. An endpoint whose pod nobody has seen is left out until it is.
    fn slice(&self, slice: &SeenSlice) -> EndpointSlice {
        let endpoints = slice.endpoints.iter();
        EndpointSlice {
            key: slice.key.clone(),
            service: slice.service.clone(),
            ports: slice.ports.to_vec(),
            endpoints: endpoints
                .filter_map(|endpoint| self.endpoint(&slice.key, endpoint))
                .collect(),
        }
    }

    fn endpoint(&self, slice: &SliceKey, seen: &SeenEndpoint) -> Option<Endpoint> {
        let pod = match &seen.pod {
            Some(name) => {
                let key = Key {
                    namespace: Some(slice.namespace.clone()),
                    name: name.as_str().into(),
                };
                Some(self.pods.now.get(&key)?)
            }
            None => None,
        };
        let node = seen.node.as_deref().and_then(|name| {
            let key = Key {
                namespace: None,
                name: name.into(),
            };
            self.nodes.now.get(&key)
        });
        let zone = (seen.zone.as_ref())
            .or(pod.and_then(|pod| pod.zone.as_ref()))
            .or(node.and_then(|node| node.zone.as_ref()));
        let region = (pod.and_then(|pod| pod.region.as_ref()))
            .or(node.and_then(|node| node.region.as_ref()))
            .or(self.region());
        Some(Endpoint {
            address: seen.address,
            workload: seen.pod.clone().map(|pod| WorkloadKey {
                namespace: slice.namespace.clone(),
                pod,
            }),
            // Somebody without a pod proves nothing to anybody: it is spoken to in plain text.
            service_account: match pod {
                Some(pod) => pod.service_account.clone(),
                None => ServiceAccount::new("default").expect("a legal name"),
            },
            labels: pod.map_or_else(Default::default, |pod| pod.labels.clone()),
            network: pod.and_then(|pod| pod.network.clone()),
            locality: Locality {
                region: region.cloned(),
                zone: zone.cloned(),
            },
            health: seen.health,
            tls: pod.map_or(TlsMode::Plain, |pod| pod.tls()),
        })
    }

    /// The UID of `kube-system`, which tells clusters apart.
    pub(crate) fn uid(&self) -> Option<&str> {
        let mut namespaces = self.namespaces.now.values();
        let system = namespaces.find(|n| n.facts.name.as_str() == "kube-system")?;
        Some(&system.uid)
            .filter(|uid| !uid.is_empty())
            .map(|uid| &**uid)
    }

    /// That the API server does not want us, in words.
    pub(crate) fn refused(&self) -> Option<String> {
        self.states.iter().find_map(|(kind, state)| match state {
            State::Lost(failure @ (Failure::Unauthorized { .. } | Failure::Forbidden { .. })) => {
                Some(failure.about(kind.plural()))
            }
            _ => None,
        })
    }

    /// Whether what is told beside the facts may be different from what it was at the last call.
    pub(crate) fn beside_changed(&mut self) -> bool {
        std::mem::take(&mut self.beside_changed)
    }

    /// The remote secrets, if they have changed since the last call.
    pub(crate) fn changed_secrets(&mut self) -> Option<impl Iterator<Item = &RemoteSecret>> {
        let changed = std::mem::take(&mut self.secrets_changed);
        changed.then(|| self.all_secrets())
    }

    /// What people should know of this cluster's objects.
    pub(crate) fn problems(&self) -> Vec<Problem> {
        let mut problems: Vec<Problem> = (self.problems.iter())
            .map(|((kind, key), reason)| {
                self.tell(format!("{} {key}", kind.word()), reason.clone())
            })
            .collect();
        for (kind, state) in &self.states {
            if let State::Without(why) = state {
                let mut problem = self.tell(format!("Cluster {}", self.cluster), why.clone());
                problem.severity = Severity::Warning;
                // What is not there in the first place is no news, except our own definitions in our own cluster.
                if matches!(kind, Kind::Mesh | Kind::Cluster) {
                    problem.severity = Severity::Error;
                    problems.push(problem);
                }
            }
        }
        let rights = self.rights.as_ref();
        problems.extend(rights.and_then(|rights| rights.problem(&self.cluster)));
        let mut named = BTreeMap::new();
        for secret in self.all_secrets() {
            for cluster in secret.clusters.keys() {
                if let Some(first) = named.insert(cluster, secret.place()) {
                    problems.push(self.tell(
                        format!("Secret {}", secret.place()),
                        format!(
                            "{cluster} is in {first} too, and the first one counts; leave it in one of them"
                        ),
                    ));
                    named.insert(cluster, first);
                }
            }
        }
        problems
    }

    pub(crate) fn about_secret(
        &self,
        place: &str,
        cluster: &ClusterId,
        held: &Held,
        refused: &str,
    ) -> Problem {
        let before = match held.usable {
            Some(_) => "; the one before stays in use",
            None => "",
        };
        let message = format!("the kubeconfig of {cluster} is not used: {refused}{before}");
        self.tell(format!("Secret {place}"), message)
    }

    fn tell(&self, object: String, message: String) -> Problem {
        Problem {
            severity: Severity::Error,
            kind: ProblemKind::BadObject,
            cluster: Some(self.cluster.clone()),
            object,
            message,
        }
    }
}

fn is(endpoint: &SeenEndpoint, pod: &Key) -> bool {
    endpoint
        .pod
        .as_ref()
        .is_some_and(|name| name.as_str() == &*pod.name)
}

fn pods_of(slice: &SeenSlice) -> impl Iterator<Item = Key> {
    let pods = slice.endpoints.iter().filter_map(|e| e.pod.as_ref());
    pods.map(|name| Key {
        namespace: Some(slice.key.namespace.clone()),
        name: name.as_str().into(),
    })
}

fn differences(
    before: &BTreeMap<FactKey, Fact>,
    after: BTreeMap<FactKey, Fact>,
    out: &mut Vec<Say>,
) {
    for key in before.keys().filter(|key| !after.contains_key(*key)) {
        out.push(Observed::Delete(key.clone()).into());
    }
    for (key, fact) in after {
        if before.get(&key) != Some(&fact) {
            out.push(Observed::Upsert(fact).into());
        }
    }
}

fn kind_of(kept: &Kept) -> Kind {
    match kept {
        Kept::Mesh(_) => Kind::Mesh,
        Kept::Cluster(_) => Kind::Cluster,
        Kept::RemoteSecret(secret) if secret.is_ours() => Kind::RemoteSecret,
        Kept::RemoteSecret(_) => Kind::IstioSecret,
        Kept::Namespace(_) => Kind::Namespace,
        Kept::MeshExport(_) => Kind::MeshExport,
        Kept::Node(_) => Kind::Node,
        Kept::Service(_) => Kind::Service,
        Kept::EndpointSlice(_) => Kind::EndpointSlice,
        Kept::Pod(_) => Kind::Pod,
    }
}

#[cfg(test)]
mod tests;
