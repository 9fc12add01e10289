//! Clusters that are folders: facts from manifests, and running their workloads as processes.

pub mod address;
pub mod atomic;
pub mod exec;
pub mod fleet;
pub mod helloworld;
pub mod launch;
pub mod lifecycle;
pub mod manifest;
pub mod netns;
pub mod node;
pub mod object;
pub mod running;
pub mod socket;
pub mod watch;
pub mod write;
