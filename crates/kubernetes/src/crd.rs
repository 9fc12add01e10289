//! Our own kinds: `Mesh`, `Cluster` and `MeshExport` of `catamaran.dev/v1alpha1`.
//!
//! Their shapes are those of local clusters, so that a manifest means the same in both. They hold intent and status; all of
//! them live in the namespace `catamaran-system`. What a schema can refuse, the API server refuses at once.

#![allow(
    unreachable_pub,
    reason = "the derives repeat the structs inside themselves"
)]

use catamaran_model::{
    ClusterId, Credential, EndpointAddress, FailoverMode, Fingerprint, GatewayAddress, Member,
    MemberMode, MeshExport as Export, MeshName, MeshSpec, MtlsMode, Version,
};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::core::CustomResourceExt as _;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The manager under which our own fields are written.
pub const FIELD_MANAGER: &str = "catamaran";

/// The definitions to install, in order.
pub fn definitions() -> Vec<CustomResourceDefinition> {
    let all = [Mesh::crd(), Cluster::crd(), MeshExport::crd()];
    all.into_iter().map(without_null).collect()
}

/// A field that may be missing need not be `null` too: the API server takes `null` away, and names only real values when it
/// refuses one.
fn without_null(definition: CustomResourceDefinition) -> CustomResourceDefinition {
    fn walk(value: &mut serde_json::Value) {
        if let Some(object) = value.as_object_mut() {
            object.remove("nullable");
            if let Some(values) = object.get_mut("enum").and_then(|v| v.as_array_mut()) {
                values.retain(|value| !value.is_null());
            }
            object.values_mut().for_each(walk);
        } else if let Some(array) = value.as_array_mut() {
            array.iter_mut().for_each(walk);
        }
    }
    let mut value = serde_json::to_value(definition).expect("a definition is plain data");
    walk(&mut value);
    serde_json::from_value(value).expect("it is still one")
}

/// The definitions as one YAML text, for `kubectl apply -f -`.
pub fn yaml() -> String {
    let documents = definitions().into_iter().map(|definition| {
        serde_saphyr::to_string(&definition).expect("a definition is plain data")
    });
    documents.collect::<Vec<_>>().join("---\n")
}

/// What an instance wants of itself.
#[derive(CustomResource, KubeSchema, Debug, Clone, Default, PartialEq, Deserialize, Serialize)]
#[kube(
    group = "catamaran.dev",
    version = "v1alpha1",
    kind = "Mesh",
    plural = "meshes",
    namespaced,
    status = "MeshStatus",
    category = "catamaran",
    derive = "PartialEq",
    doc = "A mesh instance: one control plane with its own configuration.",
    validation = Rule::new("self.metadata.name.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$') && size(self.metadata.name) <= 63")
        .message("a mesh name has at most 63 lower-case letters, digits and '-'"),
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "Region", type_ = "string", json_path = ".spec.region"),
    printcolumn(name = "Version", type_ = "string", json_path = ".spec.version"),
    printcolumn(name = "Clusters", type_ = "integer", json_path = ".status.clusters"),
    printcolumn(name = "Services", type_ = "integer", json_path = ".status.services"),
    printcolumn(name = "Proxies", type_ = "integer", json_path = ".status.proxies"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].message",
        priority = 1
    )
)]
#[serde(rename_all = "camelCase")]
pub struct MeshFields {
    /// The region it stands in, as in topology.kubernetes.io/region.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        regex(pattern = r"^[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$"),
        length(max = 63)
    )]
    pub region: Option<String>,
    /// The version it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        regex(pattern = r"^[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$"),
        length(max = 63)
    )]
    pub version: Option<String>,
    /// The trust domain of its workloads; cluster.local when missing. It is part of every identity and cannot change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"),
        length(max = 253)
    )]
    #[x_kube(validation = Rule::new("self == oldSelf").message("the trust domain is part of every identity and cannot change; create another instance"))]
    pub trust_domain: Option<String>,
    /// The DNS suffix of services; cluster.local when missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"),
        length(max = 253)
    )]
    pub domain: Option<String>,
    /// Whether workloads accept plain text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtls: Option<Mtls>,
    /// How endpoints of several places are used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failover: Option<Failover>,
}

/// Whether workloads accept plain text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[allow(missing_docs, reason = "see MtlsMode of the model")]
pub enum Mtls {
    Strict,
    Permissive,
}

