//! The verbs of people before two real clusters with nodes, which two contexts of `KUBECONFIG` name (an administrator's). Nothing of
//! ours may be in them, the image that `CATAMARAN_TEST_IMAGE` names and the sample's must be on their nodes, and they must reach each
//! other:
//!
//! ```text
//! cargo xtask build && for c in c1 c2; do cargo xtask cluster up $c; cargo xtask cluster load $c; done; cargo xtask cluster connect c1 c2
//! CATAMARAN_BIN=target/debug/catamaran CATAMARAN_TEST_CONTEXTS=c1,c2 CATAMARAN_TEST_IMAGE=catamaran.dev/catamaran:dev \
//!     KUBECONFIG=target/clusters/c1/kubeconfig:target/clusters/c2/kubeconfig cargo test -p catamaran-e2e --test contexts
//! ```
//! `CATAMARAN_KUBECTL` is kubectl, where that is not in the PATH.

use std::collections::{BTreeMap, BTreeSet};
use std::process::{Command, Stdio};

use catamaran_e2e::{Fleet, Said, binary};
use serde_json::Value;

fn var(name: &str) -> String {
    std::env::var(name)
        .unwrap_or_else(|_| panic!("{name} is not set; see the first lines of {}", file!()))
}

/// Two clusters, and a folder for roots.
struct Clusters {
    contexts: [String; 2],
    roots: tempfile::TempDir,
}

impl Clusters {
    fn named() -> Clusters {
        let said = var("CATAMARAN_TEST_CONTEXTS");
        let (one, two) = said.split_once(',').expect("two contexts");
        Clusters {
            contexts: [one.to_owned(), two.to_owned()],
            roots: tempfile::tempdir().expect("a folder"),
        }
    }

    fn catamaran(&self, line: &str) -> Said {
        let mut command = Command::new(binary());
        command
            .args(line.split_whitespace())
            .env("CATAMARAN_ROOTS", self.roots.path())
            .env("NO_COLOR", "1")
            .env_remove("CATAMARAN_FLEET")
            .stdin(Stdio::null());
        said(command)
    }

    /// Of both sides.
    fn both(&self, line: &str) -> Said {
        let [one, two] = &self.contexts;
        self.catamaran(&format!("{line} --context {one} --context {two}"))
    }

    fn kubectl(&self, n: usize, line: &str) -> String {
        let program = std::env::var("CATAMARAN_KUBECTL").unwrap_or_else(|_| "kubectl".into());
        let mut command = Command::new(program);
        command
            .args(["--context", &self.contexts[n]])
            .args(line.split_whitespace())
            .stdin(Stdio::null());
        said(command).ok().out
    }

    fn ours(&self, n: usize) -> String {
        let kinds = "ns,crd,clusterrole,clusterrolebinding,mutatingwebhookconfiguration";
        let all = self.kubectl(n, &format!("get {kinds} -o name"));
        let ours = all.lines().filter(|line| line.contains("catamaran"));
        ours.collect::<Vec<_>>().join(" ")
    }
}

