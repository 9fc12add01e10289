//! Takes callers' connections in: binds the sockets that the table and the settings want, and finds each connection its way.

use std::cell::{Cell, OnceCell};
use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use catamaran_decide::{
    Codec, Connection, Detected, Entry, Handler, Listener, Table, Way, accept, listen,
};
use catamaran_model::{ClusterName, Direction as ClusterDirection};
use http::Version;
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use super::ahead::Ahead;
use super::detect::{Beginning, BeginningError, HELLO_WAIT, Look, Rewound, read_beginning};
use super::dial::tune;
use super::http::{CALLER_IDLE, Channel, Course as HttpCourse, Direction, serve};
use super::probe;
use super::strangers::Stranger;
use super::stream::Stream;
use super::tcp::{Call, Course, Toward, carry, tell};
use super::tls::{self, is_http1, is_http2};
use super::worker::{Worker, flags_of};
use super::{Capture, Role, Settings, Sockets};
use crate::config::ports;
use crate::report::{Flags, Turned};

/// How long after a failure a socket is bound again.
const BIND_AGAIN: Duration = Duration::from_secs(1);
/// How long after a failure to accept the next one is tried: the machine is short of something.
const ACCEPT_AGAIN: Duration = Duration::from_millis(50);
/// How long the first bytes are waited for when the listener does not say.
const LOOK: Duration = Duration::from_secs(1);
/// The longest time for that, whatever the listener says.
const LOOK_LIMIT: Duration = Duration::from_secs(15);
const BACKLOG: i32 = 1024;

/// What a socket is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Door {
    /// Captured outbound connections; the kernel knows where they wanted to go.
    Outbound,
    /// An HTTP proxy.
    Proxy,
    /// Captured inbound connections.
    Inbound,
    /// Inbound connections to one port of the workload.
    Port,
    /// A gateway's.
    Gateway,
    /// A listener's own, and whether the workload is behind it.
    Own { inbound: bool },
}

/// The sockets that are wanted.
fn wanted(settings: &Settings, table: &Table) -> BTreeMap<SocketAddr, Door> {
    // Captured connections are of the family of the pod's address.
    let any = match settings.address {
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    let mut doors = BTreeMap::new();
    if settings.listeners {
        let bound = table.listeners().into_iter().filter(|l| l.is_bound());
        let own = bound.map(|listener| {
            let inbound = listener.is_inbound();
            (listener.address(), Door::Own { inbound })
        });
        return own.collect();
    }
    match (settings.role, settings.capture) {
        (Role::Gateway, _) => {
            doors.insert(
                SocketAddr::new(settings.address, ports::GATEWAY),
                Door::Gateway,
            );
        }
        (Role::Sidecar, Capture::Redirect) => {
            doors.insert(SocketAddr::new(any, ports::OUTBOUND), Door::Outbound);
            doors.insert(SocketAddr::new(any, ports::INBOUND), Door::Inbound);
        }
        (Role::Sidecar, Capture::Explicit) => {
            for cluster in table.clusters() {
                if let Ok(name) = ClusterName::parse(cluster.name())
                    && name.direction == ClusterDirection::Inbound
                {
                    doors.insert(SocketAddr::new(settings.address, name.port), Door::Port);
                }
            }
            doors.insert(
                SocketAddr::new(settings.address, ports::OUTBOUND),
                Door::Proxy,
            );
        }
    }
    doors
}

/// Keeps the sockets of a worker as its table wants them, until it drains. `first` is told when each was tried once.
pub(crate) async fn keep_open(
    worker: Rc<Worker>,
    mut tables: watch::Receiver<std::sync::Arc<Table>>,
    sockets: Sockets,
    first: impl FnOnce(),
) {
    let mut open: BTreeMap<SocketAddr, JoinHandle<()>> = BTreeMap::new();
    let mut draining = worker.draining.clone();
    let mut first = Some(first);
    loop {
        let doors = wanted(&worker.settings, &tables.borrow_and_update().clone());
        open.retain(|address, task| {
            let stays = doors.contains_key(address);
            if !stays {
                task.abort();
                sockets.gone(*address);
            }
            stays
        });
        let mut failed = false;
        for (address, door) in doors {
            if open.contains_key(&address) {
                continue;
            }
            match bind(address) {
                Ok(listener) => {
                    sockets.bound(address);
                    let task = tokio::task::spawn_local(take_in(worker.clone(), door, listener));
                    open.insert(address, task);
                }
                Err(error) => {
                    failed = true;
                    sockets.failed(address, &error);
                }
            }
        }
        if let Some(first) = first.take() {
            first();
        }
        tokio::select! {
            changed = tables.changed() => if changed.is_err() { break },
            () = sleep(BIND_AGAIN), if failed => {}
            _ = draining.wait_for(|draining| *draining) => break,
        }
    }
    // the table's sender may be gone long before the proxy is
    let _ = draining.wait_for(|draining| *draining).await;
    for (address, task) in open {
        task.abort();
        sockets.gone(address);
    }
}

fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    // connections have what their listener has
    tune(&socket);
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// Takes connections in for as long as it is let.
async fn take_in(worker: Rc<Worker>, door: Door, listener: TcpListener) {
    loop {
        match listener.accept().await {
            Ok((stream, source)) => {
                tokio::task::spawn_local(admit(worker.clone(), door, stream, source));
            }
            Err(error) if is_the_callers(&error) => {}
            Err(error) => {
                tracing::warn!(%error, "connections cannot be accepted; raise the limit of open files if this lasts");
                sleep(ACCEPT_AGAIN).await;
            }
        }
    }
}

fn is_the_callers(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::Interrupted
    )
}

