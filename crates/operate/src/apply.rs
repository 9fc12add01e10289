//! `apply`, `delete` and `scale`: the objects of a cluster.

use std::path::Path;

use catamaran_local::object::Kind;
use catamaran_local::write::{self, Outcome, Report};
use catamaran_model::{ClusterId, Namespace};
use serde::Serialize;

use crate::nearest::nearest;
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
    /// `created`, `configured`, `unchanged`, `deleted`, `not found` or `ignored (no such kind here)`.
    pub outcome: &'static str,
    /// What an ignored object may have been meant as.
    #[serde(skip)]
    pub hint: Option<String>,
}

/// The kinds that manifests may hold.
const KINDS: [Kind; 7] = [
    Kind::Namespace,
    Kind::ServiceAccount,
    Kind::Secret,
    Kind::Service,
    Kind::Deployment,
    Kind::Mesh,
    Kind::Cluster,
];

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
        hint: None,
    })
}

fn rows(report: Report) -> Vec<Applied> {
    let ignored = report.ignored.iter().map(|what| ignored(what));
    let objects = report.objects.into_iter().map(|(key, outcome)| Applied {
        kind: key.kind.to_string(),
        namespace: key.namespace.to_string(),
        name: key.name,
        outcome: words(outcome),
        hint: None,
    });
    objects.chain(ignored).collect()
}

/// A row for `apiVersion Kind NAME`, which is not looked at.
fn ignored(what: &str) -> Applied {
    let mut words = what.splitn(3, ' ');
    let mut word = || words.next().unwrap_or_default();
    let (version, kind, name) = (word(), word(), word());
    let (namespace, name) = name.split_once('/').unwrap_or(("", name));
    let names = KINDS.map(Kind::as_str);
    let hint = match KINDS.into_iter().find(|known| known.as_str() == kind) {
        Some(known) => Some(format!(
            "{kind} is read as apiVersion {}, not {version}",
            known.api_version()
        )),
        None => nearest(kind, &names).map(|near| format!("did you mean {near}?")),
    };
    Applied {
        kind: kind.into(),
        namespace: namespace.into(),
        name: name.into(),
        outcome: IGNORED,
        hint,
    }
}

/// What became of an object of a kind that is not looked at.
pub const IGNORED: &str = "ignored (no such kind here)";

fn words(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Created => "created",
        Outcome::Configured => "configured",
        Outcome::Unchanged => "unchanged",
        Outcome::Deleted => "deleted",
        Outcome::NotFound => "not found",
    }
}

#[cfg(test)]
mod tests {
    use super::ignored;

    #[test]
    fn an_ignored_object_is_named_with_what_it_may_have_been() {
        let row = ignored("apps/v1 Deploymnet shop/cart");
        assert_eq!(
            (row.kind.as_str(), row.namespace.as_str(), row.name.as_str()),
            ("Deploymnet", "shop", "cart")
        );
        assert_eq!(row.hint.as_deref(), Some("did you mean Deployment?"));
        let row = ignored("v1 Deployment cart");
        assert_eq!(row.namespace, "");
        assert!(row.hint.is_some_and(|hint| hint.contains("apps/v1")));
        assert_eq!(ignored("batch/v1 CronJob nightly").hint, None);
    }
}
