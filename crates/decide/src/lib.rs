//! Where one request goes, as whom, and why.
//!
//! [`decide`] is a pure function of a [`Table`] (all that a proxy was told), a [`View`] (what one of its workers saw), an
//! [`Arrival`] (one attempt) and the time. The proxy asks it on its hot path, in two stages: [`accept`] once per
//! connection, [`decide_on`] once per attempt. `catamaran explain`, the readiness check and the simulator ask the same
//! function, so what they say is what happens.
//!
//! - **A resource is used as a whole or refused by name.** [`Table::update`] reads Envoy's messages once. Whatever is set
//!   that would change where a request goes, or how, and is not implemented is a [`Refusal`] with the field and the
//!   reason; it rejects only its own resource, and what was in force under that name stays.
//! - **Nothing here acts.** No clock, no socket, no chance: turns come from the view, lots from [`Attempt::ticket`].
//! - **Evidence is the worker's own.** A view judges endpoints for its worker alone, and never removes one.
//! - **Never the last way.** Endpoints that are out are used when nobody else is left; those of which their control plane
//!   says that they are not ready, never.
//!
//! What it refuses: to open or peek at connections, to check certificates (it says whom to expect), to count time by
//! itself, and to keep anything beyond table and view. Limits and what differs from Envoy: `docs/decisions/0003-decide.md`;
//! names: `docs/reference/names.md`.
//!
//! Read [`Table`] first, then [`Arrival`], [`Decision`] and [`View`].
//!
//! ```
//! use catamaran_decide::{accept, decide_on, Attempt, Changes, Connection, Decision, Detected, Entry, Outcome, Table};
//! use catamaran_decide::{Verdict, View};
//! use catamaran_model::Timestamp;
//! use catamaran_wire::cluster::Cluster;
//! use catamaran_wire::core::{Address, AddressKind, PortSpecifier, SocketAddress};
//! use catamaran_wire::endpoint::{ClusterLoadAssignment, Endpoint, HostIdentifier, LbEndpoint, LocalityLbEndpoints};
//! use catamaran_wire::listener::{Filter, FilterChain, FilterConfigType, Listener};
//! use catamaran_wire::tcp::{ClusterSpecifier, TcpProxy};
//! use catamaran_wire::Any;
//!
//! let at = |ip: &str, port| {
//!     let port_specifier = Some(PortSpecifier::PortValue(port));
//!     let socket = SocketAddress { address: String::from(ip), port_specifier, ..SocketAddress::default() };
//!     Some(Address { address: Some(AddressKind::SocketAddress(socket)) })
//! };
//! let endpoint = Endpoint { address: at("10.1.1.9", 3306), ..Endpoint::default() };
//! let endpoint = LbEndpoint { host_identifier: Some(HostIdentifier::Endpoint(endpoint)), ..LbEndpoint::default() };
//! let locality = LocalityLbEndpoints { lb_endpoints: vec![endpoint], ..LocalityLbEndpoints::default() };
//! let cluster = Cluster {
//!     name: "database".into(),
//!     load_assignment: Some(ClusterLoadAssignment { endpoints: vec![locality], ..ClusterLoadAssignment::default() }),
//!     ..Cluster::default()
//! };
//! let tcp = TcpProxy { cluster_specifier: Some(ClusterSpecifier::Cluster("database".into())), ..TcpProxy::default() };
//! let filter = Filter { name: "tcp".into(), config_type: Some(FilterConfigType::TypedConfig(Any::pack(&tcp))) };
//! let listener = Listener {
//!     name: "0.0.0.0_3306".into(),
//!     address: at("0.0.0.0", 3306),
//!     filter_chains: vec![FilterChain { filters: vec![filter], ..FilterChain::default() }],
//!     ..Listener::default()
//! };
//!
//! let changes = Changes { listeners: vec![listener], clusters: vec![cluster], ..Changes::default() };
//! let (table, refusals) = Table::build(changes);
//! assert!(refusals.is_empty());
//!
//! let mut view = View::new(0);
//! let entry = Entry::Gateway { local: "10.1.1.1:3306".parse()? };
//! let connection = Connection { entry, source: None, detected: Detected::Opaque };
//! let way = accept(&table, &connection).map_err(|reject| reject.to_string())?;
//! let attempt = Attempt { peer: None, request: None, tried: &[], ticket: 1 };
//! let Decision::Forward(forward) = decide_on(&table, &view, &way, &attempt, Timestamp(0)) else { panic!() };
//! assert_eq!(forward.to_string(), "10.1.1.9:3306, plain text");
//! assert_eq!(forward.why.to_string(), "listener 0.0.0.0_3306 -> database, endpoint 1 of 1 by round robin");
//!
//! view.begin(&forward);
//! assert_eq!(view.finish(&forward, Outcome::ConnectFailure, Timestamp(1000)), Verdict::Unchanged);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

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
    EndpointSource, Fixed, Folded, Handler, Http, Http2Options, IdentityMatch, Keepalive, Limits,
    Listener, MutualTls, Outliers, RetryLimit, RouteTable, Routes, ServerHeader, Settings, Table,
    Tcp, Transport, allows,
};
pub use view::{Outcome, Standing, Verdict, View};
