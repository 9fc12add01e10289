//! Calls from program to program through running proxies, on loopback, as callers and operators would notice them.

mod fleet;
mod programs;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::Bytes;
use catamaran_proxy::carry::SocketState;
use http::{HeaderMap, HeaderName, HeaderValue};
use http_body_util::BodyExt;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use fleet::{HELLO_SNI, PORT, Trust, callee, caller, calls, direct, gateway, takes, through};
use programs::{Client, Wire, chunks, hello, http2_client, request, rude, text, whole};

/// Waits, for at most half a minute, for something to become so.
async fn until(mut so: impl AsyncFnMut() -> bool) {
    let wait = async {
        while !so().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let waited = tokio::time::timeout(Duration::from_secs(30), wait).await;
    waited.expect("half a minute is enough");
}

/// An address at which nobody listens.
async fn nobody() -> SocketAddr {
    let listener = TcpListener::bind((fleet::address(), 0)).await.unwrap();
    listener.local_addr().unwrap()
}

#[tokio::test]
async fn a_plain_call_travels_as_http2_inside_mtls_and_arrives_as_it_was() {
    let trust = Trust::new();
    let program = hello("v1").await;
    let far = callee(&trust, 1, "helloworld", program.address);
    let near = caller(&trust, vec![direct(far.inbound(), 1)]);
    let mut client = Client::to(near.outbound()).await;

    assert_eq!(client.get("/hello").await, (200, "v1\n".into()));
    let (_, headers) = client.get("/headers").await;
    assert!(headers.contains("host: helloworld:5000\n"), "{headers}");
    assert!(headers.contains("x-request-id: "), "{headers}");
    assert!(headers.contains("x-envoy-attempt-count: 1\n"), "{headers}");
    assert!(headers.contains("x-forwarded-proto: http\n"), "{headers}");
    let certificate = "x-forwarded-client-cert: By=spiffe://cluster.local/ns/default/sa/helloworld;\
                       URI=spiffe://cluster.local/ns/default/sa/sleep\n";
    assert!(headers.contains(certificate), "{headers}");

    let large = Bytes::from(
        (0..5_000_000u32)
            .map(|n| b'a' + (n % 23) as u8)
            .collect::<Vec<_>>(),
    );
    let echoed = client
        .send(request("POST", "/echo", text(large.clone())))
        .await;
    assert!(
        echoed.into_body().collect().await.unwrap().to_bytes() == large,
        "the bytes differ"
    );

    let metrics = near.report.prometheus();
    let line = metrics
        .lines()
        .find(|line| line.starts_with("istio_requests_total"))
        .unwrap();
    for part in [
        "reporter=\"source\"",
        "source_workload=\"sleep\"",
        "destination_service=\"helloworld.default.svc.cluster.local\"",
        "destination_service_name=\"helloworld\"",
        "destination_principal=\"spiffe://cluster.local/ns/default/sa/helloworld\"",
        "destination_cluster=\"cluster-1\"",
        "response_code=\"200\"",
        "response_flags=\"-\"",
    ] {
        assert!(line.contains(part), "{part} is not in {line}");
    }
    assert!(line.ends_with(" 3"), "{line}");
    let metrics = far.report.prometheus();
    let line = metrics
        .lines()
        .find(|line| line.starts_with("istio_requests_total"))
        .unwrap();
    assert!(
        line.contains("connection_security_policy=\"mutual_tls\""),
        "{line}"
    );
    assert!(
        line.contains("destination_service_name=\"helloworld\""),
        "{line}"
    );
    assert!(
        line.contains("source_principal=\"spiffe://cluster.local/ns/default/sa/sleep\""),
        "{line}"
    );

    drop(client);
    let log = near.end().await;
    assert_eq!(log.len(), 3);
    assert_eq!(log[0]["upstream_host"], far.inbound().to_string());
    assert_eq!(
        log[0]["upstream_peer"],
        "spiffe://cluster.local/ns/default/sa/helloworld"
    );
    assert_eq!(log[0]["response_code"], 200);
    assert_eq!(log[2]["bytes_received"], 5_000_000);
    assert!(
        log[0]["reason"]
            .as_str()
            .unwrap()
            .contains("endpoint 1 of 1"),
        "{}",
        log[0]["reason"]
    );
    let log = far.end().await;
    assert_eq!(log[0]["protocol"], "HTTP/2", "between sidecars");
    assert_eq!(
        log[0]["downstream_peer"],
        "spiffe://cluster.local/ns/default/sa/sleep"
    );
    assert_eq!(log[0]["requested_server_name"], HELLO_SNI);
}

#[tokio::test]
async fn trailers_pass_both_ways_as_grpc_needs_them() {
    let trust = Trust::new();
    let program = hello("v1").await;
    let far = fleet::callee_of_http2(&trust, program.address);
    let near = caller(&trust, vec![direct(far.inbound(), 1)]);
    let mut client = http2_client(near.outbound()).await;
    let trailers = HeaderMap::from_iter([
        (
            HeaderName::from_static("grpc-status"),
            HeaderValue::from_static("5"),
        ),
        (
            HeaderName::from_static("x-more"),
            HeaderValue::from_static("1"),
        ),
    ]);
    let mut call = request(
        "POST",
        "/echo",
        chunks(vec![Bytes::from("a"), Bytes::from("bc")], trailers.clone()),
    );
    call.headers_mut().remove("host");
    call.headers_mut()
        .insert("content-type", HeaderValue::from_static("application/grpc"));
    call.headers_mut()
        .insert("te", HeaderValue::from_static("trailers"));
    let answer = client
        .send_request(call)
        .await
        .unwrap()
        .into_body()
        .collect()
        .await
        .unwrap();
    assert_eq!(answer.trailers(), Some(&trailers));
    assert_eq!(answer.to_bytes(), "abc");
    let metrics = near.report.prometheus();
    assert!(
        metrics
            .contains("request_protocol=\"grpc\",response_code=\"200\",grpc_response_status=\"5\""),
        "{metrics}"
    );
}

#[tokio::test]
async fn a_grpc_caller_is_refused_in_its_own_way() {
    let trust = Trust::new();
    let near = caller(&trust, vec![]);
    let mut client = http2_client(near.outbound()).await;
    let mut call = request("POST", "/svc/Method", text(""));
    call.headers_mut().remove("host");
    call.headers_mut()
        .insert("content-type", HeaderValue::from_static("application/grpc"));
    let answer = client.send_request(call).await.unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.headers()["grpc-status"], "14");
}

