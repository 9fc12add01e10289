//! A process that was started once and must not be mistaken for another one with the same number.

use std::fs;
use std::io;
use std::path::Path;

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use crate::atomic;

/// A process by its number, and the time at which it started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Running {
    /// Its number.
    pub pid: i32,
    /// When it started, in the system's ticks since boot (`/proc/PID/stat`, field 22).
    pub started: u64,
    /// Which boot the ticks count from.
    pub boot: String,
}

struct Stat {
    state: char,
    session: i32,
    started: u64,
}

impl Running {
    /// The process that has this number now; a dead one that nobody has waited for yet counts too.
    pub fn of(pid: i32) -> Option<Running> {
        let stat = stat(pid)?;
        Some(Running {
            pid,
            started: stat.started,
            boot: boot(),
        })
    }

    /// This process.
    pub fn this() -> Option<Running> {
        Running::of(std::process::id() as i32)
    }

    /// Reads a record; one that is missing, half-written or damaged is none.
    pub fn read(record: &Path) -> Option<Running> {
        serde_json::from_slice(&fs::read(record).ok()?).ok()
    }

    /// Writes a record, mode 0600.
    pub fn write(&self, record: &Path) -> io::Result<()> {
        let mut text = serde_json::to_vec(self)?;
        text.push(b'\n');
        atomic::write(record, &text, 0o600)
    }

    /// Whether this very process still runs, with any of its threads: the first one may be dead while others still hold files.
    pub fn alive(&self) -> bool {
        let Some(stat) = stat(self.pid).filter(|stat| stat.started == self.started) else {
            return false;
        };
        let dead = matches!(stat.state, 'Z' | 'X') && threads(self.pid) <= 1;
        self.pid > 1 && !dead && boot() == self.boot
    }

    /// Sends a signal to it, when it still runs.
    pub fn signal(&self, signal: Signal) {
        if self.alive() {
            let _ = kill(Pid::from_raw(self.pid), signal);
        }
    }

    /// Sends a signal to its group, of which it is the leader, when it still runs.
    pub fn signal_group(&self, signal: Signal) {
        if self.alive() && killpg(Pid::from_raw(self.pid), signal) == Err(Errno::ESRCH) {
            self.signal(signal);
        }
    }

    /// Kills whatever its session still holds, also when it is dead itself. A process that began before it is another's.
    pub fn kill_session(&self) {
        self.signal_group(Signal::SIGKILL);
        if boot() != self.boot {
            return;
        }
        for (pid, stat) in all() {
            if stat.session == self.pid && stat.started >= self.started {
                let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
            }
        }
    }
}

fn boot() -> String {
    let id = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    id.trim().to_owned()
}

fn stat(pid: i32) -> Option<Stat> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name of the program, in parentheses, may hold anything.
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
    Some(Stat {
        state: fields.first()?.chars().next()?,
        session: fields.get(3)?.parse().ok()?,
        started: fields.get(19)?.parse().ok()?,
    })
}

fn threads(pid: i32) -> usize {
    fs::read_dir(format!("/proc/{pid}/task")).map_or(0, Iterator::count)
}

fn all() -> impl Iterator<Item = (i32, Stat)> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| {
        let pid = entry.file_name().to_str()?.parse().ok()?;
        Some((pid, stat(pid)?))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    #[test]
    fn a_process_with_the_same_number_is_another_one() {
        let mut child = Command::new("/bin/sleep")
            .arg("60")
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let running = Running::of(child.id() as i32).unwrap();
        assert!(running.alive());
        let other = Running {
            started: running.started + 1,
            ..running.clone()
        };
        assert!(!other.alive());
        other.signal(Signal::SIGKILL);
        assert!(
            child.try_wait().unwrap().is_none(),
            "another one's signal reached it"
        );
        running.signal(Signal::SIGKILL);
        child.wait().unwrap();
        assert!(!running.alive());
    }

    #[test]
    fn a_damaged_record_is_none() {
        let tmp = tempfile::tempdir().unwrap();
        let record = tmp.path().join("node.json");
        assert_eq!(Running::read(&record), None);
        fs::write(&record, "{\"pid\": 1").unwrap();
        assert_eq!(Running::read(&record), None);
        let this = Running::this().unwrap();
        this.write(&record).unwrap();
        assert_eq!(Running::read(&record), Some(this));
    }
}
