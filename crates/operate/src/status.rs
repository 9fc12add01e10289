//! `status` and `cluster list`: the whole fleet on one page. It never blocks: whoever does not answer is a row with a reason.

use std::collections::BTreeMap;
use std::sync::Arc;

use catamaran_local::fleet::ClusterDir;
use catamaran_local::lifecycle;
use catamaran_local::node::PodRecord;
use catamaran_local::object::{Object, ObjectKey};
use catamaran_local::write;
use catamaran_model::MemberMode;
use serde::{Deserialize, Serialize};

use crate::control_plane::{self, ProxyCount};
use crate::fleet::Instance;
use crate::mesh_list::{MeshRow, list_meshes};
use crate::mesh_state::MeshState;
use crate::{Fleet, OperateError};

/// The whole fleet.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FleetStatus {
    /// Six hex digits that tell it from others; of clusters with API servers, the contexts that were asked.
    pub id: String,
    /// `netns` or `process`; of clusters with API servers `kubernetes`.
    pub isolation: String,
    /// Its folder; of clusters with API servers none.
    pub dir: String,
    /// Its instances.
    pub meshes: Vec<MeshRow>,
    /// Its clusters.
    pub clusters: Vec<ClusterRow>,
    /// Its east-west gateways.
    pub gateways: Vec<GatewayRow>,
    /// All its proxies, counted.
    pub proxies: ProxyCount,
    /// What people should know.
    pub problems: Vec<ProblemRow>,
}

/// A cluster as tables show it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ClusterRow {
    /// Its name.
    pub name: String,
    /// The physical network that it stands in; of one with an API server the logical network.
    pub network: String,
    /// `running` or `stopped`: whether its node answers; of one with an API server, `running` or `unreachable`, and `not asked`
    /// when no context leads there.
    pub state: &'static str,
    /// The instance that manages it.
    pub managed_by: Option<String>,
    /// The instances that discover it.
    pub discovered_by: Vec<String>,
    /// Its pods that are ready.
    pub ready_pods: usize,
    /// All its pods, its gateway among them.
    pub pods: usize,
    /// What its node waits for or cannot use, one line each.
    pub problems: Vec<String>,
}

/// A gateway as tables show it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct GatewayRow {
    /// The cluster it stands in.
    pub cluster: String,
    /// The network it leads into.
    pub network: String,
    /// `IP:PORT`
    pub address: String,
    /// The instances that know it.
    pub known_to: Vec<String>,
}

/// Something people should know, and who says it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct ProblemRow {
    /// `error` or `warning`.
    pub severity: String,
    /// The instance, or the cluster's node, that says it.
    pub said_by: String,
    /// `root_mismatch`, `no_gateway`, ...
    pub kind: String,
    /// The cluster concerned.
    pub cluster: Option<String>,
    /// The object concerned.
    pub object: String,
    /// What is wrong, and the next step.
    pub message: String,
}

/// The whole fleet, as far as it answers within two seconds.
pub async fn fleet_status(fleet: &Fleet) -> Result<FleetStatus, OperateError> {
    let (meshes, clusters, gateways) =
        tokio::join!(list_meshes(fleet), list_clusters(fleet), gateways(fleet));
    let (meshes, clusters, gateways) = (meshes?, clusters?, gateways?);
    let mut problems = absent(&meshes, &clusters);
    let (_, illegible) = fleet.legible()?;
    problems.extend(illegible.into_iter().map(|illegible| ProblemRow {
        severity: "error".into(),
        said_by: "catamaran".into(),
        kind: "illegible".into(),
        cluster: Some(illegible.cluster.to_string()),
        object: format!("Cluster {}", illegible.cluster),
        message: format!(
            "its objects cannot be read, so its instance is not shown here; what runs goes on: {}",
            illegible.reason
        ),
    }));
    let head = Head {
        id: fleet.file.id.clone(),
        isolation: fleet.file.isolation.to_string(),
        dir: fleet.dir.path().display().to_string(),
    };
    Ok(put_together(head, meshes, clusters, gateways, problems))
}

/// What tells a fleet from others.
pub(crate) struct Head {
    pub(crate) id: String,
    pub(crate) isolation: String,
    pub(crate) dir: String,
}

