//! What all chapters share: the fleet, who is in it, and how a chapter says what it does.

use std::time::Duration;

use catamaran_local::fleet::ClusterDir;
use catamaran_local::node::{PodRecord, Stage as PodStage};
use catamaran_model::{ClusterId, MeshName, Namespace};

use super::{Demo, Ground, Report};
use crate::exec::Place;
use crate::mesh_list::{MeshRow, wait_running};
use crate::{Fleet, Job, OperateError, wait};

/// How long pods may take to come up or go.
pub(super) const PODS_PATIENCE: Duration = Duration::from_secs(60);
/// How long an instance may take until it runs again.
pub(super) const MESH_PATIENCE: Duration = Duration::from_secs(60);

/// A side of the demo: a cluster and its instance.
#[derive(Debug, Clone)]
pub(super) struct Side {
    pub(super) cluster: ClusterId,
    pub(super) mesh: MeshName,
    /// The physical network.
    pub(super) ground: &'static str,
    /// The logical network.
    pub(super) network: &'static str,
    pub(super) region: &'static str,
}

impl Side {
    /// Side `n` of the story, from 1.
    pub(super) fn number(n: usize, demo: &Demo) -> Result<Side, OperateError> {
        let flat = demo.ground == Ground::Flat;
        Ok(Side {
            cluster: ClusterId::new(format!("cluster-{n}"))?,
            mesh: MeshName::new(format!("mesh-{n}"))?,
            ground: match (n, flat) {
                (1, _) | (_, true) => "vpc-1",
                _ => "vpc-2",
            },
            network: if n == 1 { "network1" } else { "network2" },
            region: match n {
                1 => "region-1",
                2 => "region-2",
                _ => "region-3",
            },
        })
    }
}

pub(super) struct Stage<'a> {
    pub(super) demo: &'a Demo,
    pub(super) fleet: Fleet,
    pub(super) job: &'a mut Job,
    pub(super) report: &'a mut Report,
}

impl<'a> Stage<'a> {
    pub(super) fn new(
        demo: &'a Demo,
        fleet: Fleet,
        job: &'a mut Job,
        report: &'a mut Report,
    ) -> Stage<'a> {
        Stage {
            demo,
            fleet,
            job,
            report,
        }
    }

    /// Plays one chapter as a step of the job.
    pub(super) async fn play(
        &mut self,
        chapter: &str,
        act: impl AsyncFnOnce(&mut Stage<'a>) -> Result<(), OperateError>,
    ) -> Result<(), OperateError> {
        self.job.begin(chapter);
        let outcome = act(self).await;
        self.job.end(outcome)
    }

    pub(super) fn side(&self, n: usize) -> Result<Side, OperateError> {
        Side::number(n, self.demo)
    }

    pub(super) fn flat(&self) -> bool {
        self.demo.ground == Ground::Flat
    }

    /// Says what a person would have typed.
    pub(super) fn typed(&mut self, command: impl AsRef<str>) {
        self.job.command(format!("catamaran {}", command.as_ref()));
    }

    pub(super) fn dir(&self, cluster: &ClusterId) -> Result<ClusterDir, OperateError> {
        self.fleet.cluster(cluster)
    }

    /// The pod of `sleep` in a cluster.
    pub(super) fn sleep(&self, side: &Side) -> Result<Place, OperateError> {
        Place::parse(&format!("{}/deploy/sleep", side.cluster), &namespace()?)
    }

    pub(super) async fn running(&self, mesh: &MeshName) -> Result<MeshRow, OperateError> {
        wait_running(&self.fleet, mesh, MESH_PATIENCE).await
    }

    /// Waits until Deployments have as many ready pods as named, and no other ones.
    pub(super) async fn pods(
        &self,
        cluster: &ClusterId,
        wanted: &[(&str, usize)],
    ) -> Result<(), OperateError> {
        let dir = self.dir(cluster)?;
        let what = format!("pods of {cluster}");
        let look = format!(
            "see `catamaran status`, and the folder {}",
            dir.logs().display()
        );
        wait::until(&what, PODS_PATIENCE, &look, || {
            let state = missing(&dir, wanted);
            async move { state }
        })
        .await
    }
}

/// What is missing until Deployments have the ready pods they should have.
fn missing(dir: &ClusterDir, wanted: &[(&str, usize)]) -> Result<(), String> {
    let pods = PodRecord::all(dir);
    for (name, count) in wanted {
        let of_it: Vec<&PodRecord> = pods
            .iter()
            .filter(|pod| pod.deployment.as_deref() == Some(name))
            .collect();
        let ready = of_it
            .iter()
            .filter(|pod| pod.stage == PodStage::Living && pod.ready)
            .count();
        if ready == *count && of_it.len() == *count {
            continue;
        }
        let why = of_it.iter().find_map(|pod| pod.waiting.clone());
        let why = why.map_or(String::new(), |reason| format!(" ({reason})"));
        return Err(format!(
            "deploy/{name} has {ready} ready of {} pods, {count} are wanted{why}",
            of_it.len()
        ));
    }
    Ok(())
}

/// Where the sample lives.
pub(super) fn namespace() -> Result<Namespace, OperateError> {
    Ok(Namespace::new("default")?)
}

/// What an operation remarked on, in one line.
pub(super) fn remarks(inner: &Job) -> String {
    let notes = inner.steps().iter().flat_map(|step| &step.notes);
    let texts: Vec<&str> = notes.map(|note| note.text.as_str()).collect();
    texts.join(", ")
}

/// Something that should hold and does not.
pub(super) fn not_held(
    what: impl Into<String>,
    cause: impl Into<String>,
    fix: impl Into<String>,
) -> OperateError {
    OperateError::NotHeld {
        what: what.into(),
        cause: cause.into(),
        fix: fix.into(),
    }
}
