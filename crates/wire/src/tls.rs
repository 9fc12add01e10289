//! TLS contexts, what they check a peer against, and the secrets that SDS delivers.

use std::collections::BTreeMap;

use prost::{Enumeration, Message, Oneof};

use crate::core::{ConfigSource, DataSource, TypedExtensionConfig, WatchedDirectory};
use crate::matcher::StringMatcher;
use crate::well_known::{Duration, Unread};

/// `envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext`
#[derive(Clone, PartialEq, Message)]
pub struct DownstreamTlsContext {
    #[prost(message, optional, tag = "1")]
    pub common_tls_context: Option<CommonTlsContext>,
    #[prost(message, optional, tag = "2")]
    pub require_client_certificate: Option<bool>,
    #[prost(message, optional, tag = "3")]
    pub require_sni: Option<bool>,
    #[prost(oneof = "SessionTicketKeysType", tags = "4, 5, 7")]
    pub session_ticket_keys_type: Option<SessionTicketKeysType>,
    #[prost(bool, tag = "10")]
    pub disable_stateful_session_resumption: bool,
    #[prost(message, optional, tag = "6")]
    pub session_timeout: Option<Duration>,
    #[prost(enumeration = "OcspStaplePolicy", tag = "8")]
    pub ocsp_staple_policy: i32,
    #[prost(message, optional, tag = "9")]
    pub full_scan_certs_on_sni_mismatch: Option<bool>,
    #[prost(bool, tag = "11")]
    pub prefer_client_ciphers: bool,
}

/// `envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext.session_ticket_keys_type`
#[derive(Clone, PartialEq, Oneof)]
pub enum SessionTicketKeysType {
    #[prost(message, tag = "4")]
    SessionTicketKeys(TlsSessionTicketKeys),
    #[prost(message, tag = "5")]
    SessionTicketKeysSdsSecretConfig(SdsSecretConfig),
    #[prost(bool, tag = "7")]
    DisableStatelessSessionResumption(bool),
}

/// `envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext.OcspStaplePolicy`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Enumeration)]
#[repr(i32)]
pub enum OcspStaplePolicy {
    LenientStapling = 0,
    StrictStapling = 1,
    MustStaple = 2,
}

/// `envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext`
#[derive(Clone, PartialEq, Message)]
pub struct UpstreamTlsContext {
    #[prost(message, optional, tag = "1")]
    pub common_tls_context: Option<CommonTlsContext>,
    #[prost(string, tag = "2")]
    pub sni: String,
    #[prost(bool, tag = "6")]
    pub auto_host_sni: bool,
    #[prost(bool, tag = "7")]
    pub auto_sni_san_validation: bool,
    #[prost(bool, tag = "3")]
    pub allow_renegotiation: bool,
    #[prost(message, optional, tag = "4")]
    pub max_session_keys: Option<u32>,
    #[prost(message, optional, tag = "5")]
    pub enforce_rsa_key_usage: Option<bool>,
}

/// `envoy.extensions.transport_sockets.tls.v3.CommonTlsContext`
#[derive(Clone, PartialEq, Message)]
pub struct CommonTlsContext {
    #[prost(message, optional, tag = "1")]
    pub tls_params: Option<TlsParameters>,
    #[prost(message, repeated, tag = "2")]
    pub tls_certificates: Vec<TlsCertificate>,
    #[prost(message, repeated, tag = "6")]
    pub tls_certificate_sds_secret_configs: Vec<SdsSecretConfig>,
    #[prost(message, optional, tag = "14")]
    pub tls_certificate_provider_instance: Option<CertificateProviderPluginInstance>,
    #[prost(message, optional, tag = "16")]
    pub custom_tls_certificate_selector: Option<TypedExtensionConfig>,
    #[prost(bytes = "bytes", optional, tag = "9")]
    pub tls_certificate_certificate_provider: Option<Unread>,
    #[prost(bytes = "bytes", optional, tag = "11")]
    pub tls_certificate_certificate_provider_instance: Option<Unread>,
    #[prost(oneof = "ValidationContextType", tags = "3, 7, 8, 10, 12")]
    pub validation_context_type: Option<ValidationContextType>,
    #[prost(string, repeated, tag = "4")]
    pub alpn_protocols: Vec<String>,
    #[prost(message, optional, tag = "13")]
    pub custom_handshaker: Option<TypedExtensionConfig>,
    #[prost(bytes = "bytes", optional, tag = "15")]
    pub key_log: Option<Unread>,
}