/// One page of what was gathered; `problems` are those that nobody below says.
pub(crate) fn put_together(
    head: Head,
    meshes: Vec<MeshRow>,
    clusters: Vec<ClusterRow>,
    gateways: Vec<GatewayRow>,
    mut problems: Vec<ProblemRow>,
) -> FleetStatus {
    let mut proxies = ProxyCount::default();
    for count in meshes.iter().filter_map(|mesh| mesh.proxies) {
        proxies.connected += count.connected;
        proxies.current += count.current;
        proxies.pending += count.pending;
        proxies.rejected += count.rejected;
    }
    let said = meshes.iter().flat_map(|mesh| {
        mesh.problems.iter().map(|problem| ProblemRow {
            severity: problem.severity.clone(),
            said_by: mesh.name.clone(),
            kind: problem.kind.clone(),
            cluster: problem.cluster.clone(),
            object: problem.object.clone(),
            message: problem.message.clone(),
        })
    });
    let nodes = clusters.iter().flat_map(|cluster| {
        cluster.problems.iter().map(|problem| ProblemRow {
            severity: "warning".into(),
            said_by: format!("node of {}", cluster.name),
            kind: "node".into(),
            cluster: Some(cluster.name.clone()),
            object: String::new(),
            message: problem.clone(),
        })
    });
    problems.extend(said.chain(nodes));
    problems.sort();
    problems.dedup();
    FleetStatus {
        id: head.id,
        isolation: head.isolation,
        dir: head.dir,
        meshes,
        clusters,
        gateways,
        proxies,
        problems,
    }
}

/// Who does not answer: they cannot say so themselves.
fn absent(meshes: &[MeshRow], clusters: &[ClusterRow]) -> Vec<ProblemRow> {
    let row =
        |severity: &str, kind: &str, cluster: &str, object: String, message: String| ProblemRow {
            severity: severity.into(),
            said_by: "catamaran".into(),
            kind: kind.into(),
            cluster: Some(cluster.into()),
            object,
            message,
        };
    let unreachable = meshes
        .iter()
        .filter(|mesh| mesh.state == MeshState::Unreachable);
    let stopped = clusters.iter().filter(|cluster| cluster.state == "stopped");
    let meshes = unreachable.map(|mesh| {
        let message = format!(
            "{}; its proxies go on with what they have; see logs/ in the folder of {}",
            mesh.reason, mesh.manages
        );
        row(
            "error",
            "unreachable",
            &mesh.manages,
            format!("Mesh {}", mesh.name),
            message,
        )
    });
    let clusters = stopped.map(|cluster| {
        let severity = if cluster.managed_by.is_some() {
            "error"
        } else {
            "warning"
        };
        let message = format!("it is stopped; catamaran cluster start {}", cluster.name);
        row(
            severity,
            "stopped",
            &cluster.name,
            format!("Cluster {}", cluster.name),
            message,
        )
    });
    meshes.chain(clusters).collect()
}

/// The clusters, by name.
pub async fn list_clusters(fleet: &Fleet) -> Result<Vec<ClusterRow>, OperateError> {
    let (instances, _) = fleet.legible()?;
    let mut asked = Vec::new();
    for dir in fleet.clusters()? {
        let (managed_by, discovered_by) = (
            by(&instances, &dir, MemberMode::Managed),
            by(&instances, &dir, MemberMode::DiscoveryOnly),
        );
        asked.push(tokio::spawn(async move {
            cluster_row(&dir, managed_by.into_iter().next(), discovered_by).await
        }));
    }
    let mut rows = Vec::new();
    for task in asked {
        rows.extend(task.await.unwrap_or(Ok(None))?);
    }
    Ok(rows)
}

fn by(instances: &[Instance], dir: &ClusterDir, mode: MemberMode) -> Vec<String> {
    (instances.iter())
        .filter(|i| {
            i.member(dir.name())
                .is_some_and(|member| member.mode == mode)
        })
        .map(|i| i.spec.name.to_string())
        .collect()
}

