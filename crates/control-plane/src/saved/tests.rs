use catamaran_model::{Health, Version, *};
use catamaran_registry::{Registry, Revision};

use super::*;

fn cluster() -> ClusterId {
    ClusterId::new("cluster-2").unwrap()
}

/// One fact of each kind, with every field in use.
fn shard() -> SavedShard {
    let network = |name: &str| Some(NetworkId::new(name).unwrap());
    let at = |text: &str| EndpointAddress::on_loopback(text.parse().unwrap()).unwrap();
    let key = ServiceKey::new(
        Namespace::new("default").unwrap(),
        ServiceName::new("helloworld").unwrap(),
    );
    let port = |number, name: &str| ServicePort {
        number,
        name: Some(PortName::new(name).unwrap()),
        protocol: AppProtocol::of(Some(name), None),
    };
    let gateway = GatewayAddress {
        address: at("198.18.0.2"),
        port: 15443,
    };
    let endpoint = |address: &str, health, tls| Endpoint {
        address: at(address),
        workload: Some(WorkloadKey {
            namespace: Namespace::new("default").unwrap(),
            pod: PodName::new("helloworld-1").unwrap(),
        }),
        service_account: ServiceAccount::new("hello.world").unwrap(),
        labels: [("version".to_owned(), "v2".to_owned())].into(),
        network: network("network2"),
        locality: Locality {
            region: Some(Region::new("r").unwrap()),
            zone: Some(Zone::new("z").unwrap()),
        },
        health,
        tls,
    };
    let facts = vec![
        Fact::Mesh(MeshSpec {
            name: MeshName::new("mesh-2").unwrap(),
            region: Some(Region::new("r").unwrap()),
            version: Some(Version::new("0.1.0").unwrap()),
            trust_domain: TrustDomain::new("example.org").unwrap(),
            domain: ClusterDomain::new("cluster.example").unwrap(),
            mtls: MtlsMode::Permissive,
            failover: FailoverMode::LocalFirst,
        }),
        Fact::Member(Member {
            cluster: cluster(),
            mode: MemberMode::Managed,
            network: network("network2"),
            gateway: true,
            gateway_addresses: vec![gateway],
            credential: Credential::Folder("cluster-2".into()),
        }),
        Fact::Namespace(NamespaceFacts {
            name: Namespace::new("default").unwrap(),
            inject: true,
        }),
        Fact::Export(MeshExport {
            mesh: MeshName::new("mesh-2").unwrap(),
            cluster: cluster(),
            cluster_uid: "uid".into(),
            version: Version::new("0.1.0").unwrap(),
            region: None,
            network: network("network2"),
            gateways: vec![gateway],
            roots: vec![Fingerprint([1; 32])],
            intermediates: vec![Fingerprint([2; 32]), Fingerprint([3; 32])],
            digest: "d".into(),
        }),
        Fact::Gateway(NetworkGateway {
            name: "eastwest".into(),
            network: network("network2"),
            at: gateway,
        }),
        Fact::Service(Service {
            key: key.clone(),
            ports: vec![
                port(5000, "http"),
                port(9000, "grpc-x"),
                port(1, "tcp"),
                port(2, "x"),
                port(3, "tls"),
                port(4, "http2"),
            ],
            vip: Some("10.96.0.7".parse().unwrap()),
            cluster_local: true,
        }),
        Fact::Slice(EndpointSlice {
            key: SliceKey {
                namespace: Namespace::new("default").unwrap(),
                name: SliceName::new("helloworld-local").unwrap(),
            },
            service: key,
            ports: vec![
                SlicePort {
                    name: Some(PortName::new("http").unwrap()),
                    number: 8080,
                },
                SlicePort {
                    name: None,
                    number: 1,
                },
            ],
            endpoints: vec![
                endpoint("10.1.2.3", Health::Ready, TlsMode::Mutual),
                endpoint("127.4.5.6", Health::NotReady, TlsMode::Plain),
                endpoint("fd00::1", Health::Draining, TlsMode::Plain),
            ],
        }),
    ];
    SavedShard {
        revision: Revision(42),
        facts,
    }
}

#[test]
fn what_is_read_is_what_was_written() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), &cluster(), &shard()).unwrap();
    assert_eq!(read(folder.path(), &cluster()).unwrap(), shard());
    assert_eq!(clusters(folder.path()).unwrap(), [cluster()]);
    remove(folder.path(), &cluster());
    remove(folder.path(), &cluster());
    assert!(clusters(folder.path()).unwrap().is_empty());
}

#[test]
fn what_the_registry_gives_it_takes_back() {
    let mut registry = Registry::new(cluster());
    let _ = registry.restore(cluster(), shard(), Timestamp(1));
    assert_eq!(registry.shard_facts(&cluster()).unwrap(), shard());
}

#[test]
fn a_file_that_is_torn_anywhere_is_not_believed() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), &cluster(), &shard()).unwrap();
    let file = path(folder.path(), &cluster());
    let whole = std::fs::read(&file).unwrap();
    for length in 0..whole.len() {
        std::fs::write(&file, &whole[..length]).unwrap();
        assert!(read(folder.path(), &cluster()).is_err(), "cut at {length}");
    }
    for at in (0..whole.len()).step_by(7) {
        let mut flipped = whole.clone();
        flipped[at] ^= 1;
        std::fs::write(&file, &flipped).unwrap();
        assert!(
            read(folder.path(), &cluster()).is_err(),
            "bit flipped at {at}"
        );
    }
}

