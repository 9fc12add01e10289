use catamaran_operate::{ProxyRow, list_proxies};

use crate::context::{Context, Outcome};
use crate::table::{Table, dash};

/// List sidecars and gateways, and whether each has taken what it was told.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  catamaran proxy list\n  catamaran proxy list -o json")]
pub(crate) struct Args {}

pub(crate) async fn run(_: Args, context: &Context) -> Outcome {
    let rows = list_proxies(&context.fleet()?).await?;
    context.show(&rows, || vec![table(&rows)])
}

fn table(rows: &[ProxyRow]) -> Table {
    let header = [
        "PROXY", "CLUSTER", "MESH", "ROLE", "STATE", "ADDRESS", "DETAIL",
    ];
    let mut table = Table::new(header, "no proxies");
    for row in rows {
        table.row([
            row.name(),
            row.cluster.clone(),
            dash(row.mesh.as_ref()),
            row.role.clone(),
            row.state.clone(),
            dash(row.address.as_ref()),
            row.detail.join("; "),
        ]);
    }
    table
}
