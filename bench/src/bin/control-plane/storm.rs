//! What comes in numbers: a service that is new to everybody, changes without a pause, and everybody who comes back at once.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use catamaran_bench::control_plane::Plane;
use catamaran_bench::control_plane::caller::{self, AT_ONCE, Caller, Lookout, PATIENCE, Wants};
use catamaran_bench::control_plane::figures::{millis, round};
use catamaran_bench::control_plane::names;
use catamaran_identity::Credentials;
use catamaran_xds::TypeUrlKind;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::world::{self, World};
use crate::{found_by, one_change};

/// New services, one after the other.
const NEW: usize = 3;
/// Changes in a second, and for how many seconds.
const RATE: u32 = 100;
const SECONDS: u32 = 10;
/// What was sent before is counted by now.
const SETTLE: Duration = Duration::from_secs(2);

/// Everything that the storms act on.
pub(crate) struct Storm<'a> {
    pub(crate) world: &'a World,
    pub(crate) plane: &'a mut Plane,
    pub(crate) credentials: &'a Arc<Credentials>,
    pub(crate) lookout: &'a Lookout,
    pub(crate) finds: &'a mut mpsc::UnboundedReceiver<Instant>,
    /// Who is connected; all ask for everything.
    pub(crate) callers: Vec<Caller>,
    /// The number of the last change.
    pub(crate) change: usize,
}

impl Storm<'_> {
    /// All four, in this order.
    pub(crate) async fn run(mut self) -> Result<Value> {
        let services = self.world.services;
        let proxies = self.callers.len();
        let churn = self.churn().await?;
        let whole = self.all_services().await?;
        // A service more would be one more than callers who come back know of, so they come back first.
        let back = self.reconnect().await?;
        let new = self.new_services().await?;
        Ok(json!({
            "services": services, "proxies": proxies, "churn": churn, "all_services": whole, "reconnect": back, "new_service": new,
        }))
    }

    /// Changes to all services in turn; once in a second one is followed until the last proxy has accepted it.
    async fn churn(&mut self) -> Result<Value> {
        sleep(SETTLE).await;
        let (counts, cpu) = (self.plane.counts()?, self.plane.cpu()?);
        let begin = Instant::now();
        let (world, first) = (self.world, self.change + 1);
        let others = async {
            let mut late = Duration::ZERO;
            for n in 0..RATE * SECONDS {
                let due = begin + Duration::from_secs(1) / RATE * n;
                tokio::time::sleep_until(due.into()).await;
                late = late.max(due.elapsed());
                let service = 1 + n as usize % (world.services - 1);
                world.slice(service, &[world::other(n as usize)])?;
            }
            Ok::<_, anyhow::Error>(late)
        };
        let followed = async {
            let mut last = Vec::new();
            for n in 0..SECONDS {
                let due = begin + Duration::from_secs(n.into()) + Duration::from_millis(500);
                tokio::time::sleep_until(due.into()).await;
                let change = first + n as usize;
                let all = self.callers.len();
                let times = one_change(world, change, all, self.lookout, self.finds).await?;
                last.extend(times.last().copied());
            }
            Ok::<_, anyhow::Error>(last)
        };
        let (late, last) = tokio::join!(others, followed);
        let (late, mut last) = (late?, last?);
        self.change += SECONDS as usize;
        sleep(SETTLE).await;
        let cpu = self.plane.cpu()? - cpu;
        let now = self.plane.counts()?;
        last.sort_unstable();
        Ok(json!({
            "changes": RATE * SECONDS + SECONDS,
            "writer_late_ms": millis(late),
            "cpu_ms": millis(cpu),
            "bytes": now.bytes - counts.bytes,
            "responses": now.responses - counts.responses,
            "last_ack_ms": last.get(last.len() / 2).map(|time| millis(*time)),
            "last_ack_worst_ms": last.last().map(|time| millis(*time)),
        }))
    }

    /// Every service changes, one file after the other without a pause; the last of them is followed.
    async fn all_services(&mut self) -> Result<Value> {
        sleep(SETTLE).await;
        let (counts, cpu) = (self.plane.counts()?, self.plane.cpu()?);
        while self.finds.try_recv().is_ok() {}
        let services = self.world.services;
        let mark = (RATE * SECONDS) as usize;
        let last = world::other(mark + services);
        self.lookout.look_for(TypeUrlKind::Endpoints, &last);
        let begin = Instant::now();
        for service in 1..services {
            let address = match service + 1 == services {
                true => last.clone(),
                false => world::other(mark + service),
            };
            self.world.slice(service, &[address])?;
        }
        let written = begin.elapsed();
        let times = found_by(self.callers.len(), begin, self.finds).await?;
        sleep(SETTLE).await;
        let cpu = self.plane.cpu()? - cpu;
        let now = self.plane.counts()?;
        Ok(json!({
            "written_ms": millis(written),
            "cpu_ms": millis(cpu),
            "bytes": now.bytes - counts.bytes,
            "responses": now.responses - counts.responses,
            "last_ack_ms": times.last().map(|time| millis(*time)),
        }))
    }

    /// Everybody goes and comes back with what he holds; a change that everybody then hears shows that all are in step.
    async fn reconnect(&mut self) -> Result<Value> {
        let whole = Wants::all(self.world.services);
        let address = self.plane.address;
        let held = caller::learn(address, self.credentials, whole);
        let held = timeout(PATIENCE, held)
            .await
            .context("one cold proxy gets nothing")??;
        let wants = Arc::new(Wants::again(self.world.services, held));
        let many = self.callers.len();
        self.callers.clear();
        sleep(SETTLE).await;
        let (counts, cpu, begin) = (self.plane.counts()?, self.plane.cpu()?, Instant::now());
        let mut waiting = 0..many;
        let mut coming = JoinSet::new();
        loop {
            while coming.len() < AT_ONCE
                && let Some(n) = waiting.next()
            {
                let (credentials, wants) = (self.credentials.clone(), wants.clone());
                let lookout = self.lookout.clone();
                coming.spawn(async move {
                    caller::connect(address, &credentials, n, wants, lookout).await
                });
            }
            let come = timeout(PATIENCE, coming.join_next()).await;
            match come.context("proxies do not come back")? {
                Some(caller) => self.callers.push(caller??),
                None => break,
            }
        }
        let time = begin.elapsed();
        sleep(SETTLE).await;
        let cpu = self.plane.cpu()? - cpu;
        let now = self.plane.counts()?;
        self.change += 1;
        let times = one_change(self.world, self.change, many, self.lookout, self.finds).await?;
        Ok(json!({
            "ms": millis(time),
            "cpu_ms": millis(cpu),
            "bytes": now.bytes - counts.bytes,
            "responses": now.responses - counts.responses,
            "then_heard_a_change": times.len(),
        }))
    }

    async fn new_services(&mut self) -> Result<Value> {
        let all = self.callers.len();
        let mut last = Vec::new();
        let (mut bytes, mut responses, mut cpu) = (Vec::new(), Vec::new(), Vec::new());
        for n in self.world.services..self.world.services + NEW {
            sleep(SETTLE).await;
            let (counts, used) = (self.plane.counts()?, self.plane.cpu()?);
            while self.finds.try_recv().is_ok() {}
            self.lookout
                .look_for(TypeUrlKind::Cluster, &names::resource(n));
            let begin = Instant::now();
            self.world.add(n)?;
            let times = found_by(all, begin, self.finds).await?;
            sleep(SETTLE).await;
            last.extend(times.last().copied());
            let now = self.plane.counts()?;
            bytes.push(now.bytes - counts.bytes);
            responses.push(now.responses - counts.responses);
            cpu.push(self.plane.cpu()? - used);
        }
        last.sort_unstable();
        bytes.sort_unstable();
        responses.sort_unstable();
        cpu.sort_unstable();
        Ok(json!({
            "runs": NEW,
            "bytes": bytes[NEW / 2],
            "responses": responses[NEW / 2],
            "cpu_ms": cpu.iter().map(|cpu| millis(*cpu)).collect::<Vec<_>>(),
            "last_ack_ms": last.iter().map(|time| millis(*time)).collect::<Vec<_>>(),
        }))
    }
}

