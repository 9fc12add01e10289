//! Sidecars for pods: whether a pod gets one, and the pod with it.
//!
//! Labels, annotations and names are Istio's where Istio has them (`pkg/kube/inject`, its injection template), so that what
//! people wrote for Istio works unchanged. Everything here is a function of its arguments; who asks is the admission webhook or
//! a person with a file.

use std::collections::BTreeMap;

use catamaran_model::{ClusterDomain, ClusterId, MeshName, Namespace, NetworkId, TrustDomain};
use serde_json::{Map, Value, json};

use crate::seen::{INJECTION_LABELS, NETWORK_LABEL, TLS_MODE_LABEL};

mod capture;
mod file;
mod probes;
mod workload;

pub use file::{FileError, documents, inject_file};
pub use workload::{Document, DocumentError, inject_document};

/// The container that carries a pod's connections (Istio's name).
pub const SIDECAR: &str = "istio-proxy";
/// The init container that redirects them (Istio's name).
pub const REDIRECT: &str = "istio-init";
/// The user and group that the sidecar runs as; connections of this user are not captured.
pub const PROXY_USER: i64 = 1337;
/// For whom a pod's token is good (Istio's).
pub const TOKEN_AUDIENCE: &str = "istio-ca";
/// The ConfigMap that holds the mesh's roots in each namespace, and its key.
pub const ROOTS: (&str, &str) = ("catamaran-ca-root-cert", "root-cert.pem");
/// The label by which a pod says itself whether it wants a sidecar; an annotation of this name counts where there is no label.
pub const INJECT: &str = "sidecar.istio.io/inject";
/// The label that names the instance, on a namespace or pod.
pub const REVISION: &str = "istio.io/rev";
/// The annotation that says what was added.
pub const STATUS: &str = "sidecar.istio.io/status";
/// Namespaces that never get sidecars, besides the instance's own.
pub const SYSTEM_NAMESPACES: [&str; 4] = [
    "kube-system",
    "kube-public",
    "kube-node-lease",
    "local-path-storage",
];

/// Our program in its image.
pub(crate) const PROGRAM: &str = "/usr/local/bin/catamaran";
const HEALTH_PORT: u16 = 15021;
/// How long a pod may take to end when it does not say, in seconds (Kubernetes').
const GRACE: u64 = 30;
/// What the sidecar itself may take of it.
const OWN_DRAIN: u64 = 11;
const TOKEN_FOLDER: &str = "/var/run/secrets/catamaran/token";
const ROOTS_FOLDER: &str = "/var/run/secrets/catamaran/roots";
const STATE_FOLDER: &str = "/var/lib/catamaran";
const VOLUMES: [&str; 3] = ["catamaran-token", "catamaran-roots", "catamaran-state"];
/// Annotations of Istio's that would change what a sidecar does, and that are not read.
const UNREAD: [&str; 9] = [
    "proxy.istio.io/config",
    "inject.istio.io/templates",
    "sidecar.istio.io/bootstrapOverride",
    "sidecar.istio.io/userVolume",
    "sidecar.istio.io/userVolumeMount",
    "sidecar.istio.io/componentLogLevel",
    "sidecar.istio.io/agentLogLevel",
    "status.sidecar.istio.io/port",
    "traffic.sidecar.istio.io/excludeInterfaces",
];

/// The instance whose sidecars are put beside programs.
#[derive(Debug, Clone)]
pub struct Instance {
    /// Its name, which is its revision too.
    pub mesh: MeshName,
    /// The cluster of the pods.
    pub cluster: ClusterId,
    /// The cluster's network.
    pub network: Option<NetworkId>,
    /// The trust domain.
    pub trust_domain: TrustDomain,
    /// The suffix of service names.
    pub cluster_domain: ClusterDomain,
    /// Where its control plane listens, `HOST:PORT`.
    pub control_plane: String,
    /// The image with our program.
    pub image: String,
    /// The namespace that the control plane itself runs in.
    pub own_namespace: Namespace,
    /// Whether nodes know sidecars as such: init containers that go on (Kubernetes 1.29 and later, by default).
    pub native: bool,
    /// Whether pods of namespaces that say nothing get one.
    pub by_default: bool,
}

