//! Probing a gateway: a TCP connection, and a ClientHello with the name of a service behind it.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// How long a connection, and the first byte of an answer, may take each.
pub const PATIENCE: Duration = Duration::from_secs(2);

/// How far a probe came.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "reached", rename_all = "snake_case")]
pub enum Probe {
    /// The workload behind the gateway answered with a ServerHello.
    Tls {
        /// After so many milliseconds.
        ms: f64,
    },
    /// A connection was made, and no name was asked for.
    Tcp {
        /// After so many milliseconds.
        ms: f64,
    },
    /// A connection was made, and then no ServerHello came.
    NoHello {
        /// What came instead.
        reason: String,
    },
    /// No connection was made.
    NoConnection {
        /// Why not.
        reason: String,
    },
}

/// Probes `address`. With `sni` a ClientHello is sent; nothing is verified or sent beyond it, so nobody's identity is needed.
pub async fn probe(address: SocketAddr, sni: Option<&str>) -> Probe {
    let start = Instant::now();
    let connected = tokio::time::timeout(PATIENCE, TcpStream::connect(address)).await;
    let mut stream = match connected {
        Err(_) => {
            let reason = format!("no answer within {} s", PATIENCE.as_secs());
            return Probe::NoConnection { reason };
        }
        Ok(Err(error)) => {
            let reason = error.to_string();
            return Probe::NoConnection { reason };
        }
        Ok(Ok(stream)) => stream,
    };
    let ms = |start: Instant| (start.elapsed().as_secs_f64() * 1e4).round() / 10.0;
    let Some(sni) = sni else {
        return Probe::Tcp { ms: ms(start) };
    };
    let hello = match client_hello(sni) {
        Ok(hello) => hello,
        Err(error) => {
            let reason = error.to_string();
            return Probe::NoHello { reason };
        }
    };
    let exchange = async {
        stream.write_all(&hello).await?;
        let mut first = [0; 1];
        stream.read_exact(&mut first).await?;
        Ok::<u8, io::Error>(first[0])
    };
    match tokio::time::timeout(PATIENCE, exchange).await {
        Ok(Ok(HANDSHAKE)) => Probe::Tls { ms: ms(start) },
        Ok(Ok(other)) => Probe::NoHello {
            reason: match other {
                ALERT => "TLS alert instead of ServerHello".into(),
                _ => format!("byte {other:#04x} instead of ServerHello"),
            },
        },
        Ok(Err(error)) => Probe::NoHello {
            reason: match error.kind() {
                io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset => {
                    "TLS closed before ServerHello".into()
                }
                _ => error.to_string(),
            },
        },
        Err(_) => Probe::NoHello {
            reason: format!("no ServerHello within {} s", PATIENCE.as_secs()),
        },
    }
}

/// Content types of TLS records (RFC 8446, 5.1).
const HANDSHAKE: u8 = 22;
const ALERT: u8 = 21;

fn client_hello(sni: &str) -> Result<Vec<u8>, rustls::Error> {
    let provider = catamaran_identity::provider();
    let schemes = provider
        .signature_verification_algorithms
        .supported_schemes();
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Nobody(schemes)))
        .with_no_client_auth();
    config.alpn_protocols = vec![b"istio".to_vec()];
    let name = ServerName::try_from(sni.to_owned())
        .map_err(|_| rustls::Error::General(format!("{sni} cannot be asked for by SNI")))?;
    let mut connection = ClientConnection::new(Arc::new(config), name)?;
    let mut hello = Vec::new();
    while connection.wants_write() {
        if connection.write_tls(&mut hello).is_err() {
            break;
        }
    }
    Ok(hello)
}

/// The probe ends before a certificate comes; should one be looked at, it is refused.
#[derive(Debug)]
struct Nobody(Vec<SignatureScheme>);

impl ServerCertVerifier for Nobody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Err(rustls::Error::General("a probe trusts nobody".into()))
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("a probe trusts nobody".into()))
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("a probe trusts nobody".into()))
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    const SNI: &str = "outbound_.5000_._.helloworld.default.svc.cluster.local";

    /// A peer that reads a ClientHello and answers with `answer`.
    async fn peer(answer: &'static [u8]) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut hello = vec![0; 4096];
            let n = stream.read(&mut hello).await.unwrap();
            assert_eq!(hello[0], HANDSHAKE);
            let name = hello[..n]
                .windows(SNI.len())
                .any(|bytes| bytes == SNI.as_bytes());
            assert!(name, "the name is in the ClientHello");
            stream.write_all(answer).await.unwrap();
        });
        address
    }

    #[tokio::test]
    async fn a_server_hello_is_told_from_an_alert_and_from_silence() {
        let reached = probe(peer(&[22, 3, 3]).await, Some(SNI)).await;
        assert!(matches!(reached, Probe::Tls { .. }), "{reached:?}");
        let alert = probe(peer(&[21, 3, 3]).await, Some(SNI)).await;
        assert!(matches!(&alert, Probe::NoHello { reason } if reason.contains("alert")));
        let closed = probe(peer(&[]).await, Some(SNI)).await;
        assert!(matches!(&closed, Probe::NoHello { reason } if reason.contains("closed")));
    }

    #[tokio::test]
    async fn nobody_there_is_no_connection() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        assert!(matches!(
            probe(address, None).await,
            Probe::NoConnection { .. }
        ));
    }
}