#[tokio::test]
async fn an_upgraded_connection_carries_bytes_until_both_ends_close() {
    let trust = Trust::new();
    let program = hello("v1").await;
    let far = callee(&trust, 1, "helloworld", program.address);
    let near = caller(&trust, vec![direct(far.inbound(), 1)]);
    let mut client = Client::to(near.outbound()).await;
    assert_eq!(client.get("/hello").await.0, 200);
    let mut ask = request("GET", "/socket", text(""));
    ask.headers_mut()
        .insert("connection", HeaderValue::from_static("Upgrade"));
    ask.headers_mut()
        .insert("upgrade", HeaderValue::from_static("websocket"));
    let mut answer = client.send(ask).await;
    assert_eq!(answer.status(), 101);
    assert_eq!(answer.headers()["upgrade"], "websocket");
    let mut stream = TokioIo::new(hyper::upgrade::on(&mut answer).await.unwrap());
    for round in 0..3 {
        let sent = format!("round {round}");
        stream.write_all(sent.as_bytes()).await.unwrap();
        let mut got = vec![0; sent.len()];
        stream.read_exact(&mut got).await.unwrap();
        assert_eq!(got, sent.as_bytes());
    }
    stream.shutdown().await.unwrap();
    assert_eq!(stream.read(&mut [0; 10]).await.unwrap(), 0);
    let mut other = Client::to(near.outbound()).await;
    assert_eq!(
        other.get("/hello").await,
        (200, "v1\n".into()),
        "the upgraded connection is not used again"
    );
}

#[tokio::test]
async fn a_dead_endpoint_costs_no_request() {
    let trust = Trust::new();
    let program = hello("v1").await;
    let far = callee(&trust, 1, "helloworld", program.address);
    let dead = nobody().await;
    let near = caller(&trust, vec![direct(dead, 1), direct(far.inbound(), 1)]);
    let mut client = Client::to(near.outbound()).await;
    for number in 0..40 {
        let got = if number % 2 == 0 {
            client.get("/hello").await
        } else {
            whole(client.send(request("POST", "/hello", text("body"))).await).await
        };
        assert_eq!(got, (200, "v1\n".into()), "request {number}");
    }
    let sights = near.carrier.sights().all().await;
    let out: Vec<_> = sights.iter().filter(|sight| sight.out.is_some()).collect();
    assert_eq!(out.len(), 1, "{sights:?}");
    assert_eq!(out[0].address, dead);
    drop(client);
    let log = near.end().await;
    let again: Vec<_> = log.iter().filter(|line| line["attempts"] != 1).collect();
    assert!(
        !again.is_empty() && again.len() <= 4,
        "{} calls met the dead endpoint",
        again.len()
    );
    assert!(
        again[0]["failure"]
            .as_str()
            .unwrap()
            .contains("connecting to"),
        "{}",
        again[0]["failure"]
    );
}

