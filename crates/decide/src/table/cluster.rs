//! Clusters: how they are set, who is in them, and the tiers in which their endpoints are tried.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use catamaran_model::Fingerprint;
use catamaran_wire::cluster as wire;
use catamaran_wire::core::{Metadata, RoutingPriority};
use catamaran_wire::endpoint as wire_endpoint;
use catamaran_wire::extension::{TRANSPORT_SOCKET_MATCH, UPSTREAM_HTTP_OPTIONS};
use catamaran_wire::health::HealthStatus;
use catamaran_wire::own::Issuers;

use super::Issuing;
use super::read::{Http2Options, Interner, Marks, each, http1, marks, socket, span, span_or};
use super::tls::unpack;
use crate::refusal::{Fault, refuse_set, unset};
use crate::{Transport, UpstreamProtocol, Via};

/// A cluster as it is used: its settings, the endpoints assigned to it, and how each of them is spoken to.
#[derive(Debug, PartialEq)]
pub struct Cluster {
    pub(crate) settings: Arc<Settings>,
    pub(crate) assignment: Arc<Assignment>,
    /// By [`Endpoint::group`].
    pub(crate) reach: Box<[Reach]>,
    /// In the order in which they are used: by priority, those that are well before those that are degraded.
    pub(crate) tiers: Box<[Tier]>,
}

/// How the endpoints of one group of an assignment are reached.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Reach {
    pub(crate) transport: Transport,
    pub(crate) issuers: Option<Arc<[Fingerprint]>>,
}

impl Reach {
    /// Between networks there is no plain text: a gateway finds a service by the server name in TLS.
    fn is_open(&self, via: Via) -> bool {
        via == Via::Direct || self.transport != Transport::Plain
    }
}

/// Endpoints that are used together.
#[derive(Debug, PartialEq)]
pub(crate) struct Tier {
    pub(crate) priority: u8,
    /// Indices into the endpoints.
    pub(crate) members: Box<[u32]>,
    /// The members' shares; `None` when all are equal.
    pub(crate) weights: Option<Box<[u64]>>,
    /// The sum of the shares; the number of members when all are equal.
    pub(crate) total: u64,
}

impl Tier {
    pub(crate) fn weight(&self, at: usize) -> u64 {
        self.weights.as_ref().map_or(1, |weights| weights[at])
    }
}

impl Cluster {
    /// Its name, `outbound|5000||helloworld.default.svc.cluster.local`.
    pub fn name(&self) -> &Arc<str> {
        &self.settings.name
    }

    /// Its settings.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Its endpoints, in the order in which they were assigned.
    pub fn endpoints(&self) -> &[Endpoint] {
        &self.assignment.endpoints
    }

    /// The names of the clusters (of machines) that stand behind an endpoint; empty when nobody said.
    pub fn behind(&self, endpoint: &Endpoint) -> &[Arc<str>] {
        &self.assignment.groups[usize::from(endpoint.group)].behind
    }

    /// Whose address an endpoint's is.
    pub fn via(&self, endpoint: &Endpoint) -> Via {
        self.assignment.groups[usize::from(endpoint.group)].via
    }

    /// How an endpoint is spoken to.
    pub fn transport(&self, endpoint: &Endpoint) -> &Transport {
        &self.reach[usize::from(endpoint.group)].transport
    }

    /// Whether any of its endpoints may be spoken to by TLS.
    pub fn wants_tls(&self) -> bool {
        let mut sockets = self.settings.sockets.iter().map(|(_, transport)| transport);
        *self.default_transport() != Transport::Plain || sockets.any(|t| *t != Transport::Plain)
    }

    /// How somebody is spoken to of whom nothing else is known.
    pub(crate) fn default_transport(&self) -> &Transport {
        &self.settings.default_socket
    }

    /// The intermediates that may speak for who is behind an endpoint, see [`Forward::issuers`](crate::Forward::issuers).
    pub fn issuers(&self, endpoint: &Endpoint) -> Option<&Arc<[Fingerprint]>> {
        self.reach[usize::from(endpoint.group)].issuers.as_ref()
    }
}

