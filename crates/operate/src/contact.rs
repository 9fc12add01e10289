//! The way to a cluster with an API server, as the person at the keyboard has it: a kubeconfig and a context. It is the only
//! reader of a person's own kubeconfig.

use std::path::PathBuf;

use catamaran_kubernetes::connect::{Access, AccessError};
use catamaran_kubernetes::enrol::Home;
use catamaran_kubernetes::failure::Failure;
use catamaran_kubernetes::kubeconfig::{Allowed, Kubeconfig, Refused};
use catamaran_model::{ClusterId, MeshName, MeshSpec};

use crate::{OperateError, own_program};

/// One's own kubeconfig, read on one's own machine.
const OWN: Allowed = Allowed {
    loopback: true,
    link_local: false,
    proxy: true,
    files: true,
};

/// Where to look for a context.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contact {
    /// Kubeconfigs, of which the first that has the context counts. Those that are not there are passed over, as kubectl does.
    pub files: Vec<PathBuf>,
    /// The context; the current one when not said.
    pub context: Option<String>,
}

/// Why a cluster with an API server is not as an operation needs it.
#[derive(Debug, thiserror::Error)]
pub enum ContactError {
    /// No kubeconfig is known, or none of those is there.
    #[error("there is no kubeconfig{}", places(.0))]
    NoFile(Vec<PathBuf>),
    /// None of the kubeconfigs has the context.
    #[error("{of}: {source}")]
    NoContext {
        /// Of what.
        of: String,
        /// In which way it is missing.
        source: Refused,
    },
    /// A kubeconfig cannot be read.
    #[error("the kubeconfig {path}: {source}")]
    File {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A kubeconfig or an address that is not used.
    #[error("{of}: {source}")]
    Refused {
        /// Of what.
        of: String,
        /// Why not.
        source: Refused,
    },
    /// A credential that is none.
    #[error("{of}: {source}")]
    Credential {
        /// Of what.
        of: String,
        /// Why not.
        source: AccessError,
    },
    /// An API server did not do what it was asked.
    #[error("{of}: {}", words(what, failure))]
    Failed {
        /// Whose.
        of: String,
        /// What it was about.
        what: String,
        /// What happened.
        failure: Failure,
    },
    /// Something has to end there before.
    #[error("{of}: {what}")]
    NotNow {
        /// Where.
        of: String,
        /// What has to end.
        what: &'static str,
    },
    /// The definitions of our kinds are not there.
    #[error(
        "there is no instance in {of}: its API server does not know the kinds of catamaran.dev"
    )]
    NoInstance {
        /// Where.
        of: String,
        /// The instance that was looked for.
        mesh: MeshName,
    },
    /// One cluster under two names.
    #[error(
        "{cluster} is the same cluster as {known}: their namespaces kube-system have the same UID"
    )]
    SameCluster {
        /// The new name.
        cluster: ClusterId,
        /// The one under which it is known.
        known: ClusterId,
        /// The instance.
        mesh: MeshName,
    },
    /// The instance's own cluster.
    #[error(
        "{cluster} is the cluster that {mesh} runs in, {known}: their namespaces kube-system have the same UID"
    )]
    OwnCluster {
        /// The new name.
        cluster: ClusterId,
        /// The one under which it is known.
        known: ClusterId,
        /// The instance.
        mesh: MeshName,
    },
    /// Another cluster than before under one name.
    #[error(
        "{of} is not the cluster that {mesh} knows as {cluster}: its namespace kube-system has another UID"
    )]
    OtherCluster {
        /// Where it was looked for.
        of: String,
        /// The name.
        cluster: ClusterId,
        /// The instance.
        mesh: MeshName,
    },
    /// The credential does not suffice.
    #[error("{0}")]
    Rights(String),
    /// A managed cluster that is not the one that the instance runs in.
    #[error("{mesh} deploys a gateway only in the cluster that it runs in, which is not {cluster}")]
    NotHome {
        /// The instance.
        mesh: MeshName,
        /// The cluster.
        cluster: ClusterId,
    },
    /// An authority that is not ours to replace.
    #[error("{of}: the Secret cacerts was brought by somebody else, so {mesh} does not renew it")]
    Brought {
        /// Where.
        of: String,
        /// The instance.
        mesh: MeshName,
    },
    /// The roots that an instance trusts are not where its sidecars find them.
    #[error(
        "{of}: there is no ConfigMap catamaran-ca-root-cert in catamaran-system, so the roots of {mesh} are not known"
    )]
    NoRoots {
        /// Where.
        of: String,
        /// The instance.
        mesh: MeshName,
    },
    /// The way to a cluster that is managed from another is not said.
    #[error(
        "{cluster} is managed by {mesh} from another cluster, and the way to {cluster} is not said"
    )]
    NoWayThere {
        /// The instance.
        mesh: MeshName,
        /// The cluster.
        cluster: ClusterId,
        /// Whether it can be done without, for a cluster that is gone.
        gone: bool,
    },
    /// An instance that is to go manages another cluster.
    #[error(
        "{mesh} manages {cluster} from here: without it no pod that asks for a sidecar could be made there"
    )]
    Manages {
        /// The instance.
        mesh: MeshName,
        /// The cluster.
        cluster: String,
        /// How the context is said.
        option: String,
    },
    /// The control plane cannot be reached from another cluster.
    #[error("the control plane of {mesh} cannot be reached from {cluster}: {reason}")]
    NoDoor {
        /// The instance.
        mesh: MeshName,
        /// The cluster.
        cluster: ClusterId,
        /// Why not.
        reason: String,
    },
    /// What a gateway is to run is not known.
    #[error(
        "the image of the gateway is not known: there is no control plane of {0} to take it from"
    )]
    NoImage(MeshName),
}

