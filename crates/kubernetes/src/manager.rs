//! The manager: what an instance may do in a cluster that it manages from another one, and what stands there so that sidecars, gateways
//! and the API server find the control plane.
//!
//! A person with rights there makes it. The account may read what discovery reads and nodes, ask for reviews of tokens, and write
//! objects of three names; it makes no workloads and reads no secrets.

use std::net::{IpAddr, SocketAddr};

use catamaran_model::{ClusterId, MeshName, Namespace, ServiceAccount, SpiffeId};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use serde_json::{Value, json};

use crate::connect::Access;
use crate::crd;
use crate::enrol::INSTANCE_LABEL;
use crate::failure::Failure;
use crate::inject::ROOTS;
use crate::manifest;
use crate::rights::{MANAGING, NEEDED, VERBS};
use crate::token::{self, Granted};
use crate::webhook;
use crate::write::ROOTS_LABEL;

pub mod exposure;

/// The manager of these objects' fields: a person's hand, not the control plane's.
const MANAGER: &str = "catamaran-manager";
const SYSTEM: &str = SpiffeId::SYSTEM_NAMESPACE;
const RBAC: &str = "rbac.authorization.k8s.io";
/// The ports of the Service there, as they are called at home.
const DISCOVERY: (&str, u16) = ("tls-discovery", 15012);
const WEBHOOK: &str = "https-webhook";

/// Where the control plane is reached from the cluster: addresses, and at each of them two ports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Door {
    /// Of one family.
    addresses: Vec<IpAddr>,
    /// Discovery and certificates.
    discovery: u16,
    /// The webhook.
    webhook: u16,
}

impl Door {
    /// At these addresses. Those of another family than the first are left out, for one list of endpoints has one family; so are
    /// those that lead nowhere from another machine.
    pub fn new(addresses: &[IpAddr], discovery: u16, webhook: u16) -> Option<Door> {
        let usable = |address: &&IpAddr| {
            let v4_link = matches!(address, IpAddr::V4(v4) if v4.is_link_local());
            !(address.is_loopback()
                || address.is_unspecified()
                || address.is_multicast()
                || v4_link)
        };
        let first = addresses.iter().find(usable)?;
        let same = addresses.iter().filter(usable);
        let same = same.filter(|address| address.is_ipv4() == first.is_ipv4());
        Some(Door {
            addresses: same.copied().collect(),
            discovery,
            webhook,
        })
    }

    /// Where sidecars come in.
    pub fn discovery(&self) -> SocketAddr {
        (self.addresses[0], self.discovery).into()
    }

    /// Where the API server comes in.
    pub fn webhook(&self) -> SocketAddr {
        (self.addresses[0], self.webhook).into()
    }
}

/// The service account as which an instance manages.
pub fn account(mesh: &MeshName) -> ServiceAccount {
    ServiceAccount::new(format!("{MANAGER}-{mesh}")).expect("two legal names joined by '-'")
}

fn labels(mesh: &MeshName) -> Value {
    json!({
        "app.kubernetes.io/part-of": "catamaran",
        "app.kubernetes.io/component": "manager",
        INSTANCE_LABEL: mesh.as_str(),
    })
}

/// What must be in the cluster, in the order in which it is made; without a door, all but where it leads.
pub fn manifests(mesh: &MeshName, door: Option<&Door>) -> Vec<Value> {
    let mut all = vec![
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": SYSTEM}}),
        definition(),
    ];
    all.extend(rights(mesh));
    all.push(service(mesh));
    all.extend(door.map(|door| slice(mesh, door)));
    all
}

/// The one kind of ours that an instance writes there.
fn definition() -> Value {
    let mut all = crd::definitions().into_iter();
    let export = all.find(|one: &CustomResourceDefinition| one.spec.names.kind == "MeshExport");
    let export = export.expect("it is among the definitions");
    serde_json::to_value(export).expect("a definition is plain data")
}

