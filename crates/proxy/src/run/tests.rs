use std::net::Ipv4Addr;

use catamaran_process::{Config as Life, End};
use catamaran_wire::cluster::Cluster;
use catamaran_xds::{Resource, ResourceSet, TypeUrlKind};
use serde_json::Value as Json;
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};

use super::*;
use crate::config::tests::sidecar;
use crate::stand_in::{Listening, StandIn, root};

const SOON: Duration = Duration::from_secs(20);

#[test]
fn a_pod_of_a_deployment_is_told_by_its_deployment() {
    for (pod, name) in [
        ("helloworld-v1-7b888c5d9f-x2x4z", "helloworld-v1"),
        ("sleep-0", "sleep-0"),
        ("eastwest-gateway", "eastwest-gateway"),
        ("my-long-named-thing", "my-long-named-thing"),
    ] {
        assert_eq!(workload(pod), name);
    }
}

/// A pod's own loopback address: this test program's, and this test's.
fn address(test: u8) -> Ipv4Addr {
    let [low, high, ..] = std::process::id().to_le_bytes();
    Ipv4Addr::new(127, high | 0x80, low, test)
}

struct Pod {
    config: Config,
    stand_in: Arc<StandIn>,
    control_plane: Option<Listening>,
    _folder: TempDir,
}

async fn pod(test: u8) -> Pod {
    let root = root();
    let stand_in = StandIn::new(&root);
    let cluster = Cluster {
        name: "BlackHoleCluster".into(),
        ..Cluster::default()
    };
    let cluster = Resource::new(TypeUrlKind::Cluster, "BlackHoleCluster", &cluster);
    let set: ResourceSet = [Arc::new(cluster)].into_iter().collect();
    stand_in.set.send_replace(Arc::new(set));
    let control_plane = stand_in.listen().await;
    let folder = tempfile::tempdir().unwrap();
    let mut config = sidecar(folder.path(), vec![control_plane.address]);
    config.address = address(test).into();
    config.access_log = Some(folder.path().join("access.log"));
    std::fs::write(&config.root_cert, root.cert_pem()).unwrap();
    let token = stand_in.token(config.identity());
    std::fs::write(config.join_token.as_ref().unwrap(), token).unwrap();
    Pod {
        config,
        stand_in,
        control_plane: Some(control_plane),
        _folder: folder,
    }
}

async fn start(config: &Config) -> Process {
    let process = Process::start(Life::quiet("proxy"));
    run(config.clone(), &process).await.unwrap();
    process
}

async fn until_ready(process: &Process) {
    let ready = tokio::time::timeout(SOON, process.until_ready()).await;
    assert!(ready.is_ok(), "it waits for {:?}", process.waiting_for());
}

