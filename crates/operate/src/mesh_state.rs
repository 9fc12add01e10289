//! How an instance is: what is wanted of it, held against what its control plane says.

use catamaran_model::{Member, MemberMode};
use serde::Serialize;

use crate::control_plane::ControlPlaneStatus;

/// The states of an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum MeshState {
    /// Its control plane is on its way, and was never ready.
    Creating,
    /// It does what is wanted of it.
    Running,
    /// It runs, and does not yet do all that is wanted of it.
    Updating,
    /// Its control plane does not answer; its proxies go on with what they have.
    Unreachable,
    /// Its cluster was not started, or was stopped.
    Stopped,
}

impl MeshState {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            MeshState::Creating => "creating",
            MeshState::Running => "running",
            MeshState::Updating => "updating",
            MeshState::Unreachable => "unreachable",
            MeshState::Stopped => "stopped",
        }
    }
}

/// What is known of an instance when it is judged.
#[derive(Debug, Clone)]
pub(crate) struct Seen<'a> {
    /// What its control plane says, or why it says nothing.
    pub said: Result<&'a ControlPlaneStatus, &'a str>,
    /// Whether its cluster's node answers.
    pub node: bool,
    /// Whether its control plane was ever ready: it has said something of itself in its cluster.
    pub known: bool,
}

/// Judges an instance; the text says what is missing for `running`.
pub(crate) fn judge(members: &[Member], seen: &Seen<'_>) -> (MeshState, String) {
    let status = match seen.said {
        Ok(status) => status,
        Err(_) if !seen.node && !seen.known => {
            return (MeshState::Stopped, "its cluster was not started".into());
        }
        Err(reason) if !seen.node => {
            return (
                MeshState::Stopped,
                format!("its cluster does not run; control plane: {reason}"),
            );
        }
        Err(reason) if !seen.known => {
            return (MeshState::Creating, format!("the control plane: {reason}"));
        }
        Err(reason) => {
            return (
                MeshState::Unreachable,
                format!("the control plane: {reason}"),
            );
        }
    };
    if !status.ready {
        let waits = match status.waiting_for.is_empty() {
            true => "the control plane is not ready".into(),
            false => format!(
                "the control plane waits for {}",
                status.waiting_for.join(", ")
            ),
        };
        let state = if seen.known {
            MeshState::Updating
        } else {
            MeshState::Creating
        };
        return (state, waits);
    }
    if let Some(missing) = not_yet(members, status) {
        return (MeshState::Updating, missing);
    }
    (MeshState::Running, String::new())
}

fn not_yet(members: &[Member], status: &ControlPlaneStatus) -> Option<String> {
    for member in members {
        let name = member.cluster.as_str();
        let Some(cluster) = status.of_cluster(name) else {
            return Some(format!("the control plane has not taken up {name}"));
        };
        if cluster.mode.replace('_', "-") != mode_word(member.mode) {
            return Some(format!("{name} is not {} yet", mode_word(member.mode)));
        }
        if cluster.network.as_deref() != member.network.as_ref().map(|n| n.as_str()) {
            return Some(format!("the network of {name} is not taken up yet"));
        }
        if cluster.freshness == "unknown" {
            return Some(format!("nothing is known of {name} yet"));
        }
        // An address by hand takes the place of discovered ones at once; a deployed one must come up first.
        if member.gateway && status.gateways_of(name).is_empty() {
            return Some(format!("the gateway of {name} is not known yet"));
        }
    }
    let members = |name: &str| members.iter().any(|m| m.cluster.as_str() == name);
    if let Some(extra) = status.clusters.iter().find(|c| !members(&c.name)) {
        return Some(format!("{} is not let go yet", extra.name));
    }
    if status.proxies.pending > 0 {
        let (pending, all) = (status.proxies.pending, status.proxies.connected);
        return Some(format!(
            "{pending} of {all} proxies have not taken everything yet"
        ));
    }
    (status.state != "running").then(|| match status.because.is_empty() {
        true => format!("the control plane says: {}", status.state),
        false => status.because.join(", "),
    })
}

/// The word for a mode, as control planes and tables write it.
pub(crate) fn mode_word(mode: MemberMode) -> &'static str {
    match mode {
        MemberMode::Managed => "managed",
        MemberMode::DiscoveryOnly => "discovery-only",
    }
}

#[cfg(test)]
mod tests;
