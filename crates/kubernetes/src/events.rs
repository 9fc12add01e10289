//! Events about our own objects, in `events.k8s.io/v1`: what `kubectl describe` and `kubectl get events` show.
//!
//! The name of an event follows from what it says, so that two replicas that say the same make one event. What is said again
//! later becomes a series of it.

use std::time::Duration;

use catamaran_model::{ClusterId, MeshName, SpiffeId, Timestamp};
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::{Event, EventSeries};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Resource as _};
use serde_json::json;

use crate::connect::Access;
use crate::crd::{Cluster, FIELD_MANAGER, Mesh};
use crate::failure::Failure;
use crate::lease::micros;
use crate::write::Written;

/// An answer may take this long.
const LIMIT: Duration = Duration::from_secs(5);
/// Who says it.
const CONTROLLER: &str = "catamaran.dev/control-plane";
/// The API server takes no longer texts.
const MAX_NOTE: usize = 1024;
const MAX_INSTANCE: usize = 128;
/// Two replicas that see the same thing see it within this time of each other.
const SAME: Duration = Duration::from_secs(60);

/// What an event is about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum About {
    /// The instance.
    Mesh(MeshName),
    /// One of its clusters.
    Cluster(ClusterId),
}

/// An event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    /// What it is about.
    pub about: About,
    /// Whether people should act on it.
    pub warning: bool,
    /// Why, in one word: `DiscoveryLost`.
    pub reason: &'static str,
    /// In words for people.
    pub note: String,
    /// Since when it is so.
    pub since: Timestamp,
    /// It lasts, and was said before: it is said again so that it can still be read.
    pub again: bool,
}

/// Writes an event about an object, in the name of a replica.
///
/// # Errors
/// Why it is not there.
pub async fn put(
    access: &Access,
    object: &Written,
    said: &Said,
    replica: &str,
    now: Timestamp,
) -> Result<(), Failure> {
    let api: Api<Event> = Api::namespaced(access.client().clone(), SpiffeId::SYSTEM_NAMESPACE);
    let event = event(object, said, replica, now);
    let name = event.metadata.name.clone().unwrap_or_default();
    let params = PostParams {
        field_manager: Some(FIELD_MANAGER.into()),
        ..PostParams::default()
    };
    let mut deleted = false;
    loop {
        match within(access, api.create(&params, &event)).await {
            Ok(_) => return Ok(()),
            Err(Failure::Unexpected { code: 409, .. }) => {}
            Err(failure) => return Err(failure),
        }
        let Some(found) = within(access, api.get_opt(&name)).await? else {
            // it ended in this moment
            if std::mem::replace(&mut deleted, true) {
                return Ok(());
            }
            continue;
        };
        let Some(series) = series(&found, said, now) else {
            return Ok(());
        };
        let patch = json!({
            "apiVersion": "events.k8s.io/v1", "kind": "Event",
            "metadata": {"resourceVersion": found.metadata.resource_version},
            "series": series,
        });
        let params = PatchParams {
            field_manager: Some(FIELD_MANAGER.into()),
            ..PatchParams::default()
        };
        let patch = Patch::Merge(&patch);
        return match within(access, api.patch(&name, &params, &patch)).await {
            // another replica was first
            Ok(_) | Err(Failure::Unexpected { code: 409, .. } | Failure::Absent) => Ok(()),
            Err(failure) => Err(failure),
        };
    }
}

/// What becomes of an event that is there already; nothing when this was said by another replica.
fn series(found: &Event, said: &Said, now: Timestamp) -> Option<EventSeries> {
    let millis = |at: &MicroTime| u64::try_from(at.0.as_millisecond()).unwrap_or(0);
    let last = match &found.series {
        Some(series) => millis(&series.last_observed_time),
        None => found.event_time.as_ref().map_or(0, millis),
    };
    let known = Timestamp(last).after(SAME) >= said.since;
    if known && !said.again {
        return None;
    }
    let count = found.series.as_ref().map_or(1, |series| series.count);
    Some(EventSeries {
        // the count of an API is of times that it came, not of times that we said it
        count: match known {
            true => count.max(2),
            false => count.saturating_add(1),
        },
        last_observed_time: micros(now),
    })
}

