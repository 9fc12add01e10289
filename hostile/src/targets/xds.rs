//! The configuration as it comes from a control plane, and what a control plane hears from a proxy.

use std::sync::{Arc, OnceLock};

use catamaran_decide::{
    Arrival, Attempt, Changes, Connection, Detected, Entry, Kind, Request, Table, View, decide,
};
use catamaran_model::Timestamp;
use catamaran_proxy::fuzzing;
use catamaran_wire::discovery::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, Resource as WireResource,
};
use catamaran_wire::well_known::Status;
use catamaran_wire::{Message, core::Node};
use catamaran_xds::{
    Changed, ClientInput, ClientSession, Current, Input, Peer, Protocol, Resource, ResourceKey,
    ResourceSet, ServerSession, TypeUrlKind, Unusable,
};

use super::Target;
use crate::fleet::{self, HELLO, Trust};

/// What a proxy does with responses.
pub(crate) const APPLY: Target = Target {
    name: "xds-apply",
    what: "of any responses what is accepted can be used: a table made of all of it anew refuses nothing, and decides",
    run: apply,
    seeds: responses,
    words: WORDS,
    cases: 3_000,
};

/// What a control plane does with requests.
pub(crate) const SERVE: Target = Target {
    name: "xds-serve",
    what: "whatever a client asks, one response of a kind is under way at most, and it ends or it is served",
    run: serve,
    seeds: requests,
    words: WORDS,
    cases: 5_000,
};

const WORDS: &[&[u8]] = &[
    b"type.googleapis.com/envoy.config.cluster.v3.Cluster",
    b"type.googleapis.com/envoy.config.listener.v3.Listener",
    b"type.googleapis.com/envoy.config.route.v3.RouteConfiguration",
    b"type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment",
    b"\x0a\x01*",
    b"\x1a\x01*",
    b"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
    b"\xff\xff\xff\xff\x0f",
    b"\x08\x00",
    b"0.0.0.0",
    b"::",
];

/// A message at the beginning of `bytes`, its length before it.
fn message<M: Message + Default>(bytes: &mut &[u8]) -> Option<M> {
    M::decode_length_delimited(bytes).ok()
}

/// Builds as a proxy does: what is refused keeps what was there.
#[derive(Default)]
struct Proxy {
    table: Table,
    built: ResourceSet,
}

impl Proxy {
    fn build(&mut self, wanted: &ResourceSet) -> Vec<Unusable> {
        let (mut changes, mut unusable) = (Changes::default(), Vec::new());
        for kind in TypeUrlKind::ALL {
            for name in self.built.differences(wanted, kind) {
                let key = ResourceKey::new(kind, name);
                if let Err(reason) = add(&mut changes, &key, wanted.get(kind, &key.name)) {
                    unusable.push(Unusable { key, reason });
                }
            }
        }
        let (table, refusals) = self.table.update(changes);
        self.table = table;
        unusable.extend(refusals.into_iter().map(|refusal| {
            assert!(!refusal.reason.is_empty(), "a refusal says why");
            Unusable {
                key: ResourceKey::new(resource_kind(refusal.kind), refusal.name),
                reason: refusal.reason,
            }
        }));
        self.built = wanted.clone();
        for key in unusable.iter().map(|unusable| &unusable.key) {
            self.built.remove(key.kind, &key.name);
        }
        unusable
    }
}

fn kind_of(kind: TypeUrlKind) -> Option<Kind> {
    Some(match kind {
        TypeUrlKind::Issuers => Kind::Issuers,
        TypeUrlKind::Cluster => Kind::Cluster,
        TypeUrlKind::Endpoints => Kind::Assignment,
        TypeUrlKind::Listener => Kind::Listener,
        TypeUrlKind::Route => Kind::Route,
        TypeUrlKind::Names => return None,
    })
}

fn resource_kind(kind: Kind) -> TypeUrlKind {
    let mut all = TypeUrlKind::ALL.into_iter();
    all.find(|one| kind_of(*one) == Some(kind))
        .expect("each has one")
}

fn add(
    changes: &mut Changes,
    key: &ResourceKey,
    resource: Option<&Arc<Resource>>,
) -> Result<(), String> {
    match (kind_of(key.kind), resource) {
        (None, None) => Ok(()),
        (None, Some(resource)) => fuzzing::dns(&resource.bytes, b"").map(drop),
        (Some(kind), None) => {
            changes.remove(kind, &*key.name);
            Ok(())
        }
        (Some(_), Some(resource)) => {
            let mut alone = Changes::default();
            let kind = alone
                .add(&key.name, &resource.any())
                .map_err(|refusal| refusal.reason)?;
            let own = match kind {
                Kind::Listener => &alone.listeners[0].name,
                Kind::Route => &alone.routes[0].name,
                Kind::Cluster => &alone.clusters[0].name,
                Kind::Assignment => &alone.assignments[0].cluster_name,
                Kind::Issuers => &alone.issuers[0].cluster,
            };
            if **own != *key.name {
                return Err(format!("it calls itself {own:?}"));
            }
            changes
                .add(&key.name, &resource.any())
                .map(drop)
                .map_err(|refusal| refusal.reason)
        }
    }
}

