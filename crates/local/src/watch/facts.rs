//! What one object says, in the registry's words.

use std::sync::Arc;

use catamaran_model::{
    AppProtocol, Endpoint, EndpointAddress, EndpointSlice, GatewayAddress, Health, Locality,
    Namespace, NamespaceFacts, NetworkGateway, NetworkId, PodName, PortName, Region, Service,
    ServiceAccount, ServiceKey, ServiceName, ServicePort, SliceKey, SliceName, SlicePort, TlsMode,
    WorkloadKey, Zone,
};
use catamaran_registry::Fact;

use super::CLUSTER_LOCAL_ANNOTATION;
use crate::object::{
    Kind, NETWORK_LABEL, Object, ObjectKey, PodObject, SERVICE_NAME_LABEL, ServiceObject,
    SliceObject, SlicePortObject, TLS_MODE_LABEL,
};

/// What an object leads to.
#[derive(Debug, Default)]
pub(super) struct Made {
    pub(super) fact: Option<Fact>,
    /// What cannot be used of it, and why.
    pub(super) refused: Vec<String>,
}

impl Made {
    fn of(made: Result<Option<Fact>, String>) -> Made {
        match made {
            Ok(fact) => Made {
                fact,
                refused: Vec::new(),
            },
            Err(reason) => Made {
                fact: None,
                refused: vec![reason],
            },
        }
    }
}

/// What the whole cluster says about each of its objects.
#[derive(Debug)]
pub(super) struct Rules {
    pub(super) loopback: bool,
    pub(super) region: Option<Region>,
}

impl Rules {
    /// What a manifest says; `status` is what the node says under the same name.
    pub(super) fn manifest(
        &self,
        key: &ObjectKey,
        object: &Object,
        status: Option<&Object>,
    ) -> Made {
        let made = match object {
            Object::Mesh(mesh) => Ok(mesh.spec().ok().map(Fact::Mesh)),
            Object::Namespace(namespace) => Ok(Some(Fact::Namespace(NamespaceFacts {
                name: key.namespace.clone(),
                inject: namespace.inject(),
            }))),
            Object::Service(service) => {
                let node_says = match status {
                    Some(Object::Service(service)) => service.spec.cluster_ip.as_deref(),
                    _ => None,
                };
                read_service(key, service, node_says).map(|service| service.map(Fact::Service))
            }
            Object::Cluster(cluster) => cluster.member().and_then(|member| {
                self.gateways_allowed(&member.gateway_addresses)?;
                Ok(Some(Fact::Member(member)))
            }),
            Object::MeshExport(export) => export.export().and_then(|export| {
                self.gateways_allowed(&export.gateways)?;
                Ok(Some(Fact::Export(export)))
            }),
            _ => Ok(None),
        };
        Made::of(made)
    }

    fn gateways_allowed(&self, gateways: &[GatewayAddress]) -> Result<(), String> {
        gateways.iter().try_for_each(|gateway| {
            EndpointAddress::parse(&gateway.address.to_string(), self.loopback)
                .map(|_| ())
                .map_err(|e| e.to_string())
        })
    }

    /// What a slice says, with the pods that it speaks of.
    pub(super) fn slice<'a>(
        &self,
        key: &ObjectKey,
        slice: &SliceObject,
        pod: impl Fn(&ObjectKey) -> Option<&'a Arc<Object>>,
    ) -> Made {
        let named = (slice.metadata.labels.get(SERVICE_NAME_LABEL))
            .ok_or_else(|| format!("it has no label {SERVICE_NAME_LABEL}"))
            .and_then(|name| ServiceName::new(name).map_err(|e| e.to_string()));
        let names = named.and_then(|service| {
            let name = SliceName::new(&key.name).map_err(|e| e.to_string())?;
            Ok((service, name))
        });
        let (service, name) = match names {
            Ok(names) => names,
            Err(reason) => return Made::of(Err(reason)),
        };
        let mut refused = Vec::new();
        let mut endpoints = Vec::new();
        for endpoint in &slice.endpoints {
            let pod = pod_of(key, endpoint).and_then(|key| pod(&key));
            let Some(Object::Pod(pod)) = pod.map(|pod| &**pod) else {
                let reason = "an endpoint belongs to no pod that is known; it is left out";
                refused.push(reason.into());
                continue;
            };
            for address in &endpoint.addresses {
                let read = EndpointAddress::parse(address, self.loopback)
                    .map_err(|e| e.to_string())
                    .and_then(|address| {
                        let region = self.region.as_ref();
                        read_endpoint(&key.namespace, address, endpoint, pod, region)
                    });
                match read {
                    Ok(endpoint) => endpoints.push(endpoint),
                    Err(reason) => refused.push(reason),
                }
            }
        }
        let port = |port: &SlicePortObject| {
            Some(SlicePort {
                name: match port.name.as_deref() {
                    None | Some("") => None,
                    Some(name) => Some(PortName::new(name).ok()?),
                },
                number: port.port,
            })
        };
        let tcp = |port: &&SlicePortObject| carried(port.protocol.as_deref());
        let fact = Fact::Slice(EndpointSlice {
            key: SliceKey {
                namespace: key.namespace.clone(),
                name,
            },
            service: ServiceKey::new(key.namespace.clone(), service),
            ports: slice.ports.iter().filter(tcp).filter_map(port).collect(),
            endpoints,
        });
        Made {
            fact: Some(fact),
            refused,
        }
    }

    /// A Service with the network label and a port named `tls` is an east-west gateway (Istio's rule).
    pub(super) fn gateways(
        &self,
        key: &ObjectKey,
        service: &ServiceObject,
    ) -> (Vec<NetworkGateway>, Vec<String>) {
        let (mut gateways, mut refused) = (Vec::new(), Vec::new());
        let Some(network) = service.metadata.labels.get(NETWORK_LABEL) else {
            return (gateways, refused);
        };
        let port = (service.spec.ports.iter())
            .find(|port| port.name.as_deref() == Some("tls"))
            .map_or(GatewayAddress::PORT, |port| port.port);
        let network = match NetworkId::new(network) {
            Ok(network) => network,
            Err(e) => return (gateways, vec![e.to_string()]),
        };
        let ingress = service.status.iter().flat_map(|s| &s.load_balancer.ingress);
        let ips = ingress.filter_map(|ingress| ingress.ip.as_deref());
        for (n, ip) in ips.enumerate() {
            match EndpointAddress::parse(ip, self.loopback) {
                Ok(address) => gateways.push(NetworkGateway {
                    name: match n {
                        0 => key.name.clone(),
                        n => format!("{}/{n}", key.name),
                    },
                    network: Some(network.clone()),
                    at: GatewayAddress { address, port },
                }),
                Err(e) => refused.push(e.to_string()),
            }
        }
        (gateways, refused)
    }
}

