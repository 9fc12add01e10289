//! The programs behind the proxies. They do what a request's `x-do` header says and remember what came, by its `x-case`.
//!
//! `x-do` is a list of words: `status=N`, `body=N` (bytes), `framing=length|chunked|close`, `trailers`, `hint` (103 first), `twice` (a
//! header that is there twice), `cut` (the body ends too early), `reset` (nothing is answered), `close` (says `Connection: close`). Over
//! HTTP/1.1 also `late` (begins after [`LATE`]), `stall` (half of it, and the rest after [`LATE`]), `slow` (in pieces, [`PAUSE`] apart).

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::caller::{Reader, head_lines};
use crate::outcome::{Seen, hash, normal};

/// How long a late program thinks.
pub const LATE: Duration = Duration::from_millis(2500);
/// How long a slow program pauses between pieces.
pub const PAUSE: Duration = Duration::from_millis(300);

/// What came, by case.
#[derive(Debug, Clone, Default)]
pub struct Memory(Arc<Mutex<HashMap<String, Vec<Seen>>>>);

impl Memory {
    fn keep(&self, case: &str, seen: Seen) {
        let mut all = self.0.lock().unwrap();
        all.entry(case.to_owned()).or_default().push(seen);
    }

    /// What came of a case, which is forgotten.
    pub fn take(&self, case: &str) -> Vec<Seen> {
        self.0.lock().unwrap().remove(case).unwrap_or_default()
    }
}

/// What a program is to do.
#[derive(Debug, Clone, Default)]
struct Script {
    status: u16,
    body: usize,
    framing: String,
    words: Vec<String>,
}

impl Script {
    fn read(text: &str) -> Script {
        let mut script = Script {
            status: 200,
            framing: "length".into(),
            ..Script::default()
        };
        for word in text.split(' ') {
            match word.split_once('=') {
                Some(("status", n)) => script.status = n.parse().unwrap_or(200),
                Some(("body", n)) => script.body = n.parse().unwrap_or(0),
                Some(("framing", how)) => script.framing = how.into(),
                _ => script.words.push(word.into()),
            }
        }
        script
    }

    fn says(&self, word: &str) -> bool {
        self.words.iter().any(|said| said == word)
    }

    fn body(&self) -> Vec<u8> {
        (0..self.body).map(|at| b'a' + (at % 23) as u8).collect()
    }
}

/// Starts a program that speaks HTTP/1.1 and gives its address.
pub async fn http1(name: &str, ip: IpAddr, memory: Memory) -> SocketAddr {
    let listener = TcpListener::bind((ip, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let name: Arc<str> = name.into();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (name, memory) = (name.clone(), memory.clone());
            tokio::spawn(async move {
                let _ = converse(stream, &name, &memory).await;
            });
        }
    });
    address
}

async fn converse(stream: TcpStream, name: &str, memory: &Memory) -> std::io::Result<()> {
    let mut reader = Reader::new(stream);
    loop {
        let Some(head) = reader.head().await? else {
            return Ok(());
        };
        let (first, headers) = head_lines(&head);
        let mut words = first.split(' ');
        let method = words.next().unwrap_or_default().to_owned();
        let target = words.next().unwrap_or_default().to_owned();
        let find = |name: &str| {
            let mut all = headers.iter();
            all.find(|(key, _)| key.eq_ignore_ascii_case(name))
                .map(|(_, value)| value.clone())
        };
        if find("expect").is_some() {
            reader
                .stream
                .write_all(b"HTTP/1.1 100 Continue\r\n\r\n")
                .await?;
        }
        let upgrade = find("upgrade");
        let (body, trailers) = reader.body(&headers, false).await?;
        let case = find("x-case").unwrap_or_default();
        memory.keep(
            &case,
            Seen {
                program: name.into(),
                method: method.clone(),
                target,
                headers: normal(headers.iter().cloned()),
                body: (body.len(), hash(&body)),
                trailers: normal(trailers),
            },
        );
        let script = Script::read(&find("x-do").unwrap_or_default());
        if upgrade.is_some() && script.status == 101 {
            let answer = format!(
                "HTTP/1.1 101 Switching Protocols\r\nx-program: {name}\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n"
            );
            reader.stream.write_all(answer.as_bytes()).await?;
            return echo(reader).await;
        }
        if script.says("reset") {
            return Ok(());
        }
        let (bytes, ends) = answer(name, &script, &method);
        if script.says("late") {
            tokio::time::sleep(LATE).await;
        }
        let (pieces, pause) = match (script.says("stall"), script.says("slow")) {
            (true, _) => (2, LATE),
            (_, true) => (6, PAUSE),
            _ => (1, Duration::ZERO),
        };
        for (at, piece) in bytes.chunks(bytes.len().div_ceil(pieces)).enumerate() {
            if at > 0 {
                tokio::time::sleep(pause).await;
            }
            reader.stream.write_all(piece).await?;
        }
        if ends {
            return reader.stream.shutdown().await;
        }
    }
}

