//! Facts of a cluster that is a folder: what its manifests and its node's status say, as `Change`s.
//!
//! A watch reads and never writes. It says a complete list first, and then what changes. A folder that cannot be reached is
//! lost, never empty.
//!
//! The system names the files that change, and only those are looked at; what refers to them is made again, and nothing else.
//! So a change costs the same however many files there are. Everything is looked at from time to time all the same, and
//! whenever the names may not be all of them.
//!
//! A file that was renamed to its name is whole, and is looked at at once; what comes meanwhile is looked at next, together.
//! Whatever else happens to files may be half of something, and is looked at when nothing more of it has come for a moment.

mod eyes;
mod facts;
mod join;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use catamaran_model::ClusterId;
use catamaran_registry::{Change, Observed, Revision, Severity, WatchGeneration};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use crate::manifest::{Folder, FolderError, Holds, Problem, Touched};
pub(crate) use eyes::Eyes;
use eyes::{Heard, News};
use join::Join;

/// How often everything is looked at, whether or not the system reported a change.
pub const RESCAN: Duration = Duration::from_secs(5);
/// The same while the folder is lost, or while the system reports no changes at all.
pub const RESCAN_BLIND: Duration = Duration::from_secs(1);
/// Changes of files that may not be whole are looked at together when they come closer than this.
const QUIET: Duration = Duration::from_millis(20);
/// Changes wait no longer than this for the quiet.
const PATIENCE: Duration = Duration::from_millis(200);
/// When a file was changed while it was read, it is read again after this time.
const SETTLE: Duration = Duration::from_millis(60);
/// A first list waits this long for files that cannot be understood, for they may be half-written.
pub const LIST_PATIENCE: Duration = Duration::from_secs(3);

/// The annotation by which a person keeps a Service to its cluster.
pub const CLUSTER_LOCAL_ANNOTATION: &str = "catamaran.dev/cluster-local";

/// What is watched, and under which name.
#[derive(Debug, Clone)]
pub struct Watched {
    /// The cluster's folder, with `cluster.json`, `objects/` and `status/` in it.
    pub folder: PathBuf,
    /// The name under which its facts are reported.
    pub cluster: ClusterId,
    /// Which life of the watch this is.
    pub generation: WatchGeneration,
    /// Whether its endpoints may be on loopback: only in a fleet with process isolation.
    pub loopback: bool,
    /// Where its work is counted.
    pub work: Arc<Work>,
}

/// What watches did, counted up: what a change costs, in things that are no time.
#[derive(Debug, Default)]
pub struct Work {
    /// Files that were looked at because a change named them.
    pub named: AtomicU64,
    /// Files that were looked at because everything was.
    pub scanned: AtomicU64,
    /// Objects that were asked for their facts.
    pub made: AtomicU64,
}

/// Watches until the receiver of `out` is gone; dropping the future ends it too.
///
/// `problems` always has the present problems of this cluster's manifests, and is told only when they change.
pub async fn watch(
    what: Watched,
    out: mpsc::Sender<Change>,
    problems: tokio::sync::watch::Sender<Vec<Problem>>,
) {
    let heard = Arc::new(Heard::default());
    let mut eyes = Eyes::naming(&what.folder, heard.clone());
    let (cluster, generation) = (what.cluster.clone(), what.generation);
    let mut reader = Reader::new(what);
    let mut listing_since = Instant::now();
    let mut due = Due::now();
    loop {
        let patient = listing_since.elapsed() < LIST_PATIENCE;
        let look = loop {
            let news = heard.take();
            if news.blind {
                eyes = None;
            }
            due.hear(news, reader.lost || !reader.listed);
            match due.next() {
                Next::Look(_) if !reader.listed => break Look::Everything,
                Next::Look(look) => break look,
                Next::Wait(until) => tokio::select! {
                    () = out.closed() => return,
                    () = sleep_until(until) => {}
                    () = heard.wake.notified() => {}
                },
            }
        };
        let scans = matches!(look, Look::Everything);
        let looked = tokio::task::spawn_blocking(move || {
            let observed = match look {
                Look::Everything => reader.look(patient),
                Look::At(paths) => reader.look_at(&paths),
                Look::Unsettled => reader.look_at_unsettled(),
            };
            (reader, observed)
        });
        let Ok((back, observed)) = looked.await else {
            return;
        };
        reader = back;
        for observed in observed {
            let change = Change {
                cluster: cluster.clone(),
                watch: generation,
                what: observed,
            };
            if out.send(change).await.is_err() {
                return;
            }
        }
        if std::mem::take(&mut reader.news_of_problems) {
            problems.send_if_modified(|known| {
                let differ = *known != reader.problems;
                if differ {
                    known.clone_from(&reader.problems);
                }
                differ
            });
        }
        if reader.lost || reader.listed {
            listing_since = Instant::now();
        }
        heard
            .hidden_too
            .store(reader.has_links(), Ordering::Relaxed);
        if scans && (reader.lost || eyes.as_ref().is_none_or(|eyes| !eyes.see(reader.folder()))) {
            eyes = Eyes::naming(reader.folder(), heard.clone());
            // What happened between the look and these eyes was named by nobody.
            due.everything |= eyes.is_some() && !reader.lost;
        }
        due.looked(&reader, scans, eyes.is_some());
    }
}

