//! What an instance writes into its own cluster, and nowhere else.
//!
//! Everything is a server-side apply by one field manager, so that writing again what is there changes nothing, and what people
//! add beside it stays.

use std::time::Duration;

use catamaran_model::{ClusterId, MeshExport as Export, MeshName, Namespace, SpiffeId};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Patch, PatchParams};
use kube::core::NamespaceResourceScope;
use kube::{Api, Resource};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use crate::connect::Access;
use crate::crd::{Cluster, ClusterStatus, FIELD_MANAGER, Mesh, MeshExport, MeshStatus};
use crate::failure::Failure;
use crate::inject::ROOTS;

/// An answer may take this long.
const LIMIT: Duration = Duration::from_secs(10);
/// The label by which the ConfigMaps of roots are found.
pub const ROOTS_LABEL: (&str, &str) = ("catamaran.dev/config", "true");

/// Writes what the instance says of itself to other primaries.
///
/// # Errors
/// Why it is not there.
pub async fn put_export(access: &Access, export: &Export) -> Result<(), Failure> {
    let object = MeshExport::from(export);
    let fields = json!({
        "apiVersion": MeshExport::api_version(&()),
        "kind": MeshExport::kind(&()),
        "metadata": {"name": export.mesh.as_str(), "namespace": SpiffeId::SYSTEM_NAMESPACE},
        "spec": object.spec,
    });
    let system = SpiffeId::SYSTEM_NAMESPACE;
    apply::<MeshExport>(access, system, export.mesh.as_str(), &fields, false).await
}

/// Writes what became of the instance.
///
/// # Errors
/// Why it is not there.
pub async fn put_mesh_status(
    access: &Access,
    mesh: &MeshName,
    status: &MeshStatus,
) -> Result<(), Failure> {
    put_status::<Mesh>(access, mesh.as_str(), status).await
}

/// Writes what became of a cluster of the instance.
///
/// # Errors
/// Why it is not there.
pub async fn put_cluster_status(
    access: &Access,
    cluster: &ClusterId,
    status: &ClusterStatus,
) -> Result<(), Failure> {
    put_status::<Cluster>(access, cluster.as_str(), status).await
}

/// Writes the roots of trust where the sidecars of a namespace find them.
///
/// # Errors
/// Why they are not there.
pub async fn put_roots(access: &Access, namespace: &Namespace, pem: &str) -> Result<(), Failure> {
    let (name, key) = ROOTS;
    let fields = json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "namespace": namespace.as_str(), "labels": {ROOTS_LABEL.0: ROOTS_LABEL.1}},
        "data": {key: pem},
    });
    apply::<ConfigMap>(access, namespace.as_str(), name, &fields, false).await
}

async fn put_status<K>(access: &Access, name: &str, status: &impl Serialize) -> Result<(), Failure>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
        + Clone
        + DeserializeOwned
        + std::fmt::Debug,
{
    let fields = json!({
        "apiVersion": K::api_version(&()),
        "kind": K::kind(&()),
        "metadata": {"name": name, "namespace": SpiffeId::SYSTEM_NAMESPACE},
        "status": status,
    });
    apply::<K>(access, SpiffeId::SYSTEM_NAMESPACE, name, &fields, true).await
}

async fn apply<K>(
    access: &Access,
    namespace: &str,
    name: &str,
    fields: &serde_json::Value,
    status: bool,
) -> Result<(), Failure>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
        + Clone
        + DeserializeOwned
        + std::fmt::Debug,
{
    let api: Api<K> = Api::namespaced(access.client().clone(), namespace);
    let params = PatchParams::apply(FIELD_MANAGER).force();
    let patch = Patch::Apply(fields);
    let patched = async {
        match status {
            true => api.patch_status(name, &params, &patch).await,
            false => api.patch(name, &params, &patch).await,
        }
    };
    let answer = tokio::time::timeout(LIMIT, patched).await;
    let answer = answer.map_err(|_| Failure::Slow { limit: LIMIT })?;
    match answer {
        Ok(_) => Ok(()),
        Err(error) => Err(crate::api::of_error(access, &error)),
    }
}
