//! Starts of the control plane: how long until it knows everything, what that takes, and what it asks API servers for.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use catamaran_bench::control_plane::Plane;
use catamaran_bench::control_plane::figures::{millis, round};
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::audit::Asked;
use crate::instance::{self, Instance, OTHER, OWN};
use crate::objects::{EACH, Side};
use crate::{Both, Settings, say};

/// The control plane's status is asked for this often; each time costs it some CPU, so not more often.
const LOOK: Duration = Duration::from_millis(25);
/// What follows a start is over by then: statuses are written, buffers given back, the state saved.
pub(crate) const SETTLE: Duration = Duration::from_secs(5);
/// Only what hangs takes so long.
const PATIENCE: Duration = Duration::from_secs(300);
/// A saved state is written at most so long after a start.
const SAVED: Duration = Duration::from_secs(60);

/// What API servers hold when it is started: of each kind what the ones before have, too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stage {
    Nothing,
    Services,
    Pods,
    Endpoints,
}

/// All stages, in the order in which API servers are filled.
pub(crate) const STAGES: [Stage; 4] = [
    Stage::Nothing,
    Stage::Services,
    Stage::Pods,
    Stage::Endpoints,
];

impl Stage {
    /// What there is.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Stage::Nothing => "nothing",
            Stage::Services => "services",
            Stage::Pods => "services, pods",
            Stage::Endpoints => "services, pods, endpoints",
        }
    }
}

/// One control plane that has come to know everything.
pub(crate) struct Started {
    pub(crate) plane: Plane,
    /// What it asked each API server for, until now.
    pub(crate) asked: Vec<(Side, Asked)>,
    fresh: Duration,
    cpu: Duration,
    resident: u64,
}

/// What a cluster of this stage shows in the status: services, endpoints.
fn expected(stage: Stage, services: usize) -> (u64, u64) {
    let services = services as u64;
    let of = |there: bool, many: u64| if there { many } else { 0 };
    (
        of(stage >= Stage::Services, services),
        of(stage >= Stage::Endpoints, services * EACH as u64),
    )
}

/// Starts it and waits until it knows everything.
pub(crate) async fn start(
    settings: &Settings,
    both: &mut Both,
    instance: &Instance,
    stage: Stage,
) -> Result<Started> {
    for (_, server) in both.each() {
        server.trail.skip()?;
    }
    std::fs::create_dir_all(instance.state())?;
    let mut command = instance.command(&settings.binary, &settings.log)?;
    let named = || named(settings);
    let mut plane = Plane::start(&mut command, instance.socket()).with_context(named)?;
    let mut wanted = vec![(OWN, expected(stage, settings.services))];
    if settings.remote > 0 {
        wanted.push((OTHER, expected(stage, settings.remote)));
    }
    loop {
        // Threads that end before the next look are counted by this one.
        plane.cpu()?;
        let status = plane.status().with_context(named)?;
        let there = |(name, (services, endpoints)): &(&str, (u64, u64))| {
            let clusters = status["clusters"].as_array();
            clusters.is_some_and(|all| {
                all.iter().any(|one| {
                    // The API server's own service, `kubernetes`, may be there too.
                    one["name"] == *name
                        && one["freshness"] == "fresh"
                        && (one["services"].as_u64()).is_some_and(|known| known >= *services)
                        && one["endpoints"] == *endpoints
                })
            })
        };
        if wanted.iter().all(there) {
            let (fresh, memory) = (plane.age(), plane.memory()?);
            let mut started = Started {
                fresh,
                cpu: plane.cpu()?,
                resident: memory.resident,
                plane,
                asked: Vec::new(),
            };
            sleep(SETTLE).await;
            for (side, server) in both.each() {
                let mut asked = Asked::default();
                server.trail.read(&instance::user(side), &mut asked)?;
                started.asked.push((side, asked));
            }
            return Ok(started);
        }
        if plane.age() > PATIENCE {
            bail!(
                "{} does not know everything after {PATIENCE:?}; wanted {wanted:?}; it says {:#}",
                named(),
                status["clusters"]
            );
        }
        sleep(LOOK).await;
    }
}

