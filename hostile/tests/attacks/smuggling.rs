//! Requests in requests: what leaves the proxy means one thing, and is counted.

use crate::send;
use crate::stand::{Healthy, Stand};
use catamaran_hostile::frames::{END_HEADERS, END_STREAM, frame, head, kind, literal, opening};

const HOST: &str = "host: helloworld:5000\r\n";
const SMUGGLED: &str =
    "GET /smuggled HTTP/1.1\r\nhost: helloworld:5000\r\nconnection: close\r\n\r\n";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_meanings_in_http1_are_refused() {
    let mut stand = Stand::outbound().await;
    let healthy = Healthy::call(&stand).await;
    let chunked = "transfer-encoding: chunked\r\n";
    let post = |headers: &str, body: &str| {
        format!("POST / HTTP/1.1\r\n{HOST}{headers}\r\n{body}{SMUGGLED}")
    };
    let cases = [
        post("content-length: 5\r\ncontent-length: 6\r\n", "hello"),
        post("content-length: 5, 6\r\n", "hello"),
        post("content-length: +5\r\n", "hello"),
        post("content-length: -5\r\n", "hello"),
        post("content-length: 0x5\r\n", "hello"),
        post("content-length: 5 5\r\n", "hello"),
        post("content-length: 18446744073709551621\r\n", "hello"),
        post("content-length:\r\n", "hello"),
        post("transfer-encoding: xchunked\r\n", "0\r\n\r\n"),
        post("transfer-encoding: chunked, identity\r\n", "0\r\n\r\n"),
        post("transfer-encoding: identity\r\n", "0\r\n\r\n"),
        post("transfer-encoding : chunked\r\n", "0\r\n\r\n"),
        post("transfer-encoding\t: chunked\r\n", "0\r\n\r\n"),
        post("x: y\r\n transfer-encoding: chunked\r\n", "0\r\n\r\n"),
        post("transfer-encoding: \0chunked\r\n", "0\r\n\r\n"),
        post(chunked, "5 \r\nhello\r\n-1\r\n\r\n"),
        post(chunked, "0x5\r\nhello\r\n0\r\n\r\n"),
        post(chunked, "1_0\r\nhello\r\n0\r\n\r\n"),
        post(chunked, "5\r\nhelloGET"),
        format!("POST / HTTP/1.0\r\n{HOST}{chunked}\r\n0\r\n\r\n{SMUGGLED}"),
        format!("GET / HTTP/1.1\r\n{HOST}host: other\r\n\r\n"),
        "GET / HTTP/1.1\r\nhost: \r\n\r\n".to_owned(),
        "GET / HTTP/1.1\r\nhost: user@helloworld:5000\r\n\r\n".to_owned(),
        "GET / HTTP/1.1\r\n\r\n".to_owned(),
        format!("GET / HTTP/1.1\r\n{HOST}x\r\n\r\n"),
        format!("GET / HTTP/1.1\r\n{HOST}x y: z\r\n\r\n"),
        format!("GET /a b HTTP/1.1\r\n{HOST}\r\n"),
        format!("GET / HTTP/1.1 \r\n{HOST}\r\n"),
        format!("GET / HTTP/2.0\r\n{HOST}\r\n"),
        format!("GET / HTTP/1.12\r\n{HOST}\r\n"),
        "GET /\r\n\r\n".to_owned(),
        format!("G\0T / HTTP/1.1\r\n{HOST}\r\n"),
        format!("CONNECT helloworld:5000 HTTP/1.1\r\n{HOST}connection: close\r\n\r\n"),
    ];
    for case in &cases {
        let answer = send(&stand, case.as_bytes()).await;
        assert!(!answer.starts_with("HTTP/1.1 2"), "{case:?} got {answer:?}");
        let reached = stand.witness.requests();
        let odd: Vec<_> = reached
            .iter()
            .filter(|request| request.target != "/healthy")
            .collect();
        assert!(odd.is_empty(), "of {case:?} {odd:?} reached the program");
        assert_eq!(stand.witness.complaints(), [""; 0], "after {case:?}");
    }
    // most of them are no HTTP
    stand.until_turned(&["illegal"], 11).await;
    healthy.was_not_hurt().await;
}

