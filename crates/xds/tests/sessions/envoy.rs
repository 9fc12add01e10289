//! Our server's session against a client with Envoy's habits: it refuses whole responses, and may not say what was wrong.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use catamaran_model::Timestamp;
use catamaran_wire::discovery::{DeltaDiscoveryRequest, DiscoveryRequest};
use catamaran_wire::well_known::Status;
use catamaran_xds::*;
use proptest::prelude::*;

use crate::world::*;

/// Clusters by wildcard, endpoints by the names of the clusters it holds.
struct Envoy {
    server: ServerSession,
    protocol: Protocol,
    names_culprits: bool,
    now: Timestamp,
    wake_at: Option<Timestamp>,
    clusters: BTreeMap<Arc<str>, Arc<Resource>>,
    endpoints: BTreeMap<Arc<str>, Arc<Resource>>,
    subscribed: BTreeSet<Arc<str>>,
    versions: BTreeMap<TypeUrlKind, String>,
    nonces: BTreeMap<TypeUrlKind, String>,
    responses: VecDeque<Response>,
    pushes: usize,
    bad_pushes: usize,
    refused: Vec<Refusal>,
}

impl Envoy {
    fn new(protocol: Protocol, names_culprits: bool, current: ResourceSet) -> Envoy {
        let mut envoy = Envoy {
            server: serve(protocol, Arc::new(current)),
            protocol,
            names_culprits,
            now: Timestamp(1_000_000),
            wake_at: None,
            clusters: BTreeMap::new(),
            endpoints: BTreeMap::new(),
            subscribed: BTreeSet::new(),
            versions: BTreeMap::new(),
            nonces: BTreeMap::new(),
            responses: VecDeque::new(),
            pushes: 0,
            bad_pushes: 0,
            refused: Vec::new(),
        };
        envoy.open();
        envoy
    }

    fn step(&mut self, input: Input) {
        let out = self.server.step(input, self.now);
        assert_eq!(out.end, None);
        self.wake_at = out.wake_at;
        self.pushes += out.responses.len();
        self.responses.extend(out.responses);
        self.refused
            .extend(out.events.into_iter().filter_map(|event| match event {
                Event::Refused(refusal) => Some(refusal),
                _ => None,
            }));
    }

    fn open(&mut self) {
        self.ask(TypeUrlKind::Cluster, &[], &[], None, true);
        if !self.subscribed.is_empty() {
            let names: Vec<_> = self.subscribed.iter().cloned().collect();
            self.ask(TypeUrlKind::Endpoints, &names, &[], None, true);
        }
    }

    fn reconnect(&mut self, current: ResourceSet) {
        self.responses.clear();
        self.nonces.clear();
        self.server = serve(self.protocol, Arc::new(current));
        self.open();
    }

    fn held(&mut self, kind: TypeUrlKind) -> &mut BTreeMap<Arc<str>, Arc<Resource>> {
        match kind {
            TypeUrlKind::Cluster => &mut self.clusters,
            TypeUrlKind::Endpoints => &mut self.endpoints,
            _ => panic!("{kind} was not asked for"),
        }
    }

    fn ask(
        &mut self,
        kind: TypeUrlKind,
        add: &[Arc<str>],
        drop: &[Arc<str>],
        error: Option<String>,
        first: bool,
    ) {
        let text = |names: &[Arc<str>]| names.iter().map(|name| name.to_string()).collect();
        let nonce = self.nonces.get(&kind).cloned().unwrap_or_default();
        let error_detail = error.map(|message| Status {
            code: 13,
            message,
            details: Vec::new(),
        });
        let input = match self.protocol {
            Protocol::Delta => Input::Delta(DeltaDiscoveryRequest {
                type_url: kind.url().into(),
                resource_names_subscribe: text(add),
                resource_names_unsubscribe: text(drop),
                initial_resource_versions: match first {
                    true => self
                        .held(kind)
                        .values()
                        .map(|held| (held.name.to_string(), held.version.to_string()))
                        .collect(),
                    false => BTreeMap::new(),
                },
                response_nonce: nonce,
                error_detail,
                ..Default::default()
            }),
            Protocol::StateOfTheWorld => Input::Full(DiscoveryRequest {
                type_url: kind.url().into(),
                version_info: self.versions.get(&kind).cloned().unwrap_or_default(),
                resource_names: match kind {
                    TypeUrlKind::Endpoints => {
                        text(&self.subscribed.iter().cloned().collect::<Vec<_>>())
                    }
                    _ => Vec::new(),
                },
                response_nonce: nonce,
                error_detail,
                ..Default::default()
            }),
        };
        self.step(input);
    }

