//! Makes kubelet's probes in its place: the workload is asked where it is, and the answer is told as kubelet would judge it.
//!
//! Everybody who reaches the health port may ask. So a probe that is under way is shared by all who ask for it meanwhile: the
//! workload hears no more at once than it has probes, and nobody keeps kubelet from asking. What the workload says is not
//! shown, only how it was judged. Source of the judgement: Kubernetes' `pkg/probe` (http, tcp, grpc).

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use catamaran_process::http::{Answer, text};
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared, WeakShared};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tonic::transport::Endpoint;

use crate::config::app_probes::{AppProbe, FOLDER, Handler, target};
use crate::{AppProbes, Config};

/// How kubelet's begins: workloads know it by that.
const USER_AGENT: &str = concat!("kube-probe/catamaran-", env!("CARGO_PKG_VERSION"));
/// How much of an answer is read, in bytes; kubelet's number.
const BODY: usize = 10 << 10;
/// The largest head of an answer, in bytes (what is read at once may be as much again), and the most headers in it.
const HEAD: usize = 64 << 10;
const HEADERS: usize = 128;
/// The same for gRPC, whose messages here are of a few bytes.
const GRPC_HEAD: u32 = 16 << 10;
const GRPC_MESSAGE: usize = 4 << 10;
/// How often a probe is led on; Go's number.
const REDIRECTS: usize = 10;
/// The longest reason that is told, in characters.
const REASON: usize = 300;

type Verdict = Result<(), Arc<str>>;

/// Makes the probes of one workload.
#[derive(Clone)]
pub(crate) struct Prober(Arc<Inner>);

struct Inner {
    workload: Workload,
    probes: BTreeMap<String, Entry>,
}

struct Entry {
    probe: AppProbe,
    under_way: Mutex<Option<WeakShared<BoxFuture<'static, Verdict>>>>,
}

/// Where a workload is, and who it thinks that it is.
#[derive(Clone)]
struct Workload {
    app: IpAddr,
    /// The pod's address, under which kubelet would have asked.
    named: IpAddr,
    tls: TlsConnector,
}

impl Prober {
    pub(crate) fn new(config: &Config) -> Prober {
        Prober::of(config.app_probes.clone(), config.app, config.address)
    }

    fn of(probes: AppProbes, app: IpAddr, named: IpAddr) -> Prober {
        let entries = probes.into_all().map(|(path, probe)| {
            let under_way = Mutex::default();
            (path, Entry { probe, under_way })
        });
        Prober(Arc::new(Inner {
            workload: Workload {
                app,
                named,
                tls: TlsConnector::from(Arc::new(anybody())),
            },
            probes: entries.collect(),
        }))
    }

    /// Answers a request of which nobody else knows.
    pub(crate) async fn answer(&self, request: &Request<Bytes>) -> Answer {
        let path = request.uri().path();
        let Some(entry) = self.0.probes.get(path) else {
            let why = match path.starts_with(FOLDER) {
                true => "no such probe\n",
                false => "only /healthz/ready and probes of the workload are here\n",
            };
            return text(StatusCode::NOT_FOUND, why);
        };
        if request.method() != Method::GET {
            return text(StatusCode::METHOD_NOT_ALLOWED, "use GET\n");
        }
        match self.begin(entry).await {
            Ok(()) => text(StatusCode::OK, "ok\n"),
            Err(why) => {
                tracing::debug!(path, %why, "a probe of the workload failed");
                text(StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n"))
            }
        }
    }

    /// The probe that is under way, or a new one.
    fn begin(&self, entry: &Entry) -> Shared<BoxFuture<'static, Verdict>> {
        let mut under_way = entry
            .under_way
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        // Whoever asks after an answer was given is given a new one, though somebody may still hold the old one.
        if let Some(shared) = under_way.as_ref().and_then(WeakShared::upgrade)
            && shared.peek().is_none()
        {
            return shared;
        }
        let (workload, probe) = (self.0.workload.clone(), entry.probe.clone());
        let made = async move { workload.probe(&probe).await }.boxed().shared();
        *under_way = made.downgrade();
        made
    }
}

impl Workload {
    async fn probe(&self, probe: &AppProbe) -> Verdict {
        let asked = async {
            match &probe.handler {
                Handler::Http {
                    port,
                    secure,
                    target,
                    headers,
                } => {
                    let page = Page {
                        port: *port,
                        secure: *secure,
                        target: target.clone(),
                        authority: None,
                    };
                    self.http(page, headers).await
                }
                Handler::Tcp { port } => self.connect(*port).await.map(drop),
                Handler::Grpc { port, service } => self.grpc(*port, service).await,
            }
        };
        let verdict = match tokio::time::timeout(probe.timeout, asked).await {
            Ok(verdict) => verdict,
            Err(_) => Err(late(probe.timeout)),
        };
        verdict.map_err(|why| why.chars().take(REASON).collect::<String>().into())
    }