/// What is known of the namespace of a pod.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// Its name.
    pub namespace: &'a str,
    /// Its labels.
    pub labels: &'a BTreeMap<String, String>,
}

/// What becomes of a pod.
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    /// It stays as it is.
    Leave(Why),
    /// The pod with its sidecar, and what its owner should know.
    Inject {
        /// The whole pod.
        pod: Value,
        /// For people.
        warnings: Vec<String>,
    },
}

/// Why a pod gets no sidecar.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Why {
    /// It shares its node's network, where redirects would be everybody's.
    #[error("it runs in its node's network")]
    HostNetwork,
    /// Its namespace belongs to the system or to the mesh itself.
    #[error("its namespace is the system's or the mesh's own")]
    SystemNamespace,
    /// It is not for Linux.
    #[error("it is not for Linux")]
    OtherSystem,
    /// It has one.
    #[error("it has a sidecar")]
    Injected,
    /// It says no.
    #[error("its label or annotation {INJECT} says no")]
    PodSaysNo,
    /// Its namespace says no, or nothing.
    #[error("its namespace does not ask for sidecars")]
    NotAsked,
    /// It belongs to another instance.
    #[error("it asks for another instance by the label {REVISION}")]
    OtherRevision,
}

/// Why a pod cannot have the sidecar that it asks for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InjectError {
    /// It is no pod.
    #[error("{field}: {reason}")]
    Shape {
        /// Where.
        field: String,
        /// What is wrong.
        reason: String,
    },
    /// An annotation has a value that means nothing here.
    #[error("annotation {annotation}: {value:?} {reason}")]
    Annotation {
        /// Which.
        annotation: String,
        /// Its value.
        value: String,
        /// What is wrong, and what would be right.
        reason: String,
    },
}

impl InjectError {
    fn shape(field: impl Into<String>, reason: impl Into<String>) -> InjectError {
        InjectError::Shape {
            field: field.into(),
            reason: reason.into(),
        }
    }

    fn annotation(annotation: &str, value: &str, reason: &str) -> InjectError {
        InjectError::Annotation {
            annotation: annotation.to_owned(),
            value: value.chars().take(200).collect(),
            reason: reason.to_owned(),
        }
    }
}

/// Decides about a pod, and adds the sidecar when it is to have one.
///
/// # Errors
/// What about the pod must be changed before it can have the sidecar that it asks for.
pub fn inject(instance: &Instance, place: Place<'_>, pod: &Value) -> Result<Verdict, InjectError> {
    let meta = Meta::of(pod)?;
    Ok(match leave(instance, place, &meta, pod) {
        Some(why) => Verdict::Leave(why),
        None => add(instance, &meta, pod.clone())?,
    })
}

/// The operations of a JSON patch (RFC 6902) that make `after` of `before`. What was there is replaced as a whole: nobody
/// changes a pod between an admission review and its answer.
pub fn patch(before: &Value, after: &Value) -> Value {
    let mut operations = Vec::new();
    for path in ["/metadata/labels", "/metadata/annotations", "/spec"] {
        let (a, b) = (before.pointer(path), after.pointer(path));
        if let Some(b) = b.filter(|_| a != b) {
            let op = if a.is_some() { "replace" } else { "add" };
            operations.push(json!({"op": op, "path": path, "value": b}));
        }
    }
    Value::Array(operations)
}

/// The labels and annotations of a pod.
struct Meta {
    labels: BTreeMap<String, String>,
    annotations: BTreeMap<String, String>,
}

