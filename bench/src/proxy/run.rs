//! The rounds: every row for each of those compared, in an order that turns with the round.

use std::time::{Duration, Instant};

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use super::load::{Load, Loaded, Pace};
use super::machine::{self, pin};
use super::program::{Kind, Program, Programs, free_port};
use super::report::{Record, Report};
use super::{Backend, Bootstrap, Place, Row, Speaks};

/// What to run.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Which comparisons.
    pub rows: Vec<Row>,
    /// How often.
    pub rounds: usize,
    /// How long each measurement is.
    pub time: Duration,
    /// The programs.
    pub programs: Programs,
}

/// Who stands on the caller's side (and is the gateway), and who on the backend's.
type Pair = (Kind, Kind);

const CONNECTIONS: usize = 64;
const RATE: f64 = 3_000.0;
const BODY: &str = "/bytes/1024";
/// 1 MiB
const BULK: &str = "/bytes/1048576";
const KEPT: usize = 1_000;
const CLUSTERS: usize = 5_000;

/// Runs it, and tells each record as soon as it is there.
///
/// # Errors
/// When the benchmark itself cannot go on; a proxy that fails is a failed record.
pub fn run(plan: &Plan, mut tell: impl FnMut(&Record)) -> Result<Report, String> {
    let files =
        getrlimit(Resource::RLIMIT_NOFILE).map_err(|error| format!("RLIMIT_NOFILE: {error}"))?;
    setrlimit(Resource::RLIMIT_NOFILE, files.1, files.1)
        .map_err(|error| format!("RLIMIT_NOFILE: {error}"))?;
    pin(plan.programs.own_core);
    let backend =
        Backend::start(plan.programs.own_core).map_err(|error| format!("the backend: {error}"))?;
    let bench = Bench { plan, backend };
    let mut report = Report::default();
    for round in 0..plan.rounds {
        for row in &plan.rows {
            let mut pairs: Vec<Pair> = match row {
                Row::Mixed => vec![(Kind::Ours, Kind::Envoy), (Kind::Envoy, Kind::Ours)],
                _ => vec![(Kind::Ours, Kind::Ours), (Kind::Envoy, Kind::Envoy)],
            };
            let turn = round % pairs.len();
            pairs.rotate_left(turn);
            for pair in pairs {
                let started = Instant::now();
                let mut record = Record::new(round, *row, subject(pair));
                if let Err(error) = bench.row(*row, pair, &mut record) {
                    record.fail(error);
                }
                record.took = started.elapsed();
                tell(&record);
                report.records.push(record);
            }
        }
    }
    Ok(report)
}

fn subject(pair: Pair) -> String {
    match pair {
        (a, b) if a == b => a.word().to_owned(),
        (a, b) => format!("{}/{}", a.word(), b.word()),
    }
}

struct Bench<'a> {
    plan: &'a Plan,
    backend: Backend,
}

/// What a load cost.
struct Cost {
    loaded: Loaded,
    /// Of each program, in their order.
    cpu: Vec<Duration>,
    /// How many cores other work took meanwhile.
    noise: f64,
}

impl Cost {
    fn total(&self) -> f64 {
        self.cpu.iter().sum::<Duration>().as_secs_f64()
    }

    fn per_answer(&self, cpu: f64) -> f64 {
        cpu * 1e6 / self.loaded.answers.max(1) as f64
    }
}

