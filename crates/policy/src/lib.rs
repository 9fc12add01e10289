//! What people want of traffic, compiled: this room's door.
//!
//! Istio's and Gateway API's resources enter here in later work; today the mesh's own defaults are all the policy there is.
//!
//! ```
//! let policy = catamaran_policy::Policy::default();
//! assert_eq!(policy.retries.attempts, 2);
//! ```

use std::time::Duration;

/// Everything that translation may ask about what people want.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Policy {
    /// When a request is tried again.
    pub retries: Retries,
    /// When an endpoint is left out for a while.
    pub ejection: Ejection,
    /// How long a connect, with TLS, may take.
    pub connect: ConnectTimeout,
}

/// When a request is tried again, on another endpoint (DESIGN 4).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retries {
    /// How often after the first try.
    pub attempts: u32,
    /// Retries may be at most this share of the active requests, in percent.
    pub budget_percent: u32,
}

impl Default for Retries {
    fn default() -> Self {
        Retries {
            attempts: 2,
            budget_percent: 20,
        }
    }
}

/// When an endpoint is left out for a while (DESIGN 4).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ejection {
    /// Answers of 5xx in a row, for direct endpoints.
    pub consecutive_5xx: u32,
    /// Local failures in a row (connect, TLS, reset before headers).
    pub consecutive_local: u32,
    /// The first ejection's length; each further one adds as much.
    pub base: Duration,
    /// At most this share of a cluster's endpoints, in percent, and never the last one.
    pub max_percent: u32,
}

impl Default for Ejection {
    fn default() -> Self {
        Ejection {
            consecutive_5xx: 5,
            consecutive_local: 3,
            base: Duration::from_secs(5),
            max_percent: 50,
        }
    }
}

/// How long a connect, with TLS, may take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectTimeout(pub Duration);

impl Default for ConnectTimeout {
    fn default() -> Self {
        ConnectTimeout(Duration::from_secs(1))
    }
}
