//! The checks of clusters with API servers, from every side that a context leads to: what is gathered for those that are common,
//! and what only such clusters can lack. What may not be read is skipped with the right that is missing, never green.

use std::collections::BTreeSet;
use std::time::Duration;

use catamaran_kubernetes::failure::Failure;
use catamaran_kubernetes::sight::{self, Deployment, Namespace, Pod, SeenCluster, Service};
use catamaran_kubernetes::{pod, write};
use catamaran_model::{AppProtocol, ClusterId, Member, MemberMode, MeshName};

use super::{
    Check, CheckReport, Replicas, Verdict, certificates_live, chains_verify, gateways_known,
    instances_run, networks_agree, not_probed, pods_ready, probed, problems, proxies_current,
    same_root, verdict, versions, watch_fresh,
};
use crate::contact::Contact;
use crate::contexts::{self, SYSTEM, Side};
use crate::fleet::now;
use crate::probe::Probe;
use crate::told::Told;
use crate::{MeshState, OperateError};

/// A probe in a pod, its start included, may take this long.
const PROBE: Duration = Duration::from_secs(15);
/// Of what is wrong in a cluster, so many are named.
const NAMED: usize = 12;

/// Checks the instances that contexts lead to, from every side. With `probe`, gateways are probed by a command in the control
/// plane's pods, which needs the right to run one.
///
/// # Errors
/// When a context cannot be used at all.
pub async fn check_contexts(
    contacts: &[Contact],
    probe: bool,
) -> Result<CheckReport, OperateError> {
    let sides = contexts::gather(contacts).await?;
    let told: Vec<Told> = sides.iter().flat_map(Side::told).cloned().collect();
    let mut worlds = Vec::new();
    for side in &sides {
        worlds.push(World::of(side).await);
    }
    let silent = BTreeSet::new();
    let mut checks = vec![
        same_root(&told),
        chains_verify(&told),
        certificates_live(&told),
        answers(&sides),
        installed(&sides, &told),
        each_other(&told),
        watch_fresh(
            &told,
            "the endpoints known keep their full weight; see whether that API server runs and lets us in: catamaran cluster add C \
             --mesh M --context OWN --discovery-only --remote-context THERE renews the credential",
        ),
        credentials_live(&sides),
        networks_agree(&told),
        gateways_known(&told, &silent),
    ];
    let (probes, checked_from) = gateway_probes(&sides, probe).await;
    checks.extend(probes);
    checks.push(versions(&told));
    checks.push(webhooks(&worlds));
    checks.push(namespaces(&worlds));
    checks.push(sidecars(&worlds));
    let (proxies, silent) = contexts::list_proxies(&sides).await;
    let mut current = proxies_current(&proxies);
    if let Some(why) = unseen(&sides).into_iter().chain(silent).next() {
        // Rows of `unknown` proxies say nothing against them.
        current = skipped("control", "proxies-current", why);
    }
    checks.push(current);
    checks.push(replicas(&worlds));
    checks.push(ports(&worlds));
    checks.extend(problems(&told));
    Ok(CheckReport::of(checks, checked_from))
}

/// What is read of a cluster beside its instance.
struct World {
    cluster: ClusterId,
    mesh: Option<MeshName>,
    webhook: Result<bool, String>,
    namespaces: Result<Vec<Namespace>, String>,
    pods: Result<Vec<Pod>, String>,
    deployments: Result<Vec<Deployment>, String>,
    services: Result<Vec<Service>, String>,
}

impl World {
    async fn of(side: &Side) -> World {
        let access = &side.access;
        let told = side.told().next();
        let mesh = told.map(|told| told.spec.name.clone());
        let webhook = async {
            match &mesh {
                Some(mesh) => sight::webhook(access, mesh).await,
                None => Ok(false),
            }
        };
        let (webhook, namespaces, pods, deployments, services) = tokio::join!(
            webhook,
            sight::namespaces(access),
            sight::pods(access, None, ""),
            sight::deployments(access, None),
            sight::services(access, None),
        );
        let may = |what: &str, of: &str| {
            let (who, what, right) = (side.who.clone(), what.to_owned(), format!("list {of}"));
            move |failure: Failure| {
                format!("{who}: {}", contexts::not_seen(&failure, &what, &right))
            }
        };
        let cluster = told.map(|told| told.home.clone());
        World {
            cluster: cluster.unwrap_or_else(contexts::nameless),
            webhook: webhook.map_err(may(
                "the webhook",
                "mutatingwebhookconfigurations.admissionregistration.k8s.io",
            )),
            namespaces: namespaces.map_err(may("namespaces", "namespaces")),
            pods: pods.map_err(may("pods", "pods")),
            deployments: deployments.map_err(may("deployments", "deployments.apps")),
            services: services.map_err(may("services", "services")),
            mesh,
        }
    }

