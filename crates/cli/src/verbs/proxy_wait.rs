use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use catamaran_operate::Class;
use catamaran_proxy::hooks;

use super::done;
use crate::context::Outcome;
use crate::parse::span;

/// Wait until a sidecar is ready (a postStart hook, where sidecars are not native: the next container starts when it ends).
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  catamaran proxy wait
  catamaran proxy wait --health 10.244.0.7:15021 --timeout 2m")]
pub(crate) struct Args {
    /// Where it says so; when not said, 15021 on any of the pod's own addresses.
    #[arg(long, value_name = "IP:PORT")]
    health: Vec<SocketAddr>,
    /// How long to wait; a number alone is seconds.
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = span)]
    timeout: Duration,
}

pub(crate) async fn run(args: Args) -> Outcome {
    match hooks::until_ready(&args.health, args.timeout).await {
        Ok(()) => done(),
        Err(why) => {
            eprintln!("error: not ready within {:?}: {why}", args.timeout);
            Ok(ExitCode::from(Class::Timeout.exit_code()))
        }
    }
}
