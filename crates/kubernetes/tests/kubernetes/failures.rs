//! Each way in which an API server can fail: nothing goes, the reason is told, and all is well again afterwards.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::live::*;
use crate::server::*;

/// A cluster whose whole list is there, with everything in it held.
async fn settled() -> (ApiServer, Live) {
    let server = cluster().await;
    let mut live = Live::watch(&server);
    live.until_fresh().await;
    live.hold_all();
    assert_eq!(live.floor.len(), 21);
    (server, live)
}

/// After all is well again, what changed meanwhile is known, and nothing else is different.
async fn recovered(server: &ApiServer, live: &mut Live) {
    server.put(PODS, pod("other-2"));
    server.put(
        SLICES,
        slice("other", &[("other-1", "10.1.1.1"), ("other-2", "10.1.1.2")]),
    );
    live.until("a new endpoint", |s| {
        endpoints(s).contains("default/other 10.1.1.2")
    })
    .await;
    live.until_fresh().await;
    // A witness, at last: the same endpoint goes when its slice says so.
    live.floor.retain(|known| known != "default/other 10.1.1.1");
    server.put(SLICES, slice("other", &[("other-2", "10.1.1.2")]));
    live.until("an endpoint that is gone", |s| {
        !endpoints(s).contains("default/other 10.1.1.1")
    })
    .await;
}

/// Lists and watches fail in this way, for a watch that is running and for one that begins.
async fn refused(fault: Fault, words: &str) {
    let (server, mut live) = settled().await;
    server.script("", On::Watch, fault.clone(), None);
    server.script("", On::List, fault.clone(), None);
    server.reset();
    live.until_lost(words).await;
    // The past is forgotten meanwhile, so a list is needed, which fails in the same way.
    server.compact();
    server.unscript();
    server.script("", On::List, fault, None);
    let lists = live.lists;
    live.for_a_while(Duration::from_millis(300)).await;
    // Another life begins beside the one that is lost: it cannot list either, and takes nothing over.
    live.start(
        access(&server, "token-1"),
        catamaran_kubernetes::watch::Reads::DiscoveryOnly,
        2,
    );
    live.for_a_while(Duration::from_millis(300)).await;
    assert_eq!(live.lists, lists, "what failed was taken for a list");
    let asked = server.audit();
    let listed = asked
        .iter()
        .rev()
        .find(|(_, path, _)| !path.contains("watch="));
    assert!(listed.is_some(), "lists were asked for");
    server.honest();
    live.until_fresh().await;
    recovered(&server, &mut live).await;
}

#[tokio::test]
async fn server_unreachable() {
    let (mut server, mut live) = settled().await;
    server.stop().await;
    live.until_lost("cannot be reached (Connection refused")
        .await;
    server.start_again().await;
    live.until_fresh().await;
    recovered(&server, &mut live).await;
}

#[tokio::test]
async fn server_unreachable_from_the_beginning() {
    let mut server = cluster().await;
    server.stop().await;
    let mut live = Live::watch(&server);
    let lost = live.step().await.unwrap();
    assert!(
        matches!(lost.what, catamaran_registry::Observed::Lost(_)),
        "{lost:?}"
    );
    server.start_again().await;
    live.until_fresh().await;
    live.hold_all();
    recovered(&server, &mut live).await;
}

#[tokio::test]
async fn unauthorized_401() {
    refused(
        Fault::Status(401, "Unauthorized"),
        "does not accept the credential (401",
    )
    .await;
}

#[tokio::test]
async fn forbidden_403() {
    refused(Fault::Status(403, "Forbidden"), "may not read").await;
}

#[tokio::test]
async fn not_found_404_after_it_was_there() {
    refused(Fault::Status(404, "NotFound"), "404").await;
}

#[tokio::test]
async fn not_found_404_from_something_else() {
    refused(Fault::Html(404), "as no API server does").await;
}

#[tokio::test]
async fn redirected_302() {
    refused(Fault::Html(302), "gave 302").await;
}

#[tokio::test]
async fn a_portal_that_says_200() {
    refused(Fault::Html(200), "was cut off").await;
}

#[tokio::test]
async fn too_many_requests_429() {
    refused(Fault::Busy(0), "overloaded (429)").await;
}

#[tokio::test]
async fn internal_error_500() {
    refused(Fault::Status(500, "InternalError"), "failed with 500").await;
}

