//! Steps 1 to 4 on two given clusters.

use std::str::FromStr;
use std::time::Duration;

use catamaran_kubernetes::gateway::ServiceType;
use catamaran_kubernetes::inject::documents;
use catamaran_kubernetes::kubeconfig::Allowed;
use catamaran_kubernetes::{sight, workload};
use catamaran_model::Region;
use serde_json::{Value, json};

use super::{NAMESPACE, PATIENCE, Side, Stage};
use crate::demo::deploy::{CLUSTER_1, CLUSTER_2, Manifest};
use crate::demo::stage::not_held;
use crate::{
    AssignNetworks, EnrolCluster, InstallMesh, Job, Means, NetworkSetting, OperateError,
    ROLLOUT_PATIENCE, RootFrom, assign_networks, enrol_cluster, install_mesh, wait,
};

/// How long pods may take to come up or go, their images' way to the node included.
pub(super) const PODS_PATIENCE: Duration = Duration::from_secs(180);

/// The sample's images by the names that public registries have them under.
const IMAGES: [(&str, &str); 3] = [
    ("curl:8.1.2", "docker.io/curlimages/curl:8.1.2"),
    (
        "examples-helloworld-v1:1.0",
        "docker.io/istio/examples-helloworld-v1:1.0",
    ),
    (
        "examples-helloworld-v2:1.0",
        "docker.io/istio/examples-helloworld-v2:1.0",
    ),
];

pub(super) async fn two_instances(stage: &mut Stage<'_>) -> Result<(), OperateError> {
    let first = instance(stage, 0, None).await?;
    let second = instance(stage, 1, Some(0)).await?;
    if first.is_empty() || first != second {
        return Err(not_held(
            "mesh-1 and mesh-2 are not on one root",
            format!(
                "mesh-1 trusts {}, mesh-2 trusts {}",
                first.join(", "),
                second.join(", ")
            ),
            "see `catamaran trust show --context ONE --context TWO`",
        ));
    }
    stage.job.remark("fingerprints of both roots are equal");
    Ok(())
}

async fn instance(
    stage: &mut Stage<'_>,
    n: usize,
    reuse: Option<usize>,
) -> Result<Vec<String>, OperateError> {
    let side = stage.sides[n].clone();
    let root = reuse.map(|other| stage.sides[other].mesh.clone());
    let reuse = root
        .as_ref()
        .map_or(String::new(), |other| format!(" --reuse-root {other}"));
    let image = stage.demo.image.as_ref();
    let image = image.map_or(String::new(), |image| format!(" --image {image}"));
    let (mesh, cluster, region) = (&side.mesh, &side.cluster, side.region);
    stage.job.command(format!(
        "catamaran mesh create {mesh}{} --cluster {cluster} --region {region}{reuse}{image}",
        side.option()
    ));
    let install = InstallMesh {
        context: side.contact.clone(),
        name: mesh.clone(),
        cluster: cluster.clone(),
        region: Some(Region::new(region)?),
        version: None,
        network: None,
        image: stage.demo.image.clone(),
        istio: None,
        replicas: None,
        roots: stage.demo.roots.clone(),
        root: root.map_or(RootFrom::New, RootFrom::Instance),
        wait: Some(ROLLOUT_PATIENCE),
    };
    let mut inner = Job::unwatched();
    install_mesh(&install, &mut inner).await?;
    let row = stage.running(&side, |_| None).await?;
    let said = inner
        .steps()
        .iter()
        .find(|step| step.name.starts_with("authority"));
    let said = said.map_or_else(String::new, |step| {
        let texts: Vec<&str> = step.notes.iter().map(|note| note.text.as_str()).collect();
        format!(" ({})", texts.join(", "))
    });
    stage.job.note(format!("{mesh} creating → running{said}"));
    Ok(row.roots)
}

