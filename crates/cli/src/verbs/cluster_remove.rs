use std::path::PathBuf;
use std::time::Duration;

use catamaran_model::{ClusterId, MeshName};
use catamaran_operate::{ForgetCluster, OperateError, forget_cluster, remove_cluster};

use super::{cluster_add::settle, contact, done};
use crate::context::{Context, Effect, Outcome};
use crate::parse::span;

/// Remove a cluster from an instance: its endpoints leave the instance's proxies, and what was made there goes.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  catamaran cluster remove cluster-2 --mesh mesh-1
  catamaran cluster remove cluster-2 --mesh mesh-1 --context one --remote-context two")]
pub(crate) struct Args {
    /// The cluster.
    cluster: ClusterId,
    /// The instance.
    #[arg(long)]
    mesh: MeshName,
    #[command(flatten)]
    home: contact::Home,
    /// The context that leads to the cluster, where what was made for the instance is taken away.
    #[arg(long, value_name = "CONTEXT")]
    remote_context: Option<String>,
    /// Another kubeconfig with that context.
    #[arg(long, value_name = "FILE")]
    remote_kubeconfig: Option<PathBuf>,
    /// A managed cluster that does not exist any more: nothing is taken away there.
    #[arg(long, requires = "context", conflicts_with_all = ["remote_context", "remote_kubeconfig"])]
    gone: bool,
    /// Do not wait until the instance runs again.
    #[arg(long)]
    no_wait: bool,
    /// How long to wait.
    #[arg(long, value_parser = span, default_value = "60s")]
    timeout: Duration,
}

pub(crate) async fn run(args: Args, context: &Context) -> Outcome {
    let remote = args.remote_context.is_some() || args.remote_kubeconfig.is_some();
    if let Some(home) = args.home.contact() {
        let remote = remote.then(|| {
            args.home
                .other(args.remote_context.clone(), args.remote_kubeconfig.clone())
        });
        let forget = ForgetCluster {
            mesh: args.mesh,
            cluster: args.cluster,
            home,
            remote,
            gone: args.gone,
        };
        let forgotten = forget_cluster(&forget, &mut context.job()).await;
        forgotten.or_else_said("nothing was removed")?;
        return done();
    }
    if remote {
        return Err(OperateError::BadSetting {
            text: "--remote-context".into(),
            wanted: "an option for a cluster of a fleet",
            reason: "it is for a cluster with an API server, whose instance --context leads to"
                .into(),
        }
        .into());
    }
    let fleet = context.fleet()?;
    let mut job = context.job();
    let removed = remove_cluster(&fleet, &args.mesh, &args.cluster, &mut job);
    removed.or_else_said("nothing was removed")?;
    settle(
        &fleet,
        &args.mesh,
        (!args.no_wait).then_some(args.timeout),
        &mut job,
    )
    .await?;
    done()
}
