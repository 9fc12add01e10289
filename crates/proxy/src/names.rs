//! Answers the workload's questions for names (DNS, RFC 1035): those of the mesh from the control plane's table, all others
//! by asking the resolvers that the machine has.
//!
//! An address is good for [`TTL`] seconds. A known name has no record but of its addresses' families: every other question
//! about it is answered with nothing, so that nobody asks further.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use catamaran_model::{ClusterDomain, Namespace};
use catamaran_wire::names::NameTable;
use hickory_proto::op::{Edns, Message, MessageType, Metadata, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA};
use hickory_proto::rr::{DNSClass, RData, Record, RecordType};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::{Semaphore, watch};

/// In seconds, of every answer from the table.
pub(crate) const TTL: u32 = 30;
/// Questions for resolvers that may be open at once; what is more is dropped, and asked again by its sender.
pub(crate) const QUESTIONS: usize = 1024;
/// TCP connections that may be open at once.
pub(crate) const CONNECTIONS: usize = 128;
/// How long one resolver is waited for. The next is asked then.
const RESOLVER_WAIT: Duration = Duration::from_secs(2);
/// How long a TCP connection may be without a question.
const IDLE: Duration = Duration::from_secs(10);
/// The largest answer over UDP to who says nothing of sizes, in bytes (RFC 1035).
const PLAIN_UDP: u16 = 512;
/// The largest over UDP to anybody: it fits any path.
const LARGEST_UDP: u16 = 1232;
/// The largest question, in bytes.
const QUESTION_LIMIT: usize = 4096;
/// The most addresses in an answer over UDP or TCP.
const ANSWER_LIMIT: usize = 1000;

/// The names of the mesh, without their last dot and in lower case.
#[derive(Debug, Default)]
pub(crate) struct Names {
    hosts: HashMap<String, Vec<IpAddr>>,
    turns: AtomicUsize,
    /// Whether anybody has told us of the mesh. Before that no name of it is denied: its caller shall ask again.
    told: bool,
}

impl Names {
    /// Takes the control plane's table.
    ///
    /// # Errors
    /// An address is none.
    pub(crate) fn new(table: &NameTable) -> Result<Names, String> {
        let mut hosts = HashMap::with_capacity(table.table.len());
        for (host, info) in &table.table {
            let addresses: Vec<IpAddr> = info
                .ips
                .iter()
                .map(|ip| {
                    ip.parse()
                        .map_err(|_| format!("{host}: {ip:?} is no address"))
                })
                .collect::<Result<_, _>>()?;
            for name in std::iter::once(host).chain(&info.alt_hosts) {
                let name = name.trim_end_matches('.').to_ascii_lowercase();
                hosts.insert(name, addresses.clone());
            }
        }
        Ok(Names {
            hosts,
            turns: AtomicUsize::new(0),
            told: true,
        })
    }

    /// Whether a name may be one of the mesh of which nothing is known yet.
    fn may_come(&self, name: &str, scope: &Scope) -> bool {
        let name = name.trim_end_matches('.').to_ascii_lowercase();
        let domain = scope.domain.to_string();
        !self.told
            && (!name.contains('.')
                || name.ends_with(".svc")
                || name
                    .strip_suffix(&domain)
                    .is_some_and(|rest| rest.ends_with('.')))
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.hosts.len()
    }

    /// The addresses of a name as it was asked for: whole, or relative to the workload's namespace and domain.
    fn find(&self, name: &str, scope: &Scope) -> Option<&[IpAddr]> {
        let name = name.trim_end_matches('.').to_ascii_lowercase();
        let relative = || {
            let (namespace, domain) = (&scope.namespace, &scope.domain);
            let whole = match name.split('.').collect::<Vec<_>>()[..] {
                [_] => format!("{name}.{namespace}.svc.{domain}"),
                [_, _] => format!("{name}.svc.{domain}"),
                [_, _, "svc"] => format!("{name}.{domain}"),
                _ => return None,
            };
            self.hosts.get(&whole)
        };
        self.hosts.get(&name).or_else(relative).map(Vec::as_slice)
    }
}

/// What short names are relative to.
#[derive(Debug, Clone)]
pub(crate) struct Scope {
    /// The workload's namespace.
    pub namespace: Namespace,
    /// The suffix of services.
    pub domain: ClusterDomain,
}

/// What becomes of a question.
#[derive(Debug)]
pub(crate) enum Verdict {
    /// It is answered from the table, or cannot be; in at most so many bytes over UDP.
    Answer(Message, usize),
    /// It is for somebody else.
    Ask(Message),
    /// It is none; nobody is answered.
    Drop,
}

