//! What each audience should hear: from a snapshot to resources. One file per resource kind.
//!
//! [`translate`] is a pure function of the snapshot and the [`Audience`], and the oracle that every faster way must equal.
//! [`Engine`] is the faster way: it follows snapshots class by class. Read [`Audience`] first, then `endpoints.rs`.
//!
//! How fresh a cluster's facts are, the time, and the snapshot's number enter no resource: equal facts are equal bytes, on
//! every replica and after every restart.
//!
//! # What a sidecar hears
//! | resource | name | shape |
//! |---|---|---|
//! | listener | `virtualOutbound` | 0.0.0.0:15001; *redirect*: `use_original_dst`, else to `PassthroughCluster`; *explicit*: else to `BlackHoleCluster`. A chain for destination port 15001 leads to `BlackHoleCluster` |
//! | listener | `0.0.0.0_PORT` | for each port with an HTTP or undeclared service; `bind_to_port: false`; HTTP inspector (500 ms); chain for `http/1.0`, `http/1.1`, `h2c`: HTTP, RDS `PORT`; default chain: `PassthroughCluster` (*explicit*: `BlackHoleCluster`) |
//! | listener | `VIP_PORT` | for each TCP, TLS or undeclared port of a service with an address; `bind_to_port: false`; bytes to its cluster; undeclared: HTTP inspector, chain for HTTP: RDS `PORT`, default chain: bytes to its cluster |
//! | listener | `virtualInbound` | 0.0.0.0:15006, absent while the workload has no port; per port by `destination_port`: chain `PORT-mesh` (`tls`, the five mesh ALPNs; undeclared ports: `PORT-mesh-http` and `PORT-mesh-bytes`) with a TLS context that demands a certificate with URI prefix `spiffe://TD/`; *permissive*: also `PORT-plain` (undeclared: `PORT-plain-http`, `PORT-plain-bytes`) and `PORT-own-tls` (other TLS, as bytes). No default chain. In *explicit* capture the proxy itself listens on the workload's address at each `destination_port` |
//! | routes | `PORT` | a virtual host `HOST:PORT` for each HTTP or undeclared service of that port, domains with and without port: host, bare name (own namespace), `NAME.NS.svc`, `NAME.NS`, virtual address; one route `default` on prefix `/`, timeout 0, retries; last the host `allow_any` (`*`, `PassthroughCluster`), in *explicit* capture `block_all` (`*`, `BlackHoleCluster`) |
//! | routes | `inbound\|PORT\|\|` | inside `virtualInbound`: `*` to the cluster of that name |
//! | cluster | `outbound\|PORT\|\|HOST` | EDS over ADS, round robin; `transport_socket_matches`: `tlsMode: istio` is TLS with SNI `outbound_.PORT_._.HOST`, secrets `default` and `ROOTCA`, one exact URI name per identity of the service's endpoints; else raw buffer. Protocol options: HTTP port `auto_config` (HTTP/2 where TLS agreed on it, else HTTP/1.1), gRPC and HTTP/2 ports explicit HTTP/2, undeclared ports as the caller speaks, TCP and TLS ports none |
//! | cluster | `inbound\|PORT\|\|` | STATIC, the program's own address and port; HTTP/1.1 on HTTP ports, HTTP/2 on gRPC and HTTP/2 ports, as the caller speaks on undeclared ones |
//! | cluster | `BlackHoleCluster`, `PassthroughCluster` | STATIC without endpoint; ORIGINAL_DST (*redirect* only) |
//! | endpoints | `outbound\|PORT\|\|HOST` | see [`METADATA`] for what stands at each |
//! | names | `names` | every service that is seen, one address each; see [`NAME_TABLE`] |
//! | issuers | `CLUSTER` | the intermediates that may speak for that cluster; absent when it says nothing |
//!
//! A gateway hears the listener `0.0.0.0_15443` (absent while nothing is exported; one chain per exported service port by
//! SNI and mesh ALPN, no default chain), clusters `outbound_.PORT_._.HOST` (least requests, plain) with their endpoints, and
//! `BlackHoleCluster`. Listeners at 0.0.0.0 that are bound may be bound to the proxy's own address instead.
//!
//! # Rules for whoever reads the resources
//! - **ALPN.** The client's list is by preference and complete: a connection that carries bytes offers only `istio`; one that
//!   carries a version that was chosen beforehand (undeclared ports) leaves the other version's words out. A server that
//!   agreed on `istio` or on nothing looks at the first bytes.
//! - **Undeclared ports** keep the caller's protocol on the whole way. HTTP ports do not: between our sidecars it is HTTP/2,
//!   and the program gets HTTP/1.1.
//! - **Retries** on `reset` are for idempotent methods only. Stock Envoys are not told `reset`.
//! - **Ejection** by 5xx is not for endpoints with `gateway: true`. A stock Envoy's cluster that has gateways ejects by
//!   local failures only.
//! - **Health**: ready endpoints are HEALTHY, draining ones DRAINING, others are left out.
//!
//! ```
//! use catamaran_model::{ClusterId, Locality, Namespace};
//! use catamaran_registry::Snapshot;
//! use catamaran_translate::{Audience, Capability, Capture, Role, translate};
//!
//! let gateway = Audience {
//!     role: Role::Gateway,
//!     cluster: ClusterId::new("cluster-1")?,
//!     network: None,
//!     locality: Locality::default(),
//!     namespace: Namespace::new("catamaran-system")?,
//!     capability: Capability::Catamaran,
//!     capture: Capture::Redirect,
//! };
//! let (resources, problems) = translate(&Snapshot::empty(), &gateway);
//! let names: Vec<_> = resources.iter().map(|resource| &*resource.name).collect();
//! assert_eq!(names, ["BlackHoleCluster"]);
//! assert!(problems.is_empty());
//! # Ok::<(), catamaran_model::NameError>(())
//! ```

