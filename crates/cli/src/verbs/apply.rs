use std::io::Read;
use std::path::{Path, PathBuf};

use catamaran_model::ClusterId;
use catamaran_operate::{Applied, IGNORED, apply};

use crate::context::{Context, Effect, Failure, Outcome};
use crate::table::Table;

/// Write the objects of a manifest into a cluster: all of them, or none when one is invalid.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  catamaran apply -f cluster-1.yaml --cluster cluster-1
  cat cluster-1.yaml | catamaran apply -f - --cluster cluster-1")]
pub(crate) struct Args {
    /// The manifest; `-` is standard input.
    #[arg(short, long, value_name = "FILE")]
    filename: PathBuf,
    /// The cluster.
    #[arg(long)]
    cluster: ClusterId,
}

pub(crate) fn run(args: Args, context: &Context) -> Outcome {
    let fleet = context.fleet()?;
    let text = read(&args.filename)?;
    let rows =
        apply(&fleet, &args.cluster, &text, &args.filename).or_else_said("nothing was changed")?;
    warn(&rows);
    context.show(&rows, || vec![table(&rows)])
}

/// Names what was left out, on standard error: it is no failure, and easily overlooked.
pub(super) fn warn(rows: &[Applied]) {
    for row in rows.iter().filter(|row| row.outcome == IGNORED) {
        let hint = row
            .hint
            .as_ref()
            .map_or(String::new(), |hint| format!("; {hint}"));
        eprintln!(
            "warning: {} {} is ignored, there is no such kind here{hint}",
            row.kind, row.name
        );
    }
}

/// The most bytes of a manifest that are read.
const MAX_MANIFEST: u64 = 8 << 20;

pub(super) fn read(path: &Path) -> Result<String, Failure> {
    let mut text = String::new();
    let read = match path.as_os_str() == "-" {
        true => std::io::stdin()
            .take(MAX_MANIFEST)
            .read_to_string(&mut text),
        false => std::fs::File::open(path)
            .and_then(|file| file.take(MAX_MANIFEST).read_to_string(&mut text)),
    };
    match read {
        Ok(_) => Ok(text),
        Err(error) => Err(Failure::Program(format!(
            "{}: {error}; nothing was changed",
            path.display()
        ))),
    }
}

pub(super) fn table(rows: &[Applied]) -> Table {
    let mut table = Table::new(["KIND", "NAMESPACE", "NAME", "OUTCOME"], "no objects");
    for row in rows {
        table.row([
            row.kind.clone(),
            row.namespace.clone(),
            row.name.clone(),
            row.outcome.into(),
        ]);
    }
    table
}
