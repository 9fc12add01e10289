//! `trust show` and `trust renew` for contexts. The Secret with the authority is written and never read.

use std::path::PathBuf;
use std::time::Duration;

use catamaran_identity::{CertificateFacts, ceremony};
use catamaran_kubernetes::install;
use catamaran_kubernetes::sight;
use catamaran_model::{ClusterId, Fingerprint, MeshName};

use super::{Heard, Side, gather, silent, some_answer};
use crate::contact::{Contact, ContactError};
use crate::fleet::now;
use crate::kube_trust::{self, RootFrom};
use crate::told::Told;
use crate::trust::{CertificateRow, days, row};
use crate::{Job, OperateError, wait};

/// `trust show` for contexts: roots as sidecars have them, and what control planes say that they sign with.
///
/// # Errors
/// When a context cannot be used at all, no side answers, or there is no such instance.
pub async fn context_trust(
    contacts: &[Contact],
    mesh: Option<&MeshName>,
) -> Result<Heard<CertificateRow>, OperateError> {
    let mut sides = gather(contacts).await?;
    some_answer(&mut sides)?;
    let mut silent = silent(&sides);
    let mut rows = Vec::new();
    let known: Vec<(String, String)> = (sides.iter().flat_map(Side::told))
        .map(|told| (told.spec.name.to_string(), format!("in {}", told.home)))
        .collect();
    if let Some(name) = mesh
        && !known.iter().any(|(known, _)| known == name.as_str())
    {
        return Err(OperateError::UnknownMesh {
            name: name.clone(),
            purpose: "",
            known,
        });
    }
    for side in &sides {
        for told in side.told() {
            if mesh.is_none_or(|name| *name == told.spec.name) {
                let failed = certificates(side, told, &mut rows).await;
                silent.extend(failed.map(|why| format!("{}: {why}", side.who)));
            }
        }
    }
    rows.sort_by(|a, b| a.mesh.cmp(&b.mesh));
    Ok(Heard { rows, silent })
}

/// The certificates of an instance; what could not be seen of them.
async fn certificates(side: &Side, told: &Told, rows: &mut Vec<CertificateRow>) -> Option<String> {
    let (name, now) = (told.spec.name.as_str(), now());
    let mut missing = None;
    match sight::roots(&side.access).await {
        Err(failure) => missing = Some(failure.about("the ConfigMap of roots")),
        Ok(None) => missing = Some("the ConfigMap catamaran-ca-root-cert is not there".into()),
        Ok(Some(pem)) => match CertificateFacts::of_pem(&pem) {
            Ok(all) => rows.extend(all.iter().map(|facts| row("root", name, facts, now))),
            Err(error) => missing = Some(format!("its roots cannot be read: {error}")),
        },
    }
    let trust = told
        .status
        .as_ref()
        .ok()
        .and_then(|said| said.trust.as_ref());
    if let Some(trust) = trust
        && let Some(Ok(intermediate)) = &told.intermediate
    {
        rows.push(CertificateRow {
            role: "intermediate",
            mesh: name.into(),
            subject: trust.issuer.clone(),
            fingerprint: trust.intermediate.clone(),
            serial: trust.serial.clone(),
            not_after: intermediate.not_after.0,
            days: days(intermediate.not_after, now),
            algorithm: trust.algorithm.clone(),
        });
    }
    missing
}

/// What `trust renew` is told.
#[derive(Debug, Clone)]
pub struct RenewTrust {
    /// The way to the instance's own cluster.
    pub home: Contact,
    /// The instance.
    pub mesh: MeshName,
    /// Where the roots of instances are kept on this machine.
    pub roots: PathBuf,
    /// Where its root is, when not among them.
    pub root: Option<PathBuf>,
    /// How long to wait until its peers are told.
    pub patience: Duration,
}

