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

/// Bytes read at once; the most that one direction of one connection ever keeps.
pub(crate) const SCRATCH: usize = 64 * 1024;

thread_local! {
    static BUFFER: RefCell<Box<[u8]>> = RefCell::new(vec![0; SCRATCH].into_boxed_slice());
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
    kept: Vec<u8>,
    written: usize,
    unflushed: bool,
    stage: Stage,
    moved: u64,
}

impl Way {
    fn new(kept: Vec<u8>) -> Self {
        Way {
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

    /// One read and as many writes as it takes. What the writer would not take is kept, which ends this with `Ready`.
    fn poll_move<R: AsyncRead, W: AsyncWrite>(
        &mut self,
        cx: &mut Context<'_>,
        reader: Pin<&mut R>,
        mut writer: Pin<&mut W>,
    ) -> Poll<Result<(), Side>> {
        BUFFER.with_borrow_mut(|scratch| {
            let mut buffer = ReadBuf::new(scratch);
            ready!(reader.poll_read(cx, &mut buffer)).map_err(Side::Reader)?;
            let mut rest = buffer.filled();
            if rest.is_empty() {
                self.stage = Stage::Closing;
            }
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
