//! Programs in a person's own kubeconfig that say who the person is (`exec`, client.authentication.k8s.io).
//!
//! This room reads what is to be run and what the program answers; who runs it is whoever stands at the keyboard.

use serde::Deserialize;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::{ClusterEntry, Refused, User, bearer, refused};

/// The versions of the protocol that Kubernetes still has.
const VERSIONS: [&str; 2] = [
    "client.authentication.k8s.io/v1",
    "client.authentication.k8s.io/v1beta1",
];
/// The extension of a cluster that is handed on to the program (client-go's name).
const EXTENSION: &str = "client.authentication.k8s.io/exec";
const BY_HAND: &str = "run it by hand to see what it lacks, most often a new login";

/// Whether a program may ask the person something.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
pub enum Interactive {
    /// Never.
    Never,
    /// When there is a terminal.
    #[default]
    IfAvailable,
    /// It must.
    Always,
}

/// A program that says who we are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    /// Where it stands, `users[0].user.exec`.
    pub field: String,
    /// The program: a path, or a name to look for.
    pub command: String,
    /// Its words.
    pub args: Vec<String>,
    /// What is set for it beside our own environment.
    pub env: Vec<(String, String)>,
    /// How people get it when it is not there.
    pub hint: Option<String>,
    /// Whether it may ask.
    pub interactive: Interactive,
    version: String,
    cluster: Option<Value>,
}

/// Runs a program and gives what it wrote to its standard output, or says in words why there is nothing.
pub type Runner<'a> = &'a mut dyn FnMut(&Program) -> Result<Zeroizing<String>, String>;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Entry {
    #[serde(default)]
    api_version: String,
    #[serde(default)]
    command: String,
    args: Option<Vec<String>>,
    env: Option<Vec<Variable>>,
    install_hint: Option<String>,
    #[serde(default)]
    provide_cluster_info: bool,
    #[serde(default)]
    interactive_mode: Interactive,
}

#[derive(Deserialize)]
struct Variable {
    name: String,
    value: String,
}

/// What the program answers.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Credential {
    api_version: String,
    kind: String,
    status: Option<Status>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Status {
    token: Option<String>,
    client_certificate_data: Option<String>,
    client_key_data: Option<String>,
}

impl Program {
    pub(super) fn of(
        field: String,
        entry: &Entry,
        cluster: &ClusterEntry,
    ) -> Result<Program, Refused> {
        if !VERSIONS.contains(&entry.api_version.as_str()) {
            let said = crate::failure::printable(&entry.api_version);
            return Err(refused(
                format!("{field}.apiVersion"),
                format!("it is {said:?}, which Kubernetes has no more"),
                "renew the kubeconfig with the tool that wrote it; client.authentication.k8s.io/v1 is current",
            ));
        }
        if entry.command.is_empty() {
            return Err(refused(
                format!("{field}.command"),
                "it is empty",
                "name the program there",
            ));
        }
        Ok(Program {
            field,
            command: entry.command.clone(),
            args: entry.args.clone().unwrap_or_default(),
            env: (entry.env.iter().flatten())
                .map(|one| (one.name.clone(), one.value.clone()))
                .collect(),
            hint: entry.install_hint.clone(),
            interactive: entry.interactive_mode,
            version: entry.api_version.clone(),
            cluster: entry.provide_cluster_info.then(|| about(cluster)),
        })
    }

    /// What stands in `KUBERNETES_EXEC_INFO` when it is run.
    pub fn info(&self, interactive: bool) -> String {
        let mut spec = json!({"interactive": interactive});
        if let Some(cluster) = &self.cluster {
            spec["cluster"] = cluster.clone();
        }
        json!({"apiVersion": self.version, "kind": "ExecCredential", "spec": spec}).to_string()
    }

    /// Runs it, and reads who we are out of its answer.
    pub(super) fn ask(&self, run: Runner<'_>) -> Result<User, Refused> {
        let command = crate::failure::printable(&self.command);
        let failed =
            |why: String| refused(self.field.clone(), format!("{command}: {why}"), BY_HAND);
        let output = run(self).map_err(&failed)?;
        // What it wrote may be a part of a token, so none of it is shown.
        let answer: Credential = serde_json::from_str(&output)
            .map_err(|_| failed("what it wrote is no ExecCredential".into()))?;
        if answer.kind != "ExecCredential" || answer.api_version != self.version {
            return Err(failed(format!(
                "it answered with {} of {}, and ExecCredential of {} was asked for",
                crate::failure::printable(&answer.kind),
                crate::failure::printable(&answer.api_version),
                self.version
            )));
        }
        let nothing = || failed("there is neither token nor certificate in its answer".into());
        let status = answer.status.ok_or_else(nothing)?;
        match (
            status.token,
            status.client_certificate_data,
            status.client_key_data,
        ) {
            (Some(token), ..) if !token.is_empty() => {
                Ok(User::Token(bearer(self.field.clone(), &token)?))
            }
            (_, Some(chain), Some(key)) => Ok(User::Certificate {
                chain,
                key: Zeroizing::new(key),
            }),
            _ => Err(nothing()),
        }
    }
}

/// What client-go tells a program of the cluster.
fn about(entry: &ClusterEntry) -> Value {
    let mut about = json!({"server": entry.server});
    for (name, value) in [
        ("tls-server-name", &entry.tls_server_name),
        (
            "certificate-authority-data",
            &entry.certificate_authority_data,
        ),
        ("proxy-url", &entry.proxy_url),
    ] {
        if let Some(value) = value {
            about[name] = json!(value);
        }
    }
    let named = |one: &&super::Extension| one.name == EXTENSION;
    if let Some(config) = entry.extensions.iter().flatten().find(named) {
        about["config"] = config.extension.clone();
    }
    about
}
