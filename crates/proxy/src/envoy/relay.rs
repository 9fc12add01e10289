//! Lends the Envoy the workload's connection to the control plane: its stream of configuration is passed on unread.
//!
//! Each stream gets a connection of its own, proved by the certificate held then, to the next control plane in turn. Bytes go
//! both ways under HTTP/2's own flow control, so nothing is kept here. When the connection fails, the stream ends with a
//! status that says so; coming back, and how soon, is the Envoy's business.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, Response, header};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tonic::Status;
use tonic::transport::Channel;
use tower_service::Service;

use crate::config::ControlPlaneAddress;
use crate::uplink::Uplink;

/// Streams at once. An Envoy has one; while it changes over, two.
const STREAMS: usize = 8;
/// How long a control plane may take to open a stream.
const OPEN_WAIT: Duration = Duration::from_secs(10);
/// What of a request's head is passed on.
const HEADERS: [header::HeaderName; 4] = [
    header::CONTENT_TYPE,
    header::TE,
    header::USER_AGENT,
    header::HeaderName::from_static("grpc-accept-encoding"),
];

/// How it stands with the Envoy's stream, for status.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct RelayStatus {
    /// To which control plane the latest stream goes; `None` when it has ended, or there was none.
    pub(crate) connected: Option<ControlPlaneAddress>,
    /// Why the last one ended or was not opened.
    pub(crate) failure: Option<String>,
    /// How many were opened.
    pub(crate) streams: u64,
}

/// The way to control planes.
#[derive(Clone)]
pub(crate) struct Relay {
    uplink: Uplink,
    control_planes: Arc<[ControlPlaneAddress]>,
    next: Arc<AtomicUsize>,
    streams: Arc<Semaphore>,
    status: watch::Sender<RelayStatus>,
}

impl Relay {
    pub(crate) fn new(uplink: Uplink, control_planes: &[ControlPlaneAddress]) -> Relay {
        Relay {
            uplink,
            control_planes: control_planes.into(),
            next: Arc::default(),
            streams: Arc::new(Semaphore::new(STREAMS)),
            status: watch::Sender::default(),
        }
    }

    pub(crate) fn status(&self) -> watch::Receiver<RelayStatus> {
        self.status.subscribe()
    }

    /// Passes one stream on.
    pub(crate) async fn pass(&self, request: Request<Incoming>) -> Response<tonic::body::Body> {
        match self.open(request).await {
            Ok(response) => response,
            Err(status) => {
                tracing::warn!(
                    reason = status.message(),
                    "the Envoy's stream is not opened"
                );
                self.failed(status.message());
                status.into_http()
            }
        }
    }

    fn failed(&self, reason: &str) {
        self.status
            .send_modify(|status| status.failure = Some(reason.to_owned()));
    }

    async fn open(
        &self,
        request: Request<Incoming>,
    ) -> Result<Response<tonic::body::Body>, Status> {
        let Ok(permit) = self.streams.clone().try_acquire_owned() else {
            return Err(Status::resource_exhausted(format!(
                "{STREAMS} streams are open already"
            )));
        };
        let (mut channel, address) = self.connect().await?;
        let (head, body) = request.into_parts();
        let mut passed = Request::new(tonic::body::Body::new(body));
        *passed.method_mut() = head.method;
        // The channel puts its own host before the path.
        *passed.uri_mut() = head.uri.path().parse().unwrap_or_default();
        for name in HEADERS {
            if let Some(value) = head.headers.get(&name) {
                passed.headers_mut().insert(name, value.clone());
            }
        }
        let opened = tokio::time::timeout(OPEN_WAIT, async {
            std::future::poll_fn(|context| channel.poll_ready(context)).await?;
            channel.call(passed).await
        })
        .await;
        let unavailable =
            |reason: String| Status::unavailable(format!("control plane {address}: {reason}"));
        let response = opened
            .map_err(|_| unavailable(format!("no answer within {} s", OPEN_WAIT.as_secs())))?
            .map_err(|error| unavailable(error.to_string()))?;
        self.status.send_modify(|status| {
            status.connected = Some(address.clone());
            status.failure = None;
            status.streams += 1;
        });
        tracing::info!(%address, "the Envoy is connected to a control plane");
        Ok(response.map(|body| {
            tonic::body::Body::new(Passed {
                body: Some(body),
                address,
                status: self.status.clone(),
                _permit: permit,
            })
        }))
    }

    /// The next control plane that can be reached; each is tried once.
    async fn connect(&self) -> Result<(Channel, ControlPlaneAddress), Status> {
        let mut failure = "no control plane is named".to_owned();
        for _ in 0..self.control_planes.len() {
            let turn = self.next.fetch_add(1, Ordering::Relaxed);
            let address = self.control_planes[turn % self.control_planes.len()].clone();
            match self.uplink.connect(&address).await {
                Ok(channel) => return Ok((channel, address)),
                Err(error) => failure = error.to_string(),
            }
        }
        Err(Status::unavailable(failure))
    }
}

/// What the control plane says, until its end. A connection that breaks becomes a status, in place of a reset without words.
struct Passed {
    body: Option<tonic::body::Body>,
    address: ControlPlaneAddress,
    status: watch::Sender<RelayStatus>,
    _permit: OwnedSemaphorePermit,
}

impl Body for Passed {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let Some(body) = &mut self.body else {
            return Poll::Ready(None);
        };
        let frame = std::task::ready!(Pin::new(body).poll_frame(context));
        Poll::Ready(match frame {
            Some(Err(lost)) => {
                self.body = None;
                let status = Status::unavailable(format!(
                    "control plane {}: the connection was lost: {}",
                    self.address,
                    lost.message()
                ));
                Some(Ok(Frame::trailers(trailers(&status))))
            }
            frame => frame,
        })
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}

impl Drop for Passed {
    fn drop(&mut self) {
        let address = &self.address;
        self.status.send_modify(|status| {
            if status.connected.as_ref() == Some(address) {
                status.connected = None;
                status.failure = Some(format!("the stream to control plane {address} has ended"));
            }
        });
    }
}

fn trailers(status: &Status) -> HeaderMap {
    let mut map = status.clone().into_http::<()>().into_parts().0.headers;
    map.remove(header::CONTENT_TYPE);
    map
}
