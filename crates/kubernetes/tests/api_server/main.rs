//! The room before a real API server, which `CATAMARAN_TEST_KUBECONFIG` names (the kubeconfig of an administrator), written to with
//! `kubectl`. `cargo xtask cluster up NAME --only api --audit` makes one.
//!
//! `CATAMARAN_TEST_CLUSTERS` is the program that made it, for the test in which the API server crashes. Without these the tests fail.

#[allow(dead_code, reason = "shared with the scripted server's tests")]
#[path = "../kubernetes/live.rs"]
mod live;
#[allow(dead_code, reason = "shared with the scripted server's tests")]
#[path = "../kubernetes/server.rs"]
mod server;

use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use catamaran_kubernetes::connect::Access;
use catamaran_kubernetes::kubeconfig::Kubeconfig;
use catamaran_kubernetes::reader;
use catamaran_kubernetes::remote::REMOTE_SECRET_LABEL;
use catamaran_kubernetes::rights::{self, Rights};
use catamaran_kubernetes::token;
use catamaran_kubernetes::watch::Reads;
use catamaran_kubernetes::{Pace, crd};
use catamaran_model::{ClusterId, Credential, MeshName, Namespace, ServiceAccount};
use catamaran_registry::Freshness;
use serde_json::{Value, json};

use crate::live::{ALLOWED, Live, endpoints, freshness};

fn kubeconfig() -> PathBuf {
    let named = std::env::var_os("CATAMARAN_TEST_KUBECONFIG");
    named
        .expect("CATAMARAN_TEST_KUBECONFIG names no kubeconfig; cargo xtask cluster up NAME --only api --audit makes one")
        .into()
}

fn config() -> Kubeconfig {
    let text = std::fs::read_to_string(kubeconfig()).unwrap();
    Kubeconfig::read(&text, ALLOWED).unwrap()
}

fn admin() -> Access {
    Access::new(&config(), ALLOWED).unwrap()
}

/// Runs kubectl; gives what it said and whether it was content.
fn try_kubectl(args: &[&str], input: &str) -> (bool, String) {
    let mut child = Command::new("kubectl")
        .arg("--kubeconfig")
        .arg(kubeconfig())
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("kubectl is in the PATH");
    child
        .stdin
        .take()
        .unwrap()
        .write_all(input.as_bytes())
        .unwrap();
    let output = child.wait_with_output().unwrap();
    let said =
        [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    (output.status.success(), said.concat())
}

fn kubectl(args: &[&str]) -> String {
    let (good, said) = try_kubectl(args, "");
    assert!(good, "kubectl {args:?}: {said}");
    said
}

fn apply(object: &Value) {
    let (good, said) = try_kubectl(&["apply", "-f", "-"], &object.to_string());
    assert!(good, "{object}: {said}");
}

fn refused(object: &Value, why: &str) {
    let (good, said) = try_kubectl(&["apply", "-f", "-"], &object.to_string());
    assert!(!good && said.contains(why), "{object}: {said}, not {why}");
}

fn definitions() {
    let (good, said) = try_kubectl(&["apply", "-f", "-"], &crd::yaml());
    assert!(good, "{said}");
    for definition in crd::definitions() {
        let name = format!("crd/{}", definition.metadata.name.unwrap());
        kubectl(&[
            "wait",
            "--for=condition=Established",
            &name,
            "--timeout=30s",
        ]);
    }
    let system =
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "catamaran-system"}});
    apply(&system);
}

fn ours(kind: &str, name: &str, spec: Value) -> Value {
    json!({"apiVersion": "catamaran.dev/v1alpha1", "kind": kind, "metadata": {"namespace": "catamaran-system", "name": name}, "spec": spec})
}

