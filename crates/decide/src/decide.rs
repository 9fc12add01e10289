//! The two stages of a decision.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use catamaran_model::Timestamp;

use crate::arrival::split_port;
use crate::balance;
use crate::decision::RouteId;
use crate::table::{Action, Direction, StripPort, WeightedClusters};
use crate::view::mix;
use crate::{
    Arrival, Attempt, By, Cause, Chain, Cluster, Connection, Decision, EndpointId, EndpointSource,
    Entry, Flag, Forward, Handler, Http, Listener, Pick, Reject, Respond, RetryPolicy, RouteTable,
    Routes, Special, Table, Timeouts, Transport, UpstreamProtocol, Via, View, Why, allows,
    normalize_path,
};

/// The way of a connection: the listener and chain that have it. A handle that stays good when the table changes.
#[derive(Debug, Clone)]
pub struct Way {
    /// The listener, after the hand-over by original destination.
    pub listener: Arc<Listener>,
    /// Its chain.
    pub chain: Arc<Chain>,
    /// Where the caller wanted to go, if it said so by an address.
    pub destination: Option<SocketAddr>,
}

/// The listener that has connections of an entry; it says whether and how long to look at the first bytes.
///
/// A captured connection is handed to the listener of its very destination, else to that of any address and the same
/// port, else it stays with the listener that captured it. Source: Envoy's `use_original_dst`.
///
/// # Errors
/// When nothing listens there.
pub fn listen(table: &Table, entry: Entry) -> Result<Arc<Listener>, Box<Reject>> {
    listener_of(table, entry).cloned()
}

fn listener_of(table: &Table, entry: Entry) -> Result<&Arc<Listener>, Box<Reject>> {
    let (capturing, destination) = match entry {
        Entry::Outbound { destination } => (table.captured(Direction::Outbound), destination),
        Entry::Inbound { destination } => (table.captured(Direction::Inbound), destination),
        Entry::Gateway { local } => {
            return table
                .listener_at(local)
                .ok_or_else(|| reject(Cause::NoListener(local), Why::default()));
        }
        Entry::HttpProxy { port } => {
            let any = SocketAddr::from(([0, 0, 0, 0], port));
            let listener = table.listener_at(any).filter(|l| !l.hands_off());
            return listener.ok_or_else(|| reject(Cause::NoProxiedPort(port), Why::default()));
        }
    };
    let Some(capturing) = capturing else {
        return Err(reject(Cause::NoListener(destination), Why::default()));
    };
    if !capturing.hands_off() {
        return Ok(capturing);
    }
    Ok(table.listener_at(destination).unwrap_or(capturing))
}

/// The first stage, once per connection: its listener and chain.
///
/// # Errors
/// When nothing listens there, or no chain takes such a connection.
pub fn accept(table: &Table, connection: &Connection<'_>) -> Result<Way, Box<Reject>> {
    let listener = listener_of(table, connection.entry)?;
    let Some(chain) = listener.chain(connection) else {
        let why = Why {
            listener: Some(Arc::clone(listener)),
            ..Why::default()
        };
        return Err(reject(Cause::NoChain, why));
    };
    Ok(Way {
        listener: Arc::clone(listener),
        chain: Arc::clone(chain),
        destination: match connection.entry {
            Entry::Outbound { destination } | Entry::Inbound { destination } => Some(destination),
            Entry::HttpProxy { .. } | Entry::Gateway { .. } => None,
        },
    })
}

/// The second stage, once per attempt: where it goes.
///
/// Nothing is counted: tell the view by [`View::begin`] that the attempt is made.
pub fn decide_on(
    table: &Table,
    view: &View,
    way: &Way,
    attempt: &Attempt<'_>,
    now: Timestamp,
) -> Decision {
    let on = Stage {
        table,
        view,
        way,
        attempt,
        now,
    };
    on.decide()
        .unwrap_or_else(|reject| Decision::Reject(*reject))
}

/// Both stages at once.
pub fn decide(table: &Table, view: &View, arrival: &Arrival<'_>, now: Timestamp) -> Decision {
    match accept(table, &arrival.connection) {
        Ok(way) => decide_on(table, view, &way, &arrival.attempt, now),
        Err(reject) => Decision::Reject(*reject),
    }
}

