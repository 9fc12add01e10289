//! `istio.v1.auth.IstioCertificateService`: signs for who proves to be somebody, and for nobody else.
//!
//! Proof is a token (`authorization: Bearer TOKEN`), or the certificate of this instance that the connection shows and that is
//! still valid. In a local cluster a token is a one-time join token, in a cluster with an API server that of a service account. The identity comes from the proof, never from the request. A token is used up only by a
//! request that gets its certificate, and by one of those that race for it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use catamaran_identity::{
    Csr, JoinError, JoinToken, LEAF_LIFE, MIN_LEAF_LIFE, SignError, fingerprint,
};
use catamaran_kubernetes::review::{By, ReviewError};
use catamaran_model::{ClusterId, SpiffeId, Timestamp};
use catamaran_wire::csr::{IstioCertificateRequest, IstioCertificateResponse};
use catamaran_wire::grpc::IstioCertificateService;
use prometheus_client::metrics::counter::Counter;
use rustls::pki_types::CertificateDer;
use serde::Deserialize;
use tonic::{Request, Response, Status};

use crate::managed::Reviewers;
use crate::serving::{Authority, Caller};

/// The largest record of a token.
const MAX_RECORD: u64 = 16 << 10;
/// The longest text of a token.
const MAX_TOKEN: usize = 1024;
/// Records that are looked at for one token.
const MAX_RECORDS: usize = 10_000;

/// Signs for proxies.
pub(crate) struct Signer {
    pub(crate) authority: Arc<Authority>,
    pub(crate) cluster: ClusterId,
    pub(crate) tokens: Tokens,
    pub(crate) now: fn() -> Timestamp,
    pub(crate) signed: Counter,
    pub(crate) refused: Counter,
}

/// What tokens are, and who knows whose they are.
pub(crate) enum Tokens {
    /// One-time join tokens, by the records in `private/join`.
    Join(PathBuf),
    /// Tokens of service accounts, each checked in the cluster that it is said to be of.
    Accounts(Arc<Reviewers>),
}

/// Who asks, and what proves it.
struct Proof {
    identity: SpiffeId,
    /// The record of the token, to be used up.
    record: Option<PathBuf>,
}

impl IstioCertificateService for Signer {
    async fn create_certificate(
        &self,
        request: Request<IstioCertificateRequest>,
    ) -> Result<Response<IstioCertificateResponse>, Status> {
        let answer = self.answer(request).await;
        match &answer {
            Ok(_) => self.signed.inc(),
            Err(_) => self.refused.inc(),
        };
        answer
    }
}

impl Signer {
    async fn answer(
        &self,
        request: Request<IstioCertificateRequest>,
    ) -> Result<Response<IstioCertificateResponse>, Status> {
        let now = (self.now)();
        let issuer = self.authority.issuer().ok_or_else(|| {
            Status::unavailable("the control plane has no authority to sign with yet; try again")
        })?;
        let proof = self.proof(&request, now).await?;
        let address = request
            .extensions()
            .get::<Arc<Caller>>()
            .map(|caller| caller.address);
        let identity = proof.identity.clone();
        let asked = request.into_inner();
        let life = u64::try_from(asked.validity_duration)
            .ok()
            .filter(|seconds| *seconds > 0);
        let life = life.map(|seconds| Duration::from_secs(seconds).clamp(MIN_LEAF_LIFE, LEAF_LIFE));
        let signed = tokio::task::spawn_blocking(move || {
            let csr = Csr::from_pem(&asked.csr)
                .map_err(|error| Status::invalid_argument(error.to_string()))?;
            let issued = issuer
                .sign(&csr, &proof.identity, life, now)
                .map_err(refusal)?;
            if let Some(record) = proof.record {
                use_up(&record)?;
            }
            Ok::<_, Status>(issued)
        });
        let issued = signed
            .await
            .map_err(|error| Status::internal(error.to_string()))??;
        tracing::info!(%identity, ?address, "signed until {}", crate::status::utc(issued.facts.not_after));
        Ok(Response::new(IstioCertificateResponse {
            cert_chain: issued.pems(),
        }))
    }