/// What a cluster says of itself.
#[derive(Debug, PartialEq)]
pub struct Settings {
    /// Its name.
    pub name: Arc<str>,
    /// Where its endpoints come from.
    pub source: EndpointSource,
    /// How one of them is taken.
    pub balance: Balance,
    /// What is spoken to them.
    pub protocol: UpstreamProtocol,
    /// How long a connection may take to stand.
    pub connect_timeout: Duration,
    /// After how much idle time a connection is closed; `None` is never. Envoy's default is an hour.
    pub idle_timeout: Option<Duration>,
    /// After how many requests a connection is renewed.
    pub max_requests_per_connection: Option<u32>,
    /// TCP keep-alive of its connections.
    pub keepalive: Option<Keepalive>,
    /// When an endpoint is ejected; `None` for never.
    pub outliers: Option<Outliers>,
    /// How much may be under way.
    pub limits: Limits,
    /// Whether the localities' own weights count.
    pub locality_weighted: bool,
    /// HTTP/2 options of its connections.
    pub http2: Http2Options,
    pub(crate) sockets: Box<[(Marks, Transport)]>,
    pub(crate) default_socket: Transport,
    pub(crate) inline: Option<Arc<Assignment>>,
}

/// Where the endpoints of a cluster come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EndpointSource {
    /// Its own resource holds them.
    Inline,
    /// The load assignment of this name.
    Eds(Arc<str>),
    /// There is one: where the caller wanted to go.
    OriginalDestination,
}

/// How one of several endpoints is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Balance {
    /// In turn, by weight.
    RoundRobin,
    /// The one with the fewest requests or connections in flight of so many.
    LeastRequest {
        /// How many are compared; all of them when they are few.
        choices: u32,
    },
    /// By lot, by weight.
    Random,
}

/// `TCP_KEEPIDLE` and its kin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keepalive {
    /// How many probes stay unanswered before the connection is dead.
    pub probes: Option<u32>,
    /// How long a connection is idle before the first probe.
    pub time: Option<Duration>,
    /// The time between probes.
    pub interval: Option<Duration>,
}

/// When an endpoint is taken out of choice, by what this proxy itself sees.
///
/// Source: Envoy's `OutlierDetection`; the defaults are Envoy's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outliers {
    /// So many 5xx in a row (5); with `split` only answers count, without it local failures too.
    pub consecutive_5xx: u32,
    /// In percent, how surely that ejects (100).
    pub enforcing_5xx: u32,
    /// So many 502, 503, 504 in a row (5).
    pub consecutive_gateway: u32,
    /// In percent, how surely that ejects (0).
    pub enforcing_gateway: u32,
    /// Whether local failures are counted apart from answers.
    pub split: bool,
    /// So many local failures in a row (5).
    pub consecutive_local: u32,
    /// In percent, how surely that makes suspect (100).
    pub enforcing_local: u32,
    /// The first ejection's length (30 s); the n-th lasts n times as long.
    pub base: Duration,
    /// The longest ejection (300 s).
    pub max: Duration,
    /// The time without ejection after which one past ejection is forgotten (10 s).
    pub interval: Duration,
    /// In percent of a cluster's endpoints, how many may be ejected at once (10).
    pub max_ejected_percent: u32,
    /// Whether one may be ejected however small the cluster is.
    pub always_one: bool,
}

/// How much may be under way in a cluster, counted per worker.
///
/// Source: Envoy's `CircuitBreakers`; the defaults are Envoy's.
#[derive(Debug, Clone, PartialEq)]
pub struct Limits {
    /// Connections (1024).
    pub max_connections: u32,
    /// Requests that wait for a connection (1024).
    pub max_pending: u32,
    /// Requests (1024).
    pub max_requests: u32,
    /// How many may be repetitions.
    pub retries: RetryLimit,
}

/// How many of the requests under way may be repetitions.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum RetryLimit {
    /// A number.
    Fixed(u32),
    /// A share of those active and pending, and at least a number.
    Budget {
        /// In percent.
        percent: f64,
        /// So many are always free.
        min: u32,
    },
}

/// An address that a cluster may be reached at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Where to connect to.
    pub address: SocketAddr,
    /// Its share, at least 1.
    pub weight: u32,
    /// 0 is the first choice.
    pub priority: u8,
    /// What the control plane says of it.
    pub health: EndpointHealth,
    pub(crate) group: u16,
    pub(crate) locality: u16,
}

/// What the control plane says of an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum EndpointHealth {
    /// It may be chosen.
    Usable,
    /// It may be chosen when there is nobody better.
    Degraded,
    /// It is never chosen: unhealthy, draining or timed out.
    Unusable,
}

/// The endpoints of a cluster, without how they are spoken to.
#[derive(Debug, PartialEq)]
pub(crate) struct Assignment {
    pub(crate) endpoints: Box<[Endpoint]>,
    pub(crate) groups: Box<[Group]>,
    pub(crate) localities: Box<[Locality]>,
}

/// What several endpoints have in common.
#[derive(Debug, PartialEq)]
pub(crate) struct Group {
    pub(crate) behind: Arc<[Arc<str>]>,
    pub(crate) via: Via,
    /// `envoy.transport_socket_match`
    pub(crate) socket: Marks,
}

