//! A fleet is a folder: where everything in it lies, and the two files that say what it is.
//!
//! Whoever needs a path of a fleet asks [`FleetDir`] or [`ClusterDir`]; nobody else puts such paths together.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use catamaran_model::{ClusterId, MeshName, NameError, Namespace, NetworkId, PodName};
use serde::{Deserialize, Serialize};

use crate::atomic;

/// The most physical networks of a fleet: the second part of a pod's address, below the service range `10.96.0.0/16`.
pub const MAX_NETWORKS: u8 = 95;
/// The most clusters of a fleet: the third part of a pod's address.
pub const MAX_CLUSTERS: u8 = 250;
/// The longest path of a socket, in bytes: the system's limit.
pub const MAX_SOCKET_PATH: usize = 107;

/// Why a fleet or cluster cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FleetError {
    /// The folder holds no fleet.
    #[error(
        "{0} is not a fleet: it has no fleet.json; name another folder with --fleet, or create a cluster there first"
    )]
    NotAFleet(PathBuf),
    /// There is a fleet already, of the other kind.
    #[error(
        "{path} is a fleet with isolation {found}, not {wanted}; bring it down first, or use another folder"
    )]
    OtherIsolation {
        /// The fleet.
        path: PathBuf,
        /// What it is.
        found: Isolation,
        /// What was asked for.
        wanted: Isolation,
    },
    /// No such cluster.
    #[error("there is no cluster {name} in {fleet}; it has: {known}")]
    NoSuchCluster {
        /// The name asked for.
        name: String,
        /// The fleet.
        fleet: PathBuf,
        /// The clusters it has.
        known: String,
    },
    /// The name is taken.
    #[error("the cluster {0} exists already")]
    ClusterExists(ClusterId),
    /// A number that the fleet has no more of.
    #[error("the fleet is full: at most {limit} {what}")]
    Full {
        /// Of what.
        what: &'static str,
        /// How many there may be.
        limit: u8,
    },
    /// Sockets in it would have too long a path.
    #[error(
        "the path {path} is too long for a socket ({length} bytes, at most {limit}); choose a shorter folder or name"
    )]
    TooLong {
        /// The socket's path.
        path: PathBuf,
        /// Its length.
        length: usize,
        /// The limit.
        limit: usize,
    },
    /// A name that is none.
    #[error(transparent)]
    Name(#[from] NameError),
    /// A file of the fleet says something that it may not say.
    #[error("{path} is damaged: {reason}; restore it, or create the fleet anew")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The file system said no.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl FleetError {
    pub(crate) fn io(path: &Path) -> impl FnOnce(io::Error) -> FleetError + '_ {
        move |source| FleetError::Io {
            path: path.into(),
            source,
        }
    }
}

/// How the pods of a fleet are kept apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Isolation {
    /// A network namespace for each pod; needs root.
    Netns,
    /// An address on loopback for each pod; no isolation and no capture.
    Process,
}

impl std::fmt::Display for Isolation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Isolation::Netns => "netns",
            Isolation::Process => "process",
        })
    }
}

/// `fleet.json`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fleet {
    /// Six hex digits that tell this fleet's namespaces and addresses from another's.
    pub id: String,
    /// How its pods are kept apart.
    pub isolation: Isolation,
}

/// `cluster.json`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cluster {
    /// Its name.
    pub name: ClusterId,
    /// An id that tells clusters of the same name apart.
    pub uid: String,
    /// Its number in the fleet, from 1.
    pub index: u8,
    /// The physical network it stands in.
    pub network: NetworkId,
    /// The network's number in the fleet, from 1.
    pub network_index: u8,
}

#[derive(Serialize, Deserialize)]
struct ClusterFile {
    name: String,
    uid: String,
    index: u8,
    network: String,
    network_index: u8,
}

/// The paths of a fleet.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct FleetDir(PathBuf);

