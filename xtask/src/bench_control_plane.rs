//! What the control plane costs, on a folder and on API servers: builds it and its simulated proxies, runs them, and puts the
//! tables into the documents.

use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};

use crate::{bench, cluster, steps};

/// One of the two benchmarks.
struct Bench {
    binary: &'static str,
    /// Where its tables begin in documents.
    begin: &'static str,
    /// The document with all of them; `README.md` has the short ones.
    document: &'static str,
    /// What it is told beside the binary that it measures.
    programs: Vec<PathBuf>,
}

/// Runs `bench-control-plane`; what is not for building or writing is passed on to it.
pub(crate) fn run(args: &[String]) -> Result<ExitCode, String> {
    let bench = Bench {
        binary: "bench-control-plane",
        begin: "<!-- cargo xtask bench control-plane --write: begin -->",
        document: "docs/performance/control-plane.md",
        programs: Vec::new(),
    };
    bench.run(args)
}

/// Runs `bench-kubernetes`, with the program that starts API servers, which is built when it is not there.
pub(crate) fn on_kubernetes(args: &[String]) -> Result<ExitCode, String> {
    let bench = Bench {
        binary: "bench-kubernetes",
        begin: "<!-- cargo xtask bench kubernetes --write: begin -->",
        document: "docs/performance/kubernetes.md",
        programs: vec![cluster::program()?],
    };
    bench.run(args)
}

impl Bench {
    fn run(&self, args: &[String]) -> Result<ExitCode, String> {
        let (mut profile, mut write, mut rest) = ("release".to_owned(), false, Vec::new());
        let mut args = args.iter();
        while let Some(arg) = args.next() {
            match arg.as_str() {
                "--profile" => {
                    profile = (args.next().cloned()).ok_or("--profile wants a value")?;
                }
                "--write" => write = true,
                _ => rest.push(arg.clone()),
            }
        }
        let built = steps::target().join(match profile.as_str() {
            "dev" => "debug",
            other => other,
        });
        for (package, binary) in [("catamaran", "catamaran"), ("catamaran-bench", self.binary)] {
            let build = ["build", "--locked", "--profile", &profile];
            steps::cargo(
                &[&build[..], &["-p", package, "--bin", binary]].concat(),
                &[],
            )?;
        }
        let out = steps::target().join(self.binary);
        let status = Command::new(built.join(self.binary))
            .arg(built.join("catamaran"))
            .args(&self.programs)
            .arg("--out")
            .arg(&out)
            .args(rest)
            .stdin(Stdio::null())
            .status()
            .map_err(|error| format!("{} could not be started: {error}", self.binary))?;
        if !status.success() {
            return Ok(ExitCode::FAILURE);
        }
        if write {
            for (document, table) in [("README.md", "short.md"), (self.document, "full.md")] {
                bench::show(&steps::root().join(document), self.begin, &out.join(table))?;
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}