fn said(mut command: Command) -> Said {
    let output = command.output().expect("the program starts");
    Said {
        code: output.status.code().unwrap_or(-1),
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// The fields of an answer: each path with the kinds of values that were there.
fn shape(value: &Value) -> BTreeMap<String, BTreeSet<&'static str>> {
    fn walk(path: &str, value: &Value, into: &mut BTreeMap<String, BTreeSet<&'static str>>) {
        let kind = match value {
            // What may be missing is null.
            Value::Null => {
                into.entry(path.into()).or_default();
                return;
            }
            Value::Bool(_) => "bool",
            Value::Number(_) => "number",
            Value::String(_) => "string",
            Value::Array(_) => "list",
            Value::Object(_) => "object",
        };
        into.entry(path.into()).or_default().insert(kind);
        match value {
            Value::Array(all) => all
                .iter()
                .for_each(|one| walk(&format!("{path}[]"), one, into)),
            Value::Object(fields) => fields
                .iter()
                .for_each(|(name, one)| walk(&format!("{path}.{name}"), one, into)),
            _ => {}
        }
    }
    let mut found = BTreeMap::new();
    walk("", value, &mut found);
    found
}

/// Fields that are left out when there is nothing to say.
const OPTIONAL: [&str; 5] = [".reason", ".stale_since", ".cause", ".fix", ".problems[]"];

/// Every field that one has the other has too, of the same kind.
fn same_shape(verb: &str, fleet: &Value, clusters: &Value) {
    let (fleet, clusters) = (shape(fleet), shape(clusters));
    for (one, other, whose) in [
        (&fleet, &clusters, "a fleet"),
        (&clusters, &fleet, "clusters"),
    ] {
        for (path, kinds) in one {
            if OPTIONAL
                .iter()
                .any(|name| path.ends_with(name) || path.contains(&format!("{name}.")))
            {
                continue;
            }
            let there = other.get(path);
            let there =
                there.unwrap_or_else(|| panic!("{verb}: {path} is only in that of {whose}"));
            let known = !kinds.is_empty() && !there.is_empty();
            assert!(
                !known || kinds == there,
                "{verb}: {path}: {kinds:?} and {there:?}"
            );
        }
    }
}

/// A fleet of two instances, each of which discovers the other, on this machine.
fn a_fleet() -> Fleet {
    let fleet = Fleet::empty();
    for line in [
        "cluster create cluster-1 --isolation process",
        "cluster create cluster-2",
        "mesh create mesh-1 --cluster cluster-1 --region region-1",
        "mesh create mesh-2 --cluster cluster-2 --region region-2 --reuse-root mesh-1",
        "cluster add cluster-2 --mesh mesh-1 --discovery-only",
        "cluster add cluster-1 --mesh mesh-2 --discovery-only",
        "network set --mesh mesh-1 cluster-1=network1,gateway cluster-2=network2",
        "network set --mesh mesh-2 cluster-2=network2,gateway cluster-1=network1",
    ] {
        fleet.say(line).ok();
    }
    fleet
}

#[test]
fn the_demo_plays_and_every_verb_shows_two_clusters_as_it_shows_a_fleet() {
    let clusters = Clusters::named();
    let image = var("CATAMARAN_TEST_IMAGE");
    let before = [clusters.ours(0), clusters.ours(1)];
    assert_eq!(before, ["", ""]);

    let played = clusters
        .both(&format!("demo --keep --image {image} -o json"))
        .ok();
    let report = played.json();
    assert_eq!(report["held"], true, "{report}");
    for cluster in ["cluster-1", "cluster-2"] {
        let versions = report["tally"][cluster].as_object().expect("a tally");
        assert_eq!(
            versions.keys().collect::<Vec<_>>(),
            ["v1", "v2"],
            "{report}"
        );
        let answers: i64 = versions.values().filter_map(Value::as_i64).sum();
        assert_eq!(answers, 10);
    }
    assert!(
        report["gateway_calls"]
            .as_i64()
            .is_some_and(|crossed| crossed > 0)
    );
    // What a person would type is said, and works: it refuses what is there now.
    assert!(
        played
            .err
            .contains("$ catamaran mesh create mesh-2 --context")
    );
    let again = clusters.both(&format!("demo --once --image {image}"));
    assert_eq!(again.code, 3);
    assert!(
        again.out.contains("has the instance mesh-1 already"),
        "{again:?}"
    );
    let running = clusters.both("mesh list -o json").ok().json();
    assert_eq!(
        running.as_array().map(Vec::len),
        Some(2),
        "it touched nothing"
    );

    shapes(&clusters);
    looks(&clusters);
    with_few_rights(&clusters);
    findings(&clusters);
    renewed(&clusters);

    for (n, mesh, other, cluster) in [(0, "mesh-1", 1, "cluster-2"), (1, "mesh-2", 0, "cluster-1")]
    {
        clusters.kubectl(n, "delete namespace catamaran-demo");
        let (own, there) = (&clusters.contexts[n], &clusters.contexts[other]);
        let remove = format!(
            "cluster remove {cluster} --mesh {mesh} --context {own} --remote-context {there}"
        );
        clusters.catamaran(&remove).ok();
    }
    for (n, mesh) in [(0, "mesh-1"), (1, "mesh-2")] {
        let own = &clusters.contexts[n];
        clusters
            .catamaran(&format!("mesh delete {mesh} --context {own}"))
            .ok();
    }
    assert_eq!([clusters.ours(0), clusters.ours(1)], before);

    // Ending by itself it leaves nothing.
    clusters.both(&format!("demo --once --image {image}")).ok();
    assert_eq!([clusters.ours(0), clusters.ours(1)], before);
}

fn shapes(clusters: &Clusters) {
    let fleet = a_fleet();
    for verb in [
        "status",
        "mesh list",
        "mesh show mesh-1",
        "cluster list",
        "proxy list",
        "trust show",
    ] {
        let line = format!("{verb} -o json");
        let local = fleet.say(&line).ok().json();
        same_shape(verb, &local, &clusters.both(&line).ok().json());
    }
    // A fleet without workloads may have something that does not hold.
    let local = fleet.say("check -o json").json();
    let there = clusters.both("check --probe -o json").ok().json();
    same_shape("check", &local, &there);
    let ids = |report: &Value| -> BTreeSet<String> {
        let checks = report["checks"].as_array().expect("checks");
        checks
            .iter()
            .filter_map(|check| Some(check["id"].as_str()?.to_owned()))
            .collect()
    };
    let common = [
        "same-root",
        "chains-verify",
        "certificates-live",
        "instances-run",
        "watch-fresh",
        "gateways-known",
        "no-plaintext",
    ];
    for id in common {
        assert!(ids(&local).contains(id) && ids(&there).contains(id), "{id}");
    }
}

fn looks(clusters: &Clusters) {
    let [one, two] = &clusters.contexts;
    let checked = clusters.both("check --probe --strict").ok().out;
    assert!(
        checked.contains("gateways probed from cluster-1 and cluster-2"),
        "{checked}"
    );
    let proxies = clusters.both("proxy list -o json").ok().json();
    let proxies = proxies.as_array().expect("proxies");
    assert!(
        proxies.iter().all(|proxy| proxy["state"] == "current"),
        "{proxies:?}"
    );
    for role in ["sidecar", "gateway"] {
        let proxy = proxies
            .iter()
            .find(|proxy| proxy["role"] == role && proxy["cluster"] == "cluster-1");
        let proxy = proxy.expect("one of each");
        let name = format!(
            "cluster-1/{}/{}",
            proxy["namespace"].as_str().expect("text"),
            proxy["pod"].as_str().expect("text")
        );
        for what in ["listeners", "clusters", "certs"] {
            let config = clusters.both(&format!("proxy config {name} {what}")).ok();
            assert!(config.json().is_object(), "{name} {what}");
        }
    }
    let unknown = clusters.both("proxy config nobody certs");
    assert!(unknown.err.contains("CTM-P101"), "{unknown:?}");
    let verify =
        "verify helloworld:5000/hello --namespace catamaran-demo --from deploy/sleep -o json";
    let tally = clusters
        .catamaran(&format!("{verify} --context {two}"))
        .ok()
        .json();
    assert_eq!(
        (
            &tally["ok"],
            tally["versions"].as_object().map(|all| all.len())
        ),
        (&10.into(), Some(2))
    );
    // One side alone knows of the other what its own instance knows.
    let alone = clusters
        .catamaran(&format!("cluster list -o json --context {one}"))
        .ok()
        .json();
    let states: Vec<&str> = alone
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|row| row["state"].as_str())
        .collect();
    assert_eq!(states, ["running", "not asked"]);
    assert_eq!(alone[1]["managed_by"], "mesh-2");
}