/// Where endpoints run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Locality {
    pub(crate) name: Arc<str>,
    /// 0 when it has none of its own.
    pub(crate) weight: u32,
}

/// Envoy's bound for `LocalityLbEndpoints.priority`.
const MAX_PRIORITY: u32 = 128;
/// The most endpoints of one cluster.
const MAX_ENDPOINTS: usize = 1 << 20;
/// The most different kinds of endpoint, or of locality, in one assignment.
const MAX_GROUPS: usize = 1 << 16;
/// `ClusterLoadAssignment.endpoints.load_balancing_weight` of localities is scaled so much before it is shared out.
const LOCALITY_SCALE: u128 = 1 << 16;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const IDLE_TIMEOUT: Duration = Duration::from_secs(3600);

/// The key under which our own facts ride in metadata.
const OWN_METADATA: &str = "dev.catamaran";

impl Assignment {
    pub(crate) fn empty() -> Arc<Assignment> {
        Arc::new(Assignment {
            endpoints: Box::new([]),
            groups: Box::new([]),
            localities: Box::new([]),
        })
    }

    pub(crate) fn read(
        assignment: &wire_endpoint::ClusterLoadAssignment,
        interner: &mut Interner,
    ) -> Result<Assignment, Fault> {
        refuse_set!(assignment, named_endpoints);
        if let Some(policy) = &assignment.policy {
            let refuse = || {
                refuse_set!(
                    policy,
                    drop_overloads,
                    endpoint_stale_after,
                    weighted_priority_health,
                );
                Ok(())
            };
            refuse().map_err(|fault: Fault| fault.within("policy"))?;
        }
        let mut reading = AssignmentReading::default();
        each(&assignment.endpoints, "endpoints", |locality| {
            reading.locality(locality, interner)
        })?;
        Ok(Assignment {
            endpoints: reading.endpoints.into(),
            groups: reading.groups.into(),
            localities: reading.localities.into(),
        })
    }
}

#[derive(Default)]
struct AssignmentReading {
    endpoints: Vec<Endpoint>,
    by_address: HashMap<SocketAddr, usize>,
    groups: Vec<Group>,
    localities: Vec<Locality>,
}

impl AssignmentReading {
    fn locality(
        &mut self,
        locality: &wire_endpoint::LocalityLbEndpoints,
        interner: &mut Interner,
    ) -> Result<(), Fault> {
        refuse_set!(locality, lb_config);
        if locality.priority > MAX_PRIORITY {
            return Err(Fault::new(
                "priority",
                format!("is more than {MAX_PRIORITY}"),
            ));
        }
        if self.localities.len() == MAX_GROUPS {
            return Err(Fault::new("", format!("more than {MAX_GROUPS} localities")));
        }
        let at = self.localities.len() as u16;
        let place = locality.locality.clone().unwrap_or_default();
        self.localities.push(Locality {
            name: interner.text(&format!(
                "{}/{}/{}",
                place.region, place.zone, place.sub_zone
            )),
            weight: locality.load_balancing_weight.unwrap_or(0),
        });
        each(&locality.lb_endpoints, "lb_endpoints", |endpoint| {
            self.endpoint(endpoint, locality.priority as u8, at, interner)
        })?;
        Ok(())
    }

    fn endpoint(
        &mut self,
        endpoint: &wire_endpoint::LbEndpoint,
        priority: u8,
        locality: u16,
        interner: &mut Interner,
    ) -> Result<(), Fault> {
        let health = match HealthStatus::try_from(endpoint.health_status) {
            Ok(HealthStatus::Unknown | HealthStatus::Healthy) => EndpointHealth::Usable,
            Ok(HealthStatus::Degraded) => EndpointHealth::Degraded,
            Ok(HealthStatus::Unhealthy | HealthStatus::Draining | HealthStatus::Timeout) => {
                EndpointHealth::Unusable
            }
            Err(_) => {
                return Err(Fault::new(
                    "health_status",
                    format!("{} is not known", endpoint.health_status),
                ));
            }
        };
        let weight = endpoint.load_balancing_weight.unwrap_or(1);
        if weight == 0 {
            return Err(Fault::new("load_balancing_weight", "must not be 0"));
        }
        let Some(wire_endpoint::HostIdentifier::Endpoint(host)) = &endpoint.host_identifier else {
            return Err(Fault::new("endpoint", "an address is needed"));
        };
        let address = (|| {
            refuse_set!(host, additional_addresses);
            socket(host.address.as_ref()).map_err(|fault| fault.within("address"))
        })()
        .map_err(|fault| fault.within("endpoint"))?;
        if address.port() == 0 {
            return Err(Fault::new(
                "endpoint.address.socket_address.port_value",
                "0 is not a port to connect to",
            ));
        }
        let group = self
            .group(endpoint.metadata.as_ref(), interner)
            .map_err(|fault| fault.within("metadata"))?;

        if let Some(&known) = self.by_address.get(&address) {
            let known = &mut self.endpoints[known];
            if known.group == group && known.priority == priority && known.health == health {
                known.weight = known.weight.saturating_add(weight);
            }
            return Ok(());
        }
        if self.endpoints.len() == MAX_ENDPOINTS {
            return Err(Fault::new(
                "",
                format!("more than {MAX_ENDPOINTS} endpoints"),
            ));
        }
        self.by_address.insert(address, self.endpoints.len());
        self.endpoints.push(Endpoint {
            address,
            weight,
            priority,
            health,
            group,
            locality,
        });
        Ok(())
    }

