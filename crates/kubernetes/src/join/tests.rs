use serde_json::{Value, json};

use super::*;
use crate::seen::{RawExport, RawNamespace, RawNode, RawPod, RawService, RawSlice, Read};

const KINDS: [Kind; 6] = [
    Kind::Namespace,
    Kind::MeshExport,
    Kind::Node,
    Kind::Service,
    Kind::EndpointSlice,
    Kind::Pod,
];

struct Cluster {
    join: Join,
}

impl Cluster {
    fn new() -> Cluster {
        Cluster {
            join: Join::new(ClusterId::new("c2").unwrap(), KINDS),
        }
    }

    /// All kinds are listed, empty.
    fn listed() -> Cluster {
        let mut cluster = Cluster::new();
        for kind in KINDS {
            cluster.list(kind, &[]);
        }
        cluster
    }

    fn take(&mut self, told: Told) -> Vec<String> {
        let mut said = Vec::new();
        for say in self.join.take(told) {
            match say {
                Say::One(observed) => said.push(words(&observed)),
                Say::Whole => said.extend(self.join.whole().map(|observed| words(&observed))),
            }
        }
        said
    }

    fn put(&mut self, kind: Kind, object: Value) -> Vec<String> {
        let told = told(kind, object);
        self.take(told)
    }

    fn gone(&mut self, kind: Kind, name: &str) -> Vec<String> {
        let namespace = (kind != Kind::Node).then(|| Namespace::new("default").unwrap());
        let name = name.into();
        self.take(Told::Gone(kind, Key { namespace, name }))
    }

    fn list(&mut self, kind: Kind, objects: &[Value]) -> Vec<String> {
        self.take(Told::Begins(kind));
        for object in objects {
            assert_eq!(self.put(kind, object.clone()), [""; 0]);
        }
        self.take(Told::Listed(kind, "7".into()))
    }

    fn lost(&mut self, kind: Kind) -> Vec<String> {
        let failure = Failure::Truncated { why: "x".into() };
        self.take(Told::Lost(kind, failure))
    }
}

fn told(kind: Kind, object: Value) -> Told {
    fn of<T: Read>(object: Value) -> Told
    where
        Kept: From<T::Kept>,
    {
        let raw: T = serde_json::from_value(object).unwrap();
        let key = raw.meta().key().unwrap();
        let mut notes = Vec::new();
        let kept = raw.keep(&mut notes).unwrap().unwrap();
        Told::Put(key, kept.into(), notes)
    }
    match kind {
        Kind::Namespace => of::<RawNamespace>(object),
        Kind::MeshExport => of::<RawExport>(object),
        Kind::Node => of::<RawNode>(object),
        Kind::Service => of::<RawService>(object),
        Kind::EndpointSlice => of::<RawSlice>(object),
        Kind::Pod => of::<RawPod>(object),
        other => panic!("no test asks for {other:?}"),
    }
}

fn words(observed: &Observed) -> String {
    match observed {
        Observed::Upsert(Fact::Slice(slice)) => {
            let endpoint = |e: &Endpoint| {
                let place = |at: Option<&str>| at.unwrap_or("-").to_owned();
                format!(
                    "{} {} {}/{}",
                    e.address,
                    e.service_account,
                    place(e.locality.region.as_ref().map(|r| r.as_str())),
                    place(e.locality.zone.as_ref().map(|z| z.as_str())),
                )
            };
            let endpoints: Vec<String> = slice.endpoints.iter().map(endpoint).collect();
            format!("slice {}: {}", slice.key.name, endpoints.join(", "))
        }
        Observed::Upsert(Fact::Gateway(gateway)) => {
            format!("gateway {} {}", gateway.name, gateway.at)
        }
        Observed::Upsert(Fact::Service(service)) => format!("service {}", service.key),
        Observed::Upsert(fact) => format!("{:?}", fact.key()),
        Observed::Delete(FactKey::Gateway(name)) => format!("delete gateway {name}"),
        Observed::Delete(FactKey::Slice(key)) => format!("delete slice {}", key.name),
        Observed::Delete(key) => format!("delete {key:?}"),
        Observed::Lost(reason) => format!("lost: {reason}"),
        Observed::Listed(Revision(n)) => format!("listed {n}"),
        other => format!("{other:?}"),
    }
}