/// A namespace of its own, that goes with the test.
struct Own(&'static str);

impl Own {
    fn new(name: &'static str) -> Own {
        try_kubectl(
            &["delete", "namespace", name, "--wait", "--timeout=60s"],
            "",
        );
        apply(
            &json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": {"istio-injection": "enabled"}}}),
        );
        // Its default service account comes a moment later, and pods need it.
        for _ in 0..100 {
            if try_kubectl(&["get", "serviceaccount", "default", "-n", name], "").0 {
                return Own(name);
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        panic!("no service account in {name}");
    }

    fn service(&self) -> Value {
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"namespace": self.0, "name": "hello"},
               "spec": {"ports": [{"name": "http", "port": 5000}]}})
    }

    fn pod(&self, name: &str) -> Value {
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"namespace": self.0, "name": name, "labels": {"app": "hello", "security.istio.io/tlsMode": "istio"}},
               "spec": {"containers": [{"name": "c", "image": "hello:1"}]}})
    }

    fn slice(&self, pods: &[(&str, &str)]) -> Value {
        let endpoints: Vec<Value> = (pods.iter())
            .map(|(pod, ip)| json!({"addresses": [ip], "conditions": {"ready": true}, "targetRef": {"kind": "Pod", "namespace": self.0, "name": pod}}))
            .collect();
        json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "metadata": {"namespace": self.0, "name": "hello-1", "labels": {"kubernetes.io/service-name": "hello"}},
               "addressType": "IPv4", "ports": [{"name": "http", "port": 5000}], "endpoints": endpoints})
    }

    fn at(&self, ip: &str) -> String {
        format!("{}/hello {ip}", self.0)
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        try_kubectl(&["delete", "namespace", self.0, "--wait=false"], "");
    }
}

/// An API server takes longer than a scripted one, above all on a busy machine.
fn pace() -> Pace {
    Pace {
        page: 20,
        settled: Duration::from_millis(200),
        pause: Duration::from_millis(100),
        longest: Duration::from_secs(1),
        absent: Duration::from_secs(1),
        ..Pace::default()
    }
}

/// The reader of an instance, made by the administrator; gives its way in and its name there.
async fn reader_of(mesh: &str) -> (Access, String) {
    let mesh = MeshName::new(mesh).unwrap();
    let mut made = Vec::new();
    reader::install(&admin(), &mesh, |step| made.push(step.to_owned()))
        .await
        .unwrap();
    assert_eq!(made.len(), 6, "{made:?}");
    let granted = reader::first_token(&admin(), &mesh).await.unwrap();
    assert!(granted.life() >= Duration::from_secs(600), "{granted:?}");
    println!("the API server grants a life of {:?}", granted.life());
    let (config, cluster) = (config(), ClusterId::new("cluster-2").unwrap());
    let text = reader::kubeconfig(&cluster, &config.server, &config.ca, &granted);
    let read = Kubeconfig::read(&text, ALLOWED).unwrap();
    (
        Access::new(&read, ALLOWED).unwrap(),
        format!(
            "system:serviceaccount:catamaran-system:{}",
            reader::account(&mesh)
        ),
    )
}

#[tokio::test]
async fn the_definitions_refuse_what_means_nothing() {
    definitions();
    // Applied again, nothing is different.
    let (_, said) = try_kubectl(&["apply", "-f", "-"], &crd::yaml());
    assert_eq!(said.matches("unchanged").count(), 3, "{said}");
    refused(
        &ours(
            "Cluster",
            "r1",
            json!({"mode": "DiscoveryOnly", "gateway": true}),
        ),
        "which is done in managed clusters only",
    );
    refused(
        &ours(
            "Cluster",
            "r1",
            json!({"mode": "Managed", "folder": "a", "secret": "b"}),
        ),
        "folder and secret exclude each other",
    );
    refused(
        &ours("Cluster", "r1", json!({"mode": "managed"})),
        "supported values: \"Managed\", \"DiscoveryOnly\"",
    );
    refused(
        &ours("Cluster", "r1", json!({"network": "n"})),
        "spec.mode: Required value",
    );
    refused(
        &ours(
            "Cluster",
            "r1",
            json!({"mode": "Managed", "gatewayAddresses": ["lb.example.com:15443"]}),
        ),
        "gatewayAddresses[0]",
    );
    refused(
        &ours("Mesh", "bad.name", json!({})),
        "a mesh name has at most 63",
    );
    refused(&ours("Mesh", "m", json!({"region": "-"})), "spec.region");
    refused(
        &ours("Mesh", "m", json!({"mtls": "Off"})),
        "supported values: \"Strict\", \"Permissive\"",
    );
    refused(
        &ours(
            "MeshExport",
            "m",
            json!({"cluster": "c", "clusterUid": "u", "version": "1", "roots": ["zz"]}),
        ),
        "spec.roots[0]",
    );
    apply(&ours(
        "Mesh",
        "test-mesh",
        json!({"region": "region-a", "trustDomain": "a.example.com"}),
    ));
    refused(
        &ours(
            "Mesh",
            "test-mesh",
            json!({"region": "region-a", "trustDomain": "b.example.com"}),
        ),
        "cannot change",
    );
    apply(&ours(
        "Cluster",
        "test-cluster",
        json!({"mode": "DiscoveryOnly", "network": "network2", "gatewayAddresses": ["198.18.0.5:15443", "[fd00::1]:443"], "secret": "istio-system/x"}),
    ));
    let status = json!({"status": {"phase": "Degraded", "services": 3, "endpoints": 7,
        "freshness": {"state": "Stale", "since": "2026-01-01T00:00:00Z", "reason": "its API server cannot be reached"},
        "conditions": [{"type": "Ready", "status": "False", "reason": "Unreachable", "message": "m", "lastTransitionTime": "2026-01-01T00:00:00Z"}]}});
    kubectl(&[
        "patch",
        "-n",
        "catamaran-system",
        "clusters.catamaran.dev",
        "test-cluster",
        "--subresource=status",
        "--type=merge",
        "-p",
        &status.to_string(),
    ]);
    let table = kubectl(&[
        "get",
        "-n",
        "catamaran-system",
        "clusters.catamaran.dev",
        "test-cluster",
        "-o",
        "wide",
    ]);
    for column in [
        "MODE",
        "FRESHNESS",
        "Stale",
        "Degraded",
        "network2",
        "its API server cannot be reached",
    ] {
        assert!(table.contains(column), "{table}");
    }
    kubectl(&[
        "delete",
        "-n",
        "catamaran-system",
        "clusters.catamaran.dev",
        "test-cluster",
    ]);
    kubectl(&[
        "delete",
        "-n",
        "catamaran-system",
        "meshes.catamaran.dev",
        "test-mesh",
    ]);
}

