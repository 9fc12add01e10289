//! Step 5: `sleep` calls `helloworld`, from both clusters.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use catamaran_model::ClusterId;

use super::deploy::{SLEEP_CLUSTER_2, put};
use super::stage::{Side, Stage, namespace, not_held};
use crate::exec::{Place, logs};
use crate::verify::{Manner, verify};
use crate::{OperateError, Tally, load, scale, show_mesh, wait};

/// What is called.
pub(super) const URL: &str = "helloworld:5000/hello";
/// How many calls are made from each cluster.
const CALLS: u32 = 40;
/// How long it may take until the first answers of both versions.
const MIX_PATIENCE: Duration = Duration::from_secs(30);
/// How long a sidecar may take to write what it logged.
const LOG_PATIENCE: Duration = Duration::from_secs(10);
/// How many lines of a sidecar's log are read; more than calls are made.
const LOG_LINES: usize = 2_000;
/// The sidecar's container.
const SIDECAR: &str = "istio-proxy";

pub(super) async fn from_both(stage: &mut Stage<'_>) -> Result<(), OperateError> {
    let (one, two) = (stage.side(1)?, stage.side(2)?);
    from(stage, &one).await?;

    scale_sleep(stage, &one.cluster, 0).await?;
    put(stage, 2, &SLEEP_CLUSTER_2)?;
    stage.pods(&two.cluster, &[("sleep", 1)]).await?;
    stage.job.note("cluster-2: sleep is ready");
    from(stage, &two).await?;
    scale_sleep(stage, &one.cluster, 1).await?;

    let crossed = stage.report.gateway_calls;
    match (stage.flat(), crossed) {
        (false, 0) => Err(not_held(
            "no call crossed a gateway",
            "the sidecars of both callers logged only direct ones",
            "see `catamaran proxy config cluster-1/default/sleep-... endpoints`",
        )),
        (true, 1..) => Err(not_held(
            format!("{crossed} calls crossed a gateway"),
            "in one network pods talk directly",
            "see `catamaran mesh show mesh-1`",
        )),
        (true, 0) => {
            stage
                .job
                .remark("every call went to a pod directly, over mTLS");
            Ok(())
        }
        (false, _) => {
            stage.job.remark(format!(
                "{crossed} calls crossed a gateway, over mTLS from sidecar to sidecar"
            ));
            Ok(())
        }
    }
}

async fn from(stage: &mut Stage<'_>, side: &Side) -> Result<(), OperateError> {
    let place = stage.sleep(side)?;
    let cluster = &side.cluster;
    let curl = "for i in $(seq 1 10); do curl -s helloworld:5000/hello; done";
    stage.typed(format!("exec {cluster} deploy/sleep -- sh -c '{curl}'"));
    let first = both_answer(stage, &place).await?;
    stage
        .job
        .note(format!("both versions answer sleep in {cluster}"));
    stage.typed(format!(
        "verify {URL} --from {cluster}/deploy/sleep -n {CALLS}"
    ));
    let tally = verify(&stage.fleet, &place, &load::url(URL)?, Manner::Count(CALLS)).await?;
    stage
        .report
        .tally
        .insert(cluster.to_string(), tally.versions.clone());
    stage
        .job
        .note(format!("from {cluster}   {}", words(&tally)));
    let crossed = crossed(stage, &place, first, tally.sent).await?;
    stage.report.gateway_calls += crossed;
    let both = ["v1", "v2"]
        .iter()
        .all(|version| tally.versions.contains_key(*version));
    if !both || tally.failed > 0 {
        return Err(not_held(
            format!("callers in {cluster} do not get answers of both versions to every call"),
            words(&tally) + &errors(&tally),
            format!("see `catamaran logs {cluster} deploy/sleep -c {SIDECAR}`"),
        ));
    }
    Ok(())
}

