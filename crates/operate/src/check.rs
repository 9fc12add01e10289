//! `check`: what must hold in a fleet, looked at one by one, the likeliest cause of silent failures first.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use catamaran_identity::LEAF_LIFE;
use catamaran_local::fleet::{ClusterDir, Isolation};
use catamaran_local::netns::{self, Network};
use catamaran_local::node::{PodRecord, Stage};
use catamaran_local::object::{Object, SERVICE_NAME_LABEL};
use catamaran_local::write;
use catamaran_model::{
    ClusterId, ClusterName, Member, MemberMode, MtlsMode, Namespace, ServiceKey, ServiceName,
    SpiffeId, Version,
};
use serde::Serialize;

use crate::control_plane::{self, ControlPlaneStatus};
use crate::fleet::{Illegible, Instance, now};
use crate::mesh_list::has_export;
use crate::mesh_state::{MeshState, Seen, judge};
use crate::network_set::torn_networks;
use crate::probe::{self, Probe};
use crate::status::gateways_in;
use crate::trust::authority_of;
use crate::{Fleet, OperateError, list_proxies};

/// What came of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// It holds.
    Pass,
    /// It may not be as wanted.
    Warn,
    /// It does not hold.
    Fail,
    /// There is nothing to look at, for the reason said.
    Skip,
}

/// One check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// `trust`, `discovery`, `network`, `control`, `workloads` or `problems`.
    pub group: &'static str,
    /// A stable name.
    pub id: &'static str,
    /// What came of it.
    pub verdict: Verdict,
    /// What was seen, in one line.
    pub seen: String,
    /// Why it does not hold.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub cause: String,
    /// What to do.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub fix: String,
}

/// All checks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CheckReport {
    /// One by one, by group.
    pub checks: Vec<Check>,
    /// How many hold.
    pub passed: usize,
    /// How many do not.
    pub failed: usize,
    /// How many may not be as wanted.
    pub warnings: usize,
    /// How many had nothing to look at.
    pub skipped: usize,
    /// The clusters from which gateways were probed.
    pub checked_from: Vec<String>,
}

/// One instance with what it says.
struct Told {
    instance: Instance,
    status: Result<ControlPlaneStatus, String>,
    roots: Vec<catamaran_model::Fingerprint>,
}

impl Told {
    fn name(&self) -> &str {
        self.instance.spec.name.as_str()
    }

    fn discovers(&self) -> impl Iterator<Item = &catamaran_model::Member> {
        let members = self.instance.members.iter();
        members.filter(|member| member.mode == MemberMode::DiscoveryOnly)
    }
}

/// Checks the whole fleet.
pub async fn check(fleet: &Fleet) -> Result<CheckReport, OperateError> {
    let mut told = Vec::new();
    let (instances, illegible) = fleet.legible()?;
    for instance in instances {
        let status = control_plane::status(&instance.home).await;
        let roots = fleet.roots(&instance.home).unwrap_or_default();
        told.push(Told {
            instance,
            status,
            roots,
        });
    }
    let stopped = stopped(fleet, &told).await?;
    let mut checks = vec![
        same_root(&told),
        chains_verify(&told),
        certificates_live(&told),
        objects_legible(&told, &illegible),
        clusters_run(&told, &stopped),
        instances_run(&told).await,
        watch_fresh(&told),
        networks_agree(&told),
        networks_whole(fleet, &told),
        gateways_known(&told, &stopped),
    ];
    let (probes, checked_from) = gateway_probes(fleet, &told, &stopped).await?;
    checks.extend(probes);
    checks.push(versions(&told));
    checks.push(pods_ready(&told, &stopped)?);
    checks.push(no_plaintext(&told)?);
    checks.push(proxies_current(fleet, &stopped).await?);
    checks.extend(problems(&told));
    let count = |verdict| {
        checks
            .iter()
            .filter(|check| check.verdict == verdict)
            .count()
    };
    Ok(CheckReport {
        passed: count(Verdict::Pass),
        failed: count(Verdict::Fail),
        warnings: count(Verdict::Warn),
        skipped: count(Verdict::Skip),
        checks,
        checked_from,
    })
}

