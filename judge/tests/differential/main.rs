//! Pairs drawn from a seed, and those written by hand.
//!
//! `JUDGE_SEED=N` draws others, `JUDGE_PAIR=N` plays one of them alone and shows it, `JUDGE_PAIRS=N` plays so many.

mod by_hand;

use std::collections::BTreeMap;
use std::net::SocketAddr;

use catamaran_judge::caller;
use catamaran_judge::differences;
use catamaran_judge::exchange::{self, Exchange};
use catamaran_judge::lots::Lots;
use catamaran_judge::outcome::Outcome;
use catamaran_judge::program::{self, Memory};
use catamaran_judge::proxies::{Maker, Proxy, address};
use catamaran_judge::world::{self, PORT, Programs};
use serde_json::{Value, json};

/// Configurations of a world.
const LISTENERS: usize = 60;
/// Exchanges with each.
const EXCHANGES: usize = 20;

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{name} is a number, not {text:?}")),
    )
}

async fn programs(memory: &Memory) -> Programs {
    let ip = address();
    let mut programs = Programs {
        http1: Vec::new(),
        http2: Vec::new(),
        bytes: Vec::new(),
        nobody: SocketAddr::new(ip, 1),
    };
    for name in ["one", "two", "three"] {
        let at = program::http1(name, ip, memory.clone()).await;
        programs.http1.push((name.into(), at));
    }
    for name in ["four", "five"] {
        let at = program::http2(name, ip, memory.clone()).await;
        programs.http2.push((name.into(), at));
    }
    for name in ["six", "seven"] {
        programs
            .bytes
            .push((name.into(), program::bytes(name, ip).await));
    }
    programs
}

/// Both proxies on one set of resources.
struct Court {
    memory: Memory,
    envoy: Proxy,
    ours: Proxy,
    _folder: tempfile::TempDir,
}

impl Court {
    async fn open(memory: Memory, listeners: Vec<Value>, programs: &Programs) -> Court {
        let folder = tempfile::tempdir().unwrap();
        let resources = json!({"listeners": listeners, "clusters": world::clusters(programs)});
        Court {
            memory,
            envoy: Proxy::start(Maker::Envoy, folder.path(), &resources).await,
            ours: Proxy::start(Maker::Ours, folder.path(), &resources).await,
            _folder: folder,
        }
    }

    async fn play(&self, proxy: &Proxy, listener: usize, exchange: &Exchange) -> Outcome {
        let to = SocketAddr::new(proxy.ip, PORT + listener as u16);
        let methods: Vec<&str> = exchange.methods.iter().map(String::as_str).collect();
        let (answers, fate) = caller::call(to, &exchange.pieces, &methods).await;
        Outcome {
            answers,
            fate,
            seen: self.memory.take(&exchange.case),
        }
    }

