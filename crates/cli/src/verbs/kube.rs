//! Clusters with an API server, as every verb names them.

use std::path::PathBuf;

use catamaran_operate::KubeContext;

use crate::context::Failure;

/// A cluster with an API server in the place of a local one.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Kube {
    /// The context of a kubeconfig: the cluster is one with an API server, not a local one of the fleet.
    #[arg(long, value_name = "CONTEXT")]
    pub(crate) context: Option<String>,
    /// The kubeconfig; the files of KUBECONFIG, else ~/.kube/config, when not said.
    #[arg(long, value_name = "FILE", requires = "context")]
    pub(crate) kubeconfig: Option<PathBuf>,
}

impl Kube {
    /// The cluster, when it is one with an API server.
    pub(crate) fn named(&self) -> Result<Option<KubeContext>, Failure> {
        let Some(context) = &self.context else {
            return Ok(None);
        };
        let files = match &self.kubeconfig {
            Some(file) => vec![file.clone()],
            None => match std::env::var_os("KUBECONFIG").filter(|list| !list.is_empty()) {
                Some(list) => std::env::split_paths(&list).collect(),
                None => vec![home()?.join(".kube/config")],
            },
        };
        Ok(Some(KubeContext {
            files,
            context: context.clone(),
        }))
    }
}

/// Where roots are kept, when nothing else is said.
pub(crate) fn roots(said: Option<PathBuf>) -> Result<PathBuf, Failure> {
    match said {
        Some(folder) => Ok(folder),
        None => Ok(home()?.join(".catamaran/roots")),
    }
}

fn home() -> Result<PathBuf, Failure> {
    let home = std::env::var_os("HOME").filter(|home| !home.is_empty());
    home.map(PathBuf::from).ok_or_else(|| {
        Failure::Program("HOME is not set; name the files with --kubeconfig and --roots".into())
    })
}
