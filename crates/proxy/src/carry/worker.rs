//! What one worker thread has for itself.

use std::cell::{Cell, Ref, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use catamaran_decide::{Cluster, Forward, Outcome, Table, Verdict, View};
use catamaran_identity::Credentials;
use catamaran_model::{ClusterName, Timestamp};
use tokio::sync::{Notify, Semaphore, watch};
use tokio::time::timeout_at;

use super::Settings;
use super::pool::Pools;
use super::probe::Probes;
use super::strangers::Strangers;
use super::tls::{Configs, HANDSHAKES};
use crate::report::{Flags, Party, Reporter, Scribe, Security, Subject, SubjectId};

/// How long a request may wait for the retry budget.
const BUDGET_PATIENCE: Duration = Duration::from_secs(1);

/// One worker's share of the proxy. Everything on its thread holds it by `Rc`.
pub(crate) struct Worker {
    pub(crate) settings: Arc<Settings>,
    pub(crate) credentials: Arc<Credentials>,
    pub(crate) scribe: Scribe,
    pub(crate) pools: Pools,
    pub(crate) probes: Probes,
    pub(crate) configs: Configs,
    /// Turns for callers' handshakes.
    pub(crate) handshakes: Semaphore,
    /// Callers that are not known yet.
    pub(crate) strangers: Strangers,
    pub(crate) view: RefCell<View>,
    /// Turns true when no new work is wanted.
    pub(crate) draining: watch::Receiver<bool>,
    tables: RefCell<watch::Receiver<Arc<Table>>>,
    table: RefCell<Arc<Table>>,
    began: Instant,
    began_at: Timestamp,
    tickets: Cell<u64>,
    seed: u64,
    connections: Cell<usize>,
    emptied: Notify,
    repeated: Notify,
}

impl Worker {
    pub(crate) fn new(
        settings: Arc<Settings>,
        mut tables: watch::Receiver<Arc<Table>>,
        credentials: Arc<Credentials>,
        scribe: Scribe,
        draining: watch::Receiver<bool>,
        seed: u64,
    ) -> Rc<Self> {
        let table = tables.borrow_and_update().clone();
        let mut view = View::new(seed);
        view.adopt(&table);
        let since_epoch = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        Rc::new(Worker {
            settings,
            credentials,
            scribe,
            pools: Pools::default(),
            probes: Probes::default(),
            configs: Configs::default(),
            handshakes: Semaphore::new(HANDSHAKES),
            strangers: Strangers::default(),
            view: RefCell::new(view),
            draining,
            tables: RefCell::new(tables),
            table: RefCell::new(table),
            began: Instant::now(),
            began_at: Timestamp(since_epoch.as_millis() as u64),
            tickets: Cell::new(seed),
            seed,
            connections: Cell::new(0),
            emptied: Notify::new(),
            repeated: Notify::new(),
        })
    }

    /// The present table. Looks for a newer one first, which costs one atomic read.
    ///
    /// What it gives must be let go before anything is waited for.
    pub(crate) fn table(&self) -> Ref<'_, Arc<Table>> {
        let mut tables = self.tables.borrow_mut();
        if tables.has_changed().unwrap_or(false) {
            let table = tables.borrow_and_update().clone();
            self.view.borrow_mut().adopt(&table);
            *self.table.borrow_mut() = table;
        }
        self.table.borrow()
    }

    /// The time, which never runs backwards here.
    pub(crate) fn now(&self) -> Timestamp {
        self.began_at.after(self.began.elapsed())
    }

    /// A number that the worker has not given before.
    pub(crate) fn ticket(&self) -> u64 {
        let ticket = self.tickets.get().wrapping_add(1);
        self.tickets.set(ticket);
        ticket
    }

    /// A number that cannot be foretold from outside; not for secrets.
    pub(crate) fn lot(&self) -> u64 {
        // splitmix64 over the tickets
        let mut z = self.ticket().wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ self.seed;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A share of 0 to 1, by lot.
    pub(crate) fn share(&self) -> f64 {
        (self.lot() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Begins an attempt; its end is told to what is given.
    pub(crate) fn begin(self: &Rc<Self>, forward: Forward) -> InFlight {
        self.view.borrow_mut().begin(&forward);
        InFlight {
            worker: self.clone(),
            forward,
            done: false,
        }
    }

    /// Waits until the budget has room for one more repetition, for at most [`BUDGET_PATIENCE`] and not beyond `deadline`.
    /// Many requests that lose one connection at once are so repeated a few at a time, and none is lost for their number.
    pub(crate) async fn room_to_retry(&self, cluster: &Cluster, deadline: Option<Instant>) -> bool {
        let patience = Instant::now() + BUDGET_PATIENCE;
        let end = deadline.map_or(patience, |deadline| deadline.min(patience));
        while !self.view.borrow().may_retry(cluster) {
            let changed = timeout_at(end.into(), self.repeated.notified()).await;
            if changed.is_err() {
                return self.view.borrow().may_retry(cluster);
            }
        }
        true
    }

    /// Acts on what evidence changed: connections to a suspect are worth nothing.
    pub(crate) fn heed(&self, verdict: Verdict, address: SocketAddr, cluster: &Cluster) {
        match verdict {
            Verdict::GatewaySuspect => self.pools.abandon(address, None),
            Verdict::Suspect => self.pools.abandon(address, Some(cluster.name())),
            Verdict::Unchanged | Verdict::Ejected | Verdict::Returned => {}
        }
    }

    /// Counts a connection of a caller for as long as what is given lives.
    pub(crate) fn admit(self: &Rc<Self>) -> Admitted {
        self.connections.set(self.connections.get() + 1);
        Admitted(self.clone())
    }

    /// Waits until no caller is left.
    pub(crate) async fn emptied(&self) {
        while self.connections.get() > 0 {
            self.emptied.notified().await;
        }
    }

    /// Who is told about when this workload calls a cluster.
    pub(crate) fn outbound_subject(
        &self,
        cluster: Option<&Cluster>,
        place: Option<&str>,
        peer: Option<&str>,
    ) -> SubjectId {
        let unknown = || Arc::<str>::from("unknown");
        let mut destination = Party::unknown();
        if let Some(place) = place {
            destination.cluster = Arc::from(place);
        }
        if let Some(peer) = peer {
            destination.principal = Arc::from(peer);
        }
        let host = cluster.and_then(|cluster| host_of(cluster.name()));
        let (service, name, namespace) = match host {
            Some(host) => {
                let mut parts = host.split('.');
                let name = parts.next().map_or_else(unknown, Arc::from);
                let namespace = parts.next().map_or_else(unknown, Arc::from);
                (Arc::from(host), name, namespace)
            }
            None => (unknown(), unknown(), unknown()),
        };
        destination.namespace = namespace.clone();
        self.scribe.subject(&Subject {
            reporter: Reporter::Source,
            source: self.settings.own.clone(),
            destination,
            service,
            service_name: name,
            service_namespace: namespace,
            security: Security::Unknown,
        })
    }

    /// Who is told about when somebody calls this workload.
    ///
    /// Which of the workload's services was called is known by the server name alone, and only when it is one of its namespace.
    pub(crate) fn inbound_subject(
        &self,
        peer: Option<&str>,
        server_name: Option<&str>,
    ) -> SubjectId {
        let mut source = Party::unknown();
        if let Some(peer) = peer {
            source.principal = Arc::from(peer);
            let mut parts = peer.split('/').skip(4);
            if let Some(namespace) = parts.next() {
                source.namespace = Arc::from(namespace);
            }
        }
        let own = &self.settings.own;
        let (service, service_name) = server_name
            .and_then(|name| ClusterName::parse_sni(name).ok())
            .and_then(|name| {
                let mut parts = name.host.split('.');
                let short = parts.next()?;
                (parts.next() == Some(&*own.namespace))
                    .then(|| (Arc::from(&*name.host), Arc::from(short)))
            })
            .unwrap_or_else(|| (Arc::from("unknown"), own.app.clone()));
        self.scribe.subject(&Subject {
            reporter: Reporter::Destination,
            source,
            destination: own.clone(),
            service,
            service_name,
            service_namespace: own.namespace.clone(),
            security: if peer.is_some() {
                Security::MutualTls
            } else {
                Security::None
            },
        })
    }
}

/// The service's host in a cluster's name of either form.
fn host_of(name: &str) -> Option<&str> {
    let by = if name.contains('|') { "|" } else { "_." };
    name.splitn(4, by).nth(3).filter(|host| !host.is_empty())
}

/// A caller's connection that is being carried.
pub(crate) struct Admitted(Rc<Worker>);

impl Drop for Admitted {
    fn drop(&mut self) {
        let left = self.0.connections.get() - 1;
        self.0.connections.set(left);
        if left == 0 {
            self.0.emptied.notify_one();
        }
    }
}

/// An attempt under way. Dropped without an end, it was abandoned by the caller.
pub(crate) struct InFlight {
    worker: Rc<Worker>,
    pub(crate) forward: Forward,
    done: bool,
}

impl InFlight {
    /// Says how it ended.
    pub(crate) fn finish(&mut self, outcome: Outcome) {
        self.done = true;
        let worker = &self.worker;
        let verdict = worker
            .view
            .borrow_mut()
            .finish(&self.forward, outcome, worker.now());
        worker.heed(
            verdict,
            self.forward.endpoint.address,
            &self.forward.cluster,
        );
        if self.forward.attempt > 1 {
            worker.repeated.notify_waiters();
        }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        if !self.done {
            self.finish(Outcome::Abandoned);
        }
    }
}

/// Envoy's letters for what a decision says.
pub(crate) fn flags_of(flag: catamaran_decide::Flag) -> Flags {
    use catamaran_decide::Flag;
    match flag {
        Flag::NoRoute => Flags::NO_ROUTE,
        Flag::NoCluster => Flags::NO_CLUSTER,
        Flag::NoHealthyUpstream => Flags::NO_ENDPOINT,
        Flag::UpstreamConnectionFailure => Flags::UPSTREAM_CONNECT,
        Flag::UpstreamOverflow => Flags::OVERFLOW,
        Flag::UpstreamConnectionTermination => Flags::UPSTREAM_ENDED,
        Flag::UpstreamRemoteReset => Flags::UPSTREAM_RESET,
        Flag::UpstreamRequestTimeout => Flags::UPSTREAM_SLOW,
        Flag::UpstreamRetryLimitExceeded => Flags::ATTEMPTS,
        Flag::DownstreamConnectionTermination => Flags::CALLER_GONE,
        Flag::DownstreamProtocolError => Flags::CALLER_PROTOCOL,
        Flag::StreamIdleTimeout => Flags::IDLE,
        Flag::Unauthorized => Flags::UNAUTHORIZED,
    }
}
