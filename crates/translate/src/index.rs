//! What is looked up while translating, derived from a snapshot and kept up to date by what changed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use catamaran_model::{AppProtocol, ClusterId, ServiceKey, WorkloadKey};
use catamaran_registry::{MergedPort, MergedService, Problem, ProblemKind, Severity, Snapshot};

use crate::settings::Settings;
use crate::virtual_address::VirtualAddresses;

/// A service before and after.
pub(crate) struct Edit<'a> {
    pub(crate) key: &'a ServiceKey,
    pub(crate) old: Option<&'a Arc<MergedService>>,
    pub(crate) new: Option<&'a Arc<MergedService>>,
}

impl Edit<'_> {
    /// Whether more than its endpoints changed.
    pub(crate) fn reshaped(&self) -> bool {
        match (self.old, self.new) {
            (Some(old), Some(new)) => {
                old.ports != new.ports
                    || old.vips != new.vips
                    || old.cluster_local != new.cluster_local
                    || old.local_ports != new.local_ports
            }
            (None, None) => false,
            _ => true,
        }
    }
}

/// The services that differ between two snapshots. What they share costs nothing.
pub(crate) fn edits<'a>(old: &'a Snapshot, new: &'a Snapshot) -> Vec<Edit<'a>> {
    let changes = new.services.changes_since(&old.services).into_iter();
    let edits = changes.map(|change| Edit {
        key: change.key(),
        old: change.old,
        new: change.new,
    });
    edits.filter(|edit| edit.old != edit.new).collect()
}

/// The ports on which HTTP is spoken, or may be.
pub(crate) fn http_ports(ports: &[MergedPort]) -> impl Iterator<Item = u16> {
    let http = |protocol: AppProtocol| protocol.is_http() || protocol == AppProtocol::Detect;
    ports
        .iter()
        .filter(move |port| http(port.protocol))
        .map(|port| port.number)
}

/// The same, of a service for callers of any cluster.
pub(crate) fn all_http_ports(service: &MergedService) -> BTreeSet<u16> {
    let views = service.local_ports.values().chain([&service.ports]);
    views.flat_map(|ports| http_ports(ports)).collect()
}

/// Lookups over all services.
#[derive(Debug, PartialEq)]
pub(crate) struct Index {
    pub(crate) settings: Settings,
    /// The services that carry HTTP on a port, or may, for callers of some cluster.
    pub(crate) http_ports: BTreeMap<u16, BTreeSet<ServiceKey>>,
    /// What belongs to the clusters that somebody listens in.
    pub(crate) locals: BTreeMap<ClusterId, Local>,
}

/// Lookups that differ from cluster to cluster.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Local {
    pub(crate) addresses: VirtualAddresses,
    workloads: BTreeMap<WorkloadKey, BTreeMap<ServiceKey, Ports>>,
}

/// A workload's own ports, with what a service says is spoken there.
pub(crate) type Ports = BTreeMap<u16, AppProtocol>;

/// What an update of a [`Local`] changed.
#[derive(Debug, Default)]
pub(crate) struct LocalEdit {
    /// Services that got another virtual address.
    pub(crate) moved: BTreeSet<ServiceKey>,
    /// Workloads that got other ports.
    pub(crate) workloads: BTreeSet<WorkloadKey>,
}

impl Index {
    /// Everything, from nothing.
    pub(crate) fn of(snapshot: &Snapshot) -> Index {
        let mut index = Index {
            settings: Settings::of(snapshot),
            http_ports: BTreeMap::new(),
            locals: BTreeMap::new(),
        };
        for service in snapshot.services.values() {
            index.add_ports(service);
        }
        index
    }

    /// Adds what belongs to a cluster.
    pub(crate) fn add_local(&mut self, cluster: &ClusterId, snapshot: &Snapshot) {
        let mut local = Local {
            addresses: addresses(snapshot, cluster, &self.settings),
            workloads: BTreeMap::new(),
        };
        for service in snapshot.services.values() {
            for (workload, ports) in workloads(service, cluster) {
                let services = local.workloads.entry(workload).or_default();
                services.insert(service.key.clone(), ports);
            }
        }
        self.locals.insert(cluster.clone(), local);
    }

