use super::*;

fn gateway() -> Gateway {
    Gateway {
        mesh: MeshName::new("mesh-1").unwrap(),
        cluster: ClusterId::new("cluster-1").unwrap(),
        network: NetworkId::new("network1").unwrap(),
        trust_domain: TrustDomain::default(),
        cluster_domain: ClusterDomain::default(),
        control_plane: "catamaran-mesh-1.catamaran-system.svc:15012".into(),
        image: "catamaran:1".into(),
        service: ServiceType::LoadBalancer,
    }
}

fn of_kind(kind: &str) -> Value {
    let mut all = manifests(&gateway()).into_iter();
    all.find(|one| one["kind"] == kind).unwrap()
}

#[test]
fn the_service_is_found_by_its_label_and_port() {
    let service = of_kind("Service");
    let labels = &service["metadata"]["labels"];
    assert_eq!(labels["topology.istio.io/network"], "network1");
    assert_eq!(labels["istio"], "eastwestgateway");
    assert_eq!(service["spec"]["type"], "LoadBalancer");
    assert_eq!(service["spec"]["ports"][0]["port"], 15443);
    let pods = of_kind("Deployment")["spec"]["template"]["metadata"]["labels"].clone();
    for (name, value) in service["spec"]["selector"].as_object().unwrap() {
        assert_eq!(pods[name], *value);
    }
}

#[test]
fn every_mount_has_a_volume_and_every_variable_a_source() {
    let spec = pod(&gateway());
    let container = &spec["containers"][0];
    let names = |list: &Value| {
        let all = list.as_array().unwrap().iter();
        all.map(|one| one["name"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(names(&container["volumeMounts"]), names(&spec["volumes"]));
    let variables = names(&container["env"]);
    for arg in container["args"].as_array().unwrap() {
        let arg = arg.as_str().unwrap();
        if let Some(name) = arg.strip_prefix("$(").and_then(|arg| arg.strip_suffix(')')) {
            assert!(variables.iter().any(|known| known == name), "{name}");
        }
    }
}

#[test]
fn the_selector_of_a_deployment_does_not_change_with_the_network() {
    let mut other = gateway();
    other.network = NetworkId::new("network7").unwrap();
    let selectors = |gateway: &Gateway| {
        let all = manifests(gateway).into_iter();
        all.map(|one| one["spec"]["selector"].clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(selectors(&gateway()), selectors(&other));
}

#[test]
fn a_replica_of_an_old_template_is_not_ready() {
    let deployment = |observed: i64| json!({"metadata": {"generation": 2}, "status": {"observedGeneration": observed, "updatedReplicas": 1, "availableReplicas": 2}});
    let service = json!({"spec": {"ports": [{"nodePort": 31443}]},
        "status": {"loadBalancer": {"ingress": [{"ip": "198.18.1.2"}, {"hostname": "lb.example.com"}]}}});
    assert_eq!(read(&deployment(1), &service).ready, 0);
    let standing = read(&deployment(2), &service);
    assert_eq!(standing.ready, 1);
    assert_eq!(standing.addresses, ["198.18.1.2", "lb.example.com"]);
    assert_eq!(standing.node_port, Some(31443));
    assert_eq!(read(&Value::Null, &Value::Null), Standing::default());
}

#[test]
fn what_was_written_is_read_again_and_what_others_made_is_named() {
    let wanted = Gateway {
        service: ServiceType::NodePort,
        cluster_domain: ClusterDomain::new("example.local").unwrap(),
        ..gateway()
    };
    let all = manifests(&wanted);
    let of_kind = |kind: &str| all.iter().find(|one| one["kind"] == kind).unwrap().clone();
    let (mut deployment, service) = (of_kind("Deployment"), of_kind("Service"));
    assert_eq!(of(&wanted.mesh, &deployment, &service), Ok(wanted.clone()));
    deployment["spec"]["template"]["spec"]["containers"][0]["args"] = json!(["proxy", "gateway"]);
    let said = of(&wanted.mesh, &deployment, &service).unwrap_err();
    assert_eq!(said, "it has no --cluster");
}
