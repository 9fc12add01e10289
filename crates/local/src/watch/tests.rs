mod judge;

use std::fs;

use catamaran_model::NetworkId;
use catamaran_registry::Fact;

use super::*;
use crate::fleet::{ClusterDir, FleetDir, Isolation};

const HELLO: &str = "apiVersion: v1\nkind: Service\nmetadata: {name: hello}\nspec: {ports: [{name: http, port: 5000}], selector: {app: hello}}\n";

struct Cluster {
    _tmp: tempfile::TempDir,
    dir: ClusterDir,
    reader: Reader,
}

impl Cluster {
    fn new() -> Cluster {
        let tmp = tempfile::tempdir().unwrap();
        let (fleet, _) = FleetDir::create(tmp.path(), Isolation::Netns, "a1b2c3").unwrap();
        let name = ClusterId::new("c1").unwrap();
        let network = NetworkId::new("network1").unwrap();
        let (dir, _) = fleet.create_cluster(&name, &network, "uid").unwrap();
        let reader = Reader::new(watched(&dir));
        Cluster {
            _tmp: tmp,
            dir,
            reader,
        }
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        // As if nobody were writing it any more.
        let file = fs::File::options().write(true).open(&path).unwrap();
        file.set_modified(std::time::SystemTime::now() - Duration::from_secs(10))
            .unwrap();
    }

    fn service(&self) {
        self.write("objects/hello.yaml", HELLO);
        self.write(
            "status/Service/default/hello.json",
            r#"{"apiVersion": "v1", "kind": "Service", "metadata": {"name": "hello"}, "spec": {"clusterIP": "10.96.0.7", "ports": [{"port": 5000}]}}"#,
        );
    }

