//! The operate room.
