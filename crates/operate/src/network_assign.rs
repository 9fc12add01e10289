//! `network set` for clusters with an API server: the networks of an instance's clusters, and the gateways of those it manages.

use std::collections::BTreeSet;
use std::time::Duration;

use catamaran_kubernetes::enrol::{self, Home};
use catamaran_kubernetes::gateway::{self, Gateway, ServiceType, Standing};
use catamaran_model::{ClusterId, Credential, Member, MemberMode, MeshName, MeshSpec, NetworkId};

use crate::contact::{Contact, ContactError, Reached};
use crate::network_set::{GatewaySetting, NetworkSetting};
use crate::{Job, OperateError, Placed};

/// What `network set` is told.
#[derive(Debug, Clone)]
pub struct AssignNetworks {
    /// The instance.
    pub mesh: MeshName,
    /// The way to the instance's own cluster.
    pub home: Contact,
    /// The way to another one that it manages, when that is among the settings.
    pub remote: Option<Contact>,
    /// The networks and gateways.
    pub settings: Vec<NetworkSetting>,
    /// How a gateway is reached.
    pub service: ServiceType,
    /// What a gateway runs; what the control plane runs when not said.
    pub image: Option<String>,
    /// Where the control plane listens, `HOST:PORT`; its Service when not said.
    pub control_plane: Option<String>,
    /// How long to wait until a gateway is ready.
    pub patience: Option<Duration>,
}

struct Plan {
    own: Reached,
    before: Vec<Member>,
    after: Vec<Member>,
    /// The managed clusters among the settings.
    managed: Vec<Managed>,
}

/// What becomes of a managed cluster.
struct Managed {
    /// The way there, when it is not the instance's own.
    there: Option<Reached>,
    network: NetworkId,
    before: Member,
    gateway: Option<Gateway>,
}

/// Assigns networks: all of the settings, or none when one of them cannot be.
///
/// # Errors
/// Why none is. A gateway that is not ready in time stays; see [`OperateError::Timeout`].
pub async fn assign_networks(assign: &AssignNetworks, job: &mut Job) -> Result<(), OperateError> {
    job.begin(&format!("look at {}", assign.mesh));
    let planned = plan(assign).await;
    let plan = job.end(planned)?;

    job.begin(&format!("set the networks of {}", assign.mesh));
    let set = write(&plan, job).await;
    if set.is_err() {
        take_back(&plan).await;
    } else {
        for member in &plan.after {
            job.remark(words(member));
        }
    }
    job.end(set)?;

    for managed in &plan.managed {
        let (Some(gateway), Some(patience)) = (&managed.gateway, assign.patience) else {
            continue;
        };
        job.begin(&format!("the gateway of {} is ready", gateway.cluster));
        let ready = wait_ready(managed.at(&plan), gateway, patience).await;
        if let Ok(standing) = &ready {
            tell(assign, gateway, standing, job);
        }
        job.end(ready)?;
    }
    Ok(())
}

/// What would be written; the instance's own cluster is read for it.
///
/// # Errors
/// Why it would be refused.
pub async fn assignment(assign: &AssignNetworks) -> Result<Vec<Placed>, OperateError> {
    let plan = plan(assign).await?;
    let home = format!("the cluster of {} ({})", assign.mesh, plan.own.who);
    let objects = plan.after.iter().map(enrol::object);
    let mut all: Vec<_> = objects.map(|object| (home.clone(), object)).collect();
    for managed in &plan.managed {
        let place = match &managed.there {
            None => home.clone(),
            Some(there) => format!("{} ({})", managed.before.cluster, there.who),
        };
        let label = gateway::network_label(Some(&managed.network));
        let gateway = managed.gateway.iter().flat_map(gateway::manifests);
        let objects = std::iter::once(label).chain(gateway);
        all.extend(objects.map(|object| (place.clone(), object)));
    }
    let placed = all
        .into_iter()
        .map(|(place, object)| Placed { place, object });
    Ok(placed.collect())
}

impl Managed {
    fn at<'a>(&'a self, plan: &'a Plan) -> &'a Reached {
        self.there.as_ref().unwrap_or(&plan.own)
    }
}

