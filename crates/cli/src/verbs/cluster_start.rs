use catamaran_model::ClusterId;
use catamaran_operate::start_cluster;

use super::done;
use crate::context::{Context, Effect, Outcome};

/// Start a cluster: its node, which starts everything its objects ask for.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  catamaran cluster start cluster-1")]
pub(crate) struct Args {
    /// The cluster.
    cluster: ClusterId,
}

pub(crate) async fn run(args: Args, context: &Context) -> Outcome {
    let started = start_cluster(&context.fleet()?, &args.cluster, &mut context.job()).await;
    started.or_else_said("nothing was started")?;
    done()
}