/// Who may only look at objects is shown those, and told which right would show more.
fn with_few_rights(clusters: &Clusters) {
    let context = &clusters.contexts[0];
    clusters.kubectl(0, "create sa looker -n catamaran-demo");
    clusters.kubectl(0, "create clusterrolebinding catamaran-looker --clusterrole=view --serviceaccount=catamaran-demo:looker");
    let kinds = "meshes.catamaran.dev,clusters.catamaran.dev,meshexports.catamaran.dev";
    clusters.kubectl(
        0,
        &format!("create clusterrole catamaran-looker --verb=get,list --resource={kinds}"),
    );
    clusters.kubectl(0, "create clusterrolebinding catamaran-looker-2 --clusterrole=catamaran-looker --serviceaccount=catamaran-demo:looker");
    let token = clusters.kubectl(0, "create token looker -n catamaran-demo");
    let config: Value =
        serde_json::from_str(&clusters.kubectl(0, "config view --raw --minify --flatten -o json"))
            .expect("JSON");
    let looker = serde_json::json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "looker", "clusters": config["clusters"],
        "users": [{"name": "looker", "user": {"token": token.trim()}}],
        "contexts": [{"name": "looker", "context": {"cluster": config["clusters"][0]["name"], "user": "looker"}}],
    });
    let file = clusters.roots.path().join("looker");
    std::fs::write(&file, looker.to_string()).expect("a file");
    let who = format!("--context looker --kubeconfig {}", file.display());
    let right = "get and create pods/portforward in catamaran-system";
    let listed = clusters.catamaran(&format!("mesh list -o json {who}")).ok();
    assert!(listed.err.contains(right), "{listed:?}");
    let row = &listed.json()[0];
    assert_eq!(
        (&row["name"], &row["state"]),
        (&"mesh-1".into(), &"running".into())
    );
    assert_eq!(row["proxies"], Value::Null);
    let pod = clusters.kubectl(
        0,
        "get pods -n catamaran-demo -o jsonpath={.items[0].metadata.name}",
    );
    let refused = clusters.catamaran(&format!("proxy config {pod} certs {who}"));
    assert!(
        refused.err.contains("CTM-K107")
            && refused.err.contains("pods/portforward in catamaran-demo"),
        "{refused:?}"
    );
    let refused = clusters.catamaran(&format!(
        "verify helloworld:5000/hello --namespace catamaran-demo --from pod/{pod} {who}"
    ));
    assert!(
        refused.err.contains("pods/exec in catamaran-demo"),
        "{refused:?}"
    );
    // Nothing that is skipped is green.
    let checked = clusters.catamaran(&format!("check {who}"));
    assert!(
        checked.out.contains("proxies-current        skipped"),
        "{checked:?}"
    );
    clusters.kubectl(
        0,
        &format!("--context {context} delete clusterrole catamaran-looker"),
    );
    clusters.kubectl(
        0,
        "delete clusterrolebinding catamaran-looker catamaran-looker-2",
    );
}

