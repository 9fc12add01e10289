//! One pod as the node runs it: what it waits for, its processes, its way out.

use std::collections::BTreeMap;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::time::{Duration, Instant};

use catamaran_model::{MeshSpec, Namespace, PodName, ServiceAccount, SpiffeId, Timestamp};
use nix::sys::signal::Signal;

use super::carrier::{Carrier, carrier, find_envoy};
use super::probe::{Look, look};
use super::process::Process;
use super::record::{ContainerRecord, PodRecord, Stage};
use super::{Config, DEFAULT_PATH, image, token, volume};
use crate::address::Addresses;
use crate::atomic;
use crate::fleet::{Cluster, Fleet, Isolation, PodDir};
use crate::launch::LaunchSpec;
use crate::netns::{Network, Place, capture};
use crate::object::{
    self, Condition, Container, ContainerStatus, ENVOY_CONTAINER, Kind, Metadata, NumberOrName,
    Object, ObjectKey, PROXY_CONTAINER, PROXY_CONTAINERS, PodObject, PodStatus, SecretObject,
};

/// The longest pause between two starts of a container.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// How often a sidecar is asked whether it is ready: until it is, and from then on.
const PROXY_PERIOD: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(1));
/// The same for a program whose first port is looked at because it brings no probe.
const PORT_PERIOD: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));
/// How often a probe that a manifest brings is used until the program is ready, when its own period is longer.
const UNREADY_PERIOD: Duration = Duration::from_millis(500);
/// How often a probe fails before the program counts as not ready.
const FAILURES: u32 = 3;
/// A pod's grace when it names none.
const GRACE: Duration = Duration::from_secs(30);
/// How long an ending sidecar may take for what it still carries, at most.
const DRAIN: Duration = Duration::from_secs(15);
/// How often a sidecar that is not ready gets a new token, when its last one is used or has ended.
const TOKEN_PERIOD: Duration = Duration::from_secs(10);

/// Threads of an Envoy that carry connections: as many as of our own proxy.
const ENVOY_WORKERS: &str = "1";

/// Where an Envoy's admin interface is, in its pod.
const ENVOY_ADMIN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 15000);

/// What pods see of the node.
pub(crate) struct World<'a> {
    pub(crate) config: &'a Config,
    pub(crate) fleet: &'a Fleet,
    pub(crate) cluster: &'a Cluster,
    pub(crate) addresses: Addresses,
    pub(crate) network: Option<&'a Network>,
    pub(crate) objects: &'a BTreeMap<ObjectKey, Arc<Object>>,
    pub(crate) mesh: Option<&'a MeshSpec>,
    pub(crate) looks: &'a SyncSender<Looked>,
    pub(crate) wake: &'a tokio::sync::mpsc::Sender<()>,
    pub(crate) now: Instant,
    pub(crate) time: Timestamp,
}

/// What a probe found.
#[derive(Debug)]
pub(crate) struct Looked {
    pub(crate) namespace: Namespace,
    pub(crate) pod: PodName,
    pub(crate) container: usize,
    /// The process it looked at.
    pub(crate) pid: i32,
    pub(crate) found: Result<(), String>,
}

#[derive(Debug)]
struct Running {
    process: Process,
    ready: bool,
    looking: bool,
    next_look: Instant,
    failures: u32,
    successes: u32,
    not_ready_because: Option<String>,
}

#[derive(Debug)]
pub(crate) struct Pod {
    pub(crate) record: PodRecord,
    pub(crate) namespace: Namespace,
    pub(crate) name: PodName,
    dir: PodDir,
    /// As the record's containers.
    containers: Vec<Running>,
    token_at: Option<Instant>,
    /// Whether it was ever in a slice as ready: only then somebody may still call it when it leaves.
    was_ready: bool,
    /// Whether an Envoy that lives has been made ready by its agent. From then on the pod is as ready as the Envoy says, whether
    /// the agent lives or not.
    agent_did_its_part: bool,
    volumes: BTreeMap<String, PathBuf>,
}

