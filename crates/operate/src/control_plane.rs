//! What a control plane says of itself: its socket, asked with a bound, and read leniently, so that instances of neighbouring
//! versions can be asked too.

use std::path::Path;
use std::time::Duration;

use catamaran_local::fleet::ClusterDir;
use catamaran_local::lifecycle;
use serde::{Deserialize, Serialize};

/// How long one of our programs may take to answer a person.
pub const ANSWER_PATIENCE: Duration = Duration::from_secs(2);

/// `GET /v1/status`
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ControlPlaneStatus {
    /// The instance.
    pub mesh: String,
    /// Its managed cluster.
    pub cluster: String,
    /// The version it runs.
    pub version: String,
    /// `creating`, `updating` or `running`.
    pub state: String,
    /// Why it is not running yet, in words.
    pub because: Vec<String>,
    /// Whether it configures proxies and signs.
    pub ready: bool,
    /// What it waits for, when it is not ready.
    pub waiting_for: Vec<String>,
    /// Counts up with each change of what it knows.
    pub snapshot: u64,
    /// What it knows of each cluster.
    pub clusters: Vec<ClusterStatus>,
    /// The gateways into each network.
    pub gateways: Vec<GatewayStatus>,
    /// Its proxies, counted.
    pub proxies: ProxyCount,
    /// With what it signs.
    pub trust: Option<TrustStatus>,
    /// What people should know.
    pub problems: Vec<ProblemStatus>,
}

/// A cluster as a control plane knows it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ClusterStatus {
    /// Its name.
    pub name: String,
    /// `managed` or `discovery_only`.
    pub mode: String,
    /// The network it is assigned to.
    pub network: Option<String>,
    /// `fresh`, `stale` or `unknown`.
    pub freshness: String,
    /// Since when it is stale, RFC 3339.
    pub since: Option<String>,
    /// Why it is stale.
    pub reason: Option<String>,
    /// How many services it has.
    pub services: usize,
    /// How many endpoints it has.
    pub endpoints: usize,
    /// The instance that manages it, as it says.
    pub mesh: Option<String>,
    /// The version of that instance.
    pub version: Option<String>,
    /// SHA-256 of the roots that instance trusts.
    pub roots: Vec<String>,
}

/// A gateway as a control plane knows it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct GatewayStatus {
    /// The network it leads into.
    pub network: String,
    /// The cluster it stands in.
    pub cluster: String,
    /// `IP:PORT`
    pub address: String,
}

/// The proxies of a control plane, counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ProxyCount {
    /// All that are connected.
    pub connected: usize,
    /// Those that have taken everything.
    pub current: usize,
    /// Those that have not yet.
    pub pending: usize,
    /// Those that refused something.
    pub rejected: usize,
}

/// With what a control plane signs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TrustStatus {
    /// SHA-256 of the roots it trusts, in hex.
    pub roots: Vec<String>,
    /// The subject of the issuing certificate.
    pub issuer: String,
    /// SHA-256 of the issuing certificate, in hex.
    pub intermediate: String,
    /// Its serial number in hex.
    pub serial: String,
    /// The kind of its key.
    pub algorithm: String,
    /// The begin of the issuing certificate, RFC 3339.
    pub not_before: String,
    /// The end of the issuing certificate, RFC 3339.
    pub not_after: String,
}

/// Something that people should know.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ProblemStatus {
    /// `error` or `warning`.
    pub severity: String,
    /// `root_mismatch`, `no_gateway`, ...
    pub kind: String,
    /// The cluster concerned.
    pub cluster: Option<String>,
    /// The object concerned.
    pub object: String,
    /// What is wrong, and the next step.
    pub message: String,
}

/// A proxy as its control plane knows it (`GET /v1/proxies`).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ProxyStatus {
    /// The pod.
    pub pod: String,
    /// Its namespace.
    pub namespace: String,
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
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
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

impl ControlPlaneStatus {
    /// What it knows of a cluster.
    pub fn of_cluster(&self, name: &str) -> Option<&ClusterStatus> {
        self.clusters.iter().find(|cluster| cluster.name == name)
    }

    /// The gateways that it knows in a cluster, `IP:PORT`.
    pub fn gateways_of(&self, cluster: &str) -> Vec<String> {
        let mut found: Vec<String> = (self.gateways.iter())
            .filter(|gateway| gateway.cluster == cluster)
            .map(|gateway| gateway.address.clone())
            .collect();
        found.sort();
        found.dedup();
        found
    }
}

/// Asks a control plane how it is. The error says why there is no answer.
pub async fn status(home: &ClusterDir) -> Result<ControlPlaneStatus, String> {
    read(&home.control_plane_socket(), "/v1/status").await
}

/// Asks a control plane for its proxies.
pub async fn proxies(home: &ClusterDir) -> Result<Vec<ProxyStatus>, String> {
    read(&home.control_plane_socket(), "/v1/proxies").await
}

async fn read<T: serde::de::DeserializeOwned>(socket: &Path, path: &str) -> Result<T, String> {
    let body = get(socket, path).await?;
    serde_json::from_str(&body).map_err(|e| format!("its answer to {path} cannot be read: {e}"))
}

/// Asks a socket of one of our programs, with a bound; the body of an answer of 200.
pub async fn get(socket: &Path, path: &str) -> Result<String, String> {
    let (status, body) = ask(socket, "GET", path).await?;
    match status {
        200 => Ok(body),
        other => Err(format!("it answered {path} with {other}: {}", body.trim())),
    }
}

/// Asks a socket of one of our programs, with a bound.
pub async fn ask(socket: &Path, method: &str, path: &str) -> Result<(u16, String), String> {
    let asked = lifecycle::ask(socket, method, path);
    match tokio::time::timeout(ANSWER_PATIENCE, asked).await {
        Err(_) => Err(format!("no answer within {} s", ANSWER_PATIENCE.as_secs())),
        Ok(Err(error)) => Err(match error.kind() {
            std::io::ErrorKind::NotFound => "it does not run".into(),
            std::io::ErrorKind::ConnectionRefused => "it does not run any more".into(),
            _ => error.to_string(),
        }),
        Ok(Ok(answer)) => Ok(answer),
    }
}
