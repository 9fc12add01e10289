//! Who a workload is: requests, issuing, bundles, rotation, and checks of peers.
//!
//! A [`Root`] signs one intermediate for each instance, kept as [`CaCerts`]; its [`Issuer`] signs workload certificates
//! for identities that were proved by other means; a workload puts its chain, key and roots together as a [`Holding`]
//! and uses them through [`Credentials`]. Read [`Credentials`] first, then [`PeerRule`] and [`PeerError`].
//!
//! This room has no clock and no socket: `now` is handed in, to rustls by a `TimeProvider`. Random bytes for keys,
//! serial numbers and tokens come from the operating system; keys that were made elsewhere can be handed in.
//! It never takes an identity from a request, never compares names but byte for byte, and resumes a session only where
//! it is asked to, with the peer checked as in a whole handshake.
//!
//! ```
//! use catamaran_identity::{Csr, Holding, Issuer, KeyPair, Root};
//! use catamaran_model::{ClusterId, MeshName, SpiffeId, Timestamp, TrustDomain};
//!
//! let now = Timestamp(1_700_000_000_000);
//! let (domain, mesh) = (TrustDomain::default(), MeshName::new("mesh-1")?);
//! let root = Root::create(&domain, &mesh, now)?;
//! let authority = root.issue_intermediate(&domain, &mesh, &ClusterId::new("cluster-1")?, now)?;
//! let issuer = Issuer::new(authority, domain)?;
//!
//! let sleep = SpiffeId::parse("spiffe://cluster.local/ns/default/sa/sleep")?;
//! let key = KeyPair::generate()?;
//! let request = Csr::from_pem(&key.request(&sleep)?)?;
//! let answer = issuer.sign(&request, &sleep, None, now)?.pems();
//! let holding = Holding::from_response(&answer, key, &sleep, now)?;
//! assert_eq!(holding.facts().identity(), Some(sleep));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod base64;
mod bundle;
mod cacerts;
pub mod ceremony;
mod certificate;
mod credentials;
mod csr;
mod der;
#[cfg(test)]
mod fixtures;
mod holding;
mod issuer;
mod join_token;
mod key;
mod oid;
mod peer;
mod pem;
mod resume;
mod root;
mod template;
mod tls;
mod trust;

pub use bundle::{BundleError, TrustBundle};
pub use cacerts::{CaCerts, CaCertsError, CaCertsFiles, MAX_INTERMEDIATES};
pub use certificate::{CertificateError, CertificateFacts, MAX_CERTIFICATE, fingerprint};
pub use credentials::Credentials;
pub use csr::{Csr, CsrError, MAX_CSR};
pub use der::DerError;
pub use holding::{Holding, HoldingError};
pub use issuer::{
    BACKDATE, IssuedChain, Issuer, LEAF_LIFE, MAX_LEAF_LIFE, MIN_LEAF_LIFE, NotReady, SignError,
};
pub use join_token::{JoinError, JoinRecord, JoinToken};
pub use key::{KeyAlgorithm, KeyError, KeyPair};
pub use peer::{MAX_CHAIN, Peer, PeerError, PeerRole, PeerRule, check_client, check_server};
pub use pem::{MAX_CERTIFICATES, MAX_PEM, PemError};
pub use resume::Sessions;
pub use root::{INTERMEDIATE_LIFE, ROOT_LIFE, Root, RootError};
pub use tls::{ClientAuth, ClientVerifier, ServerVerifier, provider};
pub use trust::{SharedTrust, Trust};
