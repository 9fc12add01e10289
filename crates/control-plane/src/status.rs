//! The back door: what goes back to people and to peers. How the instance stands, what each proxy has taken, and the
//! `MeshExport` by which other primaries know of us.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use catamaran_kubernetes::beats::Beat;
use catamaran_kubernetes::connect::Access;
use catamaran_kubernetes::write::{ExportWord, Phase, Standing, Writer};
use catamaran_local::fleet::ClusterDir;
use catamaran_local::object::MeshObject;
use catamaran_local::write::{self, Outcome};
use catamaran_model::{
    ClusterId, Fingerprint, MemberMode, MeshExport, MeshName, MeshSpec, Timestamp, Version,
};
use catamaran_process::Process;
use catamaran_registry::{Freshness, Problem, ProblemKind, Severity, Snapshot};
use catamaran_translate::Capability;
use catamaran_xds::TypeUrlKind;
use serde::{Deserialize, Serialize};

use crate::keeper::{Health, Kept};
use crate::lead::Lead;
use crate::replicas::Replicas;
use crate::serving::Authority;
use crate::tell::{Slot, Tell};

/// How long to wait before a `MeshExport` that could not be written is written again.
const AGAIN: Duration = Duration::from_secs(2);
/// How often replicas are looked at.
const LOOK: Duration = Duration::from_secs(5);
/// How often the status of a `MeshExport` is written when nothing changed, and when only counts did.
const STATUS_AGAIN: Duration = Duration::from_secs(300);
const STATUS_COUNTS: Duration = Duration::from_secs(30);
/// As many intermediates as a `MeshExport` takes.
const MAX_INTERMEDIATES: usize = 16;
/// A response without an answer for longer than this makes a proxy pending.
const SLOW: Duration = Duration::from_secs(1);

/// `GET /v1/status`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The instance.
    pub mesh: String,
    /// Its managed cluster.
    pub cluster: String,
    /// The version it runs.
    pub version: String,
    /// Its region.
    pub region: Option<String>,
    /// Where it is on its way.
    pub state: State,
    /// Why it is not running yet, in words.
    pub because: Vec<String>,
    /// Whether it serves.
    pub ready: bool,
    /// What readiness waits for.
    pub waiting_for: Vec<String>,
    /// The number of the picture that this says.
    pub snapshot: u64,
    /// How many services are known.
    pub services: usize,
    /// Every cluster.
    pub clusters: Vec<ClusterStatus>,
    /// The gateways into each network.
    pub gateways: Vec<GatewayStatus>,
    /// The proxies in numbers.
    pub proxies: ProxyCounts,
    /// With what it signs.
    pub trust: Option<TrustStatus>,
    /// What people should know.
    pub problems: Vec<ProblemStatus>,
    /// Whether this replica writes status, roots and events; only of an instance with several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub writes: Option<bool>,
    /// The one that does, by its name in the lease.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub writer: Option<String>,
}

impl Status {
    /// With what the other replicas say of their proxies.
    pub(crate) fn with(mut self, others: &BTreeMap<String, Beat>) -> Status {
        for beat in others.values() {
            self.proxies.connected += beat.proxies as usize;
            self.proxies.pending += beat.pending as usize;
            for refusal in &beat.refusals {
                let problem = ProblemStatus {
                    severity: "error".into(),
                    kind: "refused".into(),
                    cluster: Some(self.cluster.clone()),
                    object: refusal.object.clone(),
                    message: refusal.message.clone(),
                };
                // the same refusal of several replicas is one
                let known = |other: &ProblemStatus| {
                    other.kind == problem.kind && other.object == problem.object
                };
                if !self.problems.iter().any(known) {
                    self.problems.push(problem);
                }
            }
        }
        self
    }
}

/// Where an instance is on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// It has no complete view of its own cluster yet.
    Creating,
    /// A cluster that was added has not completed its first list, or proxies do not have everything yet.
    Updating,
    /// All is told and taken.
    Running,
}