/// Who the instance is there, and exactly what it may do.
fn rights(mesh: &MeshName) -> Vec<Value> {
    let (account, labels) = (account(mesh), labels(mesh));
    let name = account.as_str();
    let version = format!("{RBAC}/v1");
    let subject = json!([{"kind": "ServiceAccount", "name": name, "namespace": SYSTEM}]);
    let read = NEEDED.into_iter().chain([("", "nodes")]);
    let mut everywhere: Vec<Value> = read
        .map(|(group, resource)| json!({"apiGroups": [group], "resources": [resource], "verbs": VERBS}))
        .collect();
    everywhere.push(json!({
        "apiGroups": ["authorization.k8s.io"], "resources": ["selfsubjectrulesreviews"], "verbs": ["create"],
    }));
    let mut here = vec![json!({
        "apiGroups": [""], "resources": ["serviceaccounts/token"], "resourceNames": [name], "verbs": ["create"],
    })];
    for (verb, group, resource, _) in MANAGING {
        let mut rule = json!({"apiGroups": [group], "resources": [resource], "verbs": [verb]});
        let held_to = match resource {
            "configmaps" => Some(ROOTS.0.to_owned()),
            "mutatingwebhookconfigurations" => Some(webhook::configuration::name(mesh)),
            "meshexports" => Some(mesh.to_string()),
            _ => None,
        };
        if let Some(held_to) = held_to {
            rule["resourceNames"] = json!([held_to]);
        }
        match resource {
            "meshexports" => here.push(rule),
            _ => everywhere.push(rule),
        }
    }
    let bound = |kind: &str| json!({"apiGroup": RBAC, "kind": kind, "name": name});
    let local = json!({"namespace": SYSTEM, "name": name, "labels": labels});
    let wide = json!({"name": name, "labels": labels});
    vec![
        json!({
            "apiVersion": "v1", "kind": "ServiceAccount", "metadata": local,
            "automountServiceAccountToken": false,
        }),
        json!({"apiVersion": version, "kind": "ClusterRole", "metadata": wide, "rules": everywhere}),
        json!({
            "apiVersion": version, "kind": "ClusterRoleBinding", "metadata": wide,
            "roleRef": bound("ClusterRole"), "subjects": subject,
        }),
        json!({"apiVersion": version, "kind": "Role", "metadata": local, "rules": here}),
        json!({
            "apiVersion": version, "kind": "RoleBinding", "metadata": local,
            "roleRef": bound("Role"), "subjects": subject,
        }),
    ]
}

fn port(name: &str, port: u16) -> Value {
    json!({"name": name, "port": port, "protocol": "TCP"})
}

/// The control plane under the name that it has at home: a Service without pods.
fn service(mesh: &MeshName) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"namespace": SYSTEM, "name": webhook::service(mesh), "labels": labels(mesh)},
        "spec": {"ports": [port(DISCOVERY.0, DISCOVERY.1), port(WEBHOOK, webhook::SERVICE_PORT)]},
    })
}

/// Where that Service leads.
fn slice(mesh: &MeshName, door: &Door) -> Value {
    let name = webhook::service(mesh);
    let mut labels = labels(mesh);
    labels["kubernetes.io/service-name"] = json!(name);
    // So that no controller takes it for its own.
    labels["endpointslice.kubernetes.io/managed-by"] = json!("catamaran.dev");
    let family = match door.addresses[0] {
        IpAddr::V4(_) => "IPv4",
        IpAddr::V6(_) => "IPv6",
    };
    let endpoints = door.addresses.iter();
    let endpoints: Vec<Value> = endpoints
        .map(|at| json!({"addresses": [at.to_string()], "conditions": {"ready": true}}))
        .collect();
    json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {"namespace": SYSTEM, "name": name, "labels": labels},
        "addressType": family,
        "ports": [port(DISCOVERY.0, door.discovery), port(WEBHOOK, door.webhook)],
        "endpoints": endpoints,
    })
}

/// Makes all of it, or brings it up to date, with the rights of `access`; `step` hears each object.
///
/// # Errors
/// Why one of them is not there; those before it are.
pub async fn install(
    access: &Access,
    mesh: &MeshName,
    door: &Door,
    mut step: impl FnMut(&str),
) -> Result<(), Failure> {
    for manifest in manifests(mesh, Some(door)) {
        step(&manifest::title(&manifest));
        manifest::put(access, MANAGER, &manifest).await?;
    }
    Ok(())
}

