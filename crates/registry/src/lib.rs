//! What we know: the facts of every cluster, how sure we are of each, merged into one numbered snapshot.
//!
//! Silence is not a statement: an endpoint leaves only by a witness (a delete seen by a live watch, absence in a complete
//! newer list, or a person's removal of its cluster). Read [`Change`] first, then [`Registry`], then [`Snapshot`].
//!
//! ```
//! use catamaran_model::{ClusterId, Namespace, NamespaceFacts, Timestamp};
//! use catamaran_registry::{Change, Fact, Freshness, Observed, Registry, Revision, WatchGeneration};
//!
//! let cluster = ClusterId::new("cluster-1")?;
//! let mut registry = Registry::new(cluster.clone());
//! let namespace = NamespaceFacts { name: Namespace::new("default")?, inject: true };
//! for what in [
//!     Observed::Relisting,
//!     Observed::Upsert(Fact::Namespace(namespace)),
//!     Observed::Listed(Revision(7)),
//! ] {
//!     let change = Change { cluster: cluster.clone(), watch: WatchGeneration(1), what };
//!     registry.apply(change, Timestamp(1_000));
//! }
//! let snapshot = registry.snapshot();
//! assert_eq!(snapshot.clusters[&cluster].freshness, Freshness::Fresh);
//! assert!(snapshot.clusters[&cluster].namespaces["default"].inject);
//! # Ok::<(), catamaran_model::NameError>(())
//! ```

mod change;
mod facts;
#[cfg(test)]
mod fixture;
mod merge;
mod registry;
mod services;
mod shard;
mod snapshot;

pub use change::{Change, Fact, FactKey, Observed, Revision, WatchGeneration};
pub use facts::limits;
pub use registry::{Applied, Ignored, Registry, SavedShard};
pub use services::{Iter, ServiceChange, Services};
pub use shard::{HOLD, MAX_HELD_LISTS, SHRINK_AT_LEAST};
pub use snapshot::{
    ClusterView, Freshness, MergedEndpoint, MergedPort, MergedService, Problem, ProblemKind,
    Severity, Snapshot,
};