fn apply(mut bytes: &[u8]) {
    let mut session = ClientSession::new(Node::default());
    session.step(ClientInput::Connected);
    let mut proxy = Proxy::default();
    for _ in 0..16 {
        let Some(response) = message::<DeltaDiscoveryResponse>(&mut bytes) else {
            break;
        };
        if !session.step(ClientInput::Response(response)).judge {
            continue;
        }
        let candidate = session.candidate();
        let unusable = proxy.build(&candidate.set);
        let ticket = candidate.ticket;
        session.step(ClientInput::Judged { ticket, unusable });
    }
    // what was refused was replaced by what was held, as the proxy does it
    let mut anew = Proxy::default();
    let refused = anew.build(session.held());
    assert_eq!(refused, [], "accepted, and refused when it is all there is");
    ask(&proxy.table);
    ask(&anew.table);
}

/// Asks a table about all its listeners.
fn ask(table: &Table) {
    let view = View::new(1);
    let caller = "10.1.1.9:4000".parse().ok();
    let alpn: [&[u8]; 2] = [b"istio", b"h2"];
    let mut entries = vec![Entry::http_proxy("helloworld:5000"), Entry::http_proxy("a")];
    for destination in
        ["10.96.0.1:5000", "0.0.0.0:0", "[::]:15006"].map(|a| a.parse().expect("an address"))
    {
        entries.extend([
            Entry::Outbound { destination },
            Entry::Inbound { destination },
        ]);
        entries.push(Entry::Gateway { local: destination });
    }
    let details = [
        Detected::Opaque,
        Detected::Http1,
        Detected::Tls {
            sni: Some(fleet::HELLO_SNI),
            alpn: &alpn,
        },
        Detected::Tls {
            sni: None,
            alpn: &[],
        },
    ];
    let request = Request {
        method: "GET",
        authority: "helloworld:5000",
        path: "/hello?a=b",
        headers: &(),
    };
    for entry in entries {
        for detected in details {
            for request in [None, Some(request)] {
                let connection = Connection {
                    entry,
                    source: caller,
                    detected,
                };
                let attempt = Attempt {
                    peer: None,
                    request,
                    tried: &[],
                    ticket: 7,
                };
                let decision = decide(
                    table,
                    &view,
                    &Arrival {
                        connection,
                        attempt,
                    },
                    Timestamp(1),
                );
                assert!(!format!("{decision:?}").is_empty());
            }
        }
    }
}

/// What a sidecar of `sleep`, one of `helloworld` and a gateway are told.
pub(crate) fn resources() -> &'static [Arc<Resource>] {
    static ALL: OnceLock<Vec<Arc<Resource>>> = OnceLock::new();
    ALL.get_or_init(|| {
        let trust = Trust::new();
        let address = "10.1.1.7:5000".parse().expect("an address");
        let gateway = fleet::through("198.18.0.7:15443".parse().expect("an address"), 3);
        let told = [
            fleet::calls(&trust, vec![fleet::direct(address, 1), gateway]),
            fleet::takes(address),
            fleet::passes(vec![fleet::plain(address)]),
        ];
        let mut all = Vec::new();
        for changes in told {
            let mut push = |kind, name: &str, message: Vec<u8>| {
                all.push(Arc::new(Resource::from_bytes(kind, name, message.into())));
            };
            for message in &changes.issuers {
                let mut message = message.clone();
                // a fingerprint that is the same each time
                message.fingerprints = vec![vec![7; 32].into()];
                push(
                    TypeUrlKind::Issuers,
                    &message.cluster.clone(),
                    message.encode_to_vec(),
                );
            }
            for message in &changes.clusters {
                push(TypeUrlKind::Cluster, &message.name, message.encode_to_vec());
            }
            for message in &changes.assignments {
                push(
                    TypeUrlKind::Endpoints,
                    &message.cluster_name,
                    message.encode_to_vec(),
                );
            }
            for message in &changes.listeners {
                push(
                    TypeUrlKind::Listener,
                    &message.name,
                    message.encode_to_vec(),
                );
            }
            for message in &changes.routes {
                push(TypeUrlKind::Route, &message.name, message.encode_to_vec());
            }
        }
        all
    })
}

fn responses() -> Vec<Vec<u8>> {
    let all = resources();
    let response = |kind: TypeUrlKind, only: Option<&str>| {
        let chosen = all
            .iter()
            .filter(|one| one.kind == kind && only.is_none_or(|name| *one.name == *name));
        let response = DeltaDiscoveryResponse {
            type_url: kind.url().into(),
            resources: chosen
                .map(|one| WireResource {
                    name: one.name.to_string(),
                    resource: Some(one.any()),
                    version: one.version.to_string(),
                    ..WireResource::default()
                })
                .collect(),
            nonce: "1".into(),
            ..DeltaDiscoveryResponse::default()
        };
        response.encode_length_delimited_to_vec()
    };
    let whole: Vec<u8> = TypeUrlKind::ALL
        .iter()
        .flat_map(|kind| response(*kind, None))
        .collect();
    let gone = DeltaDiscoveryResponse {
        type_url: TypeUrlKind::Cluster.url().into(),
        removed_resources: vec![HELLO.into()],
        ..DeltaDiscoveryResponse::default()
    };
    let mut seeds = vec![
        [&whole[..], &gone.encode_length_delimited_to_vec()].concat(),
        whole,
    ];
    seeds.extend(all.iter().map(|one| response(one.kind, Some(&one.name))));
    seeds
}

