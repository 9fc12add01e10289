//! `trust issue`: the authority of an instance that something else installs, as a Helm chart or a repository does. Its root's key
//! stays on the person's machine, so nothing in a cluster could make it.

use std::path::PathBuf;

use catamaran_kubernetes::install;
use catamaran_model::{ClusterId, MeshName};

use crate::contact::{Contact, ContactError};
use crate::kube_trust::{self, RootFrom};
use crate::trust::write_authority;
use crate::{Job, OperateError};

/// What `trust issue` is told.
#[derive(Debug, Clone)]
pub struct IssueAuthority {
    /// The instance.
    pub mesh: MeshName,
    /// The cluster that it will run in.
    pub cluster: ClusterId,
    /// Where the roots of instances are kept on this machine.
    pub roots: PathBuf,
    /// Where its root comes from.
    pub root: RootFrom,
    /// Where it goes.
    pub into: AuthorityInto,
}

/// Where an authority goes.
#[derive(Debug, Clone)]
pub enum AuthorityInto {
    /// A new or empty folder, in the layout of Istio's `cacerts`.
    Folder(PathBuf),
    /// The Secret `cacerts` of a cluster; one that is there stays.
    Cluster(Contact),
}

/// Issues an authority from a root, which is made when there is none.
///
/// # Errors
/// Why there is none.
pub async fn issue_authority(issue: &IssueAuthority, job: &mut Job) -> Result<(), OperateError> {
    job.begin(&format!("authority of {}", issue.mesh));
    let issued = match &issue.into {
        AuthorityInto::Folder(folder) => into_folder(issue, folder, job),
        AuthorityInto::Cluster(context) => into_cluster(issue, context, job).await,
    };
    job.end(issued)
}

fn into_folder(
    issue: &IssueAuthority,
    folder: &std::path::Path,
    job: &mut Job,
) -> Result<(), OperateError> {
    let (mesh, cluster) = (&issue.mesh, &issue.cluster);
    crate::trust::is_free(folder)?;
    let made = kube_trust::authority(&issue.roots, &issue.root, mesh, cluster, None)?;
    if let (Some(files), said) = made {
        job.remark(said);
        for (file, _) in write_authority(&files, folder)? {
            job.note(folder.join(file).display().to_string());
        }
    }
    Ok(())
}

async fn into_cluster(
    issue: &IssueAuthority,
    context: &Contact,
    job: &mut Job,
) -> Result<(), OperateError> {
    let there = context.reach()?;
    let access = &there.access;
    let failed = || ContactError::failed(&there.who, "the Secret cacerts");
    let found = install::look(access).await.map_err(failed())?;
    let (made, said) = kube_trust::authority(
        &issue.roots,
        &issue.root,
        &issue.mesh,
        &issue.cluster,
        found.authority.as_ref(),
    )?;
    job.remark(said);
    let Some(files) = made else {
        return Ok(());
    };
    if found.namespace.is_none() {
        // Nobody's in particular, so that it stays when the instance goes.
        let namespace = install::bare_namespace();
        install::put(access, &namespace).await.map_err(failed())?;
        job.note("Namespace catamaran-system");
    }
    let secret = install::authority(&issue.mesh, &files.entries());
    install::put(access, &secret).await.map_err(failed())?;
    job.note("Secret cacerts");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_authority_of_two_instances_comes_from_one_root_and_no_file_is_overwritten() {
        let place = tempfile::tempdir().unwrap();
        let name = |text: &str| MeshName::new(text).unwrap();
        let issue = |mesh: &str, root: RootFrom| IssueAuthority {
            mesh: name(mesh),
            cluster: ClusterId::new("cluster-1").unwrap(),
            roots: place.path().join("roots"),
            root,
            into: AuthorityInto::Folder(place.path().join(mesh)),
        };
        let mut job = Job::unwatched();
        let first = issue("mesh-1", RootFrom::New);
        issue_authority(&first, &mut job).await.unwrap();
        let second = issue("mesh-2", RootFrom::Instance(name("mesh-1")));
        issue_authority(&second, &mut job).await.unwrap();
        let read = |mesh: &str, file: &str| {
            std::fs::read_to_string(place.path().join(mesh).join(file)).unwrap()
        };
        assert_eq!(
            read("mesh-1", "root-cert.pem"),
            read("mesh-2", "root-cert.pem")
        );
        assert_ne!(read("mesh-1", "ca-cert.pem"), read("mesh-2", "ca-cert.pem"));
        assert!(read("mesh-1", "ca-key.pem").contains("PRIVATE KEY"));
        assert!(!place.path().join("mesh-1/root-key.pem").exists());
        let again = issue_authority(&first, &mut job).await.unwrap_err();
        assert_eq!(again.code(), "CTM-O101");
    }
}
