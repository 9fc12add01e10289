use std::time::Duration;

use catamaran_model::{ClusterId, MeshName, Region, Version};
use catamaran_operate::{CreateMesh, create_mesh};

use super::done;
use crate::context::{Context, Effect, Outcome};
use crate::parse::span;

/// Create an instance that runs in a cluster and manages it; what it needs is started.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  catamaran mesh create mesh-1 --cluster cluster-1 --region region-1
  catamaran mesh create mesh-2 --cluster cluster-2 --region region-2 --reuse-root mesh-1")]
pub(crate) struct Args {
    /// The instance's name, unique in the fleet.
    name: MeshName,
    /// The cluster that it runs in and manages.
    #[arg(long)]
    cluster: ClusterId,
    /// The region that it stands in.
    #[arg(long)]
    region: Option<Region>,
    /// The version that it runs; this program's when not said.
    #[arg(long = "version", value_name = "VERSION")]
    runs: Option<Version>,
    /// Take the root of an instance that is there, with an own intermediate; a new root when not said.
    #[arg(long, value_name = "MESH")]
    reuse_root: Option<MeshName>,
    /// Wait until it runs (the default).
    #[arg(long, overrides_with = "no_wait")]
    wait: bool,
    /// Do not wait until it runs.
    #[arg(long)]
    no_wait: bool,
    /// How long to wait.
    #[arg(long, value_parser = span, default_value = "60s")]
    timeout: Duration,
}

pub(crate) async fn run(args: Args, context: &Context) -> Outcome {
    let create = CreateMesh {
        name: args.name,
        cluster: args.cluster,
        region: args.region,
        version: args.runs,
        reuse_root: args.reuse_root,
        wait: (args.wait || !args.no_wait).then_some(args.timeout),
    };
    let created = create_mesh(&context.fleet()?, &create, &mut context.job()).await;
    created.or_else_said("nothing was created")?;
    done()
}