/// How endpoints of several places are used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[allow(missing_docs, reason = "see FailoverMode of the model")]
pub enum Failover {
    Spread,
    LocalFirst,
}

/// Where an object is in its life.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum Phase {
    /// Nothing is known of it yet.
    #[default]
    Pending,
    /// All is as wanted.
    Ready,
    /// It works, and is on its way to another version.
    Updating,
    /// It works, and something is not as wanted; a condition says what.
    Degraded,
    /// It does not work; a condition says why.
    Failed,
    /// It is being taken away.
    Removing,
}

/// What became of a `Mesh`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct MeshStatus {
    /// Where it is in its life.
    pub phase: Phase,
    /// The generation of the spec that this speaks of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// The versions that its control planes really run.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub versions: Vec<String>,
    /// Clusters of the instance, its own among them.
    pub clusters: i64,
    /// Services of all of them, each name once.
    pub services: i64,
    /// Endpoints of all of them.
    pub endpoints: i64,
    /// Proxies that are connected, to whichever replica.
    pub proxies: i64,
    /// The replicas of its control plane that live, as each says of itself.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "replicas")]
    pub replicas: Vec<ReplicaStatus>,
    /// The replica that wrote this, by its name in the lease.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub writer: Option<String>,
    /// What is as wanted, and what is not.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "conditions")]
    pub conditions: Vec<Condition>,
}

/// One replica of a control plane.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ReplicaStatus {
    /// Its pod.
    pub name: String,
    /// The version it runs.
    pub version: String,
    /// Proxies that are connected to it.
    pub proxies: i64,
}

/// A cluster of an instance, and what the instance may do with it.
#[derive(CustomResource, KubeSchema, Debug, Clone, PartialEq, Deserialize, Serialize)]
#[kube(
    group = "catamaran.dev",
    version = "v1alpha1",
    kind = "Cluster",
    plural = "clusters",
    namespaced,
    status = "ClusterStatus",
    category = "catamaran",
    derive = "PartialEq",
    doc = "A cluster of a mesh instance.",
    validation = Rule::new("self.metadata.name.matches('^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$') && size(self.metadata.name) <= 253")
        .message("a cluster name has lower-case letters, digits, '-' and '.'"),
    printcolumn(name = "Mode", type_ = "string", json_path = ".spec.mode"),
    printcolumn(name = "Network", type_ = "string", json_path = ".spec.network"),
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "Freshness", type_ = "string", json_path = ".status.freshness.state"),
    printcolumn(name = "Since", type_ = "date", json_path = ".status.freshness.since"),
    printcolumn(name = "Services", type_ = "integer", json_path = ".status.services"),
    printcolumn(name = "Endpoints", type_ = "integer", json_path = ".status.endpoints"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Mesh", type_ = "string", json_path = ".status.mesh", priority = 1),
    printcolumn(name = "Version", type_ = "string", json_path = ".status.version", priority = 1),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.freshness.reason", priority = 1),
    printcolumn(name = "Credential", type_ = "string", json_path = ".status.credentialExpires", priority = 1)
)]
#[x_kube(
    validation = Rule::new("!(self.gateway && self.mode == 'DiscoveryOnly')")
        .message("gateway: true asks to deploy a gateway, which is done in managed clusters only; for a discovery-only one give its gatewayAddresses"),
    validation = Rule::new("!(has(self.folder) && has(self.secret))").message("folder and secret exclude each other")
)]
#[serde(rename_all = "camelCase")]
pub struct ClusterFields {
    /// What the instance may do with it.
    pub mode: Mode,
    /// The network its endpoints are in, when they do not say otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        regex(pattern = r"^[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$"),
        length(max = 63)
    )]
    pub network: Option<String>,
    /// Whether the instance deploys an east-west gateway there.
    #[serde(default)]
    pub gateway: bool,
    /// Gateway addresses given by hand, IP:PORT; they take the place of discovered ones.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 64),
        inner(regex(pattern = r"^(\d{1,3}(\.\d{1,3}){3}|\[[0-9a-fA-F:.]+\]):[1-9]\d{0,4}$"))
    )]
    pub gateway_addresses: Vec<String>,
    /// A local cluster's folder; not for clusters with an API server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 4096))]
    pub folder: Option<String>,
    /// The Secret with its kubeconfig under the cluster's name: NAME in this namespace, or NAMESPACE/NAME.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        regex(pattern = r"^([a-z0-9]([-a-z0-9]*[a-z0-9])?/)?[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"),
        length(max = 317)
    )]
    pub secret: Option<String>,
}

