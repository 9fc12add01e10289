use catamaran_wire::cluster::Cluster;
use serde_json::json;

use super::*;
use crate::admin::render::render;

const CLUSTER: &str = "envoy.config.cluster.v3.Cluster";

fn shown(bytes: &[u8]) -> Json {
    render(&format!("type.googleapis.com/{CLUSTER}"), bytes)
}

#[test]
fn what_is_read_is_shown_as_it_was_written() {
    let written = json!({
        "name": "app",
        "type": "STATIC",
        "connect_timeout": "0.25s",
        "lb_policy": "LEAST_REQUEST",
        "max_requests_per_connection": 7,
        "circuit_breakers": {"thresholds": [{"max_connections": 3}, {"max_retries": 0}]},
        "load_assignment": {"cluster_name": "app", "endpoints": [{"lb_endpoints": [{
            "endpoint": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": 80}}},
            "metadata": {"filter_metadata": {"dev.catamaran": {"gateway": true, "clusters": ["a", "b"], "none": null}}},
        }]}]},
        "typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
            "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
            "explicit_http_config": {"http2_protocol_options": {"max_concurrent_streams": 100}},
        }},
    });
    let bytes = encode(CLUSTER, &written).unwrap();
    let mut expected = written.clone();
    expected["@type"] = format!("type.googleapis.com/{CLUSTER}").into();
    // what is default in a plain field is not on the wire only if nobody wrote it
    assert_eq!(shown(&bytes), expected);
    let cluster = Cluster::decode(&bytes[..]).unwrap();
    assert_eq!(cluster.name, "app");
    assert_eq!(cluster.connect_timeout.unwrap().nanos, 250_000_000);
}

#[test]
fn both_names_numbers_as_text_and_null_are_read() {
    let one = json!({"name": "a", "connectTimeout": "1s", "lbPolicy": 1, "maxRequestsPerConnection": "9", "edsClusterConfig": null});
    let two = json!({"connect_timeout": "1.000s", "name": "a", "lb_policy": "LEAST_REQUEST", "max_requests_per_connection": 9});
    assert_eq!(
        encode(CLUSTER, &one).unwrap(),
        encode(CLUSTER, &two).unwrap()
    );
}

#[test]
fn what_is_wrong_is_named_with_its_path() {
    let says = |json: Json| encode(CLUSTER, &json).unwrap_err().to_string();
    let cases = [
        (
            json!({"nmae": "a"}),
            "nmae: envoy.config.cluster.v3.Cluster has no such field; take it out",
        ),
        (json!({"name": 3}), "name: text is wanted, not 3"),
        (
            json!({"type": "DYNAMIC"}),
            "type: \"DYNAMIC\" is none of STATIC,",
        ),
        (
            json!({"connect_timeout": 5}),
            "connect_timeout: a duration like \"1.5s\" is wanted, not 5",
        ),
        (
            json!({"connect_timeout": "5"}),
            "connect_timeout: a duration",
        ),
        (
            json!({"connect_timeout": "1s", "connectTimeout": "1s"}),
            "is given twice",
        ),
        (
            json!({"health_checks": {}}),
            "health_checks: a list is wanted, not an object",
        ),
        (
            json!({"load_assignment": {"endpoints": [{}, {"lb_endpoints": [{"endpoint": 1}]}]}}),
            "load_assignment.endpoints[1].lb_endpoints[0].endpoint: an object is wanted, not 1",
        ),
        (
            json!({"transport_socket": {"name": "t", "typed_config": {"sni": "x"}}}),
            "transport_socket.typed_config.@type: names no type",
        ),
        (json!([]), "an object is wanted, not a list"),
    ];
    for (json, wanted) in cases {
        let said = says(json);
        assert!(said.contains(wanted), "{said:?} should say {wanted:?}");
    }
}

#[test]
fn an_unknown_type_is_handed_on_by_its_name() {
    let json = json!({"@type": "type.googleapis.com/envoy.extensions.unheard.Of", "anything": [1]});
    let any = any(&json, 0).unwrap();
    assert!(any.type_url.ends_with("unheard.Of") && any.value.is_empty());
}

#[test]
fn base64_is_read_in_both_alphabets() {
    for (text, bytes) in [
        ("", ""),
        ("Zg==", "f"),
        ("Zm8", "fo"),
        ("Zm9v", "foo"),
        ("Zm9vYmE=", "fooba"),
    ] {
        assert_eq!(base64(text).unwrap(), bytes.as_bytes(), "{text}");
    }
    assert_eq!(base64("-_-_").unwrap(), base64("+/+/").unwrap());
    assert!(base64("Z").is_none() && base64("Zm 9v").is_none());
}

#[test]
fn deep_json_is_refused_and_not_followed() {
    let mut deep = json!(1);
    for _ in 0..1000 {
        deep = json!([deep]);
    }
    let json = json!({"metadata": {"filter_metadata": {"x": {"y": deep}}}});
    assert!(
        encode(CLUSTER, &json)
            .unwrap_err()
            .reason
            .contains("deeper")
    );
}
