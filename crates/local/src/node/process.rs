//! One program that is to run all the time: start, restart with growing pauses, end.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::launch::{LAUNCH_FAILED, LaunchSpec, log_file};
use crate::running::Running;

/// The pause before the second start after an end; the first one is at once. It doubles from then on.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// A program that ran for this long is taken to have started well.
const GOOD_RUN: Duration = Duration::from_secs(60);

/// A program and its present process.
#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) running: Option<Running>,
    /// `None` for a process that an earlier node started.
    child: Option<Child>,
    pub(crate) restarts: u32,
    started: Option<Instant>,
    pause: Duration,
    longest_pause: Duration,
    pub(crate) not_before: Option<Instant>,
    pub(crate) last_end: Option<String>,
}

impl Process {
    pub(crate) fn new(longest_pause: Duration) -> Process {
        Process {
            running: None,
            child: None,
            restarts: 0,
            started: None,
            pause: Duration::ZERO,
            longest_pause,
            not_before: None,
            last_end: None,
        }
    }

    /// Takes over a process that an earlier node started; a dead one is started again without a pause.
    pub(crate) fn adopt(
        longest_pause: Duration,
        running: Option<Running>,
        restarts: u32,
    ) -> Process {
        let alive = running.as_ref().is_some_and(Running::alive);
        if let (Some(running), false) = (&running, alive) {
            running.kill_session();
        }
        Process {
            restarts: restarts + u32::from(running.is_some() && !alive),
            running: running.filter(|_| alive),
            started: alive.then(Instant::now),
            ..Process::new(longest_pause)
        }
    }

    pub(crate) fn alive(&self) -> bool {
        self.running.is_some()
    }

    /// Notices an end; says whether there was one. `log` is where it wrote its errors.
    pub(crate) fn reap(&mut self, now: Instant, log: &Path) -> bool {
        let Some(running) = &self.running else {
            return false;
        };
        let end = match &mut self.child {
            Some(child) => match child.try_wait() {
                Ok(Some(status)) if status.code() == Some(LAUNCH_FAILED) => {
                    Some(crate::exec::last_lines(log, 1))
                }
                Ok(Some(status)) => Some(format!("it ended with {status}")),
                Ok(None) => None,
                Err(error) => Some(error.to_string()),
            },
            None if running.alive() => None,
            None => Some("it ended".to_owned()),
        };
        let Some(end) = end else { return false };
        running.kill_session();
        let good = self
            .started
            .is_some_and(|at| now.duration_since(at) >= GOOD_RUN);
        if good {
            self.pause = Duration::ZERO;
        }
        self.not_before = Some(now + self.pause);
        self.pause = (self.pause * 2).clamp(FIRST_PAUSE, self.longest_pause);
        self.running = None;
        self.child = None;
        self.last_end = Some(end);
        true
    }

    /// How long until it may be started.
    pub(crate) fn pause_left(&self, now: Instant) -> Duration {
        (self.not_before).map_or(Duration::ZERO, |at| at.saturating_duration_since(now))
    }

    /// Starts it through the launcher. `spec_file` is where the launcher reads what to do.
    pub(crate) fn start(
        &mut self,
        program: &Path,
        spec: &LaunchSpec,
        spec_file: &Path,
        log: &Path,
        now: Instant,
    ) -> Result<(), String> {
        let failed = |what: &Path| {
            let what = what.display().to_string();
            move |e: std::io::Error| format!("{what}: {e}")
        };
        spec.write(spec_file).map_err(failed(spec_file))?;
        let out = log_file(log).map_err(failed(log))?;
        let err = out.try_clone().map_err(failed(log))?;
        let mut child = Command::new(program)
            .arg("launch")
            .arg("--spec")
            .arg(spec_file)
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(err)
            .spawn()
            .map_err(failed(program))?;
        let Some(running) = Running::of(child.id() as i32) else {
            let _ = child.kill();
            let _ = child.wait();
            return Err("its process is not seen in /proc".into());
        };
        if self.last_end.is_some() {
            self.restarts += 1;
        }
        self.running = Some(running);
        self.child = Some(child);
        self.started = Some(now);
        Ok(())
    }

    /// A failure to start counts like an end.
    pub(crate) fn failed_to_start(&mut self, now: Instant, reason: &str) {
        self.not_before = Some(now + self.pause);
        self.pause = (self.pause * 2).clamp(FIRST_PAUSE, self.longest_pause);
        self.last_end = Some(reason.to_owned());
    }

    pub(crate) fn signal(&self, signal: Signal) {
        if let Some(running) = &self.running {
            running.signal_group(signal);
        }
    }

    pub(crate) fn kill(&self) {
        if let Some(running) = &self.running {
            running.kill_session();
        }
    }
}
