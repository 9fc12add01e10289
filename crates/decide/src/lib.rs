//! Where one request goes, as whom, and why.

mod arrival;
mod balance;
mod changes;
mod decide;
mod decision;
mod explain;
#[cfg(test)]
mod fixture;
mod path;
mod refusal;
mod retry;
mod table;
mod view;

pub use arrival::{Arrival, Attempt, Connection, Detected, Entry, Headers, Request};
pub use changes::Changes;
pub use decide::{Way, accept, decide, decide_on, listen};
pub use decision::{
    By, Cause, Decision, EndpointId, Flag, Forward, Pick, Reject, Respond, RouteId, Special,
    Timeouts, UpstreamProtocol, Via, Why,
};
pub use explain::explain;
pub use path::normalize_path;
pub use refusal::{Kind, Refusal};
pub use retry::{RetryOn, RetryPolicy, idempotent, retryable};
pub use table::{
    Balance, Chain, ClientCertHeader, Cluster, Codec, DownstreamTls, Endpoint, EndpointHealth,
    EndpointSource, Handler, Http, Http2Options, IdentityMatch, Keepalive, Limits, Listener,
    MutualTls, Outliers, RetryLimit, RouteTable, Routes, ServerHeader, Settings, Table, Tcp,
    Transport, allows,
};
pub use view::{Outcome, Standing, Verdict, View};
