//! Responses as the body of an HTTP response: each message is a buffer of its own size, and gone once it is sent.
//!
//! tonic encodes every message of a stream into one buffer that the stream keeps. After a response with a whole mesh in it,
//! an idle stream would hold its megabytes for as long as the proxy stays connected.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{BufMut, Bytes, BytesMut};
use futures_util::StreamExt;
use http::HeaderMap;
use http_body::{Body, Frame};
use prost::Message;
use tonic::Status;

use super::Responses;

/// What stands before each message: not compressed, and how long it is.
const HEAD: usize = 5;

/// The body of a response that is a stream.
pub(super) struct Answers<T> {
    responses: Responses<T>,
    message_limit: usize,
    ended: bool,
}

impl<T> Answers<T> {
    pub(super) fn new(responses: Responses<T>, message_limit: usize) -> Answers<T> {
        Answers {
            responses,
            message_limit,
            ended: false,
        }
    }
}

impl<T: Message> Body for Answers<T> {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let response = ready!(self.responses.poll_next_unpin(context));
        let framed = response.map(|response| framed(&response?, self.message_limit));
        let status = match framed {
            Some(Ok(bytes)) => return Poll::Ready(Some(Ok(Frame::data(bytes)))),
            Some(Err(status)) => status,
            None => Status::ok(""),
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

fn framed(message: &impl Message, limit: usize) -> Result<Bytes, Status> {
    let length = message.encoded_len();
    let head = u32::try_from(length).ok().filter(|_| length <= limit);
    let head = head.ok_or_else(|| {
        Status::out_of_range(format!(
            "a response has {length} bytes, and a message {limit} at most"
        ))
    })?;
    let mut bytes = BytesMut::with_capacity(HEAD + length);
    bytes.put_u8(0);
    bytes.put_u32(head);
    message.encode_raw(&mut bytes);
    Ok(bytes.freeze())
}
