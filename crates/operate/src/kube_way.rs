//! The way to a cluster with an API server, by a person's own kubeconfig.

use std::path::PathBuf;

use catamaran_kubernetes::connect::Access;
use catamaran_kubernetes::failure::Failure;
use catamaran_kubernetes::kubeconfig::{Allowed, Kubeconfig};

use crate::{OperateError, own_program};

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
            let mut run = |program: &_| own_program::run(program, file);
            match Kubeconfig::read_own(&text, Some(&self.context), allowed, &mut run) {
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
        assert!(said(&["a", "b"], "two").contains("users[0].user.exec.apiVersion"));
        assert!(said(&["a", "b"], "three").contains("three"));
        assert!(said(&["none"], "one").contains("--kubeconfig"));
    }
    /// A kubeconfig beside a script that says who we are, and what opening it gives.
    fn by_program(script: &str, command: &str, more: &str) -> Result<(), String> {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let (file, program) = (folder.path().join("config"), folder.path().join("who"));
        // Somebody else's fork may hold a file open that was just written, so it is sh that reads it.
        std::fs::write(&program, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        let text = format!(
            "{{current-context: one, clusters: [{{name: c, cluster: {{server: 'https://10.0.0.1', \
             certificate-authority-data: {CA}}}}}], \
             users: [{{name: u, user: {{exec: {{apiVersion: client.authentication.k8s.io/v1, command: {command}, args: [{}], \
             interactiveMode: Never, {more}}}}}}}], contexts: [{{name: one, context: {{cluster: c, user: u}}}}]}}",
            program.display()
        );
        std::fs::write(&file, text).unwrap();
        let way = KubeContext {
            files: vec![file],
            context: "one".into(),
        };
        way.open().map(drop).map_err(|error| error.to_string())
    }

    /// A certificate that nobody has the key of any more.
    const CA: &str = "LS0tLS1CRUdJTiBDRVJUSUZJQ0FURS0tLS0tCk1JSUJlVENDQVIrZ0F3SUJBZ0lVZU94Mll6emRmODhjZSsrNzB0eS9XUEsrVWlnd0NnWUlLb1\
                      pJemowRUF3SXcKRVRFUE1BMEdBMVVFQXd3R2JtOWliMlI1TUNBWERUSTJNVEV5TkRFMk1Ea3dNMW9ZRHpJeE1qWXhNRE14TVRZdwpPVEF6V2pB\
                      Uk1ROHdEUVlEVlFRRERBWnViMkp2Wkhrd1dUQVRCZ2NxaGtqT1BRSUJCZ2dxaGtqT1BRTUJCd05DCkFBUlJHU2J5RFZQT1VoYjhFdjhKYm9zRH\
                      psN2NUc01zcUM5V25yUCt5dCtHTnhtMHRCaTd1YXZTa1BVbEs2d1QKM1pyRjZOVnVMZkVSNWFUYmFKeWVHbEJqbzFNd1VUQWRCZ05WSFE0RUZn\
                      UVVHM1NkKzNzUFlkU3RFRGxJMkZnZgpXbXowZSt3d0h3WURWUjBqQkJnd0ZvQVVHM1NkKzNzUFlkU3RFRGxJMkZnZldtejBlK3d3RHdZRFZSMF\
                      RBUUgvCkJBVXdBd0VCL3pBS0JnZ3Foa2pPUFFRREFnTklBREJGQWlCd1IxdmpDejMwa3dERmQ1Ym5DN1Yycit0VS80emEKZnQ4RHowcEoyMWZQ\
                      SHdJaEFLUGR4bjYvekhTalNSSXBWSG5kRU9iSFJzclY4RHF5Kzl1UG1vMG5leHdvCi0tLS0tRU5EIENFUlRJRklDQVRFLS0tLS0K";
    const GOOD: &str = r#"echo '{"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", "status": {"token": "t"}}'"#;

    #[tokio::test]
    async fn a_program_of_ones_own_kubeconfig_says_who_one_is() {
        by_program(GOOD, "sh", "").unwrap();
        // It is told of the cluster and of the environment that stands beside it.
        let told = format!(
            r#"case "$KUBERNETES_EXEC_INFO$WHO" in *'"server":"https://10.0.0.1"'*me) {GOOD};; *) echo "$KUBERNETES_EXEC_INFO" >&2; exit 1;; esac"#
        );
        let more = "provideClusterInfo: true, env: [{name: WHO, value: me}]";
        by_program(&told, "sh", more).unwrap();
        by_program(&told, "sh", "").unwrap_err();
    }

    #[tokio::test]
    async fn a_program_that_fails_is_named_with_what_it_wrote() {
        let said = |script: &str| by_program(script, "sh", "").unwrap_err();
        let refused = said("echo 'Error: SSO session has expired' >&2; exit 7");
        for part in [
            "users[0].user.exec: sh:",
            "exit status: 7",
            "SSO session has expired",
            "by hand",
        ] {
            assert!(refused.contains(part), "{refused}");
        }
        // What may be a part of a token is not shown.
        let refused = said("echo sesame");
        assert!(
            refused.contains("no ExecCredential") && !refused.contains("sesame"),
            "{refused}"
        );
        assert!(said(&GOOD.replace("\"token\"", "\"user\"")).contains("neither token nor"));
        assert!(said(&GOOD.replace("/v1\"", "/v1beta1\"")).contains("v1beta1"));
        let absent = by_program("", "none-such", "installHint: 'get it from us'").unwrap_err();
        assert!(
            absent.contains("none-such: it cannot be run") && absent.contains("get it from us"),
            "{absent}"
        );
    }
}
