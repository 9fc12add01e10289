//! Gets the workload's certificate, keeps it fresh, and keeps it over restarts.
//!
//! A key is made in memory for each certificate. The first request is proved by the join token, each later one by the
//! certificate still held. At half of a certificate's life, less some lot, a new one is asked for; until one comes, the old
//! one serves.
//!
//! # Which roots are believed
//! The roots to begin with are those of `--root-cert`. A signer's answer may bring others, and they are adopted under these
//! rules, which let a root be replaced in steps ({A}, {A, B}, {B}) and in no other way:
//! 1. The answer came from a control plane that was verified with the roots trusted now, under its exact identity.
//! 2. The new roots share at least one with those trusted now: a step adds or removes, and never replaces all at once.
//! 3. The certificate in the answer holds under the new roots.
//!
//! Adopted roots are saved with the certificate, along with the fingerprints of `--root-cert` at that time. At the next
//! start they count as long as that file has not changed; if it has, the file counts, and what was saved is used only if it
//! shares a root with the file. A proxy that slept through all steps of a rotation needs a new `--root-cert`.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use catamaran_identity::{
    BundleError, Credentials, Holding, HoldingError, JoinError, JoinToken, KeyError, KeyPair,
    TrustBundle,
};
use catamaran_model::{ClusterId, Fingerprint, SpiffeId, Timestamp};
use catamaran_wire::csr::IstioCertificateRequest;
use catamaran_wire::grpc::IstioCertificateClient;
use rustls::time_provider::TimeProvider;
use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, watch};
use zeroize::Zeroizing;

use crate::Config;
use crate::backoff::{Backoff, lot};
use crate::config::ControlPlaneAddress;
use crate::saved;
use crate::uplink::{Uplink, UplinkError};

/// The longest token that is shown.
const MAX_TOKEN: usize = 16 << 10;
/// Without an answer for so long a request for a certificate has failed.
const SIGN_WAIT: Duration = Duration::from_secs(10);
const RETRY_LEAST: Duration = Duration::from_millis(100);
const RETRY_MOST: Duration = Duration::from_secs(60);
/// Certificates are not asked for more often than this, however short they live.
const RENEW_LEAST: Duration = Duration::from_secs(1);
/// The clock is looked at again at least this often, because it may jump.
const LOOK_AGAIN: Duration = Duration::from_secs(30);
/// The name of the file in the folder of saved state.
const FILE: &str = "certificate";

/// Why a proxy has no certificate, or no new one.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// The roots to begin with cannot be read.
    #[error("--root-cert {}: {source}; nothing can be trusted without it", path.display())]
    RootFile {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The roots to begin with are none.
    #[error("--root-cert {}: {source}", path.display())]
    Roots {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: BundleError,
    },
    /// There is nothing to prove the identity with.
    #[error(
        "no certificate is held that is still valid, and no --join-token was given; start the pod again with a new token"
    )]
    NoProof,
    /// The token cannot be read.
    #[error("--join-token {}: {source}", path.display())]
    TokenFile {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The token is none.
    #[error(transparent)]
    Token(#[from] JoinError),
    /// No key could be made.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The control plane was not reached.
    #[error("{0}")]
    Uplink(String),
    /// The control plane refuses to sign.
    #[error("control plane {address} does not sign: {reason}")]
    Refused {
        /// Which.
        address: ControlPlaneAddress,
        /// Its words.
        reason: String,
    },
    /// What came back cannot be used.
    #[error("control plane {address} signed, but not what can be used: {source}")]
    Unusable {
        /// Which.
        address: ControlPlaneAddress,
        /// What is wrong.
        source: Box<HoldingError>,
    },
    /// The roots that came with it share nothing with those trusted.
    #[error(
        "control plane {address} offers roots ({}) that share none with those trusted ({}); the root was replaced while this proxy \
         was away; give it the new --root-cert",
        short(offered),
        short(trusted)
    )]
    OtherRoots {
        /// Which.
        address: ControlPlaneAddress,
        /// What it offers.
        offered: Vec<Fingerprint>,
        /// What is trusted.
        trusted: Vec<Fingerprint>,
    },
}

impl From<UplinkError> for CertificateError {
    fn from(error: UplinkError) -> Self {
        CertificateError::Uplink(error.to_string())
    }
}

fn short(prints: &[Fingerprint]) -> String {
    let prints = prints.iter().map(|print| print.to_string());
    let short: Vec<String> = prints
        .map(|print| print.chars().take(12).collect())
        .collect();
    short.join(", ")
}

/// How it stands with the certificate, for status.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct CertificateStatus {
    /// When a new one will be asked for.
    pub(crate) renew_at: Option<Timestamp>,
    /// What went wrong since the last success.
    pub(crate) failure: Option<String>,
    /// How often in a row it went wrong.
    pub(crate) failures: u32,
}