    fn pod(&self, name: &str, labels: &str) {
        self.write(
            &format!("status/Pod/default/{name}.json"),
            &format!(r#"{{"apiVersion": "v1", "kind": "Pod", "metadata": {{"name": "{name}", "labels": {labels}}}, "spec": {{"serviceAccountName": "hello"}}, "status": {{"phase": "Running"}}}}"#),
        );
    }

    fn slice(&self, endpoints: &[(&str, &str, &str)]) {
        let endpoints: Vec<String> = (endpoints.iter())
            .map(|(ip, pod, conditions)| format!(r#"{{"addresses": ["{ip}"], "conditions": {conditions}, "targetRef": {{"kind": "Pod", "name": "{pod}"}}}}"#))
            .collect();
        self.write(
            "status/EndpointSlice/default/hello-local.json",
            &format!(
                r#"{{"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "metadata": {{"name": "hello-local", "labels": {{"kubernetes.io/service-name": "hello"}}}}, "addressType": "IPv4", "ports": [{{"name": "http", "port": 5000}}], "endpoints": [{}]}}"#,
                endpoints.join(", ")
            ),
        );
    }

    fn look(&mut self) -> Vec<String> {
        self.reader.look(false).iter().map(words).collect()
    }
}

fn watched(dir: &ClusterDir) -> Watched {
    Watched {
        folder: dir.path().into(),
        cluster: dir.name().clone(),
        generation: WatchGeneration(1),
        loopback: false,
        work: Arc::default(),
    }
}

fn words(observed: &Observed) -> String {
    match observed {
        Observed::Upsert(Fact::Slice(slice)) => {
            let endpoints: Vec<String> = (slice.endpoints.iter())
                .map(|e| format!("{} {:?} {:?}", e.address, e.health, e.tls))
                .collect();
            format!("slice {}: {}", slice.service, endpoints.join(", "))
        }
        Observed::Upsert(Fact::Service(service)) => {
            let vip = service.vip.map_or("headless".into(), |ip| ip.to_string());
            format!("service {} {vip}", service.key)
        }
        Observed::Upsert(fact) => format!("{:?}", fact.key()),
        Observed::Delete(key) => format!("delete {key:?}"),
        other => format!("{other:?}").split('(').next().unwrap().to_owned(),
    }
}

#[test]
fn a_list_comes_first_and_then_what_changes() {
    let mut c = Cluster::new();
    c.service();
    c.pod(
        "hello-1",
        r#"{"security.istio.io/tlsMode": "istio", "app": "hello"}"#,
    );
    c.slice(&[("10.1.1.10", "hello-1", r#"{"ready": true}"#)]);
    assert_eq!(
        c.look(),
        [
            "Relisting",
            "service default/hello 10.96.0.7",
            "slice default/hello: 10.1.1.10 Ready Mutual",
            "Listed"
        ]
    );
    assert!(c.look().is_empty());

    c.pod("hello-2", "{}");
    c.slice(&[
        (
            "10.1.1.10",
            "hello-1",
            r#"{"ready": false, "terminating": true}"#,
        ),
        ("10.1.1.11", "hello-2", r#"{"ready": false}"#),
    ]);
    assert_eq!(
        c.look(),
        ["slice default/hello: 10.1.1.10 Draining Mutual, 10.1.1.11 NotReady Plain"]
    );

    fs::remove_file(c.dir.path().join("objects/hello.yaml")).unwrap();
    assert_eq!(
        c.look(),
        [r#"delete Service(ServiceKey { namespace: "default", name: "hello" })"#]
    );
}

#[test]
fn a_half_written_file_changes_nothing() {
    let mut c = Cluster::new();
    c.service();
    c.pod("hello-1", "{}");
    c.slice(&[("10.1.1.10", "hello-1", "{}")]);
    c.look();
    c.write("objects/hello.yaml", &HELLO[..60]);
    c.write(
        "status/EndpointSlice/default/hello-local.json",
        r#"{"apiVersion": "discovery.k8s.io/v1", "ki"#,
    );
    assert!(c.look().is_empty());
    assert_eq!(c.reader.problems().len(), 2, "{:?}", c.reader.problems());
    c.service();
    c.slice(&[]);
    assert_eq!(c.look(), ["slice default/hello: "]);
    assert!(c.reader.problems().is_empty());
}

#[test]
fn a_first_list_waits_for_a_half_written_file() {
    let mut c = Cluster::new();
    c.service();
    c.write("objects/other.yaml", "apiVersion: v1\nkind: Serv");
    assert!(c.reader.look(true).is_empty());
    c.write(
        "objects/other.yaml",
        &HELLO.replace("name: hello", "name: other"),
    );
    assert_eq!(c.reader.look(true).len(), 3);
    c.write("objects/other.yaml", "apiVersion: v1\nkind: Serv");
    let mut late = Cluster::new();
    late.write("objects/other.yaml", "apiVersion: v1\nkind: Serv");
    assert_eq!(
        late.look(),
        ["Relisting", "Listed"],
        "one broken file does not keep a cluster unknown for ever"
    );
}

#[test]
fn a_vanished_folder_is_lost_and_not_empty() {
    let mut c = Cluster::new();
    c.service();
    c.look();
    let away = c.dir.path().with_extension("away");
    fs::rename(c.dir.path(), &away).unwrap();
    assert_eq!(c.look(), ["Lost"]);
    assert!(c.look().is_empty(), "a loss is said once");
    fs::rename(&away, c.dir.path()).unwrap();
    assert_eq!(
        c.look(),
        ["Relisting", "service default/hello 10.96.0.7", "Listed"]
    );
}

#[test]
fn a_pods_own_file_may_go_before_its_slice() {
    let mut c = Cluster::new();
    c.service();
    c.pod("hello-1", "{}");
    c.slice(&[("10.1.1.10", "hello-1", "{}")]);
    c.look();
    fs::remove_file(c.dir.path().join("status/Pod/default/hello-1.json")).unwrap();
    assert!(c.look().is_empty());
}

#[test]
fn a_service_is_not_said_before_it_has_its_address() {
    let mut c = Cluster::new();
    c.write("objects/hello.yaml", HELLO);
    c.write(
        "objects/bare.yaml",
        &HELLO
            .replace("hello", "bare")
            .replace("spec: {", "spec: {clusterIP: None, "),
    );
    assert_eq!(
        c.look(),
        ["Relisting", "service default/bare headless", "Listed"]
    );
    c.service();
    assert_eq!(c.look(), ["service default/hello 10.96.0.7"]);
}

#[test]
fn hostile_addresses_are_left_out_and_reported() {
    for hostile in [
        "127.0.0.1",
        "169.254.169.254",
        "0.0.0.0",
        "224.0.0.1",
        "localhost",
    ] {
        let mut c = Cluster::new();
        c.service();
        c.pod("hello-1", "{}");
        c.pod("hello-2", "{}");
        c.slice(&[("10.1.1.10", "hello-1", "{}"), (hostile, "hello-2", "{}")]);
        assert_eq!(
            c.look()[2],
            "slice default/hello: 10.1.1.10 Ready Plain",
            "{hostile}"
        );
        let problem = c.reader.problems()[0].to_string();
        assert!(
            problem.contains(hostile)
                && problem.starts_with("status/EndpointSlice/default/hello-local.json:1: "),
            "{problem}"
        );
    }
}

#[test]
fn a_gateway_is_a_service_with_a_network() {
    let mut c = Cluster::new();
    c.write(
        "status/Service/catamaran-system/eastwest-gateway.json",
        r#"{"apiVersion": "v1", "kind": "Service", "metadata": {"name": "eastwest-gateway", "namespace": "catamaran-system", "labels": {"topology.istio.io/network": "network1"}}, "spec": {"ports": [{"name": "tls", "port": 15443}]}, "status": {"loadBalancer": {"ingress": [{"ip": "198.18.1.1"}]}}}"#,
    );
    let observed = c.reader.look(false);
    let Some(Observed::Upsert(Fact::Gateway(gateway))) = observed.get(1) else {
        panic!("{observed:?}")
    };
    assert_eq!(gateway.at.to_string(), "198.18.1.1:15443");
    assert_eq!(gateway.network.as_ref().unwrap().as_str(), "network1");
}

#[tokio::test]
async fn a_change_is_told_without_being_asked_for() {
    let c = Cluster::new();
    c.service();
    let (out, mut changes) = mpsc::channel(1);
    let (problems, _) = tokio::sync::watch::channel(Vec::new());
    let watching = tokio::spawn(watch(watched(&c.dir), out, problems));
    let mut next = async || {
        let soon = tokio::time::timeout(Duration::from_secs(20), changes.recv());
        words(&soon.await.expect("a change is told").unwrap().what)
    };
    assert_eq!(next().await, "Relisting");
    assert_eq!(next().await, "service default/hello 10.96.0.7");
    assert_eq!(next().await, "Listed");
    c.pod("hello-1", "{}");
    c.slice(&[("10.1.1.10", "hello-1", "{}")]);
    assert!(next().await.starts_with("slice default/hello: "));
    drop(changes);
    let ends = tokio::time::timeout(Duration::from_secs(20), watching);
    ends.await.expect("a watch without a reader ends").unwrap();
}

impl Cluster {
    /// As a node writes: beside, and then renamed.
    fn rename_in(&self, name: &str, text: &str) {
        crate::atomic::write(&self.dir.path().join(name), text.as_bytes(), 0o644).unwrap();
    }

    /// A service with a pod and a slice, whole.
    fn hello(&self, n: usize, ip: &str) -> PathBuf {
        let name = format!("hello-{n}");
        let slice = format!("status/EndpointSlice/default/{name}.json");
        self.rename_in(
            &format!("status/Pod/default/{name}.json"),
            &format!(r#"{{"apiVersion": "v1", "kind": "Pod", "metadata": {{"name": "{name}"}}, "spec": {{"serviceAccountName": "hello"}}}}"#),
        );
        self.rename_in(
            &slice,
            &format!(
                r#"{{"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "metadata": {{"name": "{name}", "labels": {{"kubernetes.io/service-name": "{name}"}}}}, "ports": [{{"name": "http", "port": 5000}}], "endpoints": [{{"addresses": ["{ip}"], "targetRef": {{"kind": "Pod", "name": "{name}"}}}}]}}"#
            ),
        );
        self.dir.path().join(slice)
    }
}

#[test]
fn a_change_costs_the_same_among_few_and_many() {
    let cost = |many: usize| {
        let mut c = Cluster::new();
        for n in 0..many {
            c.hello(n, "10.1.1.10");
        }
        c.look();
        let work = c.reader.what.work.clone();
        let count = || [&work.named, &work.scanned, &work.made].map(|n| n.load(Ordering::Relaxed));
        let before = count();
        let slice = c.hello(0, "10.1.1.11");
        let observed = c.reader.look_at(&BTreeSet::from([slice]));
        let said: Vec<String> = observed.iter().map(words).collect();
        assert_eq!(said, ["slice default/hello-0: 10.1.1.11 Ready Plain"]);
        let after = count();
        [0, 1, 2].map(|n| after[n] - before[n])
    };
    assert_eq!(cost(3), [1, 0, 1], "one file, none of the others, one fact");
    assert_eq!(cost(300), cost(3));
}

#[tokio::test]
async fn a_watch_looks_at_what_is_named_and_at_once() {
    const FILES: u64 = 400;
    const CHANGES: u64 = 40;
    let c = Cluster::new();
    for n in 0..FILES / 2 {
        c.hello(n as usize, "10.1.1.10");
    }
    let what = watched(&c.dir);
    let work = what.work.clone();
    let (out, mut changes) = mpsc::channel(1);
    let (problems, _) = tokio::sync::watch::channel(Vec::new());
    let watching = tokio::spawn(watch(what, out, problems));
    let mut next = async || {
        let soon = tokio::time::timeout(Duration::from_secs(20), changes.recv());
        words(&soon.await.expect("a change is told").unwrap().what)
    };
    while next().await != "Listed" {}
    let begin = Instant::now();
    for n in 0..CHANGES {
        c.hello(0, &format!("10.1.2.{}", 1 + n));
        let told = next().await;
        assert_eq!(
            told,
            format!("slice default/hello-0: 10.1.2.{} Ready Plain", 1 + n)
        );
    }
    let seconds = begin.elapsed().as_secs();
    let [named, scanned, made] =
        [&work.named, &work.scanned, &work.made].map(|n| n.load(Ordering::Relaxed));
    let scans = 3 + seconds / RESCAN.as_secs();
    assert!(
        scanned <= FILES * scans,
        "{scanned} files in {seconds} s for {CHANGES} changes"
    );
    // Two files a change, each once more when it has settled; and all of them once in the beginning, when they are young.
    assert!(named <= FILES + CHANGES * 6, "{named} files were named");
    assert!(made <= FILES + CHANGES * 2, "{made} facts were made");
    drop(changes);
    watching.await.unwrap();
}

#[tokio::test]
async fn what_is_named_by_nobody_is_found_all_the_same() {
    let c = Cluster::new();
    c.hello(0, "10.1.1.10");
    let (out, mut changes) = mpsc::channel(1);
    let (problems, _) = tokio::sync::watch::channel(Vec::new());
    let watching = tokio::spawn(watch(watched(&c.dir), out, problems));
    let mut next = async || {
        let soon = tokio::time::timeout(Duration::from_secs(20), changes.recv());
        words(&soon.await.expect("a change is told").unwrap().what)
    };
    while next().await != "Listed" {}
    // A whole folder comes with files in it: its name is told, and not theirs.
    let (away, there) = (
        c.dir.path().join("away"),
        c.dir.path().join("status/EndpointSlice"),
    );
    fs::rename(&there, &away).unwrap();
    assert!(next().await.starts_with("delete Slice"));
    fs::rename(&away, &there).unwrap();
    assert_eq!(next().await, "slice default/hello-0: 10.1.1.10 Ready Plain");
    // What was watched is another folder now.
    let status = c.dir.path().join("status");
    fs::rename(&status, c.dir.path().join("old")).unwrap();
    fs::create_dir(&status).unwrap();
    let told = next().await;
    assert!(told == "Lost" || told.starts_with("delete Slice"), "{told}");
    c.hello(0, "10.1.1.12");
    while !next().await.contains("10.1.1.12") {}
    // And is watched as the one before was.
    c.hello(0, "10.1.1.13");
    while !next().await.contains("10.1.1.13") {}
    drop(changes);
    watching.await.unwrap();
}

#[test]
fn news_is_sorted_by_how_sure_it_is() {
    use notify::event::{AccessKind, AccessMode, CreateKind, DataChange, ModifyKind, RenameMode};
    use notify::{Event, EventKind};
    let roots = ["/c/objects", "/c/status"].map(PathBuf::from);
    let heard = Heard::default();
    let hear = |kind, path: &str| {
        heard.hear(&roots, Ok(Event::new(kind).add_path(path.into())));
        heard.take()
    };
    let to = EventKind::Modify(ModifyKind::Name(RenameMode::To));
    let from = EventKind::Modify(ModifyKind::Name(RenameMode::From));
    let data = EventKind::Modify(ModifyKind::Data(DataChange::Any));
    let of = |path: &str| BTreeSet::from([PathBuf::from(path)]);
    assert_eq!(
        hear(to, "/c/status/Pod/a/b.json").whole,
        of("/c/status/Pod/a/b.json")
    );
    assert_eq!(
        hear(data, "/c/status/Pod/a/b.json").other,
        of("/c/status/Pod/a/b.json")
    );
    assert_eq!(
        hear(from, "/c/status/Pod/a/b.json").other,
        of("/c/status/Pod/a/b.json")
    );
    assert!(hear(to, "/c/status/Pod").everything, "it may be a folder");
    assert!(hear(EventKind::Create(CreateKind::Folder), "/c/status/Pod/a").everything);
    assert!(hear(from, "/c/status").blind);
    for (kind, path) in [
        (data, "/c/status/Pod/a/.b.json.7"),
        (to, "/c/objects/.git/a.yaml"),
        (
            EventKind::Access(AccessKind::Open(AccessMode::Any)),
            "/c/status/a.json",
        ),
    ] {
        assert!(hear(kind, path).is_empty(), "{kind:?} {path}");
    }
    heard.hidden_too.store(true, Ordering::Relaxed);
    assert!(
        !hear(data, "/c/objects/.real/a.yaml").is_empty(),
        "a link may lead there"
    );
    let mut lost = Event::new(EventKind::Other);
    lost = lost.set_flag(notify::event::Flag::Rescan);
    heard.hear(&roots, Ok(lost));
    assert!(heard.take().everything);
    for n in 0..2_000 {
        let path = format!("/c/status/{n}.json").into();
        heard.hear(&roots, Ok(Event::new(to).add_path(path)));
    }
    let much = heard.take();
    assert!(much.everything && much.whole.len() <= 1_024);
}
