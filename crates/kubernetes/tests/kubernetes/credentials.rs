//! Credentials from outside: whose address is asked, what a secret's kubeconfigs become, and how one is replaced by the next.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};

use catamaran_kubernetes::connect::Access;
use catamaran_kubernetes::kubeconfig::{Allowed, Kubeconfig};
use catamaran_kubernetes::remote::same_cluster;
use catamaran_kubernetes::rights;
use catamaran_kubernetes::token::{self, Renewal};
use catamaran_kubernetes::watch::Reads;
use catamaran_model::{ClusterId, Credential, MemberMode, Namespace, Timestamp};
use catamaran_registry::Observed;
use serde_json::{Value, json};

use crate::live::*;
use crate::server::*;

fn secret(namespace: &str, name: &str, configs: &[(&str, &str)]) -> Value {
    let data: serde_json::Map<String, Value> = (configs.iter())
        .map(|(cluster, text)| ((*cluster).to_owned(), json!(base64(text.as_bytes()))))
        .collect();
    json!({"metadata": {"namespace": namespace, "name": name, "labels": {"istio/multiCluster": "true"},
                        "annotations": {"networking.istio.io/cluster": "only-informative"}}, "data": data})
}

fn managed() -> Reads {
    Reads::Managed {
        istio: Some(Namespace::new("istio-system").unwrap()),
        allowed: Allowed::default(),
    }
}

async fn managed_cluster() -> ApiServer {
    let server = cluster().await;
    for path in [MESHES, CLUSTERS, SECRETS, ISTIO_SECRETS] {
        server.install(path);
    }
    server
}

const GOOD: &str = "{clusters: [{name: a, cluster: {server: 'https://10.0.0.9:6443', certificate-authority-data: LS0tLS1CRUdJTiBDRVJUSUZJQ0FURS0tLS0t}}], \
                    users: [{name: a, user: {token: t1}}], contexts: [{name: a, context: {cluster: a, user: a}}], current-context: a}";

#[tokio::test]
async fn a_name_that_leads_to_ourselves_is_not_dialled() {
    let server = cluster().await;
    let loopback = Allowed {
        loopback: true,
        ..Allowed::default()
    };
    // A number is a name for the resolver, and an address after it.
    for host in ["2130706433", "0x7f000001", "localhost"] {
        let text = server.kubeconfig_at(
            &format!("https://{host}:{}", server.address.port()),
            "token-1",
        );
        let Ok(config) = Kubeconfig::read(
            &text,
            if host == "localhost" {
                loopback
            } else {
                Allowed::default()
            },
        ) else {
            continue;
        };
        let access = Access::new(&config, Allowed::default()).unwrap();
        let failure = rights::review(&access).await.unwrap_err();
        let said = failure.about("anything");
        assert!(
            said.contains("is not asked") && said.contains("127.0.0.1, a loopback address")
                || said.contains("not resolved"),
            "{host}: {said}"
        );
    }
    assert!(server.audit().is_empty());
}