impl Pod {
    /// A new pod, or one that an earlier node left.
    pub(crate) fn new(record: PodRecord, config: &Config, now: Instant) -> Option<Pod> {
        let namespace = Namespace::new(&record.namespace).ok()?;
        let name = PodName::new(&record.name).ok()?;
        let dir = config.cluster.pod(&namespace, &name);
        let adopt = |container: &ContainerRecord| {
            let process =
                Process::adopt(LONGEST_PAUSE, container.process.clone(), container.restarts);
            Running {
                ready: record.ready && process.alive(),
                process,
                looking: false,
                next_look: now,
                failures: 0,
                successes: 0,
                not_ready_because: None,
            }
        };
        Some(Pod {
            containers: record.containers.iter().map(adopt).collect(),
            was_ready: record.ready,
            agent_did_its_part: record.ready,
            volumes: BTreeMap::new(),
            token_at: None,
            namespace,
            name,
            dir,
            record,
        })
    }

    /// The containers of a pod that is made from a template.
    pub(crate) fn containers_of(
        template: &object::PodTemplate,
        sidecar: bool,
    ) -> Vec<ContainerRecord> {
        let proxy = sidecar.then_some(PROXY_CONTAINER);
        // What cannot be understood is said when the pod is to be started.
        let envoy = matches!(
            carrier(&template.metadata.annotations),
            Ok(Carrier::Envoy { .. })
        );
        let envoy = (sidecar && envoy).then_some(ENVOY_CONTAINER);
        let apps = template.spec.containers.iter().map(|c| c.name.as_str());
        (proxy.into_iter().chain(envoy).chain(apps))
            .map(|name| ContainerRecord {
                name: name.into(),
                process: None,
                restarts: 0,
            })
            .collect()
    }

    pub(crate) fn gateway(&self) -> bool {
        self.record.deployment.is_none()
    }

    /// The address under which others reach it.
    pub(crate) fn address(&self, addresses: &Addresses) -> Ipv4Addr {
        match self.gateway() {
            true => addresses.gateway(),
            false => addresses.pod(self.record.number),
        }
    }

    fn place(&self) -> Place {
        match self.gateway() {
            true => Place::Gateway,
            false => Place::Pod(self.record.number),
        }
    }

    fn grace(&self) -> Duration {
        let seconds = self.record.template.spec.termination_grace_period_seconds;
        seconds.map_or(GRACE, |s| Duration::from_secs(s.into()))
    }

    fn user(world: &World<'_>) -> Option<u32> {
        (world.fleet.isolation == Isolation::Netns).then_some(capture::PROXY_USER)
    }

    fn identity(&self, world: &World<'_>) -> Option<SpiffeId> {
        let account = ServiceAccount::new(self.record.template.spec.service_account()).ok()?;
        let trust_domain = world.mesh?.trust_domain.clone();
        Some(SpiffeId::new(trust_domain, self.namespace.clone(), account))
    }

    fn log(&self, world: &World<'_>, container: &str) -> PathBuf {
        world
            .config
            .cluster
            .log(&self.namespace, &self.name, container)
    }

    /// How many of its containers are the sidecar's or gateway's; they come first, and the one that is asked for all of them
    /// is the first.
    fn proxies(&self) -> usize {
        let containers = self.record.containers.iter();
        containers
            .take_while(|c| PROXY_CONTAINERS.contains(&c.name.as_str()))
            .count()
    }

    /// Whether a container is the app's, not the sidecar or gateway.
    fn is_app(&self, n: usize) -> bool {
        n >= self.proxies()
    }

    /// Whether a container is an Envoy.
    fn is_envoy(&self, n: usize) -> bool {
        self.record.containers[n].name == ENVOY_CONTAINER
    }

    /// An Envoy's agent ends it. One whose agent is gone is told by us.
    fn end_lonely_envoy(&self) {
        if self.proxies() > 1 && !self.containers[0].process.alive() {
            self.containers[1].process.signal(Signal::SIGTERM);
        }
    }

    /// Begins its way out.
    pub(crate) fn leave(&mut self, time: Timestamp) {
        if self.record.stage == Stage::Living {
            self.come_to(Stage::Leaving, time);
        }
    }

    fn come_to(&mut self, stage: Stage, time: Timestamp) {
        self.record.stage = stage;
        self.record.stage_since = time.0;
    }