#[tokio::test]
async fn unavailable_503() {
    refused(Fault::Status(503, "ServiceUnavailable"), "failed with 503").await;
}

#[tokio::test]
async fn gateway_timeout_504_without_a_status() {
    refused(Fault::Html(504), "failed with 504").await;
}

#[tokio::test]
async fn garbage_instead_of_json() {
    refused(Fault::Garbage, "cut off").await;
}

#[tokio::test]
async fn no_answer_at_all() {
    refused(Fault::Hang, "did not arrive within").await;
}

#[tokio::test]
async fn a_busy_server_is_left_alone_as_long_as_it_asks() {
    let (server, mut live) = settled().await;
    server.script(SERVICES, On::Watch, Fault::Busy(1), Some(1));
    let before = server.audit().len();
    server.reset();
    live.until_lost("429").await;
    let asked_at = tokio::time::Instant::now();
    live.until_fresh().await;
    assert!(asked_at.elapsed() >= Duration::from_millis(900));
    let asked = server.audit()[before..]
        .iter()
        .filter(|(_, path, _)| path.starts_with(SERVICES))
        .count();
    assert_eq!(asked, 2, "once to be told to wait, and once after that");
    recovered(&server, &mut live).await;
}

#[tokio::test]
async fn an_impostor_with_another_ca() {
    let (mut server, mut live) = settled().await;
    server.impostor(true);
    server.stop().await;
    server.start_again().await;
    live.until_lost("TLS handshake").await;
    assert!(
        live.lost
            .iter()
            .any(|reason| reason.contains("certificate-authority-data"))
    );
    server.impostor(false);
    live.until_fresh().await;
    recovered(&server, &mut live).await;
}

/// The list breaks in this way after the past was forgotten, so that a list is needed.
async fn broken_list(fault: Fault, words: &str) {
    let (server, mut live) = settled().await;
    server.script("", On::List, fault, None);
    server.compact();
    server.reset();
    live.until_lost(words).await;
    server.honest();
    live.until_fresh().await;
    assert!(live.lists >= 2);
    recovered(&server, &mut live).await;
}

#[tokio::test]
async fn a_list_that_breaks_off() {
    broken_list(Fault::Truncated, "broke off in the middle").await;
}

#[tokio::test]
async fn a_list_that_drips() {
    broken_list(Fault::Drip, "did not arrive within").await;
}

#[tokio::test]
async fn an_empty_list_without_a_revision() {
    broken_list(Fault::Blank, "no resourceVersion").await;
}

#[tokio::test]
async fn the_second_page_breaks_off() {
    let (server, mut live) = settled().await;
    // Twenty-one pods are three pages.
    server.script(PODS, On::Continue, Fault::Truncated, None);
    server.compact();
    server.reset();
    live.until_lost("the list of pods broke off").await;
    server.honest();
    live.until_fresh().await;
    recovered(&server, &mut live).await;
}

#[tokio::test]
async fn a_list_that_the_server_forgets_between_pages() {
    let (server, mut live) = settled().await;
    server.script(PODS, On::Continue, Fault::Status(410, "Expired"), Some(1));
    server.compact();
    let before = server.audit().len();
    server.reset();
    live.until("a second list", |_| true).await;
    while live.lists < 2 {
        live.step().await.unwrap();
    }
    live.until_fresh().await;
    let whole = server.audit()[before..].iter().any(|(_, path, _)| {
        path.starts_with(PODS) && !path.contains("limit=") && !path.contains("watch=")
    });
    assert!(whole, "the list was asked for in one piece");
    recovered(&server, &mut live).await;
}

/// The watch ends in this way, once for each kind, and goes on from where it was.
async fn broken_watch(fault: Fault, words: &str) {
    let (server, mut live) = settled().await;
    server.script("", On::Watch, fault, None);
    server.reset();
    live.until_lost(words).await;
    let lists = live.lists;
    server.put(PODS, pod("hello-21"));
    server.delete(PODS, "default", "hello-20");
    server.honest();
    live.until_fresh().await;
    recovered(&server, &mut live).await;
    assert_eq!(live.lists, lists, "it went on without a list");
}

#[tokio::test]
async fn a_watch_that_is_reset() {
    broken_watch(Fault::Cut, "was cut off").await;
}

