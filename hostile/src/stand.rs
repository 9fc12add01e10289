//! Proxies to be attacked: the real data path, told what a control plane would tell it, without one.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use catamaran_decide::{Changes, Table};
use catamaran_identity::{CaCerts, CaCertsFiles, Credentials, Issuer};
use catamaran_model::{SpiffeId, Timestamp, TrustDomain};
use catamaran_proxy::carry::{Capture, Carrier, Remote, Role, Settings};
use catamaran_proxy::report::{Party, Report};
use catamaran_wire::cluster::{
    ExplicitHttpConfig, ProtocolConfig, UpstreamHttpOptions, UpstreamProtocolOptions,
};
use catamaran_wire::core::{Http1ProtocolOptions, HttpProtocolOptions};
use catamaran_wire::hcm::HttpConnectionManager;
use catamaran_wire::listener::FilterConfigType;
use catamaran_wire::{Any, extension};
use tokio::sync::watch;

use crate::fleet::{self, Trust};

/// How long callers of [`inbound`] may be idle, or in the middle of a head.
pub const IDLE: Duration = Duration::from_secs(5);
/// The name that the gateway lets through.
pub const SNI: &str = fleet::HELLO_SNI;

/// A proxy that runs until this is dropped.
#[derive(Debug)]
pub struct Proxy {
    /// Where it is called.
    pub address: SocketAddr,
    /// What it counts.
    pub report: Arc<Report>,
    _carrier: Carrier,
    _tables: watch::Sender<Arc<Table>>,
}

/// An address that nobody else in this process has.
pub fn address() -> IpAddr {
    fleet::address()
}

/// This moment.
pub fn now() -> Timestamp {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    Timestamp(since.as_millis() as u64)
}

/// What a workload of this account holds, signed by the authority in `files`.
pub fn credentials(files: &CaCertsFiles, account: &str) -> Arc<Credentials> {
    let authority = CaCerts::read(files, now()).expect("an authority");
    let issuer = Issuer::new(authority, TrustDomain::default()).expect("an issuer");
    let identity = SpiffeId::parse(&format!("spiffe://cluster.local/ns/default/sa/{account}"));
    let holding = issuer.holding_for(&identity.expect("an identity"), None, now());
    let clock = Arc::new(rustls::time_provider::DefaultTimeProvider);
    Arc::new(Credentials::new(holding.expect("a certificate"), clock))
}

/// A sidecar that takes HTTP of any version for `helloworld:5000` and speaks HTTP/1.1 in plain text to `program`.
pub fn outbound(program: SocketAddr) -> Proxy {
    let trust = Trust::new();
    let mut changes = fleet::calls(&trust, vec![fleet::plain(program)]);
    let options = UpstreamHttpOptions {
        upstream_protocol_options: Some(UpstreamProtocolOptions::ExplicitHttpConfig(
            ExplicitHttpConfig {
                protocol_config: Some(ProtocolConfig::HttpProtocolOptions(
                    Http1ProtocolOptions::default(),
                )),
            },
        )),
        ..UpstreamHttpOptions::default()
    };
    for cluster in &mut changes.clusters {
        cluster.transport_socket_matches.clear();
        cluster.outlier_detection = None;
        let name = extension::UPSTREAM_HTTP_OPTIONS.to_owned();
        cluster.typed_extension_protocol_options = [(name, Any::pack(&options))].into();
    }
    start(Role::Sidecar, 15001, trust.credentials(1, "sleep"), changes)
}

/// A sidecar that takes mTLS for `helloworld` and speaks HTTP/1.1 in plain text to `program`.
pub fn inbound(program: SocketAddr, credentials: Arc<Credentials>) -> Proxy {
    let mut changes = fleet::takes(program);
    // callers may be idle for so long
    for chain in changes
        .listeners
        .iter_mut()
        .flat_map(|listener| &mut listener.filter_chains)
    {
        for filter in &mut chain.filters {
            let Some(FilterConfigType::TypedConfig(config)) = &mut filter.config_type else {
                continue;
            };
            let mut manager: HttpConnectionManager = config.unpack().expect("a manager");
            manager.common_http_protocol_options = Some(HttpProtocolOptions {
                idle_timeout: Some(IDLE.into()),
                ..HttpProtocolOptions::default()
            });
            *config = Any::pack(&manager);
        }
    }
    start(Role::Sidecar, fleet::PORT, credentials, changes)
}

/// A gateway before the sidecars at these addresses.
pub fn gateway(behind: &[SocketAddr], credentials: Arc<Credentials>) -> Proxy {
    let endpoints = behind
        .iter()
        .map(|address| fleet::plain(*address))
        .collect();
    start(Role::Gateway, 15443, credentials, fleet::passes(endpoints))
}

fn start(role: Role, port: u16, credentials: Arc<Credentials>, changes: Changes) -> Proxy {
    let address = fleet::address();
    let word = |text: &str| Arc::<str>::from(text);
    let settings = Settings {
        role,
        capture: Capture::Explicit,
        listeners: false,
        address,
        own: Party {
            workload: word("stand"),
            namespace: word("default"),
            principal: word("spiffe://cluster.local/ns/default/sa/stand"),
            app: word("stand"),
            version: word("v1"),
            cluster: word("cluster-1"),
        },
        workers: 1,
        drain: Duration::from_secs(5),
        remote: Remote::default(),
    };
    // lines are made, and nobody keeps them
    let report = Report::start(Some(Box::new(std::io::sink()))).expect("a thread");
    let (tables, receiver) = watch::channel(fleet::table(changes));
    let carrier = Carrier::start(settings, receiver, credentials, &report).expect("a thread");
    Proxy {
        address: SocketAddr::new(address, port),
        report,
        _carrier: carrier,
        _tables: tables,
    }
}
