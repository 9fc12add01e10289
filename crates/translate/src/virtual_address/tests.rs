use std::collections::BTreeSet;

use super::*;
use crate::fixture::{World, cluster, key};

fn give(names: &[String]) -> VirtualAddresses {
    let keys: Vec<ServiceKey> = names.iter().map(|name| key(name)).collect();
    VirtualAddresses::give(&keys, &ClusterDomain::default())
}

#[test]
fn an_address_comes_from_the_name_and_the_order_of_asking_plays_no_part() {
    let names = [
        "default/a".to_owned(),
        "default/b".to_owned(),
        "other/a".to_owned(),
    ];
    let mut turned = names.clone();
    turned.reverse();
    assert_eq!(give(&names), give(&turned));
    assert_eq!(
        give(&names).given[&key("default/a")],
        give(&names[..1]).given[&key("default/a")]
    );
    for address in give(&names).given.values() {
        assert_eq!(address.octets()[..2], [240, 240]);
    }
}

#[test]
fn two_that_want_one_address_get_two() {
    let names: Vec<String> = (0..2_000).map(|n| format!("default/service-{n}")).collect();
    let wanted: BTreeSet<Ipv4Addr> = names
        .iter()
        .flat_map(|name| give(std::slice::from_ref(name)).given.into_values())
        .collect();
    assert!(
        wanted.len() < names.len(),
        "no two of them want one address"
    );
    let given: BTreeSet<Ipv4Addr> = give(&names).given.into_values().collect();
    assert_eq!(given.len(), names.len());
}

#[test]
fn when_all_addresses_are_given_the_rest_is_named() {
    let names: Vec<String> = (0..CAPACITY + 3)
        .map(|n| format!("default/s{n:05}"))
        .collect();
    let addresses = give(&names);
    assert_eq!(addresses.given.len(), CAPACITY as usize);
    let last = Ipv4Addr::new(240, 240, 255, 254);
    assert_eq!(addresses.given.values().max(), Some(&last));
    let left_out: Vec<String> = addresses.left_out.iter().map(ToString::to_string).collect();
    assert_eq!(
        left_out,
        ["default/s65534", "default/s65535", "default/s65536"]
    );
}

#[test]
fn an_unspecified_address_is_none() {
    let world = World::default().vip("default/a", "cluster-1", "0.0.0.0");
    let service = &world.snapshot.services[&key("default/a")];
    let home = cluster("cluster-1");
    assert!(VirtualAddresses::wanted(service, &home));
    let given = give(&["default/a".to_owned()]).of(service, &home).unwrap();
    assert!(given.to_string().starts_with("240.240."), "{given}");
}
