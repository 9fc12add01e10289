//! One-time proof of who a workload of a local cluster is, before it has a certificate.

use std::fmt;

use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use catamaran_model::{ClusterId, SpiffeId, Timestamp};
use zeroize::Zeroizing;

use crate::base64;
use crate::certificate::{date, sha256};

/// 32 random bytes. The workload gets the text; the signer keeps only its SHA-256.
#[derive(Clone)]
pub struct JoinToken(Zeroizing<[u8; 32]>);

impl fmt::Debug for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JoinToken(secret)")
    }
}

/// Why a token proves nothing. The fault is with who gave the token, or with its age.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JoinError {
    /// It is not a token's text.
    #[error(
        "this is neither a join token (43 characters of base64url) nor a token of a service account (three parts with dots between)"
    )]
    Malformed,
    /// It is another token than the record's.
    #[error("the join token is not known; it was used before, or was made for another cluster")]
    Unknown,
    /// It is too old.
    #[error(
        "the join token for {identity} ended at {end}, and it is {here}; the node makes a new one when it starts the pod again", here = date(.now), end = date(.expires))]
    Expired {
        /// Whom it was made for.
        identity: SpiffeId,
        /// Its end.
        expires: Timestamp,
        /// The time it was shown at.
        now: Timestamp,
    },
    /// The machine's random source failed.
    #[error("the machine's random source failed; trying again may help")]
    Random,
}

impl JoinToken {
    /// Draws a token from the operating system's random source.
    pub fn generate() -> Result<JoinToken, JoinError> {
        let mut bytes = Zeroizing::new([0; 32]);
        SystemRandom::new()
            .fill(bytes.as_mut())
            .map_err(|_| JoinError::Random)?;
        Ok(JoinToken(bytes))
    }

    /// Takes 32 bytes that were drawn elsewhere.
    pub fn from_bytes(bytes: [u8; 32]) -> JoinToken {
        JoinToken(Zeroizing::new(bytes))
    }

    /// Reads its text, surrounding white space aside.
    pub fn parse(text: &str) -> Result<JoinToken, JoinError> {
        base64::decode_url_32(text.trim())
            .map(JoinToken::from_bytes)
            .ok_or(JoinError::Malformed)
    }

    /// Its text: 43 characters of base64url.
    pub fn text(&self) -> Zeroizing<String> {
        Zeroizing::new(base64::encode_url(self.0.as_ref()))
    }

    /// SHA-256 of its 32 bytes, in hex: how it is known to the signer.
    pub fn sha256(&self) -> String {
        sha256(self.0.as_ref())
            .iter()
            .map(|b| format!("{b:02x}"))
            .collect()
    }

    /// The record by which the signer will know it.
    pub fn record(&self, identity: SpiffeId, cluster: ClusterId, expires: Timestamp) -> JoinRecord {
        JoinRecord {
            sha256: self.sha256(),
            identity,
            cluster,
            expires,
        }
    }
}

/// What the signer keeps of a token. It is removed when the token was used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinRecord {
    /// SHA-256 of the token, in hex.
    pub sha256: String,
    /// Whom the token was made for.
    pub identity: SpiffeId,
    /// The cluster it may be shown in.
    pub cluster: ClusterId,
    /// When it ends.
    pub expires: Timestamp,
}

impl JoinRecord {
    /// Whom `token` proves to be its holder, shown to the signer of `cluster` at `now`.
    pub fn admit(
        &self,
        token: &JoinToken,
        cluster: &ClusterId,
        now: Timestamp,
    ) -> Result<&SpiffeId, JoinError> {
        let matches = aws_lc_rs::constant_time::verify_slices_are_equal(
            self.sha256.as_bytes(),
            token.sha256().as_bytes(),
        );
        if matches.is_err() || self.cluster != *cluster {
            return Err(JoinError::Unknown);
        }
        if now >= self.expires {
            return Err(JoinError::Expired {
                identity: self.identity.clone(),
                expires: self.expires,
                now,
            });
        }
        Ok(&self.identity)
    }
}

#[cfg(test)]
mod tests;
