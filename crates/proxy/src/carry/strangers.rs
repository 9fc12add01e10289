//! Callers that have not yet said where they want to go, or not yet proved who they are.
//!
//! Each costs a socket and some memory, and nobody knows yet whether it means well. When there are more than [`STRANGERS`] on a
//! worker, the one that has been a stranger for the longest time is shown out: an honest caller is done within a few round
//! trips, so it is hardly ever the oldest, however many dishonest ones come.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;

use tokio::sync::oneshot;

use super::worker::Worker;

/// Strangers that a worker has at once.
pub(crate) const STRANGERS: usize = 1024;

/// The strangers of a worker, the oldest first.
#[derive(Default)]
pub(crate) struct Strangers {
    queue: RefCell<VecDeque<(u64, oneshot::Sender<()>)>>,
    numbers: Cell<u64>,
}

/// A caller until it is known. Dropped when it is, or has gone.
pub(crate) struct Stranger {
    worker: Rc<Worker>,
    number: u64,
    shown_out: oneshot::Receiver<()>,
}

impl Stranger {
    /// One more; the oldest goes if they are too many.
    pub(crate) fn enter(worker: &Rc<Worker>) -> Stranger {
        let strangers = &worker.strangers;
        let number = strangers.numbers.get();
        strangers.numbers.set(number + 1);
        let (stays, shown_out) = oneshot::channel();
        let mut queue = strangers.queue.borrow_mut();
        queue.push_back((number, stays));
        if queue.len() > STRANGERS {
            queue.pop_front();
        }
        Stranger {
            worker: worker.clone(),
            number,
            shown_out,
        }
    }

    /// What `doing` comes to; `None` when this stranger was shown out meanwhile.
    pub(crate) async fn while_it_may<T>(&mut self, doing: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            done = doing => Some(done),
            _ = &mut self.shown_out => None,
        }
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        let mut queue = self.worker.strangers.queue.borrow_mut();
        if let Ok(at) = queue.binary_search_by_key(&self.number, |(number, _)| *number) {
            queue.remove(at);
        }
    }
}
