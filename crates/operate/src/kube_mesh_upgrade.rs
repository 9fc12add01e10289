//! `mesh upgrade`: one instance, in a cluster with an API server, to another version. What goes last stands on what went first:
//! definitions, rights, then one control plane at a time, then the gateway. Sidecars stay as they are until their pods go.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use catamaran_kubernetes::gateway::{self, Gateway};
use catamaran_kubernetes::install::{self, Found, Instance};
use catamaran_kubernetes::upgrade::{self, Running};
use catamaran_model::{ClusterId, MeshName, Version};
use serde_json::Value;

use crate::contact::{Contact, ContactError, Reached};
use crate::kube_mesh_create::{as_it_is, rights, rolled_out, why_image, write};
use crate::{Job, OUR_VERSION, OperateError, wait};

/// What `mesh upgrade` is told.
#[derive(Debug, Clone)]
pub struct UpgradeMesh {
    /// The cluster that the instance runs in.
    pub context: Contact,
    /// The instance.
    pub name: MeshName,
    /// The version to go to; this program's when not said.
    pub version: Option<Version>,
    /// The image; the version's own when not said.
    pub image: Option<String>,
    /// Go also where versions are not made for each other.
    pub force: bool,
    /// How long each part may take.
    pub patience: Duration,
}

/// All that is known before anything is written.
struct Plan {
    there: Reached,
    running: Running,
    instance: Instance,
    /// The gateway as it will be, or why it is left alone.
    gateway: Result<Option<Gateway>, String>,
}

impl Plan {
    fn manifests(&self) -> Vec<Value> {
        let mut all = install::manifests(&self.instance);
        if let Ok(Some(gateway)) = &self.gateway {
            all.extend(gateway::manifests(gateway));
        }
        all
    }
}

/// What [`upgrade_mesh`] would write. The cluster is asked, and nothing is touched.
///
/// # Errors
/// Why it would be refused.
pub async fn upgrade_manifests(upgrade: &UpgradeMesh) -> Result<Vec<Value>, OperateError> {
    let plan = plan(upgrade).await?;
    allowed(upgrade, &plan.running, &plan.instance.version)?;
    Ok(plan.manifests())
}

/// Takes an instance to a version. What runs goes on until something of the new version is ready in its place, so a version that
/// does not come up takes nothing away.
///
/// # Errors
/// Why it is not there, and how to go back.
pub async fn upgrade_mesh(upgrade: &UpgradeMesh, job: &mut Job) -> Result<(), OperateError> {
    let (name, context) = (&upgrade.name, &upgrade.context);
    job.begin(&format!("look at {}", context.short()));
    let planned = plan(upgrade).await;
    let planned = planned.and_then(|plan| {
        allowed(upgrade, &plan.running, &plan.instance.version)?;
        Ok(plan)
    });
    if let Ok(plan) = &planned {
        job.remark(stands(name, &plan.running));
    }
    let plan = job.end(planned)?;
    let Plan {
        there, instance, ..
    } = &plan;
    let (definitions, rest): (Vec<_>, Vec<_>) = (install::manifests(instance).into_iter())
        .partition(|one| one["kind"] == "CustomResourceDefinition");
    // What the pods of the new version need is there before them, and what is asked of them after.
    let after = [
        "Mesh",
        "Cluster",
        "Service",
        "PodDisruptionBudget",
        "Deployment",
    ];
    let (last, first): (Vec<_>, Vec<_>) = rest
        .into_iter()
        .partition(|one| after.iter().any(|kind| one["kind"] == *kind));

    job.begin("have the rights to upgrade");
    let rights = rights(context, name, there, &plan.manifests()).await;
    job.end(rights)?;

    job.begin(&format!("definitions of {}", instance.version));
    let written = write(there, &definitions, None, job).await;
    job.end(written)?;

    job.begin(&format!("rights of {name}"));
    let written = write(there, &first, None, job).await;
    job.end(written)?;

    job.begin(&format!("control planes of {name}, one at a time"));
    let written = match write(there, &last, None, job).await {
        Ok(()) => control_planes(upgrade, &plan).await,
        Err(error) => Err(error),
    };
    job.end(written)?;

    job.begin(&format!("{name} runs {}", instance.version));
    let runs = runs(upgrade, &plan).await;
    job.end(runs)?;

    match &plan.gateway {
        Ok(None) => {}
        Ok(Some(gateway)) => {
            job.begin(&format!("gateway of {}, one at a time", gateway.cluster));
            let deployed = deploy(upgrade, &plan, gateway, job).await;
            job.end(deployed)?;
        }
        Err(why) => {
            job.begin(&format!("gateway of {}", instance.cluster));
            job.remark(format!(
                "! it is left as it is, for network set did not make it: {why}"
            ));
            job.end(Ok::<_, OperateError>(()))?;
        }
    }

    job.begin("see which sidecars are older");
    sidecars(upgrade, &plan, job).await;
    job.end(Ok::<_, OperateError>(()))
}

