//! One question of the API server, an `AdmissionReview` (admission.k8s.io/v1), and its answer.

use std::collections::BTreeMap;

use catamaran_model::NetworkId;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::base64;
use crate::failure::printable;
use crate::inject::{Instance, Place, REVISION, Verdict, inject, patch};
use crate::seen::INJECTION_LABELS;

/// The largest question: the API server itself takes objects of 3 MiB.
pub const MAX_BODY: usize = 4 << 20;
/// The most warnings that an answer carries.
const MAX_WARNINGS: usize = 20;
const VERSION: &str = "admission.k8s.io/v1";
const ROOT: &str = "/inject";

/// Why the API server asks about a pod: the selector of ours that it found true, on labels that are newer than any we watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// The namespace has a label of injection.
    Namespace,
    /// The namespace names this instance.
    Revision,
    /// The pod itself asks.
    Pod,
    /// Not said: a configuration that is not ours.
    Unsaid,
}

impl By {
    /// As it stands in the webhook's address.
    pub fn word(self) -> &'static str {
        match self {
            By::Namespace => "namespace",
            By::Revision => "revision",
            By::Pod => "pod",
            By::Unsaid => "",
        }
    }
}

/// What the webhook's address says: `/inject`, and after it pairs of Istio's form, as `/inject/cluster/c1/net/n1`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// The pair `by`, which is ours.
    pub by: By,
    /// The pair `cluster`.
    pub cluster: Option<String>,
    /// The pair `net`, for pods that name no network themselves.
    pub network: Option<NetworkId>,
    /// Pairs that mean nothing here.
    pub unread: Vec<String>,
}

impl Address {
    /// Reads the path of a request; nothing when it is none of ours. A `/` within a word is `--slash--` (Istio's).
    pub fn parse(path: &str) -> Option<Address> {
        let rest = path.strip_prefix(ROOT)?;
        let mut address = Address {
            by: By::Unsaid,
            cluster: None,
            network: None,
            unread: Vec::new(),
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        if rest.is_empty() {
            return Some(address);
        }
        let words: Vec<String> = rest
            .strip_prefix('/')?
            .split('/')
            .map(|word| word.replace("--slash--", "/"))
            .collect();
        let (pairs, odd) = words.as_chunks::<2>();
        if !odd.is_empty() {
            return None;
        }
        for [key, value] in pairs {
            match key.as_str() {
                "by" => {
                    let all = [By::Namespace, By::Revision, By::Pod];
                    address.by = all.into_iter().find(|by| by.word() == value)?;
                }
                "cluster" => address.cluster = Some(value.clone()),
                "net" => address.network = Some(value.parse().ok()?),
                _ => address.unread.push(printable(key)),
            }
        }
        Some(address)
    }
}

/// What became of the pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It gets its sidecar.
    Injected,
    /// It stays as it is.
    Left,
    /// It is not made.
    Refused,
}

/// An answer to the API server.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The `AdmissionReview`, as JSON.
    pub body: Vec<u8>,
    /// What it says.
    pub outcome: Outcome,
}

