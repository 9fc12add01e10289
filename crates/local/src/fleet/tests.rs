use super::*;

fn cluster(text: &str) -> ClusterId {
    ClusterId::new(text).unwrap()
}

fn network(text: &str) -> NetworkId {
    NetworkId::new(text).unwrap()
}

#[test]
fn clusters_of_one_network_share_its_number() {
    let tmp = tempfile::tempdir().unwrap();
    let (fleet, _) = FleetDir::create(tmp.path(), Isolation::Process, "a1b2c3").unwrap();
    let make = |c: &str, n: &str| {
        let (_, made) = fleet
            .create_cluster(&cluster(c), &network(n), "uid")
            .unwrap();
        (made.index, made.network_index)
    };
    assert_eq!(make("cluster-1", "east"), (1, 1));
    assert_eq!(make("cluster-2", "west"), (2, 2));
    assert_eq!(make("cluster-3", "east"), (3, 1));
    let (_, read) = fleet.existing(&cluster("cluster-3")).unwrap();
    assert_eq!((read.index, read.network.as_str()), (3, "east"));
}

#[test]
fn what_is_wrong_is_said_with_the_next_step() {
    let tmp = tempfile::tempdir().unwrap();
    let none = FleetDir::open(tmp.path()).unwrap_err().to_string();
    assert!(none.contains("is not a fleet"), "{none}");
    let (fleet, _) = FleetDir::create(tmp.path(), Isolation::Process, "a1b2c3").unwrap();
    fleet
        .create_cluster(&cluster("one"), &network("n"), "u")
        .unwrap();

    let twice = fleet.create_cluster(&cluster("one"), &network("n"), "u");
    assert!(matches!(twice, Err(FleetError::ClusterExists(_))));
    let unknown = fleet.existing(&cluster("two")).unwrap_err().to_string();
    assert!(
        unknown.contains("two") && unknown.contains("it has: one"),
        "{unknown}"
    );
    let other = FleetDir::create(tmp.path(), Isolation::Netns, "a1b2c3").unwrap_err();
    assert!(
        other.to_string().contains("isolation process, not netns"),
        "{other}"
    );
    let long = FleetDir::create(tmp.path().join("x".repeat(100)), Isolation::Netns, "a1b2c3");
    assert!(matches!(long, Err(FleetError::TooLong { .. })));
    let name = fleet.create_cluster(&cluster(&"c".repeat(63)), &network("n"), "u");
    assert!(matches!(name, Err(FleetError::TooLong { .. })));

    fs::write(fleet.fleet_json(), "{\"id\": ").unwrap();
    let damaged = fleet.read().unwrap_err().to_string();
    assert!(damaged.contains("fleet.json is damaged"), "{damaged}");
}

#[test]
fn private_folders_are_private() {
    use std::os::unix::fs::PermissionsExt;
    let tmp = tempfile::tempdir().unwrap();
    let (fleet, _) = FleetDir::create(tmp.path(), Isolation::Process, "a1b2c3").unwrap();
    let (dir, _) = fleet
        .create_cluster(&cluster("one"), &network("n"), "u")
        .unwrap();
    for folder in [
        dir.private(),
        dir.run(),
        dir.join(),
        dir.cacerts(),
        fleet.trust_dir(),
    ] {
        let mode = fs::metadata(&folder).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o700, "{}", folder.display());
    }
}

#[test]
fn one_node_at_a_time() {
    let tmp = tempfile::tempdir().unwrap();
    let (fleet, _) = FleetDir::create(tmp.path(), Isolation::Process, "a1b2c3").unwrap();
    let (dir, _) = fleet
        .create_cluster(&cluster("one"), &network("n"), "u")
        .unwrap();
    let first = dir.try_node_lock().unwrap();
    assert!(first.is_some());
    assert!(dir.try_node_lock().unwrap().is_none());
    drop(first);
    assert!(dir.try_node_lock().unwrap().is_some());
}
