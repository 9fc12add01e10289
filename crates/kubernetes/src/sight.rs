//! What a person sees of an instance and its cluster through the API server: objects with their status, and the workloads that a
//! mesh concerns. No Secret is read.
//!
//! These are looks, not watches: each is one list, with a bound on its time.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::time::Duration;

use catamaran_model::{Member, MeshExport as Export, MeshName, MeshSpec, SpiffeId};
use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use k8s_openapi::api::apps::v1::Deployment as Deployed;
use k8s_openapi::api::core::v1::{
    ConfigMap, ContainerStatus, Namespace as Space, Pod as PodObject, Service as ServiceObject,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::api::ListParams;
use kube::{Api, Resource};
use serde::de::DeserializeOwned;

use crate::connect::Access;
use crate::crd::{Cluster, FreshnessState, Mesh, MeshExport, Phase};
use crate::failure::{Failure, printable};
use crate::inject::{INJECT, REVISION, ROOTS, SIDECAR, SYSTEM_NAMESPACES};
use crate::install::INSTANCE_LABEL;
use crate::seen::{INJECTION_LABELS, NETWORK_LABEL};
use crate::webhook;

/// A page of a list may take this long.
const LIMIT: Duration = Duration::from_secs(10);
/// Objects of one page.
const PAGE: u32 = 500;
const SYSTEM: &str = SpiffeId::SYSTEM_NAMESPACE;

/// What the objects of our kinds in a cluster say.
#[derive(Debug, Clone, Default)]
pub struct Sight {
    /// The instances there; one, as a rule.
    pub meshes: Vec<SeenMesh>,
    /// Their clusters.
    pub clusters: Vec<SeenCluster>,
    /// What instances say of themselves.
    pub exports: Vec<Export>,
    /// Objects that cannot be understood, with the reason.
    pub bad: Vec<(String, String)>,
}

/// A `Mesh`.
#[derive(Debug, Clone)]
pub struct SeenMesh {
    /// What is wanted.
    pub spec: MeshSpec,
    /// Where it is in its life.
    pub phase: Phase,
    /// Why, in words.
    pub because: String,
    /// The versions its control planes say they run.
    pub versions: Vec<String>,
}

/// A `Cluster`.
#[derive(Debug, Clone)]
pub struct SeenCluster {
    /// What is wanted.
    pub member: Member,
    /// Where it is in its life.
    pub phase: Phase,
    /// Why, in words.
    pub because: String,
    /// `fresh`, `stale` or `unknown`.
    pub freshness: &'static str,
    /// Since when it is stale, RFC 3339.
    pub since: Option<String>,
    /// Why it is stale.
    pub reason: Option<String>,
    /// Its services.
    pub services: usize,
    /// Its endpoints.
    pub endpoints: usize,
    /// When the credential for it ends, RFC 3339.
    pub credential_expires: Option<String>,
}

/// Reads the objects of our kinds.
///
/// # Errors
/// Why they cannot be read. [`Failure::Absent`]: our kinds are not installed there.
pub async fn sight(access: &Access) -> Result<Sight, Failure> {
    let (meshes, clusters, exports) = tokio::join!(
        list::<Mesh>(access, Some(SYSTEM), ""),
        list::<Cluster>(access, Some(SYSTEM), ""),
        list::<MeshExport>(access, Some(SYSTEM), ""),
    );
    let mut sight = Sight::default();
    for mesh in kinds(meshes)? {
        let name = mesh.metadata.name.clone().unwrap_or_default();
        let status = mesh.status.clone().unwrap_or_default();
        match mesh.spec.spec(&name) {
            Ok(spec) => sight.meshes.push(SeenMesh {
                spec,
                phase: status.phase,
                because: because(&status.conditions),
                versions: status.versions,
            }),
            Err(reason) => sight.bad.push((format!("Mesh {name}"), printable(&reason))),
        }
    }
    for cluster in kinds(clusters)? {
        let name = cluster.metadata.name.clone().unwrap_or_default();
        let status = cluster.status.clone().unwrap_or_default();
        match cluster.spec.member(&name) {
            Ok(member) => sight.clusters.push(SeenCluster {
                member,
                phase: status.phase,
                because: because(&status.conditions),
                freshness: match status.freshness.state {
                    FreshnessState::Unknown => "unknown",
                    FreshnessState::Fresh => "fresh",
                    FreshnessState::Stale => "stale",
                },
                since: status.freshness.since,
                reason: status.freshness.reason.as_deref().map(printable),
                services: count(status.services),
                endpoints: count(status.endpoints),
                credential_expires: status.credential_expires,
            }),
            Err(reason) => (sight.bad).push((format!("Cluster {name}"), printable(&reason))),
        }
    }
    for export in kinds(exports)? {
        let name = export.metadata.name.clone().unwrap_or_default();
        match export.spec.export(&name) {
            Ok(export) => sight.exports.push(export),
            Err(reason) => (sight.bad).push((format!("MeshExport {name}"), printable(&reason))),
        }
    }
    Ok(sight)
}

/// Without any kind of our group an API server does not answer in its own form.
fn kinds<T>(listed: Result<Vec<T>, Failure>) -> Result<Vec<T>, Failure> {
    match listed {
        Err(Failure::Unexpected { code: 404, .. }) => Err(Failure::Absent),
        listed => listed,
    }
}

fn because(conditions: &[Condition]) -> String {
    let ready = conditions
        .iter()
        .find(|condition| condition.type_ == "Ready");
    ready.map_or_else(String::new, |ready| printable(&ready.message))
}

fn count(of: i64) -> usize {
    usize::try_from(of).unwrap_or_default()
}

/// A pod, as far as a mesh is concerned.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pod {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its address.
    pub ip: Option<String>,
    /// Whether it is ready.
    pub ready: bool,
    /// Whether it is on its way out, or has ended.
    pub ending: bool,
    /// What it waits for.
    pub waiting: Option<String>,
    /// Whether it has a sidecar.
    pub sidecar: bool,
    /// Whether it shares its node's network, and so can have no sidecar.
    pub host_network: bool,
    /// Whether it says itself that it wants a sidecar, or none.
    pub asks: Option<bool>,
    /// The kind of what made it, `ReplicaSet`.
    pub owner: Option<String>,
    /// The `app` label.
    pub app: Option<String>,
    /// The instance that it belongs to, by its label.
    pub mesh: Option<String>,
    /// Its first container that is not the sidecar.
    pub container: Option<String>,
}

