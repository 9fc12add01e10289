//! Roots on a person's own machine: one folder for each instance, and the key never anywhere else.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use catamaran_identity::{CaCertsFiles, Root, TrustBundle, ceremony};
use catamaran_local::atomic;
use catamaran_model::{ClusterId, MeshName, TrustDomain};
use zeroize::Zeroizing;

use crate::OperateError;
use crate::fleet::now;

const CERT: &str = "root-cert.pem";
const KEY: &str = "root-key.pem";

/// Where the root of a new instance comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RootFrom {
    /// It is made, and kept under the instance's name among the roots; one that lies there is used.
    New,
    /// The one of another instance, as it lies among the roots.
    Instance(MeshName),
    /// The one in this folder; it is made there when the folder has none.
    Folder(PathBuf),
}

/// The root, and what is to be said of it.
pub(crate) fn take(
    roots: &Path,
    mesh: &MeshName,
    from: &RootFrom,
) -> Result<(Root, String), OperateError> {
    let domain = TrustDomain::default();
    let (root, how) = match from {
        RootFrom::Instance(other) => {
            let folder = with_key(roots, other, &domain)?;
            (
                open(&folder, other, &domain)?,
                format!("reused from {other}, {}", folder.display()),
            )
        }
        RootFrom::New => make_or_open(&roots.join(mesh.as_str()), mesh, &domain)?,
        RootFrom::Folder(folder) => make_or_open(folder, mesh, &domain)?,
    };
    let text = format!("root {} {how}", root.facts().fingerprint.short());
    Ok((root, text))
}

/// The root that somebody names for an instance which has an authority already; nothing is made.
pub(crate) fn named(
    roots: &Path,
    mesh: &MeshName,
    from: &RootFrom,
) -> Result<Option<Root>, OperateError> {
    let domain = TrustDomain::default();
    Ok(match from {
        RootFrom::New => None,
        RootFrom::Instance(other) => Some(open(&with_key(roots, other, &domain)?, other, &domain)?),
        RootFrom::Folder(folder) => Some(open(folder, mesh, &domain)?),
    })
}

/// Notes which root an instance has, so that others can reuse it by the instance's name.
pub(crate) fn note(roots: &Path, mesh: &MeshName, root: &Root) -> Result<(), OperateError> {
    let path = roots.join(mesh.as_str()).join(CERT);
    folder(&roots.join(mesh.as_str()))?;
    let written = atomic::write_if_changed(&path, root.cert_pem().as_bytes(), 0o644);
    written.map(drop).map_err(OperateError::file(&path))
}

/// The authority to write, if any, and what is to be said of it. An authority that is there stays, whoever made it.
pub(crate) fn authority(
    roots: &Path,
    root: &RootFrom,
    mesh: &MeshName,
    cluster: &ClusterId,
    there: Option<&BTreeMap<String, Zeroizing<String>>>,
) -> Result<(Option<CaCertsFiles>, String), OperateError> {
    let domain = TrustDomain::default();
    if let Some(files) = there {
        let read = |name: &'static str| files.get(name).map(|text| text.to_string());
        let there = ceremony::import(mesh, read, now())?;
        let trusted = there
            .bundle(&domain)
            .map(|roots| roots.fingerprints())
            .unwrap_or_default();
        if let Some(root) = named(roots, mesh, root)? {
            let wanted = root.facts().fingerprint;
            if !trusted.contains(&wanted) {
                return Err(ceremony::CeremonyError::OtherRoot {
                    mesh: mesh.clone(),
                    root: wanted,
                    trusted,
                }
                .into());
            }
            note(roots, mesh, &root)?;
        }
        let root = trusted
            .first()
            .map_or_else(String::new, |root| format!(", root {}", root.short()));
        return Ok((
            None,
            format!("the Secret cacerts that is there is used unchanged{root}"),
        ));
    }
    let (root, said) = take(roots, mesh, root)?;
    let issued = ceremony::issue_intermediate(&root, &domain, mesh, cluster, now())?;
    note(roots, mesh, &root)?;
    Ok((Some(issued.files()), said))
}

fn make_or_open(
    at: &Path,
    mesh: &MeshName,
    domain: &TrustDomain,
) -> Result<(Root, String), OperateError> {
    if at.join(KEY).exists() {
        let root = open(at, mesh, domain)?;
        return Ok((root, format!("of {}", at.display())));
    }
    if at.join(CERT).exists() {
        return Err(OperateError::NoRoot {
            mesh: mesh.clone(),
            root: format!("({} without {KEY})", at.join(CERT).display()),
        });
    }
    let root = ceremony::create_root(domain, mesh, now())?;
    folder(at)?;
    save(&at.join(KEY), &root.key_pem(), 0o600)?;
    save(&at.join(CERT), &root.cert_pem(), 0o644)?;
    Ok((root, format!("made, its key is in {}", at.display())))
}

