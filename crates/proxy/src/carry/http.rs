//! Carries HTTP: each request by a decision of its own, its body and trailers both ways, and again elsewhere where that is safe.

use std::borrow::Cow;
use std::cell::{Cell, OnceCell};
use std::error::Error;
use std::fmt::{self, Write as _};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use catamaran_decide::{
    Attempt, ClientCertHeader, Cluster, Connection, Decision, Detected, Entry, Forward, Handler,
    Headers, Http, Http2Options, Outcome, Reject, RetryPolicy, ServerHeader, Way, Why, accept,
    decide_on, idempotent, normalize_path, retryable,
};
use http::header::{
    CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HOST, HeaderMap, HeaderValue, SERVER,
    TRANSFER_ENCODING, UPGRADE,
};
use http::uri::PathAndQuery;
use http::{Method, Request, Response, StatusCode, Version};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::AsyncWriteExt;
use tokio::time::{Instant, timeout, timeout_at};

use super::body::{Answer, BodyError, Ending, Original, grpc_status};
use super::copy::{End, copy};
use super::detect::{Rewound, read_more};
use super::gather::gather;
use super::head::{
    Head, HeadError, X_ATTEMPT_COUNT, X_FORWARDED_CLIENT_CERT, X_FORWARDED_FOR, X_FORWARDED_PROTO,
    X_REQUEST_ID, remove_hop, says_close,
};
use super::linger::Linger;
use super::patience::Patience;
use super::pool::{
    CONNECTION_WINDOW, FRAME, Far, HEAD_LIMIT, Lease, LeaseError, OnThisThread, STREAM_WINDOW,
    SendError, Shape,
};
use super::rest::{Activity, Watched, at_rest};
use super::stream::Stream;
use super::worker::{Admitted, InFlight, Worker, flags_of};
use crate::report::{Flags, LogLine, Protocol, RequestDone, SubjectId, Turned};

/// Streams that one caller's HTTP/2 connection may have at once.
pub(crate) const CALLER_STREAMS: u32 = 256;
/// Streams of a caller's connection that it may have taken back before we came to them; one more ends the connection.
const UNSEEN_RESETS: usize = 20;
/// Streams of a caller's connection that we had to reset for its mistakes, in its whole life; one more ends the connection.
const PROVOKED_RESETS: usize = 1024;
/// How long a caller's HTTP/1 connection may wait for a request, or be in the middle of its head.
pub(crate) const CALLER_IDLE: Duration = Duration::from_secs(300);
/// How long an upgraded connection may be silent.
pub(crate) const UPGRADED_IDLE: Duration = Duration::from_secs(3600);
/// How long the end of a connection at rest may take.
const FAREWELL: Duration = Duration::from_secs(1);
/// The KiB that a head may have when its chain does not say; the codecs watch over that.
const DEFAULT_HEAD: u32 = 60;
const LEAST_HEAD: u32 = 16 * 1024;
const MOST_HEAD: u32 = 1024 * 1024;
/// Envoy's name, which the API gives to whoever names none; we do not go by it.
const ENVOY: &str = "envoy";
/// Pooled connections that may turn out dead before a new one is made for a request.
const STALE_LIMIT: u32 = 3;

/// Which way requests of a connection go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    Outbound,
    Inbound,
}

/// How requests of a connection find their way.
pub(crate) enum Course {
    /// The connection has one.
    Fixed(Way),
    /// The authority of each request says it: the HTTP proxy port.
    ByAuthority,
}

/// A caller's HTTP connection.
pub(crate) struct Channel {
    pub(crate) worker: Rc<Worker>,
    pub(crate) direction: Direction,
    pub(crate) course: Course,
    /// The caller.
    pub(crate) source: SocketAddr,
    /// Where the caller wanted to go.
    pub(crate) local: SocketAddr,
    pub(crate) server_name: Option<String>,
    /// The caller's verified identity.
    pub(crate) peer: Option<Arc<str>>,
    pub(crate) inbound_subject: OnceCell<SubjectId>,
    /// What is said of the caller's certificate in `x-forwarded-client-cert`.
    pub(crate) certificate_mark: OnceCell<HeaderValue>,
    /// Of an HTTP/1 connection: all of the last request was read, and all of its answer was handed to the codec.
    pub(crate) between: Cell<bool>,
    /// Held for as long as the connection or anything upgraded from it stands.
    pub(crate) _admitted: Admitted,
}

/// Serves a caller's HTTP connection to its end, in a task of its own: what accepted it, which is several times as large, is
/// done and need not be kept for as long as the connection stands.
pub(crate) fn serve(channel: Channel, stream: Stream, version: Version) {
    tokio::task::spawn_local(serve_to_the_end(channel, stream, version));
}

