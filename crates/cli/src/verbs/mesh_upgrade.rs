use std::time::Duration;

use catamaran_model::{MeshName, Version};
use catamaran_operate::{
    ROLLOUT_PATIENCE, UpgradeMesh, manifests_yaml, upgrade_manifests, upgrade_mesh,
};

use super::{contact, done};
use crate::context::{Context, Effect, Failure, Format, Outcome};
use crate::parse::span;

/// Take an instance in a cluster with an API server to another version, while everything goes on.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  catamaran mesh upgrade mesh-1 --context one
  catamaran mesh upgrade mesh-1 --context one --image registry.example.com/catamaran:0.2.0
  catamaran mesh upgrade mesh-1 --context one --version 0.1.0   back, when the new one is not as it should be
  catamaran mesh upgrade mesh-1 --context one --dry-run -o yaml")]
pub(crate) struct Args {
    /// The instance.
    name: MeshName,
    #[command(flatten)]
    home: contact::Home,
    /// The version to go to: this program's when not said, or one of the minor before it.
    #[arg(long = "version", value_name = "VERSION")]
    to: Option<Version>,
    /// The image of control planes, gateway and new sidecars; that of the version when not said.
    #[arg(long)]
    image: Option<String>,
    /// Go also where versions are not made for each other.
    #[arg(long)]
    force: bool,
    /// How long control planes, and then the gateway, may take to be ready; 180s when not said.
    #[arg(long, value_parser = span)]
    timeout: Option<Duration>,
    /// Print what would be written, and touch nothing; the cluster is only asked.
    #[arg(long)]
    dry_run: bool,
}

pub(crate) async fn run(args: Args, context: &Context) -> Outcome {
    let Some(cluster) = args.home.contact() else {
        return Err(Failure::Program(
            "name the cluster with --context: the instance of a local cluster runs what its node runs, so start that with \
             another program"
                .into(),
        ));
    };
    let upgrade = UpgradeMesh {
        context: cluster,
        name: args.name,
        version: args.to,
        image: args.image,
        force: args.force,
        patience: args.timeout.unwrap_or(ROLLOUT_PATIENCE),
    };
    let effect = "nothing was changed";
    if args.dry_run {
        let manifests = upgrade_manifests(&upgrade).await.or_else_said(effect)?;
        if context.format == Format::Json {
            let list = serde_json::json!({"apiVersion": "v1", "kind": "List", "items": manifests});
            return context.show(&list, Vec::new);
        }
        return context.write(&manifests_yaml(&manifests));
    }
    let upgraded = upgrade_mesh(&upgrade, &mut context.job()).await;
    upgraded.or_else_said(effect)?;
    done()
}