    /// Envoy's outcome and ours.
    async fn both(&self, listener: usize, exchange: &Exchange) -> (Outcome, Outcome) {
        let envoy = self.play(&self.envoy, listener, exchange).await;
        let ours = self.play(&self.ours, listener, exchange).await;
        (envoy, ours)
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
}

#[test]
fn drawn_pairs_agree() {
    let seeds = number("JUDGE_SEED").map_or(vec![3, 5], |seed| vec![seed]);
    let whole = seeds.len() > 1 && number("JUDGE_PAIR").or(number("JUDGE_PAIRS")).is_none();
    runtime().block_on(async {
        let mut met = BTreeMap::new();
        for seed in seeds {
            play(seed, &mut met).await;
        }
        println!("differences that are meant: {met:?}");
        if whole {
            let all = differences::ALL.iter().map(|one| one.name);
            let unmet: Vec<&str> = all.filter(|name| !met.contains_key(name)).collect();
            assert!(
                unmet.is_empty(),
                "differences that no pair meets: {unmet:?}"
            );
        }
    });
}

/// All pairs of a seed, or the one that the environment names.
async fn play(seed: u64, met: &mut BTreeMap<&'static str, usize>) {
    let alone = number("JUDGE_PAIR").map(|pair| pair as usize);
    let memory = Memory::default();
    let programs = programs(&memory).await;
    let managers: Vec<_> = (0..LISTENERS)
        .map(|at| world::draw(&mut Lots::new(seed, at as u64), &programs))
        .collect();
    let listeners = managers.iter().enumerate();
    let listeners = listeners.map(|(at, manager)| world::http_listener(at, manager.clone()));
    let mut court = Court::open(memory, listeners.collect(), &programs).await;
    let pairs = number("JUDGE_PAIRS").map_or(LISTENERS * EXCHANGES, |pairs| pairs as usize);
    let mut faults = Vec::new();
    for pair in (0..pairs).filter(|pair| alone.is_none_or(|alone| alone == *pair)) {
        let listener = pair % LISTENERS;
        let mut lots = Lots::new(seed, 1_000_000 + pair as u64);
        let exchange = exchange::draw(&mut lots, &format!("{seed}-{pair}"));
        let (envoy, ours) = court.both(listener, &exchange).await;
        if alone.is_some() {
            let manager = json!(managers[listener]);
            println!("{manager:#}\n{}\n{envoy:#?}\n{ours:#?}", exchange.text());
        }
        if envoy == ours {
            continue;
        }
        match differences::explain(&exchange, &envoy, &ours) {
            Some(names) => {
                for name in names {
                    *met.entry(name).or_insert(0) += 1;
                }
            }
            None => faults.push((pair, difference(&envoy, &ours))),
        }
    }
    assert!(court.ours.lives() && court.envoy.lives(), "a proxy ended");
    println!("{pairs} pairs of seed {seed}");
    for (pair, fault) in faults.iter().take(40) {
        println!("JUDGE_SEED={seed} JUDGE_PAIR={pair}: {fault}");
    }
    assert!(
        faults.is_empty(),
        "{} of {pairs} pairs of seed {seed} differ; play one again by the line above it",
        faults.len()
    );
}

/// The first thing that differs.
fn difference(envoy: &Outcome, ours: &Outcome) -> String {
    let first =
        |name: &str, a: String, b: String| (a != b).then(|| format!("{name}: Envoy {a}, ours {b}"));
    let mut parts = Vec::new();
    for (at, (a, b)) in envoy.answers.iter().zip(&ours.answers).enumerate() {
        match (a, b) {
            (Ok(a), Ok(b)) => parts.extend(
                [
                    first("status", a.status.to_string(), b.status.to_string()),
                    first(
                        "interim",
                        format!("{:?}", a.interim),
                        format!("{:?}", b.interim),
                    ),
                    lists("headers", &a.headers, &b.headers),
                    first("body", format!("{:?}", a.body), format!("{:?}", b.body)),
                    lists("trailers", &a.trailers, &b.trailers),
                    first("whole", a.whole.to_string(), b.whole.to_string()),
                ]
                .into_iter()
                .flatten(),
            ),
            (a, b) => {
                let short = |answer: &Result<catamaran_judge::outcome::Answer, String>| match answer
                {
                    Ok(answer) => answer.status.to_string(),
                    Err(error) => error.clone(),
                };
                parts.extend(first(&format!("answer {at}"), short(a), short(b)));
            }
        }
    }
    parts.extend(first(
        "answers",
        envoy.answers.len().to_string(),
        ours.answers.len().to_string(),
    ));
    parts.extend(first(
        "fate",
        format!("{:?}", envoy.fate),
        format!("{:?}", ours.fate),
    ));
    parts.extend(first(
        "seen",
        envoy.seen.len().to_string(),
        ours.seen.len().to_string(),
    ));
    for (a, b) in envoy.seen.iter().zip(&ours.seen) {
        parts.extend(
            [
                first("program", a.program.clone(), b.program.clone()),
                first("method", a.method.clone(), b.method.clone()),
                first("target", a.target.clone(), b.target.clone()),
                lists("seen headers", &a.headers, &b.headers),
                first(
                    "seen body",
                    format!("{:?}", a.body),
                    format!("{:?}", b.body),
                ),
                lists("seen trailers", &a.trailers, &b.trailers),
            ]
            .into_iter()
            .flatten(),
        );
    }
    parts.join("; ")
}

fn lists(name: &str, a: &[(String, String)], b: &[(String, String)]) -> Option<String> {
    let without = |a: &[(String, String)], b: &[(String, String)]| -> Vec<String> {
        a.iter()
            .filter(|pair| !b.contains(pair))
            .map(|(name, value)| format!("{name}: {}", value.chars().take(40).collect::<String>()))
            .collect()
    };
    (a != b).then(|| {
        format!(
            "{name}: only Envoy {:?}, only ours {:?}",
            without(a, b),
            without(b, a)
        )
    })
}
