//! `cluster add` and `cluster remove` for clusters with an API server: the reader there, the credential here.

use std::path::PathBuf;
use std::time::Duration;

use catamaran_kubernetes::connect::Access;
use catamaran_kubernetes::enrol::{self, Home};
use catamaran_kubernetes::failure::Failure;
use catamaran_kubernetes::kubeconfig::{Allowed, Kubeconfig, Server, User};
use catamaran_kubernetes::rights::{self, Rights, Role};
use catamaran_kubernetes::token::{self, Granted};
use catamaran_kubernetes::write::rfc3339;
use catamaran_kubernetes::{manifest, reader};
use catamaran_model::{ClusterId, Credential, Member, MemberMode, MeshName, NetworkId, Timestamp};
use catamaran_registry::Severity;
use serde_json::Value;

use crate::contact::{Contact, ContactError, Reached};
use crate::{Job, OperateError};

/// Rights that were just granted count a moment later.
const GRANTED_WITHIN: Duration = Duration::from_secs(10);

/// How the instance gets a credential.
#[derive(Debug, Clone)]
pub enum Means {
    /// A reader is made there, with the rights of the person who asks.
    Reader {
        /// The way there.
        remote: Contact,
        /// Where the control plane reaches the API server, when not where the person does: `https://HOST:PORT`.
        server: Option<String>,
    },
    /// A kubeconfig is brought along, whose current context counts.
    Brought(PathBuf),
}

/// What `cluster add` is told.
#[derive(Debug, Clone)]
pub struct EnrolCluster {
    /// The instance.
    pub mesh: MeshName,
    /// The cluster's name.
    pub cluster: ClusterId,
    /// The way to the instance's own cluster.
    pub home: Contact,
    /// How it gets a credential.
    pub means: Means,
    /// The network of the cluster; when not said, the one it has.
    pub network: Option<NetworkId>,
    /// What the credential may be beyond the ordinary. The control plane must allow the same.
    pub allowed: Allowed,
}

/// An object, and where it belongs.
#[derive(Debug, Clone, PartialEq)]
pub struct Placed {
    /// Where, for people.
    pub place: String,
    /// The object.
    pub object: Value,
}

impl Placed {
    /// Objects as one YAML text, each with its place as a comment.
    pub fn yaml(all: &[Placed]) -> String {
        let documents = all.iter().map(|placed| {
            format!(
                "# in {}\n{}",
                placed.place,
                manifest::yaml([&placed.object])
            )
        });
        documents.collect::<Vec<_>>().join("---\n")
    }
}

/// What would be written, without the Secret, whose token is made when it is written. Nobody is asked.
pub fn enrolment(enrol: &EnrolCluster) -> Vec<Placed> {
    let mut all = Vec::new();
    if let Means::Reader { remote, .. } = &enrol.means {
        let place = format!("{} ({})", enrol.cluster, remote.name());
        all.extend(
            reader::manifests(&enrol.mesh)
                .into_iter()
                .map(|object| Placed {
                    place: place.clone(),
                    object,
                }),
        );
    }
    let mut member = enrol::discovered(&enrol.cluster);
    member.network = enrol.network.clone();
    let place = format!("the cluster of {} ({})", enrol.mesh, enrol.home.name());
    let keeping = enrol::keeping(&enrol.mesh, &enrol.cluster);
    let here = std::iter::once(enrol::object(&member)).chain(keeping);
    all.extend(here.map(|object| Placed {
        place: place.clone(),
        object,
    }));
    all
}

