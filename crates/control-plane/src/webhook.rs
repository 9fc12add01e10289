//! The admission webhook's server, and what the API server must know to ask it.
//!
//! Two tasks: `webhook` answers over TLS, `injector` keeps the certificate, the configuration and what is
//! known of the nodes. What to answer is decided in [`catamaran_kubernetes::webhook::review`].
//!
//! Every replica answers, with what the Secret holds. The one that has the lease renews it and tells the API server; only the
//! first certificate of all is made by whoever comes first, so that nobody waits for the lease to answer.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use catamaran_kubernetes::connect::Access;
use catamaran_kubernetes::inject::Instance;
use catamaran_kubernetes::webhook::certificate::{self, Due, Kept, Pair};
use catamaran_kubernetes::webhook::configuration::{self, Door};
use catamaran_kubernetes::webhook::review::{self, Address, MAX_BODY, Outcome};
use catamaran_kubernetes::webhook::{nodes, service_name};
use catamaran_model::{ClusterId, MemberMode, MeshName, Namespace, SpiffeId, Timestamp};
use catamaran_process::http::{Answer, json, text};
use catamaran_process::{Gate, Process, Stopping};
use catamaran_registry::Snapshot;
use http::{Method, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::{Body, Incoming};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use prometheus_client::metrics::counter::Counter;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio_rustls::TlsAcceptor;

use crate::lead::Lead;

/// Connections at once; more wait. API servers keep a few open each.
const CONNECTIONS: usize = 256;
/// Questions whose bodies are held at once; more wait, which bounds the memory that strangers can take.
const QUESTIONS: usize = 16;
/// How long a client may take for its handshake, and for the head of a request.
const HANDSHAKE: Duration = Duration::from_secs(5);
/// How long a question may take to be here whole and be answered: the API server waits no longer.
const PATIENCE: Duration = Duration::from_secs(5);
/// Streams of one connection.
const STREAMS: u32 = 64;
/// A quiet connection is asked after this time whether it still stands.
const KEEP_ALIVE: Duration = Duration::from_secs(30);
/// Bytes of a request's head.
const HEAD: u32 = 16 << 10;
/// How often what the API server must know is looked at, and how soon after a failure or a change.
const ROUND: Duration = Duration::from_secs(30);
const SOON: Duration = Duration::from_secs(2);
/// How often it is written again though it did not change, for somebody may have taken it away.
const AGAIN: Duration = Duration::from_secs(120);
/// How often the nodes are asked for their versions.
const NODES: Duration = Duration::from_secs(300);

/// What the sidecars of a managed cluster are.
#[derive(Debug, Clone)]
pub struct Injection {
    /// Where the webhook listens.
    pub listen: std::net::SocketAddr,
    /// Where the API server finds it.
    pub door: Door,
    /// The image with our program.
    pub image: String,
    /// Where sidecars find the control plane, `HOST:PORT`.
    pub control_plane: String,
    /// Whether init containers go on beside the programs; found out when it is not said.
    pub native: Option<bool>,
}

/// What the server and the rounds share.
struct Shared {
    injection: Injection,
    cluster: ClusterId,
    mesh: MeshName,
    snapshots: watch::Receiver<Arc<Snapshot>>,
    shown: ArcSwapOption<CertifiedKey>,
    native: watch::Sender<Option<bool>>,
    /// The same, by cluster that is managed from here.
    natives: Mutex<BTreeMap<ClusterId, bool>>,
    /// What API servers should believe.
    bundle: watch::Sender<Option<String>>,
    asked: Semaphore,
    counted: Counted,
}

struct Counted {
    injected: Counter,
    left: Counter,
    refused: Counter,
}

/// What those who tell other clusters' API servers of the webhook need of it.
#[derive(Clone)]
pub(crate) struct Hooks(Arc<Shared>);

impl Hooks {
    /// What API servers should believe, once it is known.
    pub(crate) fn bundle(&self) -> Option<String> {
        self.0.bundle.borrow().clone()
    }

    /// Notes whether the nodes of a cluster know sidecars.
    pub(crate) fn note_native(&self, cluster: &ClusterId, native: bool) {
        let natives = self.0.natives.lock();
        let mut natives = natives.unwrap_or_else(PoisonError::into_inner);
        natives.insert(cluster.clone(), native);
    }
}

/// Starts both.
pub(crate) fn start(
    listener: TcpListener,
    injection: Injection,
    (access, lead): (Access, Lead),
    (mesh, cluster): (MeshName, ClusterId),
    snapshots: watch::Receiver<Arc<Snapshot>>,
    process: &Process,
    now: fn() -> Timestamp,
) -> Result<Hooks, rustls::Error> {
    let metrics = process.metrics();
    let counted = Counted {
        injected: metrics.counter("catamaran_pods_injected", "Pods that got a sidecar"),
        left: metrics.counter(
            "catamaran_pods_left",
            "Pods that were asked about and stayed as they were",
        ),
        refused: metrics.counter(
            "catamaran_pods_refused",
            "Pods that asked for a sidecar and could not have one",
        ),
    };
    let shared = Arc::new(Shared {
        native: watch::Sender::new(injection.native),
        injection,
        cluster,
        mesh,
        snapshots,
        natives: Mutex::default(),
        bundle: watch::Sender::new(None),
        shown: ArcSwapOption::empty(),
        asked: Semaphore::new(QUESTIONS),
        counted,
    });
    let hooks = Hooks(shared.clone());
    let acceptor = TlsAcceptor::from(Arc::new(tls(shared.clone())?));
    process.run(
        "webhook",
        serve(listener, acceptor, shared.clone(), process.stopping()),
    );
    let keeping = Keeping {
        access,
        lead,
        shared,
        gate: process.gate("webhook"),
        now,
        shown: None,
        believed: None,
        successor: None,
        nodes: None,
        complained: None,
    };
    process.run("injector", keep(keeping, process.stopping()));
    Ok(hooks)
}

fn tls(shared: Arc<Shared>) -> Result<rustls::ServerConfig, rustls::Error> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?;
    let mut config = config
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(Shown(shared)));
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

