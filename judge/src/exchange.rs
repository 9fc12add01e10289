//! Requests drawn from a seed: mostly legal, some odd, some illegal.

use crate::lots::Lots;
use crate::world::{NAMES, PATHS, VALUES};

/// Bytes for a proxy, and what answers they should have.
#[derive(Debug, Clone)]
pub struct Exchange {
    /// What is sent, with a moment between the pieces.
    pub pieces: Vec<Vec<u8>>,
    /// The method of each request in it, in order.
    pub methods: Vec<String>,
    /// How programs remember it.
    pub case: String,
}

impl Exchange {
    /// It as people can read it.
    pub fn text(&self) -> String {
        let whole: Vec<u8> = self.pieces.concat();
        let shown = whole.len().min(3000);
        String::from_utf8_lossy(&whole[..shown])
            .escape_debug()
            .to_string()
            .replace("\\r\\n", "\\r\\n\n")
    }
}

const HOSTS: [&str; 14] = [
    "a.test",
    "b.test",
    "A.TEST",
    "a.test:8080",
    "b.test:8080",
    "x.wild.test",
    "y.deep.wild.test",
    "wild.test",
    "pre.fix.test",
    "prefix.test",
    "any-suffix.test",
    "unknown.test",
    "a.test.",
    "127.0.0.1",
];
const METHODS: [&str; 9] = [
    "GET", "GET", "GET", "POST", "PUT", "HEAD", "DELETE", "OPTIONS", "PATCH",
];
const TARGETS: [&str; 10] = [
    "?q=one",
    "?q=two&q=one",
    "?p=1&q=",
    "?",
    "/tail",
    "//b",
    "/./b",
    "/../b",
    "/%62",
    "#fragment",
];
const STATUSES: [u16; 10] = [200, 200, 200, 201, 204, 304, 404, 500, 503, 418];

/// Draws one request, or several on one connection.
pub fn draw(lots: &mut Lots, case: &str) -> Exchange {
    let count = if lots.once_in(8) { 2 } else { 1 };
    let (mut bytes, mut methods) = (Vec::new(), Vec::new());
    for _ in 0..count {
        let method = one(lots, case, &mut bytes);
        methods.push(method);
    }
    let mut pieces = vec![bytes];
    if lots.once_in(5) {
        let rest = pieces[0].len();
        let at = lots.below(rest);
        let second = pieces[0].split_off(at);
        pieces.push(second);
        pieces.retain(|piece| !piece.is_empty());
    }
    Exchange {
        pieces,
        methods,
        case: case.into(),
    }
}

