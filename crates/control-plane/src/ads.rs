//! `envoy.service.discovery.v3.AggregatedDiscoveryService`, in deltas and as the state of the world.
//!
//! A stream is a task that owns its session. It waits for the client, for its mailbox, for its session's time and for the end
//! of the client's certificate, and for nothing else.

use std::sync::Arc;
use std::time::Duration;

use catamaran_identity::Peer;
use catamaran_model::{ClusterId, MeshName, Timestamp};
use catamaran_process::Stopping;
use catamaran_wire::core::Node;
use catamaran_wire::discovery::{DeltaDiscoveryRequest, DiscoveryRequest};
use catamaran_wire::grpc::{AggregatedDiscoveryService, Requests, Responses};
use catamaran_wire::{Encode, Message};
use catamaran_xds::Response as Answer;
use catamaran_xds::{Event, Input, Outputs, Protocol, ServerSession, TypeUrlKind};
use futures_util::StreamExt;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use crate::proxy::{Proxy, admit};
use crate::serving::{Authority, Caller};
use crate::tell::{Letters, OpenError, Slot, Tell};

/// How long a client may take for its first request.
const FIRST_REQUEST: Duration = Duration::from_secs(10);
/// After so long a stream looks for what is new although none of it is for it, and lets go of what was before.
const LOOK: Duration = Duration::from_secs(60);
/// Answers that wait for a client that does not read. One of each kind is under way at most, so this never fills.
const ANSWERS: usize = 2 * TypeUrlKind::ALL.len();

/// Serves discovery.
#[derive(Clone)]
pub(crate) struct Discovery {
    pub(crate) cluster: ClusterId,
    pub(crate) mesh: MeshName,
    pub(crate) authority: Arc<Authority>,
    pub(crate) tell: Tell,
    pub(crate) stopping: Stopping,
    pub(crate) now: fn() -> Timestamp,
    pub(crate) metrics: Metrics,
}

/// What is counted.
#[derive(Clone)]
pub(crate) struct Metrics {
    pub(crate) streams: Gauge,
    pub(crate) sent: Counter,
    pub(crate) bytes: Counter,
    pub(crate) accepted: Counter,
    pub(crate) rejected: Counter,
}

impl Metrics {
    pub(crate) fn new(metrics: &catamaran_process::Metrics) -> Metrics {
        Metrics {
            streams: metrics.gauge("catamaran_streams", "Open streams of proxies"),
            sent: metrics.counter("catamaran_responses", "Responses sent to proxies"),
            bytes: metrics.counter(
                "catamaran_response_bytes",
                "Bytes of responses sent to proxies, before compression and TLS",
            ),
            accepted: metrics.counter("catamaran_accepted", "Responses that proxies accepted"),
            rejected: metrics.counter(
                "catamaran_rejected",
                "Responses or resources that proxies refused",
            ),
        }
    }
}

/// What differs between the two protocols.
trait Kind: Send + 'static {
    const PROTOCOL: Protocol;
    type Request: Message + Default;
    fn node(request: &Self::Request) -> Option<&Node>;
    fn type_url(request: &Self::Request) -> &str;
    fn input(request: Self::Request) -> Input;
}

struct Deltas;

impl Kind for Deltas {
    const PROTOCOL: Protocol = Protocol::Delta;
    type Request = DeltaDiscoveryRequest;

    fn node(request: &DeltaDiscoveryRequest) -> Option<&Node> {
        request.node.as_ref()
    }

    fn type_url(request: &DeltaDiscoveryRequest) -> &str {
        &request.type_url
    }

    fn input(request: DeltaDiscoveryRequest) -> Input {
        Input::Delta(request)
    }
}

struct World;

impl Kind for World {
    const PROTOCOL: Protocol = Protocol::StateOfTheWorld;
    type Request = DiscoveryRequest;

    fn node(request: &DiscoveryRequest) -> Option<&Node> {
        request.node.as_ref()
    }

    fn type_url(request: &DiscoveryRequest) -> &str {
        &request.type_url
    }

