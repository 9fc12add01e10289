use catamaran_model::{Credential, FailoverMode, Member, ServiceAccount, Timestamp};
use catamaran_registry::{Fact, FactKey, Observed, Registry};
use catamaran_translate::Capture;
use catamaran_wire::discovery::DeltaDiscoveryRequest;
use catamaran_xds::{Input, Peer, Protocol};
use proptest::prelude::*;

use super::*;
use crate::fixture::*;

struct Bench {
    registry: Registry,
    teller: Teller,
}

fn proxy(pod: &str, account: &str) -> Proxy {
    Proxy {
        node: pod.into(),
        cluster: cluster("cluster-1"),
        workload: workload(pod),
        service_account: ServiceAccount::new(account).unwrap(),
        gateway: false,
        capability: Capability::Catamaran,
        capture: Capture::Redirect,
        app: "127.0.0.1".parse().unwrap(),
        address: "10.1.0.1:1".parse().unwrap(),
    }
}

impl Bench {
    fn new(facts: impl IntoIterator<Item = Fact>) -> Bench {
        let local = cluster("cluster-1");
        let mut bench = Bench {
            registry: Registry::new(local.clone()),
            teller: Teller {
                engine: Engine::new(Arc::new(Snapshot::empty())),
                places: BTreeMap::new(),
                revision: Arc::new(Mutex::new(Arc::from(""))),
                streams: BTreeMap::new(),
                shelves: BTreeMap::new(),
                saying: BTreeMap::new(),
                of_workload: BTreeMap::new(),
                quarantines: BTreeMap::new(),
                waiting: Vec::new(),
                known: Arc::default(),
                last: 0,
                patience: Instant::now(),
                changed: Counter::default(),
                woken: Counter::default(),
                local,
            },
        };
        list(&mut bench.registry, "cluster-1", facts);
        bench.publish();
        bench
    }

    fn publish(&mut self) {
        let snapshot = self.registry.snapshot();
        self.teller.advance(&snapshot);
    }

    fn change(&mut self, fact: Fact) {
        upsert(&mut self.registry, "cluster-1", fact);
        self.publish();
    }

    fn open(&mut self, proxy: Proxy) -> Result<(StreamId, Arc<Slot>), String> {
        let (slot, mut answer) = self.ask(proxy);
        let answer = answer.try_recv().expect("an answer at once");
        match answer {
            Ok(id) => Ok((id, slot)),
            Err(OpenError::NotNow(why) | OpenError::Never(why)) => Err(why),
        }
    }

    fn ask(&mut self, proxy: Proxy) -> (Arc<Slot>, oneshot::Receiver<Result<StreamId, OpenError>>) {
        let slot = Arc::new(Slot::new(proxy));
        let (reply, answer) = oneshot::channel();
        self.teller.handle(Order::Open(slot.clone(), reply));
        (slot, answer)
    }

    /// What a stream finds.
    fn up(&self, stream: &Stream) -> ResourceSet {
        let mut set = ResourceSet::default();
        for label in &stream.labels {
            set.put_shared(label.0, self.teller.shelves[label].shelf.now());
        }
        set
    }

    /// What every stream is told is what the translation says.
    fn check(&self) {
        for stream in self.teller.streams.values() {
            let snapshot = self.teller.engine.snapshot();
            let (oracle, _) = catamaran_translate::translate(snapshot, &stream.audience);
            assert_eq!(self.up(stream), oracle);
        }
    }
}

/// A stream's end that asked for all clusters and for the endpoints of one service.
fn session(slot: &Arc<Slot>, endpoints: &str) -> ServerSession {
    let current = slot.take().current.unwrap();
    let mut session = ServerSession::new(
        Protocol::Delta,
        Peer::Catamaran,
        "x",
        current.set,
        current.revision,
    );
    let ask = |kind: TypeUrlKind, names: &[&str]| DeltaDiscoveryRequest {
        type_url: kind.url().into(),
        resource_names_subscribe: names.iter().map(|name| (*name).to_owned()).collect(),
        ..Default::default()
    };
    for (kind, names) in [
        (TypeUrlKind::Cluster, vec![]),
        (TypeUrlKind::Endpoints, vec![endpoints]),
    ] {
        session.step(Input::Delta(ask(kind, &names)), Timestamp(0));
        slot.note_interest(kind, &mut session);
    }
    session
}

