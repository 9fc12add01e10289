//! Our own proxy takes everything that it is told, and calls go where they should.

use catamaran_decide::{
    Arrival, Attempt, Changes, Connection, Decision, Detected, Entry, Request, Table, Transport,
    View, decide,
};
use catamaran_model::{MtlsMode, Timestamp};
use catamaran_xds::TypeUrlKind;

use crate::fixture::*;
use crate::{Audience, Capture, translate};

const CALLER: &str = "spiffe://cluster.local/ns/default/sa/sleep";
const MESH: &[&[u8]] = &[b"istio-h2", b"istio-http/1.1", b"istio"];

/// A proxy with what it was told; nothing may be refused or missing.
struct Told(Table);

impl Told {
    fn to(audience: &Audience, world: &World) -> Told {
        let mut changes = Changes::default();
        let resources = translate(&world.snapshot, audience).0;
        for resource in resources.iter().filter(|r| r.kind != TypeUrlKind::Names) {
            changes.add(&resource.name, &resource.any()).unwrap();
        }
        let (table, refusals) = Table::build(changes);
        let refusals: Vec<String> = refusals.iter().map(ToString::to_string).collect();
        assert_eq!(refusals, [""; 0]);
        assert!(table.missing().is_empty(), "{:?}", table.missing());
        Told(table)
    }

    /// The ways of two calls in a row, sorted: address, what is spoken, how.
    fn call(&self, entry: Entry, detected: Detected<'_>, authority: Option<&str>) -> Vec<String> {
        let mut view = View::new(1);
        view.adopt(&self.0);
        let mut way = |ticket| {
            let connection = Connection {
                entry,
                source: None,
                detected,
            };
            let request = authority.map(|authority| Request {
                method: "GET",
                authority,
                path: "/hello",
                headers: &(),
            });
            let peer = matches!(detected, Detected::Tls { .. }).then_some(CALLER);
            let attempt = Attempt {
                peer,
                request,
                tried: &[],
                ticket,
            };
            let arrival = Arrival {
                connection,
                attempt,
            };
            match decide(&self.0, &view, &arrival, Timestamp(1)) {
                Decision::Forward(forward) => {
                    view.begin(&forward);
                    let transport = match &forward.transport {
                        Transport::Plain => "plain".to_owned(),
                        Transport::Mutual(tls) => format!("mTLS as {}", tls.sni),
                    };
                    let (at, via) = (forward.endpoint.address, forward.via);
                    format!("{at} {via:?} {:?} {transport}", forward.protocol)
                }
                Decision::Respond(respond) => format!("{}", respond.status),
                Decision::Reject(reject) => format!("{} {}", reject.status, reject.cause),
            }
        };
        let mut ways = vec![way(0), way(1)];
        ways.sort();
        ways.dedup();
        ways
    }

    fn outbound(&self, to: &str, detected: Detected<'_>, authority: Option<&str>) -> Vec<String> {
        let destination = to.parse().unwrap();
        self.call(Entry::Outbound { destination }, detected, authority)
    }

    fn inbound(&self, to: &str, detected: Detected<'_>, authority: Option<&str>) -> Vec<String> {
        let destination = to.parse().unwrap();
        self.call(Entry::Inbound { destination }, detected, authority)
    }
}

fn both_versions() -> [&'static str; 2] {
    [
        "10.1.1.7:5000 Direct Negotiated mTLS as outbound_.5000_._.helloworld.default.svc.cluster.local",
        "198.18.2.10:15443 Gateway Negotiated mTLS as outbound_.5000_._.helloworld.default.svc.cluster.local",
    ]
}

#[test]
fn a_captured_call_reaches_both_versions() {
    let sleep = Told::to(&sleep("cluster-1", Some("network1")), &five_steps());
    let ways = sleep.outbound("10.96.0.3:5000", Detected::Http1, Some("helloworld:5000"));
    assert_eq!(ways, both_versions());
    assert_eq!(
        sleep.outbound("203.0.113.1:443", Detected::Opaque, None),
        ["203.0.113.1:443 Direct Opaque plain"]
    );
}

