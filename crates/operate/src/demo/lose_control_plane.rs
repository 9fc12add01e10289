//! Loss (a): the control plane of mesh-1 dies, and stays dead until mesh-2 has pushed a change to its proxies.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use catamaran_local::fleet::ClusterDir;
use catamaran_local::lifecycle::kill_control_plane;
use catamaran_local::running::Running;

use super::call::{URL, errors};
use super::stage::{PODS_PATIENCE, Stage, namespace, not_held};
use super::{ControlPlaneLoss, lose_cluster::warm};
use crate::load::Load;
use crate::{Call, OperateError, Tally, load, scale};

/// Requests a second from each cluster.
pub(super) const RATE: u32 = 50;
/// For how long load goes on when all is well again.
const AFTERWARDS: Duration = Duration::from_secs(1);
/// How often a control plane that was started again is looked for.
const LOOK: Duration = Duration::from_millis(20);

pub(super) async fn mesh_1(stage: &mut Stage<'_>) -> Result<(), OperateError> {
    let (one, two) = (stage.side(1)?, stage.side(2)?);
    let url = load::url(URL)?;
    stage.typed(format!(
        "verify {URL} --from cluster-1/deploy/sleep --rate {RATE}  # and the same from cluster-2"
    ));
    let mut near = Load::start(&stage.fleet, &stage.sleep(&one)?, &url, RATE, None)?;
    let mut far = Load::start(&stage.fleet, &stage.sleep(&two)?, &url, RATE, None)?;
    warm(&mut near, &one).await?;
    warm(&mut far, &two).await?;
    stage.job.note(format!(
        "both versions answer {RATE} requests a second from each cluster"
    ));

    let dir = stage.dir(&one.cluster)?;
    let mut loss = ControlPlaneLoss::default();
    let killed = kill_control_plane(&dir).ok_or_else(|| {
        not_held(
            "mesh-1 has no control plane",
            "its record is not there",
            "see `catamaran mesh show mesh-1`",
        )
    })?;
    stage
        .job
        .command(format!("kill -9 {}  # mesh-1's control plane", killed.pid));
    loss.kills = 1;

    let known: BTreeSet<String> = instances(&far.calls_since(0));
    let from = far.ended();
    stage.typed("scale deploy/helloworld-v2 --replicas 2 --cluster cluster-2");
    let changed = Instant::now();
    scale(
        &stage.fleet,
        &two.cluster,
        &namespace()?,
        "helloworld-v2",
        2,
    )?;
    let new = |calls: &[Call]| instances(calls).iter().any(|name| !known.contains(name));
    loss.other_pushed = tokio::select! {
        pushed = far.wait_for(from, PODS_PATIENCE, new) => pushed,
        never = keep_dead(&dir, killed, &mut loss.kills) => match never {},
    };
    if loss.other_pushed {
        let after = changed.elapsed();
        loss.pushed_after_ms = Some(after.as_millis() as u64);
        let seen = instances(&far.calls_since(from));
        let name = seen
            .iter()
            .find(|name| !known.contains(*name))
            .cloned()
            .unwrap_or_default();
        stage.job.note(format!(
            "mesh-2 pushed meanwhile: {name} answers callers in cluster-2 after {:.1} s (mesh-1 killed {} ×)",
            after.as_secs_f64(),
            loss.kills
        ));
    }
    let back = Instant::now();
    let returned = stage.running(&one.mesh).await;
    if returned.is_ok() {
        loss.back_after_ms = Some(back.elapsed().as_millis() as u64);
        stage
            .job
            .note("mesh-1 is running again, started by its node");
    }
    tokio::time::sleep(AFTERWARDS).await;
    let tallies = [near.stop().await.0, far.stop().await.0];
    loss.sent = tallies.iter().map(|tally| tally.sent).sum();
    loss.failed = tallies.iter().map(|tally| tally.failed).sum();
    loss.longest_gap_ms = tallies
        .iter()
        .map(|tally| tally.longest_gap_ms)
        .max()
        .unwrap_or_default();
    stage.job.remark(format!(
        "{} requests sent, {} failed, longest gap {} ms",
        loss.sent, loss.failed, loss.longest_gap_ms
    ));
    stage.report.losses.control_plane = Some(loss.clone());
    judge(&loss, &tallies)?;
    returned?;

    stage.typed("scale deploy/helloworld-v2 --replicas 1 --cluster cluster-2");
    scale(
        &stage.fleet,
        &two.cluster,
        &namespace()?,
        "helloworld-v2",
        1,
    )?;
    stage.pods(&two.cluster, &[("helloworld-v2", 1)]).await?;
    stage.job.note("cluster-2: one helloworld-v2 as before");
    Ok(())
}

fn judge(loss: &ControlPlaneLoss, tallies: &[Tally]) -> Result<(), OperateError> {
    if !loss.other_pushed {
        return Err(not_held(
            "mesh-2 pushed nothing while mesh-1's control plane was dead",
            format!(
                "no new instance answered callers in cluster-2 within {} s",
                PODS_PATIENCE.as_secs()
            ),
            "see `catamaran mesh show mesh-2` and `catamaran proxy list`",
        ));
    }
    if loss.failed > 0 {
        let reasons: String = tallies.iter().map(errors).collect();
        return Err(not_held(
            format!(
                "{} of {} requests failed while mesh-1's control plane was dead",
                loss.failed, loss.sent
            ),
            reasons.trim_start_matches("; "),
            "see `catamaran logs cluster-1 deploy/sleep -c istio-proxy`, and the same in cluster-2",
        ));
    }
    Ok(())
}

/// Kills the control plane again whenever its node has started it again.
async fn keep_dead(
    dir: &ClusterDir,
    mut dead: Running,
    kills: &mut u32,
) -> std::convert::Infallible {
    loop {
        tokio::time::sleep(LOOK).await;
        let alive =
            Running::read(&dir.control_plane_record()).filter(|now| *now != dead && now.alive());
        if alive.is_some()
            && let Some(killed) = kill_control_plane(dir)
        {
            *kills += 1;
            dead = killed;
        }
    }
}

fn instances(calls: &[Call]) -> BTreeSet<String> {
    calls
        .iter()
        .filter_map(|call| Some(call.hello()?.1.to_owned()))
        .collect()
}
