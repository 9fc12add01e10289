//! Which services a gateway lets others in to, and which ways lead into a network.

use std::collections::BTreeMap;

use catamaran_model::{ClusterId, GatewayAddress, NetworkId};
use catamaran_registry::MergedService;

/// The gateways that lead into each network, with the cluster each stands in.
pub(crate) type Gateways = BTreeMap<NetworkId, Vec<(ClusterId, GatewayAddress)>>;

/// At most so many addresses of one cluster's gateways are used at a time. The least common multiple of all counts up
/// to here is 840, so weights stay exact up to millions of endpoints.
pub(crate) const MAX_GATEWAY_ADDRESSES: usize = 8;

/// Whether other networks may reach the service in `cluster` through its gateways. Control planes and gateways are not
/// among them: the registry keeps what is `catamaran-system`'s in its cluster.
pub(crate) fn is_exported(service: &MergedService, cluster: &ClusterId) -> bool {
    service.vips.contains_key(cluster) && !service.keeps(cluster)
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