fn pod(name: &str, account: &str) -> Value {
    json!({"metadata": {"namespace": "default", "name": name, "labels": {"app": "hello"}}, "spec": {"serviceAccountName": account}})
}

fn slice(pods: &[(&str, &str)]) -> Value {
    let endpoints: Vec<Value> = (pods.iter())
        .map(|(pod, ip)| {
            let target = (!pod.is_empty()).then(|| json!({"kind": "Pod", "name": pod}));
            json!({"addresses": [ip], "nodeName": "n1", "targetRef": target})
        })
        .collect();
    json!({"metadata": {"namespace": "default", "name": "s", "labels": {"kubernetes.io/service-name": "hello"}},
           "addressType": "IPv4", "ports": [{"port": 80}], "endpoints": endpoints})
}

#[test]
fn nothing_is_said_before_every_kind_is_listed() {
    let mut c = Cluster::new();
    assert_eq!(
        c.list(Kind::EndpointSlice, &[slice(&[("a", "10.1.0.1")])]),
        [""; 0]
    );
    assert_eq!(
        c.put(Kind::EndpointSlice, slice(&[("a", "10.1.0.2")])),
        [""; 0]
    );
    assert_eq!(c.list(Kind::Pod, &[pod("a", "sa")]), [""; 0]);
    assert_eq!(c.list(Kind::Namespace, &[]), [""; 0]);
    assert_eq!(c.list(Kind::Service, &[]), [""; 0]);
    assert_eq!(
        c.take(Told::Without(Kind::MeshExport, "404".into())),
        [""; 0]
    );
    // What fails before that is told, and the rest waits.
    let lost = c.lost(Kind::Service);
    assert_eq!(lost.len(), 1, "{lost:?}");
    assert_eq!(c.take(Told::Without(Kind::Node, "403".into())), [""; 0]);
    let whole = c.take(Told::Alive(Kind::Service));
    assert_eq!(whole, ["Relisting", "slice s: 10.1.0.2 sa -/-", "listed 7"]);
}

#[test]
fn an_endpoint_waits_for_its_pod_and_outlives_it_as_long_as_its_slice_says() {
    let mut c = Cluster::listed();
    assert_eq!(
        c.put(Kind::EndpointSlice, slice(&[("a", "10.1.0.1")])),
        ["slice s: "]
    );
    assert_eq!(
        c.put(Kind::Pod, pod("a", "sa")),
        ["slice s: 10.1.0.1 sa -/-"]
    );
    // The same again is no news.
    assert_eq!(c.put(Kind::Pod, pod("a", "sa")), [""; 0]);
    assert_eq!(
        c.put(Kind::EndpointSlice, slice(&[("a", "10.1.0.1")])),
        [""; 0]
    );
    assert_eq!(
        c.put(Kind::Pod, pod("a", "other")),
        ["slice s: 10.1.0.1 other -/-"]
    );
    // A pod of which no slice speaks says nothing.
    assert_eq!(c.put(Kind::Pod, pod("b", "sa")), [""; 0]);
    assert_eq!(c.gone(Kind::Pod, "b"), [""; 0]);
    // The pod is gone before its slice is: the slice has the last word, also over a list without the pod.
    assert_eq!(c.gone(Kind::Pod, "a"), [""; 0]);
    assert_eq!(
        c.list(Kind::Pod, &[]),
        ["Relisting", "slice s: 10.1.0.1 other -/-", "listed 7"]
    );
    assert_eq!(c.put(Kind::EndpointSlice, slice(&[])), ["slice s: "]);
    assert!(c.join.pods.now.is_empty() && c.join.departed.is_empty());
    // Nobody remembers it now.
    assert_eq!(
        c.put(Kind::EndpointSlice, slice(&[("a", "10.1.0.1")])),
        ["slice s: "]
    );
}

