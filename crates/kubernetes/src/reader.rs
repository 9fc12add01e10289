//! The reader: what another instance may do in a cluster that it only discovers, and how it is made there.
//!
//! One service account for each instance that reads, so that each is revoked by deleting one object.

use catamaran_model::{ClusterId, MeshName, Namespace, ServiceAccount, SpiffeId};
use serde_json::{Value, json};

use crate::base64;
use crate::connect::Access;
use crate::failure::Failure;
use crate::kubeconfig::Server;
use crate::manifest;
use crate::remote::REMOTE_SECRET_LABEL;
use crate::rights::{NEEDED, VERBS};
use crate::token::{self, Granted};

/// The role that all readers of a cluster share.
pub const ROLE: &str = "catamaran-reader";

/// The manager of the reader's fields. The cluster's own instance writes some of the same objects, above all the namespace, and
/// one manager would take away what the other gave.
const MANAGER: &str = "catamaran-reader";

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
    manifest::yaml(&manifests(reading))
}

/// Makes the reader in the cluster, or brings it up to date, with the rights of `access`; `step` hears each object.
///
/// # Errors
/// Why one of them is not there; those before it are.
pub async fn install(
    access: &Access,
    reading: &MeshName,
    mut step: impl FnMut(&str),
) -> Result<(), Failure> {
    for manifest in manifests(reading) {
        step(&manifest::title(&manifest));
        manifest::put(access, MANAGER, &manifest).await?;
    }
    Ok(())
}

/// Takes the reader away, and with it every token that it has; `step` hears each object that was there.
///
/// The role stays while another instance reads by it. The namespace stays: it may be the home of an instance.
///
/// # Errors
/// Why one of them is still there.
pub async fn remove(
    access: &Access,
    reading: &MeshName,
    mut step: impl FnMut(&str),
) -> Result<(), Failure> {
    for manifest in manifests(reading).iter().rev() {
        let gone = match manifest["kind"].as_str() {
            Some("Namespace") => false,
            // Bindings before it went already, since they come after it.
            Some("ClusterRole") => {
                !others_read(access).await? && manifest::take(access, manifest).await?
            }
            _ => manifest::take(access, manifest).await?,
        };
        if gone {
            step(&manifest::title(manifest));
        }
    }
    Ok(())
}

/// Whether an instance is bound to the role.
async fn others_read(access: &Access) -> Result<bool, Failure> {
    let kind = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding"});
    let bindings = manifest::list(access, &kind).await?;
    Ok(bindings.iter().any(|binding| {
        let role = &binding["roleRef"];
        role["kind"] == "ClusterRole" && role["name"] == ROLE
    }))
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
