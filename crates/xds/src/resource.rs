//! Name, version by content, bytes serialised once.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use catamaran_wire as wire;
use wire::{Message, TypeUrl};

pub use of_kind::OfKind;

mod field;
mod of_kind;

/// The first 128 bits of the BLAKE3 hash of a resource's bytes: equal content has an equal version on every replica.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version([u8; 16]);

impl Version {
    /// The version of these bytes.
    pub fn of(bytes: &[u8]) -> Version {
        let hash = blake3::hash(bytes);
        let mut version = [0; 16];
        version.copy_from_slice(&hash.as_bytes()[..16]);
        Version(version)
    }

    /// Reads 32 hex digits, as they are on the wire.
    pub fn parse(text: &str) -> Option<Version> {
        let digits = text.as_bytes();
        if digits.len() != 32 {
            return None;
        }
        let digit = |digit: u8| char::from(digit).to_digit(16);
        let mut version = [0; 16];
        for (byte, pair) in version.iter_mut().zip(digits.chunks(2)) {
            *byte = (digit(pair[0])? << 4 | digit(pair[1])?) as u8;
        }
        Some(Version(version))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The kinds of resources we serve, in make-before-break order: what a resource refers to is of an earlier kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TypeUrlKind {
    /// `catamaran.v1.Issuers`
    Issuers,
    /// `envoy.config.cluster.v3.Cluster`
    Cluster,
    /// `envoy.config.endpoint.v3.ClusterLoadAssignment`
    Endpoints,
    /// `envoy.config.listener.v3.Listener`
    Listener,
    /// `envoy.config.route.v3.RouteConfiguration`
    Route,
    /// `istio.networking.nds.v1.NameTable`
    Names,
}

impl TypeUrlKind {
    /// All kinds, in make-before-break order.
    pub const ALL: [TypeUrlKind; 6] = [
        TypeUrlKind::Issuers,
        TypeUrlKind::Cluster,
        TypeUrlKind::Endpoints,
        TypeUrlKind::Listener,
        TypeUrlKind::Route,
        TypeUrlKind::Names,
    ];

    /// The type URL on the wire.
    pub fn url(self) -> &'static str {
        match self {
            TypeUrlKind::Cluster => wire::cluster::Cluster::TYPE_URL,
            TypeUrlKind::Endpoints => wire::endpoint::ClusterLoadAssignment::TYPE_URL,
            TypeUrlKind::Listener => wire::listener::Listener::TYPE_URL,
            TypeUrlKind::Route => wire::route::RouteConfiguration::TYPE_URL,
            TypeUrlKind::Issuers => wire::own::Issuers::TYPE_URL,
            TypeUrlKind::Names => wire::names::NameTable::TYPE_URL,
        }
    }

    /// The kind of a type URL; `None` for one we do not serve.
    pub fn of(url: &str) -> Option<TypeUrlKind> {
        Self::ALL.into_iter().find(|kind| kind.url() == url)
    }

    /// The word for the kind in a NACK, in status and in logs.
    pub fn word(self) -> &'static str {
        match self {
            TypeUrlKind::Issuers => "issuers",
            TypeUrlKind::Cluster => "cluster",
            TypeUrlKind::Endpoints => "endpoints",
            TypeUrlKind::Listener => "listener",
            TypeUrlKind::Route => "route",
            TypeUrlKind::Names => "names",
        }
    }

    /// The kind that [`word`](Self::word) names.
    pub fn of_word(word: &str) -> Option<TypeUrlKind> {
        Self::ALL.into_iter().find(|kind| kind.word() == word)
    }

    /// Whether clients ask for all of the kind (`*`) or by name.
    pub fn is_wildcard(self) -> bool {
        !matches!(self, TypeUrlKind::Endpoints | TypeUrlKind::Route)
    }
}

impl fmt::Display for TypeUrlKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.word())
    }
}

/// Which resource, without its content.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ResourceKey {
    /// Of which kind.
    pub kind: TypeUrlKind,
    /// Unique within its kind.
    pub name: Arc<str>,
}

impl ResourceKey {
    /// Puts both together.
    pub fn new(kind: TypeUrlKind, name: impl Into<Arc<str>>) -> ResourceKey {
        ResourceKey {
            kind,
            name: name.into(),
        }
    }
}

/// One resource, ready to be sent: shared by all proxies that hear the same.
#[derive(Debug, Clone)]
pub struct Resource {
    /// Of which kind.
    pub kind: TypeUrlKind,
    /// Unique within its kind.
    pub name: Arc<str>,
    /// Hash of `bytes`.
    pub version: Version,
    /// The encoded message, without its `Any`.
    pub bytes: Bytes,
    /// The whole of it as responses carry it; encoded when it is first sent, or before.
    field: OnceLock<Bytes>,
}

impl PartialEq for Resource {
    fn eq(&self, other: &Resource) -> bool {
        let parts = |it: &Resource| (it.kind, it.version);
        parts(self) == parts(other) && self.name == other.name && self.bytes == other.bytes
    }
}

impl Eq for Resource {}

impl Resource {
    /// Encodes `message` once, as the field of a response; its body is a part of that.
    pub fn new<M: Message>(kind: TypeUrlKind, name: impl Into<Arc<str>>, message: &M) -> Resource {
        let body = message.encode_to_vec();
        let (name, version) = (name.into(), Version::of(&body));
        let field = field::encode(kind, &name, version, &body);
        Resource {
            kind,
            version,
            bytes: field::body(&field, &name, body.len()),
            name,
            field: OnceLock::from(field),
        }
    }