#[tokio::test]
async fn a_watch_that_ends_in_a_delete() {
    broken_watch(Fault::CutInLine, "was cut off").await;
}

#[tokio::test]
async fn a_watch_that_says_500() {
    broken_watch(Fault::ErrorEvent(500), "failed with 500").await;
}

#[tokio::test]
async fn watches_that_end_at_once() {
    broken_watch(Fault::EndAtOnce, "end as soon as they begin").await;
}

#[tokio::test]
async fn a_watch_that_says_410_is_listed_anew_and_not_lost() {
    let (server, mut live) = settled().await;
    server.script(SLICES, On::Watch, Fault::ErrorEvent(410), Some(1));
    let lists = live.lists;
    server.reset();
    while live.lists == lists {
        live.step().await.unwrap();
    }
    recovered(&server, &mut live).await;
}

#[tokio::test]
async fn a_server_that_always_says_410_is_not_kept_busy() {
    let (server, mut live) = settled().await;
    server.script(SLICES, On::Watch, Fault::ErrorEvent(410), None);
    server.reset();
    let before = server.audit().len();
    live.for_a_while(Duration::from_millis(1500)).await;
    let asked = server.audit()[before..].to_vec();
    let lists = asked
        .iter()
        .filter(|(_, path, _)| {
            path.starts_with(SLICES) && !path.contains("watch=") && !path.contains("continue=")
        })
        .count();
    // With pauses of 80, 160, and then 200 ms.
    assert!((3..=12).contains(&lists), "{lists} lists");
    server.honest();
    recovered(&server, &mut live).await;
}

#[tokio::test]
async fn a_silent_watch_is_opened_again() {
    let (server, mut live) = settled().await;
    server.script(SLICES, On::Watch, Fault::Silent, Some(1));
    server.reset();
    live.until("cut off", |_| true).await;
    let lists = live.lists;
    // The silent watch does not say it; the one after it does.
    recovered(&server, &mut live).await;
    assert_eq!(live.lists, lists);
}

#[tokio::test]
async fn a_token_that_expires() {
    let (server, mut live) = settled().await;
    server.revoke("token-1");
    // Open watches go on with it.
    server.put(PODS, pod("hello-21"));
    server.reset();
    live.until_lost("401").await;
    server.accept("token-1");
    live.until_fresh().await;
    recovered(&server, &mut live).await;
}

#[tokio::test]
async fn an_export_that_may_not_be_read_is_no_statement() {
    let server = cluster().await;
    server.script(EXPORTS, On::List, Fault::Status(403, "Forbidden"), None);
    let mut live = Live::watch(&server);
    let snapshot = live.until_fresh().await;
    assert!(snapshot.clusters[&live.cluster].export.is_none());
    live.hold_all();
    assert!(live.lost.is_empty(), "{:?}", live.lost);
}

#[tokio::test]
async fn a_kind_that_is_not_installed_is_fine_and_found_later() {
    let server = cluster().await;
    server.uninstall(EXPORTS);
    server.script(NODES, On::List, Fault::Status(403, "Forbidden"), None);
    let mut live = Live::watch(&server);
    let snapshot = live.until_fresh().await;
    assert!(snapshot.clusters[&live.cluster].export.is_none());
    live.hold_all();
    server.install(EXPORTS);
    server.put(EXPORTS, serde_json::json!({
        "metadata": {"namespace": "catamaran-system", "name": "mesh-2"},
        "spec": {"cluster": "cluster-2", "clusterUid": "uid-of-kube-system", "version": "0.1.0", "region": "eu"},
    }));
    let cluster = live.cluster.clone();
    live.until("its export", move |s| s.clusters[&cluster].export.is_some())
        .await;
    // Its region is that of all endpoints which do not say otherwise.
    live.until("the region", |s| {
        let hello = &s.services[&key("hello")];
        hello.endpoints.iter().all(|e| {
            e.endpoint
                .locality
                .region
                .as_ref()
                .is_some_and(|r| r.as_str() == "eu")
        })
    })
    .await;
    assert!(live.lost.is_empty(), "{:?}", live.lost);
    // Once it was there, its absence is a failure, and what it said stays.
    server.uninstall(EXPORTS);
    server.compact();
    server.reset();
    live.until_lost("404").await;
    let cluster = live.cluster.clone();
    assert!(live.registry.snapshot().clusters[&cluster].export.is_some());
}

