//! Probes of programs, which the kubelet asks from outside the mesh: they are put to the sidecar, which asks in its place.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::HEALTH_PORT;

/// Probes of a container, and the last part of the path at which the sidecar answers for each (Istio's).
const KINDS: [(&str, &str); 3] = [
    ("livenessProbe", "livez"),
    ("readinessProbe", "readyz"),
    ("startupProbe", "startupz"),
];
/// In seconds.
const MAX_TIMEOUT: u64 = 3600;
const HANDLERS: [&str; 3] = ["httpGet", "tcpSocket", "grpc"];

/// Turns the probes of all programs to the sidecar; gives what it must ask, by path.
pub(super) fn rewrite(
    spec: &mut Map<String, Value>,
    warnings: &mut Vec<String>,
) -> BTreeMap<String, Value> {
    let mut asked = BTreeMap::new();
    for list in ["containers", "initContainers"] {
        let all = spec.get_mut(list).and_then(Value::as_array_mut);
        for container in all.into_iter().flatten() {
            let name = container["name"].as_str().unwrap_or_default().to_owned();
            let ports = container["ports"].clone();
            for (field, end) in KINDS {
                let Some(probe) = container.get_mut(field).and_then(Value::as_object_mut) else {
                    continue;
                };
                match handler(probe, &ports) {
                    Ok(Some((kind, original))) => {
                        let path = format!("/app-health/{name}/{end}");
                        let mut original = json!({kind: original});
                        if let Some(seconds) = probe.get("timeoutSeconds") {
                            // the sidecar waits no longer for any probe; the kubelet's own limit stays as it is
                            let seconds = match seconds.as_u64() {
                                Some(long) if long > MAX_TIMEOUT => MAX_TIMEOUT.into(),
                                _ => seconds.clone(),
                            };
                            original["timeoutSeconds"] = seconds;
                        }
                        probe.remove(kind);
                        let get = json!({"path": path, "port": HEALTH_PORT, "scheme": "HTTP"});
                        probe.insert("httpGet".into(), get);
                        asked.insert(path, original);
                    }
                    Ok(None) => {}
                    Err(port) => warnings.push(format!(
                        "{field} of container {name} asks port {port}, which the container does not name: the probe stays as it is, outside the mesh"
                    )),
                }
            }
        }
    }
    asked
}

/// What a probe does, with the port as a number; nothing when it is not for this pod's address. The error is a port's name.
fn handler(
    probe: &Map<String, Value>,
    ports: &Value,
) -> Result<Option<(&'static str, Value)>, String> {
    let Some(kind) = HANDLERS
        .into_iter()
        .find(|kind| probe.get(*kind).is_some_and(Value::is_object))
    else {
        return Ok(None);
    };
    let mut handler = probe[kind].clone();
    let elsewhere = handler["host"]
        .as_str()
        .is_some_and(|host| !host.is_empty());
    if elsewhere {
        return Ok(None);
    }
    if let Some(name) = handler["port"].as_str() {
        let named = |port: &&Value| port["name"] == name;
        let found = ports.as_array().into_iter().flatten().find(named);
        let number = found
            .map(|port| port["containerPort"].clone())
            .or_else(|| name.parse::<u16>().ok().map(Value::from));
        handler["port"] = number.ok_or_else(|| name.to_owned())?;
    }
    Ok(Some((kind, handler)))
}
