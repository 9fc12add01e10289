//! `exec` and `logs`: a command in a pod, and what its programs wrote.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use catamaran_local::exec::{self, ExecError, Target};
use catamaran_local::object::Kind;
use catamaran_model::{ClusterId, Namespace};

use crate::{Fleet, OperateError, wait};

/// Where a command runs: `C/deploy/sleep`, or cluster and target apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The cluster.
    pub cluster: ClusterId,
    /// The namespace.
    pub namespace: Namespace,
    /// The pod, by its Deployment or by name.
    pub target: Target,
}

impl Place {
    /// Reads `C/deploy/NAME` or `C/pod/NAME`.
    pub fn parse(text: &str, namespace: &Namespace) -> Result<Place, OperateError> {
        let bad = |reason: String| OperateError::BadSetting {
            text: text.chars().take(120).collect(),
            wanted: "CLUSTER/deploy/NAME or CLUSTER/pod/NAME",
            reason,
        };
        let (cluster, target) = (text.split_once('/'))
            .ok_or_else(|| bad("there is no '/' after the cluster".into()))?;
        let kind = Kind::of_word(cluster);
        if matches!(kind, Some(Kind::Deployment | Kind::Pod)) && !target.contains('/') {
            return Err(bad(format!("the cluster is missing before {cluster}/")));
        }
        Ok(Place {
            cluster: ClusterId::new(cluster).map_err(|e| bad(e.to_string()))?,
            namespace: namespace.clone(),
            target: target
                .parse()
                .map_err(|e: exec::ExecError| bad(e.to_string()))?,
        })
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.cluster, self.target)
    }
}

/// Waits until a pod of the place has started its program, for at most `patience`. What cannot come by waiting is an error at
/// once: an unknown name, a Deployment scaled to 0, a cluster that is stopped.
pub async fn wait_started(
    fleet: &Fleet,
    place: &Place,
    patience: Duration,
) -> Result<(), OperateError> {
    let dir = fleet.cluster(&place.cluster)?;
    let what = format!("starting {} in {}", place.target, place.cluster);
    let look = format!(
        "see `catamaran status`, and catamaran logs {} {} --namespace {}; or wait longer: --timeout",
        place.cluster, place.target, place.namespace
    );
    let found = wait::until(&what, patience, &look, || async {
        match exec::pod_of(&dir, &place.namespace, &place.target) {
            Err(error @ ExecError::NoPod { .. }) => Err(error.to_string()),
            found => Ok(found),
        }
    });
    Ok(found.await?.map(drop)?)
}

/// The command that runs `argv` in the pod. Input, output and the terminal are the caller's; its exit status is `argv`'s.
pub fn exec_command(
    fleet: &Fleet,
    place: &Place,
    argv: &[String],
) -> Result<Command, OperateError> {
    let dir = fleet.cluster(&place.cluster)?;
    Ok(exec::exec_command(
        &dir,
        &place.namespace,
        &place.target,
        argv,
        &fleet.program,
    )?)
}

/// The last `lines` lines that a container of the pod wrote: the first one, or the one named (`istio-proxy` is the sidecar).
pub fn logs(
    fleet: &Fleet,
    place: &Place,
    container: Option<&str>,
    lines: usize,
) -> Result<String, OperateError> {
    let dir = fleet.cluster(&place.cluster)?;
    Ok(exec::logs(
        &dir,
        &place.namespace,
        &place.target,
        container,
        lines,
    )?)
}

/// Where that log is, for those who follow it.
pub fn log_path(
    fleet: &Fleet,
    place: &Place,
    container: Option<&str>,
) -> Result<PathBuf, OperateError> {
    let dir = fleet.cluster(&place.cluster)?;
    Ok(exec::log_path(
        &dir,
        &place.namespace,
        &place.target,
        container,
    )?)
}
