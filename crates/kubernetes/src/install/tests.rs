use super::*;

fn instance() -> Instance {
    Instance {
        istio: None,
        mesh: MeshName::new("mesh-1").unwrap(),
        cluster: ClusterId::new("cluster-1").unwrap(),
        region: Some(Region::new("region-1").unwrap()),
        version: Version::new("0.1.0").unwrap(),
        network: Some(NetworkId::new("network-1").unwrap()),
        image: "example.org/catamaran:1".into(),
        replicas: 3,
        makes_namespace: true,
    }
}

fn of_kind<'a>(all: &'a [Value], kind: &str) -> Vec<&'a Value> {
    all.iter().filter(|m| m["kind"] == kind).collect()
}

#[test]
fn what_is_needed_first_comes_first() {
    let all = manifests(&instance());
    let kinds: Vec<&str> = all.iter().filter_map(|m| m["kind"].as_str()).collect();
    assert_eq!(kinds[0], "Namespace");
    assert_eq!(kinds.last(), Some(&"Deployment"));
    let at = |kind: &str| kinds.iter().position(|k| *k == kind).unwrap();
    assert!(at("CustomResourceDefinition") < at("Mesh"));
    assert!(at("ServiceAccount") < at("Deployment"));
    assert!(!kinds.contains(&"Secret"));
}

#[test]
fn the_control_plane_may_do_what_it_needs_and_no_more() {
    let all = manifests(&instance());
    let rules = |kind: &str| of_kind(&all, kind)[0]["rules"].clone();
    let everywhere = rules("ClusterRole").to_string();
    assert!(!everywhere.contains("secrets"), "{everywhere}");
    for role in ["ClusterRole", "Role"] {
        for rule in rules(role).as_array().unwrap() {
            let verbs: Vec<&str> = rule["verbs"]
                .as_array()
                .unwrap()
                .iter()
                .filter_map(Value::as_str)
                .collect();
            assert!(!rule.to_string().contains('*'), "{rule}");
            assert!(
                !verbs.iter().any(|v| [
                    "delete",
                    "deletecollection",
                    "impersonate",
                    "escalate",
                    "bind"
                ]
                .contains(v)),
                "{rule}"
            );
            let resources = rule["resources"].to_string();
            // names that nobody knows before: in our own namespace only, where there is nobody else's
            if ["leases", "events"]
                .iter()
                .any(|kind| resources.contains(kind))
            {
                assert_eq!(role, "Role", "{rule}");
                continue;
            }
            let changes = verbs.contains(&"patch") || verbs.contains(&"update");
            if changes && !resources.contains("/status") {
                assert!(rule["resourceNames"].is_array(), "{rule}");
            }
        }
    }
}

/// All of it, so that nothing is added without somebody who says why.
#[test]
fn the_rights_of_a_control_plane_are_these() {
    let all = manifests(&instance());
    let mut rights = Vec::new();
    for role in ["ClusterRole", "Role"] {
        for rule in of_kind(&all, role)[0]["rules"].as_array().unwrap() {
            let words = |field: &str| {
                let all = rule[field].as_array().into_iter().flatten();
                let all: Vec<&str> = all.filter_map(Value::as_str).collect();
                all.join(",")
            };
            let names = match words("resourceNames") {
                names if names.is_empty() => String::new(),
                names => format!(" {names}"),
            };
            rights.push(format!(
                "{role} {} {}{names}",
                words("verbs"),
                words("resources")
            ));
        }
    }
    assert_eq!(
        rights,
        [
            "ClusterRole get,list,watch namespaces,nodes,pods,services",
            "ClusterRole get,list,watch endpointslices",
            "ClusterRole create tokenreviews",
            "ClusterRole get,create,patch configmaps catamaran-ca-root-cert",
            "ClusterRole create,patch mutatingwebhookconfigurations catamaran-sidecar-injector-mesh-1",
            "Role get,list,watch meshes,clusters,meshexports",
            "Role patch clusters/status",
            "Role patch meshes/status,meshexports/status mesh-1",
            "Role create,patch meshexports mesh-1",
            "Role get,list,watch secrets",
            "Role create secrets",
            "Role update secrets catamaran-mesh-1-webhook",
            "Role get,update leases catamaran-mesh-1",
            "Role list,create,patch leases",
            "Role get,create,patch events",
        ]
    );
}

