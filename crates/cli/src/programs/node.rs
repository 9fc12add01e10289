//! `catamaran node`: the node of a local cluster.

use std::path::PathBuf;
use std::process::ExitCode;

use catamaran_local::fleet::FleetDir;
use catamaran_local::node;
use catamaran_model::ClusterId;
use catamaran_process::Process;

/// Runs until it is told to stop. A signal ends the node alone: pods, gateway and control plane go on, and the next node takes
/// them over.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The fleet's folder
    #[arg(long, value_name = "DIR", env = "CATAMARAN_FLEET")]
    fleet: PathBuf,
    /// The cluster
    #[arg(long, value_name = "CLUSTER")]
    cluster: ClusterId,
}

/// Looking after folders and processes is mostly waiting.
const WORKERS: usize = 1;

pub(super) fn run(args: Args) -> ExitCode {
    let cluster = FleetDir::at(&args.fleet).cluster(&args.cluster);
    let config = match node::Config::new(cluster) {
        Ok(config) => config,
        Err(error) => return super::failed(&format!("this program's own file is not found: {error}")),
    };
    let runtime = match super::runtime(WORKERS) {
        Ok(runtime) => runtime,
        Err(code) => return code,
    };
    runtime.block_on(async {
        let process = Process::start(super::life("node"));
        let stopping = process.stopping();
        let running = tokio::spawn({
            let process = process.clone();
            async move {
                let ended = node::run(config, stopping.wait()).await;
                process.stop("the node ended");
                ended
            }
        });
        let end = process.until_stopped().await;
        match running.await {
            Ok(Ok(())) => super::ended(&end),
            Ok(Err(error)) => super::failed(&error),
            Err(error) => super::failed(&error),
        }
    })
}