pub(super) async fn each_other(stage: &mut Stage<'_>) -> Result<(), OperateError> {
    for (here, there) in [(0, 1), (1, 0)] {
        let (here, there) = (stage.sides[here].clone(), stage.sides[there].clone());
        let (mesh, cluster) = (&here.mesh, &there.cluster);
        let server = there.server.as_ref();
        let server = server.map_or(String::new(), |url| format!(" --server {url}"));
        stage.job.command(format!(
            "catamaran cluster add {cluster} --mesh {mesh}{} --discovery-only --remote-context {}{server}",
            here.option(),
            there.contact.short()
        ));
        let enrol = EnrolCluster {
            mesh: mesh.clone(),
            cluster: cluster.clone(),
            home: here.contact.clone(),
            means: Means::Reader {
                remote: there.contact.clone(),
                server: there.server.clone(),
            },
            network: None,
            allowed: Allowed::default(),
        };
        let mut inner = Job::unwatched();
        enrol_cluster(&enrol, &mut inner).await?;
        for note in inner.steps().iter().flat_map(|step| &step.notes) {
            if note.text.starts_with('!') {
                stage.job.remark(note.text.clone());
            }
        }
        let name = cluster.as_str();
        let fresh = |row: &crate::MeshRow| {
            let mut known = row.clusters.iter();
            let known = known.find(|member| member.name == name);
            let fresh = known.and_then(|member| member.freshness.as_deref());
            (fresh != Some("fresh")).then(|| format!("what it knows of {name} is not fresh"))
        };
        stage.running(&here, fresh).await?;
        stage.job.note(format!(
            "{mesh} updating → running, sees {cluster} (read only)"
        ));
    }
    Ok(())
}

pub(super) async fn two_networks(stage: &mut Stage<'_>) -> Result<(), OperateError> {
    for own in [0, 1] {
        let side = stage.sides[own].clone();
        let settings: Vec<String> = (stage.sides.iter())
            .map(|one| {
                let gateway = if one.cluster == side.cluster {
                    ",gateway"
                } else {
                    ""
                };
                format!("{}={}{gateway}", one.cluster, one.network)
            })
            .collect();
        stage.job.command(format!(
            "catamaran network set --mesh {}{} {}",
            side.mesh,
            side.option(),
            settings.join(" ")
        ));
        let settings: Vec<NetworkSetting> = settings
            .iter()
            .map(|text| NetworkSetting::from_str(text))
            .collect::<Result<_, _>>()?;
        let assign = AssignNetworks {
            remote: None,
            mesh: side.mesh.clone(),
            home: side.contact.clone(),
            settings,
            service: ServiceType::LoadBalancer,
            image: None,
            control_plane: None,
            patience: Some(PATIENCE),
        };
        let mut inner = Job::unwatched();
        assign_networks(&assign, &mut inner).await?;
        // What the wait for the gateway ended with is where it is.
        let at = inner.steps().last().and_then(|step| step.notes.first());
        let at = at.map_or_else(String::new, |note| format!(" at {}", note.text));
        stage.job.note(format!(
            "{}: {} in {}, with a gateway{at}",
            side.mesh, side.cluster, side.network
        ));
    }
    for (own, other) in [(0, 1), (1, 0)] {
        let (side, cluster) = (stage.sides[own].clone(), stage.sides[other].cluster.clone());
        let gateways = |row: &crate::MeshRow| {
            let mut known = row.clusters.iter();
            let known = known.find(|member| member.name == cluster.as_str());
            known.map_or_else(Vec::new, |member| member.gateways.clone())
        };
        let missing = |row: &crate::MeshRow| {
            gateways(row)
                .is_empty()
                .then(|| format!("it knows no gateway of {cluster}"))
        };
        let row = stage.running(&side, missing).await?;
        stage.job.note(format!(
            "{} updating → running, reaches {cluster} through {}",
            side.mesh,
            gateways(&row).join(", ")
        ));
    }
    Ok(())
}

pub(super) async fn the_sample(stage: &mut Stage<'_>) -> Result<(), OperateError> {
    for side in stage.sides.clone() {
        inject(stage, &side).await?;
    }
    let [one, two] = stage.sides.clone();
    put(stage, &one, &CLUSTER_1).await?;
    put(stage, &two, &CLUSTER_2).await?;
    pods(&one, &[("sleep", 1), ("helloworld-v1", 1)]).await?;
    let ready = "cluster-1: sleep and helloworld-v1 are ready, each with a sidecar";
    stage.job.note(ready);
    pods(&two, &[("helloworld-v2", 1)]).await?;
    let ready = "cluster-2: helloworld-v2 is ready, with a sidecar";
    stage.job.note(ready);
    for side in [&one, &two] {
        let row = stage.running(side, |_| None).await?;
        let proxies = row.proxies.unwrap_or_default();
        stage.job.note(format!(
            "{}: {} of {} proxies are current",
            side.mesh, proxies.current, proxies.connected
        ));
    }
    Ok(())
}

