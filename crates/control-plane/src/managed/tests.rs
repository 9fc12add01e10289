use catamaran_kubernetes::kubeconfig::{Allowed, Kubeconfig};

use super::*;

/// A way to an API server that nobody asks.
fn access() -> Access {
    let key = rcgen::KeyPair::generate().unwrap();
    let ca = rcgen::CertificateParams::default()
        .self_signed(&key)
        .unwrap();
    let config = Kubeconfig {
        name: "c".into(),
        server: catamaran_kubernetes::kubeconfig::Server {
            host: "192.0.2.1".into(),
            port: 6443,
            path: String::new(),
            tls_name: "192.0.2.1".into(),
        },
        ca: ca.pem(),
        user: catamaran_kubernetes::kubeconfig::User::Token("t".to_owned().into()),
        proxy: None,
    };
    Access::new(&config, Allowed::default()).unwrap()
}

fn reviewer() -> Arc<Reviewer> {
    Arc::new(Reviewer::new(access(), [TOKEN_AUDIENCE.to_owned()]))
}

fn cluster(name: &str) -> ClusterId {
    ClusterId::new(name).unwrap()
}

#[tokio::test]
async fn a_token_is_checked_in_the_cluster_that_is_claimed() {
    let own = reviewer();
    let reviewers = Reviewers::new(own.clone());
    let third = reviewer();
    reviewers.put(&cluster("cluster-3"), &third);
    assert!(Arc::ptr_eq(&reviewers.own(), &own));
    assert!(Arc::ptr_eq(&reviewers.of("cluster-3").unwrap(), &third));
    for other in ["cluster-1", "cluster-4", "", "Cluster-3"] {
        assert!(reviewers.of(other).is_none(), "{other}");
    }
    reviewers.keep(&Afar::new());
    assert!(reviewers.of("cluster-3").is_none());
}

#[test]
fn what_is_not_written_is_a_problem_of_its_cluster() {
    let complaints = Complaints::default();
    assert_eq!(problems(&complaints), []);
    complaints
        .lock()
        .unwrap()
        .insert(cluster("cluster-3"), "nodes: it hangs".into());
    let said = problems(&complaints);
    assert_eq!(said[0].cluster, Some(cluster("cluster-3")));
    assert!(said[0].message.contains("nodes: it hangs"));
}
