//! A scripted API server: it lists and watches what it is told to have, over TLS, and fails exactly as it is told to.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, StreamBody, combinators::BoxBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, SanType};
use rustls_pki_types::PrivateKeyDer;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_stream::wrappers::ReceiverStream;

/// What a request is answered with instead of the truth.
#[derive(Debug, Clone)]
pub(crate) enum Fault {
    /// A Kubernetes `Status` with this code and reason.
    Status(u16, &'static str),
    /// The same, with a `Retry-After` in seconds.
    Busy(u64),
    /// A page of something that is no API server.
    Html(u16),
    /// A list that breaks off in the middle of its bytes.
    Truncated,
    /// A list that comes in drops and is never whole.
    Drip,
    /// Nothing at all.
    Hang,
    /// Bytes that are no JSON.
    Garbage,
    /// An empty list without a revision, as no API server gives it.
    Blank,
    /// A watch that is reset as soon as it is open.
    Cut,
    /// A watch that ends in the middle of a line.
    CutInLine,
    /// A watch that says `ERROR` with this code.
    ErrorEvent(u16),
    /// A watch that ends in order as soon as it is open.
    EndAtOnce,
    /// A watch that says nothing, not even bookmarks.
    Silent,
}

/// Which requests a fault is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum On {
    List,
    Continue,
    Watch,
}

struct Script {
    /// A part of the path; empty for all.
    path: &'static str,
    on: On,
    fault: Fault,
    /// How often; for ever when `None`.
    times: Option<usize>,
}

#[derive(Default)]
struct State {
    revision: u64,
    objects: BTreeMap<String, BTreeMap<String, Value>>,
    events: Vec<(u64, String, &'static str, Value)>,
    /// Watches from before this revision are told 410.
    forgotten: u64,
    scripts: Vec<Script>,
    tokens: Vec<String>,
    /// Method, path with query, and token of each request.
    audit: Vec<(String, String, String)>,
    /// Answers to POST, by path.
    posts: BTreeMap<String, Value>,
    /// Counts up when open watches are to be reset.
    resets: u64,
}

/// The server. It ends with its handle.
pub(crate) struct ApiServer {
    pub(crate) address: SocketAddr,
    pub(crate) ca: String,
    key: KeyPair,
    issuer: CertificateParams,
    state: Arc<Mutex<State>>,
    wake: watch::Sender<u64>,
    tls: Arc<Mutex<Arc<rustls::ServerConfig>>>,
    task: Option<JoinHandle<()>>,
}

impl Drop for ApiServer {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

pub(crate) const NAMESPACES: &str = "/api/v1/namespaces";
pub(crate) const NODES: &str = "/api/v1/nodes";
pub(crate) const SERVICES: &str = "/api/v1/services";
pub(crate) const PODS: &str = "/api/v1/pods";
pub(crate) const SLICES: &str = "/apis/discovery.k8s.io/v1/endpointslices";
pub(crate) const EXPORTS: &str =
    "/apis/catamaran.dev/v1alpha1/namespaces/catamaran-system/meshexports";
pub(crate) const MESHES: &str = "/apis/catamaran.dev/v1alpha1/namespaces/catamaran-system/meshes";
pub(crate) const CLUSTERS: &str =
    "/apis/catamaran.dev/v1alpha1/namespaces/catamaran-system/clusters";
pub(crate) const SECRETS: &str = "/api/v1/namespaces/catamaran-system/secrets";
pub(crate) const ISTIO_SECRETS: &str = "/api/v1/namespaces/istio-system/secrets";

fn authority() -> (CertificateParams, KeyPair) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params
        .distinguished_name
        .push(rcgen::DnType::CommonName, "kubernetes");
    (params, key)
}

fn tls_config(issuer: &CertificateParams, key: &KeyPair) -> Arc<rustls::ServerConfig> {
    let server_key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    params
        .subject_alt_names
        .push(SanType::IpAddress("127.0.0.1".parse().unwrap()));
    let issuer = Issuer::from_params(issuer, key);
    let certificate = params.signed_by(&server_key, &issuer).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![certificate.der().clone()],
            PrivateKeyDer::Pkcs8(server_key.serialize_der().into()),
        )
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Arc::new(config)
}

