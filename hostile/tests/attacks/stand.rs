//! A proxy in a process of its own, what it costs, and a caller that means no harm.

use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use catamaran_hostile::stand::{self, credentials};
use catamaran_hostile::witness::Witness;
use catamaran_identity::CaCertsFiles;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use crate::identity::Forge;
use crate::soon;

/// Which proxy; the child reads it from its environment.
const ROLE: &str = "CATAMARAN_STAND_ROLE";
/// Where what it leads to listens.
const TARGET: &str = "CATAMARAN_STAND_TARGET";
/// A folder with its authority.
const AUTHORITY: &str = "CATAMARAN_STAND_AUTHORITY";
/// How many files it may open.
const FILES: &str = "CATAMARAN_STAND_FILES";

/// The proxy.
pub(crate) struct Stand {
    pub(crate) address: SocketAddr,
    pub(crate) witness: Witness,
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    _folder: tempfile::TempDir,
    pub(crate) forge: Arc<Forge>,
}

/// What a process has used up.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cost {
    /// CPU seconds, user and system.
    pub(crate) cpu: f64,
    /// Resident memory in MiB.
    pub(crate) memory: f64,
}

impl Stand {
    /// A sidecar's way out: HTTP in plain text, to a program that forgives nothing.
    pub(crate) async fn outbound() -> Stand {
        Stand::of("outbound", None).await
    }

    /// A sidecar's way in: mTLS, to the same program.
    pub(crate) async fn inbound() -> Stand {
        Stand::of("inbound", None).await
    }

    /// A way in or out that may open so many files.
    pub(crate) async fn with_files(role: &str, files: u64) -> Stand {
        Stand::of(role, Some(files)).await
    }

    async fn of(role: &str, files: Option<u64>) -> Stand {
        let listener = TcpListener::bind((stand::address(), 0)).await.unwrap();
        let witness = Witness::on(listener).unwrap();
        Stand::start(
            role,
            witness.address,
            witness.clone(),
            Arc::new(Forge::new()),
            files,
        )
    }

    /// A gateway before this sidecar.
    pub(crate) fn gateway_before(sidecar: &Stand) -> Stand {
        let (witness, forge) = (sidecar.witness.clone(), sidecar.forge.clone());
        Stand::start("gateway", sidecar.address, witness, forge, None)
    }