/// What goes wrong is found, by the name of the check.
fn findings(clusters: &Clusters) {
    let wrong = |id: &str| {
        let report = clusters.both("check -o json").json();
        let checks = report["checks"].as_array().cloned().unwrap_or_default();
        let check = checks
            .into_iter()
            .find(|check| check["id"] == id)
            .expect("the check is there");
        (
            check["verdict"].as_str().expect("a verdict").to_owned(),
            check["seen"].as_str().expect("text").to_owned(),
        )
    };
    // A pod that is older than the label of its namespace, and a port that does not say what is spoken.
    clusters.kubectl(0, "create namespace catamaran-late");
    let image = "docker.io/curlimages/curl:8.1.2";
    clusters.kubectl(
        0,
        &format!("run early -n catamaran-late --image={image} --command -- sleep 600"),
    );
    clusters.kubectl(
        0,
        "create service clusterip silent -n catamaran-late --tcp=9000",
    );
    clusters.kubectl(0, "label namespace catamaran-late istio-injection=enabled");
    let (verdict, seen) = wrong("no-plaintext");
    assert!(
        verdict == "warn" && seen.contains("catamaran-late/early"),
        "{seen}"
    );
    let (verdict, seen) = wrong("ports-named");
    assert!(
        verdict == "warn" && seen.contains("catamaran-late/silent:9000"),
        "{seen}"
    );
    clusters.kubectl(0, "delete namespace catamaran-late --grace-period=0");
    // A control plane that does not come.
    clusters.kubectl(
        1,
        "scale deploy/catamaran-mesh-2 -n catamaran-system --replicas=0",
    );
    clusters.kubectl(
        1,
        "wait pod -n catamaran-system -l app=catamaran --for=delete --timeout=60s",
    );
    let (verdict, seen) = wrong("instances-run");
    assert!(
        verdict == "fail" && seen.contains("mesh-2 unreachable"),
        "{seen}"
    );
    clusters.kubectl(
        1,
        "scale deploy/catamaran-mesh-2 -n catamaran-system --replicas=2",
    );
    clusters.kubectl(
        1,
        "rollout status deploy/catamaran-mesh-2 -n catamaran-system --timeout=120s",
    );
}

