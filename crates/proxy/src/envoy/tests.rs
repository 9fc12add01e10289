use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use catamaran_identity::{KeyPair, TrustBundle};
use catamaran_model::TrustDomain;
use catamaran_process::{Config as Life, Process};
use catamaran_wire::cluster::Cluster;
use catamaran_wire::core::DataSourceSpecifier;
use catamaran_wire::discovery::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse,
};
use catamaran_wire::grpc::{
    AggregatedDiscoveryClient, SecretDiscoveryClient, SecretDiscoveryServer,
};
use catamaran_wire::names::{NameInfo, NameTable};
use catamaran_wire::tls::{Secret, SecretType};
use catamaran_wire::{Any, TypeUrl};
use catamaran_xds::{Resource, ResourceSet, TypeUrlKind};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::Value as Json;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UdpSocket, UnixStream};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Streaming};

use super::*;
use crate::Config;
use crate::config::tests::sidecar;
use crate::config::{ControlPlaneAddress, ports};
use crate::stand_in::{Listening, StandIn, root};

const SOON: Duration = Duration::from_secs(20);

async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    let done = tokio::time::timeout(SOON, future).await;
    done.unwrap_or_else(|_| panic!("{what}: not within {SOON:?}"))
}

/// A pod's own loopback address: this test program's, and this test's.
fn address(test: u8) -> Ipv4Addr {
    let [low, high, ..] = std::process::id().to_le_bytes();
    Ipv4Addr::new(127, high | 0x80, low, 128 | test)
}

struct Pod {
    config: Config,
    beside: Beside,
    stand_in: Arc<StandIn>,
    control_plane: Option<Listening>,
    _folder: TempDir,
}

/// What a control plane tells in these tests.
fn set() -> Arc<ResourceSet> {
    let cluster = Cluster {
        name: "BlackHoleCluster".into(),
        ..Cluster::default()
    };
    let info = NameInfo {
        ips: vec!["240.240.0.7".into()],
        ..NameInfo::default()
    };
    let table = NameTable {
        table: [("helloworld.default.svc.cluster.local".to_owned(), info)].into(),
    };
    let all = [
        Resource::new(TypeUrlKind::Cluster, "BlackHoleCluster", &cluster),
        Resource::new(TypeUrlKind::Names, "names", &table),
    ];
    Arc::new(all.into_iter().map(Arc::new).collect())
}

async fn pod(test: u8) -> Pod {
    let root = root();
    let stand_in = StandIn::new(&root);
    stand_in.set.send_replace(set());
    let control_plane = stand_in.listen().await;
    let folder = tempfile::tempdir().unwrap();
    let mut config = sidecar(folder.path(), vec![control_plane.address]);
    config.address = address(test).into();
    std::fs::write(&config.root_cert, root.cert_pem()).unwrap();
    let token = stand_in.token(config.identity());
    std::fs::write(config.join_token.as_ref().unwrap(), token).unwrap();
    Pod {
        beside: Beside {
            socket: folder.path().join("agent.sock"),
            bootstrap: Some(folder.path().join("envoy.json")),
            variant: Variant::Delta,
        },
        config,
        stand_in,
        control_plane: Some(control_plane),
        _folder: folder,
    }
}

impl Pod {
    async fn start(&self) -> Process {
        let process = Process::start(Life::quiet("agent"));
        let started = run_beside(self.config.clone(), self.beside.clone(), &process).await;
        started.unwrap();
        process
    }

