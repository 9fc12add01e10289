//! The objects of a cluster: the parts of Kubernetes' manifests that matter here, and our own `Mesh`, `Cluster` and
//! `MeshExport`. Fields that are not named here are not looked at.

use std::collections::BTreeMap;
use std::fmt;

use catamaran_model::{
    ClusterId, Credential, EndpointAddress, FailoverMode, Fingerprint, GatewayAddress, Labels,
    Member, MemberMode, MeshExport, MeshName, MeshSpec, MtlsMode, Namespace, PodName, PortName,
    ServiceAccount, ServiceName, SliceName, SpiffeId, Version,
};
use serde::{Deserialize, Serialize};

/// The group and version of our own kinds.
pub const OUR_API_VERSION: &str = "catamaran.dev/v1alpha1";
/// The most pods that one Deployment may ask for.
pub const MAX_REPLICAS: u32 = 100;
/// The pod label that tells its network (Istio's).
pub const NETWORK_LABEL: &str = "topology.istio.io/network";
/// The label that says how a pod is spoken to (Istio's); `istio` is mesh mTLS.
pub const TLS_MODE_LABEL: &str = "security.istio.io/tlsMode";
/// The label that leads from a slice to its service.
pub const SERVICE_NAME_LABEL: &str = "kubernetes.io/service-name";

/// The kinds of objects we read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[allow(missing_docs, reason = "Kubernetes' own words")]
pub enum Kind {
    Namespace,
    ServiceAccount,
    Secret,
    Service,
    Deployment,
    Mesh,
    Cluster,
    MeshExport,
    Pod,
    EndpointSlice,
}

impl Kind {
    const ALL: [Kind; 10] = [
        Kind::Namespace,
        Kind::ServiceAccount,
        Kind::Secret,
        Kind::Service,
        Kind::Deployment,
        Kind::Mesh,
        Kind::Cluster,
        Kind::MeshExport,
        Kind::Pod,
        Kind::EndpointSlice,
    ];

    /// As manifests write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Namespace => "Namespace",
            Kind::ServiceAccount => "ServiceAccount",
            Kind::Secret => "Secret",
            Kind::Service => "Service",
            Kind::Deployment => "Deployment",
            Kind::Mesh => "Mesh",
            Kind::Cluster => "Cluster",
            Kind::MeshExport => "MeshExport",
            Kind::Pod => "Pod",
            Kind::EndpointSlice => "EndpointSlice",
        }
    }

    /// The `apiVersion` under which the kind is read and written.
    pub fn api_version(self) -> &'static str {
        match self {
            Kind::Deployment => "apps/v1",
            Kind::EndpointSlice => "discovery.k8s.io/v1",
            Kind::Mesh | Kind::Cluster | Kind::MeshExport => OUR_API_VERSION,
            _ => "v1",
        }
    }

    /// The kind that a manifest means, if it is one of these.
    pub fn of(api_version: &str, kind: &str) -> Option<Kind> {
        (Kind::ALL.into_iter()).find(|k| k.as_str() == kind && k.api_version() == api_version)
    }

    /// What people write on command lines: `deployment`, `deploy`, `svc`, `sa`, `ns`, `po`.
    pub fn of_word(word: &str) -> Option<Kind> {
        let word = word.to_ascii_lowercase();
        let short = match word.as_str() {
            "deploy" => "deployment",
            "svc" => "service",
            "sa" => "serviceaccount",
            "ns" => "namespace",
            "po" => "pod",
            other => other,
        };
        let singular = short.strip_suffix('s').unwrap_or(short);
        (Kind::ALL.into_iter()).find(|kind| {
            let name = kind.as_str().to_ascii_lowercase();
            name == short || name == singular
        })
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Which object. A `Namespace` is in itself.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectKey {
    /// Its kind.
    pub kind: Kind,
    /// The namespace it is in.
    pub namespace: Namespace,
    /// Its name, legal for its kind.
    pub name: String,
}

impl ObjectKey {
    /// Puts the three together.
    pub fn new(kind: Kind, namespace: &Namespace, name: &str) -> ObjectKey {
        ObjectKey {
            kind,
            namespace: namespace.clone(),
            name: name.into(),
        }
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}/{}", self.kind, self.namespace, self.name)
    }
}

