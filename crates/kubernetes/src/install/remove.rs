//! All of an installation goes, in the order in which nothing is left waiting for what is gone.

use std::time::Duration;

use catamaran_model::MeshName;

use super::{
    INSTANCE_LABEL, MADE_FOR, NAMESPACE, RBAC, definitions, delete, get, list, resource, target,
};
use crate::connect::Access;
use crate::failure::Failure;
use crate::inject::ROOTS;
use crate::write::ROOTS_LABEL;

/// How long pods and the namespace may take to end.
const ENDING: Duration = Duration::from_secs(90);
const OURS: &str = "catamaran.dev/v1alpha1";

/// Kinds whose objects of an instance carry its label, whatever deployed them. What the API server asks goes first: a webhook
/// without its server would be in everybody's way.
fn labelled() -> Vec<(String, &'static str, bool)> {
    let rbac = format!("{RBAC}/v1");
    let admission = "admissionregistration.k8s.io/v1".to_owned();
    vec![
        (admission.clone(), "MutatingWebhookConfiguration", false),
        (admission, "ValidatingWebhookConfiguration", false),
        ("apps/v1".into(), "Deployment", true),
        ("policy/v1".into(), "PodDisruptionBudget", true),
        ("v1".into(), "Service", true),
        ("v1".into(), "Secret", true),
        ("v1".into(), "ConfigMap", true),
        (rbac.clone(), "RoleBinding", true),
        (rbac.clone(), "Role", true),
        (rbac.clone(), "ClusterRoleBinding", false),
        (rbac, "ClusterRole", false),
        ("v1".into(), "ServiceAccount", true),
        ("coordination.k8s.io/v1".into(), "Lease", true),
    ]
}

/// What keeps our namespace: kinds that people put there, and names that every namespace has.
const KEEPING: [(&str, &str); 11] = [
    ("v1", "Pod"),
    ("v1", "Service"),
    ("v1", "Secret"),
    ("v1", "ConfigMap"),
    ("v1", "ServiceAccount"),
    ("v1", "PersistentVolumeClaim"),
    ("apps/v1", "Deployment"),
    ("apps/v1", "StatefulSet"),
    ("apps/v1", "DaemonSet"),
    ("batch/v1", "Job"),
    ("rbac.authorization.k8s.io/v1", "Role"),
];
const IN_EVERY_NAMESPACE: [&str; 4] = [
    "default",
    "kube-root-ca.crt",
    "istio-ca-root-cert",
    "openshift-service-ca.crt",
];

/// Takes an instance out of the cluster; `step` hears what went, and what stays and why. What is gone already is no failure.
///
/// # Errors
/// Why it is not gone; what went stays gone, and the same call goes on.
pub async fn remove(
    access: &Access,
    mesh: &MeshName,
    mut step: impl FnMut(String),
) -> Result<(), Failure> {
    let selector = format!("{INSTANCE_LABEL}={mesh}");
    by_label(access, &selector, &mut step).await?;
    pods_ended(access, &selector).await?;
    // A control plane that was not gone yet may have written its webhook again.
    by_label(access, &selector, &mut step).await?;
    objects(access, mesh, &mut step).await?;
    roots(access, &mut step).await?;
    let others = list(access, OURS, "Mesh", None, "").await?;
    match others.is_empty() {
        true => {
            for definition in definitions() {
                let (resource, name) = target(&definition);
                if delete(access, &resource, None, &name).await? {
                    step(format!("{} {name}", resource.kind));
                }
            }
        }
        false => step("the definitions stay, for another instance".into()),
    }
    namespace(access, mesh, &mut step).await
}

async fn by_label(
    access: &Access,
    selector: &str,
    step: &mut impl FnMut(String),
) -> Result<(), Failure> {
    for (version, kind, namespaced) in labelled() {
        // The right to read Istio's secrets is where Istio is.
        let within = (namespaced && !kind.starts_with("Role")).then_some(NAMESPACE);
        for object in list(access, &version, kind, within, selector).await? {
            let name = object.metadata.name.unwrap_or_default();
            let namespace = object.metadata.namespace.as_deref();
            if delete(access, &resource(&version, kind), namespace, &name).await? {
                step(format!("{kind} {name}"));
            }
        }
    }
    Ok(())
}

