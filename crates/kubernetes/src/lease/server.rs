//! The lease as an object of an API server.

use std::collections::BTreeMap;
use std::time::Duration;

use aws_lc_rs::rand::{SecureRandom as _, SystemRandom};
use catamaran_model::{MeshName, SpiffeId, Timestamp};
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use k8s_openapi::jiff;
use kube::Api;
use kube::api::PostParams;

use super::{Order, Record, Terms, Wrote};
use crate::connect::Access;
use crate::crd::FIELD_MANAGER;
use crate::enrol::INSTANCE_LABEL;
use crate::failure::Failure;

/// An answer may take this long: two of them fit into the time that a leader goes on without one.
const LIMIT: Duration = Duration::from_secs(4);

/// A name for a process that no other has: a pod's containers have one name after another.
pub fn identity(replica: &str) -> String {
    let mut random = [0; 5];
    // Without random numbers nothing else of us would run either.
    let _ = SystemRandom::new().fill(&mut random);
    let random: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{replica}_{random}")
}

/// The lease of an instance.
#[derive(Debug, Clone)]
pub struct Leases {
    access: Access,
    mesh: MeshName,
    terms: Terms,
    /// What was read last, so that what others wrote beside our fields stays.
    seen: Option<Lease>,
}

impl Leases {
    /// The name of the lease.
    pub fn name(mesh: &MeshName) -> String {
        format!("catamaran-{mesh}")
    }

    /// The lease of this instance, in the cluster that `access` leads to.
    pub fn new(access: Access, mesh: MeshName, terms: Terms) -> Leases {
        Leases {
            access,
            mesh,
            terms,
            seen: None,
        }
    }

    fn api(&self) -> Api<Lease> {
        Api::namespaced(self.access.client().clone(), SpiffeId::SYSTEM_NAMESPACE)
    }

    /// Reads it; nothing when it is not there.
    ///
    /// # Errors
    /// Why it is not known.
    pub async fn read(&mut self) -> Result<Option<Record>, Failure> {
        let name = Leases::name(&self.mesh);
        let api = self.api();
        let found = within(&self.access, api.get_opt(&name)).await?;
        self.seen = found;
        Ok(self.seen.as_ref().map(record))
    }

    /// Makes, takes or renews it for `identity`, with what went wrong for people.
    pub async fn write(
        &mut self,
        order: &Order,
        identity: &str,
        now: Timestamp,
    ) -> (Wrote, Option<Failure>) {
        let before = self.seen.as_ref().and_then(|lease| lease.spec.clone());
        let before = before.unwrap_or_default();
        let renews = matches!(order, Order::Renew(_));
        let transitions = before.lease_transitions.unwrap_or(0);
        let spec = LeaseSpec {
            holder_identity: Some(identity.to_owned()),
            lease_duration_seconds: i32::try_from(self.terms.life.as_secs()).ok(),
            acquire_time: match renews {
                true => before.acquire_time,
                false => Some(micros(now)),
            },
            renew_time: Some(micros(now)),
            lease_transitions: Some(match order {
                Order::Take(_) => transitions.saturating_add(1),
                _ => transitions,
            }),
            ..LeaseSpec::default()
        };
        let version = match order {
            Order::Read | Order::Make => None,
            Order::Take(version) | Order::Renew(version) => Some(version.clone()),
        };
        let wrote = self.put(version, spec).await;
        match wrote {
            Ok(lease) => {
                let record = record(&lease);
                self.seen = Some(lease);
                (Wrote::Done(record), None)
            }
            Err(failure) => (came_of(&failure), Some(failure)),
        }
    }

    /// Gives it back, so that another need not wait until it ends.
    ///
    /// # Errors
    /// Why it is not given back.
    pub async fn release(&mut self, version: String, now: Timestamp) -> Result<(), Failure> {
        let before = self.seen.as_ref().and_then(|lease| lease.spec.clone());
        let spec = LeaseSpec {
            holder_identity: None,
            lease_duration_seconds: Some(1),
            acquire_time: None,
            renew_time: Some(micros(now)),
            ..before.unwrap_or_default()
        };
        self.put(Some(version), spec).await.map(drop)
    }

    async fn put(&self, version: Option<String>, spec: LeaseSpec) -> Result<Lease, Failure> {
        let name = Leases::name(&self.mesh);
        let seen = self.seen.as_ref().filter(|_| version.is_some());
        let mut labels = seen
            .and_then(|lease| lease.metadata.labels.clone())
            .unwrap_or_default();
        labels.extend(self::labels(&self.mesh));
        let lease = Lease {
            metadata: ObjectMeta {
                name: Some(name.clone()),
                namespace: Some(SpiffeId::SYSTEM_NAMESPACE.into()),
                annotations: seen.and_then(|lease| lease.metadata.annotations.clone()),
                labels: Some(labels),
                resource_version: version.clone(),
                ..ObjectMeta::default()
            },
            spec: Some(spec),
        };
        let params = PostParams {
            field_manager: Some(FIELD_MANAGER.into()),
            ..PostParams::default()
        };
        let api = self.api();
        let written = async {
            match version {
                None => api.create(&params, &lease).await,
                Some(_) => api.replace(&name, &params, &lease).await,
            }
        };
        within(&self.access, written).await
    }
}

pub(crate) fn labels(mesh: &MeshName) -> BTreeMap<String, String> {
    let labels = [
        ("app.kubernetes.io/part-of", "catamaran"),
        (INSTANCE_LABEL, mesh.as_str()),
    ];
    labels
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into()
}

/// Whether a write that failed may have been done all the same.
fn came_of(failure: &Failure) -> Wrote {
    match failure {
        // 409 of a version or of a name that is there already; 404 of an object that was deleted meanwhile
        Failure::Unexpected { code: 409, .. } | Failure::Absent => Wrote::Conflict,
        Failure::Unauthorized { .. }
        | Failure::Forbidden { .. }
        | Failure::Busy { .. }
        | Failure::Unexpected { .. }
        | Failure::Address { .. }
        | Failure::Tls { .. } => Wrote::Refused,
        _ => Wrote::Unknown,
    }
}

fn record(lease: &Lease) -> Record {
    let spec = lease.spec.clone().unwrap_or_default();
    let life = spec.lease_duration_seconds.unwrap_or(0);
    Record {
        holder: spec.holder_identity.unwrap_or_default(),
        version: lease.metadata.resource_version.clone().unwrap_or_default(),
        life: Duration::from_secs(u64::try_from(life).unwrap_or(0)),
    }
}

pub(crate) fn micros(at: Timestamp) -> MicroTime {
    let millis = i64::try_from(at.0).unwrap_or(i64::MAX);
    MicroTime(jiff::Timestamp::from_millisecond(millis).unwrap_or(jiff::Timestamp::MAX))
}

async fn within<T>(
    access: &Access,
    answer: impl Future<Output = Result<T, kube::Error>>,
) -> Result<T, Failure> {
    let answer = tokio::time::timeout(LIMIT, answer).await;
    let answer = answer.map_err(|_| Failure::Slow { limit: LIMIT })?;
    answer.map_err(|error| crate::api::of_error(access, &error))
}
