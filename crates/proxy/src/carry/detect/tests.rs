use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

use super::*;

const ALL: Look = Look {
    tls: true,
    http: true,
    wait: Duration::from_secs(1),
};

async fn beginning_of(bytes: &[u8], look: Look) -> Result<Beginning, BeginningError> {
    let (mut client, mut stream) = duplex(1 << 20);
    client.write_all(bytes).await.unwrap();
    client.shutdown().await.unwrap();
    let mut head = Vec::new();
    let found = read_beginning(&mut stream, &mut head, look).await;
    assert_eq!(head, bytes);
    found
}

#[tokio::test(flavor = "current_thread", start_paused = true)]
async fn protocols_are_known_by_their_first_bytes() {
    let what = async |bytes: &[u8]| beginning_of(bytes, ALL).await.unwrap();
    assert_eq!(
        what(b"GET / HTTP/1.1\r\nhost: a\r\n").await,
        Beginning::Http1
    );
    assert_eq!(what(b"OPTIONS * HTTP/1.0\n").await, Beginning::Http1);
    assert_eq!(
        what(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0").await,
        Beginning::Http2
    );
    assert_eq!(what(b"GET key\r\n").await, Beginning::Opaque, "Redis");
    assert_eq!(what(b"EHLO a.example\r\n").await, Beginning::Opaque, "SMTP");
    assert_eq!(
        what(b"\0\0\0\x08\x04\xd2\x16\x2f").await,
        Beginning::Opaque,
        "PostgreSQL"
    );
    assert_eq!(
        what(b"PRI * HTTP/2.0\r\nhost: a\r\n\r\n").await,
        Beginning::Opaque
    );
    assert_eq!(what(b"\x16\x02").await, Beginning::Opaque);
    let long = [b"GET /".to_vec(), vec![b'a'; LINE_LIMIT]].concat();
    assert_eq!(what(&long).await, Beginning::Http1);
}

#[tokio::test(flavor = "current_thread", start_paused = true)]
async fn a_request_in_pieces_is_waited_for() {
    let (mut client, mut stream) = duplex(64);
    let send = async {
        for piece in ["G", "ET", " /a HT", "TP/1.1", "\r", "\n"] {
            client.write_all(piece.as_bytes()).await.unwrap();
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let mut head = Vec::new();
    let (found, ()) = tokio::join!(read_beginning(&mut stream, &mut head, ALL), send);
    assert_eq!(found.unwrap(), Beginning::Http1);
}

#[tokio::test(flavor = "current_thread", start_paused = true)]
async fn a_silent_caller_is_opaque_after_the_wait_and_no_later() {
    let (_client, mut stream) = duplex(64);
    let started = Instant::now();
    let found = read_beginning(&mut stream, &mut Vec::new(), ALL).await;
    assert_eq!(found.unwrap(), Beginning::Opaque);
    assert!(started.elapsed() <= ALL.wait + Duration::from_millis(2));
}

#[tokio::test(flavor = "current_thread", start_paused = true)]
async fn half_a_hello_is_not_carried_anywhere() {
    let found = beginning_of(&[0x16, 3, 1, 0, 200, 1, 0, 0, 196], ALL).await;
    assert!(matches!(found, Err(BeginningError::Closed)), "{found:?}");
    let (mut client, mut stream) = duplex(64);
    client.write_all(&[0x16, 3, 1, 0, 200, 1]).await.unwrap();
    let started = Instant::now();
    let found = read_beginning(&mut stream, &mut Vec::new(), ALL).await;
    assert!(matches!(found, Err(BeginningError::Slow)), "{found:?}");
    assert!(started.elapsed() <= HELLO_WAIT + Duration::from_millis(2));
}

#[tokio::test(flavor = "current_thread")]
async fn what_was_read_is_read_again() {
    let (mut client, stream) = duplex(64);
    client.write_all(b" and more").await.unwrap();
    client.shutdown().await.unwrap();
    let mut got = String::new();
    Rewound::new(b"before".to_vec(), stream)
        .read_to_string(&mut got)
        .await
        .unwrap();
    assert_eq!(got, "before and more");
}
