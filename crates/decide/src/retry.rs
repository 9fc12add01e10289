use std::time::Duration;

use crate::Outcome;

/// When and how often an attempt is repeated.
#[derive(Debug, Clone, PartialEq)]
pub struct RetryPolicy {
    /// How many more attempts after the first.
    pub retries: u32,
    /// What the policy asks to repeat on, beside what is always safe.
    pub on: RetryOn,
    /// Status codes of `retriable-status-codes`.
    pub statuses: Box<[u16]>,
    /// The time of one attempt.
    pub per_try_timeout: Option<Duration>,
    /// The pause before the first repetition; it doubles, with jitter, up to `back_off_max`.
    pub back_off: Duration,
    /// The longest pause.
    pub back_off_max: Duration,
}

/// The conditions of `retry_on` that an answer can meet.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RetryOn {
    /// `5xx`: any 500-599, or no answer at all.
    pub server_error: bool,
    /// `gateway-error`: 502, 503, 504.
    pub gateway_error: bool,
    /// `reset` or `reset-before-request`: the connection went before the head of an answer came.
    pub reset: bool,
    /// `retriable-4xx`: 409.
    pub conflict: bool,
    /// `retriable-status-codes`: those in [`RetryPolicy::statuses`].
    pub statuses: bool,
    /// `envoy-ratelimited` is read and has no effect: nothing here answers so.
    pub rate_limited: bool,
    /// The gRPC statuses named, by number: bit 1 CANCELLED, 4 DEADLINE_EXCEEDED, 8 RESOURCE_EXHAUSTED, 13 INTERNAL, 14
    /// UNAVAILABLE.
    pub grpc: u32,
}

/// Whether an attempt that ended so may be repeated; how often is the policy's and the budget's business
/// ([`RetryPolicy::retries`], [`View::may_retry`](crate::View::may_retry)).
///
/// - Nothing reached the application (connecting or TLS failed, wrong identity, stream refused): always.
/// - The connection was lost before the head of an answer: when the method is idempotent.
/// - No answer within the attempt's time: when the method is idempotent and the policy names `5xx`, `gateway-error` or `reset`.
/// - An answer: when the policy names it, whatever the method, as people ask for it.
///
/// `method` is `None` for connections that carry no HTTP. Differs from Envoy, which repeats any method on `reset`.
pub fn retryable(outcome: Outcome, method: Option<&str>, policy: &RetryPolicy) -> bool {
    let idempotent = method.is_some_and(idempotent);
    let on = &policy.on;
    match outcome {
        Outcome::ConnectFailure
        | Outcome::TlsFailure
        | Outcome::IdentityMismatch
        | Outcome::RefusedStream => true,
        Outcome::ResetBeforeHeaders | Outcome::Unanswered => idempotent,
        Outcome::Timeout => idempotent && (on.server_error || on.gateway_error || on.reset),
        Outcome::Answer { status, grpc } => {
            (on.server_error && (500..600).contains(&status))
                || (on.gateway_error && (502..=504).contains(&status))
                || (on.conflict && status == 409)
                || (on.statuses && policy.statuses.contains(&status))
                || grpc.is_some_and(|code| code < 32 && on.grpc & (1 << code) != 0)
        }
        Outcome::Closed | Outcome::ResetAfterHeaders | Outcome::Abandoned => false,
    }
}

/// Whether a method may be repeated without harm (RFC 9110, 9.2.2).
pub fn idempotent(method: &str) -> bool {
    matches!(
        method,
        "GET" | "HEAD" | "OPTIONS" | "TRACE" | "PUT" | "DELETE"
    )
}

#[cfg(test)]
mod tests;
