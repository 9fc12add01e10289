//! The life of a program.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use crate::{LogConfig, LogFormat, Metrics};

/// How a process lives; decided once, at start.
#[derive(Debug, Clone)]
pub struct Config {
    /// The program's name, for logs.
    pub name: String,
    /// `None` leaves logging as it is (tests, embedded use).
    pub log: Option<LogConfig>,
    /// How long tasks may take to end once the process stops.
    pub drain: Duration,
}

impl Config {
    /// Logs text at `info`, drains for ten seconds.
    pub fn new(name: impl Into<String>) -> Config {
        Config {
            name: name.into(),
            log: Some(LogConfig {
                format: LogFormat::Text,
                filter: "info".into(),
            }),
            drain: Duration::from_secs(10),
        }
    }

    /// As [`Config::new`], without touching the logs.
    pub fn quiet(name: impl Into<String>) -> Config {
        Config {
            log: None,
            ..Config::new(name)
        }
    }
}

/// Why a process ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// A person or a program asked for it: a signal, or [`Process::stop`].
    Asked(String),
    /// A task that should live as long as the process ended: which, and why.
    Failed(String),
}

impl End {
    /// 0 when asked for, 1 otherwise.
    pub fn exit_code(&self) -> u8 {
        match self {
            End::Asked(_) => 0,
            End::Failed(_) => 1,
        }
    }
}

/// A running program. Clones are handles to the same one.
#[derive(Debug, Clone)]
pub struct Process {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    name: String,
    drain: Duration,
    metrics: Metrics,
    gates: Mutex<BTreeMap<String, bool>>,
    ready: watch::Sender<bool>,
    stop: watch::Sender<bool>,
    drained: watch::Sender<bool>,
    ends: mpsc::Sender<End>,
    end: tokio::sync::Mutex<mpsc::Receiver<End>>,
    tasks: Mutex<Vec<(String, JoinHandle<()>)>>,
    last: Mutex<Vec<(String, JoinHandle<()>)>>,
}

/// How long the last tasks may take to end, once all others have.
const LAST: Duration = Duration::from_secs(1);

impl Process {
    /// Starts logging and the bookkeeping. Call it inside a tokio runtime.
    pub fn start(config: Config) -> Process {
        if let Some(log) = &config.log {
            crate::log::start(log);
        }
        let (ends, end) = mpsc::channel(4);
        Process {
            inner: Arc::new(Inner {
                name: config.name,
                drain: config.drain,
                metrics: Metrics::default(),
                gates: Mutex::default(),
                ready: watch::Sender::new(true),
                stop: watch::Sender::new(false),
                drained: watch::Sender::new(false),
                ends,
                end: tokio::sync::Mutex::new(end),
                tasks: Mutex::default(),
                last: Mutex::default(),
            }),
        }
    }

    /// Runs a task that lives as long as the process. When it ends before the process stops, the process stops with
    /// [`End::Failed`] and the task's name.
    pub fn run<E: Display + Send>(
        &self,
        name: impl Into<String>,
        task: impl Future<Output = Result<(), E>> + Send + 'static,
    ) {
        self.spawn(name.into(), task, &self.inner.tasks);
    }

    /// Runs a task that answers while the others drain. It is to end on [`Process::drained`], not on [`Process::stopping`].
    pub fn run_to_the_end<E: Display + Send>(
        &self,
        name: impl Into<String>,
        task: impl Future<Output = Result<(), E>> + Send + 'static,
    ) {
        self.spawn(name.into(), task, &self.inner.last);
    }

    fn spawn<E: Display + Send>(
        &self,
        name: String,
        task: impl Future<Output = Result<(), E>> + Send + 'static,
        tasks: &Mutex<Vec<(String, JoinHandle<()>)>>,
    ) {
        let process = self.clone();
        let title = name.clone();
        let handle = tokio::spawn(async move {
            let why = match task.await {
                Err(error) => format!("{title}: {error}"),
                Ok(()) if *process.inner.stop.borrow() => return,
                Ok(()) => format!("{title} ended by itself"),
            };
            tracing::error!(task = %title, "{why}");
            let _stopping_already = process.inner.ends.try_send(End::Failed(why));
        });
        let mut tasks = lock(tasks);
        tasks.retain(|(_, task)| !task.is_finished());
        tasks.push((name, handle));
    }

    /// A condition for being ready, closed at first.
    pub fn gate(&self, name: impl Into<String>) -> Gate {
        let gate = Gate {
            name: name.into(),
            process: self.clone(),
        };
        gate.close();
        gate
    }