    fn group(
        &mut self,
        metadata: Option<&Metadata>,
        interner: &mut Interner,
    ) -> Result<u16, Fault> {
        let fields = |key: &str| metadata.and_then(|metadata| metadata.filter_metadata.get(key));
        let socket = marks(fields(TRANSPORT_SOCKET_MATCH), interner).ok_or_else(|| {
            Fault::new(
                TRANSPORT_SOCKET_MATCH,
                "only text, numbers and truth values are implemented",
            )
        })?;
        let own = fields(OWN_METADATA);
        let behind = own
            .and_then(|own| own.get("clusters"))
            .and_then(|clusters| clusters.as_list())
            .unwrap_or(&[]);
        let group = Group {
            behind: interner.list(behind.iter().filter_map(|name| name.as_str())),
            via: match own.and_then(|own| own.get("gateway")?.as_bool()) {
                Some(true) => Via::Gateway,
                _ => Via::Direct,
            },
            socket,
        };
        if let Some(at) = self.groups.iter().position(|known| *known == group) {
            return Ok(at as u16);
        }
        if self.groups.len() == MAX_GROUPS {
            return Err(Fault::new(
                "",
                format!("more than {MAX_GROUPS} kinds of endpoint"),
            ));
        }
        self.groups.push(group);
        Ok((self.groups.len() - 1) as u16)
    }
}

impl Settings {
    pub(crate) fn read(
        cluster: &wire::Cluster,
        interner: &mut Interner,
    ) -> Result<Settings, Fault> {
        refuse_set!(
            cluster,
            transport_socket_matcher,
            health_checks,
            upstream_bind_config,
            lb_subset_config,
            filters,
            load_balancing_policy,
            upstream_config,
            connection_pool_per_downstream_connection,
            queuing_policies,
            close_connections_on_host_health_failure,
        );
        if let Some(options) = &cluster.upstream_http_protocol_options {
            auto_names(options).map_err(|fault| fault.within("upstream_http_protocol_options"))?;
        }
        let source = source(cluster, interner)?;
        let balance = balance(cluster, &source)?;
        let locality_weighted = common_balance(cluster)?;
        let mut http = HttpSettings::of_cluster(cluster)?;
        for (key, options) in &cluster.typed_extension_protocol_options {
            let within =
                |fault: Fault| fault.within(format!("typed_extension_protocol_options[{key}]"));
            if key != UPSTREAM_HTTP_OPTIONS {
                return Err(within(Fault::new("", "is not implemented")));
            }
            let options: wire::UpstreamHttpOptions = unpack(options).map_err(within)?;
            http.take(&options).map_err(within)?;
        }
        let sockets = each(
            &cluster.transport_socket_matches,
            "transport_socket_matches",
            |socket| {
                let wanted = marks(socket.r#match.as_ref(), interner).ok_or_else(|| {
                    Fault::new(
                        "match",
                        "only text, numbers and truth values are implemented",
                    )
                })?;
                let transport = Transport::read(socket.transport_socket.as_ref(), interner)
                    .map_err(|fault| fault.within("transport_socket"))?;
                Ok((wanted, transport))
            },
        )?;
        let inline = cluster
            .load_assignment
            .as_ref()
            .filter(|_| source == EndpointSource::Inline)
            .map(|assignment| Assignment::read(assignment, interner).map(Arc::new))
            .transpose()
            .map_err(|fault| fault.within("load_assignment"))?;
        Ok(Settings {
            name: interner.text(&cluster.name),
            source,
            balance,
            protocol: http.protocol,
            connect_timeout: span(cluster.connect_timeout, "connect_timeout")?
                .filter(|span| !span.is_zero())
                .unwrap_or(CONNECT_TIMEOUT),
            idle_timeout: http.idle_timeout,
            max_requests_per_connection: http.max_requests,
            keepalive: cluster
                .upstream_connection_options
                .as_ref()
                .and_then(|options| options.tcp_keepalive.as_ref())
                .map(|keepalive| Keepalive {
                    probes: keepalive.keepalive_probes,
                    time: keepalive
                        .keepalive_time
                        .map(|s| Duration::from_secs(s.into())),
                    interval: keepalive
                        .keepalive_interval
                        .map(|s| Duration::from_secs(s.into())),
                }),
            outliers: cluster
                .outlier_detection
                .as_ref()
                .map(Outliers::read)
                .transpose()
                .map_err(|fault| fault.within("outlier_detection"))?,
            limits: Limits::read(cluster.circuit_breakers.as_ref())
                .map_err(|fault| fault.within("circuit_breakers"))?,
            locality_weighted,
            http2: http.http2,
            sockets: sockets.into(),
            default_socket: Transport::read(cluster.transport_socket.as_ref(), interner)
                .map_err(|fault| fault.within("transport_socket"))?,
            inline,
        })
    }

    /// Envoy's rule: the first match whose every field the endpoint has, else the cluster's own socket.
    fn socket(&self, marks: &Marks) -> &Transport {
        self.sockets
            .iter()
            .find(|(wanted, _)| wanted.iter().all(|field| marks.contains(field)))
            .map_or(&self.default_socket, |(_, transport)| transport)
    }
}

