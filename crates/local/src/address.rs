//! Which address everything in a local fleet has; a pure function of the fleet's id and a few small numbers.

use std::net::Ipv4Addr;

use crate::fleet::{Cluster, Fleet, Isolation};

/// The numbers that pods of one cluster may have, as last part of their address, with namespaces.
pub const POD_NUMBERS: std::ops::RangeInclusive<u8> = 10..=250;
/// The same without namespaces, where every pod takes a second address for its program.
pub const POD_NUMBERS_ON_LOOPBACK: std::ops::RangeInclusive<u8> = 10..=129;
/// How many Services of a cluster may have a virtual address.
pub const MAX_SERVICE_ADDRESSES: u16 = 60_000;

/// The first number of a program's own address on loopback, less the pod's.
const APP_OFFSET: u8 = 120;
const CONTROL_PLANE: u8 = 2;
const GATEWAY: u8 = 3;

/// The addresses of one cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Addresses {
    isolation: Isolation,
    fleet: u16,
    cluster: u8,
    network: u8,
}

impl Addresses {
    /// The addresses of `cluster` in `fleet`.
    pub fn of(fleet: &Fleet, cluster: &Cluster) -> Addresses {
        Addresses {
            isolation: fleet.isolation,
            fleet: u32::from_str_radix(&fleet.id, 16).map_or(0, |id| (id % (253 * 256)) as u16),
            cluster: cluster.index,
            network: cluster.network_index,
        }
    }

    /// With namespaces `10.N.C.x`, else one of `127.0.0.0/8` that depends on the fleet.
    fn at(&self, last: u8) -> Ipv4Addr {
        match self.isolation {
            Isolation::Netns => Ipv4Addr::new(10, self.network, self.cluster, last),
            Isolation::Process => {
                let n = self.fleet + u16::from(self.cluster);
                Ipv4Addr::new(127, (1 + n / 256) as u8, (n % 256) as u8, last)
            }
        }
    }

    /// The numbers pods may have.
    pub fn pod_numbers(&self) -> std::ops::RangeInclusive<u8> {
        match self.isolation {
            Isolation::Netns => POD_NUMBERS,
            Isolation::Process => POD_NUMBERS_ON_LOOPBACK,
        }
    }

    /// A pod's address, by its number.
    pub fn pod(&self, number: u8) -> Ipv4Addr {
        self.at(number)
    }

    /// The number of a pod with this address, if it is one of this cluster's.
    pub fn number(&self, address: Ipv4Addr) -> Option<u8> {
        self.pod_numbers().find(|n| self.pod(*n) == address)
    }

    /// Where the pod's program listens: its own second address on loopback, or the pod's with namespaces.
    pub fn app(&self, number: u8) -> Ipv4Addr {
        match self.isolation {
            Isolation::Netns => self.at(number),
            Isolation::Process => self.at(number + APP_OFFSET),
        }
    }

    /// The control plane's.
    pub fn control_plane(&self) -> Ipv4Addr {
        self.at(CONTROL_PLANE)
    }

    /// The east-west gateway's, towards the pods of its network.
    pub fn gateway_inside(&self) -> Ipv4Addr {
        self.at(GATEWAY)
    }

    /// The east-west gateway's, towards other networks: on the WAN with namespaces.
    pub fn gateway(&self) -> Ipv4Addr {
        match self.isolation {
            Isolation::Netns => Ipv4Addr::new(198, 18, 1, self.cluster),
            Isolation::Process => self.at(GATEWAY),
        }
    }

    /// The router of the cluster's network, towards the pods.
    pub fn router(&self) -> Ipv4Addr {
        Ipv4Addr::new(10, self.network, 0, 1)
    }

    /// The router of the cluster's network, on the WAN.
    pub fn router_wan(&self) -> Ipv4Addr {
        Ipv4Addr::new(198, 18, 0, self.network)
    }

    /// The `n`th virtual address, from 1, of `10.96.0.0/16`. Every cluster has the same range.
    pub fn service(n: u16) -> Ipv4Addr {
        let [high, low] = n.to_be_bytes();
        Ipv4Addr::new(10, 96, high, low)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use catamaran_model::{ClusterId, NetworkId};

    fn addresses(isolation: Isolation, id: &str, index: u8) -> Addresses {
        let fleet = Fleet {
            id: id.into(),
            isolation,
        };
        let cluster = Cluster {
            name: ClusterId::new("c").unwrap(),
            uid: "u".into(),
            index,
            network: NetworkId::new("n").unwrap(),
            network_index: 2,
        };
        Addresses::of(&fleet, &cluster)
    }

    #[test]
    fn pods_have_the_addresses_of_the_map() {
        let netns = addresses(Isolation::Netns, "a1b2c3", 7);
        assert_eq!(netns.pod(10).to_string(), "10.2.7.10");
        assert_eq!(netns.gateway().to_string(), "198.18.1.7");
        assert_eq!(netns.router_wan().to_string(), "198.18.0.2");
        assert_eq!(Addresses::service(258).to_string(), "10.96.1.2");
    }

    #[test]
    fn loopback_addresses_never_collide_nor_touch_the_machines_own() {
        for id in ["000000", "ffffff", "00fd00", "00fcff"] {
            let mut seen = std::collections::BTreeSet::new();
            for index in [1, 2, 250] {
                let at = addresses(Isolation::Process, id, index);
                assert!(seen.insert(at.control_plane()) && seen.insert(at.gateway()));
                for number in at.pod_numbers() {
                    assert!(seen.insert(at.pod(number)), "{}", at.pod(number));
                    assert!(seen.insert(at.app(number)), "{}", at.app(number));
                }
            }
            assert!(seen.iter().all(|a| a.is_loopback() && a.octets()[1] > 0));
        }
    }
}
