//! The bytes between programs: Envoy's xDS v3 messages and our own, with nothing decided.
//!
//! The messages are plain prost, kept by hand, with Envoy's exact tags, and each names its protobuf message in its first
//! line. Three promises hold for all of them; `tests/conformance` holds them against Envoy's own `.proto` files:
//!
//! - **No field of a message here is dropped**, of those that Envoy had when the test last saw it. Where we
//!   do not read what a field holds, it is [`Unread`]: its bytes as they came. A reader that must refuse what it does not
//!   implement can see it, and name it.
//! - **Equal messages are equal bytes.** Every map is a `BTreeMap`, so a version may be made by hashing bytes.
//! - **What is packed stays packed.** [`Any`] holds bytes and shares them with the message it came in.
//!
//! What it refuses: judging a message (that is the business of `xds` and `decide`), defaults of Envoy (an absent
//! `connect_timeout` is `None`, not 5 s), sockets (the stubs in `grpc` are behind the feature of that name), and any
//! message that nobody here reads or writes.
//!
//! Read [`Any`] and [`TypeUrl`] first, then [`discovery::DeltaDiscoveryResponse`], then the resource you are after:
//! [`listener::Listener`], [`route::RouteConfiguration`], [`cluster::Cluster`], [`endpoint::ClusterLoadAssignment`],
//! [`tls::Secret`], [`names::NameTable`], [`own::Issuers`].
//!
//! An enumeration is an `i32` in its message. Its accessor (`cluster.lb_policy()`) answers the default for a number it
//! does not know; to refuse such a number, ask `LbPolicy::try_from(cluster.lb_policy)`. Google's wrappers are the values
//! they wrap: a `UInt32Value` is an `Option<u32>`.
//!
//! ```
//! use catamaran_wire::cluster::{Cluster, ClusterDiscoveryType, DiscoveryType};
//! use catamaran_wire::{Any, TypeUrl};
//!
//! let cluster = Cluster {
//!     name: "outbound|5000||helloworld.sample.svc.cluster.local".into(),
//!     cluster_discovery_type: Some(ClusterDiscoveryType::Type(DiscoveryType::Eds.into())),
//!     ..Cluster::default()
//! };
//! let packed = Any::pack(&cluster);
//! assert_eq!(packed.type_url, Cluster::TYPE_URL);
//! assert_eq!(packed.unpack::<Cluster>()?, cluster);
//! # Ok::<(), catamaran_wire::UnpackError>(())
//! ```

#![allow(
    clippy::large_enum_variant,
    reason = "the large variant is the usual one, and a box would be in everyone's way"
)]

pub mod access_log;
pub mod cluster;
pub mod core;
pub mod csr;
pub mod discovery;
pub mod endpoint;
pub mod extension;
#[cfg(feature = "grpc")]
pub mod grpc;
pub mod hcm;
pub mod health;
pub mod listener;
pub mod listener_filter;
pub mod matcher;
pub mod names;
pub mod own;
pub mod route;
pub mod tcp;
pub mod tls;
pub mod well_known;

mod any;
mod encode;

pub use any::{Any, TypeUrl, UnpackError};
pub use encode::Encode;
pub use prost::{DecodeError, Message, length_delimiter_len};
pub use well_known::Unread;
