use catamaran_local::lifecycle::Stop;
use catamaran_model::ClusterId;
use catamaran_operate::stop_cluster;

use super::done;
use crate::context::{Context, Effect, Outcome};

/// Stop a cluster: pods first, then gateway, control plane and node. Its folder stays.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  catamaran cluster stop cluster-1
  catamaran cluster stop cluster-1 --kill     as a loss of power would")]
pub(crate) struct Args {
    /// The cluster.
    cluster: ClusterId,
    /// Kill everything at once, and let what the node wrote stay as it is.
    #[arg(long)]
    kill: bool,
}

pub(crate) async fn run(args: Args, context: &Context) -> Outcome {
    let how = if args.kill { Stop::Kill } else { Stop::Drain };
    let stopped = stop_cluster(&context.fleet()?, &args.cluster, how, &mut context.job()).await;
    stopped.or_else_said("nothing was stopped")?;
    done()
}
