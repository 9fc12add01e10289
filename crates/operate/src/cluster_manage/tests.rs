use catamaran_kubernetes::kubeconfig::Allowed;
use catamaran_model::ClusterId;

use super::*;
use crate::Contact;

fn context(name: &str) -> Contact {
    Contact {
        files: Vec::new(),
        context: Some(name.into()),
    }
}

fn manage(control_plane: Option<&str>) -> ManageCluster {
    ManageCluster {
        enrol: EnrolCluster {
            mesh: MeshName::new("mesh-1").unwrap(),
            cluster: ClusterId::new("cluster-3").unwrap(),
            home: context("one"),
            means: Means::Reader {
                remote: context("three"),
                server: None,
            },
            network: "network3".parse().ok(),
            allowed: Allowed::default(),
        },
        control_plane: control_plane.map(|text| text.parse().unwrap()),
        webhook_port: 15017,
        patience: None,
    }
}

#[test]
fn what_would_be_written_is_told_with_its_place() {
    let text = Placed::yaml(&management(&manage(Some("192.0.2.7:15012"))));
    assert_eq!(text.matches("# in cluster-3 (context three)").count(), 9);
    let own = "# in the cluster of mesh-1 (context one)";
    assert_eq!(text.matches(own).count(), 1);
    assert!(text.contains("mode: Managed") && text.contains("network: network3"));
    assert!(text.contains("192.0.2.7") && !text.contains("token:"));

    // Where it is reached is found out later, by a Service of its own.
    let text = Placed::yaml(&management(&manage(None)));
    assert_eq!(text.matches("# in cluster-3 (context three)").count(), 8);
    assert_eq!(text.matches(own).count(), 2);
    assert!(text.contains("catamaran-mesh-1-exposed") && !text.contains("EndpointSlice\n"));
}

#[tokio::test]
async fn without_a_kubeconfig_nothing_is_done() {
    let refused = manage_cluster(&manage(None), &mut Job::unwatched()).await;
    assert_eq!(refused.unwrap_err().code(), "CTM-K101");
}

#[test]
fn a_way_that_is_not_said_has_a_next_step() {
    let error = |gone| {
        OperateError::from(ContactError::NoWayThere {
            mesh: MeshName::new("mesh-1").unwrap(),
            cluster: ClusterId::new("cluster-3").unwrap(),
            gone,
        })
    };
    assert_eq!(error(true).code(), "CTM-K112");
    assert!(error(true).fix().unwrap().contains("--gone"));
    assert!(!error(false).fix().unwrap().contains("--gone"));
}
