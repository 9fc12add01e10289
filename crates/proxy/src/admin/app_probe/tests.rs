use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicUsize, Ordering};

use catamaran_wire::Message;
use hyper_util::rt::TokioExecutor;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::*;

const APP: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
/// Where nobody listens: whoever was asked there would not answer.
const POD: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 10));

/// A program that gives each request that comes the same answer, and shows the requests.
struct App {
    port: u16,
    requests: mpsc::UnboundedReceiver<String>,
    connections: Arc<AtomicUsize>,
}

async fn app(answer: impl Fn(&str) -> String + Send + Sync + 'static) -> App {
    serve(answer, None).await
}

async fn serve(
    answer: impl Fn(&str) -> String + Send + Sync + 'static,
    tls: Option<tokio_rustls::TlsAcceptor>,
) -> App {
    let listener = TcpListener::bind((APP, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (tell, requests) = mpsc::unbounded_channel();
    let connections = Arc::<AtomicUsize>::default();
    let (answer, count) = (Arc::new(answer), connections.clone());
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            count.fetch_add(1, Ordering::Relaxed);
            let (answer, tell, tls) = (answer.clone(), tell.clone(), tls.clone());
            tokio::spawn(async move {
                match tls {
                    None => converse_with(stream, &*answer, &tell).await,
                    Some(tls) => {
                        let stream = tls.accept(stream).await.unwrap();
                        converse_with(stream, &*answer, &tell).await;
                    }
                }
            });
        }
    });
    App {
        port,
        requests,
        connections,
    }
}

async fn converse_with(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    answer: &(impl Fn(&str) -> String + ?Sized),
    tell: &mpsc::UnboundedSender<String>,
) {
    let mut request = String::new();
    let mut buffer = [0; 4096];
    while !request.contains("\r\n\r\n") {
        match stream.read(&mut buffer).await {
            Ok(length) if length > 0 => {
                request.push_str(std::str::from_utf8(&buffer[..length]).unwrap());
            }
            _ => return,
        }
    }
    let answer = answer(&request);
    let _ = tell.send(request);
    let _ = stream.write_all(answer.as_bytes()).await;
    // What was not ended is kept: the answer is slow.
    if answer.ends_with("...") || answer.is_empty() {
        std::future::pending::<()>().await;
    }
    let _ = stream.shutdown().await;
}

fn plain(status: &str, more: &str) -> String {
    format!("HTTP/1.1 {status}\r\n{more}content-length: 0\r\n\r\n")
}

fn prober(probe: &str) -> Prober {
    let text = format!("{{\"/app-health/web/livez\": {probe}}}");
    Prober::of(text.parse().unwrap(), APP, POD)
}

async fn ask(prober: &Prober) -> (u16, String) {
    asked(prober, Method::GET, "/app-health/web/livez").await
}

async fn asked(prober: &Prober, method: Method, path: &str) -> (u16, String) {
    let request = Request::builder().method(method).uri(path);
    let answer = prober.answer(&request.body(Bytes::new()).unwrap()).await;
    let status = answer.status().as_u16();
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

fn http(app: &App, more: &str) -> Prober {
    prober(&format!(
        "{{\"httpGet\": {{\"path\": \"/health\", \"port\": {}{more}}}}}",
        app.port
    ))
}

fn good() -> (u16, String) {
    (200, "ok\n".into())
}

fn bad(why: impl std::fmt::Display) -> (u16, String) {
    (503, format!("{why}\n"))
}

#[tokio::test]
async fn a_page_is_asked_for_as_kubelet_asks() {
    let mut app = app(|_| plain("200 OK", "")).await;
    assert_eq!(ask(&http(&app, "")).await, good());
    let request = app.requests.recv().await.unwrap();
    let expected = format!(
        "GET /health HTTP/1.1\r\nhost: 192.0.2.10:{}\r\nuser-agent: {USER_AGENT}\r\naccept: */*\r\nconnection: close\r\n\r\n",
        app.port
    );
    assert_eq!(request, expected);

    let more = r#", "host": "elsewhere.example", "httpHeaders": [
        {"name": "Host", "value": "web.example"}, {"name": "X-A", "value": "1"}, {"name": "X-A", "value": "2"},
        {"name": "User-Agent", "value": "own"}, {"name": "Accept", "value": ""},
        {"name": "Content-Length", "value": "5"}, {"name": "Connection", "value": "keep-alive"}]"#;
    assert_eq!(ask(&http(&app, more)).await, good());
    let request = app.requests.recv().await.unwrap();
    let mut lines: Vec<&str> = request.trim_end().lines().skip(1).collect();
    lines.sort_unstable();
    assert_eq!(
        lines,
        [
            "connection: close",
            "host: web.example",
            "user-agent: own",
            "x-a: 1",
            "x-a: 2"
        ]
    );
}