mod audience;
mod class;
mod clusters;
mod endpoints;
mod engine;
mod filters;
#[cfg(test)]
mod fixture;
mod index;
mod issuers;
mod listeners;
mod names;
mod routes;
mod scope;
mod settings;
mod tls;
mod virtual_address;

use std::collections::BTreeSet;

use catamaran_registry::{Problem, Snapshot};
use catamaran_xds::ResourceSet;

pub use audience::{
    Audience, Capability, Capture, ClustersFor, ClustersReader, EndpointsFor, GatewayFor,
    InboundFor, ListenersFor, Nearness, Role, RoutesFor,
};
pub use clusters::{BLACK_HOLE, PASSTHROUGH};
pub use endpoints::METADATA;
pub use engine::{AudienceId, ClassId, Engine, Opened, ResourceChange};
pub use names::NAME_TABLE;

/// Everything that a proxy should hold, and what people should know about it; problems are in order, each once.
///
/// Pure and from nothing. A control plane uses [`Engine`], which says the same.
pub fn translate(snapshot: &Snapshot, audience: &Audience) -> (ResourceSet, Vec<Problem>) {
    let mut index = index::Index::of(snapshot);
    index.add_local(&audience.cluster, snapshot);
    let mut resources = ResourceSet::default();
    let mut problems = BTreeSet::new();
    for class in class::Class::all_of(audience) {
        let mut groups = class.groups(snapshot, &index);
        groups.sort();
        // The last one that is put in stays, and the smallest group has a name that several claim.
        for group in groups.iter().rev() {
            let told = class.narrow(&index).tell(group, snapshot, &index);
            for resource in told.resources.into_iter().rev() {
                resources.insert(resource);
            }
            problems.extend(told.problems);
        }
        problems.extend(class.own_problems(&index));
    }
    (resources, problems.into_iter().collect())
}

#[cfg(test)]
mod tests;
