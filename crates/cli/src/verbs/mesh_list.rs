use catamaran_operate::{MeshRow, context_meshes, list_meshes};

use super::contact;
use crate::context::{Context, Outcome};
use crate::table::{Table, dash, joined, short};

/// List the instances, and how each is.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  catamaran mesh list\n  catamaran mesh list -o json\n  catamaran mesh list --context one --context two"
)]
pub(crate) struct Args {
    #[command(flatten)]
    sides: contact::Sides,
}

pub(crate) async fn run(args: Args, context: &Context) -> Outcome {
    if let Some(contacts) = args.sides.contacts() {
        let heard = context_meshes(&contacts).await?;
        return contact::heard(&heard, context, |rows| vec![table(rows)]);
    }
    let rows = list_meshes(&context.fleet()?).await?;
    context.show(&rows, || vec![table(&rows)])
}

pub(super) fn table(rows: &[MeshRow]) -> Table {
    let header = [
        "MESH",
        "STATE",
        "VERSION",
        "REGION",
        "MANAGES",
        "DISCOVERS",
        "PROXIES CURRENT",
        "ROOT",
        "REASON",
    ];
    let mut table = Table::new(header, "no meshes");
    for row in rows {
        let roots: Vec<String> = row.roots.iter().map(|root| short(root)).collect();
        table.row([
            row.name.clone(),
            row.state.as_str().into(),
            dash(row.version.as_ref()),
            dash(row.region.as_ref()),
            row.manages.clone(),
            joined(&row.discovers),
            dash(
                row.proxies
                    .map(|count| format!("{}/{}", count.current, count.connected)),
            ),
            joined(&roots),
            row.reason.clone(),
        ]);
    }
    table
}
