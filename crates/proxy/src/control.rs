//! Hears from the control plane, and makes tables of it.
//!
//! One stream of deltas at a time, over one control plane after another. What comes is tried on a copy of the table; what
//! cannot be used is refused by name and leaves what was in force; the new table is published once. A lost stream takes
//! nothing away: the last table serves until the next one, and what is held is saved for a restart.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use catamaran_decide::{Changes, Kind, Table};
use catamaran_wire::Message;
use catamaran_wire::core::Node;
use catamaran_wire::discovery::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};
use catamaran_wire::grpc::AggregatedDiscoveryClient;
use catamaran_wire::names::NameTable;
use catamaran_xds::{
    ClientInput, ClientOutputs, ClientSession, Refusal, ResourceKey, ResourceSet, TypeUrlKind,
    Unusable,
};
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use crate::Config;
use crate::backoff::Backoff;
use crate::config::ControlPlaneAddress;
use crate::names::Names;
use crate::saved;
use crate::uplink::{Uplink, UplinkError};

const RETRY_LEAST: Duration = Duration::from_millis(10);
const RETRY_MOST: Duration = Duration::from_secs(15);
/// How long a control plane may take to open a stream, and to take a request.
const STREAM_WAIT: Duration = Duration::from_secs(10);
/// Requests that may wait for the stream; one response never makes more than a few.
const REQUESTS: usize = 64;
/// How long a table that points at what has not come yet waits for it.
const COMPLETE_WAIT: Duration = Duration::from_secs(2);
/// What is held is not saved more often than this.
const SAVE_EVERY: Duration = Duration::from_secs(1);
/// The longest name of a resource, in bytes.
const NAME_LIMIT: usize = 300;
/// The name of the file in the folder of saved state.
const FILE: &str = "resources";

/// How it stands with the control plane, for status.
#[derive(Debug, Clone, Default)]
pub(crate) struct ControlStatus {
    /// Which control plane is heard, by address; `None` when none is.
    pub(crate) connected: Option<ControlPlaneAddress>,
    /// How it calls itself.
    pub(crate) control_plane: String,
    /// Why the last stream ended, or none was opened.
    pub(crate) failure: Option<String>,
    /// What was accepted.
    pub(crate) held: ResourceSet,
    /// What was refused and not replaced since.
    pub(crate) refused: Vec<Refusal>,
    /// What was asked for and never answered.
    pub(crate) waits_for: Vec<String>,
    /// Whether all that was asked for has been answered once, by a control plane or by what was saved.
    pub(crate) ready: bool,
    /// How many tables were published.
    pub(crate) published: u64,
}

/// The listener to control planes.
pub(crate) struct Control {
    session: ClientSession,
    uplink: Uplink,
    control_planes: Vec<ControlPlaneAddress>,
    /// What the table was made of.
    built: ResourceSet,
    table: Arc<Table>,
    names: Arc<Names>,
    /// Since when a table is held back because it is not complete.
    incomplete_since: Option<Instant>,
    unpublished: bool,
    tables: watch::Sender<Arc<Table>>,
    name_tables: watch::Sender<Arc<Names>>,
    status: watch::Sender<ControlStatus>,
    to_save: watch::Sender<ResourceSet>,
}

/// What hears of each new table.
#[derive(Debug, Clone)]
pub(crate) struct Followers {
    pub(crate) tables: watch::Receiver<Arc<Table>>,
    pub(crate) names: watch::Receiver<Arc<Names>>,
    pub(crate) status: watch::Receiver<ControlStatus>,
}

/// Why a stream ended. All of them are answered by trying again, at the next address.
#[derive(Debug, thiserror::Error)]
enum StreamError {
    #[error(transparent)]
    Uplink(#[from] UplinkError),
    #[error("control plane {address} ended the stream: {reason}")]
    Ended {
        address: ControlPlaneAddress,
        reason: String,
    },
    #[error("control plane {address} does not take requests")]
    Stuck { address: ControlPlaneAddress },
}

impl Control {
    /// Takes up what was saved, if it can be used, and publishes the table of it.
    pub(crate) fn start(config: &Config, uplink: Uplink) -> (Control, Followers, Saver) {
        let node = config.node();
        let saver = Saver {
            file: config.saved(FILE),
            owner: node.id.clone(),
            wanted: watch::Sender::default(),
        };
        let held = saver.restore();
        let mut control = Control::new(node, uplink, config.control_planes.clone(), &saver);
        if let Some(held) = held {
            control.resume(config.node(), held);
        }
        let followers = Followers {
            tables: control.tables.subscribe(),
            names: control.name_tables.subscribe(),
            status: control.status.subscribe(),
        };
        (control, followers, saver)
    }

