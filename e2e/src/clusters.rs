//! Real clusters for tests, started by the program that `CATAMARAN_CLUSTERS` names (`cargo xtask cluster build` prints it).

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::{Said, binary};

/// How long something may take to come true on a machine with other work.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// The program of the test clusters.
///
/// # Panics
/// When `CATAMARAN_CLUSTERS` is not set.
pub fn program() -> PathBuf {
    let path = std::env::var_os("CATAMARAN_CLUSTERS");
    PathBuf::from(path.expect("CATAMARAN_CLUSTERS names the program of the test clusters; `cargo xtask cluster build` prints it"))
}

/// The images that nodes get: archives whose paths `CATAMARAN_IMAGES` holds, with ':' between them.
fn images() -> Vec<String> {
    let paths = std::env::var("CATAMARAN_IMAGES");
    let paths = paths.expect("CATAMARAN_IMAGES names the archives of `cargo xtask image`");
    paths.split(':').map(str::to_owned).collect()
}

/// A cluster with a node, ended when the value is dropped; what its parts wrote stays when a test fails.
#[derive(Debug)]
pub struct Cluster {
    folder: PathBuf,
}

impl Cluster {
    /// Starts a cluster in this folder, whose name is that of its context.
    ///
    /// # Panics
    /// When it does not start; the message holds what was said.
    pub fn up(folder: PathBuf, flags: &[&str]) -> Cluster {
        let cluster = Cluster { folder };
        let mut line = vec!["up", cluster.path(), "--audit"];
        line.extend(flags);
        let images = images();
        for image in &images {
            line.extend(["--image", image]);
        }
        call(&line);
        cluster
    }

    /// Its folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    fn path(&self) -> &str {
        self.folder.to_str().expect("a UTF-8 path")
    }

    /// The name of its context.
    pub fn name(&self) -> &str {
        let name = self.folder.file_name().and_then(|name| name.to_str());
        name.expect("a UTF-8 name")
    }

    /// `kubectl WORDS` as its administrator, split at blanks.
    pub fn kubectl(&self, words: &str) -> Said {
        self.run(&words.split_whitespace().collect::<Vec<_>>(), "")
    }

    /// `kubectl WORDS`, with a text on its standard input.
    pub fn run(&self, words: &[&str], input: &str) -> Said {
        let mut command = Command::new(program().with_file_name("kubectl"));
        command
            .arg("--kubeconfig")
            .arg(self.folder.join("kubeconfig"));
        command.args(words);
        said(command, input)
    }

    /// Applies manifests.
    ///
    /// # Panics
    /// When one is refused.
    pub fn apply(&self, manifests: &str) {
        self.run(&["apply", "-f", "-"], manifests).ok();
    }

    /// `kubectl WORDS -o json`.
    ///
    /// # Panics
    /// When it fails.
    pub fn json(&self, words: &str) -> Value {
        self.kubectl(&format!("{words} -o json")).ok().json()
    }

    /// A script in a container of a pod of this deployment.
    pub fn exec(&self, deployment: &str, script: &str) -> Said {
        let (target, container) = (format!("deploy/{deployment}"), deployment);
        let line = ["exec", &target, "-c", container, "--", "sh", "-c", script];
        self.run(&line, "")
    }

    /// Waits until a deployment is as it should be.
    ///
    /// # Panics
    /// When it does not come to be; the message holds its pods.
    pub fn rolled_out(&self, deployment: &str, namespace: &str) {
        let line = format!("-n {namespace} rollout status deploy/{deployment} --timeout=120s");
        let said = self.kubectl(&line);
        if said.code != 0 {
            let pods = self.kubectl(&format!("-n {namespace} describe pods"));
            panic!("{said:?}\n{}", pods.out);
        }
    }

    /// Stops (`STOP`, `CONT`) or kills (`KILL`) one of its parts.
    ///
    /// # Panics
    /// When there is no such part.
    pub fn signal(&self, part: &str, signal: &str) {
        call(&["signal", self.path(), part, signal]);
    }

    /// Lets the two reach each other: nodes, or with `flat` pods too.
    ///
    /// # Panics
    /// When that cannot be.
    pub fn connect(&self, other: &Cluster, flat: bool) {
        let mut line = vec!["connect", self.path(), other.path()];
        line.extend(flat.then_some("--flat"));
        call(&line);
    }

    /// Ends that, for open connections too.
    ///
    /// # Panics
    /// When there is no such cluster.
    pub fn cut(&self, other: &Cluster) {
        call(&["cut", self.path(), other.path()]);
    }

    /// Every request that its API server has answered.
    ///
    /// # Panics
    /// When the log is not there.
    pub fn audit(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(self.folder.join("audit.log"));
        let lines = text.expect("an audit log");
        let events = lines
            .lines()
            .filter_map(|line| serde_json::from_str(line).ok());
        events.collect()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for words in [
                "get pods,svc,endpointslices,meshes,clusters,meshexports -A -o wide",
                "get events -A --sort-by=.lastTimestamp",
                "logs -n catamaran-system -l app.kubernetes.io/part-of=catamaran --all-containers --prefix --tail=60",
            ] {
                let said = self.kubectl(words);
                eprintln!(
                    "== {}: kubectl {words}\n{}{}",
                    self.name(),
                    said.out,
                    said.err
                );
            }
        }
        let mut down = Command::new(program());
        let _ = down.arg("down").arg(&self.folder).output();
        if std::thread::panicking() {
            eprintln!(
                "what {} wrote is in {}",
                self.name(),
                self.folder.join("log").display()
            );
        } else {
            let _ = std::fs::remove_dir_all(&self.folder);
        }
    }
}

