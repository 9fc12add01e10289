//! What a cluster costs in memory: this process holds nothing but one watch, while a server that makes its objects up as it is
//! asked tells it of 20,000 pods behind 200 services.
//!
//! Its own main: the server is this program again, in a process of its own, so that it is not measured.

use std::convert::Infallible;
use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};
use std::sync::Arc;

use bytes::Bytes;
use catamaran_kubernetes::Pace;
use catamaran_kubernetes::connect::Access;
use catamaran_kubernetes::kubeconfig::{Allowed, Kubeconfig};
use catamaran_kubernetes::watch::{Beside, Reads, Watched, watch};
use catamaran_model::{ClusterId, Timestamp};
use catamaran_registry::{Fact, Observed, Registry, WatchGeneration};
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, SanType};
use rustls_pki_types::PrivateKeyDer;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

const PODS: usize = 20_000;
const SERVICES: usize = 200;
const BEHIND: usize = PODS / SERVICES;

fn object(path: &str, n: usize) -> Option<Value> {
    let named = |name: String| {
        json!({"namespace": format!("team-{}", n % 20), "name": name, "uid": format!("0f6d9c3e-0000-4000-8000-{n:012}"),
               "creationTimestamp": "2026-01-01T00:00:00Z", "resourceVersion": (n + 1).to_string(),
               "managedFields": [{"manager": "kube-controller-manager", "operation": "Update", "fieldsV1": {"f:metadata": {"f:labels": {".": {}, "f:app": {}}}}}]})
    };
    match path {
        "/api/v1/namespaces" if n < 20 => {
            Some(json!({"metadata": {"name": format!("team-{n}"), "uid": format!("u-{n}")}}))
        }
        "/api/v1/nodes" if n < 100 => Some(
            json!({"metadata": {"name": format!("node-{n}"), "labels": {"topology.kubernetes.io/region": "eu", "topology.kubernetes.io/zone": format!("eu-{}", n % 3)}}}),
        ),
        "/api/v1/services" if n < SERVICES => {
            let mut service = json!({"metadata": named(format!("service-{n}")), "spec": {"clusterIP": format!("10.96.{}.{}", n / 250, n % 250 + 1), "ports": [{"name": "http", "port": 80, "targetPort": 8080, "protocol": "TCP"}]}});
            service["metadata"]["annotations"] =
                json!({"kubectl.kubernetes.io/last-applied-configuration": "x".repeat(600)});
            Some(service)
        }
        "/apis/discovery.k8s.io/v1/endpointslices" if n < SERVICES => {
            let endpoints: Vec<Value> = (0..BEHIND)
                .map(|e| {
                    let pod = n + e * SERVICES;
                    json!({"addresses": [format!("10.{}.{}.{}", 1 + pod / 62_500, pod / 250 % 250, pod % 250 + 1)],
                           "conditions": {"ready": true, "serving": true, "terminating": false}, "nodeName": format!("node-{}", pod % 100), "zone": format!("eu-{}", pod % 3),
                           "targetRef": {"kind": "Pod", "namespace": format!("team-{}", n % 20), "name": format!("service-{n}-7d9c8b6f5-{pod:05}"), "uid": "x"}})
                })
                .collect();
            let mut slice = json!({"metadata": named(format!("service-{n}-abcde")), "addressType": "IPv4", "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}], "endpoints": endpoints});
            slice["metadata"]["labels"] = json!({"kubernetes.io/service-name": format!("service-{n}"), "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io"});
            Some(slice)
        }
        "/api/v1/pods" if n < PODS => {
            let service = n % SERVICES;
            let mut pod = json!({"metadata": named(format!("service-{service}-7d9c8b6f5-{n:05}")),
                "spec": {"serviceAccountName": format!("service-{service}"), "nodeName": "node-1", "containers": [{"name": "app", "image": "registry.example.com/team/app:1.2.3", "env": [{"name": "JAVA_OPTS", "value": "-Xmx1g".repeat(50)}]}]},
                "status": {"phase": "Running", "podIP": "10.1.0.1", "conditions": [{"type": "Ready", "status": "True"}], "containerStatuses": [{"name": "app", "imageID": "sha256:".to_owned() + &"a".repeat(64)}]}});
            pod["metadata"]["labels"] = json!({"app": format!("service-{service}"), "version": "v1", "pod-template-hash": "7d9c8b6f5", "security.istio.io/tlsMode": "istio",
                "service.istio.io/canonical-name": format!("service-{service}"), "service.istio.io/canonical-revision": "v1"});
            Some(pod)
        }
        _ => None,
    }
}

async fn answer(request: Request<Incoming>) -> Response<Full<Bytes>> {
    let query = request.uri().query().unwrap_or_default();
    if query.contains("watch=true") {
        // A watch that has nothing to say.
        return std::future::pending().await;
    }
    let number = |name: &str| {
        let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        pairs
            .find(|(n, _)| *n == name)
            .and_then(|(_, v)| v.parse::<usize>().ok())
    };
    let (from, limit) = (
        number("continue").unwrap_or(0),
        number("limit").unwrap_or(500),
    );
    let path = request.uri().path();
    // Under this path the cluster is a small one.
    let (path, all) = match path.strip_prefix("/small") {
        Some(path) => (path, 10),
        None => (path, PODS),
    };
    let items: Vec<Value> = (from..(from + limit).min(all))
        .map_while(|n| object(path, n))
        .collect();
    let next = match items.len() == limit {
        true => (from + limit).to_string(),
        false => String::new(),
    };
    let list = json!({"kind": "List", "metadata": {"resourceVersion": "100000", "continue": next}, "items": items});
    Response::new(Full::new(list.to_string().into()))
}

async fn serve() -> String {
    let ca_key = KeyPair::generate().unwrap();
    let mut ca = CertificateParams::new(Vec::new()).unwrap();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let pem = ca.clone().self_signed(&ca_key).unwrap().pem();
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params
        .subject_alt_names
        .push(SanType::IpAddress("127.0.0.1".parse().unwrap()));
    let certificate = params
        .signed_by(&key, &Issuer::from_params(&ca, &ca_key))
        .unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let tls = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![certificate.der().clone()],
            PrivateKeyDer::Pkcs8(key.serialize_der().into()),
        )
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(tls));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (tcp, _) = listener.accept().await.unwrap();
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let stream = acceptor.accept(tcp).await.unwrap();
                let service =
                    service_fn(|request| async { Ok::<_, Infallible>(answer(request).await) });
                let http = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
                let _ = http.serve_connection(TokioIo::new(stream), service).await;
            });
        }
    });
    // The PEM in base64 is what a kubeconfig wants; a file of our own may name it by path.
    let file = tempfile::NamedTempFile::new()
        .unwrap()
        .into_temp_path()
        .keep()
        .unwrap();
    std::fs::write(&file, pem).unwrap();
    json!({"current-context": "c", "contexts": [{"name": "c", "context": {"cluster": "c", "user": "c"}}], "users": [{"name": "c", "user": {"token": "t"}}],
           "clusters": [{"name": "c", "cluster": {"server": format!("https://{address}"), "certificate-authority": file}}]})
    .to_string()
}

