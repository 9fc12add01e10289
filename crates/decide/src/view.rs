use std::net::SocketAddr;

use catamaran_model::Timestamp;

use crate::{Cluster, Forward, Outliers, Table};

/// How an attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// An HTTP answer came, whatever its status.
    Answer {
        /// The HTTP status.
        status: u16,
        /// The `grpc-status` of its head or trailers, if it has one.
        grpc: Option<u32>,
    },
    /// A connection without HTTP was carried to its end.
    Closed,
    /// No connection: refused, unreachable, timed out.
    ConnectFailure,
    /// The connection stood, TLS did not.
    TlsFailure,
    /// TLS stood, and it was somebody else.
    IdentityMismatch,
    /// HTTP/2: the stream was refused or came after GOAWAY; the application never saw it.
    RefusedStream,
    /// The connection or stream went before the head of an answer.
    ResetBeforeHeaders,
    /// The connection or stream went in the middle of an answer.
    ResetAfterHeaders,
    /// The connection was found dead while the request waited (no answer to pings, `TCP_USER_TIMEOUT`).
    Unanswered,
    /// No answer in time, on a connection that lives.
    Timeout,
    /// The caller went away; says nothing of the endpoint.
    Abandoned,
}

/// What a piece of evidence changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing.
    Unchanged,
    /// The endpoint is ejected: too many bad answers.
    Ejected,
    /// The endpoint is suspect: it cannot be reached, or is not who it should be. Its pooled connections are worth nothing.
    Suspect,
    /// The whole gateway address is suspect, for every cluster behind it.
    GatewaySuspect,
    /// The endpoint is back.
    Returned,
}

/// What one worker of one proxy has itself seen: turns, requests in flight, and how endpoints behaved.
///
/// It belongs to whoever carries the requests and is handed to [`decide`](crate::decide) to be read. It survives changes of
/// the table: endpoints are known by address, clusters by name.
#[derive(Debug)]
pub struct View {
    seed: u64,
}

impl View {
    /// An empty view. `seed` differs from worker to worker and proxy to proxy, so that they do not all begin with the
    /// same endpoint; 0 begins with the first.
    pub fn new(seed: u64) -> View {
        View { seed }
    }

    /// Fits the view to a new table: forgets clusters that are gone and have nothing under way, and lines endpoints up.
    pub fn adopt(&mut self, table: &Table) {
        let _ = table;
        todo!()
    }

    /// Says that an attempt begins. Each `begin` is followed by exactly one [`View::finish`].
    pub fn begin(&mut self, forward: &Forward, retry: bool, now: Timestamp) {
        let _ = (forward, retry, now);
        todo!()
    }

    /// Says how an attempt ended.
    pub fn finish(&mut self, forward: &Forward, outcome: Outcome, now: Timestamp) -> Verdict {
        let _ = (forward, outcome, now);
        todo!()
    }

    /// Takes in evidence that no attempt stands for, such as that of a probe of a gateway.
    pub fn probed(&mut self, address: SocketAddr, reached: bool, now: Timestamp) -> Verdict {
        let _ = (address, reached, now);
        todo!()
    }

    /// Whether one more repetition may be under way in the cluster.
    pub fn may_retry(&self, cluster: &Cluster) -> bool {
        let _ = cluster;
        todo!()
    }

    /// Whether one more connection may be opened to the cluster.
    pub fn may_connect(&self, cluster: &Cluster) -> bool {
        let _ = cluster;
        todo!()
    }

    /// Says that a connection to a cluster was opened.
    pub fn connected(&mut self, cluster: &Cluster) {
        let _ = cluster;
        todo!()
    }

    /// Says that a connection to a cluster is closed.
    pub fn disconnected(&mut self, cluster: &Cluster) {
        let _ = cluster;
        todo!()
    }

    /// How an endpoint is seen.
    pub fn standing(&self, cluster: &Cluster, address: SocketAddr) -> Standing {
        let _ = (cluster, address);
        todo!()
    }
}

/// How one worker sees an endpoint.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Standing {
    /// Until when it is out of choice; after that one attempt at a time tries it.
    pub out_until: Option<Timestamp>,
    /// Whether such an attempt is under way.
    pub on_trial: bool,
    /// Requests, or connections without HTTP, in flight.
    pub in_flight: u32,
    /// How often in a row it was ejected or suspected.
    pub times: u32,
}

#[allow(dead_code)]
fn _unused(_: &Outliers) {}
