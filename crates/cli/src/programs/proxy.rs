//! `catamaran proxy sidecar` and `catamaran proxy gateway`: two settings of one pipeline.

use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::process::ExitCode;

use catamaran_model::{ClusterDomain, ClusterId, MeshName, Namespace, PodName, ServiceAccount, TrustDomain};
use catamaran_process::Process;
use catamaran_proxy::{Capture, Config, Role};

/// The two settings.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Args {
    /// Beside one workload
    Sidecar(Flags),
    /// At the edge of a network, on port 15443
    Gateway(Flags),
}

#[derive(Debug, clap::Args)]
pub(crate) struct Flags {
    /// The mesh instance that configures it
    #[arg(long, value_name = "MESH")]
    mesh: MeshName,
    /// The cluster it runs in
    #[arg(long, value_name = "CLUSTER")]
    cluster: ClusterId,
    /// The pod's namespace
    #[arg(long, value_name = "NAMESPACE")]
    namespace: Namespace,
    /// The pod's name
    #[arg(long, value_name = "POD")]
    pod: PodName,
    /// The pod's service account
    #[arg(long, value_name = "ACCOUNT")]
    service_account: ServiceAccount,
    /// The trust domain of its identity
    #[arg(long, value_name = "DOMAIN", default_value_t)]
    trust_domain: TrustDomain,
    /// The suffix of service names
    #[arg(long, value_name = "DOMAIN", default_value_t)]
    cluster_domain: ClusterDomain,
    /// Where a control plane listens; repeated, they are tried in this order
    #[arg(long = "control-plane", value_name = "IP:PORT", required = true)]
    control_planes: Vec<SocketAddr>,
    /// The roots to trust at first, PEM
    #[arg(long, value_name = "FILE")]
    root_cert: PathBuf,
    /// The one-time proof of who this is; without it only a saved certificate helps
    #[arg(long, value_name = "FILE")]
    join_token: Option<PathBuf>,
    /// A folder for what is kept over restarts
    #[arg(long, value_name = "DIR")]
    state: PathBuf,
    /// The admin interface's socket, beside 15000 on loopback
    #[arg(long, value_name = "PATH")]
    admin_socket: PathBuf,
    /// How the workload's connections come: redirected by the kernel, or to 15001 as to an HTTP proxy
    #[arg(long, value_name = "HOW")]
    capture: How,
    /// The pod's address
    #[arg(long, value_name = "IP")]
    address: IpAddr,
    /// Where the workload listens; the pod's address when nothing is said
    #[arg(long, value_name = "IP")]
    app: Option<IpAddr>,
    /// Threads that carry connections; 1 for a sidecar and all of the machine's processors for a gateway when nothing is said
    #[arg(long, value_name = "N")]
    workers: Option<NonZeroUsize>,
    /// Who is asked for names that are not of the mesh; repeated, they are tried in this order
    #[arg(long = "resolver", value_name = "IP:PORT")]
    resolvers: Vec<SocketAddr>,
    /// Where the access log goes; standard output when nothing is said
    #[arg(long, value_name = "FILE")]
    access_log: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum How {
    Redirect,
    Explicit,
}

pub(super) fn run(args: Args) -> ExitCode {
    let config = match args {
        Args::Sidecar(flags) => decide(Role::Sidecar, flags),
        Args::Gateway(flags) => decide(Role::Gateway, flags),
    };
    // Connections are carried on the proxy's own threads; this one hears the control plane.
    let runtime = match super::runtime(0) {
        Ok(runtime) => runtime,
        Err(code) => return code,
    };
    runtime.block_on(async {
        let process = Process::start(super::life("proxy"));
        match catamaran_proxy::run(config, &process).await {
            Ok(()) => super::ended(&process.until_stopped().await),
            Err(error) => super::failed(&error),
        }
    })
}

fn decide(role: Role, flags: Flags) -> Config {
    let processors = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
    let workers = match role {
        Role::Sidecar => NonZeroUsize::MIN,
        Role::Gateway => processors,
    };
    Config {
        role,
        mesh: flags.mesh,
        cluster: flags.cluster,
        namespace: flags.namespace,
        pod: flags.pod,
        service_account: flags.service_account,
        trust_domain: flags.trust_domain,
        cluster_domain: flags.cluster_domain,
        control_planes: flags.control_planes,
        root_cert: flags.root_cert,
        join_token: flags.join_token,
        state: flags.state,
        admin_socket: flags.admin_socket,
        capture: match flags.capture {
            How::Redirect => Capture::Redirect,
            How::Explicit => Capture::Explicit,
        },
        address: flags.address,
        app: flags.app.unwrap_or(flags.address),
        workers: flags.workers.unwrap_or(workers),
        resolvers: flags.resolvers,
        access_log: flags.access_log,
    }
}
