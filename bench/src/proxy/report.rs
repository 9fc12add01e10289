//! Records, and the tables made of them: medians, spreads, and ratios that are paired by round.

use std::fmt::Write;
use std::time::Duration;

use serde_json::{Value as Json, json};

use super::{Figure, Loaded, Row};

/// One row, one subject, one round.
#[derive(Debug, Clone)]
pub struct Record {
    /// Which round.
    pub round: usize,
    /// Which row.
    pub row: Row,
    /// `ours`, `envoy`, or who stood on the caller's and on the backend's side: `ours/envoy`.
    pub subject: String,
    /// What was measured.
    pub figures: Vec<(&'static str, f64)>,
    /// Answers counted.
    pub answers: u64,
    /// Errors; a row with one has failed.
    pub errors: u64,
    /// What went wrong first.
    pub failed: Option<String>,
    /// How many cores other work took while this was measured.
    pub noise: f64,
    /// How long it took, with starting the programs.
    pub took: Duration,
}

impl Record {
    pub(crate) fn new(round: usize, row: Row, subject: String) -> Record {
        Record {
            round,
            row,
            subject,
            figures: Vec::new(),
            answers: 0,
            errors: 0,
            failed: None,
            noise: 0.0,
            took: Duration::ZERO,
        }
    }

    pub(crate) fn add(&mut self, key: &'static str, value: f64) {
        self.figures.push((key, value));
    }

    pub(crate) fn fail(&mut self, what: String) {
        self.errors += 1;
        self.failed.get_or_insert(what);
    }

    pub(crate) fn answered(&mut self, loaded: &Loaded) {
        self.answers += loaded.answers;
        self.errors += loaded.errors;
        if self.failed.is_none() {
            self.failed.clone_from(&loaded.first_error);
        }
        if loaded.answers == 0 {
            self.fail("nothing was answered".into());
        }
    }

    fn value(&self, key: &str) -> Option<f64> {
        let found = self.figures.iter().find(|(name, _)| *name == key);
        found.filter(|_| self.errors == 0).map(|(_, value)| *value)
    }

    /// As it is kept.
    pub fn json(&self) -> Json {
        let figures: serde_json::Map<String, Json> = self
            .figures
            .iter()
            .map(|(key, value)| ((*key).to_owned(), json!(rounded(*value, 4))))
            .collect();
        json!({
            "round": self.round,
            "row": self.row.word(),
            "subject": self.subject,
            "figures": figures,
            "answers": self.answers,
            "errors": self.errors,
            "failed": self.failed,
            "noise": rounded(self.noise, 2),
            "took_s": rounded(self.took.as_secs_f64(), 2),
        })
    }
}

fn rounded(value: f64, decimals: i32) -> f64 {
    let shift = 10_f64.powi(decimals);
    (value * shift).round() / shift
}

/// All records of a run.
#[derive(Debug, Default)]
pub struct Report {
    /// In the order in which they were made.
    pub records: Vec<Record>,
}

const OURS: &str = "ours";
const ENVOY: &str = "envoy";

impl Report {
    /// Whether every request of every record was answered as it should.
    pub fn is_clean(&self) -> bool {
        self.records.iter().all(|record| record.errors == 0)
    }

    /// The figures that have aims, a line each: for the README.
    pub fn short(&self) -> String {
        let mut text = String::from(
            "| work | | ours | Envoy | ratio | at least | aim | |\n|---|---|---|---|---|---|---|---|\n",
        );
        for (row, figure) in self.lines() {
            let Some((least, aim)) = figure.aims else {
                continue;
            };
            let (ours, envoy) = (
                self.values(row, OURS, figure),
                self.values(row, ENVOY, figure),
            );
            let ratios = self.ratios(row, figure);
            let _ = writeln!(
                text,
                "| {} | {} | {} | {} | {} | {least} | {aim} | {} |",
                row.work(),
                figure.what,
                median_or(&ours, figure.decimals),
                median_or(&envoy, figure.decimals),
                median_or(&ratios, 2),
                verdict(&ratios, figure),
            );
        }
        text
    }

    /// Every figure with its spread, errors and noise: for `docs/performance.md`.
    pub fn full(&self) -> String {
        let mut text = String::from(
            "| row | work | | ours | Envoy | ratio, paired by round | at least / aim | | rounds | errors | noise, cores |\n\
             |---|---|---|---|---|---|---|---|---|---|---|\n",
        );
        for (row, figure) in self.lines() {
            let (ours, envoy) = (
                self.values(row, OURS, figure),
                self.values(row, ENVOY, figure),
            );
            let ratios = self.ratios(row, figure);
            let aims = figure
                .aims
                .map_or(String::new(), |(least, aim)| format!("{least} / {aim}"));
            let of_row: Vec<&Record> = self.of(row, OURS).chain(self.of(row, ENVOY)).collect();
            let noise: Vec<f64> = of_row.iter().map(|record| record.noise).collect();
            let _ = writeln!(
                text,
                "| {} | {} | {} | {} | {} | {} | {aims} | {} | {} | {} | {} |",
                row.word(),
                row.work(),
                figure.what,
                spread(&ours, figure.decimals),
                spread(&envoy, figure.decimals),
                spread(&ratios, 2),
                verdict(&ratios, figure),
                ours.len().min(envoy.len()),
                of_row.iter().map(|record| record.errors).sum::<u64>(),
                median_or(&noise, 2),
            );
        }
        text + &self.mixed()
    }

