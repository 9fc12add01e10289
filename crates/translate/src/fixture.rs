//! Snapshots and audiences for tests, in few words, and what a call would do.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use catamaran_model::*;
use catamaran_registry::{
    ClusterView, Freshness, MergedEndpoint, MergedPort, MergedService, Revision, Snapshot,
};

use crate::{Audience, Capability, Capture, Role, translate};

mod reading;

pub(crate) use reading::*;

/// `cluster-1` in `network1` with gateway 198.18.1.10, `cluster-2` in `network2` with 198.18.2.10; in each a pod of
/// `default/helloworld` (HTTP on 5000) and in `cluster-1` one of `default/sleep` (HTTP on 80), all with sidecars.
pub(crate) fn five_steps() -> World {
    World::default()
        .cluster("cluster-1", Some("network1"))
        .cluster("cluster-2", Some("network2"))
        .gateway("cluster-1", "network1", "198.18.1.10")
        .gateway("cluster-2", "network2", "198.18.2.10")
        .service("default/sleep", &[("http", 80)])
        .vip("default/sleep", "cluster-1", "10.96.0.2")
        .pod("default/sleep", "cluster-1", "sleep", "10.1.1.5")
        .service("default/helloworld", &[("http", 5000)])
        .vip("default/helloworld", "cluster-1", "10.96.0.3")
        .vip("default/helloworld", "cluster-2", "10.96.0.9")
        .pod(
            "default/helloworld",
            "cluster-1",
            "helloworld-v1",
            "10.1.1.7",
        )
        .pod(
            "default/helloworld",
            "cluster-2",
            "helloworld-v2",
            "10.2.2.7",
        )
}

/// One service `default/app` in no network, with a port for each protocol: HTTP 80, gRPC 81, TCP 82, TLS 83, undeclared 84.
pub(crate) fn protocols() -> World {
    World::default()
        .cluster("cluster-1", None)
        .service(
            "default/app",
            &[
                ("http", 80),
                ("grpc", 81),
                ("tcp", 82),
                ("tls", 83),
                ("", 84),
            ],
        )
        .vip("default/app", "cluster-1", "10.96.0.7")
        .pod("default/app", "cluster-1", "app", "10.1.1.9")
}

pub(crate) fn key(text: &str) -> ServiceKey {
    let (namespace, name) = text.split_once('/').unwrap();
    ServiceKey::new(
        Namespace::new(namespace).unwrap(),
        ServiceName::new(name).unwrap(),
    )
}

pub(crate) fn cluster(text: &str) -> ClusterId {
    ClusterId::new(text).unwrap()
}

pub(crate) fn network(text: &str) -> NetworkId {
    NetworkId::new(text).unwrap()
}

pub(crate) fn locality(region: &str, zone: &str) -> Locality {
    Locality {
        region: Some(Region::new(region).unwrap()),
        zone: Some(Zone::new(zone).unwrap()),
    }
}

pub(crate) fn mesh() -> MeshSpec {
    MeshSpec {
        name: MeshName::new("mesh-1").unwrap(),
        region: None,
        version: None,
        trust_domain: TrustDomain::default(),
        domain: ClusterDomain::default(),
        mtls: MtlsMode::Strict,
        failover: FailoverMode::Spread,
    }
}

/// A snapshot in the making.
#[derive(Debug, Clone)]
pub(crate) struct World {
    pub(crate) snapshot: Snapshot,
    networks: BTreeMap<ClusterId, Option<NetworkId>>,
}

impl Default for World {
    fn default() -> World {
        World {
            snapshot: Snapshot {
                mesh: Some(Arc::new(mesh())),
                ..Snapshot::empty()
            },
            networks: BTreeMap::new(),
        }
    }
}

impl World {
    pub(crate) fn cluster(mut self, name: &str, in_network: Option<&str>) -> World {
        let view = ClusterView {
            mode: MemberMode::DiscoveryOnly,
            network: in_network.map(network),
            freshness: Freshness::Fresh,
            revision: Revision(1),
            namespaces: Arc::default(),
            export: None,
            services: 0,
            endpoints: 0,
            held_since: None,
        };
        self.networks.insert(cluster(name), in_network.map(network));
        self.snapshot.clusters.insert(cluster(name), view);
        self
    }

    pub(crate) fn mesh(mut self, change: impl FnOnce(&mut MeshSpec)) -> World {
        let mut mesh = mesh();
        change(&mut mesh);
        self.snapshot.mesh = Some(Arc::new(mesh));
        self
    }

    pub(crate) fn gateway(mut self, stands_in: &str, leads_to: &str, address: &str) -> World {
        let at = GatewayAddress {
            address: EndpointAddress::parse(address, false).unwrap(),
            port: GatewayAddress::PORT,
        };
        let ways = self.snapshot.gateways.entry(network(leads_to)).or_default();
        ways.push((cluster(stands_in), at));
        self
    }

    pub(crate) fn without_gateways(mut self) -> World {
        self.snapshot.gateways.clear();
        self
    }