    fn receive(&mut self, response: Response) {
        let (url, nonce, resources, removed, full) = match response.protocol() {
            Protocol::Delta => {
                let response = response.deltas().unwrap();
                let resources = response.resources.into_iter();
                let resources = resources.map(|sent| sent.resource.unwrap().value);
                (
                    response.type_url,
                    response.nonce,
                    resources.collect::<Vec<_>>(),
                    response.removed_resources,
                    None,
                )
            }
            Protocol::StateOfTheWorld => {
                let response = response.full().unwrap();
                let resources = response.resources.into_iter().map(|any| any.value);
                (
                    response.type_url,
                    response.nonce,
                    resources.collect(),
                    Vec::new(),
                    Some(response.version_info),
                )
            }
        };
        let kind = TypeUrlKind::of(&url).unwrap();
        self.nonces.insert(kind, nonce);
        let resources: Vec<Arc<Resource>> = resources
            .into_iter()
            .map(|bytes| {
                let name = name_of(kind, &bytes);
                Arc::new(Resource::from_bytes(kind, name, bytes))
            })
            .collect();
        let bad: Vec<&Arc<Resource>> = resources
            .iter()
            .filter(|resource| is_bad(resource))
            .collect();
        if !bad.is_empty() {
            self.bad_pushes += 1;
            let names: Vec<String> = bad
                .iter()
                .map(|resource| resource.name.to_string())
                .collect();
            let error = match self.names_culprits {
                true => format!(
                    "Error adding/updating cluster(s) {}: no",
                    names.join(": no, ")
                ),
                false => "Proto constraint validation failed".into(),
            };
            return self.ask(kind, &[], &[], Some(error), false);
        }
        let before: BTreeSet<Arc<str>> = self.clusters.keys().cloned().collect();
        if let Some(version) = full {
            self.versions.insert(kind, version);
            // Named kinds keep what a response does not mention.
            if kind == TypeUrlKind::Cluster {
                self.held(kind).clear();
            }
        }
        for resource in resources {
            if kind == TypeUrlKind::Endpoints && !self.subscribed.contains(&resource.name) {
                continue;
            }
            self.held(kind).insert(resource.name.clone(), resource);
        }
        for name in removed {
            self.held(kind).remove(name.as_str());
        }
        self.ask(kind, &[], &[], None, false);
        if kind == TypeUrlKind::Cluster {
            let after: BTreeSet<Arc<str>> = self.clusters.keys().cloned().collect();
            let add: Vec<Arc<str>> = after.difference(&before).cloned().collect();
            let drop: Vec<Arc<str>> = before.difference(&after).cloned().collect();
            if !add.is_empty() || !drop.is_empty() {
                let first = self.subscribed.is_empty()
                    && !self.nonces.contains_key(&TypeUrlKind::Endpoints);
                self.subscribed = after;
                for name in &drop {
                    self.endpoints.remove(name);
                }
                self.ask(TypeUrlKind::Endpoints, &add, &drop, None, first);
            }
        }
    }

    fn settle(&mut self) {
        for _ in 0..10_000 {
            if let Some(response) = self.responses.pop_front() {
                self.receive(response);
            } else if let Some(at) = self.wake_at {
                self.now = self.now.max(at);
                self.step(Input::Tick);
            } else {
                return;
            }
        }
        panic!("they never come to rest");
    }

    fn edit(&mut self, current: ResourceSet) {
        self.step(Input::Current(Current {
            set: Arc::new(current),
            changed: Changed::Unknown,
            revision: "".into(),
        }));
    }

    fn content(&self, name: &str) -> Option<u32> {
        self.clusters.get(name).map(|resource| content(resource))
    }
}

fn serve(protocol: Protocol, current: Arc<ResourceSet>) -> ServerSession {
    ServerSession::new(protocol, Peer::Envoy, "mesh-1", current, "".into())
}

const BOTH: [Protocol; 2] = [Protocol::Delta, Protocol::StateOfTheWorld];

fn clusters(content: impl Fn(usize) -> u32, count: usize) -> ResourceSet {
    let names: Vec<String> = (0..count).map(|at| format!("outbound|80||s{at}")).collect();
    let both = names
        .iter()
        .enumerate()
        .flat_map(|(at, name)| [cluster(name, content(at)), endpoints(name, 1)]);
    set(both)
}

