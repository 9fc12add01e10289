//! A connection of either side, plain or inside TLS.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::{client, server};

use super::ahead::Ahead;
use super::detect::Rewound;

/// A connection of either side.
#[derive(Debug)]
pub(crate) enum Stream {
    /// Bytes as they come.
    Plain(TcpStream),
    /// A caller's, some of whose bytes were read already.
    Rewound(Rewound<TcpStream>),
    /// A caller's, whose TLS ends here.
    Server(Box<server::TlsStream<Ahead<TcpStream>>>),
    /// The same, some of whose plaintext was read already.
    RewoundServer(Box<Rewound<server::TlsStream<Ahead<TcpStream>>>>),
    /// To an upstream, by TLS.
    Client(Box<client::TlsStream<Ahead<TcpStream>>>),
}

macro_rules! each {
    ($self:expr, $inner:ident => $what:expr) => {
        match $self {
            Stream::Plain($inner) => $what,
            Stream::Rewound($inner) => $what,
            Stream::Server($inner) => $what,
            Stream::RewoundServer($inner) => $what,
            Stream::Client($inner) => $what,
        }
    };
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        each!(self.get_mut(), inner => Pin::new(inner).poll_read(cx, buffer))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        each!(self.get_mut(), inner => Pin::new(inner).poll_write(cx, bytes))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self.get_mut(), inner => Pin::new(inner).poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self.get_mut(), inner => Pin::new(inner).poll_shutdown(cx))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        each!(self.get_mut(), inner => Pin::new(inner).poll_write_vectored(cx, bytes))
    }

    fn is_write_vectored(&self) -> bool {
        each!(self, inner => inner.is_write_vectored())
    }
}
