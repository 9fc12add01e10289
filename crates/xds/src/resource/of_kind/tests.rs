use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::TypeUrlKind;

fn resource(name: u16, content: u8) -> Arc<Resource> {
    let bytes = vec![content].into();
    let name = format!("{name:05}");
    Arc::new(Resource::from_bytes(TypeUrlKind::Cluster, name, bytes))
}

fn of(names: impl IntoIterator<Item = u16>) -> OfKind {
    let mut map = OfKind::default();
    for name in names {
        map.insert(resource(name, 0));
    }
    map
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Whatever is put in and taken out, it holds what an ordinary map holds, and says where it differs from before.
    #[test]
    fn it_is_a_map(edits in prop::collection::vec((0..400u16, 0..3u8, any::<bool>()), 1..900), cut in 0..900usize) {
        let (mut map, mut plain) = (OfKind::default(), BTreeMap::new());
        let mut before = (map.clone(), plain.clone());
        for (step, (name, content, put)) in edits.into_iter().enumerate() {
            let resource = resource(name, content);
            if put || content == 0 {
                plain.insert(resource.name.clone(), resource.clone());
                map.insert(resource);
            } else {
                prop_assert_eq!(map.remove(&resource.name), plain.remove(&resource.name));
            }
            if step == cut {
                before = (map.clone(), plain.clone());
            }
        }
        prop_assert!(map.iter().eq(plain.iter()));
        prop_assert_eq!(map.len(), plain.len());
        for name in 0..400 {
            let name = format!("{name:05}");
            prop_assert_eq!(map.get(&name), plain.get(name.as_str()));
        }
        prop_assert!(map.parts.iter().all(|part| (1..=PART).contains(&part.len())));
        let told: BTreeSet<_> = before.0.differences(&map).into_iter().collect();
        let names: BTreeSet<_> = before.1.keys().chain(plain.keys()).cloned().collect();
        let differs = names.into_iter().filter(|name| before.1.get(name) != plain.get(name));
        prop_assert_eq!(told, differs.collect::<BTreeSet<_>>());
    }
}

#[test]
fn a_change_shares_all_but_one_part() {
    let before = of(0..5000);
    let mut after = before.clone();
    after.insert(resource(2500, 1));
    let held: BTreeSet<_> = before.parts.iter().map(Arc::as_ptr).collect();
    let own = after
        .parts
        .iter()
        .filter(|part| !held.contains(&Arc::as_ptr(part)));
    assert_eq!(own.count(), 1);
    assert_eq!(before.differences(&after), ["02500".into()]);
}

#[test]
fn what_was_taken_out_leaves_no_small_parts_behind() {
    let mut map = of(0..1000);
    for name in (0..1000).filter(|name| name % 50 != 0) {
        map.remove(&format!("{name:05}"));
    }
    assert_eq!(map.len(), 20);
    assert!(map.parts.len() <= 2, "{}", map.parts.len());
    assert_eq!(map, of((0..1000).step_by(50)));
}
