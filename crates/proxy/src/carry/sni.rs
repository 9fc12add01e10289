//! Reads the ClientHello of a connection without answering it.
//!
//! Bytes may come in any pieces: TCP segments, TLS records of one byte each, a handshake message over many records. The
//! reader never looks at a byte twice, keeps a bounded number of them, and gives no answer before the whole message is there:
//! there is no default for what cannot be read.
//!
//! Source: RFC 8446 sections 4.1.2, 4.2 and 5.1; RFC 6066 section 3 (server_name); RFC 7301 section 3.1 (ALPN).

/// Bytes of a ClientHello message that are read at most.
pub(crate) const MESSAGE_LIMIT: usize = 16 * 1024;
/// Bytes of a connection, record headers included, that are read at most before its ClientHello is whole.
pub(crate) const RAW_LIMIT: usize = 32 * 1024;
/// Extensions that a ClientHello may have; browsers send about twenty.
pub(crate) const EXTENSION_LIMIT: usize = 128;
/// The longest server name, a DNS name's limit.
pub(crate) const NAME_LIMIT: usize = 255;

const RECORD_HEADER: usize = 5;
const RECORD_LIMIT: usize = 1 << 14;
const CONTENT_HANDSHAKE: u8 = 0x16;
const MESSAGE_CLIENT_HELLO: u8 = 1;
const EXTENSION_SERVER_NAME: u16 = 0;
const EXTENSION_ALPN: u16 = 16;
const NAME_TYPE_HOST: u8 = 0;

/// What a ClientHello says about where it wants to go.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct ClientHello {
    /// The server name, in lower case; `None` when the client named none.
    pub(crate) server_name: Option<String>,
    /// The application protocols offered, in the client's order.
    pub(crate) alpn: Vec<Vec<u8>>,
}

/// Why bytes are not a ClientHello that we act on. None of them gets better by reading on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum HelloError {
    /// The first byte belongs to no TLS handshake.
    #[error("the connection does not begin with a TLS handshake")]
    NotTls,
    /// A record has an impossible version or length, or is of another kind.
    #[error("a TLS record is malformed")]
    Record,
    /// The handshake begins with another message.
    #[error("the TLS handshake does not begin with a ClientHello")]
    NotClientHello,
    /// More bytes than any honest client sends.
    #[error("the ClientHello is larger than {MESSAGE_LIMIT} bytes, or cut in too many records")]
    Oversized,
    /// A length inside the message contradicts another.
    #[error("the ClientHello is malformed")]
    Malformed,
    /// An extension occurs twice, so what it says is ambiguous.
    #[error("the ClientHello has an extension twice")]
    Duplicate,
    /// More extensions than [`EXTENSION_LIMIT`].
    #[error("the ClientHello has more than {EXTENSION_LIMIT} extensions")]
    ManyExtensions,
    /// The server name is empty, too long, given twice, of an unknown type, or has bytes that no name has.
    #[error("the server name in the ClientHello is not one legal name")]
    ServerName,
}

/// Reads one ClientHello piece by piece.
#[derive(Debug, Default)]
pub(crate) struct HelloReader {
    /// Bytes of an unfinished record header.
    header: Vec<u8>,
    record_left: usize,
    records: bool,
    pushed: usize,
    message: Vec<u8>,
}

impl HelloReader {
    /// Takes the next bytes of the connection. `Ok(None)` asks for more of them.
    ///
    pub(crate) fn push(&mut self, mut bytes: &[u8]) -> Result<Option<ClientHello>, HelloError> {
        self.pushed += bytes.len();
        loop {
            if self.record_left == 0 {
                let missing = RECORD_HEADER - self.header.len();
                let (taken, rest) = bytes.split_at(missing.min(bytes.len()));
                self.header.extend_from_slice(taken);
                bytes = rest;
                let wrong = matches!(self.header[..], [kind, ..] if kind != CONTENT_HANDSHAKE)
                    || matches!(self.header[..], [_, major, ..] if major != 3);
                if wrong {
                    return Err(if self.records {
                        HelloError::Record
                    } else {
                        HelloError::NotTls
                    });
                }
                let [_, _, _, high, low] = self.header[..] else {
                    return self.more();
                };
                self.record_left = usize::from(u16::from_be_bytes([high, low]));
                if self.record_left == 0 || self.record_left > RECORD_LIMIT {
                    return Err(HelloError::Record);
                }
                self.header.clear();
                self.records = true;
            }
            let (taken, rest) = bytes.split_at(self.record_left.min(bytes.len()));
            if taken.is_empty() {
                return self.more();
            }
            self.message.extend_from_slice(taken);
            self.record_left -= taken.len();
            bytes = rest;
            if let Some(hello) = whole_message(&self.message)? {
                return read_hello(hello).map(Some);
            }
        }
    }

