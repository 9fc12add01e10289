use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use catamaran_kubernetes::install::WEBHOOK_PORT;
use catamaran_kubernetes::kubeconfig::Allowed;
use catamaran_model::{ClusterId, MemberMode, MeshName, NetworkId};
use catamaran_operate::{
    AddCluster, Contact, EnrolCluster, ManageCluster, Means, MeshState, OperateError, add_cluster,
    enrol_cluster, enrolment, manage_cluster, management, show_mesh, wait_running,
};

use super::{contact, done};
use crate::context::{Context, Effect, Outcome};
use crate::parse::span;

/// Add a cluster to an instance: to manage it, or only to discover its services.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  catamaran cluster add cluster-2 --mesh mesh-1 --discovery-only
  catamaran cluster add cluster-2 --mesh mesh-1 --discovery-only --no-wait
  catamaran cluster add cluster-2 --mesh mesh-1 --context one --discovery-only --remote-context two --network network2
  catamaran cluster add cluster-2 --mesh mesh-1 --context one --discovery-only --credential reader.kubeconfig
  catamaran cluster add cluster-3 --mesh mesh-1 --context one --remote-context three --network network3
  catamaran cluster add cluster-3 --mesh mesh-1 --context one --remote-context three --control-plane-address 192.0.2.7:15012

With an API server, the same command again renews the credential.")]
pub(crate) struct Args {
    /// The cluster.
    cluster: ClusterId,
    /// The instance.
    #[arg(long)]
    mesh: MeshName,
    /// Only discover its services and endpoints: deploy nothing and write nothing there.
    #[arg(long)]
    discovery_only: bool,
    #[command(flatten)]
    home: contact::Home,
    /// The context that leads to the cluster, where an account for the instance is made with this context's rights.
    #[arg(long, value_name = "CONTEXT")]
    remote_context: Option<String>,
    /// Another kubeconfig with that context.
    #[arg(long, value_name = "FILE")]
    remote_kubeconfig: Option<PathBuf>,
    /// A kubeconfig for the instance that is brought along, in the place of a reader that is made; its current context counts.
    #[arg(long, value_name = "FILE", requires = "discovery_only", conflicts_with_all = ["remote_context", "remote_kubeconfig", "server"])]
    credential: Option<PathBuf>,
    /// Where the control plane reaches the cluster's API server, when not where the kubeconfig says.
    #[arg(long, value_name = "URL")]
    server: Option<String>,
    /// Where sidecars of a managed cluster reach the control plane; by a Service of type LoadBalancer, which is made, when not said.
    #[arg(long, value_name = "IP:PORT", conflicts_with = "discovery_only")]
    control_plane_address: Option<SocketAddr>,
    /// At that address, the port where the API server of a managed cluster reaches the webhook.
    #[arg(long, value_name = "PORT", default_value_t = WEBHOOK_PORT, requires = "control_plane_address")]
    webhook_port: u16,
    /// The network of the cluster.
    #[arg(long)]
    network: Option<NetworkId>,
    /// The API server may be on a loopback address; for clusters on one's own machine.
    #[arg(long)]
    allow_loopback: bool,
    /// The API server may be on a link-local address.
    #[arg(long)]
    allow_link_local: bool,
    /// The way to the API server may lead through an HTTP proxy.
    #[arg(long)]
    allow_proxy: bool,
    /// Show what would be written, and ask nobody. The Secret with the credential is not among it.
    #[arg(long)]
    dry_run: bool,
    /// Do not wait until the instance runs again.
    #[arg(long)]
    no_wait: bool,
    /// How long to wait.
    #[arg(long, value_parser = span, default_value = "60s")]
    timeout: Duration,
}

