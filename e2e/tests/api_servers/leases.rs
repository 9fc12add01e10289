//! Two replicas of one control plane on one API server: one writes, the other takes over, and what both know is added up.

use super::*;
use std::collections::BTreeSet;

/// A leader that is lost is followed within the 15 s of its lease, a look of 2 s before and what asking costs.
const TAKEN_OVER: Duration = Duration::from_secs(20);
/// What a replica says of its proxies is in the status within two looks of 5 s and a round of 2 s.
const TOLD: Duration = Duration::from_secs(20);
/// One that is gone does not count any more after 30 s of silence, and what telling costs.
const FORGOTTEN: Duration = Duration::from_secs(50);

/// What only one writes.
const ONE_WRITES: [&str; 6] = [
    "meshes",
    "clusters",
    "meshexports",
    "configmaps",
    "mutatingwebhookconfigurations",
    "events",
];
const ACCOUNT: &str = "system:serviceaccount:catamaran-system:catamaran-mesh-1";

/// A replica with exactly the rights that an installation gives, and a token that the audit log knows it by.
struct Replica {
    plane: Plane,
    name: &'static str,
    credential: String,
}

impl std::ops::Deref for Replica {
    type Target = Plane;

    fn deref(&self) -> &Plane {
        &self.plane
    }
}

fn free_port() -> u16 {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    free.local_addr().unwrap().port()
}

/// What an installation puts there of who the control plane is.
fn rights(server: &ApiServer) {
    let instance = catamaran_kubernetes::install::Instance {
        mesh: "mesh-1".parse().unwrap(),
        cluster: "cluster-1".parse().unwrap(),
        region: None,
        version: "0.1.0".parse().unwrap(),
        network: None,
        image: "none:1".into(),
        makes_namespace: false,
        istio: None,
        replicas: 2,
    };
    let kinds = [
        "ServiceAccount",
        "ClusterRole",
        "ClusterRoleBinding",
        "Role",
        "RoleBinding",
    ];
    let all = catamaran_kubernetes::install::manifests(&instance).into_iter();
    let ours: Vec<Value> = all
        .filter(|manifest| kinds.iter().any(|kind| manifest["kind"] == *kind))
        .collect();
    assert_eq!(ours.len(), kinds.len());
    server.kubectl("apply -f -", &catamaran_kubernetes::install::yaml(&ours));
}

/// The number that the API server notes for each request with this token.
fn credential(token: &str) -> String {
    use std::process::Command;
    // the middle part of a token is JSON, in base64 for addresses
    let body = token.split('.').nth(1).unwrap();
    let mut padded: String = body.replace('-', "+").replace('_', "/");
    while !padded.len().is_multiple_of(4) {
        padded.push('=');
    }
    let decoded = Command::new("sh")
        .args(["-c", "printf %s \"$0\" | base64 -d", &padded])
        .output()
        .unwrap();
    let claims: Value = serde_json::from_slice(&decoded.stdout).unwrap();
    format!("JTI={}", claims["jti"].as_str().unwrap())
}

