//! What a worker saw, and what follows from it.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use catamaran_model::Timestamp;

use crate::table::{Assignment, Fixed, Lookup};
use crate::{
    Cluster, EndpointHealth, EndpointSource, Forward, Outliers, RetryLimit, Special, Table, Via,
};

/// How an attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// An HTTP answer came, whatever its status.
    Answer {
        /// The HTTP status.
        status: u16,
        /// The `grpc-status` of its head or trailers, if it has one.
        grpc: Option<u32>,
    },
    /// A connection without HTTP was carried to its end.
    Closed,
    /// No connection: refused, unreachable, timed out.
    ConnectFailure,
    /// The connection stood, TLS did not.
    TlsFailure,
    /// TLS stood, and it was somebody else.
    IdentityMismatch,
    /// HTTP/2: the stream was refused or came after GOAWAY; the application never saw it.
    RefusedStream,
    /// The connection or stream went before the head of an answer.
    ResetBeforeHeaders,
    /// The connection or stream went in the middle of an answer.
    ResetAfterHeaders,
    /// The connection was found dead while the request waited (no answer to pings, `TCP_USER_TIMEOUT`).
    Unanswered,
    /// No answer in time, on a connection that lives.
    Timeout,
    /// The caller went away; says nothing of the endpoint.
    Abandoned,
}

/// What a piece of evidence changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing.
    Unchanged,
    /// The endpoint is ejected: too many bad answers.
    Ejected,
    /// The endpoint is suspect: it cannot be reached, or is not who it should be. Its pooled connections are worth nothing.
    Suspect,
    /// The whole gateway address is suspect, for every cluster behind it.
    GatewaySuspect,
    /// The endpoint is back.
    Returned,
}

/// What one worker of one proxy has itself seen: turns, requests in flight, and how endpoints behaved.
///
/// It belongs to whoever carries the requests and is handed to [`decide`](crate::decide) to be read. It survives changes of
/// the table: endpoints are known by address, clusters by name. It holds nothing for a cluster that nobody called.
///
/// Two kinds of evidence, kept apart:
/// - *Answers* (5xx) **eject** an endpoint, as the cluster's `outlier_detection` says: at most its share of the endpoints,
///   never the last one. A gateway's address is never ejected: the answers are those of one of several workloads behind it.
/// - *Local failures* (no connection, no TLS, lost before the head of an answer; a dead connection or the wrong identity
///   at once) make an endpoint **suspect**, however many are suspect already: somebody who cannot be reached is no use. A gateway that
///   cannot be connected to is suspect for every cluster behind it.
///
/// What is out comes back by one attempt at a time, after a time that grows; when everything is out, everything is used.
#[derive(Debug)]
pub struct View {
    seed: u64,
    clusters: Lookup<ClusterView>,
    /// Gateways that could not be connected to.
    gateways: HashMap<SocketAddr, Gateway, Fixed>,
}

#[derive(Debug)]
pub(crate) struct ClusterView {
    /// The assignment that the first of the endpoints are lined up with.
    assignment: Arc<Assignment>,
    endpoints: Vec<EndpointView>,
    /// How many first attempts there were: whose turn it is.
    picks: u64,
    active: u32,
    retries: u32,
    connections: u32,
    pending: u32,
    /// How many endpoints are out.
    out: u32,
}

#[derive(Debug)]
pub(crate) struct EndpointView {
    address: SocketAddr,
    in_flight: u32,
    answers_5xx: u32,
    answers_gateway: u32,
    local: u32,
    out: Option<Out>,
    /// How often it went out without a good while between.
    times: u32,
    returned: Timestamp,
}

#[derive(Debug, Clone, Copy)]
struct Out {
    kind: OutKind,
    until: Timestamp,
    trial: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum OutKind {
    Ejected,
    Suspect,
}

#[derive(Debug)]
struct Gateway {
    failures: u32,
    out: Option<Out>,
    times: u32,
}

/// Whether an endpoint may be chosen now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Now {
    Good,
    /// Its time is over, and nobody tries it yet.
    Trial,
    Out,
}