#[tokio::test]
async fn the_reader_may_do_what_it_needs_and_nothing_else() {
    definitions();
    let (reader, name) = reader_of("rights").await;
    assert_eq!(rights::review(&reader).await.unwrap(), Rights::default());
    let of_admin = rights::review(&admin()).await.unwrap();
    assert!(
        of_admin.more.contains("* *.*") && of_admin.missing.is_empty(),
        "{of_admin:?}"
    );
    // A token for itself, and for nobody else.
    let namespace = Namespace::new("catamaran-system").unwrap();
    let own = ServiceAccount::new("catamaran-reader-rights").unwrap();
    let next = token::request(&reader, &namespace, &own, token::LIFE)
        .await
        .unwrap();
    assert_eq!(token::claims(&next.token).unwrap().account, own);
    reader.renew(&next.token).unwrap();
    assert_eq!(rights::review(&reader).await.unwrap(), Rights::default());
    let other = ServiceAccount::new("default").unwrap();
    let refused = token::request(&reader, &namespace, &other, token::LIFE)
        .await
        .unwrap_err();
    assert!(refused.about("tokens").contains("403"), "{refused:?}");
    // kubectl agrees.
    for (verb, resource) in [
        ("get", "secrets"),
        ("list", "configmaps"),
        ("list", "nodes"),
        ("create", "pods"),
        ("delete", "services"),
        ("create", "tokenreviews"),
        ("impersonate", "users"),
    ] {
        let (may, said) = try_kubectl(&["auth", "can-i", verb, resource, "--as", &name, "-A"], "");
        assert!(
            !may && said.trim().ends_with("no"),
            "{verb} {resource}: {said}"
        );
    }
    // Revoked by deleting the service account.
    kubectl(&[
        "delete",
        "serviceaccount",
        "-n",
        "catamaran-system",
        own.as_str(),
    ]);
    // The API server remembers a good token for some seconds.
    for _ in 0..60 {
        match rights::review(&reader).await {
            Ok(_) => tokio::time::sleep(Duration::from_millis(500)).await,
            Err(failure) => return assert!(failure.about("rights").contains("401"), "{failure:?}"),
        }
    }
    panic!("the token of an account that is gone is still good");
}

