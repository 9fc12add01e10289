//! What the story takes for granted: two clusters.

use catamaran_model::NetworkId;

use super::stage::{Side, not_held};
use super::{Demo, Report, taken};
use crate::{Fleet, Job, OperateError, create_cluster};

pub(super) fn two_clusters(
    demo: &Demo,
    job: &mut Job,
    report: &mut Report,
) -> Result<Fleet, OperateError> {
    let dir = demo.dir.display();
    if taken(&demo.dir)? {
        return Err(not_held(
            format!("{dir} is a fleet already"),
            "the demo plays in a fleet of its own",
            format!("choose another folder; or end that fleet (catamaran --fleet {dir} fleet down) and remove its folder"),
        ));
    }
    let fleet = Fleet::open_or_create(&demo.dir, Some(demo.isolation), &demo.program)?;
    report.of(&fleet);
    job.command(format!("export CATAMARAN_FLEET={}", fleet.dir.path().display()));
    for n in [1, 2] {
        let side = Side::number(n, demo)?;
        let isolation = match n {
            1 => format!(" --isolation {}", demo.isolation),
            _ => String::new(),
        };
        let (cluster, ground) = (&side.cluster, side.ground);
        job.command(format!("catamaran cluster create {cluster} --network {ground}{isolation}"));
        let network = NetworkId::new(ground)?;
        create_cluster(&fleet, cluster, Some(&network), &mut Job::unwatched())?;
        job.note(format!("{cluster} in the physical network {ground}"));
    }
    Ok(fleet)
}