/// An object, checked: names are legal, and what refers to itself fits together.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs, reason = "the kinds")]
pub enum Object {
    Namespace(NamespaceObject),
    ServiceAccount(ServiceAccountObject),
    Secret(SecretObject),
    Service(ServiceObject),
    Deployment(DeploymentObject),
    Mesh(MeshObject),
    Cluster(ClusterObject),
    MeshExport(MeshExportObject),
    Pod(PodObject),
    EndpointSlice(SliceObject),
}

/// `metadata`
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Metadata {
    /// The object's name.
    #[serde(default)]
    pub name: String,
    /// Its namespace, when it says one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Its labels.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: Labels,
    /// Its annotations.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: Labels,
}

impl Metadata {
    /// Name and namespace, nothing else.
    pub fn named(namespace: &Namespace, name: &str) -> Metadata {
        Metadata {
            name: name.into(),
            namespace: Some(namespace.to_string()),
            ..Metadata::default()
        }
    }
}

/// `v1 Namespace`
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "Kubernetes' own words")]
pub struct NamespaceObject {
    pub metadata: Metadata,
}

impl NamespaceObject {
    /// The label that asks for sidecars, ours and Istio's.
    pub const INJECTION_LABELS: [&'static str; 2] = ["catamaran.dev/injection", "istio-injection"];

    /// Whether pods of the namespace get a sidecar: ours wins over Istio's when both are there.
    pub fn inject(&self) -> bool {
        (Self::INJECTION_LABELS.iter())
            .find_map(|label| self.metadata.labels.get(*label))
            .is_some_and(|value| value == "enabled")
    }
}

/// `v1 ServiceAccount`
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "Kubernetes' own words")]
pub struct ServiceAccountObject {
    pub metadata: Metadata,
}

/// `v1 Secret`
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs, reason = "Kubernetes' own words")]
pub struct SecretObject {
    pub metadata: Metadata,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub data: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub string_data: BTreeMap<String, String>,
}

impl fmt::Debug for SecretObject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secret({}, contents not shown)", self.metadata.name)
    }
}

/// `v1 Service`
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "Kubernetes' own words")]
pub struct ServiceObject {
    pub metadata: Metadata,
    #[serde(default)]
    pub spec: ServiceSpec,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<ServiceStatus>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs, reason = "Kubernetes' own words")]
pub struct ServiceSpec {
    #[serde(default, rename = "clusterIP", skip_serializing_if = "Option::is_none")]
    pub cluster_ip: Option<String>,
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    #[serde(default)]
    pub ports: Vec<PortObject>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub selector: Labels,
}

impl ServiceSpec {
    /// Whether the Service asks for no virtual address.
    pub fn headless(&self) -> bool {
        self.cluster_ip.as_deref() == Some("None")
    }
}

/// A port of a Service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs, reason = "Kubernetes' own words")]
pub struct PortObject {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    pub port: u16,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_port: Option<NumberOrName>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app_protocol: Option<String>,
}

/// A port by its number, or by its name in the container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
#[allow(missing_docs, reason = "said above")]
pub enum NumberOrName {
    Number(u16),
    Name(String),
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs, reason = "Kubernetes' own words")]
pub struct ServiceStatus {
    #[serde(default)]
    pub load_balancer: LoadBalancer,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "Kubernetes' own words")]
pub struct LoadBalancer {
    #[serde(default)]
    pub ingress: Vec<Ingress>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "Kubernetes' own words")]
pub struct Ingress {
    #[serde(default)]
    pub ip: Option<String>,
}

/// `apps/v1 Deployment`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "Kubernetes' own words")]
pub struct DeploymentObject {
    pub metadata: Metadata,
    pub spec: DeploymentSpec,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "Kubernetes' own words")]
pub struct DeploymentSpec {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replicas: Option<u32>,
    pub selector: Selector,
    pub template: PodTemplate,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs, reason = "Kubernetes' own words")]
pub struct Selector {
    #[serde(default)]
    pub match_labels: Labels,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "Kubernetes' own words")]
pub struct PodTemplate {
    #[serde(default)]
    pub metadata: Metadata,
    pub spec: PodSpec,
}

