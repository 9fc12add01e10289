//! `cluster add` and `cluster remove` for clusters that an instance manages from another one.
//!
//! What stands there is made with the rights of the person who asks; what the control plane writes there later is in
//! [`catamaran_kubernetes::manager`].

use std::net::SocketAddr;
use std::time::Duration;

use catamaran_kubernetes::enrol::{self, Home};
use catamaran_kubernetes::kubeconfig::User;
use catamaran_kubernetes::manager::{self, Door, exposure};
use catamaran_kubernetes::rights::Role;
use catamaran_kubernetes::token::Granted;
use catamaran_kubernetes::{gateway, install, manifest};
use catamaran_model::{Credential, MemberMode, MeshName};

use crate::cluster_enrol::{self, EnrolCluster, ForgetCluster, Found, Means, Placed};
use crate::contact::{ContactError, Reached};
use crate::{Job, OperateError};

/// How long an address is waited for when nobody says how long.
const PATIENCE: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(500);

/// What `cluster add` is told of a cluster to manage.
#[derive(Debug, Clone)]
pub struct ManageCluster {
    /// Which, by which instance, and the ways there. The account is made, never brought along.
    pub enrol: EnrolCluster,
    /// Where the control plane is reached from there; found out when not said.
    pub control_plane: Option<SocketAddr>,
    /// At the same address, where its webhook is reached.
    pub webhook_port: u16,
    /// How long to wait until it is managed.
    pub patience: Option<Duration>,
}

/// What would be written, without the Secret, whose token is made when it is written. Nobody is asked, so where the control plane is
/// reached is among it only when it is said.
pub fn management(manage: &ManageCluster) -> Vec<Placed> {
    let enrol = &manage.enrol;
    let home = format!("the cluster of {} ({})", enrol.mesh, enrol.home.name());
    let there = match &enrol.means {
        Means::Reader { remote, .. } => format!("{} ({})", enrol.cluster, remote.name()),
        Means::Brought(_) => enrol.cluster.to_string(),
    };
    let door = said(manage);
    let mut all = Vec::new();
    if manage.control_plane.is_none() {
        all.push((&home, exposure::manifest(&enrol.mesh)));
    }
    let made = manager::manifests(&enrol.mesh, door.as_ref());
    all.extend(made.into_iter().map(|object| (&there, object)));
    let mut member = enrol::managed(&enrol.cluster);
    member.network = enrol.network.clone();
    all.push((&home, enrol::object(&member)));
    let placed = all.into_iter().map(|(place, object)| Placed {
        place: place.clone(),
        object,
    });
    placed.collect()
}

fn said(manage: &ManageCluster) -> Option<Door> {
    let address = manage.control_plane?;
    Door::new(&[address.ip()], address.port(), manage.webhook_port)
}

/// Makes an instance manage a cluster beside its own; done again, it renews the credential and where the control plane is reached.
///
/// Refused: what [`crate::enrol_cluster`] refuses, and a cluster that another instance manages.
///
/// # Errors
/// Why it is not managed. What was done before that is done again by the same command.
pub async fn manage_cluster(manage: &ManageCluster, job: &mut Job) -> Result<(), OperateError> {
    let enrol = &manage.enrol;
    let (mesh, cluster) = (&enrol.mesh, &enrol.cluster);
    job.begin(&format!("look at {mesh}"));
    let seen = look(enrol).await;
    let (own, home) = job.end(seen)?;

    job.begin(&format!("see which cluster {cluster} is"));
    let told = which(enrol, &home, job).await;
    let (mut found, admin) = job.end(told)?;

    job.begin(&format!("find where {mesh} is reached from {cluster}"));
    let door = door(manage, &own, job).await;
    let door = job.end(door)?;

    job.begin(&format!("make the manager of {mesh} in {cluster}"));
    let granted = grant(&admin, mesh, &door, job).await;
    let granted = job.end(granted)?;
    found.config.user = User::Token(granted.token);
    found.admin = Some(admin);

    job.begin("try the credential");
    let tried = cluster_enrol::attempt(enrol, Role::Manager, &found, job).await;
    job.end(tried)?;

    job.begin(&format!("tell {mesh} of {cluster}"));
    let written = cluster_enrol::write(enrol, Role::Manager, &own, &home, &found, job).await;
    job.end(written)?;

    if let (Some(patience), Some(admin)) = (manage.patience, &found.admin) {
        job.begin(&format!("{mesh} manages {cluster}"));
        let managed = managed(enrol, admin, patience).await;
        job.end(managed)?;
    }
    Ok(())
}

