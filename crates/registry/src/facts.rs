//! The facts of one cluster, as one watch said them.

use std::collections::{BTreeMap, BTreeSet};

use catamaran_model::{
    ClusterId, EndpointAddress, EndpointSlice, Member, MeshExport, MeshName, MeshSpec, Namespace,
    NamespaceFacts, NetworkGateway, Service, ServiceKey, SliceKey,
};

use crate::{Fact, FactKey};

/// How much one cluster may say. What is beyond is not taken up, and a problem names the cluster.
pub mod limits {
    /// Services of one cluster.
    pub const SERVICES: usize = 20_000;
    /// Endpoint slices of one cluster.
    pub const SLICES: usize = 50_000;
    /// Endpoints of one cluster, over all slices.
    pub const ENDPOINTS: usize = 200_000;
    /// Endpoints of one service in one cluster; the first ones by address count.
    pub const ENDPOINTS_PER_SERVICE: usize = 10_000;
    /// Ports of one service in one cluster; the first ones by number count.
    pub const PORTS_PER_SERVICE: usize = 256;
    /// Namespaces of one cluster.
    pub const NAMESPACES: usize = 10_000;
    /// East-west gateways of one cluster.
    pub const GATEWAYS: usize = 256;
    /// `MeshExport` objects of one cluster.
    pub const EXPORTS: usize = 16;
    /// `Mesh` objects of one cluster.
    pub const MESHES: usize = 16;
    /// Clusters of one instance.
    pub const MEMBERS: usize = 256;
}

/// What a change reached, so that only that is worked out again.
#[derive(Debug, Default)]
pub(crate) struct Touched {
    /// Services to merge again.
    pub(crate) services: BTreeSet<ServiceKey>,
    /// Something of the cluster that is not a service: settings, members, gateways, namespaces, exports.
    pub(crate) cluster: bool,
}

impl Touched {
    pub(crate) fn is_empty(&self) -> bool {
        self.services.is_empty() && !self.cluster
    }
}

/// The limit that a fact would pass, in words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct OverLimit(pub(crate) &'static str);

/// The objects of one cluster by kind and key, with the services that slices belong to.
#[derive(Debug, Clone, Default)]
pub(crate) struct Facts {
    pub(crate) namespaces: BTreeMap<Namespace, NamespaceFacts>,
    pub(crate) services: BTreeMap<ServiceKey, Service>,
    pub(crate) slices: BTreeMap<SliceKey, EndpointSlice>,
    pub(crate) gateways: BTreeMap<String, NetworkGateway>,
    pub(crate) exports: BTreeMap<MeshName, MeshExport>,
    pub(crate) meshes: BTreeMap<MeshName, MeshSpec>,
    pub(crate) members: BTreeMap<ClusterId, Member>,
    slices_of: BTreeMap<ServiceKey, BTreeSet<SliceKey>>,
    endpoints: usize,
}

/// Puts `value` under `key` unless it is there already or would be one too many.
fn put<K: Ord, V: PartialEq>(
    map: &mut BTreeMap<K, V>,
    key: K,
    value: V,
    limit: usize,
    what: &'static str,
) -> Result<bool, OverLimit> {
    if map.get(&key) == Some(&value) {
        return Ok(false);
    }
    if map.len() >= limit && !map.contains_key(&key) {
        return Err(OverLimit(what));
    }
    map.insert(key, value);
    Ok(true)
}

impl Facts {
    /// Takes up an object, and notes what it reaches.
    pub(crate) fn upsert(&mut self, fact: Fact, touched: &mut Touched) -> Result<(), OverLimit> {
        let changed = match fact {
            Fact::Service(service) => {
                let key = service.key.clone();
                if put(
                    &mut self.services,
                    key.clone(),
                    service,
                    limits::SERVICES,
                    "services",
                )? {
                    touched.services.insert(key);
                }
                return Ok(());
            }
            Fact::Slice(slice) => return self.upsert_slice(slice, touched),
            Fact::Namespace(facts) => put(
                &mut self.namespaces,
                facts.name.clone(),
                facts,
                limits::NAMESPACES,
                "namespaces",
            )?,
            Fact::Gateway(gateway) => put(
                &mut self.gateways,
                gateway.name.clone(),
                gateway,
                limits::GATEWAYS,
                "gateways",
            )?,
            Fact::Export(export) => put(
                &mut self.exports,
                export.mesh.clone(),
                export,
                limits::EXPORTS,
                "MeshExport objects",
            )?,
            Fact::Mesh(mesh) => put(
                &mut self.meshes,
                mesh.name.clone(),
                mesh,
                limits::MESHES,
                "Mesh objects",
            )?,
            Fact::Member(member) => put(
                &mut self.members,
                member.cluster.clone(),
                member,
                limits::MEMBERS,
                "clusters of the instance",
            )?,
        };
        touched.cluster |= changed;
        Ok(())
    }