/// What a pod runs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs, reason = "Kubernetes' own words")]
pub struct PodSpec {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_account_name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub termination_grace_period_seconds: Option<u32>,
    #[serde(default)]
    pub containers: Vec<Container>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub volumes: Vec<Volume>,
}

impl PodSpec {
    /// The service account's name, `default` when none is said.
    pub fn service_account(&self) -> &str {
        self.service_account_name.as_deref().unwrap_or("default")
    }
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs, reason = "Kubernetes' own words")]
pub struct Container {
    pub name: String,
    #[serde(default)]
    pub image: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub command: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<EnvVar>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<ContainerPort>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub readiness_probe: Option<Probe>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub volume_mounts: Vec<VolumeMount>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub working_dir: Option<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs, reason = "Kubernetes' own words")]
pub struct EnvVar {
    pub name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value_from: Option<EnvSource>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs, reason = "Kubernetes' own words")]
pub struct EnvSource {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field_ref: Option<FieldRef>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs, reason = "Kubernetes' own words")]
pub struct FieldRef {
    pub field_path: String,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs, reason = "Kubernetes' own words")]
pub struct ContainerPort {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    pub container_port: u16,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<String>,
}

/// How it is found out whether a container is ready.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs, reason = "Kubernetes' own words")]
pub struct Probe {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http_get: Option<HttpGet>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tcp_socket: Option<TcpSocket>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exec: Option<ExecAction>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub initial_delay_seconds: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub period_seconds: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_seconds: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub success_threshold: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure_threshold: Option<u32>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "Kubernetes' own words")]
pub struct HttpGet {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    pub port: NumberOrName,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "Kubernetes' own words")]
pub struct TcpSocket {
    pub port: NumberOrName,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "Kubernetes' own words")]
pub struct ExecAction {
    #[serde(default)]
    pub command: Vec<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs, reason = "Kubernetes' own words")]
pub struct VolumeMount {
    pub name: String,
    pub mount_path: String,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs, reason = "Kubernetes' own words")]
pub struct Volume {
    pub name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<SecretVolume>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub empty_dir: Option<EmptyDir>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs, reason = "Kubernetes' own words")]
pub struct SecretVolume {
    pub secret_name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub optional: Option<bool>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "Kubernetes' own words")]
pub struct EmptyDir {}

/// `catamaran.dev/v1alpha1 Mesh`; its name is the mesh's.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "see MeshSpec of the model")]
pub struct MeshObject {
    pub metadata: Metadata,
    #[serde(default)]
    pub spec: MeshFields,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[allow(missing_docs, reason = "see MeshSpec of the model")]
pub struct MeshFields {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trust_domain: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub domain: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtls: Option<Mtls>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failover: Option<Failover>,
}

/// See [`MtlsMode`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "see the model")]
pub enum Mtls {
    Strict,
    Permissive,
}

/// See [`FailoverMode`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "see the model")]
pub enum Failover {
    Spread,
    LocalFirst,
}

impl MeshObject {
    /// The object that says `spec`.
    pub fn of(spec: &MeshSpec) -> MeshObject {
        MeshObject {
            metadata: Metadata::named(&system_namespace(), spec.name.as_str()),
            spec: MeshFields {
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
            },
        }
    }

