//! What the node remembers of a pod, so that the next node can take it over.

use std::fs;
use std::io;

use serde::{Deserialize, Serialize};

use crate::atomic;
use crate::fleet::{ClusterDir, PodDir};
use crate::object::PodTemplate;
use crate::running::Running;

/// How far a pod is on its way out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Stage {
    /// It is wanted.
    Living,
    /// Its endpoints are marked, and callers are given time to notice.
    Leaving,
    /// Its programs were told to end.
    Ending,
    /// Its sidecar was told to end.
    Draining,
}

/// A pod.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PodRecord {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// The Deployment it belongs to; none for the gateway.
    pub deployment: Option<String>,
    /// The hash of the template it was made from.
    pub template_hash: String,
    /// What it was made from.
    pub template: PodTemplate,
    /// The last part of its address.
    pub number: u8,
    /// Whether it has a sidecar.
    pub sidecar: bool,
    /// Its network namespace.
    pub netns: Option<String>,
    /// When it was made, in seconds since 1970.
    pub created: u64,
    /// How far it is on its way out.
    pub stage: Stage,
    /// When it came to that stage, in milliseconds since 1970.
    pub stage_since: u64,
    /// Whether it was ready when this was written.
    pub ready: bool,
    /// What it waits for.
    pub waiting: Option<String>,
    /// Its containers, the sidecar first.
    pub containers: Vec<ContainerRecord>,
}

/// A container of a pod.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ContainerRecord {
    /// Its name.
    pub name: String,
    /// Its process, when it was started.
    pub process: Option<Running>,
    /// How often it was started again.
    pub restarts: u32,
}

impl PodRecord {
    /// Reads the record of one pod; a damaged one is none.
    pub fn read(pod: &PodDir) -> Option<PodRecord> {
        serde_json::from_slice(&fs::read(pod.record()).ok()?).ok()
    }

    /// Writes it, mode 0600.
    pub fn write(&self, pod: &PodDir) -> io::Result<()> {
        atomic::write_if_changed(&pod.record(), &serde_json::to_vec(self)?, 0o600)?;
        Ok(())
    }

    /// The records of all pods of a cluster, by namespace and name.
    pub fn all(cluster: &ClusterDir) -> Vec<PodRecord> {
        let mut records: Vec<PodRecord> = Vec::new();
        for namespace in fs::read_dir(cluster.pods()).into_iter().flatten().flatten() {
            for pod in fs::read_dir(namespace.path())
                .into_iter()
                .flatten()
                .flatten()
            {
                let text = fs::read(pod.path().join("pod.json")).unwrap_or_default();
                records.extend(serde_json::from_slice::<PodRecord>(&text).ok());
            }
        }
        records.sort_by(|a, b| (&a.namespace, &a.name).cmp(&(&b.namespace, &b.name)));
        records
    }
}