#[test]
fn a_call_through_the_proxy_port_reaches_both_versions() {
    let explicit = Audience {
        capture: Capture::Explicit,
        ..sleep("cluster-1", Some("network1"))
    };
    let sleep = Told::to(&explicit, &five_steps());
    let call =
        |port, authority| sleep.call(Entry::HttpProxy { port }, Detected::Http1, Some(authority));
    assert_eq!(call(5000, "helloworld:5000"), both_versions());
    assert_eq!(
        call(5000, "example.com:5000"),
        ["503 no endpoint may be used"]
    );
}

#[test]
fn each_side_of_a_call_speaks_what_the_port_says() {
    let world = protocols().mesh(|mesh| mesh.mtls = MtlsMode::Permissive);
    let app = Told::to(&sidecar("cluster-1", None, "default", "app"), &world);
    let bytes = |port: u16| app.outbound(&format!("10.96.0.7:{port}"), Detected::Opaque, None);
    let sni = |port: u16| format!("outbound_.{port}_._.app.default.svc.cluster.local");
    assert_eq!(
        bytes(82),
        [format!("10.1.1.9:82 Direct Opaque mTLS as {}", sni(82))]
    );
    assert_eq!(
        bytes(84),
        [format!("10.1.1.9:84 Direct Opaque mTLS as {}", sni(84))]
    );
    assert_eq!(
        app.outbound("10.96.0.7:84", Detected::Http2, Some("app:84")),
        [format!(
            "10.1.1.9:84 Direct AsDownstream mTLS as {}",
            sni(84)
        )]
    );

    let tls = |alpn| Detected::Tls { sni: None, alpn };
    let inbound = |port: u16, detected, authority| {
        app.inbound(&format!("10.1.1.9:{port}"), detected, authority)
    };
    assert_eq!(
        inbound(80, tls(MESH), Some("app")),
        ["127.0.0.1:80 Direct Http1 plain"]
    );
    assert_eq!(
        inbound(81, tls(MESH), Some("app")),
        ["127.0.0.1:81 Direct Http2 plain"]
    );
    assert_eq!(
        inbound(84, tls(MESH), Some("app")),
        ["127.0.0.1:84 Direct AsDownstream plain"]
    );
    assert_eq!(
        inbound(84, tls(&[b"istio"]), None),
        ["127.0.0.1:84 Direct Opaque plain"]
    );
    assert_eq!(
        inbound(84, Detected::Http1, Some("app")),
        ["127.0.0.1:84 Direct AsDownstream plain"]
    );
    assert_eq!(
        inbound(84, Detected::Opaque, None),
        ["127.0.0.1:84 Direct Opaque plain"]
    );
    assert_eq!(
        inbound(80, tls(&[b"h2"]), None),
        ["127.0.0.1:80 Direct Opaque plain"]
    );
}

#[test]
fn a_strict_workload_refuses_plain_text_and_ports_that_nobody_named() {
    let pod = sidecar("cluster-1", Some("network1"), "default", "helloworld-v1");
    let pod = Told::to(&pod, &five_steps());
    let closed = ["404 no filter chain takes such a connection"];
    assert_eq!(
        pod.inbound("10.1.1.7:5000", Detected::Http1, Some("helloworld")),
        closed
    );
    let mesh = Detected::Tls {
        sni: None,
        alpn: MESH,
    };
    assert_eq!(
        pod.inbound("10.1.1.7:9999", mesh, Some("helloworld")),
        closed
    );
    assert_eq!(
        pod.inbound("10.1.1.7:5000", mesh, Some("helloworld")),
        ["127.0.0.1:5000 Direct Http1 plain"]
    );
}

#[test]
fn a_gateway_opens_nothing_and_knows_only_what_is_exported() {
    let gateway = Told::to(&gateway("cluster-1", Some("network1")), &five_steps());
    let local = "198.18.1.10:15443".parse().unwrap();
    let call = |sni, alpn| {
        let detected = Detected::Tls {
            sni: Some(sni),
            alpn,
        };
        gateway.call(Entry::Gateway { local }, detected, None)
    };
    assert_eq!(call(SNI, MESH), ["10.1.1.7:5000 Direct Opaque plain"]);
    let closed = ["404 no filter chain takes such a connection"];
    assert_eq!(
        call(
            "outbound_.5001_._.helloworld.default.svc.cluster.local",
            MESH
        ),
        closed
    );
    assert_eq!(call(SNI, &[b"h2"]), closed);
}
