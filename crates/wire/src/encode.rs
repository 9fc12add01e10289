//! What goes out as one message.

use bytes::Bytes;
use prost::Message;

/// What can be sent as one message: a message, or the parts of one that others send too.
pub trait Encode: Send + 'static {
    /// How many bytes the message has.
    fn encoded_len(&self) -> usize;

    /// The message's bytes, one part after the other.
    fn into_parts(self) -> impl Iterator<Item = Bytes> + Send + 'static;
}

impl<M: Message + 'static> Encode for M {
    fn encoded_len(&self) -> usize {
        Message::encoded_len(self)
    }

    fn into_parts(self) -> impl Iterator<Item = Bytes> + Send + 'static {
        std::iter::once(Bytes::from(self.encode_to_vec()))
    }
}
