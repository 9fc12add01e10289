//! What every verb is given: the fleet that was named, the form of the output, and how failures are told.

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use catamaran_operate::{Class, Fleet, Job, OperateError};
use serde::Serialize;

use crate::narrate::{Glyphs, Narrator};
use crate::table::Table;

/// The options that every verb has.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Global {
    /// The fleet's folder.
    #[arg(long, global = true, env = "CATAMARAN_FLEET", value_name = "DIR")]
    pub(crate) fleet: Option<PathBuf>,
    /// How data are written to standard output.
    #[arg(short, long, global = true, value_enum, default_value_t = Format::Table, value_name = "FORMAT")]
    pub(crate) output: Format,
    /// No characters beyond ASCII.
    #[arg(long, global = true)]
    pub(crate) ascii: bool,
}

/// The forms of output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// For people.
    Table,
    /// For programs.
    Json,
    /// For programs and people.
    Yaml,
}

/// See [`Global`].
#[derive(Debug, Clone)]
pub(crate) struct Context {
    fleet: Option<PathBuf>,
    pub(crate) format: Format,
    pub(crate) glyphs: Glyphs,
}

/// Why a verb failed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// An operation was refused or failed. The second says what did not happen because of it.
    Operate(Box<OperateError>, &'static str),
    /// One of our programs could not run.
    Program(String),
}

pub(crate) type Outcome = Result<ExitCode, Failure>;

impl From<OperateError> for Failure {
    fn from(error: OperateError) -> Failure {
        Failure::Operate(Box::new(error), "")
    }
}

impl Failure {
    /// Tells it on standard error.
    pub(crate) fn print(&self) {
        let text = match self {
            Failure::Operate(error, effect) => words(error, effect),
            Failure::Program(text) => format!("error: {text}\n"),
        };
        let _ = std::io::stderr().write_all(text.as_bytes());
    }

    pub(crate) fn exit_code(&self) -> ExitCode {
        ExitCode::from(match self {
            Failure::Operate(error, _) => error.class().exit_code(),
            Failure::Program(_) => Class::Failed.exit_code(),
        })
    }
}

/// `error[CODE]: what`, then what is known, the next step, and what did not happen.
pub(crate) fn words(error: &OperateError, effect: &str) -> String {
    let mut text = format!("error[{}]: {error}\n", error.code());
    for fact in error.facts() {
        text.push_str(&format!("  {fact}\n"));
    }
    if let Some(fix) = error.fix() {
        text.push_str(&format!("  fix: {fix}\n"));
    }
    if error.refused() && !effect.is_empty() {
        text.push_str(&format!("  {effect}\n"));
    }
    text
}

/// Says what did not happen when an operation is refused.
pub(crate) trait Effect<T> {
    fn or_else_said(self, effect: &'static str) -> Result<T, Failure>;
}

impl<T> Effect<T> for Result<T, OperateError> {
    fn or_else_said(self, effect: &'static str) -> Result<T, Failure> {
        self.map_err(|error| Failure::Operate(Box::new(error), effect))
    }
}

impl Context {
    pub(crate) fn new(global: &Global) -> Context {
        Context {
            fleet: global.fleet.clone(),
            format: global.output,
            glyphs: Glyphs::new(global.ascii),
        }
    }

    /// The folder that was named.
    pub(crate) fn fleet_path(&self) -> Result<&Path, Failure> {
        self.fleet
            .as_deref()
            .ok_or_else(|| OperateError::NoFleet.into())
    }

    /// The fleet that was named, which must be there.
    pub(crate) fn fleet(&self) -> Result<Fleet, Failure> {
        Ok(Fleet::open(self.fleet_path()?, program()?)?)
    }

    /// A job whose steps are told on standard error.
    pub(crate) fn job(&self) -> Job {
        let mut narrator = Narrator::new(self.glyphs, std::io::stderr().is_terminal());
        Job::watched(move |_, step, moment| {
            let text = narrator.small(step, moment);
            let _ = std::io::stderr().write_all(text.as_bytes());
        })
    }

    /// Writes data to standard output, in the form that was asked for.
    pub(crate) fn show<T: Serialize>(
        &self,
        data: &T,
        table: impl FnOnce() -> Vec<Table>,
    ) -> Outcome {
        let text = match self.format {
            Format::Table => {
                let tables = table().iter().map(Table::render).collect::<Vec<_>>();
                tables.join("\n")
            }
            Format::Json => serde_json::to_string_pretty(data).map_err(written)? + "\n",
            Format::Yaml => serde_saphyr::to_string(data).map_err(written)?,
        };
        self.write(&text)
    }

    /// Writes text to standard output. A reader that went away is no failure.
    pub(crate) fn write(&self, text: &str) -> Outcome {
        let mut out = std::io::stdout().lock();
        match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
            Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
                Err(Failure::Program(format!("standard output: {error}")))
            }
            _ => Ok(ExitCode::SUCCESS),
        }
    }
}

fn written(error: impl std::fmt::Display) -> Failure {
    Failure::Program(format!("the data cannot be written in that form: {error}"))
}

/// Our own binary.
pub(crate) fn program() -> Result<PathBuf, Failure> {
    std::env::current_exe()
        .map_err(|error| Failure::Program(format!("our own path is not known: {error}")))
}