async fn serve_to_the_end(channel: Channel, stream: Stream, version: Version) {
    let channel = Rc::new(channel);
    let mut draining = channel.worker.draining.clone();
    let drained = async move {
        if draining.wait_for(|draining| *draining).await.is_err() {
            std::future::pending::<()>().await;
        }
    };
    let limits = Limits::of(&channel);
    let worker = channel.worker.clone();
    let requests = channel.clone();
    let service = service_fn(move |request| {
        let channel = requests.clone();
        channel.between.set(false);
        async move {
            let closes = version != Version::HTTP_2 && says_close(request.headers());
            let mut response = carry(channel, request).await;
            if closes && response.status() != StatusCode::SWITCHING_PROTOCOLS {
                // the caller asked for it, and gets it (RFC 9112, 9.6)
                let close = HeaderValue::from_static("close");
                response.headers_mut().insert(CONNECTION, close);
            }
            match response.extensions().get() {
                Some(Elsewhere) if version == Version::HTTP_2 => {
                    Err(h2::Error::from(h2::Reason::REFUSED_STREAM))
                }
                _ => Ok(response),
            }
        }
    });
    tokio::pin!(drained);
    let ended = |how: hyper::Result<()>| {
        // the caller's connection is gone, so nobody is left to be told
        if let Some(why) = how.err().and_then(|error| turned(&error)) {
            worker.scribe.turned(why);
        }
    };
    if version == Version::HTTP_2 {
        let connection = http2::Builder::new(OnThisThread)
            .timer(TokioTimer::new())
            .initial_stream_window_size(limits.http2.initial_stream_window.unwrap_or(STREAM_WINDOW))
            .initial_connection_window_size(
                limits
                    .http2
                    .initial_connection_window
                    .unwrap_or(CONNECTION_WINDOW),
            )
            .max_frame_size(FRAME)
            .max_header_list_size(limits.head)
            .max_concurrent_streams(
                limits
                    .http2
                    .max_concurrent_streams
                    .unwrap_or(CALLER_STREAMS),
            )
            .max_pending_accept_reset_streams(UNSEEN_RESETS)
            .max_local_error_reset_streams(PROVOKED_RESETS)
            .auto_date_header(true)
            .serve_connection(TokioIo::new(gather(stream)), service);
        tokio::pin!(connection);
        tokio::select! {
            how = connection.as_mut() => return ended(how),
            () = &mut drained => connection.as_mut().graceful_shutdown(),
        }
        ended(connection.await);
    } else {
        ended(serve_http1(&channel, stream, &limits, drained.as_mut(), service).await);
    }
}

async fn serve_http1<S>(
    channel: &Channel,
    stream: Stream,
    limits: &Limits,
    mut drained: Pin<&mut impl Future<Output = ()>>,
    mut service: S,
) -> hyper::Result<()>
where
    S: Service<
            Request<Incoming>,
            Response = Response<Answer<Box<Told>>>,
            Error = h2::Error,
            Future: 'static,
        > + Unpin
        + 'static,
{
    let activity = Arc::new(Activity::default());
    let mut stream = Rewound::new(Vec::new(), stream);
    loop {
        let watched = TokioIo::new(Linger::new(Watched::new(stream, activity.clone())));
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(limits.idle)
            .max_buf_size(limits.head as usize)
            .auto_date_header(true)
            .serve_connection(watched, service)
            .with_upgrades();
        let mut connection = Box::new(connection);
        tokio::select! {
            biased;
            how = connection.as_mut() => return how,
            () = drained.as_mut() => {
                Pin::new(&mut *connection).graceful_shutdown();
                return connection.await;
            }
            () = at_rest(&channel.between, &activity) => {}
        }
        let Some(parts) = connection.into_parts() else {
            return Ok(());
        };
        service = parts.service;
        stream = parts.io.into_inner().into_inner().into_inner();
        let mut head = parts.read_buf.to_vec();
        if head.is_empty() {
            let read = tokio::select! {
                read = timeout(limits.idle, read_more(&mut stream, &mut head)) => read,
                () = drained.as_mut() => Ok(Ok(0)),
            };
            if !matches!(read, Ok(Ok(1..))) {
                let _ = timeout(FAREWELL, stream.shutdown()).await;
                return Ok(());
            }
        } else {
            // the beginning of a request that takes its time: it is not interrupted again
            channel.between.set(false);
        }
        stream.put_back(head);
    }
}

/// Why a caller's connection was ended by us, if it was.
fn turned(error: &hyper::Error) -> Option<Turned> {
    if let Some(error) = find::<h2::Error>(error) {
        let ours = error.is_library();
        return match error.reason() {
            Some(h2::Reason::ENHANCE_YOUR_CALM) if ours => Some(Turned::Flood),
            Some(_) if ours => Some(Turned::Illegal),
            _ => None,
        };
    }
    match () {
        () if error.is_timeout() => Some(Turned::Idle),
        () if error.is_parse_too_large() => Some(Turned::LargeHead),
        () if error.is_parse() => Some(Turned::Illegal),
        () => None,
    }
}

/// What a chain says of its callers' connections, within our own bounds.
struct Limits {
    head: u32,
    idle: Duration,
    http2: Http2Options,
}

impl Limits {
    fn of(channel: &Channel) -> Limits {
        let mut limits = Limits {
            head: HEAD_LIMIT,
            idle: CALLER_IDLE,
            http2: Http2Options::default(),
        };
        if let Course::Fixed(way) = &channel.course
            && let Handler::Http(http) = way.chain.handler()
        {
            limits.head = http
                .max_head_kib
                .saturating_mul(1024)
                .clamp(LEAST_HEAD, MOST_HEAD);
            limits.idle = http.idle_timeout.unwrap_or(CALLER_IDLE).min(CALLER_IDLE);
            limits.http2 = http.http2;
        }
        limits
    }
}

