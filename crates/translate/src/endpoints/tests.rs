use std::sync::Arc;

use catamaran_model::{FailoverMode, Health, TlsMode};
use catamaran_registry::MergedEndpoint;
use catamaran_xds::TypeUrlKind;

use crate::fixture::*;
use crate::{Audience, translate};

#[test]
fn the_own_network_is_called_directly_and_the_other_through_its_gateway() {
    let world = five_steps();
    assert_eq!(
        world.call(&sleep("cluster-1", Some("network1")), HELLOWORLD),
        [
            "10.1.1.7:5000 direct in cluster-1 mTLS w=1",
            "198.18.2.10:15443 via gateway of cluster-2 mTLS w=1",
        ]
    );
    assert_eq!(
        world.call(&sleep("cluster-2", Some("network2")), HELLOWORLD),
        [
            "10.2.2.7:5000 direct in cluster-2 mTLS w=1",
            "198.18.1.10:15443 via gateway of cluster-1 mTLS w=1",
        ]
    );
    assert!(
        world
            .problems(&sleep("cluster-1", Some("network1")))
            .is_empty()
    );
}

#[test]
fn without_networks_all_pods_are_called_directly() {
    let world = World::default()
        .cluster("cluster-1", None)
        .cluster("cluster-2", None)
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
            "10.1.2.7",
        );
    assert_eq!(
        world.call(&sleep("cluster-1", None), HELLOWORLD),
        [
            "10.1.1.7:5000 direct in cluster-1 mTLS w=1",
            "10.1.2.7:5000 direct in cluster-2 mTLS w=1",
        ]
    );
}

#[test]
fn the_service_port_leads_to_the_pods_own_port() {
    let world = five_steps().edit("default/helloworld", |service| {
        for endpoint in &mut service.endpoints {
            Arc::make_mut(endpoint).ports.insert(5000, 8080);
        }
    });
    let ways = world.call(&sleep("cluster-1", Some("network1")), HELLOWORLD);
    assert_eq!(ways[0], "10.1.1.7:8080 direct in cluster-1 mTLS w=1");
}

#[test]
fn a_gateway_weighs_as_much_as_the_ready_pods_behind_it_whatever_their_zones() {
    let mut world = five_steps();
    for (n, zone) in ["a", "b", "c"].into_iter().enumerate() {
        let (pod, address) = (format!("more-{n}"), format!("10.2.2.{}", 20 + n));
        world = world.pod_with("default/helloworld", "cluster-2", &pod, &address, |pod| {
            pod.endpoint.locality = locality("eu", zone);
        });
    }
    world = world.pod_with(
        "default/helloworld",
        "cluster-2",
        "not-ready",
        "10.2.2.30",
        |pod| {
            pod.endpoint.health = Health::NotReady;
        },
    );
    assert_eq!(
        world.call(&sleep("cluster-1", Some("network1")), HELLOWORLD),
        [
            "10.1.1.7:5000 direct in cluster-1 mTLS w=1",
            "198.18.2.10:15443 via gateway of cluster-2 mTLS w=4",
        ]
    );
}

#[test]
fn several_gateways_share_the_weight_in_whole_numbers() {
    let world = five_steps()
        .gateway("cluster-2", "network2", "198.18.2.11")
        .cluster("cluster-3", Some("network3"))
        .gateway("cluster-3", "network3", "198.18.3.10")
        .gateway("cluster-3", "network3", "198.18.3.11")
        .gateway("cluster-3", "network3", "198.18.3.12")
        .headless("default/helloworld", "cluster-3")
        .pod(
            "default/helloworld",
            "cluster-3",
            "helloworld-v3",
            "10.3.3.7",
        );
    assert_eq!(
        world.call(&sleep("cluster-1", Some("network1")), HELLOWORLD),
        [
            "10.1.1.7:5000 direct in cluster-1 mTLS w=6",
            "198.18.2.10:15443 via gateway of cluster-2 mTLS w=3",
            "198.18.2.11:15443 via gateway of cluster-2 mTLS w=3",
            "198.18.3.10:15443 via gateway of cluster-3 mTLS w=2",
            "198.18.3.11:15443 via gateway of cluster-3 mTLS w=2",
            "198.18.3.12:15443 via gateway of cluster-3 mTLS w=2",
        ]
    );
}

