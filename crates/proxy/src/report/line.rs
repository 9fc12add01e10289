//! One line of the access log, and how it becomes JSON.
//!
//! It is written by hand, into the buffer that goes to the disk: a line is made for every request, and by way of strings and a
//! general serializer it cost more than the decision it tells about.

use std::fmt::{self, Write as _};
use std::net::SocketAddr;
use std::time::{SystemTime, UNIX_EPOCH};

use super::Flags;

/// One line of the access log. Absent things are left out.
pub struct LogLine<'a> {
    /// When it began; written as RFC 3339, UTC, with milliseconds.
    pub start_time: SystemTime,
    /// `outbound`, `inbound` or `gateway`.
    pub direction: &'static str,
    /// `HTTP/1.1`, `HTTP/2` or `TCP`.
    pub protocol: &'static str,
    /// The request's method.
    pub method: Option<&'a str>,
    /// The request's authority.
    pub authority: Option<&'a str>,
    /// The request's path, without its query: queries hold secrets too often.
    pub path: Option<&'a str>,
    /// `x-request-id`.
    pub request_id: Option<&'a str>,
    /// The status that the caller got; 0 when it got none, or spoke TCP.
    pub response_code: u16,
    /// What went wrong, in Envoy's letters, or `-`.
    pub response_flags: Flags,
    /// Why it went where it went, or nowhere.
    pub reason: &'a dyn fmt::Display,
    /// What went wrong in attempts that were made again, and in the last one.
    pub failure: Option<&'a str>,
    /// How often an endpoint was tried.
    pub attempts: u32,
    /// The route's name.
    pub route_name: Option<&'a str>,
    /// The xDS cluster it went to.
    pub upstream_cluster: Option<&'a str>,
    /// The address it went to.
    pub upstream_host: Option<SocketAddr>,
    /// The caller's address.
    pub downstream_remote_address: SocketAddr,
    /// The address that was called.
    pub downstream_local_address: SocketAddr,
    /// The server name of the caller's TLS.
    pub requested_server_name: Option<&'a str>,
    /// The verified identity of who was called.
    pub upstream_peer: Option<&'a str>,
    /// The verified identity of the caller.
    pub downstream_peer: Option<&'a str>,
    /// Bytes from the caller.
    pub bytes_received: u64,
    /// Bytes to the caller.
    pub bytes_sent: u64,
    /// Milliseconds.
    pub duration: u64,
}

impl LogLine<'_> {
    /// Appends the line to `out`, with its end.
    pub(super) fn write(&self, out: &mut Vec<u8>, calendar: &mut Calendar) {
        out.extend_from_slice(b"{\"start_time\":\"");
        calendar.write(out, self.start_time);
        out.push(b'"');
        let mut to = Fields(out);
        to.text("direction", Some(self.direction));
        to.text("protocol", Some(self.protocol));
        to.text("method", self.method);
        to.text("authority", self.authority);
        to.text("path", self.path);
        to.text("request_id", self.request_id);
        to.number("response_code", u64::from(self.response_code));
        to.display("response_flags", &self.response_flags);
        to.display("reason", self.reason);
        to.text("failure", self.failure);
        to.number("attempts", u64::from(self.attempts));
        to.text("route_name", self.route_name);
        to.text("upstream_cluster", self.upstream_cluster);
        if let Some(address) = self.upstream_host {
            to.address("upstream_host", address);
        }
        to.address("downstream_remote_address", self.downstream_remote_address);
        to.address("downstream_local_address", self.downstream_local_address);
        to.text("requested_server_name", self.requested_server_name);
        to.text("upstream_peer", self.upstream_peer);
        to.text("downstream_peer", self.downstream_peer);
        to.number("bytes_received", self.bytes_received);
        to.number("bytes_sent", self.bytes_sent);
        to.number("duration", self.duration);
        out.extend_from_slice(b"}\n");
    }
}

/// The fields of an object that is begun.
struct Fields<'a>(&'a mut Vec<u8>);

impl Fields<'_> {
    /// A name, which needs no escapes.
    fn name(&mut self, name: &str) {
        self.0.extend_from_slice(b",\"");
        self.0.extend_from_slice(name.as_bytes());
        self.0.extend_from_slice(b"\":");
    }

    fn text(&mut self, name: &str, value: Option<&str>) {
        let Some(value) = value else { return };
        self.name(name);
        self.0.push(b'"');
        escape(self.0, value);
        self.0.push(b'"');
    }

    fn display(&mut self, name: &str, value: &dyn fmt::Display) {
        self.name(name);
        self.0.push(b'"');
        let _ = write!(Escaping(self.0), "{value}");
        self.0.push(b'"');
    }

    fn number(&mut self, name: &str, value: u64) {
        self.name(name);
        decimal(self.0, value);
    }

    fn address(&mut self, name: &str, value: SocketAddr) {
        let SocketAddr::V4(v4) = value else {
            return self.display(name, &value);
        };
        self.name(name);
        let mut before = b'"';
        for octet in v4.ip().octets() {
            self.0.push(before);
            decimal(self.0, u64::from(octet));
            before = b'.';
        }
        self.0.push(b':');
        decimal(self.0, u64::from(v4.port()));
        self.0.push(b'"');
    }
}

/// Text on its way into a JSON string.
struct Escaping<'a>(&'a mut Vec<u8>);

impl fmt::Write for Escaping<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        escape(self.0, text);
        Ok(())
    }
}

/// Source: RFC 8259, section 7.
fn escape(out: &mut Vec<u8>, text: &str) {
    let plain = |byte: &u8| *byte >= 0x20 && *byte != b'"' && *byte != b'\\';
    let mut rest = text.as_bytes();
    while let Some(at) = rest.iter().position(|byte| !plain(byte)) {
        out.extend_from_slice(&rest[..at]);
        match rest[at] {
            byte @ (b'"' | b'\\') => out.extend_from_slice(&[b'\\', byte]),
            b'\n' => out.extend_from_slice(b"\\n"),
            byte => {
                const HEX: &[u8; 16] = b"0123456789abcdef";
                out.extend_from_slice(b"\\u00");
                out.push(HEX[usize::from(byte >> 4)]);
                out.push(HEX[usize::from(byte & 0xf)]);
            }
        }
        rest = &rest[at + 1..];
    }
    out.extend_from_slice(rest);
}

fn decimal(out: &mut Vec<u8>, mut value: u64) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (value % 10) as u8;
        value /= 10;
        if value == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

/// Writes times; keeps the text of the last second, since most lines share theirs with the one before.
#[derive(Debug, Default)]
pub(super) struct Calendar {
    second: u64,
    text: String,
}

impl Calendar {
    fn write(&mut self, out: &mut Vec<u8>, time: SystemTime) {
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        if self.second != since.as_secs() || self.text.is_empty() {
            self.second = since.as_secs();
            self.text.clear();
            let at = i64::try_from(self.second).unwrap_or(i64::MAX);
            let at = time::OffsetDateTime::from_unix_timestamp(at)
                .unwrap_or(time::OffsetDateTime::UNIX_EPOCH);
            let _ = write!(
                self.text,
                "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.",
                at.year(),
                u8::from(at.month()),
                at.day(),
                at.hour(),
                at.minute(),
                at.second()
            );
        }
        out.extend_from_slice(self.text.as_bytes());
        let millis = since.subsec_millis();
        for digit in [millis / 100, millis / 10 % 10, millis % 10] {
            out.push(b'0' + digit as u8);
        }
        out.push(b'Z');
    }
}

#[cfg(test)]
mod tests;
