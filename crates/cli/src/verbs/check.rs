use std::process::ExitCode;

use catamaran_operate::{CheckReport, Class, Verdict, check, check_contexts};

use super::contact;
use crate::context::{Context, Format, Outcome};

/// Check what must hold, in the fleet or in the clusters that contexts lead to, from each one's side.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  catamaran check
  catamaran check --strict -o json
  catamaran check --context one --context two --probe

Exit code 3 when a check failed, 4 when --strict is given and one warned.")]
pub(crate) struct Args {
    /// Warnings count as well.
    #[arg(long)]
    strict: bool,
    #[command(flatten)]
    sides: contact::Sides,
    /// Probe gateways too, by a command in the pods of control planes; the context must be allowed to run one there.
    #[arg(long, requires = "context")]
    probe: bool,
}

/// Warnings with `--strict`.
const WARNED: u8 = 4;

pub(crate) async fn run(args: Args, context: &Context) -> Outcome {
    let report = match args.sides.contacts() {
        Some(contacts) => check_contexts(&contacts, args.probe).await?,
        None => check(&context.fleet()?).await?,
    };
    match context.format {
        Format::Table => context.write(&text(&report, context))?,
        _ => context.show(&report, Vec::new)?,
    };
    Ok(match (report.failed, report.warnings) {
        (0, warnings) if warnings > 0 && args.strict => ExitCode::from(WARNED),
        (0, _) => ExitCode::SUCCESS,
        _ => ExitCode::from(Class::Found.exit_code()),
    })
}

fn text(report: &CheckReport, context: &Context) -> String {
    let glyphs = context.glyphs;
    let mut text = String::new();
    let mut group = "";
    for check in &report.checks {
        if check.group != group {
            group = check.group;
            text.push_str(&format!("{group}\n"));
        }
        let glyph = match check.verdict {
            Verdict::Pass => glyphs.pass,
            Verdict::Warn => glyphs.warn,
            Verdict::Fail => glyphs.fail,
            Verdict::Skip => glyphs.skip,
        };
        let skipped = if check.verdict == Verdict::Skip {
            "skipped: "
        } else {
            ""
        };
        text.push_str(&format!(
            "  {glyph} {:<22} {skipped}{}\n",
            check.id, check.seen
        ));
        for (word, said) in [("cause", &check.cause), ("fix", &check.fix)] {
            if !said.is_empty() {
                text.push_str(&format!("    {:<22} {word:<7} {said}\n", ""));
            }
        }
    }
    let from = match report.checked_from.is_empty() {
        true => String::new(),
        false => format!(
            " · gateways probed from {}",
            report.checked_from.join(" and ")
        ),
    };
    text.push_str(&format!(
        "{} passed, {} failed, {} warnings, {} skipped{from}\n",
        report.passed, report.failed, report.warnings, report.skipped
    ));
    text
}