fn is_woken(slot: &Slot) -> bool {
    use std::task::{Context, Poll, Waker};
    let notified = std::pin::pin!(slot.wake.notified());
    matches!(
        notified.poll(&mut Context::from_waker(Waker::noop())),
        Poll::Ready(())
    )
}

fn two_services() -> Bench {
    Bench::new([
        mesh(FailoverMode::Spread),
        export(),
        service("sleep", 80),
        pods("sleep", &[1, 2], None),
        service("helloworld", 5000),
        pods("helloworld", &[10], None),
    ])
}

const HELLOWORLD: &str = "outbound|5000||helloworld.default.svc.cluster.local";
const SLEEP: &str = "outbound|80||sleep.default.svc.cluster.local";

#[test]
fn only_who_asked_for_what_changed_is_woken() {
    let mut bench = two_services();
    let (_, asks) = bench.open(proxy("sleep-1", "sleep")).unwrap();
    let (_, does_not) = bench.open(proxy("sleep-2", "sleep")).unwrap();
    let (_asking, mut quiet) = (session(&asks, HELLOWORLD), session(&does_not, SLEEP));
    bench.change(pods("helloworld", &[10, 11], None));
    assert!(is_woken(&asks));
    assert!(!is_woken(&does_not));

    // The latest is there all the same, when it looks for another reason.
    let letters = does_not.take();
    let current = letters.current.expect("the latest set");
    assert!(
        matches!(&current.changed, Changed::Only(keys) if keys.len() == 1 && &*keys[0].name == HELLOWORLD)
    );
    let out = quiet.step(Input::Current(current), Timestamp(1));
    assert!(out.responses.is_empty());
    bench.check();
}

#[test]
fn a_mailbox_holds_the_latest_only() {
    let mut bench = two_services();
    let (_, slot) = bench.open(proxy("sleep-1", "sleep")).unwrap();
    let _session = session(&slot, HELLOWORLD);
    for last in 20..40 {
        bench.change(pods("helloworld", &[last], None));
    }
    let current = slot.take().current.unwrap();
    let up = bench.up(bench.teller.streams.values().next().unwrap());
    assert!(
        TypeUrlKind::ALL
            .iter()
            .all(|kind| current.set.shares(&up, *kind))
    );
    assert!(slot.take().current.is_none());
    bench.change(pods("helloworld", &[50], None));
    let current = slot.take().current.unwrap();
    assert!(matches!(&current.changed, Changed::Only(keys) if keys.len() == 1));
}

#[test]
fn proxies_that_hear_the_same_share_it_before_and_after_a_change() {
    let mut bench = two_services();
    bench.open(proxy("sleep-1", "sleep")).unwrap();
    bench.open(proxy("sleep-2", "sleep")).unwrap();
    let shared = |bench: &Bench, kind| {
        let maps: Vec<_> = bench
            .teller
            .streams
            .values()
            .map(|stream| bench.up(stream).shared(kind))
            .collect();
        Arc::ptr_eq(&maps[0], &maps[1])
    };
    assert!(shared(&bench, TypeUrlKind::Endpoints) && shared(&bench, TypeUrlKind::Route));
    bench.change(pods("helloworld", &[10, 11], None));
    assert!(shared(&bench, TypeUrlKind::Endpoints));
    bench.check();
}

#[test]
fn a_proxy_whose_network_changes_becomes_another_audience() {
    let mut bench = two_services();
    let (_, slot) = bench.open(proxy("sleep-1", "sleep")).unwrap();
    bench.open(proxy("lonely-1", "lonely")).unwrap();
    let _session = session(&slot, HELLOWORLD);
    bench.change(member("cluster-1", Some("network1")));
    bench.check();
    assert!(
        bench
            .teller
            .streams
            .values()
            .all(|stream| stream.audience.network.is_some())
    );
    assert!(is_woken(&slot));
    assert!(matches!(
        slot.take().current.unwrap().changed,
        Changed::Unknown
    ));
}

