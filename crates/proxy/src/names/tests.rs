use catamaran_wire::names::NameInfo;
use hickory_proto::rr::Name;

use super::*;

fn table() -> NameTable {
    let info = |ips: &[&str]| NameInfo {
        ips: ips.iter().map(|ip| ip.to_string()).collect(),
        ..NameInfo::default()
    };
    NameTable {
        table: [
            (
                "helloworld.default.svc.cluster.local".into(),
                info(&["10.96.0.1"]),
            ),
            (
                "other.elsewhere.svc.cluster.local".into(),
                info(&["10.96.0.2", "fd00::2"]),
            ),
            (
                "many.default.svc.cluster.local".into(),
                NameInfo {
                    ips: (0..100).map(|at| format!("10.0.0.{at}")).collect(),
                    ..NameInfo::default()
                },
            ),
        ]
        .into(),
    }
}

fn scope() -> Scope {
    Scope {
        namespace: Namespace::new("default").unwrap(),
        domain: ClusterDomain::default(),
    }
}

fn question(name: &str, kind: RecordType) -> Message {
    let mut question = Message::query();
    question.metadata.recursion_desired = true;
    question.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
    // As its receiver reads it: every name on the wire is whole.
    Message::from_vec(&question.to_vec().unwrap()).unwrap()
}

fn addresses(answer: &Message) -> Vec<String> {
    answer
        .answers
        .iter()
        .map(|record| record.data.to_string())
        .collect()
}

/// A name server on loopback, and its address.
async fn serve(resolvers: Vec<SocketAddr>) -> SocketAddr {
    let names = watch::Sender::new(Arc::new(Names::new(&table()).unwrap()));
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let server = NameServer::bind(any, names.subscribe(), scope(), resolvers)
        .await
        .unwrap();
    let address = server.address();
    tokio::spawn(server.serve());
    address
}

async fn over_udp(server: SocketAddr, question: &Message) -> Message {
    let reply = ask_udp(server, &question.to_vec().unwrap(), question)
        .await
        .unwrap();
    Message::from_vec(&reply).unwrap()
}

async fn over_tcp(server: SocketAddr, question: &Message) -> Message {
    let mut stream = TcpStream::connect(server).await.unwrap();
    write_framed(&mut stream, &question.to_vec().unwrap())
        .await
        .unwrap();
    Message::from_vec(&read_framed(&mut stream).await.unwrap()).unwrap()
}

#[tokio::test]
async fn names_of_the_mesh_are_answered_whole_and_short_over_both_transports() {
    let server = serve(Vec::new()).await;
    for (name, address) in [
        ("helloworld.default.svc.cluster.local.", "10.96.0.1"),
        ("HelloWorld.Default.svc.cluster.local", "10.96.0.1"),
        ("helloworld.default.svc", "10.96.0.1"),
        ("helloworld.default", "10.96.0.1"),
        ("helloworld", "10.96.0.1"),
        ("other.elsewhere", "10.96.0.2"),
    ] {
        let asked = question(name, RecordType::A);
        let by_udp = over_udp(server, &asked).await;
        assert_eq!(addresses(&by_udp), [address], "{name}");
        assert_eq!(by_udp.answers[0].ttl, TTL);
        assert_eq!(
            addresses(&over_tcp(server, &asked).await),
            [address],
            "{name}"
        );
    }
}

#[tokio::test]
async fn a_known_name_has_nothing_else() {
    let server = serve(Vec::new()).await;
    for kind in [RecordType::AAAA, RecordType::TXT] {
        let answer = over_udp(server, &question("helloworld", kind)).await;
        assert_eq!(
            answer.metadata.response_code,
            ResponseCode::NoError,
            "{kind}"
        );
        assert_eq!(addresses(&answer), Vec::<String>::new());
    }
    let both = over_udp(server, &question("other.elsewhere", RecordType::AAAA)).await;
    assert_eq!(addresses(&both), ["fd00::2"]);
}