/// Waits until both versions answer, without a failure. Gives how many calls that took.
async fn both_answer(stage: &Stage<'_>, place: &Place) -> Result<usize, OperateError> {
    let url = load::url(URL)?;
    let what = format!("answers of both versions at {place}");
    let look = format!(
        "see `catamaran logs {} {} -c {SIDECAR}`",
        place.cluster, place.target
    );
    let made = AtomicUsize::new(0);
    wait::until(&what, MIX_PATIENCE, &look, || async {
        let tally = verify(&stage.fleet, place, &url, Manner::Count(4)).await;
        let tally = tally.map_err(|error| error.to_string())?;
        made.fetch_add(tally.sent, Ordering::Relaxed);
        let both = tally.versions.contains_key("v1") && tally.versions.contains_key("v2");
        match both && tally.failed == 0 {
            true => Ok(made.load(Ordering::Relaxed)),
            false => Err(words(&tally) + &errors(&tally)),
        }
    })
    .await
}

async fn scale_sleep(
    stage: &mut Stage<'_>,
    cluster: &ClusterId,
    replicas: u32,
) -> Result<(), OperateError> {
    stage.typed(format!(
        "scale deploy/sleep --replicas {replicas} --cluster {cluster}"
    ));
    scale(&stage.fleet, cluster, &namespace()?, "sleep", replicas)?;
    stage.pods(cluster, &[("sleep", replicas as usize)]).await?;
    stage.job.note(match replicas {
        0 => format!("sleep is gone from {cluster}"),
        _ => format!("sleep is back in {cluster}"),
    });
    Ok(())
}

/// How many of the last `sent` calls of a pod, which made `first` calls before, crossed a gateway, by its sidecar's access log.
async fn crossed(
    stage: &Stage<'_>,
    place: &Place,
    first: usize,
    sent: usize,
) -> Result<usize, OperateError> {
    let mesh = (stage.fleet.instances()?.into_iter())
        .find(|instance| *instance.home.name() == place.cluster)
        .map(|instance| instance.spec.name);
    let Some(mesh) = mesh else { return Ok(0) };
    let gateways: Vec<String> = (show_mesh(&stage.fleet, &mesh).await?.clusters.into_iter())
        .flat_map(|member| member.gateways)
        .collect();
    let look = "see the folder logs/ of the cluster";
    wait::until("the sidecar's access log", LOG_PATIENCE, look, || async {
        let text = logs(&stage.fleet, place, Some(SIDECAR), LOG_LINES);
        let text = text.map_err(|error| error.to_string())?;
        let hosts: Vec<String> = text.lines().filter_map(upstream).collect();
        match hosts.len() {
            seen if seen < first + sent => {
                Err(format!("it names {seen} of {} calls", first + sent))
            }
            seen => Ok(hosts[seen - sent..]
                .iter()
                .filter(|host| gateways.contains(host))
                .count()),
        }
    })
    .await
}

/// The address that a line of the access log says a call of `helloworld` went to.
pub(super) fn upstream(line: &str) -> Option<String> {
    let line: serde_json::Value = serde_json::from_str(line).ok()?;
    let ours = line["direction"] == "outbound"
        && line["authority"]
            .as_str()
            .is_some_and(|authority| authority.starts_with("helloworld"));
    ours.then(|| line["upstream_host"].as_str().unwrap_or("none").to_owned())
}

/// A tally in one line.
pub(super) fn words(tally: &Tally) -> String {
    let all = tally.ok.max(1);
    let versions: Vec<String> = (tally.versions.iter())
        .map(|(version, count)| format!("{version} {} {count}", bar(*count, all)))
        .collect();
    format!(
        "{}   failed {}   p99 {:.1} ms",
        if versions.is_empty() {
            "no answer".into()
        } else {
            versions.join("   ")
        },
        tally.failed,
        tally.latency_ms.p99
    )
}

/// The failures of a tally by reason.
pub(super) fn errors(tally: &Tally) -> String {
    (tally.errors.iter())
        .map(|(reason, count)| format!("; {count} × {reason}"))
        .collect()
}

/// A share of a whole as a bar of up to twenty eighths-of-a-letter.
fn bar(part: usize, whole: usize) -> String {
    const EIGHTHS: [char; 8] = ['\u{20}', '▏', '▎', '▍', '▌', '▋', '▊', '▉'];
    let eighths = part * 160 / whole.max(1);
    let mut bar = "█".repeat(eighths / 8);
    if !eighths.is_multiple_of(8) {
        bar.push(EIGHTHS[eighths % 8]);
    }
    bar
}
