//! From a change in an API server to the last proxy that has accepted it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use catamaran_bench::control_plane::caller::{self, Caller, Lookout, Wants};
use catamaran_bench::control_plane::figures::{millis, round};
use catamaran_bench::control_plane::{Plane, names};
use catamaran_identity::Credentials;
use catamaran_xds::TypeUrlKind;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::sleep;

use crate::instance::Instance;
use crate::objects::{self, Side};
use crate::server::ApiServer;
use crate::{Both, Settings, say};

/// So long nothing happens while it is seen what the control plane uses then.
const QUIET: Duration = Duration::from_secs(10);
/// What a round's last change leaves to be done takes less than this.
const TAIL: Duration = Duration::from_millis(500);
/// Between two changes, so that one is over when the next begins.
const BETWEEN: Duration = Duration::from_millis(50);

/// When what happened, after the PATCH was sent.
struct Times {
    answered: Duration,
    first: Duration,
    last: Duration,
}

/// Every number of proxies, and changes in each cluster.
pub(crate) async fn measure(
    settings: &Settings,
    both: &mut Both,
    instance: &Instance,
    plane: &mut Plane,
) -> Result<Vec<Value>> {
    let clock = Arc::new(rustls::time_provider::DefaultTimeProvider);
    let credentials = Arc::new(Credentials::new(instance.holding()?, clock));
    let (lookout, mut finds) = Lookout::new();
    let (mut callers, mut points): (Vec<Caller>, Vec<Value>) = Default::default();
    let mut change = 0;
    for proxies in &settings.proxies {
        let address = plane.address;
        let connect = |n: usize| {
            let (credentials, lookout) = (credentials.clone(), lookout.clone());
            let wants = Arc::new(Wants::few(settings.services, n, settings.told));
            async move { caller::connect(address, &credentials, n, wants, lookout).await }
        };
        callers.extend(caller::connect_all(callers.len()..*proxies, connect).await?);
        let told = settings.told.min(*proxies);
        sleep(TAIL).await;
        let (before, begin) = (plane.cpu()?, Instant::now());
        sleep(QUIET).await;
        let idle = (plane.cpu()? - before).as_secs_f64() / begin.elapsed().as_secs_f64();
        for (side, server) in both.each() {
            let mut times = Vec::new();
            let (cpu, begin, counts) = (plane.cpu()?, Instant::now(), plane.counts()?);
            for _ in 0..settings.changes {
                change += 1;
                let one = one(server, side, change, told, &lookout, &mut finds).await;
                times.push(one.with_context(|| format!("change {change}, {}", side.word()))?);
                sleep(BETWEEN).await;
            }
            sleep(TAIL).await;
            let quiet = Duration::from_secs_f64(idle * begin.elapsed().as_secs_f64());
            let used = (plane.cpu()? - cpu).saturating_sub(quiet);
            let responses = plane.counts()?.responses - counts.responses;
            let of = |what: &dyn Fn(&Times) -> f64| {
                let mut values: Vec<f64> = times.iter().map(what).collect();
                both_of(&mut values)
            };
            // An answer may come after proxies have heard: what is measured from it can be less than nothing.
            let after = |time: Duration, answer: Duration| millis_of(time) - millis_of(answer);
            let point = json!({
                "point": "change", "cluster": side.word(), "proxies": proxies, "told": told, "changes": settings.changes,
                "answer": of(&|t| millis_of(t.answered)),
                "first": of(&|t| millis_of(t.first)),
                "last": of(&|t| millis_of(t.last)),
                "first_after_answer": of(&|t| after(t.first, t.answered)),
                "last_after_answer": of(&|t| after(t.last, t.answered)),
                "cpu_ms": millis(used / settings.changes as u32),
                "responses": round(responses as f64 / settings.changes as f64),
                "idle_cpu_percent": round(idle * 100.0),
            });
            say(&point);
            points.push(point);
        }
    }
    Ok(points)
}

/// Gives the first endpoint of service 0 another address, and waits until everybody concerned has accepted it.
async fn one(
    server: &ApiServer,
    side: Side,
    change: usize,
    told: usize,
    lookout: &Lookout,
    finds: &mut mpsc::UnboundedReceiver<Instant>,
) -> Result<Times> {
    let address = side.fresh(change);
    let (like, patch) = (objects::a_slice(side, 0), objects::moved(&address));
    // Who came meanwhile has found the change before.
    while finds.try_recv().is_ok() {}
    lookout.look_for(TypeUrlKind::Endpoints, &address);
    let begin = Instant::now();
    server.patch(&like, &patch).await?;
    let answered = begin.elapsed();
    let found = caller::found_by(told, finds).await;
    let found = found.with_context(|| format!("{} is at {address} now", names::service(0)))?;
    let after = |at: Option<&Instant>| at.map_or(Duration::ZERO, |at| *at - begin);
    Ok(Times {
        answered,
        first: after(found.first()),
        last: after(found.last()),
    })
}

fn millis_of(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

/// The median and the 99th percentile.
fn both_of(values: &mut [f64]) -> Value {
    values.sort_unstable_by(f64::total_cmp);
    let at = |percent: usize| {
        let at = (values.len() * percent).div_ceil(100).max(1) - 1;
        values.get(at).map(|value| round(*value))
    };
    json!({"p50": at(50), "p99": at(99)})
}
