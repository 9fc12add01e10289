//! Clusters with an API server, as verbs name them: a context of a kubeconfig in the place of a fleet.

use std::path::PathBuf;

use catamaran_operate::{Contact, Heard, Placed};
use serde::Serialize;

use crate::context::{Context, Failure, Format, Outcome};
use crate::table::Table;

/// One cluster with an API server, the one that the instance runs in, in the place of a fleet.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Home {
    /// The instance runs in a cluster with an API server, and this context of the kubeconfig leads there.
    #[arg(long, value_name = "CONTEXT")]
    pub(crate) context: Option<String>,
    /// The kubeconfig; KUBECONFIG, else ~/.kube/config, when not said.
    #[arg(long, value_name = "FILE")]
    pub(crate) kubeconfig: Option<PathBuf>,
}

impl Home {
    /// The way there; `None` when the instance is one of a fleet.
    pub(crate) fn contact(&self) -> Option<Contact> {
        let named = self.context.is_some() || self.kubeconfig.is_some();
        named.then(|| contact(self.context.clone(), self.kubeconfig.clone()))
    }

    /// The way to another cluster, by the same kubeconfig when no other is said.
    pub(crate) fn other(&self, context: Option<String>, kubeconfig: Option<PathBuf>) -> Contact {
        contact(context, kubeconfig.or_else(|| self.kubeconfig.clone()))
    }
}

/// Clusters with API servers in the place of a fleet, each by a context.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Sides {
    /// Ask the cluster with an API server that this context of the kubeconfig leads to, in the place of a fleet; given again, the
    /// other side too.
    #[arg(long, value_name = "CONTEXT")]
    context: Vec<String>,
    /// The kubeconfig; KUBECONFIG, else ~/.kube/config, when not said.
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
}

impl Sides {
    /// The ways there; `None` when a fleet is meant.
    pub(crate) fn contacts(&self) -> Option<Vec<Contact>> {
        if self.context.is_empty() {
            let file = self.kubeconfig.clone()?;
            return Some(vec![contact(None, Some(file))]);
        }
        let contexts = self.context.iter().cloned();
        let to = |context| contact(Some(context), self.kubeconfig.clone());
        Some(contexts.map(to).collect())
    }
}

/// Shows rows as those of a fleet are shown; who says nothing is told on standard error.
pub(crate) fn heard<T: Serialize>(
    heard: &Heard<T>,
    context: &Context,
    table: impl FnOnce(&[T]) -> Vec<Table>,
) -> Outcome {
    warn(&heard.silent);
    context.show(&heard.rows, || table(&heard.rows))
}

/// Says on standard error what was not heard.
pub(crate) fn warn(silent: &[String]) {
    for line in silent {
        eprintln!("warning: {line}");
    }
}

fn contact(context: Option<String>, file: Option<PathBuf>) -> Contact {
    let files = match file {
        Some(file) => vec![file],
        None => usual_files(),
    };
    Contact { files, context }
}

/// The files that kubectl looks into.
fn usual_files() -> Vec<PathBuf> {
    let said = |name| std::env::var_os(name).filter(|value| !value.is_empty());
    match (said("KUBECONFIG"), said("HOME")) {
        (Some(list), _) => std::env::split_paths(&list).collect(),
        (None, Some(home)) => vec![PathBuf::from(home).join(".kube/config")],
        (None, None) => Vec::new(),
    }
}

/// Where roots are kept, when nothing else is said.
pub(crate) fn roots(said: Option<PathBuf>) -> Result<PathBuf, Failure> {
    if let Some(folder) = said {
        return Ok(folder);
    }
    let home = std::env::var_os("HOME").filter(|home| !home.is_empty());
    let home = home.ok_or_else(|| {
        Failure::Program("HOME is not set; name the folder of roots with --roots".into())
    })?;
    Ok(PathBuf::from(home).join(".catamaran/roots"))
}

/// Shows what would be written.
pub(crate) fn show(placed: &[Placed], context: &Context) -> Outcome {
    match context.format {
        Format::Json => {
            let items: Vec<_> = placed.iter().map(|placed| &placed.object).collect();
            let list = serde_json::json!({"apiVersion": "v1", "kind": "List", "items": items});
            context.show(&list, Vec::new)
        }
        Format::Yaml | Format::Table => context.write(&Placed::yaml(placed)),
    }
}
