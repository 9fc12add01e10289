//! The objects that an API server is filled with, as large as real ones are.

use catamaran_bench::control_plane::names::{ACCOUNT, PORT, caller, service};
use serde_json::{Value, json};

/// Pods and endpoints of each service.
pub(crate) const EACH: usize = 10;
/// Where all of it is.
const NAMESPACE: &str = "default";
/// Whom every pod of a service is.
const WORKER: &str = "worker";

/// Which of the two clusters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Own,
    Discovered,
}

impl Side {
    /// The name that tables show.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Side::Own => "own",
            Side::Discovered => "discovered",
        }
    }

    /// The address of pod `which` of service `n`.
    pub(crate) fn place(self, n: usize, which: usize) -> String {
        let first = match self {
            Side::Own => 64,
            Side::Discovered => 128,
        };
        let pod = n * EACH + which;
        format!(
            "10.{}.{}",
            first + pod / (250 * 250),
            rest(pod % (250 * 250))
        )
    }

    /// An address that no pod had before, for change `n`.
    pub(crate) fn fresh(self, n: usize) -> String {
        let of = match self {
            Side::Own => 220,
            Side::Discovered => 221,
        };
        format!("10.{of}.{}", rest(n % (250 * 250)))
    }
}

fn rest(n: usize) -> String {
    format!("{}.{}", n / 250, 1 + n % 250)
}

/// The accounts that pods run as.
pub(crate) fn accounts() -> impl Iterator<Item = Value> {
    [WORKER, ACCOUNT].into_iter().map(|name| {
        json!({
            "apiVersion": "v1", "kind": "ServiceAccount",
            "metadata": {"name": name, "namespace": NAMESPACE},
        })
    })
}

/// A service without a selector, so that its slices are ours alone.
pub(crate) fn a_service(n: usize) -> Value {
    let name = service(n);
    json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {
            "name": name, "namespace": NAMESPACE, "labels": labels(&name),
            "annotations": {
                "prometheus.io/scrape": "true", "prometheus.io/port": "9090",
                "example.com/owner": "a team that answers for this service",
            },
        },
        "spec": {"ports": [{"name": "http", "port": PORT, "targetPort": PORT}]},
    })
}

/// Pod `which` of service `n`, which runs nowhere and is said to run.
pub(crate) fn a_pod(side: Side, n: usize, which: usize) -> Value {
    let name = service(n);
    pod(&pod_name(n, which), &name, WORKER, &side.place(n, which))
}

/// The pod of proxy `n`.
pub(crate) fn a_caller(n: usize) -> Value {
    let address = format!("10.200.{}", rest(n));
    pod(&caller(n), ACCOUNT, ACCOUNT, &address)
}

/// The slice of service `n`, with all of its pods.
pub(crate) fn a_slice(side: Side, n: usize) -> Value {
    let name = service(n);
    let endpoints: Vec<Value> = (0..EACH)
        .map(|which| {
            json!({
                "addresses": [side.place(n, which)],
                "conditions": {"ready": true, "serving": true, "terminating": false},
                "targetRef": {"kind": "Pod", "namespace": NAMESPACE, "name": pod_name(n, which)},
            })
        })
        .collect();
    json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {
            "name": format!("{name}-x7k2p"), "namespace": NAMESPACE,
            "labels": {
                "kubernetes.io/service-name": name,
                "endpointslice.kubernetes.io/managed-by": "bench.catamaran.dev",
            },
        },
        "addressType": "IPv4",
        "ports": [{"name": "http", "port": PORT, "protocol": "TCP"}],
        "endpoints": endpoints,
    })
}

/// The change that gives the first endpoint of a slice another address.
pub(crate) fn moved(address: &str) -> Value {
    json!([{"op": "replace", "path": "/endpoints/0/addresses/0", "value": address}])
}

fn pod_name(n: usize, which: usize) -> String {
    format!("{}-6d4cf56db6-{which:05}", service(n))
}

fn labels(app: &str) -> Value {
    json!({
        "app": app, "version": "v1",
        "app.kubernetes.io/name": app, "app.kubernetes.io/part-of": "shop",
        "app.kubernetes.io/managed-by": "Helm", "app.kubernetes.io/version": "1.27.3",
        "helm.sh/chart": format!("{app}-4.2.0"),
    })
}

fn pod(name: &str, app: &str, account: &str, address: &str) -> Value {
    let mut of_pod = labels(app);
    of_pod["pod-template-hash"] = json!("6d4cf56db6");
    of_pod["security.istio.io/tlsMode"] = json!("istio");
    let conditions = [
        "PodReadyToStartContainers",
        "Initialized",
        "Ready",
        "ContainersReady",
        "PodScheduled",
    ];
    let conditions = conditions.map(
        |kind| json!({"type": kind, "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}),
    );
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": name, "namespace": NAMESPACE, "labels": of_pod,
            "annotations": {
                "kubectl.kubernetes.io/restartedAt": "2026-01-01T00:00:00Z",
                "kubectl.kubernetes.io/default-container": app,
                "prometheus.io/scrape": "true", "prometheus.io/port": "9090", "prometheus.io/path": "/metrics",
                "checksum/config": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
            },
        },
        "spec": {
            "serviceAccountName": account,
            // Nobody finds a node for it.
            "schedulerName": "none",
            "terminationGracePeriodSeconds": 30,
            "containers": [
                container(app, "registry.example.com/shop/app:1.27.3", PORT),
                container("sidecar", "registry.example.com/mesh/proxy:1.4.0", 15020),
            ],
            "volumes": [{"name": "config", "configMap": {"name": format!("{app}-config")}}, {"name": "tmp", "emptyDir": {}}],
        },
        "status": {
            "phase": "Running", "hostIP": "10.0.0.1", "podIP": address, "podIPs": [{"ip": address}],
            "startTime": "2026-01-01T00:00:00Z",
            "conditions": conditions,
            "containerStatuses": [running(app, "registry.example.com/shop/app:1.27.3"), running("sidecar", "registry.example.com/mesh/proxy:1.4.0")],
        },
    })
}

fn container(name: &str, image: &str, port: u16) -> Value {
    let environment: Vec<Value> = (0..8)
        .map(|n| json!({"name": format!("SETTING_NUMBER_{n}"), "value": format!("http://backend-{n}.default.svc.cluster.local:8080/v1")}))
        .chain([
            json!({"name": "POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}),
            json!({"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}),
        ])
        .collect();
    json!({
        "name": name, "image": image, "args": ["--listen", format!("0.0.0.0:{port}"), "--log-level", "info"],
        "ports": [{"name": "http", "containerPort": port}],
        "env": environment,
        "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}, "limits": {"memory": "256Mi"}},
        "readinessProbe": {"httpGet": {"path": "/ready", "port": port}, "periodSeconds": 5},
        "livenessProbe": {"httpGet": {"path": "/live", "port": port}, "periodSeconds": 10},
        "volumeMounts": [{"name": "config", "mountPath": "/etc/app"}, {"name": "tmp", "mountPath": "/tmp"}],
    })
}

fn running(name: &str, image: &str) -> Value {
    json!({
        "name": name, "image": image, "ready": true, "started": true, "restartCount": 0,
        "imageID": "registry.example.com/shop/app@sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
        "containerID": "containerd://9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
        "state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}},
    })
}