/// `envoy.extensions.transport_sockets.tls.v3.CommonTlsContext.validation_context_type`
#[derive(Clone, PartialEq, Oneof)]
pub enum ValidationContextType {
    #[prost(message, tag = "3")]
    ValidationContext(CertificateValidationContext),
    #[prost(message, tag = "7")]
    ValidationContextSdsSecretConfig(SdsSecretConfig),
    #[prost(message, tag = "8")]
    CombinedValidationContext(CombinedCertificateValidationContext),
    #[prost(bytes = "bytes", tag = "10")]
    ValidationContextCertificateProvider(Unread),
    #[prost(bytes = "bytes", tag = "12")]
    ValidationContextCertificateProviderInstance(Unread),
}

/// `envoy.extensions.transport_sockets.tls.v3.CommonTlsContext.CombinedCertificateValidationContext`
#[derive(Clone, PartialEq, Message)]
pub struct CombinedCertificateValidationContext {
    #[prost(message, optional, tag = "1")]
    pub default_validation_context: Option<CertificateValidationContext>,
    #[prost(message, optional, tag = "2")]
    pub validation_context_sds_secret_config: Option<SdsSecretConfig>,
    #[prost(bytes = "bytes", optional, tag = "3")]
    pub validation_context_certificate_provider: Option<Unread>,
    #[prost(bytes = "bytes", optional, tag = "4")]
    pub validation_context_certificate_provider_instance: Option<Unread>,
}

/// `envoy.extensions.transport_sockets.tls.v3.TlsParameters`
#[derive(Clone, PartialEq, Message)]
pub struct TlsParameters {
    #[prost(enumeration = "TlsProtocol", tag = "1")]
    pub tls_minimum_protocol_version: i32,
    #[prost(enumeration = "TlsProtocol", tag = "2")]
    pub tls_maximum_protocol_version: i32,
    #[prost(string, repeated, tag = "3")]
    pub cipher_suites: Vec<String>,
    #[prost(string, repeated, tag = "4")]
    pub ecdh_curves: Vec<String>,
    #[prost(string, repeated, tag = "5")]
    pub signature_algorithms: Vec<String>,
    #[prost(enumeration = "CompliancePolicy", repeated, tag = "6")]
    pub compliance_policies: Vec<i32>,
}

/// `envoy.extensions.transport_sockets.tls.v3.TlsParameters.TlsProtocol`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Enumeration)]
#[repr(i32)]
pub enum TlsProtocol {
    TlsAuto = 0,
    Tlsv10 = 1,
    Tlsv11 = 2,
    Tlsv12 = 3,
    Tlsv13 = 4,
}

/// `envoy.extensions.transport_sockets.tls.v3.TlsParameters.CompliancePolicy`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Enumeration)]
#[repr(i32)]
pub enum CompliancePolicy {
    Fips202205 = 0,
    Cnsa2202603 = 1,
    Cnsa1202603 = 2,
}

/// `envoy.extensions.transport_sockets.tls.v3.TlsCertificate`
#[derive(Clone, PartialEq, Message)]
pub struct TlsCertificate {
    #[prost(message, optional, tag = "1")]
    pub certificate_chain: Option<DataSource>,
    #[prost(message, optional, tag = "2")]
    pub private_key: Option<DataSource>,
    #[prost(message, optional, tag = "8")]
    pub pkcs12: Option<DataSource>,
    #[prost(message, optional, tag = "7")]
    pub watched_directory: Option<WatchedDirectory>,
    #[prost(bytes = "bytes", optional, tag = "6")]
    pub private_key_provider: Option<Unread>,
    #[prost(message, optional, tag = "3")]
    pub password: Option<DataSource>,
    #[prost(message, optional, tag = "4")]
    pub ocsp_staple: Option<DataSource>,
    #[prost(message, repeated, tag = "5")]
    pub signed_certificate_timestamp: Vec<DataSource>,
    #[prost(message, optional, tag = "9")]
    pub tls_params: Option<TlsParameters>,
}

/// `envoy.extensions.transport_sockets.tls.v3.TlsSessionTicketKeys`
#[derive(Clone, PartialEq, Message)]
pub struct TlsSessionTicketKeys {
    #[prost(message, repeated, tag = "1")]
    pub keys: Vec<DataSource>,
}

