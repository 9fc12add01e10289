//! What the system reports of a cluster's folder: which files, and how sure that they are whole.

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use notify::event::{AccessKind, AccessMode, EventKind, ModifyKind, RenameMode};
use notify::{RecursiveMode, Watcher as _};
use tokio::sync::{Notify, mpsc};

use crate::manifest::{is_hidden, is_manifest};

/// The folders of a cluster that are watched.
const PARTS: [&str; 2] = ["objects", "status"];
/// Names that are remembered; with more, every file is looked at.
const MAX_NAMES: usize = 1_024;

/// Files that changed, as far as was reported.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct News {
    /// A file was renamed to this name, as those who write whole files do: there is nothing to wait for.
    pub(super) whole: BTreeSet<PathBuf>,
    /// Something else happened to these; somebody may be in the middle of it.
    pub(super) other: BTreeSet<PathBuf>,
    /// Every file may have changed: reports were lost, or whole folders came or went.
    pub(super) everything: bool,
    /// What was watched is not there any more, or not all of it can be watched.
    pub(super) blind: bool,
}

impl News {
    pub(super) fn is_empty(&self) -> bool {
        *self == News::default()
    }

    fn bound(&mut self) {
        if self.whole.len() + self.other.len() > MAX_NAMES {
            self.whole.clear();
            self.other.clear();
            self.everything = true;
        }
    }

    pub(super) fn append(&mut self, mut other: News) {
        self.whole.append(&mut other.whole);
        self.other.append(&mut other.other);
        self.everything |= other.everything;
        self.blind |= other.blind;
        self.bound();
    }
}

/// Where reports wait until the watch has time for them.
#[derive(Debug, Default)]
pub(super) struct Heard {
    news: Mutex<News>,
    pub(super) wake: Notify,
    /// Whether hidden files matter, since a link may lead to them.
    pub(super) hidden_too: AtomicBool,
}

impl Heard {
    pub(super) fn take(&self) -> News {
        std::mem::take(&mut *self.news.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Takes up one report.
    pub(super) fn hear(&self, roots: &[PathBuf], event: notify::Result<notify::Event>) {
        let mut news = News::default();
        match event {
            Err(_) => (news.everything, news.blind) = (true, true),
            Ok(event) if event.need_rescan() => news.everything = true,
            Ok(event) => {
                for path in event.paths {
                    self.sort(roots, event.kind, path, &mut news);
                }
            }
        }
        if !news.is_empty() {
            let mut waiting = self.news.lock().unwrap_or_else(PoisonError::into_inner);
            waiting.append(news);
            drop(waiting);
            self.wake.notify_one();
        }
    }

    fn sort(&self, roots: &[PathBuf], kind: EventKind, path: PathBuf, news: &mut News) {
        if !is_change(kind) {
            return;
        }
        let goes = matches!(
            kind,
            EventKind::Remove(_) | EventKind::Modify(ModifyKind::Name(RenameMode::From))
        );
        let Some(below) = roots.iter().find_map(|root| path.strip_prefix(root).ok()) else {
            return;
        };
        if below.as_os_str().is_empty() {
            news.everything = true;
            news.blind |= goes;
            return;
        }
        if below.iter().any(is_hidden) {
            if self.hidden_too.load(Ordering::Relaxed) {
                news.other.insert(path);
            }
            return;
        }
        let manifest = below.file_name().is_some_and(is_manifest);
        match kind {
            // Both names were reported already, each for itself.
            EventKind::Modify(ModifyKind::Name(RenameMode::Both)) => {}
            EventKind::Modify(ModifyKind::Name(RenameMode::To)) if manifest => {
                news.whole.insert(path);
            }
            // What does not look like a manifest may be a folder of them.
            EventKind::Create(notify::event::CreateKind::Folder)
            | EventKind::Remove(notify::event::RemoveKind::Folder)
            | EventKind::Modify(ModifyKind::Name(RenameMode::To)) => news.everything = true,
            _ => drop(news.other.insert(path)),
        }
    }
}

/// Reading is no change, and this room reads a lot.
fn is_change(kind: EventKind) -> bool {
    match kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => true,
        EventKind::Access(_) => false,
        _ => true,
    }
}

/// The system's reports of changes in a cluster's folder.
pub(crate) struct Eyes {
    _watcher: notify::RecommendedWatcher,
    /// Which folders these are, beyond their names.
    seen: Vec<Option<(u64, u64)>>,
}

impl Eyes {
    /// Wakes at each change. `None` when the system reports nothing, because the folder is not there or a limit is reached.
    pub(crate) fn open(folder: &Path, wake: mpsc::Sender<()>) -> Option<Eyes> {
        let told = move |event: notify::Result<notify::Event>| {
            if event.map_or(true, |event| is_change(event.kind)) {
                let _ = wake.try_send(());
            }
        };
        Eyes::telling(folder, told)
    }

    /// Says what changed. `None` as [`Eyes::open`] says it.
    pub(super) fn naming(folder: &Path, heard: Arc<Heard>) -> Option<Eyes> {
        let roots = PARTS.map(|part| folder.join(part));
        Eyes::telling(folder, move |event| heard.hear(&roots, event))
    }

    fn telling(folder: &Path, told: impl notify::EventHandler) -> Option<Eyes> {
        let seen = which(folder);
        let mut watcher = notify::recommended_watcher(told).ok()?;
        for part in PARTS {
            let watched = watcher.watch(&folder.join(part), RecursiveMode::Recursive);
            if let Err(error) = watched {
                tracing::debug!(%error, folder = %folder.display(), "no reports of changes");
                return None;
            }
        }
        Some(Eyes {
            _watcher: watcher,
            seen,
        })
    }

    /// Whether these are still the folders that are there under their names.
    pub(super) fn see(&self, folder: &Path) -> bool {
        self.seen == which(folder)
    }
}

fn which(folder: &Path) -> Vec<Option<(u64, u64)>> {
    let all = PARTS.iter().map(|part| {
        let metadata = std::fs::metadata(folder.join(part)).ok()?;
        Some((metadata.dev(), metadata.ino()))
    });
    all.collect()
}
