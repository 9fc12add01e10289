//! A Helm chart made from [`install::manifests`], so that it installs what `mesh create` does.
//!
//! An instance with names that stand for values is laid beside the same without region, without network and without a namespace of
//! its own: what differs is what a value decides. Nothing is written twice, so nothing can be forgotten in one place.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use catamaran_model::{ClusterId, MeshName, NetworkId, Region, SpiffeId, Version};
use serde_json::{Map, Value, json};

use crate::install::{self, Instance};

/// The chart's name.
pub const NAME: &str = "catamaran";

/// What stands in a manifest where a value of the chart goes.
const TEXTS: [(&str, &str); 5] = [
    ("xmeshx", "mesh"),
    ("xclusterx", "cluster"),
    ("xregionx", "region"),
    ("xnetworkx", "network"),
    ("ximagex", "image"),
];
const REPLICAS: u32 = 7919;
/// Values without which something is left out.
const CONDITIONS: [&str; 3] = ["region", "network", "createNamespace"];

/// The files of the chart of this version: path within the chart's folder, and text.
pub fn files(version: &Version) -> BTreeMap<String, String> {
    let full = all(version, |_| {});
    let without = [
        all(version, |instance| instance.region = None),
        all(version, |instance| instance.network = None),
        all(version, |instance| instance.makes_namespace = false),
    ];
    let mut files = BTreeMap::new();
    for (n, manifest) in full.iter().enumerate() {
        let kind = manifest["kind"].as_str().unwrap_or_default();
        if kind == "CustomResourceDefinition" {
            let name = manifest["spec"]["names"]["plural"].as_str();
            let path = format!("crds/{}.yaml", name.unwrap_or_default());
            let text = serde_saphyr::to_string(manifest).expect("a definition is plain data");
            files.insert(path, text);
            continue;
        }
        let variants: Vec<(&str, &Value)> = (CONDITIONS.iter().zip(&without))
            .map(|(condition, all)| (*condition, &all[n]))
            .collect();
        let mut lines = Vec::new();
        block(manifest, &variants, &mut lines);
        let mut text = lines.join("\n") + "\n";
        if kind == "Namespace" {
            text = format!("{{{{- if .Values.createNamespace }}}}\n{text}{{{{- end }}}}\n");
        }
        files.insert(format!("templates/{}.yaml", kind.to_lowercase()), text);
    }
    files.insert("Chart.yaml".into(), about(version));
    files.insert("values.yaml".into(), values(version));
    let schema = serde_json::to_string_pretty(&schema()).expect("a schema is plain data");
    files.insert("values.schema.json".into(), schema + "\n");
    files.insert("templates/NOTES.txt".into(), NOTES.into());
    files
}

fn all(version: &Version, change: impl FnOnce(&mut Instance)) -> Vec<Value> {
    let name = "these are names";
    let mut instance = Instance {
        mesh: MeshName::new("xmeshx").expect(name),
        cluster: ClusterId::new("xclusterx").expect(name),
        region: Some(Region::new("xregionx").expect(name)),
        network: Some(NetworkId::new("xnetworkx").expect(name)),
        version: version.clone(),
        image: "ximagex".into(),
        // Who takes over what an Istio has left does it with the command.
        istio: None,
        replicas: REPLICAS,
        makes_namespace: true,
    };
    change(&mut instance);
    install::manifests(&instance)
}

/// One value in YAML's block style. A variant says what stands there without the value it is named for.
fn block(value: &Value, variants: &[(&str, &Value)], lines: &mut Vec<String>) {
    match value {
        Value::Object(map) if !map.is_empty() => object(map, variants, lines),
        Value::Array(items) if !items.is_empty() => {
            for (n, item) in items.iter().enumerate() {
                // Lists are the same in every variant but for what is inside their items.
                let inside: Vec<(&str, &Value)> = (variants.iter())
                    .map(|(condition, variant)| (*condition, &variant[n]))
                    .collect();
                let mut under = Vec::new();
                block(item, &inside, &mut under);
                let first = under.first().cloned().unwrap_or_default();
                lines.push(format!("- {first}"));
                lines.extend(under.into_iter().skip(1).map(|line| deeper(&line)));
            }
        }
        scalar => lines.push(text(scalar)),
    }
}

