//! The proxy room.

pub mod carry;
pub mod report;
