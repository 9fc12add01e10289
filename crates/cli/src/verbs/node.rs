use catamaran_local::fleet::FleetDir;
use catamaran_local::node::{self, Config};
use catamaran_model::ClusterId;
use catamaran_operate::OperateError;
use catamaran_process::Process;

use super::control_plane::process_config;
use super::done;
use crate::context::{Context, Failure, Outcome};

/// Run the node of a local cluster (a program; `cluster start` starts it).
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  catamaran node --fleet /tmp/fleet --cluster cluster-1")]
pub(crate) struct Args {
    /// The cluster.
    #[arg(long)]
    cluster: ClusterId,
}

pub(crate) async fn run(args: Args, context: &Context) -> Outcome {
    let path = context.fleet_path()?;
    let (cluster, _) = FleetDir::at(path)
        .existing(&args.cluster)
        .map_err(OperateError::from)?;
    let config = Config::new(cluster).map_err(|error| Failure::Program(error.to_string()))?;
    let process = Process::start(process_config("node"));
    let stopping = process.stopping();
    let (told, ended) = tokio::sync::oneshot::channel();
    let handle = process.clone();
    process.run("node", async move {
        let outcome = node::run(config, stopping.wait()).await;
        handle.stop("the node was asked to stop");
        // Nobody waits any more when the process was told to end.
        let _ = told.send(outcome);
        Ok::<(), std::convert::Infallible>(())
    });
    process.until_stopped().await;
    match ended.await {
        Ok(Err(error)) => Err(Failure::Program(error.to_string())),
        _ => done(),
    }
}
