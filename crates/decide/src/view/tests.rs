use std::net::SocketAddr;
use std::time::Duration;

use catamaran_model::Timestamp;
use catamaran_wire::cluster::{CircuitBreakers, RetryBudget, Thresholds};
use catamaran_wire::core::Percent;
use catamaran_wire::endpoint::LbEndpoint;
use proptest::prelude::*;

use super::{Outcome, Verdict, View};
use crate::fixture::*;
use crate::{
    Arrival, Attempt, Changes, Cluster, Connection, Decision, Detected, Entry, Forward, Special,
    Table,
};

const NOW: Timestamp = Timestamp(1_000_000);
const OK: Outcome = Outcome::Answer {
    status: 200,
    grpc: None,
};
const BAD: Outcome = Outcome::Answer {
    status: 503,
    grpc: None,
};

struct World {
    table: Table,
    view: View,
    now: Timestamp,
}

fn world(endpoints: Vec<LbEndpoint>) -> World {
    changed(endpoints, |_| {})
}

fn changed(endpoints: Vec<LbEndpoint>, change: impl FnOnce(&mut Changes)) -> World {
    let mut changes = only(endpoints);
    changes.listeners = vec![tcp_listener("all", "0.0.0.0:15443", HELLO)];
    change(&mut changes);
    World {
        table: table(changes),
        view: View::new(0),
        now: NOW,
    }
}

impl World {
    fn cluster(&self) -> &Cluster {
        self.table.cluster(HELLO).unwrap()
    }

    fn decide(&self, tried: &[SocketAddr]) -> Forward {
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
                ticket: 0,
            },
        };
        match crate::decide(&self.table, &self.view, &arrival, self.now) {
            Decision::Forward(forward) => forward,
            other => panic!("not carried: {other}"),
        }
    }

    fn begin(&mut self) -> Forward {
        let forward = self.decide(&[]);
        self.view.begin(&forward);
        forward
    }

    /// Calls until the endpoint was reached `times` times and ended so; others answer well.
    fn at(&mut self, address: &str, outcome: Outcome, times: usize) -> Vec<Verdict> {
        let address: SocketAddr = address.parse().unwrap();
        let mut verdicts = Vec::new();
        for _ in 0..1000 {
            if verdicts.len() == times {
                return verdicts;
            }
            let forward = self.begin();
            if forward.endpoint.address == address {
                verdicts.push(self.view.finish(&forward, outcome, self.now));
            } else {
                self.view.finish(&forward, OK, self.now);
            }
        }
        panic!("{address} is not used");
    }

    fn wait(&mut self, seconds: u64) {
        self.now = self.now.after(Duration::from_secs(seconds));
    }

    /// The addresses that the next calls go to.
    fn used(&mut self, calls: usize) -> Vec<String> {
        let mut seen: Vec<String> = (0..calls)
            .map(|_| {
                let forward = self.begin();
                self.view.finish(&forward, OK, self.now);
                forward.endpoint.address.to_string()
            })
            .collect();
        seen.sort();
        seen.dedup();
        seen
    }

    fn out(&self, address: &str) -> bool {
        let address = address.parse().unwrap();
        let standing = self.view.standing(self.cluster(), address);
        standing.out_until.is_some()
    }
}

fn pods(n: usize) -> Vec<LbEndpoint> {
    (1..=n)
        .map(|n| direct(&format!("10.0.0.{n}:80"), &["cluster-1"]))
        .collect()
}

#[test]
fn five_bad_answers_in_a_row_eject_for_a_while() {
    let mut world = world(pods(4));
    assert_eq!(world.at("10.0.0.1:80", BAD, 4), [Verdict::Unchanged; 4]);
    world.at("10.0.0.1:80", OK, 1);
    let verdicts = world.at("10.0.0.1:80", BAD, 5);
    assert_eq!(verdicts[4], Verdict::Ejected, "in a row");
    assert_eq!(world.used(6), ["10.0.0.2:80", "10.0.0.3:80", "10.0.0.4:80"]);
    world.wait(4);
    assert!(!world.used(6).contains(&"10.0.0.1:80".to_owned()));
    world.wait(1);
    assert_eq!(world.at("10.0.0.1:80", OK, 1), [Verdict::Returned]);
    assert_eq!(world.used(8).len(), 4);
}

