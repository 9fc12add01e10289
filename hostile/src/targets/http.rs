//! Heads, HTTP/1 and HTTP/2 from callers: a running proxy before a program that forgives nothing.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use catamaran_proxy::fuzzing;
use http::{HeaderName, HeaderValue, Request, Version};
use tokio::runtime::Runtime;

use super::Target;
use crate::fleet;
use crate::frames::{ACK, END_HEADERS, END_STREAM, frame, head, kind, literal, opening};
use crate::stand;
use crate::strict;
use crate::witness::Witness;

/// What is carried of a head.
pub(crate) const HEAD: Target = Target {
    name: "head",
    what: "a head that is carried means one thing in HTTP/1.1, and nothing of the caller's hop goes on",
    run: run_head,
    seeds: heads,
    words: WORDS,
    cases: 20_000,
};

/// A caller's whole HTTP/1 connection.
pub(crate) const HTTP1: Target = Target {
    name: "http1",
    what: "whatever a caller sends, each request that leaves the proxy means one thing, and the connection ends with the caller's",
    run: |bytes| call(bytes),
    seeds: requests,
    words: WORDS,
    cases: 3_000,
};

/// A caller's whole HTTP/2 connection, after its preface.
pub(crate) const HTTP2: Target = Target {
    name: "http2",
    what: "the same for frames of HTTP/2, whose requests leave as HTTP/1.1",
    run: |bytes| call(&[&opening(), bytes].concat()),
    seeds: streams,
    words: FRAME_WORDS,
    cases: 3_000,
};

const WORDS: &[&[u8]] = &[
    b"\r\n",
    b"\n",
    b"\r",
    b"\0",
    b" ",
    b"\t",
    b":",
    b"content-length: 5\r\n",
    b"content-length: 0\r\n",
    b"transfer-encoding: chunked\r\n",
    b"transfer-encoding: identity\r\n",
    b"transfer-encoding:\x0bchunked\r\n",
    b"connection: upgrade\r\nupgrade: websocket\r\n",
    b"connection: content-length\r\n",
    b"connection: host, close\r\n",
    b"expect: 100-continue\r\n",
    b"0\r\n\r\n",
    b"5;a=b\r\nhello\r\n",
    b"http://",
    b"HTTP/1.0",
    b"GET /smuggled HTTP/1.1\r\nhost: helloworld:5000\r\n\r\n",
    b"te: trailers\r\n",
    b"host: other\r\n",
];

const FRAME_WORDS: &[&[u8]] = &[
    b"\x00\x00\x00\x04\x01\x00\x00\x00\x00",
    b"\x00\x00\x04\x03\x00\x00\x00\x00\x01\x00\x00\x00\x08",
    b"\x00\x00\x04\x08\x00\x00\x00\x00\x00\x7f\xff\xff\xff",
    b"\x00\x00\x00\x00\x01\x00\x00\x00\x01",
    b"\x00\x00\x00\x09\x04\x00\x00\x00\x01",
    b"\x00\x0econtent-length\x015",
    b"\x00\x11transfer-encoding\x07chunked",
    b"\x82\x86\x84",
    b"\x3f\xe1\x1f",
];

/// How long no byte comes before the caller hangs up. What is answered later is given up, as any caller may.
const MOMENT: Duration = Duration::from_millis(4);
/// How long a connection may stand after its caller's end, on the busiest machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A runtime of one thread, for what does not need the proxy's.
pub(crate) fn block_on<F: Future>(future: F) -> F::Output {
    thread_local! {
        static RUNTIME: Runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .expect("a runtime");
    }
    RUNTIME.with(|runtime| runtime.block_on(future))
}