/// What is told about a request when it has ended, and what it holds until then.
pub(crate) struct Told {
    channel: Rc<Channel>,
    began: Instant,
    version: Version,
    method: Method,
    authority: Option<HeaderValue>,
    path: Option<PathAndQuery>,
    request_id: Option<HeaderValue>,
    grpc: bool,
    grpc_status: Option<u32>,
    original: Option<Rc<Original>>,
    status: u16,
    flags: Flags,
    attempts: u32,
    failure: Option<String>,
    why: Option<Why>,
    cause: Option<String>,
    cluster: Option<Arc<Cluster>>,
    address: Option<SocketAddr>,
    far: Option<Rc<Far>>,
    in_flight: Option<InFlight>,
    lease: Option<Lease>,
    sent: u64,
    done: bool,
}

impl Told {
    fn new(channel: Rc<Channel>, request: &Request<Incoming>) -> Told {
        let grpc = request
            .headers()
            .get(CONTENT_TYPE)
            .is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"));
        Told {
            channel,
            began: Instant::now(),
            version: request.version(),
            method: request.method().clone(),
            authority: None,
            path: request.uri().path_and_query().cloned(),
            request_id: None,
            grpc,
            grpc_status: None,
            original: None,
            status: 0,
            flags: Flags::NONE,
            attempts: 0,
            failure: None,
            why: None,
            cause: None,
            cluster: None,
            address: None,
            far: None,
            in_flight: None,
            lease: None,
            sent: 0,
            done: false,
        }
    }

    fn flag(&mut self, flags: Flags) {
        self.flags = self.flags.and(flags);
    }

    fn failed(&mut self, text: &str) {
        match &mut self.failure {
            None => self.failure = Some(text.to_owned()),
            Some(failure) => {
                failure.push_str("; ");
                failure.push_str(text);
            }
        }
    }

    fn tell(&mut self) {
        self.done = true;
        let channel = &self.channel;
        let worker = &channel.worker;
        let duration = self.began.elapsed();
        let received = self
            .original
            .as_ref()
            .map_or(0, |original| original.received());
        let subject = match channel.direction {
            Direction::Inbound => *channel.inbound_subject.get_or_init(|| {
                worker.inbound_subject(channel.peer.as_deref(), channel.server_name.as_deref())
            }),
            Direction::Outbound => match &self.far {
                Some(far) => far.subject,
                None => worker.outbound_subject(self.cluster.as_deref(), None, None),
            },
        };
        worker.scribe.request(
            subject,
            &RequestDone {
                protocol: if self.grpc {
                    Protocol::Grpc
                } else {
                    Protocol::Http
                },
                code: self.status,
                grpc_status: self
                    .grpc_status
                    .and_then(|status| u8::try_from(status).ok()),
                flags: self.flags,
                duration,
                request_bytes: received,
                response_bytes: self.sent,
            },
        );
        if worker.scribe.logs() {
            self.log(duration, received);
        }
    }

    fn log(&self, duration: Duration, received: u64) {
        let channel = &self.channel;
        let route = self.why.as_ref().and_then(|why| why.route.as_ref());
        channel.worker.scribe.log(&LogLine {
            start_time: wall_clock(duration),
            direction: match channel.direction {
                Direction::Outbound => "outbound",
                Direction::Inbound => "inbound",
            },
            protocol: match self.version {
                Version::HTTP_2 => "HTTP/2",
                Version::HTTP_10 => "HTTP/1.0",
                _ => "HTTP/1.1",
            },
            method: Some(self.method.as_str()),
            authority: self
                .authority
                .as_ref()
                .and_then(|value| value.to_str().ok()),
            path: self.path.as_ref().map(PathAndQuery::path),
            request_id: self
                .request_id
                .as_ref()
                .and_then(|value| value.to_str().ok()),
            response_code: self.status,
            response_flags: self.flags,
            reason: &Reason {
                cause: self.cause.as_deref(),
                why: self.why.as_ref(),
            },
            failure: self.failure.as_deref(),
            attempts: self.attempts,
            route_name: route.map(|route| &**route.table.name()),
            upstream_cluster: self.cluster.as_ref().map(|cluster| &**cluster.name()),
            upstream_host: self.address,
            downstream_remote_address: channel.source,
            downstream_local_address: channel.local,
            requested_server_name: channel.server_name.as_deref(),
            upstream_peer: self.far.as_ref().and_then(|far| far.peer.as_deref()),
            downstream_peer: channel.peer.as_deref(),
            bytes_received: received,
            bytes_sent: self.sent,
            duration: duration.as_millis() as u64,
        });
    }
}

/// When something began that took so long until now.
pub(crate) fn wall_clock(ago: Duration) -> SystemTime {
    SystemTime::now()
        .checked_sub(ago)
        .unwrap_or(SystemTime::UNIX_EPOCH)
}

/// Why a request was refused, and why it went where it went.
struct Reason<'a> {
    cause: Option<&'a str>,
    why: Option<&'a Why>,
}

impl fmt::Display for Reason<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let between = match (self.cause, self.why) {
            (Some(_), Some(_)) => ": ",
            _ => "",
        };
        f.write_str(self.cause.unwrap_or_default())?;
        f.write_str(between)?;
        match self.why {
            Some(why) => why.fmt(f),
            None => Ok(()),
        }
    }
}

impl Ending for Box<Told> {
    fn complete(mut self, bytes: u64, grpc: Option<u32>) {
        self.sent = bytes;
        self.grpc_status = self.grpc_status.or(grpc);
        let whole = self
            .original
            .as_ref()
            .is_none_or(|original| original.ended());
        if let Some(in_flight) = &mut self.in_flight {
            in_flight.finish(Outcome::Answer {
                status: self.status,
                grpc: self.grpc_status,
            });
        }
        if let Some(lease) = self.lease.take() {
            lease.release(whole);
        }
        self.channel.between.set(whole && self.original.is_some());
        self.tell();
    }

