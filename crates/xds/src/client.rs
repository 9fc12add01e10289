//! The asking end of a stream of deltas.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use catamaran_wire::core::Node;
use catamaran_wire::discovery::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};

use self::references::References;
use crate::nack;
use crate::{Refusal, Resource, ResourceKey, ResourceSet, TypeUrlKind, Unusable};

mod references;

/// What enters a [`ClientSession`].
#[derive(Debug, Clone)]
pub enum ClientInput {
    /// A stream was opened.
    Connected,
    /// The server says something.
    Response(DeltaDiscoveryResponse),
    /// The candidate with this ticket was tried.
    Judged {
        /// Of [`Candidate::ticket`].
        ticket: u64,
        /// What could not be used. Only what this candidate brought is refused; the rest is passed over.
        unusable: Vec<Unusable>,
    },
    /// The stream is gone. What is held stays.
    Disconnected,
}

/// What comes out of one step.
#[derive(Debug, Default)]
pub struct ClientOutputs {
    /// To be sent in this order.
    pub requests: Vec<DeltaDiscoveryRequest>,
    /// There is something to judge: try [`ClientSession::candidate`], then say [`ClientInput::Judged`].
    pub judge: bool,
    /// What is held changed, so that a table must be made of it or, if nothing was refused, the candidate's may be used.
    pub changed: bool,
    /// What was refused in this step.
    pub refused: Vec<Refusal>,
}

/// What would be held if all that came were accepted.
#[derive(Debug, Clone)]
pub struct Candidate {
    /// All of it.
    pub set: ResourceSet,
    /// To be given back with the verdict.
    pub ticket: u64,
}

/// The asking end of a stream of deltas, over all streams that follow one another.
///
/// It asks for all clusters, listeners, issuers and names, for the endpoints of the clusters that it holds and for the
/// routes of its listeners. A resource that cannot be used rejects only itself: the version held before stays.
#[derive(Debug)]
pub struct ClientSession {
    node: Node,
    held: ResourceSet,
    references: References,
    staged: Vec<Staged>,
    tickets: u64,
    refused: BTreeMap<ResourceKey, Refusal>,
    /// Kinds that are asked for as a whole and were answered, at any time.
    answered: BTreeSet<TypeUrlKind>,
    /// Names that the server said it does not have.
    absent: BTreeSet<ResourceKey>,
    /// What this stream was asked for; `None` without a stream.
    asked: Option<BTreeMap<TypeUrlKind, BTreeSet<Arc<str>>>>,
    revision: String,
    control_plane: String,
}

/// A response that was not judged yet.
#[derive(Debug)]
struct Staged {
    ticket: u64,
    kind: TypeUrlKind,
    nonce: String,
    set: Vec<Arc<Resource>>,
    removed: Vec<Arc<str>>,
    /// Refused before anybody looked into it.
    malformed: Vec<(Arc<str>, String)>,
}

impl ClientSession {
    /// A client that holds nothing.
    pub fn new(node: Node) -> ClientSession {
        ClientSession {
            node,
            held: ResourceSet::default(),
            references: References::default(),
            staged: Vec::new(),
            tickets: 0,
            refused: BTreeMap::new(),
            answered: BTreeSet::new(),
            absent: BTreeSet::new(),
            asked: None,
            revision: String::new(),
            control_plane: String::new(),
        }
    }

    /// A client that goes on with what it accepted earlier, all of it: nothing is missing but what did not exist then.
    pub fn resume(node: Node, held: ResourceSet) -> ClientSession {
        let mut session = ClientSession::new(node);
        for resource in held.iter() {
            session.references.set(resource.key(), Some(resource));
        }
        let named = session.references.all();
        let absent = named.filter(|key| held.get(key.kind, &key.name).is_none());
        session.absent = absent.cloned().collect();
        session.answered = whole_kinds().collect();
        session.held = held;
        session
    }

    /// Takes one input and says what to do now.
    pub fn step(&mut self, input: ClientInput) -> ClientOutputs {
        let mut out = ClientOutputs::default();
        match input {
            ClientInput::Connected => self.connect(&mut out),
            ClientInput::Response(response) => self.receive(response),
            ClientInput::Judged { ticket, unusable } => self.judge(ticket, unusable, &mut out),
            ClientInput::Disconnected => {
                self.asked = None;
                self.staged.clear();
            }
        }
        out.judge = !self.staged.is_empty();
        out
    }

