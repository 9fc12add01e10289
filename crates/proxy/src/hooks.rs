//! What the hooks of a sidecar's container wait for, where the node starts and ends all containers of a pod at once.
//!
//! Where sidecars are native (`restartPolicy: Always` on an init container), neither is needed: the node starts the workload
//! after the sidecar, and ends the sidecar after the workload. Elsewhere [`until_ready`] holds the workload back until its
//! sidecar can serve it (`postStart`), and [`until_alone`] holds the sidecar's end back while the workload still serves or calls
//! (`preStop`).

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use crate::ports;

/// How often it is looked.
const LOOK: Duration = Duration::from_millis(200);
/// How long one question may take.
const WAIT: Duration = Duration::from_secs(2);
/// The longest reason that is read, in bytes.
const REASON: usize = 4 << 10;
/// How long the workload must have been without a socket: between two calls it has none either.
const ALONE: Duration = Duration::from_secs(1);

/// Waits until the proxy at one of these addresses is ready; with none, at the health port of any of this machine's own.
///
/// # Errors
/// It is not in this time; why each was not, when it was asked last.
pub async fn until_ready(health: &[SocketAddr], time: Duration) -> Result<(), String> {
    let until = Instant::now() + time;
    let mut why = "nobody was asked".to_owned();
    loop {
        // A pod may get its addresses while this waits.
        let at = match health {
            [] => own_addresses(),
            said => said.to_vec(),
        };
        if at.is_empty() {
            why = "this machine has no address but loopback; say --health IP:PORT".into();
        }
        let mut reasons = Vec::new();
        for address in at {
            match timeout_at(until, is_ready(address)).await {
                Ok(Ok(())) => return Ok(()),
                Ok(Err(reason)) => reasons.push(format!("{address}: {reason}")),
                Err(_) => break,
            }
        }
        if !reasons.is_empty() {
            why = reasons.join("; ");
        }
        if Instant::now() + LOOK >= until {
            return Err(why);
        }
        sleep(LOOK).await;
    }
}

fn own_addresses() -> Vec<SocketAddr> {
    let Ok(all) = nix::ifaddrs::getifaddrs() else {
        return Vec::new();
    };
    let mut found: Vec<SocketAddr> = all
        .filter_map(|link| {
            let address = link.address?;
            let four = address.as_sockaddr_in().map(|at| at.ip().into());
            let ip = four.or_else(|| Some(address.as_sockaddr_in6()?.ip().into()))?;
            // One that needs a link beside it is no pod's.
            let local = matches!(ip, std::net::IpAddr::V6(ip) if ip.is_unicast_link_local());
            (!ip.is_loopback() && !local).then(|| SocketAddr::new(ip, ports::HEALTH))
        })
        .collect();
    found.dedup();
    found
}

async fn is_ready(address: SocketAddr) -> Result<(), String> {
    let asked = timeout(WAIT, ask(address)).await;
    let (status, body) = asked
        .map_err(|_| format!("no answer within {} s", WAIT.as_secs()))?
        .map_err(|error| error.to_string())?;
    match status {
        StatusCode::OK => Ok(()),
        _ => Err(String::from_utf8_lossy(&body).trim().replace('\n', "; ")),
    }
}

