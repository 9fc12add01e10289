//! A control plane of one test: it signs for tokens and certificates, and tells a set of resources.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use catamaran_identity::{
    CaCerts, CaCertsFiles, ClientAuth, Credentials, Csr, Issuer, JoinRecord, JoinToken, PeerRole,
    Root,
};
use catamaran_model::{ClusterId, MeshName, SpiffeId, TrustDomain};
use catamaran_wire::csr::{IstioCertificateRequest, IstioCertificateResponse};
use catamaran_wire::discovery::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse,
};
use catamaran_wire::grpc::{
    AggregatedDiscoveryServer, AggregatedDiscoveryService, IstioCertificateServer,
    IstioCertificateService, Requests, Responses,
};
use catamaran_xds::{
    Changed, Current, Event, Input, Peer, Protocol, Refusal, ResourceSet, ServerSession,
    TypeUrlKind,
};
use futures_util::StreamExt;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::service::TowerToHyperService;
use rustls::time_provider::DefaultTimeProvider;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio_rustls::TlsAcceptor;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use crate::certificate::now;

/// What happened at a stand-in.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    pub(crate) signed: AtomicUsize,
    /// Bodies of resources sent.
    pub(crate) bodies: AtomicUsize,
    pub(crate) streams: AtomicUsize,
    pub(crate) refusals: watch::Sender<Vec<Refusal>>,
}

/// What a stand-in signs with, shows and tells; shared by all that listen.
pub(crate) struct StandIn {
    pub(crate) issuer: Mutex<Issuer>,
    pub(crate) credentials: Credentials,
    pub(crate) tokens: Mutex<Vec<JoinRecord>>,
    pub(crate) set: watch::Sender<Arc<ResourceSet>>,
    pub(crate) ledger: Arc<Ledger>,
}

/// A stand-in that listens, until it is dropped.
pub(crate) struct Listening {
    pub(crate) address: SocketAddr,
    task: JoinHandle<()>,
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.task.abort();
    }
}

pub(crate) fn cluster() -> ClusterId {
    ClusterId::new("cluster-1").unwrap()
}

pub(crate) fn root() -> Root {
    Root::create(
        &TrustDomain::default(),
        &MeshName::new("mesh-1").unwrap(),
        now(),
    )
    .unwrap()
}

/// An authority under `root` that tells workloads to trust `roots`.
pub(crate) fn authority(root: &Root, roots: &[&Root]) -> CaCerts {
    let mesh = MeshName::new("mesh-1").unwrap();
    let made = root
        .issue_intermediate(&TrustDomain::default(), &mesh, &cluster(), now())
        .unwrap();
    let pems: Vec<String> = roots.iter().map(|root| root.cert_pem()).collect();
    let files = CaCertsFiles {
        root_cert: pems.concat(),
        ..made.files()
    };
    CaCerts::read(&files, now()).unwrap()
}

impl StandIn {
    /// Signs, and shows itself, under `root`.
    pub(crate) fn new(root: &Root) -> Arc<StandIn> {
        StandIn::named(root, SpiffeId::control_plane(TrustDomain::default()))
    }

    /// The same under another name.
    pub(crate) fn named(root: &Root, identity: SpiffeId) -> Arc<StandIn> {
        let issuer = Issuer::new(authority(root, &[root]), TrustDomain::default()).unwrap();
        let holding = issuer.holding_for(&identity, None, now()).unwrap();
        Arc::new(StandIn {
            issuer: Mutex::new(issuer),
            credentials: Credentials::new(holding, Arc::new(DefaultTimeProvider)),
            tokens: Mutex::default(),
            set: watch::Sender::default(),
            ledger: Arc::default(),
        })
    }

    /// A token for `identity`, good once.
    pub(crate) fn token(&self, identity: SpiffeId) -> String {
        let token = JoinToken::generate().unwrap();
        let expires = now().after(Duration::from_secs(60));
        let record = token.record(identity, cluster(), expires);
        self.tokens.lock().unwrap().push(record);
        token.text().to_string()
    }

    pub(crate) async fn listen(self: &Arc<Self>) -> Listening {
        self.listen_at(SocketAddr::from(([127, 0, 0, 1], 0))).await
    }

