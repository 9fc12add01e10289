use std::sync::Arc;

use catamaran_wire::core::TransportSocket;
use catamaran_wire::extension as well_known_names;
use catamaran_wire::matcher::{MatchPattern, StringMatcher};
use catamaran_wire::tls::{
    CertificateValidationContext, CommonTlsContext, DownstreamTlsContext, RawBuffer, SanType,
    SessionTicketKeysType, TlsParameters, TlsProtocol, UpstreamTlsContext, ValidationContextType,
};
use catamaran_wire::{Any, Message, TypeUrl};

use super::read::{Interner, each};
use crate::refusal::{Fault, refuse_set, unset};

/// How an endpoint is spoken to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Transport {
    /// Without TLS.
    Plain,
    /// With TLS, and with a certificate of ours.
    Mutual(Arc<MutualTls>),
}

/// How we show ourselves to an upstream, and whom we take for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MutualTls {
    /// The server name we ask for, `outbound_.5000_._.helloworld.default.svc.cluster.local`.
    pub sni: Arc<str>,
    /// Who may answer. Empty: anybody of the mesh's roots.
    pub allowed: Arc<[IdentityMatch]>,
    /// The protocols we offer, in order.
    pub alpn: Arc<[Arc<str>]>,
    /// The name of the secret with our certificate, usually `default`.
    pub certificate: Arc<str>,
    /// The name of the secret with the roots, usually `ROOTCA`.
    pub roots: Arc<str>,
    /// Whether sessions may be resumed: `max_session_keys` is not 0.
    pub resumes: bool,
}

/// What a listener's chain demands of TLS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DownstreamTls {
    /// Whether the caller must show a certificate of the mesh's roots.
    pub require_client_certificate: bool,
    /// Who may call; empty: anybody of the mesh's roots.
    pub allowed: Arc<[IdentityMatch]>,
    /// The protocols we take, in order.
    pub alpn: Arc<[Arc<str>]>,
    /// The name of the secret with our certificate.
    pub certificate: Arc<str>,
    /// The name of the secret with the roots; `None` when no client certificate is asked for.
    pub roots: Option<Arc<str>>,
    /// Whether sessions may be resumed: `disable_stateless_session_resumption` is not set.
    pub resumes: bool,
}

/// A rule for the one URI name of a certificate.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum IdentityMatch {
    /// This identity.
    Exact(Arc<str>),
    /// Identities that start so, such as those of one trust domain: `spiffe://cluster.local/`.
    Prefix(Arc<str>),
}

impl IdentityMatch {
    /// Whether a SPIFFE id is meant.
    pub fn takes(&self, id: &str) -> bool {
        match self {
            IdentityMatch::Exact(exact) => id == &**exact,
            IdentityMatch::Prefix(prefix) => id.starts_with(&**prefix),
        }
    }
}

impl std::fmt::Display for IdentityMatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            IdentityMatch::Exact(exact) => f.write_str(exact),
            IdentityMatch::Prefix(prefix) => write!(f, "{prefix}*"),
        }
    }
}

/// Whether an identity is one of those allowed; an empty list takes everybody that the roots vouch for.
pub fn allows(allowed: &[IdentityMatch], id: &str) -> bool {
    allowed.is_empty() || allowed.iter().any(|rule| rule.takes(id))
}

/// The only certificate that a proxy has: its own, under the name that Istio gives it.
const OWN_CERTIFICATE: &str = "default";
/// The only roots that a proxy has: the mesh's.
const MESH_ROOTS: &str = "ROOTCA";

impl Transport {
    /// How an upstream's socket is read; without one it is plain text.
    pub(crate) fn read(
        socket: Option<&TransportSocket>,
        interner: &mut Interner,
    ) -> Result<Transport, Fault> {
        let Some(socket) = socket else {
            return Ok(Transport::Plain);
        };
        let Some(config) = &socket.typed_config else {
            if socket.name == well_known_names::RAW_BUFFER {
                return Ok(Transport::Plain);
            }
            return Err(Fault::new("typed_config", "is missing"));
        };
        if config.is::<RawBuffer>() {
            return Ok(Transport::Plain);
        }
        if !config.is::<UpstreamTlsContext>() {
            return Err(Fault::new(
                "typed_config",
                format!("{} is not implemented", config.type_url),
            ));
        }
        let context: UpstreamTlsContext = unpack(config)?;
        MutualTls::read(&context, interner)
            .map(|tls| Transport::Mutual(Arc::new(tls)))
            .map_err(|fault| fault.within("typed_config"))
    }
}

