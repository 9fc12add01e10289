use std::time::Duration;

use super::{RetryOn, RetryPolicy, retryable};
use crate::Outcome;

fn policy(on: RetryOn) -> RetryPolicy {
    RetryPolicy {
        retries: 2,
        on,
        statuses: Box::new([425]),
        per_try_timeout: None,
        back_off: Duration::from_millis(25),
        back_off_max: Duration::from_millis(250),
    }
}

#[test]
fn what_never_reached_the_application_is_repeated_whatever_the_method() {
    let policy = policy(RetryOn::default());
    for outcome in [
        Outcome::ConnectFailure,
        Outcome::TlsFailure,
        Outcome::IdentityMismatch,
        Outcome::RefusedStream,
    ] {
        for method in [Some("GET"), Some("POST"), None] {
            assert!(
                retryable(outcome, method, &policy),
                "{outcome:?} {method:?}"
            );
        }
    }
}

#[test]
fn what_may_have_reached_it_is_repeated_only_when_that_does_no_harm() {
    let policy = policy(RetryOn {
        reset: true,
        ..RetryOn::default()
    });
    for outcome in [
        Outcome::ResetBeforeHeaders,
        Outcome::Unanswered,
        Outcome::Timeout,
    ] {
        for method in ["GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"] {
            assert!(retryable(outcome, Some(method), &policy), "{method}");
        }
        for method in [Some("POST"), Some("PATCH"), Some("get"), None] {
            assert!(!retryable(outcome, method, &policy), "{method:?}");
        }
    }
}

#[test]
fn what_was_begun_is_not_repeated() {
    let all = RetryOn {
        server_error: true,
        gateway_error: true,
        reset: true,
        conflict: true,
        statuses: true,
        rate_limited: true,
        grpc: u32::MAX,
    };
    for outcome in [
        Outcome::ResetAfterHeaders,
        Outcome::Abandoned,
        Outcome::Closed,
    ] {
        assert!(
            !retryable(outcome, Some("GET"), &policy(all)),
            "{outcome:?}"
        );
    }
}

#[test]
fn answers_are_repeated_as_the_policy_says() {
    let none = RetryOn::default();
    let cases = [
        (
            500,
            None,
            RetryOn {
                server_error: true,
                ..none
            },
        ),
        (
            503,
            None,
            RetryOn {
                gateway_error: true,
                ..none
            },
        ),
        (
            409,
            None,
            RetryOn {
                conflict: true,
                ..none
            },
        ),
        (
            425,
            None,
            RetryOn {
                statuses: true,
                ..none
            },
        ),
        (
            200,
            Some(14),
            RetryOn {
                grpc: 1 << 14,
                ..none
            },
        ),
    ];
    for (status, grpc, on) in cases {
        let outcome = Outcome::Answer { status, grpc };
        assert!(retryable(outcome, Some("POST"), &policy(on)), "{status}");
        assert!(!retryable(outcome, Some("GET"), &policy(none)), "{status}");
        let fine = Outcome::Answer {
            status: 200,
            grpc: Some(200),
        };
        assert!(!retryable(fine, Some("GET"), &policy(on)));
    }
    let gateway = RetryOn {
        gateway_error: true,
        ..none
    };
    let internal = Outcome::Answer {
        status: 500,
        grpc: None,
    };
    assert!(!retryable(internal, Some("GET"), &policy(gateway)));
}
