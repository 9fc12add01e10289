//! A proxy's side of the wire with nothing behind it: it asks as a proxy asks, skims what comes, and accepts it.
//!
//! It costs as little as can be, since it shares the machine with what it measures: requests are made once for all callers,
//! and of a response only the kind, the nonce and the number of resources are read.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use catamaran_identity::{Credentials, PeerRule};
use catamaran_model::{SpiffeId, TrustDomain};
use catamaran_wire::Message;
use catamaran_wire::core::Node;
use catamaran_wire::discovery::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};
use catamaran_xds::TypeUrlKind;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::names::{self, PORT, resource};

const DELTA: &str = "https://control-plane/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources";
/// Windows so large that no caller ever makes the control plane wait.
const WINDOW: u32 = 1 << 30;

/// Services that a proxy asks for which does not want all of them.
pub const FEW: usize = 20;
/// Proxies that connect at the same time.
pub const AT_ONCE: usize = 8;
/// Only what hangs takes so long.
pub const PATIENCE: Duration = Duration::from_secs(300);

/// What a caller wants, ready to be sent.
#[derive(Debug)]
pub struct Wants {
    /// Asked at once, the first with the node.
    first: Vec<(TypeUrlKind, Vec<String>)>,
    /// Asked when something of the kind came, as proxies do.
    then: BTreeMap<TypeUrlKind, Bytes>,
    /// How many resources of each kind are everything.
    whole: BTreeMap<TypeUrlKind, usize>,
    /// What is held already.
    held: Versions,
}

/// Versions of resources by name, of each kind.
pub type Versions = BTreeMap<TypeUrlKind, BTreeMap<String, String>>;

impl Wants {
    /// Everything, as our sidecar asks: kinds as a whole, endpoints and routes by name.
    pub fn all(services: usize) -> Wants {
        let names: Vec<String> = (0..services).map(resource).collect();
        let first = [
            TypeUrlKind::Issuers,
            TypeUrlKind::Cluster,
            TypeUrlKind::Listener,
            TypeUrlKind::Names,
        ];
        Wants {
            first: first.map(|kind| (kind, Vec::new())).into(),
            then: [
                (TypeUrlKind::Cluster, ask(TypeUrlKind::Endpoints, names)),
                (
                    TypeUrlKind::Listener,
                    ask(TypeUrlKind::Route, vec![PORT.to_string()]),
                ),
            ]
            .into(),
            whole: [
                (TypeUrlKind::Cluster, services),
                (TypeUrlKind::Endpoints, services),
                (TypeUrlKind::Listener, 1),
                (TypeUrlKind::Route, 1),
                (TypeUrlKind::Names, 1),
            ]
            .into(),
            held: Versions::new(),
        }
    }

    /// Everything, by one who holds this of it, and who says so: nothing needs to come.
    pub fn again(services: usize, held: Versions) -> Wants {
        let names: Vec<String> = (0..services).map(resource).collect();
        let mut wants = Wants::all(services);
        wants.first.push((TypeUrlKind::Endpoints, names));
        wants
            .first
            .push((TypeUrlKind::Route, vec![PORT.to_string()]));
        wants.then.clear();
        wants.whole.clear();
        wants.held = held;
        wants
    }

    /// What proxy `n` asks for which wants few of all `services`; the first `told` of them want service 0.
    ///
    /// The others are spread so that each is wanted about as often.
    pub fn few(services: usize, n: usize, told: usize) -> Wants {
        let others = services - 1;
        let first = if n < told { vec![0] } else { Vec::new() };
        let step = (0..FEW.min(others)).map(|k| 1 + (n * 7 + k * (others / FEW).max(1)) % others);
        let chosen: Vec<usize> = first.into_iter().chain(step).take(FEW).collect();
        Wants::some(&chosen)
    }

    /// The clusters and endpoints of these services, and the one listener that connections come in by.
    pub fn some(services: &[usize]) -> Wants {
        let names: Vec<String> = services.iter().map(|n| resource(*n)).collect();
        Wants {
            first: vec![
                (TypeUrlKind::Cluster, names.clone()),
                (TypeUrlKind::Listener, vec!["virtualOutbound".into()]),
            ],
            then: [(TypeUrlKind::Cluster, ask(TypeUrlKind::Endpoints, names))].into(),
            whole: [
                (TypeUrlKind::Cluster, services.len()),
                (TypeUrlKind::Endpoints, services.len()),
                (TypeUrlKind::Listener, 1),
            ]
            .into(),
            held: Versions::new(),
        }
    }
}

/// Which change callers look for, and where they say that they have accepted it.
#[derive(Debug, Clone)]
pub struct Lookout {
    /// Bytes that only the present change has.
    needle: Arc<Mutex<Option<(TypeUrlKind, Bytes)>>>,
    found: mpsc::UnboundedSender<Instant>,
}

impl Lookout {
    /// One that looks for nothing yet.
    pub fn new() -> (Lookout, mpsc::UnboundedReceiver<Instant>) {
        let (found, finds) = mpsc::unbounded_channel();
        let needle = Arc::default();
        (Lookout { needle, found }, finds)
    }

