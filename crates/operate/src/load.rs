//! Open-loop load: GETs at a constant rate, whatever becomes of those before, as many users are.
//!
//! [`generate`] runs in the pod, through a hidden verb, and writes one line of JSON for each call that ended; [`Load`] starts it
//! there and reads the lines.

use std::io::Write;
use std::net::SocketAddr;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::Uri;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior};

use crate::exec::{Place, exec_command};
use crate::tally::{Call, Tally, tally};
use crate::{Fleet, OperateError};

mod client;

use client::Client;

/// The most calls a second.
pub const MAX_RATE: u32 = 5_000;
/// The most calls of one run.
pub const MAX_CALLS: u64 = 1_000_000;
/// The longest run.
pub const MAX_TIME: Duration = Duration::from_secs(3600);
/// The most calls that may be under way at once; one more counts as failed, unsent.
pub const MAX_UNDER_WAY: usize = 1_000;

/// What is called, and how often.
#[derive(Debug, Clone)]
pub struct LoadConfig {
    /// `http://HOST:PORT/PATH`
    pub url: Uri,
    /// Calls a second.
    pub rate: u32,
    /// How long; until it is told to stop, or for [`MAX_TIME`], when not said.
    pub time: Option<Duration>,
    /// How many calls at most.
    pub calls: Option<u64>,
    /// How long one call may take.
    pub patience: Duration,
    /// Where calls are sent instead of to the host itself (an HTTP proxy, `IP:PORT`).
    pub proxy: Option<SocketAddr>,
}

/// Reads a URL as people write it: `helloworld:5000/hello`, with or without `http://`.
pub fn url(text: &str) -> Result<Uri, OperateError> {
    let bad = |reason: &str| OperateError::BadSetting {
        text: text.chars().take(200).collect(),
        wanted: "a URL such as helloworld:5000/hello",
        reason: reason.into(),
    };
    let whole = match text.contains("://") {
        true => text.to_owned(),
        false => format!("http://{text}"),
    };
    let uri: Uri = whole
        .parse()
        .map_err(|e: http::uri::InvalidUri| bad(&e.to_string()))?;
    if uri.scheme_str() != Some("http") {
        return Err(bad("only http is called; the mesh does the encryption"));
    }
    match uri.host() {
        None | Some("") => Err(bad("it names no host")),
        Some(_) => Ok(uri),
    }
}

/// Reads `http_proxy` as pods without capture have it: `http://IP:PORT`.
pub fn proxy(text: &str) -> Result<SocketAddr, OperateError> {
    let bare = text.trim_start_matches("http://").trim_end_matches('/');
    bare.parse().map_err(|_| OperateError::BadSetting {
        text: text.chars().take(200).collect(),
        wanted: "an HTTP proxy http://IP:PORT",
        reason: "it is not an address and a port".into(),
    })
}

/// Sends calls until time or number is over, or `stop` ends, and gives each call that ended to `told`.
pub async fn generate(
    config: &LoadConfig,
    stop: impl Future<Output = ()>,
    told: impl FnMut(Call) + Send + 'static,
) {
    let rate = config.rate.clamp(1, MAX_RATE);
    let client = Client::new(config);
    let calls = config.calls.unwrap_or(MAX_CALLS).min(MAX_CALLS);
    let end = Instant::now() + config.time.unwrap_or(MAX_TIME).min(MAX_TIME);
    let told = Arc::new(Mutex::new(told));
    let permits = Arc::new(Semaphore::new(MAX_UNDER_WAY));
    let mut tick = tokio::time::interval(Duration::from_secs(1) / rate);
    tick.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let start = Instant::now();
    tokio::pin!(stop);
    for _ in 0..calls {
        tokio::select! {
            biased;
            () = &mut stop => break,
            () = tokio::time::sleep_until(end) => break,
            _ = tick.tick() => {}
        }
        let sent = Instant::now();
        let tell = {
            let told = told.clone();
            move |outcome: Result<String, String>| {
                let call = Call {
                    sent_ms: millis(sent - start),
                    took_ms: millis(sent.elapsed()),
                    error: outcome.as_ref().err().cloned(),
                    answer: outcome.ok(),
                };
                let mut told = told.lock().unwrap_or_else(PoisonError::into_inner);
                told(call);
            }
        };
        let Ok(permit) = permits.clone().try_acquire_owned() else {
            tell(Err(format!("not sent: {MAX_UNDER_WAY} calls under way")));
            continue;
        };
        let client = client.clone();
        tokio::spawn(async move {
            tell(client.get().await);
            drop(permit);
        });
    }
    // Every call that is under way ends within its own patience.
    let _all = permits.acquire_many(MAX_UNDER_WAY as u32).await;
}

