//! Facts out of objects that refer to each other, made again only where something changed.
//!
//! A fact comes from one object and from what that object refers to: a Service's address from the status of the same name, a
//! slice's endpoints from their pods, all of them from the region in the Mesh. Each of these ways is followed backwards from
//! what was touched. That this ends where making everything again would end is a test (`watch/tests/judge.rs`).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use catamaran_model::{
    ClusterId, MeshName, NetworkGateway, Region, ServiceKey, ServiceName, SliceKey, SliceName,
};
use catamaran_registry::{Fact, FactKey};

use super::facts::{Made, Rules, pod_of};
use crate::manifest::{Folder, Touched};
use crate::object::{Kind, Object, ObjectKey};

/// Which of the two folders an object is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Room {
    Manifests,
    Status,
}

/// What changed in the facts.
#[derive(Debug, Default)]
pub(super) struct Difference {
    pub(super) upserts: Vec<Fact>,
    pub(super) deletes: Vec<FactKey>,
    /// Whether [`Join::refused`] has changed.
    pub(super) refused: bool,
}

/// The facts of a cluster, and what each was made from.
#[derive(Debug)]
pub(super) struct Join {
    rules: Rules,
    /// Pods that slices speak of stay here when their own file is gone: it may go before its slice.
    pods: BTreeMap<ObjectKey, Arc<Object>>,
    /// The slices as they were joined last.
    slices: BTreeMap<ObjectKey, Arc<Object>>,
    /// The slices that speak of each pod, in order.
    speakers: BTreeMap<ObjectKey, Vec<ObjectKey>>,
    meshes: BTreeSet<ObjectKey>,
    /// By the Service that each comes from: names of gateways have no namespace, so two may have one name.
    gateways: BTreeMap<ObjectKey, Vec<NetworkGateway>>,
    facts: BTreeMap<FactKey, Fact>,
    refused: BTreeMap<(Room, ObjectKey), Vec<String>>,
    made: u64,
}

impl Join {
    pub(super) fn new(loopback: bool) -> Join {
        Join {
            rules: Rules {
                loopback,
                region: None,
            },
            pods: BTreeMap::new(),
            slices: BTreeMap::new(),
            speakers: BTreeMap::new(),
            meshes: BTreeSet::new(),
            gateways: BTreeMap::new(),
            facts: BTreeMap::new(),
            refused: BTreeMap::new(),
            made: 0,
        }
    }

    /// All facts.
    pub(super) fn facts(&self) -> impl Iterator<Item = &Fact> {
        self.facts.values()
    }

    /// What cannot be used of each object.
    pub(super) fn refused(&self) -> impl Iterator<Item = (&ObjectKey, &String)> {
        let all = self.refused.iter();
        all.flat_map(|((_, key), reasons)| reasons.iter().map(move |reason| (key, reason)))
    }

    /// How many objects were asked for their facts, ever.
    pub(super) fn made(&self) -> u64 {
        self.made
    }

    /// Follows to what the folders hold now.
    pub(super) fn follow(
        &mut self,
        manifests: &Folder,
        status: &Folder,
        in_manifests: &Touched,
        in_status: &Touched,
    ) -> Difference {
        let mut dirty: BTreeSet<(Room, ObjectKey)> = BTreeSet::new();
        for key in &in_manifests.keys {
            if key.kind == Kind::Mesh {
                match manifests.object(key) {
                    Some(_) => self.meshes.insert(key.clone()),
                    None => self.meshes.remove(key),
                };
            }
            dirty.insert((Room::Manifests, key.clone()));
        }
        let region = self.region(manifests);
        if region != self.rules.region {
            self.rules.region = region;
            let all = self.slices.keys().cloned();
            dirty.extend(all.map(|key| (Room::Status, key)));
        }
        let mut pods: BTreeSet<ObjectKey> = BTreeSet::new();
        for key in &in_status.keys {
            match key.kind {
                Kind::EndpointSlice => {
                    self.speak(key, status.object(key).cloned(), &mut pods);
                    dirty.insert((Room::Status, key.clone()));
                }
                Kind::Pod => drop(pods.insert(key.clone())),
                Kind::Service => {
                    dirty.insert((Room::Manifests, key.clone()));
                    dirty.insert((Room::Status, key.clone()));
                }
                _ => {}
            }
        }
        for pod in pods {
            let spoken_of = self.speakers.get(&pod);
            match status.object(&pod) {
                Some(object) if self.pods.get(&pod) == Some(object) => {}
                Some(object) => {
                    let slices = spoken_of.into_iter().flatten().cloned();
                    dirty.extend(slices.map(|key| (Room::Status, key)));
                    self.pods.insert(pod, object.clone());
                }
                None if spoken_of.is_none() => drop(self.pods.remove(&pod)),
                None => {}
            }
        }
        let mut changed = BTreeSet::new();
        let mut difference = Difference::default();
        let mut gateways = false;
        for (room, key) in dirty {
            self.made += 1;
            let refused = match (room, key.kind) {
                (Room::Status, Kind::Service) => {
                    let (now, refused) = match status.object(&key).map(|object| &**object) {
                        Some(Object::Service(service)) => self.rules.gateways(&key, service),
                        _ => (Vec::new(), Vec::new()),
                    };
                    let before = match now.is_empty() {
                        true => self.gateways.remove(&key),
                        false => self.gateways.insert(key.clone(), now.clone()),
                    };
                    gateways |= before.unwrap_or_default() != now;
                    refused
                }
                _ => {
                    let Made { fact, refused } = self.make(room, &key, manifests, status);
                    if let Some(fact_key) = fact_key(&key)
                        && self.put(&fact_key, fact)
                    {
                        changed.insert(fact_key);
                    }
                    refused
                }
            };
            // Also one that says the same as before may stand on another line.
            difference.refused |= !refused.is_empty();
            let before = match refused.is_empty() {
                true => self.refused.remove(&(room, key)),
                false => self.refused.insert((room, key), refused),
            };
            difference.refused |= before.is_some();
        }
        if gateways {
            self.put_gateways(&mut changed);
        }
        for key in changed {
            match self.facts.get(&key) {
                Some(fact) => difference.upserts.push(fact.clone()),
                None => difference.deletes.push(key),
            }
        }
        difference
    }