#[test]
fn an_endpoint_without_a_pod_is_there_in_plain_text() {
    let mut c = Cluster::listed();
    assert_eq!(
        c.put(Kind::EndpointSlice, slice(&[("", "192.0.2.7")])),
        ["slice s: 192.0.2.7 default -/-"]
    );
    let Some(Say::One(Observed::Upsert(Fact::Slice(said)))) = c
        .join
        .take(told(Kind::EndpointSlice, slice(&[("", "192.0.2.8")])))
        .pop()
    else {
        panic!("no slice");
    };
    assert_eq!(
        (said.endpoints[0].tls, &said.endpoints[0].workload),
        (TlsMode::Plain, &None)
    );
}

#[test]
fn locality_is_the_slices_then_the_pods_then_the_nodes_then_the_instances() {
    let mut c = Cluster::listed();
    c.put(Kind::Pod, pod("a", "sa"));
    assert_eq!(
        c.put(Kind::EndpointSlice, slice(&[("a", "10.1.0.1")])),
        ["slice s: 10.1.0.1 sa -/-"]
    );
    let export = json!({"metadata": {"namespace": "catamaran-system", "name": "mesh-2"},
                        "spec": {"cluster": "c2", "clusterUid": "u", "version": "1", "region": "eu"}});
    let said = c.put(Kind::MeshExport, export);
    assert_eq!(said[1..], ["slice s: 10.1.0.1 sa eu/-"]);
    let node = |region: &str| json!({"metadata": {"name": "n1", "labels": {"topology.kubernetes.io/region": region, "topology.kubernetes.io/zone": "z1"}}});
    assert_eq!(
        c.put(Kind::Node, node("us")),
        ["slice s: 10.1.0.1 sa us/z1"]
    );
    assert_eq!(c.put(Kind::Node, node("us")), [""; 0]);
    let mut placed = pod("a", "sa");
    placed["metadata"]["labels"]["topology.kubernetes.io/zone"] = json!("z2");
    assert_eq!(c.put(Kind::Pod, placed), ["slice s: 10.1.0.1 sa us/z2"]);
    let mut zoned = slice(&[("a", "10.1.0.1")]);
    zoned["endpoints"][0]["zone"] = json!("z3");
    assert_eq!(
        c.put(Kind::EndpointSlice, zoned),
        ["slice s: 10.1.0.1 sa us/z3"]
    );
    // A node that goes takes nothing with it.
    assert_eq!(c.gone(Kind::Node, "n1"), [""; 0]);
}

#[test]
fn a_failure_removes_nothing_and_is_told_once() {
    let mut c = Cluster::listed();
    c.put(Kind::Pod, pod("a", "sa"));
    c.put(Kind::EndpointSlice, slice(&[("a", "10.1.0.1")]));
    assert_eq!(
        c.lost(Kind::Pod),
        ["lost: the list of pods broke off in the middle (x)"]
    );
    assert_eq!(c.lost(Kind::Pod), [""; 0]);
    // What other kinds' live watches say counts meanwhile.
    assert_eq!(
        c.put(Kind::EndpointSlice, slice(&[("a", "10.1.0.2")])),
        ["slice s: 10.1.0.2 sa -/-"]
    );
    // A list that breaks off is forgotten.
    c.take(Told::Begins(Kind::Pod));
    assert_eq!(c.lost(Kind::Pod), [""; 0]);
    assert_eq!(c.take(Told::Alive(Kind::Pod)), ["Back"]);
    // A list of one kind while another is lost waits for it, and then the whole is said.
    c.lost(Kind::Service);
    assert_eq!(
        c.list(Kind::EndpointSlice, &[slice(&[("a", "10.1.0.3")])]),
        [""; 0]
    );
    assert_eq!(
        c.take(Told::Alive(Kind::Service)),
        ["Relisting", "slice s: 10.1.0.3 sa -/-", "listed 7"]
    );
    // Nodes are a help: nothing waits for them, and their loss is nobody's.
    assert_eq!(c.lost(Kind::Node), [""; 0]);
}

