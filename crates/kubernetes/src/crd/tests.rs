use catamaran_local::object::{ClusterObject, MeshExportObject, MeshObject};
use catamaran_model::{NetworkId, Region};
use serde_json::{Value, json};

use super::*;

fn meshes() -> Vec<MeshSpec> {
    let plain = MeshSpec {
        name: MeshName::new("mesh-1").unwrap(),
        region: None,
        version: None,
        trust_domain: Default::default(),
        domain: Default::default(),
        mtls: MtlsMode::Strict,
        failover: FailoverMode::Spread,
    };
    let full = MeshSpec {
        region: Some(Region::new("region-a").unwrap()),
        version: Some(Version::new("0.1.0").unwrap()),
        trust_domain: "example.com".parse().unwrap(),
        mtls: MtlsMode::Permissive,
        failover: FailoverMode::LocalFirst,
        ..plain.clone()
    };
    vec![plain, full]
}

fn members() -> Vec<Member> {
    let managed = Member {
        cluster: ClusterId::new("cluster-1").unwrap(),
        mode: MemberMode::Managed,
        network: Some(NetworkId::new("network1").unwrap()),
        gateway: true,
        gateway_addresses: Vec::new(),
        credential: Credential::Folder("clusters/cluster-1".into()),
    };
    let remote = Member {
        mode: MemberMode::DiscoveryOnly,
        gateway: false,
        gateway_addresses: vec![
            gateway("198.18.0.5:15443").unwrap(),
            gateway("[fd00::1]:443").unwrap(),
        ],
        credential: Credential::Secret("istio-system/istio-remote-secret-c2".into()),
        ..managed.clone()
    };
    vec![managed, remote]
}

fn exports() -> Vec<Export> {
    let full = Export {
        mesh: MeshName::new("mesh-2").unwrap(),
        cluster: ClusterId::new("cluster-2").unwrap(),
        cluster_uid: "4f2c".into(),
        version: Version::new("0.1.0").unwrap(),
        region: Some(Region::new("region-b").unwrap()),
        network: Some(NetworkId::new("network2").unwrap()),
        gateways: vec![gateway("198.18.0.6:15443").unwrap()],
        roots: vec![Fingerprint([7; 32])],
        intermediates: vec![Fingerprint([8; 32]), Fingerprint([9; 32])],
        digest: "d1".into(),
    };
    let bare = Export {
        region: None,
        network: None,
        gateways: Vec::new(),
        roots: Vec::new(),
        intermediates: Vec::new(),
        digest: String::new(),
        ..full.clone()
    };
    vec![full, bare]
}

/// Our JSON, without what the derive adds, is theirs; each reads the other's.
fn same<Ours, Theirs>(ours: &Ours, theirs: &Theirs)
where
    Ours: Serialize + serde::de::DeserializeOwned + PartialEq + std::fmt::Debug,
    Theirs: Serialize + serde::de::DeserializeOwned + PartialEq + std::fmt::Debug,
{
    let mut written = serde_json::to_value(ours).unwrap();
    let object = written.as_object_mut().unwrap();
    assert_eq!(
        object.remove("apiVersion"),
        Some(json!("catamaran.dev/v1alpha1"))
    );
    let kind = object.remove("kind").unwrap();
    assert_eq!(written, serde_json::to_value(theirs).unwrap());
    assert_eq!(
        &serde_json::from_value::<Theirs>(written.clone()).unwrap(),
        theirs
    );
    written["apiVersion"] = json!("catamaran.dev/v1alpha1");
    written["kind"] = kind;
    assert_eq!(&serde_json::from_value::<Ours>(written).unwrap(), ours);
}

#[test]
fn a_manifest_means_the_same_in_a_local_cluster() {
    for spec in meshes() {
        let (ours, theirs) = (Mesh::from(&spec), MeshObject::of(&spec));
        same(&ours, &theirs);
        assert_eq!(ours.spec.spec("mesh-1").unwrap(), spec);
        assert_eq!(theirs.spec().unwrap(), spec);
    }
    for member in members() {
        let (ours, theirs) = (Cluster::from(&member), ClusterObject::of(&member));
        same(&ours, &theirs);
        assert_eq!(ours.spec.member("cluster-1").unwrap(), member);
        assert_eq!(theirs.member().unwrap(), member);
    }
    for export in exports() {
        let (ours, theirs) = (MeshExport::from(&export), MeshExportObject::of(&export));
        same(&ours, &theirs);
        assert_eq!(ours.spec.export("mesh-2").unwrap(), export);
        assert_eq!(theirs.export().unwrap(), export);
    }
}