    fn more(&self) -> Result<Option<ClientHello>, HelloError> {
        if self.pushed >= RAW_LIMIT {
            return Err(HelloError::Oversized);
        }
        Ok(None)
    }
}

/// The body of the ClientHello in `message`, when all of it is there.
fn whole_message(message: &[u8]) -> Result<Option<&[u8]>, HelloError> {
    if message
        .first()
        .is_some_and(|kind| *kind != MESSAGE_CLIENT_HELLO)
    {
        return Err(HelloError::NotClientHello);
    }
    let Some([_, a, b, c]) = message.first_chunk::<4>() else {
        return Ok(None);
    };
    let length = u32::from_be_bytes([0, *a, *b, *c]) as usize;
    if length > MESSAGE_LIMIT {
        return Err(HelloError::Oversized);
    }
    Ok(message.get(4..4 + length))
}

fn read_hello(body: &[u8]) -> Result<ClientHello, HelloError> {
    let mut body = Cursor(body);
    body.take(2 + 32)?; // legacy_version, random
    if body.vector8()?.0.len() > 32 {
        return Err(HelloError::Malformed);
    }
    let suites = body.vector16()?.0.len();
    if suites == 0 || suites % 2 != 0 {
        return Err(HelloError::Malformed);
    }
    if body.vector8()?.0.is_empty() {
        return Err(HelloError::Malformed);
    }
    let mut hello = ClientHello::default();
    if body.0.is_empty() {
        return Ok(hello);
    }
    let mut extensions = body.vector16()?;
    if !body.0.is_empty() {
        return Err(HelloError::Malformed);
    }
    let mut seen: Vec<u16> = Vec::with_capacity(24);
    while !extensions.0.is_empty() {
        let kind = extensions.u16()?;
        let content = extensions.vector16()?;
        if seen.contains(&kind) {
            return Err(HelloError::Duplicate);
        }
        if seen.len() == EXTENSION_LIMIT {
            return Err(HelloError::ManyExtensions);
        }
        seen.push(kind);
        match kind {
            EXTENSION_SERVER_NAME => hello.server_name = Some(read_server_name(content)?),
            EXTENSION_ALPN => hello.alpn = read_alpn(content)?,
            _ => {}
        }
    }
    Ok(hello)
}

fn read_server_name(mut content: Cursor<'_>) -> Result<String, HelloError> {
    let mut list = content.vector16()?;
    if !content.0.is_empty() {
        return Err(HelloError::Malformed);
    }
    if list.u8()? != NAME_TYPE_HOST {
        return Err(HelloError::ServerName);
    }
    let name = list.vector16()?.0;
    let legal = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    if !list.0.is_empty() || name.is_empty() || name.len() > NAME_LIMIT || !name.iter().all(legal) {
        return Err(HelloError::ServerName);
    }
    Ok(name
        .iter()
        .map(|byte| char::from(byte.to_ascii_lowercase()))
        .collect())
}

fn read_alpn(mut content: Cursor<'_>) -> Result<Vec<Vec<u8>>, HelloError> {
    let mut list = content.vector16()?;
    if !content.0.is_empty() || list.0.is_empty() {
        return Err(HelloError::Malformed);
    }
    let mut names = Vec::new();
    while !list.0.is_empty() {
        let name = list.vector8()?.0;
        if name.is_empty() {
            return Err(HelloError::Malformed);
        }
        names.push(name.to_vec());
    }
    Ok(names)
}

/// What is left to read of a message whose end is known: running out is a contradiction, not a wait.
struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], HelloError> {
        let (taken, rest) = self
            .0
            .split_at_checked(count)
            .ok_or(HelloError::Malformed)?;
        self.0 = rest;
        Ok(taken)
    }

    fn u8(&mut self) -> Result<u8, HelloError> {
        Ok(self.take(1)?[0])
    }

    fn u16(&mut self) -> Result<u16, HelloError> {
        let bytes = self.take(2)?;
        Ok(u16::from_be_bytes([bytes[0], bytes[1]]))
    }

    fn vector8(&mut self) -> Result<Cursor<'a>, HelloError> {
        let length = usize::from(self.u8()?);
        self.take(length).map(Cursor)
    }

    fn vector16(&mut self) -> Result<Cursor<'a>, HelloError> {
        let length = usize::from(self.u16()?);
        self.take(length).map(Cursor)
    }
}

#[cfg(test)]
mod tests;
