//! Runs the program that a person's own kubeconfig names, as kubectl does (`exec`): managed clusters give out credentials so.

use std::io::{IsTerminal, Read};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use catamaran_kubernetes::kubeconfig::{Interactive, Program};
use zeroize::Zeroizing;

/// How long a program that asks nobody anything may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// What is kept of what it wrote to standard error.
const KEPT: usize = 4 << 10;

/// Runs a program of the kubeconfig at `file` and gives what it wrote to standard output.
///
/// # Errors
/// In words, with what it wrote to standard error.
pub(crate) fn run(program: &Program, file: &Path) -> Result<Zeroizing<String>, String> {
    let terminal = std::io::stdin().is_terminal() && std::io::stderr().is_terminal();
    let interactive = match program.interactive {
        Interactive::Never => false,
        Interactive::IfAvailable => terminal,
        Interactive::Always if terminal => true,
        Interactive::Always => {
            return Err("it wants to ask something, and there is no terminal".into());
        }
    };
    // A path is meant from the file's folder, a name is looked for.
    let mut command = match program.command.contains('/') {
        true => Command::new(
            file.parent()
                .unwrap_or(Path::new(""))
                .join(&program.command),
        ),
        false => Command::new(&program.command),
    };
    command
        .args(&program.args)
        .envs(program.env.iter().map(|(name, value)| (name, value)))
        .env("KUBERNETES_EXEC_INFO", program.info(interactive))
        .stdout(Stdio::piped());
    match interactive {
        // What it asks has to be seen.
        true => command.stdin(Stdio::inherit()).stderr(Stdio::inherit()),
        false => command.stdin(Stdio::null()).stderr(Stdio::piped()),
    };
    let mut child = command.spawn().map_err(|error| match &program.hint {
        Some(hint) => format!("it cannot be run ({error}); {}", line(hint.as_bytes())),
        None => format!("it cannot be run ({error})"),
    })?;
    // A pipe that nobody reads would stop it.
    let said = child.stdout.take().map(collect);
    let complained = child.stderr.take().map(collect);
    let start = Instant::now();
    let status = loop {
        match child.try_wait() {
            Ok(Some(status)) => break status,
            Ok(None) if !interactive && start.elapsed() >= PATIENCE => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(format!("it did not end within {} s", PATIENCE.as_secs()));
            }
            Ok(None) => std::thread::sleep(Duration::from_millis(10)),
            Err(error) => return Err(format!("it cannot be waited for ({error})")),
        }
    };
    let gather = |reader: Option<std::thread::JoinHandle<Zeroizing<Vec<u8>>>>| {
        reader
            .and_then(|reader| reader.join().ok())
            .unwrap_or_default()
    };
    if !status.success() {
        let wrote = line(&gather(complained));
        return Err(match (interactive, wrote.is_empty()) {
            (true, _) => format!("it ended with {status}; what it wrote stands above"),
            (false, true) => format!("it ended with {status} and wrote nothing"),
            (false, false) => format!("it ended with {status} and wrote: {wrote}"),
        });
    }
    let text = gather(said);
    match std::str::from_utf8(&text) {
        Ok(text) => Ok(Zeroizing::new(text.to_owned())),
        Err(_) => Err("what it wrote is no text".into()),
    }
}

fn collect(mut from: impl Read + Send + 'static) -> std::thread::JoinHandle<Zeroizing<Vec<u8>>> {
    std::thread::spawn(move || {
        let mut all = Zeroizing::new(Vec::new());
        let _ = from.read_to_end(&mut all);
        all
    })
}

/// The end of what was written, on one line and safe to print.
fn line(wrote: &[u8]) -> String {
    let end = &wrote[wrote.len().saturating_sub(KEPT)..];
    let text = String::from_utf8_lossy(end);
    let words: Vec<&str> = text.split_whitespace().collect();
    let words = words.join(" ");
    words.chars().filter(|c| !c.is_control()).collect()
}
