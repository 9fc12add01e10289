//! `demo`: the five steps on one machine, a root that is refused, and two losses under load. Every step is the operation that
//! the command of the same name runs.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::{Duration, Instant};

use catamaran_local::exec::Target;
use catamaran_local::fleet::ClusterDir;
use catamaran_local::lifecycle::{self, Stop};
use catamaran_local::node::{PodRecord, Stage};
use catamaran_local::object::PROXY_CONTAINER;
use catamaran_local::write;
use catamaran_model::{ClusterId, MemberMode, MeshName, Namespace, NetworkId, PodName, Region};
use serde::Serialize;

use crate::cluster_add::member;
use crate::load::{self, Load};
use crate::{
    AddCluster, CreateMesh, Fleet, GatewaySetting, Job, Manner, NetworkSetting, OperateError,
    Place, START_PATIENCE, Step, Tally, add_cluster, apply, control_plane, create_cluster,
    create_mesh, delete_mesh, inject_namespace, remove_cluster, scale, set_networks, start_cluster,
    stop_cluster, verify, wait, wait_running,
};

/// The manifests of the sample, as `examples/five-steps` has them.
pub const CLUSTER_1: &str = include_str!("../../../examples/five-steps/cluster-1.yaml");
/// See [`CLUSTER_1`].
pub const CLUSTER_2: &str = include_str!("../../../examples/five-steps/cluster-2.yaml");
/// See [`CLUSTER_1`].
pub const SLEEP_CLUSTER_2: &str = include_str!("../../../examples/five-steps/sleep-cluster-2.yaml");

/// What is called.
const URL: &str = "helloworld:5000/hello";
/// Calls of one tally.
const CALLS: u32 = 20;
/// Calls a second of the load.
const RATE: u32 = 50;
/// How long a mesh, a pod or a push may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long the load runs before something is killed.
const BEFORE: Duration = Duration::from_secs(2);
/// An access log that says nothing for so long has said all.
const LOG_QUIET: Duration = Duration::from_millis(1200);
/// How long a loss lasts at least.
const LOSS: Duration = Duration::from_secs(6);
/// What the longest time without an answer should be at most when a cluster is lost.
pub const GAP_AIM: Duration = Duration::from_secs(2);
/// How soon both versions should be back after the cluster starts again.
pub const BACK_AIM: Duration = Duration::from_secs(10);

/// How the demo is run.
#[derive(Debug, Clone, Copy, Default)]
pub struct DemoConfig {
    /// One network: pods talk directly, and no gateway is deployed.
    pub flat: bool,
}

/// What came of it.
#[derive(Debug, Clone, Default, Serialize)]
pub struct DemoReport {
    /// Whether everything held.
    pub held: bool,
    /// The fleet.
    pub fleet: DemoFleet,
    /// Step by step.
    pub steps: Vec<Step>,
    /// The answers by caller's cluster and version.
    pub tally: BTreeMap<String, BTreeMap<String, usize>>,
    /// Calls of these that crossed a gateway, by the callers' access logs.
    pub gateway_calls: usize,
    /// What was lost, and what that cost.
    pub losses: Losses,
    /// What became of a mesh with another root.
    pub foreign_root: ForeignRoot,
}

/// The fleet of a demo.
#[derive(Debug, Clone, Default, Serialize)]
pub struct DemoFleet {
    /// Six hex digits.
    pub id: String,
    /// `netns` or `process`.
    pub isolation: String,
    /// Its folder.
    pub dir: String,
}

/// The two losses.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Losses {
    /// mesh-1's control plane is killed, under load from cluster-1.
    pub control_plane: Option<ControlPlaneLoss>,
    /// Everything in cluster-1 is killed, under load from cluster-2.
    pub cluster: Option<ClusterLoss>,
}

/// A control plane that was killed.
#[derive(Debug, Clone, Default, Serialize)]
pub struct ControlPlaneLoss {
    /// Calls sent from its cluster.
    pub sent: usize,
    /// Calls that failed.
    pub failed: usize,
    /// The longest time between two answers, in milliseconds.
    pub longest_gap_ms: u64,
    /// Whether the other instance brought a change to its proxies meanwhile.
    pub other_pushed: bool,
    /// How long that took, in milliseconds.
    pub other_pushed_after_ms: Option<u64>,
    /// How long the control plane was kept down, in milliseconds.
    pub down_ms: u64,
    /// Why calls failed.
    pub errors: BTreeMap<String, usize>,
}

