//! The verbs, all in one list.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::context::{Context, Failure, Global, Outcome};

mod apply;
mod check;
mod cluster_add;
mod cluster_create;
mod cluster_list;
mod cluster_remove;
mod cluster_start;
mod cluster_stop;
mod completion;
mod confirm;
mod contact;
mod control_plane;
mod delete;
mod demo;
mod exec;
mod fleet_down;
mod helloworld;
mod inject;
mod launch;
mod load;
mod logs;
mod mesh_chart;
mod mesh_create;
mod mesh_delete;
mod mesh_list;
mod mesh_show;
mod mesh_upgrade;
mod namespace_inject;
mod network_set;
mod node;
mod probe;
mod proxy_capture;
mod proxy_config;
mod proxy_drain;
mod proxy_list;
mod proxy_run;
mod proxy_static;
mod proxy_wait;
mod scale;
mod status;
mod trust_export;
mod trust_issue;
mod trust_renew;
mod trust_show;
mod verify;
mod version;

/// A service mesh of several primaries that share one root: each cluster goes on when another is lost.
#[derive(Debug, Parser)]
#[command(
    name = "catamaran",
    version = catamaran_operate::OUR_VERSION,
    arg_required_else_help = true,
    subcommand_required = true,
    after_help = "Start here:\n  catamaran demo                 the five steps on this machine\n  catamaran demo --context A --context B    the same on two Kubernetes clusters\n  catamaran check --fleet DIR    what holds, and what does not\n\nExit codes: 0 ok · 1 failed · 2 usage · 3 something does not hold · 4 warnings with --strict · 5 no answer · 6 too slow"
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

#[derive(Debug, Subcommand)]
#[allow(clippy::large_enum_variant, reason = "parsed once, then taken apart")]
pub(crate) enum Verb {
    /// Clusters of the fleet, and of an instance.
    #[command(subcommand)]
    Cluster(Cluster),
    /// Mesh instances.
    #[command(subcommand)]
    Mesh(Mesh),
    /// Logical networks and gateways.
    #[command(subcommand)]
    Network(Network),
    /// Namespaces.
    #[command(subcommand)]
    Namespace(Namespace),
    Apply(apply::Args),
    Inject(inject::Args),
    Delete(delete::Args),
    Scale(scale::Args),
    Exec(exec::Args),
    Logs(logs::Args),
    Verify(verify::Args),
    Status(status::Args),
    Check(check::Args),
    Proxy(ProxyArgs),
    /// Roots and intermediates.
    #[command(subcommand)]
    Trust(Trust),
    /// The fleet as a whole.
    #[command(subcommand)]
    Fleet(FleetVerb),
    Confirm(confirm::Args),
    Demo(demo::Args),
    Completion(completion::Args),
    Version(version::Args),
    Node(node::Args),
    ControlPlane(control_plane::Args),
    #[command(hide = true)]
    Helloworld(helloworld::Args),
    #[command(hide = true)]
    Launch(launch::Args),
    #[command(hide = true)]
    Load(load::Args),
    #[command(hide = true)]
    Probe(probe::Args),
}

#[derive(Debug, Subcommand)]
pub(crate) enum Cluster {
    Create(cluster_create::Args),
    Start(cluster_start::Args),
    Stop(cluster_stop::Args),
    Add(cluster_add::Args),
    Remove(cluster_remove::Args),
    List(cluster_list::Args),
}

#[derive(Debug, Subcommand)]
pub(crate) enum Mesh {
    Create(mesh_create::Args),
    List(mesh_list::Args),
    Show(mesh_show::Args),
    Upgrade(mesh_upgrade::Args),
    Chart(mesh_chart::Args),
    Delete(mesh_delete::Args),
}

#[derive(Debug, Subcommand)]
pub(crate) enum Network {
    Set(network_set::Args),
}

#[derive(Debug, Subcommand)]
pub(crate) enum Namespace {
    Inject(namespace_inject::Args),
}

