//! Carries connections.

mod copy;
mod detect;
mod sni;
