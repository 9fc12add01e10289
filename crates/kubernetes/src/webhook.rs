//! The admission webhook: what the API server asks about each new pod, and what must stand in the cluster so that it asks.
//!
//! Read [`review::answer`] first, a function of its arguments. [`configuration`] says which pods are asked about, [`certificate`]
//! how the API server knows us, [`nodes`] whether the cluster's nodes know sidecars. Who holds sockets and rounds is the control
//! plane.

use catamaran_model::{MeshName, SpiffeId};

pub mod certificate;
pub mod configuration;
pub mod nodes;
pub mod review;

/// The port that the control plane serves it on (Istio's).
pub const PORT: u16 = 15017;
/// The port of the instance's Service that leads there (Istio's too).
pub const SERVICE_PORT: u16 = 443;

/// The Service of an instance's control plane, in our namespace.
pub fn service(mesh: &MeshName) -> String {
    format!("catamaran-{mesh}")
}

/// The name by which the API server calls that Service, and that the certificate must be for.
pub fn service_name(mesh: &MeshName) -> String {
    format!("{}.{}.svc", service(mesh), SpiffeId::SYSTEM_NAMESPACE)
}