    async fn proof(
        &self,
        request: &Request<IstioCertificateRequest>,
        now: Timestamp,
    ) -> Result<Proof, Status> {
        if let Some(header) = request.metadata().get("authorization") {
            let bearer = header
                .to_str()
                .ok()
                .and_then(|text| text.strip_prefix("Bearer "));
            let text = bearer.ok_or_else(|| {
                Status::unauthenticated("the authorization header must be `Bearer` and a token")
            })?;
            let join = match &self.tokens {
                Tokens::Accounts(reviewers) => {
                    let claimed = request.metadata().get("clusterid");
                    let claimed = claimed.and_then(|name| name.to_str().ok());
                    return self.reviewed(reviewers, text, claimed, now).await;
                }
                Tokens::Join(join) => join.clone(),
            };
            let token =
                Token::of(text).map_err(|error| Status::unauthenticated(error.to_string()))?;
            let cluster = self.cluster.clone();
            let found = tokio::task::spawn_blocking(move || find(&join, &token, &cluster, now));
            return found
                .await
                .map_err(|error| Status::internal(error.to_string()))?;
        }
        let caller = request
            .extensions()
            .get::<Arc<Caller>>()
            .ok_or_else(|| Status::internal("the connection is not known"))?;
        let peer = caller
            .peer(now)
            .map_err(|error| Status::unauthenticated(error.to_string()))?;
        let peer = peer.ok_or_else(|| {
            Status::unauthenticated(
                "nothing proves who asks: show a join token (authorization: Bearer TOKEN), or the certificate that this \
                 instance issued before",
            )
        })?;
        if !self.authority.issued(&peer, now) {
            return Err(Status::permission_denied(format!(
                "the certificate of {} was not issued by this instance; ask the control plane of its own cluster",
                peer.id
            )));
        }
        Ok(Proof {
            identity: peer.id,
            record: None,
        })
    }
}

impl Signer {
    /// Whose a service account's token is, in the trust domain that we sign for.
    async fn reviewed(
        &self,
        reviewers: &Reviewers,
        token: &str,
        claimed: Option<&str>,
        now: Timestamp,
    ) -> Result<Proof, Status> {
        let claimed = claimed.unwrap_or(self.cluster.as_str());
        let reviewer = match claimed == self.cluster.as_str() {
            true => reviewers.own(),
            false => reviewers.of(claimed).ok_or_else(|| {
                let others = reviewers.clusters().into_iter();
                let all: Vec<String> = others.map(|cluster| format!(", {cluster}")).collect();
                Status::permission_denied(format!(
                    "the token is said to be of cluster {}, and this instance signs for workloads of {}{}; ask the control \
                     plane of its own cluster",
                    claimed.chars().take(253).collect::<String>(),
                    self.cluster,
                    all.concat()
                ))
            })?,
        };
        let issuer = self.authority.issuer().ok_or_else(|| {
            Status::unavailable("the control plane has no authority to sign with yet; try again")
        })?;
        let holder = reviewer
            .review(token, now)
            .await
            .map_err(|error| match error {
                ReviewError::Refused(_) => Status::unauthenticated(error.to_string()),
                ReviewError::Unavailable(_) => Status::unavailable(error.to_string()),
            })?;
        let identity = SpiffeId::new(
            issuer.trust_domain().clone(),
            holder.namespace,
            holder.account,
        );
        // a workload that could become the control plane would rule the mesh
        if identity == SpiffeId::control_plane(issuer.trust_domain().clone()) {
            return Err(Status::permission_denied(format!(
                "{identity} is the control plane's own; it is not signed for anybody who asks"
            )));
        }
        if holder.by == By::CachedKeys {
            tracing::warn!(%identity, cluster = claimed, "the API server is away; the token was checked with the keys it had");
        }
        Ok(Proof {
            identity,
            record: None,
        })
    }
}

