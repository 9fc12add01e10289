//! What is told about carried traffic: Istio's standard metrics, and an access log with the reason of each decision.
//!
//! Each worker writes into a [`Scribe`] of its own; numbers meet when somebody scrapes. Log lines are gathered per worker and
//! handed to one writing thread through a bounded queue: when the disk is slower than the traffic, lines are dropped and counted,
//! and no request waits.
//!
//! Source of names and labels: Istio's "Istio Standard Metrics"; of the buckets: Envoy's default histogram buckets;
//! of the flags: Envoy's `%RESPONSE_FLAGS%`.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::fmt::{self, Write as _};
use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use serde::{Serialize, Serializer};

/// Different subjects that a worker keeps apart; beyond it they are counted under `unknown`.
pub const SUBJECT_LIMIT: usize = 4096;
/// Different series of one kind that a worker keeps; beyond it response codes and flags are no longer told apart.
pub const SERIES_LIMIT: usize = 16384;
/// Bytes of log lines that are handed to the writing thread at once.
const LOG_CHUNK: usize = 16 * 1024;
/// Chunks that may wait for the disk.
const LOG_QUEUE: usize = 64;

/// Which proxy of a call tells about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reporter {
    /// The caller's.
    Source,
    /// The called workload's.
    Destination,
}

/// Why a caller was turned away: it broke a rule of its protocol, or one of our limits (`docs/reference/limits.md`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turned {
    /// Its first bytes were not whole in time, or not legal.
    Beginning,
    /// Nothing listens for it, or no chain takes it.
    NoWay,
    /// Its TLS handshake was not done in time, or not legal.
    Handshake,
    /// Its certificate does not prove an identity of the mesh.
    Certificate,
    /// Others were many, and it was the one that had said nothing useful for the longest time.
    Crowd,
    /// It sent no request, or no whole head, for too long.
    Idle,
    /// A head was larger than may be.
    LargeHead,
    /// It broke a rule of HTTP.
    Illegal,
    /// It sent more frames without use than anybody needs: resets, empty data, pings, pieces of heads.
    Flood,
}

impl Turned {
    const ALL: [(Turned, &'static str); 9] = [
        (Turned::Beginning, "beginning"),
        (Turned::NoWay, "no_way"),
        (Turned::Handshake, "handshake"),
        (Turned::Certificate, "certificate"),
        (Turned::Crowd, "crowd"),
        (Turned::Idle, "idle"),
        (Turned::LargeHead, "large_head"),
        (Turned::Illegal, "illegal"),
        (Turned::Flood, "flood"),
    ];
}

/// How a connection was protected, as its reporter knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Security {
    /// mTLS, with a verified peer.
    MutualTls,
    /// Plaintext.
    None,
    /// The reporter does not see it: Istio's convention on the caller's side.
    Unknown,
}

/// One end of a call. What is not known is `unknown`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Party {
    /// The workload's (or, as long as that is all we know, the pod's) name.
    pub workload: Arc<str>,
    /// Its namespace.
    pub namespace: Arc<str>,
    /// Its verified identity, a SPIFFE URI.
    pub principal: Arc<str>,
    /// Label `app`, and Istio's canonical service.
    pub app: Arc<str>,
    /// Label `version`, and Istio's canonical revision.
    pub version: Arc<str>,
    /// Its cluster.
    pub cluster: Arc<str>,
}

impl Party {
    /// Somebody of whom nothing is known.
    pub fn unknown() -> Self {
        let unknown: Arc<str> = Arc::from("unknown");
        Party {
            workload: unknown.clone(),
            namespace: unknown.clone(),
            principal: unknown.clone(),
            app: unknown.clone(),
            version: unknown.clone(),
            cluster: unknown,
        }
    }
}

/// Between whom, for which service and how protected: everything about a series but what differs from request to request.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Subject {
    /// Who tells.
    pub reporter: Reporter,
    /// The caller.
    pub source: Party,
    /// The called workload.
    pub destination: Party,
    /// The called service's host; `unknown` when traffic was for no service.
    pub service: Arc<str>,
    /// Its short name.
    pub service_name: Arc<str>,
    /// Its namespace.
    pub service_namespace: Arc<str>,
    /// How the connection was protected.
    pub security: Security,
}

