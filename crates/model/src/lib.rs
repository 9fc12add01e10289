//! The words of the mesh: names that cannot be mixed up, and values that are valid by construction.
//!
//! This room holds no IO, no clock, no serde and no wire format. Every other room speaks in these words; a value of one
//! of these types needs no further check. Read [`ServiceKey`] first, then [`Endpoint`], then [`SpiffeId`].
//!
//! ```
//! use catamaran_model::{ClusterDomain, Namespace, ServiceKey, ServiceName};
//! let key = ServiceKey::new(Namespace::new("default")?, ServiceName::new("helloworld")?);
//! assert_eq!(key.host(&ClusterDomain::default()), "helloworld.default.svc.cluster.local");
//! assert!(ServiceName::new("not a name").is_err());
//! # Ok::<(), catamaran_model::NameError>(())
//! ```

mod address;
mod endpoint;
mod export;
mod identity;
mod mesh;
mod name;
mod service;
mod time;
mod version;
mod xds_name;

pub use address::{AddressError, EndpointAddress};
pub use endpoint::{
    Endpoint, EndpointSlice, Health, Labels, Locality, SliceKey, SlicePort, TlsMode, WorkloadKey,
};
pub use export::{Fingerprint, GatewayAddress, MeshExport, NetworkGateway};
pub use identity::{IdentityError, SpiffeId};
pub use mesh::{Credential, FailoverMode, Member, MemberMode, MeshSpec, MtlsMode, NamespaceFacts};
pub use name::{
    ClusterDomain, ClusterId, MeshName, NameError, Namespace, NetworkId, PodName, PortName, Region,
    ServiceAccount, ServiceName, SliceName, TrustDomain, Version, Zone,
};
pub use service::{AppProtocol, Service, ServiceKey, ServicePort};
pub use time::Timestamp;
pub use xds_name::{ClusterName, ClusterNameError, Direction};
