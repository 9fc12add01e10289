//! Starting and ending a cluster's programs from outside.

use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sys::signal::Signal;
use tokio::time::{Instant, sleep};

use crate::fleet::{ClusterDir, FleetDir, FleetError, Isolation, Lock};
use crate::launch::{LAUNCH_FAILED, LaunchSpec, log_file};
use crate::node::PodRecord;
use crate::running::Running;
use crate::{netns, node};

/// How a cluster is stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// Pods leave their services first and end as their grace period says.
    Drain,
    /// Everything is killed at once; what the node wrote stays as it is, as after a loss of power.
    Kill,
}

/// Why a cluster could not be started or stopped.
#[derive(Debug, thiserror::Error)]
pub enum LifecycleError {
    /// The fleet cannot be read.
    #[error(transparent)]
    Fleet(#[from] FleetError),
    /// The node ended at once.
    #[error("the node of cluster {cluster} ended at once; its log {log} says: {said}")]
    NodeEnded {
        /// The cluster.
        cluster: String,
        /// Its log.
        log: PathBuf,
        /// The log's last lines.
        said: String,
    },
    /// It takes too long.
    #[error("{what} of cluster {cluster} is not done after {seconds} s; see {log}, or try again")]
    TooSlow {
        /// What is waited for.
        what: &'static str,
        /// The cluster.
        cluster: String,
        /// For how long.
        seconds: u64,
        /// Where to look.
        log: PathBuf,
    },
    /// A process or namespace resists.
    #[error("{0} is still there after it was killed; end it by hand")]
    Remains(String),
    /// The system said no.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: String,
        /// What the system said.
        source: io::Error,
    },
}

const POLL: Duration = Duration::from_millis(50);
/// How long killed processes may take to be gone.
const KILL_WAIT: Duration = Duration::from_secs(10);

/// Starts a cluster's node, if it does not run yet, as a process that outlives the caller, and waits until it answers.
/// `program` is our own binary.
pub async fn start_cluster(
    cluster: &ClusterDir,
    program: &Path,
    patience: Duration,
) -> Result<(), LifecycleError> {
    cluster.read()?;
    cluster.make_folders()?;
    let deadline = Instant::now() + patience;
    if node_answers(cluster).await {
        return Ok(());
    }
    let log = cluster.node_log();
    let mut child = None;
    loop {
        // Looked at again and again: a node that was killed a moment ago is alive until the system has cleared it away.
        if child.is_none() && !alive(&cluster.node_record()) {
            child = Some(spawn_node(cluster, program)?);
        }
        if node_answers(cluster).await {
            return Ok(());
        }
        if let Some(child) = &mut child
            && let Ok(Some(status)) = child.try_wait()
        {
            tracing::debug!(
                code = status.code(),
                "the node ended ({LAUNCH_FAILED}: not started)"
            );
            return Err(LifecycleError::NodeEnded {
                cluster: cluster.name().to_string(),
                said: crate::exec::last_lines(&log, 5),
                log,
            });
        }
        if Instant::now() >= deadline {
            return Err(LifecycleError::TooSlow {
                what: "the start",
                cluster: cluster.name().to_string(),
                seconds: patience.as_secs(),
                log,
            });
        }
        sleep(POLL).await;
    }
}

fn spawn_node(cluster: &ClusterDir, program: &Path) -> Result<Child, LifecycleError> {
    let spec = LaunchSpec {
        argv: node_argv(cluster, program),
        env: std::env::vars().collect(),
        cwd: "/".into(),
        session: true,
        ..LaunchSpec::default()
    };
    let path = cluster.run().join("spec-node.json");
    let failed = |what: &str| {
        let what = what.to_owned();
        move |source| LifecycleError::Io { what, source }
    };
    spec.write(&path)
        .map_err(failed("writing how the node is started"))?;
    let out = log_file(&cluster.node_log()).map_err(failed("opening the node's log"))?;
    let err = out.try_clone().map_err(failed("opening the node's log"))?;
    Command::new(program)
        .arg("launch")
        .arg("--spec")
        .arg(&path)
        .stdin(Stdio::null())
        .stdout(out)
        .stderr(err)
        .spawn()
        .map_err(failed("starting the node"))
}

fn node_argv(cluster: &ClusterDir, program: &Path) -> Vec<String> {
    let fleet = cluster.fleet().path().display().to_string();
    let program = program.display().to_string();
    let words = [
        "node",
        "--fleet",
        &fleet,
        "--cluster",
        cluster.name().as_str(),
    ];
    std::iter::once(program.as_str())
        .chain(words)
        .map(str::to_owned)
        .collect()
}

/// Whether the cluster's node answers.
pub async fn node_answers(cluster: &ClusterDir) -> bool {
    let socket = cluster.node_socket();
    let asked = node::ask(&socket, "GET", "/ready");
    matches!(
        tokio::time::timeout(Duration::from_secs(2), asked).await,
        Ok(Ok((200, _)))
    )
}

