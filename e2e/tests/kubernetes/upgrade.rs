//! One instance goes to another version and back while its sidecars call each other. Beside what the first lines of `main.rs` name
//! it needs the program and the image of another version, and the sample's images on the nodes:
//!
//! ```text
//! cargo xtask image --version 0.2.0                    # prints the archive and the program
//! cargo xtask cluster load c1 && cargo xtask cluster load c1 target/images/catamaran-0.2.0.tar
//! CATAMARAN_TEST_NEXT_BIN=target/versions/0.2.0/catamaran CATAMARAN_TEST_NEXT_IMAGE=catamaran.dev/catamaran:0.2.0 \
//!     ... cargo test -p catamaran-e2e --test kubernetes upgrade
//! ```

use std::process::Child;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::*;

/// Calls from the sample's client, four at a time, until they are told to stop. Each has 20 s, for the machine may have other work:
/// one that is only slow is no loss.
struct Calls(Child);

impl Calls {
    fn begin(cluster: &Cluster) -> Calls {
        let program = std::env::var("CATAMARAN_KUBECTL").unwrap_or_else(|_| "kubectl".into());
        let calls = "rm -f /tmp/stop; for n in 1 2 3 4; do (while [ ! -e /tmp/stop ]; do \
                     curl -s -o /dev/null -w '%{http_code} %{exitcode} %{time_namelookup} %{time_total} %{errormsg}\n' --max-time 20 helloworld:5000/hello; done) & done; wait";
        let mut command = Command::new(program);
        command
            .args(["--context", &cluster.context])
            .args(["exec", "deploy/sleep", "-c", "sleep", "--", "sh", "-c"])
            .arg(calls)
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        Calls(command.spawn().expect("kubectl is there"))
    }

    /// How many there were, and of those to which something else than 200 came back what curl says: code, exit code, seconds.
    fn end(self, cluster: &Cluster) -> (usize, Vec<String>) {
        let stop = "exec deploy/sleep -c sleep -- touch /tmp/stop";
        cluster.kubectl(stop).ok();
        let said = Said::of(self.0.wait_with_output().expect("the calls end")).ok();
        let all: Vec<&str> = said.out.lines().collect();
        let failed = all.iter().filter(|call| !call.starts_with("200 "));
        (all.len(), failed.map(|call| (*call).to_owned()).collect())
    }
}

/// What somebody who looks all the time sees of an instance: its phases in turn, and the fewest replicas that were ready.
fn watch(cluster: &Cluster, until: &AtomicBool) -> (Vec<String>, i64) {
    let (mut phases, mut fewest) = (Vec::<String>::new(), i64::MAX);
    while !until.load(Ordering::Relaxed) {
        let mesh = cluster.json(&format!("get mesh mesh-1 {SYSTEM}"));
        let phase = mesh["status"]["phase"].as_str().unwrap_or("-").to_owned();
        if phases.last() != Some(&phase) {
            phases.push(phase);
        }
        let deployment = cluster.json(&format!("get deploy catamaran-mesh-1 {SYSTEM}"));
        let ready = deployment["status"]["readyReplicas"].as_i64();
        fewest = fewest.min(ready.unwrap_or(0));
        thread::sleep(Duration::from_millis(200));
    }
    (phases, fewest)
}

fn runs(cluster: &Cluster, version: &str, image: &str) {
    let mesh = cluster.json(&format!("get mesh mesh-1 {SYSTEM}"));
    assert_eq!(mesh["spec"]["version"], version);
    assert_eq!(mesh["status"]["versions"], serde_json::json!([version]));
    assert_eq!(mesh["status"]["phase"], "Ready", "{}", mesh["status"]);
    let export = cluster.json(&format!("get meshexport mesh-1 {SYSTEM}"));
    assert_eq!(export["spec"]["version"], version);
    for name in ["catamaran-mesh-1", "eastwest-gateway"] {
        let deployment = cluster.json(&format!("get deploy {name} {SYSTEM}"));
        let container = &deployment["spec"]["template"]["spec"]["containers"][0];
        assert_eq!(container["image"], image, "{name}");
        assert_eq!(deployment["status"]["readyReplicas"], 2, "{name}");
        assert_eq!(deployment["status"]["replicas"], 2, "{name}");
    }
}

