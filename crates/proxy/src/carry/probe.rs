//! Asks gateways for a sign of life while no call does.
//!
//! While calls are under way, HTTP/2 pings watch the connections they are on. Between calls nobody would notice that a
//! gateway died, and the next calls would wait to find out; and whether a dead one is back, some call would have to try. So each
//! gateway that was called within the last minute, and not within the last second, is asked once a second: a new
//! connection and a ClientHello for a name that nobody has. Whoever answers anything, a refusal too, lives.
//!
//! A connection that is not taken is evidence at once. Silence is evidence only of a gateway that answered before: another
//! maker's may drop unknown names without a word.

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use catamaran_decide::Verdict;
use rustls::{ClientConfig, ClientConnection, RootCertStore};
use rustls_pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::worker::Worker;

/// The server name of a probe. Our gateway closes such a connection without a line in its log.
pub(crate) const NAME: &str = "probe.catamaran.dev";
/// A gateway that was not called for so long is not asked any more.
pub(crate) const MEMORY: Duration = Duration::from_secs(60);
/// A gateway that a call was on so recently needs no asking.
const FRESH: Duration = Duration::from_millis(900);
/// How long a connection may take, and how long an answer.
const PATIENCE: Duration = Duration::from_secs(1);
/// The most gateways that are asked by one worker; the calls to others find out by themselves.
const GATEWAYS: usize = 64;

/// The gateways that a worker called lately.
#[derive(Default)]
pub(crate) struct Probes(RefCell<HashMap<SocketAddr, Probed>>);

struct Probed {
    used_at: Instant,
    /// It answered a probe once, so that its silence means something.
    answers: bool,
    under_way: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sign {
    Life,
    Silence,
    NoConnection,
}

impl Probes {
    /// Asks those that are to be asked now. To be called every second.
    pub(crate) fn go_round(&self, worker: &Rc<Worker>) {
        let now = Instant::now();
        let mut known = self.0.borrow_mut();
        for (address, used_at) in worker.pools.gateways(now) {
            if known.len() >= GATEWAYS && !known.contains_key(&address) {
                continue;
            }
            let probed = known.entry(address).or_insert(Probed {
                used_at,
                answers: false,
                under_way: false,
            });
            probed.used_at = probed.used_at.max(used_at);
        }
        known.retain(|_, probed| now.duration_since(probed.used_at) < MEMORY);
        for (address, probed) in known.iter_mut() {
            if !probed.under_way && now.duration_since(probed.used_at) >= FRESH {
                probed.under_way = true;
                let (worker, address) = (worker.clone(), *address);
                tokio::task::spawn_local(async move {
                    let sign = ask(address).await;
                    worker.probes.hear(&worker, address, sign);
                });
            }
        }
    }

    fn hear(&self, worker: &Worker, address: SocketAddr, sign: Sign) {
        let mut known = self.0.borrow_mut();
        let Some(probed) = known.get_mut(&address) else {
            return;
        };
        probed.under_way = false;
        let reached = match sign {
            Sign::Life => {
                probed.answers = true;
                true
            }
            Sign::Silence if !probed.answers => return,
            Sign::Silence | Sign::NoConnection => false,
        };
        let now = worker.now();
        let verdict = worker.view.borrow_mut().probed(address, reached, now);
        match verdict {
            Verdict::GatewaySuspect => {
                tracing::info!(%address, ?sign, "a gateway does not answer; calls go elsewhere");
                worker.pools.abandon(address, None);
            }
            Verdict::Returned => tracing::info!(%address, "a gateway answers again"),
            Verdict::Unchanged | Verdict::Ejected | Verdict::Suspect => {}
        }
    }
}

async fn ask(address: SocketAddr) -> Sign {
    let Ok(Ok(mut stream)) = timeout(PATIENCE, TcpStream::connect(address)).await else {
        return Sign::NoConnection;
    };
    let Some(hello) = hello() else {
        return Sign::Life;
    };
    let answer = async {
        // an error is an answer: somebody refused
        if stream.write_all(&hello).await.is_ok() {
            let _ = stream.read_u8().await;
        }
    };
    match timeout(PATIENCE, answer).await {
        Ok(()) => Sign::Life,
        Err(_) => Sign::Silence,
    }
}

/// The first bytes of a client that asks for [`NAME`] and trusts nobody.
fn hello() -> Option<Vec<u8>> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .ok()?
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    let name = ServerName::try_from(NAME).ok()?;
    let mut connection = ClientConnection::new(Arc::new(config), name).ok()?;
    let mut hello = Vec::new();
    connection.write_tls(&mut hello).ok()?;
    Some(hello)
}
