//! Control planes on real API servers: `CATAMARAN_CLUSTERS` names the program that starts them (`cargo xtask cluster build`
//! prints it), `CATAMARAN_BIN` the binary under test.

mod leases;

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use catamaran_e2e::{Fleet, binary};
use serde_json::Value;

mod managed;
mod tokens;

const SOON: Duration = Duration::from_secs(60);

fn program() -> PathBuf {
    let path = std::env::var_os("CATAMARAN_CLUSTERS");
    PathBuf::from(path.expect("CATAMARAN_CLUSTERS names the program of the test clusters; `cargo xtask cluster build` prints it"))
}

/// An API server with its controllers, ended when the value is dropped.
struct ApiServer {
    folder: PathBuf,
}

impl ApiServer {
    fn up(folder: PathBuf) -> ApiServer {
        let server = ApiServer { folder };
        let up = Command::new(program())
            .arg("up")
            .arg(&server.folder)
            .args(["--only", "api", "--audit"])
            .output()
            .unwrap();
        assert!(
            up.status.success(),
            "{}",
            String::from_utf8_lossy(&up.stderr)
        );
        server
    }

    fn kubeconfig(&self) -> PathBuf {
        self.folder.join("kubeconfig")
    }

    /// `kubectl WORDS`, with a file on standard input; what it printed.
    fn kubectl(&self, words: &str, input: &str) -> String {
        let mut child = Command::new(program().with_file_name("kubectl"))
            .arg("--kubeconfig")
            .arg(self.kubeconfig())
            .args(words.split_whitespace())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        std::io::Write::write_all(&mut child.stdin.take().unwrap(), input.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "kubectl {words}: {said}");
        String::from_utf8(output.stdout).unwrap()
    }

    fn json(&self, words: &str) -> Value {
        serde_json::from_str(&self.kubectl(&format!("{words} -o json"), "")).unwrap()
    }

    fn signal(&self, signal: &str) {
        let mut command = Command::new(program());
        command.arg("signal").arg(&self.folder);
        let done = command.args(["kube-apiserver", signal]).status().unwrap();
        assert!(done.success());
    }

    /// The objects of an instance, with `helloworld` at one address.
    fn furnish(&self, n: u8) {
        self.kubectl("apply -f -", &catamaran_kubernetes::crd::yaml());
        self.kubectl("wait --for=condition=Established --timeout=30s crd/meshes.catamaran.dev crd/clusters.catamaran.dev crd/meshexports.catamaran.dev", "");
        let objects = format!(
            "
apiVersion: v1
kind: Namespace
metadata: {{name: catamaran-system}}
---
apiVersion: v1
kind: Namespace
metadata: {{name: sample, labels: {{istio-injection: enabled}}}}
---
apiVersion: v1
kind: ServiceAccount
metadata: {{name: sleep, namespace: sample}}
---
apiVersion: catamaran.dev/v1alpha1
kind: Mesh
metadata: {{name: mesh-{n}, namespace: catamaran-system}}
spec: {{region: region-{n}}}
---
apiVersion: catamaran.dev/v1alpha1
kind: Cluster
metadata: {{name: cluster-{n}, namespace: catamaran-system}}
spec: {{mode: Managed}}
---
apiVersion: v1
kind: Service
metadata: {{name: helloworld, namespace: sample}}
spec: {{ports: [{{name: http, port: 5000}}]}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: helloworld-1, namespace: sample, labels: {{kubernetes.io/service-name: helloworld}}}}
addressType: IPv4
ports: [{{name: http, port: 5000, protocol: TCP}}]
endpoints: [{{addresses: [10.{n}.0.5], conditions: {{ready: true}}}}]
"
        );
        self.kubectl("apply -f -", &objects);
    }

    /// A kubeconfig of a reader of this cluster, made as a person would make it.
    fn reader(&self) -> String {
        let reading = "mesh-1".parse().unwrap();
        self.kubectl("apply -f -", &catamaran_kubernetes::reader::yaml(&reading));
        let token = self.kubectl(
            "-n catamaran-system create token catamaran-reader-mesh-1 --duration 1h",
            "",
        );
        let config = self.json("config view --raw");
        let cluster = &config["clusters"][0]["cluster"];
        serde_json::json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "c",
            "clusters": [{"name": "c", "cluster": {
                "server": cluster["server"], "certificate-authority-data": cluster["certificate-authority-data"],
            }}],
            "users": [{"name": "u", "user": {"token": token.trim()}}],
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        })
        .to_string()
    }
}

