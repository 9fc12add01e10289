//! Bodies on their way: of requests, which may have to be sent again, and of answers, whose end is told.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep};

use super::patience::Patience;

/// Bytes of a request's body that are kept, so that it can be sent again, until the head of an answer comes.
pub(crate) const REPLAY_LIMIT: usize = 64 * 1024;

/// Why a body broke off.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BodyError {
    /// The side that sent it failed.
    #[error("the body ended early: {0}")]
    Source(#[from] hyper::Error),
    /// Another attempt has taken the body over.
    #[error("the attempt was given up")]
    GivenUp,
    /// The answer was not whole when its time was over.
    #[error("the answer was not whole in time")]
    Slow,
    /// Nothing moved.
    #[error("nothing moved for the idle time")]
    Idle,
}

/// The body of one request, and what is kept of it.
pub(crate) struct Original<B = Incoming> {
    inner: RefCell<Inner<B>>,
    /// Bytes that came from the caller.
    received: Cell<u64>,
    patience: Option<Rc<Patience>>,
}

struct Inner<B> {
    source: B,
    attempt: u32,
    keep: bool,
    kept: Vec<Bytes>,
    kept_bytes: usize,
    trailers: Option<HeaderMap>,
    /// Something was handed out that is no longer kept.
    lost: bool,
    ended: bool,
    failed: bool,
    total: Option<u64>,
}

impl<B: Body<Data = Bytes>> Original<B> {
    /// Takes a caller's body. With `keep`, it can be sent again while it is small.
    pub(crate) fn new(source: B, keep: bool, patience: Option<Rc<Patience>>) -> Rc<Self> {
        let ended = source.is_end_stream();
        if let Some(patience) = patience.as_ref().filter(|_| ended) {
            patience.came_whole();
        }
        let total = source.size_hint().exact();
        let keep = keep && total.is_none_or(|total| total <= REPLAY_LIMIT as u64);
        Rc::new(Original {
            inner: RefCell::new(Inner {
                source,
                attempt: 0,
                keep,
                kept: Vec::new(),
                kept_bytes: 0,
                trailers: None,
                lost: false,
                ended,
                failed: false,
                total,
            }),
            received: Cell::new(0),
            patience,
        })
    }

    /// The body for the next attempt; that of the one before is dead from now on.
    pub(crate) fn send(self: &Rc<Self>) -> Sent<B> {
        let mut inner = self.inner.borrow_mut();
        inner.attempt += 1;
        Sent {
            original: self.clone(),
            attempt: inner.attempt,
            next: 0,
            handed: 0,
            trailers_sent: false,
        }
    }

    /// Whether every byte handed out so far can be handed out again.
    pub(crate) fn can_replay(&self) -> bool {
        let inner = self.inner.borrow();
        !inner.lost && !inner.failed
    }

    /// Keeps nothing from now on: no further attempt will be made.
    pub(crate) fn settle(&self) {
        self.inner.borrow_mut().keep = false;
    }

    /// Whether the caller has sent all of it.
    pub(crate) fn ended(&self) -> bool {
        self.inner.borrow().ended
    }

    /// Whether the caller broke off.
    pub(crate) fn failed(&self) -> bool {
        self.inner.borrow().failed
    }

    /// Bytes received from the caller.
    pub(crate) fn received(&self) -> u64 {
        self.received.get()
    }
}

/// A request's body as one attempt sends it.
pub(crate) struct Sent<B = Incoming> {
    original: Rc<Original<B>>,
    attempt: u32,
    next: usize,
    handed: u64,
    trailers_sent: bool,
}

impl<B: Body<Data = Bytes, Error = hyper::Error> + Unpin> Body for Sent<B> {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        let original = this.original.clone();
        let mut inner = original.inner.borrow_mut();
        if inner.attempt != this.attempt {
            return Poll::Ready(Some(Err(BodyError::GivenUp)));
        }
        if let Some(chunk) = inner.kept.get(this.next) {
            this.next += 1;
            this.handed += chunk.len() as u64;
            return Poll::Ready(Some(Ok(Frame::data(chunk.clone()))));
        }
        if inner.ended {
            if let Some(trailers) = inner.trailers.clone().filter(|_| !this.trailers_sent) {
                this.trailers_sent = true;
                return Poll::Ready(Some(Ok(Frame::trailers(trailers))));
            }
            return Poll::Ready(None);
        }
        let frame = match Pin::new(&mut inner.source).poll_frame(cx) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(None) => {
                inner.ended = true;
                if let Some(patience) = &original.patience {
                    patience.came_whole();
                }
                return Poll::Ready(None);
            }
            Poll::Ready(Some(Err(error))) => {
                inner.failed = true;
                return Poll::Ready(Some(Err(error.into())));
            }
            Poll::Ready(Some(Ok(frame))) => frame,
        };
        if let Some(chunk) = frame.data_ref() {
            original
                .received
                .set(original.received.get() + chunk.len() as u64);
            this.handed += chunk.len() as u64;
            if inner.keep && inner.kept_bytes + chunk.len() <= REPLAY_LIMIT {
                inner.kept_bytes += chunk.len();
                inner.kept.push(chunk.clone());
                this.next += 1;
            } else {
                inner.keep = false;
                inner.lost = true;
                inner.kept = Vec::new();
                this.next = 0;
            }
            if inner.source.is_end_stream() {
                inner.ended = true;
            }
        } else if let Some(trailers) = frame.trailers_ref() {
            inner.ended = true;
            inner.trailers = Some(trailers.clone());
            this.trailers_sent = true;
        }
        if let Some(patience) = &original.patience {
            match inner.ended {
                true => patience.came_whole(),
                false => patience.touch(),
            }
        }
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        let inner = self.original.inner.borrow();
        inner.ended
            && inner.attempt == self.attempt
            && self.next >= inner.kept.len()
            && (inner.trailers.is_none() || self.trailers_sent)
    }

    fn size_hint(&self) -> SizeHint {
        match self.original.inner.borrow().total {
            Some(total) => SizeHint::with_exact(total.saturating_sub(self.handed)),
            None => SizeHint::default(),
        }
    }
}

