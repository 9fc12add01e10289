//! One root and two workloads, `client` and `server`, with P-256 keys and SPIFFE names.

use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, SanType,
};

/// Files in a folder: `root.pem`, and `NAME.pem` and `NAME.key` of each workload.
#[derive(Debug, Clone)]
pub struct Certificates {
    dir: PathBuf,
}

impl Certificates {
    /// Makes them.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn make(dir: &Path) -> Result<Certificates, String> {
        let write = |name: String, text: String| {
            let path = dir.join(name);
            std::fs::write(&path, text).map_err(|error| format!("{}: {error}", path.display()))
        };
        let failed = |error: rcgen::Error| format!("the benchmark's certificates: {error}");
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().map_err(failed)?;
        let root = params.self_signed(&key).map_err(failed)?;
        write("root.pem".into(), root.pem())?;
        let issuer = Issuer::new(params, key);
        for workload in ["client", "server"] {
            let mut params = CertificateParams::default();
            params.distinguished_name = DistinguishedName::new();
            let name = spiffe(workload).try_into().map_err(failed)?;
            params.subject_alt_names = vec![SanType::URI(name)];
            params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
            params.extended_key_usages = vec![
                ExtendedKeyUsagePurpose::ServerAuth,
                ExtendedKeyUsagePurpose::ClientAuth,
            ];
            let key = KeyPair::generate().map_err(failed)?;
            let leaf = params.signed_by(&key, &issuer).map_err(failed)?;
            write(format!("{workload}.pem"), leaf.pem())?;
            write(format!("{workload}.key"), key.serialize_pem())?;
        }
        Ok(Certificates { dir: dir.into() })
    }

    pub(crate) fn root(&self) -> PathBuf {
        self.dir.join("root.pem")
    }

    pub(crate) fn chain(&self, workload: &str) -> PathBuf {
        self.dir.join(format!("{workload}.pem"))
    }

    pub(crate) fn key(&self, workload: &str) -> PathBuf {
        self.dir.join(format!("{workload}.key"))
    }
}

/// A workload's SPIFFE name.
pub(crate) fn spiffe(workload: &str) -> String {
    format!("spiffe://cluster.local/ns/bench/sa/{workload}")
}
