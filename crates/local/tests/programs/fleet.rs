//! A fleet for one test, which leaves nothing behind.

use std::future::Future;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use catamaran_local::fleet::{ClusterDir, FleetDir, Isolation};
use catamaran_local::lifecycle::{self, Stop};
use catamaran_local::node::{self, PodView};
use catamaran_local::{socket, write};
use catamaran_model::{ClusterId, MeshName, MeshSpec, Namespace, NetworkId, TrustDomain};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) struct Fleet {
    pub(crate) dir: FleetDir,
    _tmp: tempfile::TempDir,
    pub(crate) runtime: tokio::runtime::Runtime,
}

pub(crate) struct Node {
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    task: tokio::task::JoinHandle<Result<(), node::NodeError>>,
}

impl Fleet {
    pub(crate) fn new(isolation: Isolation) -> Fleet {
        let tmp = tempfile::tempdir().unwrap();
        // Unlike any other fleet that is tested on this machine now.
        let id = format!(
            "{:06x}",
            std::process::id().wrapping_mul(2_654_435_761) >> 8
        );
        let (dir, _) = FleetDir::create(tmp.path(), isolation, &id).unwrap();
        Fleet {
            dir,
            _tmp: tmp,
            runtime: tokio::runtime::Runtime::new().unwrap(),
        }
    }

    pub(crate) fn cluster(&self, name: &str, network: &str) -> ClusterDir {
        let name = ClusterId::new(name).unwrap();
        let network = NetworkId::new(network).unwrap();
        self.dir.create_cluster(&name, &network, "uid").unwrap().0
    }

    /// A mesh, with certificates that the stand-ins do not look at.
    pub(crate) fn mesh(&self, cluster: &ClusterDir) {
        for name in [
            "ca-cert.pem",
            "ca-key.pem",
            "root-cert.pem",
            "cert-chain.pem",
        ] {
            std::fs::write(cluster.cacerts().join(name), "a certificate\n").unwrap();
        }
        let mesh = MeshSpec {
            name: MeshName::new("mesh-1").unwrap(),
            region: None,
            version: None,
            trust_domain: TrustDomain::default(),
            domain: Default::default(),
            mtls: Default::default(),
            failover: Default::default(),
        };
        write::put_mesh(cluster, &mesh).unwrap();
    }

    pub(crate) fn node(&self, cluster: &ClusterDir) -> Node {
        let mut config = node::Config::new(cluster.clone()).unwrap();
        config.propagation = Duration::from_millis(300);
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let task = self.runtime.spawn(node::run(config, async {
            let _ = stopped.await;
        }));
        Node {
            stop: Some(stop),
            task,
        }
    }

    /// Ends the node as a signal would; its pods go on.
    pub(crate) fn leave(&self, mut node: Node) {
        node.stop.take().unwrap().send(()).unwrap();
        self.runtime.block_on(node.task).unwrap().unwrap();
    }

    pub(crate) fn wait<T>(&self, what: &str, mut of: impl FnMut() -> Result<T, String>) -> T {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match of() {
                Ok(found) => return found,
                Err(last) if Instant::now() > deadline => panic!("{what}: {last}"),
                Err(_) => std::thread::sleep(Duration::from_millis(20)),
            }
        }
    }

    pub(crate) fn ask(&self, cluster: &ClusterDir, path: &str) -> Result<String, String> {
        let answer = self
            .runtime
            .block_on(lifecycle::ask(&cluster.node_socket(), "GET", path));
        answer.map(|(_, body)| body).map_err(|e| e.to_string())
    }

    pub(crate) fn pods(&self, cluster: &ClusterDir) -> Result<Vec<PodView>, String> {
        serde_json::from_str(&self.ask(cluster, "/v1/pods")?).map_err(|e| e.to_string())
    }

    /// Waits until `count` pods of a Deployment are ready, and no other ones of it are left.
    pub(crate) fn ready(
        &self,
        cluster: &ClusterDir,
        deployment: &str,
        count: usize,
    ) -> Vec<PodView> {
        self.wait(&format!("{count} ready pods of {deployment}"), || {
            let pods: Vec<PodView> = (self.pods(cluster)?.into_iter())
                .filter(|pod| pod.deployment.as_deref() == Some(deployment))
                .collect();
            match pods.len() == count && pods.iter().all(|pod| pod.ready) {
                true => Ok(pods),
                false => Err(format!("{pods:?}, {:?}", self.ask(cluster, "/v1/problems"))),
            }
        })
    }

    pub(crate) fn block<T>(&self, work: impl Future<Output = T>) -> T {
        self.runtime.block_on(work)
    }

    pub(crate) fn down(&self) {
        self.block(lifecycle::down(&self.dir, Stop::Drain, PATIENCE))
            .unwrap();
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        // Also after a failed test nothing may be left: first the nodes of this process, which would start things again.
        let fresh = tokio::runtime::Runtime::new().unwrap();
        std::mem::replace(&mut self.runtime, fresh).shutdown_timeout(PATIENCE);
        let ended = self
            .runtime
            .block_on(lifecycle::down(&self.dir, Stop::Kill, PATIENCE));
        if std::thread::panicking() {
            for cluster in self.dir.clusters().unwrap_or_default() {
                show_logs(&cluster.logs());
            }
        }
        if let Err(error) = ended {
            eprintln!("something of the fleet is left: {error}");
        }
    }
}

