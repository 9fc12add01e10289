//! Carries connections: takes callers in, decides where each request or connection goes, dials, copies, and reports.
//!
//! A [`Carrier`] has a number of workers, each an own thread with its own sockets, pools, evidence and counters; nothing is
//! shared between them on the way of a request. A new [`Table`] is seen by the next connection or request; connections
//! under way go on. A sidecar and an east-west gateway are two settings of this one pipeline.
//!
//! What it refuses: a connection without a way (there is no default route), plaintext where the table demands mTLS, an
//! upstream that is not who it should be (before any byte of a request), CONNECT, and heads that mean two things.
//!
//! The order of reading: `accept.rs` (sockets, and a connection's way), `http.rs` and `tcp.rs` (what is carried), `pool.rs`
//! and `dial.rs` (upstreams), `probe.rs` (gateways nobody calls just now), `worker.rs` (what a thread has), `strangers.rs` (who is not known yet), `sni.rs`, `detect.rs`, `tls.rs`, `head.rs`, `body.rs`, `ahead.rs`, `copy.rs`.

mod accept;
mod ahead;
mod body;
mod copy;
mod detect;
mod dial;
pub(crate) mod fuzzing;
mod gather;
mod head;
mod http;
mod lanes;
mod linger;
mod patience;
mod pool;
mod probe;
mod rest;
mod scratch;
mod sni;
mod strangers;
mod stream;
mod tcp;
mod tls;
mod worker;

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use catamaran_decide::Table;
use catamaran_identity::Credentials;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::LocalSet;
use tokio::time::{MissedTickBehavior, interval};

pub use crate::config::{Capture, Role};
use crate::report::{Party, Report};
use worker::Worker;

/// How often a worker hands its log lines on and looks through its pools.
const TICK: Duration = Duration::from_secs(1);

/// What a carrier is told once.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Sidecar or gateway.
    pub role: Role,
    /// How traffic comes; nothing to a gateway.
    pub capture: Capture,
    /// Whether every listener of the table that is bound has its own socket, in place of those of role and capture.
    pub listeners: bool,
    /// The address of the workload, or the one that the gateway listens on.
    pub address: IpAddr,
    /// Who the workload is, for metrics; its `cluster` also tells what leaves the cluster.
    pub own: Party,
    /// How many threads; at least one.
    pub workers: usize,
    /// How long connections may take to end when no new ones are wanted.
    pub drain: Duration,
    /// How connections that leave the cluster are looked after.
    pub remote: Remote,
}

/// How connections that leave the cluster are looked after.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Remote {
    /// Without a byte for so long while streams are open, the other end is asked for a sign of life.
    pub ping: Duration,
    /// How long that may take before the connection is taken for dead.
    pub pong: Duration,
    /// How old a connection to a gateway gets, with a quarter of jitter to both sides.
    pub renew: Duration,
}

impl Default for Remote {
    /// A second of silence, a second to answer, and a minute of use.
    fn default() -> Self {
        Remote {
            ping: Duration::from_secs(1),
            pong: Duration::from_secs(1),
            renew: Duration::from_secs(60),
        }
    }
}

/// Whether a socket could be bound by every worker so far.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SocketState {
    /// It takes connections.
    Bound,
    /// It does not, and is tried again every second. The reason is the system's.
    Failed(String),
    /// It does not because our user may not take this port. It is tried again as well, but nobody waits for it: everything else
    /// is carried.
    Denied(String),
}

/// The sockets of all workers, for readiness and the admin page.
#[derive(Debug, Clone, Default)]
pub struct Sockets(Arc<Mutex<BTreeMap<SocketAddr, SocketState>>>);

impl Sockets {
    /// All of them.
    pub fn states(&self) -> BTreeMap<SocketAddr, SocketState> {
        self.lock().clone()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<SocketAddr, SocketState>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn bound(&self, address: SocketAddr) {
        if let Some(SocketState::Failed(_) | SocketState::Denied(_)) =
            self.lock().insert(address, SocketState::Bound)
        {
            tracing::info!(%address, "the socket is bound now");
        }
    }

    fn failed(&self, address: SocketAddr, error: &io::Error) {
        let state = match error.kind() {
            io::ErrorKind::PermissionDenied => SocketState::Denied(error.to_string()),
            _ => SocketState::Failed(error.to_string()),
        };
        if self.lock().insert(address, state.clone()) != Some(state) {
            tracing::warn!(%address, %error, "a socket cannot be bound; it is tried again every second");
        }
    }

    fn gone(&self, address: SocketAddr) {
        self.lock().remove(&address);
    }
}

/// How one worker sees one endpoint that it called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sight {
    /// Which worker, from 0.
    pub worker: usize,
    /// The xDS cluster.
    pub cluster: Arc<str>,
    /// The endpoint.
    pub address: SocketAddr,
    /// Requests and connections in flight.
    pub in_flight: u32,
    /// For how long it is out of choice, zero when the next attempt tries it; `None` when it is not out.
    pub out: Option<Duration>,
    /// How often in a row it was ejected or suspected.
    pub times: u32,
}

type Question = oneshot::Sender<Vec<Sight>>;

/// Asks the workers what they see, for the admin page.
#[derive(Debug, Clone)]
pub struct Sights(Vec<mpsc::Sender<Question>>);