impl MutualTls {
    fn read(context: &UpstreamTlsContext, interner: &mut Interner) -> Result<MutualTls, Fault> {
        refuse_set!(
            context,
            auto_host_sni,
            auto_sni_san_validation,
            allow_renegotiation,
        );
        let common = context.common_tls_context.clone().unwrap_or_default();
        let within = |fault: Fault| fault.within("common_tls_context");
        let certificate = certificate(&common, interner).map_err(within)?;
        let (roots, allowed) = validation(&common, interner).map_err(within)?;
        let Some(certificate) = certificate else {
            return Err(within(Fault::new(
                "tls_certificate_sds_secret_configs",
                "TLS without a certificate of ours is not implemented",
            )));
        };
        let Some(roots) = roots else {
            return Err(within(Fault::new(
                "validation_context_type",
                "TLS without a check of the peer is not implemented",
            )));
        };
        if context.sni.len() > MAX_SNI {
            return Err(Fault::new("sni", format!("is longer than {MAX_SNI} bytes")));
        }
        Ok(MutualTls {
            sni: interner.text(&context.sni),
            allowed,
            alpn: interner.list(&common.alpn_protocols),
            certificate,
            roots,
            resumes: context.max_session_keys != Some(0),
        })
    }
}

/// RFC 6066 names hosts, which end at 255 bytes; Envoy has the same limit.
const MAX_SNI: usize = 255;

impl DownstreamTls {
    /// How a chain's socket is read; `None` is plain text.
    pub(crate) fn read(
        socket: Option<&TransportSocket>,
        interner: &mut Interner,
    ) -> Result<Option<DownstreamTls>, Fault> {
        let Some(socket) = socket else {
            return Ok(None);
        };
        let Some(config) = &socket.typed_config else {
            if socket.name == well_known_names::RAW_BUFFER {
                return Ok(None);
            }
            return Err(Fault::new("typed_config", "is missing"));
        };
        if config.is::<RawBuffer>() {
            return Ok(None);
        }
        if !config.is::<DownstreamTlsContext>() {
            return Err(Fault::new(
                "typed_config",
                format!("{} is not implemented", config.type_url),
            ));
        }
        let context: DownstreamTlsContext = unpack(config)?;
        Self::read_context(&context, interner)
            .map(Some)
            .map_err(|fault| fault.within("typed_config"))
    }

    fn read_context(
        context: &DownstreamTlsContext,
        interner: &mut Interner,
    ) -> Result<DownstreamTls, Fault> {
        refuse_set!(context, ocsp_staple_policy);
        unset(context.require_sni == Some(true), "require_sni")?;
        let common = context.common_tls_context.clone().unwrap_or_default();
        let within = |fault: Fault| fault.within("common_tls_context");
        let certificate = certificate(&common, interner).map_err(within)?;
        let (roots, allowed) = validation(&common, interner).map_err(within)?;
        let Some(certificate) = certificate else {
            return Err(within(Fault::new(
                "tls_certificate_sds_secret_configs",
                "a server needs a certificate",
            )));
        };
        let require_client_certificate = context.require_client_certificate.unwrap_or(false);
        if require_client_certificate && roots.is_none() {
            return Err(within(Fault::new(
                "validation_context_type",
                "a client certificate is required and nothing says how it is checked",
            )));
        }
        Ok(DownstreamTls {
            require_client_certificate,
            allowed,
            alpn: interner.list(&common.alpn_protocols),
            certificate,
            roots,
            resumes: !matches!(
                context.session_ticket_keys_type,
                Some(SessionTicketKeysType::DisableStatelessSessionResumption(
                    true
                ))
            ),
        })
    }
}

pub(crate) fn unpack<M: Message + Default + TypeUrl>(config: &Any) -> Result<M, Fault> {
    config
        .unpack()
        .map_err(|error| Fault::new("typed_config", error.to_string()))
}

fn certificate(
    common: &CommonTlsContext,
    interner: &mut Interner,
) -> Result<Option<Arc<str>>, Fault> {
    refuse_set!(
        common,
        tls_certificates,
        tls_certificate_provider_instance,
        custom_tls_certificate_selector,
        tls_certificate_certificate_provider,
        tls_certificate_certificate_provider_instance,
        custom_handshaker,
        key_log,
    );
    if let Some(params) = &common.tls_params {
        parameters(params).map_err(|fault| fault.within("tls_params"))?;
    }
    let field = "tls_certificate_sds_secret_configs";
    match &common.tls_certificate_sds_secret_configs[..] {
        [] => Ok(None),
        [one] if one.name == OWN_CERTIFICATE => Ok(Some(interner.text(&one.name))),
        [one] => Err(Fault::new(
            format!("{field}[0].name"),
            format!(
                "a proxy has no certificate {:?}, only {OWN_CERTIFICATE:?}",
                one.name
            ),
        )),
        _ => Err(Fault::new(
            field,
            "more than one certificate is not implemented",
        )),
    }
}

/// The groups that we exchange keys in, by BoringSSL's names.
const GROUPS: [&str; 3] = ["X25519", "P-256", "P-384"];

