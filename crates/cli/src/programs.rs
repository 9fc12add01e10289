//! The programs in the binary: what clusters and pods run. One file each: its command line, made into its room's `Config`.

use std::process::ExitCode;

use catamaran_process::{End, LogConfig, LogFormat};

mod control_plane;
mod helloworld;
mod launch;
mod load;
mod node;
mod proxy;

/// A program's command line.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Program {
    /// Run the node of a local cluster: its pods, gateway and control plane
    Node(node::Args),
    /// Run the control plane of a mesh instance
    ControlPlane(control_plane::Args),
    /// Run a proxy beside a workload, or as the gateway of a network
    #[command(subcommand)]
    Proxy(proxy::Args),
    /// The server behind the sample's images
    #[command(hide = true)]
    Helloworld(helloworld::Args),
    /// Become a pod's program
    #[command(hide = true)]
    Launch(launch::Args),
    /// Send requests at a constant rate
    #[command(hide = true)]
    Load(load::Args),
}

/// Runs a program until it ends.
pub(crate) fn run(program: Program) -> ExitCode {
    match program {
        Program::Node(args) => node::run(args),
        Program::ControlPlane(args) => control_plane::run(args),
        Program::Proxy(args) => proxy::run(args),
        Program::Helloworld(args) => helloworld::run(args),
        Program::Launch(args) => launch::run(&args),
        Program::Load(args) => load::run(args),
    }
}

/// How a program lives. Its logs follow `CATAMARAN_LOG`, else `RUST_LOG`.
fn life(name: &str) -> catamaran_process::Config {
    let filter = ["CATAMARAN_LOG", "RUST_LOG"].into_iter().find_map(|v| std::env::var(v).ok());
    catamaran_process::Config {
        log: Some(LogConfig {
            format: LogFormat::Text,
            filter: filter.filter(|f| !f.is_empty()).unwrap_or_else(|| "info".into()),
        }),
        ..catamaran_process::Config::new(name)
    }
}

/// A runtime of `workers` threads; on one thread when that is 0.
fn runtime(workers: usize) -> Result<tokio::runtime::Runtime, ExitCode> {
    let mut builder = match workers {
        0 => tokio::runtime::Builder::new_current_thread(),
        _ => tokio::runtime::Builder::new_multi_thread(),
    };
    if workers > 0 {
        builder.worker_threads(workers);
    }
    builder.enable_all().build().map_err(|error| failed(&format!("no threads: {error}")))
}

fn failed(reason: &dyn std::fmt::Display) -> ExitCode {
    eprintln!("error: {reason}");
    ExitCode::FAILURE
}

fn ended(end: &End) -> ExitCode {
    if let End::Failed(reason) = end {
        eprintln!("error: {reason}");
    }
    ExitCode::from(end.exit_code())
}
