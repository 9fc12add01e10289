//! The attacks of HTTP/2's frames.

use catamaran_hostile::frames::{
    ACK, END_HEADERS, END_STREAM, frame, head, kind, literal, opening,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::soon;
use crate::stand::{Budget, Healthy, Stand};

const AUTHORITY: &str = "helloworld:5000";
/// Bad frames of one attack.
const FRAMES: usize = 10_000;
/// What a flood is sent in.
const BURST: usize = 100;

/// How an attack ended.
#[derive(Debug, PartialEq)]
enum End {
    /// The proxy hung up.
    HungUp,
    /// It stood to the last frame.
    Stood,
}

/// Sends a connection's opening, and then `make(n)` for each of `FRAMES`; reads whatever comes meanwhile. Gives how it ended and
/// what the proxy said.
async fn flood(stand: &Stand, make: impl Fn(usize) -> Vec<u8>) -> (End, Vec<u8>) {
    let mut stream = TcpStream::connect(stand.address).await.unwrap();
    stream.write_all(&opening()).await.unwrap();
    stream
        .write_all(&frame(kind::SETTINGS, ACK, 0, &[]))
        .await
        .unwrap();
    let (mut from, mut to) = stream.into_split();
    let reader = tokio::spawn(async move {
        let mut said = Vec::new();
        let mut bytes = vec![0; 64 * 1024];
        while let Ok(count @ 1..) = from.read(&mut bytes).await {
            said.extend_from_slice(&bytes[..count]);
            // a flood's answers are many; their end is what counts
            if said.len() > 1 << 20 {
                said.drain(..said.len() - (64 << 10));
            }
        }
        said
    });
    let mut end = End::Stood;
    for burst in 0..FRAMES / BURST {
        let bytes: Vec<u8> = (0..BURST).flat_map(|n| make(burst * BURST + n)).collect();
        if soon("room for the next frames", to.write_all(&bytes))
            .await
            .is_err()
        {
            end = End::HungUp;
            break;
        }
        if reader.is_finished() {
            end = End::HungUp;
            break;
        }
        tokio::task::yield_now().await;
    }
    if end == End::Stood {
        // what was sent is worked off before the last answer comes
        let ping = frame(kind::PING, 0, 0, b"lastping");
        let _ = to.write_all(&ping).await;
        let _ = to.shutdown().await;
    }
    (
        end,
        soon("the end of the connection", reader).await.unwrap(),
    )
}

/// The streams 1, 3, 5…
fn stream(n: usize) -> u32 {
    2 * n as u32 + 1
}

fn get() -> Vec<u8> {
    head("GET", "/hello", AUTHORITY, &[])
}

/// Whether a GOAWAY with ENHANCE_YOUR_CALM is among what was said.
fn calmed(said: &[u8]) -> bool {
    said.windows(17)
        .any(|w| w[..4] == [0, 0, 8, 7] && w[13..17] == [0, 0, 0, 11])
        || said
            .windows(17)
            .any(|w| w[3] == kind::GOAWAY && w[13..17] == [0, 0, 0, 11])
}

async fn attack(make: impl Fn(usize) -> Vec<u8>) -> (Stand, End, Vec<u8>) {
    let stand = Stand::outbound().await;
    let healthy = Healthy::call(&stand).await;
    let budget = Budget::of(&stand, FRAMES);
    let (end, said) = flood(&stand, make).await;
    healthy.was_not_hurt().await;
    budget.hold(&stand);
    assert_eq!(stand.witness.complaints(), [""; 0]);
    (stand, end, said)
}

/// CVE-2023-44487: requests that are taken back at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rapid_reset_is_cut_off() {
    let (mut stand, _, said) = attack(|n| {
        let mut frames = frame(kind::HEADERS, END_HEADERS | END_STREAM, stream(n), &get());
        frames.extend(frame(kind::RST_STREAM, 0, stream(n), &[0, 0, 0, 8]));
        frames
    })
    .await;
    assert!(calmed(&said), "it is told to calm down");
    stand.until_turned(&["flood"], 1).await;
    let asked = stand
        .witness
        .requests()
        .iter()
        .filter(|request| request.target == "/hello")
        .count();
    assert!(asked < FRAMES / 10, "{asked} requests reached the program");
}

