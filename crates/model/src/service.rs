//! Services as one cluster says them.

use std::fmt;
use std::net::IpAddr;

use crate::{ClusterDomain, Namespace, PortName, ServiceName};

/// Namespace and name: the same key is the same service in every cluster.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceKey {
    /// The namespace.
    pub namespace: Namespace,
    /// The name in it.
    pub name: ServiceName,
}

impl ServiceKey {
    /// Puts the two parts together.
    pub fn new(namespace: Namespace, name: ServiceName) -> Self {
        ServiceKey { namespace, name }
    }

    /// The fully qualified host, `helloworld.default.svc.cluster.local`.
    pub fn host(&self, domain: &ClusterDomain) -> String {
        format!("{}.{}.svc.{}", self.name, self.namespace, domain)
    }
}

impl fmt::Display for ServiceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// What is spoken on a port, by `appProtocol` or by the port's name (`http`, `grpc-web`, `tcp-db`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AppProtocol {
    /// HTTP/1.1, or HTTP/2 when the client starts so.
    Http,
    /// HTTP/2 with prior knowledge.
    Http2,
    /// gRPC, so HTTP/2.
    Grpc,
    /// Opaque bytes.
    Tcp,
    /// TLS of the application, carried as opaque bytes.
    Tls,
    /// Nothing is said: the proxy looks at the first bytes.
    Detect,
}

impl AppProtocol {
    /// Istio's rule: `appProtocol` wins, else the port name's part before the first `-`, else detection.
    pub fn of(port_name: Option<&str>, app_protocol: Option<&str>) -> AppProtocol {
        let word = app_protocol
            .map(|text| text.strip_prefix("kubernetes.io/").unwrap_or(text))
            .or_else(|| port_name.map(|name| name.split('-').next().unwrap_or(name)))
            .unwrap_or("")
            .to_ascii_lowercase();
        match word.as_str() {
            "http" | "ws" => AppProtocol::Http,
            "http2" | "h2c" => AppProtocol::Http2,
            "grpc" => AppProtocol::Grpc,
            "tcp" | "mongo" | "mysql" | "redis" | "postgres" => AppProtocol::Tcp,
            "tls" | "https" | "wss" => AppProtocol::Tls,
            _ => AppProtocol::Detect,
        }
    }

    /// Whether requests on the port are routed one by one.
    pub fn is_http(self) -> bool {
        matches!(
            self,
            AppProtocol::Http | AppProtocol::Http2 | AppProtocol::Grpc
        )
    }

    /// Whether the application behind it wants HTTP/2.
    pub fn is_http2(self) -> bool {
        matches!(self, AppProtocol::Http2 | AppProtocol::Grpc)
    }
}

impl fmt::Display for AppProtocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            AppProtocol::Http => "http",
            AppProtocol::Http2 => "http2",
            AppProtocol::Grpc => "grpc",
            AppProtocol::Tcp => "tcp",
            AppProtocol::Tls => "tls",
            AppProtocol::Detect => "detect",
        })
    }
}

/// A port of a Service. UDP ports are not carried by the mesh and do not become one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServicePort {
    /// The Service's port number.
    pub number: u16,
    /// Its name; the link to the ports of endpoint slices.
    pub name: Option<PortName>,
    /// What is spoken on it.
    pub protocol: AppProtocol,
}

/// A Service as one cluster has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// Namespace and name.
    pub key: ServiceKey,
    /// Its ports, in the order of the manifest.
    pub ports: Vec<ServicePort>,
    /// This cluster's own virtual address; `None` for a headless Service.
    pub vip: Option<IpAddr>,
    /// Only this cluster may use it (kept local by a person, or a control plane's own service).
    pub cluster_local: bool,
}

#[cfg(test)]
mod tests;
