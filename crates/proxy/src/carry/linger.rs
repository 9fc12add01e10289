//! Closes a caller's connection so that its last answer arrives.
//!
//! A socket that is closed with unread bytes in it is reset, and a reset throws away what the other end has not read yet: the
//! caller that sent more than was read (the rest of an upload, another request) would lose the answer that it was closed with. So our
//! side is closed first, and what comes is read and thrown away until the caller closes too, within bounds.
//!
//! Source: RFC 9112, 9.6.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

/// How long what comes is thrown away.
pub(crate) const TIME: Duration = Duration::from_secs(1);
/// How much of it.
pub(crate) const BYTES: usize = 1 << 20;

/// A stream whose shutdown is such a close.
pub(crate) struct Linger<S> {
    stream: S,
    closing: Option<Pin<Box<Sleep>>>,
    dropped: usize,
}

impl<S> Linger<S> {
    pub(crate) fn new(stream: S) -> Linger<S> {
        Linger {
            stream,
            closing: None,
            dropped: 0,
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Linger<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Linger<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.closing.is_none() {
            ready!(Pin::new(&mut this.stream).poll_shutdown(cx))?;
        }
        let time = this.closing.get_or_insert_with(|| Box::pin(sleep(TIME)));
        let mut space = [0; 4096];
        while this.dropped < BYTES && time.as_mut().poll(cx).is_pending() {
            let mut thrown = ReadBuf::new(&mut space);
            let read = ready!(Pin::new(&mut this.stream).poll_read(cx, &mut thrown));
            if read.is_err() || thrown.filled().is_empty() {
                break;
            }
            this.dropped += thrown.filled().len();
        }
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    #[tokio::test]
    async fn an_answer_arrives_though_more_was_sent_than_read() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut caller = TcpStream::connect(listener.local_addr().unwrap())
            .await
            .unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        let mut server = Linger::new(stream);
        caller.write_all(&[7; 100_000]).await.unwrap();
        let serving = tokio::spawn(async move {
            server.write_all(&[1; 50_000]).await.unwrap();
            server.shutdown().await.unwrap();
        });
        let mut answer = Vec::new();
        caller.read_to_end(&mut answer).await.unwrap();
        assert_eq!(answer.len(), 50_000);
        drop(caller);
        serving.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_caller_that_never_closes_is_left_after_a_while() {
        let (mut caller, stream) = tokio::io::duplex(1024);
        let mut server = Linger::new(stream);
        let begun = tokio::time::Instant::now();
        server.shutdown().await.unwrap();
        assert_eq!(begun.elapsed(), TIME);
        caller.write_all(b"still here").await.unwrap();
    }
}
