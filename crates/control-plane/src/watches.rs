//! The watches of an instance's clusters: which run, which life each of them is in, and how one takes over from another.

use std::collections::BTreeMap;
use std::sync::Arc;

use catamaran_local::fleet::FleetDir;
use catamaran_local::manifest::Problem as ManifestProblem;
use catamaran_local::watch::{Watched, Work, watch};
use catamaran_model::{ClusterId, Credential, Member};
use catamaran_registry::{Change, WatchGeneration};
use tokio::sync::{mpsc, watch as latest};
use tokio::task::JoinHandle;

/// The watches that run. A new one runs beside the old one until its list is complete.
pub(crate) struct Watches {
    fleet: FleetDir,
    loopback: bool,
    out: mpsc::Sender<Change>,
    last: u64,
    clusters: BTreeMap<ClusterId, Vec<Running>>,
    work: Arc<Work>,
}

struct Running {
    generation: WatchGeneration,
    folder: ClusterId,
    task: JoinHandle<()>,
    problems: latest::Receiver<Vec<ManifestProblem>>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Watches {
    pub(crate) fn new(fleet: FleetDir, loopback: bool, out: mpsc::Sender<Change>) -> Watches {
        Watches {
            fleet,
            loopback,
            out,
            last: 0,
            clusters: BTreeMap::new(),
            work: Arc::default(),
        }
    }

    /// What all watches did, counted.
    pub(crate) fn work(&self) -> Arc<Work> {
        self.work.clone()
    }

    /// Makes sure that a cluster is watched in this folder; says whether a watch was started.
    pub(crate) fn ensure(&mut self, cluster: &ClusterId, folder: &ClusterId) -> bool {
        let newest = self
            .clusters
            .get(cluster)
            .and_then(|running| running.last());
        if newest.is_some_and(|newest| newest.folder == *folder && !newest.task.is_finished()) {
            return false;
        }
        self.start(cluster, folder);
        true
    }

    /// Starts a watch beside the one that runs, for a second complete list. Does nothing while a newer one than `owner` is at
    /// it already.
    pub(crate) fn list_again(&mut self, cluster: &ClusterId) {
        let Some(running) = self.clusters.get(cluster) else {
            return;
        };
        if let [only] = &running[..] {
            let folder = only.folder.clone();
            self.start(cluster, &folder);
        }
    }

    fn start(&mut self, cluster: &ClusterId, folder: &ClusterId) {
        self.last += 1;
        let generation = WatchGeneration(self.last);
        let watched = Watched {
            folder: self.fleet.cluster(folder).path().to_owned(),
            cluster: cluster.clone(),
            generation,
            loopback: self.loopback,
            work: self.work.clone(),
        };
        let (told, problems) = latest::channel(Vec::new());
        let running = self.clusters.entry(cluster.clone()).or_default();
        // A replacement that was not complete gives way to the next one.
        running.truncate(1);
        running.push(Running {
            generation,
            folder: folder.clone(),
            task: tokio::spawn(watch(watched, self.out.clone(), told)),
            problems,
        });
    }

    /// A watch completed its list: older ones of the cluster end.
    pub(crate) fn took_over(&mut self, cluster: &ClusterId, generation: WatchGeneration) {
        if let Some(running) = self.clusters.get_mut(cluster) {
            running.retain(|watch| watch.generation >= generation);
        }
    }

    /// Ends the watches of a cluster; gives the last generation that may still have said something.
    pub(crate) fn stop(&mut self, cluster: &ClusterId) -> WatchGeneration {
        self.clusters.remove(cluster);
        WatchGeneration(self.last)
    }

    /// The clusters that are watched.
    pub(crate) fn clusters(&self) -> impl Iterator<Item = &ClusterId> {
        self.clusters.keys()
    }

    /// Watches that ended by themselves, which none should: with the life that ended.
    pub(crate) fn ended(&self) -> Vec<(ClusterId, ClusterId, WatchGeneration)> {
        let newest = self
            .clusters
            .iter()
            .filter_map(|(cluster, running)| Some((cluster, running.last()?)));
        newest
            .filter(|(_, running)| running.task.is_finished())
            .map(|(cluster, running)| (cluster.clone(), running.folder.clone(), running.generation))
            .collect()
    }

    /// What people should know of the manifests of each cluster.
    pub(crate) fn problems(&self) -> Vec<catamaran_registry::Problem> {
        let all = self.clusters.iter().flat_map(|(cluster, running)| {
            let newest = running
                .last()
                .map(|newest| newest.problems.borrow().clone());
            let problems = newest.unwrap_or_default();
            problems
                .into_iter()
                .map(move |problem| problem.in_cluster(cluster))
        });
        all.collect()
    }
}

/// The folder in which a member's facts are, when it is a local cluster: `clusters/NAME` from the fleet's folder, or `NAME`.
pub(crate) fn folder_of(member: &Member) -> Option<ClusterId> {
    match &member.credential {
        Credential::Folder(folder) => {
            ClusterId::new(folder.strip_prefix("clusters/").unwrap_or(folder)).ok()
        }
        Credential::Secret(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use catamaran_model::MemberMode;

    #[test]
    fn a_folder_is_named_as_the_manifest_names_it() {
        let folder = |text: &str| {
            let cluster = folder_of(&Member {
                cluster: ClusterId::new("c").unwrap(),
                mode: MemberMode::DiscoveryOnly,
                network: None,
                gateway: false,
                gateway_addresses: Vec::new(),
                credential: Credential::Folder(text.into()),
            });
            cluster.map(|cluster| cluster.to_string())
        };
        assert_eq!(folder("clusters/cluster-2").as_deref(), Some("cluster-2"));
        assert_eq!(folder("cluster-2").as_deref(), Some("cluster-2"));
        assert_eq!(folder("../other/clusters/cluster-2"), None);
    }
}