/// RUSTSEC-2023-0034: resets of streams that nobody accepted yet.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_queue_of_reset_streams_is_bounded() {
    let (mut stand, _, said) = attack(|n| {
        let mut frames = Vec::new();
        if n % 2 == 0 {
            frames.extend(frame(kind::HEADERS, END_HEADERS, stream(n / 2), &get()));
        } else {
            frames.extend(frame(kind::RST_STREAM, 0, stream(n / 2), &[0, 0, 0, 0]));
        }
        frames
    })
    .await;
    assert!(calmed(&said), "it is told to calm down");
    stand.until_turned(&["flood"], 1).await;
}

/// RUSTSEC-2024-0332: a head that never ends.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_head_of_endless_pieces_is_cut_off() {
    let (mut stand, end, _) = attack(|n| match n {
        0 => frame(kind::HEADERS, 0, 1, &get()),
        n => frame(
            kind::CONTINUATION,
            0,
            1,
            &literal(&format!("x-{n}"), &"v".repeat(100)),
        ),
    })
    .await;
    assert_eq!(end, End::HungUp);
    stand.until_turned(&["flood"], 1).await;
}

/// The same with pieces of no bytes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_head_of_empty_pieces_is_cut_off() {
    let (mut stand, _, said) = attack(|n| match n {
        0 => frame(kind::HEADERS, 0, 1, &get()),
        _ => frame(kind::CONTINUATION, 0, 1, &[]),
    })
    .await;
    assert!(calmed(&said), "it is told to calm down");
    stand.until_turned(&["flood"], 1).await;
}

/// CVE-2025-8671: frames for which the proxy must reset the stream itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn resets_that_the_caller_provokes_are_counted_too() {
    let (mut stand, _, said) = attack(|n| {
        let mut frames = frame(kind::HEADERS, END_HEADERS, stream(n), &get());
        // a window that overflows, an update of nothing, data after the end, by turns
        frames.extend(match n % 3 {
            0 => frame(kind::WINDOW_UPDATE, 0, stream(n), &[0x7f, 0xff, 0xff, 0xff]),
            1 => frame(kind::WINDOW_UPDATE, 0, stream(n), &[0, 0, 0, 0]),
            _ => [
                frame(kind::DATA, END_STREAM, stream(n), b"x"),
                frame(kind::DATA, END_STREAM, stream(n), b"x"),
            ]
            .concat(),
        });
        frames
    })
    .await;
    assert!(!said.is_empty());
    stand.until_turned(&["flood", "illegal"], 1).await;
}

/// RUSTSEC-2026-0258: data frames without data.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn empty_data_is_cut_off() {
    let post = head("POST", "/echo", AUTHORITY, &[]);
    let (mut stand, ..) = attack(|n| match n {
        0 => frame(kind::HEADERS, END_HEADERS, 1, &post),
        // h2's budget is spent after some 25,000 of them
        _ => frame(kind::DATA, 0, 1, &[]).repeat(4),
    })
    .await;
    stand.until_turned(&["flood"], 1).await;
}

/// CVE-2019-9512 and -9515: frames that want an acknowledgement each.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pings_and_settings_cost_little() {
    attack(|_| frame(kind::PING, 0, 0, &[1; 8])).await;
    attack(|_| frame(kind::SETTINGS, 0, 0, &[0, 4, 0, 0, 0xff, 0xff])).await;
}

/// The same from a caller that does not read the answers: they must not pile up.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acknowledgements_that_nobody_reads_do_not_pile_up() {
    let stand = Stand::outbound().await;
    let healthy = Healthy::call(&stand).await;
    let budget = Budget::of(&stand, 20 * FRAMES);
    let mut stream = TcpStream::connect(stand.address).await.unwrap();
    stream.write_all(&opening()).await.unwrap();
    let pings = frame(kind::PING, 0, 0, &[1; 8]).repeat(20 * FRAMES);
    let mut sent = 0;
    // until the proxy takes no more, which it shows by not reading
    while sent < pings.len() {
        let wrote = tokio::time::timeout(
            std::time::Duration::from_millis(500),
            stream.write(&pings[sent..]),
        )
        .await;
        match wrote {
            Ok(Ok(count)) => sent += count,
            Ok(Err(_)) | Err(_) => break,
        }
    }
    healthy.was_not_hurt().await;
    budget.hold(&stand);
}

