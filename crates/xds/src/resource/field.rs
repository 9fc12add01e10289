//! A resource as responses carry it, encoded once.
//!
//! Both protocols carry resources in a field of number 2. Of deltas it holds an `envoy.service.discovery.v3.Resource`, whose own
//! field of number 2 is the `Any`; of the state of the world it holds the `Any` itself. So the one is a part of the other, with
//! its tag and its length:
//! ```text
//! 2: { 1: version, 2: { 1: type URL, 2: body }, 3: name }
//!                  ^ the field of the state of the world
//! ```

use std::ops::Range;

use bytes::{BufMut, Bytes, BytesMut};
use catamaran_wire::length_delimiter_len;

use super::{TypeUrlKind, Version};

/// Fields of these numbers that have their length before them.
const FIRST: u8 = 1 << 3 | 2;
const SECOND: u8 = 2 << 3 | 2;
const THIRD: u8 = 3 << 3 | 2;

pub(super) fn encode(kind: TypeUrlKind, name: &str, version: Version, body: &[u8]) -> Bytes {
    let version = version.to_string();
    let any = any(kind, body.len());
    let length = field(version.len()) + field(any) + field(name.len());
    let mut out = BytesMut::with_capacity(field(length));
    head(SECOND, length, &mut out);
    head(FIRST, version.len(), &mut out);
    out.put_slice(version.as_bytes());
    head(SECOND, any, &mut out);
    head(FIRST, kind.url().len(), &mut out);
    out.put_slice(kind.url().as_bytes());
    head(SECOND, body.len(), &mut out);
    out.put_slice(body);
    head(THIRD, name.len(), &mut out);
    out.put_slice(name.as_bytes());
    out.freeze()
}

/// The body in an encoded field.
pub(super) fn body(field: &Bytes, name: &str, body: usize) -> Bytes {
    let end = before_name(field, name);
    field.slice(end - body..end)
}

/// The field of the state of the world in an encoded field.
pub(super) fn full(field: &Bytes, name: &str, kind: TypeUrlKind, body: usize) -> Bytes {
    let end = before_name(field, name);
    let range: Range<usize> = end - self::field(any(kind, body))..end;
    field.slice(range)
}

fn before_name(encoded: &Bytes, name: &str) -> usize {
    encoded.len() - field(name.len())
}

/// How long the content of the `Any` is.
fn any(kind: TypeUrlKind, body: usize) -> usize {
    field(kind.url().len()) + field(body)
}

/// How long a field is, with its tag and its length.
fn field(content: usize) -> usize {
    1 + length_delimiter_len(content) + content
}

fn head(tag: u8, length: usize, out: &mut BytesMut) {
    out.put_u8(tag);
    let mut rest = length as u64;
    while rest > 0x7f {
        out.put_u8(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.put_u8(rest as u8);
}

#[cfg(test)]
mod tests;
