//! A program that reads what reaches it with the strict reader, and remembers what it could not swallow.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::strict::{Request, request};

/// Requests remembered; older ones are forgotten.
const KEPT: usize = 1000;
/// The answer to `/large`, in bytes.
const LARGE: usize = 4 << 20;

/// The program.
#[derive(Debug, Clone)]
pub struct Witness {
    /// Where it listens.
    pub address: SocketAddr,
    seen: Arc<Mutex<Seen>>,
}

#[derive(Debug, Default)]
struct Seen {
    requests: Vec<Request>,
    complaints: Vec<String>,
}

impl Witness {
    /// Starts it on `listener`, as tasks of the present runtime.
    pub fn on(listener: TcpListener) -> io::Result<Witness> {
        let witness = Witness {
            address: listener.local_addr()?,
            seen: Arc::default(),
        };
        let seen = witness.seen.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, seen.clone()));
            }
        });
        Ok(witness)
    }

    /// What it was asked since it was last asked this.
    pub fn requests(&self) -> Vec<Request> {
        std::mem::take(&mut lock(&self.seen).requests)
    }

    /// What it could not swallow.
    pub fn complaints(&self) -> Vec<String> {
        std::mem::take(&mut lock(&self.seen).complaints)
    }
}

fn lock(seen: &Mutex<Seen>) -> std::sync::MutexGuard<'_, Seen> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Answers 200 with the request's target (`/large`: with 4 MiB), also to who asks to change the protocol; `/close` ends the connection after its answer,
/// and `/upgrade-101` changes the protocol to an echo.
async fn serve(mut stream: TcpStream, seen: Arc<Mutex<Seen>>) {
    let mut bytes = Vec::new();
    loop {
        match stream.read_buf(&mut bytes).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        loop {
            let taken = match request(&bytes) {
                Ok(None) => break,
                Ok(Some(taken)) => taken,
                Err(complaint) => {
                    let all = String::from_utf8_lossy(&bytes).into_owned();
                    lock(&seen)
                        .complaints
                        .push(format!("{complaint} in {all:?}"));
                    return;
                }
            };
            let (request, length) = taken;
            bytes.drain(..length);
            let answer = answer(&request);
            let closes = request.target.starts_with("/close");
            let large = request.target == "/large";
            let switches = answer.starts_with("HTTP/1.1 101 ");
            {
                let mut seen = lock(&seen);
                if seen.requests.len() == KEPT {
                    seen.requests.remove(0);
                }
                seen.requests.push(request);
            }
            if stream.write_all(answer.as_bytes()).await.is_err() || closes {
                return;
            }
            if large && stream.write_all(&vec![b'x'; LARGE]).await.is_err() {
                return;
            }
            if switches {
                let _ = stream.write_all(&bytes).await;
                let (mut from, mut to) = stream.split();
                let _ = tokio::io::copy(&mut from, &mut to).await;
                return;
            }
        }
    }
}

fn answer(request: &Request) -> String {
    if request.target.starts_with("/upgrade-101") && request.header("upgrade").is_some() {
        return "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n".into();
    }
    if request.target == "/large" {
        return format!("HTTP/1.1 200 OK\r\ncontent-length: {LARGE}\r\n\r\n");
    }
    let body = if request.method == "HEAD" {
        ""
    } else {
        &*request.target
    };
    let length = request.target.len();
    format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{body}")
}
