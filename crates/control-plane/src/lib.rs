//! The control plane: watches, keeps, translates, serves and signs. It owns loops and sockets, and no rules.
//!
//! ```text
//! watches -> keeper -> tell -> ads -> proxies
//!             |  \        \
//!           saved  status   serving, ca
//! ```
//! A change enters by a watch's channel into the keeper, which owns the registry. Each snapshot goes to the teller, which owns
//! the translation and puts what changed into the mailboxes of the streams concerned; a stream is a task that owns its session.
//! What goes back to people and to peers leaves by `status`. Read [`Config`] first, then [`run`].
//!
//! It never writes into a cluster that it does not manage, never waits for a peer to be ready, and believes no proxy what its certificate
//! does not prove.

mod admin;
mod ads;
mod ca;
mod config;
#[cfg(test)]
mod fixture;
mod keeper;
mod lead;
mod managed;
mod notices;
mod own_cluster;
mod places;
mod proxy;
mod replicas;
mod saved;
mod serving;
mod status;
mod tell;
mod troubles;
mod watches;
mod webhook;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use catamaran_kubernetes::beats::Replica;
use catamaran_kubernetes::connect::Access;
use catamaran_kubernetes::lease;
use catamaran_kubernetes::review::Reviewer;
use catamaran_local::fleet::{ClusterDir, FleetDir, Isolation};
use catamaran_model::{ClusterId, MeshName, Timestamp};
use catamaran_process::http::Listener;
use catamaran_process::{End, Process, now_millis};
use catamaran_registry::{Freshness, Registry};
use catamaran_wire::grpc::{AggregatedDiscoveryServer, IstioCertificateServer};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tonic::service::Routes;

use managed::Reviewers;

/// A door for hostile bytes, for the workshop's room `hostile`; no interface.
#[doc(hidden)]
pub mod fuzzing {
    /// How many facts a saved shard's body holds.
    ///
    /// # Errors
    /// Why it is not believed.
    pub fn saved_facts(body: &[u8]) -> Result<usize, String> {
        crate::saved::facts(body).map(|shard| shard.facts.len())
    }
}

pub use catamaran_kubernetes::webhook::configuration::Door;
pub use config::{Config, Home, Server, StartError};
pub use status::{
    ClusterStatus, GatewayStatus, KindStatus, ProblemStatus, ProxyCounts, ProxyStatus, State,
    Status, TrustStatus,
};
pub use webhook::Injection;

/// How long peers are told of a new intermediate before it signs: a kubelet brings a changed Secret to the pods of one node
/// within some 90 s of the other's.
const HOLD: Duration = Duration::from_secs(90);
/// The largest request for a certificate, in bytes.
const MAX_CERTIFICATE_REQUEST: usize = 64 << 10;

/// Runs a control plane until it is asked to stop.
pub async fn run(config: Config, process: Process) -> Result<End, StartError> {
    start(config, &process).await?;
    Ok(process.until_stopped().await)
}

