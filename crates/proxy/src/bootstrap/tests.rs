use serde_json::json;

use super::*;

fn cluster(name: &str, port: u16) -> Json {
    json!({
        "name": name,
        "type": "STATIC",
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [
            {"endpoint": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": port}}}},
        ]}]},
    })
}

fn listener(port: u16, cluster: &str) -> Json {
    json!({
        "name": format!("l{port}"),
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": port}},
        "filter_chains": [{"filters": [{
            "name": "envoy.filters.network.tcp_proxy",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
                "stat_prefix": "t",
                "cluster": cluster,
            },
        }]}],
    })
}

fn bootstrap() -> Json {
    json!({
        "node": {"id": "one", "cluster": "bench"},
        "admin": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": 9901}}},
        "static_resources": {"listeners": [listener(9001, "app")], "clusters": [cluster("app", 9002)]},
    })
}

fn read(json: Json) -> Result<Bootstrap, String> {
    Bootstrap::of(json, Timestamp(0)).map_err(|error| error.to_string())
}

#[test]
fn the_resources_become_a_table() {
    let read = read(bootstrap()).unwrap();
    assert_eq!(read.node, "one");
    assert_eq!(read.admin.unwrap().port(), 9901);
    assert_eq!(read.resources.len(), 2);
    assert!(read.table.listener("l9001").unwrap().is_bound());
    assert!(read.table.cluster("app").is_some() && read.holding.is_none());
}

#[test]
fn what_cannot_be_used_is_named() {
    let with = |change: &dyn Fn(&mut Json)| {
        let mut json = bootstrap();
        change(&mut json);
        read(json).unwrap_err()
    };
    let tls = json!({"name": "tls", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
        "common_tls_context": {
            "tls_certificate_sds_secret_configs": [{"name": "default"}],
            "validation_context_sds_secret_config": {"name": "ROOTCA"},
        },
    }});
    type Change<'a> = &'a dyn Fn(&mut Json);
    let cases: [(Change<'_>, &str); 8] = [
        (
            &|json| json["dynamic_resources"] = json!({}),
            "dynamic_resources: is not implemented for a static file",
        ),
        (
            &|json| json["static_resources"]["endpoints"] = json!([]),
            "static_resources.endpoints: is none of",
        ),
        (
            &|json| json["static_resources"]["clusters"][0]["lb_polcy"] = json!(1),
            "static_resources.clusters[0].lb_polcy: envoy.config.cluster.v3.Cluster has no such field",
        ),
        (
            &|json| json["static_resources"]["clusters"][0]["lb_policy"] = json!("MAGLEV"),
            "cluster \"app\" is refused: lb_policy",
        ),
        (
            &|json| json["static_resources"]["clusters"][0]["name"] = json!("other"),
            "cluster \"app\" is named and not in the file",
        ),
        (
            &|json| json["static_resources"]["clusters"][0]["transport_socket"] = tls.clone(),
            "cluster \"app\" wants TLS, and static_resources.secrets has no",
        ),
        (
            &|json| json["static_resources"]["secrets"] = json!([{"name": "mine"}]),
            "static_resources.secrets \"mine\": a proxy has the secrets \"default\"",
        ),
        (
            &|json| json["admin"]["address"]["socket_address"]["port_value"] = json!(70000),
            "admin.address: an IP address and a port_value are wanted",
        ),
    ];
    for (change, wanted) in cases {
        let said = with(change);
        assert!(said.contains(wanted), "{said:?} should say {wanted:?}");
    }
    assert!(
        read(json!({}))
            .unwrap_err()
            .contains("static_resources: is missing")
    );
}
