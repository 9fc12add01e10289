use std::os::unix::process::CommandExt;
use std::time::Duration;

use catamaran_local::exec::{ExecError, Target};
use catamaran_model::{ClusterId, Namespace};
use catamaran_operate::{Place, exec_command, wait_started};

use super::{block_on, done};
use crate::context::{Context, Effect, Failure, Outcome};
use crate::parse::span;

/// Run a command in a pod: its namespaces, environment and folder. The exit code is the command's.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  catamaran exec cluster-1 deploy/sleep -- curl helloworld:5000/hello
  catamaran exec cluster-1 deploy/sleep -- sh -c 'for i in $(seq 1 10); do curl helloworld:5000/hello; done;'")]
pub(crate) struct Args {
    /// The cluster.
    cluster: ClusterId,
    /// deploy/NAME or pod/NAME
    #[arg(value_parser = target, value_name = "TARGET")]
    target: Target,
    /// The namespace.
    #[arg(short, long, default_value = "default")]
    namespace: Namespace,
    /// How long to wait for a pod that is on its way.
    #[arg(long, value_parser = span, default_value = "30s", value_name = "TIME")]
    timeout: Duration,
    /// The command and its arguments.
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<String>,
}

pub(super) fn target(text: &str) -> Result<Target, String> {
    text.parse().map_err(|error: ExecError| error.to_string())
}

pub(crate) fn run(args: Args, context: &Context) -> Outcome {
    let fleet = context.fleet()?;
    let place = Place {
        cluster: args.cluster,
        namespace: args.namespace,
        target: args.target,
    };
    block_on(async {
        wait_started(&fleet, &place, args.timeout)
            .await
            .or_else_said("nothing was run")?;
        done()
    })?;
    let mut command =
        exec_command(&fleet, &place, &args.command).or_else_said("nothing was run")?;
    // Returns only when it failed.
    let error = command.exec();
    Err(Failure::Program(format!(
        "the command could not be started: {error}"
    )))
}
