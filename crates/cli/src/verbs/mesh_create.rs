use std::path::PathBuf;
use std::time::Duration;

use catamaran_model::{ClusterId, MeshName, Namespace, NetworkId, Region, Version};
use catamaran_operate::{
    CreateMesh, InstallMesh, KubeContext, ROLLOUT_PATIENCE, RUNNING_PATIENCE, RootFrom,
    create_mesh, install_mesh, manifests_yaml, mesh_manifests,
};

use super::{done, kube};
use crate::context::{Context, Effect, Format, Outcome};
use crate::parse::span;

/// Create an instance that runs in a cluster and manages it; what it needs is started.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  catamaran mesh create mesh-1 --cluster cluster-1 --region region-1
  catamaran mesh create mesh-2 --cluster cluster-2 --region region-2 --reuse-root mesh-1
  catamaran mesh create mesh-1 --context one --cluster cluster-1 --region region-1 --network network-1
  catamaran mesh create mesh-1 --context one --cluster cluster-1 --region region-1 --dry-run -o yaml")]
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
    /// How long to wait; 60s for a local cluster, 180s for one with an API server, when not said.
    #[arg(long, value_parser = span)]
    timeout: Option<Duration>,
    #[command(flatten)]
    kube: kube::Kube,
    /// Take the root in this folder (root-cert.pem, root-key.pem); it is made there when there is none.
    #[arg(
        long,
        value_name = "DIR",
        requires = "context",
        conflicts_with = "reuse_root"
    )]
    root: Option<PathBuf>,
    /// Where roots are kept on this machine; ~/.catamaran/roots when not said.
    #[arg(
        long,
        value_name = "DIR",
        requires = "context",
        env = "CATAMARAN_ROOTS"
    )]
    roots: Option<PathBuf>,
    /// The image of the control plane; that of the version when not said.
    #[arg(long, requires = "context")]
    image: Option<String>,
    /// The cluster's network; what the cluster says already when not said.
    #[arg(long, requires = "context")]
    network: Option<NetworkId>,
    /// Where an Istio has its cacerts, which is taken over when the instance has none, and its remote secrets, which are read too;
    /// what the cluster says already when not said.
    #[arg(long, requires = "context", value_name = "NAMESPACE")]
    istio_namespace: Option<Namespace>,
    /// Print what would be written, and touch nothing.
    #[arg(long, requires = "context")]
    dry_run: bool,
}

pub(crate) async fn run(args: Args, context: &Context) -> Outcome {
    if let Some(cluster) = args.kube.named()? {
        return install(args, cluster, context).await;
    }
    let wait = args.timeout.unwrap_or(RUNNING_PATIENCE);
    let create = CreateMesh {
        name: args.name,
        cluster: args.cluster,
        region: args.region,
        version: args.runs,
        reuse_root: args.reuse_root,
        wait: (args.wait || !args.no_wait).then_some(wait),
    };
    let created = create_mesh(&context.fleet()?, &create, &mut context.job()).await;
    created.or_else_said("nothing was created")?;
    done()
}

async fn install(args: Args, cluster: KubeContext, context: &Context) -> Outcome {
    let wait = args.timeout.unwrap_or(ROLLOUT_PATIENCE);
    let install = InstallMesh {
        context: cluster,
        name: args.name,
        cluster: args.cluster,
        region: args.region,
        version: args.runs,
        network: args.network,
        image: args.image,
        istio: args.istio_namespace,
        roots: kube::roots(args.roots)?,
        root: match (args.reuse_root, args.root) {
            (Some(mesh), _) => RootFrom::Instance(mesh),
            (None, Some(folder)) => RootFrom::Folder(folder),
            (None, None) => RootFrom::New,
        },
        wait: (args.wait || !args.no_wait).then_some(wait),
    };
    if args.dry_run {
        let manifests = mesh_manifests(&install)?;
        if context.format == Format::Json {
            let list = serde_json::json!({"apiVersion": "v1", "kind": "List", "items": manifests});
            return context.show(&list, Vec::new);
        }
        let yaml = manifests_yaml(&manifests);
        return context.write(&format!("{NO_AUTHORITY}{yaml}"));
    }
    let installed = install_mesh(&install, &mut context.job()).await;
    installed.or_else_said("nothing was created")?;
    done()
}

/// Keys are for no repository, so the manifests come without.
const NO_AUTHORITY: &str = "\
# The control plane also needs the Secret cacerts in catamaran-system, in Istio's layout (ca-cert.pem, ca-key.pem, root-cert.pem,
# cert-chain.pem). It holds a key and is not printed. `catamaran mesh create` without --dry-run makes it, or:
#   kubectl -n catamaran-system create secret generic cacerts --from-file=DIR
";
