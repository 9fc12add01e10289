use catamaran_model::MeshName;
use catamaran_operate::delete_mesh;

use super::done;
use crate::context::{Context, Effect, Outcome};

/// Delete an instance; its cluster and what runs in it stay.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  catamaran mesh delete mesh-2")]
pub(crate) struct Args {
    /// The instance.
    name: MeshName,
}

pub(crate) fn run(args: Args, context: &Context) -> Outcome {
    let deleted = delete_mesh(&context.fleet()?, &args.name, &mut context.job());
    deleted.or_else_said("nothing was deleted")?;
    done()
}
