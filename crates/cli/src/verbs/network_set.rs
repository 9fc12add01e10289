use std::time::Duration;

use catamaran_model::MeshName;
use catamaran_operate::{NetworkSetting, set_networks};

use super::{cluster_add::settle, done};
use crate::context::{Context, Effect, Outcome};
use crate::parse::span;

/// Assign an instance's clusters to logical networks, and say how others are reached: all of it, or nothing.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  catamaran network set --mesh mesh-1 cluster-1=network1,gateway cluster-2=network2
  catamaran network set --mesh mesh-1 cluster-2=network2,gateway=198.18.1.2:15443")]
pub(crate) struct Args {
    /// The instance.
    #[arg(long)]
    mesh: MeshName,
    /// CLUSTER=NETWORK[,gateway[=IP:PORT]]; `gateway` deploys one in the managed cluster, an address names one that is there.
    #[arg(required = true, value_name = "CLUSTER=NETWORK[,gateway[=IP:PORT]]")]
    settings: Vec<String>,
    /// Do not wait until the instance runs again.
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
