//! The closed list of our messages, and the official names that their documentation gives them.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::OnceLock;

use catamaran_wire::{DecodeError, Message};

pub(crate) struct Specimen {
    /// Module and type.
    pub(crate) path: &'static str,
    pub(crate) read: fn(&[u8]) -> Result<Reading, DecodeError>,
}

/// What bytes are to our type: what it encodes them to again, and how it prints.
pub(crate) struct Reading {
    pub(crate) bytes: Vec<u8>,
    pub(crate) printed: String,
}

macro_rules! specimens {
    ($($module:ident { $($message:ident),* $(,)? })*) => {
        pub(crate) const SPECIMENS: &[Specimen] = &[$($(Specimen {
            path: concat!(stringify!($module), "::", stringify!($message)),
            read: read::<catamaran_wire::$module::$message>,
        },)*)*];
    };
}

specimens! {
    access_log {
        AccessLog, FileAccessLog, StdoutAccessLog, StderrAccessLog
    }
    cluster {
        Cluster, EdsClusterConfig, CustomClusterType, TransportSocketMatch, RefreshRate,
        PreconnectPolicy, SlowStartConfig, RoundRobinLbConfig, LeastRequestLbConfig, RingHashLbConfig,
        MaglevLbConfig, OriginalDstLbConfig, LbSubsetConfig, LbSubsetSelector, CommonLbConfig, ZoneAwareLbConfig,
        LocalityWeightedLbConfig, ConsistentHashingLbConfig, LoadBalancingPolicy, LoadBalancingPolicyEntry,
        UpstreamConnectionOptions, HappyEyeballsConfig, TrackClusterStats, CircuitBreakers, Thresholds, RetryBudget,
        OutlierDetection, UpstreamFilter, UpstreamHttpOptions, ExplicitHttpConfig, UseDownstreamHttpConfig,
        AutoHttpConfig, HttpOutlierDetection
    }
    core {
        Node, ContextParams, BuildVersion, Locality, Metadata, ControlPlane, Address, SocketAddress, Pipe,
        EnvoyInternalAddress, CidrRange, BindConfig, ExtraSourceAddress, SocketOption, SocketOptionsOverride,
        TcpKeepalive, ConfigSource, AggregatedConfigSource, SelfConfigSource, PathConfigSource, ApiConfigSource,
        RateLimitSettings, ExtensionConfigSource, GrpcService, EnvoyGrpc, TypedExtensionConfig, TransportSocket,
        DataSource, WatchedDirectory, HeaderValue, HeaderValueOption, QueryParameter, KeyValue,
        RuntimeFractionalPercent, RuntimeUInt32, RuntimeDouble, RuntimePercent, RuntimeFeatureFlag, BackoffStrategy,
        SourceRetryPolicy, SourceRetryPriority, SourceRetryHostPredicate, HttpProtocolOptions,
        UpstreamHttpProtocolOptions, Http1ProtocolOptions, HeaderKeyFormat, ProperCaseWords, Http2ProtocolOptions,
        SettingsParameter, KeepaliveSettings, SchemeHeaderTransformation, SubstitutionFormatString,
        JsonFormatOptions, SemanticVersion, Percent, FractionalPercent
    }
    csr {
        IstioCertificateRequest, IstioCertificateResponse
    }
    discovery {
        DiscoveryRequest, DiscoveryResponse, DeltaDiscoveryRequest, DeltaDiscoveryResponse, Resource,
        CacheControl, ResourceLocator, ResourceName, ResourceError
    }
    endpoint {
        ClusterLoadAssignment, AssignmentPolicy, DropOverload, LocalityLbEndpoints, LbEndpointList,
        LedsClusterLocalityConfig, LbEndpoint, Endpoint, HealthCheckConfig, EndpointAddress
    }
    hcm {
        HttpConnectionManager, InternalAddressConfig, SetCurrentClientCertDetails, ForwardClientCertConfig,
        UpgradeConfig, PathNormalizationOptions, ProxyStatusConfig, HcmAccessLogOptions, ForwardProtoConfig, Rds,
        HttpFilter, RequestIDExtension, Router, UpstreamAccessLogOptions, PathTransformation, PathOperation,
        NormalizePathRFC3986, MergeSlashes
    }
    health {
        HealthStatusSet, HealthCheck, Payload, HttpHealthCheck, TcpHealthCheck, GrpcHealthCheck,
        TlsOptions
    }
    listener { Listener, DeprecatedV1, ConnectionBalanceConfig, ExactBalance, CpuLocalityBalance,
        InternalListenerConfig, AdditionalAddress, FilterChain, FilterChainMatch, Filter, ListenerFilter, ApiListener
}
    listener_filter { TlsInspector, OriginalDst, HttpInspector }
    matcher { StringMatcher, ListStringMatcher, RegexMatcher, GoogleRE2, RegexMatchAndSubstitute, Int32Range,
Int64Range }
    names { NameTable, NameInfo }
    own { Issuers }
    route { RouteConfiguration, Vhds, VirtualHost, Route, RouteList, RouteMatch, GrpcRouteMatchOptions,
TlsContextMatchOptions, ConnectMatcher, HeaderMatcher, QueryParameterMatcher, CookieMatcher, RouteAction,
RequestMirrorPolicy, HashPolicy, HashHeader, HashCookie, HashCookieAttribute, HashConnectionProperties,
HashQueryParameter, HashFilterState, UpgradeConfig, ConnectConfig, MaxStreamDuration, WeightedCluster,
ClusterWeight, RetryPolicy, RetryPriority, RetryHostPredicate, RetryBackOff, ResetHeader,
RateLimitedRetryBackOff, HedgePolicy, InternalRedirectPolicy, RedirectAction, DirectResponseAction,
NonForwardingAction, FilterAction, Decorator, FilterConfig, CorsPolicy, ClusterSpecifierPlugin,
PreviousHostsPredicate }
    tcp { TcpProxy, TcpWeightedCluster, TcpClusterWeight, TunnelingConfig, OnDemand, TcpAccessLogOptions }
    tls { DownstreamTlsContext, UpstreamTlsContext, CommonTlsContext, CombinedCertificateValidationContext,
TlsParameters, TlsCertificate, TlsSessionTicketKeys, CertificateValidationContext, SystemRootCerts,
SubjectAltNameMatcher, SdsSecretConfig, Secret, GenericSecret, CertificateProviderPluginInstance, RawBuffer }
    well_known { Any, Duration, Timestamp, Struct, Value, ListValue, Status }
}