#[test]
fn each_further_ejection_lasts_longer() {
    let mut world = world(pods(4));
    world.at("10.0.0.1:80", BAD, 5);
    world.wait(5);
    assert_eq!(
        world.at("10.0.0.1:80", BAD, 1),
        [Verdict::Unchanged],
        "one trial"
    );
    world.wait(9);
    assert_eq!(world.used(8).len(), 3, "twice five seconds");
    world.wait(1);
    world.at("10.0.0.1:80", OK, 1);
    assert!(!world.out("10.0.0.1:80"));
}

#[test]
fn at_most_half_is_ejected_and_never_the_last() {
    for (n, most) in [(1, 0), (2, 1), (3, 1), (4, 2), (5, 2)] {
        let mut world = world(pods(n));
        let mut ejected = 0;
        for _ in 0..200 {
            let forward = world.begin();
            let verdict = world.view.finish(&forward, BAD, world.now);
            ejected += usize::from(verdict == Verdict::Ejected);
        }
        assert_eq!(ejected, most, "of {n}");
    }
}

#[test]
fn the_share_of_ejections_is_the_clusters() {
    let mut world = changed(pods(4), |changes| {
        let outliers = changes.clusters[0].outlier_detection.as_mut().unwrap();
        outliers.max_ejection_percent = Some(100);
    });
    for _ in 0..200 {
        let forward = world.begin();
        world.view.finish(&forward, BAD, world.now);
    }
    let out = (1..=4)
        .filter(|n| world.out(&format!("10.0.0.{n}:80")))
        .count();
    assert_eq!(out, 3, "all but the last one");
}

#[test]
fn what_is_not_enforced_ejects_nobody() {
    let mut world = changed(pods(4), |changes| {
        let outliers = changes.clusters[0].outlier_detection.as_mut().unwrap();
        outliers.enforcing_consecutive_5xx = Some(0);
        outliers.enforcing_consecutive_local_origin_failure = Some(0);
    });
    world.at("10.0.0.1:80", BAD, 20);
    world.at("10.0.0.1:80", Outcome::ConnectFailure, 20);
    assert_eq!(world.used(8).len(), 4);
}

#[test]
fn without_outlier_detection_only_a_stranger_is_avoided() {
    let mut world = changed(pods(3), |changes| {
        changes.clusters[0].outlier_detection = None;
    });
    world.at("10.0.0.1:80", BAD, 20);
    world.at("10.0.0.1:80", Outcome::ConnectFailure, 20);
    world.at("10.0.0.1:80", Outcome::Unanswered, 5);
    assert_eq!(world.used(6).len(), 3);
    let verdicts = world.at("10.0.0.1:80", Outcome::IdentityMismatch, 1);
    assert_eq!(verdicts, [Verdict::Suspect]);
    assert_eq!(world.used(6).len(), 2);
}

#[test]
fn grpc_statuses_count_as_the_answers_they_are() {
    let mut world = world(pods(4));
    let unavailable = Outcome::Answer {
        status: 200,
        grpc: Some(14),
    };
    let not_found = Outcome::Answer {
        status: 200,
        grpc: Some(5),
    };
    world.at("10.0.0.1:80", not_found, 20);
    assert!(!world.out("10.0.0.1:80"));
    assert_eq!(world.at("10.0.0.1:80", unavailable, 5)[4], Verdict::Ejected);
}

#[test]
fn whoever_cannot_be_reached_is_suspect_however_many_are() {
    let mut world = world(pods(4));
    for n in 1..=3 {
        let address = format!("10.0.0.{n}:80");
        let verdicts = world.at(&address, Outcome::ConnectFailure, 3);
        assert_eq!(
            verdicts,
            [Verdict::Unchanged, Verdict::Unchanged, Verdict::Suspect]
        );
    }
    assert_eq!(world.used(6), ["10.0.0.4:80"]);
}

