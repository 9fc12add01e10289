use std::path::PathBuf;

use catamaran_model::ClusterId;
use catamaran_operate::delete;

use super::apply::{read, table, warn};
use crate::context::{Context, Effect, Outcome};

/// Delete every object that a manifest names.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  catamaran delete -f cluster-1.yaml --cluster cluster-1")]
pub(crate) struct Args {
    /// The manifest; `-` is standard input.
    #[arg(short, long, value_name = "FILE")]
    filename: PathBuf,
    /// The cluster.
    #[arg(long)]
    cluster: ClusterId,
}

pub(crate) fn run(args: Args, context: &Context) -> Outcome {
    let fleet = context.fleet()?;
    let text = read(&args.filename)?;
    let rows =
        delete(&fleet, &args.cluster, &text, &args.filename).or_else_said("nothing was changed")?;
    warn(&rows);
    context.show(&rows, || vec![table(&rows)])
}
