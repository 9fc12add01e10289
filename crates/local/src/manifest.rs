//! Reading a folder of manifests, and believing no more of it than it says.
//!
//! Silence is not a statement: while a file cannot be read or understood, the last good objects of that file stay. An object
//! goes only when its file is gone, or when the whole file was understood and no longer has it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs::{self, File, Metadata as FileMetadata};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use catamaran_model::ClusterId;
use catamaran_registry::{ProblemKind, Severity};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::object::{self, Kind, Metadata, Object, ObjectKey};

/// The largest manifest that is read, in bytes.
pub const MAX_MANIFEST_BYTES: u64 = 1 << 20;
/// The most manifests of one cluster.
pub const MAX_MANIFESTS: usize = 10_000;
/// The most documents in one manifest.
pub const MAX_DOCUMENTS: usize = 1_000;
/// How deep folders of manifests may be nested.
pub const MAX_DEPTH: usize = 8;
/// The most problems that one folder reports; the first ones, by file.
pub const MAX_PROBLEMS: usize = 200;

/// A file that was changed so shortly before it was read may change again without a newer time stamp.
const RACY: Duration = Duration::from_millis(50);

/// Something in a manifest that a person should know.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// The file, below the cluster's folder.
    pub file: PathBuf,
    /// The line in it, from 1.
    pub line: Option<u64>,
    /// How bad it is.
    pub severity: Severity,
    /// The object, `Service default/helloworld`; empty when it is not known.
    pub object: String,
    /// What is wrong.
    pub reason: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        write!(f, ": ")?;
        if !self.object.is_empty() {
            write!(f, "{}: ", self.object)?;
        }
        f.write_str(&self.reason)
    }
}

impl Problem {
    /// The same in the registry's words.
    pub fn in_cluster(&self, cluster: &ClusterId) -> catamaran_registry::Problem {
        let place = Problem {
            object: String::new(),
            ..self.clone()
        };
        catamaran_registry::Problem {
            severity: self.severity,
            kind: ProblemKind::BadObject,
            cluster: Some(cluster.clone()),
            object: match self.object.is_empty() {
                true => self.file.display().to_string(),
                false => self.object.clone(),
            },
            message: place.to_string(),
        }
    }
}

/// One document of a manifest.
#[derive(Debug, Clone)]
pub struct Document {
    /// Where its text begins and ends in the file, without the `---` before it.
    pub span: std::ops::Range<usize>,
    /// The line on which its text begins, from 1.
    pub line: u64,
    /// What it is.
    pub content: Content,
}

/// What a document turned out to be.
#[derive(Debug, Clone)]
pub enum Content {
    /// An object that can be used.
    Object(ObjectKey, Arc<Object>),
    /// An object of a kind that is not looked at: `apiVersion Kind NAME` or `apiVersion Kind NAMESPACE/NAME`.
    Ignored(String),
    /// An object that is known by name and cannot be used.
    Invalid(ObjectKey, u64, String),
    /// Something that may be any object.
    Unreadable(u64, String),
}

/// Which kinds a folder may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Holds {
    /// What people write.
    Manifests,
    /// What the node writes.
    Status,
}

impl Holds {
    fn looks_at(self, kind: Kind) -> bool {
        let status_only = matches!(kind, Kind::Pod | Kind::EndpointSlice);
        match self {
            Holds::Manifests => !status_only,
            Holds::Status => status_only || kind == Kind::Service,
        }
    }
}

/// Reads the documents of a manifest. A document that is empty or holds only comments is no document.
///
/// ```
/// use catamaran_local::manifest::{Content, Holds, documents};
/// let read = documents("apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: sleep}\n", Holds::Manifests).unwrap();
/// assert!(matches!(&read[0].content, Content::Object(key, _) if key.to_string() == "ServiceAccount default/sleep"));
/// ```
pub fn documents(text: &str, holds: Holds) -> Result<Vec<Document>, String> {
    let mut documents = Vec::new();
    for (span, line) in split(text) {
        if documents.len() == MAX_DOCUMENTS {
            return Err(format!(
                "it has more than {MAX_DOCUMENTS} documents; split it"
            ));
        }
        let content = read_document(&text[span.clone()], line, holds);
        documents.push(Document {
            span,
            line,
            content,
        });
    }
    Ok(documents)
}

