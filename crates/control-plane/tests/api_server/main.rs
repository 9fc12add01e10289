//! The sidecar injector before a real API server, which `CATAMARAN_TEST_KUBECONFIG` names (the kubeconfig of an administrator) and
//! which reaches this machine's loopback. `cargo xtask cluster up NAME --only api` makes one. Without it the test fails.

use std::io::Write as _;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use catamaran_control_plane::{Config, Door, Home, Injection, Server};
use catamaran_kubernetes::connect::Access;
use catamaran_kubernetes::crd;
use catamaran_kubernetes::kubeconfig::{Allowed, Kubeconfig};
use catamaran_model::{ClusterId, MeshName, Version};
use catamaran_process::Process;
use serde_json::{Value, json};

const ALLOWED: Allowed = Allowed {
    loopback: true,
    link_local: false,
    proxy: false,
    files: false,
};
const CONFIGURATION: &str = "catamaran-sidecar-injector-mesh-1";

fn kubeconfig() -> PathBuf {
    let named = std::env::var_os("CATAMARAN_TEST_KUBECONFIG");
    named
        .expect("CATAMARAN_TEST_KUBECONFIG names no kubeconfig; cargo xtask cluster up NAME --only api makes one")
        .into()
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
    let mut to = child.stdin.take().unwrap();
    to.write_all(input.as_bytes()).unwrap();
    drop(to);
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

fn apply(text: &str) {
    let (good, said) = try_kubectl(&["apply", "-f", "-"], text);
    assert!(good, "{text}: {said}");
}

/// Asks until it is so.
fn until(what: &str, mut so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !so() {
        assert!(begun.elapsed() < Duration::from_secs(60), "{what}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn namespace(name: &str, labels: Value) {
    try_kubectl(
        &["delete", "namespace", name, "--wait", "--timeout=60s"],
        "",
    );
    apply(&json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}).to_string());
    until("its service account comes", || {
        try_kubectl(&["get", "serviceaccount", "default", "-n", name], "").0
    });
}

fn pod(namespace: &str, name: &str, labels: Value, annotations: Value) -> String {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"namespace": namespace, "name": name, "labels": labels, "annotations": annotations},
        "spec": {"containers": [{"name": "c", "image": "hello:1", "readinessProbe": {"tcpSocket": {"port": 80}}}]},
    })
    .to_string()
}

/// Makes a pod; gives the images of its containers, or why it was not made.
fn made(namespace: &str, name: &str, labels: Value, annotations: Value) -> Result<String, String> {
    let text = pod(namespace, name, labels, annotations);
    let (good, said) = try_kubectl(&["create", "-f", "-"], &text);
    if !good {
        return Err(said);
    }
    let images = "jsonpath={.spec.initContainers[*].image} {.spec.containers[*].image}";
    let found = kubectl(&["get", "pod", name, "-n", namespace, "-o", images]);
    kubectl(&[
        "delete",
        "pod",
        name,
        "-n",
        namespace,
        "--force",
        "--grace-period=0",
    ]);
    Ok(found)
}

async fn control_plane(address: SocketAddr) -> Process {
    let text = std::fs::read_to_string(kubeconfig()).unwrap();
    let read = Kubeconfig::read(&text, ALLOWED).unwrap();
    let folder = tempfile::tempdir().unwrap().keep();
    let config = Config {
        admin: None,
        home: Home::Server(Box::new(Server {
            access: Access::new(&read, ALLOWED).unwrap(),
            cacerts: folder.join("cacerts"),
            istio: None,
            allowed: ALLOWED,
            replica: None,
            injection: Some(Injection {
                listen: address,
                door: Door::Url(format!("https://{address}")),
                image: "sidecar:1".into(),
                control_plane: "catamaran-mesh-1.catamaran-system.svc:15012".into(),
                native: None,
            }),
        })),
        cluster: ClusterId::new("cluster-1").unwrap(),
        mesh: MeshName::new("mesh-1").unwrap(),
        listen: "127.0.0.1:0".parse().unwrap(),
        socket: folder.join("door.sock"),
        health: None,
        state: folder.join("state"),
        version: Version::new("0.1.0").unwrap(),
    };
    let process = Process::start(catamaran_process::Config::quiet("control-plane"));
    catamaran_control_plane::start(config, &process)
        .await
        .unwrap();
    process
}