/// Resident memory of this process in bytes.
fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: usize = statm.split(' ').nth(1).unwrap().parse().unwrap();
    pages * 4096
}

/// As our programs have it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    if std::env::args().nth(1).as_deref() == Some("serve") {
        runtime.block_on(async {
            println!("{}", serve().await);
            // Until the other side of the pipe is gone.
            let end =
                tokio::task::spawn_blocking(|| std::io::stdin().read_line(&mut String::new()));
            let _ = end.await;
            std::process::exit(0);
        });
    }
    runtime.block_on(twenty_thousand_endpoints_in_small_memory());
}

async fn twenty_thousand_endpoints_in_small_memory() {
    let mut server = Command::new(std::env::current_exe().unwrap())
        .arg("serve")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut config = String::new();
    BufReader::new(server.stdout.take().unwrap())
        .read_line(&mut config)
        .unwrap();
    let allowed = Allowed {
        loopback: true,
        files: true,
        ..Allowed::default()
    };
    let config = Kubeconfig::read(&config, allowed).unwrap();
    let access = Access::new(&config, allowed).unwrap();
    let mut small = config.clone();
    small.server.path = "/small".into();
    let small = Access::new(&small, allowed).unwrap();
    let cluster = ClusterId::new("c2").unwrap();
    let start = |generation, access: &Access| {
        let (out, changes) = mpsc::channel(8);
        let (told, _beside) = tokio::sync::watch::channel(Beside::default());
        let watched = Watched {
            cluster: cluster.clone(),
            generation: WatchGeneration(generation),
            access: access.clone(),
            reads: Reads::DiscoveryOnly,
            pace: Pace {
                page: 250,
                ..Pace::default()
            },
        };
        (tokio::spawn(watch(watched, out, told)), changes)
    };
    // What any watch costs is not an endpoint's.
    let (_first, mut changes) = start(1, &small);
    while !matches!(changes.recv().await.unwrap().what, Observed::Listed(_)) {}
    let before = resident();
    let begun = std::time::Instant::now();
    // Nobody keeps what the first one says.
    let (watching, mut changes) = start(1, &access);
    let (mut endpoints, mut services) = (0, 0);
    loop {
        match changes.recv().await.unwrap().what {
            Observed::Upsert(Fact::Slice(slice)) => endpoints += slice.endpoints.len(),
            Observed::Upsert(Fact::Service(_)) => services += 1,
            Observed::Listed(_) => break,
            _ => {}
        }
    }
    let listed = begun.elapsed();
    assert_eq!((endpoints, services), (PODS, SERVICES));
    let each = resident().saturating_sub(before) / PODS;
    watching.abort();
    let _ = watching.await;
    // A registry keeps what the second one says.
    let (_watching, mut changes) = start(2, &access);
    let mut registry = Registry::new(ClusterId::new("c1").unwrap());
    loop {
        let change = changes.recv().await.unwrap();
        let done = matches!(change.what, Observed::Listed(_));
        let _ = registry.apply(change, Timestamp(1));
        if done {
            break;
        }
    }
    assert_eq!(registry.snapshot().clusters[&cluster].endpoints, PODS);
    let with_registry = resident().saturating_sub(before) / PODS;
    println!(
        "{PODS} endpoints listed in {listed:?}: {each} bytes each in the watch, {with_registry} with a registry behind it"
    );
    drop(server.stdin.take());
    let _ = server.wait();
    assert!(each < 1_300, "{each} bytes for each endpoint");
}