/// Puts one verdict together from what is wrong and what was seen.
fn verdict(
    group: &'static str,
    id: &'static str,
    bad: Verdict,
    wrong: Vec<String>,
    seen: Vec<String>,
    fix: impl Into<String>,
) -> Check {
    let (verdict, seen, cause, fix) = match (wrong.is_empty(), seen.is_empty()) {
        (false, _) => (bad, wrong.join("; "), String::new(), fix.into()),
        (true, false) => (
            Verdict::Pass,
            seen.join(" · "),
            String::new(),
            String::new(),
        ),
        (true, true) => (
            Verdict::Skip,
            "nothing to look at".into(),
            String::new(),
            String::new(),
        ),
    };
    Check {
        group,
        id,
        verdict,
        seen,
        cause,
        fix,
    }
}

fn same_root(told: &[Told]) -> Check {
    let (mut wrong, mut seen) = (Vec::new(), BTreeSet::new());
    let mut fix = String::new();
    for one in told {
        for member in one.discovers() {
            let peer = told
                .iter()
                .find(|other| *other.instance.home.name() == member.cluster);
            let Some(peer) = peer else { continue };
            let shared = one.roots.iter().find(|root| peer.roots.contains(root));
            match shared {
                Some(root) => {
                    let mut pair = [one.name(), peer.name()];
                    pair.sort();
                    seen.insert(format!(
                        "{} and {} share {}",
                        pair[0],
                        pair[1],
                        root.short()
                    ));
                }
                None => {
                    let print =
                        |told: &Told| told.roots.first().map_or("none".into(), |r| r.short());
                    wrong.push(format!(
                        "{} has {}, {} in {} has {}",
                        one.name(),
                        print(one),
                        peer.name(),
                        member.cluster,
                        print(peer)
                    ));
                    fix = format!(
                        "create {} anew with --reuse-root {}, or catamaran cluster remove {} --mesh {}",
                        peer.name(),
                        one.name(),
                        member.cluster,
                        one.name()
                    );
                }
            }
        }
    }
    let seen = seen.into_iter().collect();
    verdict("trust", "same-root", Verdict::Fail, wrong, seen, fix)
}

fn chains_verify(told: &[Told]) -> Check {
    let (mut wrong, mut seen) = (Vec::new(), Vec::new());
    for one in told {
        match authority_of(&one.instance.home) {
            Ok(authority) => seen.push(format!(
                "{}: intermediate {} under its root",
                one.name(),
                authority.fingerprint().short()
            )),
            Err(error) => wrong.push(format!("{}: {error}", one.name())),
        }
    }
    verdict(
        "trust",
        "chains-verify",
        Verdict::Fail,
        wrong,
        seen,
        "catamaran trust renew MESH",
    )
}

fn certificates_live(told: &[Told]) -> Check {
    let now = now();
    let (mut wrong, mut seen) = (Vec::new(), Vec::new());
    let mut worst = Verdict::Warn;
    for one in told {
        let Ok(authority) = authority_of(&one.instance.home) else {
            continue;
        };
        let facts = authority.facts();
        let left = facts.not_after.since(now);
        let days = left.as_secs() / 86_400;
        if left <= LEAF_LIFE {
            worst = Verdict::Fail;
            wrong.push(format!(
                "the intermediate of {} has less left than one certificate lives",
                one.name()
            ));
        } else if facts.half_life() <= now {
            wrong.push(format!(
                "the intermediate of {} is past half its life, {days} d are left",
                one.name()
            ));
        } else {
            seen.push(format!("{}: {days} d", one.name()));
        }
    }
    verdict(
        "trust",
        "certificates-live",
        worst,
        wrong,
        seen,
        "catamaran trust renew MESH",
    )
}

