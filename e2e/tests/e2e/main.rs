//! End-to-end tests of the spine.

mod demo;
