use catamaran_wire::Any;
use catamaran_wire::cluster::Cluster;
use catamaran_wire::discovery::Resource as WireResource;

use super::*;

fn clusters(resources: Vec<WireResource>) -> ClientInput {
    ClientInput::Response(DeltaDiscoveryResponse {
        type_url: TypeUrlKind::Cluster.url().into(),
        nonce: "1".into(),
        resources,
        ..Default::default()
    })
}

fn sent(name: &str, body: Option<Any>) -> WireResource {
    WireResource {
        name: name.into(),
        resource: body,
        ..Default::default()
    }
}

fn connected() -> ClientSession {
    let node = Node {
        id: "sidecar~10.0.0.1~a.b~b.svc.cluster.local".into(),
        ..Node::default()
    };
    let mut session = ClientSession::new(node);
    let requests = session.step(ClientInput::Connected).requests;
    let with_node = requests.iter().filter(|request| request.node.is_some());
    assert_eq!(with_node.count(), 1, "the node goes with the first request");
    session
}

#[test]
fn what_is_not_of_the_kind_of_its_response_is_refused_by_name() {
    let mut session = connected();
    let good = Any::pack(&Cluster::default());
    let other = Any {
        type_url: TypeUrlKind::Route.url().into(),
        ..Any::default()
    };
    let resources = vec![
        sent("a", Some(good)),
        sent("b", Some(other)),
        sent("c", None),
    ];
    assert!(session.step(clusters(resources)).judge);
    let ticket = session.candidate().ticket;
    let unusable = Vec::new();
    let out = session.step(ClientInput::Judged { ticket, unusable });
    let error = out.requests[0].error_detail.as_ref().unwrap();
    let named = nack::read(TypeUrlKind::Cluster, &error.message).unwrap();
    let names: Vec<&str> = named.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["b", "c"]);
    assert!(session.held().get(TypeUrlKind::Cluster, "a").is_some());
}

#[test]
fn nothing_is_answered_before_it_was_judged() {
    let mut session = connected();
    let out = session.step(clusters(vec![sent(
        "a",
        Some(Any::pack(&Cluster::default())),
    )]));
    assert!(out.requests.is_empty() && !out.changed);
    assert!(session.held().is_empty());
    assert_eq!(session.candidate().set.len(), 1);
}

#[test]
fn a_lost_stream_takes_nothing_away() {
    let mut session = connected();
    session.step(clusters(vec![sent(
        "a",
        Some(Any::pack(&Cluster::default())),
    )]));
    let ticket = session.candidate().ticket;
    session.step(ClientInput::Judged {
        ticket,
        unusable: Vec::new(),
    });
    session.step(ClientInput::Disconnected);
    assert_eq!(session.held().len(), 1);
    let again = session.step(ClientInput::Connected).requests;
    let of_clusters = again
        .iter()
        .find(|asked| asked.type_url == TypeUrlKind::Cluster.url());
    assert_eq!(of_clusters.unwrap().initial_resource_versions.len(), 1);
}

#[test]
fn a_type_that_was_not_asked_for_is_passed_over() {
    let mut session = connected();
    let out = session.step(ClientInput::Response(DeltaDiscoveryResponse {
        type_url: "type.googleapis.com/x".into(),
        ..Default::default()
    }));
    assert!(!out.judge && out.requests.is_empty());
}
