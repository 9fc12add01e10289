use std::time::Duration;

use catamaran_proxy::hooks;

use super::done;
use crate::context::{Failure, Outcome};
use crate::parse::span;

/// Wait until the workload has ended (a sidecar's preStop hook, where sidecars are not native: it gets SIGTERM when this ends).
///
/// The node ends all containers of a pod at once, while the workload may still answer what is under way, or call. This waits
/// until no socket in the pod is in use but the sidecar's, for a second; the sidecar then drains by itself.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  catamaran proxy drain
  catamaran proxy drain --timeout 45s                      for a pod with terminationGracePeriodSeconds: 60")]
pub(crate) struct Args {
    /// How long to wait at most: the pod's grace period, less the 11 s that a sidecar may take itself; a number alone is seconds.
    #[arg(long, value_name = "TIME", default_value = "15s", value_parser = span)]
    timeout: Duration,
}

pub(crate) async fn run(args: Args) -> Outcome {
    let left = hooks::until_alone(args.timeout).await;
    let left = left.map_err(|error| Failure::Program(format!("/proc/net/tcp: {error}")))?;
    if left > 0 {
        eprintln!(
            "{left} sockets of the workload are still in use after {:?}; its sidecar ends nevertheless",
            args.timeout
        );
    }
    done()
}