/// The pod that an endpoint of a slice belongs to.
pub(super) fn pod_of(
    slice: &ObjectKey,
    endpoint: &crate::object::EndpointObject,
) -> Option<ObjectKey> {
    let target = endpoint
        .target_ref
        .as_ref()
        .filter(|target| target.kind == "Pod")?;
    Some(ObjectKey::new(Kind::Pod, &slice.namespace, &target.name))
}

/// UDP and SCTP ports are not carried by the mesh.
fn carried(protocol: Option<&str>) -> bool {
    matches!(protocol, None | Some("" | "TCP"))
}

/// `None` while the node has not given the Service its virtual address yet.
fn read_service(
    key: &ObjectKey,
    service: &ServiceObject,
    node_says: Option<&str>,
) -> Result<Option<Service>, String> {
    let vip = match (service.spec.headless(), node_says) {
        (true, _) => None,
        (false, None) => return Ok(None),
        (false, Some(ip)) => Some(
            EndpointAddress::parse(ip, false)
                .map_err(|e| e.to_string())?
                .ip(),
        ),
    };
    let mut ports = Vec::new();
    for port in &service.spec.ports {
        if !carried(port.protocol.as_deref()) {
            continue;
        }
        let name = (port.name.as_ref())
            .map(PortName::new)
            .transpose()
            .map_err(|e| e.to_string())?;
        ports.push(ServicePort {
            number: port.port,
            protocol: AppProtocol::of(port.name.as_deref(), port.app_protocol.as_deref()),
            name,
        });
    }
    let name = ServiceName::new(&key.name).map_err(|e| e.to_string())?;
    Ok(Some(Service {
        key: ServiceKey::new(key.namespace.clone(), name),
        ports,
        vip,
        cluster_local: cluster_local(key, service),
    }))
}

/// Services of the system stay in their cluster (DESIGN 3), and those that a person keeps.
fn cluster_local(key: &ObjectKey, service: &ServiceObject) -> bool {
    let system = matches!(key.namespace.as_str(), "kube-system" | "catamaran-system");
    let api = key.namespace.as_str() == "default" && key.name == "kubernetes";
    let kept = service.metadata.annotations.get(CLUSTER_LOCAL_ANNOTATION);
    system || api || kept.is_some_and(|value| value == "true")
}

fn read_endpoint(
    namespace: &Namespace,
    address: EndpointAddress,
    endpoint: &crate::object::EndpointObject,
    pod: &PodObject,
    region: Option<&Region>,
) -> Result<Endpoint, String> {
    let labels = &pod.metadata.labels;
    let label = |name: &str| labels.get(name).map(String::as_str);
    let zone = endpoint
        .zone
        .as_deref()
        .or(label("topology.kubernetes.io/zone"));
    let text = |e: catamaran_model::NameError| e.to_string();
    let conditions = &endpoint.conditions;
    Ok(Endpoint {
        address,
        workload: Some(WorkloadKey {
            namespace: namespace.clone(),
            pod: PodName::new(&pod.metadata.name).map_err(text)?,
        }),
        service_account: ServiceAccount::new(pod.spec.service_account()).map_err(text)?,
        network: label(NETWORK_LABEL)
            .map(NetworkId::new)
            .transpose()
            .map_err(text)?,
        locality: Locality {
            region: match label("topology.kubernetes.io/region") {
                Some(said) => Some(Region::new(said).map_err(text)?),
                None => region.cloned(),
            },
            zone: zone.map(Zone::new).transpose().map_err(text)?,
        },
        health: match (conditions.terminating, conditions.ready) {
            (Some(true), _) => Health::Draining,
            (_, Some(false)) => Health::NotReady,
            (_, Some(true) | None) => Health::Ready,
        },
        tls: match label(TLS_MODE_LABEL) {
            Some("istio") => TlsMode::Mutual,
            _ => TlsMode::Plain,
        },
        labels: labels.clone(),
    })
}
