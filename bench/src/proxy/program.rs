//! The proxies as processes.

use std::fs::File;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::machine::{self, Memory, pin};
use super::{Bootstrap, Certificates, Place};

/// Whose proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// `catamaran proxy --static`
    Ours,
    /// `envoy -c`
    Envoy,
}

impl Kind {
    /// Its name in tables.
    pub fn word(self) -> &'static str {
        match self {
            Kind::Ours => "ours",
            Kind::Envoy => "envoy",
        }
    }
}

/// Where the programs are and how they are started.
#[derive(Debug, Clone)]
pub struct Programs {
    /// `catamaran`
    pub ours: PathBuf,
    /// `envoy`
    pub envoy: PathBuf,
    /// Where bootstraps and logs go.
    pub dir: PathBuf,
    /// The key and certificates of both.
    pub certificates: Certificates,
    /// The core of the proxies.
    pub core: usize,
    /// The core of who starts them.
    pub own_core: usize,
}

/// A proxy that runs; it ends with this value.
#[derive(Debug)]
pub struct Program {
    /// Where in the path it stands.
    pub place: Place,
    /// Where it listens.
    pub listen: SocketAddr,
    /// From its start until it took connections.
    pub ready: Duration,
    child: Child,
}

/// The longest time a proxy may take until it listens.
const PATIENCE: Duration = Duration::from_secs(60);

impl Programs {
    /// Starts one and waits until it takes connections.
    ///
    /// # Errors
    /// When it ends, with what it said, or does not listen in time.
    pub fn start(&self, kind: Kind, bootstrap: &Bootstrap) -> Result<Program, String> {
        let name = format!("{}-{}", kind.word(), bootstrap.place.word());
        let failed = |path: &Path, error: std::io::Error| format!("{}: {error}", path.display());
        let file = self.dir.join(format!("{name}.json"));
        let text = bootstrap.json(&self.certificates).to_string();
        std::fs::write(&file, text).map_err(|error| failed(&file, error))?;
        let log = self.dir.join(format!("{name}.log"));
        let out = File::create(&log).map_err(|error| failed(&log, error))?;
        let err = out.try_clone().map_err(|error| failed(&log, error))?;
        let mut command = match kind {
            Kind::Ours => {
                let mut command = Command::new(&self.ours);
                command
                    .args([
                        "proxy",
                        "--workers",
                        "1",
                        "--access-log",
                        "/dev/null",
                        "--static",
                    ])
                    .arg(&file);
                command
            }
            Kind::Envoy => {
                let mut command = Command::new(&self.envoy);
                command
                    .args([
                        "--concurrency",
                        "1",
                        "--disable-hot-restart",
                        "-l",
                        "error",
                        "-c",
                    ])
                    .arg(&file);
                command
            }
        };
        command.stdin(Stdio::null()).stdout(out).stderr(err);
        let started = Instant::now();
        pin(self.core);
        let child = command.spawn();
        pin(self.own_core);
        let child = child.map_err(|error| format!("{} could not be started: {error}", name))?;
        let mut program = Program {
            place: bootstrap.place,
            listen: bootstrap.listen,
            ready: Duration::ZERO,
            child,
        };
        while TcpStream::connect_timeout(&bootstrap.listen, Duration::from_millis(500)).is_err() {
            let ended = program
                .child
                .try_wait()
                .map_err(|error| failed(&log, error))?;
            if ended.is_some() || started.elapsed() > PATIENCE {
                let said = std::fs::read_to_string(&log).unwrap_or_default();
                let said: String = said.chars().take(2000).collect();
                let what = ended.map_or("does not listen".into(), |status| {
                    format!("ended ({status})")
                });
                return Err(format!("{name} {what}: {said}"));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        program.ready = started.elapsed();
        Ok(program)
    }
}

impl Program {
    /// The CPU time of all its threads.
    pub(crate) fn cpu(&self) -> Duration {
        machine::cpu(self.child.id())
    }

    pub(crate) fn memory(&self) -> Memory {
        machine::memory(self.child.id())
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A port of loopback that nobody listens on.
pub(crate) fn free_port() -> Result<SocketAddr, String> {
    let listener = TcpListener::bind(("127.0.0.1", 0));
    let address = listener.and_then(|listener| listener.local_addr());
    address.map_err(|error| format!("no port of 127.0.0.1 is free: {error}"))
}