/// So many connections in a row that a gateway does not take make its address suspect.
const GATEWAY_FAILURES: u32 = 2;
/// The most gateway addresses that are remembered as failing; beyond that those of a cluster are still seen one by one.
const MAX_GATEWAYS: usize = 4096;
/// How long a suspect endpoint is left alone at first.
const SUSPECT_MIN: Duration = Duration::from_secs(1);
/// How long at most.
const SUSPECT_MAX: Duration = Duration::from_secs(30);
/// A suspect endpoint that was well for so long starts again with [`SUSPECT_MIN`].
const SUSPECT_FORGET: Duration = Duration::from_secs(60);

impl Out {
    fn standing(&self, now: Timestamp) -> Now {
        if now >= self.until && !self.trial {
            Now::Trial
        } else {
            Now::Out
        }
    }
}

impl EndpointView {
    fn new(address: SocketAddr) -> Self {
        EndpointView {
            address,
            in_flight: 0,
            answers_5xx: 0,
            answers_gateway: 0,
            local: 0,
            out: None,
            times: 0,
            returned: Timestamp(0),
        }
    }

    pub(crate) fn in_flight(&self) -> u32 {
        self.in_flight
    }

    /// Nothing is held against it and nothing is under way.
    fn is_blank(&self) -> bool {
        self.in_flight == 0
            && self.out.is_none()
            && self.times == 0
            && self.answers_5xx == 0
            && self.local == 0
    }
}

impl ClusterView {
    fn new(cluster: &Cluster) -> Self {
        ClusterView {
            assignment: Arc::clone(&cluster.assignment),
            endpoints: lined_up(&cluster.assignment),
            picks: 0,
            active: 0,
            retries: 0,
            connections: 0,
            pending: 0,
            out: 0,
        }
    }

    fn is_idle(&self) -> bool {
        self.active == 0 && self.connections == 0 && self.pending == 0
    }

    fn place(&self, index: u32, address: SocketAddr) -> Option<usize> {
        let at = index as usize;
        if self.endpoints.get(at).is_some_and(|e| e.address == address) {
            return Some(at);
        }
        self.endpoints.iter().position(|e| e.address == address)
    }

    fn line_up(&mut self, assignment: &Arc<Assignment>) {
        if Arc::ptr_eq(&self.assignment, assignment) {
            return;
        }
        let mut known: HashMap<SocketAddr, EndpointView, Fixed> = HashMap::default();
        for endpoint in std::mem::take(&mut self.endpoints) {
            if !endpoint.is_blank() {
                known.insert(endpoint.address, endpoint);
            }
        }
        self.endpoints = assignment
            .endpoints
            .iter()
            .map(|endpoint| {
                let known = known.remove(&endpoint.address);
                known.unwrap_or_else(|| EndpointView::new(endpoint.address))
            })
            .collect();
        self.assignment = Arc::clone(assignment);
        self.count_out();
    }

    fn count_out(&mut self) {
        self.out = self.endpoints.iter().filter(|e| e.out.is_some()).count() as u32;
    }
}

fn lined_up(assignment: &Assignment) -> Vec<EndpointView> {
    let endpoints = assignment.endpoints.iter();
    endpoints.map(|e| EndpointView::new(e.address)).collect()
}

/// What is known of one cluster, for choosing.
#[derive(Clone, Copy)]
pub(crate) struct Sight<'a> {
    view: &'a View,
    cluster: Option<&'a ClusterView>,
    /// Whether indices of the cluster's endpoints are those of the view.
    aligned: bool,
}

