//! `mesh create`: an instance, with a new root or on the root of another one.

use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::time::Duration;

use catamaran_identity::ceremony;
use catamaran_identity::{CaCerts, CaCertsFiles, Root};
use catamaran_local::fleet::ClusterDir;
use catamaran_local::object::{Kind, ObjectKey, system_namespace};
use catamaran_local::{atomic, lifecycle, write};
use catamaran_model::{ClusterId, MemberMode, MeshName, MeshSpec, Region, TrustDomain, Version};

use crate::cluster_add::member;
use crate::cluster_life::START_PATIENCE;
use crate::fleet::now;
use crate::mesh_list::wait_running;
use crate::{Fleet, Job, OperateError};

/// The version of this program; the only one that is installed with it.
///
/// A build may be given another one by the variable `CATAMARAN_VERSION` of its environment (`cargo xtask image --version`), so that
/// going from one version to the next can be tried. What runs cannot be told otherwise.
pub const OUR_VERSION: &str = match option_env!("CATAMARAN_VERSION") {
    Some(version) => version,
    None => env!("CARGO_PKG_VERSION"),
};
/// How long an instance may take until it runs.
pub const RUNNING_PATIENCE: Duration = Duration::from_secs(60);

/// What `mesh create` is told.
#[derive(Debug, Clone)]
pub struct CreateMesh {
    /// The instance's name.
    pub name: MeshName,
    /// The cluster it runs in and manages.
    pub cluster: ClusterId,
    /// The region it stands in.
    pub region: Option<Region>,
    /// The version it runs; ours when none is named.
    pub version: Option<Version>,
    /// Whose root it takes; a new one when nobody's.
    pub reuse_root: Option<MeshName>,
    /// Whether to wait until it runs.
    pub wait: Option<Duration>,
}

/// Creates an instance. Until its objects are written nothing is left behind when it fails.
pub async fn create_mesh(
    fleet: &Fleet,
    create: &CreateMesh,
    job: &mut Job,
) -> Result<(), OperateError> {
    let name = &create.name;
    job.begin(&format!("check what is asked for {name}"));
    let checked = check(fleet, create);
    let home = job.end(checked)?;

    job.begin(match create.reuse_root {
        Some(_) => "take the root",
        None => "make a root",
    });
    let rooted = root(fleet, create);
    if let Ok((root, _)) = &rooted {
        let print = root.facts().fingerprint.short();
        job.remark(match &create.reuse_root {
            Some(mesh) => format!("root {print} reused from {mesh}"),
            None => format!("new root {print}"),
        });
    }
    let (root, mut undo) = job.end(rooted)?;

    job.begin(&format!("issue the intermediate of {name}"));
    let issued = issue(&root, create, &home, &mut undo);
    job.end(issued)?;

    job.begin(&format!("write Mesh {name} and Cluster {}", create.cluster));
    let spec = MeshSpec {
        name: name.clone(),
        region: create.region.clone(),
        version: Some(create.version.clone().map_or_else(our_version, Ok)?),
        trust_domain: TrustDomain::default(),
        domain: Default::default(),
        mtls: Default::default(),
        failover: Default::default(),
    };
    let written = write_objects(&home, &spec);
    job.end(written)?;
    undo.keep();

    job.begin(&format!("start {}", create.cluster));
    let started = lifecycle::start_cluster(&home, &fleet.program, START_PATIENCE).await;
    job.end(started)?;
    if let Some(patience) = create.wait {
        job.begin(&format!("{name} runs"));
        let running = wait_running(fleet, name, patience).await;
        job.end(running)?;
    }
    Ok(())
}

fn our_version() -> Result<Version, OperateError> {
    Ok(Version::new(OUR_VERSION)?)
}

fn check(fleet: &Fleet, create: &CreateMesh) -> Result<ClusterDir, OperateError> {
    if let Some(version) = &create.version
        && version.as_str() != OUR_VERSION
    {
        return Err(OperateError::UnknownVersion {
            version: version.clone(),
            installed: vec![OUR_VERSION.into()],
        });
    }
    if let Some(there) = fleet
        .instances()?
        .into_iter()
        .find(|i| i.spec.name == create.name)
    {
        return Err(OperateError::MeshExists {
            mesh: create.name.clone(),
            cluster: there.home.name().clone(),
        });
    }
    let home = fleet.cluster(&create.cluster)?;
    if let Some(there) = fleet.instance_in(&home)? {
        return Err(OperateError::ManagedBy {
            cluster: create.cluster.clone(),
            by: there.spec.name,
            wanted: create.name.clone(),
        });
    }
    Ok(home)
}

