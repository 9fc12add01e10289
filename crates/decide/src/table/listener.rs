//! Listeners: which of their filter chains takes a connection, and what it does with it.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use catamaran_wire::Any;
use catamaran_wire::core::TrafficDirection;
use catamaran_wire::extension::{HTTP_GRPC_STATS, HTTP_ROUTER};
use catamaran_wire::hcm as wire_http;
use catamaran_wire::listener as wire;
use catamaran_wire::listener_filter::{HttpInspector, OriginalDst, TlsInspector};
use catamaran_wire::tcp as wire_tcp;

use super::read::{Http2Options, Interner, Range, each, http1, socket, span_or};
use super::route::WeightedClusters;
use super::tls::unpack;
use super::{Fixed, Lookup};
use crate::refusal::{Fault, refuse_set, unset};
use crate::{Connection, Detected, DownstreamTls, RetryOn, RetryPolicy, RouteTable};

/// A listener.
#[derive(Debug)]
pub struct Listener {
    pub(crate) name: Arc<str>,
    pub(crate) address: SocketAddr,
    pub(crate) bound: bool,
    pub(crate) hands_off: bool,
    pub(crate) inspects_tls: bool,
    pub(crate) inspects_http: bool,
    pub(crate) inspection_timeout: Option<Duration>,
    pub(crate) continue_on_timeout: bool,
    direction: Direction,
    /// In the order of their matches' first step: the very port before any port.
    by_port: HashMap<Option<u16>, Vec<Destinations>, Fixed>,
    chains: Box<[Arc<Chain>]>,
    default: Option<Arc<Chain>>,
}

/// `traffic_direction`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    Unspecified,
    Inbound,
    Outbound,
}

/// The chains for a range of destinations; `None` is all of them.
#[derive(Debug)]
struct Destinations {
    range: Option<Range>,
    /// By server name: exact, `.example.com` for `*.example.com`, and empty for any.
    by_name: Lookup<Vec<Last>>,
}

/// The last steps of a match: few enough to be looked at one by one.
#[derive(Debug)]
struct Last {
    tls: Option<bool>,
    protocol: Option<Arc<str>>,
    source: Option<Range>,
    source_port: Option<u16>,
    chain: u32,
}

impl Listener {
    /// Its name, `virtualOutbound` or `0.0.0.0_5000`.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Where it listens, or would if it were bound.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Whether a socket is to be opened for it; one that is not bound gets its connections from another.
    pub fn is_bound(&self) -> bool {
        self.bound
    }

    /// Whether it says that the workload is behind it (`traffic_direction: INBOUND`).
    pub fn is_inbound(&self) -> bool {
        self.direction == Direction::Inbound
    }

    /// Whether it hands connections to the listener of their original destination.
    pub fn hands_off(&self) -> bool {
        self.hands_off
    }

    /// Whether the first bytes are to be searched for a TLS ClientHello before a chain is chosen.
    pub fn inspects_tls(&self) -> bool {
        self.inspects_tls
    }

    /// Whether the first bytes are to be searched for HTTP before a chain is chosen.
    pub fn inspects_http(&self) -> bool {
        self.inspects_http
    }

    /// How long to wait for the first bytes; `None` is without end. Envoy's default is 15 s.
    pub fn inspection_timeout(&self) -> Option<Duration> {
        self.inspection_timeout
    }

    /// Whether a connection that shows no bytes in time goes on as [`Detected::Opaque`](crate::Detected::Opaque), rather
    /// than being closed.
    pub fn continues_on_timeout(&self) -> bool {
        self.continue_on_timeout
    }
}

/// A filter chain: what is done with a connection.
#[derive(Debug)]
pub struct Chain {
    pub(crate) name: Arc<str>,
    pub(crate) tls: Option<Arc<DownstreamTls>>,
    pub(crate) handler: Handler,
}

