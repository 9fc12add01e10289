use catamaran_model::Fingerprint;
use catamaran_wire::Message;
use catamaran_wire::own::Issuers;
use catamaran_xds::TypeUrlKind;

use crate::fixture::*;
use crate::translate;

#[test]
fn issuers_are_told_for_clusters_that_named_them() {
    let mut world = five_steps();
    let prints = vec![Fingerprint([9; 32]), Fingerprint([4; 32])];
    world.snapshot.issuers.insert(cluster("cluster-2"), prints);
    let (resources, _) = translate(&world.snapshot, &sleep("cluster-1", Some("network1")));
    assert_eq!(names_of(&resources, TypeUrlKind::Issuers), ["cluster-2"]);
    let issuers = resources.get(TypeUrlKind::Issuers, "cluster-2").unwrap();
    let issuers = Issuers::decode(issuers.bytes.clone()).unwrap();
    assert_eq!(issuers.cluster, "cluster-2");
    assert_eq!(issuers.fingerprints, [vec![4; 32], vec![9; 32]]);
}
