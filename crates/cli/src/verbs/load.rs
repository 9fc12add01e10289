use std::time::Duration;

use catamaran_operate::load::{self, LoadConfig, MAX_RATE};

use super::done;
use crate::context::{Failure, Outcome};
use crate::parse::span;

/// Call a URL at a constant rate until standard input ends; one line of JSON for each call.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// HOST:PORT/PATH
    url: String,
    /// Calls a second.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_RATE)))]
    rate: u32,
    /// How long at most.
    #[arg(long = "for", value_parser = span)]
    time: Option<Duration>,
    /// How many at most.
    #[arg(long)]
    count: Option<u64>,
    /// How long one call may take.
    #[arg(long, value_parser = span, default_value = "5s")]
    patience: Duration,
}

pub(crate) async fn run(args: Args) -> Outcome {
    let proxy = std::env::var("http_proxy")
        .ok()
        .filter(|proxy| !proxy.is_empty());
    let config = LoadConfig {
        url: load::url(&args.url)?,
        rate: args.rate,
        time: args.time,
        calls: args.count,
        patience: args.patience,
        proxy: proxy.as_deref().map(load::proxy).transpose()?,
    };
    load::run(config)
        .await
        .map_err(|error| Failure::Program(format!("standard output: {error}")))?;
    done()
}
