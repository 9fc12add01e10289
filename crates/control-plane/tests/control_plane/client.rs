//! A proxy's side of the wire, without the proxy.

use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll};

use catamaran_identity::{Credentials, Holding, KeyPair, PeerRule, TrustBundle};
use catamaran_model::{SpiffeId, TrustDomain};
use catamaran_wire::core::Node;
use catamaran_wire::csr::IstioCertificateRequest;
use catamaran_wire::discovery::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};
use catamaran_wire::endpoint::ClusterLoadAssignment;
use catamaran_wire::grpc::{AggregatedDiscoveryClient, IstioCertificateClient};
use catamaran_wire::{Message, TypeUrl};
use catamaran_xds::{ClientInput, ClientSession, ResourceSet, TypeUrlKind, Unusable};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_rustls::TlsConnector;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Status, Streaming};

use crate::fleet::{identity, now};
use crate::soon;

/// One HTTP/2 connection to a control plane.
#[derive(Clone)]
pub(crate) struct Channel(hyper::client::conn::http2::SendRequest<tonic::body::Body>);

impl tower_service::Service<http::Request<tonic::body::Body>> for Channel {
    type Response = http::Response<Incoming>;
    type Error = hyper::Error;
    type Future =
        std::pin::Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), hyper::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, mut request: http::Request<tonic::body::Body>) -> Self::Future {
        let path = request.uri().path().to_owned();
        *request.uri_mut() = format!("https://control-plane{path}").parse().unwrap();
        Box::pin(self.0.send_request(request))
    }
}

pub(crate) fn credentials(bundle: TrustBundle) -> Credentials {
    Credentials::anonymous(bundle, Arc::new(rustls::time_provider::DefaultTimeProvider))
}