impl Sight<'_> {
    /// Whose turn it is.
    pub(crate) fn turn(&self) -> u64 {
        let picks = self.cluster.map_or(0, |cluster| cluster.picks);
        picks.wrapping_add(self.view.seed)
    }

    pub(crate) fn active(&self) -> u32 {
        self.cluster.map_or(0, |cluster| cluster.active)
    }

    /// Whether nothing is held against any endpoint.
    pub(crate) fn is_clear(&self) -> bool {
        self.view.gateways.is_empty() && self.cluster.is_none_or(|cluster| cluster.out == 0)
    }

    pub(crate) fn endpoint(&self, index: u32, address: SocketAddr) -> Option<&EndpointView> {
        let cluster = self.cluster?;
        let at = if self.aligned {
            index as usize
        } else {
            cluster.place(index, address)?
        };
        cluster.endpoints.get(at)
    }

    pub(crate) fn standing(
        &self,
        index: u32,
        address: SocketAddr,
        via: Via,
        now: Timestamp,
    ) -> Now {
        let own = self
            .endpoint(index, address)
            .and_then(|endpoint| endpoint.out)
            .map_or(Now::Good, |out| out.standing(now));
        if via == Via::Direct || self.view.gateways.is_empty() {
            return own;
        }
        let gateway = self
            .view
            .gateways
            .get(&address)
            .and_then(|gateway| gateway.out)
            .map_or(Now::Good, |out| out.standing(now));
        match (own, gateway) {
            (Now::Out, _) | (_, Now::Out) => Now::Out,
            (Now::Good, Now::Good) => Now::Good,
            _ => Now::Trial,
        }
    }
}

impl View {
    /// An empty view. `seed` differs from worker to worker and proxy to proxy, so that they do not all begin with the
    /// same endpoint; 0 begins with the first.
    pub fn new(seed: u64) -> View {
        View {
            seed,
            clusters: Lookup::default(),
            gateways: HashMap::default(),
        }
    }