    /// Says whether that is something else.
    fn put(&mut self, key: &FactKey, fact: Option<Fact>) -> bool {
        if self.facts.get(key) == fact.as_ref() {
            return false;
        }
        match fact {
            Some(fact) => self.facts.insert(key.clone(), fact),
            None => self.facts.remove(key),
        };
        true
    }

    /// Of those with one name the last one counts. There are few, so all are compared.
    fn put_gateways(&mut self, changed: &mut BTreeSet<FactKey>) {
        let all = self.gateways.values().flatten();
        let mut now: BTreeMap<FactKey, Fact> = all
            .map(|gateway| Fact::Gateway(gateway.clone()))
            .map(|fact| (fact.key(), fact))
            .collect();
        let first = FactKey::Gateway(String::new());
        let known: Vec<FactKey> = (self.facts.range(first..))
            .map(|(key, _)| key.clone())
            .take_while(|key| matches!(key, FactKey::Gateway(_)))
            .collect();
        for key in known {
            let fact = now.remove(&key);
            if self.put(&key, fact) {
                changed.insert(key);
            }
        }
        for (key, fact) in now {
            if self.put(&key, Some(fact)) {
                changed.insert(key);
            }
        }
    }

    fn make(&self, room: Room, key: &ObjectKey, manifests: &Folder, status: &Folder) -> Made {
        let folder = match room {
            Room::Manifests => manifests,
            Room::Status => status,
        };
        match folder.object(key).map(|object| &**object) {
            None => Made::default(),
            Some(Object::EndpointSlice(slice)) => {
                self.rules.slice(key, slice, |pod| self.pods.get(pod))
            }
            Some(object) => {
                let same = status.object(key).map(|object| &**object);
                self.rules.manifest(key, object, same)
            }
        }
    }

    /// The first Mesh that names one.
    fn region(&self, manifests: &Folder) -> Option<Region> {
        self.meshes.iter().find_map(|key| {
            let Some(Object::Mesh(mesh)) = manifests.object(key).map(|object| &**object) else {
                return None;
            };
            mesh.spec().ok()?.region
        })
    }

    /// Notes of which pods a slice speaks now; those of which it spoke, or does now, are added to `pods`.
    fn speak(&mut self, key: &ObjectKey, now: Option<Arc<Object>>, pods: &mut BTreeSet<ObjectKey>) {
        let before = match now.clone() {
            Some(slice) => self.slices.insert(key.clone(), slice),
            None => self.slices.remove(key),
        };
        for pod in pods_of(key, before.as_deref()) {
            if let Some(speakers) = self.speakers.get_mut(&pod) {
                speakers.retain(|slice| slice != key);
                if speakers.is_empty() {
                    self.speakers.remove(&pod);
                }
            }
            pods.insert(pod);
        }
        for pod in pods_of(key, now.as_deref()) {
            let speakers = self.speakers.entry(pod.clone()).or_default();
            if let Err(place) = speakers.binary_search(key) {
                speakers.insert(place, key.clone());
            }
            pods.insert(pod);
        }
    }
}

fn pods_of(key: &ObjectKey, slice: Option<&Object>) -> BTreeSet<ObjectKey> {
    let endpoints = match slice {
        Some(Object::EndpointSlice(slice)) => &slice.endpoints[..],
        _ => &[],
    };
    let pods = endpoints.iter();
    pods.filter_map(|endpoint| pod_of(key, endpoint)).collect()
}

/// The fact that an object of this name leads to, if to any. Gateways are counted together.
fn fact_key(key: &ObjectKey) -> Option<FactKey> {
    Some(match key.kind {
        Kind::Namespace => FactKey::Namespace(key.namespace.clone()),
        Kind::Service => {
            let name = ServiceName::new(&key.name).ok()?;
            FactKey::Service(ServiceKey::new(key.namespace.clone(), name))
        }
        Kind::Mesh => FactKey::Mesh(MeshName::new(&key.name).ok()?),
        Kind::Cluster => FactKey::Member(ClusterId::new(&key.name).ok()?),
        Kind::MeshExport => FactKey::Export(MeshName::new(&key.name).ok()?),
        Kind::EndpointSlice => FactKey::Slice(SliceKey {
            namespace: key.namespace.clone(),
            name: SliceName::new(&key.name).ok()?,
        }),
        Kind::ServiceAccount | Kind::Secret | Kind::Deployment | Kind::Pod => return None,
    })
}
