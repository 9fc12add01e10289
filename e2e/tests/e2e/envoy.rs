//! A real Envoy in the place of each of our proxies, on the resources that they get. `CATAMARAN_ENVOY` names it.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use catamaran_e2e::Fleet;
use serde_json::Value;

use crate::by_hand::{SLEEP_LOOP, both_versions_answer, call, manifest, two_clusters, versions};

const SOON: Duration = Duration::from_secs(60);
const PROXY: &str = "istio-proxy";
const ENVOY: &str = "envoy-proxy";

/// Every pair of our proxy and an Envoy, directly and through gateways of both kinds, told in both ways. One fleet for all of
/// it, since what a fleet takes to start is what such a test takes.
#[test]
fn an_envoy_takes_the_place_of_any_proxy() {
    assert!(
        std::env::var_os("CATAMARAN_ENVOY").is_some(),
        "CATAMARAN_ENVOY names the Envoy to test with; run `cargo xtask test`"
    );
    let fleet = two_clusters("netns");

    // The caller in cluster-1 is an Envoy; its peers, both gateways and the caller in cluster-2 are ours.
    apply(&fleet, "cluster-1", "cluster-1.yaml", &[("sleep", "delta")]);
    apply(&fleet, "cluster-2", "sleep-cluster-2.yaml", &[]);
    carried_by_envoy(&fleet, "cluster-1", "sleep");
    the_five_steps_hold(&fleet);
    assert!(requests_of(&fleet, "outbound_0.0.0.0_5000") > 0);

    // Both services are Envoys, so cluster-2's caller speaks to them with ours.
    let both = [("sleep", "delta"), ("helloworld", "sotw")];
    apply(&fleet, "cluster-1", "cluster-1.yaml", &both);
    apply(
        &fleet,
        "cluster-2",
        "cluster-2.yaml",
        &[("helloworld", "delta")],
    );
    carried_by_envoy(&fleet, "cluster-1", "helloworld");
    carried_by_envoy(&fleet, "cluster-2", "helloworld");
    the_five_steps_hold(&fleet);

    // So are the gateways.
    for (cluster, how) in [("cluster-1", "sotw"), ("cluster-2", "delta")] {
        let object = fleet.dir().join(format!(
            "clusters/{cluster}/objects/catamaran-system/cluster-{cluster}.yaml"
        ));
        let text = std::fs::read_to_string(&object).unwrap();
        let name = format!("  name: {cluster}\n");
        assert!(text.contains(&name), "{text}");
        let annotated = text.replace(&name, &format!("{name}  annotations: {}\n", wish(how)));
        apply_text(&fleet, cluster, &annotated);
        carried_by_envoy(&fleet, cluster, "eastwest-gateway");
    }
    // Setting networks anew leaves the wish alone.
    fleet
        .say("network set --mesh mesh-1 cluster-1=network1,gateway cluster-2=network2")
        .ok();
    carried_by_envoy(&fleet, "cluster-1", "eastwest-gateway");
    the_five_steps_hold(&fleet);

    renewed_certificates_cost_nothing(&fleet);
    an_agent_that_dies_costs_nothing(&fleet);
    a_roll_out_from_envoy_to_envoy_costs_nothing(&fleet);
    what_cannot_be_had_is_said(&fleet);
}

/// Both versions answer both callers, each request of a plain curl is carried, and all is well.
fn the_five_steps_hold(fleet: &Fleet) {
    for cluster in ["cluster-1", "cluster-2"] {
        both_versions_answer(fleet, cluster);
        let counts = versions(&call(fleet, cluster, SLEEP_LOOP).ok());
        assert_eq!(counts.values().sum::<usize>(), 10, "{counts:?}");
        assert_eq!(counts.len(), 2, "{counts:?} from {cluster}");
    }
    fleet.until(SOON, "check", |said| (said.code == 0).then_some(()));
}

