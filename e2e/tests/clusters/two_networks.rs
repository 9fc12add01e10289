//! Two clusters whose pods and services have the same addresses: two networks, which meet at gateways.

use std::time::Instant;

use catamaran_e2e::clusters::{Cluster, Load, Person, until};

use crate::*;

/// Equal in both clusters, so that nothing can work by a mix-up of theirs.
const RANGES: &[&str] = &[
    "--pod-range",
    "10.244.0.0/16",
    "--service-range",
    "10.96.0.0/16",
];

#[test]
fn the_five_steps_and_what_is_lost_meanwhile() {
    let clusters = two_clusters("networks", [RANGES, RANGES]);
    let [one, two] = &clusters;
    let person = Person::of(&[one, two]);
    one.connect(two, false);
    let before = [objects(one), objects(two)];

    steps_1_to_3(&person, &clusters);
    sample_alternates(&clusters);
    only_in_the_other_cluster(&clusters);
    own_configuration_only(&clusters);

    // From here on, calls are made in both clusters, and none may fail.
    one.kubectl("scale deploy/sleep --replicas=1").ok();
    one.rolled_out("sleep", "default");
    alternates(one);
    let loads = [Load::begin(one, "sleep", 1), Load::begin(two, "sleep", 2)];
    control_planes_go_and_come(&clusters, &loads);
    leader_is_lost(&clusters, &loads);
    workloads_scale(&clusters, &loads);
    api_server_hangs(&clusters, &loads);
    link_is_lost(&clusters, &loads);
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

    only_read(two, "mesh-1", &node_address(one));
    only_read(one, "mesh-2", &node_address(two));
    deleted(&person, &clusters, &before);
}

/// Two instances on one root; each discovers the other's cluster; a gateway in each.
fn steps_1_to_3(person: &Person, clusters: &[Cluster; 2]) {
    let [one, two] = [clusters[0].name(), clusters[1].name()];
    let image = "--image catamaran.dev/catamaran:dev";
    let start = Instant::now();
    for line in [
        format!("mesh create mesh-1 --context {one} --cluster cluster-1 --region region-1 {image}"),
        format!(
            "mesh create mesh-2 --context {two} --cluster cluster-2 --region region-2 --reuse-root mesh-1 {image}"
        ),
    ] {
        person.says(&line).ok();
    }
    step("two instances on one root run", start);
    let start = Instant::now();
    for (own, other, mesh, cluster) in [
        (one, two, "mesh-1", "cluster-2"),
        (two, one, "mesh-2", "cluster-1"),
    ] {
        let line = format!(
            "cluster add {cluster} --mesh {mesh} --context {own} --discovery-only --remote-context {other}"
        );
        person.says(&line).ok();
    }
    step("each discovers the other", start);
    let start = Instant::now();
    for (own, mesh, networks) in [
        (
            one,
            "mesh-1",
            "cluster-1=network1,gateway cluster-2=network2",
        ),
        (
            two,
            "mesh-2",
            "cluster-2=network2,gateway cluster-1=network1",
        ),
    ] {
        let line = format!("network set --mesh {mesh} --context {own} {networks} {image}");
        person.says(&line).ok();
    }
    step("two networks, a gateway in each", start);
    for (cluster, n) in clusters.iter().zip([1, 2]) {
        condition(cluster, &format!("mesh/mesh-{n}"), "condition=Ready");
        for of in ["cluster-1", "cluster-2"] {
            let object = format!("clusters.catamaran.dev/{of}");
            condition(cluster, &object, "condition=Ready");
        }
    }
}