    fn broken(mut self, bytes: u64, error: &BodyError) {
        self.sent = bytes;
        let (outcome, flag) = match error {
            BodyError::Slow => (Outcome::Timeout, Flags::UPSTREAM_SLOW),
            BodyError::Idle => (Outcome::Abandoned, Flags::IDLE),
            _ => (Outcome::ResetAfterHeaders, Flags::UPSTREAM_ENDED),
        };
        self.flag(flag);
        self.failed(&error.to_string());
        if let Some(in_flight) = &mut self.in_flight {
            in_flight.finish(outcome);
        }
        self.tell();
    }

    fn unwanted(mut self, bytes: u64) {
        self.sent = bytes;
        self.flag(Flags::CALLER_GONE);
        self.tell();
    }
}

impl Drop for Told {
    /// The caller went away while no answer was there.
    fn drop(&mut self) {
        if !self.done {
            self.flag(Flags::CALLER_GONE);
            self.tell();
        }
    }
}

/// A request's headers as decisions read them.
struct Read<'a>(&'a HeaderMap);

impl Headers for Read<'_> {
    fn header(&self, name: &str) -> Option<&[u8]> {
        self.0.get(name).map(HeaderValue::as_bytes)
    }
}

/// An attempt that brought no answer.
struct Failure {
    outcome: Outcome,
    flags: Flags,
    text: String,
}

/// Carries one request.
async fn carry(
    channel: Rc<Channel>,
    mut request: Request<Incoming>,
) -> Response<Answer<Box<Told>>> {
    let mut told = Box::new(Told::new(channel.clone(), &request));
    let caller_upgrade = request
        .headers()
        .contains_key(UPGRADE)
        .then(|| hyper::upgrade::on(&mut request));
    let mut head = match Head::take(&mut request) {
        Ok(head) => head,
        Err(error) => return refuse_head(told, error),
    };
    told.authority = Some(head.authority.clone());
    let routed;
    let way = match &channel.course {
        Course::Fixed(way) => way,
        Course::ByAuthority => {
            let connection = Connection {
                entry: Entry::http_proxy(head.authority()),
                source: Some(channel.source),
                detected: Detected::Http1,
            };
            let accepted = accept(&channel.worker.table(), &connection);
            match accepted {
                Ok(way) => {
                    routed = way;
                    &routed
                }
                Err(reject) => return refuse(told, &reject),
            }
        }
    };
    let Handler::Http(http) = way.chain.handler() else {
        told.cause = Some("the chain carries no HTTP".into());
        told.flag(Flags::NO_ROUTE);
        return answer(told, StatusCode::NOT_FOUND, "");
    };
    let websocket = |upgrade: &HeaderValue| {
        http.websocket && upgrade.as_bytes().eq_ignore_ascii_case(b"websocket")
    };
    head.upgrade = head.upgrade.filter(websocket);
    if http.normalize_path
        && let Cow::Owned(path) = normalize_path(head.path.as_str())
    {
        match path.parse() {
            Ok(path) => head.path = path,
            Err(_) => return refuse_head(told, HeadError::BadPath),
        }
    }
    let authority = http.authority(head.authority(), way);
    if authority.len() < head.authority.len() {
        let authority = authority.to_owned();
        head.rename(authority);
    }
    if http.max_head_kib < DEFAULT_HEAD && head.size() > http.max_head_kib as usize * 1024 {
        return refuse_head(told, HeadError::TooLarge);
    }
    prepare(&channel, http, &mut head.headers);
    told.request_id = head.headers.get(X_REQUEST_ID).cloned();

    let mut exchange = Exchange {
        channel: &channel,
        head,
        body: Some(request.into_body()),
        tried: Vec::new(),
        lost: Flags::NONE,
        deadline: None,
        patience: None,
    };
    let mut response = match exchange.run(way, &mut told).await {
        Ok(found) => found,
        Err(refused) => {
            let elsewhere = refused.elsewhere && channel.direction == Direction::Inbound;
            let mut response = answer_bytes(told, refused.status, refused.body);
            name_server(http, response.headers_mut());
            if elsewhere {
                response.extensions_mut().insert(Elsewhere);
            }
            return response;
        }
    };
    told.status = response.status().as_u16();
    told.grpc_status = grpc_status(response.headers());
    if let Some(original) = &told.original {
        original.settle();
    }
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        name_server(http, response.headers_mut());
        return switch(told, &exchange.head, caller_upgrade, response);
    }
    remove_hop(response.headers_mut());
    name_server(http, response.headers_mut());
    if told.version != Version::HTTP_2 {
        *response.version_mut() = Version::HTTP_11;
    }
    let (deadline, patience) = (exchange.deadline, exchange.patience);
    response.map(|body| Answer::carried(body, deadline, patience, told))
}

/// A request that ends without an upstream's answer, and what it is answered.
struct Refused {
    status: StatusCode,
    body: Bytes,
    /// Nobody was reached, so no program saw any of it; or one broke off in a request that may be repeated.
    elsewhere: bool,
}

/// The workload's program was not reached, or broke off before it answered what is idempotent, as one that ends closes a connection
/// just when the next request comes. Towards another proxy such a request is a refused stream, which may be sent elsewhere
/// whatever its method; a 503 would have to be taken for the program's own.
#[derive(Debug, Clone, Copy)]
struct Elsewhere;