/// What is saved; the key makes it a file of mode 0600.
#[derive(Serialize, Deserialize)]
struct Saved {
    chain: String,
    key: String,
    roots: String,
    /// The fingerprints of `--root-cert` when this was saved.
    root_file: Vec<String>,
}

/// The certificate's keeper.
#[derive(Debug)]
pub(crate) struct Keeper {
    identity: SpiffeId,
    cluster: ClusterId,
    control_planes: Vec<ControlPlaneAddress>,
    /// Which of them to ask first.
    next: usize,
    token: Option<PathBuf>,
    file: PathBuf,
    root_file: Vec<String>,
    credentials: Arc<Credentials>,
    uplink: Uplink,
    status: watch::Sender<CertificateStatus>,
    asked: Arc<Notify>,
}

/// The wall clock.
pub(crate) fn now() -> Timestamp {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    Timestamp(since.as_millis() as u64)
}

impl Keeper {
    /// Takes up what was saved, if it can be used.
    ///
    /// # Errors
    /// The roots of `--root-cert` cannot be used.
    pub(crate) fn start(
        config: &Config,
        clock: Arc<dyn TimeProvider>,
    ) -> Result<Keeper, CertificateError> {
        let path = config.root_cert.clone();
        let roots =
            std::fs::read_to_string(&path).map_err(|source| CertificateError::RootFile {
                path: path.clone(),
                source,
            })?;
        let bundle = TrustBundle::from_pem(&config.trust_domain, &roots)
            .map_err(|source| CertificateError::Roots { path, source })?;
        let prints = bundle.fingerprints();
        let root_file: Vec<String> = prints.iter().map(|print| print.to_string()).collect();
        let identity = config.identity();
        let file = config.saved(FILE);

        let credentials = Arc::new(match restore(&file, &identity, &bundle, &root_file) {
            Some(holding) => Credentials::new(holding, clock),
            None => Credentials::anonymous(bundle, clock),
        });
        Ok(Keeper {
            uplink: Uplink::new(credentials.clone(), config.control_plane_identity()),
            identity,
            cluster: config.cluster.clone(),
            control_planes: config.control_planes.clone(),
            next: 0,
            token: config.join_token.clone(),
            file,
            root_file,
            credentials,
            status: watch::Sender::default(),
            asked: Arc::default(),
        })
    }

    pub(crate) fn credentials(&self) -> Arc<Credentials> {
        self.credentials.clone()
    }

    pub(crate) fn status(&self) -> watch::Receiver<CertificateStatus> {
        self.status.subscribe()
    }

    /// Who is notified here asks for a new certificate now.
    pub(crate) fn asked(&self) -> Arc<Notify> {
        self.asked.clone()
    }

    /// Keeps the certificate fresh, for ever.
    pub(crate) async fn keep(mut self) {
        let mut backoff = Backoff::new(RETRY_LEAST, RETRY_MOST);
        let mut due = self.due();
        loop {
            self.status.send_modify(|status| status.renew_at = due);
            while let Some(at) = due {
                let left = at.since(now());
                if left.is_zero() {
                    break;
                }
                tokio::select! {
                    () = tokio::time::sleep(left.min(LOOK_AGAIN)) => {}
                    () = self.asked.notified() => {
                        tokio::time::sleep(RENEW_LEAST).await;
                        break;
                    }
                }
            }
            match self.renew().await {
                Ok(()) => {
                    backoff.reset();
                    let soon = now().after(RENEW_LEAST);
                    due = self.due().map(|at| at.max(soon));
                    self.status.send_modify(|status| {
                        status.failure = None;
                        status.failures = 0;
                    });
                }
                Err(error) => {
                    let wait = backoff.wait();
                    tracing::warn!(%error, again_in = ?wait, "no new certificate");
                    self.status.send_modify(|status| {
                        status.failure = Some(error.to_string());
                        status.failures += 1;
                    });
                    tokio::time::sleep(wait).await;
                    due = None;
                }
            }
        }
    }

    /// When to ask for a new certificate; `None` for now.
    fn due(&self) -> Option<Timestamp> {
        self.valid().map(|held| held.renew_at(lot() as u8))
    }

    fn valid(&self) -> Option<Arc<Holding>> {
        let held = self.credentials.holding()?;
        (!held.left(now()).is_zero()).then_some(held)
    }

    /// Asks one control plane after the other for a new certificate, takes it up and saves it.
    pub(crate) async fn renew(&mut self) -> Result<(), CertificateError> {
        let mut failure = CertificateError::NoProof;
        for _ in 0..self.control_planes.len() {
            let at = self.next % self.control_planes.len();
            match self.ask(&self.control_planes[at]).await {
                Ok(holding) => {
                    let until = holding.not_after();
                    self.credentials.install(holding);
                    tracing::info!(identity = %self.identity, %until, "holding a new certificate");
                    self.save();
                    return Ok(());
                }
                Err(error) => {
                    self.next = self.next.wrapping_add(1);
                    failure = error;
                }
            }
        }
        Err(failure)
    }

