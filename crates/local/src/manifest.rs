//! Reading a folder of manifests, and believing no more of it than it says.
//!
//! Silence is not a statement: while a file cannot be read or understood, the last good objects of that file stay. An object
//! goes only when its file is gone, or when the whole file was understood and no longer has it.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fmt;
use std::fs::{self, File, Metadata as FileMetadata};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Component, Path, PathBuf};
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
    // JSON is YAML. What programs write is JSON, whose head is found at once, so that YAML's reader, who has the last word,
    // need not read all of it twice.
    if let Ok(header) = serde_json::from_str::<Header>(text)
        && let object @ Content::Object(..) = read_object(header, text, line, holds)
    {
        return object;
    }
    match parse(text, line) {
        Ok(header) => read_object(header, text, line, holds),
        Err((line, reason)) => Content::Unreadable(line, reason),
    }
}

fn read_object(header: Header, text: &str, line: u64, holds: Holds) -> Content {
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

/// A file below the folder: its path's parts with a zero byte between them, so that names sort as paths do, part by part, and
/// cost one comparison of bytes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Name(Arc<[u8]>);

impl Name {
    fn of(parts: &[u8]) -> Name {
        Name(Arc::from(parts))
    }

    /// `None` for a path that is not below `root`, or is not plain.
    fn below(root: &Path, path: &Path) -> Option<Name> {
        let mut parts = Vec::new();
        for part in path.strip_prefix(root).ok()?.components() {
            let Component::Normal(part) = part else {
                return None;
            };
            push_part(&mut parts, part.as_bytes());
        }
        (!parts.is_empty()).then(|| Name::of(&parts))
    }

    fn parts(&self) -> impl Iterator<Item = &OsStr> {
        self.0.split(|byte| *byte == 0).map(OsStr::from_bytes)
    }

    fn path(&self, root: &Path) -> PathBuf {
        let mut path = root.to_owned();
        path.extend(self.parts());
        path
    }

    fn is_or_is_below(&self, other: &Name) -> bool {
        let rest = self.0.strip_prefix(&*other.0);
        rest.is_some_and(|rest| rest.is_empty() || rest[0] == 0)
    }
}

fn push_part(parts: &mut Vec<u8>, part: &[u8]) {
    if !parts.is_empty() {
        parts.push(0);
    }
    parts.extend(part);
}

/// Whether a file of this name is read.
pub(crate) fn is_manifest(name: &OsStr) -> bool {
    let extension = Path::new(name).extension();
    extension.is_some_and(|e| e == "yaml" || e == "yml" || e == "json")
}

/// Names that begin with a dot are skipped, of files and of folders.
pub(crate) fn is_hidden(name: &OsStr) -> bool {
    name.as_bytes().starts_with(b".")
}

#[derive(Debug, Default, PartialEq)]
struct FileState {
    /// `None`: it must be read again, whatever its stamp.
    stamp: Option<Stamp>,
    objects: BTreeMap<ObjectKey, (Arc<Object>, u64)>,
    problems: Vec<Problem>,
    /// It was changed while, or just before, it was read.
    racy: bool,
    /// What was understood of a racy file, so that the second look need not understand the same again.
    text: Option<String>,
    /// Something in it, or all of it, could not be understood: what is not in `objects` may be in the file all the same.
    partial: bool,
    /// It is a link, so it may change when another file does.
    link: bool,
}

/// What a look found to say something else than before.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Touched {
    /// Objects that are there, are not there any more, are another, or stand in another place.
    pub keys: BTreeSet<ObjectKey>,
    /// Whether [`Folder::problems`] may be others.
    pub problems: bool,
    /// Only a look at every file can tell what there is now.
    pub unclear: bool,
}

impl Touched {
    /// Whether nothing says anything else.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty() && !self.problems
    }

    /// Takes up what another look found.
    pub fn append(&mut self, mut other: Touched) {
        self.keys.append(&mut other.keys);
        self.problems |= other.problems;
        self.unclear |= other.unclear;
    }
}

