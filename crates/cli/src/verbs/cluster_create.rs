use catamaran_local::fleet::Isolation;
use catamaran_model::{ClusterId, NetworkId};
use catamaran_operate::{Fleet, create_cluster};

use super::done;
use crate::context::{Context, Effect, Outcome, program};

/// Make a cluster; its fleet is made with the first one.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  catamaran cluster create cluster-1 --network network1 --fleet /tmp/fleet
  catamaran cluster create cluster-2 --fleet /tmp/fleet --isolation process")]
pub(crate) struct Args {
    /// The cluster's name, unique in the fleet.
    cluster: ClusterId,
    /// The physical network that it stands in; pods of one network reach each other directly. One for all when not said.
    #[arg(long)]
    network: Option<NetworkId>,
    /// How the pods of a new fleet are kept apart: netns when this machine and user can, else process.
    #[arg(long, value_enum)]
    isolation: Option<Kept>,
}

/// How pods are kept apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Kept {
    /// A network namespace for each pod; needs root.
    Netns,
    /// A loopback address for each pod; no capture and no isolation.
    Process,
}

impl From<Kept> for Isolation {
    fn from(kept: Kept) -> Isolation {
        match kept {
            Kept::Netns => Isolation::Netns,
            Kept::Process => Isolation::Process,
        }
    }
}

pub(crate) fn run(args: Args, context: &Context) -> Outcome {
    let effect = "nothing was created";
    let path = context.fleet_path()?;
    let isolation = args.isolation.map(Isolation::from);
    let fleet = Fleet::open_or_create(path, isolation, program()?).or_else_said(effect)?;
    create_cluster(
        &fleet,
        &args.cluster,
        args.network.as_ref(),
        &mut context.job(),
    )
    .or_else_said(effect)?;
    done()
}
