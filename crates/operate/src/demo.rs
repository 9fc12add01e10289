//! The demo: the five steps on one machine, then two losses under load and a mesh that nobody trusts, all by the operations
//! that people use.
//!
//! [`run`] does it, as a [`Job`] whose steps are the chapters below; [`end`] leaves nothing of it.

use std::collections::BTreeMap;
use std::path::PathBuf;

use catamaran_local::fleet::{FleetDir, Isolation};
use serde::Serialize;

use crate::job::StepState;
use crate::{Fleet, Job, OperateError, Step};

mod beforehand;
mod call;
mod clusters;
mod connect;
mod create;
mod deploy;
mod discover;
mod end;
mod foreign_root;
mod lose_cluster;
mod lose_control_plane;
mod stage;

pub use clusters::{ClusterDemo, NAMESPACE, end_on, run_on};
pub use end::end;

use stage::Stage;

/// What the demo is told.
#[derive(Debug, Clone)]
pub struct Demo {
    /// The fleet's folder, which must hold no cluster yet.
    pub dir: PathBuf,
    /// How pods are kept apart.
    pub isolation: Isolation,
    /// Where the clusters stand.
    pub ground: Ground,
    /// Our own binary.
    pub program: PathBuf,
}

/// Where the two clusters stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ground {
    /// In two networks that nothing connects but gateways.
    Apart,
    /// In one network, in which pods talk directly.
    Flat,
}

impl Demo {
    /// Refuses a folder in which there is a fleet with clusters: the demo plays in its own.
    pub fn check(&self) -> Result<(), OperateError> {
        if FleetDir::at(&self.dir).clusters()?.is_empty() {
            return Ok(());
        }
        let dir = self.dir.display();
        Err(OperateError::NotHeld {
            what: format!("{dir} is a fleet already"),
            cause: "the demo plays in a fleet of its own".into(),
            fix: format!(
                "choose another folder; or end that fleet (catamaran --fleet {dir} fleet down) and remove its folder"
            ),
        })
    }
}

/// What came of it.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Report {
    /// Whether everything held.
    pub held: bool,
    /// The fleet it ran in.
    pub fleet: FleetReport,
    /// Its steps.
    pub steps: Vec<Step>,
    /// Answers of step 5 by the calling cluster and the answering version.
    pub tally: BTreeMap<String, BTreeMap<String, usize>>,
    /// Calls of step 5 that crossed a gateway, as the callers' sidecars logged them.
    pub gateway_calls: usize,
    /// The losses.
    pub losses: Losses,
    /// The mesh with another root.
    pub foreign_root: Option<ForeignRoot>,
}

/// A fleet in a report.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct FleetReport {
    /// Its id.
    pub id: String,
    /// `netns` or `process`.
    pub isolation: String,
    /// Its folder.
    pub dir: PathBuf,
}

/// What was lost, and what it cost.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Losses {
    /// The control plane of one instance.
    pub control_plane: Option<ControlPlaneLoss>,
    /// Everything in one cluster.
    pub cluster: Option<ClusterLoss>,
}

/// The loss of a control plane.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct ControlPlaneLoss {
    /// Requests sent from both clusters meanwhile.
    pub sent: usize,
    /// Those that failed.
    pub failed: usize,
    /// The longest time in which one of the callers had no answer, in milliseconds.
    pub longest_gap_ms: u64,
    /// Whether the other instance pushed a change to its proxies while the control plane was dead.
    pub other_pushed: bool,
    /// How long that took from the change to the first answer that shows it, in milliseconds.
    pub pushed_after_ms: Option<u64>,
    /// How often it was killed until then: its node starts it again.
    pub kills: u32,
    /// When the instance ran again after the last kill, in milliseconds.
    pub back_after_ms: Option<u64>,
}

/// The loss of a cluster, as callers in the other one saw it.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct ClusterLoss {
    /// Requests sent.
    pub sent: usize,
    /// Those that failed.
    pub failed: usize,
    /// The longest time without an answer, in milliseconds.
    pub longest_gap_ms: u64,
    /// Answers to what was sent while the cluster was dead, by version.
    pub versions_during: BTreeMap<String, usize>,
    /// How long it was dead, in milliseconds.
    pub dead_ms: u64,
    /// When both versions answered again after it was started, in milliseconds.
    pub both_back_after_ms: Option<u64>,
}

