//! `proxy list` and `proxy config` for contexts.

use catamaran_kubernetes::failure::Failure;
use catamaran_kubernetes::pod;
use catamaran_kubernetes::sight::{self, Pod};
use catamaran_model::SpiffeId;
use serde_json::Value;

use super::{Heard, SYSTEM, Side, gather, silent, some_answer};
use crate::OperateError;
use crate::contact::Contact;
use crate::proxies::{ConfigKind, ProxyRow, Running, find, merge};

/// `proxy list` for contexts: the proxies that control planes know, and those that pods have.
///
/// # Errors
/// When a context cannot be used at all, or no side answers.
pub async fn context_proxies(contacts: &[Contact]) -> Result<Heard<ProxyRow>, OperateError> {
    let mut sides = gather(contacts).await?;
    some_answer(&mut sides)?;
    let (rows, failures) = list(&sides).await;
    let mut silent = silent(&sides);
    silent.extend(failures);
    Ok(Heard { rows, silent })
}

/// The proxies of all sides, and why some may be missing.
pub(crate) async fn list(sides: &[Side]) -> (Vec<ProxyRow>, Vec<String>) {
    let (mut rows, mut silent) = (Vec::new(), Vec::new());
    for side in sides {
        let Ok(found) = &side.found else { continue };
        let Some(asked) = found.instances.first() else {
            continue;
        };
        let pods = match sight::pods(&side.access, None, "").await {
            Ok(pods) => pods,
            Err(failure) => {
                silent.push(format!("{}: {}", side.who, failure.about("pods")));
                Vec::new()
            }
        };
        let running = pods.into_iter().filter_map(running);
        let known = super::known_proxies(&side.access, asked).await;
        let mesh = Some(asked.told.spec.name.to_string());
        rows.extend(merge(&side.cluster(), mesh, running, known));
    }
    (rows, silent)
}

fn running(pod: Pod) -> Option<Running> {
    let gateway = is_gateway(&pod);
    if pod.ending || !(pod.sidecar || gateway) {
        return None;
    }
    Some(Running {
        role: if gateway { "gateway" } else { "sidecar" },
        pod: pod.name,
        namespace: pod.namespace,
        waiting: pod.waiting,
    })
}

pub(crate) fn is_gateway(pod: &Pod) -> bool {
    pod.namespace == SYSTEM && pod.app.as_deref() == Some(SpiffeId::GATEWAY_ACCOUNT)
}

/// `proxy config` for contexts: what a proxy holds, asked at its pod's loopback.
///
/// # Errors
/// When there is no such proxy, or it does not answer; the rights that are missing are named.
pub async fn context_proxy_config(
    contacts: &[Contact],
    name: &str,
    kind: ConfigKind,
) -> Result<Value, OperateError> {
    let mut sides = gather(contacts).await?;
    some_answer(&mut sides)?;
    let (rows, _) = list(&sides).await;
    let proxy = find(rows, name)?;
    let here = sides.iter().find(|side| side.cluster() == proxy.cluster);
    let side = here.ok_or_else(|| OperateError::UnknownProxy {
        name: name.into(),
        known: Vec::new(),
    })?;
    let who = || format!("the proxy {} in {}", proxy.name(), proxy.cluster);
    let page = kind.page();
    let asked = pod::page(&side.access, &proxy.namespace, &proxy.pod, page).await;
    let (code, body) = asked.map_err(|failure| match failure {
        Failure::Forbidden { .. } => OperateError::MissingRights {
            context: side.contact.short().to_owned(),
            purpose: "ask proxies",
            missing: vec![pod::page_rights(&proxy.namespace)],
        },
        Failure::Silent { why, .. } => OperateError::NoAnswer {
            who: who(),
            reason: why,
        },
        failure => side.failed("the proxy's configuration", failure),
    })?;
    let unreadable = |why: String| OperateError::NoAnswer {
        who: who(),
        reason: why,
    };
    if code != 200 {
        return Err(unreadable(format!(
            "it answered {page} with {code}: {}",
            body.trim()
        )));
    }
    serde_json::from_str(&body)
        .map_err(|error| unreadable(format!("its {page} cannot be read: {error}")))
}