/// Every agent hands a new certificate to its Envoy, which carries calls all the while.
fn renewed_certificates_cost_nothing(fleet: &Fleet) {
    let before = serial_in_use(fleet);
    let load = load(fleet, "4s");
    for (cluster, app) in [
        ("cluster-1", "sleep"),
        ("cluster-1", "helloworld"),
        ("cluster-2", "helloworld"),
    ] {
        let (folder, _) = pod(fleet, cluster, app);
        // From its folder, since the whole path may be too long for a socket.
        let asked = Command::new("curl")
            .args([
                "-s",
                "-X",
                "POST",
                "--unix-socket",
                "admin.sock",
                "http://agent/renew",
            ])
            .current_dir(folder.join("proxy"))
            .output()
            .unwrap();
        assert!(asked.status.success(), "{asked:?}");
    }
    assert_all_answered(load);
    let after = fleet.until(SOON, "status", |_| {
        Some(serial_in_use(fleet)).filter(|serial| *serial != before)
    });
    let (_, record) = pod(fleet, "cluster-1", "sleep");
    let pod = record["name"].as_str().unwrap();
    let held = fleet
        .say(&format!("proxy config cluster-1/default/{pod} certs"))
        .ok()
        .json();
    let held = held["chain"][0]["serial"].as_str().unwrap();
    assert_eq!(after, held.trim_start_matches('0'), "that of its agent");
}

/// Envoys go on without their agents, and their pods are called on.
fn an_agent_that_dies_costs_nothing(fleet: &Fleet) {
    let load = load(fleet, "3s");
    for cluster in ["cluster-1", "cluster-2"] {
        let (_, record) = pod(fleet, cluster, "helloworld");
        let agent = container(&record, PROXY)["process"]["pid"].as_i64();
        let agent = nix::unistd::Pid::from_raw(agent.expect("the agent runs") as i32);
        nix::sys::signal::kill(agent, nix::sys::signal::Signal::SIGKILL).unwrap();
    }
    assert_all_answered(load);
    let record = fleet.until(SOON, "status", |_| {
        let (_, record) = pod(fleet, "cluster-1", "helloworld");
        (container(&record, PROXY)["restarts"] == 1).then_some(record)
    });
    assert_eq!(container(&record, ENVOY)["restarts"], 0, "{record:#}");
}

/// The Envoy that leaves is drained, the one that comes is called once it is ready.
fn a_roll_out_from_envoy_to_envoy_costs_nothing(fleet: &Fleet) {
    let load = load(fleet, "6s");
    let (_, before) = pod(fleet, "cluster-1", "helloworld");
    let both = [("sleep", "delta"), ("helloworld", "delta")];
    apply(fleet, "cluster-1", "cluster-1.yaml", &both);
    carried_by_envoy(fleet, "cluster-1", "helloworld");
    let (_, after) = pod(fleet, "cluster-1", "helloworld");
    assert_ne!(before["name"], after["name"]);
    assert_all_answered(load);
}

fn what_cannot_be_had_is_said(fleet: &Fleet) {
    apply(
        fleet,
        "cluster-2",
        "sleep-cluster-2.yaml",
        &[("sleep", "tea")],
    );
    let why = "the annotation catamaran.dev/envoy-xds is \\\"tea\\\"; it may be delta or sotw";
    fleet.until(SOON, "status -o json", |said| {
        said.out.contains(why).then_some(())
    });
    // The pod before serves on.
    both_versions_answer(fleet, "cluster-2");
}

fn wish(how: &str) -> String {
    format!("{{catamaran.dev/proxy: envoy, catamaran.dev/envoy-xds: {how}}}")
}

/// Applies a manifest of the five steps; pods of the named apps ask for an Envoy.
fn apply(fleet: &Fleet, cluster: &str, name: &str, envoys: &[(&str, &str)]) {
    let text = std::fs::read_to_string(manifest(name)).unwrap();
    let lines = text.lines().map(|line| {
        let of = |app: &str| {
            line.starts_with(&format!("    metadata: {{labels: {{app: {app}"))
                && line.ends_with("}}")
        };
        match envoys.iter().find(|(app, _)| of(app)) {
            None => line.to_owned(),
            Some((_, how)) => {
                let open = line.strip_suffix('}').unwrap();
                format!("{open}, annotations: {}}}", wish(how))
            }
        }
    });
    let text = lines.collect::<Vec<_>>().join("\n");
    let wishes = text.matches("catamaran.dev/proxy").count();
    assert_eq!(wishes, envoys.len(), "{text}");
    apply_text(fleet, cluster, &text);
}