pub(crate) fn judge(question: &[u8], names: &Names, scope: &Scope) -> Verdict {
    let Ok(question) = Message::from_vec(question) else {
        return Verdict::Drop;
    };
    if question.metadata.message_type != MessageType::Query {
        return Verdict::Drop;
    }
    let limit = udp_limit(&question);
    let [query] = &question.queries[..] else {
        return Verdict::Answer(answer(&question, ResponseCode::FormErr), limit);
    };
    if question.metadata.op_code != OpCode::Query {
        return Verdict::Answer(answer(&question, ResponseCode::NotImp), limit);
    }
    let name = query.name().to_ascii();
    let known = match query.query_class() {
        DNSClass::IN => names.find(&name, scope),
        _ => None,
    };
    match known {
        None if names.may_come(&name, scope) => {
            Verdict::Answer(answer(&question, ResponseCode::ServFail), limit)
        }
        None => Verdict::Ask(question),
        Some(addresses) => {
            let mut answer = answer(&question, ResponseCode::NoError);
            answer.metadata.authoritative = true;
            let turn = names.turns.fetch_add(1, Ordering::Relaxed);
            answer.add_answers(records(query, addresses, turn));
            Verdict::Answer(answer, limit)
        }
    }
}

/// The addresses of the family that was asked for, each time beginning with another.
fn records(query: &Query, addresses: &[IpAddr], turn: usize) -> Vec<Record> {
    let mut records: Vec<Record> = addresses
        .iter()
        .filter_map(|address| match (address, query.query_type()) {
            (IpAddr::V4(ip), RecordType::A) => Some(RData::A(A(*ip))),
            (IpAddr::V6(ip), RecordType::AAAA) => Some(RData::AAAA(AAAA(*ip))),
            _ => None,
        })
        .map(|data| Record::from_rdata(query.name().clone(), TTL, data))
        .collect();
    if !records.is_empty() {
        let first = turn % records.len();
        records.rotate_left(first);
    }
    records.truncate(ANSWER_LIMIT);
    records
}

fn answer(question: &Message, code: ResponseCode) -> Message {
    let metadata = question.metadata;
    let mut answer = Message::response(metadata.id, metadata.op_code);
    answer.metadata = Metadata::response_from_request(&metadata);
    answer.metadata.recursion_available = true;
    answer.metadata.response_code = code;
    answer.add_queries(question.queries.iter().cloned());
    if question.edns.is_some() {
        let mut edns = Edns::new();
        edns.set_max_payload(LARGEST_UDP);
        answer.set_edns(edns);
    }
    answer
}

/// As it travels, cut if it is longer than `limit` bytes.
pub(crate) fn encode(answer: &Message, limit: usize) -> Option<Vec<u8>> {
    let bytes = answer.to_vec().ok()?;
    match bytes.len() <= limit {
        true => Some(bytes),
        false => answer.truncate().to_vec().ok(),
    }
}

fn udp_limit(question: &Message) -> usize {
    let said = question.edns.as_ref().map_or(PLAIN_UDP, Edns::max_payload);
    usize::from(said.clamp(PLAIN_UDP, LARGEST_UDP))
}

/// The workload's name server.
#[derive(Debug)]
pub(crate) struct NameServer {
    names: watch::Receiver<Arc<Names>>,
    scope: Scope,
    resolvers: Arc<[SocketAddr]>,
    udp: Arc<UdpSocket>,
    tcp: TcpListener,
    questions: Arc<Semaphore>,
}

impl NameServer {
    /// Listens on both transports of an address.
    pub(crate) async fn bind(
        address: SocketAddr,
        names: watch::Receiver<Arc<Names>>,
        scope: Scope,
        resolvers: Vec<SocketAddr>,
    ) -> io::Result<NameServer> {
        let tcp = TcpListener::bind(address).await?;
        let udp = UdpSocket::bind(tcp.local_addr()?).await?;
        Ok(NameServer {
            names,
            scope,
            resolvers: resolvers.into(),
            udp: Arc::new(udp),
            tcp,
            questions: Arc::new(Semaphore::new(QUESTIONS)),
        })
    }

    #[cfg(test)]
    fn address(&self) -> SocketAddr {
        self.tcp.local_addr().unwrap()
    }

    /// Answers, for ever.
    pub(crate) async fn serve(self) {
        let connections = Arc::new(Semaphore::new(CONNECTIONS));
        let mut buffer = vec![0; QUESTION_LIMIT];
        loop {
            tokio::select! {
                received = self.udp.recv_from(&mut buffer) => match received {
                    Ok((length, from)) => self.datagram(&buffer[..length], from).await,
                    Err(error) => {
                        // The answer to an earlier one was refused by its sender.
                        tracing::debug!(%error, "a question for a name was not received");
                    }
                },
                accepted = self.tcp.accept() => match accepted {
                    Ok((stream, _)) => {
                        if let Ok(permit) = connections.clone().try_acquire_owned() {
                            let desk = self.desk();
                            tokio::spawn(async move {
                                let _ = desk.converse(stream).await;
                                drop(permit);
                            });
                        }
                    }
                    Err(error) => {
                        tracing::warn!(%error, "a connection for names was not accepted");
                        tokio::time::sleep(Duration::from_millis(100)).await;
                    }
                },
            }
        }
    }

    fn desk(&self) -> Desk {
        Desk {
            names: self.names.clone(),
            scope: self.scope.clone(),
            resolvers: self.resolvers.clone(),
            questions: self.questions.clone(),
        }
    }

