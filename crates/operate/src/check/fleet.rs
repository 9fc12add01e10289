//! The checks of a fleet: what is gathered for those that are common, and those that only local clusters have.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use catamaran_local::fleet::{ClusterDir, Isolation};
use catamaran_local::netns::{self, Network};
use catamaran_local::node::{PodRecord, Stage};
use catamaran_local::object::{Object, SERVICE_NAME_LABEL};
use catamaran_local::write;
use catamaran_model::{
    ClusterId, ClusterName, Member, Namespace, ServiceKey, ServiceName, SpiffeId,
};

use super::{
    Check, CheckReport, Replicas, Verdict, certificates_live, chains_verify, gateways_known,
    instances_run, networks_agree, no_plaintext, not_probed, pods_ready, probed, problems,
    proxies_current, same_root, verdict, versions, watch_fresh,
};
use crate::fleet::{Illegible, Instance};
use crate::mesh_list;
use crate::network_set::torn_networks;
use crate::probe::{self, Probe};
use crate::status::gateways_in;
use crate::told::Told;
use crate::{Fleet, OperateError, list_proxies};

/// Checks the whole fleet.
pub async fn check(fleet: &Fleet) -> Result<CheckReport, OperateError> {
    let mut told = Vec::new();
    let (instances, illegible) = fleet.legible()?;
    for instance in &instances {
        told.push(mesh_list::told(fleet, instance).await);
    }
    let stopped = stopped(fleet, &told).await?;
    let mut checks = vec![
        same_root(&told),
        chains_verify(&told),
        certificates_live(&told),
        objects_legible(&told, &illegible),
        clusters_run(&told, &stopped),
        instances_run(
            &told,
            "catamaran cluster start C for a cluster that is stopped; else see catamaran logs and the cluster's logs/",
        ),
        watch_fresh(
            &told,
            "the endpoints known keep their full weight; make the cluster's API (its folder) readable again",
        ),
        networks_agree(&told),
        networks_whole(fleet, &told),
        gateways_known(&told, &stopped),
    ];
    let (probes, checked_from) = gateway_probes(fleet, &told, &stopped).await?;
    checks.extend(probes);
    checks.push(versions(&told));
    checks.push(replicas_ready(&instances, &stopped)?);
    checks.push(no_plaintext(
        &told,
        &plain(&instances)?,
        "catamaran namespace inject NS --mesh M, then scale the Deployment to 0 and back",
    ));
    let mut proxies = list_proxies(fleet).await?;
    proxies.retain(|proxy| !stopped.iter().any(|name| name.as_str() == proxy.cluster));
    checks.push(proxies_current(&proxies));
    checks.extend(problems(&told));
    Ok(CheckReport::of(checks, checked_from))
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
    let homes = told.iter().map(|one| one.home.as_str());
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
        let answers = |one: &Told| one.home == *dir.name() && one.status.is_ok();
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
    let members = told.iter().flat_map(|one| &one.members);
    for cluster in members.map(|m| &m.cluster).collect::<BTreeSet<_>>() {
        if !stopped.contains(cluster) {
            seen.push(format!("{cluster} running"));
            continue;
        }
        wrong.push(format!("{cluster} is stopped"));
        fixes.push(format!("catamaran cluster start {cluster}"));
        if told.iter().any(|one| one.home == *cluster) {
            worst = Verdict::Fail;
        }
    }
    let fix = fixes.join("; ");
    verdict("discovery", "clusters-run", worst, wrong, seen, fix)
}

/// No logical network spans two physical ones: its pods would be called directly, in vain. Without namespaces all pods reach
/// each other, and it is only a warning.
fn networks_whole(fleet: &Fleet, told: &[Told]) -> Check {
    let (mut wrong, mut seen) = (Vec::new(), BTreeSet::new());
    for one in told {
        let members: BTreeMap<&ClusterId, &Member> = (one.members.iter())
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

async fn gateway_probes(
    fleet: &Fleet,
    told: &[Told],
    stopped: &BTreeSet<ClusterId>,
) -> Result<(Vec<Check>, Vec<String>), OperateError> {
    let mut checks = Vec::new();
    let mut from = BTreeSet::new();
    for one in told {
        let home = fleet.cluster(&one.home)?;
        let own = one.own_network();
        let elsewhere = |member: &&Member| member.network.as_ref() != own;
        for member in one.discovers().filter(elsewhere) {
            if let Some(name) = [home.name(), &member.cluster]
                .into_iter()
                .find(|name| stopped.contains(*name))
            {
                checks.push(not_probed(format!(
                    "{} → gateway of {}: {name} is stopped",
                    home.name(),
                    member.cluster
                )));
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
                let reached = probe_from(fleet, &home, &address, sni.as_deref()).await;
                checks.push(probed(
                    home.name(),
                    &member.cluster,
                    &address,
                    sni.as_deref(),
                    reached,
                ));
            }
        }
    }
    if checks.is_empty() {
        checks.push(not_probed("no cluster is reached through a gateway".into()));
    }
    Ok((checks, from.into_iter().collect()))
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

/// Pods of Deployments that have no sidecar, by cluster.
fn plain(instances: &[Instance]) -> Result<BTreeMap<ClusterId, Vec<String>>, OperateError> {
    let mut all = BTreeMap::new();
    for home in instances.iter().map(|instance| &instance.home) {
        let injected = injected(home)?;
        let plain = PodRecord::all(home)
            .into_iter()
            .filter(|pod| !pod.sidecar && pod.deployment.is_some())
            .map(|pod| match injected.contains(&pod.namespace) {
                true => format!(
                    "{}/{} is older than the injection of its namespace",
                    pod.namespace, pod.name
                ),
                false => format!("{}/{} has no sidecar", pod.namespace, pod.name),
            });
        all.insert(home.name().clone(), plain.collect());
    }
    Ok(all)
}

/// What Deployments ask for, and what there is.
pub(super) fn replicas_ready(
    instances: &[Instance],
    stopped: &BTreeSet<ClusterId>,
) -> Result<Check, OperateError> {
    let homes = instances.iter().map(|instance| &instance.home);
    let homes: Vec<_> = homes
        .filter(|home| !stopped.contains(home.name()))
        .collect();
    let mut all = Vec::new();
    for home in &homes {
        let pods = PodRecord::all(home);
        for (key, object) in write::objects(home)? {
            let Object::Deployment(deployment) = &*object else {
                continue;
            };
            let (namespace, name) = (key.namespace.as_str(), &key.name);
            let of_it: Vec<&PodRecord> = (pods.iter())
                .filter(|pod| pod.deployment.as_ref() == Some(name) && pod.namespace == namespace)
                .filter(|pod| pod.stage == Stage::Living)
                .collect();
            all.push(Replicas {
                cluster: home.name().clone(),
                name: format!("{namespace}/{name}"),
                wanted: deployment.spec.replicas.unwrap_or(1) as usize,
                ready: of_it.iter().filter(|pod| pod.ready).count(),
                why: of_it.iter().find_map(|pod| pod.waiting.clone()),
            });
        }
    }
    let fix = "catamaran status; catamaran logs CLUSTER deploy/NAME";
    let clusters = homes.iter().map(|home| home.name());
    Ok(pods_ready(clusters, &all, fix))
}

fn injected(home: &ClusterDir) -> Result<BTreeSet<String>, OperateError> {
    let objects = write::objects(home)?;
    let names = objects.values().filter_map(|object| match &**object {
        Object::Namespace(namespace) if namespace.inject() => Some(namespace.metadata.name.clone()),
        _ => None,
    });
    Ok(names.collect())
}
