//! `mesh create` in a cluster with an API server: all of an instance, by server-side apply. Doing it again changes nothing.

use std::path::PathBuf;
use std::time::Duration;

use catamaran_identity::{CaCerts, CaCertsFiles, ceremony};
use catamaran_kubernetes::connect::Access;
use catamaran_kubernetes::failure::Failure;
use catamaran_kubernetes::install::{self, Files, Found, Instance, Outcome, Rollout};
use catamaran_model::{ClusterId, MeshName, Namespace, NetworkId, Region, TrustDomain, Version};
use serde_json::Value;

use crate::fleet::now;
use crate::kube_trust::{self, RootFrom};
use crate::kube_way::KubeContext;
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
    pub context: KubeContext,
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
        // What is not said stays as it is.
        let region = found
            .meshes
            .iter()
            .find_map(|(name, region)| (name == self.name.as_str()).then_some(region.as_deref()?));
        let network = found.own.iter().find_map(|(name, network)| {
            (name == self.cluster.as_str()).then_some(network.as_deref()?)
        });
        let namespace = found.namespace.as_ref();
        let network = network.or_else(|| namespace?.network.as_deref());
        Ok(Instance {
            mesh: self.name.clone(),
            cluster: self.cluster.clone(),
            region: match &self.region {
                Some(region) => Some(region.clone()),
                None => region.map(Region::new).transpose()?,
            },
            network: match &self.network {
                Some(network) => Some(network.clone()),
                None => network.map(NetworkId::new).transpose()?,
            },
            istio: match &self.istio {
                Some(istio) => Some(istio.clone()),
                None => found.istio.as_deref().map(Namespace::new).transpose()?,
            },
            image: (self.image.clone()).unwrap_or_else(|| install::image(&version)),
            version,
            makes_namespace: namespace
                .is_none_or(|there| there.made_for.as_deref() == Some(self.name.as_str())),
        })
    }
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
    job.begin(&format!("look at {}", context.context));
    let looked = prepare(install).await;
    let (access, found, instance) = job.end(looked)?;
    let manifests = install::manifests(&instance);

    job.begin("have the rights to install");
    let rights = rights(install, &access, &manifests).await;
    job.end(rights)?;

    job.begin(&format!("authority of {name}"));
    let authority = match istios_authority(install, &access, &found, &instance).await {
        Ok(files) => authority(install, &found, files),
        Err(error) => Err(error),
    };
    if let Ok((_, said)) = &authority {
        job.remark(said.clone());
    }
    let (authority, _) = job.end(authority)?;

    job.begin(&format!("install {name} into {}", context.context));
    let written = write(context, &access, &manifests, authority.as_ref(), job).await;
    job.end(written)?;

    if let Some(patience) = install.wait {
        job.begin(&format!("{name} runs"));
        let ready = rolled_out(install, &access, patience).await;
        job.end(ready)?;
    }
    Ok(())
}

async fn prepare(install: &InstallMesh) -> Result<(Access, Found, Instance), OperateError> {
    let context = &install.context;
    let access = context.open()?;
    let found = match install::look(&access).await {
        Ok(found) => found,
        Err(failure) => {
            if matches!(failure, Failure::Forbidden { .. }) {
                // Who may not even look is told of everything at once.
                let wanted = install::manifests(&install.instance(&Found::default())?);
                rights(install, &access, &wanted).await?;
            }
            return Err(context.failed("what is installed", &failure));
        }
    };
    if found.namespace.as_ref().is_some_and(|there| there.ending) {
        return Err(context
            .not_now("the namespace catamaran-system is going away; try again when it is gone"));
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
                 delete the instance before (catamaran mesh delete {} --context {})",
                install.name, install.name, context.context
            ),
        });
    }
    let instance = install.instance(&found)?;
    Ok((access, found, instance))
}

async fn rights(
    install: &InstallMesh,
    access: &Access,
    manifests: &[Value],
) -> Result<(), OperateError> {
    let context = &install.context;
    let secret = install::authority(&install.name, &[]);
    let wanted = manifests.iter().chain([&secret]);
    let missing = install::missing_rights(access, wanted).await;
    let missing = missing.map_err(|failure| context.failed("our own rights", &failure))?;
    match missing.is_empty() {
        true => Ok(()),
        false => Err(OperateError::MissingRights {
            context: context.context.clone(),
            missing,
        }),
    }
}