impl Pod {
    fn of(pod: PodObject) -> Pod {
        let spec = pod.spec.unwrap_or_default();
        let status = pod.status.unwrap_or_default();
        let labels = pod.metadata.labels.unwrap_or_default();
        let annotations = pod.metadata.annotations.unwrap_or_default();
        let ended = matches!(status.phase.as_deref(), Some("Succeeded" | "Failed"));
        let ready = status.conditions.iter().flatten();
        let mut ready = ready.filter(|condition| condition.type_ == "Ready");
        let unscheduled = status
            .conditions
            .iter()
            .flatten()
            .find(|condition| condition.type_ == "PodScheduled" && condition.status == "False");
        let containers = status.init_container_statuses.iter().flatten();
        let containers = containers.chain(status.container_statuses.iter().flatten());
        let waiting = containers.filter_map(waiting).next();
        let waiting = waiting.or_else(|| {
            Some(format!(
                "has no node: {}",
                printable(unscheduled?.message.as_deref()?)
            ))
        });
        let init = spec.init_containers.iter().flatten();
        let asks = labels.get(INJECT).or_else(|| annotations.get(INJECT));
        let owners = pod.metadata.owner_references.unwrap_or_default();
        Pod {
            namespace: pod.metadata.namespace.unwrap_or_default(),
            name: pod.metadata.name.unwrap_or_default(),
            ip: status.pod_ip,
            ready: ready
                .next()
                .is_some_and(|condition| condition.status == "True"),
            ending: ended || pod.metadata.deletion_timestamp.is_some(),
            waiting,
            sidecar: (spec.containers.iter().chain(init)).any(|one| one.name == SIDECAR),
            host_network: spec.host_network == Some(true),
            asks: asks.and_then(|said| match said.to_ascii_lowercase().as_str() {
                "true" | "yes" | "y" | "on" => Some(true),
                "false" | "no" | "n" | "off" => Some(false),
                _ => None,
            }),
            owner: owners.into_iter().next().map(|owner| owner.kind),
            app: labels.get("app").cloned(),
            mesh: labels.get(INSTANCE_LABEL).cloned(),
            container: (spec.containers.into_iter().map(|one| one.name))
                .find(|name| name != SIDECAR),
        }
    }
}

