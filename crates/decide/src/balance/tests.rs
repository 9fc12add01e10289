use std::collections::BTreeMap;
use std::net::SocketAddr;

use catamaran_model::Timestamp;
use catamaran_wire::cluster::LbPolicy;
use catamaran_wire::health::HealthStatus;
use proptest::prelude::*;

use super::pick;
use crate::fixture::*;
use crate::{Changes, Decision, Forward, Outcome, Special, Table, View};

const NOW: Timestamp = Timestamp(1_000_000);

fn address(n: usize) -> String {
    format!("10.0.{}.{}:80", n / 250, n % 250 + 1)
}

/// A table whose only way leads to `HELLO`, and calls through it.
struct World {
    table: Table,
    view: View,
    now: Timestamp,
}

impl World {
    fn new(changes: Changes) -> World {
        World {
            table: table(changes),
            view: View::new(0),
            now: NOW,
        }
    }

    /// Where the next call goes; told to the view.
    fn call(&mut self, tried: &[SocketAddr], ticket: u64) -> Option<(SocketAddr, Special)> {
        let forward = self.decide(tried, ticket)?;
        self.view.begin(&forward);
        let special = forward.why.pick.unwrap().special;
        Some((forward.endpoint.address, special))
    }

    fn decide(&self, tried: &[SocketAddr], ticket: u64) -> Option<Forward> {
        use crate::{Arrival, Attempt, Connection, Detected, Entry};
        let arrival = Arrival {
            connection: Connection {
                entry: Entry::Gateway {
                    local: "10.0.0.1:15443".parse().unwrap(),
                },
                source: None,
                detected: Detected::Opaque,
            },
            attempt: Attempt {
                peer: None,
                request: None,
                tried,
                ticket,
            },
        };
        match crate::decide(&self.table, &self.view, &arrival, self.now) {
            Decision::Forward(forward) => Some(forward),
            _ => None,
        }
    }
}

/// A world of these endpoints, balanced so.
fn world(policy: LbPolicy, tiers: Vec<Vec<catamaran_wire::endpoint::LbEndpoint>>) -> World {
    let mut changes = only(Vec::new());
    changes.clusters[0].lb_policy = policy.into();
    changes.assignments = vec![priorities(HELLO, tiers)];
    changes.listeners = vec![tcp_listener("all", "0.0.0.0:15443", HELLO)];
    World::new(changes)
}

proptest! {
    #[test]
    fn equal_weights_are_equal_shares_in_any_stretch(
        n in 1usize..40,
        skip in 0u64..100,
        stretch in 1u64..200,
        seed in any::<u64>(),
    ) {
        let endpoints = (0..n).map(|n| plain(&address(n))).collect();
        let mut world = world(LbPolicy::RoundRobin, vec![endpoints]);
        world.view = View::new(seed);
        for _ in 0..skip {
            world.call(&[], 0);
        }
        let mut counts: BTreeMap<SocketAddr, u64> = BTreeMap::new();
        for _ in 0..stretch {
            *counts.entry(world.call(&[], 0).unwrap().0).or_default() += 1;
        }
        let share = stretch / n as u64;
        for at in 0..n {
            let count = counts.get(&address(at).parse().unwrap()).copied().unwrap_or(0);
            prop_assert!(count.abs_diff(share) <= 1, "{count} of {stretch} for one of {n}");
        }
    }

    #[test]
    fn weights_are_shares(weights in proptest::collection::vec(1u32..50, 2..12), seed in any::<u64>()) {
        let total: u32 = weights.iter().sum();
        let endpoints = (0..)
            .zip(&weights)
            .map(|(n, weight)| weighted(*weight, plain(&address(n))))
            .collect();
        let mut world = world(LbPolicy::RoundRobin, vec![endpoints]);
        world.view = View::new(seed);
        let rounds = 8;
        let mut counts: BTreeMap<SocketAddr, u32> = BTreeMap::new();
        for _ in 0..total * rounds {
            let forward = world.decide(&[], 0).unwrap();
            world.view.begin(&forward);
            world.view.finish(&forward, Outcome::Closed, world.now);
            *counts.entry(forward.endpoint.address).or_default() += 1;
        }
        for (n, weight) in (0..).zip(&weights) {
            let count = counts.get(&address(n).parse().unwrap()).copied().unwrap_or(0);
            prop_assert!(count.abs_diff(weight * rounds) <= 4, "{count} for {weight} of {total}");
        }
    }

    #[test]
    fn whoever_is_chosen_may_be(
        policy in proptest::sample::select(vec![LbPolicy::RoundRobin, LbPolicy::LeastRequest, LbPolicy::Random]),
        endpoints in proptest::collection::vec((0usize..6, 0usize..20, 0i32..6, 1u32..9), 0..20),
        steps in proptest::collection::vec((any::<u64>(), 0usize..3, 0u64..9000, 0u8..8), 0..60),
    ) {
        let mut tiers = vec![Vec::new(); 6];
        for (tier, at, health, weight) in &endpoints {
            let health = HealthStatus::try_from(*health).unwrap();
            tiers[*tier].push(with_health(health, weighted(*weight, direct(&address(*at), &["c"]))));
        }
        let mut world = world(policy, tiers);
        let cluster = world.table.cluster(HELLO).unwrap().clone();
        let usable: Vec<SocketAddr> = cluster
            .endpoints()
            .iter()
            .filter(|e| e.health != crate::EndpointHealth::Unusable)
            .map(|e| e.address)
            .collect();
        let mut under_way: Vec<Forward> = Vec::new();
        for (ticket, tries, wait, outcome) in steps {
            world.now = Timestamp(world.now.0 + wait);
            let tried: Vec<SocketAddr> = usable.iter().copied().take(tries).collect();
            let Some(forward) = world.decide(&tried, ticket) else {
                prop_assert!(usable.is_empty());
                continue;
            };
            prop_assert!(usable.contains(&forward.endpoint.address));
            if let Some(last) = tried.last().filter(|_| usable.len() > 1) {
                prop_assert_ne!(forward.endpoint.address, *last);
            }
            world.view.begin(&forward);
            under_way.push(forward);
            let outcome = match outcome {
                0 => Outcome::Answer { status: 200, grpc: None },
                1 | 2 => Outcome::Answer { status: 503, grpc: None },
                3 => Outcome::ConnectFailure,
                4 => Outcome::Unanswered,
                5 => Outcome::IdentityMismatch,
                6 => Outcome::Abandoned,
                _ => continue,
            };
            let done = under_way.swap_remove(ticket as usize % under_way.len());
            world.view.finish(&done, outcome, world.now);
        }
        for forward in under_way.drain(..) {
            world.view.finish(&forward, Outcome::Closed, world.now);
        }
        for endpoint in cluster.endpoints() {
            prop_assert_eq!(world.view.standing(&cluster, endpoint.address).in_flight, 0);
        }
    }
}