/// One request and its attempts.
struct Exchange<'a> {
    channel: &'a Rc<Channel>,
    head: Head,
    body: Option<Incoming>,
    tried: Vec<SocketAddr>,
    /// How the last attempt failed.
    lost: Flags,
    deadline: Option<Instant>,
    patience: Option<Rc<Patience>>,
}

impl Exchange<'_> {
    async fn run(&mut self, way: &Way, told: &mut Told) -> Result<Response<Incoming>, Refused> {
        let worker = &self.channel.worker;
        loop {
            let forward = match self.decide(way) {
                Decision::Forward(forward) => forward,
                Decision::Respond(respond) => {
                    told.why = Some(respond.why);
                    return Err(Refused {
                        status: StatusCode::from_u16(respond.status).unwrap_or(StatusCode::OK),
                        body: respond.body,
                        elsewhere: false,
                    });
                }
                Decision::Reject(reject) => {
                    told.flag(flags_of(reject.flag).and(self.lost));
                    let status = StatusCode::from_u16(reject.status)
                        .unwrap_or(StatusCode::SERVICE_UNAVAILABLE);
                    let body = Bytes::from(format!("{reject}\n"));
                    told.cause = Some(reject.cause.to_string());
                    told.cluster = told.cluster.take().or_else(|| reject.why.cluster.clone());
                    told.why = Some(reject.why);
                    return Err(Refused {
                        status,
                        body,
                        elsewhere: false,
                    });
                }
            };
            told.attempts += 1;
            if worker.scribe.logs() {
                told.why = Some(forward.why.clone());
            }
            told.cluster = Some(forward.cluster.clone());
            told.address = Some(forward.endpoint.address);
            told.far = None;
            if self.deadline.is_none() {
                self.deadline = forward.timeouts.request.map(|time| told.began + time);
            }
            if told.attempts == 1 {
                let times = &forward.timeouts;
                self.patience = Patience::of(told.began, times.idle, times.whole);
            }
            let address = forward.endpoint.address;
            let mut in_flight = worker.begin(forward);
            let forward = &in_flight.forward;
            let failure = match self.attempt(forward, told).await {
                Ok((response, lease)) => {
                    let outcome = Outcome::Answer {
                        status: response.status().as_u16(),
                        grpc: grpc_status(response.headers()),
                    };
                    if !self.may_retry(forward, outcome, told) {
                        told.far = Some(lease.far().clone());
                        told.in_flight = Some(in_flight);
                        told.lease = Some(lease);
                        return Ok(response);
                    }
                    told.failed(&format!(
                        "{address} answered {}",
                        response.status().as_u16()
                    ));
                    in_flight.finish(outcome);
                    self.pause(&in_flight.forward, told.attempts).await;
                    self.tried.push(address);
                    continue;
                }
                Err(failure) => failure,
            };
            told.failed(&failure.text);
            // Nobody alive had the request, so its first repetition burdens nobody twice: the budget is not for it, or all but a
            // fifth of what waits on a connection would be lost when its far side goes silent.
            let reached_nobody = matches!(
                failure.outcome,
                Outcome::ConnectFailure | Outcome::Unanswered
            ) && told.attempts == 1;
            let repeatable = self.repeatable(forward, failure.outcome, told);
            in_flight.finish(failure.outcome);
            let (cluster, deadline) = (&in_flight.forward.cluster, self.deadline);
            let deadline = deadline.map(Instant::into_std);
            if repeatable && (reached_nobody || worker.room_to_retry(cluster, deadline).await) {
                // the first repetition goes elsewhere, where there is nothing to wait for
                if told.attempts > 1 {
                    self.pause(&in_flight.forward, told.attempts - 1).await;
                }
                self.tried.push(address);
                self.lost = failure.flags;
                continue;
            }
            told.flag(failure.flags);
            if told.attempts > 1 {
                told.flag(Flags::ATTEMPTS);
            }
            let status = match failure.outcome {
                Outcome::Timeout => StatusCode::GATEWAY_TIMEOUT,
                _ if failure.flags == Flags::IDLE => self.out_of_patience(),
                _ => StatusCode::SERVICE_UNAVAILABLE,
            };
            let body = Bytes::from(format!("{}: {}\n", told.flags, failure.text));
            let elsewhere = match failure.outcome {
                Outcome::ConnectFailure | Outcome::RefusedStream => true,
                Outcome::ResetBeforeHeaders | Outcome::Unanswered => {
                    idempotent(self.head.method.as_str())
                }
                _ => false,
            };
            return Err(Refused {
                status,
                body,
                elsewhere,
            });
        }
    }

    fn decide(&self, way: &Way) -> Decision {
        let worker = &self.channel.worker;
        let table = worker.table();
        let headers = Read(&self.head.headers);
        let attempt = Attempt {
            peer: self.channel.peer.as_deref(),
            request: Some(catamaran_decide::Request {
                method: self.head.method.as_str(),
                authority: self.head.authority(),
                path: self.head.path.as_str(),
                headers: &headers,
            }),
            tried: &self.tried,
            ticket: worker.ticket(),
        };
        decide_on(&table, &worker.view.borrow(), way, &attempt, worker.now())
    }

    fn may_retry(&self, forward: &Forward, outcome: Outcome, told: &Told) -> bool {
        let view = self.channel.worker.view.borrow();
        self.repeatable(forward, outcome, told) && view.may_retry(&forward.cluster)
    }

    /// Whether an attempt that ended so may be repeated, as far as the request and its route go.
    fn repeatable(&self, forward: &Forward, outcome: Outcome, told: &Told) -> bool {
        let Some(policy) = &forward.retry else {
            return false;
        };
        told.attempts <= policy.retries
            && retryable(outcome, Some(self.head.method.as_str()), policy)
            && told
                .original
                .as_ref()
                .is_none_or(|original| original.can_replay())
            && self
                .deadline
                .is_none_or(|deadline| Instant::now() < deadline)
    }

    /// Waits before a repetition, as long as the policy says for the `count`-th.
    async fn pause(&self, forward: &Forward, count: u32) {
        let Some(policy) = &forward.retry else { return };
        let time = back_off(policy, count).mul_f64(self.channel.worker.share());
        if !time.is_zero() {
            tokio::time::sleep(time).await;
        }
    }

    /// Whose silence it was: the caller's who had not sent everything, or the upstream's.
    fn out_of_patience(&self) -> StatusCode {
        match self
            .patience
            .as_ref()
            .is_some_and(|patience| patience.is_whole())
        {
            true => StatusCode::GATEWAY_TIMEOUT,
            false => StatusCode::REQUEST_TIMEOUT,
        }
    }

    /// One attempt: a connection, the request, the head of an answer.
    async fn attempt(
        &mut self,
        forward: &Forward,
        told: &mut Told,
    ) -> Result<(Response<Incoming>, Lease), Failure> {
        let per_try = forward.timeouts.per_try.map(|time| Instant::now() + time);
        let deadline = match (per_try, self.deadline) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        let patience = self.patience.clone();
        let asking = async {
            let Some(patience) = patience else {
                return self.ask(forward, told).await;
            };
            tokio::select! {
                biased;
                answer = self.ask(forward, told) => answer,
                () = patience.ended() => Err(Failure {
                    outcome: Outcome::Abandoned,
                    flags: Flags::IDLE,
                    text: "nothing moved for the idle time, or the request did not come in time".into(),
                }),
            }
        };
        let Some(deadline) = deadline else {
            return asking.await;
        };
        let slow = |address| Failure {
            outcome: Outcome::Timeout,
            flags: Flags::UPSTREAM_SLOW,
            text: format!("{address} did not answer in time"),
        };
        match timeout_at(deadline, asking).await {
            Ok(result) => result,
            Err(_) => Err(slow(forward.endpoint.address)),
        }
    }

    async fn ask(
        &mut self,
        forward: &Forward,
        told: &mut Told,
    ) -> Result<(Response<Incoming>, Lease), Failure> {
        let worker = &self.channel.worker;
        let address = forward.endpoint.address;
        let shape = Shape::of(forward.protocol, told.version, self.head.upgrade.is_some());
        let mut stale = 0;
        loop {
            let leased = worker
                .pools
                .lease(worker, forward, shape, stale >= STALE_LIMIT)
                .await;
            let mut lease = leased.map_err(|error| match error {
                LeaseError::Overflow => Failure {
                    outcome: Outcome::Abandoned,
                    flags: Flags::OVERFLOW,
                    text: error.to_string(),
                },
                LeaseError::Dial(error) => Failure {
                    outcome: error.outcome(),
                    flags: Flags::UPSTREAM_CONNECT,
                    text: error.to_string(),
                },
            })?;
            told.far = Some(lease.far().clone());
            let original = match (&told.original, self.body.take()) {
                (Some(original), _) => original.clone(),
                (None, Some(body)) => told
                    .original
                    .insert(Original::new(
                        body,
                        forward.retry.is_some(),
                        self.patience.clone(),
                    ))
                    .clone(),
                (None, None) => unreachable!("a body is taken once"),
            };
            let mut headers = if forward.retry.is_some() {
                self.head.headers.clone()
            } else {
                std::mem::take(&mut self.head.headers)
            };
            if forward.attempt_header {
                headers.insert(X_ATTEMPT_COUNT, HeaderValue::from(told.attempts));
            }
            let request = if lease.is_http2() {
                self.head.http2(headers, original.send())
            } else {
                self.head.http1(headers, original.send())
            };
            match lease.send(request).await {
                Ok(response) => return Ok((response, lease)),
                Err(SendError {
                    unsent: Some(mut headers),
                    ..
                }) if lease.reused() && stale <= STALE_LIMIT => {
                    stale += 1;
                    if forward.retry.is_none() {
                        headers.remove(HOST);
                        headers.remove(CONNECTION);
                        headers.remove(UPGRADE);
                        headers.remove(TRANSFER_ENCODING);
                        self.head.headers = headers;
                    }
                }
                Err(SendError { error, unsent }) => {
                    if original.failed() {
                        return Err(Failure {
                            outcome: Outcome::Abandoned,
                            flags: Flags::CALLER_GONE,
                            text: "the caller broke off its request".into(),
                        });
                    }
                    let elsewhere = is_refused(&error) && lease.turned_away();
                    if elsewhere && forward.retry.is_some() && original.can_replay() {
                        continue;
                    }
                    return Err(lost(&error, unsent.is_some(), address));
                }
            }
        }
    }
}

