//! `catamaran demo`: the five steps and two losses, on this machine.

use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use catamaran_local::fleet::Isolation;
use catamaran_local::lifecycle::Stop;
use catamaran_operate::demo::{self, Demo, Ground, Report};
use catamaran_operate::{Job, Moment, OperateError, Step, StepState, possible_isolation};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Play the five steps on this machine: two clusters, two instances on one root, and what a loss costs
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  catamaran demo                        two networks; stays up until Ctrl-C
  catamaran demo --once                 ends by itself; exit code 0 only if all held
  catamaran demo --network flat         one network: pods talk directly, step 3 is skipped
  catamaran demo --dir /tmp/fleet       makes the fleet that `catamaran --fleet /tmp/fleet ...` addresses
  catamaran demo --once -o json | jq .losses

Exit codes: 0 all held, 3 something did not, 130 interrupted.
Nothing leaves this machine, and nothing is left behind but the folder that --dir names.")]
pub(crate) struct Args {
    /// The fleet's folder, which is kept; a temporary one when nothing is said
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// How pods are kept apart: by network namespaces (needs root), or as plain processes; namespaces when they work here
    #[arg(long, value_name = "HOW", value_parser = ["netns", "process"])]
    isolation: Option<String>,
    /// Where the clusters stand: apart, in two networks with gateways between them; or flat, in one
    #[arg(long, value_name = "GROUND", default_value = "apart", value_parser = ["apart", "flat"])]
    network: String,
    /// End when all is shown
    #[arg(long)]
    once: bool,
    /// text; or json: one object on standard output when it is over, the narration on standard error
    #[arg(short, long, value_name = "FORMAT", default_value = "text", value_parser = ["text", "json"])]
    output: String,
}

const NOT_HELD: u8 = 3;
const INTERRUPTED: u8 = 130;

pub(crate) fn run(args: &Args) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: no threads: {error}");
            return ExitCode::FAILURE;
        }
    };
    runtime.block_on(play(args))
}

async fn play(args: &Args) -> ExitCode {
    let json = args.output == "json";
    let teller = Teller::new(json);
    let (demo, home) = match decide(args, teller) {
        Ok(decided) => decided,
        Err(error) => {
            tell_error(&error);
            return ExitCode::from(error.class().exit_code());
        }
    };
    let mut asked = match Asked::listen() {
        Ok(asked) => asked,
        Err(error) => {
            eprintln!("error: signals cannot be heard: {error}");
            return ExitCode::FAILURE;
        }
    };
    let mut job = Job::watched(move |_, step, moment| teller.tell(step, moment));
    let mut report = Report::default();
    let interrupted = tokio::select! {
        // What went wrong stands in the job's steps.
        _ = demo::run(&demo, &mut job, &mut report) => false,
        () = asked.to_end() => true,
    };
    report.close(&job);
    teller.verdict(&report, interrupted);
    if report.held && !args.once {
        teller.go_on(&demo);
        asked.to_end().await;
        teller.line("");
    }
    let ended = end(&demo, &mut asked, teller).await;
    drop(home);
    if let Err(error) = &ended {
        tell_error(error);
        report.held = false;
    }
    if json && let Err(error) = print(&report) {
        eprintln!("error: the report cannot be written: {error}");
        return ExitCode::FAILURE;
    }
    match (report.held, interrupted) {
        (true, _) => ExitCode::SUCCESS,
        (false, true) => ExitCode::from(INTERRUPTED),
        (false, false) => ExitCode::from(NOT_HELD),
    }
}

/// Brings everything down; whoever asks a second time gets it at once.
async fn end(demo: &Demo, asked: &mut Asked, teller: Teller) -> Result<(), OperateError> {
    teller.line("ending everything ...");
    tokio::select! {
        ended = demo::end(&demo.dir, Stop::Drain) => return ended,
        () = asked.to_end() => {}
    }
    demo::end(&demo.dir, Stop::Kill).await
}

fn print(report: &Report) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    serde_json::to_writer_pretty(&mut out, report)?;
    writeln!(out)
}

fn decide(args: &Args, teller: Teller) -> Result<(Demo, Option<Home>), OperateError> {
    let isolation = match args.isolation.as_deref() {
        Some("process") => Isolation::Process,
        Some(_) => match possible_isolation() {
            (Isolation::Netns, _) => Isolation::Netns,
            (_, why) => {
                return Err(OperateError::NotHeld {
                    what: "--isolation netns is not possible here".into(),
                    cause: why.unwrap_or_default(),
                    fix: "use --isolation process, or run as root with the programs ip and nft".into(),
                });
            }
        },
        None => {
            let (isolation, why) = possible_isolation();
            if let Some(why) = why {
                teller.line(&format!(
                    "--isolation process ({why}): each pod has an address of its own on loopback, calls go through the\n\
                     sidecar's HTTP proxy port; no connection is captured, and networks are not kept apart"
                ));
            }
            isolation
        }
    };
    let (dir, home) = match &args.dir {
        Some(dir) => (dir.clone(), None),
        None => {
            let home = Home::new()?;
            (home.0.clone(), Some(home))
        }
    };
    let program = std::env::current_exe().map_err(|source| OperateError::File {
        path: "/proc/self/exe".into(),
        source,
    })?;
    let demo = Demo {
        dir,
        isolation,
        ground: args.network.parse::<Ground>()?,
        program,
    };
    Ok((demo, home))
}