/// A small head that unpacks to a large one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_packed_bomb_does_not_unpack() {
    // a header of 4,000 bytes in the table, then references to it
    let mut block = vec![0x40, 1, b'x', 0x7f, 0xa1, 0x1e];
    block.extend(vec![b'v'; 127 + 0xa1 - 0x80 + 0x1e * 128]);
    let references = vec![0xbe; 15_000];
    let stand = Stand::outbound().await;
    let healthy = Healthy::call(&stand).await;
    let budget = Budget::of(&stand, 100);
    let mut stream = TcpStream::connect(stand.address).await.unwrap();
    stream.write_all(&opening()).await.unwrap();
    for n in 0..20 {
        let mut bytes = frame(
            kind::HEADERS,
            0,
            self::stream(n),
            &[&get()[..], &block].concat(),
        );
        bytes.extend(frame(
            kind::CONTINUATION,
            END_HEADERS,
            self::stream(n),
            &references,
        ));
        if stream.write_all(&bytes).await.is_err() {
            break;
        }
    }
    let _ = stream.shutdown().await;
    let mut said = Vec::new();
    let _ = soon("the end of the connection", stream.read_to_end(&mut said)).await;
    healthy.was_not_hurt().await;
    budget.hold(&stand);
    let reached = stand.witness.requests();
    assert!(
        reached.iter().all(|request| request.target == "/healthy"),
        "{} requests",
        reached.len()
    );
}

/// A caller that asks for much and takes nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_closed_window_holds_no_memory() {
    let stand = Stand::outbound().await;
    let healthy = Healthy::call(&stand).await;
    let budget = Budget::of(&stand, FRAMES);
    let mut callers = Vec::new();
    for _ in 0..2 {
        let mut stream = TcpStream::connect(stand.address).await.unwrap();
        let mut bytes = catamaran_hostile::frames::PREFACE.to_vec();
        bytes.extend(frame(kind::SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 0]));
        let large = head("GET", "/large", AUTHORITY, &[]);
        for n in 0..100 {
            bytes.extend(frame(
                kind::HEADERS,
                END_HEADERS | END_STREAM,
                self::stream(n),
                &large,
            ));
        }
        stream.write_all(&bytes).await.unwrap();
        callers.push(stream);
    }
    soon("all of their requests", async {
        let mut reached = 0;
        while reached < 200 {
            let new = stand.witness.requests();
            reached += new
                .iter()
                .filter(|request| request.target == "/large")
                .count();
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    })
    .await;
    healthy.was_not_hurt().await;
    budget.hold(&stand);
    drop(callers);
}

/// A caller may have so many streams at once and no more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_streams_than_agreed_are_refused() {
    let stand = Stand::outbound().await;
    let healthy = Healthy::call(&stand).await;
    let mut stream = TcpStream::connect(stand.address).await.unwrap();
    let mut bytes = opening();
    let post = head("POST", "/echo", AUTHORITY, &[]);
    for n in 0..257 {
        bytes.extend(frame(kind::HEADERS, END_HEADERS, self::stream(n), &post));
    }
    stream.write_all(&bytes).await.unwrap();
    let mut said = Vec::new();
    // the one stream too many is refused: RST_STREAM with REFUSED_STREAM on stream 513
    let refused = [frame(kind::RST_STREAM, 0, 513, &[0, 0, 0, 7])].concat();
    soon("a refusal", async {
        while !said.windows(refused.len()).any(|window| window == refused) {
            assert!(stream.read_buf(&mut said).await.unwrap() > 0);
        }
    })
    .await;
    healthy.was_not_hurt().await;
}