/// The certificate of this moment.
struct Shown(Arc<Shared>);

impl std::fmt::Debug for Shown {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Shown")
    }
}

impl ResolvesServerCert for Shown {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.0.shown.load_full()
    }
}

async fn serve(
    listener: TcpListener,
    acceptor: TlsAcceptor,
    shared: Arc<Shared>,
    stopping: Stopping,
) -> Result<(), Infallible> {
    let connections = Arc::new(Semaphore::new(CONNECTIONS));
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
        let (acceptor, shared, stopping) = (acceptor.clone(), shared.clone(), stopping.clone());
        tokio::spawn(async move {
            match tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await {
                Ok(Ok(stream)) => connection(stream, shared, stopping).await,
                Ok(Err(error)) => tracing::info!(%address, "webhook, handshake: {error}"),
                Err(_) => tracing::info!(%address, "webhook, handshake: not in time"),
            }
            drop(permit);
        });
    }
}

async fn connection(
    stream: tokio_rustls::server::TlsStream<TcpStream>,
    shared: Arc<Shared>,
    stopping: Stopping,
) {
    let two = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    let service = hyper::service::service_fn(move |request: Request<Incoming>| {
        let shared = shared.clone();
        async move { Ok::<_, Infallible>(answer(&shared, request).await) }
    });
    let stream = TokioIo::new(stream);
    let stop = stopping.wait();
    tokio::pin!(stop);
    // what is under way when we stop is answered
    let served = match two {
        true => {
            let connection = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                .timer(TokioTimer::new())
                .keep_alive_interval(KEEP_ALIVE)
                .keep_alive_timeout(KEEP_ALIVE)
                .max_concurrent_streams(STREAMS)
                .max_header_list_size(HEAD)
                .serve_connection(stream, service);
            tokio::pin!(connection);
            tokio::select! {
                served = &mut connection => served,
                () = &mut stop => {
                    connection.as_mut().graceful_shutdown();
                    connection.await
                }
            }
        }
        false => {
            let connection = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(KEEP_ALIVE)
                .serve_connection(stream, service);
            tokio::pin!(connection);
            tokio::select! {
                served = &mut connection => served,
                () = &mut stop => {
                    connection.as_mut().graceful_shutdown();
                    connection.await
                }
            }
        }
    };
    if let Err(error) = served {
        tracing::debug!("webhook, connection: {error}");
    }
}