#[tokio::test]
async fn remote_secrets_are_clusters_that_are_only_discovered() {
    let server = managed_cluster().await;
    server.put(
        ISTIO_SECRETS,
        secret(
            "istio-system",
            "any-name",
            &[
                ("cluster-3", GOOD),
                ("cluster-4", &GOOD.replace("t1", "t2")),
                ("cluster-2", GOOD),
            ],
        ),
    );
    let mut unlabelled = secret("istio-system", "other", &[("cluster-9", GOOD)]);
    unlabelled["metadata"]["labels"] = json!({});
    server.put(ISTIO_SECRETS, unlabelled);
    let mut live = Live::reading(&server, managed());
    live.until_fresh().await;
    let members = live.registry.members();
    // Its own name is ignored, as in Istio.
    assert_eq!(
        members.keys().map(ClusterId::as_str).collect::<Vec<_>>(),
        ["cluster-3", "cluster-4"]
    );
    let third = &members[&ClusterId::new("cluster-3").unwrap()];
    assert_eq!(
        (third.mode, &third.credential),
        (
            MemberMode::DiscoveryOnly,
            &Credential::Secret("istio-system/any-name".into())
        )
    );
    let held = |live: &Live, cluster: &str| {
        let credentials = live.beside.borrow().credentials.clone();
        let held = credentials
            .of("istio-system/any-name", &ClusterId::new(cluster).unwrap())
            .cloned();
        held.unwrap()
    };
    let first = held(&live, "cluster-3").usable.unwrap();

    // An update that is refused leaves the one before in use, and says why.
    server.put(
        ISTIO_SECRETS,
        secret(
            "istio-system",
            "any-name",
            &[
                (
                    "cluster-3",
                    &GOOD.replace("token: t1", "exec: {command: sh}"),
                ),
                ("cluster-4", "{{"),
            ],
        ),
    );
    while held(&live, "cluster-3").refused.is_none() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let kept = held(&live, "cluster-3");
    assert_eq!(kept.usable, Some(first));
    assert!(
        kept.refused
            .unwrap()
            .starts_with("users[0].user.exec: it would run a program")
    );
    while live.beside.borrow().problems.len() < 2 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let problems: Vec<String> = live
        .beside
        .borrow()
        .problems
        .iter()
        .map(|p| format!("{} {}", p.object, p.message))
        .collect();
    assert!(problems[0].contains("Secret istio-system/any-name the kubeconfig of cluster-3 is not used: users[0].user.exec"), "{problems:?}");
    assert!(
        problems
            .iter()
            .all(|p| p.contains("the one before stays in use") && !p.contains("t1")),
        "{problems:?}"
    );

    // An object of the same name says more, and wins.
    server.put(CLUSTERS, json!({"metadata": {"namespace": "catamaran-system", "name": "cluster-3"},
        "spec": {"mode": "DiscoveryOnly", "network": "network3", "secret": "istio-system/any-name"}}));
    let third = ClusterId::new("cluster-3").unwrap();
    loop {
        live.step().await.unwrap();
        if live.registry.members()[&third].network.is_some() {
            break;
        }
    }
    server.delete(CLUSTERS, "catamaran-system", "cluster-3");
    loop {
        live.step().await.unwrap();
        if live.registry.members()[&third].network.is_none() {
            break;
        }
    }
    // A person takes the secret away: that is a removal.
    server.delete(ISTIO_SECRETS, "istio-system", "any-name");
    while !live.registry.members().is_empty() {
        live.step().await.unwrap();
    }
}

#[tokio::test]
async fn secrets_that_cannot_be_read_remove_no_cluster() {
    let server = managed_cluster().await;
    server.put(
        ISTIO_SECRETS,
        secret("istio-system", "r", &[("cluster-3", GOOD)]),
    );
    let mut live = Live::reading(&server, managed());
    live.until_fresh().await;
    for fault in [
        Fault::Status(403, "Forbidden"),
        Fault::Status(404, "NotFound"),
        Fault::Truncated,
    ] {
        server.script("/secrets", On::List, fault, None);
        server.script("/secrets", On::Watch, Fault::ErrorEvent(410), None);
        server.reset();
        live.until_lost("remote secrets").await;
        assert_eq!(live.registry.members().len(), 1);
        // A new life cannot read them either, so it takes nothing over.
        let next = 2 + live.lists as u64;
        live.start(access(&server, "token-1"), managed(), next);
        tokio::time::sleep(Duration::from_millis(100)).await;
        server.honest();
        // The life before may be fresh again sooner than the new one has its list.
        loop {
            let change = live.step().await.expect("the list of the new life");
            if change.watch.0 == next && matches!(change.what, Observed::Listed(_)) {
                break;
            }
        }
        live.until_fresh().await;
        assert_eq!(live.registry.members().len(), 1);
        live.end_older();
    }
}

#[tokio::test]
async fn one_cluster_under_two_names_is_found() {
    let server = cluster().await;
    let mut live = Live::watch(&server);
    live.until_fresh().await;
    while live.beside.borrow().uid.is_none() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let uid = live.beside.borrow().uid.clone().unwrap();
    assert_eq!(uid, "uid-of-kube-system");
    let names: Vec<ClusterId> = ["b", "a", "c", "d", "e"]
        .map(|n| ClusterId::new(n).unwrap())
        .into();
    let uids = [uid.as_str(), uid.as_str(), "another", "", ""];
    let found = same_cluster(names.iter().zip(uids));
    assert_eq!(found, [(&names[1], vec![&names[0]])]);
}

