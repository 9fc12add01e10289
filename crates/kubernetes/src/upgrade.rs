//! What an instance runs: the versions of its control planes, of the instances beside it, and of the sidecars of its pods.

use std::collections::{BTreeMap, BTreeSet};

use catamaran_model::{MeshName, SpiffeId, Version};
use kube::Api;
use kube::api::{DynamicObject, ListParams};
use serde_json::Value;

use crate::connect::Access;
use crate::failure::{Failure, printable};
use crate::inject::{SIDECAR, STATUS};
use crate::install::{self, INSTANCE_LABEL};

const NAMESPACE: &str = SpiffeId::SYSTEM_NAMESPACE;
const OURS: &str = "catamaran.dev/v1alpha1";
/// Pods in one answer.
const PAGE: u32 = 500;

/// What an instance runs, as it says itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Running {
    /// The versions of its control planes; none when none of them ever said so.
    pub versions: BTreeSet<Version>,
    /// Where it is in its life, as its `Mesh` says.
    pub phase: String,
    /// Why.
    pub because: String,
    /// The image of its control planes that are ready; that of its Deployment when none is.
    pub image: Option<String>,
    /// The instances beside it: cluster, name, version.
    pub peers: Vec<(String, String, Version)>,
    /// The version that its `MeshExport` tells them.
    pub told: Option<Version>,
}

/// Asks what an instance runs.
///
/// # Errors
/// Why that is not known.
pub async fn running(access: &Access, mesh: &MeshName) -> Result<Running, Failure> {
    let of_ours = |kind| install::get(access, OURS, kind, Some(NAMESPACE), mesh.as_str());
    let plain = |object: Option<DynamicObject>| object.map_or(Value::Null, |object| object.data);
    let object = plain(of_ours("Mesh").await?);
    let export = plain(of_ours("MeshExport").await?);
    let name = install::name(mesh);
    let deployment = install::get(access, "apps/v1", "Deployment", Some(NAMESPACE), &name).await?;
    let clusters = install::list(access, OURS, "Cluster", Some(NAMESPACE), "").await?;
    let clusters: Vec<(String, Value)> = clusters
        .into_iter()
        .map(|cluster| (cluster.metadata.name.unwrap_or_default(), cluster.data))
        .collect();
    let pods = control_planes(access, mesh).await?;
    let deployment = plain(deployment);
    Ok(read(&object, &export, &deployment, &pods, &clusters))
}

async fn control_planes(access: &Access, mesh: &MeshName) -> Result<Vec<DynamicObject>, Failure> {
    let selector = format!("{INSTANCE_LABEL}={mesh},app=catamaran");
    install::list(access, "v1", "Pod", Some(NAMESPACE), &selector).await
}

/// Whether a pod serves, and will go on.
fn stays(pod: &DynamicObject) -> bool {
    let conditions = pod.data["status"]["conditions"].as_array();
    let ready = (conditions.into_iter().flatten())
        .any(|condition| condition["type"] == "Ready" && condition["status"] == "True");
    ready && pod.metadata.deletion_timestamp.is_none()
}

fn read(
    mesh: &Value,
    export: &Value,
    deployment: &Value,
    pods: &[DynamicObject],
    clusters: &[(String, Value)],
) -> Running {
    let version = |value: &Value| Version::new(value.as_str()?).ok();
    let text = |value: &Value| value.as_str().map(printable).unwrap_or_default();
    let status = &mesh["status"];
    let told = version(&export["spec"]["version"]);
    let said = status["versions"].as_array().into_iter().flatten();
    let mut versions: BTreeSet<Version> = said.filter_map(version).collect();
    if versions.is_empty() {
        versions.extend(told.clone());
    }
    let conditions = status["conditions"].as_array();
    let ready = conditions
        .into_iter()
        .flatten()
        .find(|condition| condition["type"] == "Ready");
    // A version that does not come up stands in the Deployment, and what one would go back to in the pods.
    let pod = pods.iter().find(|pod| stays(pod));
    let spec = pod.map_or(
        &deployment["spec"]["template"]["spec"],
        |pod| &pod.data["spec"],
    );
    let image = &spec["containers"][0]["image"];
    let peer = |(cluster, object): &(String, Value)| {
        let status = &object["status"];
        Some((
            printable(cluster),
            printable(status["mesh"].as_str()?),
            version(&status["version"])?,
        ))
    };
    Running {
        versions,
        phase: text(&status["phase"]),
        because: ready.map_or_else(String::new, |ready| text(&ready["message"])),
        image: image.as_str().map(str::to_owned),
        peers: clusters.iter().filter_map(peer).collect(),
        told,
    }
}

/// The sidecars of a cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sidecars {
    /// How many there are.
    pub all: usize,
    /// How many of each namespace have another image.
    pub older: BTreeMap<String, usize>,
}

