use catamaran_model::{ClusterId, MeshName};
use catamaran_operate::confirm_shrink;

use super::done;
use crate::context::{Context, Effect, Outcome};

/// Say that a held list of a cluster is right: what it lacks is gone indeed.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  catamaran confirm cluster-2 --mesh mesh-1")]
pub(crate) struct Args {
    /// The cluster whose list is held.
    cluster: ClusterId,
    /// The instance that holds it.
    #[arg(long)]
    mesh: MeshName,
}

pub(crate) async fn run(args: Args, context: &Context) -> Outcome {
    let confirmed = confirm_shrink(&context.fleet()?, &args.mesh, &args.cluster).await;
    confirmed.or_else_said("nothing was confirmed")?;
    done()
}
