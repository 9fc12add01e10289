//! `catamaran control-plane`: what discovers, configures and signs for a mesh instance.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use catamaran_control_plane::Config;
use catamaran_local::fleet::FleetDir;
use catamaran_model::{ClusterId, MeshName, Version};
use catamaran_process::Process;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The fleet's folder
    #[arg(long, value_name = "DIR", env = "CATAMARAN_FLEET")]
    fleet: PathBuf,
    /// The cluster that the instance manages
    #[arg(long, value_name = "CLUSTER")]
    cluster: ClusterId,
    /// The instance
    #[arg(long, value_name = "MESH")]
    mesh: MeshName,
    /// Where proxies reach it
    #[arg(long, value_name = "IP:PORT")]
    listen: SocketAddr,
    /// A folder for caches that may be deleted; state/ of the cluster when nothing is said
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
}

/// Translating is done where streams are served.
const WORKERS: usize = 2;

pub(super) fn run(args: Args) -> ExitCode {
    let version = match Version::new(env!("CARGO_PKG_VERSION")) {
        Ok(version) => version,
        Err(error) => return super::failed(&error),
    };
    let cluster = FleetDir::at(&args.fleet).cluster(&args.cluster);
    let config = Config {
        socket: cluster.control_plane_socket(),
        state: args.state.unwrap_or_else(|| cluster.state()),
        fleet: args.fleet,
        cluster: args.cluster,
        mesh: args.mesh,
        listen: args.listen,
        version,
    };
    let runtime = match super::runtime(WORKERS) {
        Ok(runtime) => runtime,
        Err(code) => return code,
    };
    runtime.block_on(async {
        let process = Process::start(super::life("control-plane"));
        match catamaran_control_plane::run(config, process).await {
            Ok(end) => super::ended(&end),
            Err(error) => super::failed(&error),
        }
    })
}