#[test]
fn the_revision_never_goes_back() {
    let mut c = Cluster::listed();
    c.take(Told::Begins(Kind::Pod));
    assert_eq!(
        c.take(Told::Listed(Kind::Pod, "9".into())),
        ["Relisting", "listed 9"]
    );
    c.take(Told::Begins(Kind::Service));
    assert_eq!(
        c.take(Told::Listed(Kind::Service, "8".into())),
        ["Relisting", "listed 9"]
    );
}

#[test]
fn gateways_follow_their_service_and_the_names_of_its_balancer() {
    let mut c = Cluster::listed();
    let gateway = |ingress: Value, port: &str| {
        json!({"metadata": {"namespace": "istio-system", "name": "ew", "labels": {"topology.istio.io/network": "n2", "networking.istio.io/gatewayPort": port}},
               "spec": {"clusterIP": "10.96.0.9", "externalIPs": ["198.18.0.1"], "ports": [{"name": "tls", "port": 443}]},
               "status": {"loadBalancer": {"ingress": ingress}}})
    };
    let said = c.put(
        Kind::Service,
        gateway(
            json!([{"hostname": "lb.example.com"}, {"ip": "127.0.0.1"}]),
            "15443",
        ),
    );
    assert_eq!(
        said,
        [
            "service istio-system/ew",
            "gateway ew.istio-system 198.18.0.1:15443"
        ]
    );
    assert!(
        c.join
            .problems()
            .iter()
            .any(|p| p.object == "Service istio-system/ew" && p.message.contains("loopback"))
    );
    assert_eq!(
        c.join.names(),
        BTreeSet::from(["lb.example.com".to_owned()])
    );
    let resolve = |ips: &[&str]| {
        let addresses = ips
            .iter()
            .map(|ip| EndpointAddress::parse(ip, false).unwrap())
            .collect();
        Told::Resolved(BTreeMap::from([("lb.example.com".to_owned(), addresses)]))
    };
    assert_eq!(
        c.take(resolve(&["203.0.113.1", "203.0.113.2"])),
        [
            "gateway ew.istio-system/1 203.0.113.1:15443",
            "gateway ew.istio-system/2 203.0.113.2:15443"
        ]
    );
    assert_eq!(
        c.take(resolve(&["203.0.113.2"])),
        [
            "delete gateway ew.istio-system/2",
            "gateway ew.istio-system/1 203.0.113.2:15443"
        ]
    );
    // An answer that does not come is no answer.
    assert_eq!(c.take(Told::Resolved(BTreeMap::new())), [""; 0]);
    assert_eq!(
        c.put(Kind::Service, gateway(json!([]), "x")),
        [
            "delete gateway ew.istio-system/1",
            "gateway ew.istio-system 198.18.0.1:443"
        ]
    );
    let key = Key {
        namespace: Some(Namespace::new("istio-system").unwrap()),
        name: "ew".into(),
    };
    assert_eq!(c.take(Told::Gone(Kind::Service, key)).len(), 2);
}

#[test]
fn pods_of_one_workload_are_kept_once() {
    let mut c = Cluster::listed();
    for n in 0..1_000 {
        c.put(Kind::Pod, pod(&format!("hello-{n}"), "sa"));
        c.put(Kind::Pod, pod(&format!("job-{n}"), &format!("sa-{n}")));
    }
    assert_eq!(c.join.common.len(), 1_001);
    for n in 0..1_000 {
        c.gone(Kind::Pod, &format!("job-{n}"));
    }
    // What nobody refers to any more is swept with the next ones.
    for n in 0..2_000 {
        c.put(Kind::Pod, pod("next", &format!("sb-{n}")));
    }
    assert!(c.join.common.len() < 600, "{}", c.join.common.len());
}

