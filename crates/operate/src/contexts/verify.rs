//! `verify` for contexts: calls from a pod, as its program would make them, by a command in it.

use std::time::Duration;

use catamaran_kubernetes::connect::Access;
use catamaran_kubernetes::failure::Failure;
use catamaran_kubernetes::sight::Pod;
use catamaran_kubernetes::{pod, sight, workload};
use catamaran_local::exec::Target;
use catamaran_model::Namespace;
use http::Uri;

use crate::OperateError;
use crate::contact::{Contact, ContactError};
use crate::tally::{Tally, tally};
use crate::verify::{CALL_SECONDS, MAX_CALLS, no_calls, read, script};

/// Calls `url` from a pod, one call after the other, with the curl in it. An error means that calls could not be made at all;
/// failed calls are in the tally.
///
/// # Errors
/// When there is no such pod, or the context may not run a command in it.
pub async fn context_verify(
    contact: &Contact,
    namespace: &Namespace,
    target: &Target,
    url: &Uri,
    count: u32,
) -> Result<Tally, OperateError> {
    let there = contact.reach()?;
    let namespace = namespace.as_str();
    let failed = |what: &str| ContactError::failed(&there.who, what);
    let pods = match target {
        Target::Deployment(name) => workload::pods_of(&there.access, namespace, name)
            .await
            .map_err(failed("deployments"))?,
        Target::Pod(name) => {
            let pods = sight::pods(&there.access, Some(namespace), "").await;
            let mut pods = pods.map_err(failed("pods"))?;
            pods.retain(|pod| pod.name == *name);
            (!pods.is_empty()).then_some(pods)
        }
    };
    let from = format!("{target} in namespace {namespace} of {}", there.who);
    let none = |cause: String| OperateError::NotHeld {
        what: format!("no calls could be made from {from}"),
        cause,
        fix: format!("see kubectl{} get pods -n {namespace}", contact.option()),
    };
    let pods = pods.ok_or_else(|| none("it is not there".into()))?;
    let ready = pods.iter().find(|pod| pod.ready && !pod.ending);
    let Some(ready) = ready else {
        let why = pods.iter().find_map(|pod| pod.waiting.clone());
        return Err(none(
            why.unwrap_or_else(|| "none of its pods is ready".into()),
        ));
    };
    let called = calls(&there.access, ready, url, count).await;
    called.map_err(|error| match error {
        NoCalls::Failed(Failure::Forbidden { .. }) => OperateError::MissingRights {
            context: contact.short().to_owned(),
            purpose: "run a command in the pod",
            missing: vec![pod::run_rights(namespace)],
        },
        NoCalls::Failed(failure) => failed("a command in the pod")(failure),
        NoCalls::Ended(code, said) => no_calls(&from, Some(code), &said),
    })
}

/// Why calls were not made.
pub(crate) enum NoCalls {
    /// The command was not run.
    Failed(Failure),
    /// It ended before its time.
    Ended(i32, String),
}

impl NoCalls {
    pub(crate) fn words(self) -> String {
        match self {
            NoCalls::Failed(failure) => failure.about("a command in the pod"),
            NoCalls::Ended(127, _) => "there is no curl in the pod".into(),
            NoCalls::Ended(code, said) => format!("exit code {code}: {said}"),
        }
    }
}

/// Makes calls from a pod that is known.
pub(crate) async fn calls(
    access: &Access,
    from: &Pod,
    url: &Uri,
    count: u32,
) -> Result<Tally, NoCalls> {
    let count = count.clamp(1, MAX_CALLS);
    let limit = Duration::from_secs(u64::from(CALL_SECONDS * count) + 30);
    let container = from.container.as_deref();
    let command = script(url, count);
    let (namespace, name) = (&from.namespace, &from.name);
    let ran = pod::run(access, namespace, name, container, &command, limit).await;
    let ran = ran.map_err(NoCalls::Failed)?;
    match ran.code {
        0 => Ok(tally(&read(&ran.out))),
        code => Err(NoCalls::Ended(code, ran.err.trim().to_owned())),
    }
}
