//! How it is told: resources with versions by content, and both ends of a stream as state machines without sockets.
//!
//! Read [`Resource`] first, then the server's session, then the client's.

mod resource;

pub use resource::{Resource, ResourceSet, TypeUrlKind, Version};
