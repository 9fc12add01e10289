//! `cluster start` and `cluster stop`: the node of a cluster, and everything that it runs.

use std::time::Duration;

use catamaran_local::lifecycle::{self, Stop};
use catamaran_model::ClusterId;

use crate::{Fleet, Job, OperateError};

/// How long a node may take to answer.
pub const START_PATIENCE: Duration = Duration::from_secs(30);
/// How long a cluster may take to end by itself before it is killed.
pub const STOP_PATIENCE: Duration = Duration::from_secs(30);

/// Starts a cluster's node, which starts everything that its objects ask for. One that runs stays as it is.
pub async fn start_cluster(
    fleet: &Fleet,
    name: &ClusterId,
    job: &mut Job,
) -> Result<(), OperateError> {
    let dir = fleet.cluster(name)?;
    job.begin(&format!("start {name}"));
    let started = lifecycle::start_cluster(&dir, &fleet.program, START_PATIENCE).await;
    job.end(started)
}

/// Stops a cluster: its pods, gateway, control plane and node. Its folder stays.
pub async fn stop_cluster(
    fleet: &Fleet,
    name: &ClusterId,
    how: Stop,
    job: &mut Job,
) -> Result<(), OperateError> {
    let dir = fleet.cluster(name)?;
    job.begin(&format!("stop {name}"));
    let stopped = lifecycle::stop_cluster(&dir, how, STOP_PATIENCE).await;
    job.end(stopped)
}

/// Stops every cluster of the fleet, and leaves no process, namespace or rule of it. Its folder stays.
pub async fn fleet_down(fleet: &Fleet, how: Stop, job: &mut Job) -> Result<(), OperateError> {
    job.begin("bring the fleet down");
    let down = lifecycle::down(&fleet.dir, how, STOP_PATIENCE).await;
    job.end(down)
}
