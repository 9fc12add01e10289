//! Running a command in a pod, and reading what its programs wrote.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::str::FromStr;

use catamaran_model::{Namespace, PodName};

use crate::fleet::{ClusterDir, FleetError};
use crate::node::{PodRecord, Stage};
use crate::object::{Kind, Object};
use crate::running::Running;
use crate::write;

/// What a person names: `deploy/sleep`, `pod/sleep-7b888xxxxx-xxxxx`, or a pod's name alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// Any ready pod of a Deployment.
    Deployment(String),
    /// One pod.
    Pod(String),
}

/// Why a command cannot be run, or a log not be read.
#[derive(Debug, thiserror::Error)]
pub enum ExecError {
    /// The target is not of a form that is known.
    #[error("{0:?} is neither deploy/NAME nor pod/NAME")]
    Target(String),
    /// Nothing of that name is there.
    #[error("there is no {target} in namespace {namespace} of cluster {cluster}")]
    Unknown {
        /// What was asked for.
        target: Target,
        /// Where.
        namespace: Namespace,
        /// Where.
        cluster: String,
        /// What is there: `deploy/NAME` and `pod/NAME`.
        known: Vec<String>,
    },
    /// The Deployment wants no pods.
    #[error("{target} in namespace {namespace} of cluster {cluster} is scaled to 0")]
    ScaledToZero {
        /// What was asked for.
        target: Target,
        /// Where.
        namespace: Namespace,
        /// Where.
        cluster: String,
    },
    /// The node does not run, so no pod will come.
    #[error("{target} does not run: cluster {cluster} is stopped")]
    Stopped {
        /// What was asked for.
        target: Target,
        /// Where.
        cluster: String,
    },
    /// It is there, and none of its pods has started its program yet. Trying again helps.
    #[error(
        "{target} in namespace {namespace} of cluster {cluster} has no running pod yet{why}; see `catamaran status`"
    )]
    NoPod {
        /// What was asked for.
        target: Target,
        /// Where.
        namespace: Namespace,
        /// Where.
        cluster: String,
        /// What its pods are waiting for.
        why: String,
    },
    /// There is no such container.
    #[error("the pod {pod} has no container {container}; it has: {known}")]
    NoContainer {
        /// The pod.
        pod: String,
        /// What was asked for.
        container: String,
        /// What it has.
        known: String,
    },
    /// The cluster cannot be read.
    #[error(transparent)]
    Fleet(#[from] FleetError),
    /// The file system said no.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Target::Deployment(name) => write!(f, "deploy/{name}"),
            Target::Pod(name) => write!(f, "pod/{name}"),
        }
    }
}

impl FromStr for Target {
    type Err = ExecError;

    fn from_str(text: &str) -> Result<Target, ExecError> {
        let unknown = || ExecError::Target(text.chars().take(80).collect());
        match text.split_once('/') {
            None if !text.is_empty() => Ok(Target::Pod(text.into())),
            Some((kind, name)) if !name.is_empty() => match Kind::of_word(kind) {
                Some(Kind::Deployment) => Ok(Target::Deployment(name.into())),
                Some(Kind::Pod) => Ok(Target::Pod(name.into())),
                _ => Err(unknown()),
            },
            _ => Err(unknown()),
        }
    }
}

/// The pod that a target means: a ready one before one that only runs, then by name.
pub fn pod_of(
    cluster: &ClusterDir,
    namespace: &Namespace,
    target: &Target,
) -> Result<PodName, ExecError> {
    let mut pods: Vec<PodRecord> = (PodRecord::all(cluster).into_iter())
        .filter(|pod| pod.namespace == namespace.as_str())
        .filter(|pod| match target {
            Target::Deployment(name) => pod.deployment.as_deref() == Some(name),
            Target::Pod(name) => pod.name == *name,
        })
        .collect();
    let rank = |pod: &PodRecord| (pod.stage != Stage::Living, !pod.ready, pod.name.clone());
    pods.sort_by_key(rank);
    let runs = |pod: &&PodRecord| {
        (pod.containers.iter()).any(|c| c.process.as_ref().is_some_and(|p| p.alive()))
    };
    // A pod whose sidecar alone runs has no program yet, and so nothing that says how one is started in it.
    let started = |pod: &&PodRecord| {
        PodName::new(&pod.name).is_ok_and(|name| cluster.pod(namespace, &name).exec_spec().exists())
    };
    if let Some(pod) = pods.iter().filter(runs).find(started)
        && let Ok(name) = PodName::new(&pod.name)
    {
        return Ok(name);
    }
    Err(why_none(cluster, namespace, target, &pods))
}

