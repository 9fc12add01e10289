//! Which of the things that we know are to be heard as events: by the words of Kubernetes, about the object that people look at.

use std::collections::BTreeMap;
use std::time::Duration;

use catamaran_kubernetes::events::About;
use catamaran_model::{ClusterId, MeshName, Timestamp};
use catamaran_registry::{Freshness, Snapshot};

use crate::notices::{SETTLE, Trouble};
use crate::status::{Status, utc};
use crate::watches::Lent;

/// A word for what came, and one for when it is over.
pub(crate) type Reason = (&'static str, &'static str);

/// Another cluster's API cannot be read.
pub(crate) const DISCOVERY: Reason = ("DiscoveryLost", "DiscoveryRestored");
const REFUSED: Reason = ("CredentialRefused", "CredentialAccepted");
const EXPIRED: Reason = ("CredentialExpired", "CredentialRenewed");
const UNRENEWED: Reason = ("CredentialNotRenewed", "CredentialRenewed");

const UNKEPT: Reason = ("CredentialNotKept", "CredentialKept");

/// A credential that ends sooner is worth a word at once when it is not renewed; before that there is time to try again.
const NEAR: Duration = Duration::from_secs(3600);
const TRYING: Duration = Duration::from_secs(300);

/// The words for a kind of problem.
pub(crate) fn reason(kind: &str) -> Option<Reason> {
    Some(match kind {
        "port_conflict" => ("PortConflict", "PortConflictSolved"),
        "shrink_held" => ("ShrinkHeld", "ShrinkSettled"),
        "no_gateway" => ("GatewayMissing", "GatewayFound"),
        "plain_across_networks" => ("PlainAcrossNetworks", "PlainAcrossNetworksSolved"),
        "discovery_lost" => DISCOVERY,
        "duplicate_cluster" => ("DuplicateCluster", "DuplicateClusterSolved"),
        "bad_object" => ("BadObject", "BadObjectSolved"),
        "root_mismatch" => ("RootMismatch", "RootsMatch"),
        "refused" => ("ConfigurationRefused", "ConfigurationAccepted"),
        "limit" => ("LimitReached", "LimitLeft"),
        _ => return None,
    })
}

/// All that people should act on now.
pub(crate) fn troubles(
    mesh: &MeshName,
    status: &Status,
    snapshot: &Snapshot,
    lent: &BTreeMap<ClusterId, Lent>,
    now: Timestamp,
) -> Vec<Trouble> {
    let mut all = Vec::new();
    for (cluster, view) in &snapshot.clusters {
        if let Freshness::Stale { reason, .. } = &view.freshness {
            all.push(Trouble {
                about: About::Cluster(cluster.clone()),
                reason: DISCOVERY,
                subject: String::new(),
                note: format!("{reason}; what was known of it stays in use"),
                settle: SETTLE,
            });
        }
    }
    for (cluster, lent) in lent.iter() {
        let ended = lent.ends.filter(|ends| *ends <= now);
        let (reason, note, settle) = match (ended, &lent.refused, &lent.failing) {
            (Some(ends), ..) => {
                let again = "add the cluster again to make a new one";
                let note = format!("its credential ended at {}; {again}", utc(ends));
                (EXPIRED, note, SETTLE)
            }
            (None, Some(refused), _) => (REFUSED, refused.clone(), SETTLE),
            (None, None, Some(why)) => {
                let near = lent.ends.is_some_and(|ends| ends.since(now) < NEAR);
                let ends = lent.ends.map(utc).unwrap_or_default();
                let note = format!(
                    "its credential, which ends at {ends}, is not renewed: {why}; it is tried again, and `catamaran cluster \
                     add` makes a new one"
                );
                (UNRENEWED, note, if near { SETTLE } else { TRYING })
            }
            (None, None, None) => continue,
        };
        all.push(Trouble {
            about: About::Cluster(cluster.clone()),
            reason,
            subject: String::new(),
            note,
            settle,
        });
    }
    for problem in &status.problems {
        // how fresh a cluster is says more of it, and so does its credential
        let Some(reason) = reason(&problem.kind).filter(|reason| *reason != DISCOVERY) else {
            continue;
        };
        let cluster = problem
            .cluster
            .as_deref()
            .filter(|name| *name != status.cluster);
        let about = match cluster.and_then(|name| ClusterId::new(name).ok()) {
            Some(cluster) => About::Cluster(cluster),
            None => About::Mesh(mesh.clone()),
        };
        let of_whole = problem.object == format!("Cluster {}", cluster.unwrap_or_default());
        let credential = match &about {
            About::Cluster(cluster) => lent.get(cluster).is_some_and(|lent| lent.refused.is_some()),
            About::Mesh(_) => false,
        };
        if of_whole && credential && problem.kind == "bad_object" {
            continue;
        }
        all.push(Trouble {
            about,
            reason,
            subject: problem.object.clone(),
            note: match of_whole {
                true => problem.message.clone(),
                false => format!("{}: {}", problem.object, problem.message),
            },
            settle: SETTLE,
        });
    }
    all
}

