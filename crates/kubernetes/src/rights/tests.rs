use serde_json::{Value, json};

use super::*;

fn rights(rules: Value, paths: Value) -> Rights {
    let status: SubjectRulesReviewStatus = serde_json::from_value(json!({
        "incomplete": false, "resourceRules": rules, "nonResourceRules": paths,
    }))
    .unwrap();
    let mut rights = Rights::default();
    rights.add(&status, SpiffeId::SYSTEM_NAMESPACE);
    rights
}

/// What our own manifests grant, with what everybody has.
fn reader() -> Vec<Value> {
    let mesh = catamaran_model::MeshName::new("mesh-1").unwrap();
    let roles = crate::reader::manifests(&mesh).into_iter();
    let roles = roles.filter(|m| m["kind"] == "ClusterRole" || m["kind"] == "Role");
    let mut rules: Vec<Value> = roles
        .flat_map(|role| role["rules"].as_array().unwrap().clone())
        .collect();
    rules.push(json!({"apiGroups": ["authorization.k8s.io"], "resources": ["selfsubjectaccessreviews", "selfsubjectrulesreviews"], "verbs": ["create"]}));
    rules.push(json!({"apiGroups": ["authentication.k8s.io"], "resources": ["selfsubjectreviews"], "verbs": ["create"]}));
    rules
}

fn public() -> Value {
    json!([{"nonResourceURLs": ["/api", "/api/*", "/apis", "/apis/*", "/healthz", "/livez", "/openapi", "/openapi/*", "/readyz", "/version", "/version/",
                                "/.well-known/openid-configuration/", "/openid/v1/jwks/"], "verbs": ["get"]}])
}

#[test]
fn the_reader_has_just_what_it_needs() {
    let rights = rights(json!(reader()), public());
    assert_eq!(rights, Rights::default());
    assert_eq!(rights.problem(&ClusterId::new("c2").unwrap()), None);
}