    fn upsert_slice(
        &mut self,
        slice: EndpointSlice,
        touched: &mut Touched,
    ) -> Result<(), OverLimit> {
        let key = slice.key.clone();
        let before = self.slices.get(&key);
        if before == Some(&slice) {
            return Ok(());
        }
        if before.is_none() && self.slices.len() >= limits::SLICES {
            return Err(OverLimit("endpoint slices"));
        }
        let others = self.endpoints - before.map_or(0, |slice| slice.endpoints.len());
        if others + slice.endpoints.len() > limits::ENDPOINTS {
            return Err(OverLimit("endpoints"));
        }
        self.delete_slice(&key, touched);
        self.endpoints += slice.endpoints.len();
        self.slices_of
            .entry(slice.service.clone())
            .or_default()
            .insert(key.clone());
        touched.services.insert(slice.service.clone());
        self.slices.insert(key, slice);
        Ok(())
    }

    fn delete_slice(&mut self, key: &SliceKey, touched: &mut Touched) {
        let Some(slice) = self.slices.remove(key) else {
            return;
        };
        self.endpoints -= slice.endpoints.len();
        if let Some(keys) = self.slices_of.get_mut(&slice.service) {
            keys.remove(key);
            if keys.is_empty() {
                self.slices_of.remove(&slice.service);
            }
        }
        touched.services.insert(slice.service);
    }

    /// Takes out an object, and notes what it reached.
    pub(crate) fn delete(&mut self, key: &FactKey, touched: &mut Touched) {
        touched.cluster |= match key {
            FactKey::Service(key) => {
                if self.services.remove(key).is_some() {
                    touched.services.insert(key.clone());
                }
                false
            }
            FactKey::Slice(key) => {
                self.delete_slice(key, touched);
                false
            }
            FactKey::Namespace(name) => self.namespaces.remove(name).is_some(),
            FactKey::Gateway(name) => self.gateways.remove(name).is_some(),
            FactKey::Export(mesh) => self.exports.remove(mesh).is_some(),
            FactKey::Mesh(name) => self.meshes.remove(name).is_some(),
            FactKey::Member(cluster) => self.members.remove(cluster).is_some(),
        };
    }

    /// Takes single addresses of a service out of all its slices.
    pub(crate) fn forget_endpoints(
        &mut self,
        service: &ServiceKey,
        addresses: &BTreeSet<EndpointAddress>,
        touched: &mut Touched,
    ) {
        for key in self.slices_of.get(service).cloned().unwrap_or_default() {
            let Some(slice) = self.slices.get_mut(&key) else {
                continue;
            };
            let before = slice.endpoints.len();
            slice
                .endpoints
                .retain(|endpoint| !addresses.contains(&endpoint.address));
            let removed = before - slice.endpoints.len();
            self.endpoints -= removed;
            if removed > 0 {
                touched.services.insert(service.clone());
            }
            if slice.endpoints.is_empty() {
                self.delete_slice(&key, touched);
            }
        }
    }

    /// The slices of a service, by name.
    pub(crate) fn slices_of(&self, service: &ServiceKey) -> impl Iterator<Item = &EndpointSlice> {
        self.slices_of
            .get(service)
            .into_iter()
            .flatten()
            .filter_map(|key| self.slices.get(key))
    }

    /// The addresses behind a service, over all its slices.
    pub(crate) fn addresses(&self, service: &ServiceKey) -> BTreeSet<EndpointAddress> {
        self.slices_of(service)
            .flat_map(|slice| slice.endpoints.iter().map(|endpoint| endpoint.address))
            .collect()
    }

    /// The services that are there, or that have slices.
    pub(crate) fn service_keys(&self) -> BTreeSet<ServiceKey> {
        self.services
            .keys()
            .chain(self.slices_of.keys())
            .cloned()
            .collect()
    }

    /// How many endpoints there are, over all slices.
    pub(crate) fn endpoints(&self) -> usize {
        self.endpoints
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.services.is_empty() && self.slices.is_empty() && self.settings_are_empty()
    }

    fn settings_are_empty(&self) -> bool {
        self.namespaces.is_empty()
            && self.gateways.is_empty()
            && self.exports.is_empty()
            && self.meshes.is_empty()
            && self.members.is_empty()
    }

