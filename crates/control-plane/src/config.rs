//! What a control plane is told once, at start.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use catamaran_local::fleet::FleetError;
use catamaran_model::{ClusterId, MeshName, Version};

/// Everything is decided here; nothing else looks at the environment.
#[derive(Debug, Clone)]
pub struct Config {
    /// The fleet's folder.
    pub fleet: PathBuf,
    /// The managed cluster.
    pub cluster: ClusterId,
    /// The instance.
    pub mesh: MeshName,
    /// Where proxies reach it: discovery and certificates, over TLS.
    pub listen: SocketAddr,
    /// Where people's programs reach it: HTTP and JSON on a Unix socket of mode 0600.
    pub socket: PathBuf,
    /// Where it keeps caches that may be deleted.
    pub state: PathBuf,
    /// The version that it tells peers.
    pub version: Version,
}

/// Why a control plane cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The fleet or the cluster cannot be used.
    #[error(transparent)]
    Fleet(#[from] FleetError),
    /// An address or a socket is taken, or not ours.
    #[error("{what}: {source}; another control plane of this cluster may be running")]
    Bind {
        /// What was to be opened.
        what: String,
        /// What the system said.
        source: io::Error,
    },
    /// The TLS stack refuses its own settings.
    #[error("TLS cannot be set up: {0}")]
    Tls(#[from] rustls::Error),
    /// The folder for caches cannot be made.
    #[error(
        "{path}: {source}; the control plane needs a folder for its caches, --state names another"
    )]
    State {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}
