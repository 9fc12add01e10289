//! `check`: what must hold, looked at one by one, the likeliest cause of silent failures first.
//!
//! What is told of instances is checked alike wherever they live; [`fleet`] and [`behind`] gather it, and have what only local
//! clusters, or only those with an API server, can lack.

use std::collections::{BTreeMap, BTreeSet};

use catamaran_identity::LEAF_LIFE;
use catamaran_model::{ClusterId, MtlsMode, Version};
use serde::Serialize;

use crate::ProxyRow;
use crate::fleet::now;
use crate::mesh_state::MeshState;
use crate::probe::Probe;
use crate::told::Told;

mod behind;
mod fleet;

pub use behind::check_contexts;
pub use fleet::check;

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

impl CheckReport {
    fn of(checks: Vec<Check>, checked_from: Vec<String>) -> CheckReport {
        let count = |verdict| {
            checks
                .iter()
                .filter(|check| check.verdict == verdict)
                .count()
        };
        CheckReport {
            passed: count(Verdict::Pass),
            failed: count(Verdict::Fail),
            warnings: count(Verdict::Warn),
            skipped: count(Verdict::Skip),
            checks,
            checked_from,
        }
    }
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
            let peer = told.iter().find(|other| other.home == member.cluster);
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
        match &one.intermediate {
            None => {}
            Some(Ok(intermediate)) => seen.push(format!(
                "{}: intermediate {} under its root",
                one.name(),
                intermediate.fingerprint
            )),
            Some(Err(error)) => wrong.push(format!("{}: {error}", one.name())),
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
        let Some(Ok(intermediate)) = &one.intermediate else {
            continue;
        };
        let left = intermediate.not_after.since(now);
        let days = left.as_secs() / 86_400;
        if left <= LEAF_LIFE {
            worst = Verdict::Fail;
            wrong.push(format!(
                "the intermediate of {} has less left than one certificate lives",
                one.name()
            ));
        } else if intermediate.half_life <= now {
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

fn instances_run(told: &[Told], fix: &str) -> Check {
    let (mut wrong, mut seen) = (Vec::new(), Vec::new());
    for one in told {
        match &one.state {
            (MeshState::Running, _) => seen.push(format!("{} running", one.name())),
            (state, why) => wrong.push(format!("{} {}: {why}", one.name(), state.as_str())),
        }
    }
    verdict(
        "discovery",
        "instances-run",
        Verdict::Fail,
        wrong,
        seen,
        fix,
    )
}

fn watch_fresh(told: &[Told], fix: &str) -> Check {
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
    verdict("discovery", "watch-fresh", Verdict::Fail, wrong, seen, fix)
}

/// Instances give a cluster the same network; one that gives none has no say.
fn networks_agree(told: &[Told]) -> Check {
    let mut given: BTreeMap<&ClusterId, Vec<(&str, &str)>> = BTreeMap::new();
    for one in told {
        for member in &one.members {
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

fn gateways_known(told: &[Told], stopped: &BTreeSet<ClusterId>) -> Check {
    let (mut wrong, mut seen) = (Vec::new(), Vec::new());
    for one in told {
        let Ok(status) = one.status.as_ref() else {
            continue;
        };
        if !one.whole {
            continue;
        }
        let own = one.own_network();
        for member in one.discovers() {
            if member.network.as_ref() == own || stopped.contains(&member.cluster) {
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

/// A way to a gateway that was not probed.
fn not_probed(seen: String) -> Check {
    Check {
        group: "network",
        id: "gateway-probe",
        verdict: Verdict::Skip,
        seen,
        cause: String::new(),
        fix: String::new(),
    }
}

fn probed(
    home: &ClusterId,
    cluster: &ClusterId,
    address: &str,
    sni: Option<&str>,
    reached: Probe,
) -> Check {
    let way = format!("{home} → gateway of {cluster} {address}");
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

/// Workloads without a sidecar, each with the reason, by the instance and its cluster.
fn no_plaintext(told: &[Told], plain: &BTreeMap<ClusterId, Vec<String>>, fix: &str) -> Check {
    let (mut wrong, mut seen) = (Vec::new(), Vec::new());
    for one in told {
        if one.spec.mtls == MtlsMode::Permissive {
            wrong.push(format!(
                "{} accepts plain text (mtls: Permissive)",
                one.name()
            ));
        }
        match plain.get(&one.home) {
            None => {}
            Some(plain) if plain.is_empty() => seen.push(format!(
                "{} mTLS only, every pod has its sidecar",
                one.name()
            )),
            Some(plain) => wrong.push(format!("in {}: {}", one.home, plain.join(", "))),
        }
    }
    verdict("control", "no-plaintext", Verdict::Warn, wrong, seen, fix)
}

/// A Deployment, and how many of its pods are ready.
struct Replicas {
    cluster: ClusterId,
    /// `NAMESPACE/NAME`
    name: String,
    wanted: usize,
    ready: usize,
    why: Option<String>,
}

/// Every Deployment has the pods it asks for, all ready; its callers meet fewer otherwise.
fn pods_ready<'a>(
    clusters: impl IntoIterator<Item = &'a ClusterId>,
    all: &[Replicas],
    fix: &str,
) -> Check {
    let (mut wrong, mut seen) = (Vec::new(), Vec::new());
    for cluster in clusters {
        let here = all.iter().filter(|one| one.cluster == *cluster);
        let mut ready = 0;
        for one in here {
            ready += one.ready;
            if one.ready != one.wanted {
                let why = one.why.as_ref();
                let why = why.map_or(String::new(), |why| format!(" ({why})"));
                wrong.push(format!(
                    "{cluster}: {} has {} ready of {} pods{why}",
                    one.name, one.ready, one.wanted
                ));
            }
        }
        seen.push(format!("{cluster} {ready}"));
    }
    verdict("workloads", "pods-ready", Verdict::Fail, wrong, seen, fix)
}

fn proxies_current(proxies: &[ProxyRow]) -> Check {
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
    verdict(
        "control",
        "proxies-current",
        Verdict::Fail,
        wrong,
        seen,
        "catamaran proxy list",
    )
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
