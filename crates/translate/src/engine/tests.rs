use std::collections::BTreeMap;
use std::sync::Arc;

use catamaran_model::*;
use catamaran_registry::{MergedPort, MergedService, Snapshot};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use super::*;
use crate::fixture::*;
use crate::virtual_address::VirtualAddresses;
use crate::{Capability, Capture, translate};

fn arc(world: World) -> Arc<Snapshot> {
    Arc::new(world.snapshot)
}

/// What changed, one line each, with how often.
fn lines(changes: &[(ClassId, ResourceChange)]) -> Vec<String> {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for (_, change) in changes {
        let line = match change {
            ResourceChange::Put(resource) => format!("{:?} {}", resource.kind, resource.name),
            ResourceChange::Gone(key) => format!("{:?} {} gone", key.kind, key.name),
        };
        *counts.entry(line).or_default() += 1;
    }
    counts
        .into_iter()
        .map(|(line, count)| format!("{count} x {line}"))
        .collect()
}

#[test]
fn a_pod_that_comes_touches_one_assignment_for_each_place_that_proxies_are_in() {
    let world = five_steps();
    let mut engine = Engine::new(arc(world.clone()));
    for n in 0..20 {
        let here = sidecar(
            "cluster-1",
            Some("network1"),
            "default",
            &format!("pod-{n}"),
        );
        let there = sidecar("cluster-2", Some("network2"), "other", &format!("pod-{n}"));
        let _ = engine.open(&here);
        let _ = engine.open(&there);
    }
    let _ = engine.open(&gateway("cluster-1", Some("network1")));
    let world = world.pod("default/helloworld", "cluster-1", "new", "10.1.1.30");
    assert_eq!(
        lines(&engine.advance(&arc(world.clone()))),
        [
            "1 x Endpoints outbound_.5000_._.helloworld.default.svc.cluster.local".to_owned(),
            format!("2 x Endpoints {HELLOWORLD}"),
        ]
    );
    assert_eq!(
        lines(&engine.advance(&arc(world))),
        [""; 0],
        "nothing new is nothing told"
    );
}

#[test]
fn a_pods_own_sidecar_hears_of_its_ports_and_nobody_elses() {
    let world = five_steps();
    let mut engine = Engine::new(arc(world.clone()));
    let new = engine.open(&sidecar("cluster-1", Some("network1"), "default", "new"));
    let _ = engine.open(&sleep("cluster-1", Some("network1")));
    let changes = engine.advance(&arc(world.pod(
        "default/helloworld",
        "cluster-1",
        "new",
        "10.1.1.30",
    )));
    assert_eq!(
        lines(&changes),
        [
            "1 x Cluster inbound|5000||".to_owned(),
            format!("1 x Endpoints {HELLOWORLD}"),
            "1 x Listener virtualInbound".to_owned(),
        ]
    );
    assert!(changes.iter().all(|(class, _)| new.classes.contains(class)));
}

#[test]
fn another_account_changes_the_cluster_before_anybody_is_called() {
    let world = five_steps();
    let mut engine = Engine::new(arc(world.clone()));
    let _ = engine.open(&sleep("cluster-1", Some("network1")));
    let world = world.pod_with("default/helloworld", "cluster-2", "v3", "10.2.2.9", |pod| {
        pod.endpoint.service_account = ServiceAccount::new("another").unwrap();
    });
    assert_eq!(
        lines(&engine.advance(&arc(world))),
        [
            format!("1 x Cluster {HELLOWORLD}"),
            format!("1 x Endpoints {HELLOWORLD}")
        ]
    );
}

#[test]
fn a_gateway_that_moves_touches_what_is_behind_it_only() {
    let world = five_steps();
    let mut engine = Engine::new(arc(world.clone()));
    let _ = engine.open(&sleep("cluster-1", Some("network1")));
    let mut world = world;
    world.snapshot.gateways.remove(&network("network2"));
    let world = world.gateway("cluster-2", "network2", "198.18.2.99");
    let changes = engine.advance(&arc(world));
    assert_eq!(lines(&changes), [format!("1 x Endpoints {HELLOWORLD}")]);
}