/// A lock that ends with the value, and with the process.
#[derive(Debug)]
pub struct Lock(#[allow(dead_code, reason = "held, not read")] File);

impl FleetDir {
    /// The fleet in `path`; nothing is read or checked. A relative path is taken from the working directory.
    pub fn at(path: impl AsRef<Path>) -> FleetDir {
        let path = path.as_ref();
        FleetDir(std::path::absolute(path).unwrap_or_else(|_| path.into()))
    }

    /// The fleet in `path`, which must be there.
    pub fn open(path: impl AsRef<Path>) -> Result<(FleetDir, Fleet), FleetError> {
        let dir = FleetDir::at(path);
        let fleet = dir.read()?;
        Ok((dir, fleet))
    }

    /// Makes a fleet in `path`, or opens the one that is there when its isolation is the same. `id` is six hex digits.
    pub fn create(
        path: impl AsRef<Path>,
        isolation: Isolation,
        id: &str,
    ) -> Result<(FleetDir, Fleet), FleetError> {
        let dir = FleetDir::at(path);
        within(&dir.cluster(&ClusterId::new("c")?).control_plane_socket())?;
        fs::create_dir_all(dir.clusters_dir()).map_err(FleetError::io(&dir.0))?;
        let _lock = dir.lock()?;
        match dir.read() {
            Ok(fleet) if fleet.isolation == isolation => return Ok((dir, fleet)),
            Ok(fleet) => {
                return Err(FleetError::OtherIsolation {
                    path: dir.0,
                    found: fleet.isolation,
                    wanted: isolation,
                });
            }
            Err(FleetError::NotAFleet(_)) => {}
            Err(other) => return Err(other),
        }
        let fleet = Fleet {
            id: id.into(),
            isolation,
        };
        check_id(&fleet.id, &dir.fleet_json())?;
        private_dir(&dir.trust_dir())?;
        write_json(&dir.fleet_json(), &fleet)?;
        Ok((dir, fleet))
    }

    /// Its `fleet.json`.
    pub fn read(&self) -> Result<Fleet, FleetError> {
        let path = self.fleet_json();
        let text = match fs::read(&path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                return Err(FleetError::NotAFleet(self.0.clone()));
            }
            other => other.map_err(FleetError::io(&path))?,
        };
        let fleet: Fleet = serde_json::from_slice(&text).map_err(damaged(&path))?;
        check_id(&fleet.id, &path)?;
        Ok(fleet)
    }

    /// The folder itself.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// What the fleet is.
    pub fn fleet_json(&self) -> PathBuf {
        self.0.join("fleet.json")
    }

    /// The roots of trust, one folder for each mesh that made one.
    pub fn trust_dir(&self) -> PathBuf {
        self.0.join("trust")
    }

    /// The root of trust that `mesh` made.
    pub fn trust(&self, mesh: &MeshName) -> PathBuf {
        self.trust_dir().join(mesh.as_str())
    }

    /// The clusters' folders.
    pub fn clusters_dir(&self) -> PathBuf {
        self.0.join("clusters")
    }

    /// The paths of one cluster, whether it exists or not.
    pub fn cluster(&self, name: &ClusterId) -> ClusterDir {
        ClusterDir {
            path: self.clusters_dir().join(name.as_str()),
            name: name.clone(),
            fleet: self.clone(),
        }
    }

    /// The clusters that exist, by name.
    pub fn clusters(&self) -> Result<Vec<ClusterDir>, FleetError> {
        let folder = self.clusters_dir();
        let entries = match fs::read_dir(&folder) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other.map_err(FleetError::io(&folder))?,
        };
        let mut clusters = Vec::new();
        for entry in entries {
            let entry = entry.map_err(FleetError::io(&folder))?;
            let Ok(name) = ClusterId::new(entry.file_name().to_string_lossy()) else {
                continue;
            };
            let cluster = self.cluster(&name);
            if cluster.cluster_json().is_file() {
                clusters.push(cluster);
            }
        }
        clusters.sort();
        Ok(clusters)
    }

    /// A cluster that must exist.
    pub fn existing(&self, name: &ClusterId) -> Result<(ClusterDir, Cluster), FleetError> {
        let dir = self.cluster(name);
        if !dir.cluster_json().is_file() {
            let known: Vec<String> = (self.clusters()?.iter())
                .map(|cluster| cluster.name().to_string())
                .collect();
            return Err(FleetError::NoSuchCluster {
                name: name.to_string(),
                fleet: self.0.clone(),
                known: match known.is_empty() {
                    true => "none".into(),
                    false => known.join(", "),
                },
            });
        }
        let cluster = dir.read()?;
        Ok((dir, cluster))
    }

    /// Makes a cluster in the physical network `network`; clusters that name the same network reach each other's pods.
    /// `uid` tells it from an earlier one of the same name.
    pub fn create_cluster(
        &self,
        name: &ClusterId,
        network: &NetworkId,
        uid: &str,
    ) -> Result<(ClusterDir, Cluster), FleetError> {
        within(&self.cluster(name).control_plane_socket())?;
        self.read()?;
        let _lock = self.lock()?;
        let others: Vec<Cluster> = (self.clusters()?.iter())
            .map(ClusterDir::read)
            .collect::<Result<_, _>>()?;
        let dir = self.cluster(name);
        if dir.cluster_json().exists() {
            return Err(FleetError::ClusterExists(name.clone()));
        }
        let network_index = match others.iter().find(|other| other.network == *network) {
            Some(other) => other.network_index,
            None => free(MAX_NETWORKS, "networks", |n| {
                others.iter().any(|other| other.network_index == n)
            })?,
        };
        let cluster = Cluster {
            name: name.clone(),
            uid: uid.into(),
            index: free(MAX_CLUSTERS, "clusters", |n| {
                others.iter().any(|other| other.index == n)
            })?,
            network: network.clone(),
            network_index,
        };
        let objects = dir.objects();
        fs::create_dir_all(&objects).map_err(FleetError::io(&objects))?;
        dir.make_folders()?;
        write_json(
            &dir.cluster_json(),
            &ClusterFile {
                name: cluster.name.to_string(),
                uid: cluster.uid.clone(),
                index: cluster.index,
                network: cluster.network.to_string(),
                network_index: cluster.network_index,
            },
        )?;
        Ok((dir, cluster))
    }

    /// Waits for the lock under which the fleet's shared things (indexes, networks) are changed.
    pub fn lock(&self) -> Result<Lock, FleetError> {
        let path = self.0.join(".lock");
        let file = lock_file(&path)?;
        file.lock().map_err(FleetError::io(&path))?;
        Ok(Lock(file))
    }
}