/// A mesh with a root of its own.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct ForeignRoot {
    /// Whether it was refused by name, and no call reached its cluster.
    pub refused: bool,
    /// What the control plane that discovered it says.
    pub reason: String,
    /// What a person is told who adds it where its root is known already.
    pub on_adding: String,
    /// Calls sent to the service that its cluster has too.
    pub calls: usize,
    /// Those that its cluster answered.
    pub answered: usize,
}

/// The chapters, as the steps of the job are called.
mod chapter {
    pub(super) const BEFOREHAND: &str = "Beforehand: two clusters";
    pub(super) const CREATE: &str = "Step 1/5: create two instances on one root";
    pub(super) const DISCOVER: &str = "Step 2/5: add the other cluster as discovery-only";
    pub(super) const CONNECT: &str = "Step 3/5: networks and cross-cluster gateways";
    pub(super) const DEPLOY: &str = "Step 4/5: deploy the sample";
    pub(super) const CALL: &str = "Step 5/5: verify from both clusters";
    pub(super) const LOSE_CONTROL_PLANE: &str = "Loss (a): kill -9 of mesh-1's control plane";
    pub(super) const LOSE_CLUSTER: &str = "Loss (b): kill -9 of everything in cluster-1";
    pub(super) const FOREIGN_ROOT: &str = "A mesh with a different root is refused";
}

/// Plays the demo; what came of it stands in `report` also when this is dropped before its end. An error has been told to
/// the job already, as the failure of one of its steps.
pub async fn run(demo: &Demo, job: &mut Job, report: &mut Report) -> Result<(), OperateError> {
    let flat = demo.ground == Ground::Flat;
    let chapters = [
        chapter::BEFOREHAND,
        chapter::CREATE,
        chapter::DISCOVER,
        chapter::CONNECT,
        chapter::DEPLOY,
        chapter::CALL,
        chapter::LOSE_CONTROL_PLANE,
        chapter::LOSE_CLUSTER,
        chapter::FOREIGN_ROOT,
    ];
    job.plan(
        chapters
            .into_iter()
            .filter(|name| !(flat && *name == chapter::CONNECT)),
    );

    job.begin(chapter::BEFOREHAND);
    let made = beforehand::two_clusters(demo, job, report);
    let fleet = job.end(made)?;
    let mut stage = Stage::new(demo, fleet, job, report);
    stage
        .play(chapter::CREATE, async |s| create::two_instances(s).await)
        .await?;
    stage
        .play(chapter::DISCOVER, async |s| discover::each_other(s).await)
        .await?;
    if !flat {
        stage
            .play(chapter::CONNECT, async |s| connect::two_networks(s).await)
            .await?;
    }
    stage
        .play(chapter::DEPLOY, async |s| deploy::the_sample(s).await)
        .await?;
    stage
        .play(chapter::CALL, async |s| call::from_both(s).await)
        .await?;
    stage
        .play(chapter::LOSE_CONTROL_PLANE, async |s| {
            lose_control_plane::mesh_1(s).await
        })
        .await?;
    stage
        .play(chapter::LOSE_CLUSTER, async |s| {
            lose_cluster::cluster_1(s).await
        })
        .await?;
    stage
        .play(chapter::FOREIGN_ROOT, async |s| {
            foreign_root::is_refused(s).await
        })
        .await?;
    Ok(())
}

impl Report {
    /// Takes the job's steps in, and judges.
    pub fn close(&mut self, job: &Job) {
        self.steps = job.steps().to_vec();
        self.held =
            !self.steps.is_empty() && self.steps.iter().all(|step| step.state == StepState::Held);
    }

    fn of(&mut self, fleet: &Fleet) {
        self.fleet = FleetReport {
            id: fleet.file.id.clone(),
            isolation: fleet.file.isolation.to_string(),
            dir: fleet.dir.path().to_owned(),
        };
    }
}

#[cfg(test)]
mod tests;
