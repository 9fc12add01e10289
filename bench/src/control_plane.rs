//! The control plane as a process of its own, and proxies that are simulated: what its benchmarks share.
//!
//! [`Plane`] is the process and what the system says that it used; [`caller`] a proxy's side of the wire with nothing behind it.

pub mod caller;
pub mod figures;
pub mod names;
mod plane;

pub use plane::{Counts, Memory, Plane, free_memory};