fn reject(cause: Cause, why: Why) -> Box<Reject> {
    let (status, flag) = match &cause {
        Cause::NoListener(_) | Cause::NoProxiedPort(_) | Cause::NoChain => (404, Flag::NoRoute),
        Cause::NoPeer | Cause::OtherPeer => (403, Flag::Unauthorized),
        Cause::WrongLayer => (400, Flag::DownstreamProtocolError),
        Cause::NoRouteTable(_) => (503, Flag::NoRoute),
        Cause::NoHost | Cause::NoRoute => (404, Flag::NoRoute),
        Cause::NoCluster(_) => (503, Flag::NoCluster),
        Cause::NoEndpoint | Cause::NoDestination => (503, Flag::NoHealthyUpstream),
        Cause::Overflow => (503, Flag::UpstreamOverflow),
    };
    Box::new(Reject {
        status,
        flag,
        cause,
        why,
    })
}

struct Stage<'a> {
    table: &'a Table,
    view: &'a View,
    way: &'a Way,
    attempt: &'a Attempt<'a>,
    now: Timestamp,
}

/// What a route or a TCP proxy says of an attempt.
struct Terms<'a> {
    timeouts: Timeouts,
    retry: Option<&'a Arc<RetryPolicy>>,
    attempt_header: bool,
    http: bool,
}

impl Stage<'_> {
    fn decide(&self) -> Result<Decision, Box<Reject>> {
        let mut why = Why {
            listener: Some(Arc::clone(&self.way.listener)),
            chain: Some(Arc::clone(&self.way.chain)),
            ..Why::default()
        };
        self.check_peer(&why)?;
        match (self.way.chain.handler(), &self.attempt.request) {
            (Handler::Tcp(tcp), None) => {
                let terms = Terms {
                    timeouts: Timeouts {
                        connect: Default::default(),
                        request: None,
                        per_try: None,
                        idle: tcp.idle_timeout,
                        whole: None,
                    },
                    retry: tcp.retry.as_ref(),
                    attempt_header: false,
                    http: false,
                };
                self.forward(&tcp.clusters, 503, terms, why)
            }
            (Handler::Http(http), Some(request)) => {
                let mut request = *request;
                let path = request.path;
                let normal = http.normalize_path.then(|| normalize_path(path));
                if let Some(normal) = &normal {
                    request.path = normal;
                }
                let routes = self.routes(http, &why)?;
                let host = http.authority(request.authority, self.way);
                let Some((at, host)) = routes.host(host) else {
                    return Err(reject(Cause::NoHost, why));
                };
                let found = host.route(&request);
                why.route = Some(RouteId {
                    table: Arc::clone(routes),
                    host: at,
                    route: found.map(|(at, _)| at),
                });
                let Some((_, route)) = found else {
                    return Err(reject(Cause::NoRoute, why));
                };
                match &route.action {
                    Action::Respond { status, body } => Ok(Decision::Respond(Respond {
                        status: *status,
                        body: body.clone(),
                        why,
                    })),
                    Action::Nothing => Err(reject(Cause::NoRoute, why)),
                    Action::Forward(forward) => {
                        let retry = forward.retry.as_ref();
                        let terms = Terms {
                            timeouts: Timeouts {
                                connect: Default::default(),
                                request: forward.timeout,
                                per_try: retry.and_then(|retry| retry.per_try_timeout),
                                idle: match forward.idle_timeout {
                                    Some(Duration::ZERO) => None,
                                    own => own.or(http.stream_idle_timeout),
                                },
                                whole: http.request_timeout,
                            },
                            retry,
                            attempt_header: host.attempt_header,
                            http: true,
                        };
                        self.forward(&forward.clusters, forward.not_found, terms, why)
                    }
                }
            }
            (Handler::Tcp(_), Some(_)) | (Handler::Http(_), None) => {
                Err(reject(Cause::WrongLayer, why))
            }
        }
    }

    /// TLS checked the caller already; what it found must be what the chain takes.
    fn check_peer(&self, why: &Why) -> Result<(), Box<Reject>> {
        let Some(tls) = self.way.chain.tls() else {
            return Ok(());
        };
        match self.attempt.peer {
            None if tls.require_client_certificate => Err(reject(Cause::NoPeer, why.clone())),
            Some(peer) if !allows(&tls.allowed, peer) => Err(reject(Cause::OtherPeer, why.clone())),
            _ => Ok(()),
        }
    }

    fn routes<'s>(&'s self, http: &'s Http, why: &Why) -> Result<&'s Arc<RouteTable>, Box<Reject>> {
        match &http.routes {
            Routes::Inline(routes) => Ok(routes),
            Routes::Named(name) => self
                .table
                .routes(name)
                .ok_or_else(|| reject(Cause::NoRouteTable(Arc::clone(name)), why.clone())),
        }
    }

    fn forward(
        &self,
        clusters: &WeightedClusters,
        not_found: u16,
        terms: Terms<'_>,
        mut why: Why,
    ) -> Result<Decision, Box<Reject>> {
        let name = clusters.take(mix(self.attempt.ticket));
        let Some(cluster) = self.table.cluster(name) else {
            let mut reject = reject(Cause::NoCluster(Arc::clone(name)), why);
            reject.status = not_found;
            return Err(reject);
        };
        why.cluster = Some(Arc::clone(cluster));
        let limits = &cluster.settings().limits;
        let most = if terms.http {
            limits.max_requests
        } else {
            limits.max_connections
        };
        let sight = self.view.sight(cluster);
        if sight.active() >= most {
            return Err(reject(Cause::Overflow, why));
        }
        let picked = match cluster.settings().source {
            EndpointSource::OriginalDestination => self.way.destination.map(original),
            EndpointSource::Inline | EndpointSource::Eds(_) => balance::pick(
                cluster,
                sight,
                self.attempt.tried,
                self.attempt.ticket,
                self.now,
            ),
        };
        let Some((endpoint, pick, trial)) = picked else {
            let cause = match cluster.settings().source {
                EndpointSource::OriginalDestination => Cause::NoDestination,
                EndpointSource::Inline | EndpointSource::Eds(_) => Cause::NoEndpoint,
            };
            return Err(reject(cause, why));
        };
        why.pick = Some(pick);
        let (transport, issuers, via) = reach(cluster, endpoint);
        Ok(Decision::Forward(Forward {
            cluster: Arc::clone(cluster),
            endpoint,
            transport,
            issuers,
            protocol: if terms.http {
                cluster.settings().protocol
            } else {
                UpstreamProtocol::Opaque
            },
            via,
            timeouts: Timeouts {
                connect: cluster.settings().connect_timeout,
                ..terms.timeouts
            },
            retry: terms.retry.cloned(),
            attempt: u32::try_from(self.attempt.tried.len())
                .unwrap_or(u32::MAX)
                .saturating_add(1),
            trial,
            attempt_header: terms.attempt_header,
            why,
        }))
    }
}

