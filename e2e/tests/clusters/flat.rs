//! Two clusters whose pods reach each other, with what an Istio has left there: `cacerts` from a root made with openssl, remote
//! secrets, and the label `istio-injection`. Nothing of it is changed.

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use catamaran_e2e::clusters::{Cluster, Load, Person, until};
use serde_json::{Value, json};

use crate::*;

const SERVICES: [&str; 2] = ["--service-range", "10.96.0.0/16"];

#[test]
fn the_five_steps_with_what_an_istio_has_left() {
    let flags = ["10.244.0.0/16", "10.245.0.0/16"]
        .map(|pods| [&["--pod-range", pods], &SERVICES[..]].concat());
    let clusters = two_clusters("flat", [&flags[0], &flags[1]]);
    let [one, two] = &clusters;
    let person = Person::of(&[one, two]);
    one.connect(two, true);
    istios_authorities(&clusters);
    let before = [objects(one), objects(two)];
    let given = clusters.each_ref().map(istios);

    let start = Instant::now();
    for (cluster, n) in clusters.iter().zip([1, 2]) {
        let context = cluster.name();
        let said = person.says(&format!(
            "mesh create mesh-{n} --context {context} --cluster cluster-{n} --region region-{n} --istio-namespace istio-system \
             --image catamaran.dev/catamaran:dev"
        ));
        let said = said.ok();
        assert!(
            said.err
                .contains("Istio's Secret cacerts is used unchanged"),
            "{said:?}"
        );
    }
    step("two instances on the root that was there run", start);
    let start = Instant::now();
    one.apply(&remote_secret(two, "cluster-2").to_string());
    two.apply(&remote_secret(one, "cluster-1").to_string());
    // Nobody made an object for it, so what is known of it is in that of the instance.
    for (cluster, n) in clusters.iter().zip([1, 2]) {
        until("the other cluster is discovered", || {
            let mesh = cluster.json(&format!("{SYSTEM} get mesh mesh-{n}"));
            let so = mesh["status"]["clusters"] == 2 && mesh["status"]["phase"] == "Ready";
            so.then_some(()).ok_or(mesh)
        });
    }
    step("each discovers the other by Istio's remote secret", start);

    sample_alternates(&clusters);
    one.kubectl("scale deploy/sleep --replicas=1").ok();
    one.rolled_out("sleep", "default");
    alternates(one);
    let load = Load::begin(one, "sleep", 1);
    let start = Instant::now();
    two.kubectl("rollout restart deploy/helloworld-v2").ok();
    two.rolled_out("helloworld-v2", "default");
    one.kubectl("scale deploy/helloworld-v1 --replicas=0").ok();
    until("v2 answers alone", || {
        let said = one.exec("sleep", TEN_CALLS).ok();
        let alone = said.out.lines().all(|line| line.contains("v2"));
        alone.then_some(()).ok_or(said)
    });
    let _ = load.calls(40);
    let tally = load.end().none_failed("workloads come and go, pod to pod");
    println!(
        "           {} calls, v1 {}, v2 {}, none failed",
        tally.all(),
        tally.v1,
        tally.v2
    );
    step("workloads came and went", start);

    assert_eq!(
        clusters.each_ref().map(istios),
        given,
        "what Istio has left was changed"
    );
    for (cluster, n) in [(one, "2"), (two, "1")] {
        cluster
            .kubectl(&format!(
                "delete secret -n istio-system istio-remote-secret-cluster-{n}"
            ))
            .ok();
    }
    let start = Instant::now();
    for (cluster, n) in clusters.iter().zip([1, 2]) {
        person
            .says(&format!(
                "mesh delete mesh-{n} --context {}",
                cluster.name()
            ))
            .ok();
    }
    nothing_left(&clusters, &before);
    step(
        "both instances are deleted, and nothing of them is left",
        start,
    );
}

