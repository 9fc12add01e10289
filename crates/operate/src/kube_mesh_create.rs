//! `mesh create` in a cluster with an API server: all of an instance, by server-side apply. Doing it again changes nothing.

use std::path::PathBuf;
use std::time::Duration;

use catamaran_kubernetes::failure::Failure;
use catamaran_kubernetes::install::{self, Found, Instance, Outcome, Rollout};
use catamaran_kubernetes::upgrade;
use catamaran_model::{ClusterId, MeshName, Namespace, NetworkId, Region, Version};
use serde_json::Value;

use crate::contact::{Contact, ContactError, Reached};
use crate::kube_trust::{self, RootFrom};
use crate::{Job, OUR_VERSION, OperateError};

/// How long a control plane may take until every replica is ready, its image's way to the node included.
pub const ROLLOUT_PATIENCE: Duration = Duration::from_secs(180);
/// A pod that seems stuck is believed to be after so long: a first pull may fail, and a Secret may be seen late.
const STUCK_FOR: Duration = Duration::from_secs(8);
const LOOK: Duration = Duration::from_millis(300);

/// What `mesh create` is told of a cluster with an API server.
#[derive(Debug, Clone)]
pub struct InstallMesh {
    /// The cluster.
    pub context: Contact,
    /// The instance's name.
    pub name: MeshName,
    /// The cluster's name in the mesh.
    pub cluster: ClusterId,
    /// The region the instance stands in; what is there already when not said.
    pub region: Option<Region>,
    /// The version it runs; ours when not said.
    pub version: Option<Version>,
    /// The cluster's network; what is there already when not said.
    pub network: Option<NetworkId>,
    /// The image; the version's own when not said.
    pub image: Option<String>,
    /// How many control planes there are; what is there already when not said, else two.
    pub replicas: Option<u32>,
    /// Where the roots of instances are kept on this machine.
    pub roots: PathBuf,
    /// Where its root comes from.
    pub root: RootFrom,
    /// Where an Istio has its `cacerts` and its remote secrets; what is there already when not said.
    pub istio: Option<Namespace>,
    /// Whether to wait until every replica is ready.
    pub wait: Option<Duration>,
}

impl InstallMesh {
    fn instance(&self, found: &Found) -> Result<Instance, OperateError> {
        let version = match &self.version {
            None => Version::new(OUR_VERSION)?,
            // With the image of another version its own program would have to write the manifests.
            Some(version) if version.as_str() == OUR_VERSION => version.clone(),
            Some(version) => {
                return Err(OperateError::UnknownVersion {
                    version: version.clone(),
                    installed: vec![OUR_VERSION.into()],
                });
            }
        };
        let image = self.image.clone();
        let stays = as_it_is(found, &self.name, &self.cluster, version, image)?;
        // What is not said stays as it is.
        Ok(Instance {
            region: self.region.clone().or(stays.region),
            network: self.network.clone().or(stays.network),
            replicas: self.replicas.unwrap_or(stays.replicas),
            istio: self.istio.clone().or(stays.istio),
            ..stays
        })
    }
}

/// An instance as it stands in a cluster, with this version and image.
pub(crate) fn as_it_is(
    found: &Found,
    mesh: &MeshName,
    cluster: &ClusterId,
    version: Version,
    image: Option<String>,
) -> Result<Instance, OperateError> {
    let region = (found.meshes.iter())
        .find_map(|(name, region)| (name == mesh.as_str()).then_some(region.as_deref()?));
    let network = (found.own.iter())
        .find_map(|(name, network)| (name == cluster.as_str()).then_some(network.as_deref()?));
    let namespace = found.namespace.as_ref();
    let network = network.or_else(|| namespace?.network.as_deref());
    Ok(Instance {
        mesh: mesh.clone(),
        cluster: cluster.clone(),
        region: region.map(Region::new).transpose()?,
        network: network.map(NetworkId::new).transpose()?,
        image: image.unwrap_or_else(|| install::image(&version)),
        version,
        istio: found.istio.as_deref().map(Namespace::new).transpose()?,
        replicas: (found.replicas.get(mesh.as_str())).map_or(install::REPLICAS, |count| *count),
        makes_namespace: namespace
            .is_none_or(|there| there.made_for.as_deref() == Some(mesh.as_str())),
    })
}

