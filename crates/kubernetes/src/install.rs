//! An instance in a cluster: what is installed for it, how that comes to run, and how all of it goes again.
//!
//! Everything is a server-side apply under a manager of its own, so that installing again changes nothing, and what others write
//! beside it stays. What belongs to one instance carries [`INSTANCE_LABEL`]: that is what [`remove`] goes by.

use std::collections::BTreeMap;
use std::time::Duration;

use catamaran_model::{ClusterId, MeshName, Namespace, NetworkId, Region, SpiffeId, Version};
use k8s_openapi::api::authorization::v1::SelfSubjectAccessReview;
use kube::Api;
use kube::api::{
    ApiResource, DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams,
};
use kube::core::GroupVersionKind;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use crate::base64;
use crate::connect::Access;
use crate::crd;
use crate::failure::{Failure, printable};
use crate::inject::{PROGRAM, ROOTS};
use crate::lease::Leases;
use crate::seen::NETWORK_LABEL;
use crate::webhook;

mod remove;

pub use remove::remove;

/// The manager under which an installation is written; what a control plane writes has another.
pub const INSTALLER: &str = "catamaran-install";
/// The label that says to which instance an object belongs.
pub const INSTANCE_LABEL: &str = "catamaran.dev/mesh";
/// The annotation on our namespace that says which instance it was made for; without it, it was there before.
pub const MADE_FOR: &str = "catamaran.dev/made-for";
/// The label that says which version an object was installed with.
pub const VERSION_LABEL: &str = "app.kubernetes.io/version";
/// The Secret with the authority, in Istio's layout and under Istio's name.
pub const AUTHORITY: &str = "cacerts";
/// Control planes of an instance, when nobody says how many.
pub const REPLICAS: u32 = 2;
/// Where proxies reach a control plane: discovery and certificates.
pub const DISCOVERY_PORT: u16 = 15012;
/// Where the API server reaches its webhook.
pub const WEBHOOK_PORT: u16 = 15017;
/// Where the kubelet asks how it is.
pub const HEALTH_PORT: u16 = 15014;

/// The control plane's option that names Istio's namespace.
const ISTIO: &str = "--istio-namespace";
/// An answer may take this long.
const LIMIT: Duration = Duration::from_secs(30);
/// A definition that was written is served after so long, at most.
const ESTABLISHED: Duration = Duration::from_secs(30);
const NAMESPACE: &str = SpiffeId::SYSTEM_NAMESPACE;
const RBAC: &str = "rbac.authorization.k8s.io";
/// The user that a control plane runs as; it owns nothing on its node.
const USER: i64 = 65532;

/// What is installed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instance {
    /// Its name.
    pub mesh: MeshName,
    /// The name of the cluster that it runs in and manages.
    pub cluster: ClusterId,
    /// The region it stands in.
    pub region: Option<Region>,
    /// The version it runs.
    pub version: Version,
    /// The cluster's network.
    pub network: Option<NetworkId>,
    /// The image with our program.
    pub image: String,
    /// Where Istio's remote secrets are, which it reads too.
    pub istio: Option<Namespace>,
    /// How many control planes there are.
    pub replicas: u32,
    /// Whether our namespace is made for it.
    pub makes_namespace: bool,
}

/// The image of a version, by the name under which `cargo xtask image` makes it.
pub fn image(version: &Version) -> String {
    format!("catamaran.dev/catamaran:{version}")
}

/// The name of what belongs to an instance: its Deployment, Service, ServiceAccount and roles.
pub fn name(mesh: &MeshName) -> String {
    name_of(mesh.as_str())
}

fn name_of(mesh: &str) -> String {
    format!("catamaran-{mesh}")
}

/// What is installed, in the order in which it is made; all but the Secret with the authority.
pub fn manifests(instance: &Instance) -> Vec<Value> {
    let mut all = vec![namespace(instance)];
    all.extend(definitions());
    all.extend(account(instance));
    all.extend(objects(instance));
    all.extend(control_plane(instance));
    all
}

