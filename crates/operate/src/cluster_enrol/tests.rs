use super::*;

fn enrol(means: Means) -> EnrolCluster {
    EnrolCluster {
        mesh: MeshName::new("mesh-1").unwrap(),
        cluster: ClusterId::new("cluster-2").unwrap(),
        home: Contact {
            files: Vec::new(),
            context: Some("one".into()),
        },
        means,
        network: NetworkId::new("network2").ok(),
        allowed: Allowed::default(),
    }
}

#[test]
fn what_would_be_written_is_told_with_its_place() {
    let remote = Contact {
        files: Vec::new(),
        context: Some("two".into()),
    };
    let all = enrolment(&enrol(Means::Reader {
        remote,
        server: None,
    }));
    let text = Placed::yaml(&all);
    assert_eq!(text.matches("# in cluster-2 (context two)").count(), 6);
    assert_eq!(
        text.matches("# in the cluster of mesh-1 (context one)")
            .count(),
        3
    );
    assert!(text.contains("network: network2") && !text.contains("token:"));
    let documents = text.split("---\n").count();
    assert_eq!(documents, all.len());
}

#[tokio::test]
async fn without_a_kubeconfig_nothing_is_done() {
    let refused = enrol_cluster(&enrol(Means::Brought("x".into())), &mut Job::unwatched()).await;
    let refused = refused.unwrap_err();
    assert_eq!(refused.code(), "CTM-K101");
    assert!(refused.fix().unwrap().contains("--kubeconfig"));
}

#[test]
fn a_life_is_told_in_hours_when_they_are_whole() {
    assert_eq!(hours(Duration::from_secs(24 * 3600)), "24 h");
    assert_eq!(hours(Duration::from_secs(3607)), "61 min");
    assert_eq!(hours(Duration::from_secs(600)), "10 min");
}