fn source(cluster: &wire::Cluster, interner: &mut Interner) -> Result<EndpointSource, Fault> {
    let kind = match &cluster.cluster_discovery_type {
        None => wire::DiscoveryType::Static,
        Some(wire::ClusterDiscoveryType::Type(number)) => wire::DiscoveryType::try_from(*number)
            .map_err(|_| Fault::new("type", format!("{number} is not known")))?,
        Some(wire::ClusterDiscoveryType::ClusterType(custom)) => {
            return Err(Fault::new(
                "cluster_type",
                format!("{:?} is not implemented", custom.name),
            ));
        }
    };
    Ok(match kind {
        wire::DiscoveryType::Static => EndpointSource::Inline,
        wire::DiscoveryType::Eds => {
            let service = cluster
                .eds_cluster_config
                .as_ref()
                .map_or("", |config| config.service_name.as_str());
            EndpointSource::Eds(interner.text(if service.is_empty() {
                cluster.name.as_str()
            } else {
                service
            }))
        }
        wire::DiscoveryType::OriginalDst => EndpointSource::OriginalDestination,
        wire::DiscoveryType::StrictDns | wire::DiscoveryType::LogicalDns => {
            return Err(Fault::new("type", "names are not resolved here"));
        }
    })
}

fn balance(cluster: &wire::Cluster, source: &EndpointSource) -> Result<Balance, Fault> {
    let policy = wire::LbPolicy::try_from(cluster.lb_policy)
        .map_err(|_| Fault::new("lb_policy", format!("{} is not known", cluster.lb_policy)))?;
    let mut choices = 2;
    match &cluster.lb_config {
        None => {}
        Some(wire::LbConfig::LeastRequestLbConfig(config)) => {
            let refuse = || {
                refuse_set!(config, active_request_bias, slow_start_config);
                Ok(())
            };
            refuse().map_err(|fault: Fault| fault.within("least_request_lb_config"))?;
            choices = config.choice_count.unwrap_or(2).max(2);
        }
        Some(wire::LbConfig::RoundRobinLbConfig(config)) => {
            unset(
                config.slow_start_config.is_some(),
                "round_robin_lb_config.slow_start_config",
            )?;
        }
        Some(wire::LbConfig::OriginalDstLbConfig(config)) => {
            let refuse = || {
                refuse_set!(
                    config,
                    use_http_header,
                    http_header_name,
                    upstream_port_override,
                    metadata_key,
                );
                Ok(())
            };
            refuse().map_err(|fault: Fault| fault.within("original_dst_lb_config"))?;
        }
        Some(wire::LbConfig::RingHashLbConfig(_) | wire::LbConfig::MaglevLbConfig(_)) => {
            return Err(Fault::new("lb_config", "hashing is not implemented"));
        }
    }
    match policy {
        wire::LbPolicy::RoundRobin => Ok(Balance::RoundRobin),
        wire::LbPolicy::LeastRequest => Ok(Balance::LeastRequest { choices }),
        wire::LbPolicy::Random => Ok(Balance::Random),
        wire::LbPolicy::ClusterProvided if *source == EndpointSource::OriginalDestination => {
            Ok(Balance::RoundRobin)
        }
        other => Err(Fault::new(
            "lb_policy",
            format!("{other:?} is not implemented"),
        )),
    }
}

