//! Carries connections: the sidecar beside a workload and the gateway between networks are two settings of one pipeline.
//!
//! ```text
//! control plane -> Session -> Table -> Decision -> Connection -> report
//!     control.rs                decide/   carry/accept, dial, copy   report.rs
//! ```
//! Two sides that share nothing but what is published. The *control side* ([`Config`], [`run`]) gets a certificate and keeps it
//! fresh, hears control planes, makes a table of what they say and publishes it whole, answers names and the admin pages. The
//! *data path* ([`carry`]) has its own threads, takes each new table up at the next connection or request, and tells
//! [`report`] what it did.
//!
//! What it refuses: traffic before there is a certificate and a configuration; taking anything away because a control plane is
//! silent; resources that it does not implement, by name; and a control plane that is not exactly who it should be.
//!
//! In place of the data path there may be a stock Envoy; then [`envoy`] is what stands beside it.
//!
//! Read [`Config`] first, then [`run`], then [`carry::Carrier`].
//!
//! ```
//! use catamaran_process::{Config as Life, Process};
//! # use std::num::NonZeroUsize;
//! # use catamaran_model::*;
//! # tokio::runtime::Runtime::new().unwrap().block_on(async {
//! # let folder = tempfile::tempdir().unwrap();
//! let config = catamaran_proxy::Config {
//!     role: catamaran_proxy::Role::Sidecar,
//!     control_planes: vec!["127.0.0.1:15012".parse().unwrap()],
//!     root_cert: folder.path().join("root-cert.pem"),
//! #   mesh: MeshName::new("mesh-1").unwrap(), cluster: ClusterId::new("cluster-1").unwrap(),
//! #   namespace: Namespace::new("default").unwrap(), pod: PodName::new("sleep-1").unwrap(),
//! #   service_account: ServiceAccount::new("sleep").unwrap(), trust_domain: TrustDomain::default(),
//! #   cluster_domain: ClusterDomain::default(), join_token: None, state: folder.path().join("state"),
//! #   admin_socket: folder.path().join("admin.sock"), admin: None, capture: catamaran_proxy::Capture::Explicit,
//! #   address: [127, 0, 0, 1].into(), app: [127, 0, 0, 1].into(), workers: NonZeroUsize::MIN,
//! #   resolvers: vec![], access_log: None, app_probes: Default::default(), version: "1".into(),
//!     // and who it is, where its workload listens, what it keeps where
//! };
//! let process = Process::start(Life::quiet("proxy"));
//! let refused = catamaran_proxy::run(config, &process).await.unwrap_err();
//! assert!(refused.to_string().contains("root-cert.pem"), "it trusts nobody by default");
//! # });
//! ```

mod admin;
mod backoff;
mod bootstrap;
pub mod carry;
mod certificate;
mod config;
mod control;
pub mod envoy;
#[doc(hidden)]
pub mod fuzzing;
pub mod hooks;
mod names;
mod read_json;
pub mod report;
mod run;
mod saved;
mod shapes;
#[cfg(test)]
mod stand_in;
mod uplink;

pub use bootstrap::BootstrapError;
pub use certificate::CertificateError;
pub use config::{
    AddressError, AppProbes, AppProbesError, Capture, Config, ControlPlaneAddress, Role,
    USER_AGENT, ports, resolvers,
};
pub use run::{DRAIN, RunError, StaticConfig, check_static, run, run_static};
