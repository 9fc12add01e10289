//! Which replica writes: the loop around [`Candidate`], and the right to write that follows from it.
//!
//! What proxies depend on never asks: discovery, signing and the webhook's answers are everybody's. Only what is written into
//! our own cluster, and into others that are managed from here, waits for the lease.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::Duration;

use catamaran_kubernetes::connect::Access;
use catamaran_kubernetes::lease::{Candidate, Leases, Moment, Order, Terms};
use catamaran_model::{MeshName, SpiffeId, Timestamp};
use catamaran_process::Process;
use catamaran_registry::{Problem, ProblemKind, Severity};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use tokio::sync::{RwLock, watch};
use tokio::time::Instant;

use crate::replicas::Replicas;

/// Questions that follow from each other are asked without a pause, so many of them.
const AT_ONCE: usize = 3;
/// How long what is being written may take to end before the lease is given back.
const LAST_WRITES: Duration = Duration::from_secs(3);
/// How long it must not be had until people hear of it: a leader that was lost is followed sooner.
const COMPLAIN: Duration = Duration::from_secs(20);

/// The clock by which replicas are judged: it only goes forward, and is nobody else's.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock(Instant);

impl Clock {
    pub(crate) fn start() -> Clock {
        Clock(Instant::now())
    }

    pub(crate) fn now(self) -> Moment {
        Moment::at(self.0.elapsed())
    }

    fn instant(self, moment: Moment) -> Instant {
        self.0 + moment.since(Moment::at(Duration::ZERO))
    }
}

/// The right to write, as long as it lasts.
#[derive(Clone)]
pub(crate) struct Lead(Arc<Shared>);

struct Shared {
    identity: String,
    /// Until when we write, unless the lease is renewed before.
    until: watch::Sender<Option<Instant>>,
    /// The same in one word, for who waits for a change.
    leading: watch::Sender<bool>,
    writing: RwLock<()>,
    said: Mutex<Said>,
}

#[derive(Default)]
struct Said {
    holder: Option<String>,
    failing: Option<(Instant, String)>,
}

impl Lead {
    fn new(identity: String) -> Lead {
        Lead(Arc::new(Shared {
            identity,
            until: watch::Sender::new(None),
            leading: watch::Sender::new(false),
            writing: RwLock::new(()),
            said: Mutex::default(),
        }))
    }

    /// The name of this process in the lease.
    pub(crate) fn identity(&self) -> &str {
        &self.0.identity
    }

    /// Whether this replica writes now.
    pub(crate) fn leads(&self) -> bool {
        self.until().is_some()
    }

    fn until(&self) -> Option<Instant> {
        let until = *self.0.until.borrow();
        until.filter(|until| Instant::now() < *until)
    }

    /// Tells when that may be another answer.
    pub(crate) fn changes(&self) -> watch::Receiver<bool> {
        self.0.leading.subscribe()
    }

    /// Writes, when we lead. What is not done when our time ends is dropped: then another writes.
    pub(crate) async fn write<T>(&self, write: impl Future<Output = T>) -> Option<T> {
        let _writing = self.0.writing.read().await;
        let until = self.until()?;
        in_time(until, write).await
    }

    /// Writes into another cluster, when we lead. What hangs there must not keep the lease from being given back, so what is under
    /// way then is dropped.
    pub(crate) async fn write_afar<T>(&self, write: impl Future<Output = T>) -> Option<T> {
        let mut changes = self.changes();
        let until = self.until()?;
        tokio::select! {
            written = in_time(until, write) => written,
            _ = changes.wait_for(|leads| !leads) => None,
        }
    }

    /// Who writes, as far as we know.
    pub(crate) fn holder(&self) -> Option<String> {
        self.said().holder.clone()
    }

    /// What people should know of the lease.
    pub(crate) fn problem(&self, mesh: &MeshName) -> Option<Problem> {
        let said = self.said();
        let (since, failure) = said.failing.as_ref()?;
        (since.elapsed() > COMPLAIN).then(|| Problem {
            severity: Severity::Warning,
            kind: ProblemKind::BadObject,
            cluster: None,
            object: format!("Lease {}/{}", SpiffeId::SYSTEM_NAMESPACE, Leases::name(mesh)),
            message: format!(
                "this replica does not know who writes: {failure}; until it does it writes no status, no roots and no \
                 MeshExport, while proxies go on; it is tried again"
            ),
        })
    }