fn millis(span: Duration) -> f64 {
    (span.as_secs_f64() * 1e5).round() / 100.0
}

/// The program behind the hidden verb: it sends until its input ends, and writes one line for each call.
pub async fn run(config: LoadConfig) -> std::io::Result<()> {
    let input_ends = async {
        let mut input = tokio::io::stdin();
        let mut bytes = [0; 64];
        while input.read(&mut bytes).await.is_ok_and(|n| n > 0) {}
    };
    generate(&config, input_ends, |call| {
        if let Ok(line) = serde_json::to_string(&call) {
            // Nobody reads any more: then the input ends too.
            let _ = writeln!(std::io::stdout(), "{line}");
        }
    })
    .await;
    std::io::stdout().flush()
}

/// Load that runs in a pod.
#[derive(Debug)]
pub struct Load {
    child: Child,
    reader: JoinHandle<()>,
    calls: Arc<Mutex<Vec<Call>>>,
    news: mpsc::Receiver<()>,
}

impl Load {
    /// Starts calling `url` from a pod. At most `time` long, else until [`Load::stop`].
    pub fn start(
        fleet: &Fleet,
        from: &Place,
        url: &Uri,
        rate: u32,
        time: Option<Duration>,
    ) -> Result<Load, OperateError> {
        let mut argv = vec![
            fleet.program.display().to_string(),
            "load".into(),
            url.to_string(),
            "--rate".into(),
            rate.to_string(),
        ];
        if let Some(time) = time {
            argv.extend(["--for".into(), format!("{}ms", time.as_millis())]);
        }
        let mut child = Command::from(exec_command(fleet, from, &argv)?)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .map_err(OperateError::file(&fleet.program))?;
        let calls: Arc<Mutex<Vec<Call>>> = Arc::default();
        let (tell, news) = mpsc::channel(1);
        let output = child.stdout.take();
        let kept = calls.clone();
        let reader = tokio::spawn(async move {
            let Some(output) = output else { return };
            let mut lines = BufReader::new(output).lines();
            while let Ok(Some(line)) = lines.next_line().await {
                if let Ok(call) = serde_json::from_str(&line) {
                    kept.lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .push(call);
                    // Full: somebody is told already.
                    let _ = tell.try_send(());
                }
            }
        });
        Ok(Load {
            child,
            reader,
            calls,
            news,
        })
    }

    /// How many calls have ended.
    pub fn ended(&self) -> usize {
        self.lock().len()
    }

    /// The calls that ended, from the `from`th on, in the order in which they ended.
    pub fn calls_since(&self, from: usize) -> Vec<Call> {
        self.lock()
            .get(from..)
            .map_or_else(Vec::new, <[Call]>::to_vec)
    }

    /// Waits until `enough` holds of the calls that ended since the `from`th, for at most `patience`.
    pub async fn wait_for(
        &mut self,
        from: usize,
        patience: Duration,
        enough: impl Fn(&[Call]) -> bool,
    ) -> bool {
        let end = Instant::now() + patience;
        loop {
            if enough(&self.calls_since(from)) {
                return true;
            }
            match tokio::time::timeout_at(end, self.news.recv()).await {
                Ok(Some(())) => {}
                _ => return enough(&self.calls_since(from)),
            }
        }
    }

    /// Stops sending, waits for the calls that are under way, and adds all up.
    pub async fn stop(mut self) -> (Tally, Vec<Call>) {
        drop(self.child.stdin.take());
        // The generator ends when its last call does; a generator that hangs is killed with the value.
        let patience = Duration::from_secs(15);
        if tokio::time::timeout(patience, &mut self.reader)
            .await
            .is_err()
        {
            self.reader.abort();
        }
        let _ = tokio::time::timeout(patience, self.child.wait()).await;
        let mut calls = self.calls_since(0);
        calls.sort_by(|a, b| a.sent_ms.total_cmp(&b.sent_ms));
        (tally(&calls), calls)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Call>> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
