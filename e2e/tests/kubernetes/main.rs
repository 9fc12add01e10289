//! The real binary before a real cluster, which `KUBECONFIG` and `CATAMARAN_TEST_CONTEXT` name (an administrator's). Nothing of
//! ours may be in it, and the image that `CATAMARAN_TEST_IMAGE` names must be on its nodes:
//!
//! ```text
//! cargo xtask build && cargo xtask cluster up c1 && cargo xtask cluster load c1
//! CATAMARAN_BIN=target/debug/catamaran CATAMARAN_TEST_CONTEXT=c1 CATAMARAN_TEST_IMAGE=catamaran.dev/catamaran:dev \
//!     KUBECONFIG=target/clusters/c1/kubeconfig cargo test -p catamaran-e2e --test kubernetes
//! ```
//! `CATAMARAN_KUBECTL` is kubectl, where that is not in the PATH.

use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use catamaran_e2e::binary;
use serde_json::Value;

mod upgrade;

/// Each of these tests has the cluster for itself.
fn one_at_a_time() -> std::sync::MutexGuard<'static, ()> {
    static ONE: std::sync::Mutex<()> = std::sync::Mutex::new(());
    ONE.lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn var(name: &str) -> String {
    std::env::var(name)
        .unwrap_or_else(|_| panic!("{name} is not set; see the first lines of {}", file!()))
}

/// What a command printed, and whether it was content.
#[derive(Debug)]
struct Said {
    code: i32,
    out: String,
    err: String,
}

