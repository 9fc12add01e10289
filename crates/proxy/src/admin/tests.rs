use std::net::SocketAddr;

use catamaran_wire::cluster::{
    Cluster, ClusterDiscoveryType, DiscoveryType, LbPolicy, OutlierDetection, TransportSocketMatch,
};
use catamaran_wire::core::{DataSource, Metadata, TransportSocket};
use catamaran_wire::own::Issuers;
use catamaran_wire::tls::{CommonTlsContext, TlsCertificate, UpstreamTlsContext};
use catamaran_wire::well_known::{Duration, Struct, Value};
use catamaran_wire::{Any, Message, TypeUrl};

use super::*;

fn shown<M: Message + TypeUrl>(message: &M) -> Json {
    render::render(M::TYPE_URL, &message.encode_to_vec())
}

#[test]
fn a_resource_is_shown_as_people_know_it_from_its_proto_file() {
    let tls = UpstreamTlsContext {
        sni: "outbound_.5000_._.helloworld.default.svc.cluster.local".into(),
        common_tls_context: Some(CommonTlsContext {
            alpn_protocols: vec!["istio".into(), "h2".into()],
            ..CommonTlsContext::default()
        }),
        ..UpstreamTlsContext::default()
    };
    let own: Struct = [("gateway", Value::from(true))].into_iter().collect();
    let cluster = Cluster {
        name: "outbound|5000||helloworld.default.svc.cluster.local".into(),
        cluster_discovery_type: Some(ClusterDiscoveryType::Type(DiscoveryType::Eds.into())),
        lb_policy: LbPolicy::LeastRequest.into(),
        connect_timeout: Some(Duration {
            seconds: 1,
            nanos: 500_000_000,
        }),
        outlier_detection: Some(OutlierDetection {
            max_ejection_percent: Some(50),
            consecutive_5xx: Some(0),
            ..OutlierDetection::default()
        }),
        transport_socket_matches: vec![TransportSocketMatch {
            name: "tlsMode-istio".into(),
            transport_socket: Some(TransportSocket {
                name: "envoy.transport_sockets.tls".into(),
                typed_config: Some(Any::pack(&tls)),
            }),
            ..TransportSocketMatch::default()
        }],
        metadata: Some(Metadata {
            filter_metadata: [("dev.catamaran".to_owned(), own)].into(),
            ..Metadata::default()
        }),
        ..Cluster::default()
    };
    assert_eq!(
        shown(&cluster),
        json!({
            "@type": "type.googleapis.com/envoy.config.cluster.v3.Cluster",
            "name": "outbound|5000||helloworld.default.svc.cluster.local",
            "type": "EDS",
            "lb_policy": "LEAST_REQUEST",
            "connect_timeout": "1.5s",
            "outlier_detection": {"max_ejection_percent": 50, "consecutive_5xx": 0},
            "transport_socket_matches": [{
                "name": "tlsMode-istio",
                "transport_socket": {
                    "name": "envoy.transport_sockets.tls",
                    "typed_config": {
                        "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
                        "sni": "outbound_.5000_._.helloworld.default.svc.cluster.local",
                        "common_tls_context": {"alpn_protocols": ["istio", "h2"]},
                    },
                },
            }],
            "metadata": {"filter_metadata": {"dev.catamaran": {"gateway": true}}},
        })
    );
}

#[test]
fn bytes_are_hex_and_addresses_are_whole() {
    let issuers = Issuers {
        cluster: "cluster-1".into(),
        fingerprints: vec![vec![0xab, 0x01].into()],
    };
    assert_eq!(shown(&issuers)["fingerprints"], json!(["ab01"]));
    let address = "10.0.0.1:80".parse::<SocketAddr>().unwrap();
    let listener = catamaran_wire::listener::Listener {
        address: Some(address.into()),
        ..Default::default()
    };
    let socket = json!({"address": "10.0.0.1", "port_value": 80});
    assert_eq!(shown(&listener)["address"]["socket_address"], socket);
}

#[test]
fn a_private_key_is_not_shown() {
    let tls = UpstreamTlsContext {
        common_tls_context: Some(CommonTlsContext {
            tls_certificates: vec![TlsCertificate {
                private_key: Some(DataSource::inline("SECRET")),
                ..TlsCertificate::default()
            }],
            ..CommonTlsContext::default()
        }),
        ..UpstreamTlsContext::default()
    };
    let text = shown(&tls).to_string();
    assert!(
        text.contains("not shown") && !text.contains("SECRET"),
        "{text}"
    );
}

#[test]
fn hostile_bytes_are_shown_and_not_followed() {
    for bytes in [
        &b"\xff"[..],
        b"\x0a\xff\xff\xff\xff\x7f",
        b"\x07",
        b"\x0a\x05abc",
        b"\x98\x75\x07",
    ] {
        render::render(Cluster::TYPE_URL, bytes);
    }
    let mut any = Any::default();
    for _ in 0..1000 {
        any = Any {
            type_url: "type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig".into(),
            value: catamaran_wire::core::TypedExtensionConfig {
                name: "deeper".into(),
                typed_config: Some(any),
            }
            .encode_to_vec()
            .into(),
        };
    }
    render::render(&any.type_url, &any.value);
    assert_eq!(render::render("x/unknown.Type", b"abc")["value"], "3 bytes");
    assert_eq!(
        render::render(Cluster::TYPE_URL, b"\x98\x75\x07")["#1875"],
        7
    );
}
