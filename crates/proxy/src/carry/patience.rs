//! How long a request may be silent, and by when it must be whole.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

/// What one request is waited for. Both sides touch it whenever something moves.
///
/// A caller that does not take what it asked for is not seen here: nothing is asked of an answer's body meanwhile.
#[derive(Debug)]
pub(crate) struct Patience {
    idle: Option<Duration>,
    moved: Cell<Instant>,
    /// By when the request must have come; taken away when it has.
    whole_by: Cell<Option<Instant>>,
    whole: Cell<bool>,
}

impl Patience {
    /// For a request that `began`; none where nothing is to be waited for.
    pub(crate) fn of(
        began: Instant,
        idle: Option<Duration>,
        whole: Option<Duration>,
    ) -> Option<Rc<Patience>> {
        (idle.is_some() || whole.is_some()).then(|| {
            Rc::new(Patience {
                idle,
                moved: Cell::new(Instant::now()),
                whole_by: Cell::new(whole.map(|time| began + time)),
                whole: Cell::new(false),
            })
        })
    }

    /// Something moved.
    pub(crate) fn touch(&self) {
        if self.idle.is_some() {
            self.moved.set(Instant::now());
        }
    }

    /// The caller has sent everything.
    pub(crate) fn came_whole(&self) {
        self.touch();
        self.whole.set(true);
        self.whole_by.set(None);
    }

    /// Whether the caller has sent everything.
    pub(crate) fn is_whole(&self) -> bool {
        self.whole.get()
    }

    /// When it ends unless something moves.
    pub(crate) fn end(&self) -> Option<Instant> {
        let idle = self.idle.map(|idle| self.moved.get() + idle);
        match (idle, self.whole_by.get()) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        }
    }

    /// Waits until it has ended.
    pub(crate) async fn ended(&self) {
        while let Some(end) = self.end() {
            if Instant::now() >= end {
                return;
            }
            sleep_until(end).await;
        }
        std::future::pending().await
    }
}