impl Chain {
    /// Its name, often empty.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// The TLS that it ends; `None` when bytes are taken as they come.
    pub fn tls(&self) -> Option<&Arc<DownstreamTls>> {
        self.tls.as_ref()
    }

    /// HTTP or bytes.
    pub fn handler(&self) -> &Handler {
        &self.handler
    }
}

/// What a chain does in the end.
#[derive(Debug)]
pub enum Handler {
    /// Requests are routed one by one.
    Http(Http),
    /// The connection is carried as a whole.
    Tcp(Tcp),
}

/// How a chain speaks HTTP.
#[derive(Debug)]
pub struct Http {
    /// HTTP/1, HTTP/2, or whatever the first bytes say.
    pub codec: Codec,
    /// Where its routes are.
    pub routes: Routes,
    /// How long a stream may be silent; `None` is without end.
    pub stream_idle_timeout: Option<Duration>,
    /// How long a whole request may take to come in.
    pub request_timeout: Option<Duration>,
    /// How long a connection may be idle.
    pub idle_timeout: Option<Duration>,
    /// The most that a head may be, in KiB; Envoy's default is 60.
    pub max_head_kib: u32,
    /// Whether `Upgrade: websocket` is carried.
    pub websocket: bool,
    /// Whether a request gets an `x-request-id` if it has none.
    pub request_id: bool,
    /// What is done with `x-forwarded-client-cert`.
    pub client_cert: ClientCertHeader,
    /// What is done with the `server` header of answers.
    pub server_header: ServerHeader,
    /// The text of our `server` header; Envoy's default is `envoy`.
    pub server_name: Arc<str>,
    /// Whether the caller's address is added to `x-forwarded-for`.
    pub forwarded_for: bool,
    /// Whether paths are put in one form, see [`normalize_path`](crate::normalize_path): routes are matched against that
    /// form, and the upstream is to get it.
    pub normalize_path: bool,
    /// HTTP/2 options of its connections.
    pub http2: Http2Options,
    pub(crate) strip_port: StripPort,
    pub(crate) strip_dot: bool,
}

/// `server_header_transformation`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServerHeader {
    /// Ours takes the place of the application's.
    Overwrite,
    /// Ours is added when the application gave none.
    AppendIfAbsent,
    /// The application's is left alone.
    PassThrough,
}

/// `CodecType`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Codec {
    /// What the first bytes or ALPN say.
    Auto,
    /// HTTP/1.
    Http1,
    /// HTTP/2.
    Http2,
}

/// Where the routes of a chain are.
#[derive(Debug)]
pub enum Routes {
    /// In the route configuration of this name.
    Named(Arc<str>),
    /// In the listener itself.
    Inline(Arc<RouteTable>),
}

/// Whether an authority loses its port before it is looked up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StripPort {
    Never,
    Matching,
    Always,
}

/// `forward_client_cert_details`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientCertHeader {
    /// Removed.
    Sanitize,
    /// Passed on when the connection is mTLS, else removed.
    ForwardOnly,
    /// The caller's is added when the connection is mTLS.
    AppendForward,
    /// Replaced by the caller's when the connection is mTLS.
    SanitizeSet,
    /// Passed on whoever the caller is.
    AlwaysForwardOnly,
}

/// How a chain carries bytes.
#[derive(Debug)]
pub struct Tcp {
    /// Where to, by share.
    pub(crate) clusters: WeightedClusters,
    /// How long both directions may be silent; `None` is without end. Envoy's default is an hour.
    pub idle_timeout: Option<Duration>,
    /// How often another endpoint is tried when one cannot be reached.
    pub(crate) retry: Option<Arc<RetryPolicy>>,
}

