//! `status` and `cluster list` for contexts.

use std::collections::BTreeMap;

use catamaran_kubernetes::connect::Access;
use catamaran_kubernetes::inject::SYSTEM_NAMESPACES;
use catamaran_kubernetes::sight::{self, Pod};
use catamaran_model::{GatewayAddress, MemberMode};

use super::{Heard, SYSTEM, Side, gather, silent, some_answer};
use crate::contact::Contact;
use crate::mesh_state::MeshState;
use crate::status::{ClusterRow, GatewayRow, Head, ProblemRow, put_together};
use crate::told::Told;
use crate::{FleetStatus, OperateError};

/// `status` for contexts. What does not answer is shown as such.
///
/// # Errors
/// When a context cannot be used at all.
pub async fn context_status(contacts: &[Contact]) -> Result<FleetStatus, OperateError> {
    let sides = gather(contacts).await?;
    let (clusters, gateways) = (clusters(&sides).await, gateways(&sides).await);
    let mut meshes: Vec<_> = sides.iter().flat_map(Side::told).map(Told::row).collect();
    meshes.sort_by(|a, b| a.name.cmp(&b.name));
    let head = Head {
        id: (contacts.iter())
            .map(|contact| contact.short().to_owned())
            .collect::<Vec<_>>()
            .join(","),
        isolation: "kubernetes".into(),
        dir: String::new(),
    };
    let problems = problems(&sides);
    Ok(put_together(head, meshes, clusters, gateways, problems))
}

/// What the sides cannot say themselves.
fn problems(sides: &[Side]) -> Vec<ProblemRow> {
    let mut all = Vec::new();
    for side in sides {
        let cluster = side.cluster();
        let mut add = |severity: &str, kind: &str, object: String, message: String| {
            all.push(ProblemRow {
                severity: severity.into(),
                said_by: "catamaran".into(),
                kind: kind.into(),
                cluster: Some(cluster.clone()),
                object,
                message,
            });
        };
        let found = match &side.found {
            Ok(found) => found,
            Err(failure) => {
                let message = format!(
                    "{}; nothing of it is shown, and what runs there goes on",
                    failure.about("its objects")
                );
                add("error", "unreachable", side.who.clone(), message);
                continue;
            }
        };
        if found.instances.is_empty() {
            let message = format!(
                "there is no instance; catamaran mesh create M --cluster C{}",
                side.contact.option()
            );
            add("warning", "no_instance", side.who.clone(), message);
        }
        for (object, reason) in &found.sight.bad {
            add("error", "bad_object", object.clone(), reason.clone());
        }
        for asked in &found.instances {
            let told = &asked.told;
            let object = format!("Mesh {}", told.spec.name);
            if let Some(why) = &asked.not_asked {
                let message = format!("{why}; what its objects say is shown");
                add("warning", "not_asked", object.clone(), message);
            }
            if told.state.0 == MeshState::Unreachable {
                let message = format!(
                    "{}; its proxies go on with what they have; see kubectl{} logs -n {SYSTEM} deploy/catamaran-{}",
                    told.state.1,
                    side.contact.option(),
                    told.spec.name
                );
                add("error", "unreachable", object, message);
            }
        }
    }
    all
}

/// `cluster list` for contexts.
///
/// # Errors
/// When a context cannot be used at all, or no side answers.
pub async fn context_clusters(contacts: &[Contact]) -> Result<Heard<ClusterRow>, OperateError> {
    let mut sides = gather(contacts).await?;
    some_answer(&mut sides)?;
    Ok(Heard {
        rows: clusters(&sides).await,
        silent: silent(&sides),
    })
}