impl Meta {
    fn of(pod: &Value) -> Result<Meta, InjectError> {
        if !pod.pointer("/spec/containers").is_some_and(Value::is_array) {
            return Err(InjectError::shape("spec.containers", "is missing"));
        }
        let texts = |field: &str| -> Result<BTreeMap<String, String>, InjectError> {
            let Some(map) = pod.pointer(&format!("/metadata/{field}")) else {
                return Ok(BTreeMap::new());
            };
            let wrong = || InjectError::shape(format!("metadata.{field}"), "is no map of texts");
            match map {
                Value::Null => Ok(BTreeMap::new()),
                Value::Object(map) => map
                    .iter()
                    .map(|(key, value)| {
                        let value = value.as_str().ok_or_else(wrong)?;
                        Ok((key.clone(), value.to_owned()))
                    })
                    .collect(),
                _ => Err(wrong()),
            }
        };
        Ok(Meta {
            labels: texts("labels")?,
            annotations: texts("annotations")?,
        })
    }

    fn annotation(&self, name: &str) -> Option<&str> {
        self.annotations.get(name).map(String::as_str)
    }

    /// What the pod itself says; the label beats the annotation.
    fn asks(&self) -> Option<bool> {
        let said = (self.labels.get(INJECT)).or_else(|| self.annotations.get(INJECT))?;
        match said.to_ascii_lowercase().as_str() {
            "true" | "yes" | "y" | "on" => Some(true),
            "false" | "no" | "n" | "off" => Some(false),
            _ => None,
        }
    }
}

fn leave(instance: &Instance, place: Place<'_>, meta: &Meta, pod: &Value) -> Option<Why> {
    let own = place.namespace == instance.own_namespace.as_str();
    if own || SYSTEM_NAMESPACES.contains(&place.namespace) {
        return Some(Why::SystemNamespace);
    }
    if pod.pointer("/spec/hostNetwork") == Some(&Value::Bool(true)) {
        return Some(Why::HostNetwork);
    }
    let system = pod.pointer("/spec/os/name").and_then(Value::as_str);
    let selected = pod.pointer("/spec/nodeSelector/kubernetes.io~1os");
    let selected = selected.and_then(Value::as_str);
    if system.or(selected).is_some_and(|name| name != "linux") {
        return Some(Why::OtherSystem);
    }
    let has = |list: &str| {
        let all = pod.pointer(list).and_then(Value::as_array);
        all.into_iter().flatten().any(is_sidecar)
    };
    if meta.annotation(STATUS).is_some() || has("/spec/containers") || has("/spec/initContainers") {
        return Some(Why::Injected);
    }
    if meta.asks() == Some(false) {
        return Some(Why::PodSaysNo);
    }
    let revision = meta
        .labels
        .get(REVISION)
        .or_else(|| place.labels.get(REVISION));
    match revision {
        Some(revision) if revision != instance.mesh.as_str() && revision != "default" => {
            return Some(Why::OtherRevision);
        }
        Some(_) => return None,
        None => {}
    }
    if meta.asks() == Some(true) {
        return None;
    }
    let mut said = INJECTION_LABELS
        .iter()
        .filter_map(|label| place.labels.get(*label));
    let wanted = match said.next().map(String::as_str) {
        Some("enabled") => true,
        Some(_) => false,
        None => instance.by_default,
    };
    (!wanted).then_some(Why::NotAsked)
}

/// A sidecar that stands there already; one with the image `auto` is a person's wishes for ours.
fn is_sidecar(container: &Value) -> bool {
    container["name"] == SIDECAR && container["image"] != "auto"
}