/// What learns how the body of an answer ended.
pub(crate) trait Ending {
    /// All of it was handed on; `grpc` is the `grpc-status` of its trailers.
    fn complete(self, bytes: u64, grpc: Option<u32>);
    /// The upstream broke off, or its time was over.
    fn broken(self, bytes: u64, error: &BodyError);
    /// The caller did not want the rest.
    fn unwanted(self, bytes: u64);
}

/// The body of an answer to a caller.
pub(crate) enum Answer<E: Ending> {
    /// Made here; empty when `None`.
    Text(Option<Bytes>),
    /// An upstream's.
    Carried(Box<Carried<E>>),
}

/// An upstream's body on its way to the caller.
pub(crate) struct Carried<E: Ending> {
    body: Incoming,
    bytes: u64,
    deadline: Option<Instant>,
    patience: Option<Rc<Patience>>,
    /// Made when there is something to wait for, which seldom is.
    alarm: Option<Pin<Box<Sleep>>>,
    ending: Option<E>,
}

impl<E: Ending> Answer<E> {
    /// Hands on `body` until `deadline`, or until `patience` ends, and tells `ending` about it.
    pub(crate) fn carried(
        body: Incoming,
        deadline: Option<Instant>,
        patience: Option<Rc<Patience>>,
        ending: E,
    ) -> Self {
        let mut carried = Carried {
            body,
            bytes: 0,
            deadline,
            patience,
            alarm: None,
            ending: Some(ending),
        };
        if carried.body.is_end_stream() {
            if let Some(ending) = carried.ending.take() {
                ending.complete(0, None);
            }
            return Answer::Text(None);
        }
        Answer::Carried(Box::new(carried))
    }
}

impl<E: Ending> Carried<E> {
    /// Waits for the end of its time. The alarm may be too early, when something moved since it was set; then it is set anew.
    fn poll_over(&mut self, cx: &mut Context<'_>) -> Poll<BodyError> {
        loop {
            let idle = self.patience.as_ref().and_then(|patience| patience.end());
            let (until, error) = match (self.deadline, idle) {
                (None, None) => return Poll::Pending,
                (Some(deadline), idle) if idle.is_none_or(|idle| deadline <= idle) => {
                    (deadline, BodyError::Slow)
                }
                (_, Some(idle)) => (idle, BodyError::Idle),
                (Some(deadline), None) => (deadline, BodyError::Slow),
            };
            let alarm = self
                .alarm
                .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(until)));
            ready!(alarm.as_mut().poll(cx));
            if alarm.deadline() >= until {
                return Poll::Ready(error);
            }
            alarm.as_mut().reset(until);
        }
    }
}

/// `grpc-status` of a head or of trailers.
pub(crate) fn grpc_status(headers: &HeaderMap) -> Option<u32> {
    headers.get("grpc-status")?.to_str().ok()?.parse().ok()
}

impl<E: Ending> Body for Answer<E>
where
    Self: Unpin,
{
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let carried = match &mut *self {
            Answer::Text(text) => {
                return Poll::Ready(text.take().map(|text| Ok(Frame::data(text))));
            }
            Answer::Carried(carried) => carried,
        };
        let mut polled = Pin::new(&mut carried.body)
            .poll_frame(cx)
            .map_err(BodyError::from);
        if polled.is_pending() {
            let error = ready!(carried.poll_over(cx));
            polled = Poll::Ready(Some(Err(error)));
        }
        let mut grpc = None;
        let end = match &polled {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(None) => true,
            Poll::Ready(Some(Err(error))) => {
                if let Some(ending) = carried.ending.take() {
                    ending.broken(carried.bytes, error);
                }
                false
            }
            Poll::Ready(Some(Ok(frame))) => {
                if let Some(patience) = &carried.patience {
                    patience.touch();
                }
                if let Some(chunk) = frame.data_ref() {
                    carried.bytes += chunk.len() as u64;
                    carried.body.is_end_stream()
                } else {
                    grpc = frame.trailers_ref().and_then(grpc_status);
                    true
                }
            }
        };
        if end && let Some(ending) = carried.ending.take() {
            ending.complete(carried.bytes, grpc);
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Answer::Text(text) => text.is_none(),
            Answer::Carried(carried) => carried.body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Answer::Text(text) => SizeHint::with_exact(text.as_ref().map_or(0, Bytes::len) as u64),
            Answer::Carried(carried) => carried.body.size_hint(),
        }
    }
}

impl<E: Ending> Drop for Carried<E> {
    fn drop(&mut self) {
        if let Some(ending) = self.ending.take() {
            ending.unwanted(self.bytes);
        }
    }
}

#[cfg(test)]
mod tests;
