//! The tables that people read.

use std::collections::BTreeMap;

use catamaran_bench::control_plane::figures::round;
use catamaran_bench::proxy::Machine;
use serde_json::Value;

use crate::objects::EACH;

/// Everything, for the document.
pub(crate) fn full(points: &[Value], machine: &Machine) -> String {
    let parts = [
        starts(points),
        memory(points),
        requests(points),
        changes(points),
        sizes(points, machine),
    ];
    parts.join("\n")
}

/// What the first page shows.
pub(crate) fn short(points: &[Value]) -> String {
    let mut rows = Vec::new();
    let whole = of(points, "start").rfind(|point| point["saved"] == false);
    if let Some(start) = whole {
        let what = format!(
            "start, {} services, {} endpoints",
            start["services"], start["endpoints"]
        );
        let seconds = start["fresh_ms"]["median"].as_f64().unwrap_or(0.0) / 1000.0;
        rows.push(vec![
            format!("{what}: until all of both clusters is known"),
            format!("{} s", round(seconds)),
        ]);
        let cpu = start["cpu_ms"]["median"].as_f64().unwrap_or(0.0) / 1000.0;
        rows.push(vec!["its CPU".into(), format!("{} s", round(cpu))]);
        let memory = format!(
            "{} / {} MiB",
            start["resident_mib"]["median"], start["peak_mib"]["median"]
        );
        rows.push(vec!["resident memory 5 s later / at most".into(), memory]);
    }
    for idle in of(points, "idle") {
        for server in idle["servers"].as_array().into_iter().flatten() {
            let row = format!(
                "{} watches, {} requests a minute",
                watches(server),
                per_minute(server)
            );
            rows.push(vec![
                format!(
                    "idle, API server of the {} cluster",
                    plain(&server["server"])
                ),
                row,
            ]);
        }
    }
    let most = of(points, "change")
        .filter_map(|point| point["proxies"].as_u64())
        .max();
    for change in of(points, "change").filter(|point| point["proxies"].as_u64() == most) {
        let what = format!(
            "change at the API server of the {} cluster to the last ACK, {} proxies, {} told: p50 / p99",
            plain(&change["cluster"]),
            change["proxies"],
            change["told"]
        );
        rows.push(vec![what, format!("{} ms", percentiles(&change["last"]))]);
    }
    table(&["what", ""], &rows)
}

fn starts(points: &[Value]) -> String {
    let rows: Vec<Vec<String>> = of(points, "start")
        .map(|point| {
            let state = if point["saved"] == true {
                "saved"
            } else {
                "none"
            };
            let mut row = vec![
                plain(&point["what"]),
                state.into(),
                plain(&point["services"]),
                plain(&point["pods"]),
                plain(&point["endpoints"]),
            ];
            let measured = [
                "ready_ms",
                "fresh_ms",
                "cpu_ms",
                "resident_fresh_mib",
                "resident_mib",
                "peak_mib",
            ];
            row.extend(measured.map(|name| spread(&point[name])));
            row
        })
        .collect();
    let heads = [
        "there is",
        "state",
        "services",
        "pods",
        "endpoints",
        "ready, ms",
        "all is known, ms",
        "CPU until then, ms",
        "resident then, MiB",
        "5 s later, MiB",
        "at most, MiB",
    ];
    table(&heads, &rows)
}

/// What each kind adds: the difference of two rows of starts, by the number of its objects.
fn memory(points: &[Value]) -> String {
    let cold: Vec<&Value> = of(points, "start")
        .filter(|point| point["saved"] == false)
        .collect();
    let mut rows = Vec::new();
    for (pair, kind) in cold.windows(2).zip(["services", "pods", "endpoints"]) {
        let [before, after] = pair else { continue };
        let many = after[kind].as_f64().unwrap_or(0.0).max(1.0);
        let grown = |name: &str| {
            let [before, after] =
                [before, after].map(|point| point[name]["median"].as_f64().unwrap_or(0.0));
            round((after - before) * 1024.0 / many).to_string()
        };
        rows.push(vec![
            kind.trim_end_matches('s').to_owned(),
            plain(&after[kind]),
            grown("resident_mib"),
            grown("anonymous_mib"),
            grown("peak_mib"),
        ]);
    }
    if let [first, .., last] = cold[..] {
        let many = last["services"].as_f64().unwrap_or(0.0).max(1.0);
        let grown = |name: &str| {
            let [before, after] =
                [first, last].map(|point| point[name]["median"].as_f64().unwrap_or(0.0));
            round((after - before) * 1024.0 / many).to_string()
        };
        rows.push(vec![
            format!("service with {EACH} pods and endpoints"),
            plain(&last["services"]),
            grown("resident_mib"),
            grown("anonymous_mib"),
            grown("peak_mib"),
        ]);
    }
    let heads = [
        "for each",
        "of them",
        "resident, KiB",
        "of it anonymous, KiB",
        "at most, KiB",
    ];
    table(&heads, &rows)
}

