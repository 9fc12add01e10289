//! Hears the mesh's names from the control plane, for the workload's name server: an Envoy does not ask for them.
//!
//! The last table is saved, so that names resolve after a restart without a control plane.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use catamaran_wire::core::Node;
use catamaran_wire::discovery::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};
use catamaran_wire::grpc::AggregatedDiscoveryClient;
use catamaran_wire::names::NameTable;
use catamaran_wire::well_known::Status as Said;
use catamaran_wire::{Message, TypeUrl};
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;

use crate::Config;
use crate::backoff::Backoff;
use crate::config::ControlPlaneAddress;
use crate::names::Names;
use crate::saved;
use crate::uplink::Uplink;

const RETRY_LEAST: Duration = Duration::from_millis(50);
const RETRY_MOST: Duration = Duration::from_secs(15);
/// How long a control plane may take to open a stream.
const STREAM_WAIT: Duration = Duration::from_secs(10);
/// The name of the file in the folder of saved state.
const FILE: &str = "names";
/// What the agent calls itself. Nobody knows it for our own proxy, so it hears what the Envoy beside it hears.
const USER_AGENT: &str = "catamaran-agent";

/// The listener to control planes.
pub(crate) struct NamesFeed {
    node: Node,
    control_planes: Vec<ControlPlaneAddress>,
    uplink: Uplink,
    file: PathBuf,
    names: watch::Sender<Option<Arc<Names>>>,
}

impl NamesFeed {
    /// Takes up what was saved.
    pub(crate) fn start(config: &Config, uplink: Uplink) -> NamesFeed {
        let node = Node {
            user_agent_name: USER_AGENT.into(),
            ..config.node()
        };
        let feed = NamesFeed {
            control_planes: config.control_planes.clone(),
            uplink,
            file: config.saved(FILE),
            names: watch::Sender::default(),
            node,
        };
        match saved::read(&feed.file, &feed.node.id) {
            Ok(None) => {}
            Ok(Some(bytes)) => drop(feed.take(&bytes)),
            Err(error) => tracing::warn!(%error, "the saved names are not used"),
        }
        feed
    }

    /// The names; `None` until the first table.
    pub(crate) fn names(&self) -> watch::Receiver<Option<Arc<Names>>> {
        self.names.subscribe()
    }

    fn take(&self, bytes: &[u8]) -> Result<(), String> {
        let table = NameTable::decode(bytes).map_err(|error| error.to_string())?;
        let names = Names::new(&table)?;
        self.names.send_replace(Some(Arc::new(names)));
        Ok(())
    }

    /// Hears control planes, for ever.
    pub(crate) async fn hear(self) {
        let mut backoff = Backoff::new(RETRY_LEAST, RETRY_MOST);
        let mut next = 0;
        loop {
            let address = &self.control_planes[next % self.control_planes.len()];
            let mut heard = false;
            let ended = self.stream(address, &mut heard).await;
            if heard {
                backoff.reset();
            }
            next += 1;
            let wait = backoff.wait();
            tracing::warn!(reason = ended, again_in = ?wait, "no names are heard; the last ones are answered on");
            tokio::time::sleep(wait).await;
        }
    }

    /// One stream, to its end, and why it ended.
    async fn stream(&self, address: &ControlPlaneAddress, heard: &mut bool) -> String {
        let channel = match self.uplink.connect(address).await {
            Ok(channel) => channel,
            Err(error) => return error.to_string(),
        };
        let (requests, outgoing) = mpsc::channel(4);
        let first = DeltaDiscoveryRequest {
            node: Some(self.node.clone()),
            type_url: NameTable::TYPE_URL.into(),
            ..DeltaDiscoveryRequest::default()
        };
        // The channel is new and has room.
        let _ = requests.send(first).await;
        let mut client = AggregatedDiscoveryClient::new(channel);
        let opened = client.delta_aggregated_resources(ReceiverStream::new(outgoing));
        let mut responses = match tokio::time::timeout(STREAM_WAIT, opened).await {
            Ok(Ok(opened)) => opened.into_inner(),
            Ok(Err(status)) => return format!("control plane {address}: {}", status.message()),
            Err(_) => return format!("control plane {address} does not answer"),
        };
        loop {
            let response = match responses.message().await {
                Ok(Some(response)) => response,
                Ok(None) => return format!("control plane {address} is going away"),
                Err(status) => return format!("control plane {address}: {}", status.message()),
            };
            *heard = true;
            let answer = self.judge(&response);
            if requests.send(answer).await.is_err() {
                return format!("control plane {address} takes no requests");
            }
        }
    }

    fn judge(&self, response: &DeltaDiscoveryResponse) -> DeltaDiscoveryRequest {
        let mut refusal = None;
        for resource in &response.resources {
            let bytes = resource.resource.as_ref().map(|any| &any.value[..]);
            match self.take(bytes.unwrap_or_default()) {
                Ok(()) => self.save(bytes.unwrap_or_default()),
                Err(reason) => refusal = Some(reason),
            }
        }
        DeltaDiscoveryRequest {
            type_url: response.type_url.clone(),
            response_nonce: response.nonce.clone(),
            error_detail: refusal.map(|message| {
                tracing::warn!(message, "a table of names is refused; the last one stays");
                Said {
                    code: tonic::Code::InvalidArgument.into(),
                    message,
                    ..Said::default()
                }
            }),
            ..DeltaDiscoveryRequest::default()
        }
    }

    fn save(&self, bytes: &[u8]) {
        if let Err(error) = saved::write(&self.file, &self.node.id, bytes) {
            tracing::warn!(%error, "the names are not saved");
        }
    }
}