/// Envoy's default for `listener_filters_timeout`.
const INSPECTION_TIMEOUT: Duration = Duration::from_secs(15);
/// Envoy's default for `stream_idle_timeout`.
const STREAM_IDLE_TIMEOUT: Duration = Duration::from_secs(300);
/// Envoy's default for the idle time of a connection, HTTP or not.
const IDLE_TIMEOUT: Duration = Duration::from_secs(3600);
/// Envoy's default for `max_request_headers_kb`.
const MAX_HEAD_KIB: u32 = 60;
/// The most that Envoy takes for `max_request_headers_kb`.
const MOST_HEAD_KIB: u32 = 8192;
/// The pause between attempts to connect; an attempt goes to another endpoint, so there is little to wait for.
const TCP_BACK_OFF: Duration = Duration::from_millis(25);

impl Listener {
    /// The direction that it says it is for.
    pub(crate) fn direction(&self) -> Direction {
        self.direction
    }

    /// All its chains.
    pub fn chains(&self) -> impl Iterator<Item = &Arc<Chain>> {
        self.chains.iter().chain(&self.default)
    }

    /// The chain that takes a connection. Each step of the match narrows to the most specific value and is not taken
    /// back, in Envoy's order: destination port, destination address, server name, transport protocol, application
    /// protocol, source address, source port. What no chain takes goes to the default chain.
    pub(crate) fn chain(&self, connection: &Connection<'_>) -> Option<&Arc<Chain>> {
        self.matched(connection)
            .map(|at| &self.chains[at as usize])
            .or(self.default.as_ref())
    }

    fn matched(&self, connection: &Connection<'_>) -> Option<u32> {
        let port = connection.entry.port();
        let ranges = self
            .by_port
            .get(&Some(port))
            .or_else(|| self.by_port.get(&None))?;
        let address = connection.entry.destination().map(|address| address.ip());
        let destinations = ranges.iter().find(|ranges| match (ranges.range, address) {
            (None, _) => true,
            (Some(range), Some(address)) => range.contains(address),
            (Some(range), None) => range.length == 0,
        })?;
        let (tls, server_name, offered) = match connection.detected {
            Detected::Tls { sni, alpn } if self.inspects_tls => (true, sni.unwrap_or(""), alpn),
            Detected::Http1 if self.inspects_http => (false, "", &[&b"http/1.1"[..]][..]),
            Detected::Http2 if self.inspects_http => (false, "", &[&b"h2c"[..]][..]),
            _ => (false, "", &[][..]),
        };
        let lasts = destinations.named(server_name)?;
        let exact = lasts.iter().any(|last| last.tls == Some(tls));
        let transport = if exact { Some(tls) } else { None };
        let lasts = || lasts.iter().filter(move |last| last.tls == transport);
        let protocol = offered.iter().copied().find(|offer| {
            lasts().any(|last| last.protocol.as_deref().map(str::as_bytes) == Some(*offer))
        });
        let lasts =
            || lasts().filter(move |last| last.protocol.as_deref().map(str::as_bytes) == protocol);
        let source = connection.source;
        let range = lasts()
            .filter_map(|last| last.source)
            .filter(|range| source.is_some_and(|source| range.contains(source.ip())))
            .max_by_key(|range| range.length);
        let lasts = || lasts().filter(move |last| last.source == range);
        let port = source.map(|source| source.port());
        lasts()
            .find(|last| last.source_port.is_some() && last.source_port == port)
            .or_else(|| lasts().find(|last| last.source_port.is_none()))
            .map(|last| last.chain)
    }
}

impl Destinations {
    fn named(&self, name: &str) -> Option<&Vec<Last>> {
        if name.is_empty() {
            return self.by_name.get("");
        }
        if let Some(lasts) = self.by_name.get(name) {
            return Some(lasts);
        }
        let mut rest = name;
        while let Some(at) = rest.get(1..).and_then(|tail| tail.find('.')) {
            rest = &rest[at + 1..];
            if let Some(lasts) = self.by_name.get(rest) {
                return Some(lasts);
            }
        }
        self.by_name.get("")
    }
}