fn places(files: &[PathBuf]) -> String {
    let names = files.iter().map(|file| file.display().to_string());
    match files.is_empty() {
        true => String::new(),
        false => format!(" at {}", names.collect::<Vec<_>>().join(", ")),
    }
}

fn words(what: &str, failure: &Failure) -> String {
    match failure {
        Failure::Absent => format!("{what}: it is not there"),
        Failure::Unauthorized { said } => {
            format!("its API server does not accept the credential (401: {said})")
        }
        Failure::Forbidden { said } => {
            format!("the credential may not read or write {what} (403: {said})")
        }
        Failure::Unexpected { code, said } => {
            format!("its API server refuses {what} ({code}: {said})")
        }
        failure => failure.about(what),
    }
}

impl ContactError {
    /// The next step, when the text does not say it.
    pub(crate) fn fix(&self) -> Option<String> {
        Some(match self {
            ContactError::NoFile(_) => "name one (--kubeconfig FILE), or set KUBECONFIG".to_owned(),
            ContactError::NoContext { .. } => {
                "see `kubectl config get-contexts`; another file is named with --kubeconfig".into()
            }
            ContactError::Failed { failure, .. } => match failure {
                Failure::Forbidden { .. } => {
                    "use a context of somebody who may, as an administrator of that cluster".into()
                }
                Failure::Unauthorized { .. } => {
                    "the context's credential has expired or was revoked: log in again, then do the same command again".into()
                }
                Failure::Unreachable { .. } | Failure::Slow { .. } | Failure::Tls { .. } => {
                    "see whether `kubectl --context ... version` answers, then do the same command again".into()
                }
                _ => "do the same command again; what is done is not done twice".into(),
            },
            ContactError::NotNow { .. } => "do the same command again when it has ended".into(),
            ContactError::NoInstance { mesh, .. } => {
                format!("create it first: catamaran mesh create {mesh} --context CONTEXT")
            }
            ContactError::SameCluster { known, mesh, .. } => format!(
                "use {known}; to give it another name: catamaran cluster remove {known} --mesh {mesh} first"
            ),
            ContactError::OwnCluster { .. } => {
                "see whether the context is right: an instance discovers what it manages without being told".into()
            }
            ContactError::OtherCluster { cluster, mesh, .. } => format!(
                "see whether the context is right; when the cluster was made anew: catamaran cluster remove {cluster} \
                 --mesh {mesh} first"
            ),
            ContactError::NotHome { cluster, .. } => format!(
                "deploy it by the instance that runs in {cluster}, and give its address here: {cluster}=NETWORK,gateway=IP:PORT"
            ),
            ContactError::Brought { .. } => {
                "renew it where it comes from, and put it there as Istio's layout has it; the control plane takes it by itself"
                    .into()
            }
            ContactError::NoRoots { mesh, .. } => format!(
                "its control plane writes it when it runs; see `catamaran mesh show {mesh} --context CONTEXT`"
            ),
            ContactError::NoWayThere { gone: false, .. } => "name it: --remote-context CONTEXT".into(),
            ContactError::NoWayThere { gone: true, cluster, .. } => format!(
                "name it (--remote-context CONTEXT), for what is left there keeps new pods from being made; when {cluster} does not exist any \
                 more: --gone"
            ),
            ContactError::Manages {
                mesh,
                cluster,
                option,
            } => format!(
                "take it out before: catamaran cluster remove {cluster} --mesh {mesh}{option} --remote-context CONTEXT"
            ),
            ContactError::NoDoor { .. } => {
                "name an address that leads to its ports 15012 and 15017: --control-plane-address IP:15012".into()
            }
            ContactError::NoImage(_) => "name it: --image IMAGE".into(),
            _ => return None,
        })
    }

    /// Whether it is the way there that fails, or who we are there.
    pub(crate) fn unreachable(&self) -> bool {
        matches!(
            self,
            ContactError::Failed {
                failure: Failure::Unreachable { .. }
                    | Failure::Address { .. }
                    | Failure::Slow { .. }
                    | Failure::Tls { .. }
                    | Failure::Unauthorized { .. }
                    | Failure::Forbidden { .. },
                ..
            }
        )
    }