/// One cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterStatus {
    /// Its name.
    pub name: String,
    /// `managed` or `discovery_only`.
    pub mode: String,
    /// The network it is assigned to.
    pub network: Option<String>,
    /// `unknown`, `fresh` or `stale`.
    pub freshness: String,
    /// Since when it is stale, RFC 3339.
    pub since: Option<String>,
    /// Why it is stale.
    pub reason: Option<String>,
    /// The revision of the last complete list.
    pub revision: u64,
    /// How many services it has.
    pub services: usize,
    /// How many endpoints it has.
    pub endpoints: usize,
    /// Since when a list of it is held back, RFC 3339.
    pub held_since: Option<String>,
    /// The instance that manages it, as it says.
    pub mesh: Option<String>,
    /// The version of that instance.
    pub version: Option<String>,
    /// The region of that instance.
    pub region: Option<String>,
    /// SHA-256 of the roots that instance trusts.
    pub roots: Vec<String>,
    /// SHA-256 of the intermediates that speak for its workloads.
    pub intermediates: Vec<String>,
}

/// One gateway.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GatewayStatus {
    /// The network it leads into.
    pub network: String,
    /// The cluster it stands in.
    pub cluster: String,
    /// `ip:port`
    pub address: String,
}

/// The proxies in numbers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProxyCounts {
    /// Connected.
    pub connected: usize,
    /// Those that have taken everything.
    pub current: usize,
    /// Those that have not yet.
    pub pending: usize,
    /// Those that refused something.
    pub rejected: usize,
}

/// With what the instance signs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrustStatus {
    /// The trust domain.
    pub trust_domain: String,
    /// SHA-256 of the roots it trusts.
    pub roots: Vec<String>,
    /// The subject of the issuing certificate.
    pub issuer: String,
    /// SHA-256 of the issuing certificate.
    pub intermediate: String,
    /// Its serial number in hex.
    pub serial: String,
    /// The kind of its key.
    pub algorithm: String,
    /// Its begin, RFC 3339.
    pub not_before: String,
    /// Its end, RFC 3339.
    pub not_after: String,
}

/// One problem.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProblemStatus {
    /// `error` or `warning`.
    pub severity: String,
    /// `root_mismatch`, as the page under `docs/operate/` is called.
    pub kind: String,
    /// The cluster concerned.
    pub cluster: Option<String>,
    /// The object concerned.
    pub object: String,
    /// What is wrong, and the next step.
    pub message: String,
}

/// `GET /v1/proxies`: one proxy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProxyStatus {
    /// `POD.NAMESPACE`
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// Its pod.
    pub pod: String,
    /// Proved by its certificate.
    pub service_account: String,
    /// `sidecar` or `gateway`.
    pub role: String,
    /// `catamaran` or `envoy`.
    pub capability: String,
    /// Where it connects from.
    pub address: String,
    /// `current`, `pending` or `rejected`.
    pub state: String,
    /// Kind by kind.
    pub kinds: Vec<KindStatus>,
    /// What it refused, one line each.
    pub rejected: Vec<String>,
}

/// How a proxy stands with one kind of resource.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KindStatus {
    /// `cluster`, `endpoints`, ...
    pub kind: String,
    /// `current` or `pending`.
    pub state: String,
    /// Resources still to be sent or taken away.
    pub pending: usize,
    /// When it last took something, RFC 3339.
    pub accepted_at: Option<String>,
}

/// What the back door looks at.
#[derive(Clone)]
pub(crate) struct Reporter {
    pub(crate) mesh: MeshName,
    pub(crate) cluster: ClusterId,
    pub(crate) version: Version,
    pub(crate) kept: Kept,
    pub(crate) tell: Tell,
    pub(crate) authority: Arc<Authority>,
    pub(crate) process: Process,
    pub(crate) exporting: Arc<Mutex<Option<Problem>>>,
    /// Of clusters that are managed beside the own one.
    pub(crate) managed: crate::managed::Complaints,
    /// Of several replicas one writes.
    pub(crate) lead: Option<Lead>,
    pub(crate) now: fn() -> Timestamp,
}

