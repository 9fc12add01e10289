//! What goes to a client: resources as they were encoded once, and a few bytes of this stream's own.

use std::sync::Arc;

use bytes::Bytes;
use catamaran_wire::core::ControlPlane;
use catamaran_wire::discovery::{DeltaDiscoveryResponse, DiscoveryResponse};
use catamaran_wire::{DecodeError, Encode, Message};

use super::{Protocol, version_of_all};
use crate::{Resource, TypeUrlKind};

/// A message to the client: an encoded `DeltaDiscoveryResponse` or `DiscoveryResponse`, in parts.
///
/// The fields of a protobuf message may stand in any order, so it is the resources' finished fields one after the other, which
/// all sessions share, and then all other fields, which are this session's.
#[derive(Debug, Clone, PartialEq)]
pub struct Response {
    protocol: Protocol,
    resources: Vec<Arc<Resource>>,
    rest: Bytes,
}

impl Response {
    /// Which of the two messages it is.
    pub fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// The resources in it.
    pub fn resources(&self) -> &[Arc<Resource>] {
        &self.resources
    }

    /// What a client on a stream of [`Protocol::Delta`] reads.
    ///
    /// # Errors
    /// It is of the other protocol and does not read as this.
    pub fn deltas(&self) -> Result<DeltaDiscoveryResponse, DecodeError> {
        self.read()
    }

    /// What a client on a stream of [`Protocol::StateOfTheWorld`] reads.
    ///
    /// # Errors
    /// It is of the other protocol and does not read as this.
    pub fn full(&self) -> Result<DiscoveryResponse, DecodeError> {
        self.read()
    }

    fn read<M: Message + Default>(&self) -> Result<M, DecodeError> {
        let parts: Vec<Bytes> = self.clone().into_parts().collect();
        M::decode(Bytes::from(parts.concat()))
    }
}

impl Encode for Response {
    fn encoded_len(&self) -> usize {
        let resources = self
            .resources
            .iter()
            .map(|one| field(self.protocol, one).len());
        resources.sum::<usize>() + self.rest.len()
    }

    fn into_parts(self) -> impl Iterator<Item = Bytes> + Send + 'static {
        let resources = self.resources.into_iter();
        let fields = resources.map(move |one| field(self.protocol, &one));
        fields.chain([self.rest])
    }
}

fn field(protocol: Protocol, resource: &Resource) -> Bytes {
    match protocol {
        Protocol::Delta => resource.in_deltas().clone(),
        Protocol::StateOfTheWorld => resource.in_full(),
    }
}

/// What a response says beside its resources.
pub(super) struct Frame<'a> {
    pub(super) kind: TypeUrlKind,
    pub(super) nonce: String,
    pub(super) revision: &'a str,
    pub(super) identifier: &'a str,
}

impl Frame<'_> {
    pub(super) fn deltas(self, resources: Vec<Arc<Resource>>, removed: Vec<String>) -> Response {
        let rest = DeltaDiscoveryResponse {
            system_version_info: self.revision.into(),
            type_url: self.kind.url().into(),
            removed_resources: removed,
            control_plane: self.control_plane(),
            nonce: self.nonce,
            ..Default::default()
        };
        Response {
            protocol: Protocol::Delta,
            resources,
            rest: rest.encode_to_vec().into(),
        }
    }

    pub(super) fn full(self, resources: Vec<Arc<Resource>>) -> Response {
        let rest = DiscoveryResponse {
            version_info: version_of_all(&resources),
            type_url: self.kind.url().into(),
            control_plane: self.control_plane(),
            nonce: self.nonce,
            ..Default::default()
        };
        Response {
            protocol: Protocol::StateOfTheWorld,
            resources,
            rest: rest.encode_to_vec().into(),
        }
    }

    fn control_plane(&self) -> Option<ControlPlane> {
        Some(ControlPlane {
            identifier: self.identifier.into(),
        })
    }
}
