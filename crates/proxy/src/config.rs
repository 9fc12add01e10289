//! What one proxy was decided to be. Nobody looks outside after this was made.

use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use catamaran_model::{
    ClusterDomain, ClusterId, MeshName, Namespace, PodName, ServiceAccount, SpiffeId, TrustDomain,
};
use catamaran_wire::core::{Node, UserAgentVersionType};
use catamaran_wire::well_known::{Struct, Value};

mod address;
pub(crate) mod app_probes;
mod resolv_conf;

pub use address::{AddressError, ControlPlaneAddress};
pub use app_probes::{AppProbes, AppProbesError};
pub use resolv_conf::resolvers;

/// The user agent by which control planes know us.
pub const USER_AGENT: &str = "catamaran-proxy";

/// The ports of a proxy, as Istio's.
pub mod ports {
    /// Connections and, without capture, HTTP proxy requests of the workload.
    pub const OUTBOUND: u16 = 15001;
    /// Captured connections to the workload.
    pub const INBOUND: u16 = 15006;
    /// Names.
    pub const DNS: u16 = 15053;
    /// The admin interface.
    pub const ADMIN: u16 = 15000;
    /// Whether the proxy is ready, for probes from outside.
    pub const HEALTH: u16 = 15021;
    /// Connections from other networks.
    pub const GATEWAY: u16 = 15443;
}

/// Which of the two settings of the pipeline this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Beside one workload.
    Sidecar,
    /// At the edge of a network.
    Gateway,
}

/// How the workload's connections come to the proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Capture {
    /// The kernel redirects them; the proxy has the pod's network to itself.
    Redirect,
    /// The workload is told where its proxy listens; the proxy keeps to its own address.
    Explicit,
}

/// All that a proxy must know at its start.
#[derive(Debug, Clone)]
pub struct Config {
    /// Sidecar or gateway.
    pub role: Role,
    /// The mesh instance that configures it.
    pub mesh: MeshName,
    /// The cluster it runs in.
    pub cluster: ClusterId,
    /// The pod's namespace.
    pub namespace: Namespace,
    /// The pod's name.
    pub pod: PodName,
    /// The pod's service account.
    pub service_account: ServiceAccount,
    /// The trust domain of its identity and of its control plane's.
    pub trust_domain: TrustDomain,
    /// The suffix of service names.
    pub cluster_domain: ClusterDomain,
    /// Where control planes listen, in the order in which to try them. At least one.
    pub control_planes: Vec<ControlPlaneAddress>,
    /// The roots to trust at first, PEM.
    pub root_cert: PathBuf,
    /// The one-time proof of who this is; without one only a saved certificate helps.
    pub join_token: Option<PathBuf>,
    /// A folder of mode 0700 for what is kept over restarts.
    pub state: PathBuf,
    /// Where the admin interface listens, when not where the way connections come says it.
    pub admin: Option<SocketAddr>,
    /// The admin interface's other address.
    pub admin_socket: PathBuf,
    /// How connections come.
    pub capture: Capture,
    /// The pod's address; a gateway's 15443 is there.
    pub address: IpAddr,
    /// Where the workload listens.
    pub app: IpAddr,
    /// Threads that carry connections.
    pub workers: NonZeroUsize,
    /// Who is asked for names that are not of the mesh; nobody when empty.
    pub resolvers: Vec<SocketAddr>,
    /// Where the access log goes; `None` for standard output.
    pub access_log: Option<PathBuf>,
    /// Probes of the workload that kubelet leaves to the proxy.
    pub app_probes: AppProbes,
    /// The version that it tells its control plane.
    pub version: String,
}

impl Config {
    /// Who this proxy is.
    pub fn identity(&self) -> SpiffeId {
        SpiffeId::new(
            self.trust_domain.clone(),
            self.namespace.clone(),
            self.service_account.clone(),
        )
    }

    /// Who may configure it and sign for it.
    pub fn control_plane_identity(&self) -> SpiffeId {
        SpiffeId::control_plane(self.trust_domain.clone())
    }

    /// Where the admin interface listens: on loopback, or on the pod's own address where loopback belongs to everybody.
    pub fn admin_address(&self) -> SocketAddr {
        let usual = || SocketAddr::new(self.private(), ports::ADMIN);
        self.admin.unwrap_or_else(usual)
    }

    /// Where names are answered.
    pub fn dns_address(&self) -> SocketAddr {
        SocketAddr::new(self.private(), ports::DNS)
    }

    /// Where probes from outside are answered: the proxy's own, and those of the workload.
    pub fn health_address(&self) -> SocketAddr {
        SocketAddr::new(self.address, ports::HEALTH)
    }

    fn private(&self) -> IpAddr {
        match (self.capture, self.address) {
            (Capture::Explicit, address) => address,
            (Capture::Redirect, IpAddr::V4(_)) => IpAddr::from([127, 0, 0, 1]),
            (Capture::Redirect, IpAddr::V6(_)) => std::net::Ipv6Addr::LOCALHOST.into(),
        }
    }

    /// How it presents itself to a control plane. Source of id and metadata: Istio's, see `ARCHITECTURE.md`.
    pub fn node(&self) -> Node {
        let kind = match self.role {
            Role::Sidecar => "sidecar",
            Role::Gateway => "router",
        };
        let (pod, namespace) = (&self.pod, &self.namespace);
        let metadata: Struct = self
            .metadata()
            .into_iter()
            .map(|(name, value)| (name, Value::from(value.as_str())))
            .collect();
        Node {
            id: format!(
                "{kind}~{}~{pod}.{namespace}~{namespace}.svc.{}",
                self.address, self.cluster_domain
            ),
            cluster: format!("{pod}.{namespace}"),
            metadata: Some(metadata),
            user_agent_name: USER_AGENT.into(),
            user_agent_version_type: Some(UserAgentVersionType::UserAgentVersion(
                self.version.clone(),
            )),
            ..Node::default()
        }
    }

    /// What it says of itself beside its id, by Istio's names and ours.
    pub(crate) fn metadata(&self) -> [(&'static str, String); 8] {
        let capture = match self.capture {
            Capture::Redirect => "redirect",
            Capture::Explicit => "explicit",
        };
        [
            ("CLUSTER_ID", self.cluster.to_string()),
            ("NAMESPACE", self.namespace.to_string()),
            ("SERVICE_ACCOUNT", self.service_account.to_string()),
            ("MESH_ID", self.mesh.to_string()),
            ("INSTANCE_IPS", self.address.to_string()),
            ("WORKLOAD_NAME", self.pod.to_string()),
            ("CATAMARAN_CAPTURE", capture.to_owned()),
            ("CATAMARAN_APP", self.app.to_string()),
        ]
    }

    pub(crate) fn saved(&self, file: &str) -> PathBuf {
        Path::new(&self.state).join(file)
    }
}

#[cfg(test)]
pub(crate) mod tests;