/// That a renewed token is in memory only.
pub(crate) fn unkept(cluster: &ClusterId, ends: Timestamp, why: &str) -> Trouble {
    Trouble {
        about: About::Cluster(cluster.clone()),
        reason: UNKEPT,
        subject: String::new(),
        note: format!(
            "its credential is renewed and ends at {}, and is not kept: {why}; a control plane that starts after the one in the \
             Secret has ended needs another, which `catamaran cluster add` makes, with the right to keep it",
            utc(ends)
        ),
        settle: SETTLE,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(problems: serde_json::Value) -> Status {
        let status = serde_json::json!({
            "mesh": "mesh-1", "cluster": "cluster-1", "version": "1", "region": null, "state": "running",
            "because": [], "ready": true, "waiting_for": [], "snapshot": 1, "services": 0, "clusters": [], "gateways": [],
            "proxies": {"connected": 0, "current": 0, "pending": 0, "rejected": 0}, "trust": null, "problems": problems,
        });
        serde_json::from_value(status).unwrap()
    }

    fn heard(problems: serde_json::Value, lent: Lent) -> Vec<String> {
        let lent = [("cluster-2".parse().unwrap(), lent)].into();
        let mesh = "mesh-1".parse().unwrap();
        let now = Timestamp(1_000_000_000);
        let all = troubles(&mesh, &status(problems), &Snapshot::empty(), &lent, now);
        all.into_iter()
            .map(|trouble| {
                let about = match trouble.about {
                    About::Mesh(mesh) => mesh.to_string(),
                    About::Cluster(cluster) => cluster.to_string(),
                };
                format!(
                    "{about} {} {} s",
                    trouble.reason.0,
                    trouble.settle.as_secs()
                )
            })
            .collect()
    }

    #[test]
    fn a_credential_is_heard_of_when_somebody_must_act() {
        let ends = |seconds: u64| Some(Timestamp(1_000_000_000 + seconds * 1000));
        let none = || serde_json::json!([]);
        assert_eq!(
            heard(
                none(),
                Lent {
                    ends: ends(60),
                    ..Lent::default()
                }
            ),
            [""; 0]
        );
        let failing = |seconds| Lent {
            ends: ends(seconds),
            failing: Some("503".into()),
            ..Lent::default()
        };
        assert_eq!(
            heard(none(), failing(86_400)),
            ["cluster-2 CredentialNotRenewed 300 s"]
        );
        assert_eq!(
            heard(none(), failing(600)),
            ["cluster-2 CredentialNotRenewed 10 s"]
        );
        assert_eq!(
            heard(none(), failing(0)),
            ["cluster-2 CredentialExpired 10 s"]
        );
        // the same thing is not heard twice
        let refused = Lent {
            refused: Some("401".into()),
            ..Lent::default()
        };
        let problem = serde_json::json!([{
            "severity": "error", "kind": "bad_object", "cluster": "cluster-2", "object": "Cluster cluster-2", "message": "401",
        }]);
        assert_eq!(
            heard(problem, refused),
            ["cluster-2 CredentialRefused 10 s"]
        );
    }

    #[test]
    fn a_problem_is_about_what_people_look_at() {
        let problem = |kind: &str, cluster: Option<&str>, object: &str| serde_json::json!({"severity": "error", "kind": kind, "cluster": cluster, "object": object, "message": "m"});
        let problems = serde_json::json!([
            problem("refused", Some("cluster-1"), "route 5000"),
            problem("port_conflict", None, "Service a/b"),
            problem("root_mismatch", Some("cluster-2"), "Cluster cluster-2"),
            problem("discovery_lost", Some("cluster-2"), "Cluster cluster-2"),
        ]);
        assert_eq!(
            heard(problems, Lent::default()),
            [
                "mesh-1 ConfigurationRefused 10 s",
                "mesh-1 PortConflict 10 s",
                "cluster-2 RootMismatch 10 s",
            ]
        );
    }
}