/// What must go again when the creation fails later on.
#[derive(Debug, Default)]
struct Undo {
    paths: Vec<std::path::PathBuf>,
}

impl Undo {
    fn keep(mut self) {
        self.paths.clear();
    }
}

impl Drop for Undo {
    fn drop(&mut self) {
        for path in &self.paths {
            // What cannot be removed is named when the mesh is created again.
            let _ = if path.is_dir() {
                fs::remove_dir_all(path)
            } else {
                fs::remove_file(path)
            };
        }
    }
}

fn root(fleet: &Fleet, create: &CreateMesh) -> Result<(Root, Undo), OperateError> {
    let domain = TrustDomain::default();
    let Some(from) = &create.reuse_root else {
        let folder = fleet.dir.trust(&create.name);
        if folder.join(ROOT_CERT).exists() {
            return Err(OperateError::RootLeftOver {
                mesh: create.name.clone(),
                path: folder,
            });
        }
        let root = ceremony::create_root(&domain, &create.name, now())?;
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&folder)
            .map_err(OperateError::file(&folder))?;
        let undo = Undo {
            paths: vec![folder.clone()],
        };
        save(&folder.join(ROOT_KEY), &root.key_pem(), 0o600)?;
        save(&folder.join(ROOT_CERT), &root.cert_pem(), 0o644)?;
        return Ok((root, undo));
    };
    Ok((root_of(fleet, from, &domain)?, Undo::default()))
}

const ROOT_CERT: &str = "root-cert.pem";
const ROOT_KEY: &str = "root-key.pem";

/// The root that `mesh` made, or the one that it reuses.
pub(crate) fn root_of(
    fleet: &Fleet,
    mesh: &MeshName,
    domain: &TrustDomain,
) -> Result<Root, OperateError> {
    let own = fleet.dir.trust(mesh);
    if own.join(ROOT_CERT).exists() {
        return open(&own, mesh, domain);
    }
    let instance = fleet.instance_for(mesh, " to take the root certificate from")?;
    let wanted = fleet.roots(&instance.home)?;
    for entry in fs::read_dir(fleet.dir.trust_dir())
        .into_iter()
        .flatten()
        .flatten()
    {
        let Ok(maker) = MeshName::new(entry.file_name().to_string_lossy()) else {
            continue;
        };
        if let Ok(root) = open(&entry.path(), &maker, domain)
            && wanted.contains(&root.facts().fingerprint)
        {
            return Ok(root);
        }
    }
    Err(OperateError::NoRoot {
        mesh: mesh.clone(),
        root: wanted.first().map_or("(none)".into(), |root| root.short()),
    })
}

fn open(folder: &Path, maker: &MeshName, domain: &TrustDomain) -> Result<Root, OperateError> {
    let read = |name: &str| {
        let path = folder.join(name);
        fs::read_to_string(&path).map_err(OperateError::file(path))
    };
    Ok(ceremony::open_root(
        domain,
        maker,
        &read(ROOT_CERT)?,
        &read(ROOT_KEY)?,
    )?)
}

fn issue(
    root: &Root,
    create: &CreateMesh,
    home: &ClusterDir,
    undo: &mut Undo,
) -> Result<(), OperateError> {
    let domain = TrustDomain::default();
    let issued = ceremony::issue_intermediate(root, &domain, &create.name, &create.cluster, now())?;
    home.make_folders()?;
    let files = CaCertsFiles::NAMES.map(|name| home.cacerts().join(name));
    undo.paths.extend(files);
    save_authority(home, &issued)
}

/// Writes an intermediate in Istio's layout. The certificate comes last: who sees it sees its key.
pub(crate) fn save_authority(home: &ClusterDir, authority: &CaCerts) -> Result<(), OperateError> {
    let files = authority.files();
    let mut entries = files.entries();
    entries.sort_by_key(|(name, _)| *name == "ca-cert.pem");
    for (name, text) in entries {
        let mode = if name == "ca-key.pem" { 0o600 } else { 0o644 };
        save(&home.cacerts().join(name), text, mode)?;
    }
    Ok(())
}

fn save(path: &Path, text: &str, mode: u32) -> Result<(), OperateError> {
    atomic::write(path, text.as_bytes(), mode).map_err(OperateError::file(path))
}

fn write_objects(home: &ClusterDir, spec: &MeshSpec) -> Result<(), OperateError> {
    let own = member(home.name().clone(), MemberMode::Managed);
    write::put_member(home, &own)?;
    if let Err(error) = write::put_mesh(home, spec) {
        let key = ObjectKey::new(Kind::Cluster, &system_namespace(), home.name().as_str());
        // The first error is the one to tell.
        let _ = write::delete(home, &key);
        return Err(error.into());
    }
    Ok(())
}