/// A folder that goes with the value.
struct Home(PathBuf);

impl Home {
    fn new() -> Result<Home, OperateError> {
        use std::os::unix::fs::DirBuilderExt;
        let folder = std::env::temp_dir();
        let mut n = std::process::id();
        loop {
            let path = folder.join(format!("catamaran-demo-{n:x}"));
            match std::fs::DirBuilder::new().mode(0o700).create(&path) {
                Ok(()) => return Ok(Home(path)),
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => n = n.wrapping_add(0x10_0000),
                Err(source) => return Err(OperateError::File { path, source }),
            }
        }
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            eprintln!("warning: the folder {} is left: {error}", self.0.display());
        }
    }
}

/// Whoever wants the demo to end.
struct Asked {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
}

impl Asked {
    fn listen() -> std::io::Result<Asked> {
        Ok(Asked {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    async fn to_end(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            _ = self.hangup.recv() => {}
        }
    }
}

fn tell_error(error: &OperateError) {
    eprintln!("error[{}]: {error}", error.code());
    for fact in error.facts() {
        eprintln!("  {fact}");
    }
    if let Some(fix) = error.fix() {
        eprintln!("  {fix}");
    }
}

/// Who tells the story: on standard output, or beside the report on standard error.
#[derive(Debug, Clone, Copy)]
struct Teller {
    aside: bool,
    colour: bool,
}

impl Teller {
    fn new(aside: bool) -> Teller {
        let terminal = match aside {
            true => std::io::stderr().is_terminal(),
            false => std::io::stdout().is_terminal(),
        };
        let wanted = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Teller {
            aside,
            colour: terminal && wanted,
        }
    }

    /// A reader that is gone is no reason to leave a fleet behind.
    fn line(self, text: &str) {
        let _ = match self.aside {
            true => writeln!(std::io::stderr(), "{text}"),
            false => writeln!(std::io::stdout(), "{text}"),
        };
    }

    fn paint(self, code: &str, text: &str) -> String {
        match self.colour {
            true => format!("\u{1b}[{code}m{text}\u{1b}[0m"),
            false => text.to_owned(),
        }
    }

    fn tell(self, step: &Step, moment: Moment) {
        match moment {
            Moment::Begun => self.line(&format!("\n{}", self.paint("1", &step.name))),
            Moment::Command => {
                let command = step.command.as_deref().unwrap_or_default();
                self.line(&self.paint("2", &format!("  $ {command}")));
            }
            Moment::Noted => {
                let Some(note) = step.notes.last() else { return };
                let time = note.seconds.map_or(String::new(), |seconds| format!("  {seconds:.1} s"));
                let mark = self.paint("32", "✓");
                self.line(&format!("  {mark} {}{}", note.text, self.paint("2", &time)));
            }
            Moment::Ended if step.state == StepState::Failed => {
                let mark = self.paint("31", "✗");
                let cause = step.cause.as_deref().unwrap_or("it failed");
                self.line(&format!("  {mark} failed after {:.1} s", step.seconds));
                self.line(&format!("      cause   {cause}"));
                if let Some(fix) = &step.fix {
                    self.line(&format!("      fix     {fix}"));
                }
            }
            Moment::Ended => {}
        }
    }

    fn verdict(self, report: &Report, interrupted: bool) {
        for step in report.steps.iter().filter(|step| step.state == StepState::NotRun) {
            self.line(&format!("\n{}", self.paint("2", &format!("○ not run  {}", step.name))));
        }
        let seconds: f64 = report.steps.iter().map(|step| step.seconds).sum();
        self.line("");
        self.line(&match (report.held, interrupted) {
            (true, _) => self.paint("32", &format!("All held, in {seconds:.0} s.")),
            (false, true) => self.paint("33", "Interrupted."),
            (false, false) => self.paint("31", &format!("Not all held, after {seconds:.0} s.")),
        });
    }

    fn go_on(self, demo: &Demo) {
        self.line(&format!(
            "\nThe fleet stays up. Go on by hand, in another terminal:\n  \
             export CATAMARAN_FLEET={}\n  \
             catamaran status\n  \
             catamaran exec cluster-1 deploy/sleep -- sh -c 'for i in $(seq 1 10); do curl -s helloworld:5000/hello; done'\n  \
             catamaran verify helloworld:5000/hello --from cluster-2/deploy/sleep -n 100\n  \
             catamaran cluster stop cluster-1 --kill; catamaran cluster start cluster-1\n\
             Ctrl-C ends everything and leaves nothing behind.",
            demo.dir.display()
        ));
    }
}