fn add(instance: &Instance, meta: &Meta, mut pod: Value) -> Result<Verdict, InjectError> {
    let mut warnings: Vec<String> = UNREAD
        .iter()
        .filter(|name| meta.annotations.contains_key(**name))
        .map(|name| format!("annotation {name} is not read by this mesh"))
        .collect();
    let native = switch(meta, "sidecar.istio.io/nativeSidecar")?.unwrap_or(instance.native);
    let spec = pod["spec"]
        .as_object_mut()
        .ok_or_else(|| InjectError::shape("spec", "is missing"))?;
    let wishes = take_wishes(spec);
    let probes = match switch(meta, "sidecar.istio.io/rewriteAppHTTPProbers")? {
        Some(false) => BTreeMap::new(),
        _ => probes::rewrite(spec, &mut warnings),
    };
    warn_of(spec, native, &mut warnings);

    let redirect = capture::container(instance, meta)?;
    let grace = spec.get("terminationGracePeriodSeconds");
    let grace = grace.and_then(Value::as_u64).unwrap_or(GRACE);
    let sidecar = merged(sidecar(instance, meta, native, grace, &probes)?, wishes);
    let init = list(spec, "initContainers")?;
    match native {
        // other init containers may need the network, which is the sidecar's from now on
        true => {
            init.splice(0..0, [redirect, sidecar]);
        }
        false => {
            init.push(redirect);
            list(spec, "containers")?.insert(0, sidecar);
        }
    }
    let added = volumes();
    let all = list(spec, "volumes")?;
    if let Some(taken) =
        (all.iter()).find(|volume| VOLUMES.iter().any(|name| volume["name"] == *name))
    {
        let reason = format!("the name {} is taken for the sidecar's", taken["name"]);
        return Err(InjectError::shape("spec.volumes", reason));
    }
    all.extend(added);

    for (label, value) in labels(instance, meta, &pod) {
        entry(&mut pod, "labels", label, value);
    }
    let status = match native {
        true => {
            json!({"initContainers": [REDIRECT, SIDECAR], "volumes": VOLUMES, "revision": instance.mesh.as_str()})
        }
        false => {
            json!({"initContainers": [REDIRECT], "containers": [SIDECAR], "volumes": VOLUMES, "revision": instance.mesh.as_str()})
        }
    };
    entry(&mut pod, "annotations", STATUS, status.to_string());
    Ok(Verdict::Inject { pod, warnings })
}

/// An annotation that is true or false.
fn switch(meta: &Meta, name: &str) -> Result<Option<bool>, InjectError> {
    match meta.annotation(name) {
        None => Ok(None),
        Some("true") => Ok(Some(true)),
        Some("false") => Ok(Some(false)),
        Some(other) => Err(InjectError::annotation(
            name,
            other,
            "is neither true nor false",
        )),
    }
}

/// A list of a pod's spec, which is made when it is not there.
fn list<'a>(
    spec: &'a mut Map<String, Value>,
    name: &str,
) -> Result<&'a mut Vec<Value>, InjectError> {
    let value = spec.entry(name).or_insert_with(|| json!([]));
    if value.is_null() {
        *value = json!([]);
    }
    value
        .as_array_mut()
        .ok_or_else(|| InjectError::shape(format!("spec.{name}"), "is no list"))
}

/// Sets a label or annotation.
fn entry(pod: &mut Value, field: &str, name: &str, value: String) {
    let map = &mut pod["metadata"][field];
    if !map.is_object() {
        *map = json!({});
    }
    map[name] = value.into();
}

/// Takes a person's wishes for the sidecar out of the pod: a container of its name with the image `auto`.
fn take_wishes(spec: &mut Map<String, Value>) -> Option<Value> {
    for name in ["containers", "initContainers"] {
        let Some(all) = spec.get_mut(name).and_then(Value::as_array_mut) else {
            continue;
        };
        if let Some(at) = all.iter().position(|one| one["name"] == SIDECAR) {
            return Some(all.remove(at));
        }
    }
    None
}

/// Our sidecar with a person's wishes: their fields win, their lists come after ours.
fn merged(mut sidecar: Value, wishes: Option<Value>) -> Value {
    let Some(Value::Object(wishes)) = wishes else {
        return sidecar;
    };
    for (field, wish) in wishes {
        if field == "name" || (field == "image" && wish == "auto") {
            continue;
        }
        match (&mut sidecar[&field], wish) {
            (Value::Array(ours), Value::Array(theirs)) if field != "args" && field != "command" => {
                ours.retain(|one| !theirs.iter().any(|other| other["name"] == one["name"]));
                ours.extend(theirs);
            }
            (Value::Object(ours), Value::Object(theirs)) => ours.extend(theirs),
            (ours, theirs) => *ours = theirs,
        }
    }
    sidecar
}

