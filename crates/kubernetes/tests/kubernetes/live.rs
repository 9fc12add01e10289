//! A watch with a registry behind it, and the promise that what is known stays known.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use catamaran_kubernetes::Pace;
use catamaran_kubernetes::connect::Access;
use catamaran_kubernetes::kubeconfig::{Allowed, Kubeconfig};
use catamaran_kubernetes::watch::{Beside, Reads, Watched, watch};
use catamaran_model::{ClusterId, Namespace, ServiceKey, ServiceName, Timestamp};
use catamaran_registry::{Change, Freshness, Observed, Registry, Snapshot, WatchGeneration};
use serde_json::{Value, json};
use tokio::sync::{mpsc, watch as latest};
use tokio::task::JoinHandle;

use crate::server::{ApiServer, NAMESPACES, PODS, SERVICES, SLICES};

pub(crate) const ALLOWED: Allowed = Allowed {
    loopback: true,
    link_local: false,
    proxy: false,
    files: false,
};

/// Impatient enough for tests, patient enough for a busy machine.
pub(crate) fn pace() -> Pace {
    Pace {
        answer: Duration::from_millis(1500),
        silence: Duration::from_millis(1500),
        settled: Duration::from_millis(60),
        pause: Duration::from_millis(20),
        longest: Duration::from_millis(200),
        absent: Duration::from_millis(300),
        watch: Duration::from_secs(60),
        page: 7,
        names: Duration::from_secs(60),
        rights: Duration::from_millis(200),
    }
}

pub(crate) fn access(server: &ApiServer, token: &str) -> Access {
    let config = Kubeconfig::read(&server.kubeconfig(token), ALLOWED).unwrap();
    Access::new(&config, ALLOWED).unwrap()
}

/// A registry that a watch fills.
pub(crate) struct Live {
    pub(crate) registry: Registry,
    pub(crate) cluster: ClusterId,
    pub(crate) changes: mpsc::Receiver<Change>,
    pub(crate) out: mpsc::Sender<Change>,
    pub(crate) beside: latest::Receiver<Beside>,
    /// `SERVICE ADDRESS` that may never be missing.
    pub(crate) floor: BTreeSet<String>,
    /// Reasons for which discovery was lost so far.
    pub(crate) lost: Vec<String>,
    /// How many complete lists there were.
    pub(crate) lists: usize,
    tasks: Vec<JoinHandle<()>>,
    clock: u64,
}

impl Drop for Live {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

impl Live {
    pub(crate) fn watch(server: &ApiServer) -> Live {
        Live::reading(server, Reads::DiscoveryOnly)
    }

    pub(crate) fn reading(server: &ApiServer, reads: Reads) -> Live {
        Live::of(access(server, "token-1"), reads, pace())
    }

    pub(crate) fn of(access: Access, reads: Reads, pace: Pace) -> Live {
        let cluster = ClusterId::new("cluster-2").unwrap();
        let local = match reads {
            Reads::DiscoveryOnly | Reads::FromAfar => ClusterId::new("cluster-1").unwrap(),
            Reads::Managed { .. } => cluster.clone(),
        };
        let (out, changes) = mpsc::channel(1024);
        let mut live = Live {
            registry: Registry::new(local),
            cluster,
            changes,
            out,
            beside: latest::channel(Beside::default()).1,
            floor: BTreeSet::new(),
            lost: Vec::new(),
            lists: 0,
            tasks: Vec::new(),
            clock: 1_000,
        };
        live.start_at(pace, access, reads, 1);
        live
    }

    /// Starts another life of the watch beside those that run.
    pub(crate) fn start(&mut self, access: Access, reads: Reads, generation: u64) {
        self.start_at(pace(), access, reads, generation);
    }

    pub(crate) fn start_at(&mut self, pace: Pace, access: Access, reads: Reads, generation: u64) {
        let watched = Watched {
            cluster: self.cluster.clone(),
            generation: WatchGeneration(generation),
            access,
            reads,
            pace,
        };
        let (told, beside) = latest::channel(Beside::default());
        self.beside = beside;
        self.tasks
            .push(tokio::spawn(watch(watched, self.out.clone(), told)));
    }

    /// Ends all lives but the last.
    pub(crate) fn end_older(&mut self) {
        let last = self.tasks.pop();
        for task in self.tasks.drain(..) {
            task.abort();
        }
        self.tasks.extend(last);
    }

    /// Ends the last life.
    pub(crate) fn end_last(&mut self) {
        if let Some(task) = self.tasks.pop() {
            task.abort();
        }
    }

    /// Takes up one change, and holds the floor.
    pub(crate) async fn step(&mut self) -> Option<Change> {
        let change = tokio::time::timeout(Duration::from_secs(20), self.changes.recv());
        let change = change.await.ok()??;
        self.clock += 10;
        match &change.what {
            Observed::Lost(reason) => self.lost.push(reason.clone()),
            Observed::Listed(_) => self.lists += 1,
            _ => {}
        }
        let _ = self.registry.apply(change.clone(), Timestamp(self.clock));
        self.hold();
        Some(change)
    }

    fn hold(&mut self) {
        let there = endpoints(&self.registry.snapshot());
        let missing: Vec<_> = self.floor.difference(&there).collect();
        assert!(
            missing.is_empty(),
            "gone without a witness: {missing:?}, lost so far: {:?}",
            self.lost
        );
        // The registry would hide for a while that a list was short.
        let view = self.registry.snapshot();
        let held = view
            .clusters
            .get(&self.cluster)
            .and_then(|view| view.held_since);
        assert!(
            self.floor.is_empty() || held.is_none(),
            "a list was so short that it is held"
        );
    }

