//! What the story takes for granted: two clusters.

use catamaran_model::NetworkId;

use super::stage::Side;
use super::{Demo, Report};
use crate::{Fleet, Job, OperateError, create_cluster};

pub(super) fn two_clusters(
    demo: &Demo,
    job: &mut Job,
    report: &mut Report,
) -> Result<Fleet, OperateError> {
    demo.check()?;
    let fleet = Fleet::open_or_create(&demo.dir, Some(demo.isolation), &demo.program)?;
    report.of(&fleet);
    job.command(format!(
        "export CATAMARAN_FLEET={}",
        fleet.dir.path().display()
    ));
    for n in [1, 2] {
        let side = Side::number(n, demo)?;
        let isolation = match n {
            1 => format!(" --isolation {}", demo.isolation),
            _ => String::new(),
        };
        let (cluster, ground) = (&side.cluster, side.ground);
        job.command(format!(
            "catamaran cluster create {cluster} --network {ground}{isolation}"
        ));
        let network = NetworkId::new(ground)?;
        create_cluster(&fleet, cluster, Some(&network), &mut Job::unwatched())?;
        job.note(format!("{cluster} in the physical network {ground}"));
    }
    Ok(fleet)
}