    /// From now on callers look for this.
    pub fn look_for(&self, kind: TypeUrlKind, needle: &str) {
        *self.needle.lock().unwrap_or_else(PoisonError::into_inner) =
            Some((kind, Bytes::copy_from_slice(needle.as_bytes())));
    }

    fn needle(&self) -> Option<(TypeUrlKind, Bytes)> {
        self.needle
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

/// How a caller came by its whole configuration.
#[derive(Debug, Clone, Copy)]
pub struct Cold {
    /// From the call of `connect` to the ACK of the last kind.
    pub time: Duration,
    /// Bytes of the responses, before TLS.
    pub bytes: u64,
}

/// A caller that holds everything it wants, and accepts what comes until it is dropped.
#[derive(Debug)]
pub struct Caller {
    /// How it came by it.
    pub cold: Cold,
    task: tokio::task::JoinHandle<()>,
    connection: tokio::task::JoinHandle<()>,
}

impl Drop for Caller {
    fn drop(&mut self) {
        self.task.abort();
        self.connection.abort();
    }
}

struct Live {
    send: h2::SendStream<Bytes>,
    receive: h2::RecvStream,
    unread: BytesMut,
    wants: Arc<Wants>,
    held: BTreeMap<TypeUrlKind, usize>,
    asked: Vec<TypeUrlKind>,
    bytes: u64,
    /// Of what came, where somebody wants to know.
    versions: Option<Versions>,
}

/// Connects as the proxy of pod `n` and waits until it has all that it wants.
///
/// # Errors
/// When the connection or its stream ends.
pub async fn connect(
    address: SocketAddr,
    credentials: &Credentials,
    n: usize,
    wants: Arc<Wants>,
    lookout: Lookout,
) -> Result<Caller> {
    let begin = Instant::now();
    let (mut live, connection) = open(address, credentials, n, wants).await?;
    while !live.whole() {
        live.step(&lookout).await?;
    }
    let cold = Cold {
        time: begin.elapsed(),
        bytes: live.bytes,
    };
    let task = tokio::spawn(async move {
        if let Err(error) = live.run(&lookout).await {
            eprintln!("caller {n}: {error:#}");
        }
    });
    Ok(Caller {
        cold,
        task,
        connection,
    })
}

/// Connects all of them, a few at a time.
///
/// # Errors
/// When one of them does not get what it wants.
pub async fn connect_all<F>(
    mut waiting: Range<usize>,
    connect: impl Fn(usize) -> F,
) -> Result<Vec<Caller>>
where
    F: Future<Output = Result<Caller>> + Send + 'static,
{
    let (mut callers, mut coming) = (Vec::new(), JoinSet::new());
    loop {
        while coming.len() < AT_ONCE
            && let Some(n) = waiting.next()
        {
            coming.spawn(connect(n));
        }
        let come = timeout(PATIENCE, coming.join_next()).await;
        match come.context("proxies do not get their configuration")? {
            Some(caller) => callers.push(caller??),
            None => return Ok(callers),
        }
    }
}

/// Waits until so many proxies have accepted what is looked for; when each did, in order.
///
/// # Errors
/// When too few have for long.
pub async fn found_by(
    many: usize,
    finds: &mut mpsc::UnboundedReceiver<Instant>,
) -> Result<Vec<Instant>> {
    let mut times = Vec::with_capacity(many);
    while times.len() < many {
        let found = timeout(PATIENCE, finds.recv()).await;
        let found =
            found.with_context(|| format!("{} of {many} proxies were told", times.len()))?;
        times.push(found.context("all callers are gone")?);
    }
    times.sort_unstable();
    Ok(times)
}

/// The versions of everything that a cold proxy is given.
///
/// # Errors
/// When the connection or its stream ends.
pub async fn learn(
    address: SocketAddr,
    credentials: &Credentials,
    wants: Wants,
) -> Result<Versions> {
    let (lookout, _finds) = Lookout::new();
    let (mut live, connection) = open(address, credentials, 0, Arc::new(wants)).await?;
    live.versions = Some(Versions::new());
    while !live.whole() {
        live.step(&lookout).await?;
    }
    connection.abort();
    Ok(live.versions.unwrap_or_default())
}

/// Connects and sends the first requests.
async fn open(
    address: SocketAddr,
    credentials: &Credentials,
    n: usize,
    wants: Arc<Wants>,
) -> Result<(Live, tokio::task::JoinHandle<()>)> {
    let rule = PeerRule::exactly(SpiffeId::control_plane(TrustDomain::default()));
    let config = credentials.client_config(&rule, &[b"h2"])?;
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let name = rustls::pki_types::ServerName::try_from("control-plane")?;
    let stream = TlsConnector::from(config).connect(name, stream).await?;
    let (client, connection) = h2::client::Builder::new()
        .initial_window_size(WINDOW)
        .initial_connection_window_size(WINDOW)
        .handshake(stream)
        .await?;
    // How it ends is seen on the stream.
    let connection = tokio::spawn(async move { drop(connection.await) });
    let request = http::Request::post(DELTA)
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(())?;
    let (answer, mut send) = client.ready().await?.send_request(request, false)?;
    for (at, (kind, names)) in wants.first.iter().enumerate() {
        let request = DeltaDiscoveryRequest {
            node: (at == 0).then(|| node(n)),
            type_url: kind.url().into(),
            resource_names_subscribe: names.clone(),
            initial_resource_versions: wants.held.get(kind).cloned().unwrap_or_default(),
            ..Default::default()
        };
        send.send_data(framed(&request), false)?;
    }
    let answer = answer.await?;
    let live = Live {
        send,
        receive: answer.into_body(),
        unread: BytesMut::new(),
        wants,
        held: BTreeMap::new(),
        asked: Vec::new(),
        bytes: 0,
        versions: None,
    };
    Ok((live, connection))
}

impl Live {
    async fn run(&mut self, lookout: &Lookout) -> Result<()> {
        loop {
            self.step(lookout).await?;
        }
    }

    fn whole(&self) -> bool {
        let mut wanted = self.wants.whole.iter();
        wanted.all(|(kind, count)| self.held.get(kind).is_some_and(|held| held >= count))
    }

    /// Takes one response and accepts it.
    async fn step(&mut self, lookout: &Lookout) -> Result<()> {
        let response = self.response().await?;
        self.bytes += response.len() as u64;
        let (kind, nonce, resources) = skim(&response).context("a response that is no message")?;
        let accepted = DeltaDiscoveryRequest {
            type_url: kind.url().into(),
            response_nonce: nonce.into(),
            ..Default::default()
        };
        self.send.send_data(framed(&accepted), false)?;
        if let Some((place, needle)) = lookout.needle()
            && kind == place
            && response.windows(needle.len()).any(|bytes| bytes == needle)
        {
            // The one who measures may have ended.
            let _ = lookout.found.send(Instant::now());
        }
        if let Some(versions) = &mut self.versions {
            let whole = DeltaDiscoveryResponse::decode(&response[..])?;
            let of_kind = versions.entry(kind).or_default();
            of_kind.extend(
                (whole.resources)
                    .into_iter()
                    .map(|one| (one.name, one.version)),
            );
        }
        *self.held.entry(kind).or_default() += resources;
        if let Some(next) = self.wants.then.get(&kind)
            && !self.asked.contains(&kind)
        {
            self.asked.push(kind);
            self.send.send_data(next.clone(), false)?;
        }
        Ok(())
    }

    async fn response(&mut self) -> Result<Bytes> {
        loop {
            if let Some(mut head) = self.unread.get(1..5) {
                let length = head.get_u32() as usize;
                if self.unread.len() >= 5 + length {
                    self.unread.advance(5);
                    return Ok(self.unread.split_to(length).freeze());
                }
                self.unread.reserve(5 + length - self.unread.len());
            }
            let Some(data) = self.receive.data().await else {
                let trailers = self.receive.trailers().await?;
                bail!("the stream ended: {trailers:?}");
            };
            let data = data?;
            self.receive.flow_control().release_capacity(data.len())?;
            self.unread.extend_from_slice(&data);
        }
    }
}

fn node(n: usize) -> Node {
    let metadata = [
        ("CLUSTER_ID", "cluster-1"),
        ("MESH_ID", "mesh-1"),
        ("NAMESPACE", "default"),
        ("SERVICE_ACCOUNT", "caller"),
        ("WORKLOAD_NAME", "caller"),
    ];
    Node {
        id: format!(
            "sidecar~10.200.0.1~{}.default~default.svc.cluster.local",
            names::caller(n)
        ),
        metadata: Some(metadata.into_iter().collect()),
        user_agent_name: "catamaran-proxy".into(),
        ..Default::default()
    }
}

fn ask(kind: TypeUrlKind, names: Vec<String>) -> Bytes {
    framed(&DeltaDiscoveryRequest {
        type_url: kind.url().into(),
        resource_names_subscribe: names,
        ..Default::default()
    })
}

/// A message as gRPC sends it.
fn framed(message: &DeltaDiscoveryRequest) -> Bytes {
    let length = message.encoded_len();
    let mut bytes = BytesMut::with_capacity(5 + length);
    bytes.put_u8(0);
    bytes.put_u32(length as u32);
    bytes.put(&message.encode_to_vec()[..]);
    bytes.freeze()
}

/// Kind, nonce and number of resources of an encoded `DeltaDiscoveryResponse`.
fn skim(mut bytes: &[u8]) -> Option<(TypeUrlKind, &str, usize)> {
    let (mut kind, mut nonce, mut resources) = (None, None, 0);
    while !bytes.is_empty() {
        let key = varint(&mut bytes)?;
        // Every field of this message has its length before it.
        if key & 7 != 2 {
            return None;
        }
        let length = usize::try_from(varint(&mut bytes)?).ok()?;
        let (field, rest) = bytes.split_at_checked(length)?;
        bytes = rest;
        match key >> 3 {
            2 => resources += 1,
            4 => kind = TypeUrlKind::of(std::str::from_utf8(field).ok()?),
            5 => nonce = Some(std::str::from_utf8(field).ok()?),
            _ => {}
        }
    }
    Some((kind?, nonce?, resources))
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}