pub(crate) async fn run(args: Args, context: &Context) -> Outcome {
    if let Some(home) = args.home.contact() {
        return with_api_server(args, home, context).await;
    }
    if let Some(option) = only_with_api_server(&args) {
        let reason = "it is for a cluster with an API server, whose instance --context leads to";
        return Err(OperateError::BadSetting {
            text: option.into(),
            wanted: "an option for a cluster of a fleet",
            reason: reason.into(),
        }
        .into());
    }
    let fleet = context.fleet()?;
    let mode = match args.discovery_only {
        true => MemberMode::DiscoveryOnly,
        false => MemberMode::Managed,
    };
    let add = AddCluster {
        mesh: args.mesh,
        cluster: args.cluster,
        mode,
    };
    let mut job = context.job();
    add_cluster(&fleet, &add, &mut job).or_else_said("nothing was added")?;
    settle(
        &fleet,
        &add.mesh,
        (!args.no_wait).then_some(args.timeout),
        &mut job,
    )
    .await?;
    done()
}

fn only_with_api_server(args: &Args) -> Option<&'static str> {
    [
        ("--remote-context", args.remote_context.is_some()),
        ("--remote-kubeconfig", args.remote_kubeconfig.is_some()),
        ("--credential", args.credential.is_some()),
        ("--server", args.server.is_some()),
        (
            "--control-plane-address",
            args.control_plane_address.is_some(),
        ),
        ("--network", args.network.is_some()),
        ("--allow-loopback", args.allow_loopback),
        ("--allow-link-local", args.allow_link_local),
        ("--allow-proxy", args.allow_proxy),
        ("--dry-run", args.dry_run),
    ]
    .into_iter()
    .find_map(|(option, said)| said.then_some(option))
}

async fn with_api_server(args: Args, home: Contact, context: &Context) -> Outcome {
    let effect = "nothing was added";
    let wrong = |reason: &str| OperateError::BadSetting {
        text: args.cluster.to_string(),
        wanted: "a cluster that can be added so",
        reason: reason.into(),
    };
    let means = match (args.credential, args.remote_context, args.remote_kubeconfig) {
        (Some(file), _, _) => Means::Brought(file),
        (None, None, None) => {
            let reason = match args.discovery_only {
                true => {
                    "the way to it is not said; name it with --remote-context, or bring a kubeconfig with --credential"
                }
                false => "the way to it is not said; name it with --remote-context",
            };
            return Err(wrong(reason)).or_else_said(effect);
        }
        (None, remote, file) => Means::Reader {
            remote: args.home.other(remote, file),
            server: args.server,
        },
    };
    let enrol = EnrolCluster {
        mesh: args.mesh,
        cluster: args.cluster,
        home,
        means,
        network: args.network,
        allowed: Allowed {
            loopback: args.allow_loopback,
            link_local: args.allow_link_local,
            proxy: args.allow_proxy,
            files: false,
        },
    };
    if !args.discovery_only {
        let manage = ManageCluster {
            enrol,
            control_plane: args.control_plane_address,
            webhook_port: args.webhook_port,
            patience: (!args.no_wait).then_some(args.timeout),
        };
        if args.dry_run {
            return contact::show(&management(&manage), context);
        }
        let added = manage_cluster(&manage, &mut context.job()).await;
        added.or_else_said(effect)?;
        return done();
    }
    if args.dry_run {
        return contact::show(&enrolment(&enrol), context);
    }
    let added = enrol_cluster(&enrol, &mut context.job()).await;
    added.or_else_said(effect)?;
    done()
}

/// Waits until an instance that is up runs again.
pub(super) async fn settle(
    fleet: &catamaran_operate::Fleet,
    mesh: &MeshName,
    patience: Option<Duration>,
    job: &mut catamaran_operate::Job,
) -> Result<(), crate::context::Failure> {
    let Some(patience) = patience else {
        return Ok(());
    };
    // One that does not run at all takes the change up when it does.
    if matches!(
        show_mesh(fleet, mesh).await?.state,
        MeshState::Stopped | MeshState::Unreachable
    ) {
        return Ok(());
    }
    job.begin(&format!("{mesh} updating → running"));
    let running = wait_running(fleet, mesh, patience.max(Duration::from_secs(1))).await;
    job.end(running)?;
    Ok(())
}
