//! A caller's HTTP/1 connection at rest: between two requests nobody needs the codec and its buffers, which are most of what
//! an open connection costs. They are let go when nothing came for a moment, and made again by the next byte.

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::sleep;

use super::detect::Rewound;
use super::stream::Stream;

/// A connection that is between requests is at rest when it brought nothing for so long, and up to twice that.
const MOMENT: Duration = Duration::from_millis(200);

/// What a connection's codec does with it.
#[derive(Debug, Default)]
pub(crate) struct Activity {
    reads: AtomicU32,
    /// The codec has bytes that the peer does not take.
    held_up: AtomicBool,
}

/// Waits until a connection is at rest. `between` says whether all of the last request was read and all of its answer handed to
/// the codec; while it does not, bytes to come may be the rest of a body, and whoever forgot that would take them for a request.
pub(crate) async fn at_rest(between: &Cell<bool>, activity: &Activity) {
    let mut seen = None;
    loop {
        sleep(MOMENT).await;
        let reads = Some(activity.reads.load(Ordering::Relaxed));
        if between.get() && seen == reads && !activity.held_up.load(Ordering::Relaxed) {
            return;
        }
        seen = reads;
    }
}

/// A connection that is watched.
#[derive(Debug)]
pub(crate) struct Watched {
    stream: Rewound<Stream>,
    activity: Arc<Activity>,
}

impl Watched {
    pub(crate) fn new(stream: Rewound<Stream>, activity: Arc<Activity>) -> Self {
        Watched { stream, activity }
    }

    pub(crate) fn into_inner(self) -> Rewound<Stream> {
        self.stream
    }

    fn written<T>(&self, result: Poll<T>) -> Poll<T> {
        let held_up = result.is_pending();
        self.activity.held_up.store(held_up, Ordering::Relaxed);
        result
    }
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.stream).poll_read(cx, buffer);
        if result.is_ready() {
            self.activity.reads.fetch_add(1, Ordering::Relaxed);
        }
        result
    }
}

impl AsyncWrite for Watched {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.written(result)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.stream).poll_flush(cx);
        self.written(result)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write_vectored(cx, bytes);
        self.written(result)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
