//! What the node writes under `status/`: each object whole, atomically, and only when it changed.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use catamaran_model::{GatewayAddress, Namespace};

use super::pod::{Pod, port_number};
use super::record::Stage;
use super::{GATEWAY, PodKey, inside, letters};
use crate::address::Addresses;
use crate::atomic;
use crate::fleet::ClusterDir;
use crate::manifest::{Folder, Holds};
use crate::object::{
    EndpointConditions, EndpointObject, Ingress, Kind, LoadBalancer, Metadata, NETWORK_LABEL,
    Object, ObjectKey, PortObject, SERVICE_NAME_LABEL, ServiceObject, ServiceSpec, ServiceStatus,
    SliceObject, SlicePortObject, TargetRef, system_namespace,
};
use crate::write::json;

/// What is to be said.
pub(super) struct Shown<'a> {
    pub(super) objects: &'a BTreeMap<ObjectKey, Arc<Object>>,
    pub(super) pods: &'a BTreeMap<PodKey, Pod>,
    pub(super) vips: &'a BTreeMap<ObjectKey, Ipv4Addr>,
    pub(super) addresses: Addresses,
    /// The network of the gateway, when it may be told to others.
    pub(super) gateway: Option<String>,
}

/// What was written, so that nothing is written twice.
pub(super) struct Written {
    files: BTreeMap<PathBuf, Vec<u8>>,
    objects: BTreeMap<ObjectKey, Arc<Object>>,
}

impl Written {
    /// What an earlier node wrote.
    pub(super) fn open(cluster: &ClusterDir) -> Written {
        let mut files = BTreeMap::new();
        collect(&cluster.status(), &mut files);
        let mut folder = Folder::new(&cluster.status(), Holds::Status);
        let _ = folder.scan();
        Written {
            files,
            objects: folder.objects(),
        }
    }

    /// The virtual addresses that Services have.
    pub(super) fn vips(&self) -> BTreeMap<ObjectKey, Ipv4Addr> {
        let services = self
            .objects
            .iter()
            .filter_map(|(key, object)| match &**object {
                Object::Service(service) => {
                    Some((key.clone(), service.spec.cluster_ip.as_ref()?.parse().ok()?))
                }
                _ => None,
            });
        services.collect()
    }

    /// Whether the gateway was told to others.
    pub(super) fn gateway(&self) -> bool {
        self.objects
            .contains_key(&ObjectKey::new(Kind::Service, &system_namespace(), GATEWAY))
    }

    /// Writes what differs. Pods are written before the slices that speak of them and removed after those. `complete`: what is
    /// not shown is not there; otherwise Services and slices stay.
    pub(super) fn write(
        &mut self,
        cluster: &ClusterDir,
        shown: &Shown<'_>,
        complete: bool,
    ) -> Vec<String> {
        let mut wanted: Vec<(PathBuf, Vec<u8>)> = Vec::new();
        let mut say = |kind: Kind, namespace: &Namespace, name: &str, object: Object| {
            let mut text = serde_json::to_vec_pretty(&json(&object)).unwrap_or_default();
            text.push(b'\n');
            wanted.push((cluster.status_of(kind.as_str(), namespace, name), text));
        };
        for pod in shown.pods.values() {
            let object = Object::Pod(pod.object(&shown.addresses));
            say(Kind::Pod, &pod.namespace, pod.name.as_str(), object);
        }
        let mut troubles = Vec::new();
        let mut slices = Vec::new();
        for (key, object) in shown.objects {
            let Object::Service(service) = &**object else {
                continue;
            };
            let vip = shown.vips.get(key);
            if vip.is_none() && !service.spec.headless() {
                continue;
            }
            say(
                Kind::Service,
                &key.namespace,
                &key.name,
                Object::Service(with_vip(key, service, vip)),
            );
            if !service.spec.selector.is_empty() {
                let (slice, trouble) = slice(key, service, shown);
                troubles.extend(trouble.into_iter().map(|reason| format!("{key}: {reason}")));
                slices.push((key.namespace.clone(), slice));
            }
        }
        if let Some(network) = &shown.gateway {
            let service = gateway_service(network, shown.addresses.gateway());
            say(
                Kind::Service,
                &system_namespace(),
                GATEWAY,
                Object::Service(service),
            );
        }
        for (namespace, slice) in slices {
            let name = slice.metadata.name.clone();
            say(
                Kind::EndpointSlice,
                &namespace,
                &name,
                Object::EndpointSlice(slice),
            );
        }
        let wanted_paths: BTreeSet<PathBuf> = wanted.iter().map(|(path, _)| path.clone()).collect();
        if !cluster.cluster_json().is_file() {
            let path = cluster.cluster_json();
            troubles.push(format!(
                "{}: it is not there; nothing is written",
                path.display()
            ));
            return troubles;
        }
        for (path, text) in wanted {
            if self.files.get(&path) == Some(&text) {
                continue;
            }
            match atomic::write(&path, &text, 0o644) {
                Ok(()) => drop(self.files.insert(path, text)),
                Err(error) => troubles.push(format!("{}: {error}", path.display())),
            }
        }
        let pods = cluster.status().join(Kind::Pod.as_str());
        let gateway = cluster.status_of(Kind::Service.as_str(), &system_namespace(), GATEWAY);
        let mut gone: Vec<PathBuf> = (self.files.keys())
            .filter(|path| !wanted_paths.contains(*path))
            .filter(|path| complete || inside(&pods, path) || **path == gateway)
            .cloned()
            .collect();
        gone.sort_by_key(|path| inside(&pods, path));
        for path in gone {
            match atomic::remove(&path) {
                Ok(()) => drop(self.files.remove(&path)),
                Err(error) => troubles.push(format!("{}: {error}", path.display())),
            }
        }
        troubles
    }
}

