use crate::fixture::*;
use crate::{
    Applied, Fact, FactKey, Freshness, Ignored, Observed, ProblemKind, Revision, WatchGeneration,
};

const SERVICE: &str = "default/helloworld";

fn hello(endpoints: impl IntoIterator<Item = u16>) -> [Fact; 2] {
    [
        Fact::Service(service(SERVICE)),
        Fact::Slice(slice("helloworld-a", SERVICE, endpoints)),
    ]
}

fn freshness(bench: &mut Bench, of: &str) -> Freshness {
    bench.registry.snapshot().clusters[&cluster(of)]
        .freshness
        .clone()
}

#[test]
fn a_list_counts_when_it_is_complete() {
    let mut bench = Bench::new();
    let _ = bench.say("cluster-2", 1, Observed::Relisting);
    for fact in hello([1, 2]) {
        assert_eq!(bench.upsert("cluster-2", 1, fact), Applied::Listing);
    }
    assert_eq!(bench.endpoints(SERVICE), "no such service");
    assert_eq!(freshness(&mut bench, "cluster-2"), Freshness::Unknown);

    assert_eq!(bench.listed("cluster-2", 1), Applied::Changed);
    assert_eq!(
        bench.endpoints(SERVICE),
        "cluster-2/10.0.0.1 cluster-2/10.0.0.2"
    );
    assert_eq!(freshness(&mut bench, "cluster-2"), Freshness::Fresh);
}

#[test]
fn losing_discovery_removes_nothing_and_shows_since_when() {
    let mut bench = Bench::new();
    let _ = bench.list("cluster-2", 1, hello([1, 2]));
    let lost_at = bench.now;
    let lost = |why: &str| Observed::Lost(why.into());
    assert_eq!(
        bench.say("cluster-2", 1, lost("connection refused")),
        Applied::Changed
    );
    bench.seconds_pass(86_400);
    let _ = bench.say("cluster-2", 1, lost("certificate expired"));

    assert_eq!(
        bench.endpoints(SERVICE),
        "cluster-2/10.0.0.1 cluster-2/10.0.0.2"
    );
    let stale = Freshness::Stale {
        since: lost_at,
        reason: "certificate expired".into(),
    };
    assert_eq!(freshness(&mut bench, "cluster-2"), stale);
    let told = problems(&bench.registry.snapshot());
    assert!(told[0].starts_with("DiscoveryLost cluster-2"), "{told:?}");

    assert_eq!(bench.say("cluster-2", 1, Observed::Back), Applied::Changed);
    assert_eq!(freshness(&mut bench, "cluster-2"), Freshness::Fresh);
    assert_eq!(problems(&bench.registry.snapshot()), [""; 0]);
}

#[test]
fn a_list_that_breaks_off_deletes_nothing() {
    let mut bench = Bench::new();
    let _ = bench.list("cluster-2", 1, hello(1..=4));
    let before = bench.endpoints(SERVICE);
    let _ = bench.say("cluster-2", 1, Observed::Relisting);
    let _ = bench.say("cluster-2", 1, Observed::Lost("reset on page 2".into()));
    assert_eq!(
        bench.listed("cluster-2", 1),
        Applied::Ignored(Ignored::NotListed)
    );
    assert_eq!(bench.endpoints(SERVICE), before);
}

#[test]
fn a_new_watch_takes_over_only_with_a_complete_list() {
    let mut bench = Bench::new();
    let _ = bench.list("cluster-2", 1, hello([1, 2]));
    let _ = bench.say("cluster-2", 2, Observed::Relisting);
    let _ = bench.upsert("cluster-2", 2, hello([3])[1].clone());
    // The old one is still the owner, and what it sees counts.
    assert_eq!(
        bench.upsert("cluster-2", 1, hello([1, 2, 9])[1].clone()),
        Applied::Changed
    );
    assert_eq!(
        bench.endpoints(SERVICE),
        "cluster-2/10.0.0.1 cluster-2/10.0.0.2 cluster-2/10.0.0.9"
    );

    let _ = bench.upsert("cluster-2", 2, hello([])[0].clone());
    let _ = bench.upsert("cluster-2", 2, hello([1, 2, 3])[1].clone());
    let _ = bench.listed("cluster-2", 2);
    assert_eq!(
        bench.endpoints(SERVICE),
        "cluster-2/10.0.0.1 cluster-2/10.0.0.2 cluster-2/10.0.0.3"
    );
    let older = Applied::Ignored(Ignored::OlderWatch {
        owner: WatchGeneration(2),
    });
    let gone = FactKey::Slice(slice("helloworld-a", SERVICE, []).key);
    assert_eq!(bench.say("cluster-2", 1, Observed::Delete(gone)), older);
    assert_eq!(bench.say("cluster-2", 1, Observed::Relisting), older);
    assert_eq!(
        bench.say("cluster-2", 1, Observed::Lost("stopped".into())),
        older
    );
}