async fn echo(mut reader: Reader) -> std::io::Result<()> {
    let mut bytes = std::mem::take(&mut reader.rest);
    loop {
        reader.stream.write_all(&bytes).await?;
        bytes.resize(4096, 0);
        let count = reader.stream.read(&mut bytes).await?;
        if count == 0 {
            return reader.stream.shutdown().await;
        }
        bytes.truncate(count);
    }
}

/// The bytes of an answer, and whether the connection ends with it.
fn answer(name: &str, script: &Script, method: &str) -> (Vec<u8>, bool) {
    let mut bytes = Vec::new();
    if script.says("hint") {
        bytes.extend_from_slice(
            b"HTTP/1.1 103 Early Hints\r\nlink: </style.css>; rel=preload\r\n\r\n",
        );
    }
    let status = script.status;
    bytes.extend_from_slice(
        format!("HTTP/1.1 {status} Whatever\r\nx-program: {name}\r\n").as_bytes(),
    );
    if script.says("twice") {
        bytes.extend_from_slice(b"Set-Cookie: a=1\r\nset-cookie: b=2; Path=/\r\nX-Empty:\r\n");
    }
    if script.says("close") {
        bytes.extend_from_slice(b"connection: close\r\n");
    }
    let body = script.body();
    let bodiless = matches!(status, 204 | 304) || method == "HEAD";
    let mut ends = script.says("close");
    match script.framing.as_str() {
        _ if matches!(status, 204 | 304) => bytes.extend_from_slice(b"\r\n"),
        "chunked" => {
            bytes.extend_from_slice(b"transfer-encoding: chunked\r\n");
            let trailers = script.says("trailers");
            if trailers {
                bytes.extend_from_slice(b"trailer: x-checksum\r\n");
            }
            bytes.extend_from_slice(b"\r\n");
            if !bodiless {
                for piece in body.chunks(1000) {
                    bytes.extend_from_slice(format!("{:x}\r\n", piece.len()).as_bytes());
                    bytes.extend_from_slice(piece);
                    bytes.extend_from_slice(b"\r\n");
                }
                if script.says("cut") {
                    return (bytes, true);
                }
                bytes.extend_from_slice(b"0\r\n");
                if trailers {
                    bytes.extend_from_slice(b"x-checksum: 77\r\n");
                }
                bytes.extend_from_slice(b"\r\n");
            }
        }
        "close" => {
            bytes.extend_from_slice(b"\r\n");
            if !bodiless {
                bytes.extend_from_slice(&body);
            }
            ends = true;
        }
        _ => {
            bytes.extend_from_slice(format!("content-length: {}\r\n\r\n", body.len()).as_bytes());
            if !bodiless {
                if script.says("cut") && !body.is_empty() {
                    bytes.extend_from_slice(&body[..body.len() / 2]);
                    return (bytes, true);
                }
                bytes.extend_from_slice(&body);
            }
        }
    }
    (bytes, ends)
}

