//! Proxies with a certificate that ask for too much, or read nothing.

use std::time::Duration;

use catamaran_wire::core::Node;
use catamaran_wire::discovery::{DeltaDiscoveryRequest, DiscoveryRequest};
use catamaran_wire::grpc::AggregatedDiscoveryClient;
use catamaran_wire::well_known::{Status as Refused, Struct, Value};
use catamaran_xds::TypeUrlKind;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status};

use crate::client::{Channel, connect, sidecar};
use crate::{LONG, World, peak, soon};

fn rogue() -> Node {
    sidecar("default/rogue", "rogue-1")
}

/// Sends these on one stream and gives how the stream ended; `None` when it did not.
async fn ask(
    channel: &Channel,
    requests: Vec<DeltaDiscoveryRequest>,
    patience: Duration,
) -> Option<Status> {
    let (sender, out) = mpsc::channel(16);
    let sending = tokio::spawn(async move {
        for request in requests {
            if sender.send(request).await.is_err() {
                return;
            }
        }
        // an open stream, until the test has seen enough
        sender.closed().await;
    });
    let answer = AggregatedDiscoveryClient::new(channel.clone())
        .delta_aggregated_resources(ReceiverStream::new(out))
        .await;
    let mut responses = match answer {
        Ok(answer) => answer.into_inner(),
        Err(status) => return Some(status),
    };
    let ended = async {
        loop {
            match responses.message().await {
                Ok(Some(_)) => {}
                Ok(None) => return Status::ok("ended"),
                Err(status) => return status,
            }
        }
    };
    let ended = tokio::time::timeout(patience, ended).await.ok();
    drop(responses);
    sending.abort();
    ended
}

fn asks(kind: TypeUrlKind, names: Vec<String>) -> DeltaDiscoveryRequest {
    DeltaDiscoveryRequest {
        node: Some(rogue()),
        type_url: kind.url().into(),
        resource_names_subscribe: names,
        ..DeltaDiscoveryRequest::default()
    }
}

/// So many names that they fill what one may ask for, and one too many.
fn names(count: usize) -> Vec<String> {
    (0..count).map(|n| format!("outbound|{n}||a")).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_asks_for_too_much_ends_its_own_stream() {
    let mut world = World::new().await;
    let channel = connect(world.plane.address, &world.rogue().await)
        .await
        .unwrap();
    let before = peak();
    // a value in a value in a value: prost stops at a hundred
    let mut deep: Value = 1.0.into();
    for _ in 0..500 {
        deep = [("x".to_owned(), deep)]
            .into_iter()
            .collect::<Struct>()
            .into();
    }
    let mut nested = rogue();
    nested
        .metadata
        .as_mut()
        .unwrap()
        .fields
        .insert("DEEP".into(), deep);
    let endpoints = TypeUrlKind::Endpoints;
    let cases: Vec<(&str, Vec<DeltaDiscoveryRequest>, bool)> = vec![
        (
            "too many names",
            vec![
                asks(endpoints, names(25_001)),
                DeltaDiscoveryRequest {
                    resource_names_subscribe: (30_000..60_000)
                        .map(|n| format!("outbound|{n}||b"))
                        .collect(),
                    ..asks(endpoints, Vec::new())
                },
            ],
            true,
        ),
        (
            "a name that is too long",
            vec![asks(endpoints, vec!["x".repeat(1025)])],
            true,
        ),
        (
            "a message that is too large",
            vec![asks(endpoints, names(400_000))],
            true,
        ),
        (
            "a message that is too deep",
            vec![DeltaDiscoveryRequest {
                node: Some(nested),
                ..asks(endpoints, Vec::new())
            }],
            true,
        ),
        (
            "no node",
            vec![DeltaDiscoveryRequest {
                node: None,
                ..asks(endpoints, Vec::new())
            }],
            true,
        ),
        (
            "somebody else's node",
            vec![DeltaDiscoveryRequest {
                node: Some(sidecar("default/sleep", "sleep-1")),
                ..asks(endpoints, Vec::new())
            }],
            true,
        ),
        (
            "answers that nobody asked for",
            vec![
                asks(TypeUrlKind::Cluster, vec!["*".into()]),
                DeltaDiscoveryRequest {
                    response_nonce: "99".into(),
                    error_detail: Some(Refused {
                        code: 3,
                        message: "x".repeat(100_000),
                        ..Refused::default()
                    }),
                    ..asks(TypeUrlKind::Cluster, Vec::new())
                },
            ],
            false,
        ),
        (
            "a type of nobody",
            vec![DeltaDiscoveryRequest {
                type_url: "x".repeat(50_000),
                ..asks(endpoints, Vec::new())
            }],
            false,
        ),
    ];
    for (name, requests, ends) in cases {
        let patience = if ends { LONG } else { Duration::from_secs(2) };
        let ended = ask(&channel, requests, patience).await;
        assert_eq!(ended.is_some(), ends, "{name}: {ended:?}");
        if let Some(status) = ended {
            assert!(
                !matches!(status.code(), Code::Ok | Code::Unknown),
                "{name}: {status}"
            );
        }
        world.the_healthy_one_hears_a_change().await;
    }
    // forty streams where thirty-two may be: those too many wait, and nobody else
    let mut clients = Vec::new();
    for _ in 0..40 {
        let channel = channel.clone();
        clients.push(tokio::spawn(async move {
            ask(
                &channel,
                vec![asks(TypeUrlKind::Cluster, vec!["*".into()])],
                LONG,
            )
            .await
        }));
    }
    world.the_healthy_one_hears_a_change().await;
    for client in clients {
        client.abort();
    }
    assert!(peak() - before < 128.0, "{} MiB more", peak() - before);
    world.plane.stop().await;
}

/// Proxies that ask for everything and read nothing, while much changes: the latest waits for each, and no more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn proxies_that_do_not_read_hold_nobody_up() {
    let mut world = World::new().await;
    let credentials = world.rogue().await;
    let before = peak();
    let mut held = Vec::new();
    for _ in 0..8 {
        let channel = connect(world.plane.address, &credentials).await.unwrap();
        for _ in 0..4 {
            let (sender, out) = mpsc::channel(64);
            for kind in TypeUrlKind::ALL {
                let wanted = match kind.is_wildcard() {
                    true => vec!["*".into()],
                    false => vec![crate::client::HELLOWORLD.to_owned(), "5000".into()],
                };
                sender.send(asks(kind, wanted)).await.unwrap();
            }
            let answer = AggregatedDiscoveryClient::new(channel.clone())
                .delta_aggregated_resources(ReceiverStream::new(out))
                .await
                .unwrap();
            held.push((sender, answer.into_inner()));
        }
    }
    for _ in 0..20 {
        world.the_healthy_one_hears_a_change().await;
    }
    world.somebody_new_can_join("late").await;
    assert!(peak() - before < 64.0, "{} MiB more", peak() - before);
    drop(held);
    world.plane.stop().await;
}