impl Bench<'_> {
    fn row(&self, row: Row, pair: Pair, record: &mut Record) -> Result<(), String> {
        match row {
            Row::Http1 | Row::Http2 | Row::Tcp => self.saturated(row, pair, record),
            Row::Http1Rate | Row::Http2Rate | Row::TcpRate => self.at_rate(row, pair, record),
            Row::Gateway => self.gateway(pair, record),
            Row::Connections | Row::WholeHandshakes => self.connections(row, pair, record),
            Row::BulkTcp | Row::BulkHttp2 => self.bulk(row, pair, record),
            Row::Idle => self.alone(0, pair.0, record),
            Row::Clusters => self.alone(CLUSTERS, pair.0, record),
            Row::IdleTcp | Row::IdleHttp1 => self.kept(row, pair, record),
            Row::Mixed => self.mixed(pair, record),
        }
    }

    /// Starts the path from its end, so that each next hop is there; the caller's side is the first of the programs.
    fn path(
        &self,
        (speaks, resume): (Speaks, bool),
        places: &[Place],
        pair: Pair,
    ) -> Result<Vec<Program>, String> {
        let mut upstream = self.backend.address();
        let mut programs = Vec::new();
        for place in places.iter().rev() {
            let kind = if *place == Place::Server {
                pair.1
            } else {
                pair.0
            };
            let listen = free_port()?;
            let bootstrap = Bootstrap {
                place: *place,
                speaks,
                listen,
                admin: free_port()?,
                upstream,
                resume,
                idle_clusters: 0,
            };
            programs.insert(0, self.plan.programs.start(kind, &bootstrap)?);
            upstream = listen;
        }
        Ok(programs)
    }

    fn pair(&self, speaks: Speaks, pair: Pair) -> Result<Vec<Program>, String> {
        self.path((speaks, true), &[Place::Client, Place::Server], pair)
    }

    fn load(
        &self,
        programs: &[Program],
        path: &str,
        connections: usize,
        pace: Pace,
    ) -> Result<Cost, String> {
        self.load_for(programs, path, connections, pace, self.plan.time)
    }

    fn load_for(
        &self,
        programs: &[Program],
        path: &str,
        connections: usize,
        pace: Pace,
        time: Duration,
    ) -> Result<Cost, String> {
        let warm = Duration::from_millis(700);
        let target = programs[0].listen;
        let load = Load {
            target,
            path: path.into(),
            connections,
            pace,
            warm,
            time,
        };
        let mut seen = Vec::new();
        let own = std::process::id();
        let loaded = load.run(|| {
            let cpu: Vec<Duration> = programs.iter().map(Program::cpu).collect();
            seen.push((cpu, machine::cpu(own), machine::busy()));
        });
        let loaded = loaded.map_err(|error| format!("the caller: {error}"))?;
        let [
            (cpu_before, own_before, busy_before),
            (cpu_after, own_after, busy_after),
        ] = &seen[..]
        else {
            return Err("the caller gave up before anything was measured".into());
        };
        let cpu: Vec<Duration> = cpu_before
            .iter()
            .zip(cpu_after)
            .map(|(before, after)| *after - *before)
            .collect();
        let known = cpu.iter().sum::<Duration>() + (*own_after - *own_before);
        let other = (*busy_after - *busy_before).as_secs_f64() - known.as_secs_f64();
        let noise = (other / loaded.took.as_secs_f64()).max(0.0);
        Ok(Cost { loaded, cpu, noise })
    }

    fn saturated(&self, row: Row, pair: Pair, record: &mut Record) -> Result<(), String> {
        let programs = self.pair(row.speaks(), pair)?;
        let cost = self.load(&programs, BODY, CONNECTIONS, Pace::Closed)?;
        record.add("cpu_us", cost.per_answer(cost.total()));
        record.add("per_second", cost.loaded.answers as f64 / cost.total());
        take(record, &cost);
        Ok(())
    }

    fn at_rate(&self, row: Row, pair: Pair, record: &mut Record) -> Result<(), String> {
        let programs = self.pair(row.speaks(), pair)?;
        let cost = self.load(&programs, BODY, CONNECTIONS, Pace::Rate(RATE))?;
        record.add("cpu_us", cost.per_answer(cost.total()));
        for (key, percent) in [("p50_us", 50.0), ("p99_us", 99.0)] {
            if let Some(took) = cost.loaded.latency.percentile(percent) {
                record.add(key, took.as_secs_f64() * 1e6);
            }
        }
        take(record, &cost);
        let sent = cost.loaded.answers as f64 / cost.loaded.took.as_secs_f64();
        if sent < 0.9 * RATE {
            record.fail(format!("only {sent:.0} requests/s were answered"));
        }
        Ok(())
    }

    fn gateway(&self, pair: Pair, record: &mut Record) -> Result<(), String> {
        let programs = self.path(
            (Speaks::Tcp, true),
            &[Place::Client, Place::Gateway, Place::Server],
            pair,
        )?;
        let cost = self.load(&programs, BODY, CONNECTIONS, Pace::Closed)?;
        record.add("cpu_us", cost.per_answer(cost.cpu[1].as_secs_f64()));
        take(record, &cost);
        Ok(())
    }

    fn connections(&self, row: Row, pair: Pair, record: &mut Record) -> Result<(), String> {
        let programs = self.path(
            (Speaks::Tcp, row != Row::WholeHandshakes),
            &[Place::Client, Place::Server],
            pair,
        )?;
        let cost = self.load(&programs, BODY, 16, Pace::NewConnections)?;
        record.add("per_cpu_s", cost.loaded.answers as f64 / cost.total());
        take(record, &cost);
        Ok(())
    }

    fn bulk(&self, row: Row, pair: Pair, record: &mut Record) -> Result<(), String> {
        let programs = self.pair(row.speaks(), pair)?;
        let cost = self.load(&programs, BULK, 8, Pace::Closed)?;
        let bytes = cost.loaded.bytes as f64;
        record.add("cpu_s_per_gb", cost.total() * 1e9 / bytes.max(1.0));
        record.add("gbit", bytes * 8e-9 / cost.loaded.took.as_secs_f64());
        take(record, &cost);
        Ok(())
    }

    /// One sidecar by itself; with 5,000 clusters or with one.
    fn alone(&self, idle_clusters: usize, kind: Kind, record: &mut Record) -> Result<(), String> {
        let bootstrap = Bootstrap {
            place: Place::Client,
            speaks: Speaks::Http2,
            listen: free_port()?,
            admin: free_port()?,
            upstream: self.backend.address(),
            resume: true,
            idle_clusters,
        };
        let program = self.plan.programs.start(kind, &bootstrap)?;
        record.add("ready_ms", program.ready.as_secs_f64() * 1e3);
        record.add("cpu_s", program.cpu().as_secs_f64());
        std::thread::sleep(Duration::from_secs(3));
        let memory = program.memory();
        record.add("rss_mib", memory.resident / 1024.0);
        record.add("anonymous_mib", memory.anonymous / 1024.0);
        Ok(())
    }

    /// A thousand connections in use at once, so that HTTP/1.1 needs as many between the sidecars, and then idle.
    fn kept(&self, row: Row, pair: Pair, record: &mut Record) -> Result<(), String> {
        let programs = self.pair(row.speaks(), pair)?;
        let few = Pace::Rate(200.0);
        let warmed = self.load_for(&programs, BODY, 16, few, Duration::from_millis(500))?;
        take(record, &warmed);
        let before: Vec<f64> = programs
            .iter()
            .map(|program| program.memory().anonymous)
            .collect();
        let loaded = Load::once(programs[0].listen, format!("/gather/{KEPT}"), KEPT)
            .map_err(|error| format!("the caller: {error}"))?;
        record.answered(&loaded);
        std::thread::sleep(Duration::from_secs(1));
        for ((program, before), key) in programs
            .iter()
            .zip(before)
            .zip(["client_kib", "server_kib"])
        {
            record.add(key, (program.memory().anonymous - before) / KEPT as f64);
        }
        Ok(())
    }

    fn mixed(&self, pair: Pair, record: &mut Record) -> Result<(), String> {
        let all = [
            ("h1_cpu_us", Speaks::Http1),
            ("h2_cpu_us", Speaks::Http2),
            ("tcp_cpu_us", Speaks::Tcp),
        ];
        for (key, speaks) in all {
            let programs = self.pair(speaks, pair)?;
            let time = self.plan.time.min(Duration::from_secs(1));
            let cost = self.load_for(&programs, BODY, CONNECTIONS, Pace::Closed, time)?;
            record.add(key, cost.per_answer(cost.total()));
            take(record, &cost);
        }
        Ok(())
    }
}

fn take(record: &mut Record, cost: &Cost) {
    record.answered(&cost.loaded);
    record.noise = record.noise.max(cost.noise);
}