impl Replica {
    fn start(server: &ApiServer, name: &'static str, cacerts: &Path) -> Replica {
        let folder = server.folder.with_extension(name);
        std::fs::create_dir_all(folder.join("state")).unwrap();
        let token = server.kubectl(
            "-n catamaran-system create token catamaran-mesh-1 --duration 1h",
            "",
        );
        let config = server.json("config view --raw");
        let cluster = &config["clusters"][0]["cluster"];
        let own = serde_json::json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "c",
            "clusters": [{"name": "c", "cluster": {
                "server": cluster["server"], "certificate-authority-data": cluster["certificate-authority-data"],
            }}],
            "users": [{"name": "u", "user": {"token": token.trim()}}],
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        });
        std::fs::write(folder.join("kubeconfig"), own.to_string()).unwrap();
        let (port, hook) = (free_port(), free_port());
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(folder.join("log"))
            .unwrap();
        let child = Command::new(binary())
            .args([
                "control-plane",
                "--cluster",
                "cluster-1",
                "--mesh",
                "mesh-1",
            ])
            .arg("--kubeconfig")
            .arg(folder.join("kubeconfig"))
            .arg("--cacerts")
            .arg(cacerts)
            .arg("--state")
            .arg(folder.join("state"))
            .arg("--socket")
            .arg(folder.join("sock"))
            .args(["--listen", &format!("127.0.0.1:{port}"), "--allow-loopback"])
            .args(["--webhook", &format!("127.0.0.1:{hook}")])
            .args(["--webhook-url", &format!("https://127.0.0.1:{hook}")])
            .args(["--sidecar-image", "none:1", "--native-sidecars", "true"])
            .args(["--replica", name])
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        Replica {
            plane: Plane {
                child,
                folder,
                port,
            },
            name,
            credential: credential(token.trim()),
        }
    }

    fn writes(&self) -> bool {
        self.ask("/v1/status")
            .is_some_and(|status| status["writes"] == true)
    }

    fn signal(&self, signal: &str) {
        let id = self.child.id().to_string();
        let sent = Command::new("kill").args([signal, &id]).status().unwrap();
        assert!(sent.success());
    }
}

/// Asks again until it is so, and says how long that took.
fn within(limit: Duration, what: &str, mut check: impl FnMut() -> Result<(), String>) -> Duration {
    let start = Instant::now();
    loop {
        match check() {
            Ok(()) => return start.elapsed(),
            Err(said) => assert!(
                start.elapsed() < limit,
                "not within {limit:?}: {what}: {said}"
            ),
        }
        std::thread::park_timeout(Duration::from_millis(200));
    }
}

fn so(is: bool, said: impl std::fmt::Display) -> Result<(), String> {
    is.then_some(()).ok_or_else(|| said.to_string())
}

/// A sidecar that stays connected, ended when the value is dropped.
struct Sidecar {
    child: Child,
    _folder: tempfile::TempDir,
}

