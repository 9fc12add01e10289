//! Step 5 on two given clusters: `sleep` calls `helloworld`, from both.

use std::time::Duration;

use catamaran_kubernetes::inject::SIDECAR;
use catamaran_kubernetes::sight::Pod;
use catamaran_kubernetes::workload;
use http::Uri;

use super::steps::{pods, put};
use super::{NAMESPACE, Side, Stage};
use crate::contexts::calls;
use crate::demo::call::{URL, errors, upstream, words};
use crate::demo::deploy::SLEEP_CLUSTER_2;
use crate::demo::stage::not_held;
use crate::{OperateError, Tally, context_mesh, load, wait};

/// How many calls are made from each cluster.
const CALLS: u32 = 10;
/// How many at once until both versions have answered.
const FIRST: u32 = 4;
/// How long it may take until the first answers of both versions.
const MIX_PATIENCE: Duration = Duration::from_secs(60);
/// How long a sidecar may take to write what it logged.
const LOG_PATIENCE: Duration = Duration::from_secs(15);

pub(super) async fn from_both(stage: &mut Stage<'_>) -> Result<(), OperateError> {
    let [one, two] = stage.sides.clone();
    from(stage, &one).await?;

    stage.job.command(format!(
        "kubectl{} scale -n {NAMESPACE} deploy/sleep --replicas 0",
        one.option()
    ));
    let scaled = workload::scale(&one.access, NAMESPACE, "sleep", 0).await;
    scaled.map_err(one.failed("the scale of deploy/sleep"))?;
    pods(&one, &[("sleep", 0)]).await?;
    stage
        .job
        .note(format!("sleep is gone from {}", one.cluster));
    put(stage, &two, &SLEEP_CLUSTER_2).await?;
    pods(&two, &[("sleep", 1)]).await?;
    stage.job.note(format!("{}: sleep is ready", two.cluster));
    from(stage, &two).await?;

    let crossed = stage.report.gateway_calls;
    let fix = "see `catamaran proxy config default/sleep-... endpoints --context ONE`";
    match (stage.flat(), crossed) {
        (false, 0) => Err(not_held(
            "no call crossed a gateway",
            "the sidecars of both callers logged only direct ones",
            fix,
        )),
        (true, 1..) => Err(not_held(
            format!("{crossed} calls crossed a gateway"),
            "in one network pods talk directly",
            fix,
        )),
        (true, 0) => {
            let direct = "every call went to a pod directly, over mTLS";
            stage.job.remark(direct);
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
    let (cluster, url) = (&side.cluster, load::url(URL)?);
    let curl = "for i in $(seq 1 10); do curl helloworld:5000/hello; done;";
    stage.job.command(format!(
        "kubectl{} exec -n {NAMESPACE} deploy/sleep -- sh -c '{curl}'",
        side.option()
    ));
    let caller = caller(side).await?;
    let first = both_answer(side, &caller, &url).await?;
    stage
        .job
        .note(format!("both versions answer sleep in {cluster}"));
    let called = calls(&side.access, &caller, &url, CALLS).await;
    let tally = called.map_err(|no_calls| {
        not_held(
            format!("no calls could be made from sleep in {cluster}"),
            no_calls.words(),
            "",
        )
    })?;
    stage
        .report
        .tally
        .insert(cluster.to_string(), tally.versions.clone());
    stage
        .job
        .note(format!("from {cluster}   {}", words(&tally)));
    let both = ["v1", "v2"]
        .iter()
        .all(|version| tally.versions.contains_key(*version));
    if !both || tally.failed > 0 {
        return Err(not_held(
            format!("callers in {cluster} do not get answers of both versions to every call"),
            words(&tally) + &errors(&tally),
            format!(
                "see kubectl{} logs -n {NAMESPACE} deploy/sleep -c {SIDECAR}",
                side.option()
            ),
        ));
    }
    stage.report.gateway_calls += crossed(side, &caller, first, tally.sent).await?;
    Ok(())
}

async fn caller(side: &Side) -> Result<Pod, OperateError> {
    let pods = workload::pods_of(&side.access, NAMESPACE, "sleep").await;
    let pods = pods.map_err(side.failed("pods"))?.unwrap_or_default();
    let mut ready = pods.into_iter().filter(|pod| pod.ready && !pod.ending);
    ready.next().ok_or_else(|| {
        not_held(
            format!("no pod of deploy/sleep is ready in {}", side.cluster),
            "",
            format!("see kubectl{} get pods -n {NAMESPACE}", side.option()),
        )
    })
}

/// Waits until both versions answer, without a failure. Gives how many calls that took.
async fn both_answer(side: &Side, caller: &Pod, url: &Uri) -> Result<usize, OperateError> {
    let what = format!("answers of both versions in {}", side.cluster);
    let look = format!(
        "see kubectl{} logs -n {NAMESPACE} {} -c {SIDECAR}",
        side.option(),
        caller.name
    );
    let made = std::sync::atomic::AtomicUsize::new(0);
    let order = std::sync::atomic::Ordering::Relaxed;
    wait::until(&what, MIX_PATIENCE, &look, || async {
        let tally: Tally = (calls(&side.access, caller, url, FIRST).await)
            .map_err(crate::contexts::NoCalls::words)?;
        let sent = made.fetch_add(tally.sent, order) + tally.sent;
        let both = tally.versions.contains_key("v1") && tally.versions.contains_key("v2");
        match both && tally.failed == 0 {
            true => Ok(sent),
            false => Err(words(&tally) + &errors(&tally)),
        }
    })
    .await
}

/// How many of the last `sent` calls of a pod, which made `first` calls before, crossed a gateway, by its sidecar's access log.
async fn crossed(
    side: &Side,
    caller: &Pod,
    first: usize,
    sent: usize,
) -> Result<usize, OperateError> {
    let contacts = [side.contact.clone()];
    let (row, _) = context_mesh(&contacts, &side.mesh).await?;
    let gateways: Vec<String> = (row.clusters.into_iter())
        .flat_map(|member| member.gateways)
        .collect();
    let lines = i64::try_from(first + sent)
        .unwrap_or(i64::MAX)
        .saturating_mul(4)
        + 200;
    let look = format!(
        "see kubectl{} logs -n {NAMESPACE} {}",
        side.option(),
        caller.name
    );
    wait::until("the sidecar's access log", LOG_PATIENCE, &look, || async {
        let text = workload::logs(&side.access, NAMESPACE, &caller.name, SIDECAR, lines).await;
        let text = text.map_err(|failure| failure.about("logs"))?;
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