#[test]
fn a_replacement_that_cannot_list_leaves_the_owner_alone() {
    let mut bench = Bench::new();
    let _ = bench.list("cluster-2", 1, hello([1]));
    for watch in 2..50 {
        let _ = bench.say("cluster-2", watch, Observed::Relisting);
        let _ = bench.say(
            "cluster-2",
            watch,
            Observed::Lost("401 Unauthorized".into()),
        );
    }
    assert_eq!(freshness(&mut bench, "cluster-2"), Freshness::Fresh);
    assert_eq!(bench.endpoints(SERVICE), "cluster-2/10.0.0.1");
    let told = problems(&bench.registry.snapshot());
    assert!(
        told[0].contains("401 Unauthorized; the watch before goes on"),
        "{told:?}"
    );
}

#[test]
fn a_watch_does_not_travel_back_in_time() {
    let mut bench = Bench::new();
    let _ = bench.list("cluster-2", 1, hello([1, 2]));
    let _ = bench.say("cluster-2", 1, Observed::Relisting);
    let listed = bench.say("cluster-2", 1, Observed::Listed(Revision(0)));
    assert_eq!(
        listed,
        Applied::Ignored(Ignored::OlderRevision { known: Revision(1) })
    );
    assert_eq!(
        bench.endpoints(SERVICE),
        "cluster-2/10.0.0.1 cluster-2/10.0.0.2"
    );
}

#[test]
fn deletes_of_a_live_watch_count_at_once() {
    let mut bench = Bench::new();
    let _ = bench.list("cluster-1", 1, hello(1..=40));
    let _ = bench.upsert("cluster-1", 1, hello([])[1].clone());
    assert_eq!(bench.endpoints(SERVICE), "");
}

#[test]
fn absence_in_a_complete_list_deletes() {
    let mut bench = Bench::new();
    let _ = bench.list("cluster-2", 1, hello(1..=4));
    assert_eq!(bench.list("cluster-2", 1, hello(2..=4)), Applied::Changed);
    assert_eq!(
        bench.endpoints(SERVICE),
        "cluster-2/10.0.0.2 cluster-2/10.0.0.3 cluster-2/10.0.0.4"
    );
}

#[test]
fn a_sudden_empty_world_is_not_believed_at_once() {
    let mut bench = Bench::new();
    let _ = bench.list("cluster-2", 1, hello([1, 2]));
    let until = bench.now.after(crate::HOLD);
    assert_eq!(bench.list("cluster-2", 2, []), Applied::Held { until });
    assert_eq!(
        bench.endpoints(SERVICE),
        "cluster-2/10.0.0.1 cluster-2/10.0.0.2"
    );
    let snapshot = bench.registry.snapshot();
    assert_eq!(
        snapshot.clusters[&cluster("cluster-2")].held_since,
        Some(bench.now)
    );
    assert_eq!(snapshot.problems[0].kind, ProblemKind::ShrinkHeld);
    assert!(snapshot.problems[0].message.contains("lacks 2 endpoints"));

    // Too early to settle it.
    bench.seconds_pass(9);
    assert_eq!(bench.registry.wants_list(bench.now).count(), 0);
    let _ = bench.list("cluster-2", 2, []);
    assert_eq!(
        bench.endpoints(SERVICE),
        "cluster-2/10.0.0.1 cluster-2/10.0.0.2"
    );

    bench.seconds_pass(1);
    let wanted: Vec<_> = bench.registry.wants_list(bench.now).cloned().collect();
    assert_eq!(wanted, [cluster("cluster-2")]);
    let _ = bench.say("cluster-2", 2, Observed::Relisting);
    assert_eq!(bench.registry.wants_list(bench.now).count(), 0);
    assert_eq!(bench.listed("cluster-2", 2), Applied::Changed);
    assert_eq!(bench.endpoints(SERVICE), "no such service");
    assert_eq!(*bench.registry.snapshot().problems, []);
}