#[tokio::test]
async fn what_may_have_been_done_is_done_once_and_what_is_idempotent_is_tried_elsewhere() {
    let trust = Trust::new();
    let (program, closer) = (hello("v1").await, rude().await);
    let good = callee(&trust, 1, "helloworld", program.address);
    // a raw endpoint shows the loss itself
    let near = {
        let mut changes = calls(
            &trust,
            vec![fleet::plain(closer.address), direct(good.inbound(), 1)],
        );
        changes.clusters[0].transport_socket_matches.push(
            catamaran_wire::cluster::TransportSocketMatch {
                name: "plain".into(),
                r#match: Some(Default::default()),
                transport_socket: None,
            },
        );
        let credentials = trust.credentials(1, "sleep");
        let role = catamaran_proxy::carry::Role::Sidecar;
        fleet::start(
            role,
            fleet::address(),
            "sleep",
            1,
            credentials,
            fleet::table(changes),
        )
    };
    let mut client = Client::to(near.outbound()).await;
    let (mut done, mut lost) = (0, 0);
    for _ in 0..2 {
        let (status, why) = whole(
            client
                .send(request("POST", "/hello", text("the end")))
                .await,
        )
        .await;
        match status {
            200 => done += 1,
            503 => {
                assert!(why.starts_with("UC: "), "{why}");
                lost += 1;
            }
            other => panic!("{other}"),
        }
    }
    assert_eq!(
        (done, lost),
        (1, 1),
        "each endpoint had one turn, and none was taken over by the other"
    );
    assert_eq!((program.requests(), closer.requests()), (1, 1));
    for _ in 0..2 {
        assert_eq!(client.get("/hello").await, (200, "v1\n".into()));
    }
    assert_eq!((program.requests(), closer.requests()), (3, 2));
}

/// As when a workload ends: its sidecar is there, and its program closes a connection just when a request comes.
#[tokio::test]
async fn a_program_that_breaks_off_behind_its_sidecar_costs_nothing_idempotent() {
    let trust = Trust::new();
    let (program, closer) = (hello("v1").await, rude().await);
    let good = callee(&trust, 1, "helloworld", program.address);
    let bad = callee(&trust, 1, "helloworld", closer.address);
    let endpoints = vec![direct(bad.inbound(), 1), direct(good.inbound(), 1)];
    let near = caller(&trust, endpoints);
    let mut client = Client::to(near.outbound()).await;
    for _ in 0..2 {
        assert_eq!(client.get("/hello").await, (200, "v1\n".into()));
    }
    assert!(closer.requests() > 0, "the other one had no turn");
    // What may have been done is done once, and its caller is told.
    let before = program.requests() + closer.requests();
    let mut statuses = Vec::new();
    for _ in 0..2 {
        let sent = client
            .send(request("POST", "/hello", text("the end")))
            .await;
        statuses.push(whole(sent).await.0);
    }
    assert!(
        statuses.iter().all(|status| [200, 503].contains(status)),
        "{statuses:?}"
    );
    assert_eq!(program.requests() + closer.requests(), before + 2);
}

#[tokio::test]
async fn somebody_else_at_the_address_gets_no_byte_of_a_request() {
    let trust = Trust::new();
    let program = hello("stranger").await;
    let stranger = callee(&trust, 1, "other", program.address);
    let near = caller(&trust, vec![direct(stranger.inbound(), 1)]);
    let mut client = Client::to(near.outbound()).await;
    let (status, why) = client.get("/hello").await;
    assert_eq!(status, 503);
    assert!(
        why.contains("is not who it should be") && why.contains("sa/other"),
        "{why}"
    );
    assert_eq!(program.requests(), 0);
    let log = stranger.end().await;
    assert!(
        log.iter().all(|line| line["bytes_received"] == 0),
        "{log:?}"
    );
}

#[tokio::test]
async fn the_authority_of_one_cluster_cannot_speak_for_another() {
    let trust = Trust::new();
    let program = hello("forged").await;
    let forged = callee(&trust, 2, "helloworld", program.address);
    let near = caller(&trust, vec![direct(forged.inbound(), 1)]);
    let (status, why) = Client::to(near.outbound()).await.get("/hello").await;
    assert_eq!(status, 503, "{why}");
    assert!(why.contains("is not who it should be"), "{why}");
    assert_eq!(program.requests(), 0);
    near.tables
        .send(fleet::table(calls(
            &trust,
            vec![direct(forged.inbound(), 2)],
        )))
        .unwrap();
    let (status, _) = Client::to(near.outbound()).await.get("/hello").await;
    assert_eq!(status, 200, "the same endpoint as one of its own cluster");
}

