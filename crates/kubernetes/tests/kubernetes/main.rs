//! The room before a scripted API server: what it says of a cluster, and that no failure of any kind makes anything go.

mod credentials;
mod failures;
mod live;
mod same;
mod server;
