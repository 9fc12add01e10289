//! The steps of each command, in order, each with its time.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use crate::{cluster, cluster_test, envoy, image, machine};

/// Builds what is missing and runs the demo with the arguments given.
pub(crate) fn demo(args: &[String]) -> Result<ExitCode, String> {
    machine::prepare(machine::is_root())?;
    build()?;
    let status = Command::new(binary())
        .arg("demo")
        .args(args)
        .status()
        .map_err(|error| format!("{} could not be started: {error}", binary().display()))?;
    Ok(ExitCode::from(status.code().unwrap_or(1) as u8))
}

/// Builds the binary.
pub(crate) fn build() -> Result<ExitCode, String> {
    cargo(&["build", "--workspace", "--bins", "--locked"], &[])?;
    Ok(ExitCode::SUCCESS)
}

/// The property tests' seed in the test command, so that equal code gives equal outcomes; `prove` takes others.
const SEED: &str = "1";

/// Unit and property tests again and again, each round with another seed; then what is too long for the test command.
pub(crate) fn prove(rounds: u32) -> Result<ExitCode, String> {
    let start = std::time::SystemTime::now();
    let since = start.duration_since(std::time::UNIX_EPOCH);
    let first = since.map_or(2, |since| since.as_secs());
    let envoy = envoy::ready()?;
    let envoy = envoy.to_str().ok_or("the path of Envoy is not UTF-8")?;
    for round in 0..u64::from(rounds) {
        let seed = (first + round).to_string();
        println!(
            "\n== round {} of {rounds}: PROPTEST_RNG_SEED={seed}",
            round + 1
        );
        let args = [
            "test",
            "--workspace",
            "--exclude",
            "catamaran-e2e",
            "--exclude",
            "catamaran-judge",
            "--locked",
            "-q",
        ];
        cargo(
            &args,
            &[("PROPTEST_RNG_SEED", &seed), ("CATAMARAN_ENVOY", envoy)],
        )?;
        differential(&[("JUDGE_SEED", &seed)])?;
    }
    // What is too long for the test command.
    cluster_test::run()?;
    operated()?;
    tokens()?;
    upgraded()?;
    Ok(ExitCode::SUCCESS)
}

/// Everything a change must pass.
pub(crate) fn test() -> Result<ExitCode, String> {
    if !machine::is_root() {
        return Err("the tests make network namespaces, so they need root (try: sudo -E cargo xtask test); \
             without it only `cargo test --workspace --exclude catamaran-e2e` can run"
            .into());
    }
    machine::prepare(true)?;
    machine::prepare_cluster()?;
    machine::prepare_cluster_tests()?;
    machine::prepare_images()?;
    cluster::can_build()?;
    let envoy = envoy::ready()?;
    let envoy = envoy.to_str().ok_or("the path of Envoy is not UTF-8")?;
    let mut report = Report::default();
    report.step("format", || cargo(&["fmt", "--all", "--check"], &[]))?;
    let lint = [
        "clippy",
        "--workspace",
        "--all-targets",
        "--locked",
        "--",
        "-D",
        "warnings",
    ];
    report.step("lints", || cargo(&lint, &[]))?;
    let docs = ["doc", "--workspace", "--no-deps", "--locked"];
    report.step("docs", || cargo(&docs, &[("RUSTDOCFLAGS", "-D warnings")]))?;
    let unit = [
        "test",
        "--workspace",
        "--exclude",
        "catamaran-e2e",
        "--exclude",
        "catamaran-judge",
        "--exclude",
        "catamaran-hostile",
        "--locked",
        "--no-fail-fast",
    ];
    let seed = [("PROPTEST_RNG_SEED", SEED), ("CATAMARAN_ENVOY", envoy)];
    report.step("unit, property and layer tests", || cargo(&unit, &seed))?;
    let hostile = [
        "test",
        "-p",
        "catamaran-hostile",
        "--locked",
        "--no-fail-fast",
    ];
    report.step("hostile tests", || cargo(&hostile, &[]))?;
    report.step("differential tests against Envoy", || differential(&[]))?;
    report.step("end-to-end tests", || end_to_end(None).map(drop))?;
    // Kubernetes is compiled once for each change of `clusters/`.
    report.step("programs of the test clusters", || {
        cluster::program().map(drop)
    })?;
    report.step("rooms and control planes on API servers", api_servers)?;
    report.step("an installation in a cluster", installed)?;
    report.step("the five steps on real clusters", || five_steps(None))?;
    report.print();
    Ok(ExitCode::SUCCESS)
}