impl Subject {
    fn overflow() -> Self {
        let unknown: Arc<str> = Arc::from("unknown");
        Subject {
            reporter: Reporter::Source,
            source: Party::unknown(),
            destination: Party::unknown(),
            service: unknown.clone(),
            service_name: unknown.clone(),
            service_namespace: unknown,
            security: Security::Unknown,
        }
    }
}

/// A subject that a [`Scribe`] knows; good for that scribe only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SubjectId(u32);

/// What went wrong with a request or connection, in Envoy's letters. Several may hold.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Flags(u16);

impl Flags {
    /// Nothing went wrong.
    pub const NONE: Flags = Flags(0);
    /// `UF`: the upstream connection could not be made.
    pub const UPSTREAM_CONNECT: Flags = Flags(1);
    /// `UH`: no endpoint could be used.
    pub const NO_ENDPOINT: Flags = Flags(1 << 1);
    /// `NR`: no route, or no filter chain.
    pub const NO_ROUTE: Flags = Flags(1 << 2);
    /// `NC`: the route leads to a cluster that is not there.
    pub const NO_CLUSTER: Flags = Flags(1 << 3);
    /// `URX`: the attempts were used up.
    pub const ATTEMPTS: Flags = Flags(1 << 4);
    /// `UC`: the upstream connection ended before the answer did.
    pub const UPSTREAM_ENDED: Flags = Flags(1 << 5);
    /// `UR`: the upstream reset the request.
    pub const UPSTREAM_RESET: Flags = Flags(1 << 6);
    /// `UT`: the upstream took too long.
    pub const UPSTREAM_SLOW: Flags = Flags(1 << 7);
    /// `UO`: a circuit breaker was open.
    pub const OVERFLOW: Flags = Flags(1 << 8);
    /// `DC`: the caller went away.
    pub const CALLER_GONE: Flags = Flags(1 << 9);
    /// `DPE`: the caller broke its protocol.
    pub const CALLER_PROTOCOL: Flags = Flags(1 << 10);
    /// `UPE`: the upstream broke its protocol.
    pub const UPSTREAM_PROTOCOL: Flags = Flags(1 << 11);
    /// `SI`: nothing moved for the idle time.
    pub const IDLE: Flags = Flags(1 << 12);
    /// `UAEX`: the caller may not.
    pub const UNAUTHORIZED: Flags = Flags(1 << 13);

    const LETTERS: [(Flags, &'static str); 14] = [
        (Flags::UPSTREAM_CONNECT, "UF"),
        (Flags::NO_ENDPOINT, "UH"),
        (Flags::NO_ROUTE, "NR"),
        (Flags::NO_CLUSTER, "NC"),
        (Flags::ATTEMPTS, "URX"),
        (Flags::UPSTREAM_ENDED, "UC"),
        (Flags::UPSTREAM_RESET, "UR"),
        (Flags::UPSTREAM_SLOW, "UT"),
        (Flags::OVERFLOW, "UO"),
        (Flags::CALLER_GONE, "DC"),
        (Flags::CALLER_PROTOCOL, "DPE"),
        (Flags::UPSTREAM_PROTOCOL, "UPE"),
        (Flags::IDLE, "SI"),
        (Flags::UNAUTHORIZED, "UAEX"),
    ];

    /// Both.
    #[must_use]
    pub fn and(self, other: Flags) -> Flags {
        Flags(self.0 | other.0)
    }
}

impl fmt::Display for Flags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == 0 {
            return f.write_str("-");
        }
        let mut first = true;
        for (flag, letters) in Flags::LETTERS {
            if self.0 & flag.0 != 0 {
                if !first {
                    f.write_str(",")?;
                }
                first = false;
                f.write_str(letters)?;
            }
        }
        Ok(())
    }
}

impl Serialize for Flags {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// What a request spoke, as Istio's label `request_protocol` has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// HTTP of any version.
    Http,
    /// gRPC, by its content type.
    Grpc,
}

/// One finished request.
#[derive(Debug, Clone, Copy)]
pub struct RequestDone {
    /// What it spoke.
    pub protocol: Protocol,
    /// The status the caller got; 0 when it got none.
    pub code: u16,
    /// gRPC's status, when there was one.
    pub grpc_status: Option<u8>,
    /// What went wrong.
    pub flags: Flags,
    /// From the first byte of the request to the last of the answer.
    pub duration: Duration,
    /// Bytes of the request's body.
    pub request_bytes: u64,
    /// Bytes of the answer's body.
    pub response_bytes: u64,
}

