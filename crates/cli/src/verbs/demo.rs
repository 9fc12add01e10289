use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use catamaran_local::fleet::Isolation;
use catamaran_local::lifecycle::Stop;
use catamaran_operate::demo::{self, ClusterDemo, Demo, Ground, Report};
use catamaran_operate::{
    Class, Contact, Job, Moment, OperateError, Step, StepState, possible_isolation,
};
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::cluster_create::Kept;
use super::contact;
use crate::context::{Context, Failure, Format, Outcome, program, words};
use crate::narrate::Narrator;

/// Play the five steps on this machine, then two losses under load, and a root that is refused; or the five steps on two given
/// clusters.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  catamaran demo                        two networks; stays up until Ctrl-C
  catamaran demo --once                 ends by itself
  catamaran demo --network flat         one network: pods talk directly, step 3 is skipped
  catamaran demo --dir /tmp/fleet       makes the fleet that `catamaran --fleet /tmp/fleet ...` addresses
  catamaran demo --once -o json | jq .losses
  catamaran demo --context one --context two          on two clusters with API servers; stays up until Ctrl-C
  catamaran demo --context one --context two --keep   leaves all of it there, for going on by hand

Exit codes: 0 all held, 3 something did not, 130 interrupted before the end.
Nothing leaves this machine, and nothing is left behind but the folder that --dir names. Of two given clusters: instances mesh-1 and
mesh-2, and the sample in the namespace catamaran-demo; with an instance already there a cluster is refused, and at the end all of it
is taken out again.")]
pub(crate) struct Args {
    /// The fleet's folder, which is kept; a temporary one when not said.
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// How pods are kept apart: netns when this machine and user can, else process.
    #[arg(long, value_enum)]
    isolation: Option<Kept>,
    /// Where the two clusters stand.
    #[arg(long, value_enum, default_value_t = Networks::Two)]
    network: Networks,
    /// End by itself when all is shown.
    #[arg(long)]
    once: bool,
    #[command(flatten)]
    sides: contact::Sides,
    /// End by itself, and leave all of it in the two clusters.
    #[arg(long, requires = "context", conflicts_with = "once")]
    keep: bool,
    /// The image with our program; that of this version when not said.
    #[arg(long, requires = "context")]
    image: Option<String>,
    /// Where control planes reach the two API servers, in the order of the contexts, when not where the kubeconfig says.
    #[arg(long, value_name = "URL", requires = "context", num_args = 1)]
    server: Vec<String>,
    /// Where roots are kept on this machine when it is left there; ~/.catamaran/roots when not said.
    #[arg(long, value_name = "DIR", env = "CATAMARAN_ROOTS")]
    roots: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Networks {
    /// In two networks, joined by gateways only.
    Two,
    /// In one network, in which pods talk directly.
    Flat,
}

/// As shells say that a signal ended a program: 128 and SIGINT's number.
const INTERRUPTED: u8 = 130;

pub(crate) async fn run(args: Args, context: &Context) -> Outcome {
    if let Some(contacts) = args.sides.contacts() {
        return on_clusters(args, contacts, context).await;
    }
    let teller = Teller::new(context);
    let mut asked = Asked::listen()?;
    let isolation = isolation(args.isolation, teller)?;
    let home = match &args.dir {
        Some(dir) => Home::Kept(std::path::absolute(dir).unwrap_or_else(|_| dir.clone())),
        None => Home::temporary()?,
    };
    let demo = Demo {
        dir: home.path().clone(),
        isolation,
        ground: match args.network {
            Networks::Two => Ground::Apart,
            Networks::Flat => Ground::Flat,
        },
        program: program()?,
    };
    demo.check()?;
    let mut job = told(context, teller);
    let mut report = Report::default();
    let interrupted = tokio::select! {
        // What went wrong stands in the job's steps.
        _ = demo::run(&demo, &mut job, &mut report) => false,
        () = asked.ended() => true,
    };
    report.close(&job);
    verdict(&report, interrupted, context, teller);
    if report.held && !args.once {
        teller.say(&go_on(&demo));
        asked.ended().await;
    }
    let ended = end(&demo, &mut asked, teller).await;
    if let Err(error) = &ended {
        teller.say(&words(error, ""));
        report.held = false;
    }
    home.leave(report.held || interrupted, teller);
    if context.format != Format::Table {
        context.show(&report, Vec::new)?;
    }
    Ok(match (report.held, interrupted) {
        (true, _) => ExitCode::SUCCESS,
        (false, true) => ExitCode::from(INTERRUPTED),
        (false, false) => ExitCode::from(Class::Found.exit_code()),
    })
}

/// A job whose chapters are told at length.
fn told(context: &Context, teller: Teller) -> Job {
    let mut narrator = Narrator::new(context.glyphs, teller.terminal);
    Job::watched(move |_, step: &Step, moment: Moment| {
        teller.say(&narrator.large(step, moment));
    })
}

/// The five steps on two given clusters.
async fn on_clusters(args: Args, contacts: Vec<Contact>, context: &Context) -> Outcome {
    let contacts = two(contacts)?;
    let only_local = [
        ("--dir", args.dir.is_some()),
        ("--isolation", args.isolation.is_some()),
    ];
    if let Some((option, _)) = only_local.iter().find(|(_, said)| *said) {
        return Err(OperateError::BadSetting {
            text: (*option).into(),
            wanted: "an option for two given clusters",
            reason: "it is for the demo on this machine".into(),
        }
        .into());
    }
    let teller = Teller::new(context);
    let mut asked = Asked::listen()?;
    // What is taken out again leaves no key behind.
    let home = match args.keep {
        true => Home::Kept(contact::roots(args.roots)?),
        false => Home::temporary()?,
    };
    let mut servers = args.server.into_iter();
    let demo = ClusterDemo {
        contacts,
        servers: [servers.next(), servers.next()],
        ground: match args.network {
            Networks::Two => Ground::Apart,
            Networks::Flat => Ground::Flat,
        },
        image: args.image,
        roots: home.path().clone(),
    };
    let mut job = told(context, teller);
    let (mut report, mut begun) = (Report::default(), false);
    let interrupted = tokio::select! {
        // What went wrong stands in the job's steps.
        _ = demo::run_on(&demo, &mut job, &mut report, &mut begun) => false,
        () = asked.ended() => true,
    };
    report.close(&job);
    verdict(&report, interrupted, context, teller);
    if report.held && !args.once {
        teller.say(&by_hand(&demo, args.keep));
        if !args.keep {
            asked.ended().await;
        }
    }
    if begun && args.keep && !report.held {
        let commands = out_again(&demo).join("\n  ");
        teller.say(&format!(
            "\nWhat is there stays. To take it out again:\n  {commands}\n"
        ));
    }
    if begun && !args.keep {
        teller.say("\nTaking everything out again...\n");
        let mut narrator = Narrator::new(context.glyphs, teller.terminal);
        let mut job = Job::watched(move |_, step: &Step, moment: Moment| {
            teller.say(&narrator.small(step, moment));
        });
        let ended = tokio::select! {
            ended = demo::end_on(&demo, &mut job) => ended,
            () = asked.ended() => Err(OperateError::NotHeld {
                what: "the end was broken off".into(),
                cause: String::new(),
                fix: out_again(&demo).join("; "),
            }),
        };
        if let Err(error) = &ended {
            teller.say(&words(error, ""));
            report.held = false;
        }
    }
    home.leave(true, teller);
    if context.format != Format::Table {
        context.show(&report, Vec::new)?;
    }
    Ok(match (report.held, interrupted) {
        (true, _) => ExitCode::SUCCESS,
        (false, true) => ExitCode::from(INTERRUPTED),
        (false, false) => ExitCode::from(Class::Found.exit_code()),
    })
}

fn two(contacts: Vec<Contact>) -> Result<[Contact; 2], Failure> {
    let count = contacts.len();
    contacts.try_into().map_err(|_| {
        OperateError::BadSetting {
            text: format!("{count} contexts"),
            wanted: "two clusters",
            reason: "name both: --context ONE --context TWO".into(),
        }
        .into()
    })
}

/// A context as one names it on a command line.
fn option(contact: &Contact) -> String {
    let context = contact.context.as_ref();
    context.map_or(String::new(), |context| format!(" --context {context}"))
}

/// The commands that take it out of the clusters.
fn out_again(demo: &ClusterDemo) -> Vec<String> {
    let [one, two] = demo.contacts.each_ref().map(option);
    let other = |contact: &Contact| contact.context.clone().unwrap_or_default();
    let [first, second] = demo.contacts.each_ref().map(other);
    let namespace = demo::NAMESPACE;
    vec![
        format!("kubectl{one} delete namespace {namespace}"),
        format!("kubectl{two} delete namespace {namespace}"),
        format!("catamaran cluster remove cluster-2 --mesh mesh-1{one} --remote-context {second}"),
        format!("catamaran cluster remove cluster-1 --mesh mesh-2{two} --remote-context {first}"),
        format!("catamaran mesh delete mesh-1{one}"),
        format!("catamaran mesh delete mesh-2{two}"),
    ]
}

fn by_hand(demo: &ClusterDemo, keep: bool) -> String {
    let [one, two] = demo.contacts.each_ref().map(option);
    let namespace = demo::NAMESPACE;
    let end = match keep {
        false => "Ctrl-C takes everything out again.".to_owned(),
        true => format!("To take it out again:\n  {}", out_again(demo).join("\n  ")),
    };
    format!(
        "\nIt stays up. Go on by hand{}:\n  \
         catamaran status{one}{two}\n  \
         catamaran check{one}{two}\n  \
         catamaran proxy list{one}{two}\n  \
         kubectl{two} exec -n {namespace} deploy/sleep -c sleep -- sh -c 'for i in $(seq 1 10); do curl -s helloworld:5000/hello; done'\n  \
         catamaran verify helloworld:5000/hello{two} --namespace {namespace} --from deploy/sleep\n  \
         catamaran trust renew mesh-2{two} --roots {}\n\
         {end}\n",
        if keep { "" } else { ", in another terminal" },
        demo.roots.display(),
    )
}

fn isolation(asked: Option<Kept>, teller: Teller) -> Result<Isolation, Failure> {
    if let Some(Kept::Process) = asked {
        return Ok(Isolation::Process);
    }
    let (possible, why) = possible_isolation();
    let why = match (possible, why) {
        (Isolation::Netns, _) | (_, None) => return Ok(possible),
        (Isolation::Process, Some(why)) => why,
    };
    if asked.is_some() {
        return Err(OperateError::NotHeld {
            what: "--isolation netns is not possible here".into(),
            cause: why,
            fix: "use --isolation process; or run as root, with the programs ip and nft installed"
                .into(),
        }
        .into());
    }
    teller.say(&format!(
        "Isolation: process, since {why}.\n\
         Each pod is plain processes with an address of its own on loopback; calls go through the sidecar's HTTP proxy port.\n\
         No connection is captured, and the two networks are not kept apart.\n"
    ));
    Ok(Isolation::Process)
}

/// Brings everything down; whoever asks once more gets it at once.
async fn end(demo: &Demo, asked: &mut Asked, teller: Teller) -> Result<(), OperateError> {
    teller.say("\nEnding everything...\n");
    tokio::select! {
        ended = demo::end(&demo.dir, Stop::Drain) => return ended,
        () = asked.ended() => {}
    }
    demo::end(&demo.dir, Stop::Kill).await
}

fn verdict(report: &Report, interrupted: bool, context: &Context, teller: Teller) {
    let narrator = Narrator::new(context.glyphs, teller.terminal);
    for step in report
        .steps
        .iter()
        .filter(|step| step.state == StepState::NotRun)
    {
        teller.say(&narrator.not_run(step));
    }
    let seconds: f64 = report.steps.iter().map(|step| step.seconds).sum();
    teller.say(&match (report.held, interrupted) {
        (true, _) => format!(
            "\n{} everything held, in {seconds:.0} s\n",
            context.glyphs.pass
        ),
        (false, true) => "\ninterrupted\n".into(),
        (false, false) => format!(
            "\n{} not everything held, after {seconds:.0} s\n",
            context.glyphs.fail
        ),
    });
}

fn go_on(demo: &Demo) -> String {
    format!(
        "\nIt stays up. Go on by hand, in another terminal:\n  \
         export CATAMARAN_FLEET={}\n  \
         catamaran status\n  \
         catamaran check\n  \
         catamaran exec cluster-1 deploy/sleep -- sh -c 'for i in $(seq 1 10); do curl -s helloworld:5000/hello; done'\n  \
         catamaran verify helloworld:5000/hello --from cluster-2/deploy/sleep -n 100\n  \
         catamaran cluster stop cluster-1 --kill\n  \
         catamaran cluster start cluster-1\n\
         Ctrl-C ends everything and leaves nothing behind.\n",
        demo.dir.display()
    )
}

/// Who tells the story: on standard output, or beside the report on standard error.
#[derive(Debug, Clone, Copy)]
struct Teller {
    aside: bool,
    terminal: bool,
}

impl Teller {
    fn new(context: &Context) -> Teller {
        let aside = context.format != Format::Table;
        Teller {
            aside,
            terminal: match aside {
                true => std::io::stderr().is_terminal(),
                false => std::io::stdout().is_terminal(),
            },
        }
    }

