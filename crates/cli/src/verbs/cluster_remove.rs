use std::time::Duration;

use catamaran_model::{ClusterId, MeshName};
use catamaran_operate::remove_cluster;

use super::{cluster_add::settle, done};
use crate::context::{Context, Effect, Outcome};
use crate::parse::span;

/// Remove a discovered cluster from an instance: its endpoints leave the instance's proxies.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  catamaran cluster remove cluster-2 --mesh mesh-1")]
pub(crate) struct Args {
    /// The cluster.
    cluster: ClusterId,
    /// The instance.
    #[arg(long)]
    mesh: MeshName,
    /// Do not wait until the instance runs again.
    #[arg(long)]
    no_wait: bool,
    /// How long to wait.
    #[arg(long, value_parser = span, default_value = "60s")]
    timeout: Duration,
}

pub(crate) async fn run(args: Args, context: &Context) -> Outcome {
    let fleet = context.fleet()?;
    let mut job = context.job();
    let removed = remove_cluster(&fleet, &args.mesh, &args.cluster, &mut job);
    removed.or_else_said("nothing was removed")?;
    settle(
        &fleet,
        &args.mesh,
        (!args.no_wait).then_some(args.timeout),
        &mut job,
    )
    .await?;
    done()
}