/// One line of the access log. Absent things are `null` or left out.
#[derive(Debug, Serialize)]
pub struct LogLine<'a> {
    /// When it began, RFC 3339.
    pub start_time: String,
    /// `outbound`, `inbound` or `gateway`.
    pub direction: &'static str,
    /// `HTTP/1.1`, `HTTP/2` or `TCP`.
    pub protocol: &'static str,
    /// The request's method.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub method: Option<&'a str>,
    /// The request's authority.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub authority: Option<&'a str>,
    /// The request's path, without its query: queries hold secrets too often.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<&'a str>,
    /// `x-request-id`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_id: Option<&'a str>,
    /// The status that the caller got; 0 when it got none, or spoke TCP.
    pub response_code: u16,
    /// What went wrong, in Envoy's letters, or `-`.
    pub response_flags: Flags,
    /// Why it went where it went, or nowhere.
    pub reason: &'a str,
    /// What went wrong in attempts that were made again, and in the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<&'a str>,
    /// How often an endpoint was tried.
    pub attempts: u32,
    /// The route's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub route_name: Option<&'a str>,
    /// The xDS cluster it went to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upstream_cluster: Option<&'a str>,
    /// The address it went to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upstream_host: Option<String>,
    /// The caller's address.
    pub downstream_remote_address: String,
    /// The address that was called.
    pub downstream_local_address: String,
    /// The server name of the caller's TLS.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requested_server_name: Option<&'a str>,
    /// The verified identity of who was called.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upstream_peer: Option<&'a str>,
    /// The verified identity of the caller.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub downstream_peer: Option<&'a str>,
    /// Bytes from the caller.
    pub bytes_received: u64,
    /// Bytes to the caller.
    pub bytes_sent: u64,
    /// Milliseconds.
    pub duration: u64,
}

/// Where all workers' numbers and lines come together.
#[derive(Debug)]
pub struct Report {
    ledgers: Mutex<Vec<Arc<Mutex<Ledger>>>>,
    log: Option<SyncSender<Vec<u8>>>,
    dropped: Arc<AtomicU64>,
    writer: Option<JoinHandle<()>>,
}

impl Report {
    /// Starts the thread that writes the access log to `log`; without one no line is made.
    ///
    /// # Errors
    /// The thread could not be started.
    pub fn start(log: Option<Box<dyn Write + Send>>) -> io::Result<Arc<Report>> {
        let dropped = Arc::new(AtomicU64::new(0));
        let (sender, writer) = match log {
            None => (None, None),
            Some(log) => {
                let (sender, receiver) = sync_channel(LOG_QUEUE);
                let dropped = dropped.clone();
                let writer = std::thread::Builder::new()
                    .name("access-log".into())
                    .spawn(move || write_log(&receiver, log, &dropped))?;
                (Some(sender), Some(writer))
            }
        };
        Ok(Arc::new(Report {
            ledgers: Mutex::default(),
            log: sender,
            dropped,
            writer,
        }))
    }

    /// A place for one worker to write. What it counted stays in the report when the worker has ended.
    pub fn scribe(&self) -> Scribe {
        let ledger = Arc::new(Mutex::new(Ledger::default()));
        self.ledgers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(ledger.clone());
        Scribe {
            ledger,
            lines: RefCell::default(),
            log: self.log.clone(),
            dropped: self.dropped.clone(),
        }
    }

    /// Everything counted, in Prometheus' text format 0.0.4, in a stable order.
    pub fn prometheus(&self) -> String {
        let mut total = Totals::default();
        let ledgers = self
            .ledgers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        for ledger in ledgers {
            ledger
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .add_to(&mut total);
        }
        let mut text = total.render();
        let _ = writeln!(
            text,
            "# TYPE catamaran_access_log_lines_dropped_total counter"
        );
        let _ = writeln!(
            text,
            "catamaran_access_log_lines_dropped_total {}",
            self.dropped.load(Ordering::Relaxed)
        );
        text
    }
}

impl Drop for Report {
    fn drop(&mut self) {
        self.log = None;
        if let Some(writer) = self.writer.take() {
            let _ = writer.join();
        }
    }
}

