//! Writing a cluster's manifests, as `apply`, `delete` and `scale` do.
//!
//! An object that is somewhere already is replaced there; a new one gets a file of its own. The text is kept as given,
//! comments included.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use catamaran_model::{Member, MeshExport, MeshSpec, Namespace};
use serde::Serialize;

use crate::atomic;
use crate::fleet::ClusterDir;
use crate::manifest::{Content, Document, Folder, FolderError, Holds, Problem, documents};
use crate::object::{
    ClusterObject, Kind, MeshExportObject, MeshObject, NamespaceObject, Object, ObjectKey, each,
    system_namespace,
};

/// Why manifests were not written. Nothing of what was asked for is done then.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// What was given cannot be used.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Invalid(Vec<Problem>),
    /// There is no such object.
    #[error("there is no {0} in this cluster; its objects are the files below its folder objects/")]
    NoSuchObject(ObjectKey),
    /// The folder of manifests cannot be read.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// The file system said no.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

fn failed(path: &Path) -> impl FnOnce(io::Error) -> WriteError + '_ {
    move |source| WriteError::Io {
        path: path.into(),
        source,
    }
}

/// What became of one object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It is new.
    Created,
    /// It is another than before.
    Configured,
    /// It was so already.
    Unchanged,
    /// It is gone.
    Deleted,
    /// It was not there.
    NotFound,
}

/// What `apply` or `delete` did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// The objects, in the order of the manifest.
    pub objects: Vec<(ObjectKey, Outcome)>,
    /// What was given and is not looked at in a local cluster.
    pub ignored: Vec<String>,
}

/// Writes every object of a manifest into the cluster, or none when one of them is invalid. `origin` is for errors.
pub fn apply(cluster: &ClusterDir, text: &str, origin: &Path) -> Result<Report, WriteError> {
    let mut editor = Editor::open(cluster)?;
    let (given, ignored) = given(text, origin)?;
    let mut report = Report {
        objects: Vec::new(),
        ignored,
    };
    for (key, document) in given {
        let body = &text[document.span];
        report.objects.push((key.clone(), editor.put(&key, body)?));
    }
    Ok(report)
}

/// Deletes every object that a manifest names.
pub fn delete_all(cluster: &ClusterDir, text: &str, origin: &Path) -> Result<Report, WriteError> {
    let mut editor = Editor::open(cluster)?;
    let (given, ignored) = given(text, origin)?;
    let mut report = Report {
        objects: Vec::new(),
        ignored,
    };
    for (key, _) in given {
        let outcome = editor.remove(&key)?;
        report.objects.push((key, outcome));
    }
    Ok(report)
}

/// Deletes one object.
pub fn delete(cluster: &ClusterDir, key: &ObjectKey) -> Result<Outcome, WriteError> {
    Editor::open(cluster)?.remove(key)
}

/// Writes one object, in the words of this room.
pub fn put(cluster: &ClusterDir, object: &Object) -> Result<Outcome, WriteError> {
    let text = manifest(object);
    let mut editor = Editor::open(cluster)?;
    let origin = Path::new("the object");
    let (given, _) = given(&text, origin)?;
    let mut outcome = Outcome::Unchanged;
    for (key, _) in given {
        outcome = editor.put(&key, &text)?;
    }
    Ok(outcome)
}

/// Writes an instance's settings.
pub fn put_mesh(cluster: &ClusterDir, mesh: &MeshSpec) -> Result<Outcome, WriteError> {
    put(cluster, &Object::Mesh(MeshObject::of(mesh)))
}

/// Writes a cluster of an instance. Its labels and annotations stay: they are people's.
pub fn put_member(cluster: &ClusterDir, member: &Member) -> Result<Outcome, WriteError> {
    let mut object = ClusterObject::of(member);
    let key = ObjectKey::new(Kind::Cluster, &system_namespace(), &object.metadata.name);
    if let Some((.., document)) = Editor::open(cluster)?.find(&key)?
        && let Content::Object(_, before) = document.content
        && let Object::Cluster(before) = &*before
    {
        object.metadata.labels.clone_from(&before.metadata.labels);
        let annotations = &before.metadata.annotations;
        object.metadata.annotations.clone_from(annotations);
    }
    put(cluster, &Object::Cluster(object))
}

/// Writes what an instance says of itself.
pub fn put_export(cluster: &ClusterDir, export: &MeshExport) -> Result<Outcome, WriteError> {
    put(cluster, &Object::MeshExport(MeshExportObject::of(export)))
}