/// Starts a control plane as tasks of `process`; gives the address that it listens on.
///
/// It is ready when it has a view of its own cluster and an authority to sign with, whatever becomes of its peers.
pub async fn start(config: Config, process: &Process) -> Result<SocketAddr, StartError> {
    let found = match &config.home {
        Home::Fleet(fleet) => Found::in_fleet(fleet, &config.cluster)?,
        Home::Server(server) => Found::behind(server),
    };
    std::fs::create_dir_all(&config.state).map_err(|source| StartError::State {
        path: config.state.clone(),
        source,
    })?;
    let bind = |what: String| move |source| StartError::Bind { what, source };
    let listener = TcpListener::bind(config.listen)
        .await
        .map_err(bind(config.listen.to_string()))?;
    let address = listener
        .local_addr()
        .map_err(bind(config.listen.to_string()))?;
    let door = Listener::unix(&config.socket).map_err(bind(config.socket.display().to_string()))?;
    if let Some(at) = config.health {
        let health = TcpListener::bind(at).await.map_err(bind(at.to_string()))?;
        let (asked, drained) = (process.clone(), process.drained());
        // It says that the process is stopping for as long as that lasts.
        process.run_to_the_end(
            "health",
            catamaran_process::http::serve(Listener::Tcp(health), drained, move |request| {
                std::future::ready(admin::health(&asked, &request))
            }),
        );
    }

    let looking = match config.admin {
        None => None,
        Some(at) => Some(TcpListener::bind(at).await.map_err(bind(at.to_string()))?),
    };
    let injection = match &config.home {
        Home::Fleet(_) => None,
        Home::Server(server) => server.injection.clone(),
    };
    let injecting = match injection {
        None => None,
        Some(injection) => {
            let what = format!("--webhook {}", injection.listen);
            let hook = TcpListener::bind(injection.listen)
                .await
                .map_err(bind(what));
            Some((hook?, injection))
        }
    };

    let (changes, changes_in) = mpsc::channel(keeper::CHANGES);
    let kept = keeper::start(
        keeper::Settings {
            registry: Registry::new(config.cluster.clone()).for_mesh(config.mesh.clone()),
            local: config.cluster.clone(),
            watches: watches::Watches::new(found.watched, config.cluster.clone(), changes, now),
            changes: changes_in,
            state: config.state.clone(),
        },
        process,
        now,
    );
    let place = serving::Place {
        cacerts: found.cacerts,
        state: config.state.clone(),
        hold: match &config.home {
            // There is one control plane, and peers see what it writes at once.
            Home::Fleet(_) => Duration::ZERO,
            Home::Server(_) => HOLD,
        },
    };
    let authority = Arc::new(serving::Authority::new(&place));
    serving::keep(
        authority.clone(),
        place,
        kept.snapshots.clone(),
        process,
        now,
    );
    let tell = tell::start(config.cluster.clone(), kept.snapshots.clone(), process);

    let metrics = process.metrics();
    let discovery = ads::Discovery {
        cluster: config.cluster.clone(),
        mesh: config.mesh.clone(),
        authority: authority.clone(),
        tell: tell.clone(),
        stopping: process.stopping(),
        now,
        metrics: ads::Metrics::new(metrics),
    };
    let signer = ca::Signer {
        authority: authority.clone(),
        cluster: config.cluster.clone(),
        tokens: found.tokens,
        now,
        signed: metrics.counter(
            "catamaran_certificates_signed",
            "Certificates signed for workloads",
        ),
        refused: metrics.counter(
            "catamaran_certificates_refused",
            "Requests for certificates that were refused",
        ),
    };
    let routes = Routes::new(AggregatedDiscoveryServer::new(Arc::new(discovery))).add_service(
        IstioCertificateServer::new(Arc::new(signer)).with_message_limit(MAX_CERTIFICATE_REQUEST),
    );
    process.run(
        "serving",
        serving::serve(
            listener,
            authority.clone(),
            routes.prepare(),
            process.stopping(),
        ),
    );

    let writing = match &found.own {
        Own::Folder(_) => None,
        Own::Server {
            access, replica, ..
        } => {
            let writing = Writing::start(access, replica.clone(), &config.mesh, process);
            Some(writing)
        }
    };
    let into = match (&found.own, &writing) {
        (Own::Server { access, .. }, Some(writing)) => {
            let (lead, replicas) = (writing.lead.clone(), writing.replicas.clone());
            status::Into::server(access.clone(), lead, replicas)
        }
        (Own::Folder(dir), _) => status::Into::Folder(dir.clone()),
        (Own::Server { .. }, None) => unreachable!("who has an API server stands for its lease"),
    };
    let exporting = Arc::default();
    status::keep_exported(
        status::Exporter {
            into,
            cluster: config.cluster.clone(),
            uid: found.uid.map_or_else(
                || status::Uid::Heard(kept.health.clone(), config.cluster.clone()),
                status::Uid::Said,
            ),
            version: config.version.clone(),
            authority: authority.clone(),
            problem: Arc::clone(&exporting),
        },
        kept.snapshots.clone(),
        process,
        now,
    );
    open_when_known(&kept, &config, process);
    let mut hooks = None;
    if let (Some((hook, injection)), Own::Server { access, .. }, Some(writing)) =
        (injecting, &found.own, &writing)
    {
        let whose = (config.mesh.clone(), config.cluster.clone());
        let snapshots = kept.snapshots.clone();
        hooks = Some(webhook::start(
            hook,
            injection,
            (access.clone(), writing.lead.clone()),
            whose,
            snapshots,
            process,
            now,
        )?);
    }
    let complaints = managed::Complaints::default();
    if let (Own::Server { reviewers, .. }, Some(writing)) = (&found.own, &writing) {
        let managing = managed::Managing {
            mesh: config.mesh.clone(),
            version: config.version.clone(),
            authority: authority.clone(),
            snapshots: kept.snapshots.clone(),
            afar: kept.afar.clone(),
            reviewers: reviewers.clone(),
            lead: writing.lead.clone(),
            replicas: writing.replicas.clone(),
            hooks,
            complaints: complaints.clone(),
            now,
        };
        managed::keep(managing, process);
    }
    let reporter = status::Reporter {
        mesh: config.mesh,
        cluster: config.cluster,
        version: config.version,
        kept,
        tell,
        authority,
        process: process.clone(),
        exporting,
        managed: complaints,
        lead: writing.as_ref().map(|writing| writing.lead.clone()),
        now,
    };
    if let (
        Own::Server {
            access, reviewers, ..
        },
        Some(writing),
    ) = (found.own, writing)
    {
        let (lead, all) = (writing.lead, writing.replicas);
        let (own, hears) = (writing.replica, reporter.clone());
        replicas::keep(all.clone(), access.clone(), own, hears, process);
        own_cluster::keep(
            access,
            reviewers.own(),
            reporter.clone(),
            lead,
            all,
            process,
        );
    }
    if let Some(looking) = looking {
        let asked = reporter.clone();
        process.run(
            "admin",
            catamaran_process::http::serve(
                Listener::Tcp(looking),
                process.stopping(),
                move |request| admin::look(asked.clone(), request),
            ),
        );
    }
    let answer = move |request| admin::handle(reporter.clone(), request);
    process.run(
        "door",
        catamaran_process::http::serve(door, process.stopping(), answer),
    );
    Ok(address)
}