impl Reporter {
    /// How the instance stands.
    pub(crate) async fn status(&self) -> Status {
        let snapshot = self.kept.snapshots.borrow().clone();
        let proxies = self.counts();
        let because = self.unfinished(&snapshot, &proxies);
        let own = snapshot.clusters.get(&self.cluster);
        let known =
            own.is_some_and(|view| view.freshness != Freshness::Unknown) && snapshot.mesh.is_some();
        Status {
            mesh: self.mesh.to_string(),
            cluster: self.cluster.to_string(),
            version: self.version.to_string(),
            region: snapshot
                .mesh
                .as_ref()
                .and_then(|mesh| Some(mesh.region.as_ref()?.to_string())),
            state: match (known, because.is_empty()) {
                (false, _) => State::Creating,
                (true, false) => State::Updating,
                (true, true) => State::Running,
            },
            because,
            ready: self.process.is_ready(),
            waiting_for: self.process.waiting_for(),
            snapshot: snapshot.number,
            services: snapshot.services.len(),
            clusters: snapshot.clusters.iter().map(cluster_status).collect(),
            gateways: (snapshot.gateways.iter())
                .flat_map(|(network, all)| {
                    all.iter().map(|(cluster, at)| GatewayStatus {
                        network: network.to_string(),
                        cluster: cluster.to_string(),
                        address: at.to_string(),
                    })
                })
                .collect(),
            proxies,
            trust: self.authority.issuer().map(|issuer| TrustStatus {
                trust_domain: issuer.trust_domain().to_string(),
                roots: issuer
                    .bundle()
                    .fingerprints()
                    .iter()
                    .map(ToString::to_string)
                    .collect(),
                issuer: issuer.facts().subject.clone(),
                intermediate: issuer.fingerprint().to_string(),
                serial: issuer.facts().serial.clone(),
                algorithm: issuer.facts().key_algorithm.to_string(),
                not_before: utc(issuer.facts().not_before),
                not_after: utc(issuer.not_after()),
            }),
            problems: self
                .problems(&snapshot)
                .await
                .iter()
                .map(problem_status)
                .collect(),
            writes: self.lead.as_ref().map(Lead::leads),
            writer: self.lead.as_ref().and_then(Lead::holder),
        }
    }

    /// The proxies of this replica in numbers.
    pub(crate) fn counts(&self) -> ProxyCounts {
        counts(&self.streams(), (self.now)())
    }

    fn unfinished(&self, snapshot: &Snapshot, proxies: &ProxyCounts) -> Vec<String> {
        let mut because = Vec::new();
        let own = snapshot.clusters.get(&self.cluster);
        if own.is_none_or(|view| view.freshness == Freshness::Unknown) {
            because.push(format!(
                "the first list of {} is not complete",
                self.cluster
            ));
        } else if snapshot.mesh.is_none() {
            because.push(format!(
                "{} has no Mesh object named {}",
                self.cluster, self.mesh
            ));
        }
        for (cluster, view) in &snapshot.clusters {
            if *cluster != self.cluster && view.freshness == Freshness::Unknown {
                because.push(format!("the first list of {cluster} is not complete"));
            }
        }
        if proxies.pending > 0 {
            because.push(format!(
                "{} proxies have not taken everything yet",
                proxies.pending
            ));
        }
        because
    }

    /// Everything that people should know, each once, the worst first.
    async fn problems(&self, snapshot: &Snapshot) -> Vec<Problem> {
        let mut problems = snapshot.problems.to_vec();
        problems.extend(self.kept.health.borrow().problems.iter().cloned());
        problems.extend(self.authority.problems().iter().cloned());
        problems.extend(crate::managed::problems(&self.managed));
        problems.extend(
            self.exporting
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .clone(),
        );
        problems.extend(self.lead.iter().filter_map(|lead| lead.problem(&self.mesh)));
        problems.extend(self.tell.problems().await);
        problems.sort();
        problems.dedup();
        problems
    }

