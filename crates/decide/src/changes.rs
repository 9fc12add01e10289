use catamaran_wire::cluster::Cluster;
use catamaran_wire::endpoint::ClusterLoadAssignment;
use catamaran_wire::listener::Listener;
use catamaran_wire::own::Issuers;
use catamaran_wire::route::RouteConfiguration;
use catamaran_wire::{Any, Message, TypeUrl};

use crate::{Kind, Refusal};

/// What is new, changed or gone: the input of [`Table::build`](crate::Table::build) and
/// [`Table::update`](crate::Table::update).
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Changes {
    /// New or changed listeners, by their own names.
    pub listeners: Vec<Listener>,
    /// New or changed route configurations.
    pub routes: Vec<RouteConfiguration>,
    /// New or changed clusters.
    pub clusters: Vec<Cluster>,
    /// New or changed load assignments; their name is `cluster_name`.
    pub assignments: Vec<ClusterLoadAssignment>,
    /// New or changed lists of issuers; their name is `cluster`.
    pub issuers: Vec<Issuers>,
    /// What is gone. Something that is both removed and sent in the same `Changes` stays.
    pub removed: Vec<(Kind, String)>,
}

impl Changes {
    /// Unpacks one resource and adds it.
    ///
    /// `name` only serves the message of a refusal; the resource's own name is what counts.
    ///
    /// # Errors
    /// When the bytes are not a message of the named type, or no table is made of that type.
    pub fn add(&mut self, name: &str, resource: &Any) -> Result<Kind, Refusal> {
        let Some(kind) = Kind::of(&resource.type_url) else {
            return Err(Refusal {
                kind: Kind::Listener,
                name: name.to_owned(),
                field: "type_url".to_owned(),
                reason: format!("nothing here is made of {:?}", resource.type_url),
            });
        };
        match kind {
            Kind::Listener => self.listeners.push(unpack(kind, name, resource)?),
            Kind::Route => self.routes.push(unpack(kind, name, resource)?),
            Kind::Cluster => self.clusters.push(unpack(kind, name, resource)?),
            Kind::Assignment => self.assignments.push(unpack(kind, name, resource)?),
            Kind::Issuers => self.issuers.push(unpack(kind, name, resource)?),
        }
        Ok(kind)
    }

    /// Says that a resource is gone.
    pub fn remove(&mut self, kind: Kind, name: impl Into<String>) {
        self.removed.push((kind, name.into()));
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        *self == Changes::default()
    }
}

fn unpack<M: Message + Default + TypeUrl>(
    kind: Kind,
    name: &str,
    resource: &Any,
) -> Result<M, Refusal> {
    resource.unpack().map_err(|error| Refusal {
        kind,
        name: name.to_owned(),
        field: String::new(),
        reason: error.to_string(),
    })
}
