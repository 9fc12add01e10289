//! One-time join tokens: how a new sidecar proves who it is, before it has a certificate.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use aws_lc_rs::{digest, rand};
use catamaran_model::{ClusterId, SpiffeId, Timestamp};
use nix::unistd::{Gid, Uid, chown};
use serde::{Deserialize, Serialize};

use crate::atomic;
use crate::fleet::{ClusterDir, PodDir};

/// How long a token is good for.
pub const LIFETIME: std::time::Duration = std::time::Duration::from_secs(600);

/// What the signer finds under `private/join/`: it deletes the file of the token that it accepts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinRecord {
    /// SHA-256 of the token's 32 bytes, in hex.
    pub sha256: String,
    /// The SPIFFE name for which it stands.
    pub identity: String,
    /// The cluster for whose workload it stands.
    pub cluster: String,
    /// Until when, in milliseconds since 1970.
    pub expires: u64,
}

/// Makes a new token for a pod; an older one of the same pod is void. `user` owns the token's file.
pub(crate) fn issue(
    cluster: &ClusterDir,
    id: &ClusterId,
    identity: &SpiffeId,
    pod: &PodDir,
    name: &str,
    user: Option<u32>,
    now: Timestamp,
) -> io::Result<()> {
    let mut secret = [0; 32];
    rand::fill(&mut secret).map_err(|_| io::Error::other("no random numbers"))?;
    let token = base64url(&secret);
    let sha256 = digest::digest(&digest::SHA256, &secret);
    let record = JoinRecord {
        sha256: hex(sha256.as_ref()),
        identity: identity.to_string(),
        cluster: id.to_string(),
        expires: now.after(LIFETIME).0,
    };
    // The token first: a record without its token lets nobody in.
    atomic::write(&pod.join_token(), token.as_bytes(), 0o600)?;
    give(&pod.join_token(), user)?;
    let path = record_path(cluster, identity, name);
    atomic::write(&path, &serde_json::to_vec(&record)?, 0o600)
}

/// Whether a pod's token was neither used nor has ended.
pub(crate) fn valid(cluster: &ClusterDir, identity: &SpiffeId, name: &str, now: Timestamp) -> bool {
    let text = fs::read(record_path(cluster, identity, name)).unwrap_or_default();
    serde_json::from_slice::<JoinRecord>(&text).is_ok_and(|record| record.expires > now.0)
}

/// Makes a pod's token void.
pub(crate) fn revoke(cluster: &ClusterDir, identity: &SpiffeId, name: &str) {
    let _ = atomic::remove(&record_path(cluster, identity, name));
}

fn record_path(cluster: &ClusterDir, identity: &SpiffeId, pod: &str) -> PathBuf {
    cluster
        .join()
        .join(format!("{}.{pod}.json", identity.namespace))
}

/// Makes a file the sidecar's own, where sidecars have a user of their own.
pub(crate) fn give(path: &Path, user: Option<u32>) -> io::Result<()> {
    let Some(user) = user else { return Ok(()) };
    Ok(chown(
        path,
        Some(Uid::from_raw(user)),
        Some(Gid::from_raw(user)),
    )?)
}

/// RFC 4648, section 5, without padding: how a token is written.
fn base64url(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut text = String::new();
    for group in bytes.chunks(3) {
        let mut three = [0; 3];
        three[..group.len()].copy_from_slice(group);
        let bits = u32::from_be_bytes([0, three[0], three[1], three[2]]);
        for digit in 0..=group.len() {
            let value = (bits >> (18 - 6 * digit)) & 63;
            text.push(char::from(DIGITS[value as usize]));
        }
    }
    text
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_written_as_the_rfc_says() {
        for (plain, coded) in [
            ("", ""),
            ("f", "Zg"),
            ("fo", "Zm8"),
            ("foo", "Zm9v"),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(base64url(plain.as_bytes()), coded);
        }
        assert_eq!(base64url(&[0xfb, 0xff, 0xfe]), "-__-");
        assert_eq!(base64url(&[7; 32]).len(), 43);
    }
}