#[tokio::test]
async fn an_object_that_cannot_be_understood_hides_no_other() {
    let (server, mut live) = settled().await;
    let mut bad = service("hello");
    bad["spec"]["ports"][0]["port"] = serde_json::json!(70_000);
    server.put(SERVICES, bad);
    let mut evil = slice(
        "other",
        &[("other-1", "10.1.1.1"), ("other-1", "169.254.169.254")],
    );
    evil["endpoints"][1]["addresses"] =
        serde_json::json!(["169.254.169.254", "127.0.0.1", "10.1.1.9"]);
    server.put(SLICES, evil);
    live.until("the good one of the three", |s| {
        endpoints(s).contains("default/other 10.1.1.9")
    })
    .await;
    let mut beside = live.beside.clone();
    let both = beside.wait_for(|beside| {
        let said = |object: &str, words: &str| {
            let mut problems = beside.problems.iter();
            problems.any(|p| p.object == object && p.message.contains(words))
        };
        said("Service default/hello", "stays in use")
            && said(
                "EndpointSlice default/other-1",
                "169.254.169.254 is a link-local address",
            )
    });
    let both = tokio::time::timeout(Duration::from_secs(10), both).await;
    both.expect("both problems are told").unwrap();
    assert!(
        !endpoints(&live.registry.snapshot())
            .iter()
            .any(|e| e.contains("169.254") || e.contains("127.0"))
    );
    // The same in a list.
    let lists = live.lists;
    server.compact();
    server.reset();
    while live.lists == lists {
        live.step().await.unwrap();
    }
    live.until_fresh().await;
    server.put(SERVICES, service("hello"));
    recovered(&server, &mut live).await;
    let good = beside.wait_for(|beside| beside.problems.is_empty());
    let good = tokio::time::timeout(Duration::from_secs(10), good).await;
    good.expect("no problem is left").unwrap();
}

#[tokio::test]
async fn what_is_asked_is_get_and_a_review_of_our_own_rights() {
    const REVIEW: &str = "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews";
    let (server, mut live) = settled().await;
    recovered(&server, &mut live).await;
    while !server.audit().iter().any(|(method, ..)| method == "POST") {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let mut kinds = BTreeSet::new();
    for (method, path, _) in server.audit() {
        let path = path.split('?').next().unwrap().to_owned();
        assert_eq!(
            method,
            if path == REVIEW { "POST" } else { "GET" },
            "{path}"
        );
        kinds.insert(path);
    }
    let expected = [NAMESPACES, NODES, SERVICES, PODS, SLICES, EXPORTS, REVIEW];
    assert_eq!(kinds, expected.map(str::to_owned).into());
}

#[tokio::test]
async fn rights_beyond_the_need_are_a_warning_and_go_with_them() {
    const REVIEW: &str = "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews";
    let answer = |rules: Vec<(&str, &str, &str)>| {
        let rules: Vec<serde_json::Value> = (rules.into_iter())
            .map(|(group, resource, verb)| serde_json::json!({"apiGroups": [group], "resources": [resource], "verbs": [verb]}))
            .collect();
        serde_json::json!({"kind": "SelfSubjectRulesReview", "apiVersion": "authorization.k8s.io/v1", "metadata": {}, "spec": {},
            "status": {"incomplete": false, "resourceRules": rules, "nonResourceRules": []}})
    };
    let (server, live) = settled().await;
    let mut beside = live.beside.clone();
    let mut until = async |words: &'static str| {
        let found = beside.wait_for(|beside| {
            let mut problems = beside.problems.iter();
            match words {
                "" => beside.problems.is_empty(),
                words => problems.any(|problem| problem.message.contains(words)),
            }
        });
        let found = tokio::time::timeout(Duration::from_secs(10), found).await;
        assert!(found.is_ok(), "{words}");
    };
    server.on_post(REVIEW, answer(vec![("*", "*", "*")]));
    until("may do more than discovery needs: * *.*").await;
    server.on_post(REVIEW, answer(vec![("", "pods", "list")]));
    until("may not get endpointslices").await;
    let mut needed = Vec::new();
    for (group, resource) in catamaran_kubernetes::rights::NEEDED {
        for verb in catamaran_kubernetes::rights::VERBS {
            needed.push((group, resource, verb));
        }
    }
    server.on_post(REVIEW, answer(needed));
    until("").await;
}
