//! The node of a local cluster: it runs the cluster's workloads as processes and writes its status.
//!
//! One loop owns everything: it looks at manifests, processes and probes, does what is due, and writes what changed. What it
//! starts outlives it; the next node reads the records under `run/` and takes over what still runs.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::io;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant, SystemTime};

use catamaran_model::{Labels, MemberMode, MeshSpec, Namespace, PodName, SpiffeId, Timestamp};
use catamaran_registry::Severity;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};

use crate::address::{Addresses, MAX_SERVICE_ADDRESSES};
use crate::atomic;
use crate::fleet::{Cluster, ClusterDir, Fleet, FleetError, Isolation, Lock};
use crate::manifest::{Folder, Holds, Problem};
use crate::netns::Network;
use crate::object::{
    ClusterObject, DeploymentObject, Kind, Metadata, Object, ObjectKey, PodSpec, PodTemplate,
    system_namespace,
};
use crate::running::Running;
use crate::socket;
use crate::watch::Eyes;

mod api;
mod carrier;
mod control_plane;
mod image;
mod pod;
mod probe;
mod process;
mod record;
mod rollout;
mod status;
mod token;
mod volume;

pub(crate) use api::ask;
pub use api::{PodView, ProblemView, View};
pub use carrier::{CARRIER, ENVOY_XDS};
pub use record::{ContainerRecord, PodRecord, Stage};
pub use token::{JoinRecord, LIFETIME as JOIN_TOKEN_LIFETIME};

use control_plane::ControlPlane;
use pod::{Looked, Pod, World};

/// The port on which a control plane serves discovery and certificates.
pub const CONTROL_PLANE_PORT: u16 = 15012;
/// The name of the gateway's pod and Service, in the namespace of our own objects.
pub const GATEWAY: &str = "eastwest-gateway";
/// The largest log of one container, in bytes; then it is cut, and the old part kept once.
pub const MAX_LOG: u64 = 16 << 20;
/// How many logs of pods that are gone are kept in each namespace.
pub const MAX_OLD_LOGS: usize = 50;
/// Where programs are looked for when the environment does not say.
pub(crate) const DEFAULT_PATH: &str =
    "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// How often everything is looked at when nothing happens.
const TICK: Duration = Duration::from_millis(250);
/// The same while a manifest is just being written.
const SETTLE: Duration = Duration::from_millis(60);
/// How long a lock is waited for that no living node holds.
const LOCK_PATIENCE: Duration = Duration::from_secs(3);
/// How often networks and logs are looked at.
const CARE: Duration = Duration::from_secs(10);
/// How many findings of probes may wait.
const MAX_LOOKS: usize = 256;

/// Decided once, at start.
#[derive(Debug, Clone)]
pub struct Config {
    /// The cluster.
    pub cluster: ClusterDir,
    /// Our own binary, from which sidecars, gateways and the control plane are started.
    pub program: PathBuf,
    /// How long an endpoint that leaves is given before its program is told to end.
    pub propagation: Duration,
}

impl Config {
    /// The usual settings, with this process's own binary.
    pub fn new(cluster: ClusterDir) -> io::Result<Config> {
        Ok(Config {
            cluster,
            program: std::env::current_exe()?,
            propagation: Duration::from_secs(2),
        })
    }
}

/// Why the node cannot run.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// The fleet cannot be read.
    #[error(transparent)]
    Fleet(#[from] FleetError),
    /// Another one runs.
    #[error("the node of cluster {0} runs already")]
    RunsAlready(String),
    /// The machine or user cannot do what the fleet's isolation needs.
    #[error("a fleet with --isolation netns cannot run here: {0}; use --isolation process")]
    Isolation(String),
    /// The system said no.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: String,
        /// What the system said.
        source: io::Error,
    },
    /// The loop broke.
    #[error("the node's loop ended by itself, which is a bug: {0}")]
    Broken(String),
}