/// Cuts at the lines `---` and `...`: at the start of a line they end a document wherever they stand (YAML 1.2, 9.1.2).
fn split(text: &str) -> Vec<(std::ops::Range<usize>, u64)> {
    let mut parts = Vec::new();
    let (mut start, mut start_line) = (0, 1);
    let mut at = 0;
    let marker = |line: &str| {
        let rest = line
            .strip_prefix("---")
            .or_else(|| line.strip_prefix("..."));
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\r', '\n']))
    };
    for (number, line) in (1..).zip(text.split_inclusive('\n')) {
        if marker(line) {
            parts.push((start..at, start_line));
            let inline = line[3..].trim_start().trim_start_matches('#');
            let bare = inline.is_empty() || line[3..].trim_start().starts_with('#');
            (start, start_line) = match bare || line.starts_with("...") {
                true => (at + line.len(), number + 1),
                false => (at + 3, number),
            };
        }
        at += line.len();
    }
    parts.push((start..text.len(), start_line));
    let says_something = |part: &str| {
        (part.lines()).any(|line| {
            let line = line.trim();
            !line.is_empty() && !line.starts_with('#') && !line.starts_with('%')
        })
    };
    parts.retain(|(span, _)| says_something(&text[span.clone()]));
    parts
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Header {
    #[serde(default)]
    api_version: String,
    #[serde(default)]
    kind: String,
    #[serde(default)]
    metadata: Metadata,
}

fn read_document(text: &str, line: u64, holds: Holds) -> Content {
    let header: Header = match parse(text, line) {
        Ok(header) => header,
        Err((line, reason)) => return Content::Unreadable(line, reason),
    };
    if header.kind.is_empty() || header.api_version.is_empty() {
        return Content::Unreadable(line, "apiVersion and kind are not both there".into());
    }
    if header.metadata.name.is_empty() {
        return Content::Unreadable(line, "metadata.name is missing".into());
    }
    let kind = match Kind::of(&header.api_version, &header.kind) {
        Some(kind) if holds.looks_at(kind) => kind,
        _ => {
            let namespace = header.metadata.namespace.as_ref();
            let within = namespace.map_or(String::new(), |namespace| format!("{namespace}/"));
            return Content::Ignored(format!(
                "{} {} {within}{}",
                header.api_version, header.kind, header.metadata.name
            ));
        }
    };
    let key = match object::key_of(kind, &header.metadata) {
        Ok(key) => key,
        Err(reason) => return Content::Unreadable(line, reason),
    };
    let object = match kind {
        Kind::Namespace => parse(text, line).map(Object::Namespace),
        Kind::ServiceAccount => parse(text, line).map(Object::ServiceAccount),
        Kind::Secret => parse(text, line).map(Object::Secret),
        Kind::Service => parse(text, line).map(Object::Service),
        Kind::Deployment => parse(text, line).map(Object::Deployment),
        Kind::Mesh => parse(text, line).map(Object::Mesh),
        Kind::Cluster => parse(text, line).map(Object::Cluster),
        Kind::MeshExport => parse(text, line).map(Object::MeshExport),
        Kind::Pod => parse(text, line).map(Object::Pod),
        Kind::EndpointSlice => parse(text, line).map(Object::EndpointSlice),
    };
    match object {
        Err((line, reason)) => Content::Invalid(key, line, reason),
        Ok(object) => match object.check() {
            Err(reason) => Content::Invalid(key, line, reason),
            Ok(()) => Content::Object(key, Arc::new(object)),
        },
    }
}

/// Reads YAML; an error has its line in the whole file.
fn parse<T: DeserializeOwned>(text: &str, first_line: u64) -> Result<T, (u64, String)> {
    serde_saphyr::from_str(text).map_err(|error| {
        let line = error.location().map_or(1, |at| at.line().max(1));
        let reason = error.without_snippet().to_string();
        let reason = reason.lines().next().unwrap_or_default();
        (first_line + line - 1, reason.chars().take(300).collect())
    })
}

/// What is known of one file by what the file system says of it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Stamp {
    modified: Option<SystemTime>,
    changed: (i64, i64),
    size: u64,
    inode: u64,
}

impl Stamp {
    fn of(metadata: &FileMetadata) -> Stamp {
        Stamp {
            modified: metadata.modified().ok(),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
            size: metadata.len(),
            inode: metadata.ino(),
        }
    }

    /// Whether a later change could leave the same stamp, or more of it is just being written.
    fn racy(&self) -> bool {
        let Some(at) = self.modified else { return true };
        match at.elapsed() {
            Ok(age) => age < RACY,
            // Another machine's clock: its future will not come closer by waiting.
            Err(ahead) => ahead.duration() < RACY,
        }
    }
}

