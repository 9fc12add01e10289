use catamaran_model::{ClusterId, Namespace};
use catamaran_operate::scale;

use super::apply::table;
use crate::context::{Context, Effect, Outcome};
use crate::parse::deployment;

/// Set how many pods a Deployment has.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  catamaran scale deploy/sleep --replicas 0 --cluster cluster-1"
)]
pub(crate) struct Args {
    /// deploy/NAME
    #[arg(value_parser = deployment, value_name = "deploy/NAME")]
    target: String,
    /// How many pods.
    #[arg(long)]
    replicas: u32,
    /// The cluster.
    #[arg(long)]
    cluster: ClusterId,
    /// The namespace.
    #[arg(short, long, default_value = "default")]
    namespace: Namespace,
}

pub(crate) fn run(args: Args, context: &Context) -> Outcome {
    let fleet = context.fleet()?;
    let row = scale(
        &fleet,
        &args.cluster,
        &args.namespace,
        &args.target,
        args.replicas,
    )
    .or_else_said("nothing was changed")?;
    context.show(&row, || vec![table(std::slice::from_ref(&row))])
}