/// The clusters that contexts lead to, and those that their instances know besides.
async fn clusters(sides: &[Side]) -> Vec<ClusterRow> {
    let mut rows: BTreeMap<String, ClusterRow> = BTreeMap::new();
    let blank = |name: &str, state: &'static str| ClusterRow {
        name: name.to_owned(),
        network: "-".into(),
        state,
        managed_by: None,
        discovered_by: Vec::new(),
        ready_pods: 0,
        pods: 0,
        problems: Vec::new(),
    };
    for side in sides {
        let name = side.cluster();
        let mut row = blank(&name, "running");
        match &side.found {
            Err(failure) => {
                row.state = "unreachable";
                row.problems.push(failure.about("its objects"));
            }
            Ok(_) => match sight::pods(&side.access, None, "").await {
                Ok(pods) => count(&mut row, pods),
                Err(failure) => row.problems.push(failure.about("pods")),
            },
        }
        rows.insert(name, row);
    }
    for told in sides.iter().flat_map(Side::told) {
        for member in &told.members {
            let name = member.cluster.as_str();
            let row = rows.entry(name.to_owned());
            let row = row.or_insert_with(|| blank(name, "not asked"));
            if let Some(network) = &member.network {
                row.network = network.to_string();
            }
            match member.mode {
                MemberMode::Managed => row.managed_by = Some(told.spec.name.to_string()),
                MemberMode::DiscoveryOnly => {
                    row.discovered_by.push(told.spec.name.to_string());
                    // What manages it may say so through the one who discovers it.
                    let status = told.status.as_ref().ok();
                    let said = status.and_then(|status| status.of_cluster(name)?.mesh.clone());
                    row.managed_by = row.managed_by.take().or(said);
                }
            }
        }
    }
    let mut rows: Vec<_> = rows.into_values().collect();
    for row in &mut rows {
        row.discovered_by.sort();
        row.discovered_by.dedup();
    }
    rows
}

/// The pods that a mesh may concern: not those that the cluster itself consists of.
fn count(row: &mut ClusterRow, pods: Vec<Pod>) {
    let system = |pod: &Pod| SYSTEM_NAMESPACES.contains(&pod.namespace.as_str());
    for pod in pods.iter().filter(|pod| !pod.ending && !system(pod)) {
        row.pods += 1;
        row.ready_pods += usize::from(pod.ready);
        if let Some(why) = pod.waiting.as_ref().filter(|_| !pod.ready) {
            row.problems
                .push(format!("{}/{}: {why}", pod.namespace, pod.name));
        }
    }
}

/// The gateways that clusters say they have, with those that instances know besides.
async fn gateways(sides: &[Side]) -> Vec<GatewayRow> {
    let mut found: BTreeMap<(String, String), GatewayRow> = BTreeMap::new();
    for side in sides.iter().filter(|side| side.found.is_ok()) {
        for (network, address) in gateways_of(&side.access).await {
            let key = (side.cluster(), address.clone());
            found.entry(key).or_insert(GatewayRow {
                cluster: side.cluster(),
                network,
                address,
                known_to: Vec::new(),
            });
        }
    }
    for told in sides.iter().flat_map(Side::told) {
        let Ok(status) = &told.status else { continue };
        for gateway in &status.gateways {
            let key = (gateway.cluster.clone(), gateway.address.clone());
            let row = found.entry(key).or_insert_with(|| GatewayRow {
                cluster: gateway.cluster.clone(),
                network: gateway.network.clone(),
                address: gateway.address.clone(),
                known_to: Vec::new(),
            });
            let name = told.spec.name.to_string();
            if !row.known_to.contains(&name) {
                row.known_to.push(name);
            }
        }
    }
    found.into_values().collect()
}

/// Network and `IP:PORT` of the gateways that a cluster's Services say.
async fn gateways_of(access: &Access) -> Vec<(String, String)> {
    let services = sight::services(access, Some(SYSTEM)).await;
    let mut found = Vec::new();
    for service in services.unwrap_or_default() {
        let Some(network) = &service.network else {
            continue;
        };
        let ports = service.ports.iter().map(|port| port.number);
        let port = ports
            .clone()
            .find(|port| *port == i32::from(GatewayAddress::PORT))
            .or_else(|| ports.clone().next())
            .unwrap_or(i32::from(GatewayAddress::PORT));
        let at = |address: &String| (network.clone(), format!("{address}:{port}"));
        found.extend(service.ingress.iter().map(at));
    }
    found
}
