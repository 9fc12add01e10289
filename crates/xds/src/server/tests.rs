use catamaran_wire::cluster::Cluster;
use catamaran_wire::discovery::DeltaDiscoveryResponse;

use super::*;

fn cluster(name: &str, content: &str) -> Arc<Resource> {
    let message = Cluster {
        name: name.into(),
        alt_stat_name: content.into(),
        ..Cluster::default()
    };
    Arc::new(Resource::new(TypeUrlKind::Cluster, name, &message))
}

fn set(content: &str) -> Arc<ResourceSet> {
    let clusters = ["a", "b", "c"].map(|name| cluster(name, content));
    Arc::new(clusters.into_iter().collect())
}

fn ask(nonce: &str) -> Input {
    Input::Delta(DeltaDiscoveryRequest {
        type_url: TypeUrlKind::Cluster.url().into(),
        response_nonce: nonce.into(),
        ..Default::default()
    })
}

fn renew(set: Arc<ResourceSet>) -> Input {
    Input::Current(Current {
        set,
        changed: Changed::Unknown,
        revision: "r2".into(),
    })
}

fn only(out: Outputs) -> DeltaDiscoveryResponse {
    match &out.responses[..] {
        [response] => response.deltas().unwrap(),
        other => panic!("one response was due: {other:?}"),
    }
}

fn session(current: Arc<ResourceSet>) -> ServerSession {
    ServerSession::new(
        Protocol::Delta,
        Peer::Catamaran,
        "mesh-1",
        current,
        "r1".into(),
    )
}

#[test]
fn a_client_in_sync_costs_a_pointer() {
    let mut session = session(set("1"));
    let first = only(session.step(ask(""), Timestamp(0)));
    session.step(ask(&first.nonce), Timestamp(1));
    let second = only(session.step(renew(set("2")), Timestamp(2)));
    assert_eq!(session.kinds[&TypeUrlKind::Cluster].holding.exceptions(), 3);
    session.step(ask(&second.nonce), Timestamp(3));
    assert!(session.is_in_sync());
    assert_eq!(session.kinds[&TypeUrlKind::Cluster].holding.exceptions(), 0);
}

#[test]
fn all_sessions_send_the_very_bytes_that_a_resource_was_encoded_to_once() {
    let current = set("1");
    let held = current.get(TypeUrlKind::Cluster, "a").unwrap();
    let encoded = held.in_deltas().as_ptr_range();
    assert!(
        encoded.contains(&held.bytes.as_ptr()),
        "the body is a part of it"
    );
    assert!(encoded.contains(&held.in_full().as_ptr()));
    for _ in 0..2 {
        let mut session = session(current.clone());
        let out = session.step(ask(""), Timestamp(0));
        let sent = &out.responses[0].resources()[0];
        assert_eq!(sent.in_deltas().as_ptr(), encoded.start);
        let response = only(out);
        assert_eq!(response.resources[0].resource, Some(held.any()));
        assert_eq!(response.system_version_info, "r1");
        assert_eq!(response.control_plane.unwrap().identifier, "mesh-1");
    }
}

/// What a session holds of its own grows neither with what there is nor with what was asked for.
#[test]
fn a_session_in_sync_holds_little_however_much_there_is() {
    let held = |services: usize| {
        let name = |n: usize| format!("outbound|80||service-{n}.default.svc.cluster.local");
        let current: ResourceSet = (0..services).map(|n| cluster(&name(n), "1")).collect();
        let current = Arc::new(current);
        let names: Arc<Names> = Arc::new((0..services).map(|n| name(n).into()).collect());
        let mut session = session(current);
        let all = Input::Delta(DeltaDiscoveryRequest {
            type_url: TypeUrlKind::Cluster.url().into(),
            resource_names_subscribe: names.iter().map(|name| name.to_string()).collect(),
            ..Default::default()
        });
        let mut out = session.step(all, Timestamp(0));
        let busy = session.footprint();
        while let [response] = &out.responses[..] {
            let nonce = response.deltas().unwrap().nonce;
            out = session.step(ask(&nonce), Timestamp(1));
        }
        session.share_names(TypeUrlKind::Cluster, &names);
        assert!(session.is_in_sync());
        assert!(busy > session.footprint() + 100 * services, "{busy}");
        session.footprint()
    };
    assert_eq!(held(10), held(2_000));
    assert!(held(10) < 2_000, "{} bytes", held(10));
}

#[test]
fn what_changes_while_a_response_is_under_way_is_sent_once_and_in_its_latest_form() {
    let mut session = session(set("1"));
    let first = only(session.step(ask(""), Timestamp(0)));
    for content in ["2", "3", "4"] {
        let out = session.step(renew(set(content)), Timestamp(1));
        assert_eq!(out.responses, []);
    }
    let second = only(session.step(ask(&first.nonce), Timestamp(2)));
    let body = second.resources[0].resource.clone().unwrap();
    assert_eq!(body.unpack::<Cluster>().unwrap().alt_stat_name, "4");
}