/// Lines: method, target, version (`1`, `0` or `2`), then headers.
fn run_head(bytes: &[u8]) {
    let mut lines = bytes.split(|byte| *byte == b'\n');
    let (method, target) = (
        lines.next().unwrap_or_default(),
        lines.next().unwrap_or_default(),
    );
    let version = match lines.next().unwrap_or_default() {
        b"0" => Version::HTTP_10,
        b"2" => Version::HTTP_2,
        _ => Version::HTTP_11,
    };
    let mut request = Request::builder()
        .method(method)
        .uri(target)
        .version(version);
    for line in lines {
        let mut parts = line.splitn(2, |byte| *byte == b':');
        let name = HeaderName::from_bytes(parts.next().unwrap_or_default());
        let value = HeaderValue::from_bytes(parts.next().unwrap_or_default().trim_ascii());
        if let (Ok(name), Ok(value)) = (name, value) {
            request = request.header(name, value);
        }
    }
    let Ok(request) = request.body(()) else {
        return;
    };
    let Ok([http1, http2]) = fuzzing::head(request) else {
        return;
    };
    assert_eq!(http1.headers().get_all("host").iter().count(), 1);
    assert!(
        http2.uri().authority().is_some(),
        "HTTP/2 names its authority"
    );
    for gone in [
        "transfer-encoding",
        "keep-alive",
        "proxy-connection",
        "expect",
    ] {
        assert!(!http1.headers().contains_key(gone), "{gone} goes on");
        assert!(
            !http2.headers().contains_key(gone),
            "{gone} goes on in HTTP/2"
        );
    }
    for gone in ["connection", "upgrade", "host"] {
        assert!(
            !http2.headers().contains_key(gone),
            "{gone} goes on in HTTP/2"
        );
    }
    let mut text = format!("{} {} HTTP/1.1\r\n", http1.method(), http1.uri()).into_bytes();
    for (name, value) in http1
        .headers()
        .iter()
        .filter(|(name, _)| *name != "content-length")
    {
        text.extend([name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"].concat());
    }
    text.extend(b"\r\n");
    match strict::request(&text) {
        Ok(Some((_, length))) => assert_eq!(length, text.len()),
        other => panic!("{other:?} of {:?}", String::from_utf8_lossy(&text)),
    }
}

/// A proxy that runs for as long as the process does.
struct Stand {
    address: SocketAddr,
    witness: Witness,
    calls: AtomicUsize,
}

/// Panics of any thread since the stand was made.
static PANICS: AtomicUsize = AtomicUsize::new(0);

fn stand() -> &'static Stand {
    static STAND: OnceLock<Stand> = OnceLock::new();
    STAND.get_or_init(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            PANICS.fetch_add(1, Ordering::SeqCst);
            before(panic);
        }));
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        let witness = runtime.block_on(async {
            let listener = tokio::net::TcpListener::bind((fleet::address(), 0)).await;
            Witness::on(listener.expect("a socket")).expect("its address")
        });
        let proxy = stand::outbound(witness.address);
        let address = proxy.address;
        // both live until the process ends
        std::mem::forget((runtime, proxy));
        Stand {
            address,
            witness,
            calls: AtomicUsize::new(0),
        }
    })
}

/// One connection with these bytes, and everything that must hold after it.
fn call(bytes: &[u8]) {
    let stand = stand();
    let panics = PANICS.load(Ordering::SeqCst);
    converse(stand, bytes);
    if stand
        .calls
        .fetch_add(1, Ordering::Relaxed)
        .is_multiple_of(64)
    {
        let answer = healthy(stand);
        assert!(
            answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("/healthy"),
            "{answer}"
        );
    }
    let complaints = stand.witness.complaints();
    assert!(complaints.is_empty(), "{complaints:?}");
    assert_eq!(
        PANICS.load(Ordering::SeqCst),
        panics,
        "a thread of the proxy panicked"
    );
}

/// What a caller that means no harm gets.
fn healthy(stand: &Stand) -> String {
    let mut stream = TcpStream::connect(stand.address).expect("a connection");
    stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
    let ask = b"GET /healthy HTTP/1.1\r\nhost: helloworld:5000\r\nconnection: close\r\n\r\n";
    let mut answer = String::new();
    let done = stream
        .write_all(ask)
        .and_then(|()| stream.read_to_string(&mut answer));
    done.expect("a healthy caller is answered");
    answer
}

/// Sends bytes, gives the proxy a moment to answer, and hangs up.
fn converse(stand: &Stand, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(stand.address).expect("a connection");
    // the proxy may hang up in the middle, which is its right
    let _ = stream.write_all(bytes);
    let mut answer = Vec::new();
    let wait = |stream: &TcpStream, time| stream.set_read_timeout(Some(time)).expect("a socket");
    wait(&stream, MOMENT);
    if !is_late(stream.read_to_end(&mut answer)) {
        return answer;
    }
    let _ = stream.shutdown(Shutdown::Write);
    wait(&stream, PATIENCE);
    if is_late(stream.read_to_end(&mut answer)) {
        panic!("{PATIENCE:?} after its caller's end a connection is still open");
    }
    answer
}

fn is_late(read: std::io::Result<usize>) -> bool {
    use std::io::ErrorKind::{TimedOut, WouldBlock};
    read.is_err_and(|error| matches!(error.kind(), WouldBlock | TimedOut))
}

