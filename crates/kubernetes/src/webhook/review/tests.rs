use super::*;
use crate::base64;

fn instance() -> Instance {
    Instance {
        mesh: "mesh-1".parse().unwrap(),
        cluster: "cluster-1".parse().unwrap(),
        network: Some("network1".parse().unwrap()),
        trust_domain: "cluster.local".parse().unwrap(),
        cluster_domain: "cluster.local".parse().unwrap(),
        control_plane: "catamaran-mesh-1.catamaran-system.svc:15012".into(),
        image: "catamaran:1".into(),
        own_namespace: "catamaran-system".parse().unwrap(),
        native: true,
        by_default: false,
    }
}

/// A question as an API server of 1.34 asks it.
fn review(pod: &Value) -> Value {
    json!({
        "kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1",
        "request": {
            "uid": "705ab4f5-6393-11e8-b7cc-42010a800002",
            "kind": {"group": "", "version": "v1", "kind": "Pod"},
            "resource": {"group": "", "version": "v1", "resource": "pods"},
            "requestKind": {"group": "", "version": "v1", "kind": "Pod"},
            "requestResource": {"group": "", "version": "v1", "resource": "pods"},
            "namespace": "sample", "operation": "CREATE",
            "userInfo": {"username": "system:serviceaccount:kube-system:replicaset-controller", "groups": ["system:authenticated"]},
            "object": pod, "oldObject": null, "dryRun": false,
            "options": {"kind": "CreateOptions", "apiVersion": "meta.k8s.io/v1"},
        },
    })
}

fn pod() -> Value {
    json!({
        "kind": "Pod", "apiVersion": "v1",
        "metadata": {"generateName": "sleep-", "namespace": "sample", "labels": {"app": "sleep"}},
        "spec": {"containers": [{"name": "sleep", "image": "curl"}], "serviceAccountName": "default"},
    })
}

fn ask(path: &str, review: &Value) -> (Value, Outcome) {
    ask_with(path, review, None)
}

fn ask_with(path: &str, review: &Value, asks: Option<bool>) -> (Value, Outcome) {
    let address = Address::parse(path).unwrap();
    let body = review.to_string();
    let answer = answer(&instance(), &address, |_| asks, body.as_bytes()).unwrap();
    let said: Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!(said["apiVersion"], "admission.k8s.io/v1");
    assert_eq!(said["kind"], "AdmissionReview");
    let response = said["response"].clone();
    assert_eq!(response["uid"], "705ab4f5-6393-11e8-b7cc-42010a800002");
    assert_eq!(response["allowed"], answer.outcome != Outcome::Refused);
    (response, answer.outcome)
}

/// The operations of the answer's patch.
fn operations(response: &Value) -> Vec<Value> {
    assert_eq!(response["patchType"], "JSONPatch");
    let text = base64::decode(response["patch"].as_str().unwrap()).unwrap();
    serde_json::from_slice(&text).unwrap()
}

fn label(response: &Value, name: &str) -> Value {
    let all = operations(response);
    let labels = all.iter().find(|one| one["path"] == "/metadata/labels");
    labels.unwrap()["value"][name].clone()
}

#[test]
fn a_pod_gets_its_sidecar_as_a_patch() {
    let (response, outcome) = ask("/inject/by/namespace", &review(&pod()));
    assert_eq!(outcome, Outcome::Injected);
    assert_eq!(response["warnings"], Value::Null);
    let all = operations(&response);
    let paths: Vec<_> = all.iter().map(|one| (&one["op"], &one["path"])).collect();
    assert_eq!(
        json!(paths),
        json!([
            ["replace", "/metadata/labels"],
            ["add", "/metadata/annotations"],
            ["replace", "/spec"],
        ])
    );
    let spec = &all[2]["value"];
    assert_eq!(spec["initContainers"][0]["name"], "istio-init");
    assert_eq!(spec["initContainers"][1]["name"], "istio-proxy");
    assert_eq!(spec["containers"], pod()["spec"]["containers"]);
    assert_eq!(spec["serviceAccountName"], "default");
    assert_eq!(label(&response, "topology.istio.io/network"), "network1");
    assert_eq!(label(&response, "app"), "sleep");
}

#[test]
fn the_address_says_why_it_is_asked() {
    let plain = review(&pod());
    let mut asking = pod();
    asking["metadata"]["labels"]["sidecar.istio.io/inject"] = "true".into();
    let asking = review(&asking);
    let mut other = pod();
    other["metadata"]["labels"]["istio.io/rev"] = "mesh-2".into();
    let other = review(&other);
    for (path, known, review, expected) in [
        ("/inject/by/namespace", None, &plain, Outcome::Injected),
        // the API server's labels are newer than what we saw
        (
            "/inject/by/namespace",
            Some(false),
            &plain,
            Outcome::Injected,
        ),
        (
            "/inject/by/revision",
            Some(false),
            &plain,
            Outcome::Injected,
        ),
        ("/inject/by/pod", Some(true), &plain, Outcome::Left),
        ("/inject/by/pod", None, &asking, Outcome::Injected),
        ("/inject/by/namespace", None, &other, Outcome::Left),
        // of a configuration that is not ours
        ("/inject", Some(true), &plain, Outcome::Injected),
        ("/inject", Some(false), &plain, Outcome::Left),
        ("/inject", Some(false), &asking, Outcome::Injected),
        ("/inject", None, &plain, Outcome::Injected),
    ] {
        let (_, outcome) = ask_with(path, review, known);
        assert_eq!(outcome, expected, "{path} {known:?}");
    }
}

