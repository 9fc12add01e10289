use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use catamaran_control_plane::{Config, Door, Home, Injection, Server};
use catamaran_kubernetes::beats::Replica;
use catamaran_kubernetes::connect::Access;
use catamaran_kubernetes::in_cluster;
use catamaran_kubernetes::kubeconfig::{Allowed, Kubeconfig};
use catamaran_kubernetes::webhook;
use catamaran_local::fleet::FleetDir;
use catamaran_model::{ClusterId, MeshName, Namespace, Version};
use catamaran_operate::{OUR_VERSION, OperateError};
use catamaran_process::{LogConfig, LogFormat, Process};

use crate::context::{Context, Failure, Outcome};

/// Run the control plane of an instance (a program; the node of its cluster starts it, or a Deployment).
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  catamaran control-plane --fleet /tmp/fleet --cluster cluster-1 --mesh mesh-1 --listen 10.1.1.2:15012
  catamaran control-plane --kubeconfig one.yaml --cluster cluster-1 --mesh mesh-1 --cacerts cacerts --state state --socket run/sock --listen 0.0.0.0:15012
  catamaran control-plane --in-cluster --cluster cluster-1 --mesh mesh-1 --cacerts /etc/cacerts --state /state --socket /state/sock --listen 0.0.0.0:15012 --webhook 0.0.0.0:15017 --sidecar-image catamaran:1")]
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
    /// The managed cluster has an API server, and this file leads to it.
    #[arg(long, value_name = "FILE", requires_all = ["cacerts", "state", "socket"])]
    kubeconfig: Option<PathBuf>,
    /// Which context of the file; its current one when not said.
    #[arg(long, requires = "kubeconfig")]
    context: Option<String>,
    /// The managed cluster is the one that this runs in as a pod.
    #[arg(long, conflicts_with = "kubeconfig", requires_all = ["cacerts", "state", "socket"])]
    in_cluster: bool,
    /// Which of the replicas this is, as its pod is called; a name of its own when not said.
    #[arg(long, value_name = "POD")]
    replica: Option<String>,
    /// The UID of that pod, so that what this replica says of itself goes with it.
    #[arg(long, value_name = "UID", requires = "replica")]
    replica_uid: Option<String>,
    /// The authority to sign with, in the layout of Istio's secret cacerts.
    #[arg(long, value_name = "FOLDER")]
    cacerts: Option<PathBuf>,
    /// Where people's programs reach it.
    #[arg(long, value_name = "FILE")]
    socket: Option<PathBuf>,
    /// Where a kubelet asks how it is: /ready, /live and /metrics over HTTP; nowhere when not said.
    #[arg(long, value_name = "IP:PORT")]
    health: Option<SocketAddr>,
    /// Where people look at it through their API server, on the pod's loopback: 127.0.0.1:15000; nowhere when not said.
    #[arg(long, value_name = "IP:PORT")]
    admin: Option<SocketAddr>,
    /// Istio's remote secrets of this namespace name clusters too.
    #[arg(long, value_name = "NAMESPACE")]
    istio_namespace: Option<Namespace>,
    /// Where the API server asks about new pods, over TLS, so that they get sidecars; 15017 by habit.
    #[arg(long, value_name = "IP:PORT", requires = "sidecar_image")]
    webhook: Option<SocketAddr>,
    /// Where the API server finds it, as https://192.0.2.1:15017; the Service catamaran-MESH when not said.
    #[arg(long, value_name = "URL", requires = "webhook")]
    webhook_url: Option<String>,
    /// The image of sidecars.
    #[arg(long, value_name = "IMAGE", requires = "webhook")]
    sidecar_image: Option<String>,
    /// Where sidecars find this control plane; port 15012 of the Service catamaran-MESH when not said.
    #[arg(long, value_name = "HOST:PORT", requires = "webhook")]
    advertise: Option<String>,
    /// Whether sidecars are init containers that go on; as the nodes' versions say when not said.
    #[arg(long, value_name = "true|false", requires = "webhook")]
    native_sidecars: Option<bool>,
    /// Kubeconfigs may lead to addresses on loopback, as of clusters on one's own machine.
    #[arg(long)]
    allow_loopback: bool,
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
    let version = Version::new(OUR_VERSION).map_err(OperateError::from)?;
    let config = match way(&args)? {
        None => {
            let fleet = FleetDir::at(context.fleet_path()?);
            let (cluster, _) = fleet.existing(&args.cluster).map_err(OperateError::from)?;
            Config {
                home: Home::Fleet(fleet.path().into()),
                mesh: args.mesh,
                listen: args.listen,
                health: args.health,
                admin: args.admin,
                socket: cluster.control_plane_socket(),
                state: args.state.unwrap_or_else(|| cluster.state()),
                version,
                cluster: args.cluster,
            }
        }
        Some(access) => {
            let injection = injection(&args)?;
            if args.in_cluster {
                let folder = PathBuf::from(in_cluster::FOLDER);
                tokio::spawn(in_cluster::keep(access.clone(), folder));
            }
            Config {
                home: Home::Server(Box::new(Server {
                    access,
                    cacerts: said(args.cacerts, "--cacerts")?,
                    istio: args.istio_namespace,
                    allowed: Allowed {
                        loopback: args.allow_loopback,
                        ..Allowed::default()
                    },
                    injection,
                    replica: args.replica.map(|name| Replica {
                        name,
                        uid: args.replica_uid,
                    }),
                })),
                mesh: args.mesh,
                listen: args.listen,
                health: args.health,
                admin: args.admin,
                socket: said(args.socket, "--socket")?,
                state: said(args.state, "--state")?,
                version,
                cluster: args.cluster,
            }
        }
    };
    let process = Process::start(process_config("control-plane"));
    let end = catamaran_control_plane::run(config, process).await;
    let end = end.map_err(|error| Failure::Program(error.to_string()))?;
    Ok(ExitCode::from(end.exit_code()))
}