impl Drop for Sidecar {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Sidecar {
    fn of(server: &ApiServer, replica: &Replica, n: u8, root: &Path) -> Sidecar {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let token = server.kubectl("-n sample create token sleep --audience istio-ca", "");
        std::fs::write(at("token"), token).unwrap();
        let log = std::fs::File::create(at("log")).unwrap();
        let child = Command::new(binary())
            .args([
                "proxy",
                "sidecar",
                "--mesh",
                "mesh-1",
                "--cluster",
                "cluster-1",
            ])
            .args([
                "--namespace",
                "sample",
                "--service-account",
                "sleep",
                "--capture",
                "explicit",
            ])
            .args([
                "--pod",
                &format!("sleep-{n}"),
                "--address",
                &format!("127.0.78.{n}"),
            ])
            .args(["--control-plane", &format!("localhost:{}", replica.port)])
            .arg("--root-cert")
            .arg(root)
            .arg("--join-token")
            .arg(at("token"))
            .arg("--state")
            .arg(at("state"))
            .arg("--admin-socket")
            .arg(at("admin.sock"))
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        Sidecar {
            child,
            _folder: folder,
        }
    }
}

/// A write that only the leader does, as the API server saw it.
#[derive(Debug, Clone)]
struct Write {
    who: String,
    what: String,
    /// Whether it is the lease itself.
    lease: bool,
    /// When it was asked for and when it was done, in a form that sorts.
    asked: String,
    done: String,
}

/// All of them that were done, in the order in which they were.
fn writes(server: &ApiServer) -> Vec<Write> {
    let audit = std::fs::read_to_string(server.folder.join("audit.log")).unwrap();
    let mut all = Vec::new();
    for line in audit.lines() {
        let Ok(event) = serde_json::from_str::<Value>(line) else {
            continue;
        };
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let verb = text(&event["verb"]);
        let code = event["responseStatus"]["code"].as_u64();
        if event["user"]["username"] != ACCOUNT
            || !["create", "update", "patch"].contains(&verb.as_str())
            || event["stage"] != "ResponseComplete"
            || code.is_none_or(|code| code >= 300)
        {
            continue;
        }
        let object = &event["objectRef"];
        let (resource, name) = (text(&object["resource"]), text(&object["name"]));
        let unnamed = verb == "create" && name.is_empty();
        let lease = resource == "leases" && (name == "catamaran-mesh-1" || unnamed);
        if lease || ONE_WRITES.contains(&resource.as_str()) {
            let who = &event["user"]["extra"]["authentication.kubernetes.io/credential-id"][0];
            all.push(Write {
                who: text(who),
                what: format!("{verb} {resource} {name}"),
                lease,
                asked: text(&event["requestReceivedTimestamp"]),
                done: text(&event["stageTimestamp"]),
            });
        }
    }
    all.sort_by(|a, b| a.done.cmp(&b.done));
    all
}

/// Nothing was begun by anybody but who had the lease then. What was under way when an API server hung may be done later: that
/// nothing newer is written over by it is for the versions that it names.
fn one_wrote_at_a_time(server: &ApiServer) -> BTreeSet<String> {
    let all = writes(server);
    let mut wrote = BTreeSet::new();
    for write in all.iter().filter(|write| !write.lease) {
        let mut leases = all.iter().filter(|of| of.lease && of.done <= write.asked);
        let holder = leases.next_back().map(|lease| &lease.who);
        assert_eq!(
            Some(&write.who),
            holder,
            "{write:#?} by one that had not the lease, of\n{all:#?}"
        );
        wrote.insert(write.who.clone());
    }
    wrote
}

fn mesh(server: &ApiServer) -> Value {
    server.json("-n catamaran-system get mesh mesh-1")["status"].take()
}

fn proxies(server: &ApiServer, wanted: u64) -> Result<(), String> {
    let status = mesh(server);
    so(status["proxies"] == wanted, format!("{status:#}"))
}

/// The one that writes, and the other; exactly one must.
fn pair(replicas: &[Replica; 2]) -> Option<(usize, usize)> {
    match [replicas[0].writes(), replicas[1].writes()] {
        [true, false] => Some((0, 1)),
        [false, true] => Some((1, 0)),
        [true, true] => panic!("both write"),
        [false, false] => None,
    }
}

fn events(server: &ApiServer, reason: &str) -> Vec<Value> {
    let all = server.json("-n catamaran-system get events.events.k8s.io");
    let all = all["items"].as_array().cloned().unwrap_or_default();
    all.into_iter()
        .filter(|event| event["reason"] == reason)
        .collect()
}

#[test]
fn of_two_replicas_one_writes() {
    let folder = tempfile::tempdir().unwrap();
    let fleet = Fleet::empty();
    fleet.say("cluster create c1").ok();
    fleet.say("mesh create mesh-1 --cluster c1 --region r").ok();
    fleet.say("fleet down").ok();
    let cacerts = fleet.dir().join("clusters/c1/private/cacerts");
    let root = cacerts.join("root-cert.pem");

    let one = ApiServer::up(folder.path().join("one"));
    let two = ApiServer::up(folder.path().join("two"));
    one.furnish(1);
    rights(&one);
    two.furnish(2);
    let mut replicas = [
        Replica::start(&one, "replica-a", &cacerts),
        Replica::start(&one, "replica-b", &cacerts),
    ];
    for replica in &replicas {
        replica.until("it runs", |status| {
            status["state"] == "running" && status["ready"] == true
        });
    }
    within(TAKEN_OVER, "one of them writes", || {
        so(pair(&replicas).is_some(), "none")
    });

    // What it writes: of both, and what each object has to say.
    let uid = one.json("get namespace kube-system")["metadata"]["uid"].take();
    within(TOLD, "everything is written", || {
        let mesh = mesh(&one);
        let cluster = one.json("-n catamaran-system get cluster cluster-1")["status"].take();
        let exports = one.json("-n catamaran-system get meshexports");
        let export = exports
            .pointer("/items/0/status")
            .cloned()
            .unwrap_or_default();
        let names: Vec<_> = mesh["replicas"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|r| r["name"].as_str())
            .collect();
        let there = mesh["phase"] == "Ready"
            && names == [Some("replica-a"), Some("replica-b")]
            && cluster["uid"] == uid
            && export["phase"] == "Ready"
            && export["replicas"] == 2
            && export["services"].as_u64() >= Some(1)
            && export["signsUntil"].is_string()
            && export["writer"] == mesh["writer"];
        so(there, format!("{mesh:#}\n{cluster:#}\n{export:#}"))
    });
    let (first, second) = pair(&replicas).unwrap();
    let writer = mesh(&one)["writer"].as_str().unwrap().to_owned();
    assert!(writer.starts_with(replicas[first].name), "{writer}");

    // Proxies of both are added up.
    let of_first = [
        Sidecar::of(&one, &replicas[first], 1, &root),
        Sidecar::of(&one, &replicas[first], 2, &root),
    ];
    let of_second = Sidecar::of(&one, &replicas[second], 3, &root);
    let took = within(SOON, "three proxies", || proxies(&one, 3));
    println!("three proxies after {took:?}");

    // Another cluster is lost and found again, and people hear of it.
    let secret = serde_json::json!({
        "apiVersion": "v1", "kind": "Secret",
        "metadata": {"name": "istio-remote-secret-cluster-2", "namespace": "catamaran-system", "labels": {"istio/multiCluster": "true"}},
        "stringData": {"cluster-2": two.reader()},
    });
    let member = |name: &str| {
        serde_json::json!({
            "apiVersion": "catamaran.dev/v1alpha1", "kind": "Cluster",
            "metadata": {"name": name, "namespace": "catamaran-system"},
            "spec": {"mode": "DiscoveryOnly", "secret": format!("istio-remote-secret-{name}")},
        })
        .to_string()
    };
    one.kubectl("apply -f -", &secret.to_string());
    one.kubectl("apply -f -", &member("cluster-2"));
    replicas[first].until("the other cluster is discovered", |status| {
        cluster(status, "cluster-2")["freshness"] == "fresh"
    });
    two.signal("STOP");
    let lost = within(SOON, "it is said that it is lost", || {
        let events = events(&one, "DiscoveryLost");
        let right = events.len() == 1
            && events[0]["regarding"]["name"] == "cluster-2"
            && events[0]["type"] == "Warning";
        so(right, format!("{events:#?}"))
    });
    println!("DiscoveryLost after {lost:?}");
    let described = one.kubectl(
        "-n catamaran-system describe clusters.catamaran.dev cluster-2",
        "",
    );
    assert!(described.contains("DiscoveryLost"), "{described}");

    // The one that writes is killed while that lasts: the other takes over, and says nothing twice.
    replicas[first].signal("-KILL");
    let took = within(TAKEN_OVER, "the other writes", || {
        so(replicas[second].writes(), replicas[second].log())
    });
    println!("taken over {took:?} after a kill");
    within(TOLD, "and its word is in the status", || {
        let status = mesh(&one);
        let writer = status["writer"].as_str().unwrap_or_default();
        so(
            writer.starts_with(replicas[second].name),
            format!("{status:#}"),
        )
    });
    let took = within(FORGOTTEN, "only what is connected counts", || {
        proxies(&one, 1)
    });
    println!("what was connected to the killed one does not count after {took:?}");
    drop(of_first);
    assert_eq!(events(&one, "DiscoveryLost").len(), 1);
    two.signal("CONT");
    within(SOON, "it is said that it is back", || {
        let events = events(&one, "DiscoveryRestored");
        so(
            events.len() == 1 && events[0]["type"] == "Normal",
            format!("{events:#?}"),
        )
    });

    // A credential that may not read.
    two.kubectl("-n default create serviceaccount nobody", "");
    let token = two.kubectl("-n default create token nobody", "");
    let mut config: Value = serde_json::from_str(&two.reader()).unwrap();
    config["users"][0]["user"]["token"] = token.trim().into();
    let secret = serde_json::json!({
        "apiVersion": "v1", "kind": "Secret",
        "metadata": {"name": "istio-remote-secret-cluster-3", "namespace": "catamaran-system", "labels": {"istio/multiCluster": "true"}},
        "stringData": {"cluster-3": config.to_string()},
    });
    one.kubectl("apply -f -", &secret.to_string());
    one.kubectl("apply -f -", &member("cluster-3"));
    within(SOON, "it is said that it is refused", || {
        let events = events(&one, "CredentialRefused");
        let said = events
            .first()
            .map(|event| event["note"].to_string())
            .unwrap_or_default();
        so(said.contains("403"), format!("{events:#?}"))
    });

    // A new one in place of the killed one follows; one that is stopped in order is followed at once.
    replicas[first] = Replica::start(&one, "replica-c", &cacerts);
    replicas[first].until("it runs", |status| {
        status["ready"] == true && status["writes"] == false
    });
    replicas[second].signal("-TERM");
    let took = within(Duration::from_secs(5), "it gave the lease back", || {
        so(replicas[first].writes(), replicas[first].log())
    });
    println!("taken over {took:?} after an end in order");
    drop(of_second);
    replicas[second] = Replica::start(&one, "replica-d", &cacerts);
    replicas[second].until("it runs", |status| {
        status["ready"] == true && status["writes"] == false
    });

    // An API server that hangs for longer than a lease: nobody writes, and afterwards one does.
    let writes_before = one_wrote_at_a_time(&one).len();
    one.signal("STOP");
    let took = within(Duration::from_secs(12), "its time is over", || {
        so(!replicas[first].writes(), "it still writes")
    });
    println!("a leader without its API server stopped after {took:?}");
    let rest = Duration::from_secs(25).saturating_sub(took);
    let start = Instant::now();
    while start.elapsed() < rest {
        assert!(!replicas[0].writes() && !replicas[1].writes());
        std::thread::park_timeout(Duration::from_millis(500));
    }
    for replica in &replicas {
        let status = replica.ask("/v1/status").unwrap();
        assert_eq!(status["ready"], true, "readiness waits for no lease");
    }
    one.signal("CONT");
    let took = within(TAKEN_OVER, "one writes again", || {
        so(pair(&replicas).is_some(), "none")
    });
    println!("one writes {took:?} after the API server is back");

    // A leader that was stopped for longer than its lease comes back as a follower.
    let (first, second) = pair(&replicas).unwrap();
    replicas[first].signal("-STOP");
    let took = within(TAKEN_OVER, "the other writes", || {
        so(replicas[second].writes(), "it does not")
    });
    println!("taken over {took:?} after a stop");
    within(TOLD, "and its word is in the status", || {
        let status = mesh(&one);
        let writer = status["writer"].as_str().unwrap_or_default();
        so(
            writer.starts_with(replicas[second].name),
            format!("{status:#}"),
        )
    });
    replicas[first].signal("-CONT");
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(5) {
        assert!(!replicas[first].writes() && replicas[second].writes());
        std::thread::park_timeout(Duration::from_millis(100));
    }
    let writer = mesh(&one)["writer"].take();
    let writer = writer.as_str().unwrap_or_default();
    assert!(writer.starts_with(replicas[second].name), "{writer}");

    // Over the whole run, as the API server saw it.
    let wrote = one_wrote_at_a_time(&one);
    assert!(wrote.len() > writes_before.max(2), "{wrote:?}");
    let known: BTreeSet<String> = replicas
        .iter()
        .map(|replica| replica.credential.clone())
        .collect();
    assert!(wrote.is_superset(&known), "{wrote:?} {known:?}");
    let said: Vec<_> = writes(&one)
        .into_iter()
        .filter(|write| write.what.contains(" events "))
        .collect();
    assert!(said.len() < 20, "{said:#?}");
}