/// Status and body of an answer.
async fn ask(mut stream: impl AsyncRead + AsyncWrite + Unpin, request: &str) -> (u16, String) {
    let request = format!("{request} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, body.to_owned())
}

async fn ask_admin(config: &Config, request: &str) -> (u16, String) {
    let stream = TcpStream::connect(config.admin_address()).await.unwrap();
    ask(stream, request).await
}

async fn page(config: &Config, path: &str) -> Json {
    let (status, body) = ask_admin(config, &format!("GET {path}")).await;
    assert_eq!(status, 200, "{path}: {body}");
    serde_json::from_str(&body).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proxy_is_ready_when_it_can_take_traffic_and_shows_what_it_knows() {
    let Pod {
        config,
        stand_in,
        control_plane: _listens,
        _folder,
    } = pod(1).await;
    let process = start(&config).await;
    until_ready(&process).await;

    let health = TcpStream::connect(config.health_address()).await.unwrap();
    assert_eq!(ask(health, "GET /healthz/ready").await.0, 200);
    let health = TcpStream::connect(config.health_address()).await.unwrap();
    assert_eq!(ask(health, "POST /drain").await.0, 404, "not for everybody");
    TcpStream::connect((config.address, 15001))
        .await
        .expect("callers are taken");
    let socket = UnixStream::connect(&config.admin_socket).await.unwrap();
    assert_eq!(ask(socket, "GET /ready").await, (200, "LIVE\n".into()));

    let dump = page(&config, "/config_dump").await;
    assert_eq!(
        dump["resources"]["cluster"][0]["value"]["name"],
        "BlackHoleCluster"
    );
    assert_eq!(dump["control_plane"]["identifier"], "stand-in");
    assert_eq!(
        dump["sockets"][format!("{}:15001", config.address)],
        "bound"
    );
    let certs = page(&config, "/certs").await;
    assert_eq!(
        certs["chain"][0]["uris"][0],
        "spiffe://cluster.local/ns/default/sa/sleep"
    );
    assert_eq!(certs["chain"].as_array().unwrap().len(), 2);
    assert_eq!(
        certs["chain"][0]["issuer_fingerprint"],
        certs["chain"][1]["fingerprint"]
    );
    assert_eq!(
        page(&config, "/clusters").await["clusters"][0]["name"],
        "BlackHoleCluster"
    );

    let unusable = Cluster {
        name: "other".into(),
        ..Cluster::default()
    };
    let unusable = Resource::new(TypeUrlKind::Cluster, "bad", &unusable);
    let mut set = (**stand_in.set.borrow()).clone();
    set.insert(Arc::new(unusable));
    stand_in.set.send_replace(Arc::new(set));
    let mut known = stand_in.ledger.refusals.subscribe();
    known.wait_for(|refused| refused.len() == 1).await.unwrap();
    let dump = page(&config, "/config_dump?kind=cluster").await;
    assert_eq!(dump["refused"][0]["name"], "bad");
    assert!(
        dump["refused"][0]["reason"]
            .as_str()
            .unwrap()
            .contains("calls itself")
    );
    assert!(
        dump["resources"].get("route").is_none(),
        "only the kind that was asked for"
    );
    assert_eq!(ask_admin(&config, "GET /config_dump?kind=x").await.0, 400);

    let (status, metrics) = ask_admin(&config, "GET /stats/prometheus").await;
    assert_eq!(status, 200);
    assert!(
        metrics.contains("\ncatamaran_proxy_control_plane_connected 1\n"),
        "{metrics}"
    );
    assert!(metrics.contains("\ncatamaran_proxy_resources_refused 1\n"));
    assert!(metrics.contains("# TYPE istio_requests_total counter"));

    assert_eq!(ask_admin(&config, "GET /drain").await.0, 405);
    assert_eq!(ask_admin(&config, "POST /drain").await.0, 200);
    let end = tokio::time::timeout(SOON, process.until_stopped())
        .await
        .unwrap();
    assert_eq!(end, End::Asked("POST /drain".into()));
    assert!(TcpStream::connect((config.address, 15001)).await.is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restarted_proxy_is_ready_without_a_control_plane_and_a_new_one_says_what_it_waits_for() {
    let Pod {
        mut config,
        stand_in: _stand_in,
        mut control_plane,
        _folder,
    } = pod(2).await;
    let address = control_plane.as_ref().unwrap().address;
    let process = start(&config).await;
    until_ready(&process).await;
    let saved = config.saved("resources");
    while !saved.exists() {
        tokio::task::yield_now().await;
    }
    process.stop("restart");
    process.until_stopped().await;
    drop(control_plane.take());

    config.join_token = None;
    let process = start(&config).await;
    until_ready(&process).await;
    TcpStream::connect((config.address, 15001))
        .await
        .expect("callers are taken");
    process.stop("over");
    process.until_stopped().await;

    let fresh = tempfile::tempdir().unwrap();
    config.state = fresh.path().join("state");
    let process = start(&config).await;
    let (status, why) = ask_admin(&config, "GET /ready").await;
    assert_eq!(status, 503);
    assert!(
        why.contains("certificate") && why.contains("configuration"),
        "{why}"
    );
    assert!(
        TcpStream::connect((config.address, 15001)).await.is_err(),
        "a caller is not misled"
    );
    let mut why = String::new();
    while !why.contains(&address.to_string()) && !why.contains("no --join-token") {
        why = ask_admin(&config, "GET /ready").await.1;
    }
    process.stop("over");
    process.until_stopped().await;
}

#[tokio::test]
async fn the_workload_lives_while_its_proxy_drains() {
    let Pod {
        mut config,
        stand_in: _stand_in,
        control_plane: _listens,
        _folder,
    } = pod(4).await;
    let app = TcpListener::bind((config.app, 0)).await.unwrap();
    let port = app.local_addr().unwrap().port();
    let probes = format!("{{\"/app-health/web/livez\": {{\"tcpSocket\": {{\"port\": {port}}}}}}}");
    config.app_probes = probes.parse().unwrap();
    let process = start(&config).await;
    let health = async |path: &str| {
        let stream = TcpStream::connect(config.health_address()).await.unwrap();
        ask(stream, &format!("GET {path}")).await
    };
    let lives = (200, "ok\n".to_owned());
    assert_eq!(health("/app-health/web/livez").await, lives);
    assert_eq!(health("/app-health/web/readyz").await.0, 404);

    let (release, held) = tokio::sync::oneshot::channel::<()>();
    let stopping = process.stopping();
    process.run("a connection under way", async move {
        stopping.wait().await;
        let _ = held.await;
        Ok::<(), String>(())
    });
    process.stop("over");
    let stopped = tokio::spawn({
        let process = process.clone();
        async move { process.until_stopped().await }
    });
    process.stopping().wait().await;
    let draining = (503, "draining\n".to_owned());
    assert_eq!(health("/healthz/ready").await, draining);
    assert_eq!(health("/app-health/web/livez").await, lives);
    drop(release);
    assert_eq!(stopped.await.unwrap(), End::Asked("over".into()));
    assert!(TcpStream::connect(config.health_address()).await.is_err());
}

#[tokio::test]
async fn a_proxy_that_cannot_listen_says_where() {
    let Pod {
        config,
        stand_in: _stand_in,
        control_plane: _listens,
        _folder,
    } = pod(3).await;
    let taken = TcpListener::bind(config.admin_address()).await.unwrap();
    let process = Process::start(Life::quiet("proxy"));
    let failed = run(config.clone(), &process).await.unwrap_err().to_string();
    assert!(
        failed.contains(&taken.local_addr().unwrap().to_string()),
        "{failed}"
    );
    let none = Config {
        control_planes: Vec::new(),
        ..config
    };
    assert!(matches!(
        run(none, &process).await,
        Err(RunError::NoControlPlane)
    ));
}