impl Listener {
    pub(crate) fn read(
        listener: &wire::Listener,
        interner: &mut Interner,
    ) -> Result<Listener, Fault> {
        refuse_set!(
            listener,
            additional_addresses,
            fcds_config,
            filter_chain_matcher,
            deprecated_v1,
            socket_options,
            udp_listener_config,
            api_listener,
            internal_listener,
            enable_mptcp,
        );
        unset(listener.transparent == Some(true), "transparent")?;
        let address = socket(listener.address.as_ref()).map_err(|fault| fault.within("address"))?;
        let direction = match TrafficDirection::try_from(listener.traffic_direction) {
            Ok(TrafficDirection::Unspecified) => Direction::Unspecified,
            Ok(TrafficDirection::Inbound) => Direction::Inbound,
            Ok(TrafficDirection::Outbound) => Direction::Outbound,
            Err(_) => return Err(Fault::new("traffic_direction", "is not known")),
        };
        let (mut inspects_tls, mut inspects_http) = (false, false);
        each(&listener.listener_filters, "listener_filters", |filter| {
            refuse_set!(filter, filter_disabled);
            let Some(wire::ListenerFilterConfigType::TypedConfig(config)) = &filter.config_type
            else {
                return Err(Fault::new("typed_config", "is missing"));
            };
            if config.is::<TlsInspector>() {
                inspects_tls = true;
            } else if config.is::<HttpInspector>() {
                inspects_http = true;
            } else if !config.is::<OriginalDst>() {
                return Err(not_implemented(&filter.name, config));
            }
            Ok(())
        })?;
        let mut chains: Vec<Arc<Chain>> = Vec::with_capacity(listener.filter_chains.len());
        let mut by_port: HashMap<Option<u16>, Vec<Destinations>, Fixed> = HashMap::default();
        each(&listener.filter_chains, "filter_chains", |chain| {
            let at = chains.len() as u32;
            chains.push(Arc::new(Chain::read(chain, interner)?));
            let matcher = chain.filter_chain_match.clone().unwrap_or_default();
            index(&mut by_port, &matcher, at, interner)
                .map_err(|fault| fault.within("filter_chain_match"))
        })?;
        for ranges in by_port.values_mut() {
            // The longest range first; all addresses last.
            ranges.sort_by_key(|ranges| {
                std::cmp::Reverse(ranges.range.map_or(-1, |range| i16::from(range.length)))
            });
        }
        let default = listener
            .default_filter_chain
            .as_ref()
            .map(|chain| Chain::read(chain, interner).map(Arc::new))
            .transpose()
            .map_err(|fault| fault.within("default_filter_chain"))?;
        if chains.is_empty() && default.is_none() {
            return Err(Fault::new("filter_chains", "at least one is needed"));
        }
        Ok(Listener {
            name: interner.text(&listener.name),
            address,
            bound: listener.bind_to_port.unwrap_or(true),
            hands_off: listener.use_original_dst.unwrap_or(false),
            inspects_tls,
            inspects_http,
            inspection_timeout: span_or(
                listener.listener_filters_timeout,
                "listener_filters_timeout",
                Some(INSPECTION_TIMEOUT),
            )?,
            continue_on_timeout: listener.continue_on_listener_filters_timeout,
            direction,
            by_port,
            chains: chains.into(),
            default,
        })
    }
}

