//! Real Kubernetes clusters for tests: builds the program of `clusters/` and calls it with folders of the target folder.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

use crate::{image, machine, steps};

/// Kubernetes of this version is what `clusters/go.mod` asks for; its parts tell it to whoever asks them.
const KUBERNETES: &str = "1.34.4";

/// The oldest Go that builds it.
const GO: (u32, u32) = (1, 24);

const HELP: &str = "\
Usage: cargo xtask cluster COMMAND

  up NAME [--only api] [--pod-range R] [--service-range R] [--audit] [--image ARCHIVE]..
                     start a Kubernetes cluster and print the path of its kubeconfig, target/clusters/NAME/kubeconfig; --only api needs no root
  down NAME          end it; nothing of it stays on the machine but target/clusters/NAME/log
  list               the machine's clusters that have a node
  connect A B [--flat]   let the nodes of two clusters reach each other; with --flat their pods too
  cut A B [--one-way]    end that, for open connections too
  load NAME [ARCHIVE..]  give it images; those of `cargo xtask image` when none is named
  signal NAME PART SIG   stop (STOP, CONT) or kill (KILL) one part, as kube-apiserver; a killed part is started again
  shell NAME [COMMAND..] run a command in the network, mounts and processes of its node
  kubectl NAME ARGS..    kubectl of the cluster's version, as its administrator
  build              build the program only, which takes minutes the first time
  test               all of the following
  test clusters      a cluster starts, runs the sample, answers exec and service names, meets another one, and leaves nothing
  test api           rooms and control planes on API servers: discovery, credentials, certificates by TokenReview, API servers that hang,
                     replicas and leases
  test install       an installation comes, may do what it needs and no more, and goes without a trace
  test operate       the demo on two clusters, and each verb that looks at them
  test tokens        a renewed token outlives the control plane that renewed it; twelve minutes, as the shortest token lives ten
  test upgrade       an instance goes to another version and back under calls; builds the program twice
  test five-steps [FILTER]
                     the five steps on two clusters, two networks and flat; control planes, API server and link are lost under load
";

pub(crate) fn run(args: &[&str]) -> Result<ExitCode, String> {
    match args {
        ["up", name, flags @ ..] if !name.starts_with('-') => up(name, flags).map(|kubeconfig| {
            println!("{}", kubeconfig.display());
            ExitCode::SUCCESS
        }),
        ["down", name] => down(name).map(|()| ExitCode::SUCCESS),
        ["list"] => call(&["list"]),
        [verb @ ("connect" | "cut"), a, b, flags @ ..] => {
            let (a, b) = (folder(a)?, folder(b)?);
            let mut line = vec![*verb, utf8(&a)?, utf8(&b)?];
            line.extend(flags);
            call(&line)
        }
        ["load", name] => {
            let archives = image::sample(None)?;
            load(name, &[&archives.curl, &archives.catamaran])?;
            Ok(ExitCode::SUCCESS)
        }
        ["load", name, archives @ ..] => {
            let archives: Vec<&Path> = archives.iter().map(Path::new).collect();
            load(name, &archives)?;
            Ok(ExitCode::SUCCESS)
        }
        ["signal", name, part, signal] => {
            let folder = folder(name)?;
            call(&["signal", utf8(&folder)?, part, signal])
        }
        ["shell", name, command @ ..] => {
            let folder = folder(name)?;
            let mut line = vec!["shell", utf8(&folder)?];
            line.extend(command);
            call(&line)
        }
        ["kubectl", name, args @ ..] => {
            let kubeconfig = folder(name)?.join("kubeconfig");
            let mut line = vec!["kubectl", "--kubeconfig", utf8(&kubeconfig)?];
            line.extend(args);
            call(&line)
        }
        ["build"] => program().map(|path| {
            println!("{}", path.display());
            ExitCode::SUCCESS
        }),
        ["test"] => {
            crate::cluster_test::run()?;
            steps::api_servers()?;
            steps::installed()?;
            steps::operated()?;
            steps::tokens()?;
            steps::upgraded()?;
            steps::five_steps(None).map(|()| ExitCode::SUCCESS)
        }
        ["test", "clusters"] => crate::cluster_test::run().map(|()| ExitCode::SUCCESS),
        ["test", "api"] => steps::api_servers().map(|()| ExitCode::SUCCESS),
        ["test", "install"] => steps::installed().map(|()| ExitCode::SUCCESS),
        ["test", "operate"] => steps::operated().map(|()| ExitCode::SUCCESS),
        ["test", "tokens"] => steps::tokens().map(|()| ExitCode::SUCCESS),
        ["test", "upgrade"] => steps::upgraded().map(|()| ExitCode::SUCCESS),
        ["test", "five-steps"] => steps::five_steps(None).map(|()| ExitCode::SUCCESS),
        ["test", "five-steps", filter] => {
            steps::five_steps(Some(filter)).map(|()| ExitCode::SUCCESS)
        }
        _ => {
            eprint!("{HELP}");
            Ok(ExitCode::from(2))
        }
    }
}

