//! Connections to upstreams that are used again: one set per worker, kept by cluster, address, protocol and certificate.
//!
//! HTTP/1 connections are taken last in, first out, and come back when request and answer are whole. HTTP/2 connections are
//! shared. Towards a gateway several are kept, because the gateway gives each whole connection to one of the endpoints behind
//! it; those endpoints have turns (see [`lanes`]), and connections are renewed with jitter, so that none is left out for long.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::future::Future;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use catamaran_decide::{Cluster, Fixed, Forward, Transport, UpstreamProtocol, Via};
use http::{HeaderMap, Request, Response, Version};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::sync::Notify;

use super::body::Sent;
use super::dial::{DialError, Dialed, Target, dial};
use super::gather::gather;
use super::lanes::{self, Leaf};
use super::stream::Stream;
use super::tls::Offer;
use super::worker::Worker;
use crate::report::SubjectId;

/// Streams of one HTTP/2 connection; beyond it another connection is made.
pub(crate) const STREAMS: usize = 100;
/// HTTP/2 connections to one address for one cluster; beyond it streams wait in the least busy one.
pub(crate) const CONNECTIONS: usize = 16;
/// HTTP/2 connections kept towards a gateway, at most, to spread over the endpoints behind it.
pub(crate) const SPREAD: usize = 8;
/// Connections made, at most, to reach an endpoint behind a gateway that none of those there are leads to.
const SEARCH: usize = 2 * SPREAD;
/// How long after a gateway's weight changed its connections are renewed, give or take half.
const RESPREAD: Duration = Duration::from_secs(1);
/// Connections that a request has made for it before it gives up: each of them ended as soon as it stood.
const ROUNDS: u32 = 3;
/// Idle HTTP/1 connections kept to one address for one cluster.
pub(crate) const IDLE: usize = 64;
/// After so long without use a connection is closed, or sooner if the cluster says so.
pub(crate) const IDLE_TIME: Duration = Duration::from_secs(60);
/// The same as [`Remote`](super::Remote) has, for connections to other proxies of the cluster: a proxy that hangs must not hold
/// its callers for long either, but there is no lossy network between them.
const LOCAL_PING: Duration = Duration::from_secs(3);
const LOCAL_PONG: Duration = Duration::from_secs(3);

pub(crate) const STREAM_WINDOW: u32 = 1 << 20;
pub(crate) const CONNECTION_WINDOW: u32 = 4 << 20;
pub(crate) const FRAME: u32 = 64 * 1024;
pub(crate) const HEAD_LIMIT: u32 = 64 * 1024;
const SEND_BUFFER: usize = 256 * 1024;

/// Starts tasks on the worker's own thread.
#[derive(Debug, Clone, Copy)]
pub(crate) struct OnThisThread;

impl<F> hyper::rt::Executor<F> for OnThisThread
where
    F: Future + 'static,
    F::Output: 'static,
{
    fn execute(&self, task: F) {
        tokio::task::spawn_local(task);
    }
}

/// What is spoken on the connections of a pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Shape {
    Http1,
    Http2,
    /// What TLS says.
    Negotiated,
}

