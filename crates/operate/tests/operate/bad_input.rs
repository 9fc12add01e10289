//! What is refused: by which code, with which next step, and that nothing else is touched.

use catamaran_local::fleet::Isolation;
use catamaran_model::{MemberMode, Version};
use catamaran_operate::{
    Class, CreateMesh, Fleet, Manner, NetworkSetting, OperateError, Place, apply, create_cluster,
    create_mesh, delete_mesh, inject_namespace, load, logs, proxy_config, remove_cluster,
    renew_trust, scale, set_networks, show_mesh, show_trust, start_cluster, verify, wait_started,
};

use crate::stage::{Stage, cluster, create, mesh, quiet};

use MemberMode::{DiscoveryOnly, Managed};

/// The error has this code, its words hold all of these, and it is a refusal that says what to do.
#[track_caller]
fn refused(error: &OperateError, code: &str, words: &[&str]) {
    let fix = error.fix().unwrap_or_default();
    let all = format!("{error}\n{}\n{fix}", error.facts().join("\n"));
    assert_eq!(error.code(), code, "{all}");
    for word in words {
        assert!(all.contains(word), "{word:?} is missing in: {all}");
    }
    assert!(error.refused(), "{all}");
}

fn settings(words: &[&str]) -> Vec<NetworkSetting> {
    words.iter().map(|word| word.parse().unwrap()).collect()
}

#[tokio::test]
async fn an_unknown_mesh_is_named_with_the_known_ones() {
    let stage = Stage::pair().await;
    let before = stage.files();
    let (fleet, unknown) = (&stage.fleet, mesh("mehs-1"));
    let default = "default".parse().unwrap();
    let errors = [
        show_mesh(fleet, &unknown).await.unwrap_err(),
        delete_mesh(fleet, &unknown, &mut quiet()).unwrap_err(),
        stage.add("cluster-3", "mehs-1", DiscoveryOnly).unwrap_err(),
        remove_cluster(fleet, &unknown, &cluster("cluster-1"), &mut quiet()).unwrap_err(),
        set_networks(fleet, &unknown, &settings(&["cluster-1=a"]), &mut quiet()).unwrap_err(),
        inject_namespace(fleet, &unknown, &default, true, &mut quiet()).unwrap_err(),
        renew_trust(fleet, &unknown, std::time::Duration::ZERO, &mut quiet())
            .await
            .unwrap_err(),
        show_trust(fleet, Some(&unknown)).unwrap_err(),
    ];
    for error in errors {
        refused(
            &error,
            "CTM-M101",
            &[
                "mehs-1",
                "known meshes: mesh-1",
                "did you mean \"mesh-1\"?",
                "mesh list",
            ],
        );
    }
    assert_eq!(stage.files(), before);
}

#[tokio::test]
async fn an_unknown_mesh_gives_no_root() {
    let stage = Stage::pair().await;
    let before = stage.files();
    let error = create(&stage.fleet, "mesh-3", "cluster-3", Some("mesh-9"))
        .await
        .unwrap_err();
    refused(
        &error,
        "CTM-T101",
        &[
            "there is no mesh \"mesh-9\" to take the root certificate from",
            "mesh-1 (in cluster-1, root ",
        ],
    );
    assert_eq!(stage.files(), before);
}

#[tokio::test]
async fn an_unknown_cluster_is_named_with_the_known_ones() {
    let stage = Stage::pair().await;
    let before = stage.files();
    let (fleet, unknown) = (&stage.fleet, cluster("clutser-1"));
    let place = Place::parse("clutser-1/deploy/sleep", &"default".parse().unwrap()).unwrap();
    let errors = [
        create(fleet, "mesh-3", "clutser-1", None)
            .await
            .unwrap_err(),
        stage.add("clutser-1", "mesh-1", DiscoveryOnly).unwrap_err(),
        stage.add("clutser-1", "mesh-1", Managed).unwrap_err(),
        remove_cluster(fleet, &mesh("mesh-1"), &unknown, &mut quiet()).unwrap_err(),
        set_networks(
            fleet,
            &mesh("mesh-1"),
            &settings(&["clutser-1=a"]),
            &mut quiet(),
        )
        .unwrap_err(),
        start_cluster(fleet, &unknown, &mut quiet())
            .await
            .unwrap_err(),
        apply(fleet, &unknown, "", "x.yaml".as_ref()).unwrap_err(),
        scale(fleet, &unknown, &"default".parse().unwrap(), "sleep", 1).unwrap_err(),
        logs(fleet, &place, None, 1).unwrap_err(),
        verify(fleet, &place, &load::url("a:1/").unwrap(), Manner::Count(1))
            .await
            .unwrap_err(),
    ];
    for error in errors {
        refused(
            &error,
            "CTM-C101",
            &[
                "clutser-1",
                "known clusters: cluster-1, cluster-2, cluster-3",
                "did you mean \"cluster-1\"?",
            ],
        );
    }
    assert_eq!(stage.files(), before);
}

