//! TLS for proxies: the authority of the instance, our own certificate from it, and who is at the other end.
//!
//! The files of `private/cacerts` are looked at every second; what is new and sound takes effect at the next handshake and
//! the next signature, and what is unsound is reported and changes nothing.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use catamaran_identity::{
    CaCerts, CaCertsFiles, ClientAuth, Credentials, Issuer, LEAF_LIFE, Peer, PeerError, PeerRole,
    TrustBundle,
};
use catamaran_local::atomic;
use catamaran_model::{Fingerprint, SpiffeId, Timestamp, TrustDomain};
use catamaran_process::{Gate, Process, Stopping};
use catamaran_registry::{Problem, ProblemKind, Severity, Snapshot};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::pki_types::CertificateDer;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio_rustls::TlsAcceptor;
use tonic::service::Routes;
use tower_service::Service;

/// How often files, clocks and certificates are looked at.
const ROUND: Duration = Duration::from_secs(1);
/// How long a client may take for its TLS handshake.
const HANDSHAKE: Duration = Duration::from_secs(5);
/// Connections at once; more wait to be accepted.
const CONNECTIONS: usize = 20_000;
/// Handshakes at once; more wait, so that a herd does not starve those that are served.
const HANDSHAKES: usize = 256;
/// After so long a turn goes to the next client, and the handshake goes on without one: it waits for its client, which costs
/// nothing, and clients that say nothing more must not keep others from their turns.
const TURN: Duration = Duration::from_millis(20);
/// A quiet connection is asked after this time whether it still stands. Without it a channel does not recover from a
/// partition.
const KEEP_ALIVE: Duration = Duration::from_secs(10);
/// Streams of one connection; a proxy needs two.
const STREAMS: u32 = 32;
/// Streams that a client may have taken back before we came to them; one more ends its connection.
const UNSEEN_RESETS: usize = 20;
/// Streams that we had to reset for a client's mistakes, in the life of its connection; one more ends it.
const PROVOKED_RESETS: usize = 100;
/// Bytes of a request's headers.
const HEAD: u32 = 16 << 10;
/// How long after its successor came an intermediate's leaves may still be shown: their life, and an hour for clocks.
const PAST: Duration = Duration::from_secs(LEAF_LIFE.as_secs() + 3600);
/// Intermediates before the present one that are remembered.
const MAX_PAST: usize = 16;

/// The authority of the instance, and what we show and demand with it.
pub(crate) struct Authority {
    pub(crate) credentials: Arc<Credentials>,
    issuer: ArcSwapOption<Issuer>,
    problems: ArcSwap<Vec<Problem>>,
    past: Mutex<BTreeMap<Fingerprint, Timestamp>>,
    /// The intermediate that is to follow: peers are told of it before it signs.
    coming: ArcSwapOption<Fingerprint>,
    /// Counts up with each change that others should look at.
    changed: watch::Sender<u64>,
}

/// Where the authority lies, and whose it is.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    /// `private/cacerts`
    pub(crate) cacerts: PathBuf,
    /// Where past intermediates are noted.
    pub(crate) state: PathBuf,
    /// How long peers, and the other replicas of the instance, are told of a new intermediate before it signs.
    pub(crate) hold: Duration,
}

impl Authority {
    /// Without an authority: it refuses every handshake until [`Authority::look`] finds one.
    pub(crate) fn new(place: &Place) -> Authority {
        let clock = Arc::new(rustls::time_provider::DefaultTimeProvider);
        Authority {
            credentials: Arc::new(Credentials::anonymous(TrustBundle::default(), clock)),
            issuer: ArcSwapOption::empty(),
            problems: ArcSwap::default(),
            past: Mutex::new(read_past(&past_file(&place.state))),
            coming: ArcSwapOption::empty(),
            changed: watch::Sender::new(0),
        }
    }

    /// The signer, once there is one.
    pub(crate) fn issuer(&self) -> Option<Arc<Issuer>> {
        self.issuer.load_full()
    }

    /// What people should know of it.
    pub(crate) fn problems(&self) -> Arc<Vec<Problem>> {
        self.problems.load_full()
    }

    /// Tells when the authority or its problems changed.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// The intermediates that speak for the managed cluster: the present one, the one that is to follow, and earlier ones as
    /// long as what they signed may be in use.
    pub(crate) fn intermediates(&self, now: Timestamp) -> Vec<Fingerprint> {
        let past = self.past.lock().unwrap_or_else(PoisonError::into_inner);
        let past = past
            .iter()
            .filter(|(_, replaced)| now < replaced.after(PAST))
            .map(|(print, _)| *print);
        let mut all: Vec<_> = self
            .issuer()
            .map(|issuer| issuer.fingerprint())
            .into_iter()
            .chain(past)
            .chain(self.coming.load().as_deref().copied())
            .collect();
        all.sort();
        all.dedup();
        all
    }