    pub(crate) fn sight(&self, cluster: &Cluster) -> Sight<'_> {
        let known = self.clusters.get(cluster.name());
        Sight {
            view: self,
            cluster: known,
            aligned: known.is_some_and(|known| Arc::ptr_eq(&known.assignment, &cluster.assignment)),
        }
    }

    /// Fits the view to a new table: forgets clusters that are gone and have nothing under way, and lines endpoints up.
    /// Call it when the table changes; decisions are right without it, but slower.
    pub fn adopt(&mut self, table: &Table) {
        self.clusters
            .retain(|name, view| match table.cluster(name) {
                Some(cluster) => {
                    view.line_up(&cluster.assignment);
                    true
                }
                None => !view.is_idle(),
            });
    }

    fn known(&mut self, cluster: &Cluster) -> &mut ClusterView {
        self.clusters
            .entry(Arc::clone(cluster.name()))
            .or_insert_with(|| ClusterView::new(cluster))
    }

    /// Says that an attempt begins. Each `begin` is followed by exactly one [`View::finish`].
    pub fn begin(&mut self, forward: &Forward) {
        let cluster = self.known(&forward.cluster);
        cluster.active += 1;
        if forward.attempt > 1 {
            cluster.retries += 1;
        } else {
            cluster.picks = cluster.picks.wrapping_add(1);
        }
        if forward.cluster.settings.source == EndpointSource::OriginalDestination {
            return;
        }
        let endpoint = forward.endpoint;
        let at = match cluster.place(endpoint.index, endpoint.address) {
            Some(at) => at,
            // The table is newer than the view: until the view adopts it, its endpoints stand behind those lined up.
            None => {
                cluster.endpoints.push(EndpointView::new(endpoint.address));
                cluster.endpoints.len() - 1
            }
        };
        cluster.endpoints[at].in_flight += 1;
        if forward.trial {
            if let Some(out) = &mut cluster.endpoints[at].out {
                out.trial = true;
            }
            if let Some(gateway) = self.gateways.get_mut(&endpoint.address)
                && let Some(out) = &mut gateway.out
            {
                out.trial = true;
            }
        }
    }

    /// Says how an attempt ended, and learns from it.
    pub fn finish(&mut self, forward: &Forward, outcome: Outcome, now: Timestamp) -> Verdict {
        let seed = self.seed;
        let endpoint = forward.endpoint;
        let Some(cluster) = self.clusters.get_mut(forward.cluster.name()) else {
            return Verdict::Unchanged;
        };
        cluster.active = cluster.active.saturating_sub(1);
        if forward.attempt > 1 {
            cluster.retries = cluster.retries.saturating_sub(1);
        }
        let evidence = Evidence::of(outcome);
        let mut verdict = Verdict::Unchanged;
        if let Some(at) = cluster.place(endpoint.index, endpoint.address) {
            let was_out = cluster.endpoints[at].out.is_some();
            let known = &mut cluster.endpoints[at];
            known.in_flight = known.in_flight.saturating_sub(1);
            let mut judge = Judge {
                cluster,
                at,
                forward,
                seed,
                now,
            };
            verdict = judge.learn(evidence);
            match (was_out, cluster.endpoints[at].out.is_some()) {
                (false, true) => cluster.out += 1,
                (true, false) => cluster.out -= 1,
                _ => {}
            }
        }
        if forward.via == Via::Gateway {
            let reached = match outcome {
                Outcome::ConnectFailure | Outcome::Unanswered => Some(false),
                Outcome::Abandoned => None,
                _ => Some(true),
            };
            let about_gateway = self.gateway(endpoint.address, reached, forward.trial, now);
            if about_gateway != Verdict::Unchanged && verdict != Verdict::Suspect {
                verdict = about_gateway;
            }
        }
        verdict
    }

    /// Takes in evidence that no attempt stands for, such as that of a probe of a gateway: whether `address` took a
    /// connection.
    pub fn probed(&mut self, address: SocketAddr, reached: bool, now: Timestamp) -> Verdict {
        self.gateway(address, Some(reached), true, now)
    }

    fn gateway(
        &mut self,
        address: SocketAddr,
        reached: Option<bool>,
        trial: bool,
        now: Timestamp,
    ) -> Verdict {
        match reached {
            None => {
                if let Some(out) = self.gateways.get_mut(&address).and_then(|g| g.out.as_mut()) {
                    out.trial &= !trial;
                }
                Verdict::Unchanged
            }
            Some(true) => match self.gateways.get(&address) {
                // An answer on a connection that stood before says nothing of whether one can be opened now.
                Some(gateway) if gateway.out.is_some() && !trial => Verdict::Unchanged,
                Some(gateway) => {
                    let was_out = gateway.out.is_some();
                    self.gateways.remove(&address);
                    if was_out {
                        Verdict::Returned
                    } else {
                        Verdict::Unchanged
                    }
                }
                None => Verdict::Unchanged,
            },
            Some(false) => {
                if !self.gateways.contains_key(&address) && self.gateways.len() == MAX_GATEWAYS {
                    return Verdict::Unchanged;
                }
                let gateway = self.gateways.entry(address).or_insert(Gateway {
                    failures: 0,
                    out: None,
                    times: 0,
                });
                gateway.failures = gateway.failures.saturating_add(1);
                match &gateway.out {
                    Some(_) if !trial => return Verdict::Unchanged,
                    None if gateway.failures < GATEWAY_FAILURES => return Verdict::Unchanged,
                    _ => {}
                }
                let before = gateway.out.is_some();
                gateway.out = Some(Out {
                    kind: OutKind::Suspect,
                    until: now.after(suspect_for(gateway.times, mix(self.seed ^ now.0))),
                    trial: false,
                });
                gateway.times = gateway.times.saturating_add(1);
                if before {
                    Verdict::Unchanged
                } else {
                    Verdict::GatewaySuspect
                }
            }
        }
    }

    /// Whether one more repetition may be under way in the cluster.
    pub fn may_retry(&self, cluster: &Cluster) -> bool {
        let known = self.clusters.get(cluster.name());
        let (active, pending, retries) = known.map_or((0, 0, 0), |known| {
            (known.active, known.pending, known.retries)
        });
        let most = match cluster.settings.limits.retries {
            RetryLimit::Fixed(most) => most,
            RetryLimit::Budget { percent, min } => {
                let under_way = f64::from(active) + f64::from(pending);
                min.max((under_way * percent / 100.0) as u32)
            }
        };
        retries < most
    }

    /// Whether one more connection may be opened to the cluster.
    pub fn may_connect(&self, cluster: &Cluster) -> bool {
        let known = self.clusters.get(cluster.name());
        known.map_or(0, |known| known.connections) < cluster.settings.limits.max_connections
    }

    /// Whether one more request may wait for a connection to the cluster.
    pub fn may_wait(&self, cluster: &Cluster) -> bool {
        let known = self.clusters.get(cluster.name());
        known.map_or(0, |known| known.pending) < cluster.settings.limits.max_pending
    }

    /// Says that a connection to a cluster was opened.
    pub fn connected(&mut self, cluster: &Cluster) {
        self.known(cluster).connections += 1;
    }

    /// Says that a connection to a cluster is closed.
    pub fn disconnected(&mut self, cluster: &Cluster) {
        if let Some(known) = self.clusters.get_mut(cluster.name()) {
            known.connections = known.connections.saturating_sub(1);
        }
    }

    /// Says that a request waits for a connection to a cluster.
    pub fn waits(&mut self, cluster: &Cluster) {
        self.known(cluster).pending += 1;
    }

    /// Says that a request waits no more.
    pub fn waited(&mut self, cluster: &Cluster) {
        if let Some(known) = self.clusters.get_mut(cluster.name()) {
            known.pending = known.pending.saturating_sub(1);
        }
    }

    /// How an endpoint of a cluster is seen; for a gateway's address the worse of what is known of the address and of
    /// the cluster's way through it.
    pub fn standing(&self, cluster: &Cluster, address: SocketAddr) -> Standing {
        let known = self.clusters.get(cluster.name());
        let endpoint = known.and_then(|known| {
            let at = known.place(0, address)?;
            known.endpoints.get(at)
        });
        let is_gateway = cluster
            .endpoints()
            .iter()
            .any(|e| e.address == address && cluster.via(e) == Via::Gateway);
        let gateway = self.gateways.get(&address).filter(|_| is_gateway);
        let outs = [
            endpoint.and_then(|endpoint| endpoint.out),
            gateway.and_then(|gateway| gateway.out),
        ];
        let worst = outs.into_iter().flatten().max_by_key(|out| out.until);
        Standing {
            out_until: worst.map(|out| out.until),
            on_trial: outs.into_iter().flatten().any(|out| out.trial),
            in_flight: endpoint.map_or(0, |endpoint| endpoint.in_flight),
            times: endpoint
                .map_or(0, |endpoint| endpoint.times)
                .max(gateway.map_or(0, |gateway| gateway.times)),
        }
    }

    /// The clusters that somebody called, with their requests in flight, by name: for people.
    pub fn busy(&self) -> Vec<(&Arc<str>, u32)> {
        let mut all: Vec<_> = self.clusters.iter().map(|(n, c)| (n, c.active)).collect();
        all.sort();
        all
    }
}