#[test]
fn who_is_not_the_pod_it_says_is_turned_away_and_put_out() {
    let mut bench = two_services();
    let refused = bench.open(proxy("helloworld-10", "sleep")).err().unwrap();
    assert!(
        refused.contains("the pod default/helloworld-10 runs as helloworld"),
        "{refused}"
    );
    // Nothing was known of this pod when it came.
    let (_, slot) = bench.open(proxy("helloworld-11", "sleep")).unwrap();
    bench.change(pods("helloworld", &[10, 11], None));
    assert!(is_woken(&slot));
    assert!(slot.take().end.is_some());
}

#[test]
fn a_refused_version_is_told_to_those_alike_and_forgotten_with_its_content() {
    let mut bench = two_services();
    let (_, one) = bench.open(proxy("sleep-1", "sleep")).unwrap();
    let (_, other) = bench.open(proxy("sleep-2", "sleep")).unwrap();
    let envoy = Proxy {
        capability: Capability::Envoy,
        ..proxy("sleep-2", "sleep")
    };
    let (_, envoy) = bench.open(envoy).unwrap();
    let set = one.take().current.unwrap().set;
    let bad = set.get(TypeUrlKind::Endpoints, HELLOWORLD).unwrap();
    let refusal = Refusal {
        kind: bad.kind,
        name: bad.name.clone(),
        version: bad.version,
        reason: "not today".into(),
        instead: None,
    };
    bench
        .teller
        .handle(Order::Refused(Capability::Catamaran, refusal));
    assert!(
        other
            .take()
            .quarantine
            .is_some_and(|quarantine| quarantine.get(bad).is_some())
    );
    assert!(envoy.take().quarantine.is_none());
    let problems = bench.teller.problems();
    assert!(
        problems
            .iter()
            .any(|problem| problem.kind == ProblemKind::Refused),
        "{problems:?}"
    );

    bench.change(pods("helloworld", &[12], None));
    assert!(
        other
            .take()
            .quarantine
            .is_some_and(|quarantine| quarantine.is_empty())
    );
}

#[test]
fn who_asks_for_the_same_shares_the_names_and_leaves_nothing_behind() {
    let mut bench = two_services();
    let opened = ["sleep-1", "sleep-2"].map(|pod| bench.open(proxy(pod, "sleep")).unwrap());
    let [mut one, mut other] = [&opened[0].1, &opened[1].1].map(|slot| session(slot, SLEEP));
    let names = |session: &ServerSession| {
        let (_, names) = session.interest(TypeUrlKind::Endpoints).unwrap();
        names.clone()
    };
    assert!(Arc::ptr_eq(&names(&one), &names(&other)));
    let ask = |name: &str| {
        Input::Delta(DeltaDiscoveryRequest {
            type_url: TypeUrlKind::Endpoints.url().into(),
            resource_names_subscribe: vec![name.into()],
            ..Default::default()
        })
    };
    one.step(ask(HELLOWORLD), Timestamp(1));
    opened[0].1.note_interest(TypeUrlKind::Endpoints, &mut one);
    assert_eq!(names(&one).len(), 2);
    assert_eq!(names(&other).len(), 1, "what one asks for is not another's");
    bench.change(pods("helloworld", &[12], None));
    assert!(is_woken(&opened[0].1) && !is_woken(&opened[1].1));
    other.step(ask(HELLOWORLD), Timestamp(1));
    opened[1]
        .1
        .note_interest(TypeUrlKind::Endpoints, &mut other);
    assert!(Arc::ptr_eq(&names(&one), &names(&other)));
    let shelves: Vec<Arc<Shelf>> = (bench.teller.shelves.values())
        .map(|filled| filled.shelf.clone())
        .collect();
    for (id, _) in opened {
        bench.teller.handle(Order::Close(id));
    }
    assert!(shelves.iter().all(|shelf| shelf.is_unheard()));
}