/// Every cluster's objects can be read.
fn objects_legible(told: &[Told], illegible: &[Illegible]) -> Check {
    let wrong = illegible
        .iter()
        .map(|one| {
            format!(
                "the objects of {} cannot be read: {}",
                one.cluster, one.reason
            )
        })
        .collect();
    let homes = told.iter().map(|one| one.instance.home.name().as_str());
    let seen = match told.is_empty() {
        true => Vec::new(),
        false => vec![homes.collect::<Vec<_>>().join(", ")],
    };
    let fix = "give back the folder objects/ of the cluster; nothing that runs is ended meanwhile";
    verdict(
        "discovery",
        "objects-legible",
        Verdict::Fail,
        wrong,
        seen,
        fix,
    )
}

/// The clusters whose node and control plane are both silent. A node alone may be away while its pods go on.
async fn stopped(fleet: &Fleet, told: &[Told]) -> Result<BTreeSet<ClusterId>, OperateError> {
    let mut stopped = BTreeSet::new();
    for dir in fleet.clusters()? {
        let answers = |one: &Told| one.instance.home.name() == dir.name() && one.status.is_ok();
        if !told.iter().any(answers) && !catamaran_local::lifecycle::node_answers(&dir).await {
            stopped.insert(dir.name().clone());
        }
    }
    Ok(stopped)
}

/// Every cluster of an instance runs. One that is only discovered may be stopped for a while, and is a warning.
fn clusters_run(told: &[Told], stopped: &BTreeSet<ClusterId>) -> Check {
    let (mut wrong, mut seen) = (Vec::new(), Vec::new());
    let (mut worst, mut fixes) = (Verdict::Warn, Vec::new());
    let members = told.iter().flat_map(|one| &one.instance.members);
    for cluster in members.map(|m| &m.cluster).collect::<BTreeSet<_>>() {
        if !stopped.contains(cluster) {
            seen.push(format!("{cluster} running"));
            continue;
        }
        wrong.push(format!("{cluster} is stopped"));
        fixes.push(format!("catamaran cluster start {cluster}"));
        if told.iter().any(|one| one.instance.home.name() == cluster) {
            worst = Verdict::Fail;
        }
    }
    let fix = fixes.join("; ");
    verdict("discovery", "clusters-run", worst, wrong, seen, fix)
}

/// Instances give a cluster the same network; one that gives none has no say.
fn networks_agree(told: &[Told]) -> Check {
    let mut given: BTreeMap<&ClusterId, Vec<(&str, &str)>> = BTreeMap::new();
    for one in told {
        for member in &one.instance.members {
            if let Some(network) = &member.network {
                let said = given.entry(&member.cluster).or_default();
                said.push((network.as_str(), one.name()));
            }
        }
    }
    let (mut wrong, mut seen) = (Vec::new(), Vec::new());
    for (cluster, said) in given {
        let names: BTreeSet<&str> = said.iter().map(|(network, _)| *network).collect();
        match names.len() {
            1 => seen.push(format!("{cluster} in {}", said[0].0)),
            _ => {
                let words: Vec<String> = (said.iter())
                    .map(|(network, mesh)| format!("{network} for {mesh}"))
                    .collect();
                wrong.push(format!("{cluster} is in {}", words.join(", ")));
            }
        }
    }
    let fix = "name one network in all of them: catamaran network set --mesh M C=NETWORK";
    verdict("network", "networks-agree", Verdict::Warn, wrong, seen, fix)
}

/// No logical network spans two physical ones: its pods would be called directly, in vain. Without namespaces all pods reach
/// each other, and it is only a warning.
fn networks_whole(fleet: &Fleet, told: &[Told]) -> Check {
    let (mut wrong, mut seen) = (Vec::new(), BTreeSet::new());
    for one in told {
        let members: BTreeMap<&ClusterId, &Member> = (one.instance.members.iter())
            .map(|member| (&member.cluster, member))
            .collect();
        seen.extend(
            members
                .values()
                .filter_map(|m| Some(m.network.as_ref()?.to_string())),
        );
        let torn = torn_networks(fleet, &members).into_iter();
        wrong.extend(torn.map(|what| format!("{}: {what}", one.name())));
    }
    let bad = match fleet.file.isolation {
        Isolation::Netns => Verdict::Fail,
        Isolation::Process => Verdict::Warn,
    };
    let fix =
        "give each its own network: catamaran network set --mesh M C1=NETWORK1,gateway C2=NETWORK2";
    verdict(
        "network",
        "networks-whole",
        bad,
        wrong,
        seen.into_iter().collect(),
        fix,
    )
}

