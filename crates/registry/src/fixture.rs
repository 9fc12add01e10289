//! Short ways to say facts in tests.

use std::net::Ipv4Addr;

use catamaran_model::*;

use crate::{Applied, Change, Fact, Observed, Registry, Revision, Snapshot, WatchGeneration};

pub(crate) fn cluster(name: &str) -> ClusterId {
    ClusterId::new(name).unwrap()
}

pub(crate) fn network(name: &str) -> NetworkId {
    NetworkId::new(name).unwrap()
}

/// `default/helloworld`
pub(crate) fn key(text: &str) -> ServiceKey {
    let (namespace, name) = text.split_once('/').unwrap();
    ServiceKey::new(
        Namespace::new(namespace).unwrap(),
        ServiceName::new(name).unwrap(),
    )
}

/// `helloworld` with a port `5000` named `http`.
pub(crate) fn service(text: &str) -> Service {
    Service {
        key: key(text),
        ports: vec![port(5000, Some("http"))],
        vip: Some("10.96.0.9".parse().unwrap()),
        cluster_local: false,
    }
}

pub(crate) fn port(number: u16, name: Option<&str>) -> ServicePort {
    ServicePort {
        number,
        name: name.map(|name| PortName::new(name).unwrap()),
        protocol: AppProtocol::of(name, None),
    }
}

pub(crate) fn endpoint(last: u16) -> Endpoint {
    let [high, low] = last.to_be_bytes();
    Endpoint {
        address: EndpointAddress::new(Ipv4Addr::new(10, 0, high, low).into()).unwrap(),
        workload: None,
        service_account: ServiceAccount::new("helloworld").unwrap(),
        labels: Labels::new(),
        network: None,
        locality: Locality::default(),
        health: Health::Ready,
        tls: TlsMode::Mutual,
    }
}

/// A slice of `service` whose endpoints are `10.0.0.N` and listen on 5000 under the name `http`.
pub(crate) fn slice(
    name: &str,
    service: &str,
    endpoints: impl IntoIterator<Item = u16>,
) -> EndpointSlice {
    let service = key(service);
    EndpointSlice {
        key: SliceKey {
            namespace: service.namespace.clone(),
            name: SliceName::new(name).unwrap(),
        },
        service,
        ports: vec![SlicePort {
            name: Some(PortName::new("http").unwrap()),
            number: 5000,
        }],
        endpoints: endpoints.into_iter().map(endpoint).collect(),
    }
}

pub(crate) fn member(name: &str, network_name: Option<&str>) -> Member {
    Member {
        cluster: cluster(name),
        mode: if name == "cluster-1" {
            MemberMode::Managed
        } else {
            MemberMode::DiscoveryOnly
        },
        network: network_name.map(network),
        gateway: false,
        gateway_addresses: Vec::new(),
        credential: Credential::Folder(name.into()),
    }
}

pub(crate) fn gateway_at(text: &str) -> GatewayAddress {
    GatewayAddress {
        address: EndpointAddress::parse(text, false).unwrap(),
        port: GatewayAddress::PORT,
    }
}

pub(crate) fn export(mesh: &str, of: &str, root: u8) -> MeshExport {
    MeshExport {
        mesh: MeshName::new(mesh).unwrap(),
        cluster: cluster(of),
        cluster_uid: format!("uid-of-{of}"),
        version: Version::new("0.1.0").unwrap(),
        region: None,
        network: None,
        gateways: Vec::new(),
        roots: vec![Fingerprint([root; 32])],
        intermediates: vec![Fingerprint([root + 100; 32])],
        digest: String::new(),
    }
}

/// A registry with a clock that tests turn.
pub(crate) struct Bench {
    pub(crate) registry: Registry,
    pub(crate) now: Timestamp,
    revision: u64,
}

impl Bench {
    pub(crate) fn new() -> Bench {
        Bench {
            registry: Registry::new(cluster("cluster-1")),
            now: Timestamp(1_000_000),
            revision: 0,
        }
    }

    pub(crate) fn say(&mut self, of: &str, watch: u64, what: Observed) -> Applied {
        let change = Change {
            cluster: cluster(of),
            watch: WatchGeneration(watch),
            what,
        };
        self.registry.apply(change, self.now)
    }

    pub(crate) fn upsert(&mut self, of: &str, watch: u64, fact: Fact) -> Applied {
        self.say(of, watch, Observed::Upsert(fact))
    }

    /// A complete list.
    pub(crate) fn list(
        &mut self,
        of: &str,
        watch: u64,
        facts: impl IntoIterator<Item = Fact>,
    ) -> Applied {
        let _ = self.say(of, watch, Observed::Relisting);
        for fact in facts {
            let _ = self.upsert(of, watch, fact);
        }
        self.listed(of, watch)
    }

    pub(crate) fn listed(&mut self, of: &str, watch: u64) -> Applied {
        self.revision += 1;
        self.say(of, watch, Observed::Listed(Revision(self.revision)))
    }

    pub(crate) fn seconds_pass(&mut self, seconds: u64) {
        self.now = Timestamp(self.now.0 + seconds * 1000);
    }

    /// `cluster-1/10.0.0.1 cluster-2/10.0.0.2`
    pub(crate) fn endpoints(&mut self, service: &str) -> String {
        endpoints(&self.registry.snapshot(), service)
    }
}

pub(crate) fn endpoints(snapshot: &Snapshot, service: &str) -> String {
    let Some(service) = snapshot.services.get(&key(service)) else {
        return "no such service".into();
    };
    let all = service.endpoints.iter();
    all.map(|one| format!("{}/{}", one.cluster, one.endpoint.address))
        .collect::<Vec<_>>()
        .join(" ")
}

/// The problems of a snapshot, `kind cluster: message`.
pub(crate) fn problems(snapshot: &Snapshot) -> Vec<String> {
    let line = |problem: &crate::Problem| {
        let cluster = problem
            .cluster
            .as_ref()
            .map_or(String::new(), ToString::to_string);
        format!("{:?} {cluster}: {}", problem.kind, problem.message)
    };
    snapshot.problems.iter().map(line).collect()
}