    fn new(
        node: Node,
        uplink: Uplink,
        control_planes: Vec<ControlPlaneAddress>,
        saver: &Saver,
    ) -> Control {
        Control {
            session: ClientSession::new(node),
            uplink,
            control_planes,
            built: ResourceSet::default(),
            table: Arc::default(),
            names: Arc::default(),
            incomplete_since: None,
            unpublished: false,
            tables: watch::Sender::default(),
            name_tables: watch::Sender::default(),
            status: watch::Sender::default(),
            to_save: saver.wanted.clone(),
        }
    }

    /// Goes on with what was accepted before a restart, less what this version of the proxy cannot use.
    fn resume(&mut self, node: Node, mut held: ResourceSet) {
        for unusable in self.build(&held) {
            tracing::warn!(kind = %unusable.key.kind, name = %unusable.key.name, reason = unusable.reason, "saved, but no longer usable");
            held.remove(unusable.key.kind, &unusable.key.name);
        }
        self.built = held.clone();
        tracing::info!(resources = held.len(), "going on with what was saved");
        self.session = ClientSession::resume(node, held);
        self.unpublished = true;
        self.publish();
    }

    /// Hears control planes, for ever.
    pub(crate) async fn hear(mut self) {
        let mut backoff = Backoff::new(RETRY_LEAST, RETRY_MOST);
        let mut next = 0;
        loop {
            let address = self.control_planes[next % self.control_planes.len()].clone();
            let mut heard = false;
            let Err(error) = self.stream(&address, &mut heard).await;
            self.session.step(ClientInput::Disconnected);
            self.publish();
            if heard {
                backoff.reset();
            }
            next += 1;
            let wait = backoff.wait();
            tracing::warn!(%error, again_in = ?wait, "not connected to a control plane; the last configuration serves on");
            self.status.send_modify(|status| {
                status.connected = None;
                status.failure = Some(error.to_string());
            });
            tokio::time::sleep(wait).await;
        }
    }

    /// One stream, to its end. `heard` becomes true with the first response.
    async fn stream(
        &mut self,
        address: &ControlPlaneAddress,
        heard: &mut bool,
    ) -> Result<std::convert::Infallible, StreamError> {
        let ended = |reason: String| StreamError::Ended {
            address: address.clone(),
            reason,
        };
        let channel = self.uplink.connect(address).await?;
        let mut client = AggregatedDiscoveryClient::new(channel);
        let (requests, outgoing) = mpsc::channel(REQUESTS);
        let opening = self.session.step(ClientInput::Connected);
        send(&requests, opening.requests, address).await?;
        let opened = client.delta_aggregated_resources(ReceiverStream::new(outgoing));
        let mut responses = tokio::time::timeout(STREAM_WAIT, opened)
            .await
            .map_err(|_| ended(format!("no answer within {} s", STREAM_WAIT.as_secs())))?
            .map_err(|status| ended(format!("{}: {}", status.code(), status.message())))?
            .into_inner();
        tracing::info!(%address, "connected to a control plane");
        self.status.send_modify(|status| {
            status.connected = Some(address.clone());
            status.failure = None;
        });
        loop {
            let response = self.next(&mut responses).await.map_err(ended)?;
            *heard = true;
            let mut out = self.session.step(ClientInput::Response(response));
            if out.judge {
                out = self.judge();
            }
            send(&requests, out.requests, address).await?;
        }
    }