async fn instances_run(told: &[Told]) -> Check {
    let (mut wrong, mut seen) = (Vec::new(), Vec::new());
    for one in told {
        let node = catamaran_local::lifecycle::node_answers(&one.instance.home).await;
        let said = one.status.as_ref().map_err(String::as_str);
        let known = has_export(&one.instance);
        match judge(&one.instance, &Seen { said, node, known }) {
            (MeshState::Running, _) => seen.push(format!("{} running", one.name())),
            (state, why) => wrong.push(format!("{} {}: {why}", one.name(), state.as_str())),
        }
    }
    let fix = "catamaran cluster start C for a cluster that is stopped; else see catamaran logs and the cluster's logs/";
    verdict(
        "discovery",
        "instances-run",
        Verdict::Fail,
        wrong,
        seen,
        fix,
    )
}

fn watch_fresh(told: &[Told]) -> Check {
    let (mut wrong, mut seen) = (Vec::new(), Vec::new());
    for one in told {
        let Ok(status) = &one.status else { continue };
        for member in one.discovers() {
            let link = format!("{}→{}", one.name(), member.cluster);
            match status.of_cluster(member.cluster.as_str()) {
                Some(cluster) if cluster.freshness == "fresh" => seen.push(format!("{link} fresh")),
                Some(cluster) => {
                    let since = cluster
                        .since
                        .as_ref()
                        .map_or(String::new(), |at| format!(" since {at}"));
                    let reason = cluster
                        .reason
                        .as_ref()
                        .map_or(String::new(), |why| format!(": {why}"));
                    wrong.push(format!("{link} {}{since}{reason}", cluster.freshness));
                }
                None => wrong.push(format!("{link} not taken up")),
            }
        }
    }
    let fix = "the endpoints known keep their full weight; make the cluster's API (its folder) readable again";
    verdict("discovery", "watch-fresh", Verdict::Fail, wrong, seen, fix)
}

fn gateways_known(told: &[Told], stopped: &BTreeSet<ClusterId>) -> Check {
    let (mut wrong, mut seen) = (Vec::new(), Vec::new());
    for one in told {
        let Ok(status) = &one.status else { continue };
        let own = (one.instance.member(one.instance.home.name())).and_then(|m| m.network.clone());
        for member in one.discovers() {
            if member.network == own || stopped.contains(&member.cluster) {
                continue;
            }
            let gateways = status.gateways_of(member.cluster.as_str());
            match gateways.is_empty() {
                false => seen.push(format!(
                    "{} knows {} of {}",
                    one.name(),
                    gateways.join(", "),
                    member.cluster
                )),
                true => wrong.push(format!(
                    "{} knows no gateway of {}",
                    one.name(),
                    member.cluster
                )),
            }
        }
    }
    let fix = "catamaran network set --mesh M C=NETWORK,gateway for the instance that manages C, or give its address: C=NETWORK,gateway=IP:PORT";
    verdict("network", "gateways-known", Verdict::Fail, wrong, seen, fix)
}