#[test]
fn streams_wait_for_the_first_view_and_leave_nothing_behind() {
    let mut bench = Bench::new([]);
    let slot = Arc::new(Slot::new(proxy("sleep-1", "sleep")));
    let (reply, mut answer) = oneshot::channel();
    bench.teller.handle(Order::Open(slot, reply));
    assert!(answer.try_recv().is_err(), "there is no Mesh object yet");
    assert_eq!(bench.teller.waiting.len(), 1);

    bench.change(mesh(FailoverMode::Spread));
    let ids: Vec<StreamId> = (0..5)
        .map(|n| bench.open(proxy(&format!("x-{n}"), "x")).unwrap().0)
        .collect();
    for id in ids {
        bench.teller.handle(Order::Close(id));
        bench.teller.handle(Order::Close(id));
    }
    assert!(bench.teller.streams.is_empty() && bench.teller.shelves.is_empty());
    assert!(bench.teller.saying.is_empty());
    assert!(bench.teller.of_workload.is_empty() && bench.teller.known().is_empty());
}

#[derive(Debug, Clone)]
enum Edit {
    Service(u8, u16),
    NoService(u8),
    Pods(u8, Vec<u8>, bool),
    Peer(u8, Vec<u8>),
    Network(u8),
    Failover(bool),
    Open(u8, bool),
    Close(u8),
}