async fn look(enrol: &EnrolCluster) -> Result<(Reached, Home), OperateError> {
    let own = enrol.home.reach()?;
    let (home, _) = own.home(&enrol.mesh).await?;
    let (mesh, cluster) = (enrol.mesh.clone(), enrol.cluster.clone());
    match home.member(&cluster) {
        Some(member) if member.mode == MemberMode::DiscoveryOnly => Err(OperateError::BothModes {
            cluster,
            mesh,
            mode: member.mode,
        }),
        Some(member) if matches!(member.credential, Credential::Folder(_)) => {
            let known = cluster.clone();
            Err(ContactError::OwnCluster {
                cluster,
                known,
                mesh,
            }
            .into())
        }
        _ => Ok((own, home)),
    }
}

/// The cluster, which nobody else may manage, and the way of the person who asks.
async fn which(
    enrol: &EnrolCluster,
    home: &Home,
    job: &mut Job,
) -> Result<(Found, Reached), OperateError> {
    let Means::Reader { remote, server } = &enrol.means else {
        return Err(ContactError::NoWayThere {
            mesh: enrol.mesh.clone(),
            cluster: enrol.cluster.clone(),
            gone: false,
        }
        .into());
    };
    let found = cluster_enrol::which(enrol, remote, server.as_deref()).await?;
    let found = cluster_enrol::check_uid(enrol, home, found, job).await?;
    let admin = remote.reach()?;
    let other = manager::managed_by(&admin.access, &enrol.mesh).await;
    let other = other.map_err(ContactError::failed(
        &admin.who,
        "the kinds of catamaran.dev",
    ))?;
    if let Some(other) = other {
        return Err(OperateError::ManagedBy {
            cluster: enrol.cluster.clone(),
            by: MeshName::new(other)?,
            wanted: enrol.mesh.clone(),
        });
    }
    Ok((found, admin))
}

async fn door(manage: &ManageCluster, own: &Reached, job: &mut Job) -> Result<Door, OperateError> {
    let enrol = &manage.enrol;
    let no_door = |reason: String| ContactError::NoDoor {
        mesh: enrol.mesh.clone(),
        cluster: enrol.cluster.clone(),
        reason,
    };
    if let Some(address) = manage.control_plane {
        let lost = || no_door(format!("{address} leads nowhere from another machine"));
        return Ok(said(manage).ok_or_else(lost)?);
    }
    let failed = |what| ContactError::failed(&own.who, what);
    let service = exposure::name(&enrol.mesh);
    let installed = exposure::install(&own.access, &enrol.mesh).await;
    installed.map_err(failed("the control plane's Service"))?;
    job.note(format!("Service {service}"));
    let start = tokio::time::Instant::now();
    let patience = manage.patience.unwrap_or(PATIENCE);
    loop {
        let given = exposure::given(&own.access, &enrol.mesh).await;
        let (addresses, names) = given.map_err(failed("the control plane's Service"))?;
        let (discovery, webhook) = (install::DISCOVERY_PORT, install::WEBHOOK_PORT);
        if let Some(door) = Door::new(&addresses, discovery, webhook) {
            job.note(format!(
                "{}, and {} for the webhook",
                door.discovery(),
                door.webhook()
            ));
            return Ok(door);
        }
        if !names.is_empty() {
            let names = names.join(", ");
            let reason = format!(
                "its Service {service} has the host name {names} and no address, and endpoints are addresses"
            );
            return Err(no_door(reason).into());
        }
        if start.elapsed() >= patience {
            let reason = format!(
                "nobody has given its Service {service}, of type LoadBalancer, an address in {} s",
                patience.as_secs()
            );
            return Err(no_door(reason).into());
        }
        tokio::time::sleep(LOOK).await;
    }
}

async fn grant(
    admin: &Reached,
    mesh: &MeshName,
    door: &Door,
    job: &mut Job,
) -> Result<Granted, OperateError> {
    let made = manager::install(&admin.access, mesh, door, |object| job.note(object)).await;
    made.map_err(ContactError::failed(&admin.who, "the manager's objects"))?;
    let granted = manager::first_token(&admin.access, mesh).await;
    let granted = granted.map_err(ContactError::failed(&admin.who, "a token"))?;
    cluster_enrol::tell_life(&granted, job);
    Ok(granted)
}

