//! How a workload asks for its certificate, in Istio's words.

use prost::Message;

use crate::well_known::Struct;

/// `istio.v1.auth.IstioCertificateRequest`
///
/// Source: `security/v1alpha1/ca.proto` of istio/api.
#[derive(Clone, PartialEq, Message)]
pub struct IstioCertificateRequest {
    /// PEM. Istio's signer ignores the names in it: the caller's token says who it is.
    #[prost(string, tag = "1")]
    pub csr: String,
    /// Seconds.
    #[prost(int64, tag = "3")]
    pub validity_duration: i64,
    /// `CertSigner` and `ImpersonatedIdentity` are the keys in use.
    #[prost(message, optional, tag = "4")]
    pub metadata: Option<Struct>,
}

/// `istio.v1.auth.IstioCertificateResponse`
#[derive(Clone, PartialEq, Message)]
pub struct IstioCertificateResponse {
    /// One PEM per element: the leaf first, the roots last. Clients refuse fewer than two.
    #[prost(string, repeated, tag = "1")]
    pub cert_chain: Vec<String>,
}