/// Issues a new intermediate from the root on this machine, and puts it in the place of the one before. The control planes take it
/// from there, tell peers of it, and sign with it only when all know it; what the one before signed stays good.
///
/// # Errors
/// Why it is not renewed. An authority that somebody else brought is refused.
pub async fn renew_context_trust(renew: &RenewTrust, job: &mut Job) -> Result<(), OperateError> {
    let name = &renew.mesh;
    job.begin(&format!("look at {}", renew.home.short()));
    let looked = look(renew).await;
    let (side, told) = job.end(looked)?;

    job.begin(&format!("issue a new intermediate of {name}"));
    let issued = issue(renew, &side, &told).await;
    if let Ok(fresh) = &issued {
        job.remark(format!("intermediate {}", fresh.short()));
    }
    let fresh = job.end(issued)?;
    if told.status.is_err() {
        job.begin(&format!(
            "{name} does not run now, and takes it when it does"
        ));
        return job.end(Ok::<(), OperateError>(()));
    }

    job.begin(&format!("{name} tells its peers"));
    let look = format!(
        "a kubelet brings a changed Secret within some 90 s; see kubectl{} logs -n {} deploy/catamaran-{name}",
        renew.home.option(),
        super::SYSTEM
    );
    let told = wait::until("the new intermediate", renew.patience, &look, || async {
        let sight = sight::sight(&side.access).await;
        let sight = sight.map_err(|failure| failure.about("MeshExports"))?;
        let mut exports = sight.exports.iter();
        match exports.any(|export| export.mesh == *name && export.intermediates.contains(&fresh)) {
            true => Ok(()),
            false => Err("its MeshExport does not name the new intermediate".to_owned()),
        }
    })
    .await;
    if told.is_ok() {
        job.remark("it signs with it in 90 s, when every replica and peer knows it");
    }
    job.end(told)
}

async fn look(renew: &RenewTrust) -> Result<(Side, Told), OperateError> {
    let mut sides = gather(std::slice::from_ref(&renew.home)).await?;
    some_answer(&mut sides)?;
    let side = sides.remove(0);
    let known: Vec<(String, String)> = (side.told())
        .map(|told| (told.spec.name.to_string(), format!("in {}", told.home)))
        .collect();
    let told = side
        .told()
        .find(|told| told.spec.name == renew.mesh)
        .cloned();
    match told {
        Some(told) => Ok((side, told)),
        None => Err(OperateError::UnknownMesh {
            name: renew.mesh.clone(),
            purpose: "",
            known,
        }),
    }
}

async fn issue(renew: &RenewTrust, side: &Side, told: &Told) -> Result<Fingerprint, OperateError> {
    let mesh = &renew.mesh;
    let whose = install::authority_of(&side.access).await;
    let whose = whose.map_err(|failure| side.failed("the Secret cacerts", failure))?;
    if whose.is_some_and(|whose| whose.as_deref() != Some(mesh.as_str())) {
        return Err(ContactError::Brought {
            of: side.who.clone(),
            mesh: mesh.clone(),
        }
        .into());
    }
    let current = sight::roots(&side.access).await;
    let current = current.map_err(|failure| side.failed("the ConfigMap of roots", failure))?;
    let current = current.ok_or_else(|| ContactError::NoRoots {
        of: side.who.clone(),
        mesh: mesh.clone(),
    })?;
    let from = match &renew.root {
        Some(folder) => RootFrom::Folder(folder.clone()),
        None => RootFrom::Instance(mesh.clone()),
    };
    let root = kube_trust::named(&renew.roots, mesh, &from)?;
    let root = root.expect("an instance or a folder is named");
    let (domain, cluster): (_, &ClusterId) = (&told.spec.trust_domain, &told.home);
    let fresh = ceremony::renew_intermediate(&root, &current, domain, mesh, cluster, now())?;
    let secret = install::authority(mesh, &fresh.files().entries());
    let written = install::replace_authority(&side.access, &secret).await;
    written.map_err(|failure| side.failed("the Secret cacerts", failure))?;
    Ok(fresh.fingerprint())
}