/// The folder with the key of the root that `mesh` has: its own, or the one of the instance whose root it reuses.
fn with_key(roots: &Path, mesh: &MeshName, domain: &TrustDomain) -> Result<PathBuf, OperateError> {
    let own = roots.join(mesh.as_str());
    if own.join(KEY).exists() {
        return Ok(own);
    }
    let folders: Vec<PathBuf> = (fs::read_dir(roots).into_iter().flatten().flatten())
        .map(|entry| entry.path())
        .filter(|path| path.join(CERT).exists())
        .collect();
    let prints = |folder: &Path| {
        let text = fs::read_to_string(folder.join(CERT)).unwrap_or_default();
        TrustBundle::from_pem(domain, &text)
            .map(|bundle| bundle.fingerprints())
            .unwrap_or_default()
    };
    let wanted = prints(&own);
    let Some(first) = wanted.first() else {
        let known = folders.iter().filter_map(|path| path.file_name());
        return Err(OperateError::UnknownMesh {
            name: mesh.clone(),
            purpose: " to take the root from",
            known: known
                .map(|name| (name.to_string_lossy().into_owned(), String::new()))
                .collect(),
        });
    };
    let mut holders = folders.into_iter().filter(|path| path.join(KEY).exists());
    let holder = holders.find(|path| prints(path).contains(first));
    holder.ok_or_else(|| OperateError::NoRoot {
        mesh: mesh.clone(),
        root: first.short(),
    })
}

fn open(folder: &Path, mesh: &MeshName, domain: &TrustDomain) -> Result<Root, OperateError> {
    let (cert, key) = (read(&folder.join(CERT))?, read(&folder.join(KEY))?);
    // In a folder that somebody names may be the root of any instance.
    let of = Root::from_pem(&cert, &key)
        .ok()
        .and_then(|root| root.mesh());
    let of = of.unwrap_or_else(|| mesh.clone());
    Ok(ceremony::open_root(domain, &of, &cert, &key)?)
}

fn folder(at: &Path) -> Result<(), OperateError> {
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(at);
    made.map_err(OperateError::file(at))
}

fn read(path: &Path) -> Result<String, OperateError> {
    fs::read_to_string(path).map_err(OperateError::file(path))
}

fn save(path: &Path, text: &str, mode: u32) -> Result<(), OperateError> {
    atomic::write(path, text.as_bytes(), mode).map_err(OperateError::file(path))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_root_is_found_again_through_whoever_reuses_it() {
        let roots = tempfile::tempdir().unwrap();
        let name = |text: &str| MeshName::new(text).unwrap();
        let at = roots.path();
        let (made, _) = take(at, &name("mesh-1"), &RootFrom::New).unwrap();
        let mode = fs::metadata(at.join("mesh-1").join(KEY))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
        // again: the same one
        let (again, _) = take(at, &name("mesh-1"), &RootFrom::New).unwrap();
        assert_eq!(again.facts().fingerprint, made.facts().fingerprint);
        note(at, &name("mesh-2"), &again).unwrap();
        assert!(!at.join("mesh-2").join(KEY).exists());
        let (third, said) = take(at, &name("mesh-3"), &RootFrom::Instance(name("mesh-2"))).unwrap();
        assert_eq!(third.facts().fingerprint, made.facts().fingerprint);
        assert!(said.contains("mesh-2"), "{said}");
        // who names a root for what has an authority gets none made
        let empty = at.join("empty");
        assert!(named(at, &name("mesh-2"), &RootFrom::Folder(empty.clone())).is_err());
        assert!(!empty.exists());
        let unknown = take(at, &name("mesh-3"), &RootFrom::Instance(name("mesh-9")));
        assert_eq!(unknown.unwrap_err().code(), "CTM-T101");
    }

    #[test]
    fn a_root_that_was_noted_and_has_no_key_here_is_not_made_anew() {
        let roots = tempfile::tempdir().unwrap();
        let mesh = MeshName::new("mesh-2").unwrap();
        let other = MeshName::new("mesh-1").unwrap();
        let root = ceremony::create_root(&TrustDomain::default(), &other, now()).unwrap();
        note(roots.path(), &mesh, &root).unwrap();
        let refused = take(roots.path(), &mesh, &RootFrom::New);
        assert_eq!(refused.unwrap_err().code(), "CTM-T103");
    }
}
