//! Who gets a certificate, and whom the control plane shows itself as.

use catamaran_identity::{Holding, PeerError, Root};
use catamaran_model::{Timestamp, TrustDomain};
use tonic::Code;

use crate::client::{Proxy, certificate, connect, credentials, join, sidecar};
use crate::fleet::{Fleet, identity, mesh, new_root, now};
use crate::soon;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_is_good_once_and_for_one_identity() {
    let fleet = Fleet::new();
    let cluster = fleet.cluster("cluster-1", "mesh-1");
    let plane = cluster.start().await.ready().await;
    let anonymous = credentials(fleet.root.bundle(&TrustDomain::default()).unwrap());
    let channel = connect(plane.address, &anonymous).await.unwrap();
    let sleep = identity("default/sleep");
    let token = cluster.token("default/sleep", 600);

    let refused = certificate(&channel, &identity("default/admin"), Some(&token))
        .await
        .unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
    assert!(
        refused
            .message()
            .contains("asks for spiffe://cluster.local/ns/default/sa/admin"),
        "{refused}"
    );

    // That did not use it up.
    let (chain, key) = certificate(&channel, &sleep, Some(&token)).await.unwrap();
    assert!(chain.len() >= 3, "leaf, intermediate, roots");
    Holding::from_response(&chain, key, &sleep, now()).unwrap();

    let replayed = certificate(&channel, &sleep, Some(&token))
        .await
        .unwrap_err();
    assert_eq!(replayed.code(), Code::Unauthenticated);
    assert!(replayed.message().contains("used before"), "{replayed}");

    let late = cluster.token("default/sleep", -1);
    let late = certificate(&channel, &sleep, Some(&late))
        .await
        .unwrap_err();
    assert_eq!(late.code(), Code::Unauthenticated);
    assert!(late.message().contains("ended at"), "{late}");

    let nothing = certificate(&channel, &sleep, None).await.unwrap_err();
    assert_eq!(nothing.code(), Code::Unauthenticated);
    assert!(nothing.message().contains("show a join token"), "{nothing}");
    let nonsense = certificate(&channel, &sleep, Some("")).await.unwrap_err();
    assert_eq!(nonsense.code(), Code::Unauthenticated);
    plane.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_those_that_race_for_a_token_one_gets_a_certificate() {
    let fleet = Fleet::new();
    let cluster = fleet.cluster("cluster-1", "mesh-1");
    let plane = cluster.start().await.ready().await;
    let anonymous = credentials(fleet.root.bundle(&TrustDomain::default()).unwrap());
    let channel = connect(plane.address, &anonymous).await.unwrap();
    let (sleep, token) = (
        identity("default/sleep"),
        cluster.token("default/sleep", 600),
    );
    let race = (0..16).map(|_| certificate(&channel, &sleep, Some(&token)));
    let won = futures_util::future::join_all(race)
        .await
        .into_iter()
        .filter(Result::is_ok)
        .count();
    assert_eq!(won, 1);
    plane.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_renews_itself_and_nobody_elses() {
    let fleet = Fleet::new();
    let cluster = fleet.cluster("cluster-1", "mesh-1");
    let plane = cluster.start().await.ready().await;
    let bundle = fleet.root.bundle(&TrustDomain::default()).unwrap();
    let token = cluster.token("default/sleep", 600);
    let held = join(plane.address, bundle, "default/sleep", &token).await;
    let channel = connect(plane.address, &held).await.unwrap();

    let sleep = identity("default/sleep");
    let (chain, key) = certificate(&channel, &sleep, None).await.unwrap();
    Holding::from_response(&chain, key, &sleep, now()).unwrap();
    let other = certificate(&channel, &identity("default/helloworld"), None)
        .await
        .unwrap_err();
    assert_eq!(other.code(), Code::PermissionDenied);
    assert!(
        other
            .message()
            .contains("proved to be spiffe://cluster.local/ns/default/sa/sleep"),
        "{other}"
    );
    plane.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_root_that_is_not_ours_is_refused_by_both_sides() {
    let fleet = Fleet::new();
    let cluster = fleet.cluster("cluster-1", "mesh-1");
    let plane = cluster.start().await.ready().await;
    let foreign = new_root("mesh-9");

    // A proxy of another root does not believe us.
    let stranger = credentials(foreign.bundle(&TrustDomain::default()).unwrap());
    let error = connect(plane.address, &stranger)
        .await
        .err()
        .expect("another root");
    let reason = PeerError::of_io(&error).expect("our verifier says why");
    assert!(
        matches!(reason, PeerError::UnknownIssuer { .. }),
        "{reason}"
    );

    // Nor do we believe a proxy of another root that trusts ours too.
    let domain = TrustDomain::default();
    let authority = foreign
        .issue_intermediate(
            &domain,
            &crate::fleet::mesh("mesh-9"),
            &crate::fleet::cluster("cluster-1"),
            now(),
        )
        .unwrap();
    let issuer = catamaran_identity::Issuer::new(authority, domain.clone()).unwrap();
    let sleep = identity("default/sleep");
    let holding = issuer.holding_for(&sleep, None, now()).unwrap();
    let both = foreign
        .bundle(&domain)
        .unwrap()
        .with(&fleet.root.bundle(&domain).unwrap());
    let stranger = credentials(both.clone());
    stranger.install(holding.with_bundle(both, now()).unwrap());
    // With TLS 1.3 the refusal comes after the client's own side is done: with the first answer.
    let refused = match connect(plane.address, &stranger).await {
        Err(_) => true,
        Ok(channel) => certificate(&channel, &sleep, None).await.is_err(),
    };
    assert!(refused);
    plane.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_instance_of_the_same_root_speaks_for_none_of_ours() {
    let fleet = Fleet::new();
    let cluster = fleet.cluster("cluster-1", "mesh-1");
    let plane = cluster.start().await.ready().await;
    let domain = TrustDomain::default();
    let theirs = fleet
        .root
        .issue_intermediate(
            &domain,
            &crate::fleet::mesh("mesh-2"),
            &crate::fleet::cluster("cluster-2"),
            now(),
        )
        .unwrap();
    let issuer = catamaran_identity::Issuer::new(theirs, domain.clone()).unwrap();
    let sleep = identity("default/sleep");
    let held = credentials(fleet.root.bundle(&domain).unwrap());
    held.install(issuer.holding_for(&sleep, None, now()).unwrap());
    let channel = connect(plane.address, &held).await.unwrap();

    let refused = certificate(&channel, &sleep, None).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
    assert!(
        refused.message().contains("not issued by this instance"),
        "{refused}"
    );
    let mut client = catamaran_wire::grpc::AggregatedDiscoveryClient::new(channel);
    let refused = client
        .delta_aggregated_resources(tokio_stream::empty())
        .await
        .unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
    plane.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn discovery_is_not_for_the_anonymous() {
    let fleet = Fleet::new();
    let cluster = fleet.cluster("cluster-1", "mesh-1");
    let plane = cluster.start().await.ready().await;
    let anonymous = credentials(fleet.root.bundle(&TrustDomain::default()).unwrap());
    let channel = connect(plane.address, &anonymous).await.unwrap();
    let mut client = catamaran_wire::grpc::AggregatedDiscoveryClient::new(channel);
    let refused = client
        .delta_aggregated_resources(tokio_stream::empty())
        .await
        .unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated);
    assert!(
        refused.message().contains("show the certificate"),
        "{refused}"
    );
    plane.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_intermediate_takes_over_without_a_break() {
    let fleet = Fleet::new();
    let cluster = fleet.cluster("cluster-1", "mesh-1");
    cluster.service("sleep", &[1]);
    let plane = cluster.start().await.ready().await;
    let bundle = fleet.root.bundle(&TrustDomain::default()).unwrap();
    let token = cluster.token("default/sleep", 600);
    let held = join(plane.address, bundle.clone(), "default/sleep", &token).await;
    let channel = connect(plane.address, &held).await.unwrap();
    let mut proxy = Proxy::open(&channel, sidecar("default/sleep", "sleep-1")).await;
    proxy.ready().await;

    let before = plane.status().await.trust.unwrap().intermediate;
    let new = cluster.authority(&fleet.root).fingerprint().to_string();
    assert_ne!(before, new);
    plane
        .until("the new authority", |status| {
            status
                .trust
                .as_ref()
                .is_some_and(|trust| trust.intermediate == new)
        })
        .await;

    // What stood goes on, and peers are told of both as long as both may be met.
    cluster.service("sleep", &[1, 2]);
    let two = |held: &catamaran_xds::ResourceSet| {
        let issuers = held.get(catamaran_xds::TypeUrlKind::Issuers, "cluster-1");
        // Two fingerprints of 32 bytes each.
        issuers.is_some_and(|issuers| issuers.bytes.len() > 64)
    };
    proxy.until("both intermediates", two).await;
    // What the old one signed still proves who it is, also after a restart.
    let (chain, key) = certificate(&channel, &identity("default/sleep"), None)
        .await
        .unwrap();
    let renewed = Holding::from_response(&chain, key, &identity("default/sleep"), now()).unwrap();
    assert_eq!(renewed.issuers()[0].to_string(), new);
    plane.stop().await;
    let plane = cluster.start().await.ready().await;
    let channel = connect(plane.address, &held).await.unwrap();
    certificate(&channel, &identity("default/sleep"), None)
        .await
        .unwrap();
    plane.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_authority_that_cannot_be_used_changes_nothing() {
    let fleet = Fleet::new();
    let cluster = fleet.cluster("cluster-1", "mesh-1");
    let plane = cluster.start().await.ready().await;
    std::fs::write(cluster.dir.cacerts().join("ca-key.pem"), "no key").unwrap();
    let status = plane
        .until("the problem", |status| {
            status
                .problems
                .iter()
                .any(|one| one.object == "private/cacerts")
        })
        .await;
    let problem = status
        .problems
        .iter()
        .find(|one| one.object == "private/cacerts")
        .unwrap();
    assert!(
        problem
            .message
            .contains("the authority before stays in use"),
        "{problem:?}"
    );
    assert!(status.ready);
    let token = cluster.token("default/sleep", 600);
    let bundle = fleet.root.bundle(&TrustDomain::default()).unwrap();
    soon(
        "a certificate",
        join(plane.address, bundle, "default/sleep", &token),
    )
    .await;
    plane.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_authority_with_less_left_than_one_leaf_is_not_ready_and_still_signs() {
    let year = catamaran_identity::INTERMEDIATE_LIFE;
    let long_ago = Timestamp(now().0 - year.as_millis() as u64 + 12 * 3_600_000);
    let domain = TrustDomain::default();
    let old = Root::create(&domain, &mesh("mesh-1"), long_ago).unwrap();
    let fleet = Fleet::new();
    let cluster = fleet.cluster_under(&old, "cluster-1", "mesh-1");
    let ending = old
        .issue_intermediate(
            &domain,
            &mesh("mesh-1"),
            &crate::fleet::cluster("cluster-1"),
            long_ago,
        )
        .unwrap();
    cluster.install(&ending);
    let plane = cluster.start().await;
    let status = plane
        .until("the authority", |status| {
            status.trust.is_some()
                && status.waiting_for == ["issuer"]
                && !status.problems.is_empty()
        })
        .await;
    assert!(!status.ready);
    let problems: Vec<_> = status
        .problems
        .iter()
        .map(|problem| &problem.message)
        .collect();
    assert!(
        problems
            .iter()
            .any(|message| message.contains("catamaran trust renew")),
        "{problems:?}"
    );

    let token = cluster.token("default/sleep", 600);
    let held = join(
        plane.address,
        old.bundle(&domain).unwrap(),
        "default/sleep",
        &token,
    )
    .await;
    assert!(held.holding().unwrap().not_after() <= ending.facts().not_after);

    cluster.install(
        &old.issue_intermediate(
            &domain,
            &mesh("mesh-1"),
            &crate::fleet::cluster("cluster-1"),
            now(),
        )
        .unwrap(),
    );
    let plane = plane.ready().await;
    plane.stop().await;
}
