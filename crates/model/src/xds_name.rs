//! Names of xDS clusters and their SNI form, as Istio writes them.
//!
//! Source: Istio's `BuildSubsetKey` and `BuildDNSSrvSubsetKey`, see `docs/reference/names.md`.

use std::fmt;

/// Which way traffic flows, seen from the workload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Direction {
    /// From the workload to others.
    Outbound,
    /// From others to the workload.
    Inbound,
}

/// `outbound|PORT|SUBSET|HOST`; the host of an inbound cluster is empty.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClusterName {
    /// Which way.
    pub direction: Direction,
    /// The Service's port; for inbound the workload's own.
    pub port: u16,
    /// The subset, empty for all.
    pub subset: String,
    /// The service's host.
    pub host: String,
}

/// The text is not a cluster name of Istio's form.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a cluster name of the form outbound|PORT|SUBSET|HOST")]
pub struct ClusterNameError(pub String);

impl ClusterName {
    /// The cluster of all endpoints of a service's port.
    pub fn outbound(port: u16, host: impl Into<String>) -> Self {
        ClusterName {
            direction: Direction::Outbound,
            port,
            subset: String::new(),
            host: host.into(),
        }
    }

    /// The cluster that leads to the workload itself.
    pub fn inbound(port: u16) -> Self {
        ClusterName {
            direction: Direction::Inbound,
            port,
            subset: String::new(),
            host: String::new(),
        }
    }

    /// Reads `outbound|5000||helloworld.default.svc.cluster.local`.
    pub fn parse(text: &str) -> Result<Self, ClusterNameError> {
        Self::split(text, '|').ok_or_else(|| ClusterNameError(text.chars().take(300).collect()))
    }

    /// Reads the SNI form, `outbound_.5000_._.helloworld.default.svc.cluster.local`.
    pub fn parse_sni(text: &str) -> Result<Self, ClusterNameError> {
        let read = || {
            let mut parts = text.splitn(4, "_.");
            Self::build(parts.next()?, parts.next()?, parts.next()?, parts.next()?)
        };
        read().ok_or_else(|| ClusterNameError(text.chars().take(300).collect()))
    }

    /// The SNI under which a gateway finds this cluster; also the cluster's name on a gateway.
    pub fn sni(&self) -> String {
        format!(
            "{}_.{}_.{}_.{}",
            self.direction, self.port, self.subset, self.host
        )
    }

    fn split(text: &str, by: char) -> Option<Self> {
        let mut parts = text.splitn(4, by);
        Self::build(parts.next()?, parts.next()?, parts.next()?, parts.next()?)
    }

    fn build(direction: &str, port: &str, subset: &str, host: &str) -> Option<Self> {
        let direction = match direction {
            "outbound" => Direction::Outbound,
            "inbound" => Direction::Inbound,
            _ => return None,
        };
        let digits = !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit());
        let port = port.parse().ok().filter(|_| digits)?;
        Some(ClusterName {
            direction,
            port,
            subset: subset.into(),
            host: host.into(),
        })
    }
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Direction::Outbound => "outbound",
            Direction::Inbound => "inbound",
        })
    }
}

impl fmt::Display for ClusterName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}|{}|{}|{}",
            self.direction, self.port, self.subset, self.host
        )
    }
}

#[cfg(test)]
mod tests;
