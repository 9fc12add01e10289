//! `istio.networking.nds.v1.NameTable`: what the proxy's own DNS answers.

use catamaran_model::{ClusterDomain, ClusterId};
use catamaran_registry::MergedService;
use catamaran_wire::names::{NameInfo, NameTable};
use catamaran_xds::{Resource, TypeUrlKind};

use crate::virtual_address::VirtualAddresses;

/// The name of the one table.
pub const NAME_TABLE: &str = "names";

/// Every service that proxies of `cluster` see, by host, with the one address it has there: its own ClusterIP in that
/// cluster, else one of 240.240.0.0/16. Never a remote cluster's ClusterIP, since clusters share a range. The proxy derives
/// short names from `shortname` and `namespace`.
pub(crate) fn table<'a>(
    services: impl Iterator<Item = &'a MergedService>,
    cluster: &ClusterId,
    addresses: &VirtualAddresses,
    domain: &ClusterDomain,
) -> Resource {
    let entry = |service: &MergedService| {
        let address = addresses.of(service, cluster)?;
        let info = NameInfo {
            ips: vec![address.to_string()],
            registry: "Kubernetes".to_owned(),
            shortname: service.key.name.to_string(),
            namespace: service.key.namespace.to_string(),
            alt_hosts: Vec::new(),
        };
        Some((service.key.host(domain), info))
    };
    let table = NameTable {
        table: services.filter_map(entry).collect(),
    };
    Resource::new(TypeUrlKind::Names, NAME_TABLE, &table)
}

#[cfg(test)]
mod tests;