/// Runs the node until `stop` or until it is asked to stop at its socket. After `stop` pods, sidecars, gateway and control
/// plane go on without it, and the next node takes them over; asked at its socket, it ends them first.
pub async fn run(config: Config, stop: impl Future<Output = ()>) -> Result<(), NodeError> {
    let cluster = config.cluster.clone();
    let failed = |what: &str| {
        let what = what.to_owned();
        move |source| NodeError::Io { what, source }
    };
    cluster.make_folders()?;
    let lock = only_node(&cluster).await?;
    let (wake, mut woken) = mpsc::channel::<()>(1);
    let opened = tokio::task::spawn_blocking({
        let wake = wake.clone();
        move || Node::open(config, lock, wake)
    });
    let mut node = opened
        .await
        .map_err(|e| NodeError::Broken(e.to_string()))??;
    if let Some(this) = Running::this() {
        let written = this.write(&cluster.node_record());
        written.map_err(failed("writing the node's record"))?;
    }
    let listener =
        socket::listen(&cluster.node_socket()).map_err(failed("listening at node.sock"))?;
    let (stopping, mut stop_asked) = mpsc::channel::<()>(1);
    let serving = tokio::spawn(api::serve(listener, node.view.subscribe(), stopping));
    let mut ended = signal(SignalKind::child()).map_err(failed("listening for ended processes"))?;
    let mut eyes = Eyes::open(cluster.path(), wake.clone());
    let mut stop = pin!(stop);
    loop {
        let ticked = tokio::task::spawn_blocking(move || {
            node.tick();
            node
        });
        node = ticked.await.map_err(|e| NodeError::Broken(e.to_string()))?;
        if node.over {
            break;
        }
        if eyes.is_none() {
            eyes = Eyes::open(cluster.path(), wake.clone());
        }
        tokio::select! {
            () = &mut stop => break,
            () = tokio::time::sleep(node.pause()) => {}
            _ = woken.recv() => {}
            _ = ended.recv() => {}
            _ = stop_asked.recv() => node.stopping = true,
        }
    }
    serving.abort();
    let _ = atomic::remove(&cluster.node_socket());
    let _ = atomic::remove(&cluster.node_record());
    Ok(())
}

/// The lock of the cluster's only node. One that was killed a moment ago may hold it while it is being cleared away.
async fn only_node(cluster: &ClusterDir) -> Result<Lock, NodeError> {
    let started = Instant::now();
    loop {
        if let Some(lock) = cluster.try_node_lock()? {
            return Ok(lock);
        }
        let other = Running::read(&cluster.node_record());
        if other.is_some_and(|other| other.alive()) || started.elapsed() > LOCK_PATIENCE {
            return Err(NodeError::RunsAlready(cluster.name().to_string()));
        }
        tokio::time::sleep(SETTLE).await;
    }
}

/// Forgets every pod that is recorded, after their processes ended.
pub(crate) fn forget_pods(cluster: &ClusterDir) {
    let _ = std::fs::remove_dir_all(cluster.pods());
    for kind in [Kind::EndpointSlice, Kind::Pod] {
        let _ = std::fs::remove_dir_all(cluster.status().join(kind.as_str()));
    }
    let _ = std::fs::remove_dir_all(cluster.join());
    if cluster.cluster_json().is_file() {
        let _ = cluster.make_folders();
    }
}

/// What of the environment goes on to our own programs.
pub(crate) fn inherited() -> impl Iterator<Item = (String, String)> {
    let ours = ["RUST_LOG", "RUST_BACKTRACE", "CATAMARAN_LOG"];
    std::env::vars().filter(move |(name, _)| ours.contains(&name.as_str()))
}

type PodKey = (Namespace, PodName);

struct Node {
    config: Config,
    fleet: Fleet,
    cluster: Cluster,
    addresses: Addresses,
    network: Option<Network>,
    manifests: Folder,
    objects: BTreeMap<ObjectKey, Arc<Object>>,
    pods: BTreeMap<PodKey, Pod>,
    control_plane: ControlPlane,
    vips: BTreeMap<ObjectKey, Ipv4Addr>,
    status: status::Written,
    /// Things that went wrong in this tick.
    troubles: Vec<String>,
    looks: (SyncSender<Looked>, Receiver<Looked>),
    wake: mpsc::Sender<()>,
    next_number: u8,
    cared: Option<Instant>,
    gateway_ready: bool,
    stopping: bool,
    over: bool,
    view: watch::Sender<View>,
    _lock: Lock,
}

