use std::net::SocketAddr;
use std::sync::Arc;

use catamaran_model::Timestamp;

use crate::{Arrival, Attempt, Chain, Connection, Decision, Entry, Listener, Reject, Table, View};

/// The way of a connection: the listener and chain that have it. A handle that stays good when the table changes.
#[derive(Debug, Clone)]
pub struct Way {
    /// The listener, after the hand-over by original destination.
    pub listener: Arc<Listener>,
    /// Its chain.
    pub chain: Arc<Chain>,
    /// Where the caller wanted to go.
    pub destination: Option<SocketAddr>,
}

/// The listener that has connections of an entry; it says whether and how long to look at the first bytes.
///
/// # Errors
/// When nothing listens there.
pub fn listen(table: &Table, entry: Entry) -> Result<Arc<Listener>, Box<Reject>> {
    let _ = (table, entry);
    todo!()
}

/// The first stage, once per connection: its listener and chain.
///
/// # Errors
/// When nothing listens there, or no chain takes such a connection.
pub fn accept(table: &Table, connection: &Connection<'_>) -> Result<Way, Box<Reject>> {
    let _ = (table, connection);
    todo!()
}

/// The second stage, once per attempt: where it goes.
pub fn decide_on(
    table: &Table,
    view: &View,
    way: &Way,
    attempt: &Attempt<'_>,
    now: Timestamp,
) -> Decision {
    let _ = (table, view, way, attempt, now);
    todo!()
}

/// Both stages at once.
pub fn decide(table: &Table, view: &View, arrival: &Arrival<'_>, now: Timestamp) -> Decision {
    match accept(table, &arrival.connection) {
        Ok(way) => decide_on(table, view, &way, &arrival.attempt, now),
        Err(reject) => Decision::Reject(*reject),
    }
}
