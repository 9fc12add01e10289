//! Our proxy against Envoy: builds both sides of the comparison, runs it, and puts its tables into the documents.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use crate::{envoy, steps};

/// Where a document's table begins and ends.
const BEGIN: &str = "<!-- cargo xtask bench --write: begin -->";
const END: &str = "<!-- end -->";

/// Which document shows which of the tables that a run leaves.
const SHOWN: [(&str, &str); 2] = [
    ("README.md", "short.md"),
    ("docs/performance.md", "full.md"),
];

/// Runs `bench-proxy`; what is not for building or writing is passed on to it.
pub(crate) fn proxies(args: &[String]) -> Result<ExitCode, String> {
    let (mut profile, mut ours, mut write, mut rest) =
        ("release".to_owned(), None, false, Vec::new());
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        let mut value = || {
            args.next()
                .cloned()
                .ok_or_else(|| format!("{arg} wants a value"))
        };
        match arg.as_str() {
            "--profile" => profile = value()?,
            "--ours" => ours = Some(PathBuf::from(value()?)),
            "--write" => write = true,
            _ => rest.push(arg.clone()),
        }
    }
    let envoy = envoy::ready()?;
    let built = steps::target().join(match profile.as_str() {
        "dev" => "debug",
        other => other,
    });
    let build = |package: &str, binary: &str| {
        let args = [
            "build",
            "--locked",
            "--profile",
            &profile,
            "-p",
            package,
            "--bin",
            binary,
        ];
        steps::cargo(&args, &[])
    };
    if ours.is_none() {
        build("catamaran", "catamaran")?;
    }
    build("catamaran-bench", "bench-proxy")?;
    let out = steps::target().join("bench");
    let status = Command::new(built.join("bench-proxy"))
        .arg("--ours")
        .arg(ours.unwrap_or_else(|| built.join("catamaran")))
        .arg("--envoy")
        .arg(envoy)
        .arg("--out")
        .arg(&out)
        .args(rest)
        .stdin(Stdio::null())
        .status()
        .map_err(|error| format!("bench-proxy could not be started: {error}"))?;
    if !status.success() {
        return Ok(ExitCode::FAILURE);
    }
    if write {
        for (document, table) in SHOWN {
            show(&steps::root().join(document), BEGIN, &out.join(table))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Puts a table between the marks of a document: `begin` and [`END`].
pub(crate) fn show(document: &Path, begin: &str, table: &Path) -> Result<(), String> {
    let read = |path: &Path| {
        std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))
    };
    let (text, table) = (read(document)?, read(table)?);
    let shown = between(&text, begin, &table)
        .ok_or_else(|| format!("{} has no lines {begin:?} and {END:?}", document.display()))?;
    std::fs::write(document, shown).map_err(|error| format!("{}: {error}", document.display()))
}

fn between(text: &str, begin: &str, table: &str) -> Option<String> {
    let (before, rest) = text.split_once(begin)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!(
        "{before}{begin}\n\n{}\n\n{END}{after}",
        table.trim()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_takes_the_place_of_the_last_one() {
        let text = format!("a\n{BEGIN}\nold\n{END}\nb <!-- end -->\n");
        let shown = between(&text, BEGIN, "new\n").unwrap();
        assert_eq!(
            shown,
            format!("a\n{BEGIN}\n\nnew\n\n{END}\nb <!-- end -->\n")
        );
        assert_eq!(between(&shown, BEGIN, "new\n"), Some(shown.clone()));
        assert_eq!(between("no marks", BEGIN, "new"), None);
    }
}