#[test]
fn one_address_in_front_of_two_clusters_is_used_once_with_both_weights() {
    let world = five_steps()
        .cluster("cluster-3", Some("network2"))
        .gateway("cluster-3", "network2", "198.18.2.10")
        .headless("default/helloworld", "cluster-3")
        .pod(
            "default/helloworld",
            "cluster-3",
            "helloworld-v3",
            "10.2.3.7",
        )
        .pod(
            "default/helloworld",
            "cluster-3",
            "helloworld-v4",
            "10.2.3.8",
        );
    assert_eq!(
        world.call(&sleep("cluster-1", Some("network1")), HELLOWORLD)[1..],
        ["198.18.2.10:15443 via gateway of cluster-2+cluster-3 mTLS w=3"]
    );
}

#[test]
fn without_a_gateway_nothing_is_used_and_a_problem_says_so() {
    let world = five_steps().without_gateways();
    let sleep = sleep("cluster-1", Some("network1"));
    assert_eq!(
        world.call(&sleep, HELLOWORLD),
        ["10.1.1.7:5000 direct in cluster-1 mTLS w=1"]
    );
    assert_eq!(
        world.problems(&sleep),
        [
            "NoGateway Service default/helloworld: endpoints in cluster-2 (network network2) are not used from network \
             network1, since no gateway into them is known: enable the gateway of cluster-2, or give its address with \
             `catamaran network set`"
        ]
    );
}

#[test]
fn a_proxy_whose_network_is_not_known_is_no_exception() {
    let ways = five_steps().call(&sleep("cluster-1", None), HELLOWORLD);
    assert_eq!(
        ways,
        [
            "198.18.1.10:15443 via gateway of cluster-1 mTLS w=1",
            "198.18.2.10:15443 via gateway of cluster-2 mTLS w=1",
        ]
    );
    let nowhere = five_steps()
        .without_gateways()
        .call(&sleep("cluster-1", None), HELLOWORLD);
    assert!(nowhere.is_empty(), "{nowhere:?}");
}

#[test]
fn another_clusters_gateway_in_the_same_network_is_no_way_in() {
    let world = five_steps()
        .cluster("cluster-3", Some("network2"))
        .headless("default/helloworld", "cluster-3")
        .pod(
            "default/helloworld",
            "cluster-3",
            "helloworld-v3",
            "10.2.3.7",
        );
    let sleep = sleep("cluster-1", Some("network1"));
    assert_eq!(
        world.call(&sleep, HELLOWORLD)[1..],
        ["198.18.2.10:15443 via gateway of cluster-2 mTLS w=1"]
    );
    assert!(world.problems(&sleep)[0].contains("enable the gateway of cluster-3"));
}

#[test]
fn a_pod_without_sidecar_is_called_in_plain_text_in_its_network_and_not_from_others() {
    let plain = |pod: &mut MergedEndpoint| pod.endpoint.tls = TlsMode::Plain;
    let world = five_steps()
        .pod_with(
            "default/helloworld",
            "cluster-1",
            "bare-v1",
            "10.1.1.8",
            plain,
        )
        .pod_with(
            "default/helloworld",
            "cluster-2",
            "bare-v2",
            "10.2.2.8",
            plain,
        );
    let sleep = sleep("cluster-1", Some("network1"));
    assert_eq!(
        world.call(&sleep, HELLOWORLD),
        [
            "10.1.1.7:5000 direct in cluster-1 mTLS w=1",
            "10.1.1.8:5000 direct in cluster-1 plain w=1",
            "198.18.2.10:15443 via gateway of cluster-2 mTLS w=1",
        ]
    );
    assert!(
        world.problems(&sleep)[0].starts_with("PlainAcrossNetworks Service default/helloworld")
    );
}

#[test]
fn a_draining_pod_is_named_as_such_and_one_that_is_not_ready_is_left_out() {
    let health = |health| move |pod: &mut MergedEndpoint| pod.endpoint.health = health;
    let world = five_steps()
        .pod_with(
            "default/helloworld",
            "cluster-1",
            "going",
            "10.1.1.2",
            health(Health::Draining),
        )
        .pod_with(
            "default/helloworld",
            "cluster-1",
            "coming",
            "10.1.1.3",
            health(Health::NotReady),
        )
        .pod_with(
            "default/helloworld",
            "cluster-2",
            "going-2",
            "10.2.2.2",
            health(Health::Draining),
        );
    assert_eq!(
        world.call(&sleep("cluster-1", Some("network1")), HELLOWORLD),
        [
            "10.1.1.7:5000 direct in cluster-1 mTLS w=1",
            "10.1.1.2:5000 direct in cluster-1 mTLS w=1 Draining",
            "198.18.2.10:15443 via gateway of cluster-2 mTLS w=1",
        ]
    );
}

