use catamaran_operate::{ProxyRow, context_proxies, list_proxies};

use super::contact;
use crate::context::{Context, Outcome};
use crate::table::{Table, dash};

/// List sidecars and gateways, and whether each has taken what it was told.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  catamaran proxy list\n  catamaran proxy list -o json\n  catamaran proxy list --context one --context two"
)]
pub(crate) struct Args {
    #[command(flatten)]
    sides: contact::Sides,
}

pub(crate) async fn run(args: Args, context: &Context) -> Outcome {
    if let Some(contacts) = args.sides.contacts() {
        let heard = context_proxies(&contacts).await?;
        return contact::heard(&heard, context, |rows| vec![table(rows)]);
    }
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