#[test]
fn equal_content_is_one_resource_whoever_holds_it() {
    let at = |zone: &str, pod: &str| Audience {
        locality: locality("eu", zone),
        ..sidecar("cluster-1", Some("network1"), "default", pod)
    };
    let world = five_steps().pod(
        "default/helloworld",
        "cluster-1",
        "helloworld-v1b",
        "10.1.1.8",
    );
    let mut engine = Engine::new(arc(world));
    let one = engine.open(&at("a", "helloworld-v1"));
    let two = engine.open(&at("b", "helloworld-v1b"));
    let (one, two) = (
        engine.resources(one.audience),
        engine.resources(two.audience),
    );
    assert_eq!(one.len(), two.len());
    for (one, two) in one.iter().zip(two.iter()) {
        assert!(Arc::ptr_eq(one, two), "{:?} {}", one.kind, one.name);
    }
}

#[test]
fn what_did_not_change_is_shared() {
    let world = five_steps();
    let mut engine = Engine::new(arc(world.clone()));
    let one = engine.open(&sleep("cluster-1", Some("network1"))).audience;
    let other = engine
        .open(&sidecar("cluster-1", Some("network1"), "default", "x"))
        .audience;
    let before = engine.resources(one);
    engine.advance(&arc(world.pod(
        "default/helloworld",
        "cluster-1",
        "new",
        "10.1.1.30",
    )));
    let after = engine.resources(one);
    let changed = |kind| before.differences(&after, kind).len();
    assert_eq!(TypeUrlKind::ALL.map(changed), [0, 0, 1, 0, 0, 0]);
    assert!(after.shares(&engine.resources(other), TypeUrlKind::Endpoints));
}

#[test]
fn a_class_goes_with_its_last_member() {
    let mut engine = Engine::new(arc(five_steps()));
    let one = engine.open(&sleep("cluster-1", Some("network1")));
    let two = engine.open(&sleep("cluster-1", Some("network1")));
    assert_eq!(one.classes, two.classes);
    engine.close(one.audience);
    assert!(!engine.resources(two.audience).is_empty());
    assert!(engine.resources(one.audience).is_empty());
    engine.close(two.audience);
    engine.close(two.audience);
    assert!(engine.classes.is_empty() && engine.index.locals.is_empty());
    let world = five_steps().pod("default/helloworld", "cluster-1", "new", "10.1.1.30");
    assert!(engine.advance(&arc(world)).is_empty());
}

#[test]
fn a_service_of_its_own_port_touches_no_other_listener_or_route() {
    let world = five_steps();
    let mut engine = Engine::new(arc(world.clone()));
    let _ = engine.open(&sleep("cluster-1", Some("network1")));
    let world = world.service("default/third", &[("http", 7000)]).vip(
        "default/third",
        "cluster-1",
        "10.96.0.70",
    );
    let third = "outbound|7000||third.default.svc.cluster.local";
    assert_eq!(
        lines(&engine.advance(&arc(world))),
        [
            format!("1 x Cluster {third}"),
            format!("1 x Endpoints {third}"),
            "1 x Listener 0.0.0.0_7000".to_owned(),
            "1 x Names names".to_owned(),
            "1 x Route 7000".to_owned(),
        ]
    );
}

#[test]
fn a_service_that_must_give_up_its_virtual_address_is_told_anew() {
    let mut first: BTreeMap<String, String> = BTreeMap::new();
    let (early, late) = (0..2_000)
        .map(|n| format!("default/service-{n:04}"))
        .find_map(|name| {
            let addresses = VirtualAddresses::give([&key(&name)], &ClusterDomain::default());
            let service = MergedService {
                key: key(&name),
                ..only_elsewhere()
            };
            let address = addresses
                .of(&service, &cluster("cluster-1"))
                .unwrap()
                .to_string();
            first
                .insert(address, name.clone())
                .map(|other| (other, name))
        })
        .expect("two of two thousand want one address");
    let world = five_steps()
        .service(&late, &[("http", 7000), ("tcp", 7001)])
        .headless(&late, "cluster-2");
    let mut engine = Engine::new(arc(world.clone()));
    let sleep = sleep("cluster-1", Some("network1"));
    let opened = engine.open(&sleep);
    let before = names_of(&engine.resources(opened.audience), TypeUrlKind::Listener).join(" ");
    let snapshot = arc(world
        .service(&early, &[("tcp", 9000)])
        .headless(&early, "cluster-2"));
    let changes = lines(&engine.advance(&snapshot));
    let after = engine.resources(opened.audience);
    assert!(
        changes.contains(&"1 x Route 7000".to_owned()),
        "{changes:?}"
    );
    assert_ne!(names_of(&after, TypeUrlKind::Listener).join(" "), before);
    let oracle = translate(&snapshot, &sleep).0;
    assert!(after == oracle, "{}", differ(&after, &oracle));
}