fn set(of: impl Iterator<Item = Arc<Resource>>) -> Arc<ResourceSet> {
    let mut set = ResourceSet::default();
    of.for_each(|resource| set.insert(resource));
    Arc::new(set)
}

/// A byte for protocol and peer, then steps: a byte that says what happens, and a message if it is one of the client's.
fn serve(mut bytes: &[u8]) {
    let Some((how, rest)) = bytes.split_first() else {
        return;
    };
    bytes = rest;
    let protocol = [Protocol::Delta, Protocol::StateOfTheWorld][usize::from(how & 1)];
    let peer = [Peer::Catamaran, Peer::Envoy][usize::from(how >> 1 & 1)];
    let all = resources();
    let worlds = [
        set(all.iter().cloned()),
        set(all.iter().skip(2).step_by(2).cloned()),
    ];
    let mut session = ServerSession::new(protocol, peer, "judge", worlds[0].clone(), "0".into());
    let (mut now, mut turn) = (Timestamp(1_000_000), 0);
    for _ in 0..64 {
        let Some((what, rest)) = bytes.split_first() else {
            break;
        };
        bytes = rest;
        let input = match what % 8 {
            0 => {
                now = now.after(std::time::Duration::from_millis(u64::from(*what) * 100));
                Input::Tick
            }
            1 => {
                turn += 1;
                Input::Current(Current {
                    set: worlds[turn % 2].clone(),
                    changed: Changed::Unknown,
                    revision: turn.to_string().into(),
                })
            }
            2 => match message::<DiscoveryRequest>(&mut bytes) {
                Some(request) => Input::Full(request),
                None => break,
            },
            _ if protocol == Protocol::Delta => {
                match message::<DeltaDiscoveryRequest>(&mut bytes) {
                    Some(request) => Input::Delta(request),
                    None => break,
                }
            }
            _ => match message::<DiscoveryRequest>(&mut bytes) {
                Some(request) => Input::Full(request),
                None => break,
            },
        };
        let out = session.step(input, now);
        assert!(
            out.responses.len() <= TypeUrlKind::ALL.len(),
            "{} responses at once",
            out.responses.len()
        );
        assert!(session.status().count() <= TypeUrlKind::ALL.len());
        if let Some(end) = out.end {
            assert!(!end.to_string().is_empty());
            return;
        }
    }
}

fn requests() -> Vec<Vec<u8>> {
    let delta = |kind: TypeUrlKind, names: &[&str], nonce: &str, refuses: bool| {
        let request = DeltaDiscoveryRequest {
            type_url: kind.url().into(),
            resource_names_subscribe: names.iter().map(|name| (*name).into()).collect(),
            response_nonce: nonce.into(),
            initial_resource_versions: [(
                "gone".to_owned(),
                "0123456789abcdef0123456789abcdef".to_owned(),
            )]
            .into(),
            error_detail: refuses.then(|| Status {
                code: 3,
                message: format!("{}\ncluster {HELLO}: no", catamaran_xds::nack::HEADER),
                ..Status::default()
            }),
            ..DeltaDiscoveryRequest::default()
        };
        [&[3], &request.encode_length_delimited_to_vec()[..]].concat()
    };
    let full = |kind: TypeUrlKind, names: &[&str], nonce: &str| {
        let request = DiscoveryRequest {
            type_url: kind.url().into(),
            resource_names: names.iter().map(|name| (*name).into()).collect(),
            response_nonce: nonce.into(),
            version_info: "1".into(),
            ..DiscoveryRequest::default()
        };
        [&[3], &request.encode_length_delimited_to_vec()[..]].concat()
    };
    let (clusters, endpoints, routes) = (
        TypeUrlKind::Cluster,
        TypeUrlKind::Endpoints,
        TypeUrlKind::Route,
    );
    vec![
        [
            &[0][..],
            &delta(clusters, &["*"], "", false),
            &delta(endpoints, &[HELLO], "", false),
            &[0xf8],
            &delta(clusters, &[], "1", false),
            &[1, 0xf8],
        ]
        .concat(),
        [
            &[2][..],
            &delta(clusters, &[], "", false),
            &delta(clusters, &[], "1", true),
            &[1, 0xf8],
            &delta(routes, &["5000", "*"], "", false),
        ]
        .concat(),
        [
            &[1][..],
            &full(clusters, &[], ""),
            &full(endpoints, &[HELLO], ""),
            &full(clusters, &[], "1"),
            &[1, 0xf8],
        ]
        .concat(),
        [
            &[3][..],
            &full(TypeUrlKind::Listener, &["*"], ""),
            &[1, 0xf8],
            &full(routes, &["5000"], "2"),
        ]
        .concat(),
    ]
}
