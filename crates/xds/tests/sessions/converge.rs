//! Our proxy's session against our server's.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use catamaran_model::Timestamp;
use catamaran_wire::core::Node;
use catamaran_wire::discovery::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};
use catamaran_xds::*;
use proptest::prelude::*;

use crate::world::*;

/// One proxy, the control plane it is connected to, and what is on the way between them.
struct Link {
    client: ClientSession,
    server: ServerSession,
    up: VecDeque<DeltaDiscoveryRequest>,
    down: VecDeque<DeltaDiscoveryResponse>,
    current: Arc<ResourceSet>,
    quarantine: Quarantine,
    shares: bool,
    now: Timestamp,
    wake_at: Option<Timestamp>,
    /// How often each version that cannot be used was sent on this connection.
    bad: BTreeMap<(ResourceKey, Version), usize>,
    /// Bodies sent, over all connections.
    bodies: usize,
    messages: usize,
    judged_late: bool,
}

impl Link {
    fn new(current: ResourceSet) -> Link {
        let current = Arc::new(current);
        let mut link = Link {
            client: ClientSession::new(Node::default()),
            server: serve(&current),
            up: VecDeque::new(),
            down: VecDeque::new(),
            current,
            quarantine: Quarantine::default(),
            shares: false,
            now: Timestamp(1_000_000),
            wake_at: None,
            bad: BTreeMap::new(),
            bodies: 0,
            messages: 0,
            judged_late: false,
        };
        link.up
            .extend(link.client.step(ClientInput::Connected).requests);
        link
    }

    fn serve(&mut self, input: Input) {
        let out = self.server.step(input, self.now);
        assert_eq!(out.end, None);
        self.wake_at = out.wake_at;
        for event in out.events {
            if let Event::Refused(refusal) = event {
                self.quarantine.add(refusal);
            }
        }
        for response in out.responses {
            let response = response.deltas().unwrap();
            self.messages += 1;
            for sent in &response.resources {
                let kind = TypeUrlKind::of(&response.type_url).unwrap();
                let body = sent.resource.clone().unwrap().value;
                let resource = Resource::from_bytes(kind, sent.name.as_str(), body);
                self.bodies += 1;
                if is_bad(&resource) {
                    *self
                        .bad
                        .entry((resource.key(), resource.version))
                        .or_default() += 1;
                }
            }
            self.down.push_back(response);
        }
    }

    fn judge(&mut self) {
        let candidate = self.client.candidate();
        let unusable = candidate.set.iter().filter(|resource| is_bad(resource));
        let judged = ClientInput::Judged {
            ticket: candidate.ticket,
            unusable: unusable
                .map(|resource| Unusable {
                    key: resource.key(),
                    reason: "too large a number".into(),
                })
                .collect(),
        };
        let out = self.client.step(judged);
        assert!(!out.judge);
        self.messages += out.requests.len();
        self.up.extend(out.requests);
    }

    fn deliver_up(&mut self) -> bool {
        let Some(request) = self.up.pop_front() else {
            return false;
        };
        self.serve(Input::Delta(request));
        true
    }

    fn deliver_down(&mut self) -> bool {
        let Some(response) = self.down.pop_front() else {
            return false;
        };
        let out = self.client.step(ClientInput::Response(response));
        if out.judge && !self.judged_late {
            self.judge();
        }
        true
    }

    fn edit(&mut self, current: ResourceSet, say: bool) {
        let before = std::mem::replace(&mut self.current, Arc::new(current));
        self.quarantine.forget_replaced(&self.current);
        let keys: Vec<ResourceKey> = TypeUrlKind::ALL
            .into_iter()
            .flat_map(|kind| {
                let names = before.differences(&self.current, kind);
                names
                    .into_iter()
                    .map(move |name| ResourceKey::new(kind, name))
            })
            .collect();
        self.serve(Input::Current(Current {
            set: self.current.clone(),
            changed: match say {
                true => Changed::Only(keys.into()),
                false => Changed::Unknown,
            },
            revision: "".into(),
        }));
    }

