//! What a gateway lets through, and what never.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use catamaran_hostile::stand;
use catamaran_hostile::targets::hello::{alpn, client_hello, records, server_name};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;

use crate::identity::{caller, shake};
use crate::soon;
use crate::stand::{Budget, Healthy, Stand};

/// A connection whose first bytes come in two pieces.
struct Cut {
    stream: TcpStream,
    at: usize,
    written: usize,
}

impl AsyncRead for Cut {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Cut {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let end = match self.written < self.at {
            true => bytes.len().min(self.at - self.written),
            false => bytes.len(),
        };
        let count = ready!(Pin::new(&mut self.stream).poll_write(cx, &bytes[..end]))?;
        self.written += count;
        Poll::Ready(Ok(count))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

async fn healthy(sidecar: &Stand, gateway: &Stand) -> Healthy {
    let config = caller(Some(sidecar.forge.good()), &rustls::version::TLS13);
    let stream = TcpStream::connect(gateway.address).await.unwrap();
    Healthy::on(shake(config, stream).await.unwrap()).await
}

/// RUSTSEC-2024-0399 and Netty's CVE-2026-75595: a hello in two pieces, cut at every byte.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hello_cut_anywhere_finds_its_way() {
    let sidecar = Stand::inbound().await;
    let gateway = Stand::gateway_before(&sidecar);
    let healthy = healthy(&sidecar, &gateway).await;
    let config = caller(Some(sidecar.forge.good()), &rustls::version::TLS13);
    let mut hello = Vec::new();
    let name = rustls::pki_types::ServerName::try_from(stand::SNI).unwrap();
    let mut probe = rustls::ClientConnection::new(config.clone(), name).unwrap();
    probe.write_tls(&mut hello).unwrap();
    for at in 1..hello.len() {
        let stream = TcpStream::connect(gateway.address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let stream = Cut {
            stream,
            at,
            written: 0,
        };
        let mut stream = shake(config.clone(), stream)
            .await
            .unwrap_or_else(|error| panic!("cut at {at}: {error}"));
        let request =
            format!("GET /cut-{at} HTTP/1.1\r\nhost: helloworld:5000\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        let _ = soon("an answer", stream.read_to_end(&mut answer)).await;
        assert!(
            answer.starts_with(b"HTTP/1.1 200 "),
            "cut at {at}: {:?}",
            String::from_utf8_lossy(&answer)
        );
    }
    healthy.was_not_hurt().await;
    assert_eq!(sidecar.witness.complaints(), [""; 0]);
}

/// CVE-2024-32475, CVE-2023-25076: names that are odd, and names that mean everything.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_that_is_not_exported_leads_nowhere() {
    let sidecar = Stand::inbound().await;
    let mut gateway = Stand::gateway_before(&sidecar);
    let healthy = healthy(&sidecar, &gateway).await;
    let budget = Budget::of(&gateway, 1000);
    let opened = |gateway: &mut Stand| -> f64 {
        let all = gateway.metrics();
        let lines = all
            .iter()
            .filter(|line| line.starts_with("istio_tcp_connections_opened_total{"));
        lines
            .map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap())
            .sum()
    };
    let before = opened(&mut gateway);
    let offered = || alpn(&["istio", "istio-http/1.1"]);
    let named = |name: &str| client_hello(&[server_name(name), offered()]);
    let mut empty_list = server_name("a");
    empty_list.1 = vec![0, 0];
    let mut other_kind = server_name(stand::SNI);
    other_kind.1[2] = 1;
    let mut two = server_name(stand::SNI);
    let again = two.1[2..].to_vec();
    two.1.extend(again);
    let length = (two.1.len() - 2) as u16;
    two.1[..2].copy_from_slice(&length.to_be_bytes());
    let whole = named(stand::SNI);
    let cases: Vec<Vec<u8>> = vec![
        client_hello(&[offered()]),
        client_hello(&[]),
        named("*"),
        named("*.svc.cluster.local"),
        named("outbound_.5000_._.*"),
        named("outbound_.5001_._.helloworld.default.svc.cluster.local"),
        named("helloworld.default.svc.cluster.local"),
        named(&format!("{}.", stand::SNI)),
        named(&format!("{}\0.evil", stand::SNI)),
        named("%REQUESTED_SERVER_NAME%"),
        named("10.0.0.1"),
        named(&"a".repeat(255)),
        named(&"a".repeat(256)),
        named(&"a".repeat(4000)),
        named(""),
        // the right name, with protocols that no workload's sidecar speaks
        client_hello(&[server_name(stand::SNI), alpn(&["h2", "http/1.1"])]),
        client_hello(&[server_name(stand::SNI)]),
        client_hello(&[server_name(stand::SNI), server_name(stand::SNI), offered()]),
        client_hello(&[empty_list, offered()]),
        client_hello(&[other_kind, offered()]),
        client_hello(&[two, offered()]),
        // cut into records that end before its name, and then nothing more
        records(&whole[5..], 60)[..65].to_vec(),
        whole[..whole.len() - 1].to_vec(),
        b"GET / HTTP/1.1\r\nhost: helloworld:5000\r\n\r\n".to_vec(),
        catamaran_hostile::frames::opening(),
        vec![0x16, 3, 1, 0xff, 0xff],
        vec![0x80, 0x2e, 1, 0, 2],
    ];
    for (number, case) in cases.iter().enumerate() {
        let mut stream = TcpStream::connect(gateway.address).await.unwrap();
        // who hung up already took none of it
        let _ = stream.write_all(case).await;
        let _ = stream.shutdown().await;
        let mut answer = Vec::new();
        let _ = soon("the end of the connection", stream.read_to_end(&mut answer)).await;
        assert_eq!(answer, b"", "case {number}");
    }
    assert_eq!(opened(&mut gateway), before, "none was carried anywhere");
    let turned = ["no_way", "beginning"];
    gateway.until_turned(&turned, cases.len() as u64).await;
    healthy.was_not_hurt().await;
    budget.hold(&gateway);
}
