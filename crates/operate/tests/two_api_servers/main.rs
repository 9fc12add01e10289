//! Clusters are added, renewed, removed and given networks on two real API servers, written to with `kubectl` beside.
//!
//! `CATAMARAN_TEST_CLUSTERS` is the program that makes them: what `cargo xtask cluster build` prints. Without it the tests fail.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use catamaran_kubernetes::connect::Access;
use catamaran_kubernetes::crd;
use catamaran_kubernetes::failure::Failure;
use catamaran_kubernetes::gateway::ServiceType;
use catamaran_kubernetes::kubeconfig::{Allowed, Kubeconfig, User};
use catamaran_kubernetes::watch::{Beside, Reads, Watched, watch};
use catamaran_kubernetes::write::Writer;
use catamaran_kubernetes::{Pace, rights, token};
use catamaran_model::{ClusterId, MeshName, Namespace, NetworkId, ServiceAccount};
use catamaran_operate::{
    AssignNetworks, Contact, EnrolCluster, ForgetCluster, Job, Means, OperateError,
    assign_networks, enrol_cluster, forget_cluster,
};
use catamaran_registry::{Observed, WatchGeneration};
use serde_json::{Value, json};
use tokio::sync::{mpsc, watch as latest};

mod looked_at;

const LOOPBACK: Allowed = Allowed {
    loopback: true,
    link_local: false,
    proxy: false,
    files: false,
};
const READER: &str = "system:serviceaccount:catamaran-system:catamaran-reader-mesh-1";

fn program() -> PathBuf {
    let named = std::env::var_os("CATAMARAN_TEST_CLUSTERS");
    named
        .expect(
            "CATAMARAN_TEST_CLUSTERS names no program; it is what cargo xtask cluster build prints",
        )
        .into()
}

/// A cluster with an API server only, which goes with the test.
struct Server {
    folder: tempfile::TempDir,
    name: &'static str,
}

impl Server {
    fn start(name: &'static str) -> Server {
        let server = Server {
            folder: tempfile::tempdir().unwrap(),
            name,
        };
        let up = Command::new(program())
            .arg("up")
            .arg(server.path())
            .args(["--only", "api", "--audit"])
            .stdout(Stdio::null())
            .status();
        assert!(up.unwrap().success());
        server
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join(self.name)
    }

    fn file(&self) -> PathBuf {
        self.path().join("kubeconfig")
    }

    fn contact(&self) -> Contact {
        Contact {
            files: vec![self.file()],
            context: Some(self.name.into()),
        }
    }

    fn try_kubectl(&self, args: &[&str], input: &str) -> (bool, String) {
        kubectl_with(&self.file(), args, input)
    }

    fn kubectl(&self, args: &[&str]) -> String {
        let (good, said) = self.try_kubectl(args, "");
        assert!(good, "kubectl {args:?}: {said}");
        said
    }

    fn apply(&self, object: &Value) {
        let (good, said) = self.try_kubectl(&["apply", "-f", "-"], &object.to_string());
        assert!(good, "{object}: {said}");
    }

    /// An object of our namespace, or of none.
    fn get(&self, kind: &str, name: &str) -> Option<Value> {
        let args = [
            "get",
            kind,
            name,
            "-n",
            "catamaran-system",
            "-o",
            "json",
            "--ignore-not-found",
        ];
        serde_json::from_str(&self.kubectl(&args)).ok()
    }

    /// Everything that the test is about, by name.
    fn ours(&self) -> BTreeSet<String> {
        let kinds =
            "serviceaccounts,roles,rolebindings,deployments,services,poddisruptionbudgets,secrets";
        let mut all = self.kubectl(&["get", kinds, "-n", "catamaran-system", "-o", "name"]);
        all += &self.kubectl(&["get", "clusterroles,clusterrolebindings", "-o", "name"]);
        let ours = |line: &&str| {
            line.contains("catamaran-")
                || line.contains("eastwest")
                || line.contains("istio-remote")
        };
        all.lines().filter(ours).map(str::to_owned).collect()
    }

    /// What somebody asked for, as the API server wrote it down.
    fn audit(&self, user: &str) -> Vec<Value> {
        let mut events = self.audited();
        events.retain(|event| event["user"]["username"] == user);
        events
    }

