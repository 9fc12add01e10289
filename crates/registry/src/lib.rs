//! What we know: the facts of every cluster, how sure we are of each, merged into one numbered snapshot.
//!
//! Silence is not a statement: an endpoint leaves only by a witness (a delete seen by a live watch, absence in a complete
//! newer list, or a person's removal of its cluster). Read [`Change`] first, then [`Registry`], then [`Snapshot`].

mod change;
mod snapshot;

pub use change::{Change, Fact, FactKey, Observed, Revision, WatchGeneration};
pub use snapshot::{
    ClusterView, Freshness, MergedEndpoint, MergedPort, MergedService, Problem, ProblemKind,
    Severity, Snapshot,
};
