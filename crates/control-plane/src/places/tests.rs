use std::sync::Arc;

use catamaran_model::FailoverMode;
use catamaran_registry::Registry;

use super::*;
use crate::fixture::*;

struct Bench {
    registry: Registry,
    places: Places,
    before: Arc<Snapshot>,
}

impl Bench {
    fn new() -> Bench {
        let mut registry = Registry::new(cluster("cluster-1"));
        let facts = [
            mesh(FailoverMode::Spread),
            service("sleep", 80),
            pods("sleep", &[1, 2], None),
        ];
        list(&mut registry, "cluster-1", facts);
        let mut bench = Bench {
            registry,
            places: Places::new(cluster("cluster-1"), true),
            before: Arc::new(Snapshot::empty()),
        };
        bench.follow();
        bench
    }

    fn follow(&mut self) -> Moved {
        let after = self.registry.snapshot();
        let moved = self.places.follow(&self.before, &after);
        self.before = after;
        moved
    }

    fn network(&self, pod: &str) -> Option<String> {
        self.places
            .of(&workload(pod))
            .network
            .as_ref()
            .map(ToString::to_string)
    }
}

#[test]
fn a_pod_is_where_its_endpoints_are_and_another_where_its_cluster_is() {
    let mut bench = Bench::new();
    upsert(
        &mut bench.registry,
        "cluster-1",
        pods("sleep", &[1, 2], Some("network9")),
    );
    upsert(
        &mut bench.registry,
        "cluster-1",
        member("cluster-1", Some("network1")),
    );
    let moved = bench.follow();
    assert_eq!(
        moved.workloads,
        [workload("sleep-1"), workload("sleep-2")].into()
    );
    assert!(moved.unknown);
    assert_eq!(bench.network("sleep-1").as_deref(), Some("network9"));
    assert_eq!(bench.network("nobody-1").as_deref(), Some("network1"));
    assert_eq!(
        bench
            .places
            .of(&workload("sleep-1"))
            .service_account
            .as_ref()
            .unwrap()
            .as_str(),
        "sleep"
    );
    assert!(
        bench
            .places
            .of(&workload("nobody-1"))
            .service_account
            .is_none()
    );
}

#[test]
fn who_leaves_a_service_is_known_no_more() {
    let mut bench = Bench::new();
    assert!(bench.places.knows(&workload("sleep-2")));
    upsert(&mut bench.registry, "cluster-1", pods("sleep", &[1], None));
    assert_eq!(bench.follow().workloads, [workload("sleep-2")].into());
    assert!(!bench.places.knows(&workload("sleep-2")));
    assert!(bench.places.knows(&workload("sleep-1")));
}

#[test]
fn other_clusters_pods_and_changes_that_move_nobody_do_not_count() {
    let mut bench = Bench::new();
    list(
        &mut bench.registry,
        "cluster-2",
        [service("sleep", 80), pods("sleep", &[9], None)],
    );
    assert!(bench.follow().is_empty());
    assert!(!bench.places.knows(&workload("sleep-9")));
}