#[derive(Debug, Default)]
struct FileState {
    /// `None`: it must be read again, whatever its stamp.
    stamp: Option<Stamp>,
    objects: BTreeMap<ObjectKey, (Arc<Object>, u64)>,
    problems: Vec<Problem>,
    /// It was changed while, or just before, it was read.
    racy: bool,
    /// Something in it, or all of it, could not be understood: what is not in `objects` may be in the file all the same.
    partial: bool,
}

/// Why a folder as a whole cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("{path} cannot be read: {source}; nothing in it is taken to be gone")]
pub struct FolderError {
    /// The folder.
    pub path: PathBuf,
    /// What the system said.
    pub source: io::Error,
}

/// A folder of manifests as it was last understood.
#[derive(Debug)]
pub struct Folder {
    root: PathBuf,
    /// The folder that file names in problems start from.
    named_from: PathBuf,
    holds: Holds,
    settle: bool,
    files: BTreeMap<PathBuf, FileState>,
    folder_problems: Vec<Problem>,
}

impl Folder {
    /// A folder of which nothing is known yet.
    pub fn new(root: &Path, holds: Holds) -> Folder {
        Folder {
            root: root.into(),
            named_from: root.parent().unwrap_or(root).into(),
            holds,
            settle: false,
            files: BTreeMap::new(),
            folder_problems: Vec::new(),
        }
    }

    /// The same folder for those who act on what they read: a file is believed only when it was not changed for a moment, for
    /// what an editor is just writing may be cut at a place where it still makes sense.
    pub fn settled(mut self) -> Folder {
        self.settle = true;
        self
    }

    /// Looks at every file, and reads those that changed. Says whether anything did.
    ///
    /// Fails only when the folder itself cannot be read; then nothing is forgotten.
    pub fn scan(&mut self) -> Result<bool, FolderError> {
        let failed = |path: &Path, source| FolderError {
            path: path.into(),
            source,
        };
        let real = fs::canonicalize(&self.root).map_err(|e| failed(&self.root, e))?;
        let mut found = Found::default();
        walk(&self.root, 0, &mut found).map_err(|e| failed(&self.root, e))?;

        let mut changed = false;
        let mut folder_problems = Vec::new();
        for (path, reason) in &found.problems {
            folder_problems.push(self.problem(path, None, Severity::Error, reason.clone()));
        }
        let mut files: BTreeSet<PathBuf> = std::mem::take(&mut found.files);
        while files.len() > MAX_MANIFESTS {
            let left_out = files.pop_last().expect("there are more than none");
            if files.len() == MAX_MANIFESTS {
                let reason = format!(
                    "there are more than {MAX_MANIFESTS} manifests; this and later ones are not read"
                );
                folder_problems.push(self.problem(&left_out, None, Severity::Error, reason));
            }
            found.unknown.push(left_out);
        }
        for path in &files {
            changed |= self.look_at(path, &real);
        }
        let hidden = |path: &Path| found.unknown.iter().any(|folder| path.starts_with(folder));
        let before = self.files.len();
        self.files
            .retain(|path, _| files.contains(path) || hidden(path));
        changed |= self.files.len() != before || self.folder_problems != folder_problems;
        self.folder_problems = folder_problems;
        Ok(changed)
    }

