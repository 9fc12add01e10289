//! Looking whether a program is ready, from inside its network namespace.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::launch::{self, NETNS_FOLDER};
use crate::socket::ShortPath;

/// How to look.
#[derive(Debug, Clone)]
pub(crate) enum Look {
    /// The address accepts a connection.
    Tcp(SocketAddr),
    /// A GET of the path is answered with 200 to 399.
    Http(SocketAddr, String),
    /// A GET of `/ready` at a socket with a path is answered with 200.
    Admin(PathBuf),
    /// The command, run by the launcher, ends with 0.
    Exec(Vec<String>),
}

/// Looks once; blocks for at most about `timeout`. The thread that calls it must end afterwards: it stays in `netns`.
pub(crate) fn look(how: &Look, netns: Option<&str>, timeout: Duration) -> Result<(), String> {
    if let (Some(netns), Look::Tcp(_) | Look::Http(..)) = (netns, how) {
        launch::enter(&Path::new(NETNS_FOLDER).join(netns)).map_err(|e| e.to_string())?;
    }
    match how {
        Look::Tcp(address) => {
            let connected = TcpStream::connect_timeout(address, timeout);
            connected.map(drop).map_err(|e| format!("{address}: {e}"))
        }
        Look::Http(address, path) => {
            let connected = TcpStream::connect_timeout(address, timeout);
            let mut stream = connected.map_err(|e| format!("{address}: {e}"))?;
            let set = stream.set_read_timeout(Some(timeout));
            set.and_then(|()| stream.set_write_timeout(Some(timeout)))
                .map_err(|e| e.to_string())?;
            match get(&mut stream, path, &address.to_string())? {
                200..=399 => Ok(()),
                status => Err(format!("{path} was answered with {status}")),
            }
        }
        Look::Admin(socket) => {
            let short = ShortPath::of(socket).map_err(|e| e.to_string())?;
            let mut stream = UnixStream::connect(short.path()).map_err(|e| e.to_string())?;
            let set = stream.set_read_timeout(Some(timeout));
            set.and_then(|()| stream.set_write_timeout(Some(timeout)))
                .map_err(|e| e.to_string())?;
            match get(&mut stream, "/ready", "localhost")? {
                200 => Ok(()),
                status => Err(format!("/ready was answered with {status}")),
            }
        }
        Look::Exec(argv) => run(argv, timeout),
    }
}

/// The most of an answer's head that is read.
const MAX_HEAD: usize = 64;

fn get(stream: &mut (impl Read + Write), path: &str, host: &str) -> Result<u16, String> {
    let request = format!(
        "GET {path} HTTP/1.1\r\nhost: {host}\r\nuser-agent: catamaran-node\r\nconnection: close\r\n\r\n"
    );
    stream
        .write_all(request.as_bytes())
        .map_err(|e| e.to_string())?;
    let mut head = [0; MAX_HEAD];
    let mut length = 0;
    while length < MAX_HEAD && !head[..length].contains(&b'\n') {
        match stream.read(&mut head[length..]) {
            Ok(0) => break,
            Ok(read) => length += read,
            Err(e) => return Err(e.to_string()),
        }
    }
    let text = String::from_utf8_lossy(&head[..length]);
    let status = text
        .strip_prefix("HTTP/1.")
        .and_then(|rest| rest.get(2..5)?.parse().ok());
    status.ok_or_else(|| "the answer is not HTTP".into())
}

fn run(argv: &[String], timeout: Duration) -> Result<(), String> {
    let mut child = Command::new(&argv[0])
        .args(&argv[1..])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|e| e.to_string())?;
    let deadline = Instant::now() + timeout;
    loop {
        match child.try_wait().map_err(|e| e.to_string())? {
            Some(status) if status.success() => return Ok(()),
            Some(status) => return Err(format!("the probe's command ended with {status}")),
            None if Instant::now() > deadline => {
                let _ = child.kill();
                let _ = child.wait();
                return Err("the probe's command took too long".into());
            }
            None => std::thread::sleep(Duration::from_millis(10)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    fn server(answer: &'static str) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 512];
            let _ = stream.read(&mut request).unwrap();
            stream.write_all(answer.as_bytes()).unwrap();
        });
        address
    }

    fn http(answer: &'static str) -> Result<(), String> {
        look(
            &Look::Http(server(answer), "/x".into()),
            None,
            Duration::from_secs(5),
        )
    }

    #[test]
    fn answers_are_judged_as_kubernetes_does() {
        assert_eq!(http("HTTP/1.1 204 No Content\r\n\r\n"), Ok(()));
        assert_eq!(
            http("HTTP/1.1 503 Busy\r\n\r\n"),
            Err("/x was answered with 503".into())
        );
        assert_eq!(http("SSH-2.0\r\n"), Err("the answer is not HTTP".into()));
    }

    #[test]
    fn a_command_says_by_its_code() {
        let run = |word: &str| look(&Look::Exec(vec![word.into()]), None, Duration::from_secs(5));
        assert_eq!(run("true"), Ok(()));
        assert!(run("false").is_err());
        let slow = Look::Exec(vec!["sleep".into(), "60".into()]);
        assert!(
            look(&slow, None, Duration::from_millis(50))
                .unwrap_err()
                .contains("too long")
        );
    }
}
