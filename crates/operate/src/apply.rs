//! `apply`, `delete` and `scale`: the objects of a cluster.

use std::path::Path;

use catamaran_local::write::{self, Outcome, Report};
use catamaran_model::{ClusterId, Namespace};
use serde::Serialize;

use crate::{Fleet, OperateError};

/// What became of one object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Applied {
    /// Its kind.
    pub kind: String,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// `created`, `configured`, `unchanged`, `deleted`, `not found` or `ignored`.
    pub outcome: &'static str,
}

/// Writes every object of a manifest, or none when one of them is invalid. `origin` is named in errors.
pub fn apply(
    fleet: &Fleet,
    cluster: &ClusterId,
    text: &str,
    origin: &Path,
) -> Result<Vec<Applied>, OperateError> {
    Ok(rows(write::apply(&fleet.cluster(cluster)?, text, origin)?))
}

/// Deletes every object that a manifest names.
pub fn delete(
    fleet: &Fleet,
    cluster: &ClusterId,
    text: &str,
    origin: &Path,
) -> Result<Vec<Applied>, OperateError> {
    Ok(rows(write::delete_all(
        &fleet.cluster(cluster)?,
        text,
        origin,
    )?))
}

/// Sets how many pods a Deployment wants.
pub fn scale(
    fleet: &Fleet,
    cluster: &ClusterId,
    namespace: &Namespace,
    deployment: &str,
    replicas: u32,
) -> Result<Applied, OperateError> {
    let dir = fleet.cluster(cluster)?;
    let outcome = write::scale(&dir, namespace, deployment, replicas)?;
    Ok(Applied {
        kind: "Deployment".into(),
        namespace: namespace.to_string(),
        name: deployment.into(),
        outcome: words(outcome),
    })
}

fn rows(report: Report) -> Vec<Applied> {
    let ignored = report.ignored.into_iter().map(|what| Applied {
        kind: String::new(),
        namespace: String::new(),
        name: what,
        outcome: "ignored",
    });
    let objects = report.objects.into_iter().map(|(key, outcome)| Applied {
        kind: key.kind.to_string(),
        namespace: key.namespace.to_string(),
        name: key.name,
        outcome: words(outcome),
    });
    objects.chain(ignored).collect()
}

fn words(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Created => "created",
        Outcome::Configured => "configured",
        Outcome::Unchanged => "unchanged",
        Outcome::Deleted => "deleted",
        Outcome::NotFound => "not found",
    }
}
