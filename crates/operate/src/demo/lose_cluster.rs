//! Loss (b): everything in cluster-1 dies at once: node, control plane, gateway, pods and sidecars.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use catamaran_local::lifecycle::Stop;

use super::ClusterLoss;
use super::call::{URL, errors};
use super::lose_control_plane::RATE;
use super::stage::{Side, Stage, not_held};
use crate::load::Load;
use crate::{Call, Job, OperateError, load, start_cluster, stop_cluster};

/// How long load runs before something is lost, at most.
const WARM_PATIENCE: Duration = Duration::from_secs(20);
/// How many calls it must have made by then.
const WARM_CALLS: usize = 50;
/// How long the cluster stays dead.
const DEAD: Duration = Duration::from_secs(4);
/// How long both versions may take to answer again.
const BACK_PATIENCE: Duration = Duration::from_secs(60);
/// For how long load goes on when all is well again.
const AFTERWARDS: Duration = Duration::from_secs(2);

pub(super) async fn cluster_1(stage: &mut Stage<'_>) -> Result<(), OperateError> {
    let (one, two) = (stage.side(1)?, stage.side(2)?);
    stage.typed(format!(
        "verify {URL} --from cluster-2/deploy/sleep --rate {RATE}"
    ));
    let mut load = Load::start(
        &stage.fleet,
        &stage.sleep(&two)?,
        &load::url(URL)?,
        RATE,
        None,
    )?;
    warm(&mut load, &two).await?;
    stage.job.note(format!(
        "both versions answer {RATE} requests a second from cluster-2"
    ));

    stage.typed("cluster stop cluster-1 --kill");
    stop_cluster(
        &stage.fleet,
        &one.cluster,
        Stop::Kill,
        &mut Job::unwatched(),
    )
    .await?;
    let died = Instant::now();
    stage.job.note("nothing runs in cluster-1");
    let at_death = latest_ms(&load);
    tokio::time::sleep(DEAD).await;
    let until = latest_ms(&load);
    let during: Vec<Call> = (load.calls_since(0).into_iter())
        .filter(|call| call.sent_ms > at_death && call.sent_ms <= until)
        .collect();
    let mut loss = ClusterLoss {
        versions_during: versions(&during),
        dead_ms: died.elapsed().as_millis() as u64,
        ..ClusterLoss::default()
    };
    let told: Vec<String> = loss
        .versions_during
        .iter()
        .map(|(version, count)| format!("{version} {count}"))
        .collect();
    stage.job.note(format!(
        "callers in cluster-2 meanwhile: {}",
        told.join(", ")
    ));

    stage.typed("cluster start cluster-1");
    let started = Instant::now();
    let from = load.ended();
    let start = start_cluster(&stage.fleet, &one.cluster, &mut Job::unwatched()).await;
    let both =
        |calls: &[Call]| versions(calls).contains_key("v1") && versions(calls).contains_key("v2");
    if start.is_ok() && load.wait_for(from, BACK_PATIENCE, both).await {
        let back = started.elapsed();
        loss.both_back_after_ms = Some(back.as_millis() as u64);
        stage.job.note(format!(
            "both versions answer again after {:.1} s (aim: 10 s)",
            back.as_secs_f64()
        ));
    }
    let returned = stage.running(&one.mesh).await;
    tokio::time::sleep(AFTERWARDS).await;
    let tally = load.stop().await.0;
    (loss.sent, loss.failed) = (tally.sent, tally.failed);
    loss.longest_gap_ms = tally.longest_gap_ms;
    stage.job.remark(format!(
        "{} requests sent from cluster-2, {} failed, longest gap {} ms (aim: 2 s)",
        loss.sent, loss.failed, loss.longest_gap_ms
    ));
    stage.report.losses.cluster = Some(loss.clone());
    start?;
    judge(&loss, &errors(&tally))?;
    returned?;
    stage
        .pods(&one.cluster, &[("sleep", 1), ("helloworld-v1", 1)])
        .await?;
    stage.job.note("cluster-1 is whole again");
    Ok(())
}

fn judge(loss: &ClusterLoss, reasons: &str) -> Result<(), OperateError> {
    let see = "see `catamaran logs cluster-2 deploy/sleep -c istio-proxy`";
    if loss.failed > 0 {
        return Err(not_held(
            format!(
                "{} of {} requests of callers in cluster-2 failed",
                loss.failed, loss.sent
            ),
            reasons.trim_start_matches("; "),
            see,
        ));
    }
    if loss.versions_during.keys().ne(["v2"]) {
        return Err(not_held(
            "callers in cluster-2 were not answered by v2 only while cluster-1 was dead",
            format!("they were answered by {:?}", loss.versions_during),
            see,
        ));
    }
    match loss.both_back_after_ms {
        Some(_) => Ok(()),
        None => Err(not_held(
            "v1 did not come back after cluster-1 was started again",
            format!(
                "callers in cluster-2 waited {} s for both versions",
                BACK_PATIENCE.as_secs()
            ),
            "see `catamaran status`, and the folder logs/ of cluster-1",
        )),
    }
}

/// Waits until load runs well: both versions answer.
pub(super) async fn warm(load: &mut Load, side: &Side) -> Result<(), OperateError> {
    let enough = |calls: &[Call]| {
        let seen = versions(calls);
        calls.len() >= WARM_CALLS && seen.contains_key("v1") && seen.contains_key("v2")
    };
    if load.wait_for(0, WARM_PATIENCE, enough).await {
        return Ok(());
    }
    let calls = load.calls_since(0);
    let last = calls.iter().rev().find_map(|call| call.error.clone());
    Err(not_held(
        format!(
            "load from {} does not get answers of both versions",
            side.cluster
        ),
        format!(
            "{} calls ended; {:?}; {}",
            calls.len(),
            versions(&calls),
            last.unwrap_or_default()
        ),
        format!(
            "see `catamaran logs {} deploy/sleep -c istio-proxy`",
            side.cluster
        ),
    ))
}

/// When the last call that ended was sent.
fn latest_ms(load: &Load) -> f64 {
    load.calls_since(0)
        .iter()
        .map(|call| call.sent_ms)
        .fold(0.0, f64::max)
}

pub(super) fn versions(calls: &[Call]) -> BTreeMap<String, usize> {
    let mut versions = BTreeMap::new();
    for (version, _) in calls.iter().filter_map(Call::hello) {
        *versions.entry(version.to_owned()).or_default() += 1;
    }
    versions
}