#[test]
fn a_list_that_began_before_the_ten_seconds_settles_nothing() {
    let mut bench = Bench::new();
    let _ = bench.list("cluster-2", 1, hello([1, 2]));
    let _ = bench.list("cluster-2", 2, []);
    let _ = bench.say("cluster-2", 2, Observed::Relisting);
    bench.seconds_pass(60);
    let _ = bench.listed("cluster-2", 2);
    assert_eq!(
        bench.endpoints(SERVICE),
        "cluster-2/10.0.0.1 cluster-2/10.0.0.2"
    );
}

#[test]
fn what_a_held_list_adds_counts_at_once() {
    let mut bench = Bench::new();
    let _ = bench.list("cluster-2", 1, hello(1..=12));
    let _ = bench.list("cluster-2", 2, hello([100]));
    let shown = bench.endpoints(SERVICE);
    assert!(
        shown.contains("10.0.0.100") && shown.contains("10.0.0.12"),
        "{shown}"
    );
    bench.seconds_pass(11);
    let _ = bench.list("cluster-2", 2, hello([100]));
    assert_eq!(bench.endpoints(SERVICE), "cluster-2/10.0.0.100");
}

#[test]
fn what_the_second_list_has_again_stays() {
    let mut bench = Bench::new();
    let _ = bench.list("cluster-2", 1, hello([1, 2]));
    let _ = bench.list("cluster-2", 1, []);
    bench.seconds_pass(11);
    let _ = bench.list("cluster-2", 1, hello([2]));
    assert_eq!(bench.endpoints(SERVICE), "cluster-2/10.0.0.2");
}

#[test]
fn a_person_may_confirm_a_held_list() {
    let mut bench = Bench::new();
    let _ = bench.list("cluster-2", 1, hello([1, 2]));
    let _ = bench.list("cluster-2", 1, []);
    assert_eq!(
        bench.say("cluster-2", 0, Observed::Confirmed),
        Applied::Changed
    );
    assert_eq!(bench.endpoints(SERVICE), "no such service");
}

#[test]
fn the_guard_wants_more_than_half_and_ten() {
    let rest = |bench: &mut Bench| bench.endpoints(SERVICE).split(' ').count();
    let cases = [
        (18, 9, 9),
        (19, 9, 19),
        (20, 10, 10),
        (20, 9, 20),
        (30, 14, 30),
        (12, 3, 3),
    ];
    for (before, after, shown) in cases {
        let mut bench = Bench::new();
        let _ = bench.list("cluster-2", 1, hello(1..=before));
        let _ = bench.list("cluster-2", 1, hello(1..=after));
        assert_eq!(rest(&mut bench), shown, "from {before} to {after}");
    }
}

#[test]
fn a_live_watch_ends_what_its_held_list_keeps() {
    let mut bench = Bench::new();
    let _ = bench.list("cluster-2", 1, hello([1, 2]));
    let _ = bench.list("cluster-2", 1, []);
    let key = FactKey::Slice(slice("helloworld-a", SERVICE, []).key);
    assert_eq!(
        bench.say("cluster-2", 1, Observed::Delete(key)),
        Applied::Changed
    );
    assert_eq!(bench.endpoints(SERVICE), "");
}

#[test]
fn an_endpoint_seen_again_elsewhere_and_deleted_there_does_not_come_back() {
    let mut bench = Bench::new();
    let _ = bench.list("cluster-2", 1, hello([1, 2]));
    let _ = bench.list("cluster-2", 1, []);
    let moved = slice("helloworld-b", SERVICE, [1]);
    let _ = bench.upsert("cluster-2", 1, Fact::Slice(moved.clone()));
    assert_eq!(
        bench.endpoints(SERVICE),
        "cluster-2/10.0.0.1 cluster-2/10.0.0.2"
    );
    let _ = bench.say("cluster-2", 1, Observed::Delete(FactKey::Slice(moved.key)));
    assert_eq!(bench.endpoints(SERVICE), "cluster-2/10.0.0.2");
}

