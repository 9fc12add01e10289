use catamaran_model::MeshName;
use catamaran_operate::{delete_mesh, uninstall_mesh};

use super::{contact, done};
use crate::context::{Context, Effect, Outcome};

/// Delete an instance; its cluster and what runs in it stay.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  catamaran mesh delete mesh-2\n  catamaran mesh delete mesh-1 --context one"
)]
pub(crate) struct Args {
    /// The instance.
    name: MeshName,
    #[command(flatten)]
    home: contact::Home,
}

pub(crate) async fn run(args: Args, context: &Context) -> Outcome {
    let deleted = match args.home.contact() {
        Some(cluster) => uninstall_mesh(&cluster, &args.name, &mut context.job()).await,
        None => delete_mesh(&context.fleet()?, &args.name, &mut context.job()),
    };
    deleted.or_else_said("nothing was deleted")?;
    done()
}
