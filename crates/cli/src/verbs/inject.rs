use std::path::PathBuf;

use catamaran_kubernetes::inject::{Document, Instance, inject_file};
use catamaran_model::{
    ClusterDomain, ClusterId, MeshName, Namespace, NetworkId, SpiffeId, TrustDomain,
};

use crate::context::{Context, Failure, Outcome};
use crate::verbs::apply;

/// Add sidecars to the pods of manifests, as an instance's webhook would; what becomes of each object is said on standard error.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  catamaran inject -f web.yaml --mesh mesh-1 --cluster cluster-1 --control-plane catamaran-mesh-1.catamaran-system.svc:15012 --image catamaran:1
  catamaran inject -f - --mesh mesh-1 --cluster cluster-1 --network network-1 --native false --control-plane 10.0.0.2:15012 --image catamaran:1")]
pub(crate) struct Args {
    /// The manifests; `-` is standard input.
    #[arg(short, long, value_name = "FILE")]
    filename: PathBuf,
    /// The instance.
    #[arg(long)]
    mesh: MeshName,
    /// The cluster that the pods are for.
    #[arg(long)]
    cluster: ClusterId,
    /// Where sidecars find the control plane.
    #[arg(long, value_name = "HOST:PORT")]
    control_plane: String,
    /// The image of sidecars.
    #[arg(long)]
    image: String,
    /// The cluster's network.
    #[arg(long)]
    network: Option<NetworkId>,
    /// Whether the cluster's nodes know sidecars, init containers that go on (Kubernetes 1.29 and newer).
    #[arg(long, value_name = "true|false", default_value_t = true, action = clap::ArgAction::Set)]
    native: bool,
    /// The trust domain of the instance.
    #[arg(long, default_value_t)]
    trust_domain: TrustDomain,
    /// The suffix of the cluster's service names.
    #[arg(long, default_value_t)]
    cluster_domain: ClusterDomain,
}

pub(crate) fn run(args: Args, context: &Context) -> Outcome {
    let text = apply::read(&args.filename)?;
    let own = Namespace::new(SpiffeId::SYSTEM_NAMESPACE);
    let instance = Instance {
        mesh: args.mesh,
        cluster: args.cluster,
        network: args.network,
        trust_domain: args.trust_domain,
        cluster_domain: args.cluster_domain,
        control_plane: args.control_plane,
        image: args.image,
        own_namespace: own.map_err(|error| Failure::Program(error.to_string()))?,
        native: args.native,
        by_default: true,
    };
    let failed = |error| {
        Failure::Program(format!(
            "{}: {error}; nothing was written",
            args.filename.display()
        ))
    };
    let (text, became) = inject_file(&instance, &text).map_err(failed)?;
    for (object, became) in became {
        match became {
            Document::NoPods => eprintln!("{object}: has no pods, stays as it is"),
            Document::Left(why) => eprintln!("{object}: gets no sidecar, {why}"),
            Document::Injected(warnings) => {
                eprintln!("{object}: gets a sidecar");
                for warning in warnings {
                    eprintln!("warning: {object}: {warning}");
                }
            }
        }
    }
    context.write(&text)
}
