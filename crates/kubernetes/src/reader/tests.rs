use std::collections::BTreeSet;

use super::*;
use crate::kubeconfig::{Allowed, Kubeconfig};

fn mesh() -> MeshName {
    MeshName::new("mesh-1").unwrap()
}

#[test]
fn the_reader_may_read_five_kinds_and_make_a_token_for_itself() {
    let mut granted = BTreeSet::new();
    for role in manifests(&mesh()).iter().filter(|m| m["rules"].is_array()) {
        for rule in role["rules"].as_array().unwrap() {
            let words = |field: &str| {
                let words = rule[field].as_array().cloned().unwrap_or_default();
                words
                    .iter()
                    .map(|w| w.as_str().unwrap().to_owned())
                    .collect::<Vec<_>>()
            };
            for resource in words("resources") {
                for verb in words("verbs") {
                    let names = words("resourceNames").join(",");
                    granted.insert(
                        format!(
                            "{} {verb} {resource} {names}",
                            role["kind"].as_str().unwrap()
                        )
                        .trim()
                        .to_owned(),
                    );
                }
            }
        }
    }
    let mut expected = BTreeSet::new();
    for resource in [
        "namespaces",
        "services",
        "pods",
        "endpointslices",
        "meshexports",
    ] {
        for verb in ["get", "list", "watch"] {
            expected.insert(format!("ClusterRole {verb} {resource}"));
        }
    }
    expected.insert("ClusterRole create selfsubjectrulesreviews".into());
    expected.insert("Role create serviceaccounts/token catamaran-reader-mesh-1".into());
    assert_eq!(granted, expected);
    // The role for the token is in one namespace, so nothing of the kind elsewhere can be asked for.
    assert!(
        manifests(&mesh())
            .iter()
            .all(|m| m["kind"] != "Role" || m["metadata"]["namespace"] == "catamaran-system")
    );
}

#[test]
fn the_kubeconfig_and_its_secret_can_be_read_again() {
    let cluster = ClusterId::new("cluster-2").unwrap();
    let server = Server {
        host: "10.0.0.1".into(),
        port: 6443,
        path: "/k8s".into(),
        tls_name: "kubernetes".into(),
    };
    let ca = "-----BEGIN CERTIFICATE-----\nMA==\n-----END CERTIFICATE-----\n";
    let granted = Granted {
        token: "a.b.c".to_owned().into(),
        from: Default::default(),
        until: Default::default(),
    };
    let text = kubeconfig(&cluster, &server, ca, &granted);
    let config = Kubeconfig::read(&text, Allowed::default()).unwrap();
    assert_eq!((&config.server, &*config.ca), (&server, ca));
    let secret = secret(&cluster, &text);
    let data = serde_json::from_value(secret["data"].clone()).unwrap();
    let namespace = Namespace::new("catamaran-system").unwrap();
    let mut notes = Vec::new();
    let read = crate::remote::RemoteSecret::of(namespace, "x", data, &mut notes);
    assert_eq!(&*read.clusters[&cluster], text);
    assert_eq!(secret["metadata"]["labels"]["istio/multiCluster"], "true");
}
