//! One instance, two API servers: it runs at the one and manages the other too.

use std::collections::BTreeSet;

use super::*;

const MANAGER: &str = "system:serviceaccount:catamaran-system:catamaran-manager-mesh-1";

/// What a command said, and whether it was content.
pub(super) fn catamaran(line: &str, home: &ApiServer, three: Option<&ApiServer>) -> (bool, String) {
    let context = home.folder.file_name().unwrap();
    let mut command = Command::new(binary());
    command
        .args(line.split_whitespace())
        .arg("--kubeconfig")
        .arg(home.kubeconfig())
        .arg("--context")
        .arg(context)
        .env("NO_COLOR", "1");
    if let Some(three) = three {
        command.arg("--remote-kubeconfig").arg(three.kubeconfig());
    }
    let output = command.stdin(Stdio::null()).output().unwrap();
    let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
    (output.status.success(), said.concat())
}

/// Asks again until it is so.
fn until(what: &str, mut so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !so() {
        assert!(start.elapsed() < SOON, "not within {SOON:?}: {what}");
        std::thread::park_timeout(Duration::from_millis(200));
    }
}

/// Objects that are there because of us, by name.
fn ours(server: &ApiServer) -> BTreeSet<String> {
    let kinds = "serviceaccounts,roles,rolebindings,services,endpointslices,secrets,configmaps";
    let mut all = server.kubectl(&format!("-n catamaran-system get {kinds} -o name"), "");
    all += &server.kubectl(
        "get clusterroles,clusterrolebindings,mutatingwebhookconfigurations,crd -o name",
        "",
    );
    all += &server.kubectl("-n sample get configmaps -o name", "");
    let ours = all.lines().filter(|line| line.contains("catamaran"));
    ours.map(str::to_owned).collect()
}

const ADD: &str = "cluster add cluster-3 --mesh mesh-1 --network network3 --allow-loopback --control-plane-address 192.0.2.7:15012";

