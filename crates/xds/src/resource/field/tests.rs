use std::sync::Arc;

use catamaran_wire::discovery::{DeltaDiscoveryResponse, DiscoveryResponse};
use catamaran_wire::{Any, Message};

use crate::{Resource, TypeUrlKind};

#[test]
fn a_field_is_what_the_messages_would_hold() {
    for size in [0, 1, 127, 128, 20_000] {
        let text = "x".repeat(size);
        let message = catamaran_wire::cluster::Cluster {
            name: text,
            ..Default::default()
        };
        for name in ["", "a", &"long".repeat(60)] {
            let made = Resource::new(TypeUrlKind::Cluster, name, &message);
            let read = Resource::from_bytes(
                TypeUrlKind::Cluster,
                Arc::from(name),
                message.encode_to_vec().into(),
            );
            assert_eq!(made, read);
            assert_eq!(made.bytes, message.encode_to_vec());
            assert_eq!(made.in_deltas(), read.in_deltas());
            let deltas = DeltaDiscoveryResponse::decode(made.in_deltas().clone()).unwrap();
            assert_eq!(deltas.resources.len(), 1);
            assert_eq!(deltas.resources[0].name, name);
            assert_eq!(deltas.resources[0].version, made.version.to_string());
            assert_eq!(deltas.resources[0].resource, Some(made.any()));
            let full = DiscoveryResponse::decode(made.in_full()).unwrap();
            assert_eq!(full.resources, [Any::pack(&message)]);
        }
    }
}