    /// Every connected proxy.
    pub(crate) fn proxies(&self) -> Vec<ProxyStatus> {
        let now = (self.now)();
        let streams = self.streams();
        let mut proxies: Vec<_> = streams.iter().map(|slot| proxy_status(slot, now)).collect();
        proxies.sort_by(|a, b| (&a.name, &a.address).cmp(&(&b.name, &b.address)));
        proxies
    }

    /// The streams of proxies. One on which only names are asked for is that of the agent beside an Envoy, which has its own.
    fn streams(&self) -> Vec<Arc<Slot>> {
        let mut streams = self.tell.streams();
        streams.retain(|slot| {
            let kinds = slot.told().kinds;
            kinds.is_empty() || kinds.iter().any(|kind| kind.kind != TypeUrlKind::Names)
        });
        streams
    }
}

fn counts(streams: &[Arc<Slot>], now: Timestamp) -> ProxyCounts {
    let mut counts = ProxyCounts {
        connected: streams.len(),
        ..ProxyCounts::default()
    };
    for slot in streams {
        match state_of(slot, now) {
            "current" => counts.current += 1,
            "rejected" => counts.rejected += 1,
            _ => counts.pending += 1,
        }
    }
    counts
}

fn state_of(slot: &Slot, now: Timestamp) -> &'static str {
    let told = slot.told();
    if !told.refusals.is_empty() {
        return "rejected";
    }
    let late = |kind: &catamaran_xds::KindStatus| {
        kind.unanswered_since
            .is_some_and(|since| now.since(since) > SLOW)
            || kind.accepted_at.is_none()
    };
    match told.in_sync || (!told.kinds.is_empty() && !told.kinds.iter().any(late)) {
        true => "current",
        false => "pending",
    }
}

fn proxy_status(slot: &Slot, now: Timestamp) -> ProxyStatus {
    let (proxy, told) = (&slot.proxy, slot.told());
    let mut rejected: Vec<String> = (told.refusals.iter())
        .map(|refusal| {
            format!(
                "{} {}: {}",
                refusal.kind.word(),
                refusal.name,
                refusal.reason
            )
        })
        .collect();
    rejected.extend(told.rejected.filter(|_| rejected.is_empty()));
    ProxyStatus {
        name: format!("{}.{}", proxy.workload.pod, proxy.workload.namespace),
        namespace: proxy.workload.namespace.to_string(),
        pod: proxy.workload.pod.to_string(),
        service_account: proxy.service_account.to_string(),
        role: if proxy.gateway { "gateway" } else { "sidecar" }.into(),
        capability: match proxy.capability {
            Capability::Catamaran => "catamaran",
            Capability::Envoy => "envoy",
        }
        .into(),
        address: proxy.address.to_string(),
        state: state_of(slot, now).into(),
        kinds: (told.kinds.iter())
            .map(|kind| KindStatus {
                kind: kind.kind.word().into(),
                state: match kind.pending == 0 && kind.unanswered_since.is_none() {
                    true => "current",
                    false => "pending",
                }
                .into(),
                pending: kind.pending,
                accepted_at: kind.accepted_at.map(utc),
            })
            .collect(),
        rejected,
    }
}

fn cluster_status((name, view): (&ClusterId, &catamaran_registry::ClusterView)) -> ClusterStatus {
    let (freshness, since, reason) = match &view.freshness {
        Freshness::Unknown => ("unknown", None, None),
        Freshness::Fresh => ("fresh", None, None),
        Freshness::Stale { since, reason } => ("stale", Some(utc(*since)), Some(reason.clone())),
    };
    let export = view.export.as_ref();
    let hex = |prints: &Vec<Fingerprint>| prints.iter().map(ToString::to_string).collect();
    ClusterStatus {
        name: name.to_string(),
        mode: match view.mode {
            MemberMode::Managed => "managed",
            MemberMode::DiscoveryOnly => "discovery_only",
        }
        .into(),
        network: view.network.as_ref().map(ToString::to_string),
        freshness: freshness.into(),
        since,
        reason,
        revision: view.revision.0,
        services: view.services,
        endpoints: view.endpoints,
        held_since: view.held_since.map(utc),
        mesh: export.map(|export| export.mesh.to_string()),
        version: export.map(|export| export.version.to_string()),
        region: export.and_then(|export| Some(export.region.as_ref()?.to_string())),
        roots: export.map(|export| hex(&export.roots)).unwrap_or_default(),
        intermediates: export
            .map(|export| hex(&export.intermediates))
            .unwrap_or_default(),
    }
}

