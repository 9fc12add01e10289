//! What operations change, and what they leave alone.

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use catamaran_identity::{CaCerts, CaCertsFiles};
use catamaran_local::object::Object;
use catamaran_local::write;
use catamaran_model::{MemberMode, Namespace, Timestamp};
use catamaran_operate::{
    Job, MeshState, NetworkSetting, Verdict, apply, check, delete, delete_mesh, export_trust,
    fleet_status, inject_namespace, list_proxies, remove_cluster, renew_trust, scale, set_networks,
    show_mesh, show_trust,
};

use crate::stage::{Stage, cluster, create, mesh, quiet};

fn authority(stage: &Stage, home: &str) -> CaCerts {
    let folder = stage.fleet.dir.cluster(&cluster(home)).cacerts();
    let files = CaCertsFiles::collect(|name| std::fs::read_to_string(folder.join(name)).ok());
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap();
    CaCerts::read(&files.unwrap(), Timestamp(now.as_millis() as u64)).unwrap()
}

#[tokio::test]
async fn a_reused_root_means_an_own_intermediate_under_it() {
    let stage = Stage::pair().await;
    let [one, two] = ["cluster-1", "cluster-2"].map(|home| authority(&stage, home));
    assert_ne!(one.fingerprint(), two.fingerprint());
    let roots = |home| {
        stage
            .fleet
            .roots(&stage.fleet.cluster(&cluster(home)).unwrap())
            .unwrap()
    };
    assert_eq!(roots("cluster-1"), roots("cluster-2"));
    assert!(
        stage
            .fleet
            .dir
            .trust(&mesh("mesh-1"))
            .join("root-key.pem")
            .exists()
    );
    assert!(
        !stage.fleet.dir.trust(&mesh("mesh-2")).exists(),
        "the root stays with who made it"
    );
    // Whoever reuses mesh-2's root takes mesh-1's.
    stage.mesh("mesh-3", "cluster-3", Some("mesh-2")).await;
    assert_eq!(roots("cluster-1"), roots("cluster-3"));
}

#[tokio::test]
async fn keys_are_for_their_owner_alone() {
    let stage = Stage::pair().await;
    let mode =
        |path: std::path::PathBuf| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let trust = stage.fleet.dir.trust(&mesh("mesh-1"));
    assert_eq!(mode(trust.join("root-key.pem")), 0o600);
    assert_eq!(mode(trust), 0o700);
    let home = stage.fleet.dir.cluster(&cluster("cluster-1"));
    assert_eq!(mode(home.cacerts().join("ca-key.pem")), 0o600);
    assert_eq!(mode(home.private()), 0o700);
}

#[tokio::test]
async fn a_renewed_intermediate_is_under_the_same_root() {
    let stage = Stage::pair().await;
    let before = authority(&stage, "cluster-2");
    renew_trust(&stage.fleet, &mesh("mesh-2"), Duration::ZERO, &mut quiet())
        .await
        .unwrap();
    let after = authority(&stage, "cluster-2");
    assert_ne!(before.fingerprint(), after.fingerprint());
    assert_eq!(before.files().root_cert, after.files().root_cert);
    let shown = show_trust(&stage.fleet, Some(&mesh("mesh-2"))).unwrap();
    assert_eq!(shown[1].fingerprint, after.fingerprint().to_string());
    assert_eq!((shown[0].role, shown[1].role), ("root", "intermediate"));
    assert!((360..=366).contains(&shown[1].days), "{}", shown[1].days);
}

#[tokio::test]
async fn an_exported_authority_can_be_read_and_overwrites_nothing() {
    let stage = Stage::pair().await;
    let folder = stage.folder.path().join("cacerts");
    let written = export_trust(&stage.fleet, &mesh("mesh-1"), &folder).unwrap();
    assert_eq!(written.len(), 4);
    assert!(written.iter().all(|name| folder.join(name).is_file()));
    let files =
        CaCertsFiles::collect(|name| std::fs::read_to_string(folder.join(name)).ok()).unwrap();
    assert_eq!(
        files.ca_cert,
        authority(&stage, "cluster-1").files().ca_cert
    );
    let again = export_trust(&stage.fleet, &mesh("mesh-2"), &folder).unwrap_err();
    assert!(again.to_string().contains("not empty"), "{again}");
}

