//! Holds the table of ARCHITECTURE.md against what the crates really depend on, and the cores against their ban on IO.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

const CORES: [&str; 8] = [
    "model",
    "wire",
    "identity",
    "policy",
    "registry",
    "xds",
    "translate",
    "decide",
];

/// What a core may link: values, encodings and cryptography, nothing that does IO. `wire` may have the stubs' crates as
/// optional dependencies.
const CORE_CRATES: [&str; 13] = [
    "arc-swap",
    "aws-lc-rs",
    "blake3",
    "bytes",
    "prost",
    "rcgen",
    "rustls",
    "rustls-pki-types",
    "rustls-webpki",
    "thiserror",
    "time",
    "x509-parser",
    "zeroize",
];

/// Words that mean a clock, randomness, the environment, files, sockets or tasks.
const BANNED: [&str; 10] = [
    "SystemTime::now",
    "Instant::now",
    "std::env::",
    "std::fs::",
    "tokio::",
    "TcpStream",
    "TcpListener",
    "UdpSocket",
    "std::thread",
    "std::process",
];

/// Rooms of the workshop: nobody depends on them, and they may use everything.
const WORKSHOP: [&str; 5] = ["xtask", "e2e", "judge", "hostile", "bench"];

/// Maps whose order differs from run to run, and the rooms that only look things up in them (the hot path).
const ORDERLESS: [&str; 2] = ["HashMap<", "HashSet<"];
const HASHED: [&str; 1] = ["decide"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap()
        .to_path_buf()
}

fn table() -> BTreeMap<String, BTreeSet<String>> {
    let map = std::fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let rows = map.lines().filter(|line| line.starts_with("| `"));
    let all: Vec<Vec<&str>> = rows
        .map(|row| {
            row.trim_matches('|')
                .split('|')
                .map(str::trim)
                .collect::<Vec<_>>()
        })
        .filter(|cells| cells.len() == 3)
        .collect();
    let names: BTreeSet<String> = all
        .iter()
        .map(|cells| cells[0].trim_matches('`').to_string())
        .collect();
    all.iter()
        .map(|cells| {
            let name = cells[0].trim_matches('`').to_string();
            let may = match cells[2] {
                "-" => BTreeSet::new(),
                "everything" => names.clone(),
                some => some.split(", ").map(str::to_string).collect(),
            };
            (name, may)
        })
        .collect()
}

struct Dependency {
    name: String,
    dev: bool,
    optional: bool,
}

fn packages() -> BTreeMap<String, Vec<Dependency>> {
    let output = Command::new(env!("CARGO"))
        .args([
            "metadata",
            "--format-version",
            "1",
            "--no-deps",
            "--offline",
        ])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let room = |package: &serde_json::Value| {
        let manifest = PathBuf::from(package["manifest_path"].as_str().unwrap());
        manifest
            .parent()
            .unwrap()
            .file_name()
            .unwrap()
            .to_str()
            .unwrap()
            .to_string()
    };
    metadata["packages"]
        .as_array()
        .unwrap()
        .iter()
        .map(|package| {
            let dependencies = package["dependencies"].as_array().unwrap();
            let dependencies = dependencies.iter().map(|dependency| Dependency {
                name: dependency["name"].as_str().unwrap().to_string(),
                dev: dependency["kind"] == "dev",
                optional: dependency["optional"] == true,
            });
            (room(package), dependencies.collect())
        })
        .collect()
}

#[test]
fn every_room_depends_only_on_what_the_map_allows() {
    let table = table();
    let packages = packages();
    let mut faults = Vec::new();
    for (room, dependencies) in packages
        .iter()
        .filter(|(room, _)| !WORKSHOP.contains(&room.as_str()))
    {
        let Some(may) = table.get(room) else {
            faults.push(format!("{room} is not on the map"));
            continue;
        };
        for dependency in dependencies.iter().filter(|dependency| !dependency.dev) {
            let Some(other) = dependency.name.strip_prefix("catamaran-") else {
                continue;
            };
            if !may.contains(other) {
                faults.push(format!(
                    "{room} depends on {other}, which the map does not allow"
                ));
            }
        }
    }
    for room in table.keys().filter(|room| !packages.contains_key(*room)) {
        faults.push(format!("the map has a room {room} that does not exist"));
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// Kubernetes' types stay in one room, so that a new major of them touches one room. The workshop's bench, which fills API servers with
/// what others would write, is none of the product's.
const KUBERNETES_CRATES: [&str; 3] = ["kube", "k8s-openapi", "schemars"];

#[test]
fn only_one_room_knows_kubernetes_types() {
    for (room, dependencies) in packages() {
        for dependency in dependencies {
            let knows = KUBERNETES_CRATES.contains(&dependency.name.as_str());
            assert!(
                !knows || room == "kubernetes" || room == "bench",
                "{room} depends on {}",
                dependency.name
            );
        }
    }
}

#[test]
fn the_map_has_no_circles() {
    let table = table();
    let mut done: BTreeSet<&str> = BTreeSet::new();
    while done.len() < table.len() {
        let next = table.iter().find(|(room, may)| {
            !done.contains(room.as_str())
                && may
                    .iter()
                    .all(|other| other == *room || done.contains(other.as_str()))
        });
        match next {
            Some((room, _)) => done.insert(room),
            None => panic!(
                "these rooms are in a circle: {:?}",
                table.keys().filter(|room| !done.contains(room.as_str()))
            ),
        };
    }
}

#[test]
fn cores_link_nothing_that_does_io() {
    let packages = packages();
    for room in CORES {
        for dependency in packages[room].iter().filter(|dependency| !dependency.dev) {
            let ours = dependency.name.starts_with("catamaran-");
            let allowed = CORE_CRATES.contains(&dependency.name.as_str())
                || (room == "wire" && dependency.optional);
            assert!(ours || allowed, "{room} depends on {}", dependency.name);
        }
    }
}

#[test]
fn cores_have_no_clock_no_files_no_tasks() {
    let mut faults = Vec::new();
    for room in CORES {
        for file in sources(&root().join("crates").join(room).join("src")) {
            let name = file.strip_prefix(root()).unwrap().display().to_string();
            let is_test = name.ends_with("tests.rs") || name.contains("/tests/");
            if is_test || name.starts_with("crates/wire/src/grpc") {
                continue;
            }
            let text = std::fs::read_to_string(&file).unwrap();
            for (number, line) in text.lines().enumerate() {
                let code = line.split("//").next().unwrap_or("");
                let hashed = HASHED.contains(&room);
                let banned = BANNED.iter().chain(ORDERLESS.iter().filter(|_| !hashed));
                for word in banned.filter(|word| code.contains(**word)) {
                    faults.push(format!("{name}:{}: {word}", number + 1));
                }
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files.sort();
    files
}