/// What Istio's own documents tell people to do: a root, an intermediate for each cluster, and `cacerts` in `istio-system`; and
/// the account of its reader.
fn istios_authorities(clusters: &[Cluster; 2]) {
    let start = Instant::now();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let at = folder.path();
    openssl(
        at,
        "req -x509 -newkey rsa:2048 -nodes -sha256 -days 3650 -keyout root-key.pem -out root-cert.pem -subj /O=Istio/CN=Root~CA",
    );
    for (cluster, n) in clusters.iter().zip([1, 2]) {
        let extensions = "basicConstraints=critical,CA:true,pathlen:0\nkeyUsage=critical,digitalSignature,nonRepudiation,keyEncipherment,keyCertSign\n\
                          subjectAltName=DNS:istiod.istio-system.svc\n";
        std::fs::write(at.join("extensions"), extensions).expect("a file");
        openssl(
            at,
            &format!(
                "req -new -newkey rsa:2048 -nodes -sha256 -keyout ca-key.pem -out ca.csr -subj /O=Istio/CN=Intermediate~CA/L=cluster{n}"
            ),
        );
        openssl(
            at,
            "x509 -req -sha256 -days 730 -in ca.csr -CA root-cert.pem -CAkey root-key.pem -CAcreateserial -extfile extensions -out ca-cert.pem",
        );
        let read = |name: &str| std::fs::read_to_string(at.join(name)).expect("what openssl wrote");
        let secret = json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "cacerts", "namespace": "istio-system"},
            "stringData": {
                "ca-cert.pem": read("ca-cert.pem"), "ca-key.pem": read("ca-key.pem"), "root-cert.pem": read("root-cert.pem"),
                "cert-chain.pem": read("ca-cert.pem") + &read("root-cert.pem"),
            },
        });
        cluster.kubectl("create namespace istio-system").ok();
        cluster.apply(&secret.to_string());
        cluster.apply(READER);
    }
    step("a root and two intermediates by openssl", start);
}

/// The reader of an Istio, with what its role may.
const READER: &str = r#"
apiVersion: v1
kind: ServiceAccount
metadata: {name: istio-reader-service-account, namespace: istio-system}
---
apiVersion: v1
kind: Secret
metadata:
  name: istio-reader-service-account-istio-remote-secret-token
  namespace: istio-system
  annotations: {kubernetes.io/service-account.name: istio-reader-service-account}
type: kubernetes.io/service-account-token
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: istio-reader-clusterrole-istio-system}
rules:
- {apiGroups: [""], resources: [endpoints, pods, services, nodes, replicationcontrollers, namespaces, secrets, configmaps], verbs: [get, list, watch]}
- {apiGroups: [networking.istio.io, security.istio.io], resources: ["*"], verbs: [get, list, watch]}
- {apiGroups: [apiextensions.k8s.io], resources: [customresourcedefinitions], verbs: [get, list, watch]}
- {apiGroups: [discovery.k8s.io], resources: [endpointslices], verbs: [get, list, watch]}
- {apiGroups: [apps], resources: [replicasets], verbs: [get, list, watch]}
- {apiGroups: [authentication.k8s.io], resources: [tokenreviews], verbs: [create]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: istio-reader-clusterrole-istio-system}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: istio-reader-clusterrole-istio-system}
subjects: [{kind: ServiceAccount, name: istio-reader-service-account, namespace: istio-system}]
"#;

/// The Secret as `istioctl create-remote-secret --name=NAME` writes it.
fn remote_secret(of: &Cluster, name: &str) -> Value {
    let token = until("the reader has a token", || {
        let said = of.kubectl(
            "-n istio-system get secret istio-reader-service-account-istio-remote-secret-token -o go-template={{.data.token|base64decode}}",
        );
        (said.code == 0 && said.out.contains('.'))
            .then_some(said.out.clone())
            .ok_or(said)
    });
    let config = of.json("config view --raw");
    let cluster = &config["clusters"][0]["cluster"];
    let kubeconfig = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": name, "preferences": {},
        "clusters": [{"name": name, "cluster": {
            "server": cluster["server"], "certificate-authority-data": cluster["certificate-authority-data"],
        }}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": name}}],
        "users": [{"name": name, "user": {"token": token}}],
    });
    json!({
        "apiVersion": "v1", "kind": "Secret",
        "metadata": {
            "name": format!("istio-remote-secret-{name}"), "namespace": "istio-system",
            "annotations": {"networking.istio.io/cluster": name}, "labels": {"istio/multiCluster": "true"},
        },
        "stringData": {name: kubeconfig.to_string()},
    })
}

/// Everything in `istio-system` that was there before us.
fn istios(cluster: &Cluster) -> Vec<Value> {
    let secret = cluster.json("get secret -n istio-system cacerts");
    let account = cluster.json("get sa -n istio-system istio-reader-service-account");
    vec![secret, account]
}

/// `openssl LINE` in a folder; '~' is a blank.
fn openssl(folder: &Path, line: &str) {
    let words = line.split(' ').map(|word| word.replace('~', " "));
    let made = Command::new("openssl")
        .args(words)
        .current_dir(folder)
        .output()
        .expect("openssl is there");
    assert!(
        made.status.success(),
        "openssl {line}: {}",
        String::from_utf8_lossy(&made.stderr)
    );
}
