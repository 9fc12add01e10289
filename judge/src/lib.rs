//! Holds our proxy to a real Envoy: the same resources and the same bytes to both, and what came of it must agree.
//!
//! ```text
//! seed -> World (one bootstrap, many listeners) -> Envoy and ours
//!      -> Exchange (bytes of a caller)          -> Outcome of each -> Verdict: same, a difference that is meant, or a fault
//! ```
//! [`program`] is what stands behind the proxies and remembers what reached it; [`caller`] speaks HTTP/1.1 byte by byte, so that it
//! can say what no library would; [`world`] and [`exchange`] draw resources and requests from a seed; [`outcome`] is what is compared
//! and [`differences`] the list of what may differ, with reasons. Every pair can be played again by its seed and number.

pub mod caller;
pub mod differences;
pub mod exchange;
pub mod lots;
pub mod outcome;
pub mod program;
pub mod proxies;
pub mod world;