impl Node {
    fn open(config: Config, lock: Lock, wake: mpsc::Sender<()>) -> Result<Node, NodeError> {
        let fleet = config.cluster.fleet().read()?;
        let cluster = config.cluster.read()?;
        if fleet.isolation == Isolation::Netns {
            crate::netns::supported().map_err(NodeError::Isolation)?;
        }
        let now = Instant::now();
        let mut pods = BTreeMap::new();
        for record in PodRecord::all(&config.cluster) {
            if let Some(pod) = Pod::new(record, &config, now) {
                pods.insert((pod.namespace.clone(), pod.name.clone()), pod);
            }
        }
        let status = status::Written::open(&config.cluster);
        let addresses = Addresses::of(&fleet, &cluster);
        Ok(Node {
            network: (fleet.isolation == Isolation::Netns).then(|| Network::of(&fleet, &cluster)),
            manifests: Folder::new(&config.cluster.objects(), Holds::Manifests).settled(),
            objects: BTreeMap::new(),
            control_plane: ControlPlane::adopt(&config.cluster),
            vips: status.vips(),
            gateway_ready: status.gateway(),
            status,
            troubles: Vec::new(),
            looks: sync_channel(MAX_LOOKS),
            next_number: *addresses.pod_numbers().start(),
            cared: None,
            stopping: false,
            over: false,
            view: watch::Sender::new(View::default()),
            config,
            fleet,
            cluster,
            addresses,
            pods,
            wake,
            _lock: lock,
        })
    }

    fn pause(&self) -> Duration {
        match self.manifests.unsettled() {
            true => SETTLE,
            false => TICK,
        }
    }

    fn tick(&mut self) {
        let now = Instant::now();
        let time = Timestamp(
            SystemTime::now()
                .duration_since(SystemTime::UNIX_EPOCH)
                .map_or(0, |since| since.as_millis() as u64),
        );
        self.troubles.clear();
        let readable = match self.manifests.scan() {
            Ok(_) => true,
            Err(error) => {
                self.troubles.push(error.to_string());
                false
            }
        };
        self.objects = self.manifests.objects();
        if self.cared.is_none_or(|at| now.duration_since(at) >= CARE) {
            self.cared = Some(now);
            self.care();
        }
        while let Ok(looked) = self.looks.1.try_recv() {
            let key = (looked.namespace.clone(), looked.pod.clone());
            if let Some(pod) = self.pods.get_mut(&key) {
                pod.looked(&looked);
            }
        }
        let mesh = self.mesh();
        if readable {
            self.plan(mesh.as_ref(), time);
        }
        // Endpoints that leave are said before anything is told to end.
        self.write_status(readable);
        let gateway_may_go = !self.stopping || self.pods.values().all(Pod::gateway);
        self.step_pods(mesh.as_ref(), now, time, gateway_may_go);
        let pods_over = self.pods.is_empty();
        let wanted = mesh.as_ref().filter(|_| !(self.stopping && pods_over));
        let world = control_plane::World {
            config: &self.config,
            network: self.network.as_ref(),
            addresses: self.addresses,
            now,
        };
        if readable && let Err(reason) = self.control_plane.step(wanted, &world) {
            self.troubles.push(reason);
        }
        self.allocate();
        self.write_status(readable);
        self.over = self.stopping && pods_over && !self.control_plane.alive();
        self.show();
    }

    /// The instance that manages this cluster.
    fn mesh(&self) -> Option<MeshSpec> {
        let meshes = self.objects.values().filter_map(|object| match &**object {
            Object::Mesh(mesh) => mesh.spec().ok(),
            _ => None,
        });
        meshes.min_by(|a, b| a.name.cmp(&b.name))
    }

    /// What the instance says of this cluster.
    fn own_object(&self) -> Option<&ClusterObject> {
        let name = self.cluster.name.as_str();
        let key = ObjectKey::new(Kind::Cluster, &system_namespace(), name);
        match &**self.objects.get(&key)? {
            Object::Cluster(cluster) => Some(cluster),
            _ => None,
        }
    }

    /// The annotations that say who carries at its gateway.
    fn gateway_carrier(&self) -> Labels {
        let own = self.own_object();
        own.map_or_else(Labels::new, |own| carrier::said(&own.metadata.annotations))
    }

    /// The network into which this cluster's gateway leads, when it is to have one.
    fn gateway_network(&self) -> Option<String> {
        let member = self.own_object()?.member().ok()?;
        let wanted = member.mode == MemberMode::Managed && member.gateway;
        member
            .network
            .filter(|_| wanted)
            .map(|network| network.to_string())
    }