    /// What this program itself asked for, and not kubectl or the cluster.
    fn by_us(&self) -> Vec<Value> {
        let ours = |agent: &str| agent.starts_with("catamaran/");
        let mut events = self.audited();
        events.retain(|event| event["userAgent"].as_str().is_some_and(ours));
        events
    }

    fn audited(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(self.path().join("audit.log")).unwrap();
        let events = text.lines();
        events
            .filter_map(|line| serde_json::from_str::<Value>(line).ok())
            .collect()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = Command::new(program())
            .arg("down")
            .arg(self.path())
            .status();
    }
}

fn kubectl_with(file: &Path, args: &[&str], input: &str) -> (bool, String) {
    let mut child = Command::new(program().with_file_name("kubectl"))
        .arg("--kubeconfig")
        .arg(file)
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("kubectl stands beside the program");
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(input.as_bytes()).unwrap();
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    let said =
        [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    (output.status.success(), said.concat())
}

/// A cluster with the instance mesh-1, whose own name is cluster-1.
fn home(name: &'static str) -> Server {
    let server = Server::start(name);
    let (good, said) = server.try_kubectl(&["apply", "-f", "-"], &crd::yaml());
    assert!(good, "{said}");
    for crd in ["meshes", "clusters", "meshexports"] {
        let crd = format!("crd/{crd}.catamaran.dev");
        server.kubectl(&["wait", "--for=condition=Established", &crd, "--timeout=30s"]);
    }
    server.apply(
        &json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "catamaran-system"}}),
    );
    server.apply(&object("Mesh", "mesh-1", json!({"region": "region-1"})));
    server.apply(&object("Cluster", "cluster-1", json!({"mode": "Managed"})));
    server
}

fn object(kind: &str, name: &str, spec: Value) -> Value {
    json!({"apiVersion": "catamaran.dev/v1alpha1", "kind": kind, "metadata": {"namespace": "catamaran-system", "name": name}, "spec": spec})
}

fn mesh() -> MeshName {
    MeshName::new("mesh-1").unwrap()
}

fn id(name: &str) -> ClusterId {
    ClusterId::new(name).unwrap()
}

fn enrol(cluster: &str, home: &Server, remote: &Server) -> EnrolCluster {
    EnrolCluster {
        mesh: mesh(),
        cluster: id(cluster),
        home: home.contact(),
        means: Means::Reader {
            remote: remote.contact(),
            server: None,
        },
        network: None,
        allowed: LOOPBACK,
    }
}

/// Runs an operation, and gives what it said.
async fn told<T>(
    operation: impl AsyncFnOnce(&mut Job) -> Result<T, OperateError>,
) -> (Result<T, OperateError>, String) {
    let mut job = Job::unwatched();
    let outcome = operation(&mut job).await;
    let notes = job.steps().iter().flat_map(|step| &step.notes);
    let text = notes.map(|note| note.text.clone()).collect::<Vec<_>>();
    (outcome, text.join("\n"))
}

async fn add(enrol: &EnrolCluster) -> (Result<(), OperateError>, String) {
    told(async |job| enrol_cluster(enrol, job).await).await
}

async fn refused(enrol: &EnrolCluster) -> String {
    let error = enrol_cluster(enrol, &mut Job::unwatched())
        .await
        .unwrap_err();
    format!("{} {error}", error.code())
}

