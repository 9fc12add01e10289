use std::io::ErrorKind;
use std::path::PathBuf;
use std::process::ExitCode;

use catamaran_local::launch::{LAUNCH_FAILED, LaunchError, exec_file};

use crate::context::Outcome;

/// Become a pod's program.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// What to become.
    #[arg(long, value_name = "FILE")]
    spec: PathBuf,
    /// What to become in its place.
    #[arg(last = true)]
    command: Vec<String>,
}

pub(crate) fn run(args: Args) -> Outcome {
    match exec_file(&args.spec, &args.command) {
        Ok(never) => match never {},
        Err(error) => {
            let (code, words) = match args.command.is_empty() {
                true => (LAUNCH_FAILED as u8, error.to_string()),
                false => told(&error),
            };
            eprintln!("{words}");
            Ok(ExitCode::from(code))
        }
    }
}

/// As shells say it: there is no such command.
const NOT_FOUND: u8 = 127;
/// As shells say it: the command is there, and cannot be run.
const NOT_EXECUTABLE: u8 = 126;

/// What a person is told whose command did not start, and the exit code. Whether the pod could be entered is told by its step:
/// a missing file on that way is not a missing command.
fn told(error: &LaunchError) -> (u8, String) {
    let program = &error.program;
    let of_command = ["it is not in PATH", "opening ", "running "];
    if !of_command.iter().any(|step| error.step.starts_with(step)) {
        return (LAUNCH_FAILED as u8, error.to_string());
    }
    match error.source.kind() {
        ErrorKind::NotFound => {
            let what = format!("error: there is no command {program:?} in the pod");
            (NOT_FOUND, what)
        }
        _ => {
            let what = format!(
                "error: {program:?} in the pod cannot be run: {}",
                error.source
            );
            (NOT_EXECUTABLE, what)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use catamaran_local::launch::{LaunchSpec, exec};

    use super::*;

    fn start(argv: &str, cwd: &str) -> (u8, String) {
        let spec = LaunchSpec {
            argv: vec![argv.into()],
            env: [("PATH".to_owned(), "/usr/bin:/bin".to_owned())].into(),
            cwd: cwd.into(),
            ..LaunchSpec::default()
        };
        match exec(&spec) {
            Ok(never) => match never {},
            Err(error) => told(&error),
        }
    }

    #[test]
    fn a_command_that_does_not_start_is_told_as_shells_do() {
        for missing in ["no-such-command", "/no/such/command"] {
            let (code, words) = start(missing, ".");
            assert_eq!(code, 127, "{words}");
            assert!(words.contains(missing), "{words}");
        }
        let (code, words) = start("/etc/passwd", ".");
        assert_eq!(code, 126, "{words}");
        let (code, words) = start("true", "/no/such/folder");
        assert_eq!(i32::from(code), LAUNCH_FAILED, "{words}");
        let lost = LaunchError {
            program: "curl".into(),
            step: "entering the network namespace gone".into(),
            source: io::ErrorKind::NotFound.into(),
        };
        assert_eq!(i32::from(told(&lost).0), LAUNCH_FAILED);
    }
}
