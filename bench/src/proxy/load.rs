//! The caller: HTTP/1.1 on many connections, one thread.
//!
//! At a fixed rate, when a request is due does not depend on how answers come, and its latency counts from when it was due: a proxy
//! that stalls is charged for every request that should have been sent meanwhile.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use nix::poll::{PollFd, PollFlags, ppoll};

use super::Histogram;

/// When requests are sent.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Pace {
    /// As soon as the connection's last answer is here.
    Closed,
    /// So many a second, at random times (a Poisson process).
    Rate(f64),
    /// Like `Closed`, each on a new connection.
    NewConnections,
    /// Each connection asks once and is then kept, idle; ends when all were answered.
    Once,
}

/// What is asked, of whom, and for how long.
#[derive(Debug, Clone)]
pub struct Load {
    /// Whom.
    pub target: SocketAddr,
    /// The path asked for.
    pub path: String,
    /// How many connections.
    pub connections: usize,
    /// When.
    pub pace: Pace,
    /// So long nothing is counted.
    pub warm: Duration,
    /// So long it is.
    pub time: Duration,
}

/// What came of it within the measured time.
#[derive(Debug, Default)]
pub struct Loaded {
    /// Answers, good and bad.
    pub answers: u64,
    /// Answers other than 200, and connections that failed or ended early, in the warm time too.
    pub errors: u64,
    /// What the first of the errors was.
    pub first_error: Option<String>,
    /// Bytes read.
    pub bytes: u64,
    /// The answers' latencies.
    pub latency: Histogram,
    /// How long the measured time really was.
    pub took: Duration,
    /// The connections, still open.
    pub kept: Kept,
}

