//! `catamaran launch`: the moment in which our process becomes a pod's program.

use std::path::PathBuf;
use std::process::ExitCode;

use catamaran_local::launch::{LAUNCH_FAILED, exec_file};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The file that says what to become, and where
    #[arg(long, value_name = "FILE")]
    spec: PathBuf,
    /// What to become in its place, with the same surroundings
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<String>,
}

pub(super) fn run(args: &Args) -> ExitCode {
    match exec_file(&args.spec, &args.command) {
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(LAUNCH_FAILED as u8)
        }
        Ok(never) => match never {},
    }
}