#[tokio::test]
async fn without_resolvers_an_unknown_name_is_none() {
    let server = serve(Vec::new()).await;
    for name in ["other", "example.com"] {
        let answer = over_udp(server, &question(name, RecordType::A)).await;
        assert_eq!(
            answer.metadata.response_code,
            ResponseCode::NXDomain,
            "{name}"
        );
    }
}

#[tokio::test]
async fn other_names_are_asked_of_the_next_resolver_that_answers() {
    let deaf = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let closed = deaf.local_addr().unwrap();
    drop(deaf);
    let upstream = serve(Vec::new()).await;
    let server = serve(vec![closed, upstream]).await;
    // The upstream knows no such name either; that it was asked is seen by its answer.
    let asked = question("example.com", RecordType::A);
    let answer = over_udp(server, &asked).await;
    assert_eq!(answer.metadata.response_code, ResponseCode::NXDomain);
    assert_eq!(
        over_tcp(server, &asked).await.metadata.response_code,
        ResponseCode::NXDomain
    );

    let alone = serve(vec![closed]).await;
    let answer = over_udp(alone, &asked).await;
    assert_eq!(
        answer.metadata.response_code,
        ResponseCode::ServFail,
        "nobody could say"
    );
}

#[tokio::test]
async fn what_is_too_long_for_udp_is_cut_and_whole_over_tcp() {
    let server = serve(Vec::new()).await;
    let asked = question("many", RecordType::A);
    let cut = over_udp(server, &asked).await;
    assert!(cut.metadata.truncation);
    assert_eq!(addresses(&over_tcp(server, &asked).await).len(), 100);
}

#[test]
fn addresses_take_turns() {
    let names = Names::new(&table()).unwrap();
    let asked = question("many", RecordType::A).to_vec().unwrap();
    let mut firsts = std::collections::BTreeSet::new();
    for _ in 0..100 {
        let Verdict::Answer(answer, _) = judge(&asked, &names, &scope()) else {
            panic!("a known name")
        };
        firsts.insert(addresses(&answer)[0].clone());
    }
    assert_eq!(firsts.len(), 100);
}

#[test]
fn what_is_no_question_is_not_answered() {
    let names = Names::new(&table()).unwrap();
    let mut reply = question("helloworld", RecordType::A);
    reply.metadata.message_type = MessageType::Response;
    let bytes = question("helloworld", RecordType::A).to_vec().unwrap();
    for bytes in [
        b"".to_vec(),
        b"junk".to_vec(),
        bytes[..bytes.len() - 1].to_vec(),
        reply.to_vec().unwrap(),
    ] {
        assert!(
            matches!(judge(&bytes, &names, &scope()), Verdict::Drop),
            "{bytes:?}"
        );
    }
}

#[test]
fn a_table_with_an_address_that_is_none_is_refused() {
    let mut table = table();
    table
        .table
        .get_mut("many.default.svc.cluster.local")
        .unwrap()
        .ips[3] = "10.0.0".into();
    let error = Names::new(&table).unwrap_err();
    assert!(
        error.contains("many.default") && error.contains("10.0.0"),
        "{error}"
    );
}

#[test]
fn before_anybody_told_of_the_mesh_no_name_of_it_is_denied() {
    let nothing = Names::default();
    let code = |names: &Names, name: &str| {
        let bytes = question(name, RecordType::A).to_vec().unwrap();
        match judge(&bytes, names, &scope()) {
            Verdict::Answer(answer, _) => Some(answer.metadata.response_code),
            Verdict::Ask(_) => None,
            Verdict::Drop => panic!("{name} is a question"),
        }
    };
    for name in [
        "helloworld.",
        "helloworld.default.svc.",
        "helloworld.default.svc.CLUSTER.local.",
    ] {
        assert_eq!(code(&nothing, name), Some(ResponseCode::ServFail), "{name}");
    }
    for name in ["example.com.", "xcluster.local."] {
        assert_eq!(code(&nothing, name), None, "{name} is for a resolver");
    }
    let told = Names::new(&NameTable::default()).unwrap();
    assert_eq!(
        code(&told, "helloworld."),
        None,
        "now it is known to be none"
    );
}
