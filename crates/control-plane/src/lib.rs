//! The control-plane room.
