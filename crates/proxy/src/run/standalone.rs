//! A proxy without a mesh: what it is told stands in one file, Envoy's bootstrap.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use catamaran_identity::{Credentials, TrustBundle};
use catamaran_process::Process;
use catamaran_process::http::{Listener, serve};
use catamaran_xds::ResourceSet;
use rustls::time_provider::DefaultTimeProvider;
use tokio::sync::watch;

use super::{DRAIN, Readiness, RunError, Traffic, listen, open_log};
use crate::Capture;
use crate::admin::Admin;
use crate::bootstrap::{Bootstrap, BootstrapError};
use crate::carry::{self, Remote, Role};
use crate::certificate::{CertificateStatus, now};
use crate::control::ControlStatus;
use crate::report::{Party, Report};

/// What a proxy without a mesh must know at its start.
#[derive(Debug, Clone)]
pub struct StaticConfig {
    /// The bootstrap, JSON.
    pub file: PathBuf,
    /// Threads that carry connections.
    pub workers: NonZeroUsize,
    /// Where the access log goes; `None` for standard output.
    pub access_log: Option<PathBuf>,
}

/// Looks whether a bootstrap could be run, as `envoy --mode validate` does.
///
/// # Errors
/// What a person must change before it can.
pub fn check_static(file: &Path) -> Result<(), BootstrapError> {
    Bootstrap::read(file, now()).map(drop)
}

/// Starts a proxy on the resources of a bootstrap. It binds every listener that the file has, and is ready when its [`Process`] is.
///
/// # Errors
/// What a person must change before it can start: anything in the file that is not implemented, too.
pub async fn run_static(config: StaticConfig, process: &Process) -> Result<(), RunError> {
    let bootstrap = Bootstrap::read(&config.file, now())?;
    let readiness = Readiness {
        certificate: process.gate("certificate"),
        configuration: process.gate("configuration"),
        listeners: process.gate("listeners"),
    };
    let log = open_log(config.access_log.as_deref())?;
    let report = Report::start(Some(log)).map_err(RunError::Log)?;
    let clock = Arc::new(DefaultTimeProvider);
    let wants_certificate = bootstrap.holding.is_some();
    let identity = bootstrap
        .holding
        .as_ref()
        .map(|held| held.identity().clone());
    let credentials = Arc::new(match bootstrap.holding {
        Some(holding) => Credentials::new(holding, clock),
        None => Credentials::anonymous(TrustBundle::default(), clock),
    });
    let mut held = ResourceSet::default();
    for resource in bootstrap.resources {
        held.insert(Arc::new(resource));
    }
    let (_, status) = watch::channel(ControlStatus {
        held,
        ready: true,
        published: 1,
        ..ControlStatus::default()
    });
    let (keep, tables) = watch::channel(Arc::new(bootstrap.table));
    let carried = watch::Sender::new(None);
    process.metrics().add_source({
        let report = report.clone();
        move |text| text.push_str(&report.prometheus())
    });
    if let Some(address) = bootstrap.admin {
        let pages = Admin {
            process: process.clone(),
            node: bootstrap.node,
            credentials: credentials.clone(),
            certificate: watch::channel(CertificateStatus::default()).1,
            control: status.clone(),
            tables: tables.clone(),
            carried: carried.subscribe(),
        };
        let admin = listen("the admin interface", address).await?;
        let served = serve(Listener::Tcp(admin), process.stopping(), move |request| {
            pages.clone().answer(request)
        });
        process.run("admin", served);
    }
    let mut own = Party::unknown();
    if let Some(identity) = identity {
        own.namespace = identity.namespace.as_str().into();
        own.workload = identity.service_account.as_str().into();
        own.principal = identity.to_string().into();
    }
    let traffic = Traffic {
        settings: carry::Settings {
            role: Role::Gateway,
            capture: Capture::Explicit,
            listeners: true,
            address: SocketAddr::from(([0, 0, 0, 0], 0)).ip(),
            own,
            workers: config.workers.get(),
            drain: DRAIN,
            remote: Remote::default(),
        },
        wants_certificate,
        tables,
        status,
        credentials,
        report,
        carried,
        readiness,
    };
    let carried = traffic.carry(process.stopping());
    process.run("traffic", async move {
        let outcome = carried.await;
        drop(keep);
        outcome
    });
    Ok(())
}
