//! A control plane that starts when the token of `cluster add` has long ended. It takes twelve minutes, which no clock can be
//! turned forward for: ten are the least that an API server grants, and it is that server's clock that counts.

use catamaran_kubernetes::kubeconfig::{Allowed, Kubeconfig, User};

use super::managed::catamaran;
use super::*;

const SECRET: &str = "-n catamaran-system get secret istio-remote-secret-cluster-2";
/// The life of the first token.
const LIFE: Duration = Duration::from_secs(600);

/// What is allowed here.
const LOOPBACK: Allowed = Allowed {
    loopback: true,
    link_local: false,
    proxy: false,
    files: false,
};

/// The kubeconfig that the instance holds for cluster-2.
fn held(one: &ApiServer) -> Kubeconfig {
    // without a space, as words are told apart by those
    let template = "{{range(.data)}}{{.|base64decode}}{{end}}";
    let text = one.kubectl(&format!("{SECRET} -o go-template={template}"), "");
    Kubeconfig::read(&text, LOOPBACK).unwrap()
}

/// The text of one with this token.
fn with(config: &Kubeconfig, token: &str) -> String {
    let user = User::Token(token.to_owned().into());
    let config = Kubeconfig {
        user,
        ..config.clone()
    };
    let cluster = "cluster-2".parse().unwrap();
    catamaran_kubernetes::enrol::kubeconfig(&cluster, &config).to_string()
}

/// How often the reader listed pods in the other cluster.
fn lists(two: &ApiServer) -> usize {
    let audit = std::fs::read_to_string(two.folder.join("audit.log")).unwrap();
    let events = audit
        .lines()
        .map(|line| serde_json::from_str(line).unwrap());
    let lists = events.filter(|event: &Value| {
        event["verb"] == "list" && event["objectRef"]["resource"] == "pods"
    });
    lists.count()
}

#[test]
fn a_renewed_token_outlives_the_control_plane_that_renewed_it() {
    let folder = tempfile::tempdir().unwrap();
    let fleet = Fleet::empty();
    fleet.say("cluster create c1").ok();
    fleet.say("mesh create mesh-1 --cluster c1 --region r").ok();
    fleet.say("fleet down").ok();
    let cacerts = fleet.dir().join("clusters/c1/private/cacerts");
    let one = ApiServer::up(folder.path().join("one"));
    let two = ApiServer::up(folder.path().join("two"));
    one.furnish(1);
    two.furnish(2);
    let plane = Plane::start(&one, 1, &cacerts);
    plane.until("it runs", |status| status["state"] == "running");
    let add = "cluster add cluster-2 --mesh mesh-1 --discovery-only --allow-loopback";
    let (good, said) = catamaran(add, &one, Some(&two));
    assert!(good, "{said}");
    let fresh = |status: &Value| cluster(status, "cluster-2")["freshness"] == "fresh";
    plane.until("it discovers the other", fresh);

    // As if this were what that API server grants.
    let begun = Instant::now();
    let account = "create token catamaran-reader-mesh-1 --duration 10m";
    let first = two.kubectl(&format!("-n catamaran-system {account}"), "");
    let first = first.trim();
    let short = with(&held(&one), first);
    let data = serde_json::json!({"stringData": {"cluster-2": short}});
    std::fs::write(folder.path().join("patch"), data.to_string()).unwrap();
    let patch = folder.path().join("patch");
    let patch = format!(
        "-n catamaran-system patch secret istio-remote-secret-cluster-2 --patch-file {}",
        patch.display()
    );
    one.kubectl(&patch, "");
    let expires = || {
        let cluster = one.json("-n catamaran-system get clusters.catamaran.dev cluster-2");
        let expires = cluster["status"]["credentialExpires"].as_str()?;
        catamaran_kubernetes::write::from_rfc3339(expires)
    };
    let seconds = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let ends = (seconds.unwrap() + LIFE + Duration::from_secs(60)).as_millis() as u64;
    wait("it has the short one", SOON, || {
        expires().is_some_and(|at| at.0 < ends)
    });
    plane.until("it is used", fresh);
    let before = lists(&two);

    // At half of its life it is renewed, and kept; nothing is listed again for it.
    wait("another token is kept", LIFE, || {
        held(&one)
            .token()
            .is_some_and(|token| token.as_str() != first)
    });
    assert!(begun.elapsed() < LIFE, "before the first one ends");
    wait("it says so", SOON, || {
        expires().is_some_and(|at| at.0 > ends)
    });
    // long enough for a watch that would begin anew
    std::thread::sleep(Duration::from_secs(10));
    assert_eq!(lists(&two), before);
    assert!(plane.log().contains("the renewed token is kept"));
    plane.until("nothing was lost", fresh);
    let state = plane.folder.join("state");
    drop(plane);

    // The next one starts with nothing but what is in the cluster, when the first token is over.
    std::fs::remove_dir_all(&state).unwrap();
    std::thread::sleep(LIFE.saturating_sub(begun.elapsed()));
    let old = folder.path().join("old");
    std::fs::write(&old, &short).unwrap();
    // That server lets a token count for a minute longer, and remembers for some seconds that it did.
    wait("the first token is refused", 2 * SOON, || {
        let tried = Command::new(program().with_file_name("kubectl"))
            .arg("--kubeconfig")
            .arg(&old)
            .args(["get", "pods", "-A"])
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&tried.stderr);
        !tried.status.success() && (said.contains("Unauthorized") || said.contains("logged in"))
    });
    let plane = Plane::start(&one, 1, &cacerts);
    plane.until("the next one discovers it", |status| {
        fresh(status) && cluster(status, "cluster-2")["endpoints"] == 1
    });
}

fn wait(what: &str, most: Duration, mut so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !so() {
        assert!(start.elapsed() < most, "not within {most:?}: {what}");
        std::thread::park_timeout(Duration::from_millis(500));
    }
}