#[test]
fn a_write_that_fails_leaves_the_old_file_and_no_litter() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), &cluster(), &shard()).unwrap();
    // The place beside it is taken by a folder, as if the disk refused.
    let beside = folder.path().join(".shard-cluster-2.new");
    std::fs::create_dir(&beside).unwrap();
    let empty = SavedShard {
        revision: Revision(43),
        facts: vec![],
    };
    assert!(write(folder.path(), &cluster(), &empty).is_err());
    assert_eq!(read(folder.path(), &cluster()).unwrap(), shard());
    std::fs::remove_dir(&beside).unwrap();
    write(folder.path(), &cluster(), &empty).unwrap();
    assert_eq!(read(folder.path(), &cluster()).unwrap(), empty);
}

fn namespace(name: &str, inject: bool) -> Fact {
    Fact::Namespace(NamespaceFacts {
        name: Namespace::new(name).unwrap(),
        inject,
    })
}

/// A shard on disk, with every fact gone and every fact again in its journal, one step a fact.
fn journaled(state: &Path) -> (Base, Vec<SavedShard>) {
    let base = write(state, &cluster(), &shard()).unwrap();
    let mut facts: BTreeMap<FactKey, Fact> = (shard().facts.into_iter())
        .map(|fact| (fact.key(), fact))
        .collect();
    let changes = shard().facts.into_iter().flat_map(|fact| {
        let key = fact.key();
        [(key.clone(), None), (key, Some(fact))]
    });
    let more = [namespace("default", false), namespace("other", true)];
    let more = more.map(|fact| (fact.key(), Some(fact)));
    let mut steps = vec![shard()];
    for (n, (key, fact)) in changes.chain(more).enumerate() {
        let news = BTreeMap::from([(key.clone(), fact.clone())]);
        add(state, &cluster(), &base, n == 0, &news).unwrap();
        match fact {
            Some(fact) => facts.insert(key, fact),
            None => facts.remove(&key),
        };
        steps.push(SavedShard {
            revision: Revision(42),
            facts: facts.values().cloned().collect(),
        });
    }
    (base, steps)
}

fn by_key(mut shard: SavedShard) -> SavedShard {
    shard.facts.sort_by_key(Fact::key);
    shard
}

#[test]
fn what_was_added_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let (_, steps) = journaled(folder.path());
    let last = steps.last().unwrap();
    assert_eq!(read(folder.path(), &cluster()).unwrap(), *last);
    assert_eq!(clusters(folder.path()).unwrap(), [cluster()]);
    remove(folder.path(), &cluster());
    assert!(folder.path().read_dir().unwrap().next().is_none());
}

#[test]
fn a_journal_that_is_torn_anywhere_is_believed_up_to_there() {
    let folder = tempfile::tempdir().unwrap();
    let (_, steps) = journaled(folder.path());
    let file = journal_path(folder.path(), &cluster());
    let whole = std::fs::read(&file).unwrap();
    for length in 0..whole.len() {
        std::fs::write(&file, &whole[..length]).unwrap();
        let lines = whole[..length].iter().filter(|byte| **byte == b'\n');
        let step = steps[lines.count().saturating_sub(1)].clone();
        let found = read(folder.path(), &cluster()).unwrap();
        assert_eq!(by_key(found), by_key(step), "cut at {length}");
    }
    for at in (0..whole.len()).step_by(7) {
        let mut flipped = whole.clone();
        flipped[at] ^= 1;
        std::fs::write(&file, &flipped).unwrap();
        let lines = whole[..at].iter().filter(|byte| **byte == b'\n').count();
        let step = steps[lines.saturating_sub(1)].clone();
        let found = read(folder.path(), &cluster()).unwrap();
        assert_eq!(by_key(found), by_key(step), "bit flipped at {at}");
    }
}

#[test]
fn a_journal_goes_on_from_its_own_file_only() {
    let folder = tempfile::tempdir().unwrap();
    let (base, _) = journaled(folder.path());
    let journal = std::fs::read(journal_path(folder.path(), &cluster())).unwrap();
    let other = SavedShard {
        revision: Revision(43),
        facts: vec![namespace("third", true)],
    };
    write(folder.path(), &cluster(), &other).unwrap();
    assert!(!journal_path(folder.path(), &cluster()).exists());
    // As if it could not be removed.
    std::fs::write(journal_path(folder.path(), &cluster()), journal).unwrap();
    assert_eq!(read(folder.path(), &cluster()).unwrap(), other);
    // And one that is begun takes the place of what is left over.
    let base = Base { bytes: 0, ..base };
    let again = write(folder.path(), &cluster(), &shard()).unwrap();
    assert_eq!(
        again.checksum, base.checksum,
        "the checksum is of the content"
    );
    let fact = namespace("fourth", true);
    let news = BTreeMap::from([(fact.key(), Some(fact.clone()))]);
    add(folder.path(), &cluster(), &again, true, &news).unwrap();
    assert!(
        read(folder.path(), &cluster())
            .unwrap()
            .facts
            .contains(&fact)
    );
}
