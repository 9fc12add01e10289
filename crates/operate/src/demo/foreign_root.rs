//! The negative proof: an instance with a root of its own is refused, by name, before and after it is known.

use catamaran_local::node::PodRecord;
use catamaran_model::{MemberMode, NetworkId};
use std::str::FromStr;
use std::time::Duration;

use super::ForeignRoot;
use super::call::{URL, words};
use super::create::instance;
use super::deploy::{CLUSTER_2, inject, put};
use super::discover::add;
use super::stage::{Side, Stage, not_held};
use crate::verify::{Manner, verify};
use crate::{
    AddCluster, Job, NetworkSetting, OperateError, add_cluster, create_cluster, delete_mesh, load,
    remove_cluster, set_networks, show_mesh, stop_cluster, wait,
};

/// How long the control plane may take to notice.
const PATIENCE: Duration = Duration::from_secs(30);
/// How many calls must not reach it.
const CALLS: u32 = 20;

pub(super) async fn is_refused(stage: &mut Stage<'_>) -> Result<(), OperateError> {
    let (one, two, three) = (stage.side(1)?, stage.side(2)?, stage.side(3)?);
    let (cluster, ground) = (&three.cluster, three.ground);
    stage.typed(format!("cluster create {cluster} --network {ground}"));
    let network = NetworkId::new(ground)?;
    create_cluster(&stage.fleet, cluster, Some(&network), &mut Job::unwatched())?;
    stage.job.note(format!(
        "{cluster} beside cluster-2, where its pods could be reached directly"
    ));

    // Nobody knows its root yet, so nothing speaks against it.
    add(stage, &two.mesh, cluster)?;
    stage.job.note(format!(
        "{} discovers {cluster}, in which there is no instance yet",
        two.mesh
    ));
    if !stage.flat() {
        let setting = format!("{cluster}={}", two.network);
        stage.typed(format!("network set --mesh {} {setting}", two.mesh));
        let settings = [NetworkSetting::from_str(&setting)?];
        set_networks(&stage.fleet, &two.mesh, &settings, &mut Job::unwatched())?;
        stage.job.note(format!("{cluster} in {}", two.network));
    }
    instance(stage, 3, None).await?;
    inject(stage, 3)?;
    put(stage, 3, &CLUSTER_2)?;
    stage.pods(cluster, &[("helloworld-v2", 1)]).await?;
    stage.job.note(format!(
        "{cluster}: helloworld-v2 is ready, under another root"
    ));

    let mut found = ForeignRoot {
        reason: refusal(stage, &two, &three).await?,
        ..ForeignRoot::default()
    };
    stage
        .job
        .note(format!("{} refuses it: {}", two.mesh, found.reason));
    stage.typed(format!(
        "cluster add {cluster} --mesh {} --discovery-only",
        one.mesh
    ));
    found.on_adding = refused_at_once(stage, &one, &three)?;
    stage.job.note(format!("refused: {}", found.on_adding));

    no_call_reaches_it(stage, &two, &three, &mut found).await?;
    found.refused = true;
    stage.report.foreign_root = Some(found);
    remove(stage, &two, &three).await
}

/// What the control plane that discovered it says of its root.
async fn refusal(stage: &Stage<'_>, by: &Side, foreign: &Side) -> Result<String, OperateError> {
    let what = format!("{} refuses {}", by.mesh, foreign.mesh);
    let look = format!("see `catamaran mesh show {}`", by.mesh);
    wait::until(&what, PATIENCE, &look, || async {
        let row = show_mesh(&stage.fleet, &by.mesh)
            .await
            .map_err(|error| error.to_string())?;
        let names = |text: &str| text.contains(foreign.mesh.as_str());
        (row.problems.into_iter())
            .find(|problem| is_root_mismatch(&problem.kind) && names(&problem.message))
            .map(|problem| problem.message)
            .ok_or_else(|| format!("its status has no RootMismatch that names {}", foreign.mesh))
    })
    .await
}

/// Control planes of neighbouring versions may spell the kind apart.
fn is_root_mismatch(kind: &str) -> bool {
    kind.replace('_', "").eq_ignore_ascii_case("rootmismatch")
}

/// What a person is told who adds it now that its root is known.
fn refused_at_once(stage: &Stage<'_>, by: &Side, foreign: &Side) -> Result<String, OperateError> {
    let adding = AddCluster {
        mesh: by.mesh.clone(),
        cluster: foreign.cluster.clone(),
        mode: MemberMode::DiscoveryOnly,
    };
    match add_cluster(&stage.fleet, &adding, &mut Job::unwatched()) {
        Err(error @ OperateError::OtherRoot { .. }) => Ok(error.to_string()),
        Err(other) => Err(other),
        Ok(()) => Err(not_held(
            format!(
                "{} took {} up, whose instance has another root",
                by.mesh, foreign.cluster
            ),
            "nobody compared the roots",
            format!(
                "catamaran cluster remove {} --mesh {}",
                foreign.cluster, by.mesh
            ),
        )),
    }
}

async fn no_call_reaches_it(
    stage: &mut Stage<'_>,
    by: &Side,
    foreign: &Side,
    found: &mut ForeignRoot,
) -> Result<(), OperateError> {
    stage.typed(format!(
        "verify {URL} --from {}/deploy/sleep -n {CALLS}",
        by.cluster
    ));
    let place = stage.sleep(by)?;
    let tally = verify(&stage.fleet, &place, &load::url(URL)?, Manner::Count(CALLS)).await?;
    let theirs: Vec<String> = PodRecord::all(&stage.dir(&foreign.cluster)?)
        .into_iter()
        .map(|pod| pod.name)
        .collect();
    found.calls = tally.sent;
    found.answered = (tally.instances.iter())
        .filter(|(name, _)| theirs.contains(name))
        .map(|(_, count)| count)
        .sum();
    stage.report.foreign_root = Some(found.clone());
    if found.answered > 0 || tally.failed > 0 {
        return Err(not_held(
            format!(
                "{} calls reached {}, {} failed",
                found.answered, foreign.cluster, tally.failed
            ),
            words(&tally),
            format!("see `catamaran mesh show {}`", by.mesh),
        ));
    }
    stage.job.note(format!(
        "{} calls from {}: none reached {}, none failed",
        found.calls, by.cluster, foreign.cluster
    ));
    Ok(())
}

async fn remove(stage: &mut Stage<'_>, by: &Side, foreign: &Side) -> Result<(), OperateError> {
    let (mesh, cluster) = (&foreign.mesh, &foreign.cluster);
    stage.typed(format!("cluster remove {cluster} --mesh {}", by.mesh));
    remove_cluster(&stage.fleet, &by.mesh, cluster, &mut Job::unwatched())?;
    stage.running(&by.mesh).await?;
    stage.job.note(format!("{} has let it go", by.mesh));
    stage.typed(format!("cluster stop {cluster}"));
    stop_cluster(
        &stage.fleet,
        cluster,
        catamaran_local::lifecycle::Stop::Drain,
        &mut Job::unwatched(),
    )
    .await?;
    stage.job.note(format!("nothing runs in {cluster}"));
    stage.typed(format!("mesh delete {mesh}"));
    delete_mesh(&stage.fleet, mesh, &mut Job::unwatched())?;
    stage.job.note(format!("{mesh} and its root are gone"));
    Ok(())
}
