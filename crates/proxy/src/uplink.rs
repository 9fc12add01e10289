//! Connections to control planes: TLS, with the roots we trust and for exactly one identity.

use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use catamaran_identity::{Credentials, PeerError, PeerRule};
use catamaran_model::SpiffeId;
use http::Uri;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::transport::{Channel, Endpoint};

use crate::config::ControlPlaneAddress;

/// For TCP and TLS together.
pub(crate) const CONNECT_WAIT: Duration = Duration::from_secs(5);
/// A silent connection is asked for a sign of life this often. Without it a channel never recovers from a cut network.
const KEEP_ALIVE: Duration = Duration::from_secs(2);
/// What takes longer to answer is gone.
const KEEP_ALIVE_WAIT: Duration = Duration::from_secs(2);

/// Why a control plane was not reached. Another one, or trying again, may help unless the text says otherwise.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UplinkError {
    #[error("control plane {address} did not answer within {} s", CONNECT_WAIT.as_secs())]
    Silent { address: ControlPlaneAddress },
    #[error("control plane {address}: no connection: {source}")]
    Connect {
        address: ControlPlaneAddress,
        source: std::io::Error,
    },
    #[error("control plane {address} is not who it should be: {reason}")]
    Identity {
        address: ControlPlaneAddress,
        reason: PeerError,
    },
    #[error("control plane {address}: TLS failed: {source}")]
    Tls {
        address: ControlPlaneAddress,
        source: std::io::Error,
    },
    #[error("our TLS cannot be set up: {0}")]
    Setup(#[from] rustls::Error),
    #[error("control plane {address}: HTTP/2 failed: {source}")]
    Http {
        address: ControlPlaneAddress,
        source: tonic::transport::Error,
    },
}

/// How control planes are reached.
#[derive(Debug, Clone)]
pub(crate) struct Uplink {
    credentials: Arc<Credentials>,
    control_plane: SpiffeId,
}

impl Uplink {
    pub(crate) fn new(credentials: Arc<Credentials>, control_plane: SpiffeId) -> Uplink {
        Uplink {
            credentials,
            control_plane,
        }
    }

    /// One connection. When it ends, so does the channel: whoever uses it makes a new one.
    pub(crate) async fn connect(
        &self,
        address: &ControlPlaneAddress,
    ) -> Result<Channel, UplinkError> {
        tokio::time::timeout(CONNECT_WAIT, self.open(address))
            .await
            .map_err(|_| UplinkError::Silent {
                address: address.clone(),
            })?
    }

    async fn open(&self, address: &ControlPlaneAddress) -> Result<Channel, UplinkError> {
        let rule = PeerRule::exactly(self.control_plane.clone());
        let config = self.credentials.client_config(&rule, &[b"h2"])?;
        let connecting = async {
            match address {
                ControlPlaneAddress::Ip(address) => TcpStream::connect(address).await,
                ControlPlaneAddress::Name(name, port) => TcpStream::connect((&**name, *port)).await,
            }
        };
        let stream = connecting.await.map_err(|source| UplinkError::Connect {
            address: address.clone(),
            source,
        })?;
        let _ = stream.set_nodelay(true);
        let stream = TlsConnector::from(config)
            .connect(server_name(address), stream)
            .await
            .map_err(|source| match PeerError::of_io(&source) {
                Some(reason) => UplinkError::Identity {
                    address: address.clone(),
                    reason: reason.clone(),
                },
                None => UplinkError::Tls {
                    address: address.clone(),
                    source,
                },
            })?;
        Endpoint::from_static("http://control-plane")
            .http2_keep_alive_interval(KEEP_ALIVE)
            .keep_alive_timeout(KEEP_ALIVE_WAIT)
            .keep_alive_while_idle(true)
            .connect_with_connector(Ready(Arc::new(Mutex::new(Some(stream)))))
            .await
            .map_err(|source| UplinkError::Http {
                address: address.clone(),
                source,
            })
    }
}

/// What the handshake asks for. Whom it reaches is decided by the SPIFFE identity, whatever the name.
fn server_name(address: &ControlPlaneAddress) -> ServerName<'static> {
    match address {
        ControlPlaneAddress::Ip(address) => ServerName::from(address.ip()),
        ControlPlaneAddress::Name(name, _) => ServerName::try_from(name.to_string())
            .unwrap_or_else(|_| ServerName::from(std::net::IpAddr::from([0, 0, 0, 0]))),
    }
}

/// Hands over a connection that stands already, once.
#[derive(Clone)]
struct Ready(Arc<Mutex<Option<TlsStream<TcpStream>>>>);

impl tower_service::Service<Uri> for Ready {
    type Response = TokioIo<TlsStream<TcpStream>>;
    type Error = std::io::Error;
    type Future = std::future::Ready<Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let stream = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        std::future::ready(
            stream
                .map(TokioIo::new)
                .ok_or_else(|| std::io::Error::other("the connection has ended")),
        )
    }
}
