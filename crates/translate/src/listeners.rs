//! `envoy.config.listener.v3.Listener`: where connections are accepted, and what is done with each.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use catamaran_model::{AppProtocol, ClusterName, GatewayAddress, MtlsMode};
use catamaran_registry::MergedService;
use catamaran_wire::core::TrafficDirection;
use catamaran_wire::listener::{Filter, FilterChain, FilterChainMatch, Listener};
use catamaran_xds::{Resource, TypeUrlKind};

use crate::clusters::{BLACK_HOLE, PASSTHROUGH, socket_address};
use crate::settings::Settings;
use crate::{Capture, GatewayFor, InboundFor, ListenersFor, filters, routes, tls};

/// The listener of all calls that leave the workload.
pub(crate) const OUTBOUND: &str = "virtualOutbound";
/// Its port.
pub(crate) const OUTBOUND_PORT: u16 = 15001;
/// The listener of all calls that come to the workload.
pub(crate) const INBOUND: &str = "virtualInbound";
/// Its port.
pub(crate) const INBOUND_PORT: u16 = 15006;
/// The listener of a gateway.
pub(crate) const GATEWAY: &str = "0.0.0.0_15443";

/// How long the workload's first bytes are waited for where they decide; after that the connection is carried as bytes.
const DETECTION_WAIT: Duration = Duration::from_millis(500);

/// The same for a peer's first bytes where plain text is allowed: long enough for a ClientHello that was lost once.
const INBOUND_WAIT: Duration = Duration::from_secs(5);

/// What the HTTP inspector finds.
const HTTP: [&str; 3] = ["http/1.0", "http/1.1", "h2c"];

/// `virtualOutbound`: takes every call that leaves the workload and hands it to the listener of its destination. What no
/// service has goes where it wanted to go (Istio's `ALLOW_ANY`); without redirection nobody knows where that is, and it
/// goes nowhere. A call to the port itself goes nowhere either, or it would come back for ever.
pub(crate) fn outbound(capture: Capture) -> Resource {
    let itself = FilterChain {
        name: "virtualOutbound-blackhole".to_owned(),
        filter_chain_match: Some(FilterChainMatch {
            destination_port: Some(OUTBOUND_PORT.into()),
            ..FilterChainMatch::default()
        }),
        filters: vec![filters::tcp(BLACK_HOLE)],
        ..FilterChain::default()
    };
    let listener = Listener {
        use_original_dst: (capture == Capture::Redirect).then_some(true),
        filter_chains: vec![itself],
        default_filter_chain: Some(FilterChain {
            name: "virtualOutbound-catchall-tcp".to_owned(),
            ..chain(None, filters::tcp(unknown(capture)))
        }),
        ..listener(OUTBOUND, OUTBOUND_PORT, TrafficDirection::Outbound)
    };
    resource(&listener)
}

/// `0.0.0.0_PORT`: HTTP to any service of that port, by route configuration `PORT`; other bytes as
/// [`outbound`] treats unknown destinations. It does not depend on the services, so that it stays when they change.
pub(crate) fn http_port(audience: &ListenersFor, port: u16) -> Resource {
    let name = format!("0.0.0.0_{port}");
    let http = filters::outbound_http(format!("outbound_{name}"), &port.to_string());
    let listener = Listener {
        bind_to_port: Some(false),
        listener_filters: vec![filters::http_inspector()],
        listener_filters_timeout: Some(DETECTION_WAIT.into()),
        continue_on_listener_filters_timeout: true,
        filter_chains: vec![chain(Some(detected_http()), http)],
        default_filter_chain: Some(chain(None, filters::tcp(unknown(audience.capture)))),
        ..listener(&name, port, TrafficDirection::Outbound)
    };
    resource(&listener)
}

/// `VIP_PORT`: one for each port of the service that carries bytes, or may. Where nothing is said of the protocol, HTTP
/// goes by route configuration `PORT` and the rest is bytes for this service.
pub(crate) fn addressed(
    service: &MergedService,
    address: Option<IpAddr>,
    audience: &ListenersFor,
    settings: &Settings,
) -> Vec<Resource> {
    let Some(address) = address else {
        return Vec::new();
    };
    let host = service.key.host(&settings.domain);
    let ports = service.ports_seen_from(&audience.cluster).iter();
    let ports = ports.filter(|port| !port.protocol.is_http());
    let listeners = ports.map(|port| {
        let name = format!("{address}_{}", port.number);
        let cluster = ClusterName::outbound(port.number, host.as_str()).to_string();
        let plain = Listener {
            address: Some(socket_address(address, port.number)),
            bind_to_port: Some(false),
            ..listener(&name, port.number, TrafficDirection::Outbound)
        };
        let bytes = chain(None, filters::tcp(&cluster));
        let listener = match port.protocol {
            AppProtocol::Detect => {
                let prefix = format!("outbound_{name}");
                let http = filters::outbound_http(prefix, &port.number.to_string());
                Listener {
                    listener_filters: vec![filters::http_inspector()],
                    listener_filters_timeout: Some(DETECTION_WAIT.into()),
                    continue_on_listener_filters_timeout: true,
                    filter_chains: vec![chain(Some(detected_http()), http)],
                    default_filter_chain: Some(bytes),
                    ..plain
                }
            }
            _ => Listener {
                filter_chains: vec![bytes],
                ..plain
            },
        };
        resource(&listener)
    });
    listeners.collect()
}

