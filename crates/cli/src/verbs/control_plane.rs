use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use catamaran_control_plane::Config;
use catamaran_local::fleet::FleetDir;
use catamaran_model::{ClusterId, MeshName, Version};
use catamaran_operate::{OUR_VERSION, OperateError};
use catamaran_process::{LogConfig, LogFormat, Process};

use crate::context::{Context, Failure, Outcome};

/// Run the control plane of an instance (a program; the node of its cluster starts it).
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  catamaran control-plane --fleet /tmp/fleet --cluster cluster-1 --mesh mesh-1 --listen 10.1.1.2:15012"
)]
pub(crate) struct Args {
    /// The managed cluster.
    #[arg(long)]
    cluster: ClusterId,
    /// The instance.
    #[arg(long)]
    mesh: MeshName,
    /// Where proxies reach it.
    #[arg(long, value_name = "IP:PORT")]
    listen: SocketAddr,
    /// Where it keeps caches that may be deleted; the cluster's folder state/ when not said.
    #[arg(long, value_name = "FOLDER")]
    state: Option<PathBuf>,
}

/// How our programs live: their logs follow CATAMARAN_LOG, else RUST_LOG, else `info`.
pub(super) fn process_config(name: &str) -> catamaran_process::Config {
    let said = |name| std::env::var(name).ok().filter(|filter| !filter.is_empty());
    let filter = said("CATAMARAN_LOG").or_else(|| said("RUST_LOG"));
    catamaran_process::Config {
        log: Some(LogConfig {
            format: LogFormat::Text,
            filter: filter.unwrap_or_else(|| "info".into()),
        }),
        ..catamaran_process::Config::new(name)
    }
}

pub(crate) async fn run(args: Args, context: &Context) -> Outcome {
    let fleet = FleetDir::at(context.fleet_path()?);
    let (cluster, _) = fleet.existing(&args.cluster).map_err(OperateError::from)?;
    let config = Config {
        fleet: fleet.path().into(),
        mesh: args.mesh,
        listen: args.listen,
        socket: cluster.control_plane_socket(),
        state: args.state.unwrap_or_else(|| cluster.state()),
        version: Version::new(OUR_VERSION).map_err(OperateError::from)?,
        cluster: args.cluster,
    };
    let process = Process::start(process_config("control-plane"));
    let end = catamaran_control_plane::run(config, process).await;
    let end = end.map_err(|error| Failure::Program(error.to_string()))?;
    Ok(ExitCode::from(end.exit_code()))
}