/// They would write again what goes.
async fn pods_ended(access: &Access, selector: &str) -> Result<(), Failure> {
    let wait = async {
        loop {
            if list(access, "v1", "Pod", Some(NAMESPACE), selector)
                .await?
                .is_empty()
            {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
    };
    let waited = tokio::time::timeout(ENDING, wait).await;
    waited.unwrap_or(Err(Failure::Slow { limit: ENDING }))
}

/// Our kinds, and the credentials for the clusters that they name.
async fn objects(
    access: &Access,
    mesh: &MeshName,
    step: &mut impl FnMut(String),
) -> Result<(), Failure> {
    let here = Some(NAMESPACE);
    for kind in ["MeshExport", "Mesh"] {
        if delete(access, &resource(OURS, kind), here, mesh.as_str()).await? {
            step(format!("{kind} {mesh}"));
        }
    }
    // Clusters without an instance say nothing to anybody.
    if !list(access, OURS, "Mesh", here, "").await?.is_empty() {
        return Ok(());
    }
    for cluster in list(access, OURS, "Cluster", here, "").await? {
        let name = cluster.metadata.name.unwrap_or_default();
        if delete(access, &resource(OURS, "Cluster"), here, &name).await? {
            step(format!("Cluster {name}"));
        }
        let secret = format!("istio-remote-secret-{name}");
        if cluster.data["spec"]["secret"] == secret
            && delete(access, &resource("v1", "Secret"), here, &secret).await?
        {
            step(format!("Secret {secret}"));
        }
    }
    Ok(())
}

/// The roots of trust that the control plane wrote into namespaces.
async fn roots(access: &Access, step: &mut impl FnMut(String)) -> Result<(), Failure> {
    let selector = format!("{}={}", ROOTS_LABEL.0, ROOTS_LABEL.1);
    let mut gone = 0;
    for map in list(access, "v1", "ConfigMap", None, &selector).await? {
        let place = map.metadata.namespace.unwrap_or_default();
        if map.metadata.name.as_deref() == Some(ROOTS.0)
            && delete(access, &resource("v1", "ConfigMap"), Some(&place), ROOTS.0).await?
        {
            gone += 1;
        }
    }
    if gone > 0 {
        step(format!("ConfigMap {} in {gone} namespaces", ROOTS.0));
    }
    Ok(())
}

async fn namespace(
    access: &Access,
    mesh: &MeshName,
    step: &mut impl FnMut(String),
) -> Result<(), Failure> {
    let Some(found) = get(access, "v1", "Namespace", None, NAMESPACE).await? else {
        return Ok(());
    };
    let notes = found.metadata.annotations.unwrap_or_default();
    if notes.get(MADE_FOR).map(String::as_str) != Some(mesh.as_str()) {
        step(format!("namespace {NAMESPACE} stays: it was there before"));
        return Ok(());
    }
    for (version, kind) in KEEPING {
        for object in list(access, version, kind, Some(NAMESPACE), "").await? {
            let name = object.metadata.name.unwrap_or_default();
            if !IN_EVERY_NAMESPACE.contains(&name.as_str()) {
                step(format!(
                    "namespace {NAMESPACE} stays: {kind} {name} is in it"
                ));
                return Ok(());
            }
        }
    }
    delete(access, &resource("v1", "Namespace"), None, NAMESPACE).await?;
    let wait = async {
        while get(access, "v1", "Namespace", None, NAMESPACE)
            .await?
            .is_some()
        {
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
        Ok(())
    };
    let waited = tokio::time::timeout(ENDING, wait).await;
    waited.unwrap_or(Err(Failure::Slow { limit: ENDING }))?;
    step(format!("Namespace {NAMESPACE}"));
    Ok(())
}
