use std::path::PathBuf;

use catamaran_model::{ClusterId, MeshName};
use catamaran_operate::{AuthorityInto, IssueAuthority, RootFrom, issue_authority};

use super::{contact, done};
use crate::context::{Context, Effect, Failure, Outcome};

/// Issue the authority of an instance that a chart or a repository installs: an intermediate in Istio's cacerts layout.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  catamaran trust issue mesh-1 --cluster cluster-1 --context one
  catamaran trust issue mesh-2 --cluster cluster-2 --context two --reuse-root mesh-1
  catamaran trust issue mesh-1 --cluster cluster-1 --to ./cacerts")]
pub(crate) struct Args {
    /// The instance.
    mesh: MeshName,
    /// The cluster that it will run in.
    #[arg(long)]
    cluster: ClusterId,
    #[command(flatten)]
    home: contact::Home,
    /// Write the files into this folder, which must be new or empty, and not into a cluster.
    #[arg(long, value_name = "FOLDER", conflicts_with = "context")]
    to: Option<PathBuf>,
    /// Take the root of this instance; an own root when not said.
    #[arg(long, value_name = "MESH")]
    reuse_root: Option<MeshName>,
    /// Take the root in this folder (root-cert.pem, root-key.pem); it is made there when there is none.
    #[arg(long, value_name = "DIR", conflicts_with = "reuse_root")]
    root: Option<PathBuf>,
    /// Where roots are kept on this machine; ~/.catamaran/roots when not said.
    #[arg(long, value_name = "DIR", env = "CATAMARAN_ROOTS")]
    roots: Option<PathBuf>,
}

pub(crate) async fn run(args: Args, context: &Context) -> Outcome {
    let into = match (args.home.contact(), args.to) {
        (Some(cluster), _) => AuthorityInto::Cluster(cluster),
        (None, Some(folder)) => AuthorityInto::Folder(folder),
        (None, None) => {
            return Err(Failure::Program(
                "say where it goes: into the cluster of --context, or into the folder of --to"
                    .into(),
            ));
        }
    };
    let folder = match &into {
        AuthorityInto::Folder(folder) => Some(folder.clone()),
        AuthorityInto::Cluster(_) => None,
    };
    let issue = IssueAuthority {
        mesh: args.mesh,
        cluster: args.cluster,
        roots: contact::roots(args.roots)?,
        root: match (args.reuse_root, args.root) {
            (Some(mesh), _) => RootFrom::Instance(mesh),
            (None, Some(folder)) => RootFrom::Folder(folder),
            (None, None) => RootFrom::New,
        },
        into,
    };
    let issued = issue_authority(&issue, &mut context.job()).await;
    issued.or_else_said("nothing was issued")?;
    if let Some(folder) = folder {
        eprintln!(
            "warning: ca-key.pem is an unencrypted private key; whoever reads it can issue certificates of {}",
            issue.mesh
        );
        eprintln!(
            "  kubectl create secret generic cacerts -n catamaran-system --from-file={}",
            folder.display()
        );
    }
    done()
}