#[tokio::test]
async fn strict_refuses_plaintext_at_once_and_says_why() {
    let trust = Trust::new();
    let program = hello("v1").await;
    let far = callee(&trust, 1, "helloworld", program.address);
    let mut stream = TcpStream::connect(far.inbound()).await.unwrap();
    let begun = Instant::now();
    stream
        .write_all(b"GET / HTTP/1.1\r\nhost: helloworld\r\n\r\n")
        .await
        .unwrap();
    let mut got = Vec::new();
    let _ = stream.read_to_end(&mut got).await;
    assert!(got.is_empty());
    assert!(
        begun.elapsed() < Duration::from_secs(2),
        "it was not refused at once"
    );
    assert_eq!(program.requests(), 0);
    let log = far.end().await;
    assert!(
        log[0]["reason"]
            .as_str()
            .unwrap()
            .contains("no filter chain"),
        "{}",
        log[0]
    );
    assert_eq!(log[0]["response_flags"], "NR");
}

#[tokio::test]
async fn a_program_that_is_down_is_a_503_with_a_reason() {
    let trust = Trust::new();
    let far = callee(&trust, 1, "helloworld", nobody().await);
    let near = caller(&trust, vec![direct(far.inbound(), 1)]);
    let (status, why) = Client::to(near.outbound()).await.get("/hello").await;
    assert_eq!(status, 503);
    assert!(why.contains("did not take the request"), "{why}");
    let log = far.end().await;
    let cause = log[0]["failure"].as_str().unwrap();
    assert!(cause.starts_with("connecting to"), "{}", log[0]);
    assert_eq!(log[0]["response_flags"], "UF");
}

#[tokio::test]
async fn a_program_that_is_down_costs_nothing_where_another_answers() {
    let trust = Trust::new();
    let down = callee(&trust, 1, "helloworld", nobody().await);
    let program = hello("up").await;
    let up = callee(&trust, 1, "helloworld", program.address);
    let near = caller(
        &trust,
        vec![direct(down.inbound(), 1), direct(up.inbound(), 1)],
    );
    let mut client = Client::to(near.outbound()).await;
    for _ in 0..20 {
        let (status, body) = client.get("/hello").await;
        assert_eq!(status, 200, "{body}");
    }
    assert_eq!(program.requests(), 20);
}

#[tokio::test]
async fn four_workloads_behind_one_gateway_share_the_load() {
    let trust = Trust::new();
    let mut far = Vec::new();
    let mut programs = Vec::new();
    for name in ["a", "b", "c", "d"] {
        let program = hello(name).await;
        far.push(callee(&trust, 2, "helloworld", program.address));
        programs.push(program);
    }
    let behind: Vec<SocketAddr> = far.iter().map(fleet::Proxy::inbound).collect();
    let gate = gateway(&trust, &behind);
    let near = caller(
        &trust,
        vec![through(SocketAddr::new(gate.address, 15443), 4)],
    );
    let proxy = near.outbound();
    let clients = (0..4).map(|_| async move {
        let mut client = Client::to(proxy).await;
        for _ in 0..250 {
            assert_eq!(client.get("/hello").await.0, 200);
        }
    });
    futures_util::future::join_all(clients).await;
    let shares: BTreeMap<usize, usize> = programs
        .iter()
        .map(programs::Program::requests)
        .enumerate()
        .collect();
    assert_eq!(shares.values().sum::<usize>(), 1000);
    assert!(
        shares.values().all(|count| (150..=350).contains(count)),
        "{shares:?}"
    );
    let log = far.remove(0).end().await;
    assert_eq!(log[0]["protocol"], "HTTP/2");
}

/// A gateway may lead most connections to one workload: several workers of it that each count for themselves do.
#[tokio::test]
async fn workloads_behind_a_gateway_that_deals_unevenly_share_the_load() {
    let trust = Trust::new();
    let mut far = Vec::new();
    let mut programs = Vec::new();
    for name in ["a", "b", "c", "d"] {
        let program = hello(name).await;
        far.push(callee(&trust, 2, "helloworld", program.address));
        programs.push(program);
    }
    let deal = [0, 0, 0, 1, 0, 0, 0, 0, 2, 0, 3].map(|at: usize| far[at].inbound());
    let wire = Wire::dealt(deal.into()).await;
    let near = caller(&trust, vec![through(wire.address, 4)]);
    let mut client = Client::to(near.outbound()).await;
    let counts = || programs.iter().map(programs::Program::requests);
    while counts().any(|count| count == 0) {
        assert_eq!(client.get("/hello").await.0, 200);
    }
    let before: Vec<usize> = counts().collect();
    for _ in 0..400 {
        assert_eq!(client.get("/hello").await.0, 200);
    }
    let shares: Vec<usize> = counts().zip(before).map(|(now, then)| now - then).collect();
    assert!(
        shares.iter().all(|count| (80..=120).contains(count)),
        "{shares:?}"
    );
}