/// Files a chain under every combination of the values that its match names.
fn index(
    by_port: &mut HashMap<Option<u16>, Vec<Destinations>, Fixed>,
    matcher: &wire::FilterChainMatch,
    chain: u32,
    interner: &mut Interner,
) -> Result<(), Fault> {
    refuse_set!(
        matcher,
        address_suffix,
        suffix_len,
        direct_source_prefix_ranges,
        source_type,
    );
    let port = matcher
        .destination_port
        .map(|port| {
            u16::try_from(port)
                .map_err(|_| Fault::new("destination_port", format!("{port} is not a port")))
        })
        .transpose()?;
    let tls = match matcher.transport_protocol.as_str() {
        "" => None,
        "tls" => Some(true),
        "raw_buffer" => Some(false),
        other => {
            return Err(Fault::new(
                "transport_protocol",
                format!("{other:?} is not implemented"),
            ));
        }
    };
    let ranges = or_any(each(&matcher.prefix_ranges, "prefix_ranges", Range::read)?);
    let sources = or_any(each(
        &matcher.source_prefix_ranges,
        "source_prefix_ranges",
        Range::read,
    )?);
    let source_ports = or_any(each(&matcher.source_ports, "source_ports", |port| {
        u16::try_from(*port).map_err(|_| Fault::new("", format!("{port} is not a port")))
    })?);
    let names = or_any(each(&matcher.server_names, "server_names", |name| {
        let name = name.to_ascii_lowercase();
        let key = name.strip_prefix('*').unwrap_or(&name);
        if key.is_empty() || key.contains('*') || (key.len() < name.len() && !key.starts_with('.'))
        {
            return Err(Fault::new("", format!("{name:?} is not a server name")));
        }
        if key.len() == name.len() && key.starts_with('.') {
            return Err(Fault::new("", format!("{name:?} is not a server name")));
        }
        Ok(interner.text(key))
    })?);
    let protocols = or_any(
        matcher
            .application_protocols
            .iter()
            .map(|protocol| interner.text(protocol))
            .collect(),
    );
    let combinations = [
        ranges.len(),
        sources.len(),
        source_ports.len(),
        names.len(),
        protocols.len(),
    ]
    .into_iter()
    .try_fold(1usize, usize::checked_mul);
    if combinations.is_none_or(|n| n > MAX_COMBINATIONS) {
        return Err(Fault::new(
            "",
            format!("names more than {MAX_COMBINATIONS} combinations"),
        ));
    }
    let by_range = by_port.entry(port).or_default();
    for range in &ranges {
        let known = by_range.iter().position(|known| known.range == *range);
        let known = known.unwrap_or_else(|| {
            by_range.push(Destinations {
                range: *range,
                by_name: HashMap::with_hasher(Fixed::default()),
            });
            by_range.len() - 1
        });
        for name in &names {
            let key = name.clone().unwrap_or_else(|| Arc::from(""));
            let lasts = by_range[known].by_name.entry(key).or_default();
            for protocol in &protocols {
                for source in &sources {
                    for source_port in &source_ports {
                        let same = lasts.iter().any(|last| {
                            last.tls == tls
                                && last.protocol == *protocol
                                && last.source == *source
                                && last.source_port == *source_port
                        });
                        if same {
                            return Err(Fault::new("", "is that of another chain too"));
                        }
                        lasts.push(Last {
                            tls,
                            protocol: protocol.clone(),
                            source: *source,
                            source_port: *source_port,
                            chain,
                        });
                    }
                }
            }
        }
    }
    Ok(())
}

/// The most combinations of values that one chain's match may name.
const MAX_COMBINATIONS: usize = 10_000;

fn or_any<T>(values: Vec<T>) -> Vec<Option<T>> {
    if values.is_empty() {
        return vec![None];
    }
    values.into_iter().map(Some).collect()
}

fn not_implemented(name: &str, config: &Any) -> Fault {
    let short = |text: &str| text.chars().take(200).collect::<String>();
    Fault::new(
        "",
        format!(
            "filter {:?} ({}) is not implemented",
            short(name),
            short(&config.type_url)
        ),
    )
}

impl Chain {
    fn read(chain: &wire::FilterChain, interner: &mut Interner) -> Result<Chain, Fault> {
        unset(chain.use_proxy_proto == Some(true), "use_proxy_proto")?;
        let tls = DownstreamTls::read(chain.transport_socket.as_ref(), interner)
            .map_err(|fault| fault.within("transport_socket"))?
            .map(Arc::new);
        let [filter] = &chain.filters[..] else {
            return Err(Fault::new(
                "filters",
                format!(
                    "exactly one is implemented, HTTP connection manager or TCP proxy, and there are {}",
                    chain.filters.len()
                ),
            ));
        };
        let handler =
            Handler::read(filter, interner).map_err(|fault| fault.within("filters[0]"))?;
        Ok(Chain {
            name: interner.text(&chain.name),
            tls,
            handler,
        })
    }
}