/// How one worker sees an endpoint.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Standing {
    /// Until when it is out of choice; after that one attempt at a time tries it.
    pub out_until: Option<Timestamp>,
    /// Whether such an attempt is under way.
    pub on_trial: bool,
    /// Requests, or connections without HTTP, in flight.
    pub in_flight: u32,
    /// How often in a row it was ejected or suspected.
    pub times: u32,
}

/// What an outcome says of an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Evidence {
    None,
    Good,
    /// It answers badly; whether the status is one of those that gateways give.
    Bad {
        gateway: bool,
    },
    /// It cannot be reached.
    Local,
    /// It was there and is not any more.
    Dead,
    /// It is not who it should be.
    Stranger,
}

impl Evidence {
    fn of(outcome: Outcome) -> Evidence {
        match outcome {
            Outcome::Answer { status, grpc } => {
                let status = grpc.map_or(status, http_status);
                match status {
                    502..=504 => Evidence::Bad { gateway: true },
                    500..=599 => Evidence::Bad { gateway: false },
                    _ => Evidence::Good,
                }
            }
            Outcome::Closed => Evidence::Good,
            Outcome::Timeout => Evidence::Bad { gateway: true },
            Outcome::ConnectFailure | Outcome::TlsFailure | Outcome::ResetBeforeHeaders => {
                Evidence::Local
            }
            Outcome::Unanswered => Evidence::Dead,
            Outcome::IdentityMismatch => Evidence::Stranger,
            Outcome::RefusedStream | Outcome::ResetAfterHeaders | Outcome::Abandoned => {
                Evidence::None
            }
        }
    }
}

/// The HTTP status that a gRPC status counts as.
///
/// Source: Envoy's `Grpc::Utility::grpcToHttpStatus`.
fn http_status(grpc: u32) -> u16 {
    match grpc {
        0 => 200,
        1 => 499,
        3 | 9 | 11 => 400,
        4 => 504,
        5 => 404,
        6 | 10 => 409,
        7 => 403,
        8 => 429,
        12 => 501,
        14 => 503,
        16 => 401,
        _ => 500,
    }
}