fn heads() -> Vec<Vec<u8>> {
    [
        "GET\n/hello?x=1\n1\nhost: helloworld:5000\naccept: */*",
        "GET\nhttp://helloworld:5000/hello\n1\nhost: helloworld:5000\nproxy-connection: keep-alive\nte: trailers, gzip",
        "POST\n/echo\n1\nhost: a\ncontent-length: 5\ntransfer-encoding: chunked\nconnection: x-secret, close\nx-secret: 1",
        "GET\nhttp://a/b\n2\ncookie: a=1\ncookie: b=2\nhost: A",
        "OPTIONS\n*\n1\nhost: [::1]:80",
        "GET\n/chat\n1\nhost: a\nconnection: Upgrade, keep-alive\nupgrade: websocket\nkeep-alive: timeout=5",
        "CONNECT\na:443\n1\nhost: a:443",
        "GET\n/\n0\nhost: user@a",
    ]
    .map(|text| text.as_bytes().to_vec())
    .into()
}

fn requests() -> Vec<Vec<u8>> {
    let host = "host: helloworld:5000\r\n";
    [
        format!("GET /hello HTTP/1.1\r\n{host}\r\n"),
        format!("GET /1 HTTP/1.1\r\n{host}\r\nGET /2 HTTP/1.1\r\n{host}\r\n"),
        format!("POST /echo HTTP/1.1\r\n{host}content-length: 5\r\n\r\nhelloGET /2 HTTP/1.1\r\n{host}\r\n"),
        format!("POST /echo HTTP/1.1\r\n{host}transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nx-after: 1\r\n\r\n"),
        format!("POST /close HTTP/1.0\r\n{host}content-length: 3\r\n\r\nabc"),
        format!("GET /upgrade-101 HTTP/1.1\r\n{host}connection: upgrade\r\nupgrade: websocket\r\n\r\nraw bytes"),
        format!("GET /upgrade-200 HTTP/1.1\r\n{host}connection: upgrade\r\nupgrade: websocket\r\n\r\nGET /smuggled HTTP/1.1\r\n{host}\r\n"),
        format!("POST /echo HTTP/1.1\r\n{host}expect: 100-continue\r\ncontent-length: 2\r\n\r\nok"),
        "GET http://helloworld:5000/a HTTP/1.1\r\nhost: other\r\nconnection: close\r\n\r\n".to_owned(),
        format!("HEAD /a HTTP/1.1\r\n{host}te: trailers\r\n\r\n"),
        "CONNECT helloworld:5000 HTTP/1.1\r\nhost: helloworld:5000\r\n\r\n".to_owned(),
    ]
    .map(String::into_bytes)
    .into()
}

fn streams() -> Vec<Vec<u8>> {
    let authority = "helloworld:5000";
    let get = head("GET", "/hello", authority, &[]);
    let post = head("POST", "/echo", authority, &[("content-length", "5")]);
    let trailers = head(
        "POST",
        "/echo",
        authority,
        &[("te", "trailers"), ("cookie", "a=1"), ("cookie", "b=2")],
    );
    let headers = |flags, stream, block: &[u8]| frame(kind::HEADERS, flags, stream, block);
    let data = |flags, stream, bytes: &[u8]| frame(kind::DATA, flags, stream, bytes);
    vec![
        headers(END_HEADERS | END_STREAM, 1, &get),
        [
            headers(END_HEADERS, 1, &post),
            data(END_STREAM, 1, b"hello"),
        ]
        .concat(),
        [
            headers(0, 1, &get[..9]),
            frame(kind::CONTINUATION, END_HEADERS, 1, &get[9..]),
            data(END_STREAM, 1, b""),
        ]
        .concat(),
        [
            headers(END_HEADERS, 1, &trailers),
            data(0, 1, b"abc"),
            headers(END_HEADERS | END_STREAM, 1, &literal("x-after", "1")),
        ]
        .concat(),
        [
            headers(END_HEADERS, 1, &get),
            frame(kind::RST_STREAM, 0, 1, &[0, 0, 0, 8]),
            headers(END_HEADERS | END_STREAM, 3, &get),
        ]
        .concat(),
        [
            frame(kind::SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 0]),
            frame(kind::SETTINGS, ACK, 0, &[]),
            headers(END_HEADERS | END_STREAM, 1, &get),
            frame(kind::WINDOW_UPDATE, 0, 1, &[0, 0, 1, 0]),
        ]
        .concat(),
        [
            frame(kind::PING, 0, 0, &[7; 8]),
            frame(kind::PRIORITY, 0, 1, &[0, 0, 0, 3, 9]),
            frame(kind::GOAWAY, 0, 0, &[0; 8]),
        ]
        .concat(),
        headers(
            END_HEADERS | END_STREAM,
            1,
            &head(
                "GET",
                "/a b",
                "",
                &[("transfer-encoding", "chunked"), ("connection", "x")],
            ),
        ),
    ]
}
