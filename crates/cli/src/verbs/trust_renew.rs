use std::time::Duration;

use catamaran_model::MeshName;
use catamaran_operate::renew_trust;

use super::done;
use crate::context::{Context, Effect, Outcome};
use crate::parse::span;

/// Issue a new intermediate of an instance from its root, while everything goes on.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  catamaran trust renew mesh-1")]
pub(crate) struct Args {
    /// The instance.
    mesh: MeshName,
    /// How long to wait until its peers are told.
    #[arg(long, value_parser = span, default_value = "30s")]
    timeout: Duration,
}

pub(crate) async fn run(args: Args, context: &Context) -> Outcome {
    renew_trust(
        &context.fleet()?,
        &args.mesh,
        args.timeout,
        &mut context.job(),
    )
    .await
    .or_else_said("nothing was changed")?;
    done()
}