impl Shape {
    /// What an upstream protocol means for a caller's request.
    pub(crate) fn of(protocol: UpstreamProtocol, caller: Version, upgrade: bool) -> Shape {
        match protocol {
            _ if upgrade => Shape::Http1,
            UpstreamProtocol::Http1 | UpstreamProtocol::Opaque => Shape::Http1,
            UpstreamProtocol::Http2 => Shape::Http2,
            UpstreamProtocol::AsDownstream if caller == Version::HTTP_2 => Shape::Http2,
            UpstreamProtocol::AsDownstream => Shape::Http1,
            UpstreamProtocol::Negotiated => Shape::Negotiated,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    cluster: Arc<str>,
    address: SocketAddr,
    shape: Shape,
    generation: u64,
}

/// All pools of a worker.
#[derive(Default)]
pub(crate) struct Pools(RefCell<HashMap<Key, Rc<Pool>, Fixed>>);

/// Why there is no connection to use.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum LeaseError {
    /// None could be made.
    #[error(transparent)]
    Dial(#[from] DialError),
    /// The cluster has as many as it may have.
    #[error("the cluster has as many connections as it may have")]
    Overflow,
}

impl Pools {
    /// A connection for one request. With `fresh`, none that may have died of old age.
    pub(crate) async fn lease(
        &self,
        worker: &Rc<Worker>,
        forward: &Forward,
        shape: Shape,
        fresh: bool,
    ) -> Result<Lease, LeaseError> {
        for _ in 0..ROUNDS {
            // looked up anew each time: it may have been abandoned while this waited
            let pool = self.pool(worker, forward, shape);
            pool.used.set(true);
            if let Some(lease) = pool.pick(worker, fresh) {
                return Ok(lease);
            }
            let full = {
                let view = worker.view.borrow();
                !view.may_connect(&pool.cluster) || !view.may_wait(&pool.cluster)
            };
            if full {
                return Err(LeaseError::Overflow);
            }
            let _waiting = Waiting::count(worker, &pool.cluster);
            if shape == Shape::Http1 || pool.speaks_http1.get() {
                return Ok(pool.dial_http1(worker).await?);
            }
            pool.dial_together(worker).await?;
        }
        Err(DialError::Fleeting(forward.endpoint.address).into())
    }

    fn pool(&self, worker: &Worker, forward: &Forward, shape: Shape) -> Rc<Pool> {
        let key = Key {
            cluster: forward.cluster.name().clone(),
            address: forward.endpoint.address,
            shape,
            generation: worker.credentials.generation(),
        };
        let mut pools = self.0.borrow_mut();
        if let Some(pool) = pools.get(&key) {
            if pool.still_for(forward) {
                pool.weigh(worker, forward);
                return pool.clone();
            }
            pool.close();
        }
        let pool = Rc::new(Pool::new(worker, forward, shape));
        pools.insert(key, pool.clone());
        pool
    }

    /// Lets go of every connection to an address, for one cluster or for all.
    pub(crate) fn abandon(&self, address: SocketAddr, cluster: Option<&Arc<str>>) {
        self.0.borrow_mut().retain(|key, pool| {
            let hit =
                key.address == address && cluster.is_none_or(|cluster| *cluster == key.cluster);
            if hit {
                pool.close();
            }
            !hit
        });
    }

    /// The gateways that connections are kept to, and when each was last in use.
    pub(crate) fn gateways(&self, now: Instant) -> Vec<(SocketAddr, Instant)> {
        let pools = self.0.borrow();
        let gateways = pools.iter().filter(|(_, pool)| pool.gateway);
        gateways
            .map(|(key, pool)| (key.address, pool.last_used(now)))
            .collect()
    }

    /// Closes what was not used for long, renews what is old, and drops what belongs to an older certificate. To be called
    /// every few seconds.
    pub(crate) fn sweep(&self, worker: &Rc<Worker>) {
        let now = Instant::now();
        let generation = worker.credentials.generation();
        self.0.borrow_mut().retain(|key, pool| {
            if key.generation != generation {
                pool.close();
                return false;
            }
            pool.sweep(worker, now)
        });
    }
}

/// Connections to one address for one cluster.
struct Pool {
    cluster: Arc<Cluster>,
    target: Target,
    shape: Shape,
    gateway: bool,
    subject: SubjectId,
    idle_time: Duration,
    max_requests: Option<u32>,
    /// The gateway's weight that `want` comes from: how many endpoints stand behind it.
    weight: Cell<usize>,
    /// How many HTTP/2 connections are wanted.
    want: Cell<usize>,
    speaks_http1: Cell<bool>,
    idle: RefCell<Vec<Idle>>,
    shared: RefCell<Vec<Rc<Shared>>>,
    turn: Cell<usize>,
    dialing: RefCell<Option<Rc<Dialing>>>,
    growing: Cell<bool>,
    closed: Cell<bool>,
    /// Since the last sweep.
    used: Cell<bool>,
    used_at: Cell<Instant>,
}

/// What is known of the other end of a connection.
#[derive(Debug)]
pub(crate) struct Far {
    /// The verified identity.
    pub(crate) peer: Option<Arc<str>>,
    /// Who is told about for requests on it.
    pub(crate) subject: SubjectId,
    /// Whom a connection through a gateway leads to.
    leaf: Leaf,
}

struct Idle {
    sender: http1::SendRequest<Sent>,
    far: Rc<Far>,
    since: Instant,
}

/// An HTTP/2 connection.
struct Shared {
    sender: http2::SendRequest<Sent>,
    far: Rc<Far>,
    streams: Cell<usize>,
    served: Cell<u32>,
    used_at: Cell<Instant>,
    dies: Cell<Option<Instant>>,
    old: Cell<bool>,
}

/// An attempt to connect that several requests wait for.
#[derive(Default)]
struct Dialing {
    result: RefCell<Option<Result<(), DialError>>>,
    done: Notify,
}

impl Pool {
    fn new(worker: &Worker, forward: &Forward, shape: Shape) -> Pool {
        let cluster = forward.cluster.clone();
        let settings = cluster.settings();
        let endpoint = cluster
            .endpoints()
            .get(forward.endpoint.index as usize)
            .filter(|endpoint| endpoint.address == forward.endpoint.address);
        let behind = endpoint.map_or(&[][..], |endpoint| cluster.behind(endpoint));
        let own = &worker.settings.own.cluster;
        let gateway = forward.via == Via::Gateway;
        let remote = gateway || (!behind.is_empty() && !behind.contains(own));
        let place = match behind {
            [one] => Some(&**one),
            _ => None,
        };
        let pool = Pool {
            target: Target {
                address: forward.endpoint.address,
                transport: forward.transport.clone(),
                issuers: forward.issuers.clone(),
                connect: forward.timeouts.connect,
                offer: if shape == Shape::Http1 {
                    Offer::WithoutHttp2
                } else {
                    Offer::All
                },
                remote,
            },
            shape,
            gateway,
            subject: worker.outbound_subject(Some(&cluster), place, None),
            idle_time: settings.idle_timeout.unwrap_or(IDLE_TIME).min(IDLE_TIME),
            max_requests: settings.max_requests_per_connection,
            weight: Cell::new(0),
            want: Cell::new(1),
            speaks_http1: Cell::new(false),
            idle: RefCell::default(),
            shared: RefCell::default(),
            turn: Cell::new(0),
            dialing: RefCell::default(),
            growing: Cell::new(false),
            closed: Cell::new(false),
            used: Cell::new(true),
            used_at: Cell::new(Instant::now()),
            cluster,
        };
        pool.weigh(worker, forward);
        pool
    }

    fn last_used(&self, now: Instant) -> Instant {
        let all = self.shared.borrow();
        let times = all.iter().map(|one| match one.streams.get() {
            0 => one.used_at.get(),
            _ => now,
        });
        times.fold(self.used_at.get(), Instant::max)
    }

    /// Whether connections made for an earlier decision serve this one: the same peer is demanded.
    fn still_for(&self, forward: &Forward) -> bool {
        let same_tls = match (&self.target.transport, &forward.transport) {
            (Transport::Mutual(mine), Transport::Mutual(theirs)) => {
                Arc::ptr_eq(mine, theirs) || mine == theirs
            }
            (mine, theirs) => mine == theirs,
        };
        same_tls
            && self.target.issuers == forward.issuers
            && self.gateway == (forward.via == Via::Gateway)
    }

    /// Another weight means other endpoints behind the gateway: the connections there are were spread over those there were, so
    /// they are renewed, a moment later, when the gateway knows the new ones too.
    fn weigh(&self, worker: &Worker, forward: &Forward) {
        if !self.gateway {
            return;
        }
        let weight = forward
            .cluster
            .endpoints()
            .get(forward.endpoint.index as usize)
            .map_or(1, |endpoint| endpoint.weight as usize);
        if self.weight.replace(weight) == weight {
            return;
        }
        self.want.set(weight.saturating_mul(2).clamp(1, SPREAD));
        let now = Instant::now();
        for one in &*self.shared.borrow() {
            let soon = now + RESPREAD.mul_f64(0.5 + worker.share());
            let dies = one.dies.get().map_or(soon, |dies| dies.min(soon));
            one.dies.set(Some(dies));
        }
    }

    fn close(&self) {
        self.closed.set(true);
        self.idle.borrow_mut().clear();
        self.shared.borrow_mut().clear();
    }

    fn pick(self: &Rc<Self>, worker: &Rc<Worker>, fresh: bool) -> Option<Lease> {
        if let Some(shared) = self.pick_shared(worker) {
            return Some(Lease::Http2(Stretch::of(shared, self.clone())));
        }
        if fresh {
            return None;
        }
        let one = self.take_idle()?;
        Some(Lease::Http1(Own {
            sender: Some(one.sender),
            far: one.far,
            pool: self.clone(),
            reused: true,
        }))
    }

    /// The idle HTTP/1 connection that was used last. Those that are closed are let go on the way to it, the others by the
    /// sweep: looking at all of them for each request would be dear.
    fn take_idle(&self) -> Option<Idle> {
        let mut idle = self.idle.borrow_mut();
        for at in (0..idle.len()).rev() {
            let sender = &idle[at].sender;
            if sender.is_closed() {
                idle.remove(at);
            } else if sender.is_ready() {
                return Some(idle.remove(at));
            }
        }
        None
    }

    fn pick_shared(self: &Rc<Self>, worker: &Rc<Worker>) -> Option<Rc<Shared>> {
        let mut all = self.shared.borrow_mut();
        if all.is_empty() {
            return None;
        }
        all.retain(|one| !one.sender.is_closed());
        let young = all.iter().filter(|one| !one.old.get()).count();
        if young < self.want.get() && !all.is_empty() {
            self.grow(worker, SEARCH);
        }
        let free = |one: &&Rc<Shared>| one.streams.get() < STREAMS;
        if self.gateway {
            let turn = self.turn.get();
            self.turn.set(turn.wrapping_add(1));
            let in_turn = |old: bool| {
                let candidates = || all.iter().filter(free).filter(|one| one.old.get() == old);
                let mut leaves = [None; CONNECTIONS];
                let mut count = 0;
                for (leaf, one) in leaves.iter_mut().zip(candidates()) {
                    *leaf = one.far.leaf;
                    count += 1;
                }
                candidates().nth(lanes::in_turn(&leaves[..count], turn)?)
            };
            if let Some(one) = in_turn(false).or_else(|| in_turn(true)) {
                return Some(one.clone());
            }
        } else if let Some(one) = all
            .iter()
            .filter(free)
            .min_by_key(|one| (one.old.get(), one.streams.get()))
        {
            return Some(one.clone());
        }
        if all.len() >= CONNECTIONS {
            return all.iter().min_by_key(|one| one.streams.get()).cloned();
        }
        None
    }

    /// Makes a connection for one request alone.
    async fn dial_http1(self: &Rc<Self>, worker: &Rc<Worker>) -> Result<Lease, DialError> {
        let dialed = dial(worker, &self.target).await?;
        let far = self.far(worker, &dialed);
        let sender = self.start_http1(worker, dialed).await?;
        Ok(Lease::Http1(Own {
            sender: Some(sender),
            far,
            pool: self.clone(),
            reused: false,
        }))
    }

    /// Waits for a connection that goes into the pool, and makes it if nobody does yet. It is made to the end even when
    /// all who wait for it go away.
    async fn dial_together(self: &Rc<Self>, worker: &Rc<Worker>) -> Result<(), DialError> {
        let under_way = self.dialing.borrow().clone();
        let dialing = under_way.unwrap_or_else(|| {
            let dialing = Rc::new(Dialing::default());
            *self.dialing.borrow_mut() = Some(dialing.clone());
            let (pool, worker, mine) = (self.clone(), worker.clone(), dialing.clone());
            tokio::task::spawn_local(async move {
                let result = pool.add(&worker).await;
                *pool.dialing.borrow_mut() = None;
                *mine.result.borrow_mut() = Some(result);
                mine.done.notify_waiters();
            });
            dialing
        });
        loop {
            let done = dialing.done.notified();
            if let Some(result) = &*dialing.result.borrow() {
                return result.clone();
            }
            done.await;
        }
    }

    /// Makes connections in the background until there are as many as wanted, and up to `search` more in place of others while
    /// endpoints behind a gateway are left out. A failure ends it until the next use.
    fn grow(self: &Rc<Self>, worker: &Rc<Worker>, search: usize) {
        if self.growing.replace(true) || self.closed.get() {
            return;
        }
        let (pool, worker) = (self.clone(), worker.clone());
        tokio::task::spawn_local(async move {
            let mut search = search;
            while !pool.closed.get() {
                if pool.young() >= pool.want.get() {
                    if search == 0 || !pool.spare_one() {
                        break;
                    }
                    search -= 1;
                }
                if !worker.view.borrow().may_connect(&pool.cluster) {
                    break;
                }
                pool.let_one_go();
                if pool.add(&worker).await.is_err() {
                    let address = pool.target.address;
                    let verdict = worker
                        .view
                        .borrow_mut()
                        .probed(address, false, worker.now());
                    worker.heed(verdict, address, &pool.cluster);
                    break;
                }
            }
            pool.growing.set(false);
        });
    }

    /// Drops an old connection before its successor is made, so that a gateway does not count it when it chooses where the
    /// successor leads. The last one stays until there is another.
    fn let_one_go(&self) {
        let mut all = self.shared.borrow_mut();
        if all.len() > 1
            && let Some(old) = all.iter().position(|one| one.old.get())
        {
            all.remove(old);
        }
    }

    /// While there are endpoints behind the gateway that no connection leads to, and others that several lead to: makes one of
    /// those old.
    fn spare_one(&self) -> bool {
        if !self.gateway {
            return false;
        }
        let all = self.shared.borrow();
        let young: Vec<&Rc<Shared>> = all.iter().filter(|one| !one.old.get()).collect();
        let leaves: Vec<Leaf> = young.iter().map(|one| one.far.leaf).collect();
        if lanes::count(&leaves) >= self.weight.get().min(self.want.get()) {
            return false;
        }
        let spare = lanes::spare(&leaves);
        if let Some(at) = spare {
            young[at].old.set(true);
        }
        spare.is_some()
    }

    /// Lets go of the connections that lead where `refused` leads, if it is a gateway's: the others lead elsewhere. Whether
    /// there are any.
    fn leave_lane(&self, refused: &Rc<Shared>) -> bool {
        let mut all = self.shared.borrow_mut();
        if self.gateway {
            let leaf = refused.far.leaf;
            all.retain(|one| !Rc::ptr_eq(one, refused) && (leaf.is_none() || one.far.leaf != leaf));
        }
        self.gateway && !all.is_empty()
    }

    fn young(&self) -> usize {
        let all = self.shared.borrow();
        all.iter()
            .filter(|one| !one.old.get() && !one.sender.is_closed())
            .count()
    }

    /// Makes a connection and puts it into the pool.
    async fn add(self: &Rc<Self>, worker: &Rc<Worker>) -> Result<(), DialError> {
        let dialed = dial(worker, &self.target).await?;
        let far = self.far(worker, &dialed);
        let http2 = match self.shape {
            Shape::Http1 => false,
            Shape::Http2 => dialed.http2 || !dialed.negotiated,
            Shape::Negotiated => dialed.http2,
        };
        if !http2 {
            self.speaks_http1.set(true);
            let sender = self.start_http1(worker, dialed).await?;
            self.keep(sender, far);
            return Ok(());
        }
        let sender = self.start_http2(worker, dialed.stream).await?;
        if self.closed.get() {
            return Ok(());
        }
        let now = Instant::now();
        let mut all = self.shared.borrow_mut();
        if !self.gateway
            && let Some(old) = all.iter().position(|one| one.old.get())
        {
            all.remove(old);
        }
        all.push(Rc::new(Shared {
            sender,
            far,
            streams: Cell::new(0),
            served: Cell::new(0),
            used_at: Cell::new(now),
            dies: Cell::new(self.gateway.then(|| {
                now + worker
                    .settings
                    .remote
                    .renew
                    .mul_f64(0.75 + worker.share() / 2.0)
            })),
            old: Cell::new(false),
        }));
        Ok(())
    }

    fn far(&self, worker: &Worker, dialed: &Dialed) -> Rc<Far> {
        let subject = match &dialed.peer {
            None => self.subject,
            Some(peer) => {
                let place = self.place();
                worker.outbound_subject(Some(&self.cluster), place.as_deref(), Some(peer))
            }
        };
        Rc::new(Far {
            peer: dialed.peer.clone(),
            subject,
            leaf: dialed.leaf,
        })
    }

    fn place(&self) -> Option<Arc<str>> {
        let mut endpoints = self.cluster.endpoints().iter();
        let endpoint = endpoints.find(|endpoint| endpoint.address == self.target.address)?;
        match self.cluster.behind(endpoint) {
            [one] => Some(one.clone()),
            _ => None,
        }
    }

    async fn start_http1(
        &self,
        worker: &Rc<Worker>,
        dialed: Dialed,
    ) -> Result<http1::SendRequest<Sent>, DialError> {
        let (sender, connection) = http1::Builder::new()
            .max_buf_size(HEAD_LIMIT as usize)
            .preserve_header_case(false)
            .handshake(TokioIo::new(dialed.stream))
            .await
            .map_err(|error| DialError::Http(self.target.address, Arc::new(error)))?;
        let open = Open::count(worker, &self.cluster);
        tokio::task::spawn_local(async move {
            let _ = connection.with_upgrades().await;
            drop(open);
        });
        Ok(sender)
    }

    async fn start_http2(
        &self,
        worker: &Rc<Worker>,
        stream: Stream,
    ) -> Result<http2::SendRequest<Sent>, DialError> {
        let (ping, pong) = match self.target.transport {
            Transport::Mutual(_) if self.target.remote => {
                let remote = &worker.settings.remote;
                (Some(remote.ping), remote.pong)
            }
            Transport::Mutual(_) => (Some(LOCAL_PING), LOCAL_PONG),
            // it may be the application itself, and gRPC servers close connections that ping often
            Transport::Plain => (None, LOCAL_PONG),
        };
        let options = self.cluster.settings().http2;
        let (sender, connection) = http2::Builder::new(OnThisThread)
            .timer(TokioTimer::new())
            .initial_stream_window_size(options.initial_stream_window.unwrap_or(STREAM_WINDOW))
            .initial_connection_window_size(
                options
                    .initial_connection_window
                    .unwrap_or(CONNECTION_WINDOW),
            )
            .max_frame_size(FRAME)
            .max_header_list_size(HEAD_LIMIT)
            .max_send_buf_size(SEND_BUFFER)
            .keep_alive_interval(ping)
            .keep_alive_timeout(pong)
            .keep_alive_while_idle(false)
            .handshake(TokioIo::new(gather(stream)))
            .await
            .map_err(|error| DialError::Http(self.target.address, Arc::new(error)))?;
        let open = Open::count(worker, &self.cluster);
        tokio::task::spawn_local(async move {
            let _ = connection.await;
            drop(open);
        });
        Ok(sender)
    }

    fn keep(&self, sender: http1::SendRequest<Sent>, far: Rc<Far>) {
        let mut idle = self.idle.borrow_mut();
        if self.closed.get() || sender.is_closed() {
            return;
        }
        if idle.len() >= IDLE {
            idle.remove(0);
        }
        idle.push(Idle {
            sender,
            far,
            since: Instant::now(),
        });
    }

    /// Whether the pool is still of use.
    fn sweep(self: &Rc<Self>, worker: &Rc<Worker>, now: Instant) -> bool {
        if self.used.replace(false) {
            self.used_at.set(now);
        }
        self.idle.borrow_mut().retain(|one| {
            !one.sender.is_closed() && now.duration_since(one.since) < self.idle_time
        });
        let mut all = self.shared.borrow_mut();
        let mut renew = false;
        all.retain(|one| {
            if one.sender.is_closed() {
                return false;
            }
            let unused = now.saturating_duration_since(one.used_at.get());
            if one.streams.get() == 0 && unused >= self.idle_time {
                return false;
            }
            let worn = self
                .max_requests
                .is_some_and(|most| one.served.get() >= most);
            if worn || one.dies.get().is_some_and(|dies| now >= dies) {
                one.old.set(true);
                // an old connection that nobody needs is not replaced before somebody needs one
                renew |= unused < self.idle_time / 4;
                return one.streams.get() > 0 || unused < self.idle_time / 4;
            }
            true
        });
        let any = !all.is_empty();
        drop(all);
        if renew || (any && self.gateway && self.used_at.get() == now) {
            let search = if renew { SEARCH } else { 1 };
            self.grow(worker, search);
        }
        any || !self.idle.borrow().is_empty()
            || now.duration_since(self.used_at.get()) < self.idle_time
    }
}

/// Counts a request for as long as it waits for a connection.
struct Waiting<'a> {
    worker: &'a Worker,
    cluster: &'a Cluster,
}

impl<'a> Waiting<'a> {
    fn count(worker: &'a Worker, cluster: &'a Cluster) -> Self {
        worker.view.borrow_mut().waits(cluster);
        Waiting { worker, cluster }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.worker.view.borrow_mut().waited(self.cluster);
    }
}

/// Counts a connection for as long as it stands.
struct Open {
    worker: Rc<Worker>,
    cluster: Arc<Cluster>,
}

impl Open {
    fn count(worker: &Rc<Worker>, cluster: &Arc<Cluster>) -> Open {
        worker.view.borrow_mut().connected(cluster);
        Open {
            worker: worker.clone(),
            cluster: cluster.clone(),
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.worker.view.borrow_mut().disconnected(&self.cluster);
    }
}

/// A connection for one request, until its answer is whole.
pub(crate) enum Lease {
    Http1(Own),
    Http2(Stretch),
}

/// An HTTP/1 connection that one request has for itself.
pub(crate) struct Own {
    sender: Option<http1::SendRequest<Sent>>,
    far: Rc<Far>,
    pool: Rc<Pool>,
    reused: bool,
}

/// A stream's share of an HTTP/2 connection.
pub(crate) struct Stretch {
    shared: Rc<Shared>,
    pool: Rc<Pool>,
}

impl Stretch {
    fn of(shared: Rc<Shared>, pool: Rc<Pool>) -> Stretch {
        shared.streams.set(shared.streams.get() + 1);
        shared.served.set(shared.served.get().wrapping_add(1));
        Stretch { shared, pool }
    }
}

impl Drop for Stretch {
    fn drop(&mut self) {
        self.shared.streams.set(self.shared.streams.get() - 1);
        self.shared.used_at.set(Instant::now());
    }
}

/// Why a request got no answer.
#[derive(Debug)]
pub(crate) struct SendError {
    pub(crate) error: hyper::Error,
    /// The request's headers, when not a byte of it was sent.
    pub(crate) unsent: Option<HeaderMap>,
}

impl Lease {
    pub(crate) fn far(&self) -> &Rc<Far> {
        match self {
            Lease::Http1(own) => &own.far,
            Lease::Http2(stretch) => &stretch.shared.far,
        }
    }