    /// What it says, or why it may not say it.
    pub fn spec(&self) -> Result<MeshSpec, String> {
        let fields = &self.spec;
        Ok(MeshSpec {
            name: MeshName::new(&self.metadata.name).map_err(text)?,
            region: optional(&fields.region)?,
            version: optional(&fields.version)?,
            trust_domain: optional(&fields.trust_domain)?.unwrap_or_default(),
            domain: optional(&fields.domain)?.unwrap_or_default(),
            mtls: match fields.mtls {
                Some(Mtls::Permissive) => MtlsMode::Permissive,
                Some(Mtls::Strict) | None => MtlsMode::Strict,
            },
            failover: match fields.failover {
                Some(Failover::LocalFirst) => FailoverMode::LocalFirst,
                Some(Failover::Spread) | None => FailoverMode::Spread,
            },
        })
    }
}

/// `catamaran.dev/v1alpha1 Cluster`; its name is the cluster's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "see Member of the model")]
pub struct ClusterObject {
    pub metadata: Metadata,
    pub spec: ClusterFields,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[allow(missing_docs, reason = "see Member of the model")]
pub struct ClusterFields {
    pub mode: Mode,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<String>,
    #[serde(default)]
    pub gateway: bool,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gateway_addresses: Vec<String>,
    /// The cluster's folder; relative ones are taken from the fleet's folder. Its folder in the same fleet when missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub folder: Option<String>,
    /// The name of a Secret with a kubeconfig, for a cluster that is no folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,
}

/// See [`MemberMode`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "see the model")]
pub enum Mode {
    Managed,
    DiscoveryOnly,
}

impl ClusterObject {
    /// The object that says `member`.
    pub fn of(member: &Member) -> ClusterObject {
        let (folder, secret) = match &member.credential {
            Credential::Folder(folder) => (Some(folder.clone()), None),
            Credential::Secret(secret) => (None, Some(secret.clone())),
        };
        ClusterObject {
            metadata: Metadata::named(&system_namespace(), member.cluster.as_str()),
            spec: ClusterFields {
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
            },
        }
    }

    /// What it says, or why it may not say it. Gateways on loopback are for clusters that live there.
    pub fn member(&self) -> Result<Member, String> {
        let fields = &self.spec;
        let mode = match fields.mode {
            Mode::Managed => MemberMode::Managed,
            Mode::DiscoveryOnly => MemberMode::DiscoveryOnly,
        };
        if fields.gateway && mode == MemberMode::DiscoveryOnly {
            return Err(
                "gateway: true asks to deploy a gateway, which is done in managed clusters only; for a discovery-only one \
                 give its gatewayAddresses"
                    .into(),
            );
        }
        let cluster = ClusterId::new(&self.metadata.name).map_err(text)?;
        let credential = match (&fields.folder, &fields.secret) {
            (Some(_), Some(_)) => return Err("folder and secret exclude each other".into()),
            (None, Some(secret)) => Credential::Secret(secret.clone()),
            (Some(folder), None) => Credential::Folder(folder.clone()),
            (None, None) => Credential::Folder(format!("clusters/{cluster}")),
        };
        Ok(Member {
            cluster,
            mode,
            network: optional(&fields.network)?,
            gateway: fields.gateway,
            gateway_addresses: (fields.gateway_addresses.iter())
                .map(|address| gateway_address(address))
                .collect::<Result<_, _>>()?,
            credential,
        })
    }
}

/// `catamaran.dev/v1alpha1 MeshExport`; its name is the mesh's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "see MeshExport of the model")]
pub struct MeshExportObject {
    pub metadata: Metadata,
    pub spec: ExportFields,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs, reason = "see MeshExport of the model")]
pub struct ExportFields {
    pub cluster: String,
    pub cluster_uid: String,
    pub version: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<String>,
    #[serde(default)]
    pub gateways: Vec<String>,
    #[serde(default)]
    pub roots: Vec<String>,
    #[serde(default)]
    pub intermediates: Vec<String>,
    #[serde(default)]
    pub digest: String,
}

impl MeshExportObject {
    /// The object that says `export`.
    pub fn of(export: &MeshExport) -> MeshExportObject {
        let hex = |prints: &[Fingerprint]| prints.iter().map(ToString::to_string).collect();
        MeshExportObject {
            metadata: Metadata::named(&system_namespace(), export.mesh.as_str()),
            spec: ExportFields {
                cluster: export.cluster.to_string(),
                cluster_uid: export.cluster_uid.clone(),
                version: export.version.to_string(),
                region: export.region.as_ref().map(ToString::to_string),
                network: export.network.as_ref().map(ToString::to_string),
                gateways: export.gateways.iter().map(ToString::to_string).collect(),
                roots: hex(&export.roots),
                intermediates: hex(&export.intermediates),
                digest: export.digest.clone(),
            },
        }
    }