/// Connects and demands the control plane's identity.
pub(crate) async fn connect(
    address: SocketAddr,
    credentials: &Credentials,
) -> Result<Channel, std::io::Error> {
    let rule = PeerRule::exactly(SpiffeId::control_plane(TrustDomain::default()));
    let config = credentials.client_config(&rule, &[b"h2"]).unwrap();
    let stream = TcpStream::connect(address).await?;
    let name = rustls::pki_types::ServerName::try_from("control-plane").unwrap();
    let stream = TlsConnector::from(config).connect(name, stream).await?;
    let (sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .map_err(std::io::Error::other)?;
    tokio::spawn(connection);
    Ok(Channel(sender))
}

/// Asks for a certificate of `asked`, with `token` or with what the connection shows.
pub(crate) async fn certificate(
    channel: &Channel,
    asked: &SpiffeId,
    token: Option<&str>,
) -> Result<(Vec<String>, KeyPair), Status> {
    let key = KeyPair::generate().unwrap();
    let mut request = Request::new(IstioCertificateRequest {
        csr: key.request(asked).unwrap(),
        ..Default::default()
    });
    if let Some(token) = token {
        let bearer = format!("Bearer {token}").parse().unwrap();
        request.metadata_mut().insert("authorization", bearer);
    }
    let answer = IstioCertificateClient::new(channel.clone())
        .create_certificate(request)
        .await?;
    Ok((answer.into_inner().cert_chain, key))
}

/// Joins as `default/sleep` or so, and gives credentials that hold its certificate.
pub(crate) async fn join(
    address: SocketAddr,
    bundle: TrustBundle,
    of: &str,
    token: &str,
) -> Credentials {
    let credentials = credentials(bundle);
    let channel = connect(address, &credentials).await.unwrap();
    let id = identity(of);
    let (chain, key) = certificate(&channel, &id, Some(token)).await.unwrap();
    credentials.install(Holding::from_response(&chain, key, &id, now()).unwrap());
    credentials
}

/// The node of a sidecar in cluster-1 of mesh-1.
pub(crate) fn sidecar(of: &str, pod: &str) -> Node {
    let (namespace, account) = of.split_once('/').unwrap();
    let metadata = [
        ("CLUSTER_ID", "cluster-1"),
        ("MESH_ID", "mesh-1"),
        ("NAMESPACE", namespace),
        ("SERVICE_ACCOUNT", account),
        ("WORKLOAD_NAME", pod),
    ];
    Node {
        id: format!("sidecar~10.1.1.1~{pod}.{namespace}~{namespace}.svc.cluster.local"),
        metadata: Some(metadata.into_iter().collect()),
        user_agent_name: "catamaran-proxy".into(),
        ..Default::default()
    }
}

/// A stream of deltas and its session.
pub(crate) struct Proxy {
    pub(crate) session: ClientSession,
    requests: mpsc::Sender<DeltaDiscoveryRequest>,
    responses: Streaming<DeltaDiscoveryResponse>,
    /// The endpoints of this name are refused when they come.
    pub(crate) refuses: Option<String>,
    /// What came: `KIND NAME`, and `-KIND NAME` for what was taken away.
    pub(crate) received: Vec<String>,
}

impl Proxy {
    pub(crate) async fn open(channel: &Channel, node: Node) -> Proxy {
        Proxy::with(channel, ClientSession::new(node)).await
    }

    pub(crate) async fn resume(channel: &Channel, node: Node, held: ResourceSet) -> Proxy {
        Proxy::with(channel, ClientSession::resume(node, held)).await
    }

    async fn with(channel: &Channel, mut session: ClientSession) -> Proxy {
        let (requests, out) = mpsc::channel(64);
        for request in session.step(ClientInput::Connected).requests {
            requests.send(request).await.unwrap();
        }
        let mut client = AggregatedDiscoveryClient::new(channel.clone());
        let responses = client
            .delta_aggregated_resources(ReceiverStream::new(out))
            .await
            .unwrap();
        Proxy {
            session,
            requests,
            responses: responses.into_inner(),
            refuses: None,
            received: Vec::new(),
        }
    }

    /// Takes one response, and answers it.
    pub(crate) async fn step(&mut self) -> Result<(), Status> {
        let response = soon("a response", self.responses.message()).await?;
        let response = response.ok_or_else(|| Status::ok("the stream ended"))?;
        let word = TypeUrlKind::of(&response.type_url).unwrap().word();
        let came = response
            .resources
            .iter()
            .map(|resource| format!("{word} {}", resource.name));
        self.received.extend(came);
        let gone = response
            .removed_resources
            .iter()
            .map(|name| format!("-{word} {name}"));
        self.received.extend(gone);
        let mut outputs = self.session.step(ClientInput::Response(response));
        if outputs.judge {
            self.answer(std::mem::take(&mut outputs.requests)).await;
            let candidate = self.session.candidate();
            let name = self.refuses.as_deref();
            let refused = name.and_then(|name| candidate.set.get(TypeUrlKind::Endpoints, name));
            let unusable = refused.map(|resource| Unusable {
                key: resource.key(),
                reason: "not today".into(),
            });
            let unusable = unusable.into_iter().collect();
            outputs = self.session.step(ClientInput::Judged {
                ticket: candidate.ticket,
                unusable,
            });
        }
        self.answer(outputs.requests).await;
        Ok(())
    }

    async fn answer(&self, requests: Vec<DeltaDiscoveryRequest>) {
        for request in requests {
            self.requests.send(request).await.unwrap();
        }
    }

    /// Takes responses until what is held is as wanted.
    pub(crate) async fn until(&mut self, what: &str, wanted: impl Fn(&ResourceSet) -> bool) {
        while !wanted(self.session.held()) {
            if let Err(status) = self.step().await {
                panic!("waited for {what}: {status}; received {:?}", self.received);
            }
        }
    }

    /// Takes responses for as long as `other` takes.
    pub(crate) async fn while_waiting<T>(&mut self, other: impl Future<Output = T>) -> T {
        tokio::pin!(other);
        loop {
            tokio::select! {
                done = &mut other => return done,
                stepped = self.step() => stepped.unwrap(),
            }
        }
    }

    /// Takes responses until everything is there that was asked for.
    pub(crate) async fn ready(&mut self) {
        while !self.session.is_ready() {
            self.step().await.unwrap();
        }
    }

    /// The addresses behind helloworld, sorted.
    pub(crate) fn helloworld(&self) -> Vec<String> {
        helloworld(self.session.held())
    }
}

pub(crate) const HELLOWORLD: &str = "outbound|5000||helloworld.default.svc.cluster.local";

pub(crate) fn helloworld(held: &ResourceSet) -> Vec<String> {
    let Some(resource) = held.get(TypeUrlKind::Endpoints, HELLOWORLD) else {
        return Vec::new();
    };
    let all = ClusterLoadAssignment::decode(resource.bytes.clone()).unwrap();
    let mut found: Vec<String> = (all.endpoints.iter())
        .flat_map(|place| &place.lb_endpoints)
        .map(|endpoint| format!("{endpoint:?}"))
        .filter_map(|text| {
            let start = text.find("address: \"")? + "address: \"".len();
            Some(text[start..].split('"').next()?.to_owned())
        })
        .collect();
    found.sort();
    assert!(ClusterLoadAssignment::TYPE_URL.ends_with("ClusterLoadAssignment"));
    found
}
