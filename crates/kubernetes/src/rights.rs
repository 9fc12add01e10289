//! What a credential may do in another cluster, held against what it needs there.
//!
//! A reader that may do more is not refused: people often have no other credential at hand. But it is said, with names.

use std::collections::BTreeSet;
use std::time::Duration;

use catamaran_model::{ClusterId, SpiffeId};
use catamaran_registry::{Problem, ProblemKind, Severity};
use k8s_openapi::api::authorization::v1::{
    NonResourceRule, ResourceRule, SelfSubjectRulesReview, SelfSubjectRulesReviewSpec,
    SubjectRulesReviewStatus,
};
use kube::Api;
use kube::api::PostParams;

use crate::connect::Access;
use crate::failure::Failure;

/// The most excess rights that are named.
const NAMED: usize = 8;

/// What a reader needs: group and resource, to get, list and watch in all namespaces.
pub const NEEDED: [(&str, &str); 5] = [
    ("", "namespaces"),
    ("", "services"),
    ("", "pods"),
    ("discovery.k8s.io", "endpointslices"),
    ("catamaran.dev", "meshexports"),
];
/// The verbs on [`NEEDED`].
pub const VERBS: [&str; 3] = ["get", "list", "watch"];

/// What a manager needs beside it: a verb on a resource, and whether it is held to objects of one name.
pub(crate) const MANAGING: [(&str, &str, &str, bool); 8] = [
    ("create", "authentication.k8s.io", "tokenreviews", false),
    ("get", "", "configmaps", true),
    ("create", "", "configmaps", true),
    ("patch", "", "configmaps", true),
    ("create", WEBHOOKS.0, WEBHOOKS.1, true),
    ("patch", WEBHOOKS.0, WEBHOOKS.1, true),
    ("create", "catamaran.dev", "meshexports", true),
    ("patch", "catamaran.dev", "meshexports", true),
];
const WEBHOOKS: (&str, &str) = (
    "admissionregistration.k8s.io",
    "mutatingwebhookconfigurations",
);

/// What a credential is for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Role {
    /// To discover a cluster.
    #[default]
    Reader,
    /// To manage it from another.
    Manager,
}

/// What every authenticated user may ask about itself.
const ABOUT_SELF: [(&str, &str); 3] = [
    ("authorization.k8s.io", "selfsubjectaccessreviews"),
    ("authorization.k8s.io", "selfsubjectrulesreviews"),
    ("authentication.k8s.io", "selfsubjectreviews"),
];
/// What every authenticated user may read beside objects.
const PUBLIC: [&str; 9] = [
    "/api",
    "/apis",
    "/healthz",
    "/livez",
    "/readyz",
    "/version",
    "/openapi",
    "/.well-known",
    "/openid",
];

/// What a credential may do, compared with what it needs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rights {
    /// What it is for.
    pub role: Role,
    /// Rights beyond the need: `get secrets`, `* *.*`.
    pub more: BTreeSet<String>,
    /// Needs without the right: `watch pods`.
    pub missing: BTreeSet<String>,
    /// Whether it may read nodes, which helps and is not needed.
    pub nodes: bool,
    /// The server could not name all rights.
    pub incomplete: bool,
}

/// Asks the API server what a credential for discovery may do.
pub async fn review(access: &Access) -> Result<Rights, Failure> {
    review_as(access, Role::Reader).await
}

/// Asks the API server what a credential may do, to hold it against what its role needs.
pub async fn review_as(access: &Access, role: Role) -> Result<Rights, Failure> {
    let mut rights = Rights {
        role,
        ..Rights::default()
    };
    // Rights are told by namespace: ours, where the reader has its own, and the one that matters most.
    for namespace in [SpiffeId::SYSTEM_NAMESPACE, "kube-system"] {
        let ask = SelfSubjectRulesReview {
            spec: SelfSubjectRulesReviewSpec {
                namespace: Some(namespace.into()),
            },
            ..SelfSubjectRulesReview::default()
        };
        let reviews: Api<SelfSubjectRulesReview> = Api::all(access.client().clone());
        let limit = Duration::from_secs(30);
        let params = PostParams::default();
        let answer = tokio::time::timeout(limit, reviews.create(&params, &ask)).await;
        let answer = answer.map_err(|_| Failure::Slow { limit })?;
        let answer = answer.map_err(|error| crate::api::of_error(access, &error))?;
        let status = answer.status.unwrap_or_default();
        rights.add(&status, namespace);
    }
    Ok(rights)
}

impl Rights {
    fn add(&mut self, status: &SubjectRulesReviewStatus, namespace: &str) {
        self.incomplete |= status.incomplete;
        for rule in &status.resource_rules {
            self.add_rule(rule);
        }
        for rule in &status.non_resource_rules {
            self.add_paths(rule);
        }
        for (group, resource) in NEEDED {
            // Exports are in one namespace.
            if resource == "meshexports" && namespace != SpiffeId::SYSTEM_NAMESPACE {
                continue;
            }
            for verb in VERBS {
                let granted = status.resource_rules.iter();
                if !granted
                    .clone()
                    .any(|rule| grants(rule, verb, group, resource))
                {
                    self.missing
                        .insert(format!("{verb} {}", named(group, resource)));
                }
            }
        }
        let managing = MANAGING.iter().filter(|_| self.role == Role::Manager);
        for (verb, group, resource, _) in managing {
            // The one in our namespace, and those of the whole cluster, are granted there or nowhere.
            if namespace == SpiffeId::SYSTEM_NAMESPACE
                && !(status.resource_rules.iter()).any(|rule| allows(rule, verb, group, resource))
            {
                self.missing
                    .insert(format!("{verb} {}", named(group, resource)));
            }
        }
        let list = |rule: &ResourceRule| grants(rule, "list", "", "nodes");
        self.nodes |= status.resource_rules.iter().any(list);
    }

