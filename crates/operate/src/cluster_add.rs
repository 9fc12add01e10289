//! `cluster add` and `cluster remove`: which clusters an instance knows, and what it may do there.

use catamaran_local::object::{Kind, ObjectKey, system_namespace};
use catamaran_local::write;
use catamaran_model::{ClusterId, Credential, Member, MemberMode, MeshName, NetworkId};

use crate::fleet::Instance;
use crate::{Fleet, Job, OperateError};

/// What `cluster add` is told.
#[derive(Debug, Clone)]
pub struct AddCluster {
    /// The instance.
    pub mesh: MeshName,
    /// The cluster.
    pub cluster: ClusterId,
    /// What the instance may do there.
    pub mode: MemberMode,
}

/// Adds a cluster to an instance.
///
/// Refused: a cluster that is in the instance already, in either mode; one that another instance manages, when it shall be
/// managed; and, by name, one whose instance has another root. A local cluster is managed by the instance that runs in it.
pub fn add_cluster(fleet: &Fleet, add: &AddCluster, job: &mut Job) -> Result<(), OperateError> {
    job.begin(&format!("add {} to {}", add.cluster, add.mesh));
    let added = check(fleet, add).and_then(|(instance, member)| {
        write::put_member(&instance.home, &member)?;
        Ok(())
    });
    if added.is_ok() && add.mode == MemberMode::DiscoveryOnly {
        job.remark(format!("{} sees {} (read only)", add.mesh, add.cluster));
    }
    job.end(added)
}

fn check(fleet: &Fleet, add: &AddCluster) -> Result<(Instance, Member), OperateError> {
    let instance = fleet.instance(&add.mesh)?;
    let (mesh, cluster) = (add.mesh.clone(), add.cluster.clone());
    if let Some(member) = instance.member(&cluster) {
        let mode = member.mode;
        return Err(match mode == add.mode {
            true => OperateError::AddedTwice {
                cluster,
                mesh,
                mode,
            },
            false => OperateError::BothModes {
                cluster,
                mesh,
                mode,
            },
        });
    }
    let dir = fleet.cluster(&cluster)?;
    let there = fleet.instance_in(&dir)?;
    let at_home = *instance.home.name() == cluster;
    if add.mode == MemberMode::Managed && !at_home {
        return Err(match there {
            Some(there) => OperateError::ManagedBy {
                cluster,
                by: there.spec.name,
                wanted: mesh,
            },
            None => OperateError::ManagedFromWithin {
                mesh,
                home: instance.home.name().clone(),
                cluster,
            },
        });
    }
    if add.mode == MemberMode::DiscoveryOnly && at_home {
        let mode = MemberMode::Managed;
        return Err(OperateError::BothModes {
            cluster,
            mesh,
            mode,
        });
    }
    if let Some(there) = there.filter(|_| !at_home) {
        let (ours, theirs) = (fleet.roots(&instance.home)?, fleet.roots(&dir)?);
        if let (Some(our), Some(their)) = (ours.first(), theirs.first())
            && !theirs.iter().any(|root| ours.contains(root))
        {
            return Err(OperateError::OtherRoot {
                mesh,
                ours: *our,
                other: there.spec.name,
                theirs: *their,
                cluster,
            });
        }
    }
    let member = member(cluster, add.mode);
    Ok((instance, member))
}

/// A local cluster without a network of its own.
pub(crate) fn member(cluster: ClusterId, mode: MemberMode) -> Member {
    Member {
        credential: Credential::Folder(format!("clusters/{cluster}")),
        cluster,
        mode,
        network: None::<NetworkId>,
        gateway: false,
        gateway_addresses: Vec::new(),
    }
}

/// Removes a cluster that an instance discovers: its endpoints leave the instance's proxies at once.
pub fn remove_cluster(
    fleet: &Fleet,
    mesh: &MeshName,
    cluster: &ClusterId,
    job: &mut Job,
) -> Result<(), OperateError> {
    job.begin(&format!("remove {cluster} from {mesh}"));
    let removed = check_removal(fleet, mesh, cluster).and_then(|instance| {
        let key = ObjectKey::new(Kind::Cluster, &system_namespace(), cluster.as_str());
        write::delete(&instance.home, &key)?;
        Ok(())
    });
    job.end(removed)
}

fn check_removal(
    fleet: &Fleet,
    mesh: &MeshName,
    cluster: &ClusterId,
) -> Result<Instance, OperateError> {
    let instance = fleet.instance(mesh)?;
    if instance.home.name() == cluster {
        return Err(OperateError::OwnCluster {
            mesh: mesh.clone(),
            cluster: cluster.clone(),
        });
    }
    match instance.member(cluster) {
        Some(_) => Ok(instance),
        None => Err(not_a_member(fleet, &instance, cluster)),
    }
}

/// A cluster that the instance does not have: unknown to the fleet, or only not added.
pub(crate) fn not_a_member(
    fleet: &Fleet,
    instance: &Instance,
    cluster: &ClusterId,
) -> OperateError {
    match fleet.cluster(cluster) {
        Err(unknown) => unknown,
        Ok(_) => OperateError::NotAMember {
            cluster: cluster.clone(),
            mesh: instance.spec.name.clone(),
            known: (instance.members.iter())
                .map(|m| m.cluster.to_string())
                .collect(),
        },
    }
}