/// What a watch will do next, and when.
struct Due {
    /// Files that are whole.
    whole: BTreeSet<PathBuf>,
    /// Files that may not be.
    other: BTreeSet<PathBuf>,
    /// Every file, for it is not known which.
    everything: bool,
    /// When `other` and `everything` are looked at: after a quiet moment, and when there is no patience left for one.
    quiet: Option<(Instant, Instant)>,
    /// When files that were read too young are read again.
    settle: Option<Instant>,
    /// When every file is looked at in any case.
    scan: Instant,
}

enum Next {
    Look(Look),
    Wait(Instant),
}

enum Look {
    Everything,
    At(BTreeSet<PathBuf>),
    Unsettled,
}

impl Due {
    fn now() -> Due {
        Due {
            whole: BTreeSet::new(),
            other: BTreeSet::new(),
            everything: false,
            quiet: None,
            settle: None,
            scan: Instant::now(),
        }
    }

    /// `all`: single files say nothing as long as there is no list.
    fn hear(&mut self, mut news: News, all: bool) {
        if news.is_empty() {
            return;
        }
        self.everything |= news.everything || all;
        let waits = news.everything || all || !news.other.is_empty();
        self.whole.append(&mut news.whole);
        self.other.append(&mut news.other);
        if waits {
            self.wait_for_quiet();
        }
    }

    fn wait_for_quiet(&mut self) {
        let now = Instant::now();
        let patience = self.quiet.map_or(now + PATIENCE, |(_, patience)| patience);
        self.quiet = Some(((now + QUIET).min(patience), patience));
    }

    fn next(&mut self) -> Next {
        let now = Instant::now();
        if self.everything && self.quiet.is_none() {
            self.wait_for_quiet();
        }
        let quiet = self.quiet.is_some_and(|(at, _)| at <= now);
        if self.scan <= now || (quiet && self.everything) {
            *self = Due {
                settle: self.settle,
                ..Due::now()
            };
            return Next::Look(Look::Everything);
        }
        // While it is not known which files changed, a file that did may refer to one that is not known yet.
        if !self.everything && (quiet || !self.whole.is_empty()) {
            let mut paths = std::mem::take(&mut self.whole);
            if quiet {
                paths.append(&mut self.other);
                self.quiet = None;
            }
            return Next::Look(Look::At(paths));
        }
        if self.settle.is_some_and(|at| at <= now) {
            self.settle = None;
            return Next::Look(Look::Unsettled);
        }
        let quiet = self.quiet.map(|(at, _)| at);
        let times = [quiet, self.settle];
        Next::Wait(times.into_iter().flatten().fold(self.scan, Instant::min))
    }

    /// Plans what follows from a look.
    fn looked(&mut self, reader: &Reader, scanned: bool, sees: bool) {
        let now = Instant::now();
        let unlisted = !reader.lost && !reader.listed;
        let pause = match (unlisted, reader.lost || !sees) {
            (true, _) => SETTLE,
            (false, true) => RESCAN_BLIND,
            (false, false) => RESCAN,
        };
        self.scan = match scanned {
            true => now + pause,
            false => self.scan.min(now + pause),
        };
        self.settle = match reader.unsettled() {
            true => self.settle.or(Some(now + SETTLE)),
            false => None,
        };
        self.everything |= reader.unclear;
    }
}

/// A watch without its waiting: each look says what is new.
#[derive(Debug)]
pub struct Reader {
    what: Watched,
    objects: Folder,
    status: Folder,
    /// What the folders say new, and is not joined yet.
    touched: (Touched, Touched),
    join: Join,
    scans: u64,
    lost: bool,
    listed: bool,
    unclear: bool,
    problems: Vec<Problem>,
    news_of_problems: bool,
}

impl Reader {
    /// A watch that has not looked yet.
    pub fn new(what: Watched) -> Reader {
        Reader {
            objects: Folder::new(&what.folder.join("objects"), Holds::Manifests).settled(),
            status: Folder::new(&what.folder.join("status"), Holds::Status),
            join: Join::new(what.loopback),
            what,
            touched: (Touched::default(), Touched::default()),
            scans: 0,
            lost: false,
            listed: false,
            unclear: false,
            problems: Vec::new(),
            news_of_problems: false,
        }
    }

