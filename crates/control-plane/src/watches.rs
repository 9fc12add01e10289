//! The watches of an instance's clusters: which run, which life each of them is in, and how one takes over from another.

use std::collections::BTreeMap;
use std::sync::Arc;

use catamaran_kubernetes::connect::Access;
use catamaran_kubernetes::kubeconfig::{Allowed, Kubeconfig, User};
use catamaran_kubernetes::remote::{Credentials, same_cluster};
use catamaran_kubernetes::token::{self, Granted, Renewal};
use catamaran_kubernetes::watch as server;
use catamaran_local::fleet::FleetDir;
use catamaran_local::manifest::Problem as ManifestProblem;
use catamaran_local::watch::{Watched, Work, watch};
use catamaran_model::{ClusterId, Credential, Member, MemberMode, Namespace, Timestamp};
use catamaran_registry::{Change, Observed, Problem, ProblemKind, Severity, WatchGeneration};
use tokio::sync::{mpsc, watch as latest};
use tokio::task::JoinHandle;

/// What the managed cluster is, and with it what others can be.
#[derive(Debug, Clone)]
pub(crate) enum Home {
    /// A local cluster in a fleet.
    Fleet {
        fleet: FleetDir,
        /// Whether pods have addresses on loopback.
        loopback: bool,
    },
    /// A cluster with an API server.
    Server(Managed),
}

/// A managed cluster with an API server.
#[derive(Debug, Clone)]
pub(crate) struct Managed {
    /// The way to it, whose credential somebody else renews.
    pub(crate) access: Access,
    /// Where Istio keeps its remote secrets, when they count.
    pub(crate) istio: Option<Namespace>,
    /// What kubeconfigs in secrets may do.
    pub(crate) allowed: Allowed,
}

/// The way to a cluster's facts. A cluster whose way is another one is listed on the new way before the old one ends.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Way {
    /// The managed cluster's own.
    Own,
    /// A folder of the fleet.
    Folder(ClusterId),
    /// An API server of a cluster that is only discovered.
    Server(Arc<Kubeconfig>),
    /// An API server of a cluster that is managed from here.
    Afar(Arc<Kubeconfig>),
}

/// The clusters that are managed beside the instance's own, with the ways there.
pub(crate) type Afar = BTreeMap<ClusterId, AfarWay>;

/// The way to a cluster that is managed from here.
#[derive(Debug, Clone)]
pub(crate) struct AfarWay {
    /// Its token renews itself.
    pub(crate) access: Access,
    /// Another one for each credential.
    pub(crate) generation: WatchGeneration,
    /// The UID of its namespace kube-system, once it is known.
    pub(crate) uid: Option<String>,
}

impl PartialEq for AfarWay {
    /// The same credential has the same generation.
    fn eq(&self, other: &AfarWay) -> bool {
        (self.generation, &self.uid) == (other.generation, &other.uid)
    }
}

/// How the credential for another cluster is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Lent {
    /// When it ends.
    pub(crate) ends: Option<Timestamp>,
    /// Why it could not be renewed.
    pub(crate) failing: Option<String>,
    /// Why it is not accepted, or cannot be used.
    pub(crate) refused: Option<String>,
    /// The Secret where it is: `NAMESPACE/NAME`, or the name of one in our namespace.
    pub(crate) place: Option<String>,
    /// What it was renewed to, while the Secret does not have that.
    pub(crate) renewed: Option<Renewed>,
}

/// A credential, and the token that came after the one in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Renewed {
    pub(crate) from: Arc<Kubeconfig>,
    pub(crate) to: Granted,
}

/// The watches that run. A new one runs beside the old one until its list is complete.
pub(crate) struct Watches {
    home: Home,
    local: ClusterId,
    now: fn() -> Timestamp,
    out: mpsc::Sender<Change>,
    last: u64,
    clusters: BTreeMap<ClusterId, Vec<Running>>,
    work: Arc<Work>,
}

struct Running {
    generation: WatchGeneration,
    way: Way,
    task: JoinHandle<()>,
    beside: Beside,
}

