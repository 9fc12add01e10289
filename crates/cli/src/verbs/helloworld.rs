use catamaran_local::helloworld::{self, Config};
use tokio::signal::unix::{SignalKind, signal};

use super::done;
use crate::context::{Failure, Outcome};

/// Run the server behind the sample's images.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The version that it answers.
    #[arg(long = "version", default_value = "v1")]
    says: String,
    /// The instance that it answers; the host's name when not said.
    #[arg(long)]
    instance: Option<String>,
    /// Its port.
    #[arg(long, default_value_t = helloworld::PORT)]
    port: u16,
}

pub(crate) async fn run(args: Args) -> Outcome {
    let failed = |error: std::io::Error| Failure::Program(format!("helloworld: {error}"));
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    let stop = async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = tokio::signal::ctrl_c() => {}
        }
    };
    let config = Config::from_env(args.says, args.instance, args.port);
    helloworld::run(config, stop).await.map_err(failed)?;
    done()
}
