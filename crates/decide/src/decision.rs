use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use catamaran_model::Fingerprint;

use crate::{Chain, Cluster, Listener, RetryPolicy, RouteTable, Transport};

/// Where a request or connection goes, as whom, and why.
#[derive(Debug, Clone)]
pub enum Decision {
    /// To an endpoint.
    Forward(Forward),
    /// Answered here, as a route says.
    Respond(Respond),
    /// Nowhere.
    Reject(Reject),
}

/// An endpoint, and how it is spoken to. Cheap to build: handles and numbers.
#[derive(Debug, Clone)]
pub struct Forward {
    /// The cluster.
    pub cluster: Arc<Cluster>,
    /// The endpoint in it. Hand it to [`View::begin`](crate::View::begin) and [`View::finish`](crate::View::finish).
    pub endpoint: EndpointId,
    /// Plain text, or mTLS to whom.
    pub transport: Transport,
    /// The intermediates through which the peer's chain must run: those that may speak for the clusters standing behind
    /// the endpoint. `None` when one of these clusters says nothing of it (a peer that is not ours, or a stock Istio).
    pub issuers: Option<Arc<[Fingerprint]>>,
    /// What is spoken upstream.
    pub protocol: UpstreamProtocol,
    /// Whether the address is the workload's own or a gateway's.
    pub via: Via,
    /// How long each part may take.
    pub timeouts: Timeouts,
    /// When to try again; `None` for never.
    pub retry: Option<Arc<RetryPolicy>>,
    /// Which attempt of the request this is, from 1.
    pub attempt: u32,
    /// Whether the endpoint is out and this attempt finds out whether it is back.
    pub trial: bool,
    /// Whether the request tells the upstream which attempt it is (`x-envoy-attempt-count`).
    pub attempt_header: bool,
    /// The reason, which prints as one line.
    pub why: Why,
}

/// An endpoint of a cluster. The address is what counts; the index is where it stands in the table it came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct EndpointId {
    /// Its place in [`Cluster::endpoints`]; for a cluster of original destinations 0.
    pub index: u32,
    /// Where to connect to.
    pub address: SocketAddr,
}

/// Whose address an endpoint's is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Via {
    /// The workload's own.
    Direct,
    /// That of a gateway of another network; several workloads stand behind it.
    Gateway,
}

/// What is spoken on the connection to the endpoint, inside TLS if there is TLS.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum UpstreamProtocol {
    /// HTTP/1.1.
    #[default]
    Http1,
    /// HTTP/2.
    Http2,
    /// What the caller speaks.
    AsDownstream,
    /// What TLS negotiates: HTTP/2 when the peer takes `h2` or `istio-h2`, else HTTP/1.1; HTTP/1.1 without TLS.
    Negotiated,
    /// No HTTP: the connection's bytes.
    Opaque,
}

/// How long each part may take; `None` is without end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// Until a new connection stands, without TLS.
    pub connect: Duration,
    /// From the whole request to the whole answer, all attempts together.
    pub request: Option<Duration>,
    /// One attempt.
    pub per_try: Option<Duration>,
    /// Without a byte in either direction.
    pub idle: Option<Duration>,
    /// From the request's head to its end.
    pub whole: Option<Duration>,
}

/// An answer that a route gives by itself.
#[derive(Debug, Clone)]
pub struct Respond {
    /// The HTTP status.
    pub status: u16,
    /// The body, often empty.
    pub body: Bytes,
    /// The reason.
    pub why: Why,
}

/// Not carried.
#[derive(Debug, Clone)]
pub struct Reject {
    /// The HTTP status where HTTP is spoken; other connections are closed.
    pub status: u16,
    /// The flag in the access log.
    pub flag: Flag,
    /// What stood in the way.
    pub cause: Cause,
    /// How far the way went.
    pub why: Why,
}

impl fmt::Display for Reject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}", self.status, self.flag, self.cause)?;
        if self.why.listener.is_some() {
            write!(f, " ({})", self.why)?;
        }
        Ok(())
    }
}

