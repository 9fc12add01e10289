//! What no draw would hit on: bytes, server names, upgrades, HTTP/2.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use catamaran_judge::caller::{PATIENCE, Reader, head_lines};
use catamaran_judge::outcome::{hash, normal};
use catamaran_judge::program::{Memory, PAUSE};
use catamaran_judge::proxies::Proxy;
use catamaran_judge::world::{self, PORT};
use http::Request;
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Map, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::{Court, programs, runtime};

fn to(proxy: &Proxy, listener: usize) -> SocketAddr {
    SocketAddr::new(proxy.ip, PORT + listener as u16)
}

/// Says pieces, closes its side, and gives what it got until the other side closed.
async fn say(to: SocketAddr, pieces: &[&[u8]]) -> Result<Vec<u8>, String> {
    let whole = async {
        let mut stream = TcpStream::connect(to).await.map_err(|e| e.to_string())?;
        for piece in pieces {
            if stream.write_all(piece).await.is_err() {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        }
        let _ = stream.shutdown().await;
        let mut got = Vec::new();
        match stream.read_to_end(&mut got).await {
            Ok(_) => Ok(got),
            Err(_) if got.is_empty() => Ok(got),
            Err(error) => Err(error.to_string()),
        }
    };
    timeout(PATIENCE * 2, whole)
        .await
        .map_err(|_| "it hangs".to_owned())?
}

#[test]
fn bytes_are_carried_and_each_side_closes_for_itself() {
    runtime().block_on(async {
        let memory = Memory::default();
        let programs = programs(&memory).await;
        let listeners = vec![
            world::tcp_listener(0, "six"),
            world::tcp_listener(1, "nobody"),
        ];
        let court = Court::open(memory, listeners, &programs).await;
        let large = vec![b'x'; 3_000_000];
        for pieces in [
            &[&b"hello"[..], b" there"][..],
            &[],
            &[&large[..]],
            &[&b"\0\xff"[..]],
        ] {
            let mut expected = b"six\n".to_vec();
            expected.extend(pieces.concat());
            for proxy in [&court.envoy, &court.ours] {
                let got = say(to(proxy, 0), pieces).await.unwrap();
                assert!(
                    got == expected,
                    "{:?} gave {} bytes",
                    proxy.maker,
                    got.len()
                );
            }
        }
        for proxy in [&court.envoy, &court.ours] {
            assert_eq!(
                say(to(proxy, 1), &[b"hello"]).await,
                Ok(Vec::new()),
                "{:?}",
                proxy.maker
            );
        }
    });
}

/// The first bytes of a client that asks for a name.
fn hello(name: &str) -> Vec<u8> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    let name = rustls::pki_types::ServerName::try_from(name.to_owned()).unwrap();
    let mut client = rustls::ClientConnection::new(Arc::new(config), name).unwrap();
    let mut bytes = Vec::new();
    client.write_tls(&mut bytes).unwrap();
    bytes
}

#[test]
fn server_names_lead_to_the_same_programs() {
    runtime().block_on(async {
        let memory = Memory::default();
        let programs = programs(&memory).await;
        let ways: [(&[&str], &str); 3] = [
            (&["exact.test", "outbound_.80_._.svc.test"], "six"),
            (&["*.wild.test"], "seven"),
            (&["a.wild.test"], "six"),
        ];
        let court = Court::open(memory, vec![world::sni_listener(0, &ways)], &programs).await;
        let names = [
            ("exact.test", "six"),
            ("EXACT.test", "six"),
            ("outbound_.80_._.svc.test", "six"),
            ("a.wild.test", "six"),
            ("b.wild.test", "seven"),
            ("b.c.wild.test", "seven"),
            ("wild.test", ""),
            ("exact.test.other", ""),
            ("other.test", ""),
            // an address is no server name, so none is sent
            ("127.0.0.1", ""),
        ];
        for (name, program) in names {
            let hello = hello(name);
            let cuts = [hello.len(), 1, 5, 43, hello.len() / 2, hello.len() - 1];
            for cut in cuts {
                let pieces = [&hello[..cut], &hello[cut..]];
                for proxy in [&court.envoy, &court.ours] {
                    let got = say(to(proxy, 0), &pieces).await.unwrap();
                    let first = got.split(|byte| *byte == b'\n').next().unwrap_or_default();
                    let first = String::from_utf8_lossy(first);
                    assert_eq!(first, program, "{name} cut at {cut}, {:?}", proxy.maker);
                }
            }
        }
        for proxy in [&court.envoy, &court.ours] {
            let got = say(
                to(proxy, 0),
                &[b"GET / HTTP/1.1\r\nhost: exact.test\r\n\r\n"],
            )
            .await;
            assert_eq!(
                got,
                Ok(Vec::new()),
                "{:?} lets nobody in without TLS",
                proxy.maker
            );
        }
    });
}