/// TLS 1.3 is what we speak: versions that exclude it are refused, cipher suites of TLS 1.2 mean nothing to it. Groups are taken
/// when we have each of them; we go on to offer all of ours, in our order.
fn parameters(params: &TlsParameters) -> Result<(), Fault> {
    let most = TlsProtocol::try_from(params.tls_maximum_protocol_version);
    if !matches!(most, Ok(TlsProtocol::TlsAuto | TlsProtocol::Tlsv13)) {
        return Err(Fault::new(
            "tls_maximum_protocol_version",
            "only TLS 1.3 is spoken",
        ));
    }
    if let Some(at) =
        (params.ecdh_curves.iter()).position(|group| !GROUPS.contains(&group.as_str()))
    {
        return Err(Fault::new(
            format!("ecdh_curves[{at}]"),
            format!("only {} are implemented", GROUPS.join(", ")),
        ));
    }
    refuse_set!(params, signature_algorithms, compliance_policies,);
    Ok(())
}

type Validation = (Option<Arc<str>>, Arc<[IdentityMatch]>);

fn validation(common: &CommonTlsContext, interner: &mut Interner) -> Result<Validation, Fault> {
    let nobody: Arc<[IdentityMatch]> = Arc::from([]);
    match &common.validation_context_type {
        None => Ok((None, nobody)),
        Some(ValidationContextType::ValidationContextSdsSecretConfig(secret)) => {
            let roots = roots(&secret.name, interner)
                .map_err(|fault| fault.within("validation_context_sds_secret_config"))?;
            Ok((Some(roots), nobody))
        }
        Some(ValidationContextType::CombinedValidationContext(both)) => (|| {
            refuse_set!(
                both,
                validation_context_certificate_provider,
                validation_context_certificate_provider_instance,
            );
            let Some(secret) = &both.validation_context_sds_secret_config else {
                return Err(Fault::new(
                    "validation_context_sds_secret_config",
                    "is missing",
                ));
            };
            let roots = roots(&secret.name, interner)
                .map_err(|fault| fault.within("validation_context_sds_secret_config"))?;
            let allowed = match &both.default_validation_context {
                None => nobody,
                Some(context) => allowed(context, interner)
                    .map_err(|fault| fault.within("default_validation_context"))?,
            };
            Ok((Some(roots), allowed))
        })()
        .map_err(|fault| fault.within("combined_validation_context")),
        Some(_) => Err(Fault::new(
            "validation_context_type",
            format!("roots are taken from the secret {MESH_ROOTS:?} only"),
        )),
    }
}

fn roots(name: &str, interner: &mut Interner) -> Result<Arc<str>, Fault> {
    if name != MESH_ROOTS {
        return Err(Fault::new(
            "name",
            format!("a proxy has no roots {name:?}, only {MESH_ROOTS:?}"),
        ));
    }
    Ok(interner.text(name))
}

fn allowed(
    context: &CertificateValidationContext,
    interner: &mut Interner,
) -> Result<Arc<[IdentityMatch]>, Fault> {
    refuse_set!(
        context,
        trusted_ca,
        ca_certificate_provider_instance,
        system_root_certs,
        watched_directory,
        verify_certificate_spki,
        verify_certificate_hash,
        crl,
        allow_expired_certificate,
        trust_chain_verification,
        custom_validator_config,
        max_verify_depth,
    );
    unset(
        context.require_signed_certificate_timestamp == Some(true),
        "require_signed_certificate_timestamp",
    )?;
    let mut all = each(
        &context.match_typed_subject_alt_names,
        "match_typed_subject_alt_names",
        |name| {
            if name.san_type != i32::from(SanType::Uri) {
                return Err(Fault::new("san_type", "only URI names are implemented"));
            }
            identity(name.matcher.as_ref(), interner).map_err(|fault| fault.within("matcher"))
        },
    )?;
    all.extend(each(
        &context.match_subject_alt_names,
        "match_subject_alt_names",
        |name| identity(Some(name), interner),
    )?);
    all.sort();
    all.dedup();
    Ok(all.into())
}

fn identity(
    matcher: Option<&StringMatcher>,
    interner: &mut Interner,
) -> Result<IdentityMatch, Fault> {
    let Some(matcher) = matcher else {
        return Err(Fault::new("", "is missing"));
    };
    unset(matcher.ignore_case, "ignore_case")?;
    match &matcher.match_pattern {
        Some(MatchPattern::Exact(exact)) => Ok(IdentityMatch::Exact(interner.text(exact))),
        Some(MatchPattern::Prefix(prefix)) if !prefix.is_empty() => {
            Ok(IdentityMatch::Prefix(interner.text(prefix)))
        }
        _ => Err(Fault::new(
            "match_pattern",
            "only exact and prefix are implemented for identities",
        )),
    }
}
