//! What an Envoy is started with: who it is, and that everything else is asked of the agent.

use std::path::Path;

use serde_json::{Value as Json, json};

use crate::Config;
use crate::envoy::{Beside, Variant};

/// Through this cluster the Envoy asks for secrets; resources name it.
///
/// Source: Istio's bootstrap.
pub(crate) const SECRETS_CLUSTER: &str = "sds-grpc";
/// Through this one it asks for everything else.
const DISCOVERY_CLUSTER: &str = "xds-grpc";

/// The bootstrap, as JSON. Paths of sockets are taken as they are said, so relative ones are relative to the folder in which
/// the Envoy is started.
pub(crate) fn bootstrap(config: &Config, beside: &Beside) -> Json {
    let node = config.node();
    let metadata: serde_json::Map<String, Json> = config
        .metadata()
        .into_iter()
        .map(|(name, value)| (name.to_owned(), Json::from(value)))
        .collect();
    let admin = config.admin_address();
    // It waits until it has been told everything: an Envoy that starts with nothing would take connections and refuse them.
    let over_ads = json!({
        "ads": {},
        "resource_api_version": "V3",
        "initial_fetch_timeout": "0s",
    });
    json!({
        "node": {"id": node.id, "cluster": node.cluster, "metadata": metadata},
        "admin": {"address": {"socket_address": {
            "address": admin.ip().to_string(), "port_value": admin.port(),
        }}},
        "dynamic_resources": {
            "ads_config": {
                "api_type": match beside.variant {
                    Variant::Delta => "DELTA_GRPC",
                    Variant::StateOfTheWorld => "GRPC",
                },
                "transport_api_version": "V3",
                "set_node_on_first_message_only": true,
                "grpc_services": [{"envoy_grpc": {
                    "cluster_name": DISCOVERY_CLUSTER,
                    "retry_policy": {"retry_back_off": {"base_interval": "0.1s", "max_interval": "5s"}},
                }}],
            },
            "cds_config": over_ads,
            "lds_config": over_ads,
        },
        "static_resources": {"clusters": [
            agent(SECRETS_CLUSTER, &beside.socket),
            agent(DISCOVERY_CLUSTER, &beside.socket),
        ]},
    })
}

fn agent(name: &str, socket: &Path) -> Json {
    json!({
        "name": name,
        "type": "STATIC",
        "connect_timeout": "1s",
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                "explicit_http_config": {"http2_protocol_options": {}},
            },
        },
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": {"pipe": {
                "path": socket.display().to_string(),
            }}}}]}],
        },
    })
}