fn requests(points: &[Value]) -> String {
    // server, verb, resource: at a start from nothing, from a saved state, a minute idle, watches open.
    let mut rows: BTreeMap<(String, String, String), [String; 4]> = BTreeMap::new();
    let whole: Vec<&Value> = of(points, "start").rev().take(2).collect();
    for start in &whole {
        let column = usize::from(start["saved"] == true);
        for one in start["requests"].as_array().into_iter().flatten() {
            let key = (
                plain(&one["server"]),
                plain(&one["verb"]),
                plain(&one["resource"]),
            );
            rows.entry(key).or_default()[column] = plain(&one["each"]);
        }
    }
    for idle in of(points, "idle") {
        for server in idle["servers"].as_array().into_iter().flatten() {
            let name = plain(&server["server"]);
            for one in server["requests"].as_array().into_iter().flatten() {
                let key = (name.clone(), plain(&one["verb"]), plain(&one["resource"]));
                rows.entry(key).or_default()[2] = plain(&one["per_minute"]);
            }
            let failed = (name.clone(), "-".to_owned(), "refused or failed".to_owned());
            rows.entry(failed).or_default()[2] = plain(&server["failed"]);
            for (resource, count) in server["watches"].as_object().into_iter().flatten() {
                let key = (name.clone(), "watch".to_owned(), resource.clone());
                rows.entry(key).or_default()[3] = plain(count);
            }
        }
    }
    let rows: Vec<Vec<String>> = rows
        .into_iter()
        .map(|((server, verb, resource), cells)| {
            let cells = cells.into_iter().map(|cell| {
                if cell.is_empty() {
                    "0".to_owned()
                } else {
                    cell
                }
            });
            [server, verb, resource].into_iter().chain(cells).collect()
        })
        .collect();
    let heads = [
        "API server",
        "verb",
        "resource",
        "a start",
        "a start with a saved state",
        "a minute, idle",
        "open, idle",
    ];
    table(&heads, &rows)
}

fn changes(points: &[Value]) -> String {
    let rows: Vec<Vec<String>> = of(points, "change")
        .map(|point| {
            let mut row: Vec<String> = ["cluster", "proxies", "told", "changes"]
                .map(|name| plain(&point[name]))
                .into();
            let times = [
                "answer",
                "first",
                "last",
                "first_after_answer",
                "last_after_answer",
            ];
            row.extend(times.map(|name| percentiles(&point[name])));
            row.push(plain(&point["cpu_ms"]));
            row
        })
        .collect();
    let heads = [
        "changed in",
        "proxies",
        "told",
        "changes",
        "sent to answer, ms, p50 / p99",
        "sent to first ACK",
        "sent to last ACK",
        "answer to first ACK",
        "answer to last ACK",
        "CPU per change, ms",
    ];
    table(&heads, &rows)
}

/// How large the objects are, and on what all of it was measured.
fn sizes(points: &[Value], machine: &Machine) -> String {
    let mut said = Vec::new();
    for (point, kind) in of(points, "fill")
        .skip(1)
        .zip(["a Service", "a Pod", "an EndpointSlice"])
    {
        said.push(format!("{kind} {} bytes", plain(&point["bytes_each"])));
    }
    let mut text = format!("As JSON of the API server: {}.", said.join(", "));
    for idle in of(points, "idle") {
        text += &format!(
            " Idle for {} s: {} % of a core, {} MiB resident.",
            plain(&idle["seconds"]),
            plain(&idle["cpu_percent"]),
            plain(&idle["resident_mib"])
        );
    }
    let starts = of(points, "start")
        .next()
        .map(|point| plain(&point["starts"]));
    text += &format!(
        " {} starts a row, {}. {} cores of {}, {} GiB, Linux {}. Catamaran at commit {}.\n",
        starts.unwrap_or_default(),
        Machine::date(),
        machine.cores,
        machine.processor,
        machine.memory,
        machine.kernel,
        Machine::commit(),
    );
    text
}

fn of<'a>(points: &'a [Value], kind: &str) -> impl DoubleEndedIterator<Item = &'a Value> {
    points.iter().filter(move |point| point["point"] == kind)
}

fn per_minute(server: &Value) -> f64 {
    let requests = server["requests"].as_array().into_iter().flatten();
    let each = requests.filter_map(|one| one["per_minute"].as_f64());
    round(each.fold(0.0, |all, one| all + one))
}

fn watches(server: &Value) -> u64 {
    let counts = server["watches"].as_object().into_iter().flatten();
    counts.filter_map(|(_, count)| count.as_u64()).sum()
}

fn spread(value: &Value) -> String {
    let [median, least, most] = ["median", "least", "most"].map(|of| plain(&value[of]));
    format!("{median} ({least} to {most})")
}

fn percentiles(value: &Value) -> String {
    format!("{} / {}", plain(&value["p50"]), plain(&value["p99"]))
}

fn table(heads: &[&str], rows: &[Vec<String>]) -> String {
    let row = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
    let mut text = row(&heads
        .iter()
        .map(|head| (*head).to_owned())
        .collect::<Vec<_>>());
    text += &row(&vec!["---".to_owned(); heads.len()]);
    text.extend(rows.iter().map(|cells| row(cells)));
    text
}

fn plain(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}
