//! The translate room.