/// A cluster in which everything was killed.
#[derive(Debug, Clone, Default, Serialize)]
pub struct ClusterLoss {
    /// Calls sent from the other cluster.
    pub sent: usize,
    /// Calls that failed.
    pub failed: usize,
    /// The longest time between two answers, in milliseconds.
    pub longest_gap_ms: u64,
    /// The answers by version to calls that were sent while the cluster was gone.
    pub versions_during: BTreeMap<String, usize>,
    /// How long the cluster was gone, in milliseconds.
    pub down_ms: u64,
    /// How long after it was started again both versions answered, in milliseconds.
    pub both_back_after_ms: Option<u64>,
    /// Why calls failed.
    pub errors: BTreeMap<String, usize>,
}

/// A mesh with another root.
#[derive(Debug, Clone, Default, Serialize)]
pub struct ForeignRoot {
    /// Whether it was refused, by name, and no call went to it.
    pub refused: bool,
    /// What was said.
    pub reason: String,
    /// Calls that it answered all the same.
    pub calls: usize,
}

const CREATE: &str = "Create two instances on one root";
const DISCOVER: &str = "Each instance discovers the other cluster";
const NETWORKS: &str = "Two networks, joined by gateways";
const DEPLOY: &str = "Deploy the sample";
const VERIFY: &str = "Verify: sleep calls helloworld";
const FOREIGN: &str = "A mesh with a different root is refused";
const LOSE_CONTROL_PLANE: &str = "Lose mesh-1's control plane under load";
const LOSE_CLUSTER: &str = "Lose everything in cluster-1 under load";

/// Runs the demo in a fleet without clusters. The fleet is left running.
pub async fn demo(fleet: &Fleet, config: DemoConfig, job: &mut Job) -> DemoReport {
    let mut report = DemoReport {
        fleet: DemoFleet {
            id: fleet.file.id.clone(),
            isolation: fleet.file.isolation.to_string(),
            dir: fleet.dir.path().display().to_string(),
        },
        ..DemoReport::default()
    };
    let networks = (!config.flat).then_some(NETWORKS);
    job.plan([CREATE, DISCOVER].into_iter().chain(networks).chain([
        DEPLOY,
        VERIFY,
        FOREIGN,
        LOSE_CONTROL_PLANE,
        LOSE_CLUSTER,
    ]));
    let outcome = match Demo::new(fleet, config) {
        Ok(demo) => demo.run(job, &mut report).await,
        Err(error) => Err(error),
    };
    report.steps = job.steps().to_vec();
    report.held = outcome.is_ok() && job.held();
    report
}

struct Demo<'a> {
    fleet: &'a Fleet,
    flat: bool,
    default: Namespace,
    clusters: [ClusterId; 3],
    meshes: [MeshName; 3],
}

