//! Who holds a service account's token: the API server of its cluster says so, and while that is away, its keys that we saw last.
//!
//! A token counts only for the audience that we name, so one that was made for the API server is worth nothing here. Checked with
//! cached keys (RFC 7515 and 7519, the keys of `/openid/v1/jwks`), a token counts until its end, even when its pod was deleted
//! meanwhile: nobody is there who could say so. The next certificate needs a review again.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents, UnparsedPublicKey,
};
use catamaran_model::{Namespace, PodName, ServiceAccount, Timestamp};
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec, TokenReviewStatus};
use kube::Api;
use kube::api::PostParams;
use serde::Deserialize;
use serde_json::Value;

use crate::base64;
use crate::connect::Access;
use crate::failure::{Failure, printable};

/// An answer may take this long.
const LIMIT: Duration = Duration::from_secs(5);
/// The longest token that is looked at.
const MAX_TOKEN: usize = 16 << 10;
/// The most keys that are kept.
const MAX_KEYS: usize = 32;
const ACCOUNT: &str = "system:serviceaccount:";
const POD_NAME: &str = "authentication.kubernetes.io/pod-name";

/// Checks tokens of one cluster.
#[derive(Debug)]
pub struct Reviewer {
    access: Access,
    audiences: Vec<String>,
    keys: ArcSwapOption<Keys>,
}

/// Whose a token is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// The account's namespace.
    pub namespace: Namespace,
    /// The account.
    pub account: ServiceAccount,
    /// The pod that the token is bound to.
    pub pod: Option<PodName>,
    /// Who said so.
    pub by: By,
}

/// Who vouches for a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// The API server, just now.
    Server,
    /// The API server's keys, while it is away.
    CachedKeys,
}

/// Why a token proves nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReviewError {
    /// It does not count.
    #[error("the token is not accepted: {0}")]
    Refused(String),
    /// Nobody could be asked, and no key is known.
    #[error("the token cannot be checked now: {0}; try again")]
    Unavailable(String),
}

impl Reviewer {
    /// Checks tokens of the cluster that `access` leads to, for any of the audiences.
    pub fn new(access: Access, audiences: impl IntoIterator<Item = String>) -> Reviewer {
        Reviewer {
            access,
            audiences: audiences.into_iter().collect(),
            keys: ArcSwapOption::empty(),
        }
    }

    /// Says whose a token is.
    ///
    /// # Errors
    /// Why it proves nothing, or that it cannot be checked.
    pub async fn review(&self, token: &str, now: Timestamp) -> Result<Holder, ReviewError> {
        if token.is_empty() || token.len() > MAX_TOKEN || token.split('.').count() != 3 {
            return Err(ReviewError::Refused(
                "it is no service account's token".into(),
            ));
        }
        match self.ask(token).await {
            Ok(status) => self.holder(status),
            // what the server says counts; only its silence does not
            Err(failure @ (Failure::Forbidden { .. } | Failure::Unauthorized { .. })) => {
                Err(ReviewError::Unavailable(failure.about("token reviews")))
            }
            Err(failure) => match self.keys.load_full() {
                Some(keys) => self.by_keys(&keys, token, now),
                None => Err(ReviewError::Unavailable(failure.about("token reviews"))),
            },
        }
    }

    async fn ask(&self, token: &str) -> Result<TokenReviewStatus, Failure> {
        let review = TokenReview {
            spec: TokenReviewSpec {
                audiences: Some(self.audiences.clone()),
                token: Some(token.to_owned()),
            },
            ..TokenReview::default()
        };
        let reviews: Api<TokenReview> = Api::all(self.access.client().clone());
        let params = PostParams::default();
        let answer = tokio::time::timeout(LIMIT, reviews.create(&params, &review)).await;
        let answer = answer.map_err(|_| Failure::Slow { limit: LIMIT })?;
        let answer = answer.map_err(|error| crate::api::of_error(&self.access, &error))?;
        Ok(answer.status.unwrap_or_default())
    }

    fn holder(&self, status: TokenReviewStatus) -> Result<Holder, ReviewError> {
        let refused = |why: &str| Err(ReviewError::Refused(why.to_owned()));
        if status.authenticated != Some(true) {
            let why = status
                .error
                .unwrap_or_else(|| "the API server does not know it".into());
            return refused(&printable(&why));
        }
        // a server that does not know audiences would accept any token
        let heard = status.audiences.unwrap_or_default();
        if !heard
            .iter()
            .any(|audience| self.audiences.contains(audience))
        {
            return refused("it is for another audience");
        }
        let user = status.user.unwrap_or_default();
        let pod = user.extra.unwrap_or_default().remove(POD_NAME);
        let pod = pod.and_then(|names| PodName::new(names.first()?).ok());
        match account(&user.username.unwrap_or_default()) {
            Some((namespace, account)) => Ok(Holder {
                namespace,
                account,
                pod,
                by: By::Server,
            }),
            None => refused("it is no service account's"),
        }
    }

    fn by_keys(&self, keys: &Keys, token: &str, now: Timestamp) -> Result<Holder, ReviewError> {
        keys.check(token, &self.audiences, now)
            .map_err(|why| ReviewError::Refused(why.to_owned()))
    }

    /// Asks for the cluster's keys and keeps them. When they do not come, those known before go on.
    ///
    /// # Errors
    /// Why there are no new ones.
    pub async fn refresh(&self) -> Result<(), Failure> {
        #[derive(Deserialize)]
        struct About {
            issuer: String,
        }
        let about: About = self.get("/.well-known/openid-configuration").await?;
        let set: Set = self.get("/openid/v1/jwks").await?;
        let keys: Vec<Key> = set.keys.iter().take(MAX_KEYS).filter_map(Key::of).collect();
        if keys.is_empty() {
            return Err(Failure::Unreadable {
                why: "there is no key in it that we know how to use".into(),
            });
        }
        self.keys.store(Some(Arc::new(Keys {
            issuer: about.issuer,
            keys,
        })));
        Ok(())
    }

