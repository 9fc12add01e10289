//! A fleet in a temporary folder, with what operators and nodes would have written into it.

use std::net::SocketAddr;
use std::path::PathBuf;

use catamaran_control_plane::{Config, Status, start};
use catamaran_identity::{CaCerts, JoinToken, Root};
use catamaran_local::fleet::{ClusterDir, FleetDir, Isolation};
use catamaran_local::{atomic, write};
use catamaran_model::*;
use catamaran_process::{Process, now_millis};
use serde_json::json;

pub(crate) fn now() -> Timestamp {
    Timestamp(now_millis())
}

pub(crate) fn mesh(name: &str) -> MeshName {
    MeshName::new(name).unwrap()
}

pub(crate) fn cluster(name: &str) -> ClusterId {
    ClusterId::new(name).unwrap()
}

pub(crate) fn new_root(of: &str) -> Root {
    Root::create(&TrustDomain::default(), &mesh(of), now()).unwrap()
}

/// `default/sleep`
pub(crate) fn identity(text: &str) -> SpiffeId {
    let (namespace, account) = text.split_once('/').unwrap();
    SpiffeId::parse(&format!(
        "spiffe://cluster.local/ns/{namespace}/sa/{account}"
    ))
    .unwrap()
}

pub(crate) struct Fleet {
    _folder: tempfile::TempDir,
    pub(crate) dir: FleetDir,
    pub(crate) root: Root,
}

impl Fleet {
    pub(crate) fn new() -> Fleet {
        let folder = tempfile::tempdir().unwrap();
        let (dir, _) = FleetDir::create(folder.path(), Isolation::Netns, "a1b2c3").unwrap();
        Fleet {
            _folder: folder,
            dir,
            root: new_root("mesh-1"),
        }
    }

    /// A cluster with an instance on the fleet's root, and `helloworld` with one pod.
    pub(crate) fn cluster(&self, name: &str, of: &str) -> Cluster {
        self.cluster_under(&self.root, name, of)
    }

    pub(crate) fn cluster_under(&self, root: &Root, name: &str, of: &str) -> Cluster {
        let network = NetworkId::new("flat").unwrap();
        let (dir, _) = self
            .dir
            .create_cluster(&cluster(name), &network, &format!("uid-{name}"))
            .unwrap();
        dir.make_folders().unwrap();
        let made = Cluster {
            dir,
            mesh: mesh(of),
            name: cluster(name),
            fleet: self.dir.path().to_owned(),
        };
        made.authority(root);
        made.settings(MtlsMode::Strict);
        made.member(name, None);
        made
    }
}

pub(crate) struct Cluster {
    pub(crate) dir: ClusterDir,
    pub(crate) name: ClusterId,
    pub(crate) mesh: MeshName,
    fleet: PathBuf,
}

impl Cluster {
    /// What the instance says of itself.
    pub(crate) fn settings(&self, mtls: MtlsMode) {
        let spec = MeshSpec {
            name: self.mesh.clone(),
            region: Some(Region::new(format!("region-of-{}", self.name)).unwrap()),
            version: None,
            trust_domain: TrustDomain::default(),
            domain: ClusterDomain::default(),
            mtls,
            failover: FailoverMode::Spread,
        };
        write::put_mesh(&self.dir, &spec).unwrap();
    }

    /// Puts an intermediate of `root` into `private/cacerts`.
    pub(crate) fn authority(&self, root: &Root) -> CaCerts {
        let made = root
            .issue_intermediate(&TrustDomain::default(), &self.mesh, &self.name, now())
            .unwrap();
        self.install(&made);
        made
    }

    /// Puts this authority into `private/cacerts`.
    pub(crate) fn install(&self, made: &CaCerts) {
        for (name, text) in made.files().entries() {
            atomic::write(&self.dir.cacerts().join(name), text.as_bytes(), 0o600).unwrap();
        }
    }

    /// Adds a cluster to the instance.
    pub(crate) fn member(&self, name: &str, network: Option<&str>) {
        let managed = name == self.name.as_str();
        let member = Member {
            cluster: cluster(name),
            mode: if managed {
                MemberMode::Managed
            } else {
                MemberMode::DiscoveryOnly
            },
            network: network.map(|network| NetworkId::new(network).unwrap()),
            gateway: false,
            gateway_addresses: Vec::new(),
            credential: Credential::Folder(name.into()),
        };
        write::put_member(&self.dir, &member).unwrap();
    }