#[tokio::test]
async fn statuses_are_judged_as_kubelet_judges() {
    for (status, verdict) in [
        ("200 OK", good()),
        ("204 No Content", good()),
        ("304 Not Modified", good()),
        ("399 Odd", good()),
        (
            "404 Not Found",
            bad("HTTP probe failed with statuscode: 404"),
        ),
        ("400 Bad", bad("HTTP probe failed with statuscode: 400")),
        ("503 Busy", bad("HTTP probe failed with statuscode: 503")),
    ] {
        let app = app(move |_| plain(status, "x-secret: s3cret\r\n")).await;
        assert_eq!(ask(&http(&app, "")).await, verdict, "{status}");
    }
    let app = app(|_| "HTTP/1.1 500 No\r\ncontent-length: 6\r\n\r\ns3cret".into()).await;
    let said = ask(&http(&app, "")).await;
    assert_eq!(said, bad("HTTP probe failed with statuscode: 500"));
}

#[tokio::test]
async fn a_probe_is_led_on_only_within_the_workload() {
    // Relative, absolute, and by the address under which it was asked.
    let mut own = app(|request| match request.split(' ').nth(1).unwrap() {
        "/health" => plain("302 Found", "location: deeper/../next?x=1#end\r\n"),
        "/next?x=1" => {
            let (_, port) = request.split_once("192.0.2.10:").unwrap();
            let port: String = port.chars().take_while(char::is_ascii_digit).collect();
            let there = format!("location: http://192.0.2.10:{port}/last\r\n");
            plain("307 Temporary Redirect", &there)
        }
        "/last" => plain("418 Teapot", ""),
        other => panic!("{other}"),
    })
    .await;
    let said = ask(&http(&own, "")).await;
    assert_eq!(said, bad("HTTP probe failed with statuscode: 418"));
    for _ in 0..3 {
        own.requests.recv().await.unwrap();
    }
    // Elsewhere is nobody asked: `elsewhere` listens where a name or another address would lead to.
    let elsewhere = app(|_| plain("500 No", "")).await;
    let there = elsewhere.port;
    for to in [
        format!("http://127.0.0.1:{there}/"),
        format!("http://localhost:{there}/"),
        format!("//localhost:{there}/"),
        format!("http://192.0.2.10@localhost:{there}/"),
        format!("http://user@192.0.2.10:{there}/"),
        "https://web.example/login".into(),
        "ftp://192.0.2.10/".into(),
        "mailto:a@b".into(),
    ] {
        let location = format!("location: {to}\r\n");
        let own = app(move |_| plain("302 Found", &location)).await;
        assert_eq!(ask(&http(&own, "")).await, good(), "{to}");
        assert_eq!(own.connections.load(Ordering::Relaxed), 1);
    }
    assert_eq!(elsewhere.connections.load(Ordering::Relaxed), 0);
    let round = app(|_| plain("301 Moved", "location: /health\r\n")).await;
    assert_eq!(
        ask(&http(&round, "")).await,
        bad("stopped after 10 redirects")
    );
    assert_eq!(round.connections.load(Ordering::Relaxed), 11);
    let none = app(|_| plain("302 Found", "")).await;
    assert_eq!(ask(&http(&none, "")).await, good());
    let odd = app(|_| plain("302 Found", "location: http://[x/\r\n")).await;
    assert_eq!(
        ask(&http(&odd, "")).await,
        bad("it is led to what is no page")
    );
}

#[test]
fn locations_are_resolved() {
    let page = Page {
        port: 8080,
        secure: true,
        target: "/a/b?x".parse().unwrap(),
        authority: None,
    };
    for (location, expected) in [
        ("", "https 8080 /a/b?x"),
        ("c", "https 8080 /a/c"),
        ("./c/", "https 8080 /a/c/"),
        ("..", "https 8080 /"),
        ("../../../c", "https 8080 /c"),
        ("?y=http://z", "https 8080 /a/b?y=http://z"),
        ("/c d?e=/../f", "https 8080 /c%20d?e=/../f"),
        ("//192.0.2.10/c", "https 443 /c"),
        ("HTTP://192.0.2.10", "http 80 /"),
        ("http://192.0.2.10:81?q", "http 81 /?q"),
    ] {
        let next = page.led_to(location, POD).unwrap().unwrap();
        let scheme = if next.secure { "https" } else { "http" };
        let shown = format!("{scheme} {} {}", next.port, next.target);
        assert_eq!(shown, expected, "{location}");
    }
    let six = "2001:db8::1".parse().unwrap();
    let next = page.led_to("http://[2001:db8::1]:8/", six).unwrap();
    assert_eq!(next.unwrap().port, 8);
}

