use super::*;

fn id(name: &str) -> ClusterId {
    ClusterId::new(name).unwrap()
}

fn mesh() -> MeshName {
    MeshName::new("mesh-1").unwrap()
}

const ONE: &str = "
clusters:
- {name: c, cluster: {server: 'https://api.example.com:6443/k8s/one', tls-server-name: inner, certificate-authority-data: LS0tLS1CRUdJTiBDRVJUSUZJQ0FURS0tLS0t}}
- {name: d, cluster: {server: 'https://other.example.com', certificate-authority-data: LS0tLS1CRUdJTiBDRVJUSUZJQ0FURS0tLS0t}}
users:
- {name: u, user: {token: a.b.c}}
- {name: v, user: {token: another.persons.token}}
contexts:
- {name: x, context: {cluster: c, user: u}}
- {name: y, context: {cluster: d, user: v}}
current-context: x
";

#[test]
fn only_the_way_that_is_used_goes_along() {
    let read = Kubeconfig::read(ONE, Allowed::default()).unwrap();
    let text = kubeconfig(&id("cluster-2"), &read);
    assert!(!text.contains("another") && !text.contains("other.example"));
    let again = Kubeconfig::read(&text, Allowed::default()).unwrap();
    assert_eq!(
        (again.server, again.user, again.ca),
        (read.server, read.user, read.ca)
    );
    assert_eq!(again.name, "cluster-2");
}

#[test]
fn a_secret_says_which_cluster_it_leads_to() {
    let read = Kubeconfig::read(ONE, Allowed::default()).unwrap();
    let cluster = id("cluster-2");
    let secret = secret(&mesh(), &cluster, &read, "uid-2");
    let found = held(&secret);
    assert_eq!(found.len(), 1);
    assert_eq!(
        found[0].place,
        "catamaran-system/istio-remote-secret-cluster-2"
    );
    assert_eq!(found[0].uid.as_deref(), Some("uid-2"));
    assert!(!format!("{found:?}").contains("a.b.c"));
    let mut home = Home {
        uid: "uid-1".into(),
        meshes: Vec::new(),
        members: vec![discovered(&cluster)],
        held: found,
    };
    assert_eq!(home.uid_of(&cluster), Some("uid-2"));
    assert!(home.wrote_secret(&cluster));
    // One that is brought stays its owner's.
    home.members[0].credential = Credential::Secret("istio-system/theirs".into());
    assert!(!home.wrote_secret(&cluster));
}

#[test]
fn a_secret_without_the_label_is_not_looked_at() {
    let read = Kubeconfig::read(ONE, Allowed::default()).unwrap();
    let mut secret = secret(&mesh(), &id("cluster-2"), &read, "uid-2");
    secret["metadata"]["labels"] = json!({});
    assert!(held(&secret).is_empty());
}

#[test]
fn a_cluster_as_an_object_is_the_same_cluster() {
    let member = discovered(&id("cluster-2"));
    let object = object(&member);
    assert_eq!(object["kind"], "Cluster");
    assert_eq!(object["metadata"]["namespace"], "catamaran-system");
    assert!(object.get("status").is_none());
    let read = Cluster::deserialize(&object).unwrap();
    assert_eq!(read.spec.member("cluster-2"), Ok(member.clone()));
    // The instance's own names neither a folder nor a Secret.
    let own = Member {
        mode: MemberMode::Managed,
        credential: Credential::Folder("clusters/cluster-2".into()),
        ..member
    };
    let spec = super::object(&own)["spec"].clone();
    assert_eq!(spec, json!({"mode": "Managed", "gateway": false}));
}
