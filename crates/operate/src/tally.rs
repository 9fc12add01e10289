//! What calls came to: by version and instance, failures, and the longest time without an answer.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// One call that ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Call {
    /// When it was sent, in milliseconds since the first was.
    pub sent_ms: f64,
    /// How long it took, in milliseconds.
    pub took_ms: f64,
    /// The answer's body, cut; none when it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<String>,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

impl Call {
    /// When its answer came, in milliseconds since the first was sent.
    pub fn ended_ms(&self) -> f64 {
        self.sent_ms + self.took_ms
    }

    /// Version and instance of an answer `Hello version: v1, instance: helloworld-v1-...`.
    pub fn hello(&self) -> Option<(&str, &str)> {
        let rest = self
            .answer
            .as_deref()?
            .trim()
            .strip_prefix("Hello version: ")?;
        rest.split_once(", instance: ")
    }
}

/// Latencies, in milliseconds, rounded to two decimals.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Latency {
    /// Half of the calls took at most this.
    pub p50: f64,
    /// 99 of 100 calls took at most this.
    pub p99: f64,
    /// The longest.
    pub max: f64,
}

/// Calls, added up.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Tally {
    /// How many were sent.
    pub sent: usize,
    /// How many got an answer of 2xx.
    pub ok: usize,
    /// How many did not.
    pub failed: usize,
    /// The answers by version.
    pub versions: BTreeMap<String, usize>,
    /// The answers by instance.
    pub instances: BTreeMap<String, usize>,
    /// The failures by reason.
    pub errors: BTreeMap<String, usize>,
    /// The longest time between two answers (or from the first call to the first answer), in milliseconds.
    pub longest_gap_ms: u64,
    /// How long answers took.
    pub latency_ms: Latency,
}

/// Adds calls up. An answer of another shape counts under the version `other`.
pub fn tally(calls: &[Call]) -> Tally {
    let mut tally = Tally {
        sent: calls.len(),
        ..Tally::default()
    };
    let mut answered: Vec<f64> = Vec::new();
    let mut took: Vec<f64> = Vec::new();
    for call in calls {
        if let Some(error) = &call.error {
            tally.failed += 1;
            *tally.errors.entry(error.clone()).or_default() += 1;
            continue;
        }
        tally.ok += 1;
        answered.push(call.ended_ms());
        took.push(call.took_ms);
        let (version, instance) = call.hello().unwrap_or(("other", "unknown"));
        *tally.versions.entry(version.into()).or_default() += 1;
        *tally.instances.entry(instance.into()).or_default() += 1;
    }
    tally.longest_gap_ms = longest_gap(calls, answered);
    took.sort_by(f64::total_cmp);
    tally.latency_ms = Latency {
        p50: share(&took, 50),
        p99: share(&took, 99),
        max: share(&took, 100),
    };
    tally
}

fn longest_gap(calls: &[Call], mut answered: Vec<f64>) -> u64 {
    let end = calls.iter().map(Call::ended_ms).fold(0.0, f64::max);
    answered.extend([0.0, end]);
    answered.sort_by(f64::total_cmp);
    let gaps = answered.windows(2).map(|pair| pair[1] - pair[0]);
    gaps.fold(0.0, f64::max).round() as u64
}

fn share(sorted: &[f64], percent: usize) -> f64 {
    let rank = (sorted.len() * percent).div_ceil(100);
    let value = sorted
        .get(rank.saturating_sub(1))
        .copied()
        .unwrap_or_default();
    (value * 100.0).round() / 100.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(sent_ms: f64, took_ms: f64, answer: Result<&str, &str>) -> Call {
        Call {
            sent_ms,
            took_ms,
            answer: answer
                .ok()
                .map(|v| format!("Hello version: {v}, instance: hello-{v}-1\n")),
            error: answer.err().map(str::to_owned),
        }
    }

    #[test]
    fn calls_are_added_up_by_version_and_reason() {
        let calls = [
            call(0.0, 5.0, Ok("v1")),
            call(10.0, 5.0, Ok("v2")),
            call(20.0, 1000.0, Err("no connection")),
            call(30.0, 2.0, Ok("v2")),
            call(40.0, 7.123456, Ok("v2")),
        ];
        let tally = tally(&calls);
        assert_eq!((tally.sent, tally.ok, tally.failed), (5, 4, 1));
        assert_eq!(tally.versions["v2"], 3);
        assert_eq!(tally.instances["hello-v1-1"], 1);
        assert_eq!(tally.errors["no connection"], 1);
        assert_eq!(tally.latency_ms.max, 7.12);
    }

    #[test]
    fn the_gap_is_between_answers_and_reaches_to_the_end() {
        let between = [call(0.0, 1.0, Ok("v1")), call(500.0, 1.0, Ok("v1"))];
        assert_eq!(tally(&between).longest_gap_ms, 500);
        let after = [call(0.0, 1.0, Ok("v1")), call(10.0, 3000.0, Err("timeout"))];
        assert_eq!(tally(&after).longest_gap_ms, 3009);
        assert_eq!(tally(&[]).longest_gap_ms, 0);
    }

    #[test]
    fn an_answer_of_another_shape_counts_as_other() {
        let mut odd = call(0.0, 1.0, Ok("v1"));
        odd.answer = Some("no healthy upstream".into());
        assert_eq!(tally(&[odd]).versions["other"], 1);
    }
}