impl ApiServer {
    pub(crate) async fn start() -> ApiServer {
        let (issuer, key) = authority();
        let ca = issuer.clone().self_signed(&key).unwrap().pem();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut server = ApiServer {
            address: listener.local_addr().unwrap(),
            ca,
            tls: Arc::new(Mutex::new(tls_config(&issuer, &key))),
            key,
            issuer,
            state: Arc::new(Mutex::new(State {
                revision: 100,
                tokens: vec!["token-1".into()],
                ..State::default()
            })),
            wake: watch::channel(0).0,
            task: None,
        };
        for path in [NAMESPACES, NODES, SERVICES, PODS, SLICES, EXPORTS] {
            server.install(path);
        }
        server.serve(listener);
        server
    }

    fn serve(&mut self, listener: TcpListener) {
        let (state, wake, tls) = (self.state.clone(), self.wake.clone(), self.tls.clone());
        self.task = Some(tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            loop {
                let Ok((tcp, _)) = listener.accept().await else {
                    return;
                };
                let _ = tcp.set_nodelay(true);
                let acceptor = tokio_rustls::TlsAcceptor::from(tls.lock().unwrap().clone());
                let (state, wake) = (state.clone(), wake.clone());
                connections.spawn(async move {
                    let Ok(stream) = acceptor.accept(tcp).await else {
                        return;
                    };
                    let answer = service_fn(move |request| {
                        let (state, wake) = (state.clone(), wake.clone());
                        async move { Ok::<_, Infallible>(answer(request, state, wake).await) }
                    });
                    let _ = auto::Builder::new(TokioExecutor::new())
                        .serve_connection(TokioIo::new(stream), answer)
                        .await;
                });
            }
        }));
    }

    /// Ends all connections and listens no more.
    pub(crate) async fn stop(&mut self) {
        if let Some(task) = self.task.take() {
            task.abort();
            let _ = task.await;
        }
    }

    /// Listens again where it listened.
    pub(crate) async fn start_again(&mut self) {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.set_reuseaddr(true).unwrap();
        socket.bind(self.address).unwrap();
        let listener = socket.listen(64).unwrap();
        self.serve(listener);
    }

    /// Shows a certificate of a CA that nobody knows, or the right one again.
    pub(crate) fn impostor(&self, is: bool) {
        let (issuer, key) = authority();
        *self.tls.lock().unwrap() = match is {
            true => tls_config(&issuer, &key),
            false => tls_config(&self.issuer, &self.key),
        };
        self.reset();
    }

    /// Resets all open watches.
    pub(crate) fn reset(&self) {
        self.state.lock().unwrap().resets += 1;
        self.wake.send_modify(|n| *n += 1);
    }

    /// A kubeconfig with a token.
    pub(crate) fn kubeconfig(&self, token: &str) -> String {
        self.kubeconfig_at(&format!("https://{}", self.address), token)
    }

    pub(crate) fn kubeconfig_at(&self, server: &str, token: &str) -> String {
        serde_json::to_string_pretty(&json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "c",
            "clusters": [{"name": "c", "cluster": {"server": server, "certificate-authority-data": base64(self.ca.as_bytes())}}],
            "users": [{"name": "u", "user": {"token": token}}],
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        }))
        .unwrap()
    }

    /// Takes another token from now on, beside those it takes.
    pub(crate) fn accept(&self, token: &str) {
        self.state.lock().unwrap().tokens.push(token.into());
    }

    /// Takes this token no more. Open watches go on, as in Kubernetes.
    pub(crate) fn revoke(&self, token: &str) {
        self.state.lock().unwrap().tokens.retain(|t| t != token);
    }

    /// Knows a kind.
    pub(crate) fn install(&self, path: &str) {
        let mut state = self.state.lock().unwrap();
        state.objects.entry(path.into()).or_default();
    }

    /// Does not know a kind any more, with all its objects.
    pub(crate) fn uninstall(&self, path: &str) {
        self.state.lock().unwrap().objects.remove(path);
    }

    /// Puts an object there, or changes it.
    pub(crate) fn put(&self, path: &str, mut object: Value) {
        let mut state = self.state.lock().unwrap();
        state.revision += 1;
        let revision = state.revision;
        object["metadata"]["resourceVersion"] = json!(revision.to_string());
        let key = key(&object);
        let before = state
            .objects
            .entry(path.into())
            .or_default()
            .insert(key, object.clone());
        let kind = if before.is_some() {
            "MODIFIED"
        } else {
            "ADDED"
        };
        state.events.push((revision, path.into(), kind, object));
        drop(state);
        self.wake.send_modify(|n| *n += 1);
    }

    /// Deletes an object.
    pub(crate) fn delete(&self, path: &str, namespace: &str, name: &str) {
        let mut state = self.state.lock().unwrap();
        state.revision += 1;
        let revision = state.revision;
        let objects = state.objects.get_mut(path).unwrap();
        let mut object = objects.remove(&format!("{namespace}/{name}")).unwrap();
        object["metadata"]["resourceVersion"] = json!(revision.to_string());
        state
            .events
            .push((revision, path.into(), "DELETED", object));
        drop(state);
        self.wake.send_modify(|n| *n += 1);
    }

    /// Forgets the past: watches from before now are told 410.
    pub(crate) fn compact(&self) {
        let mut state = self.state.lock().unwrap();
        state.revision += 1;
        state.forgotten = state.revision;
        state.events.clear();
    }

    /// Answers so from now on.
    pub(crate) fn script(&self, path: &'static str, on: On, fault: Fault, times: Option<usize>) {
        let script = Script {
            path,
            on,
            fault,
            times,
        };
        self.state.lock().unwrap().scripts.push(script);
    }

    /// Answers truly again, from the next request on.
    pub(crate) fn unscript(&self) {
        self.state.lock().unwrap().scripts.clear();
    }

    /// Answers truly again, and ends what was open.
    pub(crate) fn honest(&self) {
        self.state.lock().unwrap().scripts.clear();
        self.reset();
    }

    /// What a POST to this path is answered with.
    pub(crate) fn on_post(&self, path: &str, answer: Value) {
        self.state.lock().unwrap().posts.insert(path.into(), answer);
    }

    /// What was asked so far.
    pub(crate) fn audit(&self) -> Vec<(String, String, String)> {
        self.state.lock().unwrap().audit.clone()
    }
}