async fn ask(
    address: SocketAddr,
) -> Result<(StatusCode, Bytes), Box<dyn std::error::Error + Send + Sync>> {
    let stream = TcpStream::connect(address).await?;
    let (mut client, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let request = Request::get("/healthz/ready")
        .header(header::HOST, address.to_string())
        .header(header::CONNECTION, "close")
        .body(Empty::<Bytes>::new())?;
    let asked = async {
        let (head, body) = client.send_request(request).await?.into_parts();
        let body = Limited::new(body, REASON).collect().await?.to_bytes();
        Ok((head.status, body))
    };
    tokio::pin!(asked);
    tokio::pin!(connection);
    tokio::select! {
        answer = &mut asked => answer,
        _ = &mut connection => asked.await,
    }
}

/// Waits until no program of this network namespace, but those of the user who asks, listens or is connected over TCP; at most
/// for this time. Says how many sockets are left then.
///
/// # Errors
/// The kernel does not show its sockets.
pub async fn until_alone(time: Duration) -> io::Result<usize> {
    let own = nix::unistd::geteuid().as_raw();
    let until = Instant::now() + time;
    let mut since = None;
    loop {
        let left = sockets(own)?;
        let now = Instant::now();
        since = match left {
            0 => since.or(Some(now)),
            _ => None,
        };
        let alone = since.is_some_and(|since| now - since >= ALONE);
        if alone || now >= until {
            return Ok(left);
        }
        sleep(LOOK.min(until - now)).await;
    }
}

fn sockets(own: u32) -> io::Result<usize> {
    let of = |file: &str| std::fs::read_to_string(file).map(|table| others(&table, own));
    // A kernel without IPv6 has no such table.
    Ok(of("/proc/net/tcp")? + of("/proc/net/tcp6").unwrap_or(0))
}

/// How many sockets in such a table are of others and in use. Source: the kernel's `Documentation/networking/proc_net_tcp`.
fn others(table: &str, own: u32) -> usize {
    let used = |line: &&str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [_, _, _, state, _, _, _, user, _, inode, ..] = fields[..] else {
            return false;
        };
        // Established, connecting, half closed by the other side, listening. Without an inode no program has it any more.
        matches!(state, "01" | "02" | "08" | "0A") && inode != "0" && user.parse() != Ok(own)
    };
    table.lines().skip(1).filter(used).count()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use catamaran_process::http::{Listener, serve, text};
    use catamaran_process::{Config as Life, Process};
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn it_is_waited_for_readiness() {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let process = Process::start(Life::quiet("test"));
        let asked = Arc::<AtomicUsize>::default();
        let count = asked.clone();
        let served = serve(
            Listener::Tcp(listener),
            process.stopping(),
            move |request| {
                assert_eq!(request.uri().path(), "/healthz/ready");
                let ready = count.fetch_add(1, Ordering::Relaxed) == 2;
                async move {
                    match ready {
                        true => text(StatusCode::OK, "LIVE\n"),
                        false => text(StatusCode::SERVICE_UNAVAILABLE, "not ready\nwhy\n"),
                    }
                }
            },
        );
        process.run("health", served);
        let gone = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let nobody = gone.local_addr().unwrap();
        drop(gone);
        let why = until_ready(&[nobody, address], Duration::from_millis(100)).await;
        let why = why.unwrap_err();
        assert!(why.contains(&format!("{address}: not ready; why")), "{why}");
        assert!(why.contains(&nobody.to_string()), "{why}");
        until_ready(&[nobody, address], Duration::from_secs(20))
            .await
            .unwrap();
        assert_eq!(asked.load(Ordering::Relaxed), 3);
    }

    #[test]
    fn sockets_of_others_in_use_are_counted() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 00000000:3A99 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1337        0 101 1 0 100 0 0 10 0
   1: 00000000:1388 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 102 1 0 100 0 0 10 0
   2: 0100007F:1388 0100007F:9C40 01 00000000:00000000 00:00000000 00000000  1000        0 103 1 0 20 4 30 10 -1
   3: 0100007F:9C40 0100007F:1388 06 00000000:00000000 03:00001770 00000000     0        0 0 3 0
   4: 0100007F:1388 0100007F:9C42 01 00000000:00000000 00:00000000 00000000     0        0 0 1 0 20 4 30 10 -1
   5: 0100007F:1388 0100007F:9C44 08 00000000:00000000 00:00000000 00000000  1000        0 104 1 0 20 4 30 10 -1
 gibberish
";
        assert_eq!(others(table, 1337), 3);
        assert_eq!(others(table, 1000), 2);
    }

    #[tokio::test]
    async fn the_end_of_others_is_not_waited_for_for_ever() {
        // Programs of other users may listen on the machine of this test, or none.
        let before = Instant::now();
        until_alone(Duration::from_millis(300)).await.unwrap();
        assert!(before.elapsed() < Duration::from_secs(10));
    }
}
