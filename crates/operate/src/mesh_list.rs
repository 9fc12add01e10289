//! `mesh list` and `mesh show`: the instances, and how each is.

use std::time::Duration;

use catamaran_local::lifecycle;
use catamaran_local::object::Object;
use catamaran_local::write;
use catamaran_model::MeshName;
use serde::Serialize;

use crate::control_plane::{self, ProblemStatus, ProxyCount};
use crate::fleet::Instance;
use crate::mesh_state::{MeshState, Seen, judge};
use crate::told::{Intermediate, Told};
use crate::trust::authority_of;
use crate::{Fleet, OperateError, wait};

/// An instance as tables show it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct MeshRow {
    /// Its name.
    pub name: String,
    /// How it is.
    pub state: MeshState,
    /// What is missing for `running`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// Its region.
    pub region: Option<String>,
    /// The version that it runs, else that it shall run.
    pub version: Option<String>,
    /// Its roots, SHA-256 in hex.
    pub roots: Vec<String>,
    /// The cluster it manages.
    pub manages: String,
    /// The clusters it discovers.
    pub discovers: Vec<String>,
    /// Its proxies.
    pub proxies: Option<ProxyCount>,
    /// Its clusters.
    pub clusters: Vec<MemberRow>,
    /// What its control plane says people should know.
    pub problems: Vec<ProblemStatus>,
}

/// A cluster of an instance as tables show it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct MemberRow {
    /// Its name.
    pub name: String,
    /// `managed` or `discovery-only`.
    pub mode: String,
    /// The network it shall be in.
    pub network: Option<String>,
    /// `fresh`, `stale`, `unknown`; none when the control plane does not answer.
    pub freshness: Option<String>,
    /// Since when it is stale, RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stale_since: Option<String>,
    /// Why it is stale.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Its gateways, `IP:PORT`, as the control plane knows them.
    pub gateways: Vec<String>,
    /// How many services the control plane knows there.
    pub services: Option<usize>,
    /// How many endpoints the control plane knows there.
    pub endpoints: Option<usize>,
}

/// Every instance that can be read, by name. All control planes are asked at once, each with a bound.
pub async fn list_meshes(fleet: &Fleet) -> Result<Vec<MeshRow>, OperateError> {
    let (instances, _) = fleet.legible()?;
    let asked = instances.into_iter().map(|instance| {
        let fleet = fleet.clone();
        tokio::spawn(async move { row(&fleet, &instance).await })
    });
    let mut rows = Vec::new();
    for task in asked.collect::<Vec<_>>() {
        rows.push(task.await.map_err(|e| OperateError::NoAnswer {
            who: "a control plane".into(),
            reason: e.to_string(),
        })?);
    }
    Ok(rows)
}

/// One instance.
pub async fn show_mesh(fleet: &Fleet, name: &MeshName) -> Result<MeshRow, OperateError> {
    Ok(row(fleet, &fleet.instance(name)?).await)
}

/// Waits until an instance runs.
pub async fn wait_running(
    fleet: &Fleet,
    name: &MeshName,
    patience: Duration,
) -> Result<MeshRow, OperateError> {
    let look = format!(
        "see `catamaran mesh show {name}` and the control plane's log in the cluster's folder logs/"
    );
    wait::until(&format!("{name} → running"), patience, &look, || async {
        match show_mesh(fleet, name).await {
            Ok(row) if row.state == MeshState::Running => Ok(row),
            Ok(row) => Err(format!("{}: {}", row.state.as_str(), row.reason)),
            Err(error) => Err(error.to_string()),
        }
    })
    .await
}

async fn row(fleet: &Fleet, instance: &Instance) -> MeshRow {
    told(fleet, instance).await.row()
}

/// An instance of a fleet with what it says.
pub(crate) async fn told(fleet: &Fleet, instance: &Instance) -> Told {
    let (status, node) = tokio::join!(
        control_plane::status(&instance.home),
        lifecycle::node_answers(&instance.home)
    );
    let seen = Seen {
        said: status.as_ref().map_err(String::as_str),
        node,
        known: has_export(instance),
    };
    let intermediate = authority_of(&instance.home).map(|authority| Intermediate {
        fingerprint: authority.fingerprint().short(),
        not_after: authority.facts().not_after,
        half_life: authority.facts().half_life(),
    });
    Told {
        state: judge(&instance.members, &seen),
        spec: instance.spec.clone(),
        home: instance.home.name().clone(),
        members: instance.members.clone(),
        status,
        whole: true,
        roots: fleet.roots(&instance.home).unwrap_or_default(),
        intermediate: Some(intermediate.map_err(|error| error.to_string())),
    }
}

/// Whether the instance has said something of itself: then its control plane was ready once.
pub(crate) fn has_export(instance: &Instance) -> bool {
    let objects = write::objects(&instance.home).unwrap_or_default();
    let ours = |object: &Object| match object {
        Object::MeshExport(export) => export.metadata.name == instance.spec.name.as_str(),
        _ => false,
    };
    objects.values().any(|object| ours(object))
}