    /// Whether this instance issued the peer's certificate. Another instance of the same root could otherwise speak for our
    /// workloads.
    pub(crate) fn issued(&self, peer: &Peer, now: Timestamp) -> bool {
        let ours = self.intermediates(now);
        peer.issuers.iter().any(|issuer| ours.contains(issuer))
    }

    /// Tells peers of an intermediate that does not sign yet.
    fn announce(&self, coming: Option<Fingerprint>) {
        self.coming.store(coming.map(Arc::new));
        self.changed.send_modify(|count| *count += 1);
    }

    fn replace(&self, issuer: Issuer, place: &Place, now: Timestamp) {
        let before = self.issuer.swap(Some(Arc::new(issuer)));
        let present = self.issuer().map(|issuer| issuer.fingerprint());
        let mut past = self.past.lock().unwrap_or_else(PoisonError::into_inner);
        let noted = past.clone();
        past.retain(|_, replaced| now < replaced.after(PAST));
        if let Some(before) = before
            .map(|before| before.fingerprint())
            .filter(|before| Some(*before) != present)
        {
            past.insert(before, now);
        }
        // The present one is noted too, as if it ended now: a restart after its files were replaced must still know it.
        past.extend(present.map(|present| (present, now)));
        while past.len() > MAX_PAST {
            let oldest = past
                .iter()
                .min_by_key(|(_, replaced)| **replaced)
                .map(|(print, _)| *print);
            past.remove(&oldest.expect("it is not empty"));
        }
        if *past != noted
            && let Err(error) = write_past(&past_file(&place.state), &past)
        {
            tracing::warn!("past intermediates cannot be noted: {error}");
        }
    }
}

/// Keeps the authority, our certificate and the gate `issuer` as they should be, until the process stops.
pub(crate) fn keep(
    authority: Arc<Authority>,
    place: Place,
    snapshots: watch::Receiver<Arc<Snapshot>>,
    process: &Process,
    now: fn() -> Timestamp,
) {
    let gate = process.gate("issuer");
    let mut keeping = Keeping {
        authority,
        place,
        gate,
        seen: None,
        coming: None,
        noted: Timestamp(0),
    };
    let stopping = process.stopping();
    process.run("authority", async move {
        let mut snapshots = snapshots;
        let stop = stopping.wait();
        tokio::pin!(stop);
        loop {
            let domain = snapshots
                .borrow_and_update()
                .mesh
                .as_ref()
                .map(|mesh| mesh.trust_domain.clone());
            if let Some(domain) = domain {
                keeping = look(keeping, domain, now()).await;
            }
            let wait = async {
                // Until the instance's settings are known each snapshot may bring them; later ones only rarely matter.
                match keeping.seen.is_some() {
                    true => tokio::time::sleep(ROUND).await,
                    false => drop(tokio::time::timeout(ROUND, snapshots.changed()).await),
                }
            };
            tokio::select! {
                () = &mut stop => return Ok::<(), Infallible>(()),
                () = wait => {}
            }
        }
    });
}