/// What can happen to a cluster of a few names.
#[derive(Debug, Clone)]
enum Step {
    Pod(usize, usize),
    Slice(usize, Vec<(usize, usize)>),
    Service(usize, usize),
    Node(usize),
    Export(usize),
    Gone(Kind, usize),
    /// A list of the kind with these of its objects, in a form of their own.
    List(Kind, Vec<usize>, usize),
    Broken(Kind),
    Lost(Kind),
    Alive(Kind),
    Resolved(usize),
}

fn steps() -> impl proptest::strategy::Strategy<Value = Vec<Step>> {
    use proptest::prelude::*;
    let kind = || proptest::sample::select(KINDS.to_vec());
    let step = prop_oneof![
        4 => (0..4usize, 0..3usize).prop_map(|(n, form)| Step::Pod(n, form)),
        4 => (0..3usize, proptest::collection::vec((0..5usize, 0..9usize), 0..4)).prop_map(|(n, pods)| Step::Slice(n, pods)),
        2 => (0..3usize, 0..4usize).prop_map(|(n, form)| Step::Service(n, form)),
        1 => (0..3usize).prop_map(Step::Node),
        1 => (0..3usize).prop_map(Step::Export),
        4 => (kind(), 0..4usize).prop_map(|(kind, n)| Step::Gone(kind, n)),
        3 => (kind(), proptest::collection::vec(0..4usize, 0..4), 0..3usize).prop_map(|(kind, all, form)| Step::List(kind, all, form)),
        1 => kind().prop_map(Step::Broken),
        1 => kind().prop_map(Step::Lost),
        3 => kind().prop_map(Step::Alive),
        1 => (0..3usize).prop_map(Step::Resolved),
    ];
    proptest::collection::vec(step, 0..60)
}

/// The object of this name in one of its forms.
fn any(kind: Kind, n: usize, form: usize) -> Value {
    let region = ["eu", "us", "asia"][form % 3];
    match kind {
        Kind::Pod => pod(&format!("p{n}"), &format!("sa{form}")),
        Kind::EndpointSlice => any_slice(n, &[(n, form), (n + 1, form + 4)]),
        Kind::Service => {
            let labels = match form {
                0 | 3 => json!({}),
                _ => json!({"topology.istio.io/network": "n2"}),
            };
            let kind = if form == 3 {
                "ExternalName"
            } else {
                "ClusterIP"
            };
            json!({"metadata": {"namespace": "default", "name": format!("s{n}"), "labels": labels},
                   "spec": {"type": kind, "clusterIP": "10.96.0.1", "ports": [{"port": 80 + form}]},
                   "status": {"loadBalancer": {"ingress": [{"hostname": format!("lb{form}")}, {"ip": "198.18.0.1"}]}}})
        }
        Kind::Node => {
            json!({"metadata": {"name": "n1", "labels": {"topology.kubernetes.io/region": region}}})
        }
        Kind::Namespace => {
            json!({"metadata": {"name": format!("ns{n}"), "labels": {"istio-injection": if form == 0 { "enabled" } else { "" }}}})
        }
        _ => json!({"metadata": {"namespace": "catamaran-system", "name": format!("mesh-{n}")},
                    "spec": {"cluster": "c2", "clusterUid": "u", "version": "1", "region": region}}),
    }
}

fn any_slice(n: usize, pods: &[(usize, usize)]) -> Value {
    let pods: Vec<(String, String)> = (pods.iter())
        .map(|(pod, ip)| match pod {
            4 => (String::new(), format!("10.1.0.{}", ip + 1)),
            pod => (format!("p{pod}"), format!("10.1.0.{}", ip + 1)),
        })
        .collect();
    let pods: Vec<(&str, &str)> = pods
        .iter()
        .map(|(p, ip)| (p.as_str(), ip.as_str()))
        .collect();
    let mut object = slice(&pods);
    object["metadata"]["name"] = json!(format!("slice{n}"));
    object
}

