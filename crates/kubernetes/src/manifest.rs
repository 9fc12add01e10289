//! Manifests: plain objects on their way into a cluster, and out of it again.

use std::time::Duration;

use kube::Api;
use kube::api::{ApiResource, DeleteParams, DynamicObject, ListParams, Patch, PatchParams};
use kube::core::GroupVersionKind;
use serde_json::Value;

use crate::connect::Access;
use crate::failure::Failure;

/// An answer may take this long.
const LIMIT: Duration = Duration::from_secs(30);

/// Manifests as one YAML text.
pub fn yaml<'a>(manifests: impl IntoIterator<Item = &'a Value>) -> String {
    let documents = manifests.into_iter();
    let documents =
        documents.map(|m| serde_saphyr::to_string(m).expect("a manifest is plain data"));
    documents.collect::<Vec<_>>().join("---\n")
}

/// Kind and name, for people: `ServiceAccount catamaran-reader-mesh-1`.
pub fn title(manifest: &Value) -> String {
    let (resource, name) = target(manifest);
    format!("{} {name}", resource.kind)
}

/// Writes a manifest by server-side apply. What `manager` wrote before and leaves out now goes; what others wrote stays.
pub(crate) async fn put(access: &Access, manager: &str, manifest: &Value) -> Result<(), Failure> {
    let (_, name) = target(manifest);
    // What is of ours is ours, also where an earlier hand wrote it.
    let params = PatchParams::apply(manager).force();
    let patch = Patch::Apply(manifest);
    in_time(access, api(access, manifest).patch(&name, &params, &patch)).await?;
    Ok(())
}

/// Takes what a manifest names away; says whether it was there.
pub(crate) async fn take(access: &Access, manifest: &Value) -> Result<bool, Failure> {
    let (_, name) = target(manifest);
    let params = DeleteParams::background();
    match in_time(access, api(access, manifest).delete(&name, &params)).await {
        Ok(_) => Ok(true),
        Err(Failure::Absent) => Ok(false),
        Err(failure) => Err(failure),
    }
}

/// Reads what a manifest names.
pub(crate) async fn get(access: &Access, manifest: &Value) -> Result<Option<Value>, Failure> {
    let (_, name) = target(manifest);
    match in_time(access, api(access, manifest).get(&name)).await {
        Ok(object) => Ok(Some(plain(object)?)),
        Err(Failure::Absent) => Ok(None),
        Err(failure) => Err(failure),
    }
}

/// Reads all objects of a manifest's kind, in its namespace.
pub(crate) async fn list(access: &Access, manifest: &Value) -> Result<Vec<Value>, Failure> {
    let params = ListParams::default();
    let all = in_time(access, api(access, manifest).list(&params)).await?;
    all.items.into_iter().map(plain).collect()
}

fn plain(object: DynamicObject) -> Result<Value, Failure> {
    serde_json::to_value(object).map_err(|error| Failure::Unreadable {
        why: crate::failure::printable(&error.to_string()),
    })
}

async fn in_time<T>(
    access: &Access,
    asked: impl Future<Output = kube::Result<T>>,
) -> Result<T, Failure> {
    let answer = tokio::time::timeout(LIMIT, asked).await;
    let answer = answer.map_err(|_| Failure::Slow { limit: LIMIT })?;
    answer.map_err(|error| crate::api::of_error(access, &error))
}

fn api(access: &Access, manifest: &Value) -> Api<DynamicObject> {
    let (resource, _) = target(manifest);
    let client = access.client().clone();
    match manifest["metadata"]["namespace"].as_str() {
        Some(namespace) => Api::namespaced_with(client, namespace, &resource),
        None => Api::all_with(client, &resource),
    }
}

/// What kind a manifest is of, and its name.
fn target(manifest: &Value) -> (ApiResource, String) {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let version = text(&manifest["apiVersion"]);
    let (group, version) = version.split_once('/').unwrap_or(("", &version));
    let kind = GroupVersionKind::gvk(group, version, &text(&manifest["kind"]));
    (
        ApiResource::from_gvk(&kind),
        text(&manifest["metadata"]["name"]),
    )
}
