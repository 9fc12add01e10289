//! `catamaran load`: requests at a constant rate, from inside a pod.

use std::process::ExitCode;
use std::time::Duration;

use catamaran_operate::OperateError;
use catamaran_operate::load::{self, LoadConfig};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// What is called
    #[arg(value_name = "HOST:PORT/PATH")]
    url: String,
    /// Requests a second
    #[arg(long, value_name = "N")]
    rate: u32,
    /// How long; until its input ends when nothing is said
    #[arg(long = "for", value_name = "TIME", value_parser = span)]
    time: Option<Duration>,
    /// How many requests at most
    #[arg(long, value_name = "N")]
    calls: Option<u64>,
    /// An HTTP proxy to send them through
    #[arg(long, value_name = "URL", env = "http_proxy")]
    proxy: Option<String>,
}

/// How long one request may take.
const PATIENCE: Duration = Duration::from_secs(5);

pub(super) fn run(args: Args) -> ExitCode {
    let config = match decide(&args) {
        Ok(config) => config,
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::from(2);
        }
    };
    let runtime = match super::runtime(0) {
        Ok(runtime) => runtime,
        Err(code) => return code,
    };
    let ended = runtime.block_on(load::run(config));
    // What still waits for its input to end need not.
    runtime.shutdown_background();
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => super::failed(&error),
    }
}

fn decide(args: &Args) -> Result<LoadConfig, OperateError> {
    let proxy = args.proxy.as_deref().filter(|proxy| !proxy.is_empty());
    Ok(LoadConfig {
        url: load::url(&args.url)?,
        rate: args.rate,
        time: args.time,
        calls: args.calls,
        patience: PATIENCE,
        proxy: proxy.map(load::proxy).transpose()?,
    })
}

/// `500ms`, `10s` or `2m`
fn span(text: &str) -> Result<Duration, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let number: u64 = text[..digits].parse().map_err(|_| "it needs a number, like 10s")?;
    match &text[digits..] {
        "ms" => Ok(Duration::from_millis(number)),
        "s" => Ok(Duration::from_secs(number)),
        "m" => Ok(Duration::from_secs(number.saturating_mul(60))),
        _ => Err("it needs a unit: ms, s or m".into()),
    }
}
