//! A control plane on loopback, with real gRPC over real mTLS, and a fleet in a temporary folder.

use std::time::Duration;

mod client;
mod discovery;
mod envoy;
mod fleet;
mod peers;
mod slope;
mod trust;

/// Nothing takes so long unless it does not happen.
const LONG: Duration = Duration::from_secs(20);

async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(LONG, future).await {
        Ok(value) => value,
        Err(_) => panic!("waited {LONG:?} for {what}"),
    }
}