#[test]
fn what_a_local_cluster_refuses_is_refused_here_too() {
    let bad = [
        json!({"mode": "DiscoveryOnly", "gateway": true}),
        json!({"mode": "Managed", "folder": "a", "secret": "b"}),
        json!({"mode": "Managed", "network": "-bad-"}),
        json!({"mode": "Managed", "gatewayAddresses": ["gateway.example.com:15443"]}),
        json!({"mode": "Managed", "gatewayAddresses": ["10.0.0.1:0"]}),
    ];
    for spec in bad {
        let fields: ClusterFields = serde_json::from_value(spec.clone()).unwrap();
        assert!(fields.member("c").is_err(), "{spec}");
        let object = json!({"metadata": {"name": "c"}, "spec": spec});
        let theirs: ClusterObject = serde_json::from_value(object).unwrap();
        assert!(theirs.member().is_err(), "{spec}");
    }
}

/// Every schema is structural: each value has a type, and nothing but arrays, objects and plain values occurs.
fn structural(schema: &Value, at: &str) {
    let kind = schema["type"].as_str();
    let Some(kind) = kind else {
        // `metadata` of the root is the API server's own.
        panic!("{at} has no type: {schema}");
    };
    for word in ["anyOf", "oneOf", "allOf", "$ref", "definitions"] {
        assert!(schema.get(word).is_none(), "{at} has {word}");
    }
    match kind {
        "object" => {
            for (name, property) in schema["properties"].as_object().into_iter().flatten() {
                structural(property, &format!("{at}.{name}"));
            }
        }
        "array" => structural(&schema["items"], &format!("{at}[]")),
        _ => {}
    }
}

#[test]
fn the_definitions_can_be_installed() {
    let all = definitions();
    let names: Vec<&str> = all
        .iter()
        .map(|d| d.metadata.name.as_deref().unwrap())
        .collect();
    assert_eq!(
        names,
        [
            "meshes.catamaran.dev",
            "clusters.catamaran.dev",
            "meshexports.catamaran.dev"
        ]
    );
    for definition in &all {
        let definition = serde_json::to_value(definition).unwrap();
        assert_eq!(definition["spec"]["scope"], "Namespaced");
        let version = &definition["spec"]["versions"][0];
        assert_eq!(version["name"], "v1alpha1");
        assert_eq!(version["subresources"]["status"], json!({}));
        let schema = &version["schema"]["openAPIV3Schema"];
        structural(&schema["properties"]["spec"], "spec");
        structural(&schema["properties"]["status"], "status");
        let status = &schema["properties"]["status"]["properties"];
        assert!(
            status["phase"]["enum"]
                .as_array()
                .unwrap()
                .contains(&json!("Degraded"))
        );
        assert_eq!(
            status["conditions"]["x-kubernetes-list-map-keys"],
            json!(["type"])
        );
        // A column whose path leads nowhere would stay empty for ever.
        for column in version["additionalPrinterColumns"].as_array().unwrap() {
            let path = column["jsonPath"].as_str().unwrap();
            if path.starts_with(".metadata.") {
                continue;
            }
            let mut at = schema;
            for part in path
                .replace("[?(@.type==\"Ready\")]", ".[]")
                .split('.')
                .skip(1)
            {
                at = match part {
                    "[]" => &at["items"],
                    name => &at["properties"][name],
                };
                assert!(at.is_object(), "{path}: {part}");
            }
        }
    }
}

#[test]
fn the_yaml_is_the_definitions() {
    let text = yaml();
    let documents: Vec<Value> = text
        .split("---\n")
        .map(|document| serde_saphyr::from_str(document).unwrap())
        .collect();
    let definitions: Vec<Value> = (definitions().iter())
        .map(|definition| serde_json::to_value(definition).unwrap())
        .collect();
    assert_eq!(documents, definitions);
}