#[test]
fn a_dead_connection_and_a_stranger_are_enough() {
    for outcome in [Outcome::Unanswered, Outcome::IdentityMismatch] {
        let mut world = world(pods(2));
        assert_eq!(world.at("10.0.0.1:80", outcome, 1), [Verdict::Suspect]);
        assert_eq!(world.used(4), ["10.0.0.2:80"]);
    }
}

#[test]
fn a_suspect_gets_one_trial_at_a_time_and_longer_pauses() {
    let mut world = world(pods(2));
    world.at("10.0.0.1:80", Outcome::Unanswered, 1);
    let suspect: SocketAddr = "10.0.0.1:80".parse().unwrap();
    let mut pauses = Vec::new();
    for _ in 0..8 {
        let until = world
            .view
            .standing(world.cluster(), suspect)
            .out_until
            .unwrap();
        pauses.push(until.since(world.now));
        world.now = Timestamp(until.0 - 1);
        assert_eq!(world.used(4), ["10.0.0.2:80"]);
        world.now = until;
        let trial = loop {
            let forward = world.begin();
            if forward.trial {
                break forward;
            }
            world.view.finish(&forward, OK, world.now);
        };
        assert_eq!(trial.endpoint.address, suspect);
        assert_eq!(trial.why.pick.unwrap().special, Special::Trial);
        assert_eq!(world.used(4), ["10.0.0.2:80"], "one at a time");
        world
            .view
            .finish(&trial, Outcome::ConnectFailure, world.now);
    }
    let least = [1, 2, 4, 8, 16, 30, 30, 30].map(Duration::from_secs);
    for (pause, least) in pauses.iter().zip(least) {
        assert!(*pause >= least && *pause <= least + least / 4, "{pauses:?}");
    }
}

#[test]
fn a_trial_that_is_given_up_is_tried_again() {
    let mut world = world(pods(2));
    world.at("10.0.0.1:80", Outcome::Unanswered, 1);
    world.wait(2);
    world.at("10.0.0.1:80", Outcome::Abandoned, 1);
    assert!(world.out("10.0.0.1:80"));
    assert_eq!(world.at("10.0.0.1:80", OK, 1), [Verdict::Returned]);
}

#[test]
fn a_suspect_that_answers_badly_is_reachable_again() {
    let mut world = world(pods(3));
    world.at("10.0.0.1:80", Outcome::Unanswered, 1);
    world.wait(2);
    assert_eq!(world.at("10.0.0.1:80", BAD, 1), [Verdict::Returned]);
    assert_eq!(world.at("10.0.0.1:80", BAD, 4)[3], Verdict::Ejected);
}

#[test]
fn late_news_of_one_that_is_out_changes_nothing() {
    let mut world = world(pods(2));
    let early: Vec<Forward> = (0..6).map(|_| world.begin()).collect();
    world.at("10.0.0.1:80", Outcome::Unanswered, 1);
    let before = world
        .view
        .standing(world.cluster(), "10.0.0.1:80".parse().unwrap());
    for forward in &early {
        world.view.finish(forward, Outcome::Unanswered, world.now);
    }
    let after = world
        .view
        .standing(world.cluster(), "10.0.0.1:80".parse().unwrap());
    assert_eq!(after.out_until, before.out_until);
}

#[test]
fn when_all_are_out_all_are_used_and_the_first_success_counts() {
    let mut world = world(pods(2));
    for address in ["10.0.0.1:80", "10.0.0.2:80"] {
        world.at(address, Outcome::Unanswered, 1);
    }
    let forward = world.begin();
    assert_eq!(forward.why.pick.unwrap().special, Special::LastWay);
    assert_eq!(
        world
            .view
            .finish(&forward, Outcome::ConnectFailure, world.now),
        Verdict::Unchanged
    );
    let forward = world.begin();
    let back = forward.endpoint.address.to_string();
    assert_eq!(
        world.view.finish(&forward, OK, world.now),
        Verdict::Returned
    );
    assert_eq!(world.used(4), [back]);
}

