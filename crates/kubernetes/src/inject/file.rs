//! A file of manifests: sidecars for its pods, and every document without pods as its author wrote it.

use serde_json::Value;

use super::{Document, DocumentError, Instance, inject_document};

/// Why a file cannot be worked on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FileError {
    /// A document is no YAML.
    #[error("line {line}: {reason}")]
    Yaml {
        /// In the whole file, from 1.
        line: u64,
        /// What is wrong there.
        reason: String,
    },
    /// A pod must be changed before it can have a sidecar.
    #[error("the document at line {line}: {source}")]
    Pod {
        /// Where the document begins.
        line: u64,
        /// What must be changed.
        source: Box<DocumentError>,
    },
}

/// Adds sidecars to the pods of a file. Gives the new text, and what became of each object.
///
/// # Errors
/// The first document that cannot be worked on. There is no text then.
pub fn inject_file(
    instance: &Instance,
    text: &str,
) -> Result<(String, Vec<(String, Document)>), FileError> {
    let (mut out, mut all) = (String::new(), Vec::new());
    for (start, part) in split(text) {
        let read = parse(part).map_err(|(line, reason)| FileError::Yaml {
            line: start + line - 1,
            reason,
        })?;
        let Some(mut document) = read else { continue };
        let became = inject_document(instance, &mut document).map_err(|source| FileError::Pod {
            line: start,
            source: source.into(),
        })?;
        let changed = became
            .iter()
            .any(|(_, became)| matches!(became, Document::Injected(_)));
        all.extend(became);
        if !out.is_empty() {
            out.push_str("---\n");
        }
        match changed {
            true => out.push_str(&serde_saphyr::to_string(&document).map_err(|error| {
                FileError::Yaml {
                    line: start,
                    reason: error.to_string(),
                }
            })?),
            false => out.push_str(part),
        }
        if !out.ends_with('\n') {
            out.push('\n');
        }
    }
    Ok((out, all))
}

/// The objects of a file, in order.
///
/// # Errors
/// The first document that is no YAML.
pub fn documents(text: &str) -> Result<Vec<Value>, FileError> {
    let mut all = Vec::new();
    for (start, part) in split(text) {
        let read = parse(part).map_err(|(line, reason)| FileError::Yaml {
            line: start + line - 1,
            reason,
        })?;
        all.extend(read);
    }
    Ok(all)
}

/// Documents with the lines that they begin at. `---` and `...` at the start of a line end one wherever they stand (YAML 1.2,
/// 9.1.2).
fn split(text: &str) -> Vec<(u64, &str)> {
    let marks = |line: &str| {
        let rest = line
            .strip_prefix("---")
            .or_else(|| line.strip_prefix("..."));
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\r', '\n']))
    };
    let (mut parts, mut start, mut first, mut at) = (Vec::new(), 0, 1, 0);
    for (number, line) in (1..).zip(text.split_inclusive('\n')) {
        if marks(line) {
            parts.push((first, &text[start..at]));
            // a document may begin on the marker's line
            (start, first) = match line[3..].trim().is_empty() {
                true => (at + line.len(), number + 1),
                false => (at + 3, number),
            };
        }
        at += line.len();
    }
    parts.push((first, &text[start..]));
    parts
}

/// Nothing of a document that says nothing. An error has its line within the document.
fn parse(part: &str) -> Result<Option<Value>, (u64, String)> {
    let says = |line: &str| {
        let line = line.trim();
        !line.is_empty() && !line.starts_with(['#', '%'])
    };
    if !part.lines().any(says) {
        return Ok(None);
    }
    // as kubectl reads it: a mode of 0644 is octal
    let options = serde_saphyr::options! { legacy_octal_numbers: true };
    let read = serde_saphyr::from_str_with_options::<Value>(part, options);
    let value = read.map_err(|error| {
        let line = error.location().map_or(1, |at| at.line().max(1));
        let reason = error.without_snippet().to_string();
        let reason = reason.lines().next().unwrap_or_default();
        (line, reason.chars().take(300).collect::<String>())
    })?;
    match value {
        Value::Null => Ok(None),
        Value::Object(_) => Ok(Some(value)),
        _ => Err((1, "this is no Kubernetes object".into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inject::tests::instance;

    const FILE: &str = "# the sample
apiVersion: v1
kind: Service
metadata: {name: web}   # stays as it is
--- # its pods
apiVersion: apps/v1
kind: Deployment
metadata:
  name: web
spec:
  template:
    metadata:
      annotations: {note: \"yes\"}
    spec:
      hostIPC: no
      containers: [{name: web, image: w}]
      volumes: [{name: v, configMap: {name: c, defaultMode: 0644}}]
---
---
# nothing
";

    #[test]
    fn what_has_no_pods_stays_as_it_was_written() {
        let (text, became) = inject_file(&instance(), FILE).unwrap();
        let (service, rest) = text.split_once("---\n").unwrap();
        assert_eq!(service, FILE.split("---").next().unwrap());
        assert!(!rest.contains("---"), "{rest}");
        let deployment: Value = serde_saphyr::from_str(rest).unwrap();
        let pod = &deployment["spec"]["template"];
        assert_eq!(pod["spec"]["initContainers"][1]["name"], "istio-proxy");
        assert_eq!(pod["spec"]["volumes"][0]["configMap"]["defaultMode"], 420);
        assert_eq!(pod["spec"]["hostIPC"], false);
        assert_eq!(pod["metadata"]["annotations"]["note"], "yes");
        assert_eq!(
            became,
            [
                ("Service web".to_owned(), Document::NoPods),
                ("Deployment web".to_owned(), Document::Injected(Vec::new())),
            ]
        );
        // a second time nothing happens
        let (again, became) = inject_file(&instance(), &text).unwrap();
        assert_eq!(again, text);
        assert_eq!(became[1].1, Document::Left(crate::inject::Why::Injected));
    }

    #[test]
    fn what_is_wrong_is_named_by_its_line() {
        for (text, said) in [
            ("a: 1\n---\nb: [\n", "line "),
            ("a: 1\n---\n- b\n", "line 3: this is no Kubernetes object"),
            (
                "a: 1\n---\nkind: Deployment\nmetadata: {name: web}\n",
                "the document at line 3: Deployment web: spec.template: is missing",
            ),
        ] {
            let error = inject_file(&instance(), text).unwrap_err().to_string();
            assert!(error.starts_with(said), "{error}");
        }
        assert_eq!(
            inject_file(&instance(), "\n").unwrap(),
            (String::new(), vec![])
        );
    }
}
