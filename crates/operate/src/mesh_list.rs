//! `mesh list` and `mesh show`: the instances, and how each is.

use std::time::Duration;

use catamaran_local::lifecycle;
use catamaran_local::object::Object;
use catamaran_local::write;
use catamaran_model::{MeshName, NetworkId};
use serde::Serialize;

use crate::control_plane::{self, ControlPlaneStatus, ProblemStatus, ProxyCount};
use crate::fleet::Instance;
use crate::mesh_state::{MeshState, Seen, judge, mode_word};
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
    let (said, node) = tokio::join!(
        control_plane::status(&instance.home),
        lifecycle::node_answers(&instance.home)
    );
    let seen = Seen {
        said: said.as_ref().map_err(String::as_str),
        node,
        known: has_export(instance),
    };
    let (state, reason) = judge(instance, &seen);
    let said = said.ok();
    let roots = match &said {
        Some(ControlPlaneStatus {
            trust: Some(trust), ..
        }) => trust.roots.clone(),
        _ => {
            let roots = fleet.roots(&instance.home).unwrap_or_default();
            roots.iter().map(ToString::to_string).collect()
        }
    };
    let text = |name: &NetworkId| name.to_string();
    let runs = said
        .as_ref()
        .map(|status| status.version.clone())
        .filter(|v| !v.is_empty());
    MeshRow {
        name: instance.spec.name.to_string(),
        state,
        reason,
        region: instance.spec.region.as_ref().map(ToString::to_string),
        version: runs.or_else(|| instance.spec.version.as_ref().map(ToString::to_string)),
        roots,
        manages: instance.home.name().to_string(),
        discovers: (instance.members.iter())
            .filter(|member| member.cluster != *instance.home.name())
            .map(|member| member.cluster.to_string())
            .collect(),
        proxies: said.as_ref().map(|status| status.proxies),
        clusters: (instance.members.iter())
            .map(|member| {
                let name = member.cluster.as_str();
                let known = said.as_ref().and_then(|status| status.of_cluster(name));
                let by_hand = member
                    .gateway_addresses
                    .iter()
                    .map(ToString::to_string)
                    .collect();
                let gateways = said
                    .as_ref()
                    .map_or(by_hand, |status| status.gateways_of(name));
                MemberRow {
                    name: member.cluster.to_string(),
                    mode: mode_word(member.mode).into(),
                    network: member.network.as_ref().map(text),
                    freshness: known.map(|cluster| cluster.freshness.clone()),
                    stale_since: known.and_then(|cluster| cluster.since.clone()),
                    reason: known.and_then(|cluster| cluster.reason.clone()),
                    gateways,
                    services: known.map(|cluster| cluster.services),
                    endpoints: known.map(|cluster| cluster.endpoints),
                }
            })
            .collect(),
        problems: said.map_or_else(Vec::new, |status| status.problems),
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
