//! What people look at by contexts, on two real API servers without a node: objects whose status is said by hand, as a control
//! plane says it, and nobody who could be asked beside them.

use catamaran_operate::{
    CheckReport, Contact, MeshState, Verdict, check_contexts, context_clusters, context_mesh,
    context_meshes, context_proxies, context_status, context_trust,
};
use serde_json::json;

use super::{Server, home, kubectl_with, mesh, object, program};

const ROOTS: [&str; 2] = [
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb",
];

fn export(n: usize, root: &str) -> serde_json::Value {
    let spec = json!({
        "cluster": format!("cluster-{n}"), "clusterUid": format!("uid-{n}"), "version": "0.1.0", "network": format!("network{n}"),
        "gateways": [format!("198.18.0.{n}:15443")], "roots": [root], "intermediates": [],
    });
    object("MeshExport", &format!("mesh-{n}"), spec)
}

fn says(server: &Server, kind: &str, name: &str, status: serde_json::Value) {
    let patch = json!({"status": status}).to_string();
    let args = [
        "patch",
        kind,
        name,
        "-n",
        "catamaran-system",
        "--subresource=status",
        "--type=merge",
        "-p",
        &patch,
    ];
    server.kubectl(&args);
}

fn ready(message: &str) -> serde_json::Value {
    json!({"phase": "Ready", "versions": ["0.1.0"], "proxies": 2, "conditions": [
        {"type": "Ready", "status": "True", "reason": "AsWanted", "message": message, "lastTransitionTime": "2026-01-01T00:00:00Z"},
    ]})
}

fn found<'a>(report: &'a CheckReport, id: &str) -> &'a catamaran_operate::Check {
    let mut checks = report.checks.iter();
    checks.find(|check| check.id == id).unwrap()
}