fn object(map: &Map<String, Value>, variants: &[(&str, &Value)], lines: &mut Vec<String>) {
    for (key, value) in map {
        let lacks = |(_, variant): &&(&str, &Value)| variant.get(key).is_none();
        let condition = variants.iter().find(lacks).map(|(condition, _)| *condition);
        let inside: Vec<(&str, &Value)> = (variants.iter())
            .filter_map(|(condition, variant)| Some((*condition, variant.get(key)?)))
            .collect();
        if let Some(condition) = condition {
            lines.push(format!("{{{{- if .Values.{condition} }}}}"));
        }
        let mut under = Vec::new();
        block(value, &inside, &mut under);
        let key = text(&Value::String(key.clone()));
        let nested = value.as_object().is_some_and(|map| !map.is_empty())
            || value.as_array().is_some_and(|list| !list.is_empty());
        match nested {
            false => lines.push(format!("{key}: {}", under.join(""))),
            true => {
                lines.push(format!("{key}:"));
                lines.extend(under.iter().map(|line| deeper(line)));
            }
        }
        if condition.is_some() {
            lines.push("{{- end }}".into());
        }
    }
}

/// Actions stand at the beginning of their line, wherever they are.
fn deeper(line: &str) -> String {
    match line.starts_with("{{-") {
        true => line.to_owned(),
        false => format!("  {line}"),
    }
}

/// A scalar: JSON, which YAML understands, with the chart's values in it. Plain words go without quotes.
fn text(value: &Value) -> String {
    if *value == json!(REPLICAS) {
        return "{{ .Values.replicas }}".into();
    }
    let Value::String(said) = value else {
        return value.to_string();
    };
    let plain = said.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/')
        && (said.chars()).all(|c| c.is_ascii_alphanumeric() || "-_./".contains(c))
        && !["true", "false", "null", "yes", "no", "on", "off", "y", "n"]
            .contains(&said.to_ascii_lowercase().as_str());
    let mut shown = value.to_string();
    let mut stands = false;
    for (mark, name) in TEXTS {
        if shown.contains(mark) {
            stands = true;
            shown = shown.replace(mark, &format!("{{{{ .Values.{name} }}}}"));
        }
    }
    match plain && !stands {
        true => said.clone(),
        false => shown,
    }
}

fn about(version: &Version) -> String {
    format!(
        "apiVersion: v2\nname: {NAME}\ndescription: An instance of the service mesh Catamaran, one to a cluster.\ntype: application\n\
         version: {version}\nappVersion: \"{version}\"\n"
    )
}

fn values(version: &Version) -> String {
    let mut text = String::new();
    let image = install::image(version);
    let _ = write!(
        text,
        "\
# The instance's name, as other instances and proxies call it.
mesh: \"\"
# The cluster's name in the mesh: the same for every instance that knows it.
cluster: \"\"
# The region that the instance stands in.
region: \"\"
# The cluster's network; empty when all clusters are in one.
network: \"\"
# The image with our program: control planes, and the sidecars of new pods.
image: \"{image}\"
# Control planes.
replicas: {}
# Whether the chart makes the namespace {} too. Then `helm uninstall` takes it away with all that is in it, and nothing else may
# make it: not --create-namespace, not whoever brings the authority.
createNamespace: false
",
        install::REPLICAS,
        SpiffeId::SYSTEM_NAMESPACE,
    );
    text
}

/// What names are here and on the command line, so that Helm refuses what would be refused later.
fn schema() -> Value {
    let label = "[a-z0-9]([-a-z0-9]*[a-z0-9])?";
    let value = "([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?";
    json!({
        "$schema": "http://json-schema.org/draft-07/schema#",
        "type": "object",
        "required": ["mesh", "cluster", "image", "replicas"],
        "additionalProperties": false,
        "properties": {
            "mesh": {"type": "string", "pattern": format!("^{label}$"), "maxLength": 63},
            "cluster": {"type": "string", "pattern": format!("^{label}(\\.{label})*$"), "maxLength": 253},
            "region": {"type": "string", "pattern": format!("^{value}$"), "maxLength": 63},
            "network": {"type": "string", "pattern": format!("^{value}$"), "maxLength": 63},
            "image": {"type": "string", "pattern": "^[-A-Za-z0-9_.:/@]+$"},
            "replicas": {"type": "integer", "minimum": 2, "maximum": 20},
            "createNamespace": {"type": "boolean"},
            // Helm's own, for charts that have this one in them.
            "global": {"type": "object"},
        },
    })
}

const NOTES: &str = "\
The control planes of {{ .Values.mesh }} start when the Secret cacerts is there. It holds the intermediate that they sign with, and no
chart can make it, for the root's key is in no cluster. On the machine with the root:

  catamaran trust issue {{ .Values.mesh }} --cluster {{ .Values.cluster }} --context CONTEXT

or with --to FOLDER for a repository. `--reuse-root MESH` takes the root of another instance: instances that are to work together
have one root.
";

#[cfg(test)]
mod tests;