fn only_elsewhere() -> MergedService {
    let world = World::default().headless("default/x", "cluster-2");
    MergedService::clone(&world.snapshot.services[&key("default/x")])
}

#[test]
fn ports_that_a_cluster_keeps_to_itself_are_followed_too() {
    let world = five_steps().keep_local("default/helloworld", "cluster-1");
    let mut engine = Engine::new(arc(world.clone()));
    let sleep = sleep("cluster-1", Some("network1"));
    let opened = engine.open(&sleep);
    let world = world.edit("default/helloworld", |service| {
        for port in service.local_ports.values_mut().flatten() {
            port.number = 5001;
        }
    });
    let snapshot = arc(world);
    engine.advance(&snapshot);
    let (followed, oracle) = (
        engine.resources(opened.audience),
        translate(&snapshot, &sleep).0,
    );
    assert!(followed == oracle, "{}", differ(&followed, &oracle));
    assert!(followed.get(TypeUrlKind::Route, "5001").is_some());
    assert!(followed.get(TypeUrlKind::Route, "5000").is_none());
}

// The engine against the oracle, after any edit.

const CLUSTERS: [&str; 3] = ["cluster-1", "cluster-2", "cluster-3"];
const NETWORKS: [Option<&str>; 3] = [None, Some("network1"), Some("network2")];
const SERVICES: [&str; 4] = ["default/a", "default/b", "other/a", "catamaran-system/c"];
const PORTS: [(&str, u16); 7] = [
    ("http", 80),
    ("tcp", 80),
    ("", 80),
    ("http", 5000),
    ("grpc", 5000),
    ("tcp", 5000),
    ("", 90),
];