    /// The namespaces whose pods get sidecars of its instance.
    fn injected(&self) -> Result<BTreeSet<&str>, &String> {
        let mesh = self.mesh.as_ref().map_or("", MeshName::as_str);
        let all = self.namespaces.as_ref()?.iter();
        let injected = all.filter(|namespace| namespace.injected_by(mesh));
        Ok(injected.map(|namespace| namespace.name.as_str()).collect())
    }
}

fn skipped(group: &'static str, id: &'static str, why: impl Into<String>) -> Check {
    Check {
        group,
        id,
        verdict: Verdict::Skip,
        seen: why.into(),
        cause: String::new(),
        fix: String::new(),
    }
}

/// Why control planes were not asked themselves.
fn unseen(sides: &[Side]) -> Vec<String> {
    let found = sides.iter().flat_map(|side| &side.found);
    let instances = found.flat_map(|found| &found.instances);
    let silent = instances.filter(|asked| asked.answered.is_empty());
    silent.filter_map(|asked| asked.not_asked.clone()).collect()
}

/// Every API server answers.
fn answers(sides: &[Side]) -> Check {
    let (mut wrong, mut seen) = (Vec::new(), Vec::new());
    for side in sides {
        match &side.found {
            Ok(_) => seen.push(format!("{} answers", side.cluster())),
            Err(failure) => {
                wrong.push(format!("{}: {}", side.who, failure.about("its objects")));
            }
        }
    }
    let fix = "see whether kubectl --context CONTEXT version answers";
    verdict("discovery", "clusters-run", Verdict::Fail, wrong, seen, fix)
}

/// Every cluster that a context leads to has an instance, and it runs.
fn installed(sides: &[Side], told: &[Told]) -> Check {
    let fix = "see kubectl --context CONTEXT get pods -n catamaran-system; catamaran mesh create M --context CONTEXT --cluster C \
               brings an instance back to what it was";
    let mut check = instances_run(told, fix);
    let answer = sides.iter().filter(|side| side.found.is_ok());
    let without: Vec<String> = answer
        .filter(|side| side.told().next().is_none())
        .map(|side| format!("no instance in {}", side.who))
        .collect();
    if !without.is_empty() {
        let said = (check.verdict != Verdict::Skip).then(|| check.seen.clone());
        check.seen = without
            .into_iter()
            .chain(said)
            .collect::<Vec<_>>()
            .join("; ");
        check.verdict = Verdict::Fail;
        check.fix = fix.into();
    }
    // What runs with problems is told by them; what it is on its way to is no failure yet.
    let on_its_way = |told: &Told| told.state.0 == MeshState::Updating;
    if check.verdict == Verdict::Fail
        && told.iter().any(on_its_way)
        && told
            .iter()
            .all(|told| on_its_way(told) || told.state.0 == MeshState::Running)
        && sides.iter().all(|side| side.told().next().is_some())
    {
        check.verdict = Verdict::Warn;
    }
    check
}

/// Of two clusters whose instances are looked at, each is discovered by the other's.
fn each_other(told: &[Told]) -> Check {
    let (mut wrong, mut seen, mut fixes) = (Vec::new(), Vec::new(), Vec::new());
    for one in told {
        for other in told.iter().filter(|other| other.home != one.home) {
            match one.member(&other.home) {
                Some(_) => seen.push(format!("{}→{}", one.name(), other.home)),
                None => {
                    wrong.push(format!("{} does not discover {}", one.name(), other.home));
                    fixes.push(format!(
                        "catamaran cluster add {} --mesh {} --context OWN --discovery-only --remote-context THERE",
                        other.home,
                        one.name()
                    ));
                }
            }
        }
    }
    verdict(
        "discovery",
        "each-other",
        Verdict::Fail,
        wrong,
        seen,
        fixes.join("; "),
    )
}

/// The credentials for discovered clusters have not ended.
fn credentials_live(sides: &[Side]) -> Check {
    let now = now();
    let (mut wrong, mut seen, mut fixes) = (Vec::new(), Vec::new(), Vec::new());
    for side in sides {
        let Ok(found) = &side.found else { continue };
        let Some(mesh) = side.told().next() else {
            continue;
        };
        let discovered = |seen: &&SeenCluster| seen.member.mode == MemberMode::DiscoveryOnly;
        for cluster in found.sight.clusters.iter().filter(discovered) {
            let Some(until) = &cluster.credential_expires else {
                continue;
            };
            let link = format!("{}→{}", mesh.name(), cluster.member.cluster);
            match write::from_rfc3339(until) {
                Some(end) if end <= now => {
                    wrong.push(format!("{link} ended at {until}"));
                    fixes.push(format!(
                        "catamaran cluster add {} --mesh {}{} --discovery-only --remote-context THERE",
                        cluster.member.cluster,
                        mesh.name(),
                        side.contact.option()
                    ));
                }
                _ => seen.push(format!("{link} until {until}")),
            }
        }
    }
    verdict(
        "discovery",
        "credentials-live",
        Verdict::Fail,
        wrong,
        seen,
        fixes.join("; "),
    )
}

