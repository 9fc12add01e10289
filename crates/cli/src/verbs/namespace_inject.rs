use catamaran_model::{MeshName, Namespace};
use catamaran_operate::inject_namespace;

use super::done;
use crate::context::{Context, Effect, Outcome};

/// Switch sidecars on or off for new pods of a namespace.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  catamaran namespace inject default --mesh mesh-1
  catamaran namespace inject default --mesh mesh-1 --off")]
pub(crate) struct Args {
    /// The namespace, which is made when it is not there.
    namespace: Namespace,
    /// The instance.
    #[arg(long)]
    mesh: MeshName,
    /// Off, in place of on.
    #[arg(long)]
    off: bool,
}

pub(crate) fn run(args: Args, context: &Context) -> Outcome {
    let fleet = context.fleet()?;
    inject_namespace(
        &fleet,
        &args.mesh,
        &args.namespace,
        !args.off,
        &mut context.job(),
    )
    .or_else_said("nothing was changed")?;
    done()
}
