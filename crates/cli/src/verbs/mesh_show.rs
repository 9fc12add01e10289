use catamaran_model::MeshName;
use catamaran_operate::{MeshRow, context_mesh, show_mesh};

use super::{contact, mesh_list};
use crate::context::{Context, Outcome};
use crate::table::{Table, dash, joined};

/// Show one instance: its state, its clusters, and what it knows of problems.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  catamaran mesh show mesh-1\n  catamaran mesh show mesh-1 -o yaml\n  catamaran mesh show mesh-1 --context one"
)]
pub(crate) struct Args {
    /// The instance.
    name: MeshName,
    #[command(flatten)]
    sides: contact::Sides,
}

pub(crate) async fn run(args: Args, context: &Context) -> Outcome {
    let row = match args.sides.contacts() {
        Some(contacts) => {
            let (row, silent) = context_mesh(&contacts, &args.name).await?;
            contact::warn(&silent);
            row
        }
        None => show_mesh(&context.fleet()?, &args.name).await?,
    };
    context.show(&row, || tables(&row))
}

fn tables(row: &MeshRow) -> Vec<Table> {
    let mut clusters = members("Clusters");
    add_members(&mut clusters, row);
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

fn add_members(table: &mut Table, row: &MeshRow) {
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