#[derive(Debug, Clone)]
enum Step {
    Service(usize, Vec<usize>),
    Vip(usize, usize, Option<u8>),
    Leave(usize, usize),
    Keep(usize, usize, bool),
    Pod(usize, usize, u8, Health, TlsMode, u8),
    PodGone(usize, u8),
    Gateway(usize, usize, u8, bool),
    Issuers(usize, Option<u8>),
    Mesh(MtlsMode, FailoverMode),
    Clock,
    Open(usize),
    Close(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let service = || 0..SERVICES.len();
    let cluster = || 0..CLUSTERS.len();
    let health = select(vec![
        Health::Ready,
        Health::Ready,
        Health::NotReady,
        Health::Draining,
    ]);
    let tls = select(vec![TlsMode::Mutual, TlsMode::Mutual, TlsMode::Plain]);
    let step = prop_oneof![
        3 => (service(), vec(0..PORTS.len(), 0..3)).prop_map(|(s, p)| Step::Service(s, p)),
        2 => (service(), cluster(), proptest::option::of(0..4u8)).prop_map(|(s, c, v)| Step::Vip(s, c, v)),
        1 => (service(), cluster()).prop_map(|(s, c)| Step::Leave(s, c)),
        1 => (service(), cluster(), any::<bool>()).prop_map(|(s, c, k)| Step::Keep(s, c, k)),
        6 => (service(), cluster(), 1..5u8, health, tls, 0..4u8)
            .prop_map(|(s, c, p, h, t, v)| Step::Pod(s, c, p, h, t, v)),
        2 => (service(), 1..5u8).prop_map(|(s, p)| Step::PodGone(s, p)),
        2 => (cluster(), 1..NETWORKS.len(), 1..4u8, any::<bool>())
            .prop_map(|(c, n, g, on)| Step::Gateway(c, n, g, on)),
        1 => (cluster(), proptest::option::of(any::<u8>())).prop_map(|(c, i)| Step::Issuers(c, i)),
        1 => (
            select(vec![MtlsMode::Strict, MtlsMode::Permissive]),
            select(vec![FailoverMode::Spread, FailoverMode::LocalFirst]),
        )
            .prop_map(|(m, f)| Step::Mesh(m, f)),
        1 => Just(Step::Clock),
        3 => (0..audiences().len()).prop_map(Step::Open),
        1 => (0..audiences().len()).prop_map(Step::Close),
    ];
    vec(step, 1..40)
}

fn audiences() -> Vec<Audience> {
    let base = |c: usize, n: usize, namespace: &str, pod: &str| {
        sidecar(CLUSTERS[c], NETWORKS[n], namespace, pod)
    };
    vec![
        base(0, 1, "default", "pod-1"),
        base(0, 1, "other", "pod-2"),
        base(0, 0, "default", "pod-1"),
        base(1, 2, "default", "pod-1"),
        Audience {
            locality: locality("eu", "a"),
            ..base(0, 1, "default", "pod-3")
        },
        Audience {
            capability: Capability::Envoy,
            ..base(0, 1, "default", "pod-1")
        },
        Audience {
            capture: Capture::Explicit,
            ..base(0, 1, "default", "pod-4")
        },
        gateway(CLUSTERS[0], NETWORKS[1]),
        gateway(CLUSTERS[1], NETWORKS[2]),
    ]
}

fn apply(world: World, step: &Step) -> World {
    let edit = |world: World, service: usize, change: &dyn Fn(&mut MergedService)| {
        let known = world
            .snapshot
            .services
            .contains_key(&key(SERVICES[service]));
        if known {
            world.edit(SERVICES[service], change)
        } else {
            world
        }
    };
    match *step {
        Step::Service(service, ref ports) => {
            let mut unique: BTreeMap<u16, MergedPort> = BTreeMap::new();
            for &(name, number) in ports.iter().map(|port| &PORTS[*port]) {
                let name = (!name.is_empty()).then_some(name);
                unique.insert(
                    number,
                    MergedPort {
                        number,
                        name: name.map(|name| PortName::new(name).unwrap()),
                        protocol: AppProtocol::of(name, None),
                    },
                );
            }
            let mut world = world;
            if unique.is_empty() {
                world.snapshot.services.remove(&key(SERVICES[service]));
                return world;
            }
            world.edit(SERVICES[service], |known| {
                known.ports = unique.into_values().collect();
                for ports in known.local_ports.values_mut() {
                    ports.truncate(1);
                }
            })
        }
        Step::Vip(service, of, last) => edit(world, service, &|known| {
            let vip = last.map(|last| [10, 96, 0, last].into());
            known.vips.insert(cluster(CLUSTERS[of]), vip);
        }),
        Step::Leave(service, of) => edit(world, service, &|known| {
            let gone = cluster(CLUSTERS[of]);
            known.vips.remove(&gone);
            known.local_ports.remove(&gone);
            known.cluster_local.retain(|cluster| *cluster != gone);
            known.endpoints.retain(|endpoint| endpoint.cluster != gone);
        }),
        Step::Keep(service, of, keep) => edit(world, service, &|known| {
            let of = cluster(CLUSTERS[of]);
            known.cluster_local.retain(|cluster| *cluster != of);
            known.local_ports.remove(&of);
            if keep && known.vips.contains_key(&of) {
                known.cluster_local.push(of.clone());
                known.cluster_local.sort();
                known.local_ports.insert(of, known.ports.clone());
            }
        }),
        Step::Pod(service, of, pod, health, tls, variant) => {
            let name = SERVICES[service];
            if !world.snapshot.services.contains_key(&key(name)) {
                return world;
            }
            let world = apply(world, &Step::PodGone(service, pod));
            let address = format!("10.{of}.0.{pod}");
            world.pod_with(
                name,
                CLUSTERS[of],
                &format!("pod-{pod}"),
                &address,
                |endpoint| {
                    endpoint.endpoint.health = health;
                    endpoint.endpoint.tls = tls;
                    if variant == 1 {
                        endpoint.endpoint.service_account = ServiceAccount::new("another").unwrap();
                    }
                    if variant == 2 {
                        endpoint.network = Some(network("network2"));
                    }
                    if variant == 3 {
                        endpoint.endpoint.locality = locality("eu", "a");
                        endpoint.ports.values_mut().for_each(|own| *own = 8080);
                    }
                },
            )
        }
        Step::PodGone(service, pod) => edit(world, service, &|known| {
            let gone = format!("pod-{pod}");
            known.endpoints.retain(|endpoint| {
                let workload = endpoint.endpoint.workload.as_ref();
                workload.is_none_or(|workload| workload.pod.as_str() != gone)
            });
        }),
        Step::Gateway(of, into, last, on) => {
            let leads_to = NETWORKS[into].unwrap();
            let address = format!("198.18.{of}.{last}");
            let mut world = world;
            let ways = world
                .snapshot
                .gateways
                .entry(network(leads_to))
                .or_default();
            ways.retain(|(_, at)| at.address.to_string() != address);
            if ways.is_empty() {
                world.snapshot.gateways.remove(&network(leads_to));
            }
            if on {
                world.gateway(CLUSTERS[of], leads_to, &address)
            } else {
                world
            }
        }
        Step::Issuers(of, print) => {
            let mut world = world;
            let of = cluster(CLUSTERS[of]);
            match print {
                Some(print) => world
                    .snapshot
                    .issuers
                    .insert(of, vec![Fingerprint([print; 32])]),
                None => world.snapshot.issuers.remove(&of),
            };
            world
        }
        Step::Mesh(mtls, failover) => world.mesh(|mesh| {
            mesh.mtls = mtls;
            mesh.failover = failover;
        }),
        Step::Clock | Step::Open(_) | Step::Close(_) => {
            let mut world = world;
            world.snapshot.number += 1;
            world
        }
    }
}

/// The names of what differs.
fn differ(a: &ResourceSet, b: &ResourceSet) -> String {
    let other = |a: &ResourceSet, b: &ResourceSet| -> Vec<String> {
        a.iter()
            .filter(|one| b.get(one.kind, &one.name) != Some(*one))
            .map(|one| format!("{:?} {}", one.kind, one.name))
            .collect()
    };
    format!(
        "only or other here {:?}, there {:?}",
        other(a, b),
        other(b, a)
    )
}

/// A proxy that knows only what it was told.
struct Listening {
    audience: Audience,
    opened: Opened,
    holds: ResourceSet,
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, ..ProptestConfig::default() })]

    #[test]
    fn following_equals_translating_after_every_edit(steps in steps()) {
        let mut world = World::default()
            .cluster(CLUSTERS[0], NETWORKS[1])
            .cluster(CLUSTERS[1], NETWORKS[2])
            .cluster(CLUSTERS[2], NETWORKS[0]);
        let mut engine = Engine::new(arc(world.clone()));
        let mut listening: Vec<Listening> = Vec::new();
        for step in &steps {
            world = apply(world, step);
            let snapshot = arc(world.clone());
            let changes = engine.advance(&snapshot);
            for proxy in &mut listening {
                let mine = changes.iter().filter(|(class, _)| proxy.opened.classes.contains(class));
                for (_, change) in mine {
                    match change {
                        ResourceChange::Put(resource) => {
                            let same = proxy.holds.get(resource.kind, &resource.name) == Some(resource);
                            prop_assert!(!same, "told again: {:?} {}", resource.kind, resource.name);
                            proxy.holds.insert(resource.clone());
                        }
                        ResourceChange::Gone(key) => {
                            prop_assert!(proxy.holds.remove(key.kind, &key.name).is_some());
                        }
                    }
                }
            }
            match *step {
                Step::Open(which) => {
                    let audience = audiences().swap_remove(which);
                    let opened = engine.open(&audience);
                    let holds = engine.resources(opened.audience);
                    listening.push(Listening { audience, opened, holds });
                }
                Step::Close(which) => {
                    let audience = audiences().swap_remove(which);
                    if let Some(at) = listening.iter().position(|proxy| proxy.audience == audience) {
                        engine.close(listening.swap_remove(at).opened.audience);
                    }
                }
                _ => (),
            }
            let mut problems = BTreeSet::new();
            for proxy in &listening {
                let (resources, theirs) = translate(&snapshot, &proxy.audience);
                let followed = engine.resources(proxy.opened.audience);
                prop_assert!(followed == resources, "{}", differ(&followed, &resources));
                prop_assert!(proxy.holds == resources, "{}", differ(&proxy.holds, &resources));
                problems.extend(theirs);
            }
            prop_assert_eq!(engine.problems(), Vec::from_iter(problems));
            let mut fresh = Index::of(&snapshot);
            for cluster in engine.index.locals.keys() {
                fresh.add_local(cluster, &snapshot);
            }
            prop_assert_eq!(&engine.index, &fresh);
        }
    }
}