/// The sidecars of new pods, when they are to get some.
fn injection(args: &Args) -> Result<Option<Injection>, Failure> {
    let Some(listen) = args.webhook else {
        return Ok(None);
    };
    let door = match &args.webhook_url {
        None => Door::Service,
        Some(url) if url.starts_with("https://") => Door::Url(url.clone()),
        Some(url) => {
            let why = format!("--webhook-url {url}: the API server calls https:// only");
            return Err(Failure::Program(why));
        }
    };
    let service = format!("{}:15012", webhook::service_name(&args.mesh));
    Ok(Some(Injection {
        listen,
        door,
        image: args.sidecar_image.clone().unwrap_or_default(),
        control_plane: args.advertise.clone().unwrap_or(service),
        native: args.native_sidecars,
    }))
}

/// The way to the managed cluster's API server, when it has one.
fn way(args: &Args) -> Result<Option<Access>, Failure> {
    let failed = |error: String| Failure::Program(error);
    if args.in_cluster {
        let said = |name: &str| {
            std::env::var(name).map_err(|_| {
                failed(format!(
                    "{name} is not set; --in-cluster is for a program in a pod"
                ))
            })
        };
        let port = said("KUBERNETES_SERVICE_PORT")?;
        let port = port.parse().map_err(|_| {
            failed(format!(
                "KUBERNETES_SERVICE_PORT is {port:?}, which is no port"
            ))
        })?;
        let host = said("KUBERNETES_SERVICE_HOST")?;
        let access = in_cluster::access(in_cluster::FOLDER.as_ref(), &host, port);
        return access.map(Some).map_err(|error| failed(error.to_string()));
    }
    let Some(path) = &args.kubeconfig else {
        return Ok(None);
    };
    let named = |error: &dyn std::fmt::Display| failed(format!("{}: {error}", path.display()));
    let text = std::fs::read_to_string(path).map_err(|error| named(&error))?;
    // one's own file, for one's own cluster
    let allowed = Allowed {
        loopback: true,
        files: true,
        ..Allowed::default()
    };
    let config = Kubeconfig::read_context(&text, args.context.as_deref(), allowed);
    let config = config.map_err(|error| named(&error))?;
    let access = Access::new(&config, allowed).map_err(|error| named(&error))?;
    Ok(Some(access))
}

/// What the parser has demanded already.
fn said(value: Option<PathBuf>, option: &str) -> Result<PathBuf, Failure> {
    value.ok_or_else(|| Failure::Program(format!("{option} is missing")))
}