/// What is legal, and could be read in two ways by a program that is not: it leaves in one way.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_passes_leaves_in_one_meaning() {
    let stand = Stand::outbound().await;
    let healthy = Healthy::call(&stand).await;
    for (case, body) in [
        (
            format!(
                "POST /a HTTP/1.1\r\n{HOST}content-length: {}\r\nconnection: close\r\n\r\n{SMUGGLED}",
                SMUGGLED.len()
            ),
            SMUGGLED,
        ),
        (
            format!(
                "POST /a HTTP/1.1\r\n{HOST}transfer-encoding: chunked\r\nconnection: close\r\n\r\n{:x};a=\"b\"\r\n{SMUGGLED}\r\n0\r\n\r\n",
                SMUGGLED.len()
            ),
            SMUGGLED,
        ),
        (
            format!(
                "POST /a HTTP/1.1\r\n{HOST}Transfer-Encoding: CHUNKED\r\nconnection: transfer-encoding, close\r\n\r\n2\r\nhi\r\n0\r\n\r\n"
            ),
            "hi",
        ),
        (
            format!(
                "POST /a HTTP/1.1\r\n{HOST}content-length: 2\r\nconnection: content-length, host, close\r\n\r\nhi"
            ),
            "hi",
        ),
        (
            "GET http://helloworld:5000/a HTTP/1.1\r\nhost: other\r\nconnection: close\r\n\r\n"
                .to_owned(),
            "",
        ),
    ] {
        let answer = send(&stand, case.as_bytes()).await;
        assert!(
            answer.starts_with("HTTP/1.1 200 "),
            "{case:?} got {answer:?}"
        );
        let reached = stand.witness.requests();
        let odd: Vec<_> = reached
            .iter()
            .filter(|request| request.target != "/healthy")
            .collect();
        assert_eq!(odd.len(), 1, "of {case:?}: {odd:?}");
        assert_eq!(
            (&*odd[0].target, &*odd[0].body),
            ("/a", body.as_bytes()),
            "{case:?}"
        );
        assert_eq!(odd[0].header("host"), Some("helloworld:5000"));
        assert_eq!(stand.witness.complaints(), [""; 0], "after {case:?}");
    }
    healthy.was_not_hurt().await;
}

/// Heads and lengths in HTTP/2 that would be more than one request in HTTP/1.1.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_meanings_in_http2_are_refused() {
    let stand = Stand::outbound().await;
    let healthy = Healthy::call(&stand).await;
    let authority = "helloworld:5000";
    let headers = |block: Vec<u8>| frame(kind::HEADERS, END_HEADERS, 1, &block);
    let with = |name: &str, value: &str| {
        let mut block = head("POST", "/", authority, &[]);
        block.extend(literal(name, value));
        block
    };
    let smuggled = frame(kind::DATA, END_STREAM, 1, SMUGGLED.as_bytes());
    let cases: Vec<Vec<u8>> = vec![
        [headers(with("content-length", "0")), smuggled.clone()].concat(),
        [headers(with("content-length", "9999")), smuggled.clone()].concat(),
        [
            headers(with("transfer-encoding", "chunked")),
            smuggled.clone(),
        ]
        .concat(),
        [headers(with("connection", "keep-alive")), smuggled.clone()].concat(),
        [
            headers(with("x", "a\r\ntransfer-encoding: chunked")),
            smuggled.clone(),
        ]
        .concat(),
        [headers(with("x: y\r\nz", "a")), smuggled.clone()].concat(),
        [headers(with("X-Upper", "a")), smuggled.clone()].concat(),
        [headers(with("host", "other")), smuggled.clone()].concat(),
        [headers(with("", "a")), smuggled.clone()].concat(),
        [headers(with(":path", "/smuggled")), smuggled.clone()].concat(),
        [
            headers(head("GET / HTTP/1.1\r\nx:", "/", authority, &[])),
            smuggled.clone(),
        ]
        .concat(),
        [
            headers(head(
                "POST",
                "/ HTTP/1.1\r\nhost: a\r\n\r\n",
                authority,
                &[],
            )),
            smuggled.clone(),
        ]
        .concat(),
        [
            headers(head("POST", "/ a", authority, &[])),
            smuggled.clone(),
        ]
        .concat(),
        [
            headers(head("POST", "smuggled", authority, &[])),
            smuggled.clone(),
        ]
        .concat(),
        [headers(head("POST", "", authority, &[])), smuggled.clone()].concat(),
        [
            headers(head("POST", "/", "helloworld:5000\r\nx: y", &[])),
            smuggled.clone(),
        ]
        .concat(),
        [
            headers(head("POST", "/", "user@helloworld:5000", &[])),
            smuggled.clone(),
        ]
        .concat(),
        [headers(head("CONNECT", "/", authority, &[])), smuggled].concat(),
    ];
    for (number, case) in cases.iter().enumerate() {
        send(&stand, &[&opening(), &case[..]].concat()).await;
        let reached = stand.witness.requests();
        let odd: Vec<_> = reached
            .iter()
            .filter(|request| request.target != "/healthy")
            .collect();
        assert!(
            odd.is_empty(),
            "of case {number} {odd:?} reached the program"
        );
        assert_eq!(stand.witness.complaints(), [""; 0], "after case {number}");
    }
    healthy.was_not_hurt().await;
}