    /// What it says, or why it may not say it.
    pub fn export(&self) -> Result<MeshExport, String> {
        let fields = &self.spec;
        let prints = |all: &[String]| -> Result<Vec<Fingerprint>, String> {
            let one = |hex: &String| {
                Fingerprint::parse(hex).ok_or_else(|| format!("{} is no SHA-256", cut(hex)))
            };
            all.iter().map(one).collect()
        };
        Ok(MeshExport {
            mesh: MeshName::new(&self.metadata.name).map_err(text)?,
            cluster: ClusterId::new(&fields.cluster).map_err(text)?,
            cluster_uid: fields.cluster_uid.clone(),
            version: Version::new(&fields.version).map_err(text)?,
            region: optional(&fields.region)?,
            network: optional(&fields.network)?,
            gateways: (fields.gateways.iter())
                .map(|address| gateway_address(address))
                .collect::<Result<_, _>>()?,
            roots: prints(&fields.roots)?,
            intermediates: prints(&fields.intermediates)?,
            digest: fields.digest.clone(),
        })
    }
}

/// `v1 Pod`, in the status.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "Kubernetes' own words")]
pub struct PodObject {
    pub metadata: Metadata,
    pub spec: PodSpec,
    #[serde(default)]
    pub status: PodStatus,
}

impl PodObject {
    /// Whether it is ready.
    pub fn ready(&self) -> bool {
        (self.status.conditions.iter()).any(|c| c.kind == "Ready" && c.status == "True")
    }
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs, reason = "Kubernetes' own words")]
pub struct PodStatus {
    #[serde(default)]
    pub phase: String,
    #[serde(default, rename = "podIP", skip_serializing_if = "Option::is_none")]
    pub pod_ip: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_time: Option<String>,
    #[serde(default)]
    pub conditions: Vec<Condition>,
    #[serde(default)]
    pub container_statuses: Vec<ContainerStatus>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "Kubernetes' own words")]
pub struct Condition {
    #[serde(rename = "type")]
    pub kind: String,
    pub status: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[allow(
    missing_docs,
    reason = "Kubernetes' own words; `state` is one word here"
)]
pub struct ContainerStatus {
    pub name: String,
    pub ready: bool,
    pub restart_count: u32,
    pub state: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// `discovery.k8s.io/v1 EndpointSlice`, in the status.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs, reason = "Kubernetes' own words")]
pub struct SliceObject {
    pub metadata: Metadata,
    #[serde(default)]
    pub address_type: String,
    #[serde(default)]
    pub ports: Vec<SlicePortObject>,
    #[serde(default)]
    pub endpoints: Vec<EndpointObject>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs, reason = "Kubernetes' own words")]
pub struct SlicePortObject {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    pub port: u16,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs, reason = "Kubernetes' own words")]
pub struct EndpointObject {
    #[serde(default)]
    pub addresses: Vec<String>,
    #[serde(default)]
    pub conditions: EndpointConditions,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_ref: Option<TargetRef>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "Kubernetes' own words")]
pub struct EndpointConditions {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub serving: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub terminating: Option<bool>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "Kubernetes' own words")]
pub struct TargetRef {
    pub kind: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    pub name: String,
}

macro_rules! each {
    ($object:expr, $inner:ident => $what:expr) => {
        match $object {
            Object::Namespace($inner) => $what,
            Object::ServiceAccount($inner) => $what,
            Object::Secret($inner) => $what,
            Object::Service($inner) => $what,
            Object::Deployment($inner) => $what,
            Object::Mesh($inner) => $what,
            Object::Cluster($inner) => $what,
            Object::MeshExport($inner) => $what,
            Object::Pod($inner) => $what,
            Object::EndpointSlice($inner) => $what,
        }
    };
}

pub(crate) use each;

impl Object {
    /// Its kind.
    pub fn kind(&self) -> Kind {
        match self {
            Object::Namespace(_) => Kind::Namespace,
            Object::ServiceAccount(_) => Kind::ServiceAccount,
            Object::Secret(_) => Kind::Secret,
            Object::Service(_) => Kind::Service,
            Object::Deployment(_) => Kind::Deployment,
            Object::Mesh(_) => Kind::Mesh,
            Object::Cluster(_) => Kind::Cluster,
            Object::MeshExport(_) => Kind::MeshExport,
            Object::Pod(_) => Kind::Pod,
            Object::EndpointSlice(_) => Kind::EndpointSlice,
        }
    }

