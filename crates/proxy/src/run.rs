//! Starts a proxy's parts in their order, and ends them in theirs.

use std::convert::Infallible;
use std::fs::{DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use catamaran_process::http::{Listener, serve};
use catamaran_process::{Gate, Process, Stopping};
use rustls::time_provider::DefaultTimeProvider;
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::admin::app_probe::Prober;
use crate::admin::{self, Admin, Carried};
use crate::bootstrap::BootstrapError;
use crate::carry::{self, Carrier, Remote, SocketState};
use crate::certificate::{CertificateError, Keeper, now};
use crate::control::{Control, ControlStatus};
use crate::names::{NameServer, Scope};
use crate::report::{Party, Report};
use crate::uplink::Uplink;
use crate::{Capture, Config, Role};

mod give_back;
mod standalone;

pub use standalone::{StaticConfig, check_static, run_static};

/// How long connections under way may take to end when the proxy does. Less than the process has for all of its tasks.
pub const DRAIN: Duration = Duration::from_secs(8);
/// How often it is looked whether the proxy can take traffic.
const LOOK: Duration = Duration::from_millis(100);

/// Why a proxy cannot start. A person has to change something first.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// No control plane was named.
    #[error("no control plane was named; give --control-plane IP:PORT")]
    NoControlPlane,
    /// The folder for its state, or the file for its log, cannot be used.
    #[error("{}: {source}", path.display())]
    File {
        /// The path.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// An address cannot be listened on.
    #[error("{what} cannot listen on {address}: {source}; is another proxy running here?")]
    Listen {
        /// What would listen.
        what: &'static str,
        /// Where.
        address: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
    /// The trusted roots cannot be used.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// The static file cannot be used.
    #[error(transparent)]
    Bootstrap(#[from] BootstrapError),
    /// A thread could not be started.
    #[error("the access log cannot be written: {0}")]
    Log(io::Error),
}

/// Starts a proxy. It returns when everything was begun; the proxy is ready when its [`Process`] is, and it ends, after
/// draining, when the process stops.
///
/// # Errors
/// What a person must change before it can start. A control plane that is not there is no such thing.
pub async fn run(config: Config, process: &Process) -> Result<(), RunError> {
    if config.control_planes.is_empty() {
        return Err(RunError::NoControlPlane);
    }
    let readiness = Readiness {
        certificate: process.gate("certificate"),
        configuration: process.gate("configuration"),
        listeners: process.gate("listeners"),
    };
    make_folder(&config.state)?;
    let report =
        Report::start(Some(open_log(config.access_log.as_deref())?)).map_err(RunError::Log)?;

    let keeper = Keeper::start(&config, Arc::new(DefaultTimeProvider))?;
    let credentials = keeper.credentials();
    let certificate = keeper.status();
    let uplink = Uplink::new(credentials.clone(), config.control_plane_identity());
    let (control, followers, saver) = Control::start(&config, uplink);
    let carried = watch::Sender::new(None);

    let pages = Admin {
        process: process.clone(),
        node: config.node().id,
        credentials: credentials.clone(),
        certificate: certificate.clone(),
        control: followers.status.clone(),
        tables: followers.tables.clone(),
        carried: carried.subscribe(),
    };
    let admin = listen("the admin interface", config.admin_address()).await?;
    let health = listen("the health port", config.health_address()).await?;
    let socket = Listener::unix(&config.admin_socket).map_err(|source| RunError::File {
        path: config.admin_socket.clone(),
        source,
    })?;
    let names = match config.role {
        Role::Gateway => None,
        Role::Sidecar => Some(name_server(&config, &followers.names).await?),
    };

    process.metrics().add_source({
        let report = report.clone();
        move |text| text.push_str(&report.prometheus())
    });
    process.metrics().add_source({
        let (credentials, control) = (credentials.clone(), followers.status.clone());
        move |text| {
            admin::metrics(&credentials, &control.borrow(), &certificate.borrow(), text);
        }
    });

    for (name, listener) in [("admin", Listener::Tcp(admin)), ("admin socket", socket)] {
        let pages = pages.clone();
        let served = serve(listener, process.stopping(), move |request| {
            pages.clone().answer(request)
        });
        process.run(name, served);
    }
    // Whether the workload lives has nothing to do with whether the proxy drains.
    let probes = Prober::new(&config);
    let served = serve(Listener::Tcp(health), process.drained(), move |request| {
        pages.clone().health(request, probes.clone())
    });
    process.run_to_the_end("health", served);

    let until_certificate = {
        let credentials = credentials.clone();
        let mut status = keeper.status();
        async move {
            let _ = status.wait_for(|_| credentials.holding().is_some()).await;
        }
    };
    for_ever(process, "certificate", keeper.keep());
    for_ever(process, "saved configuration", saver.save());
    for_ever(process, "control plane", async move {
        until_certificate.await;
        control.hear().await;
    });
    if let Some(names) = names {
        for_ever(process, "names", names.serve());
    }

    let traffic = Traffic {
        settings: settings(&config),
        wants_certificate: true,
        tables: followers.tables,
        status: followers.status,
        credentials,
        report,
        carried,
        readiness,
    };
    process.run("traffic", traffic.carry(process.stopping()));
    Ok(())
}

/// A task that has nothing to end but itself: it is dropped when the process stops.
pub(crate) fn for_ever(
    process: &Process,
    name: &'static str,
    task: impl Future<Output = ()> + Send + 'static,
) {
    let stopping = process.stopping();
    process.run(name, async move {
        tokio::select! {
            () = task => {}
            () = stopping.wait() => {}
        }
        Ok::<(), Infallible>(())
    });
}

pub(crate) fn make_folder(path: &std::path::Path) -> Result<(), RunError> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(file_error(path))
}

pub(crate) fn file_error(path: &std::path::Path) -> impl FnOnce(io::Error) -> RunError {
    let path = path.to_owned();
    move |source| RunError::File { path, source }
}

fn open_log(path: Option<&Path>) -> Result<Box<dyn Write + Send>, RunError> {
    let Some(path) = path else {
        return Ok(Box::new(io::stdout()));
    };
    let file = OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(path);
    match file {
        Ok(file) => Ok(Box::new(file)),
        Err(source) => Err(RunError::File {
            path: path.into(),
            source,
        }),
    }
}

pub(crate) async fn listen(
    what: &'static str,
    address: SocketAddr,
) -> Result<TcpListener, RunError> {
    TcpListener::bind(address)
        .await
        .map_err(|source| RunError::Listen {
            what,
            address,
            source,
        })
}

pub(crate) async fn name_server(
    config: &Config,
    names: &watch::Receiver<Arc<crate::names::Names>>,
) -> Result<NameServer, RunError> {
    let address = config.dns_address();
    let scope = Scope {
        namespace: config.namespace.clone(),
        domain: config.cluster_domain.clone(),
    };
    NameServer::bind(address, names.clone(), scope, config.resolvers.clone())
        .await
        .map_err(|source| RunError::Listen {
            what: "the name server",
            address,
            source,
        })
}

fn settings(config: &Config) -> carry::Settings {
    let workload = workload(config.pod.as_str());
    let own = Party {
        workload: workload.into(),
        namespace: config.namespace.as_str().into(),
        principal: config.identity().to_string().into(),
        cluster: config.cluster.as_str().into(),
        ..Party::unknown()
    };
    carry::Settings {
        role: match config.role {
            Role::Sidecar => carry::Role::Sidecar,
            Role::Gateway => carry::Role::Gateway,
        },
        capture: match config.capture {
            Capture::Redirect => carry::Capture::Redirect,
            Capture::Explicit => carry::Capture::Explicit,
        },
        listeners: false,
        address: config.address,
        own,
        workers: config.workers.get(),
        drain: DRAIN,
        remote: Remote::default(),
    }
}

/// The name of the Deployment in a pod's name, `helloworld-v1` in `helloworld-v1-7b888c5d9f-x2x4z`; else the pod's name.
fn workload(pod: &str) -> &str {
    let generated = |part: &str, lengths: std::ops::RangeInclusive<usize>| {
        lengths.contains(&part.len())
            && part
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
    };
    let mut parts = pod.rsplitn(3, '-');
    match (parts.next(), parts.next(), parts.next()) {
        (Some(last), Some(hash), Some(name))
            if generated(last, 5..=5)
                && generated(hash, 6..=10)
                && hash.bytes().any(|b| b.is_ascii_digit()) =>
        {
            name
        }
        _ => pod,
    }
}

/// What the process waits for before it is ready.
struct Readiness {
    certificate: Gate,
    configuration: Gate,
    listeners: Gate,
}

/// The data path, from the first table to the last connection.
struct Traffic {
    settings: carry::Settings,
    wants_certificate: bool,
    tables: watch::Receiver<Arc<catamaran_decide::Table>>,
    status: watch::Receiver<ControlStatus>,
    credentials: Arc<catamaran_identity::Credentials>,
    report: Arc<Report>,
    carried: watch::Sender<Option<Carried>>,
    readiness: Readiness,
}

impl Traffic {
    /// Nothing is accepted before there is a certificate and a configuration: a caller is better refused than misled.
    async fn carry(self, stopping: Stopping) -> Result<(), io::Error> {
        let stop = stopping.wait();
        tokio::pin!(stop);
        let mut looks = tokio::time::interval(LOOK);
        let giving = tokio::spawn(give_back::give_back());
        let mut carrier: Option<Carrier> = None;
        loop {
            tokio::select! {
                () = &mut stop => break,
                _ = looks.tick() => {}
            }
            let (certified, configured) = self.look();
            match &carrier {
                None if certified && configured => carrier = Some(self.start().await?),
                None => {}
                Some(carrier) => self.look_at_sockets(carrier),
            }
        }
        giving.abort();
        if let Some(carrier) = carrier {
            carrier.drain().await;
        }
        Ok(())
    }

    fn look(&self) -> (bool, bool) {
        let held = self.credentials.holding();
        let certified =
            !self.wants_certificate || held.is_some_and(|held| !held.left(now()).is_zero());
        let configured = self.status.borrow().ready;
        set(&self.readiness.certificate, certified);
        set(&self.readiness.configuration, configured);
        (certified, configured)
    }

    async fn start(&self) -> Result<Carrier, io::Error> {
        let settings = self.settings.clone();
        let tables = self.tables.clone();
        let (credentials, report) = (self.credentials.clone(), self.report.clone());
        let carrier = tokio::task::spawn_blocking(move || {
            Carrier::start(settings, tables, credentials, &report)
        })
        .await
        .map_err(io::Error::other)??;
        self.carried.send_replace(Some(Carried {
            sockets: carrier.sockets(),
            sights: carrier.sights(),
        }));
        self.look_at_sockets(&carrier);
        Ok(carrier)
    }

    fn look_at_sockets(&self, carrier: &Carrier) {
        let states = carrier.sockets().states();
        let wanting = states
            .values()
            .any(|state| matches!(state, SocketState::Failed(_)));
        let bound = states.values().any(|state| *state == SocketState::Bound);
        set(&self.readiness.listeners, bound && !wanting);
    }
}

pub(crate) fn set(gate: &Gate, open: bool) {
    match open {
        true => gate.open(),
        false => gate.close(),
    }
}

#[cfg(test)]
mod tests;