#[test]
fn secrets_of_istios_namespace_are_read_where_one_is_named() {
    let read = |istio: Option<&str>| {
        let istio = istio.map(|name| Namespace::new(name).unwrap());
        let all = manifests(&Instance {
            istio,
            ..instance()
        });
        let args =
            of_kind(&all, "Deployment")[0]["spec"]["template"]["spec"]["containers"][0]["args"]
                .to_string();
        let roles = of_kind(&all, "Role");
        let of_roles = roles
            .iter()
            .map(|role| role["metadata"]["namespace"].clone());
        (of_roles.collect::<Vec<_>>(), args)
    };
    let (roles, args) = read(None);
    assert_eq!(roles, ["catamaran-system"]);
    assert!(!args.contains("istio"), "{args}");
    let (roles, args) = read(Some("istio-system"));
    assert_eq!(roles, ["catamaran-system", "istio-system"]);
    assert!(
        args.ends_with(r#""--istio-namespace","istio-system"]"#),
        "{args}"
    );
}

#[test]
fn a_namespace_that_was_there_is_not_called_ours() {
    let there = Instance {
        makes_namespace: false,
        network: None,
        ..instance()
    };
    let all = manifests(&there);
    assert_eq!(
        of_kind(&all, "Namespace")[0]["metadata"],
        json!({"name": "catamaran-system"})
    );
    assert!(of_kind(&all, "Cluster")[0]["spec"]["network"].is_null());
    let all = manifests(&instance());
    let metadata = &of_kind(&all, "Namespace")[0]["metadata"];
    assert_eq!(metadata["labels"]["topology.istio.io/network"], "network-1");
    assert_eq!(metadata["annotations"][MADE_FOR], "mesh-1");
}

#[test]
fn the_authority_has_istios_layout() {
    let secret = authority(
        &instance().mesh,
        &[("ca-cert.pem", "A"), ("ca-key.pem", "B")],
    );
    assert_eq!(secret["metadata"]["name"], "cacerts");
    assert_eq!(secret["data"]["ca-key.pem"], "Qg==");
}

#[test]
fn a_rollout_says_what_it_waits_for() {
    let status = json!({"observedGeneration": 2, "replicas": 2, "updatedReplicas": 2, "availableReplicas": 2});
    assert_eq!(judge(&status, 2, 2, &[]), Rollout::Ready);
    // the status of an earlier generation says nothing of this one
    assert!(matches!(judge(&status, 3, 2, &[]), Rollout::Waiting(_)));
    let old = json!({"observedGeneration": 2, "replicas": 3, "updatedReplicas": 2, "availableReplicas": 2});
    assert!(matches!(judge(&old, 2, 2, &[]), Rollout::Waiting(_)));

    let pod = |state: Value, last: Value| json!({"metadata": {"name": "p"}, "status": {"containerStatuses": [{"ready": false, "state": state, "lastState": last}]}});
    let pulling = pod(
        json!({"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}}),
        json!({}),
    );
    assert_eq!(
        judge(&json!({}), 1, 2, &[pulling]),
        Rollout::Stuck("pod p: ImagePullBackOff: no such image".into())
    );
    let crashed = pod(
        json!({"waiting": {"reason": "CrashLoopBackOff", "message": "back-off"}}),
        json!({"terminated": {"message": "first\nerror: no way\n"}}),
    );
    assert_eq!(
        judge(&json!({}), 1, 2, &[crashed]),
        Rollout::Stuck("pod p: CrashLoopBackOff: error: no way".into())
    );
    let made = pod(json!({"running": {}}), json!({}));
    assert_eq!(
        judge(&json!({}), 1, 2, &[made]),
        Rollout::Waiting("0 of 2 replicas are ready; pod p is not ready".into())
    );
    let refused =
        json!({"conditions": [{"type": "ReplicaFailure", "status": "True", "message": "quota"}]});
    assert_eq!(
        judge(&refused, 1, 2, &[]),
        Rollout::Stuck("its pods are not made: quota".into())
    );
}