#[test]
fn held_lists_have_a_limit() {
    let mut bench = Bench::new();
    let every = |n: usize| {
        (n..20).flat_map(|n| {
            let name = format!("default/service-{n}");
            [
                Fact::Service(service(&name)),
                Fact::Slice(slice(&format!("service-{n}"), &name, [n as u16])),
            ]
        })
    };
    let _ = bench.list("cluster-2", 1, every(0));
    for n in 1..=crate::MAX_HELD_LISTS {
        assert!(matches!(
            bench.list("cluster-2", 1, every(n)),
            Applied::Held { .. }
        ));
    }
    let one_more = bench.list("cluster-2", 1, every(crate::MAX_HELD_LISTS + 1));
    assert_eq!(one_more, Applied::Ignored(Ignored::TooManyHeldLists));
    assert_eq!(bench.endpoints("default/service-0"), "cluster-2/10.0.0.0");
}

#[test]
fn saved_facts_are_stale_until_a_list_and_survive_it_by_the_guard() {
    let mut bench = Bench::new();
    let _ = bench.list("cluster-2", 1, hello([1, 2]));
    let _ = bench.list("cluster-2", 1, hello([]));
    let saved = bench.registry.shard_facts(&cluster("cluster-2")).unwrap();

    let mut again = Bench::new();
    let _ = again
        .registry
        .restore(cluster("cluster-2"), saved.clone(), again.now);
    assert!(matches!(
        freshness(&mut again, "cluster-2"),
        Freshness::Stale { .. }
    ));
    assert_eq!(
        again.endpoints(SERVICE),
        "cluster-2/10.0.0.1 cluster-2/10.0.0.2"
    );
    assert!(matches!(
        again.list("cluster-2", 1, []),
        Applied::Held { .. }
    ));
    assert_eq!(
        again.endpoints(SERVICE),
        "cluster-2/10.0.0.1 cluster-2/10.0.0.2"
    );
    // What a watch said is newer than what a disk says.
    assert_eq!(
        again
            .registry
            .restore(cluster("cluster-2"), saved, again.now),
        Applied::Unchanged
    );
}

#[test]
fn late_changes_of_a_removed_cluster_do_not_bring_it_back() {
    let mut bench = Bench::new();
    let _ = bench.list("cluster-2", 3, hello([1]));
    assert_eq!(
        bench.say("cluster-2", 3, Observed::Removed),
        Applied::Changed
    );
    assert_eq!(bench.endpoints(SERVICE), "no such service");
    assert_eq!(
        bench.list("cluster-2", 3, hello([1])),
        Applied::Ignored(Ignored::UnknownCluster)
    );
    assert!(
        !bench
            .registry
            .snapshot()
            .clusters
            .contains_key(&cluster("cluster-2"))
    );
    assert_eq!(bench.list("cluster-2", 4, hello([1])), Applied::Changed);
    assert_eq!(bench.endpoints(SERVICE), "cluster-2/10.0.0.1");
}

#[test]
fn a_cluster_with_too_much_hurts_only_itself() {
    let mut bench = Bench::new();
    let _ = bench.list("cluster-1", 1, hello([1]));
    let _ = bench.say("cluster-2", 1, Observed::Relisting);
    let _ = bench.upsert("cluster-2", 1, Fact::Service(service("default/flood")));
    let _ = bench.upsert("cluster-2", 1, hello([2])[0].clone());
    let mut refused = 0;
    for n in 0..210 {
        let mut flood = slice(&format!("flood-{n}"), "default/flood", 0..1000);
        for (i, endpoint) in flood.endpoints.iter_mut().enumerate() {
            let number = (n as u32 * 1000 + i as u32).to_be_bytes();
            let address = [10, number[1], number[2], number[3]];
            endpoint.address = catamaran_model::EndpointAddress::new(address.into()).unwrap();
        }
        let applied = bench.upsert("cluster-2", 1, Fact::Slice(flood));
        refused += u32::from(applied == Applied::Ignored(Ignored::Limit("endpoints")));
    }
    let _ = bench.listed("cluster-2", 1);
    assert_eq!(refused, 10);
    assert_eq!(bench.endpoints(SERVICE), "cluster-1/10.0.0.1");
    let snapshot = bench.registry.snapshot();
    let flood = &snapshot.services[&key("default/flood")];
    assert_eq!(flood.endpoints.len(), crate::limits::ENDPOINTS_PER_SERVICE);
    let kinds: Vec<_> = snapshot
        .problems
        .iter()
        .map(|problem| problem.kind)
        .collect();
    assert_eq!(kinds, [ProblemKind::Limit, ProblemKind::Limit]);
    assert!(
        snapshot
            .problems
            .iter()
            .all(|problem| problem.cluster == Some(cluster("cluster-2")))
    );
}
