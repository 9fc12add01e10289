//! What can go wrong between us and an API server, in words for the people who must act on it.
//!
//! A failure is never a statement about objects: nothing is gone because of one.

use std::time::Duration;

/// What a request, a list or a watch failed with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// No connection: the name does not resolve, nobody listens, no route, no answer in time.
    Unreachable {
        /// `HOST:PORT`.
        server: String,
        /// What the system said.
        why: String,
    },
    /// The server's name leads to an address where no API server of a remote cluster may be.
    Address {
        /// `HOST:PORT`.
        server: String,
        /// Which address and what is wrong with it.
        why: String,
    },
    /// The TLS handshake failed: another CA, an expired certificate, no TLS at all.
    Tls {
        /// `HOST:PORT`.
        server: String,
        /// What the handshake ended with.
        why: String,
    },
    /// 401
    Unauthorized {
        /// What the server said.
        said: String,
    },
    /// 403
    Forbidden {
        /// What the server said.
        said: String,
    },
    /// 404, said by a Kubernetes API server: the kind is not installed.
    Absent,
    /// 410, or a watch's `ERROR` event with it: the server does not remember so far back, so a new list is needed.
    Expired,
    /// 429
    Busy {
        /// How long the server asks us to wait.
        after: Option<Duration>,
    },
    /// 5xx, or a watch's `ERROR` event with such a code.
    Server {
        /// The HTTP status.
        code: u16,
        /// What the server said.
        said: String,
    },
    /// Any other answer that is not what was asked for: redirects, 404 from something that is no API server.
    Unexpected {
        /// The HTTP status.
        code: u16,
        /// What the server said.
        said: String,
    },
    /// An answer broke off before its end.
    Truncated {
        /// What the connection ended with.
        why: String,
    },
    /// An answer took longer than it may.
    Slow {
        /// The limit.
        limit: Duration,
    },
    /// An answer is larger than one may be.
    TooLarge {
        /// The limit in bytes.
        limit: usize,
    },
    /// An answer that cannot be understood.
    Unreadable {
        /// Where it stops making sense.
        why: String,
    },
    /// A watch was cut off in the middle.
    Cut {
        /// What the connection ended with.
        why: String,
    },
    /// Who was asked through the API server does not answer; the server itself does.
    Silent {
        /// Who.
        who: String,
        /// What the node, or the end of the connection, said.
        why: String,
    },
    /// Watches are opened and ended at once, again and again.
    Brisk,
}

impl Failure {
    /// The failure as a sentence about `what` (`services`), with whose side it is on and the next step.
    pub fn about(&self, what: &str) -> String {
        match self {
            Failure::Unreachable { server, why } => format!(
                "its API server {server} cannot be reached ({why}); see whether it runs, and whether this network leads there"
            ),
            Failure::Address { server, why } => format!(
                "its API server {server} is not asked: {why}; correct the address in the credential, or allow it by name when \
                 you add the cluster"
            ),
            Failure::Tls { server, why } => format!(
                "the TLS handshake with its API server {server} failed ({why}); see whether the credential's \
                 certificate-authority-data is that of this cluster, and whether the server's certificate is still valid"
            ),
            Failure::Unauthorized { said } => format!(
                "its API server does not accept the credential (401: {said}); it has expired or was revoked: add the cluster \
                 again to renew it"
            ),
            Failure::Forbidden { said } => format!(
                "the credential may not read {what} (403: {said}); add the cluster again to grant the reader's role"
            ),
            Failure::Absent => format!(
                "its API server does not know {what} (404), which it knew before; install the definitions again"
            ),
            Failure::Expired => format!("{what} must be listed anew (410)"),
            Failure::Busy { .. } => {
                "its API server is overloaded (429) and asks us to wait".to_owned()
            }
            Failure::Server { code, said } => {
                format!("its API server failed with {code} on {what} ({said})")
            }
            Failure::Unexpected { code, said } => format!(
                "what answers at its API server's address gave {code} for {what} ({said}), as no API server does; see whether \
                 the server of the credential is right, and whether a proxy stands in between"
            ),
            Failure::Truncated { why } => {
                format!("the list of {what} broke off in the middle ({why})")
            }
            Failure::Slow { limit } => format!(
                "an answer about {what} did not arrive within {} s; the API server or the way to it is too slow",
                limit.as_secs_f32()
            ),
            Failure::TooLarge { limit } => format!(
                "an answer about {what} is larger than {} MiB, which no list page of a healthy cluster is",
                limit >> 20
            ),
            Failure::Unreadable { why } => {
                format!("an answer about {what} cannot be understood ({why})")
            }
            Failure::Cut { why } => format!("the watch of {what} was cut off ({why})"),
            Failure::Silent { who, why } => format!("{who} does not answer about {what} ({why})"),
            Failure::Brisk => format!(
                "watches of {what} end as soon as they begin; see whether a proxy between us and the API server cuts long answers off"
            ),
        }
    }

    /// Whether two failures, of these kinds, are the same news to people. What concerns the whole server is told once, whichever
    /// kind meets it first.
    pub(crate) fn is_same_news(&self, of: &str, other: &Failure, of_other: &str) -> bool {
        let one_kind = matches!(
            self,
            Failure::Forbidden { .. }
                | Failure::Absent
                | Failure::Brisk
                | Failure::TooLarge { .. }
                | Failure::Unreadable { .. }
        );
        std::mem::discriminant(self) == std::mem::discriminant(other)
            && (!one_kind || of == of_other)
    }

    /// How long the other side wants us to wait, at most a minute.
    pub fn wait(&self) -> Option<Duration> {
        match self {
            Failure::Busy { after } => after.map(|after| after.min(Duration::from_secs(60))),
            _ => None,
        }
    }
}

/// Outside text, safe to print: one line, at most 200 characters.
pub(crate) fn printable(text: &str) -> String {
    let line = text.trim().chars().take(200);
    line.map(|c| if c.is_control() { ' ' } else { c }).collect()
}