    /// Does what is due. Says whether the pod is over.
    pub(crate) fn step(&mut self, world: &World<'_>) -> bool {
        for n in 0..self.containers.len() {
            let log = self.log(world, &self.record.containers[n].name);
            let container = &mut self.containers[n];
            if container.process.reap(world.now, &log) {
                container.ready = false;
                container.looking = false;
                (container.failures, container.successes) = (0, 0);
                tracing::info!(
                    pod = %self.name, container = %self.record.containers[n].name,
                    end = container.process.last_end.as_deref().unwrap_or_default(), "a container ended"
                );
            }
        }
        let over = match self.record.stage {
            Stage::Living => {
                self.record.waiting = self.live(world).err();
                false
            }
            _ => self.go(world),
        };
        let up = |c: &Running| c.ready && c.process.alive();
        self.agent_did_its_part &= self.proxies() > 1 && self.containers[1].process.alive();
        self.agent_did_its_part |= self.proxies() > 1 && up(&self.containers[0]);
        let spared = usize::from(self.agent_did_its_part);
        let all = self.containers[spared..].iter().all(up);
        self.record.ready =
            self.record.stage == Stage::Living && all && !self.containers.is_empty();
        self.was_ready |= self.record.ready;
        for (record, container) in self.record.containers.iter_mut().zip(&self.containers) {
            record.process.clone_from(&container.process.running);
            record.restarts = container.process.restarts;
        }
        over
    }

    fn go(&mut self, world: &World<'_>) -> bool {
        let spent = world.time.since(Timestamp(self.record.stage_since));
        let grace = self.grace();
        if self.record.stage == Stage::Leaving {
            let wait = if self.was_ready {
                world.config.propagation.min(grace)
            } else {
                Duration::ZERO
            };
            if spent < wait {
                return false;
            }
            for n in (0..self.containers.len()).filter(|n| self.is_app(*n)) {
                self.containers[n].process.signal(Signal::SIGTERM);
            }
            self.come_to(Stage::Ending, world.time);
            return self.go(world);
        }
        let alive = |this: &Pod, app: bool| {
            (0..this.containers.len())
                .any(|n| this.is_app(n) == app && this.containers[n].process.alive())
        };
        if self.record.stage == Stage::Ending {
            if alive(self, true) {
                if spent >= grace {
                    for n in (0..self.containers.len()).filter(|n| self.is_app(*n)) {
                        self.containers[n].process.kill();
                    }
                }
                return false;
            }
            if self.record.sidecar {
                self.containers[0].process.signal(Signal::SIGTERM);
            }
            self.come_to(Stage::Draining, world.time);
            return !alive(self, false);
        }
        if alive(self, false) {
            self.end_lonely_envoy();
            if spent >= grace.min(DRAIN) {
                for n in 0..self.proxies() {
                    self.containers[n].process.kill();
                }
            }
            return false;
        }
        true
    }