async fn gateway_probes(
    fleet: &Fleet,
    told: &[Told],
    stopped: &BTreeSet<ClusterId>,
) -> Result<(Vec<Check>, Vec<String>), OperateError> {
    let mut checks = Vec::new();
    let mut from = BTreeSet::new();
    for one in told {
        let home = &one.instance.home;
        let own = one
            .instance
            .member(home.name())
            .and_then(|member| member.network.clone());
        for member in one.discovers().filter(|member| member.network != own) {
            if let Some(name) = [home.name(), &member.cluster]
                .into_iter()
                .find(|name| stopped.contains(*name))
            {
                checks.push(Check {
                    group: "network",
                    id: "gateway-probe",
                    verdict: Verdict::Skip,
                    seen: format!(
                        "{} → gateway of {}: {name} is stopped",
                        home.name(),
                        member.cluster
                    ),
                    cause: String::new(),
                    fix: String::new(),
                });
                continue;
            }
            let dir = fleet.cluster(&member.cluster)?;
            let known = match &one.status {
                Ok(status) => status.gateways_of(member.cluster.as_str()),
                Err(_) => gateways_in(&write::status(&dir)?)
                    .into_iter()
                    .map(|(_, at)| at)
                    .collect(),
            };
            for address in known {
                from.insert(home.name().to_string());
                let sni = name_behind(&dir);
                let reached = probe_from(fleet, home, &address, sni.as_deref()).await;
                checks.push(probed(
                    home,
                    &member.cluster,
                    &address,
                    sni.as_deref(),
                    reached,
                ));
            }
        }
    }
    if checks.is_empty() {
        checks.push(Check {
            group: "network",
            id: "gateway-probe",
            verdict: Verdict::Skip,
            seen: "no cluster is reached through a gateway".into(),
            cause: String::new(),
            fix: String::new(),
        });
    }
    Ok((checks, from.into_iter().collect()))
}

fn probed(
    home: &ClusterDir,
    cluster: &catamaran_model::ClusterId,
    address: &str,
    sni: Option<&str>,
    reached: Probe,
) -> Check {
    let way = format!("{} → gateway of {cluster} {address}", home.name());
    let (verdict, seen, cause, fix) = match reached {
        Probe::Tls { ms } => (
            Verdict::Pass,
            format!("{way}: ServerHello after {ms} ms"),
            "",
            "",
        ),
        Probe::Tcp { ms } => (
            Verdict::Pass,
            format!("{way}: TCP after {ms} ms (no service behind it yet to ask TLS of)"),
            "",
            "",
        ),
        Probe::NoHello { reason } => (
            Verdict::Fail,
            format!(
                "{way}: TCP connects, {reason} (asked for {})",
                sni.unwrap_or("-")
            ),
            "the gateway does not know the name, or nobody ready stands behind it",
            "catamaran proxy list; catamaran proxy config C/catamaran-system/eastwest-gateway listeners",
        ),
        Probe::NoConnection { reason } => (
            Verdict::Fail,
            format!("{way}: no TCP connection: {reason}"),
            "the gateway does not run, or the networks are cut",
            "catamaran status; catamaran cluster start C",
        ),
    };
    Check {
        group: "network",
        id: "gateway-probe",
        verdict,
        seen,
        cause: cause.into(),
        fix: fix.into(),
    }
}

/// The SNI of a service that has a ready endpoint in a cluster.
fn name_behind(dir: &ClusterDir) -> Option<String> {
    let objects = write::status(dir).ok()?;
    let domain = Default::default();
    let services = write::objects(dir).ok()?;
    for object in objects.values() {
        let Object::EndpointSlice(slice) = &**object else {
            continue;
        };
        let namespace = slice.metadata.namespace.as_deref().unwrap_or("default");
        if namespace == SpiffeId::SYSTEM_NAMESPACE {
            continue;
        }
        let ready = slice
            .endpoints
            .iter()
            .any(|endpoint| endpoint.conditions.ready == Some(true));
        let Some(name) = slice
            .metadata
            .labels
            .get(SERVICE_NAME_LABEL)
            .filter(|_| ready)
        else {
            continue;
        };
        let key = ServiceKey::new(
            Namespace::new(namespace).ok()?,
            ServiceName::new(name).ok()?,
        );
        let service = services.values().find_map(|object| match &**object {
            Object::Service(service)
                if service.metadata.name == *name
                    && service.metadata.namespace.as_deref().unwrap_or("default") == namespace =>
            {
                service.spec.ports.first()
            }
            _ => None,
        });
        if let Some(port) = service {
            return Some(ClusterName::outbound(port.port, key.host(&domain)).sni());
        }
    }
    None
}