async fn answer<B>(shared: &Shared, request: Request<B>) -> Answer
where
    B: Body<Data = Bytes> + Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let Some(address) = Address::parse(request.uri().path()) else {
        let paths = "there is only /inject, with pairs after it as /inject/cluster/c1/net/n1";
        return text(StatusCode::NOT_FOUND, paths);
    };
    if request.method() != Method::POST {
        return text(StatusCode::METHOD_NOT_ALLOWED, "POST an AdmissionReview");
    }
    let kind = request.headers().get(header::CONTENT_TYPE);
    let kind = kind.and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    if !kind.eq_ignore_ascii_case("application/json") {
        let wanted = "the content type must be application/json";
        return text(StatusCode::UNSUPPORTED_MEDIA_TYPE, wanted);
    }
    let answered = tokio::time::timeout(PATIENCE, async {
        let Ok(_turn) = shared.asked.acquire().await else {
            return text(StatusCode::SERVICE_UNAVAILABLE, "the webhook is ending");
        };
        match Limited::new(request.into_body(), MAX_BODY).collect().await {
            Ok(body) => shared.answer(&address, &body.to_bytes()),
            Err(error) if error.is::<http_body_util::LengthLimitError>() => {
                let limit = format!("the body is larger than {} MiB", MAX_BODY >> 20);
                text(StatusCode::PAYLOAD_TOO_LARGE, limit)
            }
            Err(error) => text(StatusCode::BAD_REQUEST, format!("the body: {error}")),
        }
    });
    let slow = |_| text(StatusCode::REQUEST_TIMEOUT, "the body did not come in time");
    answered.await.unwrap_or_else(slow)
}

impl Shared {
    /// The cluster that a question is of: the one in the address, when we manage it, else our own.
    fn cluster_of(&self, address: &Address, snapshot: &Snapshot) -> ClusterId {
        let named = address.cluster.as_deref();
        let named = named.and_then(|name| ClusterId::new(name).ok());
        let managed = |cluster: &ClusterId| {
            let view = snapshot.clusters.get(cluster);
            view.is_some_and(|view| view.mode == MemberMode::Managed)
        };
        named
            .filter(managed)
            .unwrap_or_else(|| self.cluster.clone())
    }

    /// The instance as it is now in a cluster; nothing while its settings are not known.
    fn instance(&self, cluster: &ClusterId, snapshot: &Snapshot) -> Option<Instance> {
        let mesh = snapshot.mesh.as_ref()?;
        let view = snapshot.clusters.get(cluster);
        // what every node can run
        let own = *cluster == self.cluster;
        let natives = self.natives.lock();
        let natives = natives.unwrap_or_else(PoisonError::into_inner);
        let (native, control_plane) = match own {
            true => (*self.native.borrow(), self.injection.control_plane.clone()),
            // there the Service of the same name leads here
            false => {
                let service = service_name(&self.mesh);
                let native = self.injection.native;
                let native = native.or_else(|| natives.get(cluster).copied());
                (
                    native,
                    format!(
                        "{service}:{}",
                        catamaran_kubernetes::install::DISCOVERY_PORT
                    ),
                )
            }
        };
        Some(Instance {
            mesh: self.mesh.clone(),
            cluster: cluster.clone(),
            network: view.and_then(|view| view.network.clone()),
            trust_domain: mesh.trust_domain.clone(),
            cluster_domain: mesh.domain.clone(),
            control_plane,
            image: self.injection.image.clone(),
            own_namespace: Namespace::new(SpiffeId::SYSTEM_NAMESPACE).ok()?,
            native: native.unwrap_or(false),
            by_default: false,
        })
    }