#[test]
fn an_instance_manages_a_cluster_beside_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let fleet = Fleet::empty();
    fleet.say("cluster create c1").ok();
    fleet.say("cluster create c2").ok();
    fleet.say("mesh create mesh-1 --cluster c1 --region r").ok();
    fleet
        .say("mesh create mesh-2 --cluster c2 --region r --reuse-root mesh-1")
        .ok();
    fleet.say("fleet down").ok();
    let cacerts = fleet.dir().join("clusters/c1/private/cacerts");
    let root = cacerts.join("root-cert.pem");

    let one = ApiServer::up(folder.path().join("one"));
    let three = ApiServer::up(folder.path().join("three"));
    one.furnish(1);
    three.furnish(3);
    let webhook = format!("127.0.0.1:{}", free_port());
    let more = ["--webhook", &webhook, "--sidecar-image", "catamaran:1"];
    let plane = Plane::start_with(&one, 1, &cacerts, &more);
    plane.until("it runs", |status| status["state"] == "running");

    // A cluster that has an instance of its own is refused, and nothing is left there.
    let before = ours(&three);
    let (good, said) = catamaran(ADD, &one, Some(&three));
    assert!(
        !good && said.contains("CTM-C106") && said.contains("mesh-3"),
        "{said}"
    );
    assert_eq!(ours(&three), before);
    three.kubectl(
        "delete crd meshes.catamaran.dev clusters.catamaran.dev meshexports.catamaran.dev",
        "",
    );
    three.kubectl("delete namespace catamaran-system", "");
    // The instance's own cluster under another name is too.
    let (good, said) = catamaran(ADD, &one, Some(&one));
    assert!(!good && said.contains("CTM-K105"), "{said}");

    let (good, said) = catamaran(ADD, &one, Some(&three));
    assert!(good, "{said}\n{}", plane.log());
    assert!(
        said.contains("it may do what managing needs, and nothing else"),
        "{said}"
    );
    let managed = |status: &Value| {
        let three = cluster(status, "cluster-3");
        // helloworld's, and where the control plane is
        three["mode"] == "managed" && three["freshness"] == "fresh" && three["endpoints"] == 2
    };
    plane.until("it is managed", managed);

    // Roots, the webhook and the instance's word are there, and the word is of that cluster.
    until("roots in all namespaces and the word", || {
        let roots = three.json("get configmaps -A -l catamaran.dev/config=true");
        let exports = three.json("-n catamaran-system get meshexports");
        // catamaran-system, default, sample
        roots["items"].as_array().unwrap().len() == 3
            && !exports["items"].as_array().unwrap().is_empty()
    });
    let word = three.json("-n catamaran-system get meshexport mesh-1");
    let own = one.json("-n catamaran-system get meshexport mesh-1");
    let uid = three.json("get namespace kube-system")["metadata"]["uid"].clone();
    assert_eq!(word["spec"]["cluster"], "cluster-3");
    assert_eq!(word["spec"]["clusterUid"], uid);
    assert_eq!(word["spec"]["network"], "network3");
    assert_eq!(word["spec"]["intermediates"], own["spec"]["intermediates"]);
    assert_ne!(word["spec"]["clusterUid"], own["spec"]["clusterUid"]);
    let hook = three.json("get mutatingwebhookconfiguration catamaran-sidecar-injector-mesh-1");
    let service = &hook["webhooks"][0]["clientConfig"]["service"];
    assert_eq!(service["path"], "/inject/cluster/cluster-3/by/revision");
    assert_eq!(service["name"], "catamaran-mesh-1");
    let slice = three.json("-n catamaran-system get endpointslice catamaran-mesh-1");
    assert_eq!(slice["endpoints"][0]["addresses"][0], "192.0.2.7");

    // Nobody else comes into that cluster, and the instance does not go away from it without a word.
    let (good, said) = catamaran(
        "mesh create mesh-9 --cluster cluster-9 --no-wait",
        &three,
        None,
    );
    assert!(
        !good && said.contains("CTM-C106") && said.contains("mesh-1"),
        "{said}"
    );
    let (good, said) = catamaran("mesh delete mesh-1", &one, None);
    assert!(
        !good && said.contains("manages cluster-3 from here"),
        "{said}"
    );

    let two = ApiServer::up(folder.path().join("two"));
    let theirs = fleet.dir().join("clusters/c2/private/cacerts");
    discovered_by_another(&two, &theirs, [&one, &three]);

    // A token counts in the cluster that is claimed, and nowhere else.
    let token =
        |server: &ApiServer| server.kubectl("-n sample create token sleep --audience istio-ca", "");
    let (own, other) = (token(&one), token(&three));
    let (signed, said) = sidecar_of("cluster-3", &plane, &root, &other);
    assert!(signed, "{said}");
    for (claimed, token) in [("cluster-1", &other), ("cluster-3", &own)] {
        let (signed, said) = sidecar_of(claimed, &plane, &root, token);
        let refused = !signed && said.contains("is not accepted");
        assert!(refused, "a token of another cluster for {claimed}: {said}");
    }
    let (signed, said) = sidecar_of("cluster-9", &plane, &root, &own);
    assert!(
        !signed && said.contains("of cluster-1, cluster-3"),
        "{said}"
    );

    // The other API server hangs: its cluster is stale and kept, its tokens count by its keys, and cluster-1 does not notice, also
    // when the control plane starts meanwhile.
    three.signal("STOP");
    let kept = |status: &Value| {
        let three = cluster(status, "cluster-3");
        let kept = three["mode"] == "managed" && three["endpoints"] == 2;
        kept && three["freshness"] == "stale" && status["ready"] == true
    };
    plane.until("it is stale and kept", kept);
    let (signed, said) = sidecar_of("cluster-3", &plane, &root, &other);
    assert!(signed, "{said}");
    assert!(plane.log().contains("checked with the keys it had"));
    let (signed, said) = sidecar(&plane, &root, &own);
    assert!(signed, "{said}");
    drop(plane);
    let plane = Plane::start_with(&one, 1, &cacerts, &more);
    plane.until("it is kept by the next one", kept);
    let (signed, said) = sidecar(&plane, &root, &own);
    assert!(signed, "{said}");
    three.signal("CONT");
    plane.until("it is fresh again", managed);

    // The own API server hangs: the other's tokens count all the same.
    one.signal("STOP");
    let (signed, said) = sidecar_of("cluster-3", &plane, &root, &other);
    one.signal("CONT");
    assert!(signed, "{said}");

    removed(&one, &three, &plane);
    let (signed, said) = sidecar_of("cluster-3", &plane, &root, &other);
    assert!(
        !signed && said.contains("signs for workloads of cluster-1;"),
        "{said}"
    );
    drop(plane);
    audited(&three);
}