#[test]
fn an_answer_to_an_older_response_is_none() {
    let mut session = session(set("1"));
    only(session.step(ask(""), Timestamp(0)));
    let out = session.step(ask("0"), Timestamp(1));
    assert_eq!(out.events, []);
    assert!(!session.is_in_sync());
}

#[test]
fn the_time_to_an_answer_is_told() {
    let mut session = session(set("1"));
    let first = only(session.step(ask(""), Timestamp(1_000)));
    let out = session.step(ask(&first.nonce), Timestamp(1_250));
    let accepted = Event::Accepted {
        kind: TypeUrlKind::Cluster,
        count: 3,
        after: Duration::from_millis(250),
    };
    assert_eq!(out.events, [accepted]);
    let status: Vec<KindStatus> = session.status().collect();
    assert_eq!(status[0].accepted_at, Some(Timestamp(1_250)));
    assert_eq!((status[0].pending, status[0].unanswered_since), (0, None));
}

#[test]
fn names_may_be_asked_for_and_dropped() {
    let mut session = session(set("1"));
    let change = |subscribe: &[&str], unsubscribe: &[&str]| {
        Input::Delta(DeltaDiscoveryRequest {
            type_url: TypeUrlKind::Cluster.url().into(),
            resource_names_subscribe: subscribe.iter().map(|name| name.to_string()).collect(),
            resource_names_unsubscribe: unsubscribe.iter().map(|name| name.to_string()).collect(),
            ..Default::default()
        })
    };
    let names = |response: &DeltaDiscoveryResponse| -> Vec<String> {
        response
            .resources
            .iter()
            .map(|sent| sent.name.clone())
            .collect()
    };
    let first = only(session.step(change(&["a"], &[]), Timestamp(0)));
    assert_eq!(names(&first), ["a"]);
    session.step(ask(&first.nonce), Timestamp(1));
    let second = only(session.step(change(&["*"], &[]), Timestamp(2)));
    assert_eq!(names(&second), ["b", "c"], "a is held already");
    session.step(ask(&second.nonce), Timestamp(3));
    session.step(change(&[], &["*"]), Timestamp(4));
    let third = only(session.step(renew(set("2")), Timestamp(5)));
    assert_eq!(names(&third), ["a"]);
    session.step(ask(&third.nonce), Timestamp(6));
    let again = only(session.step(change(&["a"], &[]), Timestamp(7)));
    assert_eq!(names(&again), ["a"], "one that asks again has lost it");
}

/// A client that answers a response of clusters when it has their endpoints, as an Envoy does, gets them although more clusters
/// wait for that answer: here, the other half of a response that was refused without a name.
#[test]
fn endpoints_that_an_envoy_asks_for_do_not_wait_for_what_waits_for_its_answer() {
    let endpoints = |name: &str| {
        Arc::new(Resource::from_bytes(
            TypeUrlKind::Endpoints,
            name,
            Default::default(),
        ))
    };
    let names = ["a", "b", "c", "d"];
    let current: ResourceSet = names
        .iter()
        .flat_map(|name| [cluster(name, "1"), endpoints(name)])
        .collect();
    for protocol in [Protocol::Delta, Protocol::StateOfTheWorld] {
        let current = Arc::new(current.clone());
        let mut session = ServerSession::new(protocol, Peer::Envoy, "mesh-1", current, "r1".into());
        let mut say = |kind: TypeUrlKind, names: &[&str], nonce: &str, refuse: bool| {
            let names = names.iter().map(|name| (*name).to_owned()).collect();
            let type_url = kind.url().into();
            let response_nonce = nonce.into();
            let error_detail = refuse.then(|| Status {
                message: "bad".into(),
                ..Status::default()
            });
            let input = match protocol {
                Protocol::Delta => Input::Delta(DeltaDiscoveryRequest {
                    type_url,
                    resource_names_subscribe: names,
                    response_nonce,
                    error_detail,
                    ..Default::default()
                }),
                Protocol::StateOfTheWorld => Input::Full(DiscoveryRequest {
                    type_url,
                    resource_names: names,
                    response_nonce,
                    error_detail,
                    ..Default::default()
                }),
            };
            let out = session.step(input, Timestamp(1));
            let sent = out.responses.into_iter().map(|response| match protocol {
                Protocol::Delta => {
                    let sent = response.deltas().unwrap();
                    (sent.type_url, sent.nonce, sent.resources.len())
                }
                Protocol::StateOfTheWorld => {
                    let sent = response.full().unwrap();
                    (sent.type_url, sent.nonce, sent.resources.len())
                }
            });
            sent.collect::<Vec<_>>()
        };
        let clusters = TypeUrlKind::Cluster;
        let all = say(clusters, &[], "", false);
        let half = say(clusters, &[], &all[0].1, true);
        assert_eq!((half.len(), half[0].2), (1, 2), "{protocol:?}");
        let told = say(TypeUrlKind::Endpoints, &["a", "b"], "", false);
        let url = TypeUrlKind::Endpoints.url().to_owned();
        assert_eq!(told, [(url, "3".to_owned(), 2)], "{protocol:?}");
        let rest = say(clusters, &[], &half[0].1, false);
        assert_eq!(rest[0].0, clusters.url(), "{protocol:?}");
    }
}
