//! `catamaran helloworld`: the server behind the sample's images `examples-helloworld-vN`.

use std::process::ExitCode;

use catamaran_local::helloworld::{self, Config, PORT};
use catamaran_process::Process;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// What it calls its version
    #[arg(long, value_name = "vN")]
    version: String,
    /// What it calls itself; the host's name when nothing is said
    #[arg(long, value_name = "POD")]
    instance: Option<String>,
    /// Where it listens
    #[arg(long, default_value_t = PORT)]
    port: u16,
}

pub(super) fn run(args: Args) -> ExitCode {
    let runtime = match super::runtime(0) {
        Ok(runtime) => runtime,
        Err(code) => return code,
    };
    runtime.block_on(async {
        let process = Process::start(super::life("helloworld"));
        let config = Config::from_env(args.version, args.instance, args.port);
        process.run("serve", helloworld::run(config, process.stopping().wait()));
        super::ended(&process.until_stopped().await)
    })
}
