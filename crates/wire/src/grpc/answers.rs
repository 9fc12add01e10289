//! Responses as the body of an HTTP response: a message goes out in pieces, each made when there is room for it.
//!
//! tonic encodes every message of a stream into one buffer that the stream keeps. After a response with a whole mesh in it,
//! an idle stream would hold its megabytes for as long as the proxy stays connected, and one that does not read would hold
//! as many. Here it is one piece at most.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{BufMut, Bytes, BytesMut};
use futures_util::StreamExt;
use http::HeaderMap;
use http_body::{Body, Frame};
use tonic::Status;

use super::Responses;
use crate::Encode;

/// What stands before each message: not compressed, and how long it is.
pub(super) const HEAD: usize = 5;
/// A piece is at least as large, if there is so much. A part that is as large is a piece of its own, and not copied.
const PIECE: usize = 32 << 10;

type Parts = Box<dyn Iterator<Item = Bytes> + Send>;

/// The body of a response that is a stream.
pub(super) struct Answers<T> {
    responses: Responses<T>,
    /// The rest of the message that is going out.
    parts: Option<Parts>,
    /// A part that is to go next, by itself.
    large: Option<Bytes>,
    message_limit: usize,
    ended: bool,
}

impl<T> Answers<T> {
    pub(super) fn new(responses: Responses<T>, message_limit: usize) -> Answers<T> {
        Answers {
            responses,
            parts: None,
            large: None,
            message_limit,
            ended: false,
        }
    }

    /// Adds parts until there is enough for a piece.
    fn piece(&mut self, mut piece: BytesMut) -> Option<Bytes> {
        if let Some(large) = self.large.take() {
            return Some(large);
        }
        let parts = self.parts.as_mut()?;
        for part in parts.by_ref() {
            if part.len() >= PIECE {
                if piece.is_empty() {
                    return Some(part);
                }
                self.large = Some(part);
                return Some(piece.freeze());
            }
            piece.put_slice(&part);
            if piece.len() >= PIECE {
                return Some(piece.freeze());
            }
        }
        self.parts = None;
        (!piece.is_empty()).then(|| piece.freeze())
    }
}

impl<T: Encode> Answers<T> {
    /// Begins a message.
    fn begin(&mut self, message: T) -> Result<Option<Bytes>, Status> {
        let (length, limit) = (message.encoded_len(), self.message_limit);
        let head = u32::try_from(length).ok().filter(|_| length <= limit);
        let head = head.ok_or_else(|| {
            Status::out_of_range(format!(
                "a response has {length} bytes, and a message {limit} at most"
            ))
        })?;
        // The part that makes it a piece comes on top.
        let room = HEAD + length.min(2 * PIECE);
        let mut piece = BytesMut::with_capacity(room);
        piece.put_u8(0);
        piece.put_u32(head);
        self.parts = Some(Box::new(message.into_parts()));
        Ok(self.piece(piece))
    }
}

impl<T: Encode> Body for Answers<T> {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let status = loop {
            if self.ended {
                return Poll::Ready(None);
            }
            let piece = match self.piece(BytesMut::new()) {
                Some(piece) => Ok(Some(piece)),
                None => match ready!(self.responses.poll_next_unpin(context)) {
                    Some(response) => response.and_then(|response| self.begin(response)),
                    None => Err(Status::ok("")),
                },
            };
            match piece {
                Ok(Some(piece)) => return Poll::Ready(Some(Ok(Frame::data(piece)))),
                Ok(None) => {}
                Err(status) => break status,
            }
        };
        self.ended = true;
        let mut trailers = HeaderMap::new();
        let said = status.add_header(&mut trailers);
        Poll::Ready(Some(said.map(|()| Frame::trailers(trailers))))
    }

    fn is_end_stream(&self) -> bool {
        self.ended
    }
}