/// Where a captured connection wanted to go.
fn original_destination(stream: &TcpStream, local: SocketAddr) -> Option<SocketAddr> {
    let socket = SockRef::from(stream);
    let original = if local.is_ipv6() {
        socket.original_dst_v6()
    } else {
        socket.original_dst_v4()
    };
    original.ok()?.as_socket()
}

async fn admit(worker: Rc<Worker>, door: Door, stream: TcpStream, source: SocketAddr) {
    let Ok(local) = stream.local_addr() else {
        return;
    };
    let destination = match door {
        Door::Outbound | Door::Inbound => match original_destination(&stream, local) {
            Some(original) => original,
            None => local,
        },
        Door::Proxy | Door::Port | Door::Gateway | Door::Own { .. } => local,
    };
    let (entry, toward) = match door {
        Door::Outbound => (Entry::Outbound { destination }, Toward::Outbound),
        Door::Proxy => (Entry::HttpProxy { port: 0 }, Toward::Outbound),
        Door::Inbound | Door::Port => (Entry::Inbound { destination }, Toward::Inbound),
        Door::Gateway => (Entry::Gateway { local }, Toward::Through),
        Door::Own { inbound: true } => (Entry::Gateway { local }, Toward::Inbound),
        Door::Own { inbound: false } => (Entry::Gateway { local }, Toward::Outbound),
    };
    let call = Call {
        toward,
        source,
        local: destination,
        server_name: None,
        peer: None,
        began: Instant::now(),
        _admitted: worker.admit(),
    };
    let captured = matches!(door, Door::Outbound | Door::Inbound);
    if captured && destination == local && matches!(local.port(), ports::OUTBOUND | ports::INBOUND)
    {
        refuse(
            &worker,
            &call,
            Turned::NoWay,
            Flags::NO_ROUTE,
            "nobody captured this connection: it was made to the proxy itself",
        );
        return;
    }
    if door == Door::Proxy {
        Box::pin(serve_proxy(worker, call, stream)).await;
        return;
    }
    // finding the way needs much state, and carrying little of it
    match Box::pin(find_way(worker.clone(), call, entry, stream)).await {
        Found::Nothing => {}
        Found::Whole {
            way,
            call,
            stream,
            head,
        } => carry(&worker, &way, call, stream, head).await,
        Found::Http {
            channel,
            stream,
            version,
        } => serve(*channel, stream, version),
    }
}

/// What is to be done with a connection.
enum Found {
    /// It was refused, or it is gone.
    Nothing,
    /// It is carried as a whole; `head` was read of it.
    Whole {
        way: Way,
        call: Call,
        stream: Stream,
        head: Vec<u8>,
    },
    /// It speaks HTTP.
    Http {
        channel: Box<Channel>,
        stream: Stream,
        version: Version,
    },
}

fn refuse(worker: &Worker, call: &Call, why: Turned, flags: Flags, reason: &str) {
    worker.scribe.turned(why);
    let course = Course {
        flags,
        reason: reason.to_owned(),
        ..Course::default()
    };
    tell(worker, call, &course);
}

fn crowded(worker: &Worker, call: &Call) {
    let reason = "too many callers were not known yet, and this one was the oldest of them";
    refuse(worker, call, Turned::Crowd, Flags::CALLER_PROTOCOL, reason);
}

/// Serves somebody who knows that this is an HTTP proxy.
async fn serve_proxy(worker: Rc<Worker>, call: Call, mut stream: TcpStream) {
    let mut head = Vec::new();
    let look = Look {
        tls: false,
        http: true,
        wait: CALLER_IDLE,
    };
    let version = match read_beginning(&mut stream, &mut head, look).await {
        Ok(Beginning::Http2) => Version::HTTP_2,
        Ok(_) => Version::HTTP_11,
        Err(_) => return,
    };
    let channel = channel(worker, call, HttpCourse::ByAuthority, Direction::Outbound);
    serve(
        channel,
        Stream::Rewound(Rewound::new(head, stream)),
        version,
    );
}