    /// Its metadata.
    pub fn metadata(&self) -> &Metadata {
        each!(self, inner => &inner.metadata)
    }

    /// What is wrong with it beyond its shape.
    pub fn check(&self) -> Result<(), String> {
        match self {
            Object::Namespace(_) | Object::ServiceAccount(_) | Object::Pod(_) => Ok(()),
            Object::EndpointSlice(_) => Ok(()),
            Object::Secret(secret) => (secret.data.keys())
                .chain(secret.string_data.keys())
                .try_for_each(|key| check_file_name(key)),
            Object::Service(service) => check_service(service),
            Object::Deployment(deployment) => check_deployment(deployment),
            Object::Mesh(mesh) => mesh.spec().map(|_| ()),
            Object::Cluster(cluster) => cluster.member().map(|_| ()),
            Object::MeshExport(export) => export.export().map(|_| ()),
        }
    }
}

/// The key of an object by what its manifest says, or why it has none.
pub fn key_of(kind: Kind, metadata: &Metadata) -> Result<ObjectKey, String> {
    let name = metadata.name.as_str();
    if name.is_empty() {
        return Err("metadata.name is missing".into());
    }
    match kind {
        Kind::Namespace => Namespace::new(name).map(|_| ()),
        Kind::Service => ServiceName::new(name).map(|_| ()),
        Kind::ServiceAccount => ServiceAccount::new(name).map(|_| ()),
        Kind::Mesh | Kind::MeshExport => MeshName::new(name).map(|_| ()),
        Kind::Cluster => ClusterId::new(name).map(|_| ()),
        Kind::EndpointSlice => SliceName::new(name).map(|_| ()),
        Kind::Pod | Kind::Deployment | Kind::Secret => PodName::new(name).map(|_| ()),
    }
    .map_err(text)?;
    let ours = matches!(kind, Kind::Mesh | Kind::Cluster | Kind::MeshExport);
    let namespace = match (kind, &metadata.namespace) {
        (Kind::Namespace, _) => name,
        (_, Some(namespace)) => namespace,
        (_, None) if ours => SpiffeId::SYSTEM_NAMESPACE,
        (_, None) => "default",
    };
    if ours && namespace != SpiffeId::SYSTEM_NAMESPACE {
        return Err(format!(
            "a {kind} belongs into the namespace {}, not {namespace:?}",
            SpiffeId::SYSTEM_NAMESPACE
        ));
    }
    Ok(ObjectKey {
        kind,
        namespace: Namespace::new(namespace).map_err(text)?,
        name: name.into(),
    })
}

fn check_service(service: &ServiceObject) -> Result<(), String> {
    let spec = &service.spec;
    if spec.kind.as_deref() == Some("ExternalName") {
        return Err("type ExternalName is not understood; call the outer name itself".into());
    }
    if spec.ports.is_empty() && !spec.headless() {
        return Err("spec.ports is empty".into());
    }
    for (n, port) in spec.ports.iter().enumerate() {
        if port.port == 0 {
            return Err(format!("spec.ports[{n}].port may not be 0"));
        }
        match &port.name {
            Some(name) => drop(PortName::new(name).map_err(text)?),
            None if spec.ports.len() > 1 => {
                return Err(format!(
                    "spec.ports[{n}] needs a name, since there are several"
                ));
            }
            None => {}
        }
        let before = &spec.ports[..n];
        if before.iter().any(|other| other.name == port.name) {
            return Err(format!("spec.ports[{n}] has a name that another port has"));
        }
        let same = |other: &&PortObject| other.port == port.port && other.protocol == port.protocol;
        if before.iter().any(|other| same(&other)) {
            return Err(format!("port {} is there twice", port.port));
        }
    }
    Ok(())
}

