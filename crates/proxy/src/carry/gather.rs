//! Gathers what an HTTP/2 connection writes while other tasks have work for it, so that it becomes one TLS record and one
//! write to the kernel.
//!
//! The codec writes and flushes each DATA frame by itself. On a busy connection, where many streams are answered at once,
//! every answer would be a record, a system call and a wake-up of the peer of its own. Here a flush only asks a task of the
//! connection's own to send off what there is; by the time that task has its turn, those before it have written too.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What fills one TLS record: so much is not kept.
const ENOUGH: usize = 16 * 1024;
/// Pieces of one write that are handed on as they are.
const PIECES: usize = 16;

thread_local! {
    /// The last buffer that was let go: a connection has one only while something waits in it.
    static SPARE: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// A connection whose writes are gathered.
#[derive(Debug)]
pub(crate) struct Gathered<S>(Rc<RefCell<Inner<S>>>);

#[derive(Debug)]
struct Inner<S> {
    stream: S,
    /// Bytes that are not sent off yet, after the first `sent` of them.
    kept: Vec<u8>,
    sent: usize,
    /// Something is to be sent off.
    due: bool,
    closed: bool,
    /// Who sends off what was gathered.
    sender: Option<Waker>,
    /// The codec, while it may write no more.
    held_up: Option<Waker>,
    /// The codec, to learn that nothing can be sent any more.
    codec: Option<Waker>,
    failed: Option<io::Error>,
}

/// Makes the writes of a connection be gathered. Starts a task on this thread that sends them off.
pub(crate) fn gather<S: AsyncWrite + Unpin + 'static>(stream: S) -> Gathered<S> {
    let inner = Rc::new(RefCell::new(Inner {
        stream,
        kept: Vec::new(),
        sent: 0,
        due: false,
        closed: false,
        sender: None,
        held_up: None,
        codec: None,
        failed: None,
    }));
    let sender = inner.clone();
    tokio::task::spawn_local(poll_fn(move |cx| sender.borrow_mut().poll_sender(cx)));
    Gathered(inner)
}

impl<S: AsyncWrite + Unpin> Inner<S> {
    /// A turn of the sending task. It ends with the connection.
    fn poll_sender(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        register(&mut self.sender, cx);
        if self.due {
            let sent = self.poll_send(cx);
            if let Poll::Ready(sent) = sent {
                self.due = false;
                if sent.is_err() {
                    self.held_up = self.held_up.take().or(self.codec.take());
                }
                self.failed = sent.err();
                if let Some(codec) = self.held_up.take() {
                    codec.wake();
                }
            }
        }
        match self.closed {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }
    }

    /// Sends off what was gathered.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.sent < self.kept.len() {
            let rest = &self.kept[self.sent..];
            match ready!(Pin::new(&mut self.stream).poll_write(cx, rest))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                count => self.sent += count,
            }
        }
        self.emptied();
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn emptied(&mut self) {
        self.sent = 0;
        let mut kept = std::mem::take(&mut self.kept);
        if kept.capacity() > 0 {
            kept.clear();
            SPARE.set(kept);
        }
    }

    fn keep(&mut self, bytes: &[u8]) {
        if self.kept.capacity() == 0 {
            self.kept = SPARE.take();
        }
        self.kept.extend_from_slice(bytes);
    }

    fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.check()?;
        let pieces = &pieces[..pieces.len().min(PIECES)];
        let total = pieces.iter().map(|piece| piece.len()).sum();
        if self.kept.len() + total < ENOUGH {
            for piece in pieces {
                self.keep(piece);
            }
            return Poll::Ready(Ok(total));
        }
        let written = self.poll_write_through(cx, pieces);
        if written.is_pending() {
            register(&mut self.held_up, cx);
        }
        written
    }

    /// Writes enough for whole records: what was kept first, and `pieces` without a copy.
    fn poll_write_through(
        &mut self,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        loop {
            let rest = &self.kept[self.sent..];
            if rest.is_empty() {
                self.emptied();
                return Pin::new(&mut self.stream).poll_write_vectored(cx, pieces);
            }
            let before = rest.len();
            let mut all = [IoSlice::new(&[]); PIECES + 1];
            all[0] = IoSlice::new(rest);
            all[1..=pieces.len()].copy_from_slice(pieces);
            let all = &all[..=pieces.len()];
            let count = ready!(Pin::new(&mut self.stream).poll_write_vectored(cx, all))?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            if count > before {
                self.emptied();
                return Poll::Ready(Ok(count - before));
            }
            self.sent += count;
        }
    }

    fn check(&mut self) -> io::Result<()> {
        self.failed.take().map_or(Ok(()), Err)
    }
}

fn register(place: &mut Option<Waker>, cx: &Context<'_>) {
    match place {
        Some(waker) => waker.clone_from(cx.waker()),
        None => *place = Some(cx.waker().clone()),
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Gathered<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut inner = self.0.borrow_mut();
        if let Some(error) = inner.failed.take() {
            return Poll::Ready(Err(error));
        }
        Pin::new(&mut inner.stream).poll_read(cx, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Gathered<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.0.borrow_mut().poll_write(cx, &[IoSlice::new(bytes)])
    }

    /// Asks for what was written to be sent off soon. It is done for the codec at once.
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut inner = self.0.borrow_mut();
        inner.check()?;
        if !std::mem::replace(&mut inner.due, true) {
            register(&mut inner.codec, cx);
            if let Some(sender) = &inner.sender {
                sender.wake_by_ref();
            }
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut inner = self.0.borrow_mut();
        inner.check()?;
        let sent = inner.poll_send(cx);
        if sent.is_pending() {
            register(&mut inner.held_up, cx);
        }
        ready!(sent)?;
        Pin::new(&mut inner.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.0.borrow_mut().poll_write(cx, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }
}

impl<S> Drop for Gathered<S> {
    /// Whoever waits for the rest of it is not kept waiting: what can be sent at once is.
    fn drop(&mut self) {
        let mut inner = self.0.borrow_mut();
        inner.closed = true;
        if let Some(sender) = inner.sender.take() {
            sender.wake();
        }
    }
}

#[cfg(test)]
mod tests;
