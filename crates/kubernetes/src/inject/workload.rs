//! Manifests of workloads, for a person who adds sidecars to a file.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{InjectError, Instance, Place, Verdict, Why, inject};

/// What became of one document of a file.
#[derive(Debug, Clone, PartialEq)]
pub enum Document {
    /// It has no pods.
    NoPods,
    /// Its pods stay as they are.
    Left(Why),
    /// Its pods have sidecars now; what its owner should know.
    Injected(Vec<String>),
}

/// Why a document cannot be worked on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{kind} {name}: {source}")]
pub struct DocumentError {
    /// Its kind.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// What about its pods.
    pub source: InjectError,
}

/// Adds sidecars to the pods of one manifest, whatever its namespace may say: whoever names a file asks for them. A pod that
/// says no, or cannot have one, stays as it is. Gives what became of each object; a `List` has several.
///
/// # Errors
/// The first object whose pods must be changed before they can have sidecars; the document may be half done then.
pub fn inject_document(
    instance: &Instance,
    document: &mut Value,
) -> Result<Vec<(String, Document)>, DocumentError> {
    if document["kind"] == "List" {
        let mut all = Vec::new();
        for item in document["items"].as_array_mut().into_iter().flatten() {
            all.extend(inject_document(instance, item)?);
        }
        return Ok(all);
    }
    let kind = document["kind"].as_str().unwrap_or("object").to_owned();
    let meta = &document["metadata"];
    let name = meta["name"].as_str().or(meta["generateName"].as_str());
    let name = name.unwrap_or("without a name").to_owned();
    let namespace = meta["namespace"].as_str().unwrap_or("default").to_owned();
    let path = match kind.as_str() {
        "Pod" => "",
        "Deployment"
        | "ReplicaSet"
        | "StatefulSet"
        | "DaemonSet"
        | "Job"
        | "ReplicationController" => "/spec/template",
        "CronJob" => "/spec/jobTemplate/spec/template",
        _ => return Ok(vec![(format!("{kind} {name}"), Document::NoPods)]),
    };
    let Some(pod) = document.pointer_mut(path) else {
        let source =
            InjectError::shape(path.trim_start_matches('/').replace('/', "."), "is missing");
        return Err(DocumentError { kind, name, source });
    };
    let instance = Instance {
        by_default: true,
        ..instance.clone()
    };
    let place = Place {
        namespace: &namespace,
        labels: &BTreeMap::new(),
    };
    let before = canonical_name(pod, &name, path.is_empty());
    let became = match inject(&instance, place, &before) {
        Ok(Verdict::Leave(why)) => Document::Left(why),
        Ok(Verdict::Inject {
            pod: after,
            warnings,
        }) => {
            *pod = after;
            Document::Injected(warnings)
        }
        Err(source) => return Err(DocumentError { kind, name, source }),
    };
    Ok(vec![(format!("{kind} {name}"), became)])
}

/// A template has no owner yet, from whose name its canonical name could come: the workload is it.
fn canonical_name(pod: &Value, workload: &str, bare: bool) -> Value {
    let mut pod = pod.clone();
    let label = "service.istio.io/canonical-name";
    let labels = &pod["metadata"]["labels"];
    let said = [label, "app.kubernetes.io/name", "app"];
    if !bare && said.iter().all(|name| labels[*name].is_null()) {
        super::entry(&mut pod, "labels", label, workload.to_owned());
    }
    pod
}
