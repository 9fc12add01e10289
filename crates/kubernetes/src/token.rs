//! Tokens that renew themselves: a reader's token may create the next one, so it lives on while somebody uses it.
//!
//! The life that the API server grants can be shorter than the one asked for, so it is always shown. What has expired, for
//! nobody could reach the server, is renewed by a person.

use std::fmt;
use std::time::Duration;

use catamaran_model::{Namespace, ServiceAccount, Timestamp};
use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::ServiceAccount as Account;
use kube::Api;
use kube::api::PostParams;
use serde::Deserialize;
use tokio::sync::watch;
use zeroize::Zeroizing;

use crate::base64;
use crate::connect::Access;
use crate::failure::Failure;

/// The life we ask for. API servers may grant less, and have 10 minutes as the least.
pub const LIFE: Duration = Duration::from_secs(24 * 3600);

/// A token, and how long it lives.
#[derive(Clone, PartialEq, Eq)]
pub struct Granted {
    /// The token itself.
    pub token: Zeroizing<String>,
    /// From when it counts.
    pub from: Timestamp,
    /// When it ends.
    pub until: Timestamp,
}

impl fmt::Debug for Granted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Granted(token not shown, until {})", self.until)
    }
}

impl Granted {
    /// The life that was granted.
    pub fn life(&self) -> Duration {
        self.until.since(self.from)
    }

    /// When to ask for the next one: at half of its life.
    pub fn renew_at(&self) -> Timestamp {
        self.from.after(self.life() / 2)
    }
}

/// What a service account's token says of itself. It is read and not believed: only the API server can check it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claims {
    /// Whose it is.
    pub namespace: Namespace,
    /// Whose it is.
    pub account: ServiceAccount,
    /// Its life, when it has an end.
    pub life: Option<(Timestamp, Timestamp)>,
}

/// Reads a token of a service account; `None` for one that is something else.
pub fn claims(token: &str) -> Option<Claims> {
    #[derive(Deserialize)]
    struct Payload {
        sub: String,
        iat: Option<u64>,
        nbf: Option<u64>,
        exp: Option<u64>,
    }
    let mut parts = token.split('.');
    let (_, payload, _) = (parts.next()?, parts.next()?, parts.next()?);
    let bytes = base64::decode_url(payload)?;
    let payload: Payload = serde_json::from_slice(&bytes).ok()?;
    let mut sub = payload
        .sub
        .strip_prefix("system:serviceaccount:")?
        .splitn(2, ':');
    let seconds = |s: u64| Timestamp(s.saturating_mul(1000));
    Some(Claims {
        namespace: Namespace::new(sub.next()?).ok()?,
        account: ServiceAccount::new(sub.next()?).ok()?,
        life: match (payload.iat.or(payload.nbf), payload.exp) {
            (Some(from), Some(until)) => Some((seconds(from), seconds(until))),
            _ => None,
        },
    })
}

/// Asks for a token of a service account, for the API server itself and for nobody else.
pub async fn request(
    access: &Access,
    namespace: &Namespace,
    account: &ServiceAccount,
    life: Duration,
) -> Result<Granted, Failure> {
    let ask = TokenRequest {
        spec: TokenRequestSpec {
            // None named: the server's own.
            audiences: Vec::new(),
            expiration_seconds: Some(life.as_secs() as i64),
            bound_object_ref: None,
        },
        ..TokenRequest::default()
    };
    let accounts: Api<Account> = Api::namespaced(access.client().clone(), namespace.as_str());
    let params = PostParams::default();
    let ask = accounts.create_token_request(account.as_str(), &params, &ask);
    let limit = Duration::from_secs(30);
    let answer = tokio::time::timeout(limit, ask).await;
    let answer = answer.map_err(|_| Failure::Slow { limit })?;
    let answer = answer.map_err(|error| crate::api::of_error(access, &error))?;
    let status = answer.status.ok_or_else(|| Failure::Unreadable {
        why: "the answer has no token".into(),
    })?;
    let until = Timestamp(status.expiration_timestamp.0.as_millisecond().max(0) as u64);
    let token = Zeroizing::new(status.token);
    let said = claims(&token).and_then(|claims| claims.life);
    Ok(Granted {
        from: said.map_or_else(
            || Timestamp(until.0.saturating_sub(life.as_millis() as u64)),
            |(from, _)| from,
        ),
        until,
        token,
    })
}

/// How the renewal of a token goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Renewal {
    /// The token has no end, or is no service account's: there is nothing to renew.
    Endless,
    /// It is renewed in time.
    InTime(Granted),
    /// It could not be renewed and is tried again; with when the present one ends.
    Failing {
        /// Why.
        reason: String,
        /// The end of the present one.
        until: Timestamp,
    },
}

/// Renews the token that `access` shows for as long as it is polled, and tells each new one, so that it can be kept.
///
/// What is open stays open: a new token is shown from the next request on.
pub async fn keep(
    access: Access,
    token: Zeroizing<String>,
    now: fn() -> Timestamp,
    told: watch::Sender<Renewal>,
) {
    let claims = claims(&token);
    let Some((claims, (from, until))) = claims.and_then(|c| c.life.map(|life| (c, life))) else {
        told.send_replace(Renewal::Endless);
        return std::future::pending().await;
    };
    let mut granted = Granted { token, from, until };
    told.send_replace(Renewal::InTime(granted.clone()));
    let mut pause = RETRY_FIRST;
    loop {
        tokio::time::sleep(granted.renew_at().since(now())).await;
        let asked = request(&access, &claims.namespace, &claims.account, LIFE).await;
        let renewed = asked.and_then(|next| {
            let renewed = access.renew(&next.token);
            renewed.map(|()| next).map_err(|error| Failure::Unreadable {
                why: error.to_string(),
            })
        });
        match renewed {
            Ok(next) => {
                tracing::info!(server = %access.server(), life = ?next.life(), "the token was renewed");
                granted = next;
                pause = RETRY_FIRST;
                told.send_replace(Renewal::InTime(granted.clone()));
            }
            Err(failure) => {
                let reason = failure.about("tokens of our own");
                told.send_replace(Renewal::Failing {
                    reason,
                    until: granted.until,
                });
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(RETRY_LONGEST);
            }
        }
    }
}

const RETRY_FIRST: Duration = Duration::from_secs(1);
const RETRY_LONGEST: Duration = Duration::from_secs(60);