/// The manifests that [`install_mesh`] writes, without the Secret with the authority: its key is for no terminal and no
/// repository. Nothing is touched, and no cluster is asked.
pub fn mesh_manifests(install: &InstallMesh) -> Result<Vec<Value>, OperateError> {
    Ok(install::manifests(&install.instance(&Found::default())?))
}

/// Manifests as one YAML text.
pub fn manifests_yaml(manifests: &[Value]) -> String {
    install::yaml(manifests)
}

/// Creates an instance in a cluster with an API server, or brings one that is there to what is asked. Until the first object is
/// written nothing is left behind in the cluster when it fails.
pub async fn install_mesh(install: &InstallMesh, job: &mut Job) -> Result<(), OperateError> {
    let (name, context) = (&install.name, &install.context);
    job.begin(&format!("look at {}", context.short()));
    let looked = prepare(install).await;
    let (there, found, instance) = job.end(looked)?;
    let manifests = install::manifests(&instance);

    job.begin("have the rights to install");
    let rights = rights(context, name, &there, &manifests).await;
    job.end(rights)?;

    job.begin(&format!("authority of {name}"));
    let authority = authority(install, &there, &found, &instance).await;
    if let Ok((_, said)) = &authority {
        job.remark(said.clone());
    }
    let (authority, _) = job.end(authority)?;

    job.begin(&format!("install {name} into {}", context.short()));
    let written = write(&there, &manifests, authority.as_ref(), job).await;
    job.end(written)?;

    if let Some(patience) = install.wait {
        job.begin(&format!("{name} runs"));
        let cannot = |unmet: &str| why_image(unmet, install.image.as_deref());
        let look = |what: &str| {
            let option = context.option();
            format!("{what}; then the same command again, or catamaran mesh delete {name}{option}")
        };
        let ready = rolled_out(&there, context, name, patience, cannot, look).await;
        job.end(ready)?;
    }
    Ok(())
}

async fn prepare(install: &InstallMesh) -> Result<(Reached, Found, Instance), OperateError> {
    let context = &install.context;
    let there = context.reach()?;
    let found = match install::look(&there.access).await {
        Ok(found) => found,
        Err(failure) => {
            if matches!(failure, Failure::Forbidden { .. }) {
                // Who may not even look is told of everything at once.
                let wanted = install::manifests(&install.instance(&Found::default())?);
                rights(context, &install.name, &there, &wanted).await?;
            }
            return Err(ContactError::failed(&there.who, "what is installed")(
                failure,
            ));
        }
    };
    if found.namespace.as_ref().is_some_and(|there| there.ending) {
        return Err(ContactError::NotNow {
            of: there.who,
            what: "the namespace catamaran-system is going away",
        }
        .into());
    }
    // One that runs in it, or one that manages it from another cluster.
    let running = found.meshes.iter().map(|(name, _)| name);
    let mut others = running
        .chain(&found.exports)
        .filter(|name| *name != install.name.as_str());
    if let Some(other) = others.next() {
        return Err(OperateError::ManagedBy {
            cluster: install.cluster.clone(),
            by: MeshName::new(other)?,
            wanted: install.name.clone(),
        });
    }
    let mut others = found
        .own
        .iter()
        .filter(|(name, _)| name != install.cluster.as_str());
    if let Some((other, _)) = others.next() {
        return Err(OperateError::BadSetting {
            text: install.cluster.to_string(),
            wanted: "the name of this cluster",
            reason: format!(
                "it is called {other} in {} already, and other instances may know it by that name: say --cluster {other}, or \
                 delete the instance before (catamaran mesh delete {}{})",
                install.name,
                install.name,
                context.option()
            ),
        });
    }
    let instance = install.instance(&found)?;
    let runs = upgrade::running(&there.access, &install.name).await;
    let runs = runs.map_err(ContactError::failed(&there.who, "what is installed"))?;
    // From one version to another there is an order to keep.
    if let Some(other) = (runs.versions.iter()).find(|runs| **runs != instance.version) {
        return Err(OperateError::OtherVersion {
            mesh: install.name.clone(),
            runs: other.clone(),
            wanted: instance.version,
            option: context.option(),
        });
    }
    Ok((there, found, instance))
}

pub(crate) async fn rights(
    context: &Contact,
    mesh: &MeshName,
    there: &Reached,
    manifests: &[Value],
) -> Result<(), OperateError> {
    let secret = install::authority(mesh, &[]);
    let wanted = manifests.iter().chain([&secret]);
    let missing = install::missing_rights(&there.access, wanted).await;
    let missing = missing.map_err(ContactError::failed(&there.who, "our own rights"))?;
    match missing.is_empty() {
        true => Ok(()),
        false => Err(OperateError::MissingRights {
            context: context.short().to_owned(),
            purpose: "install an instance",
            missing,
        }),
    }
}