fn problem_status(problem: &Problem) -> ProblemStatus {
    ProblemStatus {
        severity: match problem.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        }
        .into(),
        kind: match problem.kind {
            ProblemKind::PortConflict => "port_conflict",
            ProblemKind::ShrinkHeld => "shrink_held",
            ProblemKind::NoGateway => "no_gateway",
            ProblemKind::PlainAcrossNetworks => "plain_across_networks",
            ProblemKind::DiscoveryLost => "discovery_lost",
            ProblemKind::DuplicateCluster => "duplicate_cluster",
            ProblemKind::BadObject => "bad_object",
            ProblemKind::RootMismatch => "root_mismatch",
            ProblemKind::Refused => "refused",
            ProblemKind::Limit => "limit",
        }
        .into(),
        cluster: problem.cluster.as_ref().map(ToString::to_string),
        object: problem.object.clone(),
        message: problem.message.clone(),
    }
}

/// RFC 3339, in UTC, to the second.
pub(crate) fn utc(at: Timestamp) -> String {
    let format = &time::format_description::well_known::Rfc3339;
    let seconds = i64::try_from(at.seconds()).unwrap_or(i64::MAX);
    let text = time::OffsetDateTime::from_unix_timestamp(seconds)
        .ok()
        .and_then(|at| at.format(format).ok());
    text.unwrap_or_else(|| at.to_string())
}

/// What this instance says of itself; `None` while it does not know itself.
pub(crate) fn export(
    snapshot: &Snapshot,
    authority: &Authority,
    cluster: &ClusterId,
    uid: &str,
    version: &Version,
    now: Timestamp,
) -> Option<MeshExport> {
    let mesh = snapshot.mesh.as_ref()?;
    let issuer = authority.issuer()?;
    let view = snapshot.clusters.get(cluster)?;
    let gateways = snapshot.gateways.values().flatten();
    let mut gateways: Vec<_> = gateways
        .filter(|(stands_in, _)| stands_in == cluster)
        .map(|(_, at)| *at)
        .collect();
    gateways.sort();
    gateways.dedup();
    Some(MeshExport {
        mesh: mesh.name.clone(),
        cluster: cluster.clone(),
        cluster_uid: uid.into(),
        version: version.clone(),
        region: mesh.region.clone(),
        network: view.network.clone(),
        gateways,
        roots: issuer.bundle().fingerprints(),
        intermediates: authority.intermediates(now),
        digest: digest(mesh),
    })
}

/// Of the settings without the instance's name, so that equal settings have equal digests.
fn digest(mesh: &MeshSpec) -> String {
    let settings = serde_json::to_vec(&MeshObject::of(mesh).spec).unwrap_or_default();
    catamaran_xds::Version::of(&settings).to_string()
}

/// Where our word to peers goes: our own cluster.
pub(crate) enum Into {
    Folder(ClusterDir),
    Server(Box<Exported>),
}

/// An API server, to which the one that leads writes.
pub(crate) struct Exported {
    writer: Writer,
    lead: Lead,
    replicas: Replicas,
    led: bool,
    word: Option<(ExportWord, Timestamp)>,
}

/// What a cluster's UID is known by.
pub(crate) enum Uid {
    Said(String),
    Heard(tokio::sync::watch::Receiver<Health>, ClusterId),
}

impl Uid {
    fn now(&mut self) -> Option<String> {
        match self {
            Uid::Said(uid) => Some(uid.clone()),
            Uid::Heard(health, cluster) => health.borrow_and_update().uids.get(cluster).cloned(),
        }
    }

    async fn changed(&mut self) {
        match self {
            Uid::Said(_) => std::future::pending().await,
            // The keeper is gone only when the process stops.
            Uid::Heard(health, _) => {
                if health.changed().await.is_err() {
                    std::future::pending().await
                }
            }
        }
    }
}

