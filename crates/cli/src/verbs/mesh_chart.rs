use std::fs;
use std::path::{Path, PathBuf};

use catamaran_kubernetes::chart;
use catamaran_model::Version;
use catamaran_operate::{OUR_VERSION, OperateError};

use super::done;
use crate::context::{Context, Failure, Outcome};

/// Write the Helm chart of this version: it installs what mesh create does, but for the authority.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  catamaran mesh chart --to .   writes ./catamaran/Chart.yaml and what belongs to it"
)]
pub(crate) struct Args {
    /// The folder that the folder catamaran is made in; of one that is there, the chart's own files are replaced.
    #[arg(long, value_name = "FOLDER")]
    to: PathBuf,
}

pub(crate) fn run(args: Args, _: &Context) -> Outcome {
    let version = Version::new(OUR_VERSION).map_err(OperateError::from)?;
    let folder = args.to.join(chart::NAME);
    for (path, text) in chart::files(&version) {
        let file = folder.join(path);
        let written = file.parent().map_or(Ok(()), fs::create_dir_all);
        let written = written.and_then(|()| fs::write(&file, text));
        written.map_err(|error| failed(&file, &error))?;
    }
    eprintln!("wrote the chart of {version} into {}", folder.display());
    done()
}

fn failed(file: &Path, error: &std::io::Error) -> Failure {
    Failure::Program(format!("{}: {error}", file.display()))
}