fn check_deployment(deployment: &DeploymentObject) -> Result<(), String> {
    let spec = &deployment.spec;
    let selector = &spec.selector.match_labels;
    if selector.is_empty() {
        return Err("spec.selector.matchLabels is empty".into());
    }
    let labels = &spec.template.metadata.labels;
    if let Some((key, value)) = selector.iter().find(|(k, v)| labels.get(*k) != Some(*v)) {
        return Err(format!(
            "spec.selector wants the label {key}={value}, which the template does not have"
        ));
    }
    if spec.replicas.unwrap_or(1) > MAX_REPLICAS {
        return Err(format!(
            "spec.replicas is more than {MAX_REPLICAS}, the limit of a local cluster"
        ));
    }
    let pod = &spec.template.spec;
    ServiceAccount::new(pod.service_account()).map_err(text)?;
    if pod.containers.is_empty() {
        return Err("spec.template.spec.containers is empty".into());
    }
    for (n, container) in pod.containers.iter().enumerate() {
        PortName::new(&container.name).map_err(|e| format!("container {n}: {}", e.reason))?;
        if PROXY_CONTAINERS.contains(&container.name.as_str()) {
            return Err(format!(
                "the container name {} is the sidecar's",
                container.name
            ));
        }
        if pod.containers[..n]
            .iter()
            .any(|other| other.name == container.name)
        {
            return Err(format!("two containers are called {}", container.name));
        }
        for mount in &container.volume_mounts {
            if !pod.volumes.iter().any(|volume| volume.name == mount.name) {
                return Err(format!(
                    "container {} mounts {}, which is no volume",
                    container.name, mount.name
                ));
            }
            let path = std::path::Path::new(&mount.mount_path);
            let plain = path.components().all(|part| {
                !matches!(
                    part,
                    std::path::Component::ParentDir | std::path::Component::CurDir
                )
            });
            if !path.is_absolute() || !plain || path.parent().is_none() {
                return Err(format!(
                    "mountPath {} is not an absolute path below /",
                    cut(&mount.mount_path)
                ));
            }
        }
        if let Some(probe) = &container.readiness_probe {
            let ways = [
                probe.http_get.is_some(),
                probe.tcp_socket.is_some(),
                probe.exec.is_some(),
            ];
            if ways.into_iter().filter(|way| *way).count() != 1 {
                return Err(format!(
                    "the readinessProbe of {} needs exactly one of httpGet, tcpSocket, exec",
                    container.name
                ));
            }
        }
    }
    for volume in &pod.volumes {
        PortName::new(&volume.name)
            .map_err(|e| format!("volume {}: {}", cut(&volume.name), e.reason))?;
    }
    Ok(())
}

/// The name of the sidecar's container, Istio's.
pub const PROXY_CONTAINER: &str = "istio-proxy";
/// The name of the Envoy's container, where one carries; then the sidecar's is its agent's.
pub const ENVOY_CONTAINER: &str = "envoy-proxy";
/// The containers that no template brings, in their order.
pub const PROXY_CONTAINERS: [&str; 2] = [PROXY_CONTAINER, ENVOY_CONTAINER];

/// A key of a Secret becomes a file's name.
fn check_file_name(key: &str) -> Result<(), String> {
    let fits = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    match !key.is_empty()
        && key.len() <= 253
        && key.bytes().all(fits)
        && !key.starts_with("..")
        && key != "."
    {
        true => Ok(()),
        false => Err(format!("{} may not be a key of a Secret", cut(key))),
    }
}

/// Reads `IP:PORT`; a host name is not resolved.
pub fn gateway_address(address: &str) -> Result<GatewayAddress, String> {
    let socket: std::net::SocketAddr = address
        .parse()
        .map_err(|_| format!("{} is not IP:PORT", cut(address)))?;
    if socket.port() == 0 {
        return Err(format!("{} has no port", cut(address)));
    }
    Ok(GatewayAddress {
        address: EndpointAddress::on_loopback(socket.ip()).map_err(text)?,
        port: socket.port(),
    })
}

/// The namespace of our own objects.
pub fn system_namespace() -> Namespace {
    Namespace::new(SpiffeId::SYSTEM_NAMESPACE).expect("a legal name")
}

fn cut(given: &str) -> String {
    format!("{:?}", given.chars().take(80).collect::<String>())
}

fn text(error: impl fmt::Display) -> String {
    error.to_string()
}

fn optional<T>(given: &Option<String>) -> Result<Option<T>, String>
where
    T: std::str::FromStr<Err = catamaran_model::NameError>,
{
    let read = |text: &String| text.parse().map_err(|e: T::Err| e.to_string());
    given.as_ref().map(read).transpose()
}