/// What the owner of a pod should know before it surprises them.
fn warn_of(spec: &Map<String, Value>, native: bool, warnings: &mut Vec<String>) {
    let user = |security: &Value| security["runAsUser"].as_i64() == Some(PROXY_USER);
    let all = spec.get("containers").and_then(Value::as_array);
    for container in all.into_iter().flatten() {
        let own = container.get("securityContext");
        let pod = spec.get("securityContext");
        if own.is_some_and(user)
            || (own.is_none_or(|own| own["runAsUser"].is_null()) && pod.is_some_and(user))
        {
            warnings.push(format!(
                "container {} runs as user {PROXY_USER}, the sidecar's: its connections are not captured",
                container["name"]
            ));
        }
    }
    let restarts = spec.get("restartPolicy").and_then(Value::as_str);
    if !native && restarts.is_some_and(|policy| policy != "Always") {
        warnings.push(
            "the pod is to end by itself, and its sidecar would go on: use a cluster whose nodes know sidecars, or ask for no sidecar".into(),
        );
    }
}

fn sidecar(
    instance: &Instance,
    meta: &Meta,
    native: bool,
    grace: u64,
    probes: &BTreeMap<String, Value>,
) -> Result<Value, InjectError> {
    let args = [
        ("--mesh", instance.mesh.as_str()),
        ("--cluster", instance.cluster.as_str()),
        ("--namespace", "$(POD_NAMESPACE)"),
        ("--pod", "$(POD_NAME)"),
        ("--service-account", "$(SERVICE_ACCOUNT)"),
        ("--control-plane", &instance.control_plane),
        ("--root-cert", &format!("{ROOTS_FOLDER}/{}", ROOTS.1)),
        ("--join-token", &format!("{TOKEN_FOLDER}/token")),
        ("--state", &format!("{STATE_FOLDER}/state")),
        ("--admin-socket", &format!("{STATE_FOLDER}/admin.sock")),
        ("--capture", "redirect"),
        ("--address", "$(POD_IP)"),
        ("--trust-domain", instance.trust_domain.as_str()),
        ("--cluster-domain", instance.cluster_domain.as_str()),
        ("--resolv-conf", "/etc/resolv.conf"),
    ];
    let args: Vec<&str> = ["proxy", "sidecar"]
        .into_iter()
        .chain(args.into_iter().flat_map(|(name, value)| [name, value]))
        .collect();
    let mut env = vec![
        field("POD_NAME", "metadata.name"),
        field("POD_NAMESPACE", "metadata.namespace"),
        field("SERVICE_ACCOUNT", "spec.serviceAccountName"),
        field("POD_IP", "status.podIP"),
    ];
    if let Some(level) = meta.annotation("sidecar.istio.io/logLevel") {
        let known = ["trace", "debug", "info", "warning", "warn", "error", "off"];
        if !known.contains(&level) {
            let reason = "is none of trace, debug, info, warning, error, off";
            return Err(InjectError::annotation(
                "sidecar.istio.io/logLevel",
                level,
                reason,
            ));
        }
        let level = if level == "warning" { "warn" } else { level };
        env.push(json!({"name": "CATAMARAN_LOG", "value": level}));
    }
    if !probes.is_empty() {
        env.push(json!({"name": "CATAMARAN_APP_PROBES", "value": json!(probes).to_string()}));
    }
    let ready = json!({"path": "/healthz/ready", "port": HEALTH_PORT});
    let mut container = json!({
        "name": SIDECAR,
        "image": meta.annotation("sidecar.istio.io/proxyImage").unwrap_or(&instance.image),
        "command": [PROGRAM],
        "args": args,
        "env": env,
        "ports": [{"name": "http-health", "containerPort": HEALTH_PORT, "protocol": "TCP"}],
        "readinessProbe": {"httpGet": ready, "periodSeconds": 5, "timeoutSeconds": 3, "failureThreshold": 4},
        "resources": resources(meta),
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
            {"name": VOLUMES[0], "mountPath": TOKEN_FOLDER, "readOnly": true},
            {"name": VOLUMES[1], "mountPath": ROOTS_FOLDER, "readOnly": true},
            {"name": VOLUMES[2], "mountPath": STATE_FOLDER},
        ],
    });
    match native {
        true => {
            container["restartPolicy"] = "Always".into();
            container["startupProbe"] = json!({"httpGet": ready, "periodSeconds": 1, "timeoutSeconds": 3, "failureThreshold": 600});
        }
        // containers start in their order, each after the hook of the one before
        false => {
            let drain = format!("{}s", drain_for(grace));
            container["lifecycle"] = json!({
                "postStart": {"exec": {"command": [PROGRAM, "proxy", "wait"]}},
                "preStop": {"exec": {"command": [PROGRAM, "proxy", "drain", "--timeout", drain]}},
            });
        }
    }
    Ok(container)
}

