use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::task::LocalSet;

use super::*;

/// One end of a pipe, which notes how much each write brought.
struct Noted {
    pipe: DuplexStream,
    writes: Rc<RefCell<Vec<usize>>>,
}

impl AsyncRead for Noted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.pipe).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Noted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.pipe).poll_write(cx, bytes))?;
        self.writes.borrow_mut().push(written);
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.pipe).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.pipe).poll_shutdown(cx)
    }
}

type Writes = Rc<RefCell<Vec<usize>>>;

/// A gathered connection over a pipe that holds `room`, its other end, and what was written when.
fn gathered(room: usize) -> (Gathered<Noted>, DuplexStream, Writes) {
    let (pipe, far) = duplex(room);
    let writes = Writes::default();
    let noted = Noted {
        pipe,
        writes: writes.clone(),
    };
    (gather(noted), far, writes)
}

fn on_one_thread(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    LocalSet::new().block_on(&runtime, test);
}

#[test]
fn what_is_written_in_one_turn_goes_in_one_write() {
    on_one_thread(async {
        let (mut near, mut far, writes) = gathered(1 << 20);
        for _ in 0..5 {
            near.write_all(&[7; 100]).await.unwrap();
            near.flush().await.unwrap();
        }
        let mut read = [0; 500];
        far.read_exact(&mut read).await.unwrap();
        assert_eq!(*writes.borrow(), [500]);
        near.write_all(&[8; 3]).await.unwrap();
        near.flush().await.unwrap();
        far.read_exact(&mut read[..3]).await.unwrap();
        assert_eq!(*writes.borrow(), [500, 3]);
    });
}

#[test]
fn nothing_is_lost_or_changes_places_however_slow_the_peer() {
    on_one_thread(async {
        for room in [1, 100, 5000, 16 * 1024, 70_000] {
            let (mut near, mut far, _) = gathered(room);
            let sizes = [1, 16 * 1024 - 1, 40_000, 3, 16 * 1024, 9, 9, 100_000, 5];
            let all: Vec<u8> = (0..sizes.iter().sum::<usize>())
                .map(|at| (at % 251) as u8)
                .collect();
            let sent = all.clone();
            tokio::task::spawn_local(async move {
                let mut rest = &sent[..];
                for size in sizes {
                    near.write_all(&rest[..size]).await.unwrap();
                    near.flush().await.unwrap();
                    rest = &rest[size..];
                }
                near.shutdown().await.unwrap();
            });
            let mut read = Vec::new();
            far.read_to_end(&mut read).await.unwrap();
            assert!(read == all, "with a pipe of {room} bytes");
        }
    });
}

#[test]
fn a_lost_peer_is_an_error_of_the_next_read_or_write() {
    on_one_thread(async {
        let (mut near, far, _) = gathered(10);
        drop(far);
        near.write_all(&[1; 5]).await.unwrap();
        near.flush().await.unwrap();
        let mut lost = None;
        for _ in 0..3 {
            tokio::task::yield_now().await;
            if let Err(error) = near.write_all(&[1; 5]).await {
                lost = Some(error.kind());
                break;
            }
            let _ = near.flush().await;
        }
        assert_eq!(lost, Some(io::ErrorKind::BrokenPipe));
    });
}

#[test]
fn what_was_gathered_is_sent_when_the_connection_is_dropped() {
    on_one_thread(async {
        let (mut near, mut far, _) = gathered(100);
        near.write_all(b"goodbye").await.unwrap();
        near.flush().await.unwrap();
        drop(near);
        let mut read = Vec::new();
        far.read_to_end(&mut read).await.unwrap();
        assert_eq!(read, b"goodbye");
    });
}