async fn plan(upgrade: &UpgradeMesh) -> Result<Plan, OperateError> {
    let (context, name) = (&upgrade.context, &upgrade.name);
    let there = context.reach()?;
    let failed = || ContactError::failed(&there.who, "what is installed");
    let found = install::look(&there.access).await.map_err(failed())?;
    let cluster = home(upgrade, &found)?;
    let running = upgrade::running(&there.access, name)
        .await
        .map_err(failed())?;
    let version = target(upgrade)?;
    let instance = as_it_is(&found, name, &cluster, version, upgrade.image.clone())?;
    let gateway = gateway::found(&there.access, name)
        .await
        .map_err(failed())?;
    let gateway = gateway.map(|found| {
        found.map(|gateway| Gateway {
            image: instance.image.clone(),
            ..gateway
        })
    });
    Ok(Plan {
        there,
        running,
        instance,
        gateway,
    })
}

/// The name of the instance's own cluster; the instance must be there.
fn home(upgrade: &UpgradeMesh, found: &Found) -> Result<ClusterId, OperateError> {
    let name = &upgrade.name;
    if !found.meshes.iter().any(|(known, _)| known == name.as_str()) {
        return Err(OperateError::UnknownMesh {
            name: name.clone(),
            purpose: "",
            known: (found.meshes.iter())
                .map(|(name, _)| (name.clone(), String::new()))
                .collect(),
        });
    }
    match &found.own[..] {
        [(cluster, _)] => Ok(ClusterId::new(cluster)?),
        own => {
            let names: Vec<&str> = own.iter().map(|(name, _)| name.as_str()).collect();
            Err(OperateError::NotHeld {
                what: format!("{name} does not say which cluster it runs in"),
                cause: format!(
                    "one Cluster without a credential is its own, and there are: {}",
                    match names.is_empty() {
                        true => "none".into(),
                        false => names.join(", "),
                    }
                ),
                fix: format!(
                    "catamaran mesh create {name}{} --cluster CLUSTER writes it again",
                    upgrade.context.option()
                ),
            })
        }
    }
}

/// The version to go to, of which this program knows what it needs: its own, and its neighbour before it.
fn target(upgrade: &UpgradeMesh) -> Result<Version, OperateError> {
    let ours = Version::new(OUR_VERSION)?;
    let Some(wanted) = &upgrade.version else {
        return Ok(ours);
    };
    let knows = *wanted == ours || (wanted.is_neighbour(&ours) && wanted.line() <= ours.line());
    match knows || upgrade.force {
        true => Ok(wanted.clone()),
        false => Err(OperateError::UnknownVersion {
            version: wanted.clone(),
            installed: vec![format!("{ours}, and the minor before it")],
        }),
    }
}

/// Refuses what is too far from what runs, here and beside.
fn allowed(upgrade: &UpgradeMesh, running: &Running, wanted: &Version) -> Result<(), OperateError> {
    if upgrade.force {
        return Ok(());
    }
    let far = |runs: &&Version| !runs.is_neighbour(wanted);
    if let Some(runs) = running.versions.iter().find(far) {
        return Err(OperateError::VersionSkipped {
            mesh: upgrade.name.clone(),
            runs: runs.clone(),
            wanted: wanted.clone(),
        });
    }
    let apart = |(_, _, runs): &&(String, String, Version)| !runs.is_neighbour(wanted);
    match running.peers.iter().find(apart) {
        None => Ok(()),
        Some((cluster, peer, runs)) => Err(OperateError::VersionsApart {
            mesh: upgrade.name.clone(),
            wanted: wanted.clone(),
            peer: peer.clone(),
            cluster: cluster.clone(),
            runs: runs.clone(),
        }),
    }
}

fn versions(of: &BTreeSet<Version>) -> String {
    let all: Vec<&str> = of.iter().map(Version::as_str).collect();
    match all.is_empty() {
        true => "nothing that it told of".into(),
        false => all.join(" and "),
    }
}

fn stands(name: &MeshName, running: &Running) -> String {
    let image = running.image.as_deref().unwrap_or("no image");
    let mut said = format!("{name} runs {}, image {image}", versions(&running.versions));
    for (cluster, peer, version) in &running.peers {
        said += &format!("; {peer} in {cluster} runs {version}");
    }
    said
}

/// The command that goes back to what ran.
fn back(upgrade: &UpgradeMesh, running: &Running) -> Option<String> {
    let version = running.versions.first()?;
    let image = running.image.as_ref()?;
    Some(format!(
        "to go back: catamaran mesh upgrade {}{} --version {version} --image {image}",
        upgrade.name,
        upgrade.context.option()
    ))
}