/// How many files were looked at, since the folder was opened.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Looked {
    /// Because a change named them, or was too young.
    pub named: u64,
    /// Because everything was looked at.
    pub scanned: u64,
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
    files: BTreeMap<Name, FileState>,
    /// The files that have each object, by name: the first one counts.
    owners: BTreeMap<ObjectKey, Vec<Name>>,
    /// Objects that several files have.
    doubled: BTreeSet<ObjectKey>,
    racy: BTreeSet<Name>,
    partial: BTreeSet<Name>,
    links: BTreeSet<Name>,
    /// Files with problems.
    troubled: BTreeSet<Name>,
    folder_problems: Vec<Problem>,
    looked: Looked,
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
            owners: BTreeMap::new(),
            doubled: BTreeSet::new(),
            racy: BTreeSet::new(),
            partial: BTreeSet::new(),
            links: BTreeSet::new(),
            troubled: BTreeSet::new(),
            folder_problems: Vec::new(),
            looked: Looked::default(),
        }
    }

    /// The same folder for those who act on what they read: a file is believed only when it was not changed for a moment, for
    /// what an editor is just writing may be cut at a place where it still makes sense.
    pub fn settled(mut self) -> Folder {
        self.settle = true;
        self
    }

    fn real_root(&self) -> Result<PathBuf, FolderError> {
        fs::canonicalize(&self.root).map_err(|source| self.failed(source))
    }

    fn failed(&self, source: io::Error) -> FolderError {
        FolderError {
            path: self.root.clone(),
            source,
        }
    }

    /// Looks at every file, and reads those that changed. Says what did.
    ///
    /// Fails only when the folder itself cannot be read; then nothing is forgotten.
    pub fn scan(&mut self) -> Result<Touched, FolderError> {
        let real = self.real_root()?;
        let mut found = Found::default();
        walk(&self.root, &mut Vec::new(), 0, &mut found).map_err(|e| self.failed(e))?;

        let mut touched = Touched::default();
        let mut folder_problems = Vec::new();
        for (name, reason) in &found.problems {
            folder_problems.push(self.problem(name, None, Severity::Error, reason.clone()));
        }
        let mut files = std::mem::take(&mut found.files);
        files.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        for (nth, (left_out, _)) in files.iter().enumerate().skip(MAX_MANIFESTS) {
            if nth == MAX_MANIFESTS {
                let reason = format!(
                    "there are more than {MAX_MANIFESTS} manifests; this and later ones are not read"
                );
                folder_problems.push(self.problem(left_out, None, Severity::Error, reason));
            }
            found.unknown.push(left_out.clone());
        }
        files.truncate(MAX_MANIFESTS);
        self.looked.scanned += files.len() as u64;

        let hidden = |name: &Name| found.unknown.iter().any(|above| name.is_or_is_below(above));
        let mut there = files.iter().peekable();
        let mut look: Vec<Name> = Vec::new();
        let mut gone: Vec<Name> = Vec::new();
        // Both sides are in order, so that most files cost one comparison of names and one of stamps.
        for (name, file) in &self.files {
            while let Some((new, _)) = there.next_if(|(new, _)| new < name) {
                look.push(new.clone());
            }
            match there.next_if(|(found, _)| found == name) {
                Some((_, stamp)) if stamp.is_some() && *stamp == file.stamp => {}
                Some(_) => look.push(name.clone()),
                None if hidden(name) => {}
                None => gone.push(name.clone()),
            }
        }
        look.extend(there.map(|(name, _)| name.clone()));
        for name in &look {
            self.look_at(name, &real, &mut touched);
        }
        for name in &gone {
            self.replace(name, None, &mut touched);
        }
        touched.problems |= self.folder_problems != folder_problems;
        self.folder_problems = folder_problems;
        Ok(touched)
    }

    /// Looks at these files only, and at links, which may lead to any of them. What is not below the folder is passed over.
    ///
    /// Fails as [`Folder::scan`] does.
    pub fn look<'a>(
        &mut self,
        paths: impl IntoIterator<Item = &'a Path>,
    ) -> Result<Touched, FolderError> {
        let names: BTreeSet<Name> = (paths.into_iter())
            .filter_map(|path| Name::below(&self.root, path))
            .collect();
        self.look_at_these(names)
    }

    /// Looks again at the files that may have changed while they were read.
    ///
    /// Fails as [`Folder::scan`] does.
    pub fn look_at_unsettled(&mut self) -> Result<Touched, FolderError> {
        self.look_at_these(self.racy.clone())
    }

    fn look_at_these(&mut self, mut names: BTreeSet<Name>) -> Result<Touched, FolderError> {
        // It must be there even when nothing is asked of it.
        let real = self.real_root()?;
        names.extend(self.links.iter().cloned());
        let full = self.files.len() >= MAX_MANIFESTS;
        let mut touched = Touched::default();
        for name in &names {
            self.looked.named += 1;
            match self.seen(name) {
                Seen::No => {}
                Seen::File => self.look_at(name, &real, &mut touched),
                Seen::Unclear => touched.unclear = true,
            }
        }
        // Now there may be room for one that was left out.
        touched.unclear |= full && self.files.len() < MAX_MANIFESTS;
        Ok(touched)
    }

    /// How a look at every file would come upon this one.
    fn seen(&self, name: &Name) -> Seen {
        if name.parts().any(is_hidden) {
            return Seen::No;
        }
        let mut above = self.root.clone();
        let mut parts = name.parts().peekable();
        let mut depth = 0;
        let known = self.files.contains_key(name);
        while let Some(part) = parts.next() {
            above.push(part);
            let kind = match fs::symlink_metadata(&above) {
                Ok(metadata) => metadata.file_type(),
                // Gone: as a file it is looked at, and as a folder it had files of which this says nothing.
                Err(e) if e.kind() == io::ErrorKind::NotFound && known => return Seen::File,
                Err(_) => return Seen::Unclear,
            };
            if parts.peek().is_some() {
                depth += 1;
                // A link to a folder, or folders that are too deep: the whole look has said so.
                if !kind.is_dir() || depth > MAX_DEPTH {
                    return if known { Seen::Unclear } else { Seen::No };
                }
                continue;
            }
            let new = !known && self.files.len() >= MAX_MANIFESTS;
            if kind.is_dir() || (kind.is_symlink() && above.is_dir()) || new {
                return Seen::Unclear;
            }
            return match is_manifest(part) {
                true => Seen::File,
                false => Seen::No,
            };
        }
        Seen::No
    }

    fn look_at(&mut self, name: &Name, real_root: &Path, touched: &mut Touched) {
        let path = name.path(&self.root);
        let known = self.files.get(name).and_then(|file| file.stamp.as_ref());
        let (opened, link) = open(&path, real_root, known);
        let (text, stamp) = match opened {
            Opened::Same => return,
            Opened::Gone => return self.replace(name, None, touched),
            Opened::Unusable(reason, stamp) => {
                let problem = self.problem(name, None, Severity::Error, reason);
                return self.amend(name, touched, |file| {
                    file.racy = false;
                    file.text = None;
                    file.partial = true;
                    file.stamp = stamp;
                    file.link = link;
                    file.problems = vec![problem];
                });
            }
            Opened::Text(text, stamp) => (text, stamp),
        };
        let racy = stamp.racy();
        if self.settle && racy {
            return self.amend(name, touched, |file| {
                file.stamp = None;
                file.racy = true;
                file.partial = true;
                file.link = link;
            });
        }
        let known = self.files.get(name).and_then(|file| file.text.as_ref());
        if known == Some(&text) {
            return self.amend(name, touched, |file| {
                file.stamp = Some(stamp).filter(|_| !racy);
                file.racy = racy;
                file.text = Some(text).filter(|_| racy);
                file.link = link;
            });
        }
        let mut objects = BTreeMap::new();
        let mut problems = Vec::new();
        let nothing = FileState::default();
        let old = self.files.get(name).unwrap_or(&nothing);
        let mut complete = true;
        let read = match documents(&text, self.holds) {
            Ok(read) => read,
            Err(reason) => {
                problems.push(self.problem(name, None, Severity::Error, reason));
                complete = false;
                Vec::new()
            }
        };
        if text.trim().is_empty() {
            let reason = "it is empty; if nothing is meant to be in it, remove it".to_owned();
            problems.push(self.problem(name, None, Severity::Warning, reason));
            complete = false;
        }
        for document in read {
            match document.content {
                Content::Object(key, object) => {
                    if objects.contains_key(&key) {
                        let reason = "it is in this file already; the first one counts".into();
                        problems.push(self.problem_of(name, document.line, &key, reason));
                        continue;
                    }
                    objects.insert(key, (object, document.line));
                }
                Content::Ignored(what) => {
                    let reason = format!("{what} is not looked at in a local cluster");
                    let line = Some(document.line);
                    problems.push(self.problem(name, line, Severity::Warning, reason));
                }
                Content::Invalid(key, line, reason) => {
                    let kept = old.objects.get(&key).cloned();
                    let reason = match &kept {
                        Some(_) => format!("{reason}; its last good form is kept"),
                        None => reason,
                    };
                    problems.push(self.problem_of(name, line, &key, reason));
                    match kept {
                        Some(kept) => drop(objects.entry(key).or_insert(kept)),
                        None => complete = false,
                    }
                }
                Content::Unreadable(line, reason) => {
                    problems.push(self.problem(name, Some(line), Severity::Error, reason));
                    complete = false;
                }
            }
        }
        if !complete {
            for (key, kept) in &old.objects {
                objects.entry(key.clone()).or_insert_with(|| kept.clone());
            }
        }
        let file = FileState {
            stamp: Some(stamp).filter(|_| !racy),
            objects,
            problems,
            racy,
            text: Some(text).filter(|_| racy),
            partial: !complete,
            link,
        };
        self.replace(name, Some(file), touched);
    }

    /// Changes what is noted of a file beside its objects.
    fn amend(&mut self, name: &Name, touched: &mut Touched, with: impl FnOnce(&mut FileState)) {
        let file = self.files.entry(name.clone()).or_default();
        let before = file.problems.clone();
        with(file);
        touched.problems |= file.problems != before;
        self.sort_in(name);
    }

    /// Puts another state of a file in the place of the one before; `None` for a file that is gone.
    fn replace(&mut self, name: &Name, file: Option<FileState>, touched: &mut Touched) {
        let nothing = FileState::default();
        let old = self.files.remove(name).unwrap_or_default();
        let new = file.as_ref().unwrap_or(&nothing);
        touched.problems |= old.problems != new.problems;
        for key in old.objects.keys() {
            if !new.objects.contains_key(key) {
                touched.keys.insert(key.clone());
                disown(&mut self.owners, &mut self.doubled, key, name, touched);
            }
        }
        for (key, place) in &new.objects {
            match old.objects.get(key) {
                Some(before) if before == place => {}
                Some(_) => {
                    touched.keys.insert(key.clone());
                    touched.problems |= self.doubled.contains(key);
                }
                None => {
                    touched.keys.insert(key.clone());
                    let owners = self.owners.entry(key.clone()).or_default();
                    if let Err(place) = owners.binary_search(name) {
                        owners.insert(place, name.clone());
                    }
                    if owners.len() > 1 {
                        self.doubled.insert(key.clone());
                        touched.problems = true;
                    }
                }
            }
        }
        if let Some(file) = file {
            self.files.insert(name.clone(), file);
        }
        self.sort_in(name);
    }

    /// Notes under which of the short lists a file belongs.
    fn sort_in(&mut self, name: &Name) {
        let file = self.files.get(name);
        let is = |what: fn(&FileState) -> bool| file.is_some_and(what);
        for (list, belongs) in [
            (&mut self.racy, is(|file| file.racy)),
            (&mut self.partial, is(|file| file.partial)),
            (&mut self.links, is(|file| file.link)),
            (&mut self.troubled, is(|file| !file.problems.is_empty())),
        ] {
            match belongs {
                true => drop(list.insert(name.clone())),
                false => drop(list.remove(name)),
            }
        }
    }

    /// The objects, each from one file: where two have it, the file that sorts first counts.
    pub fn objects(&self) -> BTreeMap<ObjectKey, Arc<Object>> {
        let all = self.owners.keys();
        all.filter_map(|key| Some((key.clone(), self.object(key)?.clone())))
            .collect()
    }

    /// One object, from the file that counts.
    pub fn object(&self, key: &ObjectKey) -> Option<&Arc<Object>> {
        let file = self.files.get(self.owners.get(key)?.first()?)?;
        file.objects.get(key).map(|(object, _)| object)
    }

    /// The file and line from which an object is taken.
    pub fn place(&self, key: &ObjectKey) -> Option<(PathBuf, u64)> {
        let name = self.owners.get(key)?.first()?;
        let (_, line) = self.files.get(name)?.objects.get(key)?;
        Some((name.path(&self.root), *line))
    }

    /// Whether a file has to be read again soon, since it may have changed while it was read.
    pub fn unsettled(&self) -> bool {
        !self.racy.is_empty()
    }

    /// Whether some files are links, so that a change of any file, a hidden one too, may be a change of theirs.
    pub fn has_links(&self) -> bool {
        !self.links.is_empty()
    }

    /// Whether everything was understood: only then does the absence of an object say that it is not there.
    pub fn complete(&self) -> bool {
        let unread = (self.folder_problems.iter()).any(|p| p.severity == Severity::Error);
        !unread && self.partial.is_empty()
    }

    /// How many files were looked at.
    pub fn looked(&self) -> Looked {
        self.looked
    }

    /// What people should know, by file and line.
    pub fn problems(&self) -> Vec<Problem> {
        let mut problems = self.folder_problems.clone();
        let troubled = self.troubled.iter().filter_map(|name| self.files.get(name));
        problems.extend(troubled.flat_map(|file| file.problems.iter().cloned()));
        for key in &self.doubled {
            let Some((winner, others)) = self.owners.get(key).and_then(|all| all.split_first())
            else {
                continue;
            };
            let reason = format!(
                "it is in {} too, which counts",
                self.shown(winner).display()
            );
            for name in others {
                let line = self.files.get(name).and_then(|file| file.objects.get(key));
                if let Some((_, line)) = line {
                    problems.push(self.problem_of(name, *line, key, reason.clone()));
                }
            }
        }
        problems.sort();
        problems.truncate(MAX_PROBLEMS);
        problems
    }

    /// A file as people know it.
    fn shown(&self, name: &Name) -> PathBuf {
        let path = name.path(&self.root);
        path.strip_prefix(&self.named_from).unwrap_or(&path).into()
    }

    fn problem(
        &self,
        name: &Name,
        line: Option<u64>,
        severity: Severity,
        reason: String,
    ) -> Problem {
        Problem {
            file: self.shown(name),
            line,
            severity,
            object: String::new(),
            reason,
        }
    }

    fn problem_of(&self, name: &Name, line: u64, key: &ObjectKey, reason: String) -> Problem {
        Problem {
            object: key.to_string(),
            ..self.problem(name, Some(line), Severity::Error, reason)
        }
    }
}