/// What an instance may do with a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[allow(missing_docs, reason = "see MemberMode of the model")]
pub enum Mode {
    Managed,
    DiscoveryOnly,
}

/// What became of a `Cluster`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ClusterStatus {
    /// Where it is in its life.
    pub phase: Phase,
    /// The generation of the spec that this speaks of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// How fresh our knowledge of it is. It says nothing about its data path.
    pub freshness: FreshnessStatus,
    /// The UID of its namespace kube-system, by which one cluster under two names is found.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uid: Option<String>,
    /// The instance that manages it, as that says itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mesh: Option<String>,
    /// The version which that instance runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// The last complete list.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    /// Its services.
    pub services: i64,
    /// Its endpoints.
    pub endpoints: i64,
    /// When the credential ends, RFC 3339; it is renewed at half of its life.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "time")]
    pub credential_expires: Option<String>,
    /// The replica that wrote this, by its name in the lease.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub writer: Option<String>,
    /// What is as wanted, and what is not.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "conditions")]
    pub conditions: Vec<Condition>,
}

/// How fresh our knowledge of a cluster is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct FreshnessStatus {
    /// Which of the three.
    pub state: FreshnessState,
    /// Since when it is stale, RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "time")]
    pub since: Option<String>,
    /// Why it is not fresh.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// See `Freshness` of the registry.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum FreshnessState {
    /// Nothing of it is known yet.
    #[default]
    Unknown,
    /// A complete list, and a live watch.
    Fresh,
    /// Discovery is broken; what was known stays in use.
    Stale,
}

/// The one word between primaries: what an instance says of itself in its own cluster.
#[derive(CustomResource, KubeSchema, Debug, Clone, PartialEq, Deserialize, Serialize)]
#[kube(
    group = "catamaran.dev",
    version = "v1alpha1",
    kind = "MeshExport",
    plural = "meshexports",
    namespaced,
    status = "MeshExportStatus",
    category = "catamaran",
    derive = "PartialEq",
    doc = "What a mesh instance says of itself to the other primaries. Written by its control plane only.",
    validation = Rule::new("self.metadata.name.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$') && size(self.metadata.name) <= 63")
        .message("a MeshExport has the name of its mesh"),
    printcolumn(name = "Cluster", type_ = "string", json_path = ".spec.cluster"),
    printcolumn(name = "Version", type_ = "string", json_path = ".spec.version"),
    printcolumn(name = "Region", type_ = "string", json_path = ".spec.region"),
    printcolumn(name = "Network", type_ = "string", json_path = ".spec.network"),
    printcolumn(name = "Services", type_ = "integer", json_path = ".status.services"),
    printcolumn(name = "Endpoints", type_ = "integer", json_path = ".status.endpoints"),
    printcolumn(name = "Updated", type_ = "date", json_path = ".status.updated"),
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase", priority = 1),
    printcolumn(name = "Signs Until", type_ = "string", json_path = ".status.signsUntil", priority = 1)
)]
#[serde(rename_all = "camelCase")]
pub struct ExportFields {
    /// The instance's managed cluster.
    #[schemars(length(min = 1, max = 253))]
    pub cluster: String,
    /// The UID of its namespace kube-system.
    #[schemars(length(max = 128))]
    pub cluster_uid: String,
    /// The version the instance runs.
    #[schemars(length(min = 1, max = 63))]
    pub version: String,
    /// Its region.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub region: Option<String>,
    /// The network its cluster is assigned to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub network: Option<String>,
    /// The gateways of its cluster, IP:PORT.
    #[serde(default)]
    #[schemars(length(max = 256), inner(length(max = 64)))]
    pub gateways: Vec<String>,
    /// The roots it trusts, SHA-256 in hexadecimal.
    #[serde(default)]
    #[schemars(length(max = 16), inner(regex(pattern = "^[0-9a-f]{64}$")))]
    pub roots: Vec<String>,
    /// The intermediates that may speak for its cluster's workloads, SHA-256 in hexadecimal.
    #[serde(default)]
    #[schemars(length(max = 16), inner(regex(pattern = "^[0-9a-f]{64}$")))]
    pub intermediates: Vec<String>,
    /// Digest of its configuration, for drift reports.
    #[serde(default)]
    #[schemars(length(max = 256))]
    pub digest: String,
}