    /// The Envoy's end of the socket.
    async fn connect(&self) -> Channel {
        let stream = UnixStream::connect(&self.beside.socket).await.unwrap();
        let (sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
                .await
                .unwrap();
        tokio::spawn(connection);
        Channel(sender)
    }

    /// What the Envoy is to be started with, once it is there.
    async fn bootstrap(&self) -> Json {
        let path = self.beside.bootstrap.as_ref().unwrap();
        soon("the bootstrap", async {
            loop {
                if let Ok(text) = std::fs::read_to_string(path) {
                    return serde_json::from_str(&text).unwrap();
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        })
        .await
    }
}

/// One HTTP/2 connection over the agent's socket.
#[derive(Clone)]
struct Channel(hyper::client::conn::http2::SendRequest<tonic::body::Body>);

impl tower_service::Service<http::Request<tonic::body::Body>> for Channel {
    type Response = http::Response<Incoming>;
    type Error = hyper::Error;
    type Future =
        std::pin::Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(
        &mut self,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Result<(), hyper::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, mut request: http::Request<tonic::body::Body>) -> Self::Future {
        let path = request.uri().path().to_owned();
        *request.uri_mut() = format!("http://agent{path}").parse().unwrap();
        Box::pin(self.0.send_request(request))
    }
}

/// A stream of an Envoy.
struct Stream<Ask, Answer> {
    requests: mpsc::Sender<Ask>,
    responses: Streaming<Answer>,
}

impl<Ask, Answer> Stream<Ask, Answer> {
    async fn send(&self, request: Ask) {
        self.requests.send(request).await.unwrap();
    }

    async fn next(&mut self) -> Answer {
        let next = soon("an answer", self.responses.message()).await;
        next.unwrap().expect("the stream goes on")
    }

    async fn end(&mut self) -> tonic::Status {
        soon("the end", async {
            loop {
                if let Err(status) = self.responses.message().await.transpose().unwrap() {
                    return status;
                }
            }
        })
        .await
    }
}

async fn full(channel: &Channel) -> Stream<DiscoveryRequest, DiscoveryResponse> {
    let (requests, out) = mpsc::channel(8);
    let mut client = SecretDiscoveryClient::new(channel.clone());
    let opened = client.stream_secrets(ReceiverStream::new(out)).await;
    Stream {
        requests,
        responses: opened.unwrap().into_inner(),
    }
}

async fn deltas(channel: &Channel) -> Stream<DeltaDiscoveryRequest, DeltaDiscoveryResponse> {
    let (requests, out) = mpsc::channel(8);
    let mut client = SecretDiscoveryClient::new(channel.clone());
    let opened = client.delta_secrets(ReceiverStream::new(out)).await;
    Stream {
        requests,
        responses: opened.unwrap().into_inner(),
    }
}

fn ask(name: &str) -> DiscoveryRequest {
    DiscoveryRequest {
        type_url: Secret::TYPE_URL.into(),
        resource_names: vec![name.into()],
        ..DiscoveryRequest::default()
    }
}

fn subscribe(names: &[&str]) -> DeltaDiscoveryRequest {
    DeltaDiscoveryRequest {
        type_url: Secret::TYPE_URL.into(),
        resource_names_subscribe: names.iter().map(|name| (*name).to_owned()).collect(),
        ..DeltaDiscoveryRequest::default()
    }
}

fn text(source: Option<catamaran_wire::core::DataSource>) -> String {
    match source.unwrap().specifier {
        Some(DataSourceSpecifier::InlineBytes(bytes)) => String::from_utf8(bytes.into()).unwrap(),
        other => panic!("not inline: {other:?}"),
    }
}

/// The name of a packed secret, and its PEM: chain and key, or roots.
fn open(any: &Any) -> (String, Vec<String>) {
    let secret: Secret = any.unpack().unwrap();
    let pems = match secret.r#type {
        Some(SecretType::TlsCertificate(own)) => {
            vec![text(own.certificate_chain), text(own.private_key)]
        }
        Some(SecretType::ValidationContext(roots)) => vec![text(roots.trusted_ca)],
        other => panic!("neither certificate nor roots: {other:?}"),
    };
    (secret.name, pems)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_envoy_is_given_the_certificate_and_the_roots_and_each_new_one() {
    let pod = pod(1).await;
    let process = pod.start().await;
    let channel = pod.connect().await;
    // It may ask before there is a certificate.
    let mut certificate = full(&channel).await;
    certificate.send(ask("default")).await;
    let first = certificate.next().await;
    let (name, own) = open(&first.resources[0]);
    assert_eq!(name, "default");
    assert_eq!(own[0].matches("BEGIN CERTIFICATE").count(), 2, "{}", own[0]);
    KeyPair::from_pem(&own[1]).expect("the key is one");

    let mut roots = deltas(&channel).await;
    roots.send(subscribe(&["ROOTCA"])).await;
    let answer = roots.next().await;
    let (name, pem) = open(answer.resources[0].resource.as_ref().unwrap());
    assert_eq!(name, "ROOTCA");
    let trusted = TrustBundle::from_pem(&TrustDomain::default(), &pem[0]).unwrap();
    assert_eq!(
        trusted.fingerprints(),
        pod.stand_in.credentials.bundle().fingerprints()
    );

    // What was accepted is not sent again; a new certificate is, on the same stream.
    certificate
        .send(DiscoveryRequest {
            version_info: first.version_info.clone(),
            response_nonce: first.nonce.clone(),
            ..ask("default")
        })
        .await;
    let socket = UnixStream::connect(&pod.config.admin_socket).await.unwrap();
    let asked = ask_page(socket, "POST /renew").await;
    assert!(asked.contains(" 202 "), "{asked}");
    let (_, second) = open(&certificate.next().await.resources[0]);
    assert_ne!(second[0], own[0]);

    // After a restart only what differs from what the Envoy has is sent.
    process.stop("the agent starts again");
    process.until_stopped().await;
    let ended = soon("the end", certificate.responses.message()).await;
    assert!(!matches!(ended, Ok(Some(_))), "{ended:?}");
    std::fs::remove_file(pod.config.saved("certificate")).unwrap();
    let token = pod.stand_in.token(pod.config.identity());
    std::fs::write(pod.config.join_token.as_ref().unwrap(), token).unwrap();
    let process = pod.start().await;
    let channel = pod.connect().await;
    let mut both = deltas(&channel).await;
    let mut request = subscribe(&["default", "ROOTCA"]);
    request.initial_resource_versions = [
        ("default".to_owned(), first.version_info),
        ("ROOTCA".to_owned(), answer.resources[0].version.clone()),
    ]
    .into();
    both.send(request).await;
    let renewed = both.next().await;
    assert_eq!(renewed.resources.len(), 1, "only what differs is sent");
    let (name, renewed) = open(renewed.resources[0].resource.as_ref().unwrap());
    assert_eq!(name, "default");
    assert_ne!(renewed[0], own[0]);
    process.stop("the test is over");
    process.until_stopped().await;
}

#[tokio::test]
async fn what_is_renewed_is_sent_at_once_and_nothing_else_is() {
    let root = root();
    let (before, after) = (StandIn::new(&root), StandIn::new(&root));
    let of =
        |stand_in: &StandIn| secrets::Secrets::of(&stand_in.credentials, &TrustDomain::default());
    let held = tokio::sync::watch::Sender::new(of(&before));
    let desk = secrets::Desk {
        secrets: held.subscribe(),
    };
    let server = SecretDiscoveryServer::new(Arc::new(desk));
    let (requests, out) = mpsc::channel(8);
    let mut client = SecretDiscoveryClient::new(server.clone());
    let opened = client.delta_secrets(ReceiverStream::new(out)).await;
    let mut stream = Stream {
        requests,
        responses: opened.unwrap().into_inner(),
    };
    stream.send(subscribe(&["default", "ROOTCA"])).await;
    let first = stream.next().await;
    assert_eq!(first.resources.len(), 2);
    held.send_replace(of(&after));
    let second = stream.next().await;
    let names: Vec<&str> = second.resources.iter().map(|r| r.name.as_str()).collect();
    assert_eq!(names, ["default"], "the roots are the same");

    // All of it each time, for who wants the state of the world; again only when something differs.
    let (requests, out) = mpsc::channel(8);
    let mut client = SecretDiscoveryClient::new(server);
    let opened = client.stream_secrets(ReceiverStream::new(out)).await;
    let mut stream = Stream {
        requests,
        responses: opened.unwrap().into_inner(),
    };
    let both = DiscoveryRequest {
        resource_names: vec!["default".into(), "ROOTCA".into()],
        ..ask("")
    };
    stream.send(both.clone()).await;
    let first = stream.next().await;
    assert_eq!(first.resources.len(), 2);
    let refusal = DiscoveryRequest {
        response_nonce: first.nonce,
        error_detail: Some(catamaran_wire::well_known::Status {
            message: "no".into(),
            ..Default::default()
        }),
        ..both
    };
    stream.send(refusal).await;
    held.send_replace(of(&before));
    let second = stream.next().await;
    assert_eq!(second.resources.len(), 2);
    assert_ne!(
        second.version_info, first.version_info,
        "what was refused is not sent again"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_secrets_are_refused_by_name_and_hurt_nobody() {
    let pod = pod(2).await;
    let process = pod.start().await;
    let channel = pod.connect().await;
    let mut good = full(&channel).await;
    good.send(ask("ROOTCA")).await;
    good.next().await;

    let mut other = full(&channel).await;
    other.send(ask("kubernetes://tls")).await;
    let status = other.end().await;
    assert_eq!(status.code(), Code::NotFound);
    assert!(
        status
            .message()
            .contains("no secret \"kubernetes://tls\": a workload has \"default\""),
        "{status}"
    );
    let mut other = deltas(&channel).await;
    other.send(subscribe(&["default", "bob"])).await;
    assert_eq!(other.end().await.code(), Code::NotFound);
    let mut clusters = deltas(&channel).await;
    let request = DeltaDiscoveryRequest {
        type_url: Cluster::TYPE_URL.into(),
        ..DeltaDiscoveryRequest::default()
    };
    clusters.send(request).await;
    assert_eq!(clusters.end().await.code(), Code::InvalidArgument);

    good.send(ask("default")).await;
    let (name, _) = open(&good.next().await.resources[0]);
    assert_eq!(name, "default", "the first stream goes on");
    process.stop("the test is over");
    process.until_stopped().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_envoys_stream_is_passed_on_and_its_end_is_said() {
    let mut pod = pod(3).await;
    let process = pod.start().await;
    pod.bootstrap().await;
    let channel = pod.connect().await;
    let open = async |channel: &Channel| {
        let (requests, out) = mpsc::channel(8);
        let clusters = DeltaDiscoveryRequest {
            node: Some(pod.config.node()),
            type_url: Cluster::TYPE_URL.into(),
            ..DeltaDiscoveryRequest::default()
        };
        requests.send(clusters).await.unwrap();
        let mut client = AggregatedDiscoveryClient::new(channel.clone());
        let opened = client
            .delta_aggregated_resources(ReceiverStream::new(out))
            .await;
        opened.map(|opened| Stream {
            requests,
            responses: opened.into_inner(),
        })
    };
    let mut stream = open(&channel).await.unwrap();
    let answer = stream.next().await;
    assert_eq!(answer.resources[0].name, "BlackHoleCluster");
    // What comes later comes too, and bytes are those that were sent.
    let late = Cluster {
        name: "late".into(),
        ..Cluster::default()
    };
    let late = Resource::new(TypeUrlKind::Cluster, "late", &late);
    let bytes = late.bytes.clone();
    let mut both = (*set()).clone();
    both.insert(Arc::new(late));
    stream
        .send(DeltaDiscoveryRequest {
            type_url: Cluster::TYPE_URL.into(),
            response_nonce: answer.nonce,
            ..DeltaDiscoveryRequest::default()
        })
        .await;
    pod.stand_in.set.send_replace(Arc::new(both));
    let answer = stream.next().await;
    assert_eq!(
        answer.resources[0].resource.as_ref().unwrap().value,
        bytes,
        "{:?}",
        answer.resources[0].name
    );

    pod.control_plane = None;
    let status = stream.end().await;
    assert_eq!(status.code(), Code::Unavailable, "{status}");
    assert!(status.message().contains("connection was lost"), "{status}");
    let refused = open(&channel).await.err().expect("nobody is there");
    assert_eq!(refused.code(), Code::Unavailable, "{refused}");

    let ControlPlaneAddress::Ip(address) = pod.config.control_planes[0] else {
        panic!("it is an address");
    };
    pod.control_plane = Some(pod.stand_in.listen_at(address).await);
    let mut stream = open(&channel).await.unwrap();
    stream.next().await;
    process.stop("the test is over");
    process.until_stopped().await;
}

async fn resolve(at: SocketAddr, name: &str) -> Vec<String> {
    use hickory_proto::op::{Message, MessageType, OpCode, Query};
    use hickory_proto::rr::{Name, RecordType};
    let mut question = Message::new(7, MessageType::Query, OpCode::Query);
    question.add_query(Query::query(Name::from_ascii(name).unwrap(), RecordType::A));
    let socket = UdpSocket::bind((at.ip(), 0)).await.unwrap();
    socket
        .send_to(&question.to_vec().unwrap(), at)
        .await
        .unwrap();
    let mut buffer = [0; 1500];
    let length = soon("an answer", socket.recv(&mut buffer)).await.unwrap();
    let answer = Message::from_vec(&buffer[..length]).unwrap();
    answer.answers.iter().map(|r| r.data.to_string()).collect()
}

/// Answers as an Envoy's admin interface does; `ready` is what it says of itself.
async fn stand_in_envoy(at: SocketAddr, ready: tokio::sync::watch::Receiver<bool>) -> Vec<String> {
    let listener = TcpListener::bind(at).await.unwrap();
    let mut asked = Vec::new();
    loop {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = [0; 1024];
        let length = stream.read(&mut request).await.unwrap();
        let request = String::from_utf8_lossy(&request[..length]).into_owned();
        let line = request.lines().next().unwrap_or_default().to_owned();
        let (status, body) = match line.split(' ').nth(1).unwrap_or_default() {
            "/ready" if *ready.borrow() => ("200 OK", "LIVE\n"),
            "/ready" => ("503 Service Unavailable", "PRE_INITIALIZING\n"),
            page if page.starts_with("/stats?") && page.ends_with("listeners_active") => (
                "200 OK",
                r#"{"stats":[{"name":"listener_manager.total_listeners_active","value":2}]}"#,
            ),
            page if page.starts_with("/stats?") => (
                "200 OK",
                r#"{"stats":[{"name":"http.admin.downstream_rq_active","value":1}]}"#,
            ),
            _ => ("200 OK", "OK\n"),
        };
        let answer = format!(
            "HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(answer.as_bytes()).await.unwrap();
        let over = line.contains("/quitquitquit");
        if line.starts_with("POST") {
            asked.push(line.split(' ').nth(1).unwrap().to_owned());
        }
        if over {
            return asked;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_is_ready_when_its_envoy_is_and_ends_it_before_itself() {
    let mut pod = pod(4).await;
    let (live, ready) = tokio::sync::watch::channel(false);
    let envoy = tokio::spawn(stand_in_envoy(pod.config.admin_address(), ready));
    let process = pod.start().await;
    pod.bootstrap().await;
    let socket = UnixStream::connect(&pod.config.admin_socket).await.unwrap();
    let page = ask_page(socket, "GET /ready").await;
    assert!(page.contains("503") && page.contains("envoy"), "{page}");
    live.send_replace(true);
    soon("ready", process.until_ready()).await;
    let dns = SocketAddr::new(pod.config.address, ports::DNS);
    assert_eq!(resolve(dns, "helloworld.").await, ["240.240.0.7"]);

    process.stop("the test is over");
    process.until_stopped().await;
    assert_eq!(
        soon("the Envoy's end", envoy).await.unwrap(),
        ["/drain_listeners?graceful&skip_exit", "/quitquitquit"]
    );

    // Without a control plane it starts from what it saved: certificate and names.
    pod.control_plane = None;
    let signed = pod.stand_in.ledger.signed.load(Ordering::Relaxed);
    let (_live, ready) = tokio::sync::watch::channel(true);
    let envoy = tokio::spawn(stand_in_envoy(pod.config.admin_address(), ready));
    let process = pod.start().await;
    soon("ready again", process.until_ready()).await;
    assert_eq!(resolve(dns, "helloworld.").await, ["240.240.0.7"]);
    assert_eq!(pod.stand_in.ledger.signed.load(Ordering::Relaxed), signed);
    process.stop("the test is over");
    process.until_stopped().await;
    soon("the Envoy's end", envoy).await.unwrap();
}

async fn ask_page(mut stream: UnixStream, request: &str) -> String {
    let request = format!("{request} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[test]
fn an_envoy_presents_itself_as_our_proxy_does() {
    let config = sidecar(Path::new("/state"), Vec::new());
    let mut beside = Beside {
        socket: "agent.sock".into(),
        bootstrap: None,
        variant: Variant::Delta,
    };
    let json = bootstrap::bootstrap(&config, &beside);
    assert_eq!(
        json["node"]["id"],
        "sidecar~127.0.0.1~sleep-1.default~default.svc.cluster.local"
    );
    assert_eq!(json["node"]["metadata"]["CLUSTER_ID"], "cluster-1");
    let clusters = json["static_resources"]["clusters"].as_array().unwrap();
    let names: Vec<&str> = clusters
        .iter()
        .map(|c| c["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["sds-grpc", "xds-grpc"]);
    let ads = |json: &Json| json["dynamic_resources"]["ads_config"]["api_type"].clone();
    assert_eq!(ads(&json), "DELTA_GRPC");
    beside.variant = Variant::StateOfTheWorld;
    assert_eq!(ads(&bootstrap::bootstrap(&config, &beside)), "GRPC");
}