/// The authority of an Istio, where the instance is told of one and has none itself.
async fn istios_authority(
    install: &InstallMesh,
    access: &Access,
    found: &Found,
    instance: &Instance,
) -> Result<Option<Files>, OperateError> {
    let (None, Some(istio)) = (&found.authority, &instance.istio) else {
        return Ok(None);
    };
    let files = install::authority_in(access, istio.as_str()).await;
    let what = format!("the Secret cacerts in {istio}");
    files.map_err(|failure| install.context.failed(&what, &failure))
}

/// The Secret to write, if any, and what is to be said of it. An authority that is there stays, whoever made it; that of an Istio
/// is copied, since a pod mounts no Secret of another namespace.
fn authority(
    install: &InstallMesh,
    found: &Found,
    istios: Option<Files>,
) -> Result<(Option<Value>, String), OperateError> {
    let domain = TrustDomain::default();
    let mesh = &install.name;
    if let Some(files) = found.authority.as_ref().or(istios.as_ref()) {
        let read = |name: &'static str| files.get(name).map(|text| text.to_string());
        let there = ceremony::import(mesh, read, now())?;
        let roots = there
            .bundle(&domain)
            .map(|roots| roots.fingerprints())
            .unwrap_or_default();
        if let Some(root) = kube_trust::named(&install.roots, mesh, &install.root)? {
            let wanted = root.facts().fingerprint;
            if !roots.contains(&wanted) {
                return Err(ceremony::CeremonyError::OtherRoot {
                    mesh: mesh.clone(),
                    root: wanted,
                    trusted: roots,
                }
                .into());
            }
            kube_trust::note(&install.roots, mesh, &root)?;
        }
        let root = roots
            .first()
            .map_or_else(String::new, |root| format!(", root {}", root.short()));
        let Some(istios) = istios else {
            let said = format!("the Secret cacerts that is there is used unchanged{root}");
            return Ok((None, said));
        };
        let entries: Vec<(&str, &str)> = istios
            .iter()
            .map(|(name, text)| (name.as_str(), text.as_str()))
            .collect();
        let said = format!("Istio's Secret cacerts is used unchanged{root}");
        return Ok((Some(install::authority(mesh, &entries)), said));
    }
    let (root, said) = kube_trust::take(&install.roots, mesh, &install.root)?;
    let issued = ceremony::issue_intermediate(&root, &domain, mesh, &install.cluster, now())?;
    kube_trust::note(&install.roots, mesh, &root)?;
    let files: CaCertsFiles = CaCerts::files(&issued);
    Ok((Some(install::authority(mesh, &files.entries())), said))
}

async fn write(
    context: &KubeContext,
    access: &Access,
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
            let outcome = install::put(access, manifest).await;
            match outcome.map_err(|failure| context.failed(&what, &failure))? {
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

async fn rolled_out(
    install: &InstallMesh,
    access: &Access,
    patience: Duration,
) -> Result<(), OperateError> {
    let (mesh, context) = (&install.name, &install.context);
    let start = tokio::time::Instant::now();
    let (mut unmet, mut since) = (String::new(), start);
    loop {
        let (said, stuck) = match install::rollout(access, mesh).await {
            Ok(Rollout::Ready) => return Ok(()),
            Ok(Rollout::Waiting(because)) => (because, false),
            Ok(Rollout::Stuck(because)) => (because, true),
            Err(failure) => (failure.about("the control plane's Deployment"), false),
        };
        if said != unmet {
            (unmet, since) = (said, tokio::time::Instant::now());
        }
        let look = format!(
            "kubectl --context {} --namespace catamaran-system describe pods --selector app=catamaran; then the same command \
             again, or catamaran mesh delete {mesh} --context {}",
            context.context, context.context
        );
        if stuck && since.elapsed() >= STUCK_FOR {
            return Err(OperateError::NotHeld {
                what: format!("{mesh} does not run: {unmet}"),
                cause: why_image(&unmet, install),
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
fn why_image(unmet: &str, install: &InstallMesh) -> String {
    match (unmet.contains("Image"), &install.image) {
        (true, Some(image)) => format!("the cluster's nodes cannot get the image {image}"),
        (true, None) => "the cluster's nodes do not have our image; load it into them, or push it to a registry that they pull from \
                         and name it with --image"
            .into(),
        (false, _) => String::new(),
    }
}