    fn start(
        role: &str,
        target: SocketAddr,
        witness: Witness,
        forge: Arc<Forge>,
        files: Option<u64>,
    ) -> Stand {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in forge.files() {
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        let mut command = Command::new(std::env::current_exe().unwrap());
        command
            .args([
                "stand::a_proxy_in_its_own_process",
                "--exact",
                "--nocapture",
            ])
            .env(ROLE, role)
            .env(TARGET, target.to_string())
            .env(AUTHORITY, folder.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        if let Some(files) = files {
            command.env(FILES, files.to_string());
        }
        let mut child = command.spawn().unwrap();
        let input = child.stdin.take().unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let address = line(&mut output, "address ").parse().unwrap();
        Stand {
            address,
            witness,
            child,
            input,
            output,
            _folder: folder,
            forge,
        }
    }

    /// What it has used up so far.
    pub(crate) fn cost(&self) -> Cost {
        let read = |file: &str| {
            std::fs::read_to_string(format!("/proc/{}/{file}", self.child.id())).unwrap()
        };
        let stat = read("stat");
        let fields: Vec<&str> = stat
            .rsplit(')')
            .next()
            .unwrap()
            .split_whitespace()
            .collect();
        let ticks = |at: usize| fields[at].parse::<f64>().unwrap();
        let pages = read("statm")
            .split_whitespace()
            .nth(1)
            .unwrap()
            .parse::<f64>()
            .unwrap();
        Cost {
            cpu: (ticks(11) + ticks(12)) / 100.0,
            memory: pages * 4.0 / 1024.0,
        }
    }

    /// Its process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The most memory it ever had, in MiB.
    pub(crate) fn peak(&self) -> f64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status
            .lines()
            .find(|line| line.starts_with("VmHWM:"))
            .unwrap();
        line.split_whitespace()
            .nth(1)
            .unwrap()
            .parse::<f64>()
            .unwrap()
            / 1024.0
    }

    /// How many callers it turned away for this reason.
    pub(crate) fn turned(&mut self, reason: &str) -> u64 {
        let name = format!("catamaran_callers_turned_away_total{{reason=\"{reason}\"}} ");
        let all = self.metrics();
        let line = all.iter().find_map(|line| line.strip_prefix(&name));
        line.unwrap_or_else(|| panic!("no {reason}"))
            .parse()
            .unwrap()
    }

    pub(crate) fn metrics(&mut self) -> Vec<String> {
        self.input.write_all(b"metrics\n").unwrap();
        let count: usize = line(&mut self.output, "lines ").parse().unwrap();
        (0..count).map(|_| line(&mut self.output, "")).collect()
    }

    /// Waits until so many callers were turned away for these reasons together: they are counted a moment after they notice.
    pub(crate) async fn until_turned(&mut self, reasons: &[&str], count: u64) {
        let mut turned = 0;
        let wait = async {
            loop {
                turned = reasons.iter().map(|reason| self.turned(reason)).sum();
                if turned >= count {
                    return;
                }
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
        };
        if tokio::time::timeout(crate::PATIENCE, wait).await.is_err() {
            panic!(
                "{turned} of {count} were turned away for {reasons:?}: {:?}",
                self.metrics()
            );
        }
    }
}

impl Drop for Stand {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The rest of the next line with this beginning; the test harness of the child has lines of its own.
fn line(output: &mut BufReader<ChildStdout>, beginning: &str) -> String {
    loop {
        let mut line = String::new();
        assert!(
            output.read_line(&mut line).unwrap() > 0,
            "the proxy's process ended"
        );
        // the harness does not end its line before the test's output
        let line = line.trim_end();
        if let Some(at) = line.find(beginning) {
            return line[at + beginning.len()..].to_owned();
        }
    }
}

/// What an attack may cost: a CPU second for ten thousand bad frames and 16 MiB, with room for builds that are not optimised.
pub(crate) struct Budget {
    before: Cost,
    frames: f64,
    memory: f64,
}

/// How much slower a build for tests is than one for use.
const SLOW_BUILD: f64 = if cfg!(debug_assertions) { 4.0 } else { 1.0 };
/// In MiB.
const MEMORY: f64 = 16.0;

impl Budget {
    pub(crate) fn of(stand: &Stand, frames: usize) -> Budget {
        Budget {
            before: stand.cost(),
            frames: frames as f64,
            memory: MEMORY,
        }
    }

    /// The same with another allowance of memory, in MiB.
    pub(crate) fn memory(self, memory: f64) -> Budget {
        Budget { memory, ..self }
    }

    /// Holds it against what was used.
    pub(crate) fn hold(&self, stand: &Stand) {
        let after = stand.cost();
        let cpu = after.cpu - self.before.cpu;
        let allowed = SLOW_BUILD * (0.5 + self.frames / 10_000.0);
        let memory = stand.peak() - self.before.memory;
        eprintln!(
            "{} bad frames: {cpu:.2} CPU s, {memory:.1} MiB more at the peak",
            self.frames
        );
        assert!(
            cpu <= allowed,
            "{cpu:.2} CPU seconds, {allowed:.2} are allowed"
        );
        assert!(
            memory <= self.memory,
            "{memory:.1} MiB more, {} are allowed",
            self.memory
        );
    }
}

/// A caller that asks again and again until it is told to stop.
pub(crate) struct Healthy {
    stop: Arc<AtomicBool>,
    asked: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Healthy {
    /// By HTTP/1.1 in plain text, on one connection.
    pub(crate) async fn call(stand: &Stand) -> Healthy {
        let stream = TcpStream::connect(stand.address).await.unwrap();
        Healthy::on(stream).await
    }

    pub(crate) async fn on<S>(mut stream: S) -> Healthy
    where
        S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
    {
        let (stop, asked) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(AtomicUsize::new(0)),
        );
        // what is slow before the attack is no measure
        for _ in 0..20 {
            ask(&mut stream).await;
        }
        let (stopped, count) = (stop.clone(), asked.clone());
        let task = tokio::spawn(async move {
            while !stopped.load(Ordering::Relaxed) {
                ask(&mut stream).await;
                count.fetch_add(1, Ordering::Relaxed);
                tokio::time::sleep(std::time::Duration::from_millis(2)).await;
            }
        });
        Healthy { stop, asked, task }
    }

    /// Ends it: every request was answered, and some were asked during the attack.
    pub(crate) async fn was_not_hurt(self) {
        let asked = self.asked.clone();
        soon("an answer to the healthy caller", async {
            let before = asked.load(Ordering::Relaxed);
            while asked.load(Ordering::Relaxed) < before + 3 && !self.task.is_finished() {
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
        })
        .await;
        self.stop.store(true, Ordering::Relaxed);
        self.task.await.expect("each of its requests was answered");
    }
}

async fn ask<S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin>(stream: &mut S) {
    stream
        .write_all(b"GET /healthy HTTP/1.1\r\nhost: helloworld:5000\r\n\r\n")
        .await
        .expect("the connection stands");
    let mut answer = Vec::new();
    soon("an answer to the healthy caller", async {
        while !answer.ends_with(b"/healthy") {
            let count = stream
                .read_buf(&mut answer)
                .await
                .expect("the connection stands");
            assert!(
                count > 0,
                "closed after {:?}",
                String::from_utf8_lossy(&answer)
            );
        }
    })
    .await;
    assert!(
        answer.starts_with(b"HTTP/1.1 200 "),
        "{:?}",
        String::from_utf8_lossy(&answer)
    );
}

/// Not a test: what [`Stand`] starts. Without its environment it does nothing.
#[test]
fn a_proxy_in_its_own_process() {
    let Ok(role) = std::env::var(ROLE) else {
        return;
    };
    if let Ok(files) = std::env::var(FILES) {
        let files = files.parse().unwrap();
        nix::sys::resource::setrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE, files, files)
            .unwrap();
    }
    let target: SocketAddr = std::env::var(TARGET).unwrap().parse().unwrap();
    let folder = std::path::PathBuf::from(std::env::var(AUTHORITY).unwrap());
    let files = CaCertsFiles::collect(|name| std::fs::read_to_string(folder.join(name)).ok());
    let files = files.unwrap();
    let proxy = match role.as_str() {
        "outbound" => stand::outbound(target),
        "inbound" => stand::inbound(target, credentials(&files, "helloworld")),
        "gateway" => stand::gateway(&[target], credentials(&files, "eastwest-gateway")),
        other => panic!("no role {other:?}"),
    };
    println!("address {}", proxy.address);
    for asked in std::io::stdin().lines() {
        if asked.is_ok_and(|asked| asked == "metrics") {
            let text = proxy.report.prometheus();
            println!("lines {}\n{}", text.lines().count(), text.trim_end());
        }
    }
    std::process::exit(0);
}