impl<'a> Demo<'a> {
    fn new(fleet: &'a Fleet, config: DemoConfig) -> Result<Demo<'a>, OperateError> {
        let cluster = |n| ClusterId::new(format!("cluster-{n}"));
        let mesh = |n| MeshName::new(format!("mesh-{n}"));
        Ok(Demo {
            fleet,
            flat: config.flat,
            default: Namespace::new("default")?,
            clusters: [cluster(1)?, cluster(2)?, cluster(3)?],
            meshes: [mesh(1)?, mesh(2)?, mesh(3)?],
        })
    }

    async fn run(&self, job: &mut Job, report: &mut DemoReport) -> Result<(), OperateError> {
        job.begin(CREATE);
        let done = self.create(job).await;
        job.end(done)?;
        job.begin(DISCOVER);
        let done = self.discover(job).await;
        job.end(done)?;
        if !self.flat {
            job.begin(NETWORKS);
            let done = self.networks(job).await;
            job.end(done)?;
        }
        job.begin(DEPLOY);
        let done = self.deploy(job).await;
        job.end(done)?;
        job.begin(VERIFY);
        let done = self.verify(job, report).await;
        job.end(done)?;
        job.begin(FOREIGN);
        let done = self.foreign(job, &mut report.foreign_root).await;
        job.end(done)?;
        job.begin(LOSE_CONTROL_PLANE);
        let done = self.lose_control_plane(job, &mut report.losses).await;
        job.end(done)?;
        job.begin(LOSE_CLUSTER);
        let done = self.lose_cluster(job, &mut report.losses).await;
        job.end(done)
    }

    fn network(&self, n: usize) -> Result<NetworkId, OperateError> {
        Ok(match self.flat && n < 2 {
            true => NetworkId::new("flat")?,
            false => NetworkId::new(format!("network{}", n + 1))?,
        })
    }

    async fn create(&self, job: &mut Job) -> Result<(), OperateError> {
        for n in 0..2 {
            self.create_one(job, n, (n == 1).then_some(0)).await?;
        }
        let roots = [0, 1].map(|n| self.roots(n));
        let [Ok(first), Ok(second)] = roots else {
            return Err(not_held(
                "the roots cannot be read",
                String::new(),
                "see FLEET/clusters/C/private",
            ));
        };
        match first == second {
            true => job.remark(format!("both trust {}", first)),
            false => {
                let cause = format!("mesh-1 trusts {first}, mesh-2 {second}");
                return Err(not_held(
                    "the two instances have different roots",
                    cause,
                    "catamaran trust show",
                ));
            }
        }
        Ok(())
    }

    fn roots(&self, n: usize) -> Result<String, OperateError> {
        let roots = self.fleet.roots(&self.fleet.cluster(&self.clusters[n])?)?;
        Ok(roots.first().map_or("none".into(), |root| root.short()))
    }

    async fn create_one(
        &self,
        job: &mut Job,
        n: usize,
        root_of: Option<usize>,
    ) -> Result<(), OperateError> {
        let (cluster, mesh, network) = (&self.clusters[n], &self.meshes[n], self.network(n)?);
        job.command(format!(
            "catamaran cluster create {cluster} --network {network}"
        ));
        create_cluster(self.fleet, cluster, Some(&network), &mut Job::unwatched())?;
        let region = format!("region-{}", n + 1);
        let reuse = root_of.map_or(String::new(), |other| {
            format!(" --reuse-root {}", self.meshes[other])
        });
        job.command(format!(
            "catamaran mesh create {mesh} --cluster {cluster} --region {region}{reuse}"
        ));
        let create = CreateMesh {
            name: mesh.clone(),
            cluster: cluster.clone(),
            region: Some(Region::new(region)?),
            version: None,
            reuse_root: root_of.map(|other| self.meshes[other].clone()),
            wait: Some(PATIENCE),
        };
        create_mesh(self.fleet, &create, &mut Job::unwatched()).await?;
        let root = match root_of {
            None => format!("new root {}", self.roots(n)?),
            Some(other) => format!("root reused from {}", self.meshes[other]),
        };
        job.note(format!("{mesh} created → running in {cluster}, {root}"));
        Ok(())
    }

    async fn discover(&self, job: &mut Job) -> Result<(), OperateError> {
        for (mesh, cluster) in [(0, 1), (1, 0)] {
            let (mesh, cluster) = (self.meshes[mesh].clone(), self.clusters[cluster].clone());
            job.command(format!(
                "catamaran cluster add {cluster} --mesh {mesh} --discovery-only"
            ));
            let mode = MemberMode::DiscoveryOnly;
            let add = AddCluster {
                mesh,
                cluster,
                mode,
            };
            add_cluster(self.fleet, &add, &mut Job::unwatched())?;
            wait_running(self.fleet, &add.mesh, PATIENCE).await?;
            job.note(format!(
                "{} sees {} (read only), updating → running",
                add.mesh, add.cluster
            ));
        }
        Ok(())
    }

    async fn networks(&self, job: &mut Job) -> Result<(), OperateError> {
        for n in 0..2 {
            let settings = [0, 1].map(|c| -> Result<NetworkSetting, OperateError> {
                Ok(NetworkSetting {
                    cluster: self.clusters[c].clone(),
                    network: self.network(c)?,
                    gateway: if c == n {
                        GatewaySetting::Deploy
                    } else {
                        GatewaySetting::None
                    },
                })
            });
            let settings: Vec<NetworkSetting> = settings.into_iter().collect::<Result<_, _>>()?;
            let words = settings.iter().map(|s| match s.gateway {
                GatewaySetting::Deploy => format!("{}={},gateway", s.cluster, s.network),
                _ => format!("{}={}", s.cluster, s.network),
            });
            let words = words.collect::<Vec<_>>().join(" ");
            job.command(format!(
                "catamaran network set --mesh {} {words}",
                self.meshes[n]
            ));
            set_networks(
                self.fleet,
                &self.meshes[n],
                &settings,
                &mut Job::unwatched(),
            )?;
        }
        for n in 0..2 {
            wait_running(self.fleet, &self.meshes[n], PATIENCE).await?;
            let known = self.knows_gateway(n, 1 - n).await?;
            job.note(format!(
                "{} knows the gateway of {}: {known}",
                self.meshes[n],
                self.clusters[1 - n]
            ));
        }
        Ok(())
    }

    async fn knows_gateway(&self, n: usize, of: usize) -> Result<String, OperateError> {
        let home = self.fleet.cluster(&self.clusters[n])?;
        let cluster = self.clusters[of].as_str();
        let what = format!("{} knows the gateway of {cluster}", self.meshes[n]);
        wait::until(
            &what,
            PATIENCE,
            "see catamaran status and catamaran check",
            || async {
                let known = control_plane::status(&home).await?.gateways_of(cluster);
                known
                    .into_iter()
                    .next()
                    .ok_or_else(|| format!("no gateway of {cluster} is known"))
            },
        )
        .await
    }

    async fn deploy(&self, job: &mut Job) -> Result<(), OperateError> {
        for mesh in &self.meshes[..2] {
            job.command(format!("catamaran namespace inject default --mesh {mesh}"));
            inject_namespace(self.fleet, mesh, &self.default, true, &mut Job::unwatched())?;
        }
        for (n, text) in [(0, CLUSTER_1), (1, CLUSTER_2)] {
            let file = format!("cluster-{}.yaml", n + 1);
            job.command(format!(
                "catamaran apply -f {file} --cluster {}",
                self.clusters[n]
            ));
            apply(self.fleet, &self.clusters[n], text, Path::new(&file))?;
        }
        for (n, deployment) in [(0, "sleep"), (0, "helloworld-v1"), (1, "helloworld-v2")] {
            self.ready(n, deployment, 1).await?;
            job.note(format!("{deployment} ready in {}", self.clusters[n]));
        }
        self.running().await
    }

    async fn running(&self) -> Result<(), OperateError> {
        for mesh in &self.meshes[..2] {
            wait_running(self.fleet, mesh, PATIENCE).await?;
        }
        Ok(())
    }

    /// Waits until a Deployment has just so many pods, all ready. Gives their names.
    async fn ready(
        &self,
        n: usize,
        deployment: &str,
        wanted: usize,
    ) -> Result<Vec<String>, OperateError> {
        let dir = self.fleet.cluster(&self.clusters[n])?;
        let what = format!("{deployment} in {}", self.clusters[n]);
        let look = format!(
            "catamaran status; catamaran logs {} deploy/{deployment}",
            self.clusters[n]
        );
        wait::until(&what, PATIENCE, &look, || async {
            pods(&dir, deployment, wanted)
        })
        .await
    }

    fn sleep(&self, n: usize) -> Place {
        Place {
            cluster: self.clusters[n].clone(),
            namespace: self.default.clone(),
            target: Target::Deployment("sleep".into()),
        }
    }

    async fn verify(&self, job: &mut Job, report: &mut DemoReport) -> Result<(), OperateError> {
        self.verify_from(job, report, 0).await?;
        let [first, second, _] = &self.clusters;
        job.command(format!(
            "catamaran scale deploy/sleep --replicas 0 --cluster {first}"
        ));
        scale(self.fleet, first, &self.default, "sleep", 0)?;
        job.command(format!(
            "catamaran apply -f sleep-cluster-2.yaml --cluster {second}"
        ));
        apply(
            self.fleet,
            second,
            SLEEP_CLUSTER_2,
            Path::new("sleep-cluster-2.yaml"),
        )?;
        self.ready(0, "sleep", 0).await?;
        self.ready(1, "sleep", 1).await?;
        job.note(format!("sleep gone from {first}, ready in {second}"));
        self.running().await?;
        self.verify_from(job, report, 1).await?;
        job.command(format!(
            "catamaran scale deploy/sleep --replicas 1 --cluster {first}"
        ));
        scale(self.fleet, first, &self.default, "sleep", 1)?;
        self.ready(0, "sleep", 1).await?;
        self.running().await?;
        self.both_versions(0).await?;
        self.both_versions(1).await?;
        job.note("sleep in both clusters: each reaches both versions");
        if !self.flat && report.gateway_calls == 0 {
            return Err(not_held(
                "no call crossed a gateway",
                "the access logs of the callers name no gateway as upstream".into(),
                "catamaran check; catamaran proxy config POD endpoints",
            ));
        }
        Ok(())
    }

    async fn verify_from(
        &self,
        job: &mut Job,
        report: &mut DemoReport,
        n: usize,
    ) -> Result<(), OperateError> {
        let cluster = &self.clusters[n];
        job.command(format!(
            "catamaran verify {URL} --from {cluster}/deploy/sleep -n {CALLS}"
        ));
        // The first calls may come before the last endpoint is known everywhere.
        self.both_versions(n).await?;
        let before = self.through_gateways_settled(n).await?;
        let tally = self.call(n).await?;
        if tally.failed > 0 || !has_both(&tally) {
            return Err(bad_tally(cluster, &tally));
        }
        job.note(format!("from {cluster}: {}", words(&tally)));
        report
            .tally
            .insert(cluster.to_string(), tally.versions.clone());
        if !self.flat {
            let crossed = self
                .through_gateways_settled(n)
                .await?
                .saturating_sub(before);
            report.gateway_calls += crossed;
            job.remark(format!(
                "{crossed} of these crossed a gateway, by the caller's access log"
            ));
        }
        Ok(())
    }

    async fn call(&self, n: usize) -> Result<Tally, OperateError> {
        verify(
            self.fleet,
            &self.sleep(n),
            &load::url(URL)?,
            Manner::Count(CALLS),
        )
        .await
    }

    async fn both_versions(&self, n: usize) -> Result<(), OperateError> {
        let what = format!("both versions answer {}", self.clusters[n]);
        wait::until(&what, PATIENCE, "catamaran check", || async {
            let tally = self.call(n).await.map_err(|e| e.to_string())?;
            match has_both(&tally) && tally.failed == 0 {
                true => Ok(()),
                false => Err(words(&tally)),
            }
        })
        .await
    }

    /// How many calls of the sleep of a cluster went to a gateway so far, by its sidecar's access log.
    fn through_gateways(&self, n: usize) -> Result<usize, OperateError> {
        let dir = self.fleet.cluster(&self.clusters[n])?;
        let mut gateways = BTreeSet::new();
        for dir in self.fleet.clusters()? {
            gateways.extend(
                crate::status::gateways_in(&write::status(&dir)?)
                    .into_iter()
                    .map(|(_, at)| at),
            );
        }
        let mut crossed = 0;
        for pod in PodRecord::all(&dir)
            .into_iter()
            .filter(|pod| pod.deployment.as_deref() == Some("sleep"))
        {
            let path = dir.log(&self.default, &PodName::new(&pod.name)?, PROXY_CONTAINER);
            let text = std::fs::read_to_string(&path).unwrap_or_default();
            crossed += text
                .lines()
                .filter(|line| upstream(line).is_some_and(|at| gateways.contains(&at)))
                .count();
        }
        Ok(crossed)
    }

    /// The same once no line is on its way any more: they come a moment after the answers.
    async fn through_gateways_settled(&self, n: usize) -> Result<usize, OperateError> {
        let deadline = Instant::now() + Duration::from_secs(5);
        let mut last = self.through_gateways(n)?;
        let mut since = Instant::now();
        while since.elapsed() < LOG_QUIET && Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(100)).await;
            let crossed = self.through_gateways(n)?;
            if crossed != last {
                last = crossed;
                since = Instant::now();
            }
        }
        Ok(last)
    }

    async fn foreign(&self, job: &mut Job, report: &mut ForeignRoot) -> Result<(), OperateError> {
        let (cluster, mesh) = (&self.clusters[2], &self.meshes[2]);
        self.create_one(job, 2, None).await?;
        inject_namespace(self.fleet, mesh, &self.default, true, &mut Job::unwatched())?;
        if !self.flat {
            let setting = NetworkSetting {
                cluster: cluster.clone(),
                network: self.network(2)?,
                gateway: GatewaySetting::Deploy,
            };
            set_networks(self.fleet, mesh, &[setting], &mut Job::unwatched())?;
        }
        apply(
            self.fleet,
            cluster,
            &CLUSTER_2.replace("v2", "v3"),
            Path::new("cluster-3.yaml"),
        )?;
        self.ready(2, "helloworld-v3", 1).await?;
        job.note(format!("helloworld v3 ready in {cluster}, of {mesh}"));

        let first = &self.meshes[0];
        job.command(format!(
            "catamaran cluster add {cluster} --mesh {first} --discovery-only"
        ));
        let add = AddCluster {
            mesh: first.clone(),
            cluster: cluster.clone(),
            mode: MemberMode::DiscoveryOnly,
        };
        let refused = match add_cluster(self.fleet, &add, &mut Job::unwatched()) {
            Err(error @ OperateError::OtherRoot { .. }) => error.to_string(),
            Err(other) => return Err(other),
            Ok(()) => {
                let cause = "the command added it".into();
                return Err(not_held(
                    "a cluster with another root was not refused",
                    cause,
                    "catamaran trust show",
                ));
            }
        };
        job.note(format!("refused: {refused}"));

        // The object alone, as a person may write it by hand: the control plane refuses as well.
        job.command(format!(
            "catamaran apply -f Cluster-{cluster}.yaml --cluster {}",
            self.clusters[0]
        ));
        let home = self.fleet.cluster(&self.clusters[0])?;
        let mut by_hand = member(cluster.clone(), MemberMode::DiscoveryOnly);
        by_hand.network = Some(self.network(2)?).filter(|_| !self.flat);
        write::put_member(&home, &by_hand)?;
        let said = self.said_mismatch(&home, cluster).await?;
        job.note(format!("{first} says: {said}"));
        let tally = self.call(0).await?;
        report.calls = tally.versions.get("v3").copied().unwrap_or(0);
        report.reason = said;
        if report.calls > 0 || tally.failed > 0 || !has_both(&tally) {
            return Err(bad_tally(&self.clusters[0], &tally));
        }
        report.refused = true;
        job.note(format!("no call went there: {}", words(&tally)));

        job.command(format!("catamaran cluster remove {cluster} --mesh {first}"));
        remove_cluster(self.fleet, first, cluster, &mut Job::unwatched())?;
        stop_cluster(self.fleet, cluster, Stop::Kill, &mut Job::unwatched()).await?;
        delete_mesh(self.fleet, mesh, &mut Job::unwatched())?;
        self.running().await?;
        job.note(format!("{cluster} removed and stopped, {mesh} deleted"));
        Ok(())
    }

    async fn said_mismatch(
        &self,
        home: &ClusterDir,
        cluster: &ClusterId,
    ) -> Result<String, OperateError> {
        let what = format!("{} says that {cluster} has another root", self.meshes[0]);
        wait::until(&what, PATIENCE, "catamaran mesh show mesh-1", || async {
            let status = control_plane::status(home).await?;
            let mismatch = status.problems.into_iter().find(|problem| {
                problem.kind == "root_mismatch"
                    && problem.cluster.as_deref() == Some(cluster.as_str())
            });
            mismatch
                .map(|problem| problem.message)
                .ok_or_else(|| "it has not said so".to_owned())
        })
        .await
    }

    async fn lose_control_plane(
        &self,
        job: &mut Job,
        losses: &mut Losses,
    ) -> Result<(), OperateError> {
        let url = load::url(URL)?;
        let home = self.fleet.cluster(&self.clusters[0])?;
        let old: BTreeSet<String> = self
            .ready(1, "helloworld-v2", 1)
            .await?
            .into_iter()
            .collect();
        let mut load = Load::start(self.fleet, &self.sleep(0), &url, RATE, None)?;
        self.steady(&mut load).await?;
        job.note(format!("{RATE} calls a second from {}", self.clusters[0]));

        job.command("kill -9 the control plane of mesh-1, again whenever it comes back");
        let killed = Instant::now();
        let mut loss = ControlPlaneLoss::default();
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let keep_down = tokio::spawn(keep_down(home.clone(), stopped));
        let down = wait::until(
            "the control plane of mesh-1 is gone",
            START_PATIENCE,
            "",
            || async {
                match control_plane::status(&home).await {
                    Ok(_) => Err("it answers".to_owned()),
                    Err(_) => Ok(()),
                }
            },
        )
        .await;
        let pushed = match down {
            Ok(()) => {
                job.command(format!(
                    "catamaran scale deploy/helloworld-v2 --replicas 2 --cluster {}",
                    self.clusters[1]
                ));
                self.pushed(&old).await
            }
            Err(error) => Err(error),
        };
        tokio::time::sleep(LOSS.saturating_sub(killed.elapsed())).await;
        drop(stop);
        let kills = keep_down.await.unwrap_or_default();
        loss.down_ms = killed.elapsed().as_millis() as u64;
        let (tally, _) = load.stop().await;
        loss.sent = tally.sent;
        loss.failed = tally.failed;
        loss.longest_gap_ms = tally.longest_gap_ms;
        loss.errors = tally.errors.clone();
        if let Ok((pod, after)) = &pushed {
            loss.other_pushed = true;
            loss.other_pushed_after_ms = Some(after.as_millis() as u64);
            job.remark(format!(
                "mesh-2 pushed meanwhile: {pod} answered {} after {} ms",
                self.clusters[1],
                after.as_millis()
            ));
        }
        let line = format!(
            "sent {}, failed {}, longest gap {} ms; killed {kills} times in {} ms",
            loss.sent, loss.failed, loss.longest_gap_ms, loss.down_ms
        );
        let failed = loss.failed;
        losses.control_plane = Some(loss);
        job.note(line.clone());
        pushed?;
        if failed > 0 {
            return Err(not_held(
                "calls were lost with a control plane",
                reasons(&tally),
                "catamaran logs cluster-1 deploy/sleep -c istio-proxy",
            ));
        }
        scale(
            self.fleet,
            &self.clusters[1],
            &self.default,
            "helloworld-v2",
            1,
        )?;
        self.ready(1, "helloworld-v2", 1).await?;
        self.running().await?;
        job.note("mesh-1 is running again");
        Ok(())
    }

    /// Scales helloworld-v2 to two, and waits until the new pod answers a caller of the same cluster.
    async fn pushed(&self, old: &BTreeSet<String>) -> Result<(String, Duration), OperateError> {
        let start = Instant::now();
        scale(
            self.fleet,
            &self.clusters[1],
            &self.default,
            "helloworld-v2",
            2,
        )?;
        let new = self
            .ready(1, "helloworld-v2", 2)
            .await?
            .into_iter()
            .find(|pod| !old.contains(pod));
        let new = new.unwrap_or_default();
        let what = format!("mesh-2 tells its proxies of {new}");
        let answered = wait::until(&what, PATIENCE, "catamaran proxy list", || async {
            let tally = self.call(1).await.map_err(|e| e.to_string())?;
            match tally.instances.contains_key(&new) {
                true => Ok(()),
                false => Err(format!("it did not answer among {}", words(&tally))),
            }
        });
        answered.await?;
        Ok((new, start.elapsed()))
    }

    async fn steady(&self, load: &mut Load) -> Result<(), OperateError> {
        let enough = (BEFORE.as_secs() as usize) * RATE as usize;
        match load
            .wait_for(0, PATIENCE, |calls| calls.len() >= enough)
            .await
        {
            true => Ok(()),
            false => Err(not_held(
                "the load does not run",
                format!("{} calls ended in {} s", load.ended(), PATIENCE.as_secs()),
                "catamaran status",
            )),
        }
    }

    async fn lose_cluster(&self, job: &mut Job, losses: &mut Losses) -> Result<(), OperateError> {
        let url = load::url(URL)?;
        let first = &self.clusters[0];
        let mut load = Load::start(self.fleet, &self.sleep(1), &url, RATE, None)?;
        let started = Instant::now();
        self.steady(&mut load).await?;
        job.note(format!("{RATE} calls a second from {}", self.clusters[1]));

        job.command(format!("catamaran cluster stop {first} --kill"));
        let killing = Instant::now();
        stop_cluster(self.fleet, first, Stop::Kill, &mut Job::unwatched()).await?;
        let gone = started.elapsed();
        job.note(format!(
            "node, control plane, gateway, pods and sidecars of {first} are killed"
        ));
        tokio::time::sleep(LOSS).await;

        job.command(format!("catamaran cluster start {first}"));
        let back = started.elapsed();
        let from = load.ended();
        let starting = Instant::now();
        let started_again = start_cluster(self.fleet, first, &mut Job::unwatched()).await;
        let both = |calls: &[crate::Call]| {
            let versions: BTreeSet<&str> = calls
                .iter()
                .filter_map(|call| Some(call.hello()?.0))
                .collect();
            versions.contains("v1") && versions.contains("v2")
        };
        let returned = started_again.is_ok() && load.wait_for(from, PATIENCE, both).await;
        let back_after = starting.elapsed();
        tokio::time::sleep(BEFORE).await;
        let (tally, calls) = load.stop().await;
        // Between the kill's end and the start there was nobody to answer v1. The generator starts a moment after we do.
        let during = calls.iter().filter(|call| {
            call.sent_ms > gone.as_secs_f64() * 1e3
                && call.ended_ms() < back.as_secs_f64() * 1e3 - 500.0
        });
        let during: Vec<crate::Call> = during.cloned().collect();
        let loss = ClusterLoss {
            sent: tally.sent,
            failed: tally.failed,
            longest_gap_ms: tally.longest_gap_ms,
            versions_during: crate::tally(&during).versions,
            down_ms: starting.duration_since(killing).as_millis() as u64,
            both_back_after_ms: returned.then_some(back_after.as_millis() as u64),
            errors: tally.errors.clone(),
        };
        job.note(format!(
            "sent {}, failed {}, longest gap {} ms (aim {} ms); meanwhile {}",
            loss.sent,
            loss.failed,
            loss.longest_gap_ms,
            GAP_AIM.as_millis(),
            versions_words(&loss.versions_during)
        ));
        if let Some(after) = loss.both_back_after_ms {
            job.remark(format!(
                "both versions are back {after} ms after the start (aim {} ms)",
                BACK_AIM.as_millis()
            ));
        }
        let only_v2 = loss.versions_during.keys().all(|version| version == "v2")
            && !loss.versions_during.is_empty();
        let during = loss.versions_during.clone();
        losses.cluster = Some(loss);
        started_again?;
        if tally.failed > 0 {
            return Err(not_held(
                "calls were lost with a cluster",
                reasons(&tally),
                "catamaran logs cluster-2 deploy/sleep -c istio-proxy",
            ));
        }
        if !only_v2 {
            return Err(not_held(
                "not v2 alone answered while cluster-1 was gone",
                versions_words(&during),
                "catamaran status",
            ));
        }
        if !returned {
            let cause = format!(
                "after {} s only {}",
                PATIENCE.as_secs(),
                versions_words(&tally.versions)
            );
            return Err(not_held(
                "v1 is not back",
                cause,
                "catamaran status; catamaran check",
            ));
        }
        self.running().await?;
        Ok(())
    }
}