fn collect(folder: &Path, files: &mut BTreeMap<PathBuf, Vec<u8>>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|e| e == "json") {
            files.insert(path.clone(), fs::read(&path).unwrap_or_default());
        }
    }
}

fn with_vip(key: &ObjectKey, service: &ServiceObject, vip: Option<&Ipv4Addr>) -> ServiceObject {
    let mut said = service.clone();
    said.metadata.namespace = Some(key.namespace.to_string());
    // A gateway's label on a person's Service would make it a gateway for others.
    said.metadata.labels.remove(NETWORK_LABEL);
    said.status = None;
    if let Some(vip) = vip {
        said.spec.cluster_ip = Some(vip.to_string());
    }
    said
}

fn gateway_service(network: &str, address: Ipv4Addr) -> ServiceObject {
    let mut metadata = Metadata::named(&system_namespace(), GATEWAY);
    let labels = [
        ("app", GATEWAY),
        ("istio", "eastwestgateway"),
        (NETWORK_LABEL, network),
    ];
    metadata.labels = labels.map(|(k, v)| (k.to_owned(), v.to_owned())).into();
    ServiceObject {
        metadata,
        spec: ServiceSpec {
            kind: Some("LoadBalancer".into()),
            ports: vec![PortObject {
                name: Some("tls".into()),
                port: GatewayAddress::PORT,
                target_port: None,
                protocol: None,
                app_protocol: None,
            }],
            ..ServiceSpec::default()
        },
        status: Some(ServiceStatus {
            load_balancer: LoadBalancer {
                ingress: vec![Ingress {
                    ip: Some(address.to_string()),
                }],
            },
        }),
    }
}

fn slice(
    key: &ObjectKey,
    service: &ServiceObject,
    shown: &Shown<'_>,
) -> (SliceObject, Option<String>) {
    let selected = |pod: &&Pod| {
        let labels = &pod.record.template.metadata.labels;
        !pod.gateway()
            && pod.namespace == key.namespace
            && service
                .spec
                .selector
                .iter()
                .all(|(k, v)| labels.get(k) == Some(v))
    };
    let pods: Vec<&Pod> = shown.pods.values().filter(selected).collect();
    let mut trouble = None;
    let mut ports = Vec::new();
    for port in &service.spec.ports {
        let number = match &port.target_port {
            None => Some(port.port),
            Some(target) => {
                let containers = pods
                    .iter()
                    .flat_map(|pod| &pod.record.template.spec.containers);
                let by_number = port_number(&crate::object::Container::default(), target);
                by_number.or_else(|| containers.map(|c| port_number(c, target)).find_map(|n| n))
            }
        };
        match number {
            Some(number) => ports.push(SlicePortObject {
                name: port.name.clone(),
                port: number,
                protocol: port.protocol.clone(),
            }),
            None if !pods.is_empty() => {
                trouble = Some(format!(
                    "no container has the port that port {} names",
                    port.port
                ));
            }
            None => {}
        }
    }
    let endpoint = |pod: &&Pod| {
        let leaving = pod.record.stage != Stage::Living;
        EndpointObject {
            addresses: vec![pod.address(&shown.addresses).to_string()],
            conditions: EndpointConditions {
                ready: Some(pod.record.ready),
                serving: Some(pod.record.ready || leaving),
                terminating: Some(leaving),
            },
            target_ref: Some(TargetRef {
                kind: "Pod".into(),
                namespace: Some(pod.namespace.to_string()),
                name: pod.name.to_string(),
            }),
            zone: None,
        }
    };
    let name_hash = super::stable_number(&key.to_string()).to_be_bytes();
    let name = format!(
        "{}-{}",
        key.name,
        letters(&[name_hash[0], name_hash[1], 7, 3, 1])
    );
    let mut metadata = Metadata::named(&key.namespace, &name);
    metadata
        .labels
        .insert(SERVICE_NAME_LABEL.into(), key.name.clone());
    let slice = SliceObject {
        metadata,
        address_type: "IPv4".into(),
        ports,
        endpoints: pods.iter().map(endpoint).collect(),
    };
    (slice, trouble)
}