#[tokio::test]
async fn who_is_not_there_or_breaks_off_has_failed() {
    let gone = TcpListener::bind((APP, 0)).await.unwrap();
    let port = gone.local_addr().unwrap().port();
    drop(gone);
    for probe in [
        format!("{{\"httpGet\": {{\"port\": {port}}}}}"),
        format!("{{\"httpGet\": {{\"port\": {port}, \"scheme\": \"HTTPS\"}}}}"),
        format!("{{\"tcpSocket\": {{\"port\": {port}}}}}"),
        format!("{{\"grpc\": {{\"port\": {port}}}}}"),
    ] {
        let (status, why) = ask(&prober(&probe)).await;
        assert_eq!(status, 503);
        let expected =
            format!("connecting to 127.0.0.1:{port}: Connection refused (os error 111)\n");
        assert_eq!(why, expected, "{probe}");
    }
    for answer in [
        "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nshort",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nx",
        "gibberish",
        "HTTP/1.1 200 OK\r\n",
    ] {
        let app = app(move |_| answer.to_owned()).await;
        let (status, why) = ask(&http(&app, "")).await;
        assert_eq!(status, 503, "{answer}");
        assert!(why.starts_with("the answer cannot be read: "), "{why}");
    }
    let huge = app(|_| plain("200 OK", &format!("x: {}\r\n", "y".repeat(400_000)))).await;
    let (status, why) = ask(&http(&huge, "")).await;
    assert!(status == 503 && why.len() <= REASON + 1, "{why}");
    let many = app(|_| plain("200 OK", &"x: y\r\n".repeat(200))).await;
    assert_eq!(ask(&http(&many, "")).await.0, 503);
}

#[tokio::test]
async fn a_large_answer_is_read_only_so_far() {
    // It never ends; what is read of it does.
    let app = app(|_| {
        let body = "x".repeat(BODY + 1);
        format!("HTTP/1.1 200 OK\r\ncontent-length: 99999999\r\n\r\n{body}...")
    })
    .await;
    assert_eq!(ask(&http(&app, "")).await, good());
}

#[tokio::test]
async fn a_probe_has_its_time_and_no_more() {
    let silent = app(|_| String::new()).await;
    let slow = app(|_| "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nslow...".into()).await;
    // Its backlog takes connections, but nobody speaks.
    let mute = TcpListener::bind((APP, 0)).await.unwrap();
    let mute = mute.local_addr().map(|at| (mute, at.port())).unwrap();
    for probe in [
        format!("{{\"httpGet\": {{\"port\": {}}}}}", silent.port),
        format!("{{\"httpGet\": {{\"port\": {}}}}}", slow.port),
        format!(
            "{{\"httpGet\": {{\"port\": {}, \"scheme\": \"HTTPS\"}}}}",
            mute.1
        ),
        format!("{{\"grpc\": {{\"port\": {}}}}}", mute.1),
    ] {
        let before = Instant::now();
        let said = ask(&prober(&probe)).await;
        assert_eq!(said, bad("no whole answer within 1 s"), "{probe}");
        let took = before.elapsed();
        assert!(
            took >= Duration::from_secs(1) && took < Duration::from_secs(5),
            "{took:?}"
        );
    }
    let tcp = prober(&format!("{{\"tcpSocket\": {{\"port\": {}}}}}", mute.1));
    assert_eq!(
        ask(&tcp).await,
        good(),
        "a connection is all that is wanted"
    );
}

#[tokio::test]
async fn all_who_ask_meanwhile_share_one_probe() {
    let app = app(|_| String::new()).await;
    let prober = http(&app, "");
    let asked = (0..50).map(|_| ask(&prober));
    let said = futures_util::future::join_all(asked).await;
    assert!(
        said.iter()
            .all(|said| *said == bad("no whole answer within 1 s"))
    );
    assert_eq!(app.connections.load(Ordering::Relaxed), 1);
    // Those who went away leave nothing that a later one would wait for.
    let gone = tokio::time::timeout(Duration::from_millis(100), ask(&prober)).await;
    assert!(gone.is_err());
    let before = Instant::now();
    ask(&prober).await;
    assert!(
        before.elapsed() >= Duration::from_secs(1),
        "a new one, with its whole time"
    );
    assert_eq!(app.connections.load(Ordering::Relaxed), 3);
}

