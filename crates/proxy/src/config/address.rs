//! Where a control plane is reached.

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;
use std::sync::Arc;

/// Where a control plane listens: an address, or a name that the system's resolver is asked for at each connection, as for a
/// Kubernetes Service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ControlPlaneAddress {
    /// An address and a port.
    Ip(SocketAddr),
    /// A name and a port.
    Name(Arc<str>, u16),
}

impl From<SocketAddr> for ControlPlaneAddress {
    fn from(address: SocketAddr) -> Self {
        ControlPlaneAddress::Ip(address)
    }
}

impl fmt::Display for ControlPlaneAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ControlPlaneAddress::Ip(address) => write!(f, "{address}"),
            ControlPlaneAddress::Name(name, port) => write!(f, "{name}:{port}"),
        }
    }
}

/// Why a text is no address of a control plane.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is neither IP:PORT nor NAME:PORT, as 10.0.0.1:15012 or control-plane.catamaran-system.svc:15012"
)]
pub struct AddressError(String);

impl FromStr for ControlPlaneAddress {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        if let Ok(address) = text.parse() {
            return Ok(ControlPlaneAddress::Ip(address));
        }
        let error = || AddressError(text.chars().take(300).collect());
        let (name, port) = text.rsplit_once(':').ok_or_else(error)?;
        let port = port.parse().ok().filter(|port| *port != 0);
        let label = |label: &str| {
            let letters = label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-');
            letters && !label.is_empty() && label.len() <= 63 && !label.starts_with('-')
        };
        let name = name.strip_suffix('.').unwrap_or(name);
        // what ends in a number would be a mistaken address
        let number = |label: &str| label.bytes().all(|b| b.is_ascii_digit());
        let legal = name.len() <= 253
            && name.split('.').all(label)
            && !name.rsplit('.').next().is_some_and(number);
        match (legal, port) {
            (true, Some(port)) => Ok(ControlPlaneAddress::Name(name.into(), port)),
            _ => Err(error()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_names_are_told_apart() {
        let text = "10.0.0.1:15012";
        assert_eq!(
            text.parse(),
            Ok(ControlPlaneAddress::Ip(text.parse().unwrap()))
        );
        assert!(matches!("[::1]:1".parse(), Ok(ControlPlaneAddress::Ip(_))));
        let named: ControlPlaneAddress = "istiod.istio-system.svc.:15012".parse().unwrap();
        assert_eq!(named.to_string(), "istiod.istio-system.svc:15012");
        for wrong in [
            "", "a", "a:", "a:0", "a:70000", ":1", "a..b:1", "a b:1", "-a:1", "10.0.0:1", "::1:x",
        ] {
            assert!(wrong.parse::<ControlPlaneAddress>().is_err(), "{wrong}");
        }
    }
}