/// The paths of one cluster of a fleet.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ClusterDir {
    name: ClusterId,
    path: PathBuf,
    fleet: FleetDir,
}

impl ClusterDir {
    /// Its `cluster.json`.
    pub fn read(&self) -> Result<Cluster, FleetError> {
        let path = self.cluster_json();
        let text = fs::read(&path).map_err(FleetError::io(&path))?;
        let file: ClusterFile = serde_json::from_slice(&text).map_err(damaged(&path))?;
        let in_range = (1..=MAX_CLUSTERS).contains(&file.index)
            && (1..=MAX_NETWORKS).contains(&file.network_index);
        if !in_range || file.name != self.name.as_str() {
            return Err(FleetError::Damaged {
                path,
                reason: "its name is not its folder's, or an index is out of range".into(),
            });
        }
        Ok(Cluster {
            name: self.name.clone(),
            uid: file.uid,
            index: file.index,
            network: NetworkId::new(file.network)?,
            network_index: file.network_index,
        })
    }

    /// Makes the folders that are missing, the private ones with mode 0700, but never the one of manifests: where that is not
    /// there, nobody has said that there are none.
    pub fn make_folders(&self) -> Result<(), FleetError> {
        for folder in [self.status(), self.state(), self.logs()] {
            fs::create_dir_all(&folder).map_err(FleetError::io(&folder))?;
        }
        for folder in [self.private(), self.cacerts(), self.join(), self.run()] {
            private_dir(&folder)?;
        }
        Ok(())
    }

    /// Its name.
    pub fn name(&self) -> &ClusterId {
        &self.name
    }

    /// The fleet it belongs to.
    pub fn fleet(&self) -> &FleetDir {
        &self.fleet
    }