/// Rooms and control planes before real API servers, which `clusters` starts.
pub(crate) fn api_servers() -> Result<(), String> {
    build()?;
    let program = cluster::program()?;
    let kubectl = program.with_file_name("");
    let path = format!(
        "{}:{}",
        utf8(&kubectl)?,
        std::env::var("PATH").unwrap_or_default()
    );
    let env = [
        ("CATAMARAN_TEST_CLUSTERS", utf8(&program)?),
        ("PATH", path.as_str()),
    ];
    by_name("catamaran-operate", "two-api-servers", None, &env)?;
    for room in ["catamaran-kubernetes", "catamaran-control-plane"] {
        let name = format!("room-{}", std::process::id());
        let kubeconfig = cluster::up(&name, &["--only", "api", "--audit"])?;
        let server = [("CATAMARAN_TEST_KUBECONFIG", utf8(&kubeconfig)?)];
        let tested = by_name(room, "api-server", None, &[&env[..], &server].concat());
        cluster::down(&name)?;
        tested?;
        let folder = cluster::folder(&name)?;
        std::fs::remove_dir_all(&folder)
            .map_err(|error| format!("{}: {error}", folder.display()))?;
    }
    on_clusters("api_servers", None, ["--skip", TOKENS])
}

/// A token that is renewed outlives who renewed it, which takes as long as the shortest token lives.
pub(crate) fn tokens() -> Result<(), String> {
    build()?;
    on_clusters("api_servers", None, [TOKENS])
}

const TOKENS: &str = "tokens::";

/// An installation comes, is what it was asked to be, and goes.
pub(crate) fn installed() -> Result<(), String> {
    let test = "an_instance_comes";
    on_two(|env| by_name("catamaran-e2e", "kubernetes", Some(test), env))
}

/// The demo on two clusters, and the verbs that look at them.
pub(crate) fn operated() -> Result<(), String> {
    on_two(|env| by_name("catamaran-e2e", "contexts", None, env))
}

/// An instance goes to another version and back, under calls. The program of that version is built too.
pub(crate) fn upgraded() -> Result<(), String> {
    let (program, archive) = image::of_version(NEXT)?;
    on_two(|env| {
        let name = env
            .iter()
            .find_map(|(name, value)| (*name == "CATAMARAN_TEST_CONTEXT").then_some(*value));
        cluster::load(name.unwrap_or_default(), &[&archive])?;
        let image = format!("catamaran.dev/catamaran:{NEXT}");
        let next = [
            ("CATAMARAN_TEST_NEXT_BIN", utf8(&program)?),
            ("CATAMARAN_TEST_NEXT_IMAGE", image.as_str()),
        ];
        let env = [env, &next].concat();
        by_name("catamaran-e2e", "kubernetes", Some("upgrade"), &env)
    })
}

/// The version after this one, for upgrades.
const NEXT: &str = "0.2.0";

/// Two connected clusters with our images and nothing of ours, for tests by name.
fn on_two(tested: impl Fn(&[(&str, &str)]) -> Result<(), String>) -> Result<(), String> {
    machine::prepare_cluster()?;
    build()?;
    let archives = image::sample(None)?;
    let names = ["1", "2"].map(|n| format!("operate-{n}-{}", std::process::id()));
    let flags = [
        "--image",
        utf8(&archives.catamaran)?,
        "--image",
        utf8(&archives.curl)?,
    ];
    let outcome = (|| {
        let mut kubeconfigs = Vec::new();
        for name in &names {
            kubeconfigs.push(utf8(&cluster::up(name, &flags)?)?.to_owned());
        }
        cluster::connect(&names[0], &names[1])?;
        let (binary, kubectl) = (binary(), cluster::kubectl()?);
        let (contexts, kubeconfigs) = (names.join(","), kubeconfigs.join(":"));
        tested(&[
            ("CATAMARAN_BIN", utf8(&binary)?),
            ("CATAMARAN_KUBECTL", utf8(&kubectl)?),
            ("CATAMARAN_TEST_CONTEXT", &names[0]),
            ("CATAMARAN_TEST_CONTEXTS", &contexts),
            ("CATAMARAN_TEST_IMAGE", "catamaran.dev/catamaran:dev"),
            ("KUBECONFIG", &kubeconfigs),
        ])
    })();
    for name in &names {
        let folder = cluster::folder(name)?;
        cluster::down(name)?;
        if outcome.is_err() {
            eprintln!("what {name} wrote is in {}", folder.join("log").display());
        } else {
            std::fs::remove_dir_all(&folder)
                .map_err(|error| format!("{}: {error}", folder.display()))?;
        }
    }
    outcome
}

fn by_name(
    package: &str,
    test: &str,
    filter: Option<&str>,
    env: &[(&str, &str)],
) -> Result<(), String> {
    let mut args = vec!["test", "-p", package, "--test", test, "--locked", "--"];
    args.extend(["--test-threads", "1"]);
    args.extend(filter);
    cargo(&args, env)
}