/// What stood in the way of a request or connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cause {
    /// Nothing listens for this destination.
    NoListener(SocketAddr),
    /// No HTTP service has the port that the authority names.
    NoProxiedPort(u16),
    /// The listener has no chain for such a connection.
    NoChain,
    /// The chain demands a certificate, and the caller showed none.
    NoPeer,
    /// The caller's identity is none of those that the chain takes.
    OtherPeer,
    /// The chain carries HTTP and no request is given, or the other way round.
    WrongLayer,
    /// The route configuration has not come yet.
    NoRouteTable(Arc<str>),
    /// No virtual host has the authority.
    NoHost,
    /// The virtual host has no route for the request.
    NoRoute,
    /// The cluster has not come yet, or never will.
    NoCluster(Arc<str>),
    /// The cluster has no endpoint that may be used.
    NoEndpoint,
    /// The cluster sends every request to where the caller wanted to go, and nothing says where that is.
    NoDestination,
    /// The cluster has as many requests or connections as it may have.
    Overflow,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Cause::NoListener(address) => write!(f, "nothing listens for {address}"),
            Cause::NoProxiedPort(port) => write!(f, "no service is known with HTTP on port {port}"),
            Cause::NoChain => f.write_str("no filter chain takes such a connection"),
            Cause::NoPeer => f.write_str("a client certificate is demanded and none was shown"),
            Cause::OtherPeer => f.write_str("the caller's identity is not one of those allowed"),
            Cause::WrongLayer => f.write_str("the chain does not carry what was asked"),
            Cause::NoRouteTable(name) => write!(f, "route configuration {name:?} has not arrived"),
            Cause::NoHost => f.write_str("no virtual host has this authority"),
            Cause::NoRoute => f.write_str("no route of the virtual host takes this request"),
            Cause::NoCluster(name) => write!(f, "cluster {name:?} has not arrived"),
            Cause::NoEndpoint => f.write_str("no endpoint may be used"),
            Cause::NoDestination => f.write_str("the original destination is not known"),
            Cause::Overflow => f.write_str("the cluster's limit is reached"),
        }
    }
}

/// Envoy's response flags, those that we give.
///
/// Source: Envoy, "Access logging", `%RESPONSE_FLAGS%`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Flag {
    /// NR
    NoRoute,
    /// NC
    NoCluster,
    /// UH
    NoHealthyUpstream,
    /// UF
    UpstreamConnectionFailure,
    /// UO
    UpstreamOverflow,
    /// UC
    UpstreamConnectionTermination,
    /// UR
    UpstreamRemoteReset,
    /// UT
    UpstreamRequestTimeout,
    /// URX
    UpstreamRetryLimitExceeded,
    /// DC
    DownstreamConnectionTermination,
    /// DPE
    DownstreamProtocolError,
    /// SI
    StreamIdleTimeout,
    /// UAEX
    Unauthorized,
}

impl fmt::Display for Flag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Flag::NoRoute => "NR",
            Flag::NoCluster => "NC",
            Flag::NoHealthyUpstream => "UH",
            Flag::UpstreamConnectionFailure => "UF",
            Flag::UpstreamOverflow => "UO",
            Flag::UpstreamConnectionTermination => "UC",
            Flag::UpstreamRemoteReset => "UR",
            Flag::UpstreamRequestTimeout => "UT",
            Flag::UpstreamRetryLimitExceeded => "URX",
            Flag::DownstreamConnectionTermination => "DC",
            Flag::DownstreamProtocolError => "DPE",
            Flag::StreamIdleTimeout => "SI",
            Flag::Unauthorized => "UAEX",
        })
    }
}