/// A thousand times another credential: each time a new watch lists beside the one that runs, and takes over when it is
/// complete. Every fifth is one that does not work.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_rotations_lose_no_endpoint() {
    let server = cluster().await;
    let mut live = Live::watch(&server);
    live.until_fresh().await;
    live.hold_all();
    let mut generation = 1;
    let mut taken = 0;
    for n in 2..=1_001u64 {
        let token = format!("token-{n}");
        let works = n % 5 != 0;
        if works {
            server.accept(&token);
        }
        live.start(access(&server, &token), Reads::DiscoveryOnly, n);
        loop {
            let change = live.step().await.expect("a list or a loss");
            match change.what {
                Observed::Listed(_) if change.watch.0 == n => {
                    assert!(works);
                    server.revoke(&format!("token-{generation}"));
                    generation = n;
                    taken += 1;
                    live.end_older();
                    break;
                }
                Observed::Lost(_) if change.watch.0 == n => {
                    assert!(!works, "{change:?}");
                    live.end_last();
                    break;
                }
                _ => {}
            }
        }
    }
    assert_eq!(taken, 800);
    live.until_fresh().await;
    // The last one watches.
    server.put(PODS, pod("other-2"));
    server.put(
        SLICES,
        slice("other", &[("other-1", "10.1.1.1"), ("other-2", "10.1.1.2")]),
    );
    live.until("a new endpoint", |s| {
        endpoints(s).contains("default/other 10.1.1.2")
    })
    .await;
}

fn jwt(n: u64, from: u64, until: u64) -> String {
    let payload = json!({"sub": "system:serviceaccount:catamaran-system:catamaran-reader-mesh-1", "iat": from, "exp": until, "n": n});
    let coded = base64(payload.to_string().as_bytes());
    let coded = coded
        .trim_end_matches('=')
        .replace('+', "-")
        .replace('/', "_");
    format!("e30.{coded}.c2ln")
}

fn now() -> Timestamp {
    let since = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap();
    Timestamp(since.as_millis() as u64)
}

fn granted(token: &str, until: u64) -> Value {
    let date = format!("1970-01-01T00:00:{until:02}Z");
    json!({"kind": "TokenRequest", "apiVersion": "authentication.k8s.io/v1", "metadata": {}, "spec": {"audiences": ["x"], "expirationSeconds": 86400},
           "status": {"token": token, "expirationTimestamp": date}})
}

#[tokio::test]
async fn a_token_renews_itself_at_half_of_the_life_that_was_granted() {
    const PATH: &str =
        "/api/v1/namespaces/catamaran-system/serviceaccounts/catamaran-reader-mesh-1/token";
    let server = cluster().await;
    let start = now().seconds();
    // Four seconds were granted, two ago: it is due at once.
    let first = jwt(1, start - 2, start + 2);
    let second = jwt(2, start, start + 3_600);
    server.accept(&first);
    server.accept(&second);
    let access = access(&server, &first);
    let (told, mut renewal) = tokio::sync::watch::channel(Renewal::Endless);
    let keeping = tokio::spawn(token::keep(access.clone(), first.clone().into(), now, told));
    let wait = Duration::from_secs(20);
    let failing = renewal.wait_for(|r| matches!(r, Renewal::Failing { .. }));
    let failing = tokio::time::timeout(wait, failing)
        .await
        .unwrap()
        .unwrap()
        .clone();
    let Renewal::Failing { reason, until } = failing else {
        unreachable!()
    };
    assert!(
        reason.contains("403") && until.seconds() == start + 2,
        "{reason}"
    );
    server.on_post(PATH, granted(&second, 59));
    let renewed =
        renewal.wait_for(|r| matches!(r, Renewal::InTime(g) if g.token.as_str() == second));
    let renewed = tokio::time::timeout(wait, renewed)
        .await
        .unwrap()
        .unwrap()
        .clone();
    let Renewal::InTime(granted) = renewed else {
        unreachable!()
    };
    assert_eq!(granted.from.seconds(), start);
    // From the next request on it is the new one that is shown, by every clone.
    server.revoke(&first);
    let _ = rights::review(&access).await;
    let (method, path, shown) = server.audit().last().unwrap().clone();
    assert_eq!((&*method, &*shown), ("POST", &*second), "{path}");
    let asked: BTreeSet<String> = server
        .audit()
        .into_iter()
        .filter(|(m, ..)| m == "POST")
        .map(|(_, p, _)| p)
        .collect();
    assert_eq!(
        asked.len(),
        2,
        "a token for itself and a review of its rights: {asked:?}"
    );
    keeping.abort();
}

#[tokio::test]
async fn a_token_without_an_end_is_left_alone() {
    let server = cluster().await;
    let (told, mut renewal) = tokio::sync::watch::channel(Renewal::Failing {
        reason: String::new(),
        until: now(),
    });
    let keeping = tokio::spawn(token::keep(
        access(&server, "token-1"),
        "token-1".to_owned().into(),
        now,
        told,
    ));
    renewal.wait_for(|r| *r == Renewal::Endless).await.unwrap();
    assert!(server.audit().is_empty());
    keeping.abort();
}