#[tokio::test]
async fn what_is_no_probe_is_said() {
    let prober = prober("{\"tcpSocket\": {\"port\": 1}}");
    for path in [
        "/app-health/web/readyz",
        "/app-health/web/livez/",
        "/app-health/",
    ] {
        let said = asked(&prober, Method::GET, path).await;
        assert_eq!(said, (404, "no such probe\n".into()), "{path}");
    }
    assert_eq!(asked(&prober, Method::GET, "/").await.0, 404);
    let said = asked(&prober, Method::POST, "/app-health/web/livez").await;
    assert_eq!(said, (405, "use GET\n".into()));
}

fn self_signed(
    versions: &[&'static rustls::SupportedProtocolVersion],
) -> tokio_rustls::TlsAcceptor {
    let key = rcgen::KeyPair::generate().unwrap();
    // For another name, and for nobody who is trusted.
    let params = rcgen::CertificateParams::new(vec!["other.example".to_owned()]).unwrap();
    let certificate = params.self_signed(&key).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![certificate.der().clone()],
            rustls::pki_types::PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
        )
        .unwrap();
    tokio_rustls::TlsAcceptor::from(Arc::new(config))
}

#[tokio::test]
async fn https_is_asked_whoever_it_is() {
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let mut app = serve(|_| plain("200 OK", ""), Some(self_signed(&[version]))).await;
        assert_eq!(ask(&http(&app, r#", "scheme": "HTTPS""#)).await, good());
        let request = app.requests.recv().await.unwrap();
        assert!(request.starts_with("GET /health HTTP/1.1\r\nhost: 192.0.2.10:"));
    }
    let app = serve(
        |_| plain("404 No", ""),
        Some(self_signed(rustls::ALL_VERSIONS)),
    )
    .await;
    let said = ask(&http(&app, r#", "scheme": "HTTPS""#)).await;
    assert_eq!(said, bad("HTTP probe failed with statuscode: 404"));
    let plain = super::tests::app(|_| plain("200 OK", "")).await;
    let (status, why) = ask(&http(&plain, r#", "scheme": "HTTPS""#)).await;
    assert!(status == 503 && why.starts_with("TLS: "), "{why}");
}

/// A health service that says of the service `ready` that it is in `state`, and knows no other.
async fn health(state: i32) -> u16 {
    let listener = TcpListener::bind((APP, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let service =
                hyper::service::service_fn(move |request: Request<Incoming>| async move {
                    assert_eq!(request.uri().path(), "/grpc.health.v1.Health/Check");
                    let agent = request.headers()[header::USER_AGENT].to_str().unwrap();
                    assert!(agent.starts_with("kube-probe/"), "{agent}");
                    let body = request.into_body().collect().await.unwrap().to_bytes();
                    let asked = String::decode(&body[5..]).unwrap();
                    let (code, message) = match asked == "ready" {
                        true => ("0", state.encode_to_vec()),
                        false => ("5", vec![]),
                    };
                    let mut framed = vec![0, 0, 0, 0, u8::try_from(message.len()).unwrap()];
                    framed.extend(message);
                    let mut trailers = HeaderMap::new();
                    trailers.insert("grpc-status", code.parse().unwrap());
                    trailers.insert("grpc-message", "s3cret".parse().unwrap());
                    let body = http_body_util::Full::new(Bytes::from(framed));
                    let body = body.with_trailers(async move { Some(Ok(trailers)) });
                    http::Response::builder()
                        .header(header::CONTENT_TYPE, "application/grpc")
                        .body(body)
                });
            let served = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(stream), service);
            tokio::spawn(served);
        }
    });
    port
}

#[tokio::test]
async fn grpc_health_is_asked() {
    let grpc = |port: u16, service: &str| {
        prober(&format!(
            "{{\"grpc\": {{\"port\": {port}, \"service\": \"{service}\"}}, \"timeoutSeconds\": 5}}"
        ))
    };
    let serving = health(1).await;
    assert_eq!(ask(&grpc(serving, "ready")).await, good());
    let said = ask(&grpc(serving, "")).await;
    assert_eq!(said, bad("gRPC probe failed with status NotFound"));
    let not = ask(&grpc(health(2).await, "ready")).await;
    assert_eq!(not, bad("gRPC probe failed: the service is NOT_SERVING"));
    let unknown = ask(&grpc(health(0).await, "ready")).await;
    assert_eq!(unknown, bad("gRPC probe failed: the service is UNKNOWN"));
    let other = app(|_| plain("200 OK", "")).await;
    assert_eq!(
        ask(&grpc(other.port, "ready")).await.0,
        503,
        "no gRPC there"
    );
}