#[test]
fn it_holds_all_clusters_and_their_endpoints() {
    for protocol in BOTH {
        let mut envoy = Envoy::new(protocol, true, clusters(|_| 1, 3));
        envoy.settle();
        assert_eq!((envoy.clusters.len(), envoy.endpoints.len()), (3, 3));
        envoy.edit(clusters(|_| 1, 2));
        envoy.settle();
        assert_eq!(
            (envoy.clusters.len(), envoy.endpoints.len()),
            (2, 2),
            "{protocol:?}"
        );
        assert!(envoy.server.is_in_sync());
    }
}

#[test]
fn nothing_that_it_holds_is_sent_after_a_reconnect() {
    for protocol in BOTH {
        let mut envoy = Envoy::new(protocol, true, clusters(|_| 1, 3));
        envoy.settle();
        let pushes = envoy.pushes;
        envoy.reconnect(clusters(|_| 1, 3));
        envoy.settle();
        assert_eq!(envoy.pushes, pushes, "{protocol:?}");
        envoy.edit(clusters(|at| 1 + (at == 1) as u32, 3));
        envoy.settle();
        assert_eq!(envoy.content("outbound|80||s1"), Some(2), "{protocol:?}");
    }
}

#[test]
fn a_culprit_that_it_names_is_left_out_and_the_rest_goes_on() {
    for protocol in BOTH {
        let mut envoy = Envoy::new(protocol, true, clusters(|_| 1, 8));
        envoy.settle();
        envoy.edit(clusters(|at| if at == 3 { BAD } else { 2 }, 8));
        envoy.settle();
        assert_eq!(envoy.bad_pushes, 1, "{protocol:?}");
        assert_eq!(
            envoy.content("outbound|80||s3"),
            Some(1),
            "the last good one stays"
        );
        assert_eq!(envoy.content("outbound|80||s4"), Some(2));
        assert_eq!(envoy.refused.len(), 1);
        assert_eq!(envoy.refused[0].instead.as_deref().map(content), Some(1));
    }
}

#[test]
fn a_culprit_that_it_does_not_name_is_found_by_halving() {
    for protocol in BOTH {
        let mut envoy = Envoy::new(protocol, false, clusters(|_| 1, 16));
        envoy.settle();
        envoy.edit(clusters(|at| if at == 5 { BAD } else { 2 }, 16));
        envoy.settle();
        assert!(
            envoy.bad_pushes <= 5,
            "{protocol:?}: {} pushes for 16",
            envoy.bad_pushes
        );
        let after: Vec<u32> = envoy
            .clusters
            .values()
            .map(|resource| content(resource))
            .collect();
        assert_eq!(after.iter().filter(|content| **content == 2).count(), 15);
        assert_eq!(envoy.content("outbound|80||s5"), Some(1));
        assert_eq!(&*envoy.refused[0].name, "outbound|80||s5");
    }
}

#[test]
fn the_endpoints_of_a_changed_cluster_are_sent_again_to_end_its_warming() {
    let mut envoy = Envoy::new(Protocol::Delta, true, clusters(|_| 1, 3));
    envoy.settle();
    envoy.edit(clusters(|at| 1 + (at == 1) as u32, 3));
    let mut sent = Vec::new();
    while let Some(response) = envoy.responses.pop_front() {
        let resources = response.resources().iter();
        sent.extend(resources.map(|resource| resource.name.to_string()));
        envoy.receive(response);
    }
    assert_eq!(sent, ["outbound|80||s1", "outbound|80||s1"]);
}

#[test]
fn one_that_warms_and_asks_again_is_answered_again() {
    let mut envoy = Envoy::new(Protocol::StateOfTheWorld, true, clusters(|_| 1, 3));
    envoy.settle();
    envoy.edit(clusters(|at| 1 + (at == 1) as u32, 3));
    envoy.settle();
    let pushes = envoy.pushes;
    envoy.ask(TypeUrlKind::Endpoints, &[], &[], None, false);
    assert_eq!(envoy.pushes, pushes + 1);
    envoy.settle();
    envoy.ask(TypeUrlKind::Endpoints, &[], &[], None, false);
    assert_eq!(envoy.pushes, pushes + 1, "but once only");
}