impl Drop for ApiServer {
    fn drop(&mut self) {
        let mut down = Command::new(program());
        let _ = down.arg("down").arg(&self.folder).output();
    }
}

/// A control plane on an API server, killed when the value is dropped.
struct Plane {
    child: Child,
    folder: PathBuf,
    port: u16,
}

fn free_port() -> u16 {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    free.local_addr().unwrap().port()
}

impl Plane {
    fn start(server: &ApiServer, n: u8, cacerts: &Path) -> Plane {
        Plane::start_with(server, n, cacerts, &[])
    }

    fn start_with(server: &ApiServer, n: u8, cacerts: &Path, more: &[&str]) -> Plane {
        let folder = server.folder.with_extension("plane");
        std::fs::create_dir_all(folder.join("state")).unwrap();
        let port = free_port();
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(folder.join("log"))
            .unwrap();
        let child = Command::new(binary())
            .arg("control-plane")
            .arg("--kubeconfig")
            .arg(server.kubeconfig())
            .args([
                "--cluster",
                &format!("cluster-{n}"),
                "--mesh",
                &format!("mesh-{n}"),
            ])
            .arg("--cacerts")
            .arg(cacerts)
            .arg("--state")
            .arg(folder.join("state"))
            .arg("--socket")
            .arg(folder.join("sock"))
            .args(["--listen", &format!("127.0.0.1:{port}"), "--allow-loopback"])
            .args(more)
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        Plane {
            child,
            folder,
            port,
        }
    }

    fn ask(&self, path: &str) -> Option<Value> {
        use std::io::{Read as _, Write as _};
        let mut stream = std::os::unix::net::UnixStream::connect(self.folder.join("sock")).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
        let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).ok()?;
        let mut text = String::new();
        stream.read_to_string(&mut text).ok()?;
        let (head, body) = text.split_once("\r\n\r\n")?;
        assert!(!head.to_ascii_lowercase().contains("chunked"), "{head}");
        serde_json::from_str(body).ok()
    }

    /// Asks again until the status is as wanted.
    fn until(&self, what: &str, check: impl Fn(&Value) -> bool) -> Value {
        let start = Instant::now();
        loop {
            let status = self.ask("/v1/status");
            if let Some(status) = status.as_ref().filter(|status| check(status)) {
                return status.clone();
            }
            if start.elapsed() > SOON {
                let log = std::fs::read_to_string(self.folder.join("log")).unwrap_or_default();
                panic!("not within {SOON:?}: {what}\n{status:#?}\n{log}");
            }
            std::thread::park_timeout(Duration::from_millis(100));
        }
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.join("log")).unwrap()
    }
}

impl Drop for Plane {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn cluster<'a>(status: &'a Value, name: &str) -> &'a Value {
    let all = status["clusters"].as_array().unwrap();
    all.iter()
        .find(|one| one["name"] == name)
        .unwrap_or(&Value::Null)
}

/// A sidecar that asks for a certificate with a token; whether it gets one, and what it said.
fn sidecar(plane: &Plane, root: &Path, token: &str) -> (bool, String) {
    sidecar_of("cluster-1", plane, root, token)
}

