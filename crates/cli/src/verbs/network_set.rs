use std::path::PathBuf;
use std::time::Duration;

use catamaran_kubernetes::gateway::ServiceType;
use catamaran_model::MeshName;
use catamaran_operate::{
    AssignNetworks, Contact, NetworkSetting, assign_networks, assignment, set_networks,
};

use super::{cluster_add::settle, contact, done};
use crate::context::{Context, Effect, Outcome};
use crate::parse::span;

/// Assign an instance's clusters to logical networks, and say how others are reached: all of it, or nothing.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  catamaran network set --mesh mesh-1 cluster-1=network1,gateway cluster-2=network2
  catamaran network set --mesh mesh-1 cluster-2=network2,gateway=198.18.1.2:15443
  catamaran network set --mesh mesh-1 --context one cluster-1=network1,gateway cluster-2=network2
  catamaran network set --mesh mesh-1 --context one cluster-1=network1,gateway --service-type NodePort --dry-run
  catamaran network set --mesh mesh-1 --context one --remote-context three cluster-3=network3,gateway")]
pub(crate) struct Args {
    /// The instance.
    #[arg(long)]
    mesh: MeshName,
    /// CLUSTER=NETWORK[,gateway[=IP:PORT]]; `gateway` deploys one in the managed cluster, an address names one that is there.
    #[arg(required = true, value_name = "CLUSTER=NETWORK[,gateway[=IP:PORT]]")]
    settings: Vec<String>,
    #[command(flatten)]
    home: contact::Home,
    /// The context that leads to another cluster that the instance manages, when that is among the settings.
    #[arg(long, value_name = "CONTEXT", requires = "context")]
    remote_context: Option<String>,
    /// Another kubeconfig with that context.
    #[arg(long, value_name = "FILE", requires = "context")]
    remote_kubeconfig: Option<PathBuf>,
    /// How a gateway in a cluster with an API server is reached: LoadBalancer or NodePort.
    #[arg(long, value_name = "TYPE", default_value_t)]
    service_type: ServiceType,
    /// What such a gateway runs; what the control plane runs when not said.
    #[arg(long, requires = "context")]
    image: Option<String>,
    /// Where it reaches the control plane; the Service of the instance when not said.
    #[arg(long, value_name = "HOST:PORT", requires = "context")]
    control_plane: Option<String>,
    /// Show what would be written into a cluster with an API server, and change nothing.
    #[arg(long, requires = "context")]
    dry_run: bool,
    /// Do not wait until the instance runs again, or its gateway.
    #[arg(long)]
    no_wait: bool,
    /// How long to wait.
    #[arg(long, value_parser = span, default_value = "60s")]
    timeout: Duration,
}

pub(crate) async fn run(args: Args, context: &Context) -> Outcome {
    let read = args.settings.iter().map(|setting| setting.parse());
    let settings = read
        .collect::<Result<Vec<NetworkSetting>, _>>()
        .or_else_said("nothing was changed")?;
    if let Some(home) = args.home.contact() {
        return with_api_server(args, settings, home, context).await;
    }
    let fleet = context.fleet()?;
    let mut job = context.job();
    set_networks(&fleet, &args.mesh, &settings, &mut job).or_else_said("nothing was changed")?;
    settle(
        &fleet,
        &args.mesh,
        (!args.no_wait).then_some(args.timeout),
        &mut job,
    )
    .await?;
    done()
}

async fn with_api_server(
    args: Args,
    settings: Vec<NetworkSetting>,
    home: Contact,
    context: &Context,
) -> Outcome {
    let remote = args.remote_context.is_some() || args.remote_kubeconfig.is_some();
    let remote = remote.then(|| args.home.other(args.remote_context, args.remote_kubeconfig));
    let assign = AssignNetworks {
        mesh: args.mesh,
        home,
        remote,
        settings,
        service: args.service_type,
        image: args.image,
        control_plane: args.control_plane,
        patience: (!args.no_wait).then_some(args.timeout),
    };
    let effect = "nothing was changed";
    if args.dry_run {
        let placed = assignment(&assign).await.or_else_said(effect)?;
        return contact::show(&placed, context);
    }
    let assigned = assign_networks(&assign, &mut context.job()).await;
    assigned.or_else_said(effect)?;
    done()
}