    fn look_at(&mut self, path: &Path, real_root: &Path) -> bool {
        let known = self.files.get(path).and_then(|file| file.stamp.clone());
        let opened = open(path, real_root, known.as_ref());
        let (text, stamp) = match opened {
            Opened::Same => {
                return false;
            }
            Opened::Gone => return self.files.remove(path).is_some(),
            Opened::Unusable(reason, stamp) => {
                let problem = self.problem(path, None, Severity::Error, reason);
                let file = self.files.entry(path.into()).or_default();
                file.racy = false;
                file.partial = true;
                file.stamp = stamp;
                let changed = file.problems != [problem.clone()];
                file.problems = vec![problem];
                return changed;
            }
            Opened::Text(text, stamp) => (text, stamp),
        };
        if self.settle && stamp.racy() {
            let file = self.files.entry(path.into()).or_default();
            file.stamp = None;
            file.racy = true;
            file.partial = true;
            return false;
        }
        let mut objects = BTreeMap::new();
        let mut problems = Vec::new();
        let old = self.files.remove(path).unwrap_or_default();
        let mut complete = true;
        let read = match documents(&text, self.holds) {
            Ok(read) => read,
            Err(reason) => {
                problems.push(self.problem(path, None, Severity::Error, reason));
                complete = false;
                Vec::new()
            }
        };
        if text.trim().is_empty() {
            let reason = "it is empty; if nothing is meant to be in it, remove it".to_owned();
            problems.push(self.problem(path, None, Severity::Warning, reason));
            complete = false;
        }
        for document in read {
            match document.content {
                Content::Object(key, object) => {
                    if objects.contains_key(&key) {
                        let reason = "it is in this file already; the first one counts".into();
                        problems.push(self.problem_of(path, document.line, &key, reason));
                        continue;
                    }
                    objects.insert(key, (object, document.line));
                }
                Content::Ignored(what) => {
                    let reason = format!("{what} is not looked at in a local cluster");
                    let line = Some(document.line);
                    problems.push(self.problem(path, line, Severity::Warning, reason));
                }
                Content::Invalid(key, line, reason) => {
                    let kept = old.objects.get(&key).cloned();
                    let reason = match &kept {
                        Some(_) => format!("{reason}; its last good form is kept"),
                        None => reason,
                    };
                    problems.push(self.problem_of(path, line, &key, reason));
                    match kept {
                        Some(kept) => drop(objects.entry(key).or_insert(kept)),
                        None => complete = false,
                    }
                }
                Content::Unreadable(line, reason) => {
                    problems.push(self.problem(path, Some(line), Severity::Error, reason));
                    complete = false;
                }
            }
        }
        if !complete {
            for (key, kept) in &old.objects {
                objects.entry(key.clone()).or_insert_with(|| kept.clone());
            }
        }
        let same = |a: &BTreeMap<ObjectKey, (Arc<Object>, u64)>| {
            a.len() == objects.len()
                && a.iter()
                    .zip(&objects)
                    .all(|((ka, va), (kb, vb))| ka == kb && va.0 == vb.0)
        };
        let changed = !same(&old.objects) || old.problems != problems;
        let racy = stamp.racy();
        self.files.insert(
            path.into(),
            FileState {
                stamp: Some(stamp).filter(|_| !racy),
                objects,
                problems,
                racy,
                partial: !complete,
            },
        );
        changed
    }

    /// The objects, each from one file: where two have it, the file that sorts first counts.
    pub fn objects(&self) -> BTreeMap<ObjectKey, Arc<Object>> {
        let mut all = BTreeMap::new();
        for file in self.files.values() {
            for (key, (object, _)) in &file.objects {
                all.entry(key.clone()).or_insert_with(|| object.clone());
            }
        }
        all
    }

    /// The file and line from which an object is taken.
    pub fn place(&self, key: &ObjectKey) -> Option<(&Path, u64)> {
        (self.files.iter()).find_map(|(path, file)| {
            let (_, line) = file.objects.get(key)?;
            Some((path.as_path(), *line))
        })
    }

    /// Whether a file has to be read again soon, since it may have changed while it was read.
    pub fn unsettled(&self) -> bool {
        self.files.values().any(|file| file.racy)
    }

    /// Whether everything was understood: only then does the absence of an object say that it is not there.
    pub fn complete(&self) -> bool {
        let unread = (self.folder_problems.iter()).any(|p| p.severity == Severity::Error);
        !unread && !self.files.values().any(|file| file.partial)
    }

    /// What people should know, by file and line.
    pub fn problems(&self) -> Vec<Problem> {
        let mut problems = self.folder_problems.clone();
        let mut first: BTreeMap<&ObjectKey, &Path> = BTreeMap::new();
        for (path, file) in &self.files {
            problems.extend(file.problems.iter().cloned());
            for (key, (_, line)) in &file.objects {
                let winner = *first.entry(key).or_insert(path);
                if winner != path {
                    let reason =
                        format!("it is in {} too, which counts", self.name(winner).display());
                    problems.push(self.problem_of(path, *line, key, reason));
                }
            }
        }
        problems.sort();
        problems.truncate(MAX_PROBLEMS);
        problems
    }

    fn name(&self, path: &Path) -> PathBuf {
        path.strip_prefix(&self.named_from).unwrap_or(path).into()
    }

    fn problem(
        &self,
        path: &Path,
        line: Option<u64>,
        severity: Severity,
        reason: String,
    ) -> Problem {
        Problem {
            file: self.name(path),
            line,
            severity,
            object: String::new(),
            reason,
        }
    }

    fn problem_of(&self, path: &Path, line: u64, key: &ObjectKey, reason: String) -> Problem {
        Problem {
            object: key.to_string(),
            ..self.problem(path, Some(line), Severity::Error, reason)
        }
    }
}