    /// The next response; meanwhile a table that waited long enough is published.
    async fn next(
        &mut self,
        responses: &mut Streaming<DeltaDiscoveryResponse>,
    ) -> Result<DeltaDiscoveryResponse, String> {
        loop {
            let message = responses.message();
            let answer = match self.incomplete_since {
                None => message.await,
                Some(since) => {
                    let left = COMPLETE_WAIT.saturating_sub(since.elapsed());
                    match tokio::time::timeout(left, message).await {
                        Ok(answer) => answer,
                        Err(_) => {
                            self.publish();
                            continue;
                        }
                    }
                }
            };
            return match answer {
                Ok(Some(response)) => Ok(response),
                Ok(None) => Err("it is going away".into()),
                Err(status) => Err(format!("{}: {}", status.code(), status.message())),
            };
        }
    }

    /// Tries what came, tells the session what cannot be used, and publishes what can.
    fn judge(&mut self) -> ClientOutputs {
        let candidate = self.session.candidate();
        let unusable = self.build(&candidate.set);
        // What is refused keeps what was in force.
        let mut built = candidate.set;
        for key in unusable.iter().map(|unusable| &unusable.key) {
            match self.built.get(key.kind, &key.name).cloned() {
                Some(before) => built.insert(before),
                None => drop(built.remove(key.kind, &key.name)),
            }
        }
        self.built = built;
        let ticket = candidate.ticket;
        let out = self.session.step(ClientInput::Judged { ticket, unusable });
        for refusal in &out.refused {
            tracing::warn!(kind = %refusal.kind, name = %refusal.name, reason = refusal.reason, "refused; what was in force stays");
        }
        // Endpoints and routes that nothing refers to any more are let go of.
        let held = self.session.held().clone();
        self.build(&held);
        self.built = held;
        self.unpublished |= out.changed;
        self.publish();
        out
    }

    /// Brings table and names from what they were built of to `wanted`; gives what cannot be used.
    fn build(&mut self, wanted: &ResourceSet) -> Vec<Unusable> {
        let mut unusable = Vec::new();
        let mut changes = Changes::default();
        for kind in TypeUrlKind::ALL {
            for name in self.built.differences(wanted, kind) {
                let key = ResourceKey::new(kind, name);
                let resource = wanted.get(kind, &key.name);
                let tried = match (table_kind(kind), resource) {
                    (None, resource) => self.rename(resource.map(|resource| &resource.bytes[..])),
                    (Some(kind), None) => {
                        changes.remove(kind, &*key.name);
                        Ok(())
                    }
                    (Some(_), Some(resource)) => add(&mut changes, &key.name, resource),
                };
                if let Err(reason) = tried {
                    unusable.push(Unusable { key, reason });
                }
            }
        }
        if !changes.is_empty() {
            let (table, refusals) = self.table.update(changes);
            self.table = Arc::new(table);
            unusable.extend(refusals.into_iter().map(|refusal| {
                let reason = match refusal.field.as_str() {
                    "" => refusal.reason,
                    field => format!("{field}: {}", refusal.reason),
                };
                let key = ResourceKey::new(resource_kind(refusal.kind), refusal.name);
                Unusable { key, reason }
            }));
        }
        unusable
    }

    fn rename(&mut self, bytes: Option<&[u8]>) -> Result<(), String> {
        let table = match bytes {
            None => NameTable::default(),
            Some(bytes) => NameTable::decode(bytes).map_err(|error| error.to_string())?,
        };
        self.names = Arc::new(Names::new(&table)?);
        Ok(())
    }

