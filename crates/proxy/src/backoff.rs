//! How long to wait before trying again.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::time::Duration;

/// Waits that double from `least` to `most`, each shortened by lot to between half and all of it, so that many that lost
/// the same thing do not come back together.
#[derive(Debug)]
pub(crate) struct Backoff {
    least: Duration,
    most: Duration,
    next: Duration,
}

impl Backoff {
    pub(crate) fn new(least: Duration, most: Duration) -> Backoff {
        Backoff {
            least,
            most,
            next: least,
        }
    }

    /// The next wait.
    pub(crate) fn wait(&mut self) -> Duration {
        let whole = self.next;
        self.next = (whole * 2).min(self.most);
        whole / 2 + whole.mul_f64(0.5 * f64::from(lot() as u32) / f64::from(u32::MAX))
    }

    /// It worked: the next wait is the least.
    pub(crate) fn reset(&mut self) {
        self.next = self.least;
    }
}

/// A number that differs from call to call and from process to process; not for secrets.
pub(crate) fn lot() -> u64 {
    RandomState::new().hash_one(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_their_bound_and_begin_again() {
        let (least, most) = (Duration::from_millis(10), Duration::from_secs(15));
        let mut backoff = Backoff::new(least, most);
        let waits: Vec<Duration> = (0..40).map(|_| backoff.wait()).collect();
        assert!(waits[0] >= least / 2 && waits[0] <= least);
        assert!(waits[39] >= most / 2 && waits.iter().all(|wait| *wait <= most));
        assert!(
            waits[30..].windows(2).any(|pair| pair[0] != pair[1]),
            "all alike"
        );
        backoff.reset();
        assert!(backoff.wait() <= least);
    }
}