/// The first token of the account, made with the rights of `access`.
///
/// # Errors
/// Why there is none.
pub async fn first_token(access: &Access, mesh: &MeshName) -> Result<Granted, Failure> {
    let namespace = Namespace::new(SYSTEM).expect("a legal name");
    token::request(access, &namespace, &account(mesh), token::LIFE).await
}

/// The instance that manages this cluster already, other than `mesh`: one that runs in it, or one that says so there.
///
/// # Errors
/// Why nobody knows.
pub async fn managed_by(access: &Access, mesh: &MeshName) -> Result<Option<String>, Failure> {
    for kind in ["Mesh", "MeshExport"] {
        let ours = json!({"apiVersion": "catamaran.dev/v1alpha1", "kind": kind, "metadata": {"namespace": SYSTEM}});
        let found = match manifest::list(access, &ours).await {
            Ok(found) => found,
            // Where a kind is not known there is nobody who has it.
            Err(Failure::Absent | Failure::Unexpected { code: 404, .. }) => continue,
            Err(failure) => return Err(failure),
        };
        let mut names = found
            .iter()
            .filter_map(|one| one["metadata"]["name"].as_str());
        if let Some(other) = names.find(|name| kind == "Mesh" || *name != mesh.as_str()) {
            return Ok(Some(crate::failure::printable(other)));
        }
    }
    Ok(None)
}

/// What the control plane has not written there yet, of what sidecars cannot do without.
///
/// # Errors
/// Why nobody knows.
pub async fn lacks(access: &Access, mesh: &MeshName) -> Result<Option<String>, Failure> {
    let roots = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"namespace": SYSTEM, "name": ROOTS.0}});
    for one in [roots, hook(mesh)] {
        if manifest::get(access, &one).await?.is_none() {
            return Ok(Some(manifest::title(&one)));
        }
    }
    Ok(None)
}

fn hook(mesh: &MeshName) -> Value {
    json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingWebhookConfiguration",
        "metadata": {"name": webhook::configuration::name(mesh)},
    })
}

/// Takes the webhook's configuration away, so that new pods wait for nobody; says whether it was there.
///
/// # Errors
/// Why it is still there.
pub async fn remove_webhook(access: &Access, mesh: &MeshName) -> Result<bool, Failure> {
    manifest::take(access, &hook(mesh)).await
}

/// Takes all of it away but the webhook's configuration; `step` hears what was there. The namespace and the definition stay: others may
/// stand in the one, and watch for the other.
///
/// # Errors
/// Why one of them is still there.
pub async fn remove(
    access: &Access,
    mesh: &MeshName,
    mut step: impl FnMut(&str),
) -> Result<(), Failure> {
    let mut all = rights(mesh);
    all.reverse();
    // The account is gone now; what it may have written until then goes after it.
    all.push(hook(mesh));
    all.push(json!({
        "apiVersion": "catamaran.dev/v1alpha1", "kind": "MeshExport",
        "metadata": {"namespace": SYSTEM, "name": mesh.as_str()},
    }));
    all.push(service(mesh));
    all.push(json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {"namespace": SYSTEM, "name": webhook::service(mesh)},
    }));
    for one in &all {
        let taken = match manifest::take(access, one).await {
            Err(Failure::Unexpected { code: 404, .. }) => false,
            taken => taken?,
        };
        if taken {
            step(&manifest::title(one));
        }
    }
    let kind = json!({"apiVersion": "v1", "kind": "ConfigMap"});
    let mut roots = 0;
    for map in manifest::list(access, &kind).await? {
        let ours = map["metadata"]["name"] == ROOTS.0
            && map["metadata"]["labels"][ROOTS_LABEL.0] == ROOTS_LABEL.1;
        let one = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {
            "namespace": map["metadata"]["namespace"], "name": ROOTS.0,
        }});
        if ours && manifest::take(access, &one).await? {
            roots += 1;
        }
    }
    if roots > 0 {
        step(&format!("ConfigMap {} in {roots} namespaces", ROOTS.0));
    }
    Ok(())
}

/// What tells a person without a way there how to undo by hand what keeps pods from being made.
pub fn by_hand(mesh: &MeshName, cluster: &ClusterId) -> String {
    format!(
        "in {cluster}: kubectl delete mutatingwebhookconfiguration {}",
        webhook::configuration::name(mesh)
    )
}

#[cfg(test)]
mod tests;