    fn answer(&self, address: &Address, body: &[u8]) -> Answer {
        let snapshot = self.snapshots.borrow().clone();
        let cluster = self.cluster_of(address, &snapshot);
        let Some(instance) = self.instance(&cluster, &snapshot) else {
            // no answer makes the API server refuse the pod, and its owner tries again: a pod without its sidecar stays so
            let why = "the instance's settings are not known yet; try again";
            return text(StatusCode::SERVICE_UNAVAILABLE, why);
        };
        let view = snapshot.clusters.get(&cluster);
        let asks = |name: &str| {
            let namespace = Namespace::new(name).ok()?;
            let facts = view?.namespaces.get(&namespace)?;
            Some(facts.inject)
        };
        match review::answer(&instance, address, asks, body) {
            Ok(answer) => {
                match answer.outcome {
                    Outcome::Injected => self.counted.injected.inc(),
                    Outcome::Left => self.counted.left.inc(),
                    Outcome::Refused => self.counted.refused.inc(),
                };
                json(StatusCode::OK, answer.body)
            }
            Err(error) => text(StatusCode::BAD_REQUEST, error.to_string()),
        }
    }

    fn names(&self) -> Vec<String> {
        names_for(&self.mesh, &self.injection.door)
    }
}

/// What the certificate must be for.
fn names_for(mesh: &MeshName, door: &Door) -> Vec<String> {
    let outside = match door {
        Door::Service => None,
        Door::Url(url) => url.parse::<http::Uri>().ok(),
    };
    let host = outside.as_ref().and_then(http::Uri::host);
    let host = host.map(|host| host.trim_matches(['[', ']']).to_owned());
    [service_name(mesh)].into_iter().chain(host).collect()
}

/// Keeps what the API server must know.
struct Keeping {
    access: Access,
    lead: Lead,
    shared: Arc<Shared>,
    gate: Gate,
    now: fn() -> Timestamp,
    shown: Option<Pair>,
    /// The bundle that the API server has, since when, and when it was last written.
    believed: Option<Believed>,
    /// What another replica put into the Secret in place of what we show, and since when we know of it.
    successor: Option<(Pair, Timestamp)>,
    /// When nodes were last asked.
    nodes: Option<Timestamp>,
    complained: Option<String>,
}

struct Believed {
    bundle: String,
    since: Timestamp,
    written: Timestamp,
}

async fn keep(mut keeping: Keeping, stopping: Stopping) -> Result<(), Infallible> {
    let stop = stopping.wait();
    tokio::pin!(stop);
    let mut lead = keeping.lead.changes();
    loop {
        let round = async {
            let (wait, complaint) = match keeping.round().await {
                Ok(wait) => (wait, None),
                Err(complaint) => (SOON, Some(complaint)),
            };
            // an API server that is away asks nobody, and must not keep proxies from us
            keeping.gate.open();
            if complaint != keeping.complained {
                if let Some(complaint) = &complaint {
                    tracing::warn!("the sidecar injector: {complaint}; it is tried again");
                }
                keeping.complained = complaint;
            }
            // who comes to lead has something to do
            let _ = tokio::time::timeout(wait, lead.changed()).await;
        };
        tokio::select! {
            () = &mut stop => return Ok(()),
            () = round => {}
        }
    }
}

/// Whether to show what another replica put into the Secret: once it has told the API server of it for sure, for the one before is
/// believed beside it.
fn may_show(
    shown: Option<&Pair>,
    successor: &mut Option<(Pair, Timestamp)>,
    current: &Pair,
    now: Timestamp,
) -> bool {
    match shown {
        Some(shown) if shown == current => {
            *successor = None;
            false
        }
        Some(shown) if now < shown.until() => match successor {
            Some((pair, since)) if pair == current => now.since(*since) >= certificate::SETTLED,
            _ => {
                *successor = Some((current.clone(), now));
                false
            }
        },
        _ => true,
    }
}