    async fn connect(&self, port: u16) -> Result<TcpStream, String> {
        let address = SocketAddr::new(self.app, port);
        let connected = TcpStream::connect(address).await;
        connected.map_err(|error| format!("connecting to {address}: {error}"))
    }

    /// Follows the workload as far as it leads to itself; led elsewhere, it has answered, as kubelet sees it.
    async fn http(&self, mut page: Page, headers: &HeaderMap) -> Result<(), String> {
        for _ in 0..=REDIRECTS {
            let (status, location) = self.get(&page, headers).await?;
            let next = match status.as_u16() {
                301 | 302 | 303 | 307 | 308 => location.as_deref(),
                200..=399 => None,
                code => return Err(format!("HTTP probe failed with statuscode: {code}")),
            };
            match next.map(|location| page.led_to(location, self.named)) {
                None | Some(Ok(None)) => return Ok(()),
                Some(Ok(Some(next))) => page = next,
                Some(Err(why)) => return Err(why),
            }
        }
        Err(format!("stopped after {REDIRECTS} redirects"))
    }

    async fn get(
        &self,
        page: &Page,
        headers: &HeaderMap,
    ) -> Result<(StatusCode, Option<String>), String> {
        let request = self.request(page, headers)?;
        let stream = self.connect(page.port).await?;
        if !page.secure {
            return converse(stream, request).await;
        }
        // An address is no name that TLS would tell.
        let name = ServerName::from(self.named);
        let stream = self.tls.connect(name, stream).await;
        let stream = stream.map_err(|error| format!("TLS: {error}"))?;
        converse(stream, request).await
    }

    fn request(&self, page: &Page, headers: &HeaderMap) -> Result<Request<Empty<Bytes>>, String> {
        let mut request = Request::new(Empty::new());
        *request.uri_mut() = Uri::from(page.target.clone());
        let sent = request.headers_mut();
        let own = SocketAddr::new(self.named, page.port).to_string();
        let said = headers.get(header::HOST).filter(|host| !host.is_empty());
        let host = match (&page.authority, said) {
            (Some(authority), _) => HeaderValue::from_str(authority).ok(),
            (None, Some(host)) => Some(host.clone()),
            (None, None) => HeaderValue::from_str(&own).ok(),
        };
        sent.insert(header::HOST, host.ok_or("no name to ask for")?);
        sent.insert(header::USER_AGENT, HeaderValue::from_static(USER_AGENT));
        sent.insert(header::ACCEPT, HeaderValue::from_static("*/*"));
        for name in headers.keys() {
            // How a request without a body travels is not the probe's to say.
            let ours = [
                header::HOST,
                header::CONNECTION,
                header::CONTENT_LENGTH,
                header::TRANSFER_ENCODING,
            ];
            if ours.contains(name) {
                continue;
            }
            sent.remove(name);
            let goes = [header::USER_AGENT, header::ACCEPT].contains(name);
            for value in headers.get_all(name) {
                // Said to be empty, they are not sent.
                if !(goes && value.is_empty()) {
                    sent.append(name, value.clone());
                }
            }
        }
        sent.insert(header::CONNECTION, HeaderValue::from_static("close"));
        Ok(request)
    }

    /// Source: `grpc/health/v1/health.proto`. Its request is one string with tag 1, its response one enumeration with tag 1: the
    /// same bytes as Google's `StringValue` and `Int32Value`.
    async fn grpc(&self, port: u16, service: &str) -> Result<(), String> {
        const CHECK: PathAndQuery = PathAndQuery::from_static("/grpc.health.v1.Health/Check");
        const SERVING: i32 = 1;
        let address = SocketAddr::new(self.app, port);
        let at =
            |error: tonic::transport::Error| format!("connecting to {address}: {}", root(&error));
        let endpoint = Endpoint::from_shared(format!("http://{address}")).map_err(at)?;
        let endpoint = endpoint.http2_max_header_list_size(GRPC_HEAD);
        let channel = endpoint.user_agent(USER_AGENT).map_err(at)?.connect().await;
        let mut client =
            tonic::client::Grpc::new(channel.map_err(at)?).max_decoding_message_size(GRPC_MESSAGE);
        client.ready().await.map_err(at)?;
        let codec = tonic_prost::ProstCodec::<String, i32>::default();
        let request = tonic::Request::new(service.to_owned());
        match client.unary(request, CHECK, codec).await {
            Ok(answer) if *answer.get_ref() == SERVING => Ok(()),
            Ok(answer) => Err(format!(
                "gRPC probe failed: the service is {}",
                match answer.get_ref() {
                    0 => "UNKNOWN",
                    2 => "NOT_SERVING",
                    3 => "SERVICE_UNKNOWN",
                    _ => "in a state that nobody knows",
                }
            )),
            Err(status) => Err(format!("gRPC probe failed with status {:?}", status.code())),
        }
    }
}

fn late(timeout: Duration) -> String {
    format!("no whole answer within {} s", timeout.as_secs())
}

