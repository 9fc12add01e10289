//! What the control plane costs: builds it and its simulated proxies, runs them, and puts the tables into the document.

use std::process::{Command, ExitCode, Stdio};

use crate::{bench, steps};

const BEGIN: &str = "<!-- cargo xtask bench control-plane --write: begin -->";

/// Which document shows which of the tables that a run leaves.
const SHOWN: [(&str, &str); 2] = [
    ("README.md", "short.md"),
    ("docs/performance/control-plane.md", "full.md"),
];

/// Runs `bench-control-plane`; what is not for building or writing is passed on to it.
pub(crate) fn run(args: &[String]) -> Result<ExitCode, String> {
    let (mut profile, mut write, mut rest) = ("release".to_owned(), false, Vec::new());
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--profile" => {
                profile = (args.next().cloned()).ok_or("--profile wants a value")?;
            }
            "--write" => write = true,
            _ => rest.push(arg.clone()),
        }
    }
    let built = steps::target().join(&profile);
    for (package, binary) in [
        ("catamaran", "catamaran"),
        ("catamaran-bench", "bench-control-plane"),
    ] {
        let build = ["build", "--locked", "--profile", &profile];
        steps::cargo(
            &[&build[..], &["-p", package, "--bin", binary]].concat(),
            &[],
        )?;
    }
    let out = steps::target().join("bench-control-plane");
    let status = Command::new(built.join("bench-control-plane"))
        .arg(built.join("catamaran"))
        .arg("--out")
        .arg(&out)
        .args(rest)
        .stdin(Stdio::null())
        .status()
        .map_err(|error| format!("bench-control-plane could not be started: {error}"))?;
    if !status.success() {
        return Ok(ExitCode::FAILURE);
    }
    if write {
        for (document, table) in SHOWN {
            bench::show(&steps::root().join(document), BEGIN, &out.join(table))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}