fn disown(
    owners: &mut BTreeMap<ObjectKey, Vec<Name>>,
    doubled: &mut BTreeSet<ObjectKey>,
    key: &ObjectKey,
    name: &Name,
    touched: &mut Touched,
) {
    let Some(all) = owners.get_mut(key) else {
        return;
    };
    all.retain(|owner| owner != name);
    touched.problems |= doubled.contains(key);
    if all.len() < 2 {
        doubled.remove(key);
    }
    if all.is_empty() {
        owners.remove(key);
    }
}

/// What a look at every file would make of a name.
enum Seen {
    /// Pass it over.
    No,
    /// Read it.
    File,
    /// It is, or was, more than a file.
    Unclear,
}

#[derive(Default)]
struct Found {
    /// With the stamps of those that are plain files.
    files: Vec<(Name, Option<Stamp>)>,
    /// Folders and files of which nothing is known now, which is no statement about them.
    unknown: Vec<Name>,
    problems: Vec<(Name, String)>,
}

fn walk(folder: &Path, parts: &mut Vec<u8>, depth: usize, found: &mut Found) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        if is_hidden(&name) {
            continue;
        }
        let kind = match entry.file_type() {
            Ok(kind) => kind,
            Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
            Err(e) => return Err(e),
        };
        let above = parts.len();
        push_part(parts, name.as_bytes());
        if kind.is_dir() {
            let path = entry.path();
            let below = match depth < MAX_DEPTH {
                true => walk(&path, parts, depth + 1, found).map_err(|e| e.to_string()),
                false => Err(format!("folders are nested deeper than {MAX_DEPTH}")),
            };
            match below {
                Err(_) if !path.exists() => {}
                Err(reason) => {
                    let name = Name::of(parts);
                    found
                        .problems
                        .push((name.clone(), format!("{reason}; it is not read")));
                    found.unknown.push(name);
                }
                Ok(()) => {}
            }
        } else if kind.is_symlink() && entry.path().is_dir() {
            let name = Name::of(parts);
            let reason = "links to folders are not followed".to_owned();
            found.problems.push((name.clone(), reason));
            found.unknown.push(name);
        } else if is_manifest(&name) {
            // One that cannot be asked is looked at again, more closely.
            let stamp = match kind.is_file() {
                true => entry.metadata().ok().map(|metadata| Stamp::of(&metadata)),
                false => None,
            };
            found.files.push((Name::of(parts), stamp));
        }
        parts.truncate(above);
    }
    Ok(())
}

enum Opened {
    Same,
    Gone,
    Unusable(String, Option<Stamp>),
    Text(String, Stamp),
}

/// Reads a file unless it is known as it is; says also whether it is a link.
fn open(path: &Path, real_root: &Path, known: Option<&Stamp>) -> (Opened, bool) {
    match fs::symlink_metadata(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => (Opened::Gone, false),
        Err(e) => (Opened::Unusable(e.to_string(), None), false),
        // Most files, most of the time: one question instead of three.
        Ok(metadata) if metadata.is_file() && known == Some(&Stamp::of(&metadata)) => {
            (Opened::Same, false)
        }
        Ok(metadata) => {
            let link = metadata.file_type().is_symlink();
            (read(path, link, real_root, known), link)
        }
    }
}

fn read(path: &Path, link: bool, real_root: &Path, known: Option<&Stamp>) -> Opened {
    let unusable = |reason: String| Opened::Unusable(reason, None);
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