/// Stops a cluster: its node, then its control plane, gateway and pods. One that does not run is stopped already.
pub async fn stop_cluster(
    cluster: &ClusterDir,
    how: Stop,
    patience: Duration,
) -> Result<(), LifecycleError> {
    let fleet = cluster.fleet().read()?;
    let _no_node_starts_meanwhile = end_node(cluster, how, patience).await?;
    kill_everything(cluster).await?;
    if how == Stop::Drain {
        node::forget_pods(cluster);
        if fleet.isolation == Isolation::Netns {
            remove_namespaces(&netns::of_cluster(&fleet, &cluster.read()?))?;
        }
    }
    Ok(())
}

/// Kills a cluster's control plane; its node starts another one.
pub fn kill_control_plane(cluster: &ClusterDir) -> Option<Running> {
    let running = Running::read(&cluster.control_plane_record())?;
    running.signal(Signal::SIGKILL);
    Some(running)
}

/// Stops every cluster of a fleet, and leaves no process, namespace or rule of it. Its folder stays.
pub async fn down(fleet: &FleetDir, how: Stop, patience: Duration) -> Result<(), LifecycleError> {
    let known = fleet.read()?;
    let mut stops = Vec::new();
    for cluster in fleet.clusters()? {
        stops.push(tokio::spawn(async move {
            stop_cluster(&cluster, how, patience).await?;
            node::forget_pods(&cluster);
            Ok::<(), LifecycleError>(())
        }));
    }
    let mut first = Ok(());
    for stop in stops {
        let ended = stop.await.unwrap_or_else(|e| {
            let (what, source) = ("stopping a cluster".into(), io::Error::other(e));
            Err(LifecycleError::Io { what, source })
        });
        first = first.and(ended);
    }
    if known.isolation == Isolation::Netns {
        remove_namespaces(&netns::of_fleet(&known))?;
    }
    first
}

/// Ends the node, also one that is just starting, and keeps another from starting for as long as the lock is held.
async fn end_node(
    cluster: &ClusterDir,
    how: Stop,
    patience: Duration,
) -> Result<Lock, LifecycleError> {
    if !cluster.run().is_dir() {
        cluster.make_folders()?;
    }
    let gentle_until = Instant::now()
        + if how == Stop::Drain {
            patience
        } else {
            Duration::ZERO
        };
    let mut asked = false;
    loop {
        if let Some(lock) = cluster.try_node_lock()? {
            return Ok(lock);
        }
        if Instant::now() < gentle_until {
            if !asked && node_answers(cluster).await {
                let answer = node::ask(&cluster.node_socket(), "POST", "/v1/stop").await;
                asked = answer.is_ok_and(|(status, _)| status == 202);
            }
        } else if Instant::now() < gentle_until + KILL_WAIT {
            let node = Running::read(&cluster.node_record());
            if let Some(node) = node.filter(|node| Some(node) != Running::this().as_ref()) {
                node.kill_session();
            }
        } else {
            let name = cluster.name();
            return Err(LifecycleError::Remains(format!(
                "the node of cluster {name}"
            )));
        }
        sleep(POLL).await;
    }
}

async fn kill_everything(cluster: &ClusterDir) -> Result<(), LifecycleError> {
    let mut ended = Vec::new();
    // The node first: it would start again what is killed.
    for record in [cluster.node_record(), cluster.control_plane_record()] {
        if let Some(running) =
            Running::read(&record).filter(|r| Some(r) != Running::this().as_ref())
        {
            running.kill_session();
            wait_gone(&running).await?;
            ended.push(record);
        }
    }
    for pod in PodRecord::all(cluster) {
        for running in pod.containers.iter().filter_map(|c| c.process.as_ref()) {
            running.kill_session();
            wait_gone(running).await?;
        }
    }
    for record in ended {
        let _ = crate::atomic::remove(&record);
    }
    Ok(())
}

async fn wait_gone(running: &Running) -> Result<(), LifecycleError> {
    let deadline = Instant::now() + KILL_WAIT;
    while running.alive() {
        if Instant::now() > deadline {
            return Err(LifecycleError::Remains(format!("process {}", running.pid)));
        }
        sleep(Duration::from_millis(5)).await;
    }
    Ok(())
}

fn remove_namespaces(names: &[String]) -> Result<(), LifecycleError> {
    for name in names {
        netns::remove(name).map_err(|e| LifecycleError::Io {
            what: format!("removing the network namespace {name}"),
            source: io::Error::other(e.to_string()),
        })?;
    }
    Ok(())
}

fn alive(record: &Path) -> bool {
    Running::read(record).is_some_and(|running| running.alive())
}

/// Asks one of our programs' sockets for a path; the status and the body.
pub async fn ask(socket: &Path, method: &str, path: &str) -> io::Result<(u16, String)> {
    node::ask(socket, method, path).await
}
