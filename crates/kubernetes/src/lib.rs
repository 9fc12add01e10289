//! Clusters with an API server: facts from their objects, status to them, and every Kubernetes type and call.
//!
//! Beyond this room there are only [`catamaran_registry::Change`]s and our own words. Read [`watch::watch`] first, which says
//! what a cluster has; then [`kubeconfig::Kubeconfig`], which takes only harmless credentials; then [`crd`], our own kinds.
//!
//! This room decides nothing about traffic. It writes nothing into a cluster that it only discovers but a token for itself;
//! what an instance may write into one that it manages from another is in [`manager`].
//! It follows no redirect, runs no program (a person's own kubeconfig may name one, which whoever reads it runs), and believes
//! no failure: only a complete list or a delete makes something go.
//!
//! ```
//! use catamaran_kubernetes::kubeconfig::{Allowed, Kubeconfig};
//! let text = "{clusters: [{name: c, cluster: {server: 'https://10.0.0.1', certificate-authority-data: LS0tLS1CRUdJTiBDRVJUSUZJQ0FURS0tLS0t}}], \
//!              users: [{name: u, user: {exec: {command: curl}}}], contexts: [{name: x, context: {cluster: c, user: u}}]}";
//! let refused = Kubeconfig::read(text, Allowed::default()).unwrap_err();
//! assert_eq!(refused.field, "users[0].user.exec");
//! ```

mod api;
mod base64;
pub mod beats;
pub mod chart;
pub mod connect;
pub mod crd;
pub mod enrol;
pub mod events;
pub mod failure;
mod follow;
pub mod gateway;
pub mod in_cluster;
pub mod inject;
pub mod install;
mod join;
pub mod kubeconfig;
pub mod lease;
pub mod manager;
pub mod manifest;
pub mod pod;
pub mod reader;
pub mod remote;
pub mod review;
pub mod rights;
mod seen;
pub mod sight;
pub mod token;
pub mod upgrade;
pub mod watch;
pub mod webhook;
pub mod workload;
pub mod write;

pub use follow::Pace;
pub use seen::{CLUSTER_LOCAL_ANNOTATION, INJECTION_LABELS};
