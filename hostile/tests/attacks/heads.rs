//! Slow and large HTTP/1, and more connections than there are files.

use catamaran_hostile::stand::IDLE;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::identity::{self, caller, shake};
use crate::stand::{Budget, Healthy, Stand};
use crate::{send, soon};

/// Slowloris: heads that never come to an end are ended when their time is over.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_head_is_given_up() {
    let mut stand = Stand::inbound().await;
    let healthy = identity::healthy(&stand).await;
    let config = caller(Some(stand.forge.good()), &rustls::version::TLS13);
    let mut slow = Vec::new();
    for _ in 0..50 {
        let stream = TcpStream::connect(stand.address).await.unwrap();
        let mut stream = shake(config.clone(), stream).await.unwrap();
        stream
            .write_all(b"GET /slow HTTP/1.1\r\nhost: helloworld:5000\r\nx-a: ")
            .await
            .unwrap();
        slow.push(tokio::spawn(async move {
            // a letter now and then does not buy more time
            let (mut from, mut to) = tokio::io::split(stream);
            let writer = tokio::spawn(async move {
                while to.write_all(b"a").await.is_ok() {
                    tokio::time::sleep(IDLE / 10).await;
                }
            });
            let mut rest = Vec::new();
            let _ = from.read_to_end(&mut rest).await;
            writer.abort();
        }));
    }
    for one in slow {
        soon("the end of a slow caller", one).await.unwrap();
    }
    stand.until_turned(&["idle"], 50).await;
    healthy.was_not_hurt().await;
    let reached = stand.witness.requests();
    assert!(reached.iter().all(|request| request.target != "/slow"));
}

/// Hundreds of callers in the middle of a head cost little.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_heads_hold_little_memory() {
    let stand = Stand::outbound().await;
    let healthy = Healthy::call(&stand).await;
    let budget = Budget::of(&stand, 10_000);
    let mut slow = Vec::new();
    for _ in 0..500 {
        let mut stream = TcpStream::connect(stand.address).await.unwrap();
        stream
            .write_all(b"POST /slow HTTP/1.1\r\nhost: helloworld:5000\r\nx-a: ")
            .await
            .unwrap();
        slow.push(stream);
    }
    healthy.was_not_hurt().await;
    budget.hold(&stand);
    drop(slow);
}

/// Bodies that stand still hold a connection to the program, and nobody else is kept from it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_bodies_keep_nobody_waiting() {
    let stand = Stand::outbound().await;
    let healthy = Healthy::call(&stand).await;
    let budget = Budget::of(&stand, 10_000);
    let mut slow = Vec::new();
    for _ in 0..200 {
        let mut stream = TcpStream::connect(stand.address).await.unwrap();
        let head =
            b"POST /slow HTTP/1.1\r\nhost: helloworld:5000\r\ncontent-length: 1000000\r\n\r\nx";
        stream.write_all(head).await.unwrap();
        slow.push(stream);
    }
    assert!(
        send(
            &stand,
            b"GET /a HTTP/1.1\r\nhost: helloworld:5000\r\nconnection: close\r\n\r\n"
        )
        .await
        .ends_with("/a")
    );
    healthy.was_not_hurt().await;
    budget.hold(&stand);
    drop(slow);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_heads_are_refused() {
    let mut stand = Stand::outbound().await;
    let healthy = Healthy::call(&stand).await;
    let budget = Budget::of(&stand, 1000);
    let begin = "GET / HTTP/1.1\r\nhost: helloworld:5000\r\n";
    let many: String = (0..101).map(|n| format!("x-{n}: 1\r\n")).collect();
    let large = format!("x: {}\r\n", "v".repeat(200_000));
    let path = format!(
        "GET /{} HTTP/1.1\r\nhost: helloworld:5000\r\n\r\n",
        "p".repeat(200_000)
    );
    for (bytes, status) in [
        (format!("{begin}{many}\r\n"), "HTTP/1.1 431 "),
        (format!("{begin}{large}\r\n"), "HTTP/1.1 431 "),
        (path, "HTTP/1.1 414 "),
    ] {
        let answer = send(&stand, bytes.as_bytes()).await;
        let status_line = answer.lines().next().unwrap_or_default();
        assert!(
            answer.starts_with(status) || answer.starts_with("HTTP/1.1 431 "),
            "{status_line:?} in place of {status:?}"
        );
    }
    stand.until_turned(&["large_head"], 3).await;
    // as many as may be pass
    let fit: String = (0..90).map(|n| format!("x-{n}: 1\r\n")).collect();
    let answer = send(
        &stand,
        format!("{begin}{fit}connection: close\r\n\r\n").as_bytes(),
    )
    .await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    healthy.was_not_hurt().await;
    budget.hold(&stand);
}