    fn reconnect(&mut self) {
        self.client.step(ClientInput::Disconnected);
        self.up.clear();
        self.down.clear();
        self.bad.clear();
        self.server = serve(&self.current);
        if self.shares {
            self.serve(Input::Quarantine(Arc::new(self.quarantine.clone())));
        }
        self.up
            .extend(self.client.step(ClientInput::Connected).requests);
    }

    fn tick(&mut self, millis: u64) {
        self.now = Timestamp(self.now.0 + millis);
        self.serve(Input::Tick);
    }

    fn settle(&mut self) {
        self.judged_late = false;
        self.judge();
        for _ in 0..10_000 {
            if self.deliver_up() || self.deliver_down() {
                continue;
            }
            match self.wake_at {
                Some(at) => self.tick(at.0.saturating_sub(self.now.0)),
                None => return,
            }
        }
        panic!("they never come to rest");
    }
}

fn serve(current: &Arc<ResourceSet>) -> ServerSession {
    ServerSession::new(
        Protocol::Delta,
        Peer::Catamaran,
        "mesh-1",
        current.clone(),
        "".into(),
    )
}

fn small() -> ResourceSet {
    set([
        issuers("cluster-1", 1),
        cluster("a", 1),
        cluster("b", 1),
        endpoints("a", 1),
        endpoints("b", 1),
        listener("80", 1),
        route("80", "a", 1),
        names(1),
    ])
}

fn with(resources: impl IntoIterator<Item = Arc<Resource>>) -> ResourceSet {
    let mut set = small();
    resources
        .into_iter()
        .for_each(|resource| set.insert(resource));
    set
}

#[test]
fn a_proxy_is_told_everything_once_and_is_ready() {
    let mut link = Link::new(small());
    assert!(!link.client.is_ready());
    link.settle();
    assert!(link.client.is_ready(), "{:?}", link.client.waits_for());
    assert_eq!(link.client.held(), &*link.current);
    assert_eq!(link.bodies, 8);
}

#[test]
fn a_proxy_of_an_empty_mesh_is_ready() {
    let mut link = Link::new(ResourceSet::default());
    link.settle();
    assert!(link.client.is_ready());
}

#[test]
fn a_cluster_without_endpoints_does_not_keep_a_proxy_from_being_ready() {
    let mut link = Link::new(set([cluster("a", 1)]));
    link.settle();
    assert!(link.client.is_ready(), "{:?}", link.client.waits_for());
}

#[test]
fn a_change_that_was_not_asked_for_costs_nothing() {
    let mut current = small();
    current.insert(endpoints("not-held", 1));
    let mut link = Link::new(current.clone());
    link.settle();
    let messages = link.messages;
    current.insert(endpoints("not-held", 2));
    link.edit(current, true);
    link.settle();
    assert_eq!(link.messages, messages);
}

#[test]
fn nothing_that_is_held_is_sent_after_a_reconnect() {
    let mut link = Link::new(small());
    link.settle();
    let bodies = link.bodies;
    link.reconnect();
    link.settle();
    assert_eq!(link.bodies, bodies);
    link.reconnect();
    let messages = link.messages;
    link.settle();
    assert_eq!(link.messages, messages, "not even an empty response");
}

#[test]
fn a_restarted_proxy_goes_on_with_what_it_saved() {
    let mut link = Link::new(small());
    link.settle();
    let bodies = link.bodies;
    link.client = ClientSession::resume(Node::default(), link.client.held().clone());
    assert!(link.client.is_ready(), "before anybody answers");
    link.reconnect();
    link.settle();
    assert_eq!(link.bodies, bodies);
}

