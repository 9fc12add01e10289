//! Which services, endpoints and gateways an audience may know of.

use std::collections::BTreeMap;

use catamaran_model::{ClusterId, GatewayAddress, NetworkId, ServiceKey, SpiffeId};
use catamaran_registry::MergedService;

/// The gateways that lead into each network, with the cluster each stands in.
pub(crate) type Gateways = BTreeMap<NetworkId, Vec<(ClusterId, GatewayAddress)>>;

/// At most so many addresses of one cluster's gateways are used at a time. The least common multiple of all counts up
/// to here is 840, so weights stay exact up to millions of endpoints.
pub(crate) const MAX_GATEWAY_ADDRESSES: usize = 8;

/// Whether a service belongs to an instance itself: its control plane and gateways, which every cluster has its own of.
pub(crate) fn is_system(key: &ServiceKey) -> bool {
    key.namespace.as_str() == SpiffeId::SYSTEM_NAMESPACE
}

/// Whether proxies of `cluster` know of the service.
pub(crate) fn sees_service(service: &MergedService, cluster: &ClusterId) -> bool {
    service
        .vips
        .keys()
        .any(|from| sees_cluster(service, cluster, from))
}

/// Whether proxies of `cluster` may use what `from` says of the service. A cluster that keeps a service to itself neither
/// lends its endpoints nor borrows others'.
pub(crate) fn sees_cluster(service: &MergedService, cluster: &ClusterId, from: &ClusterId) -> bool {
    from == cluster
        || !(is_system(&service.key)
            || service.cluster_local.contains(cluster)
            || service.cluster_local.contains(from))
}

/// Whether other networks may reach the service in `cluster` through its gateways.
pub(crate) fn is_exported(service: &MergedService, cluster: &ClusterId) -> bool {
    service.vips.contains_key(cluster)
        && !is_system(&service.key)
        && !service.cluster_local.contains(cluster)
}

/// The addresses through which endpoints of `cluster` in `network` are reached from elsewhere: in a stable order, at most
/// [`MAX_GATEWAY_ADDRESSES`]. A gateway leads into its own cluster only, so another cluster's gateway is no way, even
/// when it stands in the same network.
pub(crate) fn ways_into(
    gateways: &Gateways,
    network: Option<&NetworkId>,
    cluster: &ClusterId,
) -> Vec<GatewayAddress> {
    let known = network.and_then(|network| gateways.get(network));
    let mut ways: Vec<GatewayAddress> = known
        .into_iter()
        .flatten()
        .filter(|(stands_in, _)| stands_in == cluster)
        .map(|(_, at)| *at)
        .collect();
    ways.sort();
    ways.dedup();
    ways
}
