use std::collections::BTreeSet;

use super::*;

fn mesh() -> MeshName {
    MeshName::new("mesh-1").unwrap()
}

fn door() -> Door {
    Door::new(&["192.0.2.7".parse().unwrap()], 15012, 15017).unwrap()
}

#[test]
fn the_manager_may_do_what_managing_is_and_no_more() {
    let mut granted = BTreeSet::new();
    for role in manifests(&mesh(), Some(&door())) {
        for rule in role["rules"].as_array().into_iter().flatten() {
            let words = |field: &str| {
                let words = rule[field].as_array().cloned().unwrap_or_default();
                let words = words.iter().map(|word| word.as_str().unwrap().to_owned());
                words.collect::<Vec<_>>()
            };
            for (resource, verb) in (words("resources").into_iter()).flat_map(|resource| {
                words("verbs")
                    .into_iter()
                    .map(move |verb| (resource.clone(), verb))
            }) {
                let kind = role["kind"].as_str().unwrap();
                let names = words("resourceNames").join(",");
                let line = format!("{kind} {verb} {resource} {names}");
                granted.insert(line.trim().to_owned());
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
        "nodes",
    ] {
        for verb in ["get", "list", "watch"] {
            expected.insert(format!("ClusterRole {verb} {resource}"));
        }
    }
    for line in [
        "ClusterRole create selfsubjectrulesreviews",
        "ClusterRole create tokenreviews",
        "ClusterRole get configmaps catamaran-ca-root-cert",
        "ClusterRole create configmaps catamaran-ca-root-cert",
        "ClusterRole patch configmaps catamaran-ca-root-cert",
        "ClusterRole create mutatingwebhookconfigurations catamaran-sidecar-injector-mesh-1",
        "ClusterRole patch mutatingwebhookconfigurations catamaran-sidecar-injector-mesh-1",
        "Role create meshexports mesh-1",
        "Role patch meshexports mesh-1",
        "Role create serviceaccounts/token catamaran-manager-mesh-1",
    ] {
        expected.insert(line.into());
    }
    assert_eq!(granted, expected);
}

#[test]
fn the_control_plane_has_the_name_that_it_has_at_home() {
    let (service, slice) = (service(&mesh()), slice(&mesh(), &door()));
    assert_eq!(service["metadata"]["name"], "catamaran-mesh-1");
    assert!(service["spec"]["selector"].is_null());
    assert_eq!(service["spec"]["ports"][1]["port"], 443);
    assert_eq!(
        slice["metadata"]["labels"]["kubernetes.io/service-name"],
        "catamaran-mesh-1"
    );
    assert_eq!(slice["endpoints"][0]["addresses"][0], "192.0.2.7");
    // Ports meet by their names.
    for (at, port) in [(0, 15012), (1, 15017)] {
        assert_eq!(slice["ports"][at]["port"], port);
        assert_eq!(
            slice["ports"][at]["name"],
            service["spec"]["ports"][at]["name"]
        );
    }
}

#[test]
fn an_address_that_leads_nowhere_from_elsewhere_is_none() {
    let at = |texts: &[&str]| {
        let all: Vec<IpAddr> = texts.iter().map(|text| text.parse().unwrap()).collect();
        Door::new(&all, 1, 2).map(|door| door.addresses.len())
    };
    assert_eq!(at(&["127.0.0.1"]), None);
    assert_eq!(at(&["169.254.169.254", "0.0.0.0", "::1"]), None);
    assert_eq!(
        at(&["127.0.0.1", "fd00::1", "10.0.0.1", "fd00::2"]),
        Some(2)
    );
    assert_eq!(door().discovery(), "192.0.2.7:15012".parse().unwrap());
    assert_eq!(door().webhook(), "192.0.2.7:15017".parse().unwrap());
}
