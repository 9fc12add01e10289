use catamaran_model::{ClusterDomain, FailoverMode, MtlsMode, TrustDomain};

use super::*;

#[test]
fn times_are_said_in_utc() {
    assert_eq!(utc(Timestamp(0)), "1970-01-01T00:00:00Z");
    assert_eq!(utc(Timestamp(1_700_000_000_999)), "2023-11-14T22:13:20Z");
    assert_eq!(utc(Timestamp(u64::MAX)), format!("{}", Timestamp(u64::MAX)));
}

#[test]
fn equal_settings_have_equal_digests_whatever_the_instance_is_called() {
    let spec = |name: &str, mtls| MeshSpec {
        name: MeshName::new(name).unwrap(),
        region: None,
        version: None,
        trust_domain: TrustDomain::default(),
        domain: ClusterDomain::default(),
        mtls,
        failover: FailoverMode::Spread,
    };
    let digests = [
        ("mesh-1", MtlsMode::Strict),
        ("mesh-2", MtlsMode::Strict),
        ("mesh-2", MtlsMode::Permissive),
    ];
    let [one, two, other] = digests.map(|(name, mtls)| digest(&spec(name, mtls)));
    assert_eq!(one, two);
    assert_ne!(two, other);
}

#[test]
fn the_status_is_read_back_as_it_was_said() {
    let problem = Problem {
        severity: Severity::Error,
        kind: ProblemKind::RootMismatch,
        cluster: Some(ClusterId::new("cluster-2").unwrap()),
        object: "Cluster cluster-2".into(),
        message: "another root".into(),
    };
    let said = serde_json::to_string(&problem_status(&problem)).unwrap();
    assert!(
        said.contains(r#""kind":"root_mismatch""#) && said.contains(r#""severity":"error""#),
        "{said}"
    );
    let read: ProblemStatus = serde_json::from_str(&said).unwrap();
    assert_eq!(read, problem_status(&problem));
}

#[test]
fn what_the_replicas_know_is_added_up() {
    let status: Status = serde_json::from_value(serde_json::json!({
        "mesh": "m", "cluster": "c", "version": "1", "region": null, "state": "running", "because": [], "ready": true,
        "waiting_for": [], "snapshot": 1, "services": 0, "clusters": [], "gateways": [], "trust": null,
        "proxies": {"connected": 2, "current": 2, "pending": 0, "rejected": 0},
        "problems": [{"severity": "error", "kind": "refused", "cluster": "c", "object": "route 1", "message": "ours"}],
    }))
    .unwrap();
    let refusal = |object: &str| catamaran_kubernetes::beats::Refusal {
        object: object.into(),
        message: "theirs".into(),
    };
    let beat = Beat {
        proxies: 3,
        pending: 1,
        refusals: vec![refusal("route 1"), refusal("route 2")],
        ..Beat::default()
    };
    let all = status.with(&[("other".to_owned(), beat)].into());
    assert_eq!((all.proxies.connected, all.proxies.pending), (5, 1));
    let told: Vec<_> = (all.problems.iter())
        .map(|problem| (problem.object.as_str(), problem.message.as_str()))
        .collect();
    assert_eq!(told, [("route 1", "ours"), ("route 2", "theirs")]);
}