    /// Notes everything in which `self` and `other` differ.
    pub(crate) fn differences(&self, other: &Facts, touched: &mut Touched) {
        differing(
            &self.services,
            &other.services,
            |service| &service.key,
            touched,
        );
        differing(&self.slices, &other.slices, |slice| &slice.service, touched);
        touched.cluster |= self.namespaces != other.namespaces
            || self.gateways != other.gateways
            || self.exports != other.exports
            || self.meshes != other.meshes
            || self.members != other.members;
    }

    /// What is in `self` and not in the complete list `next`: whole objects, and single endpoints of slices.
    pub(crate) fn missing_in(&self, next: &Facts) -> Facts {
        let mut missing = Facts {
            namespaces: absent(&self.namespaces, &next.namespaces),
            services: absent(&self.services, &next.services),
            gateways: absent(&self.gateways, &next.gateways),
            exports: absent(&self.exports, &next.exports),
            meshes: absent(&self.meshes, &next.meshes),
            members: absent(&self.members, &next.members),
            ..Facts::default()
        };
        for service in self.slices_of.keys() {
            let after = next.addresses(service);
            for slice in self.slices_of(service) {
                let mut lost = slice.clone();
                lost.endpoints
                    .retain(|endpoint| !after.contains(&endpoint.address));
                if !lost.endpoints.is_empty() {
                    missing
                        .upsert_slice(lost, &mut Touched::default())
                        .expect("a part of what is within the limits is within them");
                }
            }
        }
        missing
    }

    /// The services and endpoints in `self` that the complete list `next` has too.
    pub(crate) fn present_in(&self, next: &Facts) -> Facts {
        let mut present = Facts::default();
        let services = self
            .services
            .iter()
            .filter(|(key, _)| next.services.contains_key(*key));
        present
            .services
            .extend(services.map(|(key, service)| (key.clone(), service.clone())));
        for service in self.slices_of.keys() {
            let after = next.addresses(service);
            for slice in self.slices_of(service) {
                let mut again = slice.clone();
                again
                    .endpoints
                    .retain(|endpoint| after.contains(&endpoint.address));
                present
                    .upsert_slice(again, &mut Touched::default())
                    .expect("a part of what is within the limits is within them");
            }
        }
        present
    }

    /// All objects, by kind and key.
    pub(crate) fn iter(&self) -> impl Iterator<Item = Fact> {
        let settings = self.meshes.values().cloned().map(Fact::Mesh);
        settings
            .chain(self.members.values().cloned().map(Fact::Member))
            .chain(self.namespaces.values().cloned().map(Fact::Namespace))
            .chain(self.exports.values().cloned().map(Fact::Export))
            .chain(self.gateways.values().cloned().map(Fact::Gateway))
            .chain(self.services.values().cloned().map(Fact::Service))
            .chain(self.slices.values().cloned().map(Fact::Slice))
    }
}

/// The endpoints of each service that can be used: of a service that one of the layers has, in any of them.
pub(crate) fn usable<'a>(
    layers: impl Iterator<Item = &'a Facts> + Clone,
) -> BTreeMap<&'a ServiceKey, BTreeSet<EndpointAddress>> {
    let mut all = BTreeMap::new();
    for facts in layers.clone() {
        for key in facts.slices_of.keys() {
            if layers.clone().any(|facts| facts.services.contains_key(key)) {
                let behind: &mut BTreeSet<_> = all.entry(key).or_default();
                behind.extend(facts.addresses(key));
            }
        }
    }
    all
}

fn absent<K: Ord + Clone, V: Clone>(
    before: &BTreeMap<K, V>,
    after: &BTreeMap<K, V>,
) -> BTreeMap<K, V> {
    let gone = before.iter().filter(|(key, _)| !after.contains_key(key));
    gone.map(|(key, value)| (key.clone(), value.clone()))
        .collect()
}

fn differing<K: Ord, V: PartialEq>(
    one: &BTreeMap<K, V>,
    other: &BTreeMap<K, V>,
    service: impl Fn(&V) -> &ServiceKey,
    touched: &mut Touched,
) {
    for (key, value) in one {
        match other.get(key) {
            Some(same) if same == value => {}
            Some(changed) => {
                touched.services.insert(service(value).clone());
                touched.services.insert(service(changed).clone());
            }
            None => {
                touched.services.insert(service(value).clone());
            }
        }
    }
    for (key, value) in other {
        if !one.contains_key(key) {
            touched.services.insert(service(value).clone());
        }
    }
}