async fn plan(assign: &AssignNetworks) -> Result<Plan, OperateError> {
    let own = assign.home.reach()?;
    let (home, spec) = own.home(&assign.mesh).await?;
    let (before, after) = members(assign, &home)?;
    let is_home = |member: &Member| {
        member.mode == MemberMode::Managed && matches!(member.credential, Credential::Folder(_))
    };
    let mut managed = Vec::new();
    for (old, new) in before.iter().zip(&after) {
        let there = match enrol::from_afar(new) {
            true => Some(remote(assign, &home, new).await?),
            false => None,
        };
        if there.is_some() || is_home(new) {
            managed.push(Managed {
                there,
                network: new.network.clone().expect("each setting has one"),
                before: old.clone(),
                gateway: match new.gateway {
                    true => Some(gateway_of(assign, &own, &spec, new).await?),
                    false => None,
                },
            });
        } else if new.gateway {
            return Err(ContactError::NotHome {
                mesh: assign.mesh.clone(),
                cluster: new.cluster.clone(),
            }
            .into());
        }
    }
    Ok(Plan {
        own,
        before,
        after,
        managed,
    })
}

/// The way to a cluster that is managed from another: there the label and the gateway are.
async fn remote(
    assign: &AssignNetworks,
    home: &Home,
    member: &Member,
) -> Result<Reached, OperateError> {
    let (mesh, cluster) = (&assign.mesh, &member.cluster);
    let Some(remote) = &assign.remote else {
        return Err(ContactError::NoWayThere {
            mesh: mesh.clone(),
            cluster: cluster.clone(),
            gone: false,
        }
        .into());
    };
    crate::cluster_enrol::reach_known(remote, home, mesh, cluster).await
}

/// The clusters that are set, as they are and as they will be.
fn members(
    assign: &AssignNetworks,
    home: &Home,
) -> Result<(Vec<Member>, Vec<Member>), OperateError> {
    let mesh = &assign.mesh;
    let mut seen = BTreeSet::new();
    let (mut before, mut after) = (Vec::new(), Vec::new());
    for setting in &assign.settings {
        let cluster = &setting.cluster;
        if !seen.insert(cluster) {
            return Err(OperateError::NamedTwice(cluster.clone()));
        }
        let known = || home.members.iter().map(|m| m.cluster.to_string()).collect();
        let member = home
            .member(cluster)
            .ok_or_else(|| OperateError::NotAMember {
                cluster: cluster.clone(),
                mesh: mesh.clone(),
                known: known(),
            })?;
        if setting.gateway == GatewaySetting::Deploy && member.mode == MemberMode::DiscoveryOnly {
            return Err(OperateError::GatewayElsewhere {
                mesh: mesh.clone(),
                cluster: cluster.clone(),
                network: setting.network.clone(),
            });
        }
        let new = Member {
            network: Some(setting.network.clone()),
            gateway: setting.gateway == GatewaySetting::Deploy,
            gateway_addresses: match setting.gateway {
                GatewaySetting::At(address) => vec![address],
                _ => Vec::new(),
            },
            ..member.clone()
        };
        enrol::check(&new).map_err(|reason| OperateError::BadSetting {
            text: format!("{cluster}={},..", setting.network),
            wanted: "a setting for a cluster with an API server",
            reason,
        })?;
        before.push(member.clone());
        after.push(new);
    }
    Ok((before, after))
}

async fn gateway_of(
    assign: &AssignNetworks,
    own: &Reached,
    spec: &MeshSpec,
    member: &Member,
) -> Result<Gateway, OperateError> {
    let found = gateway::control_plane(&own.access, &assign.mesh).await;
    let found = found.map_err(ContactError::failed(&own.who, "deployments"))?;
    let image = assign.image.clone().or(found.image);
    Ok(Gateway {
        mesh: assign.mesh.clone(),
        cluster: member.cluster.clone(),
        network: member.network.clone().expect("each setting has one"),
        trust_domain: spec.trust_domain.clone(),
        cluster_domain: spec.domain.clone(),
        control_plane: assign.control_plane.clone().unwrap_or(found.at),
        image: image.ok_or_else(|| ContactError::NoImage(assign.mesh.clone()))?,
        service: assign.service,
    })
}

