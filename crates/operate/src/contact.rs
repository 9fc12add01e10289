//! The way to a cluster with an API server, as the person at the keyboard has it: a kubeconfig and a context.

use std::path::PathBuf;

use catamaran_kubernetes::connect::{Access, AccessError};
use catamaran_kubernetes::enrol::Home;
use catamaran_kubernetes::failure::Failure;
use catamaran_kubernetes::kubeconfig::{Allowed, Kubeconfig, Refused};
use catamaran_model::{ClusterId, MeshName, MeshSpec};

use crate::OperateError;

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
    /// Kubeconfigs, of which the first that has the context counts.
    pub files: Vec<PathBuf>,
    /// The context; the current one when not said.
    pub context: Option<String>,
}

/// Why a cluster with an API server is not as an operation needs it.
#[derive(Debug, thiserror::Error)]
pub enum ContactError {
    /// No kubeconfig is known.
    #[error("no kubeconfig is named")]
    NoFile,
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
        what: &'static str,
        /// What happened.
        failure: Failure,
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

fn words(what: &str, failure: &Failure) -> String {
    match failure {
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
            ContactError::NoFile => "name one (--kubeconfig FILE), or set KUBECONFIG".to_owned(),
            ContactError::Failed {
                failure: Failure::Unauthorized { .. } | Failure::Forbidden { .. },
                ..
            } => "use a context of somebody who may, as an administrator of that cluster".into(),
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
            ContactError::NoWayThere { gone: false, .. } => "name it: --remote-context CONTEXT".into(),
            ContactError::NoWayThere { gone: true, cluster, .. } => format!(
                "name it (--remote-context CONTEXT), for what is left there keeps new pods from being made; when {cluster} does not exist any \
                 more: --gone"
            ),
            ContactError::NoDoor { .. } => {
                "name an address that leads to its ports 15012 and 15017: --control-plane-address IP:15012".into()
            }
            ContactError::NoImage(_) => "name it: --image IMAGE".into(),
            _ => return None,
        })
    }

    pub(crate) fn failed(
        of: &str,
        what: &'static str,
    ) -> impl FnOnce(Failure) -> OperateError + use<> {
        let of = of.to_owned();
        move |failure| ContactError::Failed { of, what, failure }.into()
    }
}

/// A way that can be gone.
pub(crate) struct Reached {
    /// For people.
    pub(crate) who: String,
    pub(crate) config: Kubeconfig,
    pub(crate) access: Access,
}

impl Contact {
    /// `context C`, for people.
    pub(crate) fn name(&self) -> String {
        match &self.context {
            Some(context) => format!("context {context}"),
            None => "the current context".to_owned(),
        }
    }

    /// Reads the kubeconfig; nothing is asked yet.
    pub(crate) fn reach(&self) -> Result<Reached, OperateError> {
        let mut refused = None;
        for path in &self.files {
            let text = std::fs::read_to_string(path).map_err(|source| ContactError::File {
                path: path.clone(),
                source,
            })?;
            match Kubeconfig::read_context(&text, self.context.as_deref(), OWN) {
                Ok(config) => {
                    let access =
                        Access::new(&config, OWN).map_err(|source| ContactError::Credential {
                            of: path.display().to_string(),
                            source,
                        })?;
                    return Ok(Reached {
                        who: self.name(),
                        config,
                        access,
                    });
                }
                Err(source) => {
                    // A file without the context is not the one to complain of.
                    let there = source.field != "current-context";
                    if refused.is_none() || there {
                        let of = path.display().to_string();
                        refused = Some(ContactError::Refused { of, source });
                    }
                }
            }
        }
        Err(refused.unwrap_or(ContactError::NoFile).into())
    }
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
    fn the_file_with_the_context_counts() {
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
        let said = |context: &str| {
            let contact = Contact {
                files: files.clone(),
                context: Some(context.into()),
            };
            contact.reach().err().unwrap().to_string()
        };
        assert!(said("two").contains("two: users[0].user.exec"));
        assert!(said("three").contains("\"three\""));
    }
}