impl Handler {
    fn read(filter: &wire::Filter, interner: &mut Interner) -> Result<Handler, Fault> {
        let Some(wire::FilterConfigType::TypedConfig(config)) = &filter.config_type else {
            return Err(Fault::new("typed_config", "is missing"));
        };
        let within = |fault: Fault| fault.within("typed_config");
        if config.is::<wire_http::HttpConnectionManager>() {
            let http = unpack(config)?;
            return Http::read(&http, interner)
                .map(Handler::Http)
                .map_err(within);
        }
        if config.is::<wire_tcp::TcpProxy>() {
            let tcp = unpack(config)?;
            return Tcp::read(&tcp, interner).map(Handler::Tcp).map_err(within);
        }
        Err(not_implemented(&filter.name, config))
    }

    /// The clusters that it names itself.
    pub(crate) fn clusters(&self) -> Vec<&Arc<str>> {
        match self {
            Handler::Tcp(tcp) => tcp.clusters.names().collect(),
            Handler::Http(http) => match &http.routes {
                Routes::Named(_) => Vec::new(),
                Routes::Inline(routes) => routes.clusters().collect(),
            },
        }
    }
}

impl Http {
    fn read(
        http: &wire_http::HttpConnectionManager,
        interner: &mut Interner,
    ) -> Result<Http, Fault> {
        refuse_set!(
            http,
            add_user_agent,
            http1_safe_max_connection_duration,
            http3_protocol_options,
            scheme_header_transformation,
            xff_num_trusted_hops,
            original_ip_detection_extensions,
            early_header_mutation_extensions,
            via,
            preserve_external_request_id,
            always_set_request_id_in_response,
            forward_client_cert_matcher,
            proxy_100_continue,
            represent_ipv4_remote_address_as_ipv4_mapped_ipv6,
            merge_slashes,
            request_id_extension,
            local_reply_config,
            path_normalization_options,
            proxy_status_config,
            typed_header_validation_config,
            append_x_forwarded_port,
            append_local_overload,
            forward_proto_config,
        );
        let headers_timeout = span_or(
            http.request_headers_timeout,
            "request_headers_timeout",
            None,
        )?;
        unset(headers_timeout.is_some(), "request_headers_timeout")?;
        unset(
            http.add_proxy_protocol_connection_state == Some(true),
            "add_proxy_protocol_connection_state",
        )?;
        use wire_http::PathWithEscapedSlashesAction as Slashes;
        unset(
            !matches!(
                Slashes::try_from(http.path_with_escaped_slashes_action),
                Ok(Slashes::ImplementationSpecificDefault | Slashes::KeepUnchanged)
            ),
            "path_with_escaped_slashes_action",
        )?;
        let codec = match wire_http::CodecType::try_from(http.codec_type) {
            Ok(wire_http::CodecType::Auto) => Codec::Auto,
            Ok(wire_http::CodecType::Http1) => Codec::Http1,
            Ok(wire_http::CodecType::Http2) => Codec::Http2,
            Ok(wire_http::CodecType::Http3) | Err(_) => {
                return Err(Fault::new("codec_type", "is not implemented"));
            }
        };
        let routes = match &http.route_specifier {
            Some(wire_http::RouteSpecifier::Rds(rds)) if !rds.route_config_name.is_empty() => {
                Routes::Named(interner.text(&rds.route_config_name))
            }
            Some(wire_http::RouteSpecifier::RouteConfig(routes)) => {
                RouteTable::read(routes, interner)
                    .map(|routes| Routes::Inline(Arc::new(routes)))
                    .map_err(|fault| fault.within("route_config"))?
            }
            Some(wire_http::RouteSpecifier::ScopedRoutes(_)) => {
                return Err(Fault::new("scoped_routes", "is not implemented"));
            }
            _ => return Err(Fault::new("route_specifier", "is missing")),
        };
        http_filters(&http.http_filters)?;
        let mut idle_timeout = Some(IDLE_TIMEOUT);
        if let Some(common) = &http.common_http_protocol_options {
            let mut read = || {
                refuse_set!(
                    common,
                    max_connection_duration,
                    max_headers_count,
                    max_response_headers_kb,
                    max_stream_duration,
                    headers_with_underscores_action,
                    max_requests_per_connection,
                );
                idle_timeout = span_or(common.idle_timeout, "idle_timeout", idle_timeout)?;
                Ok(())
            };
            read().map_err(|fault: Fault| fault.within("common_http_protocol_options"))?;
        }
        if let Some(options) = &http.http_protocol_options {
            http1(options).map_err(|fault| fault.within("http_protocol_options"))?;
        }
        let http2 = http
            .http2_protocol_options
            .as_ref()
            .map(Http2Options::read)
            .transpose()
            .map_err(|fault| fault.within("http2_protocol_options"))?
            .unwrap_or_default();
        let websocket = each(&http.upgrade_configs, "upgrade_configs", |upgrade| {
            if !upgrade.upgrade_type.eq_ignore_ascii_case("websocket") {
                return Err(Fault::new("upgrade_type", "only websocket is implemented"));
            }
            unset(!upgrade.filters.is_empty(), "filters")?;
            Ok(upgrade.enabled != Some(false))
        })?;
        use wire_http::ForwardClientCertDetails as Details;
        let client_cert = match Details::try_from(http.forward_client_cert_details) {
            Ok(Details::Sanitize) => ClientCertHeader::Sanitize,
            Ok(Details::ForwardOnly) => ClientCertHeader::ForwardOnly,
            Ok(Details::AppendForward) => ClientCertHeader::AppendForward,
            Ok(Details::SanitizeSet) => ClientCertHeader::SanitizeSet,
            Ok(Details::AlwaysForwardOnly) => ClientCertHeader::AlwaysForwardOnly,
            Err(_) => return Err(Fault::new("forward_client_cert_details", "is not known")),
        };
        use wire_http::ServerHeaderTransformation as Server;
        let server_header = match Server::try_from(http.server_header_transformation) {
            Ok(Server::Overwrite) => ServerHeader::Overwrite,
            Ok(Server::AppendIfAbsent) => ServerHeader::AppendIfAbsent,
            Ok(Server::PassThrough) => ServerHeader::PassThrough,
            Err(_) => return Err(Fault::new("server_header_transformation", "is not known")),
        };
        let max_head_kib = http.max_request_headers_kb.unwrap_or(MAX_HEAD_KIB);
        if max_head_kib == 0 || max_head_kib > MOST_HEAD_KIB {
            return Err(Fault::new(
                "max_request_headers_kb",
                format!("must be 1 to {MOST_HEAD_KIB}"),
            ));
        }
        let server_name = match http.server_name.as_str() {
            "" => "envoy",
            name => name,
        };
        Ok(Http {
            codec,
            routes,
            stream_idle_timeout: span_or(
                http.stream_idle_timeout,
                "stream_idle_timeout",
                Some(STREAM_IDLE_TIMEOUT),
            )?,
            request_timeout: span_or(http.request_timeout, "request_timeout", None)?,
            idle_timeout,
            max_head_kib,
            websocket: websocket.contains(&true),
            request_id: http.generate_request_id.unwrap_or(true),
            client_cert,
            server_header,
            server_name: interner.text(server_name),
            forwarded_for: http.use_remote_address == Some(true) && !http.skip_xff_append,
            http2,
            strip_port: match (http.strip_any_host_port, http.strip_matching_host_port) {
                (Some(true), _) => StripPort::Always,
                (_, true) => StripPort::Matching,
                (_, false) => StripPort::Never,
            },
            strip_dot: http.strip_trailing_host_dot,
            normalize_path: http.normalize_path == Some(true),
        })
    }
}

