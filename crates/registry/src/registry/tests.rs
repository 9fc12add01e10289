use std::collections::BTreeSet;

use catamaran_model::{Health, MemberMode, MeshSpec, PortName, SlicePort};
use proptest::prelude::*;

use super::*;
use crate::fixture::*;

const SERVICE: &str = "default/helloworld";

fn hello(endpoints: impl IntoIterator<Item = u16>) -> Vec<Fact> {
    vec![
        Fact::Service(service(SERVICE)),
        Fact::Slice(slice("helloworld-a", SERVICE, endpoints)),
    ]
}

fn with(mut facts: Vec<Fact>, more: impl IntoIterator<Item = Fact>) -> Vec<Fact> {
    facts.extend(more);
    facts
}

/// Two clusters in two networks, with a gateway each.
fn two_networks() -> Bench {
    let mut bench = Bench::new();
    let gateway = |name: &str, at: &str| {
        Fact::Gateway(catamaran_model::NetworkGateway {
            name: name.into(),
            network: None,
            at: gateway_at(at),
        })
    };
    let members = [
        Fact::Member(member("cluster-1", Some("network1"))),
        Fact::Member(member("cluster-2", Some("network2"))),
    ];
    let _ = bench.list(
        "cluster-1",
        1,
        with(
            with(hello([1]), members),
            [gateway("eastwest", "198.18.0.1")],
        ),
    );
    let _ = bench.list(
        "cluster-2",
        1,
        with(hello([2]), [gateway("eastwest", "198.18.0.2")]),
    );
    bench
}

#[test]
fn the_same_name_is_the_same_service_everywhere() {
    let mut bench = two_networks();
    assert_eq!(
        bench.endpoints(SERVICE),
        "cluster-1/10.0.0.1 cluster-2/10.0.0.2"
    );
    let snapshot = bench.registry.snapshot();
    let service = &snapshot.services[&key(SERVICE)];
    assert_eq!(service.endpoints[0].network, Some(network("network1")));
    assert_eq!(service.endpoints[1].network, Some(network("network2")));
    assert_eq!(service.endpoints[1].ports, [(5000, 5000)].into());
    assert_eq!(service.vips.len(), 2);
    let gateways = &snapshot.gateways[&network("network2")];
    assert_eq!(
        gateways,
        &[(cluster("cluster-2"), gateway_at("198.18.0.2"))]
    );
    assert_eq!(problems(&snapshot), [""; 0]);
    assert_eq!(
        snapshot.clusters[&cluster("cluster-1")].mode,
        MemberMode::Managed
    );
    assert_eq!(
        snapshot.clusters[&cluster("cluster-2")].mode,
        MemberMode::DiscoveryOnly
    );
}

#[test]
fn only_the_services_that_a_change_reached_are_merged_again() {
    let mut bench = two_networks();
    let other = "default/sleep";
    let _ = bench.upsert("cluster-1", 1, Fact::Service(service(other)));
    let before = bench.registry.snapshot();
    assert!(Arc::ptr_eq(&before, &bench.registry.snapshot()));

    let _ = bench.upsert(
        "cluster-2",
        1,
        Fact::Slice(slice("helloworld-a", SERVICE, [2, 3])),
    );
    let after = bench.registry.snapshot();
    assert_eq!(after.number, before.number + 1);
    assert_eq!(after.services_changed_since(&before), [&key(SERVICE)]);
    assert!(Arc::ptr_eq(
        &after.services[&key(other)],
        &before.services[&key(other)]
    ));
    let (old, new) = (
        &before.services[&key(SERVICE)],
        &after.services[&key(SERVICE)],
    );
    assert!(
        Arc::ptr_eq(&old.endpoints[1], &new.endpoints[1]),
        "an endpoint that did not change is shared"
    );
}

#[test]
fn saying_the_same_again_makes_no_new_snapshot() {
    let mut bench = two_networks();
    let before = bench.registry.snapshot();
    assert_eq!(
        bench.upsert("cluster-2", 1, hello([2])[1].clone()),
        Applied::Unchanged
    );
    assert!(Arc::ptr_eq(&before, &bench.registry.snapshot()));
    // A list with the same content is news about freshness and revision only.
    let gateway = before.gateways[&network("network2")][0].1;
    let same = with(
        hello([2]),
        [Fact::Gateway(catamaran_model::NetworkGateway {
            name: "eastwest".into(),
            network: None,
            at: gateway,
        })],
    );
    let _ = bench.list("cluster-2", 2, same);
    assert_eq!(
        bench
            .registry
            .snapshot()
            .services_changed_since(&before)
            .len(),
        0
    );
}

