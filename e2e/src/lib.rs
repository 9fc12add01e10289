//! The workshop of end-to-end tests: the real binary, driven as a user drives it.
//!
//! Read [`Fleet`] first. The tests run it through `cargo xtask test`, which builds the binary and names it in `CATAMARAN_BIN`.

pub mod clusters;

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

/// The binary under test.
///
/// # Panics
/// When `CATAMARAN_BIN` is not set: run `cargo xtask test`.
pub fn binary() -> PathBuf {
    let path = std::env::var_os("CATAMARAN_BIN");
    PathBuf::from(path.expect("CATAMARAN_BIN names the binary under test; run `cargo xtask test`"))
}

/// A fleet in a folder of its own, taken down when the value is dropped.
#[derive(Debug)]
pub struct Fleet {
    dir: tempfile::TempDir,
}

/// What a command printed and how it ended.
#[derive(Debug, Clone)]
pub struct Said {
    /// Its exit code; -1 when a signal ended it.
    pub code: i32,
    /// Its standard output.
    pub out: String,
    /// Its standard error.
    pub err: String,
}

impl Said {
    fn of(output: Output) -> Said {
        Said {
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// The output as JSON.
    ///
    /// # Panics
    /// When it is none; the message holds all that was printed.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.out)
            .unwrap_or_else(|error| panic!("no JSON ({error}): {self:?}"))
    }

    /// The same, after checking that the command succeeded.
    pub fn ok(self) -> Said {
        assert_eq!(self.code, 0, "{}\n{}", self.out, self.err);
        self
    }
}

impl Fleet {
    /// An empty folder for a fleet.
    pub fn empty() -> Fleet {
        let dir = tempfile::Builder::new().prefix("catamaran-e2e-").tempdir();
        Fleet {
            dir: dir.expect("a temporary folder"),
        }
    }

    /// The fleet's folder.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Runs `catamaran --fleet DIR ARGS`.
    pub fn run<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Said {
        let mut command = self.command();
        let output = command.args(args).output().expect("the binary starts");
        Said::of(output)
    }

    /// Runs a command line that holds no quotes, split at blanks.
    pub fn say(&self, line: &str) -> Said {
        self.run(line.split_whitespace())
    }

    /// A command for `catamaran`, with this fleet in its environment.
    pub fn command(&self) -> Command {
        let mut command = Command::new(binary());
        command
            .env("CATAMARAN_FLEET", self.dir())
            .env("NO_COLOR", "1")
            .stdin(Stdio::null());
        command
    }

    /// Asks again until `check` answers, at most `limit`.
    ///
    /// # Panics
    /// When the limit passes; the message is the last thing that was said.
    pub fn until<T>(&self, limit: Duration, line: &str, check: impl Fn(&Said) -> Option<T>) -> T {
        let start = Instant::now();
        loop {
            let said = self.say(line);
            if let Some(answer) = check(&said) {
                return answer;
            }
            assert!(
                start.elapsed() < limit,
                "not within {limit:?}: catamaran {line}: {said:?}"
            );
            std::thread::park_timeout(Duration::from_millis(100));
        }
    }

    /// Processes whose command line or environment names this fleet's folder.
    pub fn processes(&self) -> Vec<(i32, String)> {
        let needle = self.dir().to_str().expect("a UTF-8 path").to_string();
        processes_that_name(&needle)
    }

    /// Network namespaces of this fleet, by the id in `fleet.json`.
    pub fn namespaces(&self) -> Vec<String> {
        let Ok(text) = std::fs::read_to_string(self.dir().join("fleet.json")) else {
            return Vec::new();
        };
        let fleet: Value = serde_json::from_str(&text).expect("fleet.json is JSON");
        namespaces_of(fleet["id"].as_str().expect("an id"))
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        if self.dir().join("fleet.json").exists() {
            let said = self.say("fleet down");
            if said.code != 0 {
                eprintln!("fleet down: {said:?}");
            }
        }
    }
}

/// Processes whose command line holds `needle`: id and command line.
pub fn processes_that_name(needle: &str) -> Vec<(i32, String)> {
    let own = std::process::id() as i32;
    let entries = std::fs::read_dir("/proc").expect("/proc");
    entries
        .filter_map(|entry| {
            let entry = entry.ok()?;
            let pid: i32 = entry.file_name().to_str()?.parse().ok()?;
            let line = std::fs::read(entry.path().join("cmdline")).ok()?;
            let line = String::from_utf8_lossy(&line).replace('\0', " ");
            (pid != own && line.contains(needle)).then_some((pid, line))
        })
        .collect()
}

/// Named network namespaces of the fleet with this id.
pub fn namespaces_of(id: &str) -> Vec<String> {
    let prefix = format!("ctm-{id}-");
    let Ok(entries) = std::fs::read_dir("/run/netns") else {
        return Vec::new();
    };
    entries
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| name.starts_with(&prefix))
        .collect()
}
