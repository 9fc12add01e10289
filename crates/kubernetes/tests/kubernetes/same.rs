//! A cluster with an API server and a local one say the same facts of the same objects. The two rooms read different shapes of
//! them (one writes what it reads, the other keeps as little as it can), so it is this test that holds them together.

use std::collections::BTreeMap;
use std::path::Path;

use catamaran_kubernetes::watch::Reads;
use catamaran_local::fleet::{FleetDir, Isolation};
use catamaran_local::watch::{Reader, Watched};
use catamaran_model::{ClusterId, NetworkId};
use catamaran_registry::{Fact, FactKey, Observed, WatchGeneration};
use serde_json::{Value, json};

use crate::live::{ALLOWED, Live};
use crate::server::*;

fn meta(namespace: &str, name: &str, labels: Value, annotations: Value) -> Value {
    json!({"namespace": namespace, "name": name, "labels": labels, "annotations": annotations})
}

/// All objects of one cluster, by the path under which an API server has them.
fn objects() -> Vec<(&'static str, Value)> {
    let mut all = Vec::new();
    for (name, labels) in [
        ("default", json!({"istio-injection": "enabled"})),
        ("plain", json!({})),
        (
            "off",
            json!({"istio-injection": "enabled", "catamaran.dev/injection": "disabled"}),
        ),
        ("ours", json!({"catamaran.dev/injection": "enabled"})),
        (
            "kube-system",
            json!({"kubernetes.io/metadata.name": "kube-system"}),
        ),
        ("catamaran-system", json!({})),
    ] {
        all.push((
            NAMESPACES,
            json!({"metadata": {"name": name, "labels": labels}}),
        ));
    }
    let port = |name: &str, port: u16| json!({"name": name, "port": port, "protocol": "TCP"});
    for (namespace, name, ip, ports, annotations) in [
        (
            "default",
            "hello",
            "10.96.0.1",
            json!([port("http", 5000), port("grpc-admin", 9000)]),
            json!({}),
        ),
        (
            "default",
            "headless",
            "None",
            json!([port("tcp-db", 5432)]),
            json!({}),
        ),
        (
            "default",
            "mixed",
            "10.96.0.2",
            json!([{"name": "dns", "port": 53, "protocol": "UDP"}, {"name": "web", "port": 80, "appProtocol": "kubernetes.io/h2c"}]),
            json!({}),
        ),
        (
            "default",
            "single",
            "10.96.0.3",
            json!([{"port": 8080}]),
            json!({}),
        ),
        (
            "default",
            "kept",
            "10.96.0.4",
            json!([port("https", 443)]),
            json!({"catamaran.dev/cluster-local": "true", "other": "x"}),
        ),
        (
            "default",
            "kubernetes",
            "10.96.0.5",
            json!([port("https", 443)]),
            json!({}),
        ),
        (
            "kube-system",
            "kube-dns",
            "10.96.0.10",
            json!([port("dns-tcp", 53)]),
            json!({}),
        ),
        (
            "plain",
            "hello",
            "fd00:96::1",
            json!([port("http", 80)]),
            json!({"catamaran.dev/cluster-local": "false"}),
        ),
    ] {
        all.push((SERVICES, json!({"metadata": meta(namespace, name, json!({}), annotations), "spec": {"clusterIP": ip, "ports": ports, "selector": {"app": name}}})));
    }
    for (name, tls_port, ips) in [
        ("istio-eastwestgateway", Some(15443), vec!["198.18.0.5"]),
        ("other-gateway", Some(443), vec!["198.18.0.6", "198.18.0.7"]),
        ("bare-gateway", None, vec!["198.18.0.8"]),
    ] {
        let mut ports = vec![port("status-port", 15021)];
        ports.extend(tls_port.map(|n| port("tls", n)));
        let ingress: Vec<Value> = ips.iter().map(|ip| json!({"ip": ip})).collect();
        all.push((SERVICES, json!({
            "metadata": meta("catamaran-system", name, json!({"topology.istio.io/network": "network2"}), json!({})),
            "spec": {"clusterIP": "10.96.1.1", "type": "LoadBalancer", "ports": ports, "selector": {"app": "gateway"}},
            "status": {"loadBalancer": {"ingress": ingress}},
        })));
    }
    for (name, account, labels) in [
        (
            "a",
            Some("hello"),
            json!({"app": "hello", "version": "v1", "security.istio.io/tlsMode": "istio"}),
        ),
        (
            "b",
            None,
            json!({"app": "hello", "topology.istio.io/network": "network9"}),
        ),
        (
            "c",
            Some("hello"),
            json!({"topology.kubernetes.io/region": "eu", "topology.kubernetes.io/zone": "eu-1"}),
        ),
        (
            "d",
            Some("hello"),
            json!({"security.istio.io/tlsMode": "disabled", "topology.kubernetes.io/zone": "eu-1"}),
        ),
    ] {
        all.push((PODS, json!({"metadata": meta("default", name, labels, json!({"x": "y"})), "spec": {"serviceAccountName": account, "containers": [{"name": "c", "image": "i"}]}, "status": {"phase": "Running", "podIP": "10.1.0.1"}})));
    }
    let endpoint = |ip: &str, pod: &str, conditions: Value, zone: Option<&str>| json!({"addresses": [ip], "conditions": conditions, "zone": zone, "targetRef": {"kind": "Pod", "namespace": "default", "name": pod}});
    let ready = json!({"ready": true, "serving": true, "terminating": false});
    for (name, service, ports, endpoints) in [
        (
            "hello-1",
            "hello",
            json!([{"name": "http", "port": 8080, "protocol": "TCP"}]),
            json!([
                endpoint("10.1.0.1", "a", ready.clone(), Some("eu-2")),
                endpoint(
                    "10.1.0.2",
                    "b",
                    json!({"ready": false, "serving": false, "terminating": false}),
                    None
                ),
                endpoint(
                    "10.1.0.3",
                    "c",
                    json!({"ready": false, "serving": true, "terminating": true}),
                    None
                ),
            ]),
        ),
        (
            "hello-2",
            "hello",
            json!([{"name": "http", "port": 8080}, {"name": "dns", "port": 53, "protocol": "UDP"}]),
            json!([
                endpoint("10.1.0.4", "d", json!({}), None),
                endpoint(
                    "10.1.0.3",
                    "c",
                    json!({"ready": true, "terminating": true}),
                    Some("eu-3")
                ),
            ]),
        ),
        (
            "headless-1",
            "headless",
            json!([{"name": "tcp-db", "port": 5432}]),
            json!([endpoint("fd00::7", "a", ready, None)]),
        ),
        (
            "empty",
            "single",
            json!([{"name": "", "port": 8080}]),
            json!([]),
        ),
    ] {
        all.push((SLICES, json!({"metadata": meta("default", name, json!({"kubernetes.io/service-name": service}), json!({})), "addressType": "IPv4", "ports": ports, "endpoints": endpoints})));
    }
    let ours = |name: &str| meta("catamaran-system", name, json!({}), json!({}));
    all.push((MESHES, json!({"metadata": ours("mesh-2"), "spec": {"region": "region-b", "version": "0.1.0", "mtls": "Strict", "failover": "LocalFirst"}})));
    all.push((CLUSTERS, json!({"metadata": ours("cluster-2"), "spec": {"mode": "Managed", "network": "network2", "gateway": true}})));
    all.push((CLUSTERS, json!({"metadata": ours("cluster-1"), "spec": {"mode": "DiscoveryOnly", "gatewayAddresses": ["10.0.0.1:15443", "[fd00::1]:443"], "secret": "cluster-1"}})));
    all.push((EXPORTS, json!({"metadata": ours("mesh-2"), "spec": {"cluster": "cluster-2", "clusterUid": "uid-2", "version": "0.1.0", "region": "region-b", "network": "network2", "gateways": ["198.18.0.5:15443"], "roots": ["ab".repeat(32)], "intermediates": ["cd".repeat(32)], "digest": "d"}})));
    all
}