#[tokio::test]
async fn a_cluster_id_is_there_once() {
    let stage = Stage::pair().await;
    let before = stage.files();
    let error =
        create_cluster(&stage.fleet, &cluster("cluster-1"), None, &mut quiet()).unwrap_err();
    refused(&error, "CTM-C102", &["cluster-1", "unique", "another name"]);
    assert_eq!(stage.files(), before);
}

#[tokio::test]
async fn a_mesh_name_is_there_once_and_a_cluster_has_one_instance() {
    let stage = Stage::pair().await;
    let before = stage.files();
    let twice = create(&stage.fleet, "mesh-1", "cluster-3", None)
        .await
        .unwrap_err();
    refused(&twice, "CTM-M102", &["mesh-1", "in cluster cluster-1"]);
    let taken = create(&stage.fleet, "mesh-3", "cluster-1", None)
        .await
        .unwrap_err();
    refused(&taken, "CTM-C106", &["cluster-1 is managed by mesh-1"]);
    assert_eq!(stage.files(), before);
}

#[tokio::test]
async fn a_cluster_is_added_once_and_in_one_mode() {
    let stage = Stage::pair().await;
    stage.add("cluster-2", "mesh-1", DiscoveryOnly).unwrap();
    let before = stage.files();
    let twice = stage.add("cluster-2", "mesh-1", DiscoveryOnly).unwrap_err();
    refused(
        &twice,
        "CTM-C104",
        &["cluster-2", "mesh-1", "discovery only"],
    );
    let both = stage.add("cluster-2", "mesh-1", Managed).unwrap_err();
    refused(
        &both,
        "CTM-C105",
        &[
            "it cannot be managed as well",
            "cluster remove cluster-2 --mesh mesh-1",
        ],
    );
    let own_twice = stage.add("cluster-1", "mesh-1", Managed).unwrap_err();
    refused(&own_twice, "CTM-C104", &["cluster-1", "managed"]);
    let own_both = stage.add("cluster-1", "mesh-1", DiscoveryOnly).unwrap_err();
    refused(
        &own_both,
        "CTM-C105",
        &["cluster-1", "discovers what it manages"],
    );
    assert_eq!(stage.files(), before);
}

#[tokio::test]
async fn a_local_cluster_is_managed_from_within() {
    let stage = Stage::pair().await;
    let before = stage.files();
    let managed = stage.add("cluster-2", "mesh-1", Managed).unwrap_err();
    refused(
        &managed,
        "CTM-C106",
        &["managed by mesh-2", "--discovery-only"],
    );
    let elsewhere = stage.add("cluster-3", "mesh-1", Managed).unwrap_err();
    refused(
        &elsewhere,
        "CTM-C107",
        &[
            "cluster-3",
            "mesh create NAME --cluster cluster-3 --reuse-root mesh-1",
        ],
    );
    assert_eq!(stage.files(), before);
}

#[tokio::test]
async fn a_cluster_with_another_root_is_refused_by_name() {
    let stage = Stage::pair().await;
    stage.mesh("mesh-3", "cluster-3", None).await;
    let before = stage.files();
    let error = stage.add("cluster-3", "mesh-1", DiscoveryOnly).unwrap_err();
    refused(
        &error,
        "CTM-T102",
        &[
            "mesh-3 in cluster cluster-3",
            "mesh-1 has",
            "--reuse-root mesh-1",
        ],
    );
    assert_eq!(stage.files(), before);
}

#[tokio::test]
async fn a_root_whose_key_is_another_ones_is_not_used() {
    let stage = Stage::pair().await;
    stage.mesh("mesh-3", "cluster-3", None).await;
    create_cluster(&stage.fleet, &cluster("cluster-4"), None, &mut quiet()).unwrap();
    let trust = stage.fleet.dir.trust_dir();
    let key = |mesh: &str| trust.join(mesh).join("root-key.pem");
    std::fs::copy(key("mesh-3"), key("mesh-1")).unwrap();
    let before = stage.files();
    let error = create(&stage.fleet, "mesh-4", "cluster-4", Some("mesh-1"))
        .await
        .unwrap_err();
    refused(&error, "CTM-T105", &["root of mesh-1"]);
    assert_eq!(stage.files(), before);
}

