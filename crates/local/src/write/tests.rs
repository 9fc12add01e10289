use catamaran_model::{ClusterId, NetworkId};

use super::*;
use crate::fleet::{FleetDir, Isolation};

const STEPS: &str = include_str!("../../../../examples/five-steps/cluster-1.yaml");

fn cluster() -> (tempfile::TempDir, ClusterDir) {
    let tmp = tempfile::tempdir().unwrap();
    let (fleet, _) = FleetDir::create(tmp.path(), Isolation::Process, "a1b2c3").unwrap();
    let network = NetworkId::new("network1").unwrap();
    let name = ClusterId::new("cluster-1").unwrap();
    let (dir, _) = fleet.create_cluster(&name, &network, "uid").unwrap();
    (tmp, dir)
}

fn keys(dir: &ClusterDir) -> Vec<String> {
    objects(dir)
        .unwrap()
        .keys()
        .map(ToString::to_string)
        .collect()
}

fn default() -> Namespace {
    Namespace::new("default").unwrap()
}

#[test]
fn a_manifest_becomes_one_file_for_each_object() {
    let (_tmp, dir) = cluster();
    let report = apply(&dir, STEPS, Path::new("cluster-1.yaml")).unwrap();
    assert!(
        report
            .objects
            .iter()
            .all(|(_, outcome)| *outcome == Outcome::Created)
    );
    assert_eq!(keys(&dir).len(), 6);
    assert!(
        dir.objects()
            .join("default/deployment-sleep.yaml")
            .is_file()
    );

    let again = apply(&dir, STEPS, Path::new("cluster-1.yaml")).unwrap();
    assert!(
        again
            .objects
            .iter()
            .all(|(_, outcome)| *outcome == Outcome::Unchanged),
        "{again:?}"
    );

    let deleted = delete_all(&dir, STEPS, Path::new("cluster-1.yaml")).unwrap();
    assert!(
        deleted
            .objects
            .iter()
            .all(|(_, outcome)| *outcome == Outcome::Deleted)
    );
    assert_eq!(keys(&dir), [""; 0]);
}

#[test]
fn an_invalid_object_keeps_the_others_from_being_written() {
    let (_tmp, dir) = cluster();
    let bad = format!(
        "{STEPS}---\napiVersion: v1\nkind: Service\nmetadata: {{name: x}}\nspec: {{ports: []}}\n"
    );
    let error = apply(&dir, &bad, Path::new("bad.yaml"))
        .unwrap_err()
        .to_string();
    let line = STEPS.lines().count() + 2;
    let expected = format!("bad.yaml:{line}: Service default/x: spec.ports is empty");
    assert!(error.starts_with(&expected), "{error}");
    assert_eq!(keys(&dir), [""; 0]);
}

#[test]
fn scaling_keeps_everything_else() {
    let (_tmp, dir) = cluster();
    let text = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web, annotations: {note: keep}}\nspec:\n  strategy: {type: Recreate}\n  selector: {matchLabels: {app: web}}\n  template: {metadata: {labels: {app: web}}, spec: {containers: [{name: web, image: curl}]}}\n";
    apply(&dir, text, Path::new("x")).unwrap();
    assert_eq!(
        scale(&dir, &default(), "web", 3).unwrap(),
        Outcome::Configured
    );
    assert_eq!(
        scale(&dir, &default(), "web", 3).unwrap(),
        Outcome::Unchanged
    );
    let written = fs::read_to_string(dir.objects().join("default/deployment-web.yaml")).unwrap();
    assert!(
        written.contains("Recreate") && written.contains("keep"),
        "{written}"
    );
    let key = ObjectKey::new(Kind::Deployment, &default(), "web");
    assert!(
        matches!(&*objects(&dir).unwrap()[&key], Object::Deployment(d) if d.spec.replicas == Some(3))
    );
    let none = scale(&dir, &default(), "nothing", 1)
        .unwrap_err()
        .to_string();
    assert!(
        none.contains("there is no Deployment default/nothing"),
        "{none}"
    );
    let much = scale(&dir, &default(), "web", 5000)
        .unwrap_err()
        .to_string();
    assert!(much.contains("more than 100"), "{much}");
}

