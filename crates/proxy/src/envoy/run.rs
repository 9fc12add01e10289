//! Starts the agent's parts in their order, and ends the Envoy before itself.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use catamaran_process::http::{Listener, serve};
use catamaran_process::{Gate, Process, Stopping};
use http::{Method, StatusCode};
use rustls::time_provider::DefaultTimeProvider;
use serde_json::Value as Json;
use tokio::sync::watch;
use tokio::time::Instant;

use super::bootstrap::bootstrap;
use super::door::Door;
use super::names_feed::NamesFeed;
use super::pages::Pages;
use super::question::ask;
use super::relay::Relay;
use super::secrets::{self, Desk, Secrets};
use crate::admin::app_probe::Prober;
use crate::certificate::Keeper;
use crate::names::Names;
use crate::run::{file_error, for_ever, listen, make_folder, name_server, set};
use crate::uplink::Uplink;
use crate::{Config, DRAIN, Role, RunError, admin};

/// How often the Envoy is asked whether it is ready: until it is, and from then on.
const LOOK: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(1));
/// How often it is asked what it still carries, while it drains.
const DRAIN_LOOK: Duration = Duration::from_millis(100);
/// Where an Envoy counts what it carries.
const UNDER_WAY: &str = "/stats?format=json&filter=downstream_";
/// Whether there is anything that takes connections.
const LISTENERS: &str = "/stats?format=json&filter=total_listeners_active";

/// Which of Envoy's two ways of being told it takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Variant {
    /// What changed.
    #[default]
    Delta,
    /// All of a kind each time.
    StateOfTheWorld,
}

/// The Envoy that the agent stands beside.
#[derive(Debug, Clone)]
pub struct Beside {
    /// Where the agent serves it.
    pub socket: PathBuf,
    /// Where what it is to be started with is written, once it can be started; nowhere when `None`.
    pub bootstrap: Option<PathBuf>,
    /// How it is told its configuration.
    pub variant: Variant,
}

/// Starts the agent. It returns when everything was begun; the agent is ready when the Envoy takes traffic, and when the
/// process stops, it drains the Envoy and tells it to end.
///
/// # Errors
/// What a person must change before it can start. Neither a control plane nor an Envoy that is not there is such a thing.
pub async fn run_beside(config: Config, beside: Beside, process: &Process) -> Result<(), RunError> {
    if config.control_planes.is_empty() {
        return Err(RunError::NoControlPlane);
    }
    let certified = process.gate("certificate");
    make_folder(&config.state)?;
    let keeper = Keeper::start(&config, Arc::new(DefaultTimeProvider))?;
    let credentials = keeper.credentials();
    let certificate = keeper.status();
    let uplink = Uplink::new(credentials.clone(), config.control_plane_identity());
    let relay = Relay::new(uplink.clone(), &config.control_planes);
    let secrets = watch::Sender::new(Secrets::of(&credentials, &config.trust_domain));
    let unready = watch::Sender::new(Some("the Envoy was not asked yet".to_owned()));

    let pages = Pages {
        process: process.clone(),
        envoy: config.admin_address(),
        credentials: credentials.clone(),
        certificate: certificate.clone(),
        renew: keeper.asked(),
        relay: relay.status(),
        unready: unready.subscribe(),
    };
    let health = listen("the health port", config.health_address()).await?;
    let unix = |path: &PathBuf| Listener::unix(path).map_err(file_error(path));
    let admin = unix(&config.admin_socket)?;
    let door = Door::new(
        Desk {
            secrets: secrets.subscribe(),
        },
        relay.clone(),
    );
    let Listener::Unix(socket) = unix(&beside.socket)? else {
        unreachable!("a Unix socket was asked for");
    };

    if config.role == Role::Sidecar {
        let feed = NamesFeed::start(&config, uplink);
        let heard = process.gate("names");
        let (names, follow) = follow_names(feed.names(), heard);
        let names = name_server(&config, &names).await?;
        for_ever(process, "names", names.serve());
        for_ever(process, "names followed", follow);
        let held = until_certified(&keeper);
        for_ever(process, "names heard", async move {
            held.await;
            feed.hear().await;
        });
    }

    process.metrics().add_source({
        let (credentials, certificate) = (credentials.clone(), certificate.clone());
        let relay = relay.status();
        move |text| {
            let connected = relay.borrow().connected.is_some();
            admin::own_metrics(&credentials, connected, &certificate.borrow(), text);
        }
    });
    let served = serve(admin, process.stopping(), {
        let pages = pages.clone();
        move |request| pages.clone().answer(request)
    });
    process.run("admin socket", served);
    // Whether the workload lives has nothing to do with whether the proxy drains.
    let probes = Prober::new(&config);
    let served = serve(Listener::Tcp(health), process.drained(), move |request| {
        pages.clone().health(request, probes.clone())
    });
    process.run_to_the_end("health", served);

    for_ever(process, "door of the Envoy", door.serve(socket));
    for_ever(
        process,
        "secrets",
        secrets::follow(
            credentials.clone(),
            config.trust_domain.clone(),
            certificate,
            secrets,
        ),
    );
    let held = until_certified(&keeper);
    let text = bootstrap(&config, &beside).to_string();
    for_ever(process, "bootstrap", async move {
        held.await;
        certified.open();
        if let Some(path) = &beside.bootstrap {
            write(path, &text).await;
        }
        std::future::pending().await
    });
    for_ever(process, "certificate", keeper.keep());
    let envoy = Watched {
        admin: config.admin_address(),
        ready: process.gate("envoy"),
        unready,
    };
    process.run("envoy", envoy.watch(process.stopping()));
    Ok(())
}

