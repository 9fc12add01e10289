//! Those who prove nothing.

use catamaran_hostile::Mutator;
use catamaran_hostile::frames::{END_HEADERS, END_STREAM, frame, head, kind, literal, opening};
use catamaran_wire::core::Node;
use catamaran_wire::csr::IstioCertificateRequest;
use catamaran_wire::discovery::DeltaDiscoveryRequest;
use catamaran_wire::grpc::{AggregatedDiscoveryClient, IstioCertificateClient};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tonic::{Code, Request};

use crate::client::{certificate, connect};
use crate::fleet::identity;
use crate::{World, peak, soon};

/// Bytes that are no TLS, and TLS that stops in the middle.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn garbage_at_the_port_is_nobodys_business() {
    let mut world = World::new().await;
    let before = peak();
    let config = world
        .anonymous()
        .client_config(
            &catamaran_identity::PeerRule::exactly(identity("default/nobody")),
            &[b"h2"],
        )
        .unwrap();
    let mut hello = Vec::new();
    let name = ServerName::try_from("control-plane").unwrap();
    rustls::ClientConnection::new(config, name)
        .unwrap()
        .write_tls(&mut hello)
        .unwrap();
    let mut mutator = Mutator::new(7);
    let mut stay = Vec::new();
    for n in 0..600 {
        let mut stream = TcpStream::connect(world.plane.address).await.unwrap();
        let bytes = match n % 4 {
            0 => b"GET / HTTP/1.1\r\nhost: a\r\n\r\n".to_vec(),
            1 => mutator.case(std::slice::from_ref(&hello), &[]),
            // these two stay, in the middle of their handshake
            2 => hello.clone(),
            _ => hello[..3].to_vec(),
        };
        // who was hung up on took none of it
        let _ = stream.write_all(&bytes).await;
        if n % 4 > 1 {
            stay.push(stream);
        }
    }
    world.the_healthy_one_hears_a_change().await;
    world.somebody_new_can_join("late").await;
    assert!(peak() - before < 64.0, "{} MiB more", peak() - before);
    drop(stay);
    world.plane.stop().await;
}

/// The surface before anybody is known: streams and certificates for nobody.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_proves_nothing_gets_nothing() {
    let mut world = World::new().await;
    let channel = connect(world.plane.address, &world.anonymous())
        .await
        .unwrap();
    let before = peak();
    for _ in 0..200 {
        let mut client = AggregatedDiscoveryClient::new(channel.clone());
        let asked = DeltaDiscoveryRequest {
            node: Some(Node {
                id: "x".repeat(100_000),
                ..Node::default()
            }),
            ..DeltaDiscoveryRequest::default()
        };
        let refused = client
            .delta_aggregated_resources(tokio_stream::once(asked))
            .await;
        assert_eq!(refused.unwrap_err().code(), Code::Unauthenticated);
    }
    let wanted = identity("default/admin");
    for n in 0..200 {
        let token = match n % 4 {
            0 => None,
            1 => Some("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA".to_owned()),
            2 => Some("x".repeat(5000)),
            _ => Some("../../private/cacerts/ca-key.pem".to_owned()),
        };
        let refused = certificate(&channel, &wanted, token.as_deref())
            .await
            .unwrap_err();
        assert_eq!(refused.code(), Code::Unauthenticated, "{refused}");
    }
    // requests that are none, with a good token, use it up for nobody
    let token = world.cluster.token("default/late", 600);
    for csr in [
        "",
        "-----BEGIN CERTIFICATE REQUEST-----\nMIIB\n-----END CERTIFICATE REQUEST-----\n",
        &"A".repeat(60_000),
        &"A".repeat(200_000),
    ] {
        let mut request = Request::new(IstioCertificateRequest {
            csr: csr.to_owned(),
            ..Default::default()
        });
        let bearer = format!("Bearer {token}").parse().unwrap();
        request.metadata_mut().insert("authorization", bearer);
        let refused = IstioCertificateClient::new(channel.clone())
            .create_certificate(request)
            .await;
        assert!(refused.is_err(), "{} bytes", csr.len());
    }
    let late = identity("default/late");
    certificate(&channel, &late, Some(&token))
        .await
        .expect("the token is still good");
    world.the_healthy_one_hears_a_change().await;
    assert!(peak() - before < 64.0, "{} MiB more", peak() - before);
    world.plane.stop().await;
}

/// The attacks of HTTP/2's frames, which need no certificate here.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn floods_of_frames_are_cut_off() {
    let mut world = World::new().await;
    let before = peak();
    let path = "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources";
    let post = || {
        let mut block = head(
            "POST",
            "/",
            "control-plane",
            &[("content-type", "application/grpc")],
        );
        // the path is longer than a short literal; the last one counts for nobody, so it is not sent twice
        block.truncate(0);
        block.extend(literal(":method", "POST"));
        block.extend(literal(":scheme", "https"));
        block.extend(literal(":path", path));
        block.extend(literal(":authority", "control-plane"));
        block
    };
    let stream = |n: usize| 2 * n as u32 + 1;
    type Flood<'a> = Box<dyn Fn(usize) -> Vec<u8> + Send + 'a>;
    let floods: [Flood<'_>; 4] = [
        Box::new(|n| {
            let mut frames = frame(kind::HEADERS, END_HEADERS | END_STREAM, stream(n), &post());
            frames.extend(frame(kind::RST_STREAM, 0, stream(n), &[0, 0, 0, 8]));
            frames
        }),
        Box::new(|n| match n {
            0 => frame(kind::HEADERS, 0, 1, &post()),
            n => frame(
                kind::CONTINUATION,
                0,
                1,
                &literal(&format!("x-{n}"), &"v".repeat(100)),
            ),
        }),
        Box::new(|n| match n {
            0 => frame(kind::HEADERS, END_HEADERS, 1, &post()),
            _ => frame(kind::DATA, 0, 1, &[]).repeat(4),
        }),
        Box::new(|n| {
            let mut frames = frame(kind::HEADERS, END_HEADERS, stream(n), &post());
            frames.extend(frame(kind::WINDOW_UPDATE, 0, stream(n), &[0, 0, 0, 0]));
            frames
        }),
    ];
    for (number, flood) in floods.iter().enumerate() {
        let rule = catamaran_identity::PeerRule::exactly(catamaran_model::SpiffeId::control_plane(
            catamaran_model::TrustDomain::default(),
        ));
        let config = world.anonymous().client_config(&rule, &[b"h2"]).unwrap();
        let tcp = TcpStream::connect(world.plane.address).await.unwrap();
        let name = ServerName::try_from("control-plane").unwrap();
        let tls = TlsConnector::from(config).connect(name, tcp).await.unwrap();
        let (mut from, mut to) = tokio::io::split(tls);
        let reader = tokio::spawn(async move {
            let mut bytes = vec![0; 64 << 10];
            while let Ok(1..) = from.read(&mut bytes).await {}
        });
        let mut cut_off = to.write_all(&opening()).await.is_err();
        for burst in 0..200 {
            if cut_off || reader.is_finished() {
                cut_off = true;
                break;
            }
            let bytes: Vec<u8> = (0..50).flat_map(|n| flood(burst * 50 + n)).collect();
            cut_off = soon("room for frames", to.write_all(&bytes)).await.is_err();
        }
        let _ = to.shutdown().await;
        soon("the end of the connection", reader).await.unwrap();
        assert!(cut_off, "flood {number} went on to its end");
        world.the_healthy_one_hears_a_change().await;
    }
    assert!(peak() - before < 64.0, "{} MiB more", peak() - before);
    world.plane.stop().await;
}
