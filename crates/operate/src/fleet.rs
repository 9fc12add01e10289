//! A fleet as people address it: its clusters, its instances, and the program that runs them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use catamaran_local::fleet::{ClusterDir, Fleet as FleetFile, FleetDir, FleetError, Isolation};
use catamaran_local::netns;
use catamaran_local::object::{Object, ObjectKey};
use catamaran_local::write;
use catamaran_model::{ClusterId, Fingerprint, Member, MeshName, MeshSpec, Timestamp};

use crate::OperateError;

/// A fleet that is there.
#[derive(Debug, Clone)]
pub struct Fleet {
    /// Its paths.
    pub dir: FleetDir,
    /// What it is.
    pub file: FleetFile,
    /// Our own binary: what is started in clusters and pods.
    pub program: PathBuf,
}

/// A mesh instance, as the objects of its cluster say it.
#[derive(Debug, Clone)]
pub struct Instance {
    /// Its settings.
    pub spec: MeshSpec,
    /// The cluster it runs in and manages.
    pub home: ClusterDir,
    /// Its clusters, its own among them.
    pub members: Vec<Member>,
}

impl Instance {
    /// One of its clusters.
    pub fn member(&self, cluster: &ClusterId) -> Option<&Member> {
        self.members
            .iter()
            .find(|member| member.cluster == *cluster)
    }

    /// Its name.
    pub fn name(&self) -> &MeshName {
        &self.spec.name
    }
}

impl Fleet {
    /// The fleet in `path`, which must be there. `program` is our own binary.
    pub fn open(
        path: impl AsRef<Path>,
        program: impl Into<PathBuf>,
    ) -> Result<Fleet, OperateError> {
        let (dir, file) = FleetDir::open(path)?;
        let program = program.into();
        Ok(Fleet { dir, file, program })
    }

    /// The fleet in `path`, which is made when it is not there. `isolation` must be that of a fleet that is there.
    pub fn open_or_create(
        path: impl AsRef<Path>,
        isolation: Option<Isolation>,
        program: impl Into<PathBuf>,
    ) -> Result<Fleet, OperateError> {
        let program = program.into();
        match FleetDir::open(&path) {
            Ok((_, file)) if isolation.is_some_and(|wanted| wanted != file.isolation) => {}
            Ok((dir, file)) => return Ok(Fleet { dir, file, program }),
            Err(FleetError::NotAFleet(_)) => {}
            Err(other) => return Err(other.into()),
        }
        let isolation = isolation.unwrap_or_else(|| possible_isolation().0);
        let (dir, file) = FleetDir::create(path, isolation, &random_hex(3))?;
        Ok(Fleet { dir, file, program })
    }

    /// The clusters, by name.
    pub fn clusters(&self) -> Result<Vec<ClusterDir>, OperateError> {
        Ok(self.dir.clusters()?)
    }

    /// A cluster that must be there.
    pub fn cluster(&self, name: &ClusterId) -> Result<ClusterDir, OperateError> {
        match self.dir.existing(name) {
            Ok((dir, _)) => Ok(dir),
            Err(FleetError::NoSuchCluster { .. }) => Err(OperateError::UnknownCluster {
                name: name.clone(),
                known: (self.clusters()?.iter())
                    .map(|dir| dir.name().to_string())
                    .collect(),
            }),
            Err(other) => Err(other.into()),
        }
    }

    /// Every instance of the fleet, by name.
    pub fn instances(&self) -> Result<Vec<Instance>, OperateError> {
        let mut instances = Vec::new();
        for home in self.clusters()? {
            instances.extend(instances_in(&home)?);
        }
        instances.sort_by(|a, b| a.spec.name.cmp(&b.spec.name));
        Ok(instances)
    }

