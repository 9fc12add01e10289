use super::*;

fn gateway(service: ServiceType) -> Gateway {
    Gateway {
        mesh: MeshName::new("mesh-1").unwrap(),
        cluster: ClusterId::new("cluster-1").unwrap(),
        network: NetworkId::new("network1").unwrap(),
        trust_domain: Default::default(),
        cluster_domain: Default::default(),
        control_plane: "cp:15012".into(),
        image: "catamaran:1".into(),
        service,
    }
}

#[test]
fn a_gateway_is_ready_with_all_replicas_and_an_address() {
    let mut standing = Standing {
        ready: 1,
        ..Standing::default()
    };
    let balanced = gateway(ServiceType::LoadBalancer);
    assert_eq!(
        missing(&balanced, &standing).as_deref(),
        Some("1 of 2 replicas are ready")
    );
    standing.ready = 2;
    assert!(missing(&balanced, &standing).unwrap().contains("address"));
    assert_eq!(missing(&gateway(ServiceType::NodePort), &standing), None);
    standing.addresses.push("lb.example.com".into());
    assert_eq!(missing(&balanced, &standing), None);
}