#[tokio::test]
async fn a_root_that_is_another_meshs_is_not_used() {
    let stage = Stage::pair().await;
    stage.mesh("mesh-3", "cluster-3", None).await;
    let trust = stage.fleet.dir.trust_dir();
    for file in ["root-cert.pem", "root-key.pem"] {
        std::fs::copy(
            trust.join("mesh-3").join(file),
            trust.join("mesh-1").join(file),
        )
        .unwrap();
    }
    let before = stage.files();
    let error = renew_trust(
        &stage.fleet,
        &mesh("mesh-1"),
        std::time::Duration::ZERO,
        &mut quiet(),
    )
    .await;
    refused(&error.unwrap_err(), "CTM-T105", &["mesh-3"]);
    assert_eq!(stage.files(), before);
}

#[tokio::test]
async fn a_new_mesh_does_not_take_an_old_root_unasked() {
    let stage = Stage::pair().await;
    let folder = stage.fleet.dir.trust_dir().join("mesh-3");
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("root-cert.pem"), "old").unwrap();
    let before = stage.files();
    let error = create(&stage.fleet, "mesh-3", "cluster-3", None)
        .await
        .unwrap_err();
    refused(&error, "CTM-T104", &["--reuse-root mesh-3"]);
    assert_eq!(stage.files(), before);
}

#[tokio::test]
async fn a_version_that_is_not_installed_is_refused() {
    let stage = Stage::pair().await;
    let before = stage.files();
    let create = CreateMesh {
        name: mesh("mesh-3"),
        cluster: cluster("cluster-3"),
        region: None,
        version: Some(Version::new("9.9.9").unwrap()),
        reuse_root: None,
        wait: None,
    };
    let error = create_mesh(&stage.fleet, &create, &mut quiet())
        .await
        .unwrap_err();
    refused(
        &error,
        "CTM-M103",
        &[
            "9.9.9",
            "installed versions: ",
            catamaran_operate::OUR_VERSION,
        ],
    );
    assert_eq!(stage.files(), before);
}

#[tokio::test]
async fn networks_are_set_all_or_not_at_all() {
    let stage = Stage::pair().await;
    stage.add("cluster-2", "mesh-1", DiscoveryOnly).unwrap();
    let before = stage.files();
    let set = |words: &[&str]| {
        set_networks(
            &stage.fleet,
            &mesh("mesh-1"),
            &settings(words),
            &mut quiet(),
        )
        .unwrap_err()
    };
    let not_added = set(&["cluster-1=network1,gateway", "cluster-3=network3"]);
    refused(
        &not_added,
        "CTM-C103",
        &["cluster-3 is not in mesh-1", "cluster add cluster-3"],
    );
    let elsewhere = set(&["cluster-1=network1,gateway", "cluster-2=network2,gateway"]);
    refused(
        &elsewhere,
        "CTM-N101",
        &["only discovers cluster-2", "gateway=IP:PORT"],
    );
    let twice = set(&["cluster-1=network1", "cluster-1=network2"]);
    refused(&twice, "CTM-N102", &["cluster-1", "twice"]);
    assert_eq!(twice.class(), Class::Usage);
    assert_eq!(stage.files(), before);
}

#[test]
fn a_network_that_is_none_is_refused_before_anything_is_looked_at() {
    for bad in [
        "cluster-1",
        "cluster-1=",
        "cluster-1=net work",
        "=network1",
        "cluster-1=network1,gatway",
        "cluster-1=network1,gateway=",
        "cluster-1=network1,gateway=host:15443",
        "cluster-1=network1,gateway=10.0.0.1",
        "cluster-1=network1,gateway=10.0.0.1:0",
        "cluster-1=network1,gateway=0.0.0.0:15443",
        "cluster-1=network1,gateway=224.0.0.1:15443",
    ] {
        let error = bad.parse::<NetworkSetting>().unwrap_err();
        assert_eq!(
            (error.code(), error.class()),
            ("CTM-U101", Class::Usage),
            "{bad}: {error}"
        );
    }
}

#[tokio::test]
async fn the_own_cluster_stays() {
    let stage = Stage::pair().await;
    let before = stage.files();
    let error = remove_cluster(
        &stage.fleet,
        &mesh("mesh-1"),
        &cluster("cluster-1"),
        &mut quiet(),
    );
    refused(&error.unwrap_err(), "CTM-C108", &["mesh delete mesh-1"]);
    let not_added = remove_cluster(
        &stage.fleet,
        &mesh("mesh-1"),
        &cluster("cluster-3"),
        &mut quiet(),
    );
    refused(&not_added.unwrap_err(), "CTM-C103", &["cluster-3"]);
    assert_eq!(stage.files(), before);
}

