//! What the control plane costs: builds it and its simulated proxies, runs them, and puts the tables into the document.

use std::process::{Command, ExitCode, Stdio};

use crate::{bench, steps};

const BEGIN: &str = "<!-- cargo xtask bench control-plane --write: begin -->";
const DOCUMENT: &str = "docs/performance/control-plane.md";

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
    let output = Command::new(built.join("bench-control-plane"))
        .arg(built.join("catamaran"))
        .args(rest)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| format!("bench-control-plane could not be started: {error}"))?;
    print!("{}", String::from_utf8_lossy(&output.stdout));
    if !output.status.success() {
        return Ok(ExitCode::FAILURE);
    }
    if write {
        let table = steps::target().join("bench-control-plane.md");
        std::fs::write(&table, &output.stdout)
            .map_err(|error| format!("{}: {error}", table.display()))?;
        bench::show(&steps::root().join(DOCUMENT), BEGIN, &table)?;
    }
    Ok(ExitCode::SUCCESS)
}