#[tokio::test(flavor = "multi_thread")]
async fn a_real_api_server_asks_and_is_answered() {
    apply(&crd::yaml());
    for definition in crd::definitions() {
        let name = format!("crd/{}", definition.metadata.name.unwrap());
        kubectl(&[
            "wait",
            "--for=condition=Established",
            &name,
            "--timeout=30s",
        ]);
    }
    let ours = |kind: &str, name: &str, spec: Value| {
        json!({"apiVersion": "catamaran.dev/v1alpha1", "kind": kind, "metadata": {"namespace": "catamaran-system", "name": name}, "spec": spec})
            .to_string()
    };
    try_kubectl(
        &["delete", "mutatingwebhookconfiguration", CONFIGURATION],
        "",
    );
    apply(r#"{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "catamaran-system"}}"#);
    try_kubectl(
        &[
            "delete",
            "secret",
            "catamaran-mesh-1-webhook",
            "-n",
            "catamaran-system",
        ],
        "",
    );
    apply(&ours("Mesh", "mesh-1", json!({})));
    apply(&ours(
        "Cluster",
        "cluster-1",
        json!({"mode": "Managed", "network": "n1"}),
    ));
    namespace("asks", json!({"istio-injection": "enabled"}));
    namespace("silent", json!({}));

    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = free.local_addr().unwrap();
    drop(free);
    let process = control_plane(address).await;
    until("the configuration is there", || {
        try_kubectl(&["get", "mutatingwebhookconfiguration", CONFIGURATION], "").0
    });
    let none = || json!({});
    let injected = "sidecar:1 sidecar:1 hello:1";
    until("pods get sidecars", || {
        made("asks", "first", none(), none()) == Ok(injected.into())
    });

    assert_eq!(made("silent", "a", none(), none()), Ok(" hello:1".into()));
    let wish = json!({"sidecar.istio.io/inject": "true"});
    assert_eq!(made("silent", "b", wish, none()), Ok(injected.into()));
    let no = json!({"sidecar.istio.io/inject": "false"});
    assert_eq!(made("asks", "c", no, none()), Ok(" hello:1".into()));
    let other = json!({"istio.io/rev": "mesh-2"});
    assert_eq!(made("asks", "d", other, none()), Ok(" hello:1".into()));
    let wrong = json!({"traffic.sidecar.istio.io/excludeOutboundPorts": "mysql"});
    let said = made("asks", "e", none(), wrong).unwrap_err();
    assert!(
        said.contains("denied the request: no sidecar of mesh-1 can be added: annotation traffic.sidecar.istio.io/excludeOutboundPorts: \"mysql\" is no list of ports"),
        "{said}"
    );
    let unread = pod("asks", "f", none(), json!({"proxy.istio.io/config": "{}"}));
    let (_, said) = try_kubectl(&["create", "--dry-run=server", "-f", "-"], &unread);
    assert!(
        said.contains("Warning: annotation proxy.istio.io/config is not read"),
        "{said}"
    );

    // the Secret is lost: another certificate takes over, and no pod is refused meanwhile
    let secret = [
        "get",
        "secret",
        "catamaran-mesh-1-webhook",
        "-n",
        "catamaran-system",
        "-o",
        "jsonpath={.data.tls\\.crt}",
    ];
    let before = kubectl(&secret);
    kubectl(&[
        "delete",
        "secret",
        "catamaran-mesh-1-webhook",
        "-n",
        "catamaran-system",
    ]);
    let mut pods = 0;
    until("the Secret is written again", || {
        pods += 1;
        assert_eq!(made("asks", "g", none(), none()), Ok(injected.into()));
        let (found, now) = try_kubectl(&secret, "");
        found && now != before
    });
    for _ in 0..10 {
        pods += 1;
        assert_eq!(made("asks", "g", none(), none()), Ok(injected.into()));
    }
    println!("{pods} pods got sidecars while the certificate was replaced");

    // who is away locks nobody out of the system
    process.stop("the control plane is lost");
    process.until_stopped().await;
    let said = made("asks", "h", none(), none()).unwrap_err();
    assert!(said.contains("failed calling webhook"), "{said}");
    for free in ["silent", "catamaran-system", "kube-system"] {
        until("its service account comes", || {
            try_kubectl(&["get", "serviceaccount", "default", "-n", free], "").0
        });
        assert_eq!(
            made(free, "i", none(), none()),
            Ok(" hello:1".into()),
            "{free}"
        );
    }
    let again = control_plane(address).await;
    until("pods get sidecars again", || {
        made("asks", "j", none(), none()) == Ok(injected.into())
    });
    again.stop("done");
    again.until_stopped().await;
    kubectl(&["delete", "mutatingwebhookconfiguration", CONFIGURATION]);
    for gone in ["asks", "silent"] {
        try_kubectl(&["delete", "namespace", gone, "--wait=false"], "");
    }
}