    /// Publishes the table, unless it points at something that is about to come.
    fn publish(&mut self) {
        let ready = self.session.is_ready();
        if self.unpublished {
            let connected = self.status.borrow().connected.is_some();
            let since = *self.incomplete_since.get_or_insert_with(Instant::now);
            if ready || !connected || since.elapsed() >= COMPLETE_WAIT {
                self.incomplete_since = None;
                self.unpublished = false;
                self.tables.send_replace(self.table.clone());
                if !Arc::ptr_eq(&self.name_tables.borrow(), &self.names) {
                    self.name_tables.send_replace(self.names.clone());
                }
                self.status.send_modify(|status| status.published += 1);
                if ready {
                    self.to_save.send_replace(self.session.held().clone());
                }
            }
        }
        self.status.send_modify(|status| {
            status.control_plane = self.session.control_plane().to_owned();
            status.held = self.session.held().clone();
            status.refused = self.session.refused().cloned().collect();
            status.waits_for = self.session.waits_for();
            status.ready = ready && !self.unpublished;
        });
    }
}

async fn send(
    requests: &mpsc::Sender<DeltaDiscoveryRequest>,
    outgoing: Vec<DeltaDiscoveryRequest>,
    address: &ControlPlaneAddress,
) -> Result<(), StreamError> {
    for request in outgoing {
        let sent = tokio::time::timeout(STREAM_WAIT, requests.send(request)).await;
        if !matches!(sent, Ok(Ok(()))) {
            return Err(StreamError::Stuck {
                address: address.clone(),
            });
        }
    }
    Ok(())
}

/// The kind of a table's part; names are no part of it.
fn table_kind(kind: TypeUrlKind) -> Option<Kind> {
    match kind {
        TypeUrlKind::Issuers => Some(Kind::Issuers),
        TypeUrlKind::Cluster => Some(Kind::Cluster),
        TypeUrlKind::Endpoints => Some(Kind::Assignment),
        TypeUrlKind::Listener => Some(Kind::Listener),
        TypeUrlKind::Route => Some(Kind::Route),
        TypeUrlKind::Names => None,
    }
}

fn resource_kind(kind: Kind) -> TypeUrlKind {
    match kind {
        Kind::Issuers => TypeUrlKind::Issuers,
        Kind::Cluster => TypeUrlKind::Cluster,
        Kind::Assignment => TypeUrlKind::Endpoints,
        Kind::Listener => TypeUrlKind::Listener,
        Kind::Route => TypeUrlKind::Route,
    }
}

/// Adds a resource to the changes, if it is named as it calls itself: tables know it by its own name.
fn add(
    changes: &mut Changes,
    name: &str,
    resource: &catamaran_xds::Resource,
) -> Result<(), String> {
    if name.len() > NAME_LIMIT {
        return Err(format!("its name is longer than {NAME_LIMIT} bytes"));
    }
    let mut alone = Changes::default();
    let kind = alone
        .add(name, &resource.any())
        .map_err(|refusal| refusal.reason)?;
    let own = match kind {
        Kind::Listener => &alone.listeners[0].name,
        Kind::Route => &alone.routes[0].name,
        Kind::Cluster => &alone.clusters[0].name,
        Kind::Assignment => &alone.assignments[0].cluster_name,
        Kind::Issuers => &alone.issuers[0].cluster,
    };
    if own != name {
        return Err(format!("it calls itself {own:?}"));
    }
    changes.listeners.append(&mut alone.listeners);
    changes.routes.append(&mut alone.routes);
    changes.clusters.append(&mut alone.clusters);
    changes.assignments.append(&mut alone.assignments);
    changes.issuers.append(&mut alone.issuers);
    Ok(())
}

/// Saves what was accepted, behind the back of whoever hears it.
#[derive(Debug)]
pub(crate) struct Saver {
    file: PathBuf,
    owner: String,
    wanted: watch::Sender<ResourceSet>,
}

impl Saver {
    fn restore(&self) -> Option<ResourceSet> {
        let content = match saved::read(&self.file, &self.owner) {
            Ok(content) => content?,
            Err(error) => {
                tracing::warn!(%error, "what was saved of the configuration is not used");
                return None;
            }
        };
        match saved::decode(content) {
            Ok(held) => Some(held),
            Err(error) => {
                tracing::warn!(%error, file = %self.file.display(), "what was saved of the configuration is not used");
                None
            }
        }
    }

    /// Saves the latest, for ever.
    pub(crate) async fn save(self) {
        let mut wanted = self.wanted.subscribe();
        drop(self.wanted);
        wanted.mark_changed();
        while wanted.changed().await.is_ok() {
            let held = wanted.borrow_and_update().clone();
            if held.is_empty() {
                continue;
            }
            let (file, owner) = (self.file.clone(), self.owner.clone());
            let written = tokio::task::spawn_blocking(move || {
                saved::write(&file, &owner, &saved::encode(&held))
            });
            match written.await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::warn!(%error, "the configuration is not saved"),
                Err(error) => tracing::warn!(%error, "the configuration is not saved"),
            }
            tokio::time::sleep(SAVE_EVERY).await;
        }
    }
}

#[cfg(test)]
mod tests;
