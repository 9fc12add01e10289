//! Requests out of the body of an HTTP request: a buffer is there only while a message is on its way.
//!
//! tonic's reader keeps a buffer as large as the largest message that ever came. A proxy begins with one that names all it wants,
//! and then says little for as long as it stays connected.

use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use futures_util::{Stream, StreamExt};
use http_body::Body;
use prost::Message;
use tonic::Status;
use tonic::codegen::StdError;

use super::answers::HEAD;

/// What a client says on a stream.
pub struct Requests<T> {
    body: tonic::body::Body,
    unread: BytesMut,
    message_limit: usize,
    ended: bool,
    of: PhantomData<fn() -> T>,
}

impl<T: Message + Default> Requests<T> {
    pub(super) fn new<B>(body: B, message_limit: usize) -> Requests<T>
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<StdError>,
    {
        Requests {
            body: tonic::body::Body::new(body),
            unread: BytesMut::new(),
            message_limit,
            ended: false,
            of: PhantomData,
        }
    }

    /// The next request; `None` when the client is done.
    ///
    /// # Errors
    /// The connection broke, or what came is no message.
    pub async fn message(&mut self) -> Result<Option<T>, Status> {
        self.next().await.transpose()
    }

    /// The first message of what is unread, if it is there as a whole.
    fn whole(&mut self) -> Result<Option<T>, Status> {
        let Some(mut head) = self.unread.get(..HEAD) else {
            return Ok(None);
        };
        match head.get_u8() {
            0 => {}
            1 => return Err(Status::unimplemented("compressed requests are not read")),
            other => {
                let what = format!("a message begins with {other}, which is no flag");
                return Err(Status::internal(what));
            }
        }
        let length = head.get_u32() as usize;
        if length > self.message_limit {
            return Err(Status::out_of_range(format!(
                "a request has {length} bytes, and a message {} at most",
                self.message_limit
            )));
        }
        if self.unread.len() < HEAD + length {
            return Ok(None);
        }
        self.unread.advance(HEAD);
        let message = T::decode(self.unread.split_to(length).freeze());
        if self.unread.is_empty() {
            self.unread = BytesMut::new();
        }
        let message = message.map_err(|error| Status::internal(error.to_string()))?;
        Ok(Some(message))
    }
}

impl<T: Message + Default> Stream for Requests<T> {
    type Item = Result<T, Status>;

    fn poll_next(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<T, Status>>> {
        while !self.ended {
            match self.whole() {
                Ok(None) => {}
                Ok(Some(message)) => return Poll::Ready(Some(Ok(message))),
                Err(status) => {
                    self.ended = true;
                    return Poll::Ready(Some(Err(status)));
                }
            }
            let error = match ready!(Pin::new(&mut self.body).poll_frame(context)) {
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        self.unread.extend_from_slice(&data);
                    }
                    continue;
                }
                Some(Err(status)) => Some(status),
                None if self.unread.is_empty() => None,
                None => Some(Status::internal("the stream ended within a message")),
            };
            self.ended = true;
            return Poll::Ready(error.map(Err));
        }
        Poll::Ready(None)
    }
}