fn refusal(error: SignError) -> Status {
    let text = error.to_string();
    match error {
        SignError::Csr(_) | SignError::Life(_) => Status::invalid_argument(text),
        SignError::OtherIdentity { .. } | SignError::OtherTrustDomain { .. } => {
            Status::permission_denied(text)
        }
        SignError::IssuerNotValid { .. } => Status::unavailable(text),
        SignError::Key(_) | SignError::Broken(_) => Status::internal(text),
    }
}

/// A record as the node writes it.
#[derive(Deserialize)]
struct Record {
    /// Of the token's text, in hex.
    sha256: String,
    identity: String,
    cluster: String,
    /// Seconds since 1970.
    expires: u64,
}

impl Record {
    fn read(path: &Path) -> Option<Record> {
        if std::fs::metadata(path).ok()?.len() > MAX_RECORD {
            return None;
        }
        serde_json::from_slice(&std::fs::read(path).ok()?).ok()
    }

    /// Whom the token proves to be its holder; `Unknown` for the record of another token.
    fn admit(
        &self,
        token: &Token,
        cluster: &ClusterId,
        now: Timestamp,
    ) -> Result<SpiffeId, JoinError> {
        if !token.hashes.contains(&self.sha256) || self.cluster != cluster.as_str() {
            return Err(JoinError::Unknown);
        }
        let identity = SpiffeId::parse(&self.identity).map_err(|_| JoinError::Unknown)?;
        let expires = Timestamp(self.expires.saturating_mul(1000));
        match now >= expires {
            true => Err(JoinError::Expired {
                identity,
                expires,
                now,
            }),
            false => Ok(identity),
        }
    }
}

/// A token as it was shown. Only hashes of it are compared, so how long that takes says nothing.
struct Token {
    hashes: Vec<String>,
}

impl Token {
    /// Of its text, and for tokens of [`JoinToken`]'s form also of the bytes that the text stands for.
    fn of(text: &str) -> Result<Token, JoinError> {
        let text = text.trim();
        if text.is_empty() || text.len() > MAX_TOKEN {
            return Err(JoinError::Malformed);
        }
        let text_hash = fingerprint(&CertificateDer::from(text.as_bytes())).to_string();
        let mut hashes = vec![text_hash];
        hashes.extend(JoinToken::parse(text).ok().map(|token| token.sha256()));
        Ok(Token { hashes })
    }
}

/// Looks for the token among the records. Ones that cannot be read are passed over: they prove nothing.
fn find(join: &Path, token: &Token, cluster: &ClusterId, now: Timestamp) -> Result<Proof, Status> {
    let entries = std::fs::read_dir(join).map_err(|error| {
        Status::unavailable(format!(
            "the records of join tokens cannot be read: {error}; try again"
        ))
    })?;
    let mut refused = JoinError::Unknown;
    for path in entries
        .flatten()
        .map(|entry| entry.path())
        .take(MAX_RECORDS)
    {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.starts_with('.') || !name.ends_with(".json") {
            continue;
        }
        let Some(record) = Record::read(&path) else {
            continue;
        };
        match record.admit(token, cluster, now) {
            Ok(identity) => {
                return Ok(Proof {
                    identity,
                    record: Some(path),
                });
            }
            Err(JoinError::Unknown) => {}
            Err(other) => refused = other,
        }
    }
    Err(Status::unauthenticated(refused.to_string()))
}

/// Of those that race for a token one renames its record; the others find it gone.
fn use_up(record: &Path) -> Result<(), Status> {
    let name = record.file_name().unwrap_or_default().to_string_lossy();
    let used = record.with_file_name(format!(".used-{name}"));
    match std::fs::rename(record, &used) {
        Ok(()) => {
            // The name is out of reach of requests; a leftover is only litter.
            let _ = std::fs::remove_file(&used);
            Ok(())
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let unknown = JoinError::Unknown;
            Err(Status::unauthenticated(unknown.to_string()))
        }
        Err(error) => Err(Status::unavailable(format!(
            "the join token cannot be marked as used ({error}), so nothing was signed; try again"
        ))),
    }
}

#[cfg(test)]
mod tests;
