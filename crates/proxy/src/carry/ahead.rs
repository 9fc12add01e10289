//! Reads ahead of TLS, so that what the kernel holds comes in one call.
//!
//! rustls asks for 4 KiB at a time, a quarter of a record. Here a thread's scratch takes all that is there, and only what rustls
//! leaves of it is kept: nothing at all while a connection is idle or its messages are small.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::scratch::Scratch;

/// Bytes read at once, and kept at most.
const AHEAD: usize = 64 * 1024;

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::new(Scratch::new(AHEAD));
}

/// A connection below TLS.
#[derive(Debug)]
pub(crate) struct Ahead<S> {
    kept: Vec<u8>,
    read: usize,
    stream: S,
}

impl<S> Ahead<S> {
    /// `head` was read of `stream` already, and comes first.
    pub(crate) fn new(head: Vec<u8>, stream: S) -> Self {
        Ahead {
            kept: head,
            read: 0,
            stream,
        }
    }

    /// The connection itself.
    pub(crate) fn get_ref(&self) -> &S {
        &self.stream
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Ahead<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.kept.is_empty() {
            if buffer.remaining() >= AHEAD {
                return Pin::new(&mut this.stream).poll_read(cx, buffer);
            }
            return SCRATCH.with_borrow_mut(|scratch| {
                let mut scratch = ReadBuf::new(scratch);
                ready!(Pin::new(&mut this.stream).poll_read(cx, &mut scratch))?;
                let all = scratch.filled();
                let (now, later) = all.split_at(all.len().min(buffer.remaining()));
                buffer.put_slice(now);
                this.kept.extend_from_slice(later);
                Poll::Ready(Ok(()))
            });
        }
        let rest = &this.kept[this.read..];
        let count = rest.len().min(buffer.remaining());
        buffer.put_slice(&rest[..count]);
        this.read += count;
        if this.read == this.kept.len() {
            this.kept = Vec::new();
            this.read = 0;
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Ahead<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    #[tokio::test(flavor = "current_thread")]
    async fn every_byte_comes_once_and_in_order_and_nothing_stays() {
        let sent: Vec<u8> = (0..300_000u32).map(|n| (n % 251) as u8).collect();
        for step in [1000, 4096, AHEAD, 2 * AHEAD] {
            let (mut writer, reader) = duplex(1 << 20);
            let (head, rest) = sent.split_at(7);
            writer.write_all(rest).await.unwrap();
            drop(writer);
            let mut ahead = Ahead::new(head.to_vec(), reader);
            let mut got = Vec::new();
            let mut piece = vec![0; step];
            loop {
                let count = ahead.read(&mut piece).await.unwrap();
                assert!(ahead.kept.len() - ahead.read < AHEAD);
                if count == 0 {
                    break;
                }
                got.extend_from_slice(&piece[..count]);
            }
            assert!(got == sent, "the bytes differ in steps of {step}");
            assert_eq!(ahead.kept.capacity(), 0);
        }
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_small_message_leaves_nothing_behind() {
        let (mut writer, reader) = duplex(4096);
        let mut ahead = Ahead::new(Vec::new(), reader);
        writer.write_all(b"hello").await.unwrap();
        assert_eq!(ahead.read(&mut [0; 4096]).await.unwrap(), 5);
        assert_eq!(ahead.kept.capacity(), 0);
    }
}