/// The router ends the chain; before it stands only what may be passed over.
fn http_filters(filters: &[wire_http::HttpFilter]) -> Result<(), Fault> {
    let mut ended = false;
    each(filters, "http_filters", |filter| {
        if ended {
            return Err(Fault::new("", "stands after the router"));
        }
        if filter.disabled {
            return Ok(());
        }
        let Some(wire_http::HttpFilterConfig::TypedConfig(config)) = &filter.config_type else {
            unset(!filter.is_optional, "config_discovery")?;
            return Ok(());
        };
        if config.is::<wire_http::Router>() {
            ended = true;
            let router: wire_http::Router = unpack(config)?;
            let read = || {
                refuse_set!(
                    router,
                    strict_check_headers,
                    respect_expected_rq_timeout,
                    upstream_http_filters,
                );
                Ok(())
            };
            return read().map_err(|fault: Fault| fault.within("typed_config"));
        }
        if filter.is_optional || filter.name == HTTP_GRPC_STATS {
            return Ok(());
        }
        Err(not_implemented(&filter.name, config))
    })?;
    if !ended {
        return Err(Fault::new(
            "http_filters",
            format!("must end with {HTTP_ROUTER}"),
        ));
    }
    Ok(())
}

impl Tcp {
    fn read(tcp: &wire_tcp::TcpProxy, interner: &mut Interner) -> Result<Tcp, Fault> {
        refuse_set!(
            tcp,
            on_demand,
            metadata_match,
            downstream_idle_timeout,
            upstream_idle_timeout,
            tunneling_config,
            max_downstream_connection_duration,
            proxy_protocol_tlvs,
            upstream_connect_mode,
            max_early_data_bytes,
        );
        let clusters = match &tcp.cluster_specifier {
            Some(wire_tcp::ClusterSpecifier::Cluster(name)) => {
                WeightedClusters::one(interner.text(name))
            }
            Some(wire_tcp::ClusterSpecifier::WeightedClusters(weighted)) => {
                let read = || {
                    let clusters = each(&weighted.clusters, "clusters", |cluster| {
                        refuse_set!(cluster, metadata_match);
                        Ok((Arc::from(cluster.name.as_str()), cluster.weight))
                    })?;
                    WeightedClusters::new(clusters)
                };
                read().map_err(|fault: Fault| fault.within("weighted_clusters"))?
            }
            None => return Err(Fault::new("cluster_specifier", "is missing")),
        };
        let attempts = tcp.max_connect_attempts.unwrap_or(1);
        if attempts == 0 {
            return Err(Fault::new("max_connect_attempts", "must not be 0"));
        }
        let retry = (attempts > 1).then(|| {
            Arc::new(RetryPolicy {
                retries: attempts - 1,
                on: RetryOn::default(),
                statuses: Box::new([]),
                per_try_timeout: None,
                back_off: TCP_BACK_OFF,
                back_off_max: TCP_BACK_OFF.saturating_mul(10),
            })
        });
        Ok(Tcp {
            clusters,
            idle_timeout: span_or(tcp.idle_timeout, "idle_timeout", Some(IDLE_TIMEOUT))?,
            retry,
        })
    }
}

/// The address that stands for all of a family.
pub(crate) fn any_of(address: SocketAddr) -> [SocketAddr; 2] {
    let v4 = IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED);
    let v6 = IpAddr::V6(std::net::Ipv6Addr::UNSPECIFIED);
    let port = address.port();
    match address {
        SocketAddr::V4(_) => [(v4, port).into(), (v6, port).into()],
        SocketAddr::V6(_) => [(v6, port).into(), (v4, port).into()],
    }
}