    /// The folder itself.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What the cluster is.
    pub fn cluster_json(&self) -> PathBuf {
        self.path.join("cluster.json")
    }

    /// The cluster's API: manifests.
    pub fn objects(&self) -> PathBuf {
        self.path.join("objects")
    }

    /// Where one object is written, one file for each: `objects/NAMESPACE/KIND-NAME.yaml`, in small letters.
    pub fn object(&self, namespace: &Namespace, kind: &str, name: &str) -> PathBuf {
        let file = format!("{}-{name}.yaml", kind.to_ascii_lowercase());
        self.objects().join(namespace.as_str()).join(file)
    }

    /// What the node says: `status/KIND/NAMESPACE/NAME.json`.
    pub fn status(&self) -> PathBuf {
        self.path.join("status")
    }

    /// One object of the status; `kind` as written, `Pod`.
    pub fn status_of(&self, kind: &str, namespace: &Namespace, name: &str) -> PathBuf {
        let file = format!("{name}.json");
        self.status().join(kind).join(namespace.as_str()).join(file)
    }

    /// Mode 0700.
    pub fn private(&self) -> PathBuf {
        self.path.join("private")
    }

    /// The instance's intermediate in Istio's layout: `ca-cert.pem`, `ca-key.pem`, `root-cert.pem`, `cert-chain.pem`.
    pub fn cacerts(&self) -> PathBuf {
        self.private().join("cacerts")
    }

    /// The root that proxies of this cluster trust.
    pub fn root_cert(&self) -> PathBuf {
        self.cacerts().join("root-cert.pem")
    }

    /// Records of one-time join tokens.
    pub fn join(&self) -> PathBuf {
        self.private().join("join")
    }

    /// What the control plane saves.
    pub fn state(&self) -> PathBuf {
        self.path.join("state")
    }

    /// Mode 0700: sockets and the records of running processes.
    pub fn run(&self) -> PathBuf {
        self.path.join("run")
    }

    /// Where the node answers.
    pub fn node_socket(&self) -> PathBuf {
        self.run().join("node.sock")
    }

    /// Where the control plane answers.
    pub fn control_plane_socket(&self) -> PathBuf {
        self.run().join("control-plane.sock")
    }

    /// The record of the node's process.
    pub fn node_record(&self) -> PathBuf {
        self.run().join("node.json")
    }

    /// The record of the control plane's process.
    pub fn control_plane_record(&self) -> PathBuf {
        self.run().join("control-plane.json")
    }

    /// Records of the pods.
    pub fn pods(&self) -> PathBuf {
        self.run().join("pods")
    }

    /// One pod's folder: its record, its sidecar's state and admin socket, its volumes.
    pub fn pod(&self, namespace: &Namespace, pod: &PodName) -> PodDir {
        PodDir(self.pods().join(namespace.as_str()).join(pod.as_str()))
    }

    /// The logs of everything that runs in the cluster.
    pub fn logs(&self) -> PathBuf {
        self.path.join("logs")
    }

    /// The logs of one pod.
    pub fn log_folder(&self, namespace: &Namespace, pod: &PodName) -> PathBuf {
        self.logs().join(namespace.as_str()).join(pod.as_str())
    }

    /// The log of one container; `container` is `istio-proxy` for the sidecar.
    pub fn log(&self, namespace: &Namespace, pod: &PodName, container: &str) -> PathBuf {
        self.log_folder(namespace, pod)
            .join(format!("{container}.log"))
    }

    /// The log of the node.
    pub fn node_log(&self) -> PathBuf {
        self.logs().join("node.log")
    }

    /// The log of the control plane.
    pub fn control_plane_log(&self) -> PathBuf {
        self.logs().join("control-plane.log")
    }

    /// Takes the lock that only one node of a cluster may hold; `None` when another one has it.
    pub fn try_node_lock(&self) -> Result<Option<Lock>, FleetError> {
        let path = self.run().join("node.lock");
        let file = lock_file(&path)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Lock(file))),
            Err(fs::TryLockError::WouldBlock) => Ok(None),
            Err(fs::TryLockError::Error(e)) => Err(FleetError::io(&path)(e)),
        }
    }
}

