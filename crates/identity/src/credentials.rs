//! What a program shows and demands on its connections, replaceable while it runs.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use arc_swap::ArcSwap;
use catamaran_model::Timestamp;
use rustls::client::{ResolvesClientCert, Resumption, Tls12Resumption};
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::time_provider::TimeProvider;
use rustls::{ClientConfig, CommonState, ServerConfig, SignatureScheme};
use rustls_pki_types::CertificateDer;

use crate::bundle::TrustBundle;
use crate::holding::Holding;
use crate::peer::{Peer, PeerError, PeerRole, PeerRule};
use crate::resume::{Sessions, Tickets};
use crate::tls::{self, ClientAuth, ClientVerifier, ServerVerifier};
use crate::trust::{SharedTrust, Trust};

/// Configurations that nobody uses any more are looked for when this many new ones were made since the last look.
const SWEEP_EVERY: usize = 64;

#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) generation: u64,
    holding: Option<Arc<Holding>>,
}

/// What rustls asks for our certificate at each handshake.
struct Resolver(Arc<ArcSwap<Held>>);

impl Resolver {
    fn certified(&self) -> Option<Arc<CertifiedKey>> {
        self.0.load().holding.as_ref().map(|h| h.certified())
    }
}

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Resolver")
    }
}

impl ResolvesServerCert for Resolver {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.certified()
    }
}

impl ResolvesClientCert for Resolver {
    fn resolve(&self, _hints: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.certified()
    }

    fn has_certs(&self) -> bool {
        self.0.load().holding.is_some()
    }
}

type Alpn = Vec<Vec<u8>>;

/// Whether a listener gives tickets, by which callers resume their sessions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Resume {
    Never,
    ByTicket,
}

#[derive(Default)]
struct Configs {
    clients: BTreeMap<(PeerRule, Alpn), Weak<ClientConfig>>,
    servers: BTreeMap<(Alpn, ClientAuth, Resume), Weak<ServerConfig>>,
    since_sweep: usize,
}

/// The certificate, key and roots of one program. Listeners and pools keep the configurations they got; what
/// [`Credentials::install`] puts in takes effect at the next handshake, and connections that stand are not touched.
///
/// No configuration takes early data, and none resumes sessions but those of [`Credentials::resuming_server_config`] and
/// [`Credentials::resuming`]. A resumed session proves that the peer is the one of an earlier handshake; what is to be
/// thought of that peer, [`Credentials::peer`] and [`Credentials::server`] find out for each connection anew, with the roots
/// and the time of this moment. So nobody is believed past the end of a certificate or the removal of a root.
pub struct Credentials {
    held: Arc<ArcSwap<Held>>,
    trust: SharedTrust,
    clock: Arc<dyn TimeProvider>,
    configs: Mutex<Configs>,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let held = self.held.load();
        f.debug_struct("Credentials")
            .field("generation", &held.generation)
            .field(
                "identity",
                &held.holding.as_ref().map(|h| h.identity().clone()),
            )
            .finish_non_exhaustive()
    }
}

impl Credentials {
    /// Credentials of a program that has no certificate yet: as a client it shows none, as a server it refuses all.
    pub fn anonymous(bundle: TrustBundle, clock: Arc<dyn TimeProvider>) -> Credentials {
        Credentials {
            held: Arc::new(ArcSwap::from_pointee(Held {
                generation: 0,
                holding: None,
            })),
            trust: Arc::new(ArcSwap::from_pointee(Trust::new(bundle))),
            clock,
            configs: Mutex::default(),
        }
    }

    /// Credentials of a program that holds a certificate, as generation 1.
    pub fn new(holding: Holding, clock: Arc<dyn TimeProvider>) -> Credentials {
        let credentials = Credentials::anonymous(holding.bundle().clone(), clock);
        credentials.install(holding);
        credentials
    }

    /// Takes a new certificate, key and roots; gives the generation. The same content again changes nothing.
    pub fn install(&self, holding: Holding) -> u64 {
        // The lock makes this the only writer while it compares and swaps.
        let _writer = self.configs();
        let before = self.held.load();
        if before.holding.as_ref().is_some_and(|h| **h == holding) {
            return before.generation;
        }
        let generation = before.generation + 1;
        if **self.trust.load().bundle() != *holding.bundle() {
            self.trust
                .store(Arc::new(Trust::new(holding.bundle().clone())));
        }
        self.held.store(Arc::new(Held {
            generation,
            holding: Some(Arc::new(holding)),
        }));
        generation
    }

    /// Counts up with each new certificate or bundle. Pools key their connections by it, reading it before they dial.
    pub fn generation(&self) -> u64 {
        self.held.load().generation
    }

    /// What is held now.
    pub fn holding(&self) -> Option<Arc<Holding>> {
        self.held.load().holding.clone()
    }

    /// The roots that are trusted now.
    pub fn bundle(&self) -> Arc<TrustBundle> {
        self.trust.load().bundle().clone()
    }

    /// The configuration of a listener. Equal arguments give the same one for as long as somebody holds it.
    pub fn server_config(
        &self,
        alpn: &[&[u8]],
        auth: ClientAuth,
    ) -> Result<Arc<ServerConfig>, rustls::Error> {
        self.server_config_with(alpn, auth, Resume::Never)
    }

