use std::collections::BTreeSet;

use super::*;
use crate::Fleet;
use crate::fleet::Instance;
use catamaran_local::fleet::Isolation;

#[test]
fn a_check_that_saw_nothing_is_skipped_and_never_green() {
    let skipped = verdict("trust", "same-root", Verdict::Fail, vec![], vec![], "do it");
    assert_eq!(skipped.verdict, Verdict::Skip);
    let failed = verdict(
        "trust",
        "same-root",
        Verdict::Fail,
        vec!["a".into()],
        vec!["b".into()],
        "do it",
    );
    assert_eq!(
        (failed.verdict, failed.fix.as_str()),
        (Verdict::Fail, "do it")
    );
}

#[test]
fn a_deployment_without_its_pods_fails() {
    let folder = tempfile::tempdir().unwrap();
    let fleet =
        Fleet::open_or_create(folder.path(), Some(Isolation::Process), "catamaran").unwrap();
    let name = catamaran_model::ClusterId::new("cluster-2").unwrap();
    crate::create_cluster(&fleet, &name, None, &mut crate::Job::unwatched()).unwrap();
    let home = fleet.cluster(&name).unwrap();
    let instances = [Instance {
        spec: catamaran_model::MeshSpec {
            name: catamaran_model::MeshName::new("mesh-2").unwrap(),
            region: None,
            version: None,
            trust_domain: Default::default(),
            domain: Default::default(),
            mtls: Default::default(),
            failover: Default::default(),
        },
        home: home.clone(),
        members: Vec::new(),
    }];
    assert_eq!(
        fleet::replicas_ready(&instances, &BTreeSet::new())
            .unwrap()
            .verdict,
        Verdict::Pass
    );
    let sample = include_str!("../../../../examples/five-steps/cluster-2.yaml");
    crate::apply(
        &fleet,
        &name,
        sample,
        std::path::Path::new("cluster-2.yaml"),
    )
    .unwrap();
    let check = fleet::replicas_ready(&instances, &BTreeSet::new()).unwrap();
    assert_eq!(check.verdict, Verdict::Fail);
    assert!(
        check
            .seen
            .contains("cluster-2: default/helloworld-v2 has 0 ready of 1 pods"),
        "{check:?}"
    );
}