async fn inject(stage: &mut Stage<'_>, side: &Side) -> Result<(), OperateError> {
    let look = format!("see `catamaran check{}`", side.option());
    wait::until("the webhook", PATIENCE, &look, || async {
        match sight::webhook(&side.access, &side.mesh).await {
            Ok(true) => Ok(()),
            Ok(false) => Err(format!("{} is not asked about new pods", side.mesh)),
            Err(failure) => Err(failure.about("the webhook")),
        }
    })
    .await?;
    let option = side.option();
    stage.job.command(format!(
        "kubectl{option} create namespace {NAMESPACE} && kubectl{option} label namespace {NAMESPACE} istio-injection=enabled"
    ));
    let labels = json!({"istio-injection": "enabled", "app.kubernetes.io/managed-by": "catamaran"});
    let made = workload::put_namespace(&side.access, NAMESPACE, labels).await;
    made.map_err(side.failed("the namespace of the sample"))?;
    stage.job.note(format!(
        "new pods of {NAMESPACE} get a sidecar of {}",
        side.mesh
    ));
    Ok(())
}

pub(super) async fn put(
    stage: &mut Stage<'_>,
    side: &Side,
    manifest: &Manifest,
) -> Result<(), OperateError> {
    stage.job.command(format!(
        "kubectl{} apply -n {NAMESPACE} -f {}",
        side.option(),
        manifest.path
    ));
    let objects = documents(manifest.text);
    let objects = objects.map_err(|error| {
        not_held(
            format!("{} cannot be read", manifest.path),
            error.to_string(),
            "",
        )
    })?;
    let mut written = 0;
    for mut object in objects {
        name_images(&mut object);
        let put = workload::put(&side.access, NAMESPACE, &object).await;
        put.map_err(side.failed("the sample's objects"))?;
        written += 1;
    }
    stage
        .job
        .note(format!("{written} objects written in {}", side.cluster));
    Ok(())
}

/// Images without a registry are those of public ones here.
fn name_images(object: &mut Value) {
    let containers = object.pointer_mut("/spec/template/spec/containers");
    let containers = containers.and_then(Value::as_array_mut);
    for container in containers.into_iter().flatten() {
        let image = container["image"].as_str().unwrap_or_default();
        let public = IMAGES.iter().find(|(name, _)| *name == image);
        if let Some((_, public)) = public {
            container["image"] = json!(public);
        }
    }
}

/// Waits until Deployments have as many ready pods as named, each with a sidecar, and no other ones.
pub(super) async fn pods(side: &Side, wanted: &[(&str, usize)]) -> Result<(), OperateError> {
    let what = format!("pods of {}", side.cluster);
    let look = format!("see kubectl{} describe pods -n {NAMESPACE}", side.option());
    wait::until(&what, PODS_PATIENCE, &look, || missing(side, wanted)).await
}

async fn missing(side: &Side, wanted: &[(&str, usize)]) -> Result<(), String> {
    for (name, count) in wanted {
        let pods = workload::pods_of(&side.access, NAMESPACE, name).await;
        let pods = pods.map_err(|failure| failure.about("pods"))?;
        let pods = pods.unwrap_or_default();
        if let Some(plain) = pods.iter().find(|pod| !pod.sidecar) {
            return Err(format!("pod {} has no sidecar", plain.name));
        }
        let ready = pods.iter().filter(|pod| pod.ready && !pod.ending).count();
        if ready == *count && pods.len() == *count {
            continue;
        }
        let why = pods.iter().find_map(|pod| pod.waiting.as_ref());
        let why = why.map_or(String::new(), |reason| format!(" ({reason})"));
        return Err(format!(
            "deploy/{name} has {ready} ready of {} pods, {count} are wanted{why}",
            pods.len()
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sample_names_images_that_public_registries_have() {
        let mut seen = Vec::new();
        for manifest in [
            &CLUSTER_1,
            &CLUSTER_2,
            &crate::demo::deploy::SLEEP_CLUSTER_2,
        ] {
            for mut object in documents(manifest.text).unwrap() {
                name_images(&mut object);
                let image = object.pointer("/spec/template/spec/containers/0/image");
                seen.extend(image.and_then(Value::as_str).map(str::to_owned));
            }
        }
        assert_eq!(seen.len(), 4, "{seen:?}");
        assert!(
            seen.iter().all(|image| image.starts_with("docker.io/")),
            "{seen:?}"
        );
    }
}