    /// Removes what belongs to it, after its processes ended. Its log stays.
    pub(crate) fn clean(&self, world: &World<'_>) -> Result<(), String> {
        if let Some(netns) = &self.record.netns {
            crate::netns::remove(netns).map_err(|e| e.to_string())?;
        }
        if let Some(identity) = self.identity(world) {
            token::revoke(&world.config.cluster, &identity, self.name.as_str());
        }
        match fs::remove_dir_all(self.dir.path()) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(e.to_string()),
            _ => Ok(()),
        }
    }

    /// Makes its namespace anew when the network it hung on is gone; what ran in it is started again.
    pub(crate) fn mend(&mut self, network: &Network) {
        if self.record.netns.is_some() {
            let capture = self.record.sidecar && !self.gateway();
            if let Err(error) = network.ensure(self.place(), &self.record.name, capture) {
                tracing::warn!(pod = %self.name, %error, "its network namespace cannot be made");
            }
        }
    }

    pub(crate) fn save(&self) -> std::io::Result<()> {
        self.record.write(&self.dir)
    }

    fn live(&mut self, world: &World<'_>) -> Result<(), String> {
        let all_run = self.containers.iter().all(|c| c.process.alive());
        if !all_run {
            self.prepare(world)?;
        }
        let mut waiting = Ok(());
        for n in 0..self.containers.len() {
            if self.is_app(n) && self.record.sidecar && !self.containers[0].ready {
                let because = self.containers[0].not_ready_because.clone();
                let because = because.map_or(String::new(), |reason| format!(": {reason}"));
                if self.containers[n].process.alive() {
                    self.look_after(n, world);
                    continue;
                }
                return waiting.and(Err(format!("waiting for its sidecar to be ready{because}")));
            }
            if self.containers[n].process.alive() {
                self.look_after(n, world);
                continue;
            }
            let left = self.containers[n].process.pause_left(world.now);
            let name = self.record.containers[n].name.clone();
            if !left.is_zero() {
                let end = self.containers[n]
                    .process
                    .last_end
                    .clone()
                    .unwrap_or_default();
                let seconds = left.as_secs() + 1;
                waiting = Err(format!(
                    "CrashLoopBackOff: container {name}: {end}; next start in {seconds} s"
                ));
                continue;
            }
            if self.is_envoy(n) && !self.dir.envoy_bootstrap().is_file() {
                waiting = waiting.and(Err(
                    "waiting for what its Envoy is to be started with".into()
                ));
                continue;
            }
            if let Err(reason) = self.start(n, world) {
                self.containers[n]
                    .process
                    .failed_to_start(world.now, &reason);
                waiting = Err(format!("container {name}: {reason}"));
            }
        }
        waiting
    }

    /// What must be there before anything is started.
    fn prepare(&mut self, world: &World<'_>) -> Result<(), String> {
        let namespace = self.record.namespace.clone();
        let spec = &self.record.template.spec;
        let account = spec.service_account();
        let find = |kind: Kind, name: &str| {
            world
                .objects
                .get(&ObjectKey::new(kind, &self.namespace, name))
        };
        if !self.gateway() && account != "default" && find(Kind::ServiceAccount, account).is_none()
        {
            return Err(format!("ServiceAccount {namespace}/{account} not found"));
        }
        if self.record.sidecar {
            if world.mesh.is_none() {
                return Err("its namespace wants a sidecar, and no mesh manages this cluster; create one, or switch injection off".into());
            }
            let root = world.config.cluster.root_cert();
            if !root.is_file() {
                return Err(format!(
                    "the root certificate {} is not there yet",
                    root.display()
                ));
            }
            if let Carrier::Envoy { .. } = carrier(&self.record.template.metadata.annotations)? {
                if world.network.is_none() {
                    return Err("it wants an Envoy, which needs connections to be captured; make the fleet with --isolation netns".into());
                }
                find_envoy().map_err(|why| {
                    format!("it wants an Envoy, and there is none: {why}; set it, and start the cluster's node again")
                })?;
            }
        }
        for container in &spec.containers {
            image::argv(container, &world.config.program, &self.record.name)?;
            environment(container, self, world)?;
        }
        let secret = |name: &str| match find(Kind::Secret, name).map(|object| &**object) {
            Some(Object::Secret(secret)) => Some(secret as &SecretObject),
            _ => None,
        };
        if let Some(missing) = volume::missing(spec, &namespace, secret) {
            return Err(missing);
        }
        let volumes =
            volume::write(spec, &self.dir.volumes(), secret).map_err(|e| e.to_string())?;
        if let Some(network) = world.network {
            let capture = self.record.sidecar && !self.gateway();
            let locked = world
                .config
                .cluster
                .fleet()
                .lock()
                .map_err(|e| e.to_string())?;
            let made = (network.ensure_network().map(|_| ()))
                .and_then(|()| network.ensure(self.place(), &self.record.name, capture));
            drop(locked);
            let (netns, _) = made.map_err(|e| e.to_string())?;
            self.record.netns = Some(netns);
        }
        self.volumes = volumes;
        Ok(())
    }

    fn start(&mut self, n: usize, world: &World<'_>) -> Result<(), String> {
        let spec = match self.is_app(n) {
            true => self.app_spec(n, world)?,
            false if self.is_envoy(n) => self.envoy_spec(world)?,
            false => self.proxy_spec(world)?,
        };
        let name = self.record.containers[n].name.clone();
        let log = self.log(world, &name);
        let file = self.dir.spec(&name);
        let container = &mut self.containers[n];
        container
            .process
            .start(&world.config.program, &spec, &file, &log, world.now)?;
        (container.ready, container.looking) = (false, false);
        container.next_look = world.now;
        Ok(())
    }

    fn base(&self, world: &World<'_>) -> Result<LaunchSpec, String> {
        let mut env: BTreeMap<String, String> = (std::env::vars())
            .filter(|(name, _)| matches!(name.as_str(), "PATH" | "LANG" | "HOME" | "TERM"))
            .collect();
        env.entry("PATH".into())
            .or_insert_with(|| DEFAULT_PATH.into());
        let hostname: String = self.record.name.chars().take(63).collect();
        env.insert("HOSTNAME".into(), hostname.clone());
        let mut resolv_conf = None;
        if world.network.is_some() {
            let domain = world
                .mesh
                .map(|mesh| mesh.domain.clone())
                .unwrap_or_default();
            let path = self.dir.resolv_conf();
            let text = resolv_conf_text(&self.namespace, domain.as_str());
            atomic::write_if_changed(&path, text.as_bytes(), 0o644).map_err(|e| e.to_string())?;
            resolv_conf = Some(path);
        }
        Ok(LaunchSpec {
            env,
            cwd: "/".into(),
            netns: self.record.netns.clone(),
            resolv_conf,
            hostname: Some(hostname),
            session: true,
            ..LaunchSpec::default()
        })
    }

    fn app_spec(&self, n: usize, world: &World<'_>) -> Result<LaunchSpec, String> {
        let first = self.proxies();
        let container = &self.record.template.spec.containers[n - first];
        let mut spec = self.base(world)?;
        spec.argv = image::argv(container, &world.config.program, &self.record.name)?;
        spec.env.extend(environment(container, self, world)?);
        if let Some(cwd) = &container.working_dir {
            spec.cwd = cwd.into();
        }
        for mount in &container.volume_mounts {
            if let Some(folder) = self.volumes.get(&mount.name) {
                spec.mounts
                    .push((folder.clone(), mount.mount_path.clone().into()));
            }
        }
        if n == first {
            let mut exec = spec.clone();
            exec.argv = Vec::new();
            exec.session = false;
            exec.write(&self.dir.exec_spec())
                .map_err(|e| e.to_string())?;
        }
        Ok(spec)
    }

    fn proxy_spec(&mut self, world: &World<'_>) -> Result<LaunchSpec, String> {
        let mesh = world.mesh.ok_or("no mesh manages this cluster")?;
        let user = Pod::user(world);
        let said = |e: std::io::Error| format!("preparing the sidecar's folder: {e}");
        let folder = self.dir.proxy();
        crate::fleet::private_dir(&folder).map_err(|e| e.to_string())?;
        crate::fleet::private_dir(&self.dir.proxy_state()).map_err(|e| e.to_string())?;
        let root = fs::read(world.config.cluster.root_cert()).map_err(said)?;
        atomic::write_if_changed(&self.dir.root_cert(), &root, 0o644).map_err(said)?;
        atomic::remove(&self.dir.admin_socket()).map_err(said)?;
        for path in [&folder, &self.dir.proxy_state()] {
            token::give(path, user).map_err(said)?;
        }
        self.new_token(world)?;
        let mut spec = self.base(world)?;
        let netns = world.network.is_some();
        let address = self.address(&world.addresses).to_string();
        let control_plane = format!(
            "{}:{}",
            world.addresses.control_plane(),
            super::CONTROL_PLANE_PORT
        );
        let words = [
            "proxy",
            if self.gateway() { "gateway" } else { "sidecar" },
            "--mesh",
            mesh.name.as_str(),
            "--cluster",
            world.cluster.name.as_str(),
            "--namespace",
            self.namespace.as_str(),
            "--pod",
            self.name.as_str(),
            "--service-account",
            self.record.template.spec.service_account(),
            "--control-plane",
            &control_plane,
            // Relative to the sidecar's folder: its user may not pass through the folders above.
            "--root-cert",
            "root-cert.pem",
            "--join-token",
            "join-token",
            "--state",
            "state",
            "--admin-socket",
            "admin.sock",
            "--capture",
            if netns { "redirect" } else { "explicit" },
            "--address",
            &address,
        ];
        spec.argv = vec![world.config.program.display().to_string()];
        spec.argv.extend(words.map(str::to_owned));
        if let Carrier::Envoy { sotw } = carrier(&self.record.template.metadata.annotations)? {
            let socket = PodDir::AGENT_SOCKET;
            let bootstrap = PodDir::ENVOY_BOOTSTRAP;
            let how = if sotw { "--sotw" } else { "--delta" };
            let words = ["--sds", socket, "--envoy-bootstrap", bootstrap, how];
            spec.argv.extend(words.map(str::to_owned));
        }
        if !self.gateway() && !netns {
            spec.argv.extend([
                "--app".into(),
                world.addresses.app(self.record.number).to_string(),
            ]);
        }
        spec.env.extend(super::inherited());
        spec.cwd = folder;
        spec.user = user;
        Ok(spec)
    }

    /// The Envoy runs where its agent does, as the same user.
    fn envoy_spec(&self, world: &World<'_>) -> Result<LaunchSpec, String> {
        let mut spec = self.base(world)?;
        let bootstrap = fs::read_to_string(self.dir.envoy_bootstrap())
            .map_err(|e| format!("reading what its Envoy is to be started with: {e}"))?;
        spec.argv = vec![find_envoy()?.display().to_string()];
        let words = [
            // Not its file: an Envoy reads only files to which its user may pass through all folders.
            "--config-yaml",
            &bootstrap,
            // Envoys of one machine would find each other through it.
            "--disable-hot-restart",
            "--concurrency",
            ENVOY_WORKERS,
            "--log-level",
            "warning",
        ];
        spec.argv.extend(words.map(str::to_owned));
        spec.cwd = self.dir.proxy();
        spec.user = Pod::user(world);
        Ok(spec)
    }

    fn new_token(&mut self, world: &World<'_>) -> Result<(), String> {
        let identity = self.identity(world).ok_or("it has no identity")?;
        self.token_at = Some(world.now);
        token::issue(
            &world.config.cluster,
            &world.cluster.name,
            &identity,
            &self.dir,
            self.name.as_str(),
            Pod::user(world),
            world.time,
        )
        .map_err(|e| format!("making a join token: {e}"))
    }

    /// Probes a running container when it is time.
    fn look_after(&mut self, n: usize, world: &World<'_>) {
        if n == 0 && self.record.sidecar && !self.containers[n].ready {
            self.renew_token(world);
        }
        let plan = self.plan(n, world);
        let container = &mut self.containers[n];
        let Some((how, period, timeout)) = plan else {
            container.ready = true;
            return;
        };
        if container.looking || world.now < container.next_look {
            return;
        }
        container.looking = true;
        container.next_look = world.now + if container.ready { period.1 } else { period.0 };
        let Some(pid) = container
            .process
            .running
            .as_ref()
            .map(|running| running.pid)
        else {
            return;
        };
        let mut looked = Looked {
            namespace: self.namespace.clone(),
            pod: self.name.clone(),
            container: n,
            pid,
            found: Ok(()),
        };
        let (looks, wake) = (world.looks.clone(), world.wake.clone());
        let netns = self.record.netns.clone();
        let spawned = std::thread::Builder::new()
            .name("probe".into())
            .spawn(move || {
                looked.found = look(&how, netns.as_deref(), timeout);
                if looks.send(looked).is_ok() {
                    let _ = wake.try_send(());
                }
            });
        container.looking = spawned.is_ok();
    }

    fn renew_token(&mut self, world: &World<'_>) {
        let due = self
            .token_at
            .is_none_or(|at| world.now.duration_since(at) >= TOKEN_PERIOD);
        let identity = self.identity(world).filter(|_| due);
        let valid = |identity: &SpiffeId| {
            token::valid(
                &world.config.cluster,
                identity,
                self.name.as_str(),
                world.time,
            )
        };
        if identity.is_some_and(|identity| !valid(&identity))
            && let Err(error) = self.new_token(world)
        {
            tracing::warn!(pod = %self.name, error, "no new join token");
        }
    }

    /// How a container is looked at, how often (before and after it is ready), and how long an answer may take.
    fn plan(&self, n: usize, world: &World<'_>) -> Option<(Look, (Duration, Duration), Duration)> {
        let second = Duration::from_secs(1);
        if self.is_envoy(n) {
            let look = Look::Http(ENVOY_ADMIN, "/ready".into());
            return Some((look, PROXY_PERIOD, second));
        }
        if !self.is_app(n) {
            return Some((Look::Admin(self.dir.admin_socket()), PROXY_PERIOD, second));
        }
        let container = &self.record.template.spec.containers[n - self.proxies()];
        let app = self.app_address(world);
        let port = |port: &NumberOrName| port_number(container, port);
        match &container.readiness_probe {
            Some(probe) => {
                let how = match (&probe.http_get, &probe.tcp_socket, &probe.exec) {
                    (Some(http), ..) => {
                        let path = http.path.clone().unwrap_or_else(|| "/".into());
                        Look::Http((app, port(&http.port)?).into(), path)
                    }
                    (_, Some(tcp), _) => Look::Tcp((app, port(&tcp.port)?).into()),
                    (_, _, Some(exec)) => {
                        let launcher = world.config.program.display().to_string();
                        let spec = self.dir.exec_spec().display().to_string();
                        let mut argv = vec![
                            launcher,
                            "launch".into(),
                            "--spec".into(),
                            spec,
                            "--".into(),
                        ];
                        argv.extend(exec.command.iter().cloned());
                        Look::Exec(argv)
                    }
                    _ => return None,
                };
                let seconds = |given: Option<u32>, usual: u32| {
                    Duration::from_secs(given.unwrap_or(usual).max(1).into())
                };
                let period = seconds(probe.period_seconds, 10);
                Some((
                    how,
                    (period.min(UNREADY_PERIOD), period),
                    seconds(probe.timeout_seconds, 1),
                ))
            }
            None => {
                let first = container
                    .ports
                    .iter()
                    .find(|p| !matches!(p.protocol.as_deref(), Some("UDP" | "SCTP")))?;
                Some((
                    Look::Tcp((app, first.container_port).into()),
                    PORT_PERIOD,
                    second,
                ))
            }
        }
    }

    /// Where the program itself listens.
    fn app_address(&self, world: &World<'_>) -> IpAddr {
        match self.record.sidecar {
            true => world.addresses.app(self.record.number).into(),
            false => world.addresses.pod(self.record.number).into(),
        }
    }

    /// Takes in what a probe found.
    pub(crate) fn looked(&mut self, looked: &Looked) {
        let probe = (looked.container.checked_sub(self.proxies()))
            .and_then(|n| self.record.template.spec.containers.get(n))
            .and_then(|container| container.readiness_probe.clone())
            .unwrap_or_default();
        let Some(container) = self.containers.get_mut(looked.container) else {
            return;
        };
        if container.process.running.as_ref().map(|r| r.pid) != Some(looked.pid) {
            return;
        }
        container.looking = false;
        match &looked.found {
            Ok(()) => {
                container.failures = 0;
                container.successes += 1;
                container.ready |= container.successes >= probe.success_threshold.unwrap_or(1);
                container.not_ready_because = None;
            }
            Err(reason) => {
                container.successes = 0;
                container.failures += 1;
                if container.failures >= probe.failure_threshold.unwrap_or(FAILURES) {
                    container.ready = false;
                }
                container.not_ready_because = Some(reason.clone());
            }
        }
    }

    /// The pod as the status says it.
    pub(crate) fn object(&self, addresses: &Addresses) -> PodObject {
        let record = &self.record;
        let mut metadata = Metadata::named(&self.namespace, self.name.as_str());
        metadata.labels.clone_from(&record.template.metadata.labels);
        metadata
            .annotations
            .clone_from(&record.template.metadata.annotations);
        if record.deployment.is_some() {
            metadata
                .labels
                .insert("pod-template-hash".into(), record.template_hash.clone());
        }
        if record.sidecar {
            metadata
                .labels
                .insert(object::TLS_MODE_LABEL.into(), "istio".into());
        }
        let started = self.containers.iter().all(|c| c.process.alive());
        let truth = |what: bool| if what { "True" } else { "False" }.to_owned();
        let unready = (record.containers.iter().zip(&self.containers))
            .find(|(_, container)| !container.ready)
            .and_then(|(record, container)| {
                let because = container.not_ready_because.as_ref()?;
                Some(format!("container {}: {because}", record.name))
            });
        let ended = record.stage != Stage::Living;
        PodObject {
            metadata,
            spec: record.template.spec.clone(),
            status: PodStatus {
                phase: if started || ended {
                    "Running"
                } else {
                    "Pending"
                }
                .into(),
                pod_ip: Some(self.address(addresses).to_string()),
                reason: match (&record.waiting, ended) {
                    (_, true) => Some("Terminating".into()),
                    (Some(reason), _) if reason.starts_with("CrashLoopBackOff") => {
                        Some("CrashLoopBackOff".into())
                    }
                    (Some(_), _) => Some("Waiting".into()),
                    (None, _) => None,
                },
                message: record
                    .waiting
                    .as_ref()
                    .map(|reason| without_seconds(reason)),
                start_time: time::OffsetDateTime::from_unix_timestamp(record.created as i64)
                    .ok()
                    .and_then(|at| {
                        at.format(&time::format_description::well_known::Rfc3339)
                            .ok()
                    }),
                conditions: vec![Condition {
                    kind: "Ready".into(),
                    status: truth(record.ready),
                    reason: (!record.ready).then(|| "ContainersNotReady".into()),
                    message: unready.filter(|_| !record.ready),
                }],
                container_statuses: (record.containers.iter().zip(&self.containers))
                    .map(|(record, container)| ContainerStatus {
                        name: record.name.clone(),
                        ready: container.ready,
                        restart_count: container.process.restarts,
                        state: match (container.process.alive(), &container.process.last_end) {
                            (true, _) => "running",
                            (false, Some(_)) => "terminated",
                            (false, None) => "waiting",
                        }
                        .into(),
                        message: container.process.last_end.clone(),
                    })
                    .collect(),
            },
        }
    }
}