/// What an export is written with.
pub(crate) struct Exporter {
    pub(crate) into: Into,
    pub(crate) cluster: ClusterId,
    /// The UID of the managed cluster, once it is known.
    pub(crate) uid: Uid,
    pub(crate) version: Version,
    pub(crate) authority: Arc<Authority>,
    pub(crate) problem: Arc<Mutex<Option<Problem>>>,
}

/// Writes the `MeshExport` of the instance into its own cluster whenever its content changes, and nothing anywhere else.
pub(crate) fn keep_exported(
    mut exporter: Exporter,
    snapshots: tokio::sync::watch::Receiver<Arc<Snapshot>>,
    process: &Process,
    now: fn() -> Timestamp,
) {
    let stopping = process.stopping();
    process.run("export", async move {
        let (mut snapshots, mut authority) = (snapshots, exporter.authority.changes());
        let mut lead = exporter.into.lead().map(Lead::changes);
        let stop = stopping.wait();
        tokio::pin!(stop);
        let mut written: Option<MeshExport> = None;
        loop {
            let snapshot = snapshots.borrow_and_update().clone();
            authority.borrow_and_update();
            let leads = exporter.into.takes_over(&mut written);
            let said = exporter.uid.now().and_then(|uid| {
                let said = export(
                    &snapshot,
                    &exporter.authority,
                    &exporter.cluster,
                    &uid,
                    &exporter.version,
                    now(),
                );
                Some(exporter.into.with_others(said?))
            });
            let mut failed = false;
            if let Some(said) = said.filter(|said| leads && written.as_ref() != Some(said)) {
                match exporter.write(said.clone()).await {
                    Ok(()) => written = Some(said),
                    Err(()) => failed = true,
                }
            }
            if let (true, Some(said)) = (leads, &written) {
                exporter.write_status(&said.mesh, &snapshot, now()).await;
            }
            let turn = async {
                match &mut lead {
                    // The replicas, and what they say, are looked at now and then.
                    Some(lead) => drop(tokio::time::timeout(LOOK, lead.changed()).await),
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = &mut stop => return Ok::<(), Infallible>(()),
                _ = snapshots.changed() => {}
                _ = authority.changed() => {}
                () = exporter.uid.changed() => {}
                () = turn => {}
                () = tokio::time::sleep(AGAIN), if failed => {}
            }
        }
    });
}

impl Into {
    /// An API server, written to by the one that leads.
    pub(crate) fn server(access: Access, lead: Lead, replicas: Replicas) -> Into {
        Into::Server(Box::new(Exported {
            writer: Writer::new(access, lead.identity().to_owned()),
            lead,
            replicas,
            led: false,
            word: None,
        }))
    }

    fn lead(&self) -> Option<&Lead> {
        match self {
            Into::Folder(_) => None,
            Into::Server(exported) => Some(&exported.lead),
        }
    }

    /// Whether we write; what another may have written since is written anew.
    fn takes_over(&mut self, written: &mut Option<MeshExport>) -> bool {
        let Into::Server(exported) = self else {
            return true;
        };
        let leads = exported.lead.leads();
        if leads && !exported.led {
            *written = None;
            exported.word = None;
            exported.writer.forget();
        }
        exported.led = leads;
        leads
    }

    /// What other replicas sign with is ours too: files come to each of them in their own time.
    fn with_others(&self, said: MeshExport) -> MeshExport {
        match self {
            Into::Folder(_) => said,
            Into::Server(exported) => with_others(said, &exported.replicas),
        }
    }
}

/// With the intermediates of other replicas, in whichever cluster it is said.
pub(crate) fn with_others(mut said: MeshExport, replicas: &Replicas) -> MeshExport {
    let others = replicas.others();
    for print in others.values().flat_map(Beat::intermediates) {
        // no more than the definition takes; ours come first
        if said.intermediates.len() < MAX_INTERMEDIATES && !said.intermediates.contains(&print) {
            said.intermediates.push(print);
        }
    }
    said.intermediates.sort();
    said
}

impl Exporter {
    async fn write(&mut self, export: MeshExport) -> Result<(), ()> {
        let mesh = export.mesh.clone();
        let written = match &mut self.into {
            Into::Folder(dir) => {
                let dir = dir.clone();
                let written = tokio::task::spawn_blocking(move || write::put_export(&dir, &export));
                match written.await {
                    Ok(Ok(outcome)) => Ok(outcome != Outcome::Unchanged),
                    Ok(Err(error)) => Err(error.to_string()),
                    Err(error) => Err(error.to_string()),
                }
            }
            Into::Server(exported) => {
                let put = exported.writer.put_export(&export);
                match exported.lead.write(put).await {
                    // it is another's now
                    None => return Err(()),
                    Some(written) => written
                        .map(|()| true)
                        .map_err(|failure| failure.about("MeshExports")),
                }
            }
        };
        let mut problem = self.problem.lock().unwrap_or_else(PoisonError::into_inner);
        match written {
            Ok(changed) => {
                *problem = None;
                if changed {
                    tracing::info!(%mesh, "told peers what changed");
                }
                Ok(())
            }
            Err(error) => {
                if problem.is_none() {
                    tracing::warn!("MeshExport {mesh}: {error}");
                }
                *problem = Some(Problem {
                    severity: Severity::Warning,
                    kind: ProblemKind::BadObject,
                    cluster: Some(self.cluster.clone()),
                    object: format!("MeshExport catamaran-system/{mesh}"),
                    message: format!(
                        "it cannot be written, so peers know us as we were: {error}; it is tried again"
                    ),
                });
                Err(())
            }
        }
    }

    /// How we are, beside what we say: nothing waits for it, so it is written less often.
    async fn write_status(&mut self, mesh: &MeshName, snapshot: &Snapshot, now: Timestamp) {
        let (Into::Server(exported), Some(view)) =
            (&mut self.into, snapshot.clusters.get(&self.cluster))
        else {
            return;
        };
        let problems = self.authority.problems();
        let worst = problems.iter().find(|one| one.severity == Severity::Error);
        let issuer = self.authority.issuer();
        let (phase, reason, because) = match (&issuer, worst, &view.freshness) {
            (None, ..) => (
                Phase::Pending,
                Some("NoAuthority"),
                "it has no authority to sign with".to_owned(),
            ),
            (_, Some(problem), _) => (
                Phase::Degraded,
                Some("Authority"),
                format!("{}: {}", problem.object, problem.message),
            ),
            (_, None, Freshness::Stale { reason, .. }) => {
                let why = format!("what it knows of its own cluster is not fresh: {reason}");
                (Phase::Degraded, Some("Stale"), why)
            }
            (_, None, _) => (
                Phase::Ready,
                None,
                "it watches, serves and signs".to_owned(),
            ),
        };
        let before = exported.word.as_ref();
        let stood = before.map(|(word, _)| &word.standing);
        let since = stood.filter(|stood| stood.phase == phase);
        let word = ExportWord {
            standing: Standing {
                phase,
                reason,
                because,
                since: since.map_or(now, |stood| stood.since),
            },
            counts: [view.services, view.endpoints],
            replicas: exported.replicas.count(),
            signs_until: issuer.map(|issuer| issuer.not_after()),
        };
        let due = match before {
            None => true,
            Some((known, at)) if *known == word => now.since(*at) >= STATUS_AGAIN,
            // counts change all the time in a large cluster, and each write wakes every peer
            Some((known, at)) => {
                let recounted = ExportWord {
                    counts: word.counts,
                    ..known.clone()
                };
                recounted != word || now.since(*at) >= STATUS_COUNTS
            }
        };
        if !due {
            return;
        }
        let put = exported.writer.put_export_status(mesh, &word, now);
        match exported.lead.write(put).await {
            Some(Ok(())) => exported.word = Some((word, now)),
            Some(Err(failure)) => {
                tracing::warn!("{}", failure.about("the status of MeshExports"));
            }
            None => {}
        }
    }
}

#[cfg(test)]
mod tests;