/// Why a decision is what it is: handles and numbers, put into words only when printed.
///
/// `route 5000/helloworld.default.svc.cluster.local:5000 / -> outbound|5000||helloworld.default.svc.cluster.local, endpoint
/// 2 of 3 by round robin, 1 out`
#[derive(Debug, Clone, Default)]
pub struct Why {
    /// The listener, once there is one.
    pub listener: Option<Arc<Listener>>,
    /// Its chain.
    pub chain: Option<Arc<Chain>>,
    /// The route, where HTTP is routed.
    pub route: Option<RouteId>,
    /// The cluster.
    pub cluster: Option<Arc<Cluster>>,
    /// How the endpoint was chosen.
    pub pick: Option<Pick>,
}

/// A route in a route configuration.
#[derive(Debug, Clone)]
pub struct RouteId {
    /// The route configuration.
    pub table: Arc<RouteTable>,
    /// The index of the virtual host in it.
    pub host: u32,
    /// The index of the route in the host; `None` when none matched.
    pub route: Option<u32>,
}

/// How an endpoint was chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pick {
    /// Its place among all endpoints of the cluster, from 0.
    pub index: u32,
    /// How many endpoints the cluster has.
    pub total: u32,
    /// How many of them were up for choice.
    pub candidates: u32,
    /// How many are ejected or suspect.
    pub out: u32,
    /// The priority that was used; 0 is the first choice.
    pub priority: u8,
    /// The method.
    pub by: By,
    /// What made the choice special, if anything.
    pub special: Special,
}

/// How one of several endpoints is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// In turn, equal weights.
    RoundRobin,
    /// In turn, by weight.
    WeightedRoundRobin,
    /// Fewest requests in flight, all compared.
    LeastRequests,
    /// Fewest requests in flight of a few.
    Choices,
    /// By lot.
    Random,
    /// Where the caller wanted to go.
    OriginalDestination,
}

/// What is special about a choice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Special {
    /// Nothing.
    None,
    /// The endpoint is suspect, its time is over, and this attempt tries it.
    Trial,
    /// Every endpoint is ejected or suspect, so all of them are used.
    LastWay,
    /// A further attempt, to an endpoint of another cluster than the last.
    OtherCluster,
    /// A further attempt, to another endpoint.
    OtherEndpoint,
    /// A further attempt, and there was no endpoint that was not tried already.
    SameAgain,
}

impl fmt::Display for Pick {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let by = match self.by {
            By::RoundRobin => "round robin",
            By::WeightedRoundRobin => "weighted round robin",
            By::LeastRequests => "fewest requests",
            By::Choices => "fewest requests of some",
            By::Random => "lot",
            By::OriginalDestination => return f.write_str("the original destination"),
        };
        write!(
            f,
            "endpoint {} of {} by {by}",
            u64::from(self.index) + 1,
            self.total
        )?;
        if self.out > 0 {
            write!(f, ", {} out", self.out)?;
        }
        if self.priority > 0 {
            write!(f, ", priority {}", self.priority)?;
        }
        f.write_str(match self.special {
            Special::None => "",
            Special::Trial => ", on trial",
            Special::LastWay => ", the last way",
            Special::OtherCluster => ", another cluster than before",
            Special::OtherEndpoint => ", another endpoint than before",
            Special::SameAgain => ", already tried",
        })
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = 0;
        if let Some(route) = &self.route {
            write!(f, "route {route}")?;
            parts += 1;
        } else if let Some(listener) = &self.listener {
            write!(f, "listener {}", listener.name())?;
            if let Some(chain) = self.chain.as_ref().filter(|chain| !chain.name().is_empty()) {
                write!(f, " chain {}", chain.name())?;
            }
            parts += 1;
        }
        if let Some(cluster) = &self.cluster {
            let arrow = if parts > 0 { " -> " } else { "" };
            write!(f, "{arrow}{}", cluster.name())?;
            parts += 1;
        }
        if let Some(pick) = &self.pick {
            let comma = if parts > 0 { ", " } else { "" };
            write!(f, "{comma}{pick}")?;
        }
        Ok(())
    }
}

impl fmt::Display for RouteId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.table.describe(self.host, self.route, f)
    }
}
