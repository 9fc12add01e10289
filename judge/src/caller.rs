//! A caller that says bytes, and reads answers of HTTP/1.1 to their ends.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::outcome::{Answer, Fate, hash, normal};

/// How long anything may take. Only what hangs takes so long.
pub const PATIENCE: Duration = Duration::from_secs(2);

/// A connection and what was read of it and not used yet.
#[derive(Debug)]
pub struct Reader {
    /// The connection.
    pub stream: TcpStream,
    /// What is left over.
    pub rest: Vec<u8>,
}

/// Name and value of headers in the order in which they came.
pub type Pairs = Vec<(String, String)>;

impl Reader {
    /// Nothing was read yet.
    pub fn new(stream: TcpStream) -> Reader {
        Reader {
            stream,
            rest: Vec::new(),
        }
    }

    async fn more(&mut self) -> std::io::Result<bool> {
        let mut bytes = [0; 16384];
        let count = self.stream.read(&mut bytes).await?;
        self.rest.extend_from_slice(&bytes[..count]);
        Ok(count > 0)
    }

    /// The bytes up to an empty line; `None` at the end of the connection.
    pub async fn head(&mut self) -> std::io::Result<Option<Vec<u8>>> {
        loop {
            let end = self.rest.windows(4).position(|four| four == b"\r\n\r\n");
            if let Some(end) = end {
                let rest = self.rest.split_off(end + 4);
                return Ok(Some(std::mem::replace(&mut self.rest, rest)));
            }
            if !self.more().await? {
                return match self.rest.is_empty() {
                    true => Ok(None),
                    false => Err(std::io::ErrorKind::UnexpectedEof.into()),
                };
            }
        }
    }

    async fn exactly(&mut self, length: usize) -> std::io::Result<Vec<u8>> {
        while self.rest.len() < length {
            if !self.more().await? {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
        }
        let rest = self.rest.split_off(length);
        Ok(std::mem::replace(&mut self.rest, rest))
    }

    async fn line(&mut self) -> std::io::Result<String> {
        loop {
            if let Some(end) = self.rest.windows(2).position(|two| two == b"\r\n") {
                let line = self.exactly(end + 2).await?;
                return Ok(String::from_utf8_lossy(&line[..end]).into_owned());
            }
            if !self.more().await? {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    /// A body and its trailers, framed as its headers say; without a frame it is empty, or ends with the connection.
    pub async fn body(
        &mut self,
        headers: &Pairs,
        to_the_end: bool,
    ) -> std::io::Result<(Vec<u8>, Pairs)> {
        let find = |wanted: &str| {
            let mut all = headers.iter();
            all.find(|(name, _)| name.eq_ignore_ascii_case(wanted))
                .map(|(_, value)| value.trim().to_ascii_lowercase())
        };
        if find("transfer-encoding").is_some_and(|coding| coding.ends_with("chunked")) {
            let mut body = Vec::new();
            loop {
                let line = self.line().await?;
                let size = line.split(';').next().unwrap_or_default().trim();
                let size = usize::from_str_radix(size, 16)
                    .map_err(|_| std::io::Error::other(format!("chunk size {line:?}")))?;
                if size == 0 {
                    break;
                }
                body.extend(self.exactly(size).await?);
                self.exactly(2).await?;
            }
            let mut trailers = Vec::new();
            loop {
                let line = self.line().await?;
                if line.is_empty() {
                    return Ok((body, trailers));
                }
                trailers.push(pair(&line));
            }
        }
        if let Some(length) = find("content-length") {
            let length = length
                .parse()
                .map_err(|_| std::io::Error::other(format!("content-length {length:?}")))?;
            return Ok((self.exactly(length).await?, Vec::new()));
        }
        if to_the_end {
            while self.more().await? {}
            return Ok((std::mem::take(&mut self.rest), Vec::new()));
        }
        Ok((Vec::new(), Vec::new()))
    }
}

fn pair(line: &str) -> (String, String) {
    let (name, value) = line.split_once(':').unwrap_or((line, ""));
    (name.to_owned(), value.trim().to_owned())
}

/// The first line of a head, and its headers.
pub fn head_lines(head: &[u8]) -> (String, Pairs) {
    let text = String::from_utf8_lossy(head);
    let mut lines = text.split("\r\n").filter(|line| !line.is_empty());
    let first = lines.next().unwrap_or_default().to_owned();
    (first, lines.map(pair).collect())
}

/// Connects, says pieces with a moment between them, reads an answer to each of `methods`, and looks what becomes of the connection.
pub async fn call(
    address: SocketAddr,
    pieces: &[Vec<u8>],
    methods: &[&str],
) -> (Vec<Result<Answer, String>>, Fate) {
    let stream = match TcpStream::connect(address).await {
        Ok(stream) => stream,
        Err(error) => return (vec![Err(format!("connect: {error}"))], Fate::Closed),
    };
    let _ = stream.set_nodelay(true);
    let mut reader = Reader::new(stream);
    for piece in pieces {
        if reader.stream.write_all(piece).await.is_err() {
            break;
        }
        if pieces.len() > 1 {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
    let mut answers = Vec::new();
    for method in methods {
        let answer = match timeout(PATIENCE, read_answer(&mut reader, method)).await {
            Ok(answer) => answer,
            Err(_) => Err("no answer in time".into()),
        };
        let whole = answer.as_ref().is_ok_and(|answer| answer.whole);
        answers.push(answer);
        if !whole {
            return (answers, fate(&mut reader).await);
        }
    }
    (answers, fate(&mut reader).await)
}

/// Whether the connection takes another request.
async fn fate(reader: &mut Reader) -> Fate {
    let another = b"GET /fate HTTP/1.1\r\nhost: fate.test\r\nx-case: fate\r\n\r\n";
    let asked = async {
        reader.stream.write_all(another).await?;
        reader.head().await
    };
    match timeout(PATIENCE, asked).await {
        Ok(Ok(Some(_))) => Fate::Kept,
        Ok(_) => Fate::Closed,
        Err(_) => Fate::Silent,
    }
}

async fn read_answer(reader: &mut Reader, method: &str) -> Result<Answer, String> {
    let mut interim = Vec::new();
    loop {
        let head = match reader.head().await {
            Ok(Some(head)) => head,
            Ok(None) => return Err("closed without an answer".into()),
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => {
                return Err("closed without an answer".into());
            }
            Err(error) => return Err(format!("head: {error}")),
        };
        let (first, headers) = head_lines(&head);
        let status: u16 = first
            .split(' ')
            .nth(1)
            .and_then(|status| status.parse().ok())
            .ok_or_else(|| format!("first line {first:?}"))?;
        if (100..200).contains(&status) && status != 101 {
            if status != 100 {
                interim.push(status);
            }
            continue;
        }
        let none = method == "HEAD" || matches!(status, 101 | 204 | 304);
        let body = match none {
            true => Ok((Vec::new(), Vec::new())),
            false => reader.body(&headers, true).await,
        };
        let whole = body.is_ok();
        let (body, trailers) = body.unwrap_or_default();
        return Ok(Answer {
            interim,
            status,
            headers: normal(headers),
            body: (body.len(), hash(&body)),
            trailers: normal(trailers),
            whole,
        });
    }
}