/// Chunks with more to say about themselves than data, and trailers without end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn chunks_and_trailers_are_bounded() {
    let stand = Stand::outbound().await;
    let healthy = Healthy::call(&stand).await;
    let budget = Budget::of(&stand, 10_000);
    let begin =
        "POST /bomb HTTP/1.1\r\nhost: helloworld:5000\r\ntransfer-encoding: chunked\r\n\r\n";
    let extensions = format!("1;{}\r\nx\r\n", "a=b;".repeat(10)).repeat(2000);
    let trailers: String = (0..20_000).map(|n| format!("x-{n}: 1\r\n")).collect();
    for (number, bomb) in [
        format!("{begin}{extensions}0\r\n\r\n"),
        format!("{begin}1;{}\r\nx\r\n0\r\n\r\n", "a".repeat(100_000)),
        format!("{begin}1\r\nx\r\n0\r\n{trailers}\r\n"),
        format!("{begin}fffffffffffffffff\r\nx"),
    ]
    .iter()
    .enumerate()
    {
        let answer = send(&stand, bomb.as_bytes()).await;
        assert!(!answer.starts_with("HTTP/1.1 2"), "bomb {number}: {answer}");
    }
    healthy.was_not_hurt().await;
    budget.hold(&stand);
    let reached = stand.witness.requests();
    assert!(
        reached.iter().all(|request| request.target != "/bomb"),
        "none was whole"
    );
    assert_eq!(stand.witness.complaints(), [""; 0]);
}

/// RUSTSEC-2024-0376: no files left to accept with. The listener lives, and serves again when there are some.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_listener_outlives_a_shortage_of_files() {
    let stand = Stand::with_files("outbound", 64).await;
    let healthy = Healthy::call(&stand).await;
    let budget = Budget::of(&stand, 20_000);
    let mut many = Vec::new();
    for _ in 0..200 {
        many.push(TcpStream::connect(stand.address).await.unwrap());
    }
    // those that were accepted stand, and so does the caller from before
    healthy.was_not_hurt().await;
    let count = std::fs::read_dir(format!("/proc/{}/fd", stand.pid()))
        .unwrap()
        .count();
    assert!(
        count >= 60,
        "only {count} files are open: the attack is none"
    );
    drop(many);
    let mut stream = TcpStream::connect(stand.address).await.unwrap();
    stream
        .write_all(b"GET /after HTTP/1.1\r\nhost: helloworld:5000\r\nconnection: close\r\n\r\n")
        .await
        .unwrap();
    let mut answer = String::new();
    soon("an answer", stream.read_to_string(&mut answer))
        .await
        .unwrap();
    assert!(answer.ends_with("/after"), "{answer}");
    budget.hold(&stand);
}

/// Callers that come and go as fast as they can.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callers_that_hang_up_at_once_cost_little() {
    let stand = Stand::outbound().await;
    let healthy = Healthy::call(&stand).await;
    let budget = Budget::of(&stand, 10_000);
    for _ in 0..5000 {
        let stream = TcpStream::connect(stand.address).await.unwrap();
        // a reset in place of a farewell, as ECONNABORTED and ECONNRESET come
        stream.set_zero_linger().unwrap();
    }
    healthy.was_not_hurt().await;
    budget.hold(&stand);
}