/// A person with contexts of several clusters in one kubeconfig, and a folder for roots.
#[derive(Debug)]
pub struct Person {
    kubeconfig: String,
    roots: tempfile::TempDir,
}

impl Person {
    /// Someone who administers these clusters.
    ///
    /// # Panics
    /// Without a temporary folder.
    pub fn of(clusters: &[&Cluster]) -> Person {
        let files = clusters
            .iter()
            .map(|one| format!("{}/kubeconfig", one.path()));
        Person {
            kubeconfig: files.collect::<Vec<_>>().join(":"),
            roots: tempfile::tempdir().expect("a temporary folder"),
        }
    }

    /// `catamaran LINE`, split at blanks.
    pub fn says(&self, line: &str) -> Said {
        let mut command = Command::new(binary());
        command
            .args(line.split_whitespace())
            .env("KUBECONFIG", &self.kubeconfig)
            .env("CATAMARAN_ROOTS", self.roots.path())
            .env("NO_COLOR", "1");
        said(command, "")
    }

    /// Where the keys of roots are.
    pub fn roots(&self) -> &Path {
        self.roots.path()
    }
}

/// Calls that a pod makes, one after another, and how each went.
#[derive(Debug)]
pub struct Load<'a> {
    cluster: &'a Cluster,
    deployment: &'static str,
    file: String,
}

/// How calls went.
#[derive(Debug, Clone, Default)]
pub struct Tally {
    /// Answers of each version.
    pub v1: usize,
    /// Answers of each version.
    pub v2: usize,
    /// What was said of the others.
    pub failed: Vec<String>,
    /// The longest that an answer took, in seconds.
    pub slowest: f64,
}

/// No load is longer than that, whatever becomes of the test.
const MOST_CALLS: usize = 20_000;