impl Said {
    fn of(output: Output) -> Said {
        Said {
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    fn ok(self) -> Said {
        assert_eq!(self.code, 0, "{}\n{}", self.out, self.err);
        self
    }
}

/// The cluster, and a folder for roots.
struct Cluster {
    context: String,
    roots: tempfile::TempDir,
}

impl Cluster {
    fn catamaran(&self, line: &str) -> Said {
        self.catamaran_as(line, &["--context", &self.context])
    }

    fn catamaran_as(&self, line: &str, who: &[&str]) -> Said {
        self.by(&binary(), line, who)
    }

    /// The same by the program of another version.
    fn by(&self, program: &Path, line: &str, who: &[&str]) -> Said {
        let mut command = Command::new(program);
        command.args(line.split_whitespace()).args(who);
        command
            .env("CATAMARAN_ROOTS", self.roots.path())
            .env("NO_COLOR", "1");
        Said::of(
            command
                .stdin(Stdio::null())
                .output()
                .expect("the binary starts"),
        )
    }

    fn kubectl(&self, line: &str) -> Said {
        self.kubectl_with(line, "")
    }

    fn kubectl_with(&self, line: &str, input: &str) -> Said {
        let program = std::env::var("CATAMARAN_KUBECTL").unwrap_or_else(|_| "kubectl".into());
        let mut command = Command::new(program);
        command
            .args(["--context", &self.context])
            .args(line.split_whitespace());
        let pipes = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = pipes.spawn().expect("kubectl is there");
        let mut pipe = child.stdin.take().expect("a pipe");
        pipe.write_all(input.as_bytes()).expect("kubectl reads");
        drop(pipe);
        Said::of(child.wait_with_output().expect("kubectl ends"))
    }

    fn json(&self, line: &str) -> Value {
        let said = self.kubectl(&format!("{line} -o json")).ok();
        serde_json::from_str(&said.out).expect("JSON")
    }

    /// Everything of a cluster that an installation could touch, by kind and name.
    fn objects(&self) -> String {
        let kinds = "ns,crd,clusterrole,clusterrolebinding,mutatingwebhookconfiguration,cm,secret,sa,role,rolebinding,svc,deploy,pdb";
        let said = self.kubectl(&format!("get {kinds} -A -o name")).ok();
        let mut lines: Vec<&str> = said.out.lines().collect();
        lines.sort_unstable();
        lines.join("\n")
    }

    fn may(&self, what: &str) -> bool {
        let account = "system:serviceaccount:catamaran-system:catamaran-mesh-1";
        let said = self.kubectl(&format!("auth can-i {what} --as {account}"));
        match said.out.trim() {
            "yes" => true,
            "no" => false,
            _ => panic!("{what}: {said:?}"),
        }
    }
}

const CREATE: &str = "mesh create mesh-1 --cluster cluster-1 --region region-1 --network network-1";
const SYSTEM: &str = "-n catamaran-system";

#[test]
fn an_instance_comes_is_what_it_was_asked_to_be_and_goes_without_a_trace() {
    let _one = one_at_a_time();
    let cluster = Cluster {
        context: var("CATAMARAN_TEST_CONTEXT"),
        roots: tempfile::tempdir().expect("a folder"),
    };
    let image = var("CATAMARAN_TEST_IMAGE");
    let create = format!("{CREATE} --image {image}");
    let before = cluster.objects();
    assert!(!before.contains("catamaran"), "{before}");

    // What is printed holds no key, and nothing is touched.
    let dry = cluster
        .catamaran(&format!("{create} --dry-run -o yaml"))
        .ok();
    assert!(dry.out.contains("kind: Deployment") && !dry.out.contains("kind: Secret\n"));
    assert!(!dry.out.contains("PRIVATE KEY"));
    assert_eq!(cluster.objects(), before);
    assert_eq!(
        std::fs::read_dir(cluster.roots.path())
            .expect("the folder")
            .count(),
        0
    );

    refused_without_rights(&cluster, &create);
    assert_eq!(cluster.objects(), before);

    cluster.catamaran(&create).ok();
    let deployment = cluster.json(&format!("get deploy catamaran-mesh-1 {SYSTEM}"));
    assert_eq!(deployment["status"]["readyReplicas"], 2);
    let key = cluster.roots.path().join("mesh-1/root-key.pem");
    assert_eq!(
        std::fs::metadata(&key)
            .expect("the root's key")
            .permissions()
            .mode()
            & 0o777,
        0o600
    );
    root_key_is_nowhere(&cluster, &key);
    it_tells_its_status(&cluster);
    it_may_do_little(&cluster);

    // Again, without what was said before: nothing changes.
    let names = [
        "get deploy,svc,pdb,secret,mesh,cluster",
        SYSTEM,
        "-o jsonpath={range.items[*]}{.kind}{.metadata.generation}{.metadata.uid}{end}",
    ];
    let (names, same) = (
        names.join(" "),
        format!("mesh create mesh-1 --cluster cluster-1 --image {image}"),
    );
    let stood = cluster.kubectl(&names).ok().out;
    let authority =
        |cluster: &Cluster| cluster.json(&format!("get secret cacerts {SYSTEM}"))["data"].clone();
    let signed_with = authority(&cluster);
    let said = cluster.catamaran(&same).ok();
    assert!(
        said.err.contains("objects are as they should be"),
        "{said:?}"
    );
    assert_eq!(cluster.kubectl(&names).ok().out, stood);
    assert_eq!(authority(&cluster), signed_with);

    // What was printed for repositories is the same.
    let by_hand = "apply --server-side --force-conflicts --field-manager catamaran-install -f -";
    cluster.kubectl_with(by_hand, &dry.out).ok();
    assert_eq!(cluster.kubectl(&names).ok().out, stood);

    // An image that is not there: said with the pod's reason, and those that run go on.
    let said =
        cluster.catamaran("mesh create mesh-1 --cluster cluster-1 --image example.invalid/none:1");
    assert_eq!(said.code, 3, "{said:?}");
    assert!(
        said.err.contains("ImagePull") && said.err.contains("example.invalid/none:1"),
        "{said:?}"
    );
    let deployment = cluster.json(&format!("get deploy catamaran-mesh-1 {SYSTEM}"));
    assert_eq!(deployment["status"]["readyReplicas"], 2);
    cluster.catamaran(&same).ok();

    // One instance manages a cluster.
    let said = cluster.catamaran(&format!(
        "mesh create mesh-2 --cluster cluster-1 --image {image}"
    ));
    assert!(said.err.contains("CTM-C106"), "{said:?}");

    cluster.catamaran("mesh delete mesh-1").ok();
    assert_eq!(cluster.objects(), before);
    let said = cluster.catamaran("mesh delete mesh-1");
    assert!(said.err.contains("CTM-M101"), "{said:?}");

    an_authority_brought_along_is_used(&cluster, &create, &signed_with);
    assert_eq!(cluster.objects(), before);
}

/// A user who may only look is told of everything that is missing.
fn refused_without_rights(cluster: &Cluster, create: &str) {
    cluster.kubectl("create namespace catamaran-test").ok();
    cluster.kubectl("create sa weak -n catamaran-test").ok();
    let token = cluster
        .kubectl("create token weak -n catamaran-test")
        .ok()
        .out;
    let config = cluster.json("config view --raw --minify --flatten");
    let weak = serde_json::json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "weak", "clusters": config["clusters"],
        "users": [{"name": "weak", "user": {"token": token.trim()}}],
        "contexts": [{"name": "weak", "context": {"cluster": config["clusters"][0]["name"], "user": "weak"}}],
    });
    let file = cluster.roots.path().with_extension("weak");
    std::fs::write(&file, weak.to_string()).expect("a file");
    let who = [
        "--context",
        "weak",
        "--kubeconfig",
        file.to_str().expect("UTF-8"),
    ];
    let said = cluster.catamaran_as(create, &who);
    assert!(said.err.contains("CTM-K107"), "{said:?}");
    for right in [
        "create deployments.apps in catamaran-system",
        "create customresourcedefinitions.apiextensions.k8s.io",
    ] {
        assert!(said.err.contains(right), "{said:?}");
    }
    std::fs::remove_file(&file).expect("it was there");
    cluster.kubectl("delete namespace catamaran-test").ok();
}