    pub(crate) fn failed(of: &str, what: &str) -> impl FnOnce(Failure) -> OperateError + use<> {
        let (of, what) = (of.to_owned(), what.to_owned());
        move |failure| ContactError::Failed { of, what, failure }.into()
    }
}

impl Contact {
    /// `context C`, for people.
    pub(crate) fn name(&self) -> String {
        match &self.context {
            Some(context) => format!("context {context}"),
            None => "the current context".to_owned(),
        }
    }

    /// The context alone, for people.
    pub(crate) fn short(&self) -> &str {
        self.context.as_deref().unwrap_or("the current context")
    }

    /// What names it on a command line.
    pub(crate) fn option(&self) -> String {
        match &self.context {
            Some(context) => format!(" --context {context}"),
            None => String::new(),
        }
    }

    /// Reads the kubeconfig; nothing is asked yet.
    pub(crate) fn reach(&self) -> Result<Reached, OperateError> {
        let mut first: Option<ContactError> = None;
        for path in &self.files {
            let text = match std::fs::read_to_string(path) {
                Ok(text) => text,
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                Err(source) => {
                    let path = path.clone();
                    return Err(ContactError::File { path, source }.into());
                }
            };
            let of = path.display().to_string();
            let mut run = |program: &_| own_program::run(program, path);
            match Kubeconfig::read_own(&text, self.context.as_deref(), OWN, &mut run) {
                Ok(config) => {
                    let access = Access::new(&config, OWN)
                        .map_err(|source| ContactError::Credential { of, source })?;
                    return Ok(Reached {
                        who: self.name(),
                        config,
                        access,
                    });
                }
                // A file without the context is not the one to complain of.
                Err(source) if source.field == "current-context" => {
                    first = first.or(Some(ContactError::NoContext { of, source }));
                }
                Err(source) => match &first {
                    Some(ContactError::Refused { .. }) => {}
                    _ => first = Some(ContactError::Refused { of, source }),
                },
            }
        }
        let none = || ContactError::NoFile(self.files.clone());
        Err(first.unwrap_or_else(none).into())
    }
}

/// A way that can be gone.
pub(crate) struct Reached {
    /// For people.
    pub(crate) who: String,
    pub(crate) config: Kubeconfig,
    pub(crate) access: Access,
}

impl Reached {
    /// What the instance's own cluster holds, which must have the instance.
    pub(crate) async fn home(&self, mesh: &MeshName) -> Result<(Home, MeshSpec), OperateError> {
        let home = match Home::read(&self.access).await {
            Err(Failure::Absent) => {
                return Err(ContactError::NoInstance {
                    of: self.who.clone(),
                    mesh: mesh.clone(),
                }
                .into());
            }
            read => read.map_err(ContactError::failed(&self.who, "the instance's objects"))?,
        };
        let spec = home.mesh(mesh).cloned();
        let spec = spec.ok_or_else(|| OperateError::UnknownMesh {
            name: mesh.clone(),
            purpose: "",
            known: (home.meshes.iter())
                .map(|spec| (spec.name.to_string(), String::new()))
                .collect(),
        })?;
        Ok((home, spec))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_with_the_context_counts_and_a_missing_one_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, user: &str| {
            let path = folder.path().join(name);
            let text = format!(
                "{{current-context: {name}, clusters: [{{name: c, cluster: {{server: 'https://10.0.0.1', \
                 certificate-authority-data: LS0tLS1CRUdJTiBDRVJUSUZJQ0FURS0tLS0t}}}}], \
                 users: [{{name: u, user: {user}}}], contexts: [{{name: {name}, context: {{cluster: c, user: u}}}}]}}"
            );
            std::fs::write(&path, text).unwrap();
            path
        };
        let files = vec![
            write("one", "{token: t}"),
            write("two", "{exec: {command: curl}}"),
        ];
        let failed = |files: &[PathBuf], context: &str| {
            let contact = Contact {
                files: files.to_vec(),
                context: Some(context.into()),
            };
            contact.reach().err().unwrap()
        };
        let two = failed(&files, "two");
        assert!(
            two.to_string()
                .contains("two: users[0].user.exec.apiVersion")
        );
        assert_eq!((two.code(), two.class().exit_code()), ("CTM-K102", 1));
        let three = failed(&files, "three");
        assert!(three.to_string().contains("\"three\""));
        assert_eq!((three.code(), three.class().exit_code()), ("CTM-K101", 2));
        // a file that is not there is passed over; when none is there, they are named
        let none = folder.path().join("none");
        let with_none = [&[none.clone()][..], &files].concat();
        assert!(
            failed(&with_none, "two")
                .to_string()
                .contains("users[0].user.exec")
        );
        let nothing = failed(&[none], "two");
        assert!(nothing.to_string().ends_with("/none"), "{nothing}");
        assert_eq!(
            (nothing.code(), nothing.class().exit_code()),
            ("CTM-K101", 2)
        );
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
        let way = Contact {
            files: vec![file],
            context: Some("one".into()),
        };
        way.reach().map(drop).map_err(|error| error.to_string())
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
