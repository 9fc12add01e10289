//! `proxy list` and `proxy config`: the sidecars and gateways of a fleet, and what each holds.

use std::collections::BTreeMap;

use catamaran_local::fleet::ClusterDir;
use catamaran_local::node::PodRecord;
use catamaran_model::{Namespace, PodName, SpiffeId};
use serde::Serialize;
use serde_json::Value;

use crate::control_plane::{self, ProxyStatus};
use crate::{Fleet, OperateError};

/// A proxy as tables show it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ProxyRow {
    /// Its pod.
    pub pod: String,
    /// Its namespace.
    pub namespace: String,
    /// Its cluster.
    pub cluster: String,
    /// The instance that configures it.
    pub mesh: Option<String>,
    /// `sidecar` or `gateway`.
    pub role: String,
    /// `current`, `pending`, `rejected`, `unconnected`, or `unknown` when its control plane does not answer.
    pub state: String,
    /// Its address, as its control plane sees it.
    pub address: Option<String>,
    /// What it refused, one line each; or what its pod waits for.
    pub detail: Vec<String>,
}

impl ProxyRow {
    /// `POD.NAMESPACE`
    pub fn name(&self) -> String {
        format!("{}.{}", self.pod, self.namespace)
    }

    fn answers_to(&self, name: &str) -> bool {
        let (pod, namespace, cluster) = (&self.pod, &self.namespace, &self.cluster);
        name == pod
            || name == self.name()
            || name == format!("{namespace}/{pod}")
            || name == format!("{cluster}/{pod}")
            || name == format!("{cluster}/{namespace}/{pod}")
    }
}

/// Every proxy of the fleet, by cluster, namespace and pod: those that control planes know, and those that nodes run.
pub async fn list_proxies(fleet: &Fleet) -> Result<Vec<ProxyRow>, OperateError> {
    let mut asked = Vec::new();
    for dir in fleet.clusters()? {
        // a cluster whose objects cannot be read still has its proxies
        let instance = fleet.instance_in(&dir).ok().flatten();
        let mesh = instance.map(|instance| instance.spec.name.to_string());
        asked.push(tokio::spawn(async move {
            let known = control_plane::proxies(&dir).await;
            rows(&dir, mesh, known)
        }));
    }
    let mut all = Vec::new();
    for task in asked {
        all.extend(task.await.unwrap_or_default());
    }
    Ok(all)
}

fn rows(
    dir: &ClusterDir,
    mesh: Option<String>,
    known: Result<Vec<ProxyStatus>, String>,
) -> Vec<ProxyRow> {
    let running = PodRecord::all(dir).into_iter().filter_map(|pod| {
        let gateway = is_gateway(&pod);
        (pod.sidecar || gateway).then_some(Running {
            role: if gateway { "gateway" } else { "sidecar" },
            pod: pod.name,
            namespace: pod.namespace,
            waiting: pod.waiting,
        })
    });
    merge(dir.name().as_str(), mesh, running, known)
}

/// A pod with a proxy, as whoever runs it says.
pub(crate) struct Running {
    pub(crate) pod: String,
    pub(crate) namespace: String,
    pub(crate) role: &'static str,
    pub(crate) waiting: Option<String>,
}

/// The proxies that run in a cluster and those that its control plane knows, each once.
pub(crate) fn merge(
    cluster: &str,
    mesh: Option<String>,
    running: impl IntoIterator<Item = Running>,
    known: Result<Vec<ProxyStatus>, String>,
) -> Vec<ProxyRow> {
    let unconnected = match &known {
        Ok(_) => "unconnected",
        Err(_) => "unknown",
    };
    let mut rows: BTreeMap<(String, String), ProxyRow> = BTreeMap::new();
    for pod in running {
        let key = (pod.namespace.clone(), pod.pod.clone());
        rows.insert(
            key,
            ProxyRow {
                pod: pod.pod,
                namespace: pod.namespace,
                cluster: cluster.to_owned(),
                mesh: mesh.clone(),
                role: pod.role.into(),
                state: unconnected.into(),
                address: None,
                detail: pod.waiting.into_iter().collect(),
            },
        );
    }
    for proxy in known.unwrap_or_default() {
        let key = (proxy.namespace.clone(), proxy.pod.clone());
        rows.insert(
            key,
            ProxyRow {
                pod: proxy.pod,
                namespace: proxy.namespace,
                cluster: cluster.to_owned(),
                mesh: mesh.clone(),
                role: proxy.role,
                state: proxy.state,
                address: Some(proxy.address),
                detail: proxy.rejected,
            },
        );
    }
    rows.into_values().collect()
}