/// Every instance is asked about new pods.
fn webhooks(worlds: &[World]) -> Check {
    let (mut wrong, mut seen) = (Vec::new(), Vec::new());
    for world in worlds {
        let Some(mesh) = &world.mesh else { continue };
        match &world.webhook {
            Err(why) => return skipped("control", "webhook", why),
            Ok(true) => seen.push(format!("{} asks {mesh} about new pods", world.cluster)),
            Ok(false) => wrong.push(format!(
                "{} does not ask {mesh} about new pods, so none gets a sidecar",
                world.cluster
            )),
        }
    }
    let fix = "the control plane writes it when it runs; see kubectl --context CONTEXT logs -n catamaran-system deploy/catamaran-M";
    verdict("control", "webhook", Verdict::Fail, wrong, seen, fix)
}

/// Some namespace of every cluster asks for sidecars.
fn namespaces(worlds: &[World]) -> Check {
    let (mut wrong, mut seen) = (Vec::new(), Vec::new());
    for world in worlds.iter().filter(|world| world.mesh.is_some()) {
        match world.injected() {
            Err(why) => return skipped("control", "namespaces-injected", why),
            Ok(names) if names.is_empty() => {
                wrong.push(format!(
                    "no namespace of {} asks for sidecars",
                    world.cluster
                ));
            }
            Ok(names) => {
                let names: Vec<&str> = names.into_iter().collect();
                seen.push(format!("{}: {}", world.cluster, names.join(", ")));
            }
        }
    }
    let fix = "kubectl --context CONTEXT label namespace NS istio-injection=enabled";
    verdict(
        "control",
        "namespaces-injected",
        Verdict::Warn,
        wrong,
        seen,
        fix,
    )
}

/// The most of many, and how many more there are.
fn few(mut all: Vec<String>) -> String {
    let more = all.len().saturating_sub(NAMED);
    all.truncate(NAMED);
    match more {
        0 => all.join(", "),
        more => format!("{} and {more} more", all.join(", ")),
    }
}

/// Every pod that is to have a sidecar has one.
fn sidecars(worlds: &[World]) -> Check {
    let (mut wrong, mut seen) = (Vec::new(), Vec::new());
    for world in worlds.iter().filter(|world| world.mesh.is_some()) {
        let (injected, pods) = match (world.injected(), &world.pods) {
            (Ok(injected), Ok(pods)) => (injected, pods),
            (Err(why), _) | (_, Err(why)) => return skipped("control", "no-plaintext", why),
        };
        let wants = |pod: &&Pod| {
            let asked = match pod.asks {
                Some(asks) => asks,
                None => injected.contains(pod.namespace.as_str()),
            };
            asked && !pod.ending && !pod.host_network && pod.namespace != SYSTEM
        };
        let (with, without): (Vec<&Pod>, Vec<&Pod>) =
            pods.iter().filter(wants).partition(|pod| pod.sidecar);
        let without: Vec<String> = (without.iter())
            .map(|pod| format!("{}/{}", pod.namespace, pod.name))
            .collect();
        match without.is_empty() {
            true if with.is_empty() => {}
            true => seen.push(format!(
                "{}: {} pods with their sidecars",
                world.cluster,
                with.len()
            )),
            false => wrong.push(format!(
                "in {}, older than the injection of their namespace: {}",
                world.cluster,
                few(without)
            )),
        }
    }
    let fix = "kubectl --context CONTEXT rollout restart deployment -n NS";
    verdict("control", "no-plaintext", Verdict::Warn, wrong, seen, fix)
}

/// The Deployments of the mesh itself, and of namespaces with sidecars, have the pods they ask for.
fn replicas(worlds: &[World]) -> Check {
    let (mut clusters, mut all) = (Vec::new(), Vec::new());
    for world in worlds.iter().filter(|world| world.mesh.is_some()) {
        let (injected, deployments) = match (world.injected(), &world.deployments) {
            (Ok(injected), Ok(deployments)) => (injected, deployments),
            (Err(why), _) | (_, Err(why)) => return skipped("workloads", "pods-ready", why),
        };
        clusters.push(&world.cluster);
        let ours = |one: &&Deployment| {
            one.namespace == SYSTEM || injected.contains(one.namespace.as_str())
        };
        all.extend(deployments.iter().filter(ours).map(|one| {
            let of_it = |pod: &&Pod| {
                let of = pod.name.strip_prefix(&format!("{}-", one.name));
                pod.namespace == one.namespace && of.is_some() && !pod.ending
            };
            let mut pods = world.pods.iter().flatten().filter(of_it);
            Replicas {
                cluster: world.cluster.clone(),
                name: format!("{}/{}", one.namespace, one.name),
                wanted: usize::try_from(one.wanted).unwrap_or_default(),
                ready: usize::try_from(one.ready).unwrap_or_default(),
                why: pods.find_map(|pod| pod.waiting.clone()),
            }
        }));
    }
    let fix = "kubectl --context CONTEXT describe pods -n NS";
    pods_ready(clusters, &all, fix)
}