    fn said(&self) -> std::sync::MutexGuard<'_, Said> {
        self.0.said.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, until: Option<Instant>) {
        self.0.until.send_replace(until);
        let leads = self.leads();
        self.0.leading.send_if_modified(|led| {
            let changed = *led != leads;
            *led = leads;
            changed
        });
    }
}

/// Starts to stand for the lease of the instance.
pub(crate) fn keep(
    access: Access,
    mesh: MeshName,
    identity: String,
    replicas: Replicas,
    process: &Process,
    now: fn() -> Timestamp,
) -> Lead {
    let terms = Terms::default();
    let lead = Lead::new(identity.clone());
    let metrics = process.metrics();
    let clock = replicas.clock();
    let standing = Standing {
        process: process.clone(),
        replicas,
        leases: Leases::new(access, mesh, terms),
        candidate: Candidate::new(identity, terms),
        lead: lead.clone(),
        clock,
        now,
        leads: metrics.register(
            "catamaran_leads",
            "Whether this replica writes what only one may write",
            Gauge::default(),
        ),
        taken: metrics.counter(
            "catamaran_leases_taken",
            "Times that this replica became the one that writes",
        ),
    };
    let stopping = process.stopping();
    process.run("lease", async move {
        standing.until(stopping.wait()).await;
        Ok::<(), Infallible>(())
    });
    lead
}

struct Standing {
    process: Process,
    replicas: Replicas,
    leases: Leases,
    candidate: Candidate,
    lead: Lead,
    clock: Clock,
    now: fn() -> Timestamp,
    leads: Gauge,
    taken: Counter,
}

impl Standing {
    async fn until(mut self, stop: impl Future<Output = ()>) {
        tokio::pin!(stop);
        loop {
            // A question that is under way has its time: what became of it would not be known.
            let late = async {
                (&mut stop).await;
                tokio::time::sleep(LAST_WRITES).await;
            };
            tokio::select! {
                () = self.round() => {}
                () = late => return self.lead.tell(None),
            }
            let wait = self.candidate.again(self.clock.now());
            tokio::select! {
                () = &mut stop => break,
                () = self.wait(wait) => {}
            }
        }
        self.release().await;
    }

    /// Waits, and says so when our time ends meanwhile.
    async fn wait(&self, wait: Duration) {
        let until = Instant::now() + wait;
        match self.lead.until() {
            Some(ends) if ends < until => {
                tokio::time::sleep_until(ends).await;
                self.lead.tell(None);
                tokio::time::sleep_until(until).await;
            }
            _ => tokio::time::sleep_until(until).await,
        }
    }

    async fn round(&mut self) {
        // One that does not serve would say so in everybody's name.
        let aside = !self.process.is_ready() && self.replicas.another_is_ready();
        if aside && self.lead.leads() {
            tracing::warn!("another replica serves and this one does not: it is to write");
            self.release().await;
            return;
        }
        for _ in 0..AT_ONCE {
            let asked = self.clock.now();
            let order = match aside {
                true => Order::Read,
                false => self.candidate.next(asked),
            };
            let failure = match &order {
                Order::Read => match self.leases.read().await {
                    Ok(record) => {
                        self.candidate.read(record, self.clock.now());
                        None
                    }
                    Err(failure) => Some(failure),
                },
                write => {
                    let identity = self.candidate.identity().to_owned();
                    let written = self.leases.write(write, &identity, (self.now)());
                    let (wrote, failure) = written.await;
                    self.candidate.wrote(wrote, asked);
                    failure
                }
            };
            let failure = failure.map(|failure| failure.about("leases"));
            self.tell(failure);
            let next = self.candidate.next(self.clock.now());
            if aside {
                break;
            }
            if std::mem::discriminant(&next) == std::mem::discriminant(&order) {
                break;
            }
            if let Order::Renew(_) = next
                && self.candidate.leads(self.clock.now())
            {
                break;
            }
        }
    }

    fn tell(&mut self, failure: Option<String>) {
        let now = self.clock.now();
        let led = self.leads.get() == 1;
        let leads = self.candidate.leads(now);
        let until = self.candidate.until().filter(|_| leads);
        self.lead.tell(until.map(|until| self.clock.instant(until)));
        self.leads.set(i64::from(leads));
        if leads && !led {
            self.taken.inc();
            tracing::info!(
                identity = self.candidate.identity(),
                "this replica writes now"
            );
        } else if led && !leads {
            tracing::warn!("this replica does not write any more");
        }
        let holder = self.candidate.holder().map(str::to_owned);
        let mut said = self.lead.said();
        if holder.is_some() && said.holder != holder {
            if let Some(holder) = holder.as_deref().filter(|_| !leads) {
                tracing::info!(holder, "another replica writes");
            }
            said.holder = holder;
        }
        said.failing = failure.map(|failure| match said.failing.take() {
            Some((since, _)) => (since, failure),
            None => {
                tracing::warn!("who writes is not known: {failure}; it is tried again");
                (Instant::now(), failure)
            }
        });
    }