#[test]
fn what_changed_and_went_while_a_proxy_was_away_is_made_up_for() {
    let mut link = Link::new(small());
    link.settle();
    let mut current = with([endpoints("a", 2)]);
    current.remove(TypeUrlKind::Cluster, "b");
    current.remove(TypeUrlKind::Endpoints, "b");
    link.client.step(ClientInput::Disconnected);
    link.edit(current, false);
    let bodies = link.bodies;
    link.reconnect();
    link.settle();
    assert_eq!(link.bodies, bodies + 1);
    assert_eq!(link.client.held(), &*link.current);
}

#[test]
fn a_cluster_stays_until_the_route_to_it_is_replaced() {
    let mut link = Link::new(small());
    link.settle();
    link.tick(2_000);
    let mut current = with([cluster("c", 1), endpoints("c", 1), route("80", "c", 2)]);
    current.remove(TypeUrlKind::Cluster, "a");
    current.remove(TypeUrlKind::Endpoints, "a");
    link.edit(current, true);
    let mut order = Vec::new();
    while !(link.up.is_empty() && link.down.is_empty()) {
        link.deliver_up();
        if let Some(response) = link.down.front() {
            let kind = TypeUrlKind::of(&response.type_url).unwrap();
            let set = response
                .resources
                .iter()
                .map(|sent| format!("{kind} {}", sent.name));
            let gone = response
                .removed_resources
                .iter()
                .map(|name| format!("-{kind} {name}"));
            order.extend(set.chain(gone));
        }
        link.deliver_down();
    }
    assert_eq!(
        order,
        [
            "cluster c",
            "endpoints c",
            "route 80",
            "-cluster a",
            "-endpoints a"
        ]
    );
}

#[test]
fn a_resource_that_cannot_be_used_rejects_only_itself() {
    let mut link = Link::new(small());
    link.settle();
    link.edit(with([cluster("a", BAD), cluster("b", 2)]), true);
    link.settle();
    let held = |name: &str| content(link.client.held().get(TypeUrlKind::Cluster, name).unwrap());
    assert_eq!((held("a"), held("b")), (1, 2));
    let refused: Vec<_> = link.client.refused().collect();
    assert_eq!(refused.len(), 1);
    assert_eq!(&*refused[0].name, "a");
    let known: Vec<_> = link.server.refusals().collect();
    assert_eq!(
        known, refused,
        "both ends agree on what, why and what goes on"
    );
    assert_eq!(link.bad.values().sum::<usize>(), 1);

    link.edit(with([cluster("a", 3), cluster("b", 2)]), true);
    link.settle();
    assert_eq!(link.client.refused().count(), 0);
    assert_eq!(link.server.refusals().count(), 0);
    assert_eq!(link.client.held(), &*link.current);
}

#[test]
fn a_proxy_that_comes_back_is_not_sent_what_others_refused() {
    let mut link = Link::new(small());
    link.shares = true;
    link.settle();
    link.edit(with([cluster("a", BAD)]), true);
    link.settle();
    let bodies = link.bodies;
    link.reconnect();
    link.settle();
    assert_eq!(link.bodies, bodies);

    link.client = ClientSession::new(Node::default());
    link.reconnect();
    link.settle();
    assert_eq!(
        link.bad.len(),
        0,
        "a new proxy is sent the last version that worked"
    );
    let held = link.client.held().get(TypeUrlKind::Cluster, "a").unwrap();
    assert_eq!(content(held), 1);
}

#[test]
fn a_proxy_that_never_answers_is_sent_one_response_of_a_kind() {
    let mut link = Link::new(small());
    while link.deliver_up() {}
    let messages = link.messages;
    for number in 2..50 {
        link.edit(
            with([cluster("a", number), issuers("cluster-1", number)]),
            true,
        );
        link.tick(100);
    }
    assert!(link.messages <= messages + TypeUrlKind::ALL.len());
    link.settle();
    assert_eq!(
        link.client.held(),
        &*link.current,
        "and the latest once it answers"
    );
}

