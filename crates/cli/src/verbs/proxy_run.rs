use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::process::ExitCode;

use catamaran_model::{
    ClusterDomain, ClusterId, MeshName, Namespace, PodName, ServiceAccount, TrustDomain,
};
use catamaran_process::Process;
use catamaran_proxy::envoy::{Beside, Variant, run_beside};
use catamaran_proxy::{AppProbes, Capture, Config, ControlPlaneAddress, Role, resolvers};

use super::control_plane::process_config;
use crate::context::{Failure, Outcome};

/// Run a proxy (a program; the node of its cluster starts it).
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The instance that configures it.
    #[arg(long)]
    mesh: MeshName,
    /// The cluster that it runs in.
    #[arg(long)]
    cluster: ClusterId,
    /// Its pod's namespace.
    #[arg(long)]
    namespace: Namespace,
    /// Its pod.
    #[arg(long)]
    pod: PodName,
    /// Its pod's service account.
    #[arg(long)]
    service_account: ServiceAccount,
    /// Where control planes listen, in the order in which to try them.
    #[arg(long, required = true, value_name = "HOST:PORT")]
    control_plane: Vec<ControlPlaneAddress>,
    /// The roots to trust at first, PEM.
    #[arg(long, value_name = "FILE")]
    root_cert: PathBuf,
    /// The one-time proof of who this is.
    #[arg(long, value_name = "FILE")]
    join_token: Option<PathBuf>,
    /// A private folder for what is kept over restarts.
    #[arg(long, value_name = "FOLDER")]
    state: PathBuf,
    /// Where the admin interface listens; at port 15000 of loopback with redirect, else of the pod's address, when not said.
    #[arg(long, value_name = "IP:PORT")]
    admin: Option<SocketAddr>,
    /// Where the admin interface listens besides.
    #[arg(long, value_name = "FILE")]
    admin_socket: PathBuf,
    /// How connections come.
    #[arg(long, value_enum)]
    capture: How,
    /// The pod's address; a gateway's 15443 is there.
    #[arg(long, value_name = "IP")]
    address: IpAddr,
    /// Where the workload is reached; when not said at loopback with redirect, where the pod's own address leads into the proxy,
    /// else at the pod's address.
    #[arg(long, value_name = "IP")]
    app: Option<IpAddr>,
    /// Threads that carry connections.
    #[arg(long)]
    workers: Option<NonZeroUsize>,
    /// The trust domain.
    #[arg(long, default_value = "cluster.local")]
    trust_domain: TrustDomain,
    /// The suffix of service names.
    #[arg(long, default_value = "cluster.local")]
    cluster_domain: ClusterDomain,
    /// Who is asked for names that are not of the mesh.
    #[arg(long, value_name = "IP:PORT")]
    resolver: Vec<SocketAddr>,
    /// Where else to find whom to ask for them: the nameservers of a file as /etc/resolv.conf, when no --resolver is said.
    #[arg(long, value_name = "FILE")]
    resolv_conf: Option<PathBuf>,
    /// The workload's probes that kubelet asks for at the health port: a map from /app-health/CONTAINER/livez, readyz or startupz
    /// to a Kubernetes probe (httpGet, tcpSocket or grpc, and timeoutSeconds).
    #[arg(
        long,
        value_name = "JSON",
        env = "CATAMARAN_APP_PROBES",
        hide_env_values = true
    )]
    app_probes: Option<String>,
    /// Where the access log goes; standard output when not said.
    #[arg(long, value_name = "FILE")]
    access_log: Option<PathBuf>,
    /// Carry nothing: serve certificates and configuration at this socket to an Envoy, and names to its workload.
    #[arg(long, value_name = "FILE")]
    sds: Option<PathBuf>,
    /// Write what the Envoy is to be started with, once it can be.
    #[arg(long, value_name = "FILE", requires = "sds")]
    envoy_bootstrap: Option<PathBuf>,
    /// Tell the Envoy what changed; this is the usual way.
    #[arg(long, requires = "sds", conflicts_with = "sotw")]
    delta: bool,
    /// Tell the Envoy everything of a kind each time.
    #[arg(long, requires = "sds")]
    sotw: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum How {
    /// The kernel redirects them.
    Redirect,
    /// The workload is told where its proxy listens.
    Explicit,
}

/// Threads when none are said: small, since a machine runs many proxies.
const WORKERS: NonZeroUsize = NonZeroUsize::MIN;

/// The Envoy to stand beside, if it is for one.
fn beside(args: &Args) -> Option<Beside> {
    Some(Beside {
        socket: args.sds.clone()?,
        bootstrap: args.envoy_bootstrap.clone(),
        variant: match args.sotw {
            true => Variant::StateOfTheWorld,
            false => Variant::Delta,
        },
    })
}

fn config(args: Args, role: Role) -> Result<Config, Failure> {
    let resolvers = match &args.resolv_conf {
        Some(file) if args.resolver.is_empty() => {
            // Bytes that are no text stand in lines that are passed over.
            let read = std::fs::read(file);
            let read = read.map_err(|error| program(format!("{}: {error}", file.display())))?;
            resolvers(&String::from_utf8_lossy(&read))
        }
        _ => args.resolver,
    };
    let app_probes: AppProbes = match &args.app_probes {
        Some(json) => json.parse().map_err(program)?,
        None => AppProbes::default(),
    };
    Ok(Config {
        role,
        mesh: args.mesh,
        cluster: args.cluster,
        namespace: args.namespace,
        pod: args.pod,
        service_account: args.service_account,
        trust_domain: args.trust_domain,
        cluster_domain: args.cluster_domain,
        control_planes: args.control_plane,
        root_cert: args.root_cert,
        join_token: args.join_token,
        state: args.state,
        admin: args.admin,
        admin_socket: args.admin_socket,
        capture: match args.capture {
            How::Redirect => Capture::Redirect,
            How::Explicit => Capture::Explicit,
        },
        address: args.address,
        app: args.app.unwrap_or(match (args.capture, args.address) {
            (How::Redirect, IpAddr::V4(_)) => Ipv4Addr::LOCALHOST.into(),
            (How::Redirect, IpAddr::V6(_)) => Ipv6Addr::LOCALHOST.into(),
            (How::Explicit, address) => address,
        }),
        workers: args.workers.unwrap_or(WORKERS),
        resolvers,
        access_log: args.access_log,
        app_probes,
        version: catamaran_operate::OUR_VERSION.into(),
    })
}

fn program(error: impl ToString) -> Failure {
    Failure::Program(error.to_string())
}

pub(crate) async fn run(args: Args, role: Role) -> Outcome {
    let name = match role {
        Role::Sidecar => "sidecar",
        Role::Gateway => "gateway",
    };
    let beside = beside(&args);
    let config = config(args, role)?;
    let process = Process::start(process_config(name));
    let started = match beside {
        Some(beside) => run_beside(config, beside, &process).await,
        None => catamaran_proxy::run(config, &process).await,
    };
    started.map_err(program)?;
    Ok(ExitCode::from(process.until_stopped().await.exit_code()))
}