/// A service of cluster-2 alone has a name in cluster-1, without anything said there.
fn only_in_the_other_cluster(clusters: &[Cluster; 2]) {
    let start = Instant::now();
    let [one, two] = clusters;
    two.kubectl("expose deploy/helloworld-v2 --name=only-there --port=5000")
        .ok();
    two.kubectl(r#"patch svc only-there --type=json -p [{"op":"add","path":"/spec/ports/0/name","value":"http"}]"#)
        .ok();
    // `sleep` of cluster-1 was scaled to nothing; it starts after the service was made.
    one.kubectl("scale deploy/sleep --replicas=1").ok();
    one.rolled_out("sleep", "default");
    until("a service of the other cluster answers", || {
        let said = one.exec("sleep", "curl -sS --max-time 5 only-there:5000/hello");
        let right = said.out.starts_with("Hello version: v2,");
        right.then_some(()).ok_or(said)
    });
    let services = one.kubectl("get svc only-there --ignore-not-found").ok();
    assert_eq!(services.out, "");
    two.kubectl("delete svc only-there").ok();
    step("a service without a stub has a name", start);
}

/// What mesh-2 wants of its workloads is wanted in its cluster, and nowhere else.
fn own_configuration_only(clusters: &[Cluster; 2]) {
    let start = Instant::now();
    let [one, two] = clusters;
    for cluster in clusters {
        cluster
            .kubectl("create namespace plain --save-config=false")
            .ok();
        cluster
            .run(&["apply", "-n", "plain", "-f", "-"], SLEEP)
            .ok();
        cluster.rolled_out("sleep", "plain");
    }
    // By the pod's own address: without a sidecar there is no other cluster behind the service either.
    let plain = |cluster: &Cluster| {
        let pods = cluster.json("get pods -l app=helloworld");
        let address = pods["items"][0]["status"]["podIP"]
            .as_str()
            .expect("an address");
        let script = format!("curl -sS --max-time 5 http://{address}:5000/hello");
        let target = ["-n", "plain", "exec", "deploy/sleep", "-c", "sleep", "--"];
        cluster.run(&[&target[..], &["sh", "-c", &script]].concat(), "")
    };
    for cluster in clusters {
        let said = plain(cluster).ok();
        assert!(said.out.starts_with("Hello version: "), "{said:?}");
    }
    two.kubectl(&format!(
        r#"patch mesh mesh-2 {SYSTEM} --type=merge -p {{"spec":{{"mtls":"Strict"}}}}"#
    ))
    .ok();
    until("mesh-2 takes no plain text", || {
        let said = plain(two);
        (said.code != 0).then_some(()).ok_or(said)
    });
    let said = plain(one).ok();
    assert!(said.out.starts_with("Hello version: v1,"), "{said:?}");
    alternates(two);
    for cluster in clusters {
        cluster.kubectl("delete namespace plain --wait=false").ok();
    }
    step("strict mTLS of mesh-2 is no matter of mesh-1", start);
}

/// Restart, one replica, three, and two again.
fn control_planes_go_and_come(clusters: &[Cluster; 2], loads: &[Load<'_>; 2]) {
    let start = Instant::now();
    for (cluster, n) in clusters.iter().zip([1, 2]) {
        let deployment = format!("catamaran-mesh-{n}");
        cluster
            .kubectl(&format!("{SYSTEM} rollout restart deploy/{deployment}"))
            .ok();
        cluster.rolled_out(&deployment, "catamaran-system");
    }
    for replicas in [1, 3, 2] {
        for (cluster, n) in clusters.iter().zip([1, 2]) {
            let deployment = format!("catamaran-mesh-{n}");
            let line = format!("{SYSTEM} scale deploy/{deployment} --replicas={replicas}");
            cluster.kubectl(&line).ok();
            cluster.rolled_out(&deployment, "catamaran-system");
        }
    }
    for load in loads {
        let _ = load
            .calls(20)
            .none_failed("control planes restart and scale");
    }
    step("control planes restarted and scaled", start);
}

/// All control planes of mesh-1 are killed, without a word; a proxy that starts meanwhile waits for the next.
fn leader_is_lost(clusters: &[Cluster; 2], loads: &[Load<'_>; 2]) {
    let start = Instant::now();
    let [one, _] = clusters;
    let pods = "-l app.kubernetes.io/component=control-plane";
    one.kubectl(&format!(
        "{SYSTEM} delete pods {pods} --grace-period=0 --force"
    ))
    .ok();
    for load in loads {
        let _ = load
            .calls(20)
            .none_failed("all control planes of mesh-1 are gone");
    }
    one.rolled_out("catamaran-mesh-1", "catamaran-system");
    for load in loads {
        let _ = load
            .calls(20)
            .none_failed("control planes of mesh-1 are back");
    }
    step("all control planes of mesh-1 were killed", start);
}

/// Pods of both versions come and go.
fn workloads_scale(clusters: &[Cluster; 2], loads: &[Load<'_>; 2]) {
    let start = Instant::now();
    let [one, two] = clusters;
    two.kubectl("scale deploy/helloworld-v2 --replicas=3").ok();
    two.rolled_out("helloworld-v2", "default");
    until("all three answer in the other cluster", || {
        let script =
            "for i in $(seq 1 30); do curl -sS helloworld:5000/hello; done | grep v2 | sort -u";
        let said = one.exec("sleep", script).ok();
        let instances = said.out.lines().count();
        (instances == 3).then_some(()).ok_or(said)
    });
    two.kubectl("scale deploy/helloworld-v2 --replicas=1").ok();
    one.kubectl("scale deploy/helloworld-v1 --replicas=0").ok();
    until("v2 answers alone", || {
        let said = one.exec("sleep", TEN_CALLS).ok();
        let alone = said.out.lines().all(|line| line.contains("v2"));
        alone.then_some(()).ok_or(said)
    });
    one.kubectl("scale deploy/helloworld-v1 --replicas=1").ok();
    one.rolled_out("helloworld-v1", "default");
    for (cluster, load) in clusters.iter().zip(loads) {
        alternates(cluster);
        let _ = load.calls(20).none_failed("workloads scale");
    }
    step("workloads scaled", start);
}

/// The API server of cluster-2 hangs: its own proxies and the other instance go on with what they know.
fn api_server_hangs(clusters: &[Cluster; 2], loads: &[Load<'_>; 2]) {
    let start = Instant::now();
    let [one, two] = clusters;
    two.signal("kube-apiserver", "STOP");
    until("cluster-2 is stale for mesh-1", || {
        let said = freshness(one, "cluster-2");
        (said != "Fresh").then_some(()).ok_or(said)
    });
    alternates(one);
    let _ = loads[0]
        .calls(20)
        .none_failed("the API server of cluster-2 hangs");
    two.signal("kube-apiserver", "CONT");
    until("cluster-2 is fresh for mesh-1", || {
        let said = freshness(one, "cluster-2");
        (said == "Fresh").then_some(()).ok_or(said)
    });
    let _ = loads[1]
        .calls(20)
        .none_failed("the API server of cluster-2 hung");
    step("an API server hung", start);
}

/// The link between the clusters is cut, without a word, and comes back; meanwhile each goes on alone, and new pods start.
fn link_is_lost(clusters: &[Cluster; 2], loads: &[Load<'_>; 2]) {
    let start = Instant::now();
    let [one, two] = clusters;
    one.cut(two);
    let before = loads.each_ref().map(Load::so_far);
    for (load, before) in loads.iter().zip(before) {
        let tally = load.calls(60).since(&before).none_failed("the link is cut");
        assert!(tally.v1 > 0 || tally.v2 > 0, "{tally:?}");
    }
    until("each says that the other is not reached", || {
        let said = [freshness(one, "cluster-2"), freshness(two, "cluster-1")];
        let so = said.iter().all(|said| *said != "Fresh");
        so.then_some(()).ok_or(said)
    });
    for (cluster, version) in [(one, "v1"), (two, "v2")] {
        let name = format!("helloworld-{version}");
        cluster
            .kubectl(&format!("scale deploy/{name} --replicas=2"))
            .ok();
        cluster.rolled_out(&name, "default");
        cluster
            .kubectl(&format!("scale deploy/{name} --replicas=1"))
            .ok();
    }
    one.connect(two, false);
    for cluster in clusters {
        alternates(cluster);
    }
    until("both are fresh again", || {
        let said = [freshness(one, "cluster-2"), freshness(two, "cluster-1")];
        let so = said.iter().all(|said| *said == "Fresh");
        so.then_some(()).ok_or(said)
    });
    for load in loads {
        let _ = load.calls(20).none_failed("the link was cut and is back");
    }
    step("the link was cut and came back", start);
}