/// Whether localities' own weights count.
fn common_balance(cluster: &wire::Cluster) -> Result<bool, Fault> {
    let Some(config) = &cluster.common_lb_config else {
        return Ok(false);
    };
    let read = || {
        let panic = config.healthy_panic_threshold.as_ref();
        if panic.is_some_and(|percent| percent.value != 0.0) {
            return Err(Fault::new(
                "healthy_panic_threshold",
                "endpoints that are out are used when nothing else is left, so only 0 is implemented",
            ));
        }
        refuse_set!(
            config,
            close_connections_on_host_set_change,
            override_host_status,
        );
        match &config.locality_config_specifier {
            None => Ok(false),
            Some(wire::LocalityConfigSpecifier::LocalityWeightedLbConfig(_)) => Ok(true),
            Some(wire::LocalityConfigSpecifier::ZoneAwareLbConfig(_)) => {
                Err(Fault::new("zone_aware_lb_config", "is not implemented"))
            }
        }
    };
    read().map_err(|fault: Fault| fault.within("common_lb_config"))
}

/// What a cluster says of HTTP, in its old fields or its new ones.
struct HttpSettings {
    protocol: UpstreamProtocol,
    idle_timeout: Option<Duration>,
    max_requests: Option<u32>,
    http2: Http2Options,
}

impl HttpSettings {
    fn of_cluster(cluster: &wire::Cluster) -> Result<HttpSettings, Fault> {
        let mut settings = HttpSettings {
            protocol: UpstreamProtocol::Http1,
            idle_timeout: Some(IDLE_TIMEOUT),
            max_requests: cluster.max_requests_per_connection.filter(|n| *n > 0),
            http2: Http2Options::default(),
        };
        if let Some(options) = &cluster.http_protocol_options {
            http1(options).map_err(|fault| fault.within("http_protocol_options"))?;
        }
        if let Some(options) = &cluster.http2_protocol_options {
            settings.protocol = UpstreamProtocol::Http2;
            settings.http2 = Http2Options::read(options)
                .map_err(|fault| fault.within("http2_protocol_options"))?;
        }
        match wire::ClusterProtocolSelection::try_from(cluster.protocol_selection) {
            Ok(wire::ClusterProtocolSelection::UseConfiguredProtocol) => {}
            Ok(wire::ClusterProtocolSelection::UseDownstreamProtocol) => {
                settings.protocol = UpstreamProtocol::AsDownstream;
            }
            Err(_) => return Err(Fault::new("protocol_selection", "is not known")),
        }
        if let Some(common) = &cluster.common_http_protocol_options {
            settings
                .common(common)
                .map_err(|fault| fault.within("common_http_protocol_options"))?;
        }
        Ok(settings)
    }

    fn common(&mut self, common: &catamaran_wire::core::HttpProtocolOptions) -> Result<(), Fault> {
        refuse_set!(
            common,
            max_connection_duration,
            max_stream_duration,
            max_headers_count,
            max_response_headers_kb,
            headers_with_underscores_action,
        );
        self.idle_timeout = span_or(common.idle_timeout, "idle_timeout", self.idle_timeout)?;
        if let Some(most) = common.max_requests_per_connection {
            self.max_requests = Some(most).filter(|n| *n > 0);
        }
        Ok(())
    }

    fn take(&mut self, options: &wire::UpstreamHttpOptions) -> Result<(), Fault> {
        refuse_set!(
            options,
            http_filters,
            header_validation_config,
            outlier_detection,
            request_mirror_policies,
            retry_policy,
        );
        if let Some(names) = &options.upstream_http_protocol_options {
            auto_names(names).map_err(|fault| fault.within("upstream_http_protocol_options"))?;
        }
        if let Some(common) = &options.common_http_protocol_options {
            self.common(common)
                .map_err(|fault| fault.within("common_http_protocol_options"))?;
        }
        let (first, second, third, protocol) = match &options.upstream_protocol_options {
            None => return Ok(()),
            Some(wire::UpstreamProtocolOptions::ExplicitHttpConfig(explicit)) => {
                match &explicit.protocol_config {
                    None => (None, None, None, UpstreamProtocol::Http1),
                    Some(wire::ProtocolConfig::HttpProtocolOptions(first)) => {
                        (Some(first), None, None, UpstreamProtocol::Http1)
                    }
                    Some(wire::ProtocolConfig::Http2ProtocolOptions(second)) => {
                        (None, Some(second), None, UpstreamProtocol::Http2)
                    }
                    Some(wire::ProtocolConfig::Http3ProtocolOptions(third)) => {
                        (None, None, Some(third), UpstreamProtocol::Http2)
                    }
                }
            }
            Some(wire::UpstreamProtocolOptions::UseDownstreamProtocolConfig(both)) => (
                both.http_protocol_options.as_ref(),
                both.http2_protocol_options.as_ref(),
                both.http3_protocol_options.as_ref(),
                UpstreamProtocol::AsDownstream,
            ),
            Some(wire::UpstreamProtocolOptions::AutoConfig(auto)) => (
                auto.http_protocol_options.as_ref(),
                auto.http2_protocol_options.as_ref(),
                auto.http3_protocol_options.as_ref(),
                UpstreamProtocol::Negotiated,
            ),
        };
        unset(third.is_some(), "http3_protocol_options")?;
        if let Some(first) = first {
            http1(first).map_err(|fault| fault.within("http_protocol_options"))?;
        }
        if let Some(second) = second {
            self.http2 = Http2Options::read(second)
                .map_err(|fault| fault.within("http2_protocol_options"))?;
        }
        self.protocol = protocol;
        Ok(())
    }
}

