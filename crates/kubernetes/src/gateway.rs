//! The east-west gateway of a managed cluster: its Deployment, its Service, and what tells others of its network.
//!
//! Names, ports and labels are Istio's where Istio has them, so that an Istio elsewhere finds the gateway too.

use std::fmt;
use std::str::FromStr;

use catamaran_model::{
    ClusterDomain, ClusterId, GatewayAddress, MeshName, NetworkId, SpiffeId, TrustDomain,
};
use serde_json::{Value, json};

use crate::connect::Access;
use crate::crd::FIELD_MANAGER;
use crate::enrol::INSTANCE_LABEL;
use crate::failure::Failure;
use crate::inject::{PROXY_USER, ROOTS, TOKEN_AUDIENCE};
use crate::manifest;
use crate::seen::NETWORK_LABEL;

/// How many replicas there are.
pub const REPLICAS: i64 = 2;
/// The manager of the network's label, on a namespace that others write too.
const NETWORK_MANAGER: &str = "catamaran-network";
const NAME: &str = SpiffeId::GATEWAY_ACCOUNT;
const SYSTEM: &str = SpiffeId::SYSTEM_NAMESPACE;
const PROGRAM: &str = "/usr/local/bin/catamaran";
const HEALTH_PORT: u16 = 15021;
const TOKEN_FOLDER: &str = "/var/run/secrets/catamaran/token";
const ROOTS_FOLDER: &str = "/var/run/secrets/catamaran/roots";
const STATE_FOLDER: &str = "/var/lib/catamaran";

/// How the gateway is reached from other networks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ServiceType {
    /// By an address that the cluster's provider gives.
    #[default]
    LoadBalancer,
    /// At a port of every node.
    NodePort,
}

impl fmt::Display for ServiceType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ServiceType::LoadBalancer => "LoadBalancer",
            ServiceType::NodePort => "NodePort",
        })
    }
}

impl FromStr for ServiceType {
    type Err = String;

    fn from_str(text: &str) -> Result<ServiceType, String> {
        match text {
            "LoadBalancer" => Ok(ServiceType::LoadBalancer),
            "NodePort" => Ok(ServiceType::NodePort),
            _ => Err(format!("{text:?} is neither LoadBalancer nor NodePort")),
        }
    }
}

/// A gateway, as it is to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gateway {
    /// The instance.
    pub mesh: MeshName,
    /// The cluster that it stands in.
    pub cluster: ClusterId,
    /// The network that it leads into.
    pub network: NetworkId,
    /// The trust domain.
    pub trust_domain: TrustDomain,
    /// The suffix of service names.
    pub cluster_domain: ClusterDomain,
    /// Where its control plane listens, `HOST:PORT`.
    pub control_plane: String,
    /// The image with our program.
    pub image: String,
    /// How it is reached.
    pub service: ServiceType,
}

/// What became of a gateway.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Standing {
    /// Replicas that are ready, of the present template.
    pub ready: i64,
    /// Replicas of an earlier template that are still there.
    pub older: i64,
    /// Addresses from outside, IP or name.
    pub addresses: Vec<String>,
    /// The port of the nodes that leads to 15443.
    pub node_port: Option<i64>,
}

/// Where the control plane of an instance is, and what it runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ControlPlane {
    /// `HOST:PORT` within the cluster.
    pub at: String,
    /// The image of its first container.
    pub image: Option<String>,
}

/// The name of an instance's control plane: of its Deployment and its Service.
fn control_plane_name(mesh: &MeshName) -> String {
    format!("catamaran-{mesh}")
}

/// Looks for the control plane of an instance.
///
/// # Errors
/// Why it cannot be looked for. When there is none, its usual address is given, without an image.
pub async fn control_plane(access: &Access, mesh: &MeshName) -> Result<ControlPlane, Failure> {
    let name = control_plane_name(mesh);
    let wanted = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"namespace": SYSTEM, "name": name}});
    let found = manifest::get(access, &wanted).await?.unwrap_or_default();
    let image = found["spec"]["template"]["spec"]["containers"][0]["image"].as_str();
    Ok(ControlPlane {
        at: format!("{name}.{SYSTEM}.svc:15012"),
        image: image.map(str::to_owned),
    })
}

fn labels(gateway: &Gateway) -> Value {
    json!({
        "app": NAME,
        "istio": "eastwestgateway",
        "app.kubernetes.io/part-of": "catamaran",
        "app.kubernetes.io/managed-by": "catamaran",
        "app.kubernetes.io/component": "gateway",
        INSTANCE_LABEL: gateway.mesh.as_str(),
        NETWORK_LABEL: gateway.network.as_str(),
    })
}

/// What selects its pods. It cannot change in a Deployment, so the network is not in it.
fn selector() -> Value {
    json!({"app": NAME})
}

