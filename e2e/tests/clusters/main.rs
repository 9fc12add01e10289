//! The five steps on real clusters, with `kubectl`, and what is lost meanwhile. `cargo xtask cluster test` runs them: they need
//! the program of the test clusters, images and the binary in `CATAMARAN_CLUSTERS`, `CATAMARAN_IMAGES` and `CATAMARAN_BIN`.

mod flat;
mod managed;
mod two_networks;

use std::path::PathBuf;
use std::time::Instant;

use catamaran_e2e::clusters::{Cluster, Person, until};

const SYSTEM: &str = "-n catamaran-system";

/// The manifests of the story, as they were given to us.
const SAMPLE: [&str; 2] = [
    include_str!("../../../examples/five-steps/cluster-1.yaml"),
    include_str!("../../../examples/five-steps/cluster-2.yaml"),
];
const SLEEP: &str = include_str!("../../../examples/five-steps/sleep-cluster-2.yaml");

/// Step 5, as the story has it.
const TEN_CALLS: &str = "for i in $(seq 1 10); do curl -sS helloworld:5000/hello; done;";

/// Two clusters at once, with names that no other test has.
fn two_clusters(story: &str, flags: [&[&str]; 2]) -> [Cluster; 2] {
    let start = Instant::now();
    let home = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    let clusters = std::thread::scope(|scope| {
        let home = &home;
        let starting = [("1", flags[0]), ("2", flags[1])].map(|(n, flags)| {
            let name = format!("{story}-{n}-{}", std::process::id());
            scope.spawn(move || Cluster::up(home.join(name), flags))
        });
        starting.map(|one| one.join().expect("it started"))
    });
    step("two clusters start", start);
    clusters
}

fn step(what: &str, start: Instant) {
    println!("{:>7.1} s  {what}", start.elapsed().as_secs_f64());
}

/// Steps 4 and 5 of the story: injection, the sample, ten calls from cluster-1, `sleep` moved, ten calls from cluster-2.
fn sample_alternates(clusters: &[Cluster; 2]) {
    let [one, two] = clusters;
    let start = Instant::now();
    for (cluster, manifests) in clusters.iter().zip(SAMPLE) {
        cluster
            .kubectl("label namespace default istio-injection=enabled")
            .ok();
        cluster.apply(manifests);
    }
    for (cluster, deployment) in [
        (one, "sleep"),
        (one, "helloworld-v1"),
        (two, "helloworld-v2"),
    ] {
        cluster.rolled_out(deployment, "default");
    }
    step("the sample runs with sidecars", start);

    let start = Instant::now();
    alternates(one);
    one.kubectl("scale deploy/sleep --replicas=0").ok();
    two.apply(SLEEP);
    two.rolled_out("sleep", "default");
    alternates(two);
    step("calls from both clusters reach v1 and v2", start);
}

/// Ten calls as a person makes them: v1 and v2, nothing else. A sidecar may have begun before it had heard of the other cluster.
fn alternates(cluster: &Cluster) {
    until("ten calls reach v1 and v2", || {
        let said = cluster.exec("sleep", TEN_CALLS).ok();
        let lines: Vec<&str> = said.out.lines().collect();
        let of = |version: &str| {
            let start = format!("Hello version: {version}, instance: helloworld-{version}-");
            lines.iter().filter(|line| line.starts_with(&start)).count()
        };
        assert_eq!(of("v1") + of("v2"), 10, "{said:?}");
        (of("v1") > 0 && of("v2") > 0).then_some(()).ok_or(said)
    });
}

/// Waits until what is said of an object is as wanted.
fn condition(cluster: &Cluster, object: &str, condition: &str) {
    let line = format!("wait {SYSTEM} {object} --for={condition} --timeout=60s");
    cluster.kubectl(&line).ok();
}

