mod cluster;
mod listener;
mod route;
mod tls;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;

pub use cluster::{
    Balance, Cluster, Endpoint, EndpointHealth, EndpointSource, Keepalive, Limits, Outliers,
    RetryLimit, Settings,
};
pub use listener::{Chain, ClientCertHeader, Codec, Handler, Http, Listener, Routes, Tcp};
pub use route::RouteTable;
pub use tls::{DownstreamTls, IdentityMatch, MutualTls, Transport, allows};

use crate::{Changes, Kind, Refusal};

/// All that a proxy was told, made ready for decisions. Immutable; [`Table::update`] makes the next one and shares with it
/// every part that did not change.
#[derive(Debug, Clone, Default)]
pub struct Table {}

impl Table {
    /// A table of these resources alone, and what of them cannot be used.
    pub fn build(changes: Changes) -> (Table, Vec<Refusal>) {
        Table::default().update(changes)
    }

    /// The table after these changes. What is refused keeps what was in force under its name.
    pub fn update(&self, changes: Changes) -> (Table, Vec<Refusal>) {
        let _ = changes;
        todo!()
    }

    /// A cluster by name.
    pub fn cluster(&self, name: &str) -> Option<&Arc<Cluster>> {
        let _ = name;
        todo!()
    }

    /// A route configuration by name.
    pub fn routes(&self, name: &str) -> Option<&Arc<RouteTable>> {
        let _ = name;
        todo!()
    }

    /// A listener by name.
    pub fn listener(&self, name: &str) -> Option<&Arc<Listener>> {
        let _ = name;
        todo!()
    }

    /// All listeners, by name.
    pub fn listeners(&self) -> Vec<&Arc<Listener>> {
        todo!()
    }

    /// All clusters, by name.
    pub fn clusters(&self) -> Vec<&Arc<Cluster>> {
        todo!()
    }

    /// The listener that connections to an address are handed to: that of the very address, else that of any address and
    /// the same port.
    pub fn listener_for(&self, destination: SocketAddr) -> Option<&Arc<Listener>> {
        let _ = destination;
        todo!()
    }

    /// The names of a kind that the table points at, so those to subscribe to (routes, assignments, issuers, clusters).
    pub fn wanted(&self, kind: Kind) -> BTreeSet<Arc<str>> {
        let _ = kind;
        todo!()
    }

    /// What the table points at and does not have. A table with nothing missing can be put to use at once; one with
    /// something missing answers 503 there.
    pub fn missing(&self) -> BTreeSet<(Kind, Arc<str>)> {
        todo!()
    }

    /// Whether the table has a resource.
    pub fn has(&self, kind: Kind, name: &str) -> bool {
        let _ = (kind, name);
        todo!()
    }
}
