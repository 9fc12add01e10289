//! Manifests that people write, and status that a node writes.

use catamaran_local::manifest::{Content, Holds, documents};

use super::Target;

/// The reader of manifests.
pub(crate) const TARGET: Target = Target {
    name: "manifest",
    what: "a manifest is read or refused by name and line; its documents lie in it, in order, and none is read twice",
    run,
    seeds,
    words: &[
        b"---\n",
        b"...\n",
        b"&a [*a]",
        b"*a",
        b"!!binary ",
        b"{{{{{{{{",
        b"- - - - - -",
        b"? ",
        b"kind: Service\n",
        b"kind: Pod\n",
        b"metadata: {name: a}\n",
        b"\xef\xbb\xbf",
        b"1e999",
        b"0x7fffffffffffffff",
        b"%YAML 1.2\n",
    ],
    cases: 5_000,
};

fn run(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    for holds in [Holds::Manifests, Holds::Status] {
        let Ok(documents) = documents(&text, holds) else {
            continue;
        };
        let (mut end, lines) = (0, text.lines().count() as u64 + 1);
        for document in &documents {
            assert!(document.span.start >= end && document.span.end <= text.len());
            assert!(
                text.get(document.span.clone()).is_some(),
                "it begins and ends between letters"
            );
            assert!((1..=lines).contains(&document.line));
            end = document.span.end;
            match &document.content {
                Content::Object(key, _) => assert!(!key.to_string().is_empty()),
                Content::Ignored(_) => {}
                Content::Invalid(_, _, reason) | Content::Unreadable(_, reason) => {
                    assert!(
                        !reason.is_empty() && reason.len() < 16 * 1024,
                        "{} bytes of reason",
                        reason.len()
                    );
                }
            }
        }
    }
}

fn seeds() -> Vec<Vec<u8>> {
    let status = r#"{"apiVersion":"v1","kind":"Pod","metadata":{"name":"a-1","namespace":"default","labels":{"app":"a"}},
        "spec":{"serviceAccountName":"a"},"status":{"phase":"Running","podIP":"10.1.1.1"}}"#;
    let slice = r#"{"apiVersion":"discovery.k8s.io/v1","kind":"EndpointSlice","metadata":{"name":"a-local","namespace":"default",
        "labels":{"kubernetes.io/service-name":"a"}},"addressType":"IPv4","ports":[{"name":"http","port":5000}],
        "endpoints":[{"addresses":["10.1.1.1"],"conditions":{"ready":true},"targetRef":{"kind":"Pod","name":"a-1"}}]}"#;
    [
        include_str!("../../../examples/five-steps/cluster-1.yaml"),
        include_str!("../../seeds/mesh.yaml"),
        status,
        slice,
        "a: &a [x, x]\nb: &b [*a, *a]\nc: &c [*b, *b]\nd: [*c, *c]\n",
    ]
    .map(|text| text.as_bytes().to_vec())
    .into()
}