/// Makes a cluster known to an instance, to be discovered only; done again, it renews the credential.
///
/// Refused: the instance's own cluster, a cluster that is known under another name, another cluster than before under the same
/// name, and credentials that could do harm.
///
/// # Errors
/// Why it is not known. What was done before that is done again by the same command.
pub async fn enrol_cluster(enrol: &EnrolCluster, job: &mut Job) -> Result<(), OperateError> {
    let (mesh, cluster) = (&enrol.mesh, &enrol.cluster);
    job.begin(&format!("look at {mesh}"));
    let seen = look(enrol).await;
    let (own, home) = job.end(seen)?;

    job.begin(&format!("see which cluster {cluster} is"));
    let told = match &enrol.means {
        Means::Reader { remote, server } => which(enrol, remote, server.as_deref()).await,
        Means::Brought(path) => brought(enrol, path),
    };
    let told = match told {
        Ok(found) => check_uid(enrol, &home, found, job).await,
        Err(error) => Err(error),
    };
    let mut found = job.end(told)?;

    if let Some(admin) = &found.admin {
        job.begin(&format!("make the reader of {mesh} in {cluster}"));
        let granted = grant(admin, mesh, job).await;
        let granted = job.end(granted)?;
        found.config.user = User::Token(granted.token);
    }

    job.begin("try the credential");
    let tried = attempt(enrol, Role::Reader, &found, job).await;
    job.end(tried)?;

    job.begin(&format!("tell {mesh} of {cluster}"));
    let written = write(enrol, Role::Reader, &own, &home, &found, job).await;
    job.end(written)
}

async fn look(enrol: &EnrolCluster) -> Result<(Reached, Home), OperateError> {
    let own = enrol.home.reach()?;
    let (home, _) = own.home(&enrol.mesh).await?;
    if let Some(member) = home.member(&enrol.cluster)
        && member.mode == MemberMode::Managed
    {
        return Err(OperateError::BothModes {
            cluster: enrol.cluster.clone(),
            mesh: enrol.mesh.clone(),
            mode: member.mode,
        });
    }
    Ok((own, home))
}

/// A cluster, and the credential for it.
pub(crate) struct Found {
    uid: String,
    /// The credential that is written; a reader's token is put into it when there is one.
    pub(crate) config: Kubeconfig,
    /// The way of the person who makes the account.
    pub(crate) admin: Option<Reached>,
    /// Whether the control plane reaches it by another address than we do.
    elsewhere: bool,
}

pub(crate) async fn which(
    enrol: &EnrolCluster,
    remote: &Contact,
    server: Option<&str>,
) -> Result<Found, OperateError> {
    let admin = remote.reach()?;
    let refused = |source| ContactError::Refused {
        of: format!("the way to {}", enrol.cluster),
        source,
    };
    let url = |server: &Server| format!("https://{server}{}", server.path);
    let address = match server {
        Some(url) => Server::read(url, enrol.allowed).map_err(refused)?,
        // What a person may do on the own machine the control plane may not.
        None => {
            let mut same =
                Server::read(&url(&admin.config.server), enrol.allowed).map_err(refused)?;
            same.tls_name = admin.config.server.tls_name.clone();
            same
        }
    };
    let uid = enrol::uid(&admin.access).await;
    let uid = uid.map_err(ContactError::failed(&admin.who, "namespaces"))?;
    Ok(Found {
        uid,
        config: Kubeconfig {
            server: address,
            proxy: admin.config.proxy.clone().filter(|_| enrol.allowed.proxy),
            ..admin.config.clone()
        },
        admin: Some(admin),
        elsewhere: server.is_some(),
    })
}

fn brought(enrol: &EnrolCluster, path: &PathBuf) -> Result<Found, OperateError> {
    let text = std::fs::read_to_string(path).map_err(|source| ContactError::File {
        path: path.clone(),
        source,
    })?;
    let config =
        Kubeconfig::read(&text, enrol.allowed).map_err(|source| ContactError::Refused {
            of: path.display().to_string(),
            source,
        })?;
    Ok(Found {
        uid: String::new(),
        config,
        admin: None,
        elsewhere: false,
    })
}