    async fn datagram(&self, bytes: &[u8], from: SocketAddr) {
        let verdict = judge(bytes, &self.names.borrow(), &self.scope);
        match verdict {
            Verdict::Drop => {}
            Verdict::Answer(answer, limit) => {
                if let Some(bytes) = encode(&answer, limit) {
                    let _ = self.udp.send_to(&bytes, from).await;
                }
            }
            Verdict::Ask(question) => {
                let Ok(permit) = self.questions.clone().try_acquire_owned() else {
                    return;
                };
                let (udp, resolvers) = (self.udp.clone(), self.resolvers.clone());
                let bytes = bytes.to_vec();
                tokio::spawn(async move {
                    let reply = match ask_all(&resolvers, &bytes, &question, Transport::Udp).await {
                        Ok(reply) => Some(reply),
                        Err(code) => encode(&answer(&question, code), udp_limit(&question)),
                    };
                    if let Some(reply) = reply {
                        let _ = udp.send_to(&reply, from).await;
                    }
                    drop(permit);
                });
            }
        }
    }
}

/// Answers on one TCP connection.
struct Desk {
    names: watch::Receiver<Arc<Names>>,
    scope: Scope,
    resolvers: Arc<[SocketAddr]>,
    questions: Arc<Semaphore>,
}

impl Desk {
    async fn converse(self, mut stream: TcpStream) -> io::Result<()> {
        loop {
            let question = tokio::time::timeout(IDLE, read_framed(&mut stream)).await??;
            let verdict = judge(&question, &self.names.borrow(), &self.scope);
            let reply = match verdict {
                Verdict::Drop => return Ok(()),
                Verdict::Answer(answer, _) => encode(&answer, usize::from(u16::MAX)),
                Verdict::Ask(asked) => {
                    let Ok(_permit) = self.questions.clone().try_acquire_owned() else {
                        return Ok(());
                    };
                    match ask_all(&self.resolvers, &question, &asked, Transport::Tcp).await {
                        Ok(reply) => Some(reply),
                        Err(code) => encode(&answer(&asked, code), usize::from(u16::MAX)),
                    }
                }
            };
            let Some(reply) = reply else {
                return Ok(());
            };
            tokio::time::timeout(IDLE, write_framed(&mut stream, &reply)).await??;
        }
    }
}

#[derive(Debug, Clone, Copy)]
enum Transport {
    Udp,
    Tcp,
}

/// Asks one resolver after the other; the code to answer with when none answers.
async fn ask_all(
    resolvers: &[SocketAddr],
    bytes: &[u8],
    question: &Message,
    transport: Transport,
) -> Result<Vec<u8>, ResponseCode> {
    if resolvers.is_empty() {
        return Err(ResponseCode::NXDomain);
    }
    for resolver in resolvers {
        let asked = async {
            match transport {
                Transport::Udp => ask_udp(*resolver, bytes, question).await,
                Transport::Tcp => {
                    let mut stream = TcpStream::connect(resolver).await?;
                    write_framed(&mut stream, bytes).await?;
                    let reply = read_framed(&mut stream).await?;
                    match answers(&reply, question) {
                        true => Ok(reply),
                        false => Err(io::ErrorKind::InvalidData.into()),
                    }
                }
            }
        };
        match tokio::time::timeout(RESOLVER_WAIT, asked).await {
            Ok(Ok(reply)) => return Ok(reply),
            Ok(Err(error)) => tracing::debug!(%resolver, %error, "a resolver failed"),
            Err(_) => tracing::debug!(%resolver, "a resolver did not answer"),
        }
    }
    Err(ResponseCode::ServFail)
}

/// A socket, so a port that nobody can foretell, for each question; what does not answer it is passed over.
async fn ask_udp(resolver: SocketAddr, bytes: &[u8], question: &Message) -> io::Result<Vec<u8>> {
    let any: IpAddr = match resolver {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(resolver).await?;
    socket.send(bytes).await?;
    let mut buffer = vec![0; usize::from(u16::MAX)];
    loop {
        let length = socket.recv(&mut buffer).await?;
        if answers(&buffer[..length], question) {
            buffer.truncate(length);
            return Ok(buffer);
        }
    }
}

fn answers(reply: &[u8], question: &Message) -> bool {
    Message::from_vec(reply).is_ok_and(|reply| {
        reply.metadata.message_type == MessageType::Response
            && reply.metadata.id == question.metadata.id
            && reply.queries == question.queries
    })
}

/// A message over TCP has its length before it (RFC 1035, 4.2.2).
async fn read_framed(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let length = stream.read_u16().await?;
    let mut bytes = vec![0; usize::from(length)];
    stream.read_exact(&mut bytes).await?;
    Ok(bytes)
}

async fn write_framed(stream: &mut TcpStream, bytes: &[u8]) -> io::Result<()> {
    let length = u16::try_from(bytes.len()).map_err(|_| io::ErrorKind::InvalidData)?;
    let mut framed = length.to_be_bytes().to_vec();
    framed.extend_from_slice(bytes);
    stream.write_all(&framed).await
}

#[cfg(test)]
mod tests;
