use std::collections::VecDeque;
use std::rc::Rc;

use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

use super::*;

const HOUR: Duration = Duration::from_secs(3600);

#[tokio::test(flavor = "current_thread")]
async fn each_side_may_close_its_half_first() {
    let (mut client, first) = duplex(16);
    let (mut server, second) = duplex(16);
    let user = async {
        client.write_all(b"question").await.unwrap();
        client.shutdown().await.unwrap();
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).await.unwrap();
        answer
    };
    let app = async {
        let mut question = Vec::new();
        server.read_to_end(&mut question).await.unwrap();
        server.write_all(b"the answer, later").await.unwrap();
        server.shutdown().await.unwrap();
        question
    };
    let (copied, answer, question) =
        tokio::join!(copy(first, second, b"head ".to_vec(), HOUR), user, app);
    assert_eq!(question, b"head question");
    assert_eq!(answer, b"the answer, later");
    assert!(matches!(copied.end, End::Closed));
    assert_eq!((copied.forth, copied.back), (13, 17));
}

#[tokio::test(flavor = "current_thread")]
async fn a_slow_receiver_gets_every_byte_in_order() {
    let (mut client, first) = duplex(1 << 20);
    let (mut server, second) = duplex(100);
    let sent: Vec<u8> = (0..1_000_000u32).map(|n| (n % 251) as u8).collect();
    let user = async {
        client.write_all(&sent).await.unwrap();
        client.shutdown().await.unwrap();
        client.read_to_end(&mut Vec::new()).await.unwrap();
    };
    let app = async {
        let mut got = Vec::new();
        server.read_to_end(&mut got).await.unwrap();
        drop(server);
        got
    };
    let (copied, (), got) = tokio::join!(copy(first, second, Vec::new(), HOUR), user, app);
    assert!(got == sent, "the bytes differ");
    assert_eq!(copied.forth, 1_000_000);
}

#[tokio::test(flavor = "current_thread", start_paused = true)]
async fn silence_ends_a_copy_but_slow_talk_does_not() {
    let (mut client, first) = duplex(64);
    let (mut server, second) = duplex(64);
    let idle = Duration::from_secs(10);
    let started = tokio::time::Instant::now();
    let user = async {
        for _ in 0..5 {
            tokio::time::sleep(Duration::from_secs(9)).await;
            client.write_all(b"x").await.unwrap();
            server.read_u8().await.unwrap();
        }
        client
    };
    let (copied, _client) = tokio::join!(copy(first, second, Vec::new(), idle), user);
    assert!(matches!(copied.end, End::Idle));
    let silent = started.elapsed() - Duration::from_secs(45);
    assert!(
        silent >= Duration::from_secs(5) && silent <= 2 * idle,
        "{silent:?}"
    );
}

#[tokio::test(flavor = "current_thread")]
async fn a_side_that_breaks_is_named() {
    let (client, first) = duplex(64);
    let (server, second) = duplex(64);
    drop(server);
    let copied = copy(first, second, b"for nobody".to_vec(), HOUR).await;
    assert!(matches!(copied.end, End::Second(_)), "{:?}", copied.end);
    drop(client);
}

/// A side whose reads are written down beforehand, and which notes each write.
#[derive(Default)]
struct Script {
    reads: VecDeque<io::Result<Vec<u8>>>,
    writes: Rc<RefCell<Vec<Vec<u8>>>>,
}

impl AsyncRead for Script {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.reads.pop_front() {
            None => Poll::Pending,
            Some(Err(error)) => Poll::Ready(Err(error)),
            Some(Ok(bytes)) => {
                buffer.put_slice(&bytes);
                Poll::Ready(Ok(()))
            }
        }
    }
}

impl AsyncWrite for Script {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.writes.borrow_mut().push(bytes.to_vec());
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[tokio::test(flavor = "current_thread")]
async fn what_came_before_a_reset_is_delivered_and_the_reset_is_not_an_end() {
    let reset = || io::Error::from(io::ErrorKind::ConnectionReset);
    let first = Script {
        reads: [Ok(b"last ".to_vec()), Ok(b"words".to_vec()), Err(reset())].into(),
        ..Script::default()
    };
    let second = Script::default();
    let written = second.writes.clone();
    let copied = copy(first, second, Vec::new(), HOUR).await;
    assert!(matches!(copied.end, End::First(_)), "{:?}", copied.end);
    assert_eq!(copied.forth, 10);
    assert_eq!(*written.borrow(), [b"last words".to_vec()]);
}

#[tokio::test(flavor = "current_thread")]
async fn what_a_slow_receiver_has_not_taken_comes_before_the_reset() {
    let reset = io::Error::from(io::ErrorKind::ConnectionReset);
    let first = Script {
        reads: [Ok(vec![7; 1000]), Err(reset)].into(),
        ..Script::default()
    };
    let (mut server, second) = duplex(10);
    let app = async {
        let mut got = Vec::new();
        server.read_to_end(&mut got).await.unwrap();
        got
    };
    let (copied, got) = tokio::join!(copy(first, second, Vec::new(), HOUR), app);
    assert!(matches!(copied.end, End::First(_)), "{:?}", copied.end);
    assert_eq!(got, vec![7; 1000]);
}

#[tokio::test(flavor = "current_thread")]
async fn records_that_are_there_become_one_write_up_to_a_scratch_full() {
    let record = vec![1; 16 * 1024];
    let first = Script {
        reads: (0..10)
            .map(|_| Ok(record.clone()))
            .chain([Ok(Vec::new())])
            .collect(),
        ..Script::default()
    };
    let second = Script {
        reads: [Ok(Vec::new())].into(),
        ..Script::default()
    };
    let written = second.writes.clone();
    let copied = copy(first, second, Vec::new(), HOUR).await;
    assert!(matches!(copied.end, End::Closed), "{:?}", copied.end);
    let sizes: Vec<usize> = written.borrow().iter().map(Vec::len).collect();
    assert_eq!(sizes, [SCRATCH, SCRATCH, 2 * record.len()]);
}
