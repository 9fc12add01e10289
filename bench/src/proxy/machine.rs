//! The machine it runs on: which cores, how busy, and what it is.

use std::ffi::OsStr;
use std::fs;
use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::{Pid, setsid};

/// What a reader of figures must know of the machine.
#[derive(Debug, Clone)]
pub struct Machine {
    /// How many cores.
    pub cores: usize,
    /// The processor's name.
    pub processor: String,
    /// The kernel's version.
    pub kernel: String,
    /// GiB of memory.
    pub memory: u64,
}

impl Machine {
    /// Looks.
    pub fn look() -> Machine {
        let text = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let value = |text: &str, name: &str| {
            let line = text.lines().find(|line| line.starts_with(name));
            let value = line.and_then(|line| line.split_once(':'));
            value
                .map(|(_, value)| value.trim().to_owned())
                .unwrap_or_default()
        };
        let memory = value(&text("/proc/meminfo"), "MemTotal");
        let memory = memory
            .split(' ')
            .next()
            .and_then(|kib| kib.parse::<u64>().ok());
        Machine {
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            processor: value(&text("/proc/cpuinfo"), "model name"),
            kernel: text("/proc/sys/kernel/osrelease").trim().to_owned(),
            memory: memory.unwrap_or_default() >> 20,
        }
    }

    /// The day, from the system's own program: nothing else here needs a calendar.
    pub fn date() -> String {
        Machine::said("date", &["+%F"])
    }

    /// What is measured, as git calls it.
    pub fn commit() -> String {
        Machine::said("git", &["describe", "--always", "--dirty", "--abbrev=10"])
    }

    /// What a program prints; nothing when it cannot be asked.
    pub fn said(program: impl AsRef<OsStr>, args: &[&str]) -> String {
        let output = Command::new(program).args(args).output().ok();
        output
            .map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned())
            .unwrap_or_default()
    }

    /// Puts this process and what it starts ahead of the machine's other work, as root: a scheduling group of its own, with a
    /// higher share. For machines that cannot be had quiet.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn ahead() -> Result<(), String> {
        // A leader of its group cannot make a session, but has a scheduling group of its own already.
        let _ = setsid();
        let path = "/proc/self/autogroup";
        fs::write(path, "-15").map_err(|error| format!("--ahead: {path}: {error}"))
    }
}

/// Keeps this thread, and what it starts from now on, on one core. On a machine without that core nothing happens.
pub(crate) fn pin(core: usize) {
    let mut set = CpuSet::new();
    if set.set(core).is_ok() {
        let _ = sched_setaffinity(Pid::from_raw(0), &set);
    }
}

/// The CPU time that all of the machine spent working since it was started, in steps of 10 ms.
pub(crate) fn busy() -> Duration {
    let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
    let first = stat.lines().next().unwrap_or_default();
    let ticks: Vec<u64> = first
        .split_ascii_whitespace()
        .skip(1)
        .filter_map(|word| word.parse().ok())
        .collect();
    // user nice system idle iowait irq softirq steal
    let working = [0, 1, 2, 5, 6, 7]
        .iter()
        .filter_map(|at| ticks.get(*at))
        .sum::<u64>();
    Duration::from_millis(working * 10)
}

/// The CPU time of all threads of a process, to the nanosecond.
pub(crate) fn cpu(pid: u32) -> Duration {
    let threads = fs::read_dir(format!("/proc/{pid}/task"))
        .into_iter()
        .flatten()
        .flatten();
    let nanos = threads.filter_map(|thread| {
        let text = fs::read_to_string(thread.path().join("schedstat")).ok()?;
        text.split(' ').next()?.parse::<u64>().ok()
    });
    Duration::from_nanos(nanos.sum())
}

/// A process's resident memory.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Memory {
    /// All of it, KiB.
    pub(crate) resident: f64,
    /// What no file stands behind, KiB.
    pub(crate) anonymous: f64,
}

pub(crate) fn memory(pid: u32) -> Memory {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let value = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name));
        let kib = line.and_then(|line| line.split_ascii_whitespace().nth(1));
        kib.and_then(|kib| kib.parse().ok()).unwrap_or(0.0)
    };
    Memory {
        resident: value("VmRSS:"),
        anonymous: value("RssAnon:"),
    }
}

/// How many connections to an address stand, counted at who opened them.
pub(crate) fn established_to(address: SocketAddr) -> usize {
    let table = fs::read_to_string("/proc/net/tcp").unwrap_or_default();
    let port = format!(":{:04X}", address.port());
    let stands = table.lines().filter(|line| {
        let mut words = line.split_ascii_whitespace().skip(2);
        let to = words.next().is_some_and(|remote| remote.ends_with(&port));
        to && words.next() == Some("01")
    });
    stands.count()
}
