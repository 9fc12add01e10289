use catamaran_model::{Fingerprint, Timestamp};

use super::*;

fn peer(of: &str) -> Peer {
    let (namespace, account) = of.split_once('/').unwrap();
    Peer {
        id: SpiffeId::parse(&format!(
            "spiffe://cluster.local/ns/{namespace}/sa/{account}"
        ))
        .unwrap(),
        fingerprint: Fingerprint([0; 32]),
        issuers: Vec::new(),
        not_after: Timestamp(0),
    }
}

fn node(id: &str, fields: &[(&str, &str)]) -> Node {
    Node {
        id: id.into(),
        metadata: Some(fields.iter().copied().collect()),
        ..Node::default()
    }
}

fn judge(node: &Node, of: &str) -> Result<Proxy, String> {
    let mesh = MeshName::new("mesh-1").unwrap();
    let address = "10.1.1.1:4000".parse().unwrap();
    admit(Some(node), &peer(of), address, &mesh).map_err(|refused| refused.to_string())
}

const SLEEP: [(&str, &str); 3] = [
    ("CLUSTER_ID", "cluster-1"),
    ("NAMESPACE", "default"),
    ("SERVICE_ACCOUNT", "sleep"),
];
const ID: &str = "sidecar~10.1.1.1~sleep-1.default~default.svc.cluster.local";

#[test]
fn claims_that_hold_make_a_proxy() {
    let mut fields = SLEEP.to_vec();
    fields.extend([
        ("CATAMARAN_CAPTURE", "explicit"),
        ("CATAMARAN_APP", "127.1.1.1"),
        ("MESH_ID", "mesh-1"),
    ]);
    let proxy = judge(
        &Node {
            user_agent_name: "catamaran-proxy".into(),
            ..node(ID, &fields)
        },
        "default/sleep",
    )
    .unwrap();
    assert_eq!(proxy.workload.to_string(), "default/sleep-1");
    assert_eq!(
        (proxy.capability, proxy.capture),
        (Capability::Catamaran, Capture::Explicit)
    );
    assert_eq!(proxy.app.to_string(), "127.1.1.1");
    // An Envoy says neither.
    let envoy = judge(&node(ID, &SLEEP), "default/sleep").unwrap();
    assert_eq!(
        (envoy.capability, envoy.capture),
        (Capability::Envoy, Capture::Redirect)
    );
    assert_eq!(envoy.app.to_string(), "127.0.0.1");
}

#[test]
fn a_pods_name_may_have_dots() {
    let proxy = judge(
        &node("sidecar~1.1.1.1~a.b.default~x", &SLEEP),
        "default/sleep",
    )
    .unwrap();
    assert_eq!(proxy.workload.pod.as_str(), "a.b");
}

#[test]
fn claims_that_do_not_hold_are_refused_by_name() {
    let with = |more: &[(&'static str, &'static str)]| {
        let mut fields = SLEEP.to_vec();
        fields.extend(more);
        fields
    };
    let cases = [
        (
            ID,
            SLEEP.to_vec(),
            "default/admin",
            "proves spiffe://cluster.local/ns/default/sa/admin",
        ),
        (
            ID,
            SLEEP.to_vec(),
            "other/sleep",
            "proves spiffe://cluster.local/ns/other/sa/sleep",
        ),
        (
            ID,
            SLEEP[1..].to_vec(),
            "default/sleep",
            "the node's CLUSTER_ID is \"\"",
        ),
        (
            ID,
            with(&[("MESH_ID", "mesh-2")]),
            "default/sleep",
            "the proxy is of mesh mesh-2",
        ),
        (
            ID,
            with(&[("CATAMARAN_CAPTURE", "magic")]),
            "default/sleep",
            "it must be redirect or explicit",
        ),
        (
            ID,
            with(&[("CATAMARAN_APP", "host")]),
            "default/sleep",
            "it must be an IP address",
        ),
        (
            "sleep",
            SLEEP.to_vec(),
            "default/sleep",
            "it must be sidecar~IP~POD.NAMESPACE~DOMAIN",
        ),
        (
            "waypoint~1.1.1.1~a.default~x",
            SLEEP.to_vec(),
            "default/sleep",
            "it must begin with sidecar or router",
        ),
        (
            "sidecar~1.1.1.1~a.other~x",
            SLEEP.to_vec(),
            "default/sleep",
            "of the namespace that is proved",
        ),
    ];
    for (id, fields, of, why) in cases {
        let refused = judge(&node(id, &fields), of).unwrap_err();
        assert!(refused.contains(why), "{refused} should say {why}");
    }
}

#[test]
fn only_the_gateways_account_is_told_what_gateways_are() {
    let id = "router~1.1.1.1~eastwest-1.catamaran-system~x";
    let fields = [
        ("CLUSTER_ID", "cluster-1"),
        ("NAMESPACE", "catamaran-system"),
        ("SERVICE_ACCOUNT", "eastwest-gateway"),
    ];
    assert!(
        judge(&node(id, &fields), "catamaran-system/eastwest-gateway")
            .unwrap()
            .gateway
    );
    let refused = judge(
        &node("router~1.1.1.1~sleep-1.default~x", &SLEEP),
        "default/sleep",
    )
    .unwrap_err();
    assert!(
        refused.contains("only eastwest-gateway in catamaran-system"),
        "{refused}"
    );
}

#[test]
fn what_a_hostile_node_says_is_cut_and_printable() {
    let long = "x\n".repeat(10_000);
    let refused = judge(&node(&long, &SLEEP), "default/sleep").unwrap_err();
    assert!(refused.len() < 400 && !refused.contains('\n'), "{refused}");
}
