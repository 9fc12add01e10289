//! How it is told: resources with versions by content, and both ends of a stream as state machines without sockets.
//!
//! A version is a hash of the resource's bytes, so that equal content has an equal version on every replica and after a
//! restart: a client that comes back with what it holds is sent nothing of it. Between a set and a stream the latest wins:
//! what is to be sent is a set of names, and one response of a kind is under way at a time. A client that refuses a version
//! is not sent it again; the rest of the update goes on.
//!
//! What it refuses: sockets, clocks (time is handed in), and knowing what a resource says, but for the names that a
//! client must ask for because of it.
//!
//! Read [`Resource`] first, then [`ServerSession`], then [`ClientSession`]; the text of a refusal is in [`nack`].
//!
//! ```
//! use std::sync::Arc;
//! use catamaran_model::Timestamp;
//! use catamaran_wire::cluster::Cluster;
//! use catamaran_xds::*;
//!
//! let cluster = Cluster { name: "BlackHoleCluster".into(), ..Cluster::default() };
//! let resource = Resource::new(TypeUrlKind::Cluster, "BlackHoleCluster", &cluster);
//! let set: ResourceSet = [Arc::new(resource)].into_iter().collect();
//!
//! let mut client = ClientSession::new(Default::default());
//! let mut server = ServerSession::new(Protocol::Delta, Peer::Catamaran, "mesh-1", Arc::new(set), "".into());
//! let mut requests = client.step(ClientInput::Connected).requests;
//! while !requests.is_empty() {
//!     let mut answers = Vec::new();
//!     for request in std::mem::take(&mut requests) {
//!         for response in server.step(Input::Delta(request), Timestamp(0)).responses {
//!             client.step(ClientInput::Response(response.deltas().unwrap()));
//!             let candidate = client.candidate();
//!             // A table would be made of `candidate.set` here; all of it can be used.
//!             let judged = ClientInput::Judged { ticket: candidate.ticket, unusable: vec![] };
//!             answers.extend(client.step(judged).requests);
//!         }
//!     }
//!     requests = answers;
//! }
//! assert!(client.is_ready());
//! assert!(client.held().get(TypeUrlKind::Cluster, "BlackHoleCluster").is_some());
//! ```

mod client;
pub mod nack;
mod resource;
mod server;

pub use client::{Candidate, ClientInput, ClientOutputs, ClientSession};
pub use nack::{Quarantine, Refusal, Unusable};
pub use resource::{OfKind, Resource, ResourceKey, ResourceSet, TypeUrlKind, Version};
pub use server::{
    BREAK_WAIT, Changed, Current, Event, Input, KindStatus, MAKE_WAIT, NAME_LIMIT, NAMES_LIMIT,
    Names, OPEN_WAIT, Outputs, Peer, Protocol, RESPONSE_LIMIT, Response, ServerSession,
    SessionError,
};