/// Sets how many pods a Deployment wants; every other field stays.
pub fn scale(
    cluster: &ClusterDir,
    namespace: &Namespace,
    deployment: &str,
    replicas: u32,
) -> Result<Outcome, WriteError> {
    let key = ObjectKey::new(Kind::Deployment, namespace, deployment);
    edit(cluster, &key, |value| {
        value["spec"]["replicas"] = replicas.into();
    })
}

/// Switches sidecars on or off for the new pods of a namespace, which is made when it is not there.
pub fn inject(
    cluster: &ClusterDir,
    namespace: &Namespace,
    on: bool,
) -> Result<Outcome, WriteError> {
    let word = if on { "enabled" } else { "disabled" };
    let key = ObjectKey::new(Kind::Namespace, namespace, namespace.as_str());
    let edited = edit(cluster, &key, |value| {
        let labels = &mut value["metadata"]["labels"];
        if !labels.is_object() {
            *labels = serde_json::json!({});
        }
        for label in NamespaceObject::INJECTION_LABELS {
            if labels.get(label).is_some() || label == NamespaceObject::INJECTION_LABELS[1] {
                labels[label] = word.into();
            }
        }
    });
    match edited {
        Err(WriteError::NoSuchObject(_)) => {
            let mut new = NamespaceObject::default();
            new.metadata.name = namespace.to_string();
            let label = NamespaceObject::INJECTION_LABELS[1].to_owned();
            new.metadata.labels.insert(label, word.to_owned());
            put(cluster, &Object::Namespace(new))
        }
        other => other,
    }
}

/// The objects of a cluster as they are now, for people who ask.
pub fn objects(
    cluster: &ClusterDir,
) -> Result<BTreeMap<ObjectKey, std::sync::Arc<Object>>, FolderError> {
    let mut folder = Folder::new(&cluster.objects(), Holds::Manifests);
    folder.scan()?;
    Ok(folder.objects())
}

/// What the node says of the cluster, as it is now.
pub fn status(
    cluster: &ClusterDir,
) -> Result<BTreeMap<ObjectKey, std::sync::Arc<Object>>, FolderError> {
    let mut folder = Folder::new(&cluster.status(), Holds::Status);
    folder.scan()?;
    Ok(folder.objects())
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Whole<'a, T: Serialize> {
    api_version: &'static str,
    kind: &'static str,
    #[serde(flatten)]
    object: &'a T,
}

/// An object as a manifest says it, in JSON.
pub fn json(object: &Object) -> serde_json::Value {
    let (api_version, kind) = (object.kind().api_version(), object.kind().as_str());
    let value =
        each!(object, inner => serde_json::to_value(Whole { api_version, kind, object: inner }));
    value.unwrap_or_default()
}

fn manifest(object: &Object) -> String {
    yaml(&json(object))
}

fn yaml(value: &serde_json::Value) -> String {
    // JSON is YAML, should a value ever not be writable the other way.
    serde_saphyr::to_string(value).unwrap_or_else(|_| value.to_string())
}

fn edit(
    cluster: &ClusterDir,
    key: &ObjectKey,
    change: impl FnOnce(&mut serde_json::Value),
) -> Result<Outcome, WriteError> {
    let mut editor = Editor::open(cluster)?;
    let Some((path, text, document)) = editor.find(key)? else {
        return Err(WriteError::NoSuchObject(key.clone()));
    };
    let read = serde_saphyr::from_str::<serde_json::Value>(&text[document.span]);
    let mut value = read.map_err(|e| {
        let reason = e.without_snippet().to_string();
        WriteError::Invalid(vec![problem(&path, document.line, key.to_string(), reason)])
    })?;
    change(&mut value);
    let edited = yaml(&value);
    given(&edited, &path)?;
    editor.put(key, &edited)
}

fn problem(file: &Path, line: u64, object: String, reason: String) -> Problem {
    Problem {
        file: file.into(),
        line: Some(line),
        severity: catamaran_registry::Severity::Error,
        object,
        reason,
    }
}

type Given = (Vec<(ObjectKey, Document)>, Vec<String>);