/// The rows of a second table, for people.
pub(crate) fn table(storms: &[Value]) -> String {
    let mut text = String::from(
        "| services | proxies | what | CPU, ms | responses | bytes | to last ACK, ms (median, worst) |\n\
         | --- | --- | --- | --- | --- | --- | --- |\n",
    );
    for storm in storms {
        let (services, proxies) = (&storm["services"], &storm["proxies"]);
        let middle = |list: &Value| list[NEW / 2].as_f64().map_or(0.0, round);
        let (new, churn, back) = (&storm["new_service"], &storm["churn"], &storm["reconnect"]);
        let whole = &storm["all_services"];
        let rows = [
            (
                format!("a new service ({NEW} runs)"),
                middle(&new["cpu_ms"]).to_string(),
                new["responses"].to_string(),
                new["bytes"].to_string(),
                format!(
                    "{}, {}",
                    middle(&new["last_ack_ms"]),
                    new["last_ack_ms"][NEW - 1]
                ),
            ),
            (
                format!("{RATE} changes a second for {SECONDS} s (1 run)"),
                churn["cpu_ms"].to_string(),
                churn["responses"].to_string(),
                churn["bytes"].to_string(),
                format!("{}, {}", churn["last_ack_ms"], churn["last_ack_worst_ms"]),
            ),
            (
                "all services change at once (1 run)".to_owned(),
                whole["cpu_ms"].to_string(),
                whole["responses"].to_string(),
                whole["bytes"].to_string(),
                format!(
                    "{}, of which {} to write it",
                    whole["last_ack_ms"], whole["written_ms"]
                ),
            ),
            (
                "all come back (1 run)".to_owned(),
                back["cpu_ms"].to_string(),
                back["responses"].to_string(),
                back["bytes"].to_string(),
                format!("{} until all are back", back["ms"]),
            ),
        ];
        for (what, cpu, responses, bytes, last) in rows {
            text += &format!(
                "| {services} | {proxies} | {what} | {cpu} | {responses} | {bytes} | {last} |\n"
            );
        }
    }
    text
}