    /// What people should know of the manifests, as of the last look.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    fn folder(&self) -> &Path {
        &self.what.folder
    }

    fn unsettled(&self) -> bool {
        self.objects.unsettled() || self.status.unsettled()
    }

    fn has_links(&self) -> bool {
        self.objects.has_links() || self.status.has_links()
    }

    /// Looks once at everything: the changes since the last look, or a complete list when there is none to compare with.
    /// `patient`: a list with files that cannot be understood is not said yet, since it would say that what is in them does
    /// not exist.
    pub fn look(&mut self, patient: bool) -> Vec<Observed> {
        self.scans += 1;
        self.unclear = false;
        self.see(patient, Folder::scan)
    }

    /// Looks at these files only. While there is no list it looks at everything, patiently.
    pub fn look_at(&mut self, paths: &BTreeSet<PathBuf>) -> Vec<Observed> {
        match self.listed {
            false => self.look(true),
            true => self.see(false, |folder| {
                folder.look(paths.iter().map(PathBuf::as_path))
            }),
        }
    }

    /// Looks again at the files that may have changed while they were read. While there is no list it looks at everything,
    /// patiently.
    pub fn look_at_unsettled(&mut self) -> Vec<Observed> {
        match self.listed {
            false => self.look(true),
            true => self.see(false, Folder::look_at_unsettled),
        }
    }

    fn see(
        &mut self,
        patient: bool,
        look: impl Fn(&mut Folder) -> Result<Touched, FolderError>,
    ) -> Vec<Observed> {
        let before = (
            self.objects.looked(),
            self.status.looked(),
            self.join.made(),
        );
        let observed = match self.scan(look) {
            Ok(()) => {
                self.lost = false;
                self.join(patient)
            }
            Err(reason) => {
                let first = !self.lost;
                self.lost = true;
                self.listed = false;
                match first {
                    true => vec![Observed::Lost(reason)],
                    false => Vec::new(),
                }
            }
        };
        let (objects, status) = (self.objects.looked(), self.status.looked());
        let count = |counter: &AtomicU64, more: u64| counter.fetch_add(more, Ordering::Relaxed);
        let work = &self.what.work;
        count(
            &work.named,
            objects.named + status.named - before.0.named - before.1.named,
        );
        count(
            &work.scanned,
            objects.scanned + status.scanned - before.0.scanned - before.1.scanned,
        );
        count(&work.made, self.join.made() - before.2);
        observed
    }

    fn scan(
        &mut self,
        look: impl Fn(&mut Folder) -> Result<Touched, FolderError>,
    ) -> Result<(), String> {
        let marker = self.what.folder.join("cluster.json");
        std::fs::metadata(&marker).map_err(|e| format!("{}: {e}", marker.display()))?;
        let touched = look(&mut self.objects).map_err(|e| e.to_string())?;
        self.unclear |= touched.unclear;
        self.touched.0.append(touched);
        let touched = look(&mut self.status).map_err(|e| e.to_string())?;
        self.unclear |= touched.unclear;
        self.touched.1.append(touched);
        Ok(())
    }

    fn join(&mut self, patient: bool) -> Vec<Observed> {
        let (objects, status) = std::mem::take(&mut self.touched);
        let problems = objects.problems || status.problems;
        let difference = self
            .join
            .follow(&self.objects, &self.status, &objects, &status);
        if problems || difference.refused {
            self.gather_problems();
        }
        if self.listed {
            let upserts = difference.upserts.into_iter().map(Observed::Upsert);
            let deletes = difference.deletes.into_iter().map(Observed::Delete);
            return upserts.chain(deletes).collect();
        }
        let complete = self.objects.complete() && self.status.complete();
        if !complete && patient {
            return Vec::new();
        }
        self.listed = true;
        let mut observed = vec![Observed::Relisting];
        observed.extend(self.join.facts().cloned().map(Observed::Upsert));
        observed.push(Observed::Listed(Revision(self.scans)));
        observed
    }

    fn gather_problems(&mut self) {
        self.news_of_problems = true;
        self.problems = self.objects.problems();
        self.problems.extend(self.status.problems());
        for (key, reason) in self.join.refused() {
            let place = self.status.place(key).or_else(|| self.objects.place(key));
            let (file, line) = match place {
                Some((path, line)) => {
                    let name = path.strip_prefix(&self.what.folder).unwrap_or(&path);
                    (name.to_owned(), Some(line))
                }
                None => (PathBuf::new(), None),
            };
            self.problems.push(Problem {
                file,
                line,
                severity: Severity::Error,
                object: key.to_string(),
                reason: reason.clone(),
            });
        }
    }
}

#[cfg(test)]
mod tests;
