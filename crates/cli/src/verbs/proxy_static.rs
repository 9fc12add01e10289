use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::process::ExitCode;

use catamaran_process::Process;
use catamaran_proxy::{StaticConfig, check_static, run_static};

use super::control_plane::process_config;
use crate::context::{Context, Failure, Outcome};

/// A proxy without a mesh, on the static resources of an Envoy bootstrap.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Run on the static resources of this Envoy bootstrap (JSON) in place of a control plane.
    #[arg(long = "static", value_name = "FILE")]
    file: Option<PathBuf>,
    /// Only say whether the bootstrap could be run.
    #[arg(long, requires = "file")]
    validate: bool,
    /// Threads that carry connections.
    #[arg(long, requires = "file", default_value = "1")]
    workers: NonZeroUsize,
    /// Where the access log goes; standard output when not said.
    #[arg(long, requires = "file", value_name = "FILE")]
    access_log: Option<PathBuf>,
}

pub(crate) async fn run(args: Args, context: &Context) -> Outcome {
    let Some(file) = args.file else {
        return Err(Failure::Program(
            "say --static FILE, or a command; catamaran proxy --help lists them".into(),
        ));
    };
    let named = |error: String| Failure::Program(format!("{}: {error}", file.display()));
    if args.validate {
        check_static(&file).map_err(|error| named(error.to_string()))?;
        return context.write(&format!("{}: can be run\n", file.display()));
    }
    let config = StaticConfig {
        file: file.clone(),
        workers: args.workers,
        access_log: args.access_log,
    };
    let process = Process::start(process_config("proxy"));
    let started = run_static(config, &process).await;
    started.map_err(|error| named(error.to_string()))?;
    Ok(ExitCode::from(process.until_stopped().await.exit_code()))
}
