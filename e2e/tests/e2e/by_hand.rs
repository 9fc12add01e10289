//! The five steps typed by hand, and what a person finds out on the way.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use catamaran_e2e::{Fleet, Said};

pub(crate) const SLEEP_LOOP: &str = "for i in $(seq 1 10); do curl -s helloworld:5000/hello; done;";

pub(crate) fn manifest(name: &str) -> String {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let path = root.join("../examples/five-steps").join(name);
    path.canonicalize().unwrap().display().to_string()
}

/// Steps 1 to 4 on two networks.
pub(crate) fn two_clusters(isolation: &str) -> Fleet {
    let fleet = Fleet::empty();
    for line in [
        &format!("cluster create cluster-1 --network vpc-1 --isolation {isolation}") as &str,
        "cluster create cluster-2 --network vpc-2",
        "mesh create mesh-1 --cluster cluster-1 --region region-1",
        "mesh create mesh-2 --cluster cluster-2 --region region-2 --reuse-root mesh-1",
        "cluster add cluster-2 --mesh mesh-1 --discovery-only",
        "cluster add cluster-1 --mesh mesh-2 --discovery-only",
        "network set --mesh mesh-1 cluster-1=network1,gateway cluster-2=network2",
        "network set --mesh mesh-2 cluster-1=network1 cluster-2=network2,gateway",
        "namespace inject default --mesh mesh-1",
        "namespace inject default --mesh mesh-2",
        &format!(
            "apply -f {} --cluster cluster-1",
            manifest("cluster-1.yaml")
        ),
        &format!(
            "apply -f {} --cluster cluster-2",
            manifest("cluster-2.yaml")
        ),
    ] {
        fleet.say(line).ok();
    }
    both_versions_answer(&fleet, "cluster-1");
    fleet.until(Duration::from_secs(60), "check", |said| {
        (said.code == 0).then_some(())
    });
    fleet
}

/// Waits until pods of both versions are ready and known to the caller's sidecar.
pub(crate) fn both_versions_answer(fleet: &Fleet, cluster: &str) {
    let line = format!("verify helloworld:5000/hello --from {cluster}/deploy/sleep -n 10 -o json");
    fleet.until(Duration::from_secs(60), &line, |said| {
        let report = (said.code == 0).then(|| said.json())?;
        let versions = report["versions"].as_object()?;
        (versions.contains_key("v1") && versions.contains_key("v2")).then_some(())
    });
}

pub(crate) fn call(fleet: &Fleet, cluster: &str, script: &str) -> Said {
    fleet.run(["exec", cluster, "deploy/sleep", "--", "sh", "-c", script])
}

pub(crate) fn versions(said: &Said) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for line in said.out.lines() {
        let version = line
            .strip_prefix("Hello version: ")
            .and_then(|rest| rest.split_once(", instance: "))
            .unwrap_or_else(|| panic!("not an answer of helloworld: {said:?}"));
        *counts.entry(version.0.to_string()).or_default() += 1;
    }
    counts
}

#[test]
fn a_plain_curl_is_carried_and_answers_mix() {
    let fleet = two_clusters("netns");
    let said = call(&fleet, "cluster-1", SLEEP_LOOP).ok();
    let counts = versions(&said);
    assert_eq!(counts.values().sum::<usize>(), 10, "{said:?}");
    assert!(
        counts.contains_key("v1") && counts.contains_key("v2"),
        "{counts:?}"
    );

    fleet
        .say("scale deploy/sleep --replicas 0 --cluster cluster-1")
        .ok();
    let sleep = manifest("sleep-cluster-2.yaml");
    fleet
        .say(&format!("apply -f {sleep} --cluster cluster-2"))
        .ok();
    both_versions_answer(&fleet, "cluster-2");
    let counts = versions(&call(&fleet, "cluster-2", SLEEP_LOOP).ok());
    assert!(
        counts.contains_key("v1") && counts.contains_key("v2"),
        "{counts:?}"
    );

    network_two_is_reached_through_its_gateway_only(&fleet);
    four_pods_behind_one_gateway_share_its_traffic(&fleet);
    a_renewed_intermediate_costs_no_request(&fleet);
    a_cluster_that_comes_back_is_reached_at_once(&fleet);
    a_node_that_finds_no_folder_of_manifests_ends_nothing(&fleet);
}

/// Silence is not a statement: where nothing can be read, nobody has said that there is nothing.
fn a_node_that_finds_no_folder_of_manifests_ends_nothing(fleet: &Fleet) {
    let cluster = fleet.dir().join("clusters/cluster-2");
    let away = fleet.dir().join("objects-away");
    std::fs::rename(cluster.join("objects"), &away).unwrap();
    let record = std::fs::read_to_string(cluster.join("run/node.json")).unwrap();
    let record: serde_json::Value = serde_json::from_str(&record).unwrap();
    let pid = record["pid"].as_i64().expect("the node's id") as i32;
    let pid = nix::unistd::Pid::from_raw(pid);
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).unwrap();
    fleet.say("cluster start cluster-2").ok();
    // Long enough for a node that believes the emptiness to have ended its pods.
    let said = fleet
        .say(
            "verify helloworld:5000/hello --from cluster-1/deploy/sleep --rate 50 --for 6s -o json",
        )
        .ok();
    std::fs::rename(&away, cluster.join("objects")).unwrap();
    let report = said.json();
    assert_eq!(report["failed"].as_u64(), Some(0), "{report:#}");
    let last = fleet
        .say("verify helloworld:5000/hello --from cluster-1/deploy/sleep -n 20 -o json")
        .ok();
    assert!(last.json()["versions"]["v2"].as_u64() > Some(0), "{last:?}");
}

