//! `mesh delete`: an instance goes; its cluster and what runs in it stay.

use std::fs;

use catamaran_identity::CaCertsFiles;
use catamaran_local::object::{Kind, ObjectKey, system_namespace};
use catamaran_local::write;
use catamaran_model::MeshName;

use crate::{Fleet, Job, OperateError};

/// Deletes an instance: its objects, its intermediate, and its root when no other instance uses it. The cluster's node ends
/// the control plane. Proxies go on with what they have until their pods are replaced.
pub fn delete_mesh(fleet: &Fleet, name: &MeshName, job: &mut Job) -> Result<(), OperateError> {
    job.begin(&format!("delete {name}"));
    let deleted = delete(fleet, name);
    if let Ok(Some(root)) = &deleted {
        job.remark(root.clone());
    }
    job.end(deleted).map(drop)
}

fn delete(fleet: &Fleet, name: &MeshName) -> Result<Option<String>, OperateError> {
    let instances = fleet.instances()?;
    let instance = fleet.instance(name)?;
    let home = &instance.home;
    let roots = fleet.roots(home)?;
    let system = system_namespace();
    let others: Vec<&str> = (instances.iter())
        .filter(|other| other.spec.name != *name)
        .filter(|other| {
            let theirs = fleet.roots(&other.home).unwrap_or_default();
            theirs.iter().any(|root| roots.contains(root))
        })
        .map(|other| other.spec.name.as_str())
        .collect();
    write::delete(home, &ObjectKey::new(Kind::Mesh, &system, name.as_str()))?;
    write::delete(
        home,
        &ObjectKey::new(Kind::MeshExport, &system, name.as_str()),
    )?;
    for member in &instance.members {
        write::delete(
            home,
            &ObjectKey::new(Kind::Cluster, &system, member.cluster.as_str()),
        )?;
    }
    for file in CaCertsFiles::NAMES {
        let path = home.cacerts().join(file);
        match fs::remove_file(&path) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                return Err(OperateError::file(path)(e));
            }
            _ => {}
        }
    }
    let folder = fleet.dir.trust(name);
    if !folder.exists() {
        return Ok(None);
    }
    if !others.is_empty() {
        return Ok(Some(format!(
            "its root stays, {} uses it",
            others.join(", ")
        )));
    }
    fs::remove_dir_all(&folder).map_err(OperateError::file(folder))?;
    Ok(Some("its root is gone, nobody else used it".into()))
}