/// Why a body is no question.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("this is no AdmissionReview of {VERSION}: {0}")]
pub struct Malformed(String);

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Review {
    api_version: String,
    kind: String,
    request: Option<Request>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Request {
    uid: String,
    #[serde(default)]
    resource: Resource,
    #[serde(default)]
    sub_resource: String,
    #[serde(default)]
    namespace: String,
    #[serde(default)]
    operation: String,
    #[serde(default)]
    object: Value,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Resource {
    group: String,
    resource: String,
}

/// Answers a question. `asks` says of a namespace whether it asks for sidecars, as far as it is known; it counts only where the
/// address does not say why the API server asks. A namespace that nobody knows yet asks: the API server has its labels, and
/// found them to be selected.
///
/// A pod is refused only for what its owner must change.
///
/// # Errors
/// Why the body is no question.
pub fn answer(
    instance: &Instance,
    address: &Address,
    asks: impl Fn(&str) -> Option<bool>,
    body: &[u8],
) -> Result<Answer, Malformed> {
    let review: Review =
        serde_json::from_slice(body).map_err(|error| Malformed(printable(&error.to_string())))?;
    if review.api_version != VERSION || review.kind != "AdmissionReview" {
        let found = format!("{} {}", review.api_version, review.kind);
        return Err(Malformed(printable(&found)));
    }
    let Some(request) = review.request else {
        return Err(Malformed("it asks nothing".into()));
    };
    let pods = request.resource.group.is_empty() && request.resource.resource == "pods";
    if !pods || !request.sub_resource.is_empty() || request.operation != "CREATE" {
        return Ok(written(&request.uid, &Said::Left, &[]));
    }
    if let Some(other) = address.cluster.as_deref()
        && other != instance.cluster.as_str()
    {
        let why = format!(
            "the webhook's address names cluster {}, and {} manages {}; correct the address in its MutatingWebhookConfiguration",
            printable(other),
            instance.mesh,
            instance.cluster
        );
        return Ok(written(&request.uid, &Said::Refused(why), &[]));
    }
    let labels = labels(instance, address.by, || asks(&request.namespace));
    let place = Place {
        namespace: &request.namespace,
        labels: &labels,
    };
    let found = match &address.network {
        Some(network) => {
            let network = Some(network.clone());
            let instance = Instance {
                network,
                ..instance.clone()
            };
            inject(&instance, place, &request.object)
        }
        None => inject(instance, place, &request.object),
    };
    Ok(match found {
        Ok(Verdict::Leave(why)) => {
            let name = name(&request.object);
            tracing::debug!(namespace = request.namespace, name, "no sidecar: {why}");
            written(&request.uid, &Said::Left, &[])
        }
        Ok(Verdict::Inject { pod, mut warnings }) => {
            let unread = address.unread.iter();
            warnings.extend(
                unread
                    .map(|key| format!("{key} in the webhook's address is not read by this mesh")),
            );
            let said = Said::Patched(patch(&request.object, &pod));
            written(&request.uid, &said, &warnings)
        }
        Err(error) => {
            let why = format!("no sidecar of {} can be added: {error}", instance.mesh);
            written(&request.uid, &Said::Refused(why), &[])
        }
    })
}

/// The namespace's labels, as far as they decide: those that the selector spoke of.
fn labels(
    instance: &Instance,
    by: By,
    asks: impl Fn() -> Option<bool>,
) -> BTreeMap<String, String> {
    let asking = |enabled: bool| {
        let word = if enabled { "enabled" } else { "disabled" };
        (INJECTION_LABELS[0].to_owned(), word.to_owned())
    };
    let label = match by {
        By::Namespace => Some(asking(true)),
        By::Revision => Some((REVISION.to_owned(), instance.mesh.to_string())),
        By::Pod => None,
        By::Unsaid => Some(asking(asks().unwrap_or(true))),
    };
    label.into_iter().collect()
}

/// A pod of a ReplicaSet has no name yet.
fn name(pod: &Value) -> &str {
    let meta = &pod["metadata"];
    let name = meta["name"].as_str().or(meta["generateName"].as_str());
    name.unwrap_or_default()
}

enum Said {
    Left,
    Patched(Value),
    Refused(String),
}

fn written(uid: &str, said: &Said, warnings: &[String]) -> Answer {
    let mut response = json!({"uid": uid, "allowed": true});
    let outcome = match said {
        Said::Left => Outcome::Left,
        Said::Patched(operations) => {
            response["patchType"] = "JSONPatch".into();
            response["patch"] = base64::encode(operations.to_string().as_bytes()).into();
            Outcome::Injected
        }
        Said::Refused(why) => {
            response["allowed"] = false.into();
            response["status"] = json!({"code": 422, "reason": "Invalid", "message": why});
            Outcome::Refused
        }
    };
    if !warnings.is_empty() {
        response["warnings"] = warnings.iter().take(MAX_WARNINGS).cloned().collect();
    }
    let review = json!({"apiVersion": VERSION, "kind": "AdmissionReview", "response": response});
    Answer {
        body: review.to_string().into_bytes(),
        outcome,
    }
}

#[cfg(test)]
mod tests;