/// Kills a cluster's control plane whenever it is there, until it is told to stop. Gives how often.
async fn keep_down(home: ClusterDir, mut stopped: tokio::sync::oneshot::Receiver<()>) -> usize {
    let (mut kills, mut last) = (0, None);
    loop {
        if let Some(running) = lifecycle::kill_control_plane(&home) {
            let this = Some(running.pid);
            kills += usize::from(this != last);
            last = this;
        }
        let pause = tokio::time::sleep(Duration::from_millis(50));
        tokio::select! {
            _ = &mut stopped => return kills,
            () = pause => {}
        }
    }
}

fn pods(dir: &ClusterDir, deployment: &str, wanted: usize) -> Result<Vec<String>, String> {
    let records: Vec<PodRecord> = (PodRecord::all(dir).into_iter())
        .filter(|pod| pod.deployment.as_deref() == Some(deployment))
        .collect();
    let ready = |pod: &&PodRecord| pod.ready && pod.stage == Stage::Living;
    let names: Vec<String> = records
        .iter()
        .filter(ready)
        .map(|pod| pod.name.clone())
        .collect();
    if names.len() == wanted && records.len() == wanted {
        return Ok(names);
    }
    let waiting = records
        .iter()
        .find_map(|pod| Some(format!("{}: {}", pod.name, pod.waiting.as_ref()?)));
    let waiting = waiting.map_or(String::new(), |why| format!(" ({why})"));
    Err(format!(
        "{} of {} pods ready, {wanted} wanted{waiting}",
        names.len(),
        records.len()
    ))
}

