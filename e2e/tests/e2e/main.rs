//! End-to-end tests of the spine.

mod by_hand;
mod demo;
mod envoy;