/// `envoy.extensions.transport_sockets.tls.v3.CertificateValidationContext`
#[derive(Clone, PartialEq, Message)]
pub struct CertificateValidationContext {
    #[prost(message, optional, tag = "1")]
    pub trusted_ca: Option<DataSource>,
    #[prost(message, optional, tag = "13")]
    pub ca_certificate_provider_instance: Option<CertificateProviderPluginInstance>,
    #[prost(message, optional, tag = "17")]
    pub system_root_certs: Option<SystemRootCerts>,
    #[prost(message, optional, tag = "11")]
    pub watched_directory: Option<WatchedDirectory>,
    #[prost(string, repeated, tag = "3")]
    pub verify_certificate_spki: Vec<String>,
    #[prost(string, repeated, tag = "2")]
    pub verify_certificate_hash: Vec<String>,
    #[prost(message, repeated, tag = "15")]
    pub match_typed_subject_alt_names: Vec<SubjectAltNameMatcher>,
    #[prost(message, repeated, tag = "9")]
    pub match_subject_alt_names: Vec<StringMatcher>,
    #[prost(message, optional, tag = "6")]
    pub require_signed_certificate_timestamp: Option<bool>,
    #[prost(message, optional, tag = "7")]
    pub crl: Option<DataSource>,
    #[prost(bool, tag = "8")]
    pub allow_expired_certificate: bool,
    #[prost(enumeration = "TrustChainVerification", tag = "10")]
    pub trust_chain_verification: i32,
    #[prost(message, optional, tag = "12")]
    pub custom_validator_config: Option<TypedExtensionConfig>,
    #[prost(bool, tag = "14")]
    pub only_verify_leaf_cert_crl: bool,
    #[prost(message, optional, tag = "16")]
    pub max_verify_depth: Option<u32>,
    #[prost(bool, tag = "18")]
    pub suppress_client_ca_list: bool,
}

/// `envoy.extensions.transport_sockets.tls.v3.CertificateValidationContext.TrustChainVerification`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Enumeration)]
#[repr(i32)]
pub enum TrustChainVerification {
    VerifyTrustChain = 0,
    AcceptUntrusted = 1,
}

/// `envoy.extensions.transport_sockets.tls.v3.CertificateValidationContext.SystemRootCerts`
#[derive(Clone, PartialEq, Message)]
pub struct SystemRootCerts {}

/// `envoy.extensions.transport_sockets.tls.v3.SubjectAltNameMatcher`
#[derive(Clone, PartialEq, Message)]
pub struct SubjectAltNameMatcher {
    #[prost(enumeration = "SanType", tag = "1")]
    pub san_type: i32,
    #[prost(message, optional, tag = "2")]
    pub matcher: Option<StringMatcher>,
    #[prost(string, tag = "3")]
    pub oid: String,
}

/// `envoy.extensions.transport_sockets.tls.v3.SubjectAltNameMatcher.SanType`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Enumeration)]
#[repr(i32)]
pub enum SanType {
    SanTypeUnspecified = 0,
    Email = 1,
    Dns = 2,
    Uri = 3,
    IpAddress = 4,
    OtherName = 5,
}

/// `envoy.extensions.transport_sockets.tls.v3.SdsSecretConfig`
#[derive(Clone, PartialEq, Message)]
pub struct SdsSecretConfig {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(message, optional, tag = "2")]
    pub sds_config: Option<ConfigSource>,
}

/// `envoy.extensions.transport_sockets.tls.v3.Secret`
#[derive(Clone, PartialEq, Message)]
pub struct Secret {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(oneof = "SecretType", tags = "2, 3, 4, 5")]
    pub r#type: Option<SecretType>,
}

/// `envoy.extensions.transport_sockets.tls.v3.Secret.type`
#[derive(Clone, PartialEq, Oneof)]
pub enum SecretType {
    #[prost(message, tag = "2")]
    TlsCertificate(TlsCertificate),
    #[prost(message, tag = "3")]
    SessionTicketKeys(TlsSessionTicketKeys),
    #[prost(message, tag = "4")]
    ValidationContext(CertificateValidationContext),
    #[prost(message, tag = "5")]
    GenericSecret(GenericSecret),
}

/// `envoy.extensions.transport_sockets.tls.v3.GenericSecret`
#[derive(Clone, PartialEq, Message)]
pub struct GenericSecret {
    #[prost(message, optional, tag = "1")]
    pub secret: Option<DataSource>,
    #[prost(btree_map = "string, message", tag = "2")]
    pub secrets: BTreeMap<String, DataSource>,
}

/// `envoy.extensions.transport_sockets.tls.v3.CertificateProviderPluginInstance`
#[derive(Clone, PartialEq, Message)]
pub struct CertificateProviderPluginInstance {
    #[prost(string, tag = "1")]
    pub instance_name: String,
    #[prost(string, tag = "2")]
    pub certificate_name: String,
}

/// `envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer`
#[derive(Clone, PartialEq, Message)]
pub struct RawBuffer {}