/// Starts a cluster; the path of its kubeconfig.
pub(crate) fn up(name: &str, flags: &[&str]) -> Result<PathBuf, String> {
    let folder = folder(name)?;
    let mut line = vec!["up", utf8(&folder)?];
    line.extend(flags);
    let pause;
    if !flags.contains(&"--help") && !flags.windows(2).any(|pair| pair == ["--only", "api"]) {
        machine::prepare_cluster()?;
        pause = image::pause()?;
        line.extend(["--image", utf8(&pause)?]);
    }
    output(&line).map(|_| folder.join("kubeconfig"))
}

/// Ends a cluster. One that does not exist has ended.
pub(crate) fn down(name: &str) -> Result<(), String> {
    let folder = folder(name)?;
    output(&["down", utf8(&folder)?]).map(drop)
}

/// Lets the nodes of two clusters reach each other.
pub(crate) fn connect(a: &str, b: &str) -> Result<(), String> {
    let (a, b) = (folder(a)?, folder(b)?);
    output(&["connect", utf8(&a)?, utf8(&b)?]).map(drop)
}

/// Gives a cluster's node images.
pub(crate) fn load(name: &str, archives: &[&Path]) -> Result<(), String> {
    let folder = folder(name)?;
    let mut line = vec!["load", utf8(&folder)?];
    for archive in archives {
        line.push(utf8(archive)?);
    }
    output(&line).map(drop)
}

/// The folder of a cluster's state.
pub(crate) fn folder(name: &str) -> Result<PathBuf, String> {
    if name == "bin" || name.contains('/') || name.starts_with(['-', '.']) {
        return Err(format!("a cluster cannot be called {name:?}"));
    }
    let target = std::path::absolute(steps::target())
        .map_err(|error| format!("{}: {error}", steps::target().display()))?;
    Ok(target.join("clusters").join(name))
}

/// Calls the program and shows what it says.
fn call(args: &[&str]) -> Result<ExitCode, String> {
    let program = program()?;
    let status = Command::new(&program)
        .args(args)
        .status()
        .map_err(|error| format!("{} could not be started: {error}", program.display()))?;
    Ok(ExitCode::from(status.code().unwrap_or(1) as u8))
}

/// Calls the program; what it printed, or its error. What it says of its progress is shown.
pub(crate) fn output(args: &[&str]) -> Result<String, String> {
    let program = program()?;
    let said = Command::new(&program)
        .args(args)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| format!("{} could not be started: {error}", program.display()))?;
    if !said.status.success() {
        return Err(format!(
            "clusters {} failed ({})",
            args.join(" "),
            said.status
        ));
    }
    String::from_utf8(said.stdout).map_err(|error| format!("clusters said no text: {error}"))
}

/// Calls the program for what it must refuse; its reason.
pub(crate) fn refusal(args: &[&str]) -> Result<String, String> {
    let program = program()?;
    let said = Command::new(&program)
        .args(args)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("{} could not be started: {error}", program.display()))?;
    match said.status.success() {
        true => Err(format!("clusters {} was not refused", args.join(" "))),
        false => Ok(String::from_utf8_lossy(&said.stderr).into_owned()),
    }
}