/// Requests as fast as they can be sent, in both protocols, without reading an answer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn floods_of_requests_hold_nobody_up() {
    let mut world = World::new().await;
    let channel = connect(world.plane.address, &world.rogue().await)
        .await
        .unwrap();
    let before = peak();
    let (sender, out) = mpsc::channel(64);
    let _unread = AggregatedDiscoveryClient::new(channel.clone())
        .delta_aggregated_resources(ReceiverStream::new(out))
        .await
        .unwrap();
    let deltas = tokio::spawn(async move {
        for n in 0..5000 {
            let name = format!("outbound|{}||a", n % 50);
            let mut request = asks(TypeUrlKind::Endpoints, vec![name.clone()]);
            if n % 2 == 1 {
                request.resource_names_unsubscribe = vec![name];
            }
            if sender.send(request).await.is_err() {
                break;
            }
        }
    });
    let (sender, out) = mpsc::channel(64);
    let _unread_too = AggregatedDiscoveryClient::new(channel)
        .stream_aggregated_resources(ReceiverStream::new(out))
        .await
        .unwrap();
    let worlds = tokio::spawn(async move {
        for n in 0..5000 {
            let request = DiscoveryRequest {
                node: Some(rogue()),
                type_url: TypeUrlKind::ALL[n % 6].url().into(),
                resource_names: vec![n.to_string()],
                response_nonce: n.to_string(),
                ..DiscoveryRequest::default()
            };
            if sender.send(request).await.is_err() {
                break;
            }
        }
    });
    for _ in 0..5 {
        world.the_healthy_one_hears_a_change().await;
    }
    soon("the floods to be taken or refused", async {
        // a control plane that takes no more of them is right as well
        let _ = tokio::time::timeout(Duration::from_secs(10), deltas).await;
        let _ = tokio::time::timeout(Duration::from_secs(10), worlds).await;
    })
    .await;
    world.the_healthy_one_hears_a_change().await;
    assert!(peak() - before < 64.0, "{} MiB more", peak() - before);
    world.plane.stop().await;
}