#[test]
fn istios_addresses_name_the_cluster_and_the_network() {
    let review = review(&pod());
    let (response, _) = ask("/inject/cluster/cluster-1/net/n2", &review);
    assert_eq!(label(&response, "topology.istio.io/network"), "n2");
    let mut named = pod();
    named["metadata"]["labels"]["topology.istio.io/network"] = "own".into();
    let (response, _) = ask("/inject/net/n2", &super::tests::review(&named));
    assert_eq!(label(&response, "topology.istio.io/network"), "own");
    let (response, outcome) = ask("/inject/cluster/cluster-2/net/n2", &review);
    assert_eq!(outcome, Outcome::Refused);
    assert_eq!(
        response["status"]["message"],
        "the webhook's address names cluster cluster-2, and mesh-1 manages cluster-1; correct the address in its \
         MutatingWebhookConfiguration"
    );
    let (response, _) = ask("/inject/ISTIO_META_X/1", &review);
    assert_eq!(
        response["warnings"],
        json!(["ISTIO_META_X in the webhook's address is not read by this mesh"])
    );
}

#[test]
fn addresses_that_are_none_of_ours() {
    for path in [
        "/",
        "",
        "/injects",
        "/inject/net",
        "/inject/net/-n",
        "/inject/by/somebody",
        "/validate",
        "/inject//",
    ] {
        assert_eq!(Address::parse(path), None, "{path}");
    }
    let cluster = Address::parse("/inject/cluster/a--slash--b/")
        .unwrap()
        .cluster;
    assert_eq!(cluster.as_deref(), Some("a/b"));
}

#[test]
fn a_pod_is_refused_only_for_what_its_owner_must_change() {
    let mut wrong = pod();
    let annotation = "traffic.sidecar.istio.io/excludeOutboundPorts";
    wrong["metadata"]["annotations"] = json!({annotation: "mysql"});
    let (response, outcome) = ask("/inject/by/namespace", &review(&wrong));
    assert_eq!(outcome, Outcome::Refused);
    assert_eq!(
        response["status"],
        json!({
            "code": 422, "reason": "Invalid",
            "message": format!("no sidecar of mesh-1 can be added: annotation {annotation}: \"mysql\" is no list of ports, as 8080,9090"),
        })
    );
    assert_eq!(response["patch"], Value::Null);

    wrong["spec"]["hostNetwork"] = true.into();
    assert_eq!(
        ask("/inject/by/namespace", &review(&wrong)).1,
        Outcome::Left
    );
    let mut system = review(&pod());
    system["request"]["namespace"] = "kube-system".into();
    assert_eq!(ask("/inject/by/namespace", &system).1, Outcome::Left);
    for (field, value) in [
        ("operation", json!("UPDATE")),
        ("subResource", json!("eviction")),
        (
            "resource",
            json!({"group": "", "version": "v1", "resource": "services"}),
        ),
    ] {
        let mut other = review(&pod());
        other["request"][field] = value;
        assert_eq!(
            ask("/inject/by/namespace", &other).1,
            Outcome::Left,
            "{field}"
        );
    }
}

#[test]
fn warnings_reach_the_owner_and_are_few() {
    let mut user = pod();
    user["metadata"]["annotations"] = json!({"proxy.istio.io/config": "{}"});
    let (response, _) = ask("/inject/by/namespace", &review(&user));
    assert_eq!(
        response["warnings"],
        json!(["annotation proxy.istio.io/config is not read by this mesh"])
    );
    let containers = (0..50).map(
        |n| json!({"name": format!("c{n}"), "image": "i", "securityContext": {"runAsUser": 1337}}),
    );
    user["spec"]["containers"] = containers.collect();
    let (response, _) = ask("/inject/by/namespace", &review(&user));
    assert_eq!(response["warnings"].as_array().unwrap().len(), MAX_WARNINGS);
}

#[test]
fn what_is_no_question_is_said_to_be_none() {
    let address = Address::parse("/inject").unwrap();
    let mut old = review(&pod());
    old["apiVersion"] = "admission.k8s.io/v1beta1".into();
    let mut silent = review(&pod());
    silent["request"] = Value::Null;
    let mut nameless = review(&pod());
    nameless["request"]["uid"] = Value::Null;
    let whole = review(&pod()).to_string();
    for (body, why) in [
        (String::new(), "EOF"),
        ("{}".into(), "missing field"),
        (whole[..whole.len() / 2].into(), "EOF"),
        (old.to_string(), "admission.k8s.io/v1beta1 AdmissionReview"),
        (silent.to_string(), "it asks nothing"),
        (nameless.to_string(), "expected a string"),
    ] {
        let error = answer(&instance(), &address, |_| None, body.as_bytes()).unwrap_err();
        let said = error.to_string();
        assert!(
            said.starts_with("this is no AdmissionReview of admission.k8s.io/v1: "),
            "{said}"
        );
        assert!(said.contains(why), "{said}");
    }
    // no pod at all is a matter for its owner
    let (response, outcome) = ask("/inject/by/namespace", &review(&json!({})));
    assert_eq!(outcome, Outcome::Refused);
    let said = response["status"]["message"].as_str().unwrap();
    assert!(said.contains("spec.containers: is missing"), "{said}");
}
