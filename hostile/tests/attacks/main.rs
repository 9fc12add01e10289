//! Callers that mean harm, each beside a healthy one that must not notice.
//!
//! The proxy is a process of its own, so that what an attack costs can be read from the kernel's books: CPU seconds and
//! resident memory, never the wall clock. The limits that the attacks run into, and their metrics, are listed in
//! `docs/reference/limits.md`.

mod frames;
mod gateway;
mod heads;
mod identity;
mod smuggling;
mod stand;

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use stand::Stand;

/// Longer than anything takes on the busiest machine; only a hang is slower.
const PATIENCE: Duration = Duration::from_secs(60);

/// Waits for something that must come.
async fn soon<T>(what: &str, doing: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, doing).await {
        Ok(done) => done,
        Err(_) => panic!("{what} did not come within {PATIENCE:?}"),
    }
}

/// Sends bytes and reads to the end of the connection, or until the proxy has nothing more to say.
async fn send(stand: &Stand, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(stand.address).await.unwrap();
    let _ = stream.write_all(bytes).await;
    let mut answer = Vec::new();
    // some of these wait for more of a body; they get no more
    let moment = std::time::Duration::from_millis(300);
    while let Ok(Ok(1..)) = tokio::time::timeout(moment, stream.read_buf(&mut answer)).await {}
    let _ = stream.shutdown().await;
    let _ = soon("the end of the connection", stream.read_to_end(&mut answer)).await;
    String::from_utf8_lossy(&answer).into_owned()
}