/// What a gateway consists of, in the order in which it is made.
pub fn manifests(gateway: &Gateway) -> Vec<Value> {
    let labels = labels(gateway);
    vec![
        json!({
            "apiVersion": "v1", "kind": "ServiceAccount",
            "metadata": {"namespace": SYSTEM, "name": NAME, "labels": labels},
            "automountServiceAccountToken": false,
        }),
        json!({
            "apiVersion": "policy/v1", "kind": "PodDisruptionBudget",
            "metadata": {"namespace": SYSTEM, "name": NAME, "labels": labels},
            "spec": {"maxUnavailable": 1, "selector": {"matchLabels": selector()}},
        }),
        json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"namespace": SYSTEM, "name": NAME, "labels": labels},
            "spec": {
                "replicas": REPLICAS,
                "selector": {"matchLabels": selector()},
                // A new one carries connections before an old one ends.
                "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
                "template": {"metadata": {"labels": labels}, "spec": pod(gateway)},
            },
        }),
        json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": {"namespace": SYSTEM, "name": NAME, "labels": labels},
            "spec": {
                "type": gateway.service.to_string(),
                "selector": selector(),
                "ports": [{"name": "tls", "port": GatewayAddress::PORT, "targetPort": GatewayAddress::PORT, "protocol": "TCP"}],
            },
        }),
    ]
}

fn pod(gateway: &Gateway) -> Value {
    let args = [
        ("--mesh", gateway.mesh.as_str()),
        ("--cluster", gateway.cluster.as_str()),
        ("--namespace", "$(POD_NAMESPACE)"),
        ("--pod", "$(POD_NAME)"),
        ("--service-account", "$(SERVICE_ACCOUNT)"),
        ("--control-plane", &gateway.control_plane),
        ("--root-cert", &format!("{ROOTS_FOLDER}/{}", ROOTS.1)),
        ("--join-token", &format!("{TOKEN_FOLDER}/token")),
        ("--state", &format!("{STATE_FOLDER}/state")),
        ("--admin-socket", &format!("{STATE_FOLDER}/admin.sock")),
        // A pod's loopback is its own: who may forward ports to it may look, and nobody else in the network.
        ("--admin", &format!("127.0.0.1:{}", crate::pod::ADMIN_PORT)),
        ("--capture", "explicit"),
        ("--address", "$(POD_IP)"),
        ("--trust-domain", gateway.trust_domain.as_str()),
        ("--cluster-domain", gateway.cluster_domain.as_str()),
    ];
    let args: Vec<&str> = ["proxy", "gateway"]
        .into_iter()
        .chain(args.into_iter().flat_map(|(name, value)| [name, value]))
        .collect();
    let field = |name: &str, path: &str| json!({"name": name, "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": path}}});
    let ready = json!({"path": "/healthz/ready", "port": HEALTH_PORT});
    json!({
        "serviceAccountName": NAME,
        "automountServiceAccountToken": false,
        "terminationGracePeriodSeconds": 30,
        "affinity": {"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [
            {"weight": 100, "podAffinityTerm": {"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": selector()}}},
            {"weight": 50, "podAffinityTerm": {"topologyKey": "topology.kubernetes.io/zone", "labelSelector": {"matchLabels": selector()}}},
        ]}},
        "securityContext": {"fsGroup": PROXY_USER, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [{
            "name": "gateway",
            "image": gateway.image,
            "command": [PROGRAM],
            "args": args,
            "env": [
                field("POD_NAME", "metadata.name"),
                field("POD_NAMESPACE", "metadata.namespace"),
                field("SERVICE_ACCOUNT", "spec.serviceAccountName"),
                field("POD_IP", "status.podIP"),
            ],
            "ports": [
                {"name": "tls", "containerPort": GatewayAddress::PORT, "protocol": "TCP"},
                {"name": "http-health", "containerPort": HEALTH_PORT, "protocol": "TCP"},
            ],
            "readinessProbe": {"httpGet": ready, "periodSeconds": 5, "timeoutSeconds": 3, "failureThreshold": 4},
            "resources": {"requests": {"cpu": "50m", "memory": "64Mi"}},
            "securityContext": {
                "runAsUser": PROXY_USER,
                "runAsGroup": PROXY_USER,
                "runAsNonRoot": true,
                "readOnlyRootFilesystem": true,
                "allowPrivilegeEscalation": false,
                "privileged": false,
                "capabilities": {"drop": ["ALL"]},
            },
            "volumeMounts": [
                {"name": "token", "mountPath": TOKEN_FOLDER, "readOnly": true},
                {"name": "roots", "mountPath": ROOTS_FOLDER, "readOnly": true},
                {"name": "state", "mountPath": STATE_FOLDER},
            ],
        }],
        "volumes": [
            {"name": "token", "projected": {"sources": [
                {"serviceAccountToken": {"audience": TOKEN_AUDIENCE, "expirationSeconds": 43200, "path": "token"}}
            ]}},
            {"name": "roots", "configMap": {"name": ROOTS.0}},
            // in memory: a private key is among it
            {"name": "state", "emptyDir": {"medium": "Memory", "sizeLimit": "32Mi"}},
        ],
    })
}