    /// Whether the connection is HTTP/2.
    pub(crate) fn is_http2(&self) -> bool {
        matches!(self, Lease::Http2(_))
    }

    /// Whether the connection served others before, so that it may have died of old age unnoticed.
    pub(crate) fn reused(&self) -> bool {
        match self {
            Lease::Http1(own) => own.reused,
            Lease::Http2(_) => true,
        }
    }

    /// Heeds that the workload at the far end took no request. Behind a gateway the address stays the same and only another
    /// connection leads to another workload, so those to this one are not used again. Whether there are any to others.
    pub(crate) fn turned_away(&self) -> bool {
        match self {
            Lease::Http1(_) => false,
            Lease::Http2(stretch) => stretch.pool.leave_lane(&stretch.shared),
        }
    }

    /// Sends a request and waits for the head of its answer.
    pub(crate) async fn send(
        &mut self,
        request: Request<Sent>,
    ) -> Result<Response<Incoming>, SendError> {
        let failed = |mut error: hyper::client::conn::TrySendError<Request<Sent>>| SendError {
            unsent: error
                .take_message()
                .map(|request| request.into_parts().0.headers),
            error: error.into_error(),
        };
        match self {
            Lease::Http1(Own {
                sender: Some(sender),
                ..
            }) => sender.try_send_request(request).await.map_err(failed),
            Lease::Http1(_) => unreachable!("a lease has its connection until it is released"),
            Lease::Http2(stretch) => stretch
                .shared
                .sender
                .clone()
                .try_send_request(request)
                .await
                .map_err(failed),
        }
    }

    /// Gives the connection back; `whole` says that request and answer were carried to their ends.
    pub(crate) fn release(self, whole: bool) {
        if let Lease::Http1(mut own) = self
            && whole
            && let Some(sender) = own.sender.take()
        {
            own.pool.keep(sender, own.far.clone());
        }
    }
}