/// Starts a program that speaks HTTP/2 without TLS and gives its address.
pub async fn http2(name: &str, ip: IpAddr, memory: Memory) -> SocketAddr {
    let listener = TcpListener::bind((ip, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let name: Arc<str> = name.into();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (name, memory) = (name.clone(), memory.clone());
            let service = hyper::service::service_fn(move |request| {
                let (name, memory) = (name.clone(), memory.clone());
                async move { Ok::<_, Infallible>(stream_answer(&name, &memory, request).await) }
            });
            let builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            tokio::spawn(builder.serve_connection(TokioIo::new(stream), service));
        }
    });
    address
}

type Body = http_body_util::combinators::BoxBody<Bytes, std::io::Error>;

async fn stream_answer(name: &str, memory: &Memory, request: Request<Incoming>) -> Response<Body> {
    let (parts, body) = request.into_parts();
    let text = |map: &HeaderMap| -> Vec<(String, String)> {
        map.iter()
            .map(|(name, value)| {
                let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
                (name.to_string(), value)
            })
            .collect()
    };
    let find = |name: &str| {
        let value = parts.headers.get(name)?;
        value.to_str().ok().map(str::to_owned)
    };
    let collected = body.collect().await;
    let (body, trailers) = match collected {
        Ok(collected) => {
            let trailers = collected.trailers().map(text).unwrap_or_default();
            (collected.to_bytes(), trailers)
        }
        Err(_) => (Bytes::from_static(b"(broken)"), Vec::new()),
    };
    let mut headers = text(&parts.headers);
    headers.push((
        "host".into(),
        parts
            .uri
            .authority()
            .map(ToString::to_string)
            .unwrap_or_default(),
    ));
    memory.keep(
        &find("x-case").unwrap_or_default(),
        Seen {
            program: name.into(),
            method: parts.method.to_string(),
            target: parts
                .uri
                .path_and_query()
                .map(ToString::to_string)
                .unwrap_or_default(),
            headers: normal(headers),
            body: (body.len(), hash(&body)),
            trailers: normal(trailers),
        },
    );
    let script = Script::read(&find("x-do").unwrap_or_default());
    let bodiless = matches!(script.status, 204 | 304) || parts.method == http::Method::HEAD;
    let mut frames: Vec<Result<Frame<Bytes>, std::io::Error>> = Vec::new();
    if !bodiless && script.body > 0 {
        frames.push(Ok(Frame::data(script.body().into())));
    }
    if script.says("cut") || script.says("reset") {
        frames.push(Err(std::io::Error::other("cut")));
    } else if script.says("trailers") && !bodiless {
        let mut trailers = HeaderMap::new();
        trailers.insert(
            HeaderName::from_static("x-checksum"),
            HeaderValue::from_static("77"),
        );
        frames.push(Ok(Frame::trailers(trailers)));
    }
    let mut answer = Response::new(BodyExt::boxed(StreamBody::new(Frames(frames.into_iter()))));
    *answer.status_mut() = StatusCode::from_u16(script.status).unwrap_or(StatusCode::OK);
    let headers = answer.headers_mut();
    if let Ok(name) = HeaderValue::from_str(name) {
        headers.insert("x-program", name);
    }
    if script.says("twice") {
        headers.append("set-cookie", HeaderValue::from_static("a=1"));
        headers.append("set-cookie", HeaderValue::from_static("b=2; Path=/"));
        headers.append("x-empty", HeaderValue::from_static(""));
    }
    answer
}

/// Frames that are ready.
struct Frames(std::vec::IntoIter<Result<Frame<Bytes>, std::io::Error>>);

impl futures_util::Stream for Frames {
    type Item = Result<Frame<Bytes>, std::io::Error>;

    fn poll_next(
        mut self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Self::Item>> {
        std::task::Poll::Ready(self.0.next())
    }
}

/// Starts a program that answers every connection with its name and then all it gets, and closes when its caller does.
pub async fn bytes(name: &str, ip: IpAddr) -> SocketAddr {
    let listener = TcpListener::bind((ip, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let greeting = format!("{name}\n").into_bytes();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let mut reader = Reader::new(stream);
            reader.rest = greeting.clone();
            tokio::spawn(async move {
                let _ = echo(reader).await;
            });
        }
    });
    address
}