/// A disk that is full now is no reason to end: an Envoy that runs would be ended too.
async fn write(path: &Path, text: &str) {
    while let Err(error) = crate::saved::replace(path, text.as_bytes()) {
        tracing::warn!(path = %path.display(), %error, "what to start the Envoy with is not written; trying again");
        tokio::time::sleep(LOOK.1).await;
    }
}

/// Until a certificate is held, of this start or of an earlier one.
fn until_certified(keeper: &Keeper) -> impl Future<Output = ()> + Send + 'static {
    let credentials = keeper.credentials();
    let mut status = keeper.status();
    async move {
        let held = status.wait_for(|_| credentials.holding().is_some()).await;
        drop(held);
    }
}

/// The name server takes a table at all times; that there was one is what the gate says.
fn follow_names(
    mut heard: watch::Receiver<Option<Arc<Names>>>,
    gate: Gate,
) -> (
    watch::Receiver<Arc<Names>>,
    impl Future<Output = ()> + Send + 'static,
) {
    let (sender, names) = watch::channel(Arc::<Names>::default());
    let follow = async move {
        loop {
            let latest = heard.borrow_and_update().clone();
            if let Some(latest) = latest {
                sender.send_replace(latest);
                gate.open();
            }
            if heard.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    };
    (names, follow)
}

/// The Envoy, as its admin interface shows it.
struct Watched {
    admin: SocketAddr,
    ready: Gate,
    unready: watch::Sender<Option<String>>,
}

impl Watched {
    async fn watch(self, stopping: Stopping) -> Result<(), std::convert::Infallible> {
        let stop = stopping.wait();
        tokio::pin!(stop);
        loop {
            let found = tokio::select! {
                () = &mut stop => break,
                found = self.look() => found,
            };
            let ready = found.is_ok();
            set(&self.ready, ready);
            self.unready.send_replace(found.err());
            let pause = if ready { LOOK.1 } else { LOOK.0 };
            tokio::select! {
                () = &mut stop => break,
                () = tokio::time::sleep(pause) => {}
            }
        }
        self.end().await;
        Ok(())
    }

    async fn look(&self) -> Result<(), String> {
        let (status, body) = ask(self.admin, Method::GET, "/ready").await?;
        if status != StatusCode::OK {
            let said = String::from_utf8_lossy(&body);
            return Err(format!("the Envoy is not ready: {}", said.trim()));
        }
        match self.sum(LISTENERS, |_| true).await? {
            0 => Err("the Envoy has no listener: it refused them all, or was told of none".into()),
            _ => Ok(()),
        }
    }

    /// The sum of those numbers of a page of statistics that are meant.
    async fn sum(&self, page: &str, meant: fn(&str) -> bool) -> Result<u64, String> {
        let (_, body) = ask(self.admin, Method::GET, page).await?;
        total(&body, meant).ok_or_else(|| format!("the Envoy's {page} cannot be read"))
    }

    /// Lets what is under way end, but nothing new begin; then ends the Envoy.
    async fn end(&self) {
        let until = Instant::now() + DRAIN;
        let drain = "/drain_listeners?graceful&skip_exit";
        if let Err(error) = ask(self.admin, Method::POST, drain).await {
            tracing::info!(error, "there is no Envoy to drain");
            return;
        }
        loop {
            match self.sum(UNDER_WAY, is_carried).await {
                Ok(0) => break,
                Ok(left) if Instant::now() >= until => {
                    tracing::warn!(
                        left,
                        "the Envoy is ended with requests or connections under way"
                    );
                    break;
                }
                Ok(_) => tokio::time::sleep(DRAIN_LOOK).await,
                Err(error) => {
                    tracing::warn!(error, "the Envoy ended by itself");
                    return;
                }
            }
        }
        // An Envoy that ends may not answer any more.
        let _ = ask(self.admin, Method::POST, "/quitquitquit").await;
    }
}

/// Requests, and connections that are carried as bytes; but not those of the admin interface.
fn is_carried(stat: &str) -> bool {
    let requests = stat.starts_with("http.") && stat.ends_with(".downstream_rq_active");
    let bytes = stat.starts_with("tcp.") && stat.ends_with(".downstream_cx_active");
    (requests && !stat.starts_with("http.admin.")) || bytes
}

/// Source: the JSON of Envoy's `/stats`, `{"stats": [{"name": .., "value": ..}, ..]}`; histograms have no value.
fn total(body: &Bytes, meant: fn(&str) -> bool) -> Option<u64> {
    let page: Json = serde_json::from_slice(body).ok()?;
    let stats = page["stats"].as_array()?.iter();
    let meant = stats.filter(|stat| stat["name"].as_str().is_some_and(meant));
    Some(meant.filter_map(|stat| stat["value"].as_u64()).sum())
}