struct Judge<'a> {
    cluster: &'a mut ClusterView,
    at: usize,
    forward: &'a Forward,
    seed: u64,
    now: Timestamp,
}

impl Judge<'_> {
    fn endpoint(&mut self) -> &mut EndpointView {
        &mut self.cluster.endpoints[self.at]
    }

    fn learn(&mut self, evidence: Evidence) -> Verdict {
        if let Some(out) = self.endpoint().out {
            return self.learn_of_one_out(evidence, out);
        }
        let gateway = self.forward.via == Via::Gateway;
        let settings = Arc::clone(&self.forward.cluster.settings);
        let outliers = settings.outliers.as_ref();
        match evidence {
            Evidence::None => Verdict::Unchanged,
            Evidence::Good => {
                let endpoint = self.endpoint();
                endpoint.answers_5xx = 0;
                endpoint.answers_gateway = 0;
                endpoint.local = 0;
                Verdict::Unchanged
            }
            Evidence::Bad { gateway: _ } if gateway => {
                self.endpoint().local = 0;
                Verdict::Unchanged
            }
            Evidence::Bad { gateway } => {
                self.endpoint().local = 0;
                outliers.map_or(Verdict::Unchanged, |outliers| self.bad(gateway, outliers))
            }
            Evidence::Local => outliers.map_or(Verdict::Unchanged, |outliers| {
                if outliers.split || gateway {
                    self.local(outliers)
                } else {
                    self.bad(true, outliers)
                }
            }),
            Evidence::Dead => outliers.map_or(Verdict::Unchanged, |_| self.suspect()),
            Evidence::Stranger => self.suspect(),
        }
    }

    /// Only an attempt that was made to find out, or that had nowhere else to go, changes how one that is out is seen:
    /// others began before it was.
    fn learn_of_one_out(&mut self, evidence: Evidence, out: Out) -> Verdict {
        let last_way = self
            .forward
            .why
            .pick
            .is_some_and(|pick| pick.special == Special::LastWay);
        if !self.forward.trial && !last_way {
            return Verdict::Unchanged;
        }
        if self.forward.trial
            && let Some(out) = &mut self.endpoint().out
        {
            out.trial = false;
        }
        match (evidence, out.kind) {
            (Evidence::None, _) => Verdict::Unchanged,
            (Evidence::Good, _) => self.take_back(),
            // It answers, if badly: it can be reached.
            (Evidence::Bad { gateway }, OutKind::Suspect) => {
                self.take_back();
                let endpoint = self.endpoint();
                endpoint.answers_5xx = 1;
                endpoint.answers_gateway = u32::from(gateway);
                Verdict::Returned
            }
            // Where there is no other way left, a failure is no news.
            _ if !self.forward.trial => Verdict::Unchanged,
            (Evidence::Bad { .. }, OutKind::Ejected) => {
                let settings = Arc::clone(&self.forward.cluster.settings);
                if let Some(outliers) = &settings.outliers {
                    self.put_out(OutKind::Ejected, outliers);
                }
                Verdict::Unchanged
            }
            (Evidence::Local | Evidence::Dead | Evidence::Stranger, _) => {
                self.suspect();
                Verdict::Unchanged
            }
        }
    }

    fn take_back(&mut self) -> Verdict {
        let now = self.now;
        let endpoint = self.endpoint();
        endpoint.out = None;
        endpoint.returned = now;
        endpoint.answers_5xx = 0;
        endpoint.answers_gateway = 0;
        endpoint.local = 0;
        Verdict::Returned
    }

    fn bad(&mut self, gateway: bool, outliers: &Outliers) -> Verdict {
        let endpoint = self.endpoint();
        endpoint.answers_5xx += 1;
        endpoint.answers_gateway = if gateway {
            endpoint.answers_gateway + 1
        } else {
            0
        };
        let full = outliers.consecutive_5xx > 0 && endpoint.answers_5xx >= outliers.consecutive_5xx;
        let full_gateway = outliers.consecutive_gateway > 0
            && endpoint.answers_gateway >= outliers.consecutive_gateway;
        if full {
            endpoint.answers_5xx = 0;
        }
        if full_gateway {
            endpoint.answers_gateway = 0;
        }
        let eject = (full && self.enforced(outliers.enforcing_5xx))
            || (full_gateway && self.enforced(outliers.enforcing_gateway));
        if !eject || !self.may_eject(outliers) {
            return Verdict::Unchanged;
        }
        self.put_out(OutKind::Ejected, outliers);
        Verdict::Ejected
    }

    fn local(&mut self, outliers: &Outliers) -> Verdict {
        let endpoint = self.endpoint();
        endpoint.local += 1;
        if outliers.consecutive_local == 0 || endpoint.local < outliers.consecutive_local {
            return Verdict::Unchanged;
        }
        endpoint.local = 0;
        if self.enforced(outliers.enforcing_local) {
            return self.suspect();
        }
        Verdict::Unchanged
    }

    fn suspect(&mut self) -> Verdict {
        let (now, lot) = (self.now, self.lot());
        let endpoint = self.endpoint();
        if endpoint.out.is_none() && now.since(endpoint.returned) >= SUSPECT_FORGET {
            endpoint.times = 0;
        }
        endpoint.out = Some(Out {
            kind: OutKind::Suspect,
            until: now.after(suspect_for(endpoint.times, lot)),
            trial: false,
        });
        endpoint.times = endpoint.times.saturating_add(1);
        Verdict::Suspect
    }

    fn put_out(&mut self, kind: OutKind, outliers: &Outliers) {
        let now = self.now;
        let endpoint = self.endpoint();
        if endpoint.out.is_none() {
            let well =
                now.since(endpoint.returned).as_millis() / outliers.interval.as_millis().max(1);
            let forgotten = u32::try_from(well).unwrap_or(u32::MAX);
            endpoint.times = endpoint.times.saturating_sub(forgotten);
        }
        endpoint.times = endpoint.times.saturating_add(1);
        let span = outliers.base.saturating_mul(endpoint.times);
        endpoint.out = Some(Out {
            kind,
            until: now.after(span.min(outliers.max)),
            trial: false,
        });
        endpoint.answers_5xx = 0;
        endpoint.answers_gateway = 0;
    }

    /// At most the cluster's share, counting whoever is out for whatever reason, and never the last one that is good.
    fn may_eject(&self, outliers: &Outliers) -> bool {
        let cluster = &self.forward.cluster;
        let own = self.forward.endpoint.address;
        let (mut total, mut out, mut others) = (0u64, 0u64, false);
        for (index, endpoint) in (0u32..).zip(cluster.endpoints()) {
            if endpoint.health == EndpointHealth::Unusable {
                continue;
            }
            total += 1;
            let at = self.cluster.place(index, endpoint.address);
            let is_out = at.is_some_and(|at| self.cluster.endpoints[at].out.is_some());
            if is_out {
                out += 1;
            } else if endpoint.address != own {
                others = true;
            }
        }
        let share = (out + 1) * 100 <= u64::from(outliers.max_ejected_percent) * total;
        others && (share || (outliers.always_one && out == 0))
    }

    fn enforced(&self, percent: u32) -> bool {
        percent >= 100 || self.lot() % 100 < u64::from(percent)
    }

    fn lot(&self) -> u64 {
        mix(self.seed ^ self.now.0.rotate_left(20) ^ self.at as u64)
    }
}

/// How long a suspect endpoint is left alone: 1, 2, 4, 8, 16, 30 s, and up to a quarter more, so that proxies do not all
/// come back at once.
fn suspect_for(times: u32, lot: u64) -> Duration {
    let span = SUSPECT_MIN
        .saturating_mul(1 << times.min(5))
        .min(SUSPECT_MAX);
    span + span.mul_f64((lot % 256) as f64 / 1024.0)
}

/// A number that looks like chance and is not: the same for the same input.
///
/// Source: SplitMix64, Steele, Lea and Flood 2014.
pub(crate) fn mix(number: u64) -> u64 {
    let mut z = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests;