/// The authority to write, if any, and what is to be said of it. Where the instance has none, that of an Istio is copied, since a pod
/// mounts no Secret of another namespace.
async fn authority(
    install: &InstallMesh,
    there: &Reached,
    found: &Found,
    instance: &Instance,
) -> Result<(Option<Value>, String), OperateError> {
    let mesh = &install.name;
    let mut istios = None;
    if let (None, Some(istio)) = (&found.authority, &instance.istio) {
        let files = install::authority_in(&there.access, istio.as_str()).await;
        let what = "the Secret cacerts of Istio's namespace";
        let files = files.map_err(ContactError::failed(&there.who, what))?;
        istios = files.map(|files| (istio, files));
    }
    let known = istios.as_ref().map(|(_, files)| files);
    let known = found.authority.as_ref().or(known);
    let (made, said) =
        kube_trust::authority(&install.roots, &install.root, mesh, &install.cluster, known)?;
    Ok(match istios {
        Some((istio, files)) => {
            let entries: Vec<(&str, &str)> = (files.iter())
                .map(|(name, text)| (name.as_str(), text.as_str()))
                .collect();
            let secret = install::authority(mesh, &entries);
            (Some(secret), format!("of {istio}: {said}"))
        }
        None => {
            let secret = made.map(|files| install::authority(mesh, &files.entries()));
            (secret, said)
        }
    })
}

pub(crate) async fn write(
    there: &Reached,
    manifests: &[Value],
    authority: Option<&Value>,
    job: &mut Job,
) -> Result<(), OperateError> {
    let mut unchanged = 0;
    for manifest in manifests {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        // The Deployment's pods wait for it.
        let first = (manifest["kind"] == "Deployment")
            .then_some(authority)
            .flatten();
        for manifest in first.into_iter().chain([manifest]) {
            let (kind, name) = (text(&manifest["kind"]), text(&manifest["metadata"]["name"]));
            let what = format!("{kind} {name}");
            let outcome = install::put(&there.access, manifest).await;
            match outcome.map_err(ContactError::failed(&there.who, &what))? {
                Outcome::Written => job.note(what),
                Outcome::Unchanged => unchanged += 1,
            }
        }
    }
    if unchanged > 0 {
        job.remark(format!("{unchanged} objects are as they should be"));
    }
    Ok(())
}

/// Waits until every control plane runs as it was written. `cause` says what a reason means, `next` what to do beside looking.
pub(crate) async fn rolled_out(
    there: &Reached,
    context: &Contact,
    mesh: &MeshName,
    patience: Duration,
    cause: impl Fn(&str) -> String,
    next: impl Fn(&str) -> String,
) -> Result<(), OperateError> {
    let start = tokio::time::Instant::now();
    let (mut unmet, mut since) = (String::new(), start);
    loop {
        let (said, stuck) = match install::rollout(&there.access, mesh).await {
            Ok(Rollout::Ready) => return Ok(()),
            Ok(Rollout::Waiting(because)) => (because, false),
            Ok(Rollout::Stuck(because)) => (because, true),
            Err(failure) => (failure.about("the control plane's Deployment"), false),
        };
        if said != unmet {
            (unmet, since) = (said, tokio::time::Instant::now());
        }
        let look = next(&format!(
            "kubectl{} --namespace catamaran-system describe pods --selector app=catamaran",
            context.option()
        ));
        if stuck && since.elapsed() >= STUCK_FOR {
            return Err(OperateError::NotHeld {
                what: format!("{mesh} does not run: {unmet}"),
                cause: cause(&unmet),
                fix: look,
            });
        }
        if start.elapsed() >= patience {
            return Err(OperateError::Timeout {
                what: format!("{mesh} runs"),
                waited: patience,
                unmet,
                held: since.elapsed(),
                look,
            });
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// What people can do about an image that does not come.
pub(crate) fn why_image(unmet: &str, image: Option<&str>) -> String {
    match (unmet.contains("Image"), image) {
        (true, Some(image)) => format!("the cluster's nodes cannot get the image {image}"),
        (true, None) => "the cluster's nodes do not have our image; load it into them, or push it to a registry that they pull from \
                         and name it with --image"
            .into(),
        (false, _) => String::new(),
    }
}