#[test]
fn the_next_priority_waits_until_nobody_is_left_in_the_first() {
    let near = vec![direct("10.0.0.1:80", &["a"]), direct("10.0.0.2:80", &["a"])];
    let far = vec![gateway(GATEWAY, &["b"])];
    let mut world = world(LbPolicy::RoundRobin, vec![near, far]);
    for _ in 0..4 {
        assert_ne!(world.call(&[], 0).unwrap().0, GATEWAY.parse().unwrap());
    }
    for address in ["10.0.0.1:80", "10.0.0.2:80"] {
        let forward = loop {
            let forward = world.decide(&[], 0).unwrap();
            world.view.begin(&forward);
            if forward.endpoint.address == address.parse().unwrap() {
                break forward;
            }
        };
        world.view.finish(&forward, Outcome::Unanswered, world.now);
    }
    let forward = world.decide(&[], 0).unwrap();
    assert_eq!(forward.endpoint.address, GATEWAY.parse().unwrap());
    assert_eq!(
        forward.why.to_string(),
        format!("listener all -> {HELLO}, endpoint 3 of 3 by round robin, 2 out, priority 1")
    );
}

#[test]
fn degraded_endpoints_are_used_after_the_others() {
    let mut world = world(
        LbPolicy::RoundRobin,
        vec![
            vec![with_health(HealthStatus::Degraded, plain("10.0.0.1:80"))],
            vec![plain("10.0.0.2:80")],
        ],
    );
    let (address, _) = world.call(&[], 0).unwrap();
    assert_eq!(address, "10.0.0.2:80".parse().unwrap());
}

#[test]
fn what_is_not_ready_or_draining_is_never_chosen() {
    let gone = |health| with_health(health, plain("10.0.0.1:80"));
    for health in [
        HealthStatus::Unhealthy,
        HealthStatus::Draining,
        HealthStatus::Timeout,
    ] {
        let mut world = world(LbPolicy::RoundRobin, vec![vec![gone(health)]]);
        assert_eq!(world.call(&[], 0), None, "{health:?}");
    }
}

#[test]
fn the_fewest_requests_decide_and_turns_break_ties() {
    let endpoints = (0..3).map(|n| plain(&address(n))).collect();
    let mut world = world(LbPolicy::LeastRequest, vec![endpoints]);
    let mut seen: Vec<SocketAddr> = (0..3).map(|_| world.call(&[], 0).unwrap().0).collect();
    seen.sort();
    let all: Vec<SocketAddr> = (0..3).map(|n| address(n).parse().unwrap()).collect();
    assert_eq!(seen, all);
}