#[tokio::test]
async fn a_deleted_mesh_leaves_its_cluster_and_a_root_that_others_use() {
    let stage = Stage::pair().await;
    delete_mesh(&stage.fleet, &mesh("mesh-1"), &mut quiet()).unwrap();
    assert_eq!(
        show_mesh(&stage.fleet, &mesh("mesh-1"))
            .await
            .unwrap_err()
            .code(),
        "CTM-M101"
    );
    assert!(stage.fleet.cluster(&cluster("cluster-1")).is_ok());
    let trust = stage.fleet.dir.trust(&mesh("mesh-1"));
    assert!(trust.exists(), "mesh-2 uses it");
    stage.mesh("mesh-4", "cluster-1", Some("mesh-1")).await;
    delete_mesh(&stage.fleet, &mesh("mesh-4"), &mut quiet()).unwrap();
    delete_mesh(&stage.fleet, &mesh("mesh-2"), &mut quiet()).unwrap();
    assert!(trust.exists(), "only its maker takes it along");
    stage.mesh("mesh-3", "cluster-3", None).await;
    delete_mesh(&stage.fleet, &mesh("mesh-3"), &mut quiet()).unwrap();
    assert!(
        !stage.fleet.dir.trust(&mesh("mesh-3")).exists(),
        "nobody else used it"
    );
    let aside: Vec<_> = std::fs::read_dir(stage.fleet.dir.trust_dir())
        .unwrap()
        .filter_map(|entry| {
            let path = entry.ok()?.path();
            let name = path.file_name()?.to_str()?;
            name.starts_with("mesh-3.retired-").then_some(path)
        })
        .collect();
    assert_eq!(aside.len(), 1, "put aside once: {aside:?}");
    assert!(aside[0].join("root-key.pem").exists(), "with its key");
}

#[tokio::test]
async fn networks_and_gateways_are_written_for_both_clusters() {
    let stage = Stage::pair().await;
    stage
        .add("cluster-2", "mesh-1", MemberMode::DiscoveryOnly)
        .unwrap();
    let settings = [
        "cluster-1=network1,gateway",
        "cluster-2=network2,gateway=198.18.1.2:15443",
    ];
    let settings: Vec<NetworkSetting> = settings.iter().map(|word| word.parse().unwrap()).collect();
    set_networks(&stage.fleet, &mesh("mesh-1"), &settings, &mut quiet()).unwrap();
    let instance = stage.fleet.instance(&mesh("mesh-1")).unwrap();
    let [one, two] =
        ["cluster-1", "cluster-2"].map(|name| instance.member(&cluster(name)).unwrap().clone());
    assert!(one.gateway && one.gateway_addresses.is_empty());
    assert!(!two.gateway);
    assert_eq!(two.gateway_addresses[0].to_string(), "198.18.1.2:15443");
    assert_eq!(two.network.unwrap().as_str(), "network2");
    // Without the word the gateway goes again.
    let plain: Vec<NetworkSetting> = vec!["cluster-1=network1".parse().unwrap()];
    set_networks(&stage.fleet, &mesh("mesh-1"), &plain, &mut quiet()).unwrap();
    let instance = stage.fleet.instance(&mesh("mesh-1")).unwrap();
    assert!(!instance.member(&cluster("cluster-1")).unwrap().gateway);
    assert!(
        instance
            .member(&cluster("cluster-2"))
            .unwrap()
            .network
            .is_some()
    );
}

#[tokio::test]
async fn one_logical_network_over_two_physical_ones_is_warned_of() {
    let stage = Stage::pair().await;
    stage
        .add("cluster-2", "mesh-1", MemberMode::DiscoveryOnly)
        .unwrap();
    let settings: Vec<NetworkSetting> = ["cluster-1=one", "cluster-2=one"]
        .iter()
        .map(|word| word.parse().unwrap())
        .collect();
    let mut job = quiet();
    set_networks(&stage.fleet, &mesh("mesh-1"), &settings, &mut job).unwrap();
    let notes: Vec<&str> = job.steps()[0]
        .notes
        .iter()
        .map(|note| note.text.as_str())
        .collect();
    assert!(
        notes
            .iter()
            .any(|note| note.starts_with("! one holds cluster-1 and cluster-2")),
        "{notes:?}"
    );
}

#[tokio::test]
async fn a_removed_cluster_can_be_added_again() {
    let stage = Stage::pair().await;
    stage
        .add("cluster-2", "mesh-1", MemberMode::DiscoveryOnly)
        .unwrap();
    remove_cluster(
        &stage.fleet,
        &mesh("mesh-1"),
        &cluster("cluster-2"),
        &mut quiet(),
    )
    .unwrap();
    stage
        .add("cluster-2", "mesh-1", MemberMode::DiscoveryOnly)
        .unwrap();
}

