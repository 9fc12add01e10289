//! The agent beside a stock Envoy: what an Envoy cannot do for itself in this mesh.
//!
//! ```text
//!             Unix socket                        mTLS, as the workload
//! Envoy  ---- SDS: default, ROOTCA ---->  agent ---- certificates ---->  control plane
//!        ---- ADS, passed on unread --->        ---- ADS ------------->
//! program --- DNS, 15053 -------------->        ---- names ----------->
//! ```
//! The agent proves the workload's identity and renews its certificate exactly as our own proxy does (`certificate.rs`), hands
//! it to the Envoy, lends the Envoy its connection to the control plane, answers names, and says for both whether traffic can
//! be taken. The Envoy reads its configuration and carries connections; when the agent dies, it goes on with what it has.
//!
//! Read [`Beside`] first, then [`run_beside`].

mod bootstrap;
mod door;
mod names_feed;
mod pages;
mod question;
mod relay;
mod run;
mod secrets;
#[cfg(test)]
mod tests;

pub use run::{Beside, Variant, run_beside};