/// What a watch knows beside the facts.
enum Beside {
    Folder(latest::Receiver<Vec<ManifestProblem>>),
    Server {
        known: latest::Receiver<server::Beside>,
        /// How the renewal of its token goes.
        renewal: latest::Receiver<Renewal>,
        /// The way there, when more is done with it than watching.
        afar: Option<Access>,
    },
}

impl Running {
    /// The credential, and what it was renewed to since.
    fn renewed(&self) -> Option<Renewed> {
        let (Way::Server(config) | Way::Afar(config)) = &self.way else {
            return None;
        };
        let Beside::Server { renewal, .. } = &self.beside else {
            return None;
        };
        match &*renewal.borrow() {
            Renewal::InTime(granted) if config.token().as_ref() != Some(&granted.token) => {
                Some(Renewed {
                    from: config.clone(),
                    to: granted.clone(),
                })
            }
            _ => None,
        }
    }

    /// Whether a way is ours with the token that we renewed it to: then it is the one that is in use.
    fn renewed_to(&self, way: &Way) -> bool {
        let same_mode = matches!(
            (&self.way, way),
            (Way::Server(_), Way::Server(_)) | (Way::Afar(_), Way::Afar(_))
        );
        let (Way::Server(config) | Way::Afar(config), true) = (way, same_mode) else {
            return false;
        };
        self.renewed().is_some_and(|renewed| {
            let user = User::Token(renewed.to.token.clone());
            let next = Kubeconfig {
                user,
                ..(*renewed.from).clone()
            };
            next == **config
        })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Watches {
    pub(crate) fn new(
        home: Home,
        local: ClusterId,
        out: mpsc::Sender<Change>,
        now: fn() -> Timestamp,
    ) -> Watches {
        Watches {
            home,
            local,
            now,
            out,
            last: 0,
            clusters: BTreeMap::new(),
            work: Arc::default(),
        }
    }

    /// What all watches of folders did, counted.
    pub(crate) fn work(&self) -> Arc<Work> {
        self.work.clone()
    }

    /// The way to a member's facts, or why there is none.
    pub(crate) fn way_to(&self, member: &Member) -> Result<Way, String> {
        match (&self.home, &member.credential) {
            _ if member.cluster == self.local => Ok(Way::Own),
            (Home::Fleet { .. }, _) => folder_of(member).map(Way::Folder).ok_or_else(|| {
                "its credential is not a folder of this fleet, and an instance in a local fleet reads no other".into()
            }),
            (Home::Server(_), Credential::Folder(_)) => Err(
                "its credential is a folder, which an instance in a cluster with an API server does not read; name a secret with a kubeconfig"
                    .into(),
            ),
            (Home::Server(_), Credential::Secret(place)) => {
                let credentials = self.credentials();
                let held = credentials.of(place, &member.cluster).ok_or_else(|| {
                    format!(
                        "there is no secret {place} with the label istio/multiCluster=true and a kubeconfig under {}; add the cluster again",
                        member.cluster
                    )
                })?;
                let refused = || held.refused.clone().unwrap_or_default();
                let way = match member.mode {
                    MemberMode::Managed => Way::Afar,
                    MemberMode::DiscoveryOnly => Way::Server,
                };
                held.usable.clone().map(way).ok_or_else(refused)
            }
        }
    }

    /// The credentials for other clusters that the managed one holds, as the oldest of its watches says: a newer one that runs
    /// beside it knows none before its list is complete.
    fn credentials(&self) -> Arc<Credentials> {
        let own = self
            .clusters
            .get(&self.local)
            .and_then(|running| running.first());
        match own.map(|own| &own.beside) {
            Some(Beside::Server { known, .. }) => known.borrow().credentials.clone(),
            _ => Arc::default(),
        }
    }

    /// Makes sure that a cluster is watched on this way; says whether a watch was started.
    pub(crate) fn ensure(&mut self, cluster: &ClusterId, way: &Way) -> bool {
        let newest = self
            .clusters
            .get_mut(cluster)
            .and_then(|running| running.last_mut());
        if let Some(newest) = newest.filter(|newest| !newest.task.is_finished()) {
            if newest.renewed_to(way) {
                newest.way = way.clone();
            }
            if newest.way == *way {
                return false;
            }
        }
        self.start(cluster, way);
        true
    }

    /// Starts a watch beside the one that runs, for a second complete list. Does nothing while a newer one than `owner` is at
    /// it already.
    pub(crate) fn list_again(&mut self, cluster: &ClusterId) {
        let Some(running) = self.clusters.get(cluster) else {
            return;
        };
        if let [only] = &running[..] {
            let way = only.way.clone();
            self.start(cluster, &way);
        }
    }

    fn start(&mut self, cluster: &ClusterId, way: &Way) {
        self.last += 1;
        let generation = WatchGeneration(self.last);
        let (task, beside) = match (&self.home, way) {
            (Home::Fleet { fleet, loopback }, way) => {
                let folder = match way {
                    Way::Folder(folder) => folder,
                    _ => cluster,
                };
                let watched = Watched {
                    folder: fleet.cluster(folder).path().to_owned(),
                    cluster: cluster.clone(),
                    generation,
                    loopback: *loopback,
                    work: self.work.clone(),
                };
                let (told, problems) = latest::channel(Vec::new());
                let task = tokio::spawn(watch(watched, self.out.clone(), told));
                (task, Beside::Folder(problems))
            }
            (Home::Server(managed), Way::Server(config) | Way::Afar(config)) => {
                let allowed = managed.allowed;
                let access = Access::new(config, allowed).map_err(|error| error.to_string());
                let reads = match way {
                    Way::Afar(_) => server::Reads::FromAfar,
                    _ => server::Reads::DiscoveryOnly,
                };
                self.remote(cluster, generation, access, config.clone(), reads)
            }
            (Home::Server(managed), _) => {
                let reads = server::Reads::Managed {
                    istio: managed.istio.clone(),
                    allowed: managed.allowed,
                };
                let (told, known) = latest::channel(server::Beside::default());
                let (_, renewal) = latest::channel(Renewal::Endless);
                let watched = server::Watched {
                    cluster: cluster.clone(),
                    generation,
                    access: managed.access.clone(),
                    reads,
                    pace: catamaran_kubernetes::Pace::default(),
                };
                let task = tokio::spawn(server::watch(watched, self.out.clone(), told));
                let beside = Beside::Server {
                    known,
                    renewal,
                    afar: None,
                };
                (task, beside)
            }
        };
        let running = self.clusters.entry(cluster.clone()).or_default();
        // A replacement that was not complete gives way to the next one.
        running.truncate(1);
        running.push(Running {
            generation,
            way: way.clone(),
            task,
            beside,
        });
    }

    /// A watch of another cluster, with the renewal of its token.
    fn remote(
        &self,
        cluster: &ClusterId,
        generation: WatchGeneration,
        access: Result<Access, String>,
        config: Arc<Kubeconfig>,
        reads: server::Reads,
    ) -> (JoinHandle<()>, Beside) {
        let afar = access.clone().ok();
        let afar = afar.filter(|_| reads == server::Reads::FromAfar);
        let (told, known) = latest::channel(server::Beside::default());
        let (renewed, renewal) = latest::channel(Renewal::Endless);
        let (cluster, out, now) = (cluster.clone(), self.out.clone(), self.now);
        let task = tokio::spawn(async move {
            let access = match access {
                Ok(access) => access,
                Err(reason) => {
                    let what = Observed::Lost(reason);
                    let lost = Change {
                        cluster,
                        watch: generation,
                        what,
                    };
                    // The keeper is gone only when the process stops.
                    let _ = out.send(lost).await;
                    return std::future::pending().await;
                }
            };
            let watched = server::Watched {
                cluster,
                generation,
                access: access.clone(),
                reads,
                pace: catamaran_kubernetes::Pace::default(),
            };
            let watching = server::watch(watched, out, told);
            match config.token() {
                Some(token) => tokio::select! {
                    () = watching => {}
                    () = token::keep(access, token, now, renewed) => {}
                },
                None => watching.await,
            }
        });
        let beside = Beside::Server {
            known,
            renewal,
            afar,
        };
        (task, beside)
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
    pub(crate) fn ended(&self) -> Vec<(ClusterId, Way, WatchGeneration)> {
        self.newest()
            .filter(|(_, running)| running.task.is_finished())
            .map(|(cluster, running)| (cluster.clone(), running.way.clone(), running.generation))
            .collect()
    }

    fn newest(&self) -> impl Iterator<Item = (&ClusterId, &Running)> {
        self.clusters
            .iter()
            .filter_map(|(cluster, running)| Some((cluster, running.last()?)))
    }

    /// The UID of a cluster, when its API server has said it.
    pub(crate) fn uid(&self, cluster: &ClusterId) -> Option<String> {
        let running = self.clusters.get(cluster)?.first()?;
        match &running.beside {
            Beside::Server { known, .. } => known.borrow().uid.clone(),
            Beside::Folder(_) => None,
        }
    }

    /// The clusters that are managed from here, each by the way that counts: the new one when its list is complete.
    pub(crate) fn afar(&self) -> Afar {
        let first = self.clusters.iter();
        let first = first.filter_map(|(cluster, running)| Some((cluster, running.first()?)));
        first
            .filter_map(|(cluster, running)| match &running.beside {
                Beside::Server {
                    known,
                    afar: Some(access),
                    ..
                } => {
                    let way = AfarWay {
                        access: access.clone(),
                        generation: running.generation,
                        uid: known.borrow().uid.clone(),
                    };
                    Some((cluster.clone(), way))
                }
                _ => None,
            })
            .collect()
    }

    /// Whether clusters are folders of a local fleet.
    pub(crate) fn in_fleet(&self) -> bool {
        matches!(self.home, Home::Fleet { .. })
    }

    /// How the credential of a cluster is; nothing for one that needs none.
    pub(crate) fn lent(&self, cluster: &ClusterId) -> Option<Lent> {
        let running = self.clusters.get(cluster)?.last()?;
        let (Beside::Server { known, renewal, .. }, Way::Server(_) | Way::Afar(_)) =
            (&running.beside, &running.way)
        else {
            return None;
        };
        let (ends, failing) = match &*renewal.borrow() {
            Renewal::Endless => (None, None),
            Renewal::InTime(granted) => (Some(granted.until), None),
            Renewal::Failing { until, reason } => (Some(*until), Some(reason.clone())),
        };
        Some(Lent {
            ends,
            failing,
            refused: known.borrow().refused.clone(),
            place: None,
            renewed: running.renewed(),
        })
    }

    /// What people should know of the objects of each cluster, and of the ways to them.
    pub(crate) fn problems(&self) -> Vec<Problem> {
        let mut all = Vec::new();
        let mut uids = BTreeMap::new();
        for (cluster, running) in self.newest() {
            match &running.beside {
                Beside::Folder(problems) => {
                    let problems = problems.borrow().clone();
                    all.extend(
                        problems
                            .into_iter()
                            .map(|problem| problem.in_cluster(cluster)),
                    );
                }
                Beside::Server { known, renewal, .. } => {
                    let known = known.borrow();
                    all.extend(known.problems.iter().cloned());
                    if let Some(uid) = &known.uid {
                        uids.insert(cluster.clone(), uid.clone());
                    }
                    if let Renewal::Failing { reason, until } = &*renewal.borrow() {
                        all.push(Problem {
                            severity: Severity::Warning,
                            kind: ProblemKind::DiscoveryLost,
                            cluster: Some(cluster.clone()),
                            object: format!("Cluster {cluster}"),
                            message: format!(
                                "its credential is not renewed: {reason}; the present one ends at {}, and `catamaran cluster add` makes a new one",
                                crate::status::utc(*until)
                            ),
                        });
                    }
                }
            }
        }
        let named = uids.iter().map(|(cluster, uid)| (cluster, uid.as_str()));
        for (first, others) in same_cluster(named) {
            for other in others {
                all.push(Problem {
                    severity: Severity::Error,
                    kind: ProblemKind::DuplicateCluster,
                    cluster: Some(other.clone()),
                    object: format!("Cluster {other}"),
                    message: format!(
                        "it is the same cluster as {first} (by the UID of kube-system), so its endpoints would count twice; remove one of them"
                    ),
                });
            }
        }
        all
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