fn auto_names(options: &catamaran_wire::core::UpstreamHttpProtocolOptions) -> Result<(), Fault> {
    refuse_set!(
        options,
        auto_sni,
        auto_san_validation,
        override_auto_sni_header,
    );
    Ok(())
}

impl Outliers {
    fn read(outliers: &wire::OutlierDetection) -> Result<Outliers, Fault> {
        refuse_set!(outliers, monitors);
        unset(
            outliers.detect_degraded_hosts == Some(true),
            "detect_degraded_hosts",
        )?;
        for (percent, field) in [
            (outliers.enforcing_success_rate, "enforcing_success_rate"),
            (
                outliers.enforcing_local_origin_success_rate,
                "enforcing_local_origin_success_rate",
            ),
            (
                outliers.enforcing_failure_percentage,
                "enforcing_failure_percentage",
            ),
            (
                outliers.enforcing_failure_percentage_local_origin,
                "enforcing_failure_percentage_local_origin",
            ),
        ] {
            if percent.is_some_and(|percent| percent > 0) {
                return Err(Fault::new(field, "comparing endpoints is not implemented"));
            }
        }
        let base = span(outliers.base_ejection_time, "base_ejection_time")?
            .unwrap_or(Duration::from_secs(30));
        Ok(Outliers {
            consecutive_5xx: outliers.consecutive_5xx.unwrap_or(5),
            enforcing_5xx: outliers.enforcing_consecutive_5xx.unwrap_or(100),
            consecutive_gateway: outliers.consecutive_gateway_failure.unwrap_or(5),
            enforcing_gateway: outliers.enforcing_consecutive_gateway_failure.unwrap_or(0),
            split: outliers.split_external_local_origin_errors,
            consecutive_local: outliers.consecutive_local_origin_failure.unwrap_or(5),
            enforcing_local: outliers
                .enforcing_consecutive_local_origin_failure
                .unwrap_or(100),
            base,
            max: span(outliers.max_ejection_time, "max_ejection_time")?
                .unwrap_or(Duration::from_secs(300))
                .max(base),
            interval: span(outliers.interval, "interval")?
                .filter(|span| !span.is_zero())
                .unwrap_or(Duration::from_secs(10)),
            max_ejected_percent: outliers.max_ejection_percent.unwrap_or(10).min(100),
            always_one: outliers.always_eject_one_host.unwrap_or(false),
        })
    }
}

/// Envoy's default for each threshold.
const LIMIT: u32 = 1024;

impl Default for Limits {
    fn default() -> Self {
        Limits {
            max_connections: LIMIT,
            max_pending: LIMIT,
            max_requests: LIMIT,
            retries: RetryLimit::DEFAULT,
        }
    }
}

impl RetryLimit {
    /// A fifth of what is under way, and at least three: Envoy's budget, where it has one.
    pub const DEFAULT: RetryLimit = RetryLimit::Budget {
        percent: 20.0,
        min: 3,
    };
}