    /// A resource whose message is encoded already.
    pub fn from_bytes(kind: TypeUrlKind, name: impl Into<Arc<str>>, bytes: Bytes) -> Resource {
        Resource {
            kind,
            name: name.into(),
            version: Version::of(&bytes),
            bytes,
            field: OnceLock::new(),
        }
    }

    /// As it stands in a `DeltaDiscoveryResponse`: the finished field `resources`, with its tag and its length. All who send it
    /// send these very bytes.
    pub fn in_deltas(&self) -> &Bytes {
        (self.field).get_or_init(|| field::encode(self.kind, &self.name, self.version, &self.bytes))
    }

    /// As it stands in a `DiscoveryResponse`: the finished field `resources` there. It is a part of the other.
    pub fn in_full(&self) -> Bytes {
        field::full(self.in_deltas(), &self.name, self.kind, self.bytes.len())
    }

    /// Which resource it is.
    pub fn key(&self) -> ResourceKey {
        ResourceKey::new(self.kind, self.name.clone())
    }

    /// Its body as it travels; the bytes are shared.
    pub fn any(&self) -> wire::Any {
        wire::Any {
            type_url: self.kind.url().into(),
            value: self.bytes.clone(),
        }
    }
}

/// Resources of all kinds, by kind and name.
///
/// A clone shares everything; a change to it copies a small part of the map of one kind, never a resource.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ResourceSet {
    resources: BTreeMap<TypeUrlKind, Arc<OfKind>>,
}

impl ResourceSet {
    /// Adds or replaces one.
    pub fn insert(&mut self, resource: Arc<Resource>) {
        Arc::make_mut(self.resources.entry(resource.kind).or_default()).insert(resource);
    }

    /// Takes one out.
    pub fn remove(&mut self, kind: TypeUrlKind, name: &str) -> Option<Arc<Resource>> {
        let all = self.resources.get_mut(&kind)?;
        let found = all.get(name)?.clone();
        Arc::make_mut(all).remove(name);
        if all.is_empty() {
            self.resources.remove(&kind);
        }
        Some(found)
    }

    /// Takes in what another set has of a kind. Where there was nothing of that kind, it is shared, not copied; where both
    /// have a name, the other's stays.
    pub fn join(&mut self, other: &ResourceSet, kind: TypeUrlKind) {
        let Some(theirs) = other.resources.get(&kind) else {
            return;
        };
        let Some(ours) = self.resources.get_mut(&kind) else {
            self.resources.insert(kind, theirs.clone());
            return;
        };
        if theirs.len() > ours.len() {
            let mut joined = theirs.clone();
            let map = Arc::make_mut(&mut joined);
            for (name, resource) in ours.iter() {
                if !map.contains_key(name) {
                    map.insert(resource.clone());
                }
            }
            *ours = joined;
        } else {
            let map = Arc::make_mut(ours);
            for (_, resource) in theirs.iter() {
                map.insert(resource.clone());
            }
        }
    }

    /// Takes out all of a kind.
    pub fn clear(&mut self, kind: TypeUrlKind) {
        self.resources.remove(&kind);
    }

    /// One by kind and name.
    pub fn get(&self, kind: TypeUrlKind, name: &str) -> Option<&Arc<Resource>> {
        self.resources.get(&kind)?.get(name)
    }

    /// All of a kind, by name.
    pub fn of_kind(&self, kind: TypeUrlKind) -> impl Iterator<Item = &Arc<Resource>> {
        self.resources
            .get(&kind)
            .into_iter()
            .flat_map(|all| all.values())
    }

    /// All, by kind and name.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Resource>> {
        self.resources.values().flat_map(|all| all.values())
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.resources.values().map(|all| all.len()).sum()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.resources.is_empty()
    }

    /// The names of the resources of `kind` in which two sets differ. What both share costs nothing.
    pub fn differences(&self, other: &ResourceSet, kind: TypeUrlKind) -> Vec<Arc<str>> {
        self.shared(kind).differences(&other.shared(kind))
    }

    /// Whether both hold the very same map of a kind, so that nothing of it differs.
    pub fn shares(&self, other: &ResourceSet, kind: TypeUrlKind) -> bool {
        match (self.resources.get(&kind), other.resources.get(&kind)) {
            (Some(ours), Some(theirs)) => Arc::ptr_eq(ours, theirs),
            (None, None) => true,
            _ => false,
        }
    }

    /// Whether what is here of a kind is the very map `all`.
    pub fn holds(&self, kind: TypeUrlKind, all: &Arc<OfKind>) -> bool {
        (self.resources.get(&kind)).is_some_and(|held| Arc::ptr_eq(held, all))
    }

    /// All of a kind, shared. Two sets with the same one differ in nothing of that kind.
    pub fn shared(&self, kind: TypeUrlKind) -> Arc<OfKind> {
        self.resources.get(&kind).cloned().unwrap_or_default()
    }
}

impl ResourceSet {
    /// Takes all of a kind from elsewhere, in the place of what was there; every one of them must be of that kind.
    pub fn put_shared(&mut self, kind: TypeUrlKind, all: Arc<OfKind>) {
        match all.is_empty() {
            true => drop(self.resources.remove(&kind)),
            false => drop(self.resources.insert(kind, all)),
        }
    }
}

impl FromIterator<Arc<Resource>> for ResourceSet {
    fn from_iter<I: IntoIterator<Item = Arc<Resource>>>(resources: I) -> Self {
        let mut set = ResourceSet::default();
        resources
            .into_iter()
            .for_each(|resource| set.insert(resource));
        set
    }
}