/// Why none of `pods`, which are the target's, can be entered.
fn why_none(
    cluster: &ClusterDir,
    namespace: &Namespace,
    target: &Target,
    pods: &[PodRecord],
) -> ExecError {
    let (name, namespace, target) = (
        cluster.name().to_string(),
        namespace.clone(),
        target.clone(),
    );
    let objects = match write::objects(cluster) {
        Ok(objects) => objects,
        Err(error) => {
            let why = format!(" ({error})");
            return ExecError::NoPod {
                target,
                namespace,
                cluster: name,
                why,
            };
        }
    };
    let deployments: Vec<(&str, u32)> = (objects.iter())
        .filter(|(key, _)| key.namespace == namespace)
        .filter_map(|(key, object)| match &**object {
            Object::Deployment(it) => Some((key.name.as_str(), it.spec.replicas.unwrap_or(1))),
            _ => None,
        })
        .collect();
    let wanted = match &target {
        Target::Deployment(wanted) => {
            (deployments.iter()).find_map(|(name, pods)| (name == wanted).then_some(*pods))
        }
        Target::Pod(_) => (!pods.is_empty()).then_some(1),
    };
    match wanted {
        None => {
            let deployments = deployments.iter().map(|(name, _)| format!("deploy/{name}"));
            let pods = (PodRecord::all(cluster).into_iter())
                .filter(|pod| pod.namespace == namespace.as_str())
                .map(|pod| format!("pod/{}", pod.name));
            let known = deployments.chain(pods).collect();
            ExecError::Unknown {
                target,
                namespace,
                cluster: name,
                known,
            }
        }
        Some(0) => ExecError::ScaledToZero {
            target,
            namespace,
            cluster: name,
        },
        Some(_) if !Running::read(&cluster.node_record()).is_some_and(|node| node.alive()) => {
            ExecError::Stopped {
                target,
                cluster: name,
            }
        }
        Some(_) => {
            let why = (pods.iter().find_map(|pod| pod.waiting.clone()))
                .map_or(String::new(), |reason| format!(" ({reason})"));
            ExecError::NoPod {
                target,
                namespace,
                cluster: name,
                why,
            }
        }
    }
}

/// A command that runs `argv` in the pod: its namespaces, mounts, environment and folder. `program` is our own binary.
///
/// Input, output and the terminal are the caller's; the exit status is `argv`'s, or [`crate::launch::LAUNCH_FAILED`].
pub fn exec_command(
    cluster: &ClusterDir,
    namespace: &Namespace,
    target: &Target,
    argv: &[String],
    program: &Path,
) -> Result<Command, ExecError> {
    let pod = pod_of(cluster, namespace, target)?;
    let mut command = Command::new(program);
    command
        .arg("launch")
        .arg("--spec")
        .arg(cluster.pod(namespace, &pod).exec_spec())
        .arg("--")
        .args(argv);
    Ok(command)
}

/// The last `lines` lines that a container wrote (`istio-proxy` is the sidecar; the first container when none is named).
/// At most the last `MAX_LOG_READ` bytes are looked at.
pub fn logs(
    cluster: &ClusterDir,
    namespace: &Namespace,
    target: &Target,
    container: Option<&str>,
    lines: usize,
) -> Result<String, ExecError> {
    let path = log_path(cluster, namespace, target, container)?;
    tail(&path, lines).map_err(|source| ExecError::Io { path, source })
}