fn write_log(chunks: &Receiver<Vec<u8>>, mut log: Box<dyn Write + Send>, dropped: &AtomicU64) {
    while let Ok(chunk) = chunks.recv() {
        if log.write_all(&chunk).and_then(|()| log.flush()).is_err() {
            dropped.fetch_add(lines_in(&chunk), Ordering::Relaxed);
        }
    }
}

fn lines_in(chunk: &[u8]) -> u64 {
    chunk.iter().filter(|byte| **byte == b'\n').count() as u64
}

/// One worker's place to write.
#[derive(Debug)]
pub struct Scribe {
    ledger: Arc<Mutex<Ledger>>,
    lines: RefCell<Vec<u8>>,
    log: Option<SyncSender<Vec<u8>>>,
    dropped: Arc<AtomicU64>,
}

impl Scribe {
    fn ledger(&self) -> std::sync::MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The short form of a subject: made once per connection or upstream, used for each request.
    pub fn subject(&self, subject: &Subject) -> SubjectId {
        self.ledger().subject(subject)
    }

    /// Counts a finished request.
    pub fn request(&self, subject: SubjectId, done: &RequestDone) {
        self.ledger().request(subject, done);
    }

    /// Counts a TCP connection that was begun.
    pub fn opened(&self, subject: SubjectId) {
        self.ledger().connection(subject, Flags::NONE).opened += 1;
    }

    /// Counts a TCP connection that ended, with the bytes the caller sent and received.
    pub fn closed(&self, subject: SubjectId, flags: Flags, sent: u64, received: u64) {
        let mut ledger = self.ledger();
        let totals = ledger.connection(subject, flags);
        totals.closed += 1;
        totals.received += sent;
        totals.sent += received;
    }

    /// Counts a caller that was turned away.
    pub fn turned(&self, why: Turned) {
        self.ledger().turned[why as usize] += 1;
    }

    /// Whether anybody reads log lines; without it none need be made.
    pub fn logs(&self) -> bool {
        self.log.is_some()
    }

    /// Adds a line to the access log.
    pub fn log(&self, line: &LogLine<'_>) {
        if self.log.is_none() {
            return;
        }
        let mut lines = self.lines.borrow_mut();
        let before = lines.len();
        if serde_json::to_writer(&mut *lines, line).is_err() {
            lines.truncate(before);
            return;
        }
        lines.push(b'\n');
        if lines.len() >= LOG_CHUNK {
            drop(lines);
            self.flush();
        }
    }

    /// Hands the lines gathered so far to the writing thread; to be called now and then.
    pub fn flush(&self) {
        let lines = std::mem::take(&mut *self.lines.borrow_mut());
        if lines.is_empty() {
            return;
        }
        let Some(log) = &self.log else { return };
        if let Err(TrySendError::Full(lines) | TrySendError::Disconnected(lines)) =
            log.try_send(lines)
        {
            self.dropped.fetch_add(lines_in(&lines), Ordering::Relaxed);
        }
    }
}