fn everything_to(cluster: &str) -> Map<String, serde_json::Value> {
    let mut manager = Map::new();
    manager.insert(
        "route_config".into(),
        json!({"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [{"match": {"prefix": "/"}, "route": {"cluster": cluster}}]}]}),
    );
    manager.insert(
        "upgrade_configs".into(),
        json!([{"upgrade_type": "websocket"}]),
    );
    manager
}

#[test]
fn an_upgraded_connection_belongs_to_both_ends() {
    runtime().block_on(async {
        let memory = Memory::default();
        let programs = programs(&memory).await;
        let listeners = vec![world::http_listener(0, everything_to("one"))];
        let court = Court::open(memory, listeners, &programs).await;
        let mut outcomes = Vec::new();
        for proxy in [&court.envoy, &court.ours] {
            let stream = TcpStream::connect(to(proxy, 0)).await.unwrap();
            let mut reader = Reader::new(stream);
            let asks = b"GET /chat HTTP/1.1\r\nhost: a.test\r\nupgrade: websocket\r\nconnection: upgrade\r\nx-do: status=101\r\n\r\n";
            reader.stream.write_all(asks).await.unwrap();
            let head = timeout(PATIENCE, reader.head()).await.unwrap().unwrap().unwrap();
            let (first, headers) = head_lines(&head);
            assert!(first.starts_with("HTTP/1.1 101"), "{:?}: {first}", proxy.maker);
            reader.stream.write_all(b"\x81\x05hello").await.unwrap();
            let mut echo = std::mem::take(&mut reader.rest);
            let mut rest = vec![0; 7 - echo.len()];
            let reading = reader.stream.read_exact(&mut rest);
            timeout(PATIENCE, reading).await.unwrap().unwrap();
            echo.extend(rest);
            let mut headers = normal(headers);
            headers.retain(|(name, _)| name != "date");
            outcomes.push((headers, echo));
        }
        assert_eq!(outcomes[0], outcomes[1]);
        assert_eq!(outcomes[0].1, b"\x81\x05hello");
    });
}

/// What a call over HTTP/2 brings, in a form that can be compared.
/// Says pieces with pauses, and gives the status of the answer and whether its body was whole.
async fn patiently(to: SocketAddr, pieces: &[&str]) -> String {
    let (mut reads, mut writes) = TcpStream::connect(to).await.unwrap().into_split();
    let mut got = Vec::new();
    let saying = async {
        for piece in pieces {
            if writes.write_all(piece.as_bytes()).await.is_err() {
                break;
            }
            tokio::time::sleep(PAUSE).await;
        }
        std::future::pending::<()>().await
    };
    let end = tokio::select! {
        () = saying => unreachable!("it never ends"),
        read = timeout(PATIENCE * 3, reads.read_to_end(&mut got)) => read,
    };
    let hangs = if end.is_err() { ", and hangs" } else { "" };
    let text = String::from_utf8_lossy(&got).into_owned();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    let status = head.split(' ').nth(1).unwrap_or("nothing");
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(": ")?;
        let length = name
            .eq_ignore_ascii_case("content-length")
            .then_some(value)?;
        length.parse::<usize>().ok()
    });
    let whole = match length == Some(body.len()) {
        true => "whole",
        false => "broken",
    };
    format!("{status} {whole}{hangs}")
}

#[test]
fn what_is_silent_ends_at_the_same_time() {
    runtime().block_on(async {
        let memory = Memory::default();
        let programs = programs(&memory).await;
        let limited = |limits: serde_json::Value, own: Option<&str>| {
            let mut manager = everything_to("one");
            manager.extend(limits.as_object().unwrap().clone());
            if let Some(own) = own {
                let route = &mut manager["route_config"]["virtual_hosts"][0]["routes"][0]["route"];
                route["idle_timeout"] = own.into();
            }
            manager
        };
        let managers = [
            limited(json!({"stream_idle_timeout": "1s"}), None),
            limited(json!({"stream_idle_timeout": "1s"}), Some("0s")),
            limited(json!({"stream_idle_timeout": "0s"}), Some("1s")),
            limited(
                json!({"request_timeout": "1s", "stream_idle_timeout": "0s"}),
                None,
            ),
        ];
        let listeners = managers.into_iter().enumerate();
        let listeners = listeners.map(|(at, manager)| world::http_listener(at, manager));
        let court = Court::open(memory, listeners.collect(), &programs).await;
        let get = |what: &str| {
            format!(
                "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nx-do: body=100 {what}\r\n\r\n"
            )
        };
        let (late, stall, slow) = (get("late"), get("stall"), get("slow"));
        let post =
            "POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 12\r\n\r\nab";
        let steady = [post, "c", "d", "e", "f", "g", "hijkl"];
        let cases: [(usize, &str, &[&str], &str); 11] = [
            (0, "late", &[&late], "504 whole"),
            (0, "stall", &[&stall], "200 broken"),
            (0, "slow", &[&slow], "200 whole"),
            (0, "half a request", &[post], "408 whole"),
            (0, "a steady request", &steady, "200 whole"),
            (1, "late", &[&late], "200 whole"),
            (1, "stall", &[&stall], "200 whole"),
            (2, "late", &[&late], "504 whole"),
            (3, "late", &[&late], "200 whole"),
            (3, "half a request", &[post], "408 whole"),
            (3, "a steady request", &steady, "408 whole"),
        ];
        let mut asked = Vec::new();
        for (listener, what, pieces, expected) in cases {
            for proxy in [&court.envoy, &court.ours] {
                let to = to(proxy, listener);
                asked.push(async move {
                    let got = patiently(to, pieces).await;
                    assert_eq!(
                        got, expected,
                        "{:?}, listener {listener}, {what}",
                        proxy.maker
                    );
                });
            }
        }
        futures_util::future::join_all(asked).await;
    });
}

