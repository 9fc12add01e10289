//! Which names a resource makes the client ask for.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use catamaran_wire::Message;
use catamaran_wire::cluster::{Cluster, ClusterDiscoveryType, DiscoveryType};
use catamaran_wire::hcm::{HttpConnectionManager, RouteSpecifier};
use catamaran_wire::listener::{FilterConfigType, Listener};

use crate::{Resource, ResourceKey, TypeUrlKind};

/// The names that the accepted resources refer to, counted, so that the last one to go ends the subscription.
#[derive(Debug, Default)]
pub(super) struct References {
    by_resource: BTreeMap<ResourceKey, BTreeSet<ResourceKey>>,
    counts: BTreeMap<ResourceKey, usize>,
}

impl References {
    /// Replaces what the resource of this key refers to.
    pub(super) fn set(&mut self, key: ResourceKey, resource: Option<&Resource>) {
        let after = resource.map(references).unwrap_or_default();
        let before = match after.is_empty() {
            true => self.by_resource.remove(&key),
            false => self.by_resource.insert(key, after.clone()),
        }
        .unwrap_or_default();
        for added in after.difference(&before) {
            *self.counts.entry(added.clone()).or_default() += 1;
        }
        for dropped in before.difference(&after) {
            if let Some(count) = self.counts.get_mut(dropped) {
                *count -= 1;
                if *count == 0 {
                    self.counts.remove(dropped);
                }
            }
        }
    }

    pub(super) fn contains(&self, key: &ResourceKey) -> bool {
        self.counts.contains_key(key)
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &ResourceKey> {
        self.counts.keys()
    }

    pub(super) fn of_kind(&self, kind: TypeUrlKind) -> BTreeSet<Arc<str>> {
        let of_kind = self.counts.keys().filter(|key| key.kind == kind);
        of_kind.map(|key| key.name.clone()).collect()
    }
}

/// A body that cannot be read refers to nothing; it is for the builder of tables to refuse it.
fn references(resource: &Resource) -> BTreeSet<ResourceKey> {
    match resource.kind {
        TypeUrlKind::Cluster => Cluster::decode(resource.bytes.clone())
            .ok()
            .and_then(|cluster| endpoints_of(&cluster))
            .into_iter()
            .collect(),
        TypeUrlKind::Listener => Listener::decode(resource.bytes.clone())
            .map(|listener| routes_of(&listener))
            .unwrap_or_default(),
        TypeUrlKind::Issuers | TypeUrlKind::Endpoints | TypeUrlKind::Route | TypeUrlKind::Names => {
            BTreeSet::new()
        }
    }
}

fn endpoints_of(cluster: &Cluster) -> Option<ResourceKey> {
    let eds = ClusterDiscoveryType::Type(DiscoveryType::Eds.into());
    if cluster.cluster_discovery_type != Some(eds) {
        return None;
    }
    let config = cluster.eds_cluster_config.as_ref();
    let service = config
        .map(|config| config.service_name.as_str())
        .filter(|name| !name.is_empty());
    let name = service.unwrap_or(&cluster.name);
    Some(ResourceKey::new(TypeUrlKind::Endpoints, name))
}

fn routes_of(listener: &Listener) -> BTreeSet<ResourceKey> {
    let chains = listener
        .filter_chains
        .iter()
        .chain(&listener.default_filter_chain);
    let settings = chains
        .flat_map(|chain| &chain.filters)
        .filter_map(|filter| match &filter.config_type {
            Some(FilterConfigType::TypedConfig(any)) => Some(any),
            _ => None,
        });
    settings
        .filter_map(|any| any.unpack::<HttpConnectionManager>().ok())
        .filter_map(|manager| match manager.route_specifier {
            Some(RouteSpecifier::Rds(rds)) => Some(rds.route_config_name),
            _ => None,
        })
        .map(|name| ResourceKey::new(TypeUrlKind::Route, name))
        .collect()
}