/// Whether the program is there or can be built, said before anything else takes its time.
pub(crate) fn can_build() -> Result<(), String> {
    match home()?.join("clusters").is_file() {
        true => Ok(()),
        false => check_go(),
    }
}

/// Where the programs of what `clusters/` holds now are, or will be.
fn home() -> Result<PathBuf, String> {
    let bin = folder("x")?.with_file_name("bin");
    Ok(bin.join(content(&steps::root().join("clusters"))?))
}

/// The program, built if `clusters/` has changed since.
pub(crate) fn program() -> Result<PathBuf, String> {
    let built = built()?;
    Ok(built.join("clusters"))
}

/// The first process of pods, built with it.
pub(crate) fn pause_program() -> Result<PathBuf, String> {
    let built = built()?;
    Ok(built.join("pause"))
}

/// kubectl of the clusters' version, in the same program.
pub(crate) fn kubectl() -> Result<PathBuf, String> {
    let built = built()?;
    Ok(built.join("kubectl"))
}

/// The folder of the built programs, named by the content of what they are built from.
fn built() -> Result<PathBuf, String> {
    let source = steps::root().join("clusters");
    let home = home()?;
    let bin = home.with_file_name("");
    if home.join("clusters").is_file() && home.join("pause").is_file() {
        return Ok(home);
    }
    check_go()?;
    println!(
        "building Kubernetes {KUBERNETES} for test clusters, which takes minutes the first time"
    );
    let start = Instant::now();
    let partial = bin.join(format!(".{}", std::process::id()));
    std::fs::create_dir_all(&partial).map_err(|error| format!("{}: {error}", partial.display()))?;
    let minor = KUBERNETES.split('.').nth(1).unwrap_or_default();
    let mut flags = "-s -w".to_owned();
    for package in [
        "k8s.io/component-base/version",
        "k8s.io/client-go/pkg/version",
    ] {
        for (name, value) in [
            ("gitVersion", format!("v{KUBERNETES}")),
            ("gitMajor", "1".into()),
            ("gitMinor", minor.to_owned()),
            ("gitTreeState", "clean".into()),
        ] {
            flags += &format!(" -X {package}.{name}={value}");
        }
    }
    for (package, name) in [(".", "clusters"), ("./pause", "pause")] {
        let status = Command::new("go")
            .args(["build", "-trimpath", "-ldflags", &flags, "-o"])
            .arg(partial.join(name))
            .arg(package)
            .current_dir(&source)
            .env("CGO_ENABLED", "0")
            .env("GOFLAGS", "-mod=mod -buildvcs=false")
            .stdin(Stdio::null())
            .status()
            .map_err(|error| format!("go could not be started: {error}"))?;
        if !status.success() {
            let _ = std::fs::remove_dir_all(&partial);
            return Err(format!("go build of {name} in clusters/ failed ({status})"));
        }
    }
    let kubectl = partial.join("kubectl");
    std::os::unix::fs::symlink("clusters", &kubectl)
        .map_err(|error| format!("{}: {error}", kubectl.display()))?;
    // What another process has built meanwhile is the same.
    if std::fs::rename(&partial, &home).is_err() {
        let _ = std::fs::remove_dir_all(&partial);
    }
    if !home.join("clusters").is_file() {
        return Err(format!("{} could not be filled", home.display()));
    }
    forget_others(&bin, &home);
    println!("built in {:.0} s", start.elapsed().as_secs_f64());
    Ok(home)
}