fn one(lots: &mut Lots, case: &str, out: &mut Vec<u8>) -> String {
    let method = lots.one(&METHODS);
    let host = lots.one(&HOSTS);
    let mut target = lots.one(&PATHS).to_owned();
    if lots.once_in(3) {
        target.push_str(lots.one(&TARGETS));
    }
    if lots.once_in(12) {
        target = format!("http://{host}{target}");
    }
    let version = if lots.once_in(15) {
        "HTTP/1.0"
    } else {
        "HTTP/1.1"
    };
    let mut head = format!("{method} {target} {version}\r\n");
    let mut headers = vec![
        format!("Host: {host}"),
        format!("X-Case: {case}"),
        format!("x-do: {}", script(lots)),
    ];
    for name in NAMES {
        if lots.once_in(3) {
            headers.push(format!("{name}: {}", lots.one(&VALUES)));
        }
    }
    for (header, of) in [
        ("Accept: */*", 3),
        ("User-Agent: judge/1", 3),
        ("Cookie: a=1; b=2", 6),
        ("X-Twice: 1\r\nX-Twice: 2", 6),
        ("X-Empty:", 6),
        ("X-Spaces: \t in  between \t", 6),
        ("Connection: close", 8),
        ("Connection: keep-alive", 8),
        ("Connection: x-hop, keep-alive\r\nX-Hop: 1", 9),
        ("Keep-Alive: timeout=5", 12),
        ("Proxy-Connection: keep-alive", 12),
        ("TE: trailers", 9),
        ("TE: gzip, trailers;q=0.5", 20),
        ("X-Request-Id: 7c1c1c1c-0000-4000-8000-000000000000", 8),
        ("X-Forwarded-For: 10.0.0.1", 8),
        ("X-Forwarded-Proto: https", 10),
        ("X-Forwarded-Client-Cert: By=me", 10),
        ("X-Envoy-Attempt-Count: 9", 12),
        ("Via: 1.1 other", 12),
        ("Expect: 100-continue", 14),
        ("Upgrade: websocket\r\nConnection: Upgrade", 24),
        ("Upgrade: h2c\r\nConnection: Upgrade", 40),
        ("content-type: application/grpc", 30),
    ] {
        if lots.once_in(of) {
            headers.push(header.into());
        }
    }
    let mut body = Vec::new();
    if matches!(method, "POST" | "PUT" | "PATCH") || lots.once_in(20) {
        body = frame(lots, &mut headers);
    }
    if !body.is_empty() {
        // what an upgrade with a body means is nobody's word
        headers.retain(|header| !header.starts_with("Upgrade"));
    }
    if lots.once_in(12) {
        odd(lots, &mut headers, &mut head);
    }
    // order is free
    for at in (1..headers.len()).rev() {
        let other = lots.below(at + 1);
        headers.swap(at, other);
    }
    out.extend_from_slice(head.as_bytes());
    for header in headers {
        out.extend_from_slice(header.as_bytes());
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(&body);
    method.into()
}

fn script(lots: &mut Lots) -> String {
    let status = lots.one(&STATUSES);
    let body = lots.one(&[0, 1, 10, 1000, 20_000, 200_000]);
    let framing = lots.one(&["length", "length", "chunked", "close"]);
    let mut script = format!("status={status} body={body} framing={framing}");
    for (word, of) in [
        ("trailers", 4),
        ("hint", 12),
        ("twice", 5),
        ("cut", 20),
        ("reset", 25),
        ("close", 8),
    ] {
        if lots.once_in(of) {
            script.push(' ');
            script.push_str(word);
        }
    }
    script
}

fn frame(lots: &mut Lots, headers: &mut Vec<String>) -> Vec<u8> {
    let length = lots.one(&[0, 1, 17, 3000, 70_000]);
    let content: Vec<u8> = (0..length).map(|at| b'A' + (at % 19) as u8).collect();
    if lots.once_in(2) {
        headers.push(format!("Content-Length: {length}"));
        return content;
    }
    headers.push(
        lots.one(&["Transfer-Encoding: chunked", "transfer-encoding: Chunked"])
            .into(),
    );
    let mut body = Vec::new();
    let extension = lots.one(&["", "", ";ext", ";ext=\"v\""]);
    for piece in content.chunks(1 + lots.below(5000)) {
        body.extend_from_slice(format!("{:x}{extension}\r\n", piece.len()).as_bytes());
        body.extend_from_slice(piece);
        body.extend_from_slice(b"\r\n");
    }
    body.extend_from_slice(b"0\r\n");
    if lots.once_in(4) {
        body.extend_from_slice(b"X-Sum: 9\r\n");
    }
    body.extend_from_slice(b"\r\n");
    body
}

/// Something that is odd or illegal.
fn odd(lots: &mut Lots, headers: &mut Vec<String>, head: &mut String) {
    let header = match lots.below(14) {
        0 => "Content-Length: 5\r\nContent-Length: 5",
        1 => "Content-Length: 5\r\nContent-Length: 6",
        2 => "Content-Length: -1",
        3 => "Content-Length: 3x",
        4 => "Content-Length: 3\r\nTransfer-Encoding: chunked",
        5 => "Transfer-Encoding: gzip",
        6 => "Transfer-Encoding: chunked, chunked",
        7 => "Bad Name: 1",
        8 => "X-Space : 1",
        9 => ": nothing",
        10 => "X-Control: a\u{1}b",
        11 => {
            let big = "X-Big: ".to_owned() + &"b".repeat(10_000);
            headers.push(big);
            return;
        }
        12 => {
            *head = head.replace(" HTTP/1", "  HTTP/1");
            return;
        }
        _ => {
            headers.retain(|header| !header.starts_with("Host"));
            return;
        }
    };
    headers.push(header.into());
}
