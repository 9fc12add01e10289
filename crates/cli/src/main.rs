//! The binary `catamaran`: it asks, explains, and holds the programs. Every verb is one file in `verbs/`.

mod context;
mod narrate;
mod parse;
mod table;
mod verbs;

use std::process::ExitCode;

use clap::Parser;

use context::Context;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // A reader that goes away (`| head`) is no reason for noise.
    let cli = match verbs::Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { 2 } else { 0 });
        }
    };
    let context = Context::new(&cli.global);
    match verbs::run(cli.verb, &context) {
        Ok(code) => code,
        Err(failure) => {
            failure.print();
            failure.exit_code()
        }
    }
}

#[cfg(test)]
mod tests;