fn original(destination: SocketAddr) -> (EndpointId, Pick, bool) {
    let endpoint = EndpointId {
        index: 0,
        address: destination,
    };
    let pick = Pick {
        index: 0,
        total: 1,
        candidates: 1,
        out: 0,
        priority: 0,
        by: By::OriginalDestination,
        special: Special::None,
    };
    (endpoint, pick, false)
}

type Reached = (Transport, Option<Arc<[catamaran_model::Fingerprint]>>, Via);

fn reach(cluster: &Cluster, endpoint: EndpointId) -> Reached {
    match cluster.endpoints().get(endpoint.index as usize) {
        Some(found) => (
            cluster.transport(found).clone(),
            cluster.issuers(found).cloned(),
            cluster.via(found),
        ),
        None => (cluster.default_transport().clone(), None, Via::Direct),
    }
}

impl Http {
    /// The authority as virtual hosts and the upstream are to see it: without its port or last dot where the chain says so.
    pub fn authority<'r>(&self, given: &'r str, way: &Way) -> &'r str {
        let (mut host, port) = match (self.strip_port, split_port(given)) {
            (StripPort::Always, (host, _)) => (host, None),
            (StripPort::Matching, (host, Some(port))) => {
                let here = way.destination.unwrap_or(way.listener.address()).port();
                match port == here {
                    true => (host, None),
                    false => (given, Some(port)),
                }
            }
            _ => (given, None),
        };
        if self.strip_dot && port.is_none() {
            host = host.strip_suffix('.').unwrap_or(host);
        }
        host
    }
}

#[cfg(test)]
mod tests;
