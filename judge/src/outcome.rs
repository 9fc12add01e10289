//! What came of an exchange, in a form in which two proxies can be compared.

use std::collections::BTreeMap;

/// What became of the caller's connection after the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It took another request.
    Kept,
    /// It was closed or reset.
    Closed,
    /// Neither: it said nothing more in time.
    Silent,
}

/// Headers, sorted, without those that no two programs share.
pub type Headers = Vec<(String, String)>;

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Interim answers before it, without 100.
    pub interim: Vec<u16>,
    /// The status.
    pub status: u16,
    /// The headers.
    pub headers: Headers,
    /// The body's length and a hash of it.
    pub body: (usize, u64),
    /// The trailers.
    pub trailers: Headers,
    /// Whether it came to its end.
    pub whole: bool,
}

/// What a program behind the proxy got.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Which program.
    pub program: String,
    /// The method.
    pub method: String,
    /// The target.
    pub target: String,
    /// The headers.
    pub headers: Headers,
    /// The body's length and a hash of it.
    pub body: (usize, u64),
    /// The trailers.
    pub trailers: Headers,
}

/// All of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// What the caller got; in place of it what went wrong.
    pub answers: Vec<Result<Answer, String>>,
    /// What became of its connection.
    pub fate: Fate,
    /// What reached programs, in order.
    pub seen: Vec<Seen>,
}

/// FNV-1a, which tells bodies apart well enough.
pub fn hash(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// Headers that carry times and draws: present or not is compared, their values are not.
const VALUES_DIFFER: [&str; 2] = ["date", "x-request-id"];

/// Headers that only Envoy's maker adds; see `docs/reference/differences.md`.
const ENVOYS: [&str; 3] = [
    "x-envoy-upstream-service-time",
    "x-envoy-expected-rq-timeout-ms",
    "x-envoy-external-address",
];

/// Sorts headers and blanks what differs by nature; repeated ones keep their order.
pub fn normal(headers: impl IntoIterator<Item = (String, String)>) -> Headers {
    let mut by_name: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (name, value) in headers {
        let name = name.to_ascii_lowercase();
        if ENVOYS.contains(&name.as_str()) {
            continue;
        }
        let value = match VALUES_DIFFER.contains(&name.as_str()) {
            true => "*".into(),
            false => value,
        };
        by_name.entry(name).or_default().push(value);
    }
    if let Some(pieces) = by_name.get_mut("cookie") {
        // HTTP/2 may cut it in pieces
        *pieces = vec![pieces.join("; ")];
    }
    by_name
        .into_iter()
        .flat_map(|(name, values)| values.into_iter().map(move |value| (name.clone(), value)))
        .collect()
}
