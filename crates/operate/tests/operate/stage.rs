//! Fleets to try operations on.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use catamaran_local::fleet::Isolation;
use catamaran_model::{ClusterId, MemberMode, MeshName, NetworkId};
use catamaran_operate::{
    AddCluster, CreateMesh, Fleet, Job, OperateError, add_cluster, create_cluster, create_mesh,
};

pub(crate) struct Stage {
    pub(crate) fleet: Fleet,
    pub(crate) folder: tempfile::TempDir,
}

pub(crate) fn cluster(name: &str) -> ClusterId {
    ClusterId::new(name).unwrap()
}

pub(crate) fn mesh(name: &str) -> MeshName {
    MeshName::new(name).unwrap()
}

pub(crate) fn quiet() -> Job {
    Job::unwatched()
}

impl Stage {
    pub(crate) fn empty() -> Stage {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("fleet");
        // A program that ends at once: no node comes up, whatever is asked of it.
        let fleet = Fleet::open_or_create(&path, Some(Isolation::Process), "/bin/false").unwrap();
        Stage { fleet, folder }
    }

    /// cluster-1 with mesh-1, cluster-2 with mesh-2 on its root, and cluster-3 with nothing.
    pub(crate) async fn pair() -> Stage {
        let stage = Stage::empty();
        for n in 1..=3 {
            let network = NetworkId::new(format!("network{n}")).unwrap();
            let name = cluster(&format!("cluster-{n}"));
            create_cluster(&stage.fleet, &name, Some(&network), &mut quiet()).unwrap();
        }
        stage.mesh("mesh-1", "cluster-1", None).await;
        stage.mesh("mesh-2", "cluster-2", Some("mesh-1")).await;
        stage
    }

    /// Creates an instance whose node does not come up.
    pub(crate) async fn mesh(&self, name: &str, home: &str, root_of: Option<&str>) {
        let error = create(&self.fleet, name, home, root_of).await.unwrap_err();
        assert_eq!(
            error.code(),
            "CTM-C201",
            "only the node's start fails: {error}"
        );
    }

    pub(crate) fn add(&self, name: &str, to: &str, mode: MemberMode) -> Result<(), OperateError> {
        let add = AddCluster {
            mesh: mesh(to),
            cluster: cluster(name),
            mode,
        };
        add_cluster(&self.fleet, &add, &mut quiet())
    }

    /// Every file of the fleet with its content, but for locks.
    pub(crate) fn files(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let mut files = BTreeMap::new();
        gather(self.fleet.dir.path(), &mut files);
        files
    }
}

pub(crate) async fn create(
    fleet: &Fleet,
    name: &str,
    home: &str,
    root_of: Option<&str>,
) -> Result<(), OperateError> {
    let create = CreateMesh {
        name: mesh(name),
        cluster: cluster(home),
        region: None,
        version: None,
        reuse_root: root_of.map(mesh),
        wait: None,
    };
    create_mesh(fleet, &create, &mut quiet()).await
}

fn gather(folder: &Path, files: &mut BTreeMap<PathBuf, Vec<u8>>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        match path.is_dir() {
            true => gather(&path, files),
            false if name.ends_with("lock") => {}
            false => drop(files.insert(path.clone(), std::fs::read(&path).unwrap())),
        }
    }
}
