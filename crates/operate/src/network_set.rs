//! `network set`: the logical networks of an instance's clusters, and the gateways between them.

use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr;

use catamaran_local::object::gateway_address;
use catamaran_local::write;
use catamaran_model::{ClusterId, GatewayAddress, Member, MemberMode, MeshName, NetworkId};

use crate::cluster_add::not_a_member;
use crate::{Fleet, Job, OperateError};

/// The gateway part of `C=NETWORK[,gateway[=IP:PORT]]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GatewaySetting {
    /// None is deployed; those of a discovered cluster are discovered.
    None,
    /// One is deployed by the instance.
    Deploy,
    /// It is there already, at this address.
    At(GatewayAddress),
}

/// `C=NETWORK[,gateway[=IP:PORT]]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkSetting {
    /// The cluster.
    pub cluster: ClusterId,
    /// The network its endpoints are in.
    pub network: NetworkId,
    /// How other networks reach it.
    pub gateway: GatewaySetting,
}

impl FromStr for NetworkSetting {
    type Err = OperateError;

    fn from_str(text: &str) -> Result<NetworkSetting, OperateError> {
        let bad = |reason: String| OperateError::BadSetting {
            text: text.chars().take(120).collect(),
            wanted: "CLUSTER=NETWORK[,gateway[=IP:PORT]]",
            reason,
        };
        let (cluster, rest) = (text.split_once('='))
            .ok_or_else(|| bad("there is no '=' after the cluster's name".into()))?;
        let (network, gateway) = match rest.split_once(',') {
            None => (rest, GatewaySetting::None),
            Some((network, "gateway")) => (network, GatewaySetting::Deploy),
            Some((network, word)) => {
                let address = word
                    .strip_prefix("gateway=")
                    .ok_or_else(|| bad(format!("{word:?} is not gateway or gateway=IP:PORT")))?;
                (
                    network,
                    GatewaySetting::At(gateway_address(address).map_err(bad)?),
                )
            }
        };
        Ok(NetworkSetting {
            cluster: ClusterId::new(cluster).map_err(|e| bad(e.to_string()))?,
            network: NetworkId::new(network).map_err(|e| bad(e.to_string()))?,
            gateway,
        })
    }
}

/// Assigns networks: all of the settings, or none when one of them cannot be.
pub fn set_networks(
    fleet: &Fleet,
    mesh: &MeshName,
    settings: &[NetworkSetting],
    job: &mut Job,
) -> Result<(), OperateError> {
    job.begin(&format!("set the networks of {mesh}"));
    let set = plan(fleet, mesh, settings).and_then(|plan| {
        write_all(&plan)?;
        Ok(plan)
    });
    if let Ok(plan) = &set {
        for member in &plan.after {
            let network = member.network.as_ref().map_or("-", NetworkId::as_str);
            let gateway = match (member.gateway, member.gateway_addresses.first()) {
                (true, _) => ", with a gateway".to_owned(),
                (false, Some(address)) => format!(", gateway {address}"),
                (false, None) => String::new(),
            };
            job.remark(format!("{} in {network}{gateway}", member.cluster));
        }
        for warning in &plan.warnings {
            job.remark(format!("! {warning}"));
        }
    }
    job.end(set).map(drop)
}

struct Plan {
    home: catamaran_local::fleet::ClusterDir,
    before: Vec<Member>,
    after: Vec<Member>,
    warnings: Vec<String>,
}

fn plan(fleet: &Fleet, mesh: &MeshName, settings: &[NetworkSetting]) -> Result<Plan, OperateError> {
    let instance = fleet.instance(mesh)?;
    let mut seen = BTreeSet::new();
    let (mut before, mut after) = (Vec::new(), Vec::new());
    for setting in settings {
        let cluster = &setting.cluster;
        if !seen.insert(cluster) {
            return Err(OperateError::NamedTwice(cluster.clone()));
        }
        let member = (instance.member(cluster))
            .ok_or_else(|| not_a_member(fleet, &instance, cluster))?
            .clone();
        if setting.gateway == GatewaySetting::Deploy && member.mode == MemberMode::DiscoveryOnly {
            return Err(OperateError::GatewayElsewhere {
                mesh: mesh.clone(),
                cluster: cluster.clone(),
                network: setting.network.clone(),
            });
        }
        let mut new = member.clone();
        new.network = Some(setting.network.clone());
        new.gateway = setting.gateway == GatewaySetting::Deploy;
        new.gateway_addresses = match setting.gateway {
            GatewaySetting::At(address) => vec![address],
            _ => Vec::new(),
        };
        before.push(member);
        after.push(new);
    }
    let mut all: BTreeMap<&ClusterId, &Member> = instance
        .members
        .iter()
        .map(|member| (&member.cluster, member))
        .collect();
    all.extend(after.iter().map(|member| (&member.cluster, member)));
    let warnings = torn_networks(fleet, &all);
    Ok(Plan {
        home: instance.home,
        before,
        after,
        warnings,
    })
}

/// One logical network over several physical ones: its pods would be called directly, in vain.
pub(crate) fn torn_networks(fleet: &Fleet, members: &BTreeMap<&ClusterId, &Member>) -> Vec<String> {
    let mut physical: BTreeMap<&NetworkId, BTreeMap<NetworkId, &ClusterId>> = BTreeMap::new();
    for (cluster, member) in members {
        if let (Some(network), Ok(facts)) = (&member.network, fleet.dir.cluster(cluster).read()) {
            physical
                .entry(network)
                .or_default()
                .entry(facts.network)
                .or_insert(cluster);
        }
    }
    let several = physical.into_iter().filter(|(_, under)| under.len() > 1);
    several
        .map(|(network, under)| {
            let clusters: Vec<&str> = under.values().map(|cluster| cluster.as_str()).collect();
            format!(
                "{network} holds {}, whose pods cannot reach each other: they stand in different physical networks",
                clusters.join(" and ")
            )
        })
        .collect()
}

fn write_all(plan: &Plan) -> Result<(), OperateError> {
    for (n, member) in plan.after.iter().enumerate() {
        if let Err(error) = write::put_member(&plan.home, member) {
            for done in &plan.before[..n] {
                // When even this fails the first error says why.
                let _ = write::put_member(&plan.home, done);
            }
            return Err(error.into());
        }
    }
    Ok(())
}
