use catamaran_model::MeshName;
use catamaran_operate::{CertificateRow, show_trust};

use crate::context::{Context, Outcome};
use crate::table::{Table, short};

/// Show roots and intermediates. Keys are never shown.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  catamaran trust show\n  catamaran trust show mesh-1 -o json")]
pub(crate) struct Args {
    /// One instance; all when not said.
    mesh: Option<MeshName>,
}

pub(crate) fn run(args: Args, context: &Context) -> Outcome {
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