/// Writes the objects as a local cluster has them: manifests by people, status by its node.
fn write(folder: &Path) {
    for (n, (path, mut object)) in objects().into_iter().enumerate() {
        let (kind, version, status) = match path {
            NAMESPACES => ("Namespace", "v1", false),
            SERVICES => ("Service", "v1", false),
            PODS => ("Pod", "v1", true),
            SLICES => ("EndpointSlice", "discovery.k8s.io/v1", true),
            MESHES => ("Mesh", "catamaran.dev/v1alpha1", false),
            CLUSTERS => ("Cluster", "catamaran.dev/v1alpha1", false),
            _ => ("MeshExport", "catamaran.dev/v1alpha1", false),
        };
        object["kind"] = json!(kind);
        object["apiVersion"] = json!(version);
        let put = |name: String, text: String| {
            let path = folder.join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, text).unwrap();
            let file = std::fs::File::options().write(true).open(&path).unwrap();
            let past = std::time::SystemTime::now() - std::time::Duration::from_secs(10);
            file.set_modified(past).unwrap();
        };
        let part = |name: &str| {
            object["metadata"][name]
                .as_str()
                .unwrap_or_default()
                .to_owned()
        };
        let place = format!("status/{kind}/{}/{}.json", part("namespace"), part("name"));
        if status || kind == "Service" {
            put(place, object.to_string());
        }
        if !status {
            // The virtual address is the node's to give, but for None.
            if kind == "Service" && object["spec"]["clusterIP"] != "None" {
                object["spec"].as_object_mut().unwrap().remove("clusterIP");
            }
            put(format!("objects/{n}.yaml"), object.to_string());
        }
    }
}