impl Drop for Scribe {
    fn drop(&mut self) {
        self.flush();
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct RequestKey {
    subject: SubjectId,
    protocol: Protocol,
    code: u16,
    grpc_status: Option<u8>,
    flags: Flags,
}

#[derive(Debug, Default)]
struct Ledger {
    subjects: Vec<Subject>,
    known: HashMap<Subject, SubjectId>,
    requests: HashMap<RequestKey, RequestTotals>,
    connections: HashMap<(SubjectId, Flags), ConnectionTotals>,
    turned: [u64; Turned::ALL.len()],
}

#[derive(Debug, Default, Clone)]
struct RequestTotals {
    count: u64,
    duration: Histogram<19>,
    request_bytes: Histogram<9>,
    response_bytes: Histogram<9>,
}

#[derive(Debug, Default, Clone)]
struct ConnectionTotals {
    opened: u64,
    closed: u64,
    sent: u64,
    received: u64,
}

const DURATION_BUCKETS: [f64; 19] = [
    0.5, 1.0, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1e3, 2.5e3, 5e3, 1e4, 3e4, 6e4, 3e5, 6e5,
    1.8e6, 3.6e6,
];
const BYTE_BUCKETS: [f64; 9] = [
    0.0, 256.0, 1024.0, 4096.0, 16384.0, 65536.0, 262144.0, 1048576.0, 16777216.0,
];

#[derive(Debug, Clone)]
struct Histogram<const N: usize> {
    counts: [u64; N],
    count: u64,
    sum: f64,
}

impl<const N: usize> Default for Histogram<N> {
    fn default() -> Self {
        Histogram {
            counts: [0; N],
            count: 0,
            sum: 0.0,
        }
    }
}

impl<const N: usize> Histogram<N> {
    fn observe(&mut self, buckets: &[f64; N], value: f64) {
        if let Some(bucket) = buckets.iter().position(|limit| value <= *limit) {
            self.counts[bucket] += 1;
        }
        self.count += 1;
        self.sum += value;
    }

    fn add(&mut self, other: &Self) {
        for (mine, theirs) in self.counts.iter_mut().zip(other.counts) {
            *mine += theirs;
        }
        self.count += other.count;
        self.sum += other.sum;
    }

    fn render(&self, text: &mut String, name: &str, labels: &str, buckets: &[f64; N]) {
        let mut below = 0;
        for (limit, count) in buckets.iter().zip(self.counts) {
            below += count;
            let _ = writeln!(text, "{name}_bucket{{{labels},le=\"{limit}\"}} {below}");
        }
        let _ = writeln!(text, "{name}_bucket{{{labels},le=\"+Inf\"}} {}", self.count);
        let _ = writeln!(text, "{name}_sum{{{labels}}} {}", self.sum);
        let _ = writeln!(text, "{name}_count{{{labels}}} {}", self.count);
    }
}

impl Ledger {
    fn subject(&mut self, subject: &Subject) -> SubjectId {
        if let Some(id) = self.known.get(subject) {
            return *id;
        }
        let overflow;
        let mut subject = subject;
        if self.subjects.len() >= SUBJECT_LIMIT {
            overflow = Subject::overflow();
            subject = &overflow;
            if let Some(id) = self.known.get(subject) {
                return *id;
            }
        }
        let id = SubjectId(self.subjects.len() as u32);
        self.subjects.push(subject.clone());
        self.known.insert(subject.clone(), id);
        id
    }

    fn request(&mut self, subject: SubjectId, done: &RequestDone) {
        let mut key = RequestKey {
            subject,
            protocol: done.protocol,
            code: done.code,
            grpc_status: done.grpc_status,
            flags: done.flags,
        };
        if self.requests.len() >= SERIES_LIMIT && !self.requests.contains_key(&key) {
            key.code = 0;
            key.flags = Flags::NONE;
            key.grpc_status = None;
        }
        let totals = self.requests.entry(key).or_default();
        totals.count += 1;
        totals
            .duration
            .observe(&DURATION_BUCKETS, done.duration.as_secs_f64() * 1e3);
        totals
            .request_bytes
            .observe(&BYTE_BUCKETS, done.request_bytes as f64);
        totals
            .response_bytes
            .observe(&BYTE_BUCKETS, done.response_bytes as f64);
    }

    fn connection(&mut self, subject: SubjectId, flags: Flags) -> &mut ConnectionTotals {
        self.connections.entry((subject, flags)).or_default()
    }

    fn labels(&self, id: SubjectId) -> String {
        labels(&self.subjects[id.0 as usize])
    }

    fn add_to(&self, total: &mut Totals) {
        for (key, mine) in &self.requests {
            let mut labels = self.labels(key.subject);
            let protocol = match key.protocol {
                Protocol::Http => "http",
                Protocol::Grpc => "grpc",
            };
            let _ = write!(
                labels,
                ",request_protocol=\"{protocol}\",response_code=\"{}\"",
                key.code
            );
            labels.push_str(",grpc_response_status=\"");
            if let Some(status) = key.grpc_status {
                let _ = write!(labels, "{status}");
            }
            let _ = write!(labels, "\",response_flags=\"{}\"", key.flags);
            let theirs = total.requests.entry(labels).or_default();
            theirs.count += mine.count;
            theirs.duration.add(&mine.duration);
            theirs.request_bytes.add(&mine.request_bytes);
            theirs.response_bytes.add(&mine.response_bytes);
        }
        for ((subject, flags), mine) in &self.connections {
            let mut labels = self.labels(*subject);
            let _ = write!(
                labels,
                ",request_protocol=\"tcp\",response_flags=\"{flags}\""
            );
            let theirs = total.connections.entry(labels).or_default();
            theirs.opened += mine.opened;
            theirs.closed += mine.closed;
            theirs.sent += mine.sent;
            theirs.received += mine.received;
        }
        for (theirs, mine) in total.turned.iter_mut().zip(self.turned) {
            *theirs += mine;
        }
    }
}

fn labels(subject: &Subject) -> String {
    let mut text = String::with_capacity(1024);
    text.push_str(match subject.reporter {
        Reporter::Source => "reporter=\"source\"",
        Reporter::Destination => "reporter=\"destination\"",
    });
    for (end, party) in [
        ("source", &subject.source),
        ("destination", &subject.destination),
    ] {
        for (name, value) in [
            ("workload", &party.workload),
            ("workload_namespace", &party.namespace),
            ("principal", &party.principal),
            ("app", &party.app),
            ("version", &party.version),
            ("canonical_service", &party.app),
            ("canonical_revision", &party.version),
            ("cluster", &party.cluster),
        ] {
            let _ = write!(text, ",{end}_{name}=\"{}\"", Escaped(value));
        }
    }
    let security = match subject.security {
        Security::MutualTls => "mutual_tls",
        Security::None => "none",
        Security::Unknown => "unknown",
    };
    let _ = write!(
        text,
        ",destination_service=\"{}\",destination_service_name=\"{}\",destination_service_namespace=\"{}\",connection_security_policy=\"{security}\"",
        Escaped(&subject.service),
        Escaped(&subject.service_name),
        Escaped(&subject.service_namespace),
    );
    text
}

/// A label's value as Prometheus' text format wants it.
struct Escaped<'a>(&'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for letter in self.0.chars() {
            match letter {
                '\\' => f.write_str("\\\\")?,
                '"' => f.write_str("\\\"")?,
                '\n' => f.write_str("\\n")?,
                other => f.write_char(other)?,
            }
        }
        Ok(())
    }
}