    /// A reader that went away is no reason to leave a fleet behind.
    fn say(self, text: &str) {
        let _ = match self.aside {
            true => std::io::stderr().write_all(text.as_bytes()),
            false => std::io::stdout()
                .write_all(text.as_bytes())
                .and_then(|()| std::io::stdout().flush()),
        };
    }
}

/// Where the fleet lives.
#[derive(Debug)]
enum Home {
    /// A folder that was named, and stays.
    Kept(PathBuf),
    /// A folder that goes with the demo.
    Temporary(PathBuf),
}

impl Home {
    fn temporary() -> Result<Home, OperateError> {
        use std::os::unix::fs::DirBuilderExt;
        let folder = std::env::temp_dir();
        let mut n = std::process::id();
        loop {
            let path = folder.join(format!("catamaran-demo-{n:x}"));
            match std::fs::DirBuilder::new().mode(0o700).create(&path) {
                Ok(()) => return Ok(Home::Temporary(path)),
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
                    n = n.wrapping_add(0x10_0000);
                }
                Err(source) => return Err(OperateError::File { path, source }),
            }
        }
    }

    fn path(&self) -> &PathBuf {
        match self {
            Home::Kept(path) | Home::Temporary(path) => path,
        }
    }

    /// Takes a temporary folder away; when something failed it stays, for its logs.
    fn leave(self, well: bool, teller: Teller) {
        match self {
            Home::Temporary(path) if well => {
                if let Err(error) = std::fs::remove_dir_all(&path) {
                    teller.say(&format!(
                        "! the folder {} is left: {error}\n",
                        path.display()
                    ));
                }
            }
            Home::Temporary(path) => {
                teller.say(&format!(
                    "The logs are in {}; remove it when you have read them.\n",
                    path.display()
                ));
            }
            Home::Kept(_) => {}
        }
    }
}

/// Whoever wants the demo to end.
#[derive(Debug)]
struct Asked {
    signals: [Signal; 3],
}

impl Asked {
    fn listen() -> Result<Asked, Failure> {
        let listen = |kind| {
            signal(kind)
                .map_err(|error| Failure::Program(format!("signals cannot be heard: {error}")))
        };
        Ok(Asked {
            signals: [
                listen(SignalKind::interrupt())?,
                listen(SignalKind::terminate())?,
                listen(SignalKind::hangup())?,
            ],
        })
    }

    async fn ended(&mut self) {
        let [interrupt, terminate, hangup] = &mut self.signals;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
    }
}