/// The same, of a cluster that it says it is in.
fn sidecar_of(cluster: &str, plane: &Plane, root: &Path, token: &str) -> (bool, String) {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    std::fs::write(at("token"), token).unwrap();
    let log = std::fs::File::create(at("log")).unwrap();
    let mut child = Command::new(binary())
        .args([
            "proxy",
            "sidecar",
            "--mesh",
            "mesh-1",
            "--cluster",
            cluster,
            "--namespace",
            "sample",
        ])
        .args([
            "--pod",
            "sleep-1",
            "--service-account",
            "sleep",
            "--capture",
            "explicit",
        ])
        .args([
            "--address",
            "127.0.77.9",
            "--control-plane",
            &format!("localhost:{}", plane.port),
        ])
        .arg("--root-cert")
        .arg(root)
        .arg("--join-token")
        .arg(at("token"))
        .arg("--state")
        .arg(at("state"))
        .arg("--admin-socket")
        .arg(at("admin.sock"))
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn()
        .unwrap();
    let start = Instant::now();
    let said = loop {
        let said = std::fs::read_to_string(at("log")).unwrap();
        let over = said.contains("holding a new certificate") || said.contains("does not sign");
        if over || start.elapsed() > SOON {
            break said;
        }
        std::thread::park_timeout(Duration::from_millis(50));
    };
    let _ = child.kill();
    let _ = child.wait();
    (said.contains("holding a new certificate"), said)
}