#[test]
fn an_object_is_edited_where_a_person_put_it() {
    let (_tmp, dir) = cluster();
    let mine = dir.objects().join("mine.yaml");
    fs::write(&mine, STEPS).unwrap();
    scale(&dir, &default(), "sleep", 0).unwrap();
    assert_eq!(keys(&dir).len(), 6);
    let text = fs::read_to_string(&mine).unwrap();
    assert!(
        text.contains("replicas: 0") && text.contains("# Step 4, cluster-1"),
        "{text}"
    );
    let key = ObjectKey::new(Kind::Service, &default(), "helloworld");
    assert_eq!(delete(&dir, &key).unwrap(), Outcome::Deleted);
    assert_eq!(delete(&dir, &key).unwrap(), Outcome::NotFound);
    assert_eq!(keys(&dir).len(), 5);
}

#[test]
fn our_own_objects_come_back_as_they_were() {
    use catamaran_model::*;
    let (_tmp, dir) = cluster();
    let mesh = MeshSpec {
        name: MeshName::new("mesh-1").unwrap(),
        region: Some(Region::new("east").unwrap()),
        version: Some(Version::new("0.1.0").unwrap()),
        trust_domain: TrustDomain::new("mesh.example").unwrap(),
        domain: ClusterDomain::default(),
        mtls: MtlsMode::Permissive,
        failover: FailoverMode::LocalFirst,
    };
    let gateway = crate::object::gateway_address("198.18.1.2:15443").unwrap();
    let member = Member {
        cluster: ClusterId::new("cluster-2").unwrap(),
        mode: MemberMode::DiscoveryOnly,
        network: Some(NetworkId::new("network2").unwrap()),
        gateway: false,
        gateway_addresses: vec![gateway],
        credential: Credential::Folder("clusters/cluster-2".into()),
    };
    let export = MeshExport {
        mesh: MeshName::new("mesh-1").unwrap(),
        cluster: ClusterId::new("cluster-1").unwrap(),
        cluster_uid: "1234".into(),
        version: Version::new("0.1.0").unwrap(),
        region: None,
        network: Some(NetworkId::new("network1").unwrap()),
        gateways: vec![gateway],
        roots: vec![Fingerprint([7; 32])],
        intermediates: vec![Fingerprint([0xab; 32])],
        digest: "007".into(),
    };
    put_mesh(&dir, &mesh).unwrap();
    put_member(&dir, &member).unwrap();
    put_export(&dir, &export).unwrap();
    assert_eq!(put_export(&dir, &export).unwrap(), Outcome::Unchanged);
    let read = objects(&dir).unwrap();
    let specs: Vec<String> = read
        .values()
        .map(|object| match &**object {
            Object::Mesh(m) => {
                assert_eq!(m.spec().unwrap(), mesh);
                "mesh".into()
            }
            Object::Cluster(c) => {
                assert_eq!(c.member().unwrap(), member);
                "cluster".into()
            }
            Object::MeshExport(e) => {
                assert_eq!(e.export().unwrap(), export);
                "export".into()
            }
            other => format!("{other:?}"),
        })
        .collect();
    assert_eq!(specs, ["mesh", "cluster", "export"]);
}

#[test]
fn injection_is_switched_on_and_off() {
    let (_tmp, dir) = cluster();
    let injected = || {
        let key = ObjectKey::new(Kind::Namespace, &default(), "default");
        matches!(&*objects(&dir).unwrap()[&key], Object::Namespace(n) if n.inject())
    };
    assert_eq!(inject(&dir, &default(), true).unwrap(), Outcome::Created);
    assert!(injected());
    assert_eq!(
        inject(&dir, &default(), false).unwrap(),
        Outcome::Configured
    );
    assert!(!injected());
}