fn name_of(kind: Kind, n: usize) -> Key {
    let (namespace, name) = match kind {
        Kind::Pod => (Some("default"), format!("p{n}")),
        Kind::EndpointSlice => (Some("default"), format!("slice{n}")),
        Kind::Service => (Some("default"), format!("s{n}")),
        Kind::Node => (None, "n1".into()),
        Kind::Namespace => (None, format!("ns{n}")),
        _ => (Some("catamaran-system"), format!("mesh-{n}")),
    };
    Key {
        namespace: namespace.map(|n| Namespace::new(n).unwrap()),
        name: name.into(),
    }
}

/// A service that means nothing (any more) is told as gone, as the loop does.
fn told_or_gone(kind: Kind, object: Value) -> Told {
    if kind == Kind::Service {
        let raw: RawService = serde_json::from_value(object.clone()).unwrap();
        let key = raw.meta().key().unwrap();
        if raw.keep(&mut Vec::new()).unwrap().is_none() {
            return Told::Gone(kind, key);
        }
    }
    told(kind, object)
}

fn facts(join: &Join) -> BTreeMap<FactKey, Fact> {
    let facts = join.whole().filter_map(|observed| match observed {
        Observed::Upsert(fact) => Some((fact.key(), fact)),
        _ => None,
    });
    facts.collect()
}

proptest::proptest! {
    /// What was said change by change is what a complete list would say, whatever came before; and what fails says nothing.
    #[test]
    fn changes_add_up_to_the_whole(steps in steps()) {
        let mut join = Join::new(ClusterId::new("c2").unwrap(), KINDS);
        let mut said: BTreeMap<FactKey, Fact> = BTreeMap::new();
        for step in KINDS.map(|kind| Step::List(kind, vec![0, 1], 0)).into_iter().chain(steps) {
            let failure = Failure::Truncated { why: "x".into() };
            let fails = matches!(step, Step::Broken(_) | Step::Lost(_));
            let tolds = match step {
                Step::Pod(n, form) => vec![told(Kind::Pod, any(Kind::Pod, n, form))],
                Step::Slice(n, pods) => vec![told(Kind::EndpointSlice, any_slice(n, &pods))],
                Step::Service(n, form) => vec![told_or_gone(Kind::Service, any(Kind::Service, n, form))],
                Step::Node(form) => vec![told(Kind::Node, any(Kind::Node, 0, form))],
                Step::Export(form) => vec![told(Kind::MeshExport, any(Kind::MeshExport, form, form))],
                Step::Gone(kind, n) => vec![Told::Gone(kind, name_of(kind, n))],
                Step::List(kind, all, form) => {
                    let mut tolds = vec![Told::Begins(kind)];
                    tolds.extend(all.iter().map(|n| told_or_gone(kind, any(kind, *n, form))));
                    tolds.push(Told::Listed(kind, "7".into()));
                    tolds
                }
                Step::Broken(kind) => vec![Told::Begins(kind), told_or_gone(kind, any(kind, 0, 1)), Told::Lost(kind, failure)],
                Step::Lost(kind) => vec![Told::Lost(kind, failure)],
                Step::Alive(kind) => vec![Told::Alive(kind)],
                Step::Resolved(n) => {
                    let at = |n: usize| EndpointAddress::parse(&format!("203.0.113.{n}"), false).unwrap();
                    vec![Told::Resolved((0..=n).map(|n| (format!("lb{n}"), vec![at(n), at(n + 100)])).collect())]
                }
            };
            let before = said.clone();
            for told in tolds {
                for say in join.take(told) {
                    match say {
                        Say::Whole => said = facts(&join),
                        Say::One(Observed::Upsert(fact)) => drop(said.insert(fact.key(), fact)),
                        Say::One(Observed::Delete(key)) => drop(said.remove(&key)),
                        Say::One(_) => {}
                    }
                }
            }
            proptest::prop_assert!(!fails || said == before);
            if join.said && !join.stale {
                proptest::prop_assert_eq!(&said, &facts(&join));
            }
        }
    }
}