#[test]
fn settings_count_only_from_the_managed_cluster() {
    let mut bench = two_networks();
    let spec = MeshSpec {
        name: MeshName::new("mesh-2").unwrap(),
        region: None,
        version: None,
        trust_domain: Default::default(),
        domain: Default::default(),
        mtls: Default::default(),
        failover: Default::default(),
    };
    let ignored = Applied::Ignored(Ignored::ManagedOnly);
    assert_eq!(
        bench.upsert("cluster-2", 1, Fact::Mesh(spec.clone())),
        ignored
    );
    assert_eq!(
        bench.upsert(
            "cluster-2",
            1,
            Fact::Member(member("cluster-1", Some("elsewhere")))
        ),
        ignored
    );
    assert_eq!(bench.registry.snapshot().mesh, None);
    let _ = bench.upsert("cluster-1", 1, Fact::Mesh(spec.clone()));
    assert_eq!(bench.registry.snapshot().mesh.as_deref(), Some(&spec));
}

#[test]
fn a_workloads_own_network_label_wins() {
    let mut bench = two_networks();
    let mut own = slice("helloworld-a", SERVICE, [2]);
    own.endpoints[0].network = Some(network("network1"));
    let _ = bench.upsert("cluster-2", 1, Fact::Slice(own));
    let snapshot = bench.registry.snapshot();
    assert_eq!(
        snapshot.services[&key(SERVICE)].endpoints[1].network,
        Some(network("network1"))
    );
}

#[test]
fn assigning_a_network_reaches_only_that_clusters_services() {
    let mut bench = two_networks();
    let _ = bench.upsert("cluster-1", 1, Fact::Service(service("default/only-here")));
    let before = bench.registry.snapshot();
    let _ = bench.upsert(
        "cluster-1",
        1,
        Fact::Member(member("cluster-2", Some("network3"))),
    );
    let after = bench.registry.snapshot();
    assert_eq!(after.services_changed_since(&before), [&key(SERVICE)]);
    assert_eq!(
        after.services[&key(SERVICE)].endpoints[1].network,
        Some(network("network3"))
    );
}

#[test]
fn gateways_given_by_hand_take_the_place_of_discovered_ones() {
    let mut bench = two_networks();
    let mut by_hand = member("cluster-2", Some("network2"));
    by_hand.gateway_addresses = vec![gateway_at("203.0.113.7")];
    let _ = bench.upsert("cluster-1", 1, Fact::Member(by_hand));
    let snapshot = bench.registry.snapshot();
    let only = [(cluster("cluster-2"), gateway_at("203.0.113.7"))];
    assert_eq!(snapshot.gateways[&network("network2")], only);
}

#[test]
fn a_peers_export_names_its_gateways_and_issuers() {
    let mut bench = two_networks();
    let mut said = export("mesh-2", "cluster-2", 1);
    said.gateways = vec![gateway_at("198.18.0.9"), gateway_at("198.18.0.2")];
    let _ = bench.upsert("cluster-2", 1, Fact::Export(said));
    let snapshot = bench.registry.snapshot();
    let gateways = &snapshot.gateways[&network("network2")];
    let at = |text| (cluster("cluster-2"), gateway_at(text));
    assert_eq!(gateways, &[at("198.18.0.2"), at("198.18.0.9")]);
    assert_eq!(
        snapshot.issuers.keys().collect::<Vec<_>>(),
        [&cluster("cluster-2")]
    );
}

#[test]
fn our_own_export_does_not_keep_a_gateway_that_is_gone() {
    let mut bench = two_networks();
    let mut said = export("mesh-1", "cluster-1", 1);
    said.gateways = vec![gateway_at("198.18.0.1")];
    let _ = bench.upsert("cluster-1", 1, Fact::Export(said));
    let _ = bench.say(
        "cluster-1",
        1,
        Observed::Delete(FactKey::Gateway("eastwest".into())),
    );
    assert!(
        !bench
            .registry
            .snapshot()
            .gateways
            .contains_key(&network("network1"))
    );
}

#[test]
fn a_network_without_a_gateway_is_a_problem_by_name() {
    let mut bench = two_networks();
    let _ = bench.say(
        "cluster-2",
        1,
        Observed::Delete(FactKey::Gateway("eastwest".into())),
    );
    let told = problems(&bench.registry.snapshot());
    assert_eq!(told.len(), 1);
    assert!(
        told[0].starts_with("NoGateway cluster-2: cluster-2 has endpoints in network2"),
        "{told:?}"
    );
    // When the networks are connected nothing is missing.
    let _ = bench.upsert(
        "cluster-1",
        1,
        Fact::Member(member("cluster-2", Some("network1"))),
    );
    assert_eq!(problems(&bench.registry.snapshot()), [""; 0]);
}