fn is_gateway(pod: &PodRecord) -> bool {
    pod.deployment.is_none() && pod.namespace == SpiffeId::SYSTEM_NAMESPACE
}

/// What of a proxy's configuration is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConfigKind {
    /// What it listens on.
    Listeners,
    /// Where requests go.
    Routes,
    /// What it sends to.
    Clusters,
    /// Who stands behind each cluster.
    Endpoints,
    /// Its certificate, and the roots that it trusts.
    Certs,
}

impl ConfigKind {
    /// The page of the proxy's admin interface on which it is.
    pub(crate) fn page(self) -> &'static str {
        match self {
            ConfigKind::Listeners => "/config_dump?kind=listener",
            ConfigKind::Routes => "/config_dump?kind=route",
            ConfigKind::Clusters => "/config_dump?kind=cluster",
            ConfigKind::Endpoints => "/clusters",
            ConfigKind::Certs => "/certs",
        }
    }
}

/// What a proxy holds, as itself says it. `name` is its pod, alone or with namespace and cluster.
pub async fn proxy_config(
    fleet: &Fleet,
    name: &str,
    kind: ConfigKind,
) -> Result<Value, OperateError> {
    let proxy = find(list_proxies(fleet).await?, name)?;
    let page = kind.page();
    let body = admin(fleet, &proxy, page).await?;
    serde_json::from_str(&body).map_err(|e| OperateError::NoAnswer {
        who: format!("the proxy {}", proxy.name()),
        reason: format!("its {page} cannot be read: {e}"),
    })
}

/// A page of a proxy's admin interface.
pub(crate) async fn admin(
    fleet: &Fleet,
    proxy: &ProxyRow,
    page: &str,
) -> Result<String, OperateError> {
    let cluster = fleet.cluster(&proxy.cluster.parse()?)?;
    let pod = cluster.pod(
        &Namespace::new(&proxy.namespace)?,
        &PodName::new(&proxy.pod)?,
    );
    control_plane::get(&pod.admin_socket(), page)
        .await
        .map_err(|reason| OperateError::NoAnswer {
            who: format!("the proxy {} in {}", proxy.name(), proxy.cluster),
            reason,
        })
}

pub(crate) fn find(proxies: Vec<ProxyRow>, name: &str) -> Result<ProxyRow, OperateError> {
    let known = |rows: &[ProxyRow]| -> Vec<String> {
        (rows.iter())
            .map(|row| format!("{}/{}/{}", row.cluster, row.namespace, row.pod))
            .collect()
    };
    let mut found: Vec<ProxyRow> = proxies
        .iter()
        .filter(|row| row.answers_to(name))
        .cloned()
        .collect();
    match found.len() {
        1 => Ok(found.remove(0)),
        0 => Err(OperateError::UnknownProxy {
            name: name.into(),
            known: proxies.iter().map(|row| row.pod.clone()).collect(),
        }),
        _ => Err(OperateError::ManyProxies {
            name: name.into(),
            known: known(&found),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(cluster: &str, pod: &str) -> ProxyRow {
        ProxyRow {
            pod: pod.into(),
            namespace: "default".into(),
            cluster: cluster.into(),
            mesh: None,
            role: "sidecar".into(),
            state: "current".into(),
            address: None,
            detail: Vec::new(),
        }
    }

    #[test]
    fn a_proxy_is_found_by_what_tells_it_apart() {
        let rows = vec![
            row("cluster-1", "sleep-1"),
            row("cluster-2", "sleep-1"),
            row("cluster-2", "hello-1"),
        ];
        assert_eq!(find(rows.clone(), "hello-1").unwrap().cluster, "cluster-2");
        assert_eq!(
            find(rows.clone(), "hello-1.default").unwrap().cluster,
            "cluster-2"
        );
        assert_eq!(
            find(rows.clone(), "cluster-1/sleep-1").unwrap().cluster,
            "cluster-1"
        );
        assert_eq!(
            find(rows.clone(), "sleep-1").unwrap_err().code(),
            "CTM-P102"
        );
        let unknown = find(rows, "helo-1").unwrap_err();
        assert_eq!(unknown.code(), "CTM-P101");
        assert!(unknown.facts().join(" ").contains("hello-1"));
    }
}
