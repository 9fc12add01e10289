//! Finds out what a connection speaks from its first bytes, and keeps them for whoever carries it.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, timeout_at};

use super::sni::{ClientHello, HelloError, HelloReader};

/// How long a ClientHello may take from its first byte to its last.
pub(crate) const HELLO_WAIT: Duration = Duration::from_secs(5);
/// A first line longer than this that begins as a request is taken for one.
const LINE_LIMIT: usize = 8 * 1024;
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Methods that tell HTTP/1 from other protocols of words; a client with another one must name its port's protocol.
const METHODS: [&[u8]; 20] = [
    b"GET",
    b"HEAD",
    b"POST",
    b"PUT",
    b"DELETE",
    b"OPTIONS",
    b"PATCH",
    b"TRACE",
    b"CONNECT",
    b"PROPFIND",
    b"PROPPATCH",
    b"MKCOL",
    b"COPY",
    b"MOVE",
    b"LOCK",
    b"UNLOCK",
    b"REPORT",
    b"SEARCH",
    b"PURGE",
    b"QUERY",
];
const READ_AT_ONCE: usize = 16 * 1024;

thread_local! {
    static BUFFER: RefCell<Box<[u8]>> = RefCell::new(vec![0; READ_AT_ONCE].into_boxed_slice());
}

/// What the first bytes of a connection are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Beginning {
    /// A whole ClientHello.
    Tls(ClientHello),
    /// A request line of HTTP/1.
    Http1,
    /// The preface of HTTP/2 with prior knowledge.
    Http2,
    /// Something else, or nothing until the wait was over (a protocol in which the server speaks first).
    Opaque,
}

/// Which beginnings are looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Look {
    /// TLS is recognised; else it is opaque.
    pub(crate) tls: bool,
    /// HTTP is recognised; else it is opaque, without a wait for its first line.
    pub(crate) http: bool,
    /// How long to wait for the bytes that tell.
    pub(crate) wait: Duration,
}

/// Why a connection has no beginning that can be acted on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BeginningError {
    /// It closed before it said anything that could be carried.
    #[error("the caller closed the connection before its first bytes were whole")]
    Closed,
    /// It failed.
    #[error("the connection failed before its first bytes were whole: {0}")]
    Io(#[from] io::Error),
    /// It began a TLS handshake that is not acceptable.
    #[error(transparent)]
    Hello(#[from] HelloError),
    /// It began a TLS handshake and did not go on.
    #[error("the ClientHello was not whole after {} s", HELLO_WAIT.as_secs())]
    Slow,
}

/// Reads as much of `stream` as tells what it is. Every byte read is in `head`, whatever the outcome.
pub(crate) async fn read_beginning<S: AsyncRead + Unpin>(
    stream: &mut S,
    head: &mut Vec<u8>,
    look: Look,
) -> Result<Beginning, BeginningError> {
    let patience = Instant::now() + look.wait;
    loop {
        if look.tls && may_be_tls(head) {
            if head.len() >= 2 {
                return read_hello(stream, head).await;
            }
        } else if !look.http {
            if !head.is_empty() {
                return Ok(Beginning::Opaque);
            }
        } else if let Some(beginning) = classify(head) {
            return Ok(beginning);
        }
        match timeout_at(patience, read_more(stream, head)).await {
            Err(_) => return Ok(Beginning::Opaque),
            Ok(Ok(0)) if head.is_empty() => return Err(BeginningError::Closed),
            Ok(Ok(0)) => return Ok(Beginning::Opaque),
            Ok(Ok(_)) => {}
            Ok(Err(error)) => return Err(error.into()),
        }
    }
}

/// Reads a connection that must begin with a ClientHello. Every byte read is in `head`, whatever the outcome.
pub(crate) async fn read_hello<S: AsyncRead + Unpin>(
    stream: &mut S,
    head: &mut Vec<u8>,
) -> Result<Beginning, BeginningError> {
    let patience = Instant::now() + HELLO_WAIT;
    let mut reader = HelloReader::default();
    let mut read = 0;
    loop {
        if read < head.len() {
            let hello = reader.push(&head[read..])?;
            read = head.len();
            if let Some(hello) = hello {
                return Ok(Beginning::Tls(hello));
            }
        }
        match timeout_at(patience, read_more(stream, head)).await {
            Err(_) => return Err(BeginningError::Slow),
            Ok(Ok(0)) => return Err(BeginningError::Closed),
            Ok(Ok(_)) => {}
            Ok(Err(error)) => return Err(error.into()),
        }
    }
}

fn may_be_tls(head: &[u8]) -> bool {
    matches!(head, [] | [0x16] | [0x16, 3, ..])
}

/// What plaintext bytes are; `None` when more of them are needed to tell.
fn classify(head: &[u8]) -> Option<Beginning> {
    if head.is_empty() {
        return None;
    }
    if head.len() >= PREFACE.len() && head.starts_with(PREFACE) {
        return Some(Beginning::Http2);
    }
    if PREFACE.starts_with(head) {
        return None;
    }
    let word = head.iter().position(|byte| *byte == b' ');
    let method = &head[..word.unwrap_or(head.len())];
    if word.is_none() {
        let begun = METHODS.iter().any(|known| known.starts_with(method));
        return if begun { None } else { Some(Beginning::Opaque) };
    }
    if !METHODS.contains(&method) {
        return Some(Beginning::Opaque);
    }
    match head.iter().take(LINE_LIMIT).position(|byte| *byte == b'\n') {
        None if head.len() >= LINE_LIMIT => Some(Beginning::Http1),
        None => None,
        Some(end) => {
            let line = head[..end].strip_suffix(b"\r").unwrap_or(&head[..end]);
            let version = line.rsplit(|byte| *byte == b' ').next();
            Some(if matches!(version, Some(b"HTTP/1.1" | b"HTTP/1.0")) {
                Beginning::Http1
            } else {
                Beginning::Opaque
            })
        }
    }
}

/// Reads what there is, of any connection, by way of a buffer that all share.
pub(crate) async fn read_more<S: AsyncRead + Unpin>(
    stream: &mut S,
    head: &mut Vec<u8>,
) -> io::Result<usize> {
    poll_fn(|cx| {
        BUFFER.with_borrow_mut(|scratch| {
            let mut buffer = ReadBuf::new(scratch);
            ready!(Pin::new(&mut *stream).poll_read(cx, &mut buffer))?;
            head.extend_from_slice(buffer.filled());
            Poll::Ready(Ok(buffer.filled().len()))
        })
    })
    .await
}

/// A connection whose first bytes were read already: they are read again first.
#[derive(Debug)]
pub(crate) struct Rewound<S> {
    head: Vec<u8>,
    read: usize,
    stream: S,
}

impl<S> Rewound<S> {
    /// Puts `head` before what is still to come from `stream`.
    pub(crate) fn new(head: Vec<u8>, stream: S) -> Self {
        Rewound {
            head,
            read: 0,
            stream,
        }
    }

    /// Puts back what was read, before all else.
    pub(crate) fn put_back(&mut self, mut head: Vec<u8>) {
        head.extend_from_slice(&self.head[self.read..]);
        self.head = head;
        self.read = 0;
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Rewound<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.read < this.head.len() {
            let rest = &this.head[this.read..];
            let count = rest.len().min(buffer.remaining());
            buffer.put_slice(&rest[..count]);
            this.read += count;
            if this.read == this.head.len() {
                this.head = Vec::new();
                this.read = 0;
            }
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut this.stream).poll_read(cx, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Rewound<S> {
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
mod tests;