    /// A Service on port 5000, with the pods `NAME-N` of the account of that name at `10.1.C.N`.
    pub(crate) fn service(&self, name: &str, pods: &[u8]) {
        let manifest = json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": "default"},
            "spec": {"ports": [{"name": "http", "port": 5000}], "selector": {"app": name}},
        });
        self.put(&format!("objects/default/service-{name}.yaml"), &manifest);
        let mut status = manifest;
        status["spec"]["clusterIP"] = json!(format!("10.96.0.{}", name.len()));
        self.put(&format!("status/Service/default/{name}.json"), &status);
        self.pods(name, pods);
    }

    /// Other pods behind a Service.
    pub(crate) fn pods(&self, name: &str, pods: &[u8]) {
        let c = self.name.as_str().trim_start_matches("cluster-");
        let mut endpoints = Vec::new();
        for pod in pods {
            let (ip, pod) = (format!("10.1.{c}.{pod}"), format!("{name}-{pod}"));
            self.put(&format!("status/Pod/default/{pod}.json"), &json!({
                "apiVersion": "v1", "kind": "Pod",
                "metadata": {"name": pod, "namespace": "default", "labels": {"app": name, "security.istio.io/tlsMode": "istio"}},
                "spec": {"serviceAccountName": name},
                "status": {"phase": "Running", "podIP": ip},
            }));
            endpoints.push(json!({
                "addresses": [ip], "conditions": {"ready": true}, "targetRef": {"kind": "Pod", "name": pod},
            }));
        }
        self.put(&format!("status/EndpointSlice/default/{name}-local.json"), &json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
            "metadata": {"name": format!("{name}-local"), "namespace": "default", "labels": {"kubernetes.io/service-name": name}},
            "addressType": "IPv4", "ports": [{"name": "http", "port": 5000}], "endpoints": endpoints,
        }));
    }

    pub(crate) fn put(&self, path: &str, value: &serde_json::Value) {
        let text = serde_json::to_vec_pretty(value).unwrap();
        atomic::write(&self.dir.path().join(path), &text, 0o644).unwrap();
    }

    /// A one-time token as the node makes it.
    pub(crate) fn token(&self, of: &str, good_for: i64) -> String {
        let token = JoinToken::generate().unwrap();
        let record = json!({
            "sha256": token.sha256(), "identity": identity(of).to_string(), "cluster": self.name.as_str(),
            "expires": now().seconds() as i64 + good_for,
        });
        let path = self
            .dir
            .join()
            .join(format!("{}.json", of.replace('/', ".")));
        atomic::write(&path, &serde_json::to_vec(&record).unwrap(), 0o600).unwrap();
        token.text().to_string()
    }

    pub(crate) async fn start(&self) -> Plane {
        let process = Process::start(catamaran_process::Config::quiet("control-plane"));
        let config = Config {
            home: catamaran_control_plane::Home::Fleet(self.fleet.clone()),
            cluster: self.name.clone(),
            mesh: self.mesh.clone(),
            listen: "127.0.0.1:0".parse().unwrap(),
            health: None,
            admin: None,
            socket: self.dir.control_plane_socket(),
            state: self.dir.state(),
            version: Version::new("0.1.0").unwrap(),
        };
        let address = start(config, &process).await.unwrap();
        Plane {
            address,
            process,
            socket: self.dir.control_plane_socket(),
        }
    }
}

/// A control plane that runs.
pub(crate) struct Plane {
    pub(crate) address: SocketAddr,
    pub(crate) process: Process,
    socket: PathBuf,
}

impl Plane {
    pub(crate) async fn ready(self) -> Plane {
        let ready = self.process.until_ready();
        if tokio::time::timeout(crate::LONG, ready).await.is_err() {
            panic!("not ready: waits for {:?}", self.process.waiting_for());
        }
        self
    }

    pub(crate) async fn stop(self) {
        self.process.stop("the test");
        self.process.until_stopped().await;
    }

    /// Asks at the door.
    pub(crate) async fn ask(&self, method: &str, path: &str) -> (u16, String) {
        use http_body_util::BodyExt;
        let stream = tokio::net::UnixStream::connect(&self.socket).await.unwrap();
        let io = hyper_util::rt::TokioIo::new(stream);
        let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.unwrap();
        let connection = tokio::spawn(connection);
        let request = http::Request::builder()
            .method(method)
            .uri(path)
            .header("host", "door");
        let request = request
            .body(http_body_util::Empty::<bytes::Bytes>::new())
            .unwrap();
        let answer = sender.send_request(request).await.unwrap();
        let status = answer.status().as_u16();
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        connection.abort();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    pub(crate) async fn status(&self) -> Status {
        let (code, body) = self.ask("GET", "/v1/status").await;
        assert_eq!(code, 200, "{body}");
        serde_json::from_str(&body).unwrap()
    }

    /// Asks until the status is as wanted.
    pub(crate) async fn until(&self, what: &str, wanted: impl Fn(&Status) -> bool) -> Status {
        let mut last = None;
        let look = async {
            loop {
                let status = self.status().await;
                if wanted(&status) {
                    return status;
                }
                last = Some(status);
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
        };
        match tokio::time::timeout(crate::LONG, look).await {
            Ok(status) => status,
            Err(_) => panic!("waited for {what}; last: {last:#?}"),
        }
    }
}