    fn add_rule(&mut self, rule: &ResourceRule) {
        let none = Vec::new();
        let groups = rule.api_groups.as_ref().unwrap_or(&none);
        let resources = rule.resources.as_ref().unwrap_or(&none);
        let names = rule.resource_names.as_ref().unwrap_or(&none);
        for group in groups {
            for resource in resources {
                for verb in &rule.verbs {
                    let managing = self.role == Role::Manager
                        && MANAGING.iter().any(|(of, on, kind, held)| {
                            (*of, *on, *kind) == (verb, group, resource)
                                && (!held || names.len() == 1)
                        });
                    if managing || needed(verb, group, resource, names) {
                        continue;
                    }
                    self.more.insert(match &names[..] {
                        [] => format!("{verb} {}", named(group, resource)),
                        names => format!("{verb} {} {}", named(group, resource), names.join(" ")),
                    });
                }
            }
        }
    }

    fn add_paths(&mut self, rule: &NonResourceRule) {
        for path in rule.non_resource_urls.iter().flatten() {
            let public = (PUBLIC.iter()).any(|known| {
                let rest = path.strip_prefix(known);
                rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            });
            for verb in rule.verbs.iter().filter(|verb| !(public && *verb == "get")) {
                self.more.insert(format!("{verb} {path}"));
            }
        }
    }

    /// What people should know of it; `None` when the rights are just those that are needed.
    pub fn problem(&self, cluster: &ClusterId) -> Option<Problem> {
        let list = |rights: &BTreeSet<String>| {
            let named: Vec<&str> = rights.iter().take(NAMED).map(String::as_str).collect();
            match rights.len() > NAMED {
                true => format!("{} and {} more", named.join(", "), rights.len() - NAMED),
                false => named.join(", "),
            }
        };
        let (role, need, option) = match self.role {
            Role::Reader => ("reader", "discovery needs", " --discovery-only"),
            Role::Manager => ("manager", "managing needs", ""),
        };
        // Of the word between primaries a reader may know nothing: that of an Istio does not.
        let discovers = |right: &String| {
            self.role == Role::Manager || !right.ends_with(" meshexports.catamaran.dev")
        };
        let (severity, message) = if self.missing.iter().any(discovers) && !self.incomplete {
            let message = format!(
                "the credential of {cluster} may not {}; add the cluster again to grant the {role}'s role",
                list(&self.missing)
            );
            (Severity::Error, message)
        } else {
            let mut ways = Vec::new();
            if !self.missing.is_empty() && !self.incomplete {
                ways.push(
                    "may not read MeshExports, so any authority of our root may speak for its workloads"
                        .to_owned(),
                );
            }
            if !self.more.is_empty() {
                ways.push(format!(
                    "may do more than {need}: {}; whoever steals it may too",
                    list(&self.more)
                ));
            }
            if ways.is_empty() {
                return None;
            }
            let message = format!(
                "the credential of {cluster} {}: let `catamaran cluster add {cluster}{option}` make one that may do just \
                 what is needed",
                ways.join(", and ")
            );
            (Severity::Warning, message)
        };
        Some(Problem {
            severity,
            kind: ProblemKind::BadObject,
            cluster: Some(cluster.clone()),
            object: format!("Cluster {cluster}"),
            message,
        })
    }
}

fn has(words: Option<&Vec<String>>, wanted: &str) -> bool {
    words.is_some_and(|words| words.iter().any(|word| word == "*" || word == wanted))
}

/// Whether a rule allows it, be it for objects of some names only.
fn allows(rule: &ResourceRule, verb: &str, group: &str, resource: &str) -> bool {
    has(Some(&rule.verbs), verb)
        && has(rule.api_groups.as_ref(), group)
        && has(rule.resources.as_ref(), resource)
}

fn grants(rule: &ResourceRule, verb: &str, group: &str, resource: &str) -> bool {
    rule.resource_names.as_ref().is_none_or(Vec::is_empty) && allows(rule, verb, group, resource)
}

fn needed(verb: &str, group: &str, resource: &str, names: &[String]) -> bool {
    let read = VERBS.contains(&verb);
    let of_use = NEEDED.contains(&(group, resource)) || (group, resource) == ("", "nodes");
    let about_self = verb == "create" && ABOUT_SELF.contains(&(group, resource));
    // A token for itself, and for nobody else.
    let own =
        (verb, group, resource) == ("create", "", "serviceaccounts/token") && names.len() == 1;
    read && of_use || about_self || own
}

fn named(group: &str, resource: &str) -> String {
    match group {
        "" => resource.to_owned(),
        group => format!("{resource}.{group}"),
    }
}

#[cfg(test)]
mod tests;