#[test]
fn an_endpoint_without_a_sidecar_abroad_is_a_problem() {
    let mut bench = two_networks();
    let mut plain = slice("helloworld-a", SERVICE, [2, 3]);
    plain.endpoints[1].tls = TlsMode::Plain;
    let _ = bench.upsert("cluster-2", 1, Fact::Slice(plain));
    let told = problems(&bench.registry.snapshot());
    assert_eq!(told.len(), 1);
    assert!(
        told[0].starts_with("PlainAcrossNetworks cluster-2"),
        "{told:?}"
    );
}

#[test]
fn a_cluster_under_another_root_is_refused_by_name() {
    let mut bench = two_networks();
    let _ = bench.upsert(
        "cluster-1",
        1,
        Fact::Export(export("mesh-1", "cluster-1", 1)),
    );
    let _ = bench.upsert(
        "cluster-2",
        1,
        Fact::Export(export("mesh-2", "cluster-2", 2)),
    );
    assert_eq!(bench.endpoints(SERVICE), "cluster-1/10.0.0.1");
    let snapshot = bench.registry.snapshot();
    assert!(!snapshot.gateways.contains_key(&network("network2")));
    let told = problems(&snapshot);
    assert!(
        told[0].starts_with("RootMismatch cluster-2: mesh-2 in cluster-2 trusts the root 02:02"),
        "{told:?}"
    );

    // While a root is rotated both are trusted: that is no mismatch.
    let mut both = export("mesh-2", "cluster-2", 2);
    both.roots.push(Fingerprint([1; 32]));
    let _ = bench.upsert("cluster-2", 1, Fact::Export(both));
    assert_eq!(
        bench.endpoints(SERVICE),
        "cluster-1/10.0.0.1 cluster-2/10.0.0.2"
    );
}

#[test]
fn one_cluster_under_two_names_is_not_used_twice() {
    let mut bench = two_networks();
    let _ = bench.upsert(
        "cluster-2",
        1,
        Fact::Export(export("mesh-2", "cluster-2", 1)),
    );
    let _ = bench.list(
        "alias",
        1,
        with(hello([2]), [Fact::Export(export("mesh-2", "cluster-2", 1))]),
    );
    assert_eq!(
        bench.endpoints(SERVICE),
        "cluster-1/10.0.0.1 cluster-2/10.0.0.2"
    );
    let told = problems(&bench.registry.snapshot());
    assert!(
        told[0]
            .starts_with("DuplicateCluster alias: what was added as alias calls itself cluster-2"),
        "{told:?}"
    );

    let mut clone = export("mesh-3", "cluster-3", 1);
    clone.cluster_uid = "uid-of-cluster-2".into();
    let _ = bench.list("cluster-3", 1, with(hello([3]), [Fact::Export(clone)]));
    assert_eq!(
        bench.endpoints(SERVICE),
        "cluster-1/10.0.0.1 cluster-2/10.0.0.2"
    );
    let told = problems(&bench.registry.snapshot());
    assert!(
        told[1].starts_with("DuplicateCluster cluster-3: cluster-3 and cluster-2 have one UID"),
        "{told:?}"
    );
}

#[test]
fn system_services_stay_in_their_cluster() {
    for name in [
        "kube-system/kube-dns",
        "default/kubernetes",
        "catamaran-system/control-plane",
    ] {
        let mut bench = Bench::new();
        for (of, last) in [("cluster-1", 1), ("cluster-2", 2)] {
            let facts = [
                Fact::Service(service(name)),
                Fact::Slice(slice("slice", name, [last])),
            ];
            let _ = bench.list(of, 1, facts);
        }
        let snapshot = bench.registry.snapshot();
        let merged = &snapshot.services[&key(name)];
        let seen = |from: &str| {
            let from = cluster(from);
            let seen = merged.endpoints_seen_from(&from);
            seen.map(|one| one.cluster.to_string()).collect::<Vec<_>>()
        };
        assert_eq!(seen("cluster-1"), ["cluster-1"], "{name}");
        assert_eq!(seen("cluster-2"), ["cluster-2"], "{name}");
        assert!(!merged.is_known_in(&cluster("cluster-3")));
    }
}

#[test]
fn a_slices_port_belongs_to_the_services_port_of_the_same_name() {
    let mut bench = Bench::new();
    let mut service = service(SERVICE);
    service.ports = vec![
        port(80, Some("http")),
        port(9090, Some("tcp-admin")),
        port(7, None),
    ];
    let mut own = slice("helloworld-a", SERVICE, [1]);
    let named = |name: Option<&str>, number| SlicePort {
        name: name.map(|name| PortName::new(name).unwrap()),
        number,
    };
    own.ports = vec![
        named(Some("http"), 8080),
        named(Some("other"), 1),
        named(None, 7007),
    ];
    let _ = bench.list("cluster-1", 1, [Fact::Service(service), Fact::Slice(own)]);
    let snapshot = bench.registry.snapshot();
    assert_eq!(
        snapshot.services[&key(SERVICE)].endpoints[0].ports,
        [(7, 7007), (80, 8080)].into()
    );
}

