use std::sync::Arc;

use catamaran_model::*;
use catamaran_registry::Freshness;
use catamaran_wire::cluster::ClusterDiscoveryType;
use catamaran_xds::TypeUrlKind;

use crate::fixture::*;
use crate::*;

mod carried;

/// What `cluster-1` and `cluster-2` say of the five steps, as facts.
fn facts_of(of: &str) -> Vec<catamaran_registry::Fact> {
    use catamaran_registry::Fact;
    let world = five_steps();
    let mut facts = Vec::new();
    for service in world.snapshot.services.values() {
        let Some(vip) = service.vips.get(&cluster(of)) else {
            continue;
        };
        facts.push(Fact::Service(Service {
            key: service.key.clone(),
            ports: service
                .ports
                .iter()
                .map(|port| ServicePort {
                    number: port.number,
                    name: port.name.clone(),
                    protocol: port.protocol,
                })
                .collect(),
            vip: *vip,
            cluster_local: false,
        }));
        let own = service
            .endpoints
            .iter()
            .filter(|e| e.cluster == cluster(of));
        for endpoint in own.map(|endpoint| &endpoint.endpoint) {
            let pod = endpoint.workload.clone().unwrap().pod;
            facts.push(Fact::Slice(EndpointSlice {
                key: SliceKey {
                    namespace: service.key.namespace.clone(),
                    name: SliceName::new(format!("slice-{pod}")).unwrap(),
                },
                service: service.key.clone(),
                ports: service
                    .ports
                    .iter()
                    .map(|port| SlicePort {
                        name: port.name.clone(),
                        number: port.number,
                    })
                    .collect(),
                endpoints: vec![endpoint.clone()],
            }));
        }
    }
    let networks = [("cluster-1", "network1"), ("cluster-2", "network2")];
    for (name, in_network) in networks {
        if of == "cluster-1" {
            facts.push(Fact::Member(Member {
                cluster: cluster(name),
                mode: match name == of {
                    true => MemberMode::Managed,
                    false => MemberMode::DiscoveryOnly,
                },
                network: Some(network(in_network)),
                gateway: name == of,
                gateway_addresses: Vec::new(),
                credential: Credential::Folder(name.into()),
            }));
        }
        if name == of {
            let at = world.snapshot.gateways[&network(in_network)][0].1;
            facts.push(Fact::Gateway(NetworkGateway {
                name: "eastwest".into(),
                network: Some(network(in_network)),
                at,
            }));
        }
    }
    if of == "cluster-1" {
        facts.push(Fact::Mesh(mesh()));
    }
    facts
}

fn learnt(order: &[&str], turned: bool, at: u64) -> Arc<catamaran_registry::Snapshot> {
    use catamaran_registry::{Change, Observed, Registry, Revision, WatchGeneration};
    let mut registry = Registry::new(cluster("cluster-1"));
    for of in order {
        let mut facts = facts_of(of);
        if turned {
            facts.reverse();
        }
        let facts = facts.into_iter().map(Observed::Upsert);
        let said = [Observed::Relisting]
            .into_iter()
            .chain(facts)
            .chain([Observed::Listed(Revision(at))]);
        for what in said {
            let change = Change {
                cluster: cluster(of),
                watch: WatchGeneration(at),
                what,
            };
            let _ = registry.apply(change, Timestamp(at));
        }
    }
    registry.snapshot()
}