impl<'a> Load<'a> {
    /// Begins: the container of this deployment's first pod calls `helloworld:5000/hello` until it is told to end.
    ///
    /// It writes into a file, so that nothing depends on the API server through which it was begun.
    ///
    /// # Panics
    /// When it cannot be begun.
    pub fn begin(cluster: &'a Cluster, deployment: &'static str, turn: usize) -> Load<'a> {
        let file = format!("/tmp/load-{turn}");
        let script = format!(
            "mkdir -p /tmp; (i=0; while [ $i -lt {MOST_CALLS} ] && [ ! -e {file}.end ]; do i=$((i+1)); \
             echo \"$(curl -sS --max-time 10 -w ' %{{http_code}} %{{time_total}}' helloworld:5000/hello 2>&1 | tr '\\n' ' ')\"; \
             sleep 0.02; done >{file}; touch {file}.over) >/dev/null 2>&1 </dev/null &"
        );
        cluster.exec(deployment, &script).ok();
        Load {
            cluster,
            deployment,
            file,
        }
    }

    /// How it went so far.
    ///
    /// # Panics
    /// When the pod does not say it.
    pub fn so_far(&self) -> Tally {
        let said = self
            .cluster
            .exec(self.deployment, &format!("cat {}", self.file));
        let text = said.ok().out;
        let mut tally = Tally::default();
        // The last line may be half written.
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        for line in whole.lines() {
            let mut words = line.split_whitespace().rev();
            let time: f64 = words
                .next()
                .and_then(|word| word.parse().ok())
                .unwrap_or(-1.0);
            let good = words.next() == Some("200");
            tally.slowest = tally.slowest.max(time);
            match line {
                _ if good && line.starts_with("Hello version: v1,") => tally.v1 += 1,
                _ if good && line.starts_with("Hello version: v2,") => tally.v2 += 1,
                other => tally.failed.push(other.to_owned()),
            }
        }
        tally
    }

    /// Waits until it has made as many further calls.
    ///
    /// # Panics
    /// When they do not come.
    pub fn calls(&self, more: usize) -> Tally {
        let before = self.so_far().all();
        until("calls are made", || {
            let tally = self.so_far();
            (tally.all() >= before + more)
                .then_some(tally)
                .ok_or(before)
        })
    }

    /// Ends it and says how it went.
    ///
    /// # Panics
    /// When it does not end.
    pub fn end(self) -> Tally {
        let script = format!("touch {}.end", self.file);
        self.cluster.exec(self.deployment, &script).ok();
        until("the load ends", || {
            let over = format!("test -e {}.over", self.file);
            let said = self.cluster.exec(self.deployment, &over);
            (said.code == 0).then_some(()).ok_or(said)
        });
        self.so_far()
    }
}

impl Tally {
    /// How many calls were made.
    pub fn all(&self) -> usize {
        self.v1 + self.v2 + self.failed.len()
    }

    /// What came after an earlier count.
    #[must_use]
    pub fn since(&self, earlier: &Tally) -> Tally {
        Tally {
            v1: self.v1 - earlier.v1,
            v2: self.v2 - earlier.v2,
            failed: self.failed[earlier.failed.len()..].to_vec(),
            slowest: self.slowest,
        }
    }

    /// The same, after checking that no call failed.
    ///
    /// # Panics
    /// When one did.
    #[must_use]
    pub fn none_failed(self, during: &str) -> Tally {
        assert!(self.failed.is_empty(), "{during}: {self:#?}");
        self
    }
}

/// Asks again until it is so.
///
/// # Panics
/// When [`PATIENCE`] ends; the message holds the last reason.
pub fn until<T, E: std::fmt::Debug>(what: &str, mut check: impl FnMut() -> Result<T, E>) -> T {
    let start = Instant::now();
    loop {
        match check() {
            Ok(found) => return found,
            Err(reason) if start.elapsed() > PATIENCE => {
                panic!("not within {PATIENCE:?}: {what}: {reason:#?}")
            }
            Err(_) => std::thread::park_timeout(Duration::from_millis(200)),
        }
    }
}

/// Calls the program of the clusters.
fn call(line: &[&str]) {
    let mut command = Command::new(program());
    command.args(line);
    said(command, "").ok();
}

/// What a command said, with a text on its standard input.
fn said(mut command: Command, input: &str) -> Said {
    let pipes = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = pipes.spawn().expect("the program starts");
    let mut pipe = child.stdin.take().expect("a pipe");
    // One that does not read is not wrong.
    let _ = pipe.write_all(input.as_bytes());
    drop(pipe);
    Said::of(child.wait_with_output().expect("the program ends"))
}
