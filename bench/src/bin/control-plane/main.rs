//! What the control plane costs, by services and by proxies, on its real ADS stream: `cargo xtask bench control-plane`.
//!
//! The control plane is the binary itself in a process of its own, with mTLS, on a fleet in a temporary folder. Proxies are
//! simulated (`caller.rs`). A change is another address in one EndpointSlice, written as a node writes it, and has arrived when
//! the last proxy that asked for that service has accepted it.
//!
//! CPU is the control plane's own, from the system, less what it uses when nothing happens; it is what to compare. Times depend
//! on what else the machine does. Nothing here is asserted.

mod caller;
mod plane;
mod storm;
mod world;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use catamaran_identity::Credentials;
use catamaran_xds::TypeUrlKind;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use caller::{Caller, Cold, Lookout, Wants};
use plane::Plane;
use storm::Storm;
use world::World;

const HELP: &str = "\
Usage: bench-control-plane BINARY [--services 100,1000,5000] [--proxies 0,10,200,1000] [--scopes some,all] [--changes 10]
                           [--storms yes]

  BINARY      the catamaran that is measured, optimised
  --scopes    some: each proxy asks for 20 services, and 10 proxies for the one that changes; all: everything
  --storms    after the last point in scope all: a new service, changes without a pause, and everybody comes back
Each point is a line of JSON on the standard error as it comes, and a row of the table on the standard output at the end.
";

/// Services that a proxy asks for in scope `some`.
const FEW: usize = 20;
/// Proxies that ask for the service that changes, in scope `some`.
const CONCERNED: usize = 10;
/// Proxies that connect at the same time.
const AT_ONCE: usize = 8;
/// Proxies that are measured coming cold, one after the other.
const COLD: usize = 5;
/// As long as the control plane's slowest habit, so that an idle window has one of each.
const IDLE: Duration = Duration::from_secs(5);
/// A change without a proxy is given this long.
const UNSEEN: Duration = Duration::from_millis(500);
/// Only what hangs takes so long.
const PATIENCE: Duration = Duration::from_secs(300);

struct Settings {
    binary: PathBuf,
    services: Vec<usize>,
    proxies: Vec<usize>,
    scopes: Vec<Scope>,
    changes: usize,
    storms: bool,
}

#[derive(Clone, Copy, PartialEq)]
enum Scope {
    Some,
    All,
}

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let settings = Settings::read(&args)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let (mut points, mut storms) = (Vec::new(), Vec::new());
        for scope in &settings.scopes {
            for services in &settings.services {
                let (some, storm) = run(&settings, *services, *scope).await?;
                points.extend(some);
                storms.extend(storm);
            }
        }
        print!("{}", table(&points));
        if !storms.is_empty() {
            print!("\n{}", storm::table(&storms));
        }
        Ok(())
    })
}

impl Settings {
    fn read(args: &[String]) -> Result<Settings> {
        let [binary, rest @ ..] = args else {
            bail!("name the binary to measure\n\n{HELP}");
        };
        let mut settings = Settings {
            binary: binary.into(),
            services: vec![100, 1000, 5000],
            proxies: vec![0, 10, 200, 1000],
            scopes: vec![Scope::Some, Scope::All],
            changes: 10,
            storms: false,
        };
        for pair in rest.chunks(2) {
            let [name, value] = pair else {
                bail!("{} has no value\n\n{HELP}", pair[0]);
            };
            let numbers =
                || -> Result<Vec<usize>> { value.split(',').map(|n| Ok(n.parse()?)).collect() };
            match name.as_str() {
                "--services" => settings.services = numbers()?,
                "--proxies" => settings.proxies = numbers()?,
                "--changes" => settings.changes = value.parse()?,
                "--storms" => settings.storms = value == "yes",
                "--scopes" => {
                    let scopes = value.split(',').map(|word| match word {
                        "some" => Ok(Scope::Some),
                        "all" => Ok(Scope::All),
                        _ => bail!("a scope is some or all, not {word:?}"),
                    });
                    settings.scopes = scopes.collect::<Result<_>>()?;
                }
                _ => bail!("there is no {name}\n\n{HELP}"),
            }
        }
        settings.proxies.sort_unstable();
        Ok(settings)
    }
}

