//! The way to a cluster with an API server, by a person's own kubeconfig.

use std::path::PathBuf;

use catamaran_kubernetes::connect::Access;
use catamaran_kubernetes::failure::Failure;
use catamaran_kubernetes::kubeconfig::{Allowed, Kubeconfig};

use crate::OperateError;

/// Which cluster is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KubeContext {
    /// The files that may name it, in order, as in `KUBECONFIG`.
    pub files: Vec<PathBuf>,
    /// The name of the context.
    pub context: String,
}

impl KubeContext {
    /// The way to its API server; nothing is dialled yet.
    pub(crate) fn open(&self) -> Result<Access, OperateError> {
        // one's own file, for one's own cluster
        let allowed = Allowed {
            loopback: true,
            files: true,
            ..Allowed::default()
        };
        let mut first = None;
        for file in &self.files {
            let text = match std::fs::read_to_string(file) {
                Ok(text) => text,
                // kubectl passes over files that are not there
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => continue,
                Err(error) => return Err(OperateError::file(file)(error)),
            };
            match Kubeconfig::read_context(&text, Some(&self.context), allowed) {
                Ok(config) => {
                    let access = Access::new(&config, allowed);
                    return access.map_err(|error| self.bad(&error));
                }
                Err(refused) => {
                    // A file that does not have the context is not the one to complain of.
                    let elsewhere = refused.field == "current-context";
                    let said = self.bad(&format!("{}: {refused}", file.display()));
                    if first.is_none() || !elsewhere {
                        first = Some(said);
                    }
                }
            }
        }
        let files: Vec<String> = (self.files.iter())
            .map(|file| file.display().to_string())
            .collect();
        Err(first.unwrap_or_else(|| {
            self.bad(&format!(
                "there is no kubeconfig at {}; name one with --kubeconfig",
                files.join(", ")
            ))
        }))
    }

    fn bad(&self, reason: &dyn std::fmt::Display) -> OperateError {
        OperateError::NoWay {
            context: self.context.clone(),
            reason: reason.to_string(),
        }
    }

    /// Something has to end before.
    pub(crate) fn not_now(&self, reason: &str) -> OperateError {
        OperateError::Cluster {
            context: self.context.clone(),
            what: "install".to_owned(),
            reason: reason.to_owned(),
            unreachable: false,
            fix: "do the same command again".to_owned(),
        }
    }

    /// What an API server answered, as an error of an operation that was about `what`.
    pub(crate) fn failed(&self, what: &str, failure: &Failure) -> OperateError {
        let fix = match failure {
            Failure::Forbidden { .. } => {
                "use a context whose user is an administrator of the cluster (cluster-admin), or ask one for these rights"
            }
            Failure::Unauthorized { .. } => {
                "the context's credential has expired or was revoked: log in again, then do the same command again"
            }
            Failure::Unreachable { .. } | Failure::Slow { .. } | Failure::Tls { .. } => {
                "see whether `kubectl --context ... version` answers, then do the same command again"
            }
            _ => "do the same command again; what is done is not done twice",
        };
        let reason = match failure {
            Failure::Forbidden { said } | Failure::Unauthorized { said } => said.clone(),
            Failure::Absent => "it is not there".to_owned(),
            Failure::Unexpected { code, said } => format!("{said} ({code})"),
            other => other.about(what),
        };
        OperateError::Cluster {
            context: self.context.clone(),
            what: what.to_owned(),
            reason,
            unreachable: matches!(
                failure,
                Failure::Unreachable { .. }
                    | Failure::Slow { .. }
                    | Failure::Tls { .. }
                    | Failure::Unauthorized { .. }
            ),
            fix: fix.to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_with_the_context_counts_and_a_missing_one_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str| folder.path().join(name);
        let text = |context: &str, user: &str| {
            format!(
                "{{current-context: {context}, clusters: [{{name: c, cluster: {{server: 'https://10.0.0.1', \
                 certificate-authority-data: LS0tLS1CRUdJTiBDRVJUSUZJQ0FURS0tLS0t}}}}], \
                 users: [{{name: u, user: {user}}}], contexts: [{{name: {context}, context: {{cluster: c, user: u}}}}]}}"
            )
        };
        std::fs::write(file("a"), text("one", "{token: t}")).unwrap();
        std::fs::write(file("b"), text("two", "{exec: {command: curl}}")).unwrap();
        let said = |files: &[&str], context: &str| {
            let way = KubeContext {
                files: files.iter().map(|name| file(name)).collect(),
                context: context.into(),
            };
            way.open().unwrap_err().to_string()
        };
        assert!(said(&["a", "b"], "two").contains("users[0].user.exec"));
        assert!(said(&["a", "b"], "three").contains("three"));
        assert!(said(&["none"], "one").contains("--kubeconfig"));
    }
}