fn root_key_is_nowhere(cluster: &Cluster, key: &Path) {
    let key = std::fs::read_to_string(key).expect("the root's key");
    let line = key.lines().nth(1).expect("a line of the key");
    let secret = cluster.kubectl(&format!("get secret cacerts {SYSTEM} -o go-template={{{{range.data}}}}{{{{.|base64decode}}}}{{{{end}}}}"));
    let texts = secret.ok().out;
    assert!(texts.contains("PRIVATE KEY") && !texts.contains(line));
}

fn it_tells_its_status(cluster: &Cluster) {
    for object in ["mesh/mesh-1", "cluster.catamaran.dev/cluster-1"] {
        let wait = format!("wait {SYSTEM} {object} --for=condition=Ready --timeout=60s");
        cluster.kubectl(&wait).ok();
    }
    let export = cluster.json(&format!("get meshexport mesh-1 {SYSTEM}"));
    assert_eq!(export["spec"]["network"], "network-1");
    let uid = cluster.json("get ns kube-system");
    assert_eq!(export["spec"]["clusterUid"], uid["metadata"]["uid"]);
    let system = cluster.json("get ns catamaran-system");
    assert_eq!(
        system["metadata"]["labels"]["topology.istio.io/network"],
        "network-1"
    );
    // Where sidecars look for the roots; that the control plane could write it shows that its rights are enough.
    let roots = cluster.json(&format!("get cm catamaran-ca-root-cert {SYSTEM}"));
    assert!(
        roots["data"]["root-cert.pem"]
            .as_str()
            .is_some_and(|pem| pem.contains("BEGIN CERTIFICATE"))
    );
}

fn it_may_do_little(cluster: &Cluster) {
    for yes in [
        "create tokenreviews.authentication.k8s.io",
        "watch pods -A",
        "list secrets -n catamaran-system",
        "patch configmap/catamaran-ca-root-cert -n default",
        "patch meshes.catamaran.dev/mesh-1 --subresource=status -n catamaran-system",
    ] {
        assert!(cluster.may(yes), "{yes}");
    }
    for no in [
        "list secrets -A",
        "get secrets -n default",
        "create secrets -n default",
        "delete secrets -n catamaran-system",
        "patch configmap/other -n default",
        "delete configmap/catamaran-ca-root-cert -n default",
        "patch meshes.catamaran.dev/mesh-1 -n catamaran-system",
        "create pods -n catamaran-system",
        "patch deployments.apps -n catamaran-system",
        "create subjectaccessreviews.authorization.k8s.io",
        "patch nodes",
    ] {
        assert!(!cluster.may(no), "{no}");
    }
}

/// A namespace and a Secret that people made: both are used as they are, and both stay.
fn an_authority_brought_along_is_used(cluster: &Cluster, create: &str, files: &Value) {
    cluster.kubectl("create namespace catamaran-system").ok();
    let secret = serde_json::json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "cacerts", "namespace": "catamaran-system"}, "data": files,
    });
    cluster
        .kubectl_with("create -f -", &secret.to_string())
        .ok();
    let said = cluster.catamaran(create).ok();
    assert!(said.err.contains("used unchanged"), "{said:?}");
    cluster.catamaran("mesh delete mesh-1").ok();
    let left = cluster.json(&format!("get secret cacerts {SYSTEM}"));
    assert_eq!(left["data"], *files);
    cluster.kubectl("delete namespace catamaran-system").ok();
}
