use catamaran_operate::{ConfigKind, context_proxy_config, proxy_config};

use super::contact;
use crate::context::{Context, Failure, Format, Outcome};

/// Show what a proxy holds, as itself says it (JSON, or YAML with -o yaml).
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  catamaran proxy config sleep-7b888xxxxx-xxxxx endpoints
  catamaran proxy config cluster-1/catamaran-system/eastwest-gateway listeners
  catamaran proxy config default/sleep-7b888xxxxx-xxxxx routes --context one")]
pub(crate) struct Args {
    /// POD, POD.NAMESPACE, NAMESPACE/POD or CLUSTER/NAMESPACE/POD.
    name: String,
    /// What of it.
    #[arg(value_enum)]
    what: What,
    #[command(flatten)]
    sides: contact::Sides,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum What {
    /// What it listens on.
    Listeners,
    /// Where requests go.
    Routes,
    /// What it sends to.
    Clusters,
    /// Who stands behind each cluster.
    Endpoints,
    /// Its certificate and the roots it trusts.
    Certs,
}

pub(crate) async fn run(args: Args, context: &Context) -> Outcome {
    let kind = match args.what {
        What::Listeners => ConfigKind::Listeners,
        What::Routes => ConfigKind::Routes,
        What::Clusters => ConfigKind::Clusters,
        What::Endpoints => ConfigKind::Endpoints,
        What::Certs => ConfigKind::Certs,
    };
    let config = match args.sides.contacts() {
        Some(contacts) => context_proxy_config(&contacts, &args.name, kind).await?,
        None => proxy_config(&context.fleet()?, &args.name, kind).await?,
    };
    match context.format {
        Format::Yaml => context.show(&config, Vec::new),
        _ => {
            let text = serde_json::to_string_pretty(&config)
                .map_err(|error| Failure::Program(error.to_string()))?;
            context.write(&format!("{text}\n"))
        }
    }
}
