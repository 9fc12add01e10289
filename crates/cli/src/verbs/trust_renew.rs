use std::path::PathBuf;
use std::time::Duration;

use catamaran_model::MeshName;
use catamaran_operate::{RenewTrust, renew_context_trust, renew_trust};

use super::{contact, done};
use crate::context::{Context, Effect, Outcome};
use crate::parse::span;

/// A control plane takes a file at once.
const LOCAL: Duration = Duration::from_secs(30);
/// A kubelet brings a changed Secret when its turn comes.
const BEHIND: Duration = Duration::from_secs(180);

/// Issue a new intermediate of an instance from its root, while everything goes on.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  catamaran trust renew mesh-1\n  catamaran trust renew mesh-1 --context one"
)]
pub(crate) struct Args {
    /// The instance.
    mesh: MeshName,
    #[command(flatten)]
    home: contact::Home,
    /// Where roots are kept on this machine; ~/.catamaran/roots when not said.
    #[arg(long, value_name = "DIR", env = "CATAMARAN_ROOTS")]
    roots: Option<PathBuf>,
    /// The root is in this folder (root-cert.pem, root-key.pem).
    #[arg(long, value_name = "DIR", requires = "context")]
    root: Option<PathBuf>,
    /// How long to wait until its peers are told; 30s for a local cluster, 180s for one with an API server, when not said.
    #[arg(long, value_parser = span)]
    timeout: Option<Duration>,
}

pub(crate) async fn run(args: Args, context: &Context) -> Outcome {
    let mut job = context.job();
    let renewed = match args.home.contact() {
        Some(home) => {
            let renew = RenewTrust {
                home,
                mesh: args.mesh,
                roots: contact::roots(args.roots)?,
                root: args.root,
                patience: args.timeout.unwrap_or(BEHIND),
            };
            renew_context_trust(&renew, &mut job).await
        }
        None => {
            let patience = args.timeout.unwrap_or(LOCAL);
            renew_trust(&context.fleet()?, &args.mesh, patience, &mut job).await
        }
    };
    renewed.or_else_said("nothing was changed")?;
    done()
}