fn an_edit() -> impl Strategy<Value = Edit> {
    let pods = || prop::collection::vec(1..6u8, 0..4);
    prop_oneof![
        4 => (0..3u8, prop_oneof![Just(80u16), Just(5000)]).prop_map(|(name, port)| Edit::Service(name, port)),
        1 => (0..3u8).prop_map(Edit::NoService),
        6 => (0..3u8, pods(), any::<bool>()).prop_map(|(name, pods, abroad)| Edit::Pods(name, pods, abroad)),
        3 => (0..3u8, pods()).prop_map(|(name, pods)| Edit::Peer(name, pods)),
        1 => (0..3u8).prop_map(Edit::Network),
        1 => any::<bool>().prop_map(Edit::Failover),
        4 => (0..8u8, any::<bool>()).prop_map(|(pod, envoy)| Edit::Open(pod, envoy)),
        2 => (0..8u8).prop_map(Edit::Close),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Whatever changes, and whoever comes and goes: each stream's set is what the translation says of its audience.
    #[test]
    fn what_is_told_is_what_translation_says(edits in prop::collection::vec(an_edit(), 1..40)) {
        let mut bench = Bench::new([mesh(FailoverMode::Spread), export()]);
        let name = |n: u8| format!("service-{n}");
        for edit in edits {
            match edit {
                Edit::Service(n, port) => bench.change(service(&name(n), port)),
                Edit::NoService(n) => {
                    delete(&mut bench.registry, "cluster-1", &service(&name(n), 80));
                    bench.publish();
                }
                Edit::Pods(n, numbers, abroad) => {
                    bench.change(pods(&name(n), &numbers, abroad.then_some("network2")));
                }
                Edit::Peer(n, numbers) => {
                    list(&mut bench.registry, "cluster-2", [service(&name(n), 80), pods(&name(n), &numbers, None)]);
                    bench.publish();
                }
                Edit::Network(n) => {
                    let network = ["network1", "network2"].get(usize::from(n));
                    bench.change(member("cluster-1", network.copied()));
                }
                Edit::Failover(local) => bench.change(mesh(match local {
                    true => FailoverMode::LocalFirst,
                    false => FailoverMode::Spread,
                })),
                Edit::Open(pod, envoy) => {
                    let service = name(pod % 3);
                    let opened = bench.open(Proxy {
                        capability: if envoy { Capability::Envoy } else { Capability::Catamaran },
                        gateway: pod == 7,
                        ..proxy(&format!("{service}-{pod}"), &service)
                    });
                    prop_assert!(opened.is_ok());
                }
                Edit::Close(n) => {
                    let id = bench.teller.streams.keys().nth(usize::from(n)).copied();
                    id.into_iter().for_each(|id| bench.teller.handle(Order::Close(id)));
                }
            }
            bench.check();
        }
    }
}

/// A proxy of the cluster that is managed beside the own one.
fn from_afar(pod: &str, account: &str) -> Proxy {
    Proxy {
        cluster: cluster("cluster-3"),
        ..proxy(pod, account)
    }
}

fn third() -> Fact {
    let Fact::Member(member) = member("cluster-3", Some("network3")) else {
        unreachable!()
    };
    Fact::Member(Member {
        mode: MemberMode::Managed,
        credential: Credential::Secret("cluster-3".into()),
        ..member
    })
}

#[test]
fn proxies_of_two_managed_clusters_hear_each_their_own() {
    let mut bench = two_services();
    bench.change(member("cluster-1", Some("network1")));
    bench.change(third());
    // One name in both clusters is two pods, with accounts of their own.
    let facts = [
        service("sleep", 80),
        pods("sleep", &[7], None),
        service("helloworld", 5000),
        pods("helloworld", &[1], None),
    ];
    list(&mut bench.registry, "cluster-3", facts);
    bench.publish();
    bench.open(proxy("sleep-1", "sleep")).unwrap();
    bench.open(from_afar("sleep-7", "sleep")).unwrap();
    bench.open(from_afar("helloworld-1", "helloworld")).unwrap();
    let refused = bench.open(from_afar("sleep-7", "helloworld")).err();
    assert!(refused.unwrap().contains("runs as sleep"));
    let mut audiences: Vec<String> = (bench.teller.streams.values())
        .map(|stream| {
            let (at, network) = (&stream.audience.cluster, stream.audience.network.as_ref());
            format!("{at} {}", network.unwrap())
        })
        .collect();
    audiences.sort();
    assert_eq!(
        audiences,
        [
            "cluster-1 network1",
            "cluster-3 network3",
            "cluster-3 network3"
        ]
    );
    bench.check();
}

#[test]
fn a_proxy_is_told_nothing_before_its_own_cluster_was_listed() {
    let mut bench = two_services();
    bench.change(third());
    let (_, mut answer) = bench.ask(from_afar("sleep-7", "sleep"));
    assert!(answer.try_recv().is_err(), "it waits");
    // Others do not.
    bench.open(proxy("sleep-1", "sleep")).unwrap();
    list(&mut bench.registry, "cluster-3", [service("sleep", 80)]);
    bench.publish();
    for (slot, reply) in std::mem::take(&mut bench.teller.waiting) {
        bench.teller.handle(Order::Open(slot, reply));
    }
    answer.try_recv().unwrap().unwrap();
}

#[test]
fn proxies_of_a_cluster_that_is_not_managed_are_refused_and_put_out() {
    let mut bench = two_services();
    let (_, mut answer) = bench.ask(from_afar("sleep-7", "sleep"));
    let refused = answer.try_recv().unwrap().unwrap_err();
    assert_eq!(
        refused,
        OpenError::Never(
            "the proxy is of cluster cluster-3; this control plane manages cluster-1: connect it to its own cluster's".into()
        )
    );
    bench.change(third());
    list(&mut bench.registry, "cluster-3", [service("sleep", 80)]);
    bench.publish();
    let (_, slot) = bench.open(from_afar("sleep-7", "sleep")).unwrap();
    let (_, own) = bench.open(proxy("sleep-1", "sleep")).unwrap();
    let gone = FactKey::Member(cluster("cluster-3"));
    say(&mut bench.registry, "cluster-1", Observed::Delete(gone));
    bench.publish();
    let end = slot.take().end.unwrap();
    assert!(end.contains("cluster-3 is not managed"), "{end}");
    assert!(own.take().end.is_none());
}
