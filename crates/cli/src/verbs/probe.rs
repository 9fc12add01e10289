use std::net::SocketAddr;

use catamaran_operate::probe;

use super::done;
use crate::context::{Failure, Outcome};

/// Probe a gateway from where this runs; one line of JSON.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// IP:PORT
    address: SocketAddr,
    /// The name to ask for in a ClientHello; only TCP when not said.
    #[arg(long)]
    sni: Option<String>,
}

pub(crate) async fn run(args: Args) -> Outcome {
    let reached = probe::probe(args.address, args.sni.as_deref()).await;
    let line =
        serde_json::to_string(&reached).map_err(|error| Failure::Program(error.to_string()))?;
    println!("{line}");
    done()
}
