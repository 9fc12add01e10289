//! TLS contexts, with Istio's names for secrets and application protocols.

use catamaran_model::{SpiffeId, TrustDomain};
use catamaran_wire::core::{
    ApiConfigSource, ApiType, ApiVersion, ConfigSource, ConfigSourceSpecifier, EnvoyGrpc,
    GrpcService, TargetSpecifier, TransportSocket,
};
use catamaran_wire::matcher::{MatchPattern, StringMatcher};
use catamaran_wire::tls::{
    CertificateValidationContext, CombinedCertificateValidationContext, CommonTlsContext,
    DownstreamTlsContext, RawBuffer, SanType, SdsSecretConfig, SubjectAltNameMatcher,
    TlsParameters, TlsProtocol, UpstreamTlsContext, ValidationContextType,
};
use catamaran_wire::well_known::Duration;
use catamaran_wire::{Any, extension};

use crate::Capability;

/// The secret with the proxy's own certificate.
pub(crate) const CERTIFICATE: &str = "default";
/// The secret with the roots.
pub(crate) const ROOTS: &str = "ROOTCA";
/// The static cluster of a bootstrap through which an Envoy asks for secrets.
pub(crate) const SECRETS_CLUSTER: &str = "sds-grpc";

/// What mesh traffic offers in its ClientHello; a gateway and a permissive port know it by these.
///
/// Source: Istio's `alpn` filter and its filter chain matches.
pub(crate) const MESH_ALPN: [&str; 5] = [
    "istio",
    "istio-peer-exchange",
    "istio-http/1.0",
    "istio-http/1.1",
    "istio-h2",
];
/// What mesh traffic offers when HTTP is in it.
pub(crate) const MESH_HTTP_ALPN: [&str; 3] = ["istio-http/1.0", "istio-http/1.1", "istio-h2"];
/// What mesh traffic offers when nothing is said of its content.
pub(crate) const MESH_BYTES_ALPN: [&str; 2] = ["istio", "istio-peer-exchange"];

/// What an upstream connection carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Carries {
    /// HTTP of either version.
    Http,
    /// HTTP/2 only.
    Http2,
    /// What the caller speaks, by somebody who cannot say which in its ClientHello.
    AsCaller,
    /// Bytes.
    Bytes,
}

/// mTLS to workloads that are one of `allowed`.
pub(crate) fn upstream(
    sni: String,
    allowed: &[SpiffeId],
    carries: Carries,
    capability: Capability,
) -> TransportSocket {
    let alpn: &[&str] = match carries {
        // It speaks what its caller speaks whatever is negotiated, so it names no version; the server looks.
        Carries::Bytes | Carries::AsCaller => &["istio"],
        Carries::Http2 => &["istio-h2", "istio", "h2"],
        Carries::Http => &["istio-h2", "istio-http/1.1", "istio", "h2", "http/1.1"],
    };
    let names = match allowed {
        [] => vec![uri(MatchPattern::Exact(NOBODY.to_owned()))],
        ids => ids
            .iter()
            .map(|id| uri(MatchPattern::Exact(id.to_string())))
            .collect(),
    };
    let context = UpstreamTlsContext {
        common_tls_context: Some(common(names, alpn, capability)),
        sni,
        ..UpstreamTlsContext::default()
    };
    TransportSocket {
        name: extension::TLS.to_owned(),
        typed_config: Some(Any::pack(&context)),
    }
}

/// An identity that nobody can have, since an empty list would mean everybody: it stands where a service has no endpoint
/// yet, so that an endpoint that arrives before its cluster's update is not trusted blindly.
pub(crate) const NOBODY: &str = "spiffe://nobody.invalid/ns/nobody/sa/nobody";

/// mTLS from workloads of the trust domain.
pub(crate) fn downstream(
    trust_domain: &TrustDomain,
    http: bool,
    capability: Capability,
) -> TransportSocket {
    let alpn: &[&str] = match (capability, http) {
        // rustls takes the first of its own that the client offers, and refuses a client that offers none of them.
        (Capability::Catamaran, true) => &[
            "h2",
            "http/1.1",
            "istio-h2",
            "istio-http/1.1",
            "istio-http/1.0",
            "istio",
        ],
        (Capability::Catamaran, false) => &["istio"],
        // An Envoy takes every negotiated word but `h2` for HTTP/1; without a word it looks at the first bytes.
        (Capability::Envoy, true) => &["h2", "http/1.1"],
        (Capability::Envoy, false) => &[],
    };
    let anybody = uri(MatchPattern::Prefix(format!("spiffe://{trust_domain}/")));
    let context = DownstreamTlsContext {
        common_tls_context: Some(common(vec![anybody], alpn, capability)),
        require_client_certificate: Some(true),
        ..DownstreamTlsContext::default()
    };
    TransportSocket {
        name: extension::TLS.to_owned(),
        typed_config: Some(Any::pack(&context)),
    }
}

/// No TLS.
pub(crate) fn plain() -> TransportSocket {
    TransportSocket {
        name: extension::RAW_BUFFER.to_owned(),
        typed_config: Some(Any::pack(&RawBuffer {})),
    }
}

fn common(
    names: Vec<SubjectAltNameMatcher>,
    alpn: &[&str],
    capability: Capability,
) -> CommonTlsContext {
    CommonTlsContext {
        // Our proxy speaks TLS 1.3 and nothing else; an Envoy must be told not to stop at 1.2.
        tls_params: (capability == Capability::Envoy).then(|| TlsParameters {
            tls_minimum_protocol_version: TlsProtocol::Tlsv12.into(),
            tls_maximum_protocol_version: TlsProtocol::Tlsv13.into(),
            ..TlsParameters::default()
        }),
        tls_certificate_sds_secret_configs: vec![secret(CERTIFICATE)],
        validation_context_type: Some(ValidationContextType::CombinedValidationContext(
            CombinedCertificateValidationContext {
                default_validation_context: Some(CertificateValidationContext {
                    match_typed_subject_alt_names: names,
                    ..CertificateValidationContext::default()
                }),
                validation_context_sds_secret_config: Some(secret(ROOTS)),
                ..CombinedCertificateValidationContext::default()
            },
        )),
        alpn_protocols: alpn.iter().map(|word| (*word).to_owned()).collect(),
        ..CommonTlsContext::default()
    }
}

fn uri(pattern: MatchPattern) -> SubjectAltNameMatcher {
    SubjectAltNameMatcher {
        san_type: SanType::Uri.into(),
        matcher: Some(StringMatcher {
            match_pattern: Some(pattern),
            ignore_case: false,
        }),
        oid: String::new(),
    }
}

fn secret(name: &str) -> SdsSecretConfig {
    let source = ApiConfigSource {
        api_type: ApiType::Grpc.into(),
        transport_api_version: ApiVersion::V3.into(),
        grpc_services: vec![GrpcService {
            target_specifier: Some(TargetSpecifier::EnvoyGrpc(EnvoyGrpc {
                cluster_name: SECRETS_CLUSTER.to_owned(),
                ..EnvoyGrpc::default()
            })),
            ..GrpcService::default()
        }],
        set_node_on_first_message_only: true,
        ..ApiConfigSource::default()
    };
    SdsSecretConfig {
        name: name.to_owned(),
        sds_config: Some(ConfigSource {
            config_source_specifier: Some(ConfigSourceSpecifier::ApiConfigSource(source)),
            initial_fetch_timeout: Some(Duration::default()),
            resource_api_version: ApiVersion::V3.into(),
            ..ConfigSource::default()
        }),
    }
}
