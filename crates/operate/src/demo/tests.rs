use super::*;
use crate::demo::call::upstream;

#[test]
fn a_report_holds_only_when_every_step_does() {
    let mut job = Job::unwatched();
    let mut report = Report::default();
    report.close(&job);
    assert!(!report.held, "nothing was done");
    job.plan(["a", "b"]);
    job.begin("a");
    job.end(Ok::<_, OperateError>(())).unwrap();
    report.close(&job);
    assert!(!report.held, "b was not begun");
    job.begin("b");
    job.end(Ok::<_, OperateError>(())).unwrap();
    report.close(&job);
    assert!(report.held);
    assert_eq!(report.steps.len(), 2);
}

#[test]
fn a_fleet_with_clusters_is_not_played_in() {
    let folder = tempfile::tempdir().unwrap();
    let demo = Demo {
        dir: folder.path().into(),
        isolation: Isolation::Process,
        ground: Ground::Apart,
        program: "catamaran".into(),
    };
    let mut job = Job::unwatched();
    let fleet = beforehand::two_clusters(&demo, &mut job, &mut Report::default()).unwrap();
    let grounds: Vec<String> = (fleet.clusters().unwrap().iter())
        .map(|cluster| cluster.read().unwrap().network.to_string())
        .collect();
    assert_eq!(grounds, ["vpc-1", "vpc-2"]);
    let again = beforehand::two_clusters(&demo, &mut job, &mut Report::default()).unwrap_err();
    assert!(again.to_string().contains("is a fleet already"), "{again}");
}

#[test]
fn a_call_that_crossed_a_gateway_is_told_by_the_callers_own_log() {
    let line = r#"{"direction":"outbound","authority":"helloworld:5000","upstream_host":"198.18.1.2:15443"}"#;
    assert_eq!(upstream(line).as_deref(), Some("198.18.1.2:15443"));
    let inbound = line.replace("outbound", "inbound");
    assert_eq!(upstream(&inbound), None);
    assert_eq!(upstream("2026-11-24T07:00:00Z INFO ready"), None);
}

#[test]
fn the_report_has_the_words_that_programs_read() {
    let mut report = Report::default();
    report.losses.cluster = Some(ClusterLoss {
        versions_during: [("v2".to_owned(), 3)].into(),
        ..ClusterLoss::default()
    });
    let json = serde_json::to_value(&report).unwrap();
    assert_eq!(json["held"], false);
    assert_eq!(json["losses"]["cluster"]["versions_during"]["v2"], 3);
    assert_eq!(json["losses"]["control_plane"], serde_json::Value::Null);
    assert_eq!(json["foreign_root"], serde_json::Value::Null);
}
