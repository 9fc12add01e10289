//! Benchmarks: ratios in one interleaved run, never asserted in timed tests.
//!
//! [`proxy`] holds our proxy to Envoy: both run on the same bootstraps, one after the other in every round, and what is compared is the
//! CPU time that the proxies' own processes took, because that stands when other work makes the machine slow.
//!
//! [`control_plane`] is what both benchmarks of the control plane are made of: on a folder, and on API servers.

pub mod control_plane;
pub mod proxy;