/// Its gateway has the same address in a new namespace; neighbours that remember the old one must not wait for it.
fn a_cluster_that_comes_back_is_reached_at_once(fleet: &Fleet) {
    fleet.say("cluster stop cluster-2").ok();
    let said = fleet
        .say("verify helloworld:5000/hello --from cluster-1/deploy/sleep -n 20 -o json")
        .ok();
    let versions = said.json()["versions"].clone();
    assert_eq!(
        versions,
        serde_json::json!({"v1": 20}),
        "cluster-2 is stopped"
    );
    fleet.say("cluster start cluster-2").ok();
    both_versions_answer(fleet, "cluster-1");
    fleet.until(Duration::from_secs(20), "check", |said| {
        (said.code == 0).then_some(())
    });
}

/// From a pod of network1's own view: a pod of network2 does not answer, the gateway of network2 does.
fn network_two_is_reached_through_its_gateway_only(fleet: &Fleet) {
    fleet
        .say("scale deploy/sleep --replicas 1 --cluster cluster-1")
        .ok();
    both_versions_answer(fleet, "cluster-1");
    let status = fleet.say("status -o json").ok().json();
    let pods =
        std::fs::read_dir(fleet.dir().join("clusters/cluster-2/status/Pod/default")).unwrap();
    let address = pods
        .filter_map(|entry| {
            let text = std::fs::read_to_string(entry.ok()?.path()).ok()?;
            let pod: serde_json::Value = serde_json::from_str(&text).ok()?;
            let name = pod["metadata"]["name"].as_str()?;
            let ip = pod["status"]["podIP"].as_str()?.to_string();
            name.starts_with("helloworld-v2").then_some(ip)
        })
        .next()
        .expect("a pod of helloworld-v2 with an address");
    // As uid 1337 nothing is captured, so the packets are the network's own.
    let direct = |target: &str| {
        let probe = format!(
            "setpriv --reuid 1337 --clear-groups curl -s -m 2 -o /dev/null http://{target}/hello; echo $?"
        );
        call(fleet, "cluster-1", &probe).ok().out.trim().to_string()
    };
    let blocked = direct(&format!("{address}:5000"));
    assert!(
        ["7", "28"].contains(&blocked.as_str()),
        "curl's exit code {blocked} for the pod itself"
    );
    let gateways = status["gateways"].as_array().expect("a list");
    let gateway = gateways
        .iter()
        .find(|gateway| gateway["cluster"] == "cluster-2")
        .and_then(|gateway| gateway["address"].as_str())
        .unwrap_or_else(|| panic!("status names no gateway of cluster-2: {status:#}"));
    let reached = direct(gateway);
    assert!(
        ["52", "56"].contains(&reached.as_str()),
        "curl's exit code {reached} for the gateway {}: it should accept and close a client without TLS",
        gateway
    );
}

fn four_pods_behind_one_gateway_share_its_traffic(fleet: &Fleet) {
    fleet
        .say("scale deploy/helloworld-v2 --replicas 4 --cluster cluster-2")
        .ok();
    let wanted = "verify helloworld:5000/hello --from cluster-1/deploy/sleep -n 100 -o json";
    let instances = |said: &Said| {
        let mut counts: BTreeMap<String, u64> = BTreeMap::new();
        for (name, count) in said.json()["instances"].as_object()? {
            if name.starts_with("helloworld-v2") {
                counts.insert(name.clone(), count.as_u64()?);
            }
        }
        Some(counts)
    };
    fleet.until(Duration::from_secs(40), wanted, |said| {
        instances(said).filter(|counts| counts.len() == 4)
    });
    let said = fleet
        .say("verify helloworld:5000/hello --from cluster-1/deploy/sleep -n 1000 -o json")
        .ok();
    let counts = instances(&said).unwrap();
    let all: u64 = counts.values().sum();
    assert!(
        all >= 600,
        "five equal endpoints give four of them 80 %: {counts:?}"
    );
    for (name, count) in &counts {
        let share = 100.0 * *count as f64 / all as f64;
        assert!(
            (15.0..=35.0).contains(&share),
            "{name} has {share:.0} %: {counts:?}"
        );
    }
}

fn a_renewed_intermediate_costs_no_request(fleet: &Fleet) {
    let mut load = fleet.command();
    load.args(
        "verify helloworld:5000/hello --from cluster-1/deploy/sleep --rate 100 --for 4s -o json"
            .split(' '),
    );
    load.stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped());
    let load = load.spawn().unwrap();
    fleet.say("trust renew mesh-2").ok();
    let output = load.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let report: serde_json::Value =
        serde_json::from_str(&text).unwrap_or_else(|_| panic!("{text}"));
    assert_eq!(report["failed"].as_u64(), Some(0), "{report:#}");
}