fn until_it_answers(cluster: &Cluster) {
    for name in ["sleep", "helloworld-v1"] {
        let wait = format!("rollout status deploy/{name} --timeout=120s");
        cluster.kubectl(&wait).ok();
    }
    let start = Instant::now();
    loop {
        let call = "exec deploy/sleep -c sleep -- curl -s --max-time 5 helloworld:5000/hello";
        let said = cluster.kubectl(call);
        if said.out.contains("Hello version: v1") {
            return;
        }
        assert!(start.elapsed() < Duration::from_secs(60), "{said:?}");
        thread::sleep(Duration::from_millis(500));
    }
}

#[test]
fn upgrade_and_back_lose_no_call() {
    let _one = one_at_a_time();
    let cluster = Cluster {
        context: var("CATAMARAN_TEST_CONTEXT"),
        roots: tempfile::tempdir().expect("a folder"),
    };
    let image = var("CATAMARAN_TEST_IMAGE");
    let next_image = var("CATAMARAN_TEST_NEXT_IMAGE");
    let next_program = var("CATAMARAN_TEST_NEXT_BIN");
    let version_of = |program: &Path| {
        let said = Command::new(program).arg("version").output();
        let said = Said::of(said.expect("the program starts")).ok().out;
        said.trim().replace("catamaran ", "")
    };
    let (ours, next) = (version_of(&binary()), version_of(next_program.as_ref()));
    assert_ne!(ours, next);
    let by_next = |line: &str| {
        cluster.by(
            next_program.as_ref(),
            line,
            &["--context", &cluster.context],
        )
    };
    let before = cluster.objects();
    assert!(!before.contains("catamaran"), "{before}");

    cluster.catamaran(&format!("{CREATE} --image {image}")).ok();
    let gateway = "network set --mesh mesh-1 cluster-1=network-1,gateway";
    cluster.catamaran(gateway).ok();
    runs(&cluster, &ours, &image);
    let label = "label namespace default istio-injection=enabled --overwrite";
    cluster.kubectl(label).ok();
    let sample = std::fs::read_to_string("../examples/five-steps/cluster-1.yaml");
    let sample = sample.expect("the sample");
    cluster.kubectl_with("apply -f -", &sample).ok();
    until_it_answers(&cluster);

    // Refused, with the next step: creating over another version, and steps that are too wide.
    let said = by_next(&format!("{CREATE} --image {next_image}"));
    assert!(
        said.err.contains("CTM-M104") && said.err.contains("mesh upgrade mesh-1"),
        "{said:?}"
    );
    let said = by_next("mesh upgrade mesh-1 --version 9.0.0");
    assert!(said.err.contains("CTM-M103"), "{said:?}");
    let dry = by_next(&format!(
        "mesh upgrade mesh-1 --image {next_image} --dry-run -o yaml"
    ))
    .ok();
    assert!(dry.out.contains(&next_image) && dry.out.contains("name: eastwest-gateway"));
    assert!(dry.out.contains("region-1") && !dry.out.contains("kind: Secret\n"));
    runs(&cluster, &ours, &image);

    let calls = Calls::begin(&cluster);
    let done = AtomicBool::new(false);
    let (said, seen) = thread::scope(|scope| {
        let seen = scope.spawn(|| watch(&cluster, &done));
        let said = by_next(&format!("mesh upgrade mesh-1 --image {next_image}"));
        done.store(true, Ordering::Relaxed);
        (said, seen.join().expect("somebody looks"))
    });
    let said = said.ok();
    assert!(
        said.err.contains("2 of 2 sidecars are older (default 2)"),
        "{said:?}"
    );
    assert!(said.err.contains("rollout restart deployment"), "{said:?}");
    runs(&cluster, &next, &next_image);
    println!(
        "phases {:?}, at least {} control planes ready",
        seen.0, seen.1
    );
    assert!(seen.0.iter().any(|phase| phase == "Updating"), "{seen:?}");
    // A new replica among others is no new instance.
    let known = |phase: &String| ["Ready", "Updating"].contains(&phase.as_str());
    assert!(seen.0.iter().all(known), "{seen:?}");
    assert!(seen.1 >= 2, "{seen:?}");

    // A sidecar is as new as its pod.
    cluster.kubectl("rollout restart deploy/helloworld-v1").ok();
    until_it_answers(&cluster);
    let again = by_next(&format!("mesh upgrade mesh-1 --image {next_image}")).ok();
    assert!(again.err.contains("1 of 2 sidecars are older"), "{again:?}");

    // One that does not come up: said with its reason and the way back, and what ran goes on.
    let said = by_next("mesh upgrade mesh-1 --image example.invalid/none:1");
    assert_eq!(said.code, 3, "{said:?}");
    let way_back = format!(
        "mesh upgrade mesh-1 --context {} --version {next}",
        cluster.context
    );
    for part in [
        "ImagePull",
        "example.invalid/none:1",
        "go on meanwhile",
        &way_back,
    ] {
        assert!(said.err.contains(part), "{part}: {said:?}");
    }
    let deployment = cluster.json(&format!("get deploy catamaran-mesh-1 {SYSTEM}"));
    assert_eq!(deployment["status"]["readyReplicas"], 2);
    // One that is not what it is called.
    let said = by_next(&format!(
        "mesh upgrade mesh-1 --image {image} --timeout 40s"
    ));
    let lies = format!("the program in {image} is {ours}, not {next}");
    assert!(said.err.contains(&lies), "{said:?}");
    // Back leads to what ran, not to what did not come up.
    let way_back = format!("--version {next} --image {next_image}");
    assert!(said.err.contains(&way_back), "{said:?}");

    by_next(&format!(
        "mesh upgrade mesh-1 --version {ours} --image {image}"
    ))
    .ok();
    runs(&cluster, &ours, &image);
    let (made, failed) = calls.end(&cluster);
    println!("{made} calls, {} failed: {failed:?}", failed.len());
    assert!(failed.is_empty() && made > 100);

    own_program(&cluster);

    cluster.kubectl_with("delete -f -", &sample).ok();
    cluster
        .kubectl("label namespace default istio-injection-")
        .ok();
    cluster.catamaran("mesh delete mesh-1").ok();
    assert_eq!(cluster.objects(), before);
}