fn key(object: &Value) -> String {
    let part = |name: &str| object["metadata"][name].as_str().unwrap_or_default();
    format!("{}/{}", part("namespace"), part("name"))
}

type Body = BoxBody<Bytes, io::Error>;

fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into())
        .map_err(|never| match never {})
        .boxed()
}

fn json_answer(code: u16, value: &Value) -> Response<Body> {
    Response::builder()
        .status(code)
        .header("content-type", "application/json")
        .body(full(value.to_string()))
        .unwrap()
}

fn status(code: u16, reason: &str) -> Value {
    json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
           "message": format!("scripted {code}"), "reason": reason, "code": code})
}

fn stream(capacity: usize) -> (mpsc::Sender<io::Result<Frame<Bytes>>>, Response<Body>) {
    let (send, receive) = mpsc::channel(capacity);
    let body = BodyExt::boxed(StreamBody::new(ReceiverStream::new(receive)));
    (send, Response::new(body))
}

async fn answer(
    request: Request<Incoming>,
    state: Arc<Mutex<State>>,
    wake: watch::Sender<u64>,
) -> Response<Body> {
    let query: BTreeMap<String, String> = (request.uri().query().unwrap_or_default())
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    let path = request.uri().path().to_owned();
    let watches = query.get("watch").is_some_and(|v| v == "true");
    let on = match (watches, query.contains_key("continue")) {
        (true, _) => On::Watch,
        (false, true) => On::Continue,
        (false, false) => On::List,
    };
    let token = (request.headers().get("authorization"))
        .and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "))
        .unwrap_or_default()
        .to_owned();
    let method = request.method().clone();
    let body = request.into_body().collect().await.map(|b| b.to_bytes());
    let fault = {
        let mut state = state.lock().unwrap();
        let asked = format!(
            "{path}?{}",
            query
                .iter()
                .map(|(k, v)| format!("{k}={v}"))
                .collect::<Vec<_>>()
                .join("&")
        );
        state.audit.push((method.to_string(), asked, token.clone()));
        if !state.tokens.contains(&token) {
            return json_answer(401, &status(401, "Unauthorized"));
        }
        if method == Method::POST {
            let _ = body;
            return match state.posts.get(&path) {
                Some(answer) => json_answer(201, answer),
                None => json_answer(403, &status(403, "Forbidden")),
            };
        }
        let mut found = None;
        for script in &mut state.scripts {
            let meant = script.on == on && path.contains(script.path);
            if meant && script.times != Some(0) {
                script.times = script.times.map(|times| times - 1);
                found = Some(script.fault.clone());
                break;
            }
        }
        if found.is_none() && !state.objects.contains_key(&path) {
            return json_answer(404, &status(404, "NotFound"));
        }
        found
    };
    match fault {
        Some(Fault::Status(code, reason)) => return json_answer(code, &status(code, reason)),
        Some(Fault::Busy(seconds)) => {
            let mut answer = json_answer(429, &status(429, "TooManyRequests"));
            let value = seconds.to_string().parse().unwrap();
            answer.headers_mut().insert("retry-after", value);
            return answer;
        }
        Some(Fault::Html(code)) => {
            let mut answer = Response::new(full("<html><body>Welcome to the portal</body></html>"));
            *answer.status_mut() = StatusCode::from_u16(code).unwrap();
            return answer;
        }
        Some(Fault::Garbage) => {
            return Response::new(full("{\"kind\": \"List\", \"metadata\": {]"));
        }
        Some(Fault::Blank) => {
            return json_answer(200, &json!({"kind": "List", "metadata": {}, "items": []}));
        }
        Some(Fault::Hang) => {
            tokio::time::sleep(Duration::from_secs(3600)).await;
            unreachable!("nobody waits for an hour");
        }
        Some(fault @ (Fault::Truncated | Fault::Drip)) => {
            let whole = list(&state.lock().unwrap(), &path, &BTreeMap::new()).to_string();
            let (send, answer) = stream(1);
            tokio::spawn(async move {
                let mut pieces = whole.as_bytes().chunks(whole.len() / 2 + 1);
                let half = Bytes::copy_from_slice(pieces.next().unwrap_or_default());
                let _ = send.send(Ok(Frame::data(half))).await;
                if matches!(fault, Fault::Truncated) {
                    let _ = send.send(Err(io::Error::other("scripted"))).await;
                    return;
                }
                let rest = pieces.next().unwrap_or_default().to_vec();
                for byte in rest {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    let drop = Bytes::copy_from_slice(&[byte]);
                    if send.send(Ok(Frame::data(drop))).await.is_err() {
                        return;
                    }
                }
            });
            return answer;
        }
        Some(Fault::EndAtOnce) => return Response::new(full("")),
        Some(Fault::ErrorEvent(code)) => {
            let event = json!({"type": "ERROR", "object": status(code, "Scripted")});
            return Response::new(full(format!("{event}\n")));
        }
        Some(Fault::Cut) => {
            let (send, answer) = stream(1);
            tokio::spawn(async move { send.send(Err(io::Error::other("scripted"))).await });
            return answer;
        }
        Some(Fault::CutInLine) => {
            return Response::new(full(
                "{\"type\":\"DELETED\",\"object\":{\"metadata\":{\"name\":\"hel",
            ));
        }
        Some(Fault::Silent) => {
            let (send, answer) = stream(1);
            tokio::spawn(async move { send.closed().await });
            return answer;
        }
        None => {}
    }
    match on {
        On::List | On::Continue => json_answer(200, &list(&state.lock().unwrap(), &path, &query)),
        On::Watch => follow(path, &query, state, wake),
    }
}