#[test]
fn a_gateway_is_not_blamed_for_the_answers_of_who_is_behind_it() {
    let mut world = world(vec![gateway(GATEWAY, &["cluster-2"]), direct(V1, &["c"])]);
    let verdicts = world.at(GATEWAY, BAD, 50);
    assert!(verdicts.iter().all(|v| *v == Verdict::Unchanged));
    world.at(GATEWAY, Outcome::Timeout, 20);
    assert!(!world.out(GATEWAY));
    assert_eq!(
        world.at(GATEWAY, Outcome::ResetBeforeHeaders, 3)[2],
        Verdict::Suspect
    );
}

#[test]
fn a_gateway_that_takes_no_connection_is_suspect_for_every_cluster() {
    let mut world = changed(
        vec![gateway(GATEWAY, &["cluster-2"]), direct(V1, &["cluster-1"])],
        |changes| {
            changes.clusters.push(outbound("other", "other"));
            let endpoints = vec![
                gateway(GATEWAY, &["cluster-2"]),
                direct("10.1.1.5:80", &["cluster-1"]),
            ];
            changes.assignments.push(assignment("other", endpoints));
            changes
                .listeners
                .push(tcp_listener("b", "0.0.0.0:15444", "other"));
        },
    );
    let verdicts = world.at(GATEWAY, Outcome::ConnectFailure, 2);
    assert_eq!(verdicts, [Verdict::Unchanged, Verdict::GatewaySuspect]);
    let other = world.table.cluster("other").unwrap().clone();
    let seen = world.view.standing(&other, GATEWAY.parse().unwrap());
    assert!(seen.out_until.is_some());
    for _ in 0..4 {
        let (endpoint, ..) =
            crate::balance::pick(&other, world.view.sight(&other), &[], 0, world.now).unwrap();
        assert_eq!(endpoint.address, "10.1.1.5:80".parse().unwrap());
    }
    let address = GATEWAY.parse().unwrap();
    assert_eq!(
        world.view.probed(address, true, world.now),
        Verdict::Returned
    );
    assert!(!world.out(GATEWAY));
}

#[test]
fn a_gateway_that_is_back_by_trial_is_back_everywhere() {
    let mut world = world(vec![gateway(GATEWAY, &["cluster-2"]), direct(V1, &["c"])]);
    world.at(GATEWAY, Outcome::ConnectFailure, 2);
    assert_eq!(world.used(4), [V1]);
    world.wait(2);
    assert_eq!(world.at(GATEWAY, OK, 1), [Verdict::Returned]);
    assert_eq!(world.used(4).len(), 2);
}

#[test]
fn an_old_connection_says_nothing_of_whether_a_gateway_takes_new_ones() {
    let mut world = world(vec![gateway(GATEWAY, &["cluster-2"]), direct(V1, &["c"])]);
    let old = loop {
        let forward = world.begin();
        if forward.endpoint.address == GATEWAY.parse().unwrap() {
            break forward;
        }
    };
    world.at(GATEWAY, Outcome::ConnectFailure, 2);
    assert_eq!(world.view.finish(&old, OK, world.now), Verdict::Unchanged);
    assert!(world.out(GATEWAY));
}

#[test]
fn repetitions_take_nobodys_turn() {
    let mut world = world(pods(2));
    let mut firsts = Vec::new();
    for _ in 0..4 {
        let first = world.begin();
        world.view.finish(&first, Outcome::RefusedStream, world.now);
        firsts.push(first.endpoint.address.to_string());
        let again = world.decide(&[first.endpoint.address]);
        world.view.begin(&again);
        world.view.finish(&again, OK, world.now);
    }
    let turns = ["10.0.0.1:80", "10.0.0.2:80"];
    assert_eq!(firsts, [turns, turns].concat());
}

