//! Who a proxy says it is, held against what its certificate proves.
//!
//! Metadata are Istio's (`CLUSTER_ID`, `NAMESPACE`, `SERVICE_ACCOUNT`, `MESH_ID`), and ours (`CATAMARAN_CAPTURE`,
//! `CATAMARAN_APP`). The pod's name stands in the node's id, `sidecar~IP~POD.NAMESPACE~DOMAIN`, as with Istio.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use catamaran_identity::Peer;
use catamaran_model::{
    ClusterId, MeshName, Namespace, PodName, ServiceAccount, SpiffeId, WorkloadKey,
};
use catamaran_translate::{Capability, Capture};
use catamaran_wire::core::Node;
use catamaran_xds::Peer as Habits;

/// A proxy whose claims hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Proxy {
    /// As it calls itself.
    pub(crate) node: String,
    /// The cluster that it says it is in; whether we manage that is judged by who knows the clusters.
    pub(crate) cluster: ClusterId,
    /// Its pod.
    pub(crate) workload: WorkloadKey,
    /// Proved.
    pub(crate) service_account: ServiceAccount,
    /// Sidecar or gateway.
    pub(crate) gateway: bool,
    /// Whose habits it has.
    pub(crate) capability: Capability,
    /// How connections reach it.
    pub(crate) capture: Capture,
    /// Where its program listens.
    pub(crate) app: IpAddr,
    /// Where it connects from.
    pub(crate) address: SocketAddr,
}

impl Proxy {
    /// The habits of its end of a stream.
    pub(crate) fn habits(&self) -> Habits {
        match self.capability {
            Capability::Catamaran => Habits::Catamaran,
            Capability::Envoy => Habits::Envoy,
        }
    }
}

/// Why a proxy is not served. Trying again as before does not help.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refused {
    /// The first request says nothing of the proxy.
    #[error(
        "the first request on a stream must have a node: its id and metadata say what the proxy is"
    )]
    NoNode,
    /// Something that must be said is not, or is no name.
    #[error("the node's {field} is {value:?}: {reason}")]
    Field {
        /// Which field.
        field: &'static str,
        /// What it is, cut.
        value: String,
        /// What is wrong.
        reason: String,
    },
    /// It belongs to another instance.
    #[error(
        "the proxy is of mesh {claimed}; this control plane is of {ours}: connect it to its own mesh's"
    )]
    OtherMesh {
        /// What it says.
        claimed: String,
        /// Ours.
        ours: MeshName,
    },
    /// It says that it is somebody else than its certificate.
    #[error(
        "the node says {claimed}, but the connection's certificate proves {proven}: a proxy is told what is its own only"
    )]
    OtherIdentity {
        /// What it says.
        claimed: String,
        /// What is proved.
        proven: SpiffeId,
    },
    /// Only gateways hear what gateways hear.
    #[error("only {account} in {namespace} may be a gateway; the certificate proves {proven}", account = SpiffeId::GATEWAY_ACCOUNT, namespace = SpiffeId::SYSTEM_NAMESPACE)]
    NotAGateway {
        /// What is proved.
        proven: SpiffeId,
    },
}

/// Holds a node's claims against the certificate of its connection.
pub(crate) fn admit(
    node: Option<&Node>,
    peer: &Peer,
    address: SocketAddr,
    mesh: &MeshName,
) -> Result<Proxy, Refused> {
    let node = node.ok_or(Refused::NoNode)?;
    let said = |name: &str| {
        let metadata = node.metadata.as_ref()?;
        metadata.get(name)?.as_str().filter(|text| !text.is_empty())
    };
    let cluster = said("CLUSTER_ID").unwrap_or_default();
    let cluster = ClusterId::new(cluster)
        .map_err(|error| field("CLUSTER_ID", cluster, &error.to_string()))?;
    if let Some(claimed) = said("MESH_ID").filter(|claimed| *claimed != mesh.as_str()) {
        return Err(Refused::OtherMesh {
            claimed: cut(claimed),
            ours: mesh.clone(),
        });
    }
    let namespace = said("NAMESPACE").unwrap_or_default();
    let account = said("SERVICE_ACCOUNT").unwrap_or_default();
    if namespace != peer.id.namespace.as_str() || account != peer.id.service_account.as_str() {
        return Err(Refused::OtherIdentity {
            claimed: format!(
                "namespace {:?}, service account {:?}",
                cut(namespace),
                cut(account)
            ),
            proven: peer.id.clone(),
        });
    }
    let parts: Vec<&str> = node.id.split('~').collect();
    let (kind, pod) = match parts[..] {
        [kind, _, pod, _] => (kind, pod),
        _ => {
            return Err(field(
                "id",
                &node.id,
                "it must be sidecar~IP~POD.NAMESPACE~DOMAIN",
            ));
        }
    };
    let gateway = match kind {
        "sidecar" => false,
        "router" => true,
        _ => {
            return Err(field(
                "id",
                &node.id,
                "it must begin with sidecar or router",
            ));
        }
    };
    let is_gateway =
        account == SpiffeId::GATEWAY_ACCOUNT && namespace == SpiffeId::SYSTEM_NAMESPACE;
    if gateway && !is_gateway {
        return Err(Refused::NotAGateway {
            proven: peer.id.clone(),
        });
    }
    let pod = match pod.rsplit_once('.') {
        Some((pod, of)) if of == namespace => pod,
        _ => {
            return Err(field(
                "id",
                &node.id,
                "its third part must be POD.NAMESPACE, of the namespace that is proved",
            ));
        }
    };
    let pod = PodName::new(pod).map_err(|error| field("id", &node.id, &error.to_string()))?;
    let capture = match said("CATAMARAN_CAPTURE") {
        None | Some("redirect") => Capture::Redirect,
        Some("explicit") => Capture::Explicit,
        Some(other) => {
            return Err(field(
                "CATAMARAN_CAPTURE",
                other,
                "it must be redirect or explicit",
            ));
        }
    };
    let app = match said("CATAMARAN_APP") {
        None => IpAddr::V4(Ipv4Addr::LOCALHOST),
        Some(text) => text
            .parse()
            .map_err(|_| field("CATAMARAN_APP", text, "it must be an IP address"))?,
    };
    Ok(Proxy {
        node: cut(&node.id),
        cluster,
        workload: WorkloadKey {
            namespace: peer.id.namespace.clone(),
            pod,
        },
        service_account: peer.id.service_account.clone(),
        gateway,
        capability: match Habits::of(&node.user_agent_name) {
            Habits::Catamaran => Capability::Catamaran,
            Habits::Envoy => Capability::Envoy,
        },
        capture,
        app,
        address,
    })
}

/// The namespace in which a proxy's short names are understood.
pub(crate) fn namespace(proxy: &Proxy) -> &Namespace {
    &proxy.workload.namespace
}

fn field(field: &'static str, value: &str, reason: &str) -> Refused {
    Refused::Field {
        field,
        value: cut(value),
        reason: reason.into(),
    }
}

fn cut(text: &str) -> String {
    text.chars()
        .take(200)
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}

#[cfg(test)]
mod tests;
