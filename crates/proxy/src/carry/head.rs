//! Heads of requests and answers: what is refused, what is for one hop only, and what we add.
//!
//! Source: RFC 9110 sections 7.2 and 7.6.1, RFC 9113 section 8.

use http::header::{
    CONNECTION, CONTENT_LENGTH, COOKIE, EXPECT, HOST, HeaderMap, HeaderName, HeaderValue, TE,
    TRAILER, TRANSFER_ENCODING, UPGRADE,
};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{Method, Request, Uri, Version};
use http_body::Body;

pub(crate) const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
pub(crate) const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
pub(crate) const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
pub(crate) const X_FORWARDED_CLIENT_CERT: HeaderName =
    HeaderName::from_static("x-forwarded-client-cert");
pub(crate) const X_ATTEMPT_COUNT: HeaderName = HeaderName::from_static("x-envoy-attempt-count");
const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");

/// Why a request is not carried whatever the configuration says. The fault is the caller's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum HeadError {
    /// CONNECT asks for a tunnel.
    #[error("CONNECT is not carried here")]
    Connect,
    /// No authority at all.
    #[error("the request names no host")]
    NoHost,
    /// More than one, or two that differ.
    #[error("the request names more than one host")]
    ManyHosts,
    /// An authority that is none.
    #[error("the host that the request names is not legal")]
    BadHost,
    /// A path that does not begin with a slash.
    #[error("the request's path does not begin with /")]
    BadPath,
    /// A transfer coding other than `chunked`, once: whoever undoes it another way would read another request.
    #[error("the request has a transfer coding that is not implemented")]
    Coding,
    /// More than the chain takes.
    #[error("the request's head is larger than is taken here")]
    TooLarge,
}

impl HeadError {
    /// The HTTP status that says so.
    pub(crate) fn status(self) -> u16 {
        match self {
            HeadError::Connect => 405,
            HeadError::TooLarge => 431,
            HeadError::Coding => 501,
            _ => 400,
        }
    }
}

/// The head of a request as it is carried, free of what concerned the caller's hop only.
#[derive(Debug)]
pub(crate) struct Head {
    pub(crate) method: Method,
    pub(crate) authority: HeaderValue,
    /// The same, as HTTP/2 wants it.
    target: Authority,
    pub(crate) path: PathAndQuery,
    pub(crate) headers: HeaderMap,
    /// The protocol that the caller wants to change to.
    pub(crate) upgrade: Option<HeaderValue>,
}

impl Head {
    /// Checks and cleans a request's head, which leaves `request` without one.
    pub(crate) fn take<B>(request: &mut Request<B>) -> Result<Head, HeadError> {
        if request.method() == Method::CONNECT {
            return Err(HeadError::Connect);
        }
        let (authority, target) = authority(request)?;
        let uri = std::mem::take(request.uri_mut());
        let path = match uri.into_parts().path_and_query {
            // what is nothing but a fragment says "/" and is written as nothing
            Some(path) if path == "/" => PathAndQuery::from_static("/"),
            Some(path) if path.as_str().starts_with('/') => path,
            Some(path) if path == "*" && request.method() == Method::OPTIONS => path,
            _ => return Err(HeadError::BadPath),
        };
        let version = request.version();
        if !is_framed_as_we_know(request.headers()) {
            return Err(HeadError::Coding);
        }
        let mut headers = std::mem::take(request.headers_mut());
        headers.remove(HOST);
        let upgrade = if version == Version::HTTP_11 && names(&headers, CONNECTION, b"upgrade") {
            headers.get(UPGRADE).cloned()
        } else {
            None
        };
        let trailers = names(&headers, TE, b"trailers");
        remove_hop(&mut headers);
        if trailers {
            headers.insert(TE, HeaderValue::from_static("trailers"));
        }
        // the caller's side of it is answered here, when its body is first read
        headers.remove(EXPECT);
        Ok(Head {
            method: std::mem::take(request.method_mut()),
            authority,
            target,
            path,
            headers,
            upgrade,
        })
    }

    /// Gives it another authority, if that is one.
    pub(crate) fn rename(&mut self, authority: String) {
        if let Ok(value) = HeaderValue::from_str(&authority)
            && let Ok(target) = Authority::try_from(authority)
        {
            self.authority = value;
            self.target = target;
        }
    }

    /// How many bytes it has, about as HTTP/1.1 writes it.
    pub(crate) fn size(&self) -> usize {
        let headers = self.headers.iter();
        let headers: usize = headers
            .map(|(name, value)| name.as_str().len() + value.len() + 4)
            .sum();
        headers + self.path.as_str().len() + self.authority.len() + 32
    }

    /// The authority as text. It was checked to be one.
    pub(crate) fn authority(&self) -> &str {
        self.authority.to_str().unwrap_or_default()
    }