/// The number of a port that is said by number or by its name in the container.
pub(crate) fn port_number(container: &Container, port: &NumberOrName) -> Option<u16> {
    match port {
        NumberOrName::Number(number) => Some(*number),
        NumberOrName::Name(name) => (container.ports.iter())
            .find(|port| port.name.as_deref() == Some(name))
            .map(|port| port.container_port),
    }
}

fn resolv_conf_text(namespace: &Namespace, domain: &str) -> String {
    // The usual address of a cluster's DNS: the sidecar answers what is sent there.
    format!(
        "nameserver 10.96.0.10\nsearch {namespace}.svc.{domain} svc.{domain} {domain}\noptions ndots:5\n"
    )
}

/// What the manifest and the isolation set, or what keeps a value from being known.
fn environment(
    container: &Container,
    pod: &Pod,
    world: &World<'_>,
) -> Result<BTreeMap<String, String>, String> {
    let mut env = BTreeMap::new();
    let address = world.addresses.pod(pod.record.number).to_string();
    if world.network.is_none() {
        env.insert(
            crate::helloworld::BIND.into(),
            pod.app_address(world).to_string(),
        );
        if pod.record.sidecar {
            let proxy = format!("http://{address}:{}", capture::OUTBOUND_PORT);
            env.insert("http_proxy".into(), proxy);
            env.insert("no_proxy".into(), "localhost,127.0.0.1".into());
        }
    }
    for (name, folder) in &pod.volumes {
        let name = name.to_ascii_uppercase().replace('-', "_");
        env.insert(
            format!("CATAMARAN_VOLUME_{name}"),
            folder.display().to_string(),
        );
    }
    for variable in &container.env {
        let field = variable.value_from.as_ref().map(|from| {
            from.field_ref
                .as_ref()
                .map(|field| field.field_path.as_str())
        });
        let value = match field {
            None => variable.value.clone().unwrap_or_default(),
            Some(Some("metadata.name")) => pod.record.name.clone(),
            Some(Some("metadata.namespace")) => pod.record.namespace.clone(),
            Some(Some("status.podIP" | "status.hostIP")) => address.clone(),
            Some(Some("spec.serviceAccountName")) => {
                pod.record.template.spec.service_account().into()
            }
            Some(Some("spec.nodeName")) => world.cluster.name.to_string(),
            Some(_) => {
                return Err(format!(
                    "the variable {} of container {} comes from a source that is not understood here",
                    variable.name, container.name
                ));
            }
        };
        env.insert(variable.name.clone(), value);
    }
    Ok(env)
}

/// A countdown would write the status every second.
fn without_seconds(reason: &str) -> String {
    reason
        .split("; next start in")
        .next()
        .unwrap_or(reason)
        .to_owned()
}

/// Cuts a log that has grown too large: the old part goes beside it.
pub(crate) fn cap_log(path: &Path, limit: u64) -> std::io::Result<()> {
    if fs::metadata(path).map_or(0, |metadata| metadata.len()) <= limit {
        return Ok(());
    }
    fs::copy(path, path.with_extension("log.1"))?;
    // Its writers append, so what they write next stands at the new end.
    fs::File::options().write(true).open(path)?.set_len(0)
}