#[test]
fn every_cluster_and_route_that_is_pointed_at_is_there() {
    let world = protocols().mesh(|mesh| mesh.mtls = MtlsMode::Permissive);
    for capture in [Capture::Redirect, Capture::Explicit] {
        let audience = Audience {
            capture,
            ..sidecar("cluster-1", None, "default", "app")
        };
        let (resources, _) = translate(&world.snapshot, &audience);
        for name in names_of(&resources, TypeUrlKind::Listener) {
            let listener = listener(&resources, name);
            for chain in listener
                .filter_chains
                .iter()
                .chain(&listener.default_filter_chain)
            {
                if let Some(cluster) = tcp_cluster(chain) {
                    assert!(
                        resources.get(TypeUrlKind::Cluster, &cluster).is_some(),
                        "{cluster}"
                    );
                } else if let Some(routes) = then(chain).strip_prefix("routes ")
                    && !routes.ends_with("inline")
                {
                    assert!(!hosts(&resources, routes).is_empty());
                }
            }
        }
        for name in names_of(&resources, TypeUrlKind::Route) {
            for host in hosts(&resources, name) {
                let cluster = host
                    .split(" -> ")
                    .nth(1)
                    .unwrap()
                    .split(": ")
                    .next()
                    .unwrap();
                assert!(
                    resources.get(TypeUrlKind::Cluster, cluster).is_some(),
                    "{cluster}"
                );
            }
        }
        for name in names_of(&resources, TypeUrlKind::Cluster) {
            let eds = ClusterDiscoveryType::Type(3);
            if xds_cluster(&resources, name).cluster_discovery_type == Some(eds) {
                assert!(
                    resources.get(TypeUrlKind::Endpoints, name).is_some(),
                    "{name}"
                );
            }
        }
    }
}

#[test]
fn freshness_time_number_and_view_leave_no_trace() {
    let fresh = five_steps().snapshot;
    let mut stale = fresh.clone();
    stale.number = 77;
    stale.problems = vec![catamaran_registry::Problem {
        severity: catamaran_registry::Severity::Warning,
        kind: catamaran_registry::ProblemKind::DiscoveryLost,
        cluster: None,
        object: "Cluster cluster-2".into(),
        message: "lost".into(),
    }]
    .into();
    for view in stale.clusters.values_mut() {
        view.freshness = Freshness::Stale {
            since: Timestamp(1_234),
            reason: "no answer".into(),
        };
        view.revision = catamaran_registry::Revision(99);
        view.held_since = Some(Timestamp(5));
        view.endpoints = 12;
    }
    for audience in [
        sleep("cluster-1", Some("network1")),
        gateway("cluster-2", Some("network2")),
    ] {
        assert_eq!(translate(&fresh, &audience), translate(&stale, &audience));
    }
}

#[test]
fn the_order_in_which_facts_stand_leaves_no_trace() {
    let world = five_steps()
        .pod("default/helloworld", "cluster-1", "another", "10.1.1.8")
        .gateway("cluster-2", "network2", "198.18.2.11");
    let mut turned = world.clone();
    for ways in turned.snapshot.gateways.values_mut() {
        ways.reverse();
    }
    let services: Vec<_> = turned.snapshot.services.values().cloned().collect();
    for mut service in services {
        Arc::make_mut(&mut service).endpoints.reverse();
        turned.snapshot.services.insert(service);
    }
    for audience in [
        sleep("cluster-1", Some("network1")),
        gateway("cluster-1", Some("network1")),
    ] {
        assert_eq!(
            translate(&world.snapshot, &audience),
            translate(&turned.snapshot, &audience)
        );
    }
}

#[test]
fn what_two_replicas_learnt_in_different_order_is_told_in_the_same_bytes() {
    let one = learnt(&["cluster-1", "cluster-2"], false, 1_000);
    let other = learnt(&["cluster-2", "cluster-1"], true, 9_000);
    for audience in [
        sleep("cluster-1", Some("network1")),
        sidecar("cluster-1", Some("network1"), "default", "helloworld-v1"),
        gateway("cluster-1", Some("network1")),
    ] {
        let (told, problems) = translate(&one, &audience);
        assert_eq!((told, problems), translate(&other, &audience));
    }
    let told = translate(&one, &sleep("cluster-1", Some("network1"))).0;
    assert_eq!(
        ways(&told, HELLOWORLD),
        [
            "10.1.1.7:5000 direct in cluster-1 mTLS w=1",
            "198.18.2.10:15443 via gateway of cluster-2 mTLS w=1",
        ]
    );
}