#[test]
fn two_primaries_on_their_own_api_servers() {
    let folder = tempfile::tempdir().unwrap();
    // The intermediates of two instances of one root, as local clusters make them.
    let fleet = Fleet::empty();
    for n in [1, 2] {
        fleet.say(&format!("cluster create c{n}")).ok();
    }
    fleet.say("mesh create mesh-1 --cluster c1 --region r").ok();
    fleet
        .say("mesh create mesh-2 --cluster c2 --region r --reuse-root mesh-1")
        .ok();
    fleet.say("fleet down").ok();
    let cacerts = |n: u8| fleet.dir().join(format!("clusters/c{n}/private/cacerts"));

    let one = ApiServer::up(folder.path().join("one"));
    let two = ApiServer::up(folder.path().join("two"));
    one.furnish(1);
    two.furnish(2);
    let planes = [
        Plane::start(&one, 1, &cacerts(1)),
        Plane::start(&two, 2, &cacerts(2)),
    ];
    for (plane, name) in planes.iter().zip(["cluster-1", "cluster-2"]) {
        plane.until("it runs", |status| {
            status["state"] == "running" && cluster(status, name)["freshness"] == "fresh"
        });
    }

    // Its word, its status and its roots are in its own cluster.
    let [plane, _] = &planes;
    let start = Instant::now();
    loop {
        let mesh = one.json("-n catamaran-system get mesh mesh-1");
        let roots = one.json("get configmaps -A -l catamaran.dev/config=true");
        let exports = one.json("-n catamaran-system get meshexports");
        let there = roots["items"].as_array().unwrap().len() == 3
            && exports["items"][0]["spec"]["cluster"] == "cluster-1";
        if there && mesh["status"]["phase"] == "Ready" {
            break;
        }
        assert!(start.elapsed() < SOON, "{mesh:#}\n{roots:#}\n{exports:#}");
        std::thread::park_timeout(Duration::from_millis(200));
    }

    // A discovery-only cluster, by a remote secret in Istio's form.
    let secret = serde_json::json!({
        "apiVersion": "v1", "kind": "Secret",
        "metadata": {"name": "istio-remote-secret-cluster-2", "namespace": "catamaran-system", "labels": {"istio/multiCluster": "true"}},
        "stringData": {"cluster-2": two.reader()},
    });
    let member = serde_json::json!({
        "apiVersion": "catamaran.dev/v1alpha1", "kind": "Cluster",
        "metadata": {"name": "cluster-2", "namespace": "catamaran-system"},
        "spec": {"mode": "DiscoveryOnly", "secret": "istio-remote-secret-cluster-2"},
    });
    one.kubectl("apply -f -", &secret.to_string());
    one.kubectl("apply -f -", &member.to_string());
    let both = |status: &Value| {
        let two = cluster(status, "cluster-2");
        two["freshness"] == "fresh" && two["endpoints"] == 1 && two["mesh"] == "mesh-2"
    };
    let status = plane.until("the other cluster is discovered", both);

    // Who manages it, and which version that is, stands where people look before they go to another version.
    let start = Instant::now();
    loop {
        let two = one.json("-n catamaran-system get clusters.catamaran.dev cluster-2");
        let told = &two["status"];
        if told["mesh"] == "mesh-2" && told["version"] == status["version"] {
            break;
        }
        assert!(start.elapsed() < SOON, "{two:#}");
        std::thread::park_timeout(Duration::from_millis(200));
    }

    // An endpoint that comes in the other cluster.
    let patch = r#"[{"op":"add","path":"/endpoints/-","value":{"addresses":["10.2.0.6"],"conditions":{"ready":true}}}]"#;
    two.kubectl(
        &format!("-n sample patch endpointslice helloworld-1 --type json -p {patch}"),
        "",
    );
    plane.until("its new endpoint", |status| {
        cluster(status, "cluster-2")["endpoints"] == 2
    });

    // Who may have a certificate is said by the API server; while that hangs, by its keys.
    let root = cacerts(1).join("root-cert.pem");
    let token = one.kubectl("-n sample create token sleep --audience istio-ca", "");
    let (signed, said) = sidecar(plane, &root, &token);
    assert!(signed, "{said}");
    let other = one.kubectl("-n sample create token sleep", "");
    let (signed, said) = sidecar(plane, &root, &other);
    assert!(!signed && said.contains("is not accepted"), "{said}");
    let foreign = two.kubectl("-n sample create token sleep --audience istio-ca", "");
    let (signed, said) = sidecar(plane, &root, &foreign);
    let refused = !signed && said.contains("is not accepted");
    assert!(refused, "a token of another cluster: {said}");
    one.signal("STOP");
    let (signed, said) = sidecar(plane, &root, &token);
    one.signal("CONT");
    assert!(signed, "{said}");
    assert!(
        plane.log().contains("checked with the keys it had"),
        "{}",
        plane.log()
    );

    // An API server that hangs makes its cluster stale, never empty, also for a control plane that starts meanwhile.
    two.signal("STOP");
    let kept = |status: &Value| {
        let two = cluster(status, "cluster-2");
        two["freshness"] == "stale" && two["endpoints"] == 2 && status["ready"] == true
    };
    plane.until("it is stale and kept", kept);
    let [plane, peer] = planes;
    drop(plane);
    let plane = Plane::start(&one, 1, &cacerts(1));
    plane.until("it is kept by the next one", kept);
    two.signal("CONT");
    plane.until("it is fresh again", |status| {
        let two = cluster(status, "cluster-2");
        two["freshness"] == "fresh" && two["endpoints"] == 2
    });

    // What the reader did in the other cluster: reads, and nothing else but tokens and reviews for itself.
    drop((plane, peer));
    let audit = std::fs::read_to_string(two.folder.join("audit.log")).unwrap();
    let reader = "system:serviceaccount:catamaran-system:catamaran-reader-mesh-1";
    let mut seen = 0;
    for line in audit.lines() {
        let event: Value = serde_json::from_str(line).unwrap();
        if event["user"]["username"] != reader {
            continue;
        }
        seen += 1;
        let verb = event["verb"].as_str().unwrap();
        let resource = event["objectRef"]["resource"].as_str().unwrap_or("none");
        let sub = event["objectRef"]["subresource"].as_str();
        let reads = ["get", "list", "watch"].contains(&verb) && resource != "secrets";
        let own =
            verb == "create" && (sub == Some("token") || resource == "selfsubjectrulesreviews");
        assert!(reads || own, "{event:#}");
    }
    assert!(seen > 5, "the audit log has {seen} requests of the reader");
}