    fn input(request: DiscoveryRequest) -> Input {
        Input::Full(request)
    }
}

impl AggregatedDiscoveryService for Discovery {
    type Full = Answer;
    type Delta = Answer;

    async fn stream_aggregated_resources(
        &self,
        request: Request<Requests<DiscoveryRequest>>,
    ) -> Result<Response<Responses<Answer>>, Status> {
        self.serve::<World>(request)
    }

    async fn delta_aggregated_resources(
        &self,
        request: Request<Requests<DeltaDiscoveryRequest>>,
    ) -> Result<Response<Responses<Answer>>, Status> {
        self.serve::<Deltas>(request)
    }
}

impl Discovery {
    fn serve<K: Kind>(
        &self,
        request: Request<Requests<K::Request>>,
    ) -> Result<Response<Responses<Answer>>, Status> {
        let caller = request.extensions().get::<Arc<Caller>>().cloned();
        let caller = caller.ok_or_else(|| Status::internal("the connection is not known"))?;
        let peer = self.peer(&caller)?;
        let (answers, out) = mpsc::channel(ANSWERS);
        let discovery = self.clone();
        let requests = request.into_inner();
        tokio::spawn(async move {
            discovery.metrics.streams.inc();
            let served = discovery
                .stream::<K>(requests, &answers, &caller, &peer)
                .await;
            discovery.metrics.streams.dec();
            if let Err(status) = served {
                tracing::info!(address = %caller.address, peer = %peer.id, "stream ends: {}", status.message());
                // The client may be gone.
                let _ = answers.send(Err(status)).await;
            }
        });
        Ok(Response::new(ReceiverStream::new(out).boxed()))
    }

    fn peer(&self, caller: &Caller) -> Result<Peer, Status> {
        let now = (self.now)();
        let peer = caller
            .peer(now)
            .map_err(|error| Status::unauthenticated(error.to_string()))?;
        let peer = peer.ok_or_else(|| {
            Status::unauthenticated(
                "discovery is for workloads of the mesh: show the certificate that this control plane signed",
            )
        })?;
        match self.authority.issued(&peer, now) {
            true => Ok(peer),
            false => Err(Status::permission_denied(format!(
                "the certificate of {} was not issued by this instance; connect to the control plane of its own cluster",
                peer.id
            ))),
        }
    }

    async fn stream<K: Kind>(
        &self,
        mut requests: Requests<K::Request>,
        answers: &mpsc::Sender<Result<Answer, Status>>,
        caller: &Caller,
        peer: &Peer,
    ) -> Result<(), Status> {
        let first = tokio::time::timeout(FIRST_REQUEST, requests.message()).await;
        let first =
            first.map_err(|_| Status::deadline_exceeded("no request came on the stream"))??;
        let Some(first) = first else {
            return Ok(());
        };
        let proxy = admit(K::node(&first), peer, caller.address, &self.mesh)
            .map_err(|refused| Status::permission_denied(refused.to_string()))?;
        let slot = Arc::new(Slot::new(proxy));
        let opened = tokio::select! {
            opened = self.tell.open(&slot) => opened.map_err(|refused| match refused {
                OpenError::NotNow(why) => Status::unavailable(why),
                OpenError::Never(why) => Status::permission_denied(why),
            })?,
            () = answers.closed() => return Ok(()),
        };
        let mut live = Live {
            discovery: self,
            answers,
            session: self.session::<K>(&slot)?,
            slot: slot.clone(),
            wake_at: None,
        };
        live.request::<K>(first).await?;
        let end_of_certificate = peer.not_after.since((self.now)());
        let end_of_certificate = tokio::time::sleep(end_of_certificate);
        tokio::pin!(end_of_certificate);
        let stop = self.stopping.clone().wait();
        tokio::pin!(stop);
        let mut look = tokio::time::interval_at(Instant::now() + LOOK, LOOK);
        loop {
            let now = (self.now)();
            let wait = live.wake_at.map(|at| at.since(now));
            tokio::select! {
                request = requests.message() => match request? {
                    Some(request) => live.request::<K>(request).await?,
                    None => break,
                },
                () = slot.wake.notified() => live.read_mail().await?,
                () = tokio::time::sleep(wait.unwrap_or_default()), if wait.is_some() => {
                    live.step(Input::Tick).await?;
                }
                _ = look.tick() => live.read_mail().await?,
                () = &mut end_of_certificate => {
                    return Err(Status::unauthenticated("the certificate of this connection has ended; connect with a new one"));
                }
                () = answers.closed() => break,
                () = &mut stop => return Err(Status::unavailable("the control plane stops; connect again")),
            }
        }
        drop(opened);
        Ok(())
    }