    /// Follows the edits that lead to `snapshot`; the settings must be the same.
    pub(crate) fn follow(
        &mut self,
        edits: &[Edit<'_>],
        snapshot: &Snapshot,
    ) -> BTreeMap<ClusterId, LocalEdit> {
        let reshaped = edits.iter().any(Edit::reshaped);
        for edit in edits.iter().filter(|edit| edit.reshaped()) {
            if let Some(old) = edit.old {
                self.remove_ports(old);
            }
            if let Some(new) = edit.new {
                self.add_ports(new);
            }
        }
        let settings = &self.settings;
        let follow_local = |(cluster, local): (&ClusterId, &mut Local)| {
            let mut change = LocalEdit::default();
            if reshaped {
                let addresses = addresses(snapshot, cluster, settings);
                change.moved = local.addresses.moved(&addresses);
                local.addresses = addresses;
            }
            for edit in edits {
                local.follow(edit, cluster, &mut change.workloads);
            }
            (cluster.clone(), change)
        };
        self.locals.iter_mut().map(follow_local).collect()
    }

    /// The address that `service` has for proxies of `cluster`.
    pub(crate) fn addresses(&self, cluster: &ClusterId) -> &VirtualAddresses {
        static NONE: VirtualAddresses = VirtualAddresses::NONE;
        self.locals
            .get(cluster)
            .map_or(&NONE, |local| &local.addresses)
    }

    /// The ports of a workload; where services disagree on what is spoken, the first one by key is right, and a problem
    /// says so.
    pub(crate) fn workload_ports(
        &self,
        cluster: &ClusterId,
        workload: &WorkloadKey,
    ) -> (Ports, Vec<Problem>) {
        let mut ports = Ports::new();
        let mut problems = Vec::new();
        let services = self
            .locals
            .get(cluster)
            .and_then(|local| local.workloads.get(workload));
        for (service, says) in services.into_iter().flatten() {
            for (port, protocol) in says {
                let right = *ports.entry(*port).or_insert(*protocol);
                if right != *protocol {
                    problems.push(Problem {
                        severity: Severity::Warning,
                        kind: ProblemKind::PortConflict,
                        cluster: Some(cluster.clone()),
                        object: format!("Service {service}"),
                        message: format!(
                            "it says that {protocol} is spoken on port {port} of its pods, another service of the same \
                             pods says {right}, which is used: give both ports the same name prefix or appProtocol"
                        ),
                    });
                }
            }
        }
        (ports, problems)
    }

    fn add_ports(&mut self, service: &MergedService) {
        for port in all_http_ports(service) {
            let services = self.http_ports.entry(port).or_default();
            services.insert(service.key.clone());
        }
    }

    fn remove_ports(&mut self, service: &MergedService) {
        for port in all_http_ports(service) {
            if let Some(services) = self.http_ports.get_mut(&port) {
                services.remove(&service.key);
                if services.is_empty() {
                    self.http_ports.remove(&port);
                }
            }
        }
    }
}

impl Local {
    fn follow(
        &mut self,
        edit: &Edit<'_>,
        cluster: &ClusterId,
        changed: &mut BTreeSet<WorkloadKey>,
    ) {
        let ports = |service: Option<&Arc<MergedService>>| {
            service.map_or_else(BTreeMap::new, |service| workloads(service, cluster))
        };
        let (old, new) = (ports(edit.old), ports(edit.new));
        for workload in old.keys().filter(|workload| !new.contains_key(*workload)) {
            changed.insert(workload.clone());
            if let Some(services) = self.workloads.get_mut(workload) {
                services.remove(edit.key);
                if services.is_empty() {
                    self.workloads.remove(workload);
                }
            }
        }
        for (workload, after) in new {
            if old.get(&workload) != Some(&after) {
                let services = self.workloads.entry(workload.clone()).or_default();
                services.insert(edit.key.clone(), after);
                changed.insert(workload);
            }
        }
    }
}

fn addresses(snapshot: &Snapshot, cluster: &ClusterId, settings: &Settings) -> VirtualAddresses {
    let without = snapshot.services.values().filter(|service| {
        VirtualAddresses::wanted(service, cluster) && service.is_known_in(cluster)
    });
    VirtualAddresses::give(without.map(|service| &service.key), &settings.domain)
}

/// The workloads of `cluster` behind a service, with their ports.
fn workloads(service: &MergedService, cluster: &ClusterId) -> BTreeMap<WorkloadKey, Ports> {
    let mut workloads: BTreeMap<WorkloadKey, Ports> = BTreeMap::new();
    let local = service
        .endpoints
        .iter()
        .filter(|endpoint| endpoint.cluster == *cluster);
    for endpoint in local {
        let Some(workload) = &endpoint.endpoint.workload else {
            continue;
        };
        let ports = workloads.entry(workload.clone()).or_default();
        for port in service.ports_seen_from(cluster) {
            if let Some(own) = endpoint.ports.get(&port.number) {
                ports.entry(*own).or_insert(port.protocol);
            }
        }
    }
    workloads
}