/// How an instance is, as it says itself: for people, and for those who look at it from another cluster. Proxies hear nothing
/// of it.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct MeshExportStatus {
    /// Where it is in its life.
    pub phase: Phase,
    /// Services of its cluster that others may use.
    pub services: i64,
    /// Their endpoints.
    pub endpoints: i64,
    /// Replicas of its control plane that live.
    pub replicas: i64,
    /// When the intermediate that it signs with ends, RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "time")]
    pub signs_until: Option<String>,
    /// When it was last written, RFC 3339: at least every five minutes while a control plane runs there.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "time")]
    pub updated: Option<String>,
    /// The replica that wrote this, by its name in the lease.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub writer: Option<String>,
    /// What is as wanted, and what is not.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "conditions")]
    pub conditions: Vec<Condition>,
}

/// Conditions are a map by their type, so that several writers do not undo each other.
fn conditions(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({
        "type": "array",
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["type"],
        "items": {
            "type": "object",
            "required": ["type", "status", "lastTransitionTime", "reason", "message"],
            "properties": {
                "type": {"type": "string", "maxLength": 316},
                "status": {"type": "string", "enum": ["True", "False", "Unknown"]},
                "observedGeneration": {"type": "integer", "format": "int64", "minimum": 0},
                "lastTransitionTime": {"type": "string", "format": "date-time"},
                "reason": {"type": "string", "minLength": 1, "maxLength": 1024},
                "message": {"type": "string", "maxLength": 32768}
            }
        }
    })
}

/// A map by their name.
fn replicas(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
    let mut one = ReplicaStatus::json_schema(generator);
    one.insert("required".into(), serde_json::json!(["name"]));
    schemars::json_schema!({
        "type": "array",
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["name"],
        "items": one,
    })
}

fn time(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({"type": "string", "format": "date-time"})
}

impl MeshFields {
    /// What a `Mesh` of this name says, or why it may not say it.
    ///
    /// Without `mtls` it is permissive here, as people expect on Kubernetes.
    pub fn spec(&self, name: &str) -> Result<MeshSpec, String> {
        Ok(MeshSpec {
            name: MeshName::new(name).map_err(text)?,
            region: optional(&self.region)?,
            version: optional(&self.version)?,
            trust_domain: optional(&self.trust_domain)?.unwrap_or_default(),
            domain: optional(&self.domain)?.unwrap_or_default(),
            mtls: match self.mtls {
                Some(Mtls::Strict) => MtlsMode::Strict,
                Some(Mtls::Permissive) | None => MtlsMode::Permissive,
            },
            failover: match self.failover {
                Some(Failover::LocalFirst) => FailoverMode::LocalFirst,
                Some(Failover::Spread) | None => FailoverMode::Spread,
            },
        })
    }
}

impl From<&MeshSpec> for Mesh {
    fn from(spec: &MeshSpec) -> Mesh {
        let fields = MeshFields {
            region: spec.region.as_ref().map(ToString::to_string),
            version: spec.version.as_ref().map(ToString::to_string),
            trust_domain: Some(spec.trust_domain.to_string()),
            domain: Some(spec.domain.to_string()),
            mtls: Some(match spec.mtls {
                MtlsMode::Strict => Mtls::Strict,
                MtlsMode::Permissive => Mtls::Permissive,
            }),
            failover: Some(match spec.failover {
                FailoverMode::Spread => Failover::Spread,
                FailoverMode::LocalFirst => Failover::LocalFirst,
            }),
        };
        let mut mesh = Mesh::new(spec.name.as_str(), fields);
        mesh.metadata.namespace = Some(catamaran_model::SpiffeId::SYSTEM_NAMESPACE.into());
        mesh
    }
}

impl ClusterFields {
    /// What a `Cluster` of this name says, or why it may not say it.
    pub fn member(&self, name: &str) -> Result<Member, String> {
        let mode = match self.mode {
            Mode::Managed => MemberMode::Managed,
            Mode::DiscoveryOnly => MemberMode::DiscoveryOnly,
        };
        if self.gateway && mode == MemberMode::DiscoveryOnly {
            return Err(
                "gateway: true asks to deploy a gateway, which is done in managed clusters only; for a discovery-only one \
                 give its gatewayAddresses"
                    .into(),
            );
        }
        let cluster = ClusterId::new(name).map_err(text)?;
        let credential = match (&self.folder, &self.secret) {
            (Some(_), Some(_)) => return Err("folder and secret exclude each other".into()),
            (None, Some(secret)) => Credential::Secret(secret.clone()),
            (Some(folder), None) => Credential::Folder(folder.clone()),
            // The instance's own cluster needs none: its control plane runs there.
            (None, None) => Credential::Folder(format!("clusters/{cluster}")),
        };
        let addresses = self.gateway_addresses.iter();
        Ok(Member {
            cluster,
            mode,
            network: optional(&self.network)?,
            gateway: self.gateway,
            gateway_addresses: addresses.map(|at| gateway(at)).collect::<Result<_, _>>()?,
            credential,
        })
    }
}