/// Connections that stay open as long as this is held.
#[derive(Debug, Default)]
pub struct Kept(#[expect(dead_code, reason = "held for their sockets' sake")] Vec<TcpStream>);

/// After so many errors there is nothing left to learn.
const TOO_MANY: u64 = 200;
/// The end of a `Once` that is not answered.
const PATIENCE: Duration = Duration::from_secs(30);

impl Load {
    /// Does it in this thread. `edge` is called when the measured time begins and when it ends.
    ///
    /// # Errors
    /// When the system refuses what a caller needs, such as sockets.
    pub fn run(&self, mut edge: impl FnMut()) -> io::Result<Loaded> {
        let mut caller = Caller::start(self)?;
        let begin = caller.started + self.warm;
        let mut measured_from = None;
        loop {
            let now = Instant::now();
            if measured_from.is_none() && now >= begin {
                edge();
                caller.measuring = true;
                measured_from = Some(Instant::now());
                continue;
            }
            let end = measured_from.map_or(begin, |from| from + self.time);
            if measured_from.is_some()
                && (now >= end || caller.all_answered() || caller.loaded.errors > TOO_MANY)
            {
                break;
            }
            caller.send_due(now);
            caller.wait(end)?;
        }
        edge();
        let mut loaded = caller.loaded;
        loaded.took = measured_from.map(|from| from.elapsed()).unwrap_or_default();
        loaded.kept = Kept(
            caller
                .connections
                .into_iter()
                .map(|connection| connection.socket)
                .collect(),
        );
        Ok(loaded)
    }

    /// Opens the connections, asks once on each and keeps them.
    ///
    /// # Errors
    /// As [`Load::run`].
    pub fn once(target: SocketAddr, path: String, connections: usize) -> io::Result<Loaded> {
        let load = Load {
            target,
            path,
            connections,
            pace: Pace::Once,
            warm: Duration::ZERO,
            time: PATIENCE,
        };
        let mut loaded = load.run(|| {})?;
        let missing = (connections as u64).saturating_sub(loaded.answers);
        if missing > 0 {
            loaded.errors += missing;
            loaded
                .first_error
                .get_or_insert_with(|| format!("{missing} of {connections} were never answered"));
        }
        Ok(loaded)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Connecting,
    Idle,
    /// Waiting for the head of an answer.
    Head,
    /// So many bytes of its body are to come.
    Body(usize),
}

struct Connection {
    socket: TcpStream,
    state: State,
    since: Instant,
    head: Vec<u8>,
    good: bool,
}

struct Caller<'a> {
    load: &'a Load,
    request: Vec<u8>,
    poll: Poll,
    events: Events,
    scratch: Vec<u8>,
    connections: Vec<Connection>,
    /// Those that may send, longest idle first.
    idle: VecDeque<usize>,
    started: Instant,
    due: Instant,
    lot: u64,
    measuring: bool,
    loaded: Loaded,
}

impl<'a> Caller<'a> {
    fn start(load: &'a Load) -> io::Result<Caller<'a>> {
        let now = Instant::now();
        let mut caller = Caller {
            load,
            request: format!(
                "GET {} HTTP/1.1\r\nhost: svc.bench.svc.cluster.local\r\nuser-agent: bench\r\naccept: */*\r\n\r\n",
                load.path
            )
            .into_bytes(),
            poll: Poll::new()?,
            events: Events::with_capacity(512),
            scratch: vec![0; 1 << 18],
            connections: Vec::new(),
            idle: VecDeque::new(),
            started: now,
            due: now + Duration::from_millis(100),
            lot: 88_172_645_463_325_252,
            measuring: false,
            loaded: Loaded::default(),
        };
        for at in 0..load.connections {
            let connection = caller.connect(at)?;
            caller.connections.push(connection);
        }
        Ok(caller)
    }

    fn connect(&self, at: usize) -> io::Result<Connection> {
        let mut socket = TcpStream::connect(self.load.target)?;
        let interest = Interest::READABLE | Interest::WRITABLE;
        self.poll
            .registry()
            .register(&mut socket, Token(at), interest)?;
        let (head, since) = (Vec::new(), Instant::now());
        Ok(Connection {
            socket,
            state: State::Connecting,
            since,
            head,
            good: false,
        })
    }

    fn all_answered(&self) -> bool {
        self.load.pace == Pace::Once && self.loaded.answers == self.load.connections as u64
    }

    fn send_due(&mut self, now: Instant) {
        let Pace::Rate(rate) = self.load.pace else {
            return;
        };
        while self.due <= now
            && let Some(at) = self.idle.pop_front()
        {
            let due = self.due;
            self.send(at, due);
            let wait = -(1.0 - self.random()).ln() / rate;
            self.due += Duration::from_secs_f64(wait);
        }
    }

    /// A number from 0 to under 1 (xorshift; every run draws the same).
    fn random(&mut self) -> f64 {
        self.lot ^= self.lot << 13;
        self.lot ^= self.lot >> 7;
        self.lot ^= self.lot << 17;
        (self.lot >> 11) as f64 / (1_u64 << 53) as f64
    }

    fn send(&mut self, at: usize, since: Instant) {
        let connection = &mut self.connections[at];
        connection.since = since;
        connection.state = State::Head;
        connection.head.clear();
        match connection.socket.write(&self.request) {
            Ok(wrote) if wrote == self.request.len() => {}
            Ok(_) => self.fail(at, "a request was not taken whole".into()),
            Err(error) => self.fail(at, format!("sending: {error}")),
        }
    }

    /// Counts an error and opens the connection anew.
    fn fail(&mut self, at: usize, what: String) {
        self.loaded.errors += 1;
        self.loaded.first_error.get_or_insert(what);
        self.idle.retain(|idle| *idle != at);
        if let Ok(connection) = self.connect(at) {
            self.connections[at] = connection;
        }
    }

    fn wait(&mut self, end: Instant) -> io::Result<()> {
        let mut until = end;
        if matches!(self.load.pace, Pace::Rate(_)) && !self.idle.is_empty() {
            until = until.min(self.due);
        }
        // mio waits in milliseconds; requests are due within fewer.
        let left = until.saturating_duration_since(Instant::now());
        let registry = self.poll.registry();
        let mut polled = [PollFd::new(registry.as_fd(), PollFlags::POLLIN)];
        match ppoll(&mut polled, Some(left.into()), None) {
            Ok(0) | Err(nix::errno::Errno::EINTR) => return Ok(()),
            Ok(_) => {}
            Err(error) => return Err(error.into()),
        }
        let mut events = std::mem::replace(&mut self.events, Events::with_capacity(0));
        self.poll.poll(&mut events, Some(Duration::ZERO))?;
        for event in &events {
            let Token(at) = event.token();
            if self.connections[at].state == State::Connecting {
                self.connected(at);
            } else if event.is_readable() || event.is_read_closed() {
                self.read(at);
            }
        }
        self.events = events;
        Ok(())
    }

    fn connected(&mut self, at: usize) {
        let socket = &self.connections[at].socket;
        let stands = match socket.take_error() {
            Ok(None) => socket.peer_addr(),
            Ok(Some(error)) | Err(error) => Err(error),
        };
        match stands {
            Ok(_) => {
                let _ = socket.set_nodelay(true);
                self.ready(at);
            }
            Err(error) if error.kind() == io::ErrorKind::NotConnected => {}
            Err(error) => self.fail(at, format!("connecting: {error}")),
        }
    }

    /// The connection may send.
    fn ready(&mut self, at: usize) {
        match self.load.pace {
            Pace::Closed => self.send(at, Instant::now()),
            Pace::NewConnections | Pace::Once => {
                let since = self.connections[at].since;
                self.send(at, since);
            }
            Pace::Rate(_) => {
                self.connections[at].state = State::Idle;
                self.idle.push_back(at);
            }
        }
    }

    fn read(&mut self, at: usize) {
        loop {
            let connection = &mut self.connections[at];
            let read = match connection.socket.read(&mut self.scratch) {
                Ok(0) => return self.fail(at, "the proxy closed a connection".into()),
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) => return self.fail(at, format!("reading: {error}")),
            };
            if self.measuring {
                self.loaded.bytes += read as u64;
            }
            match connection.take(&self.scratch[..read]) {
                Ok(false) => {}
                Ok(true) => return self.answered(at),
                Err(what) => return self.fail(at, what),
            }
            if read < self.scratch.len() {
                return;
            }
        }
    }

    fn answered(&mut self, at: usize) {
        let connection = &mut self.connections[at];
        let took = connection.since.elapsed();
        connection.state = State::Idle;
        if !connection.good {
            let head = String::from_utf8_lossy(&connection.head);
            let what = head.lines().next().unwrap_or_default().to_owned();
            self.loaded.errors += 1;
            self.loaded.first_error.get_or_insert(what);
        }
        if self.measuring || self.load.pace == Pace::Once {
            self.loaded.answers += 1;
            self.loaded.latency.record(took);
        }
        match self.load.pace {
            Pace::Once => {}
            Pace::NewConnections => match self.connect(at) {
                Ok(connection) => self.connections[at] = connection,
                Err(error) => self.fail(at, format!("connecting: {error}")),
            },
            Pace::Closed | Pace::Rate(_) => self.ready(at),
        }
    }
}

impl Connection {
    /// Takes bytes of an answer; whether it is whole.
    fn take(&mut self, bytes: &[u8]) -> Result<bool, String> {
        let mut body = bytes.len();
        if self.state == State::Idle {
            return Err("bytes came without a request".into());
        }
        if self.state == State::Head {
            self.head.extend_from_slice(bytes);
            let Some(end) = self.head.windows(4).position(|four| four == b"\r\n\r\n") else {
                return match self.head.len() < 16_384 {
                    true => Ok(false),
                    false => Err("the head of an answer has no end".into()),
                };
            };
            body = self.head.len() - end - 4;
            self.head.truncate(end + 2);
            self.good = self.head.starts_with(b"HTTP/1.1 200");
            let head = String::from_utf8_lossy(&self.head);
            let length = head.lines().find_map(|line| {
                let (name, value) = line.split_once(':')?;
                name.eq_ignore_ascii_case("content-length")
                    .then(|| value.trim().parse().ok())?
            });
            let Some(length) = length else {
                return Err(format!("an answer without content-length: {head:?}"));
            };
            self.state = State::Body(length);
        }
        let State::Body(left) = self.state else {
            return Ok(false);
        };
        let Some(left) = left.checked_sub(body) else {
            return Err("more came than an answer".into());
        };
        self.state = State::Body(left);
        Ok(left == 0)
    }
}
