//! The workshop's commands: `cargo xtask demo`, `cargo xtask test`. Both do their own set-up on a fresh machine.

mod bench;
mod bench_control_plane;
mod cluster;
mod cluster_test;
mod envoy;
mod fuzz;
mod image;
mod machine;
mod steps;

use std::process::ExitCode;

const HELP: &str = "\
Usage: cargo xtask COMMAND [ARGS]

  demo [ARGS]    build what is missing and run `catamaran demo ARGS` (try: --once, --isolation process, --help)
  test           everything a change must pass: format, lints, docs, layers, unit and property tests, end-to-end tests
  test FILTER    end-to-end tests whose name contains FILTER, and nothing else
  prove [N]      unit and property tests N times (10), each time with another seed, which is printed; then tests on clusters that
                 are too long for `test`
  fuzz [TARGET] [--for SECONDS]
                 feed the readers of strangers' bytes from a fuzzer, one or each in turn (180 s each)
  bench [ROW..]  our proxy and Envoy in turn, in release builds: --rounds N (3), --seconds S (3), --quick; --write puts the tables into
                 README.md and docs/performance.md; --profile NAME builds with another profile, --ours FILE takes another binary,
                 --ahead puts it ahead of the machine's other work
  bench control-plane [ARGS]
                 what the control plane costs, by services and by proxies (try: --help); --write puts the tables into
                 README.md and docs/performance/control-plane.md; --profile NAME builds with another profile
  bench kubernetes [ARGS]
                 what it costs on real API servers: starts, memory, requests, a change to the last ACK (try: --help); --write puts the
                 tables into README.md and docs/performance/kubernetes.md; --profile NAME builds with another profile
  envoy          fetch the Envoy that tests and benchmarks compare with, and print its path
  cluster ..     real Kubernetes clusters on this machine, for tests (try: cluster --help)
  image [NAME..] images for them as OCI archives in target/images, without a Docker engine: pause, curl, catamaran (--binary FILE);
                 --version V: our own as one of that version, and its program beside it, for trying upgrades
  build          build the binary, target/debug/catamaran

demo and test install what they need with apt-get when they run as root on Debian or Ubuntu; elsewhere they name what is missing.
";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let outcome = match words[..] {
        ["demo", ..] => steps::demo(&args[1..]),
        ["test"] => steps::test(),
        ["test", filter] => steps::end_to_end(Some(filter)),
        ["prove"] => steps::prove(10),
        ["prove", rounds] => match rounds.parse() {
            Ok(rounds) => steps::prove(rounds),
            Err(_) => Err(format!("prove takes how many rounds, not {rounds:?}")),
        },
        ["fuzz", ..] => fuzz::run(&words[1..]),
        ["bench", "control-plane", ..] => bench_control_plane::run(&args[2..]),
        ["bench", "kubernetes", ..] => bench_control_plane::on_kubernetes(&args[2..]),
        ["bench", ..] => bench::proxies(&args[1..]),
        ["envoy"] => envoy::ready().map(|path| {
            println!("{}", path.display());
            ExitCode::SUCCESS
        }),
        ["cluster", ..] => cluster::run(&words[1..]),
        ["image", ..] => image::run(&words[1..]),
        ["build"] => steps::build(),
        ["--help" | "-h" | "help"] | [] => {
            print!("{HELP}");
            Ok(ExitCode::SUCCESS)
        }
        [other, ..] => {
            eprint!("error: there is no command {other:?}\n\n{HELP}");
            Ok(ExitCode::from(2))
        }
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("\nerror: {error}");
        ExitCode::FAILURE
    })
}
