//! What the control plane costs on real API servers: `cargo xtask bench kubernetes`.
//!
//! Two API servers with their controllers and without nodes are started, an instance is installed on the one and reads the
//! other, and both are filled step by step. After each step the control plane, which is the binary itself, is started as a
//! process again and again. At the end an endpoint changes, and each change is followed until the last simulated proxy that
//! asked for its service has accepted it.
//!
//! Nothing here is asserted but that everything arrives. API servers go when this program does, also by Ctrl-C.

mod audit;
mod changes;
mod instance;
mod objects;
mod server;
mod starts;
mod table;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use catamaran_bench::control_plane::figures::round;
use catamaran_bench::control_plane::free_memory;
use catamaran_bench::proxy::Machine;
use serde_json::{Value, json};
use tokio::signal::unix::{SignalKind, signal};

use instance::Instance;
use objects::{EACH, Side};
use server::ApiServer;
use starts::{STAGES, Stage};

const HELP: &str = "\
Usage: bench-kubernetes BINARY CLUSTERS [--services 2000] [--remote N] [--starts 5] [--idle 120]
                        [--proxies 10,100] [--told 10] [--changes 50] [--minutes 60] [--out DIR]

  BINARY      the catamaran that is measured, optimised
  CLUSTERS    the program of the test clusters (cargo xtask cluster build prints it)
  --services  in the instance's own cluster, each with 10 pods and endpoints
  --remote    the same for the discovered cluster; as many as --services when not said, 0: there is none
  --starts    of the control plane, after each step of filling, and with a saved state
  --idle      seconds in which nothing changes, for the requests that are made all the same
  --proxies   that are connected when endpoints change; each asks for 20 services
  --told      of them ask for the service that changes
  --changes   in each cluster, for each number of proxies
  --minutes   after which it gives up, and takes the API servers down
  --out       where full.md, short.md and the control planes' log go
Each point is a line of JSON on the standard error as it comes; the tables are on the standard output at the end.
";

/// The most of anything: what is more would not fit into the addresses of pods, or into a day.
const MOST: usize = 10_000;

/// What API servers, their stores and controllers take, in bytes: of each when it is empty, and of each pod.
const OF_A_SERVER: u64 = 1 << 30;
const OF_A_POD: u64 = 100 << 10;

pub(crate) struct Settings {
    binary: PathBuf,
    clusters: PathBuf,
    services: usize,
    remote: usize,
    starts: usize,
    idle: Duration,
    proxies: Vec<usize>,
    told: usize,
    changes: usize,
    limit: Duration,
    out: PathBuf,
    /// What control planes log.
    log: PathBuf,
}

/// The two API servers; the second only when there is something to discover.
pub(crate) struct Both {
    own: ApiServer,
    other: Option<ApiServer>,
}

impl Both {
    /// Each of them, the own one first.
    pub(crate) fn each(&mut self) -> impl Iterator<Item = (Side, &mut ApiServer)> {
        let other = self.other.as_mut().map(|other| (Side::Discovered, other));
        std::iter::once((Side::Own, &mut self.own)).chain(other)
    }
}

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if args.iter().any(|arg| arg == "--help") {
        print!("{HELP}");
        return Ok(());
    }
    let settings = Settings::read(&args)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    // What ends early is dropped, and takes API servers and control planes with it.
    let full = runtime.block_on(async {
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        tokio::select! {
            done = tokio::time::timeout(settings.limit, run(&settings)) => {
                done.with_context(|| format!("not done after {:?}: --minutes", settings.limit))?
            }
            _ = interrupt.recv() => bail!("interrupted"),
            _ = terminate.recv() => bail!("told to end"),
        }
    })?;
    print!("{full}");
    Ok(())
}

