//! One instance for two clusters, whose pods and services have the same addresses: the second has no control plane of its own.

use std::time::Instant;

use catamaran_e2e::clusters::{Cluster, Load, Person, until};

use crate::*;

const RANGES: &[&str] = &[
    "--pod-range",
    "10.244.0.0/16",
    "--service-range",
    "10.96.0.0/16",
];

#[test]
fn one_instance_for_two_clusters() {
    let clusters = two_clusters("managed", [RANGES, RANGES]);
    let [one, two] = &clusters;
    let person = Person::of(&[one, two]);
    one.connect(two, false);
    let before = [objects(one), objects(two)];

    let (own, other) = (one.name(), two.name());
    let start = Instant::now();
    for line in [
        format!(
            "mesh create mesh-1 --context {own} --cluster cluster-1 --region region-1 --image catamaran.dev/catamaran:dev"
        ),
        format!("cluster add cluster-2 --mesh mesh-1 --context {own} --remote-context {other}"),
        format!(
            "network set --mesh mesh-1 --context {own} --remote-context {other} cluster-1=network1,gateway cluster-2=network2,gateway"
        ),
    ] {
        person.says(&line).ok();
    }
    let control_planes = two.json(&format!("{SYSTEM} get deployments -l app=catamaran"));
    assert_eq!(control_planes["items"].as_array().map(Vec::len), Some(0));
    step("mesh-1 manages both", start);

    sample_alternates(&clusters);
    one.kubectl("scale deploy/sleep --replicas=1").ok();
    one.rolled_out("sleep", "default");
    alternates(one);
    let loads = [Load::begin(one, "sleep", 1), Load::begin(two, "sleep", 2)];
    link_is_lost(&clusters, &loads);
    control_plane_is_lost(&clusters, &loads);
    for (load, of) in loads.into_iter().zip(["cluster-1", "cluster-2"]) {
        let tally = load.end().none_failed(of);
        println!(
            "           {of}: {} calls, v1 {}, v2 {}, none failed, the slowest took {:.3} s",
            tally.all(),
            tally.v1,
            tally.v2,
            tally.slowest
        );
    }
    taken_away(&person, &clusters, &before);
}

/// The link is cut: both clusters go on; pods with sidecars are made in the instance's own, and refused in the other.
fn link_is_lost(clusters: &[Cluster; 2], loads: &[Load<'_>; 2]) {
    let start = Instant::now();
    let [one, two] = clusters;
    one.cut(two);
    for load in loads {
        let _ = load.calls(60).none_failed("the link is cut");
    }
    until("cluster-2 is stale", || {
        let said = freshness(one, "cluster-2");
        (said == "Stale").then_some(()).ok_or(said)
    });
    one.kubectl("scale deploy/helloworld-v1 --replicas=2").ok();
    one.rolled_out("helloworld-v1", "default");
    let late = "run late --image=curl:8.1.2 --restart=Never --command -- sleep 1000";
    let said = two.kubectl(late);
    assert!(said.code != 0 && said.err.contains("webhook"), "{said:?}");
    one.connect(two, false);
    until("cluster-2 is fresh again", || {
        let said = freshness(one, "cluster-2");
        (said == "Fresh").then_some(()).ok_or(said)
    });
    for (cluster, load) in clusters.iter().zip(loads) {
        alternates(cluster);
        let _ = load.calls(20).none_failed("the link was cut and is back");
    }
    until("pods with sidecars are made there again", || {
        let said = two.kubectl(late);
        (said.code == 0).then_some(()).ok_or(said)
    });
    let pod = two.json("get pod late");
    assert!(pod["metadata"]["annotations"]["sidecar.istio.io/status"].is_string());
    two.kubectl("delete pod late --wait=false").ok();
    step("the link was cut and came back", start);
}

/// No control plane is left: proxies of both clusters keep what they have.
fn control_plane_is_lost(clusters: &[Cluster; 2], loads: &[Load<'_>; 2]) {
    let start = Instant::now();
    let [one, _] = clusters;
    let scale = |n: u8| format!("scale {SYSTEM} deploy/catamaran-mesh-1 --replicas={n}");
    one.kubectl(&scale(0)).ok();
    until("no control plane is left", || {
        let pods = one.json(&format!("{SYSTEM} get pods -l app=catamaran"));
        let none = pods["items"].as_array().is_some_and(Vec::is_empty);
        none.then_some(()).ok_or(pods)
    });
    for (cluster, load) in clusters.iter().zip(loads) {
        alternates(cluster);
        let _ = load.calls(40).none_failed("no control plane is left");
    }
    one.kubectl(&scale(2)).ok();
    one.rolled_out("catamaran-mesh-1", "catamaran-system");
    for load in loads {
        let _ = load.calls(20).none_failed("control planes are back");
    }
    step("the control planes went and came", start);
}

/// The cluster and the instance are taken away. Of the cluster the namespace and a definition stay, for others may use them.
fn taken_away(person: &Person, clusters: &[Cluster; 2], before: &[String; 2]) {
    let start = Instant::now();
    let [one, two] = clusters;
    let (own, other) = (one.name(), two.name());
    let remove = format!("cluster remove cluster-2 --mesh mesh-1 --context {own}");
    let said = person.says(&remove);
    assert!(said.code != 0 && said.err.contains("CTM-K112"), "{said:?}");
    person
        .says(&format!("{remove} --remote-context {other}"))
        .ok();
    two.kubectl("run free --image=curl:8.1.2 --restart=Never --command -- sleep 1000")
        .ok();
    two.kubectl("delete pod free --wait=false").ok();
    person
        .says(&format!("mesh delete mesh-1 --context {own}"))
        .ok();
    two.kubectl("delete crd meshexports.catamaran.dev").ok();
    two.kubectl("delete namespace catamaran-system").ok();
    nothing_left(clusters, before);
    step("nothing of the instance is left", start);
}