    /// The same, but callers may resume their sessions. Who they are must be asked of [`Credentials::peer`] after each
    /// handshake, and a caller that it refuses must be dropped.
    pub fn resuming_server_config(
        &self,
        alpn: &[&[u8]],
        auth: ClientAuth,
    ) -> Result<Arc<ServerConfig>, rustls::Error> {
        self.server_config_with(alpn, auth, Resume::ByTicket)
    }

    fn server_config_with(
        &self,
        alpn: &[&[u8]],
        auth: ClientAuth,
        resume: Resume,
    ) -> Result<Arc<ServerConfig>, rustls::Error> {
        let key = (owned(alpn), auth, resume);
        let mut configs = self.configs();
        if let Some(config) = configs.servers.get(&key).and_then(Weak::upgrade) {
            return Ok(config);
        }
        let mut config = ServerConfig::builder_with_details(tls::provider(), self.clock.clone())
            .with_protocol_versions(tls::VERSIONS)?
            .with_client_cert_verifier(Arc::new(ClientVerifier::new(self.trust.clone(), auth)))
            .with_cert_resolver(Arc::new(Resolver(self.held.clone())));
        config.alpn_protocols = key.0.clone();
        config.ignore_client_order = true;
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        if resume == Resume::ByTicket {
            // one listener's tickets are worth nothing to another, which may demand more of its callers
            config.ticketer = Arc::new(Tickets::new(self.held.clone(), self.clock.clone()));
            config.send_tls13_tickets = 1;
        }
        config.max_early_data_size = 0;
        let config = Arc::new(config);
        configs.servers.insert(key, Arc::downgrade(&config));
        configs.sweep();
        Ok(config)
    }

    /// The configuration of a client that demands `rule`. Equal arguments give the same one for as long as somebody
    /// holds it.
    pub fn client_config(
        &self,
        rule: &PeerRule,
        alpn: &[&[u8]],
    ) -> Result<Arc<ClientConfig>, rustls::Error> {
        let key = (rule.clone(), owned(alpn));
        let mut configs = self.configs();
        if let Some(config) = configs.clients.get(&key).and_then(Weak::upgrade) {
            return Ok(config);
        }
        let verifier = ServerVerifier::new(self.trust.clone(), rule.clone());
        let mut config = ClientConfig::builder_with_details(tls::provider(), self.clock.clone())
            .with_protocol_versions(tls::VERSIONS)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_client_cert_resolver(Arc::new(Resolver(self.held.clone())));
        config.alpn_protocols = key.1.clone();
        config.resumption = Resumption::disabled();
        config.enable_early_data = false;
        let config = Arc::new(config);
        configs.clients.insert(key, Arc::downgrade(&config));
        configs.sweep();
        Ok(config)
    }

    /// A configuration of [`Credentials::client_config`], with sessions to one endpoint: what is given besides it keeps them,
    /// at most `room` at a time. Whom a connection reached must be asked of [`Credentials::server`] after each handshake, and
    /// the sessions be forgotten where it refuses.
    pub fn resuming(
        &self,
        config: &ClientConfig,
        room: usize,
    ) -> (Arc<ClientConfig>, Arc<Sessions>) {
        let sessions = Arc::new(Sessions::new(self.held.clone(), self.clock.clone(), room));
        let mut config = config.clone();
        config.resumption =
            Resumption::store(sessions.clone()).tls12_resumption(Tls12Resumption::Disabled);
        (Arc::new(config), sessions)
    }

    /// Who is at the other end of a finished handshake of one of these configurations; `Ok(None)` for an anonymous client.
    ///
    /// Everything is checked with the roots and the time of this moment, in a resumed session too. Cheap after a whole
    /// handshake: the chain is known to be good then.
    pub fn peer(
        &self,
        connection: &CommonState,
        role: PeerRole,
        now: Timestamp,
    ) -> Result<Option<Peer>, PeerError> {
        connection
            .peer_certificates()
            .filter(|shown| !shown.is_empty())
            .map(|shown| self.check(shown, role, now))
            .transpose()
    }

    /// Who is at the other end of a finished handshake of a client, as [`Credentials::peer`] says it; an error if it is
    /// nobody that `rule` accepts.
    pub fn server(
        &self,
        connection: &CommonState,
        rule: &PeerRule,
        now: Timestamp,
    ) -> Result<Peer, PeerError> {
        let peer = self
            .peer(connection, PeerRole::Server, now)?
            .ok_or(PeerError::NoCertificate)?;
        rule.admit(&peer)?;
        Ok(peer)
    }

    /// Checks certificates that were accepted elsewhere or earlier, the peer's own first, with the roots of this moment.
    pub fn check(
        &self,
        certificates: &[CertificateDer<'_>],
        role: PeerRole,
        now: Timestamp,
    ) -> Result<Peer, PeerError> {
        let (leaf, above) = certificates.split_first().ok_or(PeerError::NoCertificate)?;
        let trust = self.trust.load();
        trust
            .check(role, leaf, above, now)
            .map(Arc::unwrap_or_clone)
    }

    fn configs(&self) -> MutexGuard<'_, Configs> {
        self.configs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Configs {
    fn sweep(&mut self) {
        self.since_sweep += 1;
        if self.since_sweep >= SWEEP_EVERY {
            self.since_sweep = 0;
            self.clients.retain(|_, config| config.strong_count() > 0);
            self.servers.retain(|_, config| config.strong_count() > 0);
        }
    }
}

fn owned(alpn: &[&[u8]]) -> Alpn {
    alpn.iter().map(|protocol| protocol.to_vec()).collect()
}

#[cfg(test)]
mod tests;
