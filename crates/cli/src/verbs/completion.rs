use clap::CommandFactory;

use crate::context::{Context, Outcome};
use crate::verbs::Cli;

/// Write completions for a shell.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  source <(catamaran completion bash)")]
pub(crate) struct Args {
    /// The shell.
    #[arg(value_enum)]
    shell: clap_complete::Shell,
}

pub(crate) fn run(args: Args, context: &Context) -> Outcome {
    let mut text = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "catamaran", &mut text);
    context.write(&String::from_utf8_lossy(&text))
}
