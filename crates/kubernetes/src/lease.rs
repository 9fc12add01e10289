//! Who of several replicas writes: a `Lease` of `coordination.k8s.io/v1`, as a state machine without a clock or a socket.
//!
//! [`Candidate::next`] says what to ask of the API server, and [`Candidate::read`] and [`Candidate::wrote`] take what came of it.
//! All times are moments of this program's own clock: those that stand in the record were written by other clocks and mean
//! nothing here. A record counts from when we first saw it in this form; our own counts from before we asked for it. So a leader
//! is always through before anybody takes its place, as long as no clock runs half as fast again as another.
//!
//! ```
//! use catamaran_kubernetes::lease::{Candidate, Moment, Order, Record, Terms, Wrote};
//! let at = |seconds| Moment::at(std::time::Duration::from_secs(seconds));
//! let mut candidate = Candidate::new("replica-1".into(), Terms::default());
//! assert_eq!(candidate.next(at(0)), Order::Read);
//! candidate.read(None, at(0));
//! assert_eq!(candidate.next(at(0)), Order::Make);
//! let ours = Record { holder: "replica-1".into(), version: "7".into(), life: Terms::default().life };
//! candidate.wrote(Wrote::Done(ours), at(1));
//! assert!(candidate.leads(at(10)) && !candidate.leads(at(11)));
//! ```

use std::time::Duration;

mod server;

pub use server::{Leases, identity};
pub(crate) use server::{labels, micros};

/// A moment of this program's own clock, which only goes forward.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(Duration);

impl Moment {
    /// So long after the clock's beginning.
    pub fn at(since_start: Duration) -> Moment {
        Moment(since_start)
    }

    /// This moment plus `span`.
    pub fn after(self, span: Duration) -> Moment {
        Moment(self.0.saturating_add(span))
    }

    /// What has passed since `earlier`; zero when that is still to come.
    pub fn since(self, earlier: Moment) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

/// How long things last. The defaults are those of Kubernetes' own controllers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Terms {
    /// How long others leave a record alone that does not change.
    pub life: Duration,
    /// How long after the last success a leader goes on; well below `life`.
    pub give_up: Duration,
    /// How often a leader renews, and others look.
    pub retry: Duration,
}

impl Default for Terms {
    fn default() -> Terms {
        Terms {
            life: Duration::from_secs(15),
            give_up: Duration::from_secs(10),
            retry: Duration::from_secs(2),
        }
    }
}

/// No record is left alone for longer than this, whatever it says.
const LONGEST: Duration = Duration::from_secs(60);

/// What stands in the lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Who has it; empty when it was given back.
    pub holder: String,
    /// The version of the object.
    pub version: String,
    /// How long it is to be left alone, as its holder says.
    pub life: Duration,
}

/// What to ask of the API server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Order {
    /// Read the lease.
    Read,
    /// Make it, ours: it is not there.
    Make,
    /// Make it ours in place of this version.
    Take(String),
    /// Renew it in place of this version.
    Renew(String),
}

/// What came of a write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wrote {
    /// It is written, and this is what stands there now.
    Done(Record),
    /// Somebody else was first.
    Conflict,
    /// It was not written.
    Refused,
    /// Nobody knows: the answer did not come.
    Unknown,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Known {
    /// It must be read.
    Nothing,
    /// It was not there.
    Absent,
    /// It stands so since we looked then.
    Seen(Record, Moment),
}

/// One replica that would lead.
#[derive(Debug, Clone)]
pub struct Candidate {
    identity: String,
    terms: Terms,
    known: Known,
    /// The moment before we asked for what made it ours for the last time.
    held: Option<Moment>,
}

impl Candidate {
    /// A replica under a name that no other process ever has.
    pub fn new(identity: String, terms: Terms) -> Candidate {
        Candidate {
            identity,
            terms,
            known: Known::Nothing,
            held: None,
        }
    }

    /// The name of this replica in the lease.
    pub fn identity(&self) -> &str {
        &self.identity
    }

    /// Who has the lease, as far as we know.
    pub fn holder(&self) -> Option<&str> {
        match &self.known {
            Known::Seen(record, _) => Some(record.holder.as_str()).filter(|name| !name.is_empty()),
            Known::Nothing | Known::Absent => None,
        }
    }

    /// What to ask now.
    pub fn next(&self, now: Moment) -> Order {
        match &self.known {
            Known::Nothing => Order::Read,
            Known::Absent => Order::Make,
            Known::Seen(record, _) if record.holder == self.identity => {
                Order::Renew(record.version.clone())
            }
            Known::Seen(record, since)
                if record.holder.is_empty() || now >= self.ends(record, *since) =>
            {
                Order::Take(record.version.clone())
            }
            Known::Seen(..) => Order::Read,
        }
    }

    /// When to ask again, after this moment.
    pub fn again(&self, now: Moment) -> Duration {
        let retry = self.terms.retry;
        match &self.known {
            // it is worth a look at once when another's time is over
            Known::Seen(record, since) if record.holder != self.identity => {
                retry.min(self.ends(record, *since).since(now))
            }
            _ => retry,
        }
    }

    fn ends(&self, record: &Record, since: Moment) -> Moment {
        since.after(record.life.clamp(self.terms.life, LONGEST))
    }

    /// The lease was read, and the answer was there at `now`.
    pub fn read(&mut self, record: Option<Record>, now: Moment) {
        let Some(record) = record else {
            self.known = Known::Absent;
            self.held = None;
            return;
        };
        if record.holder != self.identity {
            self.held = None;
        }
        match &self.known {
            Known::Seen(known, _) if *known == record => {}
            _ => self.known = Known::Seen(record, now),
        }
    }

    /// A write that was asked for at `asked` came to this.
    pub fn wrote(&mut self, wrote: Wrote, asked: Moment) {
        match wrote {
            Wrote::Done(record) => {
                self.held = (record.holder == self.identity).then_some(asked);
                self.known = Known::Seen(record, asked);
            }
            Wrote::Conflict => {
                self.known = Known::Nothing;
                self.held = None;
            }
            Wrote::Refused => {}
            // What we had counts as long as it did, and what stands there now must be looked at.
            Wrote::Unknown => self.known = Known::Nothing,
        }
    }

    /// Whether this replica writes at this moment.
    pub fn leads(&self, now: Moment) -> bool {
        self.until().is_some_and(|until| now < until)
    }

    /// The moment from which this replica writes no more, unless it renews before.
    pub fn until(&self) -> Option<Moment> {
        self.held.map(|asked| asked.after(self.terms.give_up))
    }

    /// Stops leading. When the lease is ours, this is the version to give back.
    pub fn stop(&mut self) -> Option<String> {
        self.held = None;
        match std::mem::replace(&mut self.known, Known::Nothing) {
            Known::Seen(record, _) if record.holder == self.identity => Some(record.version),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests;