/// A new intermediate comes without a restart, and no call fails meanwhile.
fn renewed(clusters: &Clusters) {
    let [one, two] = &clusters.contexts;
    let intermediate = || {
        let rows = clusters
            .catamaran(&format!("trust show mesh-2 -o json --context {two}"))
            .ok()
            .json();
        let mut rows = rows.as_array().cloned().unwrap_or_default().into_iter();
        rows.find(|row| row["role"] == "intermediate").expect("one")["fingerprint"].clone()
    };
    let before = intermediate();
    clusters
        .catamaran(&format!("trust renew mesh-2 --context {two}"))
        .ok();
    let exported = || {
        let text = clusters.kubectl(1, "get meshexport mesh-2 -n catamaran-system -o json");
        let export: Value = serde_json::from_str(&text).expect("JSON");
        export["spec"]["intermediates"].clone()
    };
    let known = exported();
    let known = known.as_array().expect("a list");
    assert!(known.len() >= 2 && known.contains(&before), "{known:?}");
    assert_eq!(intermediate(), before, "peers hear of it before it signs");
    let verify =
        "verify helloworld:5000/hello --namespace catamaran-demo --from deploy/sleep -o json";
    let start = std::time::Instant::now();
    while intermediate() == before {
        assert!(start.elapsed().as_secs() < 240, "it never signs");
        let tally = clusters
            .catamaran(&format!("{verify} --context {two}"))
            .ok()
            .json();
        assert_eq!(tally["failed"], 0);
    }
    // A pod that comes now has a certificate of the new one, and the other side believes it.
    clusters.kubectl(1, "rollout restart deploy/sleep -n catamaran-demo");
    clusters.kubectl(
        1,
        "rollout status deploy/sleep -n catamaran-demo --timeout=120s",
    );
    let tally = clusters
        .catamaran(&format!("{verify} --context {two}"))
        .ok()
        .json();
    assert_eq!(
        (
            &tally["failed"],
            tally["versions"].as_object().map(|all| all.len())
        ),
        (&0.into(), Some(2))
    );
    // Of an authority that somebody else brought it keeps its hands.
    clusters.kubectl(
        0,
        "label secret cacerts -n catamaran-system catamaran.dev/mesh-",
    );
    let refused = clusters.catamaran(&format!("trust renew mesh-1 --context {one}"));
    assert!(refused.err.contains("CTM-K110"), "{refused:?}");
    clusters.kubectl(
        0,
        "label secret cacerts -n catamaran-system catamaran.dev/mesh=mesh-1",
    );
}
