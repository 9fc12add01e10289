//! What primaries say to each other, and the gateways between networks.

use std::fmt;
use std::net::IpAddr;

use crate::{ClusterId, EndpointAddress, MeshName, NetworkId, Region, Version};

/// SHA-256 of a certificate's DER bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fingerprint(pub [u8; 32]);

impl Fingerprint {
    /// Reads 64 hex digits, with or without colons.
    pub fn parse(text: &str) -> Option<Fingerprint> {
        let digits: Vec<u8> = text
            .bytes()
            .filter(|b| *b != b':')
            .map(|b| (b as char).to_digit(16).map(|d| d as u8))
            .collect::<Option<_>>()?;
        let bytes: Vec<u8> = digits
            .chunks(2)
            .map(|p| p[0] << 4 | p[p.len() - 1])
            .collect();
        (digits.len() == 64).then(|| Fingerprint(bytes.try_into().expect("64 digits are 32 bytes")))
    }

    /// The first two and the last byte, for people: `9f:3c…a1`.
    pub fn short(&self) -> String {
        format!("{:02x}:{:02x}…{:02x}", self.0[0], self.0[1], self.0[31])
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.short())
    }
}

/// Where a gateway accepts traffic of other networks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GatewayAddress {
    /// The address.
    pub address: EndpointAddress,
    /// The port, 15443 by convention.
    pub port: u16,
}

impl GatewayAddress {
    /// The port that Istio and we use for SNI passthrough.
    pub const PORT: u16 = 15443;

    /// Address and port, for a socket.
    pub fn socket(&self) -> std::net::SocketAddr {
        (self.address.ip(), self.port).into()
    }
}

impl fmt::Display for GatewayAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.address.ip() {
            IpAddr::V4(v4) => write!(f, "{v4}:{}", self.port),
            IpAddr::V6(v6) => write!(f, "[{v6}]:{}", self.port),
        }
    }
}

/// An east-west gateway that a cluster was seen to have, or that a person named.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NetworkGateway {
    /// A name unique in its cluster (the Service's name, or the address for one given by hand).
    pub name: String,
    /// The network it leads into; `None` when its label is missing and its cluster's network holds.
    pub network: Option<NetworkId>,
    /// Where it accepts.
    pub at: GatewayAddress,
}

/// The one word between primaries: what an instance says of itself in its own cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MeshExport {
    /// The instance.
    pub mesh: MeshName,
    /// Its managed cluster.
    pub cluster: ClusterId,
    /// An id that tells clusters of the same name apart.
    pub cluster_uid: String,
    /// The version it runs.
    pub version: Version,
    /// Its region.
    pub region: Option<Region>,
    /// The network its cluster is assigned to.
    pub network: Option<NetworkId>,
    /// The gateways of its cluster.
    pub gateways: Vec<GatewayAddress>,
    /// The roots it trusts.
    pub roots: Vec<Fingerprint>,
    /// The intermediates that may speak for its cluster's workloads.
    pub intermediates: Vec<Fingerprint>,
    /// Digest of its configuration, for drift reports.
    pub digest: String,
}