#[tokio::test]
async fn a_reader_sees_the_cluster_change() {
    definitions();
    let own = Own::new("catamaran-test-watch");
    let (reader, name) = reader_of("watch").await;
    apply(&own.service());
    apply(&own.pod("hello-1"));
    apply(&own.slice(&[("hello-1", "10.1.0.1")]));
    apply(&ours(
        "MeshExport",
        "test-mesh-2",
        json!({"cluster": "cluster-2", "clusterUid": "u", "version": "0.1.0", "region": "region-b", "gateways": ["198.18.0.6:15443"]}),
    ));
    let mut live = Live::of(reader, Reads::DiscoveryOnly, pace());
    let snapshot = live.until_fresh().await;
    assert!(
        endpoints(&snapshot).contains(&own.at("10.1.0.1")),
        "{:?}",
        endpoints(&snapshot)
    );
    let service = snapshot
        .services
        .values()
        .find(|s| s.key.namespace.as_str() == own.0)
        .unwrap();
    let endpoint = &service.endpoints[0].endpoint;
    assert_eq!(endpoint.service_account.as_str(), "default");
    assert_eq!(
        endpoint.locality.region.as_ref().map(|r| r.as_str()),
        Some("region-b")
    );
    assert_eq!(endpoint.tls, catamaran_model::TlsMode::Mutual);
    assert!(snapshot.clusters[&live.cluster].namespaces[own.0].inject);
    assert!(snapshot.clusters[&live.cluster].export.is_some());
    let uid = kubectl(&[
        "get",
        "namespace",
        "kube-system",
        "-o",
        "jsonpath={.metadata.uid}",
    ]);
    let known = tokio::time::timeout(
        Duration::from_secs(10),
        live.beside.wait_for(|b| b.uid.is_some()),
    )
    .await;
    assert_eq!(known.unwrap().unwrap().uid.as_deref(), Some(&*uid));

    // A hundred pods make several pages of the next list, and go one by one.
    let pods: Vec<(String, String)> = (2..=100)
        .map(|n| (format!("hello-{n}"), format!("10.1.0.{n}")))
        .collect();
    let all: Vec<Value> = pods.iter().map(|(name, _)| own.pod(name)).collect();
    apply(&json!({"apiVersion": "v1", "kind": "List", "items": all}));
    let mut named: Vec<(&str, &str)> = pods
        .iter()
        .map(|(pod, ip)| (pod.as_str(), ip.as_str()))
        .collect();
    named.insert(0, ("hello-1", "10.1.0.1"));
    apply(&own.slice(&named));
    let last = own.at("10.1.0.100");
    live.until("a hundred endpoints", |s| endpoints(s).contains(&last))
        .await;
    live.until("with their pods", |s| {
        endpoints(s).iter().filter(|e| e.starts_with(own.0)).count() == 100
    })
    .await;
    // Another watch lists them in pages, and takes over.
    let (second, _) = reader_of("watch").await;
    live.hold_all();
    live.start_at(pace(), second, Reads::DiscoveryOnly, 2);
    let lists = live.lists;
    while live.lists == lists {
        live.step().await.unwrap();
    }
    live.end_older();
    live.floor.clear();
    apply(&own.slice(&[("hello-2", "10.1.0.2")]));
    live.until("one endpoint", |s| {
        endpoints(s).iter().filter(|e| e.starts_with(own.0)).count() == 1
    })
    .await;
    // A pod that is deleted stays as long as its slice says.
    kubectl(&[
        "delete",
        "pod",
        "-n",
        own.0,
        "hello-2",
        "--force",
        "--grace-period=0",
    ]);
    live.floor.insert(own.at("10.1.0.2"));
    apply(&own.pod("after"));
    kubectl(&[
        "delete",
        "meshexports.catamaran.dev",
        "-n",
        "catamaran-system",
        "test-mesh-2",
    ]);
    let cluster = live.cluster.clone();
    live.until("no export", |s| s.clusters[&cluster].export.is_none())
        .await;
    live.floor.clear();
    kubectl(&["delete", "service", "-n", own.0, "hello"]);
    live.until("no service", |s| {
        !s.services.keys().any(|key| key.namespace.as_str() == own.0)
    })
    .await;
    assert!(live.lost.is_empty(), "{:?}", live.lost);
    drop(live);
    audited(&name);
}

/// The API server's own word: the reader did nothing but get, list, watch and the two creates.
fn audited(name: &str) {
    let log = kubeconfig().with_file_name("audit.log");
    let log = std::fs::read_to_string(&log).unwrap_or_else(|error| {
        panic!(
            "{}: {error}; start the API server with --audit",
            log.display()
        )
    });
    let mut seen = 0;
    for line in log.lines() {
        let event: Value = serde_json::from_str(line).unwrap_or_default();
        if event["user"]["username"] != name {
            continue;
        }
        seen += 1;
        let verb = event["verb"].as_str().unwrap();
        let what = format!("{verb} {}", event["requestURI"].as_str().unwrap());
        let object = &event["objectRef"];
        let creates = verb == "create"
            && (object["resource"] == "selfsubjectrulesreviews"
                || object["subresource"] == "token");
        let reads = ["get", "list", "watch"].contains(&verb);
        let kinds = [
            "namespaces",
            "services",
            "pods",
            "endpointslices",
            "meshexports",
            "nodes",
        ];
        let of_use = kinds.iter().any(|kind| object["resource"] == *kind);
        assert!(creates || reads && of_use, "{what}");
    }
    assert!(seen > 6, "{seen} requests of {name} in the audit log");
}