/// The kubeconfig that the instance holds for cluster-2, written into a file, and as a way.
fn held(home: &Server) -> (PathBuf, Kubeconfig) {
    let args = [
        "get",
        "secret",
        "istio-remote-secret-cluster-2",
        "-n",
        "catamaran-system",
        "-o",
        "go-template={{index .data \"cluster-2\" | base64decode}}",
    ];
    let text = home.kubectl(&args);
    let file = home.path().join("held.kubeconfig");
    std::fs::write(&file, &text).unwrap();
    (file, Kubeconfig::read(&text, LOOPBACK).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_is_added_renewed_and_removed() {
    let (one, two) = (home("one"), Server::start("two"));

    // What is refused leaves no trace on either side.
    let mut not_allowed = enrol("cluster-2", &one, &two);
    not_allowed.allowed.loopback = false;
    assert!(refused(&not_allowed).await.starts_with("CTM-K102"));
    assert!(
        refused(&enrol("cluster-7", &one, &one))
            .await
            .starts_with("CTM-K105")
    );
    assert!(
        refused(&enrol("cluster-1", &one, &two))
            .await
            .starts_with("CTM-C105")
    );
    assert_eq!(two.get("namespace", "catamaran-system"), None);
    assert_eq!(one.ours(), BTreeSet::new());

    // Somebody else's labels on the namespace are theirs.
    let labelled = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "catamaran-system", "labels": {"team": "mesh"}}});
    let (good, said) = two.try_kubectl(
        &[
            "apply",
            "--server-side",
            "--field-manager=catamaran",
            "-f",
            "-",
        ],
        &labelled.to_string(),
    );
    assert!(good, "{said}");

    let mut first = enrol("cluster-2", &one, &two);
    first.network = NetworkId::new("network2").ok();
    let (added, said) = add(&first).await;
    added.unwrap();
    assert!(said.contains("a token for 24 h, until 20"), "{said}");
    assert!(said.contains("nothing else"), "{said}");
    let namespace = two.get("namespace", "catamaran-system").unwrap();
    assert_eq!(namespace["metadata"]["labels"]["team"], "mesh");
    let reader = [
        "clusterrole.rbac.authorization.k8s.io/catamaran-reader",
        "clusterrolebinding.rbac.authorization.k8s.io/catamaran-reader-mesh-1",
        "role.rbac.authorization.k8s.io/catamaran-reader-mesh-1",
        "rolebinding.rbac.authorization.k8s.io/catamaran-reader-mesh-1",
        "serviceaccount/catamaran-reader-mesh-1",
    ];
    assert_eq!(two.ours(), reader.map(str::to_owned).into());
    let here = [
        "role.rbac.authorization.k8s.io/catamaran-mesh-1-credential-cluster-2",
        "rolebinding.rbac.authorization.k8s.io/catamaran-mesh-1-credential-cluster-2",
        "secret/istio-remote-secret-cluster-2",
    ];
    assert_eq!(one.ours(), here.map(str::to_owned).into());
    let secret = one.get("secret", "istio-remote-secret-cluster-2").unwrap();
    assert_eq!(secret["metadata"]["labels"]["istio/multiCluster"], "true");
    let cluster = one.get("clusters.catamaran.dev", "cluster-2").unwrap();
    let spec = json!({"mode": "DiscoveryOnly", "network": "network2", "gateway": false, "secret": "istio-remote-secret-cluster-2"});
    assert_eq!(cluster["spec"], spec);

    // What it holds reads, and can neither read secrets nor write.
    let (file, before) = held(&one);
    assert!(kubectl_with(&file, &["get", "pods", "-A"], "").0);
    for args in [
        &["get", "secrets", "-A"][..],
        &["get", "configmaps", "-A"],
        &["create", "configmap", "x", "-n", "default"],
        &["delete", "namespace", "default"],
        &["create", "token", "default", "-n", "default"],
    ] {
        let (good, said) = kubectl_with(&file, args, "");
        assert!(
            !good && said.contains("Forbidden") || said.contains("forbidden"),
            "{args:?}: {said}"
        );
    }

    // One cluster has one name, and one name one cluster.
    let again = refused(&enrol("cluster-3", &one, &two)).await;
    assert!(
        again.starts_with("CTM-K105") && again.contains("cluster-2"),
        "{again}"
    );

    // The same command renews: another token, the rest as it was, and what is in use goes on.
    let (renewed, said) = add(&enrol("cluster-2", &one, &two)).await;
    renewed.unwrap();
    assert!(said.contains("is renewed"), "{said}");
    let (_, after) = held(&one);
    assert_ne!(before.token(), after.token());
    let same = one.get("clusters.catamaran.dev", "cluster-2").unwrap();
    assert_eq!(
        same["metadata"]["resourceVersion"],
        cluster["metadata"]["resourceVersion"]
    );
    let old = Access::new(&before, LOOPBACK).unwrap();
    assert_eq!(rights::review(&old).await.unwrap().more, BTreeSet::new());

    renewed_tokens_are_kept(&one, &after).await;
    let (file, after) = held(&one);
    brought_along(&one, &two, &file).await;
    watched_as_a_control_plane_does(&two, &after).await;

    // A name that leads elsewhere is not undone there.
    let mut forget = ForgetCluster {
        mesh: mesh(),
        cluster: id("cluster-2"),
        home: one.contact(),
        remote: Some(one.contact()),
        gone: false,
    };
    let wrong = forget_cluster(&forget, &mut Job::unwatched())
        .await
        .unwrap_err();
    assert_eq!(wrong.code(), "CTM-K106");
    forget.remote = Some(two.contact());
    forget_cluster(&forget, &mut Job::unwatched())
        .await
        .unwrap();
    assert_eq!(two.ours(), BTreeSet::new());
    assert_eq!(one.ours(), BTreeSet::new());
    assert_eq!(one.get("clusters.catamaran.dev", "cluster-2"), None);
    revoked(&old).await;
    let gone = forget_cluster(&forget, &mut Job::unwatched())
        .await
        .unwrap_err();
    assert_eq!(gone.code(), "CTM-C103");
}

