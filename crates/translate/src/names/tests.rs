use catamaran_xds::TypeUrlKind;

use crate::fixture::*;
use crate::translate;

#[test]
fn a_service_that_is_only_elsewhere_gets_an_address_that_its_listener_and_route_have_too() {
    let world = five_steps()
        .service("default/far", &[("http", 80), ("tcp", 90)])
        .vip("default/far", "cluster-2", "10.96.0.2")
        .pod("default/far", "cluster-2", "far", "10.2.2.44");
    let (resources, _) = translate(&world.snapshot, &sleep("cluster-1", Some("network1")));
    let table = name_table(&resources).table;
    let of = |host: &str| table[host].ips.join(",");
    assert_eq!(of("helloworld.default.svc.cluster.local"), "10.96.0.3");
    assert_eq!(of("sleep.default.svc.cluster.local"), "10.96.0.2");
    let far = of("far.default.svc.cluster.local");
    assert!(
        far.starts_with("240.240."),
        "never the other cluster's 10.96.0.2: {far}"
    );
    assert!(
        resources
            .get(TypeUrlKind::Listener, &format!("{far}_90"))
            .is_some()
    );
    let domains = &routes(&resources, "80").virtual_hosts[0].domains;
    assert!(domains.contains(&format!("{far}:80")), "{domains:?}");
}
