use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};

use super::*;
use crate::{Config, End, Process};

async fn ask(mut stream: impl AsyncRead + AsyncWrite + Unpin, request: &str) -> String {
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn one_handler_serves_tcp_and_unix() {
    let dir = std::env::temp_dir().join(format!("catamaran-http-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let path = dir.join("admin.sock");
    std::fs::write(&path, "left behind").unwrap();
    let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = tcp.local_addr().unwrap();
    let process = Process::start(Config::quiet("test"));
    for listener in [Listener::Tcp(tcp), Listener::unix(&path).unwrap()] {
        let stopping = process.stopping();
        process.run(
            "admin",
            serve(listener, stopping, |request| async move {
                text(
                    StatusCode::OK,
                    format!("you asked for {}\n", request.uri().path()),
                )
            }),
        );
    }
    let request = "GET /ready HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    for answer in [
        ask(TcpStream::connect(address).await.unwrap(), request).await,
        ask(UnixStream::connect(&path).await.unwrap(), request).await,
    ] {
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        assert!(answer.ends_with("you asked for /ready\n"), "{answer}");
    }
    let large = format!(
        "POST / HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
        BODY_LIMIT + 1
    );
    let stream = TcpStream::connect(address).await.unwrap();
    assert!(ask(stream, &large).await.starts_with("HTTP/1.1 413"));
    process.stop("done");
    assert_eq!(process.until_stopped().await, End::Asked("done".into()));
    std::fs::remove_dir_all(&dir).unwrap();
}
