use catamaran_model::MeshName;
use catamaran_operate::{MeshRow, show_mesh};

use super::mesh_list;
use crate::context::{Context, Outcome};
use crate::table::{Table, dash, joined};

/// Show one instance: its state, its clusters, and what it knows of problems.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  catamaran mesh show mesh-1\n  catamaran mesh show mesh-1 -o yaml"
)]
pub(crate) struct Args {
    /// The instance.
    name: MeshName,
}

pub(crate) async fn run(args: Args, context: &Context) -> Outcome {
    let row = show_mesh(&context.fleet()?, &args.name).await?;
    context.show(&row, || tables(&row))
}

fn tables(row: &MeshRow) -> Vec<Table> {
    let mut clusters = members("Clusters");
    add_members(&mut clusters, row, false);
    let mut problems =
        Table::new(["SEVERITY", "KIND", "OBJECT", "MESSAGE"], "none").titled("Problems");
    for problem in &row.problems {
        problems.row([
            problem.severity.clone(),
            problem.kind.clone(),
            problem.object.clone(),
            problem.message.clone(),
        ]);
    }
    vec![
        mesh_list::table(std::slice::from_ref(row)),
        clusters,
        problems,
    ]
}

fn members(title: &'static str) -> Table {
    let header = [
        "CLUSTER",
        "MODE",
        "NETWORK",
        "FRESHNESS",
        "GATEWAYS",
        "SERVICES",
        "ENDPOINTS",
    ];
    Table::new(header, "none").titled(title)
}

fn add_members(table: &mut Table, row: &MeshRow, _named: bool) {
    for member in &row.clusters {
        let freshness = match (&member.freshness, &member.stale_since) {
            (Some(word), Some(since)) => format!("{word} since {since}"),
            (word, _) => dash(word.as_ref()),
        };
        table.row([
            member.name.clone(),
            member.mode.clone(),
            dash(member.network.as_ref()),
            freshness,
            joined(&member.gateways),
            dash(member.services),
            dash(member.endpoints),
        ]);
    }
}