fn read<M: Message + Default + std::fmt::Debug>(bytes: &[u8]) -> Result<Reading, DecodeError> {
    let message = M::decode(bytes)?;
    Ok(Reading {
        bytes: message.encode_to_vec(),
        printed: format!("{message:#?}"),
    })
}

/// By module and type, read from the source: the line `/// \`name\`` that each message's documentation begins with.
pub(crate) fn full_names() -> &'static BTreeMap<String, String> {
    static NAMES: OnceLock<BTreeMap<String, String>> = OnceLock::new();
    NAMES.get_or_init(read_names)
}

fn read_names() -> BTreeMap<String, String> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut names = BTreeMap::new();
    for entry in std::fs::read_dir(source).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "rs") {
            continue;
        }
        let module = match path.file_stem().unwrap().to_str().unwrap() {
            "any" => "well_known",
            module => module,
        };
        let text = std::fs::read_to_string(&path).unwrap();
        for item in text
            .split("\n\n")
            .filter(|item| item.contains(", Message)]"))
        {
            let name = item
                .lines()
                .find_map(|line| line.strip_prefix("/// `")?.strip_suffix('`'));
            let message = item
                .lines()
                .find_map(|line| line.strip_prefix("pub struct ")?.split(' ').next());
            let message = message.expect("a message is a struct");
            names.insert(
                format!("{module}::{message}"),
                name.expect(message).to_owned(),
            );
        }
    }
    names
}
