//! The end: nothing of the demo is left but, if it was named, its folder.

use std::fs;
use std::path::Path;
use std::time::Duration;

use catamaran_local::fleet::FleetDir;
use catamaran_local::lifecycle::{self, Stop};

use super::stage::not_held;
use crate::{OperateError, STOP_PATIENCE};

/// How often it is looked for programs that came up while everything was brought down.
const ROUNDS: u32 = 5;
const BETWEEN_ROUNDS: Duration = Duration::from_millis(200);

/// Brings everything in the fleet down, also when the demo was dropped in the middle of a step. The folder stays.
pub async fn end(dir: &Path, how: Stop) -> Result<(), OperateError> {
    let dir = FleetDir::at(dir);
    if !dir.fleet_json().is_file() {
        return Ok(());
    }
    let mut left = Vec::new();
    for _ in 0..ROUNDS {
        lifecycle::down(&dir, how, STOP_PATIENCE).await?;
        left = programs_of(dir.path());
        if left.is_empty() {
            return Ok(());
        }
        // A program that was being started has not said yet that it runs.
        tokio::time::sleep(BETWEEN_ROUNDS).await;
    }
    Err(not_held(
        "programs of the fleet still run",
        left.join("; "),
        "end them by hand",
    ))
}

/// Our programs that name the fleet's folder in their command line, other than this one.
fn programs_of(dir: &Path) -> Vec<String> {
    let Some(dir) = dir.to_str() else {
        return Vec::new();
    };
    let own = std::process::id().to_string();
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries
        .filter_map(|entry| {
            let pid = entry.file_name().into_string().ok()?;
            let number = pid.bytes().all(|byte| byte.is_ascii_digit());
            let line = fs::read(entry.path().join("cmdline"))
                .ok()
                .filter(|_| number && pid != own)?;
            let words: Vec<String> = line
                .split(|byte| *byte == 0)
                .map(|word| String::from_utf8_lossy(word).into_owned())
                .collect();
            let program = words.get(1).map(String::as_str);
            let ours = matches!(program, Some("node" | "control-plane" | "launch"));
            let names = words
                .iter()
                .skip(2)
                .any(|word| Path::new(word).starts_with(dir));
            (ours && names).then(|| format!("{pid}: {}", words.join(" ").trim_end()))
        })
        .collect()
}