impl Keeping {
    /// Gives when to look again.
    async fn round(&mut self) -> Result<Duration, String> {
        let mesh = self.shared.mesh.clone();
        let names = self.shared.names();
        let stored = certificate::read(&self.access, &mesh).await;
        let stored = stored.map_err(|failure| failure.about("the webhook's Secret"))?;
        let now = (self.now)();
        let kept = stored.as_ref().and_then(|stored| stored.kept.clone());
        let leads = self.lead.leads();
        let Some(kept) = kept else {
            if !leads && self.shown.is_some() {
                return Ok(SOON);
            }
            let first = Kept::first(&names, self.shown.as_ref(), now);
            let first = first.map_err(|error| error.to_string())?;
            self.write(&first, stored.as_ref()).await?;
            return Ok(Duration::ZERO);
        };
        let bundle = Some(kept.bundle());
        self.shared.bundle.send_if_modified(|known| {
            let new = *known != bundle;
            known.clone_from(&bundle);
            new
        });
        self.nodes(now).await;
        if !leads {
            self.believed = None;
            if may_show(self.shown.as_ref(), &mut self.successor, &kept.current, now) {
                self.show(&kept.current);
            }
            return Ok(ROUND);
        }
        // the API server first: what it does not believe must not be shown to it
        let told = self.tell(&mesh, &kept.bundle(), now).await;
        if told.is_ok() || self.shown.is_none() {
            self.show(&kept.current);
        }
        if !told? {
            return Ok(SOON);
        }
        let since = self.believed.as_ref().map(|believed| believed.since);
        let due = kept.due(&names, since, now);
        match due.map_err(|error| error.to_string())? {
            Due::Nothing if kept.next.is_some() => Ok(SOON),
            Due::Nothing => Ok(ROUND),
            Due::Write(next) => {
                let written = self.lead.clone();
                match written.write(self.write(&next, stored.as_ref())).await {
                    Some(written) => written?,
                    None => return Ok(SOON),
                }
                Ok(Duration::ZERO)
            }
        }
    }

    async fn write(
        &mut self,
        kept: &Kept,
        before: Option<&certificate::Stored>,
    ) -> Result<(), String> {
        let written = certificate::write(&self.access, &self.shared.mesh, kept, before).await;
        // whoever was first, the next round reads it
        match written.map_err(|failure| failure.about("the webhook's Secret"))? {
            true => tracing::info!("the webhook's certificates were written anew"),
            false => tracing::debug!("another replica wrote the webhook's certificates"),
        }
        Ok(())
    }

    /// Says whether the API server has it; it has not when it is not ours to tell any more.
    async fn tell(
        &mut self,
        mesh: &MeshName,
        bundle: &str,
        now: Timestamp,
    ) -> Result<bool, String> {
        let known = self.believed.as_ref();
        let known = known.filter(|believed| believed.bundle == bundle);
        if known.is_some_and(|believed| now.since(believed.written) < AGAIN) {
            return Ok(true);
        }
        let door = &self.shared.injection.door;
        let put = configuration::put(&self.access, mesh, None, door, bundle);
        match self.lead.write(put).await {
            None => return Ok(false),
            Some(put) => put.map_err(|failure| failure.about("MutatingWebhookConfigurations"))?,
        }
        let now = (self.now)();
        self.believed = Some(Believed {
            since: known.map_or(now, |believed| believed.since),
            bundle: bundle.to_owned(),
            written: now,
        });
        Ok(true)
    }

    fn show(&mut self, pair: &Pair) {
        if self.shown.as_ref() == Some(pair) {
            return;
        }
        if let Some(certified) = pair.certified() {
            self.shared.shown.store(Some(Arc::new(certified)));
            let until = crate::status::utc(pair.until());
            tracing::info!("the webhook shows a certificate that counts until {until}");
            self.shown = Some(pair.clone());
        }
    }

    async fn nodes(&mut self, now: Timestamp) {
        let fresh = self.nodes.is_some_and(|asked| now.since(asked) < NODES);
        if self.shared.injection.native.is_some() || fresh {
            return;
        }
        match nodes::know_sidecars(&self.access).await {
            Ok(know) => {
                self.nodes = Some(now);
                self.shared.native.send_replace(Some(know));
            }
            // sidecars of the older kind run everywhere
            Err(failure) => tracing::warn!("{}", failure.about("nodes")),
        }
    }
}

#[cfg(test)]
mod tests;