    /// In order: first nothing is written any more, then another may.
    async fn release(&mut self) {
        self.lead.tell(None);
        self.leads.set(0);
        let shared = self.lead.0.clone();
        let ended = tokio::time::timeout(LAST_WRITES, shared.writing.write()).await;
        if ended.is_err() {
            tracing::warn!("what was being written did not end; the lease ends by itself");
            return;
        }
        if let Some(version) = self.candidate.stop() {
            match self.leases.release(version, (self.now)()).await {
                Ok(()) => tracing::info!("the lease is given back"),
                Err(failure) => {
                    let failure = failure.about("leases");
                    tracing::warn!("the lease ends by itself: {failure}");
                }
            }
        }
    }
}

/// A write that ends with our time. A process that was stopped in the middle begins no further request when it goes on: the clock
/// comes before the answer.
async fn in_time<T>(until: Instant, write: impl Future<Output = T>) -> Option<T> {
    let mut write = std::pin::pin!(write);
    let guarded = std::future::poll_fn(|context| match Instant::now() < until {
        true => write.as_mut().poll(context).map(Some),
        false => Poll::Ready(None),
    });
    tokio::time::timeout_at(until, guarded).await.ok().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn nothing_is_written_after_our_time() {
        let lead = Lead::new("one".into());
        assert_eq!(lead.write(async { 1 }).await, None);
        lead.tell(Some(Instant::now() + Duration::from_secs(10)));
        assert_eq!(lead.write(async { 1 }).await, Some(1));
        let slow = async {
            tokio::time::sleep(Duration::from_secs(9)).await;
            2
        };
        assert_eq!(lead.write(slow).await, Some(2));
        let slower = async {
            tokio::time::sleep(Duration::from_secs(9)).await;
            3
        };
        assert_eq!(lead.write(slower).await, None);
        assert!(!lead.leads());
    }

    #[tokio::test(start_paused = true)]
    async fn what_hangs_in_another_cluster_does_not_keep_the_lease() {
        let lead = Lead::new("one".into());
        assert_eq!(lead.write_afar(async { 1 }).await, None);
        lead.tell(Some(Instant::now() + Duration::from_secs(10)));
        assert_eq!(lead.write_afar(async { 1 }).await, Some(1));
        let began = Instant::now();
        let hanging = {
            let lead = lead.clone();
            tokio::spawn(async move { lead.write_afar(std::future::pending::<()>()).await })
        };
        tokio::time::sleep(Duration::from_secs(1)).await;
        lead.tell(None);
        drop(lead.0.writing.write().await);
        assert_eq!(hanging.await.unwrap(), None);
        assert_eq!(began.elapsed(), Duration::from_secs(1));
        // And it ends with our time.
        lead.tell(Some(Instant::now() + Duration::from_secs(10)));
        let never = lead.write_afar(std::future::pending::<()>());
        assert_eq!(never.await, None);
        assert_eq!(began.elapsed(), Duration::from_secs(11));
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_was_stopped_in_the_middle_begins_nothing_more() {
        let lead = Lead::new("one".into());
        lead.tell(Some(Instant::now() + Duration::from_secs(10)));
        let mut second = false;
        let write = async {
            // what was asked first is answered while we are stopped
            tokio::time::advance(Duration::from_secs(11)).await;
            second = true;
        };
        assert_eq!(lead.write(write).await, None);
        assert!(!second);
    }

    #[tokio::test(start_paused = true)]
    async fn a_write_that_is_under_way_keeps_the_lease() {
        let lead = Lead::new("one".into());
        lead.tell(Some(Instant::now() + Duration::from_secs(10)));
        let writing = {
            let lead = lead.clone();
            tokio::spawn(async move {
                let slow = tokio::time::sleep(Duration::from_secs(2));
                lead.write(slow).await.is_some()
            })
        };
        tokio::time::sleep(Duration::from_secs(1)).await;
        lead.tell(None);
        let began = Instant::now();
        drop(lead.0.writing.write().await);
        assert_eq!(began.elapsed(), Duration::from_secs(1));
        assert!(writing.await.unwrap());
        assert_eq!(lead.write(async {}).await, None);
    }
}