#[tokio::test]
async fn injection_and_manifests_reach_the_managed_cluster_only() {
    let stage = Stage::pair().await;
    let other = stage.files();
    let default: Namespace = "default".parse().unwrap();
    inject_namespace(&stage.fleet, &mesh("mesh-1"), &default, true, &mut quiet()).unwrap();
    let inject = || {
        let objects = write::objects(&stage.fleet.dir.cluster(&cluster("cluster-1"))).unwrap();
        objects
            .values()
            .any(|object| matches!(&**object, Object::Namespace(ns) if ns.inject()))
    };
    assert!(inject());
    inject_namespace(&stage.fleet, &mesh("mesh-1"), &default, false, &mut quiet()).unwrap();
    assert!(!inject());
    let text = include_str!("../../../../examples/five-steps/cluster-1.yaml");
    let rows = apply(
        &stage.fleet,
        &cluster("cluster-1"),
        text,
        "cluster-1.yaml".as_ref(),
    )
    .unwrap();
    assert!(rows.iter().all(|row| row.outcome == "created"), "{rows:?}");
    let again = apply(
        &stage.fleet,
        &cluster("cluster-1"),
        text,
        "cluster-1.yaml".as_ref(),
    )
    .unwrap();
    assert!(
        again.iter().all(|row| row.outcome == "unchanged"),
        "{again:?}"
    );
    let scaled = scale(&stage.fleet, &cluster("cluster-1"), &default, "sleep", 0).unwrap();
    assert_eq!(
        (scaled.name.as_str(), scaled.outcome),
        ("sleep", "configured")
    );
    let gone = delete(
        &stage.fleet,
        &cluster("cluster-1"),
        text,
        "cluster-1.yaml".as_ref(),
    )
    .unwrap();
    assert!(gone.iter().all(|row| row.outcome == "deleted"), "{gone:?}");
    let folder = stage
        .fleet
        .dir
        .cluster(&cluster("cluster-2"))
        .path()
        .to_owned();
    let now = stage.files();
    let of = |files: &std::collections::BTreeMap<std::path::PathBuf, Vec<u8>>| {
        files
            .iter()
            .filter(|(path, _)| path.starts_with(&folder))
            .map(|(p, b)| (p.clone(), b.clone()))
            .collect::<Vec<_>>()
    };
    assert_eq!(of(&now), of(&other));
}

#[tokio::test]
async fn a_failed_creation_names_its_step_and_a_refused_one_leaves_later_steps_out() {
    let stage = Stage::pair().await;
    let error = create(&stage.fleet, "mesh-3", "cluster-3", None)
        .await
        .unwrap_err();
    assert!(!error.refused(), "the instance is there, its node is not");
    assert!(stage.fleet.instance(&mesh("mesh-3")).is_ok());
    let mut job = Job::unwatched();
    let name = cluster("cluster-1");
    catamaran_operate::create_cluster(&stage.fleet, &name, None, &mut job).unwrap_err();
    assert!(
        job.steps()[0]
            .cause
            .as_deref()
            .is_some_and(|cause| cause.contains("exists already"))
    );
}

#[tokio::test]
async fn a_fleet_in_which_nothing_runs_is_shown_with_its_reasons() {
    let stage = Stage::pair().await;
    stage
        .add("cluster-2", "mesh-1", MemberMode::DiscoveryOnly)
        .unwrap();
    let status = fleet_status(&stage.fleet).await.unwrap();
    assert_eq!(status.meshes.len(), 2);
    assert!(
        status
            .meshes
            .iter()
            .all(|mesh| mesh.state == MeshState::Stopped && !mesh.reason.is_empty())
    );
    assert_eq!(status.meshes[0].discovers, ["cluster-2"]);
    assert_eq!(status.meshes[0].roots, status.meshes[1].roots);
    assert_eq!(status.meshes[0].roots[0].len(), 64);
    assert!(
        status
            .clusters
            .iter()
            .all(|cluster| cluster.state == "stopped")
    );
    assert_eq!(status.clusters[1].managed_by.as_deref(), Some("mesh-2"));
    assert_eq!(status.clusters[1].discovered_by, ["mesh-1"]);
    assert!(list_proxies(&stage.fleet).await.unwrap().is_empty());
}

