//! The reader: what another instance may do in a cluster that it only discovers, and how it is made there.
//!
//! One service account for each instance that reads, so that each is revoked by deleting one object.

use std::time::Duration;

use catamaran_model::{ClusterId, MeshName, Namespace, ServiceAccount, SpiffeId};
use kube::Api;
use kube::api::{ApiResource, DynamicObject, Patch, PatchParams};
use kube::core::GroupVersionKind;
use serde_json::{Value, json};

use crate::base64;
use crate::connect::Access;
use crate::crd::FIELD_MANAGER;
use crate::failure::Failure;
use crate::kubeconfig::Server;
use crate::remote::REMOTE_SECRET_LABEL;
use crate::rights::{NEEDED, VERBS};
use crate::token::{self, Granted};

/// The role that all readers of a cluster share.
pub const ROLE: &str = "catamaran-reader";

/// The service account as which an instance reads.
pub fn account(reading: &MeshName) -> ServiceAccount {
    ServiceAccount::new(format!("{ROLE}-{reading}")).expect("two legal names joined by '-'")
}

/// What must be in the cluster for this instance to read it, in the order in which it is made.
pub fn manifests(reading: &MeshName) -> Vec<Value> {
    let namespace = SpiffeId::SYSTEM_NAMESPACE;
    let account = account(reading);
    let labels = json!({
        "app.kubernetes.io/part-of": "catamaran",
        "app.kubernetes.io/component": "reader",
    });
    let subject =
        json!([{"kind": "ServiceAccount", "name": account.as_str(), "namespace": namespace}]);
    let group = "rbac.authorization.k8s.io";
    let version = format!("{group}/v1");
    let mut rules: Vec<Value> = (NEEDED.iter())
        .map(|(group, resource)| json!({"apiGroups": [group], "resources": [resource], "verbs": VERBS}))
        .collect();
    rules.push(json!({
        "apiGroups": ["authorization.k8s.io"], "resources": ["selfsubjectrulesreviews"], "verbs": ["create"],
    }));
    vec![
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}),
        json!({
            "apiVersion": "v1", "kind": "ServiceAccount",
            "metadata": {"namespace": namespace, "name": account.as_str(), "labels": labels},
            "automountServiceAccountToken": false,
        }),
        json!({
            "apiVersion": version, "kind": "ClusterRole",
            "metadata": {"name": ROLE, "labels": labels},
            "rules": rules,
        }),
        json!({
            "apiVersion": version, "kind": "ClusterRoleBinding",
            "metadata": {"name": account.as_str(), "labels": labels},
            "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": ROLE},
            "subjects": subject,
        }),
        // A token for itself, so that it lives on without anybody else.
        json!({
            "apiVersion": version, "kind": "Role",
            "metadata": {"namespace": namespace, "name": account.as_str(), "labels": labels},
            "rules": [{
                "apiGroups": [""], "resources": ["serviceaccounts/token"],
                "resourceNames": [account.as_str()], "verbs": ["create"],
            }],
        }),
        json!({
            "apiVersion": version, "kind": "RoleBinding",
            "metadata": {"namespace": namespace, "name": account.as_str(), "labels": labels},
            "roleRef": {"apiGroup": group, "kind": "Role", "name": account.as_str()},
            "subjects": subject,
        }),
    ]
}

/// The manifests as one YAML text.
pub fn yaml(reading: &MeshName) -> String {
    let documents = manifests(reading).into_iter();
    let documents =
        documents.map(|m| serde_saphyr::to_string(&m).expect("a manifest is plain data"));
    documents.collect::<Vec<_>>().join("---\n")
}

/// Makes the reader in the cluster, or brings it up to date, with the rights of `access`; `step` hears each object.
pub async fn install(
    access: &Access,
    reading: &MeshName,
    mut step: impl FnMut(&str),
) -> Result<(), Failure> {
    for manifest in manifests(reading) {
        let (resource, name) = target(&manifest);
        step(&format!("{} {name}", resource.kind));
        let client = access.client().clone();
        let api: Api<DynamicObject> = match manifest["metadata"]["namespace"].as_str() {
            Some(namespace) => Api::namespaced_with(client, namespace, &resource),
            None => Api::all_with(client, &resource),
        };
        let params = PatchParams::apply(FIELD_MANAGER);
        // What is of ours is ours, also where an earlier hand wrote it.
        let params = params.force();
        let limit = Duration::from_secs(30);
        let patch = Patch::Apply(&manifest);
        let applied = tokio::time::timeout(limit, api.patch(&name, &params, &patch)).await;
        let applied = applied.map_err(|_| Failure::Slow { limit })?;
        applied.map_err(|error| crate::api::of_error(access, &error))?;
    }
    Ok(())
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

/// The first token of the reader, made with the rights of `access`.
pub async fn first_token(access: &Access, reading: &MeshName) -> Result<Granted, Failure> {
    let namespace = Namespace::new(SpiffeId::SYSTEM_NAMESPACE).expect("a legal name");
    token::request(access, &namespace, &account(reading), token::LIFE).await
}

/// A kubeconfig for the reader, in the shape of Istio's.
pub fn kubeconfig(cluster: &ClusterId, server: &Server, ca: &str, granted: &Granted) -> String {
    let mut entry = json!({
        "server": format!("https://{server}{}", server.path),
        "certificate-authority-data": base64::encode(ca.as_bytes()),
    });
    if server.tls_name != server.host {
        entry["tls-server-name"] = json!(server.tls_name);
    }
    let file = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": cluster.as_str(),
        "clusters": [{"name": cluster.as_str(), "cluster": entry}],
        "users": [{"name": cluster.as_str(), "user": {"token": granted.token.as_str()}}],
        "contexts": [{"name": cluster.as_str(), "context": {"cluster": cluster.as_str(), "user": cluster.as_str()}}],
    });
    serde_saphyr::to_string(&file).expect("a kubeconfig is plain data")
}

/// The Secret, in our namespace of the instance's own cluster, that holds a kubeconfig for `cluster`: Istio's layout.
pub fn secret(cluster: &ClusterId, kubeconfig: &str) -> Value {
    let (label, value) = REMOTE_SECRET_LABEL;
    json!({
        "apiVersion": "v1", "kind": "Secret", "type": "Opaque",
        "metadata": {
            "namespace": SpiffeId::SYSTEM_NAMESPACE,
            "name": format!("istio-remote-secret-{cluster}"),
            "labels": {label: value},
            "annotations": {"networking.istio.io/cluster": cluster.as_str()},
        },
        "data": {cluster.as_str(): base64::encode(kubeconfig.as_bytes())},
    })
}

#[cfg(test)]
mod tests;
