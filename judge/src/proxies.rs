//! Starts the two proxies on one world and ends them.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// How long a proxy may take to be ready.
const READY: Duration = Duration::from_secs(60);

/// Whose proxy it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Maker {
    /// Envoy's.
    Envoy,
    /// Ours.
    Ours,
}

/// An address of loopback that nobody else in this process has, and hardly anybody outside.
pub fn address() -> IpAddr {
    static LAST: AtomicU8 = AtomicU8::new(1);
    let id = std::process::id();
    let last = LAST.fetch_add(1, Ordering::Relaxed);
    IpAddr::from(Ipv4Addr::new(
        127,
        64 + (id >> 8) as u8 % 128,
        id as u8,
        last,
    ))
}

/// A proxy that runs.
#[derive(Debug)]
pub struct Proxy {
    /// Whose.
    pub maker: Maker,
    /// Where its listeners are.
    pub ip: IpAddr,
    child: Child,
    log: PathBuf,
}

/// The program of a maker.
///
/// # Panics
/// When the environment does not name it and it is not where the workshop's commands put it.
fn program(maker: Maker) -> PathBuf {
    let (variable, place, how) = match maker {
        Maker::Envoy => (
            "CATAMARAN_ENVOY",
            "tools/envoy-1.40.0/envoy",
            "cargo xtask envoy",
        ),
        Maker::Ours => ("CATAMARAN_BIN", "debug/catamaran", "cargo xtask build"),
    };
    let path = std::env::var_os(variable).map_or_else(
        || {
            let target = std::env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
            let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target");
            target.unwrap_or(root).join(place)
        },
        PathBuf::from,
    );
    assert!(
        path.is_file(),
        "{} is not there; make it by `{how}` or name one in {variable}",
        path.display()
    );
    path
}

/// The port of the admin interface.
const ADMIN: u16 = 19000;

impl Proxy {
    /// Writes the bootstrap for a proxy at an address of its own and starts it. `listeners` have the address `"IP"`.
    ///
    /// # Panics
    /// When it does not become ready; what it said is shown.
    pub async fn start(maker: Maker, folder: &Path, resources: &Value) -> Proxy {
        let ip = address();
        let name = format!("{maker:?}").to_lowercase();
        let text = json!({
            "node": {"id": "judge", "cluster": "judge"},
            "admin": {"address": {"socket_address": {"address": ip.to_string(), "port_value": ADMIN}}},
            "static_resources": resources,
        });
        let text = text.to_string().replace("\"IP\"", &format!("\"{ip}\""));
        let (file, log) = (
            folder.join(format!("{name}.json")),
            folder.join(format!("{name}.log")),
        );
        std::fs::write(&file, text).unwrap();
        let said = std::fs::File::create(&log).unwrap();
        let mut command = Command::new(program(maker));
        match maker {
            Maker::Envoy => command.arg("-c").arg(&file).args([
                "--concurrency",
                "1",
                "--disable-hot-restart",
                "-l",
                "error",
            ]),
            Maker::Ours => command
                .args(["proxy", "--workers", "1", "--static"])
                .arg(&file)
                .arg("--access-log")
                .arg(folder.join("access.log")),
        };
        let child = command
            .stdin(Stdio::null())
            .stdout(said.try_clone().unwrap())
            .stderr(said)
            .spawn()
            .unwrap();
        let mut proxy = Proxy {
            maker,
            ip,
            child,
            log,
        };
        proxy.ready().await;
        proxy
    }

    async fn ready(&mut self) {
        let end = Instant::now() + READY;
        let asking = b"GET /ready HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
        while Instant::now() < end {
            let admin = SocketAddr::new(self.ip, ADMIN);
            let (answers, _) = crate::caller::call(admin, &[asking.to_vec()], &["GET"]).await;
            if matches!(&answers[..], [Ok(answer)] if answer.status == 200) {
                return;
            }
            if self.child.try_wait().unwrap().is_some() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("{:?} is not ready: {}", self.maker, self.said());
    }

    /// What it wrote.
    pub fn said(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Whether it runs.
    pub fn lives(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
