//! `mesh delete`: an instance goes; its cluster and what runs in it stay.

use std::fs;

use catamaran_identity::CaCertsFiles;
use catamaran_local::object::{Kind, ObjectKey, system_namespace};
use catamaran_local::write;
use catamaran_model::MeshName;

use crate::fleet::now;
use crate::{Fleet, Job, OperateError};

/// Deletes an instance: its objects and its intermediate. Its root stays while another instance uses it, and is put aside otherwise:
/// a root's key cannot be made again, so no command of ours destroys one. The cluster's node ends the control plane. Proxies go on with what they have until their pods are replaced.
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
    let aside = fleet
        .dir
        .trust_dir()
        .join(format!("{name}.retired-{}", now().0 / 1000));
    fs::rename(&folder, &aside).map_err(OperateError::file(&folder))?;
    Ok(Some(format!(
        "nobody else used its root: put aside in {}; delete that folder when nothing it signed is needed any more",
        aside.display()
    )))
}