    /// Whether every gate is open and the process is not stopping.
    pub fn is_ready(&self) -> bool {
        *self.inner.ready.borrow()
    }

    /// Returns when the process is ready.
    pub async fn until_ready(&self) {
        let mut ready = self.inner.ready.subscribe();
        let _sender_lives_in_self = ready.wait_for(|ready| *ready).await;
    }

    /// The gates that are still closed.
    pub fn waiting_for(&self) -> Vec<String> {
        let gates = self.lock_gates();
        gates
            .iter()
            .filter(|(_, open)| !**open)
            .map(|(name, _)| name.clone())
            .collect()
    }

    /// The program's name.
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// The metrics of the process.
    pub fn metrics(&self) -> &Metrics {
        &self.inner.metrics
    }

    /// What a task waits on to learn that it must end.
    pub fn stopping(&self) -> Stopping {
        Stopping(self.inner.stop.subscribe())
    }

    /// What a task of [`Process::run_to_the_end`] waits on: every other task has ended, or had its time.
    pub fn drained(&self) -> Stopping {
        Stopping(self.inner.drained.subscribe())
    }

    /// Asks the process to stop.
    pub fn stop(&self, reason: impl Into<String>) {
        let _stopping_already = self.inner.ends.try_send(End::Asked(reason.into()));
    }

    /// Waits for SIGTERM, SIGINT, [`Process::stop`] or the failure of a task; then tells all tasks to end and gives them
    /// the drain time, and the last ones a second more. Tasks that are still there after it are named in the log and dropped.
    pub async fn until_stopped(&self) -> End {
        let end = self.first_end().await;
        tracing::info!(process = %self.inner.name, "stopping: {end:?}");
        self.inner.stop.send_replace(true);
        self.judge_ready();
        until_ended(&self.inner.tasks, self.inner.drain).await;
        self.inner.drained.send_replace(true);
        until_ended(&self.inner.last, LAST).await;
        end
    }

    async fn first_end(&self) -> End {
        let mut ends = self.inner.end.lock().await;
        let (Ok(mut terminate), Ok(mut interrupt)) = (
            signal(SignalKind::terminate()),
            signal(SignalKind::interrupt()),
        ) else {
            return End::Failed("signal handlers could not be installed".into());
        };
        tokio::select! {
            _ = terminate.recv() => End::Asked("SIGTERM".into()),
            _ = interrupt.recv() => End::Asked("SIGINT".into()),
            end = ends.recv() => end.unwrap_or_else(|| End::Failed("the process lost its own handle".into())),
        }
    }

    fn judge_ready(&self) {
        let open = self.lock_gates().values().all(|open| *open);
        let ready = open && !*self.inner.stop.borrow();
        self.inner.ready.send_if_modified(|was| {
            let changed = *was != ready;
            *was = ready;
            changed
        });
    }

    fn lock_gates(&self) -> MutexGuard<'_, BTreeMap<String, bool>> {
        lock(&self.inner.gates)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn until_ended(tasks: &Mutex<Vec<(String, JoinHandle<()>)>>, time: Duration) {
    let tasks = std::mem::take(&mut *lock(tasks));
    let deadline = tokio::time::Instant::now() + time;
    for (name, mut task) in tasks {
        if tokio::time::timeout_at(deadline, &mut task).await.is_err() {
            tracing::warn!(task = %name, "did not end within {time:?}");
            task.abort();
        }
    }
}

/// One condition for being ready.
#[derive(Debug, Clone)]
pub struct Gate {
    name: String,
    process: Process,
}

impl Gate {
    /// The condition holds.
    pub fn open(&self) {
        self.set(true);
    }

    /// The condition does not hold any more.
    pub fn close(&self) {
        self.set(false);
    }

    fn set(&self, open: bool) {
        self.process.lock_gates().insert(self.name.clone(), open);
        self.process.judge_ready();
    }
}

/// Tells a task that the process is stopping.
#[derive(Debug, Clone)]
pub struct Stopping(watch::Receiver<bool>);

impl Stopping {
    /// Returns when the process stops.
    pub async fn wait(mut self) {
        let _process_is_gone = self.0.wait_for(|stopping| *stopping).await;
    }

    /// Whether it is stopping already.
    pub fn is_stopping(&self) -> bool {
        *self.0.borrow()
    }
}

#[cfg(test)]
mod tests;
