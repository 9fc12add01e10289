//! The proxy room.

mod backoff;
pub mod carry;
mod certificate;
mod config;
mod control;
mod names;
pub mod report;
mod saved;
#[cfg(test)]
mod stand_in;
mod uplink;

pub use certificate::{CertificateError, CertificateStatus};
pub use config::{Capture, Config, Role, USER_AGENT, ports};
pub use control::{COMPLETE_WAIT, ControlStatus};
