use std::path::PathBuf;

use catamaran_model::MeshName;
use catamaran_operate::export_trust;

use super::done;
use crate::context::{Context, Effect, Outcome};

/// Write an instance's intermediate, with its key, in Istio's cacerts layout.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  catamaran trust export mesh-1 --to ./cacerts")]
pub(crate) struct Args {
    /// The instance.
    mesh: MeshName,
    /// A new or empty folder.
    #[arg(long, value_name = "FOLDER")]
    to: PathBuf,
}

pub(crate) fn run(args: Args, context: &Context) -> Outcome {
    let files = export_trust(&context.fleet()?, &args.mesh, &args.to)
        .or_else_said("nothing was written")?;
    eprintln!("wrote {} into {}", files.join(", "), args.to.display());
    eprintln!(
        "warning: ca-key.pem is an unencrypted private key; whoever reads it can issue certificates of {}",
        args.mesh
    );
    done()
}
