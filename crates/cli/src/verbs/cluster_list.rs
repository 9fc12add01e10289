use catamaran_operate::{ClusterRow, list_clusters};

use crate::context::{Context, Outcome};
use crate::table::{Table, dash, joined};

/// List the clusters of the fleet.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  catamaran cluster list\n  catamaran cluster list -o json")]
pub(crate) struct Args {}

pub(crate) async fn run(_: Args, context: &Context) -> Outcome {
    let rows = list_clusters(&context.fleet()?).await?;
    context.show(&rows, || vec![table(&rows)])
}

pub(super) fn table(rows: &[ClusterRow]) -> Table {
    let header = [
        "CLUSTER",
        "STATE",
        "PHYSICAL NETWORK",
        "MANAGED BY",
        "DISCOVERED BY",
        "PODS READY",
    ];
    let mut table = Table::new(header, "no clusters");
    for row in rows {
        table.row([
            row.name.clone(),
            row.state.into(),
            row.network.clone(),
            dash(row.managed_by.as_ref()),
            joined(&row.discovered_by),
            format!("{}/{}", row.ready_pods, row.pods),
        ]);
    }
    table
}