#[test]
fn large_changes_are_split() {
    let large = |name: &str| {
        let bytes = vec![0; RESPONSE_LIMIT / 2 + 1];
        Arc::new(Resource::from_bytes(
            TypeUrlKind::Issuers,
            name,
            bytes.into(),
        ))
    };
    let current = Arc::new(set([large("a"), large("b"), large("c")]));
    let mut server = serve(&current);
    let mut client = ClientSession::new(Node::default());
    let mut up: VecDeque<_> = client.step(ClientInput::Connected).requests.into();
    let mut sizes = Vec::new();
    while let Some(request) = up.pop_front() {
        for response in server.step(Input::Delta(request), Timestamp(0)).responses {
            let response = response.deltas().unwrap();
            sizes.push(response.resources.len());
            client.step(ClientInput::Response(response));
            let ticket = client.candidate().ticket;
            let unusable = Vec::new();
            up.extend(
                client
                    .step(ClientInput::Judged { ticket, unusable })
                    .requests,
            );
        }
    }
    assert_eq!(sizes, [1, 1, 1, 0, 0, 0]);
    assert_eq!(client.held(), &*current);
}

#[derive(Debug, Clone)]
enum Act {
    Edit {
        kind: u8,
        name: u8,
        content: u32,
        say: bool,
    },
    Remove {
        kind: u8,
        name: u8,
        say: bool,
    },
    Up(u8),
    Down(u8),
    Judge,
    JudgeLate(bool),
    Reconnect,
    Tick(u64),
}

fn acts(bad: bool) -> impl Strategy<Value = Vec<Act>> {
    let content = match bad {
        true => prop_oneof![4 => 1u32..5, 1 => BAD..BAD + 3].boxed(),
        false => (1u32..5).boxed(),
    };
    let act = prop_oneof![
        6 => (0u8..6, 0u8..4, content, any::<bool>())
            .prop_map(|(kind, name, content, say)| Act::Edit { kind, name, content, say }),
        2 => (0u8..6, 0u8..4, any::<bool>()).prop_map(|(kind, name, say)| Act::Remove { kind, name, say }),
        6 => (1u8..4).prop_map(Act::Up),
        6 => (1u8..4).prop_map(Act::Down),
        2 => Just(Act::Judge),
        1 => any::<bool>().prop_map(Act::JudgeLate),
        1 => Just(Act::Reconnect),
        2 => (1u64..3000).prop_map(Act::Tick),
    ];
    prop::collection::vec(act, 1..80)
}

const NAMES: [&str; 4] = ["a", "b", "c", "d"];

fn resource(kind: u8, name: u8, content: u32) -> Arc<Resource> {
    let text = NAMES[usize::from(name)];
    match TypeUrlKind::ALL[usize::from(kind)] {
        TypeUrlKind::Issuers => issuers(text, content),
        TypeUrlKind::Cluster => cluster(text, content),
        TypeUrlKind::Endpoints => endpoints(text, content),
        TypeUrlKind::Listener => listener(text, content),
        TypeUrlKind::Route => route(text, NAMES[content as usize % 4], content),
        TypeUrlKind::Names => names(content),
    }
}

fn play(link: &mut Link, acts: &[Act]) {
    for act in acts {
        match *act {
            Act::Edit {
                kind,
                name,
                content,
                say,
            } => {
                let mut current = (*link.current).clone();
                current.insert(resource(kind, name, content));
                link.edit(current, say);
            }
            Act::Remove { kind, name, say } => {
                let mut current = (*link.current).clone();
                let key = resource(kind, name, 0).key();
                current.remove(key.kind, &key.name);
                link.edit(current, say);
            }
            Act::Up(mut count) => {
                while count > 0 && link.deliver_up() {
                    count -= 1;
                }
            }
            Act::Down(mut count) => {
                while count > 0 && link.deliver_down() {
                    count -= 1;
                }
            }
            Act::Judge => link.judge(),
            Act::JudgeLate(late) => link.judged_late = late,
            Act::Reconnect => link.reconnect(),
            Act::Tick(millis) => link.tick(millis),
        }
    }
}