/// The paths of one pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodDir(PathBuf);

impl PodDir {
    /// The folder itself.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// What the node knows of the pod.
    pub fn record(&self) -> PathBuf {
        self.0.join("pod.json")
    }

    /// How the node starts one of its containers.
    pub fn spec(&self, container: &str) -> PathBuf {
        self.0.join(format!("spec-{container}.json"))
    }

    /// How a command is started in the pod.
    pub fn exec_spec(&self) -> PathBuf {
        self.0.join("exec.json")
    }

    /// The working directory of the sidecar or gateway, which belongs to the sidecar's user; what follows lies in it.
    pub fn proxy(&self) -> PathBuf {
        self.0.join("proxy")
    }

    /// The sidecar's state.
    pub fn proxy_state(&self) -> PathBuf {
        self.proxy().join("state")
    }

    /// Where the sidecar or gateway answers. The path may be too long for a socket: open it with [`crate::socket`].
    pub fn admin_socket(&self) -> PathBuf {
        self.proxy().join("admin.sock")
    }

    /// Where the agent serves its Envoy; `proxy` is the working directory of both.
    pub const AGENT_SOCKET: &str = "agent.sock";
    /// What the Envoy is started with; its agent writes it.
    pub const ENVOY_BOOTSTRAP: &str = "envoy.json";

    /// The file of [`PodDir::ENVOY_BOOTSTRAP`].
    pub fn envoy_bootstrap(&self) -> PathBuf {
        self.proxy().join(PodDir::ENVOY_BOOTSTRAP)
    }

    /// The one-time join token, mode 0600.
    pub fn join_token(&self) -> PathBuf {
        self.proxy().join("join-token")
    }

    /// The root that the sidecar trusts.
    pub fn root_cert(&self) -> PathBuf {
        self.proxy().join("root-cert.pem")
    }

    /// Its volumes, one folder each.
    pub fn volumes(&self) -> PathBuf {
        self.0.join("volumes")
    }

    /// What its programs see as `/etc/resolv.conf`.
    pub fn resolv_conf(&self) -> PathBuf {
        self.0.join("resolv.conf")
    }
}

fn within(socket: &Path) -> Result<(), FleetError> {
    let length = socket.as_os_str().len();
    match length <= MAX_SOCKET_PATH {
        true => Ok(()),
        false => Err(FleetError::TooLong {
            path: socket.into(),
            length,
            limit: MAX_SOCKET_PATH,
        }),
    }
}

fn free(limit: u8, what: &'static str, taken: impl Fn(u8) -> bool) -> Result<u8, FleetError> {
    (1..=limit)
        .find(|n| !taken(*n))
        .ok_or(FleetError::Full { what, limit })
}

fn check_id(id: &str, path: &Path) -> Result<(), FleetError> {
    let hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    match id.len() == 6 && id.bytes().all(hex) {
        true => Ok(()),
        false => Err(FleetError::Damaged {
            path: path.into(),
            reason: "the id is not six hex digits".into(),
        }),
    }
}

fn damaged(path: &Path) -> impl FnOnce(serde_json::Error) -> FleetError + '_ {
    move |error| FleetError::Damaged {
        path: path.into(),
        reason: error.to_string(),
    }
}

fn write_json(path: &Path, value: &impl Serialize) -> Result<(), FleetError> {
    let mut text = serde_json::to_vec_pretty(value).map_err(damaged(path))?;
    text.push(b'\n');
    atomic::write(path, &text, 0o644).map_err(FleetError::io(path))
}

/// Makes a folder and its parents; the folder itself gets mode 0700.
pub(crate) fn private_dir(path: &Path) -> Result<(), FleetError> {
    if path.is_dir() {
        return Ok(());
    }
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(FleetError::io(parent))?;
    }
    match fs::DirBuilder::new().mode(0o700).create(path) {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => Err(FleetError::io(path)(e)),
        _ => Ok(()),
    }
}

fn lock_file(path: &Path) -> Result<File, FleetError> {
    OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(path)
        .map_err(FleetError::io(path))
}

#[cfg(test)]
mod tests;
