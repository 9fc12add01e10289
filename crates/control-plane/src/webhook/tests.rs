//! The server before a client that is as the API server, and ones that are not.

use catamaran_model::{ClusterDomain, FailoverMode, MeshSpec, MtlsMode, TrustDomain};
use catamaran_process::Config;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use serde_json::{Value, json as value};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::*;

const NAME: &str = "catamaran-mesh-1.catamaran-system.svc";

fn now() -> Timestamp {
    Timestamp(catamaran_process::now_millis())
}

struct Served {
    address: std::net::SocketAddr,
    shared: Arc<Shared>,
    snapshots: watch::Sender<Arc<Snapshot>>,
    kept: Kept,
    process: Process,
}

fn known() -> Arc<Snapshot> {
    let mesh = MeshSpec {
        name: "mesh-1".parse().unwrap(),
        region: None,
        version: None,
        trust_domain: TrustDomain::default(),
        domain: ClusterDomain::default(),
        mtls: MtlsMode::Strict,
        failover: FailoverMode::Spread,
    };
    Arc::new(Snapshot {
        mesh: Some(mesh.into()),
        ..Snapshot::empty()
    })
}

async fn served() -> Served {
    let process = Process::start(Config::quiet("webhook"));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (snapshots, seen) = watch::channel(known());
    let counter = || process.metrics().counter("c", "c");
    let shared = Arc::new(Shared {
        injection: Injection {
            listen: address,
            door: Door::Service,
            image: "catamaran:1".into(),
            control_plane: format!("{NAME}:15012"),
            native: Some(true),
        },
        cluster: "cluster-1".parse().unwrap(),
        mesh: "mesh-1".parse().unwrap(),
        snapshots: seen,
        shown: ArcSwapOption::empty(),
        native: watch::Sender::new(Some(true)),
        natives: Mutex::default(),
        bundle: watch::Sender::new(None),
        asked: Semaphore::new(QUESTIONS),
        counted: Counted {
            injected: counter(),
            left: counter(),
            refused: counter(),
        },
    });
    let kept = Kept::first(&shared.names(), None, now()).unwrap();
    let shown = kept.current.certified().unwrap();
    shared.shown.store(Some(Arc::new(shown)));
    let acceptor = TlsAcceptor::from(Arc::new(tls(shared.clone()).unwrap()));
    let serving = serve(listener, acceptor, shared.clone(), process.stopping());
    process.run("webhook", serving);
    Served {
        address,
        shared,
        snapshots,
        kept,
        process,
    }
}

type Tls = tokio_rustls::client::TlsStream<TcpStream>;

impl Served {
    async fn connect(&self, bundle: &str) -> std::io::Result<Tls> {
        let mut roots = rustls::RootCertStore::empty();
        for der in CertificateDer::pem_slice_iter(bundle.as_bytes()) {
            roots.add(der.unwrap()).unwrap();
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let tcp = TcpStream::connect(self.address).await?;
        let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
        let name = ServerName::try_from(NAME).unwrap();
        connector.connect(name, tcp).await
    }

    /// Sends a request as it stands; gives the status and the body.
    async fn say(&self, head: &str, body: &[u8]) -> (u16, String) {
        let mut stream = self.connect(&self.kept.bundle()).await.unwrap();
        let head = format!("{head}\r\nhost: x\r\nconnection: close\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        // a refusal may come before all of it was taken
        let _ = stream.write_all(body).await;
        let mut answer = Vec::new();
        let read = tokio::time::timeout(Duration::from_secs(20), stream.read_to_end(&mut answer));
        let _ = read.await.unwrap();
        let answer = String::from_utf8(answer).unwrap();
        let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
        let body = answer.split_once("\r\n\r\n").unwrap().1;
        (status, body.to_owned())
    }

    async fn ask(&self, path: &str, body: &str) -> (u16, String) {
        let length = body.len();
        let head = format!(
            "POST {path}?timeout=5s HTTP/1.1\r\ncontent-type: application/json\r\ncontent-length: {length}"
        );
        self.say(&head, body.as_bytes()).await
    }
}

fn review() -> Value {
    value!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": {
        "uid": "u-1", "namespace": "sample", "operation": "CREATE",
        "resource": {"group": "", "version": "v1", "resource": "pods"},
        "object": {"metadata": {"generateName": "a-"}, "spec": {"containers": [{"name": "a", "image": "i"}]}},
    }})
}