/// The manifests as one YAML text.
pub fn yaml(manifests: &[Value]) -> String {
    let documents = manifests.iter();
    let documents =
        documents.map(|m| serde_saphyr::to_string(m).expect("a manifest is plain data"));
    documents.collect::<Vec<_>>().join("---\n")
}

/// The Secret with an authority: names of files, and their texts.
pub fn authority(mesh: &MeshName, files: &[(&str, &str)]) -> Value {
    let data: BTreeMap<&str, String> = files
        .iter()
        .map(|(name, text)| (*name, base64::encode(text.as_bytes())))
        .collect();
    json!({
        "apiVersion": "v1", "kind": "Secret", "type": "Opaque",
        "metadata": {"namespace": NAMESPACE, "name": AUTHORITY, "labels": labels(mesh)},
        "data": data,
    })
}

fn labels(mesh: &MeshName) -> Value {
    json!({
        "app.kubernetes.io/part-of": "catamaran",
        "app.kubernetes.io/managed-by": "catamaran",
        INSTANCE_LABEL: mesh.as_str(),
    })
}

fn namespace(instance: &Instance) -> Value {
    let mut metadata = json!({"name": NAMESPACE});
    if let Some(network) = &instance.network {
        metadata["labels"] = json!({NETWORK_LABEL: network.as_str()});
    }
    if instance.makes_namespace {
        metadata["annotations"] = json!({MADE_FOR: instance.mesh.as_str()});
    }
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})
}

/// Our namespace, made for no instance.
pub fn bare_namespace() -> Value {
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})
}

fn definitions() -> impl Iterator<Item = Value> {
    let all = crd::definitions().into_iter();
    all.map(|definition| serde_json::to_value(definition).expect("a definition is plain data"))
}

