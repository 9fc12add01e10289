//! Files that our programs keep and read again after a restart: they may be torn, or another's.

use catamaran_control_plane::fuzzing::saved_facts;
use catamaran_proxy::fuzzing::{saved_file, saved_resources};
use catamaran_wire::Message;
use catamaran_wire::discovery::Resource;
use catamaran_xds::{ClientSession, Version};

use super::Target;

/// The readers of saved files.
pub(crate) const TARGET: Target = Target {
    name: "saved",
    what: "a torn file is passed over as a whole, and one that holds is a list of resources or of facts",
    run,
    seeds,
    words: &[
        b"catamaran-saved-1 ",
        b"\n",
        b"type.googleapis.com/envoy.config.cluster.v3.Cluster",
        b"{\"",
        b"[[[[[[[[",
        b"18446744073709551616",
    ],
    cases: 10_000,
};

fn run(bytes: &[u8]) {
    if let Ok(content) = saved_file(bytes, "sidecar~10.1.1.1") {
        let head = bytes.len() - content.len();
        let text = std::str::from_utf8(&bytes[..head]).expect("a line of text");
        assert!(
            text.contains(&Version::of(&content).to_string()),
            "its hash"
        );
    }
    if let Ok(set) = saved_resources(bytes) {
        let count = set.len();
        let session = ClientSession::resume(catamaran_wire::core::Node::default(), set);
        assert_eq!(session.held().len(), count);
        assert!(
            session.is_ready(),
            "it goes on with what it has: {:?}",
            session.waits_for()
        );
    }
    let _ = saved_facts(bytes);
}

fn seeds() -> Vec<Vec<u8>> {
    let changes = super::xds::resources();
    let content: Vec<u8> = changes
        .iter()
        .flat_map(|resource| {
            let message = Resource {
                name: resource.name.to_string(),
                resource: Some(resource.any()),
                ..Resource::default()
            };
            message.encode_length_delimited_to_vec()
        })
        .collect();
    let head = format!(
        "catamaran-saved-1 {} {} sidecar~10.1.1.1\n",
        Version::of(&content),
        content.len()
    );
    let file = [head.as_bytes(), &content].concat();
    vec![
        file,
        content,
        include_bytes!("../../seeds/shard.json").to_vec(),
        b"{\"revision\":7,\"facts\":[]}".to_vec(),
    ]
}