fn channel(worker: Rc<Worker>, call: Call, course: HttpCourse, direction: Direction) -> Channel {
    Channel {
        worker,
        direction,
        course,
        source: call.source,
        local: call.local,
        server_name: call.server_name,
        peer: call.peer,
        inbound_subject: OnceCell::new(),
        certificate_mark: OnceCell::new(),
        between: Cell::new(false),
        _admitted: call._admitted,
    }
}

/// How a listener wants the first bytes to be looked at.
fn look_of(listener: &Listener) -> Option<Look> {
    if !listener.inspects_tls() && !listener.inspects_http() {
        return None;
    }
    let wait = listener
        .inspection_timeout()
        .unwrap_or(LOOK)
        .min(LOOK_LIMIT);
    Some(Look {
        tls: listener.inspects_tls(),
        http: listener.inspects_http(),
        // who must begin with a ClientHello is given the time that one may take
        wait: if listener.inspects_http() {
            wait
        } else {
            wait.max(HELLO_WAIT)
        },
    })
}

async fn find_way(
    worker: Rc<Worker>,
    mut call: Call,
    entry: Entry,
    mut stream: TcpStream,
) -> Found {
    let refuse = |call: &Call, why, flags, reason: &str| {
        refuse(&worker, call, why, flags, reason);
        Found::Nothing
    };
    let crowded = |call: &Call| {
        crowded(&worker, call);
        Found::Nothing
    };
    let listened = listen(&worker.table(), entry);
    let listener = match listened {
        Ok(listener) => listener,
        Err(reject) => {
            let flags = flags_of(reject.flag);
            return refuse(&call, Turned::NoWay, flags, &reject.to_string());
        }
    };
    let mut head = Vec::new();
    let mut beginning = Beginning::Opaque;
    let mut stranger = Stranger::enter(&worker);
    if let Some(look) = look_of(&listener) {
        let looked = read_beginning(&mut stream, &mut head, look);
        beginning = match stranger.while_it_may(looked).await {
            Some(Ok(beginning)) => beginning,
            Some(Err(BeginningError::Closed)) if head.is_empty() => return Found::Nothing,
            Some(Err(error)) => {
                let flags = Flags::CALLER_PROTOCOL;
                return refuse(&call, Turned::Beginning, flags, &error.to_string());
            }
            None => return crowded(&call),
        };
        if head.is_empty() && !listener.continues_on_timeout() {
            return refuse(
                &call,
                Turned::Beginning,
                Flags::CALLER_PROTOCOL,
                "the caller sent nothing in time",
            );
        }
    }
    let alpn: Vec<&[u8]> = match &beginning {
        Beginning::Tls(hello) => hello.alpn.iter().map(Vec::as_slice).collect(),
        _ => Vec::new(),
    };
    let detected = match &beginning {
        Beginning::Tls(hello) => Detected::Tls {
            sni: hello.server_name.as_deref(),
            alpn: &alpn,
        },
        Beginning::Http1 => Detected::Http1,
        Beginning::Http2 => Detected::Http2,
        Beginning::Opaque => Detected::Opaque,
    };
    let connection = Connection {
        entry,
        source: Some(call.source),
        detected,
    };
    // the wait may have been long, and the table another one now
    let accepted = accept(&worker.table(), &connection);
    drop(alpn);
    if let Beginning::Tls(hello) = &beginning {
        call.server_name = hello.server_name.clone();
    }
    let way = match accepted {
        Ok(way) => way,
        Err(_)
            if call.toward == Toward::Through
                && call.server_name.as_deref() == Some(probe::NAME) =>
        {
            return Found::Nothing;
        }
        Err(reject) => {
            let flags = flags_of(reject.flag);
            return refuse(&call, Turned::NoWay, flags, &reject.to_string());
        }
    };
    let direction = match call.toward {
        Toward::Inbound => Direction::Inbound,
        Toward::Outbound | Toward::Through => Direction::Outbound,
    };
    let mut known = match beginning {
        Beginning::Http1 => Some(Version::HTTP_11),
        Beginning::Http2 => Some(Version::HTTP_2),
        Beginning::Tls(_) | Beginning::Opaque => None,
    };
    let mut plain = None;
    let mut tls_stream = None;
    if let Some(tls) = way.chain.tls() {
        let stream = Ahead::new(std::mem::take(&mut head), stream);
        let flags = Flags::CALLER_PROTOCOL;
        let config = match worker.configs.server(&worker.credentials, tls) {
            Ok(config) => config,
            Err(error) => {
                return refuse(&call, Turned::Handshake, flags, &error.to_string());
            }
        };
        match stranger
            .while_it_may(tls::accept(&worker, config, stream))
            .await
        {
            Some(Ok((stream, peer))) => {
                call.peer = peer;
                let chosen = stream.get_ref().1.alpn_protocol();
                if chosen.is_some_and(is_http2) {
                    known = Some(Version::HTTP_2);
                } else if chosen.is_some_and(is_http1) {
                    known = Some(Version::HTTP_11);
                }
                tls_stream = Some(stream);
            }
            Some(Err(error)) => {
                return refuse(&call, error.turned(), flags, &error.to_string());
            }
            None => return crowded(&call),
        }
    } else {
        plain = Some(stream);
    }
    drop(stranger);
    let Handler::Http(http) = way.chain.handler() else {
        let stream = match (tls_stream, plain) {
            (Some(stream), _) => Stream::Server(stream),
            (None, Some(stream)) => Stream::Plain(stream),
            (None, None) => return Found::Nothing,
        };
        return Found::Whole {
            way,
            call,
            stream,
            head,
        };
    };
    let known = match http.codec {
        Codec::Http1 => Some(Version::HTTP_11),
        Codec::Http2 => Some(Version::HTTP_2),
        Codec::Auto => known,
    };
    let look = Look {
        tls: false,
        http: true,
        wait: CALLER_IDLE,
    };
    let (stream, version) = match (tls_stream, plain) {
        (Some(mut stream), _) => match known {
            Some(version) => (Stream::Server(stream), version),
            None => {
                let Ok(beginning) = read_beginning(&mut stream, &mut head, look).await else {
                    return Found::Nothing;
                };
                let stream = Stream::RewoundServer(Box::new(Rewound::new(head, *stream)));
                (stream, version_of(&beginning))
            }
        },
        (None, Some(mut stream)) => {
            let version = match known {
                Some(version) => version,
                None => match read_beginning(&mut stream, &mut head, look).await {
                    Ok(beginning) => version_of(&beginning),
                    Err(_) => return Found::Nothing,
                },
            };
            (Stream::Rewound(Rewound::new(head, stream)), version)
        }
        (None, None) => return Found::Nothing,
    };
    Found::Http {
        channel: Box::new(channel(worker, call, HttpCourse::Fixed(way), direction)),
        stream,
        version,
    }
}

