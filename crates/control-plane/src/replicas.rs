//! The replicas of this control plane: each says how it is, and each hears what the others say.
//!
//! All of them listen, so that whoever comes to write knows at once who lives.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use catamaran_kubernetes::beats::{self, BEAT, Beat, Living, MAX_REFUSALS, Refusal, Replica};
use catamaran_kubernetes::connect::Access;
use catamaran_process::Process;
use catamaran_registry::ProblemKind;
use tokio::time::Instant;

use crate::lead::Clock;
use crate::status::Reporter;

/// How often we look whether there is anything to say, and what the others say.
const ROUND: Duration = Duration::from_secs(5);
/// How long the last word may take.
const LAST_WORD: Duration = Duration::from_secs(2);

/// Who lives, ourselves included.
#[derive(Clone)]
pub(crate) struct Replicas(Arc<Shared>);

struct Shared {
    own: String,
    clock: Clock,
    living: Mutex<Living>,
}

impl Replicas {
    pub(crate) fn new(own: String, clock: Clock) -> Replicas {
        Replicas(Arc::new(Shared {
            own,
            clock,
            living: Mutex::default(),
        }))
    }

    /// The other replicas that live now, by name.
    pub(crate) fn others(&self) -> BTreeMap<String, Beat> {
        let shared = &self.0;
        let living = shared.living.lock().unwrap_or_else(PoisonError::into_inner);
        living
            .living()
            .filter(|(name, _)| *name != shared.own)
            .map(|(name, beat)| (name.to_owned(), beat.clone()))
            .collect()
    }

    /// Whether another one serves.
    pub(crate) fn another_is_ready(&self) -> bool {
        self.others().values().any(|beat| beat.ready)
    }

    /// The clock by which they are judged.
    pub(crate) fn clock(&self) -> Clock {
        self.0.clock
    }

    /// Our own name.
    pub(crate) fn own(&self) -> &str {
        &self.0.own
    }

    /// How many replicas live, ourselves included.
    pub(crate) fn count(&self) -> usize {
        self.others().len() + 1
    }
}

/// What this replica says of itself.
pub(crate) async fn own_beat(reporter: &Reporter) -> Beat {
    let now = (reporter.now)();
    let counts = reporter.counts();
    let problems = reporter.tell.problems().await;
    let refused = problems
        .into_iter()
        .filter(|problem| problem.kind == ProblemKind::Refused);
    let count = |of: usize| u32::try_from(of).unwrap_or(u32::MAX);
    let intermediates = reporter.authority.intermediates(now);
    Beat {
        version: reporter.version.to_string(),
        ready: reporter.process.is_ready(),
        proxies: count(counts.connected),
        pending: count(counts.pending),
        refusals: refused
            .take(MAX_REFUSALS)
            .map(|problem| Refusal {
                object: problem.object,
                message: problem.message,
            })
            .collect(),
        intermediates: intermediates.iter().map(ToString::to_string).collect(),
        leaving: false,
    }
}

/// Says how we are, and listens.
pub(crate) fn keep(
    replicas: Replicas,
    access: Access,
    replica: Replica,
    reporter: Reporter,
    process: &Process,
) {
    let stopping = process.stopping();
    process.run("replicas", async move {
        let stop = stopping.wait();
        tokio::pin!(stop);
        let mut said: Option<(Beat, Instant)> = None;
        let mut complained = None;
        loop {
            let mut failure = None;
            match beats::list(&access, &reporter.mesh).await {
                Ok(all) => {
                    let now = replicas.0.clock.now();
                    let mut living = replicas.0.living.lock().unwrap_or_else(PoisonError::into_inner);
                    living.look(all, now);
                }
                Err(error) => failure = Some(error.about("leases")),
            }
            let beat = own_beat(&reporter).await;
            let fresh = said
                .as_ref()
                .is_some_and(|(before, at)| *before == beat && at.elapsed() + ROUND / 2 < BEAT);
            if !fresh {
                let put = beats::put(&access, &reporter.mesh, &replica, &beat, (reporter.now)());
                match put.await {
                    Ok(()) => said = Some((beat, Instant::now())),
                    Err(error) => failure = Some(error.about("leases")),
                }
            }
            if failure != complained {
                if let Some(failure) = &failure {
                    tracing::warn!("other replicas do not hear of this one's proxies: {failure}; it is tried again");
                }
                complained = failure;
            }
            tokio::select! {
                () = &mut stop => break,
                () = tokio::time::sleep(ROUND) => {}
            }
        }
        let leaving = Beat {
            leaving: true,
            version: reporter.version.to_string(),
            ..Beat::default()
        };
        let last = beats::put(&access, &reporter.mesh, &replica, &leaving, (reporter.now)());
        // who does not hear it counts us a little longer
        let _ = tokio::time::timeout(LAST_WORD, last).await;
        Ok::<(), Infallible>(())
    });
}
