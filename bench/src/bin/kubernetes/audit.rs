//! What an API server says that it was asked: its audit log, read on while it is written.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::Value;

/// An audit log, read as far as it went.
#[derive(Debug)]
pub(crate) struct Trail {
    path: PathBuf,
    file: BufReader<File>,
    /// A line that was not whole yet.
    rest: String,
}

/// What one user asked for in some time, and what it left open.
#[derive(Debug, Default)]
pub(crate) struct Asked {
    /// How often, by verb and resource; a watch counts when it is opened.
    pub(crate) requests: BTreeMap<(String, String), usize>,
    /// Watches by resource that were opened and have not ended.
    open: BTreeMap<String, String>,
    /// Requests that were refused or failed: status 400 and above.
    pub(crate) failed: usize,
    seen: BTreeSet<String>,
}

impl Asked {
    /// Takes one line of the log, if it is this user's.
    pub(crate) fn take(&mut self, user: &str, line: &str) -> Result<()> {
        // Most lines are others', and there are many.
        if !line.contains(user) {
            return Ok(());
        }
        let event: Value = serde_json::from_str(line).context("a line of the audit log")?;
        if event["user"]["username"] != user {
            return Ok(());
        }
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let (id, verb) = (text(&event["auditID"]), text(&event["verb"]));
        let resource = match &event["objectRef"]["resource"] {
            Value::String(resource) => match event["objectRef"]["subresource"].as_str() {
                Some(sub) => format!("{resource}/{sub}"),
                None => resource.clone(),
            },
            _ => text(&event["requestURI"])
                .split('?')
                .next()
                .unwrap_or_default()
                .to_owned(),
        };
        // What lasts has two lines: one when it was answered, one at its end.
        let ended = event["stage"] != "ResponseStarted";
        if verb == "watch" {
            match ended {
                true => drop(self.open.remove(&id)),
                false => drop(self.open.insert(id.clone(), resource.clone())),
            }
        }
        if self.seen.insert(id) {
            *self.requests.entry((verb, resource)).or_default() += 1;
            let code = event["responseStatus"]["code"].as_u64();
            self.failed += usize::from(code.is_some_and(|code| code >= 400));
        }
        Ok(())
    }

    /// Begins to count anew; what is open stays open.
    pub(crate) fn begin(&mut self) {
        self.requests.clear();
        self.failed = 0;
        // The end of what was counted before is not another request.
        self.seen.retain(|id| self.open.contains_key(id));
    }

    /// How many watches of each resource are open.
    pub(crate) fn watches(&self) -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        for resource in self.open.values() {
            *counts.entry(resource.clone()).or_default() += 1;
        }
        counts
    }
}

impl Trail {
    /// From the end of what is written by now.
    pub(crate) fn open(path: &Path) -> Result<Trail> {
        let file = File::open(path).with_context(|| path.display().to_string())?;
        let mut trail = Trail {
            path: path.to_owned(),
            file: BufReader::new(file),
            rest: String::new(),
        };
        trail.skip()?;
        Ok(trail)
    }

    /// Reads on; what was written meanwhile is told to nobody.
    pub(crate) fn skip(&mut self) -> Result<()> {
        self.each(|_| Ok(()))
    }

    /// Reads on, and gives what was written meanwhile to `asked`.
    pub(crate) fn read(&mut self, user: &str, asked: &mut Asked) -> Result<()> {
        self.each(|line| asked.take(user, line))
    }

    fn each(&mut self, mut line: impl FnMut(&str) -> Result<()>) -> Result<()> {
        let named = || self.path.display().to_string();
        loop {
            while self.file.read_line(&mut self.rest).with_context(named)? > 0 {
                if self.rest.ends_with('\n') {
                    line(self.rest.trim_end())?;
                    self.rest.clear();
                }
            }
            // A log that has become long is put aside, and another one begun under its name.
            let now = std::fs::metadata(&self.path).with_context(named)?.ino();
            if now == self.file.get_ref().metadata()?.ino() {
                return Ok(());
            }
            // What came between the last look and that is read before the next file.
            let read = self.file.read_line(&mut self.rest).with_context(named)?;
            if read == 0 {
                self.file = BufReader::new(File::open(&self.path).with_context(named)?);
            } else if self.rest.ends_with('\n') {
                line(self.rest.trim_end())?;
                self.rest.clear();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn event(id: &str, user: &str, verb: &str, resource: &str, stage: &str) -> String {
        serde_json::json!({
            "auditID": id, "stage": stage, "verb": verb, "user": {"username": user},
            "objectRef": {"resource": resource}, "responseStatus": {"code": 200},
        })
        .to_string()
    }

    #[test]
    fn watches_count_once_and_are_open_until_they_end() {
        let mut asked = Asked::default();
        let lines = [
            event("1", "us", "list", "pods", "ResponseComplete"),
            event("2", "us", "watch", "pods", "ResponseStarted"),
            event("3", "us", "watch", "services", "ResponseStarted"),
            event("4", "others", "list", "us", "ResponseComplete"),
            event("2", "us", "watch", "pods", "ResponseComplete"),
        ];
        for line in &lines {
            asked.take("us", line).unwrap();
        }
        let count = |asked: &Asked, verb: &str, resource: &str| {
            let key = (verb.to_owned(), resource.to_owned());
            asked.requests.get(&key).copied()
        };
        assert_eq!(count(&asked, "list", "pods"), Some(1));
        assert_eq!(count(&asked, "watch", "pods"), Some(1));
        assert_eq!(asked.requests.len(), 3);
        assert_eq!(asked.watches(), [("services".to_owned(), 1)].into());

        // The end of a watch that was opened before is no request of the next time.
        asked.begin();
        let end = event("3", "us", "watch", "services", "ResponseComplete");
        asked.take("us", &end).unwrap();
        assert!(asked.requests.is_empty(), "{asked:?}");
        assert!(asked.watches().is_empty());
    }

    #[test]
    fn a_log_that_is_put_aside_is_read_to_its_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.log");
        let mut file = File::create(&path).unwrap();
        let line = |id| event(id, "us", "get", "pods", "ResponseComplete");
        writeln!(file, "{}", line("before")).unwrap();
        let mut trail = Trail::open(&path).unwrap();
        let whole = line("1");
        let (one, two) = whole.split_at(20);
        write!(file, "{one}").unwrap();
        let mut asked = Asked::default();
        trail.read("us", &mut asked).unwrap();
        assert!(asked.requests.is_empty());
        writeln!(file, "{two}").unwrap();
        std::fs::rename(&path, folder.path().join("audit-1.log")).unwrap();
        writeln!(file, "{}", line("2")).unwrap();
        std::fs::write(&path, line("3") + "\n").unwrap();
        trail.read("us", &mut asked).unwrap();
        assert_eq!(asked.requests.values().sum::<usize>(), 3);
    }
}