/// A kubeconfig whose user runs a program, as managed clusters have it.
fn own_program(cluster: &Cluster) {
    let config = cluster.json("config view --raw --minify --flatten");
    let user = &config["users"][0]["user"];
    let pem = |field: &str| {
        let data = user[field]
            .as_str()
            .expect("an administrator with a certificate");
        let said = Command::new("sh")
            .args(["-c", &format!("echo {data} | base64 -d")])
            .output();
        Said::of(said.expect("base64 is there")).ok().out
    };
    let credential = serde_json::json!({
        "apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential",
        "status": {
            "clientCertificateData": pem("client-certificate-data"), "clientKeyData": pem("client-key-data"),
        },
    });
    let place = cluster.roots.path();
    std::fs::write(place.join("credential"), credential.to_string()).expect("a file");
    let exec = |command: &str| {
        let own = serde_json::json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "own", "clusters": config["clusters"],
            "users": [{"name": "own", "user": {"exec": {
                "apiVersion": "client.authentication.k8s.io/v1", "command": "sh", "args": ["-c", command],
                "interactiveMode": "IfAvailable",
            }}}],
            "contexts": [{"name": "own", "context": {"cluster": config["clusters"][0]["name"], "user": "own"}}],
        });
        let file = place.join("own-kubeconfig");
        std::fs::write(&file, own.to_string()).expect("a file");
        let file = file.to_str().expect("UTF-8");
        let line = "mesh upgrade mesh-1 --dry-run -o yaml";
        cluster.catamaran_as(line, &["--context", "own", "--kubeconfig", file])
    };
    let file = place.join("credential");
    let said = exec(&format!("cat {}", file.display())).ok();
    assert!(said.out.contains("kind: Deployment"), "{said:?}");
    let said = exec("echo 'token has expired' >&2; exit 3");
    assert!(
        said.err.contains("CTM-K102")
            && said
                .err
                .contains("sh: it ended with exit status: 3 and wrote: token has expired"),
        "{said:?}"
    );
}