async fn call(proxy: &Proxy, listener: usize, request: Request<Full<Bytes>>) -> String {
    let stream = TcpStream::connect(to(proxy, listener)).await.unwrap();
    let builder = hyper::client::conn::http2::Builder::new(TokioExecutor::new());
    let (mut sender, connection) = builder.handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let answer = match timeout(PATIENCE * 2, sender.send_request(request)).await {
        Err(_) => return "it hangs".into(),
        Ok(Err(_)) => return "no answer".into(),
        Ok(Ok(answer)) => answer,
    };
    let pairs = |map: &http::HeaderMap| {
        let all = map.iter().map(|(name, value)| {
            (
                name.to_string(),
                String::from_utf8_lossy(value.as_bytes()).into_owned(),
            )
        });
        normal(all)
    };
    let (status, mut headers) = (answer.status(), pairs(answer.headers()));
    headers.retain(|(name, _)| name != "content-length" || status == 200);
    if !headers.iter().any(|(name, _)| name == "x-program") {
        // the proxy's own words differ
        return format!("{status} of its own");
    }
    match timeout(PATIENCE * 2, answer.into_body().collect()).await {
        Err(_) => "its body hangs".into(),
        Ok(Err(_)) => format!("{status} {headers:?} broken off"),
        Ok(Ok(body)) => {
            let trailers = body.trailers().map(pairs);
            let bytes = body.to_bytes();
            format!(
                "{status} {headers:?} {} {:x} {trailers:?}",
                bytes.len(),
                hash(&bytes)
            )
        }
    }
}

#[test]
fn calls_over_http2_agree() {
    runtime().block_on(async {
        let memory = Memory::default();
        let programs = programs(&memory).await;
        let listeners = vec![
            world::http_listener(0, everything_to("four")),
            world::http_listener(1, everything_to("one")),
        ];
        let court = Court::open(memory.clone(), listeners, &programs).await;
        let mut compared = 0;
        for listener in [0, 1] {
            for (method, length) in [
                ("GET", 0),
                ("POST", 10),
                ("POST", 300_000),
                ("HEAD", 0),
                ("DELETE", 0),
            ] {
                for (at, script) in [
                    "status=200 body=100",
                    "status=200 body=300000",
                    "status=204",
                    "status=304",
                    "status=503 body=5",
                    "status=200 body=20000 framing=chunked trailers",
                    "status=200 body=0 framing=chunked trailers twice",
                    "status=200 body=100000 cut",
                ]
                .into_iter()
                .enumerate()
                {
                    let case = format!("h2-{listener}-{method}-{length}-{at}");
                    let request = || {
                        Request::builder()
                            .method(method)
                            .uri("http://a.test/some/path?q=1")
                            .header("x-do", script)
                            .header("x-case", &case)
                            .header("te", "trailers")
                            .header("cookie", "a=1")
                            .header("cookie", "b=2")
                            .body(Full::new(Bytes::from(vec![b'p'; length])))
                            .unwrap()
                    };
                    let envoy = call(&court.envoy, listener, request()).await;
                    let envoy_seen = memory.take(&case);
                    let ours = call(&court.ours, listener, request()).await;
                    let ours_seen = memory.take(&case);
                    // Envoy drops the trailers of HTTP/1.1, which is on the list
                    let (envoy, ours) = match envoy.strip_suffix("None") {
                        Some(envoy) => (envoy, ours.split("Some(").next().unwrap_or_default()),
                        None => (&*envoy, &*ours),
                    };
                    assert_eq!(ours.trim_end_matches("None"), envoy, "{case}: {script}");
                    let seen = |all: Vec<catamaran_judge::outcome::Seen>| {
                        all.into_iter()
                            .map(|mut one| {
                                // what frames the body, and the hop's own words
                                let hop = ["content-length", "transfer-encoding", "connection"];
                                one.headers
                                    .retain(|(name, _)| !hop.contains(&name.as_str()));
                                one
                            })
                            .collect::<Vec<_>>()
                    };
                    assert_eq!(seen(ours_seen), seen(envoy_seen), "{case}: {script}");
                    compared += 1;
                }
            }
        }
        assert_eq!(compared, 80);
    });
}
