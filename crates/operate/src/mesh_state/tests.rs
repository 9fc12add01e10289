use catamaran_local::fleet::FleetDir;
use catamaran_model::{ClusterId, Member, MeshName, MeshSpec, NetworkId};

use super::*;
use crate::cluster_add::member;
use crate::control_plane::{ClusterStatus, GatewayStatus, ProxyCount};
use crate::fleet::Instance;

fn instance(members: Vec<Member>) -> Instance {
    let cluster = ClusterId::new("cluster-1").unwrap();
    Instance {
        spec: MeshSpec {
            name: MeshName::new("mesh-1").unwrap(),
            region: None,
            version: None,
            trust_domain: Default::default(),
            domain: Default::default(),
            mtls: Default::default(),
            failover: Default::default(),
        },
        home: FleetDir::at("/nowhere").cluster(&cluster),
        members,
    }
}

fn own() -> Member {
    let mut own = member(ClusterId::new("cluster-1").unwrap(), MemberMode::Managed);
    own.network = Some(NetworkId::new("network1").unwrap());
    own.gateway = true;
    own
}

fn status() -> ControlPlaneStatus {
    ControlPlaneStatus {
        ready: true,
        state: "running".into(),
        clusters: vec![ClusterStatus {
            name: "cluster-1".into(),
            mode: "managed".into(),
            network: Some("network1".into()),
            freshness: "fresh".into(),
            ..ClusterStatus::default()
        }],
        gateways: vec![GatewayStatus {
            network: "network1".into(),
            cluster: "cluster-1".into(),
            address: "198.18.1.1:15443".into(),
        }],
        proxies: ProxyCount {
            connected: 2,
            current: 2,
            ..ProxyCount::default()
        },
        ..ControlPlaneStatus::default()
    }
}

fn judged(instance: &Instance, status: &ControlPlaneStatus) -> (MeshState, String) {
    let seen = Seen {
        said: Ok(status),
        node: true,
        known: true,
    };
    judge(&instance.members, &seen)
}

#[test]
fn it_runs_when_everything_wanted_is_so() {
    assert_eq!(
        judged(&instance(vec![own()]), &status()).0,
        MeshState::Running
    );
}

#[test]
fn a_cluster_that_was_just_added_makes_it_updating_until_it_is_known() {
    let other = member(
        ClusterId::new("cluster-2").unwrap(),
        MemberMode::DiscoveryOnly,
    );
    let both = instance(vec![own(), other]);
    let mut status = status();
    let (state, missing) = judged(&both, &status);
    assert_eq!(state, MeshState::Updating);
    assert!(missing.contains("cluster-2"), "{missing}");
    status.clusters.push(ClusterStatus {
        name: "cluster-2".into(),
        mode: "discovery_only".into(),
        freshness: "unknown".into(),
        ..ClusterStatus::default()
    });
    assert_eq!(judged(&both, &status).0, MeshState::Updating);
    status.clusters[1].freshness = "stale".into();
    assert_eq!(judged(&both, &status).0, MeshState::Running);
}

#[test]
fn a_network_a_gateway_or_a_proxy_that_is_not_there_yet_is_named() {
    let wanted = instance(vec![own()]);
    for (change, word) in [
        (
            (|s: &mut ControlPlaneStatus| s.clusters[0].network = None) as fn(&mut _),
            "network",
        ),
        (|s| s.gateways.clear(), "gateway"),
        (|s| s.proxies.pending = 1, "1 of 2 proxies"),
    ] {
        let mut status = status();
        change(&mut status);
        let (state, missing) = judged(&wanted, &status);
        assert_eq!(state, MeshState::Updating);
        assert!(missing.contains(word), "{missing}");
    }
}

#[test]
fn no_answer_is_creating_at_first_and_unreachable_later() {
    let wanted = instance(vec![own()]);
    let state = |node, known| {
        let said = Err("it does not run");
        judge(&wanted.members, &Seen { said, node, known }).0
    };
    assert_eq!(state(true, false), MeshState::Creating);
    assert_eq!(state(true, true), MeshState::Unreachable);
    assert_eq!(state(false, true), MeshState::Stopped);
}
