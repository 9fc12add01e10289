//! A reader of HTTP/1.1 requests that forgives nothing: what it takes means the same to everybody.
//!
//! It stands for the most stubborn program behind our proxy. A request that it refuses could be read in two ways, and requests
//! that are read in two ways are smuggled. Source: RFC 9112 sections 2 to 7.

/// A request with exactly one meaning.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// `GET`
    pub method: String,
    /// As it stands in the request line.
    pub target: String,
    /// In order, names in lower case.
    pub headers: Vec<(String, String)>,
    /// Without its framing.
    pub body: Vec<u8>,
}

impl Request {
    /// The value of a header, if it is there once.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut found = self.headers.iter().filter(|(key, _)| key == name);
        match (found.next(), found.next()) {
            (Some((_, value)), None) => Some(value),
            _ => None,
        }
    }
}

/// The request at the beginning of `bytes` and its length; `None` when more is needed.
///
/// # Errors
/// What could mean two things.
pub fn request(bytes: &[u8]) -> Result<Option<(Request, usize)>, String> {
    let Some(end) = find(bytes, b"\r\n\r\n") else {
        return match bytes.iter().position(|byte| *byte == b'\n') {
            Some(at) if at == 0 || bytes[at - 1] != b'\r' => Err("a bare line feed".into()),
            _ => Ok(None),
        };
    };
    let mut lines = split(&bytes[..end])?.into_iter();
    let line = lines.next().unwrap_or_default();
    let parts: Vec<&[u8]> = line.split(|byte| *byte == b' ').collect();
    let [method, target, b"HTTP/1.1"] = parts[..] else {
        return Err(format!("the request line {:?}", text(line)));
    };
    if method.is_empty() || !method.iter().all(|byte| is_token(*byte)) {
        return Err(format!("the method {:?}", text(method)));
    }
    if target.is_empty() || target.iter().any(|byte| *byte <= b' ' || *byte == 0x7f) {
        return Err(format!("the target {:?}", text(target)));
    }
    let headers = lines.map(header).collect::<Result<Vec<_>, _>>()?;
    let mut request = Request {
        method: text(method),
        target: text(target),
        headers,
        body: Vec::new(),
    };
    if request.header("host").is_none() {
        return Err("not exactly one Host".into());
    }
    let body = &bytes[end + 4..];
    let taken = match framing(&request)? {
        Framing::Length(length) if body.len() < length => None,
        Framing::Length(length) => Some((body[..length].to_vec(), length)),
        Framing::Chunks => chunks(body)?,
    };
    let Some((body, length)) = taken else {
        return Ok(None);
    };
    request.body = body;
    Ok(Some((request, end + 4 + length)))
}

enum Framing {
    Length(usize),
    Chunks,
}

fn framing(request: &Request) -> Result<Framing, String> {
    let all = |name: &str| {
        request
            .headers
            .iter()
            .filter(|(key, _)| key == name)
            .count()
    };
    match (all("content-length"), all("transfer-encoding")) {
        (0, 0) => Ok(Framing::Length(0)),
        (1, 0) => {
            let length = request.header("content-length").unwrap_or_default();
            let digits = !length.is_empty() && length.bytes().all(|byte| byte.is_ascii_digit());
            match length.parse() {
                Ok(length) if digits => Ok(Framing::Length(length)),
                _ => Err(format!("the length {length:?}")),
            }
        }
        (0, 1) => match request.header("transfer-encoding") {
            Some("chunked") => Ok(Framing::Chunks),
            other => Err(format!("the transfer encoding {other:?}")),
        },
        (lengths, codings) => Err(format!(
            "{lengths} lengths and {codings} transfer encodings"
        )),
    }
}

/// The data of all chunks, and how long they and the trailers are.
fn chunks(bytes: &[u8]) -> Result<Option<(Vec<u8>, usize)>, String> {
    let (mut data, mut at) = (Vec::new(), 0);
    loop {
        let Some(end) = find(&bytes[at..], b"\r\n") else {
            return match bytes.len() - at > 16 {
                true => Err("a chunk's line is long".into()),
                false => Ok(None),
            };
        };
        let line = text(&bytes[at..at + end]);
        let digits = !line.is_empty() && line.bytes().all(|byte| byte.is_ascii_hexdigit());
        let size = match usize::from_str_radix(&line, 16) {
            Ok(size) if digits && line.len() <= 8 => size,
            _ => return Err(format!("the chunk's size {line:?}")),
        };
        at += end + 2;
        if size == 0 {
            let rest = &bytes[at..];
            if rest.starts_with(b"\r\n") {
                return Ok(Some((data, at + 2)));
            }
            let Some(end) = find(rest, b"\r\n\r\n") else {
                return Ok(None);
            };
            for line in split(&rest[..end])? {
                header(line)?;
            }
            return Ok(Some((data, at + end + 4)));
        }
        if bytes.len() < at + size + 2 {
            return Ok(None);
        }
        data.extend_from_slice(&bytes[at..at + size]);
        if &bytes[at + size..at + size + 2] != b"\r\n" {
            return Err("a chunk is longer than it says".into());
        }
        at += size + 2;
    }
}

fn split(head: &[u8]) -> Result<Vec<&[u8]>, String> {
    let mut lines = Vec::new();
    let mut rest = head;
    while let Some(end) = find(rest, b"\r\n") {
        lines.push(&rest[..end]);
        rest = &rest[end + 2..];
    }
    lines.push(rest);
    match lines
        .iter()
        .any(|line| line.iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0)))
    {
        true => Err("a bare CR, LF or NUL in the head".into()),
        false => Ok(lines),
    }
}

fn header(line: &[u8]) -> Result<(String, String), String> {
    let Some(colon) = line.iter().position(|byte| *byte == b':') else {
        return Err(format!("the header {:?}", text(line)));
    };
    let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
    if name.is_empty() || !name.iter().all(|byte| is_token(*byte)) {
        return Err(format!("the header's name {:?}", text(name)));
    }
    Ok((text(name).to_ascii_lowercase(), text(value)))
}

fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[cfg(test)]
mod tests;
