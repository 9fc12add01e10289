//! Which pods the API server asks about: the `MutatingWebhookConfiguration` of an instance.
//!
//! The namespaces of the system and our own are never selected, so that a control plane that is away keeps neither the cluster
//! nor itself from coming back. Each hook says in its address which selector was true; no pod is asked about twice.

use std::time::Duration;

use catamaran_model::{ClusterId, MeshName, SpiffeId};
use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

use super::review::By;
use super::{SERVICE_PORT, service};
use crate::base64;
use crate::connect::Access;
use crate::crd::FIELD_MANAGER;
use crate::enrol::INSTANCE_LABEL;
use crate::failure::Failure;
use crate::inject::{INJECT, REVISION, SYSTEM_NAMESPACES};
use crate::seen::INJECTION_LABELS;

/// An answer may take this long.
const LIMIT: Duration = Duration::from_secs(10);
/// How long the API server waits for us, in seconds.
const PATIENCE: u8 = 5;
/// What pods say when they want a sidecar, and when they do not.
const YES: [&str; 4] = ["true", "yes", "y", "on"];
const NO: [&str; 4] = ["false", "no", "n", "off"];

/// The object's name.
pub fn name(mesh: &MeshName) -> String {
    format!("catamaran-sidecar-injector-{mesh}")
}

/// Where the API server finds the webhook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Door {
    /// Behind the instance's Service.
    Service,
    /// At `https://HOST:PORT`, for a control plane outside its cluster.
    Url(String),
}

/// The object, as we apply it; `bundle` is the PEM that the API server believes. Of a cluster that is managed `from_afar` the
/// address says its name, for one webhook answers for all clusters of an instance.
pub fn object(mesh: &MeshName, from_afar: Option<&ClusterId>, door: &Door, bundle: &str) -> Value {
    let [ours, istios] = INJECTION_LABELS;
    let never: Vec<&str> = SYSTEM_NAMESPACES
        .into_iter()
        .chain([SpiffeId::SYSTEM_NAMESPACE])
        .collect();
    let never = json!({"key": "kubernetes.io/metadata.name", "operator": "NotIn", "values": never});
    let is = |key: &str, values: &[&str]| json!({"key": key, "operator": "In", "values": values});
    let is_not =
        |key: &str, values: &[&str]| json!({"key": key, "operator": "NotIn", "values": values});
    let absent = |key: &str| json!({"key": key, "operator": "DoesNotExist"});
    let revisions = [mesh.as_str(), "default"];
    let said: Vec<&str> = YES.into_iter().chain(NO).collect();
    let hook = |name: &str, by: By, namespaces: Vec<Value>, pods: Vec<Value>| {
        let cluster = from_afar.map_or(String::new(), |cluster| format!("/cluster/{cluster}"));
        let path = format!("/inject{cluster}/by/{}", by.word());
        let mut client = match door {
            Door::Service => {
                let namespace = SpiffeId::SYSTEM_NAMESPACE;
                let (service, port) = (service(mesh), SERVICE_PORT);
                json!({"service": {"namespace": namespace, "name": service, "path": path, "port": port}})
            }
            Door::Url(base) => json!({"url": format!("{}{path}", base.trim_end_matches('/'))}),
        };
        client["caBundle"] = base64::encode(bundle.as_bytes()).into();
        let namespaces: Vec<Value> = [never.clone()].into_iter().chain(namespaces).collect();
        json!({
            "name": format!("{name}.sidecar-injector.catamaran.dev"),
            "clientConfig": client,
            "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"], "scope": "Namespaced"}],
            "namespaceSelector": {"matchExpressions": namespaces},
            "objectSelector": {"matchExpressions": pods},
            "admissionReviewVersions": ["v1"],
            "failurePolicy": "Fail",
            "matchPolicy": "Equivalent",
            "reinvocationPolicy": "Never",
            "sideEffects": "None",
            "timeoutSeconds": PATIENCE,
        })
    };
    json!({
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "MutatingWebhookConfiguration",
        "metadata": {"name": name(mesh), "labels": {
            "app.kubernetes.io/part-of": "catamaran",
            "app.kubernetes.io/component": "sidecar-injector",
            REVISION: mesh.as_str(),
            INSTANCE_LABEL: mesh.as_str(),
        }},
        "webhooks": [
            hook(
                "rev.namespace",
                By::Revision,
                vec![is(REVISION, &revisions)],
                vec![is_not(INJECT, &NO), absent(REVISION)],
            ),
            hook(
                "namespace",
                By::Namespace,
                vec![is(ours, &["enabled"]), absent(REVISION)],
                vec![is_not(INJECT, &said), absent(REVISION)],
            ),
            hook(
                "istio.namespace",
                By::Namespace,
                vec![is(istios, &["enabled"]), absent(ours), absent(REVISION)],
                vec![is_not(INJECT, &said), absent(REVISION)],
            ),
            hook(
                "rev.object",
                By::Pod,
                vec![],
                vec![is_not(INJECT, &NO), is(REVISION, &revisions)],
            ),
            hook(
                "object",
                By::Pod,
                vec![absent(REVISION)],
                vec![is(INJECT, &YES), absent(REVISION)],
            ),
        ],
    })
}

/// Writes the object whole; what people changed in our fields is ours again.
///
/// # Errors
/// Why it is not as it should be.
pub async fn put(
    access: &Access,
    mesh: &MeshName,
    from_afar: Option<&ClusterId>,
    door: &Door,
    bundle: &str,
) -> Result<(), Failure> {
    let api: Api<MutatingWebhookConfiguration> = Api::all(access.client().clone());
    let params = PatchParams::apply(FIELD_MANAGER).force();
    let (name, fields) = (name(mesh), object(mesh, from_afar, door, bundle));
    let patch = Patch::Apply(&fields);
    let answer = tokio::time::timeout(LIMIT, api.patch(&name, &params, &patch)).await;
    let answer = answer.map_err(|_| Failure::Slow { limit: LIMIT })?;
    answer.map_err(|error| crate::api::of_error(access, &error))?;
    Ok(())
}

#[cfg(test)]
mod tests;