    async fn ask(&self, address: &ControlPlaneAddress) -> Result<Holding, CertificateError> {
        let token = match (self.valid(), &self.token) {
            (Some(_), _) => None,
            (None, Some(path)) => Some(read_token(path)?),
            (None, None) => return Err(CertificateError::NoProof),
        };
        let key = KeyPair::generate()?;
        let mut request = tonic::Request::new(IstioCertificateRequest {
            csr: key.request(&self.identity)?,
            ..IstioCertificateRequest::default()
        });
        request.set_timeout(SIGN_WAIT);
        let metadata = request.metadata_mut();
        if let Some(token) = token {
            let text = format!("Bearer {}", token.as_str());
            if let Ok(mut value) = tonic::metadata::MetadataValue::try_from(text) {
                value.set_sensitive(true);
                metadata.insert("authorization", value);
            }
        }
        if let Ok(cluster) = self.cluster.as_str().parse() {
            metadata.insert("clusterid", cluster);
        }

        let trusted = self.credentials.bundle();
        let channel = self.uplink.connect(address).await?;
        let refused = |reason: String| CertificateError::Refused {
            address: address.clone(),
            reason,
        };
        let answer = tokio::time::timeout(
            SIGN_WAIT,
            IstioCertificateClient::new(channel).create_certificate(request),
        )
        .await
        .map_err(|_| refused(format!("no answer within {} s", SIGN_WAIT.as_secs())))?
        .map_err(|status| refused(format!("{}: {}", status.code(), status.message())))?;

        let chain = answer.into_inner().cert_chain;
        let holding =
            Holding::from_response(&chain, key, &self.identity, now()).map_err(|source| {
                CertificateError::Unusable {
                    address: address.clone(),
                    source: Box::new(source),
                }
            })?;
        if !holding.bundle().trusts_same_root(&trusted) {
            return Err(CertificateError::OtherRoots {
                address: address.clone(),
                offered: holding.bundle().fingerprints(),
                trusted: trusted.fingerprints(),
            });
        }
        Ok(holding)
    }

    fn save(&self) {
        let Some(holding) = self.credentials.holding() else {
            return;
        };
        let saved = Saved {
            chain: holding.chain_pem(),
            key: holding.key_pem().to_string(),
            roots: holding.roots_pem(),
            root_file: self.root_file.clone(),
        };
        let written = serde_json::to_vec(&saved)
            .map_err(|error| error.to_string())
            .and_then(|content| {
                saved::write(&self.file, &self.identity.to_string(), &content)
                    .map_err(|error| error.to_string())
            });
        if let Err(error) = written {
            tracing::warn!(
                error,
                "the certificate is not saved; a restart will need a join token"
            );
        }
    }
}

/// A join token, or a token of a Kubernetes service account, which is passed on as it is: only its cluster can judge it.
fn read_token(path: &PathBuf) -> Result<Zeroizing<String>, CertificateError> {
    let text = std::fs::read_to_string(path).map_err(|source| CertificateError::TokenFile {
        path: path.clone(),
        source,
    })?;
    let text = Zeroizing::new(text);
    match JoinToken::parse(&text) {
        Ok(token) => Ok(token.text()),
        Err(_) if is_account_token(text.trim()) => Ok(Zeroizing::new(text.trim().to_owned())),
        Err(error) => Err(error.into()),
    }
}

/// Whether a text has the form of a JSON web token (RFC 7519).
fn is_account_token(text: &str) -> bool {
    let part = |part: &str| {
        let letter = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
        !part.is_empty() && part.bytes().all(letter)
    };
    text.len() <= MAX_TOKEN && text.split('.').count() == 3 && text.split('.').all(part)
}

/// What was saved, if it is still good; says why not otherwise.
fn restore(
    file: &std::path::Path,
    identity: &SpiffeId,
    bundle: &TrustBundle,
    root_file: &[String],
) -> Option<Holding> {
    let passed_over = |reason: String| tracing::warn!(file = %file.display(), reason, "the saved certificate is not used");
    let content = match saved::read(file, &identity.to_string()) {
        Ok(content) => content?,
        Err(error) => {
            passed_over(error.to_string());
            return None;
        }
    };
    let holding = serde_json::from_slice::<Saved>(&content)
        .map_err(|error| error.to_string())
        .and_then(|saved| {
            let key = KeyPair::from_pem(&saved.key).map_err(|error| error.to_string())?;
            let held = Holding::from_pem(&saved.chain, key, &saved.roots, identity, now())
                .map_err(|error| error.to_string())?;
            let same_file = saved.root_file == root_file;
            if same_file || held.bundle().trusts_same_root(bundle) {
                Ok(held)
            } else {
                Err("--root-cert was replaced, and shares no root with it".into())
            }
        });
    match holding {
        Ok(holding) => {
            tracing::info!(%identity, until = %holding.not_after(), "going on with the saved certificate");
            Some(holding)
        }
        Err(reason) => {
            passed_over(reason);
            None
        }
    }
}

#[cfg(test)]
mod tests;