impl From<&Member> for Cluster {
    fn from(member: &Member) -> Cluster {
        let (folder, secret) = match &member.credential {
            Credential::Folder(folder) => (Some(folder.clone()), None),
            Credential::Secret(secret) => (None, Some(secret.clone())),
        };
        let fields = ClusterFields {
            mode: match member.mode {
                MemberMode::Managed => Mode::Managed,
                MemberMode::DiscoveryOnly => Mode::DiscoveryOnly,
            },
            network: member.network.as_ref().map(ToString::to_string),
            gateway: member.gateway,
            gateway_addresses: (member.gateway_addresses.iter())
                .map(ToString::to_string)
                .collect(),
            folder,
            secret,
        };
        let mut cluster = Cluster::new(member.cluster.as_str(), fields);
        cluster.metadata.namespace = Some(catamaran_model::SpiffeId::SYSTEM_NAMESPACE.into());
        cluster
    }
}

impl ExportFields {
    /// What a `MeshExport` of this name says, or why it may not say it.
    pub fn export(&self, name: &str) -> Result<Export, String> {
        let prints = |all: &[String]| -> Result<Vec<Fingerprint>, String> {
            let one = |hex: &String| {
                Fingerprint::parse(hex)
                    .ok_or_else(|| format!("{:?} is no SHA-256", crate::failure::printable(hex)))
            };
            all.iter().map(one).collect()
        };
        Ok(Export {
            mesh: MeshName::new(name).map_err(text)?,
            cluster: ClusterId::new(&self.cluster).map_err(text)?,
            cluster_uid: self.cluster_uid.clone(),
            version: Version::new(&self.version).map_err(text)?,
            region: optional(&self.region)?,
            network: optional(&self.network)?,
            gateways: (self.gateways.iter())
                .map(|at| gateway(at))
                .collect::<Result<_, _>>()?,
            roots: prints(&self.roots)?,
            intermediates: prints(&self.intermediates)?,
            digest: self.digest.clone(),
        })
    }
}

impl From<&Export> for MeshExport {
    fn from(export: &Export) -> MeshExport {
        let hex = |prints: &[Fingerprint]| prints.iter().map(ToString::to_string).collect();
        let fields = ExportFields {
            cluster: export.cluster.to_string(),
            cluster_uid: export.cluster_uid.clone(),
            version: export.version.to_string(),
            region: export.region.as_ref().map(ToString::to_string),
            network: export.network.as_ref().map(ToString::to_string),
            gateways: export.gateways.iter().map(ToString::to_string).collect(),
            roots: hex(&export.roots),
            intermediates: hex(&export.intermediates),
            digest: export.digest.clone(),
        };
        let mut object = MeshExport::new(export.mesh.as_str(), fields);
        object.metadata.namespace = Some(catamaran_model::SpiffeId::SYSTEM_NAMESPACE.into());
        object
    }
}

/// `IP:PORT`; pods and gateways of a Kubernetes cluster are never on loopback.
fn gateway(at: &str) -> Result<GatewayAddress, String> {
    let shown = || crate::failure::printable(at);
    let socket: std::net::SocketAddr = at
        .parse()
        .map_err(|_| format!("{:?} is not IP:PORT", shown()))?;
    if socket.port() == 0 {
        return Err(format!("{:?} has no port", shown()));
    }
    Ok(GatewayAddress {
        address: EndpointAddress::new(socket.ip()).map_err(text)?,
        port: socket.port(),
    })
}

fn optional<T>(given: &Option<String>) -> Result<Option<T>, String>
where
    T: std::str::FromStr<Err = catamaran_model::NameError>,
{
    let read = |said: &String| said.parse().map_err(|e: T::Err| e.to_string());
    given.as_ref().map(read).transpose()
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

#[cfg(test)]
mod tests;