/// Each build is large, and the next change makes another. One that a cluster runs from stays: its parts may be started again.
fn forget_others(bin: &Path, but: &Path) {
    let running: Vec<PathBuf> = std::fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| std::fs::read_link(entry.path().join("exe")).ok())
        .collect();
    for entry in std::fs::read_dir(bin).into_iter().flatten().flatten() {
        let hidden = entry.file_name().to_string_lossy().starts_with('.');
        let used = running.iter().any(|exe| exe.starts_with(entry.path()));
        if entry.path() != but && !hidden && !used {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

/// A name for what is in the folder's Go files, modules and sums; the same whatever else changes.
fn content(source: &Path) -> Result<String, String> {
    let mut files = Vec::new();
    let mut folders = vec![source.to_path_buf()];
    while let Some(folder) = folders.pop() {
        let entries =
            std::fs::read_dir(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        for entry in entries.flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if path
                .extension()
                .is_some_and(|ending| ["go", "mod", "sum"].iter().any(|one| ending == *one))
            {
                files.push(path);
            }
        }
    }
    files.sort();
    let mut all = KUBERNETES.as_bytes().to_vec();
    for file in &files {
        let text = std::fs::read(file).map_err(|error| format!("{}: {error}", file.display()))?;
        all.extend(
            file.strip_prefix(source)
                .unwrap_or(file)
                .as_os_str()
                .as_encoded_bytes(),
        );
        all.push(0);
        all.extend(text.len().to_le_bytes());
        all.extend(text);
    }
    Ok(format!("{:016x}", fnv(&all)))
}

/// FNV-1a of 64 bits: it tells our own versions apart, no more is asked of it, and it is the same with every compiler.
fn fnv(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// Debian 12's own Go is too old, so it is not installed: that would only move the failure.
fn check_go() -> Result<(), String> {
    let wanted = format!(
        "the test clusters are built with Go {}.{} or newer, from https://go.dev/dl or a newer distribution",
        GO.0, GO.1
    );
    let said = Command::new("go")
        .args(["env", "GOVERSION"])
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("go could not be started ({error}); {wanted}"))?;
    let version = String::from_utf8_lossy(&said.stdout);
    match go_version(version.trim()) {
        Some(found) if found >= GO => Ok(()),
        _ => Err(format!("this machine has {}; {wanted}", version.trim())),
    }
}

fn go_version(said: &str) -> Option<(u32, u32)> {
    let mut numbers = said.strip_prefix("go")?.split('.');
    let minor = |text: &str| {
        let end = text.find(|c: char| !c.is_ascii_digit());
        text[..end.unwrap_or(text.len())].parse().ok()
    };
    Some((numbers.next()?.parse().ok()?, minor(numbers.next()?)?))
}

fn utf8(path: &Path) -> Result<&str, String> {
    path.to_str()
        .ok_or_else(|| format!("{} is not UTF-8", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_go_compare() {
        assert_eq!(go_version("go1.26.8"), Some((1, 26)));
        assert_eq!(go_version("go1.25rc1"), Some((1, 25)));
        assert_eq!(go_version("devel"), None);
        assert!(go_version("go1.19.8").is_some_and(|found| found < GO));
    }

    #[test]
    fn the_modules_ask_for_the_version_the_parts_tell() {
        let modules = include_str!("../../clusters/go.mod");
        assert!(modules.contains(&format!("k8s.io/kubernetes v{KUBERNETES}\n")));
        let (_, staging) = KUBERNETES.split_once('.').unwrap();
        assert!(modules.contains(&format!(
            "k8s.io/client-go => k8s.io/client-go v0.{staging}\n"
        )));
    }

    #[test]
    fn a_change_of_a_file_is_another_build() {
        let folder = std::env::temp_dir().join(format!("content-{}", std::process::id()));
        std::fs::create_dir_all(folder.join("pause")).unwrap();
        std::fs::write(folder.join("pause/main.go"), "package main\n").unwrap();
        std::fs::write(folder.join("README.md"), "one").unwrap();
        let before = content(&folder).unwrap();
        std::fs::write(folder.join("README.md"), "two").unwrap();
        assert_eq!(content(&folder).unwrap(), before);
        std::fs::write(folder.join("pause/main.go"), "package main \n").unwrap();
        assert_ne!(content(&folder).unwrap(), before);
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