#[test]
fn an_address_that_a_going_pod_still_has_is_the_new_pods() {
    let world = five_steps().pod_with(
        "default/helloworld",
        "cluster-1",
        "a-going",
        "10.1.1.7",
        |pod| {
            pod.endpoint.health = Health::Draining;
        },
    );
    let ways = world.call(&sleep("cluster-1", Some("network1")), HELLOWORLD);
    assert_eq!(ways[0], "10.1.1.7:5000 direct in cluster-1 mTLS w=1");
    assert_eq!(ways.len(), 2);
}

#[test]
fn a_service_that_a_cluster_keeps_to_itself_stays_there() {
    let world = five_steps().keep_local("default/helloworld", "cluster-2");
    assert_eq!(
        world.call(&sleep("cluster-1", Some("network1")), HELLOWORLD),
        ["10.1.1.7:5000 direct in cluster-1 mTLS w=1"]
    );
    assert_eq!(
        world.call(&sleep("cluster-2", Some("network2")), HELLOWORLD),
        ["10.2.2.7:5000 direct in cluster-2 mTLS w=1"]
    );
    let (gateway, _) = translate(&world.snapshot, &gateway("cluster-2", Some("network2")));
    assert_eq!(
        names_of(&gateway, TypeUrlKind::Cluster),
        ["BlackHoleCluster"]
    );
}

#[test]
fn another_clusters_own_service_is_not_there_at_all() {
    let world = five_steps()
        .service("kube-system/dns", &[("tcp", 53)])
        .vip("kube-system/dns", "cluster-2", "10.96.0.10")
        .pod("kube-system/dns", "cluster-2", "dns", "10.2.2.53")
        .keep_local("kube-system/dns", "cluster-2");
    let (resources, _) = translate(&world.snapshot, &sleep("cluster-1", Some("network1")));
    assert!(
        resources
            .iter()
            .all(|resource| !resource.name.contains("dns"))
    );
    assert!(
        !name_table(&resources)
            .table
            .contains_key("dns.kube-system.svc.cluster.local")
    );
    let (resources, _) = translate(&world.snapshot, &sleep("cluster-2", Some("network2")));
    assert!(
        resources
            .get(TypeUrlKind::Listener, "10.96.0.10_53")
            .is_some()
    );
}

#[test]
fn local_first_uses_the_nearest_and_keeps_the_others_for_when_it_is_gone() {
    let at = |region: &'static str, zone: &'static str| {
        move |pod: &mut MergedEndpoint| {
            pod.endpoint.locality = locality(region, zone);
        }
    };
    let world = five_steps()
        .mesh(|mesh| mesh.failover = FailoverMode::LocalFirst)
        .cluster("cluster-3", Some("network1"))
        .headless("default/helloworld", "cluster-3")
        .pod_with(
            "default/helloworld",
            "cluster-1",
            "near",
            "10.1.1.20",
            at("eu", "a"),
        )
        .pod_with(
            "default/helloworld",
            "cluster-1",
            "next-zone",
            "10.1.1.21",
            at("eu", "b"),
        )
        .pod_with(
            "default/helloworld",
            "cluster-3",
            "other-cluster",
            "10.1.3.7",
            at("eu", "a"),
        );
    let audience = Audience {
        locality: locality("eu", "a"),
        ..sleep("cluster-1", Some("network1"))
    };
    assert_eq!(
        world.call(&audience, HELLOWORLD),
        [
            "10.1.1.20:5000 direct in cluster-1 mTLS w=1 p0",
            "10.1.1.21:5000 direct in cluster-1 mTLS w=1 p1",
            "10.1.1.7:5000 direct in cluster-1 mTLS w=1 p2",
            "10.1.3.7:5000 direct in cluster-3 mTLS w=1 p3",
            "198.18.2.10:15443 via gateway of cluster-2 mTLS w=1 p4",
        ]
    );
}

#[test]
fn too_many_gateway_addresses_are_cut_and_named() {
    let mut world = five_steps();
    for n in 11..20 {
        world = world.gateway("cluster-2", "network2", &format!("198.18.2.{n}"));
    }
    let sleep = sleep("cluster-1", Some("network1"));
    let ways = world.call(&sleep, HELLOWORLD);
    assert_eq!(ways.len(), 1 + 8);
    assert_eq!(
        ways[1],
        "198.18.2.10:15443 via gateway of cluster-2 mTLS w=1"
    );
    assert!(world.problems(&sleep)[0].starts_with("Limit Service default/helloworld"));
}
