//! Clusters that are folders: facts from manifests, and running their workloads as processes.
//!
//! A cluster's folder is its API. People write manifests under `objects/`; its node runs what they ask for and says under
//! `status/` what became of it; control planes read both and write only their own `MeshExport`. Nobody trusts a file to be
//! whole, and a file that cannot be understood never makes anything go.
//!
//! Read [`fleet::FleetDir`] first, which knows where everything lies; then [`manifest::Folder`], which believes no more than a
//! manifest says; then [`watch::Reader`], which makes [`catamaran_registry::Change`]s of it; then [`node::run`].
//!
//! This room decides nothing about traffic. It holds no key of a certificate and speaks to no proxy but to ask whether it is
//! ready. With [`fleet::Isolation::Process`] there is neither capture nor isolation of networks.
//!
//! ```
//! use catamaran_local::{fleet::{FleetDir, Isolation}, write};
//! use catamaran_model::{ClusterId, NetworkId};
//! let tmp = tempfile::tempdir()?;
//! let (fleet, _) = FleetDir::create(tmp.path(), Isolation::Process, "a1b2c3")?;
//! let (cluster, _) = fleet.create_cluster(&ClusterId::new("cluster-1")?, &NetworkId::new("network1")?, "uid-1")?;
//! let manifest = "apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: sleep}\n";
//! write::apply(&cluster, manifest, "sleep.yaml".as_ref())?;
//! assert!(cluster.objects().join("default/serviceaccount-sleep.yaml").is_file());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

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