/// What every proxy asks for; `None` for one that asks for few, who differ.
fn wants(scope: Scope, services: usize, n: usize, all: &Arc<Wants>) -> Arc<Wants> {
    if scope == Scope::All {
        return all.clone();
    }
    // Service 0 is the one that changes. The others are spread so that each is wanted about as often.
    let others = services - 1;
    let first = if n < CONCERNED { vec![0] } else { Vec::new() };
    let step = (0..FEW.min(others)).map(|k| 1 + (n * 7 + k * (others / FEW).max(1)) % others);
    let chosen: Vec<usize> = first.into_iter().chain(step).take(FEW).collect();
    Arc::new(Wants::some(&chosen))
}

async fn run(
    settings: &Settings,
    services: usize,
    scope: Scope,
) -> Result<(Vec<Value>, Option<Value>)> {
    let mut points = Vec::new();
    let most = settings.proxies.last().copied().unwrap_or(0);
    let world = World::new(services, most + COLD)?;
    let mut plane = Plane::start(&settings.binary, &world)?;
    let clock = Arc::new(rustls::time_provider::DefaultTimeProvider);
    let credentials = Arc::new(Credentials::new(world.holding()?, clock));
    let (lookout, mut finds) = Lookout::new();
    let all = Arc::new(Wants::all(services));
    let mut callers: Vec<Caller> = Vec::new();
    let mut change = 0;
    sleep(IDLE).await;
    let empty = plane.memory()?;
    let address = plane.address;
    for count in &settings.proxies {
        let connect = |n: usize| {
            let (credentials, lookout) = (credentials.clone(), lookout.clone());
            let wants = wants(scope, services, n, &all);
            async move { caller::connect(address, &credentials, n, wants, lookout).await }
        };
        let begin = Instant::now();
        let mut waiting = callers.len()..*count;
        let mut coming = JoinSet::new();
        let joined = waiting.len();
        loop {
            while coming.len() < AT_ONCE
                && let Some(n) = waiting.next()
            {
                coming.spawn(connect(n));
            }
            let come = timeout(PATIENCE, coming.join_next()).await;
            match come.context("proxies do not get their configuration")? {
                Some(caller) => callers.push(caller??),
                None => break,
            }
        }
        let joining = begin.elapsed();
        sleep(Duration::from_secs(1)).await;
        let memory = plane.memory()?;

        let mut cold: Vec<Cold> = Vec::new();
        let before = plane.cpu()?;
        for n in 0..COLD {
            let come = timeout(PATIENCE, connect(most + n)).await;
            cold.push(come.context("a cold proxy gets nothing")??.cold);
        }
        let cold_cpu = (plane.cpu()? - before) / COLD as u32;
        cold.sort_by_key(|cold| cold.time);
        sleep(Duration::from_secs(1)).await;

        let before = plane.cpu()?;
        sleep(IDLE).await;
        let idle = plane.cpu()? - before;

        let concerned = match scope {
            Scope::All => *count,
            Scope::Some => (*count).min(CONCERNED),
        };
        let (counts, cpu, begin) = (plane.counts()?, plane.cpu()?, Instant::now());
        let mut last = Vec::new();
        let mut first = Vec::new();
        for _ in 0..settings.changes {
            change += 1;
            let times = one_change(&world, change, concerned, &lookout, &mut finds).await?;
            first.extend(times.first());
            last.extend(times.last());
        }
        let quiet = idle.mul_f64(begin.elapsed().as_secs_f64() / IDLE.as_secs_f64());
        let cpu = (plane.cpu()? - cpu).saturating_sub(quiet) / settings.changes as u32;
        let now = plane.counts()?;
        first.sort_unstable();
        last.sort_unstable();
        let each = |count: u64| count as f64 / settings.changes as f64;
        let point = json!({
            "services": services,
            "scope": if scope == Scope::All { "all" } else { "some" },
            "proxies": count,
            "concerned": concerned,
            "ready_ms": millis(plane.start),
            "idle_cpu_percent": round(idle.as_secs_f64() / IDLE.as_secs_f64() * 100.0),
            "change_cpu_ms": millis(cpu),
            "change_first_ack_ms": first.get(first.len() / 2).map(|time| millis(*time)),
            "change_last_ack_ms": last.get(last.len() / 2).map(|time| millis(*time)),
            "change_last_ack_worst_ms": last.last().map(|time| millis(*time)),
            "change_bytes": each(now.bytes - counts.bytes),
            "change_responses": each(now.responses - counts.responses),
            "change_resources": each(now.changed - counts.changed),
            "change_woken": each(now.woken - counts.woken),
            "cold_ms": millis(cold[COLD / 2].time),
            "cold_cpu_ms": millis(cold_cpu),
            "cold_bytes": cold[COLD / 2].bytes,
            "join_ms": millis(joining),
            "joined": joined,
            "memory_empty_mib": round(empty as f64 / 1048576.0),
            "memory_mib": round(memory as f64 / 1048576.0),
            "memory_per_proxy_kib": (*count > 0).then(|| round(memory.saturating_sub(empty) as f64 / 1024.0 / *count as f64)),
        });
        eprintln!("{point}");
        points.push(point);
    }
    let storm = match settings.storms && scope == Scope::All && !callers.is_empty() {
        true => {
            let storm = Storm {
                world: &world,
                plane: &mut plane,
                credentials: &credentials,
                lookout: &lookout,
                finds: &mut finds,
                callers,
                change,
            };
            Some(storm.run().await?)
        }
        false => None,
    };
    if let Some(storm) = &storm {
        eprintln!("{storm}");
    }
    Ok((points, storm))
}