impl Limits {
    fn read(breakers: Option<&wire::CircuitBreakers>) -> Result<Limits, Fault> {
        let Some(breakers) = breakers else {
            return Ok(Limits::default());
        };
        refuse_set!(breakers, per_host_thresholds);
        let default = breakers
            .thresholds
            .iter()
            .find(|thresholds| thresholds.priority == i32::from(RoutingPriority::Default));
        let Some(thresholds) = default else {
            return Ok(Limits::default());
        };
        let retries = match (&thresholds.retry_budget, thresholds.max_retries) {
            (Some(budget), _) => {
                let percent = budget.budget_percent.as_ref().map_or(20.0, |p| p.value);
                if !(0.0..=100.0).contains(&percent) {
                    return Err(Fault::new(
                        "thresholds.retry_budget.budget_percent",
                        format!("{percent} is not between 0 and 100"),
                    ));
                }
                unset(
                    is_long(budget.budget_interval),
                    "thresholds.retry_budget.budget_interval",
                )?;
                RetryLimit::Budget {
                    percent,
                    min: budget.min_retry_concurrency.unwrap_or(3),
                }
            }
            (None, Some(most)) => RetryLimit::Fixed(most),
            (None, None) => RetryLimit::DEFAULT,
        };
        Ok(Limits {
            max_connections: thresholds.max_connections.unwrap_or(LIMIT),
            max_pending: thresholds.max_pending_requests.unwrap_or(LIMIT),
            max_requests: thresholds.max_requests.unwrap_or(LIMIT),
            retries,
        })
    }
}

/// A budget over requests of some past time, rather than those under way.
fn is_long(interval: Option<catamaran_wire::well_known::Duration>) -> bool {
    interval.is_some_and(|interval| interval.seconds != 0 || interval.nanos != 0)
}

/// The fingerprints of a list of issuers.
pub(crate) fn fingerprints(issuers: &Issuers) -> Result<Arc<[Fingerprint]>, Fault> {
    each(&issuers.fingerprints, "fingerprints", |bytes| {
        <[u8; 32]>::try_from(&bytes[..])
            .map(Fingerprint)
            .map_err(|_| Fault::new("", format!("{} bytes are not a SHA-256", bytes.len())))
    })
    .map(Into::into)
}

impl Cluster {
    /// Puts settings and endpoints together.
    pub(crate) fn join(
        settings: Arc<Settings>,
        assignment: Arc<Assignment>,
        issuing: &Issuing<'_>,
    ) -> Cluster {
        let reach: Box<[Reach]> = assignment
            .groups
            .iter()
            .map(|group| Reach {
                transport: settings.socket(&group.socket).clone(),
                issuers: issuing.of(&group.behind),
            })
            .collect();
        let tiers = tiers(&settings, &assignment, &reach);
        Cluster {
            settings,
            assignment,
            reach,
            tiers,
        }
    }
}

fn tiers(settings: &Settings, assignment: &Assignment, reach: &[Reach]) -> Box<[Tier]> {
    let open = |endpoint: &Endpoint| {
        let group = usize::from(endpoint.group);
        reach[group].is_open(assignment.groups[group].via)
    };
    let locality_weight =
        |endpoint: &Endpoint| assignment.localities[usize::from(endpoint.locality)].weight;
    let by_locality = settings.locality_weighted
        && assignment
            .localities
            .iter()
            .any(|locality| locality.weight > 0);
    let mut order: Vec<(EndpointHealth, u8, u32)> = (0u32..)
        .zip(&assignment.endpoints)
        .filter(|(_, endpoint)| endpoint.health != EndpointHealth::Unusable && open(endpoint))
        .filter(|(_, endpoint)| !by_locality || locality_weight(endpoint) > 0)
        .map(|(at, endpoint)| (endpoint.health, endpoint.priority, at))
        .collect();
    order.sort();
    order
        .chunk_by(|a, b| (a.0, a.1) == (b.0, b.1))
        .map(|members| tier(by_locality, assignment, members))
        .collect()
}

fn tier(by_locality: bool, assignment: &Assignment, members: &[(EndpointHealth, u8, u32)]) -> Tier {
    let endpoint = |at: u32| &assignment.endpoints[at as usize];
    let mut weights: Vec<u64> = if by_locality {
        let mut sums: HashMap<u16, u128> = HashMap::new();
        for (_, _, at) in members {
            *sums.entry(endpoint(*at).locality).or_default() += u128::from(endpoint(*at).weight);
        }
        members
            .iter()
            .map(|(_, _, at)| {
                let endpoint = endpoint(*at);
                let locality = &assignment.localities[usize::from(endpoint.locality)];
                let share =
                    u128::from(locality.weight) * u128::from(endpoint.weight) * LOCALITY_SCALE
                        / sums[&endpoint.locality];
                u64::try_from(share).unwrap_or(u64::MAX).clamp(1, 1 << 40)
            })
            .collect()
    } else {
        members
            .iter()
            .map(|(_, _, at)| u64::from(endpoint(*at).weight))
            .collect()
    };
    let equal = weights.windows(2).all(|pair| pair[0] == pair[1]);
    if equal {
        weights.clear();
    }
    Tier {
        priority: members[0].1,
        members: members.iter().map(|(_, _, at)| *at).collect(),
        total: if equal {
            members.len() as u64
        } else {
            weights.iter().sum()
        },
        weights: (!equal).then(|| weights.into()),
    }
}