async fn write(plan: &Plan, job: &mut Job) -> Result<(), OperateError> {
    let access = &plan.own.access;
    let failed = |what| ContactError::failed(&plan.own.who, what);
    for member in &plan.after {
        let put = enrol::put(access, &enrol::object(member)).await;
        put.map_err(failed("objects of the kind Cluster"))?;
    }
    for managed in &plan.managed {
        let Reached { access, who, .. } = managed.at(plan);
        let failed = |what| ContactError::failed(who, what);
        let label = gateway::label(access, Some(&managed.network)).await;
        label.map_err(failed("the namespace catamaran-system"))?;
        match &managed.gateway {
            Some(gateway) => gateway::deploy(access, gateway, |object| job.note(object)).await,
            None if managed.before.gateway => {
                let step = |object: &str| job.note(format!("{object} is gone"));
                gateway::remove(access, step).await
            }
            None => Ok(()),
        }
        .map_err(failed("the gateway's objects"))?;
    }
    Ok(())
}

/// Puts back what was before. When even this fails, the error before it says why.
async fn take_back(plan: &Plan) {
    let access = &plan.own.access;
    for member in &plan.before {
        let _ = enrol::put(access, &enrol::object(member)).await;
    }
    for managed in &plan.managed {
        let access = &managed.at(plan).access;
        let _ = gateway::label(access, managed.before.network.as_ref()).await;
        if managed.gateway.is_some() && !managed.before.gateway {
            let _ = gateway::remove(access, |_| {}).await;
        }
    }
}

fn words(member: &Member) -> String {
    let network = member.network.as_ref().map_or("-", NetworkId::as_str);
    let gateway = match (member.gateway, member.gateway_addresses.first()) {
        (true, _) => ", with a gateway".to_owned(),
        (false, Some(address)) => format!(", gateway {address}"),
        (false, None) => String::new(),
    };
    format!("{} in {network}{gateway}", member.cluster)
}

async fn wait_ready(
    own: &Reached,
    gateway: &Gateway,
    patience: Duration,
) -> Result<Standing, OperateError> {
    let start = tokio::time::Instant::now();
    let (mut unmet, mut since) = (String::new(), start);
    loop {
        let now = match gateway::standing(&own.access).await {
            Ok(standing) => match missing(gateway, &standing) {
                None => return Ok(standing),
                Some(missing) => missing,
            },
            Err(failure) => failure.about("the gateway"),
        };
        if now != unmet {
            (unmet, since) = (now, tokio::time::Instant::now());
        }
        if start.elapsed() >= patience {
            return Err(OperateError::Timeout {
                what: format!("the gateway of {}", gateway.cluster),
                waited: patience,
                unmet,
                held: since.elapsed(),
                look: "see `kubectl get pods,services -n catamaran-system -l app=eastwest-gateway`; the same command goes on waiting".into(),
            });
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

/// What a gateway still lacks.
fn missing(gateway: &Gateway, standing: &Standing) -> Option<String> {
    if standing.ready < gateway::REPLICAS {
        let (ready, all) = (standing.ready, gateway::REPLICAS);
        return Some(format!("{ready} of {all} replicas are ready"));
    }
    let waits = gateway.service == ServiceType::LoadBalancer && standing.addresses.is_empty();
    waits.then(|| "nobody has given its Service an address".into())
}

fn tell(assign: &AssignNetworks, gateway: &Gateway, standing: &Standing, job: &mut Job) {
    let port = catamaran_model::GatewayAddress::PORT;
    for address in &standing.addresses {
        job.note(format!("{address}, port {port}"));
    }
    let (cluster, network): (&ClusterId, _) = (&gateway.cluster, &gateway.network);
    if let (ServiceType::NodePort, Some(port)) = (assign.service, standing.node_port) {
        job.remark(format!(
            "! port {port} of each node; others do not find nodes by themselves, so tell their instances: catamaran network set \
             --mesh OTHER --context .. {cluster}={network},gateway=NODE-IP:{port}"
        ));
    }
}

#[cfg(test)]
mod tests;
