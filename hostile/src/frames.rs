//! HTTP/2 frames as bytes, legal or not. Source: RFC 9113 sections 4 and 6, RFC 7541.

/// What begins a connection.
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The kinds of frames.
pub mod kind {
    #![allow(missing_docs, reason = "RFC 9113 names them")]
    pub const DATA: u8 = 0;
    pub const HEADERS: u8 = 1;
    pub const PRIORITY: u8 = 2;
    pub const RST_STREAM: u8 = 3;
    pub const SETTINGS: u8 = 4;
    pub const PUSH_PROMISE: u8 = 5;
    pub const PING: u8 = 6;
    pub const GOAWAY: u8 = 7;
    pub const WINDOW_UPDATE: u8 = 8;
    pub const CONTINUATION: u8 = 9;
}

/// Flags of frames: the last of a stream (or an acknowledgement), and the last of a head.
pub const END_STREAM: u8 = 1;
/// Of SETTINGS and PING.
pub const ACK: u8 = 1;
/// Of HEADERS and CONTINUATION.
pub const END_HEADERS: u8 = 4;

/// A frame.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u32).to_be_bytes();
    let mut bytes = vec![length[1], length[2], length[3], kind, flags];
    bytes.extend_from_slice(&stream.to_be_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

/// A header as a literal without an index, lengths below 127.
pub fn literal(name: &str, value: &str) -> Vec<u8> {
    let mut bytes = vec![0, name.len().min(126) as u8];
    bytes.extend_from_slice(&name.as_bytes()[..name.len().min(126)]);
    bytes.push(value.len().min(126) as u8);
    bytes.extend_from_slice(&value.as_bytes()[..value.len().min(126)]);
    bytes
}

/// The head of a request to `authority`, with these headers after the pseudo-headers.
pub fn head(method: &str, path: &str, authority: &str, headers: &[(&str, &str)]) -> Vec<u8> {
    let mut block = literal(":method", method);
    block.extend(literal(":scheme", "http"));
    block.extend(literal(":path", path));
    block.extend(literal(":authority", authority));
    for (name, value) in headers {
        block.extend(literal(name, value));
    }
    block
}

/// The preface and empty settings.
pub fn opening() -> Vec<u8> {
    let mut bytes = PREFACE.to_vec();
    bytes.extend(frame(kind::SETTINGS, 0, 0, &[]));
    bytes
}