/// The gateway of an instance as it stands, so that it can be written again with another image; `None` when there is none of it.
///
/// # Errors
/// Why it cannot be read, or what is missing in it: then it was not made by [`manifests`].
pub async fn found(
    access: &Access,
    mesh: &MeshName,
) -> Result<Result<Option<Gateway>, String>, Failure> {
    let deployment = manifest::get(access, &named("apps/v1", "Deployment")).await?;
    let Some(deployment) = deployment else {
        return Ok(Ok(None));
    };
    if deployment["metadata"]["labels"][INSTANCE_LABEL] != mesh.as_str() {
        return Ok(Ok(None));
    }
    let service = manifest::get(access, &named("v1", "Service")).await?;
    Ok(of(mesh, &deployment, &service.unwrap_or_default()).map(Some))
}

fn named(version: &str, kind: &str) -> Value {
    json!({"apiVersion": version, "kind": kind, "metadata": {"namespace": SYSTEM, "name": NAME}})
}

/// The inverse of [`manifests`].
fn of(mesh: &MeshName, deployment: &Value, service: &Value) -> Result<Gateway, String> {
    let container = &deployment["spec"]["template"]["spec"]["containers"][0];
    let args = container["args"].as_array();
    let args: Vec<&str> = args
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    let arg = |name: &str| {
        let at = args.iter().position(|arg| *arg == name);
        at.and_then(|at| args.get(at + 1).copied())
            .ok_or_else(|| format!("it has no {name}"))
    };
    let text = |value: &Value, what: &str| {
        let text = value.as_str().map(str::to_owned);
        text.ok_or_else(|| format!("it has no {what}"))
    };
    let network = &deployment["metadata"]["labels"][NETWORK_LABEL];
    let wrong = |error: catamaran_model::NameError| error.to_string();
    Ok(Gateway {
        mesh: mesh.clone(),
        cluster: ClusterId::new(arg("--cluster")?).map_err(wrong)?,
        network: NetworkId::new(text(network, "label of its network")?).map_err(wrong)?,
        trust_domain: TrustDomain::new(arg("--trust-domain")?).map_err(wrong)?,
        cluster_domain: ClusterDomain::new(arg("--cluster-domain")?).map_err(wrong)?,
        control_plane: arg("--control-plane")?.to_owned(),
        image: text(&container["image"], "image")?,
        service: text(&service["spec"]["type"], "Service")?.parse()?,
    })
}

/// Our namespace with the label of the cluster's network (Istio's rule); without a network, with nothing.
pub fn network_label(network: Option<&NetworkId>) -> Value {
    let mut object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": SYSTEM}});
    if let Some(network) = network {
        object["metadata"]["labels"] = json!({NETWORK_LABEL: network.as_str()});
    }
    object
}

/// Makes the gateway, or brings it up to date; `step` hears each object.
///
/// # Errors
/// Why one of them is not there; those before it are.
pub async fn deploy(
    access: &Access,
    gateway: &Gateway,
    mut step: impl FnMut(&str),
) -> Result<(), Failure> {
    for manifest in manifests(gateway) {
        manifest::put(access, FIELD_MANAGER, &manifest).await?;
        step(&manifest::title(&manifest));
    }
    Ok(())
}

/// Takes the gateway away; `step` hears each object that was there.
///
/// # Errors
/// Why one of them is still there.
pub async fn remove(access: &Access, mut step: impl FnMut(&str)) -> Result<(), Failure> {
    // First the Service, so that nobody is sent there any more.
    for (version, kind) in [
        ("v1", "Service"),
        ("apps/v1", "Deployment"),
        ("policy/v1", "PodDisruptionBudget"),
        ("v1", "ServiceAccount"),
    ] {
        let one = named(version, kind);
        if manifest::take(access, &one).await? {
            step(&manifest::title(&one));
        }
    }
    Ok(())
}

/// Labels our namespace with the cluster's network, or takes the label that we gave away.
///
/// # Errors
/// Why it is not as wanted.
pub async fn label(access: &Access, network: Option<&NetworkId>) -> Result<(), Failure> {
    manifest::put(access, NETWORK_MANAGER, &network_label(network)).await
}

/// What became of the gateway.
///
/// # Errors
/// Why nobody knows.
pub async fn standing(access: &Access) -> Result<Standing, Failure> {
    let deployment = manifest::get(access, &named("apps/v1", "Deployment")).await?;
    let service = manifest::get(access, &named("v1", "Service")).await?;
    Ok(read(
        &deployment.unwrap_or_default(),
        &service.unwrap_or_default(),
    ))
}

fn read(deployment: &Value, service: &Value) -> Standing {
    let status = &deployment["status"];
    let count = |field: &str| status[field].as_i64().unwrap_or(0);
    let seen = status["observedGeneration"] == deployment["metadata"]["generation"];
    let ingress = service["status"]["loadBalancer"]["ingress"].as_array();
    let named = |ingress: &Value| {
        let one = ingress["ip"].as_str().or(ingress["hostname"].as_str());
        one.map(str::to_owned)
    };
    Standing {
        ready: match seen {
            true => count("updatedReplicas").min(count("availableReplicas")),
            false => 0,
        },
        older: count("replicas") - count("updatedReplicas"),
        addresses: ingress.into_iter().flatten().filter_map(named).collect(),
        node_port: service["spec"]["ports"][0]["nodePort"].as_i64(),
    }
}

#[cfg(test)]
mod tests;
