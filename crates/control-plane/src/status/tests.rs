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