#[tokio::test]
async fn what_objects_say_is_shown_and_checked_and_a_silent_side_costs_only_its_own() {
    let (one, two) = (home("look-1"), home("look-2"));
    two.kubectl(&["delete", "mesh,cluster", "--all", "-n", "catamaran-system"]);
    two.apply(&object("Mesh", "mesh-2", json!({"region": "region-2"})));
    two.apply(&object(
        "Cluster",
        "cluster-2",
        json!({"mode": "Managed", "network": "network2"}),
    ));
    one.apply(&object(
        "Cluster",
        "cluster-1",
        json!({"mode": "Managed", "network": "network1"}),
    ));
    one.apply(&object(
        "Cluster",
        "cluster-2",
        json!({"mode": "DiscoveryOnly", "network": "network2", "secret": "istio-remote-secret-cluster-2"}),
    ));
    one.apply(&export(1, ROOTS[0]));
    two.apply(&export(2, ROOTS[1]));
    // Of a cluster that is gone the kubeconfig is still there.
    let file = one.path().join("two.kubeconfig");
    std::fs::copy(two.file(), &file).unwrap();
    let there = Contact {
        files: vec![file],
        context: Some("look-2".into()),
    };
    let both = [one.contact(), there];

    // Control planes are nowhere: their instances are there, and do not answer.
    let heard = context_meshes(&both).await.unwrap();
    let states: Vec<_> = heard
        .rows
        .iter()
        .map(|row| (row.name.as_str(), row.state))
        .collect();
    assert_eq!(
        states,
        [
            ("mesh-1", MeshState::Unreachable),
            ("mesh-2", MeshState::Unreachable)
        ]
    );
    assert!(heard.rows[0].reason.contains("it has no pod"), "{heard:?}");

    // A person who may read our kinds and no more sees what objects say.
    says(&one, "mesh", "mesh-1", ready("all is told and taken"));
    says(
        &one,
        "cluster.catamaran.dev",
        "cluster-2",
        json!({"phase": "Degraded", "services": 3, "endpoints": 5, "credentialExpires": "2026-01-01T00:00:00Z",
               "freshness": {"state": "Stale", "since": "2026-01-02T03:04:05Z", "reason": "its API server is silent"}}),
    );
    let weak = weak(&one);
    let heard = context_meshes(std::slice::from_ref(&weak)).await.unwrap();
    let row = &heard.rows[0];
    assert_eq!(
        (row.state, row.manages.as_str()),
        (MeshState::Running, "cluster-1")
    );
    assert_eq!((row.version.as_deref(), row.proxies), (Some("0.1.0"), None));
    assert_eq!(row.roots, [ROOTS[0]]);
    let known = row
        .clusters
        .iter()
        .find(|member| member.name == "cluster-2")
        .unwrap();
    assert_eq!(known.freshness.as_deref(), Some("stale"));
    assert_eq!(known.stale_since.as_deref(), Some("2026-01-02T03:04:05Z"));
    assert_eq!((known.services, known.endpoints), (Some(3), Some(5)));
    assert!(
        heard.silent[0].contains("the context may not list pods in catamaran-system"),
        "{heard:?}"
    );
    let (shown, _) = context_mesh(&[weak.clone()], &mesh()).await.unwrap();
    assert_eq!(shown.name, "mesh-1");

    // What it may not read is skipped with the right that is missing, and never green.
    let report = check_contexts(&[weak], false).await.unwrap();
    let skipped = found(&report, "no-plaintext");
    assert_eq!(skipped.verdict, Verdict::Skip);
    assert!(skipped.seen.contains("list namespaces"), "{skipped:?}");

    // Both sides: another root, one that does not discover the other, an ended credential, a stale cluster, no webhook.
    let report = check_contexts(&both, false).await.unwrap();
    let failed = |id: &str, words: &str| {
        let check = found(&report, id);
        assert_eq!(check.verdict, Verdict::Fail, "{check:?}");
        assert!(check.seen.contains(words), "{check:?}");
    };
    failed("same-root", "aa:aa…aa");
    failed("each-other", "mesh-2 does not discover cluster-1");
    failed(
        "credentials-live",
        "mesh-1→cluster-2 ended at 2026-01-01T00:00:00Z",
    );
    failed("instances-run", "mesh-1 unreachable");
    failed("webhook", "cluster-1 does not ask mesh-1");
    assert_eq!(found(&report, "clusters-run").verdict, Verdict::Pass);
    assert_eq!(found(&report, "namespaces-injected").verdict, Verdict::Warn);

    // A namespace with a label, a pod that is older, and a port that says nothing.
    one.kubectl(&["label", "namespace", "default", "istio-injection=enabled"]);
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "old", "namespace": "default"},
        "spec": {"automountServiceAccountToken": false, "containers": [{"name": "app", "image": "app:1"}]},
    });
    one.kubectl(&[
        "wait",
        "--for=create",
        "serviceaccount/default",
        "--timeout=30s",
    ]);
    one.apply(&pod);
    one.apply(&json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "db", "namespace": "default"},
        "spec": {"ports": [{"name": "db", "port": 5432}, {"name": "http", "port": 80}]},
    }));
    let report = check_contexts(&both, false).await.unwrap();
    let plain = found(&report, "no-plaintext");
    assert!(
        plain.verdict == Verdict::Warn && plain.seen.contains("default/old"),
        "{plain:?}"
    );
    let ports = found(&report, "ports-named");
    assert!(
        ports.verdict == Verdict::Warn && ports.seen == "in cluster-1: default/db:5432",
        "{ports:?}"
    );

    let clusters = context_clusters(&both).await.unwrap().rows;
    let line = |row: &catamaran_operate::ClusterRow| {
        format!(
            "{} {} {:?} {:?} {}",
            row.name, row.state, row.managed_by, row.discovered_by, row.pods
        )
    };
    assert_eq!(
        clusters.iter().map(line).collect::<Vec<_>>(),
        [
            "cluster-1 running Some(\"mesh-1\") [] 1",
            "cluster-2 running Some(\"mesh-2\") [\"mesh-1\"] 0"
        ]
    );
    assert!(context_proxies(&both).await.unwrap().rows.is_empty());
    assert!(context_trust(&both, None).await.unwrap().silent.len() >= 2);

    // Nobody's Secret was read for it, and nothing was written.
    for server in [&one, &two] {
        let asked = server.by_us();
        assert!(!asked.is_empty());
        for event in asked {
            let (verb, what) = (&event["verb"], &event["objectRef"]["resource"]);
            assert!(what != "secrets", "{event}");
            assert!(verb == "get" || verb == "list", "{event}");
        }
    }

    // One cluster under two contexts is a mistake; a side that is silent is not.
    let twice = context_status(&[one.contact(), one.contact()])
        .await
        .unwrap_err();
    assert!(twice.to_string().contains("the same cluster"), "{twice}");
    assert!(
        std::process::Command::new(program())
            .arg("down")
            .arg(two.path())
            .status()
            .unwrap()
            .success()
    );
    let status = context_status(&both).await.unwrap();
    assert_eq!(status.meshes.len(), 1);
    assert!(
        status
            .problems
            .iter()
            .any(|row| row.kind == "unreachable" && row.object == "context look-2"),
        "{status:?}"
    );
    let silent = context_meshes(&both[1..]).await.unwrap_err();
    assert_eq!(silent.class().exit_code(), 5);
}

/// Somebody who may read our kinds, and nothing else.
fn weak(server: &Server) -> Contact {
    server.kubectl(&["create", "sa", "weak", "-n", "catamaran-system"]);
    let role = [
        "create",
        "role",
        "weak",
        "-n",
        "catamaran-system",
        "--verb=get,list",
        "--resource=meshes.catamaran.dev,clusters.catamaran.dev,meshexports.catamaran.dev",
    ];
    server.kubectl(&role);
    let binding = [
        "create",
        "rolebinding",
        "weak",
        "-n",
        "catamaran-system",
        "--role=weak",
        "--serviceaccount=catamaran-system:weak",
    ];
    server.kubectl(&binding);
    let token = server.kubectl(&["create", "token", "weak", "-n", "catamaran-system"]);
    let config = server.kubectl(&[
        "config",
        "view",
        "--raw",
        "--minify",
        "--flatten",
        "-o",
        "json",
    ]);
    let config: serde_json::Value = serde_json::from_str(&config).unwrap();
    let weak = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "weak", "clusters": config["clusters"],
        "users": [{"name": "weak", "user": {"token": token.trim()}}],
        "contexts": [{"name": "weak", "context": {"cluster": config["clusters"][0]["name"], "user": "weak"}}],
    });
    let file = server.path().join("weak.kubeconfig");
    std::fs::write(&file, weak.to_string()).unwrap();
    // Rights that were just granted count a moment later.
    for _ in 0..50 {
        let may = [
            "auth",
            "can-i",
            "list",
            "meshes.catamaran.dev",
            "-n",
            "catamaran-system",
        ];
        if kubectl_with(&file, &may, "").0 {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    Contact {
        files: vec![file],
        context: Some("weak".into()),
    }
}
