use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use catamaran_model::Fingerprint;

use crate::{Transport, UpstreamProtocol, Via};

/// A cluster as it is used: its settings, the endpoints assigned to it, and how each of them is spoken to.
#[derive(Debug)]
pub struct Cluster {
    pub(crate) settings: Arc<Settings>,
    pub(crate) assignment: Arc<Assignment>,
    /// By [`Endpoint::group`].
    pub(crate) reach: Box<[Reach]>,
}

/// How the endpoints of one group of an assignment are reached.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Reach {
    pub(crate) transport: Transport,
    pub(crate) issuers: Option<Arc<[Fingerprint]>>,
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
    /// After how much idle time a connection is closed; `None` is Envoy's default, an hour.
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
    pub(crate) sockets: Box<[(catamaran_wire::well_known::Struct, Transport)]>,
    pub(crate) default_socket: Transport,
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
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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
    pub(crate) socket: catamaran_wire::well_known::Struct,
}

/// Where endpoints run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Locality {
    pub(crate) name: Arc<str>,
    pub(crate) weight: u32,
}
