use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::fixture::key;

fn service(number: usize) -> Arc<MergedService> {
    Arc::new(MergedService {
        key: key(&format!("default/s-{number:04}")),
        ports: Vec::new(),
        vips: BTreeMap::new(),
        cluster_local: Vec::new(),
        local_ports: BTreeMap::new(),
        endpoints: Vec::new(),
    })
}

fn many(number: usize) -> Services {
    (0..number).map(service).collect()
}

/// Pieces are sorted, none is empty or too large, and there are no more than twice as many as are needed, but for the last.
fn check(services: &Services) {
    let pieces = &services.pieces;
    assert!(
        pieces
            .iter()
            .all(|piece| !piece.is_empty() && piece.len() <= PIECE)
    );
    assert!(services.values().is_sorted_by(|a, b| a.key < b.key));
    assert_eq!(services.values().count(), services.len());
}

#[test]
fn a_change_copies_a_piece_however_many_there_are() {
    for number in [1, 100, 5_000, 20_000] {
        let before = many(number);
        let mut after = before.clone();
        after.insert(service(number / 2));
        assert!(after.copied_since(&before) <= PIECE, "{number}");
        let changes = after.changes_since(&before);
        let keys: Vec<_> = changes.iter().map(ServiceChange::key).collect();
        assert_eq!(keys, [&service(number / 2).key]);
        assert_eq!(after, before, "it says the same");
        after.insert(service(number));
        assert!(after.copied_since(&before) <= 2 * PIECE, "{number}");
        assert_ne!(after, before);
    }
}

#[test]
fn what_shrank_is_in_few_pieces() {
    let mut services = many(2_000);
    for number in (0..2_000).filter(|number| number % 100 > 0) {
        services.remove(&service(number).key);
        check(&services);
    }
    assert_eq!(services.len(), 20);
    assert!(services.pieces.len() <= 4, "{}", services.pieces.len());
}

proptest! {
    #[test]
    fn it_is_a_map(steps in prop::collection::vec((0..600usize, any::<bool>(), 1..40usize), 1..60)) {
        let mut services = Services::default();
        let mut map: BTreeMap<ServiceKey, Arc<MergedService>> = BTreeMap::new();
        for (first, put, many) in steps {
            let (before, map_before) = (services.clone(), map.clone());
            for number in first..first + many {
                let one = service(number);
                match put {
                    true => assert_eq!(
                        services.insert(one.clone()).is_some(),
                        map.insert(one.key.clone(), one).is_some()
                    ),
                    false => assert_eq!(services.remove(&one.key), map.remove(&one.key)),
                }
            }
            check(&services);
            prop_assert!(services.iter().eq(map.iter()));
            prop_assert!(before.iter().eq(map_before.iter()), "a picture stays as it is");
            let known = |services: &Services, number| services.contains_key(&service(number).key);
            for number in [first, first + many, 0, 599] {
                prop_assert_eq!(known(&services, number), map.contains_key(&service(number).key));
            }
            let same = |key: &ServiceKey| match (map.get(key), map_before.get(key)) {
                (Some(new), Some(old)) => Arc::ptr_eq(new, old),
                (new, old) => new.is_none() && old.is_none(),
            };
            let mut expected: Vec<&ServiceKey> = map.keys().chain(map_before.keys()).collect();
            expected.sort();
            expected.dedup();
            expected.retain(|key| !same(key));
            let changes = services.changes_since(&before);
            prop_assert_eq!(changes.iter().map(ServiceChange::key).collect::<Vec<_>>(), expected);
            for change in changes {
                prop_assert_eq!(change.old, map_before.get(change.key()));
                prop_assert_eq!(change.new, map.get(change.key()));
            }
        }
    }
}