/// What a control plane does with a token that it has renewed: one that starts later finds it in the Secret.
async fn renewed_tokens_are_kept(one: &Server, before: &Kubeconfig) {
    // The control plane's own account, with what it has beside the right that `cluster add` grants.
    let name = "catamaran-mesh-1";
    let metadata = json!({"namespace": "catamaran-system", "name": name});
    one.apply(&json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata}));
    one.apply(&json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": metadata,
        "rules": [{"apiGroups": [""], "resources": ["secrets"], "verbs": ["get", "list", "watch"]}]}));
    one.apply(&json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": metadata,
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name},
        "subjects": [{"kind": "ServiceAccount", "namespace": "catamaran-system", "name": name}]}));
    let text = std::fs::read_to_string(one.file()).unwrap();
    let admin = Kubeconfig::read(&text, LOOPBACK).unwrap();
    let token = one.kubectl(&["create", "token", name, "-n", "catamaran-system"]);
    let own = Kubeconfig {
        user: User::Token(token.trim().to_owned().into()),
        ..admin
    };
    let mut writer = Writer::new(Access::new(&own, LOOPBACK).unwrap(), "test".into());

    let namespace = Namespace::new("catamaran-system").unwrap();
    let account = ServiceAccount::new("catamaran-reader-mesh-1").unwrap();
    let reader = Access::new(before, LOOPBACK).unwrap();
    let next = token::request(&reader, &namespace, &account, token::LIFE);
    let next = next.await.unwrap().token;
    assert_ne!(before.token().unwrap(), next);
    let (mesh, cluster) = (mesh(), id("cluster-2"));
    let secret = "istio-remote-secret-cluster-2";
    let was = one.get("secret", secret).unwrap();

    // Nobody but whom it was granted, and nothing but that Secret.
    let role = "catamaran-mesh-1-credential-cluster-2";
    let binding = one.get("rolebinding", role).unwrap();
    one.kubectl(&["delete", "rolebinding", role, "-n", "catamaran-system"]);
    let end = tokio::time::Instant::now() + Duration::from_secs(20);
    let refused = loop {
        // rights that were taken away count a moment later
        let kept = writer
            .keep_token(&mesh, &cluster, secret, &wrong(before), &next)
            .await;
        assert_eq!(kept, Ok(false), "it holds something else");
        let can = [
            "auth",
            "can-i",
            "patch",
            &format!("secret/{secret}"),
            "-n",
            "catamaran-system",
            "--as=system:serviceaccount:catamaran-system:catamaran-mesh-1",
        ];
        if !one.try_kubectl(&can, "").0 {
            break writer
                .keep_token(&mesh, &cluster, secret, before, &next)
                .await;
        }
        assert!(
            tokio::time::Instant::now() < end,
            "the right is still there"
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    assert!(
        matches!(refused, Err(Failure::Forbidden { .. })),
        "{refused:?}"
    );
    assert_eq!(held(one).1, *before);
    let mut binding = binding;
    for field in ["resourceVersion", "uid", "creationTimestamp"] {
        binding["metadata"].as_object_mut().unwrap().remove(field);
    }
    one.apply(&binding);

    let end = tokio::time::Instant::now() + Duration::from_secs(20);
    loop {
        match writer
            .keep_token(&mesh, &cluster, secret, before, &next)
            .await
        {
            Ok(kept) => break assert!(kept),
            Err(Failure::Forbidden { .. }) if tokio::time::Instant::now() < end => {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            Err(failure) => panic!("{failure:?}"),
        }
    }
    let kept = held(one).1;
    assert_eq!(kept.token(), Some(next.clone()));
    assert_eq!((&kept.server, &kept.ca), (&before.server, &before.ca));
    let is = one.get("secret", secret).unwrap();
    for part in ["labels", "annotations"] {
        assert_eq!(is["metadata"][part], was["metadata"][part]);
    }

    // Again is nothing new; and what was renewed from something older is not written over it.
    let version = |secret: &Value| secret["metadata"]["resourceVersion"].clone();
    let again = writer
        .keep_token(&mesh, &cluster, secret, before, &next)
        .await;
    assert_eq!(again, Ok(true));
    let older = token::request(&reader, &namespace, &account, token::LIFE);
    let older = older.await.unwrap().token;
    let late = writer
        .keep_token(&mesh, &cluster, secret, before, &older)
        .await;
    assert_eq!(late, Ok(false));
    assert_eq!(version(&one.get("secret", secret).unwrap()), version(&is));
    for what in ["rolebinding", "role", "serviceaccount"] {
        one.kubectl(&["delete", what, name, "-n", "catamaran-system"]);
    }
}

/// The same way with another token.
fn wrong(config: &Kubeconfig) -> Kubeconfig {
    Kubeconfig {
        user: User::Token("of nobody".to_owned().into()),
        ..config.clone()
    }
}

/// A token without rights at once, and no token once the API server has forgotten that it knew it.
async fn revoked(access: &Access) {
    let end = tokio::time::Instant::now() + Duration::from_secs(60);
    loop {
        match rights::review(access).await {
            Ok(rights) => assert!(rights.missing.contains("list pods"), "{rights:?}"),
            Err(failure) => {
                assert!(failure.about("rights").contains("401"), "{failure:?}");
                return;
            }
        }
        assert!(
            tokio::time::Instant::now() < end,
            "the token is still known"
        );
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// Kubeconfigs that people bring: harmless ones are taken, with a word when they may do more.
async fn brought_along(one: &Server, two: &Server, reader: &Path) {
    let with = |file: &Path| EnrolCluster {
        means: Means::Brought(file.into()),
        ..enrol("cluster-2", one, two)
    };
    let (added, said) = add(&with(&two.file())).await;
    added.unwrap();
    assert!(
        said.contains("may do more than discovery needs: * *"),
        "{said}"
    );
    let programs = one.path().join("exec.kubeconfig");
    let text = std::fs::read_to_string(reader).unwrap();
    let line = text
        .lines()
        .find(|line| line.trim_start().starts_with("token:"))
        .unwrap();
    let indent = &line[..line.len() - line.trim_start().len()];
    let exec = format!("{indent}exec: {{command: curl}}");
    std::fs::write(&programs, text.replace(line, &exec)).unwrap();
    let no = refused(&with(&programs)).await;
    assert!(no.starts_with("CTM-K102") && no.contains("exec"), "{no}");
    let (added, said) = add(&with(reader)).await;
    added.unwrap();
    assert!(
        said.contains("nothing else") && said.contains("a token for 24 h"),
        "{said}"
    );
}

/// Watches, renews and reviews as a control plane does, and then reads what the API server wrote down of it.
async fn watched_as_a_control_plane_does(two: &Server, config: &Kubeconfig) {
    let access = Access::new(config, LOOPBACK).unwrap();
    let (out, mut changes) = mpsc::channel(1024);
    let (telling, _beside) = latest::channel(Beside::default());
    let watched = Watched {
        cluster: id("cluster-2"),
        generation: WatchGeneration(1),
        access: access.clone(),
        reads: Reads::DiscoveryOnly,
        pace: Pace::default(),
    };
    let task = tokio::spawn(watch(watched, out, telling));
    loop {
        let change = tokio::time::timeout(Duration::from_secs(60), changes.recv()).await;
        match change.unwrap().unwrap().what {
            Observed::Listed(_) => break,
            Observed::Lost(reason) => panic!("lost: {reason}"),
            _ => {}
        }
    }
    rights::review(&access).await.unwrap();
    let namespace = Namespace::new("catamaran-system").unwrap();
    let account = ServiceAccount::new("catamaran-reader-mesh-1").unwrap();
    token::request(&access, &namespace, &account, token::LIFE)
        .await
        .unwrap();
    task.abort();

    // kubectl of this test asked for what it may not, so only answers that were given count for it.
    let mut seen = BTreeSet::new();
    for event in two.audit(READER) {
        let agent = event["userAgent"].as_str().unwrap_or_default();
        let code = event["responseStatus"]["code"].as_i64();
        if agent.starts_with("kubectl") {
            assert!(
                event["verb"] == "get" || event["verb"] == "list" || code == Some(403),
                "{event}"
            );
            continue;
        }
        let of = &event["objectRef"];
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let mut what = text(&of["resource"]);
        if let Some(sub) = of["subresource"].as_str() {
            what = format!("{what}/{sub} {}", text(&of["name"]));
        }
        // Nodes would help and are not granted: it asks, hears no, and does without.
        if what == "nodes" {
            assert_eq!(
                (&event["verb"], code),
                (&json!("list"), Some(403)),
                "{event}"
            );
            continue;
        }
        assert!(code != Some(403), "{event}");
        seen.insert(format!("{} {what}", text(&event["verb"])));
    }
    let reads = [
        "namespaces",
        "services",
        "pods",
        "endpointslices",
        "meshexports",
    ];
    let mut allowed: BTreeSet<String> = (reads.iter())
        .flat_map(|what| ["get", "list", "watch"].map(|verb| format!("{verb} {what}")))
        .collect();
    allowed.insert("create selfsubjectrulesreviews".into());
    allowed.insert("create serviceaccounts/token catamaran-reader-mesh-1".into());
    assert!(seen.is_subset(&allowed), "{seen:?}");
    for must in [
        "list pods",
        "watch pods",
        "create selfsubjectrulesreviews",
        "create serviceaccounts/token catamaran-reader-mesh-1",
    ] {
        assert!(seen.contains(must), "{must}: {seen:?}");
    }
}

fn assign(home: Contact, settings: &[&str]) -> AssignNetworks {
    AssignNetworks {
        mesh: mesh(),
        home,
        remote: None,
        settings: settings.iter().map(|text| text.parse().unwrap()).collect(),
        service: ServiceType::LoadBalancer,
        image: Some("catamaran:1".into()),
        control_plane: None,
        patience: None,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn networks_are_set_as_a_whole_or_not_at_all() {
    let one = home("one");
    one.apply(&object(
        "Cluster",
        "cluster-2",
        json!({"mode": "DiscoveryOnly", "secret": "s"}),
    ));
    let set = async |settings: &[&str]| {
        let mut job = Job::unwatched();
        assign_networks(&assign(one.contact(), settings), &mut job).await
    };
    let spec = |cluster: &str| one.get("clusters.catamaran.dev", cluster).unwrap()["spec"].clone();
    let label = || {
        one.get("namespace", "catamaran-system").unwrap()["metadata"]["labels"]["topology.istio.io/network"].clone()
    };
    let plain = (spec("cluster-1"), spec("cluster-2"));

    for (settings, code) in [
        (
            ["cluster-1=network1,gateway", "cluster-2=network2,gateway"],
            "CTM-N101",
        ),
        (
            [
                "cluster-1=network1,gateway",
                "cluster-2=network2,gateway=127.0.0.1:15443",
            ],
            "CTM-U101",
        ),
        (
            ["cluster-1=network1,gateway", "cluster-1=network2"],
            "CTM-N102",
        ),
        (
            ["cluster-1=network1,gateway", "cluster-9=network2"],
            "CTM-C103",
        ),
    ] {
        assert_eq!(set(&settings).await.unwrap_err().code(), code);
        assert_eq!((spec("cluster-1"), spec("cluster-2")), plain);
    }

    // Somebody who may write Clusters and no Deployments: what was written is taken back.
    let limited = limited(&one);
    let half = assign(
        limited,
        &["cluster-1=network1,gateway", "cluster-2=network2"],
    );
    let failed = assign_networks(&half, &mut Job::unwatched())
        .await
        .unwrap_err();
    assert_eq!(failed.code(), "CTM-K103", "{failed}");
    assert_eq!(
        (
            spec("cluster-1")["network"].clone(),
            spec("cluster-2")["network"].clone()
        ),
        (Value::Null, Value::Null)
    );
    assert_eq!(label(), Value::Null);

    set(&[
        "cluster-1=network1,gateway",
        "cluster-2=network2,gateway=198.18.1.2:15443",
    ])
    .await
    .unwrap();
    assert_eq!(
        spec("cluster-1"),
        json!({"mode": "Managed", "network": "network1", "gateway": true})
    );
    assert_eq!(
        spec("cluster-2")["gatewayAddresses"],
        json!(["198.18.1.2:15443"])
    );
    assert_eq!(label(), "network1");
    let deployment = || one.get("deployment", "eastwest-gateway").unwrap();
    assert_eq!(deployment()["spec"]["replicas"], 2);
    let service = one.get("service", "eastwest-gateway").unwrap();
    assert_eq!(service["spec"]["type"], "LoadBalancer");
    assert_eq!(
        service["metadata"]["labels"]["topology.istio.io/network"],
        "network1"
    );
    assert!(one.get("poddisruptionbudget", "eastwest-gateway").is_some());

    // Again, nothing is different; and what is not ready is said.
    let mut again = assign(one.contact(), &["cluster-1=network1,gateway"]);
    again.patience = Some(Duration::from_secs(1));
    let slow = assign_networks(&again, &mut Job::unwatched())
        .await
        .unwrap_err();
    assert_eq!(slow.code(), "CTM-M201");
    assert!(slow.to_string().contains("0 of 2 replicas"), "{slow}");
    assert_eq!(deployment()["metadata"]["generation"], 1);

    // Another network, and then none of its own gateway.
    set(&["cluster-1=network7,gateway"]).await.unwrap();
    assert_eq!(
        deployment()["spec"]["template"]["metadata"]["labels"]["topology.istio.io/network"],
        "network7"
    );
    set(&["cluster-1=network7"]).await.unwrap();
    assert_eq!(one.ours(), BTreeSet::new());
    assert_eq!(label(), "network7");
    assert_eq!(spec("cluster-2")["network"], "network2");
}

/// Somebody who may read all, and write Clusters and namespaces only.
fn limited(server: &Server) -> Contact {
    server.kubectl(&["create", "serviceaccount", "limited", "-n", "default"]);
    server.kubectl(&[
        "create",
        "clusterrole",
        "limited",
        "--verb=get,list",
        "--resource=*.*",
    ]);
    server.kubectl(&[
        "create",
        "clusterrole",
        "limited-writes",
        "--verb=patch,create",
        "--resource=clusters.catamaran.dev,namespaces",
    ]);
    for role in ["limited", "limited-writes"] {
        let clusterrole = format!("--clusterrole={role}");
        server.kubectl(&[
            "create",
            "clusterrolebinding",
            role,
            &clusterrole,
            "--serviceaccount=default:limited",
        ]);
    }
    let token = server.kubectl(&["create", "token", "limited", "-n", "default"]);
    let admin =
        Kubeconfig::read(&std::fs::read_to_string(server.file()).unwrap(), LOOPBACK).unwrap();
    let config = Kubeconfig {
        user: catamaran_kubernetes::kubeconfig::User::Token(token.trim().to_owned().into()),
        ..admin
    };
    let text = catamaran_kubernetes::enrol::kubeconfig(&id("limited"), &config);
    let file = server.path().join("limited.kubeconfig");
    std::fs::write(&file, text.as_str()).unwrap();
    Contact {
        files: vec![file],
        context: None,
    }
}