/// As when a service behind a gateway is scaled down: the gateway's address stays, and most connections through it lead to
/// sidecars whose programs have ended, more of them than a request has attempts.
#[tokio::test]
async fn programs_that_are_down_behind_a_gateway_cost_nothing_where_another_answers() {
    let trust = Trust::new();
    let mut far = Vec::new();
    for _ in 0..5 {
        far.push(callee(&trust, 2, "helloworld", nobody().await));
    }
    let program = hello("up").await;
    far.push(callee(&trust, 2, "helloworld", program.address));
    let behind = far.iter().map(fleet::Proxy::inbound).collect();
    let wire = Wire::dealt(behind).await;
    let near = caller(&trust, vec![through(wire.address, 6)]);
    let mut client = Client::to(near.outbound()).await;
    for _ in 0..3 {
        // connections to all of them stand, before calls count
        let _ = client.get("/hello").await;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let before = program.requests();
    for _ in 0..40 {
        assert_eq!(client.get("/hello").await, (200, "up\n".into()));
    }
    assert_eq!(program.requests(), before + 40);
}

#[tokio::test]
async fn a_cut_wire_costs_a_get_two_waits_and_no_failure() {
    let trust = Trust::new();
    let (one, two) = (hello("one").await, hello("two").await);
    let here = callee(&trust, 1, "helloworld", one.address);
    let there = callee(&trust, 2, "helloworld", two.address);
    let wire = Wire::to(there.inbound()).await;
    let near = caller(
        &trust,
        vec![direct(here.inbound(), 1), through(wire.address, 1)],
    );
    let mut client = Client::to(near.outbound()).await;
    let mut seen = BTreeMap::<String, usize>::new();
    while seen.len() < 2 {
        let (status, name) = client.get("/hello").await;
        assert_eq!(status, 200);
        *seen.entry(name).or_default() += 1;
    }
    wire.cut();
    let before = two.requests();
    for _ in 0..4 {
        let begun = Instant::now();
        assert_eq!(client.get("/hello").await, (200, "one\n".into()));
        assert!(
            begun.elapsed() < Duration::from_secs(3),
            "{:?}",
            begun.elapsed()
        );
    }
    assert_eq!(two.requests(), before);
    drop(client);
    let log = near.end().await;
    let lost: Vec<_> = log.iter().filter(|line| line["attempts"] == 2).collect();
    assert_eq!(lost.len(), 1, "the first to meet it was the only one");
    assert!(
        lost[0]["failure"]
            .as_str()
            .unwrap()
            .contains("gave no sign of life"),
        "{}",
        lost[0]["failure"]
    );
}

#[tokio::test]
async fn a_cut_wire_costs_no_get_however_many_wait_on_it() {
    let trust = Trust::new();
    let (one, two) = (hello("one").await, hello("two").await);
    let here = callee(&trust, 1, "helloworld", one.address);
    let there = callee(&trust, 2, "helloworld", two.address);
    let wire = Wire::to(there.inbound()).await;
    let near = caller(
        &trust,
        vec![direct(here.inbound(), 1), through(wire.address, 1)],
    );
    let mut clients = Vec::new();
    for _ in 0..60 {
        let mut client = Client::to(near.outbound()).await;
        assert_eq!(client.get("/hello").await.0, 200);
        clients.push(client);
    }
    wire.cut();
    let mut calls = JoinSet::new();
    for mut client in clients {
        calls.spawn(async move { client.get("/hello").await });
    }
    // A fifth of them is what the retry budget lets run at once.
    while let Some(answer) = calls.join_next().await {
        assert_eq!(answer.unwrap(), (200, "one\n".into()));
    }
    let log = near.end().await;
    let lost = log.iter().filter(|line| line["attempts"] == 2).count();
    assert!(lost >= 25, "half of the calls met the cut wire: {lost}");
}

#[tokio::test]
async fn a_gateway_that_falls_silent_between_calls_costs_the_next_call_nothing() {
    let trust = Trust::new();
    let (one, two) = (hello("one").await, hello("two").await);
    let here = callee(&trust, 1, "helloworld", one.address);
    let there = callee(&trust, 2, "helloworld", two.address);
    let gate = gateway(&trust, &[there.inbound()]);
    let wire = Wire::to(SocketAddr::new(gate.address, 15443)).await;
    let near = caller(
        &trust,
        vec![direct(here.inbound(), 1), through(wire.address, 1)],
    );
    let mut client = Client::to(near.outbound()).await;
    while one.requests() == 0 || two.requests() == 0 {
        assert_eq!(client.get("/hello").await.0, 200);
    }
    // Nobody calls, and the gateway is asked: the second question means that the first one was answered.
    let made = wire.connections.load(Ordering::SeqCst);
    let known = |out: bool| {
        let sights = near.carrier.sights();
        let address = wire.address;
        async move {
            let all = sights.all().await;
            let of_gateway = all.iter().find(|sight| sight.address == address).unwrap();
            of_gateway.out.is_some() == out
        }
    };
    until(async || wire.connections.load(Ordering::SeqCst) >= made + 2).await;
    assert!(known(false).await);
    wire.cut();
    until(async || known(true).await).await;
    let before = two.requests();
    for _ in 0..4 {
        assert_eq!(client.get("/hello").await, (200, "one\n".into()));
    }
    assert_eq!(two.requests(), before);
    wire.mend();
    until(async || known(false).await).await;
    while two.requests() == before {
        assert_eq!(client.get("/hello").await.0, 200);
    }
    drop(client);
    let log = near.end().await;
    assert!(log.iter().all(|line| line["attempts"] == 1), "{log:#?}");
    drop(there);
    let of_gate = gate.end().await;
    let named = |line: &&serde_json::Value| line["requested_server_name"] == "probe.catamaran.dev";
    let refusals = of_gate.iter().filter(named);
    assert_eq!(refusals.count(), 0, "probes leave no line: {of_gate:#?}");
}

#[tokio::test]
async fn a_gateway_that_accepts_and_says_nothing_costs_no_get() {
    let trust = Trust::new();
    let one = hello("one").await;
    let here = callee(&trust, 1, "helloworld", one.address);
    let silent = TcpListener::bind((fleet::address(), 0)).await.unwrap();
    let near = caller(
        &trust,
        vec![
            through(silent.local_addr().unwrap(), 1),
            direct(here.inbound(), 1),
        ],
    );
    let mut client = Client::to(near.outbound()).await;
    for _ in 0..4 {
        let begun = Instant::now();
        assert_eq!(client.get("/hello").await, (200, "one\n".into()));
        assert!(
            begun.elapsed() < Duration::from_secs(3),
            "{:?}",
            begun.elapsed()
        );
    }
}

#[tokio::test]
async fn a_gateway_passes_nothing_but_the_names_it_knows() {
    let trust = Trust::new();
    let inside = TcpListener::bind((fleet::address(), 0)).await.unwrap();
    let gate = gateway(&trust, &[inside.local_addr().unwrap()]);
    let address = SocketAddr::new(gate.address, 15443);
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let hello = |name: &str, alpn: &[u8]| {
        let mut config = rustls::ClientConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(rustls::RootCertStore::empty())
            .with_no_client_auth();
        config.alpn_protocols = vec![alpn.to_vec()];
        let name = rustls::pki_types::ServerName::try_from(name.to_owned()).unwrap();
        let mut bytes = Vec::new();
        let mut client = rustls::ClientConnection::new(Arc::new(config), name).unwrap();
        client.write_tls(&mut bytes).unwrap();
        bytes
    };
    let known = hello(HELLO_SNI, b"istio-h2");
    let refused: Vec<(&str, Vec<u8>)> = vec![
        (
            "another name",
            hello(
                "outbound_.80_._.secret.default.svc.cluster.local",
                b"istio-h2",
            ),
        ),
        (
            "a name that only begins so",
            hello(&format!("{HELLO_SNI}.evil"), b"istio-h2"),
        ),
        ("no mesh protocol", hello(HELLO_SNI, b"h2")),
        ("an address for a name", hello("10.0.0.1", b"istio-h2")),
        (
            "plain HTTP",
            b"GET / HTTP/1.1\r\nhost: helloworld\r\n\r\n".to_vec(),
        ),
        ("garbage", vec![0x16, 3, 1, 0, 5, 2, 2, 2, 2, 2]),
        (
            "a huge claim",
            vec![0x16, 3, 1, 0x40, 0, 1, 0xff, 0xff, 0xff],
        ),
    ];
    for (what, bytes) in refused {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(&bytes).await.unwrap();
        let mut got = Vec::new();
        let _ = stream.read_to_end(&mut got).await;
        assert!(got.is_empty(), "{what}");
    }
    let mut stream = TcpStream::connect(address).await.unwrap();
    for byte in &known {
        stream.write_all(std::slice::from_ref(byte)).await.unwrap();
    }
    let (mut got, _) = inside.accept().await.unwrap();
    let mut bytes = vec![0; known.len()];
    got.read_exact(&mut bytes).await.unwrap();
    assert_eq!(
        bytes, known,
        "the one with the known name, and the first to arrive at all"
    );
    got.write_all(b"answer").await.unwrap();
    got.shutdown().await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    assert_eq!(answer, b"answer");
    stream.write_all(b"still open this way").await.unwrap();
    stream.shutdown().await.unwrap();
    let mut rest = Vec::new();
    got.read_to_end(&mut rest).await.unwrap();
    assert_eq!(rest, b"still open this way");
    let log = gate.end().await;
    assert_eq!(log.len(), 8);
    assert!(
        log.iter().filter(|line| line["attempts"] == 0).count() == 7,
        "{log:?}"
    );
}

#[tokio::test]
async fn draining_tells_callers_to_go_and_finishes_what_is_under_way() {
    let trust = Trust::new();
    let program = hello("v1").await;
    let far = callee(&trust, 1, "helloworld", program.address);
    let near = caller(&trust, vec![direct(far.inbound(), 1)]);
    let proxy = near.outbound();
    let mut idle = Client::to(proxy).await;
    assert_eq!(idle.get("/hello").await.0, 200);
    let mut busy = Client::to(proxy).await;
    let (mut sender, body) = futures_channel();
    let under_way = tokio::spawn(async move {
        let answer = busy.send(request("POST", "/echo", body)).await;
        let close = answer.headers().get("connection").cloned();
        (whole(answer).await, close)
    });
    sender.send(Bytes::from("begun, ")).await;
    while program.requests() < 2 {
        tokio::task::yield_now().await;
    }
    let ended = tokio::spawn(near.end());
    while TcpStream::connect(proxy).await.is_ok() {
        tokio::task::yield_now().await;
    }
    sender.send(Bytes::from("finished")).await;
    drop(sender);
    let ((status, text), _) = under_way.await.unwrap();
    assert_eq!((status, text.as_str()), (200, "begun, finished"));
    assert_eq!(ended.await.unwrap().len(), 2);
}

/// A body that is sent piece by piece.
struct Pieces(tokio::sync::mpsc::Sender<Bytes>);

impl Pieces {
    async fn send(&mut self, piece: Bytes) {
        self.0.send(piece).await.unwrap();
    }
}

fn futures_channel() -> (Pieces, programs::Body) {
    let (sender, mut receiver) = tokio::sync::mpsc::channel(1);
    let stream = futures_util::stream::poll_fn(move |cx| {
        receiver
            .poll_recv(cx)
            .map(|piece| piece.map(|piece| Ok::<_, hyper::Error>(http_body::Frame::data(piece))))
    });
    (
        Pieces(sender),
        BodyExt::boxed(http_body_util::StreamBody::new(stream)),
    )
}

#[tokio::test]
async fn sockets_follow_the_table_and_one_that_is_taken_hurts_no_other() {
    let trust = Trust::new();
    let program = hello("v1").await;
    let address = fleet::address();
    let taken = TcpListener::bind((address, PORT)).await.unwrap();
    let credentials = trust.credentials(1, "helloworld");
    let role = catamaran_proxy::carry::Role::Sidecar;
    let far = fleet::start(
        role,
        address,
        "helloworld",
        1,
        credentials,
        fleet::table(takes(program.address)),
    );
    let sockets = far.carrier.sockets();
    let states = sockets.states();
    assert!(
        matches!(states[&far.inbound()], SocketState::Failed(_)),
        "{states:?}"
    );
    assert_eq!(states[&far.outbound()], SocketState::Bound);
    drop(taken);
    while sockets.states()[&far.inbound()] != SocketState::Bound {
        tokio::task::yield_now().await;
    }
    far.tables.send(fleet::table(Default::default())).unwrap();
    while TcpStream::connect(far.inbound()).await.is_ok() {
        tokio::task::yield_now().await;
    }
    assert!(!sockets.states().contains_key(&far.inbound()));
    assert!(TcpStream::connect(far.outbound()).await.is_ok());
}

#[tokio::test]
async fn a_new_certificate_is_used_by_the_next_connection() {
    let trust = Trust::new();
    let program = hello("v1").await;
    let far = callee(&trust, 1, "helloworld", program.address);
    let wire = Wire::to(far.inbound()).await;
    let credentials = trust.credentials(1, "sleep");
    let changes = fleet::table(calls(&trust, vec![direct(wire.address, 1)]));
    let role = catamaran_proxy::carry::Role::Sidecar;
    let near = fleet::start(
        role,
        fleet::address(),
        "sleep",
        1,
        credentials.clone(),
        changes,
    );
    let mut client = Client::to(near.outbound()).await;
    for _ in 0..5 {
        assert_eq!(client.get("/hello").await.0, 200);
    }
    assert_eq!(wire.connections.load(Ordering::SeqCst), 1);
    let renewed = trust.credentials(1, "sleep").holding().unwrap();
    credentials.install((*renewed).clone());
    for _ in 0..5 {
        assert_eq!(client.get("/hello").await.0, 200);
    }
    assert_eq!(wire.connections.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn connections_to_a_gateway_are_renewed_without_a_lost_call() {
    let trust = Trust::new();
    let program = hello("v2").await;
    let far = callee(&trust, 2, "helloworld", program.address);
    let wire = Wire::to(far.inbound()).await;
    let near = caller(&trust, vec![through(wire.address, 1)]);
    let mut client = Client::to(near.outbound()).await;
    while wire.connections.load(Ordering::SeqCst) < 5 {
        assert_eq!(client.get("/hello").await, (200, "v2\n".into()));
    }
}

#[tokio::test]
async fn requests_with_two_lengths_or_none_that_holds_reach_nobody() {
    let trust = Trust::new();
    let program = hello("v1").await;
    let far = callee(&trust, 1, "helloworld", program.address);
    let near = caller(&trust, vec![direct(far.inbound(), 1)]);
    let refused = [
        "POST / HTTP/1.1\r\nHost: helloworld:5000\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
        "POST / HTTP/1.1\r\nHost: helloworld:5000\r\nContent-Length: -1\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: helloworld:5000\r\nTransfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: helloworld:5000\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: helloworld:5000\r\nHost: other\r\n\r\n",
        "GET / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: helloworld:5000\r\n folded: x\r\n\r\n",
    ];
    for bytes in refused {
        let mut stream = TcpStream::connect(near.outbound()).await.unwrap();
        stream.write_all(bytes.as_bytes()).await.unwrap();
        let mut got = [0; 12];
        let _ = stream.read_exact(&mut got).await;
        assert_eq!(std::str::from_utf8(&got), Ok("HTTP/1.1 400"), "{bytes:?}");
    }
    let mut stream = TcpStream::connect(near.outbound()).await.unwrap();
    stream
        .write_all(b"CONNECT helloworld:5000 HTTP/1.1\r\nHost: helloworld:5000\r\n\r\n")
        .await
        .unwrap();
    let mut got = [0; 12];
    stream.read_exact(&mut got).await.unwrap();
    assert_eq!(&got, b"HTTP/1.1 405");
    assert_eq!(program.requests(), 0);
}

/// Reads one answer with a length from a connection that stays open.
async fn answer(stream: &mut TcpStream) -> String {
    let mut read = Vec::new();
    let wait = async {
        loop {
            let text = String::from_utf8_lossy(&read).into_owned();
            if let Some((head, body)) = text.split_once("\r\n\r\n") {
                let head = head.to_ascii_lowercase();
                let (_, length) = head.split_once("content-length: ").expect("a length");
                let length: usize = length.lines().next().unwrap().parse().unwrap();
                if body.len() >= length {
                    return text;
                }
            }
            assert_ne!(stream.read_buf(&mut read).await.unwrap(), 0, "{text}");
        }
    };
    let answer = tokio::time::timeout(Duration::from_secs(30), wait).await;
    answer.expect("half a minute is enough")
}

/// Whether the silences are long enough for the connection to be at rest is up to the machine; what is noticed is not.
#[tokio::test]
async fn a_silent_connection_goes_on_where_it_was() {
    let trust = Trust::new();
    let program = hello("v1").await;
    let far = callee(&trust, 1, "helloworld", program.address);
    let near = caller(&trust, vec![direct(far.inbound(), 1)]);
    let mut stream = TcpStream::connect(near.outbound()).await.unwrap();
    let silence = || tokio::time::sleep(Duration::from_millis(700));
    let ask = b"GET /hello HTTP/1.1\r\nHost: helloworld:5000\r\n\r\n";

    for _ in 0..2 {
        stream.write_all(ask).await.unwrap();
        assert!(answer(&mut stream).await.ends_with("v1\n"));
        silence().await;
    }
    // a request that comes in two pieces
    let (begin, rest) = ask.split_at(9);
    stream.write_all(begin).await.unwrap();
    silence().await;
    stream.write_all(rest).await.unwrap();
    assert!(answer(&mut stream).await.ends_with("v1\n"));
    // a body that looks like a request and comes late
    let post = |path: &str| {
        let length = ask.len();
        format!("POST {path} HTTP/1.1\r\nHost: helloworld:5000\r\nContent-Length: {length}\r\n\r\n")
    };
    stream.write_all(post("/echo").as_bytes()).await.unwrap();
    silence().await;
    stream.write_all(ask).await.unwrap();
    let echo = answer(&mut stream).await;
    assert!(echo.ends_with("Host: helloworld:5000\r\n\r\n"), "{echo}");
    // the same after an answer that did not wait for it
    stream.write_all(post("/hello").as_bytes()).await.unwrap();
    assert!(answer(&mut stream).await.ends_with("v1\n"));
    silence().await;
    let _ = stream.write_all(ask).await;
    let mut read = Vec::new();
    let end = tokio::time::timeout(Duration::from_secs(30), stream.read_to_end(&mut read)).await;
    assert!(end.is_ok(), "such a connection is closed");
    assert_eq!(read, b"", "the body was taken for a request");
}
