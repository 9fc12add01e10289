use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use catamaran_local::lifecycle::Stop;
use catamaran_operate::demo::{DemoConfig, DemoReport, demo};
use catamaran_operate::{
    Class, Fleet, Job, OperateError, StepState, fleet_down, possible_isolation,
};
use tokio::signal::unix::{SignalKind, signal};

use super::cluster_create::Kept;
use crate::context::{Context, Effect, Failure, Format, Outcome, program};
use crate::narrate::Narrator;

/// Run the five steps on this machine, a root that is refused, and two losses under load.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  catamaran demo                       then, from another terminal: catamaran status --fleet DIR
  catamaran demo --once -o json
  catamaran demo --isolation process --network flat --dir /tmp/demo

It stays up until Ctrl-C, which ends everything it started. Exit code 3 when something did not hold.")]
pub(crate) struct Args {
    /// The folder of its fleet, new or empty; a temporary one when not said.
    #[arg(long)]
    dir: Option<PathBuf>,
    /// How pods are kept apart: netns when this machine and user can, else process.
    #[arg(long, value_enum)]
    isolation: Option<Kept>,
    /// flat: one network, pods talk directly, no gateways.
    #[arg(long, value_enum)]
    network: Option<Networks>,
    /// End by itself.
    #[arg(long)]
    once: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Networks {
    /// One network.
    Flat,
    /// Two networks, joined by gateways (the default).
    Two,
}

/// Ctrl-C, as shells write it.
const INTERRUPTED: u8 = 130;

pub(crate) async fn run(args: Args, context: &Context) -> Outcome {
    let to_stderr = context.format != Format::Table;
    let say = move |text: &str| {
        let _ = match to_stderr {
            true => std::io::stderr().write_all(text.as_bytes()),
            false => std::io::stdout().write_all(text.as_bytes()),
        };
        let _ = std::io::stdout().flush();
    };
    let (isolation, why) = match args.isolation {
        Some(kept) => (kept.into(), None),
        None => possible_isolation(),
    };
    if let Some(why) = why {
        say(&format!(
            "isolation process, since {why}: pods are processes on loopback addresses; no capture, no network isolation\n"
        ));
    }
    let (dir, temporary) = folder(args.dir.as_deref())?;
    let fleet = Fleet::open_or_create(&dir, Some(isolation), program()?);
    let fleet = fleet.or_else_said("nothing was started")?;
    if !fleet.clusters()?.is_empty() {
        return Err(Failure::Usage(format!(
            "{} has clusters already; the demo needs a new or empty folder\n  fix: give another --dir, or bring that fleet down and remove it",
            dir.display()
        )));
    }
    let flat = args.network == Some(Networks::Flat);
    say(&format!(
        "Fleet {} in {} · {} · nothing leaves this machine\n",
        fleet.file.id,
        dir.display(),
        fleet.file.isolation,
    ));

    let terminal = match to_stderr {
        true => std::io::stderr().is_terminal(),
        false => std::io::stdout().is_terminal(),
    };
    let mut narrator = Narrator::new(context.glyphs, terminal);
    let of = if flat { 7 } else { 8 };
    let mut job = Job::watched(move |n, step, moment| say(&narrator.large(n, of, step, moment)));
    let mut interrupted = Interrupted::listen()?;
    let started = std::time::Instant::now();
    let report = tokio::select! {
        report = demo(&fleet, DemoConfig { flat }, &mut job) => Some(report),
        () = interrupted.wait() => None,
    };
    if let Some(report) = &report {
        tell(
            report,
            of,
            context,
            terminal,
            &say,
            started.elapsed().as_secs_f64(),
        );
        if !args.once && report.held {
            say(&format!(
                "\nIt stays up: catamaran status --fleet {0} · catamaran check --fleet {0} · Ctrl-C ends everything\n",
                dir.display()
            ));
            if to_stderr {
                context.show(report, Vec::new)?;
            }
            interrupted.wait().await;
        }
    }
    say("\nEnding everything...\n");
    let down = fleet_down(&fleet, Stop::Kill, &mut Job::unwatched()).await;
    if let Err(error) = down {
        return Err(error.into());
    }
    let held = report.as_ref().is_some_and(|report| report.held);
    match (temporary, held || report.is_none()) {
        (true, true) => drop(std::fs::remove_dir_all(&dir)),
        (true, false) => say(&format!("the logs are in {}\n", dir.display())),
        (false, _) => {}
    }
    match report {
        None => Ok(ExitCode::from(INTERRUPTED)),
        Some(report) => {
            if to_stderr && (args.once || !report.held) {
                context.show(&report, Vec::new)?;
            }
            Ok(match report.held {
                true => ExitCode::SUCCESS,
                false => ExitCode::from(Class::Found.exit_code()),
            })
        }
    }
}

fn tell(
    report: &DemoReport,
    of: usize,
    context: &Context,
    terminal: bool,
    say: &impl Fn(&str),
    seconds: f64,
) {
    let narrator = Narrator::new(context.glyphs, terminal);
    for (n, step) in report.steps.iter().enumerate() {
        if step.state == StepState::NotRun {
            say(&narrator.not_run(n, of, step));
        }
    }
    let (glyph, word) = match report.held {
        true => (context.glyphs.pass, "everything held"),
        false => (context.glyphs.fail, "not everything held"),
    };
    say(&format!("\n{glyph} {word}, in {seconds:.0} s\n"));
}

/// A short path, since sockets lie in it.
fn folder(given: Option<&Path>) -> Result<(PathBuf, bool), Failure> {
    if let Some(dir) = given {
        return Ok((dir.into(), false));
    }
    let dir = std::env::temp_dir().join(format!("catamaran-demo-{}", std::process::id()));
    match dir.exists() {
        true => Err(OperateError::BadSetting {
            text: dir.display().to_string(),
            wanted: "a new folder",
            reason: "it is there already; give another one with --dir".into(),
        }
        .into()),
        false => Ok((dir, true)),
    }
}

/// SIGINT and SIGTERM.
struct Interrupted {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

impl Interrupted {
    fn listen() -> Result<Interrupted, Failure> {
        let failed = |error: std::io::Error| Failure::Program(format!("signals: {error}"));
        Ok(Interrupted {
            interrupt: signal(SignalKind::interrupt()).map_err(failed)?,
            terminate: signal(SignalKind::terminate()).map_err(failed)?,
        })
    }

    async fn wait(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}