/// The upstream of a line of the access log.
fn upstream(line: &str) -> Option<String> {
    let value: serde_json::Value = serde_json::from_str(line).ok()?;
    Some(value.get("upstream_host")?.as_str()?.to_owned())
}

fn has_both(tally: &Tally) -> bool {
    ["v1", "v2"]
        .iter()
        .all(|version| tally.versions.get(*version).is_some_and(|n| *n > 0))
}

fn versions_words(versions: &BTreeMap<String, usize>) -> String {
    match versions.is_empty() {
        true => "no answer".into(),
        false => (versions.iter())
            .map(|(version, n)| format!("{version} {n}"))
            .collect::<Vec<_>>()
            .join("  "),
    }
}

fn words(tally: &Tally) -> String {
    format!(
        "{}  failed {}  p50 {} ms  p99 {} ms",
        versions_words(&tally.versions),
        tally.failed,
        tally.latency_ms.p50,
        tally.latency_ms.p99
    )
}

fn reasons(tally: &Tally) -> String {
    let words = tally
        .errors
        .iter()
        .map(|(error, n)| format!("{n} × {error}"));
    format!(
        "{} of {} failed: {}",
        tally.failed,
        tally.sent,
        words.collect::<Vec<_>>().join(", ")
    )
}

fn bad_tally(cluster: &ClusterId, tally: &Tally) -> OperateError {
    let cause = match tally.failed {
        0 => versions_words(&tally.versions),
        _ => reasons(tally),
    };
    not_held(
        &format!("calls from {cluster} were not answered by v1 and v2"),
        cause,
        "catamaran check",
    )
}

fn not_held(what: &str, cause: String, fix: &str) -> OperateError {
    OperateError::NotHeld {
        what: what.into(),
        cause,
        fix: fix.into(),
    }
}