/// Counts the sidecars of a cluster, and those with another image than this one.
///
/// # Errors
/// Why they cannot be counted.
pub async fn sidecars(access: &Access, image: &str) -> Result<Sidecars, Failure> {
    let resource = install::resource("v1", "Pod");
    let pods: Api<DynamicObject> = Api::all_with(access.client().clone(), &resource);
    let mut found = Sidecars::default();
    let mut params = ListParams::default().limit(PAGE);
    loop {
        let page = install::within(access, pods.list(&params)).await?;
        for pod in &page.items {
            found.count(pod, image);
        }
        match page.metadata.continue_.filter(|next| !next.is_empty()) {
            Some(next) => params = params.continue_token(&next),
            None => return Ok(found),
        }
    }
}

impl Sidecars {
    fn count(&mut self, pod: &DynamicObject, image: &str) {
        let ours = (pod.metadata.annotations.as_ref())
            .is_some_and(|annotations| annotations.contains_key(STATUS));
        let ended = ["Succeeded", "Failed"].map(Value::from);
        if !ours || ended.contains(&pod.data["status"]["phase"]) {
            return;
        }
        let spec = &pod.data["spec"];
        let all = ["containers", "initContainers"].map(|list| spec[list].as_array());
        let mut all = all.into_iter().flatten().flatten();
        let Some(sidecar) = all.find(|container| container["name"] == SIDECAR) else {
            return;
        };
        self.all += 1;
        if sidecar["image"] != image {
            let namespace = pod.metadata.namespace.clone().unwrap_or_default();
            *self.older.entry(namespace).or_default() += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_runs_is_what_is_said_and_peers_are_those_that_say_who_they_are() {
        let version = |text: &str| Version::new(text).unwrap();
        let mesh = json!({"status": {"phase": "Updating", "versions": ["0.1.0", "0.2.0"], "conditions": [
            {"type": "Other", "message": "x"}, {"type": "Ready", "message": "on its way"}]}});
        let export = json!({"spec": {"version": "0.1.0"}});
        let image = json!({"spec": {"template": {"spec": {"containers": [{"image": "c:typo"}]}}}});
        let clusters = [
            ("cluster-1".to_owned(), json!({"status": {}})),
            (
                "cluster-2".to_owned(),
                json!({"status": {"mesh": "mesh-2", "version": "0.3.0"}}),
            ),
        ];
        let seen = read(&mesh, &export, &image, &[], &clusters);
        assert_eq!(
            seen.versions,
            [version("0.1.0"), version("0.2.0")].into_iter().collect()
        );
        assert_eq!(
            (seen.phase.as_str(), seen.because.as_str()),
            ("Updating", "on its way")
        );
        assert_eq!(seen.image.as_deref(), Some("c:typo"));
        let peer = ("cluster-2".into(), "mesh-2".into(), version("0.3.0"));
        assert_eq!(seen.peers, [peer]);
        // One that has not said anything yet was told of before, or never.
        let seen = read(&Value::Null, &export, &image, &[], &[]);
        assert_eq!(seen.versions, [version("0.1.0")].into_iter().collect());
        let seen = read(&Value::Null, &Value::Null, &Value::Null, &[], &[]);
        assert_eq!(seen, Running::default());
        // The way back leads to what runs, not to what does not come up.
        let pod = |image: &str, ready: &str| -> DynamicObject {
            let pod = json!({
                "metadata": {"name": image}, "spec": {"containers": [{"image": image}]},
                "status": {"conditions": [{"type": "Ready", "status": ready}]},
            });
            serde_json::from_value(pod).unwrap()
        };
        let mut going = pod("c:0", "True");
        going.metadata.deletion_timestamp =
            serde_json::from_value(json!("2026-11-24T00:00:00Z")).unwrap();
        let pods = [going, pod("c:typo", "False"), pod("c:1", "True")];
        let seen = read(&Value::Null, &export, &image, &pods, &[]);
        assert_eq!(seen.image.as_deref(), Some("c:1"));
    }

    #[test]
    fn sidecars_are_counted_by_their_image_wherever_they_stand() {
        let pod = |namespace: &str, list: &str, image: &str| -> DynamicObject {
            let mut pod = json!({
                "metadata": {"namespace": namespace, "annotations": {"sidecar.istio.io/status": "{}"}},
                "spec": {"containers": [{"name": "app", "image": "app:1"}]},
            });
            pod["spec"][list] = json!([{"name": "istio-proxy", "image": image}]);
            serde_json::from_value(pod).unwrap()
        };
        let mut found = Sidecars::default();
        found.count(&pod("a", "initContainers", "c:1"), "c:2");
        found.count(&pod("a", "containers", "c:1"), "c:2");
        found.count(&pod("b", "containers", "c:2"), "c:2");
        // Those of another mesh, and those that have ended.
        let mut other = pod("b", "containers", "istio/proxyv2:1");
        other.metadata.annotations = None;
        found.count(&other, "c:2");
        let mut ended = pod("b", "containers", "c:1");
        ended.data["status"]["phase"] = json!("Succeeded");
        found.count(&ended, "c:2");
        assert_eq!(found.all, 3);
        assert_eq!(found.older, [("a".to_owned(), 2)].into_iter().collect());
    }
}