#[test]
fn a_folder_that_is_no_fleet_is_refused_and_stays_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let absent = folder.path().join("nowhere");
    let error = Fleet::open(&absent, "catamaran").unwrap_err();
    refused(&error, "CTM-F102", &["nowhere", "fleet.json", "--fleet"]);
    assert!(!absent.exists());
}

#[test]
fn a_fleet_of_the_other_isolation_is_refused() {
    let stage = Stage::empty();
    let before = stage.files();
    let path = stage.fleet.dir.path();
    let error = Fleet::open_or_create(path, Some(Isolation::Netns), "catamaran").unwrap_err();
    refused(&error, "CTM-F103", &["process", "netns"]);
    assert_eq!(stage.files(), before);
}

#[test]
fn a_folder_whose_sockets_would_have_too_long_a_path_is_refused_and_not_made() {
    let folder = tempfile::tempdir().unwrap();
    let deep = folder.path().join("a".repeat(120));
    let error = Fleet::open_or_create(&deep, Some(Isolation::Process), "catamaran").unwrap_err();
    refused(&error, "CTM-F103", &["too long"]);
    assert!(!deep.exists());
}

#[tokio::test]
async fn a_manifest_is_written_whole_or_not_at_all() {
    let stage = Stage::pair().await;
    let before = stage.files();
    let good = "apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: sleep}\n";
    for bad in [
        "apiVersion: v1\nkind: Service\nmetadata: {name: x}\nspec: {ports: [{port: 0}]}\n",
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: x}\nspec: {replicas: 1000}\n",
        "apiVersion: v1\nkind: Service\nmetadata: {name: ../../x}\n",
        "kind: [",
    ] {
        let text = format!("{good}---\n{bad}");
        let error = apply(
            &stage.fleet,
            &cluster("cluster-1"),
            &text,
            "my.yaml".as_ref(),
        )
        .unwrap_err();
        refused(&error, "CTM-O102", &["my.yaml"]);
    }
    let error = scale(
        &stage.fleet,
        &cluster("cluster-1"),
        &"default".parse().unwrap(),
        "sleep",
        1,
    );
    refused(
        &error.unwrap_err(),
        "CTM-O103",
        &["Deployment default/sleep"],
    );
    assert_eq!(stage.files(), before);
}

#[tokio::test]
async fn an_unknown_pod_or_proxy_is_named() {
    let stage = Stage::pair().await;
    let default = "default".parse().unwrap();
    let place = Place::parse("cluster-1/deploy/sleep", &default).unwrap();
    refused(
        &logs(&stage.fleet, &place, None, 1).unwrap_err(),
        "CTM-O105",
        &["deploy/sleep", "cluster-1"],
    );
    let manifest = |replicas: u32| {
        format!(
            "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: sleep}}\nspec:\n  replicas: {replicas}\n  \
             selector: {{matchLabels: {{app: sleep}}}}\n  template:\n    metadata: {{labels: {{app: sleep}}}}\n    \
             spec: {{containers: [{{name: sleep, image: sleep, command: [sleep, infinity]}}]}}\n"
        )
    };
    let at = cluster("cluster-1");
    let file = std::path::Path::new("sleep.yaml");
    let pod = Place::parse("cluster-1/sleep", &default).unwrap();
    let near = Place::parse("cluster-1/deploy/slep", &default).unwrap();
    let hour = std::time::Duration::from_secs(3600);
    apply(&stage.fleet, &at, &manifest(0), file).unwrap();
    for (place, words) in [
        (&pod, ["no pod/sleep", "did you mean deploy/sleep?"]),
        (&near, ["no deploy/slep", "did you mean deploy/sleep?"]),
        (
            &place,
            [
                "scaled to 0",
                "catamaran scale deploy/sleep --replicas 1 --cluster cluster-1",
            ],
        ),
    ] {
        let error = wait_started(&stage.fleet, place, hour).await.unwrap_err();
        refused(&error, "CTM-O105", &words);
    }
    apply(&stage.fleet, &at, &manifest(1), file).unwrap();
    let stopped = wait_started(&stage.fleet, &place, hour).await.unwrap_err();
    refused(
        &stopped,
        "CTM-O105",
        &["is stopped", "catamaran cluster start cluster-1"],
    );
    let kind = catamaran_operate::ConfigKind::Certs;
    let error = proxy_config(&stage.fleet, "sleep", kind).await.unwrap_err();
    refused(&error, "CTM-P101", &["sleep", "proxy list"]);
    for bad in [
        "cluster-1",
        "cluster-1/svc/sleep",
        "Cluster/deploy/x",
        "/deploy/x",
        "deploy/sleep",
    ] {
        assert_eq!(
            Place::parse(bad, &default).unwrap_err().class(),
            Class::Usage,
            "{bad}"
        );
    }
}