/// The Services of namespaces with sidecars say what is spoken at their ports. What is not said is found out by the first bytes,
/// which costs protocols in which the server speaks first.
fn ports(worlds: &[World]) -> Check {
    let (mut wrong, mut seen) = (Vec::new(), Vec::new());
    for world in worlds.iter().filter(|world| world.mesh.is_some()) {
        let (injected, services) = match (world.injected(), &world.services) {
            (Ok(injected), Ok(services)) => (injected, services),
            (Err(why), _) | (_, Err(why)) => return skipped("workloads", "ports-named", why),
        };
        let ours = services.iter().filter(|service| {
            let api_server = service.namespace == "default" && service.name == "kubernetes";
            injected.contains(service.namespace.as_str()) && !service.external_name && !api_server
        });
        let (mut said, mut unsaid) = (0, Vec::new());
        for service in ours {
            for port in service.ports.iter().filter(|port| port.tcp) {
                let name = Some(port.name.as_str()).filter(|name| !name.is_empty());
                match AppProtocol::of(name, port.app_protocol.as_deref()) {
                    AppProtocol::Detect => unsaid.push(format!(
                        "{}/{}:{}",
                        service.namespace, service.name, port.number
                    )),
                    _ => said += 1,
                }
            }
        }
        match unsaid.is_empty() {
            true if said == 0 => {}
            true => seen.push(format!("{}: {said} ports", world.cluster)),
            false => wrong.push(format!("in {}: {}", world.cluster, few(unsaid))),
        }
    }
    let fix = "name the port of the Service by its protocol (http, http-web, grpc, tcp-db), or set its appProtocol";
    verdict("workloads", "ports-named", Verdict::Warn, wrong, seen, fix)
}

/// From each control plane's pod to the gateways it knows elsewhere.
async fn gateway_probes(sides: &[Side], probe: bool) -> (Vec<Check>, Vec<String>) {
    let (mut checks, mut from) = (Vec::new(), BTreeSet::new());
    for side in sides {
        let Ok(found) = &side.found else { continue };
        for asked in &found.instances {
            let told = &asked.told;
            let own = told.own_network();
            let elsewhere = |member: &&Member| member.network.as_ref() != own;
            for member in told.discovers().filter(elsewhere) {
                let Some(pod) = asked.answered.first() else {
                    continue;
                };
                let status = told.status.as_ref().ok();
                let known = status.map(|status| status.gateways_of(member.cluster.as_str()));
                for address in known.into_iter().flatten() {
                    let way = format!("{} → gateway of {} {address}", told.home, member.cluster);
                    if !probe {
                        checks.push(not_probed(format!(
                            "{way}: --probe does it, by a command in the control plane's pod"
                        )));
                        continue;
                    }
                    match probe_from(side, pod, &address).await {
                        Err(why) => checks.push(not_probed(format!("{way}: {why}"))),
                        Ok(Probe::Tcp { ms }) => {
                            from.insert(told.home.to_string());
                            let mut check = not_probed(format!("{way}: TCP after {ms} ms"));
                            check.verdict = Verdict::Pass;
                            checks.push(check);
                        }
                        Ok(reached) => {
                            from.insert(told.home.to_string());
                            let mut check =
                                probed(&told.home, &member.cluster, &address, None, reached);
                            check.fix = "catamaran proxy list --context CONTEXT; see whether the networks let TCP through".into();
                            checks.push(check);
                        }
                    }
                }
            }
        }
    }
    if checks.is_empty() {
        checks.push(not_probed("no cluster is reached through a gateway".into()));
    }
    (checks, from.into_iter().collect())
}

async fn probe_from(side: &Side, pod: &str, address: &str) -> Result<Probe, String> {
    let command: Vec<String> = ["/usr/local/bin/catamaran", "probe", address]
        .map(str::to_owned)
        .to_vec();
    let container = Some("control-plane");
    let ran = pod::run(&side.access, SYSTEM, pod, container, &command, PROBE).await;
    let ran = ran.map_err(|failure| {
        let rights = pod::run_rights(SYSTEM);
        contexts::not_seen(&failure, "a probe", &rights)
    })?;
    serde_json::from_str(ran.out.trim()).map_err(|error| {
        format!(
            "the probe's answer cannot be read: {error} {}",
            ran.err.trim()
        )
    })
}