#[test]
fn an_endpoint_in_two_slices_counts_once() {
    let mut bench = Bench::new();
    let mut old = slice("helloworld-a", SERVICE, [1, 2]);
    old.endpoints[0].health = Health::NotReady;
    let new = slice("helloworld-b", SERVICE, [1]);
    let _ = bench.list(
        "cluster-1",
        1,
        with(hello([]), [Fact::Slice(old), Fact::Slice(new)]),
    );
    assert_eq!(
        bench.endpoints(SERVICE),
        "cluster-1/10.0.0.1 cluster-1/10.0.0.2"
    );
    let snapshot = bench.registry.snapshot();
    assert_eq!(
        snapshot.services[&key(SERVICE)].endpoints[0]
            .endpoint
            .health,
        Health::Ready
    );
}

#[test]
fn ten_thousand_removals_leave_nothing_behind() {
    let mut bench = Bench::new();
    for n in 1..10_000 {
        let _ = bench.list(&format!("cluster-{n}"), 1, hello([1]));
        let _ = bench.say(&format!("cluster-{n}"), 1, Observed::Removed);
        if n % 100 == 0 {
            let _ = bench.registry.snapshot();
        }
    }
    let snapshot = bench.registry.snapshot();
    assert!(snapshot.clusters.is_empty() && snapshot.services.is_empty());
    assert!(bench.registry.removed.len() <= MAX_REMOVED);
    assert!(bench.registry.notes.is_empty() && bench.registry.networks.is_empty());
}

/// One step of a random history. Small numbers, so that things meet.
#[derive(Debug, Clone)]
enum Step {
    Say {
        cluster: u8,
        watch: u64,
        what: What,
    },
    /// A whole list, as watches say it.
    List {
        cluster: u8,
        watch: u64,
        services: BTreeSet<u8>,
        slices: BTreeMap<u8, (u8, BTreeSet<u16>)>,
        revision: u64,
    },
    SecondsPass(u64),
}

impl Step {
    /// Single changes.
    fn parts(self) -> Vec<Step> {
        let Step::List {
            cluster,
            watch,
            services,
            slices,
            revision,
        } = self
        else {
            return vec![self];
        };
        let services = services.into_iter().map(What::Service);
        let slices = slices
            .into_iter()
            .map(|(slice, (service, endpoints))| What::Slice {
                slice,
                service,
                endpoints,
            });
        std::iter::once(What::Relisting)
            .chain(services)
            .chain(slices)
            .chain([What::Listed(revision)])
            .map(|what| Step::Say {
                cluster,
                watch,
                what,
            })
            .collect()
    }
}

#[derive(Debug, Clone)]
enum What {
    Service(u8),
    Slice {
        slice: u8,
        service: u8,
        endpoints: BTreeSet<u16>,
    },
    NoService(u8),
    NoSlice(u8),
    Member(u8, Option<u8>),
    Relisting,
    Listed(u64),
    Lost,
    Back,
    Removed,
    Confirmed,
}

impl Registry {
    /// What a picture says of whole clusters is what working it out from nothing would say.
    fn judge(&self, picture: &Snapshot) {
        let views = self.views();
        assert_eq!(format!("{:?}", picture.clusters), format!("{views:?}"));
        assert_eq!(picture.gateways, self.gateways());
        assert_eq!(picture.issuers, self.issuers());
        assert_eq!(*picture.problems, self.problems(&views, &self.gateways()));
        let says = |notes: &Notes| !notes.problems.is_empty() || !notes.plain.is_empty();
        let noted = self.notes.iter().filter(|(_, notes)| says(notes));
        assert!(noted.map(|(key, _)| key).eq(&self.noted));
    }
}

fn steps(count: usize) -> impl Strategy<Value = Vec<Step>> {
    prop::collection::vec(a_step(), 1..count)
        .prop_map(|steps| steps.into_iter().flat_map(Step::parts).collect())
}