fn local_facts() -> BTreeMap<FactKey, Fact> {
    let tmp = tempfile::tempdir().unwrap();
    let (fleet, _) = FleetDir::create(tmp.path(), Isolation::Netns, "a1b2c3").unwrap();
    let name = ClusterId::new("cluster-2").unwrap();
    let network = NetworkId::new("network2").unwrap();
    let (dir, _) = fleet.create_cluster(&name, &network, "uid").unwrap();
    write(dir.path());
    let mut reader = Reader::new(Watched {
        folder: dir.path().into(),
        cluster: name,
        generation: WatchGeneration(1),
        work: std::sync::Arc::default(),
        loopback: false,
    });
    let observed = reader.look(false);
    assert!(reader.problems().is_empty(), "{:?}", reader.problems());
    facts(observed)
}

fn facts(observed: Vec<Observed>) -> BTreeMap<FactKey, Fact> {
    let facts = observed.into_iter().filter_map(|observed| match observed {
        Observed::Upsert(fact) => Some((fact.key(), fact)),
        _ => None,
    });
    facts.collect()
}

#[tokio::test]
async fn the_same_objects_are_the_same_facts_as_in_a_local_cluster() {
    let server = ApiServer::start().await;
    for path in [MESHES, CLUSTERS, SECRETS] {
        server.install(path);
    }
    for (path, object) in objects() {
        server.put(path, object);
    }
    let reads = Reads::Managed {
        istio: None,
        allowed: ALLOWED,
    };
    let mut live = Live::reading(&server, reads);
    let mut observed = Vec::new();
    while live.lists == 0 {
        observed.push(live.step().await.unwrap().what);
    }
    let (here, there) = (facts(observed), local_facts());
    assert_eq!(here.len(), 6 + 11 + 4 + 4 + 1 + 2 + 1);
    for (key, fact) in &there {
        assert_eq!(here.get(key), Some(fact), "{key:?}");
    }
    let more: Vec<_> = here
        .keys()
        .filter(|key| !there.contains_key(*key))
        .collect();
    assert!(more.is_empty(), "{more:?}");
    assert!(live.beside.borrow().problems.is_empty());
}