    /// Ports by name, which says the protocol, and number.
    pub(crate) fn service(self, name: &str, ports: &[(&str, u16)]) -> World {
        let port = |&(name, number): &(&str, u16)| MergedPort {
            number,
            name: (!name.is_empty()).then(|| PortName::new(name).unwrap()),
            protocol: AppProtocol::of((!name.is_empty()).then_some(name), None),
        };
        let ports = ports.iter().map(port).collect();
        self.edit(name, |service| service.ports = ports)
    }

    pub(crate) fn vip(self, service: &str, of: &str, address: &str) -> World {
        let address = Some(address.parse().unwrap());
        self.edit(service, |service| {
            service.vips.insert(cluster(of), address);
        })
    }

    pub(crate) fn headless(self, service: &str, of: &str) -> World {
        self.edit(service, |service| {
            service.vips.insert(cluster(of), None);
        })
    }

    pub(crate) fn keep_local(self, service: &str, of: &str) -> World {
        self.edit(service, |service| {
            service.cluster_local.push(cluster(of));
            service
                .local_ports
                .insert(cluster(of), service.ports.clone());
        })
    }

    pub(crate) fn pod(self, service: &str, of: &str, pod: &str, address: &str) -> World {
        self.pod_with(service, of, pod, address, |_| ())
    }

    /// A pod is a ready meshed endpoint with the account of its service, and listens on the service's ports.
    pub(crate) fn pod_with(
        self,
        service: &str,
        of: &str,
        pod: &str,
        address: &str,
        change: impl FnOnce(&mut MergedEndpoint),
    ) -> World {
        let name = key(service);
        let network = self.networks[&cluster(of)].clone();
        let version = pod.rsplit('-').next().unwrap_or_default();
        let mut endpoint = MergedEndpoint {
            cluster: cluster(of),
            network,
            ports: BTreeMap::new(),
            endpoint: Endpoint {
                address: EndpointAddress::parse(address, false).unwrap(),
                workload: Some(WorkloadKey {
                    namespace: name.namespace.clone(),
                    pod: PodName::new(pod).unwrap(),
                }),
                service_account: ServiceAccount::new(name.name.as_str()).unwrap(),
                labels: Labels::from([("version".to_owned(), version.to_owned())]),
                network: None,
                locality: Locality::default(),
                health: Health::Ready,
                tls: TlsMode::Mutual,
            },
        };
        self.edit(service, |service| {
            endpoint.ports = service.ports.iter().map(|p| (p.number, p.number)).collect();
            change(&mut endpoint);
            service.endpoints.push(Arc::new(endpoint));
            service.endpoints.sort_by(|a, b| {
                let key = |e: &MergedEndpoint| (e.cluster.clone(), e.endpoint.address);
                key(a).cmp(&key(b))
            });
        })
    }

    pub(crate) fn edit(mut self, service: &str, change: impl FnOnce(&mut MergedService)) -> World {
        let key = key(service);
        let known = self.snapshot.services.get(&key);
        let mut service = known
            .map(|known| MergedService::clone(known))
            .unwrap_or_else(|| MergedService {
                key: key.clone(),
                ports: Vec::new(),
                vips: BTreeMap::new(),
                cluster_local: Vec::new(),
                local_ports: BTreeMap::new(),
                endpoints: Vec::new(),
            });
        change(&mut service);
        self.snapshot.services.insert(Arc::new(service));
        self
    }

    /// One line for each way that a call may take: which address, how, with which weight.
    pub(crate) fn call(&self, audience: &Audience, cluster: &str) -> Vec<String> {
        ways(&translate(&self.snapshot, audience).0, cluster)
    }

    pub(crate) fn problems(&self, audience: &Audience) -> Vec<String> {
        let problems = translate(&self.snapshot, audience).1;
        let line = |problem: &catamaran_registry::Problem| {
            format!("{:?} {}: {}", problem.kind, problem.object, problem.message)
        };
        problems.iter().map(line).collect()
    }
}

/// The sidecar of pod `sleep` in namespace `default`.
pub(crate) fn sleep(of: &str, in_network: Option<&str>) -> Audience {
    sidecar(of, in_network, "default", "sleep")
}

pub(crate) fn sidecar(of: &str, in_network: Option<&str>, namespace: &str, pod: &str) -> Audience {
    Audience {
        role: Role::Sidecar {
            workload: WorkloadKey {
                namespace: Namespace::new(namespace).unwrap(),
                pod: PodName::new(pod).unwrap(),
            },
            app: IpAddr::V4(Ipv4Addr::LOCALHOST),
        },
        cluster: cluster(of),
        network: in_network.map(network),
        locality: Locality::default(),
        namespace: Namespace::new(namespace).unwrap(),
        capability: Capability::Catamaran,
        capture: Capture::Redirect,
    }
}

pub(crate) fn gateway(of: &str, in_network: Option<&str>) -> Audience {
    Audience {
        role: Role::Gateway,
        namespace: Namespace::new(SpiffeId::SYSTEM_NAMESPACE).unwrap(),
        ..sleep(of, in_network)
    }
}