/// Sidecars and gateways: what they hold, and the programs themselves.
#[derive(Debug, clap::Args)]
#[command(
    arg_required_else_help = true,
    args_conflicts_with_subcommands = true,
    after_help = "Examples:
  catamaran proxy list
  catamaran proxy --static bootstrap.json --validate
  catamaran proxy --static bootstrap.json --workers 2 --access-log /dev/null"
)]
pub(crate) struct ProxyArgs {
    #[command(flatten)]
    standalone: proxy_static::Args,
    #[command(subcommand)]
    verb: Option<Proxy>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Proxy {
    List(proxy_list::Args),
    Config(proxy_config::Args),
    /// The program beside a workload.
    #[command(after_help = "Examples:
  catamaran proxy sidecar --mesh mesh-1 --cluster cluster-1 --namespace default --pod sleep-1 --service-account sleep --control-plane 10.1.1.2:15012 --root-cert root-cert.pem --join-token join-token --state state --admin-socket admin.sock --capture redirect --address 10.1.1.10")]
    Sidecar(proxy_run::Args),
    /// The program at the edge of a network.
    #[command(after_help = "Examples:
  catamaran proxy gateway --mesh mesh-1 --cluster cluster-1 --namespace catamaran-system --pod eastwest-gateway --service-account eastwest-gateway --control-plane 10.1.1.2:15012 --root-cert root-cert.pem --join-token join-token --state state --admin-socket admin.sock --capture redirect --address 198.18.1.1")]
    Gateway(proxy_run::Args),
    Capture(proxy_capture::Args),
    Wait(proxy_wait::Args),
    Drain(proxy_drain::Args),
}

#[derive(Debug, Subcommand)]
pub(crate) enum Trust {
    Show(trust_show::Args),
    Renew(trust_renew::Args),
    Export(trust_export::Args),
    Issue(trust_issue::Args),
}

#[derive(Debug, Subcommand)]
pub(crate) enum FleetVerb {
    Down(fleet_down::Args),
}

/// Runs a verb.
pub(crate) fn run(verb: Verb, context: &Context) -> Outcome {
    match verb {
        Verb::Cluster(Cluster::Create(args)) => cluster_create::run(args, context),
        Verb::Cluster(Cluster::Start(args)) => block_on(cluster_start::run(args, context)),
        Verb::Cluster(Cluster::Stop(args)) => block_on(cluster_stop::run(args, context)),
        Verb::Cluster(Cluster::Add(args)) => block_on(cluster_add::run(args, context)),
        Verb::Cluster(Cluster::Remove(args)) => block_on(cluster_remove::run(args, context)),
        Verb::Cluster(Cluster::List(args)) => block_on(cluster_list::run(args, context)),
        Verb::Mesh(Mesh::Create(args)) => block_on(mesh_create::run(args, context)),
        Verb::Mesh(Mesh::List(args)) => block_on(mesh_list::run(args, context)),
        Verb::Mesh(Mesh::Show(args)) => block_on(mesh_show::run(args, context)),
        Verb::Mesh(Mesh::Upgrade(args)) => block_on(mesh_upgrade::run(args, context)),
        Verb::Mesh(Mesh::Chart(args)) => mesh_chart::run(args, context),
        Verb::Mesh(Mesh::Delete(args)) => block_on(mesh_delete::run(args, context)),
        Verb::Network(Network::Set(args)) => block_on(network_set::run(args, context)),
        Verb::Namespace(Namespace::Inject(args)) => namespace_inject::run(args, context),
        Verb::Apply(args) => apply::run(args, context),
        Verb::Inject(args) => inject::run(args, context),
        Verb::Delete(args) => delete::run(args, context),
        Verb::Scale(args) => scale::run(args, context),
        Verb::Exec(args) => exec::run(args, context),
        Verb::Logs(args) => logs::run(args, context),
        Verb::Verify(args) => block_on(verify::run(args, context)),
        Verb::Status(args) => block_on(status::run(args, context)),
        Verb::Check(args) => block_on(check::run(args, context)),
        Verb::Proxy(args) => proxy(args, context),
        Verb::Trust(Trust::Show(args)) => block_on(trust_show::run(args, context)),
        Verb::Trust(Trust::Renew(args)) => block_on(trust_renew::run(args, context)),
        Verb::Trust(Trust::Export(args)) => trust_export::run(args, context),
        Verb::Trust(Trust::Issue(args)) => block_on(trust_issue::run(args, context)),
        Verb::Fleet(FleetVerb::Down(args)) => block_on(fleet_down::run(args, context)),
        Verb::Confirm(args) => block_on(confirm::run(args, context)),
        Verb::Demo(args) => block_on(demo::run(args, context)),
        Verb::Completion(args) => completion::run(args, context),
        Verb::Version(args) => version::run(args, context),
        Verb::Node(args) => block_on(node::run(args, context)),
        Verb::ControlPlane(args) => block_on(control_plane::run(args, context)),
        Verb::Helloworld(args) => block_on(helloworld::run(args)),
        Verb::Launch(args) => launch::run(args),
        Verb::Load(args) => block_on(load::run(args)),
        Verb::Probe(args) => block_on(probe::run(args)),
    }
}

fn proxy(args: ProxyArgs, context: &Context) -> Outcome {
    use catamaran_proxy::Role;
    match args.verb {
        None => block_on_few(proxy_static::run(args.standalone, context)),
        Some(Proxy::List(args)) => block_on(proxy_list::run(args, context)),
        Some(Proxy::Config(args)) => block_on(proxy_config::run(args, context)),
        Some(Proxy::Sidecar(args)) => block_on_few(proxy_run::run(args, Role::Sidecar)),
        Some(Proxy::Gateway(args)) => block_on_few(proxy_run::run(args, Role::Gateway)),
        Some(Proxy::Capture(args)) => proxy_capture::run(args, context),
        Some(Proxy::Wait(args)) => block_on_few(proxy_wait::run(args)),
        Some(Proxy::Drain(args)) => block_on_few(proxy_drain::run(args)),
    }
}

fn block_on(work: impl Future<Output = Outcome>) -> Outcome {
    block_with(tokio::runtime::Builder::new_multi_thread(), work)
}

/// For proxies, whose traffic has threads of its own: a machine runs many of them.
fn block_on_few(work: impl Future<Output = Outcome>) -> Outcome {
    let mut few = tokio::runtime::Builder::new_multi_thread();
    few.worker_threads(1);
    block_with(few, work)
}

fn block_with(
    mut builder: tokio::runtime::Builder,
    work: impl Future<Output = Outcome>,
) -> Outcome {
    let runtime = builder.enable_all().build();
    let runtime = runtime.map_err(|error| Failure::Program(format!("no threads: {error}")))?;
    let outcome = runtime.block_on(work);
    // What still reads the terminal must not hold us.
    runtime.shutdown_background();
    outcome
}

fn done() -> Outcome {
    Ok(ExitCode::SUCCESS)
}
