use super::*;

/// What Helm does with the few actions that are in the chart; `cargo xtask test` needs no Helm for it.
fn render(template: &str, values: &Value) -> String {
    let (mut out, mut skipping) = (String::new(), Vec::new());
    for line in template.lines() {
        if let Some(name) = line.strip_prefix("{{- if .Values.") {
            let value = &values[name.strip_suffix(" }}").unwrap()];
            skipping.push(matches!(value, Value::Null | Value::Bool(false)) || value == "");
        } else if line == "{{- end }}" {
            skipping.pop().unwrap();
        } else if !skipping.contains(&true) {
            let mut line = line.to_owned();
            while let Some((before, rest)) = line.split_once("{{ .Values.") {
                let (name, after) = rest.split_once(" }}").unwrap();
                let value = match &values[name] {
                    Value::String(text) => text.clone(),
                    Value::Null => panic!("there is no value {name}"),
                    other => other.to_string(),
                };
                line = format!("{before}{value}{after}");
            }
            assert!(!line.contains("{{"), "{line}");
            out += &format!("{line}\n");
        }
    }
    assert!(skipping.is_empty());
    out
}

/// Everything that Helm would install, by kind and name.
fn rendered(values: &Value) -> BTreeMap<String, Value> {
    let version = Version::new("1.2.3").unwrap();
    let mut all = BTreeMap::new();
    for (path, text) in files(&version) {
        let text = match path.split_once('/') {
            Some(("crds", _)) => text,
            Some(("templates", file)) if file.ends_with(".yaml") => render(&text, values),
            _ => continue,
        };
        let manifest: Value = serde_saphyr::from_str(&text).unwrap_or(Value::Null);
        if !manifest.is_null() {
            all.insert(crate::manifest::title(&manifest), manifest);
        }
    }
    all
}

fn created(values: &Value) -> BTreeMap<String, Value> {
    let text = |name: &str| values[name].as_str().filter(|text| !text.is_empty());
    let instance = Instance {
        istio: None,
        mesh: MeshName::new(text("mesh").unwrap()).unwrap(),
        cluster: ClusterId::new(text("cluster").unwrap()).unwrap(),
        region: text("region").map(|text| Region::new(text).unwrap()),
        network: text("network").map(|text| NetworkId::new(text).unwrap()),
        version: Version::new("1.2.3").unwrap(),
        image: text("image").unwrap().into(),
        replicas: values["replicas"].as_u64().unwrap() as u32,
        makes_namespace: values["createNamespace"] == true,
    };
    let all = install::manifests(&instance).into_iter();
    let mut all: BTreeMap<String, Value> =
        (all.map(|one| (crate::manifest::title(&one), one))).collect();
    if !instance.makes_namespace {
        // Somebody else makes it.
        all.remove("Namespace catamaran-system").unwrap();
    }
    all
}

#[test]
fn the_chart_installs_what_mesh_create_does() {
    for (mesh, region, network, replicas, namespace) in [
        ("mesh-1", "region-1", "network-1", 2, true),
        ("m", "", "", 3, true),
        ("mesh-true", "true", "", 2, false),
        ("mesh-1", "", "0", 20, false),
    ] {
        let values = json!({
            "mesh": mesh, "cluster": "cluster-1.example", "region": region, "network": network,
            "image": "registry.example:5000/catamaran@sha256:0f", "replicas": replicas, "createNamespace": namespace,
        });
        let (chart, wanted) = (rendered(&values), created(&values));
        let names = |all: &BTreeMap<String, Value>| all.keys().cloned().collect::<Vec<_>>();
        assert_eq!(names(&chart), names(&wanted));
        for (name, manifest) in wanted {
            assert_eq!(chart[&name], manifest, "{name} with {values}");
        }
    }
}

#[test]
fn the_values_are_those_of_the_schema_and_the_image_is_the_versions() {
    let version = Version::new("1.2.3").unwrap();
    let files = files(&version);
    let values: Value = serde_saphyr::from_str(&files["values.yaml"]).unwrap();
    assert_eq!(values["image"], "catamaran.dev/catamaran:1.2.3");
    let schema: Value = serde_json::from_str(&files["values.schema.json"]).unwrap();
    let known = schema["properties"].as_object().unwrap();
    for name in values.as_object().unwrap().keys() {
        assert!(known.contains_key(name), "{name}");
    }
    let chart: Value = serde_saphyr::from_str(&files["Chart.yaml"]).unwrap();
    assert_eq!(
        (&chart["version"], &chart["appVersion"]),
        (&json!("1.2.3"), &json!("1.2.3"))
    );
}

#[test]
fn what_goes_into_quotes_cannot_end_them() {
    let schema = schema();
    for (_, name) in TEXTS {
        let pattern = schema["properties"][name]["pattern"].as_str().unwrap();
        assert!(pattern.starts_with('^') && pattern.ends_with('$'));
        assert!(
            !pattern.contains(['"', ' ', '{']) && !pattern.contains("\\\\"),
            "{pattern}"
        );
    }
}