/// What a proxy that can use everything should hold: all, but endpoints and routes only if something refers to them.
fn wanted(current: &ResourceSet) -> ResourceSet {
    let referred = |resource: &Resource| match resource.kind {
        TypeUrlKind::Endpoints => current.get(TypeUrlKind::Cluster, &resource.name).is_some(),
        TypeUrlKind::Route => current.get(TypeUrlKind::Listener, &resource.name).is_some(),
        _ => true,
    };
    let wanted = current.iter().filter(|resource| referred(resource));
    wanted.cloned().collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn whatever_happens_a_proxy_ends_up_with_what_it_should_hold(acts in acts(false)) {
        let mut link = Link::new(ResourceSet::default());
        play(&mut link, &acts);
        link.settle();
        prop_assert_eq!(link.client.held(), &wanted(&link.current));
        prop_assert!(link.client.is_ready());
        prop_assert!(link.server.is_in_sync());

        let messages = link.messages;
        link.tick(60_000);
        link.settle();
        prop_assert_eq!(link.messages, messages, "messages after all is said");

        let bodies = link.bodies;
        link.reconnect();
        link.settle();
        prop_assert_eq!(link.bodies, bodies, "bodies after a reconnect");
        prop_assert_eq!(link.client.held(), &wanted(&link.current));
    }

    #[test]
    fn what_cannot_be_used_is_sent_once_and_harms_nothing_else(acts in acts(true), shares: bool) {
        let mut link = Link::new(ResourceSet::default());
        link.shares = shares;
        play(&mut link, &acts);
        link.settle();
        for resource in link.client.held().iter() {
            prop_assert!(!is_bad(resource));
        }
        for resource in wanted(&link.current).iter().filter(|resource| !is_bad(resource)) {
            let held = link.client.held().get(resource.kind, &resource.name);
            // What is referred to only by something refused is not asked for.
            let referred = match resource.kind {
                TypeUrlKind::Endpoints => link.client.held().get(TypeUrlKind::Cluster, &resource.name).is_some(),
                TypeUrlKind::Route => link.client.held().get(TypeUrlKind::Listener, &resource.name).is_some(),
                _ => true,
            };
            prop_assert_eq!(held.is_some(), referred, "{:?}", resource.key());
            prop_assert!(held.is_none_or(|held| held == resource));
        }
        for ((key, _), times) in &link.bad {
            // A proxy that dropped a name and asks for it again must be sent it again.
            let named = !key.kind.is_wildcard();
            prop_assert!(*times <= 2 || named, "{:?} was sent {} times", key, times);
        }
        prop_assert!(link.client.is_ready(), "{:?}", link.client.waits_for());
        prop_assert!(link.server.is_in_sync());

        let messages = link.messages;
        link.tick(60_000);
        link.settle();
        prop_assert_eq!(link.messages, messages);
    }

    /// Edits are whole here: a route never leads to a cluster that is not there.
    #[test]
    fn a_route_never_leads_nowhere(steps in prop::collection::vec((0usize..4, any::<bool>(), 1u8..6, 0u64..400), 1..30)) {
        let world = |cluster_name: &str, number: u32| set([
            cluster(cluster_name, number), endpoints(cluster_name, number),
            listener("80", 1), route("80", cluster_name, number), names(1),
        ]);
        let mut link = Link::new(world("a", 1));
        link.settle();
        let checked = |link: &Link| {
            let held = link.client.held();
            let cluster = cluster_of(held.get(TypeUrlKind::Route, "80").unwrap());
            held.get(TypeUrlKind::Cluster, &cluster).is_some() && held.get(TypeUrlKind::Endpoints, &cluster).is_some()
        };
        for (number, (name, reconnect, deliveries, millis)) in steps.into_iter().enumerate() {
            link.edit(world(NAMES[name], number as u32 % 7), true);
            if reconnect && number % 5 == 0 {
                link.reconnect();
            }
            for _ in 0..deliveries {
                link.deliver_up();
                link.deliver_down();
                prop_assert!(checked(&link));
            }
            link.tick(millis / 10);
        }
    }
}