    /// For whoever shows the fleet: the instances that can be read, and the clusters whose objects cannot, with the reason.
    /// Who changes something asks for all or an error, by [`Fleet::instances`].
    pub(crate) fn legible(&self) -> Result<(Vec<Instance>, Vec<Illegible>), OperateError> {
        let (mut instances, mut illegible) = (Vec::new(), Vec::new());
        for home in self.clusters()? {
            match instances_in(&home) {
                Ok(found) => instances.extend(found),
                Err(error) => illegible.push(Illegible {
                    cluster: home.name().clone(),
                    reason: error.to_string(),
                }),
            }
        }
        instances.sort_by(|a, b| a.spec.name.cmp(&b.spec.name));
        Ok((instances, illegible))
    }

    /// An instance that must be there.
    pub fn instance(&self, name: &MeshName) -> Result<Instance, OperateError> {
        self.instance_for(name, "")
    }

    pub(crate) fn instance_for(
        &self,
        name: &MeshName,
        purpose: &'static str,
    ) -> Result<Instance, OperateError> {
        let instances = self.instances()?;
        let known = instances.iter().map(|i| {
            let root = self
                .roots(&i.home)
                .ok()
                .and_then(|roots| roots.first().copied());
            let root = root.map_or(String::new(), |root| format!(", root {}", root.short()));
            (
                i.spec.name.to_string(),
                format!("in {}{root}", i.home.name()),
            )
        });
        let known = known.collect();
        (instances.into_iter().find(|i| i.spec.name == *name)).ok_or(OperateError::UnknownMesh {
            name: name.clone(),
            purpose,
            known,
        })
    }

    /// The instance that runs in a cluster.
    pub fn instance_in(&self, home: &ClusterDir) -> Result<Option<Instance>, OperateError> {
        Ok(instances_in(home)?.into_iter().next())
    }

    /// The roots that the instance of a cluster trusts; none when it has no certificates.
    pub fn roots(&self, home: &ClusterDir) -> Result<Vec<Fingerprint>, OperateError> {
        let path = home.root_cert();
        let text = match std::fs::read_to_string(&path) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other.map_err(OperateError::file(&path))?,
        };
        let facts = catamaran_identity::CertificateFacts::of_pem(&text)
            .map_err(|source| OperateError::Certificate { path, source })?;
        Ok(facts.into_iter().map(|facts| facts.fingerprint).collect())
    }
}

/// A cluster whose objects cannot be read, so that nobody can say which instance lives there.
#[derive(Debug, Clone)]
pub(crate) struct Illegible {
    pub(crate) cluster: ClusterId,
    pub(crate) reason: String,
}

fn instances_in(home: &ClusterDir) -> Result<Vec<Instance>, OperateError> {
    let objects = write::objects(home)?;
    Ok(instances_of(home, &objects))
}

fn instances_of(home: &ClusterDir, objects: &BTreeMap<ObjectKey, Arc<Object>>) -> Vec<Instance> {
    let members: Vec<Member> = (objects.values())
        .filter_map(|object| match &**object {
            Object::Cluster(cluster) => cluster.member().ok(),
            _ => None,
        })
        .collect();
    let specs = objects.values().filter_map(|object| match &**object {
        Object::Mesh(mesh) => mesh.spec().ok(),
        _ => None,
    });
    specs
        .map(|spec| Instance {
            spec,
            home: home.clone(),
            members: members.clone(),
        })
        .collect()
}

/// The isolation that this machine and user can have, and why it is not netns.
pub fn possible_isolation() -> (Isolation, Option<String>) {
    match netns::supported() {
        Ok(()) => (Isolation::Netns, None),
        Err(why) => (Isolation::Process, Some(why)),
    }
}

/// The clock of the operator.
pub(crate) fn now() -> Timestamp {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    Timestamp(since.map_or(0, |since| since.as_millis() as u64))
}

pub(crate) fn random_hex(bytes: usize) -> String {
    let mut random = vec![0; bytes];
    if aws_lc_rs::rand::fill(&mut random).is_err() {
        // An id only tells fleets apart, it keeps no secret.
        let mixed = now().0 ^ (u64::from(std::process::id()) << 20);
        random.copy_from_slice(&mixed.to_be_bytes()[8 - bytes.min(8)..]);
    }
    random.iter().map(|byte| format!("{byte:02x}")).collect()
}