    /// What would be held if all that came were accepted.
    pub fn candidate(&self) -> Candidate {
        let mut set = self.held.clone();
        for staged in &self.staged {
            for resource in &staged.set {
                set.insert(resource.clone());
            }
            for name in &staged.removed {
                set.remove(staged.kind, name);
            }
        }
        Candidate {
            set,
            ticket: self.tickets,
        }
    }

    /// What was accepted.
    pub fn held(&self) -> &ResourceSet {
        &self.held
    }

    /// What was refused and not replaced since.
    pub fn refused(&self) -> impl Iterator<Item = &Refusal> {
        self.refused.values()
    }

    /// Whether every kind, and every name that was asked for, has been answered once.
    pub fn is_ready(&self) -> bool {
        whole_kinds().all(|kind| self.answered.contains(&kind))
            && self.references.all().all(|key| {
                self.held.get(key.kind, &key.name).is_some()
                    || self.absent.contains(key)
                    || self.refused.contains_key(key)
            })
    }

    /// What it waits for before it [is ready](Self::is_ready): kinds, then names. For status.
    pub fn waits_for(&self) -> Vec<String> {
        let kinds = whole_kinds()
            .filter(|kind| !self.answered.contains(kind))
            .map(|kind| kind.to_string());
        let names = self
            .references
            .all()
            .filter(|key| {
                self.held.get(key.kind, &key.name).is_none()
                    && !self.absent.contains(key)
                    && !self.refused.contains_key(key)
            })
            .map(|key| format!("{} {}", key.kind, key.name));
        kinds.chain(names).collect()
    }

    /// `system_version_info` of the last response, as the server wrote it.
    pub fn revision(&self) -> &str {
        &self.revision
    }

    /// The identifier of the control plane that answered last.
    pub fn control_plane(&self) -> &str {
        &self.control_plane
    }

    fn connect(&mut self, out: &mut ClientOutputs) {
        self.staged.clear();
        let mut asked = BTreeMap::new();
        for kind in TypeUrlKind::ALL {
            let names = self.references.of_kind(kind);
            if !kind.is_wildcard() && names.is_empty() {
                continue;
            }
            let whole = kind.is_wildcard().then(|| "*".to_owned());
            let versions = self.held.of_kind(kind);
            out.requests.push(DeltaDiscoveryRequest {
                node: out.requests.is_empty().then(|| self.node.clone()),
                type_url: kind.url().into(),
                resource_names_subscribe: whole
                    .into_iter()
                    .chain(names.iter().map(|name| name.to_string()))
                    .collect(),
                initial_resource_versions: versions
                    .map(|resource| (resource.name.to_string(), resource.version.to_string()))
                    .collect(),
                ..Default::default()
            });
            asked.insert(kind, names);
        }
        self.asked = Some(asked);
    }

    fn receive(&mut self, response: DeltaDiscoveryResponse) {
        let (Some(asked), Some(kind)) = (&self.asked, TypeUrlKind::of(&response.type_url)) else {
            return;
        };
        self.revision = response.system_version_info;
        self.control_plane = response.control_plane.unwrap_or_default().identifier;
        self.tickets += 1;
        let mut staged = Staged {
            ticket: self.tickets,
            kind,
            nonce: response.nonce,
            set: Vec::new(),
            removed: Vec::new(),
            malformed: Vec::new(),
        };
        let nobody = BTreeSet::new();
        let names = asked.get(&kind).unwrap_or(&nobody);
        let wanted = |name: &str| kind.is_wildcard() || names.contains(name);
        for resource in response.resources {
            let name: Arc<str> = Arc::from(resource.name);
            match resource.resource {
                Some(any) if TypeUrlKind::of(&any.type_url) != Some(kind) => {
                    let reason = format!("its body is a {:?}, not a {}", any.type_url, kind.url());
                    staged.malformed.push((name, reason));
                }
                None => staged.malformed.push((name, "it has no body".into())),
                Some(_) if !wanted(&name) => {}
                Some(any) => {
                    let resource = Resource::from_bytes(kind, name, any.value);
                    staged.set.push(Arc::new(resource));
                }
            }
        }
        let removed = response.removed_resources.into_iter();
        staged.removed = removed.filter(|name| wanted(name)).map(Arc::from).collect();
        self.staged.push(staged);
    }