#[test]
fn of_many_the_better_of_some_is_taken() {
    let endpoints = (0..200).map(|n| plain(&address(n))).collect();
    let mut world = world(LbPolicy::LeastRequest, vec![endpoints]);
    for ticket in 0..1000 {
        world.call(&[], ticket).unwrap();
    }
    let cluster = world.table.cluster(HELLO).unwrap();
    let most = cluster
        .endpoints()
        .iter()
        .map(|e| world.view.standing(cluster, e.address).in_flight)
        .max();
    assert!(most <= Some(8), "{most:?} of 5 each");
}

#[test]
fn localities_share_by_their_own_weights_when_told_to() {
    use catamaran_wire::cluster::{
        CommonLbConfig, LocalityConfigSpecifier, LocalityWeightedLbConfig,
    };
    let mut changes = only(Vec::new());
    changes.clusters[0].common_lb_config = Some(CommonLbConfig {
        locality_config_specifier: Some(LocalityConfigSpecifier::LocalityWeightedLbConfig(
            LocalityWeightedLbConfig {},
        )),
        ..CommonLbConfig::default()
    });
    let mut one = assignment(HELLO, vec![plain("10.0.0.1:80"), plain("10.0.0.2:80")]);
    one.endpoints[0].load_balancing_weight = Some(1);
    let mut other = assignment(HELLO, vec![plain("10.0.0.3:80")]);
    other.endpoints[0].load_balancing_weight = Some(3);
    let mut unweighted = assignment(HELLO, vec![plain("10.0.0.4:80")]);
    one.endpoints.append(&mut other.endpoints);
    one.endpoints.append(&mut unweighted.endpoints);
    changes.assignments = vec![one];
    changes.listeners = vec![tcp_listener("all", "0.0.0.0:15443", HELLO)];
    let mut world = World::new(changes);
    let mut counts: BTreeMap<String, u32> = BTreeMap::new();
    for _ in 0..800 {
        let (address, _) = world.call(&[], 0).unwrap();
        *counts.entry(address.to_string()).or_default() += 1;
    }
    let near = |address: &str, wanted: u32| {
        let count = counts.get(address).copied().unwrap_or(0);
        assert!(count.abs_diff(wanted) <= 4, "{address}: {count}");
    };
    near("10.0.0.1:80", 100);
    near("10.0.0.2:80", 100);
    near("10.0.0.3:80", 600);
    near("10.0.0.4:80", 0);
}

#[test]
fn calls_to_one_service_do_not_skew_another() {
    let mut changes = only((0..2).map(|n| plain(&address(n))).collect());
    let mut second = changes.clusters[0].clone();
    second.name = "other".into();
    changes.clusters.push(second);
    changes.assignments.push(assignment(
        "other",
        (2..4).map(|n| plain(&address(n))).collect(),
    ));
    changes.listeners = vec![
        tcp_listener("a", "0.0.0.0:15443", HELLO),
        tcp_listener("b", "0.0.0.0:15444", "other"),
    ];
    let mut world = World::new(changes);
    let other = world.table.cluster("other").unwrap().clone();
    let mut seen = Vec::new();
    for ticket in 0..4 {
        seen.push(world.call(&[], ticket * 2).unwrap().0);
        pick(
            &other,
            world.view.sight(&other),
            &[],
            ticket * 2 + 1,
            world.now,
        )
        .unwrap();
    }
    assert_ne!(seen[0], seen[1]);
    assert_eq!(seen[0], seen[2]);
}

#[test]
fn a_further_attempt_leaves_trials_to_others() {
    let endpoints = (0..3).map(|n| plain(&address(n))).collect();
    let mut world = world(LbPolicy::RoundRobin, vec![endpoints]);
    let suspect = world.decide(&[], 0).unwrap();
    world.view.begin(&suspect);
    world.view.finish(&suspect, Outcome::Unanswered, world.now);
    world.now = Timestamp(world.now.0 + 2000);
    let tried: SocketAddr = address(1).parse().unwrap();
    for _ in 0..4 {
        let (next, special) = world.call(&[tried], 0).unwrap();
        assert_eq!(next, address(2).parse().unwrap());
        assert_eq!(special, Special::OtherEndpoint);
    }
    let both = [tried, address(2).parse().unwrap()];
    let (next, _) = world.call(&both, 0).unwrap();
    assert_eq!(next, suspect.endpoint.address);
}

#[test]
fn when_nobody_is_good_every_priority_is_used() {
    let near = vec![plain("10.0.0.1:80")];
    let far = vec![plain("10.0.0.2:80")];
    let mut world = world(LbPolicy::RoundRobin, vec![near, far]);
    for _ in 0..2 {
        let forward = world.decide(&[], 0).unwrap();
        world.view.begin(&forward);
        world.view.finish(&forward, Outcome::Unanswered, world.now);
    }
    let calls: Vec<_> = (0..2).map(|_| world.call(&[], 0).unwrap()).collect();
    assert_ne!(calls[0].0, calls[1].0);
    assert!(
        calls
            .iter()
            .all(|(_, special)| *special == Special::LastWay)
    );
}