/// Probes from where a cluster's packets come: with namespaces from its network's router.
async fn probe_from(fleet: &Fleet, home: &ClusterDir, address: &str, sni: Option<&str>) -> Probe {
    let unreadable = |reason: String| Probe::NoConnection { reason };
    if fleet.file.isolation == Isolation::Process {
        return match address.parse() {
            Ok(address) => probe::probe(address, sni).await,
            Err(_) => unreadable(format!("{address} is not IP:PORT")),
        };
    }
    let network = match home.read() {
        Ok(cluster) => Network::of(&fleet.file, &cluster).network(),
        Err(error) => return unreadable(error.to_string()),
    };
    let mut command = vec![
        fleet.program.display().to_string(),
        "probe".into(),
        address.into(),
    ];
    if let Some(sni) = sni {
        command.extend(["--sni".into(), sni.into()]);
    }
    let ran = tokio::task::spawn_blocking(move || {
        let words: Vec<&str> = command.iter().map(String::as_str).collect();
        netns::in_netns(&network, &words, None)
    });
    match tokio::time::timeout(Duration::from_secs(10), ran).await {
        Ok(Ok(Ok(output))) => serde_json::from_str(output.trim())
            .unwrap_or_else(|e| unreadable(format!("the probe's answer cannot be read: {e}"))),
        Ok(Ok(Err(error))) => unreadable(error.to_string()),
        Ok(Err(error)) => unreadable(error.to_string()),
        Err(_) => unreadable("the probe does not end".into()),
    }
}

fn versions(told: &[Told]) -> Check {
    let said: Vec<(&str, &str)> = (told.iter())
        .filter_map(|one| Some((one.name(), one.status.as_ref().ok()?.version.as_str())))
        .collect();
    let distinct: BTreeSet<&str> = said.iter().map(|(_, version)| *version).collect();
    let near = |a: &str, b: &str| match (Version::new(a), Version::new(b)) {
        (Ok(a), Ok(b)) => a.is_neighbour(&b),
        _ => a == b,
    };
    let apart = (distinct.iter()).any(|a| distinct.iter().any(|b| !near(a, b)));
    let all = said
        .iter()
        .map(|(name, version)| format!("{name} {version}"))
        .collect::<Vec<_>>();
    let (wrong, seen) = match apart {
        true => (
            vec![format!("not neighbours: {}", all.join(", "))],
            Vec::new(),
        ),
        false => (Vec::new(), all),
    };
    verdict(
        "control",
        "versions",
        Verdict::Warn,
        wrong,
        seen,
        "bring the older instance up by one version at a time",
    )
}

fn no_plaintext(told: &[Told]) -> Result<Check, OperateError> {
    let (mut wrong, mut seen) = (Vec::new(), Vec::new());
    for one in told {
        if one.instance.spec.mtls == MtlsMode::Permissive {
            wrong.push(format!(
                "{} accepts plain text (mtls: Permissive)",
                one.name()
            ));
        }
        let injected = injected(&one.instance.home)?;
        let plain: Vec<String> = PodRecord::all(&one.instance.home)
            .into_iter()
            .filter(|pod| !pod.sidecar && pod.deployment.is_some())
            .map(|pod| match injected.contains(&pod.namespace) {
                true => format!(
                    "{}/{} is older than the injection of its namespace",
                    pod.namespace, pod.name
                ),
                false => format!("{}/{} has no sidecar", pod.namespace, pod.name),
            })
            .collect();
        match plain.is_empty() {
            true => seen.push(format!(
                "{} mTLS only, every pod has its sidecar",
                one.name()
            )),
            false => wrong.push(format!(
                "in {}: {}",
                one.instance.home.name(),
                plain.join(", ")
            )),
        }
    }
    let fix = "catamaran namespace inject NS --mesh M, then scale the Deployment to 0 and back";
    Ok(verdict(
        "control",
        "no-plaintext",
        Verdict::Warn,
        wrong,
        seen,
        fix,
    ))
}

