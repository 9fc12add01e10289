//! What the control plane costs, by services and by proxies, on its real ADS stream: `cargo xtask bench control-plane`.
//!
//! The control plane is the binary itself in a process of its own, with mTLS, on a fleet in a temporary folder. Proxies are
//! simulated (`caller.rs`). A change is another address in one EndpointSlice, written as a node writes it, and has arrived when
//! the last proxy that asked for that service has accepted it.
//!
//! CPU is the control plane's own, from the system, less what it uses when nothing happens; it is what to compare. Times depend
//! on what else the machine does. Nothing here is asserted.

mod storm;
mod table;
mod world;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use catamaran_bench::control_plane::caller::{self, Caller, Cold, FEW, Lookout, PATIENCE, Wants};
use catamaran_bench::control_plane::figures::{millis, percentile, round};
use catamaran_bench::control_plane::{Plane, free_memory};
use catamaran_identity::Credentials;
use catamaran_xds::TypeUrlKind;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

use storm::Storm;
use world::World;

const HELP: &str = "\
Usage: bench-control-plane BINARY [--services 100,1000,5000] [--proxies 10,200,1000] [--scopes some,all]
                           [--rounds 3] [--changes 20] [--minutes 15] [--storms yes] [--out DIR]

  BINARY      the catamaran that is measured, optimised
  --scopes    some: each proxy asks for 20 services, and 10 proxies for the one that changes; all: everything
  --rounds    of so many changes each, for every point
  --minutes   a point that would begin later is left out, and its row says so
  --storms    after the last point in scope all: changes without a pause, all services change, everybody comes back, a new service
  --out       where full.md and short.md go
Each point is a line of JSON on the standard error as it comes, and a row of the table on the standard output at the end.
";

/// Proxies that ask for the service that changes, in scope `some`.
const CONCERNED: usize = 10;
/// Proxies that are measured coming cold, one after the other.
const COLD: usize = 5;
/// As long as the control plane's slowest habit, so that an idle window has one of each.
const IDLE: Duration = Duration::from_secs(5);
/// What a round's last change leaves to be done takes less than this.
const TAIL: Duration = Duration::from_millis(100);
/// A change without a proxy is given this long.
const UNSEEN: Duration = Duration::from_millis(500);
/// Memory that a point must leave to the machine, in bytes.
const SPARE: u64 = 1 << 30;
/// What both sides of a connected proxy take at most, in bytes, and of each service that it asks for.
const OF_A_PROXY: (u64, u64) = (512 << 10, 256);

struct Settings {
    binary: PathBuf,
    services: Vec<usize>,
    proxies: Vec<usize>,
    scopes: Vec<Scope>,
    rounds: usize,
    changes: usize,
    /// When no further point begins.
    until: Instant,
    storms: bool,
    out: Option<PathBuf>,
}

#[derive(Clone, Copy, PartialEq)]
enum Scope {
    Some,
    All,
}

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let settings = Settings::read(&args)?;
    // Two thousand sockets and more; the control plane takes the limit over.
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, most, most)?;
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
        let mut full = table::full(&points);
        if !storms.is_empty() {
            full += &format!("\n{}", storm::table(&storms));
        }
        print!("{full}");
        if let Some(out) = &settings.out {
            std::fs::create_dir_all(out)?;
            std::fs::write(out.join("full.md"), full)?;
            std::fs::write(out.join("short.md"), table::short(&points))?;
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
            proxies: vec![10, 200, 1000],
            scopes: vec![Scope::Some, Scope::All],
            rounds: 3,
            changes: 20,
            until: Instant::now() + Duration::from_secs(15 * 60),
            storms: false,
            out: None,
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
                "--rounds" => settings.rounds = value.parse::<usize>()?.max(1),
                "--changes" => settings.changes = value.parse::<usize>()?.max(1),
                "--minutes" => {
                    let minutes: u64 = value.parse()?;
                    settings.until = Instant::now() + Duration::from_secs(60 * minutes);
                }
                "--out" => settings.out = Some(value.into()),
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

    /// Why a point is left out, if it is.
    fn left_out(&self, services: usize, scope: Scope, more: usize) -> Result<Option<String>> {
        if Instant::now() > self.until {
            return Ok(Some("left out: the time for all was over".into()));
        }
        let asked = match scope {
            Scope::Some => FEW,
            Scope::All => services,
        };
        let needed = more as u64 * (OF_A_PROXY.0 + OF_A_PROXY.1 * asked as u64) + SPARE;
        let free = free_memory()?;
        Ok((free < needed).then(|| {
            let mib = |bytes: u64| bytes >> 20;
            format!(
                "left out: it may take {} MiB, and {} are free",
                mib(needed),
                mib(free)
            )
        }))
    }
}

/// What every proxy asks for; `None` for one that asks for few, who differ.
fn wants(scope: Scope, services: usize, n: usize, all: &Arc<Wants>) -> Arc<Wants> {
    if scope == Scope::All {
        return all.clone();
    }
    // Service 0 is the one that changes.
    Arc::new(Wants::few(services, n, CONCERNED))
}

