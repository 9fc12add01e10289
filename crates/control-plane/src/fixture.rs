//! Short ways to say facts in tests.

use catamaran_model::*;
use catamaran_registry::{Change, Fact, FactKey, Observed, Registry, Revision, WatchGeneration};

pub(crate) fn cluster(name: &str) -> ClusterId {
    ClusterId::new(name).unwrap()
}

pub(crate) fn workload(pod: &str) -> WorkloadKey {
    WorkloadKey {
        namespace: Namespace::new("default").unwrap(),
        pod: PodName::new(pod).unwrap(),
    }
}

pub(crate) fn service(name: &str, port: u16) -> Fact {
    Fact::Service(Service {
        key: key(name),
        ports: vec![ServicePort {
            number: port,
            name: Some(PortName::new("http").unwrap()),
            protocol: AppProtocol::Http,
        }],
        vip: Some("10.96.0.9".parse().unwrap()),
        cluster_local: false,
    })
}

pub(crate) fn key(name: &str) -> ServiceKey {
    ServiceKey::new(
        Namespace::new("default").unwrap(),
        ServiceName::new(name).unwrap(),
    )
}

/// The pods `NAME-N` at `10.1.0.N`, which listen on 8080.
pub(crate) fn pods(name: &str, numbers: &[u8], network: Option<&str>) -> Fact {
    let endpoint = |n: &u8| Endpoint {
        address: EndpointAddress::new([10, 1, 0, *n].into()).unwrap(),
        workload: Some(workload(&format!("{name}-{n}"))),
        service_account: ServiceAccount::new(name).unwrap(),
        labels: Labels::new(),
        network: network.map(|network| NetworkId::new(network).unwrap()),
        locality: Locality::default(),
        health: Health::Ready,
        tls: TlsMode::Mutual,
    };
    Fact::Slice(EndpointSlice {
        key: SliceKey {
            namespace: Namespace::new("default").unwrap(),
            name: SliceName::new(name).unwrap(),
        },
        service: key(name),
        ports: vec![SlicePort {
            name: Some(PortName::new("http").unwrap()),
            number: 8080,
        }],
        endpoints: numbers.iter().map(endpoint).collect(),
    })
}

pub(crate) fn mesh(failover: FailoverMode) -> Fact {
    Fact::Mesh(MeshSpec {
        name: MeshName::new("mesh-1").unwrap(),
        region: None,
        version: None,
        trust_domain: TrustDomain::default(),
        domain: ClusterDomain::default(),
        mtls: MtlsMode::Strict,
        failover,
    })
}

pub(crate) fn member(name: &str, network: Option<&str>) -> Fact {
    Fact::Member(Member {
        cluster: cluster(name),
        mode: if name == "cluster-1" {
            MemberMode::Managed
        } else {
            MemberMode::DiscoveryOnly
        },
        network: network.map(|network| NetworkId::new(network).unwrap()),
        gateway: false,
        gateway_addresses: Vec::new(),
        credential: Credential::Folder(name.into()),
    })
}

pub(crate) fn export() -> Fact {
    Fact::Export(MeshExport {
        mesh: MeshName::new("mesh-1").unwrap(),
        cluster: cluster("cluster-1"),
        cluster_uid: "uid".into(),
        version: Version::new("0.1.0").unwrap(),
        region: None,
        network: None,
        gateways: Vec::new(),
        roots: Vec::new(),
        intermediates: vec![Fingerprint([7; 32])],
        digest: String::new(),
    })
}

pub(crate) fn say(registry: &mut Registry, of: &str, what: Observed) {
    let change = Change {
        cluster: cluster(of),
        watch: WatchGeneration(1),
        what,
    };
    let _ = registry.apply(change, Timestamp(0));
}

pub(crate) fn list(registry: &mut Registry, of: &str, facts: impl IntoIterator<Item = Fact>) {
    say(registry, of, Observed::Relisting);
    for fact in facts {
        say(registry, of, Observed::Upsert(fact));
    }
    say(registry, of, Observed::Listed(Revision(1)));
}

pub(crate) fn upsert(registry: &mut Registry, of: &str, fact: Fact) {
    say(registry, of, Observed::Upsert(fact));
}

pub(crate) fn delete(registry: &mut Registry, of: &str, fact: &Fact) {
    let gone: FactKey = fact.key();
    say(registry, of, Observed::Delete(gone));
}
