//! The control plane under test: a process of its own, and what the system says that it used.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::world::World;

/// Only what hangs takes so long.
const START: Duration = Duration::from_secs(120);

/// A control plane that runs.
pub(crate) struct Plane {
    child: Child,
    socket: PathBuf,
    /// Where proxies reach it.
    pub(crate) address: SocketAddr,
    /// From the start of the process until it said that it is ready.
    pub(crate) start: Duration,
    /// CPU of each thread that was seen, gone ones too.
    threads: BTreeMap<u64, u64>,
}

impl Drop for Plane {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What it did so far, as its own counters say.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Counts {
    /// Resources that were translated anew, by class.
    pub(crate) changed: u64,
    /// Times that a stream was woken.
    pub(crate) woken: u64,
    /// Responses sent.
    pub(crate) responses: u64,
    /// Their bytes, before TLS.
    pub(crate) bytes: u64,
}

/// What the machine could still give, in bytes.
pub(crate) fn free_memory() -> Result<u64> {
    let text = std::fs::read_to_string("/proc/meminfo")?;
    let mut lines = text.lines();
    let free = lines.find_map(|line| line.strip_prefix("MemAvailable:")?.strip_suffix(" kB"));
    Ok(free.context("no MemAvailable")?.trim().parse::<u64>()? * 1024)
}

impl Plane {
    /// Starts it and waits until it is ready.
    pub(crate) fn start(binary: &Path, world: &World) -> Result<Plane> {
        // A port that was free a moment ago; another program may take it in between, which ends the run with its name.
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let begin = Instant::now();
        let child = Command::new(binary)
            .args([
                "control-plane",
                "--cluster",
                "cluster-1",
                "--mesh",
                "mesh-1",
            ])
            .arg("--fleet")
            .arg(world.path())
            .args(["--listen", &address.to_string()])
            .env("CATAMARAN_LOG", "warn")
            .stdin(Stdio::null())
            .spawn()
            .with_context(|| binary.display().to_string())?;
        let mut plane = Plane {
            child,
            socket: world.socket(),
            address,
            start: Duration::ZERO,
            threads: BTreeMap::new(),
        };
        while !plane
            .ask("/ready")
            .is_ok_and(|answer| answer.starts_with("HTTP/1.1 200"))
        {
            if let Some(status) = plane.child.try_wait()? {
                bail!("the control plane ended: {status}");
            }
            if begin.elapsed() > START {
                bail!("the control plane is not ready after {START:?}");
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        plane.start = begin.elapsed();
        Ok(plane)
    }

    fn ask(&self, path: &str) -> Result<String> {
        let mut stream = UnixStream::connect(&self.socket)?;
        stream.set_read_timeout(Some(START))?;
        write!(
            stream,
            "GET {path} HTTP/1.1\r\nhost: door\r\nconnection: close\r\n\r\n"
        )?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    }

    /// Its own counters.
    pub(crate) fn counts(&self) -> Result<Counts> {
        let text = self.ask("/metrics")?;
        let value = |name: &str| -> Result<u64> {
            let line = text
                .lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix("_total "));
            let line = line.with_context(|| format!("the control plane does not count {name}"))?;
            Ok(line.trim().parse()?)
        };
        Ok(Counts {
            changed: value("catamaran_resources_changed")?,
            woken: value("catamaran_streams_woken")?,
            responses: value("catamaran_responses")?,
            bytes: value("catamaran_response_bytes")?,
        })
    }

    /// CPU time used so far, of all threads, those that ended included as far as they were seen.
    pub(crate) fn cpu(&mut self) -> Result<Duration> {
        let tasks = format!("/proc/{}/task", self.child.id());
        for task in std::fs::read_dir(&tasks).context(tasks)? {
            let task = task?;
            let id = task.file_name().to_string_lossy().parse()?;
            // A thread that ends while it is looked at keeps what was seen of it.
            let Ok(text) = std::fs::read_to_string(task.path().join("schedstat")) else {
                continue;
            };
            let used = text.split(' ').next().unwrap_or_default().parse()?;
            self.threads.insert(id, used);
        }
        Ok(Duration::from_nanos(self.threads.values().sum()))
    }

    /// Anonymous memory in use, in bytes.
    pub(crate) fn memory(&self) -> Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("RssAnon:"));
        let kib = line.and_then(|line| line.trim().strip_suffix(" kB"));
        Ok(kib.context("no RssAnon")?.trim().parse::<u64>()? * 1024)
    }
}
