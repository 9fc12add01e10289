//! Feeds targets of the room `hostile` from a fuzzer, with the stable toolchain.
//!
//! libFuzzer is linked as a plain library, and the compiler's own coverage pass is asked for by flags: no nightly, no
//! `cargo fuzz`. What is built so lies in `target/fuzz`, away from the ordinary build.

use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};

use crate::steps::{root, target};

/// How long each target is fed when nobody says.
const SECONDS: u64 = 180;
/// The longest input, in bytes.
const LONGEST: usize = 16 * 1024;
/// A target that needs more memory than this, in MiB, is stopped as a finding.
const MEMORY: usize = 1024;
/// One input that takes longer than this, in seconds, is a finding.
const HANG: u64 = 25;

/// What is compiled in: counters for each edge of the control flow, and what comparisons compare.
const FLAGS: &str = "-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares";

/// Builds the fuzzer and feeds one target, or each in turn. Findings and what was learned lie in `target/fuzz/TARGET`.
pub(crate) fn run(args: &[&str]) -> Result<ExitCode, String> {
    let (mut only, mut seconds) = (None, SECONDS);
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        match (*arg, only) {
            ("--for", _) => {
                let said = args.next().and_then(|seconds| seconds.parse().ok());
                seconds = said.ok_or("--for takes a number of seconds")?;
            }
            (name, None) => only = Some(name),
            (other, Some(_)) => return Err(format!("fuzz takes one target, not {other:?} too")),
        }
    }
    let fuzzer = build()?;
    let known = names()?;
    let chosen: Vec<&String> = known
        .iter()
        .filter(|name| only.is_none_or(|only| only == name.as_str()))
        .collect();
    if chosen.is_empty() {
        return Err(format!(
            "there is no such target; there are {}",
            known.join(", ")
        ));
    }
    let mut found = Vec::new();
    for name in chosen {
        println!("\n== {name}, {seconds} s");
        if !feed(&fuzzer, name, seconds)? {
            found.push(name.as_str());
        }
    }
    if found.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    Err(format!(
        "something does not hold in {}; the inputs are in {}",
        found.join(", "),
        target().join("fuzz").display()
    ))
}

fn build() -> Result<PathBuf, String> {
    let triple = host()?;
    let folder = target().join("fuzz");
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
    let status = Command::new(cargo)
        .args(["build", "--release", "--target", &triple])
        .arg("--manifest-path")
        .arg(root().join("hostile/fuzz/Cargo.toml"))
        .arg("--target-dir")
        .arg(&folder)
        .env("RUSTFLAGS", FLAGS)
        .status()
        .map_err(|error| format!("cargo could not be started: {error}"))?;
    match status.success() {
        true => Ok(folder.join(triple).join("release/catamaran-fuzz")),
        false => Err("the fuzzer cannot be built".into()),
    }
}

/// Coverage flags are for the fuzzer, not for build scripts: a named target keeps them apart.
fn host() -> Result<String, String> {
    let output = Command::new("rustc")
        .arg("-vV")
        .output()
        .map_err(|error| format!("rustc could not be started: {error}"))?;
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .find_map(|line| line.strip_prefix("host: "))
        .map(str::to_owned)
        .ok_or_else(|| "rustc does not say for which machine it builds".into())
}

/// The targets, as the room lists them.
fn names() -> Result<Vec<String>, String> {
    let path = root().join("hostile/tests/fuzz/main.rs");
    let text =
        std::fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    let list = text.rsplit("targets! {").next().unwrap_or_default();
    Ok(list
        .split('"')
        .skip(1)
        .step_by(2)
        .map(str::to_owned)
        .collect())
}

/// Whether everything held.
fn feed(fuzzer: &PathBuf, name: &str, seconds: u64) -> Result<bool, String> {
    let folder = target().join("fuzz").join(name);
    let corpus = folder.join("corpus");
    std::fs::create_dir_all(&corpus).map_err(|error| format!("{}: {error}", corpus.display()))?;
    let status = Command::new(fuzzer)
        .arg(&corpus)
        .arg(format!("-max_total_time={seconds}"))
        .arg(format!("-max_len={LONGEST}"))
        .arg(format!("-rss_limit_mb={MEMORY}"))
        .arg(format!("-timeout={HANG}"))
        .arg(format!("-artifact_prefix={}/", folder.display()))
        .arg(format!("-dict={}", folder.join("words").display()))
        .arg("-print_final_stats=1")
        .env("CATAMARAN_TARGET", name)
        .env("CATAMARAN_FUZZ", &folder)
        .stdin(Stdio::null())
        .status()
        .map_err(|error| format!("{} could not be started: {error}", fuzzer.display()))?;
    Ok(status.success())
}
