//! What each audience should hear: from a snapshot to resources. One file per resource kind.
//!
//! [`translate`] is a pure function of the snapshot and the [`Audience`], and the oracle that every faster way must equal.

mod audience;

pub use audience::{Audience, Capability, Capture, Role};
