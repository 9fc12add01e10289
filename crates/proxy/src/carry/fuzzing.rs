//! Doors for hostile bytes to what reads the first bytes and the heads of callers.

use http::Request;

use super::detect::{Beginning, Look, read_beginning};
use super::head::Head;
use super::sni::HelloReader;

/// What a ClientHello says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hello {
    /// The server name, in lower case.
    pub server_name: Option<String>,
    /// The application protocols offered.
    pub alpn: Vec<Vec<u8>>,
}

/// Reads a ClientHello that comes in these pieces; `Ok(None)` when it is not whole after the last.
///
/// # Errors
/// Why it is refused.
pub fn hello<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Result<Option<Hello>, String> {
    let mut reader = HelloReader::default();
    for piece in pieces {
        match reader.push(piece) {
            Ok(None) => {}
            Ok(Some(hello)) => {
                return Ok(Some(Hello {
                    server_name: hello.server_name,
                    alpn: hello.alpn,
                }));
            }
            Err(error) => return Err(error.to_string()),
        }
    }
    Ok(None)
}

/// What the first bytes of a connection are taken for; the bytes kept for whoever carries it come second.
pub async fn beginning(mut bytes: &[u8], tls: bool, http: bool) -> (String, Vec<u8>) {
    let look = Look {
        tls,
        http,
        wait: std::time::Duration::from_secs(1),
    };
    let mut head = Vec::new();
    let word = match read_beginning(&mut bytes, &mut head, look).await {
        Ok(Beginning::Tls(_)) => "tls".into(),
        Ok(Beginning::Http1) => "http/1".into(),
        Ok(Beginning::Http2) => "http/2".into(),
        Ok(Beginning::Opaque) => "opaque".into(),
        Err(error) => error.to_string(),
    };
    (word, head)
}

/// The head of a request as it goes on, in HTTP/1.1 and in HTTP/2.
///
/// # Errors
/// Why it is not carried.
pub fn head(mut request: Request<()>) -> Result<[Request<()>; 2], String> {
    let head = Head::take(&mut request).map_err(|error| error.to_string())?;
    let headers = head.headers.clone();
    let http1 = head.http1(headers.clone(), String::new()).map(drop);
    Ok([http1, head.http2(headers, ())])
}
