//! What a control plane is told once, at start.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use catamaran_kubernetes::beats::Replica;
use catamaran_kubernetes::connect::Access;
use catamaran_kubernetes::kubeconfig::Allowed;
use catamaran_local::fleet::FleetError;
use catamaran_model::{ClusterId, MeshName, Namespace, Version};

use crate::webhook::Injection;

/// Everything is decided here; nothing else looks at the environment.
#[derive(Debug, Clone)]
pub struct Config {
    /// What the managed cluster is.
    pub home: Home,
    /// The managed cluster.
    pub cluster: ClusterId,
    /// The instance.
    pub mesh: MeshName,
    /// Where proxies reach it: discovery and certificates, over TLS.
    pub listen: SocketAddr,
    /// Where people's programs reach it: HTTP and JSON on a Unix socket of mode 0600.
    pub socket: PathBuf,
    /// Where whoever runs it asks how it is, over HTTP: `/ready`, `/live` and `/metrics`, and nothing that changes anything.
    pub health: Option<SocketAddr>,
    /// Where people look at it through their API server, over HTTP on the pod's loopback: what the socket shows, and nothing
    /// that changes anything.
    pub admin: Option<SocketAddr>,
    /// Where it keeps caches that may be deleted.
    pub state: PathBuf,
    /// The version that it tells peers.
    pub version: Version,
}

/// What the managed cluster is.
#[derive(Debug, Clone)]
pub enum Home {
    /// A local cluster in this fleet's folder.
    Fleet(PathBuf),
    /// A cluster with an API server.
    Server(Box<Server>),
}

/// A managed cluster with an API server.
#[derive(Debug, Clone)]
pub struct Server {
    /// The way to it, and who the control plane is there. Whoever made it renews its token.
    pub access: Access,
    /// The folder with the authority to sign, in the layout of Istio's `cacerts`.
    pub cacerts: PathBuf,
    /// Where Istio keeps its remote secrets, when they are to count.
    pub istio: Option<Namespace>,
    /// What kubeconfigs in secrets may do.
    pub allowed: Allowed,
    /// Which of the replicas this is; when it is not said, one without a pod and with a name of its own.
    pub replica: Option<Replica>,
    /// The sidecars that new pods get, when this instance adds them.
    pub injection: Option<Injection>,
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