/// Holds the cluster against those that are known.
pub(crate) async fn check_uid(
    enrol: &EnrolCluster,
    home: &Home,
    mut found: Found,
    job: &mut Job,
) -> Result<Found, OperateError> {
    let (mesh, cluster) = (enrol.mesh.clone(), enrol.cluster.clone());
    if found.admin.is_none() {
        let access = access(enrol, &found.config)?;
        let uid = enrol::uid(&access).await;
        found.uid = uid.map_err(ContactError::failed(cluster.as_str(), "namespaces"))?;
    }
    if found.uid == home.uid {
        let own = (home.members.iter()).find(|member| {
            member.mode == MemberMode::Managed && matches!(member.credential, Credential::Folder(_))
        });
        let known = own.map_or_else(|| cluster.clone(), |own| own.cluster.clone());
        return Err(ContactError::OwnCluster {
            cluster,
            known,
            mesh,
        }
        .into());
    }
    let of = (found.admin.as_ref()).map_or_else(|| cluster.to_string(), |admin| admin.who.clone());
    if home
        .uid_of(&cluster)
        .is_some_and(|known| known != found.uid)
    {
        return Err(ContactError::OtherCluster { of, cluster, mesh }.into());
    }
    let (known, silent) = home.known_as(&found.uid, &cluster, enrol.allowed).await;
    if let Some(known) = known {
        return Err(ContactError::SameCluster {
            cluster,
            known,
            mesh,
        }
        .into());
    }
    for other in silent {
        job.remark(format!(
            "! {other} does not say which cluster it is; should it be this one, its status will say so"
        ));
    }
    Ok(found)
}

fn access(enrol: &EnrolCluster, config: &Kubeconfig) -> Result<Access, OperateError> {
    let access = Access::new(config, enrol.allowed);
    let bad = |source| ContactError::Credential {
        of: enrol.cluster.to_string(),
        source,
    };
    Ok(access.map_err(bad)?)
}

async fn grant(admin: &Reached, mesh: &MeshName, job: &mut Job) -> Result<Granted, OperateError> {
    let made = reader::install(&admin.access, mesh, |object| job.note(object)).await;
    made.map_err(ContactError::failed(&admin.who, "the reader's objects"))?;
    let granted = reader::first_token(&admin.access, mesh).await;
    let granted = granted.map_err(ContactError::failed(&admin.who, "a token"))?;
    tell_life(&granted, job);
    Ok(granted)
}

pub(crate) fn tell_life(granted: &Granted, job: &mut Job) {
    job.note(life(granted.life(), granted.until));
    if granted.life() < token::LIFE {
        job.remark(format!(
            "! {} were asked for, and that API server grants less",
            hours(token::LIFE)
        ));
    }
}

pub(crate) fn life(life: Duration, until: Timestamp) -> String {
    format!(
        "a token for {}, until {}; the control plane renews it at half of that",
        hours(life),
        rfc3339(until)
    )
}

/// `24 h`, or minutes when hours would hide some.
fn hours(life: Duration) -> String {
    match life.as_secs().div_ceil(60) {
        minutes if minutes % 60 == 0 => format!("{} h", minutes / 60),
        minutes => format!("{minutes} min"),
    }
}

/// Uses the credential as the control plane will.
pub(crate) async fn attempt(
    enrol: &EnrolCluster,
    role: Role,
    found: &Found,
    job: &mut Job,
) -> Result<(), OperateError> {
    let cluster = &enrol.cluster;
    let access = access(enrol, &found.config)?;
    let uid = match enrol::uid(&access).await {
        Err(failure @ (Failure::Unreachable { .. } | Failure::Slow { .. })) if found.elsewhere => {
            job.remark(format!(
                "! not tried from here: {}",
                failure.about("namespaces")
            ));
            return Ok(());
        }
        // The rights that were granted just now come to count.
        Err(Failure::Forbidden { .. }) if found.admin.is_some() => None,
        uid => Some(uid.map_err(ContactError::failed(cluster.as_str(), "namespaces"))?),
    };
    let rights = settled(&access, role, found.admin.is_some()).await;
    let rights = rights.map_err(ContactError::failed(
        cluster.as_str(),
        "a review of its rights",
    ))?;
    match rights.problem(cluster) {
        Some(problem) if problem.severity == Severity::Error => {
            return Err(ContactError::Rights(problem.message).into());
        }
        Some(problem) => job.remark(format!("! {}", problem.message)),
        None => job.note(match role {
            Role::Reader => "it may read what discovery needs, and nothing else",
            Role::Manager => "it may do what managing needs, and nothing else",
        }),
    }
    let uid = match uid {
        Some(uid) => uid,
        None => {
            let uid = enrol::uid(&access).await;
            uid.map_err(ContactError::failed(cluster.as_str(), "namespaces"))?
        }
    };
    if uid != found.uid {
        let (mesh, cluster) = (enrol.mesh.clone(), cluster.clone());
        let of = access.server().to_string();
        return Err(ContactError::OtherCluster { of, cluster, mesh }.into());
    }
    if found.admin.is_none()
        && let User::Token(token) = &found.config.user
        && let Some((from, until)) = token::claims(token).and_then(|claims| claims.life)
    {
        job.remark(life(until.since(from), until));
    }
    Ok(())
}