fn event(object: &Written, said: &Said, replica: &str, now: Timestamp) -> Event {
    let note = cut(&said.note, MAX_NOTE);
    let (kind, version, name) = match &said.about {
        About::Mesh(mesh) => (Mesh::kind(&()), Mesh::api_version(&()), mesh.as_str()),
        About::Cluster(cluster) => (
            Cluster::kind(&()),
            Cluster::api_version(&()),
            cluster.as_str(),
        ),
    };
    let mark = mark(&[kind.as_ref(), name, &object.uid, said.reason, &note]);
    // a cluster's name may be as long as an object's
    let of = cut(name, 200);
    let of = of.trim_end_matches(['.', '-']);
    Event {
        metadata: ObjectMeta {
            name: Some(format!("{of}.{mark:016x}")),
            namespace: Some(SpiffeId::SYSTEM_NAMESPACE.into()),
            ..ObjectMeta::default()
        },
        event_time: Some(micros(now)),
        reporting_controller: Some(CONTROLLER.into()),
        reporting_instance: Some(cut(replica, MAX_INSTANCE)),
        action: Some("Watch".into()),
        reason: Some(said.reason.into()),
        note: Some(note),
        type_: Some(if said.warning { "Warning" } else { "Normal" }.into()),
        regarding: Some(ObjectReference {
            api_version: Some(version.into_owned()),
            kind: Some(kind.into_owned()),
            name: Some(name.to_owned()),
            namespace: Some(SpiffeId::SYSTEM_NAMESPACE.into()),
            uid: Some(object.uid.clone()),
            ..ObjectReference::default()
        }),
        ..Event::default()
    }
}

/// As much of a text as fits into so many bytes.
fn cut(text: &str, bytes: usize) -> String {
    let mut end = text.len().min(bytes);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].to_owned()
}

/// FNV-1a: the same in every replica of every version.
fn mark(parts: &[&str]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for part in parts {
        for byte in part.bytes().chain([0]) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
    hash
}

async fn within<T>(
    access: &Access,
    answer: impl Future<Output = Result<T, kube::Error>>,
) -> Result<T, Failure> {
    let answer = tokio::time::timeout(LIMIT, answer).await;
    let answer = answer.map_err(|_| Failure::Slow { limit: LIMIT })?;
    answer.map_err(|error| crate::api::of_error(access, &error))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(note: &str) -> Said {
        Said {
            about: About::Cluster("cluster-2".parse().unwrap()),
            warning: true,
            reason: "DiscoveryLost",
            note: note.into(),
            since: Timestamp(1_000_000),
            again: false,
        }
    }

    fn object() -> Written {
        Written::of("u-1")
    }

    #[test]
    fn replicas_that_say_the_same_make_one_event() {
        let now = Timestamp(1_000_500);
        let name = |said: &Said, replica| event(&object(), said, replica, now).metadata.name;
        assert_eq!(name(&said("gone"), "a"), name(&said("gone"), "b"));
        assert_ne!(name(&said("gone"), "a"), name(&said("other"), "a"));
        let first = event(&object(), &said("gone"), "a", now);
        assert_eq!(series(&first, &said("gone"), Timestamp(1_003_000)), None);
        let again = Said {
            again: true,
            ..said("gone")
        };
        assert_eq!(
            series(&first, &again, Timestamp(3_000_000)).unwrap().count,
            2
        );
        let back = Said {
            since: Timestamp(2_000_000),
            ..said("gone")
        };
        let counted = |count| {
            let series = EventSeries {
                count,
                last_observed_time: micros(Timestamp(1_100_000)),
            };
            Event {
                series: Some(series),
                ..first.clone()
            }
        };
        assert_eq!(
            series(&counted(7), &back, Timestamp(2_000_100))
                .unwrap()
                .count,
            8
        );
    }

    #[test]
    fn a_long_note_is_cut_between_characters() {
        let event = event(
            &object(),
            &said(&"ü".repeat(1000)),
            &"r".repeat(300),
            Timestamp(0),
        );
        assert_eq!(event.note.unwrap().chars().count(), 512);
        assert_eq!(event.reporting_instance.unwrap().len(), 128);
    }
}