#[test]
fn a_view_survives_changes_of_the_table() {
    let mut world = world(pods(4));
    world.at("10.0.0.3:80", Outcome::Unanswered, 1);
    let under_way = world.begin();
    let mut later = Changes::default();
    let mut endpoints = pods(5);
    endpoints.reverse();
    later.assignments.push(assignment(HELLO, endpoints));
    world.table = world.table.update(later).0;
    for adopted in [false, true] {
        if adopted {
            let table = world.table.clone();
            world.view.adopt(&table);
        }
        assert!(world.out("10.0.0.3:80"));
        assert_eq!(world.used(12).len(), 4, "five, and one of them is out");
        let standing = world
            .view
            .standing(world.cluster(), under_way.endpoint.address);
        assert_eq!(standing.in_flight, 1);
    }
    world.view.finish(&under_way, OK, world.now);
    assert_eq!(world.view.busy(), [(&HELLO.into(), 0)]);

    let mut gone = Changes::default();
    gone.remove(crate::Kind::Cluster, HELLO);
    let table = world.table.update(gone).0;
    world.view.adopt(&table);
    assert_eq!(world.view.busy(), []);
}

#[test]
fn repetitions_are_a_fifth_of_what_is_under_way_and_at_least_three() {
    let mut world = changed(pods(2), |changes| {
        changes.clusters[0].circuit_breakers = Some(CircuitBreakers {
            thresholds: vec![Thresholds {
                retry_budget: Some(RetryBudget {
                    budget_percent: Some(Percent { value: 20.0 }),
                    ..RetryBudget::default()
                }),
                ..Thresholds::default()
            }],
            ..CircuitBreakers::default()
        });
    });
    let first = world.begin();
    let tried = [first.endpoint.address];
    let retry = |world: &mut World| {
        let again = world.decide(&tried);
        world.view.begin(&again);
        again
    };
    for _ in 0..3 {
        assert!(world.view.may_retry(world.cluster()));
        retry(&mut world);
    }
    assert!(!world.view.may_retry(world.cluster()));
    for _ in 0..16 {
        world.begin();
    }
    assert!(world.view.may_retry(world.cluster()), "3 of 20");
    let fourth = retry(&mut world);
    assert!(!world.view.may_retry(world.cluster()), "4 of 21");
    world.view.finish(&fourth, OK, world.now);
    assert!(world.view.may_retry(world.cluster()));
}

#[test]
fn connections_and_waiting_requests_are_limited() {
    let mut world = changed(pods(1), |changes| {
        changes.clusters[0].circuit_breakers = Some(CircuitBreakers {
            thresholds: vec![Thresholds {
                max_connections: Some(1),
                max_pending_requests: Some(1),
                max_retries: Some(0),
                ..Thresholds::default()
            }],
            ..CircuitBreakers::default()
        });
    });
    let cluster = world.table.cluster(HELLO).unwrap().clone();
    assert!(!world.view.may_retry(&cluster));
    assert!(world.view.may_connect(&cluster) && world.view.may_wait(&cluster));
    world.view.connected(&cluster);
    world.view.waits(&cluster);
    assert!(!world.view.may_connect(&cluster) && !world.view.may_wait(&cluster));
    world.view.disconnected(&cluster);
    world.view.waited(&cluster);
    assert!(world.view.may_connect(&cluster) && world.view.may_wait(&cluster));
}

proptest! {
    #[test]
    fn ejections_keep_to_their_limit(
        n in 1usize..9,
        percent in 0u32..=100,
        steps in proptest::collection::vec((0u8..6, 0u64..3000), 0..300),
    ) {
        let mut world = changed(pods(n), |changes| {
            let outliers = changes.clusters[0].outlier_detection.as_mut().unwrap();
            outliers.max_ejection_percent = Some(percent);
            outliers.consecutive_5xx = Some(2);
        });
        for (outcome, wait) in steps {
            world.now = Timestamp(world.now.0 + wait);
            let forward = world.begin();
            let outcome = match outcome {
                0 => OK,
                1 => Outcome::Abandoned,
                _ => BAD,
            };
            world.view.finish(&forward, outcome, world.now);
            let out = (1..=n).filter(|n| world.out(&format!("10.0.0.{n}:80"))).count();
            prop_assert!(out * 100 <= percent as usize * n, "{out} of {n} at {percent} %");
            prop_assert!(out < n);
        }
    }
}