/// The columns that people look at: heading, and the point's member.
const COLUMNS: [(&str, &str); 11] = [
    ("scope", "scope"),
    ("services", "services"),
    ("proxies", "proxies"),
    ("concerned", "concerned"),
    ("CPU per change, ms", "change_cpu_ms"),
    ("to first ACK, ms", "change_first_ack_ms"),
    ("to last ACK, ms", "change_last_ack_ms"),
    ("bytes per change", "change_bytes"),
    ("memory per proxy, KiB", "memory_per_proxy_kib"),
    ("cold proxy, ms", "cold_ms"),
    ("its bytes", "cold_bytes"),
];

fn table(points: &[Value]) -> String {
    let row = |cells: Vec<String>| format!("| {} |\n", cells.join(" | "));
    let mut text = row(COLUMNS.map(|(heading, _)| heading.to_owned()).into());
    text += &row(COLUMNS.map(|_| "---".to_owned()).into());
    for point in points {
        let cell = |(_, member)| match &point[member] {
            Value::Null => "-".to_owned(),
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        text += &row(COLUMNS.map(cell).into());
    }
    text
}

/// Gives service 0 another address, and waits until everybody concerned accepted it; when each did, in order.
async fn one_change(
    world: &World,
    change: usize,
    concerned: usize,
    lookout: &Lookout,
    finds: &mut mpsc::UnboundedReceiver<Instant>,
) -> Result<Vec<Duration>> {
    let address = world::fresh(change);
    // Who came cold meanwhile has found the change before.
    while finds.try_recv().is_ok() {}
    lookout.look_for(TypeUrlKind::Endpoints, &address);
    let begin = Instant::now();
    world.slice(0, &[address, world::place(0, 1)])?;
    if concerned == 0 {
        sleep(UNSEEN).await;
        return Ok(Vec::new());
    }
    found_by(concerned, begin, finds)
        .await
        .with_context(|| format!("change {change}"))
}

/// Waits until so many proxies have accepted what is looked for; when each did, in order.
async fn found_by(
    many: usize,
    begin: Instant,
    finds: &mut mpsc::UnboundedReceiver<Instant>,
) -> Result<Vec<Duration>> {
    let mut times = Vec::with_capacity(many);
    while times.len() < many {
        let found = timeout(PATIENCE, finds.recv()).await;
        let found =
            found.with_context(|| format!("{} of {many} proxies were told", times.len()))?;
        times.push(found.context("all callers are gone")? - begin);
    }
    times.sort_unstable();
    Ok(times)
}

fn millis(time: Duration) -> f64 {
    round(time.as_secs_f64() * 1000.0)
}

fn round(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}
