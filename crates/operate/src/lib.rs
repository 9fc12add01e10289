//! What people do to a fleet: one file for each operation, run as a [`Job`] whose steps others show. Nothing is printed here.
//!
//! Read [`Fleet`] first, then [`Job`] and [`OperateError`]. Every operation checks what it is asked before it changes anything,
//! and leaves everything as it was when it refuses.
//!
//! ```
//! use catamaran_local::fleet::Isolation;
//! use catamaran_model::ClusterId;
//! use catamaran_operate::{Fleet, Job, create_cluster};
//!
//! # let folder = tempfile::tempdir()?;
//! let fleet = Fleet::open_or_create(folder.path(), Some(Isolation::Process), "catamaran")?;
//! let name = ClusterId::new("cluster-1")?;
//! create_cluster(&fleet, &name, None, &mut Job::unwatched())?;
//! let again = create_cluster(&fleet, &name, None, &mut Job::unwatched());
//! assert_eq!(again.unwrap_err().code(), "CTM-C102");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod apply;
mod check;
mod cluster_add;
mod cluster_create;
mod cluster_enrol;
mod cluster_life;
mod cluster_manage;
mod confirm_shrink;
mod contact;
mod contexts;
pub mod control_plane;
pub mod demo;
mod error;
mod exec;
mod fleet;
mod job;
mod kube_mesh_create;
mod kube_mesh_delete;
mod kube_mesh_upgrade;
mod kube_trust;
mod kube_trust_issue;
pub mod load;
mod mesh_create;
mod mesh_delete;
mod mesh_list;
mod mesh_state;
mod namespace_inject;
mod nearest;
mod network_assign;
mod network_set;
mod own_program;
pub mod probe;
mod proxies;
mod status;
mod tally;
mod told;
mod trust;
mod verify;
mod wait;

pub use apply::{Applied, IGNORED, apply, delete, scale};
pub use check::{Check, CheckReport, Verdict, check, check_contexts};
pub use cluster_add::{AddCluster, add_cluster, remove_cluster};
pub use cluster_create::{DEFAULT_NETWORK, create_cluster};
pub use cluster_enrol::{
    EnrolCluster, ForgetCluster, Means, Placed, enrol_cluster, enrolment, forget_cluster,
};
pub use cluster_life::{START_PATIENCE, STOP_PATIENCE, fleet_down, start_cluster, stop_cluster};
pub use cluster_manage::{ManageCluster, manage_cluster, management};
pub use confirm_shrink::confirm_shrink;
pub use contact::{Contact, ContactError};
pub use contexts::{
    Heard, RenewTrust, context_clusters, context_mesh, context_meshes, context_proxies,
    context_proxy_config, context_status, context_trust, context_verify, renew_context_trust,
};
pub use error::{Class, OperateError};
pub use exec::{Place, exec_command, log_path, logs, wait_started};
pub use fleet::{Fleet, Instance, possible_isolation};
pub use job::{Job, Moment, Note, Step, StepState};
pub use kube_mesh_create::{
    InstallMesh, ROLLOUT_PATIENCE, install_mesh, manifests_yaml, mesh_manifests,
};
pub use kube_mesh_delete::uninstall_mesh;
pub use kube_mesh_upgrade::{UpgradeMesh, upgrade_manifests, upgrade_mesh};
pub use kube_trust::RootFrom;
pub use kube_trust_issue::{AuthorityInto, IssueAuthority, issue_authority};
pub use mesh_create::{CreateMesh, OUR_VERSION, RUNNING_PATIENCE, create_mesh};
pub use mesh_delete::delete_mesh;
pub use mesh_list::{MemberRow, MeshRow, list_meshes, show_mesh, wait_running};
pub use mesh_state::MeshState;
pub use namespace_inject::inject_namespace;
pub use nearest::nearest;
pub use network_assign::{AssignNetworks, assign_networks, assignment};
pub use network_set::{GatewaySetting, NetworkSetting, set_networks};
pub use proxies::{ConfigKind, ProxyRow, list_proxies, proxy_config};
pub use status::{ClusterRow, FleetStatus, GatewayRow, fleet_status, list_clusters};
pub use tally::{Call, Latency, Tally, tally};
pub use trust::{CertificateRow, export_trust, renew_trust, show_trust};
pub use verify::{Manner, verify};