/// Why a container does not run, when the node says it.
fn waiting(container: &ContainerStatus) -> Option<String> {
    let waiting = container.state.as_ref()?.waiting.as_ref()?;
    let reason = waiting.reason.as_deref()?;
    if matches!(reason, "PodInitializing" | "ContainerCreating") {
        return None;
    }
    let said = waiting.message.as_deref().map(printable);
    Some(match said {
        Some(said) => format!("{reason}: {said}"),
        None => printable(reason),
    })
}

/// The pods of a namespace, or of all, with these labels.
///
/// # Errors
/// Why they cannot be read.
pub async fn pods(
    access: &Access,
    namespace: Option<&str>,
    labels: &str,
) -> Result<Vec<Pod>, Failure> {
    let pods = list::<PodObject>(access, namespace, labels).await?;
    Ok(pods.into_iter().map(Pod::of).collect())
}

/// The pods of an instance's control plane.
///
/// # Errors
/// Why they cannot be read.
pub async fn control_planes(access: &Access, mesh: &MeshName) -> Result<Vec<Pod>, Failure> {
    let labels = format!("{INSTANCE_LABEL}={mesh},app=catamaran");
    pods(access, Some(SYSTEM), &labels).await
}

/// A Deployment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Deployment {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// The pods it asks for.
    pub wanted: i32,
    /// Those that are ready, of its present template.
    pub ready: i32,
    /// All that are there.
    pub all: i32,
    /// Whether what is counted is of its present generation.
    pub observed: bool,
}

/// The Deployments of a namespace, or of all.
///
/// # Errors
/// Why they cannot be read.
pub async fn deployments(
    access: &Access,
    namespace: Option<&str>,
) -> Result<Vec<Deployment>, Failure> {
    let all = list::<Deployed>(access, namespace, "").await?;
    let read = |deployment: Deployed| {
        let status = deployment.status.unwrap_or_default();
        let ready = status.ready_replicas.unwrap_or_default();
        Deployment {
            namespace: deployment.metadata.namespace.unwrap_or_default(),
            name: deployment.metadata.name.unwrap_or_default(),
            wanted: (deployment.spec.and_then(|spec| spec.replicas)).unwrap_or(1),
            ready: ready.min(status.updated_replicas.unwrap_or_default()),
            all: status.replicas.unwrap_or_default(),
            observed: status.observed_generation >= deployment.metadata.generation,
        }
    };
    Ok(all.into_iter().map(read).collect())
}

/// A Service.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Service {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its ports.
    pub ports: Vec<Port>,
    /// The network into which it leads, when it is a gateway.
    pub network: Option<String>,
    /// Its addresses from outside.
    pub ingress: Vec<String>,
    /// Whether it is another name for something elsewhere.
    pub external_name: bool,
}

/// A port of a Service.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Port {
    /// Its name, which says its protocol.
    pub name: String,
    /// The protocol, said by itself.
    pub app_protocol: Option<String>,
    /// Its number.
    pub number: i32,
    /// Whether it is TCP.
    pub tcp: bool,
}

/// The Services of a namespace, or of all.
///
/// # Errors
/// Why they cannot be read.
pub async fn services(access: &Access, namespace: Option<&str>) -> Result<Vec<Service>, Failure> {
    let all = list::<ServiceObject>(access, namespace, "").await?;
    let read = |service: ServiceObject| {
        let spec = service.spec.unwrap_or_default();
        let status = service.status.unwrap_or_default();
        let ingress = status.load_balancer.and_then(|balancer| balancer.ingress);
        let labels = service.metadata.labels.unwrap_or_default();
        let ports = spec.ports.into_iter().flatten().map(|port| Port {
            name: port.name.unwrap_or_default(),
            app_protocol: port.app_protocol,
            number: port.port,
            tcp: port.protocol.as_deref().unwrap_or("TCP") == "TCP",
        });
        Service {
            namespace: service.metadata.namespace.unwrap_or_default(),
            name: service.metadata.name.unwrap_or_default(),
            ports: ports.collect(),
            network: labels.get(NETWORK_LABEL).cloned(),
            ingress: (ingress.into_iter().flatten())
                .filter_map(|one| one.ip.or(one.hostname))
                .collect(),
            external_name: spec.type_.as_deref() == Some("ExternalName"),
        }
    };
    Ok(all.into_iter().map(read).collect())
}

