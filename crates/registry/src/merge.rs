//! Namespace sameness: the parts of a service in all clusters become one service.
//!
//! The merge is a function of the set of parts, so it is commutative, associative and idempotent: order and repetition of
//! what was learnt cannot show.
//!
//! Ports are united by number. Where clusters disagree on what is spoken on a port, the protocol that most of them name
//! wins, and among equals the one of the cluster whose name sorts first; a cluster that says nothing
//! ([`AppProtocol::Detect`]) has no vote unless all say nothing. Ages are not known here, so the oldest cannot win. Every cluster
//! that loses is named in a [`Problem`]. A port's name is the winner's; it is no conflict, since each cluster's own slices are
//! read with its own names.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use catamaran_model::{AppProtocol, ClusterId, ServiceKey};

use crate::shard::Vip;
use crate::{MergedEndpoint, MergedPort, MergedService, Problem, ProblemKind, Severity};

/// One cluster's part of a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Part {
    /// By number, each number once.
    pub(crate) ports: Vec<MergedPort>,
    pub(crate) vip: Vip,
    pub(crate) cluster_local: bool,
    /// By address.
    pub(crate) endpoints: Vec<Arc<MergedEndpoint>>,
}

/// The parts of one service that are known.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Merge {
    parts: BTreeMap<ClusterId, Part>,
}

impl Merge {
    /// What one cluster says.
    pub(crate) fn of(cluster: ClusterId, part: Part) -> Merge {
        Merge {
            parts: BTreeMap::from([(cluster, part)]),
        }
    }

    /// What both know. A cluster has one shard, so two different parts of one cluster do not meet.
    pub(crate) fn join(mut self, other: Merge) -> Merge {
        for (cluster, part) in other.parts {
            self.parts.entry(cluster).or_insert(part);
        }
        self
    }

    /// The service, when any cluster has it, and what people should know about it.
    pub(crate) fn finish(&self, key: &ServiceKey) -> Option<(MergedService, Vec<Problem>)> {
        if self.parts.is_empty() {
            return None;
        }
        let shared = || self.parts.iter().filter(|(_, part)| !part.cluster_local);
        let kept = || self.parts.iter().filter(|(_, part)| part.cluster_local);
        let numbers: BTreeSet<u16> = (self.parts.values())
            .flat_map(|part| part.ports.iter().map(|port| port.number))
            .collect();
        let mut problems = Vec::new();
        let ports = numbers.into_iter().map(|number| {
            let mut said = saying(number, shared());
            let alone = said.is_empty();
            if alone {
                said = saying(number, kept());
            }
            let mut conflicts = Vec::new();
            let port = agree(key, &said, &mut conflicts);
            // What clusters keep to themselves they need not agree on.
            if !alone {
                problems.append(&mut conflicts);
            }
            port
        });
        let ports = ports.collect();
        let service = MergedService {
            key: key.clone(),
            ports,
            vips: self
                .parts
                .iter()
                .map(|(cluster, part)| (cluster.clone(), part.vip))
                .collect(),
            cluster_local: kept().map(|(cluster, _)| cluster.clone()).collect(),
            local_ports: kept()
                .map(|(cluster, part)| (cluster.clone(), part.ports.clone()))
                .collect(),
            endpoints: self
                .parts
                .values()
                .flat_map(|part| part.endpoints.iter().cloned())
                .collect(),
        };
        Some((service, problems))
    }
}

/// What the clusters say of a port, in the order of their names.
fn saying<'a>(
    number: u16,
    parts: impl Iterator<Item = (&'a ClusterId, &'a Part)>,
) -> Vec<(&'a ClusterId, &'a MergedPort)> {
    let said = parts.filter_map(|(cluster, part)| {
        let port = part.ports.iter().find(|port| port.number == number)?;
        Some((cluster, port))
    });
    said.collect()
}

/// One port out of what the clusters say, which is not empty and in the order of their names.
fn agree(
    key: &ServiceKey,
    said: &[(&ClusterId, &MergedPort)],
    problems: &mut Vec<Problem>,
) -> MergedPort {
    let votes = |protocol: AppProtocol| {
        said.iter()
            .filter(|(_, port)| port.protocol == protocol)
            .count()
    };
    let rank = |port: &MergedPort| (port.protocol != AppProtocol::Detect, votes(port.protocol));
    let (first, rest) = said.split_first().expect("a port is said by some cluster");
    let (winner, port) = rest.iter().fold(first, |best, next| {
        if rank(next.1) > rank(best.1) {
            next
        } else {
            best
        }
    });
    for (cluster, other) in said
        .iter()
        .filter(|(_, other)| other.protocol != port.protocol)
    {
        problems.push(Problem {
            severity: Severity::Warning,
            kind: ProblemKind::PortConflict,
            cluster: Some((*cluster).clone()),
            object: format!("Service {key}"),
            message: format!(
                "port {} is {} in {cluster} and {} in {winner}: {} is used for all of them; name the port or its \
                 appProtocol alike in every cluster",
                port.number, other.protocol, port.protocol, port.protocol
            ),
        });
    }
    (*port).clone()
}

#[cfg(test)]
mod tests;
