use std::path::PathBuf;
use std::process::ExitCode;

use catamaran_local::launch::{LAUNCH_FAILED, exec_file};

use crate::context::Outcome;

/// Become a pod's program.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// What to become.
    #[arg(long, value_name = "FILE")]
    spec: PathBuf,
    /// What to become in its place.
    #[arg(last = true)]
    command: Vec<String>,
}

pub(crate) fn run(args: Args) -> Outcome {
    match exec_file(&args.spec, &args.command) {
        Ok(never) => match never {},
        Err(error) => {
            eprintln!("{error}");
            Ok(ExitCode::from(LAUNCH_FAILED as u8))
        }
    }
}