    fn care(&mut self) {
        for pod in self.pods.values() {
            let folder = self.config.cluster.log_folder(&pod.namespace, &pod.name);
            for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
                if entry.path().extension().is_some_and(|e| e == "log") {
                    let _ = pod::cap_log(&entry.path(), MAX_LOG);
                }
            }
        }
        for log in [
            self.config.cluster.node_log(),
            self.config.cluster.control_plane_log(),
        ] {
            let _ = pod::cap_log(&log, MAX_LOG);
        }
        self.forget_old_logs();
        if let Some(network) = &self.network {
            let mended = (self
                .config
                .cluster
                .fleet()
                .lock()
                .map_err(|e| e.to_string()))
            .and_then(|_lock| network.ensure_network().map_err(|e| e.to_string()));
            match mended {
                Ok(false) => {}
                // Its pods hang on a bridge that is gone: their namespaces are made anew, which ends what is in them.
                Ok(true) => {
                    for pod in self.pods.values_mut() {
                        pod.mend(network);
                    }
                    self.control_plane.mend(network);
                }
                Err(error) => self.troubles.push(error),
            }
        }
    }

    fn forget_old_logs(&self) {
        let folders = std::fs::read_dir(self.config.cluster.logs())
            .into_iter()
            .flatten()
            .flatten();
        for namespace in folders.filter(|entry| entry.path().is_dir()) {
            let gone = |entry: &std::fs::DirEntry| {
                let key = (
                    Namespace::new(namespace.file_name().to_string_lossy()).ok(),
                    PodName::new(entry.file_name().to_string_lossy()).ok(),
                );
                match key {
                    (Some(namespace), Some(pod)) => !self.pods.contains_key(&(namespace, pod)),
                    _ => false,
                }
            };
            let mut old: Vec<(SystemTime, PathBuf)> = (std::fs::read_dir(namespace.path())
                .into_iter())
            .flatten()
            .flatten()
            .filter(gone)
            .filter_map(|entry| Some((entry.metadata().ok()?.modified().ok()?, entry.path())))
            .collect();
            old.sort();
            for (_, path) in old.iter().take(old.len().saturating_sub(MAX_OLD_LOGS)) {
                let _ = std::fs::remove_dir_all(path);
            }
        }
    }

    /// Decides which pods are wanted.
    fn plan(&mut self, mesh: Option<&MeshSpec>, time: Timestamp) {
        let mut wanted: BTreeMap<ObjectKey, (DeploymentObject, usize)> = BTreeMap::new();
        for (key, object) in &self.objects {
            if let Object::Deployment(deployment) = &**object {
                let replicas = match self.stopping {
                    true => 0,
                    false => deployment.spec.replicas.unwrap_or(1) as usize,
                };
                wanted.insert(key.clone(), (deployment.clone(), replicas));
            }
        }
        for (key, (deployment, replicas)) in &wanted {
            self.roll_out(key, deployment, *replicas, time);
        }
        // While a manifest cannot be understood, a Deployment that is not found may well be in it.
        let complete = self.manifests.complete() || self.stopping;
        for pod in self.pods.values_mut() {
            let Some(deployment) = &pod.record.deployment else {
                continue;
            };
            let key = ObjectKey::new(Kind::Deployment, &pod.namespace, deployment);
            if !wanted.contains_key(&key) && complete {
                pod.leave(time);
            }
        }
        self.plan_gateway(mesh, complete, time);
    }

    fn roll_out(
        &mut self,
        key: &ObjectKey,
        deployment: &DeploymentObject,
        replicas: usize,
        time: Timestamp,
    ) {
        let hash = template_hash(&deployment.spec.template);
        let members: Vec<rollout::Member> = (self.pods.values())
            .filter(|pod| pod.namespace == key.namespace && pod.record.stage == Stage::Living)
            .filter(|pod| pod.record.deployment.as_ref() == Some(&key.name))
            .map(|pod| rollout::Member {
                name: pod.name.to_string(),
                current: pod.record.template_hash == hash,
                ready: pod.record.ready,
                created: pod.record.created,
            })
            .collect();
        let plan = rollout::plan(replicas, &members);
        for name in &plan.end {
            let name = PodName::new(name).map(|name| (key.namespace.clone(), name));
            if let Some(pod) = name.ok().and_then(|key| self.pods.get_mut(&key)) {
                pod.leave(time);
            }
        }
        let sidecar = self.wants_sidecar(&key.namespace, &deployment.spec.template);
        for _ in 0..plan.create {
            let Some(number) = self.free_number() else {
                let limit = self.addresses.pod_numbers().count();
                let trouble = format!(
                    "{key}: the cluster has no address left for another pod (limit {limit})"
                );
                self.troubles.push(trouble);
                return;
            };
            let Some(tail) = random_letters(5) else {
                self.troubles
                    .push("the system gives no random numbers".into());
                return;
            };
            let stem: String = key.name.chars().take(63 - 17).collect();
            let record = PodRecord {
                namespace: key.namespace.to_string(),
                name: format!("{}-{hash}-{tail}", stem.trim_end_matches(['-', '.'])),
                deployment: Some(key.name.clone()),
                template_hash: hash.clone(),
                containers: Pod::containers_of(&deployment.spec.template, sidecar),
                template: deployment.spec.template.clone(),
                number,
                sidecar,
                netns: None,
                created: time.seconds(),
                stage: Stage::Living,
                stage_since: time.0,
                ready: false,
                waiting: None,
            };
            self.add(record);
        }
    }

    fn add(&mut self, record: PodRecord) {
        if let Some(pod) = Pod::new(record, &self.config, Instant::now()) {
            if let Err(error) = pod.save() {
                self.troubles.push(format!("pod {}: {error}", pod.name));
                return;
            }
            self.pods
                .insert((pod.namespace.clone(), pod.name.clone()), pod);
        }
    }

    /// The pod's own label wins over its namespace's (Istio's rule).
    fn wants_sidecar(&self, namespace: &Namespace, template: &PodTemplate) -> bool {
        match template
            .metadata
            .labels
            .get("sidecar.istio.io/inject")
            .map(String::as_str)
        {
            Some("true") => return true,
            Some("false") => return false,
            _ => {}
        }
        let key = ObjectKey::new(Kind::Namespace, namespace, namespace.as_str());
        matches!(self.objects.get(&key).map(|o| &**o), Some(Object::Namespace(n)) if n.inject())
    }

    /// A number that no pod has, as long unused as possible: callers may still hold an old pod's address.
    fn free_number(&mut self) -> Option<u8> {
        let taken: BTreeSet<u8> = self.pods.values().map(|pod| pod.record.number).collect();
        let numbers = self.addresses.pod_numbers();
        let later = self.next_number..=*numbers.end();
        let found = later.chain(numbers.clone()).find(|n| !taken.contains(n))?;
        self.next_number = match found < *numbers.end() {
            true => found + 1,
            false => *numbers.start(),
        };
        Some(found)
    }

    fn plan_gateway(&mut self, mesh: Option<&MeshSpec>, complete: bool, time: Timestamp) {
        let pods_left = self.pods.values().any(|pod| !pod.gateway());
        let wanted = self.gateway_network().is_some() && mesh.is_some() && !self.stopping;
        let carriers = self.gateway_carrier();
        let has = self.pods.values_mut().find(|pod| pod.gateway());
        match has {
            Some(gateway) => {
                let stop = self.stopping && !pods_left;
                let other = gateway.record.template.metadata.annotations != carriers;
                if stop || ((!wanted || other) && complete && !self.stopping) {
                    gateway.leave(time);
                }
            }
            None if wanted => {
                let labels = [("app", GATEWAY), ("istio", "eastwestgateway")];
                let template = PodTemplate {
                    metadata: Metadata {
                        labels: labels.map(|(k, v)| (k.to_owned(), v.to_owned())).into(),
                        annotations: carriers,
                        ..Metadata::default()
                    },
                    spec: PodSpec {
                        service_account_name: Some(SpiffeId::GATEWAY_ACCOUNT.into()),
                        ..PodSpec::default()
                    },
                };
                self.add(PodRecord {
                    namespace: SpiffeId::SYSTEM_NAMESPACE.into(),
                    name: GATEWAY.into(),
                    deployment: None,
                    template_hash: String::new(),
                    containers: Pod::containers_of(&template, true),
                    template,
                    number: 0,
                    sidecar: true,
                    netns: None,
                    created: time.seconds(),
                    stage: Stage::Living,
                    stage_since: time.0,
                    ready: false,
                    waiting: None,
                });
            }
            None => {}
        }
    }

    fn step_pods(&mut self, mesh: Option<&MeshSpec>, now: Instant, time: Timestamp, gateway: bool) {
        let mut over = Vec::new();
        let world = World {
            config: &self.config,
            fleet: &self.fleet,
            cluster: &self.cluster,
            addresses: self.addresses,
            network: self.network.as_ref(),
            objects: &self.objects,
            mesh,
            looks: &self.looks.0,
            wake: &self.wake,
            now,
            time,
        };
        for (key, pod) in &mut self.pods {
            if pod.gateway() && !gateway {
                continue;
            }
            if pod.step(&world) {
                match pod.clean(&world) {
                    Ok(()) => over.push(key.clone()),
                    Err(error) => self.troubles.push(format!("pod {}: {error}", pod.name)),
                }
            } else if let Err(error) = pod.save() {
                self.troubles.push(format!("pod {}: {error}", pod.name));
            }
        }
        for key in over {
            self.pods.remove(&key);
        }
    }

    /// Gives every Service that wants one its virtual address.
    fn allocate(&mut self) {
        let mut taken: BTreeSet<Ipv4Addr> = self.vips.values().copied().collect();
        for (key, object) in &self.objects {
            let Object::Service(service) = &**object else {
                continue;
            };
            if service.spec.headless() || self.vips.contains_key(key) {
                continue;
            }
            let asked = (service.spec.cluster_ip.as_deref())
                .and_then(|ip| ip.parse::<Ipv4Addr>().ok())
                .filter(|ip| ip.octets()[..2] == [10, 96] && !taken.contains(ip));
            let start = stable_number(&format!("{}/{}", key.namespace, key.name));
            let all = (0..MAX_SERVICE_ADDRESSES).map(|n| {
                // The first addresses are left to the system, as DNS's.
                Addresses::service(256 + (start + n) % MAX_SERVICE_ADDRESSES)
            });
            match asked.into_iter().chain(all).find(|ip| !taken.contains(ip)) {
                Some(ip) => {
                    taken.insert(ip);
                    self.vips.insert(key.clone(), ip);
                }
                None => self
                    .troubles
                    .push(format!("{key}: no virtual address is left")),
            }
        }
        if self.manifests.complete() {
            let objects = &self.objects;
            self.vips.retain(|key, _| objects.contains_key(key));
        }
    }

    fn write_status(&mut self, readable: bool) {
        let network = self.gateway_network();
        let gateway = self.pods.values().find(|pod| pod.gateway());
        // Once seen ready it stays known while it is wanted: that it does not answer is for its callers to find out.
        self.gateway_ready = match gateway {
            Some(pod) => {
                pod.record.stage == Stage::Living && (self.gateway_ready || pod.record.ready)
            }
            None => self.gateway_ready && network.is_some() && !self.stopping,
        };
        let shown = status::Shown {
            objects: &self.objects,
            pods: &self.pods,
            vips: &self.vips,
            addresses: self.addresses,
            gateway: network.filter(|_| self.gateway_ready),
        };
        let complete = readable && self.manifests.complete();
        let troubles = self.status.write(&self.config.cluster, &shown, complete);
        self.troubles.extend(troubles);
    }

    fn show(&self) {
        let mut problems = self.manifests.problems();
        problems.extend(self.troubles.iter().map(|reason| Problem {
            file: PathBuf::new(),
            line: None,
            severity: Severity::Error,
            object: String::new(),
            reason: reason.clone(),
        }));
        let view = View {
            pods: (self.pods.values())
                .map(|pod| PodView::of(pod, &self.addresses))
                .collect(),
            problems: problems.iter().map(ProblemView::of).collect(),
            control_plane: self.control_plane.view(),
            stopping: self.stopping,
        };
        self.view.send_if_modified(|shown| {
            let differ = *shown != view;
            if differ {
                *shown = view;
            }
            differ
        });
    }
}

/// Letters and digits that make no words and are not mistaken for one another, as Kubernetes uses.
const LETTERS: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";

fn letters(bytes: &[u8]) -> String {
    (bytes.iter())
        .map(|byte| char::from(LETTERS[usize::from(*byte) % LETTERS.len()]))
        .collect()
}

fn random_letters(count: usize) -> Option<String> {
    let mut bytes = vec![0; count];
    aws_lc_rs::rand::fill(&mut bytes).ok()?;
    Some(letters(&bytes))
}

/// The same template has the same hash, in every cluster and at every time.
fn template_hash(template: &PodTemplate) -> String {
    let text = serde_json::to_vec(template).unwrap_or_default();
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &text);
    letters(&digest.as_ref()[..10])
}

fn stable_number(text: &str) -> u16 {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, text.as_bytes());
    u16::from_be_bytes([digest.as_ref()[0], digest.as_ref()[1]]) % MAX_SERVICE_ADDRESSES
}

/// Whether something that is said to lie in a folder does.
fn inside(folder: &Path, path: &Path) -> bool {
    path.starts_with(folder)
}