/// Where a container's log is, for those who follow it. A pod that is gone is found by its name while its log is kept.
pub fn log_path(
    cluster: &ClusterDir,
    namespace: &Namespace,
    target: &Target,
    container: Option<&str>,
) -> Result<PathBuf, ExecError> {
    let pod = match (pod_of(cluster, namespace, target), target) {
        (Ok(pod), _) => pod,
        (Err(error), Target::Deployment(name)) => {
            let pods = PodRecord::all(cluster).into_iter();
            let mut of_it = pods.filter(|pod| {
                pod.namespace == namespace.as_str() && pod.deployment.as_deref() == Some(name)
            });
            match of_it.next().and_then(|pod| PodName::new(pod.name).ok()) {
                Some(pod) => pod,
                None => return Err(error),
            }
        }
        (Err(error), Target::Pod(name)) => match PodName::new(name) {
            Ok(pod) if cluster.log_folder(namespace, &pod).is_dir() => pod,
            _ => return Err(error),
        },
    };
    let record = PodRecord::read(&cluster.pod(namespace, &pod));
    let known: Vec<String> = match record {
        Some(record) => record.containers.into_iter().map(|c| c.name).collect(),
        None => (fs::read_dir(cluster.log_folder(namespace, &pod))
            .into_iter()
            .flatten()
            .flatten())
        .filter_map(|e| Some(e.file_name().to_str()?.strip_suffix(".log")?.to_owned()))
        .collect(),
    };
    let wanted = match container {
        Some(name) => name.to_owned(),
        None => (known
            .iter()
            .find(|name| !crate::object::PROXY_CONTAINERS.contains(&name.as_str())))
        .or(known.first())
        .cloned()
        .unwrap_or_default(),
    };
    match known.contains(&wanted) {
        true => Ok(cluster.log(namespace, &pod, &wanted)),
        false => Err(ExecError::NoContainer {
            pod: pod.to_string(),
            container: wanted,
            known: known.join(", "),
        }),
    }
}

/// The most bytes of a log that are read at once.
pub const MAX_LOG_READ: u64 = 4 << 20;

/// The last lines of a file, on one line, for messages.
pub(crate) fn last_lines(path: &Path, lines: usize) -> String {
    let text = tail(path, lines).unwrap_or_default();
    text.lines()
        .collect::<Vec<_>>()
        .join(" | ")
        .chars()
        .take(500)
        .collect()
}

fn tail(path: &Path, lines: usize) -> io::Result<String> {
    let mut file = match File::open(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(String::new()),
        other => other?,
    };
    let length = file.metadata()?.len();
    let from = length.saturating_sub(MAX_LOG_READ);
    file.seek(SeekFrom::Start(from))?;
    let mut bytes = Vec::new();
    file.take(MAX_LOG_READ).read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    let all: Vec<&str> = text.lines().collect();
    let mut last = all[all.len().saturating_sub(lines)..].join("\n");
    if !last.is_empty() {
        last.push('\n');
    }
    Ok(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_what_people_type() {
        let deploy = Target::Deployment("sleep".into());
        assert_eq!("deploy/sleep".parse::<Target>().unwrap(), deploy);
        assert_eq!("deployment/sleep".parse::<Target>().unwrap(), deploy);
        assert_eq!(
            "sleep-1".parse::<Target>().unwrap(),
            Target::Pod("sleep-1".into())
        );
        for bad in ["svc/sleep", "deploy/", "", "/x"] {
            assert!(bad.parse::<Target>().is_err(), "{bad}");
        }
    }

    #[test]
    fn the_last_lines_of_a_log() {
        let tmp = tempfile::tempdir().unwrap();
        let path = tmp.path().join("a.log");
        assert_eq!(tail(&path, 2).unwrap(), "");
        fs::write(&path, "one\ntwo\nthree\n").unwrap();
        assert_eq!(tail(&path, 2).unwrap(), "two\nthree\n");
    }
}