async fn control_planes(upgrade: &UpgradeMesh, plan: &Plan) -> Result<(), OperateError> {
    let cause = |unmet: &str| {
        let why = why_image(unmet, upgrade.image.as_deref());
        let why = match why.is_empty() {
            true => String::new(),
            false => format!("{why}; "),
        };
        format!(
            "{why}the control planes of {} that ran go on meanwhile",
            versions(&plan.running.versions)
        )
    };
    let next = |look: &str| match back(upgrade, &plan.running) {
        Some(back) => format!("{look}; {back}"),
        None => look.to_owned(),
    };
    let (name, context) = (&upgrade.name, &upgrade.context);
    rolled_out(&plan.there, context, name, upgrade.patience, cause, next).await
}

/// Waits until the control planes themselves say that they are what was asked for.
async fn runs(upgrade: &UpgradeMesh, plan: &Plan) -> Result<(), OperateError> {
    let (name, wanted) = (&upgrade.name, &plan.instance.version);
    let look = format!(
        "kubectl{} get meshes,meshexports -n catamaran-system -o wide",
        upgrade.context.option()
    );
    let last = Mutex::new(None);
    let waited = wait::until(
        &format!("{name} runs {wanted}"),
        upgrade.patience.min(SAID_WITHIN),
        &look,
        || async {
            let now = upgrade::running(&plan.there.access, name).await;
            let now = now.map_err(|failure| failure.about("the instance's objects"))?;
            let all = now.versions.iter().all(|version| version == wanted);
            // What else is wrong with it is no matter of its version.
            let settled = !["Updating", "Pending"].contains(&&*now.phase);
            let said = format!("{} {}", now.phase, now.because);
            let told = now.told.as_ref() == Some(wanted);
            *last.lock().unwrap_or_else(PoisonError::into_inner) = now.told;
            (all && settled && told).then_some(()).ok_or(said)
        },
    )
    .await;
    let told = last.into_inner().unwrap_or_else(PoisonError::into_inner);
    match (waited, told) {
        (Err(OperateError::Timeout { .. }), Some(told)) if told != *wanted => {
            let image = &plan.instance.image;
            Err(OperateError::NotHeld {
                what: format!("the program in {image} is {told}, not {wanted}"),
                cause: format!("every control plane of {name} runs that image now"),
                fix: format!(
                    "name the image of {wanted} with --image, or the version that it has with --version; {}",
                    back(upgrade, &plan.running).unwrap_or_default()
                ),
            })
        }
        (waited, _) => waited,
    }
}

/// A control plane looks at its own cluster every two seconds, and tells of itself when it changes.
const SAID_WITHIN: Duration = Duration::from_secs(45);

async fn deploy(
    upgrade: &UpgradeMesh,
    plan: &Plan,
    gateway: &Gateway,
    job: &mut Job,
) -> Result<(), OperateError> {
    let failed = ContactError::failed(&plan.there.who, "the gateway");
    gateway::deploy(&plan.there.access, gateway, |object| job.note(object))
        .await
        .map_err(failed)?;
    let look = format!(
        "kubectl{} --namespace catamaran-system describe pods --selector app=eastwest-gateway; those that ran go on \
         meanwhile; {}",
        upgrade.context.option(),
        back(upgrade, &plan.running).unwrap_or_default()
    );
    let what = format!("the gateway of {}", gateway.cluster);
    wait::until(&what, upgrade.patience, &look, || async {
        match gateway::standing(&plan.there.access).await {
            Ok(now) if now.ready >= gateway::REPLICAS && now.older == 0 => Ok(()),
            Ok(now) => Err(format!(
                "{} of {} replicas are ready, {} are older",
                now.ready,
                gateway::REPLICAS,
                now.older
            )),
            Err(failure) => Err(failure.about("the gateway")),
        }
    })
    .await
}

/// The instance is where it should be, so what cannot be counted is only said.
async fn sidecars(upgrade: &UpgradeMesh, plan: &Plan, job: &mut Job) {
    let counted = match upgrade::sidecars(&plan.there.access, &plan.instance.image).await {
        Ok(counted) => counted,
        Err(failure) => {
            let why = failure.about("pods");
            return job.remark(format!("! they cannot be counted: {why}"));
        }
    };
    let older: usize = counted.older.values().sum();
    if older == 0 {
        return job.remark(format!("{} sidecars, none of them older", counted.all));
    }
    let places: Vec<String> = (counted.older.iter())
        .map(|(namespace, count)| format!("{namespace} {count}"))
        .collect();
    job.remark(format!(
        "! {older} of {} sidecars are older ({}) and stay so until their pods are replaced: kubectl{} rollout restart \
         deployment -n NAMESPACE",
        counted.all,
        places.join(", "),
        upgrade.context.option()
    ));
}

#[cfg(test)]
mod tests;