/// Another instance of the same root discovers both clusters: each says itself who speaks for its workloads.
fn discovered_by_another(two: &ApiServer, cacerts: &Path, others: [&ApiServer; 2]) {
    two.furnish(2);
    let plane = Plane::start(two, 2, cacerts);
    let named = ["cluster-1", "cluster-3"];
    for (name, other) in named.iter().zip(others) {
        let add = format!("cluster add {name} --mesh mesh-2 --discovery-only --allow-loopback");
        let (good, said) = catamaran(&add, two, Some(other));
        assert!(good, "{said}");
    }
    let status = plane.until("both are of one instance", |status| {
        named.iter().all(|name| {
            let cluster = cluster(status, name);
            let issuers = cluster["intermediates"].as_array();
            cluster["mode"] == "discovery_only"
                && cluster["freshness"] == "fresh"
                && cluster["mesh"] == "mesh-1"
                && issuers.is_some_and(|issuers| issuers.len() == 1)
        })
    });
    let [first, third] = named.map(|name| &cluster(&status, name)["intermediates"]);
    assert_eq!(first, third);
    assert_ne!(first, &cluster(&status, "cluster-2")["intermediates"]);
    let said = status["problems"].to_string();
    assert!(!said.contains("duplicate_cluster"), "{said}");
    let remove = "cluster remove cluster-3 --mesh mesh-2";
    let (good, said) = catamaran(remove, two, Some(others[1]));
    assert!(good, "{said}");
}

fn removed(one: &ApiServer, three: &ApiServer, plane: &Plane) {
    let remove = "cluster remove cluster-3 --mesh mesh-1";
    let (good, said) = catamaran(remove, one, None);
    assert!(
        !good && said.contains("CTM-K112") && said.contains("--gone"),
        "{said}"
    );
    let (good, said) = catamaran(remove, one, Some(three));
    assert!(good, "{said}");
    let gone = |status: &Value| cluster(status, "cluster-3").is_null();
    plane.until("it is forgotten", gone);
    // What others may watch stays, and that alone.
    let left = ours(three);
    let definition = "customresourcedefinition.apiextensions.k8s.io/meshexports.catamaran.dev";
    assert_eq!(left, [definition.to_owned()].into(), "{said}");
    assert!(!ours(one).iter().any(|name| name.contains("cluster-3")));
}

/// What the instance did in the other cluster: what the manager's role says, and it never asked for more.
fn audited(three: &ApiServer) {
    let audit = std::fs::read_to_string(three.folder.join("audit.log")).unwrap();
    let mut wrote = BTreeSet::new();
    let mut seen = 0;
    for line in audit.lines() {
        let event: Value = serde_json::from_str(line).unwrap();
        if event["user"]["username"] != MANAGER {
            continue;
        }
        seen += 1;
        let (verb, on) = (event["verb"].as_str().unwrap(), &event["objectRef"]);
        let text = |field: &str| on[field].as_str().unwrap_or("none");
        let resource = text("resource");
        if ["get", "list", "watch"].contains(&verb) {
            // The one that it writes it may read before.
            let roots = (verb, text("name")) == ("get", "catamaran-ca-root-cert");
            assert!(
                resource != "secrets" && (resource != "configmaps" || roots),
                "{event:#}"
            );
            continue;
        }
        wrote.insert(match text("subresource") {
            "none" if resource.ends_with("reviews") => format!("{verb} {resource}"),
            "none" => format!("{verb} {resource} {}", text("name")),
            sub => format!("{verb} {resource}/{sub} {}", text("name")),
        });
    }
    let expected = [
        "create selfsubjectrulesreviews",
        "create tokenreviews",
        "patch configmaps catamaran-ca-root-cert",
        "patch meshexports mesh-1",
        "patch mutatingwebhookconfigurations catamaran-sidecar-injector-mesh-1",
    ];
    assert_eq!(wrote, expected.map(str::to_owned).into());
    assert!(seen > 5, "the audit log has {seen} requests of the manager");
}