/// `virtualInbound`: for each port of the workload, mesh mTLS by its application protocols; where plain text is allowed
/// too, also plain text, and TLS of the application as the bytes it is. A port that no service names has no chain: it is
/// closed.
pub(crate) fn inbound(audience: &InboundFor, settings: &Settings) -> Resource {
    let permissive = settings.mtls == MtlsMode::Permissive;
    let detects = audience
        .ports
        .values()
        .any(|protocol| *protocol == AppProtocol::Detect);
    let mut listener_filters = Vec::new();
    if audience.capture == Capture::Redirect {
        listener_filters.push(filters::original_destination());
    }
    listener_filters.push(filters::tls_inspector());
    if permissive && detects {
        listener_filters.push(filters::http_inspector());
    }
    let chains = audience
        .ports
        .iter()
        .flat_map(|(port, protocol)| inbound_chains(*port, *protocol, audience, settings));
    let listener = Listener {
        listener_filters,
        listener_filters_timeout: permissive.then(|| INBOUND_WAIT.into()),
        continue_on_listener_filters_timeout: permissive,
        filter_chains: chains.collect(),
        ..listener(INBOUND, INBOUND_PORT, TrafficDirection::Inbound)
    };
    resource(&listener)
}

fn inbound_chains(
    port: u16,
    protocol: AppProtocol,
    audience: &InboundFor,
    settings: &Settings,
) -> Vec<FilterChain> {
    let cluster = ClusterName::inbound(port).to_string();
    let bytes = || filters::tcp(&cluster);
    let http = || filters::inbound_http(format!("inbound_0.0.0.0_{port}"), routes::inbound(port));
    let arrives = |transport: &str, alpn: &[&str]| FilterChainMatch {
        destination_port: Some(port.into()),
        transport_protocol: transport.to_owned(),
        application_protocols: words(alpn),
        ..FilterChainMatch::default()
    };
    let mesh = |name: &str, alpn: &[&str], is_http: bool| FilterChain {
        name: format!("{port}-{name}"),
        transport_socket: Some(tls::downstream(
            &settings.trust_domain,
            is_http,
            audience.capability,
        )),
        ..chain(
            Some(arrives("tls", alpn)),
            if is_http { http() } else { bytes() },
        )
    };
    let open = |name: &str, transport: &str, alpn: &[&str], filter: Filter| FilterChain {
        name: format!("{port}-{name}"),
        ..chain(Some(arrives(transport, alpn)), filter)
    };

    let mut chains = match protocol {
        AppProtocol::Detect => vec![
            mesh("mesh-http", &tls::MESH_HTTP_ALPN, true),
            mesh("mesh-bytes", &tls::MESH_BYTES_ALPN, false),
        ],
        _ => vec![mesh("mesh", &tls::MESH_ALPN, protocol.is_http())],
    };
    if settings.mtls == MtlsMode::Permissive {
        match protocol {
            AppProtocol::Detect => {
                chains.push(open("plain-http", "raw_buffer", &HTTP, http()));
                chains.push(open("plain-bytes", "raw_buffer", &[], bytes()));
            }
            _ if protocol.is_http() => chains.push(open("plain", "raw_buffer", &[], http())),
            _ => chains.push(open("plain", "raw_buffer", &[], bytes())),
        }
        chains.push(open("own-tls", "tls", &[], bytes()));
    }
    chains
}

/// `0.0.0.0_15443`: one chain for each service port that the cluster exports, chosen by SNI and a mesh application
/// protocol, leading to the service's cluster as it is, unopened. No default: what asks for anything else is closed. `None`
/// while the cluster exports nothing, since a listener without a chain is not legal.
pub(crate) fn gateway<'a>(
    exported: impl Iterator<Item = &'a MergedService>,
    audience: &GatewayFor,
    settings: &Settings,
) -> Option<Resource> {
    let names = exported.flat_map(|service| {
        let host = service.key.host(&settings.domain);
        let sni = move |port: u16| ClusterName::outbound(port, host.as_str()).sni();
        let ports = service.ports_seen_from(&audience.cluster).iter();
        ports.map(move |port| sni(port.number))
    });
    let chains: Vec<FilterChain> = names
        .map(|name| FilterChain {
            filter_chain_match: Some(FilterChainMatch {
                server_names: vec![name.clone()],
                application_protocols: words(&tls::MESH_ALPN),
                ..FilterChainMatch::default()
            }),
            filters: vec![filters::tcp(&name)],
            name,
            ..FilterChain::default()
        })
        .collect();
    if chains.is_empty() {
        return None;
    }
    let listener = Listener {
        listener_filters: vec![filters::tls_inspector()],
        filter_chains: chains,
        ..listener(GATEWAY, GatewayAddress::PORT, TrafficDirection::Inbound)
    };
    Some(resource(&listener))
}

fn unknown(capture: Capture) -> &'static str {
    match capture {
        Capture::Redirect => PASSTHROUGH,
        Capture::Explicit => BLACK_HOLE,
    }
}

fn listener(name: &str, port: u16, direction: TrafficDirection) -> Listener {
    Listener {
        name: name.to_owned(),
        address: Some(socket_address(IpAddr::V4(Ipv4Addr::UNSPECIFIED), port)),
        traffic_direction: direction.into(),
        ..Listener::default()
    }
}

fn chain(matches: Option<FilterChainMatch>, filter: Filter) -> FilterChain {
    FilterChain {
        filter_chain_match: matches,
        filters: vec![filter],
        ..FilterChain::default()
    }
}

fn detected_http() -> FilterChainMatch {
    FilterChainMatch {
        application_protocols: words(&HTTP),
        ..FilterChainMatch::default()
    }
}

fn words(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

fn resource(listener: &Listener) -> Resource {
    Resource::new(TypeUrlKind::Listener, listener.name.as_str(), listener)
}

#[cfg(test)]
mod tests;