/// How long the end of a sidecar may be put off for the programs that still need it, in seconds: all of the pod's time to end
/// but what the sidecar needs then for its own drain.
fn drain_for(grace: u64) -> u64 {
    grace.saturating_sub(OWN_DRAIN).max(1)
}

/// A variable with something of the pod itself.
fn field(name: &str, path: &str) -> Value {
    json!({"name": name, "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": path}}})
}

/// What the sidecar may use; Istio's annotations say otherwise.
fn resources(meta: &Meta) -> Value {
    let said = |cpu: &str, memory: &str, default: Option<(&str, &str)>| {
        let mut map = Map::new();
        let cpu = meta.annotation(cpu).or(default.map(|it| it.0));
        let memory = meta.annotation(memory).or(default.map(|it| it.1));
        for (name, value) in [("cpu", cpu), ("memory", memory)] {
            if let Some(value) = value {
                map.insert(name.into(), value.into());
            }
        }
        map
    };
    let requests = said(
        "sidecar.istio.io/proxyCPU",
        "sidecar.istio.io/proxyMemory",
        Some(("10m", "32Mi")),
    );
    let limits = said(
        "sidecar.istio.io/proxyCPULimit",
        "sidecar.istio.io/proxyMemoryLimit",
        None,
    );
    match limits.is_empty() {
        true => json!({"requests": requests}),
        false => json!({"requests": requests, "limits": limits}),
    }
}

fn volumes() -> [Value; 3] {
    [
        json!({"name": VOLUMES[0], "projected": {"sources": [
            {"serviceAccountToken": {"audience": TOKEN_AUDIENCE, "expirationSeconds": 43200, "path": "token"}}
        ]}}),
        json!({"name": VOLUMES[1], "configMap": {"name": ROOTS.0}}),
        // in memory: a private key is among it
        json!({"name": VOLUMES[2], "emptyDir": {"medium": "Memory", "sizeLimit": "32Mi"}}),
    ]
}

/// The labels that a pod of the mesh bears, less those it has.
fn labels(instance: &Instance, meta: &Meta, pod: &Value) -> Vec<(&'static str, String)> {
    let first = |names: &[&str]| {
        names
            .iter()
            .find_map(|name| meta.labels.get(*name))
            .cloned()
    };
    let owner = || {
        let name = pod.pointer("/metadata/ownerReferences/0/name");
        let name = name.or_else(|| pod.pointer("/metadata/name"));
        name.and_then(Value::as_str).map(str::to_owned)
    };
    let name = first(&["app.kubernetes.io/name", "app"]).or_else(owner);
    let version = first(&["app.kubernetes.io/version", "version"]);
    let network = instance.network.as_ref().map(NetworkId::to_string);
    let all = [
        (TLS_MODE_LABEL, Some("istio".to_owned())),
        ("service.istio.io/canonical-name", name),
        (
            "service.istio.io/canonical-revision",
            Some(version.unwrap_or_else(|| "latest".into())),
        ),
        (NETWORK_LABEL, network),
        (REVISION, Some(instance.mesh.to_string())),
    ];
    all.into_iter()
        .filter(|(label, _)| !meta.labels.contains_key(*label))
        .filter_map(|(label, value)| Some((label, value?)))
        .collect()
}

#[cfg(test)]
mod tests;
