//! The node with real processes. The binary is both the tests and the programs that the node starts.
//!
//! The tests under `netns::` make network namespaces and need root; they fail without it. An ordinary user runs the others
//! with `-- --skip netns::`.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process::ExitCode;

use catamaran_local::fleet::FleetDir;
use catamaran_local::{helloworld, launch, node};
use catamaran_model::ClusterId;

mod capture;
mod fleet;
mod netns;
mod process;
mod stand_in;

type Test = (&'static str, fn());

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.first().map(String::as_str) {
        Some("launch") => {
            let argv = args.get(4..).unwrap_or_default();
            let Err(error) = launch::exec_file(Path::new(&args[2]), argv);
            eprintln!("{error}");
            ExitCode::from(launch::LAUNCH_FAILED as u8)
        }
        Some("helloworld") => {
            let config = helloworld::Config::from_env(
                args[2].clone(),
                Some(args[4].clone()),
                helloworld::PORT,
            );
            run(async move {
                helloworld::run(config, terminated())
                    .await
                    .map_err(|e| e.to_string())
            })
        }
        Some("node") => {
            let dir = FleetDir::at(&args[2]).cluster(&ClusterId::new(&args[4]).unwrap());
            run(async move {
                let config = node::Config::new(dir).map_err(|e| e.to_string())?;
                node::run(config, terminated())
                    .await
                    .map_err(|e| e.to_string())
            })
        }
        Some("proxy") => stand_in::proxy(&args[1..]),
        Some("control-plane") => stand_in::control_plane(&args[1..]),
        _ => run_tests(&args),
    }
}

fn run(work: impl Future<Output = Result<(), String>>) -> ExitCode {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    match runtime.block_on(work) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

async fn terminated() {
    use tokio::signal::unix::{SignalKind, signal};
    signal(SignalKind::terminate()).unwrap().recv().await;
}

/// Understands what is needed of the usual arguments: names, `--skip NAME`, `--exact`, `--list`.
fn run_tests(args: &[String]) -> ExitCode {
    let tests: Vec<Test> = [process::TESTS, netns::TESTS, capture::TESTS].concat();
    let (mut filters, mut skips, mut exact) = (Vec::new(), Vec::new(), false);
    let mut rest = args.iter();
    while let Some(arg) = rest.next() {
        match arg.as_str() {
            "--list" => {
                for (name, _) in &tests {
                    println!("{name}: test");
                }
                return ExitCode::SUCCESS;
            }
            "--skip" => skips.extend(rest.next()),
            "--exact" => exact = true,
            "--test-threads" | "--format" | "--color" => drop(rest.next()),
            flag if flag.starts_with('-') => {}
            _ => filters.push(arg),
        }
    }
    let matches = |name: &str, filter: &str| {
        if exact {
            name == filter
        } else {
            name.contains(filter)
        }
    };
    let wanted = |name: &str| {
        (filters.is_empty() || filters.iter().any(|f| matches(name, f)))
            && !skips.iter().any(|s| name.contains(s.as_str()))
    };
    let mut failed = Vec::new();
    let mut ran = 0;
    for (name, test) in tests.iter().filter(|(name, _)| wanted(name)) {
        ran += 1;
        let started = std::time::Instant::now();
        let ok = catch_unwind(AssertUnwindSafe(test)).is_ok();
        let word = if ok { "ok" } else { "FAILED" };
        println!(
            "test {name} ... {word} ({:.1} s)",
            started.elapsed().as_secs_f32()
        );
        if !ok {
            failed.push(*name);
        }
    }
    println!("test result: {ran} run, {} failed {failed:?}", failed.len());
    match failed.is_empty() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}