/// Who the control plane is, and exactly what it may do.
fn account(instance: &Instance) -> Vec<Value> {
    let (name, labels) = (name(&instance.mesh), labels(&instance.mesh));
    let version = format!("{RBAC}/v1");
    let subject = json!([{"kind": "ServiceAccount", "name": name, "namespace": NAMESPACE}]);
    let read = ["get", "list", "watch"];
    // For a server-side apply the API server asks for `patch`, and for `create` too while there is no such object.
    let apply = ["create", "patch"];
    let everywhere = json!([
        {"apiGroups": [""], "resources": ["namespaces", "nodes", "pods", "services"], "verbs": read},
        {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": read},
        {"apiGroups": ["authentication.k8s.io"], "resources": ["tokenreviews"], "verbs": ["create"]},
        {"apiGroups": [""], "resources": ["configmaps"], "resourceNames": [ROOTS.0], "verbs": ["get", "create", "patch"]},
        {
            "apiGroups": ["admissionregistration.k8s.io"], "resources": ["mutatingwebhookconfigurations"],
            "resourceNames": [webhook::configuration::name(&instance.mesh)], "verbs": apply,
        },
    ]);
    let here = json!([
        {"apiGroups": ["catamaran.dev"], "resources": ["meshes", "clusters", "meshexports"], "verbs": read},
        {
            "apiGroups": ["catamaran.dev"],
            "resources": ["clusters/status"],
            "verbs": ["patch"],
        },
        {
            "apiGroups": ["catamaran.dev"], "resources": ["meshes/status", "meshexports/status"],
            "resourceNames": [instance.mesh.as_str()], "verbs": ["patch"],
        },
        {"apiGroups": ["catamaran.dev"], "resources": ["meshexports"], "resourceNames": [instance.mesh.as_str()], "verbs": apply},
        {"apiGroups": [""], "resources": ["secrets"], "verbs": read},
        // The key of the webhook, which its replicas share; who creates an object by POST cannot be held to a name.
        {"apiGroups": [""], "resources": ["secrets"], "verbs": ["create"]},
        {
            "apiGroups": [""], "resources": ["secrets"],
            "resourceNames": [webhook::certificate::secret(&instance.mesh)], "verbs": ["update"],
        },
        // Who of the replicas writes.
        {
            "apiGroups": ["coordination.k8s.io"], "resources": ["leases"],
            "resourceNames": [Leases::name(&instance.mesh)], "verbs": ["get", "update"],
        },
        // What each of them says of itself, under the names of pods, which nobody knows before.
        {"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["list", "create", "patch"]},
        // What people should act on; the names follow from what they say.
        {"apiGroups": ["events.k8s.io"], "resources": ["events"], "verbs": ["get", "create", "patch"]},
    ]);
    let bound = |kind: &str| json!({"apiGroup": RBAC, "kind": kind, "name": name});
    let mut all = vec![
        json!({
            "apiVersion": "v1", "kind": "ServiceAccount",
            "metadata": {"namespace": NAMESPACE, "name": name, "labels": labels},
            "automountServiceAccountToken": false,
        }),
        json!({
            "apiVersion": version, "kind": "ClusterRole",
            "metadata": {"name": name, "labels": labels}, "rules": everywhere,
        }),
        json!({
            "apiVersion": version, "kind": "ClusterRoleBinding",
            "metadata": {"name": name, "labels": labels},
            "roleRef": bound("ClusterRole"), "subjects": subject,
        }),
        json!({
            "apiVersion": version, "kind": "Role",
            "metadata": {"namespace": NAMESPACE, "name": name, "labels": labels}, "rules": here,
        }),
        json!({
            "apiVersion": version, "kind": "RoleBinding",
            "metadata": {"namespace": NAMESPACE, "name": name, "labels": labels},
            "roleRef": bound("Role"), "subjects": subject,
        }),
    ];
    if let Some(istio) = &instance.istio {
        let metadata = json!({"namespace": istio.as_str(), "name": name, "labels": labels});
        all.push(json!({
            "apiVersion": version, "kind": "Role", "metadata": metadata,
            "rules": [{"apiGroups": [""], "resources": ["secrets"], "verbs": read}],
        }));
        all.push(json!({
            "apiVersion": version, "kind": "RoleBinding", "metadata": metadata,
            "roleRef": bound("Role"), "subjects": subject,
        }));
    }
    all
}

/// What people say of the instance and its own cluster. Fields that are not named here are theirs.
fn objects(instance: &Instance) -> Vec<Value> {
    let version = "catamaran.dev/v1alpha1";
    let labels = labels(&instance.mesh);
    let mut mesh = json!({"version": instance.version.as_str()});
    if let Some(region) = &instance.region {
        mesh["region"] = json!(region.as_str());
    }
    let mut cluster = json!({"mode": "Managed"});
    if let Some(network) = &instance.network {
        cluster["network"] = json!(network.as_str());
    }
    vec![
        json!({
            "apiVersion": version, "kind": "Mesh",
            "metadata": {"namespace": NAMESPACE, "name": instance.mesh.as_str(), "labels": labels},
            "spec": mesh,
        }),
        json!({
            "apiVersion": version, "kind": "Cluster",
            "metadata": {"namespace": NAMESPACE, "name": instance.cluster.as_str(), "labels": labels},
            "spec": cluster,
        }),
    ]
}

/// The Deployment, its Service and its disruption budget.
fn control_plane(instance: &Instance) -> Vec<Value> {
    let (name, mut labels) = (name(&instance.mesh), labels(&instance.mesh));
    let selector = json!({"app": "catamaran", INSTANCE_LABEL: instance.mesh.as_str()});
    labels["app"] = json!("catamaran");
    labels[VERSION_LABEL] = json!(instance.version.as_str());
    let metadata = json!({"namespace": NAMESPACE, "name": name, "labels": labels});
    let port =
        |name: &str, port: u16| json!({"name": name, "containerPort": port, "protocol": "TCP"});
    let asked = |path: &str| json!({"path": path, "port": "health"});
    let mut container = json!({
        "name": "control-plane",
        "image": instance.image,
        "command": [PROGRAM],
        "args": [
            "control-plane", "--in-cluster",
            "--cluster", instance.cluster.as_str(),
            "--mesh", instance.mesh.as_str(),
            "--cacerts", "/etc/cacerts",
            "--state", "/var/lib/catamaran/state",
            "--socket", "/var/lib/catamaran/control-plane.sock",
            "--listen", format!("0.0.0.0:{DISCOVERY_PORT}"),
            "--health", format!("0.0.0.0:{HEALTH_PORT}"),
            // On loopback, so for those only who may forward ports to the pod.
            "--admin", format!("127.0.0.1:{}", crate::pod::ADMIN_PORT),
            "--webhook", format!("0.0.0.0:{WEBHOOK_PORT}"),
            "--sidecar-image", instance.image,
            "--replica", "$(POD_NAME)",
            "--replica-uid", "$(POD_UID)",
        ],
        "env": [
            {"name": "POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
            {"name": "POD_UID", "valueFrom": {"fieldRef": {"fieldPath": "metadata.uid"}}},
        ],
        "ports": [port("discovery", DISCOVERY_PORT), port("webhook", WEBHOOK_PORT), port("health", HEALTH_PORT)],
        "readinessProbe": {"httpGet": asked("/ready"), "periodSeconds": 2, "timeoutSeconds": 2, "failureThreshold": 3},
        "livenessProbe": {
            "httpGet": asked("/live"), "initialDelaySeconds": 10, "periodSeconds": 10, "timeoutSeconds": 5, "failureThreshold": 3,
        },
        "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}},
        "securityContext": {
            "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "capabilities": {"drop": ["ALL"]},
        },
        // What it said last is then in the pod's status, and `mesh create` shows it.
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [
            {"name": "cacerts", "mountPath": "/etc/cacerts", "readOnly": true},
            {"name": "state", "mountPath": "/var/lib/catamaran"},
        ],
    });
    if let (Some(istio), Some(args)) = (&instance.istio, container["args"].as_array_mut()) {
        args.extend([json!(ISTIO), json!(istio.as_str())]);
    }
    let apart = json!({
        "weight": 100,
        "podAffinityTerm": {"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": selector}},
    });
    let pod = json!({
        "serviceAccountName": name,
        "automountServiceAccountToken": true,
        "terminationGracePeriodSeconds": 30,
        "securityContext": {
            "runAsNonRoot": true, "runAsUser": USER, "runAsGroup": USER, "fsGroup": USER,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "affinity": {"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [apart]}},
        "containers": [container],
        "volumes": [
            {"name": "cacerts", "secret": {"secretName": AUTHORITY, "defaultMode": 0o400}},
            {"name": "state", "emptyDir": {}},
        ],
    });
    vec![
        json!({
            "apiVersion": "v1", "kind": "Service", "metadata": metadata,
            "spec": {
                "selector": selector,
                "ports": [
                    {"name": "tls-discovery", "port": DISCOVERY_PORT, "targetPort": "discovery", "protocol": "TCP"},
                    {"name": "https-webhook", "port": 443, "targetPort": "webhook", "protocol": "TCP"},
                ],
            },
        }),
        json!({
            "apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": metadata,
            "spec": {"minAvailable": 1, "selector": {"matchLabels": selector}},
        }),
        json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata,
            "spec": {
                "replicas": instance.replicas,
                "selector": {"matchLabels": selector},
                "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
                "template": {"metadata": {"labels": labels}, "spec": pod},
            },
        }),
    ]
}

/// What is in a cluster already that concerns an installation.
#[derive(Debug, Clone, Default)]
pub struct Found {
    /// Our namespace, when it is there.
    pub namespace: Option<FoundNamespace>,
    /// The instance in it, with its region.
    pub meshes: Vec<(String, Option<String>)>,
    /// The clusters that are managed without a credential, so from within, with their networks.
    pub own: Vec<(String, Option<String>)>,
    /// The clusters that are managed from here by a credential.
    pub afar: Vec<String>,
    /// Who says here that they manage this cluster, from wherever.
    pub exports: Vec<String>,
    /// Where the instance reads Istio's remote secrets too.
    pub istio: Option<String>,
    /// How many control planes each instance is to have.
    pub replicas: BTreeMap<String, u32>,
    /// The files of the authority.
    pub authority: Option<Files>,
}

/// The files of an authority, by name.
pub type Files = BTreeMap<String, Zeroizing<String>>;

/// Our namespace as it was found.
#[derive(Debug, Clone, Default)]
pub struct FoundNamespace {
    /// For which instance it was made; nobody's when it was there before.
    pub made_for: Option<String>,
    /// Its network.
    pub network: Option<String>,
    /// Whether it is going away.
    pub ending: bool,
}

/// Looks at what is in the cluster.
///
/// # Errors
/// Why it cannot be seen.
pub async fn look(access: &Access) -> Result<Found, Failure> {
    let mut found = Found::default();
    let Some(namespace) = get(access, "v1", "Namespace", None, NAMESPACE).await? else {
        return Ok(found);
    };
    let text = |value: &Value| value.as_str().map(printable);
    let at = |object: &DynamicObject| serde_json::to_value(object).unwrap_or_default();
    let namespace = at(&namespace);
    let metadata = &namespace["metadata"];
    found.namespace = Some(FoundNamespace {
        made_for: text(&metadata["annotations"][MADE_FOR]),
        network: text(&metadata["labels"][NETWORK_LABEL]),
        ending: !metadata["deletionTimestamp"].is_null(),
    });
    let ours = "catamaran.dev/v1alpha1";
    for mesh in list(access, ours, "Mesh", Some(NAMESPACE), "").await? {
        let mesh = at(&mesh);
        let name = text(&mesh["metadata"]["name"]).unwrap_or_default();
        let named = name_of(&name);
        let deployment = get(access, "apps/v1", "Deployment", Some(NAMESPACE), &named).await?;
        let replicas = deployment.and_then(|it| it.data["spec"]["replicas"].as_u64());
        if let Some(replicas) = replicas.and_then(|count| u32::try_from(count).ok()) {
            found.replicas.insert(name.clone(), replicas);
        }
        found.meshes.push((name, text(&mesh["spec"]["region"])));
    }
    for cluster in list(access, ours, "Cluster", Some(NAMESPACE), "").await? {
        let cluster = at(&cluster);
        let spec = &cluster["spec"];
        if spec["mode"] == "Managed" && spec["secret"].is_null() && spec["folder"].is_null() {
            let name = text(&cluster["metadata"]["name"]).unwrap_or_default();
            found.own.push((name, text(&spec["network"])));
        } else if spec["mode"] == "Managed" && spec["secret"].is_string() {
            found.afar.extend(text(&cluster["metadata"]["name"]));
        }
    }
    for export in list(access, ours, "MeshExport", Some(NAMESPACE), "").await? {
        found.exports.extend(text(&at(&export)["metadata"]["name"]));
    }
    for deployment in list(
        access,
        "apps/v1",
        "Deployment",
        Some(NAMESPACE),
        INSTANCE_LABEL,
    )
    .await?
    {
        let args = &at(&deployment)["spec"]["template"]["spec"]["containers"][0]["args"];
        let mut args = args.as_array().into_iter().flatten();
        if args.any(|arg| arg == ISTIO) {
            found.istio = args.next().and_then(text);
        }
    }
    found.authority = authority_in(access, NAMESPACE).await?;
    Ok(found)
}

/// The files of the authority in a namespace, when one is there.
///
/// # Errors
/// Why it cannot be seen.
pub async fn authority_in(access: &Access, namespace: &str) -> Result<Option<Files>, Failure> {
    let secret = get(access, "v1", "Secret", Some(namespace), AUTHORITY).await?;
    Ok(secret.map(|secret| {
        let files = secret.data["data"].as_object().into_iter().flatten();
        let files = files.filter_map(|(name, text)| {
            let bytes = Zeroizing::new(base64::decode(text.as_str()?)?);
            let text = std::str::from_utf8(&bytes).ok()?;
            Some((name.clone(), Zeroizing::new(text.to_owned())))
        });
        files.collect()
    }))
}

/// Whose the authority in the cluster is: of the instance whose label its Secret bears, of nobody we know, or there is none.
/// Its contents are not read.
///
/// # Errors
/// Why that is not known.
pub async fn authority_of(access: &Access) -> Result<Option<Option<String>>, Failure> {
    let api = api(access, &resource("v1", "Secret"), Some(NAMESPACE));
    let found = within(access, api.get_metadata_opt(AUTHORITY)).await?;
    Ok(found.map(|secret| secret.metadata.labels?.remove(INSTANCE_LABEL)))
}

/// Writes the authority of an instance in the place of the one before; see [`authority`].
///
/// # Errors
/// Why it is not there.
pub async fn replace_authority(access: &Access, authority: &Value) -> Result<(), Failure> {
    let api = api(access, &resource("v1", "Secret"), Some(NAMESPACE));
    let params = PatchParams::apply(INSTALLER).force();
    let patch = Patch::Apply(authority);
    // Of the answer only the metadata are wanted.
    within(access, api.patch_metadata(AUTHORITY, &params, &patch)).await?;
    Ok(())
}

/// The rights that are missing for writing these manifests, `create deployments.apps in catamaran-system`.
///
/// # Errors
/// Why that is not known.
pub async fn missing_rights<'a>(
    access: &Access,
    manifests: impl IntoIterator<Item = &'a Value>,
) -> Result<Vec<String>, Failure> {
    let mut missing = Vec::new();
    for manifest in manifests {
        let (resource, _) = target(manifest);
        let namespace = manifest["metadata"]["namespace"].as_str();
        for verb in ["create", "patch"] {
            let review = json!({
                "apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview",
                "spec": {"resourceAttributes": {
                    "group": resource.group, "resource": resource.plural, "verb": verb, "namespace": namespace,
                }},
            });
            let review: SelfSubjectAccessReview =
                serde_json::from_value(review).expect("it has the shape of a review");
            let reviews: Api<SelfSubjectAccessReview> = Api::all(access.client().clone());
            let params = PostParams::default();
            let answer = within(access, reviews.create(&params, &review)).await?;
            if answer.status.is_none_or(|status| !status.allowed) {
                let group = match resource.group.as_str() {
                    "" => String::new(),
                    group => format!(".{group}"),
                };
                let place = namespace.map_or(String::new(), |name| format!(" in {name}"));
                let right = format!("{verb} {}{group}{place}", resource.plural);
                if !missing.contains(&right) {
                    missing.push(right);
                }
            }
        }
    }
    Ok(missing)
}

/// What became of a manifest that was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It is as it was.
    Unchanged,
    /// It is new or changed.
    Written,
}