/// The first cause, which says more than what came of it.
fn root(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause.to_string()
}

/// One request over one connection, and of its answer what counts.
async fn converse(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    request: Request<Empty<Bytes>>,
) -> Result<(StatusCode, Option<String>), String> {
    let failed = |error: hyper::Error| format!("the answer cannot be read: {}", root(&error));
    let (mut client, connection) = http1::Builder::new()
        .max_buf_size(HEAD)
        .max_headers(HEADERS)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(failed)?;
    let asked = async {
        let (head, body) = client
            .send_request(request)
            .await
            .map_err(failed)?
            .into_parts();
        read(body).await.map_err(failed)?;
        let location = head.headers.get(header::LOCATION);
        let location = location.and_then(|value| value.to_str().ok());
        Ok((head.status, location.map(str::to_owned)))
    };
    tokio::pin!(asked);
    tokio::pin!(connection);
    tokio::select! {
        answer = &mut asked => answer,
        _ = &mut connection => asked.await,
    }
}

/// An answer is whole when its body is, or as much of it as is read.
async fn read(mut body: Incoming) -> Result<(), hyper::Error> {
    let mut length = 0;
    while length < BODY
        && let Some(frame) = body.frame().await
    {
        length += frame?.data_ref().map_or(0, Bytes::len);
    }
    Ok(())
}

/// Where a request goes.
#[derive(Debug, Clone, PartialEq)]
struct Page {
    port: u16,
    secure: bool,
    target: PathAndQuery,
    /// Where a redirect named one.
    authority: Option<String>,
}

impl Page {
    /// The page that a `Location` names, seen from this one (RFC 3986, 5.2); `None` when it is not the workload's.
    fn led_to(&self, location: &str, named: IpAddr) -> Result<Option<Page>, String> {
        let wrong = || "it is led to what is no page".to_owned();
        let location = location.split('#').next().unwrap_or_default();
        let scheme = match self.secure {
            true => "https",
            false => "http",
        };
        let absolute = match location.strip_prefix("//") {
            Some(rest) => Some(format!("{scheme}://{rest}")),
            None => has_scheme(location).then(|| location.to_owned()),
        };
        let Some(absolute) = absolute else {
            let path = self.resolve(location);
            return Ok(Some(Page {
                target: target(&path).ok_or_else(wrong)?,
                ..self.clone()
            }));
        };
        let (secure, rest) = match absolute.split_once("://") {
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => (false, rest),
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("https") => (true, rest),
            _ => return Ok(None),
        };
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        let authority: http::uri::Authority = authority.parse().map_err(|_| wrong())?;
        let host = authority.host().trim_matches(['[', ']']);
        if host.parse::<IpAddr>() != Ok(named) || authority.as_str().contains('@') {
            return Ok(None);
        }
        Ok(Some(Page {
            port: authority
                .port_u16()
                .unwrap_or(if secure { 443 } else { 80 }),
            secure,
            target: target(&without_dots(path)).ok_or_else(wrong)?,
            authority: Some(authority.to_string()),
        }))
    }

    fn resolve(&self, location: &str) -> String {
        let path = self.target.path();
        match location.chars().next() {
            None => self.target.to_string(),
            Some('/') => without_dots(location),
            Some('?') => format!("{path}{location}"),
            Some(_) => {
                let folder = &path[..path.rfind('/').map_or(0, |at| at + 1)];
                without_dots(&format!("{folder}{location}"))
            }
        }
    }
}

/// Whether it begins with a scheme, `https:`.
fn has_scheme(location: &str) -> bool {
    let end = location.find([':', '/', '?']);
    end.is_some_and(|end| end > 0 && location[end..].starts_with(':'))
}

/// RFC 3986, 5.2.4.
fn without_dots(location: &str) -> String {
    let (path, query) = match location.find('?') {
        Some(at) => location.split_at(at),
        None => (location, ""),
    };
    let mut kept: Vec<&str> = Vec::new();
    let mut parts = path.split('/').skip(1).peekable();
    while let Some(part) = parts.next() {
        let last = parts.peek().is_none();
        match part {
            ".." => drop(kept.pop()),
            "." => {}
            part => {
                kept.push(part);
                continue;
            }
        }
        if last {
            kept.push("");
        }
    }
    format!("/{}{query}", kept.join("/"))
}

/// TLS with whoever answers, as kubelet's: a probe asks whether the workload lives, and sends it nothing that others may not
/// have. It goes to the workload's own address only.
fn anybody() -> ClientConfig {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let schemes = provider
        .signature_verification_algorithms
        .supported_schemes();
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("this provider has these versions")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anybody(schemes)))
        .with_no_client_auth();
    config.resumption = rustls::client::Resumption::disabled();
    config
}

#[derive(Debug)]
struct Anybody(Vec<SignatureScheme>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.clone()
    }
}

#[cfg(test)]
mod tests;
