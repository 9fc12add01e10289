use catamaran_operate::{FleetStatus, context_status, fleet_status};

use super::{cluster_list, contact, mesh_list};
use crate::context::{Context, Outcome};
use crate::table::{Table, dash, joined};

/// Show the whole fleet, or the clusters that contexts lead to. It never blocks: what does not answer is shown as such.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  catamaran status\n  catamaran status -o json\n  catamaran status --context one --context two"
)]
pub(crate) struct Args {
    #[command(flatten)]
    sides: contact::Sides,
}

pub(crate) async fn run(args: Args, context: &Context) -> Outcome {
    let status = match args.sides.contacts() {
        Some(contacts) => context_status(&contacts).await?,
        None => fleet_status(&context.fleet()?).await?,
    };
    context.show(&status, || tables(&status))
}

fn tables(status: &FleetStatus) -> Vec<Table> {
    let mut fleet = Table::new(["FLEET", "ISOLATION", "DIR", "PROXIES CURRENT"], "");
    fleet.row([
        status.id.clone(),
        status.isolation.clone(),
        status.dir.clone(),
        format!("{}/{}", status.proxies.current, status.proxies.connected),
    ]);
    let mut links = Table::new(
        [
            "MESH",
            "CLUSTER",
            "MODE",
            "NETWORK",
            "FRESHNESS",
            "GATEWAYS",
        ],
        "none",
    )
    .titled("Known clusters");
    for mesh in &status.meshes {
        for member in &mesh.clusters {
            links.row([
                mesh.name.clone(),
                member.name.clone(),
                member.mode.clone(),
                dash(member.network.as_ref()),
                dash(member.freshness.as_ref()),
                joined(&member.gateways),
            ]);
        }
    }
    let mut gateways =
        Table::new(["CLUSTER", "NETWORK", "ADDRESS", "KNOWN TO"], "none").titled("Gateways");
    for gateway in &status.gateways {
        gateways.row([
            gateway.cluster.clone(),
            gateway.network.clone(),
            gateway.address.clone(),
            joined(&gateway.known_to),
        ]);
    }
    let mut problems =
        Table::new(["SEVERITY", "SAID BY", "KIND", "OBJECT", "MESSAGE"], "none").titled("Problems");
    for problem in &status.problems {
        problems.row([
            problem.severity.clone(),
            problem.said_by.clone(),
            problem.kind.clone(),
            problem.object.clone(),
            problem.message.clone(),
        ]);
    }
    let network = match status.isolation.as_str() {
        "kubernetes" => cluster_list::LOGICAL,
        _ => cluster_list::LOCAL,
    };
    vec![
        fleet,
        mesh_list::table(&status.meshes).titled("Meshes"),
        cluster_list::table(&status.clusters, network).titled("Clusters"),
        links,
        gateways,
        problems,
    ]
}