    fn mixed(&self) -> String {
        let mut subjects: Vec<&str> = self
            .records
            .iter()
            .filter(|record| record.row == Row::Mixed)
            .map(|r| r.subject.as_str())
            .collect();
        subjects.sort_unstable();
        subjects.dedup();
        if subjects.is_empty() {
            return String::new();
        }
        let mut text = String::from(
            "\n| mixed pair, caller's side/backend's side | HTTP/1.1: CPU, us a request | HTTP/2 | TCP | requests | errors |\n|---|---|---|---|---|---|\n",
        );
        for subject in subjects {
            let cells: Vec<String> = Row::Mixed
                .figures()
                .iter()
                .map(|figure| spread(&self.values(Row::Mixed, subject, *figure), 1))
                .collect();
            let of: Vec<&Record> = self.of(Row::Mixed, subject).collect();
            let answers: u64 = of.iter().map(|record| record.answers).sum();
            let errors: u64 = of.iter().map(|record| record.errors).sum();
            let _ = writeln!(
                text,
                "| {subject} | {} | {answers} | {errors} |",
                cells.join(" | ")
            );
        }
        text
    }

    fn lines(&self) -> impl Iterator<Item = (Row, Figure)> {
        let measured = Row::ALL
            .into_iter()
            .filter(|row| *row != Row::Mixed && self.records.iter().any(|r| r.row == *row));
        measured.flat_map(|row| row.figures().into_iter().map(move |figure| (row, figure)))
    }

    fn of(&self, row: Row, subject: &str) -> impl Iterator<Item = &Record> {
        self.records
            .iter()
            .filter(move |record| record.row == row && record.subject == subject)
    }

    fn values(&self, row: Row, subject: &str, figure: Figure) -> Vec<f64> {
        self.of(row, subject)
            .filter_map(|record| record.value(figure.key))
            .collect()
    }

    /// Ours by Envoy's of the same round.
    fn ratios(&self, row: Row, figure: Figure) -> Vec<f64> {
        let envoy = |round| {
            self.of(row, ENVOY)
                .find(|record| record.round == round)?
                .value(figure.key)
        };
        let pairs = self
            .of(row, OURS)
            .filter_map(|ours| Some((ours.value(figure.key)?, envoy(ours.round)?)));
        pairs
            .filter(|(_, envoy)| *envoy > 0.0)
            .map(|(ours, envoy)| ours / envoy)
            .collect()
    }
}

fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len().checked_sub(1)? / 2;
    let upper = sorted.len() / 2;
    Some((sorted[middle] + sorted[upper]) / 2.0)
}

fn median_or(values: &[f64], decimals: usize) -> String {
    median(values).map_or("failed".into(), |median| format!("{median:.decimals$}"))
}

/// `median (least–most)`
fn spread(values: &[f64], decimals: usize) -> String {
    let text = median_or(values, decimals);
    let least = values.iter().copied().fold(f64::INFINITY, f64::min);
    let most = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    match values.len() {
        0 | 1 => text,
        _ => format!("{text} ({least:.decimals$}–{most:.decimals$})"),
    }
}

fn verdict(ratios: &[f64], figure: Figure) -> &'static str {
    let (Some(ratio), Some((least, aim))) = (median(ratios), figure.aims) else {
        return if figure.aims.is_some() { "failed" } else { "" };
    };
    let reaches = |bound: f64| {
        if figure.more {
            ratio >= bound
        } else {
            ratio <= bound
        }
    };
    if reaches(aim) {
        "aim reached"
    } else if reaches(least) {
        "reached"
    } else {
        "**falls short**"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(round: usize, subject: &str, cpu: f64, errors: u64) -> Record {
        let mut record = Record::new(round, Row::Http1, subject.into());
        record.add("cpu_us", cpu);
        record.errors = errors;
        record
    }

    #[test]
    fn ratios_are_paired_by_round_and_errors_take_a_record_out() {
        let report = Report {
            records: vec![
                record(0, OURS, 40.0, 0),
                record(0, ENVOY, 100.0, 0),
                record(1, ENVOY, 200.0, 0),
                record(1, OURS, 60.0, 0),
                record(2, OURS, 1.0, 1),
                record(2, ENVOY, 100.0, 0),
            ],
        };
        let ratios = report.ratios(Row::Http1, Row::Http1.figures()[0]);
        assert_eq!(ratios, [0.4, 0.3]);
        assert!(!report.is_clean());
        let full = report.full();
        assert!(
            full.contains("50.0 (40.0–60.0)") && full.contains("0.35 (0.30–0.40)"),
            "{full}"
        );
        assert!(
            report.short().contains("| 0.35 | 0.45 | 0.3 | reached |"),
            "{}",
            report.short()
        );
    }

    #[test]
    fn a_row_without_a_clean_record_has_failed() {
        let report = Report {
            records: vec![record(0, OURS, 1.0, 3), record(0, ENVOY, 100.0, 0)],
        };
        assert!(
            report.short().contains("| failed | 100.0 | failed |"),
            "{}",
            report.short()
        );
    }

    #[test]
    fn more_is_better_where_a_figure_says_so() {
        let figure = Row::Connections.figures()[0];
        assert_eq!(verdict(&[2.6], figure), "aim reached");
        assert_eq!(verdict(&[1.7], figure), "reached");
        assert_eq!(verdict(&[1.0], figure), "**falls short**");
    }
}