/// The five steps on real clusters with nodes, and what is lost meanwhile.
pub(crate) fn five_steps(filter: Option<&str>) -> Result<(), String> {
    machine::prepare_cluster()?;
    machine::prepare_cluster_tests()?;
    build()?;
    let archives = image::sample(None)?;
    let archives = [image::pause()?, archives.curl, archives.catamaran];
    let archives = archives.each_ref().map(|path| utf8(path));
    let [pause, curl, catamaran] = archives;
    let images = [pause?, curl?, catamaran?].join(":");
    on_clusters("clusters", Some(&images), filter)
}

fn on_clusters<'a>(
    test: &'a str,
    images: Option<&'a str>,
    filter: impl IntoIterator<Item = &'a str>,
) -> Result<(), String> {
    let (program, binary) = (cluster::program()?, binary());
    let mut env = vec![
        ("CATAMARAN_BIN", utf8(&binary)?),
        ("CATAMARAN_CLUSTERS", utf8(&program)?),
    ];
    env.extend(images.map(|images| ("CATAMARAN_IMAGES", images)));
    let mut args = vec!["test", "-p", "catamaran-e2e", "--test", test];
    args.extend(["--locked", "--no-fail-fast", "--"]);
    args.extend(["--test-threads", "1", "--nocapture"]);
    args.extend(filter);
    cargo(&args, &env)
}

/// The end-to-end tests, on the binary as a user would have it.
pub(crate) fn end_to_end(filter: Option<&str>) -> Result<ExitCode, String> {
    machine::prepare(true)?;
    build()?;
    let mut args = vec![
        "test",
        "-p",
        "catamaran-e2e",
        "--test",
        "e2e",
        "--locked",
        "--no-fail-fast",
        "--",
    ];
    args.extend(["--test-threads", "1", "--nocapture"]);
    args.extend(filter);
    let binary = binary();
    let binary = binary
        .to_str()
        .ok_or("the target folder's path is not UTF-8")?;
    let envoy = envoy::ready()?;
    let envoy = envoy.to_str().ok_or("the path of Envoy is not UTF-8")?;
    cargo(
        &args,
        &[("CATAMARAN_BIN", binary), ("CATAMARAN_ENVOY", envoy)],
    )?;
    Ok(ExitCode::SUCCESS)
}

/// The same resources and bytes to a real Envoy and to our proxy.
fn differential(env: &[(&str, &str)]) -> Result<(), String> {
    build()?;
    let (binary, envoy) = (binary(), envoy::ready()?);
    let binary = binary
        .to_str()
        .ok_or("the target folder's path is not UTF-8")?;
    let envoy = envoy.to_str().ok_or("the path of Envoy is not UTF-8")?;
    let mut env = env.to_vec();
    env.extend([("CATAMARAN_BIN", binary), ("CATAMARAN_ENVOY", envoy)]);
    let args = [
        "test",
        "-p",
        "catamaran-judge",
        "--locked",
        "--no-fail-fast",
    ];
    cargo(&args, &env)
}

#[derive(Default)]
struct Report(Vec<(&'static str, Duration)>);

impl Report {
    fn step(
        &mut self,
        name: &'static str,
        run: impl FnOnce() -> Result<(), String>,
    ) -> Result<(), String> {
        println!("\n== {name}");
        let start = Instant::now();
        let outcome = run();
        self.0.push((name, start.elapsed()));
        outcome.map_err(|error| {
            self.print();
            format!("{name}: {error}")
        })
    }

    fn print(&self) {
        println!();
        for (name, time) in &self.0 {
            println!("{:>7.1} s  {name}", time.as_secs_f64());
        }
    }
}

pub(crate) fn cargo(args: &[&str], env: &[(&str, &str)]) -> Result<(), String> {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
    let status = Command::new(cargo)
        .args(args)
        .envs(env.iter().copied())
        .current_dir(root())
        .stdin(Stdio::null())
        .status()
        .map_err(|error| format!("cargo could not be started: {error}"))?;
    if status.success() {
        Ok(())
    } else {
        Err(format!("cargo {} failed ({status})", args.join(" ")))
    }
}

fn utf8(path: &Path) -> Result<&str, String> {
    path.to_str()
        .ok_or_else(|| format!("{} is not UTF-8", path.display()))
}

pub(crate) fn root() -> PathBuf {
    let here = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    here.parent().map_or(here.clone(), PathBuf::from)
}

pub(crate) fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}

pub(crate) fn binary() -> PathBuf {
    target().join("debug/catamaran")
}
