//! `trust show`, `trust renew` and `trust export`: roots and intermediates.

use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::time::Duration;

use catamaran_identity::{CaCerts, CaCertsFiles, CertificateFacts, ceremony};
use catamaran_local::fleet::ClusterDir;
use catamaran_local::{atomic, write};
use catamaran_model::{Fingerprint, MeshName, Timestamp};
use serde::Serialize;

use crate::fleet::now;
use crate::mesh_create::{root_of, save_authority};
use crate::{Fleet, Job, OperateError, control_plane, wait};

/// A certificate as tables show it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CertificateRow {
    /// `root` or `intermediate`.
    pub role: &'static str,
    /// The instance.
    pub mesh: String,
    /// Whom it names.
    pub subject: String,
    /// SHA-256 of its DER bytes, in hex.
    pub fingerprint: String,
    /// Its serial number.
    pub serial: String,
    /// When it ends, in milliseconds since 1970.
    pub not_after: u64,
    /// Whole days until then; negative when it has ended.
    pub days: i64,
    /// Its key.
    pub algorithm: String,
}

/// The roots and intermediates of every instance, or of one.
pub fn show_trust(
    fleet: &Fleet,
    mesh: Option<&MeshName>,
) -> Result<Vec<CertificateRow>, OperateError> {
    let instances = match mesh {
        Some(name) => vec![fleet.instance(name)?],
        None => fleet.instances()?,
    };
    let now = now();
    let mut rows = Vec::new();
    for instance in instances {
        let (home, name) = (&instance.home, instance.spec.name.as_str());
        for facts in facts_in(&home.root_cert())? {
            rows.push(row("root", name, &facts, now));
        }
        let path = home.cacerts().join("ca-cert.pem");
        if let Some(facts) = facts_in(&path)?.first() {
            rows.push(row("intermediate", name, facts, now));
        }
    }
    Ok(rows)
}

fn facts_in(path: &Path) -> Result<Vec<CertificateFacts>, OperateError> {
    let text = fs::read_to_string(path).map_err(OperateError::file(path))?;
    CertificateFacts::of_pem(&text).map_err(|source| OperateError::Certificate {
        path: path.into(),
        source,
    })
}

pub(crate) fn row(
    role: &'static str,
    mesh: &str,
    facts: &CertificateFacts,
    now: Timestamp,
) -> CertificateRow {
    CertificateRow {
        role,
        mesh: mesh.into(),
        subject: facts.subject.clone(),
        fingerprint: facts.fingerprint.to_string(),
        serial: facts.serial.clone(),
        not_after: facts.not_after.0,
        days: days(facts.not_after, now),
        algorithm: facts.key_algorithm.to_string(),
    }
}

/// Whole days until then.
pub(crate) fn days(until: Timestamp, now: Timestamp) -> i64 {
    (until.0 as i64 - now.0 as i64).div_euclid(86_400_000)
}

/// The intermediate of an instance, read and checked.
pub(crate) fn authority_of(home: &ClusterDir) -> Result<CaCerts, OperateError> {
    let path = home.cacerts();
    CaCertsFiles::collect(|name| fs::read_to_string(path.join(name)).ok())
        .and_then(|files| CaCerts::read(&files, now()))
        .map_err(|source| OperateError::Authority { path, source })
}

/// Issues a new intermediate from the root that the instance was created with, and waits until its control plane says that it
/// signs with it. Workloads get certificates from it as theirs are renewed; nothing is restarted.
pub async fn renew_trust(
    fleet: &Fleet,
    name: &MeshName,
    patience: Duration,
    job: &mut Job,
) -> Result<(), OperateError> {
    job.begin(&format!("issue a new intermediate of {name}"));
    let renewed = renew(fleet, name);
    if let Ok((_, fresh)) = &renewed {
        job.remark(format!("intermediate {}", fresh.short()));
    }
    let (home, fresh) = job.end(renewed)?;
    if control_plane::status(&home).await.is_err() {
        return Ok(());
    }
    job.begin(&format!("{name} tells its peers"));
    let told = wait::until(
        "the new intermediate",
        patience,
        "see the control plane's log",
        || async {
            match announced(&home, name, fresh) {
                true => Ok(()),
                false => Err("its MeshExport does not name the new intermediate".to_owned()),
            }
        },
    )
    .await;
    job.end(told)
}

fn announced(home: &ClusterDir, name: &MeshName, fresh: Fingerprint) -> bool {
    let objects = write::objects(home).unwrap_or_default();
    objects.values().any(|object| match &**object {
        catamaran_local::object::Object::MeshExport(export) => {
            export.metadata.name == name.as_str()
                && export
                    .export()
                    .is_ok_and(|export| export.intermediates.contains(&fresh))
        }
        _ => false,
    })
}

fn renew(fleet: &Fleet, name: &MeshName) -> Result<(ClusterDir, Fingerprint), OperateError> {
    let instance = fleet.instance(name)?;
    let domain = &instance.spec.trust_domain;
    let root = root_of(fleet, name, domain)?;
    let path = instance.home.root_cert();
    let current = fs::read_to_string(&path).map_err(OperateError::file(path))?;
    let cluster = instance.home.name();
    let fresh = ceremony::renew_intermediate(&root, &current, domain, name, cluster, now())?;
    save_authority(&instance.home, &fresh)?;
    Ok((instance.home, fresh.fingerprint()))
}

/// Writes an instance's intermediate into `folder` in Istio's `cacerts` layout, for a control plane elsewhere. The folder must
/// be new or empty. Returns the names of the files; `ca-key.pem` among them is a private key that nothing encrypts.
pub fn export_trust(
    fleet: &Fleet,
    name: &MeshName,
    folder: &Path,
) -> Result<Vec<&'static str>, OperateError> {
    let authority = authority_of(&fleet.instance(name)?.home)?;
    is_free(folder)?;
    let written = write_authority(&authority.files(), folder)?;
    Ok(written.into_iter().map(|(file, _)| file).collect())
}

/// Refuses a folder that has anything in it.
pub(crate) fn is_free(folder: &Path) -> Result<(), OperateError> {
    let taken = fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_some());
    let error =
        || std::io::Error::new(std::io::ErrorKind::AlreadyExists, "the folder is not empty");
    match taken {
        true => Err(OperateError::file(folder)(error())),
        false => Ok(()),
    }
}

/// Writes an authority's files into a folder, its key for its owner alone; gives their names and modes.
pub(crate) fn write_authority(
    files: &CaCertsFiles,
    folder: &Path,
) -> Result<Vec<(&'static str, u32)>, OperateError> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .map_err(OperateError::file(folder))?;
    let mut written = Vec::new();
    for (file, text) in files.entries() {
        let path = folder.join(file);
        let mode = if file == "ca-key.pem" { 0o600 } else { 0o644 };
        atomic::write(&path, text.as_bytes(), mode).map_err(OperateError::file(path))?;
        written.push((file, mode));
    }
    Ok(written)
}