fn back_off(policy: &RetryPolicy, count: u32) -> Duration {
    let factor = 1u32
        .checked_shl(count.saturating_sub(1))
        .unwrap_or(u32::MAX);
    policy
        .back_off
        .saturating_mul(factor)
        .min(policy.back_off_max)
}

/// What the loss of a connection or stream before the head of an answer means.
fn lost(error: &hyper::Error, unsent: bool, address: SocketAddr) -> Failure {
    let (outcome, flags, what) = if unsent || is_refused(error) {
        (
            Outcome::RefusedStream,
            Flags::UPSTREAM_RESET,
            "did not take the request",
        )
    } else if is_silent(error) {
        (
            Outcome::Unanswered,
            Flags::UPSTREAM_ENDED,
            "gave no sign of life",
        )
    } else {
        (
            Outcome::ResetBeforeHeaders,
            Flags::UPSTREAM_ENDED,
            "broke off before it answered",
        )
    };
    let mut text = format!("{address} {what}: {error}");
    let mut source = error.source();
    while let Some(error) = source {
        let _ = write!(text, ": {error}");
        source = error.source();
    }
    Failure {
        outcome,
        flags,
        text,
    }
}

fn find<'a, E: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a E> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<E>() {
            return Some(found);
        }
        next = error.source();
    }
    None
}