    fn session<K: Kind>(&self, slot: &Slot) -> Result<ServerSession, Status> {
        let letters = slot.take();
        let current = letters
            .current
            .ok_or_else(|| Status::internal("the stream was opened without a set"))?;
        let identifier = format!("{}/{}", self.mesh, self.cluster);
        let habits = slot.proxy.habits();
        let mut session = ServerSession::new(
            K::PROTOCOL,
            habits,
            identifier,
            current.set,
            current.revision,
        );
        if let Some(quarantine) = letters.quarantine {
            session.step(Input::Quarantine(quarantine), (self.now)());
        }
        Ok(session)
    }
}

/// A stream that was admitted.
struct Live<'a> {
    discovery: &'a Discovery,
    answers: &'a mpsc::Sender<Result<Answer, Status>>,
    session: ServerSession,
    slot: Arc<Slot>,
    wake_at: Option<Timestamp>,
}

impl Live<'_> {
    /// The latest first, so that what is asked is answered from it.
    async fn request<K: Kind>(&mut self, request: K::Request) -> Result<(), Status> {
        self.read_mail().await?;
        let kind = TypeUrlKind::of(K::type_url(&request));
        let stepped = self.step(K::input(request)).await;
        if let Some(kind) = kind {
            self.slot.note_interest(kind, &mut self.session);
        }
        stepped?;
        // What came between the look into the mailbox and the note of what is wanted woke nobody.
        self.read_mail().await
    }

    async fn read_mail(&mut self) -> Result<(), Status> {
        let Letters {
            current,
            quarantine,
            end,
        } = self.slot.take();
        if let Some(why) = end {
            return Err(Status::permission_denied(why));
        }
        if let Some(quarantine) = quarantine {
            self.step(Input::Quarantine(quarantine)).await?;
        }
        match current {
            Some(current) => self.step(Input::Current(current)).await,
            None => Ok(()),
        }
    }

    async fn step(&mut self, input: Input) -> Result<(), Status> {
        let Outputs {
            responses,
            events,
            wake_at,
            end,
        } = self.session.step(input, (self.discovery.now)());
        self.wake_at = wake_at;
        let metrics = &self.discovery.metrics;
        let mut rejected = None;
        for event in events {
            match event {
                Event::Accepted { .. } => drop(metrics.accepted.inc()),
                Event::Refused(refusal) => {
                    metrics.rejected.inc();
                    let Proxy { capability, .. } = self.slot.proxy;
                    self.discovery.tell.refused(capability, refusal).await;
                }
                Event::Rejected { kind, reason } => {
                    metrics.rejected.inc();
                    tracing::warn!(proxy = %self.slot.proxy.node, "a response of {kind} was refused: {reason}");
                    rejected = Some(format!("{kind}: {reason}"));
                }
                Event::Unserved { type_url } => {
                    tracing::debug!(proxy = %self.slot.proxy.node, "asks for {type_url}, which is not served");
                }
            }
        }
        self.slot.note(&self.session, rejected);
        for response in responses {
            metrics.sent.inc();
            metrics.bytes.inc_by(response.encoded_len() as u64);
            if self.answers.send(Ok(response)).await.is_err() {
                return Err(Status::cancelled("the client is gone"));
            }
        }
        match end {
            Some(error) => Err(Status::invalid_argument(error.to_string())),
            None => Ok(()),
        }
    }
}