/// What the rooms of this program are given of the managed cluster.
struct Found {
    watched: watches::Home,
    cacerts: PathBuf,
    tokens: ca::Tokens,
    own: Own,
    /// Of a local cluster; an API server says its own later.
    uid: Option<String>,
}

/// Where our word goes, and what is there beside that.
enum Own {
    Folder(ClusterDir),
    Server {
        access: Access,
        /// Who checks tokens there and in other managed clusters.
        reviewers: Arc<Reviewers>,
        /// Which of the replicas we are.
        replica: Option<Replica>,
    },
}

/// The replicas, and who of them writes.
struct Writing {
    lead: lead::Lead,
    replicas: replicas::Replicas,
    replica: Replica,
}

impl Writing {
    fn start(
        access: &Access,
        replica: Option<Replica>,
        mesh: &MeshName,
        process: &Process,
    ) -> Writing {
        let replica = replica.unwrap_or_else(|| Replica {
            name: lease::identity(&format!("catamaran-{mesh}")).replace('_', "-"),
            uid: None,
        });
        let replicas = replicas::Replicas::new(replica.name.clone(), lead::Clock::start());
        let lead = lead::keep(
            access.clone(),
            mesh.clone(),
            lease::identity(&replica.name),
            replicas.clone(),
            process,
            now,
        );
        Writing {
            lead,
            replicas,
            replica,
        }
    }
}

impl Found {
    fn in_fleet(path: &Path, cluster: &ClusterId) -> Result<Found, StartError> {
        let (fleet, about) = FleetDir::open(path)?;
        let (dir, cluster) = fleet.existing(cluster)?;
        let loopback = about.isolation == Isolation::Process;
        Ok(Found {
            watched: watches::Home::Fleet { fleet, loopback },
            cacerts: dir.cacerts(),
            tokens: ca::Tokens::Join(dir.join()),
            uid: Some(cluster.uid),
            own: Own::Folder(dir),
        })
    }

    fn behind(server: &Server) -> Found {
        let audiences = [catamaran_kubernetes::inject::TOKEN_AUDIENCE.to_owned()];
        let reviewer = Arc::new(Reviewer::new(server.access.clone(), audiences));
        let reviewers = Arc::new(Reviewers::new(reviewer));
        Found {
            watched: watches::Home::Server(watches::Managed {
                access: server.access.clone(),
                istio: server.istio.clone(),
                allowed: server.allowed,
            }),
            cacerts: server.cacerts.clone(),
            tokens: ca::Tokens::Accounts(reviewers.clone()),
            own: Own::Server {
                access: server.access.clone(),
                reviewers,
                replica: server.replica.clone(),
            },
            uid: None,
        }
    }
}

/// The gate `view`: a complete view of the managed cluster, be it from the disk, and the instance's settings in it.
fn open_when_known(kept: &keeper::Kept, config: &Config, process: &Process) {
    let gate = process.gate("view");
    let (mut snapshots, cluster) = (kept.snapshots.clone(), config.cluster.clone());
    let stopping = process.stopping();
    process.run("view", async move {
        let known = snapshots.wait_for(|snapshot| {
            let view = snapshot.clusters.get(&cluster);
            snapshot.mesh.is_some() && view.is_some_and(|view| view.freshness != Freshness::Unknown)
        });
        let stop = stopping.wait();
        tokio::pin!(stop);
        tokio::select! {
            () = &mut stop => return Ok::<(), Infallible>(()),
            _ = known => gate.open(),
        }
        stop.await;
        Ok(())
    });
}

fn now() -> Timestamp {
    Timestamp(now_millis())
}
