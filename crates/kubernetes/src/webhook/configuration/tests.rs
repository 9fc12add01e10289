use std::collections::BTreeMap;

use super::*;
use crate::inject::{Instance, Place, Verdict, inject};

fn mesh() -> MeshName {
    "mesh-1".parse().unwrap()
}

#[test]
fn a_control_plane_that_is_away_locks_nobody_out_of_the_system() {
    let object = object(&mesh(), None, &Door::Service, "PEM");
    let hooks = object["webhooks"].as_array().unwrap();
    assert_eq!(hooks.len(), 5);
    let mut names: Vec<_> = hooks
        .iter()
        .map(|hook| hook["name"].as_str().unwrap())
        .collect();
    names.dedup();
    assert_eq!(names.len(), 5);
    for hook in hooks {
        for namespace in [
            "kube-system",
            "kube-public",
            "kube-node-lease",
            "catamaran-system",
        ] {
            let labels = [
                ("kubernetes.io/metadata.name", namespace),
                ("istio-injection", "enabled"),
            ];
            assert!(
                !selects(&hook["namespaceSelector"], &map(&labels)),
                "{hook}"
            );
        }
        assert_eq!(
            json!([
                hook["failurePolicy"],
                hook["timeoutSeconds"],
                hook["reinvocationPolicy"],
                hook["sideEffects"]
            ]),
            json!(["Fail", 5, "Never", "None"])
        );
        assert_eq!(hook["clientConfig"]["caBundle"], "UEVN");
        assert_eq!(hook["clientConfig"]["service"]["name"], "catamaran-mesh-1");
        assert_eq!(hook["clientConfig"]["service"]["port"], 443);
    }
    let typed: MutatingWebhookConfiguration = serde_json::from_value(object).unwrap();
    assert_eq!(
        typed.metadata.name.as_deref(),
        Some("catamaran-sidecar-injector-mesh-1")
    );
}

#[test]
fn a_control_plane_outside_is_called_by_its_url() {
    let door = Door::Url("https://127.0.0.1:15017/".into());
    let object = object(&mesh(), None, &door, "PEM");
    assert_eq!(
        object["webhooks"][0]["clientConfig"],
        json!({"url": "https://127.0.0.1:15017/inject/by/revision", "caBundle": "UEVN"})
    );
}

fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    let pairs = pairs.iter();
    pairs
        .map(|(a, b)| ((*a).to_owned(), (*b).to_owned()))
        .collect()
}

/// As the API server understands a selector.
fn selects(selector: &Value, labels: &BTreeMap<String, String>) -> bool {
    selector["matchExpressions"]
        .as_array()
        .unwrap()
        .iter()
        .all(|one| {
            let found = labels.get(one["key"].as_str().unwrap());
            let listed = |found: &String| {
                one["values"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .any(|value| value == found)
            };
            match one["operator"].as_str().unwrap() {
                "In" => found.is_some_and(listed),
                "NotIn" => !found.is_some_and(listed),
                "DoesNotExist" => found.is_none(),
                other => panic!("{other}"),
            }
        })
}

/// For every mixture of labels: a pod that is to have a sidecar is asked about by exactly one hook, whose question is answered
/// with the sidecar; and nobody is refused a pod for a webhook that has nothing to say about it.
#[test]
fn the_hooks_select_what_the_injector_injects() {
    let object = object(&mesh(), None, &Door::Service, "PEM");
    let hooks = object["webhooks"].as_array().unwrap();
    let instance = Instance {
        mesh: mesh(),
        cluster: "cluster-1".parse().unwrap(),
        network: None,
        trust_domain: "cluster.local".parse().unwrap(),
        cluster_domain: "cluster.local".parse().unwrap(),
        control_plane: "c:15012".into(),
        image: "i".into(),
        own_namespace: "catamaran-system".parse().unwrap(),
        native: true,
        by_default: false,
    };
    let injection = [None, Some("enabled"), Some("disabled")];
    let revision = [None, Some("mesh-1"), Some("mesh-2"), Some("default")];
    let wish = [
        None,
        Some("true"),
        Some("false"),
        Some("yes"),
        Some("off"),
        Some("perhaps"),
    ];
    let (mut asked, mut all) = (0, 0);
    for ours in injection {
        for istios in injection {
            for namespace_revision in revision {
                for pod_revision in revision {
                    for says in wish {
                        let labels = |pairs: &[(&str, Option<&str>)]| {
                            let said: Vec<_> = pairs
                                .iter()
                                .filter_map(|(key, value)| Some((*key, (*value)?)))
                                .collect();
                            map(&said)
                        };
                        let namespace = labels(&[
                            ("kubernetes.io/metadata.name", Some("sample")),
                            (INJECTION_LABELS[0], ours),
                            (INJECTION_LABELS[1], istios),
                            (REVISION, namespace_revision),
                        ]);
                        let own = labels(&[(REVISION, pod_revision), (INJECT, says)]);
                        let pod = json!({"metadata": {"labels": own}, "spec": {"containers": []}});
                        let place = Place {
                            namespace: "sample",
                            labels: &namespace,
                        };
                        let wanted =
                            matches!(inject(&instance, place, &pod), Ok(Verdict::Inject { .. }));
                        let asking: Vec<_> = hooks
                            .iter()
                            .filter(|hook| {
                                selects(&hook["namespaceSelector"], &namespace)
                                    && selects(&hook["objectSelector"], &own)
                            })
                            .collect();
                        assert_eq!(
                            asking.len(),
                            usize::from(wanted),
                            "{namespace:?} {own:?}: {asking:?}"
                        );
                        all += 1;
                        let Some(hook) = asking.first() else { continue };
                        asked += 1;
                        let path = hook["clientConfig"]["service"]["path"].as_str().unwrap();
                        let address = crate::webhook::review::Address::parse(path).unwrap();
                        let review = json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": {
                            "uid": "1", "namespace": "sample", "operation": "CREATE", "object": pod,
                            "resource": {"group": "", "version": "v1", "resource": "pods"},
                        }});
                        let body = review.to_string();
                        let answer = crate::webhook::review::answer(
                            &instance,
                            &address,
                            |_| None,
                            body.as_bytes(),
                        );
                        let outcome = answer.unwrap().outcome;
                        assert_eq!(
                            outcome,
                            crate::webhook::review::Outcome::Injected,
                            "{namespace:?} {own:?}"
                        );
                    }
                }
            }
        }
    }
    assert!(asked > 100 && asked < all, "{asked} of {all}");
}

#[test]
fn a_cluster_that_is_managed_from_afar_says_its_name() {
    let cluster = ClusterId::new("cluster-3").unwrap();
    let object = object(&mesh(), Some(&cluster), &Door::Service, "PEM");
    let path = &object["webhooks"][0]["clientConfig"]["service"]["path"];
    assert_eq!(path, "/inject/cluster/cluster-3/by/revision");
    let read = super::super::review::Address::parse(path.as_str().unwrap()).unwrap();
    assert_eq!(read.cluster.as_deref(), Some("cluster-3"));
}