/// Whether the upstream said that it did not process the request (RFC 9113, 6.8 and 8.7).
fn is_refused(error: &hyper::Error) -> bool {
    let Some(error) = find::<h2::Error>(error) else {
        return false;
    };
    let refused = error.reason() == Some(h2::Reason::REFUSED_STREAM);
    let going_away =
        error.is_go_away() && error.is_remote() && error.reason() == Some(h2::Reason::NO_ERROR);
    refused || going_away
}

/// Whether the connection was found dead by pings or by the kernel.
fn is_silent(error: &hyper::Error) -> bool {
    error.is_timeout()
        || find::<io::Error>(error).is_some_and(|error| error.kind() == io::ErrorKind::TimedOut)
}

/// Headers that are ours to set, as the chain says.
fn prepare(channel: &Channel, http: &Http, headers: &mut HeaderMap) {
    if http.request_id && !headers.contains_key(X_REQUEST_ID) {
        headers.insert(X_REQUEST_ID, request_id(&channel.worker));
    }
    if channel.direction == Direction::Outbound && !headers.contains_key(X_FORWARDED_PROTO) {
        headers.insert(X_FORWARDED_PROTO, HeaderValue::from_static("http"));
    }
    if http.forwarded_for {
        let caller = channel.source.ip();
        let before = headers
            .get(X_FORWARDED_FOR)
            .and_then(|value| value.to_str().ok());
        let all = match before {
            Some(before) => format!("{before},{caller}"),
            None => caller.to_string(),
        };
        if let Ok(all) = HeaderValue::from_str(&all) {
            headers.insert(X_FORWARDED_FOR, all);
        }
    }
    if http.client_cert == ClientCertHeader::AlwaysForwardOnly {
        return;
    }
    let peer = match (channel.direction, &channel.peer) {
        (Direction::Inbound, Some(peer)) => peer,
        _ => {
            headers.remove(X_FORWARDED_CLIENT_CERT);
            return;
        }
    };
    match http.client_cert {
        ClientCertHeader::ForwardOnly | ClientCertHeader::AlwaysForwardOnly => {}
        ClientCertHeader::Sanitize => {
            headers.remove(X_FORWARDED_CLIENT_CERT);
        }
        ClientCertHeader::SanitizeSet | ClientCertHeader::AppendForward => {
            let mark = channel
                .certificate_mark
                .get_or_init(|| certificate_mark(channel, peer));
            let before = match http.client_cert {
                ClientCertHeader::AppendForward => headers.get(X_FORWARDED_CLIENT_CERT),
                _ => None,
            };
            let whole = before.map(|before| [before.as_bytes(), mark.as_bytes()].join(&b','));
            let value = match whole {
                Some(whole) => HeaderValue::from_bytes(&whole).unwrap_or_else(|_| mark.clone()),
                None => mark.clone(),
            };
            headers.insert(X_FORWARDED_CLIENT_CERT, value);
        }
    }
}

fn certificate_mark(channel: &Channel, peer: &str) -> HeaderValue {
    let mut value = String::new();
    if let Some(holding) = channel.worker.credentials.holding() {
        let _ = write!(value, "By={};", holding.identity());
    }
    let _ = write!(value, "URI={peer}");
    // an identity is a URI, which is a legal value
    HeaderValue::from_str(&value).unwrap_or_else(|_| HeaderValue::from_static(""))
}

/// Names us as the server, where the chain says so and gives us a name: Envoy's own, which stands for none, is not ours to bear.
fn name_server(http: &Http, headers: &mut HeaderMap) {
    let ours = match http.server_header {
        ServerHeader::Overwrite => true,
        ServerHeader::AppendIfAbsent => !headers.contains_key(SERVER),
        ServerHeader::PassThrough => false,
    };
    if ours
        && &*http.server_name != ENVOY
        && let Ok(name) = HeaderValue::from_str(&http.server_name)
    {
        headers.insert(SERVER, name);
    }
}

/// A UUID of version 4.
fn request_id(worker: &Worker) -> HeaderValue {
    let bits = (u128::from(worker.lot()) << 64) | u128::from(worker.lot());
    let bits = (bits & !(0xf << 76) & !(0x3 << 62)) | (0x4 << 76) | (0x2 << 62);
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let mut text = [b'-'; 36];
    let mut places = [8, 13, 18, 23].into_iter().peekable();
    let mut at = 0;
    for byte in bits.to_be_bytes() {
        if places.next_if_eq(&at).is_some() {
            at += 1;
        }
        text[at] = HEX[usize::from(byte >> 4)];
        text[at + 1] = HEX[usize::from(byte & 0xf)];
        at += 2;
    }
    HeaderValue::from_bytes(&text).unwrap_or_else(|_| HeaderValue::from_static("0"))
}