fn a_step() -> impl Strategy<Value = Step> {
    let endpoints = || prop::collection::btree_set(0..16u16, 0..14);
    let slices = prop::collection::btree_map(0..4u8, (0..3u8, endpoints()), 0..4);
    let services = prop_oneof![3 => Just(BTreeSet::from([0, 1, 2])), 1 => prop::collection::btree_set(0..3u8, 0..3)];
    let a_list = (0..3u8, 1..4u64, services, slices, 0..6u64).prop_map(
        |(cluster, watch, services, slices, revision)| Step::List {
            cluster,
            watch,
            services,
            slices,
            revision,
        },
    );
    let a_slice =
        (0..4u8, 0..3u8, endpoints()).prop_map(|(slice, service, endpoints)| What::Slice {
            slice,
            service,
            endpoints,
        });
    let what = prop_oneof![
        12 => a_slice,
        6 => (0..3u8).prop_map(What::Service),
        2 => (0..3u8).prop_map(What::NoService),
        3 => (0..4u8).prop_map(What::NoSlice),
        2 => (0..3u8, prop::option::of(0..2u8)).prop_map(|(of, network)| What::Member(of, network)),
        5 => Just(What::Relisting),
        6 => (0..6u64).prop_map(What::Listed),
        3 => Just(What::Lost),
        2 => Just(What::Back),
        1 => Just(What::Removed),
        1 => Just(What::Confirmed),
    ];
    prop_oneof![
        8 => (0..3u8, 1..4u64, what).prop_map(|(cluster, watch, what)| Step::Say { cluster, watch, what }),
        4 => a_list,
        2 => (0..15u64).prop_map(Step::SecondsPass),
    ]
}

fn service_name(number: u8) -> String {
    format!("default/service-{number}")
}

fn observed(what: &What) -> Observed {
    match what {
        What::Service(number) => Observed::Upsert(Fact::Service(service(&service_name(*number)))),
        What::Slice {
            slice: name,
            service,
            endpoints,
        } => Observed::Upsert(Fact::Slice(slice(
            &format!("slice-{name}"),
            &service_name(*service),
            endpoints.iter().copied(),
        ))),
        What::NoService(number) => Observed::Delete(FactKey::Service(key(&service_name(*number)))),
        What::NoSlice(number) => Observed::Delete(FactKey::Slice(
            slice(&format!("slice-{number}"), &service_name(0), []).key,
        )),
        What::Member(of, to) => {
            let to = to.map(|number| format!("network{number}"));
            Observed::Upsert(Fact::Member(member(
                &format!("cluster-{of}"),
                to.as_deref(),
            )))
        }
        What::Relisting => Observed::Relisting,
        What::Listed(revision) => Observed::Listed(Revision(*revision)),
        What::Lost => Observed::Lost("refused".into()),
        What::Back => Observed::Back,
        What::Removed => Observed::Removed,
        What::Confirmed => Observed::Confirmed,
    }
}

fn run(bench: &mut Bench, step: &Step) -> Option<Applied> {
    match step {
        Step::Say {
            cluster,
            watch,
            what,
        } => Some(bench.say(&format!("cluster-{cluster}"), *watch, observed(what))),
        Step::SecondsPass(seconds) => {
            bench.seconds_pass(*seconds);
            None
        }
        Step::List { .. } => unreachable!("lists are taken apart"),
    }
}

/// An endpoint of a service in a cluster: what nobody may lose.
type Held = (u8, u8, u16);

fn shown(snapshot: &Snapshot) -> BTreeSet<Held> {
    let digit = |text: &str| text.bytes().last().map(|b| b - b'0').unwrap();
    let services = snapshot.services.iter();
    services
        .flat_map(|(key, service)| {
            service.endpoints.iter().map(move |one| {
                let std::net::IpAddr::V4(address) = one.endpoint.address.ip() else {
                    unreachable!("the fixture has IPv4 only")
                };
                let last = u16::from(address.octets()[3]);
                (digit(one.cluster.as_str()), digit(key.name.as_str()), last)
            })
        })
        .collect()
}

/// A list as far as it was said.
struct Said {
    begun: Timestamp,
    services: BTreeSet<u8>,
    slices: BTreeMap<u8, (u8, BTreeSet<u16>)>,
}

impl Said {
    fn has_endpoint(&self, held: &Held) -> bool {
        let mut slices = self.slices.values();
        slices.any(|(service, endpoints)| *service == held.1 && endpoints.contains(&held.2))
    }

    fn has_service(&self, held: &Held) -> bool {
        self.services.contains(&held.1)
    }
}

/// What was said, as somebody knows it who trusts nothing: the judge of [`nothing_goes_without_a_witness`].
#[derive(Default)]
struct Judge {
    ever: BTreeSet<Held>,
    /// Services that were ever said, with endpoints or without.
    services: BTreeSet<(u8, u8)>,
    lists: BTreeMap<(u8, u64), Said>,
    /// Since when complete lists lack an endpoint.
    lacking: BTreeMap<Held, Timestamp>,
    /// Since when complete lists lack the service.
    lacking_service: BTreeMap<(u8, u8), Timestamp>,
}

