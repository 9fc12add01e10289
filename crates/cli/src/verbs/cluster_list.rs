use catamaran_operate::{ClusterRow, context_clusters, list_clusters};

use super::contact;
use crate::context::{Context, Outcome};
use crate::table::{Table, dash, joined};

/// List the clusters of the fleet, or those that contexts lead to and their instances know.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  catamaran cluster list\n  catamaran cluster list -o json\n  catamaran cluster list --context one --context two"
)]
pub(crate) struct Args {
    #[command(flatten)]
    sides: contact::Sides,
}

pub(crate) async fn run(args: Args, context: &Context) -> Outcome {
    if let Some(contacts) = args.sides.contacts() {
        let heard = context_clusters(&contacts).await?;
        return contact::heard(&heard, context, |rows| vec![table(rows, LOGICAL)]);
    }
    let rows = list_clusters(&context.fleet()?).await?;
    context.show(&rows, || vec![table(&rows, LOCAL)])
}

/// What a row's network is, in a fleet.
pub(super) const LOCAL: &str = "PHYSICAL NETWORK";
/// And of a cluster with an API server.
pub(super) const LOGICAL: &str = "NETWORK";

pub(super) fn table(rows: &[ClusterRow], network: &'static str) -> Table {
    let header = [
        "CLUSTER",
        "STATE",
        network,
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
