//! Addresses that a workload or gateway may have.

use std::fmt;
use std::net::IpAddr;

/// An IP address that may stand behind a service: not unspecified, multicast, broadcast or link-local.
///
/// Loopback is refused unless the cluster says that its pods live there (local clusters without network namespaces).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EndpointAddress(IpAddr);

/// Why an address may not stand behind a service.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// The text is no IP address at all; host names are not resolved here.
    #[error("{0:?} is not an IP address")]
    NotAnAddress(String),
    /// An address that would lead somewhere else than to a workload.
    #[error(
        "{address} is a {what} address: traffic of a service must not be led there; remove the endpoint"
    )]
    Forbidden {
        /// The refused address.
        address: IpAddr,
        /// Its kind, in words.
        what: &'static str,
    },
}

impl EndpointAddress {
    /// Checks an address of a cluster whose pods have addresses of their own.
    pub fn new(address: IpAddr) -> Result<Self, AddressError> {
        Self::check(address, false)
    }

    /// Checks an address of a cluster whose pods live on loopback addresses.
    pub fn on_loopback(address: IpAddr) -> Result<Self, AddressError> {
        Self::check(address, true)
    }

    /// Reads and checks a text, see [`EndpointAddress::new`].
    pub fn parse(text: &str, loopback: bool) -> Result<Self, AddressError> {
        let address = text
            .parse()
            .map_err(|_| AddressError::NotAnAddress(text.chars().take(80).collect()))?;
        Self::check(address, loopback)
    }

    fn check(address: IpAddr, loopback: bool) -> Result<Self, AddressError> {
        let plain = match address {
            IpAddr::V6(v6) => v6.to_ipv4_mapped().map_or(address, IpAddr::V4),
            v4 => v4,
        };
        let what = match plain {
            _ if plain.is_unspecified() => "unspecified",
            _ if plain.is_multicast() => "multicast",
            _ if plain.is_loopback() && !loopback => "loopback",
            IpAddr::V4(v4) if v4.is_broadcast() => "broadcast",
            IpAddr::V4(v4) if v4.is_link_local() => "link-local",
            IpAddr::V4(v4) if v4.octets()[0] == 0 || v4.octets()[0] >= 240 => "reserved",
            IpAddr::V6(v6) if v6.is_unicast_link_local() => "link-local",
            _ => return Ok(EndpointAddress(plain)),
        };
        Err(AddressError::Forbidden { address, what })
    }

    /// The address itself.
    pub fn ip(self) -> IpAddr {
        self.0
    }
}

impl fmt::Display for EndpointAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests;