impl Judge {
    fn note(&mut self, now: Timestamp, cluster: u8, watch: u64, what: &What) {
        if let What::Relisting = what {
            let said = Said {
                begun: now,
                services: BTreeSet::new(),
                slices: BTreeMap::new(),
            };
            self.lists.insert((cluster, watch), said);
        }
        if let What::Slice {
            service, endpoints, ..
        } = what
        {
            self.ever
                .extend(endpoints.iter().map(|last| (cluster, *service, *last)));
        }
        if let What::Service(service) = what {
            self.services.insert((cluster, *service));
        }
        let Some(list) = self.lists.get_mut(&(cluster, watch)) else {
            return;
        };
        match what {
            What::Service(service) => drop(list.services.insert(*service)),
            What::NoService(service) => drop(list.services.remove(service)),
            What::NoSlice(slice) => drop(list.slices.remove(slice)),
            What::Slice {
                slice,
                service,
                endpoints,
            } => {
                list.slices.insert(*slice, (*service, endpoints.clone()));
            }
            _ => {}
        }
    }

    /// Whether a complete list may take all of `gone` away.
    fn believes(
        &self,
        list: &Said,
        gone: &[Held],
        before: &BTreeSet<Held>,
        after: &BTreeSet<Held>,
    ) -> bool {
        let long = |since: Option<&Timestamp>| {
            since.is_some_and(|since| list.begun >= since.after(crate::HOLD))
        };
        let agreed = |held: &&Held| {
            (!list.has_endpoint(held) && long(self.lacking.get(held)))
                || (!list.has_service(held) && long(self.lacking_service.get(&(held.0, held.1))))
        };
        let at_once: Vec<&Held> = gone.iter().filter(|held| !agreed(held)).collect();
        let all = before
            .iter()
            .filter(|held| gone.iter().any(|one| one.0 == held.0))
            .count();
        let emptied = |held: &&Held| !after.iter().any(|one| (one.0, one.1) == (held.0, held.1));
        gone.iter()
            .all(|held| !list.has_endpoint(held) || !list.has_service(held))
            && !at_once.iter().any(emptied)
            && (at_once.len() < 10 || at_once.len() * 2 <= all)
    }