#[tokio::test]
async fn a_question_is_answered() {
    let served = served().await;
    let (status, body) = served
        .ask("/inject/by/namespace", &review().to_string())
        .await;
    assert_eq!(status, 200, "{body}");
    let body: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(body["response"]["uid"], "u-1");
    assert_eq!(body["response"]["allowed"], true);
    assert!(body["response"]["patch"].is_string());
    let mut wrong = review();
    wrong["request"]["object"]["metadata"]["annotations"] =
        value!({"sidecar.istio.io/nativeSidecar": "perhaps"});
    let (_, body) = served.ask("/inject/by/namespace", &wrong.to_string()).await;
    assert!(body.contains("neither true nor false"), "{body}");
    served.ask("/inject/by/pod", &review().to_string()).await;
    let counted = &served.shared.counted;
    let counted = [&counted.injected, &counted.left, &counted.refused];
    assert_eq!(counted.map(Counter::get), [1, 1, 1]);
    served.process.stop("done");
}

#[tokio::test]
async fn what_is_no_question_is_refused_and_costs_little() {
    let served = served().await;
    let right = review().to_string();
    for (path, body, expected) in [
        ("/", right.as_str(), 404),
        ("/mutate", &right, 404),
        ("/inject", "{", 400),
        ("/inject", "", 400),
        ("/inject", r#"{"apiVersion": "v1", "kind": "Pod"}"#, 400),
    ] {
        assert_eq!(served.ask(path, body).await.0, expected, "{path} {body}");
    }
    let (status, _) = served.say("GET /inject HTTP/1.1", b"").await;
    assert_eq!(status, 405);
    let other = "POST /inject HTTP/1.1\r\ncontent-type: text/plain\r\ncontent-length: 2";
    assert_eq!(served.say(other, b"{}").await.0, 415);
    // one that is too long, whatever it says of its length
    let long = vec![b' '; MAX_BODY + 1];
    let chunk = format!("{:x}\r\n", long.len());
    let chunked = [chunk.as_bytes(), &long, b"\r\n0\r\n\r\n"].concat();
    let head =
        "POST /inject HTTP/1.1\r\ncontent-type: application/json\r\ntransfer-encoding: chunked";
    assert_eq!(served.say(head, &chunked).await.0, 413);
    served.process.stop("done");
}

#[tokio::test]
async fn those_who_say_nothing_take_nobodys_turn_for_long() {
    let served = served().await;
    let mut silent = Vec::new();
    for _ in 0..QUESTIONS {
        let mut stream = served.connect(&served.kept.bundle()).await.unwrap();
        let head = "POST /inject HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 9\r\n\r\n";
        stream.write_all(head.as_bytes()).await.unwrap();
        silent.push(stream);
    }
    // all turns are taken
    while served.shared.asked.available_permits() > 0 {
        tokio::task::yield_now().await;
    }
    let begun = std::time::Instant::now();
    let (status, body) = served
        .ask("/inject/by/namespace", &review().to_string())
        .await;
    // it waits as long as the API server would; those who came first have lost their turns by then
    assert!(status == 200 || status == 408, "{status} {body}");
    assert!(begun.elapsed() < PATIENCE * 2);
    let (status, body) = served
        .ask("/inject/by/namespace", &review().to_string())
        .await;
    assert_eq!(status, 200, "{body}");
    drop(silent);
    served.process.stop("done");
}

#[tokio::test]
async fn without_the_instances_settings_no_pod_passes_without_its_sidecar() {
    let served = served().await;
    served.snapshots.send_replace(Arc::new(Snapshot::empty()));
    let (status, body) = served
        .ask("/inject/by/namespace", &review().to_string())
        .await;
    assert_eq!(status, 503, "{body}");
    served.snapshots.send_replace(known());
    let (status, _) = served
        .ask("/inject/by/namespace", &review().to_string())
        .await;
    assert_eq!(status, 200);
    served.process.stop("done");
}

#[tokio::test]
async fn a_new_certificate_is_shown_from_the_next_handshake_on() {
    let served = served().await;
    let names = served.shared.names();
    let next = Kept::first(&names, None, now()).unwrap();
    served.connect(&next.bundle()).await.unwrap_err();
    let mut old = served.connect(&served.kept.bundle()).await.unwrap();
    let certified = next.current.certified().unwrap();
    served.shared.shown.store(Some(Arc::new(certified)));
    served.connect(&next.bundle()).await.unwrap();
    served.connect(&served.kept.bundle()).await.unwrap_err();
    // a connection that stands goes on
    old.write_all(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        .await
        .unwrap();
    let mut answer = String::new();
    old.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 404"), "{answer}");
    served.process.stop("done");
}

#[tokio::test]
async fn the_certificate_is_for_the_name_and_the_url() {
    let mut served = served().await;
    assert_eq!(served.shared.names(), [NAME]);
    served.process.stop("done");
    let shared = &mut served.shared;
    for (url, host) in [
        ("https://127.0.0.1:15017", "127.0.0.1"),
        ("https://[fd00::1]:15017/x", "fd00::1"),
        ("https://hook.example.org", "hook.example.org"),
    ] {
        let names = names_for(&shared.mesh, &Door::Url(url.into()));
        assert_eq!(names, [NAME, host]);
        Pair::create(&names, now()).unwrap();
    }
}

#[tokio::test]
async fn a_question_of_a_cluster_that_is_managed_from_afar_gets_its_sidecar() {
    let served = served().await;
    let view = |mode, network: &str| catamaran_registry::ClusterView {
        mode,
        network: network.parse().ok(),
        freshness: catamaran_registry::Freshness::Fresh,
        revision: catamaran_registry::Revision(1),
        namespaces: Arc::default(),
        export: None,
        services: 0,
        endpoints: 0,
        held_since: None,
    };
    let mut snapshot = (*known()).clone();
    let clusters = &mut snapshot.clusters;
    clusters.insert(
        "cluster-3".parse().unwrap(),
        view(MemberMode::Managed, "network3"),
    );
    let discovered = view(MemberMode::DiscoveryOnly, "network2");
    clusters.insert("cluster-2".parse().unwrap(), discovered);
    served.snapshots.send(Arc::new(snapshot)).unwrap();
    let path = "/inject/cluster/cluster-3/by/namespace";
    let (status, body) = served.ask(path, &review().to_string()).await;
    assert_eq!(status, 200, "{body}");
    let answer: Value = serde_json::from_str(&body).unwrap();
    assert!(answer["response"]["patch"].is_string(), "{body}");
    let address = Address::parse(path).unwrap();
    let snapshot = served.shared.snapshots.borrow().clone();
    let cluster = served.shared.cluster_of(&address, &snapshot);
    let instance = served.shared.instance(&cluster, &snapshot).unwrap();
    assert_eq!(instance.cluster.as_str(), "cluster-3");
    assert_eq!(instance.network, "network3".parse().ok());
    assert_eq!(instance.control_plane, format!("{NAME}:15012"));
    // One that is only discovered is none of ours.
    let path = "/inject/cluster/cluster-2/by/namespace";
    let (_, body) = served.ask(path, &review().to_string()).await;
    let answer: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(answer["response"]["allowed"], false, "{body}");
}

#[test]
fn a_replica_that_follows_waits_until_a_new_certificate_is_believed() {
    let at = |seconds: u64| Timestamp(1_700_000_000_000 + seconds * 1000);
    let make =
        |seconds| Pair::create(&["catamaran-m.catamaran-system.svc".into()], at(seconds)).unwrap();
    let (old, new, newest) = (make(0), make(1), make(2));
    let mut successor = None;
    // who shows nothing shows what there is
    assert!(may_show(None, &mut successor, &old, at(0)));
    assert!(!may_show(Some(&old), &mut successor, &old, at(10)));
    assert!(!may_show(Some(&old), &mut successor, &new, at(20)));
    assert!(!may_show(Some(&old), &mut successor, &new, at(79)));
    // yet another one begins to count anew
    assert!(!may_show(Some(&old), &mut successor, &newest, at(79)));
    assert!(!may_show(Some(&old), &mut successor, &newest, at(110)));
    assert!(may_show(Some(&old), &mut successor, &newest, at(139)));
    // what does not count any more helps nobody
    let late = at(certificate::LIFE.as_secs() + 10);
    assert!(may_show(Some(&old), &mut None, &new, late));
}
