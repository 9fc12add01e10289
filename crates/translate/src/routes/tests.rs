use catamaran_xds::TypeUrlKind;

use crate::fixture::*;
use crate::translate;

#[test]
fn a_service_is_called_by_its_names_and_its_address() {
    let (resources, _) = translate(
        &five_steps().snapshot,
        &sleep("cluster-1", Some("network1")),
    );
    assert_eq!(
        hosts(&resources, "5000"),
        [
            "helloworld.default.svc.cluster.local:5000 -> \
             outbound|5000||helloworld.default.svc.cluster.local: \
             helloworld.default.svc.cluster.local:5000 helloworld.default.svc.cluster.local \
             helloworld:5000 helloworld \
             helloworld.default.svc:5000 helloworld.default.svc \
             helloworld.default:5000 helloworld.default \
             10.96.0.3:5000 10.96.0.3",
            "allow_any -> PassthroughCluster: *",
        ]
    );
    assert_eq!(
        retry_on(&resources, "5000"),
        "connect-failure,refused-stream,reset-before-request,reset"
    );
}

#[test]
fn the_bare_name_is_understood_in_the_services_own_namespace_only() {
    let other = sidecar("cluster-1", Some("network1"), "elsewhere", "client");
    let (resources, _) = translate(&five_steps().snapshot, &other);
    let domains = &routes(&resources, "5000").virtual_hosts[0].domains;
    assert!(!domains.contains(&"helloworld".to_owned()));
    assert!(domains.contains(&"helloworld.default".to_owned()));
}

#[test]
fn services_of_one_port_share_a_listener_and_a_route_configuration() {
    let world = five_steps()
        .service("other/helloworld", &[("http", 5000)])
        .vip("other/helloworld", "cluster-1", "10.96.0.3");
    let (resources, _) = translate(&world.snapshot, &sleep("cluster-1", Some("network1")));
    let hosts = hosts(&resources, "5000");
    assert_eq!(hosts.len(), 3);
    assert!(hosts[0].ends_with("10.96.0.3:5000 10.96.0.3"), "{hosts:?}");
    assert!(
        hosts[1].ends_with("helloworld.other"),
        "a taken address is not taken twice: {hosts:?}"
    );
}

#[test]
fn a_port_that_only_other_clusters_have_is_no_route_where_the_service_is_kept() {
    let world = five_steps()
        .keep_local("default/helloworld", "cluster-1")
        .edit("default/helloworld", |service| {
            service
                .local_ports
                .values_mut()
                .flatten()
                .for_each(|port| port.number = 5001);
        });
    let (resources, _) = translate(&world.snapshot, &sleep("cluster-1", Some("network1")));
    assert!(resources.get(TypeUrlKind::Route, "5000").is_none());
    assert_eq!(hosts(&resources, "5001").len(), 2);
}