async fn look(mut keeping: Keeping, domain: TrustDomain, now: Timestamp) -> Keeping {
    // Reading files and signing are no work for a thread that serves.
    let looked = tokio::task::spawn_blocking(move || {
        keeping.look(&domain, now);
        keeping
    });
    match looked.await {
        Ok(keeping) => keeping,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

struct Keeping {
    authority: Arc<Authority>,
    place: Place,
    gate: Gate,
    /// What the present issuer was made from.
    seen: Option<(CaCertsFiles, TrustDomain)>,
    /// What is to follow, and since when peers are told of it.
    coming: Option<(CaCertsFiles, Timestamp)>,
    /// When the present intermediate was last noted on disk.
    noted: Timestamp,
}

impl Keeping {
    fn look(&mut self, domain: &TrustDomain, now: Timestamp) {
        let mut problems = Vec::new();
        let mut problem = |severity, message| {
            problems.push(Problem {
                severity,
                kind: ProblemKind::BadObject,
                cluster: None,
                object: "private/cacerts".into(),
                message,
            });
        };
        match CaCertsFiles::collect(|name| {
            std::fs::read_to_string(self.place.cacerts.join(name)).ok()
        }) {
            Err(error) => problem(Severity::Error, error.to_string()),
            Ok(files) => {
                let seen = self
                    .seen
                    .as_ref()
                    .is_some_and(|(old, of)| (old, of) == (&files, domain));
                if !seen {
                    let read = CaCerts::read(&files, now).map_err(|error| error.to_string());
                    let issuer = read.and_then(|authority| {
                        Issuer::new(authority, domain.clone()).map_err(|error| error.to_string())
                    });
                    match issuer {
                        Ok(issuer) if self.holds(&files, &issuer, now) => {}
                        issuer => match issuer.and_then(|issuer| self.install(issuer, domain, now))
                        {
                            Ok(()) => self.seen = Some((files, domain.clone())),
                            Err(message) => {
                                let goes_on = match self.seen {
                                    Some(_) => "; the authority before stays in use",
                                    None => "",
                                };
                                problem(Severity::Error, format!("{message}{goes_on}"));
                            }
                        },
                    }
                }
            }
        }
        if let Some(issuer) = self.authority.issuer() {
            let holding = self.authority.credentials.holding();
            if holding.is_none_or(|holding| now >= holding.renew_at(0))
                && let Err(message) = self.renew(&issuer, domain, now)
            {
                problem(Severity::Error, message);
            }
            match issuer.ready(now) {
                Ok(()) => self.gate.open(),
                Err(error) => {
                    self.gate.close();
                    problem(Severity::Error, error.to_string());
                }
            }
            if let Some(end) = issuer.renewal_due(now) {
                problem(
                    Severity::Warning,
                    format!(
                        "half of the life of the issuing certificate is over, it ends at {}; renew it with `catamaran \
                         trust renew MESH`",
                        crate::status::utc(end)
                    ),
                );
            }
            // The note must be younger than a leaf is long.
            if now.since(self.noted) > LEAF_LIFE / 4 {
                self.noted = now;
                self.authority.replace((*issuer).clone(), &self.place, now);
            }
        }
        if *self.authority.problems() != problems {
            for problem in &problems {
                tracing::warn!("{}: {}", problem.object, problem.message);
            }
            self.authority.problems.store(Arc::new(problems));
            self.authority.changed.send_modify(|count| *count += 1);
        }
    }

    /// Whether a successor has to wait, because peers may not have heard of it.
    ///
    /// The replicas of an instance see a replaced Secret at different times, and what one of them signs must count with the
    /// other and with every peer.
    fn holds(&mut self, files: &CaCertsFiles, next: &Issuer, now: Timestamp) -> bool {
        let Some(present) = self.authority.issuer() else {
            return false;
        };
        let hold = self.place.hold;
        let late = present.not_after() <= now.after(hold);
        if hold.is_zero() || late || present.fingerprint() == next.fingerprint() {
            return false;
        }
        match &self.coming {
            Some((told, since)) if told == files => now.since(*since) < hold,
            _ => {
                tracing::info!(
                    issuer = %next.facts().subject,
                    "telling peers of a new authority, which signs in {} s", hold.as_secs()
                );
                self.coming = Some((files.clone(), now));
                self.authority.announce(Some(next.fingerprint()));
                true
            }
        }
    }

    fn install(
        &mut self,
        issuer: Issuer,
        domain: &TrustDomain,
        now: Timestamp,
    ) -> Result<(), String> {
        self.renew(&issuer, domain, now)?;
        tracing::info!(issuer = %issuer.facts().subject, "signing with a new authority");
        self.authority.replace(issuer, &self.place, now);
        self.noted = now;
        self.coming = None;
        self.authority.coming.store(None);
        self.authority.changed.send_modify(|count| *count += 1);
        Ok(())
    }

    fn renew(&self, issuer: &Issuer, domain: &TrustDomain, now: Timestamp) -> Result<(), String> {
        let identity = SpiffeId::control_plane(domain.clone());
        let holding = issuer
            .holding_for(&identity, None, now)
            .map_err(|error| error.to_string())?;
        self.authority.credentials.install(holding);
        Ok(())
    }
}

fn past_file(state: &Path) -> PathBuf {
    state.join("intermediates.json")
}

fn read_past(path: &Path) -> BTreeMap<Fingerprint, Timestamp> {
    let text = std::fs::read(path).unwrap_or_default();
    let said: BTreeMap<String, u64> = serde_json::from_slice(&text).unwrap_or_default();
    let past = said.into_iter().take(MAX_PAST);
    past.filter_map(|(print, replaced)| Some((Fingerprint::parse(&print)?, Timestamp(replaced))))
        .collect()
}

fn write_past(path: &Path, past: &BTreeMap<Fingerprint, Timestamp>) -> std::io::Result<()> {
    let said: BTreeMap<String, u64> = past
        .iter()
        .map(|(print, replaced)| (print.to_string(), replaced.0))
        .collect();
    atomic::write(path, &serde_json::to_vec(&said)?, 0o600)
}

/// Who is at the other end of a connection. It travels with each request.
#[derive(Debug)]
pub(crate) struct Caller {
    pub(crate) address: SocketAddr,
    certificates: Vec<CertificateDer<'static>>,
    credentials: Arc<Credentials>,
}

impl Caller {
    /// Whom its certificate proves it to be, with the roots and the clock of this moment; `None` for an anonymous one.
    pub(crate) fn peer(&self, now: Timestamp) -> Result<Option<Peer>, PeerError> {
        match self.certificates.is_empty() {
            true => Ok(None),
            false => self
                .credentials
                .check(&self.certificates, PeerRole::Client, now)
                .map(Some),
        }
    }
}

/// Accepts, shakes hands and serves until the process stops; connections that stand are then asked to end.
pub(crate) async fn serve(
    listener: TcpListener,
    authority: Arc<Authority>,
    routes: Routes,
    stopping: Stopping,
) -> Result<(), rustls::Error> {
    let config = authority
        .credentials
        .server_config(&[b"h2"], ClientAuth::Optional)?;
    let acceptor = TlsAcceptor::from(config);
    let connections = Arc::new(Semaphore::new(CONNECTIONS));
    let handshakes = Arc::new(Semaphore::new(HANDSHAKES));
    let stop = stopping.clone().wait();
    tokio::pin!(stop);
    loop {
        let accept = async {
            let permit = connections.clone().acquire_owned().await;
            (listener.accept().await, permit)
        };
        let (accepted, permit) = tokio::select! {
            () = &mut stop => return Ok(()),
            accepted = accept => accepted,
        };
        let (stream, address) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of file descriptors, or a client that was gone: neither ends the listener.
                tracing::warn!("accept: {error}; going on");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let (acceptor, handshakes) = (acceptor.clone(), handshakes.clone());
        let (credentials, routes) = (authority.credentials.clone(), routes.clone());
        let stopping = stopping.clone();
        tokio::spawn(async move {
            match shake_hands(stream, address, &acceptor, &handshakes, credentials).await {
                Ok((stream, caller)) => connection(stream, caller, routes, stopping).await,
                Err(error) => tracing::info!(%address, "handshake: {error}"),
            }
            drop(permit);
        });
    }
}

type Tls = tokio_rustls::server::TlsStream<TcpStream>;

async fn shake_hands(
    stream: TcpStream,
    address: SocketAddr,
    acceptor: &TlsAcceptor,
    handshakes: &Semaphore,
    credentials: Arc<Credentials>,
) -> std::io::Result<(Tls, Arc<Caller>)> {
    stream.set_nodelay(true)?;
    let turn = handshakes.acquire().await.map_err(std::io::Error::other)?;
    let mut accepting = acceptor.accept(stream);
    let done = match tokio::time::timeout(TURN, &mut accepting).await {
        Ok(done) => done,
        Err(_) => {
            drop(turn);
            tokio::time::timeout(HANDSHAKE, accepting)
                .await
                .map_err(|_| std::io::Error::other(format!("not finished within {HANDSHAKE:?}")))?
        }
    };
    let stream = done?;
    let shown = stream.get_ref().1.peer_certificates().unwrap_or_default();
    let caller = Arc::new(Caller {
        address,
        certificates: shown
            .iter()
            .map(|certificate| certificate.clone().into_owned())
            .collect(),
        credentials,
    });
    Ok((stream, caller))
}

async fn connection(stream: Tls, caller: Arc<Caller>, routes: Routes, stopping: Stopping) {
    let address = caller.address;
    let service = hyper::service::service_fn(move |mut request: http::Request<Incoming>| {
        request.extensions_mut().insert(caller.clone());
        let mut routes = routes.clone();
        async move { routes.call(request).await }
    });
    let connection = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE)
        .max_concurrent_streams(STREAMS)
        .max_header_list_size(HEAD)
        .max_pending_accept_reset_streams(UNSEEN_RESETS)
        .max_local_error_reset_streams(PROVOKED_RESETS)
        .serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    let stop = stopping.wait();
    tokio::pin!(stop);
    let mut asked = false;
    loop {
        tokio::select! {
            served = &mut connection => {
                if let Err(error) = served {
                    tracing::debug!(%address, "connection: {error}");
                }
                return;
            }
            () = &mut stop, if !asked => {
                asked = true;
                connection.as_mut().graceful_shutdown();
            }
        }
    }
}

#[cfg(test)]
mod tests;