/// A page; the `continue` token is the place in the list.
fn list(state: &State, path: &str, query: &BTreeMap<String, String>) -> Value {
    let number = |name: &str| query.get(name).and_then(|v| v.parse::<usize>().ok());
    let from = number("continue").unwrap_or(0);
    let selector = query.get("labelSelector").map(String::as_str);
    let labelled = |object: &&Value| {
        selector.is_none() || object["metadata"]["labels"]["istio/multiCluster"] == "true"
    };
    let all: Vec<&Value> = state.objects[path].values().filter(labelled).collect();
    let to = number("limit").map_or(all.len(), |limit| (from + limit).min(all.len()));
    let next = if to < all.len() {
        to.to_string()
    } else {
        String::new()
    };
    json!({
        "kind": "List", "apiVersion": "v1",
        "metadata": {"resourceVersion": state.revision.to_string(), "continue": next},
        "items": all[from.min(to)..to],
    })
}

fn follow(
    path: String,
    query: &BTreeMap<String, String>,
    state: Arc<Mutex<State>>,
    wake: watch::Sender<u64>,
) -> Response<Body> {
    let mut from: u64 = query["resourceVersion"].parse().unwrap();
    let selected = query.contains_key("labelSelector");
    if from < state.lock().unwrap().forgotten {
        return json_answer(410, &status(410, "Expired"));
    }
    let (send, answer) = stream(16);
    let mut woken = wake.subscribe();
    let resets = state.lock().unwrap().resets;
    tokio::spawn(async move {
        loop {
            let (events, reset, revision) = {
                let state = state.lock().unwrap();
                let events: Vec<String> = (state.events.iter())
                    .filter(|(revision, of, _, _)| *revision > from && *of == path)
                    .filter(|(_, _, _, object)| {
                        !selected || object["metadata"]["labels"]["istio/multiCluster"] == "true"
                    })
                    .map(|(_, _, kind, object)| json!({"type": kind, "object": object}).to_string())
                    .collect();
                (events, state.resets != resets, state.revision)
            };
            if reset {
                let _ = send.send(Err(io::Error::other("scripted reset"))).await;
                return;
            }
            for event in events {
                let line = Bytes::from(format!("{event}\n"));
                if send.send(Ok(Frame::data(line))).await.is_err() {
                    return;
                }
            }
            from = revision;
            tokio::select! {
                () = send.closed() => return,
                _ = woken.changed() => {}
                () = tokio::time::sleep(Duration::from_millis(100)) => {
                    let bookmark = json!({"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": from.to_string()}}});
                    if send.send(Ok(Frame::data(format!("{bookmark}\n").into()))).await.is_err() {
                        return;
                    }
                }
            }
        }
    });
    answer
}

pub(crate) fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for chunk in bytes.chunks(3) {
        let mut bits = 0u32;
        for n in 0..3 {
            bits = bits << 8 | u32::from(chunk.get(n).copied().unwrap_or(0));
        }
        for n in 0..4 {
            match n <= chunk.len() {
                true => out.push(DIGITS[(bits >> (18 - 6 * n)) as usize & 63] as char),
                false => out.push('='),
            }
        }
    }
    out
}