fn refuse_head(mut told: Box<Told>, error: HeadError) -> Response<Answer<Box<Told>>> {
    told.flag(Flags::CALLER_PROTOCOL);
    told.cause = Some(error.to_string());
    let status = StatusCode::from_u16(error.status()).unwrap_or(StatusCode::BAD_REQUEST);
    let version = told.version;
    let old = version != Version::HTTP_2;
    if old && error == HeadError::TooLarge {
        // what was not read whole is nobody's call, so gRPC's form is not for it
        told.grpc = false;
    }
    let mut response = answer(told, status, &format!("{error}\n"));
    if old {
        // who says what cannot be read may mean something else by what follows
        let close = HeaderValue::from_static("close");
        response.headers_mut().insert(CONNECTION, close);
    }
    if version == Version::HTTP_10 {
        // or the codec says `keep-alive` beside it
        *response.version_mut() = version;
    }
    response
}

fn refuse(mut told: Box<Told>, reject: &Reject) -> Response<Answer<Box<Told>>> {
    told.flag(flags_of(reject.flag));
    told.cause = Some(reject.cause.to_string());
    told.why = Some(reject.why.clone());
    let status = StatusCode::from_u16(reject.status).unwrap_or(StatusCode::SERVICE_UNAVAILABLE);
    answer(told, status, &format!("{reject}\n"))
}

fn answer(told: Box<Told>, status: StatusCode, text: &str) -> Response<Answer<Box<Told>>> {
    answer_bytes(told, status, Bytes::copy_from_slice(text.as_bytes()))
}

/// An answer of our own. A gRPC caller gets it in gRPC's way: 200, and the status in the head.
fn answer_bytes(
    mut told: Box<Told>,
    status: StatusCode,
    body: Bytes,
) -> Response<Answer<Box<Told>>> {
    let mut response = Response::new(Answer::Text(None));
    told.status = status.as_u16();
    if told.grpc {
        let code = grpc_code(status);
        told.status = 200;
        told.grpc_status = Some(code);
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        headers.insert("grpc-status", HeaderValue::from(code));
        let text: String = String::from_utf8_lossy(&body)
            .trim()
            .chars()
            .map(|letter| {
                if letter.is_ascii() && !letter.is_ascii_control() && letter != '%' {
                    letter
                } else {
                    ' '
                }
            })
            .collect();
        if let Ok(text) = HeaderValue::from_str(&text) {
            headers.insert("grpc-message", text);
        }
    } else {
        *response.status_mut() = status;
        // 204 and 304 have no content, and 204 has no length either (RFC 9110, 8.6)
        let bodiless = [StatusCode::NO_CONTENT, StatusCode::NOT_MODIFIED].contains(&status);
        let body = if bodiless { Bytes::new() } else { body };
        told.sent = body.len() as u64;
        if !body.is_empty() {
            let headers = response.headers_mut();
            headers.insert(
                CONTENT_TYPE,
                HeaderValue::from_static("text/plain; charset=utf-8"),
            );
            headers.insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
            *response.body_mut() = Answer::Text(Some(body));
        }
    }
    told.tell();
    response
}

/// gRPC's status for an HTTP status. Source: gRPC's "HTTP to gRPC Status Code Mapping".
fn grpc_code(status: StatusCode) -> u32 {
    match status.as_u16() {
        400 => 13,
        401 => 16,
        403 => 7,
        404 => 12,
        429 | 502 | 503 | 504 => 14,
        _ => 2,
    }
}

/// Hands the caller and the upstream to each other after 101. Neither connection is used for HTTP again.
fn switch(
    mut told: Box<Told>,
    head: &Head,
    caller: Option<hyper::upgrade::OnUpgrade>,
    mut response: Response<Incoming>,
) -> Response<Answer<Box<Told>>> {
    let (Some(asked), Some(caller)) = (&head.upgrade, caller) else {
        told.flag(Flags::UPSTREAM_PROTOCOL);
        told.failed("the upstream changed the protocol without being asked to");
        return answer(
            told,
            StatusCode::BAD_GATEWAY,
            "UPE: the upstream changed the protocol without being asked to\n",
        );
    };
    let upstream = hyper::upgrade::on(&mut response);
    let (parts, _) = response.into_parts();
    let mut headers = parts.headers;
    remove_hop(&mut headers);
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(UPGRADE, asked.clone());
    let mut switched = Response::new(Answer::Text(None));
    *switched.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    *switched.headers_mut() = headers;
    tokio::task::spawn_local(async move {
        let (caller, upstream) = match futures_util::future::try_join(caller, upstream).await {
            Ok(both) => both,
            Err(error) => {
                told.failed(&error.to_string());
                return;
            }
        };
        let copied = copy(
            TokioIo::new(caller),
            TokioIo::new(upstream),
            Vec::new(),
            UPGRADED_IDLE,
        )
        .await;
        match copied.end {
            End::Closed => {}
            End::Idle => told.flag(Flags::IDLE),
            End::First(_) => told.flag(Flags::CALLER_GONE),
            End::Second(_) => told.flag(Flags::UPSTREAM_ENDED),
        }
        told.sent = copied.back;
        if let Some(in_flight) = &mut told.in_flight {
            in_flight.finish(Outcome::Answer {
                status: 101,
                grpc: None,
            });
        }
        told.tell();
    });
    switched
}
