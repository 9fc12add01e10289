use catamaran_local::lifecycle::Stop;
use catamaran_operate::fleet_down;

use super::done;
use crate::context::{Context, Outcome};

/// Stop every cluster, and leave no process, namespace or rule. The folder stays.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  catamaran fleet down\n  catamaran fleet down --kill")]
pub(crate) struct Args {
    /// Kill everything at once.
    #[arg(long)]
    kill: bool,
}

pub(crate) async fn run(args: Args, context: &Context) -> Outcome {
    let how = if args.kill { Stop::Kill } else { Stop::Drain };
    fleet_down(&context.fleet()?, how, &mut context.job()).await?;
    done()
}
