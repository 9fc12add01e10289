//! The node of a local cluster: it runs the cluster's workloads as processes and writes its status.

use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::fleet::{ClusterDir, FleetError};

mod record;

pub use record::{ContainerRecord, PodRecord, Stage};

/// Decided once, at start.
#[derive(Debug, Clone)]
pub struct Config {
    /// The cluster.
    pub cluster: ClusterDir,
    /// Our own binary, from which sidecars, gateways and the control plane are started.
    pub program: PathBuf,
    /// How long an endpoint that leaves is given before its program is told to end.
    pub propagation: Duration,
}

impl Config {
    /// The usual settings, with this process's own binary.
    pub fn new(cluster: ClusterDir) -> io::Result<Config> {
        Ok(Config {
            cluster,
            program: std::env::current_exe()?,
            propagation: Duration::from_secs(2),
        })
    }
}

/// Why the node cannot run.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// The fleet cannot be read.
    #[error(transparent)]
    Fleet(#[from] FleetError),
    /// Another one runs.
    #[error("the node of cluster {0} runs already")]
    RunsAlready(String),
    /// The system said no.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: String,
        /// What the system said.
        source: io::Error,
    },
}

/// Runs the node until `stop` or until it is asked to stop at its socket. After `stop` pods, sidecars, gateway and control
/// plane go on without it, and the next node takes them over.
pub async fn run(config: Config, stop: impl Future<Output = ()>) -> Result<(), NodeError> {
    let _ = (config, stop);
    unimplemented!("follows in the next commit")
}

/// Asks a socket for a path; the status and the body.
pub(crate) async fn ask(socket: &Path, method: &str, path: &str) -> io::Result<(u16, String)> {
    let _ = (socket, method, path);
    unimplemented!("follows in the next commit")
}

/// Forgets every pod that is recorded, after their processes ended.
pub(crate) fn forget_pods(cluster: &ClusterDir) {
    let _ = cluster;
}