/// What an instance did in the cluster that it only discovers: reads, and a token and a review for itself. `foreign` is where
/// the other cluster's requests come from; there is nobody else there.
fn only_read(discovered: &Cluster, mesh: &str, foreign: &str) {
    let reader = format!("system:serviceaccount:catamaran-system:catamaran-reader-{mesh}");
    let (mut seen, mut kinds) = (0, std::collections::BTreeSet::new());
    for event in discovered.audit() {
        let user = event["user"]["username"].as_str().unwrap_or_default();
        let from = event["sourceIPs"][0].as_str().unwrap_or_default();
        // A server that could not look the token up, as one that hung, knows nobody and did nothing.
        let nobody = user.is_empty() && event["responseStatus"]["code"] == 401;
        assert!(
            user == reader || nobody || from != foreign,
            "someone else came from the other cluster: {event:#}"
        );
        if user != reader && !(nobody && from == foreign) {
            continue;
        }
        seen += 1;
        let verb = event["verb"].as_str().unwrap_or_default();
        let object = &event["objectRef"];
        let resource = object["resource"].as_str().unwrap_or("none");
        let reads = ["get", "list", "watch"].contains(&verb) && resource != "secrets";
        let token = object["subresource"] == "token"
            && object["name"] == *format!("catamaran-reader-{mesh}");
        let own = verb == "create" && (token || resource == "selfsubjectrulesreviews");
        assert!(reads || own, "{event:#}");
        kinds.insert(format!("{verb} {resource}"));
    }
    assert!(seen > 10, "the audit log has {seen} requests of the reader");
    println!("           {reader} made {seen} requests: {kinds:?}");
}

/// The address of a cluster's node, from which its pods' requests come to other clusters.
fn node_address(cluster: &Cluster) -> String {
    let nodes = cluster.json("get nodes");
    let addresses = &nodes["items"][0]["status"]["addresses"];
    let internal = addresses.as_array().and_then(|all| {
        all.iter()
            .find(|one| one["type"] == "InternalIP")
            .and_then(|one| one["address"].as_str())
    });
    internal.expect("a node has an address").to_owned()
}

/// Everything of a cluster that an installation could touch, by kind and name.
fn objects(cluster: &Cluster) -> String {
    let kinds = "ns,crd,clusterrole,clusterrolebinding,mutatingwebhookconfiguration,cm,secret,sa,role,rolebinding,svc,deploy,pdb";
    let said = cluster.kubectl(&format!("get {kinds} -A -o name")).ok();
    let mut lines: Vec<&str> = said.out.lines().collect();
    lines.sort_unstable();
    lines.join("\n")
}

/// How sure an instance says it is of a cluster.
fn freshness(cluster: &Cluster, of: &str) -> String {
    let object = cluster.json(&format!("get clusters.catamaran.dev {of} {SYSTEM}"));
    let said = object["status"]["freshness"]["state"].as_str();
    said.unwrap_or_else(|| panic!("no freshness: {object:#}"))
        .to_owned()
}

/// Takes both instances away, and sees that nothing of them is left.
fn deleted(person: &Person, clusters: &[Cluster; 2], before: &[String; 2]) {
    let start = Instant::now();
    let [one, two] = clusters;
    for (own, other, mesh, cluster) in [
        (one, two, "mesh-1", "cluster-2"),
        (two, one, "mesh-2", "cluster-1"),
    ] {
        let (own, other) = (own.name(), other.name());
        person
            .says(&format!(
                "cluster remove {cluster} --mesh {mesh} --context {own} --remote-context {other}"
            ))
            .ok();
    }
    for (cluster, mesh) in [(one, "mesh-1"), (two, "mesh-2")] {
        let context = cluster.name();
        person
            .says(&format!("mesh delete {mesh} --context {context}"))
            .ok();
    }
    nothing_left(clusters, before);
    step(
        "both instances are deleted, and nothing of them is left",
        start,
    );
}

/// Nothing is there that was not before.
fn nothing_left(clusters: &[Cluster; 2], before: &[String; 2]) {
    for (cluster, before) in clusters.iter().zip(before) {
        // What the story itself made is not ours.
        cluster.kubectl("delete deploy,svc,sa --all").ok();
        until("nothing is left", || {
            let after = objects(cluster);
            let new: Vec<&str> = after
                .lines()
                .filter(|line| !before.contains(line))
                .collect();
            new.is_empty().then_some(()).ok_or(new.join("\n"))
        });
    }
}
