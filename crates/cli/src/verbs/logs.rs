use std::io::{Read, Seek, SeekFrom, Write};
use std::time::Duration;

use catamaran_local::exec::Target;
use catamaran_model::{ClusterId, Namespace};
use catamaran_operate::{Place, log_path, logs};

use super::exec::target;
use crate::context::{Context, Failure, Outcome};

/// Show what a pod's program wrote, or its sidecar (`-c istio-proxy`).
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  catamaran logs cluster-1 deploy/helloworld-v1
  catamaran logs cluster-1 deploy/sleep -c istio-proxy --tail 20 --follow")]
pub(crate) struct Args {
    /// The cluster.
    cluster: ClusterId,
    /// deploy/NAME or pod/NAME
    #[arg(value_parser = target, value_name = "TARGET")]
    target: Target,
    /// The container; the first one when not said.
    #[arg(short, long)]
    container: Option<String>,
    /// The namespace.
    #[arg(short, long, default_value = "default")]
    namespace: Namespace,
    /// How many lines, from the end.
    #[arg(long, default_value_t = 200)]
    tail: usize,
    /// Go on with what is written from now on.
    #[arg(short, long)]
    follow: bool,
}

pub(crate) fn run(args: Args, context: &Context) -> Outcome {
    let fleet = context.fleet()?;
    let place = Place {
        cluster: args.cluster,
        namespace: args.namespace,
        target: args.target,
    };
    let container = args.container.as_deref();
    let path = log_path(&fleet, &place, container)?;
    let mut at = std::fs::metadata(&path).map_or(0, |meta| meta.len());
    let outcome = context.write(&logs(&fleet, &place, container, args.tail)?);
    if !args.follow {
        return outcome;
    }
    loop {
        std::thread::sleep(Duration::from_millis(200));
        let Ok(mut file) = std::fs::File::open(&path) else {
            continue;
        };
        let mut news = Vec::new();
        let read = file
            .seek(SeekFrom::Start(at))
            .and_then(|_| file.take(MAX_NEWS).read_to_end(&mut news));
        at +=
            read.map_err(|error| Failure::Program(format!("{}: {error}", path.display())))? as u64;
        let mut out = std::io::stdout().lock();
        if out.write_all(&news).and_then(|()| out.flush()).is_err() {
            return outcome;
        }
    }
}

/// The most bytes that are read at once.
const MAX_NEWS: u64 = 1 << 20;