/// Waits until what sidecars need stands there: then they come with the next pods.
async fn managed(
    enrol: &EnrolCluster,
    admin: &Reached,
    patience: Duration,
) -> Result<(), OperateError> {
    let start = tokio::time::Instant::now();
    loop {
        let unmet = match manager::lacks(&admin.access, &enrol.mesh).await {
            Ok(None) => return Ok(()),
            Ok(Some(lacking)) => format!("it has not written {lacking} there"),
            Err(failure) => failure.about("what it writes there"),
        };
        if start.elapsed() >= patience {
            return Err(OperateError::Timeout {
                what: format!("{} manages {}", enrol.mesh, enrol.cluster),
                waited: patience,
                unmet,
                held: start.elapsed(),
                look: format!(
                    "see `kubectl get cluster {} -n catamaran-system -o yaml` in the cluster of {}, and the log of its control plane; the same \
                     command goes on",
                    enrol.cluster, enrol.mesh
                ),
            });
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Undoes [`manage_cluster`]: the webhook first, so that new pods wait for nobody at any moment between.
pub(crate) async fn unmanage(
    forget: &ForgetCluster,
    own: &Reached,
    home: &Home,
    job: &mut Job,
) -> Result<(), OperateError> {
    let (mesh, cluster) = (&forget.mesh, &forget.cluster);
    let there = match &forget.remote {
        Some(remote) => {
            job.begin(&format!("take the webhook out of {cluster}"));
            let taken = take_webhook(forget, home, remote, job).await;
            Some(job.end(taken)?)
        }
        None if forget.gone => None,
        None => {
            return Err(ContactError::NoWayThere {
                mesh: mesh.clone(),
                cluster: cluster.clone(),
                gone: true,
            }
            .into());
        }
    };

    job.begin(&format!("let {mesh} forget {cluster}"));
    let ours = home.wrote_secret(cluster);
    let gone = enrol::forget(&own.access, mesh, cluster, ours).await;
    let gone = gone.map_err(ContactError::failed(&own.who, "the instance's objects"));
    gone.iter().flatten().for_each(|one| job.note(one));
    job.end(gone)?;

    if let Some(there) = &there {
        job.begin(&format!("take the manager of {mesh} out of {cluster}"));
        let had_gateway = home.member(cluster).is_some_and(|member| member.gateway);
        let taken = take_rest(there, mesh, had_gateway, job).await;
        job.end(taken)?;
        job.remark(format!(
            "sidecars in {cluster} go on with what they have until their pods are replaced"
        ));
    } else {
        job.remark(format!(
            "! should it exist after all, {}",
            manager::by_hand(mesh, cluster)
        ));
    }

    let mut others = home.members.iter();
    if !others.any(|member| member.cluster != *cluster && enrol::from_afar(member)) {
        job.begin(&format!("let nobody reach {mesh} from outside"));
        let removed = exposure::remove(&own.access, mesh).await;
        let removed = removed.map_err(ContactError::failed(
            &own.who,
            "the control plane's Service",
        ));
        if removed.as_ref().is_ok_and(|there| *there) {
            job.note(manifest::title(&exposure::manifest(mesh)));
        }
        job.end(removed)?;
    }
    Ok(())
}

async fn take_webhook(
    forget: &ForgetCluster,
    home: &Home,
    remote: &crate::Contact,
    job: &mut Job,
) -> Result<Reached, OperateError> {
    let (mesh, cluster) = (&forget.mesh, &forget.cluster);
    let there = cluster_enrol::reach_known(remote, home, mesh, cluster).await?;
    let taken = manager::remove_webhook(&there.access, mesh).await;
    let failed = ContactError::failed(&there.who, "the webhook's configuration");
    if taken.map_err(failed)? {
        job.note("new pods get no sidecar");
    }
    Ok(there)
}

async fn take_rest(
    there: &Reached,
    mesh: &MeshName,
    had_gateway: bool,
    job: &mut Job,
) -> Result<(), OperateError> {
    let failed = |what| ContactError::failed(&there.who, what);
    let taken = manager::remove(&there.access, mesh, |object| job.note(object)).await;
    taken.map_err(failed("the manager's objects"))?;
    if had_gateway {
        let removed = gateway::remove(&there.access, |object| job.note(object)).await;
        removed.map_err(failed("the gateway's objects"))?;
    }
    let label = gateway::label(&there.access, None).await;
    label.map_err(failed("the namespace catamaran-system"))
}

#[cfg(test)]
mod tests;