/// A namespace.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Namespace {
    /// Its name.
    pub name: String,
    /// Whether its labels ask for sidecars, or for none.
    pub injection: Option<bool>,
    /// The revision that its label names.
    pub revision: Option<String>,
    /// The network that its label names.
    pub network: Option<String>,
    /// Whether no pod of it ever gets a sidecar.
    pub system: bool,
}

impl Namespace {
    /// Whether pods without a word of their own get sidecars of this instance.
    pub fn injected_by(&self, mesh: &str) -> bool {
        match (self.injection, self.revision.as_deref()) {
            _ if self.system => false,
            (Some(said), None) => said,
            (said, Some(revision)) => said != Some(false) && revision == mesh,
            (None, None) => false,
        }
    }
}

/// The namespaces.
///
/// # Errors
/// Why they cannot be read.
pub async fn namespaces(access: &Access) -> Result<Vec<Namespace>, Failure> {
    let all = list::<Space>(access, None, "").await?;
    let read = |space: Space| {
        let name = space.metadata.name.unwrap_or_default();
        let labels = space.metadata.labels.unwrap_or_default();
        Namespace {
            system: name == SYSTEM || SYSTEM_NAMESPACES.contains(&name.as_str()),
            injection: injection(&labels),
            revision: labels.get(REVISION).cloned(),
            network: labels.get(NETWORK_LABEL).cloned(),
            name,
        }
    };
    Ok(all.into_iter().map(read).collect())
}

/// Our label beats Istio's.
fn injection(labels: &BTreeMap<String, String>) -> Option<bool> {
    let said = INJECTION_LABELS.iter().find_map(|label| labels.get(*label));
    match said?.as_str() {
        "enabled" => Some(true),
        "disabled" => Some(false),
        _ => None,
    }
}

/// Whether the API server asks an instance about new pods; `None` when that cannot be read.
///
/// # Errors
/// Why that is not known.
pub async fn webhook(access: &Access, mesh: &MeshName) -> Result<bool, Failure> {
    let name = webhook::configuration::name(mesh);
    let api: Api<MutatingWebhookConfiguration> = Api::all(access.client().clone());
    Ok(within(access, api.get_opt(&name)).await?.is_some())
}

/// The roots that an instance's sidecars trust, as PEM.
///
/// # Errors
/// Why they cannot be read.
pub async fn roots(access: &Access) -> Result<Option<String>, Failure> {
    let api: Api<ConfigMap> = Api::namespaced(access.client().clone(), SYSTEM);
    let found = within(access, api.get_opt(ROOTS.0)).await?;
    Ok(found.and_then(|map| map.data?.remove(ROOTS.1)))
}

async fn list<K>(access: &Access, namespace: Option<&str>, labels: &str) -> Result<Vec<K>, Failure>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug,
    K: Listed,
{
    let api = K::api(access, namespace);
    let mut all = Vec::new();
    let mut params = ListParams::default().limit(PAGE).labels(labels);
    loop {
        let page = within(access, api.list(&params)).await?;
        all.extend(page.items);
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => params = params.continue_token(&token),
            None => return Ok(all),
        }
    }
}

/// Kinds that are listed, in a namespace or in all.
trait Listed: Sized {
    fn api(access: &Access, namespace: Option<&str>) -> Api<Self>;
}

macro_rules! listed {
    ($($kind:ty),*) => {$(
        impl Listed for $kind {
            fn api(access: &Access, namespace: Option<&str>) -> Api<Self> {
                let client = access.client().clone();
                match namespace {
                    Some(namespace) => Api::namespaced(client, namespace),
                    None => Api::all(client),
                }
            }
        }
    )*};
}

listed!(
    PodObject,
    Deployed,
    ServiceObject,
    Mesh,
    Cluster,
    MeshExport
);

impl Listed for Space {
    fn api(access: &Access, _: Option<&str>) -> Api<Space> {
        Api::all(access.client().clone())
    }
}

async fn within<T>(
    access: &Access,
    answer: impl Future<Output = Result<T, kube::Error>>,
) -> Result<T, Failure> {
    let answer = tokio::time::timeout(LIMIT, answer).await;
    let answer = answer.map_err(|_| Failure::Slow { limit: LIMIT })?;
    answer.map_err(|error| crate::api::of_error(access, &error))
}