    fn judge(&mut self, ticket: u64, unusable: Vec<Unusable>, out: &mut ClientOutputs) {
        let (judged, later) = std::mem::take(&mut self.staged)
            .into_iter()
            .partition(|staged| staged.ticket <= ticket);
        self.staged = later;
        let unusable: BTreeMap<ResourceKey, String> = unusable
            .into_iter()
            .map(|unusable| (unusable.key, unusable.reason))
            .collect();
        for staged in judged {
            self.take(staged, &unusable, out);
        }
        self.resubscribe(out);
    }

    fn take(
        &mut self,
        staged: Staged,
        unusable: &BTreeMap<ResourceKey, String>,
        out: &mut ClientOutputs,
    ) {
        let kind = staged.kind;
        let mut named: Vec<(TypeUrlKind, Arc<str>, String)> = staged
            .malformed
            .into_iter()
            .map(|(name, reason)| (kind, name, reason))
            .collect();
        for resource in staged.set {
            let key = resource.key();
            self.absent.remove(&key);
            match unusable.get(&key) {
                Some(reason) => {
                    let refusal = Refusal {
                        kind,
                        name: key.name.clone(),
                        version: resource.version,
                        reason: nack::one_line(reason),
                        instead: self.held.get(kind, &key.name).cloned(),
                    };
                    named.push((kind, key.name.clone(), refusal.reason.clone()));
                    out.refused.push(refusal.clone());
                    self.refused.insert(key, refusal);
                }
                None => {
                    self.refused.remove(&key);
                    self.references.set(key, Some(&resource));
                    let before = self.held.get(kind, &resource.name);
                    out.changed |= before.is_none_or(|held| held.version != resource.version);
                    self.held.insert(resource);
                }
            }
        }
        for name in staged.removed {
            let key = ResourceKey::new(kind, name);
            self.refused.remove(&key);
            self.references.set(key.clone(), None);
            out.changed |= self.held.remove(kind, &key.name).is_some();
            if !kind.is_wildcard() {
                self.absent.insert(key);
            }
        }
        if kind.is_wildcard() {
            self.answered.insert(kind);
        }
        out.requests.push(DeltaDiscoveryRequest {
            type_url: kind.url().into(),
            response_nonce: staged.nonce,
            error_detail: (!named.is_empty()).then(|| nack::write(&named)),
            ..Default::default()
        });
    }

    /// Asks for what is referred to by now, and for nothing else.
    fn resubscribe(&mut self, out: &mut ClientOutputs) {
        let Some(asked) = &mut self.asked else {
            return;
        };
        for kind in TypeUrlKind::ALL {
            if kind.is_wildcard() {
                continue;
            }
            let wanted = self.references.of_kind(kind);
            let before = asked.get(&kind).cloned().unwrap_or_default();
            if wanted == before {
                continue;
            }
            let dropped: Vec<&Arc<str>> = before.difference(&wanted).collect();
            for name in &dropped {
                let key = ResourceKey::new(kind, (*name).clone());
                self.refused.remove(&key);
                self.absent.remove(&key);
                out.changed |= self.held.remove(kind, name).is_some();
            }
            for staged in &mut self.staged {
                let wanted = |key: ResourceKey| self.references.contains(&key);
                if staged.kind == kind {
                    staged.set.retain(|resource| wanted(resource.key()));
                    staged
                        .removed
                        .retain(|name| wanted(ResourceKey::new(kind, name.clone())));
                }
            }
            out.requests.push(DeltaDiscoveryRequest {
                type_url: kind.url().into(),
                resource_names_subscribe: wanted
                    .difference(&before)
                    .map(|name| name.to_string())
                    .collect(),
                resource_names_unsubscribe: dropped.iter().map(|name| name.to_string()).collect(),
                ..Default::default()
            });
            asked.insert(kind, wanted);
        }
    }
}

fn whole_kinds() -> impl Iterator<Item = TypeUrlKind> {
    TypeUrlKind::ALL
        .into_iter()
        .filter(|kind| kind.is_wildcard())
}

#[cfg(test)]
mod tests;