#[tokio::test]
async fn checks_tell_roots_that_differ_before_anything_else() {
    let stage = Stage::pair().await;
    stage
        .add("cluster-2", "mesh-1", MemberMode::DiscoveryOnly)
        .unwrap();
    let verdict_of = |report: &catamaran_operate::CheckReport, id: &str| {
        report
            .checks
            .iter()
            .find(|check| check.id == id)
            .unwrap()
            .verdict
    };
    let report = check(&stage.fleet).await.unwrap();
    assert_eq!(report.checks[0].id, "same-root");
    assert_eq!(verdict_of(&report, "same-root"), Verdict::Pass);
    assert_eq!(verdict_of(&report, "chains-verify"), Verdict::Pass);
    assert_eq!(verdict_of(&report, "instances-run"), Verdict::Fail);
    // As by hand: the object alone, for a cluster whose instance has another root.
    stage.mesh("mesh-3", "cluster-3", None).await;
    let text = "apiVersion: catamaran.dev/v1alpha1\nkind: Cluster\nmetadata: {name: cluster-3}\nspec: {mode: DiscoveryOnly}\n";
    apply(
        &stage.fleet,
        &cluster("cluster-1"),
        text,
        "by-hand.yaml".as_ref(),
    )
    .unwrap();
    let report = check(&stage.fleet).await.unwrap();
    let first = &report.checks[0];
    assert_eq!(first.verdict, Verdict::Fail);
    assert!(first.seen.contains("mesh-3 in cluster-3"), "{}", first.seen);
    assert!(first.fix.contains("--reuse-root mesh-1"), "{}", first.fix);
}

#[tokio::test]
async fn check_tells_stopped_clusters_and_networks_that_do_not_fit() {
    let stage = Stage::pair().await;
    let discover = MemberMode::DiscoveryOnly;
    stage.add("cluster-2", "mesh-1", discover).unwrap();
    let set = |to: &str, words: &[&str]| {
        let settings: Vec<NetworkSetting> = words.iter().map(|w| w.parse().unwrap()).collect();
        set_networks(&stage.fleet, &mesh(to), &settings, &mut quiet()).unwrap();
    };
    set("mesh-1", &["cluster-1=flat", "cluster-2=flat"]);
    set("mesh-2", &["cluster-2=network2,gateway"]);
    let report = check(&stage.fleet).await.unwrap();
    let seen = |id: &str| {
        let check = report.checks.iter().find(|check| check.id == id).unwrap();
        (check.verdict, check.seen.as_str(), check.fix.as_str())
    };
    let (verdict, words, fix) = seen("clusters-run");
    assert_eq!(verdict, Verdict::Fail);
    assert!(words.contains("cluster-2 is stopped"), "{words}");
    assert!(
        !words.contains("cluster-3"),
        "nobody's cluster may be stopped: {words}"
    );
    assert!(fix.contains("catamaran cluster start cluster-2"), "{fix}");
    assert_ne!(seen("gateways-known").0, Verdict::Fail);
    let (verdict, words, _) = seen("networks-agree");
    assert_eq!(verdict, Verdict::Warn);
    assert!(
        words.contains("flat for mesh-1, network2 for mesh-2"),
        "{words}"
    );
    let (verdict, words, _) = seen("networks-whole");
    assert_eq!(
        verdict,
        Verdict::Warn,
        "without namespaces pods do reach each other"
    );
    assert!(words.contains("cluster-1 and cluster-2"), "{words}");
    set("mesh-1", &["cluster-1=network1", "cluster-2=network2"]);
    let report = check(&stage.fleet).await.unwrap();
    for id in ["networks-agree", "networks-whole"] {
        let check = report.checks.iter().find(|check| check.id == id).unwrap();
        assert_eq!(check.verdict, Verdict::Pass, "{check:?}");
    }
}

#[tokio::test]
async fn a_cluster_whose_objects_cannot_be_read_is_a_row_and_no_end() {
    let stage = Stage::pair().await;
    let home = stage.fleet.cluster(&cluster("cluster-1")).unwrap();
    let objects = home.objects();
    std::fs::rename(&objects, objects.with_file_name("away")).unwrap();
    let status = fleet_status(&stage.fleet).await.unwrap();
    let names: Vec<&str> = status
        .meshes
        .iter()
        .map(|mesh| mesh.name.as_str())
        .collect();
    assert_eq!(names, ["mesh-2"], "the other instance is shown");
    assert_eq!(status.clusters.len(), 3, "and so is every cluster");
    let row = status.problems.iter().find(|row| row.kind == "illegible");
    let row = row.expect("a row that says so");
    assert_eq!(row.cluster.as_deref(), Some("cluster-1"));
    let report = check(&stage.fleet).await.unwrap();
    let failed = |id: &str| {
        let mut checks = report.checks.iter();
        checks.any(|check| check.id == id && check.verdict == Verdict::Fail)
    };
    assert!(failed("objects-legible"), "{report:#?}");
    let change = delete_mesh(&stage.fleet, &mesh("mesh-2"), &mut quiet());
    assert!(change.is_err(), "who changes something must see all of it");
}