/// Writes one manifest. A definition is also waited for, until its objects can be written.
///
/// # Errors
/// Why it is not there.
pub async fn put(access: &Access, manifest: &Value) -> Result<Outcome, Failure> {
    let (resource, name) = target(manifest);
    let namespace = manifest["metadata"]["namespace"].as_str();
    let api = api(access, &resource, namespace);
    let before = version_of(access, api.get_opt(&name)).await?;
    // What is of ours is ours, also where an earlier hand wrote it.
    let params = PatchParams::apply(INSTALLER).force();
    let patch = Patch::Apply(manifest);
    let written = within(access, api.patch(&name, &params, &patch)).await?;
    if resource.kind == "CustomResourceDefinition" {
        established(access, &api, &name).await?;
    }
    Ok(match before == written.metadata.resource_version {
        true => Outcome::Unchanged,
        false => Outcome::Written,
    })
}

async fn version_of(
    access: &Access,
    got: impl Future<Output = Result<Option<DynamicObject>, kube::Error>>,
) -> Result<Option<String>, Failure> {
    let got = within(access, got).await?;
    Ok(got.and_then(|object| object.metadata.resource_version))
}

async fn established(access: &Access, api: &Api<DynamicObject>, name: &str) -> Result<(), Failure> {
    let limit = ESTABLISHED;
    let wait = async {
        loop {
            let definition = within(access, api.get(name)).await?;
            let conditions = definition.data["status"]["conditions"].as_array();
            let yes = |condition: &Value| {
                condition["type"] == "Established" && condition["status"] == "True"
            };
            if conditions.is_some_and(|all| all.iter().any(yes)) {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let waited = tokio::time::timeout(limit, wait).await;
    waited.unwrap_or(Err(Failure::Slow { limit }))
}

/// How far the control plane of an instance is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rollout {
    /// Every replica runs as wanted and is ready.
    Ready,
    /// It is on its way.
    Waiting(String),
    /// It will not come by itself.
    Stuck(String),
}

/// Asks how far the control plane of an instance is.
///
/// # Errors
/// Why that is not known.
pub async fn rollout(access: &Access, mesh: &MeshName) -> Result<Rollout, Failure> {
    let name = name(mesh);
    let deployment = get(access, "apps/v1", "Deployment", Some(NAMESPACE), &name).await?;
    let deployment = deployment.ok_or(Failure::Absent)?;
    let generation = deployment.metadata.generation.unwrap_or_default();
    let selector = format!("{INSTANCE_LABEL}={mesh},app=catamaran");
    let pods = list(access, "v1", "Pod", Some(NAMESPACE), &selector).await?;
    let pods: Vec<Value> = pods
        .iter()
        .map(|pod| serde_json::to_value(pod).unwrap_or_default())
        .collect();
    let wanted = deployment.data["spec"]["replicas"].as_i64();
    let wanted = wanted.unwrap_or(i64::from(REPLICAS));
    Ok(judge(&deployment.data["status"], generation, wanted, &pods))
}

/// Reasons of a waiting container that need a person.
const STUCK: [&str; 6] = [
    "ErrImagePull",
    "ImagePullBackOff",
    "ErrImageNeverPull",
    "InvalidImageName",
    "CreateContainerConfigError",
    "CrashLoopBackOff",
];

fn judge(status: &Value, generation: i64, wanted: i64, pods: &[Value]) -> Rollout {
    let count = |field: &str| status[field].as_i64().unwrap_or_default();
    let ready = count("availableReplicas").min(count("updatedReplicas"));
    if count("observedGeneration") >= generation
        && ready >= wanted
        && count("replicas") == count("updatedReplicas")
    {
        return Rollout::Ready;
    }
    let mut because = Vec::new();
    for condition in status["conditions"].as_array().into_iter().flatten() {
        if condition["type"] == "ReplicaFailure" && condition["status"] == "True" {
            let said = condition["message"].as_str().unwrap_or_default();
            return Rollout::Stuck(format!("its pods are not made: {}", printable(said)));
        }
    }
    for pod in pods {
        let name = printable(pod["metadata"]["name"].as_str().unwrap_or_default());
        for container in pod["status"]["containerStatuses"]
            .as_array()
            .into_iter()
            .flatten()
        {
            let text = |value: &Value| value.as_str().map(printable).unwrap_or_default();
            let waiting = &container["state"]["waiting"];
            let reason = text(&waiting["reason"]);
            if STUCK.contains(&reason.as_str()) {
                let last = &container["lastState"]["terminated"]["message"];
                // The end of the log is what it stopped for.
                let said = match last.as_str().and_then(|log| log.trim().lines().last()) {
                    Some(line) => printable(line),
                    None => text(&waiting["message"]),
                };
                return Rollout::Stuck(format!("pod {name}: {reason}: {said}"));
            }
            if !reason.is_empty() {
                because.push(format!("pod {name}: {reason}"));
            } else if container["ready"] == false {
                because.push(format!("pod {name} is not ready"));
            }
        }
        for condition in pod["status"]["conditions"].as_array().into_iter().flatten() {
            if condition["type"] == "PodScheduled" && condition["status"] == "False" {
                let said = condition["message"].as_str().unwrap_or_default();
                because.push(format!("pod {name} has no node: {}", printable(said)));
            }
        }
    }
    let counted = format!("{ready} of {wanted} replicas are ready");
    because.insert(0, counted);
    Rollout::Waiting(because.join("; "))
}

/// Whether something is left of an instance whose `Mesh` is gone, as when something else than [`remove`] took it out: what its
/// control plane wrote itself. Its webhook would keep pods from being made.
///
/// # Errors
/// Why that is not known.
pub async fn left_over(access: &Access, mesh: &MeshName) -> Result<bool, Failure> {
    let hook = webhook::configuration::name(mesh);
    for (version, kind, namespace, name) in [
        (
            "admissionregistration.k8s.io/v1",
            "MutatingWebhookConfiguration",
            None,
            hook.as_str(),
        ),
        (
            "catamaran.dev/v1alpha1",
            "MeshExport",
            Some(NAMESPACE),
            mesh.as_str(),
        ),
    ] {
        if get(access, version, kind, namespace, name).await?.is_some() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// What kind a manifest is of, and its name.
fn target(manifest: &Value) -> (ApiResource, String) {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let resource = resource(&text(&manifest["apiVersion"]), &text(&manifest["kind"]));
    (resource, text(&manifest["metadata"]["name"]))
}

pub(crate) fn resource(version: &str, kind: &str) -> ApiResource {
    let (group, version) = version.split_once('/').unwrap_or(("", version));
    ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind))
}

fn api(access: &Access, resource: &ApiResource, namespace: Option<&str>) -> Api<DynamicObject> {
    let client = access.client().clone();
    match namespace {
        Some(namespace) => Api::namespaced_with(client, namespace, resource),
        None => Api::all_with(client, resource),
    }
}

/// One object, if it is there; it is not when its kind is not installed.
pub(crate) async fn get(
    access: &Access,
    version: &str,
    kind: &str,
    namespace: Option<&str>,
    name: &str,
) -> Result<Option<DynamicObject>, Failure> {
    let api = api(access, &resource(version, kind), namespace);
    match within(access, api.get_opt(name)).await {
        Err(error) if is_missing(&error) => Ok(None),
        other => other,
    }
}

/// All objects with these labels; none when the kind is not installed.
pub(crate) async fn list(
    access: &Access,
    version: &str,
    kind: &str,
    namespace: Option<&str>,
    selector: &str,
) -> Result<Vec<DynamicObject>, Failure> {
    let api = api(access, &resource(version, kind), namespace);
    let params = ListParams::default().labels(selector);
    match within(access, api.list(&params)).await {
        Ok(list) => Ok(list.items),
        Err(error) if is_missing(&error) => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// A kind that is not installed has no path, which the API server says in other words than of an object.
fn is_missing(failure: &Failure) -> bool {
    matches!(
        failure,
        Failure::Absent | Failure::Unexpected { code: 404, .. }
    )
}

pub(crate) async fn within<T>(
    access: &Access,
    answer: impl Future<Output = Result<T, kube::Error>>,
) -> Result<T, Failure> {
    let answer = tokio::time::timeout(LIMIT, answer).await;
    let answer = answer.map_err(|_| Failure::Slow { limit: LIMIT })?;
    answer.map_err(|error| crate::api::of_error(access, &error))
}

/// Deletes an object; says whether it was there.
async fn delete(
    access: &Access,
    resource: &ApiResource,
    namespace: Option<&str>,
    name: &str,
) -> Result<bool, Failure> {
    let api = api(access, resource, namespace);
    let params = DeleteParams::background();
    match within(access, api.delete(name, &params)).await {
        Ok(_) => Ok(true),
        Err(error) if is_missing(&error) => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests;
