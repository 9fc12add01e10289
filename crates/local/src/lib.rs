//! Clusters that are folders: facts from manifests, and running their workloads as processes.

pub mod address;
pub mod atomic;
pub mod fleet;
pub mod socket;
