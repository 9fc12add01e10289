//! The way to the API server of the cluster that a program itself runs in, by what every pod has.
//!
//! Source: Kubernetes' "Accessing the API from a Pod". The token in the file is replaced before it ends, so it is read again.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use zeroize::Zeroizing;

use crate::connect::{Access, AccessError};
use crate::kubeconfig::{Allowed, Kubeconfig, Server, User};

/// Where a pod finds its service account.
pub const FOLDER: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
/// How often the token is read; the kubelet replaces it at four fifths of its hour.
const READ_AGAIN: Duration = Duration::from_secs(60);
const MAX_BYTES: u64 = 1 << 20;

/// Why there is no way.
#[derive(Debug, thiserror::Error)]
pub enum InClusterError {
    /// A file of the service account is not there.
    #[error(
        "{path}: {source}; the pod needs a service account whose token is mounted (automountServiceAccountToken)"
    )]
    File {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// What is in it is no credential.
    #[error(transparent)]
    Access(#[from] AccessError),
}

/// The way to the API server at `host` (`KUBERNETES_SERVICE_HOST`) and `port`, as the service account in `folder`.
///
/// # Errors
/// Which file is missing or what is wrong with it.
pub fn access(folder: &Path, host: &str, port: u16) -> Result<Access, InClusterError> {
    let config = Kubeconfig {
        name: "in-cluster".into(),
        server: Server {
            host: host.to_owned(),
            port,
            path: String::new(),
            tls_name: host.to_owned(),
        },
        ca: read(&folder.join("ca.crt"))?.to_string(),
        user: User::Token(token(folder)?),
        proxy: None,
    };
    Ok(Access::new(&config, Allowed::default())?)
}

/// Shows the newest token, for as long as it runs.
pub async fn keep(access: Access, folder: PathBuf) {
    loop {
        tokio::time::sleep(READ_AGAIN).await;
        let place = folder.clone();
        let Ok(read) = tokio::task::spawn_blocking(move || token(&place)).await else {
            continue;
        };
        let renewed = read.and_then(|token| Ok(access.renew(&token)?));
        if let Err(error) = renewed {
            tracing::warn!("the token of our own service account is not read again: {error}");
        }
    }
}

fn token(folder: &Path) -> Result<Zeroizing<String>, InClusterError> {
    let text = read(&folder.join("token"))?;
    Ok(Zeroizing::new(text.trim().to_owned()))
}

fn read(path: &Path) -> Result<Zeroizing<String>, InClusterError> {
    use std::io::Read as _;
    let mut text = Zeroizing::new(String::new());
    let read =
        std::fs::File::open(path).and_then(|file| file.take(MAX_BYTES).read_to_string(&mut text));
    match read {
        Ok(_) => Ok(text),
        Err(source) => Err(InClusterError::File {
            path: path.to_owned(),
            source,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let said = |folder: &Path| access(folder, "10.96.0.1", 443).unwrap_err().to_string();
        assert!(said(folder.path()).contains("ca.crt"));
        std::fs::write(folder.path().join("ca.crt"), "nothing").unwrap();
        assert!(said(folder.path()).contains("/token"));
        std::fs::write(folder.path().join("token"), "a.b.c\n").unwrap();
        let said = said(folder.path());
        assert!(said.contains("certificate-authority-data"), "{said}");
    }

    // A client has a task of its own, so it wants a runtime.
    #[tokio::test]
    async fn a_pods_files_are_a_credential() {
        let folder = tempfile::tempdir().unwrap();
        let key = rcgen::KeyPair::generate().unwrap();
        let ca = rcgen::CertificateParams::default()
            .self_signed(&key)
            .unwrap();
        std::fs::write(folder.path().join("ca.crt"), ca.pem()).unwrap();
        std::fs::write(folder.path().join("token"), "a.b.c\n").unwrap();
        let access = access(folder.path(), "fd00::1", 443).unwrap();
        assert_eq!(access.server().to_string(), "[fd00::1]:443");
        assert_eq!(token(folder.path()).unwrap().as_str(), "a.b.c");
    }
}
