//! What a person does with workloads through the API server: puts manifests into a namespace, scales, reads logs. It is for
//! verbs of people; a control plane does none of it.

use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Namespace, Pod as PodObject};
use kube::Api;
use kube::api::{DeleteParams, LogParams, Patch, PatchParams};
use serde_json::{Value, json};

use crate::connect::Access;
use crate::failure::Failure;
use crate::manifest;
use crate::sight::{self, Pod};

/// The manager of what people write by our verbs.
const MANAGER: &str = "catamaran-cli";
/// An answer may take this long.
const LIMIT: Duration = Duration::from_secs(30);

/// Makes a namespace with these labels, or labels one that is there.
///
/// # Errors
/// Why it is not as wanted.
pub async fn put_namespace(access: &Access, name: &str, labels: Value) -> Result<(), Failure> {
    let object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}});
    manifest::put(access, MANAGER, &object).await
}

/// Whether a namespace is there.
///
/// # Errors
/// Why that is not known.
pub async fn has_namespace(access: &Access, name: &str) -> Result<bool, Failure> {
    let api: Api<Namespace> = Api::all(access.client().clone());
    Ok(within(access, api.get_opt(name)).await?.is_some())
}

/// Asks that a namespace go, with all in it; says whether it was there.
///
/// # Errors
/// Why it stays.
pub async fn delete_namespace(access: &Access, name: &str) -> Result<bool, Failure> {
    let api: Api<Namespace> = Api::all(access.client().clone());
    match within(access, api.delete(name, &DeleteParams::background())).await {
        Ok(_) => Ok(true),
        Err(Failure::Absent) => Ok(false),
        // it is on its way
        Err(Failure::Unexpected { code: 409, .. }) => Ok(true),
        Err(failure) => Err(failure),
    }
}

/// Puts an object into a namespace.
///
/// # Errors
/// Why it is not there.
pub async fn put(access: &Access, namespace: &str, object: &Value) -> Result<(), Failure> {
    let mut object = object.clone();
    object["metadata"]["namespace"] = json!(namespace);
    manifest::put(access, MANAGER, &object).await
}

/// Sets how many pods a Deployment has.
///
/// # Errors
/// Why it has not.
pub async fn scale(
    access: &Access,
    namespace: &str,
    name: &str,
    replicas: u32,
) -> Result<(), Failure> {
    let api: Api<Deployment> = Api::namespaced(access.client().clone(), namespace);
    let patch = Patch::Merge(json!({"spec": {"replicas": replicas}}));
    within(
        access,
        api.patch_scale(name, &PatchParams::default(), &patch),
    )
    .await?;
    Ok(())
}

/// The pods that a Deployment selects; `None` when there is no such Deployment.
///
/// # Errors
/// Why they cannot be read.
pub async fn pods_of(
    access: &Access,
    namespace: &str,
    deployment: &str,
) -> Result<Option<Vec<Pod>>, Failure> {
    let api: Api<Deployment> = Api::namespaced(access.client().clone(), namespace);
    let Some(found) = within(access, api.get_opt(deployment)).await? else {
        return Ok(None);
    };
    let selector = found.spec.map(|spec| spec.selector).unwrap_or_default();
    let labels = selector.match_labels.unwrap_or_default();
    let labels: Vec<String> = (labels.iter())
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    let pods = sight::pods(access, Some(namespace), &labels.join(",")).await?;
    Ok(Some(pods))
}

/// The last lines of a container's log.
///
/// # Errors
/// Why they cannot be read.
pub async fn logs(
    access: &Access,
    namespace: &str,
    pod: &str,
    container: &str,
    lines: i64,
) -> Result<String, Failure> {
    let api: Api<PodObject> = Api::namespaced(access.client().clone(), namespace);
    let params = LogParams {
        container: Some(container.to_owned()),
        tail_lines: Some(lines),
        ..LogParams::default()
    };
    within(access, api.logs(pod, &params)).await
}

async fn within<T>(
    access: &Access,
    answer: impl Future<Output = Result<T, kube::Error>>,
) -> Result<T, Failure> {
    let answer = tokio::time::timeout(LIMIT, answer).await;
    let answer = answer.map_err(|_| Failure::Slow { limit: LIMIT })?;
    answer.map_err(|error| crate::api::of_error(access, &error))
}
