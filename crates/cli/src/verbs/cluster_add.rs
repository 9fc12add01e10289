use std::time::Duration;

use catamaran_model::{ClusterId, MemberMode, MeshName};
use catamaran_operate::{
    AddCluster, MeshState, RUNNING_PATIENCE, add_cluster, show_mesh, wait_running,
};

use super::done;
use crate::context::{Context, Effect, Outcome};
use crate::parse::span;

/// Add a cluster to an instance: to manage it, or only to discover its services.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  catamaran cluster add cluster-2 --mesh mesh-1 --discovery-only
  catamaran cluster add cluster-2 --mesh mesh-1 --discovery-only --no-wait")]
pub(crate) struct Args {
    /// The cluster.
    cluster: ClusterId,
    /// The instance.
    #[arg(long)]
    mesh: MeshName,
    /// Only discover its services and endpoints: deploy nothing and write nothing there.
    #[arg(long)]
    discovery_only: bool,
    /// Do not wait until the instance runs again.
    #[arg(long)]
    no_wait: bool,
    /// How long to wait.
    #[arg(long, value_parser = span, default_value = "60s")]
    timeout: Duration,
}

pub(crate) async fn run(args: Args, context: &Context) -> Outcome {
    let fleet = context.fleet()?;
    let mode = match args.discovery_only {
        true => MemberMode::DiscoveryOnly,
        false => MemberMode::Managed,
    };
    let add = AddCluster {
        mesh: args.mesh,
        cluster: args.cluster,
        mode,
    };
    let mut job = context.job();
    add_cluster(&fleet, &add, &mut job).or_else_said("nothing was added")?;
    settle(
        &fleet,
        &add.mesh,
        (!args.no_wait).then_some(args.timeout),
        &mut job,
    )
    .await?;
    done()
}

/// Waits until an instance that is up runs again.
pub(super) async fn settle(
    fleet: &catamaran_operate::Fleet,
    mesh: &MeshName,
    patience: Option<Duration>,
    job: &mut catamaran_operate::Job,
) -> Result<(), crate::context::Failure> {
    let Some(patience) = patience else {
        return Ok(());
    };
    // One that does not run at all takes the change up when it does.
    if matches!(
        show_mesh(fleet, mesh).await?.state,
        MeshState::Stopped | MeshState::Unreachable
    ) {
        return Ok(());
    }
    job.begin(&format!("{mesh} updating → running"));
    let running = wait_running(fleet, mesh, patience.max(Duration::from_secs(1))).await;
    job.end(running)?;
    let _ = RUNNING_PATIENCE;
    Ok(())
}
