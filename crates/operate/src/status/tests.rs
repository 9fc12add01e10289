use super::*;

fn cluster(name: &str, state: &'static str, managed_by: Option<&str>) -> ClusterRow {
    ClusterRow {
        name: name.into(),
        network: "network1".into(),
        state,
        managed_by: managed_by.map(str::to_owned),
        discovered_by: Vec::new(),
        ready_pods: 0,
        pods: 0,
        problems: Vec::new(),
    }
}

#[test]
fn whoever_does_not_answer_is_a_problem() {
    let mesh = MeshRow {
        name: "mesh-1".into(),
        state: MeshState::Unreachable,
        reason: "the control plane: refused".into(),
        region: None,
        version: None,
        roots: Vec::new(),
        manages: "cluster-1".into(),
        discovers: Vec::new(),
        proxies: None,
        clusters: Vec::new(),
        problems: Vec::new(),
    };
    let clusters = [
        cluster("cluster-1", "running", Some("mesh-1")),
        cluster("cluster-2", "stopped", Some("mesh-2")),
        cluster("cluster-3", "stopped", None),
    ];
    let rows = absent(&[mesh], &clusters);
    let short = |row: &ProblemRow| format!("{} {} {}", row.severity, row.kind, row.object);
    assert_eq!(
        rows.iter().map(short).collect::<Vec<_>>(),
        [
            "error unreachable Mesh mesh-1",
            "error stopped Cluster cluster-2",
            "warning stopped Cluster cluster-3"
        ]
    );
    assert!(rows[0].message.contains("refused"));
    assert!(
        rows[1]
            .message
            .contains("catamaran cluster start cluster-2")
    );
}