/// Every Deployment has the pods it asks for, all ready; its callers meet fewer otherwise.
fn pods_ready(told: &[Told], stopped: &BTreeSet<ClusterId>) -> Result<Check, OperateError> {
    let (mut wrong, mut seen) = (Vec::new(), Vec::new());
    for home in told.iter().map(|one| &one.instance.home) {
        if stopped.contains(home.name()) {
            continue;
        }
        let pods = PodRecord::all(home);
        let mut all = 0;
        for (key, object) in write::objects(home)? {
            let Object::Deployment(deployment) = &*object else {
                continue;
            };
            let (namespace, name) = (key.namespace.as_str(), &key.name);
            let wanted = deployment.spec.replicas.unwrap_or(1) as usize;
            let of_it: Vec<&PodRecord> = (pods.iter())
                .filter(|pod| pod.deployment.as_ref() == Some(name) && pod.namespace == namespace)
                .filter(|pod| pod.stage == Stage::Living)
                .collect();
            let ready = of_it.iter().filter(|pod| pod.ready).count();
            all += ready;
            if ready != wanted {
                let why = of_it.iter().find_map(|pod| pod.waiting.as_ref());
                let why = why.map_or(String::new(), |why| format!(" ({why})"));
                wrong.push(format!(
                    "{}: {namespace}/{name} has {ready} ready of {wanted} pods{why}",
                    home.name()
                ));
            }
        }
        seen.push(format!("{} {all}", home.name()));
    }
    Ok(verdict(
        "workloads",
        "pods-ready",
        Verdict::Fail,
        wrong,
        seen,
        "catamaran status; catamaran logs CLUSTER deploy/NAME",
    ))
}

fn injected(home: &ClusterDir) -> Result<BTreeSet<String>, OperateError> {
    let objects = write::objects(home)?;
    let names = objects.values().filter_map(|object| match &**object {
        Object::Namespace(namespace) if namespace.inject() => Some(namespace.metadata.name.clone()),
        _ => None,
    });
    Ok(names.collect())
}

async fn proxies_current(
    fleet: &Fleet,
    stopped: &BTreeSet<ClusterId>,
) -> Result<Check, OperateError> {
    let mut proxies = list_proxies(fleet).await?;
    proxies.retain(|proxy| !stopped.iter().any(|name| name.as_str() == proxy.cluster));
    let current = proxies
        .iter()
        .filter(|proxy| proxy.state == "current")
        .count();
    let wrong: Vec<String> = (proxies.iter())
        .filter(|proxy| proxy.state != "current")
        .map(|proxy| {
            let detail = match proxy.detail.is_empty() {
                true => String::new(),
                false => format!(" ({})", proxy.detail.join("; ")),
            };
            format!(
                "{} in {} {}{detail}",
                proxy.name(),
                proxy.cluster,
                proxy.state
            )
        })
        .collect();
    let seen = match proxies.is_empty() {
        true => Vec::new(),
        false => vec![format!("{current}/{} current", proxies.len())],
    };
    Ok(verdict(
        "control",
        "proxies-current",
        Verdict::Fail,
        wrong,
        seen,
        "catamaran proxy list",
    ))
}

fn problems(told: &[Told]) -> Vec<Check> {
    let mut checks = Vec::new();
    for one in told {
        let Ok(status) = &one.status else { continue };
        checks.extend(status.problems.iter().map(|problem| Check {
            group: "problems",
            id: "control-plane-problem",
            verdict: match problem.severity.as_str() {
                "error" => Verdict::Fail,
                _ => Verdict::Warn,
            },
            seen: format!("{} says {} of {}", one.name(), problem.kind, problem.object),
            cause: problem.message.clone(),
            fix: String::new(),
        }));
    }
    if checks.is_empty() && told.iter().any(|one| one.status.is_ok()) {
        checks.push(Check {
            group: "problems",
            id: "control-plane-problem",
            verdict: Verdict::Pass,
            seen: "no control plane knows of a problem".into(),
            cause: String::new(),
            fix: String::new(),
        });
    }
    checks
}

#[cfg(test)]
mod tests;