    async fn get<T: for<'a> Deserialize<'a>>(&self, path: &str) -> Result<T, Failure> {
        let request = http::Request::get(path).body(Vec::new());
        let request = request.map_err(|error| Failure::Unreadable {
            why: error.to_string(),
        })?;
        let answer = tokio::time::timeout(LIMIT, self.access.client().request(request)).await;
        let answer = answer.map_err(|_| Failure::Slow { limit: LIMIT })?;
        answer.map_err(|error| crate::api::of_error(&self.access, &error))
    }
}

/// Namespace and name of a service account, by the name of its user.
fn account(user: &str) -> Option<(Namespace, ServiceAccount)> {
    let (namespace, account) = user.strip_prefix(ACCOUNT)?.split_once(':')?;
    Some((
        Namespace::new(namespace).ok()?,
        ServiceAccount::new(account).ok()?,
    ))
}

#[derive(Deserialize)]
struct Set {
    keys: Vec<Value>,
}

/// What a cluster signs its tokens with.
#[derive(Debug)]
struct Keys {
    issuer: String,
    keys: Vec<Key>,
}

#[derive(Debug)]
struct Key {
    id: Option<String>,
    public: Public,
}

#[derive(Debug)]
enum Public {
    Rsa {
        n: Vec<u8>,
        e: Vec<u8>,
    },
    /// A point of P-256, not compressed.
    P256(Vec<u8>),
}

impl Key {
    /// Of a JSON web key (RFC 7517); other kinds of keys are passed over.
    fn of(key: &Value) -> Option<Key> {
        let bytes = |name: &str| url(key[name].as_str()?);
        let public = match key["kty"].as_str()? {
            "RSA" => Public::Rsa {
                n: bytes("n")?,
                e: bytes("e")?,
            },
            "EC" if key["crv"] == "P-256" => {
                let (x, y) = (bytes("x")?, bytes("y")?);
                let whole = x.len() == 32 && y.len() == 32;
                whole.then(|| Public::P256([&[4][..], &x, &y].concat()))?
            }
            _ => return None,
        };
        Some(Key {
            id: key["kid"].as_str().map(str::to_owned),
            public,
        })
    }

    fn signed(&self, algorithm: &str, text: &str, signature: &[u8]) -> bool {
        let text = text.as_bytes();
        match (&self.public, algorithm) {
            (Public::Rsa { n, e }, "RS256") => RsaPublicKeyComponents { n, e }
                .verify(&RSA_PKCS1_2048_8192_SHA256, text, signature)
                .is_ok(),
            (Public::P256(point), "ES256") => {
                UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point)
                    .verify(text, signature)
                    .is_ok()
            }
            _ => false,
        }
    }
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
}

#[derive(Deserialize)]
struct Payload {
    iss: String,
    sub: String,
    aud: Audience,
    exp: u64,
    nbf: Option<u64>,
    #[serde(rename = "kubernetes.io")]
    kubernetes: Option<Bound>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Many(Vec<String>),
}

#[derive(Deserialize)]
struct Bound {
    pod: Option<Named>,
}

#[derive(Deserialize)]
struct Named {
    name: String,
}

impl Keys {
    fn check(
        &self,
        token: &str,
        audiences: &[String],
        now: Timestamp,
    ) -> Result<Holder, &'static str> {
        let broken = "it is no service account's token";
        let (signed, signature) = token.rsplit_once('.').ok_or(broken)?;
        let (header, payload) = signed.split_once('.').ok_or(broken)?;
        let header: Header = part(header).ok_or(broken)?;
        let signature = url(signature).ok_or(broken)?;
        let mut keys = self.keys.iter();
        let vouched = keys.any(|key| {
            let named = header.kid.is_none() || key.id.is_none() || header.kid == key.id;
            named && key.signed(&header.alg, signed, &signature)
        });
        if !vouched {
            return Err("none of the cluster's keys signed it");
        }
        let payload: Payload = part(payload).ok_or(broken)?;
        if payload.iss != self.issuer {
            return Err("another cluster issued it");
        }
        let heard = match payload.aud {
            Audience::One(audience) => vec![audience],
            Audience::Many(all) => all,
        };
        if !heard.iter().any(|audience| audiences.contains(audience)) {
            return Err("it is for another audience");
        }
        let seconds = now.0 / 1000;
        if seconds >= payload.exp {
            return Err("it has expired");
        }
        if payload.nbf.is_some_and(|from| seconds + 60 < from) {
            return Err("its time has not begun");
        }
        let (namespace, account) = account(&payload.sub).ok_or("it is no service account's")?;
        let pod = payload.kubernetes.and_then(|bound| bound.pod);
        Ok(Holder {
            namespace,
            account,
            pod: pod.and_then(|pod| PodName::new(&pod.name).ok()),
            by: By::CachedKeys,
        })
    }
}

/// One part of a token, read as JSON.
fn part<T: for<'a> Deserialize<'a>>(text: &str) -> Option<T> {
    serde_json::from_slice(&url(text)?).ok()
}

/// The encoding of tokens and keys (RFC 4648, section 5).
fn url(text: &str) -> Option<Vec<u8>> {
    base64::decode_url(text)
}

#[cfg(test)]
mod tests;