impl Sights {
    /// The endpoints of every cluster that was called, by worker; none of a worker that has ended.
    pub async fn all(&self) -> Vec<Sight> {
        let mut all = Vec::new();
        for worker in &self.0 {
            let (question, answer) = oneshot::channel();
            if worker.send(question).await.is_ok()
                && let Ok(sights) = answer.await
            {
                all.extend(sights);
            }
        }
        all
    }
}

/// The running workers. Dropped without [`Carrier::drain`], it ends them at once.
#[derive(Debug)]
pub struct Carrier {
    draining: watch::Sender<bool>,
    sockets: Sockets,
    sights: Sights,
    workers: Vec<(JoinHandle<()>, oneshot::Receiver<()>)>,
}

impl Carrier {
    /// Starts the workers and returns when each has tried to bind its sockets; which of them failed, [`Carrier::sockets`] says.
    ///
    /// # Errors
    /// A thread could not be started.
    pub fn start(
        settings: Settings,
        tables: watch::Receiver<Arc<Table>>,
        credentials: Arc<Credentials>,
        report: &Report,
    ) -> io::Result<Carrier> {
        let settings = Arc::new(settings);
        let (draining, drained) = watch::channel(false);
        let sockets = Sockets::default();
        let mut workers = Vec::new();
        let mut asked = Vec::new();
        let (ready, is_ready) = std::sync::mpsc::channel();
        for index in 0..settings.workers.max(1) {
            let (ended, end) = oneshot::channel();
            let (ask, questions) = mpsc::channel(1);
            asked.push(ask);
            let settings = settings.clone();
            let tables = tables.clone();
            let credentials = credentials.clone();
            let scribe = report.scribe();
            let drained = drained.clone();
            let sockets = sockets.clone();
            let ready = ready.clone();
            let thread = std::thread::Builder::new()
                .name(format!("worker-{index}"))
                .spawn(move || {
                    let runtime = match tokio::runtime::Builder::new_current_thread()
                        .enable_all()
                        .build()
                    {
                        Ok(runtime) => runtime,
                        Err(error) => {
                            tracing::error!(%error, "a worker cannot start");
                            return;
                        }
                    };
                    let local = LocalSet::new();
                    local.block_on(&runtime, async move {
                        let worker = Worker::new(
                            settings,
                            tables.clone(),
                            credentials,
                            scribe,
                            drained,
                            seed(),
                        );
                        work(worker, index, tables, sockets, questions, move || {
                            ready.send(()).unwrap_or_default()
                        })
                        .await;
                    });
                    drop(local);
                    drop(runtime);
                    let _ = ended.send(());
                })?;
            workers.push((thread, end));
        }
        drop(ready);
        for _ in &workers {
            if is_ready.recv().is_err() {
                return Err(io::Error::other("a worker ended before it was ready"));
            }
        }
        Ok(Carrier {
            draining,
            sockets,
            sights: Sights(asked),
            workers,
        })
    }

    /// The sockets, and which of them are bound.
    pub fn sockets(&self) -> Sockets {
        self.sockets.clone()
    }

    /// What the workers see of endpoints.
    pub fn sights(&self) -> Sights {
        self.sights.clone()
    }

    /// Takes no more connections, tells callers to go (`Connection: close`, GOAWAY), waits until they did or the settings'
    /// time is over, and ends.
    pub async fn drain(self) {
        let _ = self.draining.send(true);
        for (thread, end) in self.workers {
            let _ = end.await;
            let _ = thread.join();
        }
    }
}

/// A number that differs from worker to worker and from proxy to proxy; not for secrets.
fn seed() -> u64 {
    use std::hash::{BuildHasher, Hasher};
    std::collections::hash_map::RandomState::new()
        .build_hasher()
        .finish()
}

/// What a worker sees of the clusters that it called.
fn sights(worker: &Worker, index: usize) -> Vec<Sight> {
    let table = worker.table();
    let view = worker.view.borrow();
    let now = worker.now();
    let mut sights = Vec::new();
    for cluster in view
        .busy()
        .into_iter()
        .filter_map(|(name, _)| table.cluster(name))
    {
        for endpoint in cluster.endpoints() {
            let standing = view.standing(cluster, endpoint.address);
            sights.push(Sight {
                worker: index,
                cluster: cluster.name().clone(),
                address: endpoint.address,
                in_flight: standing.in_flight,
                out: standing.out_until.map(|until| until.since(now)),
                times: standing.times,
            });
        }
    }
    sights
}

/// A worker's life.
async fn work(
    worker: Rc<Worker>,
    index: usize,
    tables: watch::Receiver<Arc<Table>>,
    sockets: Sockets,
    mut questions: mpsc::Receiver<Question>,
    ready: impl FnOnce() + 'static,
) {
    let keeper =
        tokio::task::spawn_local(accept::keep_open(worker.clone(), tables, sockets, ready));
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut draining = worker.draining.clone();
    loop {
        tokio::select! {
            asked = draining.wait_for(|draining| *draining) => {
                if asked.is_err() {
                    return;
                }
                break;
            }
            Some(question) = questions.recv() => {
                let _ = question.send(sights(&worker, index));
            }
            _ = ticks.tick() => {
                worker.table();
                worker.pools.sweep(&worker);
                worker.probes.go_round(&worker);
                worker.scribe.flush();
            }
        }
    }
    let _ = keeper.await;
    let _ = tokio::time::timeout(worker.settings.drain, worker.emptied()).await;
}