    pub(crate) async fn listen_at(self: &Arc<Self>, address: SocketAddr) -> Listening {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let stand_in = self.clone();
        let task = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let config = stand_in
                    .credentials
                    .server_config(&[b"h2"], ClientAuth::Optional)
                    .unwrap();
                let stand_in = stand_in.clone();
                connections.spawn(async move {
                    let Ok(stream) = TlsAcceptor::from(config).accept(stream).await else {
                        return;
                    };
                    let peer =
                        stand_in
                            .credentials
                            .peer(stream.get_ref().1, PeerRole::Client, now());
                    let caller = Caller(peer.ok().flatten().map(|peer| peer.id));
                    let routes = tonic::service::Routes::new(AggregatedDiscoveryServer::new(
                        stand_in.clone(),
                    ))
                    .add_service(IstioCertificateServer::new(stand_in));
                    let service =
                        hyper::service::service_fn(move |mut request: http::Request<Incoming>| {
                            let inner = TowerToHyperService::new(routes.clone());
                            request.extensions_mut().insert(caller.clone());
                            hyper::service::Service::call(&inner, request)
                        });
                    let _ = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            }
        });
        Listening { address, task }
    }
}

/// Who called, if a certificate was shown.
#[derive(Clone)]
struct Caller(Option<SpiffeId>);

impl IstioCertificateService for StandIn {
    async fn create_certificate(
        &self,
        request: Request<IstioCertificateRequest>,
    ) -> Result<Response<IstioCertificateResponse>, Status> {
        let caller = request
            .extensions()
            .get::<Caller>()
            .and_then(|caller| caller.0.clone());
        let token = request.metadata().get("authorization").map(|value| {
            let text = value.to_str().unwrap().strip_prefix("Bearer ").unwrap();
            JoinToken::parse(text).unwrap()
        });
        let proven = match (caller, token) {
            (Some(caller), _) => caller,
            (None, Some(token)) => {
                let mut tokens = self.tokens.lock().unwrap();
                let at = tokens
                    .iter()
                    .position(|record| record.admit(&token, &cluster(), now()).is_ok())
                    .ok_or_else(|| Status::unauthenticated("the join token is not known"))?;
                tokens.remove(at).identity
            }
            (None, None) => return Err(Status::unauthenticated("no proof")),
        };
        let csr = Csr::from_pem(&request.get_ref().csr)
            .map_err(|error| Status::invalid_argument(error.to_string()))?;
        let signed = self.issuer.lock().unwrap().sign(&csr, &proven, None, now());
        let signed = signed.map_err(|error| Status::permission_denied(error.to_string()))?;
        self.ledger.signed.fetch_add(1, Ordering::Relaxed);
        Ok(Response::new(IstioCertificateResponse {
            cert_chain: signed.pems(),
        }))
    }
}

impl AggregatedDiscoveryService for StandIn {
    type Full = DiscoveryResponse;
    type Delta = DeltaDiscoveryResponse;

    async fn stream_aggregated_resources(
        &self,
        _: Request<Requests<DiscoveryRequest>>,
    ) -> Result<Response<Responses<DiscoveryResponse>>, Status> {
        Err(Status::unimplemented("deltas only"))
    }

    async fn delta_aggregated_resources(
        &self,
        request: Request<Requests<DeltaDiscoveryRequest>>,
    ) -> Result<Response<Responses<DeltaDiscoveryResponse>>, Status> {
        if request
            .extensions()
            .get::<Caller>()
            .is_none_or(|caller| caller.0.is_none())
        {
            return Err(Status::unauthenticated("no certificate"));
        }
        let ledger = self.ledger.clone();
        ledger.streams.fetch_add(1, Ordering::Relaxed);
        let mut requests = request.into_inner();
        let mut set = self.set.subscribe();
        let current = set.borrow_and_update().clone();
        let protocol = Protocol::Delta;
        let mut session =
            ServerSession::new(protocol, Peer::Catamaran, "stand-in", current, "".into());
        let (responses, outgoing) = mpsc::channel(TypeUrlKind::ALL.len());
        tokio::spawn(async move {
            loop {
                let input = tokio::select! {
                    request = requests.message() => match request {
                        Ok(Some(request)) => Input::Delta(request),
                        _ => return,
                    },
                    _ = set.changed() => Input::Current(Current {
                        set: set.borrow_and_update().clone(),
                        changed: Changed::Unknown,
                        revision: "".into(),
                    }),
                    _ = tokio::time::sleep(Duration::from_millis(50)) => Input::Tick,
                };
                let out = session.step(input, now());
                for event in out.events {
                    if let Event::Refused(refusal) = event {
                        ledger.refusals.send_modify(|all| all.push(refusal));
                    }
                }
                for response in out.responses {
                    let Ok(response) = response.deltas() else {
                        return;
                    };
                    ledger
                        .bodies
                        .fetch_add(response.resources.len(), Ordering::Relaxed);
                    if responses.send(Ok(response)).await.is_err() {
                        return;
                    }
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(outgoing).boxed()))
    }
}
