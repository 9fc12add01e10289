//! The socket at which the Envoy asks the agent: gRPC over HTTP/2, for the owner of the file only.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use catamaran_wire::grpc::{AGGREGATED_METHODS, SecretDiscoveryServer};
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::UnixListener;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tower_service::Service;

use super::relay::Relay;
use super::secrets::Desk;

/// Connections at once; an Envoy needs two. More wait.
const CONNECTIONS: usize = 16;
/// Streams of one connection: one for configuration, and one for each secret under each of its sources.
const STREAMS: u32 = 64;

/// Who answers there.
#[derive(Clone)]
pub(crate) struct Door {
    secrets: SecretDiscoveryServer<Desk>,
    relay: Relay,
}

impl Door {
    pub(crate) fn new(desk: Desk, relay: Relay) -> Door {
        Door {
            secrets: SecretDiscoveryServer::new(Arc::new(desk)),
            relay,
        }
    }

    /// Answers, for ever.
    pub(crate) async fn serve(self, listener: UnixListener) {
        let permits = Arc::new(Semaphore::new(CONNECTIONS));
        let mut connections = JoinSet::new();
        loop {
            let Ok(permit) = permits.clone().acquire_owned().await else {
                return;
            };
            let stream = match listener.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(%error, "a connection of the Envoy was not accepted");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            while connections.try_join_next().is_some() {}
            let door = self.clone();
            connections.spawn(async move {
                let service = service_fn(move |request| door.clone().answer(request));
                let served = http2::Builder::new(TokioExecutor::new())
                    .max_concurrent_streams(STREAMS)
                    .serve_connection(TokioIo::new(stream), service)
                    .await;
                if let Err(error) = served {
                    tracing::debug!(%error, "a connection of the Envoy ended");
                }
                drop(permit);
            });
        }
    }

    async fn answer(
        mut self,
        request: Request<Incoming>,
    ) -> Result<Response<tonic::body::Body>, Infallible> {
        match AGGREGATED_METHODS.contains(&request.uri().path()) {
            true => Ok(self.relay.pass(request).await),
            false => self.secrets.call(request).await,
        }
    }
}