async fn cluster_row(
    dir: &ClusterDir,
    managed_by: Option<String>,
    discovered_by: Vec<String>,
) -> Result<Option<ClusterRow>, OperateError> {
    let facts = dir.read()?;
    let (answers, problems) = tokio::join!(lifecycle::node_answers(dir), node_problems(dir));
    let pods = PodRecord::all(dir);
    let waiting = (pods.iter()).filter(|pod| !pod.ready).filter_map(|pod| {
        Some(format!(
            "{}/{}: {}",
            pod.namespace,
            pod.name,
            pod.waiting.as_ref()?
        ))
    });
    Ok(Some(ClusterRow {
        name: facts.name.to_string(),
        network: facts.network.to_string(),
        state: if answers { "running" } else { "stopped" },
        managed_by,
        discovered_by,
        ready_pods: if answers {
            pods.iter().filter(|pod| pod.ready).count()
        } else {
            0
        },
        pods: pods.len(),
        problems: problems.into_iter().chain(waiting).collect(),
    }))
}

/// What a node says is wrong (`GET /v1/problems`); nothing when it does not answer.
async fn node_problems(dir: &ClusterDir) -> Vec<String> {
    #[derive(Deserialize)]
    struct NodeProblem {
        file: String,
        line: Option<u64>,
        #[serde(default)]
        object: String,
        reason: String,
    }
    let Ok(body) = control_plane::get(&dir.node_socket(), "/v1/problems").await else {
        return Vec::new();
    };
    let problems: Vec<NodeProblem> = serde_json::from_str(&body).unwrap_or_default();
    let text = |problem: NodeProblem| {
        let line = problem
            .line
            .map_or(String::new(), |line| format!(":{line}"));
        let object = match problem.object.as_str() {
            "" => String::new(),
            object => format!(" {object}:"),
        };
        format!("{}{line}:{object} {}", problem.file, problem.reason)
    };
    problems.into_iter().map(text).collect()
}

/// The gateways that clusters say they have, with those that instances know besides (given by hand).
async fn gateways(fleet: &Fleet) -> Result<Vec<GatewayRow>, OperateError> {
    let mut found: BTreeMap<(String, String), GatewayRow> = BTreeMap::new();
    let mut add = |cluster: String, network: String, address: String, knows: Option<&Instance>| {
        let key = (cluster.clone(), address.clone());
        let row = found.entry(key).or_insert(GatewayRow {
            cluster,
            network,
            address,
            known_to: Vec::new(),
        });
        // An instance may know one address twice: as discovered, and as given by hand.
        let knows = knows.map(|instance| instance.spec.name.to_string());
        if let Some(name) = knows.filter(|name| !row.known_to.contains(name)) {
            row.known_to.push(name);
        }
    };
    for dir in fleet.clusters()? {
        let Ok(status) = write::status(&dir) else {
            continue;
        };
        for (network, address) in gateways_in(&status) {
            add(dir.name().to_string(), network, address, None);
        }
    }
    for instance in fleet.legible()?.0 {
        let Ok(status) = control_plane::status(&instance.home).await else {
            continue;
        };
        for gateway in status.gateways {
            add(
                gateway.cluster,
                gateway.network,
                gateway.address,
                Some(&instance),
            );
        }
    }
    Ok(found.into_values().collect())
}

/// Network and `IP:PORT` of the gateways that a cluster's status says.
pub(crate) fn gateways_in(objects: &BTreeMap<ObjectKey, Arc<Object>>) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for object in objects.values() {
        let Object::Service(service) = &**object else {
            continue;
        };
        let Some(network) = service
            .metadata
            .labels
            .get(catamaran_local::object::NETWORK_LABEL)
        else {
            continue;
        };
        let port = (service.spec.ports.iter())
            .map(|port| port.port)
            .find(|port| *port == catamaran_model::GatewayAddress::PORT)
            .or(service.spec.ports.first().map(|port| port.port))
            .unwrap_or(catamaran_model::GatewayAddress::PORT);
        let ingress = service
            .status
            .iter()
            .flat_map(|status| &status.load_balancer.ingress);
        found.extend(
            ingress
                .filter_map(|ingress| ingress.ip.as_ref())
                .map(|ip| (network.clone(), format!("{ip}:{port}"))),
        );
    }
    found
}

#[cfg(test)]
mod tests;
