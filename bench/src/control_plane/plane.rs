//! The control plane under test: a process of its own, and what the system says that it used.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

/// Only what hangs takes so long.
const START: Duration = Duration::from_secs(120);
/// A control plane that is told to end takes less than this.
const END: Duration = Duration::from_secs(60);

/// A control plane that runs.
#[derive(Debug)]
pub struct Plane {
    child: Child,
    socket: PathBuf,
    begin: Instant,
    /// Where proxies reach it.
    pub address: SocketAddr,
    /// From the start of the process until it said that it is ready.
    pub start: Duration,
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
pub struct Counts {
    /// Resources that were translated anew, by class.
    pub changed: u64,
    /// Times that a stream was woken.
    pub woken: u64,
    /// Responses sent.
    pub responses: u64,
    /// Their bytes, before TLS.
    pub bytes: u64,
}

/// A control plane's memory, in bytes.
#[derive(Debug, Clone, Copy, Default)]
pub struct Memory {
    /// Resident: all of it, pages of the binary included.
    pub resident: u64,
    /// What no file stands behind.
    pub anonymous: u64,
    /// The most that was resident so far.
    pub peak: u64,
}

/// What the machine could still give, in bytes.
pub fn free_memory() -> Result<u64> {
    let text = std::fs::read_to_string("/proc/meminfo")?;
    let mut lines = text.lines();
    let free = lines.find_map(|line| line.strip_prefix("MemAvailable:")?.strip_suffix(" kB"));
    Ok(free.context("no MemAvailable")?.trim().parse::<u64>()? * 1024)
}

impl Plane {
    /// Starts it with this command line, to which only the address for proxies is added, and waits until it is ready.
    ///
    /// # Errors
    /// When it cannot be started, ends, or is not ready in time.
    pub fn start(command: &mut Command, socket: PathBuf) -> Result<Plane> {
        // A port that was free a moment ago; another program may take it in between, which ends the run with its name.
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let begin = Instant::now();
        let child = command
            .args(["--listen", &address.to_string()])
            .env("CATAMARAN_LOG", "warn")
            .stdin(Stdio::null())
            .spawn()
            .with_context(|| command.get_program().display().to_string())?;
        let mut plane = Plane {
            child,
            socket,
            begin,
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

    /// How long ago it was started.
    pub fn age(&self) -> Duration {
        self.begin.elapsed()
    }

    /// What it says of itself to people.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn status(&self) -> Result<Value> {
        let answer = self.ask("/v1/status")?;
        let body = answer.split_once("\r\n\r\n").map(|(_, body)| body);
        serde_json::from_str(body.unwrap_or_default()).context("the control plane's status")
    }

    /// Ends it as a node does, so that it saves what it knows.
    ///
    /// # Errors
    /// When it has not ended after a minute.
    pub fn end(mut self) -> Result<()> {
        let pid = Pid::from_raw(self.child.id().try_into()?);
        kill(pid, Signal::SIGTERM)?;
        let asked = Instant::now();
        while self.child.try_wait()?.is_none() {
            if asked.elapsed() > END {
                bail!("the control plane does not end within {END:?} of SIGTERM");
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Its own counters.
    ///
    /// # Errors
    /// When it does not answer, or does not count what is asked for.
    pub fn counts(&self) -> Result<Counts> {
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
    ///
    /// # Errors
    /// When it has ended.
    pub fn cpu(&mut self) -> Result<Duration> {
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

    /// Memory in use.
    ///
    /// # Errors
    /// When it has ended.
    pub fn memory(&self) -> Result<Memory> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let value = |name: &str| -> Result<u64> {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            let kib = line.and_then(|line| line.trim().strip_suffix(" kB"));
            Ok(kib.context(name.to_owned())?.trim().parse::<u64>()? * 1024)
        };
        Ok(Memory {
            resident: value("VmRSS:")?,
            anonymous: value("RssAnon:")?,
            peak: value("VmHWM:")?,
        })
    }
}