#[tokio::test]
async fn a_managed_cluster_has_members_by_object_and_by_secret() {
    definitions();
    apply(&ours("Mesh", "test-managed", json!({"region": "region-a"})));
    apply(&ours(
        "Cluster",
        "test-other",
        json!({"mode": "DiscoveryOnly", "network": "network2", "secret": "test-remote"}),
    ));
    let reads = Reads::Managed {
        istio: Some(Namespace::new("istio-system").unwrap()),
        allowed: ALLOWED,
    };
    let mut live = Live::of(admin(), reads, pace());
    live.until_fresh().await;
    let other = ClusterId::new("test-other").unwrap();
    assert_eq!(
        live.registry.members()[&other].credential,
        Credential::Secret("test-remote".into())
    );
    let cluster = ClusterId::new("test-third").unwrap();
    let text = std::fs::read_to_string(kubeconfig()).unwrap();
    let mut secret = reader::secret(&cluster, &text);
    assert_eq!(
        secret["metadata"]["labels"][REMOTE_SECRET_LABEL.0],
        REMOTE_SECRET_LABEL.1
    );
    secret["metadata"]["name"] = json!("test-remote");
    apply(&secret);
    while !live.registry.members().contains_key(&cluster) {
        live.step().await.unwrap();
    }
    let held = tokio::time::timeout(
        Duration::from_secs(10),
        live.beside
            .wait_for(|b| b.credentials.of("test-remote", &cluster).is_some()),
    )
    .await;
    let held = held
        .unwrap()
        .unwrap()
        .credentials
        .of("test-remote", &cluster)
        .cloned()
        .unwrap();
    assert_eq!(held.usable.unwrap().server, config().server);
    kubectl(&["delete", "secret", "-n", "catamaran-system", "test-remote"]);
    while live.registry.members().contains_key(&cluster) {
        live.step().await.unwrap();
    }
    kubectl(&[
        "delete",
        "clusters.catamaran.dev",
        "-n",
        "catamaran-system",
        "test-other",
    ]);
    kubectl(&[
        "delete",
        "meshes.catamaran.dev",
        "-n",
        "catamaran-system",
        "test-managed",
    ]);
    while live.registry.members().contains_key(&other) {
        live.step().await.unwrap();
    }
}

#[tokio::test]
async fn an_api_server_that_crashes_or_hangs_takes_nothing_with_it() {
    let program = std::env::var_os("CATAMARAN_TEST_CLUSTERS").expect(
        "CATAMARAN_TEST_CLUSTERS names no program; it is what cargo xtask cluster build prints",
    );
    let signal = |signal: &str| {
        let folder = kubeconfig().parent().unwrap().to_owned();
        let done = Command::new(&program)
            .arg("signal")
            .arg(folder)
            .arg("kube-apiserver")
            .arg(signal)
            .status();
        assert!(done.unwrap().success());
    };
    definitions();
    let own = Own::new("catamaran-test-crash");
    let (reader, _) = reader_of("crash").await;
    apply(&own.service());
    apply(&own.pod("hello-1"));
    apply(&own.slice(&[("hello-1", "10.1.0.1")]));
    // A server that hangs keeps its connections, and HTTP/2's own question finds it out.
    let mut live = Live::of(reader, Reads::DiscoveryOnly, pace());
    live.until_fresh().await;
    live.hold_all();
    for (ends, begins) in [("KILL", None), ("STOP", Some("CONT"))] {
        signal(ends);
        let cluster = live.cluster.clone();
        live.until("stale", |s| {
            matches!(freshness(s, &cluster), Some(Freshness::Stale { .. }))
        })
        .await;
        if let Some(begins) = begins {
            signal(begins);
        }
        live.until_fresh().await;
    }
    println!("lost for these reasons: {:#?}", live.lost);
    live.floor.clear();
    apply(&own.slice(&[]));
    live.until("no endpoint", |s| {
        !endpoints(s).contains(&own.at("10.1.0.1"))
    })
    .await;
}