fn apply_text(fleet: &Fleet, cluster: &str, text: &str) {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    let path = file.path().display();
    fleet
        .say(&format!("apply -f {path} --cluster {cluster}"))
        .ok();
}

/// Waits until the app has one pod, and an Envoy carries its connections.
fn carried_by_envoy(fleet: &Fleet, cluster: &str, app: &str) {
    fleet.until(SOON, "status", |_| {
        let [(_, record)] = &pods(fleet, cluster, app)[..] else {
            return None;
        };
        let envoy = record["containers"]
            .as_array()?
            .iter()
            .any(|one| one["name"] == ENVOY && one["process"].is_object());
        (envoy && record["ready"] == true).then_some(())
    });
}

/// The app's only pod: its folder, and what its node remembers of it.
fn pod(fleet: &Fleet, cluster: &str, app: &str) -> (PathBuf, Value) {
    let mut all = pods(fleet, cluster, app);
    assert_eq!(all.len(), 1, "{all:?}");
    all.remove(0)
}

fn pods(fleet: &Fleet, cluster: &str, app: &str) -> Vec<(PathBuf, Value)> {
    let run = fleet.dir().join(format!("clusters/{cluster}/run/pods"));
    let of = |namespace: &str| -> Vec<(PathBuf, Value)> {
        let folders = std::fs::read_dir(run.join(namespace));
        let folders = folders.into_iter().flatten().flatten();
        folders.filter_map(|entry| read(&entry.path())).collect()
    };
    let mut all = of("default");
    all.extend(of("catamaran-system"));
    let named = |record: &Value| record["name"].as_str().is_some_and(|n| n.starts_with(app));
    all.retain(|(_, record)| named(record));
    all
}

fn read(folder: &Path) -> Option<(PathBuf, Value)> {
    let text = std::fs::read(folder.join("pod.json")).ok()?;
    Some((folder.to_owned(), serde_json::from_slice(&text).ok()?))
}

fn container<'a>(record: &'a Value, name: &str) -> &'a Value {
    let mut containers = record["containers"].as_array().unwrap().iter();
    let found = containers.find(|container| container["name"] == name);
    found.unwrap_or_else(|| panic!("no container {name}: {record:#}"))
}

/// A page of the admin interface of the Envoy beside cluster-1's `sleep`.
fn page(fleet: &Fleet, path: &str) -> Value {
    let script = format!("curl -s 'localhost:15000{path}'");
    call(fleet, "cluster-1", &script).ok().json()
}

/// How many requests went through a listener of that Envoy.
fn requests_of(fleet: &Fleet, prefix: &str) -> u64 {
    let stats = page(fleet, "/stats?format=json&filter=downstream_rq_total");
    let stats = stats["stats"].as_array().unwrap();
    let name = format!("http.{prefix}.downstream_rq_total");
    let found = stats.iter().find(|stat| stat["name"] == name.as_str());
    let found = found.unwrap_or_else(|| panic!("no {name}: {stats:?}"));
    found["value"].as_u64().unwrap()
}

/// The serial number of the certificate that this Envoy shows, all clusters and listeners alike.
fn serial_in_use(fleet: &Fleet) -> String {
    let certs = page(fleet, "/certs");
    let certs = certs["certificates"].as_array().unwrap();
    let serials = certs
        .iter()
        .map(|one| &one["cert_chain"][0]["serial_number"]);
    let mut serials: Vec<&str> = serials.filter_map(Value::as_str).collect();
    serials.sort_unstable();
    serials.dedup();
    let [serial] = serials[..] else {
        panic!("not one certificate in use: {certs:#?}");
    };
    serial.trim_start_matches('0').to_owned()
}

fn load(fleet: &Fleet, long: &str) -> Child {
    let line = format!(
        "verify helloworld:5000/hello --from cluster-1/deploy/sleep --rate 100 --for {long} -o json"
    );
    let mut command = fleet.command();
    command.args(line.split(' '));
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().unwrap()
}

fn assert_all_answered(load: Child) {
    let output = load.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let report: Value = serde_json::from_str(&text)
        .unwrap_or_else(|_| panic!("{text}{}", String::from_utf8_lossy(&output.stderr)));
    assert!(report["sent"].as_u64() > Some(0), "{report:#}");
    assert_eq!(report["failed"].as_u64(), Some(0), "{report:#}");
}
