//! Several clusters: discovery, silence, restart, other roots.

use catamaran_control_plane::State;
use catamaran_model::TrustDomain;

use crate::client::{Proxy, connect, helloworld, join, sidecar};
use crate::fleet::{Cluster, Fleet, Plane, new_root};

fn two_clusters() -> (Fleet, Cluster, Cluster) {
    let fleet = Fleet::new();
    let one = fleet.cluster("cluster-1", "mesh-1");
    let two = fleet.cluster("cluster-2", "mesh-2");
    one.service("helloworld", &[10]);
    one.service("sleep", &[1]);
    two.service("helloworld", &[10]);
    one.member("cluster-2", None);
    two.member("cluster-1", None);
    (fleet, one, two)
}

async fn sleep(fleet: &Fleet, cluster: &Cluster, plane: &Plane) -> Proxy {
    let bundle = fleet.root.bundle(&TrustDomain::default()).unwrap();
    let token = cluster.token("default/sleep", 600);
    let credentials = join(plane.address, bundle, "default/sleep", &token).await;
    let channel = connect(plane.address, &credentials).await.unwrap();
    Proxy::open(&channel, sidecar("default/sleep", "sleep-1")).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_primaries_discover_each_other_and_write_only_at_home() {
    let (fleet, one, two) = two_clusters();
    let (first, second) = (
        one.start().await.ready().await,
        two.start().await.ready().await,
    );
    let mut proxy = sleep(&fleet, &one, &first).await;
    proxy
        .until("both clusters", |held| {
            helloworld(held) == ["10.1.1.10", "10.1.2.10"]
        })
        .await;

    let told = |status: &catamaran_control_plane::Status| {
        status
            .clusters
            .iter()
            .all(|cluster| cluster.mesh.is_some() && cluster.freshness == "fresh")
    };
    let running =
        |status: &catamaran_control_plane::Status| told(status) && status.state == State::Running;
    let status = proxy
        .while_waiting(first.until("each other's words", running))
        .await;
    let names: Vec<_> = status
        .clusters
        .iter()
        .map(|cluster| (&*cluster.name, cluster.mesh.as_deref().unwrap()))
        .collect();
    assert_eq!(names, [("cluster-1", "mesh-1"), ("cluster-2", "mesh-2")]);
    assert_eq!(status.clusters[0].roots, status.clusters[1].roots);
    assert_ne!(
        status.clusters[0].intermediates,
        status.clusters[1].intermediates
    );
    assert_eq!(status.problems, [], "nothing is wrong");
    let exports = |cluster: &Cluster| {
        let folder = std::fs::read_dir(cluster.dir.objects().join("catamaran-system")).unwrap();
        let names = folder.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names
            .filter(|name| name.starts_with("meshexport"))
            .collect::<Vec<_>>()
    };
    assert_eq!(exports(&one), ["meshexport-mesh-1.yaml"]);
    assert_eq!(exports(&two), ["meshexport-mesh-2.yaml"]);

    // mesh-1's death is nothing to mesh-2, and mesh-2's changes still reach mesh-2's side.
    second.stop().await;
    two.pods("helloworld", &[11]);
    proxy
        .until("a change of cluster-2 without its control plane", |held| {
            helloworld(held) == ["10.1.1.10", "10.1.2.11"]
        })
        .await;
    first.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silence_and_restarts_take_nothing_away() {
    let (fleet, one, two) = two_clusters();
    let plane = one.start().await.ready().await;
    let mut proxy = sleep(&fleet, &one, &plane).await;
    proxy
        .until("both clusters", |held| helloworld(held).len() == 2)
        .await;

    // The other cluster's API is out of reach.
    let (folder, away) = (two.dir.path(), two.dir.path().with_extension("away"));
    std::fs::rename(folder, &away).unwrap();
    let status = plane
        .until("the loss", |status| {
            status
                .clusters
                .iter()
                .any(|cluster| cluster.freshness == "stale")
        })
        .await;
    assert!(
        status
            .problems
            .iter()
            .any(|problem| problem.kind == "discovery_lost"),
        "{:?}",
        status.problems
    );
    assert!(status.ready);
    one.pods("helloworld", &[11]);
    proxy
        .until("a change at home", |held| {
            helloworld(held) == ["10.1.1.11", "10.1.2.10"]
        })
        .await;

    // And we restart meanwhile, from the disk.
    plane.stop().await;
    let plane = one.start().await.ready().await;
    let mut fresh = sleep(&fleet, &one, &plane).await;
    fresh.ready().await;
    assert_eq!(fresh.helloworld(), ["10.1.1.11", "10.1.2.10"]);
    let status = plane.status().await;
    assert_eq!(status.clusters[1].freshness, "stale");

    std::fs::rename(&away, folder).unwrap();
    two.pods("helloworld", &[10, 12]);
    fresh
        .until("what is new there", |held| helloworld(held).len() == 3)
        .await;
    plane
        .until("fresh again", |status| {
            status
                .clusters
                .iter()
                .all(|cluster| cluster.freshness == "fresh")
        })
        .await;
    plane.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sudden_empty_world_is_held_until_a_person_confirms() {
    let (fleet, one, two) = two_clusters();
    let plane = one.start().await.ready().await;
    let mut proxy = sleep(&fleet, &one, &plane).await;
    proxy
        .until("both clusters", |held| helloworld(held).len() == 2)
        .await;
    let (folder, away) = (two.dir.path(), two.dir.path().with_extension("away"));
    std::fs::rename(folder, &away).unwrap();
    plane
        .until("the loss", |status| status.clusters[1].freshness == "stale")
        .await;
    let slice = away.join("status/EndpointSlice/default/helloworld-local.json");
    std::fs::remove_file(slice).unwrap();
    std::fs::rename(&away, folder).unwrap();

    let status = plane
        .until("the held list", |status| {
            status.clusters[1].held_since.is_some()
        })
        .await;
    assert!(
        status
            .problems
            .iter()
            .any(|problem| problem.kind == "shrink_held"),
        "{:?}",
        status.problems
    );
    assert_eq!(proxy.helloworld(), ["10.1.1.10", "10.1.2.10"]);
    let (code, body) = plane.ask("POST", "/v1/confirm?cluster=cluster-2").await;
    assert_eq!(code, 200, "{body}");
    proxy
        .until("what a person said", |held| {
            helloworld(held) == ["10.1.1.10"]
        })
        .await;
    assert_eq!(
        plane.ask("POST", "/v1/confirm?cluster=cluster-2").await.0,
        409
    );
    assert_eq!(
        plane.ask("POST", "/v1/confirm?cluster=nowhere").await.0,
        404
    );
    assert_eq!(plane.ask("POST", "/v1/confirm").await.0, 400);
    plane.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sudden_empty_world_is_believed_the_second_time() {
    let (fleet, one, two) = two_clusters();
    let plane = one.start().await.ready().await;
    let mut proxy = sleep(&fleet, &one, &plane).await;
    proxy
        .until("both clusters", |held| helloworld(held).len() == 2)
        .await;
    plane.stop().await;
    std::fs::remove_file(
        two.dir
            .path()
            .join("status/EndpointSlice/default/helloworld-local.json"),
    )
    .unwrap();
    let plane = one.start().await.ready().await;
    let mut fresh = sleep(&fleet, &one, &plane).await;
    fresh.ready().await;
    assert_eq!(fresh.helloworld(), ["10.1.1.10", "10.1.2.10"]);
    // Ten seconds, and a second list that the keeper asks for by itself.
    fresh
        .until("the second list", |held| helloworld(held) == ["10.1.1.10"])
        .await;
    plane.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_that_is_removed_is_gone_and_its_file_too() {
    let (fleet, one, _two) = two_clusters();
    let plane = one.start().await.ready().await;
    let mut proxy = sleep(&fleet, &one, &plane).await;
    proxy
        .until("both clusters", |held| helloworld(held).len() == 2)
        .await;
    let object = one
        .dir
        .objects()
        .join("catamaran-system/cluster-cluster-2.yaml");
    std::fs::remove_file(&object).unwrap();
    proxy
        .until("only ours", |held| helloworld(held) == ["10.1.1.10"])
        .await;
    let status = plane
        .until("its removal", |status| status.clusters.len() == 1)
        .await;
    assert_eq!(status.clusters[0].name, "cluster-1");
    plane.stop().await;
    assert!(!one.dir.state().join("shard-cluster-2.json").exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mesh_under_another_root_is_refused_by_name() {
    let fleet = Fleet::new();
    let one = fleet.cluster("cluster-1", "mesh-1");
    let three = fleet.cluster_under(&new_root("mesh-3"), "cluster-3", "mesh-3");
    one.service("helloworld", &[10]);
    one.service("sleep", &[1]);
    three.service("helloworld", &[10]);
    one.member("cluster-3", None);
    let theirs = three.start().await.ready().await;
    let ours = one.start().await.ready().await;
    let status = ours
        .until("the mismatch", |status| {
            status
                .problems
                .iter()
                .any(|problem| problem.kind == "root_mismatch")
        })
        .await;
    let problem = status
        .problems
        .iter()
        .find(|problem| problem.kind == "root_mismatch")
        .unwrap();
    assert!(
        problem
            .message
            .starts_with("mesh-3 in cluster-3 trusts the root"),
        "{problem:?}"
    );
    let mut proxy = sleep(&fleet, &one, &ours).await;
    proxy.ready().await;
    assert_eq!(proxy.helloworld(), ["10.1.1.10"]);
    theirs.stop().await;
    ours.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_cannot_be_written_never_stops_serving() {
    let (fleet, one, _two) = two_clusters();
    // A folder in the way of the file: no write can succeed, whoever we run as.
    std::fs::create_dir_all(one.dir.state().join("shard-cluster-1.json/x")).unwrap();
    let plane = one.start().await.ready().await;
    let mut proxy = sleep(&fleet, &one, &plane).await;
    proxy.ready().await;
    let unsaved = |status: &catamaran_control_plane::Status| {
        let mut problems = status.problems.iter();
        problems.any(|problem| problem.message.contains("cannot be kept on disk"))
    };
    let status = proxy
        .while_waiting(plane.until("the problem", unsaved))
        .await;
    assert!(status.ready);
    let (_, metrics) = plane.ask("GET", "/metrics").await;
    let failures = metrics
        .lines()
        .find(|line| line.starts_with("catamaran_save_failures_total"));
    assert!(
        failures.is_some_and(|line| !line.ends_with(" 0")),
        "{failures:?}"
    );
    one.pods("helloworld", &[11]);
    proxy
        .until("a change", |held| {
            helloworld(held) == ["10.1.1.11", "10.1.2.10"]
        })
        .await;
    assert_eq!(plane.ask("GET", "/ready").await, (200, "ready\n".into()));
    assert_eq!(plane.ask("GET", "/nothing").await.0, 404);
    assert_eq!(plane.ask("POST", "/v1/status").await.0, 405);
    plane.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_instance_is_being_created_until_it_knows_its_cluster() {
    let fleet = Fleet::new();
    let one = fleet.cluster("cluster-1", "mesh-1");
    let object = one.dir.objects().join("catamaran-system/mesh-mesh-1.yaml");
    let text = std::fs::read(&object).unwrap();
    std::fs::remove_file(&object).unwrap();
    let plane = one.start().await;
    let status = plane
        .until("the first list", |status| status.clusters.len() == 1)
        .await;
    assert_eq!(status.state, State::Creating);
    assert!(!status.ready);
    std::fs::write(&object, text).unwrap();
    let plane = plane.ready().await;
    plane
        .until("running", |status| status.state == State::Running)
        .await;

    // A cluster that was added and cannot be reached yet: updating, and ready all the same.
    one.member("cluster-2", None);
    let status = plane
        .until("updating", |status| status.state == State::Updating)
        .await;
    assert!(status.ready);
    assert_eq!(
        status.because,
        ["the first list of cluster-2 is not complete"]
    );
    plane.stop().await;
}