async fn run(
    settings: &Settings,
    services: usize,
    scope: Scope,
) -> Result<(Vec<Value>, Option<Value>)> {
    let mut points = Vec::new();
    let most = settings.proxies.last().copied().unwrap_or(0);
    let world = World::new(services, most + COLD)?;
    let mut plane = Plane::start(&mut world.command(&settings.binary), world.socket())?;
    let clock = Arc::new(rustls::time_provider::DefaultTimeProvider);
    let credentials = Arc::new(Credentials::new(world.holding()?, clock));
    let (lookout, mut finds) = Lookout::new();
    let all = Arc::new(Wants::all(services));
    let mut callers: Vec<Caller> = Vec::new();
    let mut change = 0;
    sleep(IDLE).await;
    let empty = plane.memory()?.anonymous;
    let address = plane.address;
    // Memory and proxies of the point before: what they took once is not counted again.
    let (mut memory_before, mut proxies_before) = (empty, 0);
    for count in &settings.proxies {
        let scope_word = if scope == Scope::All { "all" } else { "some" };
        if let Some(why) = settings.left_out(services, scope, count - callers.len())? {
            eprintln!("{scope_word}, {services} services, {count} proxies: {why}");
            points.push(json!({
                "services": services, "scope": scope_word, "proxies": count, "left_out": why,
            }));
            continue;
        }
        let connect = |n: usize| {
            let (credentials, lookout) = (credentials.clone(), lookout.clone());
            let wants = wants(scope, services, n, &all);
            async move { caller::connect(address, &credentials, n, wants, lookout).await }
        };
        let begin = Instant::now();
        let joined = count - callers.len();
        callers.extend(caller::connect_all(callers.len()..*count, connect).await?);
        let joining = begin.elapsed();
        sleep(Duration::from_secs(1)).await;
        let memory = plane.memory()?.anonymous;

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
        let counts = plane.counts()?;
        let (mut first, mut last) = (Vec::new(), Vec::new());
        let mut cpus = Vec::new();
        for _ in 0..settings.rounds {
            let (cpu, begin) = (plane.cpu()?, Instant::now());
            for _ in 0..settings.changes {
                change += 1;
                let times = one_change(&world, change, concerned, &lookout, &mut finds).await?;
                first.extend(times.first());
                last.extend(times.last());
            }
            // What follows the last answer belongs to the changes too.
            sleep(TAIL).await;
            let quiet = idle.mul_f64(begin.elapsed().as_secs_f64() / IDLE.as_secs_f64());
            let used = (plane.cpu()? - cpu).saturating_sub(quiet);
            cpus.push(millis(used / settings.changes as u32));
        }
        let now = plane.counts()?;
        first.sort_unstable();
        last.sort_unstable();
        cpus.sort_unstable_by(f64::total_cmp);
        let made = settings.rounds * settings.changes;
        let each = |count: u64| round(count as f64 / made as f64);
        let more = count - proxies_before;
        let point = json!({
            "services": services,
            "scope": scope_word,
            "proxies": count,
            "concerned": concerned,
            "changes": made,
            "ready_ms": millis(plane.start),
            "idle_cpu_percent": round(idle.as_secs_f64() / IDLE.as_secs_f64() * 100.0),
            "change_cpu_ms": cpus[cpus.len() / 2],
            "change_cpu_least_ms": cpus[0],
            "change_cpu_most_ms": cpus[cpus.len() - 1],
            "change_first_ack_ms": percentile(&first, 50),
            "change_first_ack_p99_ms": percentile(&first, 99),
            "change_last_ack_ms": percentile(&last, 50),
            "change_last_ack_p99_ms": percentile(&last, 99),
            "change_bytes": each(now.bytes - counts.bytes),
            "change_responses": each(now.responses - counts.responses),
            "change_resources": each(now.changed - counts.changed),
            "change_woken": each(now.woken - counts.woken),
            "cold_ms": millis(cold[COLD / 2].time),
            "cold_worst_ms": millis(cold[COLD - 1].time),
            "cold_cpu_ms": millis(cold_cpu),
            "cold_bytes": cold[COLD / 2].bytes,
            "join_ms": millis(joining),
            "joined": joined,
            "memory_empty_mib": round(empty as f64 / 1048576.0),
            "memory_mib": round(memory as f64 / 1048576.0),
            "memory_per_proxy_kib": (more > 0)
                .then(|| round(memory.saturating_sub(memory_before) as f64 / 1024.0 / more as f64)),
            "memory_without": proxies_before,
        });
        (memory_before, proxies_before) = (memory, *count);
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

/// Waits until so many proxies have accepted what is looked for; how long after the beginning each did, in order.
async fn found_by(
    many: usize,
    begin: Instant,
    finds: &mut mpsc::UnboundedReceiver<Instant>,
) -> Result<Vec<Duration>> {
    let found = caller::found_by(many, finds).await?;
    Ok(found.into_iter().map(|at| at - begin).collect())
}
