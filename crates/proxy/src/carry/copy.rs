//! Copies bytes both ways between two connections, with half-close, until both directions end.
//!
//! Every copy of a thread reads into one scratch buffer and writes at once; only what a slow receiver would not take is kept,
//! and no more is read in that direction until it is gone. A connection on which nothing moves therefore owns no buffer.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::scratch::Scratch;

/// Bytes read at once; the most that one direction of one connection ever keeps.
pub(crate) const SCRATCH: usize = 64 * 1024;

thread_local! {
    static BUFFER: RefCell<Scratch> = RefCell::new(Scratch::new(SCRATCH));
}

/// Why a copy ended.
#[derive(Debug)]
pub(crate) enum End {
    /// Both sides closed their direction.
    Closed,
    /// Nothing moved for at least the idle time (at most twice that).
    Idle,
    /// The first connection failed.
    First(io::Error),
    /// The second connection failed.
    Second(io::Error),
}

/// What a copy moved.
#[derive(Debug)]
pub(crate) struct Copied {
    /// Bytes written to the second connection.
    pub(crate) forth: u64,
    /// Bytes written to the first connection.
    pub(crate) back: u64,
    /// Why it ended.
    pub(crate) end: End,
}

/// Copies between `first` and `second`. `head` is what was already read from `first`; it is written to `second` before all else.
pub(crate) async fn copy<A, B>(first: A, second: B, head: Vec<u8>, idle: Duration) -> Copied
where
    A: AsyncRead + AsyncWrite,
    B: AsyncRead + AsyncWrite,
{
    let mut first = pin!(first);
    let mut second = pin!(second);
    let mut forth = Way::new(head);
    let mut back = Way::new(Vec::new());
    let mut timer = pin!(tokio::time::sleep(idle));
    let mut seen = (0, 0);
    let end = poll_fn(|cx| {
        let a = match forth.poll(cx, first.as_mut(), second.as_mut()) {
            Poll::Ready(Err(Side::Reader(e))) => return Poll::Ready(End::First(e)),
            Poll::Ready(Err(Side::Writer(e))) => return Poll::Ready(End::Second(e)),
            other => other.is_ready(),
        };
        let b = match back.poll(cx, second.as_mut(), first.as_mut()) {
            Poll::Ready(Err(Side::Reader(e))) => return Poll::Ready(End::Second(e)),
            Poll::Ready(Err(Side::Writer(e))) => return Poll::Ready(End::First(e)),
            other => other.is_ready(),
        };
        if a && b {
            return Poll::Ready(End::Closed);
        }
        while timer.as_mut().poll(cx).is_ready() {
            let now = (forth.moved, back.moved);
            if now == seen {
                return Poll::Ready(End::Idle);
            }
            seen = now;
            timer.as_mut().reset(tokio::time::Instant::now() + idle);
        }
        Poll::Pending
    })
    .await;
    Copied {
        forth: forth.moved,
        back: back.moved,
        end,
    }
}

enum Side {
    Reader(io::Error),
    Writer(io::Error),
}

#[derive(PartialEq)]
enum Stage {
    Open,
    Closing,
    Closed,
}

/// One direction of a copy.
struct Way {
    /// How reading failed, while what was read before is still to be written.
    failed: Option<io::Error>,
    kept: Vec<u8>,
    written: usize,
    unflushed: bool,
    stage: Stage,
    moved: u64,
}

impl Way {
    fn new(kept: Vec<u8>) -> Self {
        Way {
            failed: None,
            kept,
            written: 0,
            unflushed: false,
            stage: Stage::Open,
            moved: 0,
        }
    }

    fn poll<R: AsyncRead, W: AsyncWrite>(
        &mut self,
        cx: &mut Context<'_>,
        mut reader: Pin<&mut R>,
        mut writer: Pin<&mut W>,
    ) -> Poll<Result<(), Side>> {
        loop {
            while self.written < self.kept.len() {
                let rest = &self.kept[self.written..];
                let count = ready!(writer.as_mut().poll_write(cx, rest)).map_err(Side::Writer)?;
                if count == 0 {
                    return Poll::Ready(Err(Side::Writer(io::ErrorKind::WriteZero.into())));
                }
                self.written += count;
                self.moved += count as u64;
                self.unflushed = true;
            }
            if self.written > 0 {
                self.kept = Vec::new();
                self.written = 0;
            }
            if let Some(error) = self.failed.take() {
                return Poll::Ready(Err(Side::Reader(error)));
            }
            match self.stage {
                Stage::Closed => return Poll::Ready(Ok(())),
                Stage::Closing => {
                    match ready!(writer.as_mut().poll_shutdown(cx)) {
                        Ok(()) => {}
                        // the other side has gone already: nothing is left to say
                        Err(e) if e.kind() == io::ErrorKind::NotConnected => {}
                        Err(e) => return Poll::Ready(Err(Side::Writer(e))),
                    }
                    self.stage = Stage::Closed;
                    return Poll::Ready(Ok(()));
                }
                Stage::Open => {}
            }
            match self.poll_move(cx, reader.as_mut(), writer.as_mut()) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(side)) => return Poll::Ready(Err(side)),
                Poll::Pending => {
                    if self.unflushed && self.kept.is_empty() {
                        ready!(writer.poll_flush(cx)).map_err(Side::Writer)?;
                        self.unflushed = false;
                    }
                    return Poll::Pending;
                }
            }
        }
    }

    /// Reads what is there, up to a scratch full, and writes it. What the writer would not take is kept, which ends this with
    /// `Ready`.
    ///
    /// A TLS connection gives one record at a read, and a plain one all it has: several records so become one write, and what
    /// ends a burst of a plain one costs no call, as a read that was not full has shown that nothing is left.
    fn poll_move<R: AsyncRead, W: AsyncWrite>(
        &mut self,
        cx: &mut Context<'_>,
        mut reader: Pin<&mut R>,
        mut writer: Pin<&mut W>,
    ) -> Poll<Result<(), Side>> {
        BUFFER.with_borrow_mut(|scratch| {
            let mut buffer = ReadBuf::new(scratch);
            while buffer.remaining() > 0 {
                let before = buffer.filled().len();
                match reader.as_mut().poll_read(cx, &mut buffer) {
                    Poll::Ready(Ok(())) if buffer.filled().len() > before => {}
                    Poll::Ready(Ok(())) => {
                        self.stage = Stage::Closing;
                        break;
                    }
                    Poll::Ready(Err(error)) => {
                        self.failed = Some(error);
                        break;
                    }
                    Poll::Pending if before == 0 => return Poll::Pending,
                    Poll::Pending => break,
                }
            }
            let mut rest = buffer.filled();
            while !rest.is_empty() {
                match writer.as_mut().poll_write(cx, rest) {
                    Poll::Ready(Ok(0)) => {
                        return Poll::Ready(Err(Side::Writer(io::ErrorKind::WriteZero.into())));
                    }
                    Poll::Ready(Ok(count)) => {
                        self.moved += count as u64;
                        self.unflushed = true;
                        rest = &rest[count..];
                    }
                    Poll::Ready(Err(e)) => return Poll::Ready(Err(Side::Writer(e))),
                    Poll::Pending => {
                        self.kept = rest.to_vec();
                        break;
                    }
                }
            }
            Poll::Ready(Ok(()))
        })
    }
}

#[cfg(test)]
mod tests;
