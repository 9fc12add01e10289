//! The main job, as its two kinds of users run it.

use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use catamaran_e2e::{Fleet, namespaces_of, processes_that_name};
use serde_json::Value;

/// Debian's user `nobody`.
const NOBODY: u32 = 65534;

fn report(output: &Output) -> Value {
    let text = String::from_utf8_lossy(&output.stdout);
    serde_json::from_str(&text).unwrap_or_else(|error| {
        panic!(
            "no JSON report ({error}):\n{text}\n{}",
            String::from_utf8_lossy(&output.stderr)
        )
    })
}

fn assert_held(output: &Output) -> Value {
    let report = report(output);
    assert_eq!(
        output.status.code(),
        Some(0),
        "{report:#}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert_eq!(report["held"], Value::Bool(true), "{report:#}");
    for cluster in ["cluster-1", "cluster-2"] {
        for version in ["v1", "v2"] {
            let count = report["tally"][cluster][version].as_u64().unwrap_or(0);
            assert!(count > 0, "no answer of {version} in {cluster}: {report:#}");
        }
    }
    for loss in ["control_plane", "cluster"] {
        let loss = &report["losses"][loss];
        assert!(loss["sent"].as_u64() > Some(0), "{report:#}");
        assert_eq!(loss["failed"].as_u64(), Some(0), "{report:#}");
    }
    report
}

fn demo(fleet: &Fleet, args: &[&str]) -> Command {
    let mut command = Command::new(catamaran_e2e::binary());
    command
        .args(["demo", "--once", "-o", "json", "--dir"])
        .arg(fleet.dir())
        .args(args)
        .env("NO_COLOR", "1")
        .stdin(Stdio::null());
    command
}

fn assert_nothing_is_left(fleet: &Fleet, report: &Value) {
    let dir = fleet.dir().to_str().unwrap();
    assert_eq!(processes_that_name(dir), [], "processes are left");
    let id = report["fleet"]["id"]
        .as_str()
        .expect("the report names the fleet's id");
    assert_eq!(namespaces_of(id), [] as [String; 0], "namespaces are left");
}

#[test]
fn root_sees_the_five_steps_in_network_namespaces() {
    let fleet = Fleet::empty();
    let report = assert_held(&demo(&fleet, &["--isolation", "netns"]).output().unwrap());
    assert!(
        report["gateway_calls"].as_u64() > Some(0),
        "no call crossed a gateway: {report:#}"
    );
    assert_nothing_is_left(&fleet, &report);
}

#[test]
fn an_ordinary_user_sees_them_as_processes() {
    let fleet = Fleet::empty();
    std::os::unix::fs::chown(fleet.dir(), Some(NOBODY), Some(NOBODY)).unwrap();
    std::fs::set_permissions(fleet.dir(), std::fs::Permissions::from_mode(0o700)).unwrap();
    let binary = fleet.dir().join("catamaran");
    std::fs::copy(catamaran_e2e::binary(), &binary).unwrap();
    let output = Command::new(&binary)
        .args(["demo", "--once", "-o", "json", "--dir"])
        .arg(fleet.dir().join("fleet"))
        .env_clear()
        .env("PATH", "/usr/local/bin:/usr/bin:/bin")
        .env("HOME", fleet.dir())
        .current_dir(fleet.dir())
        .uid(NOBODY)
        .gid(NOBODY)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let report = assert_held(&output);
    assert_eq!(report["fleet"]["isolation"], "process", "{report:#}");
    assert!(
        report["gateway_calls"].as_u64() > Some(0),
        "no call crossed a gateway: {report:#}"
    );
    assert_nothing_is_left(&fleet, &report);
}

#[test]
fn one_flat_network_needs_no_gateway() {
    let fleet = Fleet::empty();
    let report = assert_held(&demo(&fleet, &["--network", "flat"]).output().unwrap());
    assert_eq!(report["gateway_calls"].as_u64(), Some(0), "{report:#}");
    assert_nothing_is_left(&fleet, &report);
}

/// Ctrl-C in the middle of a step, at any moment, leaves nothing of what was being started.
#[test]
fn an_interrupted_demo_leaves_nothing_behind() {
    for after in [150, 400, 900, 1_800, 3_500] {
        let fleet = Fleet::empty();
        let mut child = demo(&fleet, &[])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // The moment is what the test is about; whatever the demo is doing then must be undone.
        let waited = Instant::now();
        while waited.elapsed() < Duration::from_millis(after) {
            std::thread::park_timeout(Duration::from_millis(10));
        }
        let pid = child.id().to_string();
        let sent = Command::new("kill").args(["-INT", &pid]).status().unwrap();
        assert!(sent.success());
        let mut text = String::new();
        child
            .stdout
            .take()
            .unwrap()
            .read_to_string(&mut text)
            .unwrap();
        let code = child.wait().unwrap().code();
        if code.is_none() {
            // It had not begun to listen for signals, nor to do anything.
            assert!(after < 400, "ended by the signal itself after {after} ms");
            continue;
        }
        assert_eq!(code, Some(130), "interrupted after {after} ms: {text}");
        let report: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(report["held"], false);
        let dir = fleet.dir().to_str().unwrap();
        assert_eq!(
            processes_that_name(dir),
            [],
            "processes are left, after {after} ms"
        );
        assert_eq!(fleet.namespaces(), [] as [String; 0], "after {after} ms");
    }
}

/// A demo that finds a fleet in its folder leaves it alone.
#[test]
fn a_fleet_that_is_there_is_not_played_in() {
    let fleet = Fleet::empty();
    fleet
        .say("cluster create cluster-9 --isolation process")
        .ok();
    let output = demo(&fleet, &[]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{said}");
    assert!(said.contains("is a fleet already"), "{said}");
    let clusters = fleet.dir().join("clusters");
    let names: Vec<_> = std::fs::read_dir(clusters)
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(names, ["cluster-9"]);
}