/// Starts it again and again on what is there now; `saved`: with what the last one knew.
pub(crate) async fn measure(
    settings: &Settings,
    both: &mut Both,
    instance: &Instance,
    stage: Stage,
    saved: bool,
) -> Result<Value> {
    forget(instance)?;
    if saved {
        // One that leaves behind what it knew.
        let first = start(settings, both, instance, stage).await?;
        let begin = Instant::now();
        let shards = if settings.remote > 0 { 2 } else { 1 };
        while shards_in(instance)? < shards {
            if begin.elapsed() > SAVED {
                bail!(
                    "{} has saved {} of {shards} clusters after {SAVED:?}",
                    named(settings),
                    shards_in(instance)?
                );
            }
            sleep(LOOK).await;
        }
        first.plane.end()?;
    }
    let mut rows: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    let mut requests: BTreeMap<(&str, String, String), Vec<f64>> = BTreeMap::new();
    for _ in 0..settings.starts {
        if !saved {
            forget(instance)?;
        }
        let started = start(settings, both, instance, stage).await?;
        let mib = |bytes: u64| bytes as f64 / 1048576.0;
        let settled = started.plane.memory()?;
        for (name, value) in [
            ("ready_ms", millis(started.plane.start)),
            ("fresh_ms", millis(started.fresh)),
            ("cpu_ms", millis(started.cpu)),
            ("resident_fresh_mib", mib(started.resident)),
            ("resident_mib", mib(settled.resident)),
            ("anonymous_mib", mib(settled.anonymous)),
            (
                "peak_mib",
                // The kernel's three counts are not of the same instant.
                mib(settled.peak.max(settled.resident).max(started.resident)),
            ),
        ] {
            rows.entry(name).or_default().push(value);
        }
        for (side, asked) in &started.asked {
            let failed = (
                ("-".to_owned(), "refused or failed".to_owned()),
                asked.failed,
            );
            let all = asked
                .requests
                .iter()
                .map(|(what, count)| (what.clone(), *count));
            for ((verb, resource), count) in all.chain([failed]) {
                let row = requests.entry((side.word(), verb, resource)).or_default();
                row.push(count as f64);
            }
        }
        started.plane.end()?;
    }
    let mut point = json!({
        "point": "start", "what": stage.word(), "saved": saved, "starts": settings.starts,
        "services": expected(stage, settings.services).0 + expected(stage, settings.remote).0,
        "pods": if stage >= Stage::Pods { (settings.services + settings.remote) * EACH } else { 0 },
        "endpoints": expected(stage, settings.services).1 + expected(stage, settings.remote).1,
    });
    for (name, mut values) in rows {
        point[name] = spread(&mut values);
    }
    let requests: Vec<Value> = requests
        .into_iter()
        .map(|((side, verb, resource), counts)| {
            let all: f64 = counts.iter().sum();
            json!({"server": side, "verb": verb, "resource": resource, "each": round(all / settings.starts as f64)})
        })
        .collect();
    point["requests"] = json!(requests);
    say(&point);
    Ok(point)
}

/// One window in which nothing changes: requests a minute, watches that stand, CPU.
pub(crate) async fn idle(
    settings: &Settings,
    both: &mut Both,
    started: &mut Started,
) -> Result<Value> {
    for ((side, server), (_, asked)) in both.each().zip(&mut started.asked) {
        server.trail.read(&instance::user(side), asked)?;
        asked.begin();
    }
    let (cpu, begin) = (started.plane.cpu()?, Instant::now());
    sleep(settings.idle).await;
    let (cpu, window) = (started.plane.cpu()? - cpu, begin.elapsed());
    let mut servers = Vec::new();
    for ((side, server), (_, asked)) in both.each().zip(&mut started.asked) {
        server.trail.read(&instance::user(side), asked)?;
        let minutes = window.as_secs_f64() / 60.0;
        let requests: Vec<Value> = (asked.requests.iter())
            .map(|((verb, resource), count)| {
                json!({"verb": verb, "resource": resource, "per_minute": round(*count as f64 / minutes)})
            })
            .collect();
        servers.push(json!({
            "server": side.word(), "requests": requests, "failed": asked.failed, "watches": asked.watches(),
        }));
    }
    let memory = started.plane.memory()?;
    let point = json!({
        "point": "idle", "seconds": round(window.as_secs_f64()), "servers": servers,
        "cpu_percent": round(cpu.as_secs_f64() / window.as_secs_f64() * 100.0),
        "resident_mib": round(memory.resident as f64 / 1048576.0),
    });
    say(&point);
    Ok(point)
}

/// Whom an error is about, and where more of it is.
fn named(settings: &Settings) -> String {
    format!(
        "the control plane, whose log is {},",
        settings.log.display()
    )
}

/// Lets the next control plane know nothing.
pub(crate) fn forget(instance: &Instance) -> Result<()> {
    match std::fs::remove_dir_all(instance.state()) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).context("the state folder")
        }
        _ => Ok(()),
    }
}

/// How many clusters have a saved shard.
fn shards_in(instance: &Instance) -> Result<usize> {
    let mut shards = 0;
    for entry in std::fs::read_dir(instance.state())? {
        let name = entry?.file_name();
        let name = name.to_string_lossy();
        shards += usize::from(name.starts_with("shard-") && name.ends_with(".json"));
    }
    Ok(shards)
}

/// Median, least and most.
pub(crate) fn spread(values: &mut [f64]) -> Value {
    values.sort_unstable_by(f64::total_cmp);
    let at = |n: usize| values.get(n).map(|value| round(*value));
    let last = values.len().saturating_sub(1);
    json!({"median": at(values.len() / 2), "least": at(0), "most": at(last)})
}
