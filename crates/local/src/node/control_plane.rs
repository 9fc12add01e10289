//! The control plane of the cluster's instance, as the node runs it.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use catamaran_model::MeshSpec;
use nix::sys::signal::Signal;
use serde::{Deserialize, Serialize};

use super::process::Process;
use super::{CONTROL_PLANE_PORT, Config, DEFAULT_PATH};
use crate::address::Addresses;
use crate::atomic;
use crate::fleet::ClusterDir;
use crate::launch::LaunchSpec;
use crate::netns::{Network, Place};
use crate::running::Running;

/// The longest pause between two starts.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// How long it may take to end.
const GRACE: Duration = Duration::from_secs(10);

/// What is in `run/control-plane.json`: the process, and the instance it serves.
#[derive(Serialize, Deserialize)]
struct Record {
    #[serde(flatten)]
    running: Running,
    mesh: String,
}

pub(super) struct ControlPlane {
    process: Process,
    mesh: Option<String>,
    ending: Option<Instant>,
    trouble: Option<String>,
}

pub(super) struct World<'a> {
    pub(super) config: &'a Config,
    pub(super) network: Option<&'a Network>,
    pub(super) addresses: Addresses,
    pub(super) now: Instant,
}

impl ControlPlane {
    /// Takes over what an earlier node started.
    pub(super) fn adopt(cluster: &ClusterDir) -> ControlPlane {
        let text = fs::read(cluster.control_plane_record()).unwrap_or_default();
        let record: Option<Record> = serde_json::from_slice(&text).ok();
        let mesh = record.as_ref().map(|record| record.mesh.clone());
        ControlPlane {
            process: Process::adopt(LONGEST_PAUSE, record.map(|record| record.running), 0),
            mesh,
            ending: None,
            trouble: None,
        }
    }

    pub(super) fn alive(&self) -> bool {
        self.process.alive()
    }

    pub(super) fn view(&self) -> Option<super::api::ControlPlaneView> {
        Some(super::api::ControlPlaneView {
            mesh: self.mesh.clone()?,
            pid: self.process.running.as_ref().map(|running| running.pid),
            restarts: self.process.restarts,
            waiting: self.trouble.clone(),
        })
    }

    /// Starts, restarts or ends it, so that it serves `wanted`.
    pub(super) fn step(
        &mut self,
        wanted: Option<&MeshSpec>,
        world: &World<'_>,
    ) -> Result<(), String> {
        let done = self.advance(wanted, world);
        self.trouble = done.as_ref().err().cloned();
        done
    }

    fn advance(&mut self, wanted: Option<&MeshSpec>, world: &World<'_>) -> Result<(), String> {
        let cluster = &world.config.cluster;
        let log = cluster.control_plane_log();
        if self.process.reap(world.now, &log) {
            let end = self.process.last_end.as_deref().unwrap_or_default();
            tracing::warn!(end, "the control plane ended");
            let _ = atomic::remove(&cluster.control_plane_record());
            self.ending = None;
        }
        let name = wanted.map(|mesh| mesh.name.to_string());
        if self.process.alive() {
            if self.mesh != name {
                let since = *self.ending.get_or_insert_with(|| {
                    self.process.signal(Signal::SIGTERM);
                    world.now
                });
                if world.now.duration_since(since) > GRACE {
                    self.process.kill();
                }
            }
            return Ok(());
        }
        let Some(mesh) = name else {
            if let (Some(_), Some(network)) = (self.mesh.take(), world.network) {
                let netns = network.name(Place::ControlPlane, "");
                crate::netns::remove(&netns).map_err(|e| e.to_string())?;
            }
            return Ok(());
        };
        let left = self.process.pause_left(world.now);
        if !left.is_zero() {
            let end = self.process.last_end.as_deref().unwrap_or_default();
            return Err(format!(
                "the control plane of mesh {mesh}: {}; it is started again soon",
                end.trim()
            ));
        }
        let key = cluster.cacerts().join("ca-key.pem");
        if !key.is_file() {
            return Err(format!(
                "the control plane of mesh {mesh} waits for its certificates in {}",
                cluster.cacerts().display()
            ));
        }
        match self.start(&mesh, world, &log) {
            Ok(()) => {
                self.mesh = Some(mesh);
                Ok(())
            }
            Err(reason) => {
                self.process.failed_to_start(world.now, &reason);
                Err(format!("the control plane of mesh {mesh}: {reason}"))
            }
        }
    }

    fn start(&mut self, mesh: &str, world: &World<'_>, log: &Path) -> Result<(), String> {
        let cluster = &world.config.cluster;
        let mut netns = None;
        if let Some(network) = world.network {
            let _lock = cluster.fleet().lock().map_err(|e| e.to_string())?;
            network.ensure_network().map_err(|e| e.to_string())?;
            let made = network.ensure(Place::ControlPlane, "", false);
            netns = Some(made.map_err(|e| e.to_string())?.0);
        }
        atomic::remove(&cluster.control_plane_socket()).map_err(|e| e.to_string())?;
        let listen = format!("{}:{CONTROL_PLANE_PORT}", world.addresses.control_plane());
        let program = world.config.program.display().to_string();
        let fleet = cluster.fleet().path().display().to_string();
        let words = [
            &program,
            "control-plane",
            "--fleet",
            &fleet,
            "--cluster",
            cluster.name().as_str(),
            "--mesh",
            mesh,
            "--listen",
            &listen,
        ];
        let mut env: std::collections::BTreeMap<String, String> = super::inherited().collect();
        let path = std::env::var("PATH").unwrap_or_else(|_| DEFAULT_PATH.into());
        env.insert("PATH".into(), path);
        let spec = LaunchSpec {
            argv: words.map(str::to_owned).to_vec(),
            env,
            cwd: "/".into(),
            netns,
            session: true,
            ..LaunchSpec::default()
        };
        let file = cluster.run().join("spec-control-plane.json");
        self.process
            .start(&world.config.program, &spec, &file, log, world.now)?;
        if let Some(running) = self.process.running.clone() {
            let record = Record {
                running,
                mesh: mesh.to_owned(),
            };
            let text = serde_json::to_vec(&record).map_err(|e| e.to_string())?;
            let path = cluster.control_plane_record();
            atomic::write(&path, &text, 0o600).map_err(|e| e.to_string())?;
        }
        Ok(())
    }

    /// Makes its namespace anew when the network it hung on is gone.
    pub(super) fn mend(&mut self, network: &Network) {
        if self.process.alive() {
            let _ = network.ensure(Place::ControlPlane, "", false);
        }
    }
}