/// The credential's rights; of a new one, once all that it needs is there, or time is up.
async fn settled(access: &Access, role: Role, new: bool) -> Result<Rights, Failure> {
    let end = tokio::time::Instant::now() + GRANTED_WITHIN;
    loop {
        let rights = rights::review_as(access, role).await?;
        if !new || rights.missing.is_empty() || tokio::time::Instant::now() >= end {
            return Ok(rights);
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// Writes the credential and the object of a cluster into the instance's own.
pub(crate) async fn write(
    enrol: &EnrolCluster,
    role: Role,
    own: &Reached,
    home: &Home,
    found: &Found,
    job: &mut Job,
) -> Result<(), OperateError> {
    let cluster = &enrol.cluster;
    let before = home.member(cluster);
    let member = Member {
        network: enrol
            .network
            .clone()
            .or(before.and_then(|m| m.network.clone())),
        gateway_addresses: before.map_or_else(Vec::new, |m| m.gateway_addresses.clone()),
        gateway: before.is_some_and(|m| m.gateway),
        ..match role {
            Role::Reader => enrol::discovered(cluster),
            Role::Manager => enrol::managed(cluster),
        }
    };
    // First the credential: what names it must find it.
    let secret = enrol::secret(&enrol.mesh, cluster, &found.config, &found.uid);
    for object in [secret, enrol::object(&member)] {
        let put = enrol::put(&own.access, &object).await;
        put.map_err(ContactError::failed(&own.who, "the instance's objects"))?;
        job.note(manifest::title(&object));
    }
    keep_renewed(enrol, own, job).await?;
    job.remark(match (before, role) {
        (None, Role::Reader) => format!("{} sees {cluster} (read only)", enrol.mesh),
        (None, Role::Manager) => format!("{} is told to manage {cluster}", enrol.mesh),
        (Some(_), _) => format!("the credential for {cluster} is renewed"),
    });
    let asked = [
        (enrol.allowed.loopback, "loopback"),
        (enrol.allowed.link_local, "link-local"),
        (enrol.allowed.proxy, "proxy"),
    ];
    for (_, what) in asked.iter().filter(|(allowed, _)| *allowed) {
        job.remark(format!(
            "! the control plane uses this credential only when it allows {what} too"
        ));
    }
    Ok(())
}

/// Lets the control plane keep what it renews, so that one that starts later has it.
async fn keep_renewed(
    enrol: &EnrolCluster,
    own: &Reached,
    job: &mut Job,
) -> Result<(), OperateError> {
    for object in enrol::keeping(&enrol.mesh, &enrol.cluster) {
        match enrol::put(&own.access, &object).await {
            Ok(()) => job.note(manifest::title(&object)),
            // Who may write Secrets and no rights of others goes without.
            Err(failure @ Failure::Forbidden { .. }) => {
                job.remark(format!(
                    "! the control plane may not keep renewed tokens, as you may not grant it that ({}): one that starts after \
                     this one has ended needs the same command again",
                    failure.about("roles")
                ));
                return Ok(());
            }
            Err(failure) => {
                return Err(ContactError::failed(&own.who, "the instance's objects")(
                    failure,
                ));
            }
        }
    }
    Ok(())
}

/// What `cluster remove` is told.
#[derive(Debug, Clone)]
pub struct ForgetCluster {
    /// The instance.
    pub mesh: MeshName,
    /// The cluster.
    pub cluster: ClusterId,
    /// The way to the instance's own cluster.
    pub home: Contact,
    /// The way to the cluster, to take away there what was made.
    pub remote: Option<Contact>,
    /// The cluster does not exist any more.
    pub gone: bool,
}

/// Undoes [`enrol_cluster`] on both sides; only on the instance's when the other cluster is not named.
///
/// # Errors
/// Why it is not undone. The same command goes on where this one stopped.
pub async fn forget_cluster(forget: &ForgetCluster, job: &mut Job) -> Result<(), OperateError> {
    let (mesh, cluster) = (&forget.mesh, &forget.cluster);
    job.begin(&format!("look at {mesh}"));
    let seen = look_to_forget(forget).await;
    let (own, home) = job.end(seen)?;
    if home.member(cluster).is_some_and(enrol::from_afar) {
        return crate::cluster_manage::unmanage(forget, &own, &home, job).await;
    }

    if let Some(remote) = &forget.remote {
        job.begin(&format!("take the reader of {mesh} out of {cluster}"));
        let taken = take_reader(forget, &home, remote, job).await;
        job.end(taken)?;
    }

    job.begin(&format!("let {mesh} forget {cluster}"));
    let ours = home.wrote_secret(cluster);
    let gone = enrol::forget(&own.access, mesh, cluster, ours).await;
    let gone = gone.map_err(ContactError::failed(&own.who, "the instance's objects"));
    if let Ok(gone) = &gone {
        for one in gone {
            job.note(one);
        }
        if !ours {
            job.remark("its Secret was brought by somebody else, and stays");
        }
        if forget.remote.is_none() {
            job.remark(format!(
                "! the reader is still in {cluster}; to revoke it there: kubectl delete serviceaccount -n catamaran-system {}",
                reader::account(mesh)
            ));
        }
    }
    job.end(gone).map(drop)
}

async fn look_to_forget(forget: &ForgetCluster) -> Result<(Reached, Home), OperateError> {
    let own = forget.home.reach()?;
    let (home, _) = own.home(&forget.mesh).await?;
    let (mesh, cluster) = (forget.mesh.clone(), forget.cluster.clone());
    match home.member(&cluster) {
        None => {
            let known = home.members.iter().map(|m| m.cluster.to_string()).collect();
            Err(OperateError::NotAMember {
                cluster,
                mesh,
                known,
            })
        }
        Some(member) if member.mode == MemberMode::Managed && !enrol::from_afar(member) => {
            Err(OperateError::OwnCluster { mesh, cluster })
        }
        Some(_) => Ok((own, home)),
    }
}

async fn take_reader(
    forget: &ForgetCluster,
    home: &Home,
    remote: &Contact,
    job: &mut Job,
) -> Result<(), OperateError> {
    let mesh = forget.mesh.clone();
    let there = reach_known(remote, home, &mesh, &forget.cluster).await?;
    let taken = reader::remove(&there.access, &mesh, |object| job.note(object)).await;
    taken.map_err(ContactError::failed(&there.who, "the reader's objects"))
}

/// The way to a cluster that is known by this name, and to no other.
pub(crate) async fn reach_known(
    remote: &Contact,
    home: &Home,
    mesh: &MeshName,
    cluster: &ClusterId,
) -> Result<Reached, OperateError> {
    let there = remote.reach()?;
    let uid = enrol::uid(&there.access).await;
    let uid = uid.map_err(ContactError::failed(&there.who, "namespaces"))?;
    if home.uid_of(cluster).is_some_and(|known| known != uid) {
        let (of, mesh, cluster) = (there.who, mesh.clone(), cluster.clone());
        return Err(ContactError::OtherCluster { of, cluster, mesh }.into());
    }
    Ok(there)
}

#[cfg(test)]
mod tests;