/// CVE-2024-23326: a change of protocol that did not happen, and bytes that came too early.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_101_changes_the_protocol() {
    let mut stand = Stand::outbound().await;
    let healthy = Healthy::call(&stand).await;
    let upgrade = "connection: upgrade\r\nupgrade: websocket\r\n";
    // the answer is 200: what follows is a request like any other, which the proxy decides and counts
    let answer = send(
        &stand,
        format!("GET /upgrade-200 HTTP/1.1\r\n{HOST}{upgrade}\r\n{SMUGGLED}").as_bytes(),
    )
    .await;
    assert_eq!(answer.matches("HTTP/1.1 200 ").count(), 2, "{answer}");
    // to a host that is not routed, it is refused: it never was a tunnel
    let elsewhere = "GET /smuggled-2 HTTP/1.1\r\nhost: elsewhere:5000\r\nconnection: close\r\n\r\n";
    let answer = send(
        &stand,
        format!("GET /upgrade-200 HTTP/1.1\r\n{HOST}{upgrade}\r\n{elsewhere}").as_bytes(),
    )
    .await;
    assert!(answer.contains("HTTP/1.1 404 "), "{answer}");
    // another protocol than websocket is not asked for at all
    let answer = send(
        &stand,
        format!(
            "GET /upgrade-101 HTTP/1.1\r\n{HOST}connection: upgrade, close\r\nupgrade: h2c\r\n\r\n"
        )
        .as_bytes(),
    )
    .await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    // the answer is 101: what came early goes through as bytes, and the connection is never used for a request again
    let answer = send(
        &stand,
        format!("GET /upgrade-101 HTTP/1.1\r\n{HOST}{upgrade}\r\n{elsewhere}").as_bytes(),
    )
    .await;
    assert!(
        answer.starts_with("HTTP/1.1 101 ") && answer.ends_with(elsewhere),
        "{answer}"
    );
    for n in 0..20 {
        let ask = format!("GET /after-{n} HTTP/1.1\r\n{HOST}connection: close\r\n\r\n");
        let answer = send(&stand, ask.as_bytes()).await;
        assert!(answer.ends_with(&format!("/after-{n}")), "{answer}");
    }
    healthy.was_not_hurt().await;
    assert_eq!(stand.witness.complaints(), [""; 0]);
    let reached = stand
        .witness
        .requests()
        .iter()
        .filter(|request| request.target.contains("smuggled"))
        .count();
    assert_eq!(reached, 1, "the one that was routed");
    let counted = counted(&mut stand);
    assert!(counted > 5 + 20, "{counted}");
}

/// Two statements of a body's length: hyper takes the chunks, hides the other one from us and from whoever is behind us, and closes
/// the connection after the answer (RFC 9112, 6.1 and 6.3). Envoy refuses such a request.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_lengths_one_leaves() {
    let mut stand = Stand::outbound().await;
    for lengths in [
        "content-length: 4\r\ntransfer-encoding: chunked\r\n",
        "transfer-encoding: chunked\r\ncontent-length: 4\r\n",
    ] {
        let both = format!("POST /both HTTP/1.1\r\n{HOST}{lengths}\r\n0\r\n\r\n{SMUGGLED}");
        send(&stand, both.as_bytes()).await;
        let reached = stand.witness.requests();
        let targets: Vec<&str> = reached.iter().map(|request| &*request.target).collect();
        assert_eq!(targets, ["/both"], "nothing on that connection after it");
        assert_eq!(reached[0].header("content-length"), None);
        assert_eq!(stand.witness.complaints(), [""; 0]);
    }
    assert_eq!(counted(&mut stand), 2);
}

/// The requests that the proxy has counted.
fn counted(stand: &mut Stand) -> u64 {
    let all = stand.metrics();
    let lines = all
        .iter()
        .filter(|line| line.starts_with("istio_requests_total{"));
    lines
        .map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap())
        .sum()
}