fn show_logs(folder: &Path) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        match path.is_dir() {
            true => show_logs(&path),
            false => {
                let text = std::fs::read_to_string(&path).unwrap_or_default();
                eprintln!("--- {}\n{text}", path.display());
            }
        }
    }
}

pub(crate) fn default() -> Namespace {
    Namespace::new("default").unwrap()
}

pub(crate) fn apply(cluster: &ClusterDir, text: &str) {
    write::apply(cluster, text, Path::new("test.yaml")).unwrap();
}

pub(crate) const ACCOUNT: &str =
    "apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: helloworld}\n---\n";

pub(crate) fn helloworld(version: &str, replicas: usize) -> String {
    format!(
        "apiVersion: v1
kind: Service
metadata: {{name: helloworld}}
spec: {{ports: [{{name: http, port: 5000}}], selector: {{app: helloworld}}}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {{name: helloworld}}
spec:
  replicas: {replicas}
  selector: {{matchLabels: {{app: helloworld}}}}
  template:
    metadata: {{labels: {{app: helloworld}}}}
    spec:
      terminationGracePeriodSeconds: 5
      serviceAccountName: helloworld
      containers:
        - {{name: helloworld, image: 'examples-helloworld-{version}:1.0', ports: [{{containerPort: 5000}}]}}
"
    )
}

pub(crate) fn get(address: &str) -> Result<String, String> {
    let said = |e: std::io::Error| e.to_string();
    let mut stream = TcpStream::connect(format!("{address}:5000")).map_err(said)?;
    stream
        .set_read_timeout(Some(Duration::from_secs(5)))
        .map_err(said)?;
    stream
        .write_all(b"GET /hello HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        .map_err(said)?;
    let mut text = String::new();
    stream.read_to_string(&mut text).map_err(said)?;
    text.split_once("\r\n\r\n")
        .map(|(_, body)| body.to_owned())
        .ok_or(text)
}

pub(crate) fn slice(cluster: &ClusterDir) -> Result<serde_json::Value, String> {
    let folder = cluster.status().join("EndpointSlice/default");
    let entries = std::fs::read_dir(&folder).map_err(|e| e.to_string())?;
    let paths: Vec<PathBuf> = (entries.flatten().map(|entry| entry.path()))
        .filter(|path| path.extension().is_some_and(|e| e == "json"))
        .collect();
    let path = paths.first().ok_or("no slice")?;
    let text = std::fs::read(path).map_err(|e| e.to_string())?;
    serde_json::from_slice(&text).map_err(|e| e.to_string())
}

/// Says something at a socket with a path, to see that long ones work.
pub(crate) async fn raw_ready(path: &Path) -> std::io::Result<String> {
    let mut stream = socket::connect(path).await?;
    stream.write_all(b"GET /ready HTTP/1.0\r\n\r\n").await?;
    let mut text = [0; 64];
    let read = stream.read(&mut text).await?;
    Ok(String::from_utf8_lossy(&text[..read]).into_owned())
}
