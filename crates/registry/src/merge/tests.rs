use std::sync::Arc;

use catamaran_model::{AppProtocol, PortName};
use proptest::prelude::*;

use super::*;
use crate::fixture::{cluster, endpoint, key};

fn port(number: u16, name: &str, protocol: AppProtocol) -> MergedPort {
    MergedPort {
        number,
        name: Some(PortName::new(name).unwrap()),
        protocol,
    }
}

fn part(ports: &[MergedPort]) -> Part {
    Part {
        ports: ports.to_vec(),
        vip: None,
        cluster_local: false,
        endpoints: Vec::new(),
    }
}

fn merge(parts: &[(&str, Part)]) -> (MergedService, Vec<Problem>) {
    let all = parts.iter().fold(Merge::default(), |all, (name, part)| {
        all.join(Merge::of(cluster(name), part.clone()))
    });
    all.finish(&key("default/helloworld")).unwrap()
}

#[test]
fn ports_of_all_clusters_are_united() {
    let (service, problems) = merge(&[
        (
            "cluster-2",
            part(&[
                port(5000, "http", AppProtocol::Http),
                port(9000, "tcp", AppProtocol::Tcp),
            ]),
        ),
        (
            "cluster-1",
            part(&[
                port(5000, "http", AppProtocol::Http),
                port(80, "web", AppProtocol::Detect),
            ]),
        ),
    ]);
    assert_eq!(
        service
            .ports
            .iter()
            .map(|port| port.number)
            .collect::<Vec<_>>(),
        [80, 5000, 9000]
    );
    assert_eq!(problems, []);
}

#[test]
fn the_loser_of_a_port_conflict_is_named() {
    let (service, problems) = merge(&[
        ("cluster-1", part(&[port(5000, "http", AppProtocol::Http)])),
        ("cluster-2", part(&[port(5000, "tcp", AppProtocol::Tcp)])),
    ]);
    assert_eq!(service.ports, [port(5000, "http", AppProtocol::Http)]);
    assert_eq!(problems.len(), 1);
    assert_eq!(problems[0].cluster, Some(cluster("cluster-2")));
    assert!(
        problems[0]
            .message
            .starts_with("port 5000 is tcp in cluster-2 and http in cluster-1"),
        "{}",
        problems[0].message
    );
}

#[test]
fn most_clusters_win_a_port_conflict_and_silence_has_no_vote() {
    let (service, problems) = merge(&[
        ("cluster-1", part(&[port(5000, "http", AppProtocol::Http)])),
        ("cluster-2", part(&[port(5000, "tcp", AppProtocol::Tcp)])),
        ("cluster-3", part(&[port(5000, "tcp", AppProtocol::Tcp)])),
        ("cluster-4", part(&[port(5000, "x", AppProtocol::Detect)])),
        ("cluster-5", part(&[port(5000, "x", AppProtocol::Detect)])),
        ("cluster-6", part(&[port(5000, "x", AppProtocol::Detect)])),
    ]);
    assert_eq!(service.ports[0].protocol, AppProtocol::Tcp);
    let losers: Vec<_> = problems
        .iter()
        .map(|problem| problem.cluster.clone().unwrap())
        .collect();
    assert_eq!(
        losers,
        ["cluster-1", "cluster-4", "cluster-5", "cluster-6"].map(cluster)
    );
}

#[test]
fn a_cluster_that_keeps_its_service_has_no_part_in_the_others() {
    let mut kept = part(&[port(5000, "tcp", AppProtocol::Tcp)]);
    kept.cluster_local = true;
    let (service, problems) = merge(&[
        ("cluster-1", kept),
        ("cluster-2", part(&[port(5000, "http", AppProtocol::Http)])),
    ]);
    assert_eq!(problems, []);
    assert_eq!(
        service.ports_seen_from(&cluster("cluster-1"))[0].protocol,
        AppProtocol::Tcp
    );
    assert_eq!(
        service.ports_seen_from(&cluster("cluster-2"))[0].protocol,
        AppProtocol::Http
    );
    assert_eq!(
        service.ports_seen_from(&cluster("cluster-3"))[0].protocol,
        AppProtocol::Http
    );
}

prop_compose! {
    fn a_merge()(numbers in prop::collection::btree_set(0..5u8, 0..5)) -> Merge {
        let name = |number| cluster(&format!("cluster-{number}"));
        Merge { parts: numbers.into_iter().map(|number| (name(number), part_of(number))).collect() }
    }
}

/// A cluster says one thing: equal numbers get equal parts.
fn part_of(number: u8) -> Part {
    let protocols = [
        AppProtocol::Http,
        AppProtocol::Tcp,
        AppProtocol::Detect,
        AppProtocol::Grpc,
        AppProtocol::Tcp,
    ];
    let mut part = part(&[
        port(5000, "a", protocols[usize::from(number)]),
        port(u16::from(number) + 80, "b", AppProtocol::Http),
    ]);
    part.cluster_local = number == 4;
    part.endpoints = (0..u16::from(number))
        .map(|last| {
            Arc::new(crate::MergedEndpoint {
                cluster: cluster(&format!("cluster-{number}")),
                network: None,
                ports: BTreeMap::from([(5000, 5000)]),
                endpoint: endpoint(last),
            })
        })
        .collect();
    part
}

fn told(merge: &Merge) -> Option<(MergedService, Vec<Problem>)> {
    merge.finish(&key("default/helloworld"))
}

proptest! {
    #[test]
    fn the_order_of_what_was_learnt_does_not_show(a in a_merge(), b in a_merge()) {
        prop_assert_eq!(told(&a.clone().join(b.clone())), told(&b.join(a)));
    }

    #[test]
    fn the_grouping_of_what_was_learnt_does_not_show(a in a_merge(), b in a_merge(), c in a_merge()) {
        let left = a.clone().join(b.clone()).join(c.clone());
        prop_assert_eq!(told(&left), told(&a.join(b.join(c))));
    }

    #[test]
    fn learning_something_twice_does_not_show(a in a_merge(), b in a_merge()) {
        let once = a.clone().join(b.clone());
        prop_assert_eq!(told(&once.clone().join(b).join(a)), told(&once));
    }

    /// More clusters known never take an endpoint or a port away.
    #[test]
    fn learning_more_takes_nothing_away(a in a_merge(), b in a_merge()) {
        let Some((before, _)) = told(&a) else { return Ok(()) };
        let (after, _) = told(&a.join(b)).expect("it was there before");
        for endpoint in &before.endpoints {
            prop_assert!(after.endpoints.contains(endpoint));
        }
        for port in &before.ports {
            prop_assert!(after.ports.iter().any(|other| other.number == port.number));
        }
    }
}