    /// Puts `headers` and this head together as a request of HTTP/1.1.
    pub(crate) fn http1<B: Body>(&self, mut headers: HeaderMap, body: B) -> Request<B> {
        headers.insert(HOST, self.authority.clone());
        if !body.is_end_stream() && !headers.contains_key(CONTENT_LENGTH) {
            // said and not left to the codec, which takes it that a GET has no body
            headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
        }
        join_cookies(&mut headers);
        if let Some(upgrade) = &self.upgrade {
            headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
            headers.insert(UPGRADE, upgrade.clone());
        } else if headers.contains_key(TE) {
            headers.insert(CONNECTION, HeaderValue::from_static("te"));
        }
        self.request(
            Uri::from(self.path.clone()),
            headers,
            Version::HTTP_11,
            body,
        )
    }

    /// Puts `headers` and this head together as a request of HTTP/2.
    pub(crate) fn http2<B>(&self, headers: HeaderMap, body: B) -> Request<B> {
        let mut uri = http::uri::Parts::default();
        uri.scheme = Some(Scheme::HTTP);
        uri.authority = Some(self.target.clone());
        uri.path_and_query = Some(self.path.clone());
        let uri = Uri::from_parts(uri).unwrap_or_default();
        self.request(uri, headers, Version::HTTP_2, body)
    }

    fn request<B>(&self, uri: Uri, headers: HeaderMap, version: Version, body: B) -> Request<B> {
        let mut request = Request::new(body);
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = uri;
        *request.version_mut() = version;
        *request.headers_mut() = headers;
        request
    }
}

/// HTTP/2 may cut `Cookie` in pieces, HTTP/1.1 may not (RFC 9113, 8.2.3).
fn join_cookies(headers: &mut HeaderMap) {
    let mut pieces = headers.get_all(COOKIE).iter();
    if pieces.next().is_none() || pieces.next().is_none() {
        return;
    }
    let pieces: Vec<&[u8]> = headers
        .get_all(COOKIE)
        .iter()
        .map(HeaderValue::as_bytes)
        .collect();
    if let Ok(whole) = HeaderValue::from_bytes(&pieces.join(&b"; "[..])) {
        headers.insert(COOKIE, whole);
    }
}

fn authority<B>(request: &Request<B>) -> Result<(HeaderValue, Authority), HeadError> {
    let mut hosts = request.headers().get_all(HOST).iter();
    let host = hosts.next();
    if hosts.next().is_some() {
        return Err(HeadError::ManyHosts);
    }
    let named = match request.uri().authority() {
        None => host.ok_or(HeadError::NoHost)?.clone(),
        Some(authority) => {
            let differs = host.is_some_and(|host| {
                !host
                    .as_bytes()
                    .eq_ignore_ascii_case(authority.as_str().as_bytes())
            });
            // an absolute form overrides Host in HTTP/1 (RFC 9112, 3.2.2); in HTTP/2 nothing may differ
            if differs && request.version() == Version::HTTP_2 {
                return Err(HeadError::ManyHosts);
            }
            HeaderValue::from_str(authority.as_str()).map_err(|_| HeadError::BadHost)?
        }
    };
    let text = named.to_str().map_err(|_| HeadError::BadHost)?;
    if text.is_empty() {
        return Err(HeadError::NoHost);
    }
    if text.contains('@') {
        return Err(HeadError::BadHost);
    }
    let target = match request.uri().authority() {
        Some(authority) => authority.clone(),
        None => text.parse().map_err(|_| HeadError::BadHost)?,
    };
    Ok((named, target))
}

/// Whether a header that is a list of words has this one.
fn names(headers: &HeaderMap, name: HeaderName, word: &[u8]) -> bool {
    headers
        .get_all(name)
        .iter()
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .any(|item| item.trim_ascii().eq_ignore_ascii_case(word))
}

/// Whether there is no transfer coding, or `chunked` alone (RFC 9112, 6.1).
fn is_framed_as_we_know(headers: &HeaderMap) -> bool {
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    match (codings.next(), codings.next()) {
        (None, _) => true,
        (Some(one), None) => one.as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked"),
        (Some(_), Some(_)) => false,
    }
}

/// Whether the connection is to end after this message.
pub(crate) fn says_close(headers: &HeaderMap) -> bool {
    names(headers, CONNECTION, b"close")
}

/// Removes what is for one hop only, and what `Connection` declares to be.
pub(crate) fn remove_hop(headers: &mut HeaderMap) {
    if headers.contains_key(CONNECTION) {
        let named: Vec<HeaderName> = headers
            .get_all(CONNECTION)
            .iter()
            .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
            .filter_map(|item| HeaderName::from_bytes(item.trim_ascii()).ok())
            .collect();
        for name in named {
            headers.remove(name);
        }
        headers.remove(CONNECTION);
    }
    if headers.contains_key(TRANSFER_ENCODING) {
        // of two lengths the one that was used counts (RFC 9112, 6.3)
        headers.remove(CONTENT_LENGTH);
    }
    for name in [KEEP_ALIVE, PROXY_CONNECTION, TE, TRANSFER_ENCODING, UPGRADE] {
        headers.remove(name);
    }
    if headers.get(TRAILER).is_some_and(HeaderValue::is_empty) {
        headers.remove(TRAILER);
    }
}

#[cfg(test)]
mod tests;