#[derive(Default)]
struct Totals {
    requests: BTreeMap<String, RequestTotals>,
    connections: BTreeMap<String, ConnectionTotals>,
    turned: [u64; Turned::ALL.len()],
}

impl Totals {
    fn render(&self) -> String {
        let mut text = String::new();
        let mut counter = |name: &str, values: &mut dyn Iterator<Item = (&String, u64)>| {
            let _ = writeln!(text, "# TYPE {name} counter");
            for (labels, value) in values {
                let _ = writeln!(text, "{name}{{{labels}}} {value}");
            }
        };
        counter(
            "istio_requests_total",
            &mut self.requests.iter().map(|(l, t)| (l, t.count)),
        );
        let connections = &self.connections;
        counter(
            "istio_tcp_connections_opened_total",
            &mut connections
                .iter()
                .map(|(l, t)| (l, t.opened))
                .filter(|(_, n)| *n > 0),
        );
        counter(
            "istio_tcp_connections_closed_total",
            &mut connections
                .iter()
                .map(|(l, t)| (l, t.closed))
                .filter(|(_, n)| *n > 0),
        );
        counter(
            "istio_tcp_sent_bytes_total",
            &mut connections.iter().map(|(l, t)| (l, t.sent)),
        );
        counter(
            "istio_tcp_received_bytes_total",
            &mut connections.iter().map(|(l, t)| (l, t.received)),
        );
        for (name, pick) in [
            (
                "istio_request_bytes",
                RequestTotals::requests as fn(&RequestTotals) -> &Histogram<9>,
            ),
            ("istio_response_bytes", RequestTotals::responses),
        ] {
            let _ = writeln!(text, "# TYPE {name} histogram");
            for (labels, totals) in &self.requests {
                pick(totals).render(&mut text, name, labels, &BYTE_BUCKETS);
            }
        }
        let name = "istio_request_duration_milliseconds";
        let _ = writeln!(text, "# TYPE {name} histogram");
        for (labels, totals) in &self.requests {
            totals
                .duration
                .render(&mut text, name, labels, &DURATION_BUCKETS);
        }
        let name = "catamaran_callers_turned_away_total";
        let _ = writeln!(text, "# TYPE {name} counter");
        for ((_, word), count) in Turned::ALL.iter().zip(self.turned) {
            let _ = writeln!(text, "{name}{{reason=\"{word}\"}} {count}");
        }
        text
    }
}

impl RequestTotals {
    fn requests(&self) -> &Histogram<9> {
        &self.request_bytes
    }

    fn responses(&self) -> &Histogram<9> {
        &self.response_bytes
    }
}

#[cfg(test)]
mod tests;