    /// Notes that a list was taken up, or that a live watch said something.
    fn taken_up(&mut self, now: Timestamp, cluster: u8, watch: u64, what: &What) {
        match what {
            What::Listed(_) => {
                let list = &self.lists[&(cluster, watch)];
                for held in self.ever.iter().filter(|held| held.0 == cluster) {
                    match list.has_endpoint(held) {
                        true => drop(self.lacking.remove(held)),
                        false => drop(self.lacking.entry(*held).or_insert(now)),
                    }
                }
                for service in self.services.iter().filter(|service| service.0 == cluster) {
                    match list.services.contains(&service.1) {
                        true => drop(self.lacking_service.remove(service)),
                        false => drop(self.lacking_service.entry(*service).or_insert(now)),
                    }
                }
            }
            What::Service(service) => drop(self.lacking_service.remove(&(cluster, *service))),
            What::Slice {
                service, endpoints, ..
            } => {
                let again = |held: &Held| {
                    (held.0, held.1) == (cluster, *service) && endpoints.contains(&held.2)
                };
                self.lacking.retain(|held, _| !again(held));
            }
            What::Removed => {
                self.lacking.retain(|held, _| held.0 != cluster);
                self.lacking_service.retain(|(of, _), _| *of != cluster);
            }
            _ => {}
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    /// S5 no invention, S6 deletion needs a witness, S4 no empty: over random histories with errors, broken lists, watches that
    /// replace one another, and late words of old ones.
    #[test]
    fn nothing_goes_without_a_witness(steps in steps(60)) {
        let mut bench = Bench::new();
        let mut judge = Judge::default();
        let mut before = BTreeSet::new();
        for step in &steps {
            let applied = run(&mut bench, step);
            let after = shown(&bench.registry.snapshot());
            let gone: Vec<Held> = before.difference(&after).copied().collect();
            match step {
                Step::Say { cluster, watch, what } => {
                    judge.note(bench.now, *cluster, *watch, what);
                    let others = gone.iter().any(|held| held.0 != *cluster);
                    prop_assert!(!others, "{:?} took {:?} away", step, gone);
                    let witnessed = gone.is_empty() || match what {
                        What::Slice { .. } | What::NoSlice(_) | What::NoService(_) => applied == Some(Applied::Changed),
                        What::Removed | What::Confirmed => true,
                        What::Listed(_) => judge.believes(&judge.lists[&(*cluster, *watch)], &gone, &before, &after),
                        _ => false,
                    };
                    prop_assert!(witnessed, "{:?} ({:?}) took {:?} away without a witness", step, applied, gone);
                    if matches!(applied, Some(Applied::Changed | Applied::Unchanged | Applied::Held { .. })) {
                        judge.taken_up(bench.now, *cluster, *watch, what);
                    }
                }
                _ => prop_assert!(gone.is_empty(), "time took {:?} away", gone),
            }
            prop_assert!(after.is_subset(&judge.ever), "invented: {:?}", after.difference(&judge.ever));
            before = after;
        }

        // V1: when faults stop, two lists ten seconds apart show what is there, whatever was before.
        for number in 0..3u8 {
            let of = format!("cluster-{number}");
            let truth = || with(
                vec![Fact::Service(service(&service_name(number)))],
                [Fact::Slice(slice("slice-0", &service_name(number), [u16::from(number)]))],
            );
            let _ = bench.list(&of, 10, truth());
            bench.seconds_pass(10);
            let _ = bench.list(&of, 11, truth());
            bench.seconds_pass(10);
            let _ = bench.list(&of, 12, truth());
        }
        let settled: BTreeSet<Held> = (0..3u8).map(|n| (n, n, u16::from(n))).collect();
        prop_assert_eq!(shown(&bench.registry.snapshot()), settled);
    }

    /// Merging only what was touched gives what merging everything gives; so does loading what was saved.
    #[test]
    fn incremental_equals_a_full_rebuild(
        steps in steps(60),
        pictures in prop::collection::vec(any::<bool>(), 600),
    ) {
        let mut bench = Bench::new();
        for (step, picture) in steps.iter().zip(pictures) {
            run(&mut bench, step);
            if picture {
                let picture = bench.registry.snapshot();
                bench.registry.judge(&picture);
            }
        }
        let incremental = bench.registry.snapshot();
        let mut rebuilt = Registry::new(cluster("cluster-1"));
        for cluster in bench.registry.clusters() {
            if let Some(saved) = bench.registry.shard_facts(cluster) {
                let _ = rebuilt.restore(cluster.clone(), saved, bench.now);
            }
        }
        let rebuilt = rebuilt.snapshot();
        prop_assert_eq!(&incremental.services, &rebuilt.services);
        prop_assert_eq!(&incremental.gateways, &rebuilt.gateways);
        prop_assert_eq!(&incremental.issuers, &rebuilt.issuers);
        let lasting = |snapshot: &Snapshot| {
            let passing = [ProblemKind::DiscoveryLost, ProblemKind::ShrinkHeld];
            let problems = snapshot.problems.iter().filter(|problem| !passing.contains(&problem.kind));
            problems.cloned().collect::<Vec<_>>()
        };
        prop_assert_eq!(lasting(&incremental), lasting(&rebuilt));
    }

    /// The order in which clusters speak does not show, nor how often pictures were taken.
    #[test]
    fn clusters_may_speak_in_any_order(
        steps in steps(50),
        order in Just([0u8, 1, 2]).prop_shuffle(),
    ) {
        let quiet: Vec<&Step> = steps.iter().filter(|step| matches!(step, Step::Say { .. })).collect();
        let mut one = Bench::new();
        for step in &quiet {
            run(&mut one, step);
            let _ = one.registry.snapshot();
        }
        let mut other = Bench::new();
        for number in order {
            for step in &quiet {
                if matches!(step, Step::Say { cluster, .. } if *cluster == number) {
                    run(&mut other, step);
                }
            }
        }
        let (one, other) = (one.registry.snapshot(), other.registry.snapshot());
        prop_assert_eq!(&one.services, &other.services);
        prop_assert_eq!(&one.gateways, &other.gateways);
        prop_assert_eq!(&one.problems, &other.problems);
        prop_assert_eq!(format!("{:?}", one.clusters), format!("{:?}", other.clusters));
    }
}

#[test]
fn a_change_is_the_same_work_among_few_and_many() {
    let work = |many: usize| {
        let mut bench = Bench::new();
        let name = |n: usize| format!("default/s-{n}");
        let facts = (0..many).flat_map(|n| {
            let slice = slice(&format!("slice-{n}"), &name(n), [1]);
            [Fact::Service(service(&name(n))), Fact::Slice(slice)]
        });
        let _ = bench.list("cluster-1", 1, facts.collect::<Vec<_>>());
        let before = bench.registry.snapshot();
        let merged = bench.registry.merged();
        let _ = bench.upsert(
            "cluster-1",
            1,
            Fact::Slice(slice("slice-0", &name(0), [1, 2])),
        );
        let after = bench.registry.snapshot();
        assert!(after.services.copied_since(&before.services) <= 64);
        assert!(Arc::ptr_eq(&after.problems, &before.problems));
        assert_eq!(after.clusters[&cluster("cluster-1")].endpoints, many + 1);
        let of = |snapshot: &Snapshot| snapshot.clusters[&cluster("cluster-1")].namespaces.clone();
        assert!(Arc::ptr_eq(&of(&after), &of(&before)));
        (
            bench.registry.merged() - merged,
            after.services_changed_since(&before).len(),
        )
    };
    assert_eq!(work(1), (1, 1));
    assert_eq!(work(3_000), work(1));
}

/// `mesh-1` in cluster-1, which also manages cluster-3.
fn manages_another() -> Bench {
    let mut bench = Bench::new();
    bench.registry = Registry::new(cluster("cluster-1")).for_mesh("mesh-1".parse().unwrap());
    let mut third = member("cluster-3", Some("network3"));
    third.mode = MemberMode::Managed;
    third.credential = Credential::Secret("cluster-3".into());
    let members = [
        Fact::Member(member("cluster-1", Some("network1"))),
        Fact::Member(third),
        Fact::Export(export("mesh-1", "cluster-1", 1)),
    ];
    let _ = bench.list("cluster-1", 1, with(hello([1]), members));
    bench
}

#[test]
fn an_instance_signs_for_every_cluster_that_it_manages() {
    let mut bench = manages_another();
    // Its own word there is from before a renewal, or somebody's who rules that cluster: neither is asked.
    let old = [Fact::Export(export("mesh-1", "cluster-3", 9))];
    let _ = bench.list("cluster-3", 1, with(hello([3]), old));
    let snapshot = bench.registry.snapshot();
    assert_eq!(
        snapshot.clusters[&cluster("cluster-3")].mode,
        MemberMode::Managed
    );
    let ours = vec![Fingerprint([101; 32])];
    assert_eq!(snapshot.issuers[&cluster("cluster-3")], ours);
    assert_eq!(
        bench.endpoints(SERVICE),
        "cluster-1/10.0.0.1 cluster-3/10.0.0.3"
    );
}

#[test]
fn each_managed_cluster_needs_a_way_to_the_others() {
    let mut bench = manages_another();
    let gateway = Fact::Gateway(catamaran_model::NetworkGateway {
        name: "eastwest".into(),
        network: None,
        at: gateway_at("198.18.0.3"),
    });
    let _ = bench.list("cluster-3", 1, with(hello([3]), [gateway]));
    let said = problems(&bench.registry.snapshot());
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(said[0].starts_with("NoGateway cluster-1:"), "{said:?}");
}

#[test]
fn a_cluster_that_another_instance_manages_is_said() {
    let mut bench = manages_another();
    let other = [Fact::Export(export("mesh-3", "cluster-3", 1))];
    let _ = bench.list("cluster-3", 1, other);
    let said = problems(&bench.registry.snapshot());
    assert!(
        said.iter()
            .any(|said| said.starts_with("DuplicateCluster cluster-3: mesh-3 says")),
        "{said:?}"
    );
}

#[test]
fn a_folder_of_a_fleet_is_managed_by_its_own_instance() {
    let mut bench = Bench::new();
    let mut other = member("cluster-2", None);
    other.mode = MemberMode::Managed;
    let _ = bench.list("cluster-1", 1, [Fact::Member(other)]);
    let _ = bench.list(
        "cluster-2",
        1,
        [Fact::Export(export("mesh-2", "cluster-2", 2))],
    );
    let snapshot = bench.registry.snapshot();
    assert_eq!(
        snapshot.issuers[&cluster("cluster-2")],
        vec![Fingerprint([102; 32])]
    );
}

#[test]
fn another_instance_believes_of_each_cluster_what_stands_in_it() {
    let mut bench = Bench::new();
    let members = [
        Fact::Member(member("cluster-1", None)),
        Fact::Member(member("cluster-2", None)),
        Fact::Member(member("cluster-3", None)),
    ];
    let _ = bench.list("cluster-1", 1, with(hello([1]), members));
    // One instance manages both, and says so in each.
    let word = |of: &str| Fact::Export(export("mesh-2", of, 1));
    // What cluster-2 says of cluster-3 counts for nothing.
    let mut claim = export("mesh-9", "cluster-3", 1);
    claim.intermediates = vec![Fingerprint([66; 32])];
    let facts = [word("cluster-2"), Fact::Export(claim)];
    let _ = bench.list("cluster-2", 1, with(hello([2]), facts));
    let _ = bench.list("cluster-3", 1, with(hello([3]), [word("cluster-3")]));
    let snapshot = bench.registry.snapshot();
    for of in ["cluster-2", "cluster-3"] {
        assert_eq!(
            snapshot.issuers[&cluster(of)],
            vec![Fingerprint([101; 32])],
            "{of}"
        );
    }
    assert_eq!(
        bench.endpoints(SERVICE),
        "cluster-1/10.0.0.1 cluster-2/10.0.0.2 cluster-3/10.0.0.3"
    );
    assert_eq!(problems(&snapshot), [""; 0]);
}
