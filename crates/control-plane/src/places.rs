//! Where a managed cluster's workloads are: network and locality by pod, from the registry's facts and not from what a proxy says.

use std::collections::{BTreeMap, BTreeSet};

use catamaran_model::{ClusterId, Locality, NetworkId, ServiceAccount, ServiceKey, WorkloadKey};
use catamaran_registry::Snapshot;

/// Where a workload is, and as whom.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(crate) network: Option<NetworkId>,
    pub(crate) locality: Locality,
    /// `None` when no service has the workload among its endpoints, so that nothing is known of it.
    pub(crate) service_account: Option<ServiceAccount>,
}

/// The places of one cluster's workloads; it follows snapshots service by service.
#[derive(Debug)]
pub(crate) struct Places {
    cluster: ClusterId,
    /// Whether the instance runs in it: its region is then the instance's.
    home: bool,
    behind: BTreeMap<ServiceKey, BTreeMap<WorkloadKey, Place>>,
    services: BTreeMap<WorkloadKey, BTreeSet<ServiceKey>>,
    elsewhere: Place,
}

/// Whose place may be another now.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Moved {
    /// These.
    pub(crate) workloads: BTreeSet<WorkloadKey>,
    /// And all that no service knows.
    pub(crate) unknown: bool,
}

impl Moved {
    pub(crate) fn is_empty(&self) -> bool {
        self.workloads.is_empty() && !self.unknown
    }
}

impl Places {
    pub(crate) fn new(cluster: ClusterId, home: bool) -> Places {
        Places {
            cluster,
            home,
            behind: BTreeMap::new(),
            services: BTreeMap::new(),
            elsewhere: Place {
                network: None,
                locality: Locality::default(),
                service_account: None,
            },
        }
    }

    /// Goes from one snapshot to a later one.
    pub(crate) fn follow(&mut self, before: &Snapshot, after: &Snapshot) -> Moved {
        let mut moved = Moved::default();
        for key in after.services_changed_since(before) {
            let behind = self.behind_in(key, after);
            let old = match behind.is_empty() {
                true => self.behind.remove(key).unwrap_or_default(),
                false => self
                    .behind
                    .insert(key.clone(), behind.clone())
                    .unwrap_or_default(),
            };
            for (workload, place) in &old {
                if behind.get(workload) != Some(place) {
                    moved.workloads.insert(workload.clone());
                }
                if !behind.contains_key(workload)
                    && let Some(services) = self.services.get_mut(workload)
                {
                    services.remove(key);
                    if services.is_empty() {
                        self.services.remove(workload);
                    }
                }
            }
            for (workload, place) in &behind {
                if old.get(workload) != Some(place) {
                    moved.workloads.insert(workload.clone());
                    self.services
                        .entry(workload.clone())
                        .or_default()
                        .insert(key.clone());
                }
            }
        }
        let view = after.clusters.get(&self.cluster);
        let elsewhere = Place {
            network: view.and_then(|view| view.network.clone()),
            locality: Locality {
                region: (after.mesh.as_ref().filter(|_| self.home))
                    .and_then(|mesh| mesh.region.clone()),
                zone: None,
            },
            service_account: None,
        };
        moved.unknown = elsewhere != self.elsewhere;
        self.elsewhere = elsewhere;
        moved
    }

    fn behind_in(&self, key: &ServiceKey, snapshot: &Snapshot) -> BTreeMap<WorkloadKey, Place> {
        let endpoints = snapshot
            .services
            .get(key)
            .into_iter()
            .flat_map(|service| &service.endpoints);
        let ours = endpoints.filter(|endpoint| endpoint.cluster == self.cluster);
        ours.filter_map(|endpoint| {
            let place = Place {
                network: endpoint.network.clone(),
                locality: endpoint.endpoint.locality.clone(),
                service_account: Some(endpoint.endpoint.service_account.clone()),
            };
            Some((endpoint.endpoint.workload.clone()?, place))
        })
        .collect()
    }

    /// Where a workload is: as its endpoints say, else where its cluster is.
    pub(crate) fn of(&self, workload: &WorkloadKey) -> &Place {
        let services = self.services.get(workload).into_iter().flatten();
        let mut places = services.filter_map(|key| self.behind.get(key)?.get(workload));
        places.next().unwrap_or(&self.elsewhere)
    }

    /// Whether any service has the workload among its endpoints.
    pub(crate) fn knows(&self, workload: &WorkloadKey) -> bool {
        self.services.contains_key(workload)
    }
}

#[cfg(test)]
mod tests;
