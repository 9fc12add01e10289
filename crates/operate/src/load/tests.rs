use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};

use super::*;

/// A server that answers `answers` times, as long as it is asked on each connection, and then closes what asks. Counts its
/// connections.
async fn counted_server(answers: usize) -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let connections = Arc::new(AtomicUsize::new(0));
    let counted = connections.clone();
    tokio::spawn(async move {
        let left = Arc::new(AtomicUsize::new(answers));
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            counted.fetch_add(1, Ordering::SeqCst);
            tokio::spawn(answer(stream, left.clone()));
        }
    });
    (address, connections)
}

async fn answer(mut stream: TcpStream, left: Arc<AtomicUsize>) {
    loop {
        let mut head = [0; 1024];
        let n = stream.read(&mut head).await.unwrap();
        if n == 0 {
            return;
        }
        assert!(head[..n].starts_with(b"GET "));
        let before = left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1));
        if before.is_err() {
            return;
        }
        let body = "Hello version: v1, instance: a\n";
        let text = format!(
            "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(text.as_bytes()).await.unwrap();
    }
}

async fn server(answers: usize) -> SocketAddr {
    counted_server(answers).await.0
}

async fn run_against(address: SocketAddr, calls: u64) -> Tally {
    let config = LoadConfig {
        url: url(&format!("{address}/hello")).unwrap(),
        rate: 500,
        time: Some(Duration::from_secs(5)),
        calls: Some(calls),
        patience: Duration::from_secs(2),
        proxy: None,
    };
    let (tell, heard) = std::sync::mpsc::channel();
    generate(&config, std::future::pending(), move |call| {
        tell.send(call).unwrap()
    })
    .await;
    tally(&heard.try_iter().collect::<Vec<_>>())
}

#[tokio::test]
async fn every_call_is_counted_and_a_lost_one_is_a_failure() {
    let tally = run_against(server(15).await, 20).await;
    assert_eq!((tally.sent, tally.ok, tally.failed), (20, 15, 5));
    assert_eq!(tally.versions["v1"], 15);
}

#[tokio::test]
async fn a_connection_serves_many_calls_and_a_new_one_takes_its_place() {
    let (address, connections) = counted_server(40).await;
    assert_eq!(run_against(address, 40).await.ok, 40);
    let used = connections.load(Ordering::SeqCst);
    assert!(used < 20, "{used} connections for 40 calls");
    let before = used;
    assert_eq!(run_against(address, 2).await.failed, 2);
    assert!(connections.load(Ordering::SeqCst) > before);
}

#[tokio::test]
async fn nobody_listening_is_a_failure_with_its_reason() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let tally = run_against(address, 3).await;
    assert_eq!(tally.errors["connect: refused"], 3);
}

#[tokio::test]
async fn it_stops_when_it_is_told() {
    let address = server(usize::MAX).await;
    let config = LoadConfig {
        url: url(&format!("{address}/")).unwrap(),
        rate: 100,
        time: None,
        calls: None,
        patience: Duration::from_secs(2),
        proxy: None,
    };
    let (tell, heard) = std::sync::mpsc::channel();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let mut stop = Some(stop);
    let ends = async {
        let _sender_gone = stopped.await;
    };
    generate(&config, ends, move |call| {
        tell.send(call).unwrap();
        stop.take();
    })
    .await;
    let seen = heard.try_iter().count();
    assert!((1..100).contains(&seen), "{seen}");
}

#[test]
fn urls_as_people_write_them() {
    assert_eq!(
        url("helloworld:5000/hello").unwrap().to_string(),
        "http://helloworld:5000/hello"
    );
    assert_eq!(url("http://a.b:1/x?y").unwrap().port_u16(), Some(1));
    for bad in ["https://helloworld/", "http://", "a b", ""] {
        assert_eq!(url(bad).unwrap_err().code(), "CTM-U101", "{bad}");
    }
    assert_eq!(proxy("http://127.4.5.6:15001").unwrap().port(), 15001);
    assert!(proxy("http://proxy:15001").is_err());
}