fn given(text: &str, origin: &Path) -> Result<Given, WriteError> {
    let read = documents(text, Holds::Manifests)
        .map_err(|reason| WriteError::Invalid(vec![problem(origin, 1, String::new(), reason)]))?;
    let mut objects: Vec<(ObjectKey, Document)> = Vec::new();
    let (mut ignored, mut invalid) = (Vec::new(), Vec::new());
    for document in read {
        match &document.content {
            Content::Object(key, _) => {
                if objects.iter().any(|(other, _)| other == key) {
                    let reason = "it is in this manifest twice".into();
                    invalid.push(problem(origin, document.line, key.to_string(), reason));
                }
                objects.push((key.clone(), document));
            }
            Content::Ignored(what) => ignored.push(what.clone()),
            Content::Invalid(key, line, reason) => {
                invalid.push(problem(origin, *line, key.to_string(), reason.clone()));
            }
            Content::Unreadable(line, reason) => {
                invalid.push(problem(origin, *line, String::new(), reason.clone()));
            }
        }
    }
    match invalid.is_empty() {
        true => Ok((objects, ignored)),
        false => Err(WriteError::Invalid(invalid)),
    }
}

/// One writer at a time, with the folder as it is now.
struct Editor<'a> {
    cluster: &'a ClusterDir,
    folder: Folder,
    _lock: File,
}

impl<'a> Editor<'a> {
    fn open(cluster: &'a ClusterDir) -> Result<Editor<'a>, WriteError> {
        let path = cluster.run().join("objects.lock");
        let lock = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path);
        let lock = lock.map_err(failed(&path))?;
        lock.lock().map_err(failed(&path))?;
        let mut folder = Folder::new(&cluster.objects(), Holds::Manifests);
        folder.scan()?;
        Ok(Editor {
            cluster,
            folder,
            _lock: lock,
        })
    }

    /// Where the object is, also when it is invalid there: the file, its text, and the document.
    fn find(&mut self, key: &ObjectKey) -> Result<Option<(PathBuf, String, Document)>, WriteError> {
        self.folder.scan()?;
        let own = self
            .cluster
            .object(&key.namespace, key.kind.as_str(), &key.name);
        let place = self.folder.place(key).map(|(path, _)| path);
        for path in place.into_iter().chain([own]) {
            let Ok(text) = fs::read_to_string(&path) else {
                continue;
            };
            let read = documents(&text, Holds::Manifests).unwrap_or_default();
            let this = |document: &Document| match &document.content {
                Content::Object(found, _) | Content::Invalid(found, ..) => found == key,
                _ => false,
            };
            if let Some(document) = read.into_iter().find(this) {
                return Ok(Some((path, text, document)));
            }
        }
        Ok(None)
    }

    fn put(&mut self, key: &ObjectKey, body: &str) -> Result<Outcome, WriteError> {
        let body = format!("{}\n", body.trim_matches(['\n', '\r']));
        let (path, text, outcome) = match self.find(key)? {
            None => {
                let own = self
                    .cluster
                    .object(&key.namespace, key.kind.as_str(), &key.name);
                (own, body, Outcome::Created)
            }
            Some((path, text, document)) => {
                let old = text[document.span.clone()].trim_matches(['\n', '\r']);
                if old == body.trim_matches(['\n', '\r']) {
                    return Ok(Outcome::Unchanged);
                }
                let mut new = text.clone();
                let start = document.span.start;
                let inline = start > 0 && !text[..start].ends_with('\n');
                let line_end = if inline { "\n" } else { "" };
                new.replace_range(document.span, &format!("{line_end}{body}"));
                (path, new, Outcome::Configured)
            }
        };
        // Only its maker makes this folder: one that comes back with a single file in it would say that all else is gone.
        let objects = self.cluster.objects();
        fs::metadata(&objects).map_err(failed(&objects))?;
        atomic::write(&path, text.as_bytes(), mode(key.kind)).map_err(failed(&path))?;
        Ok(outcome)
    }

    fn remove(&mut self, key: &ObjectKey) -> Result<Outcome, WriteError> {
        let mut outcome = Outcome::NotFound;
        while let Some((path, text, document)) = self.find(key)? {
            let mut rest = text.clone();
            rest.replace_range(document.span, "");
            let nothing = |line: &str| {
                let line = line.trim();
                line.is_empty() || line.starts_with('#') || line == "---" || line == "..."
            };
            match rest.lines().all(nothing) {
                true => atomic::remove(&path),
                false => atomic::write(&path, rest.as_bytes(), mode(key.kind)),
            }
            .map_err(failed(&path))?;
            outcome = Outcome::Deleted;
        }
        Ok(outcome)
    }
}

fn mode(kind: Kind) -> u32 {
    match kind {
        Kind::Secret => 0o600,
        _ => 0o644,
    }
}

#[cfg(test)]
mod tests;
