//! Small worlds: what resources say is a number, and some numbers cannot be used.

use std::sync::Arc;

use catamaran_wire::cluster::{Cluster, ClusterDiscoveryType, DiscoveryType};
use catamaran_wire::endpoint::{ClusterLoadAssignment, LocalityLbEndpoints};
use catamaran_wire::hcm::{HttpConnectionManager, Rds, RouteSpecifier};
use catamaran_wire::listener::{Filter, FilterChain, FilterConfigType, Listener};
use catamaran_wire::names::{NameInfo, NameTable};
use catamaran_wire::own::Issuers;
use catamaran_wire::route::{RouteConfiguration, VirtualHost};
use catamaran_wire::{Any, Message};
use catamaran_xds::{Resource, ResourceSet, TypeUrlKind};

/// From this on, content cannot be used.
pub(crate) const BAD: u32 = 100;

pub(crate) fn cluster(name: &str, content: u32) -> Arc<Resource> {
    let message = Cluster {
        name: name.into(),
        alt_stat_name: content.to_string(),
        cluster_discovery_type: Some(ClusterDiscoveryType::Type(DiscoveryType::Eds.into())),
        ..Cluster::default()
    };
    Arc::new(Resource::new(TypeUrlKind::Cluster, name, &message))
}

pub(crate) fn endpoints(name: &str, content: u32) -> Arc<Resource> {
    let message = ClusterLoadAssignment {
        cluster_name: name.into(),
        endpoints: vec![LocalityLbEndpoints {
            priority: content,
            ..LocalityLbEndpoints::default()
        }],
        ..ClusterLoadAssignment::default()
    };
    Arc::new(Resource::new(TypeUrlKind::Endpoints, name, &message))
}

/// A listener whose route has the same name.
pub(crate) fn listener(name: &str, content: u32) -> Arc<Resource> {
    let manager = HttpConnectionManager {
        route_specifier: Some(RouteSpecifier::Rds(Rds {
            route_config_name: name.into(),
            ..Rds::default()
        })),
        ..HttpConnectionManager::default()
    };
    let message = Listener {
        name: name.into(),
        stat_prefix: content.to_string(),
        filter_chains: vec![FilterChain {
            filters: vec![Filter {
                config_type: Some(FilterConfigType::TypedConfig(Any::pack(&manager))),
                ..Filter::default()
            }],
            ..FilterChain::default()
        }],
        ..Listener::default()
    };
    Arc::new(Resource::new(TypeUrlKind::Listener, name, &message))
}

/// A route to one cluster.
pub(crate) fn route(name: &str, cluster: &str, content: u32) -> Arc<Resource> {
    let message = RouteConfiguration {
        name: name.into(),
        virtual_hosts: vec![VirtualHost {
            name: cluster.into(),
            domains: vec![content.to_string()],
            ..VirtualHost::default()
        }],
        ..RouteConfiguration::default()
    };
    Arc::new(Resource::new(TypeUrlKind::Route, name, &message))
}

pub(crate) fn issuers(name: &str, content: u32) -> Arc<Resource> {
    let message = Issuers {
        cluster: name.into(),
        fingerprints: vec![content.to_le_bytes().to_vec().into()],
    };
    Arc::new(Resource::new(TypeUrlKind::Issuers, name, &message))
}

pub(crate) fn names(content: u32) -> Arc<Resource> {
    let info = NameInfo {
        shortname: content.to_string(),
        ..NameInfo::default()
    };
    let table = [("a".to_owned(), info)].into();
    Arc::new(Resource::new(
        TypeUrlKind::Names,
        "names",
        &NameTable { table },
    ))
}

pub(crate) fn set(resources: impl IntoIterator<Item = Arc<Resource>>) -> ResourceSet {
    resources.into_iter().collect()
}

/// The number in a resource.
pub(crate) fn content(resource: &Resource) -> u32 {
    let bytes = resource.bytes.clone();
    let number = |text: String| text.parse().unwrap();
    match resource.kind {
        TypeUrlKind::Cluster => number(Cluster::decode(bytes).unwrap().alt_stat_name),
        TypeUrlKind::Endpoints => {
            ClusterLoadAssignment::decode(bytes).unwrap().endpoints[0].priority
        }
        TypeUrlKind::Listener => number(Listener::decode(bytes).unwrap().stat_prefix),
        TypeUrlKind::Route => {
            let mut route = RouteConfiguration::decode(bytes).unwrap();
            number(route.virtual_hosts.remove(0).domains.remove(0))
        }
        TypeUrlKind::Issuers => {
            let fingerprint = &Issuers::decode(bytes).unwrap().fingerprints[0];
            u32::from_le_bytes(fingerprint[..].try_into().unwrap())
        }
        TypeUrlKind::Names => number(
            NameTable::decode(bytes).unwrap().table["a"]
                .shortname
                .clone(),
        ),
    }
}

pub(crate) fn is_bad(resource: &Resource) -> bool {
    content(resource) >= BAD
}

/// The cluster that a route leads to.
pub(crate) fn cluster_of(route: &Resource) -> String {
    let mut route = RouteConfiguration::decode(route.bytes.clone()).unwrap();
    route.virtual_hosts.remove(0).name
}

/// The name that a body carries.
pub(crate) fn name_of(kind: TypeUrlKind, bytes: &[u8]) -> String {
    match kind {
        TypeUrlKind::Cluster => Cluster::decode(bytes).unwrap().name,
        TypeUrlKind::Endpoints => ClusterLoadAssignment::decode(bytes).unwrap().cluster_name,
        kind => panic!("{kind} is not read here"),
    }
}
