//! `bench-proxy --ours PATH --envoy PATH --out DIR [ROW...] [--rounds N] [--seconds S] [--quick] [--ahead]`, which
//! `cargo xtask bench` calls.

use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use catamaran_bench::proxy::{Certificates, Machine, Plan, Programs, Record, Row, run};

fn main() -> ExitCode {
    match measure(std::env::args().skip(1).collect()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(2)
        }
    }
}

#[derive(Debug)]
struct Asked {
    rows: Vec<Row>,
    rounds: usize,
    seconds: f64,
    ours: PathBuf,
    envoy: PathBuf,
    out: PathBuf,
    ahead: bool,
}

fn asked(words: Vec<String>) -> Result<Asked, String> {
    let (mut ours, mut envoy, mut out) = (None, None, None);
    let (mut rows, mut rounds, mut seconds, mut ahead) = (Vec::new(), 3, 3.0, false);
    let mut words = words.into_iter();
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or_else(|| format!("{word} wants a value"));
        let number = |text: String| {
            text.parse::<f64>()
                .map_err(|_| format!("{text:?} is no number"))
        };
        match word.as_str() {
            "--ours" => ours = Some(PathBuf::from(value()?)),
            "--envoy" => envoy = Some(PathBuf::from(value()?)),
            "--out" => out = Some(PathBuf::from(value()?)),
            "--rounds" => rounds = number(value()?)?.max(1.0) as usize,
            "--seconds" => seconds = number(value()?)?.clamp(0.2, 600.0),
            "--ahead" => ahead = true,
            "--quick" => (rounds, seconds) = (1, 1.0),
            name => rows.push(
                Row::ALL
                    .into_iter()
                    .find(|row| row.word() == name)
                    .ok_or_else(|| {
                        format!(
                            "there is no row {name:?}; there are {}",
                            Row::ALL.map(Row::word).join(", ")
                        )
                    })?,
            ),
        }
    }
    if rows.is_empty() {
        rows = Row::ALL.to_vec();
    }
    let missing = |name: &str| format!("{name} is missing; `cargo xtask bench` gives it");
    Ok(Asked {
        rows,
        rounds,
        seconds,
        ahead,
        ours: ours.ok_or_else(|| missing("--ours"))?,
        envoy: envoy.ok_or_else(|| missing("--envoy"))?,
        out: out.ok_or_else(|| missing("--out"))?,
    })
}

fn measure(words: Vec<String>) -> Result<ExitCode, String> {
    let asked = asked(words)?;
    if asked.ahead {
        Machine::ahead()?;
    }
    let machine = Machine::look();
    let dir = asked.out.join("run");
    let failed = |path: &PathBuf, error: std::io::Error| format!("{}: {error}", path.display());
    std::fs::create_dir_all(&dir).map_err(|error| failed(&dir, error))?;
    let core = usize::from(machine.cores > 1);
    let plan = Plan {
        rows: asked.rows,
        rounds: asked.rounds,
        time: Duration::from_secs_f64(asked.seconds),
        programs: Programs {
            ours: asked.ours.clone(),
            envoy: asked.envoy.clone(),
            certificates: Certificates::make(&dir)?,
            dir,
            core,
            own_core: 0,
        },
    };
    let path = asked.out.join("results.jsonl");
    let mut results = File::create(&path).map_err(|error| failed(&path, error))?;
    let report = run(&plan, |record| {
        println!("{}", line(record));
        let _ = writeln!(results, "{}", record.json());
    })?;
    let facts = facts(&machine, &plan, asked.seconds);
    let (short, full) = (report.short(), report.full());
    for (name, text) in [
        ("short.md", format!("{short}\n{facts}")),
        ("full.md", format!("{full}\n{facts}")),
    ] {
        let path = asked.out.join(name);
        std::fs::write(&path, text).map_err(|error| failed(&path, error))?;
    }
    println!("\n{full}\n{facts}");
    match report.is_clean() {
        true => Ok(ExitCode::SUCCESS),
        false => {
            eprintln!(
                "error: not every request was answered; see {}",
                path.display()
            );
            Ok(ExitCode::FAILURE)
        }
    }
}

fn line(record: &Record) -> String {
    let figures: Vec<String> = record
        .figures
        .iter()
        .map(|(key, value)| format!("{key} {value:.2}"))
        .collect();
    let failed = record
        .failed
        .as_ref()
        .map_or(String::new(), |what| format!("  FAILED: {what}"));
    format!(
        "{:>2} {:<12} {:<11} {}  noise {:.2}  errors {}{failed}",
        record.round + 1,
        record.row.word(),
        record.subject,
        figures.join("  "),
        record.noise,
        record.errors,
    )
}

/// Under what conditions the figures came to be.
fn facts(machine: &Machine, plan: &Plan, seconds: f64) -> String {
    let envoy = Machine::said(&plan.programs.envoy, &["--version"]);
    // `envoy  version: COMMIT/1.40.0/Clean/RELEASE/BoringSSL`
    let envoy = envoy
        .split_once("version:")
        .and_then(|(_, build)| build.split('/').nth(1))
        .unwrap_or("?");
    let commit = Machine::commit();
    format!(
        "{} rounds of {seconds} s, {}. {} cores of {}, {} GiB, Linux {}. Envoy {envoy}, Catamaran at commit {commit}. \
         One worker each, TLS 1.3, X25519, P-256 keys.\n",
        plan.rounds,
        Machine::date(),
        machine.cores,
        machine.processor,
        machine.memory,
        machine.kernel,
    )
}
