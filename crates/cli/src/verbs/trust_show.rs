use catamaran_model::MeshName;
use catamaran_operate::{CertificateRow, context_trust, show_trust};

use super::contact;
use crate::context::{Context, Outcome};
use crate::table::{Table, short};

/// Show roots and intermediates. Keys are never shown.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  catamaran trust show\n  catamaran trust show mesh-1 -o json\n  catamaran trust show --context one --context two"
)]
pub(crate) struct Args {
    /// One instance; all when not said.
    mesh: Option<MeshName>,
    #[command(flatten)]
    sides: contact::Sides,
}

pub(crate) async fn run(args: Args, context: &Context) -> Outcome {
    if let Some(contacts) = args.sides.contacts() {
        let heard = context_trust(&contacts, args.mesh.as_ref()).await?;
        return contact::heard(&heard, context, |rows| vec![table(rows)]);
    }
    let rows = show_trust(&context.fleet()?, args.mesh.as_ref())?;
    context.show(&rows, || vec![table(&rows)])
}

fn table(rows: &[CertificateRow]) -> Table {
    let header = ["MESH", "ROLE", "SHA-256", "DAYS LEFT", "KEY", "SUBJECT"];
    let mut table = Table::new(header, "no certificates");
    for row in rows {
        table.row([
            row.mesh.clone(),
            row.role.into(),
            short(&row.fingerprint),
            row.days.to_string(),
            row.algorithm.clone(),
            row.subject.clone(),
        ]);
    }
    table
}
