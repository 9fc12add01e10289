use serde::Serialize;

use crate::context::{Context, Format, Outcome};

/// Show the version of this program, which is the only one installed with it.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  catamaran version\n  catamaran version -o json")]
pub(crate) struct Args {}

#[derive(Serialize)]
struct Version {
    version: &'static str,
}

pub(crate) fn run(_: Args, context: &Context) -> Outcome {
    let version = catamaran_operate::OUR_VERSION;
    match context.format {
        Format::Table => context.write(&format!("catamaran {version}\n")),
        _ => context.show(&Version { version }, Vec::new),
    }
}
