//! Where an instance's control plane is reached from other clusters: a Service of type LoadBalancer in its own.

use std::net::IpAddr;

use catamaran_model::{MeshName, SpiffeId};
use serde_json::{Value, json};

use super::MANAGER;
use crate::connect::Access;
use crate::enrol::INSTANCE_LABEL;
use crate::failure::{Failure, printable};
use crate::install::{DISCOVERY_PORT, WEBHOOK_PORT};
use crate::manifest;

/// The Service's name.
pub fn name(mesh: &MeshName) -> String {
    format!("{}-exposed", crate::webhook::service(mesh))
}

/// The Service. It goes with the instance.
pub fn manifest(mesh: &MeshName) -> Value {
    let port = |name: &str, port: u16, to: &str| json!({"name": name, "port": port, "targetPort": to, "protocol": "TCP"});
    json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"namespace": SpiffeId::SYSTEM_NAMESPACE, "name": name(mesh), "labels": {
            "app.kubernetes.io/part-of": "catamaran",
            "app.kubernetes.io/component": "exposure",
            INSTANCE_LABEL: mesh.as_str(),
        }},
        "spec": {
            "type": "LoadBalancer",
            "selector": {"app": "catamaran", INSTANCE_LABEL: mesh.as_str()},
            "ports": [
                port("tls-discovery", DISCOVERY_PORT, "discovery"),
                port("https-webhook", WEBHOOK_PORT, "webhook"),
            ],
        },
    })
}

/// Makes it, or brings it up to date.
///
/// # Errors
/// Why it is not there.
pub async fn install(access: &Access, mesh: &MeshName) -> Result<(), Failure> {
    manifest::put(access, MANAGER, &manifest(mesh)).await
}

/// Takes it away; says whether it was there.
///
/// # Errors
/// Why it is still there.
pub async fn remove(access: &Access, mesh: &MeshName) -> Result<bool, Failure> {
    manifest::take(access, &manifest(mesh)).await
}

/// What the cluster's provider gave the Service: addresses, and host names.
///
/// # Errors
/// Why nobody knows.
pub async fn given(
    access: &Access,
    mesh: &MeshName,
) -> Result<(Vec<IpAddr>, Vec<String>), Failure> {
    let found = manifest::get(access, &manifest(mesh)).await?;
    Ok(read(&found.unwrap_or_default()))
}

fn read(service: &Value) -> (Vec<IpAddr>, Vec<String>) {
    let ingress = service["status"]["loadBalancer"]["ingress"].as_array();
    let (mut addresses, mut names) = (Vec::new(), Vec::new());
    for one in ingress.into_iter().flatten() {
        let address = one["ip"].as_str().and_then(|text| text.parse().ok());
        match (address, one["hostname"].as_str()) {
            (Some(address), _) => addresses.push(address),
            (None, Some(name)) => names.push(printable(name)),
            (None, None) => {}
        }
    }
    (addresses, names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_names_are_told_apart() {
        let service = json!({"status": {"loadBalancer": {"ingress": [
            {"ip": "192.0.2.7"}, {"hostname": "lb.example"}, {"ip": "none"}, {},
        ]}}});
        let (addresses, names) = read(&service);
        assert_eq!(addresses, ["192.0.2.7".parse::<IpAddr>().unwrap()]);
        assert_eq!(names, ["lb.example"]);
        assert_eq!(read(&Value::Null), (vec![], vec![]));
    }
}
