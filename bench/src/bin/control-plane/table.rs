//! The tables that people read.

use serde_json::Value;

/// One cell of a point.
type Cell = fn(&Value) -> String;

/// Everything, for the document.
const FULL: [(&str, Cell); 12] = [
    ("scope", |point| plain(&point["scope"])),
    ("services", |point| plain(&point["services"])),
    ("proxies", |point| plain(&point["proxies"])),
    ("told", |point| plain(&point["concerned"])),
    (
        "CPU per change, ms (least to most of the rounds)",
        |point| {
            let [middle, least, most] =
                ["change_cpu_ms", "change_cpu_least_ms", "change_cpu_most_ms"]
                    .map(|of| plain(&point[of]));
            format!("{middle} ({least} to {most})")
        },
    ),
    ("to first ACK, ms, p50 / p99", |point| {
        both(point, "change_first_ack_ms", "change_first_ack_p99_ms")
    }),
    ("to last ACK, ms, p50 / p99", |point| {
        both(point, "change_last_ack_ms", "change_last_ack_p99_ms")
    }),
    ("bytes per change", |point| plain(&point["change_bytes"])),
    ("memory per proxy, KiB (beyond)", |point| {
        let [each, without] =
            ["memory_per_proxy_kib", "memory_without"].map(|of| plain(&point[of]));
        format!("{each} ({without})")
    }),
    ("memory, MiB", |point| plain(&point["memory_mib"])),
    ("cold proxy, ms, median / worst", |point| {
        both(point, "cold_ms", "cold_worst_ms")
    }),
    ("its CPU, ms / bytes", |point| {
        both(point, "cold_cpu_ms", "cold_bytes")
    }),
];

/// What the first page shows.
const SHORT: [(&str, Cell); 7] = [
    ("asks for", |point| match point["scope"].as_str() {
        Some("all") => "everything".into(),
        _ => "20 services".into(),
    }),
    ("services", |point| plain(&point["services"])),
    ("proxies", |point| plain(&point["proxies"])),
    ("CPU per change, ms", |point| plain(&point["change_cpu_ms"])),
    ("to last ACK, ms, p50 / p99", |point| {
        both(point, "change_last_ack_ms", "change_last_ack_p99_ms")
    }),
    ("memory per proxy, KiB", |point| {
        plain(&point["memory_per_proxy_kib"])
    }),
    ("cold proxy, ms", |point| plain(&point["cold_ms"])),
];

/// All points, with all that was measured.
pub(crate) fn full(points: &[Value]) -> String {
    table(&FULL, points.iter())
}

/// The points with the most proxies.
pub(crate) fn short(points: &[Value]) -> String {
    let most = points
        .iter()
        .filter_map(|point| point["proxies"].as_u64())
        .max();
    table(
        &SHORT,
        points
            .iter()
            .filter(|point| point["proxies"].as_u64() == most),
    )
}

fn table<'a>(columns: &[(&str, Cell)], points: impl Iterator<Item = &'a Value>) -> String {
    let row = |cells: Vec<String>| format!("| {} |\n", cells.join(" | "));
    let mut text = row(columns
        .iter()
        .map(|(heading, _)| (*heading).to_owned())
        .collect());
    text += &row(columns.iter().map(|_| "---".to_owned()).collect());
    for point in points {
        let Some(why) = point["left_out"].as_str() else {
            text += &row(columns.iter().map(|(_, cell)| cell(point)).collect());
            continue;
        };
        // What it is, then why it is not there.
        let named: Vec<String> = columns[..3].iter().map(|(_, cell)| cell(point)).collect();
        let rest = columns[4..].iter().map(|_| String::new());
        text += &row(named
            .into_iter()
            .chain([why.to_owned()])
            .chain(rest)
            .collect());
    }
    text
}

fn both(point: &Value, one: &str, other: &str) -> String {
    format!("{} / {}", plain(&point[one]), plain(&point[other]))
}

fn plain(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}