#[test]
fn a_request_of_the_other_protocol_ends_the_stream() {
    let mut server = serve(Protocol::Delta, Arc::default());
    let out = server.step(Input::Full(DiscoveryRequest::default()), Timestamp(0));
    assert_eq!(out.end, Some(SessionError::Protocol));
}

#[test]
fn a_type_that_is_not_served_is_passed_over_and_said() {
    let mut server = serve(Protocol::Delta, Arc::default());
    let request = DeltaDiscoveryRequest {
        type_url: "type.googleapis.com/envoy.service.runtime.v3.Runtime".into(),
        ..Default::default()
    };
    let type_url = request.type_url.clone();
    let out = server.step(Input::Delta(request), Timestamp(0));
    assert_eq!(out.events, [Event::Unserved { type_url }]);
    assert!(out.responses.is_empty() && out.end.is_none());
}

#[test]
fn a_name_that_nobody_has_is_answered_with_its_absence() {
    let mut server = serve(Protocol::Delta, Arc::default());
    let request = DeltaDiscoveryRequest {
        type_url: TypeUrlKind::Endpoints.url().into(),
        resource_names_subscribe: vec!["nobody".into()],
        ..Default::default()
    };
    let out = server.step(Input::Delta(request), Timestamp(0));
    let [response] = &out.responses[..] else {
        panic!("{out:?}")
    };
    let response = response.deltas().unwrap();
    assert_eq!(response.removed_resources, ["nobody"]);
}

#[test]
fn a_client_that_asks_for_too_much_is_turned_away() {
    let request = |names: Vec<String>| DeltaDiscoveryRequest {
        type_url: TypeUrlKind::Endpoints.url().into(),
        resource_names_subscribe: names,
        ..Default::default()
    };
    let kind = TypeUrlKind::Endpoints;
    let mut server = serve(Protocol::Delta, Arc::default());
    let many = (0..=NAMES_LIMIT).map(|at| at.to_string()).collect();
    let out = server.step(Input::Delta(request(many)), Timestamp(0));
    assert_eq!(out.end, Some(SessionError::Names { kind }));
    let long = vec!["x".repeat(NAME_LIMIT + 1)];
    let out = server.step(Input::Delta(request(long)), Timestamp(0));
    assert_eq!(out.end, Some(SessionError::Name { kind }));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn whatever_changes_it_holds_all_that_it_can_use(
        delta: bool,
        names_culprits: bool,
        edits in prop::collection::vec((prop::collection::vec(
            prop_oneof![1 => Just(None), 4 => (1u32..4).prop_map(Some), 1 => Just(Some(BAD))], 6), 0usize..4, 0u8..10), 1..12),
    ) {
        let protocol = if delta { Protocol::Delta } else { Protocol::StateOfTheWorld };
        let mut envoy = Envoy::new(protocol, names_culprits, ResourceSet::default());
        let mut last = Vec::new();
        for (contents, deliveries, chance) in edits {
            let world = |contents: &[Option<u32>]| set(contents.iter().enumerate().flat_map(|(at, content)| {
                let name = format!("outbound|80||s{at}");
                content.iter().flat_map(|content| [cluster(&name, *content), endpoints(&name, *content % BAD)]).collect::<Vec<_>>()
            }));
            match chance {
                0 => envoy.reconnect(world(&contents)),
                _ => envoy.edit(world(&contents)),
            }
            last = contents;
            for _ in 0..deliveries {
                if let Some(response) = envoy.responses.pop_front() {
                    envoy.receive(response);
                }
            }
        }
        envoy.settle();
        for (at, wanted) in last.iter().enumerate() {
            let name = format!("outbound|80||s{at}");
            let held = envoy.content(&name);
            match wanted {
                Some(content) if *content < BAD => prop_assert_eq!(held, Some(*content), "{}", name),
                Some(_) => prop_assert!(held.is_none_or(|held| held < BAD)),
                None => prop_assert_eq!(held, None, "{}", name),
            }
            let assigned = envoy.endpoints.get(name.as_str()).map(|resource| content(resource));
            let wanted = wanted.filter(|_| held.is_some()).map(|content| content % BAD);
            prop_assert_eq!(assigned, wanted, "endpoints of {}", name);
        }
        let pushes = envoy.pushes;
        envoy.now = Timestamp(envoy.now.0 + 60_000);
        envoy.step(Input::Tick);
        envoy.settle();
        prop_assert_eq!(envoy.pushes, pushes);
    }
}