/// What is spoken where HTTP must be spoken: anything unknown is answered in HTTP/1's words.
fn version_of(beginning: &Beginning) -> Version {
    match beginning {
        Beginning::Http2 => Version::HTTP_2,
        _ => Version::HTTP_11,
    }
}

#[cfg(test)]
mod tests {
    use super::super::dial::KEEPALIVE_TIME;
    use super::*;

    #[tokio::test(flavor = "current_thread")]
    async fn a_listener_s_options_are_its_connections_too() {
        let listener = bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let address = listener.local_addr().unwrap();
        let (accepted, _caller) = tokio::join!(listener.accept(), TcpStream::connect(address));
        let (accepted, _) = accepted.unwrap();
        let socket = SockRef::from(&accepted);
        assert!(socket.tcp_nodelay().unwrap());
        assert!(socket.keepalive().unwrap());
        assert_eq!(socket.tcp_keepalive_time().unwrap(), KEEPALIVE_TIME);
    }

    /// How large the state of a connection is while it is carried. What is needed only for a while (a handshake, a search for a
    /// way, HTTP's codec) is boxed, and goes.
    #[test]
    fn a_carried_connection_s_own_state_is_small() {
        fn of<A, B, C, D, F>(_: impl Fn(A, B, C, D) -> F) -> usize {
            size_of::<F>()
        }
        let size = of(admit);
        assert!(size <= 2560, "{size} bytes");
    }

    #[test]
    fn captured_connections_are_awaited_in_the_family_of_the_pod_s_address() {
        for (address, expected) in [
            ("192.0.2.2", ["0.0.0.0:15001", "0.0.0.0:15006"]),
            ("2001:db8::2", ["[::]:15001", "[::]:15006"]),
        ] {
            let settings = Settings {
                role: Role::Sidecar,
                capture: Capture::Redirect,
                listeners: false,
                address: address.parse().unwrap(),
                own: crate::report::Party::unknown(),
                workers: 1,
                drain: std::time::Duration::ZERO,
                remote: super::super::Remote::default(),
            };
            let doors = wanted(&settings, &Table::default());
            let found: Vec<String> = doors.keys().map(ToString::to_string).collect();
            assert_eq!(found, expected);
        }
    }
}