#[test]
fn each_right_beyond_is_named() {
    let cluster = ClusterId::new("c2").unwrap();
    for (rule, named) in [
        (
            json!({"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}),
            "* *.*",
        ),
        (
            json!({"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"]}),
            "get secrets",
        ),
        (
            json!({"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "delete"]}),
            "delete pods",
        ),
        (
            json!({"apiGroups": [""], "resources": ["pods/exec"], "verbs": ["create"]}),
            "create pods/exec",
        ),
        (
            json!({"apiGroups": ["apps"], "resources": ["pods"], "verbs": ["list"]}),
            "list pods.apps",
        ),
        (
            json!({"apiGroups": [""], "resources": ["serviceaccounts/token"], "verbs": ["create"]}),
            "create serviceaccounts/token",
        ),
        (
            json!({"apiGroups": [""], "resources": ["serviceaccounts/token"], "verbs": ["create"], "resourceNames": ["a", "b"]}),
            "create serviceaccounts/token a b",
        ),
        (
            json!({"apiGroups": ["authorization.k8s.io"], "resources": ["subjectaccessreviews"], "verbs": ["create"]}),
            "create subjectaccessreviews.authorization.k8s.io",
        ),
        (
            json!({"apiGroups": [""], "resources": ["users"], "verbs": ["impersonate"]}),
            "impersonate users",
        ),
    ] {
        let mut rules = reader();
        rules.push(rule);
        let rights = rights(json!(rules), public());
        assert_eq!(rights.more, BTreeSet::from([named.to_owned()]));
        let problem = rights.problem(&cluster).unwrap();
        assert_eq!(problem.severity, Severity::Warning);
        assert!(problem.message.contains(named), "{}", problem.message);
    }
    let paths = json!([{"nonResourceURLs": ["/metrics", "*", "/apisx"], "verbs": ["get"]}, {"nonResourceURLs": ["/api"], "verbs": ["*"]}]);
    let rights = rights(json!(reader()), paths);
    let expected = ["get /metrics", "get *", "get /apisx", "* /api"].map(str::to_owned);
    assert_eq!(rights.more, BTreeSet::from(expected));
}

#[test]
fn a_missing_right_is_an_error_and_nodes_are_a_help() {
    let mut rules = reader();
    rules.retain(|rule| rule["resources"] != json!(["pods"]));
    rules.push(json!({"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list"]}));
    rules.push(
        json!({"apiGroups": [""], "resources": ["nodes"], "verbs": ["get", "list", "watch"]}),
    );
    let rights = rights(json!(rules), public());
    assert_eq!(rights.missing, BTreeSet::from(["watch pods".to_owned()]));
    assert!(rights.nodes && rights.more.is_empty());
    let problem = rights.problem(&ClusterId::new("c2").unwrap()).unwrap();
    assert_eq!(problem.severity, Severity::Error);
    assert!(
        problem.message.contains("may not watch pods"),
        "{}",
        problem.message
    );
}

/// What the manager's manifests grant; `none` leaves one kind out.
fn manager(none: &str) -> Rights {
    let mesh = catamaran_model::MeshName::new("mesh-1").unwrap();
    let roles = crate::manager::manifests(&mesh, None).into_iter();
    let rules = roles.flat_map(|role| role["rules"].as_array().cloned().unwrap_or_default());
    let rules: Vec<Value> = rules.filter(|rule| rule["resources"][0] != none).collect();
    let status: SubjectRulesReviewStatus = serde_json::from_value(json!({
        "incomplete": false, "resourceRules": rules, "nonResourceRules": public(),
    }))
    .unwrap();
    let mut rights = Rights {
        role: Role::Manager,
        ..Rights::default()
    };
    rights.add(&status, SpiffeId::SYSTEM_NAMESPACE);
    rights
}

#[test]
fn the_manager_has_just_what_it_needs() {
    let rights = manager("");
    assert!(rights.more.is_empty(), "{:?}", rights.more);
    assert!(rights.missing.is_empty(), "{:?}", rights.missing);
    let cluster = ClusterId::new("c3").unwrap();
    assert_eq!(rights.problem(&cluster), None);
    let lacking = manager("tokenreviews").problem(&cluster).unwrap();
    assert_eq!(lacking.severity, Severity::Error);
    assert!(lacking.message.contains("may not create tokenreviews"));
    assert!(lacking.message.contains("the manager's role"));
}

#[test]
fn what_a_manager_may_is_too_much_for_a_reader() {
    let mut as_reader = Rights::default();
    let rule = json!({"apiGroups": [""], "resources": ["configmaps"], "resourceNames": ["catamaran-ca-root-cert"], "verbs": ["patch"]});
    as_reader.add_rule(&serde_json::from_value(rule).unwrap());
    assert!(
        as_reader
            .more
            .contains("patch configmaps catamaran-ca-root-cert")
    );
    // Held to one name it is a manager's; held to none it is nobody's.
    let rule = json!({"apiGroups": [""], "resources": ["configmaps"], "verbs": ["patch"]});
    let mut too_wide = manager("");
    too_wide.add_rule(&serde_json::from_value(rule).unwrap());
    assert_eq!(too_wide.more, ["patch configmaps".to_owned()].into());
}

#[test]
fn the_reader_of_an_istio_is_warned_of_and_used() {
    let mut rules = reader();
    rules.retain(|rule| rule["resources"] != json!(["meshexports"]));
    rules.push(json!({"apiGroups": [""], "resources": ["secrets"], "verbs": ["list"]}));
    let rights = rights(json!(rules), public());
    let problem = rights.problem(&ClusterId::new("c2").unwrap()).unwrap();
    assert_eq!(problem.severity, Severity::Warning);
    for part in ["may not read MeshExports", "list secrets"] {
        assert!(problem.message.contains(part), "{}", problem.message);
    }
}
