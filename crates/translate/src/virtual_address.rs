//! Virtual addresses for services that have none in a cluster.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

use catamaran_model::{ClusterDomain, ClusterId, ServiceKey};
use catamaran_registry::MergedService;

/// 240.240.0.0/16 without its first and last address, as Istio's automatic addresses.
const FIRST: u32 = u32::from_be_bytes([240, 240, 0, 1]);

/// So many services of a cluster can be without an address of their own.
pub(crate) const CAPACITY: u32 = 65_534;

/// The addresses that a cluster's proxies give to services without one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct VirtualAddresses {
    given: BTreeMap<ServiceKey, Ipv4Addr>,
    /// Those for which no address was left.
    pub(crate) left_out: BTreeSet<ServiceKey>,
}

impl VirtualAddresses {
    /// None given.
    pub(crate) const NONE: VirtualAddresses = VirtualAddresses {
        given: BTreeMap::new(),
        left_out: BTreeSet::new(),
    };

    /// Gives each service the address that its host hashes to, or the next free one; services come in the order of their
    /// keys, so that equal sets get equal addresses. A service keeps its address while others come and go, except when two
    /// want the same one.
    pub(crate) fn give<'a>(
        services: impl IntoIterator<Item = &'a ServiceKey>,
        domain: &ClusterDomain,
    ) -> VirtualAddresses {
        let services: BTreeSet<&ServiceKey> = services.into_iter().collect();
        let mut taken = vec![false; CAPACITY as usize];
        let mut addresses = VirtualAddresses::default();
        for (count, key) in services.into_iter().enumerate() {
            if count >= CAPACITY as usize {
                addresses.left_out.insert(key.clone());
                continue;
            }
            let mut slot = (fnv1a(key.host(domain).as_bytes()) % u64::from(CAPACITY)) as u32;
            while taken[slot as usize] {
                slot = (slot + 1) % CAPACITY;
            }
            taken[slot as usize] = true;
            let address = Ipv4Addr::from(FIRST + slot);
            addresses.given.insert(key.clone(), address);
        }
        addresses
    }

    /// Whether `service` needs an address in `cluster`.
    pub(crate) fn wanted(service: &MergedService, cluster: &ClusterId) -> bool {
        own_vip(service, cluster).is_none()
    }

    /// The address that the service has for proxies of `cluster`: its own there, else the one given here.
    pub(crate) fn of(&self, service: &MergedService, cluster: &ClusterId) -> Option<IpAddr> {
        own_vip(service, cluster).or_else(|| self.given.get(&service.key).copied().map(IpAddr::V4))
    }

    /// The services whose given address differs between the two.
    pub(crate) fn moved(&self, newer: &VirtualAddresses) -> BTreeSet<ServiceKey> {
        let keys = self.given.keys().chain(newer.given.keys());
        keys.filter(|key| self.given.get(*key) != newer.given.get(*key))
            .cloned()
            .collect()
    }
}

fn own_vip(service: &MergedService, cluster: &ClusterId) -> Option<IpAddr> {
    let vip = service.vips.get(cluster).copied().flatten();
    vip.filter(|address| !address.is_unspecified())
}

/// FNV-1a, 64 bits: small, and the same everywhere.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests;