#[derive(Default)]
struct Found {
    files: BTreeSet<PathBuf>,
    /// Folders and files of which nothing is known now, which is no statement about them.
    unknown: Vec<PathBuf>,
    problems: Vec<(PathBuf, String)>,
}

fn walk(folder: &Path, depth: usize, found: &mut Found) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let path = entry.path();
        if entry.file_name().as_encoded_bytes().starts_with(b".") {
            continue;
        }
        let kind = match entry.file_type() {
            Ok(kind) => kind,
            Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
            Err(e) => return Err(e),
        };
        let manifest = path
            .extension()
            .is_some_and(|e| e == "yaml" || e == "yml" || e == "json");
        if kind.is_dir() {
            let below = match depth < MAX_DEPTH {
                true => walk(&path, depth + 1, found).map_err(|e| e.to_string()),
                false => Err(format!("folders are nested deeper than {MAX_DEPTH}")),
            };
            match below {
                Err(_) if !path.exists() => {}
                Err(reason) => {
                    found
                        .problems
                        .push((path.clone(), format!("{reason}; it is not read")));
                    found.unknown.push(path);
                }
                Ok(()) => {}
            }
        } else if kind.is_symlink() && path.is_dir() {
            let reason = "links to folders are not followed".to_owned();
            found.problems.push((path.clone(), reason));
            found.unknown.push(path);
        } else if manifest {
            found.files.insert(path);
        }
    }
    Ok(())
}

enum Opened {
    Same,
    Gone,
    Unusable(String, Option<Stamp>),
    Text(String, Stamp),
}

fn open(path: &Path, real_root: &Path, known: Option<&Stamp>) -> Opened {
    let unusable = |reason: String| Opened::Unusable(reason, None);
    let link = match fs::symlink_metadata(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Opened::Gone,
        Err(e) => return unusable(e.to_string()),
        // Most files, most of the time: one question instead of three.
        Ok(metadata) if metadata.is_file() && known == Some(&Stamp::of(&metadata)) => {
            return Opened::Same;
        }
        Ok(metadata) => metadata.file_type().is_symlink(),
    };
    let real = match link {
        false => path.to_owned(),
        true => match fs::canonicalize(path) {
            Ok(real) if real.starts_with(real_root) => real,
            Ok(_) => {
                return unusable(
                    "it is a link that leads out of the folder; it is not followed".into(),
                );
            }
            Err(e) => return unusable(format!("it is a link that leads nowhere: {e}")),
        },
    };
    // Without NONBLOCK a named pipe would hold the reader for ever.
    let flags = nix::fcntl::OFlag::O_NONBLOCK | nix::fcntl::OFlag::O_NOFOLLOW;
    let file = File::options()
        .read(true)
        .custom_flags(flags.bits())
        .open(&real);
    let mut file = match file {
        Err(e) if e.kind() == io::ErrorKind::NotFound && !link => return Opened::Gone,
        Err(e) => return unusable(e.to_string()),
        Ok(file) => file,
    };
    let metadata = match file.metadata() {
        Err(e) => return unusable(e.to_string()),
        Ok(metadata) if !metadata.is_file() => return unusable("it is not a file".into()),
        Ok(metadata) => metadata,
    };
    let stamp = Stamp::of(&metadata);
    if known == Some(&stamp) {
        return Opened::Same;
    }
    if metadata.len() > MAX_MANIFEST_BYTES {
        let reason = format!("it is larger than {MAX_MANIFEST_BYTES} bytes; split it");
        return Opened::Unusable(reason, Some(stamp));
    }
    let mut bytes = Vec::new();
    match file
        .by_ref()
        .take(MAX_MANIFEST_BYTES + 1)
        .read_to_end(&mut bytes)
    {
        Err(e) => return unusable(e.to_string()),
        Ok(read) if read as u64 > MAX_MANIFEST_BYTES => {
            return unusable(format!(
                "it is larger than {MAX_MANIFEST_BYTES} bytes; split it"
            ));
        }
        Ok(_) => {}
    }
    match String::from_utf8(bytes) {
        Ok(text) => Opened::Text(text, stamp),
        Err(e) => {
            let good = &e.as_bytes()[..e.utf8_error().valid_up_to()];
            let line = 1 + good.iter().filter(|b| **b == b'\n').count();
            let stamp = Some(stamp).filter(|stamp| !stamp.racy());
            Opened::Unusable(format!("line {line} is not UTF-8"), stamp)
        }
    }
}

#[cfg(test)]
mod tests;
