use std::net::SocketAddr;

/// Where a connection came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entry {
    /// Captured on its way out (15001): `destination` is where the caller wanted to go.
    Outbound {
        /// The original destination.
        destination: SocketAddr,
    },
    /// A request to the HTTP proxy port (explicit capture): the port of its authority takes the destination's place.
    /// [`Entry::http_proxy`] reads it.
    HttpProxy {
        /// The port of the request's authority.
        port: u16,
    },
    /// For the workload itself (15006, or the workload's own port where nothing is captured).
    Inbound {
        /// The original destination: an address of the workload, and the port that the caller wanted.
        destination: SocketAddr,
    },
    /// Accepted by a listener that is bound to its own port, such as a gateway's 15443.
    Gateway {
        /// The address that it was accepted on.
        local: SocketAddr,
    },
}

impl Entry {
    /// The entry of a request to the HTTP proxy port; an authority without a port means 80.
    pub fn http_proxy(authority: &str) -> Entry {
        let port = split_port(authority).1.unwrap_or(80);
        Entry::HttpProxy { port }
    }

    /// The address that chains are matched against, where there is one.
    pub fn destination(&self) -> Option<SocketAddr> {
        match *self {
            Entry::Outbound { destination } | Entry::Inbound { destination } => Some(destination),
            Entry::HttpProxy { .. } => None,
            Entry::Gateway { local } => Some(local),
        }
    }

    /// The port that chains are matched against.
    pub fn port(&self) -> u16 {
        match *self {
            Entry::HttpProxy { port } => port,
            Entry::Outbound { destination } | Entry::Inbound { destination } => destination.port(),
            Entry::Gateway { local } => local.port(),
        }
    }
}

/// What the first bytes are, as far as someone looked.
///
/// Look only when the listener wants it ([`Listener::inspects_tls`](crate::Listener::inspects_tls),
/// [`inspects_http`](crate::Listener::inspects_http)): a server may be the one that speaks first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Detected<'a> {
    /// Nobody looked, nothing came in time, or the bytes are nothing that is known here.
    #[default]
    Opaque,
    /// HTTP/1.
    Http1,
    /// HTTP/2 with prior knowledge.
    Http2,
    /// A TLS ClientHello.
    Tls {
        /// The server name, lower case.
        sni: Option<&'a str>,
        /// The protocols offered, in order.
        alpn: &'a [&'a [u8]],
    },
}

/// A connection, before anything is known about requests on it.
#[derive(Debug, Clone, Copy)]
pub struct Connection<'a> {
    /// Where it came in.
    pub entry: Entry,
    /// Who opened it, as the kernel says.
    pub source: Option<SocketAddr>,
    /// What its first bytes are.
    pub detected: Detected<'a>,
}

/// Access to a request's headers without copying them.
pub trait Headers {
    /// The value of the first header of a name; names are asked for in lower case.
    fn header(&self, name: &str) -> Option<&[u8]>;
}

/// No headers at all.
impl Headers for () {
    fn header(&self, _: &str) -> Option<&[u8]> {
        None
    }
}

/// A few headers, names in lower case.
impl Headers for [(&str, &str)] {
    fn header(&self, name: &str) -> Option<&[u8]> {
        let mut pairs = self.iter();
        pairs
            .find(|(key, _)| *key == name)
            .map(|(_, value)| value.as_bytes())
    }
}

impl<const N: usize> Headers for [(&str, &str); N] {
    fn header(&self, name: &str) -> Option<&[u8]> {
        self[..].header(name)
    }
}

/// The head of an HTTP request.
#[derive(Clone, Copy)]
pub struct Request<'a> {
    /// `GET`
    pub method: &'a str,
    /// `:authority` or `Host`, with its port if it had one; not the scheme.
    pub authority: &'a str,
    /// The path with its query, `/hello?x=1`.
    pub path: &'a str,
    /// Its headers.
    pub headers: &'a dyn Headers,
}

impl std::fmt::Debug for Request<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}{}", self.method, self.authority, self.path)
    }
}

/// One try to carry a request (HTTP) or a connection (everything else) to somebody.
#[derive(Debug, Clone, Copy)]
pub struct Attempt<'a> {
    /// The caller's SPIFFE id, when it proved one to us by TLS.
    pub peer: Option<&'a str>,
    /// The request; `None` when the connection as a whole is carried.
    pub request: Option<Request<'a>>,
    /// The addresses that earlier attempts of the same request went to, oldest first.
    pub tried: &'a [SocketAddr],
    /// A number that differs from request to request of a worker, such as a counter. Where Envoy draws lots (weighted
    /// clusters, `RANDOM`, two choices) it takes the place of the random number. Turns of round robin are not taken
    /// from it but counted per cluster by the [`View`](crate::View), so that calls to one service do not skew another's.
    pub ticket: u64,
}

/// Everything that a decision may depend on beside the table, the view and the time.
#[derive(Debug, Clone, Copy)]
pub struct Arrival<'a> {
    /// The connection.
    pub connection: Connection<'a>,
    /// The attempt.
    pub attempt: Attempt<'a>,
}

/// Host and port of an authority; the brackets of an IPv6 address stay with the host.
pub(crate) fn split_port(authority: &str) -> (&str, Option<u16>) {
    let Some((host, port)) = authority.rsplit_once(':') else {
        return (authority, None);
    };
    if host.starts_with('[') != host.ends_with(']') || (host.contains(':') && !host.ends_with(']'))
    {
        return (authority, None);
    }
    match port.parse() {
        Ok(number) if port.bytes().all(|b| b.is_ascii_digit()) => (host, Some(number)),
        _ => (authority, None),
    }
}