    /// Takes up changes until the snapshot is as described.
    pub(crate) async fn until(
        &mut self,
        what: &str,
        fits: impl Fn(&Snapshot) -> bool,
    ) -> Arc<Snapshot> {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
        loop {
            let snapshot = self.registry.snapshot();
            if fits(&snapshot) {
                return snapshot;
            }
            // Many changes are no progress.
            let late = tokio::time::Instant::now() > deadline;
            if late || self.step().await.is_none() {
                panic!(
                    "never happened: {what}; there is {:?}, {:?}, lost so far: {:?}",
                    endpoints(&snapshot),
                    snapshot
                        .clusters
                        .get(&self.cluster)
                        .map(|view| &view.freshness),
                    self.lost
                );
            }
        }
    }

    pub(crate) async fn until_fresh(&mut self) -> Arc<Snapshot> {
        let cluster = self.cluster.clone();
        self.until("fresh", move |s| {
            freshness(s, &cluster) == Some(&Freshness::Fresh)
        })
        .await
    }

    /// Until discovery is lost, for a reason with these words.
    pub(crate) async fn until_lost(&mut self, words: &str) {
        let cluster = self.cluster.clone();
        let words = words.to_owned();
        let what = format!("lost with {words:?}");
        self.until(&what, move |s| match freshness(s, &cluster) {
            Some(Freshness::Stale { reason, .. }) => reason.contains(&words),
            _ => false,
        })
        .await;
    }

    /// Takes up what comes within this time.
    pub(crate) async fn for_a_while(&mut self, while_: Duration) {
        let end = tokio::time::Instant::now() + while_;
        while let Ok(change) = tokio::time::timeout_at(end, self.step()).await {
            change.expect("somebody watches");
        }
    }

    /// From now on everything that is there must stay.
    pub(crate) fn hold_all(&mut self) {
        self.floor = endpoints(&self.registry.snapshot());
        assert!(!self.floor.is_empty());
    }
}

pub(crate) fn freshness<'a>(snapshot: &'a Snapshot, cluster: &ClusterId) -> Option<&'a Freshness> {
    snapshot.clusters.get(cluster).map(|view| &view.freshness)
}

pub(crate) fn endpoints(snapshot: &Snapshot) -> BTreeSet<String> {
    let services = snapshot.services.iter();
    services
        .flat_map(|(key, service)| {
            let endpoints = service.endpoints.iter();
            endpoints.map(move |endpoint| format!("{key} {}", endpoint.endpoint.address))
        })
        .collect()
}

pub(crate) fn key(name: &str) -> ServiceKey {
    ServiceKey::new(
        Namespace::new("default").unwrap(),
        ServiceName::new(name).unwrap(),
    )
}

pub(crate) fn namespace(name: &str, labels: Value) -> Value {
    json!({"metadata": {"name": name, "uid": format!("uid-of-{name}"), "labels": labels}})
}

pub(crate) fn service(name: &str) -> Value {
    json!({"metadata": {"namespace": "default", "name": name, "managedFields": [{"manager": "kubectl"}]},
           "spec": {"clusterIP": "10.96.0.7", "type": "ClusterIP", "selector": {"app": name},
                    "ports": [{"name": "http", "port": 5000, "targetPort": 5000, "protocol": "TCP"}]}})
}

pub(crate) fn pod(name: &str) -> Value {
    json!({"metadata": {"namespace": "default", "name": name,
                        "labels": {"app": "hello", "security.istio.io/tlsMode": "istio"}},
           "spec": {"serviceAccountName": "hello", "containers": [{"name": "hello", "image": "hello"}]},
           "status": {"phase": "Running"}})
}

/// A slice `NAME-1` of the service, with one endpoint per pod.
pub(crate) fn slice(service: &str, pods: &[(&str, &str)]) -> Value {
    let endpoints: Vec<Value> = (pods.iter())
        .map(|(pod, ip)| {
            json!({"addresses": [ip], "conditions": {"ready": true, "serving": true, "terminating": false},
                   "nodeName": "node-1", "zone": "zone-a", "targetRef": {"kind": "Pod", "namespace": "default", "name": pod}})
        })
        .collect();
    json!({"metadata": {"namespace": "default", "name": format!("{service}-1"),
                        "labels": {"kubernetes.io/service-name": service}},
           "addressType": "IPv4", "ports": [{"name": "http", "port": 5000, "protocol": "TCP"}], "endpoints": endpoints})
}

/// A server with a service of twenty endpoints, and one of one.
pub(crate) async fn cluster() -> ApiServer {
    let server = ApiServer::start().await;
    server.put(NAMESPACES, namespace("kube-system", json!({})));
    server.put(
        NAMESPACES,
        namespace("default", json!({"istio-injection": "enabled"})),
    );
    server.put(SERVICES, service("hello"));
    server.put(SERVICES, service("other"));
    let pods: Vec<(String, String)> = (1..=20)
        .map(|n| (format!("hello-{n}"), format!("10.1.0.{n}")))
        .collect();
    for (name, _) in &pods {
        server.put(PODS, pod(name));
    }
    let pods: Vec<(&str, &str)> = pods
        .iter()
        .map(|(p, ip)| (p.as_str(), ip.as_str()))
        .collect();
    server.put(SLICES, slice("hello", &pods));
    server.put(PODS, pod("other-1"));
    server.put(SLICES, slice("other", &[("other-1", "10.1.1.1")]));
    server
}