impl Settings {
    fn read(args: &[String]) -> Result<Settings> {
        let [binary, clusters, rest @ ..] = args else {
            bail!("name the binary to measure, and the program of the test clusters\n\n{HELP}");
        };
        let mut settings = Settings {
            binary: std::path::absolute(binary)?,
            clusters: std::path::absolute(clusters)?,
            services: 2000,
            remote: MOST + 1,
            starts: 5,
            idle: Duration::from_secs(120),
            proxies: vec![10, 100],
            told: 10,
            changes: 50,
            limit: Duration::from_secs(3600),
            out: "target/bench-kubernetes".into(),
            log: PathBuf::new(),
        };
        for pair in rest.chunks(2) {
            let [name, value] = pair else {
                bail!("{} has no value\n\n{HELP}", pair[0]);
            };
            let number = |least: usize, most: usize| -> Result<usize> {
                let number: usize = value.parse().with_context(|| format!("{name} {value}"))?;
                if !(least..=most).contains(&number) {
                    bail!("{name} may be {least} to {most}, not {number}");
                }
                Ok(number)
            };
            match name.as_str() {
                "--services" => settings.services = number(21, MOST)?,
                "--remote" => settings.remote = number(0, MOST)?,
                "--starts" => settings.starts = number(1, 100)?,
                "--idle" => settings.idle = Duration::from_secs(number(1, 3600)? as u64),
                "--told" => settings.told = number(1, MOST)?,
                "--changes" => settings.changes = number(1, MOST)?,
                "--minutes" => settings.limit = Duration::from_secs(60 * number(1, 1440)? as u64),
                "--out" => settings.out = value.into(),
                "--proxies" => {
                    let numbers = value.split(',').map(|n| Ok(n.parse()?));
                    settings.proxies = numbers.collect::<Result<_>>().context("--proxies")?;
                    settings.proxies.sort_unstable();
                    if !settings.proxies.iter().all(|n| (1..=MOST).contains(n)) {
                        bail!("--proxies may each be 1 to {MOST}");
                    }
                }
                _ => bail!("there is no {name}\n\n{HELP}"),
            }
        }
        if settings.remote > MOST {
            settings.remote = settings.services;
        }
        std::fs::create_dir_all(&settings.out)?;
        settings.log = settings.out.join("control-plane.log");
        std::fs::write(&settings.log, "")?;
        Ok(settings)
    }
}

/// A point, as it comes.
pub(crate) fn say(point: &Value) {
    eprintln!("{point}");
}

async fn run(settings: &Settings) -> Result<String> {
    let (pods, servers) = (
        (settings.services + settings.remote) * EACH,
        1 + u64::from(settings.remote > 0),
    );
    let (needed, free) = (
        servers * OF_A_SERVER + pods as u64 * OF_A_POD,
        free_memory()?,
    );
    if free < needed {
        let mib = |bytes: u64| bytes >> 20;
        bail!(
            "API servers with {pods} pods may take {} MiB of memory, and {} are free: fewer --services, or another machine",
            mib(needed),
            mib(free)
        );
    }
    let folder = tempfile::Builder::new().prefix("bench-k").tempdir()?;
    let up = |name: &str| ApiServer::up(&settings.clusters, &folder.path().join(name));
    let mut both = Both {
        own: up("own")?,
        other: (settings.remote > 0).then(|| up("other")).transpose()?,
    };
    let files = folder.path().join("instance");
    std::fs::create_dir_all(&files)?;
    let instance = Instance::install(&files, &both.own, both.other.as_ref()).await?;

    let mut points = Vec::new();
    for stage in STAGES {
        points.push(fill(settings, &mut both, stage).await?);
        points.push(starts::measure(settings, &mut both, &instance, stage, false).await?);
    }
    let full = Stage::Endpoints;
    points.push(starts::measure(settings, &mut both, &instance, full, true).await?);

    starts::forget(&instance)?;
    let most = settings.proxies.last().copied().unwrap_or(0);
    both.own.make((0..most).map(objects::a_caller)).await?;
    let mut started = starts::start(settings, &mut both, &instance, full).await?;
    points.push(starts::idle(settings, &mut both, &mut started).await?);
    let plane = &mut started.plane;
    points.extend(changes::measure(settings, &mut both, &instance, plane).await?);

    let tables = table::full(&points, &Machine::look());
    std::fs::write(settings.out.join("full.md"), &tables)?;
    std::fs::write(settings.out.join("short.md"), table::short(&points))?;
    Ok(tables)
}

/// Puts what is new in this stage into each API server; how many objects, how large, and how long it took.
async fn fill(settings: &Settings, both: &mut Both, stage: Stage) -> Result<Value> {
    let (begin, mut made, mut sizes) = (Instant::now(), 0, Vec::new());
    for (side, server) in both.each() {
        let many = match side {
            Side::Own => settings.services,
            Side::Discovered => settings.remote,
        };
        let all = 0..many;
        let like = match stage {
            Stage::Endpoints => {
                made += server.make(all.map(|n| objects::a_slice(side, n))).await?;
                objects::a_slice(side, 0)
            }
            Stage::Pods => {
                let pods = all.flat_map(|n| (0..EACH).map(move |which| (n, which)));
                let pods = pods.map(|(n, which)| objects::a_pod(side, n, which));
                made += server.make(pods).await?;
                objects::a_pod(side, 0, 0)
            }
            Stage::Services => {
                made += server.make(all.map(objects::a_service)).await?;
                objects::a_service(0)
            }
            Stage::Nothing => continue,
        };
        sizes.push(server.get(&like).await?.to_string().len());
    }
    let point = json!({
        "point": "fill", "what": stage.word(), "objects": made, "seconds": round(begin.elapsed().as_secs_f64()),
        "bytes_each": sizes.first(),
    });
    say(&point);
    Ok(point)
}
