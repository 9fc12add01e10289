use std::process::ExitCode;
use std::time::Duration;

use catamaran_model::Namespace;
use catamaran_operate::{Class, Manner, OperateError, Place, Tally, context_verify, load, verify};

use super::contact;
use super::exec::target;
use crate::context::{Context, Effect, Outcome};
use crate::parse::span;
use crate::table::Table;

/// Call a service from a pod, as its program would, and add up who answered.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  catamaran verify helloworld:5000/hello --from cluster-1/deploy/sleep -n 10
  catamaran verify helloworld:5000/hello --from cluster-1/deploy/sleep --rate 50 --for 10s -o json
  catamaran verify helloworld:5000/hello --context one --from deploy/sleep -n 10

Exit code 3 when a call failed.")]
pub(crate) struct Args {
    /// HOST:PORT/PATH
    url: String,
    /// The pod that calls: CLUSTER/deploy/NAME or CLUSTER/pod/NAME; with --context deploy/NAME or pod/NAME.
    #[arg(long)]
    from: String,
    /// How many calls, one after the other.
    #[arg(short = 'n', long = "count", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    count: u32,
    /// Calls a second at a constant rate, in place of one after the other.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=5_000), conflicts_with = "count")]
    rate: Option<u32>,
    /// How long, with --rate.
    #[arg(long = "for", value_parser = span, default_value = "10s", requires = "rate")]
    time: Duration,
    /// The namespace of the pod that calls.
    #[arg(long, default_value = "default")]
    namespace: Namespace,
    #[command(flatten)]
    home: contact::Home,
}

pub(crate) async fn run(args: Args, context: &Context) -> Outcome {
    let url = load::url(&args.url)?;
    if let Some(home) = args.home.contact() {
        if args.rate.is_some() {
            return Err(OperateError::BadSetting {
                text: "--rate".into(),
                wanted: "an option for a cluster with an API server",
                reason: "calls are made there by the curl in the pod, one after the other; say how many with -n".into(),
            }
            .into());
        }
        let from = target(&args.from).map_err(|reason| OperateError::BadSetting {
            text: args.from.clone(),
            wanted: "deploy/NAME or pod/NAME",
            reason,
        })?;
        let called = context_verify(&home, &args.namespace, &from, &url, args.count).await;
        return told(&called.or_else_said("no call was made")?, context);
    }
    let from = Place::parse(&args.from, &args.namespace)?;
    let manner = match args.rate {
        Some(rate) => Manner::Rate {
            rate,
            time: args.time,
        },
        None => Manner::Count(args.count),
    };
    let tally = verify(&context.fleet()?, &from, &url, manner)
        .await
        .or_else_said("no call was made")?;
    told(&tally, context)
}

fn told(tally: &Tally, context: &Context) -> Outcome {
    context.show(tally, || tables(tally))?;
    Ok(match tally.failed {
        0 => ExitCode::SUCCESS,
        _ => ExitCode::from(Class::Found.exit_code()),
    })
}

fn tables(tally: &Tally) -> Vec<Table> {
    let mut sum = Table::new(
        ["SENT", "OK", "FAILED", "LONGEST GAP", "P50", "P99", "MAX"],
        "",
    );
    let ms = |value: f64| match tally.ok {
        0 => "-".to_owned(),
        _ => format!("{value:.1} ms"),
    };
    sum.row([
        tally.sent.to_string(),
        tally.ok.to_string(),
        tally.failed.to_string(),
        format!("{} ms", tally.longest_gap_ms),
        ms(tally.latency_ms.p50),
        ms(tally.latency_ms.p99),
        ms(tally.latency_ms.max),
    ]);
    let mut tables = vec![sum];
    for (header, counts) in [
        (["VERSION", "ANSWERS"], &tally.versions),
        (["INSTANCE", "ANSWERS"], &tally.instances),
        (["ERROR", "CALLS"], &tally.errors),
    ] {
        if counts.is_empty() {
            continue;
        }
        let mut table = Table::new(header, "");
        for (name, count) in counts {
            table.row([name.clone(), count.to_string()]);
        }
        tables.push(table);
    }
    tables
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_an_answer_there_is_no_latency() {
        let failed = Tally {
            sent: 3,
            failed: 3,
            ..Tally::default()
        };
        let text = tables(&failed)[0].render();
        assert!(!text.contains("0.0 ms"), "{text}");
        let answered = Tally {
            sent: 1,
            ok: 1,
            ..Tally::default()
        };
        assert!(tables(&answered)[0].render().contains("0.0 ms"));
    }
}
